/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hairpinning. A hairpinned tuple has two sessions: the sender's {mapping 1, remote = external 2}
 * and the receiver's {mapping 2, remote = external 1}. The sender's is made even where the
 * receiver's filter refuses the packet: an attempt always opens one's own filter, so that both
 * sides' attempts meet.
 */
#include "tablesvc/resolve_private.h"

/* Hairpinning (RFC 4787 REQ-9): the source presented is the external endpoint. */
void resolve_hairpin(struct table *t, struct dataplane *d, const struct wire_request *r,
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
		resolve_refuse(t, answer, NAT_DROP, NAT_REASON_POLICY);
		return;
	}
	uint32_t session1 = resolve_open_outbound(t, d, r, t->config.realms[realm].pool, 0,
						  SESSION_HAIRPIN, external2, answer);
	if (!session1)
		return;
	session_flags(t, session1, NAT_OUTBOUND, r->tcp_flags, 0); /* also where session2 is refused */
	struct mapping *m1 = mapping_at(t, session_at(t, session1)->mapping);
	struct nat_endpoint external1 = mapping_external(t, m1);
	uint32_t session2 =
	    resolve_open_inbound(t, d, r, mapping2, external1, SESSION_HAIRPIN, answer);
	if (!session2)
		return;
	resolve_grant(t, d, session1, r, NAT_OUTBOUND);
	resolve_grant(t, d, session2, r, NAT_INBOUND);
	struct nat_endpoint internal2 = {.address = m2->internal, .port = m2->internal_port};
	resolve_translate(t, answer, session1, session2, NAT_OUTBOUND, external1, internal2,
			  m2->realm);
}
