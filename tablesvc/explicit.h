/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Explicit dynamic mappings: what subscribers ask the table for by PCP (RFC 6887). MAP keeps a mapping
 * and lets anybody send to it for a lifetime; PEER makes or looks at one session. Limits, pooling,
 * fences and hold-downs are those of every other mapping. Same thread as the table.
 */
#ifndef TABLESVC_EXPLICIT_H
#define TABLESVC_EXPLICIT_H

#include "tablesvc/pcp.h"
#include "tablesvc/table.h"

struct explicit_answer {
	struct nat_endpoint external;
	uint32_t lifetime_s; /* also of the error, when that depends on a mapping; 0: by its kind */
};

/*
 * A MAP or PEER request of a subscriber of the realm. PCP_SUCCESS, or another pcp_result and nothing
 * changed. Not to be answered before the journal has committed explicit_position.
 */
unsigned explicit_request(struct table *table, uint8_t realm, nat_be32 subscriber,
			  const struct pcp_request *request, struct monotime now,
			  struct explicit_answer *out);

/* The journal's position that an answer given now depends on. */
uint64_t explicit_position(const struct table *table);

/* Seconds since explicit mappings were lost last: by the start, a reload or an operator (8.5). */
uint32_t explicit_epoch_s(const struct table *table, struct monotime now);

#endif
