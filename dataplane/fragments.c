/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/fragments.h"

#include <stdlib.h>
#include "common/base/err.h"
#include "common/base/quota.h"
#include "dataplane/bytes.h"
#include "dataplane/engine_private.h"
#include "dataplane/parking.h"
#include "dataplane/ranges.h"

#define NONE UINT32_MAX

enum {
	SLOTS = FRAGMENTS_ORPHANS + FRAGMENTS_KNOWN,
	HASH_HEADS = 2 * SLOTS,
	TIMEOUT_DEFAULT_MS = 2000,
};

enum budget { ORPHANS, OTHERS, BUDGETS };

/* What makes fragments belong together (RFC 791 section 3.2), and where they came from. */
struct datagram_key {
	nat_be32 source, destination;
	uint16_t identification;
	uint8_t protocol, realm;
};

struct datagram {
	struct datagram_key key;
	struct nat_tuple tuple; /* from ASKED on */
	struct monotime deadline;
	uint32_t timeout_ms;
	uint32_t hash_next; /* and the free list */
	uint32_t generation;
	struct parking_list parked;
	uint16_t new_identification;
	uint8_t state;	/* enum fragment_state */
	uint8_t budget; /* enum budget */
	uint8_t reason; /* REFUSED: why */
	struct ranges ranges;
};

struct fragments {
	struct engine_counters *counters;
	struct parking *parking;
	/* Which datagrams are in which budget; how many chunks each has. */
	struct quota *datagrams_of[BUDGETS], *chunks_of[BUDGETS];
	uint64_t hash_key;
	uint32_t free, fresh; /* from "fresh" on never used: not even touched */
	uint16_t identification;
	uint32_t heads[HASH_HEADS];
	struct datagram datagrams[SLOTS];
};

int fragments_new(struct random_source *random, struct engine_counters *counters,
		  struct fragments **out)
{
	static const uint32_t datagrams[BUDGETS] = {FRAGMENTS_ORPHANS, FRAGMENTS_KNOWN};
	static const uint32_t chunks[BUDGETS] = {FRAGMENTS_ORPHAN_CHUNKS, FRAGMENTS_KNOWN_CHUNKS};
	struct fragments *f = calloc(1, sizeof *f);
	int err = ERR_NOMEM;

	if (!f)
		return ERR_NOMEM;
	f->counters = counters;
	f->hash_key = random->next(random->context) | 1;
	f->identification = (uint16_t)random->next(random->context);
	for (uint32_t i = 0; i < HASH_HEADS; i++)
		f->heads[i] = NONE;
	f->free = NONE;
	err = parking_new(FRAGMENTS_ORPHAN_CHUNKS + FRAGMENTS_KNOWN_CHUNKS, &f->parking);
	for (unsigned b = 0; !err && b < BUDGETS; b++)
		err = quota_new(SLOTS, datagrams[b], datagrams[b] / FRAGMENTS_SHARE_OF, random,
				&f->datagrams_of[b]);
	for (unsigned b = 0; !err && b < BUDGETS; b++)
		err = quota_new(SLOTS, chunks[b], chunks[b] / FRAGMENTS_CHUNKS_SHARE_OF, random,
				&f->chunks_of[b]);
	if (err) {
		fragments_free(f);
		return err;
	}
	*out = f;
	return 0;
}

void fragments_free(struct fragments *f)
{
	if (!f)
		return;
	for (unsigned b = 0; b < BUDGETS; b++) {
		quota_free(f->chunks_of[b]);
		quota_free(f->datagrams_of[b]);
	}
	parking_free(f->parking);
	free(f);
}

/* Sequential from a random start: no value comes back before 65,535 others were used. */
uint16_t fragments_identification(struct fragments *f)
{
	return f->identification++;
}

void fragments_renumber(uint8_t *ip, uint16_t identification)
{
	uint16_t delta = nat_csum_delta16(0, nat_get16(ip + NAT_IP_ID), nat_swap16(identification));

	put_number16(ip + NAT_IP_ID, identification);
	nat_put16(ip + NAT_IP_CHECKSUM, nat_csum_apply(nat_get16(ip + NAT_IP_CHECKSUM), delta));
}

/* ---- finding */

static uint32_t head_of(const struct fragments *f, const struct datagram_key *key)
{
	uint64_t words[2] = {(uint64_t)key->source << 32 | key->destination,
			     (uint64_t)key->identification << 16 | key->protocol << 8 | key->realm};
	uint64_t hash = (words[0] ^ f->hash_key) * 0x9e3779b97f4a7c15u;

	hash = (hash ^ hash >> 32 ^ words[1]) * f->hash_key;
	return (uint32_t)(hash >> 32) % HASH_HEADS;
}

static bool key_equal(const struct datagram_key *a, const struct datagram_key *b)
{
	return a->source == b->source && a->destination == b->destination &&
	       a->identification == b->identification && a->protocol == b->protocol &&
	       a->realm == b->realm;
}

static uint32_t find(const struct fragments *f, const struct datagram_key *key)
{
	uint32_t i = f->heads[head_of(f, key)];

	while (i != NONE && !key_equal(&f->datagrams[i].key, key))
		i = f->datagrams[i].hash_next;
	return i;
}

static uint64_t id_of(const struct fragments *f, uint32_t i)
{
	return (uint64_t)f->datagrams[i].generation << 32 | i;
}

/* The slot of a datagram that did not end, or NONE. */
static uint32_t lookup(const struct fragments *f, uint64_t id)
{
	uint32_t i = (uint32_t)id % SLOTS;

	return f->datagrams[i].state != FRAGMENT_NONE && f->datagrams[i].generation == id >> 32
		   ? i
		   : NONE;
}

static struct datagram *by_id(struct fragments *f, uint64_t id)
{
	uint32_t i = lookup(f, id);

	return i == NONE ? NULL : &f->datagrams[i];
}

static uint32_t slot_of(const struct fragments *f, const struct datagram *d)
{
	return (uint32_t)(d - f->datagrams);
}

enum fragment_state fragments_state(const struct fragments *f, uint64_t id)
{
	uint32_t i = lookup(f, id);

	return i == NONE ? FRAGMENT_NONE : (enum fragment_state)f->datagrams[i].state;
}

uint64_t fragments_find(const struct fragments *f, const struct nat_tuple *tuple,
			uint16_t identification, struct monotime now)
{
	struct datagram_key key = {tuple->source, tuple->destination, identification,
				   tuple->protocol, tuple->realm};
	uint32_t i = find(f, &key);

	return i != NONE && monotime_before(now, f->datagrams[i].deadline) ? id_of(f, i) : 0;
}

/* ---- budgets: a datagram that has to make room is forgotten */

static uint64_t source_of(const struct datagram_key *key)
{
	return (uint64_t)key->source << 8 | key->realm;
}

static void drop_parked(struct fragments *f, struct datagram *d, unsigned reason)
{
	while (parking_drop(f->parking, &d->parked))
		count(&f->counters->drops[reason]);
	quota_leave(f->chunks_of[d->budget], slot_of(f, d));
}

/* Whoever has its id finds nothing any more. */
static void rename_datagram(struct datagram *d)
{
	if (++d->generation == 0) /* an id is never 0 */
		d->generation = 1;
}

static void forget(struct fragments *f, uint32_t i, unsigned reason)
{
	struct datagram *d = &f->datagrams[i];

	drop_parked(f, d, reason);
	quota_leave(f->datagrams_of[d->budget], i);
	if (d->state != FRAGMENT_WHOLE) {
		uint32_t *link = &f->heads[head_of(f, &d->key)];
		while (*link != i)
			link = &f->datagrams[*link].hash_next;
		*link = d->hash_next;
	}
	d->state = FRAGMENT_NONE;
	rename_datagram(d);
	d->hash_next = f->free;
	f->free = i;
}

static bool make_room(struct fragments *f, const struct quota *quota, uint64_t source,
		      uint32_t weight, uint32_t keep)
{
	uint32_t victim;

	while ((victim = quota_victim(quota, source, weight, keep)) != QUOTA_NONE) {
		if (victim == QUOTA_FULL)
			return false;
		forget(f, victim, NAT_REASON_FRAGMENT_TABLE_FULL);
	}
	return true;
}

static bool park(struct fragments *f, struct datagram *d, const struct engine_packet *packet,
		 bool in_front)
{
	struct quota *quota = f->chunks_of[d->budget];
	uint32_t slot = slot_of(f, d), need = parking_need(packet->length);
	bool had = d->parked.first != PARKING_NONE;

	if (!make_room(f, quota, source_of(&d->key), need, slot) ||
	    !parking_put(f->parking, &d->parked, packet, in_front))
		return false;
	if (had)
		quota_grow(quota, slot, need);
	else
		quota_enter(quota, slot, source_of(&d->key), need);
	return true;
}

/* Out of the orphans' budgets; its time starts anew. */
static void no_orphan(struct fragments *f, struct datagram *d, struct monotime now)
{
	uint32_t slot = slot_of(f, d);
	uint64_t source = source_of(&d->key);

	if (d->budget != ORPHANS)
		return;
	uint32_t chunks = quota_weight(f->chunks_of[ORPHANS], slot);
	quota_leave(f->chunks_of[ORPHANS], slot);
	quota_leave(f->datagrams_of[ORPHANS], slot);
	d->budget = OTHERS;
	d->deadline = monotime_add_ms(now, d->timeout_ms);
	make_room(f, f->datagrams_of[OTHERS], source, 1, slot); /* one always fits */
	quota_enter(f->datagrams_of[OTHERS], slot, source, 1);
	if (chunks == 0)
		return;
	/* An orphan's share is smaller than the others' share: it fits. */
	make_room(f, f->chunks_of[OTHERS], source, chunks, slot);
	quota_enter(f->chunks_of[OTHERS], slot, source, chunks);
}
_Static_assert(FRAGMENTS_ORPHAN_CHUNKS <= FRAGMENTS_KNOWN_CHUNKS, "see no_orphan");

static struct datagram *make(struct fragments *f, const struct datagram_key *key, unsigned budget,
			     uint32_t timeout_ms, struct monotime now)
{
	make_room(f, f->datagrams_of[budget], source_of(key), 1, QUOTA_NONE);
	/* There are as many as the budgets hold together. */
	uint32_t i = f->free == NONE ? f->fresh++ : f->free;
	struct datagram *d = &f->datagrams[i];
	if (f->free != NONE)
		f->free = d->hash_next;
	uint32_t timeout = timeout_ms ? timeout_ms : TIMEOUT_DEFAULT_MS;
	*d = (struct datagram){
	    .key = *key,
	    .generation = d->generation ? d->generation : 1, /* an id is never 0 */
	    .timeout_ms = timeout,
	    .deadline = monotime_add_ms(now, timeout),
	    .parked = {PARKING_NONE, PARKING_NONE},
	    .budget = (uint8_t)budget,
	};
	quota_enter(f->datagrams_of[budget], i, source_of(key), 1);
	return d;
}

static struct datagram *find_or_make(struct fragments *f, const struct datagram_key *key,
				     bool first, uint32_t timeout_ms, struct monotime now)
{
	uint32_t i = find(f, key);

	if (i != NONE && monotime_before(now, f->datagrams[i].deadline))
		return &f->datagrams[i];
	if (i != NONE)
		forget(f, i, NAT_REASON_FRAGMENT_TIMEOUT);
	struct datagram *d = make(f, key, first ? OTHERS : ORPHANS, timeout_ms, now);
	d->state = FRAGMENT_WAITING;
	uint32_t *head = &f->heads[head_of(f, key)];
	d->hash_next = *head;
	*head = slot_of(f, d);
	return d;
}

/* ---- fragments as they come */

static uint32_t transport_header_length(uint8_t protocol)
{
	return protocol == NAT_TCP ? 20 : 8;
}

static void refuse(struct fragments *f, struct datagram *d, unsigned reason)
{
	d->state = FRAGMENT_REFUSED;
	d->reason = (uint8_t)reason;
	drop_parked(f, d, reason);
}

void fragments_refuse(struct fragments *f, uint64_t id, unsigned reason)
{
	struct datagram *d = by_id(f, id);

	if (d)
		refuse(f, d, reason);
}

/*
 * A first fragment of other ports is another datagram: its sender uses the identification again
 * before we can know that the last one is over, because we saw only a part of that.
 */
static void used_again(struct fragments *f, const struct datagram_key *key,
		       const struct nat_tuple *tuple)
{
	uint32_t i = find(f, key);

	if (i != NONE && f->datagrams[i].state == FRAGMENT_KNOWN &&
	    !nat_tuple_equal(&f->datagrams[i].tuple, tuple))
		forget(f, i, NAT_REASON_NONE);
}

/* What becomes of a fragment that is new. */
static enum fragment_step sort(struct fragments *f, struct datagram *d,
			       struct engine_packet *packet, bool first, bool alone,
			       struct monotime now, struct nat_tuple *tuple)
{
	switch ((enum fragment_state)d->state) {
	case FRAGMENT_KNOWN:
		*tuple = d->tuple;
		fragments_renumber(packet->data, d->new_identification);
		return FRAGMENT_TUPLE;
	case FRAGMENT_WAITING:
		if (first) {
			no_orphan(f, d, now);
			rename_datagram(d); /* an answer about the orphan comes too late */
			return FRAGMENT_FIRST;
		}
		if (!park(f, d, packet, false))
			return FRAGMENT_REFUSE;
		return alone ? FRAGMENT_ORPHAN : FRAGMENT_KEPT;
	default: /* ASKED, RESOLVING; a first one that another dataplane had seen before */
		return park(f, d, packet, first) ? FRAGMENT_KEPT : FRAGMENT_REFUSE;
	}
}

enum fragment_step fragments_take(struct fragments *f, struct engine_packet *packet,
				  struct nat_tuple *tuple, uint32_t timeout_ms, struct monotime now,
				  uint64_t *id, unsigned *reason)
{
	uint8_t *ip = packet->data;
	uint32_t header = ip_header_length(ip);
	uint16_t field = number16(ip + NAT_IP_FRAGMENT);
	bool last = !(field & IPV4_MF);
	uint32_t begin = (field & IPV4_OFFSET) * 8u;
	uint32_t end = begin + packet->length - header;
	struct datagram_key key = {
	    .source = nat_get32(ip + NAT_IP_SOURCE),
	    .destination = nat_get32(ip + NAT_IP_DESTINATION),
	    .identification = number16(ip + NAT_IP_ID),
	    .protocol = ip[NAT_IP_PROTOCOL],
	    .realm = packet->ingress,
	};

	count(&f->counters->fragments);
	*id = 0;
	*reason = NAT_REASON_FRAGMENT_MALFORMED;
	/* Unusable whatever else came: it does not even spoil its datagram. */
	if (end == begin || end + header > IPV4_TOTAL_MAX || (!last && (end - begin) % 8 != 0))
		return FRAGMENT_REFUSE;

	if (begin == 0)
		used_again(f, &key, tuple);
	struct datagram *d = find_or_make(f, &key, begin == 0, timeout_ms, now);
	uint32_t transport = transport_header_length(key.protocol);
	bool alone = d->ranges.n == 0;
	*id = id_of(f, slot_of(f, d));
	if (d->state == FRAGMENT_REFUSED) {
		*reason = d->reason;
		return FRAGMENT_REFUSE;
	}
	if (begin == 0 ? end < transport : begin < transport) {
		/* RFC 1858 section 3, RFC 3128: a transport header in pieces */
		refuse(f, d, NAT_REASON_FRAGMENT_MALFORMED);
		return FRAGMENT_REFUSE;
	}
	switch (ranges_add(&d->ranges, begin, end, last)) {
	case RANGE_AGAIN:
		/*
		 * A duplicate, or the sender's next datagram with this identification already, and
		 * that we saw only a part of the last one: it passes, the receiver knows.
		 */
		if (d->state == FRAGMENT_KNOWN)
			return sort(f, d, packet, begin == 0, false, now, tuple);
		return FRAGMENT_KEPT;
	case RANGE_DUPLICATE:
		return FRAGMENT_KEPT;
	case RANGE_BAD:
		refuse(f, d, NAT_REASON_FRAGMENT_MALFORMED);
		return FRAGMENT_REFUSE;
	case RANGE_NEW:
		break;
	}
	*reason = NAT_REASON_FRAGMENT_TABLE_FULL;
	enum fragment_step step = sort(f, d, packet, begin == 0, alone, now, tuple);
	*id = id_of(f, slot_of(f, d));
	/* A complete datagram is forgotten at once, so that its identification may come again. */
	if (step == FRAGMENT_TUPLE && ranges_complete(&d->ranges)) {
		forget(f, slot_of(f, d), NAT_REASON_NONE);
		*id = 0;
	}
	return step;
}

/* ---- waiting and going on */

bool fragments_wait(struct fragments *f, uint64_t id, const struct nat_tuple *tuple,
		    const struct engine_packet *packet, struct monotime now)
{
	struct datagram *d = by_id(f, id);

	if (!d)
		return false;
	no_orphan(f, d, now);
	if (!park(f, d, packet, true)) {
		refuse(f, d, NAT_REASON_FRAGMENT_TABLE_FULL);
		return false;
	}
	d->tuple = *tuple;
	d->state = FRAGMENT_ASKED;
	return true;
}

uint64_t fragments_whole(struct fragments *f, const struct engine_packet *packet,
			 uint32_t timeout_ms, struct monotime now)
{
	struct datagram_key key = {.source = nat_get32(packet->data + NAT_IP_SOURCE),
				   .destination = nat_get32(packet->data + NAT_IP_DESTINATION),
				   .identification = number16(packet->data + NAT_IP_ID),
				   .protocol = packet->data[NAT_IP_PROTOCOL],
				   .realm = packet->ingress};
	struct datagram *d = make(f, &key, OTHERS, timeout_ms, now);

	d->state = FRAGMENT_WHOLE;
	if (park(f, d, packet, false))
		return id_of(f, slot_of(f, d));
	forget(f, slot_of(f, d), NAT_REASON_NONE);
	return 0;
}

void fragments_known(struct fragments *f, uint64_t id, const struct nat_tuple *tuple,
		     uint16_t identification, struct monotime now)
{
	struct datagram *d = by_id(f, id);

	if (!d)
		return;
	no_orphan(f, d, now);
	if (tuple)
		d->tuple = *tuple;
	d->new_identification = identification;
	if (d->state != FRAGMENT_WHOLE)
		d->state = FRAGMENT_KNOWN;
}

bool fragments_next(struct fragments *f, uint64_t id, uint8_t *buffer, struct engine_packet *packet,
		    struct nat_tuple *tuple)
{
	struct datagram *d = by_id(f, id);

	if (!d || (d->state != FRAGMENT_KNOWN && d->state != FRAGMENT_WHOLE))
		return false;
	if (!parking_take(f->parking, &d->parked, buffer, packet)) {
		if (ranges_complete(&d->ranges) || d->state == FRAGMENT_WHOLE)
			forget(f, slot_of(f, d), NAT_REASON_NONE);
		return false;
	}
	if (d->parked.first == PARKING_NONE)
		quota_leave(f->chunks_of[d->budget], slot_of(f, d));
	fragments_renumber(buffer, d->new_identification);
	*tuple = d->tuple;
	return true;
}

void fragments_resolving(struct fragments *f, uint64_t id)
{
	struct datagram *d = by_id(f, id);

	if (d && d->state == FRAGMENT_KNOWN)
		d->state = FRAGMENT_RESOLVING;
}

void fragments_resolved(struct fragments *f, uint64_t id)
{
	struct datagram *d = by_id(f, id);

	if (d && d->state == FRAGMENT_RESOLVING)
		d->state = FRAGMENT_KNOWN;
}

void fragments_key(const struct fragments *f, uint64_t id, struct nat_tuple *tuple,
		   uint16_t *identification)
{
	const struct datagram_key *key = &f->datagrams[lookup(f, id)].key;

	*tuple = (struct nat_tuple){.source = key->source,
				    .destination = key->destination,
				    .protocol = key->protocol,
				    .realm = key->realm};
	*identification = key->identification;
}

void fragments_forget(struct fragments *f, uint64_t id)
{
	struct datagram *d = by_id(f, id);

	if (!d)
		return;
	while (parking_drop(f->parking, &d->parked))
		;
	forget(f, slot_of(f, d), NAT_REASON_NONE);
}

static void expire(struct fragments *f, enum budget budget, struct monotime now)
{
	uint32_t i;

	while ((i = quota_oldest(f->datagrams_of[budget])) != QUOTA_NONE &&
	       !monotime_before(now, f->datagrams[i].deadline))
		forget(f, i,
		       f->datagrams[i].state == FRAGMENT_WAITING ? NAT_REASON_FRAGMENT_TIMEOUT
								 : NAT_REASON_PENDING_TIMEOUT);
}

void fragments_tick(struct fragments *f, struct monotime now)
{
	expire(f, ORPHANS, now);
	expire(f, OTHERS, now);
}

void fragments_held(const struct fragments *f, uint32_t *datagrams, uint32_t *chunks)
{
	*datagrams = quota_used(f->datagrams_of[ORPHANS]) + quota_used(f->datagrams_of[OTHERS]);
	*chunks = parking_used(f->parking);
}
