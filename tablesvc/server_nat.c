/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NatTable: an attachment is a control stream and, after its welcome, a data stream. They live and
 * die together: when one ends, so does the other, and the table is told once. A dataplane that
 * comes back before its old streams were noticed dead takes their place; the old ones then end
 * unheard.
 */
#include <string.h>
#include "tablesvc/server_private.h"

enum { METHOD_ATTACH, METHOD_CONTROL };

static void send_control(struct peer *peer, const uint8_t *data, size_t length)
{
	struct server_counters *counters = &peer->server->counters;
	if (length == 0 || !rpc_stream_send(peer->stream, data, length)) {
		/* It asks and does not read the answers. */
		rpc_stream_cancel(peer->stream);
		return;
	}
	counters->messages_out++;
	counters->bytes_out += length;
}

static void refuse_message(struct peer *peer, int err)
{
	peer->server->counters.bad_messages++;
	log_info("message refused: %s", wire_codec_error(peer->server->codec));
	peer_end(peer, err_grpc_status(err), wire_codec_error(peer->server->codec));
}

/* The streams of an attachment lose it; what they still say is not listened to. */
static void orphan(struct peer *peer, const char *why)
{
	if (!peer)
		return;
	peer->dataplane = DATAPLANE_NONE;
	peer_end(peer, STATUS_ABORTED, why);
}

static void detach(struct peer *peer)
{
	struct server *server = peer->server;
	if (peer->dataplane == DATAPLANE_NONE)
		return;
	struct attachment *a = &server->attachments[peer->dataplane];
	struct peer *other = peer == a->control ? a->data : a->control;
	uint32_t dataplane = peer->dataplane;
	*a = (struct attachment){0};
	peer->dataplane = DATAPLANE_NONE;
	orphan(other, "the attachment's other stream ended");
	table_detach(server->table, dataplane, rpc_loop_now(server->loop));
	log_info("dataplane %u: streams ended", dataplane);
}

/* ---- control ---- */

static void push_config(struct peer *peer)
{
	const uint8_t *data;
	size_t length = wire_encode_config(peer->server->codec, &peer->server->wire_config, &data);
	send_control(peer, data, length);
}

void server_nat_push(struct server *server)
{
	table_wire_config(server->table, &server->wire_config);
	for (unsigned i = 0; i < WIRE_DATAPLANES_MAX; i++)
		if (server->attachments[i].control)
			push_config(server->attachments[i].control);
}

static void hello(struct peer *peer, const struct wire_hello *hello)
{
	struct server *server = peer->server;
	struct wire_welcome welcome;
	uint32_t dataplane;
	const uint8_t *data;
	memset(&welcome, 0, sizeof welcome);
	int err =
	    table_attach(server->table, hello, rpc_loop_now(server->loop), &welcome, &dataplane);
	if (err) {
		if (err == ERR_VERSION)
			server->counters.bad_version++;
		log_notice("dataplane %s refused: %s", hello->name, err_text(err));
		peer_end(peer, err_grpc_status(err),
			 err == ERR_FULL ? "as many dataplanes as the table can have"
					 : err_text(err));
		return;
	}
	struct attachment *a = &server->attachments[dataplane];
	orphan(a->control, "attached again");
	orphan(a->data, "attached again");
	*a = (struct attachment){.control = peer};
	peer->dataplane = dataplane;
	char from[128];
	rpc_stream_peer(peer->stream, from, sizeof from);
	log_notice("dataplane %u attached name=%s peer=%s flush=%d", dataplane, hello->name, from,
		   welcome.flush);
	size_t length = wire_encode_welcome(server->codec, &welcome, &data);
	send_control(peer, data, length);
	table_wire_config(server->table, &server->wire_config);
	push_config(peer);
}

static void heartbeat(struct peer *peer, const struct wire_heartbeat *beat)
{
	struct server *server = peer->server;
	struct wire_heartbeat_ack ack;
	const uint8_t *data;
	memset(&ack, 0, sizeof ack);
	table_heartbeat(server->table, peer->dataplane, beat, rpc_loop_now(server->loop), &ack);
	server->counters.heartbeats++;
	size_t length = wire_encode_heartbeat_ack(server->codec, &ack, &data);
	send_control(peer, data, length);
	/* Not behind this turn's batches. */
	rpc_stream_flush(peer->stream);
}

static void control_message(struct peer *peer, const uint8_t *data, size_t length)
{
	struct server *server = peer->server;
	int err = wire_decode_from_dataplane(server->codec, data, length, &server->control);
	if (err) {
		refuse_message(peer, err);
		return;
	}
	bool greeted = peer->dataplane != DATAPLANE_NONE;
	if (!greeted && server->control.kind == WIRE_CONTROL_HELLO) {
		hello(peer, &server->control.hello);
	} else if (greeted && server->control.kind == WIRE_CONTROL_HEARTBEAT) {
		heartbeat(peer, &server->control.heartbeat);
	} else {
		server->counters.bad_messages++;
		peer_end(peer, STATUS_FAILED_PRECONDITION,
			 greeted ? "a second hello" : "a heartbeat before the hello");
	}
}

static void control_closed(struct peer *peer)
{
	peer->server->counters.control_streams--;
	detach(peer);
}

static const struct peer_ops control_ops = {
    .message = control_message,
    .closed = control_closed,
};

/* ---- data ---- */

static bool name_attachment(struct peer *peer, const uint64_t incarnation[2])
{
	struct server *server = peer->server;
	uint32_t dataplane;
	if (table_find_dataplane(server->table, incarnation, &dataplane) != 0 ||
	    !server->attachments[dataplane].control) {
		peer_end(peer, STATUS_FAILED_PRECONDITION,
			 "no control stream of this incarnation: say hello first");
		return false;
	}
	struct attachment *a = &server->attachments[dataplane];
	orphan(a->data, "a newer data stream");
	a->data = peer;
	peer->dataplane = dataplane;
	return true;
}

static void data_message(struct peer *peer, const uint8_t *data, size_t length)
{
	struct server *server = peer->server;
	struct wire_batch batch = {.entries = server->entries};
	uint64_t incarnation[2];
	bool first;
	int err = wire_decode_batch(server->codec, data, length, &batch, &first, incarnation);
	if (err) {
		refuse_message(peer, err);
		return;
	}
	if (first != (peer->dataplane == DATAPLANE_NONE)) {
		server->counters.bad_messages++;
		peer_end(peer, STATUS_FAILED_PRECONDITION,
			 first ? "the attachment was named already"
			       : "the first message names the attachment");
		return;
	}
	if (first && !name_attachment(peer, incarnation))
		return;
	if (batch.sequence == 0) /* names the attachment and says nothing else */
		return;
	server->counters.entries_in += batch.n;
	err = table_batch(server->table, peer->dataplane, &batch, rpc_loop_now(server->loop));
	if (err) {
		server->counters.bad_batches++;
		log_info("dataplane %u: batch refused: %s", peer->dataplane, err_text(err));
		peer_end(peer, err_grpc_status(err),
			 err == ERR_BUSY ? "more batches in flight than granted" : err_text(err));
	}
}

static bool data_dry(struct peer *peer, struct monotime now)
{
	struct server *server = peer->server;
	struct wire_message message;
	const uint8_t *data;
	if (peer->dataplane == DATAPLANE_NONE)
		return false;
	while (rpc_stream_room(peer->stream) > 0 &&
	       table_next_message(server->table, peer->dataplane, &message)) {
		size_t length = wire_encode_message(server->codec, &message, &data);
		if (length == 0 || !rpc_stream_send(peer->stream, data, length)) {
			/* Cannot be: a hole in the sequence would be worse than a reconnect. */
			log_error("dataplane %u: message kind %u lost", peer->dataplane,
				  message.kind);
			rpc_stream_cancel(peer->stream);
			return false;
		}
		server->counters.messages_out++;
		server->counters.entries_out += message.n;
		server->counters.bytes_out += length;
		server->counters_changed = true;
	}
	return false;
}

static void data_closed(struct peer *peer)
{
	peer->server->counters.data_streams--;
	detach(peer);
}

static const struct peer_ops data_ops = {
    .message = data_message,
    .dry = data_dry,
    .closed = data_closed,
};

int server_nat_call(struct server *server, struct grpc_call *call, const char *method,
		    unsigned roles)
{
	bool data = strcmp(method, "/conat.v1.NatTable/Attach") == 0;
	if (!data && strcmp(method, "/conat.v1.NatTable/Control") != 0)
		return STATUS_UNIMPLEMENTED;
	if (!(roles & RPC_ROLE_DATAPLANE))
		return STATUS_PERMISSION_DENIED;
	int status = data ? peer_accept(server, call, &data_ops, METHOD_ATTACH, SERVER_DATA_QUEUE,
					false, NULL)
			  : peer_accept(server, call, &control_ops, METHOD_CONTROL,
					SERVER_CONTROL_QUEUE, false, NULL);
	if (status == 0 && data)
		server->counters.data_streams++;
	else if (status == 0)
		server->counters.control_streams++;
	return status;
}
