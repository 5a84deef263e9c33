/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/portpool_bed.h"

#include <criterion/criterion.h>
#include <arpa/inet.h>
#include <string.h>

void bed_pool(struct bed *bed, const char *name, uint16_t first, uint16_t last, uint16_t block_size)
{
	unsigned i = bed->config.n_pools++;

	bed->pools[i] = (struct config_pool){.prefixes = bed->prefixes[i],
					     .port_first = first,
					     .port_last = last,
					     .block_size = block_size,
					     .parity = true};
	strcpy(bed->pools[i].name, name);
}

void bed_prefix(struct bed *bed, unsigned pool, const char *address, uint8_t length)
{
	bed->prefixes[pool][bed->pools[pool].n_prefixes++] =
	    (struct config_prefix){.address = inet_addr(address), .length = length};
}

void bed_init(struct bed *bed)
{
	*bed = (struct bed){.seed = 42, .now = {1000 * SECOND_NS}};
	bed->config.pools = bed->pools;
	bed->random = random_seeded(&bed->seed);
}

void bed_start(struct bed *bed)
{
	cr_assert_eq(portpool_new(&bed->config, &bed->random, &bed->pool), 0);
}

/* One address, eight blocks of 64. */
void bed_small(struct bed *bed)
{
	bed_init(bed);
	bed_pool(bed, "small", 1024, 1535, 64);
	bed_prefix(bed, 0, "203.0.113.1", 32);
	bed_start(bed);
}

unsigned take(struct bed *bed, struct portpool_share *share, uint8_t protocol, uint16_t like,
	      uint32_t limit, uint64_t *place)
{
	return portpool_allocate(bed->pool, share, 0, protocol, like, limit, share->id, bed->now,
				 place, NULL);
}

uint64_t must_take(struct bed *bed, struct portpool_share *share, uint8_t protocol)
{
	uint64_t place = PORTPOOL_NONE;

	cr_assert_eq(take(bed, share, protocol, 0, NO_LIMIT, &place), NAT_REASON_NONE);
	return place;
}

bool give(struct bed *bed, struct portpool_share *share, uint64_t place)
{
	bool freed;

	portpool_release(bed->pool, share, place, HOLD_DOWN, bed->now, &freed);
	return freed;
}

void wait_ms(struct bed *bed, int64_t ms)
{
	bed->now = monotime_add_ms(bed->now, ms);
}

uint16_t port_of(struct bed *bed, uint64_t place)
{
	return ntohs(portpool_endpoint(bed->pool, place).port);
}

struct nat_endpoint endpoint(const char *address, uint16_t port)
{
	return (struct nat_endpoint){.address = inet_addr(address), .port = htons(port)};
}

uint64_t place_of(struct bed *bed, uint8_t protocol, const char *address, uint16_t port)
{
	struct nat_endpoint external = endpoint(address, port);
	return portpool_place(bed->pool, protocol, &external);
}

struct portpool_stats stats_of(struct bed *bed, unsigned pool)
{
	struct portpool_stats stats;
	portpool_stats(bed->pool, pool, bed->now, &stats);
	return stats;
}
