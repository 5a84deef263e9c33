/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks that nobody owns. Free ones are bits of their address, and each pool lists the addresses
 * that have one. Those that rest are in one queue, in the order of giving back, and become free
 * when somebody looks: no scan. (After a reload with a shorter hold-down, what still rests for the
 * longer one keeps what came after it waiting: late, never early.)
 */
#include "tablesvc/portpool_private.h"

/* The hold-down is kept in ticks, to fit a block into half a cache line. */
enum { REST_TICK_MS = 64 };

void portpool_set_open(struct portpool *pools, uint32_t index)
{
	struct port_address *address = &pools->addresses[index];

	if (address->pool == POOL_RETIRED)
		return;
	struct port_pool *pool = &pools->pools[address->pool];
	if (address->n_free && !address->open) {
		pool->open[pool->n_open++] = index;
		address->open = pool->n_open;
	} else if (!address->n_free && address->open) {
		uint32_t last = pool->open[--pool->n_open];
		pool->open[address->open - 1] = last;
		pools->addresses[last].open = address->open;
		address->open = 0;
	}
}

void portpool_set_free(struct portpool *pools, uint32_t block, bool is_free)
{
	struct port_address *address = address_of_block(pools, block);
	unsigned number = block % BLOCKS_PER_ADDRESS;
	uint64_t bit = UINT64_C(1) << (number % 64);

	if (is_free) {
		pools->free_blocks[block >> BLOCK_BITS][number / 64] |= bit;
		address->n_free++;
	} else {
		pools->free_blocks[block >> BLOCK_BITS][number / 64] &= ~bit;
		address->n_free--;
	}
	portpool_set_open(pools, block >> BLOCK_BITS);
}

void portpool_unrest(struct portpool *pools, uint32_t block)
{
	struct port_block *b = &pools->blocks[block];
	struct port_address *address = address_of_block(pools, block);

	*(b->prev ? &pools->blocks[b->prev - 1].next : &pools->resting_head) = b->next;
	*(b->next ? &pools->blocks[b->next - 1].prev : &pools->resting_tail) = b->prev;
	b->next = b->prev = 0;
	b->same = 0;
	address->n_resting--;
	if (address->pool != POOL_RETIRED)
		pools->pools[address->pool].stats.blocks_resting--;
}

bool portpool_has_rested(const struct port_block *block, struct monotime now)
{
	uint32_t tick = (uint32_t)(now.ns / (REST_TICK_MS * MS_NS));
	return (int32_t)(tick - block->rests_until) >= 0;
}

/* Frees what has rested long enough, in the order of giving back, max at most. False = none. */
bool portpool_mature(struct portpool *pools, struct monotime now, unsigned max)
{
	bool any = false;

	while (max-- && pools->resting_head) {
		uint32_t block = pools->resting_head - 1;
		if (!portpool_has_rested(&pools->blocks[block], now))
			break;
		portpool_unrest(pools, block);
		pools->blocks[block].state = BLOCK_FREE;
		portpool_set_free(pools, block, true);
		any = true;
	}
	return any;
}

/* The block's last dynamic port was released. */
void portpool_rest(struct portpool *pools, struct portpool_share *share, uint32_t block,
		   uint32_t hold_down_ms, struct monotime now)
{
	struct port_block *b = &pools->blocks[block];
	struct port_address *address = address_of_block(pools, block);
	int64_t tick_ns = REST_TICK_MS * MS_NS, until = now.ns + hold_down_ms * MS_NS;

	b->next = b->prev = 0;
	address->n_granted--;
	if (address->pool != POOL_RETIRED)
		pools->pools[address->pool].stats.blocks_used--;
	if (hold_down_ms == 0) {
		b->state = BLOCK_FREE;
		portpool_set_free(pools, block, true);
		return;
	}
	b->state = BLOCK_RESTING;
	b->rests_until = (uint32_t)((until + tick_ns - 1) / tick_ns);
	bool same_address =
	    share->resting && (share->resting - 1) >> BLOCK_BITS == block >> BLOCK_BITS;
	b->same = same_address ? (share->resting - 1) % BLOCKS_PER_ADDRESS + 1 : 0;
	share->resting = block + 1;
	b->prev = pools->resting_tail;
	*(b->prev ? &pools->blocks[b->prev - 1].next : &pools->resting_head) = block + 1;
	pools->resting_tail = block + 1;
	address->n_resting++;
	if (address->pool != POOL_RETIRED)
		pools->pools[address->pool].stats.blocks_resting++;
}

/* Whether the block has a port that is not reserved: a free block may be full of statics. */
bool portpool_has_room(const struct portpool *pools, uint32_t block, unsigned protocol)
{
	const struct port_block *b = &pools->blocks[block];
	return b->used[protocol][0] + b->used[protocol][1] <
	       1 << pools->addresses[block >> BLOCK_BITS].shift;
}

/* A random free block of the address with room, as a link. */
static uint32_t find_free(struct portpool *pools, uint32_t index, unsigned protocol)
{
	struct port_address *address = &pools->addresses[index];
	const uint64_t *words = pools->free_blocks[index];
	unsigned n = (address->n_blocks + 63u) / 64;

	if (!address->n_free)
		return 0;
	unsigned start = random_below(&pools->random, address->n_blocks);
	for (unsigned i = 0; i <= n; i++) {
		unsigned word = (start / 64 + i) % n;
		uint64_t bits = words[word];
		if (i == 0)
			bits &= UINT64_MAX << (start % 64);
		for (; bits; bits &= bits - 1) {
			uint32_t block =
			    index << BLOCK_BITS | (word * 64 + (unsigned)__builtin_ctzll(bits));
			if (portpool_has_room(pools, block, protocol))
				return block + 1;
		}
	}
	return 0;
}

/*
 * A block of this address for the share, as a link: one that it gave back itself, so that it does
 * not make all of them rest in turn; then a free one; then one whose rest is over but which the
 * queue has not come to.
 */
uint32_t portpool_find_block(struct portpool *pools, struct portpool_share *share, uint32_t index,
			     unsigned protocol, struct monotime now)
{
	struct port_address *address = &pools->addresses[index];
	uint32_t own = share->resting;

	if (own && (own - 1) >> BLOCK_BITS == index) {
		struct port_block *b = &pools->blocks[own - 1];
		if (b->state != BLOCK_RESTING || b->owner != share->id) {
			share->resting = 0; /* what it gave back earlier has rested as well */
		} else if (portpool_has_room(pools, own - 1, protocol)) {
			share->resting = b->same ? index << BLOCK_BITS | b->same : 0;
			return own;
		}
	}
	uint32_t link = find_free(pools, index, protocol);
	if (link || !address->n_resting)
		return link;
	for (unsigned number = 0; number < address->n_blocks; number++) {
		uint32_t block = index << BLOCK_BITS | number;
		struct port_block *b = &pools->blocks[block];
		if (b->state == BLOCK_RESTING && portpool_has_room(pools, block, protocol) &&
		    (b->owner == share->id || portpool_has_rested(b, now)))
			return block + 1;
	}
	return 0;
}

/* A block of a random address of the pool that has one, as a link. */
uint32_t portpool_find_first_block(struct portpool *pools, unsigned number, unsigned protocol,
				   struct monotime now)
{
	struct port_pool *pool = &pools->pools[number];

	do {
		uint32_t n = pool->n_open, start = n ? random_below(&pools->random, n) : 0;
		/* The second round of this loop is for blocks full of statics: they are few. */
		for (uint32_t i = 0; i < n; i++) {
			uint32_t link = find_free(pools, pool->open[(start + i) % n], protocol);
			if (link)
				return link;
		}
	} while (portpool_mature(pools, now, 1));
	return 0;
}
