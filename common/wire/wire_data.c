/* SPDX-License-Identifier: Apache-2.0 */
/* The data stream's columns: batches, answers, notices. */
#include <arpa/inet.h>
#include <string.h>
#include "common/wire/codec.h"
#include "conat/v1/nat_table.pb-c.h"

typedef Conat__V1__DataplaneMessage batch_pb;
typedef Conat__V1__TableMessage table_pb;
typedef Conat__V1__AnswerColumns answer_pb;
typedef Conat__V1__NoticeColumns notice_pb;

static uint32_t ports_out(nat_be16 source, nat_be16 destination)
{
	return (uint32_t)ntohs(source) << 16 | ntohs(destination);
}

/* A column of n elements, or none at all when every element is 0. */
#define COLUMN(message, field, any, array)                                                         \
	do {                                                                                       \
		if (any) {                                                                         \
			(message)->n_##field = n;                                                  \
			(message)->field = (array);                                                \
		}                                                                                  \
	} while (0)
#define BYTES(message, field_, any, array)                                                         \
	do {                                                                                       \
		if (any) {                                                                         \
			(message)->field_.len = n;                                                 \
			(message)->field_.data = (array);                                          \
		}                                                                                  \
	} while (0)

size_t wire_encode_batch(struct wire_codec *codec, const struct wire_batch *batch,
			 const uint64_t *incarnation, const uint8_t **out)
{
	batch_pb m = CONAT__V1__DATAPLANE_MESSAGE__INIT;
	size_t n = batch->n;
	if (n > WIRE_BATCH_MAX)
		return 0;
	uint32_t tuples = 0, ages = 0, realms = 0, flags = 0, directions = 0;
	uint64_t handles = 0;
	for (size_t i = 0; i < n; i++) {
		const struct wire_request *r = &batch->entries[i];
		const struct nat_tuple *t = &r->tuple;
		codec->source[i] = ntohl(t->source);
		codec->destination[i] = ntohl(t->destination);
		codec->ports[i] = ports_out(t->source_port, t->destination_port);
		codec->handle[i] = r->handle;
		codec->number[i] = r->age_ms;
		codec->byte[0][i] = r->op;
		codec->byte[1][i] = t->protocol;
		codec->byte[2][i] = t->realm;
		codec->byte[3][i] = r->tcp_flags;
		codec->byte[4][i] = r->direction;
		tuples |= t->source | t->destination | codec->ports[i] | t->protocol;
		handles |= r->handle | !wire_op_is_question(r->op);
		ages |= r->age_ms;
		realms |= t->realm;
		flags |= r->tcp_flags;
		directions |= r->direction;
	}
	if (incarnation) {
		m.incarnation_high = incarnation[0];
		m.incarnation_low = incarnation[1];
	}
	m.sequence = batch->sequence;
	m.acknowledged = batch->acknowledged;
	m.n = (uint32_t)n;
	BYTES(&m, op, n, codec->byte[0]);
	BYTES(&m, protocol, tuples, codec->byte[1]);
	BYTES(&m, realm, realms, codec->byte[2]);
	BYTES(&m, tcp_flags, flags, codec->byte[3]);
	BYTES(&m, direction, directions, codec->byte[4]);
	COLUMN(&m, source, tuples, codec->source);
	COLUMN(&m, destination, tuples, codec->destination);
	COLUMN(&m, ports, tuples, codec->ports);
	COLUMN(&m, handle, handles, codec->handle);
	COLUMN(&m, age_ms, ages, codec->number);
	return wire_pack(codec, &m.base, out);
}

/* A column is empty or has exactly n elements. */
static bool even(size_t length, size_t n)
{
	return length == 0 || length == n;
}

static int check_n(struct wire_codec *codec, size_t n, size_t length)
{
	if (length > WIRE_MESSAGE_MAX)
		return wire_refuse(codec, ERR_TOO_BIG, "message larger than the limit");
	if (n > WIRE_BATCH_MAX)
		return wire_refuse(codec, ERR_TOO_BIG, "more entries than a message may have");
	return 0;
}

int wire_decode_batch(struct wire_codec *codec, const uint8_t *data, size_t length,
		      struct wire_batch *out, bool *first, uint64_t incarnation[2])
{
	int err = check_n(codec, 0, length);
	if (err)
		return err;
	const batch_pb *m =
	    wire_unpack(codec, &conat__v1__dataplane_message__descriptor, data, length);
	if (!m)
		return ERR_MALFORMED;
	size_t n = m->n;
	err = check_n(codec, n, length);
	if (err)
		return err;
	if (m->source6.len || m->destination6.len)
		return wire_refuse(codec, ERR_INVALID, "IPv6 columns are reserved");
	if (m->op.len != n || !even(m->protocol.len, n) || !even(m->realm.len, n) ||
	    !even(m->tcp_flags.len, n) || !even(m->direction.len, n) || !even(m->n_source, n) ||
	    !even(m->n_destination, n) || !even(m->n_ports, n) || !even(m->n_handle, n) ||
	    !even(m->n_age_ms, n))
		return wire_refuse(codec, ERR_UNEVEN, "a column has not n elements");
	if (n && m->sequence == 0)
		return wire_refuse(codec, ERR_MALFORMED, "entries without a sequence number");

	bool tuples = m->n_source && m->n_destination && m->n_ports && m->protocol.len;
	for (size_t i = 0; i < n; i++) {
		struct wire_request *r = &out->entries[i];
		memset(r, 0, sizeof *r);
		r->op = m->op.data[i];
		if (r->op < WIRE_RESOLVE_OUT || r->op > WIRE_DROPPED || r->op == WIRE_FRAGMENT)
			return wire_refuse(codec, ERR_INVALID, "unknown operation");
		if (m->tcp_flags.len)
			r->tcp_flags = m->tcp_flags.data[i];
		if (m->direction.len)
			r->direction = m->direction.data[i];
		if (r->direction > NAT_INBOUND)
			return wire_refuse(codec, ERR_INVALID, "unknown direction");
		if (!wire_op_is_question(r->op)) {
			if (!m->n_handle)
				return wire_refuse(codec, ERR_UNEVEN, "a report without handle");
			r->handle = m->handle[i];
			r->age_ms = m->n_age_ms ? m->age_ms[i] : 0;
			continue;
		}
		if (!tuples)
			return wire_refuse(codec, ERR_UNEVEN, "a question without tuple");
		if (!wire_protocol_known(m->protocol.data[i]))
			return wire_refuse(codec, ERR_INVALID, "unknown protocol");
		r->tuple.source = htonl(m->source[i]);
		r->tuple.destination = htonl(m->destination[i]);
		r->tuple.source_port = htons((uint16_t)(m->ports[i] >> 16));
		r->tuple.destination_port = htons((uint16_t)m->ports[i]);
		r->tuple.protocol = m->protocol.data[i];
		r->tuple.realm = m->realm.len ? m->realm.data[i] : 0;
	}
	out->sequence = m->sequence;
	out->acknowledged = m->acknowledged;
	out->n = (uint32_t)n;
	incarnation[0] = m->incarnation_high;
	incarnation[1] = m->incarnation_low;
	*first = incarnation[0] || incarnation[1];
	return 0;
}

static void fill_answers(struct wire_codec *codec, const struct wire_message *in, answer_pb *a)
{
	size_t n = in->n;
	uint32_t rewrites = 0, ttls = 0, reasons = 0, directions = 0, egress = 0;
	uint64_t handles = 0, peers = 0;
	for (size_t i = 0; i < n; i++) {
		const struct wire_answer *e = &in->answers[i];
		const struct nat_rewrite *w = &e->rewrite;
		codec->source[i] = ntohl(w->source);
		codec->destination[i] = ntohl(w->destination);
		codec->ports[i] = ports_out(w->source_port, w->destination_port);
		codec->handle[i] = e->handle;
		codec->peer[i] = e->peer_handle;
		codec->number[i] = e->ttl_ms;
		codec->byte[0][i] = e->verdict;
		codec->byte[1][i] = e->reason;
		codec->byte[2][i] = e->direction;
		codec->byte[3][i] = w->egress;
		rewrites |=
		    w->source | w->destination | codec->ports[i] | (e->verdict == NAT_TRANSLATE);
		handles |= e->handle;
		peers |= e->handle ^ e->peer_handle;
		ttls |= e->ttl_ms;
		reasons |= e->reason;
		directions |= e->direction;
		egress |= w->egress;
	}
	a->request_sequence = in->request_sequence;
	a->n = (uint32_t)n;
	BYTES(a, verdict, n, codec->byte[0]);
	BYTES(a, reason, reasons, codec->byte[1]);
	BYTES(a, direction, directions, codec->byte[2]);
	BYTES(a, egress, egress, codec->byte[3]);
	COLUMN(a, source, rewrites, codec->source);
	COLUMN(a, destination, rewrites, codec->destination);
	COLUMN(a, ports, rewrites, codec->ports);
	COLUMN(a, handle, handles, codec->handle);
	COLUMN(a, peer_handle, peers, codec->peer);
	COLUMN(a, ttl_ms, ttls, codec->number);
}

static void fill_notices(struct wire_codec *codec, const struct wire_message *in, notice_pb *a)
{
	size_t n = in->n;
	uint32_t idle = 0, reasons = 0, refreshes = 0, realms = 0;
	uint64_t handles = 0;
	for (size_t i = 0; i < n; i++) {
		const struct wire_notice *e = &in->notices[i];
		const struct nat_tuple *t = &e->tuple;
		codec->source[i] = ntohl(t->source);
		codec->destination[i] = ntohl(t->destination);
		codec->ports[i] = ports_out(t->source_port, t->destination_port);
		codec->handle[i] = e->handle;
		codec->number[i] = e->idle_ms;
		codec->byte[0][i] = t->protocol;
		codec->byte[1][i] = t->realm;
		codec->byte[2][i] = e->reason;
		codec->byte[3][i] = e->inbound_refreshes;
		handles |= e->handle;
		idle |= e->idle_ms;
		reasons |= e->reason;
		refreshes |= e->inbound_refreshes;
		realms |= t->realm;
	}
	a->n = (uint32_t)n;
	BYTES(a, protocol, n, codec->byte[0]);
	BYTES(a, realm, realms, codec->byte[1]);
	COLUMN(a, source, n, codec->source);
	COLUMN(a, destination, n, codec->destination);
	COLUMN(a, ports, n, codec->ports);
	COLUMN(a, handle, handles, codec->handle);
	COLUMN(a, idle_ms, idle, codec->number);
	BYTES(a, reason, reasons, codec->byte[2]);
	BYTES(a, inbound_refreshes, refreshes, codec->byte[3]);
}

size_t wire_encode_message(struct wire_codec *codec, const struct wire_message *message,
			   const uint8_t **out)
{
	table_pb m = CONAT__V1__TABLE_MESSAGE__INIT;
	answer_pb answers = CONAT__V1__ANSWER_COLUMNS__INIT;
	notice_pb notices = CONAT__V1__NOTICE_COLUMNS__INIT;
	Conat__V1__Flush flush = CONAT__V1__FLUSH__INIT;
	if (message->n > WIRE_BATCH_MAX)
		return 0;
	m.epoch = message->epoch;
	m.sequence = message->sequence;
	switch (message->kind) {
	case WIRE_ANSWER:
		fill_answers(codec, message, &answers);
		m.kind_case = CONAT__V1__TABLE_MESSAGE__KIND_ANSWER;
		m.answer = &answers;
		break;
	case WIRE_INVALIDATE:
		fill_notices(codec, message, &notices);
		m.kind_case = CONAT__V1__TABLE_MESSAGE__KIND_INVALIDATE;
		m.invalidate = &notices;
		break;
	case WIRE_EXPIRE:
		fill_notices(codec, message, &notices);
		m.kind_case = CONAT__V1__TABLE_MESSAGE__KIND_EXPIRE;
		m.expire = &notices;
		break;
	case WIRE_FLUSH:
		m.kind_case = CONAT__V1__TABLE_MESSAGE__KIND_FLUSH;
		m.flush = &flush;
		break;
	default:
		return 0;
	}
	return wire_pack(codec, &m.base, out);
}

static int read_answers(struct wire_codec *codec, const answer_pb *a, struct wire_message *out)
{
	size_t n = a->n;
	int err = check_n(codec, n, 0);
	if (err)
		return err;
	if (a->source6.len || a->destination6.len)
		return wire_refuse(codec, ERR_INVALID, "IPv6 columns are reserved");
	if (a->verdict.len != n || !even(a->reason.len, n) || !even(a->direction.len, n) ||
	    !even(a->egress.len, n) || !even(a->n_source, n) || !even(a->n_destination, n) ||
	    !even(a->n_ports, n) || !even(a->n_handle, n) || !even(a->n_peer_handle, n) ||
	    !even(a->n_ttl_ms, n))
		return wire_refuse(codec, ERR_UNEVEN, "a column has not n elements");
	bool rewrites = a->n_source && a->n_destination && a->n_ports;
	for (size_t i = 0; i < n; i++) {
		struct wire_answer *e = &out->answers[i];
		memset(e, 0, sizeof *e);
		e->verdict = a->verdict.data[i];
		e->reason = a->reason.len ? a->reason.data[i] : 0;
		e->direction = a->direction.len ? a->direction.data[i] : 0;
		e->ttl_ms = a->n_ttl_ms ? a->ttl_ms[i] : 0;
		e->handle = a->n_handle ? a->handle[i] : 0;
		e->peer_handle = a->n_peer_handle ? a->peer_handle[i] : e->handle;
		e->rewrite.egress = a->egress.len ? a->egress.data[i] : 0;
		if (e->verdict < NAT_TRANSLATE || e->verdict > NAT_REJECT)
			return wire_refuse(codec, ERR_INVALID, "unknown verdict");
		if (e->reason >= NAT_REASON_LIMIT)
			return wire_refuse(codec, ERR_INVALID, "reason out of range");
		if (e->direction > NAT_INBOUND)
			return wire_refuse(codec, ERR_INVALID, "unknown direction");
		if (!rewrites) {
			if (e->verdict == NAT_TRANSLATE)
				return wire_refuse(codec, ERR_UNEVEN,
						   "a translation without endpoints");
			continue;
		}
		e->rewrite.source = htonl(a->source[i]);
		e->rewrite.destination = htonl(a->destination[i]);
		e->rewrite.source_port = htons((uint16_t)(a->ports[i] >> 16));
		e->rewrite.destination_port = htons((uint16_t)a->ports[i]);
	}
	out->kind = WIRE_ANSWER;
	out->request_sequence = a->request_sequence;
	out->n = (uint32_t)n;
	return 0;
}

static int read_notices(struct wire_codec *codec, const notice_pb *a, struct wire_message *out)
{
	size_t n = a->n;
	int err = check_n(codec, n, 0);
	if (err)
		return err;
	if (a->source6.len || a->destination6.len)
		return wire_refuse(codec, ERR_INVALID, "IPv6 columns are reserved");
	if (a->protocol.len != n || a->n_source != n || a->n_destination != n || a->n_ports != n ||
	    !even(a->realm.len, n) || !even(a->n_handle, n) || !even(a->n_idle_ms, n) ||
	    !even(a->reason.len, n) || !even(a->inbound_refreshes.len, n))
		return wire_refuse(codec, ERR_UNEVEN, "a column has not n elements");
	for (size_t i = 0; i < n; i++) {
		struct wire_notice *e = &out->notices[i];
		memset(e, 0, sizeof *e);
		e->tuple.source = htonl(a->source[i]);
		e->tuple.destination = htonl(a->destination[i]);
		e->tuple.source_port = htons((uint16_t)(a->ports[i] >> 16));
		e->tuple.destination_port = htons((uint16_t)a->ports[i]);
		e->tuple.protocol = a->protocol.data[i];
		e->tuple.realm = a->realm.len ? a->realm.data[i] : 0;
		e->handle = a->n_handle ? a->handle[i] : 0;
		e->idle_ms = a->n_idle_ms ? a->idle_ms[i] : 0;
		e->reason = a->reason.len ? a->reason.data[i] : 0;
		e->inbound_refreshes = a->inbound_refreshes.len ? a->inbound_refreshes.data[i] : 0;
		if (!wire_protocol_known(e->tuple.protocol))
			return wire_refuse(codec, ERR_INVALID, "unknown protocol");
		if (e->reason >= NAT_REASON_LIMIT)
			return wire_refuse(codec, ERR_INVALID, "reason out of range");
		if (e->inbound_refreshes > 1)
			return wire_refuse(codec, ERR_INVALID, "a truth value that is neither");
	}
	out->n = (uint32_t)n;
	return 0;
}

int wire_decode_message(struct wire_codec *codec, const uint8_t *data, size_t length,
			struct wire_message *out)
{
	int err = check_n(codec, 0, length);
	if (err)
		return err;
	const table_pb *m = wire_unpack(codec, &conat__v1__table_message__descriptor, data, length);
	if (!m)
		return ERR_MALFORMED;
	if (m->sequence == 0)
		return wire_refuse(codec, ERR_MALFORMED, "a message without sequence number");
	out->epoch = m->epoch;
	out->sequence = m->sequence;
	out->request_sequence = 0;
	out->n = 0;
	switch (m->kind_case) {
	case CONAT__V1__TABLE_MESSAGE__KIND_ANSWER:
		return read_answers(codec, m->answer, out);
	case CONAT__V1__TABLE_MESSAGE__KIND_INVALIDATE:
		out->kind = WIRE_INVALIDATE;
		return read_notices(codec, m->invalidate, out);
	case CONAT__V1__TABLE_MESSAGE__KIND_EXPIRE:
		out->kind = WIRE_EXPIRE;
		return read_notices(codec, m->expire, out);
	case CONAT__V1__TABLE_MESSAGE__KIND_FLUSH:
		out->kind = WIRE_FLUSH;
		return 0;
	default:
		return wire_refuse(codec, ERR_INVALID, "a message of unknown kind");
	}
}
