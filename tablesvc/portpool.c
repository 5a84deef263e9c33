/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking ports and giving them back.
 *
 * What a port costs: the first of the subscriber's blocks that has one (the list is sorted, fullest
 * first, and a count a protocol and parity tells whether to look inside), one line of the bitmap,
 * one of the owners. What a block costs: a search through the 1,024 bits of one address. What rests
 * is in one queue in the order of giving back and becomes free when somebody looks: no scan.
 */
#include "tablesvc/portpool_private.h"

enum { MATURE_FOR_STATS = 4096 };

/*
 * A free port of the block, as its offset; there must be one of the parity (-1 = any). Four guesses
 * make it uniform while the block is not full; the search from the last one makes it exact.
 */
static unsigned find_port(struct portpool *pools, const uint64_t *words, unsigned size, int parity)
{
	uint64_t random = pools->random.next(pools->random.context), mask = UINT64_MAX;
	unsigned offset = 0, n = size / 64;

	if (parity >= 0)
		mask = UINT64_C(0x5555555555555555) << parity;
	for (unsigned guess = 0; guess < 4; guess++, random >>= 16) {
		offset = random & (size - 1);
		if (parity >= 0)
			offset = (offset & ~1u) | (unsigned)parity;
		if (!(words[offset / 64] >> (offset % 64) & 1))
			return offset;
	}
	uint64_t after = UINT64_MAX << (offset % 64);
	for (unsigned i = 0;; i++) {
		unsigned word = (offset / 64 + i) % n;
		uint64_t bits = ~words[word] & mask;
		if (i == 0)
			bits &= after;
		if (bits)
			return word * 64 + (unsigned)__builtin_ctzll(bits);
	}
}

unsigned portpool_allocate(struct portpool *pools, struct portpool_share *share, unsigned pool,
			   uint8_t protocol, uint16_t like, uint32_t limit, uint32_t owner,
			   struct monotime now, uint64_t *place, bool *granted)
{
	int number = portpool_protocol(protocol);
	uint32_t tail, link;

	if (granted)
		*granted = false;
	if (number < 0)
		return NAT_REASON_PROTOCOL;
	if (pool >= pools->n_pools)
		return NAT_REASON_NOT_CONFIGURED;
	if (share->address && pools->addresses[share->address - 1].pool != pool)
		portpool_detach(pools, share);
	share->pool = (uint16_t)pool;
	int parity = pools->pools[pool].parity ? like & 1 : -1;
	link = portpool_find_own(pools, share, (unsigned)number, parity, &tail);
	if (!link) {
		unsigned reason =
		    portpool_grant(pools, share, pool, (unsigned)number, limit, now, tail, &link);
		if (reason != NAT_REASON_NONE)
			return reason;
		if (granted)
			*granted = true;
	}
	struct port_spot spot = {.block = link - 1, .protocol = (unsigned)number};
	struct port_block *b = &pools->blocks[spot.block];
	spot.address = spot.block >> BLOCK_BITS;
	const struct port_address *address = &pools->addresses[spot.address];
	if (parity >= 0 && b->used[number][parity] >> (address->shift - 1))
		parity = !parity; /* that half is full */
	spot.port = address->port_first + (spot.block % BLOCKS_PER_ADDRESS << address->shift);
	spot.port +=
	    find_port(pools, portpool_used_word(pools, &spot), 1u << address->shift, parity);
	portpool_set_used(pools, &spot, owner);
	b->dynamic++;
	share->n_ports++;
	portpool_list_sort(pools, share, spot.block);
	*place = portpool_make_place(spot.protocol, spot.address, spot.port);
	return NAT_REASON_NONE;
}

void portpool_release(struct portpool *pools, struct portpool_share *share, uint64_t place,
		      uint32_t hold_down_ms, struct monotime now, bool *freed)
{
	struct port_spot spot = portpool_spot(pools, place);

	if (freed)
		*freed = false;
	if (spot.block == NO_BLOCK || !portpool_is_used(pools, &spot))
		return;
	struct port_block *b = &pools->blocks[spot.block];
	bool detached = b->state == BLOCK_DETACHED;
	/* Reserved in a block of nobody or of somebody else: it is none of the share's. */
	if ((b->state != BLOCK_GRANTED && !detached) || b->owner != share->id)
		return;
	portpool_set_unused(pools, &spot);
	b->dynamic--;
	share->n_ports--;
	if (b->dynamic > 0) {
		if (!detached)
			portpool_list_sort(pools, share, spot.block);
		return;
	}
	if (detached) {
		share->n_detached--;
	} else {
		portpool_list_remove(pools, share, spot.block);
		share->n_blocks--;
	}
	portpool_rest(pools, share, spot.block, hold_down_ms, now);
	if (freed)
		*freed = true;
}

void portpool_stats(struct portpool *pools, unsigned pool, struct monotime now,
		    struct portpool_stats *out)
{
	portpool_mature(pools, now, MATURE_FOR_STATS);
	*out = pool < pools->n_pools ? pools->pools[pool].stats : (struct portpool_stats){0};
}
