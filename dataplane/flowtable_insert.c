/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding places for a new pair: a free slot, one made free by moving an entry to its other bucket,
 * or one made free by evicting a pair. See flowtable.c.
 */
#include "dataplane/flowtable_private.h"

#include <string.h>

#include "common/base/err.h"
#include "common/nat/rewrite.h"

enum { FLOWTABLE_HAND_STEPS = 1024 };

/* A free slot for hash that is not "taken", in the emptier bucket, or NAT_SLOT_NONE. */
static uint32_t free_slot(const struct flowtable *table, uint64_t hash, uint32_t taken)
{
	struct nat_slot_pair both = nat_slot_buckets(hash, table->n_slots);
	unsigned n_free[2] = {0, 0};
	uint32_t first[2] = {NAT_SLOT_NONE, NAT_SLOT_NONE};

	for (unsigned b = 0; b < 2; b++) {
		uint32_t bucket = b ? both.second : both.first;
		uint32_t tags = table->tags[bucket / NAT_BUCKET_SLOTS];
		for (unsigned i = 0; i < NAT_BUCKET_SLOTS; i++, tags >>= 8)
			if ((tags & 0xff) == 0 && bucket + i != taken && n_free[b]++ == 0)
				first[b] = bucket + i;
	}
	return n_free[1] > n_free[0] ? first[1] : first[0];
}

/* The slot of the older of two pairs (either may be NAT_SLOT_NONE); PARKED ones do not count. */
static uint32_t older(const struct flowtable *table, uint32_t victim, uint32_t at, uint32_t now_ms)
{
	if (table->slots[at].state != NAT_SLOT_OPEN)
		return victim;
	if (victim == NAT_SLOT_NONE)
		return at;
	/* a reader's clock may be a little ahead of now_ms: ages are signed */
	int32_t age = (int32_t)(now_ms - flowtable_pair_at(table, at).last_seen);
	int32_t victim_age = (int32_t)(now_ms - flowtable_pair_at(table, victim).last_seen);
	return age > victim_age ? at : victim;
}

static uint32_t oldest_candidate(const struct flowtable *table, uint32_t victim, uint64_t hash,
				 uint32_t now_ms)
{
	struct nat_slot_pair both = nat_slot_buckets(hash, table->n_slots);

	for (unsigned i = 0; i < NAT_SLOT_CANDIDATES; i++)
		victim = older(table, victim, nat_slot_candidate(&both, i), now_ms);
	return victim;
}

/* Anything evictable near the clock hand; only a table that is nearly all PARKED comes here. */
static uint32_t any_victim(struct flowtable *table)
{
	for (unsigned i = 0; i < FLOWTABLE_HAND_STEPS; i++) {
		uint32_t at = table->hand++;
		if (table->hand >= table->n_slots)
			table->hand = 0;
		if (table->slots[at].state == NAT_SLOT_OPEN)
			return at;
	}
	return NAT_SLOT_NONE;
}

static int evict(struct flowtable *table, uint32_t victim, struct flow evicted[2],
		 unsigned *n_evicted)
{
	if (victim == NAT_SLOT_NONE)
		return ERR_FULL;
	evicted[(*n_evicted)++] = flowtable_pair_at(table, victim);
	flowtable_pair_remove(table, victim);
	return ERR_OK;
}

/*
 * Moves an entry to a free slot of its other bucket. A reader that looks in the wrong order misses
 * it and takes the slow path, which finds it; what readers mark meanwhile is carried along.
 */
static void slot_move(struct flowtable *table, uint32_t from, uint32_t to, uint64_t hash)
{
	struct nat_slot *old = &table->slots[from], *new = &table->slots[to];
	struct nat_slot content = {0};

	memcpy(&content, old, offsetof(struct nat_slot, last_seen));
	content.last_seen = nat_relaxed_load(&old->last_seen);
	content.tcp_flags = nat_relaxed_load(&old->tcp_flags);
	flowtable_slot_fill(new, &content);
	flowtable_slot_tag(table, to, nat_slot_tag8(hash));
	nat_relaxed_store(&table->slots[content.peer].peer, to);

	/* another tag: from here on no reader marks the old slot */
	uint32_t flags =
	    __atomic_exchange_n(&old->tcp_flags, NAT_SLOT_TAG(old->sequence + 2), __ATOMIC_RELAXED);
	__atomic_fetch_or(&new->tcp_flags, flags & 0xff, __ATOMIC_RELAXED);
	flowtable_slot_empty(table, from);
}

/* Makes a slot among the candidates of hash free by moving one entry, or NAT_SLOT_NONE. */
static uint32_t displace(struct flowtable *table, uint64_t hash, uint32_t taken)
{
	struct nat_slot_pair both = nat_slot_buckets(hash, table->n_slots);

	for (unsigned i = 0; i < NAT_SLOT_CANDIDATES; i++) {
		uint32_t from = nat_slot_candidate(&both, i);
		if (table->slots[from].state == NAT_SLOT_EMPTY)
			continue; /* taken */
		uint64_t resident = nat_slot_hash(&table->slots[from].key, &table->key);
		uint32_t to = free_slot(table, resident, taken);
		if (to == NAT_SLOT_NONE)
			continue;
		slot_move(table, from, to, resident);
		return from;
	}
	return NAT_SLOT_NONE;
}

/* A slot for hash that is not "taken", free or made free. */
static int make_room(struct flowtable *table, uint64_t hash, uint32_t taken, uint32_t now_ms,
		     struct flow evicted[2], unsigned *n_evicted, uint32_t *out)
{
	*out = free_slot(table, hash, taken);
	if (*out == NAT_SLOT_NONE)
		*out = displace(table, hash, taken);
	if (*out != NAT_SLOT_NONE)
		return ERR_OK;
	int error =
	    evict(table, oldest_candidate(table, NAT_SLOT_NONE, hash, now_ms), evicted, n_evicted);
	if (error)
		return error;
	*out = free_slot(table, hash, taken);
	return ERR_OK;
}

int flowtable_insert(struct flowtable *table, struct flow *flow, uint32_t now_ms,
		     struct flow evicted[2], unsigned *n_evicted)
{
	struct nat_tuple reverse = nat_reverse_tuple(&flow->tuple, &flow->rewrite);
	struct nat_rewrite back = nat_reverse_rewrite(&flow->tuple);
	uint64_t hash = nat_slot_hash(&flow->tuple, &table->key);
	uint64_t reverse_hash = nat_slot_hash(&reverse, &table->key);
	uint32_t at, peer;
	int error = ERR_OK;

	*n_evicted = 0;
	if (nat_tuple_equal(&flow->tuple, &reverse) ||
	    (flow->state != NAT_SLOT_OPEN && flow->state != NAT_SLOT_PARKED) ||
	    flow->direction > NAT_INBOUND)
		return ERR_INVALID;
	if (flowtable_slot_of(table, &flow->tuple) != NAT_SLOT_NONE ||
	    flowtable_slot_of(table, &reverse) != NAT_SLOT_NONE)
		return ERR_EXISTS;
	if (table->pairs >= table->capacity) {
		/* a victim of either direction's buckets leaves at most one more to evict below */
		uint32_t victim = oldest_candidate(table, NAT_SLOT_NONE, hash, now_ms);
		victim = oldest_candidate(table, victim, reverse_hash, now_ms);
		if (victim == NAT_SLOT_NONE)
			victim = any_victim(table);
		error = evict(table, victim, evicted, n_evicted);
	}
	if (!error)
		error = make_room(table, hash, NAT_SLOT_NONE, now_ms, evicted, n_evicted, &at);
	if (!error)
		error = make_room(table, reverse_hash, at, now_ms, evicted, n_evicted, &peer);
	if (error)
		return error;

	uint8_t other = flow->direction == NAT_OUTBOUND ? NAT_INBOUND : NAT_OUTBOUND;
	struct nat_slot slot;
	nat_slot_set(&slot, &reverse, &back);
	slot.peer = at;
	slot.state = flow->state;
	slot.direction = other;
	slot.tcp_reported = flow->tcp_reported[other];
	slot.handle = flow->peer_handle;
	slot.last_seen = now_ms - NAT_SLOT_UNSEEN_MS;
	slot.tcp_flags = flow->tcp_flags[other];
	flowtable_slot_fill(&table->slots[peer], &slot);
	flowtable_slot_tag(table, peer, nat_slot_tag8(reverse_hash));

	nat_slot_set(&slot, &flow->tuple, &flow->rewrite);
	slot.peer = peer;
	slot.state = flow->state;
	slot.direction = flow->direction;
	slot.tcp_reported = flow->tcp_reported[flow->direction];
	slot.asked = 1;
	slot.handle = flow->handle;
	slot.last_seen = flow->unseen ? now_ms - NAT_SLOT_UNSEEN_MS : now_ms;
	slot.tcp_flags = flow->tcp_flags[flow->direction];
	flowtable_slot_fill(&table->slots[at], &slot);
	flowtable_slot_tag(table, at, nat_slot_tag8(hash));

	flow->slot = at;
	nat_relaxed_store(&table->pairs, table->pairs + 1);
	return ERR_OK;
}
