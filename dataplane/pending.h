/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions in flight and the packets parked behind them. One question a tuple (a PEEK is a
 * question of its own), however many packets ask it. Everything comes from pools made at start;
 * each refusal has a reason.
 *
 *   pending_park -> [ask queue] -> pending_next -> asked ... answer -> pending_take -> packets,
 * FIFO ^  pending_ask_again   deadline -> pending_expired
 *
 * When a question's packets have waited too long they are dropped, but the question stays until its
 * answer comes or one lease is over: a service slower than the deadline must not make flows
 * impossible for ever.
 */
#ifndef DATAPLANE_PENDING_H
#define DATAPLANE_PENDING_H

#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/wire/wire.h"
#include "dataplane/engine.h"

struct pending;

/* Names a question: {slot, generation}, never 0; of a recycled slot it finds nothing. */
typedef uint64_t pending_id;

struct pending_chain { /* packets that left their question; frees with pending_done */
	uint32_t first;
};

struct pending_question {
	struct nat_tuple tuple;
	uint8_t op;		/* enum wire_op */
	uint8_t tcp_flags;	/* of all its packets */
	uint8_t tcp_flags_sent; /* of the first packet: what the question said */
	bool asked;
	uint32_t packets;
	uint32_t packets_asked; /* of them, how many there were when it was asked */
	struct monotime asked_at;
};

/* flows, packets: pool sizes, at least 1; room: bytes of a parked packet at most. */
int pending_new(uint32_t flows, uint32_t packets, uint32_t room, struct random_source *random,
		struct pending **out);
void pending_free(struct pending *pending);
/* The service's limits; those of pending_new hold too. */
void pending_limit(struct pending *pending, uint32_t packets, uint32_t per_flow,
		   uint32_t timeout_ms);

/* Copies the packet behind the question, new or known. 0 or a reason; *coalesced may be NULL. */
unsigned pending_park(struct pending *pending, unsigned op, const struct nat_tuple *tuple,
		      uint8_t tcp_flags, const struct engine_packet *packet, struct monotime now,
		      bool *coalesced);
/* The next question to ask, marked asked; 0 when there is none. */
pending_id pending_next(struct pending *pending, struct wire_request *out, struct monotime now);
bool pending_has_next(const struct pending *pending);
/* NULL when the question is gone. */
const struct pending_question *pending_get(const struct pending *pending, pending_id id);
/* Asks once more; a question without packets ends instead. */
void pending_ask_again(struct pending *pending, pending_id id);
/* The same for every question: the streams are gone. */
void pending_ask_all_again(struct pending *pending);
/* Ends a question; its packets go to the chain. */
void pending_take(struct pending *pending, pending_id id, struct pending_chain *chain);

/*
 * The same after a refusal, for the packets that it is about: those that were there when it was asked,
 * up to a SYN that it did not speak of. A refusal of the past must not meet what came since (hole
 * punching, simultaneous open). True: others are left, and the question is asked again for them.
 */
bool pending_take_refused(struct pending *pending, pending_id id, struct pending_chain *chain);

/* The chain's first packet, NULL at its end; pending_done frees it and goes on to the next. */
struct engine_packet *pending_packet(struct pending *pending, const struct pending_chain *chain);
void pending_done(struct pending *pending, struct pending_chain *chain);

/*
 * Takes the packets of one question whose deadline is over; false when there is none. Questions
 * without packets that were asked more than lease_ms ago end on the way.
 */
bool pending_expired(struct pending *pending, struct monotime now, uint32_t lease_ms,
		     struct pending_chain *chain);
/* When pending_expired has something to do. */
struct monotime pending_deadline(const struct pending *pending);

uint32_t pending_flows(const struct pending *pending);
uint32_t pending_packets(const struct pending *pending);

#endif
