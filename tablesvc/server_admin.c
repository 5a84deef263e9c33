/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NatAdmin. Requests are answered where they arrive; lists move on by one step of bounded size each
 * time the loop is dry and their stream has room, so they wait for the reader and nobody for them.
 */
#include "tablesvc/server_admin.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef Conat__V1__Filter filter_pb;
typedef Conat__V1__StaticMapping static_pb;

void admin_reply(struct peer *peer, const ProtobufCMessage *message)
{
	const uint8_t *data;
	size_t length = wire_pack(peer->server->codec, message, &data);
	if (!rpc_stream_send(peer->stream, data, length)) {
		peer_end(peer, STATUS_RESOURCE_EXHAUSTED, "replies are not read");
		return;
	}
	peer->server->counters.messages_out++;
	peer->server->counters.bytes_out += length;
}

static void reply_and_end(struct peer *peer, const ProtobufCMessage *message)
{
	admin_reply(peer, message);
	peer_end(peer, STATUS_OK, "");
}

static void refuse(struct peer *peer, int err, const char *sentence)
{
	peer_end(peer, err_grpc_status(err), sentence ? sentence : err_text(err));
}

/* ---- values ---- */

endpoint_pb admin_endpoint(const struct nat_endpoint *e)
{
	endpoint_pb out = CONAT__V1__ENDPOINT__INIT;
	out.address = ntohl(e->address);
	out.port = ntohs(e->port);
	return out;
}

/* Absent = zero. False: not an IPv4 endpoint. */
static bool endpoint_in(const endpoint_pb *e, struct nat_endpoint *out)
{
	*out = (struct nat_endpoint){0};
	if (!e)
		return true;
	if (e->port > 65535 || e->address6.len)
		return false;
	out->address = htonl(e->address);
	out->port = htons((uint16_t)e->port);
	return true;
}

static bool filter_in(const filter_pb *f, struct table_filter *out)
{
	struct nat_endpoint subscriber;
	*out = (struct table_filter){0};
	if (f->protocol && !wire_protocol_known(f->protocol))
		return false;
	if (f->realm > NAT_REALM_MAX || !endpoint_in(f->subscriber, &subscriber) ||
	    !endpoint_in(f->external, &out->external) || !endpoint_in(f->remote, &out->remote))
		return false;
	out->subscriber = subscriber.address;
	out->protocol = (uint8_t)f->protocol;
	out->realm = (uint8_t)f->realm;
	return true;
}

static bool static_in(const static_pb *m, struct config_static *out)
{
	memset(out, 0, sizeof *out);
	if (!m->external || !m->internal || m->realm < NAT_REALM_INSIDE ||
	    m->realm > NAT_REALM_MAX || (m->protocol && !wire_protocol_known(m->protocol)) ||
	    !endpoint_in(m->external, &out->external) || !endpoint_in(m->internal, &out->internal))
		return false;
	out->realm = (uint8_t)m->realm;
	out->protocol = (uint8_t)m->protocol;
	bool whole = out->protocol == 0; /* 1:1: neither protocol nor ports */
	return out->external.address && out->internal.address && !out->external.port == whole &&
	       !out->internal.port == whole;
}

char *admin_text(const char *s)
{
	return (char *)(uintptr_t)(s ? s : "");
}

/* ---- requests with one reply; message is unpacked ---- */

static void status(struct peer *peer, const void *message)
{
	struct server *server = peer->server;
	struct table_counters c;
	Conat__V1__StatusReply r;
	conat__v1__status_reply__init(&r);
	table_counters(server->table, &c);
	r.version = admin_text(CONAT_VERSION);
	r.epoch = c.epoch;
	r.uptime_ms = (uint64_t)monotime_sub_ms(rpc_loop_now(server->loop), server->started);
	r.config_generation = server->config->generation;
	r.journal = admin_text(server->journal->ops->name);
	r.dataplanes = c.dataplanes;
	r.mappings = c.mappings;
	r.mappings_capacity = c.mappings_capacity;
	r.sessions = c.sessions;
	r.sessions_capacity = c.sessions_capacity;
	r.subscribers = c.subscribers;
	r.fenced_endpoints = c.fenced;
	r.created_total = c.created;
	r.resolved_total = c.resolved;
	for (unsigned i = 0; i < NAT_REASON_LIMIT; i++)
		r.refused_total += c.refused[i];
	reply_and_end(peer, &r.base);
}

static void static_add(struct peer *peer, const void *message)
{
	struct config_static mapping;
	Conat__V1__StaticReply r;
	const char *state = NULL;
	conat__v1__static_reply__init(&r);
	if (!static_in(message, &mapping)) {
		refuse(peer, ERR_INVALID,
		       "a static mapping needs realm (1 to 255), protocol (6, 17), and an "
		       "external and an internal IPv4 address with port, or realm and the two "
		       "addresses alone (1:1)");
		return;
	}
	int err = table_static_add(peer->server->table, &mapping, rpc_loop_now(peer->server->loop),
				   &state);
	if (err) {
		refuse(peer, err,
		       err == ERR_EXISTS    ? "one of the endpoints has a static mapping already"
		       : err == ERR_INVALID ? "the external endpoint is in no pool, or has a "
					      "subscriber's fixed range, or the realm is not "
					      "configured"
		       : err == ERR_FULL    ? "no room for one more static mapping"
					    : NULL);
		return;
	}
	if (mapping.protocol == 0) /* 1:1: dataplanes ask about every protocol now */
		server_nat_push(peer->server);
	r.state = admin_text(state);
	reply_and_end(peer, &r.base);
}

static void static_delete(struct peer *peer, const void *message)
{
	struct config_static mapping;
	Conat__V1__StaticReply r;
	conat__v1__static_reply__init(&r);
	if (!static_in(message, &mapping)) {
		refuse(peer, ERR_INVALID, "name realm, protocol, external and internal endpoint");
		return;
	}
	int err =
	    table_static_delete(peer->server->table, &mapping, rpc_loop_now(peer->server->loop));
	if (err) {
		refuse(peer, err, err == ERR_NOT_FOUND ? "no such static mapping" : NULL);
		return;
	}
	if (mapping.protocol == 0)
		server_nat_push(peer->server);
	r.state = admin_text("deleted");
	reply_and_end(peer, &r.base);
}

static void delete (struct peer *peer, const void *message)
{
	struct table_filter filter;
	Conat__V1__DeleteReply r = CONAT__V1__DELETE_REPLY__INIT;
	if (!filter_in(message, &filter)) {
		refuse(peer, ERR_INVALID, "a filter that means nothing");
		return;
	}
	int err = table_delete(peer->server->table, &filter, rpc_loop_now(peer->server->loop),
			       &r.mappings, &r.sessions);
	if (err) {
		refuse(peer, err,
		       err == ERR_INVALID ? "an empty filter would delete everything" : NULL);
		return;
	}
	reply_and_end(peer, &r.base);
}

static void drain(struct peer *peer, const void *message)
{
	const Conat__V1__DrainRequest *m = message;
	struct server *server = peer->server;
	Conat__V1__DrainReply r;
	struct table_dataplane_row row;
	conat__v1__drain_reply__init(&r);
	struct monotime now = rpc_loop_now(server->loop);
	int err = table_drain(server->table, m->dataplane, m->undo, now);
	if (err) {
		refuse(peer, err, err == ERR_NOT_FOUND ? "no such dataplane" : NULL);
		return;
	}
	r.state = admin_text(m->undo ? "attached" : "draining");
	uint64_t cursor = 0;
	do {
		char number[16];
		unsigned n = table_dataplanes(server->table, &cursor, &row, 1, now);
		snprintf(number, sizeof number, "%" PRIu32, row.id);
		if (n && (strcmp(row.name, m->dataplane) == 0 || strcmp(number, m->dataplane) == 0))
			r.sessions_held = row.stats.flows;
	} while (cursor);
	reply_and_end(peer, &r.base);
}

static void who(struct peer *peer, const void *message)
{
	const Conat__V1__WhoRequest *m = message;
	struct table_who_row rows[TABLE_WHO_MAX];
	struct nat_endpoint external;
	Conat__V1__WhoRow out[TABLE_WHO_MAX], *pointers[TABLE_WHO_MAX];
	endpoint_pb endpoints[TABLE_WHO_MAX][2];
	Conat__V1__WhoReply r = CONAT__V1__WHO_REPLY__INIT;
	bool in_pool;

	if (!endpoint_in(m->external, &external) || !external.address || !external.port ||
	    (m->protocol && !wire_protocol_known(m->protocol))) {
		refuse(peer, ERR_INVALID, "who needs an external IPv4 address with port");
		return;
	}
	r.n_rows =
	    table_who(peer->server->table, &external, (uint8_t)m->protocol, rows, &in_pool);
	for (unsigned i = 0; i < r.n_rows; i++) {
		conat__v1__who_row__init(&out[i]);
		endpoints[i][0] = admin_endpoint(&rows[i].internal);
		endpoints[i][1] =
		    admin_endpoint(&(struct nat_endpoint){.address = rows[i].external});
		out[i].kind = admin_text(rows[i].kind);
		out[i].realm = rows[i].realm;
		out[i].realm_name = admin_text(rows[i].realm_name);
		out[i].protocol = rows[i].protocol;
		out[i].internal = rows[i].internal.address ? &endpoints[i][0] : NULL;
		out[i].redirect = admin_text(rows[i].redirect);
		out[i].external = &endpoints[i][1];
		out[i].first_port = rows[i].first_port;
		out[i].last_port = rows[i].last_port;
		out[i].pool = admin_text(rows[i].pool);
		out[i].sessions = rows[i].sessions;
		pointers[i] = &out[i];
	}
	r.rows = pointers;
	r.in_pool = in_pool;
	reply_and_end(peer, &r.base);
}

/* ---- methods ---- */

struct method {
	const char *name;
	const ProtobufCMessageDescriptor *request;
	void (*answer)(struct peer *peer, const void *message); /* one reply */
	admin_step *step;					/* a list */
};

static const struct method methods[] = {
    {"Status", &conat__v1__status_request__descriptor, .answer = status},
    {"StaticAdd", &conat__v1__static_mapping__descriptor, .answer = static_add},
    {"StaticDelete", &conat__v1__static_mapping__descriptor, .answer = static_delete},
    {"Delete", &conat__v1__filter__descriptor, .answer = delete},
    {"Drain", &conat__v1__drain_request__descriptor, .answer = drain},
    {"Who", &conat__v1__who_request__descriptor, .answer = who},
    {"Mappings", &conat__v1__filter__descriptor, .step = admin_mappings},
    {"Sessions", &conat__v1__filter__descriptor, .step = admin_sessions},
    {"Subscribers", &conat__v1__filter__descriptor, .step = admin_subscribers},
    {"Dataplanes", &conat__v1__dataplanes_request__descriptor, .step = admin_dataplanes},
    {"Pools", &conat__v1__pools_request__descriptor, .step = admin_pools},
    {"StaticList", &conat__v1__static_list_request__descriptor, .step = admin_statics},
};
enum { METHODS = sizeof methods / sizeof methods[0] };

static void message(struct peer *peer, const uint8_t *data, size_t length)
{
	struct server *server = peer->server;
	const struct method *method = &methods[peer->method];
	struct listing *l = &peer->listing;
	if (l->running) {
		peer_end(peer, STATUS_INVALID_ARGUMENT, "a second request in one call");
		return;
	}
	const void *request = wire_unpack(server->codec, method->request, data, length);
	if (!request) {
		server->counters.bad_messages++;
		peer_end(peer, STATUS_INVALID_ARGUMENT, wire_codec_error(server->codec));
		return;
	}
	server->counters.calls_admin++;
	if (method->answer) {
		method->answer(peer, request);
		return;
	}
	l->left = UINT64_MAX;
	if (method->request == &conat__v1__filter__descriptor) {
		const filter_pb *filter = request;
		if (!filter_in(filter, &l->filter)) {
			peer_end(peer, STATUS_INVALID_ARGUMENT, "a filter that means nothing");
			return;
		}
		if (filter->limit)
			l->left = filter->limit;
	}
	l->running = true;
}

/* One step of a list. */
static bool dry(struct peer *peer, struct monotime now)
{
	struct listing *l = &peer->listing;
	if (!l->running || rpc_stream_room(peer->stream) == 0)
		return false;
	unsigned max = l->left < ADMIN_ROWS ? (unsigned)l->left : ADMIN_ROWS;
	unsigned n = methods[peer->method].step(peer, max, now);
	l->left -= n;
	if (l->cursor == 0 || l->left == 0) {
		l->running = false;
		peer_end(peer, STATUS_OK, "");
		return false;
	}
	return rpc_stream_room(peer->stream) > 0;
}

static const struct peer_ops admin_ops = {
    .message = message,
    .dry = dry,
};

int server_admin_call(struct server *server, struct grpc_call *call, const char *method,
		      unsigned roles)
{
	static const char service[] = "/conat.v1.NatAdmin/";
	if (strncmp(method, service, sizeof service - 1) != 0)
		return STATUS_UNIMPLEMENTED;
	for (unsigned i = 0; i < METHODS; i++) {
		if (strcmp(method + sizeof service - 1, methods[i].name) != 0)
			continue;
		if (!(roles & RPC_ROLE_OPERATOR))
			return STATUS_PERMISSION_DENIED;
		return peer_accept(server, call, &admin_ops, i, SERVER_ADMIN_QUEUE, true, NULL);
	}
	return STATUS_UNIMPLEMENTED;
}
