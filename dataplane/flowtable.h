/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flow table: the dataplane's bounded cache of what tuples become. One writer (the owner
 * thread, which is the cache), any number of readers. Pairs are inserted, opened, evicted and
 * removed together (U6). Full buckets evict the least recently seen pair (the caller learns which,
 * and releases it at the service). Allocates at creation only.
 */
#ifndef DATAPLANE_FLOWTABLE_H
#define DATAPLANE_FLOWTABLE_H

#include "common/base/clock.h"
#include "common/nat/slot.h"
#include "common/base/random.h"

struct flowtable;

/*
 * One pair, as the writer sees it, always in the orientation in which it was inserted, whichever
 * tuple found it. A direction not seen since the insert has a last_seen NAT_SLOT_UNSEEN_MS before.
 */
struct flow {
	struct nat_tuple tuple;     /* of the packets that asked; the reverse follows from it */
	struct nat_rewrite rewrite;
	uint64_t handle, peer_handle;
	uint8_t direction; /* of tuple: enum nat_direction */
	uint8_t state;     /* enum nat_slot_state */
	bool unseen;       /* insert: the packet that asked is no sign of life */
	uint32_t slot;     /* of tuple, for now: an insert may move other pairs */
	uint32_t last_seen; /* ms, the later of the two directions */
	uint32_t outbound_last_seen; /* ms, of the NAT_OUTBOUND direction alone */
	uint8_t tcp_flags[2]; /* seen, by enum nat_direction */
	uint8_t tcp_reported[2]; /* of those, what the writer told the table; also by direction */
};

/*
 * capacity: pairs, 1 to 2^30; 153 bytes each, and all of it is touched now, so that no page is
 * missing later. 0 or ERR_NOMEM (more than the machine has), ERR_INVALID.
 */
int flowtable_new(uint32_t capacity, struct random_source *random, struct flowtable **out);
void flowtable_free(struct flowtable *table);

uint32_t flowtable_pairs(const struct flowtable *table);
uint32_t flowtable_capacity(const struct flowtable *table);

/* ---- readers, any thread ---- */

/*
 * Copies the open entry of key into *copy and says true; false when there is none, or it was being
 * changed (the packet then takes the slow path). Marks the entry seen at now_ms and ORs tcp_flags
 * into it; *new_flags gets those that this reader was the first to see.
 */
bool flowtable_hit(struct flowtable *table, const struct nat_tuple *key, uint32_t now_ms,
		   uint8_t tcp_flags, struct nat_slot *copy, uint8_t *new_flags);

/*
 * flowtable_hit in three steps for batches, each for the whole batch before the next: the hash, and
 * where to look is fetched; there is looked, and the entry is fetched; the hit. The middle step may be
 * left out, at twice the time with a million pairs.
 */
uint64_t flowtable_prefetch(const struct flowtable *table, const struct nat_tuple *key);
void flowtable_prefetch_slot(const struct flowtable *table, uint64_t hash);
bool flowtable_hit_hashed(struct flowtable *table, const struct nat_tuple *key, uint64_t hash,
			  uint32_t now_ms, uint8_t tcp_flags, struct nat_slot *copy,
			  uint8_t *new_flags);

/* ---- the writer ---- */

/*
 * Inserts a pair (state PARKED or OPEN in flow->state; tcp_flags and tcp_reported are what it starts
 * with). When room has to be made the least recently seen OPEN pair of the candidate buckets goes
 * (PARKED ones are never evicted); evicted[] gets those that went, *n_evicted (0 to 2) how many, also
 * when the insert fails. 0; ERR_EXISTS (either tuple is known); ERR_FULL (nothing evictable);
 * ERR_INVALID (a pair whose two tuples are equal, another state). flow->slot is set.
 */
int flowtable_insert(struct flowtable *table, struct flow *flow, uint32_t now_ms,
		     struct flow evicted[2], unsigned *n_evicted);
/* Either tuple of a pair finds it. */
bool flowtable_find(const struct flowtable *table, const struct nat_tuple *tuple,
		    struct flow *out);
/* PARKED becomes OPEN, in both directions. Unknown tuples are ignored, here and below. */
void flowtable_open(struct flowtable *table, const struct nat_tuple *tuple);
/* Removes both directions; out (may be NULL) gets what was there. False when unknown. */
bool flowtable_remove(struct flowtable *table, const struct nat_tuple *tuple, struct flow *out);
/* Removes everything. */
void flowtable_clear(struct flowtable *table);
/*
 * Calls visit for every pair in slots [from, from + n) (each pair once, at its first slot) and
 * returns where to go on, 0 when the end was reached. visit may remove the pair it is shown.
 */
uint32_t flowtable_sweep(struct flowtable *table, uint32_t from, uint32_t n,
			 void (*visit)(void *context, const struct flow *flow), void *context);
/* The writer has reported these flags of tuple's direction (ORed to those before). */
void flowtable_reported(struct flowtable *table, const struct nat_tuple *tuple, uint8_t tcp_flags);
/*
 * TCP flags seen and reported are forgotten but for "keep", in both directions: a connection reopens
 * on a known tuple, and its new SYN has to be reported again.
 */
void flowtable_reset_flags(struct flowtable *table, const struct nat_tuple *tuple, uint8_t keep);

#endif
