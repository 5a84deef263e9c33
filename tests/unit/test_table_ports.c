/* SPDX-License-Identifier: Apache-2.0 */
/* External ports as subscribers see them through the table: hold-down, limits, exhaustion. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/table_rig.h"

static struct rig rig;
static uint32_t dp;

static void start(void)
{
	rig_start(&rig);
	dp = rig_attach(&rig, 1);
}

static void configure(void)
{
	rig_config(&rig);
}

static void stop(void)
{
	rig_stop(&rig);
}

TestSuite(table_ports, .init = configure, .fini = stop);

static struct nat_tuple udp_of(const char *source, unsigned port)
{
	return tuple_of(NAT_UDP, 1, source, port, "198.51.100.1", 80);
}

/* Ends all that the subscriber has, and has the dataplane acknowledge: clean. */
static void end_all_of(const char *source)
{
	struct table_filter filter = {.subscriber = ip(source), .realm = 1};
	uint64_t mappings, sessions;

	cr_assert_eq(table_delete(rig.table, &filter, rig.now, &mappings, &sessions), 0);
	rig_collect(&rig, dp);
	rig_heartbeat(&rig, dp, true);
}

static struct table_pool_row pool_row(void)
{
	struct table_pool_row row;
	uint64_t cursor = 0;

	cr_assert_eq(table_pools(rig.table, &cursor, &row, 1), 1);
	return row;
}

/*
 * RFC 6888 REQ-8: hold-down is 0 while a block stays with its subscriber. One whose last mapping
 * ended is forgotten but for its resting block, and gets that again, not one more for each flow.
 */
Test(table_ports, a_subscriber_that_was_forgotten_comes_back_to_its_block)
{
	start();
	struct wire_answer first = rig_out(&rig, dp, udp_of("10.0.0.1", 5000));
	unsigned block = ntohs(first.rewrite.source_port) / 256u;
	for (unsigned i = 1; i < 50; i++) {
		end_all_of("10.0.0.1");
		cr_assert_eq(rig_counters(&rig).subscribers, 0, "forgotten");
		cr_assert_eq(pool_row().blocks_resting, 1);
		rig_pass(&rig, 1000, 1);
		struct wire_answer again = rig_out(&rig, dp, udp_of("10.0.0.1", 5000 + i));
		cr_assert_eq(again.verdict, NAT_TRANSLATE);
		cr_assert_eq(again.rewrite.source, first.rewrite.source, "paired as before");
		cr_assert_eq(ntohs(again.rewrite.source_port) / 256u, block, "flow %u", i);
	}
	cr_expect_eq(pool_row().blocks_used, 1);
	cr_expect_eq(pool_row().blocks_resting, 0);
}

/* RFC 6888 REQ-8: with another one's resting block alone it is refused, until the hold-down is
 * over. */
Test(table_ports, a_block_of_a_forgotten_subscriber_rests_for_others)
{
	rig.pool.port_last = 1024 + 255; /* a block an address */
	rig.pool_prefix.length = 32;
	start();
	cr_assert_eq(rig_out(&rig, dp, udp_of("10.0.0.1", 5000)).verdict, NAT_TRANSLATE);
	end_all_of("10.0.0.1");
	rig_pass(&rig, 60000, 1);
	struct wire_answer refused = rig_out(&rig, dp, udp_of("10.0.0.2", 5000));
	cr_expect_eq(refused.verdict, NAT_REJECT);
	cr_expect_eq(refused.reason, NAT_REASON_PORTS_EXHAUSTED);
	cr_expect_eq(rig_out(&rig, dp, udp_of("10.0.0.1", 5001)).verdict, NAT_TRANSLATE,
		     "its own, within the hold-down");
	end_all_of("10.0.0.1");
	rig_pass(&rig, 119000, 1);
	cr_expect_eq(rig_out(&rig, dp, udp_of("10.0.0.2", 5000)).reason,
		     NAT_REASON_PORTS_EXHAUSTED);
	rig_pass(&rig, 1200, 1);
	cr_expect_eq(rig_out(&rig, dp, udp_of("10.0.0.2", 5000)).verdict, NAT_TRANSLATE);
}

/* RFC 6888 REQ-8: also after a restart, whose table does not know who had what. */
Test(table_ports, all_blocks_may_rest_after_a_start)
{
	struct config_static forward = {.realm = 1,
					.protocol = NAT_TCP,
					.external = {ip("192.0.2.1"), htons(443), 0},
					.internal = {ip("10.0.0.5"), htons(8443), 0}};

	rig.config.hold_down_at_start_ms = 120000;
	rig.config.statics = &forward;
	rig.config.n_statics = 1;
	start();
	struct wire_answer a = rig_out(&rig, dp, udp_of("10.0.0.1", 5000));
	cr_expect_eq(a.verdict, NAT_REJECT);
	cr_expect_eq(a.reason, NAT_REASON_HOLD_DOWN);
	cr_expect_eq(a.ttl_ms, 0, "not remembered: it ends by itself");
	cr_expect_str_eq(nat_reason_name(a.reason), "hold_down");
	cr_expect_eq(
	    rig_in(&rig, dp, tuple_of(NAT_TCP, 0, "198.51.100.1", 80, "192.0.2.1", 443)).verdict,
	    NAT_TRANSLATE, "static mappings were nobody else's");
	rig_pass(&rig, 119900, 1);
	cr_expect_eq(rig_out(&rig, dp, udp_of("10.0.0.1", 5000)).reason, NAT_REASON_HOLD_DOWN);
	rig_pass(&rig, 100, 1);
	cr_expect_eq(rig_out(&rig, dp, udp_of("10.0.0.1", 5000)).verdict, NAT_TRANSLATE);
	cr_expect_eq(rig_counters(&rig).refused[NAT_REASON_HOLD_DOWN], 2);
}

/* ---- limits: flow N + 1 is refused, others are not, and what exists lives (RFC 6888 REQ-4) ----
 */

struct limit_row {
	char name[24];
	unsigned ports, blocks, sessions, rate, n, reason;
};

ParameterizedTestParameters(table_ports, limit_n_refuses_flow_n_plus_1)
{
	static struct limit_row rows[] = {
	    {"ports", 100, 8, 4096, 0, 100, NAT_REASON_SUBSCRIBER_PORTS},
	    {"blocks", 0, 1, 4096, 0, 256, NAT_REASON_SUBSCRIBER_BLOCKS},
	    {"ports before blocks", 300, 2, 4096, 0, 300, NAT_REASON_SUBSCRIBER_PORTS},
	    {"sessions", 0, 8, 77, 0, 77, NAT_REASON_SUBSCRIBER_SESSIONS},
	    {"rate", 0, 8, 4096, 20, 40, NAT_REASON_SUBSCRIBER_RATE},
	};
	return cr_make_param_array(struct limit_row, rows, sizeof rows / sizeof rows[0]);
}

/* RFC 6888 REQ-4, REQ-4c, REQ-5, REQ-5b, REQ-11a, REQ-11d */
ParameterizedTest(struct limit_row *row, table_ports, limit_n_refuses_flow_n_plus_1)
{
	static struct wire_answer first[512];
	static const uint8_t protocols[] = {NAT_UDP, NAT_TCP};

	configure();
	rig.config.limits.ports = row->ports;
	rig.config.limits.blocks = row->blocks;
	rig.config.limits.sessions = row->sessions;
	rig.config.limits.creations_per_second = row->rate;
	start();
	unsigned mixed =
	    row->reason != NAT_REASON_SUBSCRIBER_BLOCKS; /* each protocol has its ports */
	for (unsigned i = 0; i < row->n; i++) {
		struct nat_tuple t =
		    tuple_of(protocols[mixed * i % 2], 1, "10.0.0.1", 2000 + i, "198.51.100.1", 80);
		first[i] = rig_out(&rig, dp, t);
		cr_assert_eq(first[i].verdict, NAT_TRANSLATE, "%s: flow %u", row->name, i);
	}
	for (unsigned i = 0; i < 20; i++) {
		struct wire_answer a = rig_out(&rig, dp, udp_of("10.0.0.1", 60000 + i));
		cr_assert_eq(a.verdict, NAT_REJECT, "%s", row->name);
		cr_assert_eq(a.reason, row->reason, "%s: %s", row->name, nat_reason_name(a.reason));
	}
	cr_expect_eq(rig_counters(&rig).refused[row->reason], 20);
	cr_expect_eq(rig_out(&rig, dp, udp_of("10.0.0.2", 2000)).verdict, NAT_TRANSLATE,
		     "%s: another subscriber", row->name);
	for (unsigned i = 0; i < row->n; i++) {
		struct nat_tuple t =
		    tuple_of(protocols[mixed * i % 2], 1, "10.0.0.1", 2000 + i, "198.51.100.1", 80);
		cr_assert_eq(rig_out(&rig, dp, t).handle, first[i].handle, "%s: lives on",
			     row->name);
	}
	cr_expect_eq(pool_row().blocks_resting, 0, "%s: a refusal takes no block", row->name);
	stop();
	configure(); /* the suite's own stop needs one */
	start();
}

/* RFC 6888 REQ-11, REQ-14: a full table refuses; it ends nothing, and uses and logs no block for
 * it. */
Test(table_ports, a_full_table_refuses_and_takes_no_blocks)
{
	rig.config.capacity.sessions = 64;
	start();
	uint64_t handles[64];
	for (unsigned i = 0; i < 64; i++)
		handles[i] = rig_out(&rig, dp, udp_of("10.0.0.1", 2000 + i)).handle;
	for (unsigned i = 0; i < 50; i++) {
		char source[32];
		snprintf(source, sizeof source, "10.0.1.%u", i);
		struct wire_answer a = rig_out(&rig, dp, udp_of(source, 2000));
		cr_assert_eq(a.verdict, NAT_REJECT);
		cr_assert_eq(a.reason, NAT_REASON_TABLE_FULL);
	}
	cr_expect_eq(pool_row().blocks_resting, 0);
	cr_expect_eq(rig_counters(&rig).refused[NAT_REASON_TABLE_FULL], 50);
	cr_expect_eq(rig_counters(&rig).subscribers, 1);
	for (unsigned i = 0; i < 64; i++)
		cr_assert_eq(rig_out(&rig, dp, udp_of("10.0.0.1", 2000 + i)).handle, handles[i]);
}

/*
 * RFC 6888 REQ-13: every port from 1024 on of an address is used before one flow is refused, and
 * each protocol has its own; REQ-11: then each is refused and counted, and all live on.
 */
Test(table_ports, an_address_carries_all_its_ports_of_each_protocol)
{
	static bool seen[2][65536];
	static const uint8_t protocols[2] = {NAT_UDP, NAT_TCP};
	enum { PORTS = 64512, HOSTS = 12 }; /* 21 blocks each */

	rig.pool_prefix.length = 32;
	rig.config.limits.blocks = 1024;
	rig.config.limits.sessions = 1000000;
	rig.config.capacity.mappings = rig.config.capacity.sessions = 2 * PORTS + 100;
	start();
	for (unsigned p = 0; p < 2; p++) {
		for (unsigned i = 0; i < PORTS; i++) {
			char source[32];
			snprintf(source, sizeof source, "10.0.0.%u", i % HOSTS + 1);
			if (i % 1024 == 0)
				rig_heartbeat(&rig, dp, true);
			struct wire_answer a =
			    rig_out(&rig, dp,
				    tuple_of(protocols[p], 1, source, 1024 + i / HOSTS,
					     "198.51.100.1", 80));
			unsigned port = ntohs(a.rewrite.source_port);
			cr_assert_eq(a.verdict, NAT_TRANSLATE, "flow %u: %s", i,
				     nat_reason_name(a.reason));
			cr_assert(port >= 1024 && !seen[p][port]);
			seen[p][port] = true;
		}
		struct wire_answer a =
		    rig_out(&rig, dp, tuple_of(protocols[p], 1, "10.0.0.1", 9, "198.51.100.1", 80));
		cr_expect_eq(a.reason, NAT_REASON_PORTS_EXHAUSTED);
	}
	cr_expect_eq(pool_row().ports_used, 2 * PORTS);
	cr_expect_eq(pool_row().exhausted, 2);
	cr_expect_eq(rig_counters(&rig).sessions, 2 * PORTS);
	cr_expect_eq(rig_out(&rig, dp, udp_of("10.0.0.1", 1024)).verdict, NAT_TRANSLATE);
}

/* RFC 6888 REQ-3: {192.0.2.1, 192.0.2.9, 198.51.100.0/29}: all of it, and nothing between. */
Test(table_ports, a_pool_of_several_ranges_apart)
{
	struct config_prefix prefixes[] = {
	    {ip("192.0.2.1"), 32}, {ip("192.0.2.9"), 32}, {ip("198.51.100.0"), 29}};
	unsigned hosts[10] = {0};

	rig.pool.prefixes = prefixes;
	rig.pool.n_prefixes = 3;
	start();
	for (unsigned i = 0; i < 600; i++) {
		char source[32];
		snprintf(source, sizeof source, "10.0.%u.%u", i / 200, i % 200 + 1);
		struct wire_answer a =
		    rig_out(&rig, dp, tuple_of(NAT_UDP, 1, source, 5000, "203.0.113.1", 80));
		cr_assert_eq(a.verdict, NAT_TRANSLATE);
		uint32_t address = ntohl(a.rewrite.source);
		if (a.rewrite.source == ip("192.0.2.1"))
			hosts[8]++;
		else if (a.rewrite.source == ip("192.0.2.9"))
			hosts[9]++;
		else if (address >> 3 == ntohl(ip("198.51.100.0")) >> 3)
			hosts[address & 7]++;
		else
			cr_assert_fail("%08x is in no range", address);
	}
	for (unsigned i = 0; i < 10; i++)
		cr_expect(hosts[i] > 20, "address %u: %u", i, hosts[i]);
}

/* RFC 7422 through the table: fixed ports, a refusal when they are used up, and what is shown. */
Test(table_ports, a_deterministic_pool)
{
	char error[256] = "";

	rig.realm_prefix.length = 28;
	rig.pool.mode = CONFIG_DETERMINISTIC;
	rig.pool.ports_per_subscriber = 512;
	start();
	for (unsigned i = 0; i < 512; i++) {
		struct wire_answer a = rig_out(&rig, dp, udp_of("10.0.0.6", 2000 + i));
		cr_assert_eq(a.verdict, NAT_TRANSLATE);
		cr_assert_eq(a.rewrite.source, ip("192.0.2.2"), "6 %% 4");
		unsigned port = ntohs(a.rewrite.source_port);
		cr_assert(port >= 1536 && port < 2048, "6 / 4: the second range, not %u", port);
	}
	cr_expect_eq(rig_out(&rig, dp, udp_of("10.0.0.6", 9999)).reason,
		     NAT_REASON_SUBSCRIBER_BLOCKS);
	cr_expect_eq(rig_out(&rig, dp, udp_of("10.0.0.2", 9999)).verdict, NAT_TRANSLATE);
	end_all_of("10.0.0.6");
	struct wire_answer again = rig_out(&rig, dp, udp_of("10.0.0.6", 9999));
	cr_expect_eq(again.rewrite.source, ip("192.0.2.2"));
	cr_expect_eq(pool_row().blocks_resting, 0);
	/* Everybody would move: refused, with the flows unharmed. */
	rig.realm_prefix.length = 29;
	rig.pool.ports_per_subscriber = 1024;
	cr_expect_neq(table_reload(rig.table, &rig.config, rig.now, error, sizeof error), 0);
	cr_expect(strstr(error, "fixed ports"), "%s", error);
	cr_expect_eq(rig_out(&rig, dp, udp_of("10.0.0.6", 9999)).handle, again.handle);
}

/* RFC 7857 section 4 through the table, with the limit of blocks. */
Test(table_ports, another_address_when_the_paired_one_is_full)
{
	rig.pool.port_last = 1024 + 255;
	rig.pool.fallback = CONFIG_ANOTHER_ADDRESS;
	rig.config.limits.blocks = 2;
	start();
	struct wire_answer a = rig_out(&rig, dp, udp_of("10.0.0.1", 2000));
	for (unsigned i = 1; i < 512; i++) {
		struct wire_answer b = rig_out(&rig, dp, udp_of("10.0.0.1", 2000 + i));
		cr_assert_eq(b.verdict, NAT_TRANSLATE);
		cr_assert_eq(b.rewrite.source == a.rewrite.source, i < 256, "%u", i);
	}
	cr_expect_eq(rig_out(&rig, dp, udp_of("10.0.0.1", 9)).reason, NAT_REASON_SUBSCRIBER_BLOCKS);
}
