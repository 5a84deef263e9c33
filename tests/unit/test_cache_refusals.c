/* SPDX-License-Identifier: Apache-2.0 */
/* What the cache keeps of refusals, and what it must not keep. */
#include <criterion/criterion.h>
#include "common/base/err.h"
#include "tests/support/cache_world.h"

Test(cache_refusals, keeps_a_negative_answer_for_its_time_and_no_longer)
{
	struct world w;
	attach(&w, 16, 0);
	struct wire_answer no = {
	    .verdict = NAT_DROP, .reason = NAT_REASON_NO_MAPPING, .ttl_ms = 60000};
	struct nat_tuple stranger = reverse_of(1), other = stranger;
	other.source = htonl(0x01020304); /* the endpoint counts, not who asks */

	ask(&w, WIRE_RESOLVE_IN, stranger, 1, 9, 0, 10);
	next(&w, 10);
	answer(&w, w.batch.sequence, &no, 1, 20);
	cr_expect_str_eq(w.log, "1:3/no_mapping ");
	cr_expect_eq(ask(&w, WIRE_RESOLVE_IN, other, 1, 9, 0, 1019), NAT_REASON_NO_MAPPING);
	cr_expect_eq(ask(&w, WIRE_RESOLVE_IN, other, 1, 9, 0, 1020), 0, "at most a second");
	end(&w);
}

Test(cache_refusals, forgets_a_negative_answer_when_the_table_says_so)
{
	struct world w;
	attach(&w, 16, 0);
	struct wire_answer no = {
	    .verdict = NAT_DROP, .reason = NAT_REASON_NO_MAPPING, .ttl_ms = 900};
	struct nat_tuple stranger = reverse_of(1);
	struct nat_tuple endpoint = {.destination = stranger.destination,
				     .destination_port = stranger.destination_port,
				     .protocol = stranger.protocol};

	ask(&w, WIRE_RESOLVE_IN, stranger, 1, 9, 0, 10);
	next(&w, 10);
	answer(&w, w.batch.sequence, &no, 1, 20);
	cr_expect_eq(ask(&w, WIRE_RESOLVE_IN, stranger, 1, 9, 0, 30), NAT_REASON_NO_MAPPING);
	cr_assert_eq(notice(&w, WIRE_INVALIDATE, endpoint, 0, 0, false, 40), 0);
	cr_expect_eq(ask(&w, WIRE_RESOLVE_IN, stranger, 1, 9, 0, 50), 0);
	end(&w);
}

Test(cache_refusals, never_keeps_what_a_filter_refused)
{
	struct world w;
	attach(&w, 16, 0);
	struct wire_answer no = {.verdict = NAT_DROP, .reason = NAT_REASON_FILTERED, .ttl_ms = 900};
	ask(&w, WIRE_RESOLVE_IN, reverse_of(1), 1, 9, 0, 10);
	next(&w, 10);
	answer(&w, w.batch.sequence, &no, 1, 20);
	cr_expect_str_eq(w.log, "1:3/filtered ");
	cr_expect_eq(ask(&w, WIRE_RESOLVE_IN, reverse_of(1), 1, 9, 0, 30), 0);
	end(&w);
}

Test(cache_refusals, installs_nothing_for_a_peek)
{
	struct world w;
	attach(&w, 16, 0);
	struct wire_answer a = translate(1, 5);
	ask(&w, WIRE_PEEK, outbound(1), 1, 1, 0, 10);
	next(&w, 10);
	answer(&w, w.batch.sequence, &a, 1, 20);
	cr_expect_str_eq(w.log, "1:1/none ");
	cr_expect_eq(flowtable_pairs(w.flows), 0);
	end(&w);
}

/* ---- refusals and what came after them */

/*
 * RFC 4787 REQ-11, hole punching: a packet that came after its question was sent is not refused by
 * the answer, which may be older than the session that lets it pass.
 */
Test(cache_refusals, a_refusal_is_not_for_packets_that_came_after_its_question)
{
	struct world w;
	attach(&w, 16, 0);
	struct wire_answer refused = {.verdict = NAT_DROP, .reason = NAT_REASON_FILTERED};
	struct wire_answer granted = translate(1, 5);

	granted.direction = NAT_INBOUND;
	struct nat_tuple forward = outbound(1);
	granted.rewrite = nat_reverse_rewrite(&forward);
	cr_assert_eq(ask(&w, WIRE_RESOLVE_IN, reverse_of(1), 1, 1, 0, 10), 0);
	cr_assert_eq(ask(&w, WIRE_RESOLVE_IN, reverse_of(1), 2, 1, 0, 10), 0);
	cr_assert(next(&w, 10));
	/* meanwhile another dataplane's outbound packet opened the filter, and this is the reply */
	cr_assert_eq(ask(&w, WIRE_RESOLVE_IN, reverse_of(1), 3, 1, 0, 11), 0);
	cr_expect_not(next(&w, 11), "one question at a time");
	cr_assert_eq(answer(&w, w.batch.sequence, &refused, 1, 20), 0);
	cr_expect_str_eq(w.log, "1:3/filtered 2:3/filtered ");
	cr_assert(next(&w, 20), "asked again for the third");
	cr_expect_eq(w.batch.n, 1);
	cr_expect_eq(counters(&w).asked_again, 1);
	cr_assert_eq(answer(&w, w.batch.sequence, &granted, 1, 30), 0);
	cr_expect_str_eq(w.log, "1:3/filtered 2:3/filtered 3:1/none ");
	cr_expect_eq(counters(&w).pending_flows, 0);
	end(&w);
}

/* What a host still sends of a connection that is gone must not take its new SYN along. */
Test(cache_refusals, a_refused_segment_does_not_take_a_syn_along)
{
	struct world w;
	attach(&w, 16, 0);
	struct wire_answer refused = {.verdict = NAT_DROP, .reason = NAT_REASON_TCP_OUT_OF_STATE};
	struct wire_answer granted = translate(1, 5);

	cr_assert_eq(ask(&w, WIRE_RESOLVE_OUT, outbound(1), 1, 1, NAT_TCP_ACK, 10), 0);
	cr_assert_eq(ask(&w, WIRE_RESOLVE_OUT, outbound(1), 2, 1, NAT_TCP_ACK, 10), 0);
	cr_assert_eq(ask(&w, WIRE_RESOLVE_OUT, outbound(1), 3, 1, NAT_TCP_SYN, 10), 0);
	cr_assert(next(&w, 10));
	cr_assert_eq(w.batch.entries[0].tcp_flags, NAT_TCP_ACK);
	cr_assert_eq(answer(&w, w.batch.sequence, &refused, 1, 20), 0);
	cr_expect_str_eq(w.log, "1:3/tcp_out_of_state 2:3/tcp_out_of_state ");
	cr_assert(next(&w, 20));
	cr_assert_eq(w.batch.entries[0].tcp_flags, NAT_TCP_SYN);
	cr_assert_eq(answer(&w, w.batch.sequence, &granted, 1, 30), 0);
	cr_expect_str_eq(w.log, "1:3/tcp_out_of_state 2:3/tcp_out_of_state 3:1/none ");
	end(&w);
}
