/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. A question lives in one hash chain (found by tuple), on one of two lists in
 * the order of their deadlines (with packets: "waiting"; asked and without: "empty"), and, until it
 * is asked, in the ask queue. Lists are doubly linked by slot number inside the pool. When the pool
 * is full the oldest empty question makes room: nobody waits for its answer any more.
 *
 * The two lists are kept in order of insertion, which is the order of deadlines as long as the
 * service does not change the timeout; after a change a deadline may come late by the difference.
 */
#include "dataplane/pending.h"

#include <stdlib.h>
#include <string.h>
#include "common/base/err.h"

#define NONE UINT32_MAX

enum { SLOTS_TOUCHED = 256 };

struct link {
	uint32_t previous, next;
};
struct list {
	uint32_t first, last;
};
enum list_of { LIST_WAITING, LIST_EMPTY, LIST_ASK, LISTS };

struct question {
	struct pending_question q; /* q.tuple.zero holds q.op: part of the key */
	uint32_t generation;
	uint32_t chain; /* next in the hash bucket, or in the free list */
	struct link links[LISTS];
	bool on[LISTS];
	bool live;
	uint32_t first, last; /* packets */
	struct monotime deadline;
};

struct parked {
	struct engine_packet packet;
	uint32_t next;
	uint8_t tcp_flags;
};

struct pending {
	struct question *questions;
	uint32_t *buckets;
	struct parked *parked;
	uint8_t *bytes;
	uint64_t key[2];
	uint32_t mask, flows, packets, room; /* sizes of the pools */
	uint32_t free_question, free_parked;
	uint32_t n_questions, n_parked;
	uint32_t limit_packets, limit_per_flow, timeout_ms;
	struct list lists[LISTS];
};

/* Folded multiplication; the key is secret, so nobody can choose tuples that collide. */
static uint32_t bucket_of(const struct pending *pending, const struct nat_tuple *key)
{
	uint64_t words[2];
	memcpy(words, key, sizeof words);
	unsigned __int128 product =
	    (unsigned __int128)(words[0] ^ pending->key[0]) * (words[1] ^ pending->key[1]);
	uint64_t h = (uint64_t)product ^ (uint64_t)(product >> 64);
	h = (h ^ pending->key[0]) * 0x9e3779b97f4a7c15u;
	return (uint32_t)(h >> 32) & pending->mask;
}

static void list_append(struct pending *pending, enum list_of which, uint32_t slot)
{
	struct list *list = &pending->lists[which];
	struct question *question = &pending->questions[slot];

	question->links[which] = (struct link){list->last, NONE};
	question->on[which] = true;
	if (list->last == NONE)
		list->first = slot;
	else
		pending->questions[list->last].links[which].next = slot;
	list->last = slot;
}

static void list_remove(struct pending *pending, enum list_of which, uint32_t slot)
{
	struct list *list = &pending->lists[which];
	struct question *question = &pending->questions[slot];
	struct link *link = &question->links[which];

	if (!question->on[which])
		return;
	question->on[which] = false;
	if (link->previous == NONE)
		list->first = link->next;
	else
		pending->questions[link->previous].links[which].next = link->next;
	if (link->next == NONE)
		list->last = link->previous;
	else
		pending->questions[link->next].links[which].previous = link->previous;
}

int pending_new(uint32_t flows, uint32_t packets, uint32_t room, struct random_source *random,
		struct pending **out)
{
	if (flows == 0 || packets == 0 || room == 0 || flows > 1u << 28 || packets > 1u << 28)
		return ERR_INVALID;
	struct pending *pending = calloc(1, sizeof *pending);
	if (!pending)
		return ERR_NOMEM;
	uint32_t buckets = 4;
	while (buckets < flows)
		buckets *= 2;
	pending->questions = calloc(flows, sizeof *pending->questions);
	pending->buckets = malloc(buckets * sizeof *pending->buckets);
	pending->parked = calloc(packets, sizeof *pending->parked);
	pending->bytes = calloc(packets, room);
	if (!pending->questions || !pending->buckets || !pending->parked || !pending->bytes) {
		pending_free(pending);
		return ERR_NOMEM;
	}
	pending->mask = buckets - 1;
	pending->flows = flows;
	pending->packets = packets;
	pending->room = room;
	pending->key[0] = random->next(random->context);
	pending->key[1] = random->next(random->context);
	memset(pending->buckets, 0xff, buckets * sizeof *pending->buckets);
	for (uint32_t i = 0; i < flows; i++) {
		pending->questions[i].generation = 1;
		pending->questions[i].chain = i + 1 < flows ? i + 1 : NONE;
	}
	for (uint32_t i = 0; i < packets; i++)
		pending->parked[i].next = i + 1 < packets ? i + 1 : NONE;
	/* The slots that are used first, and nearly always: their pages are there. */
	for (uint32_t i = 0; i < packets && i < SLOTS_TOUCHED; i++)
		*(volatile uint8_t *)(pending->bytes + (size_t)i * room) = 0;
	for (unsigned i = 0; i < LISTS; i++)
		pending->lists[i] = (struct list){NONE, NONE};
	pending_limit(pending, packets, packets, 1000);
	*out = pending;
	return 0;
}

void pending_free(struct pending *pending)
{
	if (!pending)
		return;
	free(pending->questions);
	free(pending->buckets);
	free(pending->parked);
	free(pending->bytes);
	free(pending);
}

void pending_limit(struct pending *pending, uint32_t packets, uint32_t per_flow,
		   uint32_t timeout_ms)
{
	pending->limit_packets = packets < pending->packets ? packets : pending->packets;
	pending->limit_per_flow = per_flow;
	pending->timeout_ms = timeout_ms;
}

static struct question *lookup(const struct pending *pending, pending_id id)
{
	uint32_t slot = (uint32_t)id;
	if (slot >= pending->flows)
		return NULL;
	struct question *question = &pending->questions[slot];
	return question->live && question->generation == id >> 32 ? question : NULL;
}

static uint32_t slot_of(const struct pending *pending, const struct question *question)
{
	return (uint32_t)(question - pending->questions);
}

static void question_free(struct pending *pending, struct question *question)
{
	uint32_t slot = slot_of(pending, question);
	uint32_t *link = &pending->buckets[bucket_of(pending, &question->q.tuple)];

	while (*link != slot)
		link = &pending->questions[*link].chain;
	*link = question->chain;
	for (unsigned i = 0; i < LISTS; i++)
		list_remove(pending, i, slot);
	question->live = false;
	if (++question->generation == 0) /* an id is never 0 */
		question->generation = 1;
	question->chain = pending->free_question;
	pending->free_question = slot;
	pending->n_questions--;
}

static struct question *question_new(struct pending *pending, unsigned op,
				     const struct nat_tuple *key)
{
	if (pending->free_question == NONE && pending->lists[LIST_EMPTY].first != NONE)
		question_free(pending, &pending->questions[pending->lists[LIST_EMPTY].first]);
	uint32_t slot = pending->free_question;
	if (slot == NONE)
		return NULL;
	struct question *question = &pending->questions[slot];
	uint32_t *bucket = &pending->buckets[bucket_of(pending, key)];

	pending->free_question = question->chain;
	question->q = (struct pending_question){.tuple = *key, .op = (uint8_t)op};
	question->first = question->last = NONE;
	question->live = true;
	question->chain = *bucket;
	*bucket = slot;
	list_append(pending, LIST_ASK, slot);
	pending->n_questions++;
	return question;
}

static struct question *question_find(struct pending *pending, const struct nat_tuple *key)
{
	uint32_t slot = pending->buckets[bucket_of(pending, key)];
	while (slot != NONE) {
		struct question *question = &pending->questions[slot];
		if (memcmp(&question->q.tuple, key, sizeof *key) == 0)
			return question;
		slot = question->chain;
	}
	return NULL;
}

static void packet_append(struct pending *pending, struct question *question, uint8_t tcp_flags,
			  const struct engine_packet *packet)
{
	uint32_t slot = pending->free_parked;
	struct parked *parked = &pending->parked[slot];

	pending->free_parked = parked->next;
	pending->n_parked++;
	parked->next = NONE;
	parked->tcp_flags = tcp_flags;
	parked->packet = *packet;
	parked->packet.data = pending->bytes + (size_t)slot * pending->room;
	parked->packet.room = pending->room;
	memcpy(parked->packet.data, packet->data, packet->length);
	if (question->last == NONE)
		question->first = slot;
	else
		pending->parked[question->last].next = slot;
	question->last = slot;
	question->q.packets++;
	question->q.tcp_flags |= tcp_flags;
}

unsigned pending_park(struct pending *pending, unsigned op, const struct nat_tuple *tuple,
		      uint8_t tcp_flags, const struct engine_packet *packet, struct monotime now,
		      bool *coalesced)
{
	struct nat_tuple key = *tuple;
	key.zero = (uint16_t)op;

	if (packet->length > pending->room)
		return NAT_REASON_PENDING_FULL;
	if (pending->n_parked >= pending->limit_packets || pending->free_parked == NONE)
		return NAT_REASON_PENDING_FULL;
	struct question *question = question_find(pending, &key);
	if (coalesced)
		*coalesced = question != NULL;
	if (question && question->q.packets >= pending->limit_per_flow)
		return NAT_REASON_PENDING_FLOW_FULL;
	if (!question && pending->limit_per_flow == 0)
		return NAT_REASON_PENDING_FLOW_FULL;
	if (!question)
		question = question_new(pending, op, &key);
	if (!question)
		return NAT_REASON_PENDING_FULL;
	if (question->q.packets == 0) {
		list_remove(pending, LIST_EMPTY, slot_of(pending, question));
		question->deadline = monotime_add_ms(now, pending->timeout_ms);
		list_append(pending, LIST_WAITING, slot_of(pending, question));
	}
	packet_append(pending, question, tcp_flags, packet);
	return 0;
}

bool pending_has_next(const struct pending *pending)
{
	return pending->lists[LIST_ASK].first != NONE;
}

pending_id pending_next(struct pending *pending, struct wire_request *out, struct monotime now)
{
	uint32_t slot = pending->lists[LIST_ASK].first;
	if (slot == NONE)
		return 0;
	struct question *question = &pending->questions[slot];

	list_remove(pending, LIST_ASK, slot);
	question->q.asked = true;
	question->q.asked_at = now;
	question->q.packets_asked = question->q.packets;
	question->q.tcp_flags_sent = pending->parked[question->first].tcp_flags;
	*out = (struct wire_request){
	    .tuple = question->q.tuple,
	    .op = question->q.op,
	    .tcp_flags = question->q.tcp_flags_sent,
	};
	out->tuple.zero = 0;
	return (pending_id)question->generation << 32 | slot;
}

const struct pending_question *pending_get(const struct pending *pending, pending_id id)
{
	const struct question *question = lookup(pending, id);
	return question ? &question->q : NULL;
}

static void ask_again(struct pending *pending, struct question *question)
{
	if (question->q.packets == 0) {
		question_free(pending, question);
		return;
	}
	question->q.asked = false;
	question->q.tcp_flags_sent = 0;
	list_remove(pending, LIST_ASK, slot_of(pending, question));
	list_append(pending, LIST_ASK, slot_of(pending, question));
}

void pending_ask_again(struct pending *pending, pending_id id)
{
	struct question *question = lookup(pending, id);
	if (question && question->q.asked)
		ask_again(pending, question);
}

void pending_ask_all_again(struct pending *pending)
{
	while (pending->lists[LIST_EMPTY].first != NONE)
		question_free(pending, &pending->questions[pending->lists[LIST_EMPTY].first]);
	for (uint32_t slot = pending->lists[LIST_WAITING].first; slot != NONE;
	     slot = pending->questions[slot].links[LIST_WAITING].next)
		ask_again(pending, &pending->questions[slot]);
}

static void packets_take(struct question *question, struct pending_chain *chain)
{
	chain->first = question->first;
	question->first = question->last = NONE;
	question->q.packets = question->q.packets_asked = 0;
}

void pending_take(struct pending *pending, pending_id id, struct pending_chain *chain)
{
	struct question *question = lookup(pending, id);

	chain->first = NONE;
	if (!question)
		return;
	packets_take(question, chain);
	question_free(pending, question);
}

static bool opens(uint8_t tcp_flags)
{
	return (tcp_flags & (NAT_TCP_SYN | NAT_TCP_ACK)) == NAT_TCP_SYN;
}

bool pending_take_refused(struct pending *pending, pending_id id, struct pending_chain *chain)
{
	struct question *question = lookup(pending, id);
	uint32_t last = NONE, taken = 0;

	chain->first = NONE;
	if (!question)
		return false;
	uint32_t next = question->first;
	while (taken < question->q.packets_asked &&
	       (opens(question->q.tcp_flags_sent) || !opens(pending->parked[next].tcp_flags))) {
		last = next;
		next = pending->parked[next].next;
		taken++;
	}
	if (taken == question->q.packets) {
		pending_take(pending, id, chain);
		return false;
	}
	if (last != NONE) {
		chain->first = question->first;
		pending->parked[last].next = NONE;
		question->first = next;
	}
	question->q.packets -= taken;
	question->q.tcp_flags = 0;
	for (; next != NONE; next = pending->parked[next].next)
		question->q.tcp_flags |= pending->parked[next].tcp_flags;
	ask_again(pending, question);
	return true;
}

struct engine_packet *pending_packet(struct pending *pending, const struct pending_chain *chain)
{
	return chain->first == NONE ? NULL : &pending->parked[chain->first].packet;
}

void pending_done(struct pending *pending, struct pending_chain *chain)
{
	uint32_t slot = chain->first;

	chain->first = pending->parked[slot].next;
	pending->parked[slot].next = pending->free_parked;
	pending->free_parked = slot;
	pending->n_parked--;
}

bool pending_expired(struct pending *pending, struct monotime now, uint32_t lease_ms,
		     struct pending_chain *chain)
{
	uint32_t slot;

	while ((slot = pending->lists[LIST_EMPTY].first) != NONE &&
	       !monotime_before(now, pending->questions[slot].deadline))
		question_free(pending, &pending->questions[slot]);
	slot = pending->lists[LIST_WAITING].first;
	if (slot == NONE || monotime_before(now, pending->questions[slot].deadline))
		return false;
	struct question *question = &pending->questions[slot];
	packets_take(question, chain);
	struct monotime until = monotime_add_ms(question->q.asked_at, lease_ms);
	if (question->q.asked && monotime_before(now, until)) {
		list_remove(pending, LIST_WAITING, slot);
		question->deadline = until;
		list_append(pending, LIST_EMPTY, slot);
	} else {
		question_free(pending, question);
	}
	return true;
}

struct monotime pending_deadline(const struct pending *pending)
{
	struct monotime first = MONOTIME_NEVER;
	for (unsigned i = LIST_WAITING; i <= LIST_EMPTY; i++)
		if (pending->lists[i].first != NONE)
			first = monotime_min(first,
					     pending->questions[pending->lists[i].first].deadline);
	return first;
}

uint32_t pending_flows(const struct pending *pending)
{
	return pending->n_questions;
}

uint32_t pending_packets(const struct pending *pending)
{
	return pending->n_parked;
}
