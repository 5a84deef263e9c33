/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions and their answers: what does this tuple become? Every question is idempotent (U4): the
 * same tuple finds the same session, whoever asks. Finding and making sessions is resolve_open.c.
 */
#include "tablesvc/resolve_private.h"

#include <arpa/inet.h>

bool resolve_in_realm(const struct table *t, uint8_t realm, nat_be32 address)
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

static void no_mapping(struct table *t, struct dataplane *d, const struct nat_tuple *tuple,
		       struct wire_answer *answer)
{
	struct nat_endpoint external = {.address = tuple->destination,
					.port = tuple->destination_port};
	resolve_refuse(t, answer, NAT_DROP, NAT_REASON_NO_MAPPING);
	answer->ttl_ms = negative_tell(t, tuple->protocol, &external, UINT64_C(1) << d->bit);
}

/*
 * The mapping of the tuple's destination, a new one if that has a static 1:1. It may have no session
 * yet: whoever gets it calls mapping_release in the end. 0: *answer says why not.
 */
static uint32_t find_external(struct table *t, struct dataplane *d, const struct wire_request *r,
			      struct wire_answer *answer)
{
	const struct nat_tuple *tuple = &r->tuple;
	struct nat_endpoint external = {.address = tuple->destination,
					.port = tuple->destination_port};
	uint32_t mapping = mapping_by_external(t, tuple->protocol, &external);
	const struct config_static *entry;

	if (mapping && !(mapping_at(t, mapping)->flags & MAPPING_RETIRED))
		return mapping;
	entry = mapping ? NULL : one_to_one_of(t, tuple->destination);
	if (entry)
		return resolve_open_one_to_one(t, d, r, entry, answer);
	no_mapping(t, d, tuple, answer);
	return 0;
}

static void resolve_redirect(struct table *t, struct dataplane *d, const struct wire_request *r,
			     uint16_t redirect, struct wire_answer *answer)
{
	const struct config_redirect *rule = &t->config.redirects[redirect - 1];
	uint32_t session = resolve_open_outbound(t, d, r, rule->pool, redirect, 0, rule->to, answer);
	if (!session)
		return;
	resolve_grant(t, d, session, r, NAT_OUTBOUND);
	resolve_answer_outbound(t, session, answer);
}

/* A packet to an external endpoint that a session is known of: the answer of a redirected one. */
static bool resolve_redirected_reply(struct table *t, struct dataplane *d,
				     const struct wire_request *r, uint32_t mapping,
				     struct wire_answer *answer)
{
	uint32_t session = session_find(t, mapping, r->tuple.source, r->tuple.source_port);
	if (!session || resolve_egress(t, session_at(t, session)) != r->tuple.realm)
		return false;
	resolve_grant(t, d, session, r, NAT_INBOUND);
	resolve_answer_inbound(t, session, answer);
	return true;
}

/* From a host that keeps its own address: to another realm's external endpoint as from outside. */
static void resolve_from_identity(struct table *t, struct dataplane *d,
				  const struct wire_request *r, struct wire_answer *answer)
{
	struct nat_endpoint remote = {.address = r->tuple.source, .port = r->tuple.source_port};
	uint32_t mapping = find_external(t, d, r, answer);

	if (!mapping)
		return;
	uint32_t session = 0;
	/* It has an address to reach that host by; the answers would come from there. */
	if (mapping_at(t, mapping)->realm == r->tuple.realm)
		resolve_refuse(t, answer, NAT_REJECT, NAT_REASON_POLICY);
	else
		session = resolve_open_inbound(t, d, r, mapping, remote, 0, answer);
	if (!session) {
		mapping_release(t, mapping);
		return;
	}
	resolve_grant(t, d, session, r, NAT_INBOUND);
	resolve_answer_inbound(t, session, answer);
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
		if (identity_realm(&t->config, tuple->source) == tuple->realm)
			resolve_from_identity(t, d, r, answer);
		else if (!resolve_in_realm(t, tuple->realm, tuple->source))
			resolve_refuse(t, answer, NAT_REJECT, NAT_REASON_NOT_CONFIGURED);
		else if (!t->config.hairpinning)
			resolve_refuse(t, answer, NAT_REJECT, NAT_REASON_POLICY);
		else if ((mapping = find_external(t, d, r, answer))) {
			resolve_hairpin(t, d, r, mapping, answer);
			mapping_release(t, mapping);
		}
		return;
	}
	if (!resolve_in_realm(t, tuple->realm, tuple->source)) {
		resolve_refuse(t, answer, NAT_REJECT, NAT_REASON_NOT_CONFIGURED);
		return;
	}
	/* Dataplanes pass these by themselves, as soon as they know. */
	if (identity_realm(&t->config, tuple->source) == tuple->realm ||
	    identity_realm(&t->config, tuple->destination) == tuple->realm) {
		*answer = (struct wire_answer){.verdict = NAT_PASS};
		return;
	}
	unsigned pool = t->config.realms[t->realm_index[tuple->realm]].pool;
	uint32_t session = resolve_open_outbound(t, d, r, pool, 0, 0, remote, answer);
	if (!session)
		return;
	resolve_grant(t, d, session, r, NAT_OUTBOUND);
	resolve_answer_outbound(t, session, answer);
}

static void resolve_in(struct table *t, struct dataplane *d, const struct wire_request *r,
		       struct wire_answer *answer)
{
	const struct nat_tuple *tuple = &r->tuple;
	struct nat_endpoint remote = {.address = tuple->source, .port = tuple->source_port};

	uint16_t redirect = resolve_redirect_of(t, tuple);
	if (redirect) {
		resolve_redirect(t, d, r, redirect, answer);
		return;
	}
	/* ours, from the outside: spoofed */
	if (portpool_has_address(t->pools, tuple->source) ||
	    identity_realm(&t->config, tuple->source)) {
		resolve_refuse(t, answer, NAT_DROP, NAT_REASON_FILTERED);
		return;
	}
	uint32_t mapping = find_external(t, d, r, answer);
	if (!mapping)
		return;
	uint32_t session = resolve_open_inbound(t, d, r, mapping, remote, 0, answer);
	if (!session) {
		mapping_release(t, mapping);
		return;
	}
	if (resolve_egress(t, session_at(t, session)) != NAT_REALM_OUTSIDE) {
		/* it lives in another realm */
		resolve_refuse(t, answer, NAT_DROP, NAT_REASON_FILTERED);
		return;
	}
	resolve_grant(t, d, session, r, NAT_INBOUND);
	resolve_answer_inbound(t, session, answer);
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
