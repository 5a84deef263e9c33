/* SPDX-License-Identifier: Apache-2.0 */
/* What keeps a session alive and what does not: packets out and in, refusals, ICMP errors. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <arpa/inet.h>

#include "tests/support/table_rig.h"

static struct rig rig;
static uint32_t dp;
static struct nat_tuple udp;

static void start(void)
{
	rig_config(&rig);
	rig_start(&rig);
	dp = rig_attach(&rig, 1);
	udp = tuple_of(NAT_UDP, 1, "10.0.0.1", 5000, "198.51.100.1", 80);
}

static void stop(void)
{
	rig_stop(&rig);
}

TestSuite(table_refresh, .init = start, .fini = stop);

static bool asked_with_inbound_refresh(struct wire_answer *a)
{
	for (unsigned i = 0; i < 700; i++) {
		rig_pass(&rig, 500, 1);
		rig_collect(&rig, dp);
		for (unsigned k = 0; k < rig.n_notices; k++)
			if (rig.kinds[k] == WIRE_EXPIRE && rig.notices[k].handle == a->handle)
				return rig.notices[k].inbound_refreshes;
		rig_heartbeat(&rig, dp, true);
	}
	cr_assert_fail("not asked");
	return false;
}

struct refresh_row {
	char name[40];
	bool inbound_refresh, from_outside, is_static;
	unsigned filtering;
	bool refreshes;
};

/* RFC 4787 REQ-6, REQ-6a, RFC 7857 section 7 */
ParameterizedTestParameters(table_refresh_rows, inbound)
{
	static struct refresh_row rows[] = {
	    {"opened from inside", true, false, false, CONFIG_ADF, true},
	    {"opened from inside, EIF", true, false, false, CONFIG_EIF, true},
	    {"switched off", false, false, false, CONFIG_ADF, false},
	    {"opened by a contacted host", true, true, false, CONFIG_ADF, true},
	    {"opened by anybody, EIF", true, true, false, CONFIG_EIF, false},
	    {"port forward", true, true, true, CONFIG_EIF, true},
	    {"port forward, switched off", false, true, true, CONFIG_EIF, false},
	};
	return cr_make_param_array(struct refresh_row, rows, sizeof rows / sizeof rows[0]);
}

ParameterizedTest(struct refresh_row *row, table_refresh_rows, inbound)
{
	start();
	rig_stop(&rig);
	rig.config.inbound_refresh = row->inbound_refresh;
	rig.pool.filtering_udp = row->filtering;
	rig_start(&rig);
	dp = rig_attach(&rig, 1);
	struct wire_answer a = rig_out(&rig, dp, udp);
	struct nat_tuple in = rig_reverse(udp, &a);
	if (row->is_static) {
		struct config_static f = {
		    .realm = 1,
		    .protocol = NAT_UDP,
		    .external = {.address = ip("192.0.2.1"), .port = htons(8080)},
		    .internal = {.address = ip("10.0.0.5"), .port = htons(80)},
		};
		cr_assert_eq(table_static_add(rig.table, &f, rig.now, NULL), 0);
		in.destination = f.external.address;
		in.destination_port = f.external.port;
	}
	if (row->from_outside) {
		in.source_port = htons(81);
		a = rig_in(&rig, dp, in);
	}
	cr_assert_eq(a.verdict, NAT_TRANSLATE, "%s", row->name);
	rig_pass(&rig, 100000, 1);
	rig_in(&rig, dp, in); /* the same through a question: it refreshes, or not */
	struct table_session_row rows[2];
	uint64_t cursor = 0;
	unsigned n = table_sessions(rig.table, &(struct table_filter){0}, &cursor, rows, 2, rig.now);
	for (unsigned i = 0; i < n; i++)
		if (rows[i].handle == a.handle)
			cr_expect_eq(rows[i].expires_ms > 250000, row->refreshes, "%s: %lld",
				     row->name, (long long)rows[i].expires_ms);
	cr_expect_eq(asked_with_inbound_refresh(&a), row->refreshes, "%s", row->name);
	stop();
}

/* A packet that a filter refused refreshes nothing, and keeps no mapping (RFC 7857 section 7). */
Test(table_refresh, a_refused_packet_does_not_refresh)
{
	struct wire_answer a = rig_out(&rig, dp, udp);
	struct nat_tuple stranger = rig_reverse(udp, &a);
	stranger.source = ip("203.0.113.5");
	rig_report(&rig, dp, WIRE_RELEASE, a.handle, 0, 0, 0);
	for (unsigned i = 0; i < 30; i++) {
		rig_pass(&rig, 10000, 1);
		cr_expect_eq(rig_in(&rig, dp, stranger).reason, NAT_REASON_FILTERED);
		rig_collect(&rig, dp);
		rig_heartbeat(&rig, dp, true);
	}
	rig_pass(&rig, 2000, 1);
	cr_expect_eq(rig_counters(&rig).mappings, 0);
}

/* RFC 4787 REQ-12, RFC 5382 REQ-10, RFC 5508 REQ-6: nor does an error about it, or end it */
Test(table_refresh, an_error_neither_makes_nor_refreshes_nor_ends)
{
	static const uint8_t protocols[] = {NAT_UDP, NAT_TCP, NAT_ICMP};
	for (unsigned i = 0; i < 3; i++) {
		stop();
		start();
		struct nat_tuple t = tuple_of(protocols[i], 1, "10.0.0.1", 5000, "198.51.100.1",
					      protocols[i] == NAT_ICMP ? 0 : 80);
		cr_expect_eq(rig_ask(&rig, dp, WIRE_PEEK, t, 0).verdict, NAT_DROP);
		cr_expect_eq(rig_counters(&rig).sessions, 0, "none is made");
		struct wire_answer a = rig_out(&rig, dp, t);
		rig_report(&rig, dp, WIRE_RELEASE, a.handle, 0, 0, 0);
		struct table_session_row before, after;
		uint64_t cursor = 0;
		rig_pass(&rig, 20000, 1);
		table_sessions(rig.table, &(struct table_filter){0}, &cursor, &before, 1, rig.now);
		for (unsigned k = 0; k < 5; k++) {
			cr_expect_eq(rig_ask(&rig, dp, WIRE_PEEK, t, 0).verdict, NAT_TRANSLATE);
			cr_expect_eq(rig_ask(&rig, dp, WIRE_PEEK, rig_reverse(t, &a), 0).verdict,
				     NAT_TRANSLATE);
		}
		cursor = 0;
		cr_assert_eq(table_sessions(rig.table, &(struct table_filter){0}, &cursor, &after, 1,
					    rig.now),
			     1);
		cr_expect_eq(after.expires_ms, before.expires_ms);
		cr_expect_str_eq(after.state, before.state);
		cr_expect_eq(after.holders, before.holders);
	}
}
