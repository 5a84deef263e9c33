/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A call as a bidirectional stream of messages, the same for both ends and for unary calls (which
 * are streams of one message). Loop thread only.
 *
 * gRPC completes its operations in any order (the status may come before the last message), so a
 * stream counts what is outstanding; its owner hears "closed" exactly once, last of all callbacks,
 * and must not touch the stream after it returned.
 */
#ifndef RPC_STREAM_H
#define RPC_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/rpc/loop.h"

struct grpc_call;
struct rpc_stream;
struct rpc_channel;

enum { RPC_QUEUE_MAX = 512, RPC_DETAILS_MAX = 256 };

struct rpc_stream_events {
	/* One message; data is valid during the call. */
	void (*message)(void *context, const uint8_t *data, size_t length);
	/* Server: the client will send no more. May be NULL. */
	void (*half_closed)(void *context);
	/* Room again in a send queue that had been full. May be NULL. */
	void (*writable)(void *context);
	/* status: enum grpc_status_code; 0 = OK. details: what the other side said, or "". */
	void (*closed)(void *context, int status, const char *details);
};

/*
 * Takes over a server's call: sends initial metadata, starts to read. queue: messages waiting at
 * most, 1 to RPC_QUEUE_MAX.
 */
int rpc_stream_accept(struct rpc_loop *loop, struct grpc_call *call, unsigned queue,
		      const struct rpc_stream_events *events, void *context,
		      struct rpc_stream **out);
/*
 * Opens a client's call. timeout_ms 0 = none. wait_for_ready: queue until connected, else fail as
 * soon as the connection does.
 */
int rpc_stream_open(struct rpc_channel *channel, const char *method, unsigned queue,
		    bool wait_for_ready, int timeout_ms, const struct rpc_stream_events *events,
		    void *context, struct rpc_stream **out);

/* Messages that rpc_stream_send would still take; 0 when closing. */
unsigned rpc_stream_room(const struct rpc_stream *stream);
/* Queues a copy; nothing leaves before rpc_stream_flush. False when there is no room. */
bool rpc_stream_send(struct rpc_stream *stream, const void *data, size_t length);
/* Starts sending what is queued, all but the last with GRPC_WRITE_BUFFER_HINT. */
void rpc_stream_flush(struct rpc_stream *stream);
/* Client: no more messages from us, once the queue is empty. */
void rpc_stream_half_close(struct rpc_stream *stream);
/*
 * Client: no more messages are taken in (paused), or again. What the other side may still send is
 * bounded by the window; its keepalive is answered. "closed" waits until resumed.
 */
void rpc_stream_pause(struct rpc_stream *stream, bool paused);
/*
 * Server: sends the status behind what is queued (status 0) or at once instead of it (an error;
 * gRPC may then also drop messages that are on their way).
 * Client: cancels. Idempotent; "closed" follows later. details is copied.
 */
void rpc_stream_end(struct rpc_stream *stream, int status, const char *details);
/* At once, without the niceties: for a peer that does not read. "closed" follows. */
void rpc_stream_cancel(struct rpc_stream *stream);
/* Server: the peer's address, "" if unknown. */
void rpc_stream_peer(const struct rpc_stream *stream, char *out, size_t size);

#endif
