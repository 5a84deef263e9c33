/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the server: one peer is one call. server.c owns them all and the loop; server_nat.c,
 * server_admin.c and server_health.c are what the methods do. Everything but the counters' copy and
 * the mailbox belongs to the loop's thread.
 */
#ifndef TABLESVC_SERVER_PRIVATE_H
#define TABLESVC_SERVER_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include "common/base/err.h"
#include "common/base/log.h"
#include "common/rpc/server.h"
#include "common/wire/wire_encode.h"
#include "tablesvc/server.h"
#include "tablesvc/server_pcp.h"

enum {
	SERVER_PEERS_MAX = 512,	 /* calls at once, of all connections */
	SERVER_ADMIN_MAX = 64,	 /* of them, operators' and health checks' */
	SERVER_DATA_QUEUE = 128, /* messages to a dataplane that gRPC did not take yet */
	SERVER_CONTROL_QUEUE = 16,
	SERVER_ADMIN_QUEUE = 4,
	SERVER_SILENCE_MS = 10000, /* until the first message of a call */
	SERVER_ENDING_MS = 5000,   /* from its end to the cancelling of a call */
	SERVER_PUBLISH_MS = 100,
};

/* gRPC status codes; the header itself stays in common/rpc. */
enum {
	STATUS_OK = 0,
	STATUS_CANCELLED = 1,
	STATUS_INVALID_ARGUMENT = 3,
	STATUS_DEADLINE_EXCEEDED = 4,
	STATUS_NOT_FOUND = 5,
	STATUS_PERMISSION_DENIED = 7,
	STATUS_RESOURCE_EXHAUSTED = 8,
	STATUS_FAILED_PRECONDITION = 9,
	STATUS_ABORTED = 10,
	STATUS_UNIMPLEMENTED = 12,
	STATUS_INTERNAL = 13,
	STATUS_UNAVAILABLE = 14,
};

struct peer;

/* What a method does. Callbacks run on the loop; "closed" is the last. */
struct peer_ops {
	void (*message)(struct peer *peer, const uint8_t *data, size_t length);
	/* The turn is dry: queue output. True when there is more to do at once. May be NULL. */
	bool (*dry)(struct peer *peer, struct monotime now);
	/* The service stops: last words, and the end. NULL: UNAVAILABLE. */
	void (*stop)(struct peer *peer);
	/* May be NULL. */
	void (*closed)(struct peer *peer);
};

enum { DATAPLANE_NONE = 0xffffffffu };

/* A list on its way to an operator. */
struct listing {
	struct table_filter filter;
	uint64_t cursor, left; /* rows that may still be sent */
	bool running;
};

struct peer {
	struct server *server;
	const struct peer_ops *ops;
	struct rpc_stream *stream;
	struct peer *next, *previous;
	unsigned method; /* of the ops' own numbering */
	bool spoke;
	bool counts_as_admin;
	struct monotime deadline; /* silence or slow end; MONOTIME_NEVER */
	uint32_t dataplane;	  /* data, control: index of attachments, or DATAPLANE_NONE */
	struct listing listing;	  /* admin */
	int health_told;	  /* watch: last status sent, -1 none */
	char health_service[64];
};

struct attachment {
	struct peer *control, *data;
};

/* One request from another thread, waited for. */
struct mailbox {
	pthread_mutex_t lock;
	pthread_cond_t answered;
	bool posted, done;
	const struct config *config;
	int result;
	char error[256];
};

struct server {
	const struct config *config;
	struct table *table;
	struct journal *journal;
	struct rpc_loop *loop;
	struct rpc_server *listener;
	struct wire_codec *codec;
	struct pcp_server *pcp;
	struct attachment attachments[WIRE_DATAPLANES_MAX];
	struct peer *peers;
	unsigned n_peers;
	struct monotime started, next_publish, next_sweep;
	bool stopping;
	int ports[CONFIG_LISTEN_MAX];
	atomic_bool ready, running;
	struct mailbox mailbox;
	atomic_bool mail;

	struct wire_request entries[WIRE_BATCH_MAX];
	struct wire_config wire_config;
	struct wire_control control;

	struct server_counters counters; /* the loop's own */
	bool counters_changed;
	pthread_mutex_t published_lock;
	struct server_counters published;
};

/* Takes a call; 0 or a gRPC status. */
int peer_accept(struct server *server, struct grpc_call *call, const struct peer_ops *ops,
		unsigned method, unsigned queue, bool admin, struct peer **out);
/* Ends the call: an answer is complete (STATUS_OK), or why not. */
void peer_end(struct peer *peer, int status, const char *details);

/* Each knows its own methods: 0 taken, STATUS_UNIMPLEMENTED not mine, or another refusal. */
int server_nat_call(struct server *server, struct grpc_call *call, const char *method,
		    unsigned roles);
int server_admin_call(struct server *server, struct grpc_call *call, const char *method,
		      unsigned roles);
int server_health_call(struct server *server, struct grpc_call *call, const char *method);

/* The configuration changed: tell every dataplane. */
void server_nat_push(struct server *server);

#endif
