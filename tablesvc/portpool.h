/* SPDX-License-Identifier: Apache-2.0 */
/*
 * External addresses, cut into port blocks. A block belongs to one subscriber at a time, for every
 * protocol; each protocol has its own 64 Ki ports. The external side needs no hash: an endpoint is
 * an index into one array (lazily touched memory), which holds its owner's number.
 *
 * A port is "used" from allocate or reserve until release; the caller releases only what is clean
 * (U1: no dataplane can still translate for it), so a block whose last port was released is clean
 * too (U2) and only rests for the hold-down before another subscriber gets it (RFC 6888 REQ-8).
 */
#ifndef TABLESVC_PORTPOOL_H
#define TABLESVC_PORTPOOL_H

#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/nat/reason.h"
#include "tablesvc/config.h"

struct portpool;
struct deterministic;

#define PORTPOOL_NONE 0xffffffffffffffffu

/*
 * A subscriber's share of one pool: a subscriber that uses two (redirect) has two shares. Lives in
 * the subscriber, zero to begin with but for the id, written by portpool alone.
 */
struct portpool_share {
	uint32_t id;      /* from the caller, not 0, for ever: not another's within the hold-down.
			     A share that was forgotten and is made anew with it gets its
			     resting blocks back */
	uint32_t address; /* index + 1 of the paired external address, 0 = none yet */
	uint32_t blocks;  /* head of its blocks, fullest first: block + 1 */
	uint32_t n_ports; /* allocated, all protocols */
	uint16_t n_blocks;
	uint16_t n_detached; /* blocks on addresses that left the pool; they count for the limit */
	uint16_t n_fixed; /* blocks of its fixed range that have a port in use */
	uint16_t pool; /* index in the configuration as of the last allocate, while address != 0 */
	uint8_t realm;	     /* from the caller: who it is, for deterministic pools */
	nat_be32 subscriber; /* likewise */
};

/* ERR_NOMEM, or ERR_TOO_BIG for more than 65,536 addresses in all. */
int portpool_new(const struct config *config, struct random_source *random, struct portpool **out);
void portpool_free(struct portpool *pools);

/*
 * Takes over added, removed and re-parented addresses and the pools' settings. An address that stays
 * (or comes back before its last port was released) with another port range or block size cannot be
 * taken over: ERR_INVALID, a sentence in error, and nothing is changed; so for ERR_NOMEM and
 * ERR_TOO_BIG. Removed addresses are retired: nothing is allocated there any more, but their places
 * stay valid until their ports are released.
 */
int portpool_reload(struct portpool *pools, const struct config *config, char *error,
		    unsigned error_size);

/*
 * The place of an external endpoint, or PORTPOOL_NONE when its address is in no pool (retired
 * addresses included) or the port is 0. A protocol that is translated by address has one place for
 * the whole of it. protocol is one of nat_protocol. A port outside the pool's
 * range has a place as well, but no block: static mappings reserve it (22, 80, 443 are what people
 * forward, and the range starts at 1024), nobody else gets it.
 */
uint64_t portpool_place(const struct portpool *pools, uint8_t protocol,
			const struct nat_endpoint *external);
/* Whether the address is in a pool, whatever the port. */
bool portpool_has_address(const struct portpool *pools, nat_be32 address);
struct nat_endpoint portpool_endpoint(const struct portpool *pools, uint64_t place);
/* Index in the configuration; UINT_MAX when the address is retired. */
unsigned portpool_pool(const struct portpool *pools, uint64_t place);
/* The ports of the block around it; false outside of the pool's range: no block. */
bool portpool_range(const struct portpool *pools, uint64_t place, uint16_t *first, uint16_t *last);
bool portpool_retired(const struct portpool *pools, uint64_t place);
/* What allocate or reserve stored there, 0 = free. */
uint32_t portpool_owner(const struct portpool *pools, uint64_t place);
void portpool_set_owner(struct portpool *pools, uint64_t place, uint32_t owner);
void portpool_prefetch(const struct portpool *pools, uint64_t place);
/* What portpool_allocate will look at first. */
void portpool_prefetch_share(const struct portpool *pools, const struct portpool_share *share);

/*
 * Takes a random free port for the subscriber: inside its blocks, fullest block first, of the parity
 * of "like" (host order) when the pool asks for parity and one is free, any otherwise (RFC 4787
 * REQ-4, RFC 6056); found whenever one is free. Without one, grants a block of the paired address -
 * of a random address with a free block for the first - up to limit blocks; what else is tried, see
 * portpool_choose. owner is stored. NAT_REASON_NONE and *place, or PORTS_EXHAUSTED,
 * SUBSCRIBER_BLOCKS, HOLD_DOWN. *granted (may be NULL) says that a block was granted for it.
 */
unsigned portpool_allocate(struct portpool *pools, struct portpool_share *share, unsigned pool,
			   uint8_t protocol, uint16_t like, uint32_t limit, uint32_t owner,
			   struct monotime now, uint64_t *place, bool *granted);

/*
 * The same for one certain port, which the subscriber may have: in a block of its own, or in a block
 * that is free for it, of its paired address if it has blocks. PORTS_EXHAUSTED when it may not.
 */
unsigned portpool_claim(struct portpool *pools, struct portpool_share *share, unsigned pool,
			uint64_t place, uint32_t limit, uint32_t owner, struct monotime now,
			bool *granted);

/*
 * Gives a clean port back. The last one gives its block back: the same subscriber may take it again
 * at once, another one after hold_down_ms (up to 64 ms later, never earlier). *freed (may be NULL)
 * says that a block was freed.
 */
void portpool_release(struct portpool *pools, struct portpool_share *share, uint64_t place,
		      uint32_t hold_down_ms, struct monotime now, bool *freed);

/*
 * The same for a protocol that is translated by address: the whole external address, in that
 * protocol, until portpool_release. The paired one when it is free, any of the pool otherwise.
 * NAT_REASON_NONE and *place, or PORTS_EXHAUSTED.
 */
unsigned portpool_allocate_address(struct portpool *pools, struct portpool_share *share,
				   unsigned pool, uint8_t protocol, uint32_t owner,
				   struct monotime now, uint64_t *place);

/*
 * Takes a whole address out of dynamic use, or gives it back. What is allocated there stays so until
 * it is released: the caller ends it and looks at portpool_address_used. While it is dedicated, port
 * 0 has a place as well.
 */
void portpool_dedicate(struct portpool *pools, nat_be32 address, bool dedicated);
bool portpool_is_deterministic(const struct portpool *pools, nat_be32 address);
bool portpool_is_dedicated(const struct portpool *pools, nat_be32 address);
bool portpool_address_used(const struct portpool *pools, nat_be32 address);

/*
 * Takes a certain port out of dynamic use (static mappings), whoever owns the block. 0, ERR_EXISTS
 * (used: the caller fences its mapping and tries again), ERR_INVALID (in no pool).
 */
int portpool_reserve(struct portpool *pools, uint64_t place, uint32_t owner);
void portpool_unreserve(struct portpool *pools, uint64_t place);

/*
 * Whose fixed range an endpoint is in (RFC 7422); false when its pool is dynamic, or nobody's. By the
 * configuration alone: a static mapping there may be somebody else's.
 */
bool portpool_deterministic_subscriber(const struct portpool *pools,
				       const struct nat_endpoint *external, uint8_t *realm,
				       nat_be32 *subscriber);
/* The plan of a deterministic pool, until the next reload; NULL for a dynamic one. */
const struct deterministic *portpool_deterministic(const struct portpool *pools, unsigned pool);

/* No block is granted before this time: those of an earlier life may have been anybody's. */
void portpool_hold(struct portpool *pools, struct monotime until);

struct portpool_stats {
	uint64_t addresses_used; /* that have a port in use */
	uint64_t addresses, blocks, blocks_used, blocks_resting, ports_used, exhausted;
	/* Of the blocks those that anybody may get, and of those the ones that nobody has. */
	uint64_t blocks_shared, blocks_free;
	bool above; /* more of those are in use, or rest, than warn_above says */
};
void portpool_stats(struct portpool *pools, unsigned pool, struct monotime now,
		    struct portpool_stats *out);
/* Bytes of memory that were touched, about. */
uint64_t portpool_memory(const struct portpool *pools);

#endif
