/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <arpa/inet.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/err.h"
#include "tablesvc/portpool.h"

enum { HOLD_DOWN = 120000, NO_LIMIT = 100000 };

/* A configuration of pools, by hand. */
struct bed {
	struct config config;
	struct config_pool pools[4];
	struct config_prefix prefixes[4][4];
	uint64_t seed;
	struct random_source random;
	struct portpool *pool;
	struct monotime now;
};

static void bed_pool(struct bed *bed, const char *name, uint16_t first, uint16_t last,
		     uint16_t block_size)
{
	unsigned i = bed->config.n_pools++;

	bed->pools[i] = (struct config_pool){.prefixes = bed->prefixes[i],
					     .port_first = first,
					     .port_last = last,
					     .block_size = block_size,
					     .parity = true};
	strcpy(bed->pools[i].name, name);
}

static void bed_prefix(struct bed *bed, unsigned pool, const char *address, uint8_t length)
{
	bed->prefixes[pool][bed->pools[pool].n_prefixes++] =
	    (struct config_prefix){.address = inet_addr(address), .length = length};
}

static void bed_init(struct bed *bed)
{
	*bed = (struct bed){.seed = 42, .now = {1000 * SECOND_NS}};
	bed->config.pools = bed->pools;
	bed->random = random_seeded(&bed->seed);
}

static void bed_start(struct bed *bed)
{
	cr_assert_eq(portpool_new(&bed->config, &bed->random, &bed->pool), 0);
}

/* One address, eight blocks of 64. */
static void bed_small(struct bed *bed)
{
	bed_init(bed);
	bed_pool(bed, "small", 1024, 1535, 64);
	bed_prefix(bed, 0, "203.0.113.1", 32);
	bed_start(bed);
}

static unsigned take(struct bed *bed, struct portpool_share *share, uint8_t protocol, uint16_t like,
		     uint32_t limit, uint64_t *place)
{
	return portpool_allocate(bed->pool, share, 0, protocol, like, limit, share->id, bed->now,
				 place, NULL);
}

static uint64_t must_take(struct bed *bed, struct portpool_share *share, uint8_t protocol)
{
	uint64_t place = PORTPOOL_NONE;

	cr_assert_eq(take(bed, share, protocol, 0, NO_LIMIT, &place), NAT_REASON_NONE);
	return place;
}

static bool give(struct bed *bed, struct portpool_share *share, uint64_t place)
{
	bool freed;

	portpool_release(bed->pool, share, place, HOLD_DOWN, bed->now, &freed);
	return freed;
}

static void wait_ms(struct bed *bed, int64_t ms)
{
	bed->now = monotime_add_ms(bed->now, ms);
}

static uint16_t port_of(struct bed *bed, uint64_t place)
{
	return ntohs(portpool_endpoint(bed->pool, place).port);
}

static struct nat_endpoint endpoint(const char *address, uint16_t port)
{
	return (struct nat_endpoint){.address = inet_addr(address), .port = htons(port)};
}

static uint64_t place_of(struct bed *bed, uint8_t protocol, const char *address, uint16_t port)
{
	struct nat_endpoint external = endpoint(address, port);
	return portpool_place(bed->pool, protocol, &external);
}

static struct portpool_stats stats_of(struct bed *bed, unsigned pool)
{
	struct portpool_stats stats;
	portpool_stats(bed->pool, pool, bed->now, &stats);
	return stats;
}

Test(portpool, every_port_is_found_down_to_the_last)
{
	static const uint8_t protocols[] = {NAT_TCP, NAT_UDP, NAT_ICMP};
	struct portpool_share share = {.id = 1};
	static bool seen[65536];
	struct bed bed;
	uint64_t place = 0, last = 0;

	bed_small(&bed);
	for (unsigned p = 0; p < 3; p++) {
		memset(seen, 0, sizeof seen);
		for (unsigned i = 0; i < 512; i++) {
			last = must_take(&bed, &share, protocols[p]);
			uint16_t port = port_of(&bed, last);
			cr_assert(port >= 1024 && port <= 1535 && !seen[port]);
			cr_assert_eq(portpool_owner(bed.pool, last), 1);
			seen[port] = true;
			/* Even first, while there is one; like is 0. */
			cr_assert(i % 64 >= 32 || share.n_blocks > 1 || port % 2 == 0);
		}
		cr_expect_eq(take(&bed, &share, protocols[p], 0, NO_LIMIT, &place),
			     NAT_REASON_PORTS_EXHAUSTED);
		cr_expect_eq(share.n_ports, 512 * (p + 1));
		cr_expect_eq(share.n_blocks, 8, "all protocols share the blocks");
	}
	struct portpool_share other = {.id = 2};
	cr_expect_eq(take(&bed, &other, NAT_UDP, 0, NO_LIMIT, &place), NAT_REASON_PORTS_EXHAUSTED);
	cr_expect_eq(stats_of(&bed, 0).exhausted, 4);
	cr_expect_eq(stats_of(&bed, 0).ports_used, 3 * 512);
	/* The only free one of them all is found, of the wrong parity too. */
	for (unsigned i = 0; i < 20; i++) {
		cr_expect_not(give(&bed, &share, last));
		cr_expect_eq(take(&bed, &share, NAT_ICMP, port_of(&bed, last) + 1, 0, &place), 0);
		cr_expect_eq(place, last);
	}
	portpool_free(bed.pool);
}

Test(portpool, parity_is_kept_while_a_port_has_it)
{
	struct portpool_share share = {.id = 1};
	struct bed bed;
	uint64_t place;

	bed_small(&bed);
	for (unsigned i = 0; i < 32; i++) {
		cr_assert_eq(take(&bed, &share, NAT_UDP, 5001, 1, &place), 0);
		cr_assert_eq(port_of(&bed, place) % 2, 1);
	}
	for (unsigned i = 0; i < 32; i++) {
		cr_assert_eq(take(&bed, &share, NAT_UDP, 5001, 1, &place), 0);
		cr_assert_eq(port_of(&bed, place) % 2, 0);
	}
	cr_expect_eq(take(&bed, &share, NAT_UDP, 5001, 1, &place), NAT_REASON_SUBSCRIBER_BLOCKS);
	portpool_free(bed.pool);

	bed_init(&bed);
	bed_pool(&bed, "without parity", 1024, 1535, 64);
	bed_prefix(&bed, 0, "203.0.113.1", 32);
	bed.pools[0].parity = false;
	bed_start(&bed);
	share = (struct portpool_share){.id = 1};
	unsigned odd = 0;
	for (unsigned i = 0; i < 32; i++) {
		cr_assert_eq(take(&bed, &share, NAT_UDP, 5001, 1, &place), 0);
		odd += port_of(&bed, place) % 2;
	}
	cr_expect(odd > 3 && odd < 29, "%u of 32 are odd", odd);
	portpool_free(bed.pool);
}

/* RFC 6056: who knows some ports must not know the next; neither a stride nor a favourite. */
Test(portpool, the_next_port_is_not_predictable)
{
	enum { ROUNDS = 4096, SIZE = 256 };
	static unsigned count[SIZE], stride[SIZE];
	struct bed bed;
	unsigned most = 0, most_stride = 0;

	bed_init(&bed);
	bed_pool(&bed, "p", 1024, 65535, SIZE);
	bed_prefix(&bed, 0, "203.0.113.0", 24);
	bed.pools[0].parity = false;
	bed_start(&bed);
	/* Half full, as a busy subscriber's block is. */
	struct portpool_share share = {.id = 1};
	uint64_t held[SIZE / 2];
	uint16_t before = 0;
	for (unsigned i = 0; i < SIZE / 2; i++)
		held[i] = must_take(&bed, &share, NAT_UDP);
	for (unsigned i = 0; i < ROUNDS; i++) {
		unsigned victim = random_below(&bed.random, SIZE / 2);
		give(&bed, &share, held[victim]);
		held[victim] = must_take(&bed, &share, NAT_UDP);
		uint16_t port = port_of(&bed, held[victim]);
		count[port % SIZE]++;
		stride[(uint16_t)(port - before) % SIZE]++;
		before = port;
	}
	for (unsigned i = 0; i < SIZE; i++) {
		most = count[i] > most ? count[i] : most;
		most_stride = stride[i] > most_stride ? stride[i] : most_stride;
		cr_expect_gt(count[i], 0, "port %u is never taken", i);
	}
	/* 16 are expected of each; a Poisson count of 48 has a chance of 10^-10. */
	cr_expect_lt(most, 48);
	cr_expect_lt(most_stride, 48);
	portpool_free(bed.pool);
}

/* Addresses and blocks of new subscribers are random as well, and each of them is used. */
Test(portpool, first_blocks_are_spread)
{
	enum { N = 4096 };
	static unsigned addresses[256], blocks[252];
	struct bed bed;

	bed_init(&bed);
	bed_pool(&bed, "p", 1024, 65535, 256);
	bed_prefix(&bed, 0, "203.0.113.0", 24);
	bed_start(&bed);
	for (uint32_t i = 0; i < N; i++) {
		struct portpool_share share = {.id = i + 1};
		uint64_t place = must_take(&bed, &share, NAT_TCP);
		struct nat_endpoint external = portpool_endpoint(bed.pool, place);
		addresses[ntohl(external.address) & 255]++;
		blocks[(ntohs(external.port) - 1024) / 256]++;
	}
	for (unsigned i = 0; i < 256; i++)
		cr_expect(addresses[i] > 0 && addresses[i] < 48, "%u: %u", i, addresses[i]);
	for (unsigned i = 0; i < 252; i++)
		cr_expect(blocks[i] > 0 && blocks[i] < 48, "%u: %u", i, blocks[i]);
	cr_expect_eq(stats_of(&bed, 0).blocks_used, N);
	portpool_free(bed.pool);
}

Test(portpool, pooling_is_paired_and_blocks_are_limited)
{
	struct portpool_share share = {.id = 1};
	struct bed bed;
	uint64_t place;
	bool granted;

	bed_init(&bed);
	bed_pool(&bed, "p", 1024, 2047, 64);
	bed_prefix(&bed, 0, "203.0.113.0", 24);
	bed_start(&bed);
	nat_be32 paired = portpool_endpoint(bed.pool, must_take(&bed, &share, NAT_TCP)).address;
	for (unsigned i = 1; i < 3 * 64; i++) {
		cr_assert_eq(portpool_allocate(bed.pool, &share, 0, NAT_TCP, (uint16_t)i, 3, 7,
					       bed.now, &place, &granted),
			     0);
		cr_assert_eq(portpool_endpoint(bed.pool, place).address, paired);
		cr_assert_eq(granted, i % 64 == 0);
	}
	cr_expect_eq(take(&bed, &share, NAT_TCP, 0, 3, &place), NAT_REASON_SUBSCRIBER_BLOCKS);
	cr_expect_eq(take(&bed, &share, NAT_UDP, 0, 3, &place), 0, "UDP has its own ports there");
	/* Paired: the address is full, others are not. */
	for (unsigned i = 0; i < 13 * 64; i++)
		cr_assert_eq(take(&bed, &share, NAT_TCP, 0, NO_LIMIT, &place), 0);
	cr_expect_eq(take(&bed, &share, NAT_TCP, 0, NO_LIMIT, &place), NAT_REASON_PORTS_EXHAUSTED);
	cr_expect_eq(take(&bed, &(struct portpool_share){.id = 2}, NAT_TCP, 0, 0, &place),
		     NAT_REASON_SUBSCRIBER_BLOCKS);
	portpool_free(bed.pool);
}

Test(portpool, the_fullest_block_is_first)
{
	struct portpool_share share = {.id = 1};
	struct bed bed;
	uint64_t places[192];
	unsigned blocks[3], left[3] = {0};

	bed_init(&bed);
	bed_pool(&bed, "p", 1024, 1535, 64);
	bed_prefix(&bed, 0, "203.0.113.1", 32);
	bed.pools[0].parity = false; /* parity goes before fullness */
	bed_start(&bed);
	for (unsigned i = 0; i < 192; i++) {
		places[i] = must_take(&bed, &share, NAT_UDP);
		blocks[i / 64] = port_of(&bed, places[i]) / 64u;
	}
	cr_assert_eq(share.n_blocks, 3);
	/* Leaves 20, 40 and 30 in them. */
	static const unsigned keep[3] = {20, 40, 30};
	for (unsigned i = 0; i < 192; i++) {
		if (left[i / 64]++ >= keep[i / 64])
			give(&bed, &share, places[i]);
	}
	for (unsigned i = 0; i < 24 + 34 + 44; i++) {
		unsigned expected = i < 24 ? 1 : i < 24 + 34 ? 2 : 0;
		cr_assert_eq(port_of(&bed, must_take(&bed, &share, NAT_UDP)) / 64u,
			     blocks[expected], "%u", i);
	}
	/* TCP goes where there is most of all protocols: all are equally full. One goes, two stay.
	 */
	give(&bed, &share, places[0]);
	for (unsigned i = 0; i < 64; i++)
		cr_assert_neq(port_of(&bed, must_take(&bed, &share, NAT_TCP)) / 64u, blocks[0]);
	cr_expect_eq(share.n_blocks, 3);
	portpool_free(bed.pool);
}

/* RFC 6888 REQ-8 between subscribers; within one a port is free at once. */
Test(portpool, a_block_rests_before_another_subscriber_gets_it)
{
	struct portpool_share first = {.id = 1}, second = {.id = 2};
	struct bed bed;
	uint64_t places[512], place;

	bed_small(&bed);
	for (unsigned i = 0; i < 512; i++)
		places[i] = must_take(&bed, &first, NAT_UDP);
	unsigned freed = 0;
	for (unsigned i = 0; i < 512; i++)
		freed += give(&bed, &first, places[i]);
	cr_expect_eq(freed, 8);
	cr_expect_eq(first.n_blocks, 0);
	cr_expect_eq(stats_of(&bed, 0).blocks_resting, 8);
	cr_expect_eq(stats_of(&bed, 0).blocks_used, 0);
	wait_ms(&bed, HOLD_DOWN - 1);
	cr_expect_eq(take(&bed, &second, NAT_UDP, 0, 8, &place), NAT_REASON_PORTS_EXHAUSTED);
	/* Its own, at once, all eight of them, and each rests again afterwards. */
	for (unsigned i = 0; i < 512; i++)
		places[i] = must_take(&bed, &first, NAT_UDP);
	cr_expect_eq(first.n_blocks, 8);
	for (unsigned i = 0; i < 512; i++)
		give(&bed, &first, places[i]);
	wait_ms(&bed, HOLD_DOWN - 1);
	cr_expect_eq(take(&bed, &second, NAT_UDP, 0, 8, &place), NAT_REASON_PORTS_EXHAUSTED);
	wait_ms(&bed, 1 + 64);
	cr_expect_eq(take(&bed, &second, NAT_UDP, 0, 8, &place), 0);
	cr_expect_eq(stats_of(&bed, 0).blocks_resting, 0);
	portpool_free(bed.pool);
}

/* One flow at a time must not make block after block rest. */
Test(portpool, a_subscriber_comes_back_to_its_block)
{
	struct portpool_share share = {.id = 1};
	struct bed bed;

	bed_init(&bed);
	bed_pool(&bed, "p", 1024, 65535, 256);
	bed_prefix(&bed, 0, "203.0.113.0", 24);
	bed_start(&bed);
	uint64_t place = must_take(&bed, &share, NAT_UDP);
	uint32_t address = portpool_endpoint(bed.pool, place).address;
	unsigned block = port_of(&bed, place) / 256;
	for (unsigned i = 0; i < 100; i++) {
		cr_expect(give(&bed, &share, place));
		wait_ms(&bed, 10);
		place = must_take(&bed, &share, NAT_UDP);
		cr_assert_eq(portpool_endpoint(bed.pool, place).address, address);
		cr_assert_eq(port_of(&bed, place) / 256, block);
	}
	/* With a hold-down of 0 nothing rests. */
	portpool_release(bed.pool, &share, place, 0, bed.now, NULL);
	cr_expect_eq(stats_of(&bed, 0).blocks_resting, 0);
	cr_expect_eq(stats_of(&bed, 0).blocks_used, 0);
	portpool_free(bed.pool);
}

Test(portpool, static_ports_are_reserved_with_and_without_an_owner_of_the_block)
{
	struct portpool_share share = {.id = 1};
	struct bed bed;
	uint64_t place, fixed = 0;

	bed_small(&bed);
	/* In blocks of nobody: one whole block for TCP, so that it cannot serve TCP at all. */
	for (uint16_t port = 1024; port < 1088; port++)
		cr_assert_eq(
		    portpool_reserve(bed.pool, place_of(&bed, NAT_TCP, "203.0.113.1", port), 900),
		    0);
	place = place_of(&bed, NAT_TCP, "203.0.113.1", 1024);
	cr_expect_eq(portpool_owner(bed.pool, place), 900);
	cr_expect_eq(portpool_reserve(bed.pool, place, 901), ERR_EXISTS);
	cr_expect_eq(portpool_reserve(bed.pool, PORTPOOL_NONE, 901), ERR_INVALID);
	cr_expect_eq(stats_of(&bed, 0).blocks_used, 0);
	cr_expect_eq(stats_of(&bed, 0).ports_used, 64);
	/* Not the share's: releasing changes nothing. */
	portpool_release(bed.pool, &share, place, HOLD_DOWN, bed.now, NULL);
	cr_expect_eq(portpool_owner(bed.pool, place), 900);
	for (unsigned i = 0; i < 7 * 64; i++)
		cr_assert_geq(port_of(&bed, must_take(&bed, &share, NAT_TCP)), 1088);
	cr_expect_eq(take(&bed, &share, NAT_TCP, 0, NO_LIMIT, &place), NAT_REASON_PORTS_EXHAUSTED);
	cr_expect_eq(share.n_blocks, 7);
	/* A dynamic one, as the table takes it over: it ends, then the port is reserved. */
	fixed = place_of(&bed, NAT_TCP, "203.0.113.1", 1200);
	cr_expect_eq(portpool_reserve(bed.pool, fixed, 901), ERR_EXISTS);
	give(&bed, &share, fixed);
	cr_expect_eq(portpool_reserve(bed.pool, fixed, 901), 0);
	cr_expect_eq(take(&bed, &share, NAT_TCP, 0, 7, &place), NAT_REASON_SUBSCRIBER_BLOCKS);
	portpool_unreserve(bed.pool, fixed);
	cr_expect_eq(portpool_owner(bed.pool, fixed), 0);
	cr_expect_eq(must_take(&bed, &share, NAT_TCP), fixed);
	/* The block goes back when its last dynamic port does, the reserved one stays. */
	struct portpool_share other = {.id = 2};
	for (uint16_t port = 1024; port < 1088; port++)
		portpool_unreserve(bed.pool, place_of(&bed, NAT_TCP, "203.0.113.1", port));
	place = must_take(&bed, &other, NAT_TCP);
	fixed = place ^ 1;
	cr_expect_eq(portpool_reserve(bed.pool, fixed, 902), 0);
	cr_expect(give(&bed, &other, place));
	cr_expect_eq(portpool_owner(bed.pool, fixed), 902);
	wait_ms(&bed, HOLD_DOWN + 64);
	for (unsigned i = 0; i < 63; i++)
		cr_assert_neq(must_take(&bed, &other, NAT_TCP), fixed);
	cr_expect_eq(take(&bed, &other, NAT_TCP, 0, NO_LIMIT, &place), NAT_REASON_PORTS_EXHAUSTED);
	portpool_free(bed.pool);
}

/* What people forward lies below the range: reserved there, given to nobody. */
Test(portpool, ports_outside_the_range_are_for_static_mappings_only)
{
	struct portpool_share share = {.id = 1};
	struct bed bed;
	uint64_t places[3];
	static const uint16_t ports[3] = {1, 443, 65535};

	bed_small(&bed);
	for (unsigned i = 0; i < 3; i++) {
		places[i] = place_of(&bed, NAT_TCP, "203.0.113.1", ports[i]);
		cr_assert_neq(places[i], PORTPOOL_NONE);
		cr_expect_eq(portpool_reserve(bed.pool, places[i], 7), 0);
		cr_expect_eq(portpool_reserve(bed.pool, places[i], 8), ERR_EXISTS);
		portpool_release(bed.pool, &share, places[i], HOLD_DOWN, bed.now, NULL);
		cr_expect_eq(portpool_owner(bed.pool, places[i]), 7);
	}
	cr_expect_eq(place_of(&bed, NAT_TCP, "203.0.113.1", 0), PORTPOOL_NONE);
	cr_expect_eq(place_of(&bed, 47, "203.0.113.1", 1024), PORTPOOL_NONE);
	for (unsigned i = 0; i < 512; i++)
		must_take(&bed, &share, NAT_TCP);
	cr_expect_eq(stats_of(&bed, 0).ports_used, 515);
	for (unsigned i = 0; i < 3; i++)
		portpool_unreserve(bed.pool, places[i]);
	cr_expect_eq(stats_of(&bed, 0).ports_used, 512);
	portpool_free(bed.pool);
}

Test(portpool, places_and_endpoints_are_one_to_one)
{
	static const uint8_t protocols[] = {NAT_TCP, NAT_UDP, NAT_ICMP};
	static const char addresses[][16] = {"198.51.100.4", "198.51.100.7", "203.0.113.255"};
	struct bed bed;

	bed_init(&bed);
	bed_pool(&bed, "a", 1024, 65535, 256);
	bed_prefix(&bed, 0, "198.51.100.4", 30);
	bed_pool(&bed, "b", 4096, 8191, 4096);
	bed_prefix(&bed, 1, "203.0.113.255", 32);
	bed_prefix(&bed, 1, "192.0.2.0", 31);
	bed_start(&bed);
	for (unsigned a = 0; a < 3; a++) {
		for (unsigned p = 0; p < 3; p++) {
			for (unsigned port = 1; port < 65536; port++) {
				uint64_t place =
				    place_of(&bed, protocols[p], addresses[a], (uint16_t)port);
				struct nat_endpoint back = portpool_endpoint(bed.pool, place);
				cr_assert_eq(back.address, inet_addr(addresses[a]));
				cr_assert_eq(ntohs(back.port), port);
				cr_assert_eq(portpool_owner(bed.pool, place), 0, "taken twice");
				portpool_set_owner(bed.pool, place, port);
			}
		}
	}
	cr_expect_eq(portpool_pool(bed.pool, place_of(&bed, NAT_TCP, "198.51.100.5", 1024)), 0);
	cr_expect_eq(portpool_pool(bed.pool, place_of(&bed, NAT_TCP, "192.0.2.1", 4096)), 1);
	static const char outside[][16] = {"198.51.100.3", "198.51.100.8", "203.0.113.254",
					   "204.0.113.0",  "192.0.2.2",	   "0.0.0.0"};
	for (unsigned i = 0; i < 6; i++) {
		cr_expect_eq(place_of(&bed, NAT_TCP, outside[i], 5000), PORTPOOL_NONE);
		cr_expect_not(portpool_has_address(bed.pool, inet_addr(outside[i])));
	}
	cr_expect(portpool_has_address(bed.pool, inet_addr("192.0.2.0")));
	portpool_prefetch(bed.pool, PORTPOOL_NONE);
	portpool_free(bed.pool);
}

/* Two pools do not borrow from each other, and a pool uses all of its prefixes. */
Test(portpool, a_pool_keeps_to_its_prefixes)
{
	struct bed bed;
	uint64_t place;
	unsigned in_first = 0, in_second = 0;

	bed_init(&bed);
	bed_pool(&bed, "a", 1024, 1151, 64);
	bed_prefix(&bed, 0, "198.51.100.0", 31);
	bed_prefix(&bed, 0, "203.0.113.8", 31);
	bed_pool(&bed, "b", 1024, 1151, 64);
	bed_prefix(&bed, 1, "198.51.100.2", 31);
	bed_start(&bed);
	for (uint32_t i = 0; i < 8; i++) {
		struct portpool_share share = {.id = i + 1};
		place = must_take(&bed, &share, NAT_UDP);
		uint32_t address = ntohl(portpool_endpoint(bed.pool, place).address);
		in_first += address >> 1 == ntohl(inet_addr("198.51.100.0")) >> 1;
		in_second += address >> 1 == ntohl(inet_addr("203.0.113.8")) >> 1;
	}
	cr_expect_eq(in_first, 4);
	cr_expect_eq(in_second, 4);
	cr_expect_eq(take(&bed, &(struct portpool_share){.id = 99}, NAT_UDP, 0, 8, &place),
		     NAT_REASON_PORTS_EXHAUSTED);
	cr_expect_eq(stats_of(&bed, 1).blocks_used, 0);
	cr_expect_eq(stats_of(&bed, 1).blocks, 4);
	cr_expect_eq(stats_of(&bed, 0).addresses, 4);
	portpool_free(bed.pool);
}

static int reload(struct bed *bed, char *error)
{
	error[0] = '\0';
	return portpool_reload(bed->pool, &bed->config, error, 256);
}

Test(portpool, reload_adds_removes_and_moves_addresses)
{
	struct portpool_share share = {.id = 1}, other = {.id = 2};
	struct bed bed;
	char error[256];
	uint64_t kept, place, fixed;

	bed_init(&bed);
	bed_pool(&bed, "a", 1024, 2047, 64);
	bed_prefix(&bed, 0, "198.51.100.1", 32);
	bed_start(&bed);
	kept = must_take(&bed, &share, NAT_UDP);
	struct nat_endpoint external = portpool_endpoint(bed.pool, kept);
	fixed = place_of(&bed, NAT_TCP, "198.51.100.1", 2000);
	cr_assert_eq(portpool_reserve(bed.pool, fixed, 77), 0);

	/* Another pool in front of it, a thousand addresses more: nothing that was given out moves.
	 */
	bed.config.n_pools = 0;
	bed_pool(&bed, "new", 1024, 65535, 256);
	bed_prefix(&bed, 0, "192.0.2.0", 24);
	bed_pool(&bed, "a", 1024, 2047, 64);
	bed_prefix(&bed, 1, "198.51.100.0", 22);
	cr_assert_eq(reload(&bed, error), 0, "%s", error);
	cr_expect_eq(portpool_place(bed.pool, NAT_UDP, &external), kept);
	cr_expect_eq(portpool_owner(bed.pool, kept), 1);
	cr_expect_eq(portpool_pool(bed.pool, kept), 1);
	cr_expect_eq(stats_of(&bed, 1).blocks_used, 1);
	cr_expect_eq(stats_of(&bed, 1).ports_used, 2);
	cr_expect_eq(stats_of(&bed, 1).addresses, 1024);
	cr_expect_eq(
	    portpool_allocate(bed.pool, &share, 1, NAT_UDP, 0, 8, 1, bed.now, &place, NULL), 0);
	cr_expect_eq(portpool_endpoint(bed.pool, place).address, external.address);
	give(&bed, &share, place);

	/* Re-parented: the address is the other pool's now. The share's new ports come from its
	 * own. */
	bed.config.n_pools = 0;
	bed_pool(&bed, "a", 1024, 2047, 64);
	bed_prefix(&bed, 0, "203.0.113.7", 32);
	bed_pool(&bed, "b", 1024, 2047, 64);
	bed_prefix(&bed, 1, "198.51.100.0", 30);
	cr_assert_eq(reload(&bed, error), 0, "%s", error);
	cr_expect_eq(portpool_pool(bed.pool, kept), 1);
	place = must_take(&bed, &share, NAT_UDP);
	cr_expect_eq(portpool_endpoint(bed.pool, place).address, inet_addr("203.0.113.7"));
	cr_expect_eq(share.n_detached, 1);
	cr_expect_eq(share.n_blocks, 1);
	cr_expect_eq(share.n_ports, 2);

	/* Removed: known no more, but what is used stays what it is until it is released. */
	bed.config.n_pools = 1;
	cr_assert_eq(reload(&bed, error), 0, "%s", error);
	cr_expect_eq(portpool_place(bed.pool, NAT_UDP, &external), PORTPOOL_NONE);
	cr_expect_not(portpool_has_address(bed.pool, external.address));
	cr_expect(portpool_retired(bed.pool, kept));
	cr_expect_eq(portpool_pool(bed.pool, kept), UINT_MAX);
	cr_expect_eq(portpool_owner(bed.pool, kept), 1);
	cr_expect_eq(portpool_endpoint(bed.pool, kept).address, external.address);
	cr_expect_eq(portpool_reserve(bed.pool, kept ^ 1, 5), ERR_INVALID);

	/* Many other addresses come: none of them gets the place of one that is used. */
	bed_pool(&bed, "c", 1024, 65535, 256);
	bed_prefix(&bed, 1, "192.0.2.0", 24);
	cr_assert_eq(reload(&bed, error), 0, "%s", error);
	cr_expect_eq(portpool_endpoint(bed.pool, kept).address, external.address);
	cr_expect_eq(portpool_owner(bed.pool, fixed), 77);
	cr_expect(give(&bed, &share, kept));
	cr_expect_eq(share.n_detached, 0);
	cr_expect_eq(share.n_ports, 1);
	portpool_unreserve(bed.pool, fixed);

	/* It comes back, in another layout: nothing of it is used any more. */
	bed_pool(&bed, "d", 4096, 8191, 4096);
	bed_prefix(&bed, 2, "198.51.100.1", 32);
	cr_assert_eq(reload(&bed, error), 0, "%s", error);
	cr_expect_eq(
	    portpool_allocate(bed.pool, &other, 2, NAT_UDP, 0, 1, 2, bed.now, &place, NULL), 0);
	cr_expect_eq(portpool_endpoint(bed.pool, place).address, inet_addr("198.51.100.1"));
	cr_expect_geq(port_of(&bed, place), 4096);
	cr_expect_eq(stats_of(&bed, 2).blocks_resting, 0);
	portpool_free(bed.pool);
}

struct refusal {
	char what[24];
	uint16_t first, last, size;
	char address[16];
	uint8_t length;
	int err;
};

Test(portpool, reload_refuses_and_changes_nothing)
{
	static const struct refusal rows[] = {
	    {"other range", 1024, 4095, 64, "198.51.100.1", 32, ERR_INVALID},
	    {"other blocks", 1024, 2047, 128, "198.51.100.1", 32, ERR_INVALID},
	    {"inside a larger prefix", 2048, 4095, 64, "198.51.0.0", 17, ERR_INVALID},
	    {"too many", 1024, 2047, 64, "198.50.0.0", 15, ERR_TOO_BIG},
	    {"block size 0", 1024, 2047, 0, "198.51.200.1", 32, ERR_INVALID},
	    {"crooked range", 1000, 2047, 64, "198.51.200.1", 32, ERR_INVALID},
	};
	struct portpool_share share = {.id = 1};
	struct bed bed;
	char error[256];

	bed_init(&bed);
	bed_pool(&bed, "a", 1024, 2047, 64);
	bed_prefix(&bed, 0, "198.51.100.1", 32);
	bed_start(&bed);
	uint64_t place = must_take(&bed, &share, NAT_UDP);
	struct portpool_stats before = stats_of(&bed, 0), after;
	for (unsigned retired = 0; retired < 2; retired++) {
		for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
			const struct refusal *row = &rows[i];
			bed.config.n_pools = 0;
			bed_pool(&bed, "a", row->first, row->last, row->size);
			bed_prefix(&bed, 0, row->address, row->length);
			cr_expect_eq(reload(&bed, error), row->err, "%s", row->what);
			cr_expect_neq(error[0], '\0', "%s", row->what);
			cr_expect_eq(portpool_owner(bed.pool, place), 1);
			cr_expect_eq(portpool_retired(bed.pool, place), retired);
			cr_expect_not(portpool_has_address(bed.pool, inet_addr("198.51.200.1")));
			after = stats_of(&bed, 0);
			cr_expect_eq(memcmp(&before, &after, sizeof after), 0, "%s", row->what);
		}
		/* Once more with the address retired, and still used. */
		bed.config.n_pools = 0;
		bed_pool(&bed, "a", 1024, 2047, 64);
		bed_prefix(&bed, 0, "192.0.2.1", 32);
		cr_assert_eq(reload(&bed, error), 0, "%s", error);
		before = stats_of(&bed, 0);
	}
	struct portpool *none;
	bed.config.n_pools = 0;
	bed_pool(&bed, "a", 1024, 2047, 64);
	bed_prefix(&bed, 0, "10.0.0.0", 8);
	cr_expect_eq(portpool_new(&bed.config, &bed.random, &none), ERR_TOO_BIG);
	portpool_free(bed.pool);
	portpool_free(NULL);
}

/* Reloads to and fro use indices again: 65,536 of them are enough for ever. */
Test(portpool, reloads_do_not_use_up_the_addresses)
{
	struct bed bed;
	char error[256], address[16];
	struct portpool_share share = {.id = 1};

	bed_init(&bed);
	bed_pool(&bed, "a", 1024, 2047, 64);
	bed_prefix(&bed, 0, "10.0.0.0", 18);
	bed_start(&bed);
	for (unsigned i = 1; i < 20; i++) {
		uint64_t place = must_take(&bed, &share, NAT_UDP);
		give(&bed, &share, place);
		snprintf(address, sizeof address, "10.%u.0.0", i);
		bed.pools[0].n_prefixes = 0;
		bed_prefix(&bed, 0, address, 18);
		cr_assert_eq(reload(&bed, error), 0, "%s", error);
		cr_assert_eq(stats_of(&bed, 0).blocks, 16384 * 16);
	}
	portpool_free(bed.pool);
}

/* 65,536 addresses: the whole of what is promised, and it costs what is used. */
Test(portpool, as_many_addresses_as_promised)
{
	struct bed bed;
	struct portpool_share share = {.id = 1};

	bed_init(&bed);
	bed_pool(&bed, "a", 1024, 65535, 256);
	bed_prefix(&bed, 0, "10.0.0.0", 16);
	bed_start(&bed);
	uint64_t empty = portpool_memory(bed.pool);
	cr_expect_lt(empty, 16u << 20);
	must_take(&bed, &share, NAT_ICMP);
	cr_expect_eq(portpool_memory(bed.pool) - empty, 3 * 4096);
	cr_expect_neq(place_of(&bed, NAT_UDP, "10.0.255.255", 65535), PORTPOOL_NONE);
	portpool_free(bed.pool);
}

/*
 * Many subscribers on few blocks, at random, beside a model that is as simple as the rules: who
 * owns which port, which block, since when nobody.
 */
enum { SHARES = 24, PORTS = 512, BLOCK = 64, ADDRESSES = 4, BLOCKS = ADDRESSES * PORTS / BLOCK };
static const uint8_t model_protocols[] = {NAT_ICMP, NAT_TCP, NAT_UDP};

struct model {
	struct bed bed;
	struct portpool_share shares[SHARES];
	uint32_t owner[3][ADDRESSES * PORTS]; /* share's id; 1000 = static */
	uint32_t holder[BLOCKS], count[BLOCKS];
	struct monotime freed[BLOCKS];
};

static unsigned model_index(struct model *m, uint64_t place)
{
	struct nat_endpoint external = portpool_endpoint(m->bed.pool, place);
	return (ntohl(external.address) & 3) * PORTS + (ntohs(external.port) - 1024u);
}

static uint64_t model_place(struct model *m, unsigned p, unsigned index)
{
	struct nat_endpoint external = {
	    .address = htonl(ntohl(inet_addr("203.0.113.4")) + index / PORTS),
	    .port = htons((uint16_t)(1024 + index % PORTS)),
	};
	return portpool_place(m->bed.pool, model_protocols[p], &external);
}

/* Whether the share may take a port of the parity in its blocks (2 = any). */
static bool model_has_free(struct model *m, uint32_t id, unsigned p, unsigned parity)
{
	for (unsigned i = 0; i < ADDRESSES * PORTS; i++) {
		if (m->holder[i / BLOCK] == id && m->count[i / BLOCK] && !m->owner[p][i] &&
		    (parity == 2 || i % 2 == parity))
			return true;
	}
	return false;
}

static void model_take(struct model *m, unsigned s, unsigned p, uint16_t like)
{
	struct portpool_share *share = &m->shares[s];
	bool had = model_has_free(m, share->id, p, 2);
	bool had_parity = model_has_free(m, share->id, p, like & 1);
	uint64_t place;
	bool granted;
	unsigned reason = portpool_allocate(m->bed.pool, share, 0, model_protocols[p], like, 3,
					    share->id, m->bed.now, &place, &granted);

	if (reason != NAT_REASON_NONE) {
		cr_assert_not(had, "a free port was not found");
		cr_assert_eq(reason == NAT_REASON_SUBSCRIBER_BLOCKS, share->n_blocks == 3);
		return;
	}
	unsigned index = model_index(m, place), block = index / BLOCK;
	cr_assert_eq(m->owner[p][index], 0, "U1: a port given out twice");
	cr_assert_eq(granted, !had);
	cr_assert(!had_parity || (index & 1) == (like & 1u), "parity was possible");
	if (m->count[block]) {
		cr_assert_eq(m->holder[block], share->id, "U2: another's block");
	} else {
		cr_assert(granted);
		cr_assert(m->holder[block] == 0 || m->holder[block] == share->id ||
			      monotime_sub_ms(m->bed.now, m->freed[block]) >= HOLD_DOWN,
			  "granted before the hold-down was over");
	}
	m->holder[block] = share->id;
	m->count[block]++;
	m->owner[p][index] = share->id;
}

static void model_drop(struct model *m, unsigned p, unsigned index)
{
	unsigned block = index / BLOCK;
	uint32_t id = m->owner[p][index];
	uint64_t place = model_place(m, p, index);

	cr_assert_eq(portpool_owner(m->bed.pool, place), id);
	m->owner[p][index] = 0;
	if (id == 1000) {
		portpool_unreserve(m->bed.pool, place);
		return;
	}
	m->count[block]--;
	cr_assert_eq(give(&m->bed, &m->shares[id - 1], place), m->count[block] == 0);
	if (m->count[block] == 0)
		m->freed[block] = m->bed.now;
}

static void model_step(struct model *m)
{
	struct bed *bed = &m->bed;
	unsigned p = random_below(&bed->random, 3);
	unsigned index = random_below(&bed->random, ADDRESSES * PORTS);

	switch (random_below(&bed->random, 16)) {
	case 0:
		if (random_below(&bed->random, 4) == 0)
			wait_ms(bed, random_below(&bed->random, HOLD_DOWN / 2));
		break;
	case 1:
		cr_assert_eq(portpool_reserve(bed->pool, model_place(m, p, index), 1000),
			     m->owner[p][index] ? ERR_EXISTS : 0);
		if (!m->owner[p][index])
			m->owner[p][index] = 1000;
		break;
	case 2: /* a subscriber goes away, and its blocks with it */
		for (unsigned s = random_below(&bed->random, SHARES), q = 0; q < 3; q++) {
			for (unsigned i = 0; i < ADDRESSES * PORTS; i++) {
				if (m->owner[q][i] == s + 1)
					model_drop(m, q, i);
			}
		}
		break;
	case 3:
	case 4:
	case 5:
	case 6:
		if (m->owner[p][index])
			model_drop(m, p, index);
		break;
	default:
		model_take(m, random_below(&bed->random, SHARES), p, (uint16_t)index);
	}
}

static void model_check(struct model *m)
{
	struct portpool_stats stats = stats_of(&m->bed, 0);
	uint32_t used = 0, blocks = 0, ports[SHARES] = {0};

	for (unsigned i = 0; i < 3 * ADDRESSES * PORTS; i++) {
		uint32_t id = m->owner[i % 3][i / 3];
		used += id != 0;
		if (id && id != 1000)
			ports[id - 1]++;
	}
	for (unsigned i = 0; i < BLOCKS; i++)
		blocks += m->count[i] != 0;
	cr_assert_eq(stats.ports_used, used);
	cr_assert_eq(stats.blocks_used, blocks);
	for (unsigned s = 0; s < SHARES; s++)
		cr_assert_eq(m->shares[s].n_ports, ports[s]);
}

Test(portpool, agrees_with_a_model, .timeout = 60)
{
	static struct model m;
	unsigned granted = 0;

	for (uint64_t seed = 1; seed <= 8; seed++) {
		memset(&m, 0, sizeof m);
		bed_init(&m.bed);
		m.bed.seed = seed;
		bed_pool(&m.bed, "m", 1024, 1024 + PORTS - 1, BLOCK);
		bed_prefix(&m.bed, 0, "203.0.113.4", 30);
		bed_start(&m.bed);
		for (unsigned s = 0; s < SHARES; s++)
			m.shares[s].id = s + 1;
		for (unsigned i = 0; i < 20000; i++) {
			model_step(&m);
			if (i % 100 == 0)
				model_check(&m);
		}
		granted += (unsigned)stats_of(&m.bed, 0).blocks_used;
		portpool_free(m.bed.pool);
	}
	cr_expect_gt(granted, 8);
}
