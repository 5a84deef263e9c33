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

#include <arpa/inet.h>
#include <limits.h>
#include "common/base/err.h"

/* Blocks that may become free in passing, whenever one is granted: twice as fast as used. */
enum { MATURE_A_GRANT = 2, MATURE_FOR_STATS = 4096 };

#define NO_BLOCK UINT32_MAX

struct spot { /* a place, taken apart */
	uint32_t address, port;
	uint32_t block; /* or NO_BLOCK: outside the pool's range, for static mappings */
	unsigned protocol;
};

static int protocol_index(uint8_t protocol)
{
	return protocol == NAT_UDP ? 2 : protocol == NAT_TCP ? 1 : protocol == NAT_ICMP ? 0 : -1;
}

static uint64_t make_place(unsigned protocol, uint32_t address, uint32_t port)
{
	return (uint64_t)protocol << 32 | address << 16 | port;
}

static struct spot spot_of(const struct portpool *pools, uint64_t place)
{
	struct spot spot = {
	    .address = (uint32_t)place >> 16,
	    .port = place & 0xffff,
	    .protocol = (unsigned)(place >> 32),
	};
	const struct port_address *address = &pools->addresses[spot.address];
	uint32_t offset = spot.port - address->port_first; /* wraps below the range */
	uint32_t number = offset >> address->shift;
	spot.block = number < address->n_blocks ? spot.address << BLOCK_BITS | number : NO_BLOCK;
	return spot;
}

/* ---- looking up ---- */

int64_t portpool_find(const struct portpool *pools, uint32_t address)
{
	uint32_t mask = (UINT32_C(1) << pools->hash_bits) - 1;

	/* Multiplying by the golden ratio spreads consecutive addresses evenly. */
	for (uint32_t i = address * 0x9e3779b1u >> (32 - pools->hash_bits);; i = (i + 1) & mask) {
		if (pools->hash[i] == 0)
			return -1;
		if (pools->addresses[pools->hash[i] - 1].address == address)
			return pools->hash[i] - 1;
	}
}

uint64_t portpool_place(const struct portpool *pools, uint8_t protocol,
			const struct nat_endpoint *external)
{
	int64_t index = portpool_find(pools, ntohl(external->address));
	int number = protocol_index(protocol);

	if (index < 0 || number < 0)
		return PORTPOOL_NONE;
	uint32_t port = ntohs(external->port);
	if (pools->addresses[index].pool == POOL_RETIRED || port == 0)
		return PORTPOOL_NONE;
	return make_place((unsigned)number, (uint32_t)index, port);
}

bool portpool_has_address(const struct portpool *pools, nat_be32 address)
{
	int64_t index = portpool_find(pools, ntohl(address));

	return index >= 0 && pools->addresses[index].pool != POOL_RETIRED;
}

struct nat_endpoint portpool_endpoint(const struct portpool *pools, uint64_t place)
{
	return (struct nat_endpoint){
	    .address = htonl(pools->addresses[(uint32_t)place >> 16].address),
	    .port = htons((uint16_t)place),
	};
}

unsigned portpool_pool(const struct portpool *pools, uint64_t place)
{
	uint16_t pool = pools->addresses[(uint32_t)place >> 16].pool;

	return pool == POOL_RETIRED ? UINT_MAX : pool;
}

bool portpool_retired(const struct portpool *pools, uint64_t place)
{
	return pools->addresses[(uint32_t)place >> 16].pool == POOL_RETIRED;
}

uint32_t portpool_owner(const struct portpool *pools, uint64_t place)
{
	return pools->owners[place >> 32][(uint32_t)place];
}

void portpool_set_owner(struct portpool *pools, uint64_t place, uint32_t owner)
{
	pools->owners[place >> 32][(uint32_t)place] = owner;
}

void portpool_prefetch(const struct portpool *pools, uint64_t place)
{
	if (place != PORTPOOL_NONE)
		__builtin_prefetch(&pools->owners[place >> 32][(uint32_t)place]);
}

void portpool_prefetch_share(const struct portpool *pools, const struct portpool_share *share)
{
	if (share->blocks == 0)
		return;
	uint32_t block = share->blocks - 1, index = block >> BLOCK_BITS;
	const struct port_address *address = &pools->addresses[index];
	uint32_t port = address->port_first + (block % BLOCKS_PER_ADDRESS << address->shift);

	__builtin_prefetch(&pools->blocks[block], 1);
	for (unsigned i = 1; i < PORT_PROTOCOLS; i++) /* TCP and UDP */
		__builtin_prefetch(&pools->used[i][index * (PORTS_PER_ADDRESS / 64) + port / 64], 1);
}

/* ---- a share's blocks ---- */

static void list_remove(struct portpool *pools, struct portpool_share *share, uint32_t block)
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

/* The block's count went up or down by one: keeps the list sorted. */
static void list_sort(struct portpool *pools, struct portpool_share *share, uint32_t block)
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
	list_remove(pools, share, block);
	list_insert(pools, share, block, behind);
}

/* The address is no longer of the share's pool: its blocks stay until their ports are released. */
static void detach(struct portpool *pools, struct portpool_share *share)
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

/*
 * The fullest of the share's blocks with a free port of the protocol and parity (-1 = any), or,
 * when none has the parity, with any; as a link. *tail: the last of the list.
 */
static uint32_t find_own(const struct portpool *pools, const struct portpool_share *share,
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

static unsigned grant(struct portpool *pools, struct portpool_share *share, unsigned pool,
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
	uint32_t block = link - 1;
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
	pools->pools[pool].stats.blocks_used++;
	*out = link;
	return NAT_REASON_NONE;
}

/* ---- ports ---- */

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

/* Counts the pages that a use of the port touches for the first time. */
static void count_touched(struct portpool *pools, const struct spot *spot)
{
	struct port_address *address = &pools->addresses[spot->address];
	uint64_t page = UINT64_C(1) << (spot->port >> 10), *pages = &address->pages[spot->protocol];
	uint64_t half = spot->port >> 15 ? ~(uint64_t)UINT32_MAX : UINT32_MAX;
	uint8_t records = address->block_pages;

	if (spot->block != NO_BLOCK)
		records = (uint8_t)(1u << (spot->block % BLOCKS_PER_ADDRESS >> 7));

	bool recorded = (address->block_pages & records) == records;
	if (*pages & page && recorded)
		return;
	pools->touched +=
	    (*pages & page ? 0 : 4096) + (*pages & half ? 0 : 4096) + (recorded ? 0 : 4096);
	*pages |= page;
	address->block_pages |= records;
}

static uint64_t *used_word(struct portpool *pools, const struct spot *spot)
{
	return &pools->used[spot->protocol]
			   [spot->address * (PORTS_PER_ADDRESS / 64) + spot->port / 64];
}

static bool is_used(struct portpool *pools, const struct spot *spot)
{
	return *used_word(pools, spot) >> (spot->port % 64) & 1;
}

static void set_used(struct portpool *pools, const struct spot *spot, uint32_t owner)
{
	struct port_address *address = &pools->addresses[spot->address];

	*used_word(pools, spot) |= UINT64_C(1) << (spot->port % 64);
	pools->owners[spot->protocol][spot->address << 16 | spot->port] = owner;
	if (spot->block != NO_BLOCK)
		pools->blocks[spot->block].used[spot->protocol][spot->port & 1]++;
	address->n_used++;
	if (address->pool != POOL_RETIRED)
		pools->pools[address->pool].stats.ports_used++;
	count_touched(pools, spot);
}

static void set_unused(struct portpool *pools, const struct spot *spot)
{
	struct port_address *address = &pools->addresses[spot->address];

	*used_word(pools, spot) &= ~(UINT64_C(1) << (spot->port % 64));
	pools->owners[spot->protocol][spot->address << 16 | spot->port] = 0;
	if (spot->block != NO_BLOCK)
		pools->blocks[spot->block].used[spot->protocol][spot->port & 1]--;
	address->n_used--;
	if (address->pool != POOL_RETIRED)
		pools->pools[address->pool].stats.ports_used--;
}

unsigned portpool_allocate(struct portpool *pools, struct portpool_share *share, unsigned pool,
			   uint8_t protocol, uint16_t like, uint32_t limit, uint32_t owner,
			   struct monotime now, uint64_t *place, bool *granted)
{
	int number = protocol_index(protocol);
	uint32_t tail, link;

	if (granted)
		*granted = false;
	if (number < 0)
		return NAT_REASON_PROTOCOL;
	if (pool >= pools->n_pools)
		return NAT_REASON_NOT_CONFIGURED;
	if (share->address && pools->addresses[share->address - 1].pool != pool)
		detach(pools, share);
	share->pool = (uint16_t)pool;
	int parity = pools->pools[pool].parity ? like & 1 : -1;
	link = find_own(pools, share, (unsigned)number, parity, &tail);
	if (!link) {
		unsigned reason =
		    grant(pools, share, pool, (unsigned)number, limit, now, tail, &link);
		if (reason != NAT_REASON_NONE)
			return reason;
		if (granted)
			*granted = true;
	}
	struct spot spot = {.block = link - 1, .protocol = (unsigned)number};
	struct port_block *b = &pools->blocks[spot.block];
	spot.address = spot.block >> BLOCK_BITS;
	const struct port_address *address = &pools->addresses[spot.address];
	if (parity >= 0 && b->used[number][parity] >> (address->shift - 1))
		parity = !parity; /* that half is full */
	spot.port = address->port_first + (spot.block % BLOCKS_PER_ADDRESS << address->shift);
	spot.port += find_port(pools, used_word(pools, &spot), 1u << address->shift, parity);
	set_used(pools, &spot, owner);
	b->dynamic++;
	share->n_ports++;
	list_sort(pools, share, spot.block);
	*place = make_place(spot.protocol, spot.address, spot.port);
	return NAT_REASON_NONE;
}

void portpool_release(struct portpool *pools, struct portpool_share *share, uint64_t place,
		      uint32_t hold_down_ms, struct monotime now, bool *freed)
{
	struct spot spot = spot_of(pools, place);

	if (freed)
		*freed = false;
	if (spot.block == NO_BLOCK || !is_used(pools, &spot))
		return;
	struct port_block *b = &pools->blocks[spot.block];
	bool detached = b->state == BLOCK_DETACHED;
	/* Reserved in a block of nobody or of somebody else: it is none of the share's. */
	if ((b->state != BLOCK_GRANTED && !detached) || b->owner != share->id)
		return;
	set_unused(pools, &spot);
	b->dynamic--;
	share->n_ports--;
	if (b->dynamic > 0) {
		if (!detached)
			list_sort(pools, share, spot.block);
		return;
	}
	if (detached) {
		share->n_detached--;
	} else {
		list_remove(pools, share, spot.block);
		share->n_blocks--;
	}
	portpool_rest(pools, share, spot.block, hold_down_ms, now);
	if (freed)
		*freed = true;
}

int portpool_reserve(struct portpool *pools, uint64_t place, uint32_t owner)
{
	if (place == PORTPOOL_NONE || portpool_retired(pools, place))
		return ERR_INVALID;
	struct spot spot = spot_of(pools, place);
	if (is_used(pools, &spot))
		return ERR_EXISTS;
	set_used(pools, &spot, owner);
	return 0;
}

void portpool_unreserve(struct portpool *pools, uint64_t place)
{
	struct spot spot = spot_of(pools, place);

	if (is_used(pools, &spot))
		set_unused(pools, &spot);
}

void portpool_stats(struct portpool *pools, unsigned pool, struct monotime now,
		    struct portpool_stats *out)
{
	portpool_mature(pools, now, MATURE_FOR_STATS);
	*out = pool < pools->n_pools ? pools->pools[pool].stats : (struct portpool_stats){0};
}
