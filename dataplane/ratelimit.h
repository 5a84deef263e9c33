/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many ICMP errors the engine makes: so many a second in all, and an eighth of that to one
 * receiver, so that one host that provokes errors does not use up everybody's (RFC 1812 4.3.2.8).
 * Receivers share buckets by a keyed hash: fixed memory. Owner thread only.
 */
#ifndef DATAPLANE_RATELIMIT_H
#define DATAPLANE_RATELIMIT_H

#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/nat/types.h"

enum { RATELIMIT_BUCKETS = 1024 };

struct ratelimit {
	uint32_t per_second; /* 0 = nothing is allowed */
	uint64_t key;
	int64_t total_ns; /* GCRA's theoretical arrival times */
	int64_t receiver_ns[RATELIMIT_BUCKETS];
};

void ratelimit_init(struct ratelimit *limit, struct random_source *random);
/* Whether one more may be sent to receiver now; if so it is counted. */
bool ratelimit_allow(struct ratelimit *limit, nat_be32 receiver, struct monotime now);

#endif
