/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Explicit dynamic mappings (RFC 6887), theory of operation.
 *
 * A mapping that was asked for by MAP has the flag EXPLICIT and an entry here with the asker's nonce
 * and the end of its lifetime. While it has the flag it is not released for want of sessions
 * (mapping_release), and anybody may open a session to it (the filter). When the lifetime ends, or
 * the asker gives it back, the flag goes: what sessions there are live on by their own timers, so that
 * a forged deletion ends nothing that traffic keeps alive (section 15). Statics are looked at and
 * never changed. PEER makes a session as its first packet would, and remembers the nonce only.
 *
 * Whatever else ends such a mapping (an operator, a reload, a static that needs its port) lets the
 * epoch start again, which makes clients renew at once (section 8.5).
 */
#include "tablesvc/explicit.h"

#include <arpa/inet.h>
#include <stddef.h>
#include <string.h>
#include "common/nat/packet.h"
#include "tablesvc/table_internal.h"

enum {
	EXPLICIT_PEER = INT32_MIN, /* in a key: the index is a session's */
	BUDGET = 64,		   /* list operations a tick call */
	SESSIONS_LOOKED_AT = 64,   /* of a mapping, for the lifetime that is left of it */
	PORT_TRIES = 8,
	LIFETIME_FOR_EVER = -1,
};

static struct explicit_entry *entry_at(const struct table *t, uint32_t i)
{
	return (struct explicit_entry *)t->explicits.entries.memory + i;
}

static uint32_t *bucket(const struct table *t, uint32_t key)
{
	return &t->explicits.by_key.head[table_hash(t, key, 5) & t->explicits.by_key.mask];
}

static uint32_t find(const struct table *t, uint32_t key)
{
	uint32_t i = *bucket(t, key);
	while (i && entry_at(t, i)->key != key)
		i = entry_at(t, i)->hash_next;
	return i;
}

static uint32_t add(struct table *t, uint32_t key, const uint8_t nonce[PCP_NONCE_BYTES])
{
	uint32_t i = slab_take(&t->explicits.entries);
	if (!i)
		return 0;
	uint32_t *head = bucket(t, key);
	struct explicit_entry *e = entry_at(t, i);
	*e = (struct explicit_entry){.key = key, .hash_next = *head};
	memcpy(e->nonce, nonce, sizeof e->nonce);
	*head = i;
	return i;
}

static void drop(struct table *t, uint32_t i)
{
	uint32_t *link = bucket(t, entry_at(t, i)->key);
	while (*link != i)
		link = &entry_at(t, *link)->hash_next;
	*link = entry_at(t, i)->hash_next;
	entry_at(t, i)->hash_next = 0;
	timerwheel_disarm(t->explicits.wheel, i);
	slab_give(&t->explicits.entries, i);
}

static uint32_t seconds_left(const struct table *t, uint32_t due)
{
	int32_t ticks = (int32_t)(due - t->tick);
	return ticks <= 0 ? 0 : (uint32_t)((uint64_t)ticks * TIMERWHEEL_TICK_MS / 1000);
}

static uint32_t session_left_s(const struct table *t, const struct session *s)
{
	return seconds_left(t, s->last + ticks_of_ms(session_timeout(t, s)));
}

/* What its sessions keep of a mapping: the least that it lives on without any packet. */
static uint32_t implicit_left_s(const struct table *t, uint32_t mapping)
{
	uint32_t most = 0, n = 0;
	for (uint32_t i = mapping_at(t, mapping)->sessions; i && n < SESSIONS_LOOKED_AT;
	     i = session_at(t, i)->next, n++) {
		uint32_t left = session_at(t, i)->state == SESSION_LIVE
				    ? session_left_s(t, session_at(t, i))
				    : 0;
		if (left > most)
			most = left;
	}
	return most;
}

/* The mapping is no longer explicit. */
static void let_go(struct table *t, uint32_t i)
{
	struct mapping *m = mapping_at(t, entry_at(t, i)->key);
	drop(t, i);
	m->flags &= (uint8_t)~MAPPING_EXPLICIT;
	subscriber_at(t, m->subscriber)->n_explicit--;
}

/* The same, and it goes, if nothing else holds it. */
static void end(struct table *t, uint32_t i)
{
	uint32_t mapping = entry_at(t, i)->key;
	let_go(t, i);
	mapping_release(t, mapping);
}

static void fire(void *table, uint32_t i)
{
	end(table, i);
}

bool explicit_tick(struct table *t)
{
	return timerwheel_advance(t->explicits.wheel, t->tick, BUDGET, fire, t);
}

void explicit_lose_mapping(struct table *t, uint32_t mapping)
{
	t->explicits.lost = t->now;
	let_go(t, find(t, mapping));
}

void explicit_forget_session(struct table *t, uint32_t session)
{
	uint32_t i = find(t, session | (uint32_t)EXPLICIT_PEER);
	session_at(t, session)->flags &= (uint8_t)~SESSION_PEER;
	if (i)
		drop(t, i);
}

int explicit_new(struct table *t)
{
	struct explicit_table *x = &t->explicits;
	uint32_t capacity = t->config.pcp.capacity;
	int err = slab_new(&x->entries, capacity, sizeof(struct explicit_entry),
			   offsetof(struct explicit_entry, hash_next));
	if (!err)
		err = buckets_new(&x->by_key, capacity);
	if (!err)
		err = timerwheel_new((char *)x->entries.memory +
					 offsetof(struct explicit_entry, timer),
				     sizeof(struct explicit_entry), t->tick, &x->wheel);
	x->lost = t->now;
	return err;
}

void explicit_delete(struct table *t)
{
	timerwheel_free(t->explicits.wheel);
	buckets_delete(&t->explicits.by_key);
	slab_delete(&t->explicits.entries);
}

uint32_t explicit_epoch_s(const struct table *t, struct monotime now)
{
	return (uint32_t)(monotime_sub_ms(now, t->explicits.lost) / 1000);
}

uint64_t explicit_position(const struct table *t)
{
	return t->position;
}

/* ---- requests ---- */

struct asking {
	struct table *table;
	const struct pcp_request *request;
	uint8_t realm;
	nat_be32 subscriber;
	unsigned pool;
	uint32_t mapping; /* of the internal endpoint, 0 = none */
	struct explicit_answer *answer;
};

static unsigned result_of(unsigned reason)
{
	switch (reason) {
	case NAT_REASON_NONE:
		return PCP_SUCCESS;
	case NAT_REASON_SUBSCRIBER_BLOCKS:
	case NAT_REASON_SUBSCRIBER_PORTS:
	case NAT_REASON_SUBSCRIBER_SESSIONS:
	case NAT_REASON_SUBSCRIBER_RATE:
		return PCP_USER_EX_QUOTA;
	case NAT_REASON_POLICY:
	case NAT_REASON_NOT_CONFIGURED:
		return PCP_NOT_AUTHORIZED;
	case NAT_REASON_PROTOCOL:
		return PCP_UNSUPP_PROTOCOL;
	}
	return PCP_NO_RESOURCES;
}

static bool same_nonce(const struct asking *a, uint32_t i)
{
	return memcmp(entry_at(a->table, i)->nonce, a->request->nonce, PCP_NONCE_BYTES) == 0;
}

static bool suggests(const struct asking *a)
{
	return a->request->suggests_ipv6 || a->request->suggested.address != 0 ||
	       a->request->suggested.port != 0;
}

static bool same_endpoint(const struct nat_endpoint *a, const struct nat_endpoint *b)
{
	return a->address == b->address && a->port == b->port;
}

/* Section 11.3: never the ports of PCP itself. */
static bool forbidden(const struct asking *a, const struct nat_endpoint *external)
{
	unsigned port = ntohs(external->port);
	return a->request->protocol == NAT_UDP && (port == PCP_PORT || port == PCP_CLIENT_PORT);
}

static unsigned create(struct asking *a, const struct nat_endpoint *wanted)
{
	struct table *t = a->table;
	const struct pcp_request *r = a->request;
	return mapping_create_wanted(t, a->realm, r->protocol, a->subscriber, r->internal_port,
				     a->pool, wanted, &a->mapping);
}

/* A mapping for the internal endpoint, at what is suggested if that can be had. */
static unsigned create_mapping(struct asking *a, bool insist)
{
	struct table *t = a->table;
	const struct nat_endpoint *wanted = &a->request->suggested;
	uint32_t subscriber = subscriber_find(t, a->realm, a->subscriber, 0);

	if (subscriber && !subscriber_may_create(t, subscriber_at(t, subscriber)))
		return PCP_USER_EX_QUOTA;
	if (suggests(a)) {
		unsigned reason = a->request->suggests_ipv6 || !wanted->port ||
					  !wanted->address || forbidden(a, wanted)
				      ? NAT_REASON_PORTS_EXHAUSTED
				      : create(a, wanted);
		if (reason == NAT_REASON_NONE)
			return PCP_SUCCESS;
		if (insist)
			return PCP_CANNOT_PROVIDE_EXTERNAL;
	}
	for (unsigned i = 0; i < PORT_TRIES; i++) {
		unsigned reason = create(a, NULL);
		if (reason != NAT_REASON_NONE)
			return result_of(reason);
		struct nat_endpoint external = mapping_external(t, mapping_at(t, a->mapping));
		if (!forbidden(a, &external))
			return PCP_SUCCESS;
		mapping_release(t, a->mapping);
		a->mapping = 0;
	}
	return PCP_NO_RESOURCES;
}

/* Section 15.1: gives back what MAP made. */
static unsigned map_end(struct asking *a)
{
	struct table *t = a->table;

	a->answer->external = a->request->suggested;
	if (!a->mapping)
		return PCP_SUCCESS; /* also when the first answer was lost and this is the second */
	uint32_t i = find(t, a->mapping);
	if (!i)
		return PCP_NOT_AUTHORIZED;
	if (!same_nonce(a, i)) {
		a->answer->lifetime_s = seconds_left(t, entry_at(t, i)->ends);
		return PCP_NOT_AUTHORIZED;
	}
	a->answer->lifetime_s = implicit_left_s(t, a->mapping);
	end(t, i);
	return PCP_SUCCESS;
}

static uint32_t clamp_lifetime(const struct table *t, uint32_t wanted_s)
{
	uint32_t least = t->config.pcp.lifetime_min_ms / 1000;
	uint32_t most = t->config.pcp.lifetime_max_ms / 1000;
	return wanted_s < least ? least : wanted_s > most ? most : wanted_s;
}

/* The mapping becomes, or stays, explicit. */
static unsigned map_hold(struct asking *a, uint32_t i)
{
	struct table *t = a->table;
	struct mapping *m = mapping_at(t, a->mapping);
	struct subscriber *s = subscriber_at(t, m->subscriber);
	uint32_t lifetime_s = clamp_lifetime(t, a->request->lifetime_s);

	if (!i) {
		if (s->n_explicit >= t->config.pcp.per_subscriber)
			return PCP_USER_EX_QUOTA;
		i = add(t, a->mapping, a->request->nonce);
		if (!i)
			return PCP_NO_RESOURCES;
		s->n_explicit++;
		m->flags |= MAPPING_EXPLICIT;
	}
	struct explicit_entry *e = entry_at(t, i);
	e->ends = t->tick + ticks_of_ms((uint64_t)lifetime_s * 1000);
	timerwheel_arm(t->explicits.wheel, i, e->ends);
	a->answer->external = mapping_external(t, m);
	a->answer->lifetime_s = lifetime_s;
	return PCP_SUCCESS;
}

/* Section 11.3. */
static unsigned map(struct asking *a)
{
	struct table *t = a->table;
	const struct pcp_request *r = a->request;
	uint32_t i = 0;

	if (r->internal_port == 0)
		return PCP_UNSUPP_PROTOCOL; /* all ports, all protocols */
	if (a->mapping && mapping_at(t, a->mapping)->flags & MAPPING_STATIC) {
		a->answer->external = mapping_external(t, mapping_at(t, a->mapping));
		a->answer->lifetime_s = (uint32_t)LIFETIME_FOR_EVER;
		if (r->lifetime_s == 0)
			return PCP_NOT_AUTHORIZED;
		return r->prefer_failure && !same_endpoint(&a->answer->external, &r->suggested)
			   ? PCP_CANNOT_PROVIDE_EXTERNAL
			   : PCP_SUCCESS;
	}
	if (r->lifetime_s == 0)
		return map_end(a);
	if (a->mapping) {
		struct nat_endpoint external = mapping_external(t, mapping_at(t, a->mapping));
		i = find(t, a->mapping);
		if (i && !same_nonce(a, i)) {
			a->answer->lifetime_s = seconds_left(t, entry_at(t, i)->ends);
			return PCP_NOT_AUTHORIZED;
		}
		if (r->prefer_failure && !same_endpoint(&external, &r->suggested))
			return PCP_CANNOT_PROVIDE_EXTERNAL;
		if (forbidden(a, &external)) /* traffic got it; it is not to be held */
			return PCP_NO_RESOURCES;
		return map_hold(a, i);
	}
	unsigned result = create_mapping(a, r->prefer_failure);
	if (result != PCP_SUCCESS)
		return result;
	result = map_hold(a, 0);
	if (result != PCP_SUCCESS)
		mapping_release(t, a->mapping);
	return result;
}

/* Section 12.3. */
static unsigned peer(struct asking *a)
{
	struct table *t = a->table;
	const struct pcp_request *r = a->request;
	uint32_t session = 0;

	if (a->mapping)
		session = session_find(t, a->mapping, r->remote.address, r->remote.port);
	if (session) {
		uint32_t i = find(t, session | (uint32_t)EXPLICIT_PEER);
		a->answer->lifetime_s = session_left_s(t, session_at(t, session));
		if (i && !same_nonce(a, i))
			return PCP_NOT_AUTHORIZED;
		if (r->lifetime_s > 0) {
			session_touch(t, session);
			if (!i && add(t, session | (uint32_t)EXPLICIT_PEER, r->nonce))
				session_at(t, session)->flags |= SESSION_PEER;
		}
	} else {
		if (r->lifetime_s == 0) {
			a->answer->external = r->suggested;
			return PCP_SUCCESS;
		}
		bool made = !a->mapping;
		if (made) {
			unsigned result = create_mapping(a, true);
			if (result != PCP_SUCCESS)
				return result;
		} else if (suggests(a)) {
			struct nat_endpoint external =
			    mapping_external(t, mapping_at(t, a->mapping));
			if (!same_endpoint(&external, &r->suggested))
				return PCP_CANNOT_PROVIDE_EXTERNAL;
		}
		uint8_t flags =
		    portpool_has_address(t->pools, r->remote.address) ? SESSION_HAIRPIN : 0;
		unsigned reason = session_create(t, a->mapping, r->remote.address, r->remote.port,
						 flags, 0, &session);
		if (reason != NAT_REASON_NONE) {
			if (made)
				mapping_release(t, a->mapping);
			return result_of(reason);
		}
		if (add(t, session | (uint32_t)EXPLICIT_PEER, r->nonce))
			session_at(t, session)->flags |= SESSION_PEER;
	}
	a->answer->external = mapping_external(t, mapping_at(t, a->mapping));
	a->answer->lifetime_s = session_left_s(t, session_at(t, session));
	return PCP_SUCCESS;
}

unsigned explicit_request(struct table *t, uint8_t realm, nat_be32 subscriber,
			  const struct pcp_request *request, struct monotime now,
			  struct explicit_answer *out)
{
	struct asking a = {.table = t,
			   .request = request,
			   .realm = realm,
			   .subscriber = subscriber,
			   .answer = out};

	table_set_now(t, now);
	*out = (struct explicit_answer){0};
	if (request->opcode == PCP_ANNOUNCE)
		return PCP_SUCCESS;
	if (!resolve_in_realm(t, realm, subscriber))
		return PCP_NOT_AUTHORIZED;
	if (request->protocol != NAT_TCP && request->protocol != NAT_UDP)
		return PCP_UNSUPP_PROTOCOL;
	a.pool = t->config.realms[t->realm_index[realm]].pool;
	a.mapping = mapping_find(t, realm, request->protocol, subscriber, request->internal_port);
	if (a.mapping && mapping_at(t, a.mapping)->flags & MAPPING_REDIRECT)
		return PCP_NOT_AUTHORIZED; /* it is the rule's */
	return request->opcode == PCP_MAP ? map(&a) : peer(&a);
}
