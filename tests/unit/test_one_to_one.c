/* SPDX-License-Identifier: Apache-2.0 */
/* Static 1:1: an external address that is one inside host's in every protocol and port. */
#include <criterion/criterion.h>
#include <arpa/inet.h>
#include <string.h>

#include "tests/support/table_rig.h"

static struct rig rig;
static uint32_t dp;
static struct config_static whole;

static void start(void)
{
	rig_config(&rig);
	whole = (struct config_static){.realm = 1,
				       .external = {.address = ip("192.0.2.1")},
				       .internal = {.address = ip("10.0.0.9")}};
	rig_start(&rig);
	dp = rig_attach(&rig, 1);
}

static void stop(void)
{
	rig_stop(&rig);
}

TestSuite(one_to_one, .init = start, .fini = stop);

static const char *add(void)
{
	const char *state = "";
	cr_assert_eq(table_static_add(rig.table, &whole, rig.now, &state), 0);
	return state;
}

static const char *state_now(void)
{
	struct table_static_row row;
	uint64_t cursor = 0;
	cr_assert_eq(table_statics(rig.table, &cursor, &row, 1), 1);
	return row.state;
}

static void settle(void)
{
	rig_collect(&rig, dp);
	rig_heartbeat(&rig, dp, true);
	table_tick(rig.table, rig.now);
}

static bool reload(void)
{
	char error[256] = "";
	int err = table_reload(rig.table, &rig.config, rig.now, error, sizeof error);
	cr_expect_eq(err, 0, "%s", error);
	return err == 0;
}

/* RFC 3022 section 2.1: ports and identifiers stay; RFC 5508 REQ-1 for both directions' queries. */
Test(one_to_one, changes_the_address_and_nothing_else)
{
	static const struct {
		uint8_t protocol;
		unsigned own, remote;
	} rows[] = {{NAT_UDP, 5000, 53}, {NAT_UDP, 53, 40000}, {NAT_TCP, 22, 40000},
		    {NAT_ICMP, 77, 0},	 {NAT_ICMP, 0, 78},    {NAT_GRE, 0, 0},
		    {NAT_ESP, 0, 0},	 {NAT_SCTP, 0, 0},     {NAT_DCCP, 0, 0},
		    {NAT_UDPLITE, 0, 0}, {NAT_UDP, 0, 9}};
	cr_expect_str_eq(add(), "active");
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct nat_tuple out = tuple_of(rows[i].protocol, 1, "10.0.0.9", rows[i].own,
						"198.51.100.1", rows[i].remote);
		struct nat_tuple in = tuple_of(rows[i].protocol, 0, "198.51.100.1", rows[i].remote,
					       "192.0.2.1", rows[i].own);
		bool inbound_first = i % 2;
		struct wire_answer a, b;
		if (inbound_first) /* anybody may open */
			b = rig_ask(&rig, dp, WIRE_RESOLVE_IN, in, NAT_TCP_SYN);
		a = rig_ask(&rig, dp, WIRE_RESOLVE_OUT, out, NAT_TCP_SYN);
		if (!inbound_first)
			b = rig_ask(&rig, dp, WIRE_RESOLVE_IN, in, NAT_TCP_SYN);
		cr_assert_eq(a.verdict, NAT_TRANSLATE, "row %u: %s", i, nat_reason_name(a.reason));
		cr_assert_eq(b.verdict, NAT_TRANSLATE, "row %u: %s", i, nat_reason_name(b.reason));
		cr_expect_eq(a.rewrite.source, ip("192.0.2.1"));
		cr_expect_eq(a.rewrite.source_port, htons((uint16_t)rows[i].own));
		cr_expect_eq(b.rewrite.destination, ip("10.0.0.9"));
		cr_expect_eq(b.rewrite.destination_port, htons((uint16_t)rows[i].own));
		cr_expect_eq(b.rewrite.source_port, htons((uint16_t)rows[i].remote));
		cr_expect_eq(a.handle, b.handle);
	}
	struct wire_config pushed;
	table_wire_config(rig.table, &pushed);
	cr_expect_eq(pushed.n_protocols, 5, "whatever the pool allows");
}

Test(one_to_one, nobody_else_gets_the_address)
{
	cr_expect_str_eq(add(), "active");
	for (unsigned i = 0; i < 100; i++) {
		struct nat_tuple t = tuple_of(NAT_UDP, 1, "10.0.1.0", 5000, "198.51.100.1", 80);
		t.source = htonl(ntohl(t.source) + i);
		struct wire_answer a = rig_out(&rig, dp, t);
		cr_assert_eq(a.verdict, NAT_TRANSLATE);
		cr_expect_neq(a.rewrite.source, whole.external.address);
	}
	/* nor is it given twice, nor its ports one by one */
	struct config_static other = whole;
	other.internal.address = ip("10.0.0.8");
	cr_expect_eq(table_static_add(rig.table, &other, rig.now, NULL), ERR_EXISTS);
	other = whole;
	other.external.address = ip("192.0.2.2");
	cr_expect_eq(table_static_add(rig.table, &other, rig.now, NULL), ERR_EXISTS);
	other = (struct config_static){.realm = 1,
				       .protocol = NAT_TCP,
				       .external = {whole.external.address, htons(80), 0},
				       .internal = {ip("10.0.0.8"), htons(80), 0}};
	cr_expect_eq(table_static_add(rig.table, &other, rig.now, NULL), ERR_EXISTS);
	other.external.address = ip("192.0.2.2");
	other.internal.address = whole.internal.address;
	cr_expect_eq(table_static_add(rig.table, &other, rig.now, NULL), ERR_EXISTS);
	other = whole;
	other.external.port = htons(80);
	cr_expect_eq(table_static_add(rig.table, &other, rig.now, NULL), ERR_INVALID);
}

/* U1: who is there is invalidated and fenced, and only then is the address its owner's. */
Test(one_to_one, a_dynamic_flow_that_meets_it_is_fenced_first)
{
	struct nat_tuple on_it = {0}, own = tuple_of(NAT_UDP, 1, "10.0.0.9", 7, "198.51.100.1", 80);
	struct wire_answer a = {0}, mine = rig_out(&rig, dp, own);
	for (unsigned i = 0; i < 64 && a.rewrite.source != whole.external.address; i++) {
		on_it = tuple_of(NAT_UDP, 1, "10.0.1.0", 5000, "198.51.100.1", 80);
		on_it.source = htonl(ntohl(on_it.source) + i);
		a = rig_out(&rig, dp, on_it);
	}
	cr_assert_eq(a.rewrite.source, whole.external.address);
	cr_expect_eq(strncmp(add(), "waiting", 7), 0);
	struct nat_tuple in = tuple_of(NAT_TCP, 0, "198.51.100.1", 9, "192.0.2.1", 22);
	struct wire_answer b = rig_ask(&rig, dp, WIRE_RESOLVE_IN, in, NAT_TCP_SYN);
	cr_expect_eq(b.verdict, NAT_DROP, "not before it is clean");
	b = rig_out(&rig, dp, own);
	cr_expect_eq(b.rewrite.source, mine.rewrite.source, "its owner is not without meanwhile");
	b = rig_out(&rig, dp, on_it);
	cr_expect_neq(b.rewrite.source, whole.external.address, "who was there moves");
	settle();
	cr_expect_str_eq(state_now(), "active");
	b = rig_ask(&rig, dp, WIRE_RESOLVE_IN, in, NAT_TCP_SYN);
	cr_expect_eq(b.verdict, NAT_TRANSLATE);
	b = rig_out(&rig, dp, own);
	cr_expect_eq(b.rewrite.source, whole.external.address);
	cr_expect_eq(b.rewrite.source_port, htons(7));
	cr_expect_neq(b.handle, mine.handle);
}

/* The same for one port: RFC 6888's exception for ports that are assigned statically. */
Test(one_to_one, a_dynamic_flow_that_meets_a_port_forward_is_fenced_first)
{
	struct nat_tuple t = tuple_of(NAT_UDP, 1, "10.0.0.1", 5000, "198.51.100.1", 80);
	struct wire_answer a = rig_out(&rig, dp, t);
	struct config_static forward = {.realm = 1,
					.protocol = NAT_UDP,
					.external = {a.rewrite.source, a.rewrite.source_port, 0},
					.internal = {ip("10.0.0.8"), htons(80), 0}};
	const char *state;
	cr_assert_eq(table_static_add(rig.table, &forward, rig.now, &state), 0);
	cr_expect_eq(strncmp(state, "waiting", 7), 0);
	struct nat_tuple in = {.source = ip("198.51.100.7"),
			       .destination = a.rewrite.source,
			       .destination_port = a.rewrite.source_port,
			       .protocol = NAT_UDP};
	cr_expect_eq(rig_in(&rig, dp, in).verdict, NAT_DROP);
	cr_expect_eq(rig_in(&rig, dp, rig_reverse(t, &a)).verdict, NAT_DROP, "its flow is over");
	settle();
	cr_expect_str_eq(state_now(), "active");
	struct wire_answer b = rig_in(&rig, dp, in);
	cr_expect_eq(b.verdict, NAT_TRANSLATE);
	cr_expect_eq(b.rewrite.destination, ip("10.0.0.8"));
}

/* RFC 4787 REQ-9, RFC 5508 REQ-7: by its external address, to it and from it, queries too. */
Test(one_to_one, hairpins)
{
	cr_expect_str_eq(add(), "active");
	struct nat_tuple to = tuple_of(NAT_UDP, 1, "10.0.0.1", 5000, "192.0.2.1", 53);
	struct wire_answer a = rig_out(&rig, dp, to);
	cr_assert_eq(a.verdict, NAT_TRANSLATE);
	cr_expect_eq(a.rewrite.destination, ip("10.0.0.9"));
	cr_expect_eq(a.rewrite.destination_port, htons(53));
	cr_expect_neq(a.rewrite.source, ip("10.0.0.1"));
	struct wire_answer back = rig_out(&rig, dp, rig_reverse(to, &a));
	cr_expect_eq(back.rewrite.source, ip("192.0.2.1"));
	cr_expect_eq(back.rewrite.destination, ip("10.0.0.1"));
	/* ping */
	to = tuple_of(NAT_ICMP, 1, "10.0.0.1", 99, "192.0.2.1", 0);
	a = rig_out(&rig, dp, to);
	cr_assert_eq(a.verdict, NAT_TRANSLATE, "%s", nat_reason_name(a.reason));
	cr_expect_eq(a.rewrite.destination, ip("10.0.0.9"));
	cr_expect_eq(a.rewrite.destination_port, 0);
	/* from it, to a host that has spoken to it */
	struct nat_tuple from = tuple_of(NAT_UDP, 1, "10.0.0.9", 6000, "192.0.2.1", 53);
	from.destination = a.rewrite.source;
	struct wire_answer u =
	    rig_out(&rig, dp, tuple_of(NAT_UDP, 1, "10.0.0.1", 5000, "192.0.2.1", 6000));
	from.destination_port = u.rewrite.source_port;
	struct wire_answer b = rig_out(&rig, dp, from);
	cr_assert_eq(b.verdict, NAT_TRANSLATE, "%s", nat_reason_name(b.reason));
	cr_expect_eq(b.rewrite.source, ip("192.0.2.1"));
	cr_expect_eq(b.rewrite.source_port, htons(6000));
	cr_expect_eq(b.rewrite.destination, ip("10.0.0.1"));
	/* to itself at another port, and at the same one */
	b = rig_out(&rig, dp, tuple_of(NAT_UDP, 1, "10.0.0.9", 6000, "192.0.2.1", 7000));
	cr_expect_eq(b.verdict, NAT_TRANSLATE);
	b = rig_out(&rig, dp, tuple_of(NAT_UDP, 1, "10.0.0.9", 6000, "192.0.2.1", 6000));
	cr_expect_eq(b.verdict, NAT_DROP);
}

Test(one_to_one, removal_ends_live_sessions_fenced)
{
	cr_expect_str_eq(add(), "active");
	struct nat_tuple t = tuple_of(NAT_UDP, 1, "10.0.0.9", 7, "198.51.100.1", 80);
	struct wire_answer a = rig_out(&rig, dp, t);
	rig_collect(&rig, dp);
	cr_assert_eq(table_static_delete(rig.table, &whole, rig.now), 0);
	rig_collect(&rig, dp);
	cr_assert_eq(rig.n_notices, 1);
	cr_expect_eq(rig.kinds[0], WIRE_INVALIDATE);
	cr_expect_eq(rig.notices[0].handle, a.handle);
	cr_expect_eq(rig_counters(&rig).fenced, 1);
	struct wire_answer b = rig_out(&rig, dp, t);
	cr_expect_eq(b.verdict, NAT_TRANSLATE, "a subscriber like any other");
	cr_expect(b.rewrite.source != a.rewrite.source ||
		  b.rewrite.source_port != a.rewrite.source_port);
	/* added again at once, it waits for what is not clean yet */
	cr_expect_eq(strncmp(add(), "waiting", 7), 0);
	settle();
	settle();
	cr_expect_str_eq(state_now(), "active");
	cr_expect_eq(rig_counters(&rig).fenced, 0);
	cr_assert_eq(table_static_delete(rig.table, &whole, rig.now), 0);
	settle();
	cr_expect_eq(table_static_delete(rig.table, &whole, rig.now), ERR_NOT_FOUND);
}

Test(one_to_one, reload_adds_and_removes_it)
{
	struct nat_tuple in = tuple_of(NAT_UDP, 0, "198.51.100.1", 9, "192.0.2.1", 22);
	cr_expect_eq(rig_in(&rig, dp, in).verdict, NAT_DROP);
	rig.config.statics = &whole;
	rig.config.n_statics = 1;
	cr_assert(reload());
	cr_expect_str_eq(state_now(), "active");
	rig_collect(&rig, dp);
	cr_expect_eq(rig.n_notices, 1, "the negative answer is taken back");
	cr_expect_eq(rig_in(&rig, dp, in).verdict, NAT_TRANSLATE);
	cr_assert(reload());
	cr_expect_eq(rig_counters(&rig).sessions, 1, "the same again changes nothing");
	rig.config.n_statics = 0;
	cr_assert(reload());
	settle();
	cr_expect_eq(rig_counters(&rig).sessions, 0);
	cr_expect_eq(rig_counters(&rig).mappings, 0);
	cr_expect_eq(rig_counters(&rig).subscribers, 0);
	cr_expect_eq(rig_in(&rig, dp, in).verdict, NAT_DROP);
}

/* Nothing is left of what a stray packet asked for. */
Test(one_to_one, stray_segments_leave_no_mapping)
{
	cr_expect_str_eq(add(), "active");
	struct nat_tuple in = tuple_of(NAT_TCP, 0, "198.51.100.1", 9, "192.0.2.1", 22);
	struct wire_answer a = rig_ask(&rig, dp, WIRE_RESOLVE_IN, in, NAT_TCP_ACK);
	cr_expect_eq(a.reason, NAT_REASON_TCP_OUT_OF_STATE);
	cr_expect_eq(a.ttl_ms, 0, "a SYN may come next");
	cr_expect_eq(rig_counters(&rig).mappings, 0);
	rig.config.limits.sessions = 1;
	cr_assert(reload());
	struct nat_tuple in2 = tuple_of(NAT_UDP, 0, "198.51.100.1", 9, "192.0.2.1", 23);
	cr_expect_eq(rig_in(&rig, dp, in2).verdict, NAT_TRANSLATE);
	in2.destination_port = htons(24);
	cr_expect_eq(rig_in(&rig, dp, in2).reason, NAT_REASON_SUBSCRIBER_SESSIONS);
	cr_expect_eq(rig_counters(&rig).mappings, 1);
}

/* RFC 5508 REQ-4: what is quoted is found, and nothing is made of what is not known. */
Test(one_to_one, errors_peek)
{
	cr_expect_str_eq(add(), "active");
	struct nat_tuple in = tuple_of(NAT_UDP, 0, "198.51.100.1", 9, "192.0.2.1", 22);
	cr_expect_eq(rig_ask(&rig, dp, WIRE_PEEK, in, 0).verdict, NAT_DROP);
	cr_expect_eq(rig_counters(&rig).mappings, 0);
	rig_in(&rig, dp, in);
	struct wire_answer p = rig_ask(&rig, dp, WIRE_PEEK, in, 0);
	cr_expect_eq(p.verdict, NAT_TRANSLATE);
	cr_expect_eq(p.rewrite.destination, ip("10.0.0.9"));
}
