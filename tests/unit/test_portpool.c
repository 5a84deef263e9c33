/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/err.h"
#include "tests/support/portpool_bed.h"

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
	cr_expect_eq(place_of(&bed, 4, "203.0.113.1", 1024), PORTPOOL_NONE);
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
