/* SPDX-License-Identifier: Apache-2.0 */
/* A client without manners: sends any bytes to any method and keeps what comes back. */
#ifndef SUPPORT_RAW_CLIENT_H
#define SUPPORT_RAW_CLIENT_H

#include "common/rpc/channel.h"

enum { RAW_MESSAGES_MAX = 1024 };

struct raw_client {
	struct rpc_loop *loop;
	struct rpc_channel *channel;
};

struct raw_stream {
	struct raw_client *client;
	struct rpc_stream *stream; /* NULL when closed */
	bool changed;
	int status; /* -1 = open */
	char details[RPC_DETAILS_MAX];
	unsigned n; /* messages received */
	struct {
		uint8_t *data;
		size_t length;
	} messages[RAW_MESSAGES_MAX];
};

int raw_client_open(struct raw_client *client, const char *address,
		    const struct rpc_credentials *credentials);
void raw_client_close(struct raw_client *client);

struct raw_stream *raw_open(struct raw_client *client, const char *method);
/* Cancels if open, waits, frees. */
void raw_close(struct raw_stream *stream);
/* Queues; raw_flush sends everything queued. */
bool raw_queue(struct raw_stream *stream, const void *data, size_t length);
void raw_flush(struct raw_stream *stream);
/* Runs the loop until n messages were received, or the stream closed; false on timeout (3 s). */
bool raw_wait_messages(struct raw_stream *stream, unsigned n);
/* The status, or -1 when it stays open for 3 s. */
int raw_wait_closed(struct raw_stream *stream);
/* Runs the loop for ms whatever happens. */
void raw_run(struct raw_client *client, int ms);

#endif
