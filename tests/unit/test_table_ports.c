/* SPDX-License-Identifier: Apache-2.0 */
/* External ports as subscribers see them through the table: hold-down, limits, exhaustion. */
#include <criterion/criterion.h>
#include <arpa/inet.h>
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
