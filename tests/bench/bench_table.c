/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table in memory, without gRPC: creates and lookups a second in batches, as a dataplane sends
 * them; bytes a session; the longest single table_tick while all of them age out, asked about and
 * dropped one by one. One session a mapping, the worst case for memory; half TCP, half UDP; 200
 * mappings a subscriber. It judges nothing: it prints, and writes JSON.
 *
 *   bench_table [--json FILE] [--quick] [--sessions N]
 */
#include <arpa/inet.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "tablesvc/table.h"

enum {
	BATCH = 256,
	PER_SUBSCRIBER = 200,
	HEARTBEAT_MS = 2000,
	LEASE_MS = 10000,
	TICK_MS = 64,
	LOOKUP_RUN_MS = 2000,
	LOOKUP_QUICK_MS = 200,
	AGE_MAX_MS = 2000000, /* of the table's clock: more than the longest timer twice over */
};

struct bench {
	struct config config;
	struct config_pool pool;
	struct config_realm realm;
	struct config_prefix outside, inside;
	struct journal *journal;
	uint64_t seed;
	struct random_source random;
	struct table *table;
	uint32_t dataplane, sessions, subscribers;
	uint64_t sequence, acknowledged;
	struct monotime now, beaten; /* the table's clock, not the machine's */
	struct wire_request requests[BATCH];
	uint64_t refused, translated;
	/* handles that the table asked about or took away, not answered yet */
	uint64_t *dropped;
	uint32_t n_dropped, room_dropped;
	int64_t longest_ns, longest_cpu_ns;
	uint64_t ticks;
};

struct result {
	uint32_t sessions;
	uint64_t refused;
	struct rate {
		double wall, cpu; /* a second of the clock, a second of this thread's CPU time */
	} creates, lookups;
	double bytes, resident, longest_ms, longest_cpu_ms, aged_seconds;
	uint64_t ticks, left;
};

static int64_t clock_ns(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * SECOND_NS + t.tv_nsec;
}

static void fail(const char *what)
{
	fprintf(stderr, "bench_table: %s\n", what);
	exit(1);
}

static uint64_t resident_bytes(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	unsigned long long total, resident = 0;

	if (!f || fscanf(f, "%llu %llu", &total, &resident) != 2)
		fail("/proc/self/statm cannot be read");
	fclose(f);
	return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Session i: computed, so that nothing of it lies in a cache. Neighbours differ in subscriber. */
static struct nat_tuple tuple_of(const struct bench *b, uint32_t i)
{
	uint32_t subscriber = i % b->subscribers, mixed = i * 2654435761u;

	return (struct nat_tuple){
	    .source = htonl(0x0a000000 + subscriber),
	    .destination = htonl(0xc6120000 | mixed >> 15),
	    .source_port = htons((uint16_t)(2048 + i / b->subscribers)),
	    .destination_port = htons(443),
	    .protocol = i / b->subscribers % 2 ? NAT_TCP : NAT_UDP,
	    .realm = NAT_REALM_INSIDE,
	};
}

/* ---- the dataplane's side ---- */

static void take_message(struct bench *b, const struct wire_message *message)
{
	b->acknowledged = message->sequence;
	for (uint32_t i = 0; i < message->n; i++) {
		if (message->kind == WIRE_ANSWER) {
			bool translate = message->answers[i].verdict == NAT_TRANSLATE;
			b->translated += translate;
			b->refused += !translate;
		} else if (message->kind == WIRE_EXPIRE) {
			if (b->n_dropped == b->room_dropped)
				fail("more questions than sessions");
			b->dropped[b->n_dropped++] = message->notices[i].handle;
		}
	}
}

static void send_batch(struct bench *b, uint32_t n)
{
	struct wire_batch batch = {
	    .sequence = ++b->sequence,
	    .acknowledged = b->acknowledged,
	    .n = n,
	    .entries = b->requests,
	};
	struct wire_message message;

	if (table_batch(b->table, b->dataplane, &batch, b->now))
		fail("the table refused a batch");
	while (table_next_message(b->table, b->dataplane, &message))
		take_message(b, &message);
}

static void reply_dropped(struct bench *b)
{
	while (b->n_dropped) {
		uint32_t n = b->n_dropped < BATCH ? b->n_dropped : BATCH;
		for (uint32_t i = 0; i < n; i++)
			b->requests[i] = (struct wire_request){
			    .op = WIRE_DROPPED,
			    .handle = b->dropped[--b->n_dropped],
			    .age_ms = UINT32_MAX};
		send_batch(b, n);
	}
	if (b->acknowledged) /* what came last is acknowledged by a batch of nothing */
		send_batch(b, 0);
}

static void tick(struct bench *b)
{
	struct wire_message message;

	if (monotime_sub_ms(b->now, b->beaten) >= HEARTBEAT_MS) {
		struct wire_heartbeat beat = {.acknowledged = b->acknowledged};
		struct wire_heartbeat_ack ack;
		table_heartbeat(b->table, b->dataplane, &beat, b->now, &ack);
		b->beaten = b->now;
	}
	int64_t start = clock_ns(CLOCK_MONOTONIC), cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	table_tick(b->table, b->now);
	cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
	start = clock_ns(CLOCK_MONOTONIC) - start;
	b->ticks++;
	b->longest_ns = start > b->longest_ns ? start : b->longest_ns;
	b->longest_cpu_ns = cpu > b->longest_cpu_ns ? cpu : b->longest_cpu_ns;
	while (table_next_message(b->table, b->dataplane, &message))
		take_message(b, &message);
}

static void ask(struct bench *b, uint32_t slot, uint32_t i, uint8_t flags)
{
	struct nat_tuple tuple = tuple_of(b, i);

	b->requests[slot] = (struct wire_request){
	    .op = WIRE_RESOLVE_OUT,
	    .tuple = tuple,
	    .tcp_flags = tuple.protocol == NAT_TCP ? flags : 0,
	};
}

/* ---- set-up ---- */

static void configure(struct bench *b, uint32_t sessions)
{
	unsigned length = 32;

	memset(b, 0, sizeof *b);
	b->sessions = sessions;
	b->subscribers = (sessions + PER_SUBSCRIBER - 1) / PER_SUBSCRIBER;
	/* A block a subscriber, and a quarter more: pools are not run full. */
	while ((UINT64_C(252) << (32 - length)) < b->subscribers + b->subscribers / 4)
		length--;
	config_defaults(&b->config);
	b->outside = (struct config_prefix){htonl(0xcb000000), (uint8_t)length};
	b->inside = (struct config_prefix){htonl(0x0a000000), 8};
	b->pool = (struct config_pool){
	    .name = "bench",
	    .prefixes = &b->outside,
	    .n_prefixes = 1,
	    .port_first = 1024,
	    .port_last = 65535,
	    .block_size = 256,
	    .filtering_udp = CONFIG_ADF,
	    .filtering_tcp = CONFIG_ADF,
	    .parity = true,
	};
	b->realm = (struct config_realm){
	    .name = "inside", .id = NAT_REALM_INSIDE, .prefixes = &b->inside, .n_prefixes = 1};
	b->config.pools = &b->pool;
	b->config.n_pools = 1;
	b->config.realms = &b->realm;
	b->config.n_realms = 1;
	b->config.capacity.mappings = b->config.capacity.sessions = sessions;
	b->config.capacity.subscribers = b->subscribers;
	b->config.batch_max = BATCH;
	b->config.lease_ms = LEASE_MS;
	b->config.heartbeat_ms = HEARTBEAT_MS;
	b->config.limits.creations_per_second = 0;
	b->seed = sessions;
	b->random = random_seeded(&b->seed);
	b->now = b->beaten = (struct monotime){1000 * SECOND_NS};
}

static void start(struct bench *b)
{
	struct wire_hello hello = {
	    .version_min = WIRE_VERSION,
	    .version_max = WIRE_VERSION,
	    .incarnation = {1, 2},
	    .name = "bench",
	    .flow_capacity = b->sessions,
	};
	struct wire_welcome welcome;

	if (journal_none_new(&b->journal) ||
	    table_new(&b->config, b->journal, event_log_none(), &b->random, 1, b->now, &b->table))
		fail("no memory for the table");
	if (table_attach(b->table, &hello, b->now, &welcome, &b->dataplane))
		fail("the table refused the dataplane");
	b->acknowledged = welcome.sequence;
}

static void stop(struct bench *b)
{
	table_free(b->table);
	b->journal->ops->free(b->journal);
	free(b->dropped);
}

/* ---- what is measured ---- */

/* The table's clock follows the machine's while it works, so that timers spread as in life. */
static void follow(struct bench *b, int64_t *last)
{
	int64_t now = clock_ns(CLOCK_MONOTONIC);

	b->now.ns += now - *last;
	*last = now;
	if (monotime_sub_ms(b->now, b->beaten) >= HEARTBEAT_MS)
		tick(b);
}

static struct rate rate_since(uint64_t n, int64_t wall, int64_t cpu)
{
	return (struct rate){
	    .wall = (double)n * 1e9 / (double)(clock_ns(CLOCK_MONOTONIC) - wall),
	    .cpu = (double)n * 1e9 / (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu),
	};
}

static struct rate create_all(struct bench *b)
{
	int64_t begun = clock_ns(CLOCK_MONOTONIC), last = begun;
	int64_t cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);

	for (uint32_t i = 0; i < b->sessions; i += BATCH) {
		uint32_t n = b->sessions - i < BATCH ? b->sessions - i : BATCH;
		for (uint32_t k = 0; k < n; k++)
			ask(b, k, i + k, NAT_TCP_SYN);
		send_batch(b, n);
		follow(b, &last);
	}
	return rate_since(b->sessions, begun, cpu);
}

static struct rate look_up(struct bench *b, int64_t run_ms)
{
	int64_t begun = clock_ns(CLOCK_MONOTONIC), last = begun;
	int64_t cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	uint64_t n = 0;

	while (last - begun < run_ms * MS_NS) {
		for (uint32_t k = 0; k < BATCH; k++)
			ask(b, k, random_below(&b->random, b->sessions), NAT_TCP_ACK);
		send_batch(b, BATCH);
		n += BATCH;
		follow(b, &last);
	}
	return rate_since(n, begun, cpu);
}

/* Lets the table's time pass until no session is left. */
static void age_out(struct bench *b, struct result *result)
{
	int64_t begun = clock_ns(CLOCK_MONOTONIC);
	struct monotime end = monotime_add_ms(b->now, AGE_MAX_MS);
	struct table_counters counters;

	b->room_dropped = b->sessions;
	b->dropped = malloc(b->sessions * sizeof b->dropped[0]);
	if (!b->dropped)
		fail("no memory");
	b->longest_ns = b->longest_cpu_ns = 0;
	b->ticks = 0;
	do {
		tick(b);
		reply_dropped(b);
		if (monotime_before(b->now, table_next_tick(b->table, b->now)))
			b->now = monotime_add_ms(b->now, TICK_MS);
		table_counters(b->table, &counters);
	} while (counters.sessions && monotime_before(b->now, end));
	result->aged_seconds = (double)(clock_ns(CLOCK_MONOTONIC) - begun) / 1e9;
	result->longest_ms = (double)b->longest_ns / 1e6;
	result->longest_cpu_ms = (double)b->longest_cpu_ns / 1e6;
	result->ticks = b->ticks;
	result->left = counters.sessions;
}

static struct result measure(uint32_t sessions, int64_t lookup_ms)
{
	static struct bench b;
	struct result result = {.sessions = sessions};
	struct table_counters counters;

	configure(&b, sessions);
	uint64_t before = resident_bytes();
	start(&b);
	result.creates = create_all(&b);
	result.resident = (double)(resident_bytes() - before) / sessions;
	table_counters(b.table, &counters);
	result.bytes = (double)counters.memory_bytes / sessions;
	result.lookups = look_up(&b, lookup_ms);
	result.refused = b.refused;
	age_out(&b, &result);
	stop(&b);
	return result;
}

static void write_json(const char *path, const struct result *results, unsigned n)
{
	FILE *f = fopen(path, "w");

	if (!f)
		fail("the JSON file cannot be written");
	fprintf(f, "{\"batch\": %d, \"results\": [", BATCH);
	for (unsigned i = 0; i < n; i++) {
		const struct result *r = &results[i];
		fprintf(f,
			"%s\n {\"sessions\": %u, \"creates_per_second\": %.0f, "
			"\"creates_per_cpu_second\": %.0f, \"lookups_per_second\": %.0f, "
			"\"lookups_per_cpu_second\": %.0f, \"refused\": %llu, "
			"\"bytes_per_session\": %.1f, \"resident_bytes_per_session\": %.1f, "
			"\"longest_tick_ms\": %.3f, \"longest_tick_cpu_ms\": %.3f, "
			"\"ageing_seconds\": %.1f, \"not_aged\": %llu}",
			i ? "," : "", r->sessions, r->creates.wall, r->creates.cpu, r->lookups.wall,
			r->lookups.cpu, (unsigned long long)r->refused, r->bytes, r->resident,
			r->longest_ms, r->longest_cpu_ms, r->aged_seconds,
			(unsigned long long)r->left);
	}
	fprintf(f, "\n]}\n");
	if (fclose(f))
		fail("the JSON file cannot be written");
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"json", required_argument, NULL, 'j'},
						{"quick", no_argument, NULL, 'q'},
						{"sessions", required_argument, NULL, 's'},
						{0}};
	uint32_t sizes[2] = {1000000, 10000000};
	struct result results[2];
	unsigned n = 2;
	int64_t lookup_ms = LOOKUP_RUN_MS;
	const char *json = NULL;

	for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		if (option == 'j') {
			json = optarg;
		} else if (option == 'q') {
			sizes[0] = 100000;
			n = 1;
			lookup_ms = LOOKUP_QUICK_MS;
		} else if (option == 's' && strtoul(optarg, NULL, 10) - 1 < 12000000) {
			sizes[0] = (uint32_t)strtoul(optarg, NULL, 10);
			n = 1;
		} else {
			fprintf(stderr,
				"usage: %s [--json FILE] [--quick] [--sessions N]\n"
				"N: 1 to 12000000\n",
				argv[0]);
			return 2;
		}
	}
	printf("%10s %11s %11s %11s %11s %8s %10s %10s %10s %9s %9s\n", "sessions", "creates/s",
	       "a CPU s", "lookups/s", "a CPU s", "refused", "bytes each", "resident", "max tick",
	       "its CPU", "age out");
	for (unsigned i = 0; i < n; i++) {
		struct result r = results[i] = measure(sizes[i], lookup_ms);
		printf("%10u %11.0f %11.0f %11.0f %11.0f %8llu %10.1f %10.1f %7.3f ms %6.3f ms "
		       "%7.1f s\n",
		       r.sessions, r.creates.wall, r.creates.cpu, r.lookups.wall, r.lookups.cpu,
		       (unsigned long long)r.refused, r.bytes, r.resident, r.longest_ms,
		       r.longest_cpu_ms, r.aged_seconds);
		if (r.left)
			printf("%10s %llu sessions did not age out\n", "",
			       (unsigned long long)r.left);
		fflush(stdout);
	}
	if (json)
		write_json(json, results, n);
	return 0;
}
