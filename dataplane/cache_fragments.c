/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cache's part in sharing fragments: questions go out behind those about flows, answers and
 * notices come in the table's order and go to the engine, where the datagrams wait. Nothing of it
 * is held, so nothing has to be taken away: a lost answer costs a datagram its tuple or its number.
 */
#include "dataplane/cache_private.h"

unsigned cache_ask_fragment(struct cache *cache, unsigned op, const struct nat_tuple *tuple,
			    uint16_t identification, uint64_t datagram, struct monotime now)
{
	struct wire_request request = {
	    .op = (uint8_t)op, .tuple = *tuple, .identification = identification};

	/* In grace a dataplane goes on alone, at once: the datagram would not wait so long. */
	if (cache_state(cache, now) != CACHE_ATTACHED)
		return NAT_REASON_NO_TABLE;
	request.tuple.zero = 0;
	if (!inquiries_add(cache->inquiries, &request, datagram,
			   monotime_add_ms(now, cache->inquiry_timeout_ms)))
		return NAT_REASON_PENDING_FULL;
	return NAT_REASON_NONE;
}

void cache_fill_fragments(struct cache *cache, struct inflight *batch, uint32_t *n)
{
	batch->fragments = 0;
	while (*n < cache->batch_max && inquiries_has_next(cache->inquiries)) {
		batch->ids[batch->questions++] =
		    inquiries_next(cache->inquiries, &cache->entries[(*n)++]);
		batch->fragments++;
	}
	cache->counters.fragments_asked += batch->fragments;
}

static void answered(struct cache *cache, uint64_t datagram, const struct wire_answer *answer,
		     struct monotime now)
{
	if (datagram && cache->env.fragment_answered)
		cache->env.fragment_answered(cache->env.context, datagram, answer, now);
}

void cache_apply_fragment(struct cache *cache, inquiry_id id, const struct wire_answer *answer,
			  struct monotime now)
{
	uint64_t datagram;

	if (!inquiries_take(cache->inquiries, id, &datagram)) {
		cache->counters.stale_answers++;
		return;
	}
	cache->counters.fragments_answered++;
	answered(cache, datagram, answer, now);
}

void cache_apply_notices(struct cache *cache, const struct wire_message *message,
			 struct monotime now)
{
	for (uint32_t i = 0; i < message->n; i++) {
		cache->counters.fragments_told++;
		if (cache->env.fragment_notice)
			cache->env.fragment_notice(cache->env.context, &message->notices[i], now);
	}
}

void cache_expire_fragments(struct cache *cache, struct monotime now)
{
	const struct wire_answer over = {.verdict = NAT_DROP, .reason = NAT_REASON_PENDING_TIMEOUT};
	uint64_t datagram;

	while (inquiries_expired(cache->inquiries, now, &datagram)) {
		cache->counters.fragments_unanswered++;
		answered(cache, datagram, &over, now);
	}
}
