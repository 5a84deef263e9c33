/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the table client: table_client.c has the thread, the rings and the engine's side,
 * table_client_link.c the streams to the service. Everything belongs to the owner thread but what
 * is said to be shared.
 */
#ifndef DATAPLANE_TABLE_CLIENT_PRIVATE_H
#define DATAPLANE_TABLE_CLIENT_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include "common/base/err.h"
#include "common/base/log.h"
#include "common/base/random.h"
#include "common/rpc/channel.h"
#include "common/wire/wire_encode.h"
#include "dataplane/ring.h"
#include "dataplane/table_client.h"

enum link_state {
	LINK_IDLE,	 /* waits for next_attempt */
	LINK_CONNECTING, /* control stream opened, no welcome yet */
	LINK_ATTACHED,	 /* welcomed; the data stream is open */
	LINK_CLOSING,	 /* streams end; nothing else is done with them */
};

struct link {
	enum link_state state;
	struct rpc_channel *channels[TABLE_CLIENT_ADDRESSES_MAX]; /* made when first tried */
	unsigned address;					  /* index of the one in use */
	unsigned failures;					  /* in a row, over all addresses */
	struct rpc_stream *control, *data;			  /* NULL when closed */
	struct monotime next_attempt, deadline, attached;
	bool shutting;
	bool advance; /* the next attempt goes to the next address */
};

struct table_client {
	struct table_client_conf conf;
	struct flowtable *flows;
	struct random_source *random;
	struct engine *engine;
	struct engine_config engine_config;
	struct cache *cache;
	struct port *port;
	struct rpc_loop *loop;
	struct wire_codec *codec;
	struct link link;
	struct monotime next_engine_tick, next_publish;
	bool started;
	pthread_t thread;

	/* shared with the workers */
	struct ring *rings[ENGINE_WORKERS_MAX];
	_Atomic uint64_t ring_full;
	_Atomic uint32_t waiting; /* packets parked until their answer comes */

	/* shared with whoever configures or reads counters */
	pthread_mutex_t lock;
	struct engine_config wanted_config; /* [lock] */
	atomic_bool config_waits;
	struct table_client_counters published; /* [lock] */
	atomic_bool ready;

	struct table_client_counters counters;
	struct wire_request entries[WIRE_BATCH_MAX];
	struct wire_answer answers[WIRE_BATCH_MAX];
	struct wire_notice notices[WIRE_BATCH_MAX];
	struct wire_control control;
	uint8_t packet[RING_PACKET_MAX + 1];
};

/* Output and timers of the streams. */
void link_turn(struct table_client *client, struct monotime now);
struct monotime link_deadline(const struct table_client *client);
/* Ends both streams and tries again, at the next address if advance. */
void link_fail(struct table_client *client, const char *why, bool advance);
/* Ends both streams, frees the channels. */
void link_shut(struct table_client *client);
const char *link_address(const struct table_client *client);

#endif
