/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include "common/base/quota.h"

enum { SLOTS = 64, CAPACITY = 16, SHARE = 6 };

static struct quota *quota;
static uint64_t state;
static struct random_source source;

static void setup(void)
{
	state = 1;
	source = random_seeded(&state);
	cr_assert_eq(quota_new(SLOTS, CAPACITY, SHARE, &source, &quota), 0);
}

static void teardown(void)
{
	quota_free(quota);
}

TestSuite(quota, .init = setup, .fini = teardown);

Test(quota, a_source_over_its_share_gives_its_own_oldest)
{
	quota_enter(quota, 60, 2, 1); /* older than all of the flood */
	for (uint32_t i = 0; i < SHARE; i++) {
		cr_assert_eq(quota_victim(quota, 1, 1, QUOTA_NONE), QUOTA_NONE);
		quota_enter(quota, i, 1, 1);
	}
	for (uint32_t i = SHARE; i < 50; i++) {
		cr_assert_eq(quota_victim(quota, 1, 1, QUOTA_NONE), i - SHARE);
		quota_leave(quota, i - SHARE);
		quota_enter(quota, i, 1, 1);
	}
	cr_expect_eq(quota_oldest(quota), 60, "the other source is untouched");
	cr_expect_eq(quota_used(quota), SHARE + 1);
}

Test(quota, when_all_is_taken_the_oldest_goes)
{
	for (uint32_t i = 0; i < CAPACITY; i++) {
		cr_assert_eq(quota_victim(quota, i, 1, QUOTA_NONE), QUOTA_NONE);
		quota_enter(quota, i, i, 1);
	}
	cr_expect_eq(quota_victim(quota, 100, 1, QUOTA_NONE), 0);
	quota_leave(quota, 0);
	quota_leave(quota, 0); /* nothing */
	cr_expect_eq(quota_victim(quota, 100, 1, QUOTA_NONE), QUOTA_NONE);
	cr_expect_eq(quota_victim(quota, 100, 2, QUOTA_NONE), 1);
	cr_expect_eq(quota_victim(quota, 100, 2, 1), 2, "1 is to be kept");
}

Test(quota, weights_count_and_what_cannot_fit_is_said)
{
	quota_enter(quota, 0, 7, 4);
	quota_grow(quota, 0, 2);
	cr_expect_eq(quota_used(quota), 6);
	cr_expect_eq(quota_victim(quota, 7, 1, 0), QUOTA_FULL, "only what is to be kept");
	cr_expect_eq(quota_victim(quota, 7, 1, QUOTA_NONE), 0);
	cr_expect_eq(quota_victim(quota, 8, SHARE + 1, QUOTA_NONE), QUOTA_FULL);
	cr_expect_eq(quota_weight(quota, 0), 6);
	quota_leave(quota, 0);
	cr_expect_eq(quota_weight(quota, 0), 0);
	cr_expect_eq(quota_used(quota), 0);
	cr_expect_eq(quota_oldest(quota), QUOTA_NONE);
}

/* Against a plain list: order and sums. */
Test(quota, agrees_with_a_plain_list)
{
	uint32_t order[SLOTS], weight[SLOTS], n = 0, sum = 0;
	for (unsigned step = 0; step < 20000; step++) {
		uint32_t slot = random_below(&source, SLOTS), at = 0;
		while (at < n && order[at] != slot)
			at++;
		if (at < n && random_below(&source, 3) == 0) {
			weight[at]++;
			sum++;
			quota_grow(quota, slot, 1);
		} else if (at < n) {
			sum -= weight[at];
			n--;
			for (; at < n; at++) {
				order[at] = order[at + 1];
				weight[at] = weight[at + 1];
			}
			quota_leave(quota, slot);
		} else {
			order[n] = slot;
			weight[n] = random_below(&source, 3);
			sum += weight[n];
			quota_enter(quota, slot, random_below(&source, 5), weight[n++]);
		}
		cr_assert_eq(quota_used(quota), sum);
		cr_assert_eq(quota_oldest(quota), n ? order[0] : QUOTA_NONE);
	}
}
