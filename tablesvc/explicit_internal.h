/* SPDX-License-Identifier: Apache-2.0 */
/* Explicit mappings as the rest of the table sees them. Included by table_internal.h. */
#ifndef TABLESVC_EXPLICIT_INTERNAL_H
#define TABLESVC_EXPLICIT_INTERNAL_H

/* Who asked, and until when. key: index of the mapping, or of the session with EXPLICIT_PEER. */
struct explicit_entry {
	struct timer_link timer; /* MAP: armed */
	uint32_t key;
	uint32_t hash_next; /* and the free list */
	uint32_t ends;	    /* MAP: tick */
	uint8_t nonce[12];
	uint32_t zero;
};
_Static_assert(sizeof(struct explicit_entry) == 40, "a page holds a hundred");

struct explicit_table {
	struct slab entries;
	struct buckets by_key;
	struct timerwheel *wheel;
	struct monotime lost; /* when explicit mappings were lost last */
};

int explicit_new(struct table *t);
void explicit_delete(struct table *t);
/* False: there is more to do at once. */
bool explicit_tick(struct table *t);
/* The mapping is taken away before its lifetime is over: its owner must notice (the epoch). */
void explicit_lose_mapping(struct table *t, uint32_t mapping);
void explicit_forget_session(struct table *t, uint32_t session);

#endif
