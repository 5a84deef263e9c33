/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by cache.c (the world calls), cache_apply.c (the table says) and cache_flows.c (pairs). */
#ifndef DATAPLANE_CACHE_PRIVATE_H
#define DATAPLANE_CACHE_PRIVATE_H

#include "dataplane/cache.h"
#include "dataplane/cache_mutation.h"
#include "dataplane/inquiries.h"
#include "dataplane/lease.h"
#include "dataplane/negative.h"
#include "dataplane/pending.h"
#include "dataplane/reports.h"

struct inflight { /* a batch that has no answer yet */
	uint64_t sequence;
	uint64_t reports; /* position behind the reports that it carries */
	struct monotime sent_at;
	uint32_t questions; /* of flows, and behind them those about fragments */
	uint32_t fragments; /* of them */
	uint64_t *ids;	    /* WIRE_BATCH_MAX: pending_id or inquiry_id */
};

struct cache {
	struct cache_conf conf;
	struct cache_env env;
	struct flowtable *flows;
	struct pending *pending;
	struct inquiries *inquiries;
	uint32_t inquiry_timeout_ms;
	struct reports *reports;
	struct negative negative;
	struct lease lease;
	uint64_t incarnation[2];

	uint64_t epoch;		    /* highest seen; 0 = none */
	uint64_t applied;	    /* the last message of the table */
	uint64_t acknowledged;	    /* of those, what no reader can contradict any more */
	uint64_t acknowledged_sent; /* what the table was told */
	bool dirty;		    /* pairs were removed since readers were waited for */
	bool urgent;		    /* somebody's fence may wait for the acknowledgement */
	bool greeting;		    /* the data stream has not named its attachment yet */

	uint64_t next_batch;
	uint32_t batch_max, inflight_max;	     /* credits of this attachment */
	struct inflight inflight[WIRE_INFLIGHT_MAX]; /* a ring: oldest at "oldest" */
	uint32_t oldest, n_inflight;
	uint64_t *ids;
	struct wire_request entries[WIRE_BATCH_MAX];

	uint32_t sweep_at;
	struct monotime next_sweep;
	struct cache_counters counters;
#ifdef CONAT_CACHE_MUTABLE
	struct nat_tuple deferred[64];
	unsigned n_deferred;
#endif
};

enum {
	/* A pair that goes: RELEASE or DROPPED for two sessions, flags of two directions for each. */
	CACHE_EXPIRE_REPORTS = 6,
	/* An installation may evict two pairs and replace two, and has flags. */
	CACHE_INSTALL_REPORTS = 4 * CACHE_EXPIRE_REPORTS + 2,
	CACHE_FLAGS = NAT_TCP_SYN | NAT_TCP_FIN | NAT_TCP_RST, /* that the table hears about */
};

/* ---- cache_flows.c: pairs and what has to be reported when they change */

/*
 * tcp_flags: of the packet that asked. 0: installed, PARKED. ERR_EXISTS: the very same pair is there.
 * Else an error: not cached.
 */
int cache_install(struct cache *cache, const struct nat_tuple *tuple,
		  const struct wire_answer *answer, uint8_t tcp_flags, struct monotime now);
void cache_invalidate(struct cache *cache, const struct wire_notice *notice, struct monotime now);
void cache_expire(struct cache *cache, const struct wire_notice *notice, struct monotime now);
void cache_flush(struct cache *cache);
/* One step of the sweep for TCP flags that nobody reported. */
void cache_sweep(struct cache *cache, struct monotime now);
/* Removed pairs are out of every reader's hands, and what was applied may be acknowledged. */
void cache_settle(struct cache *cache);

/* ---- cache_apply.c */

/* Hands the packets over, in order, and frees them. */
void cache_deliver(struct cache *cache, struct pending_chain *chain,
		   const struct wire_answer *answer, struct monotime now);

/* ---- cache_fragments.c */

/* Fills entries[*n..] and ids with questions about fragments, as far as there is room. */
void cache_fill_fragments(struct cache *cache, struct inflight *batch, uint32_t *n);
void cache_apply_fragment(struct cache *cache, inquiry_id id, const struct wire_answer *answer,
			  struct monotime now);
void cache_apply_notices(struct cache *cache, const struct wire_message *message,
			 struct monotime now);
/* Nobody answered in time. */
void cache_expire_fragments(struct cache *cache, struct monotime now);

/* ---- cache_mutation.c, in conat_cache_mutable only */

#ifdef CONAT_CACHE_MUTABLE
bool cache_mutation_defer(struct cache *cache, const struct nat_tuple *tuple);
void cache_mutation_tick(struct cache *cache);
#else
static inline bool cache_mutation_defer(struct cache *cache, const struct nat_tuple *tuple)
{
	(void)cache, (void)tuple;
	return false;
}
static inline void cache_mutation_tick(struct cache *cache)
{
	(void)cache;
}
#endif

#endif
