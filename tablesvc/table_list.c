/* SPDX-License-Identifier: Apache-2.0 */
/* What the operator sees and ends: lists by cursor, with bounded work a call. */
#include "tablesvc/deterministic.h"
#include "tablesvc/table_internal.h"

#include <string.h>

enum { LOOK_MAX = 4096 }; /* entries looked at in one call */

static bool endpoint_matches(const struct nat_endpoint *wanted, const struct nat_endpoint *have)
{
	return (!wanted->address || wanted->address == have->address) &&
	       (!wanted->port || wanted->port == have->port);
}

static bool mapping_matches(const struct table *t, const struct table_filter *f,
			    const struct mapping *m)
{
	struct nat_endpoint external = mapping_external(t, m);
	return (!f->subscriber || f->subscriber == m->internal) &&
	       (!f->protocol || f->protocol == m->protocol) &&
	       (!f->realm || f->realm == m->realm) && endpoint_matches(&f->external, &external);
}

static bool session_matches(const struct table *t, const struct table_filter *f,
			    const struct session *s)
{
	struct nat_endpoint remote = {.address = s->remote, .port = s->remote_port};
	return endpoint_matches(&f->remote, &remote) &&
	       mapping_matches(t, f, mapping_at(t, s->mapping));
}

static bool has_remote(const struct table *t, const struct table_filter *f, const struct mapping *m)
{
	if (!f->remote.address && !f->remote.port)
		return true;
	for (uint32_t i = m->sessions; i; i = session_at(t, i)->next)
		if (session_at(t, i)->state == SESSION_LIVE && session_matches(t, f, session_at(t, i)))
			return true;
	return false;
}

/* Where to go on: 0 at the end. */
static uint64_t next_cursor(uint64_t at, uint64_t end)
{
	return at < end ? at : 0;
}

static const char *made_by(const struct mapping *m)
{
	if (m->flags & (MAPPING_STATIC | MAPPING_WHOLE))
		return "static";
	return m->flags & MAPPING_EXPLICIT ? "pcp" : "traffic";
}

unsigned table_mappings(struct table *t, const struct table_filter *filter, uint64_t *cursor,
			struct table_mapping_row *rows, unsigned max, struct monotime now)
{
	unsigned n = 0, looked = 0;
	uint64_t i = *cursor ? *cursor : 1;

	for (; i < t->mappings.fresh && n < max && looked < LOOK_MAX; i++, looked++) {
		const struct mapping *m = mapping_at(t, (uint32_t)i);
		if (!m->used || !mapping_matches(t, filter, m) || !has_remote(t, filter, m))
			continue;
		rows[n++] = (struct table_mapping_row){
		    .realm = m->realm,
		    .protocol = m->protocol,
		    .internal = {.address = m->internal, .port = m->internal_port},
		    .external = mapping_external(t, m),
		    .sessions = m->n_live,
		    .made_by = made_by(m),
		    .pool = name_of_pool(t, m->place),
		};
	}
	*cursor = next_cursor(i, t->mappings.fresh);
	return n;
}

unsigned table_sessions(struct table *t, const struct table_filter *filter, uint64_t *cursor,
			struct table_session_row *rows, unsigned max, struct monotime now)
{
	unsigned n = 0, looked = 0;
	uint64_t i = *cursor ? *cursor : 1;

	table_set_now(t, now);
	for (; i < t->sessions.fresh && n < max && looked < LOOK_MAX; i++, looked++) {
		const struct session *s = session_at(t, (uint32_t)i);
		if (s->state == SESSION_FREE || !session_matches(t, filter, s))
			continue;
		const struct mapping *m = mapping_at(t, s->mapping);
		int64_t left = (int64_t)(int32_t)(s->last - t->tick) * TIMERWHEEL_TICK_MS +
			       session_timeout(t, s);
		rows[n++] = (struct table_session_row){
		    .realm = m->realm,
		    .protocol = m->protocol,
		    .internal = {.address = m->internal, .port = m->internal_port},
		    .external = mapping_external(t, m),
		    .remote = {.address = s->remote, .port = s->remote_port},
		    .state = session_state_name(s),
		    .holders = s->holders & t->dirty,
		    .handle = session_handle(t, (uint32_t)i),
		    .expires_ms = s->state == SESSION_LIVE && left > 0 ? left : 0,
		};
	}
	*cursor = next_cursor(i, t->sessions.fresh);
	return n;
}

unsigned table_subscribers(struct table *t, const struct table_filter *filter, uint64_t *cursor,
			   struct table_subscriber_row *rows, unsigned max, struct monotime now)
{
	unsigned n = 0, looked = 0;
	uint64_t i = *cursor ? *cursor : 1;

	for (; i < t->subscribers.fresh && n < max && looked < LOOK_MAX; i++, looked++) {
		const struct subscriber *s = subscriber_at(t, (uint32_t)i);
		if (!s->used || (filter->subscriber && filter->subscriber != s->address) ||
		    (filter->realm && filter->realm != s->realm))
			continue;
		struct nat_endpoint external = {0};
		const char *pool = "";
		if (s->mappings) {
			external = mapping_external(t, mapping_at(t, s->mappings));
			pool = name_of_pool(t, mapping_at(t, s->mappings)->place);
		}
		rows[n++] = (struct table_subscriber_row){
		    .realm = s->realm,
		    .address = s->address,
		    .external = external.address,
		    .pool = pool,
		    .blocks = s->share.n_blocks,
		    .ports = s->share.n_ports,
		    .sessions = s->n_sessions,
		    .refused = s->refused,
		};
	}
	*cursor = next_cursor(i, t->subscribers.fresh);
	return n;
}

unsigned table_pools(struct table *t, uint64_t *cursor, struct table_pool_row *rows, unsigned max)
{
	unsigned n = 0;
	uint64_t i = *cursor;

	for (; i < t->config.n_pools && n < max; i++) {
		const struct config_pool *pool = &t->config.pools[i];
		struct portpool_stats stats;
		portpool_stats(t->pools, (unsigned)i, t->now, &stats);
		const struct deterministic *plan = portpool_deterministic(t->pools, (unsigned)i);
		rows[n++] = (struct table_pool_row){
		    .name = pool->name,
		    .prefixes = pool->prefixes,
		    .n_prefixes = pool->n_prefixes,
		    .addresses = stats.addresses,
		    .blocks = stats.blocks,
		    .blocks_used = stats.blocks_used,
		    .blocks_resting = stats.blocks_resting,
		    .ports_used = stats.ports_used,
		    .exhausted = stats.exhausted,
		    .addresses_used = stats.addresses_used,
		    .counts = t->pool_counts[i],
		    .blocks_shared = stats.blocks_shared,
		    .blocks_free = stats.blocks_free,
		    .above = stats.above,
		    .ratio = plan ? plan->ratio : 0,
		    .ports_per_subscriber = plan ? plan->ports : 0,
		};
	}
	*cursor = next_cursor(i, t->config.n_pools);
	return n;
}

/* A bit that retired with its dataplane shows as a lost one, until its fence is over. */
static bool lost_row(const struct table *t, unsigned bit, struct table_dataplane_row *row)
{
	const struct holder_bit *b = &t->bits[bit];
	if (b->state != BIT_RETIRING)
		return false;
	*row = (struct table_dataplane_row){
	    .id = bit,
	    .name = "",
	    .state = "fenced",
	    .fence_left_ms = monotime_sub_ms(b->clean, t->now),
	};
	return true;
}

unsigned table_dataplanes(struct table *t, uint64_t *cursor, struct table_dataplane_row *rows,
			  unsigned max, struct monotime now)
{
	unsigned n = 0;
	uint64_t i = *cursor;

	table_set_now(t, now);
	for (; i < WIRE_DATAPLANES_MAX && n < max; i++) {
		const struct dataplane *d = &t->dataplanes[i];
		if (d->state != DATAPLANE_ATTACHED)
			continue;
		int64_t lease = monotime_sub_ms(d->renewed, now) + t->config.lease_ms;
		bool lost = lease <= 0;
		rows[n++] = (struct table_dataplane_row){
		    .id = (uint32_t)i,
		    .name = d->name,
		    .state = lost ? "lost" : d->draining ? "draining" : "attached",
		    .incarnation = {d->incarnation[0], d->incarnation[1]},
		    .lease_left_ms = lost ? 0 : lease,
		    .fence_left_ms = monotime_sub_ms(directory_fence(t, d), now),
		    .stats = d->stats,
		    .unacknowledged = d->outbox.end - d->outbox.first,
		    .draining = d->draining,
		};
	}
	for (; i >= WIRE_DATAPLANES_MAX && i < WIRE_DATAPLANES_MAX + 64 && n < max; i++)
		n += lost_row(t, (unsigned)(i - WIRE_DATAPLANES_MAX), &rows[n]);
	*cursor = next_cursor(i, WIRE_DATAPLANES_MAX + 64);
	return n;
}

unsigned table_statics(struct table *t, uint64_t *cursor, struct table_static_row *rows,
		       unsigned max)
{
	unsigned n = 0;
	uint64_t i = *cursor;

	for (; i < t->n_statics && n < max; i++)
		if (t->statics[i].used)
			rows[n++] = (struct table_static_row){
			    .mapping = t->statics[i].mapping,
			    .state = t->statics[i].state,
			    .origin = t->statics[i].from_config ? "configuration" : "operator",
			};
	*cursor = next_cursor(i, t->n_statics);
	return n;
}

/* With a remote endpoint only the matching sessions end, otherwise the mapping with all of them. */
static void delete_of(struct table *t, const struct table_filter *filter, uint32_t index,
		      uint64_t *mappings, uint64_t *sessions)
{
	struct mapping *m = mapping_at(t, index);
	if (!mapping_matches(t, filter, m))
		return;
	if (!filter->remote.address && !filter->remote.port && !(m->flags & MAPPING_STATIC)) {
		*sessions += m->n_live;
		(*mappings)++;
		mapping_retire(t, index);
		return;
	}
	m->n_ending++; /* keeps it while its sessions go */
	for (uint32_t i = m->sessions, next; i; i = next) {
		next = session_at(t, i)->next;
		if (session_at(t, i)->state == SESSION_LIVE &&
		    session_matches(t, filter, session_at(t, i))) {
			session_end(t, i, NAT_REASON_NONE);
			(*sessions)++;
		}
	}
	m->n_ending--;
	mapping_release(t, index);
}

int table_delete(struct table *t, const struct table_filter *filter, struct monotime now,
		 uint64_t *mappings, uint64_t *sessions)
{
	table_set_now(t, now);
	*mappings = *sessions = 0;
	if (!filter->subscriber && !filter->external.address && !filter->external.port &&
	    !filter->remote.address && !filter->remote.port)
		return ERR_INVALID;
	if (filter->subscriber && filter->realm) { /* in time proportional to the client's flows */
		uint32_t s = subscriber_find(t, filter->realm, filter->subscriber, 0);
		for (uint32_t i = s ? subscriber_at(t, s)->mappings : 0, next;
		     i && mapping_at(t, i)->used; i = next) {
			next = mapping_at(t, i)->next;
			delete_of(t, filter, i, mappings, sessions);
		}
		return 0;
	}
	for (uint32_t i = 1; i < t->mappings.fresh; i++)
		if (mapping_at(t, i)->used && !(mapping_at(t, i)->flags & MAPPING_RETIRED))
			delete_of(t, filter, i, mappings, sessions);
	return 0;
}
