/* SPDX-License-Identifier: Apache-2.0 */
/* What the golden table cannot say in rows: every length, batches, memory, counters, configuration.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include "tests/support/golden.h"

static const struct monotime start = {1000 * SECOND_NS};

/* ---- allocation: the libraries under test are linked with --wrap for these ---- */

static unsigned long allocations;
void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);

void *__wrap_malloc(size_t size)
{
	allocations++;
	return __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	allocations++;
	return __real_calloc(n, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	allocations++;
	return __real_realloc(old, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
	allocations++;
	return __real_aligned_alloc(alignment, size);
}

/* ---- an engine whose owner only counts ---- */

struct bench {
	uint64_t seed;
	struct random_source random;
	struct flowtable *flows;
	struct engine *engine;
	unsigned asked, emitted;
};

static unsigned count_ask(void *context, unsigned op, const struct nat_tuple *tuple,
			  uint8_t tcp_flags, const struct engine_packet *packet,
			  struct monotime now)
{
	((struct bench *)context)->asked++;
	return NAT_REASON_PENDING_FULL;
}

static void count_emit(void *context, const struct engine_packet *packet)
{
	((struct bench *)context)->emitted++;
}

static void bench_new(struct bench *b, uint32_t capacity)
{
	struct engine_owner owner = {.context = b, .ask = count_ask, .emit = count_emit};
	struct engine_config config;

	*b = (struct bench){.seed = 7};
	b->random = random_seeded(&b->seed);
	cr_assert_eq(flowtable_new(capacity, &b->random, &b->flows), 0);
	cr_assert_eq(engine_new(b->flows, &owner, &b->random, &b->engine), 0);
	golden_defaults(&config);
	cr_assert_eq(engine_configure(b->engine, &config), 0);
	engine_set_valid_until(b->engine, MONOTIME_NEVER);
}

static void bench_free(struct bench *b)
{
	engine_free(b->engine);
	flowtable_free(b->flows);
}

static void add_flow(struct bench *b, const char *from, const char *to)
{
	struct nat_endpoint s, d, ns, nd;
	const char *at = from, *arrow;
	struct flow flow = {.state = NAT_SLOT_OPEN, .handle = 1, .peer_handle = 1}, evicted[2];
	unsigned n;

	cr_assert(endpoint_parse(&at, &s));
	arrow = at + 3;
	cr_assert(endpoint_parse(&arrow, &d));
	at = to;
	cr_assert(endpoint_parse(&at, &ns));
	arrow = at + 3;
	cr_assert(endpoint_parse(&arrow, &nd));
	for (unsigned p = 0; p < 2; p++) {
		flow.tuple = (struct nat_tuple){
		    s.address,	      d.address, s.port, d.port, p ? NAT_UDP : NAT_TCP,
		    NAT_REALM_INSIDE, 0};
		flow.rewrite =
		    (struct nat_rewrite){ns.address, nd.address, ns.port, nd.port, 0, {0}};
		cr_assert_eq(flowtable_insert(b->flows, &flow, 1, evicted, &n), 0);
	}
}

static void build(const char *text, struct test_packet *out)
{
	char error[256];
	cr_assert(packet_build(text, out, error, sizeof error), "%s: %s", text, error);
}

/* ---- every length ---- */

struct every_length {
	struct golden_target *target;
	unsigned n;
};

static unsigned run_exact(struct golden_target *target, const uint8_t *bytes, uint32_t length,
			  uint8_t realm)
{
	struct engine *engine = golden_engine(target);
	uint8_t *exact = malloc(length ? length : 1); /* one byte too far is seen */
	struct engine_packet packet = {
	    .data = exact, .length = length, .room = length, .ingress = realm};

	memcpy(exact, bytes, length);
	engine_process(engine_worker(engine, 1), &packet, 1, start);
	if (packet.fate == ENGINE_SLOW)
		engine_slow(engine, &packet, start);
	free(exact);
	golden_events_clear(target->events);
	return packet.fate;
}

static void cut_everywhere(void *context, const struct test_packet *packet, uint8_t realm)
{
	struct every_length *e = context;
	uint32_t total = (uint32_t)packet->bytes[2] << 8 | packet->bytes[3];

	for (uint32_t length = 0; length < packet->length; length++) {
		unsigned fate = run_exact(e->target, packet->bytes, length, realm);
		if (length < total)
			cr_assert_eq(fate, ENGINE_DROP, "length %u of %u", length, total);
		e->n++;
		if (length > 128 && length + 16 < packet->length)
			length += 13; /* payload is all alike */
	}
	run_exact(e->target, packet->bytes, packet->length, realm);
}

Test(engine, drops_every_packet_of_the_golden_table_cut_at_any_length)
{
	struct golden_table *table = golden_load(GOLDEN_FILE);
	struct every_length e = {.target = golden_engine_new()};
	struct engine_config config;

	golden_defaults(&config);
	cr_assert_eq(engine_configure(golden_engine(e.target), &config), 0);
	engine_set_valid_until(golden_engine(e.target), MONOTIME_NEVER);
	for (unsigned row = 0; row < golden_rows(table); row++)
		golden_packets(table, row, cut_everywhere, &e);
	cr_expect_gt(e.n, 5000);
	golden_engine_free(e.target);
	golden_unload(table);
}

/* ---- batches ---- */

enum { KINDS = 7, MANY = 30 * KINDS };

/* Some plain, some to ask about, some bad, some not ours. */
static void mixed_packets(struct test_packet *packets)
{
	static const char *const texts[] = {
	    "udp 10.0.0.2:4000 > 8.8.8.8:53 len=40",
	    "tcp 10.0.0.2:4000 > 8.8.8.8:53 flags=A len=4",
	    "udp 10.0.0.2:4001 > 8.8.8.8:53",
	    "udp 10.0.0.2:4000 > 8.8.8.8:53 ttl=1",
	    "udp 10.0.0.2:4000 > 8.8.8.8:53 ipsum=bad",
	    "udp 10.0.0.2:4000 > 198.51.100.1:53 len=9",
	    "udp 10.0.0.2:4000 > 8.8.8.8:53 opts=8",
	};
	for (unsigned i = 0; i < MANY; i++)
		build(texts[i * 5 % KINDS], &packets[i]);
}

Test(engine, does_the_same_in_batches_of_any_size)
{
	struct test_packet *packets = malloc(MANY * sizeof *packets);
	uint8_t(*bytes)[256] = malloc(MANY * sizeof *bytes), *first = malloc(MANY * sizeof *bytes);
	struct engine_packet batch[MANY];
	struct engine_counters counters, before = {0};
	struct bench b;

	bench_new(&b, 64);
	add_flow(&b, "10.0.0.2:4000 > 8.8.8.8:53", "192.0.2.1:5000 > 8.8.8.8:53");
	mixed_packets(packets);
	static const unsigned sizes[] = {1, 2, 31, 32, 63, 64, 65, 128, 129, MANY};
	for (unsigned s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
		memset(bytes, 0, MANY * sizeof *bytes);
		for (unsigned i = 0; i < MANY; i++) {
			memcpy(bytes[i], packets[i].bytes, packets[i].length);
			batch[i] = (struct engine_packet){.data = bytes[i],
							  .length = packets[i].length,
							  .room = 256,
							  .ingress = NAT_REALM_INSIDE};
		}
		for (unsigned done = 0; done < MANY; done += sizes[s]) {
			unsigned n = MANY - done < sizes[s] ? MANY - done : sizes[s];
			engine_process(engine_worker(b.engine, 3), batch + done, n, start);
		}
		if (s == 0)
			memcpy(first, bytes, MANY * sizeof *bytes);
		cr_assert_eq(memcmp(first, bytes, MANY * sizeof *bytes), 0, "batch of %u",
			     sizes[s]);

		engine_counters(b.engine, &counters);
		cr_expect_eq(counters.packets - before.packets, MANY);
		/* of 7 kinds 2 are hits, 1 is bypass, 1 is bad, 3 need the owner */
		cr_expect_eq(counters.hits - before.hits, 60);
		cr_expect_eq(counters.slow - before.slow, 90);
		cr_expect_eq(counters.drops[NAT_REASON_BAD_IP_CHECKSUM] -
				 before.drops[NAT_REASON_BAD_IP_CHECKSUM],
			     30);
		before = counters;
	}
	bench_free(&b);
	free(first);
	free(bytes);
	free(packets);
}

/* ---- memory ---- */

Test(engine, allocates_nothing_on_any_path)
{
	static const char *const texts[] = {
	    "udp 10.0.0.2:4000 > 8.8.8.8:53 len=40",
	    "udp 10.0.0.2:4001 > 8.8.8.8:53",
	    "udp 10.0.0.2:4000 > 8.8.8.8:53 ttl=1",
	    "udp 10.0.0.2:4000 > 8.8.8.8:53 len=1600 frag=1480-1608 ipid=1",
	    "udp 10.0.0.2:4000 > 8.8.8.8:53 len=1600 frag=0-1480 ipid=1",
	    "udp 10.0.0.2:4000 > 8.8.8.8:53 len=1600 frag=1480-1608 ipid=2",
	    "udp 10.0.0.2:4000 > 8.8.8.8:53 len=3000",
	    "icmp 10.0.0.2 > 8.8.8.8 type=3 code=3 { udp 8.8.8.8:53 > 10.0.0.2:4000 }",
	    "udp 10.0.0.2:4000 > 8.8.8.8:53 opts=8",
	    "udp 10.0.0.2:4000 > 239.1.1.1:53",
	};
	enum { N = sizeof texts / sizeof texts[0] };
	struct test_packet *packets = malloc(N * sizeof *packets);
	uint8_t *buffer = malloc(N * 4096);
	struct engine_config config;
	struct engine_counters counters;
	struct bench b;

	bench_new(&b, 64);
	golden_defaults(&config);
	config.mtu[NAT_REALM_OUTSIDE] = 1500;
	cr_assert_eq(engine_configure(b.engine, &config), 0);
	cr_expect_gt(allocations, 0, "the counter counts");
	add_flow(&b, "10.0.0.2:4000 > 8.8.8.8:53", "192.0.2.1:5000 > 8.8.8.8:53");
	for (unsigned i = 0; i < N; i++)
		build(texts[i], &packets[i]);

	allocations = 0;
	for (unsigned turn = 0; turn < 5000; turn++) {
		struct monotime now = monotime_add_ms(start, turn);
		struct engine_packet batch[N];
		for (unsigned i = 0; i < N; i++) {
			memcpy(buffer + i * 4096, packets[i].bytes, packets[i].length);
			batch[i] = (struct engine_packet){.data = buffer + i * 4096,
							  .length = packets[i].length,
							  .room = 4096,
							  .ingress = NAT_REALM_INSIDE};
		}
		engine_process(engine_worker(b.engine, 1), batch, N, now);
		for (unsigned i = 0; i < N; i++)
			if (batch[i].fate == ENGINE_SLOW)
				engine_slow(b.engine, &batch[i], now);
		engine_tick(b.engine, now);
	}
	cr_expect_eq(allocations, 0, "%lu allocations", allocations);
	engine_counters(b.engine, &counters);
	cr_expect_eq(counters.hits, 5000);
	cr_expect_gt(counters.icmp_sent, 0);
	cr_expect_geq(counters.fragments, 15000);
	cr_expect_eq(counters.drops[NAT_REASON_MULTICAST], 5000);
	bench_free(&b);
	free(buffer);
	free(packets);
}

/* ---- the rest ---- */

/*
 * RFC 5508 REQ-6, RFC 4787 REQ-12, RFC 5382 REQ-10: an ICMP error, whichever way and of whichever
 * type, leaves the flow's entry as it was: times, TCP flags, what was reported.
 */
Test(engine, icmp_errors_mark_nothing_as_seen)
{
	static const char *const texts[] = {
	    "icmp 9.9.9.9 > 192.0.2.1 type=3 code=3 { tcp 192.0.2.1:5000 > 8.8.8.8:53 flags=S }",
	    "icmp 9.9.9.9 > 192.0.2.1 type=11 { tcp 192.0.2.1:5000 > 8.8.8.8:53 flags=R }",
	    "icmp 9.9.9.9 > 192.0.2.1 type=12 { udp 192.0.2.1:5000 > 8.8.8.8:53 }",
	    "icmp 10.0.0.2 > 8.8.8.8 type=3 code=3 { tcp 8.8.8.8:53 > 10.0.0.2:4000 flags=FA }",
	    "icmp 10.0.0.2 > 8.8.8.8 type=3 code=3 { udp 8.8.8.8:53 > 10.0.0.2:4000 }",
	};
	struct test_packet *p = malloc(sizeof *p);
	struct bench b;

	bench_new(&b, 64);
	add_flow(&b, "10.0.0.2:4000 > 8.8.8.8:53", "192.0.2.1:5000 > 8.8.8.8:53");
	for (unsigned i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		struct nat_tuple tuple = {.source = nat_swap32(0x0a000002),
					  .destination = nat_swap32(0x08080808),
					  .source_port = nat_swap16(4000),
					  .destination_port = nat_swap16(53),
					  .realm = NAT_REALM_INSIDE};
		struct flow before[2], after;
		for (unsigned k = 0; k < 2; k++) {
			tuple.protocol = k ? NAT_UDP : NAT_TCP;
			cr_assert(flowtable_find(b.flows, &tuple, &before[k]));
		}
		build(texts[i], p);
		struct engine_packet packet = {.data = p->bytes,
					       .length = p->length,
					       .room = TEST_PACKET_ROOM,
					       .ingress = i < 3 ? NAT_REALM_OUTSIDE
								: NAT_REALM_INSIDE};
		engine_process(engine_worker(b.engine, 1), &packet, 1, start);
		cr_assert_eq(packet.fate, ENGINE_SLOW);
		engine_slow(b.engine, &packet, start);
		cr_assert_eq(packet.fate, ENGINE_OUT, "%s", texts[i]);
		cr_expect_eq(packet.tcp_flags_new, 0);
		for (unsigned k = 0; k < 2; k++) {
			tuple.protocol = k ? NAT_UDP : NAT_TCP;
			cr_assert(flowtable_find(b.flows, &tuple, &after));
			cr_expect_eq(memcmp(&before[k], &after, sizeof after), 0, "%s", texts[i]);
		}
	}
	bench_free(&b);
	free(p);
}

Test(engine, refuses_a_worker_out_of_range)
{
	struct bench b;

	bench_new(&b, 4);
	cr_expect_not_null(engine_worker(b.engine, ENGINE_WORKERS_MAX - 1));
	cr_expect_null(engine_worker(b.engine, ENGINE_WORKERS_MAX));
	bench_free(&b);
}

Test(engine, translates_nothing_before_a_lease)
{
	struct test_packet *p = malloc(sizeof *p);
	struct bench b;

	bench_new(&b, 4);
	engine_set_valid_until(b.engine, (struct monotime){0});
	add_flow(&b, "10.0.0.2:4000 > 8.8.8.8:53", "192.0.2.1:5000 > 8.8.8.8:53");
	build("udp 10.0.0.2:4000 > 8.8.8.8:53", p);
	struct engine_packet packet = {.data = p->bytes, .length = p->length, .ingress = 1};
	engine_process(engine_worker(b.engine, 1), &packet, 1, start);
	cr_expect_eq(packet.fate, ENGINE_DROP);
	cr_expect_eq(packet.reason, NAT_REASON_LEASE_OVER);
	bench_free(&b);
	free(p);
}

Test(engine, counts_the_reason_why_a_packet_was_not_parked)
{
	struct test_packet *p = malloc(sizeof *p);
	struct engine_counters counters;
	struct bench b;

	bench_new(&b, 4);
	build("udp 10.0.0.2:4000 > 8.8.8.8:53", p);
	struct engine_packet packet = {.data = p->bytes, .length = p->length, .ingress = 1};
	engine_slow(b.engine, &packet, start);
	cr_expect_eq(b.asked, 1);
	cr_expect_eq(packet.fate, ENGINE_DROP);
	engine_counters(b.engine, &counters);
	cr_expect_eq(counters.drops[NAT_REASON_PENDING_FULL], 1);
	bench_free(&b);
	free(p);
}

Test(engine, survives_a_million_damaged_packets)
{
	struct golden_table *table = golden_load(GOLDEN_FILE);
	struct test_packet *packets = malloc(MANY * sizeof *packets);
	uint8_t *buffer = malloc(4096);
	struct bench b;

	bench_new(&b, 64);
	add_flow(&b, "10.0.0.2:4000 > 8.8.8.8:53", "192.0.2.1:5000 > 8.8.8.8:53");
	mixed_packets(packets);
	for (unsigned turn = 0; turn < 1000000; turn++) {
		const struct test_packet *from = &packets[turn % MANY];
		memcpy(buffer, from->bytes, from->length);
		for (unsigned i = random_below(&b.random, 4); i > 0; i--)
			buffer[random_below(&b.random, from->length)] =
			    (uint8_t)random_below(&b.random, 256);
		struct engine_packet packet = {.data = buffer,
					       .length = random_below(&b.random, from->length + 1),
					       .room = 4096,
					       .ingress = (uint8_t)random_below(&b.random, 3)};
		engine_process(engine_worker(b.engine, 1), &packet, 1, start);
		if (packet.fate == ENGINE_SLOW)
			engine_slow(b.engine, &packet, start);
		cr_assert(packet.fate == ENGINE_OUT || packet.fate == ENGINE_DROP ||
			  packet.fate == ENGINE_KEPT);
	}
	bench_free(&b);
	free(buffer);
	free(packets);
	golden_unload(table);
}
