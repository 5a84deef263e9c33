/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <string.h>
#include "common/base/random.h"
#include "dataplane/ranges.h"

Test(ranges, pieces_in_any_order_make_it_complete)
{
	struct ranges r = {0};

	cr_expect_eq(ranges_add(&r, 64, 100, true), RANGE_NEW);
	cr_expect_eq(ranges_add(&r, 0, 32, false), RANGE_NEW);
	cr_expect_not(ranges_complete(&r));
	cr_expect_eq(ranges_add(&r, 32, 64, false), RANGE_NEW);
	cr_expect(ranges_complete(&r));
}

/* RFC 5722, RFC 1858: what repeats is told from what overlaps. */
Test(ranges, repeated_is_not_overlapping)
{
	struct ranges r = {0};

	ranges_add(&r, 32, 64, false);
	ranges_add(&r, 64, 96, false);
	ranges_add(&r, 128, 160, false);
	cr_expect_eq(ranges_add(&r, 32, 64, false), RANGE_AGAIN);
	cr_expect_eq(ranges_add(&r, 40, 48, false), RANGE_DUPLICATE);
	cr_expect_eq(ranges_add(&r, 40, 72, false), RANGE_DUPLICATE, "over two pieces that touch");
	cr_expect_eq(ranges_add(&r, 32, 96, false), RANGE_DUPLICATE);
	cr_expect_eq(ranges_add(&r, 24, 40, false), RANGE_BAD);
	cr_expect_eq(ranges_add(&r, 88, 104, false), RANGE_BAD);
	cr_expect_eq(ranges_add(&r, 88, 136, false), RANGE_BAD);
	cr_expect_eq(ranges_add(&r, 0, 200, false), RANGE_BAD);
}

Test(ranges, nothing_lies_behind_the_end)
{
	struct ranges r = {0};

	ranges_add(&r, 64, 96, false);
	cr_expect_eq(ranges_add(&r, 0, 64, true), RANGE_BAD, "an end before what came");
	cr_expect_eq(ranges_add(&r, 96, 128, true), RANGE_NEW);
	cr_expect_eq(ranges_add(&r, 128, 136, false), RANGE_BAD);
	cr_expect_eq(ranges_add(&r, 0, 8, true), RANGE_BAD);
}

/* The largest datagram in the smallest pieces, in order, has many more than there is room for. */
Test(ranges, pieces_that_touch_make_room)
{
	struct ranges r = {0};

	for (uint32_t at = 0; at < 8000; at += 8)
		cr_assert_eq(ranges_add(&r, at, at + 8, at == 7992), RANGE_NEW);
	cr_expect(ranges_complete(&r));
	memset(&r, 0, sizeof r);
	for (uint32_t i = 0; i < RANGES_MAX; i++)
		cr_assert_eq(ranges_add(&r, 16 * i, 16 * i + 8, false), RANGE_NEW);
	cr_expect_eq(ranges_add(&r, 16 * RANGES_MAX, 16 * RANGES_MAX + 8, false), RANGE_BAD);
}

/* Against a map of bytes. */
Test(ranges, agrees_with_a_map_of_bytes)
{
	uint64_t state = 1;
	struct random_source random = random_seeded(&state);

	for (unsigned round = 0; round < 3000; round++) {
		struct ranges r = {0};
		bool came[64] = {false};
		for (unsigned step = 0; step < 40; step++) {
			uint32_t begin = random_below(&random, 60);
			uint32_t end = begin + 1 + random_below(&random, 4), seen = 0;
			for (uint32_t i = begin; i < end; i++)
				seen += came[i];
			enum range_fate fate = ranges_add(&r, begin, end, false);
			if (seen == 0)
				cr_assert_eq(fate, RANGE_NEW);
			else if (seen == end - begin)
				cr_assert(fate == RANGE_AGAIN || fate == RANGE_DUPLICATE);
			else
				cr_assert_eq(fate, RANGE_BAD);
			for (uint32_t i = begin; fate == RANGE_NEW && i < end; i++)
				came[i] = true;
		}
	}
}
