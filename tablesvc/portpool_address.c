/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole addresses. Protocols without ports that could be changed (GRE, ESP, SCTP, UDP-Lite, DCCP)
 * have one place for each external address, not 64 Ki: one subscriber at a time has it. And an
 * address may be dedicated to one internal address (static 1:1): nothing is allocated there then.
 *
 * A free place is found by two bitmaps over the addresses, a pool's members and a protocol's used
 * ones: 1,024 words at most.
 */
#include "tablesvc/portpool_private.h"

#include <arpa/inet.h>
#include "common/base/err.h"

/* Of the hold-down's clock; half its range is 3 years. */
enum { ADDRESS_REST_TICK_MS = 64 };

static unsigned number_of(uint64_t place)
{
	return (unsigned)(place >> 32) - PORT_PROTOCOLS;
}

static uint32_t index_of(uint64_t place)
{
	return (uint32_t)place >> 16;
}

struct address_place *portpool_by_address(const struct portpool *pools, uint64_t place)
{
	return &pools->by_address[index_of(place)].place[number_of(place)];
}

static void set_used(struct portpool *pools, uint64_t place, bool used)
{
	uint32_t index = index_of(place);
	struct port_address *address = &pools->addresses[index];
	uint64_t *word = &pools->used_by_address[number_of(place)][index / 64];
	uint64_t bit = UINT64_C(1) << (index % 64);

	*word = used ? *word | bit : *word & ~bit;
	bool none = address->n_used == 0;
	address->n_used += used ? 1 : UINT32_MAX;
	if (address->pool == POOL_RETIRED)
		return;
	struct portpool_stats *stats = &pools->pools[address->pool].stats;
	stats->ports_used += used ? 1 : UINT64_MAX;
	stats->addresses_used += used ? none : -(uint64_t)(address->n_used == 0);
}

static void take(struct portpool *pools, uint64_t place, uint32_t owner)
{
	pools->some_by_address = true;
	portpool_by_address(pools, place)->owner = owner;
	set_used(pools, place, true);
}

/* RFC 6888 REQ-8: it rests between two subscribers; who had it last gets it at once. */
static bool may_have(const struct portpool *pools, const struct portpool_share *share,
		     uint64_t place, uint32_t tick)
{
	const struct address_place *p = portpool_by_address(pools, place);

	return p->owner == 0 &&
	       (p->last == 0 || p->last == share->id || (int32_t)(tick - p->rests_until) >= 0);
}

/* A place of the pool that the share may have, from a random address on; PORTPOOL_NONE. */
static uint64_t find_place(struct portpool *pools, const struct portpool_share *share,
			   unsigned pool, unsigned number, uint32_t tick)
{
	uint32_t n = (pools->n_addresses + 63) / 64;
	uint32_t start = random_below(&pools->random, pools->n_addresses);
	const uint64_t *members = pools->pools[pool].members;
	const uint64_t *used = pools->used_by_address[number - PORT_PROTOCOLS];

	for (uint32_t i = 0; i <= n; i++) {
		uint32_t word = (start / 64 + i) % n;
		uint64_t bits = members[word] & ~used[word];
		if (i == 0)
			bits &= UINT64_MAX << (start % 64);
		for (; bits; bits &= bits - 1) {
			uint32_t index = word * 64 + (uint32_t)__builtin_ctzll(bits);
			uint64_t place = portpool_make_place(number, index, 0);
			if (may_have(pools, share, place, tick))
				return place;
		}
	}
	return PORTPOOL_NONE;
}

unsigned portpool_allocate_address(struct portpool *pools, struct portpool_share *share,
				   unsigned pool, uint8_t protocol, uint32_t owner,
				   struct monotime now, uint64_t *place)
{
	int number = portpool_protocol(protocol);
	uint32_t tick = (uint32_t)(now.ns / (ADDRESS_REST_TICK_MS * MS_NS));
	uint64_t found = PORTPOOL_NONE;

	if (number < PORT_PROTOCOLS)
		return NAT_REASON_PROTOCOL;
	if (pool >= pools->n_pools)
		return NAT_REASON_NOT_CONFIGURED;
	if (monotime_before(now, pools->held_until))
		return NAT_REASON_HOLD_DOWN;
	if (share->address) {
		uint32_t index = share->address - 1;
		uint64_t paired = portpool_make_place((unsigned)number, index, 0);
		if (pools->pools[pool].members[index / 64] >> (index % 64) & 1 &&
		    may_have(pools, share, paired, tick))
			found = paired;
	}
	if (found == PORTPOOL_NONE)
		found = find_place(pools, share, pool, (unsigned)number, tick);
	if (found == PORTPOOL_NONE) {
		pools->pools[pool].stats.exhausted++;
		return NAT_REASON_PORTS_EXHAUSTED;
	}
	if (!share->address) { /* what comes with ports is paired with it, if it has room */
		share->address = index_of(found) + 1;
		share->pool = (uint16_t)pool;
	}
	take(pools, found, owner);
	*place = found;
	return NAT_REASON_NONE;
}

int portpool_reserve_address(struct portpool *pools, uint64_t place, uint32_t owner)
{
	if (portpool_by_address(pools, place)->owner)
		return ERR_EXISTS;
	take(pools, place, owner);
	return 0;
}

void portpool_release_address(struct portpool *pools, const struct portpool_share *share,
			      uint64_t place, uint32_t hold_down_ms, struct monotime now)
{
	struct address_place *p = portpool_by_address(pools, place);
	int64_t tick_ns = ADDRESS_REST_TICK_MS * MS_NS, until = now.ns + hold_down_ms * MS_NS;

	if (!p->owner)
		return;
	*p = (struct address_place){
	    .last = share && hold_down_ms ? share->id : 0,
	    .rests_until = (uint32_t)((until + tick_ns - 1) / tick_ns),
	};
	set_used(pools, place, false);
}

/* ---- dedicated to one internal address ---- */

void portpool_set_member(struct portpool *pools, uint32_t index)
{
	struct port_address *address = &pools->addresses[index];

	portpool_set_open(pools, index);
	if (address->pool == POOL_RETIRED)
		return;
	uint64_t *word = &pools->pools[address->pool].members[index / 64];
	uint64_t bit = UINT64_C(1) << (index % 64);
	*word = address->dedicated ? *word & ~bit : *word | bit;
}

/* Port 0 is its owner's like any other: an ICMP request from outside goes to no identifier. */
static void unguard_zero(struct portpool *pools, uint32_t index)
{
	for (unsigned i = 0; i < PORT_PROTOCOLS && pools->addresses[index].port_first == 0; i++) {
		uint64_t *word = &pools->used[i][index * (PORTS_PER_ADDRESS / 64)];
		if (!(*word & 1) || pools->owners[i][index << 16])
			continue;
		*word &= ~UINT64_C(1);
		pools->blocks[index << BLOCK_BITS].used[i][0]--;
	}
}

void portpool_dedicate(struct portpool *pools, nat_be32 address, bool dedicated)
{
	int64_t index = portpool_find(pools, ntohl(address));

	if (index < 0)
		return;
	pools->addresses[index].dedicated = dedicated;
	if (dedicated)
		unguard_zero(pools, (uint32_t)index);
	portpool_set_member(pools, (uint32_t)index);
}

bool portpool_is_deterministic(const struct portpool *pools, nat_be32 address)
{
	int64_t index = portpool_find(pools, ntohl(address));

	return index >= 0 && pools->addresses[index].is_fixed;
}

bool portpool_is_dedicated(const struct portpool *pools, nat_be32 address)
{
	int64_t index = portpool_find(pools, ntohl(address));

	return index >= 0 && pools->addresses[index].dedicated;
}

bool portpool_address_used(const struct portpool *pools, nat_be32 address)
{
	int64_t index = portpool_find(pools, ntohl(address));

	return index >= 0 && pools->addresses[index].n_used > 0;
}
