/* SPDX-License-Identifier: Apache-2.0 */
/* The cache towards the table: questions, lease, batches, reconnects; see cache_world.h. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include "common/base/err.h"
#include "tests/support/cache_world.h"

Test(cache, hands_parked_packets_over_in_order_and_then_opens)
{
	struct world w;
	attach(&w, 16, 0);
	struct wire_answer a = translate(1, 5);

	for (uint8_t i = 1; i <= 3; i++)
		cr_assert_eq(ask(&w, WIRE_RESOLVE_OUT, outbound(1), i, 1, NAT_TCP_SYN, 10), 0);
	cr_assert(next(&w, 10));
	cr_expect_eq(w.batch.n, 1, "coalesced");
	cr_expect_not(next(&w, 10));
	cr_assert_eq(answer(&w, w.batch.sequence, &a, 1, 20), 0);
	cr_expect_str_eq(w.log, "1:1/none 2:1/none 3:1/none ");
	cr_expect(w.parked_during);
	struct nat_tuple forward = outbound(1), reverse = reverse_of(1);
	cr_expect(open_entry(&w, &forward, 21, 0, NULL));
	cr_expect(open_entry(&w, &reverse, 21, 0, NULL));
	cr_expect_eq(counters(&w).coalesced, 2);
	end(&w);
}

Test(cache, asks_only_with_a_lease_and_refuses_without_a_table)
{
	struct world w;
	make(&w, 16, 0);

	cr_expect_eq(ask(&w, WIRE_RESOLVE_OUT, outbound(1), 1, 1, 0, 0), NAT_REASON_NO_TABLE);
	welcome(&w, 1, true, 0, 0);
	cr_expect_eq(ask(&w, WIRE_RESOLVE_OUT, outbound(1), 1, 1, 0, 1), 0, "it parks");
	cr_assert(next(&w, 1), "the greeting");
	cr_expect_eq(w.batch.n, 0);
	cr_expect_not(next(&w, 1), "but asks nothing");
	heartbeat(&w, 2, false);
	cr_expect_eq(w.valid_until, 2 + LEASE + GRACE);
	cr_assert(next(&w, 3));
	cr_expect_eq(w.batch.n, 1);
	end(&w);
}

Test(cache, goes_on_in_grace_and_refuses_new_flows_after_their_deadline)
{
	struct world w;
	attach(&w, 16, 0);
	learn(&w, 1, 5, 10);
	cache_disconnected(w.cache, at(100));
	cr_expect_eq(cache_state(w.cache, at(100)), CACHE_GRACE);
	cr_expect_eq(ask(&w, WIRE_RESOLVE_OUT, outbound(2), 7, 2, 0, 100), 0);
	cr_expect_not(next(&w, 100));
	cache_tick(w.cache, at(100 + 1000));
	cr_expect_str_eq(w.log, "7:3/no_table ");
	struct nat_tuple tuple = outbound(1);
	cr_expect(open_entry(&w, &tuple, 1100, 0, NULL));
	cr_expect_eq(cache_state(w.cache, at(LEASE + GRACE)), CACHE_LEASE_OVER);
	cr_expect_eq(ask(&w, WIRE_RESOLVE_OUT, outbound(2), 7, 2, 0, LEASE + GRACE),
		     NAT_REASON_LEASE_OVER);
	end(&w);
}

Test(cache, draining_asks_on_for_the_service_knows_what_exists)
{
	struct world w;
	attach(&w, 16, 0);
	heartbeat(&w, 200, true);
	cr_expect(cache_draining(w.cache));
	cr_expect_eq(ask(&w, WIRE_RESOLVE_OUT, outbound(1), 1, 1, NAT_TCP_SYN, 201), 0);
	cr_expect_eq(ask(&w, WIRE_RESOLVE_OUT, outbound(1), 1, 1, NAT_TCP_ACK, 201), 0);
	cr_expect_eq(ask(&w, WIRE_PEEK, outbound(2), 1, 1, 0, 201), 0);
	end(&w);
}

Test(cache, keeps_batches_within_size_and_credits)
{
	struct world w;
	attach(&w, 64, 0);
	struct wire_answer a[8];
	uint64_t first;

	for (unsigned i = 0; i < 20; i++)
		cr_assert_eq(ask(&w, WIRE_RESOLVE_OUT, outbound(i), 1, i, 0, 1), 0);
	cr_assert(next(&w, 1));
	first = w.batch.sequence;
	cr_expect_eq(w.batch.n, 8);
	cr_assert(next(&w, 1));
	cr_expect_eq(w.batch.n, 8);
	cr_expect_not(next(&w, 1), "two in flight are all");
	for (unsigned i = 0; i < 8; i++)
		a[i] = translate(i, 100 + i);
	cr_assert_eq(answer(&w, first, a, 8, 2), 0);
	cr_assert(next(&w, 2));
	cr_expect_eq(w.batch.n, 4);
	end(&w);
}

Test(cache, removes_and_waits_for_readers_before_it_acknowledges)
{
	struct world w;
	attach(&w, 16, 0);
	learn(&w, 1, 5, 10);
	unsigned waits = w.waits;
	struct nat_tuple forward = outbound(1), reverse = reverse_of(1);

	cr_assert_eq(notice(&w, WIRE_INVALIDATE, outbound(1), 5, 0, true, 20), 0);
	cr_expect_not(open_entry(&w, &forward, 20, 0, NULL));
	cr_expect_not(open_entry(&w, &reverse, 20, 0, NULL));
	cr_assert(next(&w, 20), "at once: a fence waits for it");
	cr_expect_eq(w.batch.n, 0);
	cr_expect_eq(w.batch.acknowledged, w.sequence);
	cr_expect_eq(w.waits, waits + 1);
	cr_expect_not(next(&w, 20));
	end(&w);
}

Test(cache, discards_an_answer_older_than_a_lease_and_asks_again)
{
	struct world w;
	attach(&w, 16, 0);
	struct wire_config config = {
	    .pending_timeout_ms = 5000, .pending_packets = 64, .pending_per_flow = 8};
	struct wire_answer a = translate(1, 5);
	cache_config(w.cache, &config, at(0));
	ask(&w, WIRE_RESOLVE_OUT, outbound(1), 1, 1, 0, 10);
	next(&w, 10);
	heartbeat(&w, 900, false);
	answer(&w, w.batch.sequence, &a, 1, 10 + LEASE + 1);
	cr_expect_eq(flowtable_pairs(w.flows), 0);
	cr_expect_eq(counters(&w).stale_answers, 1);
	cr_expect_str_eq(w.log, "");
	cr_assert(next(&w, 10 + LEASE + 1));
	cr_expect_eq(w.batch.n, 1);
	answer(&w, w.batch.sequence, &a, 1, 10 + LEASE + 2);
	cr_expect_eq(flowtable_pairs(w.flows), 1);
	end(&w);
}

Test(cache, sends_questions_and_unconfirmed_reports_again_after_a_reconnect)
{
	struct world w;
	attach(&w, 16, 0);
	learn(&w, 1, 5, 1);
	struct nat_tuple forward = outbound(1);
	packet(&w, &forward, NAT_TCP_FIN, 5);
	ask(&w, WIRE_RESOLVE_OUT, outbound(2), 1, 2, 0, 5);
	cr_assert(next(&w, 5));
	cr_expect_eq(w.batch.n, 2);
	uint64_t lost = w.batch.sequence;
	cache_disconnected(w.cache, at(10));
	cr_assert_eq(welcome(&w, 1, false, w.sequence, 20), 0);
	cr_expect(open_entry(&w, &forward, 20, 0, NULL), "not flushed");
	cr_assert(next(&w, 20));
	cr_assert_eq(w.batch.n, 2);
	cr_expect_gt(w.batch.sequence, lost);
	cr_expect_eq(w.batch.entries[0].op, WIRE_FLAGS);
	cr_expect_eq(w.batch.entries[1].op, WIRE_RESOLVE_OUT);
	/* The table says again what it said to the old batch: no harm. */
	struct wire_answer a = translate(2, 6);
	cr_assert_eq(answer(&w, lost, &a, 1, 25), 0);
	cr_expect_eq(flowtable_pairs(w.flows), 1);
	cr_assert_eq(answer(&w, w.batch.sequence, &a, 1, 26), 0);
	cr_expect_eq(flowtable_pairs(w.flows), 2);
	end(&w);
}

struct welcome_row {
	char name[48];
	uint64_t epoch;
	bool flush;
	int sequence; /* relative to what was applied */
	int result;
	uint32_t pairs;
};

ParameterizedTestParameters(cache, welcomes)
{
	static struct welcome_row rows[] = {
	    {"goes on", 1, false, 0, 0, 1},
	    {"flush", 1, true, 0, 0, 0},
	    {"it lost messages", 1, false, 1, 0, 0},
	    {"it is behind", 1, false, -1, 0, 0},
	    {"a newer epoch that goes on", 2, false, 0, 0, 1},
	    {"a newer epoch, flush", 2, true, -1, 0, 0},
	    {"an older epoch", 0, false, 0, ERR_STALE, 1},
	};
	return cr_make_param_array(struct welcome_row, rows, sizeof rows / sizeof rows[0]);
}

ParameterizedTest(struct welcome_row *row, cache, welcomes)
{
	struct world w;
	attach(&w, 16, 0);
	learn(&w, 1, 5, 1);
	cache_disconnected(w.cache, at(10));
	unsigned waits = w.waits;
	uint64_t sequence = w.sequence + (uint64_t)(int64_t)row->sequence;
	cr_expect_eq(welcome(&w, row->epoch, row->flush, sequence, 20), row->result, "%s",
		     row->name);
	cr_expect_eq(flowtable_pairs(w.flows), row->pairs, "%s", row->name);
	cr_expect_eq(w.waits - waits, row->pairs == 0, "%s", row->name);
	struct wire_hello hello;
	cache_hello(w.cache, &hello);
	cr_expect_eq(hello.epoch, row->epoch ? row->epoch : 1, "%s", row->name);
	end(&w);
}

Test(cache, flushes_when_the_table_says_so_and_acknowledges_after)
{
	struct world w;
	attach(&w, 16, 0);
	learn(&w, 1, 5, 1);
	struct wire_message flush = {.epoch = 1, .sequence = ++w.sequence, .kind = WIRE_FLUSH};
	unsigned waits = w.waits;
	cr_assert_eq(cache_message(w.cache, &flush, at(10)), 0);
	cr_expect_eq(flowtable_pairs(w.flows), 0);
	cr_assert(next(&w, 10));
	cr_expect_eq(w.batch.acknowledged, flush.sequence);
	cr_expect_eq(w.waits, waits + 1);
	end(&w);
}

struct bad_row {
	char name[48];
	uint64_t epoch;
	int sequence; /* relative to the expected one */
	uint8_t kind;
	int request; /* relative to the batch in flight */
	uint32_t n;
	uint8_t verdict, direction;
	int result;
};

ParameterizedTestParameters(cache, refuses_messages)
{
	static struct bad_row rows[] = {
	    {"good", 1, 0, WIRE_ANSWER, 0, 1, NAT_TRANSLATE, 0, 0},
	    {"older epoch", 0, 0, WIRE_ANSWER, 0, 1, NAT_TRANSLATE, 0, ERR_STALE},
	    {"unannounced epoch", 2, 0, WIRE_ANSWER, 0, 1, NAT_TRANSLATE, 0, ERR_MALFORMED},
	    {"seen before", 1, -1, WIRE_ANSWER, 0, 1, NAT_TRANSLATE, 0, ERR_STALE},
	    {"gap", 1, 1, WIRE_ANSWER, 0, 1, NAT_TRANSLATE, 0, ERR_MALFORMED},
	    {"kind 0", 1, 0, 0, 0, 1, NAT_TRANSLATE, 0, ERR_MALFORMED},
	    {"kind reserved", 1, 0, WIRE_UPDATE, 0, 1, NAT_TRANSLATE, 0, ERR_MALFORMED},
	    {"too few answers", 1, 0, WIRE_ANSWER, 0, 0, NAT_TRANSLATE, 0, ERR_MALFORMED},
	    {"too many answers", 1, 0, WIRE_ANSWER, 0, 2, NAT_TRANSLATE, 0, ERR_MALFORMED},
	    {"far too many", 1, 0, WIRE_ANSWER, 0, 100000, NAT_TRANSLATE, 0, ERR_MALFORMED},
	    {"a batch never sent", 1, 0, WIRE_ANSWER, 1, 1, NAT_TRANSLATE, 0, ERR_MALFORMED},
	    {"verdict 0", 1, 0, WIRE_ANSWER, 0, 1, 0, 0, ERR_MALFORMED},
	    {"verdict 5", 1, 0, WIRE_ANSWER, 0, 1, 5, 0, ERR_MALFORMED},
	    {"direction 2", 1, 0, WIRE_ANSWER, 0, 1, NAT_TRANSLATE, 2, ERR_MALFORMED},
	    {"no notices", 1, 0, WIRE_INVALIDATE, 0, 1, 0, 0, ERR_MALFORMED},
	};
	return cr_make_param_array(struct bad_row, rows, sizeof rows / sizeof rows[0]);
}

ParameterizedTest(struct bad_row *row, cache, refuses_messages)
{
	struct world w;
	attach(&w, 16, 0);
	learn(&w, 1, 5, 1);
	ask(&w, WIRE_RESOLVE_OUT, outbound(2), 1, 2, 0, 5);
	cr_assert(next(&w, 5));
	struct wire_answer a[2] = {translate(2, 6), translate(2, 6)};
	a[0].verdict = row->verdict;
	a[0].direction = row->direction;
	struct wire_message message = {
	    .epoch = row->epoch,
	    .sequence = w.sequence + 1 + (uint64_t)(int64_t)row->sequence,
	    .request_sequence = w.batch.sequence + (uint64_t)(int64_t)row->request,
	    .kind = row->kind,
	    .n = row->n,
	    .answers = a,
	};
	struct cache_counters before = counters(&w);
	cr_expect_eq(cache_message(w.cache, &message, at(6)), row->result, "%s", row->name);
	struct cache_counters after = counters(&w);
	cr_expect_eq(after.stale_messages - before.stale_messages, row->result == ERR_STALE);
	cr_expect_eq(after.malformed_messages - before.malformed_messages,
		     row->result == ERR_MALFORMED);
	cr_expect_eq(flowtable_pairs(w.flows), 1 + (row->result == 0), "%s", row->name);
	end(&w);
}
