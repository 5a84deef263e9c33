/* SPDX-License-Identifier: Apache-2.0 */
/* TCP flags that the cache reports. */
#include <criterion/criterion.h>
#include "common/base/err.h"
#include "tests/support/cache_world.h"

Test(cache_flags, reports_each_flag_once_and_a_reopened_connection_again)
{
	struct world w;
	attach(&w, 16, 0);
	learn(&w, 1, 5, 1); /* with SYN */
	struct nat_tuple forward = outbound(1), reverse = reverse_of(1);

	packet(&w, &forward, NAT_TCP_SYN, 2);
	cr_expect_str_eq(flags_reported(&w, 2), "", "the question said so");
	packet(&w, &reverse, NAT_TCP_SYN | NAT_TCP_ACK, 3);
	cr_expect_str_eq(flags_reported(&w, 3), "1+2");
	packet(&w, &forward, NAT_TCP_ACK, 4);
	cr_expect_str_eq(flags_reported(&w, 4), "", "ACK means nothing to the table");
	packet(&w, &forward, NAT_TCP_FIN | NAT_TCP_ACK, 5);
	packet(&w, &forward, NAT_TCP_FIN | NAT_TCP_ACK, 5);
	cr_expect_str_eq(flags_reported(&w, 5), "0+1");
	packet(&w, &reverse, NAT_TCP_RST, 6);
	cr_expect_str_eq(flags_reported(&w, 6), "1+4");
	packet(&w, &forward, NAT_TCP_SYN, 7);
	cr_expect_str_eq(flags_reported(&w, 7), "0+2", "reopened");
	packet(&w, &reverse, NAT_TCP_SYN | NAT_TCP_ACK, 8);
	cr_expect_str_eq(flags_reported(&w, 8), "1+2");
	packet(&w, &reverse, NAT_TCP_FIN, 9);
	cr_expect_str_eq(flags_reported(&w, 9), "1+1", "and may end again");
	end(&w);
}

Test(cache_flags, sweeps_for_flags_that_a_full_ring_lost)
{
	struct world w;
	attach(&w, 16, 0);
	learn(&w, 1, 5, 1);
	struct nat_tuple reverse = reverse_of(1);
	open_entry(&w, &reverse, 2, NAT_TCP_RST, NULL); /* nobody calls cache_report_flags */
	cr_expect_str_eq(flags_reported(&w, 3), "");
	cache_tick(w.cache, at(200));
	cr_expect_str_eq(flags_reported(&w, 200), "1+4");
	cache_tick(w.cache, at(400));
	cr_expect_str_eq(flags_reported(&w, 400), "");
	end(&w);
}

Test(cache_flags, reports_flags_of_packets_that_coalesced_behind_the_question)
{
	struct world w;
	attach(&w, 16, 0);
	struct wire_answer a = translate(1, 5);
	ask(&w, WIRE_RESOLVE_OUT, outbound(1), 1, 1, NAT_TCP_SYN, 1);
	next(&w, 1);
	ask(&w, WIRE_RESOLVE_OUT, outbound(1), 2, 1, NAT_TCP_RST, 2);
	answer(&w, w.batch.sequence, &a, 1, 3);
	cr_expect_str_eq(flags_reported(&w, 3), "0+4");
	end(&w);
}

/* ---- RSTs */

/* RFC 7857 section 7.1: whether one hits or asks, an RST is no sign of life. */
Test(cache_flags, an_rst_refreshes_nothing)
{
	struct world w;
	attach(&w, 16, 0);
	learn(&w, 1, 5, 0);
	struct nat_tuple forward = outbound(1), reverse = reverse_of(1);
	cr_assert(open_entry(&w, &forward, 10, NAT_TCP_ACK, NULL));
	cr_assert(open_entry(&w, &forward, 90, NAT_TCP_RST, NULL));
	cr_assert(open_entry(&w, &reverse, 90, NAT_TCP_RST | NAT_TCP_ACK, NULL));
	notice(&w, WIRE_EXPIRE, outbound(1), 5, 95, true, 100);
	cr_assert(next(&w, 100));
	cr_expect_eq(w.batch.entries[0].op, WIRE_ACTIVE);
	cr_expect_eq(w.batch.entries[0].age_ms, 90, "the ACK, not the RSTs");
	cr_assert_eq(answer(&w, w.batch.sequence, NULL, 0, 100), 0);

	struct wire_answer a = translate(2, 6);
	cr_assert_eq(ask(&w, WIRE_RESOLVE_OUT, outbound(2), 1, 2, NAT_TCP_RST, 100), 0);
	cr_assert(next(&w, 100));
	cr_assert_eq(answer(&w, w.batch.sequence, &a, 1, 100), 0);
	notice(&w, WIRE_EXPIRE, outbound(2), 6, 50, true, 101);
	cr_assert(next(&w, 101));
	cr_expect_eq(w.batch.entries[0].op, WIRE_DROPPED, "it was brought here by an RST alone");
	end(&w);
}

/* The number of FLAGS reports of an RST that come of one that is seen at ms. */
static unsigned reset_at(struct world *w, int64_t ms)
{
	struct nat_tuple reverse = reverse_of(1);
	unsigned told = 0;
	uint8_t fresh;

	cr_assert(open_entry(w, &reverse, ms, NAT_TCP_RST, &fresh));
	if (fresh)
		cache_report_flags(w->cache, &reverse, fresh, at(ms));
	while (next(w, ms)) {
		for (unsigned i = 0; i < w->batch.n; i++)
			told += w->batch.entries[i].op == WIRE_FLAGS &&
				w->batch.entries[i].tcp_flags == NAT_TCP_RST;
		if (w->batch.n)
			cr_assert_eq(answer(w, w->batch.sequence, NULL, 0, ms), 0);
	}
	return told;
}

/* RFC 7857 section 2.2: the table takes an RST for void when packets go on; it hears of the next.
 */
Test(cache_flags, tells_of_an_rst_again_but_not_of_each)
{
	struct world w;
	attach(&w, 16, 0);
	learn(&w, 1, 5, 0);
	cache_tick(w.cache, at(1));
	cr_expect_eq(reset_at(&w, 10), 1);
	cr_expect_eq(reset_at(&w, 20), 0, "a flood of them is one report");
	cr_expect_eq(reset_at(&w, 30), 0);
	cache_tick(w.cache, at(300));
	cr_expect_eq(reset_at(&w, 310), 1);
	cr_expect_eq(reset_at(&w, 320), 0);
	end(&w);
}

/* A report says when its flag was seen, however long it had to wait. */
Test(cache_flags, flags_carry_the_age_of_the_packet)
{
	struct world w;
	attach(&w, 16, 0);
	learn(&w, 1, 5, 0);
	struct nat_tuple forward = outbound(1);
	cr_assert(
	    open_entry(&w, &forward, 40, NAT_TCP_FIN, NULL)); /* the ring is full: nobody told */
	cache_tick(w.cache, at(1000));
	cr_assert(next(&w, 1500));
	cr_assert_eq(w.batch.entries[0].op, WIRE_FLAGS);
	cr_expect_eq(w.batch.entries[0].tcp_flags, NAT_TCP_FIN);
	cr_expect_eq(w.batch.entries[0].age_ms, 1460);
	end(&w);
}
