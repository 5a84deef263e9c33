/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The port pool's own structures. portpool_place.c knows endpoints, portpool_block.c blocks that
 * nobody owns, portpool_share.c those of a subscriber, portpool.c takes ports and gives them back,
 * portpool_reload.c takes configurations, portpool_memory.c holds the arrays.
 */
#ifndef TABLESVC_PORTPOOL_PRIVATE_H
#define TABLESVC_PORTPOOL_PRIVATE_H

#include "tablesvc/deterministic.h"
#include "tablesvc/portpool.h"

enum {
	PORT_PROTOCOLS = 3, /* ICMP, TCP, UDP */
	ADDRESS_PROTOCOLS = 5, /* DCCP, GRE, ESP, SCTP, UDP-Lite: numbered behind those with ports */
	ADDRESSES_MAX = 65536,
	BLOCK_BITS = 10, /* of a block's number in its address: 64 Ki ports, 64 at least a block */
	BLOCKS_PER_ADDRESS = 1 << BLOCK_BITS,
	PORTS_PER_ADDRESS = 1 << 16,
	POOL_RETIRED = 0xffff,
	LOW_PORTS = 1024,   /* RFC 4787 REQ-3a: classes of ports, below and from here */
	REST_SET_BITS = 16, /* of the memory of who gave which block back: 256 Ki of them */
	REST_WAYS = 4,
};
#define ANY_ADDRESS UINT32_MAX

enum block_state {
	BLOCK_FREE,	/* zero, for fresh memory; its bit in free_blocks is set */
	BLOCK_GRANTED,	/* in its share's list, fullest first */
	BLOCK_DETACHED, /* granted, but its address left the share's pool: in no list */
	BLOCK_RESTING,	/* in the resting queue until the hold-down is over */
};

/* Blocks are numbered address << BLOCK_BITS | number; a link is that + 1, 0 = none. */
struct port_block {
	uint32_t next, prev;		  /* GRANTED: in the share's list. RESTING: in the queue */
	uint32_t owner;			  /* id of the share; RESTING: of the last one */
	uint32_t rests_until;		  /* tick */
	uint16_t used[PORT_PROTOCOLS][2]; /* by parity; reserved ones too, in any state */
	union {
		uint16_t dynamic; /* GRANTED, DETACHED: ports allocated, never 0 */
		uint16_t same;	  /* RESTING: number + 1 of the one its owner gave back before */
	};
	uint8_t state; /* enum block_state */
	uint8_t zero;
};
_Static_assert(sizeof(struct port_block) == 32, "does not straddle a cache line");

struct port_address {
	uint32_t address; /* host order */
	uint16_t pool;	  /* POOL_RETIRED: nothing is allocated */
	uint16_t port_first;
	uint16_t n_blocks;
	uint8_t shift; /* a block has 1 << shift ports */
	uint8_t
	    block_pages; /* of struct port_block that were touched: only for the count of bytes */
	/* Blocks; granted: detached ones, and used ones of fixed ranges, too. */
	uint16_t n_free, n_resting, n_granted;
	uint16_t n_apart; /* the first ones: below 1024 (low_ports), or of fixed ranges */
	uint32_t n_used;  /* ports, reserved ones too; and protocols that are used by address */
	uint32_t open; /* place in its pool's list of addresses with a free block + 1; 0 = none */
	uint64_t pages[PORT_PROTOCOLS]; /* of owners that were touched */
	uint16_t n_free_low;		/* of those apart; n_free counts the others */
	bool is_fixed; /* its pool is deterministic: blocks apart are never granted */
	bool dedicated; /* to one internal address (static 1:1): nothing is allocated */
	uint8_t zero[4];
};
_Static_assert(sizeof(struct port_address) == 64, "one cache line");

struct port_pool {
	char name[CONFIG_NAME_MAX];
	bool parity, low_ports, arbitrary, another_address; /* see struct config_pool */
	struct deterministic *fixed;			    /* NULL = the mode is dynamic */
	uint16_t warn_above;				    /* percent */
	bool warned;
	uint32_t *open; /* indices of addresses that have a free block, in no order */
	uint32_t n_open;
	uint64_t *members; /* a bit for each address that it allocates from */
	struct portpool_stats stats;
};

/* Whether more of what anybody may get is in use, or rests, than warn_above less slack percent. */
static inline bool portpool_is_above(const struct port_pool *pool, unsigned slack)
{
	const struct portpool_stats *s = &pool->stats;
	unsigned percent = pool->warn_above > slack ? pool->warn_above - slack : 0;

	return pool->warn_above &&
	       (s->blocks_shared - s->blocks_free) * 100 > s->blocks_shared * percent;
}
/* An external address in one of the protocols that are translated by address. */
struct address_place {
	uint32_t owner;	      /* 0 = free */
	uint32_t last;	      /* id of the share that had it last */
	uint32_t rests_until; /* tick: for others than the last */
};

/* All of them; in an array of their own, touched where a pool allows such a protocol. */
struct address_places {
	struct address_place place[ADDRESS_PROTOCOLS];
	uint32_t zero;
};
_Static_assert(sizeof(struct address_places) == 64, "one cache line");

/*
 * Everything that an address has lies in arrays that are reserved for all its ports and touched by
 * use: place & 0xffffffff indexes owners, the same >> 6 the bitmaps' words.
 */
struct portpool {
	struct random_source random;
	uint32_t *owners[PORT_PROTOCOLS];
	uint64_t *used[PORT_PROTOCOLS];
	struct address_places *by_address;
	bool some_by_address; /* it was touched */
	uint64_t used_by_address[ADDRESS_PROTOCOLS][ADDRESSES_MAX / 64];
	struct port_block *blocks;
	uint64_t (*free_blocks)[BLOCKS_PER_ADDRESS / 64];
	struct port_address *addresses;
	uint32_t n_addresses; /* indices in use, retired ones too */
	uint32_t
	    capacity[4 + 2 * PORT_PROTOCOLS]; /* addresses that each of these arrays has room for */
	uint32_t *hash; /* address index + 1, open addressing; retired ones too */
	unsigned hash_bits;
	struct port_pool pools[CONFIG_POOLS_MAX];
	unsigned n_pools;
	uint32_t *open_lists; /* the memory of all pools' lists */
	uint64_t *members;    /* ... and of their members */
	uint32_t n_open_lists;
	uint32_t resting_head, resting_tail;
	uint32_t (*rested)[REST_WAYS]; /* by who gave them back: portpool_rest.c */
	struct monotime held_until;    /* no block is granted before */
	uint64_t touched;	       /* bytes */
};

#define NO_BLOCK UINT32_MAX

struct port_spot { /* a place, taken apart */
	uint32_t address, port;
	uint32_t block; /* or NO_BLOCK: outside the pool's range, for static mappings */
	unsigned protocol;
};

static inline struct port_address *address_of_block(struct portpool *pools, uint32_t block)
{
	return &pools->addresses[block >> BLOCK_BITS];
}

/* ---- portpool_place.c ---- */

/* The index of an address (host order), retired ones too; -1 = none. */
int64_t portpool_find(const struct portpool *pools, uint32_t address);
/* Which of the arrays a nat_protocol has; -1 = none. */
int portpool_protocol(uint8_t protocol);
uint64_t portpool_make_place(unsigned protocol, uint32_t address, uint32_t port);
struct port_spot portpool_spot(const struct portpool *pools, uint64_t place);
/* The word of the bitmap that has the port. */
uint64_t *portpool_used_word(struct portpool *pools, const struct port_spot *spot);
bool portpool_is_used(struct portpool *pools, const struct port_spot *spot);
void portpool_set_used(struct portpool *pools, const struct port_spot *spot, uint32_t owner);
void portpool_set_unused(struct portpool *pools, const struct port_spot *spot);

/* ---- portpool_address.c ---- */

static inline bool portpool_is_by_address(uint64_t place)
{
	return place >> 32 >= PORT_PROTOCOLS;
}
struct address_place *portpool_by_address(const struct portpool *pools, uint64_t place);
int portpool_reserve_address(struct portpool *pools, uint64_t place, uint32_t owner);
/* share NULL: it was reserved, and nobody has it in mind. */
void portpool_release_address(struct portpool *pools, const struct portpool_share *share,
			      uint64_t place, uint32_t hold_down_ms, struct monotime now);
/* Whether allocation may take from it: its bit in its pool's members, its place on the open list. */
void portpool_set_member(struct portpool *pools, uint32_t index);

/* ---- portpool_share.c ---- */

/* The share's address has left the pool, or became somebody's own: nothing more is taken there. */
static inline bool portpool_is_elsewhere(const struct portpool *pools,
					 const struct portpool_share *share, unsigned pool)
{
	if (!share->address)
		return false;
	const struct port_address *address = &pools->addresses[share->address - 1];
	return address->pool != pool || address->dedicated;
}

void portpool_list_remove(struct portpool *pools, struct portpool_share *share, uint32_t block);
/* The block's count went up or down by one: keeps the list sorted. */
void portpool_list_sort(struct portpool *pools, struct portpool_share *share, uint32_t block);
/* The address is no longer of the share's pool: its blocks stay until their ports are released. */
void portpool_detach(struct portpool *pools, struct portpool_share *share);
/* Gives the share a block that is free, or that may end its rest for it. */
void portpool_take_block(struct portpool *pools, struct portpool_share *share, uint32_t block);

struct port_wish {
	unsigned protocol;
	int parity; /* -1 = any */
	bool low;   /* a port below 1024 */
	uint32_t limit;
	struct monotime now;
};
/* The block, as a link, that the share's next port is to be in: its own or one more. A reason. */
unsigned portpool_choose(struct portpool *pools, struct portpool_share *share,
			 const struct port_wish *wish, uint32_t *out, bool *granted);

/* ---- portpool.c ---- */

/*
 * A free port among size of them, a multiple of 64, of the parity (-1 = any), as its offset; -1 =
 * none. words: of the bitmap.
 */
int portpool_find_port(struct portpool *pools, const uint64_t *words, unsigned size, int parity);

/* ---- portpool_deterministic.c ---- */

/* A port of the share's fixed range; SUBSCRIBER_BLOCKS when it is used up. */
unsigned portpool_take_fixed(struct portpool *pools, struct portpool_share *share,
			     const struct port_wish *wish, struct port_spot *out);
/* Whether the place is in a fixed range, whoever has it. */
static inline bool portpool_is_fixed(const struct portpool *pools, const struct port_spot *spot)
{
	const struct port_address *address = &pools->addresses[spot->address];
	return address->is_fixed && spot->block != NO_BLOCK &&
	       spot->block % BLOCKS_PER_ADDRESS < address->n_apart;
}
/* Whether a free spot of a fixed range is the share's; then it is about to be used. */
bool portpool_claim_fixed(struct portpool *pools, struct portpool_share *share,
			  const struct port_spot *spot);
void portpool_release_fixed(struct portpool *pools, struct portpool_share *share,
			    const struct port_spot *spot);

/* ---- portpool_memory.c ---- */

/* Has the arrays hold n addresses; what is there stays. ERR_NOMEM. */
int portpool_enlarge(struct portpool *pools, uint32_t n);

/* ---- portpool_block.c ---- */

/* Whether the block is one for sources below 1024. */
static inline bool portpool_is_low(const struct portpool *pools, uint32_t block)
{
	return block % BLOCKS_PER_ADDRESS < pools->addresses[block >> BLOCK_BITS].n_apart;
}
/* Puts the address on its pool's list of those with free blocks, or takes it off. */
void portpool_set_open(struct portpool *pools, uint32_t index);
void portpool_set_free(struct portpool *pools, uint32_t block, bool is_free);
/* Port 0, where a range begins with its block, is marked used: nothing dynamic gets it. */
void portpool_guard_zero(struct portpool *pools, uint32_t index);
/* Whether the block has a port that is not used: a free block may be full of static ones. */
bool portpool_has_room(const struct portpool *pools, uint32_t block, unsigned protocol);
/* A block of this address that the share may have, or of a random address; block + 1, 0 = none. */
uint32_t portpool_find_block(struct portpool *pools, const struct portpool_share *share,
			     uint32_t index, unsigned protocol, bool low, struct monotime now);
uint32_t portpool_find_first_block(struct portpool *pools, unsigned pool, unsigned protocol,
				   bool low, struct monotime now);

/* ---- portpool_rest.c ---- */

/* The block's last dynamic port was released: it rests, or is free at once. */
void portpool_rest(struct portpool *pools, uint32_t block, uint32_t hold_down_ms,
		   struct monotime now);
/* Takes a resting block out of the queue; its state is the caller's. */
void portpool_unrest(struct portpool *pools, uint32_t block);
bool portpool_has_rested(const struct port_block *block, struct monotime now);
/* Frees what has rested long enough, in the order of giving back, max at most. False = none. */
bool portpool_mature(struct portpool *pools, struct monotime now, unsigned max);
/* A resting block, with room, that the share gave back itself, on the address or ANY_ADDRESS. */
uint32_t portpool_find_rested(struct portpool *pools, const struct portpool_share *share,
			      uint32_t index, unsigned protocol, bool low);

#endif
