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
 * Four guesses make it uniform while there is much room (RFC 6056 section 3.3.1); the search from
 * the last one makes it exact.
 */
int portpool_find_port(struct portpool *pools, const uint64_t *words, unsigned size, int parity)
{
	uint64_t random = 0, mask = UINT64_MAX;
	unsigned offset = 0, n = size / 64;

	if (parity >= 0)
		mask = UINT64_C(0x5555555555555555) << parity;
	for (unsigned guess = 0; guess < 4; guess++, random >>= 32) {
		if (guess % 2 == 0)
			random = pools->random.next(pools->random.context);
		offset = (unsigned)((random & UINT32_MAX) * size >> 32);
		if (parity >= 0)
			offset = (offset & ~1u) | (unsigned)parity;
		if (!(words[offset / 64] >> (offset % 64) & 1))
			return (int)offset;
	}
	uint64_t after = UINT64_MAX << (offset % 64);
	for (unsigned i = 0; i <= n; i++) {
		unsigned word = (offset / 64 + i) % n;
		uint64_t bits = ~words[word] & mask;
		if (i == 0)
			bits &= after;
		if (bits)
			return (int)(word * 64 + (unsigned)__builtin_ctzll(bits));
	}
	return -1;
}

unsigned portpool_allocate(struct portpool *pools, struct portpool_share *share, unsigned pool,
			   uint8_t protocol, uint16_t like, uint32_t limit, uint32_t owner,
			   struct monotime now, uint64_t *place, bool *granted)
{
	int number = portpool_protocol(protocol);
	uint32_t link;
	bool fresh = false;

	if (granted)
		*granted = false;
	if (number < 0)
		return NAT_REASON_PROTOCOL;
	if (pool >= pools->n_pools)
		return NAT_REASON_NOT_CONFIGURED;
	if (portpool_is_elsewhere(pools, share, pool))
		portpool_detach(pools, share);
	share->pool = (uint16_t)pool;
	int parity = pools->pools[pool].parity ? like & 1 : -1;
	struct port_wish wish = {.protocol = (unsigned)number,
				 .parity = parity,
				 .low = pools->pools[pool].low_ports && like < LOW_PORTS &&
					protocol != NAT_ICMP,
				 .limit = limit,
				 .now = now};
	struct port_spot spot;
	if (pools->pools[pool].fixed) {
		unsigned reason = portpool_take_fixed(pools, share, &wish, &spot);
		if (reason == NAT_REASON_NONE)
			goto found;
		if (reason != NAT_REASON_SUBSCRIBER_BLOCKS ||
		    pools->pools[pool].stats.blocks_shared == 0)
			return reason;
	}
	unsigned reason = portpool_choose(pools, share, &wish, &link, &fresh);
	if (reason != NAT_REASON_NONE)
		return reason;
	if (granted)
		*granted = fresh;
	spot = (struct port_spot){
	    .block = link - 1, .address = (link - 1) >> BLOCK_BITS, .protocol = (unsigned)number};
	const struct port_address *address = &pools->addresses[spot.address];
	if (parity >= 0 && pools->blocks[spot.block].used[number][parity] >> (address->shift - 1))
		parity = !parity; /* that half is full */
	spot.port = address->port_first + (spot.block % BLOCKS_PER_ADDRESS << address->shift);
	spot.port += (unsigned)portpool_find_port(pools, portpool_used_word(pools, &spot),
						  1u << address->shift, parity);
found:
	portpool_set_used(pools, &spot, owner);
	pools->blocks[spot.block].dynamic++;
	share->n_ports++;
	if (!portpool_is_fixed(pools, &spot))
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
	if (portpool_is_by_address(place)) {
		portpool_release_address(pools, share, place, hold_down_ms, now);
		return;
	}
	if (spot.block == NO_BLOCK || !portpool_is_used(pools, &spot))
		return;
	if (portpool_is_fixed(pools, &spot)) {
		portpool_release_fixed(pools, share, &spot);
		return;
	}
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
	portpool_rest(pools, spot.block, hold_down_ms, now);
	if (freed)
		*freed = true;
}

void portpool_hold(struct portpool *pools, struct monotime until)
{
	pools->held_until = until;
}

void portpool_stats(struct portpool *pools, unsigned pool, struct monotime now,
		    struct portpool_stats *out)
{
	portpool_mature(pools, now, MATURE_FOR_STATS);
	if (pool >= pools->n_pools) {
		*out = (struct portpool_stats){0};
		return;
	}
	*out = pools->pools[pool].stats;
	out->above = portpool_is_above(&pools->pools[pool], 0);
}
