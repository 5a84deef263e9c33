/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/ratelimit.h"

#include <string.h>

enum { RECEIVER_SHARE = 8, RECEIVER_BURST_MIN = 4 };

void ratelimit_init(struct ratelimit *limit, struct random_source *random)
{
	memset(limit, 0, sizeof *limit);
	limit->key = random->next(random->context) | 1;
}

/*
 * The generic cell rate algorithm: *arrival is when the bucket would be empty; a bucket of "burst"
 * tokens is used up when that lies burst intervals ahead.
 */
static bool bucket_has(int64_t arrival, int64_t interval, int64_t burst, int64_t now)
{
	return arrival - now <= (burst - 1) * interval;
}

static int64_t bucket_take(int64_t arrival, int64_t interval, int64_t now)
{
	return (arrival > now ? arrival : now) + interval;
}

bool ratelimit_allow(struct ratelimit *limit, nat_be32 receiver, struct monotime now)
{
	if (limit->per_second == 0)
		return false;

	uint32_t share = limit->per_second / RECEIVER_SHARE;
	if (share == 0)
		share = 1;
	int64_t total_interval = SECOND_NS / limit->per_second;
	int64_t interval = SECOND_NS / share;
	int64_t burst = share > RECEIVER_BURST_MIN ? share : RECEIVER_BURST_MIN;
	int64_t *bucket = &limit->receiver_ns[receiver * limit->key >> 54];

	if (!bucket_has(*bucket, interval, burst, now.ns) ||
	    !bucket_has(limit->total_ns, total_interval, limit->per_second, now.ns))
		return false;
	*bucket = bucket_take(*bucket, interval, now.ns);
	limit->total_ns = bucket_take(limit->total_ns, total_interval, now.ns);
	return true;
}
