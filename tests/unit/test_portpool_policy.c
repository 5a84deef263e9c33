/* SPDX-License-Identifier: Apache-2.0 */
/* What a pool may be told to do otherwise: pooling and its fallback, ports below 1024, rest. */
#include <criterion/criterion.h>
#include <arpa/inet.h>
#include <string.h>
#include "common/base/err.h"
#include "tests/support/portpool_bed.h"

static uint32_t address_of(struct bed *bed, uint64_t place)
{
	return ntohl(portpool_endpoint(bed->pool, place).address);
}

/* Two addresses with four blocks of 64 each. */
static void bed_two(struct bed *bed, enum config_pooling pooling, enum config_fallback fallback)
{
	bed_init(bed);
	bed_pool(bed, "p", 1024, 1279, 64);
	bed_prefix(bed, 0, "203.0.113.0", 31);
	bed->pools[0].pooling = pooling;
	bed->pools[0].fallback = fallback;
	bed_start(bed);
}

/* RFC 4787 REQ-2, RFC 6888 REQ-2: by default a subscriber stays with its address, and is refused.
 */
Test(portpool_policy, without_a_fallback_a_full_paired_address_refuses)
{
	struct portpool_share share = {.id = 1}, other = {.id = 2};
	struct bed bed;
	uint64_t place;

	bed_two(&bed, CONFIG_PAIRED, CONFIG_REFUSE);
	uint32_t paired = address_of(&bed, must_take(&bed, &share, NAT_UDP));
	for (unsigned i = 1; i < 256; i++)
		cr_assert_eq(address_of(&bed, must_take(&bed, &share, NAT_UDP)), paired);
	cr_expect_eq(take(&bed, &share, NAT_UDP, 0, NO_LIMIT, &place), NAT_REASON_PORTS_EXHAUSTED);
	cr_expect_neq(address_of(&bed, must_take(&bed, &other, NAT_UDP)), paired);
	portpool_free(bed.pool);
}

/* RFC 7857 section 4: another address while the paired one is out of ports, and back afterwards. */
Test(portpool_policy, another_address_helps_out_until_the_paired_one_has_a_port_again)
{
	struct portpool_share share = {.id = 1};
	struct bed bed;
	uint64_t at_home[256], place;

	bed_two(&bed, CONFIG_PAIRED, CONFIG_ANOTHER_ADDRESS);
	for (unsigned i = 0; i < 256; i++)
		at_home[i] = must_take(&bed, &share, NAT_UDP);
	uint32_t paired = address_of(&bed, at_home[0]);
	for (unsigned i = 0; i < 256; i++)
		cr_assert_eq(address_of(&bed, at_home[i]), paired);
	for (unsigned i = 0; i < 65; i++)
		cr_assert_neq(address_of(&bed, must_take(&bed, &share, NAT_UDP)), paired);
	cr_expect_eq(share.n_blocks, 6);
	/* TCP has its own ports at home. */
	cr_expect_eq(address_of(&bed, must_take(&bed, &share, NAT_TCP)), paired);
	/* One port comes free at home: that one, though the block elsewhere has room. */
	for (unsigned i = 0; i < 256; i += 17) {
		give(&bed, &share, at_home[i]);
		cr_assert_eq(must_take(&bed, &share, NAT_UDP), at_home[i]);
	}
	/* A whole block at home was given back: it again, before the other address. */
	for (unsigned i = 0; i < 256; i++) {
		if (port_of(&bed, at_home[i]) < 1088)
			give(&bed, &share, at_home[i]);
	}
	for (unsigned i = 0; i < 64; i++)
		cr_assert_eq(address_of(&bed, must_take(&bed, &share, NAT_UDP)), paired);
	/* The limit holds for all of them together. */
	cr_expect_eq(take(&bed, &share, NAT_UDP, 0, 6, &place), NAT_REASON_NONE);
	while (take(&bed, &share, NAT_UDP, 0, 6, &place) == NAT_REASON_NONE)
		;
	cr_expect_eq(share.n_blocks, 6);
	cr_expect_eq(take(&bed, &share, NAT_UDP, 0, 6, &place), NAT_REASON_SUBSCRIBER_BLOCKS);
	/* And when everything is used, it is refused. */
	while (take(&bed, &share, NAT_UDP, 0, NO_LIMIT, &place) == NAT_REASON_NONE)
		;
	cr_expect_eq(share.n_blocks, 8);
	cr_expect_eq(take(&bed, &share, NAT_UDP, 0, NO_LIMIT, &place), NAT_REASON_PORTS_EXHAUSTED);
	portpool_free(bed.pool);
}

/* One flow at a time over the other address must not make its blocks rest one after the other. */
Test(portpool_policy, a_block_elsewhere_is_come_back_to_as_well)
{
	struct portpool_share share = {.id = 1};
	struct bed bed;

	bed_two(&bed, CONFIG_PAIRED, CONFIG_ANOTHER_ADDRESS);
	for (unsigned i = 0; i < 256; i++)
		must_take(&bed, &share, NAT_UDP);
	uint64_t place = must_take(&bed, &share, NAT_UDP);
	unsigned block = port_of(&bed, place) / 64;
	for (unsigned i = 0; i < 20; i++) {
		cr_assert(give(&bed, &share, place));
		place = must_take(&bed, &share, NAT_UDP);
		cr_assert_eq(port_of(&bed, place) / 64, block);
	}
	cr_expect_eq(stats_of(&bed, 0).blocks_resting, 0);
	portpool_free(bed.pool);
}

/* The other address leaves the pool: what is there lives on, nothing more comes. */
Test(portpool_policy, an_address_that_helped_out_may_be_removed)
{
	struct portpool_share share = {.id = 1};
	struct bed bed;
	uint64_t elsewhere, place;
	char error[256] = "", text[INET_ADDRSTRLEN];

	bed_two(&bed, CONFIG_PAIRED, CONFIG_ANOTHER_ADDRESS);
	uint64_t at_home = must_take(&bed, &share, NAT_UDP);
	for (unsigned i = 1; i < 256; i++)
		must_take(&bed, &share, NAT_UDP);
	elsewhere = must_take(&bed, &share, NAT_UDP);
	nat_be32 home = portpool_endpoint(bed.pool, at_home).address;
	inet_ntop(AF_INET, &home, text, sizeof text);
	bed.pools[0].n_prefixes = 0;
	bed_prefix(&bed, 0, text, 32);
	cr_assert_eq(portpool_reload(bed.pool, &bed.config, error, sizeof error), 0, "%s", error);
	cr_expect(portpool_retired(bed.pool, elsewhere));
	cr_expect_eq(portpool_owner(bed.pool, elsewhere), 1);
	cr_expect_eq(take(&bed, &share, NAT_UDP, 0, NO_LIMIT, &place), NAT_REASON_PORTS_EXHAUSTED);
	cr_expect(give(&bed, &share, elsewhere));
	cr_expect_eq(share.n_blocks, 4);
	portpool_free(bed.pool);
}

Test(portpool_policy, arbitrary_pooling_uses_every_address)
{
	struct portpool_share share = {.id = 1};
	struct bed bed;
	unsigned first = 0;

	bed_init(&bed);
	bed_pool(&bed, "p", 1024, 2047, 64);
	bed_prefix(&bed, 0, "203.0.113.0", 31);
	bed.pools[0].pooling = CONFIG_ARBITRARY;
	bed_start(&bed);
	for (unsigned i = 0; i < 16 * 64; i++)
		first += address_of(&bed, must_take(&bed, &share, NAT_UDP)) & 1;
	cr_expect(first >= 2 * 64 && first <= 14 * 64, "%u of 1024 ports", first);
	cr_expect_eq(share.n_blocks, 16, "as few blocks as can be");
	for (unsigned i = 0; i < 16 * 64; i++)
		must_take(&bed, &share, NAT_UDP);
	cr_expect_eq(share.n_blocks, 32, "and all of them, if need be");
	portpool_free(bed.pool);
}

/* ---- RFC 4787 REQ-3a ---- */

static void bed_low(struct bed *bed, uint16_t first, uint16_t last)
{
	bed_init(bed);
	bed_pool(bed, "low", first, last, 256);
	bed_prefix(bed, 0, "203.0.113.1", 32);
	bed->pools[0].low_ports = true;
	bed_start(bed);
}

/* RFC 4787 REQ-3a: both classes are kept, port 0 is nobody's, and parity holds beside them. */
Test(portpool_policy, sources_below_1024_get_ports_below_1024)
{
	struct portpool_share shares[2] = {{.id = 1}, {.id = 2}};
	static bool seen[65536];
	struct bed bed;
	uint64_t place;

	bed_low(&bed, 1, 65535);
	for (unsigned i = 0; i < 200; i++) {
		struct portpool_share *share = &shares[i % 2];
		cr_assert_eq(take(&bed, share, NAT_UDP, (uint16_t)(i % 1024), 8, &place), 0);
		uint16_t low = port_of(&bed, place);
		cr_assert(low > 0 && low < 1024 && !seen[low], "%u", low);
		cr_assert_eq(low % 2, i % 2);
		seen[low] = true;
		cr_assert_eq(take(&bed, share, NAT_UDP, (uint16_t)(1024 + i), 8, &place), 0);
		uint16_t high = port_of(&bed, place);
		cr_assert(high >= 1024 && !seen[high], "%u", high);
		seen[high] = true;
	}
	/* An identifier is no port: it has no classes. */
	cr_assert_eq(take(&bed, &shares[0], NAT_ICMP, 7, 8, &place), 0);
	cr_expect_geq(port_of(&bed, place), 1024);
	portpool_free(bed.pool);
}

/* The four low blocks go, then they are from 1024 on; the others never come below. */
Test(portpool_policy, low_ports_fall_back_to_high_ones_and_never_the_other_way)
{
	struct portpool_share shares[6];
	struct bed bed;
	uint64_t place;
	unsigned low = 0, all = 0;

	bed_low(&bed, 1, 1535); /* four blocks below, two above */
	for (unsigned i = 0; i < 6; i++)
		shares[i] = (struct portpool_share){.id = i + 1};
	/* The first takes all there is below 1024: all but port 0. */
	for (unsigned i = 0; i < 1023; i++) {
		cr_assert_eq(
		    take(&bed, &shares[0], NAT_TCP, (uint16_t)(i % 1024), NO_LIMIT, &place), 0);
		cr_assert(port_of(&bed, place) > 0 && port_of(&bed, place) < 1024, "%u", i);
	}
	cr_assert_eq(take(&bed, &shares[0], NAT_TCP, 22, NO_LIMIT, &place), 0);
	cr_expect_geq(port_of(&bed, place), 1024, "falls back");
	cr_assert_eq(take(&bed, &shares[1], NAT_TCP, 22, NO_LIMIT, &place), 0);
	cr_expect_geq(port_of(&bed, place), 1024);
	portpool_free(bed.pool);

	bed_low(&bed, 1, 1535);
	for (unsigned i = 0; i < 6; i++)
		shares[i] = (struct portpool_share){.id = i + 1};
	while (take(&bed, &shares[0], NAT_TCP, 40000, NO_LIMIT, &place) == NAT_REASON_NONE) {
		low += port_of(&bed, place) < 1024;
		all++;
	}
	cr_expect_eq(low, 0);
	cr_expect_eq(all, 512);
	portpool_free(bed.pool);
}

/* A low block is a wish: it is not taken as the last one that the limit allows. */
Test(portpool_policy, a_low_block_does_not_use_up_the_limit)
{
	struct portpool_share share = {.id = 1};
	struct bed bed;
	uint64_t place;

	bed_low(&bed, 512, 65535);
	cr_assert_eq(take(&bed, &share, NAT_UDP, 700, 1, &place), 0);
	cr_expect_geq(port_of(&bed, place), 1024);
	cr_assert_eq(take(&bed, &share, NAT_UDP, 700, 2, &place), 0);
	cr_expect_geq(port_of(&bed, place), 1024);
	cr_assert_eq(take(&bed, &share, NAT_UDP, 700, 3, &place), 0);
	cr_expect(port_of(&bed, place) < 1024 && port_of(&bed, place) >= 512);
	portpool_free(bed.pool);
}

/* A low block comes back after its rest, port 0 still being nobody's; also to another layout. */
Test(portpool_policy, low_blocks_rest_and_come_again)
{
	struct portpool_share first = {.id = 1}, second = {.id = 2};
	struct bed bed;
	uint64_t places[1023], place;
	char error[256] = "";

	bed_low(&bed, 1, 1535);
	for (unsigned round = 0; round < 3; round++) {
		struct portpool_share *share = round % 2 ? &second : &first;
		for (unsigned i = 0; i < 1023; i++) {
			cr_assert_eq(take(&bed, share, NAT_UDP, 9, NO_LIMIT, &places[i]), 0);
			cr_assert(port_of(&bed, places[i]) > 0 && port_of(&bed, places[i]) < 1024);
		}
		for (unsigned i = 0; i < 1023; i++)
			give(&bed, share, places[i]);
		cr_expect_eq(stats_of(&bed, 0).ports_used, 0);
		cr_assert_eq(take(&bed, round % 2 ? &first : &second, NAT_UDP, 9, NO_LIMIT, &place),
			     0);
		cr_assert_geq(port_of(&bed, place), 1024, "those below rest");
		give(&bed, round % 2 ? &first : &second, place);
		wait_ms(&bed, HOLD_DOWN + 64);
	}
	/* Removed, and added again as an address without low ports. */
	bed.pools[0].n_prefixes = 0;
	bed_prefix(&bed, 0, "203.0.113.2", 32);
	cr_assert_eq(portpool_reload(bed.pool, &bed.config, error, sizeof error), 0, "%s", error);
	bed_prefix(&bed, 0, "203.0.113.1", 32);
	bed.pools[0].port_first = 1024;
	bed.pools[0].low_ports = false;
	bed.pools[0].n_prefixes = 1;
	bed.pools[0].prefixes[0].address = inet_addr("203.0.113.1");
	cr_assert_eq(portpool_reload(bed.pool, &bed.config, error, sizeof error), 0, "%s", error);
	for (unsigned i = 0; i < 512; i++)
		cr_assert_geq(port_of(&bed, must_take(&bed, &second, NAT_UDP)), 1024);
	portpool_free(bed.pool);
}

/* What static mappings have of a low block is left out; they may have port 22 as before. */
Test(portpool_policy, statics_below_1024_beside_low_ports)
{
	struct portpool_share share = {.id = 1};
	struct bed bed;
	uint64_t place;

	bed_low(&bed, 1, 65535);
	for (uint16_t port = 1; port < 1024; port++) {
		if (port != 500)
			cr_assert_eq(portpool_reserve(
					 bed.pool, place_of(&bed, NAT_UDP, "203.0.113.1", port), 9),
				     0);
	}
	cr_expect_eq(place_of(&bed, NAT_UDP, "203.0.113.1", 0), PORTPOOL_NONE);
	cr_assert_eq(take(&bed, &share, NAT_UDP, 500, 8, &place), 0);
	cr_expect_eq(port_of(&bed, place), 500);
	cr_assert_eq(take(&bed, &share, NAT_UDP, 500, 8, &place), 0);
	cr_expect_geq(port_of(&bed, place), 1024);
	portpool_free(bed.pool);
}

/* ---- rest ---- */

/* RFC 6888 REQ-8: a share made anew with the same id is the same subscriber, and no other is. */
Test(portpool_policy, what_a_forgotten_share_gave_back_is_kept_for_it)
{
	enum { N = 3000 };
	static struct portpool_share shares[N];
	static uint64_t places[N];
	struct bed bed;
	unsigned same = 0;

	bed_init(&bed);
	bed_pool(&bed, "p", 1024, 65535, 64);
	bed_prefix(&bed, 0, "203.0.113.0", 29);
	bed_start(&bed);
	for (uint32_t i = 0; i < N; i++) {
		shares[i] = (struct portpool_share){.id = i * 2654435761u | 1};
		places[i] = must_take(&bed, &shares[i], NAT_UDP);
	}
	for (unsigned i = 0; i < N; i++)
		give(&bed, &shares[i], places[i]);
	cr_expect_eq(stats_of(&bed, 0).blocks_resting, N);
	for (uint32_t i = 0; i < N; i++) {
		shares[i] = (struct portpool_share){.id = i * 2654435761u | 1};
		uint64_t place = must_take(&bed, &shares[i], NAT_UDP);
		same += place / 64 == places[i] / 64;
	}
	cr_expect_eq(same, N);
	cr_expect_eq(stats_of(&bed, 0).blocks_resting, 0);
	portpool_free(bed.pool);
}

/* Nothing is granted before the time, and everything from then on; statics do not wait. */
Test(portpool_policy, blocks_may_be_held_after_a_start)
{
	struct portpool_share share = {.id = 1};
	struct bed bed;
	uint64_t place;

	bed_small(&bed);
	portpool_hold(bed.pool, monotime_add_ms(bed.now, HOLD_DOWN));
	cr_expect_eq(take(&bed, &share, NAT_UDP, 0, 8, &place), NAT_REASON_HOLD_DOWN);
	cr_expect_eq(portpool_claim(bed.pool, &share, 0,
				    place_of(&bed, NAT_UDP, "203.0.113.1", 1100), 8, 1, bed.now,
				    NULL),
		     NAT_REASON_HOLD_DOWN);
	cr_expect_eq(portpool_reserve(bed.pool, place_of(&bed, NAT_TCP, "203.0.113.1", 1100), 9),
		     0);
	wait_ms(&bed, HOLD_DOWN - 1);
	cr_expect_eq(take(&bed, &share, NAT_UDP, 0, 8, &place), NAT_REASON_HOLD_DOWN);
	wait_ms(&bed, 1);
	cr_expect_eq(take(&bed, &share, NAT_UDP, 0, 8, &place), NAT_REASON_NONE);
	portpool_free(bed.pool);
}

/* RFC 6888 REQ-11C: the mark is passed before the pool is out of blocks. */
Test(portpool_policy, passing_the_mark_is_seen)
{
	static struct portpool_share shares[8];
	struct bed bed;
	uint64_t places[8];

	bed_init(&bed);
	bed_pool(&bed, "small", 1024, 1535, 64);
	bed_prefix(&bed, 0, "203.0.113.1", 32);
	bed.pools[0].warn_above = 75;
	bed_start(&bed);
	for (uint32_t i = 0; i < 8; i++) {
		cr_expect_eq(stats_of(&bed, 0).above, i > 6, "%u", i);
		shares[i] = (struct portpool_share){.id = i + 1};
		places[i] = must_take(&bed, &shares[i], NAT_UDP);
	}
	cr_expect_eq(stats_of(&bed, 0).blocks_free, 0);
	/* A block that rests cannot be had either. */
	give(&bed, &shares[0], places[0]);
	give(&bed, &shares[1], places[1]);
	cr_expect(stats_of(&bed, 0).above);
	wait_ms(&bed, HOLD_DOWN + 64);
	cr_expect_not(stats_of(&bed, 0).above);
	portpool_free(bed.pool);
}
