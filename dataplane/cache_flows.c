/* SPDX-License-Identifier: Apache-2.0 */
/* The cache's pairs: installing, taking away, and what the table has to hear about either. */
#include "dataplane/cache_private.h"

#include <string.h>
#include "common/base/err.h"

enum {
	SWEEP_SLOTS = 65536, /* a step: less than a millisecond */
	SWEEP_EVERY_MS = 100,
};

static uint32_t low_ms(struct monotime now)
{
	return (uint32_t)monotime_ms(now);
}

/* When a reader last saw the pair, on our full clock; readers may be a little ahead of "now". */
static int64_t seen_ms(uint32_t last_seen, struct monotime now)
{
	int32_t age = (int32_t)(low_ms(now) - last_seen);
	return monotime_ms(now) - (age > 0 ? age : 0);
}

static bool report(struct cache *cache, const struct report *what)
{
	if (!reports_add(cache->reports, what, cache->next_batch)) {
		cache->counters.reports_full++;
		return false;
	}
	return true;
}

/* Flags seen on the pair in a direction, for the session or, hairpinned, for both sessions. */
static void tell_flags(struct cache *cache, const struct flow *flow, uint8_t direction,
		       uint8_t tcp_flags, int64_t seen)
{
	bool ours = direction == flow->direction; /* else the pair's other direction */
	struct report what = {
	    .handle = ours ? flow->handle : flow->peer_handle,
	    .op = WIRE_FLAGS,
	    .seen_ms = seen,
	    .tcp_flags = tcp_flags,
	    .direction = direction,
	};
	if (flow->handle != flow->peer_handle) {
		/* Hairpinned: outbound for the sender's session, inbound for the receiver's. */
		what.direction = NAT_OUTBOUND;
		report(cache, &what);
		what.handle = ours ? flow->peer_handle : flow->handle;
		what.direction = NAT_INBOUND;
	}
	report(cache, &what);
	cache->counters.flags_reported++;
}

/* What the pair saw and nobody told (a full ring, before the sweep came by) must not go with it. */
static void tell_untold(struct cache *cache, const struct flow *flow, struct monotime now)
{
	for (uint8_t d = NAT_OUTBOUND; d <= NAT_INBOUND; d++) {
		uint8_t untold = flow->tcp_flags[d] & CACHE_FLAGS & (uint8_t)~flow->tcp_reported[d];
		if (untold && flow->tuple.protocol == NAT_TCP)
			tell_flags(cache, flow, d, untold, seen_ms(flow->last_seen, now));
	}
}

/* Both sessions of a hairpinned pair are released; an ordinary pair has one. */
static void release(struct cache *cache, const struct flow *flow, uint64_t keep, uint64_t keep_peer,
		    struct monotime now)
{
	uint64_t handles[2] = {flow->handle, flow->peer_handle};
	unsigned n = flow->handle == flow->peer_handle ? 1 : 2;

	tell_untold(cache, flow, now);
	for (unsigned i = 0; i < n; i++) {
		if (handles[i] == keep || handles[i] == keep_peer)
			continue;
		struct report what = {
		    .handle = handles[i],
		    .op = WIRE_RELEASE,
		    .seen_ms = seen_ms(flow->last_seen, now),
		};
		cache->counters.released += report(cache, &what);
	}
}

static bool same_pair(const struct flow *known, const struct flow *flow)
{
	struct nat_tuple reverse = nat_reverse_tuple(&flow->tuple, &flow->rewrite);
	struct nat_rewrite back = nat_reverse_rewrite(&flow->tuple);

	if (nat_tuple_equal(&known->tuple, &flow->tuple))
		return memcmp(&known->rewrite, &flow->rewrite, sizeof back) == 0 &&
		       known->handle == flow->handle && known->peer_handle == flow->peer_handle;
	return nat_tuple_equal(&known->tuple, &reverse) &&
	       memcmp(&known->rewrite, &back, sizeof back) == 0 &&
	       known->handle == flow->peer_handle && known->peer_handle == flow->handle;
}

/*
 * The table gave a tuple that we hold to another session. Its invalidation ought to have come
 * before; whatever went wrong, the newer answer is the truth.
 */
static void replace(struct cache *cache, const struct flow *flow, struct monotime now)
{
	struct nat_tuple reverse = nat_reverse_tuple(&flow->tuple, &flow->rewrite);
	const struct nat_tuple *tuples[2] = {&flow->tuple, &reverse};
	struct flow old;

	for (unsigned i = 0; i < 2; i++) {
		if (!flowtable_remove(cache->flows, tuples[i], &old))
			continue;
		cache->dirty = true;
		release(cache, &old, flow->handle, flow->peer_handle, now);
	}
}

int cache_install(struct cache *cache, const struct nat_tuple *tuple,
		  const struct wire_answer *answer, uint8_t tcp_flags, struct monotime now)
{
	struct flow flow = {
	    .tuple = *tuple,
	    .rewrite = answer->rewrite,
	    .handle = answer->handle,
	    .peer_handle = answer->peer_handle,
	    .direction = answer->direction,
	    .state = NAT_SLOT_PARKED,
	    .unseen = tcp_flags & NAT_TCP_RST, /* RFC 7857 section 7.1 */
	};
	struct flow evicted[2], known;
	unsigned n_evicted = 0;

	/* An eviction that could not be reported must not happen. */
	if (reports_room(cache->reports) < CACHE_INSTALL_REPORTS) {
		cache->counters.reports_full++;
		cache->counters.cache_full++;
		return ERR_FULL;
	}
	int rc = answer->ttl_ms
		     ? ERR_STATE /* only as long as a session; there is no shorter entry */
		     : flowtable_insert(cache->flows, &flow, low_ms(now), evicted, &n_evicted);
	if (rc == ERR_EXISTS) {
		if (flowtable_find(cache->flows, tuple, &known) && same_pair(&known, &flow))
			return ERR_EXISTS;
		replace(cache, &flow, now);
		rc = flowtable_insert(cache->flows, &flow, low_ms(now), evicted, &n_evicted);
	}
	for (unsigned i = 0; i < n_evicted; i++) {
		cache->dirty = true;
		cache->counters.evicted++;
		release(cache, &evicted[i], answer->handle, answer->peer_handle, now);
	}
	if (rc != 0) {
		/* The table takes us for a holder; it need not. */
		cache->counters.cache_full++;
		flow.last_seen = low_ms(now);
		release(cache, &flow, 0, 0, now);
	}
	return rc;
}

/* The pair of a notice's session, if it is ours. */
static bool find_session(struct cache *cache, const struct wire_notice *notice, struct flow *out)
{
	return flowtable_find(cache->flows, &notice->tuple, out) &&
	       (out->handle == notice->handle || out->peer_handle == notice->handle);
}

void cache_invalidate(struct cache *cache, const struct wire_notice *notice, struct monotime now)
{
	struct flow flow;

	cache->counters.invalidated++;
	if (notice->handle == 0) {
		negative_remove(&cache->negative, &notice->tuple);
		return;
	}
	if (!find_session(cache, notice, &flow) || cache_mutation_defer(cache, &notice->tuple))
		return;
	flowtable_remove(cache->flows, &notice->tuple, NULL);
	cache->dirty = true;
	/* A hairpinned pair was also another session's, which lives. */
	release(cache, &flow, notice->handle, 0, now);
}

void cache_expire(struct cache *cache, const struct wire_notice *notice, struct monotime now)
{
	struct report what = {.handle = notice->handle,
			      .op = WIRE_DROPPED,
			      .seen_ms = monotime_ms(now) - UINT32_MAX};
	struct flow flow;

	if (reports_room(cache->reports) < CACHE_EXPIRE_REPORTS) {
		cache->counters.reports_full++;
		return; /* the table asks again */
	}
	if (!find_session(cache, notice, &flow)) {
		report(cache, &what);
		return;
	}
	/*
	 * RFC 4787 REQ-6. Of a hairpinned pair the other session's outbound packets are in our
	 * NAT_INBOUND direction; for it, packets of either direction count.
	 */
	bool either = notice->inbound_refreshes ||
		      (flow.handle != flow.peer_handle && flow.peer_handle == notice->handle);
	what.seen_ms = seen_ms(either ? flow.last_seen : flow.outbound_last_seen, now);
	if (monotime_ms(now) - what.seen_ms < notice->idle_ms) {
		what.op = WIRE_ACTIVE;
		report(cache, &what);
		return;
	}
	flowtable_remove(cache->flows, &notice->tuple, NULL);
	cache->dirty = true;
	cache->counters.expired++;
	tell_untold(cache, &flow, now); /* first: DROPPED may end the session */
	flow.tcp_reported[0] = flow.tcp_reported[1] = CACHE_FLAGS;
	report(cache, &what);
	release(cache, &flow, notice->handle, 0, now);
}

void cache_flush(struct cache *cache)
{
	flowtable_clear(cache->flows);
	negative_clear(&cache->negative);
	reports_clear(cache->reports);
	cache->dirty = true;
	cache->urgent = true;
	cache->counters.flushed++;
}

void cache_settle(struct cache *cache)
{
	if (cache->dirty && !cache_mutated(CACHE_MUTATION_NO_WAIT))
		cache->env.wait_for_readers(cache->env.context);
	cache->dirty = false;
	cache->acknowledged = cache->applied;
}

/* seen: when, on our clock; the table puts the reports of several dataplanes in order by it. */
static void report_flags(struct cache *cache, const struct nat_tuple *tuple, uint8_t tcp_flags,
			 int64_t seen)
{
	const uint8_t ends = NAT_TCP_FIN | NAT_TCP_RST;
	struct flow flow;

	if (!(tcp_flags & CACHE_FLAGS) || !flowtable_find(cache->flows, tuple, &flow))
		return;
	bool ours = nat_tuple_equal(&flow.tuple, tuple); /* else the pair's other direction */
	uint8_t direction = ours ? flow.direction : !flow.direction, back = !direction;
	uint8_t fresh = tcp_flags & CACHE_FLAGS & (uint8_t)~flow.tcp_reported[direction];
	/* Seen before this packet, but nobody told: it is told first. */
	uint8_t before = flow.tcp_flags[direction] & CACHE_FLAGS &
			 (uint8_t) ~(flow.tcp_reported[direction] | fresh);
	uint8_t untold = flow.tcp_flags[back] & CACHE_FLAGS & (uint8_t)~flow.tcp_reported[back];
	if (!fresh)
		return;
	if (reports_room(cache->reports) < CACHE_EXPIRE_REPORTS) {
		cache->counters.reports_full++;
		return; /* the sweep finds them later */
	}
	if (untold)
		tell_flags(cache, &flow, back, untold, seen);
	if (before)
		tell_flags(cache, &flow, direction, before, seen);
	tell_flags(cache, &flow, direction, fresh, seen);
	/*
	 * Readers report a flag once until the sweep comes by. A connection that closed may be
	 * opened again on the same tuple before that (RFC 9293 3.6.1), so a reported end makes the
	 * next SYN news, and the SYN the next end.
	 */
	uint8_t keep = UINT8_MAX;
	if (fresh & ends)
		keep = (uint8_t)~NAT_TCP_SYN;
	else if ((flow.tcp_reported[0] | flow.tcp_reported[1] | untold | before) & ends)
		keep = (uint8_t)~ends;
	if (keep != UINT8_MAX)
		flowtable_reset_flags(cache->flows, tuple, keep);
	struct nat_tuple answering = ours ? nat_reverse_tuple(&flow.tuple, &flow.rewrite) : flow.tuple;
	flowtable_reported(cache->flows, tuple, fresh | (before & keep));
	flowtable_reported(cache->flows, &answering, untold & keep);
}

void cache_report_flags(struct cache *cache, const struct nat_tuple *tuple, uint8_t tcp_flags,
			struct monotime now)
{
	report_flags(cache, tuple, tcp_flags, monotime_ms(now));
}

struct sweep {
	struct cache *cache;
	struct monotime now;
};

static void sweep_visit(void *context, const struct flow *flow)
{
	struct sweep *sweep = context;
	struct nat_tuple reverse = nat_reverse_tuple(&flow->tuple, &flow->rewrite);
	uint8_t back = !flow->direction;

	if (flow->tuple.protocol != NAT_TCP)
		return;
	/* Not later than this: only an RST leaves no trace of when it was. */
	int64_t seen = seen_ms(flow->last_seen, sweep->now);
	if ((flow->tcp_flags[0] | flow->tcp_flags[1]) & NAT_TCP_RST)
		seen = monotime_ms(sweep->now);
	report_flags(sweep->cache, &flow->tuple, flow->tcp_flags[flow->direction], seen);
	report_flags(sweep->cache, &reverse, flow->tcp_flags[back], seen);
	/*
	 * What was told is forgotten, so that it is told when it comes again: a SYN of a connection
	 * whose end passed other dataplanes, an RST after one that packets proved void. At most one
	 * of each a turn of the sweep.
	 */
	const uint8_t reported = flow->tcp_reported[0] | flow->tcp_reported[1];
	bool untold = (flow->tcp_flags[0] & ~flow->tcp_reported[0] & CACHE_FLAGS) ||
		      (flow->tcp_flags[1] & ~flow->tcp_reported[1] & CACHE_FLAGS);
	if (reported && !untold)
		flowtable_reset_flags(sweep->cache->flows, &flow->tuple, 0);
}

void cache_sweep(struct cache *cache, struct monotime now)
{
	struct sweep sweep = {cache, now};

	if (monotime_before(now, cache->next_sweep))
		return;
	cache->next_sweep = monotime_add_ms(now, SWEEP_EVERY_MS);
	cache->sweep_at =
	    flowtable_sweep(cache->flows, cache->sweep_at, SWEEP_SLOTS, sweep_visit, &sweep);
}
