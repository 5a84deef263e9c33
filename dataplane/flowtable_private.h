/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What flowtable.c (theory, memory, readers, the writer's other calls) and flowtable_insert.c
 * (placing, moving, evicting) share. All functions here are the writer's.
 */
#ifndef DATAPLANE_FLOWTABLE_PRIVATE_H
#define DATAPLANE_FLOWTABLE_PRIVATE_H

#include "dataplane/flowtable.h"

struct flowtable {
	struct nat_slot *slots;
	uint32_t *tags; /* a word a bucket; the writer's, readers look */
	uint32_t n_slots;
	uint32_t capacity;
	struct nat_hash_key key;
	/* the writer's */
	uint32_t pairs; /* read by any thread */
	uint32_t hand;  /* where the search for a victim goes on when the buckets have none */
};

/* The words between sequence and activity of a slot become those of *content. */
void flowtable_slot_fill(struct nat_slot *slot, const struct nat_slot *content);
/* tag: of the slot's hash, 0 when it is empty. */
void flowtable_slot_tag(struct flowtable *table, uint32_t at, uint32_t tag);
void flowtable_slot_empty(struct flowtable *table, uint32_t at);
/* The slot of tuple, in any state but EMPTY, or NAT_SLOT_NONE. */
uint32_t flowtable_slot_of(const struct flowtable *table, const struct nat_tuple *tuple);

/* The pair that the taken slot "at" is one direction of; both slots. */
struct flow flowtable_pair_at(const struct flowtable *table, uint32_t at);
void flowtable_pair_remove(struct flowtable *table, uint32_t at);

#endif
