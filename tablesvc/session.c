/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions: a mapping and a remote endpoint; since when it is idle; who holds it.
 *
 *   FREE -> LIVE -> ENDING -> FREE      ENDING lasts until every holder is clean (U1); it is skipped
 *                                       when there is none
 */
#include "tablesvc/table_internal.h"

#include <string.h>

uint64_t session_hash(const struct table *t, const struct mapping *m, nat_be32 remote, nat_be16 port)
{
	return table_hash(t, endpoint_word(m->realm, m->protocol, m->internal, m->internal_port),
			  (uint64_t)remote << 32 | port << 1 | 1);
}

uint32_t session_find(const struct table *t, uint32_t mapping, nat_be32 remote, nat_be16 port)
{
	uint64_t hash = session_hash(t, mapping_at(t, mapping), remote, port);
	uint32_t i = t->by_session.head[hash & t->by_session.mask];
	for (; i; i = session_at(t, i)->hash_next) {
		const struct session *s = session_at(t, i);
		if (s->mapping == mapping && s->remote == remote && s->remote_port == port)
			return i;
	}
	return 0;
}

uint32_t session_by_handle(struct table *t, uint64_t handle)
{
	uint32_t i = (uint32_t)handle;
	if (i == 0 || i >= t->sessions.fresh || session_at(t, i)->state == SESSION_FREE ||
	    session_handle(t, i) != handle) {
		t->counters.stale_handles++;
		return 0;
	}
	return i;
}

static bool dns(const struct mapping *m, const struct session *s)
{
	return m->protocol == NAT_UDP && s->remote_port == nat_swap16(53);
}

uint32_t session_timeout(const struct table *t, const struct session *s)
{
	const struct config_timers *timers = &t->config.timers;
	const struct mapping *m = mapping_at(t, s->mapping);

	if (m->protocol == NAT_ICMP)
		return timers->icmp;
	if (nat_protocol_by_address(m->protocol))
		return timers->other;
	if (m->protocol == NAT_UDP)
		return dns(m, s) ? timers->udp_dns : timers->udp;
	return tcp_timeout(timers, s->tcp);
}

const char *session_state_name(const struct session *s)
{
	static const char *const names[] = {
	    [TCP_NONE] = "live",
	    [TCP_OPENING] = "opening",
	    [TCP_ESTABLISHED] = "established",
	    [TCP_FIN_OUT_SEEN] = "fin-out",
	    [TCP_FIN_IN_SEEN] = "fin-in",
	    [TCP_CLOSING] = "closing",
	    [TCP_RESET] = "reset",
	};
	return s->state == SESSION_ENDING ? "fenced" : names[tcp_state(s->tcp)];
}

static void arm(struct table *t, uint32_t index)
{
	struct session *s = session_at(t, index);
	timerwheel_arm(t->wheel, index, s->last + ticks_of_ms(session_timeout(t, s)));
}

/* NAT_REASON_NONE and *out, or why not: nothing existing is ever ended for it (RFC 6888 REQ-11D). */
unsigned session_refusal(struct table *t, struct subscriber *u)
{
	if (u->n_sessions >= t->config.limits.sessions && !u->redirect)
		return NAT_REASON_SUBSCRIBER_SESSIONS;
	if (!subscriber_may_create(t, u))
		return NAT_REASON_SUBSCRIBER_RATE;
	return t->sessions.used < t->sessions.capacity ? NAT_REASON_NONE : NAT_REASON_TABLE_FULL;
}

unsigned session_create(struct table *t, uint32_t mapping, nat_be32 remote, nat_be16 port,
			uint8_t flags, uint16_t redirect, uint32_t *out)
{
	struct mapping *m = mapping_at(t, mapping);
	struct subscriber *u = subscriber_at(t, m->subscriber);

	unsigned reason = session_refusal(t, u);
	if (reason == NAT_REASON_NONE && m->n_live >= t->config.limits.per_mapping)
		reason = NAT_REASON_SUBSCRIBER_SESSIONS;
	if (reason != NAT_REASON_NONE) {
		counts_refusal(t, portpool_pool(t->pools, m->place), reason);
		return reason;
	}
	uint32_t index = slab_take(&t->sessions);
	subscriber_created(t, u);
	struct session *s = session_at(t, index);
	uint32_t generation = s->generation + 1;
	*s = (struct session){
	    .generation = generation ? generation : 1,
	    .mapping = mapping,
	    .last = t->tick,
	    .remote = remote,
	    .remote_port = port,
	    .state = SESSION_LIVE,
	    .since = t->tick,
	    .flags = flags,
	    .redirect = redirect,
	    .next = m->sessions,
	};
	if (s->next)
		session_at(t, s->next)->previous = index;
	m->sessions = index;
	m->n_live++;
	u->n_sessions++;
	uint32_t *head =
	    &t->by_session.head[session_hash(t, m, remote, port) & t->by_session.mask];
	s->hash_next = *head;
	*head = index;
	filter_add(t, index);
	arm(t, index);
	t->counters.created++;
	counts_session(t, m, true);
	table_journal(t, JOURNAL_SESSION_CREATE, m, index);
	event_session(t, EVENT_SESSION_CREATED, index);
	*out = index;
	return NAT_REASON_NONE;
}

/* The tuple of the session's outbound packets, as they look in their realm. */
struct nat_tuple session_tuple(const struct table *t, uint32_t index)
{
	const struct session *s = session_at(t, index);
	const struct mapping *m = mapping_at(t, s->mapping);
	struct nat_tuple tuple = {
	    .source = m->internal,
	    .source_port = m->internal_port,
	    .destination = s->remote,
	    .destination_port = s->remote_port,
	    .protocol = m->protocol,
	    .realm = m->realm,
	};
	if (s->redirect) { /* the host believes that it talks to the rule's destination */
		const struct config_redirect *rule = &t->config.redirects[s->redirect - 1];
		tuple.destination = rule->destination.address;
		tuple.destination_port = rule->destination.port;
	}
	return tuple;
}

uint32_t session_partner(const struct table *t, uint32_t index)
{
	const struct session *s = session_at(t, index);
	const struct mapping *m = mapping_at(t, s->mapping);
	if (!(s->flags & SESSION_HAIRPIN))
		return 0;
	struct nat_endpoint remote = {.address = s->remote, .port = s->remote_port};
	uint32_t other = mapping_by_external(t, m->protocol, &remote);
	if (!other)
		return 0;
	struct nat_endpoint external = mapping_external(t, m);
	return session_find(t, other, external.address, external.port);
}

static void session_free(struct table *t, uint32_t index)
{
	struct session *s = session_at(t, index);
	struct mapping *m = mapping_at(t, s->mapping);
	uint32_t mapping = s->mapping;

	if (s->previous)
		session_at(t, s->previous)->next = s->next;
	else
		m->sessions = s->next;
	if (s->next)
		session_at(t, s->next)->previous = s->previous;
	m->n_ending--;
	s->state = SESSION_FREE;
	slab_give(&t->sessions, index);
	mapping_release(t, mapping);
}

/*
 * Ends a session: it answers no more, its holders are told to drop it, and it keeps its external
 * endpoint from being reused until they are clean (U1: the fence, never waived).
 */
void session_end(struct table *t, uint32_t index, unsigned reason)
{
	struct session *s = session_at(t, index);
	struct mapping *m = mapping_at(t, s->mapping);
	struct wire_notice notice = {
	    .tuple = session_tuple(t, index),
	    .handle = session_handle(t, index),
	    .reason = (uint8_t)reason,
	};

	timerwheel_disarm(t->wheel, index);
	if (s->flags & SESSION_PEER)
		explicit_forget_session(t, index);
	uint32_t *link = &t->by_session.head[session_hash(t, m, s->remote, s->remote_port) &
					     t->by_session.mask];
	while (*link != index)
		link = &session_at(t, *link)->hash_next;
	*link = s->hash_next;
	s->hash_next = 0;
	filter_remove(t, index);
	s->state = SESSION_ENDING;
	m->n_live--;
	m->n_ending++;
	subscriber_at(t, m->subscriber)->n_sessions--;
	t->counters.fenced++;
	table_journal(t, JOURNAL_SESSION_DELETE, m, index);
	event_session(t, EVENT_SESSION_ENDED, index);
	counts_session(t, m, false);
	uint64_t tell = s->holders & t->active;
	if (tell) {
		t->counters.invalidated++;
		directory_notice(t, tell, WIRE_INVALIDATE, &notice);
	}
	session_clean(t, index, TABLE_MUTATED(TABLE_MUTATE_FENCE) ? UINT64_MAX : 0);
}

void session_clean(struct table *t, uint32_t index, uint64_t bits)
{
	struct session *s = session_at(t, index);
	s->holders &= ~bits;
	if (s->state == SESSION_ENDING && (s->holders & t->dirty) == 0) {
		t->counters.fenced--;
		session_free(t, index);
	}
}

static void seen_at(struct table *t, uint32_t index, uint32_t last)
{
	struct session *s = session_at(t, index);
	struct mapping *m = mapping_at(t, s->mapping);

	if ((int32_t)(last - s->last) > 0)
		s->last = last;
	if (m->protocol == NAT_TCP && tcp_alive(s, last)) {
		arm(t, index);
		table_journal(t, JOURNAL_TCP_STATE, m, index);
	}
}

/* The timer finds it when it fires. */
void session_touch(struct table *t, uint32_t index)
{
	seen_at(t, index, t->tick);
}

static uint32_t tick_ago(const struct table *t, uint32_t age_ms)
{
	uint32_t age = age_ms / TIMERWHEEL_TICK_MS; /* rounded to the later instant */
	return t->tick > age ? t->tick - age : 0;
}

void session_seen(struct table *t, uint32_t index, uint32_t age_ms)
{
	seen_at(t, index, tick_ago(t, age_ms));
}

bool session_inbound_refreshes(const struct table *t, const struct session *s)
{
	return t->config.inbound_refresh && !(s->flags & SESSION_FOREIGN);
}

/* Another state begins with its full timer, from now on, however late its report came. */
void session_flags(struct table *t, uint32_t index, unsigned direction, uint8_t tcp_flags,
		   uint32_t age_ms)
{
	struct session *s = session_at(t, index);
	struct mapping *m = mapping_at(t, s->mapping);

	if (m->protocol != NAT_TCP || s->state != SESSION_LIVE)
		return;
	if (TABLE_MUTATED(TABLE_MUTATE_DEAF) && direction == NAT_INBOUND)
		return;
	uint8_t before = s->tcp;
	bool changed = tcp_seen(s, direction, tcp_flags, tick_ago(t, age_ms));
	if (changed) {
		s->last = t->tick;
		arm(t, index);
	}
	if (s->tcp != before)
		table_journal(t, JOURNAL_TCP_STATE, m, index);
}
