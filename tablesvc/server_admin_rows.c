/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of NatAdmin's lists: from the table's to the wire's. */
#include "tablesvc/server_admin.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

enum { PREFIX_TEXT = 24, POOL_PREFIXES = 256, ROW_ENDPOINTS = 3 };

/* ---- many rows in a message ---- */

/* What protobuf-c makes of "message XRows { repeated XRow rows = 1; }", whatever X is. */
struct rows_message {
	ProtobufCMessage base;
	size_t n_rows;
	void **rows;
};
_Static_assert(sizeof(struct rows_message) == sizeof(Conat__V1__MappingRows) &&
		   sizeof(struct rows_message) == sizeof(Conat__V1__SessionRows) &&
		   sizeof(struct rows_message) == sizeof(Conat__V1__SubscriberRows) &&
		   offsetof(struct rows_message, rows) == offsetof(Conat__V1__MappingRows, rows),
	       "one field, and it is rows");

struct row {
	union {
		ProtobufCMessage base;
		Conat__V1__MappingRow mapping;
		Conat__V1__SessionRow session;
		Conat__V1__SubscriberRow subscriber;
	};
	endpoint_pb endpoints[ROW_ENDPOINTS]; /* that the row points to */
};

/* rows: n of the table's, of "size" bytes each; fill makes one of the wire's of each. */
static void send_rows(struct peer *peer, const ProtobufCMessageDescriptor *type, const void *rows,
		      size_t size, unsigned n, void (*fill)(const void *from, struct row *to))
{
	static struct row out[ADMIN_ROWS];
	void *pointers[ADMIN_ROWS];
	struct rows_message message;

	if (n == 0)
		return;
	protobuf_c_message_init(type, &message.base);
	for (unsigned i = 0; i < n; i++) {
		protobuf_c_message_init(type->fields[0].descriptor, &out[i].base);
		fill((const char *)rows + i * size, &out[i]);
		pointers[i] = &out[i].base;
	}
	message.n_rows = n;
	message.rows = pointers;
	admin_reply(peer, &message.base);
}

static endpoint_pb *endpoint_of(struct row *row, unsigned i, const struct nat_endpoint *from)
{
	row->endpoints[i] = admin_endpoint(from);
	return &row->endpoints[i];
}

static void fill_mapping(const void *from, struct row *to)
{
	const struct table_mapping_row *row = from;

	to->mapping.realm = row->realm;
	to->mapping.protocol = row->protocol;
	to->mapping.internal = endpoint_of(to, 0, &row->internal);
	to->mapping.external = endpoint_of(to, 1, &row->external);
	to->mapping.sessions = row->sessions;
	to->mapping.made_by = admin_text(row->made_by);
	to->mapping.pool = admin_text(row->pool);
}

unsigned admin_mappings(struct peer *peer, unsigned max, struct monotime now)
{
	static struct table_mapping_row rows[ADMIN_ROWS];
	struct listing *l = &peer->listing;
	unsigned n = table_mappings(peer->server->table, &l->filter, &l->cursor, rows, max, now);

	send_rows(peer, &conat__v1__mapping_rows__descriptor, rows, sizeof rows[0], n,
		  fill_mapping);
	return n;
}

static void fill_session(const void *from, struct row *to)
{
	const struct table_session_row *row = from;

	to->session.realm = row->realm;
	to->session.protocol = row->protocol;
	to->session.internal = endpoint_of(to, 0, &row->internal);
	to->session.external = endpoint_of(to, 1, &row->external);
	to->session.remote = endpoint_of(to, 2, &row->remote);
	to->session.state = admin_text(row->state);
	to->session.holders = row->holders;
	to->session.expires_ms = row->expires_ms > 0 ? (uint64_t)row->expires_ms : 0;
	to->session.handle = row->handle;
}

unsigned admin_sessions(struct peer *peer, unsigned max, struct monotime now)
{
	static struct table_session_row rows[ADMIN_ROWS];
	struct listing *l = &peer->listing;
	unsigned n = table_sessions(peer->server->table, &l->filter, &l->cursor, rows, max, now);

	send_rows(peer, &conat__v1__session_rows__descriptor, rows, sizeof rows[0], n,
		  fill_session);
	return n;
}

static void fill_subscriber(const void *from, struct row *to)
{
	const struct table_subscriber_row *row = from;

	to->subscriber.realm = row->realm;
	to->subscriber.address =
	    endpoint_of(to, 0, &(struct nat_endpoint){.address = row->address});
	to->subscriber.external =
	    endpoint_of(to, 1, &(struct nat_endpoint){.address = row->external});
	to->subscriber.pool = admin_text(row->pool);
	to->subscriber.blocks = row->blocks;
	to->subscriber.ports = row->ports;
	to->subscriber.sessions = row->sessions;
	to->subscriber.refused = row->refused;
}

unsigned admin_subscribers(struct peer *peer, unsigned max, struct monotime now)
{
	static struct table_subscriber_row rows[ADMIN_ROWS];
	struct listing *l = &peer->listing;
	unsigned n = table_subscribers(peer->server->table, &l->filter, &l->cursor, rows, max, now);

	send_rows(peer, &conat__v1__subscriber_rows__descriptor, rows, sizeof rows[0], n,
		  fill_subscriber);
	return n;
}

/* ---- a message a row: these lists are short ---- */

unsigned admin_pools(struct peer *peer, unsigned max, struct monotime now)
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
	r.name = admin_text(row.name);
	r.n_prefixes = n;
	r.prefixes = pointers;
	r.addresses = row.addresses;
	r.blocks = row.blocks;
	r.blocks_used = row.blocks_used;
	r.blocks_resting = row.blocks_resting;
	r.ports_used = row.ports_used;
	r.exhausted_total = row.exhausted;
	r.blocks_shared = row.blocks_shared;
	r.blocks_free = row.blocks_free;
	r.above = row.above;
	r.mode = admin_text(row.ratio ? "deterministic" : "dynamic");
	r.ratio = row.ratio;
	r.ports_per_subscriber = row.ports_per_subscriber;
	admin_reply(peer, &r.base);
	return 1;
}

unsigned admin_dataplanes(struct peer *peer, unsigned max, struct monotime now)
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
	r.name = admin_text(row.name);
	r.state = admin_text(row.state);
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
	admin_reply(peer, &r.base);
	return 1;
}

unsigned admin_statics(struct peer *peer, unsigned max, struct monotime now)
{
	struct table_static_row row;
	Conat__V1__StaticMapping r;
	conat__v1__static_mapping__init(&r);
	if (table_statics(peer->server->table, &peer->listing.cursor, &row, 1) == 0)
		return 0;
	endpoint_pb external = admin_endpoint(&row.mapping.external);
	endpoint_pb internal = admin_endpoint(&row.mapping.internal);
	r.realm = row.mapping.realm;
	r.protocol = row.mapping.protocol;
	r.external = &external;
	r.internal = &internal;
	r.state = admin_text(row.state);
	r.origin = admin_text(row.origin);
	admin_reply(peer, &r.base);
	return 1;
}
