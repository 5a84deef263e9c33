/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wire structures <-> protobuf messages. Decoding is the door: column lengths, enums and ranges are
 * checked here and nowhere else, because protobuf-c checks none of them. Unknown fields are
 * ignored; IPv6 columns are refused as long as they mean nothing. Addresses and ports become
 * numbers.
 *
 * A codec holds the arena and the columns; one thread uses it. No call allocates but
 * wire_codec_new, and what a message may make the decoder use is bounded by the arena.
 */
#ifndef WIRE_WIRE_ENCODE_H
#define WIRE_WIRE_ENCODE_H

#include <stddef.h>
#include "common/wire/wire.h"

struct wire_codec;
int wire_codec_new(struct wire_codec **out);
void wire_codec_free(struct wire_codec *codec);
/* What was wrong with the last message that was not decoded, for the peer and the log. */
const char *wire_codec_error(const struct wire_codec *codec);

/*
 * Encoders return the length and set *out, valid until the codec's next call. 0 when a structure
 * breaks the limits of wire.h: a bug of the caller's.
 *
 * incarnation: in an attachment's first message, otherwise NULL. A batch with sequence 0 and n = 0
 * only names the attachment; it is no batch to the table.
 */
size_t wire_encode_batch(struct wire_codec *codec, const struct wire_batch *batch,
			 const uint64_t *incarnation, const uint8_t **out);
size_t wire_encode_message(struct wire_codec *codec, const struct wire_message *message,
			   const uint8_t **out);
size_t wire_encode_hello(struct wire_codec *codec, const struct wire_hello *hello,
			 const uint8_t **out);
size_t wire_encode_heartbeat(struct wire_codec *codec, const struct wire_heartbeat *beat,
			     const uint8_t **out);
size_t wire_encode_welcome(struct wire_codec *codec, const struct wire_welcome *welcome,
			   const uint8_t **out);
size_t wire_encode_heartbeat_ack(struct wire_codec *codec, const struct wire_heartbeat_ack *ack,
				 const uint8_t **out);
size_t wire_encode_config(struct wire_codec *codec, const struct wire_config *config,
			  const uint8_t **out);

/*
 * Decoders return 0; ERR_MALFORMED (no such message), ERR_UNEVEN (column lengths), ERR_TOO_BIG
 * (more than WIRE_BATCH_MAX entries or WIRE_MESSAGE_MAX bytes), ERR_INVALID (a value that means
 * nothing).
 *
 * out->entries points to room for WIRE_BATCH_MAX. *first: the message names its attachment.
 */
int wire_decode_batch(struct wire_codec *codec, const uint8_t *data, size_t length,
		      struct wire_batch *out, bool *first, uint64_t incarnation[2]);
/* out->answers and out->notices point to room for WIRE_BATCH_MAX each. */
int wire_decode_message(struct wire_codec *codec, const uint8_t *data, size_t length,
			struct wire_message *out);

enum wire_control_kind { /* not wire values */
			 WIRE_CONTROL_HELLO = 1,
			 WIRE_CONTROL_HEARTBEAT,
			 WIRE_CONTROL_WELCOME,
			 WIRE_CONTROL_HEARTBEAT_ACK,
			 WIRE_CONTROL_CONFIG,
};

struct wire_control {
	enum wire_control_kind kind;
	union {
		struct wire_hello hello;
		struct wire_heartbeat heartbeat;
		struct wire_welcome welcome;
		struct wire_heartbeat_ack ack;
		struct wire_config config;
	};
};

/* Hello or heartbeat. */
int wire_decode_from_dataplane(struct wire_codec *codec, const uint8_t *data, size_t length,
			       struct wire_control *out);
/* Welcome, acknowledgement or configuration. */
int wire_decode_from_table(struct wire_codec *codec, const uint8_t *data, size_t length,
			   struct wire_control *out);

#endif
