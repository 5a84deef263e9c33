/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <arpa/inet.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/err.h"
#include "tests/support/portpool_bed.h"

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
