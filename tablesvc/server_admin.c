/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NatAdmin. Requests are answered where they arrive; lists move on by one step of bounded size each
 * time the loop is dry and their stream has room, so they wait for the reader and nobody for them.
 */
#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "common/wire/codec.h"
#include "conat/v1/nat_admin.pb-c.h"
#include "tablesvc/server_private.h"

enum { ROWS = 128, PREFIX_TEXT = 24, POOL_PREFIXES = 256 };

typedef Conat__V1__Endpoint endpoint_pb;
typedef Conat__V1__Filter filter_pb;
typedef Conat__V1__StaticMapping static_pb;

static void reply(struct peer *peer, const ProtobufCMessage *message)
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
	reply(peer, message);
	peer_end(peer, STATUS_OK, "");
}

static void refuse(struct peer *peer, int err, const char *sentence)
{
	peer_end(peer, err_grpc_status(err), sentence ? sentence : err_text(err));
}

/* ---- values ---- */

static endpoint_pb endpoint_out(const struct nat_endpoint *e)
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
	    m->realm > NAT_REALM_MAX || !wire_protocol_known(m->protocol) ||
	    !endpoint_in(m->external, &out->external) || !endpoint_in(m->internal, &out->internal))
		return false;
	out->realm = (uint8_t)m->realm;
	out->protocol = (uint8_t)m->protocol;
	return out->external.address && out->external.port && out->internal.address &&
	       out->internal.port;
}

static char *text(const char *s)
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
	r.version = text(CONAT_VERSION);
	r.epoch = c.epoch;
	r.uptime_ms = (uint64_t)monotime_sub_ms(rpc_loop_now(server->loop), server->started);
	r.config_generation = server->config->generation;
	r.journal = text(server->journal->ops->name);
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
		       "a static mapping needs realm (1 to 255), protocol (1, 6, 17), and an "
		       "external and an internal IPv4 address with port");
		return;
	}
	int err = table_static_add(peer->server->table, &mapping, rpc_loop_now(peer->server->loop),
				   &state);
	if (err) {
		refuse(peer, err,
		       err == ERR_EXISTS    ? "the external endpoint has a static mapping already"
		       : err == ERR_INVALID ? "the external endpoint is in no pool, or the realm "
					      "is not configured"
		       : err == ERR_FULL    ? "no room for one more static mapping"
					    : NULL);
		return;
	}
	r.state = text(state);
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
	r.state = text("deleted");
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
	r.state = text(m->undo ? "attached" : "draining");
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

/* ---- lists: one step ---- */

static unsigned step_mappings(struct peer *peer, unsigned max, struct monotime now)
{
	static struct table_mapping_row rows[ROWS];
	Conat__V1__MappingRow out[ROWS], *pointers[ROWS];
	endpoint_pb internal[ROWS], external[ROWS];
	struct listing *l = &peer->listing;
	Conat__V1__MappingRows m = CONAT__V1__MAPPING_ROWS__INIT;
	unsigned n = table_mappings(peer->server->table, &l->filter, &l->cursor, rows, max, now);
	for (unsigned i = 0; i < n; i++) {
		conat__v1__mapping_row__init(&out[i]);
		internal[i] = endpoint_out(&rows[i].internal);
		external[i] = endpoint_out(&rows[i].external);
		out[i].realm = rows[i].realm;
		out[i].protocol = rows[i].protocol;
		out[i].internal = &internal[i];
		out[i].external = &external[i];
		out[i].sessions = rows[i].sessions;
		out[i].is_static = rows[i].is_static;
		out[i].pool = text(rows[i].pool);
		pointers[i] = &out[i];
	}
	m.n_rows = n;
	m.rows = pointers;
	if (n)
		reply(peer, &m.base);
	return n;
}

static unsigned step_sessions(struct peer *peer, unsigned max, struct monotime now)
{
	static struct table_session_row rows[ROWS];
	Conat__V1__SessionRow out[ROWS], *pointers[ROWS];
	endpoint_pb internal[ROWS], external[ROWS], remote[ROWS];
	struct listing *l = &peer->listing;
	Conat__V1__SessionRows m = CONAT__V1__SESSION_ROWS__INIT;
	unsigned n = table_sessions(peer->server->table, &l->filter, &l->cursor, rows, max, now);
	for (unsigned i = 0; i < n; i++) {
		conat__v1__session_row__init(&out[i]);
		internal[i] = endpoint_out(&rows[i].internal);
		external[i] = endpoint_out(&rows[i].external);
		remote[i] = endpoint_out(&rows[i].remote);
		out[i].realm = rows[i].realm;
		out[i].protocol = rows[i].protocol;
		out[i].internal = &internal[i];
		out[i].external = &external[i];
		out[i].remote = &remote[i];
		out[i].state = text(rows[i].state);
		out[i].holders = rows[i].holders;
		out[i].expires_ms = rows[i].expires_ms > 0 ? (uint64_t)rows[i].expires_ms : 0;
		out[i].handle = rows[i].handle;
		pointers[i] = &out[i];
	}
	m.n_rows = n;
	m.rows = pointers;
	if (n)
		reply(peer, &m.base);
	return n;
}

static unsigned step_subscribers(struct peer *peer, unsigned max, struct monotime now)
{
	static struct table_subscriber_row rows[ROWS];
	Conat__V1__SubscriberRow out[ROWS], *pointers[ROWS];
	endpoint_pb address[ROWS], external[ROWS];
	struct listing *l = &peer->listing;
	Conat__V1__SubscriberRows m = CONAT__V1__SUBSCRIBER_ROWS__INIT;
	unsigned n = table_subscribers(peer->server->table, &l->filter, &l->cursor, rows, max, now);
	for (unsigned i = 0; i < n; i++) {
		conat__v1__subscriber_row__init(&out[i]);
		address[i] = endpoint_out(&(struct nat_endpoint){.address = rows[i].address});
		external[i] = endpoint_out(&(struct nat_endpoint){.address = rows[i].external});
		out[i].realm = rows[i].realm;
		out[i].address = &address[i];
		out[i].pool = text(rows[i].pool);
		out[i].external = &external[i];
		out[i].blocks = rows[i].blocks;
		out[i].ports = rows[i].ports;
		out[i].sessions = rows[i].sessions;
		out[i].refused = rows[i].refused;
		pointers[i] = &out[i];
	}
	m.n_rows = n;
	m.rows = pointers;
	if (n)
		reply(peer, &m.base);
	return n;
}

static unsigned step_pools(struct peer *peer, unsigned max, struct monotime now)
{
	struct table_pool_row row;
	char prefixes[POOL_PREFIXES][PREFIX_TEXT], *pointers[POOL_PREFIXES];
	Conat__V1__PoolRow r;
	conat__v1__pool_row__init(&r);
	if (table_pools(peer->server->table, &peer->listing.cursor, &row, 1) == 0)
		return 0;
	unsigned n = row.n_prefixes < POOL_PREFIXES ? row.n_prefixes : POOL_PREFIXES;
	for (unsigned i = 0; i < n; i++) {
		char address[INET_ADDRSTRLEN];
		inet_ntop(AF_INET, &row.prefixes[i].address, address, sizeof address);
		snprintf(prefixes[i], sizeof prefixes[i], "%s/%u", address, row.prefixes[i].length);
		pointers[i] = prefixes[i];
	}
	r.name = text(row.name);
	r.n_prefixes = n;
	r.prefixes = pointers;
	r.addresses = row.addresses;
	r.blocks = row.blocks;
	r.blocks_used = row.blocks_used;
	r.blocks_resting = row.blocks_resting;
	r.ports_used = row.ports_used;
	r.exhausted_total = row.exhausted;
	reply(peer, &r.base);
	return 1;
}

static unsigned step_dataplanes(struct peer *peer, unsigned max, struct monotime now)
{
	struct server *server = peer->server;
	struct table_dataplane_row row;
	char incarnation[40], from[128] = "";
	Conat__V1__DataplaneRow r;
	conat__v1__dataplane_row__init(&r);
	if (table_dataplanes(server->table, &peer->listing.cursor, &row, 1, now) == 0)
		return 0;
	if (row.id < WIRE_DATAPLANES_MAX && server->attachments[row.id].control)
		rpc_stream_peer(server->attachments[row.id].control->stream, from, sizeof from);
	snprintf(incarnation, sizeof incarnation, "%016" PRIx64 "%016" PRIx64, row.incarnation[0],
		 row.incarnation[1]);
	r.id = row.id;
	r.name = text(row.name);
	r.state = text(row.state);
	r.peer = from;
	r.lease_left_ms = row.lease_left_ms > 0 ? (uint64_t)row.lease_left_ms : 0;
	r.fence_left_ms = row.fence_left_ms > 0 ? (uint64_t)row.fence_left_ms : 0;
	r.flows = row.stats.flows;
	r.hits = row.stats.hits;
	r.misses = row.stats.misses;
	r.drops = row.stats.drops;
	r.packets = row.stats.packets;
	r.bytes = row.stats.bytes;
	r.unacknowledged = row.unacknowledged;
	r.incarnation = incarnation;
	reply(peer, &r.base);
	return 1;
}

static unsigned step_statics(struct peer *peer, unsigned max, struct monotime now)
{
	struct table_static_row row;
	static_pb r;
	conat__v1__static_mapping__init(&r);
	if (table_statics(peer->server->table, &peer->listing.cursor, &row, 1) == 0)
		return 0;
	endpoint_pb external = endpoint_out(&row.mapping.external);
	endpoint_pb internal = endpoint_out(&row.mapping.internal);
	r.realm = row.mapping.realm;
	r.protocol = row.mapping.protocol;
	r.external = &external;
	r.internal = &internal;
	r.state = text(row.state);
	r.origin = text(row.origin);
	reply(peer, &r.base);
	return 1;
}

/* ---- methods ---- */

struct method {
	const char *name;
	const ProtobufCMessageDescriptor *request;
	void (*answer)(struct peer *peer, const void *message);			/* one reply */
	unsigned (*step)(struct peer *peer, unsigned max, struct monotime now); /* a list */
};

static const struct method methods[] = {
    {"Status", &conat__v1__status_request__descriptor, .answer = status},
    {"StaticAdd", &conat__v1__static_mapping__descriptor, .answer = static_add},
    {"StaticDelete", &conat__v1__static_mapping__descriptor, .answer = static_delete},
    {"Delete", &conat__v1__filter__descriptor, .answer = delete},
    {"Drain", &conat__v1__drain_request__descriptor, .answer = drain},
    {"Mappings", &conat__v1__filter__descriptor, .step = step_mappings},
    {"Sessions", &conat__v1__filter__descriptor, .step = step_sessions},
    {"Subscribers", &conat__v1__filter__descriptor, .step = step_subscribers},
    {"Dataplanes", &conat__v1__dataplanes_request__descriptor, .step = step_dataplanes},
    {"Pools", &conat__v1__pools_request__descriptor, .step = step_pools},
    {"StaticList", &conat__v1__static_list_request__descriptor, .step = step_statics},
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
	unsigned max = l->left < ROWS ? (unsigned)l->left : ROWS;
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
