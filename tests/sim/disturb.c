/* SPDX-License-Identifier: Apache-2.0 */
/* What people, hosts and networks do: packets, operators' commands, and every kind of fault. */
#include <arpa/inet.h>
#include <string.h>
#include "tests/sim/sim.h"

static nat_be32 subscriber(struct sim *sim)
{
	return htonl(0x0a000001 + below(sim, sim->shape.subscribers));
}

static nat_be16 internal_port(struct sim *sim)
{
	return htons((uint16_t)(5000 + below(sim, sim->shape.ports)));
}

static nat_be16 external_port(struct sim *sim)
{
	return htons((uint16_t)(sim->pool.port_first +
				below(sim, sim->pool.port_last - sim->pool.port_first + 1u)));
}

static nat_be32 external_address(struct sim *sim)
{
	return sim->pool_prefixes[below(sim, sim->shape.addresses)].address;
}

static uint8_t protocol(struct sim *sim)
{
	static const uint8_t protocols[] = {NAT_UDP, NAT_UDP, NAT_UDP,  NAT_UDP,
					    NAT_TCP, NAT_TCP, NAT_ICMP, NAT_GRE};
	return protocols[below(sim, sizeof protocols)];
}

/* Without ports, where the protocol is translated by address. */
static struct nat_tuple portless(struct nat_tuple tuple)
{
	if (nat_protocol_by_address(tuple.protocol))
		tuple.source_port = tuple.destination_port = 0;
	return tuple;
}

static uint8_t flags_of(struct sim *sim, uint8_t proto)
{
	static const uint8_t flags[] = {
	    NAT_TCP_SYN, NAT_TCP_SYN, NAT_TCP_SYN | NAT_TCP_ACK, NAT_TCP_ACK,
	    NAT_TCP_ACK, NAT_TCP_ACK, NAT_TCP_FIN | NAT_TCP_ACK, NAT_TCP_RST};
	return proto == NAT_TCP ? flags[below(sim, sizeof flags)] : 0;
}

struct nat_tuple disturb_outbound(struct sim *sim, uint8_t *tcp_flags)
{
	uint8_t proto = protocol(sim);
	unsigned remote = below(sim, sim->shape.remotes);

	*tcp_flags = proto == NAT_TCP ? NAT_TCP_SYN : 0;
	return portless((struct nat_tuple){
	    .source = subscriber(sim),
	    .source_port = internal_port(sim),
	    .destination = htonl(0x08080800 + remote / 2),
	    .destination_port = proto == NAT_ICMP ? 0 : htons(remote % 2 ? 53 : 80),
	    .protocol = proto,
	    .realm = 1,
	});
}

/* A tuple of a session that the table knows, either way; false when it knows none. */
static bool known_tuple(struct sim *sim, bool inbound, struct nat_tuple *out)
{
	rows_read(sim);
	if (sim->n_sessions == 0)
		return false;
	const struct table_session_row *row = &sim->sessions[below(sim, sim->n_sessions)];
	if (inbound)
		*out = (struct nat_tuple){.source = row->remote.address,
					  .source_port = row->remote.port,
					  .destination = row->external.address,
					  .destination_port = row->external.port};
	else
		*out = (struct nat_tuple){.source = row->internal.address,
					  .source_port = row->internal.port,
					  .destination = row->remote.address,
					  .destination_port = row->remote.port,
					  .realm = row->realm};
	out->protocol = row->protocol;
	return !tcp_is_one(out); /* those have a life of their own */
}

static struct nat_tuple stranger(struct sim *sim)
{
	return portless((struct nat_tuple){.source = htonl(0x08080800 + below(sim, 3)),
					   .source_port = htons((uint16_t)(80 + below(sim, 3))),
					   .destination = external_address(sim),
					   .destination_port = external_port(sim),
					   .protocol = protocol(sim),
					   .realm = NAT_REALM_OUTSIDE});
}

/* From an internal endpoint to the external endpoint of another one. */
static bool hairpin(struct sim *sim, struct nat_tuple *out)
{
	rows_read(sim);
	if (sim->n_mappings == 0)
		return false;
	const struct table_mapping_row *row = &sim->mappings[below(sim, sim->n_mappings)];
	*out = (struct nat_tuple){.source = subscriber(sim),
				  .source_port = internal_port(sim),
				  .destination = row->external.address,
				  .destination_port = row->external.port,
				  .protocol = row->protocol,
				  .realm = 1};
	*out = portless(*out);
	return true;
}

/* To the destination of a redirect, whether it is configured or not. */
static struct nat_tuple redirected(struct sim *sim)
{
	const struct config_redirect *rule = &sim->redirects[below(sim, 2)];
	bool outside = rule->from_realm == NAT_REALM_OUTSIDE;

	return (struct nat_tuple){
	    .source = outside ? htonl(0x08080800 + below(sim, 3)) : subscriber(sim),
	    .source_port = internal_port(sim),
	    .destination = rule->destination.address,
	    .destination_port = rule->destination.port,
	    .protocol = rule->protocol,
	    .realm = rule->from_realm,
	};
}

static struct dataplane *any_dataplane(struct sim *sim)
{
	return &sim->dataplanes[below(sim, sim->shape.dataplanes)];
}

static void operate_static(struct sim *sim)
{
	struct config_static mapping = {
	    .realm = 1,
	    .protocol = chance(sim, 500) ? NAT_UDP : NAT_TCP,
	    .external = {external_address(sim), external_port(sim), 0},
	    .internal = {subscriber(sim), internal_port(sim), 0},
	};
	const char *state = "";
	unsigned most = sizeof sim->statics / sizeof sim->statics[0];

	rows_read(sim);
	if (sim->n_mappings && chance(sim, 600)) /* somebody has that port: fence him first */
		mapping.external = sim->mappings[below(sim, sim->n_mappings)].external;
	if (sim->shape.whole_addresses && chance(sim, 400)) /* 1:1 */
		mapping.protocol = mapping.external.port = mapping.internal.port = 0;
	if (sim->n_statics && chance(sim, 500)) {
		struct config_static *known = &sim->statics[below(sim, sim->n_statics)];
		trace(sim, "operator: static delete port %u", ntohs(known->external.port));
		table_static_delete(sim->table, known, table_now(sim));
	} else if (sim->n_statics < most) {
		int rc = table_static_add(sim->table, &mapping, table_now(sim), &state);
		trace(sim, "operator: static add port %u: %d %s", ntohs(mapping.external.port), rc,
		      state ? state : "");
		if (rc == 0)
			sim->statics[sim->n_statics++] = mapping;
		sim->coverage.statics += rc == 0;
		sim->coverage.whole_addresses += rc == 0 && mapping.protocol == 0;
	}
}

/* Another configuration: the second address comes and goes, redirects too, other policies. */
static void operate_reload(struct sim *sim)
{
	char error[256] = "";

	sim->config.generation++;
	sim->pool.filtering_udp = below(sim, 3);
	if (!sim->fixed) { /* whose ports follow from the addresses */
		sim->pool.n_prefixes = 1 + below(sim, sim->shape.addresses);
		sim->config.n_redirects = below(sim, 3);
	}
	sim->config.inbound_refresh = chance(sim, 500);
	sim->config.hairpinning = chance(sim, 700);
	sim->config.timers.udp = 100 + below(sim, 1400);
	if (sim->config.timers.udp < sim->shortest_udp)
		sim->shortest_udp = sim->config.timers.udp;
	sim->config.limits.blocks = 1 + below(sim, 3);
	int rc = table_reload(sim->table, &sim->config, table_now(sim), error, sizeof error);
	trace(sim, "operator: reload, %u addresses, %u redirects: %d %s", sim->pool.n_prefixes,
	      sim->config.n_redirects, rc, error);
	if (rc)
		fail(sim, "a reload was refused: %s", error);
	subscriber_forgive(sim, 0, NULL); /* an address may have left the pool */
	sim->coverage.reloads++;
}

static void operate(struct sim *sim)
{
	struct table_filter filter = {0};
	uint64_t mappings = 0, sessions = 0;
	char name[16];

	sim->table_changed = true;
	switch (below(sim, 6)) {
	case 0:
		operate_static(sim);
		break;
	case 1:
		snprintf(name, sizeof name, "dp%u", below(sim, sim->shape.dataplanes));
		table_drain(sim->table, name, chance(sim, 700), table_now(sim));
		break;
	case 2:
		operate_reload(sim);
		break;
	default:
		rows_read(sim);
		if (sim->n_mappings == 0)
			return;
		const struct table_mapping_row *row = &sim->mappings[below(sim, sim->n_mappings)];
		if (chance(sim, 200))
			filter.subscriber = row->internal.address;
		else
			filter.external = row->external;
		table_delete(sim->table, &filter, table_now(sim), &mappings, &sessions);
		subscriber_forgive(sim, filter.subscriber, &filter.external);
		sim->coverage.deletes += mappings;
		trace(sim, "operator: deletes port %u or subscriber %08x: %lu mappings",
		      ntohs(filter.external.port), ntohl(filter.subscriber),
		      (unsigned long)mappings);
	}
}

/* In pieces, of any flow. */
static void datagram(struct sim *sim)
{
	struct nat_tuple tuple;
	uint8_t flags = 0;
	bool some = true;

	switch (below(sim, 8)) {
	case 0:
		tuple = redirected(sim);
		break;
	case 1:
		some = hairpin(sim, &tuple);
		break;
	case 2:
		tuple = stranger(sim);
		break;
	case 3:
	case 4:
		some = known_tuple(sim, true, &tuple);
		break;
	default:
		tuple = disturb_outbound(sim, &flags);
	}
	if (some)
		fragments_send(sim, &tuple, tuple.protocol == NAT_TCP ? NAT_TCP_SYN : 0);
}

void disturb_operation(struct sim *sim)
{
	struct dataplane *dp = any_dataplane(sim);
	struct nat_tuple tuple;
	uint8_t flags;
	bool hold = chance(sim, 300);

	if (sim->shape.smooth && chance(sim, 500)) {
		tcp_operate(sim);
		return;
	}
	if (chance(sim, 50)) {
		subscriber_ask(sim);
		return;
	}
	switch (below(sim, 22)) {
	case 0:
		if (sim->shape.quiet)
			break;
		sim->disturbances++;
		operate(sim);
		break;
	case 16:
	case 17:
	case 18:
		datagram(sim);
		break;
	case 19:
	case 20:
	case 21:
		tcp_operate(sim);
		break;
	case 1:
		tuple = stranger(sim);
		dataplane_packet(dp, &tuple, flags_of(sim, tuple.protocol), hold);
		break;
	case 2:
		if (hairpin(sim, &tuple))
			dataplane_packet(dp, &tuple, tuple.protocol == NAT_TCP ? NAT_TCP_SYN : 0,
					 hold);
		break;
	case 3:
		if (known_tuple(sim, chance(sim, 500), &tuple))
			dataplane_peek(dp, &tuple);
		break;
	case 4:
	case 5:
	case 6:
	case 7:
		if (known_tuple(sim, true, &tuple))
			dataplane_packet(dp, &tuple, flags_of(sim, tuple.protocol), hold);
		break;
	case 8:
	case 9:
		if (known_tuple(sim, false, &tuple))
			dataplane_packet(dp, &tuple, flags_of(sim, tuple.protocol), hold);
		break;
	case 10:
		tuple = redirected(sim);
		dataplane_packet(dp, &tuple, tuple.protocol == NAT_TCP ? NAT_TCP_SYN : 0, hold);
		break;
	default:
		tuple = disturb_outbound(sim, &flags);
		dataplane_packet(dp, &tuple, flags, hold);
	}
}

void disturb_fault(struct sim *sim)
{
	struct dataplane *dp = any_dataplane(sim);
	const struct config *c = &sim->config;
	int64_t fence = c->lease_ms + c->grace_ms + c->margin_ms;

	if (!dp->alive)
		return;
	switch (below(sim, 8)) {
	case 0:
		dataplane_crash(dp);
		break;
	case 1: /* a zombie: stopped until its fence is over, and then some */
		dp->frozen = sim->now + ms(fence - 200 + below(sim, 1000));
		sim->coverage.zombies++;
		dp->readers.n = 0;
		trace(sim, "dp%u: freezes for %ld ms", dp->index,
		      (long)((dp->frozen - sim->now) / MS_NS));
		if (dp->link && chance(sim, 500))
			link_break(sim, dp->link);
		break;
	case 2: /* a short stall */
		dp->frozen = sim->now + ms(below(sim, c->lease_ms));
		dp->readers.n = 0;
		trace(sim, "dp%u: stalls", dp->index);
		break;
	case 3:
	case 4: /* a partition, of any length */
		if (!dp->link)
			break;
		dp->link->hold =
		    sim->now +
		    ms(below(sim, (uint32_t)(chance(sim, 500) ? c->lease_ms : fence + 500)));
		sim->coverage.partitions++;
		trace(sim, "dp%u: partitioned for %ld ms", dp->index,
		      (long)((dp->link->hold - sim->now) / MS_NS));
		break;
	default:
		if (dp->link)
			link_break(sim, dp->link);
	}
}

void disturb_end(struct sim *sim)
{
	char name[16];

	trace(sim, "everything heals");
	for (unsigned i = 0; i < LINKS; i++)
		sim->links[i].hold = 0;
	for (unsigned i = 0; i < sim->shape.dataplanes; i++) {
		struct dataplane *dp = &sim->dataplanes[i];
		dp->frozen = dp->busy = 0;
		if (!dp->alive)
			dp->restart = sim->now;
		snprintf(name, sizeof name, "dp%u", i);
		table_drain(sim->table, name, true, table_now(sim));
	}
	for (unsigned i = 0; i < sim->n_statics; i++)
		table_static_delete(sim->table, &sim->statics[i], table_now(sim));
	sim->table_changed = true;
}
