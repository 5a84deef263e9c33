/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host needs so that packets find the TUN port, as a list of items in the order in which
 * they are applied (and in whose reverse they are taken back). Pure: no netlink, no files.
 *
 *   inside interface --rule iif--> table of the realm: default dev conat-in
 *                                                      blackhole default, of worse metric
 *   outside interface --rule iif to inside prefix--> table of realm 0: the same with conat-out
 *   main table: pool prefix dev conat-out, and a blackhole of worse metric
 *
 * Errors that the kernel itself makes about translated packets on their way in (nobody answers ARP
 * for the inside host, a route has a small MTU) would go to the sender with the inside address in
 * them. Rules lead them back to the engine, which turns the quote like any inside router's (RFC 5508
 * REQ-5); such errors to inside hosts and to pools are sent by the main table as ever.
 *
 *   from the host itself, ICMP --rule to inside and pool prefixes--> main
 *   from the host itself, ICMP 3/0, 3/1, 3/4 --rule--> table of the first inside realm
 *
 * The local table comes before our rules, so the host's own addresses stay reachable. When the
 * process dies its devices and their routes go; rules and blackholes stay, so that nothing with a
 * private source leaves, and no pool packet goes back to where it came from.
 *
 * The outside's rule keeps strangers from reaching inside addresses directly, past the engine, now
 * that the host forwards; what may pass untranslated (bypass) the engine lets through.
 *
 * What leaves into a realm goes by the main table. Realms whose addresses overlap need an operator's
 * rule each ("ip rule add iif conat-inN lookup TABLE") that says where those addresses are.
 */
#ifndef DATAPLANE_HOST_PLAN_H
#define DATAPLANE_HOST_PLAN_H

#include <stdio.h>
#include "dataplane/port.h"

enum {
	HOST_TABLE = 25440,   /* + realm: the routing tables that are ours */
	HOST_PRIORITY_SPARED = 998, /* of our policy rules: after local (0), before main (32766) */
	HOST_PRIORITY_ERRORS = 999,
	HOST_PRIORITY = 1000,
	HOST_METRIC = 10,     /* of the routes to the TUN devices */
	HOST_METRIC_LAST = 0x7ffffff0, /* of the blackholes behind them */
	HOST_ADDRESSES_MAX = 256,
	HOST_PROXIES_MAX = 1024, /* pool addresses that are answered for by ARP */
	HOST_ITEMS_MAX = 8192,
	HOST_SENTENCE_MAX = 320,
};

enum host_kind { HOST_BLACKHOLE, HOST_RULE, HOST_ROUTE, HOST_PROXY, HOST_SYSCTL };

struct host_item {
	uint8_t kind; /* enum host_kind */
	uint8_t length;
	nat_be32 address;
	uint32_t table;
	uint32_t priority; /* of a rule; metric of a route */
	bool icmp;	   /* a rule for ICMP; as in struct netlink_rule */
	uint16_t icmp_first, icmp_last;
	char interface[PORT_NAME_MAX];
	char key[80]; /* sysctl: path below /proc/sys */
	int value, old;
};

struct host_plan {
	struct host_item *items; /* room for HOST_ITEMS_MAX */
	unsigned n;
};

/* What the host is like. */
struct host_facts {
	struct {
		char interface[PORT_NAME_MAX];
		nat_be32 address;
		uint8_t length;
	} addresses[HOST_ADDRESSES_MAX];
	unsigned n_addresses;
	int rp_filter_all;
};

int host_plan_new(struct host_plan **out);
void host_plan_free(struct host_plan *plan);

/* The name of a realm's TUN device: conat-out, conat-in (realm 1), conat-inN. */
void host_device(unsigned realm, char out[PORT_NAME_MAX]);

/*
 * The plan for these interfaces. config NULL: none came yet, so no pools. 0; ERR_EXISTS when a pool
 * address is one of the host's own, ERR_FULL: sentence says what is wrong and what to do.
 */
int host_plan_make(const struct port_interface *interfaces, unsigned n,
		   const struct host_facts *facts, const struct wire_config *config,
		   struct host_plan *out, char sentence[HOST_SENTENCE_MAX]);

/* Whether two items are the same thing on the host (values of a sysctl may differ). */
bool host_item_same(const struct host_item *a, const struct host_item *b);
/* The item of plan that is the same as item, or NULL. */
struct host_item *host_plan_find(const struct host_plan *plan, const struct host_item *item);
/* ERR_FULL, or appended. */
int host_plan_append(struct host_plan *plan, const struct host_item *item);

/* One line of a state file, without newline, and back: ERR_MALFORMED. */
void host_item_format(const struct host_item *item, char *out, unsigned size);
int host_item_parse(const char *line, struct host_item *out);
/* The commands that do by hand what the items do, for people. */
void host_item_command(const struct host_item *item, FILE *out);

#endif
