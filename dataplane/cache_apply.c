/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the table says, in the order in which it said it. A message is checked whole before any of
 * it is applied; one that breaks the sequence is refused, and the caller reconnects.
 */
#include "dataplane/cache_private.h"

#include "common/base/err.h"

void cache_deliver(struct cache *cache, struct pending_chain *chain,
		   const struct wire_answer *answer, struct monotime now)
{
	struct engine_packet *packet;

	while ((packet = pending_packet(cache->pending, chain)) != NULL) {
		if (answer->verdict == NAT_DROP || answer->verdict == NAT_REJECT)
			cache->counters.drops[answer->reason]++;
		cache->env.answered(cache->env.context, packet, answer, now);
		pending_done(cache->pending, chain);
	}
}

static bool answer_ok(const struct wire_answer *answer)
{
	if (answer->verdict < NAT_TRANSLATE || answer->verdict > NAT_REJECT ||
	    answer->direction > NAT_INBOUND || answer->reason >= NAT_REASON_LIMIT)
		return false;
	return true;
}

static bool message_ok(const struct cache *cache, const struct wire_message *message)
{
	if (message->n > WIRE_BATCH_MAX)
		return false;
	switch (message->kind) {
	case WIRE_ANSWER:
		if (message->request_sequence >= cache->next_batch ||
		    (message->n && !message->answers))
			return false;
		for (uint32_t i = 0; i < message->n; i++)
			if (!answer_ok(&message->answers[i]))
				return false;
		if (cache->n_inflight) {
			const struct inflight *oldest = &cache->inflight[cache->oldest];
			/* Answers come in the order of batches, none left out. */
			return message->request_sequence < oldest->sequence ||
			       (message->request_sequence == oldest->sequence &&
				message->n == oldest->questions);
		}
		return true;
	case WIRE_INVALIDATE:
	case WIRE_EXPIRE:
	case WIRE_FRAGMENTS:
		return message->n == 0 || message->notices;
	case WIRE_FLUSH:
		return true;
	}
	return false;
}

/* Whether the answer may no longer be used, because a report of ours took the grant back. */
static bool taken_back(const struct cache *cache, const struct wire_answer *answer, uint64_t asked)
{
	return (reports_took_back(cache->reports, answer->handle, asked) ||
		reports_took_back(cache->reports, answer->peer_handle, asked)) &&
	       !cache_mutated(CACHE_MUTATION_NO_TAKEN_BACK);
}

static void apply_answer(struct cache *cache, pending_id id, const struct inflight *batch,
			 const struct wire_answer *given, struct monotime now)
{
	const struct pending_question *found = pending_get(cache->pending, id);
	struct wire_answer answer = *given;
	struct pending_chain chain;
	int installed = ERR_STATE;

	if (!found) {
		cache->counters.stale_answers++;
		return;
	}
	if (monotime_before(monotime_add_ms(batch->sent_at, cache->lease.lease_ms), now)) {
		cache->counters.stale_answers++;
		cache->counters.asked_again++;
		pending_ask_again(cache->pending, id);
		return;
	}
	struct pending_question question = *found;
	bool grants = answer.verdict == NAT_TRANSLATE && wire_op_grants(question.op);
	question.tuple.zero = 0;
	if (grants && taken_back(cache, &answer, batch->sequence)) {
		cache->counters.asked_again++;
		pending_ask_again(cache->pending, id);
		return;
	}
	cache->counters.answered++;
	if (grants && !lease_may_translate(&cache->lease, now))
		answer = (struct wire_answer){.verdict = NAT_DROP, .reason = NAT_REASON_LEASE_OVER};
	else if (grants)
		installed = cache_install(cache, &question.tuple, &answer,
					  question.tcp_flags_sent, now);
	if (question.op == WIRE_RESOLVE_IN && answer.verdict != NAT_TRANSLATE &&
	    answer.reason == NAT_REASON_NO_MAPPING)
		negative_add(&cache->negative, &question.tuple, answer.ttl_ms, now);
	if (given->verdict == NAT_DROP || given->verdict == NAT_REJECT)
		cache->counters.asked_again += pending_take_refused(cache->pending, id, &chain);
	else
		pending_take(cache->pending, id, &chain);
	cache_deliver(cache, &chain, &answer, now);
	/* Only now: a packet that hits must not overtake those that were parked. */
	if (installed == 0)
		flowtable_open(cache->flows, &question.tuple);
	if ((installed == 0 || installed == ERR_EXISTS) && question.tuple.protocol == NAT_TCP) {
		flowtable_reported(cache->flows, &question.tuple,
				   question.tcp_flags_sent & CACHE_FLAGS);
		cache_report_flags(cache, &question.tuple, question.tcp_flags, now);
	}
}

static void apply_answers(struct cache *cache, const struct wire_message *message,
			  struct monotime now)
{
	struct inflight *batch = &cache->inflight[cache->oldest];

	if (!cache->n_inflight || message->request_sequence != batch->sequence) {
		/* Of a batch from before the last reconnect; its questions were asked again. */
		cache->counters.stale_answers += message->n;
		return;
	}
	uint32_t flows = batch->questions - batch->fragments;
	for (uint32_t i = 0; i < message->n; i++) {
		if (i < flows)
			apply_answer(cache, batch->ids[i], batch, &message->answers[i], now);
		else
			cache_apply_fragment(cache, batch->ids[i], &message->answers[i], now);
	}
	reports_confirm(cache->reports, batch->reports);
	cache->oldest = (cache->oldest + 1) % WIRE_INFLIGHT_MAX;
	cache->n_inflight--;
}

static int refuse(uint64_t *counter, int rc)
{
	(*counter)++;
	return rc;
}

int cache_message(struct cache *cache, const struct wire_message *message, struct monotime now)
{
	if (!lease_attached(&cache->lease) || message->epoch < cache->epoch ||
	    message->sequence <= cache->applied)
		return refuse(&cache->counters.stale_messages, ERR_STALE);
	if (message->epoch != cache->epoch || message->sequence != cache->applied + 1 ||
	    !message_ok(cache, message))
		return refuse(&cache->counters.malformed_messages, ERR_MALFORMED);

	switch (message->kind) {
	case WIRE_ANSWER:
		apply_answers(cache, message, now);
		break;
	case WIRE_INVALIDATE:
		for (uint32_t i = 0; i < message->n; i++)
			cache_invalidate(cache, &message->notices[i], now);
		cache->urgent = true;
		break;
	case WIRE_EXPIRE:
		for (uint32_t i = 0; i < message->n; i++)
			cache_expire(cache, &message->notices[i], now);
		break;
	case WIRE_FRAGMENTS:
		cache_apply_notices(cache, message, now);
		break;
	case WIRE_FLUSH:
		cache_flush(cache);
		break;
	}
	cache->applied = message->sequence;
	return 0;
}
