/* SPDX-License-Identifier: Apache-2.0 */
/* Every order of a datagram's fragments, and what a flood of them may not do. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "dataplane/fragments.h"
#include "tests/support/golden.h"

static const struct monotime start = {1000 * SECOND_NS};

/* ---- every permutation, through the engine ---- */

enum { FRAGMENTS_MAX = 5, PIECE = 104 };

struct shape {
	const char *name, *in, *out; /* @: a port or identifier of its own for each run */
	uint8_t ingress, protocol;
};

static const struct shape shapes[] = {
    {"UDP out", "udp 10.0.0.2:@ > 8.8.8.8:53", "udp 192.0.2.1:@ > 8.8.8.8:53", 1, NAT_UDP},
    {"UDP in", "udp 8.8.8.8:53 > 192.0.2.1:@", "udp 8.8.8.8:53 > 10.0.0.2:@", 0, NAT_UDP},
    {"TCP out", "tcp 10.0.0.2:@ > 8.8.8.8:53 flags=A", "tcp 192.0.2.1:@ > 8.8.8.8:53 flags=A", 1,
     NAT_TCP},
    {"TCP in", "tcp 8.8.8.8:53 > 192.0.2.1:@ flags=A", "tcp 8.8.8.8:53 > 10.0.0.2:@ flags=A", 0,
     NAT_TCP},
    {"ICMP out", "ping 10.0.0.2 > 8.8.8.8 id=@", "ping 192.0.2.1 > 8.8.8.8 id=@", 1, NAT_ICMP},
    {"ICMP in", "pong 8.8.8.8 > 192.0.2.1 id=@", "pong 8.8.8.8 > 10.0.0.2 id=@", 0, NAT_ICMP},
};

struct fixture {
	struct golden_target *target;
	struct test_packet *packet, *whole;
	uint8_t *reassembled;
};

static void build(struct test_packet *out, const char *pattern, unsigned port, const char *more)
{
	char text[512], error[256];
	int before = (int)strcspn(pattern, "@");

	snprintf(text, sizeof text, "%.*s%u%s %s", before, pattern, port, pattern + before + 1,
		 more);
	cr_assert(packet_build(text, out, error, sizeof error), "%s: %s", text, error);
}

/* The flow of a shape: inside port "port" becomes outside port "port" + 20000. */
static void session(const struct shape *shape, unsigned port, struct nat_tuple *tuple,
		    struct nat_rewrite *rewrite)
{
	const char *text = "10.0.0.2 8.8.8.8 192.0.2.1";
	struct nat_endpoint inside, server, outside;

	endpoint_parse(&text, &inside);
	endpoint_parse(&text, &server);
	endpoint_parse(&text, &outside);
	nat_be16 near = nat_swap16(port), public = nat_swap16(port + 20000);
	nat_be16 far = shape->protocol == NAT_ICMP ? 0 : nat_swap16(53);
	*tuple = (struct nat_tuple){inside.address,  server.address,   near, far,
				    shape->protocol, NAT_REALM_INSIDE, 0};
	*rewrite = (struct nat_rewrite){
	    outside.address, server.address, public, far, NAT_REALM_OUTSIDE, {0}};
	if (shape->ingress == NAT_REALM_OUTSIDE) {
		struct nat_tuple reverse = nat_reverse_tuple(tuple, rewrite);
		*rewrite = nat_reverse_rewrite(tuple);
		*tuple = reverse;
	}
}

/* What came out must be whole, of one identification, and the expected datagram. */
static void check_output(struct fixture *f, const struct shape *shape, unsigned port, unsigned n,
			 const char *order)
{
	struct golden_events *events = f->target->events;
	uint32_t total = 0, most = 0;
	unsigned out = 0;
	int id = -1;

	for (unsigned i = 0; i < events->n; i++) {
		const struct golden_event *event = &events->event[i];
		if (event->kind != GOLDEN_OUT)
			continue;
		const uint8_t *ip = event->bytes;
		uint32_t offset = ((uint32_t)(ip[6] & 0x1f) << 8 | ip[7]) * 8;
		int this_id = ip[4] << 8 | ip[5];
		cr_assert_eq(reference_checksum(ip, 20, 0), 0, "%s %s", shape->name, order);
		cr_assert(id == -1 || id == this_id, "%s %s: identifications differ", shape->name,
			  order);
		cr_assert(out > 0 || offset == 0, "%s %s: the first fragment leaves first",
			  shape->name, order);
		id = this_id;
		memcpy(f->reassembled + 20 + offset, ip + 20, event->length - 20);
		total += event->length - 20;
		if (offset + event->length > most)
			most = offset + event->length;
		out++;
	}
	build(f->whole, shape->out, shape->ingress ? port + 20000 : port, "len=480 ttl=63");
	cr_assert_eq(out, n, "%s %s: %u of %u fragments came out", shape->name, order, out, n);
	cr_assert_eq(total + 20, f->whole->length, "%s %s", shape->name, order);
	cr_assert_eq(most, f->whole->length, "%s %s", shape->name, order);
	cr_assert_eq(memcmp(f->reassembled + 20, f->whole->bytes + 20, total), 0, "%s %s",
		     shape->name, order);
}

static void run_order(struct fixture *f, const struct shape *shape, unsigned port, unsigned n,
		      const unsigned *order, bool known)
{
	struct nat_tuple tuple;
	struct nat_rewrite rewrite;
	char more[128], text[32] = "";
	uint8_t flags;

	build(f->whole, shape->in, shape->ingress ? port : port + 20000, "len=480");
	uint32_t length = f->whole->length - 20;
	session(shape, port, &tuple, &rewrite);
	if (known)
		f->target->flow(f->target->context, &tuple, &rewrite, 0, start);
	for (unsigned i = 0; i < n; i++) {
		uint32_t begin = order[i] * PIECE;
		uint32_t end = order[i] == n - 1 ? length : begin + PIECE;
		snprintf(text + i, sizeof text - i, "%u", order[i]);
		snprintf(more, sizeof more, "len=480 ipid=%u frag=%u-%u", port, begin, end);
		build(f->packet, shape->in, shape->ingress ? port : port + 20000, more);
		f->target->packet(f->target->context, f->packet, shape->ingress, start, &flags);
	}
	if (!known) {
		struct wire_answer answer = {.verdict = NAT_TRANSLATE, .rewrite = rewrite};
		cr_assert(f->target->answer(f->target->context, &answer, start), "%s %s",
			  shape->name, text);
	}
	check_output(f, shape, port, n, text);
	golden_events_clear(f->target->events);
}

static bool next_permutation(unsigned *order, unsigned n)
{
	unsigned i = n - 1, j = n - 1;

	while (i > 0 && order[i - 1] > order[i])
		i--;
	if (i == 0)
		return false;
	while (order[j] < order[i - 1])
		j--;
	unsigned swap = order[i - 1];
	order[i - 1] = order[j];
	order[j] = swap;
	for (unsigned a = i, b = n - 1; a < b; a++, b--) {
		swap = order[a];
		order[a] = order[b];
		order[b] = swap;
	}
	return true;
}

Test(fragments, are_translated_in_every_order)
{
	struct fixture f = {.target = golden_engine_new(),
			    .packet = malloc(sizeof(struct test_packet)),
			    .whole = malloc(sizeof(struct test_packet)),
			    .reassembled = malloc(TEST_PACKET_ROOM)};
	struct engine_config config;
	unsigned port = 1000, runs = 0;

	golden_defaults(&config);
	f.target->configure(f.target->context, &config);
	f.target->valid_until(f.target->context, MONOTIME_NEVER);
	for (unsigned s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
		for (unsigned n = 2; n <= FRAGMENTS_MAX; n++) {
			unsigned order[FRAGMENTS_MAX] = {0, 1, 2, 3, 4};
			do {
				run_order(&f, &shapes[s], port++, n, order, runs % 2);
				runs++;
			} while (next_permutation(order, n));
		}
	cr_expect_eq(runs, 6 * (2 + 6 + 24 + 120));
	golden_engine_free(f.target);
	free(f.packet);
	free(f.whole);
	free(f.reassembled);
}

/* ---- the table by itself ---- */

struct alone {
	uint64_t seed;
	struct random_source random;
	struct engine_counters counters;
	struct fragments *fragments;
	uint8_t bytes[70000], released[65535];
};

static struct alone *alone_new(void)
{
	struct alone *a = calloc(1, sizeof *a);

	a->seed = 3;
	a->random = random_seeded(&a->seed);
	cr_assert_eq(fragments_new(&a->random, &a->counters, &a->fragments), 0);
	return a;
}

static void alone_free(struct alone *a)
{
	fragments_free(a->fragments);
	free(a);
}

static enum fragment_step take(struct alone *a, uint16_t id, uint32_t begin, uint32_t end,
			       bool more, struct monotime now)
{
	struct engine_packet packet = {.data = a->bytes, .length = 20 + end - begin};
	struct nat_tuple tuple = {.source = 1, .protocol = NAT_UDP};
	unsigned reason, offset = begin / 8 | (more ? 0x2000u : 0);

	memset(a->bytes, 0, 20);
	a->bytes[0] = 0x45;
	a->bytes[4] = (uint8_t)(id >> 8);
	a->bytes[5] = (uint8_t)id;
	a->bytes[6] = (uint8_t)(offset >> 8);
	a->bytes[7] = (uint8_t)offset;
	a->bytes[9] = NAT_UDP;
	return fragments_take(a->fragments, &packet, &tuple, 2000, now, &reason);
}

static unsigned release(struct alone *a)
{
	struct engine_packet packet;
	unsigned n = 0;

	while (fragments_next(a->fragments, a->released, &packet))
		n++;
	return n;
}

Test(fragments, a_flood_of_first_fragments_does_not_hurt_datagrams_in_order)
{
	struct alone *a = alone_new();
	uint32_t datagrams, chunks;

	/* RFC 4787 REQ-14a */
	for (unsigned i = 0; i < 3000; i++)
		cr_assert_eq(take(a, (uint16_t)i, 0, 1480, true, start), FRAGMENT_TUPLE);
	for (unsigned i = 0; i < 100; i++) {
		uint16_t id = (uint16_t)(10000 + i);
		cr_assert_eq(take(a, id, 0, 1480, true, start), FRAGMENT_TUPLE);
		cr_assert_eq(take(a, id, 1480, 2960, true, start), FRAGMENT_TUPLE);
		cr_assert_eq(take(a, id, 2960, 3000, false, start), FRAGMENT_TUPLE);
	}
	fragments_held(a->fragments, &datagrams, &chunks);
	cr_expect_leq(datagrams, FRAGMENTS_DATAGRAMS);
	fragments_tick(a->fragments, monotime_add_ms(start, 2000));
	fragments_held(a->fragments, &datagrams, &chunks);
	cr_expect_eq(datagrams, 0);
	cr_expect_eq(chunks, 0);
	alone_free(a);
}

Test(fragments, a_flood_of_later_fragments_is_bounded_and_counted)
{
	struct alone *a = alone_new();
	uint32_t datagrams, chunks, parked = 5000;

	for (unsigned i = 0; i < parked; i++)
		cr_assert_eq(take(a, (uint16_t)i, 1480, 2960, false, start), FRAGMENT_KEPT);
	fragments_held(a->fragments, &datagrams, &chunks);
	cr_expect_leq(chunks, FRAGMENTS_CHUNKS);
	cr_expect_leq(datagrams, FRAGMENTS_DATAGRAMS);
	cr_expect_eq(a->counters.drops[NAT_REASON_FRAGMENT_TABLE_FULL], parked - datagrams);
	/* the newest is still there */
	cr_expect_eq(take(a, (uint16_t)(parked - 1), 0, 1480, true, start), FRAGMENT_TUPLE);
	cr_expect_eq(release(a), 1);
	fragments_tick(a->fragments, monotime_add_ms(start, 3000));
	cr_expect_eq(a->counters.drops[NAT_REASON_FRAGMENT_TIMEOUT], datagrams - 1);
	fragments_held(a->fragments, &datagrams, &chunks);
	cr_expect_eq(datagrams + chunks, 0);
	alone_free(a);
}

Test(fragments, the_largest_datagram_passes_backwards)
{
	struct alone *a = alone_new();
	uint32_t datagrams, chunks, n = 44; /* 65,120 bytes in pieces of 1,480 */

	for (uint32_t i = n - 1; i > 0; i--)
		cr_assert_eq(take(a, 1, i * 1480, i * 1480 + 1480, i < n - 1, start),
			     FRAGMENT_KEPT);
	cr_assert_eq(take(a, 1, 0, 1480, true, start), FRAGMENT_TUPLE);
	cr_expect_eq(release(a), n - 1);
	fragments_held(a->fragments, &datagrams, &chunks);
	cr_expect_eq(datagrams + chunks, 0);
	alone_free(a);
}

Test(fragments, the_first_one_just_in_time_and_just_too_late)
{
	struct alone *a = alone_new();

	cr_assert_eq(take(a, 1, 1480, 2000, false, start), FRAGMENT_KEPT);
	cr_assert_eq(take(a, 1, 0, 1480, true, (struct monotime){start.ns + 2 * SECOND_NS - 1}),
		     FRAGMENT_TUPLE);
	cr_expect_eq(release(a), 1);
	cr_assert_eq(take(a, 2, 1480, 2000, false, start), FRAGMENT_KEPT);
	cr_assert_eq(take(a, 2, 0, 1480, true, (struct monotime){start.ns + 2 * SECOND_NS}),
		     FRAGMENT_TUPLE);
	cr_expect_eq(release(a), 0);
	cr_expect_eq(a->counters.drops[NAT_REASON_FRAGMENT_TIMEOUT], 1);
	alone_free(a);
}

Test(fragments, too_many_holes_are_refused)
{
	struct alone *a = alone_new();
	unsigned kept = 0;

	for (uint32_t i = 1; i < 200; i++)
		kept += take(a, 1, i * 32, i * 32 + 8, true, start) == FRAGMENT_KEPT;
	cr_expect_eq(kept, FRAGMENTS_RANGES);
	cr_expect_eq(a->counters.drops[NAT_REASON_FRAGMENT_MALFORMED], FRAGMENTS_RANGES);
	alone_free(a);
}

Test(fragments, random_ones_leave_nothing_behind)
{
	struct alone *a = alone_new();
	uint32_t datagrams, chunks;
	struct monotime now = start;

	for (unsigned i = 0; i < 300000; i++) {
		uint32_t begin = random_below(&a->random, 40) * 8;
		uint32_t end = begin + random_below(&a->random, 300) * 8;
		take(a, (uint16_t)random_below(&a->random, 3000), begin, end,
		     random_below(&a->random, 4) > 0, now);
		if (random_below(&a->random, 2))
			release(a);
		now.ns += random_below(&a->random, 2000000);
		if (i % 64 == 0)
			fragments_tick(a->fragments, now);
	}
	fragments_tick(a->fragments, monotime_add_ms(now, 2000));
	fragments_held(a->fragments, &datagrams, &chunks);
	cr_expect_eq(datagrams, 0);
	cr_expect_eq(chunks, 0);
	alone_free(a);
}
