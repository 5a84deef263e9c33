/* SPDX-License-Identifier: Apache-2.0 */
/* RFC 7422: the computation there and back, its map, and the port pool that goes by it. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/err.h"
#include "tablesvc/deterministic.h"
#include "tests/support/portpool_bed.h"

struct world {
	struct bed bed;
	struct config_realm realms[2];
	struct config_prefix inside[2][4];
};

/* Realm 7 with 10.0.0.0/28 and 10.9.0.0/30, realm 9 with 10.0.0.0/29; three addresses apart. */
static void world_init(struct world *w, uint16_t ports, uint16_t overflow)
{
	memset(w, 0, sizeof *w);
	bed_init(&w->bed);
	bed_pool(&w->bed, "fixed", 1024, 65535, 64);
	bed_prefix(&w->bed, 0, "203.0.113.4", 31);
	bed_prefix(&w->bed, 0, "198.51.100.9", 32);
	w->bed.pools[0].mode = CONFIG_DETERMINISTIC;
	w->bed.pools[0].ports_per_subscriber = ports;
	w->bed.pools[0].dynamic_overflow = overflow;
	w->inside[0][0] = (struct config_prefix){inet_addr("10.0.0.0"), 28};
	w->inside[0][1] = (struct config_prefix){inet_addr("10.9.0.0"), 30};
	w->inside[1][0] = (struct config_prefix){inet_addr("10.0.0.0"), 29};
	w->realms[0] =
	    (struct config_realm){.name = "a", .id = 7, .prefixes = w->inside[0], .n_prefixes = 2};
	w->realms[1] =
	    (struct config_realm){.name = "b", .id = 9, .prefixes = w->inside[1], .n_prefixes = 1};
	w->bed.config.realms = w->realms;
	w->bed.config.n_realms = 2;
}

static struct deterministic *plan_of(struct world *w)
{
	struct deterministic *plan = NULL;
	char why[400] = "";

	cr_assert_eq(deterministic_new(&w->bed.config, 0, &plan, why, sizeof why), 0, "%s", why);
	return plan;
}

struct size {
	uint16_t ports, overflow, each, ranges;
};

ParameterizedTestParameters(deterministic, is_one_to_one)
{
	/* 28 subscribers on 3 addresses: 10 an address; 1008 blocks. */
	static struct size rows[] = {
	    {0, 0, 100 * 64, 10}, {0, 50, 50 * 64, 10}, {6400, 0, 6400, 10},
	    {64, 0, 64, 1008},	  {1024, 20, 1024, 50}, {0, 90, 10 * 64, 10},
	};
	return cr_make_param_array(struct size, rows, sizeof rows / sizeof rows[0]);
}

/* RFC 7422 section 2: whose an endpoint is follows from it, for every endpoint that there is. */
ParameterizedTest(struct size *row, deterministic, is_one_to_one)
{
	static const char outside[3][16] = {"203.0.113.4", "203.0.113.5", "198.51.100.9"};
	struct world w;
	struct deterministic_range range;
	unsigned found = 0;

	world_init(&w, row->ports, row->overflow);
	struct deterministic *plan = plan_of(&w);
	cr_expect_eq(plan->subscribers, 28);
	cr_expect_eq(plan->addresses, 3);
	cr_expect_eq(plan->ratio, 10);
	cr_expect_eq(plan->ports, row->each);
	cr_expect_eq(plan->ranges, row->ranges);
	for (unsigned a = 0; a < 3; a++) {
		for (unsigned port = 1; port < 65536; port++) {
			struct nat_endpoint external = endpoint(outside[a], (uint16_t)port);
			uint8_t realm;
			nat_be32 subscriber;
			if (!deterministic_subscriber(plan, &external, &realm, &subscriber))
				continue;
			found++;
			cr_assert(deterministic_range(plan, realm, subscriber, &range));
			cr_assert_eq(range.address, external.address);
			cr_assert(port >= range.first && port <= range.last);
			cr_assert_eq(range.last - range.first + 1, row->each);
		}
	}
	cr_expect_eq(found, 28u * row->each, "each subscriber's whole range, and nothing else");
	cr_expect_not(deterministic_range(plan, 7, inet_addr("10.0.0.16"), &range));
	cr_expect_not(deterministic_range(plan, 9, inet_addr("10.9.0.0"), &range));
	cr_expect_not(deterministic_range(plan, 8, inet_addr("10.0.0.0"), &range));
	deterministic_free(plan);
}

/* Neighbours are on different addresses, so that a small network does not fill one alone. */
Test(deterministic, subscribers_are_spread_over_the_addresses)
{
	struct world w;
	struct deterministic_range range[4];

	world_init(&w, 0, 0);
	struct deterministic *plan = plan_of(&w);
	for (uint32_t i = 0; i < 4; i++)
		cr_assert(deterministic_range(plan, 7, htonl(0x0a000000 + i), &range[i]));
	cr_expect_eq(range[0].address, inet_addr("203.0.113.4"));
	cr_expect_eq(range[1].address, inet_addr("203.0.113.5"));
	cr_expect_eq(range[2].address, inet_addr("198.51.100.9"));
	cr_expect_eq(range[3].address, inet_addr("203.0.113.4"));
	cr_expect_eq(range[0].first, 1024);
	cr_expect_eq(range[3].first, range[0].last + 1);
	deterministic_free(plan);
}

/* RFC 7422 section 3: what an operator keeps instead of a log. */
Test(deterministic, the_map_has_a_line_for_each_subscriber)
{
	struct world w;
	char *text = NULL;
	size_t size = 0;
	unsigned lines = 0;

	world_init(&w, 1024, 20);
	FILE *out = open_memstream(&text, &size);
	deterministic_print(&w.bed.config, out);
	fclose(out);
	struct deterministic *plan = plan_of(&w);
	cr_expect_eq(strncmp(text,
			     "# pool fixed: ratio 1:10, 1024 ports each from 1024 on, 28 "
			     "subscribers on 3 addresses\na 10.0.0.0 203.0.113.4 1024-2047\n",
			     112),
		     0, "%s", text);
	char *rest = NULL;
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char realm[8], inside[32], outside[32];
		unsigned first, last;
		uint8_t id;
		nat_be32 subscriber;
		if (line[0] == '#')
			continue;
		lines++;
		cr_assert_eq(
		    sscanf(line, "%7s %31s %31s %u-%u", realm, inside, outside, &first, &last), 5);
		struct nat_endpoint external = endpoint(outside, (uint16_t)last);
		cr_assert(deterministic_subscriber(plan, &external, &id, &subscriber));
		cr_expect_eq(subscriber, inet_addr(inside));
		cr_expect_eq(id, realm[0] == 'a' ? 7 : 9);
		cr_expect_eq(last - first, 1023);
	}
	cr_expect_eq(lines, 28);
	deterministic_free(plan);
	free(text);
}

Test(deterministic, what_does_not_fit_is_said_with_the_numbers)
{
	struct world w;
	struct deterministic *plan = NULL;
	char why[400] = "";

	world_init(&w, 7000 / 64 * 64, 0);
	cr_expect_eq(deterministic_new(&w.bed.config, 0, &plan, why, sizeof why), ERR_INVALID);
	cr_expect(strstr(why, "28 subscribers on 3 addresses, which is 10 an address"), "%s", why);
	cr_expect(strstr(why, "64512 fixed ports hold 9 ranges of 6976"), "%s", why);
	cr_expect(strstr(why, "ports_per_subscriber of 6400 at most"), "%s", why);
	w.inside[0][0].length = 16;
	cr_expect_eq(deterministic_new(&w.bed.config, 0, &plan, why, sizeof why), ERR_INVALID);
	cr_expect(strstr(why, "65548 subscribers on 3 addresses, which is 21850 an address"), "%s",
		  why);
	w.inside[0][0] = (struct config_prefix){0, 0}; /* all there are */
	cr_expect_eq(deterministic_new(&w.bed.config, 0, &plan, why, sizeof why), ERR_INVALID);
}

/* ---- the port pool ---- */

static struct portpool_share share_of(uint32_t id, uint8_t realm, const char *subscriber)
{
	return (struct portpool_share){
	    .id = id, .realm = realm, .subscriber = inet_addr(subscriber)};
}

/* Every port of the range, of each protocol, random and of the right parity first; no block. */
Test(deterministic, a_subscriber_has_its_range_and_nothing_else)
{
	static bool seen[65536];
	struct portpool_share share = share_of(1, 9, "10.0.0.3"),
			      other = share_of(2, 7, "10.0.0.0");
	struct world w;
	struct deterministic_range range;
	uint64_t place;
	bool granted;
	uint8_t realm;
	nat_be32 subscriber;

	world_init(&w, 1024, 0);
	bed_start(&w.bed);
	cr_assert(deterministic_range(portpool_deterministic(w.bed.pool, 0), 9, share.subscriber,
				      &range));
	for (unsigned i = 0; i < 1024; i++) {
		cr_assert_eq(portpool_allocate(w.bed.pool, &share, 0, NAT_UDP, 1, 1, 5, w.bed.now,
					       &place, &granted),
			     0);
		struct nat_endpoint external = portpool_endpoint(w.bed.pool, place);
		uint16_t port = ntohs(external.port);
		cr_assert_eq(external.address, range.address);
		cr_assert(port >= range.first && port <= range.last && !seen[port]);
		cr_assert_eq(port % 2, i < 512, "odd ones first: %u", i);
		cr_assert_not(granted, "nothing to log");
		seen[port] = true;
		cr_assert(
		    portpool_deterministic_subscriber(w.bed.pool, &external, &realm, &subscriber));
		cr_assert(realm == 9 && subscriber == share.subscriber);
	}
	cr_expect_eq(share.n_ports, 1024);
	cr_expect_eq(share.n_blocks, 0);
	cr_expect_eq(stats_of(&w.bed, 0).blocks_used, 16);
	cr_expect_eq(take(&w.bed, &share, NAT_UDP, 0, 8, &place), NAT_REASON_SUBSCRIBER_BLOCKS);
	cr_expect_eq(take(&w.bed, &share, NAT_TCP, 0, 8, &place), NAT_REASON_NONE);
	cr_expect_eq(take(&w.bed, &other, NAT_UDP, 0, 8, &place), NAT_REASON_NONE,
		     "others have theirs");
	struct portpool_share stranger = share_of(3, 7, "10.0.0.16");
	cr_expect_eq(take(&w.bed, &stranger, NAT_UDP, 0, 8, &place), NAT_REASON_NOT_CONFIGURED);
	/* Given back, it is free at once: nobody else ever has it (RFC 6888 REQ-8b). */
	place = place_of(&w.bed, NAT_UDP, "203.0.113.4", 1024);
	for (unsigned port = range.first; port <= range.last; port++) {
		char text[INET_ADDRSTRLEN];
		inet_ntop(AF_INET, &range.address, text, sizeof text);
		cr_assert_not(
		    give(&w.bed, &share, place_of(&w.bed, NAT_UDP, text, (uint16_t)port)));
	}
	cr_expect_eq(share.n_ports, 1);
	cr_expect_eq(stats_of(&w.bed, 0).blocks_resting, 0);
	cr_expect_eq(stats_of(&w.bed, 0).blocks_used, 2, "one of TCP's, one of the other's");
	portpool_free(w.bed.pool);
}

/* RFC 7422 section 2: what is over is granted as blocks, logged, limited, and rests. */
Test(deterministic, who_used_up_his_range_gets_blocks_of_the_overflow)
{
	struct portpool_share share = share_of(1, 7, "10.0.0.1"),
			      other = share_of(2, 7, "10.0.0.4");
	struct world w;
	struct deterministic_range range;
	uint64_t place, overflow[128];
	bool granted;
	uint8_t realm;
	nat_be32 subscriber;

	world_init(&w, 1024, 20); /* 806 blocks fixed, of them 50 ranges; 208 blocks for all */
	bed_start(&w.bed);
	cr_expect_eq(stats_of(&w.bed, 0).blocks_shared, 3 * 208);
	cr_assert(deterministic_range(portpool_deterministic(w.bed.pool, 0), 7, share.subscriber,
				      &range));
	for (unsigned i = 0; i < 1024; i++)
		cr_assert_eq(take(&w.bed, &share, NAT_UDP, 0, 2, &place), 0);
	for (unsigned i = 0; i < 128; i++) {
		cr_assert_eq(portpool_allocate(w.bed.pool, &share, 0, NAT_UDP, 0, 2, 5, w.bed.now,
					       &overflow[i], &granted),
			     0);
		cr_assert_eq(granted, i % 64 == 0, "%u", i);
		struct nat_endpoint external = portpool_endpoint(w.bed.pool, overflow[i]);
		cr_assert_eq(external.address, range.address, "paired with its range");
		cr_assert_geq(ntohs(external.port), 1024 + 800 * 64);
		cr_assert_not(
		    portpool_deterministic_subscriber(w.bed.pool, &external, &realm, &subscriber));
	}
	cr_expect_eq(take(&w.bed, &share, NAT_UDP, 0, 2, &place), NAT_REASON_SUBSCRIBER_BLOCKS);
	for (unsigned i = 0; i < 128; i++)
		give(&w.bed, &share, overflow[i]);
	cr_expect_eq(stats_of(&w.bed, 0).blocks_resting, 2);
	/* The range first again, as soon as it has a port. */
	place = place_of(&w.bed, NAT_UDP, "203.0.113.5", range.first);
	give(&w.bed, &share, place);
	uint64_t again;
	cr_assert_eq(take(&w.bed, &share, NAT_UDP, 0, 2, &again), 0);
	cr_expect_eq(again, place);
	/* Another subscriber of the address does not get what rests. */
	for (unsigned i = 0; i < 1024 + 206 * 64; i++)
		cr_assert_eq(take(&w.bed, &other, NAT_UDP, 0, NO_LIMIT, &place), 0, "%u", i);
	cr_expect_eq(take(&w.bed, &other, NAT_UDP, 0, NO_LIMIT, &place),
		     NAT_REASON_PORTS_EXHAUSTED);
	wait_ms(&w.bed, HOLD_DOWN + 64);
	cr_expect_eq(take(&w.bed, &other, NAT_UDP, 0, NO_LIMIT, &place), 0);
	portpool_free(w.bed.pool);
}

/* Static mappings may have any port; one certain port only inside one's own range. */
Test(deterministic, certain_ports)
{
	struct portpool_share share = share_of(1, 7, "10.0.0.0");
	struct world w;
	uint64_t place;

	world_init(&w, 64, 0);
	bed_start(&w.bed);
	for (uint16_t port = 1024; port < 1087; port++)
		cr_assert_eq(portpool_reserve(w.bed.pool,
					      place_of(&w.bed, NAT_UDP, "203.0.113.4", port), 900),
			     0);
	uint64_t last = place_of(&w.bed, NAT_UDP, "203.0.113.4", 1087);
	uint64_t others = place_of(&w.bed, NAT_UDP, "203.0.113.4", 1088);
	uint64_t taken = place_of(&w.bed, NAT_UDP, "203.0.113.4", 1030);
	cr_expect_eq(portpool_claim(w.bed.pool, &share, 0, others, 8, 1, w.bed.now, NULL),
		     NAT_REASON_PORTS_EXHAUSTED);
	cr_expect_eq(portpool_claim(w.bed.pool, &share, 0, taken, 8, 1, w.bed.now, NULL),
		     NAT_REASON_PORTS_EXHAUSTED);
	cr_expect_eq(portpool_claim(w.bed.pool, &share, 0, last, 8, 1, w.bed.now, NULL), 0);
	cr_expect_eq(take(&w.bed, &share, NAT_UDP, 0, 8, &place), NAT_REASON_SUBSCRIBER_BLOCKS);
	/* What is reserved is not the share's to give back. */
	give(&w.bed, &share, last);
	give(&w.bed, &share, taken);
	cr_expect_eq(portpool_owner(w.bed.pool, taken), 900);
	cr_expect_eq(take(&w.bed, &share, NAT_UDP, 0, 8, &place), 0);
	cr_expect_eq(place, last);
	portpool_free(w.bed.pool);
}

/* Fixed ranges are nobody else's, so there is nothing to wait for after a start; overflow waits. */
Test(deterministic, fixed_ranges_are_not_held_after_a_start)
{
	struct portpool_share share = share_of(1, 7, "10.0.0.0");
	struct world w;
	uint64_t place;

	world_init(&w, 64, 20);
	bed_start(&w.bed);
	portpool_hold(w.bed.pool, monotime_add_ms(w.bed.now, HOLD_DOWN));
	for (unsigned i = 0; i < 64; i++)
		cr_assert_eq(take(&w.bed, &share, NAT_UDP, 0, 8, &place), 0);
	cr_expect_eq(take(&w.bed, &share, NAT_UDP, 0, 8, &place), NAT_REASON_HOLD_DOWN);
	wait_ms(&w.bed, HOLD_DOWN);
	cr_expect_eq(take(&w.bed, &share, NAT_UDP, 0, 8, &place), 0);
	portpool_free(w.bed.pool);
}

/* A reload may add subscribers at the end; it may not give ports in use to somebody else (U2). */
Test(deterministic, a_reload_moves_nobody_who_has_a_port)
{
	struct portpool_share share = share_of(1, 7, "10.0.0.9"),
			      fresh = share_of(2, 9, "10.5.0.1");
	struct world w;
	uint64_t place, later;
	char error[500] = "";

	world_init(&w, 1024, 0);
	bed_start(&w.bed);
	place = must_take(&w.bed, &share, NAT_TCP);
	w.inside[1][1] = (struct config_prefix){inet_addr("10.5.0.0"), 30};
	w.realms[1].n_prefixes = 2;
	cr_expect_eq(portpool_reload(w.bed.pool, &w.bed.config, error, sizeof error), 0, "%s",
		     error);
	cr_expect_eq(portpool_owner(w.bed.pool, place), 1);
	cr_expect_eq(take(&w.bed, &fresh, NAT_TCP, 0, 8, &later), 0);
	/* In front: everybody would move. */
	w.inside[0][0].length = 27;
	cr_expect_eq(portpool_reload(w.bed.pool, &w.bed.config, error, sizeof error), ERR_INVALID);
	cr_expect(strstr(error, "cannot change while the service runs"), "%s", error);
	w.inside[0][0].length = 28;
	w.bed.pools[0].n_prefixes = 0; /* the addresses in another order */
	bed_prefix(&w.bed, 0, "198.51.100.9", 32);
	bed_prefix(&w.bed, 0, "203.0.113.4", 31);
	cr_expect_eq(portpool_reload(w.bed.pool, &w.bed.config, error, sizeof error), ERR_INVALID);
	/* Nothing in use, nothing to lose. */
	give(&w.bed, &share, place);
	give(&w.bed, &fresh, later);
	cr_expect_eq(portpool_reload(w.bed.pool, &w.bed.config, error, sizeof error), 0, "%s",
		     error);
	cr_expect_eq(take(&w.bed, &share, NAT_TCP, 0, 8, &later), 0);
	cr_expect_neq(later / 65536, place / 65536);
	/* To dynamic it cannot go while it runs: its blocks are cut otherwise. */
	w.bed.pools[0].mode = CONFIG_DYNAMIC;
	w.bed.pools[0].ports_per_subscriber = 0;
	cr_expect_eq(portpool_reload(w.bed.pool, &w.bed.config, error, sizeof error), ERR_INVALID);
	cr_expect(strstr(error, "mode"), "%s", error);
	portpool_free(w.bed.pool);
}

/* An address that was removed while in use comes back only when it is unused. */
Test(deterministic, a_removed_address_comes_back_when_it_is_unused)
{
	struct portpool_share share = share_of(1, 7, "10.0.0.0");
	struct world w;
	char error[500] = "";

	world_init(&w, 1024, 0);
	bed_start(&w.bed);
	uint64_t place = must_take(&w.bed, &share, NAT_TCP); /* on 203.0.113.4 */
	w.bed.pools[0].n_prefixes = 0;
	bed_prefix(&w.bed, 0, "198.51.100.9", 32);
	cr_assert_eq(portpool_reload(w.bed.pool, &w.bed.config, error, sizeof error), 0, "%s",
		     error);
	cr_expect(portpool_retired(w.bed.pool, place));
	bed_prefix(&w.bed, 0, "203.0.113.4", 31);
	cr_expect_eq(portpool_reload(w.bed.pool, &w.bed.config, error, sizeof error), ERR_INVALID);
	cr_expect(strstr(error, "last sessions still use"), "%s", error);
	give(&w.bed, &share, place);
	cr_expect_eq(share.n_ports, 0);
	cr_expect_eq(portpool_reload(w.bed.pool, &w.bed.config, error, sizeof error), 0, "%s",
		     error);
	portpool_free(w.bed.pool);
}
