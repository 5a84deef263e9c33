/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool's policies, drawn from the seed, and what they promise, checked against the table's rows
 * after every step: the hold-down between subscribers (RFC 6888 REQ-8), that after a start too, and
 * that fixed ports are used by whom they are computed for (RFC 7422). That no block is anybody
 * else's while somebody may translate for it is U2 (check.c), whatever the policy.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include "tests/sim/sim.h"

void pool_draw(struct sim *sim)
{
	struct config_pool *pool = &sim->pool;
	unsigned size = pool->block_size;
	char why[200];

	if (chance(sim, 150)) {
		sim->config.hold_down_at_start_ms = 100 + below(sim, 1000);
		sim->held_until = sim->now + ms(sim->config.hold_down_at_start_ms);
	}
	switch (below(sim, 8)) {
	case 0:
		pool->pooling = CONFIG_ARBITRARY;
		break;
	case 1:
	case 2:
		pool->fallback = CONFIG_ANOTHER_ADDRESS;
		break;
	case 3:
	case 4: /* all of its addresses, one block each; what is left over is for all */
		pool->mode = CONFIG_DETERMINISTIC;
		pool->n_protocols = 0;
		pool->fallback = chance(sim, 300) ? CONFIG_ANOTHER_ADDRESS : CONFIG_REFUSE;
		pool->ports_per_subscriber = (uint16_t)size;
		pool->dynamic_overflow = chance(sim, 300) ? 0 : 30;
		pool->port_last = (uint16_t)(pool->port_first + 12 * size - 1);
		sim->realm_prefix.length = 29;
		sim->config.n_redirects = 0; /* their clients are nobody's subscribers */
		if (chance(sim, 200)) {	     /* enough flows for more than a range */
			sim->shape.subscribers = 1 + chance(sim, 500);
			sim->shape.ports = 400;
			sim->shape.op_every_us = 1500;
			sim->config.timers.udp = sim->shortest_udp = 1500;
			sim->config.limits.sessions = 400;
			sim->config.limits.creations_per_second = 0;
			sim->config.pending.packets = 64;
			sim->config.capacity.mappings = sim->config.capacity.sessions = 400;
		}
		if (deterministic_new(&sim->config, 0, &sim->fixed, why, sizeof why) != 0)
			abort();
		break;
	}
}

/* Whether the row's port is of a fixed range; then its owner is checked. */
static bool is_fixed(struct sim *sim, const struct table_mapping_row *row)
{
	uint8_t realm;
	nat_be32 subscriber;

	if (!sim->fixed ||
	    !deterministic_subscriber(sim->fixed, &row->external, &realm, &subscriber))
		return false;
	if (realm != row->realm || subscriber != row->internal.address)
		fail(sim, "port %u is %08x's by computation and has %08x's mapping",
		     ntohs(row->external.port), ntohl(subscriber), ntohl(row->internal.address));
	return true;
}

static void cover(struct sim *sim, const struct block *block, unsigned address)
{
	if (sim->fixed)
		sim->coverage.overflowed++;
	for (unsigned i = 0; i < BLOCKS; i++) {
		const struct block *other = &sim->blocks[!address][i];
		if (other->last_ns == sim->now && other->subscriber == block->subscriber &&
		    other->realm == block->realm) {
			sim->coverage.elsewhere++;
			return;
		}
	}
}

void pool_check(struct sim *sim, const struct table_mapping_row *row)
{
	if (nat_protocol_by_address(row->protocol)) /* in no block */
		return;
	unsigned address = row->external.address == sim->pool_prefixes[1].address;
	int port = ntohs(row->external.port) - sim->pool.port_first;
	struct block *block = &sim->blocks[address][port / sim->pool.block_size];
	nat_be32 subscriber = row->realm == NAT_REALM_OUTSIDE ? 0 : row->internal.address;

	if (is_fixed(sim, row)) {
		sim->coverage.fixed++;
		return;
	}
	if (sim->now < sim->held_until)
		fail(sim, "hold-down at start: port %u is used %ld ms before its end",
		     ntohs(row->external.port), (long)((sim->held_until - sim->now) / MS_NS));
	if (block->last_ns && (block->subscriber != subscriber || block->realm != row->realm) &&
	    sim->now - block->last_ns < ms(sim->config.hold_down_ms))
		fail(sim, "hold-down: a block went from %08x to %08x within %ld ms",
		     ntohl(block->subscriber), ntohl(subscriber),
		     (long)((sim->now - block->last_ns) / MS_NS));
	*block = (struct block){subscriber, row->realm, sim->now};
	cover(sim, block, address);
}
