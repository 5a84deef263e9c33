/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Negative answers: external endpoints that had no mapping a moment ago. Kept for at most what the
 * answer allows and NEGATIVE_TTL_MAX_MS, absolute (a hit does not prolong it). Bounded: a
 * direct-mapped table, where a newer answer replaces an older one.
 */
#ifndef DATAPLANE_NEGATIVE_H
#define DATAPLANE_NEGATIVE_H

#include <stdbool.h>
#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/nat/types.h"

enum { NEGATIVE_TTL_MAX_MS = 1000, NEGATIVE_BITS = 12 };

struct negative {
	uint64_t key;
	struct negative_entry {
		nat_be32 address;
		nat_be16 port;
		uint8_t protocol;
		struct monotime until;
	} entries[1 << NEGATIVE_BITS];
};

void negative_init(struct negative *negative, struct random_source *random);
/* The destination of the tuple is the endpoint meant, in all of these. */
void negative_add(struct negative *negative, const struct nat_tuple *tuple, uint32_t ttl_ms,
		  struct monotime now);
bool negative_hit(const struct negative *negative, const struct nat_tuple *tuple,
		  struct monotime now);
void negative_remove(struct negative *negative, const struct nat_tuple *tuple);
void negative_clear(struct negative *negative);

#endif
