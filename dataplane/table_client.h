/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table client: the owner thread of a dataplane. It owns the engine's slow path, the cache (the
 * flow table's single writer), and every gRPC object: it takes packets that engine_process called
 * SLOW out of the workers' rings, moves the cache's batches and the table's messages, keeps the
 * heartbeats, reconnects, and tries the next address when one fails or is stale.
 *
 *   table_client_new            makes the engine and the cache
 *   port made with { table_client_engine, table_client_slow, table_client_flags, client }
 *   table_client_set_port, table_client_configure
 *   table_client_start -> port->ops->start ... port's loops stop -> table_client_stop -> _free
 *
 * Ports' threads register with urcu-qsbr and go offline whenever they may block: the owner waits
 * for them in every invalidation.
 */
#ifndef DATAPLANE_TABLE_CLIENT_H
#define DATAPLANE_TABLE_CLIENT_H

#include "common/rpc/credentials.h"
#include "dataplane/cache.h"
#include "dataplane/engine.h"
#include "dataplane/port.h"

enum { TABLE_CLIENT_ADDRESSES_MAX = 8, TABLE_CLIENT_ADDRESS_MAX = 128 };

struct table_client;

struct table_client_conf {
	char addresses[TABLE_CLIENT_ADDRESSES_MAX]
		      [TABLE_CLIENT_ADDRESS_MAX]; /* HOST:PORT, unix:P */
	unsigned n_addresses;
	struct rpc_credentials credentials; /* empty paths: no TLS */
	struct cache_conf cache;
	unsigned
	    workers; /* rings for engine workers 0 .. workers - 1; at most ENGINE_WORKERS_MAX */
	uint32_t ring_bytes; /* of each ring, e.g. 4 MiB; a packet takes its length + 32 */
};

/* flows and random are borrowed and outlive the client; random is used by the owner thread only. */
int table_client_new(const struct table_client_conf *conf, struct flowtable *flows,
		     struct random_source *random, struct table_client **out);
/* After table_client_stop (or if never started). Frees the engine too. */
void table_client_free(struct table_client *client);

struct engine *table_client_engine(struct table_client *client);
/* Where packets go that the owner sends, and who hears about configurations. Before start. */
void table_client_set_port(struct table_client *client, struct port *port);
/*
 * TTL mode, ICMP sources, MTUs (config->table is ignored: the service's stands there). Before start
 * or from any thread later; applied on the owner thread.
 */
void table_client_configure(struct table_client *client, const struct engine_config *config);

/* Starts the owner thread (and gRPC: forks and signal masks are settled before). */
int table_client_start(struct table_client *client);
/* Stops and joins it. Any thread but the owner. */
void table_client_stop(struct table_client *client);

/* port_env.slow and port_env.flags; context is the client. One thread a worker. */
bool table_client_slow(void *client, unsigned worker, const struct engine_packet *packet);
void table_client_flags(void *client, unsigned worker, const struct nat_tuple *tuple,
			uint8_t tcp_flags);

/* port_env.settled. */
bool table_client_settled(void *client, unsigned worker);

struct table_client_counters {
	struct cache_counters cache;
	uint32_t flows, flow_capacity;
	enum cache_state state;
	bool draining;
	int64_t valid_for_ms;			/* until lease and grace are over; 0 = over */
	char address[TABLE_CLIENT_ADDRESS_MAX]; /* attached to, or tried now */
	uint64_t connects, connect_failures, welcomes_refused;
	uint64_t batches_out, entries_out, messages_in, bad_messages, bytes_in, bytes_out;
	uint64_t slow_packets, slow_flags, ring_full, wakes, output_refused;
	uint64_t configurations;
};
/* Any thread: a copy that is at most about 100 ms old. */
void table_client_counters(struct table_client *client, struct table_client_counters *out);
/* Attached and configured: ready to take new flows. Any thread. */
bool table_client_ready(const struct table_client *client);

#endif
