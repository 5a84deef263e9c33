/* SPDX-License-Identifier: Apache-2.0 */
/* What the table knows of hosts that keep their own addresses: other realms, and reloads. */
#include <criterion/criterion.h>
#include <arpa/inet.h>
#include <string.h>

#include "tests/support/table_rig.h"

static struct rig rig;
static uint32_t dp;
static struct config_realm realms[2];
static struct config_prefix other_prefix, identity;

/* Realm 1 is 10/8 with 10.9.0.64/28 untranslated; realm 2 is 172.20/16. */
static void start(void)
{
	rig_config(&rig);
	realms[0] = rig.realm;
	identity = (struct config_prefix){ip("10.9.0.64"), 28};
	realms[0].identity = &identity;
	realms[0].n_identity = 1;
	other_prefix = (struct config_prefix){ip("172.20.0.0"), 16};
	realms[1] = (struct config_realm){
	    .name = "other", .id = 2, .prefixes = &other_prefix, .n_prefixes = 1};
	rig.config.realms = realms;
	rig.config.n_realms = 2;
	rig_start(&rig);
	dp = rig_attach(&rig, 1);
}

static void stop(void)
{
	rig_stop(&rig);
}

TestSuite(identity, .init = start, .fini = stop);

static void reload(void)
{
	char error[256] = "";
	cr_assert_eq(table_reload(rig.table, &rig.config, rig.now, error, sizeof error), 0, "%s",
		     error);
	rig_collect(&rig, dp);
}

Test(identity, is_pushed)
{
	static struct wire_config pushed;
	unsigned found = 0;
	table_wire_config(rig.table, &pushed);
	for (unsigned i = 0; i < pushed.n_prefixes; i++)
		found += pushed.prefixes[i].kind == WIRE_PREFIX_IDENTITY &&
			 pushed.prefixes[i].address == identity.address &&
			 pushed.prefixes[i].length == 28 && pushed.prefixes[i].realm == 1;
	cr_expect_eq(found, 1);
}

/* A dataplane that does not know yet asks all the same. */
Test(identity, passes)
{
	static const char *const rows[][2] = {
	    {"10.9.0.70", "198.51.100.1"}, {"10.0.0.1", "10.9.0.70"}, {"10.9.0.70", "10.0.0.1"}};
	for (unsigned i = 0; i < 3; i++) {
		struct wire_answer a =
		    rig_out(&rig, dp, tuple_of(NAT_UDP, 1, rows[i][0], 5000, rows[i][1], 80));
		cr_expect_eq(a.verdict, NAT_PASS);
	}
	cr_expect_eq(rig_counters(&rig).mappings, 0);
	struct wire_answer a =
	    rig_out(&rig, dp, tuple_of(NAT_UDP, 1, "10.9.0.80", 5000, "198.51.100.1", 80));
	cr_expect_eq(a.verdict, NAT_TRANSLATE, "the next address is an ordinary host's");
}

Test(identity, is_outside_behind_its_realm_for_other_realms)
{
	struct nat_tuple t = tuple_of(NAT_UDP, 2, "172.20.0.5", 5000, "10.9.0.70", 53);
	struct wire_answer a = rig_out(&rig, dp, t);
	cr_assert_eq(a.verdict, NAT_TRANSLATE);
	cr_expect_eq(a.rewrite.egress, 1);
	struct wire_answer back = rig_out(&rig, dp, rig_reverse(t, &a));
	cr_assert_eq(back.verdict, NAT_TRANSLATE, "%s", nat_reason_name(back.reason));
	cr_expect_eq(back.direction, NAT_INBOUND);
	cr_expect_eq(back.rewrite.destination, t.source);
	cr_expect_eq(back.handle, a.handle);
	/* not from the outside: nobody there has that address */
	struct nat_tuple spoofed = rig_reverse(t, &a);
	spoofed.realm = NAT_REALM_OUTSIDE;
	cr_expect_eq(rig_in(&rig, dp, spoofed).reason, NAT_REASON_FILTERED);
	cr_expect_eq(rig_counters(&rig).sessions, 1);
	/* the filter is that of any remote host (RFC 4787 REQ-8) */
	struct nat_tuple stranger = rig_reverse(t, &a);
	stranger.source = ip("10.9.0.71");
	cr_expect_eq(rig_out(&rig, dp, stranger).reason, NAT_REASON_FILTERED);
}

Test(identity, to_its_own_realms_external_endpoints_it_is_refused)
{
	struct wire_answer a =
	    rig_out(&rig, dp, tuple_of(NAT_UDP, 1, "10.0.0.1", 5000, "198.51.100.1", 80));
	struct nat_tuple t = {.source = ip("10.9.0.70"),
			      .destination = a.rewrite.source,
			      .destination_port = a.rewrite.source_port,
			      .protocol = NAT_UDP,
			      .realm = 1};
	struct wire_answer no = rig_out(&rig, dp, t);
	cr_expect_eq(no.verdict, NAT_REJECT);
	cr_expect_eq(no.reason, NAT_REASON_POLICY);
	struct config_static whole = {.realm = 1,
				      .external = {.address = ip("192.0.2.1")},
				      .internal = {.address = ip("10.9.0.70")}};
	cr_expect_eq(table_static_add(rig.table, &whole, rig.now, NULL), ERR_INVALID);
}

/* U4: what was translated before must not go on so at the dataplanes that hold it. */
Test(identity, a_reload_ends_what_it_changes)
{
	realms[0].n_identity = 0;
	reload();
	struct wire_answer own =
	    rig_out(&rig, dp, tuple_of(NAT_UDP, 1, "10.9.0.70", 5000, "198.51.100.1", 80));
	struct wire_answer to =
	    rig_out(&rig, dp, tuple_of(NAT_UDP, 2, "172.20.0.5", 5000, "10.9.0.70", 80));
	struct wire_answer other =
	    rig_out(&rig, dp, tuple_of(NAT_UDP, 1, "10.0.0.1", 5000, "198.51.100.1", 80));
	cr_expect_eq(own.verdict, NAT_TRANSLATE);
	cr_expect_eq(to.rewrite.egress, NAT_REALM_OUTSIDE);
	cr_expect_eq(other.verdict, NAT_TRANSLATE);
	rig_collect(&rig, dp);
	realms[0].n_identity = 1;
	reload();
	cr_expect_eq(rig.n_notices, 2);
	for (unsigned i = 0; i < rig.n_notices; i++)
		cr_expect(rig.kinds[i] == WIRE_INVALIDATE && (rig.notices[i].handle == own.handle ||
							      rig.notices[i].handle == to.handle));
	cr_expect_eq(rig_counters(&rig).fenced, 2);
	rig_heartbeat(&rig, dp, true);
	cr_expect_eq(rig_counters(&rig).fenced, 0);
	cr_expect_eq(rig_counters(&rig).sessions, 1);
}
