/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to common/wire: entry i of a batch <-> element i of each of its columns. A column whose
 * elements would all be 0 is left out; so one that is missing reads as 0 everywhere. What must not
 * be missing is the message's affair.
 *
 * "m" is a protobuf-c message; "n" is the number of entries, in scope where these are used.
 */
#ifndef WIRE_COLUMNS_H
#define WIRE_COLUMNS_H

#include <arpa/inet.h>
#include "common/wire/codec.h"

/* ---- out: "array" holds n elements; any: whether one of them is not 0 */

#define COLUMN(m, field, any, array)                                                               \
	do {                                                                                       \
		if (any) {                                                                         \
			(m)->n_##field = n;                                                        \
			(m)->field = (array);                                                      \
		}                                                                                  \
	} while (0)
#define COLUMN_BYTES(m, field_, any, array)                                                        \
	do {                                                                                       \
		if (any) {                                                                         \
			(m)->field_.len = n;                                                       \
			(m)->field_.data = (array);                                                \
		}                                                                                  \
	} while (0)

/* The endpoints of a struct nat_tuple or nat_rewrite, into the codec's columns. */
#define COLUMNS_PUT_ENDPOINTS(codec, i, from)                                                      \
	do {                                                                                       \
		(codec)->source[i] = ntohl((from)->source);                                        \
		(codec)->destination[i] = ntohl((from)->destination);                              \
		(codec)->ports[i] =                                                                \
		    (uint32_t)ntohs((from)->source_port) << 16 | ntohs((from)->destination_port);  \
	} while (0)
#define COLUMNS_ENDPOINTS(m, codec, any)                                                           \
	do {                                                                                       \
		COLUMN(m, source, any, (codec)->source);                                           \
		COLUMN(m, destination, any, (codec)->destination);                                 \
		COLUMN(m, ports, any, (codec)->ports);                                             \
	} while (0)

/* ---- in */

static inline bool column_even(size_t length, size_t n)
{
	return length == 0 || length == n;
}
#define EVEN(m, field) column_even((m)->n_##field, n)
#define EVEN_BYTES(m, field) column_even((m)->field.len, n)
#define EVEN_ENDPOINTS(m) (EVEN(m, source) && EVEN(m, destination) && EVEN(m, ports))
#define HAS_ENDPOINTS(m) ((m)->n_source && (m)->n_destination && (m)->n_ports)

/* Element i, or 0 when the column is missing. */
#define AT(m, field, i) ((m)->n_##field ? (m)->field[i] : 0)
#define BYTE_AT(m, field, i) ((m)->field.len ? (m)->field.data[i] : (uint8_t)0)

#define COLUMNS_GET_ENDPOINTS(to, m, i)                                                            \
	do {                                                                                       \
		(to)->source = htonl((m)->source[i]);                                              \
		(to)->destination = htonl((m)->destination[i]);                                    \
		(to)->source_port = htons((uint16_t)((m)->ports[i] >> 16));                        \
		(to)->destination_port = htons((uint16_t)(m)->ports[i]);                           \
	} while (0)

static inline bool column_identification(uint32_t number, uint16_t *out)
{
	*out = (uint16_t)number;
	return number <= UINT16_MAX;
}

/* What both directions of the data stream are bounded by. */
static inline int columns_check_n(struct wire_codec *codec, size_t n, size_t length)
{
	if (length > WIRE_MESSAGE_MAX)
		return wire_refuse(codec, ERR_TOO_BIG, "message larger than the limit");
	if (n > WIRE_BATCH_MAX)
		return wire_refuse(codec, ERR_TOO_BIG, "more entries than a message may have");
	return 0;
}

#endif
