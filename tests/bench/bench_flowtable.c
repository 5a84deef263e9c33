/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flow table alone: where entries lie, what an insert and a hit cost. Prints a line for each
 * number of pairs; never fails on time.
 *
 *   bench_flowtable [--json FILE] [--quick] [PAIRS...]
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/random.h"
#include "dataplane/flowtable.h"

enum { BATCH = 32 };

static struct flow flow_number(uint32_t i)
{
	return (struct flow){
	    .tuple = {.source = nat_swap32(0x0a000000u + i / 500),
		      .destination = nat_swap32(0xc6120000u + i % 65521),
		      .source_port = nat_swap16(1024 + i % 500),
		      .destination_port = nat_swap16(443),
		      .protocol = NAT_UDP,
		      .realm = 1},
	    .rewrite = {.source = nat_swap32(0xcb007100u + i / 60000),
			.destination = nat_swap32(0xc6120000u + i % 65521),
			.source_port = nat_swap16(1024 + i % 60000),
			.destination_port = nat_swap16(443)},
	    .state = NAT_SLOT_OPEN,
	};
}

/* CPU time, so that neighbours on the machine count less. */
static int64_t cpu_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (int64_t)t.tv_sec * SECOND_NS + t.tv_nsec;
}

/* json may be NULL; *rows counts what was written there. */
static void measure(uint32_t pairs, FILE *json, unsigned *rows)
{
	uint64_t seed = 1;
	struct random_source random = random_seeded(&seed);
	struct flowtable *table;
	struct flow evicted[2];
	unsigned n, lost = 0;

	if (flowtable_new(pairs, &random, &table) != 0) {
		printf("%u pairs: not enough memory\n", pairs);
		return;
	}
	int64_t start = cpu_ns();
	for (uint32_t i = 0; i < pairs; i++) {
		struct flow flow = flow_number(i);
		flowtable_insert(table, &flow, 0, evicted, &n);
		lost += n;
	}
	double insert = (double)(cpu_ns() - start) / pairs;
	uint32_t packets = 4000000, hits = 0;
	struct nat_tuple *keys = calloc(packets, sizeof *keys);
	for (uint32_t i = 0; i < packets; i++)
		keys[i] = flow_number(random_below(&random, pairs)).tuple;
	double cost[2];
	for (int batched = 0; batched < 2; batched++) {
		struct nat_slot copy;
		uint8_t flags;
		start = cpu_ns();
		for (uint32_t i = 0; i + BATCH <= packets; i += BATCH) {
			uint64_t hash[BATCH];
			for (unsigned j = 0; batched && j < BATCH; j++)
				hash[j] = flowtable_prefetch(table, &keys[i + j]);
			for (unsigned j = 0; batched && j < BATCH; j++)
				flowtable_prefetch_slot(table, hash[j]);
			for (unsigned j = 0; j < BATCH; j++)
				hits += batched ? flowtable_hit_hashed(table, &keys[i + j], hash[j],
								       i >> 14, 0, &copy, &flags)
						: flowtable_hit(table, &keys[i + j], i >> 14, 0,
								&copy, &flags);
		}
		cost[batched] = (double)(cpu_ns() - start) / packets;
	}
	printf("%9u pairs: evicted %.3f %%, insert %5.0f ns, hit %5.1f ns, in batches of %d %5.1f "
	       "ns (%.1f %% "
	       "hits)\n",
	       pairs, 100.0 * lost / pairs, insert, cost[0], BATCH, cost[1],
	       100.0 * hits / packets / 2);
	fflush(stdout);
	if (json)
		fprintf(json,
			"%s\n  {\"pairs\": %u, \"evicted_percent\": %.4f, \"insert_ns\": %.1f, "
			"\"hit_ns\": %.1f, \"hit_batched_ns\": %.1f}",
			(*rows)++ ? "," : "", pairs, 100.0 * lost / pairs, insert, cost[0],
			cost[1]);
	free(keys);
	flowtable_free(table);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
	    {"json", required_argument, NULL, 'j'}, {"quick", no_argument, NULL, 'q'}, {0}};
	static const uint32_t usual[] = {1000, 100000, 1000000};
	unsigned n = sizeof usual / sizeof usual[0], rows = 0;
	FILE *json = NULL;

	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		if (c == 'q') {
			n = 2;
		} else if (c == 'j' && !json) {
			json = fopen(optarg, "we");
			if (!json) {
				perror(optarg);
				return 1;
			}
			fputs("{\"bench\": \"flowtable\", \"rows\": [", json);
		} else {
			fprintf(stderr, "usage: %s [--json FILE] [--quick] [PAIRS...]\n", argv[0]);
			return 2;
		}
	}
	for (unsigned i = 0; i < n && optind == argc; i++)
		measure(usual[i], json, &rows);
	for (int i = optind; i < argc; i++)
		measure((uint32_t)strtoul(argv[i], NULL, 10), json, &rows);
	if (json) {
		fputs("\n]}\n", json);
		if (fclose(json) != 0)
			return 1;
	}
	return 0;
}
