/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include "dataplane/ratelimit.h"

static struct ratelimit *limit_new(uint32_t per_second)
{
	uint64_t seed = 5;
	struct random_source random = random_seeded(&seed);
	struct ratelimit *limit = malloc(sizeof *limit);

	ratelimit_init(limit, &random);
	limit->per_second = per_second;
	return limit;
}

static unsigned allowed(struct ratelimit *limit, nat_be32 receiver, struct monotime now, unsigned n)
{
	unsigned yes = 0;
	for (unsigned i = 0; i < n; i++)
		yes += ratelimit_allow(limit, receiver, now);
	return yes;
}

Test(ratelimit, one_receiver_gets_an_eighth)
{
	struct ratelimit *limit = limit_new(800);
	struct monotime now = {SECOND_NS};

	cr_expect_eq(allowed(limit, 1, now, 1000), 100);
	cr_expect_eq(allowed(limit, 2, now, 1000), 100);
	cr_expect_eq(allowed(limit, 1, monotime_add_ms(now, 500), 1000), 50);
	free(limit);
}

Test(ratelimit, all_together_get_no_more_than_the_limit)
{
	struct ratelimit *limit = limit_new(800);
	struct monotime now = {SECOND_NS};
	unsigned yes = 0;

	for (nat_be32 receiver = 0; receiver < 100000; receiver++)
		yes += ratelimit_allow(limit, receiver, now);
	cr_expect_eq(yes, 800);
	free(limit);
}

Test(ratelimit, over_time_it_is_the_configured_rate)
{
	struct ratelimit *limit = limit_new(100);
	struct monotime now = {SECOND_NS};
	unsigned yes = 0;

	for (unsigned ms = 0; ms < 10000; ms++)
		for (nat_be32 receiver = 0; receiver < 20; receiver++)
			yes += ratelimit_allow(limit, receiver, monotime_add_ms(now, ms));
	cr_expect_geq(yes, 1000);
	cr_expect_leq(yes, 1101); /* the burst at the start comes on top */
	free(limit);
}

Test(ratelimit, a_small_limit_still_answers_a_traceroute)
{
	struct ratelimit *limit = limit_new(5);

	cr_expect_eq(allowed(limit, 1, (struct monotime){SECOND_NS}, 10), 4);
	free(limit);
}

Test(ratelimit, nothing_is_nothing)
{
	struct ratelimit *limit = limit_new(0);

	cr_expect_eq(allowed(limit, 1, (struct monotime){SECOND_NS}, 10), 0);
	free(limit);
}
