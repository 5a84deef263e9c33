/* SPDX-License-Identifier: Apache-2.0 */
/* Whole addresses: protocols without ports that could be changed, and addresses that are dedicated.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include "common/base/err.h"
#include "tests/support/portpool_bed.h"

/* Four addresses, eight blocks of 64 each; and another pool of two. */
static void bed_four(struct bed *bed)
{
	bed_init(bed);
	bed_pool(bed, "four", 1024, 1535, 64);
	bed_prefix(bed, 0, "203.0.113.0", 30);
	bed_pool(bed, "two", 1024, 1535, 64);
	bed_prefix(bed, 1, "198.51.100.0", 31);
	bed_start(bed);
}

static unsigned take_address(struct bed *bed, struct portpool_share *share, uint8_t protocol,
			     uint64_t *place)
{
	return portpool_allocate_address(bed->pool, share, 0, protocol, share->id, bed->now, place);
}

static nat_be32 address_of(struct bed *bed, uint64_t place)
{
	return portpool_endpoint(bed->pool, place).address;
}

Test(portpool_address, one_subscriber_at_a_time_for_each_address_and_protocol)
{
	struct portpool_share shares[5] = {{.id = 1}, {.id = 2}, {.id = 3}, {.id = 4}, {.id = 5}};
	uint64_t places[4], place;
	struct bed bed;

	bed_four(&bed);
	for (unsigned i = 0; i < 4; i++) {
		cr_assert_eq(take_address(&bed, &shares[i], NAT_GRE, &places[i]), NAT_REASON_NONE);
		cr_expect_eq(portpool_owner(bed.pool, places[i]), i + 1);
		cr_expect_eq(portpool_endpoint(bed.pool, places[i]).port, 0);
		cr_expect_eq(portpool_pool(bed.pool, places[i]), 0);
		struct nat_endpoint e = portpool_endpoint(bed.pool, places[i]);
		cr_expect_eq(portpool_place(bed.pool, NAT_GRE, &e), places[i]);
		for (unsigned j = 0; j < i; j++)
			cr_expect_neq(places[i], places[j]);
	}
	cr_expect_eq(take_address(&bed, &shares[4], NAT_GRE, &place), NAT_REASON_PORTS_EXHAUSTED);
	cr_expect_eq(stats_of(&bed, 0).exhausted, 1);
	cr_expect_eq(stats_of(&bed, 0).ports_used, 4);
	/* another protocol is another place */
	cr_expect_eq(take_address(&bed, &shares[4], NAT_ESP, &place), NAT_REASON_NONE);
	cr_expect_eq(
	    portpool_allocate_address(bed.pool, &shares[4], 0, NAT_TCP, 1, bed.now, &place),
	    NAT_REASON_PROTOCOL);
	portpool_free(bed.pool);
}

/* RFC 6888 REQ-2: the address that its ports have, when that is free; RFC 7857 section 4. */
Test(portpool_address, is_the_paired_one_when_that_is_free)
{
	for (unsigned round = 0; round < 20; round++) {
		struct portpool_share share = {.id = 1}, other = {.id = 2}, third = {.id = 3};
		struct bed bed;
		uint64_t first, place;

		bed_four(&bed);
		bed.seed += round;
		first = must_take(&bed, &share, NAT_UDP);
		cr_assert_eq(take_address(&bed, &share, NAT_SCTP, &place), NAT_REASON_NONE);
		cr_expect_eq(address_of(&bed, place), address_of(&bed, first));
		/* and the other way round: ports follow the address */
		cr_assert_eq(take_address(&bed, &other, NAT_GRE, &place), NAT_REASON_NONE);
		first = must_take(&bed, &other, NAT_UDP);
		cr_expect_eq(address_of(&bed, place), address_of(&bed, first));
		/* taken: any other, and the pairing of its ports stays what it was */
		third.address = other.address;
		cr_assert_eq(take_address(&bed, &third, NAT_GRE, &place), NAT_REASON_NONE);
		cr_expect_neq(address_of(&bed, place), address_of(&bed, first));
		cr_expect_eq(third.address, other.address);
		portpool_free(bed.pool);
	}
}

/* RFC 6888 REQ-8: nobody else's within the hold-down, the last one's at once. */
Test(portpool_address, rests_before_it_changes_hands)
{
	struct portpool_share shares[5] = {{.id = 1}, {.id = 2}, {.id = 3}, {.id = 4}, {.id = 5}};
	uint64_t places[4], place;
	struct bed bed;

	bed_four(&bed);
	for (unsigned i = 0; i < 4; i++)
		cr_assert_eq(take_address(&bed, &shares[i], NAT_ESP, &places[i]), NAT_REASON_NONE);
	portpool_release(bed.pool, &shares[2], places[2], HOLD_DOWN, bed.now, NULL);
	cr_expect_eq(portpool_owner(bed.pool, places[2]), 0);
	cr_expect_eq(take_address(&bed, &shares[4], NAT_ESP, &place), NAT_REASON_PORTS_EXHAUSTED);
	wait_ms(&bed, HOLD_DOWN - 1);
	cr_expect_eq(take_address(&bed, &shares[4], NAT_ESP, &place), NAT_REASON_PORTS_EXHAUSTED);
	cr_expect_eq(take_address(&bed, &shares[2], NAT_ESP, &place), NAT_REASON_NONE);
	cr_expect_eq(place, places[2]);
	portpool_release(bed.pool, &shares[2], places[2], HOLD_DOWN, bed.now, NULL);
	wait_ms(&bed, HOLD_DOWN + 64);
	cr_expect_eq(take_address(&bed, &shares[4], NAT_ESP, &place), NAT_REASON_NONE);
	cr_expect_eq(place, places[2]);
	portpool_free(bed.pool);
}

Test(portpool_address, a_removed_address_is_nobodys_until_it_is_released)
{
	struct portpool_share shares[4] = {{.id = 1}, {.id = 2}, {.id = 3}, {.id = 4}};
	uint64_t places[4], place;
	struct bed bed;
	char error[256];

	bed_four(&bed);
	for (unsigned i = 0; i < 4; i++)
		cr_assert_eq(take_address(&bed, &shares[i], NAT_GRE, &places[i]), NAT_REASON_NONE);
	bed_prefix(&bed, 0, "203.0.113.0", 31);
	bed.config.pools[0].prefixes[0] = bed.config.pools[0].prefixes[1];
	bed.config.pools[0].n_prefixes = 1;
	cr_assert_eq(portpool_reload(bed.pool, &bed.config, error, sizeof error), 0, "%s", error);
	unsigned retired = 0;
	for (unsigned i = 0; i < 4; i++) {
		retired += portpool_retired(bed.pool, places[i]);
		cr_expect_eq(portpool_owner(bed.pool, places[i]), i + 1);
		portpool_release(bed.pool, &shares[i], places[i], 0, bed.now, NULL);
	}
	cr_expect_eq(retired, 2);
	cr_expect_eq(stats_of(&bed, 0).ports_used, 0);
	for (unsigned i = 0; i < 2; i++) {
		cr_assert_eq(take_address(&bed, &shares[i], NAT_GRE, &place), NAT_REASON_NONE);
		cr_expect_not(portpool_retired(bed.pool, place));
	}
	cr_expect_eq(take_address(&bed, &shares[2], NAT_GRE, &place), NAT_REASON_PORTS_EXHAUSTED);
	portpool_free(bed.pool);
}

Test(portpool_address, nothing_is_allocated_on_a_dedicated_one)
{
	struct portpool_share shares[40];
	struct bed bed;
	uint64_t place;

	bed_four(&bed);
	nat_be32 dedicated = inet_addr("203.0.113.2");
	cr_expect_eq(place_of(&bed, NAT_ICMP, "203.0.113.2", 0), PORTPOOL_NONE);
	portpool_dedicate(bed.pool, dedicated, true);
	cr_expect_neq(place_of(&bed, NAT_ICMP, "203.0.113.2", 0), PORTPOOL_NONE);
	cr_expect_not(portpool_address_used(bed.pool, dedicated));
	unsigned blocks = 0;
	for (uint32_t i = 0; i < 40; i++) {
		shares[i] = (struct portpool_share){.id = i + 1};
		if (take(&bed, &shares[i], NAT_UDP, 0, NO_LIMIT, &place) != NAT_REASON_NONE)
			continue;
		blocks++;
		cr_expect_neq(address_of(&bed, place), dedicated);
	}
	cr_expect_eq(blocks, 24, "three addresses' blocks, not %u", blocks);
	for (uint32_t i = 0; i < 3; i++)
		cr_expect_eq(take_address(&bed, &shares[i], NAT_GRE, &place), NAT_REASON_NONE);
	cr_expect_eq(take_address(&bed, &shares[3], NAT_GRE, &place), NAT_REASON_PORTS_EXHAUSTED);
	/* its own: any port, any protocol */
	static const struct {
		uint8_t protocol;
		uint16_t port;
	} own[] = {{NAT_ICMP, 0}, {NAT_UDP, 5}, {NAT_TCP, 1024}, {NAT_TCP, 65535}, {NAT_GRE, 0}};
	for (unsigned i = 0; i < 5; i++) {
		place = place_of(&bed, own[i].protocol, "203.0.113.2", own[i].port);
		cr_expect_eq(portpool_reserve(bed.pool, place, 7), 0);
		cr_expect_eq(portpool_reserve(bed.pool, place, 8), ERR_EXISTS);
		cr_expect(portpool_address_used(bed.pool, dedicated));
		cr_expect_eq(portpool_owner(bed.pool, place), 7);
		portpool_unreserve(bed.pool, place);
	}
	cr_expect_not(portpool_address_used(bed.pool, dedicated));
	portpool_dedicate(bed.pool, dedicated, false);
	cr_expect_eq(take(&bed, &shares[39], NAT_UDP, 0, NO_LIMIT, &place), NAT_REASON_NONE);
	cr_expect_eq(address_of(&bed, place), dedicated);
	portpool_free(bed.pool);
}

/* Who has ports there keeps them until they are released; what comes next, comes elsewhere. */
Test(portpool_address, who_was_there_moves)
{
	struct portpool_share share = {.id = 1};
	struct bed bed;

	bed_four(&bed);
	uint64_t first = must_take(&bed, &share, NAT_UDP);
	nat_be32 dedicated = address_of(&bed, first);
	portpool_dedicate(bed.pool, dedicated, true);
	uint64_t second = must_take(&bed, &share, NAT_UDP);
	cr_expect_neq(address_of(&bed, second), dedicated);
	cr_expect_eq(share.n_detached, 1);
	cr_expect(portpool_address_used(bed.pool, dedicated));
	portpool_release(bed.pool, &share, first, HOLD_DOWN, bed.now, NULL);
	cr_expect_not(portpool_address_used(bed.pool, dedicated));
	cr_expect_eq(share.n_detached, 0);
	/* a reload changes nothing of it */
	char error[256];
	cr_assert_eq(portpool_reload(bed.pool, &bed.config, error, sizeof error), 0, "%s", error);
	for (unsigned i = 0; i < 30; i++) {
		struct portpool_share other = {.id = 2 + i};
		uint64_t place;
		if (take(&bed, &other, NAT_UDP, 0, NO_LIMIT, &place) == NAT_REASON_NONE)
			cr_expect_neq(address_of(&bed, place), dedicated);
	}
	portpool_free(bed.pool);
}
