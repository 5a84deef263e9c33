/* SPDX-License-Identifier: Apache-2.0 */
/* The data stream, downwards: answers and notices. */
#include <string.h>
#include "common/wire/columns.h"
#include "conat/v1/nat_table.pb-c.h"

typedef Conat__V1__TableMessage table_pb;
typedef Conat__V1__AnswerColumns answer_pb;
typedef Conat__V1__NoticeColumns notice_pb;

static void fill_answers(struct wire_codec *codec, const struct wire_message *in, answer_pb *a)
{
	size_t n = in->n;
	uint32_t rewrites = 0, ttls = 0, reasons = 0, directions = 0, egress = 0;
	uint32_t identifications = 0;
	uint64_t handles = 0, peers = 0;
	for (size_t i = 0; i < n; i++) {
		const struct wire_answer *e = &in->answers[i];
		const struct nat_rewrite *w = &e->rewrite;
		COLUMNS_PUT_ENDPOINTS(codec, i, w);
		codec->handle[i] = e->handle;
		codec->peer[i] = e->peer_handle;
		codec->number[i] = e->ttl_ms;
		codec->identification[0][i] = e->identification;
		codec->byte[0][i] = e->verdict;
		codec->byte[1][i] = e->reason;
		codec->byte[2][i] = e->direction;
		codec->byte[3][i] = w->egress;
		rewrites |=
		    w->source | w->destination | codec->ports[i] | (e->verdict == NAT_TRANSLATE);
		handles |= e->handle;
		peers |= e->handle ^ e->peer_handle;
		ttls |= e->ttl_ms;
		identifications |= e->identification;
		reasons |= e->reason;
		directions |= e->direction;
		egress |= w->egress;
	}
	a->request_sequence = in->request_sequence;
	a->n = (uint32_t)n;
	COLUMN_BYTES(a, verdict, n, codec->byte[0]);
	COLUMN_BYTES(a, reason, reasons, codec->byte[1]);
	COLUMN_BYTES(a, direction, directions, codec->byte[2]);
	COLUMN_BYTES(a, egress, egress, codec->byte[3]);
	COLUMNS_ENDPOINTS(a, codec, rewrites);
	COLUMN(a, handle, handles, codec->handle);
	COLUMN(a, peer_handle, peers, codec->peer);
	COLUMN(a, ttl_ms, ttls, codec->number);
	COLUMN(a, identification, identifications, codec->identification[0]);
}

static void fill_notices(struct wire_codec *codec, const struct wire_message *in, notice_pb *a)
{
	size_t n = in->n;
	uint32_t idle = 0, reasons = 0, refreshes = 0, realms = 0;
	uint32_t identifications = 0, new_identifications = 0;
	uint64_t handles = 0;
	for (size_t i = 0; i < n; i++) {
		const struct wire_notice *e = &in->notices[i];
		const struct nat_tuple *t = &e->tuple;
		COLUMNS_PUT_ENDPOINTS(codec, i, t);
		codec->handle[i] = e->handle;
		codec->number[i] = e->idle_ms;
		codec->identification[0][i] = e->identification;
		codec->identification[1][i] = e->new_identification;
		codec->byte[0][i] = t->protocol;
		codec->byte[1][i] = t->realm;
		codec->byte[2][i] = e->reason;
		codec->byte[3][i] = e->inbound_refreshes;
		handles |= e->handle;
		idle |= e->idle_ms;
		identifications |= e->identification;
		new_identifications |= e->new_identification;
		reasons |= e->reason;
		refreshes |= e->inbound_refreshes;
		realms |= t->realm;
	}
	a->n = (uint32_t)n;
	COLUMN_BYTES(a, protocol, n, codec->byte[0]);
	COLUMN_BYTES(a, realm, realms, codec->byte[1]);
	COLUMNS_ENDPOINTS(a, codec, n);
	COLUMN(a, handle, handles, codec->handle);
	COLUMN(a, idle_ms, idle, codec->number);
	COLUMN_BYTES(a, reason, reasons, codec->byte[2]);
	COLUMN_BYTES(a, inbound_refreshes, refreshes, codec->byte[3]);
	COLUMN(a, identification, identifications, codec->identification[0]);
	COLUMN(a, new_identification, new_identifications, codec->identification[1]);
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
	case WIRE_FRAGMENTS:
		fill_notices(codec, message, &notices);
		m.kind_case = CONAT__V1__TABLE_MESSAGE__KIND_FRAGMENTS;
		m.fragments = &notices;
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
	int err = columns_check_n(codec, n, 0);
	if (err)
		return err;
	if (a->source6.len || a->destination6.len)
		return wire_refuse(codec, ERR_INVALID, "IPv6 columns are reserved");
	if (a->verdict.len != n || !EVEN_BYTES(a, reason) || !EVEN_BYTES(a, direction) ||
	    !EVEN_BYTES(a, egress) || !EVEN_ENDPOINTS(a) || !EVEN(a, handle) ||
	    !EVEN(a, peer_handle) || !EVEN(a, ttl_ms) || !EVEN(a, identification))
		return wire_refuse(codec, ERR_UNEVEN, "a column has not n elements");
	bool rewrites = HAS_ENDPOINTS(a);
	for (size_t i = 0; i < n; i++) {
		struct wire_answer *e = &out->answers[i];
		memset(e, 0, sizeof *e);
		e->verdict = a->verdict.data[i];
		e->reason = BYTE_AT(a, reason, i);
		e->direction = BYTE_AT(a, direction, i);
		e->ttl_ms = AT(a, ttl_ms, i);
		e->handle = AT(a, handle, i);
		e->peer_handle = a->n_peer_handle ? a->peer_handle[i] : e->handle;
		e->rewrite.egress = BYTE_AT(a, egress, i);
		if (!column_identification(AT(a, identification, i), &e->identification))
			return wire_refuse(codec, ERR_INVALID,
					   "an identification of more than 16 bits");
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
		COLUMNS_GET_ENDPOINTS(&e->rewrite, a, i);
	}
	out->kind = WIRE_ANSWER;
	out->request_sequence = a->request_sequence;
	out->n = (uint32_t)n;
	return 0;
}

static int read_notices(struct wire_codec *codec, const notice_pb *a, struct wire_message *out)
{
	size_t n = a->n;
	int err = columns_check_n(codec, n, 0);
	if (err)
		return err;
	if (a->source6.len || a->destination6.len)
		return wire_refuse(codec, ERR_INVALID, "IPv6 columns are reserved");
	if (a->protocol.len != n || a->n_source != n || a->n_destination != n || a->n_ports != n ||
	    !EVEN_BYTES(a, realm) || !EVEN(a, handle) || !EVEN(a, idle_ms) ||
	    !EVEN_BYTES(a, reason) || !EVEN_BYTES(a, inbound_refreshes) ||
	    !EVEN(a, identification) || !EVEN(a, new_identification))
		return wire_refuse(codec, ERR_UNEVEN, "a column has not n elements");
	for (size_t i = 0; i < n; i++) {
		struct wire_notice *e = &out->notices[i];
		memset(e, 0, sizeof *e);
		COLUMNS_GET_ENDPOINTS(&e->tuple, a, i);
		e->tuple.protocol = a->protocol.data[i];
		e->tuple.realm = BYTE_AT(a, realm, i);
		e->handle = AT(a, handle, i);
		e->idle_ms = AT(a, idle_ms, i);
		e->reason = BYTE_AT(a, reason, i);
		e->inbound_refreshes = BYTE_AT(a, inbound_refreshes, i);
		if (!column_identification(AT(a, identification, i), &e->identification) ||
		    !column_identification(AT(a, new_identification, i), &e->new_identification))
			return wire_refuse(codec, ERR_INVALID,
					   "an identification of more than 16 bits");
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
	int err = columns_check_n(codec, 0, length);
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
	case CONAT__V1__TABLE_MESSAGE__KIND_FRAGMENTS:
		out->kind = WIRE_FRAGMENTS;
		return read_notices(codec, m->fragments, out);
	case CONAT__V1__TABLE_MESSAGE__KIND_FLUSH:
		out->kind = WIRE_FLUSH;
		return 0;
	default:
		return wire_refuse(codec, ERR_INVALID, "a message of unknown kind");
	}
}
