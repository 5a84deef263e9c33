/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. The table believes that we hold every session it ever answered with, until
 * we say otherwise; it reuses an external endpoint only when every believed holder has said so, or
 * when our lease and grace have run out by its clock. So the cache may always hold less than the
 * table believes, never more. From that follows every rule here:
 *
 * - "We hold it no more" (an acknowledgement, RELEASE, DROPPED, a flush) leaves only after the pair
 *   is out of the flow table *and* out of every reader's hands: cache_settle runs before anything
 *   is sent, once for all that was removed since.
 * - An answer is a grant made in the past. When a RELEASE or DROPPED of ours has overtaken it, the
 *   table has taken the grant back before we see it: it must not be installed (reports_took_back).
 * - What was granted, invalidated and asked comes in one sequence and is applied in that order. A
 *   gap, an older epoch, or a welcome that does not continue where we are: refuse, or flush.
 * - The end of lease and grace is our own decision, by our own clock, from when the heartbeat was
 *   sent. A process that was frozen finds out at its next look at the clock; readers look at each
 *   packet.
 */
#include "dataplane/cache.h"

#include <stdlib.h>
#include <string.h>
#include "common/base/err.h"
#include "dataplane/cache_private.h"

enum {
	REPORTS_DEFAULT = 1 << 16,
	INQUIRIES_DEFAULT = 4096,
	INQUIRY_TIMEOUT_MS = 1000, /* until the service says otherwise */
	/* Unacknowledged messages after which a bare acknowledgement goes out: the table keeps
	   them. */
	ACKNOWLEDGE_EVERY = 32,
};

int cache_new(const struct cache_conf *conf, const struct cache_env *env, struct flowtable *flows,
	      struct random_source *random, struct cache **out)
{
	struct cache *cache = calloc(1, sizeof *cache);
	int rc = ERR_NOMEM;

	if (!cache)
		return ERR_NOMEM;
	cache->conf = *conf;
	cache->env = *env;
	cache->flows = flows;
	cache->next_batch = 1;
	size_t ids = (size_t)WIRE_INFLIGHT_MAX * WIRE_BATCH_MAX * sizeof *cache->ids;
	cache->ids = malloc(ids);
	if (!cache->ids)
		goto failed;
	memset(cache->ids, 0xff, ids); /* has its pages before the first flows */
	for (unsigned i = 0; i < WIRE_INFLIGHT_MAX; i++)
		cache->inflight[i].ids = cache->ids + (size_t)i * WIRE_BATCH_MAX;
	rc = pending_new(conf->pending_flows, conf->pending_packets, conf->packet_room, random,
			 &cache->pending);
	if (rc)
		goto failed;
	rc = reports_new(conf->reports ? conf->reports : REPORTS_DEFAULT, random, &cache->reports);
	if (rc)
		goto failed;
	rc = inquiries_new(conf->inquiries ? conf->inquiries : INQUIRIES_DEFAULT,
			   &cache->inquiries);
	if (rc)
		goto failed;
	cache->inquiry_timeout_ms = INQUIRY_TIMEOUT_MS;
	negative_init(&cache->negative, random);
	cache->incarnation[0] = random->next(random->context);
	cache->incarnation[1] = random->next(random->context);
	*out = cache;
	return 0;

failed:
	cache_free(cache);
	return rc;
}

void cache_free(struct cache *cache)
{
	if (!cache)
		return;
	inquiries_free(cache->inquiries);
	reports_free(cache->reports);
	pending_free(cache->pending);
	free(cache->ids);
	free(cache);
}

/* ---- from the engine */

static unsigned ask(struct cache *cache, unsigned op, const struct nat_tuple *tuple,
		    uint8_t tcp_flags, const struct engine_packet *packet, struct monotime now)
{
	bool coalesced = false;

	switch (cache_state(cache, now)) {
	case CACHE_DETACHED:
		return NAT_REASON_NO_TABLE;
	case CACHE_LEASE_OVER:
		if (!lease_attached(&cache->lease))
			return NAT_REASON_LEASE_OVER;
		break;	  /* attached anew: the next heartbeat gives a lease */
	case CACHE_GRACE: /* parks: the service may be back before the deadline */
	case CACHE_ATTACHED:
		break;
	}
	if (op == WIRE_RESOLVE_IN && negative_hit(&cache->negative, tuple, now)) {
		cache->counters.negative_hits++;
		return NAT_REASON_NO_MAPPING;
	}
	unsigned reason =
	    pending_park(cache->pending, op, tuple, tcp_flags, packet, now, &coalesced);
	if (reason == 0)
		cache->counters.coalesced += coalesced;
	return reason;
}

unsigned cache_ask(struct cache *cache, unsigned op, const struct nat_tuple *tuple,
		   uint8_t tcp_flags, const struct engine_packet *packet, struct monotime now)
{
	unsigned reason = ask(cache, op, tuple, tcp_flags, packet, now);

	cache->counters.drops[reason] += reason != 0;
	return reason;
}

/* ---- the control stream */

void cache_hello(const struct cache *cache, struct wire_hello *out)
{
	*out = (struct wire_hello){
	    .version_min = WIRE_VERSION,
	    .version_max = WIRE_VERSION,
	    .incarnation = {cache->incarnation[0], cache->incarnation[1]},
	    .epoch = cache->epoch,
	    .sequence = cache->applied,
	    .flow_capacity = flowtable_capacity(cache->flows),
	};
	memcpy(out->name, cache->conf.name, sizeof out->name);
}

static uint32_t clamp(uint32_t value, uint32_t low, uint32_t high)
{
	return value < low ? low : value > high ? high : value;
}

int cache_welcome(struct cache *cache, const struct wire_welcome *welcome, struct monotime now)
{
	if (welcome->version != WIRE_VERSION)
		return ERR_VERSION;
	if (welcome->epoch < cache->epoch) {
		cache->counters.stale_messages++;
		return ERR_STALE;
	}
	if (welcome->lease_ms == 0 || welcome->heartbeat_ms == 0) {
		cache->counters.malformed_messages++;
		return ERR_MALFORMED;
	}
	if (lease_attached(&cache->lease))
		cache_disconnected(cache, now);
	/* Not where we are: an invalidation may be among what we missed. */
	bool flush = welcome->flush || welcome->sequence != cache->applied;

	cache->counters.welcomes++;
	cache->epoch = welcome->epoch;
	cache->applied = welcome->sequence;
	cache->batch_max = clamp(welcome->batch_max, 1, WIRE_BATCH_MAX);
	cache->inflight_max = clamp(welcome->inflight_max, 1, WIRE_INFLIGHT_MAX);
	lease_welcome(&cache->lease, welcome, now);
	if (flush)
		cache_flush(cache);
	cache_settle(cache);
	/*
	 * The first batch names the attachment to the data stream, so there must be one; besides,
	 * the acknowledgement may have been lost with the old stream, and a fence may wait for it.
	 */
	cache->greeting = true;
	return 0;
}

void cache_config(struct cache *cache, const struct wire_config *config, struct monotime now)
{
	(void)now;
	pending_limit(cache->pending, config->pending_packets, config->pending_per_flow,
		      config->pending_timeout_ms);
	/* Soon enough that the datagram can still go on without. */
	uint32_t half = config->fragment_timeout_ms / 2, parked = config->pending_timeout_ms;
	uint32_t least = parked && parked < half ? parked : half;
	cache->inquiry_timeout_ms = least ? least : INQUIRY_TIMEOUT_MS;
	cache->env.configured(cache->env.context, config);
}

/* Everything up to "acknowledged" is said by whatever is being sent. */
static uint64_t acknowledge(struct cache *cache)
{
	cache->acknowledged_sent = cache->acknowledged;
	cache->urgent = false;
	return cache->acknowledged;
}

bool cache_heartbeat_due(struct cache *cache, struct wire_heartbeat *out, struct monotime now)
{
	if (!lease_heartbeat_due(&cache->lease, now))
		return false;
	cache_settle(cache);
	cache->counters.heartbeats++;
	*out = (struct wire_heartbeat){
	    .sent_ms = (uint64_t)monotime_ms(now),
	    .acknowledged = acknowledge(cache),
	};
	return true;
}

void cache_heartbeat_ack(struct cache *cache, const struct wire_heartbeat_ack *ack,
			 struct monotime now)
{
	if (!lease_attached(&cache->lease) || ack->epoch != cache->epoch) {
		cache->counters.stale_messages++;
		return;
	}
	cache->counters.not_renewed += !ack->renewed;
	if (lease_acknowledged(&cache->lease, ack, now))
		cache->env.valid_until(cache->env.context, cache->lease.valid_until);
}

bool cache_wants_reconnect(const struct cache *cache, struct monotime now)
{
	return !monotime_before(now, lease_reconnect_at(&cache->lease));
}

void cache_disconnected(struct cache *cache, struct monotime now)
{
	(void)now;
	if (!lease_attached(&cache->lease))
		return;
	cache->counters.disconnects++;
	lease_disconnected(&cache->lease);
	cache->n_inflight = 0;
	pending_ask_all_again(cache->pending);
	inquiries_ask_all_again(cache->inquiries);
	reports_rewind(cache->reports);
}

/* ---- the data stream */

static bool bare_acknowledgement_due(const struct cache *cache)
{
	uint64_t unsaid = cache->acknowledged - cache->acknowledged_sent;
	return cache->greeting || unsaid >= ACKNOWLEDGE_EVERY || (unsaid && cache->urgent);
}

bool cache_next_batch(struct cache *cache, struct wire_batch *out, struct monotime now)
{
	if (!lease_attached(&cache->lease))
		return false;
	cache_settle(cache);
	uint32_t n = 0;
	if (cache->n_inflight < cache->inflight_max) {
		uint32_t at = (cache->oldest + cache->n_inflight) % WIRE_INFLIGHT_MAX;
		struct inflight *batch = &cache->inflight[at];

		n = reports_fill(cache->reports, cache->entries, cache->batch_max,
				 cache->next_batch, now);
		batch->questions = 0;
		while (n < cache->batch_max && lease_may_ask(&cache->lease, now) &&
		       pending_has_next(cache->pending))
			batch->ids[batch->questions++] =
			    pending_next(cache->pending, &cache->entries[n++], now);
		batch->fragments = 0;
		if (lease_may_ask(&cache->lease, now))
			cache_fill_fragments(cache, batch, &n);
		batch->sequence = cache->next_batch;
		batch->reports = reports_position(cache->reports);
		batch->sent_at = now;
		cache->counters.asked += batch->questions - batch->fragments;
		cache->n_inflight += n > 0;
	}
	if (n == 0 && !bare_acknowledgement_due(cache))
		return false;
	cache->greeting = false;
	*out = (struct wire_batch){
	    .sequence = cache->next_batch++,
	    .acknowledged = acknowledge(cache),
	    .n = n,
	    .entries = cache->entries,
	};
	return true;
}

/* ---- time */

void cache_tick(struct cache *cache, struct monotime now)
{
	struct wire_answer over = {.verdict = NAT_DROP, .reason = NAT_REASON_PENDING_TIMEOUT};
	struct pending_chain chain;

	cache_mutation_tick(cache);
	if (!lease_may_ask(&cache->lease, now))
		over.reason = NAT_REASON_NO_TABLE;
	while (pending_expired(cache->pending, now, cache->lease.lease_ms, &chain))
		cache_deliver(cache, &chain, &over, now);
	cache_expire_fragments(cache, now);
	cache_sweep(cache, now);
}

struct monotime cache_next_tick(const struct cache *cache, struct monotime now)
{
	struct monotime next = monotime_min(pending_deadline(cache->pending),
					    inquiries_deadline(cache->inquiries));

	if (flowtable_pairs(cache->flows))
		next = monotime_min(next, cache->next_sweep);
	if (lease_attached(&cache->lease))
		next = monotime_min(next, cache->lease.next_heartbeat);
	next = monotime_min(next, lease_reconnect_at(&cache->lease));
	return monotime_before(next, now) ? now : next;
}

/* ---- state */

uint32_t cache_waiting(const struct cache *cache)
{
	return pending_packets(cache->pending) + inquiries_open(cache->inquiries);
}

void cache_counters(const struct cache *cache, struct cache_counters *out)
{
	*out = cache->counters;
	out->pending_flows = pending_flows(cache->pending);
	out->pending_packets = pending_packets(cache->pending);
}

enum cache_state cache_state(const struct cache *cache, struct monotime now)
{
	const struct lease *lease = &cache->lease;

	if (lease_may_ask(lease, now))
		return CACHE_ATTACHED;
	if (lease_may_translate(lease, now))
		return CACHE_GRACE;
	if (lease->valid_until.ns != 0)
		return CACHE_LEASE_OVER;
	return lease_attached(lease) ? CACHE_ATTACHED : CACHE_DETACHED;
}

const char *cache_state_name(enum cache_state state)
{
	static const char *const names[] = {
	    [CACHE_DETACHED] = "detached",
	    [CACHE_ATTACHED] = "attached",
	    [CACHE_GRACE] = "grace",
	    [CACHE_LEASE_OVER] = "lease over",
	};
	return (unsigned)state <= CACHE_LEASE_OVER ? names[state] : "unknown";
}

struct monotime cache_valid_until(const struct cache *cache)
{
	return cache->lease.valid_until;
}

bool cache_draining(const struct cache *cache)
{
	return cache->lease.draining;
}

void cache_incarnation(const struct cache *cache, uint64_t out[2])
{
	memcpy(out, cache->incarnation, sizeof cache->incarnation);
}
