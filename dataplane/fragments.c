/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/fragments.h"

#include <stdlib.h>
#include "common/base/err.h"
#include "dataplane/bytes.h"
#include "dataplane/engine_private.h"

#define NONE UINT32_MAX

enum { HASH_HEADS = 2 * FRAGMENTS_DATAGRAMS, TIMEOUT_DEFAULT_MS = 2000 };

enum datagram_state {
	DATAGRAM_WAITING, /* the first fragment has not come; later ones are parked */
	DATAGRAM_KNOWN,	  /* it has: its tuple translates the others */
	DATAGRAM_REFUSED, /* an overlap was seen: nothing more of it passes */
};

struct range {
	uint16_t begin, end; /* payload bytes [begin, end) seen */
};

/* What makes fragments belong together (RFC 791 section 3.2), and where they came from. */
struct datagram_key {
	nat_be32 source, destination;
	uint16_t identification;
	uint8_t protocol, realm;
};

struct datagram {
	struct datagram_key key;
	struct nat_tuple tuple; /* KNOWN */
	struct monotime deadline;
	uint32_t hash_next;
	uint32_t older, newer;		    /* by arrival; a free one: newer is the next free */
	uint32_t parked_first, parked_last; /* chunks that begin a fragment */
	uint16_t total;			    /* payload bytes, 0 until the last fragment came */
	uint16_t new_identification;
	uint8_t state;
	uint8_t n_ranges;
	struct range ranges[FRAGMENTS_RANGES]; /* ascending, never touching */
};

struct chunk {
	uint32_t next;		/* of this fragment, or of the free list */
	uint32_t next_fragment; /* first chunk only */
	uint32_t length;	/* of the fragment; first chunk only */
	uint8_t bytes[FRAGMENTS_CHUNK];
};

struct fragments {
	struct engine_counters *counters;
	uint64_t hash_key;
	uint32_t n_datagrams, n_chunks;
	uint32_t oldest, newest, free_datagram, free_chunk;
	uint32_t releasing; /* the datagram that fragments_next empties, or NONE */
	uint16_t identification;
	uint32_t heads[HASH_HEADS];
	struct datagram datagrams[FRAGMENTS_DATAGRAMS];
	struct chunk chunks[FRAGMENTS_CHUNKS];
};

int fragments_new(struct random_source *random, struct engine_counters *counters,
		  struct fragments **out)
{
	struct fragments *f = calloc(1, sizeof *f);
	if (!f)
		return ERR_NOMEM;
	f->counters = counters;
	f->hash_key = random->next(random->context) | 1;
	f->identification = (uint16_t)random->next(random->context);
	f->oldest = f->newest = f->releasing = NONE;
	for (uint32_t i = 0; i < HASH_HEADS; i++)
		f->heads[i] = NONE;
	for (uint32_t i = 0; i < FRAGMENTS_DATAGRAMS; i++)
		f->datagrams[i].newer = i + 1 < FRAGMENTS_DATAGRAMS ? i + 1 : NONE;
	for (uint32_t i = 0; i < FRAGMENTS_CHUNKS; i++)
		f->chunks[i].next = i + 1 < FRAGMENTS_CHUNKS ? i + 1 : NONE;
	*out = f;
	return 0;
}

void fragments_free(struct fragments *fragments)
{
	free(fragments);
}

/* Sequential from a random start: no value comes back before 65,535 others were used. */
uint16_t fragments_identification(struct fragments *f)
{
	return f->identification++;
}

static uint32_t *hash_head(struct fragments *f, const struct datagram_key *key)
{
	uint64_t words[2] = {(uint64_t)key->source << 32 | key->destination,
			     (uint64_t)key->identification << 16 | key->protocol << 8 | key->realm};
	uint64_t hash = (words[0] ^ f->hash_key) * 0x9e3779b97f4a7c15u;

	hash = (hash ^ hash >> 32 ^ words[1]) * f->hash_key;
	return &f->heads[(hash >> 32) % HASH_HEADS];
}

static bool key_equal(const struct datagram_key *a, const struct datagram_key *b)
{
	return a->source == b->source && a->destination == b->destination &&
	       a->identification == b->identification && a->protocol == b->protocol &&
	       a->realm == b->realm;
}

/* ---- parked fragments ---- */

/* Frees a datagram's oldest parked fragment. */
static void unpark(struct fragments *f, struct datagram *d)
{
	uint32_t i = d->parked_first;

	d->parked_first = f->chunks[i].next_fragment;
	while (i != NONE) {
		uint32_t next = f->chunks[i].next;
		f->chunks[i].next = f->free_chunk;
		f->free_chunk = i;
		f->n_chunks--;
		i = next;
	}
}

static void drop_parked(struct fragments *f, struct datagram *d, unsigned reason)
{
	while (d->parked_first != NONE) {
		unpark(f, d);
		count(&f->counters->drops[reason]);
	}
}

static void forget(struct fragments *f, uint32_t i, unsigned reason)
{
	struct datagram *d = &f->datagrams[i];
	uint32_t *link = hash_head(f, &d->key);

	drop_parked(f, d, reason);
	while (*link != i)
		link = &f->datagrams[*link].hash_next;
	*link = d->hash_next;
	*(d->older == NONE ? &f->oldest : &f->datagrams[d->older].newer) = d->newer;
	*(d->newer == NONE ? &f->newest : &f->datagrams[d->newer].older) = d->older;
	d->newer = f->free_datagram;
	f->free_datagram = i;
	f->n_datagrams--;
	if (f->releasing == i)
		f->releasing = NONE;
}

/* Copies a fragment behind the others of its datagram; when memory is short the oldest others go.
 */
static bool park(struct fragments *f, uint32_t owner, const struct engine_packet *packet)
{
	struct datagram *d = &f->datagrams[owner];
	uint32_t need = (packet->length + FRAGMENTS_CHUNK - 1) / FRAGMENTS_CHUNK;

	for (uint32_t i = f->oldest; FRAGMENTS_CHUNKS - f->n_chunks < need && i != NONE;) {
		uint32_t newer = f->datagrams[i].newer;
		if (i != owner && f->datagrams[i].parked_first != NONE)
			forget(f, i, NAT_REASON_FRAGMENT_TABLE_FULL);
		i = newer;
	}
	if (FRAGMENTS_CHUNKS - f->n_chunks < need)
		return false;

	uint32_t first = f->free_chunk, *link = &first;
	for (uint32_t done = 0; done < packet->length; done += FRAGMENTS_CHUNK) {
		uint32_t left = packet->length - done;
		struct chunk *chunk = &f->chunks[*link];
		memcpy(chunk->bytes, packet->data + done,
		       left < FRAGMENTS_CHUNK ? left : FRAGMENTS_CHUNK);
		link = &chunk->next;
	}
	f->free_chunk = *link;
	*link = NONE;
	f->n_chunks += need;
	f->chunks[first].length = packet->length;
	f->chunks[first].next_fragment = NONE;
	if (d->parked_first == NONE)
		d->parked_first = first;
	else
		f->chunks[d->parked_last].next_fragment = first;
	d->parked_last = first;
	return true;
}

/* ---- datagrams ---- */

static uint32_t find_or_make(struct fragments *f, const struct datagram_key *key,
			     uint32_t timeout_ms, struct monotime now)
{
	uint32_t *head = hash_head(f, key);

	for (uint32_t i = *head; i != NONE; i = f->datagrams[i].hash_next) {
		if (!key_equal(&f->datagrams[i].key, key))
			continue;
		if (monotime_before(now, f->datagrams[i].deadline))
			return i;
		forget(f, i, NAT_REASON_FRAGMENT_TIMEOUT);
		break;
	}
	if (f->free_datagram == NONE)
		forget(f, f->oldest, NAT_REASON_FRAGMENT_TABLE_FULL);

	uint32_t i = f->free_datagram;
	struct datagram *d = &f->datagrams[i];
	f->free_datagram = d->newer;
	f->n_datagrams++;
	*d = (struct datagram){
	    .key = *key,
	    .deadline = monotime_add_ms(now, timeout_ms ? timeout_ms : TIMEOUT_DEFAULT_MS),
	    .hash_next = *head,
	    .older = f->newest,
	    .newer = NONE,
	    .parked_first = NONE,
	    .state = DATAGRAM_WAITING,
	    .new_identification =
		key->realm == NAT_REALM_OUTSIDE ? key->identification : fragments_identification(f),
	};
	*head = i;
	*(f->newest == NONE ? &f->oldest : &f->datagrams[f->newest].newer) = i;
	f->newest = i;
	return i;
}

enum place { PLACE_NEW, PLACE_DUPLICATE, PLACE_BAD };

/* Notes that payload bytes [begin, end) came. */
static enum place place(struct datagram *d, uint32_t begin, uint32_t end, bool last)
{
	uint32_t at = 0;

	/* The length is fixed by the last fragment, and nothing lies behind it. */
	if (d->total && (end > d->total || (last && end != d->total)))
		return PLACE_BAD;
	if (last && d->n_ranges > 0 && d->ranges[d->n_ranges - 1].end > end)
		return PLACE_BAD;
	while (at < d->n_ranges && d->ranges[at].end <= begin)
		at++;
	if (at < d->n_ranges && d->ranges[at].begin < end)
		return d->ranges[at].begin <= begin && end <= d->ranges[at].end ? PLACE_DUPLICATE
										: PLACE_BAD;
	if (last)
		d->total = (uint16_t)end;

	bool joins_left = at > 0 && d->ranges[at - 1].end == begin;
	bool joins_right = at < d->n_ranges && d->ranges[at].begin == end;
	if (joins_left && joins_right) {
		d->ranges[at - 1].end = d->ranges[at].end;
		memmove(&d->ranges[at], &d->ranges[at + 1],
			(--d->n_ranges - at) * sizeof d->ranges[0]);
	} else if (joins_left) {
		d->ranges[at - 1].end = (uint16_t)end;
	} else if (joins_right) {
		d->ranges[at].begin = (uint16_t)begin;
	} else if (d->n_ranges == FRAGMENTS_RANGES) {
		return PLACE_BAD;
	} else {
		memmove(&d->ranges[at + 1], &d->ranges[at],
			(d->n_ranges++ - at) * sizeof d->ranges[0]);
		d->ranges[at] = (struct range){(uint16_t)begin, (uint16_t)end};
	}
	return PLACE_NEW;
}

static bool complete(const struct datagram *d)
{
	return d->total && d->n_ranges == 1 && d->ranges[0].begin == 0 &&
	       d->ranges[0].end == d->total;
}

static void renumber(uint8_t *ip, uint16_t identification)
{
	uint16_t delta = nat_csum_delta16(0, nat_get16(ip + NAT_IP_ID), nat_swap16(identification));

	put_number16(ip + NAT_IP_ID, identification);
	nat_put16(ip + NAT_IP_CHECKSUM, nat_csum_apply(nat_get16(ip + NAT_IP_CHECKSUM), delta));
}

static uint32_t transport_header_length(uint8_t protocol)
{
	return protocol == NAT_TCP ? 20 : 8;
}

static void refuse(struct fragments *f, struct datagram *d)
{
	d->state = DATAGRAM_REFUSED;
	drop_parked(f, d, NAT_REASON_FRAGMENT_MALFORMED);
}

enum fragment_step fragments_take(struct fragments *f, struct engine_packet *packet,
				  struct nat_tuple *tuple, uint32_t timeout_ms, struct monotime now,
				  unsigned *reason)
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
	f->releasing = NONE;
	*reason = NAT_REASON_FRAGMENT_MALFORMED;
	/* Unusable whatever else came: it does not even spoil its datagram. */
	if (end == begin || end + header > IPV4_TOTAL_MAX || (!last && (end - begin) % 8 != 0))
		return FRAGMENT_REFUSE;

	uint32_t i = find_or_make(f, &key, timeout_ms, now);
	struct datagram *d = &f->datagrams[i];
	uint32_t transport = transport_header_length(key.protocol);
	if (d->state == DATAGRAM_REFUSED)
		return FRAGMENT_REFUSE;
	if (begin == 0 ? end < transport : begin < transport) {
		refuse(f, d); /* RFC 1858 section 3, RFC 3128: a transport header in pieces */
		return FRAGMENT_REFUSE;
	}
	switch (place(d, begin, end, last)) {
	case PLACE_DUPLICATE:
		return FRAGMENT_KEPT;
	case PLACE_BAD:
		refuse(f, d);
		return FRAGMENT_REFUSE;
	case PLACE_NEW:
		break;
	}
	if (begin > 0 && d->state == DATAGRAM_WAITING) {
		if (park(f, i, packet))
			return FRAGMENT_KEPT;
		*reason = NAT_REASON_FRAGMENT_TABLE_FULL;
		return FRAGMENT_REFUSE;
	}
	if (begin == 0) {
		d->tuple = *tuple;
		d->state = DATAGRAM_KNOWN;
		f->releasing = i;
	}
	*tuple = d->tuple;
	renumber(ip, d->new_identification);
	/* A complete datagram is forgotten at once, so that its identification may come again. */
	if (complete(d) && d->parked_first == NONE)
		forget(f, i, NAT_REASON_NONE);
	return FRAGMENT_TUPLE;
}

bool fragments_next(struct fragments *f, uint8_t *buffer, struct engine_packet *packet)
{
	if (f->releasing == NONE)
		return false;

	struct datagram *d = &f->datagrams[f->releasing];
	uint32_t first = d->parked_first;
	if (first == NONE) {
		if (complete(d))
			forget(f, f->releasing, NAT_REASON_NONE);
		f->releasing = NONE;
		return false;
	}
	uint32_t length = f->chunks[first].length, done = 0;
	for (uint32_t i = first; i != NONE; i = f->chunks[i].next, done += FRAGMENTS_CHUNK) {
		uint32_t left = length - done;
		memcpy(buffer + done, f->chunks[i].bytes,
		       left < FRAGMENTS_CHUNK ? left : FRAGMENTS_CHUNK);
	}
	unpark(f, d);
	renumber(buffer, d->new_identification);
	*packet = (struct engine_packet){
	    .data = buffer, .length = length, .room = IPV4_TOTAL_MAX, .ingress = d->key.realm};
	return true;
}

void fragments_tick(struct fragments *f, struct monotime now)
{
	while (f->oldest != NONE && !monotime_before(now, f->datagrams[f->oldest].deadline))
		forget(f, f->oldest, NAT_REASON_FRAGMENT_TIMEOUT);
}

void fragments_held(const struct fragments *f, uint32_t *datagrams, uint32_t *chunks)
{
	*datagrams = f->n_datagrams;
	*chunks = f->n_chunks;
}
