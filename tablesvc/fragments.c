/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. A datagram's fragments may reach different dataplanes, and only its first
 * one has ports. The dataplane that sees it says so (FRAGMENT_FIRST); for one fragment timeout the
 * table tells everybody else who asks (FRAGMENT_LATER). Who asks before the first one came leaves
 * its holder bit here and gets a FRAGMENTS notice.
 *
 * Together with the tuple goes the identification that all fragments leave with. Several hosts
 * stand behind one external address and may use the same number towards one destination (RFC 6864
 * section 5.3.1, RFC 7857 section 10). So what comes from inside gets the next number of a counter
 * for {destination as the packet leaves, protocol}: a number comes back after 65,535 others, and
 * while a datagram that has it is remembered it is skipped. Neither looks at the external source:
 * that two sources never use the same number at the same time is more than the RFC wants. Packets
 * from the outside keep theirs, except where a redirect gives them a shared source.
 *
 * Datagrams whose first fragment is known and orphans have budgets of their own (quota.h), both
 * with a share for each source: a flood of either pushes out its own, and orphans push out only
 * orphans. What is pushed out early is not lost at once: its fragments ask, become orphans, and
 * time out. All entries live equally long, so the oldest expires first, and nothing is ever
 * searched for.
 */
#include "tablesvc/table_internal.h"

#include <stdlib.h>
#include "common/base/quota.h"

enum {
	COUNTERS = 4096,
	ORPHANS_OF = 4, /* a quarter of the capacity for those, besides */
	SHARE_OF = 8,	/* an eighth of either budget for one source */
};

enum fragment_state {
	FRAGMENT_FREE = 0,
	FRAGMENT_ORPHAN, /* asked for; the first one has not come */
	FRAGMENT_KNOWN,
	FRAGMENT_WHOLE, /* found by nobody: only its number is taken */
};

struct fragment {
	nat_be32 source, destination;
	nat_be16 source_port, destination_port;
	uint16_t identification, new_identification;
	nat_be32 leaves_to; /* the destination after translation */
	uint8_t protocol, realm, state;
	bool numbered;	  /* new_identification is ours: nobody else gets it */
	uint64_t waiting; /* ORPHAN: holder bits */
	int64_t until_ms;
	uint32_t next, number_next; /* in the buckets; next: of the free list, too */
};

struct fragment_table {
	struct slab entries;
	struct buckets by_datagram, by_number;
	struct quota *known, *orphans;
	uint16_t counters[COUNTERS];
};

static struct fragment *at(const struct table *t, uint32_t i)
{
	return (struct fragment *)t->fragments->entries.memory + i;
}

int fragment_table_new(struct table *t)
{
	uint32_t known = t->config.capacity.fragments ? t->config.capacity.fragments : 1;
	uint32_t orphans = (known + ORPHANS_OF - 1) / ORPHANS_OF;
	uint32_t slots = known + orphans;
	struct fragment_table *f = calloc(1, sizeof *f);

	if (!f)
		return ERR_NOMEM;
	t->fragments = f;
	for (unsigned i = 0; i < COUNTERS; i++)
		f->counters[i] = (uint16_t)t->random->next(t->random->context);
	int err =
	    slab_new(&f->entries, slots, sizeof(struct fragment), offsetof(struct fragment, next));
	if (!err)
		err = buckets_new(&f->by_datagram, slots);
	if (!err)
		err = buckets_new(&f->by_number, slots);
	if (!err)
		err = quota_new(slots + 1, known, (known + SHARE_OF - 1) / SHARE_OF, t->random,
				&f->known);
	if (!err)
		err = quota_new(slots + 1, orphans, (orphans + SHARE_OF - 1) / SHARE_OF, t->random,
				&f->orphans);
	return err;
}

void fragment_table_free(struct table *t)
{
	struct fragment_table *f = t->fragments;

	if (!f)
		return;
	quota_free(f->orphans);
	quota_free(f->known);
	buckets_delete(&f->by_number);
	buckets_delete(&f->by_datagram);
	slab_delete(&f->entries);
	free(f);
	t->fragments = NULL;
}

uint64_t fragment_table_bytes(const struct table *t)
{
	const struct fragment_table *f = t->fragments;

	return (uint64_t)f->entries.fresh * f->entries.stride;
}

/* ---- entries ---- */

static uint32_t *datagram_bucket(const struct table *t, const struct fragment *e)
{
	uint64_t h =
	    table_hash(t, (uint64_t)e->source << 32 | e->destination,
		       (uint64_t)e->identification << 16 | (uint64_t)e->protocol << 8 | e->realm);
	return &t->fragments->by_datagram.head[h & t->fragments->by_datagram.mask];
}

/* Of {destination as it leaves, protocol} and a number; with number 0 the counter's hash. */
static uint64_t number_hash(const struct table *t, const struct fragment *e, uint32_t number)
{
	return table_hash(t, (uint64_t)e->leaves_to << 8 | e->protocol, number);
}

static uint32_t *number_bucket(const struct table *t, const struct fragment *e)
{
	uint64_t h = number_hash(t, e, 1u << 16 | e->new_identification);
	return &t->fragments->by_number.head[h & t->fragments->by_number.mask];
}

static uint64_t source_of(const struct fragment *e)
{
	return (uint64_t)e->source << 8 | e->realm;
}

static bool is_datagram(const struct fragment *a, const struct fragment *b)
{
	return a->source == b->source && a->destination == b->destination &&
	       a->identification == b->identification && a->protocol == b->protocol &&
	       a->realm == b->realm;
}

static uint32_t find(const struct table *t, const struct fragment *wanted)
{
	uint32_t i = *datagram_bucket(t, wanted);
	while (i && !is_datagram(at(t, i), wanted))
		i = at(t, i)->next;
	return i;
}

static void forget(struct table *t, uint32_t i)
{
	struct fragment *e = at(t, i);
	uint32_t *link;

	quota_leave(e->state == FRAGMENT_ORPHAN ? t->fragments->orphans : t->fragments->known, i);
	if (e->state != FRAGMENT_WHOLE) {
		for (link = datagram_bucket(t, e); *link != i;)
			link = &at(t, *link)->next;
		*link = e->next;
	}
	if (e->numbered) {
		for (link = number_bucket(t, e); *link != i;)
			link = &at(t, *link)->number_next;
		*link = e->number_next;
	}
	e->state = FRAGMENT_FREE;
	slab_give(&t->fragments->entries, i);
}

static void expire(struct table *t, struct quota *quota, uint64_t *counter)
{
	uint32_t i;

	while ((i = quota_oldest(quota)) != QUOTA_NONE &&
	       monotime_ms(t->now) >= at(t, i)->until_ms) {
		forget(t, i);
		(*counter)++;
	}
}

void fragment_tick(struct table *t)
{
	expire(t, t->fragments->known, &t->counters.fragments_expired);
	expire(t, t->fragments->orphans, &t->counters.fragments_orphans_expired);
}

static uint32_t enter(struct table *t, struct quota *quota, const struct fragment *wanted)
{
	uint32_t victim;

	while ((victim = quota_victim(quota, source_of(wanted), 1, QUOTA_NONE)) != QUOTA_NONE) {
		forget(t, victim); /* never QUOTA_FULL: one entry fits any share */
		t->counters.fragments_evicted++;
	}
	uint32_t i = slab_take(&t->fragments->entries);
	struct fragment *e = at(t, i);
	*e = *wanted;
	e->until_ms = monotime_ms(t->now) + t->config.fragment_timeout_ms;
	quota_enter(quota, i, source_of(e), 1);
	if (e->state != FRAGMENT_WHOLE) {
		uint32_t *bucket = datagram_bucket(t, e);
		e->next = *bucket;
		*bucket = i;
	}
	if (e->numbered) {
		uint32_t *bucket = number_bucket(t, e);
		e->number_next = *bucket;
		*bucket = i;
	}
	return i;
}

/* ---- identifications ---- */

/* Where the datagram goes when it leaves: those that meet there must not have one number. */
static nat_be32 leaves_to(const struct table *t, const struct nat_tuple *tuple)
{
	struct nat_endpoint destination = {.address = tuple->destination,
					   .port = tuple->destination_port};
	uint16_t redirect = resolve_redirect_of(t, tuple);
	if (redirect)
		return t->config.redirects[redirect - 1].to.address;
	if (!portpool_has_address(t->pools, tuple->destination))
		return tuple->destination;
	uint32_t mapping = mapping_by_external(t, tuple->protocol, &destination);
	return mapping ? mapping_at(t, mapping)->internal : tuple->destination;
}

static bool is_taken(const struct table *t, const struct fragment *e)
{
	for (uint32_t i = *number_bucket(t, e); i; i = at(t, i)->number_next) {
		const struct fragment *other = at(t, i);
		if (other->leaves_to == e->leaves_to && other->protocol == e->protocol &&
		    other->new_identification == e->new_identification)
			return true;
	}
	return false;
}

static void give_number(struct table *t, const struct nat_tuple *tuple, struct fragment *e)
{
	e->new_identification = e->identification;
	e->numbered = tuple->realm != NAT_REALM_OUTSIDE || resolve_redirect_of(t, tuple);
	if (!e->numbered || TABLE_MUTATED(TABLE_MUTATE_NUMBERS))
		return;
	e->leaves_to = leaves_to(t, tuple);
	uint16_t *counter = &t->fragments->counters[number_hash(t, e, 0) % COUNTERS];
	/* Ends: fewer are remembered than there are numbers, or after one round at the latest. */
	for (uint32_t tries = 0; tries <= UINT16_MAX; tries++) {
		e->new_identification = (*counter)++;
		if (!is_taken(t, e))
			return;
		t->counters.fragments_skipped++;
	}
}

/* ---- questions ---- */

static void tell(struct table *t, const struct fragment *e, struct wire_answer *answer)
{
	*answer = (struct wire_answer){
	    .verdict = NAT_TRANSLATE,
	    .rewrite = {.source = e->source,
			.destination = e->destination,
			.source_port = e->source_port,
			.destination_port = e->destination_port,
			.egress = e->realm},
	    .identification = e->new_identification,
	};
}

static void tell_waiting(struct table *t, const struct fragment *e, uint64_t bits)
{
	struct wire_notice notice = {
	    .tuple = {.source = e->source,
		      .destination = e->destination,
		      .source_port = e->source_port,
		      .destination_port = e->destination_port,
		      .protocol = e->protocol,
		      .realm = e->realm},
	    .identification = e->identification,
	    .new_identification = e->new_identification,
	};
	directory_fragments(t, bits & t->active, &notice);
}

static void first(struct table *t, const struct dataplane *d, const struct nat_tuple *tuple,
		  struct fragment *wanted, struct wire_answer *answer)
{
	uint64_t waiting = 0;
	uint32_t i = find(t, wanted);
	struct fragment *e = at(t, i);

	t->counters.fragments_first++;
	wanted->source_port = tuple->source_port;
	wanted->destination_port = tuple->destination_port;
	if (i && e->state == FRAGMENT_KNOWN && e->source_port == wanted->source_port &&
	    e->destination_port == wanted->destination_port) {
		tell(t, e, answer); /* U4 */
		return;
	}
	if (i && e->state == FRAGMENT_ORPHAN)
		waiting = e->waiting & ~(UINT64_C(1) << d->bit);
	if (i) /* of other ports: its sender uses a number again too early */
		forget(t, i);
	wanted->state = FRAGMENT_KNOWN;
	give_number(t, tuple, wanted);
	e = at(t, enter(t, t->fragments->known, wanted));
	tell(t, e, answer);
	if (waiting)
		tell_waiting(t, e, waiting);
}

static void later(struct table *t, const struct dataplane *d, struct fragment *wanted,
		  struct wire_answer *answer)
{
	uint32_t i = find(t, wanted);

	t->counters.fragments_later++;
	if (i && at(t, i)->state == FRAGMENT_KNOWN) {
		tell(t, at(t, i), answer);
		return;
	}
	if (!i) {
		wanted->state = FRAGMENT_ORPHAN;
		i = enter(t, t->fragments->orphans, wanted);
	}
	at(t, i)->waiting |= UINT64_C(1) << d->bit;
	*answer = (struct wire_answer){.verdict = NAT_DROP, .reason = NAT_REASON_FRAGMENT_UNKNOWN};
	t->counters.fragments_unknown++;
}

static void whole(struct table *t, const struct nat_tuple *tuple, struct fragment *wanted,
		  struct wire_answer *answer)
{
	t->counters.fragments_whole++;
	wanted->state = FRAGMENT_WHOLE;
	wanted->source_port = tuple->source_port;
	wanted->destination_port = tuple->destination_port;
	give_number(t, tuple, wanted);
	tell(t, at(t, enter(t, t->fragments->known, wanted)), answer);
}

void fragment_answer(struct table *t, const struct dataplane *d, const struct wire_request *r,
		     struct wire_answer *answer)
{
	struct fragment wanted = {
	    .source = r->tuple.source,
	    .destination = r->tuple.destination,
	    .protocol = r->tuple.protocol,
	    .realm = r->tuple.realm,
	    .identification = r->identification,
	};

	fragment_tick(t);
	if (r->op == WIRE_FRAGMENT_FIRST)
		first(t, d, &r->tuple, &wanted, answer);
	else if (r->op == WIRE_FRAGMENT_LATER)
		later(t, d, &wanted, answer);
	else
		whole(t, &r->tuple, &wanted, answer);
}

void fragment_count(const struct table *t, struct table_counters *out)
{
	out->fragments_known = quota_used(t->fragments->known);
	out->fragments_orphans = quota_used(t->fragments->orphans);
	out->fragments_capacity = t->config.capacity.fragments;
}
