/* SPDX-License-Identifier: Apache-2.0 */
/* The cache between the engine's datagrams and the table. */
#include <criterion/criterion.h>
#include "common/base/err.h"
#include "tests/support/cache_world.h"

struct heard { /* by the engine */
	unsigned n, notices;
	uint64_t datagram[16];
	struct wire_answer answer[16];
};

static struct heard heard;

static void on_answer(void *context, uint64_t datagram, const struct wire_answer *given,
		      struct monotime now)
{
	(void)context, (void)now;
	heard.datagram[heard.n] = datagram;
	heard.answer[heard.n++] = *given;
}

static void on_notice(void *context, const struct wire_notice *told, struct monotime now)
{
	(void)context, (void)now;
	cr_expect_eq(told->new_identification, 99);
	heard.notices++;
}

static void start(struct world *w, uint32_t inquiries)
{
	struct random_source random;
	struct cache_conf conf = {.name = "dp",
				  .pending_flows = 8,
				  .pending_packets = 8,
				  .packet_room = 64,
				  .inquiries = inquiries};
	struct cache_env env = {.context = w,
				.answered = answered,
				.fragment_answered = on_answer,
				.fragment_notice = on_notice,
				.wait_for_readers = wait_for_readers,
				.valid_until = valid_until,
				.configured = configured};

	memset(&heard, 0, sizeof heard);
	*w = (struct world){.seed = 7};
	random = random_seeded(&w->seed);
	cr_assert_eq(flowtable_new(16, &random, &w->flows), 0);
	cr_assert_eq(cache_new(&conf, &env, w->flows, &random, &w->cache), 0);
	cr_assert_eq(welcome(w, 1, true, 0, 0), 0);
	heartbeat(w, 0, false);
	cr_assert(next(w, 0));
}

static unsigned ask_fragment(struct world *w, unsigned op, uint64_t datagram, int64_t ms)
{
	struct nat_tuple tuple = outbound(1);
	return cache_ask_fragment(w->cache, op, &tuple, 77, datagram, at(ms));
}

Test(cache_fragments, questions_stand_behind_those_about_flows_and_answers_find_their_way)
{
	struct world w;
	start(&w, 0);
	struct wire_answer answers[3] = {
	    translate(1, 5),
	    {.verdict = NAT_TRANSLATE, .identification = 11},
	    {.verdict = NAT_DROP, .reason = NAT_REASON_FRAGMENT_UNKNOWN}};

	cr_assert_eq(ask_fragment(&w, WIRE_FRAGMENT_FIRST, 101, 1), 0);
	cr_assert_eq(ask(&w, WIRE_RESOLVE_OUT, outbound(1), 1, 1, NAT_TCP_SYN, 1), 0);
	cr_assert_eq(ask_fragment(&w, WIRE_FRAGMENT_LATER, 102, 1), 0);
	cr_expect_eq(cache_waiting(w.cache), 3);
	cr_assert(next(&w, 1));
	cr_assert_eq(w.batch.n, 3);
	cr_expect_eq(w.batch.entries[0].op, WIRE_RESOLVE_OUT);
	cr_expect_eq(w.batch.entries[1].op, WIRE_FRAGMENT_FIRST);
	cr_expect_eq(w.batch.entries[1].identification, 77);
	cr_expect_eq(w.batch.entries[2].op, WIRE_FRAGMENT_LATER);
	cr_assert_eq(answer(&w, w.batch.sequence, answers, 3, 2), 0);
	cr_assert_eq(heard.n, 2);
	cr_expect_eq(heard.datagram[0], 101);
	cr_expect_eq(heard.answer[0].identification, 11);
	cr_expect_eq(heard.datagram[1], 102);
	cr_expect_eq(heard.answer[1].reason, NAT_REASON_FRAGMENT_UNKNOWN);
	cr_expect_str_eq(w.log, "1:1/none ");
	cr_expect_eq(cache_waiting(w.cache), 0);
	cr_expect_eq(counters(&w).fragments_asked, 2);
	cr_expect_eq(counters(&w).asked, 1);
	end(&w);
}

/* Only told, not asked: nobody waits for the answer. */
Test(cache_fragments, what_nobody_waits_for_is_told_silently)
{
	struct world w;
	start(&w, 0);
	struct wire_answer a = {.verdict = NAT_TRANSLATE, .identification = 11};

	ask_fragment(&w, WIRE_FRAGMENT_FIRST, 0, 1);
	cr_assert(next(&w, 1));
	cr_assert_eq(answer(&w, w.batch.sequence, &a, 1, 2), 0);
	cr_expect_eq(heard.n, 0);
	cr_expect_eq(counters(&w).fragments_answered, 1);
	end(&w);
}

Test(cache_fragments, a_question_that_nobody_answers_ends_in_time)
{
	struct world w;
	start(&w, 0);
	static struct wire_config config;
	config = (struct wire_config){.fragment_timeout_ms = 600,
				      .pending_timeout_ms = 2000,
				      .pending_packets = 8,
				      .pending_per_flow = 8};
	struct wire_answer late = {.verdict = NAT_TRANSLATE};

	cache_config(w.cache, &config, at(0));
	ask_fragment(&w, WIRE_FRAGMENT_FIRST, 101, 10);
	cr_assert(next(&w, 10));
	cr_expect_leq(monotime_ms(cache_next_tick(w.cache, at(10))), BASE + 310);
	cache_tick(w.cache, at(309));
	cr_expect_eq(heard.n, 0);
	cache_tick(w.cache, at(310));
	cr_assert_eq(heard.n, 1, "half a fragment's timeout: it can still leave without");
	cr_expect_eq(heard.answer[0].verdict, NAT_DROP);
	cr_expect_eq(heard.answer[0].reason, NAT_REASON_PENDING_TIMEOUT);
	cr_assert_eq(answer(&w, w.batch.sequence, &late, 1, 320), 0);
	cr_expect_eq(heard.n, 1);
	cr_expect_eq(counters(&w).fragments_unanswered, 1);
	cr_expect_eq(counters(&w).stale_answers, 1);
	end(&w);
}

Test(cache_fragments, questions_are_asked_again_after_a_reconnect)
{
	struct world w;
	start(&w, 0);
	struct wire_answer answers[2] = {{.verdict = NAT_TRANSLATE, .identification = 1},
					 {.verdict = NAT_TRANSLATE, .identification = 2}};

	ask_fragment(&w, WIRE_FRAGMENT_FIRST, 101, 1);
	ask_fragment(&w, WIRE_FRAGMENT_WHOLE, 102, 1);
	cr_assert(next(&w, 1));
	cr_assert_eq(w.batch.n, 2);
	cache_disconnected(w.cache, at(2));
	cr_assert_eq(welcome(&w, 1, false, 0, 3), 0);
	cr_assert(next(&w, 3));
	cr_assert_eq(w.batch.n, 2, "both, in their order");
	cr_expect_eq(w.batch.entries[0].op, WIRE_FRAGMENT_FIRST);
	cr_expect_eq(w.batch.entries[1].op, WIRE_FRAGMENT_WHOLE);
	cr_assert_eq(answer(&w, w.batch.sequence, answers, 2, 4), 0);
	cr_expect_eq(heard.n, 2);
	cr_expect_eq(heard.datagram[1], 102);
	end(&w);
}

/* U5: bounded; and without a table nobody waits: the engine goes on alone at once. */
Test(cache_fragments, refuses_when_full_and_when_there_is_no_table)
{
	struct world w;
	start(&w, 2);

	cr_expect_eq(ask_fragment(&w, WIRE_FRAGMENT_FIRST, 1, 1), 0);
	cr_expect_eq(ask_fragment(&w, WIRE_FRAGMENT_FIRST, 2, 1), 0);
	cr_expect_eq(ask_fragment(&w, WIRE_FRAGMENT_FIRST, 3, 1), NAT_REASON_PENDING_FULL);
	cache_disconnected(w.cache, at(2));
	cr_expect_eq(cache_state(w.cache, at(LEASE + 10)), CACHE_GRACE);
	cr_expect_eq(ask_fragment(&w, WIRE_FRAGMENT_FIRST, 4, LEASE + 10), NAT_REASON_NO_TABLE);
	end(&w);
}

Test(cache_fragments, notices_are_handed_on_in_the_tables_order)
{
	struct world w;
	start(&w, 0);
	struct wire_notice told = {
	    .tuple = outbound(1), .identification = 77, .new_identification = 99};
	struct wire_message message = {
	    .epoch = 1, .sequence = 2, .kind = WIRE_FRAGMENTS, .n = 1, .notices = &told};

	cr_expect_eq(cache_message(w.cache, &message, at(1)), ERR_MALFORMED, "out of sequence");
	message.sequence = 1;
	cr_expect_eq(cache_message(w.cache, &message, at(1)), 0);
	cr_expect_eq(heard.notices, 1);
	cr_expect_eq(counters(&w).fragments_told, 1);
	end(&w);
}
