/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The invariants, checked after every step against everything that could translate a packet now:
 * flow entries of dataplanes whose own lease check would pass, copies that their readers hold,
 * parked packets on their way, ghosts of crashed ones, and the table's mappings.
 *
 *   U1  an external endpoint stands for one internal endpoint
 *   U2  a port block is one subscriber's (static port forwards aside)
 *   U4  a tuple's answer is the same as long as its session lives
 *   U5  nothing is larger than it was configured
 *   U6  pairs are whole
 *
 * And what U1 rests on: the table counts a dataplane among the holders of every session that
 * the dataplane holds. That breaks long before a port happens to be given away.
 */
#include <arpa/inet.h>
#include <string.h>
#include "tests/sim/sim.h"
#include "tests/sim/table_bits.h"

enum { SEEN = 4096 };

struct seen {
	uint64_t stamp; /* of the step; older is empty */
	struct nat_endpoint external;
	struct nat_endpoint internal;
	uint8_t protocol, realm;
	const char *who;
	unsigned number;
};
static struct seen seen_endpoints[SEEN], seen_blocks[SEEN];
static uint64_t stamp;

static unsigned hash(nat_be32 address, nat_be16 port, uint8_t protocol)
{
	uint64_t h = (uint64_t)address << 24 ^ (uint64_t)port << 8 ^ protocol;
	return (unsigned)((h * 0x9e3779b97f4a7c15u) >> 52) & (SEEN - 1);
}

/* The entry of an external endpoint in this step; *fresh says that it was not there. */
static struct seen *seen_at(struct seen *table, struct nat_endpoint external, uint8_t protocol,
			    bool *fresh)
{
	unsigned i = hash(external.address, external.port, protocol);
	while (table[i].stamp == stamp &&
	       (table[i].external.address != external.address ||
		table[i].external.port != external.port || table[i].protocol != protocol))
		i = (i + 1) & (SEEN - 1);
	*fresh = table[i].stamp != stamp;
	return &table[i];
}

static bool ever_static(const struct sim *sim, const struct nat_endpoint *external)
{
	for (unsigned i = 0; i < sim->n_statics; i++)
		if ((sim->statics[i].protocol == 0 || /* 1:1: all of its ports */
		     sim->statics[i].external.port == external->port) &&
		    sim->statics[i].external.address == external->address)
			return true;
	return false;
}

static void see(struct sim *sim, const struct claim *claim, const char *who, unsigned number)
{
	struct seen mine = {.stamp = stamp,
			    .external = claim->external,
			    .internal = claim->internal,
			    .protocol = claim->protocol,
			    .realm = claim->realm,
			    .who = who,
			    .number = number};
	bool fresh;
	struct seen *other = seen_at(seen_endpoints, claim->external, claim->protocol, &fresh);

	if (fresh)
		*other = mine;
	else if (other->internal.address != mine.internal.address ||
		 other->internal.port != mine.internal.port || other->realm != mine.realm)
		fail(sim, "U1: port %u of protocol %u is %08x:%u for %s %u and %08x:%u for %s %u",
		     ntohs(claim->external.port), claim->protocol, ntohl(other->internal.address),
		     ntohs(other->internal.port), other->who, other->number,
		     ntohl(mine.internal.address), ntohs(mine.internal.port), who, number);
	if (ever_static(sim, &claim->external) || nat_protocol_by_address(claim->protocol))
		return;
	struct nat_endpoint block = {
	    claim->external.address,
	    (uint16_t)((ntohs(claim->external.port) - sim->pool.port_first) / sim->pool.block_size),
	    0};
	mine.external = block;
	mine.protocol = 0;
	if (claim->realm == NAT_REALM_OUTSIDE) /* clients of a redirect share one subscriber */
		mine.internal.address = 0;
	other = seen_at(seen_blocks, block, 0, &fresh);
	if (fresh)
		*other = mine;
	else if (other->internal.address != mine.internal.address || other->realm != mine.realm)
		fail(sim, "U2: block %u is %08x's for %s %u and %08x's for %s %u", block.port,
		     ntohl(other->internal.address), other->who, other->number,
		     ntohl(mine.internal.address), who, number);
}

/* ---- the table's lists */

void rows_read(struct sim *sim)
{
	struct table_filter any = {0};
	uint64_t cursor = 0;

	if (!sim->table_changed)
		return;
	sim->table_changed = false;
	sim->rows_fresh = true;
	sim->n_mappings = sim->n_sessions = 0;
	do
		sim->n_mappings +=
		    table_mappings(sim->table, &any, &cursor, sim->mappings + sim->n_mappings,
				   ROWS - sim->n_mappings, table_now(sim));
	while (cursor && sim->n_mappings < ROWS);
	cursor = 0;
	do
		sim->n_sessions +=
		    table_sessions(sim->table, &any, &cursor, sim->sessions + sim->n_sessions,
				   ROWS - sim->n_sessions, table_now(sim));
	while (cursor && sim->n_sessions < ROWS);
}

static bool lives(const struct table_session_row *row)
{
	return row && strcmp(row->state, "fenced") != 0;
}

static const struct table_session_row *session(const struct sim *sim, uint64_t handle)
{
	for (unsigned i = 0; i < sim->n_sessions; i++)
		if (sim->sessions[i].handle == handle)
			return &sim->sessions[i];
	return NULL;
}

/* ---- live flows never expire early */

/*
 * Only of a dataplane that has its lease: one that is lost is waited for once, and no longer. A
 * hairpinned pair's handle is the sender's, whose packets are outbound whatever the entry says.
 */
void check_activity(struct dataplane *dp, uint64_t handle, unsigned direction)
{
	struct sim *sim = dp->sim;
	struct activity *activity = &sim->activities[(uint32_t)handle % ACTIVITIES];

	if (activity->handle != handle || cache_state(dp->cache, local_now(dp)) != CACHE_ATTACHED)
		return;
	if (direction == NAT_OUTBOUND)
		activity->last_ns = sim->now;
}

static int64_t shortest_timeout(struct sim *sim, uint8_t protocol, uint64_t handle)
{
	const struct config_timers *timers = &sim->config.timers;
	if (protocol == NAT_TCP)
		return tcp_shortest(sim, handle);
	/* A question may be under way that was asked by a former configuration. */
	int64_t udp = sim->shortest_udp < timers->udp_dns ? sim->shortest_udp : timers->udp_dns;
	int64_t timeout = protocol == NAT_ICMP ? timers->icmp
			  : nat_protocol_by_address(protocol) ? timers->other
							      : udp;
	return ms(timeout - 1); /* ages are whole milliseconds */
}

/* A static forward that waits ends whoever has its port or its internal endpoint, at any time. */
static bool static_rival(const struct sim *sim, const struct table_session_row *row)
{
	for (unsigned i = 0; i < sim->n_statics; i++) {
		const struct config_static *m = &sim->statics[i];
		bool whole = m->protocol == 0; /* ... and 1:1, all of both addresses' */
		if (((whole || m->external.port == row->external.port) &&
		     m->external.address == row->external.address) ||
		    ((whole || m->internal.port == row->internal.port) &&
		     m->internal.address == row->internal.address))
			return true;
	}
	return false;
}

static void check_expiry(struct sim *sim)
{
	for (unsigned i = 0; i < sim->n_sessions; i++) {
		const struct table_session_row *row = &sim->sessions[i];
		struct activity *activity = &sim->activities[(uint32_t)row->handle % ACTIVITIES];
		if (!lives(row))
			continue;
		if (activity->handle != row->handle)
			*activity =
			    (struct activity){.handle = row->handle, .protocol = row->protocol};
		activity->stamp = stamp;
		activity->rival = static_rival(sim, row);
	}
	for (unsigned i = 0; i < ACTIVITIES; i++) {
		struct activity *activity = &sim->activities[i];
		if (!activity->handle || activity->stamp == stamp)
			continue;
		if (activity->last_ns && !sim->operated && !activity->rival &&
		    sim->now - activity->last_ns <
			shortest_timeout(sim, activity->protocol, activity->handle))
			fail(sim, "session %lx of protocol %u ends %ld ms after a packet",
			     (unsigned long)activity->handle, activity->protocol,
			     (long)((sim->now - activity->last_ns) / MS_NS));
		*activity = (struct activity){0};
	}
}

/* ---- a dataplane's flow table */

static void visit(void *context, const struct flow *flow)
{
	struct dataplane *dp = context;
	struct nat_tuple reverse = nat_reverse_tuple(&flow->tuple, &flow->rewrite);
	struct flow found;

	if (!flowtable_find(dp->flows, &reverse, &found) ||
	    !nat_tuple_equal(&found.tuple, &flow->tuple) || found.handle != flow->handle ||
	    found.peer_handle != flow->peer_handle)
		fail(dp->sim, "U6: dp%u holds half a pair", dp->index);
	if (flow->state != NAT_SLOT_OPEN)
		fail(dp->sim, "dp%u: a pair stays parked", dp->index);
	claims_of(&dp->claims, &flow->tuple, &flow->rewrite, flow->direction, flow->handle,
		  flow->peer_handle);
}

static void read_flows(struct dataplane *dp)
{
	struct sim *sim = dp->sim;

	dp->flows_changed = false;
	dp->claims.n = 0;
	flowtable_sweep(dp->flows, 0, UINT32_MAX, visit, dp);
	if (flowtable_pairs(dp->flows) > sim->shape.capacity ||
	    dp->claims.n < flowtable_pairs(dp->flows))
		fail(sim, "U5: dp%u says it has %u pairs of %u and shows %u", dp->index,
		     flowtable_pairs(dp->flows), sim->shape.capacity, dp->claims.n);
	struct cache_counters counters;
	cache_counters(dp->cache, &counters);
	if (counters.pending_flows > dp->conf.pending_flows ||
	    counters.pending_packets > dp->conf.pending_packets)
		fail(sim, "U5: dp%u: %u questions, %u packets pending", dp->index,
		     counters.pending_flows, counters.pending_packets);
	if (cache_valid_until(dp->cache).ns != dp->valid_until)
		fail(sim, "dp%u: its readers were not told of the lease", dp->index);
}

/* The claim is what the table says of the session. */
static bool agrees(const struct claim *claim, const struct table_session_row *row)
{
	return claim->internal.address == row->internal.address &&
	       claim->internal.port == row->internal.port && claim->realm == row->realm &&
	       claim->external.address == row->external.address &&
	       claim->external.port == row->external.port && claim->protocol == row->protocol;
}

static void check_holders(struct sim *sim, const struct dataplane *dp)
{
	if (dp->slot == UINT32_MAX)
		return;
	uint64_t bits = table_bits_of(sim->table, dp->slot);
	for (unsigned i = 0; i < dp->claims.n; i++) {
		const struct table_session_row *row = session(sim, dp->claims.at[i].handle);
		if (row && !(row->holders & bits))
			fail(sim, "dp%u holds session %lx of port %u, and the table does not know",
			     dp->index, (unsigned long)row->handle, ntohs(row->external.port));
		if (row && !agrees(&dp->claims.at[i], row))
			fail(sim, "U4: dp%u takes session %lx for another than the table",
			     dp->index, (unsigned long)row->handle);
	}
}

static void see_all(struct sim *sim, const struct claims *claims, const char *who, unsigned number)
{
	for (unsigned i = 0; i < claims->n; i++)
		see(sim, &claims->at[i], who, number);
}

static void check_table(struct sim *sim)
{
	struct table_counters counters;

	for (unsigned i = 0; i < sim->n_mappings; i++) {
		const struct table_mapping_row *row = &sim->mappings[i];
		struct claim claim = {.internal = row->internal,
				      .external = row->external,
				      .realm = row->realm,
				      .protocol = row->protocol};
		see(sim, &claim, "the table", 0);
		if (strcmp(row->made_by, "static") != 0 && !ever_static(sim, &row->external))
			pool_check(sim, row);
	}
	table_counters(sim->table, &counters);
	if (counters.mappings > sim->config.capacity.mappings ||
	    counters.sessions > sim->config.capacity.sessions ||
	    counters.subscribers > sim->config.capacity.subscribers)
		fail(sim, "U5: the table has %lu mappings, %lu sessions, %lu subscribers",
		     (unsigned long)counters.mappings, (unsigned long)counters.sessions,
		     (unsigned long)counters.subscribers);
}

static void check_ghosts(struct sim *sim)
{
	for (unsigned i = 0; i < sim->n_ghosts;) {
		if (sim->ghosts[i].valid_until <= sim->now) {
			sim->ghosts[i] = sim->ghosts[--sim->n_ghosts];
			continue;
		}
		see_all(sim, &sim->ghosts[i].claims, "the ghost of dp", sim->ghosts[i].dataplane);
		i++;
	}
}

/* One that waited for a fence ends sessions when it becomes active, long after somebody added it. */
static void watch_statics(struct sim *sim)
{
	struct table_static_row rows[64];
	uint64_t cursor = 0;
	unsigned active = 0;

	if (sim->n_statics == 0)
		return;
	do {
		unsigned n = table_statics(sim->table, &cursor, rows, 64);
		for (unsigned i = 0; i < n; i++)
			active += strcmp(rows[i].state, "active") == 0;
	} while (cursor);
	sim->disturbances += active != sim->statics_active;
	sim->statics_active = active;
}

void check_step(struct sim *sim)
{
	stamp++;
	rows_read(sim);
	if (sim->rows_fresh)
		check_expiry(sim);
	tcp_check(sim);
	sim->rows_fresh = false;
	check_table(sim);
	watch_statics(sim);
	subscriber_check(sim);
	check_ghosts(sim);
	for (unsigned i = 0; i < sim->shape.dataplanes; i++) {
		struct dataplane *dp = &sim->dataplanes[i];
		if (dp->alive && dp->flows_changed)
			read_flows(dp);
		if (!can_translate(dp))
			continue;
		see_all(sim, &dp->claims, "dp", i);
		see_all(sim, &dp->readers, "a reader of dp", i);
		see_all(sim, &dp->said, "a parked packet of dp", i);
		check_holders(sim, dp);
	}
}

/* ---- U4 */

void check_answer(struct sim *sim, const struct nat_tuple *tuple, const struct wire_answer *answer)
{
	unsigned i =
	    hash(tuple->source ^ tuple->destination,
		 tuple->source_port ^ (nat_be16)(tuple->destination_port << 3), tuple->protocol);

	if (answer->verdict != NAT_TRANSLATE || tuple->zero)
		return;
	while (sim->remembered[i].handle && !nat_tuple_equal(&sim->remembered[i].tuple, tuple))
		i = (i + 1) & (REMEMBERED - 1);
	struct remembered *last = &sim->remembered[i];
	/* A hairpinned tuple has two sessions: its answer stands while both live. */
	if (last->handle == answer->handle && last->peer_handle == answer->peer_handle &&
	    memcmp(&last->rewrite, &answer->rewrite, sizeof last->rewrite) != 0)
		fail(sim, "U4: session %lx answers port %u, and before %u",
		     (unsigned long)answer->handle, ntohs(answer->rewrite.source_port),
		     ntohs(last->rewrite.source_port));
	rows_read(sim);
	if (last->handle &&
	    (last->handle != answer->handle || last->peer_handle != answer->peer_handle) &&
	    lives(session(sim, last->handle)) && lives(session(sim, last->peer_handle)))
		fail(sim, "U4: a tuple of session %lx, which lives, was answered with %lx",
		     (unsigned long)last->handle, (unsigned long)answer->handle);
	*last = (struct remembered){*tuple, answer->handle, answer->peer_handle, answer->rewrite};
}

/* ---- the end: nothing is left behind */

void check_end(struct sim *sim)
{
	struct table_counters counters;
	struct table_pool_row pool = {0};
	uint64_t cursor = 0;

	rows_read(sim);
	for (unsigned i = 0; i < sim->n_sessions && sim->trace; i++)
		trace(sim, "left: session %lx %s, holders %lx, port %u, expires in %ld ms",
		      (unsigned long)sim->sessions[i].handle, sim->sessions[i].state,
		      (unsigned long)sim->sessions[i].holders,
		      ntohs(sim->sessions[i].external.port), (long)sim->sessions[i].expires_ms);
	table_counters(sim->table, &counters);
	table_pools(sim->table, &cursor, &pool, 1);
	if (counters.sessions || counters.mappings || counters.fenced || pool.blocks_used ||
	    pool.ports_used)
		fail(sim,
		     "at rest the table still has %lu sessions, %lu mappings, %lu fenced, %lu "
		     "blocks, %lu ports",
		     (unsigned long)counters.sessions, (unsigned long)counters.mappings,
		     (unsigned long)counters.fenced, (unsigned long)pool.blocks_used,
		     (unsigned long)pool.ports_used);
	for (unsigned i = 0; i < sim->shape.dataplanes; i++) {
		struct dataplane *dp = &sim->dataplanes[i];
		struct cache_counters cache;
		cache_counters(dp->cache, &cache);
		for (unsigned k = 0; k < dp->claims.n; k++)
			trace(sim, "left: dp%u session %lx port %u", i,
			      (unsigned long)dp->claims.at[k].handle,
			      ntohs(dp->claims.at[k].external.port));
		if (flowtable_pairs(dp->flows) || cache.pending_flows || cache.pending_packets)
			fail(sim, "at rest dp%u still has %u pairs, %u questions, %u packets", i,
			     flowtable_pairs(dp->flows), cache.pending_flows,
			     cache.pending_packets);
		if (cache_state(dp->cache, local_now(dp)) != CACHE_ATTACHED)
			fail(sim, "at rest dp%u is %s", i,
			     cache_state_name(cache_state(dp->cache, local_now(dp))));
	}
}
