/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Static mappings: port forwards, and whole addresses (1:1, one_to_one.c). A forward is active only
 * when its external port is its own: a dynamic mapping that has the port, or that the internal
 * endpoint has elsewhere, is retired first, and the forward waits until that one is clean (U1).
 */
#include "tablesvc/table_internal.h"

static const char *const ACTIVE = "active";
static const char *const FENCED = "waiting: a dataplane may still translate for the last owner";
static const char *const FULL = "waiting: the table is full";

static void try_one_to_one(struct table *t, struct static_entry *e)
{
	bool full;

	if (one_to_one_activate(t, e, &full)) {
		e->state = ACTIVE;
		t->statics_waiting--;
	} else {
		e->state = full ? FULL : FENCED;
	}
}

static void try_to_activate(struct table *t, struct static_entry *e)
{
	const struct config_static *wanted = &e->mapping;
	if (one_to_one_is(wanted)) {
		try_one_to_one(t, e);
		return;
	}
	uint64_t place = portpool_place(t->pools, wanted->protocol, &wanted->external);
	if (place == PORTPOOL_NONE) /* a reload is just taking its address away */
		return;
	uint32_t rival = portpool_owner(t->pools, place);
	if (rival && !(mapping_at(t, rival)->flags & MAPPING_RETIRED))
		mapping_retire(t, rival);
	rival = mapping_find(t, wanted->realm, wanted->protocol, wanted->internal.address,
			     wanted->internal.port);
	if (rival) /* EIM: the internal endpoint has one external endpoint */
		mapping_retire(t, rival);
	e->state = FENCED;
	if (portpool_owner(t->pools, place))
		return;
	e->index = mapping_create_static(t, wanted, place);
	e->state = e->index ? ACTIVE : FULL;
	if (e->index)
		t->statics_waiting--;
}

static bool same_external(const struct config_static *a, const struct config_static *b)
{
	return a->protocol == b->protocol && a->external.address == b->external.address &&
	       a->external.port == b->external.port;
}

/* Whether both would own an endpoint: a 1:1 has all of its address's, on either side. */
static bool collide(const struct config_static *a, const struct config_static *b)
{
	bool whole = one_to_one_is(a) || one_to_one_is(b);

	if (a->external.address == b->external.address && (whole || same_external(a, b)))
		return true;
	return a->realm == b->realm && a->internal.address == b->internal.address &&
	       (whole || (a->protocol == b->protocol && a->internal.port == b->internal.port));
}

static bool is_possible(const struct table *t, const struct config_static *mapping)
{
	if (t->realm_index[mapping->realm] < 0 ||
	    identity_realm(&t->config, mapping->internal.address) == mapping->realm)
		return false;
	if (one_to_one_is(mapping)) /* fixed ranges are somebody else's, by the file */
		return portpool_has_address(t->pools, mapping->external.address) &&
		       !portpool_is_deterministic(t->pools, mapping->external.address);
	return portpool_place(t->pools, mapping->protocol, &mapping->external) != PORTPOOL_NONE;
}

int statics_add(struct table *t, const struct config_static *mapping, bool from_config,
		const char **state)
{
	struct static_entry *free_entry = NULL;

	if (!is_possible(t, mapping))
		return ERR_INVALID;
	for (uint32_t i = 0; i < t->n_statics; i++) {
		struct static_entry *e = &t->statics[i];
		if (e->used && collide(&e->mapping, mapping))
			return ERR_EXISTS;
		if (!e->used && !free_entry)
			free_entry = e;
	}
	if (!free_entry && t->n_statics < STATICS_MAX)
		free_entry = &t->statics[t->n_statics++];
	if (!free_entry)
		return ERR_FULL;
	*free_entry = (struct static_entry){
	    .mapping = *mapping, .used = true, .from_config = from_config, .state = FENCED};
	t->statics_waiting++;
	bool busy = t->statics_busy;
	t->statics_busy = true; /* what it retires may be clean at once, and look for waiting ones */
	if (one_to_one_is(mapping))
		one_to_one_begin(t, mapping);
	try_to_activate(t, free_entry);
	t->statics_busy = busy;
	if (state)
		*state = free_entry->state;
	return 0;
}

void statics_remove(struct table *t, struct static_entry *entry)
{
	uint32_t index = entry->index;
	entry->used = false;
	entry->index = 0;
	if (!index)
		t->statics_waiting--;
	if (one_to_one_is(&entry->mapping))
		one_to_one_end(t, entry, index);
	else if (index)
		mapping_retire(t, index);
}

void statics_tick(struct table *t)
{
	if (t->statics_busy)
		return;
	t->statics_busy = true;
	for (uint32_t i = 0; i < t->n_statics; i++)
		if (t->statics[i].used && !t->statics[i].index)
			try_to_activate(t, &t->statics[i]);
	t->statics_busy = false;
}

int table_static_add(struct table *t, const struct config_static *mapping, struct monotime now,
		     const char **state)
{
	table_set_now(t, now);
	bool whole = one_to_one_is(mapping);
	if (!whole && mapping->protocol != NAT_TCP && mapping->protocol != NAT_UDP)
		return ERR_INVALID;
	if (mapping->realm == NAT_REALM_OUTSIDE || !mapping->internal.port != whole ||
	    !mapping->external.port != whole)
		return ERR_INVALID;
	return statics_add(t, mapping, false, state);
}

int table_static_delete(struct table *t, const struct config_static *mapping, struct monotime now)
{
	table_set_now(t, now);
	for (uint32_t i = 0; i < t->n_statics; i++) {
		struct static_entry *e = &t->statics[i];
		if (e->used && same_external(&e->mapping, mapping)) {
			statics_remove(t, e);
			return 0;
		}
	}
	return ERR_NOT_FOUND;
}
