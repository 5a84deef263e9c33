/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The owner's path for fragments, and for datagrams that have to become some. Two things are
 * missing at first: the datagram's tuple, which only its first fragment has, and an identification
 * that no other host's datagram leaves with (RFC 6864 section 5.3.1). The service knows both; a
 * question about a datagram carries its {slot, generation} in fragments.h, where its packets wait.
 *
 *   first one, keeps its source   translated at once with the identification it has; the service is
 *   (from the outside)            told, for those dataplanes that get the others
 *   first one, any other          waits for FRAGMENT_FIRST's answer
 *   a later one                   waits for the first one, or FRAGMENT_LATER's answer or a notice
 *   whole, to be cut              waits for FRAGMENT_WHOLE's answer
 *
 * Without the service each dataplane is alone, with its own first fragments and numbers.
 *
 * What leaves its wait is looked up by its tuple as always. If the flow is not known either, the
 * first packet asks for it and the others wait here on: a large datagram has more fragments than
 * may wait for one flow.
 */
#include "common/nat/parse.h"
#include "dataplane/engine_private.h"

static void emit(struct engine *engine, struct engine_packet *packet)
{
	if (packet->fate != ENGINE_OUT)
		return;
	engine->owner.emit(engine->owner.context, packet);
	packet->fate = ENGINE_KEPT;
}

static uint32_t timeout_ms(const struct engine *engine)
{
	return engine->settings->config.table.fragment_timeout_ms;
}

static bool tell(struct engine *engine, unsigned op, const struct nat_tuple *tuple,
		 uint16_t identification, uint64_t datagram, struct monotime now)
{
	struct nat_tuple asked = *tuple;

	if (op == WIRE_FRAGMENT_LATER)
		asked.source_port = asked.destination_port = 0;
	if (!engine->owner.ask_fragment ||
	    engine->owner.ask_fragment(engine->owner.context, op, &asked, identification, datagram,
				       now) != NAT_REASON_NONE)
		return false;
	count(&owner_counters(engine)->fragments_asked);
	return true;
}

/* Nobody gives us a number. What comes from the outside has one from its only sender. */
static uint16_t number_alone(struct engine *engine, uint8_t ingress, uint16_t identification)
{
	if (ingress == NAT_REALM_OUTSIDE)
		return identification;
	count(&owner_counters(engine)->numbered_alone);
	return fragments_identification(engine->fragments);
}

/* ---- going on */

/* A packet of a datagram whose tuple is known. True: the rest has to wait for it. */
static bool lead(struct engine *engine, struct engine_packet *packet,
		 const struct nat_packet *parsed, const struct nat_tuple *tuple, uint64_t datagram,
		 struct monotime now)
{
	packet->datagram = datagram;
	switch (engine_resolve(engine, packet, parsed, tuple, now)) {
	case ENGINE_ASKED:
		fragments_resolving(engine->fragments, datagram);
		return true;
	case ENGINE_NOT_ASKED:
		fragments_refuse(engine->fragments, datagram, packet->reason);
		return true;
	default:
		return false;
	}
}

static void release(struct engine *engine, uint64_t datagram, struct monotime now)
{
	struct engine_packet waited;
	struct nat_packet parsed;
	struct nat_tuple tuple;

	while (fragments_next(engine->fragments, datagram, engine->released, &waited, &tuple)) {
		nat_parse(waited.data, waited.data + waited.length, waited.ingress, &parsed);
		if (lead(engine, &waited, &parsed, &tuple, datagram, now))
			return;
		emit(engine, &waited);
	}
}

static void release_whole(struct engine *engine, uint64_t datagram, struct monotime now)
{
	struct engine_packet waited;
	struct nat_packet parsed;
	struct nat_tuple tuple;

	while (fragments_next(engine->fragments, datagram, engine->released, &waited, &tuple)) {
		nat_parse(waited.data, waited.data + waited.length, waited.ingress, &parsed);
		waited.identified = true;
		engine_resolve(engine, &waited, &parsed, &parsed.tuple, now);
		emit(engine, &waited);
	}
}

void engine_fragments_resolved(struct engine *engine, struct engine_packet *packet,
			       const struct wire_answer *answer, struct monotime now)
{
	uint64_t datagram = packet->datagram;
	struct engine_packet waited;
	struct nat_tuple tuple;

	if (fragments_state(engine->fragments, datagram) != FRAGMENT_RESOLVING)
		return;
	if (answer->verdict != NAT_TRANSLATE && answer->verdict != NAT_PASS) {
		fragments_refuse(engine->fragments, datagram, answer->reason);
		return;
	}
	fragments_resolved(engine->fragments, datagram);
	emit(engine, packet);
	/* By the answer: the flow's entry opens only behind the packets that waited for it. */
	while (fragments_next(engine->fragments, datagram, engine->released, &waited, &tuple)) {
		engine_apply_answer(engine, &waited, answer, now);
		emit(engine, &waited);
	}
}

/* ---- as they come */

/* Whether its flow is known and does not give it a source that others have, too. */
static bool keeps_its_source(const struct engine *engine, const struct nat_tuple *tuple)
{
	struct nat_slot slot;

	return engine_peek(engine, tuple, &slot) && slot.source == tuple->source;
}

static void slow_first(struct engine *engine, struct engine_packet *packet,
		       const struct nat_packet *parsed, uint64_t datagram, struct monotime now)
{
	const struct nat_tuple *tuple = &parsed->tuple;
	uint16_t number = number16(packet->data + NAT_IP_ID);

	if (keeps_its_source(engine, tuple)) {
		tell(engine, WIRE_FRAGMENT_FIRST, tuple, number, 0, now);
	} else if (tell(engine, WIRE_FRAGMENT_FIRST, tuple, number, datagram, now)) {
		if (fragments_wait(engine->fragments, datagram, tuple, packet, now))
			packet->fate = ENGINE_KEPT;
		else
			drop(owner_counters(engine), packet, NAT_REASON_FRAGMENT_TABLE_FULL);
		return;
	} else {
		number = number_alone(engine, packet->ingress, number);
	}
	fragments_known(engine->fragments, datagram, tuple, number, now);
	fragments_renumber(packet->data, number);
	if (lead(engine, packet, parsed, tuple, datagram, now))
		return;
	emit(engine, packet);
	release(engine, datagram, now);
}

void engine_slow_fragment(struct engine *engine, struct engine_packet *packet,
			  const struct nat_packet *parsed, struct monotime now)
{
	struct nat_tuple tuple = parsed->tuple;
	uint64_t datagram;
	unsigned reason;

	switch (fragments_take(engine->fragments, packet, &tuple, timeout_ms(engine), now,
			       &datagram, &reason)) {
	case FRAGMENT_REFUSE:
		drop(owner_counters(engine), packet, reason);
		return;
	case FRAGMENT_ORPHAN:
		tell(engine, WIRE_FRAGMENT_LATER, &parsed->tuple,
		     number16(packet->data + NAT_IP_ID), datagram, now);
		packet->fate = ENGINE_KEPT;
		return;
	case FRAGMENT_KEPT:
		packet->fate = ENGINE_KEPT;
		return;
	case FRAGMENT_FIRST:
		slow_first(engine, packet, parsed, datagram, now);
		return;
	case FRAGMENT_TUPLE:
		lead(engine, packet, parsed, &tuple, datagram, now);
		return;
	}
}

bool engine_number(struct engine *engine, struct engine_packet *packet,
		   const struct nat_packet *parsed, struct monotime now)
{
	uint16_t number = number16(packet->data + NAT_IP_ID);
	uint64_t datagram = 0;

	if (engine->owner.ask_fragment)
		datagram = fragments_whole(engine->fragments, packet, timeout_ms(engine), now);
	if (datagram && tell(engine, WIRE_FRAGMENT_WHOLE, &parsed->tuple, number, datagram, now)) {
		packet->fate = ENGINE_KEPT;
		return true;
	}
	fragments_forget(engine->fragments, datagram);
	fragments_renumber(packet->data, number_alone(engine, packet->ingress, number));
	packet->identified = true;
	return false;
}

/* ---- what the service says */

void engine_fragment_answer(struct engine *engine, uint64_t datagram,
			    const struct wire_answer *answer, struct monotime now)
{
	struct fragments *fragments = engine->fragments;
	bool told = answer->verdict == NAT_TRANSLATE;
	struct nat_tuple tuple;
	uint16_t number;

	switch (fragments_state(fragments, datagram)) {
	case FRAGMENT_WAITING:
		if (!told) /* a notice follows, or its first one comes here, or its time is over */
			return;
		fragments_key(fragments, datagram, &tuple, &number);
		tuple.source_port = answer->rewrite.source_port;
		tuple.destination_port = answer->rewrite.destination_port;
		fragments_known(fragments, datagram, &tuple, answer->identification, now);
		release(engine, datagram, now);
		return;
	case FRAGMENT_ASKED:
	case FRAGMENT_WHOLE:
		fragments_key(fragments, datagram, &tuple, &number);
		number = told ? answer->identification : number_alone(engine, tuple.realm, number);
		fragments_known(fragments, datagram, NULL, number, now);
		if (fragments_state(fragments, datagram) == FRAGMENT_WHOLE)
			release_whole(engine, datagram, now);
		else
			release(engine, datagram, now);
		return;
	default: /* it ended, or its first one came meanwhile */
		return;
	}
}

void engine_fragment_notice(struct engine *engine, const struct wire_notice *notice,
			    struct monotime now)
{
	struct fragments *fragments = engine->fragments;
	uint64_t datagram = fragments_find(fragments, &notice->tuple, notice->identification, now);

	if (fragments_state(fragments, datagram) != FRAGMENT_WAITING)
		return;
	fragments_known(fragments, datagram, &notice->tuple, notice->new_identification, now);
	release(engine, datagram, now);
}
