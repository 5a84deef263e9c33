/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fixed ranges in the port pool (RFC 7422). They are the first blocks of each address, in no list
 * and never granted: whose they are follows from the configuration (deterministic.c). A block only
 * remembers whom it serves while one of its ports is used. No hold-down: nobody else ever gets
 * these ports (RFC 6888 REQ-8, exception for statically assigned ranges). The fence is the
 * caller's, as for any port.
 */
#include "tablesvc/portpool_private.h"

#include <arpa/inet.h>

/* The index of the share's fixed address, and the range there; -1 = it has none. */
static int64_t find_range(const struct portpool *pools, const struct portpool_share *share,
			  struct deterministic_range *range)
{
	const struct deterministic *plan = pools->pools[share->pool].fixed;

	if (!plan || !deterministic_range(plan, share->realm, share->subscriber, range))
		return -1;
	return portpool_find(pools, ntohl(range->address));
}

/* A port of the block is about to be used by its owner. */
static void use(struct portpool *pools, struct portpool_share *share, const struct port_spot *spot)
{
	struct port_block *b = &pools->blocks[spot->block];

	/* What it has by dynamic_overflow is paired with what is fixed (RFC 4787 REQ-2). */
	if (share->n_blocks == 0)
		share->address = spot->address + 1;
	b->owner = share->id;
	if (b->dynamic > 0)
		return;
	share->n_fixed++;
	pools->addresses[spot->address].n_granted++;
	pools->pools[share->pool].stats.blocks_used++;
}

unsigned portpool_take_fixed(struct portpool *pools, struct portpool_share *share,
			     const struct port_wish *wish, struct port_spot *out)
{
	struct deterministic_range range;
	int64_t index = find_range(pools, share, &range);

	if (index < 0)
		return NAT_REASON_NOT_CONFIGURED;
	const struct port_address *address = &pools->addresses[index];
	if (address->dedicated)
		return NAT_REASON_PORTS_EXHAUSTED;
	struct port_spot spot = {
	    .address = (uint32_t)index, .port = range.first, .protocol = wish->protocol};
	unsigned size = range.last + 1u - range.first;
	const uint64_t *words = portpool_used_word(pools, &spot);
	int offset = portpool_find_port(pools, words, size, wish->parity);
	if (offset < 0 && wish->parity >= 0)
		offset = portpool_find_port(pools, words, size, !wish->parity);
	if (offset < 0)
		return NAT_REASON_SUBSCRIBER_BLOCKS;
	spot.port += (unsigned)offset;
	spot.block =
	    spot.address << BLOCK_BITS | (spot.port - address->port_first) >> address->shift;
	use(pools, share, &spot);
	*out = spot;
	return NAT_REASON_NONE;
}

bool portpool_claim_fixed(struct portpool *pools, struct portpool_share *share,
			  const struct port_spot *spot)
{
	struct deterministic_range range;

	if (find_range(pools, share, &range) != spot->address || spot->port < range.first ||
	    spot->port > range.last || pools->addresses[spot->address].dedicated)
		return false;
	use(pools, share, spot);
	return true;
}

void portpool_release_fixed(struct portpool *pools, struct portpool_share *share,
			    const struct port_spot *spot)
{
	struct port_block *b = &pools->blocks[spot->block];
	struct port_address *address = &pools->addresses[spot->address];

	if (b->dynamic == 0 || b->owner != share->id)
		return;
	portpool_set_unused(pools, spot);
	share->n_ports--;
	if (--b->dynamic > 0)
		return;
	share->n_fixed--;
	address->n_granted--;
	if (address->pool != POOL_RETIRED)
		pools->pools[address->pool].stats.blocks_used--;
}

bool portpool_deterministic_subscriber(const struct portpool *pools,
				       const struct nat_endpoint *external, uint8_t *realm,
				       nat_be32 *subscriber)
{
	int64_t index = portpool_find(pools, ntohl(external->address));

	if (index < 0 || pools->addresses[index].pool == POOL_RETIRED)
		return false;
	const struct deterministic *plan = pools->pools[pools->addresses[index].pool].fixed;
	return plan && deterministic_subscriber(plan, external, realm, subscriber);
}

const struct deterministic *portpool_deterministic(const struct portpool *pools, unsigned pool)
{
	return pool < pools->n_pools ? pools->pools[pool].fixed : NULL;
}
