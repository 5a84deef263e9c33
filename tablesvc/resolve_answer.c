/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an asker gets for a session: the rewrite in its direction, and the share in the session.
 */
#include "tablesvc/resolve_private.h"

/*
 * The asker becomes a holder; its packet is activity (RFC 4787 REQ-6), unless it is an RST (RFC 7857
 * section 7.1).
 */
void resolve_grant(struct table *t, struct dataplane *d, uint32_t session,
		   const struct wire_request *r, unsigned direction)
{
	struct session *s = session_at(t, session);
	s->holders |= UINT64_C(1) << d->bit;
	if (r->tcp_flags) /* first: a SYN after an RST is no sign of life */
		session_flags(t, session, direction, r->tcp_flags, 0);
	if ((direction == NAT_OUTBOUND || session_inbound_refreshes(t, s)) &&
	    !(r->tcp_flags & NAT_TCP_RST))
		session_touch(t, session);
}

void resolve_translate(struct table *t, struct wire_answer *answer, uint32_t session, uint32_t peer,
		       unsigned direction, struct nat_endpoint source,
		       struct nat_endpoint destination, uint8_t egress)
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

uint8_t resolve_egress(const struct table *t, const struct session *s)
{
	if (s->redirect)
		return t->config.redirects[s->redirect - 1].to_realm;
	return identity_realm(&t->config, s->remote); /* or 0, which is the outside */
}

/* An outbound tuple of a session that is not hairpinned. */
void resolve_answer_outbound(struct table *t, uint32_t session, struct wire_answer *answer)
{
	struct session *s = session_at(t, session);
	struct nat_endpoint remote = {.address = s->remote, .port = s->remote_port};
	resolve_translate(t, answer, session, session, NAT_OUTBOUND,
			  mapping_external(t, mapping_at(t, s->mapping)), remote,
			  resolve_egress(t, s));
}

/* The answering tuple: to the internal endpoint, from whom it believes to talk to. */
void resolve_answer_inbound(struct table *t, uint32_t session, struct wire_answer *answer)
{
	struct nat_tuple tuple = session_tuple(t, session);
	struct nat_endpoint from = {.address = tuple.destination, .port = tuple.destination_port};
	struct nat_endpoint to = {.address = tuple.source, .port = tuple.source_port};
	resolve_translate(t, answer, session, session, NAT_INBOUND, from, to, tuple.realm);
}
