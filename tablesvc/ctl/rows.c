/* SPDX-License-Identifier: Apache-2.0 */
#include "tablesvc/ctl/rows.h"
#include "tablesvc/ctl/who.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <string.h>

enum { ENDPOINT_BYTES = 24 };

typedef Conat__V1__Endpoint endpoint_pb;
typedef union output_value value;

/* ---- values ---- */

static value text(const char *s)
{
	return (value){.text = s};
}

static value number(uint64_t n)
{
	return (value){.number = n};
}

static value endpoint(const endpoint_pb *e, char buffer[ENDPOINT_BYTES])
{
	char address[INET_ADDRSTRLEN];
	struct in_addr in = {.s_addr = e ? htonl(e->address) : 0};

	buffer[0] = '\0';
	if (e) {
		inet_ntop(AF_INET, &in, address, sizeof address);
		snprintf(buffer, ENDPOINT_BYTES, "%s:%" PRIu16, address, (uint16_t)e->port);
	}
	return text(buffer);
}

static value address_of(const endpoint_pb *e, char buffer[ENDPOINT_BYTES])
{
	endpoint(e, buffer);
	*strchrnul(buffer, ':') = '\0';
	return text(buffer);
}

static value protocol(uint32_t n, char buffer[ENDPOINT_BYTES])
{
	snprintf(buffer, ENDPOINT_BYTES, "%" PRIu32, n);
	const char *name = nat_protocol_name(n);
	return text(name ? name : buffer);
}

/* ---- replies ---- */

static const struct output_column status_columns[] = {
    {"version", "version", OUTPUT_TEXT, 0},
    {"epoch", "epoch", OUTPUT_NUMBER, 0},
    {"uptime_ms", "up", OUTPUT_MS, 0},
    {"config_generation", "configuration", OUTPUT_NUMBER, 0},
    {"journal", "journal", OUTPUT_TEXT, 0},
    {"dataplanes", "dataplanes", OUTPUT_NUMBER, 0},
    {"mappings", "mappings", OUTPUT_NUMBER, 0},
    {"mappings_capacity", "  room for", OUTPUT_NUMBER, 0},
    {"sessions", "sessions", OUTPUT_NUMBER, 0},
    {"sessions_capacity", "  room for", OUTPUT_NUMBER, 0},
    {"subscribers", "subscribers", OUTPUT_NUMBER, 0},
    {"fenced_endpoints", "fenced endpoints", OUTPUT_NUMBER, 0},
    {"created_total", "created", OUTPUT_NUMBER, 0},
    {"resolved_total", "resolved", OUTPUT_NUMBER, 0},
    {"refused_total", "refused", OUTPUT_NUMBER, 0},
    {NULL},
};

static void print_status(struct run *run, const void *reply)
{
	const Conat__V1__StatusReply *r = reply;
	const value values[] = {
	    text(r->version),	      number(r->epoch),
	    number(r->uptime_ms),     number(r->config_generation),
	    text(r->journal),	      number(r->dataplanes),
	    number(r->mappings),      number(r->mappings_capacity),
	    number(r->sessions),      number(r->sessions_capacity),
	    number(r->subscribers),   number(r->fenced_endpoints),
	    number(r->created_total), number(r->resolved_total),
	    number(r->refused_total),
	};
	output_single(run->out, run->args->json, run->command->columns, values);
}

static const struct output_column dataplane_columns[] = {
    {"id", "ID", OUTPUT_NUMBER, 2},
    {"name", "NAME", OUTPUT_TEXT, -16},
    {"state", "STATE", OUTPUT_TEXT, -8},
    {"lease_left_ms", "LEASE", OUTPUT_MS, 7},
    {"fence_left_ms", "FENCE", OUTPUT_MS, 7},
    {"flows", "FLOWS", OUTPUT_NUMBER, 9},
    {"hits", "HITS", OUTPUT_NUMBER, 12},
    {"misses", "MISSES", OUTPUT_NUMBER, 10},
    {"drops", "DROPS", OUTPUT_NUMBER, 10},
    {"packets", "PACKETS", OUTPUT_NUMBER, 12},
    {"bytes", "BYTES", OUTPUT_NUMBER, 15},
    {"unacknowledged", "UNACKED", OUTPUT_NUMBER, 7},
    {"peer", "PEER", OUTPUT_TEXT, -26},
    {"incarnation", "INCARNATION", OUTPUT_TEXT, -32},
    {NULL},
};

static void print_dataplane(struct run *run, const void *reply)
{
	const Conat__V1__DataplaneRow *r = reply;
	const value values[] = {
	    number(r->id),
	    text(r->name),
	    text(r->state),
	    number(r->lease_left_ms),
	    number(r->fence_left_ms),
	    number(r->flows),
	    number(r->hits),
	    number(r->misses),
	    number(r->drops),
	    number(r->packets),
	    number(r->bytes),
	    number(r->unacknowledged),
	    text(r->peer),
	    text(r->incarnation),
	};
	output_row(&run->output, values);
}

static const struct output_column mapping_columns[] = {
    {"realm", "REALM", OUTPUT_NUMBER, 5},	{"protocol", "PROTO", OUTPUT_TEXT, -5},
    {"internal", "INTERNAL", OUTPUT_TEXT, -21}, {"external", "EXTERNAL", OUTPUT_TEXT, -21},
    {"sessions", "SESSIONS", OUTPUT_NUMBER, 8}, {"made_by", "MADE BY", OUTPUT_TEXT, -7},
    {"pool", "POOL", OUTPUT_TEXT, -16},		{NULL},
};

static void print_mappings(struct run *run, const void *reply)
{
	const Conat__V1__MappingRows *rows = reply;
	char a[3][ENDPOINT_BYTES];

	for (size_t i = 0; i < rows->n_rows; i++) {
		const Conat__V1__MappingRow *r = rows->rows[i];
		const value values[] = {
		    number(r->realm),
		    protocol(r->protocol, a[0]),
		    endpoint(r->internal, a[1]),
		    endpoint(r->external, a[2]),
		    number(r->sessions),
		    text(r->made_by),
		    text(r->pool),
		};
		output_row(&run->output, values);
	}
}

static const struct output_column session_columns[] = {
    {"realm", "REALM", OUTPUT_NUMBER, 5},	{"protocol", "PROTO", OUTPUT_TEXT, -5},
    {"internal", "INTERNAL", OUTPUT_TEXT, -21}, {"external", "EXTERNAL", OUTPUT_TEXT, -21},
    {"remote", "REMOTE", OUTPUT_TEXT, -21},	{"state", "STATE", OUTPUT_TEXT, -12},
    {"expires_ms", "EXPIRES", OUTPUT_MS, 7},	{"holders", "HOLDERS", OUTPUT_BITS, -8},
    {"handle", "HANDLE", OUTPUT_HANDLE, -16},	{NULL},
};

static void print_sessions(struct run *run, const void *reply)
{
	const Conat__V1__SessionRows *rows = reply;
	char a[4][ENDPOINT_BYTES];

	for (size_t i = 0; i < rows->n_rows; i++) {
		const Conat__V1__SessionRow *r = rows->rows[i];
		const value values[] = {
		    number(r->realm),
		    protocol(r->protocol, a[0]),
		    endpoint(r->internal, a[1]),
		    endpoint(r->external, a[2]),
		    endpoint(r->remote, a[3]),
		    text(r->state),
		    number(r->expires_ms),
		    number(r->holders),
		    number(r->handle),
		};
		output_row(&run->output, values);
	}
}

static const struct output_column subscriber_columns[] = {
    {"realm", "REALM", OUTPUT_NUMBER, 5},
    {"address", "ADDRESS", OUTPUT_TEXT, -15},
    {"external", "EXTERNAL", OUTPUT_TEXT, -15},
    {"blocks", "BLOCKS", OUTPUT_NUMBER, 6},
    {"ports", "PORTS", OUTPUT_NUMBER, 6},
    {"sessions", "SESSIONS", OUTPUT_NUMBER, 8},
    {"refused", "REFUSED", OUTPUT_NUMBER, 8},
    {"pool", "POOL", OUTPUT_TEXT, -16},
    {NULL},
};

static void print_subscribers(struct run *run, const void *reply)
{
	const Conat__V1__SubscriberRows *rows = reply;
	char a[2][ENDPOINT_BYTES];

	for (size_t i = 0; i < rows->n_rows; i++) {
		const Conat__V1__SubscriberRow *r = rows->rows[i];
		const value values[] = {
		    number(r->realm),
		    address_of(r->address, a[0]),
		    address_of(r->external, a[1]),
		    number(r->blocks),
		    number(r->ports),
		    number(r->sessions),
		    number(r->refused),
		    text(r->pool),
		};
		output_row(&run->output, values);
	}
}

static const struct output_column pool_columns[] = {
    {"name", "NAME", OUTPUT_TEXT, -16},
    {"addresses", "ADDRESSES", OUTPUT_NUMBER, 9},
    {"blocks", "BLOCKS", OUTPUT_NUMBER, 9},
    {"blocks_used", "USED", OUTPUT_NUMBER, 9},
    {"blocks_resting", "RESTING", OUTPUT_NUMBER, 9},
    {"ports_used", "PORTS USED", OUTPUT_NUMBER, 10},
    {"exhausted_total", "EXHAUSTED", OUTPUT_NUMBER, 9},
    {"blocks_shared", "SHARED", OUTPUT_NUMBER, 9},
    {"blocks_free", "FREE", OUTPUT_NUMBER, 9},
    {"above", "ABOVE", OUTPUT_BOOL, -5},
    {"mode", "MODE", OUTPUT_TEXT, -13},
    {"ratio", "RATIO", OUTPUT_NUMBER, 6},
    {"ports_per_subscriber", "PORTS EACH", OUTPUT_NUMBER, 10},
    {"prefixes", "PREFIXES", OUTPUT_LIST, -18},
    {NULL},
};

static void print_pool(struct run *run, const void *reply)
{
	const Conat__V1__PoolRow *r = reply;
	char prefixes[256 * 20] = "";
	size_t used = 0;

	for (size_t i = 0; i < r->n_prefixes && used < sizeof prefixes; i++)
		used += (size_t)snprintf(prefixes + used, sizeof prefixes - used, "%s%s",
					 i ? "," : "", r->prefixes[i]);
	const value values[] = {
	    text(r->name),
	    number(r->addresses),
	    number(r->blocks),
	    number(r->blocks_used),
	    number(r->blocks_resting),
	    number(r->ports_used),
	    number(r->exhausted_total),
	    number(r->blocks_shared),
	    number(r->blocks_free),
	    number(r->above),
	    text(r->mode),
	    number(r->ratio),
	    number(r->ports_per_subscriber),
	    text(prefixes),
	};
	output_row(&run->output, values);
}

static const struct output_column static_columns[] = {
    {"realm", "REALM", OUTPUT_NUMBER, 5},
    {"protocol", "PROTO", OUTPUT_TEXT, -5},
    {"external", "EXTERNAL", OUTPUT_TEXT, -21},
    {"internal", "INTERNAL", OUTPUT_TEXT, -21},
    {"origin", "ORIGIN", OUTPUT_TEXT, -13},
    {"state", "STATE", OUTPUT_TEXT, -8},
    {NULL},
};

static void print_static(struct run *run, const void *reply)
{
	const Conat__V1__StaticMapping *r = reply;
	char a[3][ENDPOINT_BYTES];
	bool whole = r->protocol == 0; /* 1:1 */
	const value values[] = {
	    number(r->realm),
	    whole ? text("all") : protocol(r->protocol, a[0]),
	    whole ? address_of(r->external, a[1]) : endpoint(r->external, a[1]),
	    whole ? address_of(r->internal, a[2]) : endpoint(r->internal, a[2]),
	    text(r->origin),
	    text(r->state),
	};
	output_row(&run->output, values);
}

/* static del without INTERNAL: which internal endpoint has it? */
static void look_for_static(struct run *run, const void *reply)
{
	const Conat__V1__StaticMapping *r = reply;
	const struct args *args = run->args;

	if (!r->external || !r->internal || r->realm != args->realm ||
	    r->protocol != args->protocol ||
	    r->external->address != ntohl(args->external.address) ||
	    r->external->port != ntohs(args->external.port))
		return;
	run->found = true;
	run->internal_found.address = htonl(r->internal->address);
	run->internal_found.port = htons((uint16_t)r->internal->port);
}

static const struct output_column state_columns[] = {{"state", "state", OUTPUT_TEXT, 0}, {NULL}};

static void print_static_state(struct run *run, const void *reply)
{
	const Conat__V1__StaticReply *r = reply;
	const value values[] = {text(r->state)};

	output_single(run->out, run->args->json, run->command->columns, values);
}

static const struct output_column delete_columns[] = {
    {"mappings", "mappings ended", OUTPUT_NUMBER, 0},
    {"sessions", "sessions ended", OUTPUT_NUMBER, 0},
    {NULL},
};

static void print_deleted(struct run *run, const void *reply)
{
	const Conat__V1__DeleteReply *r = reply;
	const value values[] = {number(r->mappings), number(r->sessions)};

	run->acted_on = r->mappings;
	output_single(run->out, run->args->json, run->command->columns, values);
}

static const struct output_column drain_columns[] = {
    {"state", "state", OUTPUT_TEXT, 0},
    {"sessions_held", "flows it holds", OUTPUT_NUMBER, 0},
    {NULL},
};

static void print_drain(struct run *run, const void *reply)
{
	const Conat__V1__DrainReply *r = reply;
	const value values[] = {text(r->state), number(r->sessions_held)};

	output_single(run->out, run->args->json, run->command->columns, values);
}

const struct command rows_commands[ARGS_COMMANDS] = {
    [ARGS_STATUS] = {"Status", &conat__v1__status_reply__descriptor, print_status, status_columns},
    [ARGS_DATAPLANES] = {"Dataplanes", &conat__v1__dataplane_row__descriptor, print_dataplane,
			 dataplane_columns, true},
    [ARGS_MAPPINGS] = {"Mappings", &conat__v1__mapping_rows__descriptor, print_mappings,
		       mapping_columns, true},
    [ARGS_SESSIONS] = {"Sessions", &conat__v1__session_rows__descriptor, print_sessions,
		       session_columns, true},
    [ARGS_SUBSCRIBERS] = {"Subscribers", &conat__v1__subscriber_rows__descriptor, print_subscribers,
			  subscriber_columns, true},
    [ARGS_POOLS] = {"Pools", &conat__v1__pool_row__descriptor, print_pool, pool_columns, true},
    [ARGS_STATIC_LIST] = {"StaticList", &conat__v1__static_mapping__descriptor, print_static,
			  static_columns, true},
    [ARGS_STATIC_ADD] = {"StaticAdd", &conat__v1__static_reply__descriptor, print_static_state,
			 state_columns},
    [ARGS_STATIC_DEL] = {"StaticDelete", &conat__v1__static_reply__descriptor, print_static_state,
			 state_columns},
    [ARGS_DELETE] = {"Delete", &conat__v1__delete_reply__descriptor, print_deleted, delete_columns},
    [ARGS_DRAIN] = {"Drain", &conat__v1__drain_reply__descriptor, print_drain, drain_columns},
    [ARGS_WHO] = {"Who", &conat__v1__who_reply__descriptor, who_print, who_columns},
};
const struct command rows_static_lookup = {"StaticList", &conat__v1__static_mapping__descriptor,
					   look_for_static, NULL, false};
