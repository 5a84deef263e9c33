/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mappings: {realm, protocol, internal endpoint} <-> external endpoint (RFC 4787 REQ-1: whatever
 * the destination). A mapping keeps its external endpoint until its last session is clean (U1); if
 * its internal endpoint speaks before that, the same mapping serves it again.
 */
#include "tablesvc/table_internal.h"

#include <arpa/inet.h>
#include <string.h>

static uint32_t *bucket(const struct table *t, uint64_t word)
{
	return &t->by_internal.head[table_hash(t, word, 2) & t->by_internal.mask];
}

static uint64_t word_of(const struct mapping *m)
{
	return endpoint_word(m->realm, m->protocol, m->internal, m->internal_port);
}

uint32_t mapping_find(const struct table *t, uint8_t realm, uint8_t protocol, nat_be32 address,
		      nat_be16 port)
{
	uint64_t word = endpoint_word(realm, protocol, address, port);
	uint32_t i = *bucket(t, word);
	while (i && word_of(mapping_at(t, i)) != word)
		i = mapping_at(t, i)->hash_next;
	return i;
}

uint32_t mapping_by_external(const struct table *t, uint8_t protocol,
			     const struct nat_endpoint *external)
{
	uint64_t place = portpool_place(t->pools, protocol, external);
	return place == PORTPOOL_NONE ? 0 : portpool_owner(t->pools, place);
}

struct nat_endpoint mapping_external(const struct table *t, const struct mapping *m)
{
	return portpool_endpoint(t->pools, m->place);
}

static void link_internal(struct table *t, uint32_t index)
{
	struct mapping *m = mapping_at(t, index);
	uint32_t *head = bucket(t, word_of(m));
	m->hash_next = *head;
	*head = index;
}

static void unlink_internal(struct table *t, uint32_t index)
{
	struct mapping *m = mapping_at(t, index);
	uint32_t *link = bucket(t, word_of(m));
	while (*link != index)
		link = &mapping_at(t, *link)->hash_next;
	*link = m->hash_next;
	m->hash_next = 0;
}

static void link_subscriber(struct table *t, uint32_t index)
{
	struct mapping *m = mapping_at(t, index);
	struct subscriber *s = subscriber_at(t, m->subscriber);
	m->previous = 0;
	m->next = s->mappings;
	if (m->next)
		mapping_at(t, m->next)->previous = index;
	s->mappings = index;
	s->n_mappings++;
}

static void unlink_subscriber(struct table *t, struct mapping *m)
{
	struct subscriber *s = subscriber_at(t, m->subscriber);
	if (m->previous)
		mapping_at(t, m->previous)->next = m->next;
	else
		s->mappings = m->next;
	if (m->next)
		mapping_at(t, m->next)->previous = m->previous;
	s->n_mappings--;
}

static uint32_t mapping_new(struct table *t, uint8_t realm, uint8_t protocol, nat_be32 address,
			    nat_be16 port, uint32_t subscriber)
{
	uint32_t index = slab_take(&t->mappings);
	if (!index)
		return 0;
	*mapping_at(t, index) = (struct mapping){
	    .internal = address,
	    .internal_port = port,
	    .protocol = protocol,
	    .realm = realm,
	    .subscriber = subscriber,
	    .used = true,
	};
	return index;
}

bool mapping_allowed(const struct table *t, unsigned pool, uint8_t protocol)
{
	const struct config_pool *p = &t->config.pools[pool];
	return memchr(p->protocols, protocol, p->n_protocols) != NULL;
}

static unsigned take_port(struct table *t, struct mapping *m, uint32_t index, unsigned pool,
			  uint32_t limit, const struct nat_endpoint *wanted, bool *granted)
{
	struct portpool_share *share = &subscriber_at(t, m->subscriber)->share;

	if (subscriber_at(t, m->subscriber)->one_to_one)
		return one_to_one_take(t, m, index, wanted);
	if (nat_protocol_by_address(m->protocol)) {
		if (!mapping_allowed(t, pool, m->protocol))
			return NAT_REASON_PROTOCOL;
		return portpool_allocate_address(t->pools, share, pool, m->protocol, index, t->now,
						 &m->place);
	}
	if (!wanted)
		return portpool_allocate(t->pools, share, pool, m->protocol,
					 ntohs(m->internal_port), limit, index, t->now, &m->place,
					 granted);
	m->place = portpool_place(t->pools, m->protocol, wanted);
	if (m->place == PORTPOOL_NONE)
		return NAT_REASON_PORTS_EXHAUSTED;
	return portpool_claim(t->pools, share, pool, m->place, limit, index, t->now, granted);
}

/* A dynamic mapping. NAT_REASON_NONE or why not. */
static unsigned create(struct table *t, uint8_t realm, uint8_t protocol, nat_be32 address,
		       nat_be16 port, unsigned pool, uint16_t redirect, bool for_session,
		       const struct nat_endpoint *wanted, uint32_t *out)
{
	uint32_t subscriber = subscriber_get(t, realm, redirect ? 0 : address, redirect);
	if (!subscriber)
		return NAT_REASON_TABLE_FULL;
	/* RFC 6888 REQ-4: what a subscriber may have, of all protocols; not clients of a redirect. */
	uint32_t ports = redirect ? 0 : t->config.limits.ports;
	unsigned refusal = NAT_REASON_NONE;
	if (for_session) /* else a block may be granted, logged and left to rest for each refusal */
		refusal = session_refusal(t, subscriber_at(t, subscriber));
	if (ports && subscriber_at(t, subscriber)->share.n_ports >= ports)
		refusal = NAT_REASON_SUBSCRIBER_PORTS;
	if (refusal != NAT_REASON_NONE) {
		subscriber_release(t, subscriber);
		return refusal;
	}
	uint32_t index = mapping_new(t, realm, protocol, address, port, subscriber);
	if (!index) {
		subscriber_release(t, subscriber);
		return NAT_REASON_TABLE_FULL;
	}
	struct mapping *m = mapping_at(t, index);
	uint32_t limit = redirect ? UINT16_MAX : t->config.limits.blocks;
	bool granted = false;
	unsigned reason = take_port(t, m, index, pool, limit, wanted, &granted);
	if (reason != NAT_REASON_NONE) {
		m->used = false;
		slab_give(&t->mappings, index);
		subscriber_release(t, subscriber);
		return reason;
	}
	if (redirect)
		m->flags |= MAPPING_REDIRECT;
	link_internal(t, index);
	link_subscriber(t, index);
	if (granted) {
		table_journal(t, JOURNAL_BLOCK_GRANT, m, 0);
		event_block(t, EVENT_BLOCK_ALLOCATED, m);
	}
	if (nat_protocol_by_address(protocol) && !(m->flags & MAPPING_WHOLE))
		event_address(t, EVENT_ADDRESS_ALLOCATED, m);
	table_journal(t, JOURNAL_MAPPING_CREATE, m, 0);
	counts_mapping(t, m, true);
	struct nat_endpoint external = mapping_external(t, m);
	negative_end(t, protocol, &external);
	*out = index;
	return NAT_REASON_NONE;
}

unsigned mapping_create(struct table *t, uint8_t realm, uint8_t protocol, nat_be32 address,
			nat_be16 port, unsigned pool, uint16_t redirect, uint32_t *out)
{
	unsigned reason =
	    create(t, realm, protocol, address, port, pool, redirect, true, NULL, out);
	counts_refusal(t, pool, reason);
	return reason;
}

unsigned mapping_create_wanted(struct table *t, uint8_t realm, uint8_t protocol, nat_be32 address,
			       nat_be16 port, unsigned pool, const struct nat_endpoint *wanted,
			       uint32_t *out)
{
	unsigned reason =
	    create(t, realm, protocol, address, port, pool, 0, false, wanted, out);
	counts_refusal(t, pool, reason);
	return reason;
}

/* place is reserved for it already, by this index or by none: the owner is set here. */
uint32_t mapping_create_static(struct table *t, const struct config_static *wanted, uint64_t place)
{
	uint32_t subscriber = subscriber_get(t, wanted->realm, wanted->internal.address, 0);
	if (!subscriber)
		return 0;
	uint32_t index = mapping_new(t, wanted->realm, wanted->protocol, wanted->internal.address,
				     wanted->internal.port, subscriber);
	if (!index || portpool_reserve(t->pools, place, index)) {
		if (index) {
			mapping_at(t, index)->used = false;
			slab_give(&t->mappings, index);
		}
		subscriber_release(t, subscriber);
		return 0;
	}
	struct mapping *m = mapping_at(t, index);
	m->place = place;
	m->flags = MAPPING_STATIC;
	link_internal(t, index);
	link_subscriber(t, index);
	table_journal(t, JOURNAL_STATIC_ADD, m, 0);
	event_static(t, EVENT_STATIC_ADDED, m);
	counts_mapping(t, m, true);
	negative_end(t, wanted->protocol, &wanted->external);
	return index;
}

void mapping_retire(struct table *t, uint32_t index)
{
	struct mapping *m = mapping_at(t, index);
	if (!(m->flags & MAPPING_RETIRED)) {
		unlink_internal(t, index);
		m->flags |= MAPPING_RETIRED;
	}
	if (m->flags & MAPPING_EXPLICIT)
		explicit_lose_mapping(t, index);
	/* A session that ends clean at once leaves the list, and the mapping with the last. */
	m->n_ending++;
	for (uint32_t i = m->sessions, next; i; i = next) {
		next = session_at(t, i)->next;
		if (session_at(t, i)->state == SESSION_LIVE)
			session_end(t, i, NAT_REASON_NONE);
	}
	m->n_ending--;
	mapping_release(t, index);
}

void mapping_release(struct table *t, uint32_t index)
{
	struct mapping *m = mapping_at(t, index);
	if (m->n_live > 0 || m->n_ending > 0)
		return;
	if ((m->flags & (MAPPING_STATIC | MAPPING_EXPLICIT)) && !(m->flags & MAPPING_RETIRED))
		return;
	if (!(m->flags & MAPPING_RETIRED))
		unlink_internal(t, index);
	unlink_subscriber(t, m);
	table_journal(t, m->flags & MAPPING_STATIC ? JOURNAL_STATIC_DELETE : JOURNAL_MAPPING_DELETE, m,
		      0);
	counts_mapping(t, m, false);
	if (m->flags & MAPPING_STATIC) {
		event_static(t, EVENT_STATIC_REMOVED, m);
		portpool_unreserve(t->pools, m->place);
	} else if (m->flags & MAPPING_WHOLE) {
		portpool_unreserve(t->pools, m->place);
	} else {
		bool freed = false;
		if (nat_protocol_by_address(m->protocol))
			event_address(t, EVENT_ADDRESS_RELEASED, m);
		portpool_release(t->pools, &subscriber_at(t, m->subscriber)->share, m->place,
				 t->config.hold_down_ms, t->now, &freed);
		if (freed) {
			table_journal(t, JOURNAL_BLOCK_FREE, m, 0);
			event_block(t, EVENT_BLOCK_RELEASED, m);
		}
	}
	m->used = false;
	subscriber_release(t, m->subscriber);
	slab_give(&t->mappings, index);
	if (t->statics_waiting) /* before a dynamic mapping takes the port */
		statics_tick(t);
}
