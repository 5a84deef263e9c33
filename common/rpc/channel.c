/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/err.h"
#include "common/rpc/channel.h"
#include "common/rpc/grpc.h"

enum { ADDRESS_MAX = 256, ROOM_POLL_MS = 20 };

struct rpc_channel {
	struct rpc_loop *loop;
	grpc_channel *channel;
	char address[ADDRESS_MAX];
};

int rpc_channel_new(struct rpc_loop *loop, const char *address,
		    const struct rpc_credentials *credentials, struct rpc_channel **out)
{
	if (strlen(address) >= ADDRESS_MAX)
		return ERR_INVALID;
	if (rpc_address_is_unix(address) ? !address[5] : !strrchr(address, ':'))
		return ERR_INVALID;
	struct rpc_channel *channel = calloc(1, sizeof *channel);
	if (!channel)
		return ERR_NOMEM;
	grpc_channel_credentials *grpc_credentials;
	int err = rpc_credentials_channel(rpc_address_is_unix(address) ? NULL : credentials,
					  &grpc_credentials);
	if (err) {
		free(channel);
		return err;
	}
	grpc_arg args[] = {
	    /* A service that comes back is found in milliseconds, not after gRPC's 1 to 120 s. */
	    rpc_arg(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100),
	    rpc_arg(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 100),
	    rpc_arg(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000),
	    /* Retries buffer and repeat messages behind our back. */
	    rpc_arg(GRPC_ARG_ENABLE_RETRIES, 0),
	    /* A window of our own and a fixed one: no pings and updates to find a better one. */
	    rpc_arg(GRPC_ARG_HTTP2_BDP_PROBE, 0),
	    rpc_arg(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, RPC_WINDOW_BYTES),
	    rpc_arg(GRPC_ARG_KEEPALIVE_TIME_MS, 2000),
	    rpc_arg(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 2000),
	    rpc_arg(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1),
	    rpc_arg(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0),
	    rpc_arg(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, 4 << 20),
	    rpc_arg(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, 1),
	    /* Channels to one address do not share their connection's fate. */
	    rpc_arg(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1),
	    /* No surprise from the environment or from DNS TXT records. */
	    rpc_arg(GRPC_ARG_ENABLE_HTTP_PROXY, 0),
	    rpc_arg(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1),
	};
	grpc_channel_args channel_args = {sizeof args / sizeof args[0], args};
	channel->channel = grpc_channel_create(address, grpc_credentials, &channel_args);
	grpc_channel_credentials_release(grpc_credentials);
	if (!channel->channel) {
		free(channel);
		return ERR_INVALID;
	}
	channel->loop = loop;
	strcpy(channel->address, address);
	*out = channel;
	return 0;
}

void rpc_channel_free(struct rpc_channel *channel)
{
	if (!channel)
		return;
	grpc_channel_destroy(channel->channel);
	free(channel);
}

void rpc_channel_retry(struct rpc_channel *channel)
{
	grpc_channel_reset_connect_backoff(channel->channel);
}

const char *rpc_channel_address(const struct rpc_channel *channel)
{
	return channel->address;
}

struct rpc_loop *rpc_channel_loop(const struct rpc_channel *channel)
{
	return channel->loop;
}

struct grpc_channel *rpc_channel_grpc(const struct rpc_channel *channel)
{
	return channel->channel;
}

/* ---- a blocking call ---- */

struct call {
	struct rpc_stream *stream; /* NULL when closed */
	int (*message)(void *context, const uint8_t *data, size_t length);
	bool (*room)(void *context); /* NULL = always */
	void *context;
	bool paused;
	bool progress; /* something happened: rpc_loop_drain returns */
	int result;    /* message's non-zero result */
	int status;
	char details[RPC_DETAILS_MAX];
};

static void call_message(void *context, const uint8_t *data, size_t length)
{
	struct call *call = context;
	call->progress = true;
	if (call->result)
		return;
	call->result = call->message ? call->message(call->context, data, length) : 0;
	if (call->result) {
		rpc_stream_end(call->stream, GRPC_STATUS_CANCELLED, "");
	} else if (call->room && !call->room(call->context)) {
		call->paused = true;
		rpc_stream_pause(call->stream, true);
	}
}

static void call_closed(void *context, int status, const char *details)
{
	struct call *call = context;
	call->progress = true;
	call->stream = NULL;
	call->status = status;
	snprintf(call->details, sizeof call->details, "%s", details);
}

static const struct rpc_stream_events call_events = {
    .message = call_message,
    .closed = call_closed,
};

static int call_finish(struct call *call, const char *address, bool timed_out, char *error,
		       size_t error_size)
{
	if (call->result)
		return call->result;
	if (timed_out) {
		snprintf(error, error_size, "%s does not answer", address);
		return ERR_UNAVAILABLE;
	}
	if (call->status == GRPC_STATUS_OK)
		return 0;
	snprintf(error, error_size, "%s: %s", address, call->details);
	return call->status == GRPC_STATUS_UNAVAILABLE ? ERR_UNAVAILABLE : ERR_STATE;
}

/* Nobody reads the list: the queue is served for the connection's sake, and no time runs out. */
static void wait_for_room(struct rpc_loop *loop, struct call *call)
{
	const bool never = false;

	while (!call->room(call->context))
		rpc_loop_drain(loop, &never, ROOM_POLL_MS);
	call->paused = false;
	if (call->stream)
		rpc_stream_pause(call->stream, false);
}

int rpc_call(const char *address, const struct rpc_credentials *credentials, const char *method,
	     const void *request, size_t length, int timeout_ms,
	     int (*message)(void *context, const uint8_t *data, size_t length), void *context,
	     int *status, char *error, size_t error_size)
{
	return rpc_call_list(address, credentials, method, request, length, timeout_ms, message,
			     NULL, context, status, error, error_size);
}

int rpc_call_list(const char *address, const struct rpc_credentials *credentials,
		  const char *method, const void *request, size_t length, int timeout_ms,
		  int (*message)(void *context, const uint8_t *data, size_t length),
		  bool (*room)(void *context), void *context, int *status, char *error,
		  size_t error_size)
{
	struct call call = {.message = message, .room = room, .context = context};
	struct rpc_loop *loop;
	struct rpc_channel *channel = NULL;
	error[0] = 0;
	int err = rpc_loop_new(&loop);
	if (err)
		return err;
	err = rpc_channel_new(loop, address, credentials, &channel);
	if (!err)
		err = rpc_stream_open(channel, method, 1, false, 0, &call_events, &call,
				      &call.stream);
	if (err) {
		snprintf(error, error_size, "%s: %s", address, err_text(err));
		goto out;
	}
	rpc_stream_send(call.stream, request, length);
	rpc_stream_half_close(call.stream);
	bool timed_out = false;
	while (call.stream && !timed_out) {
		if (call.paused)
			wait_for_room(loop, &call);
		call.progress = false;
		rpc_loop_drain(loop, &call.progress, timeout_ms);
		timed_out = !call.progress;
	}
	if (timed_out) {
		rpc_stream_cancel(call.stream);
		while (call.stream) {
			call.progress = false;
			rpc_loop_drain(loop, &call.progress, 1000);
			if (!call.progress)
				break;
		}
	}
	if (status)
		*status = call.status;
	err = call_finish(&call, address, timed_out, error, error_size);
out:
	rpc_channel_free(channel);
	rpc_loop_free(loop);
	return err;
}
