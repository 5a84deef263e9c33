/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/host_plan.h"

#include <arpa/inet.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/err.h"
#include "dataplane/netlink.h"

int host_plan_new(struct host_plan **out)
{
	struct host_plan *plan = calloc(1, sizeof *plan);
	if (!plan)
		return ERR_NOMEM;
	plan->items = calloc(HOST_ITEMS_MAX, sizeof *plan->items);
	if (!plan->items) {
		free(plan);
		return ERR_NOMEM;
	}
	*out = plan;
	return 0;
}

void host_plan_free(struct host_plan *plan)
{
	if (!plan)
		return;
	free(plan->items);
	free(plan);
}

void host_device(unsigned realm, char out[PORT_NAME_MAX])
{
	if (realm == NAT_REALM_OUTSIDE)
		snprintf(out, PORT_NAME_MAX, "conat-out");
	else if (realm == NAT_REALM_INSIDE)
		snprintf(out, PORT_NAME_MAX, "conat-in");
	else
		snprintf(out, PORT_NAME_MAX, "conat-in%u", realm & 0xff);
}

bool host_item_same(const struct host_item *a, const struct host_item *b)
{
	if (a->kind != b->kind)
		return false;
	if (a->kind == HOST_SYSCTL)
		return strcmp(a->key, b->key) == 0;
	return a->length == b->length && a->address == b->address && a->table == b->table &&
	       a->priority == b->priority && a->icmp == b->icmp &&
	       a->icmp_first == b->icmp_first && a->icmp_last == b->icmp_last &&
	       strcmp(a->interface, b->interface) == 0;
}

struct host_item *host_plan_find(const struct host_plan *plan, const struct host_item *item)
{
	for (unsigned i = 0; i < plan->n; i++) {
		if (host_item_same(&plan->items[i], item))
			return &plan->items[i];
	}
	return NULL;
}

int host_plan_append(struct host_plan *plan, const struct host_item *item)
{
	if (plan->n == HOST_ITEMS_MAX)
		return ERR_FULL;
	plan->items[plan->n++] = *item;
	return 0;
}

/* Prefixes of a configuration may repeat (realms that share a pool); the plan holds each once. */
static int append_once(struct host_plan *plan, const struct host_item *item)
{
	return host_plan_find(plan, item) ? 0 : host_plan_append(plan, item);
}

static nat_be32 mask_of(unsigned length)
{
	return length == 0 ? 0 : htonl(0xffffffffu << (32 - length));
}

static void name_copy(char out[PORT_NAME_MAX], const char *name)
{
	snprintf(out, PORT_NAME_MAX, "%.*s", PORT_NAME_MAX - 1, name);
}

static int add_route(struct host_plan *plan, uint32_t table, nat_be32 address, uint8_t length,
		     const char *device)
{
	struct host_item item = {
	    .kind = device ? HOST_ROUTE : HOST_BLACKHOLE,
	    .table = table,
	    .address = address,
	    .length = length,
	    .priority = device ? HOST_METRIC : HOST_METRIC_LAST,
	};
	if (device)
		name_copy(item.interface, device);
	return append_once(plan, &item);
}

static int add_rule(struct host_plan *plan, const char *interface, nat_be32 address, uint8_t length,
		    uint32_t table)
{
	struct host_item item = {
	    .kind = HOST_RULE,
	    .table = table,
	    .address = address,
	    .length = length,
	    .priority = HOST_PRIORITY,
	};
	name_copy(item.interface, interface);
	return append_once(plan, &item);
}

/* A rule for the host's own ICMP. */
static int add_icmp_rule(struct host_plan *plan, const struct wire_prefix *to, uint16_t first,
			 uint16_t last, uint32_t table)
{
	struct host_item item = {
	    .kind = HOST_RULE,
	    .table = table,
	    .priority = to ? HOST_PRIORITY_SPARED : HOST_PRIORITY_ERRORS,
	    .interface = "lo",
	    .icmp = true,
	    .icmp_first = first,
	    .icmp_last = last,
	};
	if (to) {
		item.address = to->address;
		item.length = to->length;
	}
	return append_once(plan, &item);
}

static int add_sysctl(struct host_plan *plan, const char *tree, const char *interface,
		      const char *name, int value)
{
	struct host_item item = {.kind = HOST_SYSCTL, .value = value};
	snprintf(item.key, sizeof item.key, "net/ipv4/%s/%s/%s", tree, interface, name);
	return append_once(plan, &item);
}

/* Tables, rules and the routes to the devices; blackholes before the rules that lead to them. */
static int plan_tables(struct host_plan *plan, const struct port_interface *interfaces, unsigned n)
{
	int err = 0;
	char device[PORT_NAME_MAX];
	for (unsigned i = 0; i < n && !err; i++)
		err = add_route(plan, HOST_TABLE + interfaces[i].realm, 0, 0, NULL);
	for (unsigned i = 0; i < n && !err; i++) {
		if (interfaces[i].realm != NAT_REALM_OUTSIDE)
			err = add_rule(plan, interfaces[i].name, 0, 0,
				       HOST_TABLE + interfaces[i].realm);
	}
	for (unsigned i = 0; i < n && !err; i++) {
		host_device(interfaces[i].realm, device);
		err = add_route(plan, HOST_TABLE + interfaces[i].realm, 0, 0, device);
	}
	return err;
}

/*
 * The kernel's own ICMP errors about translated packets (a route with a smaller MTU) come to the
 * engine like any router's and go on with the host's address as their source: accept_local.
 *
 * Strict reverse path filtering would drop what comes out of the TUN devices, and what asymmetric
 * routes bring. The kernel takes the larger of "all" and the interface's, so with "all" on, loose
 * (2) is the least that an interface can have.
 */
static int plan_sysctls(struct host_plan *plan, const struct port_interface *interfaces, unsigned n,
			const struct host_facts *facts)
{
	int err = 0, rp_filter = facts->rp_filter_all ? 2 : 0;
	char device[PORT_NAME_MAX];
	for (unsigned i = 0; i < n && !err; i++) {
		host_device(interfaces[i].realm, device);
		err = add_sysctl(plan, "conf", interfaces[i].name, "rp_filter", rp_filter);
		err = err ? err : add_sysctl(plan, "conf", device, "rp_filter", rp_filter);
		err = err ? err : add_sysctl(plan, "conf", device, "send_redirects", 0);
		err = err ? err : add_sysctl(plan, "conf", device, "accept_local", 1);
	}
	/*
	 * Forwarding comes last, when the rules stand; and only on our interfaces, so that the host
	 * does not become a router between any others.
	 */
	for (unsigned i = 0; i < n && !err; i++) {
		host_device(interfaces[i].realm, device);
		err = add_sysctl(plan, "conf", device, "forwarding", 1);
		err = err ? err : add_sysctl(plan, "conf", interfaces[i].name, "forwarding", 1);
	}
	return err;
}

static int check_own(const struct host_facts *facts, const struct wire_prefix *pool,
		     char sentence[HOST_SENTENCE_MAX])
{
	for (unsigned i = 0; i < facts->n_addresses; i++) {
		nat_be32 own = facts->addresses[i].address;
		if ((own ^ pool->address) & mask_of(pool->length))
			continue;
		char own_text[INET_ADDRSTRLEN], pool_text[INET_ADDRSTRLEN];
		inet_ntop(AF_INET, &own, own_text, sizeof own_text);
		inet_ntop(AF_INET, &pool->address, pool_text, sizeof pool_text);
		snprintf(sentence, HOST_SENTENCE_MAX,
			 "the pool %s/%u contains %s, which is configured on %s of this host; pool "
			 "addresses must belong to conat alone: take the address off the "
			 "interface, or give the table service a pool without it (a further "
			 "address of the outside network, or a prefix routed to this host)",
			 pool_text, pool->length, own_text, facts->addresses[i].interface);
		return ERR_EXISTS;
	}
	return 0;
}

/* The pool addresses that lie in a network that an outside interface is on. */
static int plan_proxies(struct host_plan *plan, const char *outside, const struct host_facts *facts,
			const struct wire_prefix *pool, unsigned *proxies)
{
	for (unsigned i = 0; i < facts->n_addresses; i++) {
		uint8_t link = facts->addresses[i].length;
		nat_be32 network = facts->addresses[i].address & mask_of(link);
		unsigned longer = link > pool->length ? link : pool->length;
		nat_be32 start = link > pool->length ? network : pool->address;
		if (strcmp(facts->addresses[i].interface, outside) != 0 || link >= 31 ||
		    (network ^ pool->address) & mask_of(link < pool->length ? link : pool->length))
			continue;
		uint64_t n = UINT64_C(1) << (32 - longer);
		for (uint64_t k = 0; k < n; k++) {
			nat_be32 address = htonl(ntohl(start) + (uint32_t)k);
			if (address == network || address == (network | ~mask_of(link)))
				continue;
			struct host_item item = {
			    .kind = HOST_PROXY, .address = address, .length = 32};
			name_copy(item.interface, outside);
			if (*proxies == HOST_PROXIES_MAX)
				return ERR_FULL;
			++*proxies;
			int err = append_once(plan, &item);
			if (err)
				return err;
		}
	}
	return 0;
}

static int plan_prefixes(struct host_plan *plan, const struct port_interface *interfaces,
			 unsigned n, const struct host_facts *facts,
			 const struct wire_config *config, char sentence[HOST_SENTENCE_MAX])
{
	int err = 0;
	unsigned proxies = 0;
	char out[PORT_NAME_MAX];
	host_device(NAT_REALM_OUTSIDE, out);
	for (unsigned i = 0; i < config->n_prefixes && !err; i++) {
		const struct wire_prefix *prefix = &config->prefixes[i];
		if (prefix->kind == WIRE_PREFIX_POOL) {
			err = check_own(facts, prefix, sentence);
			err = err ? err
				  : add_route(plan, RT_TABLE_MAIN, prefix->address, prefix->length,
					      NULL);
			err = err ? err
				  : add_route(plan, RT_TABLE_MAIN, prefix->address, prefix->length,
					      out);
		}
		for (unsigned k = 0; k < n && !err; k++) {
			if (interfaces[k].realm != NAT_REALM_OUTSIDE)
				continue;
			if (prefix->kind == WIRE_PREFIX_INSIDE)
				err = add_rule(plan, interfaces[k].name, prefix->address,
					       prefix->length, HOST_TABLE + NAT_REALM_OUTSIDE);
			else if (prefix->kind == WIRE_PREFIX_POOL)
				err =
				    plan_proxies(plan, interfaces[k].name, facts, prefix, &proxies);
			/* The kernel holds answers for proxies back by up to this; we are no last
			 * resort but the owner. */
			if (!err && proxies > 0)
				err =
				    add_sysctl(plan, "neigh", interfaces[k].name, "proxy_delay", 0);
		}
	}
	return err;
}

/* The kernel's errors about what it was to deliver inside. */
static int plan_errors(struct host_plan *plan, const struct port_interface *interfaces, unsigned n,
		       const struct wire_config *config)
{
	enum { NET = 3 << 8, HOST = NET + 1, TOO_BIG = NET + 4 };
	int err = 0;
	for (unsigned i = 0; i < config->n_prefixes && !err; i++) {
		if (config->prefixes[i].kind != WIRE_PREFIX_BYPASS)
			err = add_icmp_rule(plan, &config->prefixes[i], 0, 0, RT_TABLE_MAIN);
	}
	for (unsigned i = 0; i < n && !err; i++) {
		if (interfaces[i].realm == NAT_REALM_OUTSIDE)
			continue;
		uint32_t table = HOST_TABLE + interfaces[i].realm;
		err = add_icmp_rule(plan, NULL, NET, HOST, table);
		return err ? err : add_icmp_rule(plan, NULL, TOO_BIG, TOO_BIG, table);
	}
	return err;
}

int host_plan_make(const struct port_interface *interfaces, unsigned n,
		   const struct host_facts *facts, const struct wire_config *config,
		   struct host_plan *out, char sentence[HOST_SENTENCE_MAX])
{
	out->n = 0;
	sentence[0] = 0;
	int err = plan_tables(out, interfaces, n);
	if (!err && config)
		err = plan_prefixes(out, interfaces, n, facts, config, sentence);
	if (!err && config)
		err = plan_errors(out, interfaces, n, config);
	if (!err)
		err = plan_sysctls(out, interfaces, n, facts);
	if (err == ERR_FULL)
		snprintf(sentence, HOST_SENTENCE_MAX,
			 "the pools need more than %d host routes or %d proxy ARP entries; use "
			 "fewer, shorter prefixes, or have the upstream router route the pool to "
			 "this host instead of keeping it on the outside network",
			 HOST_ITEMS_MAX, HOST_PROXIES_MAX);
	return err;
}

/* ---- as text ---- */

void host_item_format(const struct host_item *item, char *out, unsigned size)
{
	char address[INET_ADDRSTRLEN];
	inet_ntop(AF_INET, &item->address, address, sizeof address);
	switch (item->kind) {
	case HOST_BLACKHOLE:
		snprintf(out, size, "blackhole %s/%u %u %u", address, item->length, item->table,
			 item->priority);
		return;
	case HOST_RULE:
		if (item->icmp) {
			snprintf(out, size, "icmp %s/%u %u %u %u-%u", address, item->length,
				 item->table, item->priority, item->icmp_first, item->icmp_last);
			return;
		}
		/* fall through */
	case HOST_ROUTE:
		snprintf(out, size, "%s %s/%u %u %u %s", item->kind == HOST_RULE ? "rule" : "route",
			 address, item->length, item->table, item->priority, item->interface);
		return;
	case HOST_PROXY:
		snprintf(out, size, "proxy %s/32 %s", address, item->interface);
		return;
	default:
		snprintf(out, size, "sysctl %s %d %d", item->key, item->old, item->value);
	}
}

int host_item_parse(const char *line, struct host_item *out)
{
	char kind[16], address[INET_ADDRSTRLEN] = "0.0.0.0";
	unsigned length = 0;
	int fields, rest = 0;
	memset(out, 0, sizeof *out);
	if (sscanf(line, "%15s %n", kind, &rest) != 1)
		return ERR_MALFORMED;
	line += rest;
	if (strcmp(kind, "sysctl") == 0) {
		out->kind = HOST_SYSCTL;
		fields = sscanf(line, "%79s %d %d", out->key, &out->old, &out->value);
		/* It names a file that root will write. */
		return fields == 3 && strncmp(out->key, "net/ipv4/", 9) == 0 &&
			       !strstr(out->key, "..")
			   ? 0
			   : ERR_MALFORMED;
	}
	if (strcmp(kind, "proxy") == 0) {
		out->kind = HOST_PROXY;
		fields = sscanf(line, "%15[0-9.]/%u %15s", address, &length, out->interface);
		fields = fields == 3 ? 0 : ERR_MALFORMED;
	} else if (strcmp(kind, "icmp") == 0) {
		out->kind = HOST_RULE;
		out->icmp = true;
		strcpy(out->interface, "lo");
		fields = sscanf(line, "%15[0-9.]/%u %u %u %hu-%hu", address, &length, &out->table,
				&out->priority, &out->icmp_first, &out->icmp_last);
		fields = fields == 6 ? 0 : ERR_MALFORMED;
	} else if (strcmp(kind, "blackhole") == 0) {
		out->kind = HOST_BLACKHOLE;
		fields = sscanf(line, "%15[0-9.]/%u %u %u", address, &length, &out->table,
				&out->priority);
		fields = fields == 4 ? 0 : ERR_MALFORMED;
	} else if (strcmp(kind, "rule") == 0 || strcmp(kind, "route") == 0) {
		out->kind = strcmp(kind, "rule") == 0 ? HOST_RULE : HOST_ROUTE;
		fields = sscanf(line, "%15[0-9.]/%u %u %u %15s", address, &length, &out->table,
				&out->priority, out->interface);
		fields = fields == 5 ? 0 : ERR_MALFORMED;
	} else {
		return ERR_MALFORMED;
	}
	if (fields < 0 || length > 32 || inet_pton(AF_INET, address, &out->address) != 1)
		return ERR_MALFORMED;
	out->length = (uint8_t)length;
	return 0;
}

void host_item_command(const struct host_item *item, FILE *out)
{
	char prefix[INET_ADDRSTRLEN + 4], address[INET_ADDRSTRLEN], table[32] = "";
	char range[32] = "";
	inet_ntop(AF_INET, &item->address, address, sizeof address);
	snprintf(prefix, sizeof prefix, "%s/%u", address, item->length);
	if (item->table != RT_TABLE_MAIN)
		snprintf(table, sizeof table, " table %u", item->table);
	switch (item->kind) {
	case HOST_BLACKHOLE:
		fprintf(out, "ip route add blackhole %s metric %u%s proto %d\n", prefix,
			item->priority, table, NETLINK_PROTOCOL);
		return;
	case HOST_RULE:
		if (item->icmp_last)
			snprintf(range, sizeof range, " dport %u-%u", item->icmp_first,
				 item->icmp_last);
		fprintf(out, "ip rule add iif %s%s%s%s%s lookup %u priority %u protocol %d\n",
			item->interface, item->length ? " to " : "", item->length ? prefix : "",
			item->icmp ? " ipproto icmp" : "", range,
			item->table, item->priority, NETLINK_PROTOCOL);
		return;
	case HOST_ROUTE:
		fprintf(out, "ip route add %s dev %s metric %u%s proto %d\n", prefix,
			item->interface, item->priority, table, NETLINK_PROTOCOL);
		return;
	case HOST_PROXY:
		fprintf(out, "ip neigh add proxy %s dev %s\n", address, item->interface);
		return;
	default:
		fprintf(out, "echo %d > /proc/sys/%s\n", item->value, item->key);
	}
}
