/* SPDX-License-Identifier: Apache-2.0 */
/*
 * No method is registered: every call arrives as "any method" and is looked up by name, which is
 * also what gives unknown methods their UNIMPLEMENTED (an unregistered method without such a
 * catch-all hangs until its deadline). Calls are few, their messages many, so it costs nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "common/base/err.h"
#include "common/base/log.h"
#include "common/rpc/grpc.h"
#include "common/rpc/server.h"

enum { SLOTS = 16, METHOD_MAX = 128, STREAMS_PER_CONNECTION = 128 };

/* One call that gRPC may hand over. */
struct slot {
	struct rpc_tag arrived;
	struct rpc_server *server;
	grpc_call *call;
	grpc_call_details details;
	grpc_metadata_array metadata;
};

/* One call being refused. */
struct refusal {
	struct rpc_tag done;
	grpc_call *call;
	grpc_slice details;
	int cancelled;
};

struct rpc_server {
	struct rpc_loop *loop;
	grpc_server *server;
	grpc_server_credentials *credentials, *insecure;
	struct rpc_server_conf conf;
	struct slot slots[SLOTS];
	struct rpc_tag shut_down;
	bool started, stopping, is_down;
};

static void arm(struct slot *slot)
{
	grpc_completion_queue *queue = rpc_loop_queue(slot->server->loop);
	slot->call = NULL;
	grpc_call_details_init(&slot->details);
	grpc_metadata_array_init(&slot->metadata);
	grpc_call_error error =
	    grpc_server_request_call(slot->server->server, &slot->call, &slot->details,
				     &slot->metadata, queue, queue, &slot->arrived);
	if (error != GRPC_CALL_OK)
		log_error("grpc: cannot accept calls: %s", grpc_call_error_to_string(error));
}

static void disarm(struct slot *slot)
{
	grpc_call_details_destroy(&slot->details);
	grpc_metadata_array_destroy(&slot->metadata);
}

static void on_refused(struct rpc_tag *tag, bool ok)
{
	struct refusal *refusal = rpc_container_of(tag, struct refusal, done);
	grpc_slice_unref(refusal->details);
	grpc_call_unref(refusal->call);
	free(refusal);
}

static const char *sentence(int status)
{
	switch (status) {
	case GRPC_STATUS_UNIMPLEMENTED:
		return "unknown method";
	case GRPC_STATUS_PERMISSION_DENIED:
		return "the certificate does not name the role that this method needs";
	case GRPC_STATUS_RESOURCE_EXHAUSTED:
		return "too many calls at once";
	default:
		return "refused";
	}
}

static void refuse(grpc_call *call, int status)
{
	struct refusal *refusal = calloc(1, sizeof *refusal);
	if (!refusal) {
		grpc_call_cancel(call, NULL);
		grpc_call_unref(call);
		return;
	}
	refusal->done.done = on_refused;
	refusal->call = call;
	refusal->details = grpc_slice_from_copied_string(sentence(status));
	grpc_op ops[3] = {
	    {.op = GRPC_OP_SEND_INITIAL_METADATA},
	    {.op = GRPC_OP_SEND_STATUS_FROM_SERVER},
	    {.op = GRPC_OP_RECV_CLOSE_ON_SERVER,
	     .data.recv_close_on_server.cancelled = &refusal->cancelled},
	};
	ops[1].data.send_status_from_server.status = (grpc_status_code)status;
	ops[1].data.send_status_from_server.status_details = &refusal->details;
	if (grpc_call_start_batch(call, ops, 3, &refusal->done, NULL) != GRPC_CALL_OK)
		on_refused(&refusal->done, false);
}

static void on_arrived(struct rpc_tag *tag, bool ok)
{
	struct slot *slot = rpc_container_of(tag, struct slot, arrived);
	struct rpc_server *server = slot->server;
	if (!ok) {
		disarm(slot);
		return;
	}
	char method[METHOD_MAX] = "";
	size_t length = GRPC_SLICE_LENGTH(slot->details.method);
	if (length < sizeof method)
		memcpy(method, GRPC_SLICE_START_PTR(slot->details.method), length);
	grpc_call *call = slot->call;
	disarm(slot);
	int status = server->stopping ? GRPC_STATUS_UNAVAILABLE
				      : server->conf.call(server->conf.context, call, method,
							  rpc_credentials_roles(call));
	if (status != GRPC_STATUS_OK)
		refuse(call, status);
	if (!server->stopping)
		arm(slot);
}

static void on_shut_down(struct rpc_tag *tag, bool ok)
{
	rpc_container_of(tag, struct rpc_server, shut_down)->is_down = true;
}

int rpc_server_new(struct rpc_loop *loop, const struct rpc_server_conf *conf,
		   struct rpc_server **out)
{
	struct rpc_server *server = calloc(1, sizeof *server);
	if (!server)
		return ERR_NOMEM;
	int err = rpc_credentials_server(conf->credentials, &server->credentials);
	if (err) {
		free(server);
		return err;
	}
	server->insecure = grpc_insecure_server_credentials_create();
	grpc_arg args[] = {
	    /* With gRPC's default a second server binds the same port and takes half the calls. */
	    rpc_arg(GRPC_ARG_ALLOW_REUSEPORT, 0),
	    rpc_arg(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, (int)conf->message_max),
	    /* A window of our own and a fixed one: no pings and updates to find a better one. */
	    rpc_arg(GRPC_ARG_HTTP2_BDP_PROBE, 0),
	    rpc_arg(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, RPC_WINDOW_BYTES),
	    rpc_arg(GRPC_ARG_MAX_CONCURRENT_STREAMS, STREAMS_PER_CONNECTION),
	    rpc_arg(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, 1),
	    rpc_arg(GRPC_ARG_KEEPALIVE_TIME_MS, 2000),
	    rpc_arg(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5000),
	    rpc_arg(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1),
	    rpc_arg(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0),
	    /* Clients ping every two seconds; the default would call that abuse. */
	    rpc_arg(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 500),
	    rpc_arg(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 16),
	};
	grpc_channel_args channel_args = {sizeof args / sizeof args[0], args};
	server->loop = loop;
	server->conf = *conf;
	server->shut_down.done = on_shut_down;
	server->server = grpc_server_create(&channel_args, NULL);
	grpc_server_register_completion_queue(server->server, rpc_loop_queue(loop), NULL);
	*out = server;
	return 0;
}

/* gRPC removes the file and binds anew; if somebody answers there, that would steal the address. */
static bool unix_is_served(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof address.sun_path)
		return false;
	strcpy(address.sun_path, path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	bool served = connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
	close(fd);
	return served;
}

int rpc_server_listen(struct rpc_server *server, const char *address, int *port)
{
	bool is_unix = rpc_address_is_unix(address);
	const char *colon = strrchr(address, ':');
	if (!colon || !colon[1])
		return ERR_INVALID;
	if (is_unix && unix_is_served(address + 5))
		return ERR_EXISTS;
	int bound = grpc_server_add_http2_port(server->server, address,
					       is_unix ? server->insecure : server->credentials);
	if (bound == 0)
		return ERR_EXISTS;
	int wanted = is_unix ? 0 : atoi(colon + 1);
	if (wanted && wanted != bound)
		return ERR_EXISTS;
	if (is_unix && chmod(address + 5, 0660) != 0)
		log_warning("%s: cannot set permissions: %m", address);
	*port = is_unix ? 0 : bound;
	return 0;
}

void rpc_server_start(struct rpc_server *server)
{
	grpc_server_start(server->server);
	server->started = true;
	for (unsigned i = 0; i < SLOTS; i++) {
		server->slots[i].server = server;
		server->slots[i].arrived.done = on_arrived;
		arm(&server->slots[i]);
	}
}

void rpc_server_free(struct rpc_server *server)
{
	if (!server)
		return;
	server->stopping = true;
	grpc_server_shutdown_and_notify(server->server, rpc_loop_queue(server->loop),
					&server->shut_down);
	grpc_server_cancel_all_calls(server->server);
	rpc_loop_drain(server->loop, &server->is_down, 5000);
	grpc_server_destroy(server->server);
	grpc_server_credentials_release(server->credentials);
	grpc_server_credentials_release(server->insecure);
	free(server);
}
