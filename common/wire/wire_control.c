/* SPDX-License-Identifier: Apache-2.0 */
/* The control stream: hello and welcome, heartbeats, configuration. */
#include <arpa/inet.h>
#include <string.h>
#include "common/wire/codec.h"
#include "conat/v1/nat_table.pb-c.h"

typedef Conat__V1__ControlFromDataplane from_dataplane_pb;
typedef Conat__V1__ControlFromTable from_table_pb;

size_t wire_encode_hello(struct wire_codec *codec, const struct wire_hello *hello,
			 const uint8_t **out)
{
	from_dataplane_pb m = CONAT__V1__CONTROL_FROM_DATAPLANE__INIT;
	Conat__V1__Hello h;
	char name[WIRE_NAME_MAX];
	conat__v1__hello__init(&h);
	memcpy(name, hello->name, sizeof name);
	name[sizeof name - 1] = 0;
	h.version_min = hello->version_min;
	h.version_max = hello->version_max;
	h.features = hello->features;
	h.incarnation_high = hello->incarnation[0];
	h.incarnation_low = hello->incarnation[1];
	h.name = name;
	h.epoch = hello->epoch;
	h.sequence = hello->sequence;
	h.flow_capacity = hello->flow_capacity;
	m.kind_case = CONAT__V1__CONTROL_FROM_DATAPLANE__KIND_HELLO;
	m.hello = &h;
	return wire_pack(codec, &m.base, out);
}

size_t wire_encode_heartbeat(struct wire_codec *codec, const struct wire_heartbeat *beat,
			     const uint8_t **out)
{
	from_dataplane_pb m = CONAT__V1__CONTROL_FROM_DATAPLANE__INIT;
	Conat__V1__Heartbeat h = CONAT__V1__HEARTBEAT__INIT;
	h.sent_ms = beat->sent_ms;
	h.acknowledged = beat->acknowledged;
	h.flows = beat->stats.flows;
	h.hits = beat->stats.hits;
	h.misses = beat->stats.misses;
	h.drops = beat->stats.drops;
	h.packets = beat->stats.packets;
	h.bytes = beat->stats.bytes;
	m.kind_case = CONAT__V1__CONTROL_FROM_DATAPLANE__KIND_HEARTBEAT;
	m.heartbeat = &h;
	return wire_pack(codec, &m.base, out);
}

size_t wire_encode_welcome(struct wire_codec *codec, const struct wire_welcome *welcome,
			   const uint8_t **out)
{
	from_table_pb m = CONAT__V1__CONTROL_FROM_TABLE__INIT;
	Conat__V1__Welcome w = CONAT__V1__WELCOME__INIT;
	w.version = welcome->version;
	w.epoch = welcome->epoch;
	w.dataplane = welcome->dataplane;
	w.lease_ms = welcome->lease_ms;
	w.heartbeat_ms = welcome->heartbeat_ms;
	w.grace_ms = welcome->grace_ms;
	w.batch_max = welcome->batch_max;
	w.inflight_max = welcome->inflight_max;
	w.flush = welcome->flush;
	w.draining = welcome->draining;
	w.sequence = welcome->sequence;
	m.kind_case = CONAT__V1__CONTROL_FROM_TABLE__KIND_WELCOME;
	m.welcome = &w;
	return wire_pack(codec, &m.base, out);
}

size_t wire_encode_heartbeat_ack(struct wire_codec *codec, const struct wire_heartbeat_ack *ack,
				 const uint8_t **out)
{
	from_table_pb m = CONAT__V1__CONTROL_FROM_TABLE__INIT;
	Conat__V1__HeartbeatAck a = CONAT__V1__HEARTBEAT_ACK__INIT;
	a.epoch = ack->epoch;
	a.sent_ms = ack->sent_ms;
	a.renewed = ack->renewed;
	a.draining = ack->draining;
	m.kind_case = CONAT__V1__CONTROL_FROM_TABLE__KIND_HEARTBEAT_ACK;
	m.heartbeat_ack = &a;
	return wire_pack(codec, &m.base, out);
}

size_t wire_encode_config(struct wire_codec *codec, const struct wire_config *config,
			  const uint8_t **out)
{
	from_table_pb m = CONAT__V1__CONTROL_FROM_TABLE__INIT;
	Conat__V1__Config c = CONAT__V1__CONFIG__INIT;
	uint32_t n = config->n_prefixes;
	if (n > WIRE_PREFIXES_MAX)
		return 0;
	Conat__V1__Prefix prefixes[WIRE_PREFIXES_MAX], *pointers[WIRE_PREFIXES_MAX];
	for (uint32_t i = 0; i < n; i++) {
		conat__v1__prefix__init(&prefixes[i]);
		prefixes[i].address = ntohl(config->prefixes[i].address);
		prefixes[i].length = config->prefixes[i].length;
		prefixes[i].realm = config->prefixes[i].realm;
		prefixes[i].kind = config->prefixes[i].kind;
		pointers[i] = &prefixes[i];
	}
	c.generation = config->generation;
	c.pending_timeout_ms = config->pending_timeout_ms;
	c.pending_packets = config->pending_packets;
	c.pending_per_flow = config->pending_per_flow;
	c.fragment_timeout_ms = config->fragment_timeout_ms;
	c.icmp_errors_per_second = config->icmp_errors_per_second;
	c.mss_clamp = config->mss_clamp;
	c.no_icmp_outside = config->no_icmp_outside;
	c.n_prefixes = n;
	c.prefixes = pointers;
	if (config->n_protocols > WIRE_PROTOCOLS_MAX)
		return 0;
	uint8_t protocols[WIRE_PROTOCOLS_MAX];
	memcpy(protocols, config->protocols, sizeof protocols);
	c.protocols.len = config->n_protocols;
	c.protocols.data = protocols;
	m.kind_case = CONAT__V1__CONTROL_FROM_TABLE__KIND_CONFIG;
	m.config = &c;
	return wire_pack(codec, &m.base, out);
}

/* A name goes into logs, tables and metrics labels: letters, digits, and . _ : - */
static bool name_is_plain(const char *name)
{
	size_t n = strlen(name);
	return n > 0 && n < WIRE_NAME_MAX &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:-") ==
		   n;
}

static int read_hello(struct wire_codec *codec, const Conat__V1__Hello *h, struct wire_hello *out)
{
	memset(out, 0, sizeof *out);
	if (h->version_min == 0 || h->version_min > h->version_max)
		return wire_refuse(codec, ERR_INVALID, "a version range that is empty");
	if (!h->incarnation_high && !h->incarnation_low)
		return wire_refuse(codec, ERR_INVALID, "a hello without incarnation");
	if (!name_is_plain(h->name))
		return wire_refuse(codec, ERR_INVALID,
				   "a name must have 1 to 63 letters, digits, or . _ : -");
	out->version_min = h->version_min;
	out->version_max = h->version_max;
	out->features = h->features;
	out->incarnation[0] = h->incarnation_high;
	out->incarnation[1] = h->incarnation_low;
	memcpy(out->name, h->name, strlen(h->name));
	out->epoch = h->epoch;
	out->sequence = h->sequence;
	out->flow_capacity = h->flow_capacity;
	return 0;
}

int wire_decode_from_dataplane(struct wire_codec *codec, const uint8_t *data, size_t length,
			       struct wire_control *out)
{
	if (length > WIRE_MESSAGE_MAX)
		return wire_refuse(codec, ERR_TOO_BIG, "message larger than the limit");
	const from_dataplane_pb *m =
	    wire_unpack(codec, &conat__v1__control_from_dataplane__descriptor, data, length);
	if (!m)
		return ERR_MALFORMED;
	switch (m->kind_case) {
	case CONAT__V1__CONTROL_FROM_DATAPLANE__KIND_HELLO:
		out->kind = WIRE_CONTROL_HELLO;
		return read_hello(codec, m->hello, &out->hello);
	case CONAT__V1__CONTROL_FROM_DATAPLANE__KIND_HEARTBEAT:
		out->kind = WIRE_CONTROL_HEARTBEAT;
		out->heartbeat = (struct wire_heartbeat){
		    .sent_ms = m->heartbeat->sent_ms,
		    .acknowledged = m->heartbeat->acknowledged,
		    .stats = {.flows = m->heartbeat->flows,
			      .hits = m->heartbeat->hits,
			      .misses = m->heartbeat->misses,
			      .drops = m->heartbeat->drops,
			      .packets = m->heartbeat->packets,
			      .bytes = m->heartbeat->bytes},
		};
		return 0;
	default:
		return wire_refuse(codec, ERR_INVALID, "a control message of unknown kind");
	}
}

static int read_welcome(struct wire_codec *codec, const Conat__V1__Welcome *w,
			struct wire_welcome *out)
{
	if (w->dataplane >= WIRE_DATAPLANES_MAX)
		return wire_refuse(codec, ERR_INVALID, "a dataplane number out of range");
	if (!w->lease_ms || !w->heartbeat_ms || w->heartbeat_ms >= w->lease_ms)
		return wire_refuse(codec, ERR_INVALID, "a lease not longer than its heartbeat");
	if (!w->batch_max || w->batch_max > WIRE_BATCH_MAX || !w->inflight_max ||
	    w->inflight_max > WIRE_INFLIGHT_MAX)
		return wire_refuse(codec, ERR_INVALID, "credits out of range");
	*out = (struct wire_welcome){
	    .version = w->version,
	    .epoch = w->epoch,
	    .dataplane = w->dataplane,
	    .lease_ms = w->lease_ms,
	    .heartbeat_ms = w->heartbeat_ms,
	    .grace_ms = w->grace_ms,
	    .batch_max = w->batch_max,
	    .inflight_max = w->inflight_max,
	    .flush = w->flush,
	    .draining = w->draining,
	    .sequence = w->sequence,
	};
	return 0;
}

static int read_config(struct wire_codec *codec, const Conat__V1__Config *c,
		       struct wire_config *out)
{
	memset(out, 0, sizeof *out);
	if (c->n_prefixes > WIRE_PREFIXES_MAX)
		return wire_refuse(codec, ERR_TOO_BIG, "more prefixes than a dataplane can hold");
	for (size_t i = 0; i < c->n_prefixes; i++) {
		const Conat__V1__Prefix *p = c->prefixes[i];
		if (p->address6.len)
			return wire_refuse(codec, ERR_INVALID, "IPv6 prefixes are reserved");
		if (p->length > 32 || p->realm > NAT_REALM_MAX || p->kind < WIRE_PREFIX_INSIDE ||
		    p->kind > WIRE_PREFIX_LAST)
			return wire_refuse(codec, ERR_INVALID, "a prefix out of range");
		out->prefixes[i].address = htonl(p->address);
		out->prefixes[i].length = (uint8_t)p->length;
		out->prefixes[i].realm = (uint8_t)p->realm;
		out->prefixes[i].kind = (uint8_t)p->kind;
	}
	if (c->mss_clamp > WIRE_MSS_AUTO &&
	    (c->mss_clamp < WIRE_MSS_MIN || c->mss_clamp > WIRE_MSS_MAX))
		return wire_refuse(codec, ERR_INVALID, "an MSS out of range");
	out->generation = c->generation;
	out->pending_timeout_ms = c->pending_timeout_ms;
	out->pending_packets = c->pending_packets;
	out->pending_per_flow = c->pending_per_flow;
	out->fragment_timeout_ms = c->fragment_timeout_ms;
	out->icmp_errors_per_second = c->icmp_errors_per_second;
	out->mss_clamp = (uint16_t)c->mss_clamp;
	out->no_icmp_outside = c->no_icmp_outside;
	out->n_prefixes = (uint32_t)c->n_prefixes;
	if (c->protocols.len > WIRE_PROTOCOLS_MAX)
		return wire_refuse(codec, ERR_TOO_BIG, "more protocols than there are");
	for (size_t i = 0; i < c->protocols.len; i++) {
		if (!nat_protocol_by_address(c->protocols.data[i]))
			return wire_refuse(codec, ERR_INVALID,
					   "a protocol that is not translated by address");
		out->protocols[i] = c->protocols.data[i];
	}
	out->n_protocols = (uint32_t)c->protocols.len;
	return 0;
}

int wire_decode_from_table(struct wire_codec *codec, const uint8_t *data, size_t length,
			   struct wire_control *out)
{
	if (length > WIRE_MESSAGE_MAX)
		return wire_refuse(codec, ERR_TOO_BIG, "message larger than the limit");
	const from_table_pb *m =
	    wire_unpack(codec, &conat__v1__control_from_table__descriptor, data, length);
	if (!m)
		return ERR_MALFORMED;
	switch (m->kind_case) {
	case CONAT__V1__CONTROL_FROM_TABLE__KIND_WELCOME:
		out->kind = WIRE_CONTROL_WELCOME;
		return read_welcome(codec, m->welcome, &out->welcome);
	case CONAT__V1__CONTROL_FROM_TABLE__KIND_HEARTBEAT_ACK:
		out->kind = WIRE_CONTROL_HEARTBEAT_ACK;
		out->ack = (struct wire_heartbeat_ack){
		    .epoch = m->heartbeat_ack->epoch,
		    .sent_ms = m->heartbeat_ack->sent_ms,
		    .renewed = m->heartbeat_ack->renewed,
		    .draining = m->heartbeat_ack->draining,
		};
		return 0;
	case CONAT__V1__CONTROL_FROM_TABLE__KIND_CONFIG:
		out->kind = WIRE_CONTROL_CONFIG;
		return read_config(codec, m->config, &out->config);
	default:
		return wire_refuse(codec, ERR_INVALID, "a control message of unknown kind");
	}
}
