/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine in memory: nanoseconds a packet for established flows, at 1 k to 10 M of them, packet
 * by packet and in batches of 32. Random flows, random directions, 60-byte UDP; engine_process
 * alone is timed, rewriting included, the packets' headers are in the cache as from a NIC with
 * DDIO. It judges nothing: it prints, and writes JSON.
 *
 *   bench_engine [--json FILE] [--quick] [--flows N]
 */
#include <arpa/inet.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "common/nat/csum.h"
#include "dataplane/engine.h"

enum {
	RING = 1024, /* packets prepared, then translated in one timed go */
	PACKET = 64, /* bytes apart */
	LENGTH = 60,
	RUN_MS = 1200,
	QUICK_MS = 150,
	FIRST_PORT = 1024,
	PORTS = 60000,
};

static uint64_t seed = 42;
static struct random_source source;
static uint8_t ring[RING][PACKET] __attribute__((aligned(64)));
static struct engine_packet packets[RING];

static int64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * SECOND_NS + t.tv_nsec;
}

/* Flow i: inside host and port, server, external endpoint; all computed, so that nothing is cached.
 */
static void make_flow(uint32_t i, struct nat_tuple *tuple, struct nat_rewrite *rewrite)
{
	uint32_t mixed = i * 2654435761u;

	*tuple = (struct nat_tuple){
	    .source = htonl(0x0a000000 | (i & 0xffff)),
	    .destination = htonl(0xc6120000 | (mixed >> 15)),
	    .source_port = htons((uint16_t)(FIRST_PORT + (i >> 16))),
	    .destination_port = htons((uint16_t)(mixed % 1000 + 1)),
	    .protocol = NAT_UDP,
	    .realm = NAT_REALM_INSIDE,
	};
	*rewrite = (struct nat_rewrite){
	    .source = htonl(0xcb007100 + i / PORTS),
	    .destination = tuple->destination,
	    .source_port = htons((uint16_t)(FIRST_PORT + i % PORTS)),
	    .destination_port = tuple->destination_port,
	    .egress = NAT_REALM_OUTSIDE,
	};
}

static void write_packet(uint8_t *ip, const struct nat_tuple *t)
{
	memset(ip, 0, LENGTH);
	ip[0] = 0x45;
	ip[3] = LENGTH;
	ip[8] = 64;
	ip[9] = t->protocol;
	memcpy(ip + 12, &t->source, 4);
	memcpy(ip + 16, &t->destination, 4);
	nat_put16(ip + 10, nat_csum_compute(ip, 20));
	memcpy(ip + 20, &t->source_port, 2);
	memcpy(ip + 22, &t->destination_port, 2);
	ip[25] = LENGTH - 20;
	ip[26] = 0x12;
}

static void fill_ring(uint32_t flows)
{
	for (unsigned i = 0; i < RING; i++) {
		struct nat_tuple tuple;
		struct nat_rewrite rewrite;
		make_flow(random_below(&source, flows), &tuple, &rewrite);
		if (source.next(source.context) & 1)
			tuple = nat_reverse_tuple(&tuple, &rewrite);
		write_packet(ring[i], &tuple);
		packets[i] = (struct engine_packet){
		    .data = ring[i], .length = LENGTH, .room = PACKET, .ingress = tuple.realm};
	}
}

struct result {
	uint32_t flows, batch;
	double median, best;
	uint64_t hits, packets;
};

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static struct result measure(struct engine *engine, uint32_t flows, unsigned batch, unsigned run_ms)
{
	struct engine_worker *worker = engine_worker(engine, 1);
	struct engine_counters before, after;
	struct result result = {.flows = flows, .batch = batch};
	static double rounds[1 << 16];
	unsigned n = 0;

	engine_counters(engine, &before);
	for (int64_t end = now_ns() + run_ms * MS_NS; now_ns() < end && n < 1 << 16; n++) {
		fill_ring(flows);
		struct monotime now = monotime_now();
		int64_t start = now_ns();
		for (unsigned i = 0; i < RING; i += batch)
			engine_process(worker, packets + i, batch, now);
		rounds[n] = (double)(now_ns() - start) / RING;
	}
	engine_counters(engine, &after);
	qsort(rounds, n, sizeof rounds[0], compare);
	result.median = rounds[n / 2];
	result.best = rounds[0];
	result.hits = after.hits - before.hits;
	result.packets = after.packets - before.packets;
	return result;
}

static unsigned refuse(void *context, unsigned op, const struct nat_tuple *tuple, uint8_t tcp_flags,
		       const struct engine_packet *packet, struct monotime now)
{
	return NAT_REASON_NO_TABLE;
}

static void forget(void *context, const struct engine_packet *packet)
{
}

static struct engine *set_up(uint32_t flows, struct flowtable **table)
{
	struct engine_owner owner = {.ask = refuse, .emit = forget};
	struct engine_config *config = calloc(1, sizeof *config);
	struct engine *engine;
	unsigned n_evicted;

	if (!config || flowtable_new(flows + flows / 4, &source, table) != 0 ||
	    engine_new(*table, &owner, &source, &engine) != 0)
		return NULL;
	config->table.n_prefixes = 1;
	config->table.prefixes[0] = (struct wire_prefix){
	    .address = htonl(0x0a000000), .length = 8, .realm = 1, .kind = WIRE_PREFIX_INSIDE};
	config->mtu[NAT_REALM_OUTSIDE] = config->mtu[NAT_REALM_INSIDE] = 1500;
	if (engine_configure(engine, config) != 0)
		return NULL;
	free(config);
	engine_set_valid_until(engine, MONOTIME_NEVER);
	for (uint32_t i = 0; i < flows; i++) {
		struct flow evicted[2], flow = {.handle = i + 1, .state = NAT_SLOT_OPEN};
		make_flow(i, &flow.tuple, &flow.rewrite);
		flowtable_insert(*table, &flow, 1, evicted, &n_evicted);
	}
	return engine;
}

static void write_json(const char *path, const struct result *results, unsigned n)
{
	FILE *file = fopen(path, "w");

	if (!file) {
		perror(path);
		exit(1);
	}
	fprintf(file, "{\"bench\": \"engine\", \"unit\": \"ns/packet\", \"rows\": [");
	for (unsigned i = 0; i < n; i++)
		fprintf(file,
			"%s\n  {\"flows\": %u, \"batch\": %u, \"median\": %.1f, \"best\": %.1f, "
			"\"hits\": %.4f}",
			i ? "," : "", results[i].flows, results[i].batch, results[i].median,
			results[i].best, (double)results[i].hits / (double)results[i].packets);
	fprintf(file, "\n]}\n");
	fclose(file);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"json", required_argument, NULL, 'j'},
						{"quick", no_argument, NULL, 'q'},
						{"flows", required_argument, NULL, 'f'},
						{0}};
	uint32_t sizes[] = {1000, 100000, 1000000, 10000000};
	unsigned n_sizes = 4, run_ms = RUN_MS, n = 0;
	struct result results[8];
	const char *json = NULL;

	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		if (c == 'j') {
			json = optarg;
		} else if (c == 'q') {
			run_ms = QUICK_MS;
			n_sizes = 3;
		} else if (c == 'f') {
			sizes[0] = (uint32_t)strtoul(optarg, NULL, 10);
			n_sizes = 1;
		} else {
			fprintf(stderr, "usage: %s [--json FILE] [--quick] [--flows N]\n", argv[0]);
			return 2;
		}
	}
	source = random_seeded(&seed);
	printf("%12s %8s %16s %16s %8s\n", "flows", "batch", "ns/packet median", "best", "hits");
	for (unsigned i = 0; i < n_sizes; i++) {
		struct flowtable *table = NULL;
		struct engine *engine = sizes[i] ? set_up(sizes[i], &table) : NULL;
		if (!engine) {
			fprintf(stderr, "%u flows: no memory\n", sizes[i]);
			return 1;
		}
		for (unsigned batch = 1; batch <= 32; batch *= 32) {
			struct result r = measure(engine, sizes[i], batch, run_ms);
			printf("%12u %8u %16.1f %16.1f %7.2f%%\n", r.flows, r.batch, r.median,
			       r.best, 100.0 * (double)r.hits / (double)r.packets);
			fflush(stdout);
			results[n++] = r;
		}
		engine_free(engine);
		flowtable_free(table);
	}
	if (json)
		write_json(json, results, n);
	return 0;
}
