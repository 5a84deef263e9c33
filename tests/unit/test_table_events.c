/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the table tells the event log, and what it answers when asked who has an endpoint.
 * RFC 6888 REQ-14: a line a port block.
 */
#include "tests/support/table_rig.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static struct rig rig;

struct recorder {
	struct event_log log;
	bool sessions;
	struct event_record events[256];
	unsigned n;
};

static bool wants_sessions(const struct event_log *log)
{
	return ((const struct recorder *)log)->sessions;
}

static void record(struct event_log *log, const struct event_record *event)
{
	struct recorder *r = (struct recorder *)log;
	cr_assert_lt(r->n, 256);
	r->events[r->n++] = *event;
}

static const struct event_log_ops ops = {wants_sessions, record};
static struct recorder recorder;

static void setup(void)
{
	rig_config(&rig);
	recorder = (struct recorder){.log = {&ops}};
	rig.events = &recorder.log;
}

static void teardown(void)
{
	rig_stop(&rig);
}

TestSuite(table_events, .init = setup, .fini = teardown, .timeout = 60);

static unsigned count(enum event_kind kind)
{
	unsigned n = 0;
	for (unsigned i = 0; i < recorder.n; i++)
		n += recorder.events[i].kind == kind;
	return n;
}

static struct nat_tuple flow(unsigned host, unsigned port)
{
	char source[32];
	snprintf(source, sizeof source, "10.0.0.%u", host);
	return tuple_of(NAT_UDP, 1, source, port, "198.51.100.1", 9000);
}

/* RFC 6888 REQ-14: not one per session. REQ-12: nothing of remote endpoints in it. */
Test(table_events, one_event_a_block_and_none_a_session)
{
	rig_start(&rig);
	uint32_t dp = rig_attach(&rig, 1);
	for (unsigned port = 0; port < 200; port++)
		cr_assert_eq(rig_out(&rig, dp, flow(1, 2000 + port)).verdict, NAT_TRANSLATE);
	cr_assert_eq(recorder.n, 1);
	const struct event_record *e = &recorder.events[0];
	cr_expect_eq(e->kind, EVENT_BLOCK_ALLOCATED);
	cr_expect_eq(e->internal.address, ip("10.0.0.1"));
	cr_expect_eq(e->external.address & htonl(0xfffffffc), ip("192.0.2.0"));
	cr_expect_eq(e->first_port % 256, 0);
	cr_expect_eq(e->last_port, e->first_port + 255);
	cr_expect_str_eq(e->pool, "pool");
	cr_expect_str_eq(e->realm, "inside");
	cr_expect_eq(e->protocol, 0, "a block is for every protocol");
	cr_expect_eq(e->remote.address, 0);
}

Test(table_events, every_port_lies_in_a_block_that_was_told)
{
	rig_start(&rig);
	uint32_t dp = rig_attach(&rig, 1);
	for (unsigned i = 0; i < 1000; i++) {
		struct wire_answer answer = rig_out(&rig, dp, flow(1 + i % 3, 2000 + i));
		uint16_t port = ntohs(answer.rewrite.source_port);
		bool told = false;
		cr_assert_eq(answer.verdict, NAT_TRANSLATE);
		for (unsigned k = 0; k < recorder.n; k++) {
			const struct event_record *e = &recorder.events[k];
			told |= e->kind == EVENT_BLOCK_ALLOCATED &&
				e->internal.address == flow(1 + i % 3, 1).source &&
				e->external.address == answer.rewrite.source &&
				e->first_port <= port && port <= e->last_port;
		}
		cr_assert(told, "flow %u", i);
	}
	cr_expect_eq(recorder.n, 6, "334 ports of three hosts: two blocks each");
}

Test(table_events, a_block_is_released_with_its_last_port)
{
	rig_start(&rig);
	uint32_t dp = rig_attach(&rig, 1);
	rig_out(&rig, dp, flow(1, 2000));
	rig_out(&rig, dp, flow(1, 2001));
	uint64_t mappings, sessions;
	struct table_filter filter = {.subscriber = ip("10.0.0.1")};
	cr_assert_eq(table_delete(rig.table, &filter, rig.now, &mappings, &sessions), 0);
	cr_expect_eq(count(EVENT_BLOCK_RELEASED), 0, "a dataplane may still translate (U1)");
	rig_collect(&rig, dp);
	rig_heartbeat(&rig, dp, true);
	rig_pass(&rig, 200, 1);
	cr_assert_eq(count(EVENT_BLOCK_RELEASED), 1);
	const struct event_record *got = &recorder.events[0],
				  *gone = &recorder.events[recorder.n - 1];
	cr_expect_eq(gone->first_port, got->first_port);
	cr_expect_eq(gone->last_port, got->last_port);
	cr_expect_eq(gone->internal.address, got->internal.address);
	cr_expect_eq(gone->external.address, got->external.address);
}

Test(table_events, sessions_when_somebody_wants_them)
{
	recorder.sessions = true;
	rig_start(&rig);
	uint32_t dp = rig_attach(&rig, 1);
	rig_out(&rig, dp, flow(1, 2000));
	rig_out(&rig, dp, flow(1, 2000)); /* the same one: U4 */
	cr_expect_eq(count(EVENT_SESSION_CREATED), 1);
	const struct event_record *e = &recorder.events[1];
	cr_expect_eq(e->kind, EVENT_SESSION_CREATED);
	cr_expect_eq(e->protocol, NAT_UDP);
	cr_expect_eq(e->internal.port, htons(2000));
	cr_expect_eq(e->remote.address, ip("198.51.100.1"));
	rig_pass(&rig, 310000, 1);
	rig_collect(&rig, dp);
	struct wire_notice asked = rig.notices[0];
	rig_report(&rig, dp, WIRE_DROPPED, asked.handle, 310000, 0, 0);
	cr_expect_eq(count(EVENT_SESSION_ENDED), 1);
}

Test(table_events, static_mappings_and_reloads)
{
	const struct config_static forward = {
	    .realm = 1,
	    .protocol = NAT_TCP,
	    .external = {.address = ip("192.0.2.1"), .port = htons(443)},
	    .internal = {.address = ip("10.0.0.5"), .port = htons(8443)},
	};
	char error[128];
	rig_start(&rig);
	cr_assert_eq(table_static_add(rig.table, &forward, rig.now, NULL), 0);
	cr_assert_eq(recorder.n, 1);
	cr_expect_eq(recorder.events[0].kind, EVENT_STATIC_ADDED);
	cr_expect_eq(recorder.events[0].external.port, htons(443));
	cr_expect_eq(recorder.events[0].internal.port, htons(8443));
	cr_assert_eq(table_static_delete(rig.table, &forward, rig.now), 0);
	cr_expect_eq(recorder.events[1].kind, EVENT_STATIC_REMOVED);
	rig.config.generation = 7;
	cr_assert_eq(table_reload(rig.table, &rig.config, rig.now, error, sizeof error), 0);
	cr_expect_eq(recorder.events[2].kind, EVENT_CONFIGURATION);
	cr_expect_eq(recorder.events[2].count, 7);
}

/* All clients of a redirect are one subscriber: its block is the rule's, no client's. */
Test(table_events, a_redirects_block_names_the_rule)
{
	struct config_redirect rule = {
	    .name = "dns",
	    .from_realm = NAT_REALM_OUTSIDE,
	    .to_realm = 1,
	    .protocol = NAT_UDP,
	    .destination = {.address = ip("203.0.113.4"), .port = htons(53)},
	    .to = {.address = ip("10.0.0.53"), .port = htons(53)},
	};
	struct table_who_row rows[TABLE_WHO_MAX];
	bool in_pool;
	rig.config.redirects = &rule;
	rig.config.n_redirects = 1;
	rig_start(&rig);
	uint32_t dp = rig_attach(&rig, 1);
	struct wire_answer answer =
	    rig_in(&rig, dp, tuple_of(NAT_UDP, 0, "1.2.3.4", 80, "203.0.113.4", 53));
	cr_assert_eq(answer.verdict, NAT_TRANSLATE);
	cr_assert_eq(recorder.n, 1);
	cr_expect_str_eq(recorder.events[0].realm, "outside");
	cr_expect_str_eq(recorder.events[0].redirect, "dns");
	cr_expect_eq(recorder.events[0].internal.address, 0);
	struct nat_endpoint external = {.address = answer.rewrite.source,
					.port = answer.rewrite.source_port};
	cr_assert_eq(table_who(rig.table, &external, 0, rows, &in_pool), 2);
	cr_expect_str_eq(rows[0].redirect, "dns");
	cr_expect_eq(rows[0].internal.address, 0);
	cr_expect_str_eq(rows[1].kind, "mapping");
	cr_expect_eq(rows[1].internal.address, ip("1.2.3.4"), "the client, while it is mapped");
}

/* What is translated by address has all of it, in its protocol. */
Test(table_events, an_address_in_one_protocol)
{
	struct table_who_row rows[TABLE_WHO_MAX];
	uint64_t mappings, sessions;
	bool in_pool;
	rig.pool.protocols[0] = NAT_GRE;
	rig.pool.n_protocols = 1;
	rig_start(&rig);
	uint32_t dp = rig_attach(&rig, 1);
	struct wire_answer answer =
	    rig_out(&rig, dp, tuple_of(NAT_GRE, 1, "10.0.0.1", 0, "198.51.100.1", 0));
	cr_assert_eq(answer.verdict, NAT_TRANSLATE);
	cr_assert_eq(recorder.n, 1);
	const struct event_record *e = &recorder.events[0];
	cr_expect_eq(e->kind, EVENT_ADDRESS_ALLOCATED);
	cr_expect_eq(e->protocol, NAT_GRE);
	cr_expect_eq(e->internal.address, ip("10.0.0.1"));
	cr_expect_eq(e->external.address, answer.rewrite.source);
	cr_expect(e->first_port == 0 && e->last_port == 65535);
	struct nat_endpoint external = {.address = answer.rewrite.source, .port = htons(1)};
	cr_assert_eq(table_who(rig.table, &external, 0, rows, &in_pool), 1);
	cr_expect_str_eq(rows[0].kind, "address");
	cr_expect_eq(rows[0].protocol, NAT_GRE);
	struct table_filter filter = {.subscriber = ip("10.0.0.1")};
	table_delete(rig.table, &filter, rig.now, &mappings, &sessions);
	rig_collect(&rig, dp);
	rig_heartbeat(&rig, dp, true);
	rig_pass(&rig, 200, 1);
	cr_expect_eq(recorder.n, 2);
	cr_expect_eq(recorder.events[1].kind, EVENT_ADDRESS_RELEASED);
}

/* RFC 7422 section 4: the plan is logged, and no block of it. */
Test(table_events, a_deterministic_pool_is_its_plan)
{
	struct table_who_row rows[TABLE_WHO_MAX];
	bool in_pool;
	rig.realm_prefix = (struct config_prefix){ip("10.0.0.0"), 28};
	rig.pool.mode = CONFIG_DETERMINISTIC;
	rig.pool.ports_per_subscriber = 4096;
	rig_start(&rig);
	cr_assert_eq(recorder.n, 3);
	const struct event_record *e = recorder.events;
	cr_expect_eq(e[0].kind, EVENT_PLAN_POOL);
	cr_expect_eq(e[0].first_port, 1024);
	cr_expect_eq(e[0].ports, 4096);
	cr_expect_eq(e[0].addresses, 4);
	cr_expect_eq(e[0].count, 16);
	cr_expect_eq(e[1].kind, EVENT_PLAN_OUTSIDE);
	cr_expect_eq(e[1].prefix.address, ip("192.0.2.0"));
	cr_expect_eq(e[2].kind, EVENT_PLAN_INSIDE);
	cr_expect_eq(e[2].prefix.length, 28);
	cr_expect_str_eq(e[2].realm, "inside");
	uint32_t dp = rig_attach(&rig, 1);
	struct wire_answer answer = rig_out(&rig, dp, flow(6, 2000));
	cr_assert_eq(answer.verdict, NAT_TRANSLATE);
	cr_expect_eq(recorder.n, 3, "no block");
	struct nat_endpoint external = {.address = answer.rewrite.source,
					.port = answer.rewrite.source_port};
	cr_assert_eq(table_who(rig.table, &external, 0, rows, &in_pool), 2);
	cr_expect_str_eq(rows[0].kind, "fixed");
	cr_expect_eq(rows[0].internal.address, ip("10.0.0.6"));
	cr_expect_eq(rows[0].external, ip("192.0.2.2"), "6 % 4");
	cr_expect_eq(rows[0].first_port, 1024 + 4096, "6 / 4");
	cr_expect_eq(rows[0].last_port, 1024 + 2 * 4096 - 1);
	cr_expect_str_eq(rows[1].kind, "mapping");
	/* Nobody needs a flow to be named. */
	external.port = htons(1024);
	cr_assert_eq(table_who(rig.table, &external, 0, rows, &in_pool), 1);
	cr_expect_eq(rows[0].internal.address, ip("10.0.0.2"));
}

/* ---- who ---- */

Test(table_events, who_names_the_block_the_mapping_and_the_static)
{
	struct table_who_row rows[TABLE_WHO_MAX];
	bool in_pool;
	rig_start(&rig);
	uint32_t dp = rig_attach(&rig, 1);
	struct wire_answer answer = rig_out(&rig, dp, flow(1, 2000));
	struct nat_endpoint external = {.address = answer.rewrite.source,
					.port = answer.rewrite.source_port};
	cr_assert_eq(table_who(rig.table, &external, 0, rows, &in_pool), 2);
	cr_expect(in_pool);
	cr_expect_str_eq(rows[0].kind, "block");
	cr_expect_eq(rows[0].internal.address, ip("10.0.0.1"));
	cr_expect_eq(rows[0].internal.port, 0);
	cr_expect_eq(rows[0].last_port, rows[0].first_port + 255);
	cr_expect_str_eq(rows[0].realm_name, "inside");
	cr_expect_str_eq(rows[0].pool, "pool");
	cr_expect_str_eq(rows[1].kind, "mapping");
	cr_expect_eq(rows[1].protocol, NAT_UDP);
	cr_expect_eq(rows[1].internal.port, htons(2000));
	cr_expect_eq(rows[1].sessions, 1);

	/* Another port of the block: the block's owner alone; a protocol that has no mapping. */
	uint16_t port = ntohs(external.port);
	external.port = htons(port == rows[0].last_port ? port - 1 : port + 1);
	cr_assert_eq(table_who(rig.table, &external, 0, rows, &in_pool), 1);
	cr_expect_str_eq(rows[0].kind, "block");
	external.port = htons(port);
	cr_assert_eq(table_who(rig.table, &external, NAT_TCP, rows, &in_pool), 1);

	/* Another host's static mapping inside of the block. */
	struct config_static forward = {
	    .realm = 1,
	    .protocol = NAT_TCP,
	    .external = external,
	    .internal = {.address = ip("10.0.0.9"), .port = htons(80)},
	};
	cr_assert_eq(table_static_add(rig.table, &forward, rig.now, NULL), 0);
	cr_assert_eq(table_who(rig.table, &external, NAT_TCP, rows, &in_pool), 2);
	cr_expect_eq(rows[0].internal.address, ip("10.0.0.1"));
	cr_expect_str_eq(rows[1].kind, "static");
	cr_expect_eq(rows[1].internal.address, ip("10.0.0.9"));

	/* A static mapping below the pool's range has no block around it. */
	forward.external.port = htons(443);
	forward.internal.port = htons(8443);
	cr_assert_eq(table_static_add(rig.table, &forward, rig.now, NULL), 0);
	cr_assert_eq(table_who(rig.table, &forward.external, 0, rows, &in_pool), 1);
	cr_expect_str_eq(rows[0].kind, "static");
}

Test(table_events, who_has_what_nobody_has)
{
	struct table_who_row rows[TABLE_WHO_MAX];
	struct nat_endpoint ours = {.address = ip("192.0.2.1"), .port = htons(5000)};
	struct nat_endpoint others = {.address = ip("203.0.113.1"), .port = htons(5000)};
	bool in_pool;
	rig_start(&rig);
	cr_expect_eq(table_who(rig.table, &ours, 0, rows, &in_pool), 0);
	cr_expect(in_pool);
	cr_expect_eq(table_who(rig.table, &others, 0, rows, &in_pool), 0);
	cr_expect_not(in_pool);
}
