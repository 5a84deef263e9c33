/* SPDX-License-Identifier: Apache-2.0 */
/* Translation by address: protocols other than TCP, UDP and ICMP, as a pool allows them. */
#include <criterion/criterion.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/table_rig.h"

static struct rig rig;
static uint32_t dp;

static void start(void)
{
	rig_config(&rig);
	memcpy(rig.pool.protocols, (uint8_t[]){NAT_GRE, NAT_ESP, NAT_SCTP}, 3);
	rig.pool.n_protocols = 3;
	rig_start(&rig);
	dp = rig_attach(&rig, 1);
}

static void stop(void)
{
	rig_stop(&rig);
}

TestSuite(table_address, .init = start, .fini = stop);

static struct nat_tuple gre(const char *source, const char *destination)
{
	return tuple_of(NAT_GRE, 1, source, 0, destination, 0);
}

static bool reload(void)
{
	char error[256] = "";
	int err = table_reload(rig.table, &rig.config, rig.now, error, sizeof error);
	cr_expect_eq(err, 0, "%s", error);
	rig_collect(&rig, dp);
	return err == 0;
}

Test(table_address, one_external_address_whatever_the_destination)
{
	struct nat_tuple t = gre("10.0.0.1", "198.51.100.1");
	struct wire_answer a = rig_out(&rig, dp, t);
	cr_assert_eq(a.verdict, NAT_TRANSLATE);
	cr_expect_eq(a.rewrite.source_port, 0);
	cr_expect_eq(a.rewrite.destination_port, 0);
	struct wire_answer again = rig_out(&rig, dp, t);
	cr_expect_eq(memcmp(&a, &again, sizeof a), 0);
	struct wire_answer b = rig_out(&rig, dp, gre("10.0.0.1", "198.51.100.2"));
	cr_expect_eq(a.rewrite.source, b.rewrite.source);
	/* RFC 6888 REQ-2: paired with what its ports have */
	struct wire_answer c =
	    rig_out(&rig, dp, tuple_of(NAT_UDP, 1, "10.0.0.1", 5000, "198.51.100.1", 80));
	cr_expect_eq(a.rewrite.source, c.rewrite.source);
	/* and each protocol has a place of its own */
	struct nat_tuple esp = t;
	esp.protocol = NAT_ESP;
	struct wire_answer d = rig_out(&rig, dp, esp);
	cr_expect_eq(a.rewrite.source, d.rewrite.source);
	struct wire_answer back = rig_in(&rig, dp, rig_reverse(t, &a));
	cr_expect_eq(back.verdict, NAT_TRANSLATE);
	cr_expect_eq(back.rewrite.destination, t.source);
	cr_expect_eq(back.handle, a.handle);
}

/* Four addresses: four subscribers at a time, and the fifth learns it (RFC 6888 REQ-11). */
Test(table_address, one_subscriber_at_a_time_for_each_external_address)
{
	nat_be32 seen[4];
	for (unsigned i = 0; i < 4; i++) {
		char host[16];
		snprintf(host, sizeof host, "10.0.0.%u", i + 1);
		struct wire_answer a = rig_out(&rig, dp, gre(host, "198.51.100.1"));
		cr_assert_eq(a.verdict, NAT_TRANSLATE);
		seen[i] = a.rewrite.source;
		for (unsigned j = 0; j < i; j++)
			cr_expect_neq(seen[i], seen[j]);
	}
	struct wire_answer no = rig_out(&rig, dp, gre("10.0.0.5", "198.51.100.1"));
	cr_expect_eq(no.verdict, NAT_REJECT);
	cr_expect_eq(no.reason, NAT_REASON_PORTS_EXHAUSTED);
	cr_expect_eq(rig_counters(&rig).mappings, 4, "nothing of the refused one is left");
	/* what is there lives on (RFC 6888 REQ-11D) */
	struct wire_answer a = rig_out(&rig, dp, gre("10.0.0.1", "198.51.100.9"));
	cr_expect_eq(a.rewrite.source, seen[0]);
}

Test(table_address, what_no_pool_allows_is_dropped)
{
	static const uint8_t refused[] = {NAT_DCCP, NAT_UDPLITE};
	for (unsigned i = 0; i < 2; i++) {
		struct wire_answer a =
		    rig_out(&rig, dp, tuple_of(refused[i], 1, "10.0.0.1", 0, "198.51.100.1", 0));
		cr_expect_eq(a.verdict, NAT_DROP);
		cr_expect_eq(a.reason, NAT_REASON_PROTOCOL);
		a = rig_in(&rig, dp, tuple_of(refused[i], 0, "198.51.100.1", 0, "192.0.2.1", 0));
		cr_expect_eq(a.verdict, NAT_DROP);
	}
	cr_expect_eq(rig_counters(&rig).mappings, 0);
	struct wire_config pushed;
	table_wire_config(rig.table, &pushed);
	cr_expect_eq(pushed.n_protocols, 3);
	cr_expect_eq(memcmp(pushed.protocols, rig.pool.protocols, 3), 0);
}

/* RFC 4787 REQ-8 without ports: address-dependent, and independent where the pool says so. */
Test(table_address, filtering_is_by_address)
{
	struct wire_answer a = rig_out(&rig, dp, gre("10.0.0.1", "198.51.100.1"));
	struct nat_tuple stranger = {
	    .source = ip("198.51.100.2"), .destination = a.rewrite.source, .protocol = NAT_GRE};
	struct wire_answer b = rig_in(&rig, dp, stranger);
	cr_expect_eq(b.verdict, NAT_DROP);
	cr_expect_eq(b.reason, NAT_REASON_FILTERED);
	rig.pool.filtering_udp = CONFIG_APDF;
	cr_assert(reload());
	cr_expect_eq(rig_in(&rig, dp, stranger).reason, NAT_REASON_FILTERED);
	rig.pool.filtering_udp = CONFIG_EIF;
	cr_assert(reload());
	b = rig_in(&rig, dp, stranger);
	cr_expect_eq(b.verdict, NAT_TRANSLATE);
	cr_expect_eq(b.rewrite.destination, ip("10.0.0.1"));
}

Test(table_address, expires_and_rests_before_another_has_it)
{
	struct nat_tuple t = gre("10.0.0.1", "198.51.100.1");
	nat_be32 seen[4];
	for (unsigned i = 0; i < 4; i++) {
		char host[16];
		snprintf(host, sizeof host, "10.0.0.%u", i + 1);
		seen[i] = rig_out(&rig, dp, gre(host, "198.51.100.1")).rewrite.source;
	}
	rig_pass(&rig, 599000, 1);
	cr_expect_eq(rig_counters(&rig).mappings, 4, "timers.other");
	for (unsigned i = 1; i < 4; i++) { /* three go on */
		char host[16];
		snprintf(host, sizeof host, "10.0.0.%u", i + 1);
		rig_out(&rig, dp, gre(host, "198.51.100.1"));
	}
	rig_pass(&rig, 10000, 1);
	rig_collect(&rig, dp);
	for (unsigned i = 0; i < rig.n_notices; i++)
		rig_report(&rig, dp, WIRE_DROPPED, rig.notices[i].handle, UINT32_MAX, 0, 0);
	cr_expect_eq(rig_counters(&rig).mappings, 3);
	/* RFC 6888 REQ-8: 120 s before it changes hands, at once for who had it */
	struct wire_answer other = rig_out(&rig, dp, gre("10.0.0.9", "198.51.100.1"));
	cr_expect_eq(other.reason, NAT_REASON_PORTS_EXHAUSTED);
	struct wire_answer own = rig_out(&rig, dp, t);
	cr_expect_eq(own.rewrite.source, seen[0]);
}

/* RFC 4787 REQ-9 */
Test(table_address, hairpins)
{
	struct nat_tuple t1 = gre("10.0.0.1", "198.51.100.1"), t2 = gre("10.0.0.2", "198.51.100.1");
	nat_be32 e1 = rig_out(&rig, dp, t1).rewrite.source,
		 e2 = rig_out(&rig, dp, t2).rewrite.source;
	struct nat_tuple across = t1;
	across.destination = e2;
	struct wire_answer a = rig_out(&rig, dp, across);
	cr_expect_eq(a.verdict, NAT_DROP,
		     "the receiver's filter: it has not spoken to that address");
	struct nat_tuple answer = t2;
	answer.destination = e1;
	a = rig_out(&rig, dp, answer);
	cr_assert_eq(a.verdict, NAT_TRANSLATE);
	cr_expect_eq(a.rewrite.source, e2);
	cr_expect_eq(a.rewrite.destination, ip("10.0.0.1"));
	cr_expect_eq(a.rewrite.egress, 1);
	a = rig_out(&rig, dp, across);
	cr_expect_eq(a.verdict, NAT_TRANSLATE);
	cr_expect_eq(a.rewrite.destination, ip("10.0.0.2"));
}

/* An ICMP error about such a packet: answered, nothing made, held or refreshed (RFC 5508 REQ-6). */
Test(table_address, errors_peek)
{
	struct nat_tuple t = gre("10.0.0.1", "198.51.100.1");
	struct wire_answer a = rig_out(&rig, dp, t);
	struct nat_tuple back = rig_reverse(t, &a);
	struct wire_answer p = rig_ask(&rig, dp, WIRE_PEEK, back, 0);
	cr_expect_eq(p.verdict, NAT_TRANSLATE);
	cr_expect_eq(p.rewrite.destination, t.source);
	back.source = ip("198.51.100.77");
	p = rig_ask(&rig, dp, WIRE_PEEK, back, 0);
	cr_expect_eq(p.verdict, NAT_DROP);
	cr_expect_eq(rig_counters(&rig).sessions, 1);
}

Test(table_address, a_protocol_that_the_pool_loses_ends_fenced)
{
	struct nat_tuple t = gre("10.0.0.1", "198.51.100.1"), esp = t;
	esp.protocol = NAT_ESP;
	struct wire_answer a = rig_out(&rig, dp, t);
	rig_out(&rig, dp, esp);
	rig.pool.protocols[0] = NAT_ESP;
	rig.pool.n_protocols = 1;
	cr_assert(reload());
	cr_expect_eq(rig.n_notices, 1);
	cr_expect_eq(rig.kinds[0], WIRE_INVALIDATE);
	cr_expect_eq(rig.notices[0].handle, a.handle);
	cr_expect_eq(rig_counters(&rig).fenced, 1, "until it is acknowledged");
	rig_heartbeat(&rig, dp, true);
	cr_expect_eq(rig_counters(&rig).fenced, 0);
	cr_expect_eq(rig_counters(&rig).mappings, 1);
	cr_expect_eq(rig_out(&rig, dp, t).reason, NAT_REASON_PROTOCOL);
}
