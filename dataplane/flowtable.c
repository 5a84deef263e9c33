/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * One array of 64-byte slots (struct nat_slot), a cache line each, four to a bucket. A tuple's
 * keyed hash names two buckets; a new entry goes into the emptier. When both are full one of the
 * eight residents moves to its other bucket, if that has room: at the configured capacity 85 % of
 * the slots are taken, and fewer than 1 insert in 1,000 has to evict (44 if nothing moved). A
 * second array holds a tag for each slot, one byte of the hash:
 *
 *   tags    [1c 00 7a 00] ... [00 05 7a 91]      8 bytes of two words: where is tag 7a?
 *   slots   [  ][  ][K ][  ] ... [  ][  ][x ][  ]     K: look here first
 *
 * So a hit touches two words of tags and one slot, a miss most often no slot at all. For a batch
 * the three steps (flowtable_prefetch, flowtable_prefetch_slot, flowtable_hit_hashed) overlap the
 * memory's latency: 45 ns a packet at a million pairs where one by one takes 200 (bench_flowtable).
 * Without tags and with a home slot in each bucket, looked at first, it were 100, and 20 % of the
 * entries lay in neither home at a load of 3/4. BPF programs may scan the eight slots instead.
 *
 * The writer (flowtable_insert.c finds places). One thread inserts, removes, opens. It makes a
 * slot's sequence odd, writes the words, makes it even: flowtable_slot_fill() is the only
 * place that changes a key or a rewrite. Two words change without that dance: the word with state
 * and tcp_reported (one aligned store; either value is good), and the activity words, which readers
 * write too.
 *
 * The readers. They copy a slot word by word and look at the sequence again (nat_slot_read): equal
 * and even means that the copy is one flow's. What they cannot know is that it was removed a moment
 * later; whoever acknowledges an invalidation waits for readers first (cache_env.wait_for_readers).
 * A slot may be used again at once, because a reader that is late finds another sequence, and one
 * that is late with a TCP flag finds another tag (NAT_SLOT_TAG).
 *
 * Pairs (U6). An insert finds room for both directions before it writes one; eviction, removal and
 * opening go through a slot to its peer. A reader may see one direction a moment before the other.
 * Eviction is by sampling: of up to 16 slots where the newcomer may go, the OPEN pair least
 * recently seen, both directions counted, is the victim; a pair is evicted when no slot can be made
 * free by moving, or the configured number of pairs is reached.
 */
#include "dataplane/flowtable_private.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/err.h"

#define FLOWTABLE_CAPACITY_MAX (1u << 30)

/* ---- memory ---- */

/* Touches all pages, or says that the machine does not have them. */
static int reserve(size_t bytes, void **out)
{
	long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);

	if (pages > 0 && page > 0 && bytes / (size_t)page >= (size_t)pages)
		return ERR_NOMEM;
	void *memory =
	    mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return ERR_NOMEM;
	/* Random slots in 4 KiB pages would miss the TLB each time; no harm where it is refused. */
	(void)madvise(memory, bytes, MADV_HUGEPAGE);
	if (madvise(memory, bytes, MADV_POPULATE_WRITE) != 0) /* before Linux 5.14 */
		memset(memory, 0, bytes);
	*out = memory;
	return ERR_OK;
}

static size_t slots_bytes(const struct flowtable *table)
{
	return (size_t)table->n_slots * sizeof *table->slots;
}

static size_t tags_bytes(const struct flowtable *table)
{
	return (size_t)table->n_slots / NAT_BUCKET_SLOTS * sizeof *table->tags;
}

int flowtable_new(uint32_t capacity, struct random_source *random, struct flowtable **out)
{
	if (capacity < 1 || capacity > FLOWTABLE_CAPACITY_MAX)
		return ERR_INVALID;
	struct flowtable *table = calloc(1, sizeof *table);
	if (!table)
		return ERR_NOMEM;
	/* two slots a pair at a load of 0.85, whole buckets, at least two */
	uint64_t slots =
	    ((uint64_t)capacity * 40 / 17 + NAT_BUCKET_SLOTS) & ~(NAT_BUCKET_SLOTS - 1ull);
	table->n_slots = (uint32_t)(slots < 2 * NAT_BUCKET_SLOTS ? 2 * NAT_BUCKET_SLOTS : slots);
	table->capacity = capacity;
	for (unsigned i = 0; i < 4; i++)
		table->key.word[i] = (uint32_t)random->next(random->context);
	void *slots_memory, *tags_memory;
	int error = reserve(slots_bytes(table), &slots_memory);
	if (error)
		goto free_table;
	error = reserve(tags_bytes(table), &tags_memory);
	if (error)
		goto unmap_slots;
	table->slots = slots_memory;
	table->tags = tags_memory;
	*out = table;
	return ERR_OK;

unmap_slots:
	munmap(slots_memory, slots_bytes(table));
free_table:
	free(table);
	return error;
}

void flowtable_free(struct flowtable *table)
{
	if (!table)
		return;
	munmap(table->tags, tags_bytes(table));
	munmap(table->slots, slots_bytes(table));
	free(table);
}

uint32_t flowtable_pairs(const struct flowtable *table)
{
	return nat_relaxed_load(&table->pairs);
}

uint32_t flowtable_capacity(const struct flowtable *table)
{
	return table->capacity;
}

/* ---- readers ---- */

/* The candidates of hash that have its tag, as of nat_slot_tag_matches. */
static inline uint64_t tag_matches(const struct flowtable *table, uint64_t hash,
				   struct nat_slot_pair *both)
{
	*both = nat_slot_buckets(hash, table->n_slots);
	return nat_slot_tag_matches(nat_relaxed_load(&table->tags[both->first / NAT_BUCKET_SLOTS]),
				    nat_relaxed_load(&table->tags[both->second / NAT_BUCKET_SLOTS]),
				    hash);
}

static inline uint32_t first_match(const struct nat_slot_pair *both, uint64_t matches)
{
	return nat_slot_candidate(both, (unsigned)__builtin_ctzll(matches) / 8);
}

uint64_t flowtable_prefetch(const struct flowtable *table, const struct nat_tuple *key)
{
	uint64_t hash = nat_slot_hash(key, &table->key);
	struct nat_slot_pair both = nat_slot_buckets(hash, table->n_slots);

	__builtin_prefetch(&table->tags[both.first / NAT_BUCKET_SLOTS]);
	__builtin_prefetch(&table->tags[both.second / NAT_BUCKET_SLOTS]);
	return hash;
}

void flowtable_prefetch_slot(const struct flowtable *table, uint64_t hash)
{
	struct nat_slot_pair both;
	uint64_t matches = tag_matches(table, hash, &both);

	if (matches)
		__builtin_prefetch(&table->slots[first_match(&both, matches)], 1);
}

bool flowtable_hit_hashed(struct flowtable *table, const struct nat_tuple *key, uint64_t hash,
			  uint32_t now_ms, uint8_t tcp_flags, struct nat_slot *copy,
			  uint8_t *new_flags)
{
	struct nat_slot_pair both;

	for (uint64_t m = tag_matches(table, hash, &both); m != 0; m &= m - 1) {
		struct nat_slot *slot = &table->slots[first_match(&both, m)];
		if (!nat_slot_read(slot, key, copy))
			continue;
		*new_flags = nat_slot_seen(slot, copy, now_ms, tcp_flags);
		return true;
	}
	return false;
}

bool flowtable_hit(struct flowtable *table, const struct nat_tuple *key, uint32_t now_ms,
		   uint8_t tcp_flags, struct nat_slot *copy, uint8_t *new_flags)
{
	return flowtable_hit_hashed(table, key, nat_slot_hash(key, &table->key), now_ms, tcp_flags,
				    copy, new_flags);
}

/* ---- the writer: one slot ---- */

void flowtable_slot_fill(struct nat_slot *slot, const struct nat_slot *content)
{
	const uint64_t *from = (const uint64_t *)content;
	uint64_t *to = (uint64_t *)slot;
	uint32_t sequence = slot->sequence;

	nat_relaxed_store(&slot->sequence, sequence + 1);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	nat_relaxed_store(&slot->peer, content->peer);
	for (unsigned i = 1; i < 7; i++)
		nat_relaxed_store(to + i, from[i]);
	nat_relaxed_store(&slot->last_seen, content->last_seen);
	nat_relaxed_store(&slot->tcp_flags,
			  NAT_SLOT_TAG(sequence + 2) | (content->tcp_flags & 0xff));
	__atomic_store_n(&slot->sequence, sequence + 2, __ATOMIC_RELEASE);
}

/* Changes state, tcp_reported of a slot: one word, readers see the old or the new. */
static void slot_mark(struct nat_slot *slot, uint8_t state, uint8_t tcp_reported)
{
	_Static_assert(offsetof(struct nat_slot, next_hop) == 40 &&
			   offsetof(struct nat_slot, handle) == 48,
		       "word 5: next_hop, state, egress, direction, tcp_reported, asked");
	union {
		uint64_t words[8];
		struct nat_slot slot;
	} changed;

	changed.words[5] = ((const uint64_t *)slot)[5];
	changed.slot.state = state;
	changed.slot.tcp_reported = tcp_reported;
	__atomic_store_n((uint64_t *)slot + 5, changed.words[5], __ATOMIC_RELEASE);
}

void flowtable_slot_tag(struct flowtable *table, uint32_t at, uint32_t tag)
{
	uint32_t *word = &table->tags[at / NAT_BUCKET_SLOTS];
	unsigned shift = at % NAT_BUCKET_SLOTS * 8;

	nat_relaxed_store(word, (*word & ~(0xffu << shift)) | tag << shift);
}

void flowtable_slot_empty(struct flowtable *table, uint32_t at)
{
	static const struct nat_slot empty = {.state = NAT_SLOT_EMPTY};

	flowtable_slot_tag(table, at, 0);
	flowtable_slot_fill(&table->slots[at], &empty);
}

uint32_t flowtable_slot_of(const struct flowtable *table, const struct nat_tuple *tuple)
{
	struct nat_slot_pair both;
	uint64_t m = tag_matches(table, nat_slot_hash(tuple, &table->key), &both);

	for (; m != 0; m &= m - 1) {
		uint32_t at = first_match(&both, m);
		if (table->slots[at].state != NAT_SLOT_EMPTY &&
		    nat_tuple_equal(&table->slots[at].key, tuple))
			return at;
	}
	return NAT_SLOT_NONE;
}

/* ---- the writer: pairs ---- */

struct flow flowtable_pair_at(const struct flowtable *table, uint32_t at)
{
	if (!table->slots[at].asked)
		at = table->slots[at].peer;
	const struct nat_slot *slot = &table->slots[at], *peer = &table->slots[slot->peer];
	const struct nat_slot *outbound = slot->direction == NAT_OUTBOUND ? slot : peer;
	uint32_t seen = nat_relaxed_load(&slot->last_seen);
	uint32_t peer_seen = nat_relaxed_load(&peer->last_seen);
	struct flow flow = {
	    .tuple = slot->key,
	    .rewrite = {.source = slot->source,
			.destination = slot->destination,
			.source_port = slot->source_port,
			.destination_port = slot->destination_port,
			.egress = slot->egress},
	    .handle = slot->handle,
	    .peer_handle = peer->handle,
	    .direction = slot->direction,
	    .state = slot->state,
	    .slot = at,
	    .last_seen = (int32_t)(seen - peer_seen) > 0 ? seen : peer_seen,
	    .outbound_last_seen = outbound == slot ? seen : peer_seen,
	};

	flow.tcp_flags[slot->direction] = (uint8_t)nat_relaxed_load(&slot->tcp_flags);
	flow.tcp_flags[peer->direction] = (uint8_t)nat_relaxed_load(&peer->tcp_flags);
	flow.tcp_reported[slot->direction] = slot->tcp_reported;
	flow.tcp_reported[peer->direction] = peer->tcp_reported;
	return flow;
}

void flowtable_pair_remove(struct flowtable *table, uint32_t at)
{
	uint32_t peer = table->slots[at].peer;

	flowtable_slot_empty(table, at);
	flowtable_slot_empty(table, peer);
	nat_relaxed_store(&table->pairs, table->pairs - 1);
}

bool flowtable_find(const struct flowtable *table, const struct nat_tuple *tuple, struct flow *out)
{
	uint32_t at = flowtable_slot_of(table, tuple);

	if (at == NAT_SLOT_NONE)
		return false;
	*out = flowtable_pair_at(table, at);
	return true;
}

void flowtable_open(struct flowtable *table, const struct nat_tuple *tuple)
{
	uint32_t at = flowtable_slot_of(table, tuple);

	if (at == NAT_SLOT_NONE)
		return;
	struct nat_slot *slot = &table->slots[at], *peer = &table->slots[slot->peer];
	slot_mark(slot, NAT_SLOT_OPEN, slot->tcp_reported);
	slot_mark(peer, NAT_SLOT_OPEN, peer->tcp_reported);
}

bool flowtable_remove(struct flowtable *table, const struct nat_tuple *tuple, struct flow *out)
{
	uint32_t at = flowtable_slot_of(table, tuple);

	if (at == NAT_SLOT_NONE)
		return false;
	if (out)
		*out = flowtable_pair_at(table, at);
	flowtable_pair_remove(table, at);
	return true;
}

void flowtable_clear(struct flowtable *table)
{
	for (uint32_t at = 0; at < table->n_slots && table->pairs > 0; at++)
		if (table->slots[at].state != NAT_SLOT_EMPTY)
			flowtable_pair_remove(table, at);
}

uint32_t flowtable_sweep(struct flowtable *table, uint32_t from, uint32_t n,
			 void (*visit)(void *context, const struct flow *flow), void *context)
{
	uint32_t to =
	    from < table->n_slots && n < table->n_slots - from ? from + n : table->n_slots;

	for (uint32_t at = from; at < to; at++) {
		const struct nat_slot *slot = &table->slots[at];
		if (slot->state == NAT_SLOT_EMPTY || slot->peer < at)
			continue;
		struct flow flow = flowtable_pair_at(table, at);
		visit(context, &flow);
	}
	return to == table->n_slots ? 0 : to;
}

void flowtable_reported(struct flowtable *table, const struct nat_tuple *tuple, uint8_t tcp_flags)
{
	uint32_t at = flowtable_slot_of(table, tuple);

	if (at != NAT_SLOT_NONE)
		slot_mark(&table->slots[at], table->slots[at].state,
			  table->slots[at].tcp_reported | tcp_flags);
}

void flowtable_reset_flags(struct flowtable *table, const struct nat_tuple *tuple, uint8_t keep)
{
	uint32_t at = flowtable_slot_of(table, tuple);

	if (at == NAT_SLOT_NONE)
		return;
	uint32_t both[2] = {at, table->slots[at].peer};
	for (unsigned i = 0; i < 2; i++) {
		struct nat_slot *slot = &table->slots[both[i]];
		slot_mark(slot, slot->state, slot->tcp_reported & keep);
		__atomic_fetch_and(&slot->tcp_flags, ~0xffu | keep, __ATOMIC_RELAXED);
	}
}
