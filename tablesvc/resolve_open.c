/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the mapping and session that a tuple belongs to, or makes them: limits and filtering.
 */
#include "tablesvc/resolve_private.h"

void resolve_refuse(struct table *t, struct wire_answer *answer, unsigned verdict, unsigned reason)
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
	/* What is not translated at all is dropped, here as in the dataplane; what soon is, too. */
	bool silently = reason == NAT_REASON_PROTOCOL || reason == NAT_REASON_BUSY;
	resolve_refuse(t, answer, silently ? NAT_DROP : NAT_REJECT, reason);
}

/*
 * Whether the packet may make what is not there. Of TCP only a plain SYN: all else belongs to a
 * connection that we don't know, and passing it would show a private source outside (RFC 3022
 * section 4.1). A drained dataplane carries on whatever exists, and starts nothing.
 */
static bool may_make(struct table *t, const struct dataplane *d, const struct wire_request *r,
		     struct wire_answer *answer)
{
	const uint8_t decide = NAT_TCP_SYN | NAT_TCP_ACK | NAT_TCP_FIN | NAT_TCP_RST;

	if (r->tuple.protocol == NAT_TCP && (r->tcp_flags & decide) != NAT_TCP_SYN) {
		resolve_refuse(t, answer, NAT_DROP, NAT_REASON_TCP_OUT_OF_STATE);
		return false;
	}
	if (d->draining) {
		resolve_refuse(t, answer, NAT_DROP, NAT_REASON_DRAINING);
		return false;
	}
	return true;
}

/* Finds or makes the mapping and session of an outbound tuple. 0 when it was refused. */
uint32_t resolve_open_outbound(struct table *t, const struct dataplane *d,
			       const struct wire_request *r, unsigned pool, uint16_t redirect,
			       uint8_t flags, struct nat_endpoint remote,
			       struct wire_answer *answer)
{
	const struct nat_tuple *tuple = &r->tuple;
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
		resolve_refuse(t, answer, NAT_REJECT, NAT_REASON_POLICY);
		return 0;
	}
	/* Else an inside host's stray replies would take ports (RFC 5508 REQ-1: queries do). */
	if (tuple->protocol == NAT_ICMP && (r->tcp_flags & NAT_TCP_ACK)) {
		resolve_refuse(t, answer, NAT_DROP, NAT_REASON_UNASKED_REPLY);
		return 0;
	}
	if (!may_make(t, d, r, answer))
		return 0;
	if (!mapping) {
		unsigned reason = mapping_create(t, tuple->realm, tuple->protocol, tuple->source,
						 tuple->source_port, pool, shared, &mapping);
		if (reason != NAT_REASON_NONE) {
			refuse_creation(
			    t, answer,
			    subscriber_find(t, tuple->realm, shared ? 0 : tuple->source, shared),
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

/*
 * Whether a packet from this remote endpoint may open a session on the mapping (RFC 4787 REQ-8). A
 * session that just anybody opened is kept by the inside's packets alone, whatever inbound_refresh
 * says: else any host could hold a subscriber's port for ever (RFC 7857 section 7).
 */
static bool filter_allows(const struct table *t, uint32_t mapping, nat_be32 remote, uint8_t *flags)
{
	const struct mapping *m = mapping_at(t, mapping);
	if (m->flags & (MAPPING_STATIC | MAPPING_EXPLICIT | MAPPING_WHOLE))
		return true;
	if (m->flags & MAPPING_REDIRECT)
		return false;
	const struct config_pool *pool = &t->config.pools[portpool_pool(t->pools, m->place)];
	enum config_filtering filtering =
	    m->protocol == NAT_TCP ? pool->filtering_tcp : pool->filtering_udp;
	if (filtering == CONFIG_EIF) {
		*flags |= SESSION_FOREIGN;
		return true;
	}
	/* Without ports a remote address is all that there is to depend on. */
	if (nat_protocol_by_address(m->protocol))
		return filter_open(t, mapping, remote);
	return filtering == CONFIG_ADF && filter_open(t, mapping, remote);
}

/* Finds the session of a packet to an external endpoint, or makes it where the filter allows. */
uint32_t resolve_open_inbound(struct table *t, const struct dataplane *d,
			      const struct wire_request *r, uint32_t mapping, struct nat_endpoint remote, uint8_t flags, struct wire_answer *answer)
{
	uint32_t session = session_find(t, mapping, remote.address, remote.port);
	if (session)
		return session;
	if (!filter_allows(t, mapping, remote.address, &flags)) {
		resolve_refuse(t, answer, NAT_DROP, NAT_REASON_FILTERED); /* ttl 0: never cached */
		return 0;
	}
	if (!may_make(t, d, r, answer))
		return 0;
	unsigned reason =
	    session_create(t, mapping, remote.address, remote.port, flags, 0, &session);
	if (reason != NAT_REASON_NONE) {
		resolve_refuse(t, answer, NAT_DROP, reason);
		return 0;
	}
	return session;
}

/* The mapping that an external endpoint of a static 1:1 gets when the first packet comes to it. */
uint32_t resolve_open_one_to_one(struct table *t, const struct dataplane *d,
				 const struct wire_request *r, const struct config_static *entry,
				 struct wire_answer *answer)
{
	uint32_t mapping = 0;

	if (!may_make(t, d, r, answer))
		return 0;
	unsigned reason =
	    mapping_create(t, entry->realm, r->tuple.protocol, entry->internal.address,
			   r->tuple.destination_port, 0, 0, &mapping);
	if (reason != NAT_REASON_NONE)
		resolve_refuse(t, answer, NAT_DROP, reason);
	return mapping;
}
