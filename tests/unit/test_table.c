/* SPDX-License-Identifier: Apache-2.0 */
/* What the table answers: mapping, filtering, hairpinning, redirect, limits. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <arpa/inet.h>
#include <string.h>

#include "tests/support/table_rig.h"

static struct rig rig;
static uint32_t dp;

static void start(void)
{
	rig_config(&rig);
	rig_start(&rig);
	dp = rig_attach(&rig, 1);
}

static void stop(void)
{
	rig_stop(&rig);
}

TestSuite(table, .init = start, .fini = stop);

static void restart(void)
{
	rig_stop(&rig);
	rig.seed = 1;
	rig_start(&rig);
	dp = rig_attach(&rig, 1);
}

static bool same_external(const struct wire_answer *a, const struct wire_answer *b)
{
	return a->rewrite.source == b->rewrite.source &&
	       a->rewrite.source_port == b->rewrite.source_port;
}

Test(table, maps_one_internal_endpoint_to_one_external_endpoint_whatever_the_destination)
{
	/* RFC 4787 REQ-1, also when another host uses the same source port */
	struct wire_answer other =
	    rig_out(&rig, dp, tuple_of(NAT_UDP, 1, "10.0.0.2", 5000, "198.51.100.2", 80));
	struct wire_answer a =
	    rig_out(&rig, dp, tuple_of(NAT_UDP, 1, "10.0.0.1", 5000, "198.51.100.1", 80));
	struct wire_answer b =
	    rig_out(&rig, dp, tuple_of(NAT_UDP, 1, "10.0.0.1", 5000, "198.51.100.1", 81));
	struct wire_answer c =
	    rig_out(&rig, dp, tuple_of(NAT_UDP, 1, "10.0.0.1", 5000, "198.51.100.2", 80));
	cr_assert_eq(a.verdict, NAT_TRANSLATE);
	cr_expect(same_external(&a, &b) && same_external(&a, &c));
	cr_expect_not(same_external(&a, &other), "RFC 4787 REQ-3: no port overloading");
	cr_expect_eq(a.rewrite.destination, ip("198.51.100.1"));
	cr_expect_eq(a.rewrite.egress, NAT_REALM_OUTSIDE);
	cr_expect_eq(rig_counters(&rig).mappings, 2);
	cr_expect_eq(rig_counters(&rig).sessions, 4);
}

Test(table, answers_the_same_to_everybody_and_every_time)
{
	/* U4; mirage-nat B4: adding a flow again returns the mapping that exists */
	uint32_t other = rig_attach(&rig, 2);
	struct nat_tuple t = tuple_of(NAT_UDP, 1, "10.0.0.1", 5000, "198.51.100.1", 80);
	struct wire_answer a = rig_out(&rig, dp, t), b = rig_out(&rig, other, t);
	cr_expect_eq(memcmp(&a, &b, sizeof a), 0);
	struct wire_answer back = rig_in(&rig, other, rig_reverse(t, &a));
	cr_expect_eq(back.verdict, NAT_TRANSLATE);
	cr_expect_eq(back.direction, NAT_INBOUND);
	cr_expect_eq(back.handle, a.handle);
	cr_expect_eq(back.rewrite.destination, t.source);
	cr_expect_eq(back.rewrite.destination_port, t.source_port);
	cr_expect_eq(back.rewrite.egress, 1);
}

Test(table, keeps_parity_and_pairs_addresses)
{
	nat_be32 address = 0;
	for (unsigned i = 0; i < 200; i++) {
		struct nat_tuple t =
		    tuple_of(NAT_UDP, 1, "10.0.0.1", 3000 + i, "198.51.100.1", 80);
		struct wire_answer a = rig_out(&rig, dp, t);
		cr_assert_eq(a.verdict, NAT_TRANSLATE);
		if (i < 100) /* half of the first block's ports of each parity are certain */
			cr_expect_eq(ntohs(a.rewrite.source_port) % 2, i % 2);
		cr_expect(ntohs(a.rewrite.source_port) >= 1024);
		if (address)
			cr_expect_eq(a.rewrite.source, address, "RFC 4787 REQ-2");
		address = a.rewrite.source;
	}
}

struct filtering_row {
	char name[48];
	enum config_filtering filtering;
	char from[16];
	unsigned port;
	unsigned reason;
};

ParameterizedTestParameters(filtering, refuses_and_allows)
{
	static struct filtering_row rows[] = {
	    {"EIF, a stranger", CONFIG_EIF, "203.0.113.9", 9, NAT_REASON_NONE},
	    {"EIF, the peer", CONFIG_EIF, "198.51.100.1", 80, NAT_REASON_NONE},
	    {"ADF, the peer", CONFIG_ADF, "198.51.100.1", 80, NAT_REASON_NONE},
	    {"ADF, another port of the peer", CONFIG_ADF, "198.51.100.1", 81, NAT_REASON_NONE},
	    {"ADF, a stranger", CONFIG_ADF, "198.51.100.2", 80, NAT_REASON_FILTERED},
	    {"APDF, the peer", CONFIG_APDF, "198.51.100.1", 80, NAT_REASON_NONE},
	    {"APDF, another port", CONFIG_APDF, "198.51.100.1", 81, NAT_REASON_FILTERED},
	    {"APDF, a stranger", CONFIG_APDF, "198.51.100.2", 80, NAT_REASON_FILTERED},
	};
	return cr_make_param_array(struct filtering_row, rows, sizeof rows / sizeof rows[0]);
}

ParameterizedTest(struct filtering_row *row, filtering, refuses_and_allows)
{
	static const unsigned protocols[] = {NAT_UDP, NAT_TCP};
	for (unsigned i = 0; i < 2; i++) {
		rig_config(&rig);
		rig.pool.filtering_udp = rig.pool.filtering_tcp = row->filtering;
		rig_start(&rig);
		dp = rig_attach(&rig, 1);
		struct nat_tuple t =
		    tuple_of(protocols[i], 1, "10.0.0.1", 5000, "198.51.100.1", 80);
		struct wire_answer a = rig_out(&rig, dp, t);
		struct nat_tuple in = rig_reverse(t, &a);
		in.source = ip(row->from);
		in.source_port = htons((uint16_t)row->port);
		struct wire_answer b = rig_in(&rig, dp, in);
		cr_expect_eq(b.reason, row->reason, "%s: %s", row->name, nat_reason_name(b.reason));
		cr_expect_eq(b.ttl_ms, 0, "what a filter refused is never cached");
		rig_stop(&rig);
	}
}

Test(table, a_refused_packet_does_not_poison_a_later_flow)
{
	struct nat_tuple t = tuple_of(NAT_UDP, 1, "10.0.0.1", 5000, "198.51.100.1", 80);
	struct wire_answer a = rig_out(&rig, dp, t);
	struct nat_tuple in = rig_reverse(t, &a);
	in.source = ip("203.0.113.5");
	cr_expect_eq(rig_in(&rig, dp, in).reason, NAT_REASON_FILTERED);
	struct nat_tuple out = t;
	out.destination = ip("203.0.113.5");
	struct wire_answer b = rig_out(&rig, dp, out);
	cr_expect(same_external(&a, &b));
	cr_expect_eq(rig_in(&rig, dp, in).verdict, NAT_TRANSLATE);
}

Test(table, an_unknown_endpoint_is_a_negative_answer_that_a_new_mapping_takes_back)
{
	rig_stop(&rig);
	rig.pool.port_first = 4096; /* one block of 64: the port is found again */
	rig.pool.port_last = 4159;
	rig.pool.block_size = 64;
	rig.pool_prefix.length = 32;
	rig_start(&rig);
	dp = rig_attach(&rig, 1);
	uint32_t other = rig_attach(&rig, 2);
	unsigned told = 0, taken_back = 0;
	for (unsigned port = 4096; port < 4160; port++) {
		struct wire_answer a = rig_in(
		    &rig, other, tuple_of(NAT_UDP, 0, "198.51.100.1", 80, "192.0.2.0", port));
		cr_expect_eq(a.reason, NAT_REASON_NO_MAPPING);
		cr_expect(a.ttl_ms == 0 || a.ttl_ms == 1000);
		told += a.ttl_ms > 0;
	}
	for (unsigned i = 0; i < 64; i++)
		cr_expect_eq(rig_out(&rig, dp,
				     tuple_of(NAT_UDP, 1, "10.0.0.1", 6000 + i, "198.51.100.1", 80))
				 .verdict,
			     NAT_TRANSLATE);
	rig_collect(&rig, other);
	for (unsigned i = 0; i < rig.n_notices; i++) {
		cr_expect_eq(rig.kinds[i], WIRE_INVALIDATE);
		cr_expect_eq(rig.notices[i].handle, 0);
		taken_back++;
	}
	cr_expect_eq(taken_back, told);
	cr_expect_gt(told, 0);
	/* and the 65th is refused aloud, with nothing existing lost (RFC 6888 REQ-11) */
	struct wire_answer full =
	    rig_out(&rig, dp, tuple_of(NAT_UDP, 1, "10.0.0.1", 7000, "198.51.100.1", 80));
	cr_expect_eq(full.verdict, NAT_REJECT);
	cr_expect(full.reason == NAT_REASON_PORTS_EXHAUSTED ||
		  full.reason == NAT_REASON_SUBSCRIBER_BLOCKS);
	cr_expect_eq(rig_counters(&rig).sessions, 64);
	/* other protocols have ports of their own (RFC 7857 section 5) */
	cr_expect_eq(
	    rig_out(&rig, dp, tuple_of(NAT_TCP, 1, "10.0.0.1", 7000, "198.51.100.1", 80)).verdict,
	    NAT_TRANSLATE);
}

Test(table, hairpins_with_the_external_source_and_both_filters)
{
	/* RFC 4787 REQ-9a: the source presented is the external endpoint */
	struct nat_tuple t1 = tuple_of(NAT_UDP, 1, "10.0.0.1", 1111, "198.51.100.1", 80);
	struct nat_tuple t2 = tuple_of(NAT_UDP, 1, "10.0.0.2", 2222, "198.51.100.1", 80);
	struct wire_answer a1 = rig_out(&rig, dp, t1), a2 = rig_out(&rig, dp, t2);
	struct nat_tuple h12 = t1, h21 = t2;
	h12.destination = a2.rewrite.source;
	h12.destination_port = a2.rewrite.source_port;
	h21.destination = a1.rewrite.source;
	h21.destination_port = a1.rewrite.source_port;

	struct wire_answer first = rig_out(&rig, dp, h12);
	cr_expect_eq(first.reason, NAT_REASON_FILTERED, "10.0.0.2 has not spoken yet");
	struct wire_answer second = rig_out(&rig, dp, h21);
	cr_assert_eq(second.verdict, NAT_TRANSLATE, "10.0.0.1's attempt opened its own filter");
	cr_expect_eq(second.rewrite.source, a2.rewrite.source);
	cr_expect_eq(second.rewrite.source_port, a2.rewrite.source_port);
	cr_expect_eq(second.rewrite.destination, t1.source);
	cr_expect_eq(second.rewrite.destination_port, t1.source_port);
	cr_expect_eq(second.rewrite.egress, 1);
	cr_expect_neq(second.handle, second.peer_handle);

	struct wire_answer third = rig_out(&rig, dp, h12);
	cr_assert_eq(third.verdict, NAT_TRANSLATE);
	cr_expect_eq(third.handle, second.peer_handle);
	cr_expect_eq(third.peer_handle, second.handle);
	struct nat_tuple reverse = rig_reverse(h21, &second);
	cr_expect(nat_tuple_equal(&reverse, &h12));

	struct nat_tuple self = t1;
	self.destination = a1.rewrite.source;
	self.destination_port = a1.rewrite.source_port;
	cr_expect_eq(rig_out(&rig, dp, self).reason, NAT_REASON_POLICY);
	struct nat_tuple nobody = t1;
	nobody.destination = a1.rewrite.source;
	nobody.destination_port = htons(1);
	cr_expect_eq(rig_out(&rig, dp, nobody).reason, NAT_REASON_NO_MAPPING);
}

Test(table, peeks_without_making_holding_or_refreshing)
{
	uint32_t other = rig_attach(&rig, 2);
	struct nat_tuple t = tuple_of(NAT_UDP, 1, "10.0.0.1", 5000, "198.51.100.1", 80);
	cr_expect_eq(rig_ask(&rig, other, WIRE_PEEK, t, 0).reason, NAT_REASON_NO_MAPPING);
	struct wire_answer a = rig_out(&rig, dp, t);
	struct wire_answer out = rig_ask(&rig, other, WIRE_PEEK, t, 0);
	cr_expect_eq(out.verdict, NAT_TRANSLATE);
	cr_expect(same_external(&a, &out));
	struct wire_answer in = rig_ask(&rig, other, WIRE_PEEK, rig_reverse(t, &a), 0);
	cr_expect_eq(in.verdict, NAT_TRANSLATE);
	cr_expect_eq(in.direction, NAT_INBOUND);
	cr_expect_eq(in.rewrite.destination, t.source);
	cr_expect_eq(rig_counters(&rig).sessions, 1);
	struct table_session_row row;
	uint64_t cursor = 0;
	cr_assert_eq(table_sessions(rig.table, &(struct table_filter){0}, &cursor, &row, 1, rig.now),
		     1);
	cr_expect_eq(row.holders, UINT64_C(1) << dp, "only who asked to translate holds it");
}

Test(table, tcp_without_syn_opens_nothing)
{
	struct nat_tuple t = tuple_of(NAT_TCP, 1, "10.0.0.1", 5000, "198.51.100.1", 80);
	cr_expect_eq(rig_ask(&rig, dp, WIRE_RESOLVE_OUT, t, NAT_TCP_ACK).reason,
		     NAT_REASON_TCP_OUT_OF_STATE);
	cr_expect_eq(rig_counters(&rig).mappings, 0);
	struct wire_answer a = rig_out(&rig, dp, t);
	cr_assert_eq(a.verdict, NAT_TRANSLATE);
	cr_expect_eq(rig_ask(&rig, dp, WIRE_RESOLVE_OUT, t, NAT_TCP_ACK).handle, a.handle);
	struct nat_tuple in = rig_reverse(t, &a);
	cr_expect_eq(rig_ask(&rig, dp, WIRE_RESOLVE_IN, in, NAT_TCP_ACK | NAT_TCP_SYN).handle, a.handle);
	in.source_port = htons(81); /* the filter would let it, but it is no SYN */
	cr_expect_eq(rig_ask(&rig, dp, WIRE_RESOLVE_IN, in, NAT_TCP_ACK).reason,
		     NAT_REASON_TCP_OUT_OF_STATE);
	cr_expect_eq(rig_in(&rig, dp, in).verdict, NAT_TRANSLATE);
}

/* RFC 5508 REQ-1: sessions begin with requests. An identifier of 0 looks the same in both. */
Test(table, icmp_replies_from_inside_open_nothing)
{
	struct nat_tuple t = tuple_of(NAT_ICMP, 1, "10.0.0.1", 0, "198.51.100.1", 0);

	cr_expect_eq(rig_ask(&rig, dp, WIRE_RESOLVE_OUT, t, NAT_TCP_ACK).reason,
		     NAT_REASON_UNASKED_REPLY);
	t.destination_port = htons(7);
	cr_expect_eq(rig_ask(&rig, dp, WIRE_RESOLVE_OUT, t, NAT_TCP_ACK).reason,
		     NAT_REASON_UNASKED_REPLY);
	cr_expect_eq(rig_counters(&rig).mappings, 0);
	t.destination_port = 0;
	struct wire_answer a = rig_out(&rig, dp, t);
	cr_assert_eq(a.verdict, NAT_TRANSLATE);
	cr_expect_eq(rig_ask(&rig, dp, WIRE_RESOLVE_OUT, t, NAT_TCP_ACK).handle, a.handle,
		     "an answer within a session");
}

Test(table, refuses_strangers_and_unknown_realms)
{
	struct wire_answer a =
	    rig_out(&rig, dp, tuple_of(NAT_UDP, 1, "172.16.0.1", 5000, "198.51.100.1", 80));
	cr_expect_eq(a.reason, NAT_REASON_NOT_CONFIGURED);
	cr_expect_eq(a.verdict, NAT_REJECT);
	a = rig_out(&rig, dp, tuple_of(NAT_UDP, 9, "10.0.0.1", 5000, "198.51.100.1", 80));
	cr_expect_eq(a.reason, NAT_REASON_NOT_CONFIGURED);
}

Test(table, limits_what_one_subscriber_may_have)
{
	rig.config.limits.sessions = 3;
	restart();
	for (unsigned i = 0; i < 5; i++) {
		struct wire_answer a =
		    rig_out(&rig, dp, tuple_of(NAT_UDP, 1, "10.0.0.1", 5000 + i, "198.51.100.1", 80));
		cr_expect_eq(a.reason, i < 3 ? NAT_REASON_NONE : NAT_REASON_SUBSCRIBER_SESSIONS);
	}
	cr_expect_eq(rig_counters(&rig).mappings, 3, "a mapping without session is not kept");
	cr_expect_eq(
	    rig_out(&rig, dp, tuple_of(NAT_UDP, 1, "10.0.0.2", 5000, "198.51.100.1", 80)).verdict,
	    NAT_TRANSLATE, "others are not disturbed (RFC 6888 REQ-4)");
	rig.config.limits.sessions = 4096;
	rig.config.limits.creations_per_second = 10;
	restart();
	unsigned refused = 0;
	for (unsigned i = 0; i < 30; i++)
		refused +=
		    rig_out(&rig, dp, tuple_of(NAT_UDP, 1, "10.0.0.1", 5000 + i, "198.51.100.1", 80))
			.reason == NAT_REASON_SUBSCRIBER_RATE;
	cr_expect_eq(refused, 10, "a burst of twice the rate");
	rig_pass(&rig, 1000, 1);
	cr_expect_eq(
	    rig_out(&rig, dp, tuple_of(NAT_UDP, 1, "10.0.0.1", 6000, "198.51.100.1", 80)).verdict,
	    NAT_TRANSLATE);
}

Test(table, limits_the_sessions_of_one_mapping_and_of_the_table)
{
	rig.config.limits.per_mapping = 2;
	restart();
	for (unsigned i = 0; i < 4; i++) {
		struct wire_answer a =
		    rig_out(&rig, dp, tuple_of(NAT_UDP, 1, "10.0.0.1", 5000, "198.51.100.1", 80 + i));
		cr_expect_eq(a.reason, i < 2 ? NAT_REASON_NONE : NAT_REASON_SUBSCRIBER_SESSIONS);
	}
	rig.config.limits.per_mapping = 4096;
	rig.config.capacity.sessions = 5;
	restart();
	for (unsigned i = 0; i < 8; i++) {
		struct wire_answer a =
		    rig_out(&rig, dp, tuple_of(NAT_UDP, 1, "10.0.0.1", 5000, "198.51.100.1", 80 + i));
		cr_expect_eq(a.reason, i < 5 ? NAT_REASON_NONE : NAT_REASON_TABLE_FULL);
	}
	cr_expect_eq(
	    rig_out(&rig, dp, tuple_of(NAT_UDP, 1, "10.0.0.1", 5000, "198.51.100.1", 80)).verdict,
	    NAT_TRANSLATE, "what exists answers");
}

static void start_redirect(struct config_redirect *rule, struct config_prefix *prefix,
			   struct config_pool pools[2])
{
	/* mirage-nat T9: 1.2.3.4:80 -> 208.121.103.4:80 goes to 172.16.2.30:18787 */
	rig_stop(&rig);
	rig_config(&rig);
	*prefix = (struct config_prefix){ip("172.16.2.1"), 32};
	pools[0] = rig.pool;
	pools[1] = rig.pool;
	strcpy(pools[1].name, "inner");
	pools[1].prefixes = prefix;
	*rule = (struct config_redirect){
	    .name = "web",
	    .from_realm = 0,
	    .to_realm = 1,
	    .protocol = NAT_UDP,
	    .destination = {.address = ip("208.121.103.4"), .port = htons(80)},
	    .to = {.address = ip("172.16.2.30"), .port = htons(18787)},
	    .pool = 1,
	};
	rig.config.pools = pools;
	rig.config.n_pools = 2;
	rig.config.redirects = rule;
	rig.config.n_redirects = 1;
	rig_start(&rig);
	dp = rig_attach(&rig, 1);
}

Test(table, redirects_with_both_addresses_translated)
{
	struct config_redirect rule;
	struct config_prefix prefix;
	struct config_pool pools[2];
	start_redirect(&rule, &prefix, pools);

	struct nat_tuple t = tuple_of(NAT_UDP, 0, "1.2.3.4", 80, "208.121.103.4", 80);
	struct wire_answer a = rig_in(&rig, dp, t);
	cr_assert_eq(a.verdict, NAT_TRANSLATE, "%s", nat_reason_name(a.reason));
	cr_expect_eq(a.rewrite.source, ip("172.16.2.1"));
	cr_expect_eq(a.rewrite.destination, ip("172.16.2.30"));
	cr_expect_eq(ntohs(a.rewrite.destination_port), 18787);
	cr_expect_eq(a.rewrite.egress, 1);

	struct wire_answer back = rig_out(&rig, dp, rig_reverse(t, &a));
	cr_assert_eq(back.verdict, NAT_TRANSLATE, "%s", nat_reason_name(back.reason));
	cr_expect_eq(back.handle, a.handle);
	cr_expect_eq(back.rewrite.source, ip("208.121.103.4"));
	cr_expect_eq(ntohs(back.rewrite.source_port), 80);
	cr_expect_eq(back.rewrite.destination, ip("1.2.3.4"));
	cr_expect_eq(back.rewrite.egress, 0);
	struct wire_answer again = rig_in(&rig, dp, t);
	cr_expect_eq(again.handle, a.handle, "the same again");
	/* a stranger from the inside can't use the mapping */
	struct nat_tuple stranger = rig_reverse(t, &a);
	stranger.source = ip("10.0.0.9");
	cr_expect_neq(rig_out(&rig, dp, stranger).verdict, NAT_TRANSLATE);
}

Test(table, many_clients_of_a_redirect_share_port_blocks)
{
	struct config_redirect rule;
	struct config_prefix prefix;
	struct config_pool pools[2];
	start_redirect(&rule, &prefix, pools);
	for (unsigned i = 0; i < 1000; i++) {
		struct nat_tuple t = tuple_of(NAT_UDP, 0, "1.2.3.4", 80, "208.121.103.4", 80);
		t.source = htonl(0x01020000 + i);
		cr_assert_eq(rig_in(&rig, dp, t).verdict, NAT_TRANSLATE);
	}
	cr_expect_eq(rig_counters(&rig).subscribers, 1);
}

Test(table, mirage_nat_many_entries)
{
	/* T10, T11: random flows; each must be translated, and removing a stranger does nothing */
	for (unsigned i = 0; i < 500; i++) {
		struct nat_tuple t = tuple_of(NAT_TCP, 1, "10.0.0.1", 1, "198.51.100.1", 1);
		uint32_t r = random_below(&rig.random, UINT32_MAX);
		t.source = htonl(0x0a000000 | (r & 0xff));
		t.destination = htonl(0x08000000 | random_below(&rig.random, 1 << 24));
		t.source_port = (nat_be16)random_below(&rig.random, 65536);
		t.destination_port = (nat_be16)random_below(&rig.random, 65536);
		struct wire_answer a = rig_out(&rig, dp, t);
		cr_assert_eq(a.verdict, NAT_TRANSLATE, "%s", nat_reason_name(a.reason));
	}
	uint64_t mappings, sessions;
	struct table_filter nobody = {.subscriber = ip("127.0.0.1")};
	cr_expect_eq(table_delete(rig.table, &nobody, rig.now, &mappings, &sessions), 0);
	cr_expect_eq(mappings, 0);
	cr_expect_eq(rig_counters(&rig).sessions, 500);
}

Test(table, removing_a_client_ends_both_directions_of_its_flows_alone)
{
	/* mirage-nat B3: its remove_connections left the inbound halves alive */
	struct nat_tuple t = tuple_of(NAT_UDP, 1, "10.0.0.1", 5000, "198.51.100.1", 80);
	struct nat_tuple o = tuple_of(NAT_UDP, 1, "10.0.0.2", 5000, "198.51.100.1", 80);
	struct wire_answer a = rig_out(&rig, dp, t), b = rig_out(&rig, dp, o);
	uint64_t mappings, sessions;
	struct table_filter filter = {.subscriber = t.source, .realm = 1};
	cr_expect_eq(table_delete(rig.table, &filter, rig.now, &mappings, &sessions), 0);
	cr_expect_eq(mappings, 1);
	cr_expect_eq(sessions, 1);
	rig_collect(&rig, dp);
	cr_assert_eq(rig.n_notices, 1);
	cr_expect_eq(rig.notices[0].handle, a.handle);
	cr_expect(nat_tuple_equal(&rig.notices[0].tuple, &t));
	cr_expect_neq(rig_in(&rig, dp, rig_reverse(t, &a)).verdict, NAT_TRANSLATE);
	cr_expect_eq(rig_in(&rig, dp, rig_reverse(o, &b)).verdict, NAT_TRANSLATE);
	struct table_filter empty = {.protocol = NAT_UDP};
	cr_expect_eq(table_delete(rig.table, &empty, rig.now, &mappings, &sessions), ERR_INVALID);
}

Test(table, bad_batches_are_refused_whole)
{
	struct wire_request r[2] = {
	    {.op = WIRE_RESOLVE_OUT, .tuple = tuple_of(NAT_UDP, 1, "10.0.0.1", 1, "8.8.8.8", 1)},
	    {.op = WIRE_RESOLVE_IN, .tuple = tuple_of(NAT_UDP, 1, "10.0.0.1", 1, "8.8.8.8", 1)},
	};
	struct wire_batch batch = {.sequence = 1, .n = 2, .entries = r};
	cr_expect_eq(table_batch(rig.table, dp, &batch, rig.now), ERR_INVALID, "IN from realm 1");
	r[1].op = 77;
	cr_expect_eq(table_batch(rig.table, dp, &batch, rig.now), ERR_INVALID, "no such operation");
	r[1].op = WIRE_FLAGS;
	r[1].direction = 2;
	cr_expect_eq(table_batch(rig.table, dp, &batch, rig.now), ERR_INVALID, "no such direction");
	cr_expect_eq(rig_counters(&rig).sessions, 0);
	cr_expect_eq(rig_counters(&rig).bad_batches, 3);
	batch.n = 1;
	for (unsigned i = 0; i < rig.config.inflight_max; i++, batch.sequence++)
		cr_assert_eq(table_batch(rig.table, dp, &batch, rig.now), 0);
	cr_expect_eq(table_batch(rig.table, dp, &batch, rig.now), ERR_BUSY, "beyond its credit");
	batch.sequence = 3;
	cr_expect_eq(table_batch(rig.table, dp, &batch, rig.now), ERR_INVALID, "a number used");
}
