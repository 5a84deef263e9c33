/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * At most one receive and one send are outstanding on a call; each outstanding operation is counted
 * in "busy". The call is over when the operation that says so completed (server: RECV_CLOSE;
 * client: RECV_STATUS, and a receive without message, because the status may overtake messages) and
 * nothing is outstanding any more. Only then the owner hears "closed" and the stream is freed.
 *
 * A callback of the owner may end or cancel the stream, send on it, but not free it; "busy" is held
 * up by one during callbacks.
 *
 * A server stops receiving while its send queue is full: a peer that does not read its answers does
 * not get more questions in. A client stops only when its owner says so (rpc_stream_pause), or both
 * ends could wait for ever.
 */
#include <stdlib.h>
#include <string.h>
#include "common/base/err.h"
#include "common/base/log.h"
#include "common/rpc/channel.h"
#include "common/rpc/grpc.h"

struct rpc_stream {
	struct rpc_tag opened, received, sent, half_closed, over, status_sent;
	struct rpc_later receive_later;
	struct rpc_loop *loop;
	grpc_call *call;
	const struct rpc_stream_events *events;
	void *context;
	bool server;

	unsigned busy; /* outstanding operations and running callbacks */
	bool receiving, received_all;
	bool deferred; /* receive_later is with the loop */
	bool paused;   /* client */
	bool sending;
	bool is_over; /* RECV_CLOSE or RECV_STATUS completed */
	bool ending;  /* we want it to end; nothing more is queued */
	bool status_started, half_close_wanted, half_close_started;
	bool was_full;

	grpc_metadata_array initial, trailing;
	grpc_byte_buffer *in, *out;
	grpc_byte_buffer **queue;
	unsigned size, head, count;

	int cancelled;
	grpc_status_code status;
	grpc_slice status_details;
	int end_status;
	char end_details[RPC_DETAILS_MAX];
	grpc_slice end_slice;
};

static void start(struct rpc_stream *s, grpc_op *ops, size_t n, struct rpc_tag *tag)
{
	s->busy++;
	grpc_call_error error = grpc_call_start_batch(s->call, ops, n, tag, NULL);
	if (error != GRPC_CALL_OK) {
		/* A bug of ours; the call still ends, because its closing operation is out. */
		log_error("grpc: operation %d: %s", (int)ops[0].op,
			  grpc_call_error_to_string(error));
		s->busy--;
		grpc_call_cancel(s->call, NULL);
	}
}

static void start_receive(struct rpc_stream *s)
{
	if (s->receiving || s->received_all || s->paused ||
	    (s->server && (s->ending || s->is_over)))
		return;
	if (s->server && s->count == s->size) {
		s->was_full = true;
		return;
	}
	grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &s->in};
	s->in = NULL;
	s->receiving = true;
	start(s, &op, 1, &s->received);
}

void rpc_stream_pause(struct rpc_stream *s, bool paused)
{
	s->paused = paused;
	if (!paused)
		start_receive(s);
}

static void send_status(struct rpc_stream *s)
{
	grpc_op op = {.op = GRPC_OP_SEND_STATUS_FROM_SERVER};
	s->status_started = true;
	s->end_slice = grpc_slice_from_copied_string(s->end_details);
	op.data.send_status_from_server.status = (grpc_status_code)s->end_status;
	op.data.send_status_from_server.status_details = s->end_details[0] ? &s->end_slice : NULL;
	start(s, &op, 1, &s->status_sent);
}

void rpc_stream_flush(struct rpc_stream *s)
{
	if (s->is_over || s->sending)
		return;
	if (s->count) {
		s->out = s->queue[s->head];
		s->head = (s->head + 1) % s->size;
		s->count--;
		grpc_op op = {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = s->out};
		if (s->count)
			op.flags = GRPC_WRITE_BUFFER_HINT;
		s->sending = true;
		start(s, &op, 1, &s->sent);
		return;
	}
	if (s->server && s->ending && !s->status_started)
		send_status(s);
	if (!s->server && s->half_close_wanted && !s->half_close_started) {
		grpc_op op = {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};
		s->half_close_started = true;
		start(s, &op, 1, &s->half_closed);
	}
}

static void drop_queue(struct rpc_stream *s)
{
	while (s->count) {
		grpc_byte_buffer_destroy(s->queue[s->head]);
		s->head = (s->head + 1) % s->size;
		s->count--;
	}
}

static void stream_free(struct rpc_stream *s)
{
	drop_queue(s);
	grpc_metadata_array_destroy(&s->initial);
	grpc_metadata_array_destroy(&s->trailing);
	grpc_slice_unref(s->status_details);
	grpc_slice_unref(s->end_slice);
	if (s->call)
		grpc_call_unref(s->call);
	free(s->queue);
	free(s);
}

static void release(struct rpc_stream *s)
{
	if (--s->busy || !s->is_over || !(s->server || s->received_all))
		return;
	char details[RPC_DETAILS_MAX] = "";
	int status = (int)s->status;
	if (s->server) {
		status = s->cancelled ? GRPC_STATUS_CANCELLED : s->end_status;
		memcpy(details, s->end_details, sizeof details);
	} else {
		size_t n = GRPC_SLICE_LENGTH(s->status_details);
		if (n >= sizeof details)
			n = sizeof details - 1;
		memcpy(details, GRPC_SLICE_START_PTR(s->status_details), n);
	}
	s->busy = 1; /* calls from the callback find a live stream that does nothing */
	s->ending = true;
	s->events->closed(s->context, status, details);
	stream_free(s);
}

static void on_opened(struct rpc_tag *tag, bool ok)
{
	release(rpc_container_of(tag, struct rpc_stream, opened));
}

static void on_half_closed(struct rpc_tag *tag, bool ok)
{
	release(rpc_container_of(tag, struct rpc_stream, half_closed));
}

static void on_status_sent(struct rpc_tag *tag, bool ok)
{
	release(rpc_container_of(tag, struct rpc_stream, status_sent));
}

static void on_over(struct rpc_tag *tag, bool ok)
{
	struct rpc_stream *s = rpc_container_of(tag, struct rpc_stream, over);
	s->is_over = true;
	drop_queue(s);
	if (!s->server)
		start_receive(s); /* drains what the status overtook */
	release(s);
}

static void on_sent(struct rpc_tag *tag, bool ok)
{
	struct rpc_stream *s = rpc_container_of(tag, struct rpc_stream, sent);
	grpc_byte_buffer_destroy(s->out);
	s->out = NULL;
	s->sending = false;
	rpc_stream_flush(s);
	if (s->was_full && s->count < s->size) {
		s->was_full = false;
		if (s->server)
			start_receive(s);
		if (s->events->writable && !s->ending && !s->is_over)
			s->events->writable(s->context);
	}
	release(s);
}

static void deliver(struct rpc_stream *s)
{
	grpc_byte_buffer_reader reader;
	grpc_slice *peeked;
	if (s->in->data.raw.compression != GRPC_COMPRESS_NONE ||
	    !grpc_byte_buffer_reader_init(&reader, s->in))
		return;
	size_t length = grpc_byte_buffer_length(s->in);
	if (length == 0) {
		s->events->message(s->context, (const uint8_t *)"", 0);
	} else if (grpc_byte_buffer_reader_peek(&reader, &peeked) &&
		   GRPC_SLICE_LENGTH(*peeked) == length) {
		s->events->message(s->context, GRPC_SLICE_START_PTR(*peeked), length);
	} else {
		grpc_byte_buffer_reader_destroy(&reader);
		if (!grpc_byte_buffer_reader_init(&reader, s->in))
			return;
		grpc_slice whole = grpc_byte_buffer_reader_readall(&reader);
		s->events->message(s->context, GRPC_SLICE_START_PTR(whole), length);
		grpc_slice_unref(whole);
	}
	grpc_byte_buffer_reader_destroy(&reader);
}

static void receive_later(struct rpc_later *later)
{
	struct rpc_stream *s = rpc_container_of(later, struct rpc_stream, receive_later);
	s->deferred = false;
	start_receive(s);
	release(s);
}

static void on_received(struct rpc_tag *tag, bool ok)
{
	struct rpc_stream *s = rpc_container_of(tag, struct rpc_stream, received);
	s->receiving = false;
	if (!s->in) {
		s->received_all = true;
		if (s->server && !s->ending && !s->is_over && s->events->half_closed)
			s->events->half_closed(s->context);
	} else {
		if (!s->ending)
			deliver(s);
		grpc_byte_buffer_destroy(s->in);
		s->in = NULL;
		if (!s->deferred && rpc_loop_later(s->loop, &s->receive_later)) {
			s->deferred = true;
			return; /* still busy, until then */
		}
		start_receive(s);
	}
	release(s);
}

static int stream_new(struct rpc_loop *loop, unsigned queue, const struct rpc_stream_events *events,
		      void *context, struct rpc_stream **out)
{
	if (queue == 0 || queue > RPC_QUEUE_MAX)
		return ERR_INVALID;
	struct rpc_stream *s = calloc(1, sizeof *s);
	if (!s)
		return ERR_NOMEM;
	s->queue = calloc(queue, sizeof *s->queue);
	if (!s->queue) {
		free(s);
		return ERR_NOMEM;
	}
	s->size = queue;
	s->loop = loop;
	s->receive_later.run = receive_later;
	s->events = events;
	s->context = context;
	s->opened.done = on_opened;
	s->received.done = on_received;
	s->sent.done = on_sent;
	s->half_closed.done = on_half_closed;
	s->over.done = on_over;
	s->status_sent.done = on_status_sent;
	s->status_details = grpc_empty_slice();
	s->end_slice = grpc_empty_slice();
	grpc_metadata_array_init(&s->initial);
	grpc_metadata_array_init(&s->trailing);
	*out = s;
	return 0;
}

int rpc_stream_accept(struct rpc_loop *loop, struct grpc_call *call, unsigned queue,
		      const struct rpc_stream_events *events, void *context,
		      struct rpc_stream **out)
{
	struct rpc_stream *s;
	int err = stream_new(loop, queue, events, context, &s);
	if (err)
		return err;
	s->server = true;
	s->call = call;
	*out = s;
	grpc_op close = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER,
			 .data.recv_close_on_server.cancelled = &s->cancelled};
	start(s, &close, 1, &s->over);
	grpc_op initial = {.op = GRPC_OP_SEND_INITIAL_METADATA};
	start(s, &initial, 1, &s->opened);
	start_receive(s);
	return 0;
}

int rpc_stream_open(struct rpc_channel *channel, const char *method, unsigned queue,
		    bool wait_for_ready, int timeout_ms, const struct rpc_stream_events *events,
		    void *context, struct rpc_stream **out)
{
	struct rpc_stream *s;
	struct rpc_loop *loop = rpc_channel_loop(channel);
	int err = stream_new(loop, queue, events, context, &s);
	if (err)
		return err;
	gpr_timespec deadline =
	    timeout_ms ? rpc_in_ms(timeout_ms) : gpr_inf_future(GPR_CLOCK_MONOTONIC);
	grpc_slice name = grpc_slice_from_copied_string(method);
	s->call = grpc_channel_create_call(rpc_channel_grpc(channel), NULL, GRPC_PROPAGATE_DEFAULTS,
					   rpc_loop_queue(loop), name, NULL, deadline, NULL);
	grpc_slice_unref(name); /* the call has a reference of its own */
	if (!s->call) {
		stream_free(s);
		return ERR_NOMEM;
	}
	*out = s;
	grpc_op status = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT};
	status.data.recv_status_on_client.trailing_metadata = &s->trailing;
	status.data.recv_status_on_client.status = &s->status;
	status.data.recv_status_on_client.status_details = &s->status_details;
	start(s, &status, 1, &s->over);
	grpc_op ops[2] = {
	    {.op = GRPC_OP_SEND_INITIAL_METADATA,
	     .flags = wait_for_ready ? GRPC_INITIAL_METADATA_WAIT_FOR_READY : 0},
	    {.op = GRPC_OP_RECV_INITIAL_METADATA,
	     .data.recv_initial_metadata.recv_initial_metadata = &s->initial},
	};
	start(s, ops, 2, &s->opened);
	start_receive(s);
	return 0;
}

unsigned rpc_stream_room(const struct rpc_stream *s)
{
	return s->ending || s->is_over || s->half_close_wanted ? 0 : s->size - s->count;
}

bool rpc_stream_send(struct rpc_stream *s, const void *data, size_t length)
{
	if (rpc_stream_room(s) == 0) {
		s->was_full = true;
		return false;
	}
	grpc_slice slice = grpc_slice_from_copied_buffer(data, length);
	s->queue[(s->head + s->count) % s->size] = grpc_raw_byte_buffer_create(&slice, 1);
	s->count++;
	grpc_slice_unref(slice);
	return true;
}

void rpc_stream_half_close(struct rpc_stream *s)
{
	s->half_close_wanted = true;
	rpc_stream_flush(s);
}

void rpc_stream_end(struct rpc_stream *s, int status, const char *details)
{
	if (s->ending || s->is_over)
		return;
	s->ending = true;
	if (!s->server) {
		grpc_call_cancel(s->call, NULL);
		return;
	}
	s->end_status = status;
	strncpy(s->end_details, details, sizeof s->end_details - 1);
	if (status != 0)
		drop_queue(s);
	rpc_stream_flush(s);
}

void rpc_stream_cancel(struct rpc_stream *s)
{
	s->ending = true;
	drop_queue(s);
	if (!s->is_over)
		grpc_call_cancel(s->call, NULL);
}

void rpc_stream_peer(const struct rpc_stream *s, char *out, size_t size)
{
	char *peer = grpc_call_get_peer(s->call);
	out[0] = 0;
	if (peer)
		strncat(out, peer, size - 1);
	gpr_free(peer);
}
