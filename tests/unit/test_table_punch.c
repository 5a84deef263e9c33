/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two hosts behind two clusters that face each other: UDP hole punching and TCP simultaneous open
 * (RFC 5382 REQ-2a, RFC 4787 REQ-8, RFC 5128 section 3), in every order in which four packets can be
 * sent and arrive. Some arrive too early and are refused; that must poison nothing: what is sent again
 * passes. Each cluster has two dataplanes, one for each direction.
 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <arpa/inet.h>
#include <string.h>

#include "tests/support/cluster.h"

enum { FLIGHTS = 16, STEPS = 32, ROUNDS = 4 };

struct punch {
	char name[40];
	unsigned protocol;
	enum config_filtering filtering;
};

struct host {
	struct nat_tuple out; /* to the other's external endpoint */
	bool started, got_syn, done;
};

static struct cluster clusters[2];
static unsigned refused;

static void start(const struct punch *punch)
{
	memset(clusters, 0, sizeof clusters);
	for (unsigned i = 0; i < 2; i++) {
		struct rig *rig = &clusters[i].rig;
		rig_config(rig);
		rig->pool_prefix.address = ip(i ? "198.51.100.0" : "192.0.2.0");
		rig->config.capacity.sessions = rig->config.capacity.mappings = 4000;
		rig->pool.filtering_udp = rig->pool.filtering_tcp = punch->filtering;
		cluster_start(&clusters[i], 2);
	}
	refused = 0;
}

static void stop(void)
{
	cluster_stop(&clusters[0]);
	cluster_stop(&clusters[1]);
}

/* Each host speaks to a rendezvous server and learns the other's external endpoint there. */
static void meet(const struct punch *punch, unsigned number, struct host hosts[2])
{
	struct nat_tuple seen[2];
	const uint8_t flags = punch->protocol == NAT_TCP ? NAT_TCP_SYN : 0;
	for (unsigned i = 0; i < 2; i++) {
		struct nat_tuple t = tuple_of(punch->protocol, 1, "10.0.0.1", 5000 + i + 2 * number,
					      "203.0.113.5", 3478);
		cr_assert_eq(cluster_packet(&clusters[i], 0, t, flags, &seen[i]), 0);
		hosts[i] = (struct host){.out = t};
	}
	for (unsigned i = 0; i < 2; i++) {
		hosts[i].out.destination = seen[!i].source;
		hosts[i].out.destination_port = seen[!i].source_port;
	}
}

struct flight {
	unsigned to;
	uint8_t flags;
	struct nat_tuple tuple;
};
struct air {
	struct flight at[FLIGHTS];
	unsigned n;
};

static void depart(struct host hosts[2], unsigned from, uint8_t flags, struct air *air)
{
	struct flight flight = {.to = !from, .flags = flags};
	cr_assert_eq(cluster_packet(&clusters[from], 0, hosts[from].out, flags, &flight.tuple), 0,
		     "what an inside host sends leaves");
	cr_assert_lt(air->n, FLIGHTS);
	air->at[air->n++] = flight;
}

/* UDP: done when something came. TCP (RFC 9293 figure 5): a SYN is answered by SYN-ACK, that by ACK. */
static void arrive(struct host hosts[2], const struct flight *flight, struct air *air)
{
	struct host *host = &hosts[flight->to];
	struct nat_tuple inside;
	if (cluster_packet(&clusters[flight->to], 1, flight->tuple, flight->flags, &inside) != 0) {
		refused++;
		return;
	}
	cr_expect_eq(inside.destination, host->out.source);
	cr_expect_eq(inside.destination_port, host->out.source_port);
	cr_expect_eq(inside.source, host->out.destination);
	if (flight->flags == NAT_TCP_SYN) {
		host->got_syn = true;
		depart(hosts, flight->to, NAT_TCP_SYN | NAT_TCP_ACK, air);
		return;
	}
	host->done = true;
	if (flight->flags & NAT_TCP_SYN)
		depart(hosts, flight->to, NAT_TCP_ACK, air);
}

/* One order: choice[step] of what can happen next; options[step] gets how much that was. */
static unsigned play(const struct punch *punch, unsigned number, const unsigned *choice,
		     unsigned *options)
{
	struct host hosts[2];
	struct air air = {.n = 0};
	unsigned step = 0;
	const uint8_t first = punch->protocol == NAT_TCP ? NAT_TCP_SYN : 0;

	meet(punch, number, hosts);
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (;;) {
			unsigned starts[2], n_starts = 0;
			for (unsigned i = 0; i < 2; i++)
				if (!hosts[i].started)
					starts[n_starts++] = i;
			if (n_starts + air.n == 0)
				break;
			cr_assert_lt(step, STEPS);
			options[step] = n_starts + air.n;
			unsigned what = choice[step++];
			if (what < n_starts) {
				hosts[starts[what]].started = true;
				depart(hosts, starts[what], first, &air);
				continue;
			}
			struct flight flight = air.at[what - n_starts];
			air.at[what - n_starts] = air.at[--air.n];
			arrive(hosts, &flight, &air);
		}
		if (hosts[0].done && hosts[1].done)
			break;
		cr_assert_lt(round, ROUNDS - 1, "%s: does not come about", punch->name);
		cluster_pass(&clusters[0], 1000); /* and what is not answered is sent again, in order */
		cluster_pass(&clusters[1], 1000);
		for (unsigned i = 0; i < 2; i++)
			if (!hosts[i].done || !hosts[!i].done)
				depart(hosts, i, hosts[i].got_syn ? NAT_TCP_SYN | NAT_TCP_ACK : first,
				     &air);
		while (air.n) {
			struct flight flight = air.at[0];
			memmove(air.at, air.at + 1, --air.n * sizeof air.at[0]);
			arrive(hosts, &flight, &air);
		}
	}
	for (unsigned i = 0; i < 2; i++) { /* and it stays so */
		depart(hosts, i, first ? NAT_TCP_ACK : 0, &air);
		unsigned before = refused;
		hosts[!i].done = false;
		arrive(hosts, &air.at[--air.n], &air);
		cr_expect_eq(refused, before);
		cr_expect(hosts[!i].done);
	}
	return step;
}

static void all_are_established(void)
{
	for (unsigned i = 0; i < 2; i++) {
		struct table_session_row row;
		uint64_t cursor = 0;
		do {
			if (table_sessions(clusters[i].rig.table, &(struct table_filter){0}, &cursor,
					   &row, 1, clusters[i].rig.now) &&
			    row.remote.address != ip("203.0.113.5"))
				cr_expect_str_eq(row.state, "established");
		} while (cursor);
	}
}

ParameterizedTestParameters(table_punch, in_every_order)
{
	static struct punch rows[] = {
	    {"UDP, address-dependent", NAT_UDP, CONFIG_ADF},
	    {"UDP, address- and port-dependent", NAT_UDP, CONFIG_APDF},
	    {"TCP, address-dependent", NAT_TCP, CONFIG_ADF},
	    {"TCP, address- and port-dependent", NAT_TCP, CONFIG_APDF},
	    {"TCP, endpoint-independent", NAT_TCP, CONFIG_EIF},
	};
	return cr_make_param_array(struct punch, rows, sizeof rows / sizeof rows[0]);
}

ParameterizedTest(struct punch *punch, table_punch, in_every_order)
{
	unsigned choice[STEPS] = {0}, options[STEPS], orders = 0;

	start(punch);
	for (;;) {
		unsigned steps = play(punch, orders++, choice, options);
		while (steps > 0 && choice[steps - 1] + 1 >= options[steps - 1])
			choice[--steps] = 0;
		if (steps == 0)
			break;
		choice[steps - 1]++;
	}
	cr_expect_geq(orders, punch->protocol == NAT_TCP ? 20 : 6);
	if (punch->filtering == CONFIG_EIF)
		cr_expect_eq(refused, 0);
	else
		cr_expect_gt(refused, 0, "else nothing was tried that could poison");
	if (punch->protocol == NAT_TCP)
		all_are_established();
	stop();
}
