/* SPDX-License-Identifier: Apache-2.0 */
/* Every order of a datagram's fragments, and what a flood of them may not do. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "dataplane/fragments.h"
#include "dataplane/ranges.h"
#include "tests/support/golden.h"
#include "tests/support/permutation.h"

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

static uint64_t datagram; /* of the last one taken */

/* One fragment of source's datagram, as it is taken. */
static enum fragment_step take_raw(struct alone *a, uint32_t source, uint16_t id, uint32_t begin,
				   uint32_t end, bool more, struct monotime now)
{
	struct engine_packet packet = {
	    .data = a->bytes, .length = 20 + end - begin, .ingress = NAT_REALM_INSIDE};
	struct nat_tuple tuple = {.source = source, .protocol = NAT_UDP};
	unsigned reason, offset = begin / 8 | (more ? 0x2000u : 0);

	memset(a->bytes, 0, 20);
	a->bytes[0] = 0x45;
	a->bytes[4] = (uint8_t)(id >> 8);
	a->bytes[5] = (uint8_t)id;
	a->bytes[6] = (uint8_t)(offset >> 8);
	a->bytes[7] = (uint8_t)offset;
	a->bytes[9] = NAT_UDP;
	memcpy(a->bytes + 12, &source, 4);
	return fragments_take(a->fragments, &packet, &tuple, 2000, now, &datagram, &reason);
}

/* The same for a dataplane that is alone: it knows a datagram by its first fragment. */
static enum fragment_step take_from(struct alone *a, uint32_t source, uint16_t id, uint32_t begin,
				    uint32_t end, bool more, struct monotime now)
{
	enum fragment_step step = take_raw(a, source, id, begin, end, more, now);

	if (step == FRAGMENT_ORPHAN)
		return FRAGMENT_KEPT;
	if (step != FRAGMENT_FIRST)
		return step;
	struct nat_tuple tuple = {.source = source, .protocol = NAT_UDP};
	fragments_known(a->fragments, datagram, &tuple, fragments_identification(a->fragments),
			now);
	return FRAGMENT_TUPLE;
}

static enum fragment_step take(struct alone *a, uint16_t id, uint32_t begin, uint32_t end,
			       bool more, struct monotime now)
{
	return take_from(a, 1, id, begin, end, more, now);
}

static unsigned release(struct alone *a)
{
	struct engine_packet packet;
	struct nat_tuple tuple;
	unsigned n = 0;

	while (fragments_next(a->fragments, datagram, a->released, &packet, &tuple))
		n++;
	return n;
}

/* RFC 4787 REQ-14a: 3,000 first fragments of one host, and of as many hosts. */
Test(fragments, a_flood_of_first_fragments_does_not_hurt_datagrams_in_order)
{
	for (unsigned many = 0; many < 2; many++) {
		struct alone *a = alone_new();
		uint32_t datagrams, chunks;

		cr_assert_eq(take_from(a, 7, 1, 0, 1480, true, start), FRAGMENT_TUPLE);
		for (unsigned i = 0; i < 3000; i++)
			cr_assert_eq(
			    take_from(a, many ? 100 + i : 8, (uint16_t)i, 0, 1480, true, start),
			    FRAGMENT_TUPLE);
		for (unsigned i = 0; i < 100; i++) {
			uint16_t id = (uint16_t)(10000 + i);
			cr_assert_eq(take(a, id, 0, 1480, true, start), FRAGMENT_TUPLE);
			cr_assert_eq(take(a, id, 1480, 2960, true, start), FRAGMENT_TUPLE);
			cr_assert_eq(take(a, id, 2960, 3000, false, start), FRAGMENT_TUPLE);
		}
		fragments_held(a->fragments, &datagrams, &chunks);
		cr_expect_leq(datagrams, FRAGMENTS_KNOWN);
		/* One host's flood does not even touch what another had begun. */
		cr_expect_eq(take_from(a, 7, 1, 1480, 2000, false, start),
			     many ? FRAGMENT_KEPT : FRAGMENT_TUPLE);
		fragments_tick(a->fragments, monotime_add_ms(start, 2000));
		fragments_held(a->fragments, &datagrams, &chunks);
		cr_expect_eq(datagrams, 0);
		cr_expect_eq(chunks, 0);
		alone_free(a);
	}
}

/* RFC 4787 REQ-14a: 5,000 later fragments without their first ones, of one host or of many. */
Test(fragments, a_flood_of_later_fragments_is_bounded_and_counted)
{
	for (unsigned many = 0; many < 2; many++) {
		struct alone *a = alone_new();
		uint32_t datagrams, chunks, parked = 5000, last = 0;

		take_from(a, 7, 1, 0, 1480, true, start);
		take_from(a, 7, 2, 1480, 2000, false, start);
		for (unsigned i = 0; i < parked; i++) {
			last = many ? 100 + i : 8;
			cr_assert_eq(take_from(a, last, (uint16_t)i, 1480, 2960, false, start),
				     FRAGMENT_KEPT);
		}
		fragments_held(a->fragments, &datagrams, &chunks);
		cr_expect_leq(chunks, FRAGMENTS_ORPHAN_CHUNKS);
		cr_expect_leq(datagrams, 1 + FRAGMENTS_ORPHANS);
		cr_expect(many || datagrams <= 2 + FRAGMENTS_ORPHANS / FRAGMENTS_SHARE_OF);
		cr_expect_eq(a->counters.drops[NAT_REASON_FRAGMENT_TABLE_FULL],
			     parked + 2 - datagrams);
		/* Orphans push out orphans only; and those of one host only its own. */
		cr_expect_eq(take_from(a, 7, 1, 1480, 2960, true, start), FRAGMENT_TUPLE);
		cr_expect_eq(take_from(a, 7, 2, 0, 1480, true, start), FRAGMENT_TUPLE);
		cr_expect_eq(release(a), many ? 0 : 1);
		/* the newest is still there */
		cr_expect_eq(take_from(a, last, (uint16_t)(parked - 1), 0, 1480, true, start),
			     FRAGMENT_TUPLE);
		cr_expect_eq(release(a), 1);
		fragments_tick(a->fragments, monotime_add_ms(start, 3000));
		fragments_held(a->fragments, &datagrams, &chunks);
		cr_expect_eq(datagrams + chunks, 0);
		alone_free(a);
	}
}

/* U5, REQ-14a: a few datagrams of the largest size fill a host's share of the memory, not more. */
Test(fragments, one_hosts_orphans_do_not_take_all_the_memory)
{
	struct alone *a = alone_new();
	uint32_t datagrams, chunks;

	for (uint16_t id = 0; id < 100; id++)
		for (uint32_t i = 1; i < 44; i++)
			take_from(a, 8, id, i * 1480, i * 1480 + 1480, true, start);
	fragments_held(a->fragments, &datagrams, &chunks);
	cr_expect_leq(chunks, FRAGMENTS_ORPHAN_CHUNKS / FRAGMENTS_CHUNKS_SHARE_OF);
	cr_expect_eq(take_from(a, 7, 1, 1480, 2000, false, start), FRAGMENT_KEPT);
	cr_expect_eq(take_from(a, 7, 1, 0, 1480, true, start), FRAGMENT_TUPLE);
	cr_expect_eq(release(a), 1);
	alone_free(a);
}

/* ---- what the table is asked for */

Test(fragments, an_orphan_is_asked_for_once)
{
	struct alone *a = alone_new();
	struct nat_tuple tuple = {.source = 1, .protocol = NAT_UDP};

	cr_expect_eq(take_raw(a, 1, 5, 1480, 2960, true, start), FRAGMENT_ORPHAN);
	uint64_t id = datagram;
	cr_expect_eq(take_raw(a, 1, 5, 2960, 3000, false, start), FRAGMENT_KEPT);
	cr_expect_eq(datagram, id);
	cr_expect_eq(fragments_state(a->fragments, id), FRAGMENT_WAITING);
	tuple.realm = NAT_REALM_INSIDE;
	cr_expect_eq(fragments_find(a->fragments, &tuple, 5, start), id);
	cr_expect_eq(fragments_find(a->fragments, &tuple, 6, start), 0);
	fragments_known(a->fragments, id, &tuple, 777, start);
	cr_expect_eq(release(a), 2);
	cr_expect_eq(a->released[4] << 8 | a->released[5], 777);
	cr_expect_eq(take_raw(a, 1, 5, 3000, 3008, true, start), FRAGMENT_REFUSE,
		     "behind the end, which it knows");
	alone_free(a);
}

Test(fragments, a_first_one_that_waits_leaves_first_and_all_with_its_number)
{
	struct alone *a = alone_new();
	struct nat_tuple tuple = {.source = 1, .protocol = NAT_UDP}, out;
	struct engine_packet first = {.data = a->bytes, .length = 1500, .ingress = 1}, packet;
	static const unsigned offsets[] = {0, 2960, 1480};

	take_raw(a, 1, 5, 2960, 3000, false, start);
	cr_expect_eq(take_raw(a, 1, 5, 0, 1480, true, start), FRAGMENT_FIRST);
	cr_assert(fragments_wait(a->fragments, datagram, &tuple, &first, start));
	cr_expect_eq(take_raw(a, 1, 5, 1480, 2960, true, start), FRAGMENT_KEPT);
	cr_expect_eq(take_raw(a, 1, 5, 0, 1480, true, start), FRAGMENT_KEPT, "a duplicate");
	cr_expect_not(fragments_next(a->fragments, datagram, a->released, &packet, &out));
	fragments_known(a->fragments, datagram, NULL, 4711, start);
	for (unsigned i = 0; i < 3; i++) {
		cr_assert(fragments_next(a->fragments, datagram, a->released, &packet, &out));
		cr_expect_eq(((a->released[6] & 0x1fu) << 8 | a->released[7]) * 8, offsets[i]);
		cr_expect_eq(a->released[4] << 8 | a->released[5], 4711);
		cr_expect(nat_tuple_equal(&out, &tuple));
	}
	cr_expect_not(fragments_next(a->fragments, datagram, a->released, &packet, &out));
	cr_expect_eq(fragments_state(a->fragments, datagram), FRAGMENT_NONE, "complete: forgotten");
	alone_free(a);
}

/* RFC 6864 section 4.3 forbids it to senders, and they do it. */
Test(fragments, a_number_used_again_for_other_ports_begins_another_datagram)
{
	struct alone *a = alone_new();
	struct nat_tuple other = {.source = 1, .source_port = 9, .protocol = NAT_UDP};

	cr_expect_eq(take(a, 5, 0, 1480, true, start), FRAGMENT_TUPLE);
	uint64_t same = datagram;
	cr_expect_eq(take(a, 5, 0, 1480, true, start), FRAGMENT_TUPLE, "the same, or a duplicate");
	cr_expect_eq(datagram, same);
	cr_expect_eq(take(a, 5, 0, 736, true, start), FRAGMENT_KEPT, "no piece that was");
	uint64_t before = datagram;
	fragments_known(a->fragments, before, &other, 1, start);
	cr_expect_eq(take(a, 5, 0, 1480, true, start), FRAGMENT_TUPLE);
	cr_expect_neq(datagram, before);
	cr_expect_eq(fragments_state(a->fragments, before), FRAGMENT_NONE);
	alone_free(a);
}

Test(fragments, others_wait_while_the_flow_is_asked_for)
{
	struct alone *a = alone_new();

	cr_expect_eq(take(a, 5, 0, 1480, true, start), FRAGMENT_TUPLE);
	uint64_t id = datagram;
	fragments_resolving(a->fragments, id);
	cr_expect_eq(take(a, 5, 1480, 2960, true, start), FRAGMENT_KEPT);
	cr_expect_eq(release(a), 0);
	fragments_resolved(a->fragments, id);
	cr_expect_eq(release(a), 1);
	fragments_resolving(a->fragments, id);
	take(a, 5, 2960, 4440, true, start);
	fragments_refuse(a->fragments, id, NAT_REASON_PORTS_EXHAUSTED);
	cr_expect_eq(a->counters.drops[NAT_REASON_PORTS_EXHAUSTED], 1);
	cr_expect_eq(take(a, 5, 4440, 5000, false, start), FRAGMENT_REFUSE);
	alone_free(a);
}

Test(fragments, a_datagram_to_be_cut_waits_and_is_found_by_nobody_else)
{
	struct alone *a = alone_new();
	struct engine_packet packet = {
	    .data = a->bytes, .length = 3000, .ingress = 1, .partial_checksum = true};
	struct engine_packet out;
	struct nat_tuple tuple;
	uint16_t number;

	memset(a->bytes, 0, sizeof a->bytes);
	a->bytes[0] = 0x45;
	uint64_t one = fragments_whole(a->fragments, &packet, 2000, start);
	uint64_t two = fragments_whole(a->fragments, &packet, 2000, start);
	cr_assert(one && two && one != two);
	fragments_key(a->fragments, one, &tuple, &number);
	cr_expect_eq(fragments_find(a->fragments, &tuple, number, start), 0);
	fragments_known(a->fragments, two, NULL, 12, start);
	cr_assert(fragments_next(a->fragments, two, a->released, &out, &tuple));
	cr_expect_eq(out.length, 3000);
	cr_expect(out.partial_checksum);
	cr_expect_eq(a->released[5], 12);
	cr_expect_not(fragments_next(a->fragments, two, a->released, &out, &tuple));
	cr_expect_eq(fragments_state(a->fragments, two), FRAGMENT_NONE);
	fragments_tick(a->fragments, monotime_add_ms(start, 2000));
	cr_expect_eq(fragments_state(a->fragments, one), FRAGMENT_NONE);
	cr_expect_eq(a->counters.drops[NAT_REASON_PENDING_TIMEOUT], 1);
	alone_free(a);
}

/* ---- sizes, times, holes */

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
	cr_expect_eq(kept, RANGES_MAX);
	cr_expect_eq(a->counters.drops[NAT_REASON_FRAGMENT_MALFORMED], RANGES_MAX);
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
