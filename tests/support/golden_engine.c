/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include "tests/support/golden.h"

enum { PARKED_MAX = 128, FLOWS = 1024 };

struct parked {
	struct nat_tuple tuple;
	unsigned op;
	struct engine_packet packet;
};

struct golden_engine {
	struct golden_target target;
	struct golden_events events;
	struct flowtable *flows;
	struct engine *engine;
	uint64_t seed;
	struct random_source random;
	unsigned n_parked;
	struct parked parked[PARKED_MAX];
	uint8_t *buffer;
};

static void record_out(struct golden_engine *g, const struct engine_packet *packet)
{
	golden_record(&g->events,
		      &(struct golden_event){.kind = GOLDEN_OUT, .realm = packet->egress},
		      packet->data, packet->length);
}

static void record_fate(struct golden_engine *g, const struct engine_packet *packet, bool alone)
{
	if (packet->fate == ENGINE_OUT)
		record_out(g, packet);
	else if (packet->fate == ENGINE_DROP)
		golden_record(&g->events,
			      &(struct golden_event){.kind = GOLDEN_DROP, .reason = packet->reason},
			      NULL, 0);
	else if (alone) /* kept, and nothing else said so */
		golden_record(&g->events, &(struct golden_event){.kind = GOLDEN_KEPT}, NULL, 0);
}

/* Parks a copy, as the cache does; every packet's question is recorded. */
static unsigned on_ask(void *context, unsigned op, const struct nat_tuple *tuple, uint8_t tcp_flags,
		       const struct engine_packet *packet, struct monotime now)
{
	struct golden_engine *g = context;
	(void)now;

	golden_record(
	    &g->events,
	    &(struct golden_event){
		.kind = GOLDEN_ASK, .op = (uint8_t)op, .tuple = *tuple, .tcp_flags = tcp_flags},
	    NULL, 0);
	if (g->n_parked == PARKED_MAX)
		return NAT_REASON_PENDING_FULL;
	struct parked *parked = &g->parked[g->n_parked++];
	*parked = (struct parked){.tuple = *tuple, .op = op, .packet = *packet};
	parked->packet.data = malloc(packet->length);
	memcpy(parked->packet.data, packet->data, packet->length);
	return NAT_REASON_NONE;
}

static void on_emit(void *context, const struct engine_packet *packet)
{
	record_out(context, packet);
}

static void target_configure(void *context, const struct engine_config *config)
{
	struct golden_engine *g = context;
	if (engine_configure(g->engine, config) != 0)
		abort();
}

static void target_valid_until(void *context, struct monotime valid_until)
{
	engine_set_valid_until(((struct golden_engine *)context)->engine, valid_until);
}

static void target_flow(void *context, const struct nat_tuple *tuple,
			const struct nat_rewrite *rewrite, uint8_t direction, struct monotime now)
{
	struct golden_engine *g = context;
	struct flow evicted[2], flow = {.tuple = *tuple,
					.rewrite = *rewrite,
					.handle = 1,
					.peer_handle = 1,
					.direction = direction,
					.state = NAT_SLOT_OPEN};
	unsigned n_evicted = 0;

	if (flowtable_insert(g->flows, &flow, (uint32_t)monotime_ms(now), evicted, &n_evicted) != 0)
		abort();
}

static void target_remove(void *context, const struct nat_tuple *tuple)
{
	flowtable_remove(((struct golden_engine *)context)->flows, tuple, NULL);
}

static bool target_packet(void *context, const struct test_packet *packet, uint8_t realm,
			  struct monotime now, uint8_t *reported_flags)
{
	struct golden_engine *g = context;
	struct engine_packet p = {.data = g->buffer,
				  .length = packet->length,
				  .room = TEST_PACKET_ROOM,
				  .ingress = realm,
				  .partial_checksum = packet->partial_checksum,
				  .gso_size = packet->gso_size};
	unsigned before = g->events.n;

	memcpy(g->buffer, packet->bytes, packet->length);
	engine_process(engine_worker(g->engine, 1), &p, 1, now);
	bool fast = p.fate != ENGINE_SLOW;
	*reported_flags = p.tcp_flags_new;
	if (!fast) {
		engine_slow(g->engine, &p, now);
		*reported_flags |= p.tcp_flags_new;
	}
	record_fate(g, &p, g->events.n == before);
	return fast;
}

static bool target_answer(void *context, const struct wire_answer *answer, struct monotime now)
{
	struct golden_engine *g = context;
	unsigned kept = 0;

	if (g->n_parked == 0)
		return false;
	struct nat_tuple tuple = g->parked[0].tuple;
	if (answer->verdict == NAT_TRANSLATE && g->parked[0].op != WIRE_PEEK)
		target_flow(g, &tuple, &answer->rewrite, answer->direction, now);
	for (unsigned i = 0; i < g->n_parked; i++) {
		struct parked parked = g->parked[i];
		if (!nat_tuple_equal(&parked.tuple, &tuple)) {
			g->parked[kept++] = parked;
			continue;
		}
		unsigned before = g->events.n;
		engine_translate(g->engine, &parked.packet, answer, now);
		record_fate(g, &parked.packet, g->events.n == before);
		free(parked.packet.data);
	}
	g->n_parked = kept;
	return true;
}

static void target_tick(void *context, struct monotime now)
{
	engine_tick(((struct golden_engine *)context)->engine, now);
}

static void prefix(struct engine_config *config, const char *address, uint8_t length, uint8_t realm,
		   uint8_t kind)
{
	struct wire_prefix *p = &config->table.prefixes[config->table.n_prefixes++];

	*p = (struct wire_prefix){.length = length, .realm = realm, .kind = kind};
	inet_pton(AF_INET, address, &p->address);
}

void golden_defaults(struct engine_config *config)
{
	memset(config, 0, sizeof *config);
	config->table.generation = 1;
	config->table.fragment_timeout_ms = 2000;
	config->table.icmp_errors_per_second = 1000;
	inet_pton(AF_INET, "192.0.2.254", &config->icmp_source[NAT_REALM_OUTSIDE]);
	inet_pton(AF_INET, "10.255.0.1", &config->icmp_source[1]);
	inet_pton(AF_INET, "10.254.0.1", &config->icmp_source[2]);
	prefix(config, "10.0.0.0", 8, 1, WIRE_PREFIX_INSIDE);
	prefix(config, "192.168.0.0", 16, 1, WIRE_PREFIX_INSIDE);
	prefix(config, "172.20.0.0", 16, 2, WIRE_PREFIX_INSIDE);
	prefix(config, "192.0.2.0", 24, 0, WIRE_PREFIX_POOL);
	prefix(config, "82.1.1.8", 32, 0, WIRE_PREFIX_POOL);
	prefix(config, "128.104.108.1", 32, 0, WIRE_PREFIX_POOL);
	prefix(config, "198.51.100.0", 24, 0, WIRE_PREFIX_BYPASS);
}

struct golden_target *golden_engine_new(void)
{
	struct golden_engine *g = calloc(1, sizeof *g);
	struct engine_owner owner = {.context = g, .ask = on_ask, .emit = on_emit};

	g->seed = 1;
	g->random = random_seeded(&g->seed);
	g->buffer = malloc(TEST_PACKET_ROOM);
	if (flowtable_new(FLOWS, &g->random, &g->flows) != 0 ||
	    engine_new(g->flows, &owner, &g->random, &g->engine) != 0)
		abort();
	g->target = (struct golden_target){
	    .context = g,
	    .events = &g->events,
	    .configure = target_configure,
	    .valid_until = target_valid_until,
	    .flow = target_flow,
	    .remove = target_remove,
	    .packet = target_packet,
	    .answer = target_answer,
	    .tick = target_tick,
	};
	return &g->target;
}

void golden_engine_free(struct golden_target *target)
{
	struct golden_engine *g = target->context;

	for (unsigned i = 0; i < g->n_parked; i++)
		free(g->parked[i].packet.data);
	golden_events_clear(&g->events);
	engine_free(g->engine);
	flowtable_free(g->flows);
	free(g->buffer);
	free(g);
}

struct engine *golden_engine(struct golden_target *target)
{
	return ((struct golden_engine *)target->context)->engine;
}

struct flowtable *golden_flows(struct golden_target *target)
{
	return ((struct golden_engine *)target->context)->flows;
}
