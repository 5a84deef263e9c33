/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * One thread owns the cache, the engine's slow path and every gRPC object, so nothing between them
 * is locked. A turn: gRPC's completions go into the cache (answers send the packets that waited for
 * them), then the rings are drained into the engine's slow path (which asks the cache), then what
 * the cache has to say leaves in as few and as large messages as there are. A worker wakes the
 * thread only when it sleeps; under load it never does.
 *
 * RCU: workers are the readers, this thread is the only one that waits for them. It is offline
 * while it sleeps, as everybody must be.
 */
#include "dataplane/table_client.h"

#include <stdlib.h>
#include <string.h>
#include <urcu-qsbr.h>
#include "common/base/thread.h"
#include "dataplane/table_client_private.h"

enum { RING_BUDGET = 512, ENGINE_TICK_MS = 100, PUBLISH_MS = 100 };

/* ---- what the engine and the cache ask of us ---- */

static unsigned on_ask(void *context, unsigned op, const struct nat_tuple *tuple, uint8_t tcp_flags,
		       const struct engine_packet *packet, struct monotime now)
{
	struct table_client *client = context;
	return cache_ask(client->cache, op, tuple, tcp_flags, packet, now);
}

static unsigned on_ask_fragment(void *context, unsigned op, const struct nat_tuple *tuple,
				uint16_t identification, uint64_t datagram, struct monotime now)
{
	struct table_client *client = context;
	return cache_ask_fragment(client->cache, op, tuple, identification, datagram, now);
}

static void on_emit(void *context, const struct engine_packet *packet)
{
	struct table_client *client = context;
	if (!client->port || !client->port->ops->send(client->port, packet))
		client->counters.output_refused++;
}

static void finish(struct table_client *client, struct engine_packet *packet, struct monotime now)
{
	/* Whatever became of the packet: a first fragment, or one that was cut, has been sent. */
	if (packet->tcp_flags_new)
		cache_report_flags(client->cache, &packet->tuple, packet->tcp_flags_new, now);
	if (packet->fate == ENGINE_OUT)
		on_emit(client, packet);
}

static void on_answered(void *context, struct engine_packet *packet,
			const struct wire_answer *answer, struct monotime now)
{
	struct table_client *client = context;
	engine_translate(client->engine, packet, answer, now);
	finish(client, packet, now);
}

static void on_fragment_answered(void *context, uint64_t datagram, const struct wire_answer *answer,
				 struct monotime now)
{
	struct table_client *client = context;
	engine_fragment_answer(client->engine, datagram, answer, now);
}

static void on_fragment_notice(void *context, const struct wire_notice *notice,
			       struct monotime now)
{
	struct table_client *client = context;
	engine_fragment_notice(client->engine, notice, now);
}

static void on_wait_for_readers(void *context)
{
	synchronize_rcu();
}

static void on_valid_until(void *context, struct monotime valid_until)
{
	struct table_client *client = context;
	engine_set_valid_until(client->engine, valid_until);
}

static void apply_config(struct table_client *client)
{
	int err = engine_configure(client->engine, &client->engine_config);
	if (err)
		log_error("configuration not applied: %s", err_text(err));
}

static void on_configured(void *context, const struct wire_config *config)
{
	struct table_client *client = context;
	client->counters.configurations++;
	log_info("configuration generation=%llu prefixes=%u",
		 (unsigned long long)config->generation, config->n_prefixes);
	client->engine_config.table = *config;
	apply_config(client);
	if (client->port && client->port->ops->configure)
		client->port->ops->configure(client->port, config);
}

/* ---- workers ---- */

static bool put(struct table_client *client, unsigned worker, const struct ring_record *record,
		const void *data)
{
	if (worker >= client->conf.workers || !ring_put(client->rings[worker], record, data)) {
		atomic_fetch_add_explicit(&client->ring_full, 1, memory_order_relaxed);
		return false;
	}
	rpc_loop_wake(client->loop);
	return true;
}

bool table_client_slow(void *context, unsigned worker, const struct engine_packet *packet)
{
	struct ring_record record = {
	    .kind = RING_PACKET,
	    .length = packet->length,
	    .ingress = packet->ingress,
	    .partial_checksum = packet->partial_checksum,
	    .gso_size = packet->gso_size,
	};
	return put(context, worker, &record, packet->data);
}

void table_client_flags(void *context, unsigned worker, const struct nat_tuple *tuple,
			uint8_t tcp_flags)
{
	struct ring_record record = {.kind = RING_FLAGS, .tcp_flags = tcp_flags, .tuple = *tuple};
	put(context, worker, &record, NULL);
}

bool table_client_settled(void *context, unsigned worker)
{
	struct table_client *client = context;
	/* In this order: a packet waits before it leaves the ring. */
	return ring_is_empty(client->rings[worker]) &&
	       atomic_load_explicit(&client->waiting, memory_order_acquire) == 0;
}

static void note_waiting(struct table_client *client)
{
	atomic_store_explicit(&client->waiting, cache_waiting(client->cache), memory_order_release);
}

static void take_packet(struct table_client *client, const struct ring_record *record,
			const uint8_t *data, struct monotime now)
{
	struct engine_packet packet = {
	    .data = client->packet,
	    .length = record->length,
	    .room = sizeof client->packet,
	    .ingress = record->ingress,
	    .partial_checksum = record->partial_checksum,
	    .gso_size = record->gso_size,
	};
	/* Out of the ring first: the slow path may make the packet longer. */
	memcpy(client->packet, data, record->length);
	client->counters.slow_packets++;
	engine_slow(client->engine, &packet, now);
	finish(client, &packet, now);
	note_waiting(client);
}

/* True when a ring holds more than this turn took. */
static bool drain_rings(struct table_client *client, struct monotime now)
{
	bool more = false;
	for (unsigned i = 0; i < client->conf.workers; i++) {
		unsigned budget = RING_BUDGET;
		const struct ring_record *record;
		const uint8_t *data;
		while (budget && (record = ring_peek(client->rings[i], &data))) {
			if (record->kind == RING_PACKET) {
				take_packet(client, record, data, now);
			} else {
				client->counters.slow_flags++;
				cache_report_flags(client->cache, &record->tuple, record->tcp_flags,
						   now);
			}
			ring_drop(client->rings[i]);
			budget--;
		}
		more |= budget == 0;
	}
	return more;
}

/* ---- the loop ---- */

static void publish(struct table_client *client, struct monotime now)
{
	struct table_client_counters *c = &client->counters;
	int64_t left = monotime_sub_ms(cache_valid_until(client->cache), now);
	cache_counters(client->cache, &c->cache);
	c->flows = flowtable_pairs(client->flows);
	c->flow_capacity = flowtable_capacity(client->flows);
	c->state = cache_state(client->cache, now);
	c->draining = cache_draining(client->cache);
	c->valid_for_ms = left > 0 ? left : 0;
	c->ring_full = atomic_load_explicit(&client->ring_full, memory_order_relaxed);
	memcpy(c->address, link_address(client), sizeof c->address);
	pthread_mutex_lock(&client->lock);
	client->published = *c;
	pthread_mutex_unlock(&client->lock);
}

static bool on_dry(void *context, struct monotime now)
{
	struct table_client *client = context;
	if (atomic_exchange(&client->config_waits, false)) {
		pthread_mutex_lock(&client->lock);
		struct wire_config *table = &client->engine_config.table;
		client->wanted_config.table = *table;
		client->engine_config = client->wanted_config;
		pthread_mutex_unlock(&client->lock);
		apply_config(client);
	}
	bool more = drain_rings(client, now);
	if (!monotime_before(now, cache_next_tick(client->cache, now)))
		cache_tick(client->cache, now);
	if (!monotime_before(now, client->next_engine_tick)) {
		engine_tick(client->engine, now);
		client->next_engine_tick = monotime_add_ms(now, ENGINE_TICK_MS);
	}
	link_turn(client, now);
	note_waiting(client);
	if (!monotime_before(now, client->next_publish)) {
		publish(client, now);
		client->next_publish = monotime_add_ms(now, PUBLISH_MS);
	}
	return more;
}

static struct monotime on_deadline(void *context, struct monotime now)
{
	struct table_client *client = context;
	struct monotime next =
	    monotime_min(cache_next_tick(client->cache, now), client->next_engine_tick);
	return monotime_min(next, link_deadline(client));
}

static bool on_pending(void *context)
{
	struct table_client *client = context;
	if (atomic_load(&client->config_waits))
		return true;
	for (unsigned i = 0; i < client->conf.workers; i++)
		if (!ring_is_empty(client->rings[i]))
			return true;
	return false;
}

static void on_sleeping(void *context)
{
	rcu_thread_offline();
}

static void on_awake(void *context)
{
	struct table_client *client = context;
	client->counters.wakes++;
	rcu_thread_online();
}

static void *run(void *context)
{
	struct table_client *client = context;
	const struct rpc_loop_hooks hooks = {
	    .context = client,
	    .dry = on_dry,
	    .deadline = on_deadline,
	    .pending = on_pending,
	    .sleeping = on_sleeping,
	    .awake = on_awake,
	};
	thread_prompt();
	rcu_register_thread();
	publish(client, monotime_now());
	rpc_loop_run(client->loop, &hooks);
	rcu_thread_offline();
	link_shut(client);
	publish(client, monotime_now());
	rcu_unregister_thread();
	return NULL;
}

/* ---- life ---- */

int table_client_new(const struct table_client_conf *conf, struct flowtable *flows,
		     struct random_source *random, struct table_client **out)
{
	if (conf->n_addresses == 0 || conf->n_addresses > TABLE_CLIENT_ADDRESSES_MAX ||
	    conf->workers == 0 || conf->workers > ENGINE_WORKERS_MAX)
		return ERR_INVALID;
	struct table_client *client = calloc(1, sizeof *client);
	if (!client)
		return ERR_NOMEM;
	client->conf = *conf;
	client->flows = flows;
	client->random = random;
	pthread_mutex_init(&client->lock, NULL);
	const struct engine_owner owner = {
	    .context = client,
	    .ask = on_ask,
	    .ask_fragment = on_ask_fragment,
	    .emit = on_emit,
	};
	const struct cache_env env = {
	    .context = client,
	    .answered = on_answered,
	    .fragment_answered = on_fragment_answered,
	    .fragment_notice = on_fragment_notice,
	    .wait_for_readers = on_wait_for_readers,
	    .valid_until = on_valid_until,
	    .configured = on_configured,
	};
	int err = engine_new(flows, &owner, random, &client->engine);
	if (!err)
		err = cache_new(&conf->cache, &env, flows, random, &client->cache);
	if (!err)
		err = wire_codec_new(&client->codec);
	for (unsigned i = 0; !err && i < conf->workers; i++)
		err = ring_new(conf->ring_bytes, &client->rings[i]);
	if (err) {
		table_client_free(client);
		return err;
	}
	*out = client;
	return 0;
}

void table_client_free(struct table_client *client)
{
	if (!client)
		return;
	rpc_loop_free(client->loop);
	for (unsigned i = 0; i < ENGINE_WORKERS_MAX; i++)
		ring_free(client->rings[i]);
	wire_codec_free(client->codec);
	cache_free(client->cache);
	engine_free(client->engine);
	pthread_mutex_destroy(&client->lock);
	free(client);
}

struct engine *table_client_engine(struct table_client *client)
{
	return client->engine;
}

void table_client_set_port(struct table_client *client, struct port *port)
{
	client->port = port;
}

void table_client_configure(struct table_client *client, const struct engine_config *config)
{
	pthread_mutex_lock(&client->lock);
	client->wanted_config = *config;
	pthread_mutex_unlock(&client->lock);
	atomic_store(&client->config_waits, true);
	if (client->loop)
		rpc_loop_wake(client->loop);
}

int table_client_start(struct table_client *client)
{
	int err = rpc_loop_new(&client->loop);
	if (err)
		return err;
	client->link.next_attempt = monotime_now();
	if (pthread_create(&client->thread, NULL, run, client) != 0) {
		rpc_loop_free(client->loop);
		client->loop = NULL;
		return ERR_NOMEM;
	}
	pthread_setname_np(client->thread, "table-client");
	client->started = true;
	return 0;
}

void table_client_stop(struct table_client *client)
{
	if (!client->started)
		return;
	rpc_loop_stop(client->loop);
	pthread_join(client->thread, NULL);
	client->started = false;
}

void table_client_counters(struct table_client *client, struct table_client_counters *out)
{
	pthread_mutex_lock(&client->lock);
	*out = client->published;
	pthread_mutex_unlock(&client->lock);
}

bool table_client_ready(const struct table_client *client)
{
	return atomic_load(&client->ready);
}
