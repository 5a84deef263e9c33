/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory: which dataplanes there are, and until when each of them may still translate.
 *
 * A session knows its holders as bits. A bit is not a dataplane: when a dataplane flushes, its old
 * bit retires and it goes on with a new one, so "held before the flush" and "held since" are never
 * confused.
 *
 *   FREE -> ACTIVE -> RETIRING ----------------> SWEEPING -> FREE
 *                     |  clean when the flush was acknowledged, or when
 *                     |  lease + grace + margin since the last renewal are over
 *   dirty = ACTIVE | RETIRING: counts as held   (the fence of U1 and U2, never waived)
 *   SWEEPING: the bit no longer counts; it is wiped from every session, a piece a tick, before it
 *   is given to the next dataplane.
 *
 * A lease is renewed by a heartbeat, unless the dataplane has not acknowledged for a lease what it
 * was told: one that hears heartbeats but not invalidations must stop.
 */
#include "tablesvc/table_internal.h"

#include <stdlib.h>
#include <string.h>

enum { SWEEP_BUDGET = 16384 };

static int64_t fence_ms(const struct table *t)
{
	return (int64_t)t->config.lease_ms + t->config.grace_ms + t->config.margin_ms;
}

struct monotime directory_fence(const struct table *t, const struct dataplane *d)
{
	return monotime_add_ms(d->renewed, fence_ms(t));
}

static bool lease_over(const struct table *t, const struct dataplane *d)
{
	return monotime_before(monotime_add_ms(d->renewed, t->config.lease_ms), t->now);
}

static void bit_set(struct table *t, unsigned bit, enum bit_state state)
{
	uint64_t mask = UINT64_C(1) << bit;
	if (state == BIT_RETIRING && !(t->lost & mask))
		t->bits[bit].until = t->tick;
	t->bits[bit].state = state;
	t->active &= ~mask;
	t->dirty &= ~mask;
	t->sweeping &= ~mask;
	t->lost &= ~mask;
	if (state == BIT_ACTIVE)
		t->active |= mask;
	if (state == BIT_ACTIVE || state == BIT_RETIRING)
		t->dirty |= mask;
	if (state == BIT_SWEEPING) {
		t->sweeping |= mask;
		t->sweep_at = 0; /* from the beginning, for this bit too */
	}
}

static int bit_take(struct table *t, uint32_t dataplane)
{
	for (unsigned i = 0; i < 64; i++) {
		if (t->bits[i].state == BIT_FREE) {
			t->bits[i].dataplane = dataplane;
			bit_set(t, i, BIT_ACTIVE);
			return (int)i;
		}
	}
	return ERR_FULL;
}

static void bit_retire(struct table *t, struct dataplane *d, uint64_t flush)
{
	struct holder_bit *bit = &t->bits[d->bit];
	bit->flush = flush;
	bit->clean = directory_fence(t, d);
	bit_set(t, d->bit, BIT_RETIRING);
}

/* Everything that d holds must go; it goes on with a new bit. False: it has to go as a whole. */
static bool start_flush(struct table *t, struct dataplane *d, uint64_t acknowledged_by)
{
	unsigned old = d->bit;
	int bit = bit_take(t, t->bits[old].dataplane);
	if (bit < 0)
		return false;
	bit_retire(t, d, acknowledged_by);
	d->bit = (uint8_t)bit;
	t->counters.flushes++;
	return true;
}

static void dataplane_gone(struct table *t, struct dataplane *d)
{
	bit_retire(t, d, 0);
	outbox_clear(&d->outbox);
	d->state = DATAPLANE_FREE;
	d->connected = false;
	t->counters.dataplanes--;
}

/* The outbox has no room for one more notice. */
static void overflow(struct table *t, struct dataplane *d)
{
	struct outbox *box = &d->outbox;

	outbox_void(box);
	if (!outbox_flush(box, t->position, monotime_ms(t->now))) {
		dataplane_gone(t, d);
		return;
	}
	uint64_t number = d->sequence + (box->end - box->next);
	/* An earlier flush that has not left is this one now. */
	for (unsigned i = 0; i < 64; i++)
		if (t->bits[i].state == BIT_RETIRING && t->bits[i].flush > d->sequence &&
		    &t->dataplanes[t->bits[i].dataplane] == d)
			t->bits[i].flush = number;
	if (!start_flush(t, d, number))
		dataplane_gone(t, d);
}

void directory_notice(struct table *t, uint64_t bits, unsigned kind, const struct wire_notice *notice)
{
	while (bits) {
		unsigned bit = (unsigned)__builtin_ctzll(bits);
		bits &= bits - 1;
		struct dataplane *d = &t->dataplanes[t->bits[bit].dataplane];
		if (d->state != DATAPLANE_ATTACHED || d->bit != bit)
			continue; /* the bit retired: its holdings are void already */
		if (!outbox_notice(&d->outbox, kind, notice, t->position, monotime_ms(t->now),
				   t->config.batch_max))
			overflow(t, d);
	}
}

void directory_fragments(struct table *t, uint64_t bits, const struct wire_notice *notice)
{
	for (; bits; bits &= bits - 1) {
		unsigned bit = (unsigned)__builtin_ctzll(bits);
		struct dataplane *d = &t->dataplanes[t->bits[bit].dataplane];
		if (d->state != DATAPLANE_ATTACHED || d->bit != bit)
			continue; /* it flushed since it asked */
		if (outbox_notice(&d->outbox, WIRE_FRAGMENTS, notice, t->position,
				  monotime_ms(t->now), t->config.batch_max))
			t->counters.fragments_told++;
		else
			t->counters.fragments_untold++;
	}
}

static struct outbox_message *message_at(struct outbox *box, uint32_t counter)
{
	return &box->ring[counter % box->ring_size];
}

/* An acknowledged INVALIDATE: d translates no more for the sessions named in it. */
static void invalidated(struct table *t, struct dataplane *d, const struct outbox_message *m)
{
	const struct wire_notice *notices = (const void *)(d->outbox.payload + m->offset);
	for (uint32_t i = 0; i < m->n; i++) {
		uint32_t session = notices[i].handle ? session_by_handle(t, notices[i].handle) : 0;
		if (session)
			session_clean(t, session, UINT64_C(1) << d->bit);
	}
}

void directory_acknowledge(struct table *t, struct dataplane *d, uint64_t acknowledged)
{
	struct outbox *box = &d->outbox;

	if (acknowledged > d->sequence) /* of something never said */
		return;
	if (acknowledged > d->acknowledged)
		d->acknowledged = acknowledged;
	while (box->first != box->next && message_at(box, box->first)->sequence <= acknowledged) {
		struct outbox_message *m = message_at(box, box->first);
		if (m->kind == WIRE_INVALIDATE)
			invalidated(t, d, m);
		if (m->bytes)
			box->head = m->offset + m->bytes;
		box->first++;
	}
	for (unsigned i = 0; i < 64; i++) {
		struct holder_bit *bit = &t->bits[i];
		if (bit->state == BIT_RETIRING && bit->flush && bit->flush <= d->acknowledged &&
		    &t->dataplanes[bit->dataplane] == d) {
			bit->until = t->tick;
			bit_set(t, i, BIT_SWEEPING);
		}
	}
}

/* ---- attach, heartbeat, detach ---- */

int table_find_dataplane(const struct table *t, const uint64_t incarnation[2], uint32_t *dataplane)
{
	for (uint32_t i = 0; i < WIRE_DATAPLANES_MAX; i++) {
		const struct dataplane *d = &t->dataplanes[i];
		if (d->state == DATAPLANE_ATTACHED &&
		    memcmp(d->incarnation, incarnation, sizeof d->incarnation) == 0) {
			*dataplane = i;
			return 0;
		}
	}
	return ERR_NOT_FOUND;
}

static int attach_new(struct table *t, const struct wire_hello *hello, uint32_t *dataplane)
{
	uint32_t i = 0;
	while (i < WIRE_DATAPLANES_MAX && t->dataplanes[i].state != DATAPLANE_FREE)
		i++;
	if (i == WIRE_DATAPLANES_MAX)
		return ERR_FULL;
	struct dataplane *d = &t->dataplanes[i];
	int bit = bit_take(t, i);
	if (bit < 0)
		return bit;
	struct outbox box = d->outbox;
	outbox_clear(&box);
	*d = (struct dataplane){
	    .state = DATAPLANE_ATTACHED,
	    .bit = (uint8_t)bit,
	    .incarnation = {hello->incarnation[0], hello->incarnation[1]},
	    .renewed = t->now,
	    .outbox = box,
	};
	/* Holders of retired bits are found by slot: their flush can't be acknowledged any more. */
	for (unsigned k = 0; k < 64; k++)
		if ((int)k != bit && t->bits[k].state == BIT_RETIRING && t->bits[k].dataplane == i)
			t->bits[k].flush = 0;
	t->counters.dataplanes++;
	*dataplane = i;
	return 0;
}

static bool holds_flush(const struct outbox *box, uint32_t from)
{
	for (; from != box->end; from++)
		if (box->ring[from % box->ring_size].kind == WIRE_FLUSH)
			return true;
	return false;
}

/* A flush that it has not heard of and will not hear of: a welcome ordered it and was lost. */
static bool owes_flush(const struct table *t, const struct dataplane *d, uint64_t seen,
		       uint32_t keep)
{
	for (unsigned i = 0; i < 64; i++) {
		const struct holder_bit *bit = &t->bits[i];
		if (bit->state == BIT_RETIRING && bit->flush > seen &&
		    &t->dataplanes[bit->dataplane] == d)
			return !holds_flush(&d->outbox, keep);
	}
	return false;
}

/*
 * Goes on behind what the dataplane has seen: answers that did not arrive are asked for again by it,
 * notices are said again. False when that can't be known.
 */
static bool continue_from(struct table *t, struct dataplane *d, const struct wire_hello *hello)
{
	struct outbox *box = &d->outbox;

	if (hello->epoch != t->epoch || hello->sequence > d->sequence ||
	    hello->sequence < d->acknowledged)
		return hello->epoch == 0 && hello->sequence == 0 && d->sequence == 0;
	uint32_t keep = box->first;
	while (keep != box->next && message_at(box, keep)->sequence <= hello->sequence)
		keep++;
	if (owes_flush(t, d, hello->sequence, keep))
		return false;
	uint32_t to = keep;
	for (uint32_t from = keep; from != box->end; from++) {
		struct outbox_message m = *message_at(box, from);
		if (m.kind == WIRE_ANSWER)
			continue;
		if (m.kind == WIRE_FLUSH)
			to = keep; /* what was said before it means nothing any more */
		m.made_ms = monotime_ms(t->now);
		*message_at(box, to++) = m;
	}
	box->next = keep;
	box->end = to;
	box->answers = 0;
	d->sequence = hello->sequence;
	/* Flushes that were on their way have new numbers now. */
	for (unsigned i = 0; i < 64; i++) {
		struct holder_bit *bit = &t->bits[i];
		if (bit->state != BIT_RETIRING || !bit->flush || &t->dataplanes[bit->dataplane] != d ||
		    bit->flush <= hello->sequence)
			continue;
		bit->flush = 0;
		for (uint32_t k = keep; k != to; k++)
			if (message_at(box, k)->kind == WIRE_FLUSH)
				bit->flush = d->sequence + (k - keep) + 1;
	}
	return true;
}

int table_attach(struct table *t, const struct wire_hello *hello, struct monotime now,
		 struct wire_welcome *out, uint32_t *dataplane)
{
	bool flush = false;

	table_set_now(t, now);
	if (hello->version_min > WIRE_VERSION || hello->version_max < WIRE_VERSION)
		return ERR_VERSION;
	if (hello->epoch > t->epoch) /* it has seen a later table: we are the past */
		return ERR_STALE;
	directory_tick(t);
	if (table_find_dataplane(t, hello->incarnation, dataplane)) {
		int err = attach_new(t, hello, dataplane);
		if (err)
			return err;
		flush = hello->epoch != 0 || hello->sequence != 0;
		if (flush)
			t->counters.flushes++;
	} else {
		struct dataplane *d = &t->dataplanes[*dataplane];
		if (!continue_from(t, d, hello)) {
			outbox_clear(&d->outbox);
			/* A number that it has not seen: acknowledging it is the flush. */
			if (d->sequence < hello->sequence)
				d->sequence = hello->sequence;
			if (d->sequence < d->acknowledged)
				d->sequence = d->acknowledged;
			d->sequence++;
			if (!start_flush(t, d, d->sequence)) {
				dataplane_gone(t, d);
				return ERR_FULL;
			}
			flush = true;
		}
	}
	struct dataplane *d = &t->dataplanes[*dataplane];
	memcpy(d->name, hello->name, sizeof d->name);
	d->name[sizeof d->name - 1] = 0;
	d->connected = true;
	*out = (struct wire_welcome){
	    .version = WIRE_VERSION,
	    .epoch = t->epoch,
	    .dataplane = d->bit,
	    .lease_ms = t->config.lease_ms,
	    .heartbeat_ms = t->config.heartbeat_ms,
	    .grace_ms = t->config.grace_ms,
	    .batch_max = t->config.batch_max,
	    .inflight_max = t->config.inflight_max,
	    .flush = flush,
	    .draining = d->draining,
	    .sequence = d->sequence,
	};
	return 0;
}

void table_heartbeat(struct table *t, uint32_t dataplane, const struct wire_heartbeat *beat,
		     struct monotime now, struct wire_heartbeat_ack *out)
{
	struct dataplane *d = &t->dataplanes[dataplane];

	table_set_now(t, now);
	*out = (struct wire_heartbeat_ack){.epoch = t->epoch, .sent_ms = beat->sent_ms};
	directory_tick(t);
	if (d->state != DATAPLANE_ATTACHED)
		return; /* its fence is over: it must attach again */
	d->stats = beat->stats;
	directory_acknowledge(t, d, beat->acknowledged);
	out->draining = d->draining;
	const struct outbox *box = &d->outbox;
	int64_t oldest = box->first != box->end ? box->ring[box->first % box->ring_size].made_ms
						: monotime_ms(now);
	out->renewed = monotime_ms(now) - oldest <= (int64_t)t->config.lease_ms;
	if (out->renewed) {
		d->renewed = now;
		t->lost &= ~(UINT64_C(1) << d->bit);
		/* What it held before a flush that it has not heard of is renewed with it (U1). */
		for (unsigned i = 0; i < 64; i++)
			if (t->bits[i].state == BIT_RETIRING && t->bits[i].flush &&
			    t->bits[i].dataplane == dataplane)
				t->bits[i].clean = directory_fence(t, d);
	}
}

void table_detach(struct table *t, uint32_t dataplane, struct monotime now)
{
	table_set_now(t, now);
	t->dataplanes[dataplane].connected = false;
}

/* ---- messages ---- */

bool table_has_message(const struct table *t, uint32_t dataplane)
{
	const struct dataplane *d = &t->dataplanes[dataplane];
	const struct outbox *box = &d->outbox;
	return d->state == DATAPLANE_ATTACHED && box->next != box->end &&
	       box->ring[box->next % box->ring_size].position <=
		   t->journal->ops->committed(t->journal);
}

/* Test build only: an invalidation overtakes the answers before it, which may grant what it ends. */
static void overtake(struct outbox *box)
{
	for (uint32_t i = box->next; i != box->end; i++) {
		if (message_at(box, i)->kind != WIRE_INVALIDATE)
			continue;
		struct outbox_message notice = *message_at(box, i);
		for (uint32_t k = i; k != box->next; k--)
			*message_at(box, k) = *message_at(box, k - 1);
		*message_at(box, box->next) = notice;
		return;
	}
}

bool table_next_message(struct table *t, uint32_t dataplane, struct wire_message *out)
{
	struct dataplane *d = &t->dataplanes[dataplane];
	struct outbox *box = &d->outbox;

	if (!table_has_message(t, dataplane))
		return false;
	if (TABLE_MUTATED(TABLE_MUTATE_ORDER))
		overtake(box);
	struct outbox_message *m = message_at(box, box->next++);
	m->sequence = ++d->sequence;
	if (m->kind == WIRE_ANSWER)
		box->answers--;
	*out = (struct wire_message){
	    .epoch = t->epoch,
	    .sequence = m->sequence,
	    .request_sequence = m->request_sequence,
	    .kind = m->kind,
	    .n = m->n,
	};
	if (m->kind == WIRE_ANSWER)
		out->answers = (void *)(box->payload + m->offset);
	else
		out->notices = (void *)(box->payload + m->offset);
	t->counters.messages++;
	return true;
}

/* ---- time ---- */

void directory_lost(struct table *t, uint32_t session, uint64_t bits)
{
	struct session *s = session_at(t, session);
	for (bits &= s->holders; bits; bits &= bits - 1) {
		const struct holder_bit *bit = &t->bits[__builtin_ctzll(bits)];
		/* One that is to flush goes on until it does. */
		uint32_t until = bit->state == BIT_RETIRING && bit->flush ? t->tick : bit->until;
		if ((int32_t)(until - s->last) > 0)
			s->last = until;
	}
}

/* Wipes the sweeping bits from a piece of the sessions; ENDING ones may become clean by it. */
static void sweep(struct table *t)
{
	uint64_t bits = t->sweeping;
	uint32_t end = t->sessions.fresh;

	for (unsigned i = 0; i < SWEEP_BUDGET && t->sweep_at < end; i++, t->sweep_at++) {
		struct session *s = session_at(t, t->sweep_at);
		if (t->sweep_at && s->state == SESSION_LIVE)
			directory_lost(t, t->sweep_at, bits);
		if (t->sweep_at && s->state != SESSION_FREE)
			session_clean(t, t->sweep_at, bits);
	}
	if (t->sweep_at < end)
		return;
	for (unsigned i = 0; i < 64; i++)
		if (bits & (UINT64_C(1) << i))
			bit_set(t, i, BIT_FREE);
}

void directory_tick(struct table *t)
{
	for (unsigned i = 0; i < WIRE_DATAPLANES_MAX; i++) {
		struct dataplane *d = &t->dataplanes[i];
		if (d->state != DATAPLANE_ATTACHED)
			continue;
		if (lease_over(t, d) && !(t->lost >> d->bit & 1)) {
			t->lost |= UINT64_C(1) << d->bit;
			for (unsigned k = 0; k < 64; k++)
				if (k == d->bit || (t->bits[k].state == BIT_RETIRING &&
						    t->bits[k].flush && t->bits[k].dataplane == i))
					t->bits[k].until = t->tick;
		}
		if (monotime_before(directory_fence(t, d), t->now))
			dataplane_gone(t, d);
	}
	for (unsigned i = 0; i < 64; i++)
		if (t->bits[i].state == BIT_RETIRING && monotime_before(t->bits[i].clean, t->now))
			bit_set(t, i, BIT_SWEEPING);
	if (t->sweeping)
		sweep(t);
}

int table_drain(struct table *t, const char *dataplane, bool undo, struct monotime now)
{
	char *end;
	unsigned long number = strtoul(dataplane, &end, 10);

	table_set_now(t, now);
	for (uint32_t i = 0; i < WIRE_DATAPLANES_MAX; i++) {
		struct dataplane *d = &t->dataplanes[i];
		bool named = strcmp(d->name, dataplane) == 0 ||
			     (*dataplane && !*end && number == i);
		if (d->state == DATAPLANE_ATTACHED && named) {
			d->draining = !undo;
			return 0;
		}
	}
	return ERR_NOT_FOUND;
}
