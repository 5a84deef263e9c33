/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Address-dependent filtering (RFC 4787 REQ-8): has this mapping a session with that address? Most
 * mappings have one session or a few: they are looked through. One that ever had more than
 * FILTER_SCAN is indexed from then on, an entry for each remote address, so that a host that speaks
 * to thousands from one port costs nobody a long walk.
 */
#include "tablesvc/table_internal.h"

enum { FILTER_SCAN = 8 };

static uint32_t *bucket(const struct table *t, const struct mapping *m, nat_be32 remote)
{
	uint64_t word = endpoint_word(m->realm, m->protocol, m->internal, m->internal_port);
	return &t->by_filter.head[table_hash(t, word, (uint64_t)remote << 32) & t->by_filter.mask];
}

static uint32_t find(const struct table *t, uint32_t mapping, nat_be32 remote)
{
	uint32_t i = *bucket(t, mapping_at(t, mapping), remote);
	while (i && (filter_at(t, i)->mapping != mapping || filter_at(t, i)->remote != remote))
		i = filter_at(t, i)->hash_next;
	return i;
}

bool filter_open(const struct table *t, uint32_t mapping, nat_be32 remote)
{
	const struct mapping *m = mapping_at(t, mapping);
	if (m->flags & MAPPING_INDEXED)
		return find(t, mapping, remote) != 0;
	for (uint32_t i = m->sessions; i; i = session_at(t, i)->next)
		if (session_at(t, i)->state == SESSION_LIVE && session_at(t, i)->remote == remote)
			return true;
	return false;
}

static void index_session(struct table *t, struct session *s)
{
	uint32_t i = find(t, s->mapping, s->remote);
	if (!i) {
		i = slab_take(&t->filters); /* as many as sessions: there is always one */
		uint32_t *head = bucket(t, mapping_at(t, s->mapping), s->remote);
		*filter_at(t, i) = (struct filter){s->mapping, s->remote, 0, *head};
		*head = i;
	}
	filter_at(t, i)->count++;
	s->filter = i;
}

void filter_add(struct table *t, uint32_t session)
{
	struct session *s = session_at(t, session);
	struct mapping *m = mapping_at(t, s->mapping);

	if (m->flags & MAPPING_INDEXED) {
		index_session(t, s);
		return;
	}
	if (m->n_live + m->n_ending <= FILTER_SCAN)
		return;
	m->flags |= MAPPING_INDEXED;
	for (uint32_t i = m->sessions; i; i = session_at(t, i)->next)
		if (session_at(t, i)->state == SESSION_LIVE)
			index_session(t, session_at(t, i));
}

void filter_remove(struct table *t, uint32_t session)
{
	struct session *s = session_at(t, session);
	uint32_t index = s->filter;
	if (!index)
		return;
	s->filter = 0;
	struct filter *f = filter_at(t, index);
	if (--f->count > 0)
		return;
	uint32_t *link = bucket(t, mapping_at(t, f->mapping), f->remote);
	while (*link != index)
		link = &filter_at(t, *link)->hash_next;
	*link = f->hash_next;
	slab_give(&t->filters, index);
}
