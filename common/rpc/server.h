/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server's listening side: set-up with every default that bites turned off, and calls handed to
 * one function by method name. Loop thread only.
 */
#ifndef RPC_SERVER_H
#define RPC_SERVER_H

#include "common/rpc/credentials.h"
#include "common/rpc/stream.h"

struct rpc_server;

struct rpc_server_conf {
	const struct rpc_credentials *credentials; /* NULL = no TLS */
	unsigned message_max;			   /* bytes; more is refused by gRPC */
	void *context;
	/*
	 * A call arrived. Either takes it (rpc_stream_accept) and returns 0, or returns a gRPC
	 * status (UNIMPLEMENTED for a method it does not know) and the server refuses the call.
	 */
	int (*call)(void *context, struct grpc_call *call, const char *method, unsigned roles);
};

int rpc_server_new(struct rpc_loop *loop, const struct rpc_server_conf *conf,
		   struct rpc_server **out);
/*
 * HOST:PORT (port 0 = any free one) or unix:PATH. Fails when somebody else listens there, be it
 * with SO_REUSEPORT or on the same path. *port: what was bound, 0 for unix. ERR_EXISTS,
 * ERR_INVALID.
 */
int rpc_server_listen(struct rpc_server *server, const char *address, int *port);
void rpc_server_start(struct rpc_server *server);
/* Cancels every call and waits until all are closed (bounded), then frees. */
void rpc_server_free(struct rpc_server *server);

#endif
