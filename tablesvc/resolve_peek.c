/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quoted tuples of ICMP errors: answered, with nothing made, held or refreshed (RFC 5508 REQ-6).
 */
#include "tablesvc/resolve_private.h"

/* A quoted tuple: translated when its session is known; nothing is made, held or refreshed. */
void resolve_peek(struct table *t, const struct wire_request *r, struct wire_answer *answer)
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
			resolve_translate(t, answer, session, peer, NAT_OUTBOUND,
					  mapping_external(t, mapping_at(t, mapping)), to,
					  m2->realm);
			return;
		}
		session = 0;
	}
	if (session) {
		resolve_answer_outbound(t, session, answer);
		return;
	}
	mapping = mapping_by_external(t, tuple->protocol, &destination);
	if (mapping)
		session = session_find(t, mapping, tuple->source, tuple->source_port);
	if (session && resolve_egress(t, session_at(t, session)) == tuple->realm &&
	    !(session_at(t, session)->flags & SESSION_HAIRPIN))
		resolve_answer_inbound(t, session, answer);
	else
		resolve_refuse(t, answer, NAT_DROP, NAT_REASON_NO_MAPPING);
}
