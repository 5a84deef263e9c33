/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A new configuration while sessions live. What stays possible stays; what a removed address,
 * static mapping or redirect made is ended the ordinary way: invalidated, and fenced.
 */
#include "tablesvc/table_internal.h"

#include <string.h>

static bool pools_differ(const struct config *a, const struct config *b)
{
	if (a->n_pools != b->n_pools)
		return true;
	for (unsigned i = 0; i < a->n_pools; i++) {
		const struct config_pool *p = &a->pools[i], *q = &b->pools[i];
		if (p->n_prefixes != q->n_prefixes || p->n_protocols != q->n_protocols ||
		    memcmp(p->protocols, q->protocols, p->n_protocols) ||
		    memcmp(p->prefixes, q->prefixes, p->n_prefixes * sizeof *p->prefixes))
			return true;
	}
	return false;
}

static bool redirects_differ(const struct config *a, const struct config *b)
{
	return a->n_redirects != b->n_redirects ||
	       (a->n_redirects &&
		memcmp(a->redirects, b->redirects, a->n_redirects * sizeof *a->redirects));
}

/* Sessions name their rule by number: those whose rule is gone, or is another one, end. */
static void end_redirected(struct table *t, const struct config *new)
{
	for (uint32_t i = 1; i < t->sessions.fresh; i++) {
		const struct session *s = session_at(t, i);
		if (s->state != SESSION_LIVE || !s->redirect)
			continue;
		unsigned rule = s->redirect - 1u;
		if (rule >= new->n_redirects || memcmp(&t->config.redirects[rule],
						       &new->redirects[rule],
						       sizeof new->redirects[rule]) != 0)
			session_end(t, i, NAT_REASON_POLICY);
	}
}

/*
 * What a new rule takes over, or an address that came to the pools or left them (its packets are
 * hairpinned now, or no longer), must not go on as before at one dataplane and anew at another (U4).
 */
static void end_taken_over(struct table *t)
{
	for (uint32_t i = 1; i < t->sessions.fresh; i++) {
		const struct session *s = session_at(t, i);
		if (s->state != SESSION_LIVE || s->redirect)
			continue;
		struct nat_tuple tuple = session_tuple(t, i);
		const struct mapping *m = mapping_at(t, s->mapping);
		const struct nat_endpoint external = mapping_external(t, m);
		const struct nat_tuple inbound = {.source = s->remote,
						  .source_port = s->remote_port,
						  .destination = external.address,
						  .destination_port = external.port,
						  .protocol = m->protocol,
						  .realm = identity_realm(&t->config, s->remote)};
		bool ours = portpool_has_address(t->pools, s->remote);
		if (resolve_redirect_of(t, &tuple) || resolve_redirect_of(t, &inbound) || ours != !!(s->flags & SESSION_HAIRPIN))
			session_end(t, i, NAT_REASON_POLICY);
	}
}

/* Its address, or its protocol, is no longer its pool's. */
static bool is_retired(const struct table *t, const struct mapping *m)
{
	if (portpool_retired(t->pools, m->place))
		return true;
	return nat_protocol_by_address(m->protocol) && !(m->flags & MAPPING_WHOLE) &&
	       !mapping_allowed(t, portpool_pool(t->pools, m->place), m->protocol);
}

static void end_retired(struct table *t)
{
	for (uint32_t i = 1; i < t->mappings.fresh; i++) {
		struct mapping *m = mapping_at(t, i);
		if (m->used && !(m->flags & MAPPING_STATIC) && is_retired(t, m))
			mapping_retire(t, i);
	}
}

static bool has_static(const struct config *config, const struct config_static *mapping)
{
	for (unsigned i = 0; i < config->n_statics; i++)
		if (memcmp(&config->statics[i], mapping, sizeof *mapping) == 0)
			return true;
	return false;
}

static void reload_statics(struct table *t)
{
	for (uint32_t i = 0; i < t->n_statics; i++) {
		struct static_entry *e = &t->statics[i];
		bool gone = !portpool_has_address(t->pools, e->mapping.external.address);
		if (e->used && (gone || (e->from_config && !has_static(&t->config, &e->mapping))))
			statics_remove(t, e);
	}
	for (unsigned i = 0; i < t->config.n_statics; i++)
		statics_add(t, &t->config.statics[i], true, NULL); /* ERR_EXISTS: it is there */
}

int table_reload(struct table *t, const struct config *config, struct monotime now, char *error,
		 unsigned error_size)
{
	struct config fresh, old = t->config;
	bool redirects = redirects_differ(&old, config), pools = pools_differ(&old, config);
	bool identities = identities_differ(&old, config);

	table_set_now(t, now);
	int err = settings_copy(&fresh, config);
	if (err)
		return err;
	/* Memory and promises that were made at the start stay. */
	fresh.capacity = old.capacity;
	fresh.lease_ms = old.lease_ms;
	fresh.heartbeat_ms = old.heartbeat_ms;
	fresh.grace_ms = old.grace_ms;
	fresh.margin_ms = old.margin_ms;
	fresh.batch_max = old.batch_max;
	fresh.inflight_max = old.inflight_max;
	err = portpool_reload(t->pools, &fresh, error, error_size);
	if (err) {
		settings_free(&fresh);
		return err;
	}
	if (redirects)
		end_redirected(t, &fresh); /* by the old rules: their tuples are needed */
	t->config = fresh;
	counts_move(t, &old);
	table_index_realms(t);
	if (identities)
		identity_reload(t, &old);
	settings_free(&old);
	event_configuration(t);
	if (redirects || pools)
		end_taken_over(t);
	if (pools)
		end_retired(t);
	reload_statics(t);
	return 0;
}
