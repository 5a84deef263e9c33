/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>
#include "common/base/err.h"
#include "dataplane/host_plan.h"
#include "dataplane/host_state.h"

static const struct port_interface gateway[2] = {{"eth1", 1}, {"eth0", NAT_REALM_OUTSIDE}};
static struct host_plan *plan;
static struct host_facts facts;
static struct wire_config config;
static char sentence[HOST_SENTENCE_MAX];

static nat_be32 address(const char *text)
{
	nat_be32 out = 0;
	cr_assert_eq(inet_pton(AF_INET, text, &out), 1, "%s", text);
	return out;
}

static void own(const char *interface, const char *text, uint8_t length)
{
	strcpy(facts.addresses[facts.n_addresses].interface, interface);
	facts.addresses[facts.n_addresses].address = address(text);
	facts.addresses[facts.n_addresses++].length = length;
}

static void prefix(unsigned kind, const char *text, uint8_t length)
{
	config.prefixes[config.n_prefixes++] = (struct wire_prefix){
	    .address = address(text), .length = length, .kind = (uint8_t)kind, .realm = 1};
}

static void setup(void)
{
	memset(&facts, 0, sizeof facts);
	memset(&config, 0, sizeof config);
	cr_assert_eq(host_plan_new(&plan), 0);
	own("lo", "127.0.0.1", 8);
	own("eth1", "10.0.0.1", 24);
	own("eth0", "192.0.2.2", 24);
}

static void teardown(void)
{
	host_plan_free(plan);
}

static int make(void)
{
	return host_plan_make(gateway, 2, &facts, &config, plan, sentence);
}

static int where(const char *line)
{
	char text[160];
	for (unsigned i = 0; i < plan->n; i++) {
		host_item_format(&plan->items[i], text, sizeof text);
		if (strcmp(text, line) == 0)
			return (int)i;
	}
	return -1;
}

static unsigned count_kind(unsigned kind)
{
	unsigned n = 0;
	for (unsigned i = 0; i < plan->n; i++)
		n += plan->items[i].kind == kind;
	return n;
}

TestSuite(host_plan, .init = setup, .fini = teardown);

Test(host_plan, stands_without_a_configuration)
{
	cr_assert_eq(host_plan_make(gateway, 2, &facts, NULL, plan, sentence), 0);
	cr_expect_geq(where("blackhole 0.0.0.0/0 25441 2147483632"), 0);
	cr_expect_geq(where("route 0.0.0.0/0 25441 10 conat-in"), 0);
	cr_expect_geq(where("rule 0.0.0.0/0 25441 1000 eth1"), 0);
	cr_expect_eq(count_kind(HOST_RULE), 1);
	cr_expect_eq(count_kind(HOST_PROXY), 0);
}

Test(host_plan, fences_before_it_leads_and_forwards_last)
{
	prefix(WIRE_PREFIX_INSIDE, "10.0.0.0", 8);
	prefix(WIRE_PREFIX_POOL, "203.0.113.0", 28);
	cr_assert_eq(make(), 0);
	int blackhole = where("blackhole 0.0.0.0/0 25441 2147483632");
	int rule = where("rule 0.0.0.0/0 25441 1000 eth1");
	int forwarding = where("sysctl net/ipv4/conf/eth1/forwarding 0 1");
	cr_expect(blackhole >= 0 && blackhole < rule && rule < forwarding, "%d %d %d", blackhole,
		  rule, forwarding);
	cr_expect_lt(where("blackhole 203.0.113.0/28 254 2147483632"),
		     where("route 203.0.113.0/28 254 10 conat-out"));
	cr_expect_eq(forwarding, (int)plan->n - 3, "forwarding is last");
	cr_expect_geq(where("sysctl net/ipv4/conf/conat-in/accept_local 0 1"), 0);
	cr_expect_eq(where("sysctl net/ipv4/conf/eth0/accept_local 0 1"), -1, "never from a link");
	cr_expect_geq(where("rule 10.0.0.0/8 25440 1000 eth0"), 0, "no way in past the engine");
}

/* RFC 5508 REQ-5: what the kernel says about an inside host passes the engine, not by it */
Test(host_plan, leads_the_kernels_own_errors_to_the_engine)
{
	prefix(WIRE_PREFIX_INSIDE, "10.0.0.0", 8);
	prefix(WIRE_PREFIX_POOL, "203.0.113.0", 28);
	prefix(WIRE_PREFIX_BYPASS, "198.51.100.0", 24);
	cr_assert_eq(make(), 0);
	cr_expect_geq(where("icmp 10.0.0.0/8 254 998 0-0"), 0, "not those to inside hosts");
	cr_expect_geq(where("icmp 203.0.113.0/28 254 998 0-0"), 0, "nor to senders inside");
	cr_expect_eq(where("icmp 198.51.100.0/24 254 998 0-0"), -1);
	cr_expect_gt(where("icmp 0.0.0.0/0 25441 999 768-769"),
		     where("icmp 203.0.113.0/28 254 998 0-0"));
	cr_expect_geq(where("icmp 0.0.0.0/0 25441 999 772-772"), 0);
}

Test(host_plan, answers_for_pool_addresses_of_the_outside_network)
{
	prefix(WIRE_PREFIX_POOL, "192.0.2.8", 30);
	prefix(WIRE_PREFIX_POOL, "203.0.113.0", 28); /* routed to us, not on the link */
	cr_assert_eq(make(), 0);
	cr_expect_eq(count_kind(HOST_PROXY), 4);
	cr_expect_geq(where("proxy 192.0.2.11/32 eth0"), 0);
	cr_expect_geq(where("sysctl net/ipv4/neigh/eth0/proxy_delay 0 0"), 0);
}

Test(host_plan, answers_not_for_the_networks_own_two_addresses)
{
	facts.n_addresses = 2;
	own("eth0", "192.0.2.130", 25);
	prefix(WIRE_PREFIX_POOL, "192.0.2.248", 29);
	cr_assert_eq(make(), 0);
	cr_expect_eq(count_kind(HOST_PROXY), 7);
	cr_expect_eq(where("proxy 192.0.2.255/32 eth0"), -1);
}

Test(host_plan, refuses_the_hosts_own_address_with_a_sentence)
{
	prefix(WIRE_PREFIX_POOL, "192.0.2.0", 29);
	cr_assert_eq(make(), ERR_EXISTS);
	cr_expect(strstr(sentence, "192.0.2.0/29") && strstr(sentence, "192.0.2.2") &&
		      strstr(sentence, "eth0"),
		  "%s", sentence);
}

Test(host_plan, refuses_more_proxies_than_it_may_hold)
{
	facts.n_addresses = 2;
	own("eth0", "10.9.0.1", 16);
	prefix(WIRE_PREFIX_POOL, "10.9.128.0", 21);
	cr_assert_eq(make(), ERR_FULL);
	cr_expect(strstr(sentence, "proxy ARP"), "%s", sentence);
}

Test(host_plan, refuses_more_items_than_it_may_hold)
{
	struct host_item item = {.kind = HOST_BLACKHOLE};
	for (unsigned i = 0; i < HOST_ITEMS_MAX; i++)
		cr_assert_eq(host_plan_append(plan, &item), 0);
	cr_expect_eq(host_plan_append(plan, &item), ERR_FULL);
}

Test(host_plan, holds_repeated_prefixes_once)
{
	prefix(WIRE_PREFIX_POOL, "203.0.113.0", 28);
	prefix(WIRE_PREFIX_POOL, "203.0.113.0", 28);
	cr_assert_eq(make(), 0);
	cr_expect_eq(count_kind(HOST_BLACKHOLE), 3);
}

Test(host_plan, is_loose_where_all_interfaces_are_filtered)
{
	facts.rp_filter_all = 1;
	cr_assert_eq(make(), 0);
	cr_expect_geq(where("sysctl net/ipv4/conf/conat-in/rp_filter 0 2"), 0);
}

Test(host_plan, gives_each_realm_its_table_and_device)
{
	const struct port_interface three[3] = {{"a", 1}, {"b", 7}, {"c", NAT_REALM_OUTSIDE}};
	cr_assert_eq(host_plan_make(three, 3, &facts, NULL, plan, sentence), 0);
	cr_expect_geq(where("rule 0.0.0.0/0 25447 1000 b"), 0);
	cr_expect_geq(where("route 0.0.0.0/0 25447 10 conat-in7"), 0);
}

/* ---- lines of the state file ---- */

struct line {
	char text[120];
	int err;
};

ParameterizedTestParameters(host_plan, reads_what_it_writes)
{
	static struct line lines[] = {
	    {"rule 10.0.0.0/8 25440 1000 eth0", 0},
	    {"route 0.0.0.0/0 25441 10 conat-in", 0},
	    {"blackhole 203.0.113.0/28 254 2147483632", 0},
	    {"proxy 192.0.2.9/32 eth0", 0},
	    {"icmp 10.0.0.0/8 254 998 0-0", 0},
	    {"icmp 0.0.0.0/0 25441 999 768-769", 0},
	    {"icmp 0.0.0.0/0 25441 999 768", ERR_MALFORMED},
	    {"sysctl net/ipv4/conf/eth0.100/rp_filter 2 0", 0},
	    {"sysctl net/ipv4/../../kernel/panic 2 0", ERR_MALFORMED},
	    {"sysctl kernel/panic 2 0", ERR_MALFORMED},
	    {"rule 10.0.0.0/33 25440 1000 eth0", ERR_MALFORMED},
	    {"rule 10.0.0/8 25440 1000 eth0", ERR_MALFORMED},
	    {"route 0.0.0.0/0 25441", ERR_MALFORMED},
	    {"proxy eth0", ERR_MALFORMED},
	    {"chmod 777 /", ERR_MALFORMED},
	    {"", ERR_MALFORMED},
	};
	return cr_make_param_array(struct line, lines, sizeof lines / sizeof lines[0]);
}

ParameterizedTest(struct line *line, host_plan, reads_what_it_writes)
{
	struct host_item item;
	char text[160];
	cr_assert_eq(host_item_parse(line->text, &item), line->err, "%s", line->text);
	if (line->err)
		return;
	host_item_format(&item, text, sizeof text);
	cr_expect_str_eq(text, line->text);
}

Test(host_plan, says_the_commands)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	prefix(WIRE_PREFIX_POOL, "203.0.113.0", 28);
	cr_assert_eq(make(), 0);
	for (unsigned i = 0; i < plan->n; i++)
		host_item_command(&plan->items[i], out);
	fclose(out);
	cr_expect(strstr(text, "ip rule add iif eth1 lookup 25441 priority 1000 protocol 202\n"));
	cr_expect(strstr(text, "ip rule add iif lo to 203.0.113.0/28 ipproto icmp lookup 254 "
			       "priority 998 protocol 202\n"));
	cr_expect(strstr(text, "ip rule add iif lo ipproto icmp dport 768-769 lookup 25441 "
			       "priority 999 protocol 202\n"));
	cr_expect(strstr(text, "ip route add 203.0.113.0/28 dev conat-out metric 10 proto 202\n"));
	cr_expect(strstr(text, "echo 1 > /proc/sys/net/ipv4/conf/eth0/forwarding\n"));
	free(text);
}

/* ---- the state file ---- */

Test(host_plan, keeps_its_state_through_a_crash)
{
	char directory[] = "/tmp/conat-host-XXXXXX";
	cr_assert(mkdtemp(directory));
	struct host_state state, next;
	cr_assert_eq(host_state_open(directory, &state), 0);
	prefix(WIRE_PREFIX_POOL, "203.0.113.0", 28);
	cr_assert_eq(make(), 0);
	for (unsigned i = 0; i < plan->n; i++)
		cr_assert_eq(host_state_append(&state, &plan->items[i]), 0);
	int torn = open(state.path, O_WRONLY | O_APPEND);
	cr_assert_eq(write(torn, "rule 10.0.0.0/8 25", 18), 18);
	close(torn);
	host_state_close(&state); /* as the kernel does for the dead */

	struct host_plan *found;
	cr_assert_eq(host_plan_new(&found), 0);
	cr_assert_eq(host_state_open(directory, &next), 0);
	cr_assert_eq(host_state_read(&next, found), 0);
	cr_assert_eq(found->n, plan->n, "all but the torn line: %u of %u", found->n, plan->n);
	for (unsigned i = 0; i < plan->n; i++)
		cr_expect(host_item_same(&found->items[i], &plan->items[i]), "item %u", i);

	cr_assert_eq(host_state_write(&next, found), 0);
	snprintf(next.boot, sizeof next.boot, "another");
	cr_assert_eq(host_state_read(&next, found), 0);
	cr_expect_eq(found->n, 0, "of another boot");
	cr_expect_neq(access(next.path, F_OK), 0);
	host_state_close(&next);
	host_plan_free(found);
	cr_expect_eq(rmdir(directory), 0);
}

Test(host_plan, removes_the_state_when_nothing_is_left)
{
	char directory[] = "/tmp/conat-host-XXXXXX";
	cr_assert(mkdtemp(directory));
	struct host_state state;
	cr_assert_eq(host_state_open(directory, &state), 0);
	cr_assert_eq(make(), 0);
	cr_assert_eq(host_state_write(&state, plan), 0);
	cr_expect_eq(access(state.path, F_OK), 0);
	plan->n = 0;
	cr_assert_eq(host_state_write(&state, plan), 0);
	cr_expect_neq(access(state.path, F_OK), 0);
	host_state_close(&state);
	cr_expect_eq(rmdir(directory), 0);
}
