/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A turn of the loop: completions are dispatched until the queue is dry (batches go into the table,
 * nothing is sent); then the journal starts to commit, the table's timers run, and every peer is
 * asked for output: data streams take the table's messages out, lists make one step of bounded
 * size. A long list therefore costs the others one step a turn and never a pause; when anything has
 * more to do, the loop turns again without sleeping.
 *
 * Every call that exists is in server->peers, bounded by SERVER_PEERS_MAX; a call that says
 * nothing, or whose end is not read, is cancelled by the sweep.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/thread.h"
#include "tablesvc/server_private.h"

enum { SWEEP_MS = 1000 };

/* ---- peers ---- */

static void peer_message(void *context, const uint8_t *data, size_t length)
{
	struct peer *peer = context;
	peer->spoke = true;
	peer->deadline = MONOTIME_NEVER;
	peer->server->counters.messages_in++;
	peer->server->counters.bytes_in += length;
	peer->server->counters_changed = true;
	peer->ops->message(peer, data, length);
}

static void peer_half_closed(void *context)
{
	struct peer *peer = context;
	if (!peer->spoke)
		peer_end(peer, STATUS_INVALID_ARGUMENT, "a call without a request");
	else if (!peer->counts_as_admin)
		peer_end(peer, STATUS_OK, "");
}

static void peer_closed(void *context, int status, const char *details)
{
	struct peer *peer = context;
	struct server *server = peer->server;
	if (peer->ops->closed)
		peer->ops->closed(peer);
	if (peer->previous)
		peer->previous->next = peer->next;
	else
		server->peers = peer->next;
	if (peer->next)
		peer->next->previous = peer->previous;
	if (peer->counts_as_admin)
		server->counters.admin_calls--;
	server->n_peers--;
	server->counters_changed = true;
	free(peer);
}

static const struct rpc_stream_events peer_events = {
    .message = peer_message,
    .half_closed = peer_half_closed,
    .closed = peer_closed,
};

int peer_accept(struct server *server, struct grpc_call *call, const struct peer_ops *ops,
		unsigned method, unsigned queue, bool admin, struct peer **out)
{
	if (server->n_peers == SERVER_PEERS_MAX ||
	    (admin && server->counters.admin_calls == SERVER_ADMIN_MAX)) {
		server->counters.refused_calls++;
		return STATUS_RESOURCE_EXHAUSTED;
	}
	struct peer *peer = calloc(1, sizeof *peer);
	if (!peer)
		return STATUS_RESOURCE_EXHAUSTED;
	peer->server = server;
	peer->ops = ops;
	peer->method = method;
	peer->counts_as_admin = admin;
	peer->dataplane = DATAPLANE_NONE;
	peer->health_told = -1;
	peer->deadline = monotime_add_ms(rpc_loop_now(server->loop), SERVER_SILENCE_MS);
	if (rpc_stream_accept(server->loop, call, queue, &peer_events, peer, &peer->stream) != 0) {
		free(peer);
		return STATUS_RESOURCE_EXHAUSTED;
	}
	peer->next = server->peers;
	if (peer->next)
		peer->next->previous = peer;
	server->peers = peer;
	server->n_peers++;
	server->counters.streams++;
	if (admin)
		server->counters.admin_calls++;
	server->counters_changed = true;
	if (out)
		*out = peer;
	return 0;
}

void peer_end(struct peer *peer, int status, const char *details)
{
	peer->deadline = monotime_add_ms(rpc_loop_now(peer->server->loop), SERVER_ENDING_MS);
	peer->spoke = true;
	rpc_stream_end(peer->stream, status, details);
}

static void sweep_peers(struct server *server, struct monotime now)
{
	for (struct peer *peer = server->peers; peer; peer = peer->next) {
		if (monotime_before(now, peer->deadline))
			continue;
		if (peer->spoke) {
			rpc_stream_cancel(peer->stream);
			peer->deadline = MONOTIME_NEVER;
		} else {
			server->counters.silent++;
			peer_end(peer, STATUS_DEADLINE_EXCEEDED, "no message in time");
		}
	}
}

/* ---- calls ---- */

static int on_call(void *context, struct grpc_call *call, const char *method, unsigned roles)
{
	struct server *server = context;
	int status = server_nat_call(server, call, method, roles);
	if (status == STATUS_UNIMPLEMENTED)
		status = server_admin_call(server, call, method, roles);
	if (status == STATUS_UNIMPLEMENTED)
		status = server_health_call(server, call, method);
	if (status == STATUS_UNIMPLEMENTED)
		server->counters.unknown_methods++;
	if (status == STATUS_PERMISSION_DENIED)
		server->counters.denied++;
	server->counters_changed = true;
	return status;
}

/* ---- counters ---- */

static void publish(struct server *server)
{
	struct server_counters *c = &server->counters;
	struct table_pool_row rows[CONFIG_POOLS_MAX];
	uint64_t cursor = 0;
	table_counters(server->table, &c->table);
	c->epoch = c->table.epoch;
	c->generation = server->config->generation;
	pcp_server_counters(server->pcp, &c->pcp);
	c->n_pools = table_pools(server->table, &cursor, rows, CONFIG_POOLS_MAX);
	for (unsigned i = 0; i < c->n_pools; i++) {
		snprintf(c->pools[i].name, sizeof c->pools[i].name, "%s", rows[i].name);
		c->pools[i].addresses = rows[i].addresses;
		c->pools[i].blocks = rows[i].blocks;
		c->pools[i].blocks_used = rows[i].blocks_used;
		c->pools[i].blocks_resting = rows[i].blocks_resting;
		c->pools[i].ports_used = rows[i].ports_used;
		c->pools[i].exhausted = rows[i].exhausted;
		c->pools[i].addresses_used = rows[i].addresses_used;
		c->pools[i].counts = rows[i].counts;
		c->pools[i].blocks_shared = rows[i].blocks_shared;
		c->pools[i].blocks_free = rows[i].blocks_free;
		c->pools[i].above = rows[i].above;
	}
	pthread_mutex_lock(&server->published_lock);
	server->published = *c;
	pthread_mutex_unlock(&server->published_lock);
	server->counters_changed = false;
}

void server_counters(struct server *server, struct server_counters *out)
{
	pthread_mutex_lock(&server->published_lock);
	*out = server->published;
	pthread_mutex_unlock(&server->published_lock);
}

/* ---- reload ---- */

static void read_mail(struct server *server, struct monotime now)
{
	struct mailbox *box = &server->mailbox;
	if (!atomic_exchange(&server->mail, false))
		return;
	pthread_mutex_lock(&box->lock);
	box->error[0] = 0;
	box->result = table_reload(server->table, box->config, now, box->error, sizeof box->error);
	if (box->result == 0) {
		server->config = box->config;
		server->counters.reloads++;
		server_nat_push(server);
	} else {
		server->counters.reloads_failed++;
	}
	publish(server);
	box->done = true;
	pthread_cond_broadcast(&box->answered);
	pthread_mutex_unlock(&box->lock);
}

int server_reload(struct server *server, const struct config *config, char *error,
		  unsigned error_size)
{
	struct mailbox *box = &server->mailbox;
	pthread_mutex_lock(&box->lock);
	while (box->posted)
		pthread_cond_wait(&box->answered, &box->lock);
	if (!atomic_load(&server->running)) {
		pthread_mutex_unlock(&box->lock);
		snprintf(error, error_size, "the service is not running");
		return ERR_STATE;
	}
	box->posted = true;
	box->done = false;
	box->config = config;
	atomic_store(&server->mail, true);
	rpc_loop_wake(server->loop);
	while (!box->done && atomic_load(&server->running))
		pthread_cond_wait(&box->answered, &box->lock);
	int result = box->done ? box->result : ERR_STATE;
	snprintf(error, error_size, "%s", box->done ? box->error : "the service stopped");
	box->posted = false;
	pthread_cond_broadcast(&box->answered);
	pthread_mutex_unlock(&box->lock);
	return result;
}

/* ---- the loop ---- */

static bool on_dry(void *context, struct monotime now)
{
	struct server *server = context;
	bool more = false;
	read_mail(server, now);
	if (!monotime_before(now, table_next_tick(server->table, now))) {
		table_tick(server->table, now);
		server->counters_changed = true;
	}
	server->journal->ops->flush(server->journal);
	if (pcp_server_turn(server->pcp, server->table, server->journal, now))
		more = true;
	for (struct peer *peer = server->peers; peer; peer = peer->next) {
		if (peer->ops->dry && peer->ops->dry(peer, now))
			more = true;
		rpc_stream_flush(peer->stream);
	}
	if (!monotime_before(now, server->next_sweep)) {
		sweep_peers(server, now);
		server->next_sweep = monotime_add_ms(now, SWEEP_MS);
	}
	server->counters.turns++;
	struct monotime end = monotime_now();
	uint64_t us = (uint64_t)(end.ns - now.ns) / 1000;
	if (us > server->counters.turn_max_us)
		server->counters.turn_max_us = us;
	/* Also when nothing changed but the turns: whoever wakes us wants to see that we live. */
	if (!monotime_before(end, server->next_publish)) {
		publish(server);
		server->next_publish = monotime_add_ms(end, SERVER_PUBLISH_MS);
	}
	return more;
}

static struct monotime on_deadline(void *context, struct monotime now)
{
	struct server *server = context;
	struct monotime next = table_next_tick(server->table, now);
	if (server->counters_changed)
		next = monotime_min(next, server->next_publish);
	if (server->n_peers)
		next = monotime_min(next, server->next_sweep);
	return next;
}

static bool on_pending(void *context)
{
	struct server *server = context;
	return atomic_load(&server->mail) || pcp_server_waiting(server->pcp);
}

static void end_everybody(struct server *server)
{
	bool none = false;
	for (struct peer *peer = server->peers; peer; peer = peer->next) {
		if (peer->ops->stop)
			peer->ops->stop(peer);
		else
			peer_end(peer, STATUS_UNAVAILABLE, "the service stops");
	}
	/* Give the words a moment to leave; rpc_server_free cancels who does not listen. */
	for (int i = 0; i < 20 && server->peers; i++)
		rpc_loop_drain(server->loop, &none, 10);
}

void server_run(struct server *server)
{
	const struct rpc_loop_hooks hooks = {
	    .context = server,
	    .dry = on_dry,
	    .deadline = on_deadline,
	    .pending = on_pending,
	};
	server->started = monotime_now();
	publish(server);
	rpc_server_start(server->listener);
	atomic_store(&server->running, true);
	atomic_store(&server->ready, true);
	thread_prompt();
	rpc_loop_run(server->loop, &hooks);
	atomic_store(&server->ready, false);
	server->stopping = true;
	end_everybody(server);
	publish(server);
	rpc_server_free(server->listener);
	server->listener = NULL;
	pthread_mutex_lock(&server->mailbox.lock);
	atomic_store(&server->running, false);
	pthread_cond_broadcast(&server->mailbox.answered);
	pthread_mutex_unlock(&server->mailbox.lock);
}

void server_stop(struct server *server)
{
	atomic_store(&server->ready, false);
	rpc_loop_stop(server->loop);
}

void server_wake(struct server *server)
{
	rpc_loop_wake(server->loop);
}

static void on_pcp(void *context)
{
	server_wake(context);
}

int server_pcp_listen(struct server *server, struct event_base *base)
{
	return pcp_server_listen(server->pcp, base, on_pcp, server);
}

void server_pcp_unlisten(struct server *server)
{
	pcp_server_unlisten(server->pcp);
}

bool server_ready(const struct server *server)
{
	return atomic_load(&server->ready);
}

int server_port(const struct server *server, unsigned i)
{
	return i < CONFIG_LISTEN_MAX ? server->ports[i] : 0;
}

int server_new(const struct config *config, struct table *table, struct journal *journal,
	       char *error, unsigned error_size, struct server **out)
{
	struct server *server = calloc(1, sizeof *server);
	if (!server)
		return ERR_NOMEM;
	server->config = config;
	server->table = table;
	server->journal = journal;
	pthread_mutex_init(&server->mailbox.lock, NULL);
	pthread_cond_init(&server->mailbox.answered, NULL);
	pthread_mutex_init(&server->published_lock, NULL);
	int err = wire_codec_new(&server->codec);
	if (!err)
		err = rpc_loop_new(&server->loop);
	if (err) {
		snprintf(error, error_size, "cannot start: %s", err_text(err));
		goto fail;
	}
	struct rpc_credentials credentials;
	memcpy(credentials.certificate, config->tls.certificate, sizeof credentials.certificate);
	memcpy(credentials.key, config->tls.key, sizeof credentials.key);
	memcpy(credentials.ca, config->tls.ca, sizeof credentials.ca);
	struct rpc_server_conf conf = {
	    .credentials = &credentials,
	    .message_max = WIRE_MESSAGE_MAX,
	    .context = server,
	    .call = on_call,
	};
	err = rpc_server_new(server->loop, &conf, &server->listener);
	if (err) {
		snprintf(error, error_size, "cannot use the TLS files: %s", err_text(err));
		goto fail;
	}
	for (unsigned i = 0; i < config->n_listen && !err; i++) {
		err = rpc_server_listen(server->listener, config->listen[i], &server->ports[i]);
		if (err)
			snprintf(error, error_size, "cannot listen on %s: %s", config->listen[i],
				 err == ERR_EXISTS ? "in use, or not an address of this host"
						   : "want HOST:PORT or unix:PATH");
	}
	if (!err)
		err = pcp_server_new(config, &server->pcp, error, error_size);
	if (err)
		goto fail;
	*out = server;
	return 0;
fail:
	server_free(server);
	return err;
}

void server_free(struct server *server)
{
	if (!server)
		return;
	rpc_server_free(server->listener);
	rpc_loop_free(server->loop);
	pcp_server_free(server->pcp);
	wire_codec_free(server->codec);
	pthread_cond_destroy(&server->mailbox.answered);
	pthread_mutex_destroy(&server->mailbox.lock);
	pthread_mutex_destroy(&server->published_lock);
	free(server);
}
