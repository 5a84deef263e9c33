/* SPDX-License-Identifier: Apache-2.0 */
/* What the table knows of fragments: who is told which tuple, and which identification. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include "tests/support/table_rig.h"

static struct rig rig;
static uint32_t a, b, c;

static void start(void)
{
	rig_start(&rig);
	a = rig_attach(&rig, 1);
	b = rig_attach(&rig, 2);
	c = rig_attach(&rig, 3);
}

static void setup(void)
{
	rig_config(&rig);
	start();
}

static void teardown(void)
{
	rig_stop(&rig);
}

TestSuite(table_fragments, .init = setup, .fini = teardown);

static struct nat_tuple from(const char *host, unsigned port)
{
	return tuple_of(NAT_UDP, 1, host, port, "198.51.100.7", 4000);
}

static struct wire_answer first(uint32_t dataplane, struct nat_tuple tuple, uint16_t id)
{
	return rig_fragment(&rig, dataplane, WIRE_FRAGMENT_FIRST, tuple, id);
}

static struct wire_answer later(uint32_t dataplane, struct nat_tuple tuple, uint16_t id)
{
	return rig_fragment(&rig, dataplane, WIRE_FRAGMENT_LATER, tuple, id);
}

static void expect_tuple(const struct wire_answer *answer, struct nat_tuple tuple)
{
	cr_expect_eq(answer->verdict, NAT_TRANSLATE);
	cr_expect_eq(answer->rewrite.source, tuple.source);
	cr_expect_eq(answer->rewrite.destination, tuple.destination);
	cr_expect_eq(answer->rewrite.source_port, tuple.source_port);
	cr_expect_eq(answer->rewrite.destination_port, tuple.destination_port);
	cr_expect_eq(answer->handle, 0, "nobody holds anything by it");
}

/* RFC 4787 REQ-14: fragments of one datagram at different dataplanes. */
Test(table_fragments, who_asks_later_is_told_the_first)
{
	struct nat_tuple tuple = from("10.0.0.1", 1000);
	struct wire_answer one = first(a, tuple, 77), two = later(b, tuple, 77);
	expect_tuple(&one, tuple);
	expect_tuple(&two, tuple);
	cr_expect_eq(one.identification, two.identification);
	cr_expect_eq(rig_counters(&rig).sessions, 0, "a fragment makes no session");
	cr_expect_eq(later(b, from("10.0.0.2", 0), 77).reason, NAT_REASON_FRAGMENT_UNKNOWN,
		     "another host's");
	cr_expect_eq(later(b, tuple, 78).reason, NAT_REASON_FRAGMENT_UNKNOWN, "another datagram's");
}

/* U4: a first fragment comes twice, or its question is repeated by a new stream. */
Test(table_fragments, the_first_asked_twice_is_answered_the_same)
{
	struct nat_tuple tuple = from("10.0.0.1", 1000);
	uint16_t given = first(a, tuple, 77).identification;
	cr_expect_eq(first(a, tuple, 77).identification, given);
	cr_expect_eq(first(b, tuple, 77).identification, given);
	cr_expect_eq(rig_counters(&rig).fragments_known, 1);
}

/* RFC 4787 REQ-14: out of order, across dataplanes. */
Test(table_fragments, who_asked_too_early_gets_a_notice_once)
{
	struct nat_tuple tuple = from("10.0.0.1", 1000);
	cr_expect_eq(later(b, tuple, 77).reason, NAT_REASON_FRAGMENT_UNKNOWN);
	cr_expect_eq(later(b, tuple, 77).verdict, NAT_DROP);
	later(c, tuple, 77);
	later(a, tuple, 77); /* a is to see the first one itself */
	rig.n_notices = 0;
	uint16_t given = first(a, tuple, 77).identification;
	first(a, tuple, 77);
	cr_expect_eq(rig.n_notices, 0, "the answer told a");
	rig_collect(&rig, b);
	cr_assert_eq(rig.n_notices, 1);
	cr_expect_eq(rig.kinds[0], WIRE_FRAGMENTS);
	cr_expect(nat_tuple_equal(&rig.notices[0].tuple, &tuple));
	cr_expect_eq(rig.notices[0].identification, 77);
	cr_expect_eq(rig.notices[0].new_identification, given);
	rig_collect(&rig, c);
	cr_expect_eq(rig.n_notices, 1);
	cr_expect_eq(rig_counters(&rig).fragments_told, 2);
	cr_expect_eq(rig_counters(&rig).fragments_orphans, 0);
}

/* RFC 6864 section 5.3.1, RFC 7857 section 10. */
Test(table_fragments, hosts_with_one_identification_get_different_ones)
{
	bool seen[65536] = {false};
	char host[32];
	for (unsigned i = 0; i < 200; i++) {
		snprintf(host, sizeof host, "10.0.%u.%u", i / 100, 1 + i % 100);
		struct wire_answer answer = first(i % 2 ? a : b, from(host, 1000), 77);
		cr_assert_not(seen[answer.identification], "%s", host);
		seen[answer.identification] = true;
	}
	for (unsigned i = 0; i < 50; i++) { /* whole ones, cut by a dataplane */
		struct wire_answer answer =
		    rig_fragment(&rig, c, WIRE_FRAGMENT_WHOLE, from("10.0.0.9", 1000), 0);
		cr_assert_eq(answer.verdict, NAT_TRANSLATE);
		cr_assert_not(seen[answer.identification], "each one its own, although all have 0");
		seen[answer.identification] = true;
	}
}

/* RFC 6864 section 5.3.1: packets from the outside have the one source that numbered them. */
Test(table_fragments, from_the_outside_the_identification_stays)
{
	struct nat_tuple tuple = tuple_of(NAT_UDP, 0, "198.51.100.7", 4000, "192.0.2.1", 2000);
	cr_expect_eq(first(a, tuple, 0).identification, 0);
	cr_expect_eq(first(a, tuple, 501).identification, 501);
	cr_expect_eq(later(b, tuple, 501).identification, 501);
}

/* A redirect gives all its clients one source. */
Test(table_fragments, from_the_outside_through_a_redirect_it_is_ours)
{
	struct config_redirect rule = {
	    .name = "web",
	    .from_realm = 0,
	    .to_realm = 1,
	    .protocol = NAT_UDP,
	    .destination = {.address = ip("192.0.2.3"), .port = htons(80)},
	    .to = {.address = ip("10.0.0.30"), .port = htons(8080)},
	};
	rig_stop(&rig);
	rig_config(&rig);
	rig.config.redirects = &rule;
	rig.config.n_redirects = 1;
	start();
	struct nat_tuple one = tuple_of(NAT_UDP, 0, "198.51.100.7", 4000, "192.0.2.3", 80);
	struct nat_tuple two = tuple_of(NAT_UDP, 0, "198.51.100.8", 4000, "192.0.2.3", 80);
	uint16_t given = first(a, one, 5).identification;
	cr_expect_eq(first(b, two, 5).identification, (uint16_t)(given + 1));
	/* From inside to where the redirect leads: the same counter. */
	struct nat_tuple direct = from("10.0.0.1", 1000);
	direct.destination = rule.to.address;
	cr_expect_eq(first(b, direct, 5).identification, (uint16_t)(given + 2));
}

/* RFC 6864: a number that fragments may still be under way with is not given out again. */
Test(table_fragments, a_number_in_use_is_skipped)
{
	struct nat_tuple slow = from("10.0.0.1", 1), fast = from("10.0.0.2", 1);
	rig_pass(&rig, 1950, 7);
	uint16_t held = first(a, slow, 1).identification;
	unsigned given = 0;
	/* 65,535 more within a lifetime: the counter comes round to the one that is held. */
	for (unsigned i = 0; i < 65536; i++) {
		struct wire_answer answer =
		    rig_fragment(&rig, b, WIRE_FRAGMENT_WHOLE, fast, (uint16_t)i);
		given += answer.identification == held;
		if (i % 20 == 0)
			rig_heartbeat(&rig, b, true);
	}
	cr_expect_eq(given, 0);
	cr_expect_eq(rig_counters(&rig).fragments_skipped, 1);
	/* When its time is over it comes again. */
	rig_pass(&rig, 2100, 7);
	for (unsigned i = 0; i < 65536 && !given; i++) {
		given =
		    rig_fragment(&rig, b, WIRE_FRAGMENT_WHOLE, fast, (uint16_t)i).identification ==
		    held;
		if (i % 20 == 0)
			rig_heartbeat(&rig, b, true);
	}
	cr_expect_eq(given, 1);
}

/* What meets behind the translation must differ there, whatever it was addressed to. */
Test(table_fragments, destinations_that_become_one_have_one_counter)
{
	struct nat_tuple opened = from("10.0.0.1", 1000);
	struct wire_answer mapping = rig_out(&rig, a, opened);
	struct nat_endpoint external = {mapping.rewrite.source, mapping.rewrite.source_port, 0};
	struct nat_tuple hairpinned = from("10.0.0.2", 1000), direct = from("10.0.0.3", 1000);
	hairpinned.destination = external.address;
	hairpinned.destination_port = external.port;
	direct.destination = ip("10.0.0.1");
	uint16_t one = first(a, hairpinned, 5).identification;
	cr_expect_eq(first(a, direct, 5).identification, (uint16_t)(one + 1));
}

Test(table_fragments, a_datagram_is_forgotten_when_its_time_is_over)
{
	struct nat_tuple tuple = from("10.0.0.1", 1000);
	first(a, tuple, 77);
	later(b, tuple, 78);
	rig_pass(&rig, 1900, 7);
	cr_expect_eq(later(b, tuple, 77).verdict, NAT_TRANSLATE);
	rig_pass(&rig, 200, 7);
	cr_expect_eq(rig_counters(&rig).fragments_known, 0);
	cr_expect_eq(rig_counters(&rig).fragments_expired, 1);
	cr_expect_eq(rig_counters(&rig).fragments_orphans_expired, 1);
	cr_expect_eq(later(b, tuple, 77).reason, NAT_REASON_FRAGMENT_UNKNOWN);
}

/* The sender uses a number again within a lifetime: the newer datagram is the one that counts. */
Test(table_fragments, a_number_used_again_for_other_ports_is_another_datagram)
{
	uint16_t one = first(a, from("10.0.0.1", 1000), 77).identification;
	uint16_t two = first(a, from("10.0.0.1", 1001), 77).identification;
	cr_expect_neq(one, two);
	cr_expect_eq(later(b, from("10.0.0.1", 0), 77).identification, two);
}

static void flood(unsigned op, uint32_t dataplane, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		rig_fragment(&rig, dataplane, op, from("10.66.0.1", 1000), (uint16_t)i);
		if (i % 20 == 0)
			rig_heartbeat(&rig, dataplane, true);
	}
}

/* RFC 4787 REQ-14a, U5: one source's flood is at its own expense. */
Test(table_fragments, a_flood_of_one_source_pushes_out_its_own)
{
	struct nat_tuple tuple = from("10.0.0.1", 1000), waits = from("10.0.0.2", 1000);
	uint16_t given = first(a, tuple, 77).identification;
	later(b, waits, 5);
	flood(WIRE_FRAGMENT_FIRST, c, 3000);
	flood(WIRE_FRAGMENT_LATER, c, 3000);
	cr_expect_eq(later(b, tuple, 77).identification, given);
	cr_expect_leq(rig_counters(&rig).fragments_known, 256 / 8 + 1);
	cr_expect_leq(rig_counters(&rig).fragments_orphans, 64 / 8 + 1);
	first(a, waits, 5);
	rig_collect(&rig, b);
	cr_expect_eq(rig.n_notices, 1, "the orphan of another source is still there");
}

/* RFC 4787 REQ-14a, U5: orphans from everywhere push out orphans, and nothing that is known. */
Test(table_fragments, orphans_push_out_only_orphans)
{
	struct nat_tuple tuple = from("10.0.0.1", 1000);
	uint16_t given = first(a, tuple, 77).identification;
	for (unsigned i = 0; i < 3000; i++) {
		struct nat_tuple orphan = tuple;
		orphan.source = htonl(0x0a420000 + i);
		later(c, orphan, (uint16_t)i);
		if (i % 20 == 0)
			rig_heartbeat(&rig, c, true);
	}
	cr_expect_leq(rig_counters(&rig).fragments_orphans, 64);
	cr_expect_eq(later(b, tuple, 77).identification, given);
	struct table_counters counters = rig_counters(&rig);
	cr_expect_geq(counters.fragments_evicted, 3000 - 64);
}

/* A notice that finds no room is lost, and is no reason to flush (wire.h). */
Test(table_fragments, notices_never_order_a_flush)
{
	/* b never acknowledges: its outbox fills. */
	for (unsigned i = 0; i < 2000; i++) {
		struct nat_tuple tuple = from("10.0.0.1", 1000);
		tuple.source = htonl(0x0a000000 + i);
		later(b, tuple, 9);
		first(a, tuple, 9);
		rig_heartbeat(&rig, a, true);
	}
	struct table_counters counters = rig_counters(&rig);
	cr_expect_gt(counters.fragments_untold, 0);
	cr_expect_eq(counters.flushes, 0);
	/* There is still room for what must be said. */
	struct nat_tuple opened = from("10.0.0.1", 1000);
	rig_out(&rig, a, opened);
	struct table_filter filter = {.subscriber = ip("10.0.0.1")};
	uint64_t mappings, sessions;
	table_delete(rig.table, &filter, rig.now, &mappings, &sessions);
	cr_expect_eq(rig_counters(&rig).flushes, 0);
}

/* Fragments change nothing about who holds what, so that nothing waits for them. */
Test(table_fragments, a_dataplane_that_is_lost_is_not_waited_for)
{
	struct nat_tuple tuple = from("10.0.0.1", 1000);
	later(b, tuple, 77);
	rig_pass(&rig, 1500, 1u << a);
	cr_expect_eq(first(a, tuple, 77).verdict, NAT_TRANSLATE);
	cr_expect_eq(rig_counters(&rig).fenced, 0);
	cr_expect_eq(rig_counters(&rig).sessions, 0);
}
