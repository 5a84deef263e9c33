/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The blocks of a subscriber's share: a list, fullest first, and what it takes to get one more.
 */
#include "tablesvc/portpool_private.h"

/* Blocks that may become free in passing, whenever one is granted: twice as fast as used. */
enum { MATURE_A_GRANT = 2 };

void portpool_list_remove(struct portpool *pools, struct portpool_share *share, uint32_t block)
{
	struct port_block *b = &pools->blocks[block];

	*(b->prev ? &pools->blocks[b->prev - 1].next : &share->blocks) = b->next;
	if (b->next)
		pools->blocks[b->next - 1].prev = b->prev;
}

/* Puts the block behind the one that link names; behind none is the head. */
static void list_insert(struct portpool *pools, struct portpool_share *share, uint32_t block,
			uint32_t behind)
{
	struct port_block *b = &pools->blocks[block];
	uint32_t *from = behind ? &pools->blocks[behind - 1].next : &share->blocks;

	b->prev = behind;
	b->next = *from;
	if (b->next)
		pools->blocks[b->next - 1].prev = block + 1;
	*from = block + 1;
}

void portpool_list_sort(struct portpool *pools, struct portpool_share *share, uint32_t block)
{
	struct port_block *b = &pools->blocks[block];
	uint32_t behind = b->prev;

	while (behind && pools->blocks[behind - 1].dynamic < b->dynamic)
		behind = pools->blocks[behind - 1].prev;
	if (behind == b->prev) {
		uint32_t next = b->next;
		while (next && pools->blocks[next - 1].dynamic > b->dynamic) {
			behind = next;
			next = pools->blocks[next - 1].next;
		}
	}
	if (behind == b->prev)
		return;
	portpool_list_remove(pools, share, block);
	list_insert(pools, share, block, behind);
}

void portpool_detach(struct portpool *pools, struct portpool_share *share)
{
	while (share->blocks) {
		struct port_block *b = &pools->blocks[share->blocks - 1];
		share->blocks = b->next;
		b->next = b->prev = 0;
		b->state = BLOCK_DETACHED;
		share->n_detached++;
	}
	share->n_blocks = 0;
	share->address = 0;
}

uint32_t portpool_find_own(const struct portpool *pools, const struct portpool_share *share,
			   unsigned protocol, int parity, uint32_t *tail)
{
	uint32_t other = 0;

	*tail = 0;
	for (uint32_t link = share->blocks; link; link = pools->blocks[link - 1].next) {
		const struct port_block *b = &pools->blocks[link - 1];
		*tail = link;
		if (!portpool_has_room(pools, link - 1, protocol))
			continue;
		unsigned half = 1u << (pools->addresses[(link - 1) >> BLOCK_BITS].shift - 1);
		if (parity < 0 || b->used[protocol][parity] < half)
			return link;
		if (!other)
			other = link;
	}
	return other;
}

void portpool_take_block(struct portpool *pools, struct portpool_share *share, uint32_t block,
			 uint32_t tail)
{
	struct port_block *b = &pools->blocks[block];
	struct port_address *address = address_of_block(pools, block);

	if (b->state == BLOCK_RESTING)
		portpool_unrest(pools, block);
	else
		portpool_set_free(pools, block, false);
	b->state = BLOCK_GRANTED;
	b->owner = share->id;
	b->dynamic = 0;
	list_insert(pools, share, block, tail);
	share->n_blocks++;
	share->address = (block >> BLOCK_BITS) + 1;
	address->n_granted++;
	pools->pools[address->pool].stats.blocks_used++;
}

unsigned portpool_grant(struct portpool *pools, struct portpool_share *share, unsigned pool,
			unsigned protocol, uint32_t limit, struct monotime now, uint32_t tail,
			uint32_t *out)
{
	uint32_t link = 0;

	if ((uint32_t)share->n_blocks + share->n_detached >= limit)
		return NAT_REASON_SUBSCRIBER_BLOCKS;
	portpool_mature(pools, now, MATURE_A_GRANT);
	if (share->address)
		link = portpool_find_block(pools, share, share->address - 1, protocol, now);
	/* Paired pooling (RFC 4787 REQ-2) binds only while there is something to be paired with. */
	if (!link && share->n_blocks == 0)
		link = portpool_find_first_block(pools, pool, protocol, now);
	if (!link) {
		pools->pools[pool].stats.exhausted++;
		return NAT_REASON_PORTS_EXHAUSTED;
	}
	portpool_take_block(pools, share, link - 1, tail);
	*out = link;
	return NAT_REASON_NONE;
}
