/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions and their answers: what does this tuple become? Every question is idempotent (U4): the
 * same tuple finds the same session, whoever asks.
 *
 * A hairpinned tuple has two sessions: the sender's {mapping 1, remote = external 2} and the
 * receiver's {mapping 2, remote = external 1}. The sender's is made even where the receiver's filter
 * refuses the packet: an attempt always opens one's own filter, so that both sides' attempts meet.
 */
#include "tablesvc/table_internal.h"

#include <arpa/inet.h>

static void refuse(struct table *t, struct wire_answer *answer, unsigned verdict, unsigned reason)
{
	*answer = (struct wire_answer){.verdict = (uint8_t)verdict, .reason = (uint8_t)reason};
	t->counters.refused[reason]++;
}

/* No room: the sender learns it (RFC 6888 REQ-11). Not configured or against policy: too. */
static void refuse_creation(struct table *t, struct wire_answer *answer, uint32_t subscriber,
			    unsigned reason)
{
	if (subscriber)
		subscriber_at(t, subscriber)->refused++;
	refuse(t, answer, NAT_REJECT, reason);
}

static bool in_realm(const struct table *t, uint8_t realm, nat_be32 address)
{
	int index = t->realm_index[realm];
	if (index < 0)
		return false;
	const struct config_realm *r = &t->config.realms[index];
	for (unsigned i = 0; i < r->n_prefixes; i++) {
		uint8_t length = r->prefixes[i].length;
		uint32_t mask = length ? htonl(UINT32_MAX << (32 - length)) : 0;
		if (((address ^ r->prefixes[i].address) & mask) == 0)
			return true;
	}
	return false;
}

uint16_t resolve_redirect_of(const struct table *t, const struct nat_tuple *tuple)
{
	for (unsigned i = 0; i < t->config.n_redirects; i++) {
		const struct config_redirect *rule = &t->config.redirects[i];
		if (rule->from_realm == tuple->realm && rule->protocol == tuple->protocol &&
		    rule->destination.address == tuple->destination &&
		    rule->destination.port == tuple->destination_port)
			return (uint16_t)(i + 1);
	}
	return 0;
}

static bool opens(const struct wire_request *r)
{
	return r->tuple.protocol != NAT_TCP || (r->tcp_flags & NAT_TCP_SYN);
}

/* The asker becomes a holder; its packet is activity. */
static void grant(struct table *t, struct dataplane *d, uint32_t session,
		  const struct wire_request *r, unsigned direction)
{
	struct session *s = session_at(t, session);
	s->holders |= UINT64_C(1) << d->bit;
	if (direction == NAT_OUTBOUND || t->config.inbound_refresh)
		session_touch(t, session);
	if (r->tcp_flags)
		session_flags(t, session, direction, r->tcp_flags);
}

static void translate(struct table *t, struct wire_answer *answer, uint32_t session, uint32_t peer,
		      unsigned direction, struct nat_endpoint source, struct nat_endpoint destination,
		      uint8_t egress)
{
	*answer = (struct wire_answer){
	    .verdict = NAT_TRANSLATE,
	    .direction = (uint8_t)direction,
	    .handle = session_handle(t, session),
	    .peer_handle = session_handle(t, peer),
	    .rewrite = {.source = source.address,
			.destination = destination.address,
			.source_port = source.port,
			.destination_port = destination.port,
			.egress = egress},
	};
	t->counters.resolved++;
}

static uint8_t session_egress(const struct table *t, const struct session *s)
{
	return s->redirect ? t->config.redirects[s->redirect - 1].to_realm : NAT_REALM_OUTSIDE;
}

/* An outbound tuple of a session that is not hairpinned. */
static void answer_outbound(struct table *t, uint32_t session, struct wire_answer *answer)
{
	struct session *s = session_at(t, session);
	struct nat_endpoint remote = {.address = s->remote, .port = s->remote_port};
	translate(t, answer, session, session, NAT_OUTBOUND,
		  mapping_external(t, mapping_at(t, s->mapping)), remote, session_egress(t, s));
}

/* The answering tuple: to the internal endpoint, from whom it believes to talk to. */
static void answer_inbound(struct table *t, uint32_t session, struct wire_answer *answer)
{
	struct nat_tuple tuple = session_tuple(t, session);
	struct nat_endpoint from = {.address = tuple.destination, .port = tuple.destination_port};
	struct nat_endpoint to = {.address = tuple.source, .port = tuple.source_port};
	translate(t, answer, session, session, NAT_INBOUND, from, to, tuple.realm);
}

/* Finds or makes the mapping and session of an outbound tuple. 0 when it was refused. */
static uint32_t open_outbound(struct table *t, const struct wire_request *r, unsigned pool,
			      uint16_t redirect, uint8_t flags, struct nat_endpoint remote,
			      struct wire_answer *answer)
{
	const struct nat_tuple *tuple = &r->tuple;
	bool may_create = opens(r);
	/* Clients of a redirect from the outside are not subscribers of ours. */
	uint16_t shared = redirect && tuple->realm == NAT_REALM_OUTSIDE ? redirect : 0;
	uint32_t session = 0;
	uint32_t mapping =
	    mapping_find(t, tuple->realm, tuple->protocol, tuple->source, tuple->source_port);

	if (mapping)
		session = session_find(t, mapping, remote.address, remote.port);
	if (session) {
		if (session_at(t, session)->redirect == redirect)
			return session;
		/* Two views of one remote endpoint: its answers could not be told apart. */
		refuse(t, answer, NAT_REJECT, NAT_REASON_POLICY);
		return 0;
	}
	if (!may_create) {
		refuse(t, answer, NAT_DROP, NAT_REASON_TCP_OUT_OF_STATE);
		return 0;
	}
	if (!mapping) {
		unsigned reason =
		    mapping_create(t, tuple->realm, tuple->protocol, tuple->source,
				   tuple->source_port, pool, shared, &mapping);
		if (reason != NAT_REASON_NONE) {
			refuse_creation(t, answer,
					subscriber_find(t, tuple->realm,
							shared ? 0 : tuple->source, shared),
					reason);
			return 0;
		}
	}
	unsigned reason =
	    session_create(t, mapping, remote.address, remote.port, flags, redirect, &session);
	if (reason != NAT_REASON_NONE) {
		refuse_creation(t, answer, mapping_at(t, mapping)->subscriber, reason);
		mapping_release(t, mapping); /* not even one session: it goes at once */
		return 0;
	}
	return session;
}

/* Whether a packet from this remote endpoint may open a session on the mapping (RFC 4787 REQ-8). */
static bool filter_allows(const struct table *t, uint32_t mapping, nat_be32 remote)
{
	const struct mapping *m = mapping_at(t, mapping);
	if (m->flags & MAPPING_STATIC)
		return true;
	if (m->flags & MAPPING_REDIRECT)
		return false;
	const struct config_pool *pool = &t->config.pools[portpool_pool(t->pools, m->place)];
	enum config_filtering filtering =
	    m->protocol == NAT_TCP ? pool->filtering_tcp : pool->filtering_udp;
	if (filtering == CONFIG_EIF)
		return true;
	return filtering == CONFIG_ADF && filter_open(t, mapping, remote);
}

/* Finds the session of a packet to an external endpoint, or makes it where the filter allows. */
static uint32_t open_inbound(struct table *t, const struct wire_request *r, uint32_t mapping,
			     struct nat_endpoint remote, uint8_t flags, struct wire_answer *answer)
{
	uint32_t session = session_find(t, mapping, remote.address, remote.port);
	if (session)
		return session;
	if (!filter_allows(t, mapping, remote.address)) {
		refuse(t, answer, NAT_DROP, NAT_REASON_FILTERED); /* ttl 0: never cached */
		return 0;
	}
	if (!opens(r)) {
		refuse(t, answer, NAT_DROP, NAT_REASON_TCP_OUT_OF_STATE);
		return 0;
	}
	unsigned reason =
	    session_create(t, mapping, remote.address, remote.port, flags, 0, &session);
	if (reason != NAT_REASON_NONE) {
		refuse(t, answer, NAT_DROP, reason);
		return 0;
	}
	return session;
}

static void no_mapping(struct table *t, struct dataplane *d, const struct nat_tuple *tuple,
		       struct wire_answer *answer)
{
	struct nat_endpoint external = {.address = tuple->destination,
					.port = tuple->destination_port};
	refuse(t, answer, NAT_DROP, NAT_REASON_NO_MAPPING);
	answer->ttl_ms =
	    negative_tell(t, tuple->protocol, &external, UINT64_C(1) << d->bit);
}

/* Hairpinning (RFC 4787 REQ-9): the source presented is the external endpoint. */
static void resolve_hairpin(struct table *t, struct dataplane *d, const struct wire_request *r,
			    uint32_t mapping2, struct wire_answer *answer)
{
	const struct nat_tuple *tuple = &r->tuple;
	struct nat_endpoint external2 = {.address = tuple->destination,
					 .port = tuple->destination_port};
	struct mapping *m2 = mapping_at(t, mapping2);
	int realm = t->realm_index[tuple->realm];

	if (m2->realm == tuple->realm && m2->internal == tuple->source &&
	    m2->internal_port == tuple->source_port) {
		/* To oneself: both directions would look the same. */
		refuse(t, answer, NAT_DROP, NAT_REASON_POLICY);
		return;
	}
	uint32_t session1 = open_outbound(t, r, t->config.realms[realm].pool, 0, SESSION_HAIRPIN,
					  external2, answer);
	if (!session1)
		return;
	struct mapping *m1 = mapping_at(t, session_at(t, session1)->mapping);
	struct nat_endpoint external1 = mapping_external(t, m1);
	uint32_t session2 = open_inbound(t, r, mapping2, external1, SESSION_HAIRPIN, answer);
	if (!session2)
		return;
	grant(t, d, session1, r, NAT_OUTBOUND);
	grant(t, d, session2, r, NAT_INBOUND);
	struct nat_endpoint internal2 = {.address = m2->internal, .port = m2->internal_port};
	translate(t, answer, session1, session2, NAT_OUTBOUND, external1, internal2, m2->realm);
}

static void resolve_redirect(struct table *t, struct dataplane *d, const struct wire_request *r,
			     uint16_t redirect, struct wire_answer *answer)
{
	const struct config_redirect *rule = &t->config.redirects[redirect - 1];
	uint32_t session = open_outbound(t, r, rule->pool, redirect, 0, rule->to, answer);
	if (!session)
		return;
	grant(t, d, session, r, NAT_OUTBOUND);
	answer_outbound(t, session, answer);
}

/* A packet to an external endpoint that a session is known of: the answer of a redirected one. */
static bool resolve_redirected_reply(struct table *t, struct dataplane *d,
				     const struct wire_request *r, uint32_t mapping,
				     struct wire_answer *answer)
{
	uint32_t session = session_find(t, mapping, r->tuple.source, r->tuple.source_port);
	if (!session || session_egress(t, session_at(t, session)) != r->tuple.realm)
		return false;
	grant(t, d, session, r, NAT_INBOUND);
	answer_inbound(t, session, answer);
	return true;
}

static void resolve_out(struct table *t, struct dataplane *d, const struct wire_request *r,
			struct wire_answer *answer)
{
	const struct nat_tuple *tuple = &r->tuple;
	struct nat_endpoint remote = {.address = tuple->destination,
				      .port = tuple->destination_port};

	uint16_t redirect = resolve_redirect_of(t, tuple);
	if (redirect) {
		resolve_redirect(t, d, r, redirect, answer);
		return;
	}
	if (portpool_has_address(t->pools, tuple->destination)) {
		uint32_t mapping = mapping_by_external(t, tuple->protocol, &remote);
		if (mapping && (mapping_at(t, mapping)->flags & MAPPING_RETIRED))
			mapping = 0;
		if (mapping && resolve_redirected_reply(t, d, r, mapping, answer))
			return;
		if (!in_realm(t, tuple->realm, tuple->source))
			refuse(t, answer, NAT_REJECT, NAT_REASON_NOT_CONFIGURED);
		else if (!t->config.hairpinning)
			refuse(t, answer, NAT_REJECT, NAT_REASON_POLICY);
		else if (!mapping)
			no_mapping(t, d, tuple, answer);
		else
			resolve_hairpin(t, d, r, mapping, answer);
		return;
	}
	if (!in_realm(t, tuple->realm, tuple->source)) {
		refuse(t, answer, NAT_REJECT, NAT_REASON_NOT_CONFIGURED);
		return;
	}
	unsigned pool = t->config.realms[t->realm_index[tuple->realm]].pool;
	uint32_t session = open_outbound(t, r, pool, 0, 0, remote, answer);
	if (!session)
		return;
	grant(t, d, session, r, NAT_OUTBOUND);
	answer_outbound(t, session, answer);
}

static void resolve_in(struct table *t, struct dataplane *d, const struct wire_request *r,
		       struct wire_answer *answer)
{
	const struct nat_tuple *tuple = &r->tuple;
	struct nat_endpoint external = {.address = tuple->destination,
					.port = tuple->destination_port};
	struct nat_endpoint remote = {.address = tuple->source, .port = tuple->source_port};

	uint16_t redirect = resolve_redirect_of(t, tuple);
	if (redirect) {
		resolve_redirect(t, d, r, redirect, answer);
		return;
	}
	if (portpool_has_address(t->pools, tuple->source)) { /* ours, from the outside: spoofed */
		refuse(t, answer, NAT_DROP, NAT_REASON_FILTERED);
		return;
	}
	uint32_t mapping = mapping_by_external(t, tuple->protocol, &external);
	if (!mapping || (mapping_at(t, mapping)->flags & MAPPING_RETIRED)) {
		no_mapping(t, d, tuple, answer);
		return;
	}
	uint32_t session = open_inbound(t, r, mapping, remote, 0, answer);
	if (!session)
		return;
	if (session_egress(t, session_at(t, session)) != NAT_REALM_OUTSIDE) {
		refuse(t, answer, NAT_DROP, NAT_REASON_FILTERED); /* it lives in another realm */
		return;
	}
	grant(t, d, session, r, NAT_INBOUND);
	answer_inbound(t, session, answer);
}

/* A quoted tuple: translated when its session is known; nothing is made, held or refreshed. */
static void resolve_peek(struct table *t, const struct wire_request *r, struct wire_answer *answer)
{
	const struct nat_tuple *tuple = &r->tuple;
	struct nat_endpoint destination = {.address = tuple->destination,
					   .port = tuple->destination_port};
	uint32_t mapping, session = 0;

	t->counters.peeked++;
	mapping = mapping_find(t, tuple->realm, tuple->protocol, tuple->source, tuple->source_port);
	if (mapping) {
		uint16_t redirect = resolve_redirect_of(t, tuple);
		struct nat_endpoint remote =
		    redirect ? t->config.redirects[redirect - 1].to : destination;
		session = session_find(t, mapping, remote.address, remote.port);
	}
	if (session && (session_at(t, session)->flags & SESSION_HAIRPIN)) {
		uint32_t peer = session_partner(t, session);
		if (peer) {
			const struct mapping *m2 = mapping_at(t, session_at(t, peer)->mapping);
			struct nat_endpoint to = {.address = m2->internal,
						  .port = m2->internal_port};
			translate(t, answer, session, peer, NAT_OUTBOUND,
				  mapping_external(t, mapping_at(t, mapping)), to, m2->realm);
			return;
		}
		session = 0;
	}
	if (session) {
		answer_outbound(t, session, answer);
		return;
	}
	mapping = mapping_by_external(t, tuple->protocol, &destination);
	if (mapping)
		session = session_find(t, mapping, tuple->source, tuple->source_port);
	if (session && session_egress(t, session_at(t, session)) == tuple->realm &&
	    !(session_at(t, session)->flags & SESSION_HAIRPIN))
		answer_inbound(t, session, answer);
	else
		refuse(t, answer, NAT_DROP, NAT_REASON_NO_MAPPING);
}

void resolve_answer(struct table *t, struct dataplane *d, const struct wire_request *r,
		    struct wire_answer *answer)
{
	if (r->op == WIRE_RESOLVE_OUT)
		resolve_out(t, d, r, answer);
	else if (r->op == WIRE_RESOLVE_IN)
		resolve_in(t, d, r, answer);
	else
		resolve_peek(t, r, answer);
}
