/* SPDX-License-Identifier: Apache-2.0 */
/* One certain port for a subscriber: what a PCP client had before, or suggests (RFC 6887). */
#include "tablesvc/portpool_private.h"

/* Whether the block may be granted to the share now. */
static bool may_have(const struct portpool *pools, const struct portpool_share *share,
		     uint32_t block, unsigned pool, struct monotime now)
{
	const struct port_block *b = &pools->blocks[block];
	uint32_t address = block >> BLOCK_BITS;

	if (pools->addresses[address].pool != pool || pools->addresses[address].dedicated)
		return false;
	if ((share->n_blocks > 0 || share->n_fixed > 0) && share->address != address + 1)
		return false; /* paired pooling, RFC 4787 REQ-2 */
	return b->state == BLOCK_FREE || (b->state == BLOCK_RESTING &&
					  (b->owner == share->id || portpool_has_rested(b, now)));
}

unsigned portpool_claim(struct portpool *pools, struct portpool_share *share, unsigned pool,
			uint64_t place, uint32_t limit, uint32_t owner, struct monotime now,
			bool *granted)
{
	struct port_spot spot = portpool_spot(pools, place);

	if (granted)
		*granted = false;
	if (pool >= pools->n_pools)
		return NAT_REASON_NOT_CONFIGURED;
	if (spot.block == NO_BLOCK || portpool_is_used(pools, &spot))
		return NAT_REASON_PORTS_EXHAUSTED;
	if (pools->addresses[spot.address].dedicated)
		return NAT_REASON_PORTS_EXHAUSTED;
	if (portpool_is_elsewhere(pools, share, pool))
		portpool_detach(pools, share);
	share->pool = (uint16_t)pool;
	struct port_block *b = &pools->blocks[spot.block];
	bool fixed = portpool_is_fixed(pools, &spot);
	if (fixed) {
		if (!portpool_claim_fixed(pools, share, &spot))
			return NAT_REASON_PORTS_EXHAUSTED;
	} else if (b->state != BLOCK_GRANTED || b->owner != share->id) {
		if (!may_have(pools, share, spot.block, pool, now))
			return NAT_REASON_PORTS_EXHAUSTED;
		if ((uint32_t)share->n_blocks + share->n_detached >= limit)
			return NAT_REASON_SUBSCRIBER_BLOCKS;
		if (monotime_before(now, pools->held_until))
			return NAT_REASON_HOLD_DOWN;
		portpool_take_block(pools, share, spot.block);
		if (granted)
			*granted = true;
	}
	portpool_set_used(pools, &spot, owner);
	b->dynamic++;
	share->n_ports++;
	if (!fixed)
		portpool_list_sort(pools, share, spot.block);
	return NAT_REASON_NONE;
}
