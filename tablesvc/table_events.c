/* SPDX-License-Identifier: Apache-2.0 */
/* The table's words to the event log: names instead of numbers, ports of the block around a place.
 */
#include "tablesvc/deterministic.h"
#include "tablesvc/table_internal.h"

#include <string.h>

static bool wants_no_sessions(const struct event_log *log)
{
	return false;
}

static void put_nowhere(struct event_log *log, const struct event_record *event)
{
}

struct event_log *event_log_none(void)
{
	static const struct event_log_ops ops = {wants_no_sessions, put_nowhere};
	static struct event_log log = {&ops};
	return &log;
}

const char *name_of_pool(const struct table *t, uint64_t place)
{
	unsigned pool = portpool_pool(t->pools, place);
	return pool < t->config.n_pools ? t->config.pools[pool].name : "removed";
}

const char *name_of_realm(const struct table *t, uint8_t realm)
{
	int index = t->realm_index[realm];
	if (index >= 0)
		return t->config.realms[index].name;
	return realm == NAT_REALM_OUTSIDE ? "outside" : "removed";
}

const char *name_of_redirect(const struct table *t, uint16_t redirect)
{
	if (redirect == 0)
		return "";
	return redirect <= t->config.n_redirects ? t->config.redirects[redirect - 1].name
						 : "removed";
}

static void copy_name(char to[CONFIG_NAME_MAX], const char *name)
{
	memcpy(to, name, strnlen(name, CONFIG_NAME_MAX - 1));
}

static struct event_record event_of(const struct table *t, enum event_kind kind,
				    const struct mapping *m)
{
	struct event_record event = {
	    .kind = (uint8_t)kind,
	    .protocol = m->protocol,
	    .internal = {.address = m->internal, .port = m->internal_port},
	    .external = mapping_external(t, m),
	};

	copy_name(event.pool, name_of_pool(t, m->place));
	copy_name(event.realm, name_of_realm(t, m->realm));
	return event;
}

/* The block around the mapping's port was granted for it, or went with it. */
void event_block(struct table *t, enum event_kind kind, const struct mapping *m)
{
	struct event_record event = event_of(t, kind, m);
	uint16_t redirect = subscriber_at(t, m->subscriber)->redirect;

	if (!portpool_range(t->pools, m->place, &event.first_port, &event.last_port))
		return;
	event.protocol = 0; /* a block is its subscriber's for all protocols */
	event.internal.port = 0;
	event.external.port = 0;
	if (redirect) /* nobody's own: the clients of a rule share it */
		event.internal.address = 0;
	copy_name(event.redirect, name_of_redirect(t, redirect));
	t->events->ops->put(t->events, &event);
}

/* The whole external address, in one protocol. */
void event_address(struct table *t, enum event_kind kind, const struct mapping *m)
{
	struct event_record event = event_of(t, kind, m);

	event.first_port = 0;
	event.last_port = UINT16_MAX;
	t->events->ops->put(t->events, &event);
}

/* Protocol and port 0: a whole address (static 1:1). */
void event_static(struct table *t, enum event_kind kind, const struct mapping *m)
{
	struct event_record event = event_of(t, kind, m);

	t->events->ops->put(t->events, &event);
}

void event_session(struct table *t, enum event_kind kind, uint32_t session)
{
	const struct session *s = session_at(t, session);

	if (!t->events->ops->wants_sessions(t->events))
		return;
	struct event_record event = event_of(t, kind, mapping_at(t, s->mapping));
	event.remote = (struct nat_endpoint){.address = s->remote, .port = s->remote_port};
	t->events->ops->put(t->events, &event);
}

/* RFC 7422 section 4: the plan itself is what is logged, at the start and when it may have changed.
 */
static void put_plan(struct table *t, const char *pool, const struct deterministic *plan)
{
	struct event_record event = {
	    .kind = EVENT_PLAN_POOL,
	    .first_port = plan->port_first,
	    .last_port = (uint16_t)(plan->port_first + plan->ranges * plan->ports - 1),
	    .ports = plan->ports,
	    .addresses = (uint32_t)plan->addresses,
	    .count = plan->subscribers,
	};
	uint64_t number = 0;

	copy_name(event.pool, pool);
	t->events->ops->put(t->events, &event);
	event.kind = EVENT_PLAN_OUTSIDE;
	for (unsigned i = 0; i < plan->n_outside; i++) {
		event.prefix = plan->outside[i];
		event.count = number;
		t->events->ops->put(t->events, &event);
		number += UINT64_C(1) << (32 - plan->outside[i].length);
	}
	event.kind = EVENT_PLAN_INSIDE;
	for (unsigned i = 0; i < plan->n_inside; i++) {
		event.prefix = plan->inside[i].prefix;
		event.count = plan->inside[i].first;
		memset(event.realm, 0, sizeof event.realm);
		copy_name(event.realm, name_of_realm(t, plan->inside[i].realm));
		t->events->ops->put(t->events, &event);
	}
}

void event_plans(struct table *t)
{
	for (unsigned i = 0; i < t->config.n_pools; i++) {
		const struct deterministic *plan = portpool_deterministic(t->pools, i);
		if (plan)
			put_plan(t, t->config.pools[i].name, plan);
	}
}

void event_configuration(struct table *t)
{
	const struct event_record event = {.kind = EVENT_CONFIGURATION,
					   .count = t->config.generation};

	t->events->ops->put(t->events, &event);
	event_plans(t);
}
