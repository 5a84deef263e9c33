/* SPDX-License-Identifier: Apache-2.0 */
/* How sessions end: timers, holders, fences, dataplanes that come and go, statics, reloads. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <arpa/inet.h>
#include <string.h>

#include "tests/support/table_rig.h"

static struct rig rig;
static uint32_t dp;
static struct nat_tuple udp, tcp;

static void start(void)
{
	rig_config(&rig);
	rig_start(&rig);
	dp = rig_attach(&rig, 1);
	udp = tuple_of(NAT_UDP, 1, "10.0.0.1", 5000, "198.51.100.1", 80);
	tcp = tuple_of(NAT_TCP, 1, "10.0.0.1", 5000, "198.51.100.1", 80);
}

static void stop(void)
{
	rig_stop(&rig);
}

TestSuite(table_life, .init = start, .fini = stop);

static void restart(void)
{
	rig_stop(&rig);
	rig.seed = 1;
	rig_start(&rig);
	dp = rig_attach(&rig, 1);
}

/* Lets time pass until the table asks about something, at most ms; how long it took. */
static int64_t until_asked(int64_t ms)
{
	for (int64_t passed = 0; passed < ms; passed += 500) {
		rig_pass(&rig, 500, 1);
		rig_collect(&rig, dp);
		rig_heartbeat(&rig, dp, true);
		if (rig.n_notices)
			return passed + 500;
	}
	return -1;
}

struct timer_row {
	char name[32];
	unsigned protocol, port, ms;
	uint8_t out, in, out2; /* TCP flags reported after the SYN: out, in, out */
};

ParameterizedTestParameters(timers, ask_when_they_are_over_and_not_before)
{
	static struct timer_row rows[] = {
	    {"UDP", NAT_UDP, 80, 300000, 0, 0, 0},
	    {"DNS", NAT_UDP, 53, 30000, 0, 0, 0},
	    {"ICMP query", NAT_ICMP, 0, 60000, 0, 0, 0},
	    {"TCP, half open", NAT_TCP, 80, 240000, 0, 0, 0},
	    {"TCP, established", NAT_TCP, 80, 7440000, 0, NAT_TCP_SYN | NAT_TCP_ACK, 0},
	    {"TCP, half closed", NAT_TCP, 80, 7440000, 0, NAT_TCP_SYN, NAT_TCP_FIN},
	    {"TCP, closed by both", NAT_TCP, 80, 240000, NAT_TCP_FIN, NAT_TCP_SYN | NAT_TCP_FIN, 0},
	    {"TCP, reset", NAT_TCP, 80, 240000, 0, NAT_TCP_SYN, NAT_TCP_RST},
	    {"TCP, reset from outside", NAT_TCP, 80, 240000, 0, NAT_TCP_RST, 0},
	};
	return cr_make_param_array(struct timer_row, rows, sizeof rows / sizeof rows[0]);
}

ParameterizedTest(struct timer_row *row, timers, ask_when_they_are_over_and_not_before)
{
	start();
	struct nat_tuple t =
	    tuple_of(row->protocol, 1, "10.0.0.1", 5000, "198.51.100.1", row->port);
	struct wire_answer a = rig_out(&rig, dp, t);
	if (row->out)
		rig_report(&rig, dp, WIRE_FLAGS, a.handle, 0, row->out, NAT_OUTBOUND);
	if (row->in)
		rig_report(&rig, dp, WIRE_FLAGS, a.handle, 0, row->in, NAT_INBOUND);
	if (row->out2)
		rig_report(&rig, dp, WIRE_FLAGS, a.handle, 0, row->out2, NAT_OUTBOUND);
	rig_collect(&rig, dp);
	int64_t asked = until_asked(row->ms + 5000);
	cr_expect_geq(asked, row->ms, "%s: asked after %lld ms", row->name, (long long)asked);
	cr_assert_eq(rig.kinds[0], WIRE_EXPIRE);
	cr_expect_eq(rig.notices[0].handle, a.handle);
	cr_expect_eq(rig.notices[0].idle_ms, row->ms);
	rig_report(&rig, dp, WIRE_DROPPED, a.handle, UINT32_MAX, 0, 0);
	cr_expect_eq(rig_counters(&rig).sessions, 0, "dropped by all: ended, and clean at once");
	/* RFC 7857 section 11: the mapping goes with its last session */
	cr_expect_eq(rig_counters(&rig).mappings, 0);
	stop();
}

Test(table_life, an_active_session_is_asked_again_when_what_is_left_is_over)
{
	struct wire_answer a = rig_out(&rig, dp, udp);
	rig_collect(&rig, dp);
	cr_expect_geq(until_asked(310000), 300000);
	rig_report(&rig, dp, WIRE_ACTIVE, a.handle, 100000, 0, 0);
	rig_collect(&rig, dp);
	int64_t again = until_asked(310000);
	cr_expect(again >= 199000 && again <= 202000, "%lld", (long long)again);
}

Test(table_life, dropped_by_all_a_moment_early_it_ends_when_its_time_is_over)
{
	struct wire_answer a = rig_out(&rig, dp, udp);
	rig_collect(&rig, dp);
	cr_expect_geq(until_asked(310000), 300000);
	/* seen a little later than the table thought: not over yet, and nobody is left to ask */
	rig_report(&rig, dp, WIRE_DROPPED, a.handle, 299800, 0, 0);
	cr_expect_eq(rig_counters(&rig).sessions, 1);
	rig_pass(&rig, 1000, 1);
	cr_expect_eq(rig_counters(&rig).sessions, 0, "not a lease later");
}

Test(table_life, a_question_without_reply_is_asked_again)
{
	rig_out(&rig, dp, udp);
	cr_expect_geq(until_asked(310000), 300000);
	int64_t again = until_asked(20000);
	cr_expect(again >= 9000 && again <= 12000, "after one lease: %lld", (long long)again);
	cr_expect_eq(rig_counters(&rig).sessions, 1);
}

Test(table_life, a_released_session_ends_by_its_timer_alone)
{
	struct wire_answer a = rig_out(&rig, dp, udp);
	rig_pass(&rig, 100000, 1);
	rig_report(&rig, dp, WIRE_RELEASE, a.handle, 40000, 0, 0);
	rig_pass(&rig, 258000, 1);
	cr_expect_eq(rig_counters(&rig).sessions, 1, "seen 40 s before the release");
	rig_pass(&rig, 4000, 1);
	cr_expect_eq(rig_counters(&rig).sessions, 0);
}

Test(table_life, an_ended_endpoint_is_fenced_until_its_holders_acknowledge)
{
	uint32_t other = rig_attach(&rig, 2);
	struct wire_answer a = rig_out(&rig, dp, udp);
	rig_in(&rig, other, rig_reverse(udp, &a));
	uint64_t m, s;
	table_delete(rig.table, &(struct table_filter){.subscriber = udp.source}, rig.now, &m, &s);
	cr_expect_eq(rig_counters(&rig).fenced, 1);
	cr_expect_eq(rig_counters(&rig).mappings, 1, "its port is not free");
	rig_collect(&rig, dp);
	rig_heartbeat(&rig, dp, true);
	cr_expect_eq(rig_counters(&rig).fenced, 1, "one holder is left");
	rig_collect(&rig, other);
	cr_expect_eq(rig_counters(&rig).fenced, 1, "told, but not acknowledged");
	rig_heartbeat(&rig, other, true);
	cr_expect_eq(rig_counters(&rig).fenced, 0);
	cr_expect_eq(rig_counters(&rig).mappings, 0);
}

Test(table_life, a_lost_holder_fences_until_lease_grace_and_margin_are_over)
{
	uint32_t other = rig_attach(&rig, 2);
	rig_out(&rig, dp, udp);
	uint64_t m, s;
	table_delete(rig.table, &(struct table_filter){.subscriber = udp.source}, rig.now, &m, &s);
	rig_pass(&rig, 310000, 1u << other); /* dp is silent */
	cr_expect_eq(rig_counters(&rig).fenced, 1, "lease 10 s + grace 300 s + margin 1 s");
	rig_pass(&rig, 2000, 1u << other);
	cr_expect_eq(rig_counters(&rig).fenced, 0);
	cr_expect_eq(rig_counters(&rig).dataplanes, 1);
	cr_expect_not(rig_heartbeat(&rig, dp, true), "it is not known any more");
}

Test(table_life, one_that_does_not_acknowledge_is_not_renewed)
{
	rig_out(&rig, dp, udp);
	rig_collect(&rig, dp);
	rig_heartbeat(&rig, dp, true);
	uint64_t m, s;
	table_delete(rig.table, &(struct table_filter){.subscriber = udp.source}, rig.now, &m, &s);
	rig_pass(&rig, 9000, 0);
	cr_expect(rig_heartbeat(&rig, dp, false));
	rig_pass(&rig, 2000, 0);
	cr_expect_not(rig_heartbeat(&rig, dp, false), "silent about an invalidation for a lease");
	rig_collect(&rig, dp);
	cr_expect(rig_heartbeat(&rig, dp, true));
}

Test(table_life, a_live_flow_outlives_its_dead_holder_by_its_full_timer)
{
	uint32_t other = rig_attach(&rig, 2);
	struct wire_answer a = rig_out(&rig, dp, udp);
	rig_pass(&rig, 290000, 1u << dp | 1u << other);
	/* dp dies now; it may have translated a moment ago */
	rig_pass(&rig, 290000, 1u << other);
	cr_expect_eq(rig_in(&rig, other, rig_reverse(udp, &a)).handle, a.handle);
	cr_expect_eq(rig_counters(&rig).expired, 0);
}

Test(table_life, hold_down_when_a_block_changes_hands)
{
	rig_stop(&rig);
	rig.pool_prefix.length = 32;
	rig.pool.port_first = 4096;
	rig.pool.port_last = 4159;
	rig.pool.block_size = 64;
	rig_start(&rig);
	dp = rig_attach(&rig, 1);
	struct wire_answer a = rig_out(&rig, dp, udp);
	struct nat_tuple other = udp;
	other.source = ip("10.0.0.2");
	cr_expect_eq(rig_out(&rig, dp, other).verdict, NAT_REJECT, "the one block is taken");
	uint64_t m, s;
	table_delete(rig.table, &(struct table_filter){.subscriber = udp.source}, rig.now, &m, &s);
	rig_report(&rig, dp, WIRE_RELEASE, a.handle, 0, 0, 0); /* clean */
	cr_expect_eq(rig_counters(&rig).mappings, 0);
	rig_pass(&rig, 119000, 1);
	cr_expect_eq(rig_out(&rig, dp, other).verdict, NAT_REJECT, "RFC 6888 REQ-8: 120 s");
	rig_pass(&rig, 2000, 1);
	cr_expect_eq(rig_out(&rig, dp, other).verdict, NAT_TRANSLATE);
	/* the same subscriber would not have waited */
}

Test(table_life, tcp_reset_that_ended_nothing)
{
	struct wire_answer a = rig_out(&rig, dp, tcp);
	rig_report(&rig, dp, WIRE_FLAGS, a.handle, 0, NAT_TCP_SYN | NAT_TCP_ACK, NAT_INBOUND);
	rig_report(&rig, dp, WIRE_FLAGS, a.handle, 0, NAT_TCP_RST, NAT_INBOUND);
	rig_collect(&rig, dp);
	cr_expect_geq(until_asked(250000), 240000);
	rig_report(&rig, dp, WIRE_ACTIVE, a.handle, 1000, 0, 0);
	struct table_session_row row;
	uint64_t cursor = 0;
	cr_assert_eq(table_sessions(rig.table, &(struct table_filter){0}, &cursor, &row, 1, rig.now),
		     1);
	cr_expect_str_eq(row.state, "established", "RFC 7857 section 2.2: packets came after it");
}

Test(table_life, a_connection_reopens_on_its_tuple)
{
	struct wire_answer a = rig_out(&rig, dp, tcp);
	rig_report(&rig, dp, WIRE_FLAGS, a.handle, 0, NAT_TCP_SYN | NAT_TCP_FIN, NAT_INBOUND);
	rig_report(&rig, dp, WIRE_FLAGS, a.handle, 0, NAT_TCP_FIN, NAT_OUTBOUND);
	rig_report(&rig, dp, WIRE_FLAGS, a.handle, 0, NAT_TCP_SYN, NAT_OUTBOUND);
	struct table_session_row row;
	uint64_t cursor = 0;
	table_sessions(rig.table, &(struct table_filter){0}, &cursor, &row, 1, rig.now);
	cr_expect_str_eq(row.state, "opening");
	rig_report(&rig, dp, WIRE_FLAGS, a.handle, 0, NAT_TCP_SYN, NAT_INBOUND);
	cursor = 0;
	table_sessions(rig.table, &(struct table_filter){0}, &cursor, &row, 1, rig.now);
	cr_expect_str_eq(row.state, "established");
}

static struct wire_welcome hello_again(uint64_t epoch, uint64_t sequence, int expect)
{
	struct wire_hello hello = {.version_min = 1,
				   .version_max = 1,
				   .incarnation = {7, 1},
				   .name = "dp1",
				   .epoch = epoch,
				   .sequence = sequence};
	struct wire_welcome welcome = {0};
	cr_assert_eq(table_attach(rig.table, &hello, rig.now, &welcome, &dp), expect);
	return welcome;
}

Test(table_life, a_reconnect_goes_on_and_says_again_what_was_not_heard)
{
	rig_out(&rig, dp, udp);
	uint64_t seen = rig.seen[dp], m, s;
	table_delete(rig.table, &(struct table_filter){.subscriber = udp.source}, rig.now, &m, &s);
	rig_collect(&rig, dp); /* it left, but the stream broke */
	table_detach(rig.table, dp, rig.now);
	struct wire_welcome w = hello_again(1, seen, 0);
	cr_expect_not(w.flush);
	cr_expect_eq(w.sequence, seen);
	rig.seen[dp] = w.sequence;
	rig_collect(&rig, dp);
	cr_assert_eq(rig.n_notices, 1);
	cr_expect_eq(rig.kinds[0], WIRE_INVALIDATE);
	rig_heartbeat(&rig, dp, true);
	cr_expect_eq(rig_counters(&rig).fenced, 0);
}

Test(table_life, what_cannot_be_continued_is_flushed_and_clean_when_acknowledged)
{
	rig_out(&rig, dp, udp);
	rig_heartbeat(&rig, dp, true);
	struct wire_welcome w = hello_again(1, rig.seen[dp] + 5, 0); /* it saw what we never said */
	cr_assert(w.flush);
	uint64_t m, s;
	table_delete(rig.table, &(struct table_filter){.subscriber = udp.source}, rig.now, &m, &s);
	rig_pass(&rig, 1000, 0);
	cr_expect_eq(rig_counters(&rig).fenced, 1);
	rig.seen[dp] = w.sequence;
	rig_heartbeat(&rig, dp, true); /* the acknowledgement of that number is the flush */
	rig_pass(&rig, 1000, 0);
	cr_expect_eq(rig_counters(&rig).fenced, 0);
}

Test(table_life, older_and_newer_tables_are_told_apart)
{
	struct wire_welcome w = hello_again(99, 3, ERR_STALE);
	(void)w;
	struct wire_hello hello = {.version_min = 2, .version_max = 3, .incarnation = {8, 8}};
	uint32_t d;
	cr_expect_eq(table_attach(rig.table, &hello, rig.now, &w, &d), ERR_VERSION);
}

Test(table_life, no_room_for_a_65th_dataplane)
{
	for (unsigned i = 2; i <= 64; i++)
		rig_attach(&rig, i);
	struct wire_hello hello = {.version_min = 1, .version_max = 1, .incarnation = {9, 9}};
	struct wire_welcome w;
	uint32_t d;
	cr_expect_eq(table_attach(rig.table, &hello, rig.now, &w, &d), ERR_FULL);
	rig_pass(&rig, 312000, ~UINT64_C(1)); /* the first is lost, fenced, swept */
	cr_expect_eq(table_attach(rig.table, &hello, rig.now, &w, &d), 0);
}

Test(table_life, an_outbox_that_is_full_orders_a_flush)
{
	rig_stop(&rig);
	rig.config.limits.sessions = rig.config.limits.per_mapping = 1000000;
	rig.config.capacity.sessions = 200000;
	rig_start(&rig);
	dp = rig_attach(&rig, 1);
	struct nat_tuple t = udp;
	unsigned made = 0;
	for (unsigned i = 0; i < 180000; i++) {
		t.destination = htonl(0x08000000 + i);
		made += rig_out(&rig, dp, t).verdict == NAT_TRANSLATE;
		rig_heartbeat(&rig, dp, true);
	}
	cr_assert_eq(made, 180000);
	uint64_t m, s;
	table_delete(rig.table, &(struct table_filter){.subscriber = udp.source}, rig.now, &m, &s);
	cr_expect_eq(s, 180000);
	rig_collect(&rig, dp);
	cr_expect_eq(rig.flushes, 1);
	cr_expect_gt(rig_counters(&rig).fenced, 0);
	rig_heartbeat(&rig, dp, true);
	rig_pass(&rig, 2000, 1);
	cr_expect_eq(rig_counters(&rig).fenced, 0, "acknowledged flush: all clean");
	cr_expect_eq(rig_counters(&rig).mappings, 0);
	cr_expect_eq(rig_out(&rig, dp, udp).verdict, NAT_TRANSLATE);
}

Test(table_life, drains_by_name_and_number)
{
	cr_expect_eq(table_drain(rig.table, "nobody", false, rig.now), ERR_NOT_FOUND);
	cr_expect_eq(table_drain(rig.table, "dp1", false, rig.now), 0);
	struct wire_heartbeat beat = {0};
	struct wire_heartbeat_ack ack;
	table_heartbeat(rig.table, dp, &beat, rig.now, &ack);
	cr_expect(ack.draining);
	cr_expect_eq(table_drain(rig.table, "0", true, rig.now), 0);
	table_heartbeat(rig.table, dp, &beat, rig.now, &ack);
	cr_expect_not(ack.draining);
}

/* What exists goes on wherever the routers move it, of every protocol; nothing new begins. */
Test(table_life, a_drained_dataplane_carries_on_what_exists_and_starts_nothing)
{
	static const uint8_t protocols[] = {NAT_UDP, NAT_TCP, NAT_ICMP};
	uint32_t drained = rig_attach(&rig, 2);
	cr_assert_eq(table_drain(rig.table, "dp2", false, rig.now), 0);
	for (unsigned i = 0; i < 3; i++) {
		struct nat_tuple t = tuple_of(protocols[i], 1, "10.0.0.1", 5000, "198.51.100.1",
					      protocols[i] == NAT_ICMP ? 0 : 80);
		struct wire_answer a = rig_out(&rig, dp, t);
		struct wire_answer moved = rig_ask(&rig, drained, WIRE_RESOLVE_OUT, t,
						   protocols[i] == NAT_TCP ? NAT_TCP_ACK : 0);
		cr_expect_eq(moved.handle, a.handle, "protocol %u out", protocols[i]);
		moved = rig_ask(&rig, drained, WIRE_RESOLVE_IN, rig_reverse(t, &a),
				protocols[i] == NAT_TCP ? NAT_TCP_ACK : 0);
		cr_expect_eq(moved.handle, a.handle, "protocol %u in", protocols[i]);
		cr_expect_eq(rig_out(&rig, drained, t).handle, a.handle, "a SYN again, too");

		t.source_port = htons(6000);
		struct wire_answer fresh = rig_out(&rig, drained, t);
		cr_expect_eq(fresh.reason, NAT_REASON_DRAINING, "protocol %u", protocols[i]);
		cr_expect_eq(fresh.verdict, NAT_DROP);
		cr_expect_eq(fresh.ttl_ms, 0);
		cr_expect_eq(rig_out(&rig, dp, t).verdict, NAT_TRANSLATE, "another one does it");
	}
	struct wire_answer a = rig_out(&rig, dp, udp);
	struct nat_tuple stranger = rig_reverse(udp, &a);
	stranger.source_port = htons(81); /* the filter would let it in */
	cr_expect_eq(rig_in(&rig, drained, stranger).reason, NAT_REASON_DRAINING);
	cr_expect_eq(rig_in(&rig, dp, stranger).verdict, NAT_TRANSLATE);
	cr_assert_eq(table_drain(rig.table, "dp2", true, rig.now), 0);
	udp.source_port = htons(6001);
	cr_expect_eq(rig_out(&rig, drained, udp).verdict, NAT_TRANSLATE, "undone");
}

static struct config_static forward(void)
{
	return (struct config_static){
	    .realm = 1,
	    .protocol = NAT_UDP,
	    .external = {.address = ip("192.0.2.1"), .port = htons(8080)},
	    .internal = {.address = ip("10.0.0.5"), .port = htons(80)},
	};
}

Test(table_life, a_static_forward_is_open_to_everybody_and_both_ways)
{
	struct config_static f = forward();
	const char *state;
	cr_assert_eq(table_static_add(rig.table, &f, rig.now, &state), 0);
	cr_expect_str_eq(state, "active");
	cr_expect_eq(table_static_add(rig.table, &f, rig.now, &state), ERR_EXISTS);
	struct nat_tuple in = tuple_of(NAT_UDP, 0, "203.0.113.9", 999, "192.0.2.1", 8080);
	struct wire_answer a = rig_in(&rig, dp, in);
	cr_assert_eq(a.verdict, NAT_TRANSLATE);
	cr_expect_eq(a.rewrite.destination, f.internal.address);
	cr_expect_eq(a.rewrite.destination_port, f.internal.port);
	struct wire_answer out =
	    rig_out(&rig, dp, tuple_of(NAT_UDP, 1, "10.0.0.5", 80, "198.51.100.7", 7));
	cr_expect_eq(out.rewrite.source, f.external.address);
	cr_expect_eq(out.rewrite.source_port, f.external.port);
	cr_expect_eq(table_static_delete(rig.table, &f, rig.now), 0);
	cr_expect_neq(rig_in(&rig, dp, in).verdict, NAT_TRANSLATE);
	cr_expect_eq(table_static_delete(rig.table, &f, rig.now), ERR_NOT_FOUND);
	f.external.address = ip("203.0.113.1");
	cr_expect_eq(table_static_add(rig.table, &f, rig.now, &state), ERR_INVALID);
}

Test(table_life, a_static_forward_waits_until_its_port_is_clean)
{
	/* The dynamic mapping that has the port is invalidated and fenced first. */
	struct wire_answer a = rig_out(&rig, dp, udp);
	struct config_static f = forward();
	f.external.address = a.rewrite.source;
	f.external.port = a.rewrite.source_port;
	const char *state;
	cr_assert_eq(table_static_add(rig.table, &f, rig.now, &state), 0);
	cr_expect_str_neq(state, "active");
	struct nat_tuple in = rig_reverse(udp, &a);
	cr_expect_neq(rig_in(&rig, dp, in).verdict, NAT_TRANSLATE);
	struct wire_answer b = rig_out(&rig, dp, udp);
	cr_expect_eq(b.verdict, NAT_TRANSLATE);
	cr_expect_neq(b.rewrite.source_port, a.rewrite.source_port);
	rig_collect(&rig, dp);
	rig_heartbeat(&rig, dp, true);
	struct wire_answer c = rig_in(&rig, dp, in);
	cr_assert_eq(c.verdict, NAT_TRANSLATE);
	cr_expect_eq(c.rewrite.destination, f.internal.address);
}

Test(table_life, statics_live_without_sessions)
{
	struct config_static f = forward();
	table_static_add(rig.table, &f, rig.now, NULL);
	struct wire_answer a =
	    rig_in(&rig, dp, tuple_of(NAT_UDP, 0, "203.0.113.9", 999, "192.0.2.1", 8080));
	rig_report(&rig, dp, WIRE_RELEASE, a.handle, 0, 0, 0);
	rig_pass(&rig, 310000, 1);
	cr_expect_eq(rig_counters(&rig).sessions, 0);
	cr_expect_eq(rig_counters(&rig).mappings, 1);
}

Test(table_life, reload_ends_what_was_removed_and_nothing_else)
{
	struct config_prefix prefixes[2] = {{ip("192.0.2.0"), 31}, {ip("192.0.2.4"), 31}};
	rig_stop(&rig);
	rig.pool.prefixes = prefixes;
	rig.pool.n_prefixes = 2;
	rig_start(&rig);
	dp = rig_attach(&rig, 1);
	struct nat_tuple t[40];
	struct wire_answer a[40];
	unsigned in_first = 0;
	for (unsigned i = 0; i < 40; i++) {
		t[i] = udp;
		t[i].source = htonl(0x0a000100 + i);
		a[i] = rig_out(&rig, dp, t[i]);
		in_first += ntohl(a[i].rewrite.source) < ntohl(ip("192.0.2.2"));
	}
	cr_assert(in_first > 0 && in_first < 40, "both prefixes are used");
	rig.pool.n_prefixes = 1;
	rig.config.generation = 2;
	char error[256] = "";
	cr_assert_eq(table_reload(rig.table, &rig.config, rig.now, error, sizeof error), 0, "%s",
		     error);
	for (unsigned i = 0; i < 40; i++) {
		struct wire_answer b = rig_out(&rig, dp, t[i]);
		bool first = ntohl(a[i].rewrite.source) < ntohl(ip("192.0.2.2"));
		cr_assert_eq(b.verdict, NAT_TRANSLATE);
		if (first)
			cr_expect_eq(b.handle, a[i].handle, "not lost");
		else
			cr_expect(ntohl(b.rewrite.source) < ntohl(ip("192.0.2.2")));
	}
	rig.pool.block_size = 512;
	cr_expect_eq(table_reload(rig.table, &rig.config, rig.now, error, sizeof error), ERR_INVALID);
	cr_expect_neq(error[0], 0, "it says why");
	cr_expect_eq(rig_out(&rig, dp, t[0]).verdict, NAT_TRANSLATE, "the old one is in force");
}

Test(table_life, lists_with_filters)
{
	rig_out(&rig, dp, udp);
	rig_out(&rig, dp, tcp);
	struct nat_tuple other = udp;
	other.source = ip("10.0.0.9");
	struct wire_answer a = rig_out(&rig, dp, other);
	struct table_session_row rows[8];
	struct table_mapping_row mappings[8];
	struct table_subscriber_row subscribers[8];
	uint64_t c = 0;
	struct table_filter f = {0};
	cr_expect_eq(table_sessions(rig.table, &f, &c, rows, 8, rig.now), 3);
	cr_expect_eq(c, 0);
	f.subscriber = udp.source;
	cr_expect_eq(table_sessions(rig.table, &f, &c, rows, 8, rig.now), 2);
	f.protocol = NAT_TCP;
	cr_expect_eq(table_sessions(rig.table, &f, &c, rows, 8, rig.now), 1);
	f = (struct table_filter){.external = {.address = a.rewrite.source,
					       .port = a.rewrite.source_port}};
	cr_expect_eq(table_mappings(rig.table, &f, &c, mappings, 8, rig.now), 1);
	cr_expect_eq(mappings[0].internal.address, other.source);
	f = (struct table_filter){.remote = {.address = ip("1.1.1.1")}};
	cr_expect_eq(table_sessions(rig.table, &f, &c, rows, 8, rig.now), 0);
	cr_expect_eq(table_subscribers(rig.table, &(struct table_filter){0}, &c, subscribers, 8,
				       rig.now),
		     2);
	struct table_pool_row pool;
	c = 0;
	cr_expect_eq(table_pools(rig.table, &c, &pool, 1), 1);
	cr_expect_eq(pool.ports_used, 3);
	cr_expect_eq(pool.blocks_used, 2);
	restart();
}
