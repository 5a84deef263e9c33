/* SPDX-License-Identifier: Apache-2.0 */
/* What the cache holds, gives back and is told to give back. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include "common/base/err.h"
#include "tests/support/cache_world.h"

Test(cache_sessions, leaves_a_newer_session_of_the_same_tuple_alone)
{
	struct world w;
	attach(&w, 16, 0);
	learn(&w, 1, 5, 10);
	struct nat_tuple forward = outbound(1);
	cr_assert_eq(notice(&w, WIRE_INVALIDATE, outbound(1), 4, 0, true, 20), 0);
	cr_expect(open_entry(&w, &forward, 20, 0, NULL));
	end(&w);
}

struct expire_row {
	char name[48];
	uint32_t idle_ms;
	bool inbound_refreshes;
	int64_t outbound_seen, inbound_seen, now;
	uint8_t op;
	uint32_t age;
};

ParameterizedTestParameters(cache_sessions, expire)
{
	static struct expire_row rows[] = {
	    {"active", 100, true, 50, 0, 149, WIRE_ACTIVE, 99},
	    {"idle to the millisecond", 100, true, 50, 0, 150, WIRE_DROPPED, 100},
	    {"inbound refreshes", 100, true, 50, 140, 200, WIRE_ACTIVE, 60},
	    {"inbound does not refresh", 100, false, 50, 140, 200, WIRE_DROPPED, 150},
	    {"outbound always does", 100, false, 140, 50, 200, WIRE_ACTIVE, 60},
	    {"a reader's clock runs ahead", 100, true, 205, 0, 200, WIRE_ACTIVE, 0},
	};
	return cr_make_param_array(struct expire_row, rows, sizeof rows / sizeof rows[0]);
}

ParameterizedTest(struct expire_row *row, cache_sessions, expire)
{
	struct world w;
	attach(&w, 16, 0);
	learn(&w, 1, 5, 1);
	struct nat_tuple forward = outbound(1), reverse = reverse_of(1);
	if (row->outbound_seen)
		cr_assert(open_entry(&w, &forward, row->outbound_seen, 0, NULL));
	if (row->inbound_seen)
		cr_assert(open_entry(&w, &reverse, row->inbound_seen, 0, NULL));
	unsigned waits = w.waits;
	notice(&w, WIRE_EXPIRE, outbound(1), 5, row->idle_ms, row->inbound_refreshes, row->now);
	cr_assert(next(&w, row->now), "%s", row->name);
	cr_assert_eq(w.batch.n, 1);
	cr_expect_eq(w.batch.entries[0].op, row->op, "%s", row->name);
	cr_expect_eq(w.batch.entries[0].handle, 5);
	cr_expect_eq(w.batch.entries[0].age_ms, row->age, "%s: %u", row->name,
		     w.batch.entries[0].age_ms);
	cr_expect_eq(flowtable_pairs(w.flows), row->op == WIRE_ACTIVE);
	cr_expect_eq(w.waits - waits, row->op == WIRE_DROPPED);
	end(&w);
}

Test(cache_sessions, says_dropped_of_a_session_that_it_does_not_hold)
{
	struct world w;
	attach(&w, 16, 0);
	notice(&w, WIRE_EXPIRE, outbound(1), 5, 100, true, 10);
	cr_assert(next(&w, 10));
	cr_expect_eq(w.batch.entries[0].op, WIRE_DROPPED);
	cr_expect_eq(w.batch.entries[0].age_ms, UINT32_MAX, "not seen, as far as we know");
	end(&w);
}

Test(cache_sessions, releases_what_it_evicts_before_it_asks_again)
{
	struct world w;
	attach(&w, 1, 0);
	learn(&w, 1, 5, 10);
	unsigned waits = w.waits;
	struct wire_answer a = translate(2, 6);
	ask(&w, WIRE_RESOLVE_OUT, outbound(2), 1, 2, 0, 60);
	next(&w, 60);
	answer(&w, w.batch.sequence, &a, 1, 60);
	cr_expect_eq(counters(&w).evicted, 1);
	ask(&w, WIRE_RESOLVE_OUT, outbound(1), 1, 1, 0, 60);
	cr_assert(next(&w, 70));
	cr_assert_eq(w.batch.n, 2);
	cr_expect_eq(w.batch.entries[0].op, WIRE_RELEASE);
	cr_expect_eq(w.batch.entries[0].handle, 5);
	cr_expect_eq(w.batch.entries[0].age_ms, 60);
	cr_expect_eq(w.batch.entries[1].op, WIRE_RESOLVE_OUT);
	cr_expect_eq(w.waits, waits + 1, "no reader uses what is said to be released");
	end(&w);
}

Test(cache_sessions, does_not_use_an_answer_that_its_own_release_overtook)
{
	struct world w;
	attach(&w, 1, 0);
	/* Both directions are asked in two batches; the second answer comes after the eviction. */
	struct wire_answer out = translate(1, 5), other = translate(2, 6), in = translate(1, 5);
	struct nat_tuple forward = outbound(1), reverse = reverse_of(1);
	in.rewrite = nat_reverse_rewrite(&forward);
	in.direction = NAT_INBOUND;

	ask(&w, WIRE_RESOLVE_OUT, forward, 1, 1, 0, 1);
	ask(&w, WIRE_RESOLVE_OUT, outbound(2), 2, 2, 0, 1);
	next(&w, 1);
	uint64_t first = w.batch.sequence;
	ask(&w, WIRE_RESOLVE_IN, reverse, 3, 9, 0, 1);
	next(&w, 1);
	uint64_t second = w.batch.sequence;
	struct wire_answer both[2] = {out, other};
	cr_assert_eq(answer(&w, first, both, 2, 5), 0); /* 6 evicts 5 */
	cr_assert_eq(flowtable_pairs(w.flows), 1);
	cr_assert_eq(answer(&w, second, &in, 1, 6), 0);
	cr_expect_not(open_entry(&w, &reverse, 6, 0, NULL));
	cr_expect_eq(counters(&w).asked_again, 1);
	cr_assert(next(&w, 6));
	cr_assert_eq(w.batch.n, 2);
	cr_expect_eq(w.batch.entries[0].op, WIRE_RELEASE);
	cr_expect_eq(w.batch.entries[0].handle, 5);
	cr_expect_eq(w.batch.entries[1].op, WIRE_RESOLVE_IN);
	/* Asked behind the release: this grant stands. */
	cr_assert_eq(answer(&w, w.batch.sequence, &in, 1, 7), 0);
	cr_expect(open_entry(&w, &reverse, 7, 0, NULL));
	end(&w);
}

Test(cache_sessions, evicts_nothing_that_it_could_not_report)
{
	struct world w;
	attach(&w, 2, 20); /* rounded to 32 */
	learn(&w, 1, 5, 1);
	for (unsigned i = 0; i < 7; i++) /* unconfirmed reports: 25 of 32 are left */
		notice(&w, WIRE_EXPIRE, outbound(40 + i), 900 + i, 10, true, 2);
	next(&w, 2);
	struct wire_answer a = translate(2, 6);
	ask(&w, WIRE_RESOLVE_OUT, outbound(2), 8, 2, 0, 3);
	cr_assert(next(&w, 3));
	answer(&w, w.batch.sequence - 1, NULL, 0, 4);
	uint64_t asked = w.batch.sequence;
	cr_assert_eq(answer(&w, asked, &a, 1, 4), 0);
	cr_expect_eq(flowtable_pairs(w.flows), 2, "the first answer confirmed the reports");
	for (unsigned i = 0; i < 8; i++)
		notice(&w, WIRE_EXPIRE, outbound(40 + i), 900 + i, 10, true, 5);
	a = translate(3, 7);
	ask(&w, WIRE_RESOLVE_OUT, outbound(3), 9, 3, 0, 5);
	next(&w, 5);
	next(&w, 5);
	w.log[0] = 0;
	answer(&w, w.batch.sequence - 1, NULL, 0, 6);
	for (unsigned i = 0; i < 8; i++)
		notice(&w, WIRE_EXPIRE, outbound(40 + i), 900 + i, 10, true, 6);
	cr_assert_eq(answer(&w, w.batch.sequence, &a, 1, 7), 0);
	cr_expect_str_eq(w.log, "9:1/none ", "the packet goes, the flow is not kept");
	struct nat_tuple tuple = outbound(3);
	cr_expect_not(open_entry(&w, &tuple, 7, 0, NULL));
	cr_expect_eq(counters(&w).evicted, 0);
	cr_expect_eq(counters(&w).cache_full, 1);
	end(&w);
}

static void learn_hairpin(struct world *w)
{
	struct wire_answer a = translate(1, 5);
	struct nat_tuple tuple = outbound(1);
	tuple.destination = htonl(0xc6336401); /* an external endpoint: of 10.0.0.9 */
	a.rewrite.destination = htonl(0x0a000009);
	a.rewrite.egress = 1;
	a.peer_handle = 6;
	ask(w, WIRE_RESOLVE_OUT, tuple, 1, 1, NAT_TCP_SYN, 1);
	next(w, 1);
	cr_assert_eq(answer(w, w->batch.sequence, &a, 1, 1), 0);
	cr_assert_eq(flowtable_pairs(w->flows), 1);
}

static struct nat_tuple hairpin_tuple(bool peer)
{
	struct nat_tuple tuple = outbound(1);
	struct wire_answer a = translate(1, 5);
	tuple.destination = htonl(0xc6336401);
	a.rewrite.destination = htonl(0x0a000009);
	a.rewrite.egress = 1;
	return peer ? nat_reverse_tuple(&tuple, &a.rewrite) : tuple;
}

Test(cache_sessions, releases_the_other_session_of_a_hairpinned_pair)
{
	for (unsigned peer = 0; peer < 2; peer++) {
		struct world w;
		attach(&w, 16, 0);
		learn_hairpin(&w);
		notice(&w, WIRE_INVALIDATE, hairpin_tuple(peer), peer ? 6 : 5, 0, true, 5);
		cr_assert(next(&w, 5));
		cr_assert_eq(w.batch.n, 1);
		cr_expect_eq(w.batch.entries[0].op, WIRE_RELEASE);
		cr_expect_eq(w.batch.entries[0].handle, peer ? 5 : 6);
		cr_expect_eq(w.batch.acknowledged, w.sequence);
		cr_expect_eq(flowtable_pairs(w.flows), 0);
		end(&w);
	}
}

Test(cache_sessions, reports_flags_of_a_hairpinned_pair_to_both_sessions)
{
	struct world w;
	attach(&w, 16, 0);
	learn_hairpin(&w);
	struct nat_tuple back = hairpin_tuple(true);
	cache_report_flags(w.cache, &back, NAT_TCP_SYN | NAT_TCP_ACK, at(5));
	cr_assert(next(&w, 5));
	cr_assert_eq(w.batch.n, 2);
	cr_expect_eq(w.batch.entries[0].handle, 6);
	cr_expect_eq(w.batch.entries[0].direction, NAT_OUTBOUND);
	cr_expect_eq(w.batch.entries[0].tcp_flags, NAT_TCP_SYN);
	cr_expect_eq(w.batch.entries[1].handle, 5);
	cr_expect_eq(w.batch.entries[1].direction, NAT_INBOUND);
	end(&w);
}
