/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks that are free: bits of their address, and each pool lists the addresses that have one; and
 * which block of an address a subscriber gets next.
 */
#include "tablesvc/portpool_private.h"

enum { LOW_TRIES = 8 };

void portpool_set_open(struct portpool *pools, uint32_t index)
{
	struct port_address *address = &pools->addresses[index];

	if (address->pool == POOL_RETIRED)
		return;
	struct port_pool *pool = &pools->pools[address->pool];
	bool open = address->n_free && !address->dedicated;
	if (open && !address->open) {
		pool->open[pool->n_open++] = index;
		address->open = pool->n_open;
	} else if (!open && address->open) {
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
	bool low = portpool_is_low(pools, block);
	int change = is_free ? 1 : -1;

	if (is_free)
		pools->free_blocks[block >> BLOCK_BITS][number / 64] |= bit;
	else
		pools->free_blocks[block >> BLOCK_BITS][number / 64] &= ~bit;
	*(low ? &address->n_free_low : &address->n_free) += (uint16_t)change;
	if (!low && address->pool != POOL_RETIRED)
		pools->pools[address->pool].stats.blocks_free += (uint64_t)(int64_t)change;
	portpool_set_open(pools, block >> BLOCK_BITS);
}

bool portpool_has_room(const struct portpool *pools, uint32_t block, unsigned protocol)
{
	const struct port_block *b = &pools->blocks[block];
	return b->used[protocol][0] + b->used[protocol][1] <
	       1 << pools->addresses[block >> BLOCK_BITS].shift;
}

/* Port 0 is in the first block of some pools: nobody gets it. Marked late, with the block's use. */
void portpool_guard_zero(struct portpool *pools, uint32_t index)
{
	if (pools->addresses[index].port_first != 0)
		return;
	for (unsigned i = 0; i < PORT_PROTOCOLS; i++) {
		uint64_t *word = &pools->used[i][index * (PORTS_PER_ADDRESS / 64)];
		if (*word & 1)
			continue;
		*word |= 1;
		pools->blocks[index << BLOCK_BITS].used[i][0]++;
	}
}

/* A random free block of the address with room, as a link. */
static uint32_t find_free(struct portpool *pools, uint32_t index, unsigned protocol, bool low)
{
	struct port_address *address = &pools->addresses[index];
	const uint64_t *words = pools->free_blocks[index];
	unsigned first = low ? 0 : address->n_apart,
		 past = low ? address->n_apart : address->n_blocks;

	if (!(low ? address->n_free_low : address->n_free))
		return 0;
	if (low)
		portpool_guard_zero(pools, index);
	unsigned start = first + random_below(&pools->random, past - first);
	unsigned word = start / 64, words_between = (past - 1) / 64 - first / 64 + 1;
	/* Once around, and the rest of the first word. */
	for (unsigned i = 0; i <= words_between; i++) {
		uint64_t bits = words[word];
		if (i == 0)
			bits &= UINT64_MAX << (start % 64);
		for (; bits; bits &= bits - 1) {
			unsigned number = word * 64 + (unsigned)__builtin_ctzll(bits);
			uint32_t block = index << BLOCK_BITS | number;
			if (number >= first && number < past &&
			    portpool_has_room(pools, block, protocol))
				return block + 1;
		}
		word = word == (past - 1) / 64 ? first / 64 : word + 1;
	}
	return 0;
}

/*
 * A block of this address for the share, as a link: one that it gave back itself, so that it does
 * not make all of them rest in turn; then a free one; then one whose rest is over but which the
 * queue has not come to, or that it gave back and nobody remembered.
 */
uint32_t portpool_find_block(struct portpool *pools, const struct portpool_share *share,
			     uint32_t index, unsigned protocol, bool low, struct monotime now)
{
	struct port_address *address = &pools->addresses[index];
	uint32_t link = portpool_find_rested(pools, share, index, protocol, low);

	if (!link)
		link = find_free(pools, index, protocol, low);
	if (link || !address->n_resting)
		return link;
	unsigned past = low ? address->n_apart : address->n_blocks;
	for (unsigned number = low ? 0 : address->n_apart; number < past; number++) {
		uint32_t block = index << BLOCK_BITS | number;
		struct port_block *b = &pools->blocks[block];
		if (b->state == BLOCK_RESTING && portpool_has_room(pools, block, protocol) &&
		    (b->owner == share->id || portpool_has_rested(b, now)))
			return block + 1;
	}
	return 0;
}

/*
 * A block of a random address of the pool that has one, as a link. A low one is only a wish, and
 * worth no walk over all addresses.
 */
uint32_t portpool_find_first_block(struct portpool *pools, unsigned number, unsigned protocol,
				   bool low, struct monotime now)
{
	struct port_pool *pool = &pools->pools[number];

	do {
		uint32_t n = pool->n_open, start = n ? random_below(&pools->random, n) : 0;
		uint32_t tries = low && n > LOW_TRIES ? LOW_TRIES : n;
		/* The second round of this loop is for blocks full of statics: they are few. */
		for (uint32_t i = 0; i < tries; i++) {
			uint32_t link =
			    find_free(pools, pool->open[(start + i) % n], protocol, low);
			if (link)
				return link;
		}
	} while (!low && portpool_mature(pools, now, 1));
	return 0;
}
