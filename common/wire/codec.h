/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to common/wire and to those who speak messages of their own (the admin service): the
 * arena, the columns, and checks that data and control share.
 */
#ifndef WIRE_CODEC_H
#define WIRE_CODEC_H

#include <protobuf-c/protobuf-c.h>
#include "common/base/err.h"
#include "common/wire/wire_encode.h"

/*
 * A message of unknown two-byte fields makes protobuf-c use twenty times its size; one of columns
 * less than four times. What does not fit is refused.
 */
enum { WIRE_ARENA = 4 * WIRE_MESSAGE_MAX };

struct wire_codec {
	ProtobufCAllocator allocator;
	const char *error;
	size_t used;
	/* columns of the message being encoded */
	uint32_t source[WIRE_BATCH_MAX], destination[WIRE_BATCH_MAX], ports[WIRE_BATCH_MAX];
	uint32_t number[WIRE_BATCH_MAX], identification[2][WIRE_BATCH_MAX];
	uint64_t handle[WIRE_BATCH_MAX], peer[WIRE_BATCH_MAX];
	uint8_t byte[5][WIRE_BATCH_MAX];
	uint8_t out[WIRE_MESSAGE_MAX];
	_Alignas(16) uint8_t arena[WIRE_ARENA];
};

/* Unpacks into the arena; NULL with the error set. The message lives until the next call. */
void *wire_unpack(struct wire_codec *codec, const ProtobufCMessageDescriptor *descriptor,
		  const uint8_t *data, size_t length);
size_t wire_pack(struct wire_codec *codec, const ProtobufCMessage *message, const uint8_t **out);

static inline int wire_refuse(struct wire_codec *codec, int err, const char *sentence)
{
	codec->error = sentence;
	return err;
}

static inline bool wire_protocol_known(unsigned protocol)
{
	return protocol <= UINT8_MAX && (nat_protocol_by_port((uint8_t)protocol) ||
					 nat_protocol_by_address((uint8_t)protocol));
}

#endif
