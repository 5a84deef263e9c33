/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client's connection to one address (HOST:PORT or unix:PATH), and a blocking call on top for
 * command-line programs. A channel reconnects by itself with a short backoff; whoever has several
 * addresses has several channels.
 */
#ifndef RPC_CHANNEL_H
#define RPC_CHANNEL_H

#include "common/rpc/credentials.h"
#include "common/rpc/stream.h"

struct rpc_channel;

/* loop is borrowed. 0, ERR_INVALID (address), ERR_NOMEM, or what the credentials say. */
int rpc_channel_new(struct rpc_loop *loop, const char *address,
		    const struct rpc_credentials *credentials, struct rpc_channel **out);
void rpc_channel_free(struct rpc_channel *channel);
/* Tries again now; call it with jitter early in an outage (a server is back in 10 ms, not 1 s). */
void rpc_channel_retry(struct rpc_channel *channel);
const char *rpc_channel_address(const struct rpc_channel *channel);
struct rpc_loop *rpc_channel_loop(const struct rpc_channel *channel);

/* For stream.c. */
struct grpc_channel;
struct grpc_channel *rpc_channel_grpc(const struct rpc_channel *channel);

/*
 * One call with one request, from a thread without a loop: sends request, calls message for each
 * reply (its non-zero result stops the call and is returned), returns when the status is there.
 * 0; ERR_UNAVAILABLE (not reachable in timeout_ms), ERR_STATE (the service said no); error then has
 * the sentence, *status (may be NULL) the gRPC status.
 */
int rpc_call(const char *address, const struct rpc_credentials *credentials, const char *method,
	     const void *request, size_t length, int timeout_ms,
	     int (*message)(void *context, const uint8_t *data, size_t length), void *context,
	     int *status, char *error, size_t error_size);
/*
 * The same for a list that its reader may not keep up with: after each reply "room" is asked
 * whether it wants another one, and again until it does; the connection stays alive meanwhile.
 */
int rpc_call_list(const char *address, const struct rpc_credentials *credentials,
		  const char *method, const void *request, size_t length, int timeout_ms,
		  int (*message)(void *context, const uint8_t *data, size_t length),
		  bool (*room)(void *context), void *context, int *status, char *error,
		  size_t error_size);

#endif
