/* SPDX-License-Identifier: Apache-2.0 */
/* The data stream, upwards: batches of questions and reports. */
#include <string.h>
#include "common/wire/columns.h"
#include "conat/v1/nat_table.pb-c.h"

typedef Conat__V1__DataplaneMessage batch_pb;

size_t wire_encode_batch(struct wire_codec *codec, const struct wire_batch *batch,
			 const uint64_t *incarnation, const uint8_t **out)
{
	batch_pb m = CONAT__V1__DATAPLANE_MESSAGE__INIT;
	size_t n = batch->n;
	if (n > WIRE_BATCH_MAX)
		return 0;
	uint32_t tuples = 0, ages = 0, realms = 0, flags = 0, directions = 0;
	uint32_t identifications = 0;
	uint64_t handles = 0;
	for (size_t i = 0; i < n; i++) {
		const struct wire_request *r = &batch->entries[i];
		const struct nat_tuple *t = &r->tuple;
		COLUMNS_PUT_ENDPOINTS(codec, i, t);
		codec->handle[i] = r->handle;
		codec->number[i] = r->age_ms;
		codec->identification[0][i] = r->identification;
		codec->byte[0][i] = r->op;
		codec->byte[1][i] = t->protocol;
		codec->byte[2][i] = t->realm;
		codec->byte[3][i] = r->tcp_flags;
		codec->byte[4][i] = r->direction;
		tuples |= t->source | t->destination | codec->ports[i] | t->protocol;
		handles |= r->handle | !wire_op_is_question(r->op);
		ages |= r->age_ms;
		identifications |= r->identification;
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
	COLUMN_BYTES(&m, op, n, codec->byte[0]);
	COLUMN_BYTES(&m, protocol, tuples, codec->byte[1]);
	COLUMN_BYTES(&m, realm, realms, codec->byte[2]);
	COLUMN_BYTES(&m, tcp_flags, flags, codec->byte[3]);
	COLUMN_BYTES(&m, direction, directions, codec->byte[4]);
	COLUMNS_ENDPOINTS(&m, codec, tuples);
	COLUMN(&m, handle, handles, codec->handle);
	COLUMN(&m, age_ms, ages, codec->number);
	COLUMN(&m, identification, identifications, codec->identification[0]);
	return wire_pack(codec, &m.base, out);
}

int wire_decode_batch(struct wire_codec *codec, const uint8_t *data, size_t length,
		      struct wire_batch *out, bool *first, uint64_t incarnation[2])
{
	int err = columns_check_n(codec, 0, length);
	if (err)
		return err;
	const batch_pb *m =
	    wire_unpack(codec, &conat__v1__dataplane_message__descriptor, data, length);
	if (!m)
		return ERR_MALFORMED;
	size_t n = m->n;
	err = columns_check_n(codec, n, length);
	if (err)
		return err;
	if (m->source6.len || m->destination6.len)
		return wire_refuse(codec, ERR_INVALID, "IPv6 columns are reserved");
	if (m->op.len != n || !EVEN_BYTES(m, protocol) || !EVEN_BYTES(m, realm) ||
	    !EVEN_BYTES(m, tcp_flags) || !EVEN_BYTES(m, direction) || !EVEN_ENDPOINTS(m) ||
	    !EVEN(m, handle) || !EVEN(m, age_ms) || !EVEN(m, identification))
		return wire_refuse(codec, ERR_UNEVEN, "a column has not n elements");
	if (n && m->sequence == 0)
		return wire_refuse(codec, ERR_MALFORMED, "entries without a sequence number");

	bool tuples = HAS_ENDPOINTS(m) && m->protocol.len;
	for (size_t i = 0; i < n; i++) {
		struct wire_request *r = &out->entries[i];
		memset(r, 0, sizeof *r);
		r->op = m->op.data[i];
		if (r->op < WIRE_RESOLVE_OUT || r->op > WIRE_FRAGMENT_WHOLE)
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
			r->age_ms = AT(m, age_ms, i);
			continue;
		}
		if (!tuples)
			return wire_refuse(codec, ERR_UNEVEN, "a question without tuple");
		if (!wire_protocol_known(m->protocol.data[i]))
			return wire_refuse(codec, ERR_INVALID, "unknown protocol");
		COLUMNS_GET_ENDPOINTS(&r->tuple, m, i);
		r->tuple.protocol = m->protocol.data[i];
		r->tuple.realm = BYTE_AT(m, realm, i);
		if (!wire_op_is_fragment(r->op))
			continue;
		if (r->op == WIRE_FRAGMENT_LATER && m->ports[i])
			return wire_refuse(codec, ERR_INVALID, "a later fragment with ports");
		if (!column_identification(AT(m, identification, i), &r->identification))
			return wire_refuse(codec, ERR_INVALID,
					   "an identification of more than 16 bits");
	}
	out->sequence = m->sequence;
	out->acknowledged = m->acknowledged;
	out->n = (uint32_t)n;
	incarnation[0] = m->incarnation_high;
	incarnation[1] = m->incarnation_low;
	*first = incarnation[0] || incarnation[1];
	return 0;
}
