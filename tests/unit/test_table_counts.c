/* SPDX-License-Identifier: Apache-2.0 */
/* What is counted by protocol and by pool: RFC 6888 REQ-10, RFC 7659. */
#include "tests/support/table_rig.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static struct rig rig;
static uint32_t dp;

static void setup(void)
{
	rig_config(&rig);
}

static void teardown(void)
{
	rig_stop(&rig);
}

TestSuite(table_counts, .init = setup, .fini = teardown, .timeout = 60);

static void start(void)
{
	rig_start(&rig);
	dp = rig_attach(&rig, 1);
}

static struct wire_answer ask(unsigned protocol, unsigned host, unsigned port, unsigned remote)
{
	char source[32];
	snprintf(source, sizeof source, "10.0.0.%u", host);
	return rig_ask(&rig, dp, WIRE_RESOLVE_OUT,
		       tuple_of(protocol, 1, source, port, "198.51.100.1",
				protocol == NAT_ICMP ? 0 : remote),
		       protocol == NAT_TCP ? NAT_TCP_SYN : 0);
}

static struct table_pool_row pool(void)
{
	struct table_pool_row row;
	uint64_t cursor = 0;
	cr_assert_eq(table_pools(rig.table, &cursor, &row, 1), 1);
	return row;
}

static void end_all_of(const char *subscriber)
{
	struct table_filter filter = {.subscriber = ip(subscriber)};
	uint64_t mappings, sessions;
	cr_assert_eq(table_delete(rig.table, &filter, rig.now, &mappings, &sessions), 0);
	rig_collect(&rig, dp);
	rig_heartbeat(&rig, dp, true);
	rig_pass(&rig, 200, 1);
}

Test(table_counts, mappings_and_sessions_by_protocol)
{
	start();
	ask(NAT_UDP, 1, 2000, 80);
	ask(NAT_UDP, 1, 2000, 81);
	ask(NAT_UDP, 1, 2000, 81); /* the same: U4 */
	ask(NAT_TCP, 1, 2000, 80);
	ask(NAT_ICMP, 2, 7, 0);
	struct table_counters c = rig_counters(&rig);
	cr_expect_eq(c.protocols[TABLE_UDP].mappings_created, 1);
	cr_expect_eq(c.protocols[TABLE_UDP].sessions_created, 2);
	cr_expect_eq(c.protocols[TABLE_TCP].mappings_created, 1);
	cr_expect_eq(c.protocols[TABLE_TCP].sessions_created, 1);
	cr_expect_eq(c.protocols[TABLE_ICMP].mappings_created, 1);
	cr_expect_eq(c.protocols[TABLE_OTHER].mappings_created, 0);
	end_all_of("10.0.0.1");
	c = rig_counters(&rig);
	cr_expect_eq(c.protocols[TABLE_UDP].mappings_ended, 1);
	cr_expect_eq(c.protocols[TABLE_UDP].sessions_ended, 2);
	cr_expect_eq(c.protocols[TABLE_TCP].mappings_ended, 1);
	cr_expect_eq(c.protocols[TABLE_ICMP].mappings_ended, 0);
	cr_expect_eq(c.mappings, 1, "what was created and did not end is there");
}

Test(table_counts, mappings_addresses_and_ports_by_pool)
{
	start();
	cr_expect_eq(pool().addresses_used, 0);
	ask(NAT_UDP, 1, 2000, 80);
	ask(NAT_UDP, 1, 2001, 80);
	cr_expect_eq(pool().addresses_used, 1);
	for (unsigned host = 2; host < 60; host++)
		ask(NAT_UDP, host, 2000, 80);
	struct table_pool_row row = pool();
	cr_expect_eq(row.addresses, 4);
	cr_expect_eq(row.addresses_used, 4, "59 hosts on random addresses");
	cr_expect_eq(row.counts.mappings_created, 60);
	cr_expect_eq(row.ports_used, 60);
	for (unsigned host = 1; host < 60; host++) {
		char text[32];
		snprintf(text, sizeof text, "10.0.0.%u", host);
		end_all_of(text);
	}
	row = pool();
	cr_expect_eq(row.counts.mappings_ended, 60);
	cr_expect_eq(row.addresses_used, 0);
	cr_expect_eq(row.ports_used, 0);
}

Test(table_counts, refusals_by_why)
{
	rig.pool_prefix.length = 32;
	rig.pool.port_first = 1024;
	rig.pool.port_last = 1024 + 2 * 256 - 1;
	rig.config.limits.sessions = 3;
	start();
	for (unsigned i = 0; i < 5; i++)
		ask(NAT_UDP, 1, 2000, 80 + i);
	cr_expect_eq(pool().counts.quota, 2, "RFC 6888 REQ-4: of the subscriber");
	ask(NAT_UDP, 2, 2000, 80);
	cr_expect_eq(pool().counts.out_of_ports, 0);
	ask(NAT_UDP, 3, 2000, 80);
	ask(NAT_UDP, 4, 2000, 80);
	cr_expect_eq(pool().counts.out_of_ports, 2, "RFC 6888 REQ-11: two blocks, both taken");
	cr_expect_eq(pool().counts.memory, 0);
	cr_expect_eq(pool().counts.mappings_created, 2);
}

Test(table_counts, no_room_in_the_table)
{
	rig.config.capacity.mappings = 64;
	start();
	for (unsigned i = 0; i < 70; i++)
		ask(NAT_UDP, 1, 2000 + i, 80);
	cr_expect_eq(pool().counts.memory, 6);
	cr_expect_eq(pool().counts.mappings_created, 64);
}

Test(table_counts, a_pool_goes_on_counting_under_its_name)
{
	struct config_pool pools[2];
	struct config_prefix prefix = {ip("203.0.113.0"), 32};
	char error[128];
	start();
	ask(NAT_UDP, 1, 2000, 80);
	pools[0] = pools[1] = rig.pool;
	strcpy(pools[0].name, "another");
	pools[0].prefixes = &prefix;
	rig.config.pools = pools;
	rig.config.n_pools = 2;
	rig.realm.pool = 1;
	cr_assert_eq(table_reload(rig.table, &rig.config, rig.now, error, sizeof error), 0, "%s",
		     error);
	cr_expect_str_eq(pool().name, "another");
	cr_expect_eq(pool().counts.mappings_created, 0);
	cr_expect_eq(pool().addresses_used, 0);
	struct table_pool_row rows[2];
	uint64_t cursor = 0;
	cr_assert_eq(table_pools(rig.table, &cursor, rows, 2), 2);
	cr_expect_eq(rows[1].counts.mappings_created, 1);
	cr_expect_eq(rows[1].addresses_used, 1);
}
