/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory latency is what a question costs: what a whole batch will look at is fetched in rounds,
 * each needing what the one before brought, and only then the first question is answered. Nothing
 * here changes anything; a wrong guess costs a fetch.
 */
#include "tablesvc/table_internal.h"

enum { PREFETCH_STRIDE = 32 }; /* about as many lines are on their way at once as a core can have */

struct ahead {
	uint32_t *mapping, *session, *subscriber; /* buckets */
	uint64_t place;                           /* RESOLVE_IN: of the external endpoint */
	bool inbound, creates;
};

static void fetch_buckets(const struct table *t, const struct wire_request *r, struct ahead *a)
{
	const struct nat_tuple *k = &r->tuple;

	*a = (struct ahead){.place = PORTPOOL_NONE, .inbound = r->op == WIRE_RESOLVE_IN};
	if (a->inbound) {
		struct nat_endpoint e = {.address = k->destination, .port = k->destination_port};
		a->place = portpool_place(t->pools, k->protocol, &e);
		portpool_prefetch(t->pools, a->place);
		return;
	}
	uint64_t w = endpoint_word(k->realm, k->protocol, k->source, k->source_port);
	uint64_t remote = (uint64_t)k->destination << 32 | k->destination_port << 1 | 1;
	a->mapping = &t->by_internal.head[table_hash(t, w, 2) & t->by_internal.mask];
	a->session = &t->by_session.head[table_hash(t, w, remote) & t->by_session.mask];
	__builtin_prefetch(a->mapping);
	__builtin_prefetch(a->session);
}

static void fetch_entries(const struct table *t, struct ahead *a)
{
	if (a->inbound) {
		if (a->place != PORTPOOL_NONE)
			__builtin_prefetch(mapping_at(t, portpool_owner(t->pools, a->place)));
		return;
	}
	__builtin_prefetch(mapping_at(t, *a->mapping));
	__builtin_prefetch(session_at(t, *a->session), 1);
}

/* What the first entries say: the next of the chain, the inbound session, or a creation. */
static void fetch_next(const struct table *t, const struct wire_request *r, struct ahead *a)
{
	const struct nat_tuple *k = &r->tuple;

	if (a->inbound) {
		uint32_t mapping =
		    a->place == PORTPOOL_NONE ? 0 : portpool_owner(t->pools, a->place);
		uint64_t h = session_hash(t, mapping_at(t, mapping), k->source, k->source_port);
		a->session = &t->by_session.head[h & t->by_session.mask];
		__builtin_prefetch(a->session);
		return;
	}
	const struct mapping *m = mapping_at(t, *a->mapping);
	const struct session *s = session_at(t, *a->session);
	if (s->remote != k->destination || s->remote_port != k->destination_port ||
	    s->mapping != *a->mapping)
		__builtin_prefetch(session_at(t, s->hash_next), 1);
	if (m->internal == k->source && m->internal_port == k->source_port)
		return;
	__builtin_prefetch(mapping_at(t, m->hash_next), 1);
	a->creates = true;
	a->subscriber = subscriber_bucket(t, k->realm, k->source, 0);
	__builtin_prefetch(a->subscriber);
}

static void prefetch_round(struct table *t, const struct wire_request *requests, unsigned n)
{
	struct ahead ahead[PREFETCH_STRIDE];

	for (unsigned i = 0; i < n; i++)
		fetch_buckets(t, &requests[i], &ahead[i]);
	for (unsigned i = 0; i < n; i++)
		fetch_entries(t, &ahead[i]);
	for (unsigned i = 0; i < n; i++)
		fetch_next(t, &requests[i], &ahead[i]);
	for (unsigned i = 0; i < n; i++) {
		if (ahead[i].inbound)
			__builtin_prefetch(session_at(t, *ahead[i].session), 1);
		else if (ahead[i].creates)
			__builtin_prefetch(subscriber_at(t, *ahead[i].subscriber), 1);
	}
	for (unsigned i = 0; i < n; i++) {
		if (!ahead[i].creates || !*ahead[i].subscriber)
			continue;
		const struct subscriber *u = subscriber_at(t, *ahead[i].subscriber);
		__builtin_prefetch(mapping_at(t, u->mappings), 1); /* gets a neighbour */
		portpool_prefetch_share(t->pools, &u->share);
	}
}

void prefetch_batch(struct table *t, const struct wire_request *requests, unsigned n)
{
	for (unsigned from = 0; from < n; from += PREFETCH_STRIDE)
		prefetch_round(t, requests + from,
			       n - from < PREFETCH_STRIDE ? n - from : PREFETCH_STRIDE);
}
