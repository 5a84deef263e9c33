/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The streams to the service. A link is one control stream and, after its welcome, one data stream;
 * whatever goes wrong with either ends both and starts over: there is one way to recover, so it
 * works.
 *
 * Reconnecting: gRPC's own backoff is reset before each attempt, attempts are a few jittered
 * milliseconds apart at first (a service that was restarted is back in ten), then up to a second.
 * With several addresses each failure moves on to the next.
 */
#include <string.h>
#include "dataplane/table_client_private.h"

enum {
	CONTROL_QUEUE = 16,
	DATA_QUEUE = 64,
	WELCOME_MS = 2000,   /* from opening the control stream to the welcome */
	EARLY_ATTEMPTS = 50, /* about half a second of them */
	EARLY_MS = 10,
	STEADY_MS = 1000, /* attached as long as this: an outage starts anew */
	LATE_MS = 500,	  /* plus as much jitter */
};

static struct rpc_channel *channel_of(struct table_client *client)
{
	struct link *link = &client->link;
	struct rpc_channel **channel = &link->channels[link->address];
	if (!*channel) {
		const char *address = client->conf.addresses[link->address];
		int err =
		    rpc_channel_new(client->loop, address, &client->conf.credentials, channel);
		if (err) {
			log_error("service %s: %s", address, err_text(err));
			*channel = NULL;
		}
	}
	return *channel;
}

const char *link_address(const struct table_client *client)
{
	return client->conf.addresses[client->link.address];
}

static void plan_attempt(struct table_client *client, struct monotime now)
{
	struct link *link = &client->link;
	int64_t base = link->failures < EARLY_ATTEMPTS ? EARLY_MS : LATE_MS;
	/* base/2 .. 3*base/2: dataplanes that lost one service do not come back in one instant. */
	int64_t wait = base / 2 + random_below(client->random, (uint32_t)base + 1);
	link->state = LINK_IDLE;
	link->next_attempt = monotime_add_ms(now, wait);
	link->failures++;
	if (link->advance)
		link->address = (link->address + 1) % client->conf.n_addresses;
	link->advance = false;
}

/* Both streams are closed: on to the next attempt. */
static void closed_one(struct table_client *client)
{
	struct link *link = &client->link;
	if (link->state == LINK_CLOSING && !link->control && !link->data)
		plan_attempt(client, rpc_loop_now(client->loop));
}

void link_fail(struct table_client *client, const char *why, bool advance)
{
	struct link *link = &client->link;
	if (link->state == LINK_CLOSING || link->state == LINK_IDLE)
		return;
	bool attached = link->state == LINK_ATTACHED;
	link->state = LINK_CLOSING;
	link->advance = advance;
	atomic_store(&client->ready, false);
	if (attached) {
		struct monotime now = rpc_loop_now(client->loop);
		log_at(link->shutting ? LOG_INFO : LOG_WARNING, "service %s: %s",
		       link_address(client), why);
		cache_disconnected(client->cache, now);
		/* One that welcomes and drops us again and again is not hammered. */
		if (monotime_sub_ms(now, link->attached) >= STEADY_MS)
			link->failures = 0;
	} else {
		client->counters.connect_failures++;
		log_info("service %s: %s", link_address(client), why);
	}
	if (link->control)
		rpc_stream_end(link->control, 0, "");
	if (link->data)
		rpc_stream_end(link->data, 0, "");
	closed_one(client);
}

/* ---- data stream ---- */

static void data_message(void *context, const uint8_t *data, size_t length)
{
	struct table_client *client = context;
	struct wire_message message = {.answers = client->answers, .notices = client->notices};
	struct table_client_counters *c = &client->counters;
	c->messages_in++;
	c->bytes_in += length;
	int err = wire_decode_message(client->codec, data, length, &message);
	if (err) {
		c->bad_messages++;
		link_fail(client, wire_codec_error(client->codec), true);
		return;
	}
	err = cache_message(client->cache, &message, rpc_loop_now(client->loop));
	if (err && err != ERR_STALE) {
		/* Not applied, so the sequence has a hole: only a new attachment mends that. */
		c->bad_messages++;
		link_fail(client, err_text(err), true);
	}
}

static void data_closed(void *context, int status, const char *details)
{
	struct table_client *client = context;
	client->link.data = NULL;
	link_fail(client, details[0] ? details : "data stream closed", false);
	closed_one(client);
}

static const struct rpc_stream_events data_events = {
    .message = data_message,
    .closed = data_closed,
};

static void send_batch(struct table_client *client, const struct wire_batch *batch,
		       const uint64_t *incarnation)
{
	const uint8_t *data;
	size_t length = wire_encode_batch(client->codec, batch, incarnation, &data);
	if (length == 0 || !rpc_stream_send(client->link.data, data, length)) {
		link_fail(client, "a batch could not be sent", false);
		return;
	}
	client->counters.batches_out++;
	client->counters.entries_out += batch->n;
	client->counters.bytes_out += length;
}

static void open_data(struct table_client *client)
{
	struct link *link = &client->link;
	const struct wire_batch naming = {0};
	uint64_t incarnation[2];
	int err = rpc_stream_open(link->channels[link->address], "/conat.v1.NatTable/Attach",
				  DATA_QUEUE, false, 0, &data_events, client, &link->data);
	if (err) {
		link->data = NULL;
		link_fail(client, err_text(err), false);
		return;
	}
	cache_incarnation(client->cache, incarnation);
	send_batch(client, &naming, incarnation);
}

/* ---- control stream ---- */

static void welcome(struct table_client *client, const struct wire_welcome *welcome)
{
	struct link *link = &client->link;
	if (link->state != LINK_CONNECTING) {
		link_fail(client, "a second welcome", true);
		return;
	}
	int err = cache_welcome(client->cache, welcome, rpc_loop_now(client->loop));
	if (err) {
		client->counters.welcomes_refused++;
		link_fail(client,
			  err == ERR_STALE ? "an older epoch than we have seen: not the service"
					   : err_text(err),
			  true);
		return;
	}
	log_notice("attached to %s epoch=%llu dataplane=%u flush=%d", link_address(client),
		   (unsigned long long)welcome->epoch, welcome->dataplane, welcome->flush);
	link->state = LINK_ATTACHED;
	link->attached = rpc_loop_now(client->loop);
	open_data(client);
}

static void control_message(void *context, const uint8_t *data, size_t length)
{
	struct table_client *client = context;
	struct monotime now = rpc_loop_now(client->loop);
	client->counters.bytes_in += length;
	int err = wire_decode_from_table(client->codec, data, length, &client->control);
	if (err) {
		client->counters.bad_messages++;
		link_fail(client, wire_codec_error(client->codec), true);
		return;
	}
	if (client->control.kind == WIRE_CONTROL_WELCOME) {
		welcome(client, &client->control.welcome);
	} else if (client->link.state != LINK_ATTACHED) {
		client->counters.bad_messages++;
		link_fail(client, "something else before the welcome", true);
	} else if (client->control.kind == WIRE_CONTROL_HEARTBEAT_ACK) {
		cache_heartbeat_ack(client->cache, &client->control.ack, now);
	} else {
		cache_config(client->cache, &client->control.config, now);
		atomic_store(&client->ready, true);
	}
}

static void control_closed(void *context, int status, const char *details)
{
	struct table_client *client = context;
	bool welcomed = client->link.state == LINK_ATTACHED;
	client->link.control = NULL;
	link_fail(client, details[0] ? details : "control stream closed", !welcomed);
	closed_one(client);
}

static const struct rpc_stream_events control_events = {
    .message = control_message,
    .closed = control_closed,
};

static void attempt(struct table_client *client, struct monotime now)
{
	struct link *link = &client->link;
	struct rpc_channel *channel = channel_of(client);
	struct wire_hello hello;
	const uint8_t *data;
	client->counters.connects++;
	link->state = LINK_CONNECTING;
	link->deadline = monotime_add_ms(now, WELCOME_MS);
	if (!channel) {
		link_fail(client, "cannot be used", true);
		return;
	}
	rpc_channel_retry(channel);
	if (rpc_stream_open(channel, "/conat.v1.NatTable/Control", CONTROL_QUEUE, false, 0,
			    &control_events, client, &link->control) != 0) {
		link->control = NULL;
		link_fail(client, "cannot open a stream", true);
		return;
	}
	cache_hello(client->cache, &hello);
	size_t length = wire_encode_hello(client->codec, &hello, &data);
	if (!rpc_stream_send(link->control, data, length))
		link_fail(client, "cannot say hello", true);
}

static void send_heartbeat(struct table_client *client, struct wire_heartbeat *beat)
{
	struct engine_counters engine;
	const uint8_t *data;
	engine_counters(client->engine, &engine);
	beat->stats.flows = flowtable_pairs(client->flows);
	beat->stats.hits = engine.hits;
	beat->stats.misses = engine.slow;
	beat->stats.packets = engine.packets;
	beat->stats.bytes = engine.bytes;
	for (unsigned i = 0; i < NAT_REASON_LIMIT; i++)
		beat->stats.drops += engine.drops[i];
	size_t length = wire_encode_heartbeat(client->codec, beat, &data);
	if (rpc_stream_send(client->link.control, data, length))
		client->counters.bytes_out += length;
	else
		link_fail(client, "heartbeats are not read", true);
}

void link_turn(struct table_client *client, struct monotime now)
{
	struct link *link = &client->link;
	struct wire_heartbeat beat;
	struct wire_batch batch;

	if (link->state == LINK_IDLE && !monotime_before(now, link->next_attempt))
		attempt(client, now);
	if (link->state == LINK_CONNECTING && !monotime_before(now, link->deadline))
		link_fail(client, "no welcome in time", true);
	if (link->state == LINK_ATTACHED && cache_wants_reconnect(client->cache, now))
		link_fail(client, "the service does not renew the lease", false);
	if (link->state == LINK_ATTACHED && cache_heartbeat_due(client->cache, &beat, now))
		send_heartbeat(client, &beat);
	while (link->state == LINK_ATTACHED && rpc_stream_room(link->data) > 0 &&
	       cache_next_batch(client->cache, &batch, now))
		send_batch(client, &batch, NULL);
	if (link->control)
		rpc_stream_flush(link->control);
	if (link->data)
		rpc_stream_flush(link->data);
}

struct monotime link_deadline(const struct table_client *client)
{
	switch (client->link.state) {
	case LINK_IDLE:
		return client->link.next_attempt;
	case LINK_CONNECTING:
		return client->link.deadline;
	case LINK_ATTACHED:
	case LINK_CLOSING:
		break;
	}
	return MONOTIME_NEVER;
}

void link_shut(struct table_client *client)
{
	struct link *link = &client->link;
	bool none = false;
	link->shutting = true;
	link_fail(client, "stopping", false);
	for (int i = 0; i < 200 && (link->control || link->data); i++)
		rpc_loop_drain(client->loop, &none, 10);
	for (unsigned i = 0; i < TABLE_CLIENT_ADDRESSES_MAX; i++) {
		rpc_channel_free(link->channels[i]);
		link->channels[i] = NULL;
	}
}
