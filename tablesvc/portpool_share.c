/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The blocks of a subscriber's share: a list, fullest first, and what it takes to get one more.
 */
#include "tablesvc/portpool_private.h"

#include "common/base/log.h"

enum {
	/* Blocks that may become free in passing, whenever one is granted: twice as fast as used.
	 */
	MATURE_A_GRANT = 2,
	WARN_SLACK = 5, /* percent below the mark before a pool is warned of again */
};

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

/* ---- which block the next port is in ---- */

enum own { OWN_PAIRED, OWN_OTHERS };

/*
 * The fullest of the share's blocks, on its paired address or on others, with a free port of the
 * protocol and parity (-1 = any), or, when none has the parity, with any; as a link.
 */
static uint32_t find_own(const struct portpool *pools, const struct portpool_share *share,
			 const struct port_wish *wish, enum own which, bool low)
{
	uint32_t other = 0;

	for (uint32_t link = share->blocks; link; link = pools->blocks[link - 1].next) {
		const struct port_block *b = &pools->blocks[link - 1];
		uint32_t index = (link - 1) >> BLOCK_BITS;
		const struct port_address *address = &pools->addresses[index];
		/* One that is not paired may have left the pool: its ports live on, no more come.
		 */
		if ((index + 1 == share->address) != (which == OWN_PAIRED) ||
		    address->pool != share->pool || address->dedicated ||
		    portpool_is_low(pools, link - 1) != low ||
		    !portpool_has_room(pools, link - 1, wish->protocol))
			continue;
		unsigned half = 1u << (address->shift - 1);
		if (wish->parity < 0 || b->used[wish->protocol][wish->parity] < half)
			return link;
		if (!other)
			other = link;
	}
	return other;
}

static uint32_t find_new(struct portpool *pools, const struct portpool_share *share,
			 const struct port_wish *wish, bool low)
{
	uint32_t link = 0;

	if (share->address)
		link = portpool_find_block(pools, share, share->address - 1, wish->protocol, low,
					   wish->now);
	else /* forgotten since it gave a block back: the same address again */
		link = portpool_find_rested(pools, share, ANY_ADDRESS, wish->protocol, low);
	/* Paired pooling (RFC 4787 REQ-2) binds only while there is something to be paired with. */
	if (!link && share->n_blocks == 0 && share->n_fixed == 0)
		link =
		    portpool_find_first_block(pools, share->pool, wish->protocol, low, wish->now);
	return link;
}

static uint32_t find_elsewhere(struct portpool *pools, const struct portpool_share *share,
			       const struct port_wish *wish)
{
	uint32_t link = portpool_find_rested(pools, share, ANY_ADDRESS, wish->protocol, false);

	return link ? link
		    : portpool_find_first_block(pools, share->pool, wish->protocol, false,
						wish->now);
}

/* RFC 6888 REQ-11C: who runs the pool hears of it before subscribers do, once for each time. */
static void warn(struct port_pool *pool)
{
	if (pool->warned && !portpool_is_above(pool, WARN_SLACK))
		pool->warned = false;
	if (pool->warned || !portpool_is_above(pool, 0))
		return;
	pool->warned = true;
	log_warning("pool is running out of port blocks pool=%s blocks=%llu free=%llu "
		    "warn_above=%u%%: give it more addresses, or subscribers fewer blocks",
		    pool->name, (unsigned long long)pool->stats.blocks_shared,
		    (unsigned long long)pool->stats.blocks_free, pool->warn_above);
}

void portpool_take_block(struct portpool *pools, struct portpool_share *share, uint32_t block)
{
	struct port_block *b = &pools->blocks[block];
	uint32_t tail = 0;

	if (b->state == BLOCK_RESTING)
		portpool_unrest(pools, block);
	else
		portpool_set_free(pools, block, false);
	b->state = BLOCK_GRANTED;
	b->owner = share->id;
	b->dynamic = 0;
	for (uint32_t link = share->blocks; link; link = pools->blocks[link - 1].next)
		tail = link;
	list_insert(pools, share, block, tail);
	if (share->n_blocks++ == 0 && share->n_fixed == 0)
		share->address = (block >> BLOCK_BITS) + 1;
	address_of_block(pools, block)->n_granted++;
	pools->pools[share->pool].stats.blocks_used++;
	warn(&pools->pools[share->pool]);
}

/*
 * Ports below 1024 first, for sources below 1024 (RFC 4787 REQ-3a), but never as the last block
 * that the limit allows: the others need one. Then the paired address (RFC 4787 REQ-2), and only
 * when it has nothing left another one, where the pool allows that (RFC 7857 section 4): flows
 * return to the paired address as soon as it has a port again.
 */
unsigned portpool_choose(struct portpool *pools, struct portpool_share *share,
			 const struct port_wish *wish, uint32_t *out, bool *granted)
{
	struct port_pool *pool = &pools->pools[share->pool];
	uint32_t have = (uint32_t)share->n_blocks + share->n_detached, link = 0;
	bool held = monotime_before(wish->now, pools->held_until);

	*granted = false;
	portpool_mature(pools, wish->now, MATURE_A_GRANT);
	for (int low = wish->low; low >= 0; low--) {
		if ((*out = find_own(pools, share, wish, OWN_PAIRED, low)))
			return NAT_REASON_NONE;
		if (pool->arbitrary && (*out = find_own(pools, share, wish, OWN_OTHERS, low)))
			return NAT_REASON_NONE;
		if (held || have + (uint32_t)low >= wish->limit)
			continue;
		link = pool->arbitrary && !low ? find_elsewhere(pools, share, wish)
					       : find_new(pools, share, wish, low);
		if (link)
			goto found;
	}
	if (pool->another_address) {
		if ((*out = find_own(pools, share, wish, OWN_OTHERS, false)))
			return NAT_REASON_NONE;
		if (!held && have < wish->limit && (link = find_elsewhere(pools, share, wish)))
			goto found;
	}
	if (have >= wish->limit)
		return NAT_REASON_SUBSCRIBER_BLOCKS;
	if (held)
		return NAT_REASON_HOLD_DOWN;
	pool->stats.exhausted++;
	return NAT_REASON_PORTS_EXHAUSTED;
found:
	portpool_take_block(pools, share, link - 1);
	*out = link;
	*granted = true;
	return NAT_REASON_NONE;
}
