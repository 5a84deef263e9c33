/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Places: the external endpoints, each with its bit of the bitmaps and its owner, and ports that
 * are taken by name (static mappings).
 */
#include "tablesvc/portpool_private.h"

#include <arpa/inet.h>
#include <limits.h>
#include "common/base/err.h"

int portpool_protocol(uint8_t protocol)
{
	static const uint8_t by_address[ADDRESS_PROTOCOLS] = {NAT_DCCP, NAT_GRE, NAT_ESP, NAT_SCTP,
							      NAT_UDPLITE};

	if (nat_protocol_by_port(protocol))
		return protocol == NAT_UDP ? 2 : protocol == NAT_TCP;
	for (int i = 0; i < ADDRESS_PROTOCOLS; i++)
		if (by_address[i] == protocol)
			return PORT_PROTOCOLS + i;
	return -1;
}

uint64_t portpool_make_place(unsigned protocol, uint32_t address, uint32_t port)
{
	return (uint64_t)protocol << 32 | address << 16 | port;
}

struct port_spot portpool_spot(const struct portpool *pools, uint64_t place)
{
	struct port_spot spot = {
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
	int number = portpool_protocol(protocol);

	if (index < 0 || number < 0)
		return PORTPOOL_NONE;
	const struct port_address *address = &pools->addresses[index];
	uint32_t port = ntohs(external->port);
	if (address->pool == POOL_RETIRED)
		return PORTPOOL_NONE;
	if (number >= PORT_PROTOCOLS)
		return portpool_make_place((unsigned)number, (uint32_t)index, 0);
	if (port == 0 && !address->dedicated)
		return PORTPOOL_NONE;
	return portpool_make_place((unsigned)number, (uint32_t)index, port);
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

bool portpool_range(const struct portpool *pools, uint64_t place, uint16_t *first, uint16_t *last)
{
	struct port_spot spot = portpool_spot(pools, place);
	const struct port_address *address = &pools->addresses[spot.address];

	if (spot.block == NO_BLOCK)
		return false;
	*first = (uint16_t)(address->port_first +
			    (spot.block % BLOCKS_PER_ADDRESS << address->shift));
	*last = (uint16_t)(*first + (1u << address->shift) - 1);
	return true;
}

bool portpool_retired(const struct portpool *pools, uint64_t place)
{
	return pools->addresses[(uint32_t)place >> 16].pool == POOL_RETIRED;
}

uint32_t portpool_owner(const struct portpool *pools, uint64_t place)
{
	if (nat_unlikely(portpool_is_by_address(place)))
		return portpool_by_address(pools, place)->owner;
	return pools->owners[place >> 32][(uint32_t)place];
}

void portpool_set_owner(struct portpool *pools, uint64_t place, uint32_t owner)
{
	if (portpool_is_by_address(place))
		portpool_by_address(pools, place)->owner = owner;
	else
		pools->owners[place >> 32][(uint32_t)place] = owner;
}

void portpool_prefetch(const struct portpool *pools, uint64_t place)
{
	if (place != PORTPOOL_NONE && !portpool_is_by_address(place))
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
		__builtin_prefetch(&pools->used[i][index * (PORTS_PER_ADDRESS / 64) + port / 64],
				   1);
}

/* ---- used and unused ---- */

/* Counts the pages that a use of the port touches for the first time. */
static void count_touched(struct portpool *pools, const struct port_spot *spot)
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

uint64_t *portpool_used_word(struct portpool *pools, const struct port_spot *spot)
{
	return &pools->used[spot->protocol]
			   [spot->address * (PORTS_PER_ADDRESS / 64) + spot->port / 64];
}

bool portpool_is_used(struct portpool *pools, const struct port_spot *spot)
{
	return *portpool_used_word(pools, spot) >> (spot->port % 64) & 1;
}

void portpool_set_used(struct portpool *pools, const struct port_spot *spot, uint32_t owner)
{
	struct port_address *address = &pools->addresses[spot->address];

	*portpool_used_word(pools, spot) |= UINT64_C(1) << (spot->port % 64);
	pools->owners[spot->protocol][spot->address << 16 | spot->port] = owner;
	if (spot->block != NO_BLOCK)
		pools->blocks[spot->block].used[spot->protocol][spot->port & 1]++;
	bool first = address->n_used++ == 0;
	if (address->pool != POOL_RETIRED) {
		pools->pools[address->pool].stats.ports_used++;
		pools->pools[address->pool].stats.addresses_used += first;
	}
	count_touched(pools, spot);
}

void portpool_set_unused(struct portpool *pools, const struct port_spot *spot)
{
	struct port_address *address = &pools->addresses[spot->address];

	*portpool_used_word(pools, spot) &= ~(UINT64_C(1) << (spot->port % 64));
	pools->owners[spot->protocol][spot->address << 16 | spot->port] = 0;
	if (spot->block != NO_BLOCK)
		pools->blocks[spot->block].used[spot->protocol][spot->port & 1]--;
	bool last = --address->n_used == 0;
	if (address->pool != POOL_RETIRED) {
		pools->pools[address->pool].stats.ports_used--;
		pools->pools[address->pool].stats.addresses_used -= last;
	}
}

int portpool_reserve(struct portpool *pools, uint64_t place, uint32_t owner)
{
	if (place == PORTPOOL_NONE || portpool_retired(pools, place))
		return ERR_INVALID;
	if (portpool_is_by_address(place))
		return portpool_reserve_address(pools, place, owner);
	struct port_spot spot = portpool_spot(pools, place);
	if (portpool_is_used(pools, &spot))
		return ERR_EXISTS;
	portpool_set_used(pools, &spot, owner);
	return 0;
}

void portpool_unreserve(struct portpool *pools, uint64_t place)
{
	if (portpool_is_by_address(place)) {
		portpool_release_address(pools, NULL, place, 0, (struct monotime){0});
		return;
	}
	struct port_spot spot = portpool_spot(pools, place);

	if (portpool_is_used(pools, &spot))
		portpool_set_unused(pools, &spot);
	if (spot.port == 0 && !pools->addresses[spot.address].dedicated)
		portpool_guard_zero(pools, spot.address);
}
