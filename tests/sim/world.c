/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The world of one seed: small pools, small capacities, short timers, so that collisions,
 * exhaustion, eviction, hold-down and fences happen all the time. One loop takes whatever is due
 * next, lets it happen, lets both sides send what they have to send, and checks the invariants.
 */
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include "common/base/err.h"
#include "tests/sim/sim.h"

enum { BLOCK = 64, START_S = 1000 };

bool sim_small_outbox;

static uint32_t between(struct sim *sim, uint32_t low, uint32_t high)
{
	return low + below(sim, high - low + 1);
}

static void make_config(struct sim *sim)
{
	struct config *c = &sim->config;

	config_defaults(c);
	strcpy(c->journal, "none");
	sim->shape = (struct sim_shape){
	    .dataplanes = between(sim, 2, DATAPLANES),
	    .subscribers = between(sim, 2, 5),
	    .ports = between(sim, 3, 60),
	    .remotes = between(sim, 1, 4),
	    .capacity = between(sim, 2, 24),
	    .fault_every_ms = between(sim, 100, 2000),
	    .op_every_us = between(sim, 4000, 20000),
	    .end = sim->now + ms(between(sim, 5000, 10000)),
	    .calm = chance(sim, 150),
	    .quiet = chance(sim, 150),
	    .cuts = chance(sim, 500),
	};
	sim->shape.calm |= sim->shape.quiet;
	sim->shape.smooth = chance(sim, 120);
	sim->shape.calm |= sim->shape.smooth;
	c->lease_ms = between(sim, 500, 1200);
	c->heartbeat_ms = c->lease_ms / between(sim, 3, 5);
	c->grace_ms = chance(sim, 300) ? 0 : between(sim, 100, 1500);
	c->margin_ms = between(sim, 20, 100);
	c->hold_down_ms = chance(sim, 400) ? 0 : between(sim, 50, 1000);
	c->batch_max = between(sim, 2, 32);
	c->inflight_max = between(sim, 1, 6);
	c->negative_ttl_ms = between(sim, 0, 1000);
	c->inbound_refresh = chance(sim, 500);
	c->hairpinning = true;
	c->timers.udp = between(sim, 100, 1500);
	sim->shortest_udp = c->timers.udp;
	c->timers.udp_dns = between(sim, 50, 500);
	c->timers.icmp = between(sim, 100, 600);
	c->timers.other = between(sim, 100, 600);
	c->timers.tcp_established = between(sim, 1500, 4000);
	c->timers.tcp_opening = between(sim, 500, 1200);
	c->timers.tcp_closing = between(sim, 500, chance(sim, 300) ? 3500 : 1200);
	c->capacity.mappings = between(sim, 20, 200);
	c->capacity.sessions = between(sim, 30, 300);
	c->capacity.subscribers = between(sim, 3, 8);
	c->capacity.fragments = chance(sim, 300) ? between(sim, 1, 32) : 1024;
	c->fragment_timeout_ms = between(sim, 600, 2000);
	c->limits.blocks = between(sim, 1, 3);
	c->limits.sessions = between(sim, 20, 200);
	c->limits.per_mapping = between(sim, 2, 20);
	c->limits.creations_per_second = chance(sim, 300) ? 50 : 0;
	c->pcp.capacity = between(sim, 2, 24);
	c->pcp.per_subscriber = between(sim, 1, 8);
	c->pcp.lifetime_min_ms = 1000;
	c->pcp.lifetime_max_ms = 3000;
	c->pending.timeout_ms = between(sim, 50, 600);
	c->pending.packets = between(sim, 4, 32);
	c->pending.per_flow = between(sim, 1, 4);

	uint32_t blocks = between(sim, 2, 6);
	sim->shape.addresses = between(sim, 1, 2);
	/* Blocks of an address that ever was one host's are not looked at: so not everywhere. */
	sim->shape.whole_addresses = chance(sim, 250);
	sim->pool_prefixes[0] = (struct config_prefix){htonl(0xc6336401), 32};
	sim->pool_prefixes[1] = (struct config_prefix){htonl(0xc6336402), 32};
	sim->pool = (struct config_pool){.name = "pool",
					 .prefixes = sim->pool_prefixes,
					 .n_prefixes = sim->shape.addresses,
					 .port_first = 1024,
					 .port_last = (uint16_t)(1024 + blocks * BLOCK - 1),
					 .block_size = BLOCK,
					 .filtering_udp = below(sim, 3),
					 .filtering_tcp = below(sim, 3),
					 .parity = chance(sim, 500),
					 .protocols = {NAT_GRE},
					 .n_protocols = 1};
	sim->realm_prefix = (struct config_prefix){htonl(0x0a000000), 24};
	sim->realm = (struct config_realm){
	    .name = "inside", .id = 1, .prefixes = &sim->realm_prefix, .n_prefixes = 1};
	c->pools = &sim->pool;
	c->n_pools = 1;
	c->realms = &sim->realm;
	c->n_realms = 1;
	/* Out: a subscriber's packets to 9.9.9.9 go elsewhere. In: a service behind two-way NAT. */
	sim->redirects[0] =
	    (struct config_redirect){.name = "out",
				     .from_realm = 1,
				     .to_realm = NAT_REALM_OUTSIDE,
				     .protocol = NAT_UDP,
				     .destination = {htonl(0x09090909), htons(53), 0},
				     .to = {htonl(0x08080801), htons(5353), 0}};
	sim->redirects[1] =
	    (struct config_redirect){.name = "in",
				     .from_realm = NAT_REALM_OUTSIDE,
				     .to_realm = 1,
				     .protocol = NAT_TCP,
				     .destination = {htonl(0xc6336401), htons(443), 0},
				     .to = {htonl(0x0a000001), htons(8443), 0}};
	c->redirects = sim->redirects;
	c->n_redirects = between(sim, 0, 2);
	pool_draw(sim);
}

/* ---- what happens next */

enum event {
	EVENT_END,
	EVENT_MAIL,
	EVENT_TICK,
	EVENT_CONNECT,
	EVENT_RESTART,
	EVENT_TABLE,
	EVENT_OP,
	EVENT_FAULT,
	EVENT_FRAGMENT,
};

struct pick {
	int64_t at;
	enum event event;
	void *what;
	enum queue_of queue;
};

static void consider(struct pick *pick, int64_t at, enum event event, void *what,
		     enum queue_of queue)
{
	if (at < pick->at)
		*pick = (struct pick){at, event, what, queue};
}

static int64_t latest(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static void consider_link(struct sim *sim, struct pick *pick, struct link *link)
{
	const struct dataplane *dp = &sim->dataplanes[link->dataplane];

	for (unsigned q = 0; q < QUEUES; q++) {
		const struct queue *queue = &link->queues[q];
		if (!queue->first)
			continue;
		int64_t at = latest(queue->first->arrival, link->hold);
		if (q >= DOWN_CONTROL && link->dataplane_open)
			at = latest(at, latest(dp->frozen, dp->busy));
		consider(pick, at, EVENT_MAIL, link, q);
	}
}

static void consider_dataplane(struct sim *sim, struct pick *pick, struct dataplane *dp)
{
	if (!dp->alive) {
		consider(pick, dp->restart, EVENT_RESTART, dp, 0);
		return;
	}
	int64_t free = latest(dp->frozen, dp->busy);
	int64_t tick = cache_next_tick(dp->cache, local_now(dp)).ns;
	if (tick != INT64_MAX)
		/* A loop's turn takes time; without this a tick would be due again at once. */
		consider(pick, latest(latest(tick - dp->offset, sim->now + 100000), free),
			 EVENT_TICK, dp, 0);
	else if (free > sim->now)
		consider(pick, free, EVENT_TICK, dp, 0);
	if (!dp->link)
		consider(pick, latest(dp->connect, free), EVENT_CONNECT, dp, 0);
}

static struct pick next_event(struct sim *sim)
{
	struct pick pick = {sim->shape.end, EVENT_END, NULL, 0};

	for (unsigned i = 0; i < LINKS; i++)
		if (sim->links[i].used)
			consider_link(sim, &pick, &sim->links[i]);
	for (unsigned i = 0; i < sim->shape.dataplanes; i++)
		consider_dataplane(sim, &pick, &sim->dataplanes[i]);
	consider(&pick, sim->table_tick, EVENT_TABLE, NULL, 0);
	consider(&pick, fragments_due(sim), EVENT_FRAGMENT, NULL, 0);
	if (!sim->healing) {
		consider(&pick, sim->next_op, EVENT_OP, NULL, 0);
		consider(&pick, sim->next_fault, EVENT_FAULT, NULL, 0);
	}
	return pick;
}

static void happen(struct sim *sim, const struct pick *pick)
{
	struct dataplane *dp = pick->what;

	switch (pick->event) {
	case EVENT_MAIL:
		link_deliver(sim, pick->what, pick->queue);
		break;
	case EVENT_TICK:
		dataplane_tick(dp);
		break;
	case EVENT_CONNECT:
		dataplane_connect(dp);
		break;
	case EVENT_RESTART:
		dataplane_start(sim, dp->index);
		break;
	case EVENT_TABLE:
		table_tick(sim->table, table_now(sim));
		sim->table_changed = true;
		break;
	case EVENT_OP:
		sim->operated = true;
		sim->next_op = sim->now + 1000 * (int64_t)below(sim, 2 * sim->shape.op_every_us);
		disturb_operation(sim);
		sim->table_changed = true;
		break;
	case EVENT_FAULT:
		sim->next_fault = sim->now + ms(below(sim, 2 * sim->shape.fault_every_ms));
		if (!sim->shape.calm) {
			sim->disturbances++, sim->troubles++;
			disturb_fault(sim);
		}
		break;
	case EVENT_FRAGMENT:
		fragments_happen(sim);
		break;
	case EVENT_END:
		break;
	}
}

static void step(struct sim *sim, const struct pick *pick)
{
	sim->now = latest(sim->now, pick->at);
	sim->steps++;
	sim->operated = false;
	for (unsigned i = 0; i < sim->shape.dataplanes; i++)
		sim->dataplanes[i].said.n = 0;
	happen(sim, pick);
	for (unsigned i = 0; i < sim->shape.dataplanes; i++) {
		struct dataplane *dp = &sim->dataplanes[i];
		if (dp->alive && dp->frozen <= sim->now && dp->busy <= sim->now)
			dataplane_pump(dp);
	}
	server_pump(sim);
	sim->table_tick = latest(table_next_tick(sim->table, table_now(sim)).ns, sim->now + 100000);
	links_collect(sim);
	check_step(sim);
}

static void run_until(struct sim *sim, int64_t end)
{
	struct pick pick;

	sim->shape.end = end;
	do {
		pick = next_event(sim);
		step(sim, &pick);
	} while (pick.event != EVENT_END && !sim->failed);
}

static void heal(struct sim *sim)
{
	const struct config *c = &sim->config;
	int64_t fence = c->lease_ms + c->grace_ms + c->margin_ms;

	sim->healing = true;
	disturb_end(sim);
	memset(sim->activities, 0, sizeof sim->activities); /* static forwards end theirs */
	memset(sim->connections, 0, sizeof sim->connections);
	/* Two fences: of what was attached, and of timers that a lost holder re-armed. */
	run_until(sim, sim->now + ms(3 * fence + c->hold_down_ms + 2 * c->timers.tcp_established + c->timers.tcp_closing +
				     2 * c->timers.udp + 2000));
	if (sim->failed)
		return;
	check_end(sim);
	uint8_t flags;
	struct nat_tuple tuple;
	do
		tuple = disturb_outbound(sim, &flags);
	while (nat_protocol_by_address(tuple.protocol)); /* not every pool takes those */
	for (unsigned i = 0; i < sim->shape.dataplanes && !sim->failed; i++) {
		uint64_t before = sim->dataplanes[i].translated;
		dataplane_packet(&sim->dataplanes[i], &tuple, flags, false);
		dataplane_pump(&sim->dataplanes[i]);
		/* The block may rest after each flow, and there may be few. */
		run_until(sim, sim->now + ms(c->pending.timeout_ms + c->hold_down_ms));
		if (sim->dataplanes[i].translated == before)
			fail(sim, "dp%u: after everything healed, a fresh flow does not work", i);
	}
}

void cover_dataplane(struct dataplane *dp)
{
	struct coverage *c = &dp->sim->coverage;
	struct cache_counters counters;

	cache_counters(dp->cache, &counters);
	c->evicted += counters.evicted;
	c->released += counters.released;
	c->expired += counters.expired;
	c->invalidated += counters.invalidated;
	c->flushed += counters.flushed;
	c->stale_answers += counters.stale_answers;
	c->asked_again += counters.asked_again;
	c->negative_hits += counters.negative_hits;
	c->coalesced += counters.coalesced;
	c->not_renewed += counters.not_renewed;
	c->flags_reported += counters.flags_reported;
	c->reports_full += counters.reports_full;
	c->cache_full += counters.cache_full;
	c->disconnects += counters.disconnects;
	c->draining += counters.drops[NAT_REASON_DRAINING];
	c->pending_full += counters.drops[NAT_REASON_PENDING_FULL];
	c->pending_timeout += counters.drops[NAT_REASON_PENDING_TIMEOUT];
	c->no_table += counters.drops[NAT_REASON_NO_TABLE];
	c->lease_over += counters.drops[NAT_REASON_LEASE_OVER];
	c->ports_exhausted += counters.drops[NAT_REASON_PORTS_EXHAUSTED];
	c->held += counters.drops[NAT_REASON_HOLD_DOWN];
	c->filtered += counters.drops[NAT_REASON_FILTERED];
	c->no_mapping += counters.drops[NAT_REASON_NO_MAPPING];
	c->table_full += counters.drops[NAT_REASON_TABLE_FULL];
}

static void cover_table(struct sim *sim)
{
	struct table_counters counters;

	table_counters(sim->table, &counters);
	sim->coverage.created = counters.created;
	sim->coverage.peeked = counters.peeked;
	sim->coverage.expire_asked = counters.expire_asked;
	sim->coverage.stale_handles = counters.stale_handles;
}

bool sim_run(struct sim *sim, uint64_t seed, bool traced)
{
	memset(sim, 0, sizeof *sim);
	sim->seed = sim->random_state = seed;
	sim->trace = traced;
	sim->small_outbox = sim_small_outbox;
	sim->random = random_seeded(&sim->random_state);
	for (unsigned i = 0; i < 8; i++) /* neighbouring seeds start alike */
		sim->random.next(sim->random.context);
	sim->now = START_S * SECOND_NS;
	make_config(sim);
	sim->wire_config = calloc(1, sizeof *sim->wire_config);
	if (!sim->wire_config || journal_none_new(&sim->journal) != 0 ||
	    table_new(&sim->config, sim->journal, event_log_none(), &sim->random,
		      1 + below(sim, 1000), table_now(sim), &sim->table) != 0)
		abort();
	sim->next_op = sim->next_fault = sim->table_tick = sim->now;
	for (unsigned i = 0; i < sim->shape.dataplanes; i++)
		dataplane_start(sim, i);
	run_until(sim, sim->shape.end);
	if (!sim->failed)
		heal(sim);
	for (unsigned i = 0; i < sim->shape.dataplanes; i++)
		dataplane_free(&sim->dataplanes[i]);
	cover_table(sim);
	links_free(sim);
	table_free(sim->table);
	deterministic_free(sim->fixed);
	sim->journal->ops->free(sim->journal);
	free(sim->wire_config);
	return !sim->failed;
}
