/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cache against hand-made messages: each test plays the table. What both sides do to each other
 * under every disturbance is tests/sim's.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdio.h>
#include <string.h>

#include "common/base/err.h"
#include "dataplane/cache.h"

enum { LEASE = 1000, HEARTBEAT = 200, GRACE = 500, BASE = 100000 /* time 0 is "never" */ };

struct world {
	struct cache *cache;
	struct flowtable *flows;
	uint64_t seed, sequence;
	unsigned waits;
	int64_t valid_until;
	char log[512];	    /* what env.answered heard: "packet:verdict/reason " */
	bool parked_during; /* every delivery found its pair not open yet */
	struct wire_batch batch;
};

static struct monotime at(int64_t ms)
{
	return (struct monotime){(BASE + ms) * MS_NS};
}

static struct nat_tuple outbound(unsigned n)
{
	return (struct nat_tuple){.source = htonl(0x0a000001 + n),
				  .destination = htonl(0x08080808),
				  .source_port = htons(1000),
				  .destination_port = htons(80),
				  .protocol = NAT_TCP,
				  .realm = 1};
}

static struct wire_answer translate(unsigned n, uint64_t handle)
{
	return (struct wire_answer){
	    .rewrite = {.source = htonl(0xc6336401),
			.destination = htonl(0x08080808),
			.source_port = htons((uint16_t)(2000 + n)),
			.destination_port = htons(80)},
	    .handle = handle,
	    .peer_handle = handle,
	    .verdict = NAT_TRANSLATE,
	    .direction = NAT_OUTBOUND,
	};
}

static struct nat_tuple reverse_of(unsigned n)
{
	struct nat_tuple tuple = outbound(n);
	struct wire_answer answer = translate(n, 0);
	return nat_reverse_tuple(&tuple, &answer.rewrite);
}

static bool open_entry(struct world *w, const struct nat_tuple *tuple, int64_t ms, uint8_t flags,
		       uint8_t *fresh)
{
	struct nat_slot copy;
	uint8_t unused;
	return flowtable_hit(w->flows, tuple, (uint32_t)(BASE + ms), flags, &copy,
			     fresh ? fresh : &unused);
}

static void answered(void *context, struct engine_packet *packet, const struct wire_answer *answer,
		     struct monotime now)
{
	struct world *w = context;
	struct nat_tuple tuple = outbound(packet->data[1]);
	size_t used = strlen(w->log);
	snprintf(w->log + used, sizeof w->log - used, "%u:%u/%s ", packet->data[0], answer->verdict,
		 nat_reason_name(answer->reason));
	if (open_entry(w, &tuple, monotime_ms(now) - BASE, 0, NULL))
		w->parked_during = false;
}

static void wait_for_readers(void *context)
{
	((struct world *)context)->waits++;
}

static void valid_until(void *context, struct monotime until)
{
	((struct world *)context)->valid_until = monotime_ms(until) - BASE;
}

static void configured(void *context, const struct wire_config *config)
{
	(void)context, (void)config;
}

static void make(struct world *w, uint32_t capacity, uint32_t reports)
{
	*w = (struct world){.seed = 7, .parked_during = true};
	struct random_source random = random_seeded(&w->seed);
	struct cache_conf conf = {.name = "dp",
				  .pending_flows = 64,
				  .pending_packets = 64,
				  .packet_room = 64,
				  .reports = reports};
	struct cache_env env = {.context = w,
				.answered = answered,
				.wait_for_readers = wait_for_readers,
				.valid_until = valid_until,
				.configured = configured};
	cr_assert_eq(flowtable_new(capacity, &random, &w->flows), 0);
	cr_assert_eq(cache_new(&conf, &env, w->flows, &random, &w->cache), 0);
}

static void end(struct world *w)
{
	cache_free(w->cache);
	flowtable_free(w->flows);
}

static int welcome(struct world *w, uint64_t epoch, bool flush, uint64_t sequence, int64_t ms)
{
	struct wire_welcome welcome = {.version = WIRE_VERSION,
				       .epoch = epoch,
				       .lease_ms = LEASE,
				       .heartbeat_ms = HEARTBEAT,
				       .grace_ms = GRACE,
				       .batch_max = 8,
				       .inflight_max = 2,
				       .flush = flush,
				       .sequence = sequence};
	w->sequence = sequence;
	return cache_welcome(w->cache, &welcome, at(ms));
}

static void heartbeat(struct world *w, int64_t ms, bool draining)
{
	struct wire_heartbeat beat;
	cr_assert(cache_heartbeat_due(w->cache, &beat, at(ms)));
	struct wire_heartbeat_ack ack = {
	    .epoch = 1, .sent_ms = beat.sent_ms, .renewed = true, .draining = draining};
	cache_heartbeat_ack(w->cache, &ack, at(ms));
}

/* Attached at 0 with a lease, the greeting taken. */
static void attach(struct world *w, uint32_t capacity, uint32_t reports)
{
	make(w, capacity, reports);
	cr_assert_eq(welcome(w, 1, true, 0, 0), 0);
	heartbeat(w, 0, false);
	cr_assert(cache_next_batch(w->cache, &w->batch, at(0)));
	cr_assert_eq(w->batch.n, 0);
}

static unsigned ask(struct world *w, unsigned op, struct nat_tuple tuple, uint8_t number,
		    unsigned n, uint8_t flags, int64_t ms)
{
	uint8_t bytes[64] = {number, (uint8_t)n};
	struct engine_packet packet = {.data = bytes, .length = 40, .room = 64};
	return cache_ask(w->cache, op, &tuple, flags, &packet, at(ms));
}

static bool next(struct world *w, int64_t ms)
{
	return cache_next_batch(w->cache, &w->batch, at(ms));
}

static int answer(struct world *w, uint64_t batch, const struct wire_answer *answers, uint32_t n,
		  int64_t ms)
{
	struct wire_answer copy[8];
	if (n)
		memcpy(copy, answers, n * sizeof copy[0]);
	struct wire_message message = {.epoch = 1,
				       .sequence = ++w->sequence,
				       .request_sequence = batch,
				       .kind = WIRE_ANSWER,
				       .n = n,
				       .answers = copy};
	return cache_message(w->cache, &message, at(ms));
}

static int notice(struct world *w, uint8_t kind, struct nat_tuple tuple, uint64_t handle,
		  uint32_t idle_ms, bool inbound, int64_t ms)
{
	struct wire_notice what = {
	    .tuple = tuple, .handle = handle, .idle_ms = idle_ms, .inbound_refreshes = inbound};
	struct wire_message message = {
	    .epoch = 1, .sequence = ++w->sequence, .kind = kind, .n = 1, .notices = &what};
	return cache_message(w->cache, &message, at(ms));
}

/* Learns flow n with this handle at ms: asked, answered, open. */
static void learn(struct world *w, unsigned n, uint64_t handle, int64_t ms)
{
	struct wire_answer a = translate(n, handle);
	cr_assert_eq(ask(w, WIRE_RESOLVE_OUT, outbound(n), 1, n, NAT_TCP_SYN, ms), 0);
	cr_assert(next(w, ms));
	cr_assert_eq(w->batch.entries[w->batch.n - 1].op, WIRE_RESOLVE_OUT);
	cr_assert_eq(answer(w, w->batch.sequence, &a, 1, ms), 0);
	cr_assert(open_entry(w, &(struct nat_tuple){0}, ms, 0, NULL) == false);
	struct nat_tuple tuple = outbound(n);
	struct flow flow;
	cr_assert(flowtable_find(w->flows, &tuple, &flow));
	cr_assert_eq(flow.state, NAT_SLOT_OPEN);
	w->log[0] = 0;
}

static struct cache_counters counters(struct world *w)
{
	struct cache_counters c;
	cache_counters(w->cache, &c);
	return c;
}

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

Test(cache, leaves_a_newer_session_of_the_same_tuple_alone)
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

ParameterizedTestParameters(cache, expire)
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

ParameterizedTest(struct expire_row *row, cache, expire)
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

Test(cache, says_dropped_of_a_session_that_it_does_not_hold)
{
	struct world w;
	attach(&w, 16, 0);
	notice(&w, WIRE_EXPIRE, outbound(1), 5, 100, true, 10);
	cr_assert(next(&w, 10));
	cr_expect_eq(w.batch.entries[0].op, WIRE_DROPPED);
	cr_expect_eq(w.batch.entries[0].age_ms, UINT32_MAX, "not seen, as far as we know");
	end(&w);
}

Test(cache, releases_what_it_evicts_before_it_asks_again)
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

Test(cache, does_not_use_an_answer_that_its_own_release_overtook)
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

Test(cache, evicts_nothing_that_it_could_not_report)
{
	struct world w;
	attach(&w, 2, 10); /* rounded to 16 */
	learn(&w, 1, 5, 1);
	for (unsigned i = 0; i < 7; i++) /* unconfirmed reports: 9 of 16 are left */
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

Test(cache, releases_the_other_session_of_a_hairpinned_pair)
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

Test(cache, reports_flags_of_a_hairpinned_pair_to_both_sessions)
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

/* What the cache reports of flow 1 now: "direction+flags", "" for nothing. */
static const char *flags_reported(struct world *w, int64_t ms)
{
	static char text[64];
	text[0] = 0;
	if (!next(w, ms))
		return text;
	for (uint32_t i = 0; i < w->batch.n; i++) {
		size_t used = strlen(text);
		cr_expect_eq(w->batch.entries[i].op, WIRE_FLAGS);
		snprintf(text + used, sizeof text - used, "%s%u+%u", used ? " " : "",
			 w->batch.entries[i].direction, w->batch.entries[i].tcp_flags);
	}
	if (w->batch.n)
		answer(w, w->batch.sequence, NULL, 0, ms);
	return text;
}

static void packet(struct world *w, const struct nat_tuple *tuple, uint8_t flags, int64_t ms)
{
	uint8_t fresh;
	cr_assert(open_entry(w, tuple, ms, flags, &fresh));
	if (fresh)
		cache_report_flags(w->cache, tuple, fresh, at(ms));
}

Test(cache, reports_each_flag_once_and_a_reopened_connection_again)
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

Test(cache, sweeps_for_flags_that_a_full_ring_lost)
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

Test(cache, reports_flags_of_packets_that_coalesced_behind_the_question)
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

Test(cache, keeps_a_negative_answer_for_its_time_and_no_longer)
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

Test(cache, forgets_a_negative_answer_when_the_table_says_so)
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

Test(cache, never_keeps_what_a_filter_refused)
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

Test(cache, installs_nothing_for_a_peek)
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

/* ---- refusals and what came after them */

/*
 * RFC 4787 REQ-11, hole punching: a packet that came after its question was sent is not refused by
 * the answer, which may be older than the session that lets it pass.
 */
Test(cache, a_refusal_is_not_for_packets_that_came_after_its_question)
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
Test(cache, a_refused_segment_does_not_take_a_syn_along)
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
	cr_expect_str_eq(w.log,
			 "1:3/tcp_out_of_state 2:3/tcp_out_of_state 3:1/none ");
	end(&w);
}

/* ---- RSTs */

/* RFC 7857 section 7.1: whether one hits or asks, an RST is no sign of life. */
Test(cache, an_rst_refreshes_nothing)
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

/* RFC 7857 section 2.2: the table takes an RST for void when packets go on; it hears of the next. */
Test(cache, tells_of_an_rst_again_but_not_of_each)
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
Test(cache, flags_carry_the_age_of_the_packet)
{
	struct world w;
	attach(&w, 16, 0);
	learn(&w, 1, 5, 0);
	struct nat_tuple forward = outbound(1);
	cr_assert(open_entry(&w, &forward, 40, NAT_TCP_FIN, NULL)); /* the ring is full: nobody told */
	cache_tick(w.cache, at(1000));
	cr_assert(next(&w, 1500));
	cr_assert_eq(w.batch.entries[0].op, WIRE_FLAGS);
	cr_expect_eq(w.batch.entries[0].tcp_flags, NAT_TCP_FIN);
	cr_expect_eq(w.batch.entries[0].age_ms, 1460);
	end(&w);
}
