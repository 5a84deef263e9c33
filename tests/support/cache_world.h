/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cache against hand-made messages: each test plays the table. What both sides do to each other
 * under every disturbance is tests/sim's.
 */
#ifndef SUPPORT_CACHE_WORLD_H
#define SUPPORT_CACHE_WORLD_H

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include "dataplane/cache.h"

enum { LEASE = 1000, HEARTBEAT = 200, GRACE = 500, BASE = 100000 /* time 0 is "never" */ };

struct world {
	struct cache *cache;
	struct flowtable *flows;
	uint64_t seed, sequence;
	unsigned waits;
	int64_t valid_until;
	char log[512];	    /* what env.answered heard: "packet:verdict/reason " */
	bool parked_during; /* every delivery found its pair not open yet */
	struct wire_batch batch;
};

static inline struct monotime at(int64_t ms)
{
	return (struct monotime){(BASE + ms) * MS_NS};
}

static inline struct nat_tuple outbound(unsigned n)
{
	return (struct nat_tuple){.source = htonl(0x0a000001 + n),
				  .destination = htonl(0x08080808),
				  .source_port = htons(1000),
				  .destination_port = htons(80),
				  .protocol = NAT_TCP,
				  .realm = 1};
}

static inline struct wire_answer translate(unsigned n, uint64_t handle)
{
	return (struct wire_answer){
	    .rewrite = {.source = htonl(0xc6336401),
			.destination = htonl(0x08080808),
			.source_port = htons((uint16_t)(2000 + n)),
			.destination_port = htons(80)},
	    .handle = handle,
	    .peer_handle = handle,
	    .verdict = NAT_TRANSLATE,
	    .direction = NAT_OUTBOUND,
	};
}

static inline struct nat_tuple reverse_of(unsigned n)
{
	struct nat_tuple tuple = outbound(n);
	struct wire_answer answer = translate(n, 0);
	return nat_reverse_tuple(&tuple, &answer.rewrite);
}

static inline bool open_entry(struct world *w, const struct nat_tuple *tuple, int64_t ms,
			      uint8_t flags, uint8_t *fresh)
{
	struct nat_slot copy;
	uint8_t unused;
	return flowtable_hit(w->flows, tuple, (uint32_t)(BASE + ms), flags, &copy,
			     fresh ? fresh : &unused);
}

static inline void answered(void *context, struct engine_packet *packet,
			    const struct wire_answer *answer, struct monotime now)
{
	struct world *w = context;
	struct nat_tuple tuple = outbound(packet->data[1]);
	size_t used = strlen(w->log);
	snprintf(w->log + used, sizeof w->log - used, "%u:%u/%s ", packet->data[0], answer->verdict,
		 nat_reason_name(answer->reason));
	if (open_entry(w, &tuple, monotime_ms(now) - BASE, 0, NULL))
		w->parked_during = false;
}

static inline void wait_for_readers(void *context)
{
	((struct world *)context)->waits++;
}

static inline void valid_until(void *context, struct monotime until)
{
	((struct world *)context)->valid_until = monotime_ms(until) - BASE;
}

static inline void configured(void *context, const struct wire_config *config)
{
	(void)context, (void)config;
}

static inline void make(struct world *w, uint32_t capacity, uint32_t reports)
{
	*w = (struct world){.seed = 7, .parked_during = true};
	struct random_source random = random_seeded(&w->seed);
	struct cache_conf conf = {.name = "dp",
				  .pending_flows = 64,
				  .pending_packets = 64,
				  .packet_room = 64,
				  .reports = reports};
	struct cache_env env = {.context = w,
				.answered = answered,
				.wait_for_readers = wait_for_readers,
				.valid_until = valid_until,
				.configured = configured};
	cr_assert_eq(flowtable_new(capacity, &random, &w->flows), 0);
	cr_assert_eq(cache_new(&conf, &env, w->flows, &random, &w->cache), 0);
}

static inline void end(struct world *w)
{
	cache_free(w->cache);
	flowtable_free(w->flows);
}

static inline int welcome(struct world *w, uint64_t epoch, bool flush, uint64_t sequence,
			  int64_t ms)
{
	struct wire_welcome welcome = {.version = WIRE_VERSION,
				       .epoch = epoch,
				       .lease_ms = LEASE,
				       .heartbeat_ms = HEARTBEAT,
				       .grace_ms = GRACE,
				       .batch_max = 8,
				       .inflight_max = 2,
				       .flush = flush,
				       .sequence = sequence};
	w->sequence = sequence;
	return cache_welcome(w->cache, &welcome, at(ms));
}

static inline void heartbeat(struct world *w, int64_t ms, bool draining)
{
	struct wire_heartbeat beat;
	cr_assert(cache_heartbeat_due(w->cache, &beat, at(ms)));
	struct wire_heartbeat_ack ack = {
	    .epoch = 1, .sent_ms = beat.sent_ms, .renewed = true, .draining = draining};
	cache_heartbeat_ack(w->cache, &ack, at(ms));
}

/* Attached at 0 with a lease, the greeting taken. */
static inline void attach(struct world *w, uint32_t capacity, uint32_t reports)
{
	make(w, capacity, reports);
	cr_assert_eq(welcome(w, 1, true, 0, 0), 0);
	heartbeat(w, 0, false);
	cr_assert(cache_next_batch(w->cache, &w->batch, at(0)));
	cr_assert_eq(w->batch.n, 0);
}

static inline unsigned ask(struct world *w, unsigned op, struct nat_tuple tuple, uint8_t number,
			   unsigned n, uint8_t flags, int64_t ms)
{
	uint8_t bytes[64] = {number, (uint8_t)n};
	struct engine_packet packet = {.data = bytes, .length = 40, .room = 64};
	return cache_ask(w->cache, op, &tuple, flags, &packet, at(ms));
}

static inline bool next(struct world *w, int64_t ms)
{
	return cache_next_batch(w->cache, &w->batch, at(ms));
}

static inline int answer(struct world *w, uint64_t batch, const struct wire_answer *answers,
			 uint32_t n, int64_t ms)
{
	struct wire_answer copy[8];
	if (n)
		memcpy(copy, answers, n * sizeof copy[0]);
	struct wire_message message = {.epoch = 1,
				       .sequence = ++w->sequence,
				       .request_sequence = batch,
				       .kind = WIRE_ANSWER,
				       .n = n,
				       .answers = copy};
	return cache_message(w->cache, &message, at(ms));
}

static inline int notice(struct world *w, uint8_t kind, struct nat_tuple tuple, uint64_t handle,
			 uint32_t idle_ms, bool inbound, int64_t ms)
{
	struct wire_notice what = {
	    .tuple = tuple, .handle = handle, .idle_ms = idle_ms, .inbound_refreshes = inbound};
	struct wire_message message = {
	    .epoch = 1, .sequence = ++w->sequence, .kind = kind, .n = 1, .notices = &what};
	return cache_message(w->cache, &message, at(ms));
}

/* Learns flow n with this handle at ms: asked, answered, open. */
static inline void learn(struct world *w, unsigned n, uint64_t handle, int64_t ms)
{
	struct wire_answer a = translate(n, handle);
	cr_assert_eq(ask(w, WIRE_RESOLVE_OUT, outbound(n), 1, n, NAT_TCP_SYN, ms), 0);
	cr_assert(next(w, ms));
	cr_assert_eq(w->batch.entries[w->batch.n - 1].op, WIRE_RESOLVE_OUT);
	cr_assert_eq(answer(w, w->batch.sequence, &a, 1, ms), 0);
	cr_assert(open_entry(w, &(struct nat_tuple){0}, ms, 0, NULL) == false);
	struct nat_tuple tuple = outbound(n);
	struct flow flow;
	cr_assert(flowtable_find(w->flows, &tuple, &flow));
	cr_assert_eq(flow.state, NAT_SLOT_OPEN);
	w->log[0] = 0;
}

static inline struct cache_counters counters(struct world *w)
{
	struct cache_counters c;
	cache_counters(w->cache, &c);
	return c;
}

/* What the cache reports of flow 1 now: "direction+flags", "" for nothing. */
static inline const char *flags_reported(struct world *w, int64_t ms)
{
	static char text[64];
	text[0] = 0;
	if (!next(w, ms))
		return text;
	for (uint32_t i = 0; i < w->batch.n; i++) {
		size_t used = strlen(text);
		cr_expect_eq(w->batch.entries[i].op, WIRE_FLAGS);
		snprintf(text + used, sizeof text - used, "%s%u+%u", used ? " " : "",
			 w->batch.entries[i].direction, w->batch.entries[i].tcp_flags);
	}
	if (w->batch.n)
		answer(w, w->batch.sequence, NULL, 0, ms);
	return text;
}
static inline void packet(struct world *w, const struct nat_tuple *tuple, uint8_t flags, int64_t ms)
{
	uint8_t fresh;
	cr_assert(open_entry(w, tuple, ms, flags, &fresh));
	if (fresh)
		cache_report_flags(w->cache, tuple, fresh, at(ms));
}

#endif
