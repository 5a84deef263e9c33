/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Static 1:1: a whole external address belongs to one internal address, ports and identifiers stay
 * what they are (Basic NAT, RFC 3022 section 2.1). It is no mapping by itself: its host's mappings
 * are made as they are used, in both directions, at the one place that is theirs, and end with
 * their last session as dynamic ones do. So U1 is counted place by place here as everywhere.
 *
 * The address is taken out of allocation at once; what was there is retired, and the entry becomes
 * active when the last of it is clean. Only then the host's own mappings elsewhere are retired: so
 * it is never without.
 */
#include "tablesvc/table_internal.h"

static struct static_entry *entry_of(const struct table *t, const struct subscriber *s)
{
	return &t->statics[s->one_to_one - 1];
}

bool one_to_one_is(const struct config_static *mapping)
{
	return mapping->protocol == 0;
}

/* Ends the dynamic mappings that are on the address now; no more come. */
void one_to_one_begin(struct table *t, const struct config_static *wanted)
{
	portpool_dedicate(t->pools, wanted->external.address, true);
	if (!portpool_address_used(t->pools, wanted->external.address))
		return;
	for (uint32_t i = 1; i < t->mappings.fresh; i++) {
		const struct mapping *m = mapping_at(t, i);
		if (m->used && !(m->flags & MAPPING_RETIRED) &&
		    mapping_external(t, m).address == wanted->external.address)
			mapping_retire(t, i);
	}
}

static void retire_all(struct table *t, uint32_t subscriber, uint8_t flag)
{
	for (uint32_t i = subscriber_at(t, subscriber)->mappings, next; i; i = next) {
		next = mapping_at(t, i)->next;
		if (!flag || mapping_at(t, i)->flags & flag)
			mapping_retire(t, i);
	}
}

/* For the event log: as if it were one mapping, of all protocols and ports. */
static void tell(struct table *t, const struct static_entry *e, uint32_t subscriber,
		 enum event_kind kind)
{
	struct nat_endpoint any = {.address = e->mapping.external.address};
	struct mapping m = {.place = portpool_place(t->pools, NAT_ICMP, &any),
			    .internal = e->mapping.internal.address,
			    .realm = e->mapping.realm,
			    .subscriber = subscriber};

	if (m.place != PORTPOOL_NONE) /* its address is leaving the pools: those tell */
		event_static(t, kind, &m);
}

/* False: the address is not clean yet, or (*full) there is no room for the subscriber. */
bool one_to_one_activate(struct table *t, struct static_entry *e, bool *full)
{
	const struct config_static *wanted = &e->mapping;

	*full = false;
	if (portpool_address_used(t->pools, wanted->external.address))
		return false;
	e->index = subscriber_get(t, wanted->realm, wanted->internal.address, 0);
	if (!e->index) {
		*full = true;
		return false;
	}
	subscriber_at(t, e->index)->one_to_one = (uint16_t)(e - t->statics + 1);
	retire_all(t, e->index, 0);
	negative_end_address(t, wanted->external.address);
	tell(t, e, e->index, EVENT_STATIC_ADDED);
	return true;
}

void one_to_one_end(struct table *t, const struct static_entry *e, uint32_t index)
{
	bool busy = t->statics_busy;

	t->statics_busy = true; /* nobody else changes the list that is gone through */
	if (index) {
		tell(t, e, index, EVENT_STATIC_REMOVED);
		retire_all(t, index, MAPPING_WHOLE);
		subscriber_at(t, index)->one_to_one = 0;
		subscriber_release(t, index);
	}
	portpool_dedicate(t->pools, e->mapping.external.address, false);
	t->statics_busy = busy;
}

/* The one external endpoint of a mapping whose subscriber has a whole address. */
unsigned one_to_one_take(struct table *t, struct mapping *m, uint32_t index,
			 const struct nat_endpoint *wanted)
{
	const struct static_entry *e = entry_of(t, subscriber_at(t, m->subscriber));
	struct nat_endpoint external = {.address = e->mapping.external.address,
					.port = m->internal_port};

	if (wanted && (wanted->address != external.address || wanted->port != external.port))
		return NAT_REASON_PORTS_EXHAUSTED;
	m->place = portpool_place(t->pools, m->protocol, &external);
	if (m->place == PORTPOOL_NONE)
		return NAT_REASON_PROTOCOL;
	/* One that was ended is not clean: the same endpoints again, as soon as it is. */
	if (portpool_reserve(t->pools, m->place, index))
		return NAT_REASON_BUSY;
	m->flags |= MAPPING_WHOLE;
	return NAT_REASON_NONE;
}

const struct config_static *one_to_one_of(const struct table *t, nat_be32 external)
{
	for (uint32_t i = 0; portpool_is_dedicated(t->pools, external) && i < t->n_statics; i++) {
		const struct static_entry *e = &t->statics[i];
		if (e->used && e->index && one_to_one_is(&e->mapping) &&
		    e->mapping.external.address == external)
			return &e->mapping;
	}
	return NULL;
}
