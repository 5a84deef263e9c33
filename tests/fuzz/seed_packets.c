/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes one corpus file for each row of the golden table into a directory: a byte of settings and
 * the row's packets as fuzz_packet.c reads them.
 *   seed_packets tests/golden/packets.golden tests/fuzz/corpus/packet
 */
#include <stdio.h>
#include <stdlib.h>
#include "tests/support/golden.h"

static void write_record(void *context, const struct test_packet *packet, uint8_t realm)
{
	uint8_t flags =
	    (uint8_t)(realm | (packet->partial_checksum ? 4 : 0) | (packet->gso_size ? 8 : 0));

	if (packet->length > 2048) /* keeps the corpus small */
		return;
	fputc(flags, context);
	fputc((int)(packet->length >> 8), context);
	fputc((int)(packet->length & 255), context);
	fwrite(packet->bytes, 1, packet->length, context);
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: %s GOLDEN DIRECTORY\n", argv[0]);
		return 2;
	}
	struct golden_table *table = golden_load(argv[1]);
	for (unsigned row = 0; row < golden_rows(table); row++) {
		char path[4096];
		snprintf(path, sizeof path, "%s/row%03u", argv[2], row);
		FILE *file = fopen(path, "wb");
		if (!file) {
			perror(path);
			return 1;
		}
		fputc((int)(row % 8 + row / 8 % 2 * 16), file); /* ttl, mtu, answers, MSS in turn */
		golden_packets(table, row, write_record, file);
		fclose(file);
	}
	golden_unload(table);
	return 0;
}
