/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table: theory of operation.
 *
 * One thread calls in; nothing blocks, nothing allocates after table_new. Dataplanes ask
 * (resolve.c), sessions are made and end (session.c, mapping.c), their holders are told and
 * acknowledge (directory.c, outbox.c), timers ask before they end anything (expiry.c).
 *
 * The invariants, and where they are kept:
 * U1 An external endpoint has one internal endpoint, counting until the last dataplane can no longer
 *    translate for the old one: a session stays ENDING, and its mapping keeps the port, until
 *    (holders & dirty) == 0: session_clean is the only way out (session.c).
 * U2 A port block goes to another subscriber only after its last port was released, and a port is
 *    released only by mapping_release, when every session is clean.
 * U3 Nothing leaves before the journal has committed what it depends on: every message carries the
 *    journal's position (table_has_message).
 * U4 Questions find before they make; a session that lives answers the same to everybody.
 * U5 Slabs, outboxes and negative answers are fixed; full means a refusal with a reason, or a flush
 *    ordered; never an eviction of what lives.
 * U6 Both directions of a session are one session here.
 *
 * Budget, with one session a mapping: session 64, mapping 48, two bucket heads of 4 to 8 each, port
 * owner 4 and its bit: 125 to 135 bytes, and the share of ports of its block that lie idle.
 */
#include "tablesvc/table_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifdef CONAT_MUTABLE
int table_mutation;
#endif

enum {
	TIMER_BUDGET = 512, /* list operations a tick call: 3 us each at 10 M sessions, all cold */
};

void table_set_now(struct table *t, struct monotime now)
{
	if (monotime_before(t->now, now))
		t->now = now;
	t->tick = (uint32_t)(monotime_sub_ms(t->now, t->base) / TIMERWHEEL_TICK_MS) + 1;
}

void table_journal(struct table *t, enum journal_kind kind, const struct mapping *m, uint32_t session)
{
	const struct session *s = session ? session_at(t, session) : NULL;
	struct journal_record record = {
	    .kind = (uint8_t)kind,
	    .protocol = m->protocol,
	    .realm = m->realm,
	    .state = s ? s->tcp : 0,
	    .slot = session,
	    .generation = s ? s->generation : 0,
	    .internal = {.address = m->internal, .port = m->internal_port},
	    .external = mapping_external(t, m),
	};
	if (s) {
		record.remote.address = s->remote;
		record.remote.port = s->remote_port;
	}
	t->position = t->journal->ops->append(t->journal, &record);
}

void table_index_realms(struct table *t)
{
	for (unsigned i = 0; i <= NAT_REALM_MAX; i++)
		t->realm_index[i] = -1;
	for (unsigned i = 0; i < t->config.n_realms; i++)
		t->realm_index[t->config.realms[i].id] = (int)i;
}

static int allocate(struct table *t)
{
	const uint32_t sessions = t->config.capacity.sessions;
	const uint32_t mappings = t->config.capacity.mappings;
	const uint32_t subscribers = t->config.capacity.subscribers;
	int err = 0;

	t->negatives = calloc(NEGATIVES, sizeof *t->negatives);
	t->statics = calloc(STATICS_MAX, sizeof *t->statics);
	if (!t->negatives || !t->statics)
		err = ERR_NOMEM;
	if (!err)
		err = slab_new(&t->subscribers, subscribers, sizeof(struct subscriber),
			       offsetof(struct subscriber, hash_next));
	if (!err)
		err = slab_new(&t->mappings, mappings, sizeof(struct mapping),
			       offsetof(struct mapping, hash_next));
	if (!err)
		err = slab_new(&t->sessions, sessions, sizeof(struct session),
			       offsetof(struct session, hash_next));
	if (!err)
		err = slab_new(&t->filters, sessions, sizeof(struct filter),
			       offsetof(struct filter, hash_next));
	if (!err)
		err = buckets_new(&t->by_subscriber, subscribers);
	if (!err)
		err = buckets_new(&t->by_internal, mappings);
	if (!err)
		err = buckets_new(&t->by_session, sessions);
	if (!err)
		err = buckets_new(&t->by_filter, sessions);
	if (!err) { /* filters are seldom indexed */
		buckets_touch(&t->by_subscriber);
		buckets_touch(&t->by_internal);
		buckets_touch(&t->by_session);
	}
	for (unsigned i = 0; !err && i < WIRE_DATAPLANES_MAX; i++)
		err = outbox_new(&t->dataplanes[i].outbox, &t->config);
	if (!err)
		err = timerwheel_new((char *)t->sessions.memory + offsetof(struct session, timer),
				     sizeof(struct session), t->tick, &t->wheel);
	if (!err)
		err = explicit_new(t);
	if (!err)
		err = portpool_new(&t->config, t->random, &t->pools);
	if (!err)
		err = fragment_table_new(t);
	/* RFC 6888 REQ-8 after a loss of state: any port may have been anybody's until now. */
	if (!err && t->config.hold_down_at_start_ms)
		portpool_hold(t->pools,
			      monotime_add_ms(t->now, t->config.hold_down_at_start_ms));
	return err;
}

int table_new(const struct config *config, struct journal *journal, struct event_log *events,
	      struct random_source *random, uint64_t epoch, struct monotime now, struct table **out)
{
	struct table *t = calloc(1, sizeof *t);
	if (!t)
		return ERR_NOMEM;
	t->journal = journal;
	t->events = events;
	t->random = random;
	t->key[0] = random->next(random->context);
	t->key[1] = random->next(random->context);
	t->epoch = epoch;
	t->base = now;
	t->now = now;
	table_set_now(t, now);
	int err = settings_copy(&t->config, config);
	if (!err)
		err = allocate(t);
	if (err) {
		table_free(t);
		return err;
	}
	table_index_realms(t);
	event_plans(t);
	for (unsigned i = 0; i < t->config.n_statics; i++)
		statics_add(t, &t->config.statics[i], true, NULL);
	*out = t;
	return 0;
}

void table_free(struct table *t)
{
	if (!t)
		return;
	fragment_table_free(t);
	portpool_free(t->pools);
	explicit_delete(t);
	timerwheel_free(t->wheel);
	for (unsigned i = 0; i < WIRE_DATAPLANES_MAX; i++)
		outbox_delete(&t->dataplanes[i].outbox);
	buckets_delete(&t->by_filter);
	buckets_delete(&t->by_session);
	buckets_delete(&t->by_internal);
	buckets_delete(&t->by_subscriber);
	slab_delete(&t->filters);
	slab_delete(&t->sessions);
	slab_delete(&t->mappings);
	slab_delete(&t->subscribers);
	free(t->statics);
	free(t->negatives);
	settings_free(&t->config);
	free(t);
}

/* ---- a batch ---- */

static bool acceptable(const struct wire_request *r)
{
	if (r->op == WIRE_RESOLVE_OUT)
		return r->tuple.realm != NAT_REALM_OUTSIDE;
	if (r->op == WIRE_RESOLVE_IN)
		return r->tuple.realm == NAT_REALM_OUTSIDE;
	if (r->op == WIRE_FLAGS)
		return r->direction <= NAT_INBOUND;
	if (wire_op_is_fragment(r->op))
		return true; /* whoever asks resolves the tuple, too, and is refused there */
	return r->op == WIRE_PEEK || r->op == WIRE_RELEASE || r->op == WIRE_ACTIVE ||
	       r->op == WIRE_DROPPED;
}

static void report(struct table *t, struct dataplane *d, const struct wire_request *r)
{
	uint64_t bit = UINT64_C(1) << d->bit;
	uint32_t session = session_by_handle(t, r->handle);
	if (!session)
		return; /* long dead: harmless */
	switch (r->op) {
	case WIRE_FLAGS:
		if (TABLE_MUTATED(TABLE_MUTATE_RESET) && (r->tcp_flags & NAT_TCP_RST)) {
			session_end(t, session, NAT_REASON_NONE);
			break;
		}
		session_flags(t, session, r->direction, r->tcp_flags, r->age_ms);
		uint32_t partner = session_partner(t, session);
		if (partner)
			session_flags(t, partner, !r->direction, r->tcp_flags, r->age_ms);
		break;
	case WIRE_RELEASE:
		expiry_released(t, session, bit, r->age_ms);
		break;
	case WIRE_ACTIVE:
		expiry_active(t, session, r->age_ms);
		break;
	case WIRE_DROPPED:
		expiry_dropped(t, session, bit, r->age_ms);
		break;
	}
}

/*
 * Notices that a batch causes stand before its answers. So a grant of this batch that was ended by
 * it, or that a flush ordered meanwhile would take for an old one, has to be looked at again.
 */
static void grant_again(struct table *t, const struct dataplane *d, const struct wire_batch *batch,
			struct wire_answer *answers)
{
	for (uint32_t i = 0, k = 0; i < batch->n; i++) {
		if (!wire_op_is_question(batch->entries[i].op))
			continue;
		struct wire_answer *answer = &answers[k++];
		if (answer->verdict != NAT_TRANSLATE || !wire_op_grants(batch->entries[i].op))
			continue;
		uint32_t session = session_by_handle(t, answer->handle);
		uint32_t peer = session_by_handle(t, answer->peer_handle);
		if (!session || session_at(t, session)->state != SESSION_LIVE || !peer ||
		    session_at(t, peer)->state != SESSION_LIVE) {
			*answer = (struct wire_answer){.verdict = NAT_DROP,
						       .reason = NAT_REASON_BUSY};
			t->counters.refused[NAT_REASON_BUSY]++;
			continue;
		}
		session_at(t, session)->holders |= UINT64_C(1) << d->bit;
		session_at(t, peer)->holders |= UINT64_C(1) << d->bit;
	}
}

int table_batch(struct table *t, uint32_t dataplane, const struct wire_batch *batch,
		struct monotime now)
{
	struct dataplane *d = &t->dataplanes[dataplane];
	uint32_t questions = 0, answered = 0;

	table_set_now(t, now);
	if (d->state != DATAPLANE_ATTACHED)
		return ERR_STALE;
	if (batch->n == 0) {
		directory_acknowledge(t, d, batch->acknowledged);
		return 0;
	}
	for (uint32_t i = 0; i < batch->n; i++) {
		if (!acceptable(&batch->entries[i])) {
			t->counters.bad_batches++;
			return ERR_INVALID;
		}
		questions += wire_op_is_question(batch->entries[i].op);
	}
	if (batch->n > t->config.batch_max || batch->sequence <= d->batch) {
		t->counters.bad_batches++;
		return ERR_INVALID;
	}
	directory_acknowledge(t, d, batch->acknowledged);
	if (d->outbox.answers >= t->config.inflight_max)
		return ERR_BUSY;
	struct wire_answer answers[WIRE_BATCH_MAX];
	const uint32_t bit = d->bit, end = d->outbox.end, tail = d->outbox.tail;
	prefetch_batch(t, batch->entries, batch->n);
	for (uint32_t i = 0; i < batch->n; i++) {
		const struct wire_request *r = &batch->entries[i];
		if (wire_op_is_fragment(r->op))
			fragment_answer(t, d, r, &answers[answered++]);
		else if (wire_op_is_question(r->op))
			resolve_answer(t, d, r, &answers[answered++]);
		else
			report(t, d, r);
	}
	if (d->state != DATAPLANE_ATTACHED) /* its outbox could not even take a flush */
		return ERR_STALE;
	if (d->bit != bit || d->outbox.end != end || d->outbox.tail != tail)
		grant_again(t, d, batch, answers);
	d->batch = batch->sequence;
	t->counters.batches++;
	struct wire_answer *out = outbox_answer(&d->outbox, batch->sequence, questions);
	if (!out)
		return ERR_BUSY; /* it never acknowledges */
	memcpy(out, answers, questions * sizeof *out);
	struct outbox_message *m = &d->outbox.ring[(d->outbox.end - 1) % d->outbox.ring_size];
	m->position = t->position;
	m->made_ms = monotime_ms(now);
	t->journal->ops->flush(t->journal);
	return 0;
}

/* ---- time ---- */

void table_tick(struct table *t, struct monotime now)
{
	table_set_now(t, now);
	t->ticked = now;
	directory_tick(t);
	t->wheel_behind = !timerwheel_advance(t->wheel, t->tick, TIMER_BUDGET, expiry_fire, t);
	if (!explicit_tick(t))
		t->wheel_behind = true;
	if (t->statics_waiting)
		statics_tick(t);
	fragment_tick(t);
	slab_touch(&t->subscribers);
	slab_touch(&t->mappings);
	slab_touch(&t->sessions);
	slab_touch(&t->filters);
	t->journal->ops->flush(t->journal);
}

struct monotime table_next_tick(const struct table *t, struct monotime now)
{
	if (t->wheel_behind || t->sweeping)
		return now;
	/* Not from now on: whoever asks more often than that would never get there. */
	return monotime_add_ms(t->ticked, TIMERWHEEL_TICK_MS);
}

void table_wire_config(const struct table *t, struct wire_config *out)
{
	const struct config *c = &t->config;
	uint32_t n = 0;

	memset(out, 0, sizeof *out);
	out->generation = c->generation;
	out->pending_timeout_ms = c->pending.timeout_ms;
	out->pending_packets = c->pending.packets;
	out->pending_per_flow = c->pending.per_flow;
	out->fragment_timeout_ms = c->fragment_timeout_ms;
	out->icmp_errors_per_second = c->icmp_errors_per_second;
	out->mss_clamp = c->mss_clamp;
	out->no_icmp_outside = !c->icmp_errors_outside;
	/* A whole address is its host's in every protocol, whatever the pool allows. */
	for (uint32_t i = 0; i < t->n_statics && !out->n_protocols; i++)
		if (t->statics[i].used && one_to_one_is(&t->statics[i].mapping)) {
			static const uint8_t all[] = {NAT_DCCP, NAT_GRE, NAT_ESP, NAT_SCTP,
						      NAT_UDPLITE};
			memcpy(out->protocols, all, sizeof all);
			out->n_protocols = sizeof all;
		}
	for (unsigned i = 0; i < c->n_pools; i++)
		for (unsigned k = 0; k < c->pools[i].n_protocols; k++)
			if (!memchr(out->protocols, c->pools[i].protocols[k], out->n_protocols))
				out->protocols[out->n_protocols++] = c->pools[i].protocols[k];
	for (unsigned i = 0; i < c->n_pools; i++)
		for (unsigned k = 0; k < c->pools[i].n_prefixes && n < WIRE_PREFIXES_MAX; k++)
			out->prefixes[n++] = (struct wire_prefix){
			    .address = c->pools[i].prefixes[k].address,
			    .length = c->pools[i].prefixes[k].length,
			    .kind = WIRE_PREFIX_POOL};
	for (unsigned i = 0; i < c->n_realms; i++)
		for (unsigned k = 0; k < c->realms[i].n_prefixes && n < WIRE_PREFIXES_MAX; k++)
			out->prefixes[n++] = (struct wire_prefix){
			    .address = c->realms[i].prefixes[k].address,
			    .length = c->realms[i].prefixes[k].length,
			    .realm = c->realms[i].id,
			    .kind = WIRE_PREFIX_INSIDE};
	for (unsigned i = 0; i < c->n_realms; i++)
		for (unsigned k = 0; k < c->realms[i].n_identity && n < WIRE_PREFIXES_MAX; k++)
			out->prefixes[n++] = (struct wire_prefix){
			    .address = c->realms[i].identity[k].address,
			    .length = c->realms[i].identity[k].length,
			    .realm = c->realms[i].id,
			    .kind = WIRE_PREFIX_IDENTITY};
	for (unsigned i = 0; i < c->n_bypass && n < WIRE_PREFIXES_MAX; i++)
		out->prefixes[n++] = (struct wire_prefix){.address = c->bypass[i].address,
							  .length = c->bypass[i].length,
							  .kind = WIRE_PREFIX_BYPASS};
	out->n_prefixes = n;
}

static uint64_t slab_bytes(const struct slab *slab)
{
	return (uint64_t)slab->fresh * slab->stride;
}

void table_counters(const struct table *t, struct table_counters *out)
{
	*out = t->counters;
	out->epoch = t->epoch;
	out->mappings = t->mappings.used;
	out->mappings_capacity = t->mappings.capacity;
	out->sessions = t->sessions.used;
	out->sessions_capacity = t->sessions.capacity;
	out->subscribers = t->subscribers.used;
	out->memory_bytes = slab_bytes(&t->subscribers) + slab_bytes(&t->mappings) +
			    slab_bytes(&t->sessions) + slab_bytes(&t->filters) +
			    portpool_memory(t->pools) + fragment_table_bytes(t);
	fragment_count(t, out);
	const struct buckets *all[] = {&t->by_subscriber, &t->by_internal, &t->by_session};
	for (unsigned i = 0; i < sizeof all / sizeof all[0]; i++)
		out->memory_bytes += ((uint64_t)all[i]->mask + 1) * sizeof(uint32_t);
}
