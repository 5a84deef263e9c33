/* SPDX-License-Identifier: Apache-2.0 */
/* Redirects (mirage-nat's) that come, change and go while sessions live. */
#include <criterion/criterion.h>
#include <arpa/inet.h>
#include <string.h>

#include "tests/support/table_rig.h"

static struct rig rig;
static uint32_t dp;
static struct config_redirect rules[2];

/* Out: packets to 9.9.9.9:53 go to 198.51.100.53:53. In: 192.0.2.1:80 goes to 10.0.0.80:8080. */
static void start(void)
{
	rig_config(&rig);
	memset(rules, 0, sizeof rules);
	strcpy(rules[0].name, "dns");
	rules[0].from_realm = 1;
	rules[0].protocol = NAT_UDP;
	rules[0].destination = (struct nat_endpoint){ip("9.9.9.9"), htons(53), 0};
	rules[0].to = (struct nat_endpoint){ip("198.51.100.53"), htons(53), 0};
	strcpy(rules[1].name, "web");
	rules[1].to_realm = 1;
	rules[1].protocol = NAT_UDP;
	rules[1].destination = (struct nat_endpoint){ip("192.0.2.1"), htons(80), 0};
	rules[1].to = (struct nat_endpoint){ip("10.0.0.80"), htons(8080), 0};
	rig.config.redirects = rules;
	rig.config.n_redirects = 2;
	rig_start(&rig);
	dp = rig_attach(&rig, 1);
}

static void stop(void)
{
	rig_stop(&rig);
}

TestSuite(redirect, .init = start, .fini = stop);

static void reload(void)
{
	char error[256] = "";
	cr_assert_eq(table_reload(rig.table, &rig.config, rig.now, error, sizeof error), 0, "%s",
		     error);
	rig_collect(&rig, dp);
}

static struct nat_tuple dns(void)
{
	return tuple_of(NAT_UDP, 1, "10.0.0.1", 5000, "9.9.9.9", 53);
}

static struct nat_tuple web(void)
{
	return tuple_of(NAT_UDP, 0, "198.51.100.7", 5000, "192.0.2.1", 80);
}

/* Ended, told, and fenced until it is acknowledged (U1); then the tuple is an ordinary one. */
Test(redirect, removal_ends_the_rules_sessions_fenced)
{
	struct wire_answer out = rig_out(&rig, dp, dns()), in = rig_in(&rig, dp, web());
	cr_assert_eq(out.rewrite.destination, ip("198.51.100.53"));
	cr_assert_eq(in.rewrite.destination, ip("10.0.0.80"));
	rig_collect(&rig, dp);
	rig.config.n_redirects = 1; /* "web" goes, "dns" stays */
	reload();
	cr_assert_eq(rig.n_notices, 1);
	cr_expect_eq(rig.kinds[0], WIRE_INVALIDATE);
	cr_expect_eq(rig.notices[0].handle, in.handle);
	cr_expect_eq(rig.notices[0].tuple.destination, web().destination, "by the old rule");
	cr_expect_eq(rig_counters(&rig).fenced, 1);
	cr_expect_eq(rig_in(&rig, dp, web()).verdict, NAT_DROP);
	cr_expect_eq(rig_out(&rig, dp, dns()).handle, out.handle);
	rig_heartbeat(&rig, dp, true);
	cr_expect_eq(rig_counters(&rig).fenced, 0);
	cr_expect_eq(rig_counters(&rig).sessions, 1);
}

Test(redirect, a_rule_that_changes_ends_its_sessions)
{
	struct wire_answer out = rig_out(&rig, dp, dns());
	rig_collect(&rig, dp);
	rules[0].to.address = ip("198.51.100.54");
	reload();
	cr_assert_eq(rig.n_notices, 1);
	cr_expect_eq(rig.notices[0].handle, out.handle);
	struct wire_answer again = rig_out(&rig, dp, dns());
	cr_expect_eq(again.rewrite.destination, ip("198.51.100.54"));
	cr_expect_neq(again.handle, out.handle);
	/* what still answers from the old place is not passed on */
	struct nat_tuple late = rig_reverse(dns(), &out);
	cr_expect_neq(rig_in(&rig, dp, late).verdict, NAT_TRANSLATE);
}

Test(redirect, a_rule_that_is_added_takes_over_what_it_names)
{
	rig.config.n_redirects = 0;
	reload();
	struct wire_answer plain = rig_out(&rig, dp, dns());
	cr_assert_eq(plain.rewrite.destination, ip("9.9.9.9"));
	rig_collect(&rig, dp);
	rig.config.n_redirects = 2;
	reload();
	cr_assert_eq(rig.n_notices, 1);
	cr_expect_eq(rig.notices[0].handle, plain.handle);
	cr_expect_eq(rig_out(&rig, dp, dns()).rewrite.destination, ip("198.51.100.53"));
}

/* Found by the simulator: the session was opened from outside, to what the rule names. */
Test(redirect, a_rule_from_outside_takes_over_what_was_opened_there)
{
	struct config_static forward = {.realm = 1,
					.protocol = NAT_UDP,
					.external = rules[1].destination,
					.internal = {ip("10.0.0.7"), htons(80), 0}};
	rig.config.n_redirects = 0;
	reload();
	cr_assert_eq(table_static_add(rig.table, &forward, rig.now, NULL), 0);
	struct wire_answer plain = rig_in(&rig, dp, web());
	cr_assert_eq(plain.rewrite.destination, ip("10.0.0.7"));
	rig_collect(&rig, dp);
	rig.config.n_redirects = 2;
	reload();
	cr_assert_eq(rig.n_notices, 1);
	cr_expect_eq(rig.notices[0].handle, plain.handle);
	cr_expect_eq(rig_in(&rig, dp, web()).rewrite.destination, ip("10.0.0.80"));
}

Test(redirect, an_unchanged_rule_keeps_its_sessions)
{
	struct wire_answer out = rig_out(&rig, dp, dns()), in = rig_in(&rig, dp, web());
	rig_collect(&rig, dp);
	rig.config.timers.udp = 200000;
	reload();
	cr_expect_eq(rig.n_notices, 0);
	cr_expect_eq(rig_out(&rig, dp, dns()).handle, out.handle);
	cr_expect_eq(rig_in(&rig, dp, web()).handle, in.handle);
}
