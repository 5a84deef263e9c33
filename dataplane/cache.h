/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cache: a dataplane's copy of the table and its side of the coherence protocol (design section
 * 3). It owns the flow table as its single writer, parks packets behind questions (pending.h),
 * keeps the lease, and applies what the table says in the order in which the table said it. It
 * knows neither gRPC nor threads: table_client moves its batches, the simulator moves them too.
 *
 * Called in any order; never blocks, never allocates after cache_new.
 */
#ifndef DATAPLANE_CACHE_H
#define DATAPLANE_CACHE_H

#include "common/base/clock.h"
#include "common/wire/wire.h"
#include "dataplane/engine.h"
#include "dataplane/flowtable.h"

struct cache;

struct cache_env {
	void *context;
	/* A parked packet whose answer is there, or whose wait is over (verdict DROP). */
	void (*answered)(void *context, struct engine_packet *packet,
			 const struct wire_answer *answer, struct monotime now);
	/*
	 * What cache_ask_fragment asked for is answered, or nobody did in time (verdict DROP).
	 * These two may be NULL when no fragments are asked about.
	 */
	void (*fragment_answered)(void *context, uint64_t datagram,
				  const struct wire_answer *answer, struct monotime now);
	void (*fragment_notice)(void *context, const struct wire_notice *notice,
				struct monotime now);
	/* Returns when no reader uses a flow entry that was removed before the call. */
	void (*wait_for_readers)(void *context);
	/* The instant after which nothing may be translated changed. */
	void (*valid_until)(void *context, struct monotime valid_until);
	/* A new configuration arrived. */
	void (*configured)(void *context, const struct wire_config *config);
};

struct cache_conf {
	char name[WIRE_NAME_MAX];
	uint32_t pending_flows;	  /* questions open at once */
	uint32_t pending_packets; /* parked packets in all: memory */
	uint32_t packet_room;	  /* bytes of a parked packet at most */
	uint32_t reports;	  /* unconfirmed reports at once; 0 = 65536 */
	uint32_t inquiries;	  /* questions about fragments at once; 0 = 4096 */
};

/* flows and env's context are borrowed. */
int cache_new(const struct cache_conf *conf, const struct cache_env *env, struct flowtable *flows,
	      struct random_source *random, struct cache **out);
void cache_free(struct cache *cache);

/* ---- from the engine ---- */

/* engine_owner.ask. 0 when the packet was parked, else an enum nat_reason. */
unsigned cache_ask(struct cache *cache, unsigned op, const struct nat_tuple *tuple,
		   uint8_t tcp_flags, const struct engine_packet *packet, struct monotime now);
/* engine_owner.ask_fragment. 0 when it will be answered, else an enum nat_reason: nobody is there. */
unsigned cache_ask_fragment(struct cache *cache, unsigned op, const struct nat_tuple *tuple,
			    uint16_t identification, uint64_t datagram, struct monotime now);
/* TCP flags that a reader saw first, on the entry of this tuple. */
void cache_report_flags(struct cache *cache, const struct nat_tuple *tuple, uint8_t tcp_flags,
			struct monotime now);

/* ---- the control stream ---- */

/* What to say when a control stream opens. */
void cache_hello(const struct cache *cache, struct wire_hello *out);
/* 0, or ERR_STALE (older epoch: do not use this service), ERR_VERSION, ERR_MALFORMED. */
int cache_welcome(struct cache *cache, const struct wire_welcome *welcome, struct monotime now);
void cache_config(struct cache *cache, const struct wire_config *config, struct monotime now);
/* When true, *out is a heartbeat to send now. The caller fills in out->stats. */
bool cache_heartbeat_due(struct cache *cache, struct wire_heartbeat *out, struct monotime now);
void cache_heartbeat_ack(struct cache *cache, const struct wire_heartbeat_ack *ack,
			 struct monotime now);
/*
 * The service does not renew and the lease is over: close both streams and attach again. Ask after
 * each cache_tick.
 */
bool cache_wants_reconnect(const struct cache *cache, struct monotime now);
/* Both streams are gone; questions in flight are asked again after the next welcome. */
void cache_disconnected(struct cache *cache, struct monotime now);

/* ---- the data stream ---- */

/*
 * The next batch to send, if there is one and a credit for it, or a bare acknowledgement (n = 0)
 * that is due. Call until false, after every call into the cache. out->entries stays valid until
 * the next call. Nothing comes before the first acknowledged heartbeat: no question without a
 * lease.
 */
bool cache_next_batch(struct cache *cache, struct wire_batch *out, struct monotime now);
/* Applies one message of the table. 0, or ERR_STALE / ERR_MALFORMED (counted, nothing applied). */
int cache_message(struct cache *cache, const struct wire_message *message, struct monotime now);

/* ---- time ---- */

/* Deadlines of parked packets, the lease, the sweep for unreported TCP flags. */
void cache_tick(struct cache *cache, struct monotime now);
/* When cache_tick is wanted next, or a heartbeat is due. */
struct monotime cache_next_tick(const struct cache *cache, struct monotime now);

/* ---- state, for admin and tests ---- */

/* drops: refusals of cache_ask and ends of waiting; the engine counts the same packets. */
struct cache_counters {
	uint64_t asked, coalesced, answered, invalidated, expired, evicted, released;
	uint64_t stale_answers, stale_messages, malformed_messages, negative_hits;
	uint64_t flushed, welcomes, disconnects, heartbeats, not_renewed, flags_reported;
	uint64_t reports_full, asked_again, cache_full;
	uint64_t fragments_asked, fragments_answered, fragments_unanswered, fragments_told;
	uint64_t drops[NAT_REASON_LIMIT];
	uint32_t pending_flows, pending_packets;
};
/* Packets that are parked, and questions about others that wait with the engine. */
uint32_t cache_waiting(const struct cache *cache);
void cache_counters(const struct cache *cache, struct cache_counters *out);

enum cache_state { CACHE_DETACHED, CACHE_ATTACHED, CACHE_GRACE, CACHE_LEASE_OVER };
enum cache_state cache_state(const struct cache *cache, struct monotime now);
const char *cache_state_name(enum cache_state state);
struct monotime cache_valid_until(const struct cache *cache);
bool cache_draining(const struct cache *cache);
/* The incarnation that hello carries; the first data message names the attachment with it. */
void cache_incarnation(const struct cache *cache, uint64_t out[2]);

#endif
