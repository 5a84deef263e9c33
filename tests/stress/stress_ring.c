/* SPDX-License-Identifier: Apache-2.0 */
/* One thread puts, one takes, as fast as they can: nothing is lost, doubled or torn. */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "dataplane/ring.h"

enum { RECORDS = 200000 };

static struct ring *ring;

static uint32_t length_of(uint32_t i)
{
	return i * 2654435761u >> (i % 50 ? 22 : 17); /* up to 1 KiB, now and then 32 KiB */
}

static void *put(void *context)
{
	static uint8_t bytes[1 << 16];
	for (uint32_t i = 0; i < RECORDS; i++) {
		struct ring_record record = {.kind = RING_PACKET, .length = length_of(i)};
		record.tuple.source = i;
		memset(bytes, (int)(i & 0xff), record.length);
		while (!ring_put(ring, &record, bytes))
			sched_yield();
	}
	return NULL;
}

int main(void)
{
	pthread_t thread;
	if (ring_new(RING_BYTES_MIN, &ring) != 0 || pthread_create(&thread, NULL, put, NULL) != 0)
		return 1;
	for (uint32_t i = 0; i < RECORDS;) {
		const uint8_t *data;
		const struct ring_record *record = ring_peek(ring, &data);
		if (!record) {
			sched_yield();
			continue;
		}
		if (record->tuple.source != i || record->length != length_of(i)) {
			fprintf(stderr, "record %u: got %u of length %u\n", i, record->tuple.source,
				record->length);
			return 1;
		}
		for (uint32_t k = 0; k < record->length; k++) {
			if (data[k] != (i & 0xff)) {
				fprintf(stderr, "record %u: torn at %u\n", i, k);
				return 1;
			}
		}
		ring_drop(ring);
		i++;
	}
	pthread_join(thread, NULL);
	if (!ring_is_empty(ring))
		return 1;
	ring_free(ring);
	return 0;
}
