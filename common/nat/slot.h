/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flow entry: one direction of one flow in a dataplane's flow table. User space alone writes it
 * [W: the flow table's single writer]; any number of readers, BPF programs later among them, copy
 * it out and look at the sequence word again [R: any reader writes, relaxed].
 *
 *   bucket: four slots, 256 bytes. A key has two candidate buckets (two-choice hashing), a new
 * entry goes into the emptier.
 *
 *   0        4        8                                24                40
 *   sequence peer     key (tuple)                      new endpoints     ...
 */
#ifndef NAT_SLOT_H
#define NAT_SLOT_H

#include "types.h"

enum { NAT_BUCKET_SLOTS = 4 };
#define NAT_SLOT_NONE 0xffffffffu

enum nat_slot_state {
	NAT_SLOT_EMPTY = 0,
	NAT_SLOT_PARKED = 1, /* known, but parked packets must leave first: not for the hit path */
	NAT_SLOT_OPEN = 2,   /* readers may translate */
};

struct nat_slot {
	uint32_t sequence;    /* [W] odd while being written */
	uint32_t peer;        /* [W] slot index of the other direction; U6: they live together */
	struct nat_tuple key; /* [W] */
	nat_be32 source;      /* [W] rewrite, from here */
	nat_be32 destination; /* [W] */
	nat_be16 source_port; /* [W] */
	nat_be16 destination_port; /* [W] */
	uint16_t address_delta; /* [W] RFC 1624 delta of the addresses: IP header, pseudo header */
	uint16_t transport_delta; /* [W] address_delta and the ports: TCP and UDP checksum */
	uint16_t next_hop;        /* [W] index into the next-hop table; 0 = the kernel's routes */
	uint8_t state;            /* [W] enum nat_slot_state */
	uint8_t egress;           /* [W] realm */
	uint8_t direction;        /* [W] enum nat_direction */
	uint8_t tcp_reported;     /* [W] flags of this direction that the table was told */
	uint8_t asked;            /* [W] 1: the pair was inserted by this direction's tuple */
	uint8_t zero;             /* [W] */
	uint64_t handle;          /* [W] the sender's session at the table service */
	uint32_t last_seen;       /* [R] low 32 bits of the reader's clock in milliseconds */
	uint32_t tcp_flags;       /* [R] low byte: TCP flags seen, ORed; above: NAT_SLOT_TAG */
};
_Static_assert(sizeof(struct nat_slot) == 64, "one cache line");

/*
 * The upper 24 bits of tcp_flags carry the slot's sequence of the time it was filled: a reader that
 * is late with a flag finds that the slot is another flow's now.
 */
#define NAT_SLOT_TAG(sequence) ((uint32_t)(sequence) << 8)

/*
 * The last_seen of a direction that was not seen since its pair was inserted: this long before that
 * (12 days; half of what the word can tell from the future).
 */
#define NAT_SLOT_UNSEEN_MS (1u << 30)

/* ---- where a key may be ---- */

/* The secret of a table; attackers choose tuples (hash flooding). */
struct nat_hash_key {
	uint32_t word[4];
};

/*
 * Keyed hash of a tuple: NH of UMAC (Black et al., CRYPTO '99; RFC 4418 section 5.2), two 32-bit
 * multiplications under a 128-bit key, so that two tuples chosen without knowing the key collide
 * with probability 2^-32; then a fixed bijection that spreads it over all bits. BPF has no 128-bit
 * product and no cheap SipHash.
 */
NAT_INLINE uint64_t nat_slot_hash(const struct nat_tuple *t, const struct nat_hash_key *key)
{
	uint32_t ports = (uint32_t)t->source_port << 16 | t->destination_port;
	uint32_t rest = (uint32_t)t->realm << 8 | t->protocol;
	uint64_t hash = (uint64_t)(uint32_t)(t->source + key->word[0]) *
			(uint32_t)(t->destination + key->word[1]);

	hash += (uint64_t)(uint32_t)(ports + key->word[2]) * (uint32_t)(rest + key->word[3]);
	hash = (hash ^ hash >> 32) * 0xd6e8feb86659fd93u;
	hash = (hash ^ hash >> 29) * 0x9e3779b97f4a7c15u;
	return hash ^ hash >> 32;
}

enum { NAT_SLOT_CANDIDATES = 2 * NAT_BUCKET_SLOTS };

/* The first slots of the two candidate buckets, never the same, in "slots" slots (4n, at least 8).
 */
struct nat_slot_pair {
	uint32_t first, second; /* no array: the verifier allows no variable index into the stack */
};

NAT_INLINE struct nat_slot_pair nat_slot_buckets(uint64_t hash, uint32_t slots)
{
	struct nat_slot_pair both = {
	    .first = (uint32_t)(((hash >> 32) * slots) >> 32) & ~3u,
	    .second = (uint32_t)(((hash & 0xffffffff) * slots) >> 32) & ~3u,
	};

	if (nat_unlikely(both.first == both.second))
		both.second = both.first ? both.first - NAT_BUCKET_SLOTS : NAT_BUCKET_SLOTS;
	return both;
}

/* Candidate i of the eight, in the order in which readers look. */
NAT_INLINE uint32_t nat_slot_candidate(const struct nat_slot_pair *both, unsigned i)
{
	uint32_t first = both->first, second = both->second;

	return (i < NAT_BUCKET_SLOTS ? first : second) + (i & (NAT_BUCKET_SLOTS - 1));
}

/*
 * Tags: one byte a slot, a bucket's four in a 32-bit word of an array of their own (dense, so it
 * stays in the CPU's cache long after the slots do not): 0 = empty, else 8 bits of the hash that
 * the buckets hardly depend on. They only say where to look first; the key decides.
 */
NAT_INLINE uint32_t nat_slot_tag8(uint64_t hash)
{
	uint32_t tag = (uint32_t)(hash & 0xff);

	return tag ? tag : 0xff;
}

/*
 * The candidates with the tag of hash: 0x80 in byte i of the result for candidate i (rarely also
 * where there is none: the subtraction borrows).
 */
NAT_INLINE uint64_t nat_slot_tag_matches(uint32_t first, uint32_t second, uint64_t hash)
{
	uint64_t x = ((uint64_t)second << 32 | first) ^ nat_slot_tag8(hash) * 0x0101010101010101u;

	return (x - 0x0101010101010101u) & ~x & 0x8080808080808080u;
}

/* ---- reading ---- */

/*
 * Copies slot if it is the open entry of key: copy first, then look whether the sequence is still
 * the same and even. False: another key, closed, or being written; the reader goes on, and what is
 * found nowhere takes the slow path.
 */
NAT_INLINE bool nat_slot_read(const struct nat_slot *slot, const struct nat_tuple *key,
			      struct nat_slot *copy)
{
	const uint64_t *from = (const uint64_t *)slot, *want = (const uint64_t *)key;
	uint64_t *to = (uint64_t *)copy;
	const uint32_t *sequence = &slot->sequence;

	copy->sequence = nat_relaxed_load(sequence);
	nat_acquire_fence();
	to[1] = nat_relaxed_load(from + 1);
	to[2] = nat_relaxed_load(from + 2);
	if (to[1] != want[0] || to[2] != want[1])
		return false;
	copy->peer = nat_relaxed_load(&slot->peer);
	to[3] = nat_relaxed_load(from + 3);
	to[4] = nat_relaxed_load(from + 4);
	to[5] = nat_relaxed_load(from + 5);
	to[6] = nat_relaxed_load(from + 6);
	copy->last_seen = nat_relaxed_load(&slot->last_seen);
	copy->tcp_flags = nat_relaxed_load(&slot->tcp_flags);
	nat_acquire_fence();
	return copy->state == NAT_SLOT_OPEN && !(copy->sequence & 1) &&
	       nat_relaxed_load(sequence) == copy->sequence;
}

/*
 * Marks an entry seen that nat_slot_read copied, and ORs flags into it. Returns those flags that
 * this reader was the first to see: of two readers one gets each. An entry that was changed since
 * it was copied is left alone but for last_seen, which says "now" of a flow that was just made. An
 * RST is no sign of life (RFC 7857 section 7.1).
 */
NAT_INLINE uint8_t nat_slot_seen(struct nat_slot *slot, const struct nat_slot *copy,
				 uint32_t now_ms, uint8_t flags)
{
	uint32_t old = copy->tcp_flags;

	if (copy->last_seen != now_ms && nat_likely(!(flags & NAT_TCP_RST)))
		nat_relaxed_store(&slot->last_seen, now_ms);
	if (nat_likely((old & flags) == flags))
		return 0;
	for (unsigned attempt = 0; attempt < 4; attempt++) {
		if (nat_compare_swap(&slot->tcp_flags, old, old | flags))
			return flags & (uint8_t)~old;
		old = nat_relaxed_load(&slot->tcp_flags);
		if ((old ^ copy->tcp_flags) >> 8 != 0 || (old & flags) == flags)
			return 0;
	}
	return 0;
}

#endif
