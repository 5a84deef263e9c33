/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A budget that strangers share. Its owner has numbered slots; a slot that is in the budget has a
 * weight and a source. All of them together weigh at most "capacity", those of one source at most
 * "share": a source that would have more makes room with its own oldest, so that nobody's flood is
 * at another's expense; when everything is taken the oldest of all goes.
 *
 * Sources fall into buckets by a secret key, and those of one bucket have one share together: there
 * is no state for each source that could run out, and nobody can choose his neighbours.
 *
 * Nothing is allocated after quota_new; every call takes constant time.
 */
#ifndef BASE_QUOTA_H
#define BASE_QUOTA_H

#include <stdint.h>
#include "common/base/random.h"

struct quota;

#define QUOTA_NONE UINT32_MAX	    /* no slot */
#define QUOTA_FULL (UINT32_MAX - 1) /* cannot be made to fit */

/* slots: numbered from 0. capacity and share in units of weight, share at most capacity. */
int quota_new(uint32_t slots, uint32_t capacity, uint32_t share, struct random_source *random,
	      struct quota **out);
void quota_free(struct quota *quota);

/*
 * Which slot has to leave before the source may have weight more: to be asked, and obeyed, until it
 * says QUOTA_NONE. keep is never named (QUOTA_NONE: all may be).
 */
uint32_t quota_victim(const struct quota *quota, uint64_t source, uint32_t weight, uint32_t keep);

/* The slot is the newest now. */
void quota_enter(struct quota *quota, uint32_t slot, uint64_t source, uint32_t weight);
/* Of a slot that is in: its age stays. */
void quota_grow(struct quota *quota, uint32_t slot, uint32_t weight);
/* Does nothing when it is not in. */
void quota_leave(struct quota *quota, uint32_t slot);

/* 0 when it is not in. */
uint32_t quota_weight(const struct quota *quota, uint32_t slot);
/* The slot that entered first, or QUOTA_NONE. */
uint32_t quota_oldest(const struct quota *quota);
uint32_t quota_used(const struct quota *quota);

#endif
