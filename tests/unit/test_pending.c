/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "dataplane/pending.h"

static uint64_t seed = 1;
static struct monotime at(int64_t ms)
{
	return (struct monotime){ms * MS_NS};
}

static struct pending *pool(uint32_t flows, uint32_t packets)
{
	struct random_source random = random_seeded(&seed);
	struct pending *pending;
	cr_assert_eq(pending_new(flows, packets, 64, &random, &pending), 0);
	pending_limit(pending, packets, 3, 100);
	return pending;
}

static struct nat_tuple tuple(unsigned n)
{
	return (struct nat_tuple){.source = n, .destination = 7, .protocol = NAT_UDP, .realm = 1};
}

/* A packet of flow n that says "number". */
static unsigned park(struct pending *pending, unsigned op, unsigned n, uint8_t number,
		     uint8_t flags, int64_t ms)
{
	uint8_t bytes[64] = {number};
	struct engine_packet packet = {.data = bytes, .length = 20, .room = 64, .ingress = 1};
	struct nat_tuple t = tuple(n);
	return pending_park(pending, op, &t, flags, &packet, at(ms), NULL);
}

static void expect_packets(struct pending *pending, struct pending_chain *chain, const char *want)
{
	char got[32] = "";
	struct engine_packet *packet;
	while ((packet = pending_packet(pending, chain)) != NULL) {
		snprintf(got + strlen(got), sizeof got - strlen(got), "%u", packet->data[0]);
		cr_expect_eq(packet->length, 20);
		cr_expect_eq(packet->room, 64);
		pending_done(pending, chain);
	}
	cr_expect_str_eq(got, want);
}

Test(pending, keeps_packets_of_a_flow_in_order_and_asks_once)
{
	struct pending *pending = pool(4, 8);
	struct wire_request request;
	struct pending_chain chain;

	cr_assert_eq(park(pending, WIRE_RESOLVE_OUT, 1, 1, NAT_TCP_SYN, 0), 0);
	cr_assert_eq(park(pending, WIRE_RESOLVE_OUT, 2, 9, 0, 0), 0);
	cr_assert_eq(park(pending, WIRE_RESOLVE_OUT, 1, 2, NAT_TCP_RST, 0), 0);
	cr_expect_eq(pending_flows(pending), 2);
	pending_id id = pending_next(pending, &request, at(1));
	cr_expect_eq(request.tuple.source, 1);
	cr_expect_eq(request.tuple.zero, 0);
	cr_expect_eq(request.op, WIRE_RESOLVE_OUT);
	cr_expect_eq(request.tcp_flags, NAT_TCP_SYN, "the first packet's, not all packets'");
	cr_assert_eq(park(pending, WIRE_RESOLVE_OUT, 1, 3, 0, 2), 0);
	cr_expect_eq(pending_get(pending, id)->tcp_flags, NAT_TCP_SYN | NAT_TCP_RST);
	pending_take(pending, id, &chain);
	expect_packets(pending, &chain, "123");
	cr_expect_null(pending_get(pending, id));
	cr_expect_eq(pending_packets(pending), 1);
	pending_free(pending);
}

Test(pending, keeps_a_peek_apart_from_the_flow_of_the_same_tuple)
{
	struct pending *pending = pool(4, 8);
	struct wire_request request;

	cr_assert_eq(park(pending, WIRE_RESOLVE_IN, 1, 1, 0, 0), 0);
	cr_assert_eq(park(pending, WIRE_PEEK, 1, 2, 0, 0), 0);
	cr_expect_eq(pending_flows(pending), 2);
	pending_next(pending, &request, at(0));
	cr_expect_eq(request.op, WIRE_RESOLVE_IN);
	pending_next(pending, &request, at(0));
	cr_expect_eq(request.op, WIRE_PEEK);
	cr_expect_not(pending_has_next(pending));
	pending_free(pending);
}

Test(pending, refuses_with_the_reason_of_the_pool_that_is_full)
{
	struct pending *pending = pool(2, 5);

	for (unsigned i = 0; i < 3; i++)
		cr_expect_eq(park(pending, WIRE_RESOLVE_OUT, 1, 1, 0, 0), 0);
	cr_expect_eq(park(pending, WIRE_RESOLVE_OUT, 1, 1, 0, 0), NAT_REASON_PENDING_FLOW_FULL);
	cr_expect_eq(park(pending, WIRE_RESOLVE_OUT, 2, 1, 0, 0), 0);
	cr_expect_eq(park(pending, WIRE_RESOLVE_OUT, 3, 1, 0, 0), NAT_REASON_PENDING_FULL,
		     "questions");
	cr_expect_eq(park(pending, WIRE_RESOLVE_OUT, 2, 1, 0, 0), 0);
	cr_expect_eq(park(pending, WIRE_RESOLVE_OUT, 2, 1, 0, 0), NAT_REASON_PENDING_FULL,
		     "packets");
	cr_expect_eq(pending_packets(pending), 5);
	pending_free(pending);
}

Test(pending, refuses_a_packet_larger_than_its_room)
{
	struct pending *pending = pool(2, 5);
	uint8_t bytes[65] = {0};
	struct engine_packet packet = {.data = bytes, .length = 65, .room = 65};
	struct nat_tuple t = tuple(1);

	cr_expect_eq(pending_park(pending, WIRE_RESOLVE_OUT, &t, 0, &packet, at(0), NULL),
		     NAT_REASON_PENDING_FULL);
	cr_expect_eq(pending_flows(pending), 0);
	pending_free(pending);
}

Test(pending, drops_at_the_deadline_but_waits_for_the_answer_until_the_lease_is_over)
{
	struct pending *pending = pool(4, 8);
	struct wire_request request;
	struct pending_chain chain;

	park(pending, WIRE_RESOLVE_OUT, 1, 1, 0, 0);
	pending_id id = pending_next(pending, &request, at(10));
	park(pending, WIRE_RESOLVE_OUT, 2, 2, 0, 20); /* never asked */
	cr_expect_eq(monotime_ms(pending_deadline(pending)), 100);
	cr_expect_not(pending_expired(pending, at(99), 1000, &chain));
	cr_assert(pending_expired(pending, at(100), 1000, &chain));
	expect_packets(pending, &chain, "1");
	cr_assert(pending_expired(pending, at(120), 1000, &chain));
	expect_packets(pending, &chain, "2");
	cr_expect_eq(pending_flows(pending), 1, "the one that was not asked is gone");
	cr_expect_not_null(pending_get(pending, id));
	cr_expect_eq(monotime_ms(pending_deadline(pending)), 1010);
	/* A packet that comes meanwhile does not ask again, and has a deadline of its own. */
	park(pending, WIRE_RESOLVE_OUT, 1, 3, 0, 500);
	cr_expect_not(pending_has_next(pending));
	cr_assert(pending_expired(pending, at(600), 1000, &chain));
	expect_packets(pending, &chain, "3");
	cr_expect_not(pending_expired(pending, at(1009), 1000, &chain));
	cr_expect_not_null(pending_get(pending, id));
	cr_expect_not(pending_expired(pending, at(1010), 1000, &chain));
	cr_expect_null(pending_get(pending, id));
	cr_expect_eq(pending_flows(pending), 0);
	pending_free(pending);
}

Test(pending, recycles_a_question_that_nobody_waits_for_when_the_pool_is_full)
{
	struct pending *pending = pool(1, 4);
	struct wire_request request;
	struct pending_chain chain;

	park(pending, WIRE_RESOLVE_OUT, 1, 1, 0, 0);
	pending_id old = pending_next(pending, &request, at(0));
	cr_assert(pending_expired(pending, at(100), 1000, &chain));
	expect_packets(pending, &chain, "1");
	cr_assert_eq(park(pending, WIRE_RESOLVE_OUT, 2, 2, 0, 101), 0);
	cr_expect_null(pending_get(pending, old), "same slot, other generation");
	pending_take(pending, old, &chain);
	cr_expect_null(pending_packet(pending, &chain));
	pending_id id = pending_next(pending, &request, at(101));
	cr_expect_eq((uint32_t)id, (uint32_t)old);
	cr_expect_neq(id, old);
	pending_free(pending);
}

Test(pending, asks_everything_again_in_its_order)
{
	struct pending *pending = pool(8, 8);
	struct wire_request request;
	struct pending_chain chain;

	park(pending, WIRE_RESOLVE_OUT, 9, 9, 0, 0);
	pending_next(pending, &request, at(0));
	cr_assert(pending_expired(pending, at(100), 1000, &chain));
	expect_packets(pending, &chain, "9");
	for (unsigned i = 1; i <= 4; i++)
		park(pending, WIRE_RESOLVE_OUT, i, (uint8_t)i, 0, 101);
	pending_id first = pending_next(pending, &request, at(102));
	pending_next(pending, &request, at(102));
	pending_ask_all_again(pending);
	cr_expect_eq(pending_flows(pending), 4, "the empty one ended");
	for (unsigned i = 1; i <= 4; i++) {
		pending_id id = pending_next(pending, &request, at(103));
		cr_expect_eq(request.tuple.source, i);
		cr_expect(i != 1 || id == first);
	}
	cr_expect_eq(pending_next(pending, &request, at(103)), 0);
	pending_free(pending);
}

Test(pending, survives_random_use_without_losing_a_slot)
{
	struct pending *pending = pool(16, 24);
	struct random_source random = random_seeded(&seed);
	pending_id ids[64] = {0};
	struct wire_request request;
	struct pending_chain chain;

	for (int64_t i = 0; i < 20000; i++) {
		unsigned what = random_below(&random, 8);
		pending_id *id = &ids[random_below(&random, 64)];
		chain.first = UINT32_MAX;
		if (what < 4)
			park(pending, WIRE_RESOLVE_OUT, random_below(&random, 40), 1, 0, i);
		else if (what == 4)
			*id = pending_next(pending, &request, at(i));
		else if (what == 5)
			pending_take(pending, *id, &chain);
		else if (what == 6)
			pending_ask_again(pending, *id);
		else if (!pending_expired(pending, at(i), 150, &chain))
			chain.first = UINT32_MAX;
		while (pending_packet(pending, &chain))
			pending_done(pending, &chain);
	}
	while (pending_expired(pending, at(1000000), 150, &chain))
		while (pending_packet(pending, &chain))
			pending_done(pending, &chain);
	cr_expect_eq(pending_flows(pending), 0);
	cr_expect_eq(pending_packets(pending), 0);
	for (unsigned i = 0; i < 16; i++)
		cr_expect_eq(park(pending, WIRE_RESOLVE_OUT, i, 1, 0, 2000000), 0);
	pending_free(pending);
}
