/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a dataplane has to tell the table about sessions: FLAGS, RELEASE, ACTIVE, DROPPED. A bounded
 * queue that keeps each report until the table confirmed the batch that carried it, like a send
 * buffer; after a reconnect the unconfirmed ones go out again, in their order.
 *
 *   confirmed <= sent <= made      positions since the start; made - confirmed <= capacity
 */
#ifndef DATAPLANE_REPORTS_H
#define DATAPLANE_REPORTS_H

#include <stdbool.h>
#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/wire/wire.h"

struct reports;

struct report {
	uint64_t handle;
	int64_t seen_ms; /* the packet meant, on our clock; the age is made when it is sent */
	uint8_t op;	 /* enum wire_op */
	uint8_t tcp_flags, direction;
};

int reports_new(uint32_t capacity, struct random_source *random, struct reports **out);
void reports_free(struct reports *reports);
uint32_t reports_room(const struct reports *reports);
/* next_batch: the number of the next batch to be made. False when there is no room. */
bool reports_add(struct reports *reports, const struct report *report, uint64_t next_batch);
bool reports_unsent(const struct reports *reports);
/* Fills entries of the batch with the next unsent reports; returns how many. */
uint32_t reports_fill(struct reports *reports, struct wire_request *entries, uint32_t max,
		      uint64_t batch, struct monotime now);
/* The position behind what was sent so far; a confirmed batch hands it back. */
uint64_t reports_position(const struct reports *reports);
void reports_confirm(struct reports *reports, uint64_t position);
/* The streams are gone: everything unconfirmed is to be sent again. */
void reports_rewind(struct reports *reports);
/* A flush: what the reports were about is gone at both ends. */
void reports_clear(struct reports *reports);
/*
 * Whether RELEASE or DROPPED of the handle stands in a later batch than "asked": an answer to
 * "asked" must not be used. May say so of another handle (a small table of hashes); then a question
 * is asked twice.
 */
bool reports_took_back(const struct reports *reports, uint64_t handle, uint64_t asked);

#endif
