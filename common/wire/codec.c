/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "common/wire/codec.h"

static void *arena_alloc(void *context, size_t size)
{
	struct wire_codec *codec = context;
	size_t rounded = (size + 15) & ~(size_t)15;
	if (rounded < size || rounded > WIRE_ARENA - codec->used)
		return NULL;
	void *memory = codec->arena + codec->used;
	codec->used += rounded;
	return memory;
}

static void arena_free(void *context, void *memory)
{
}

int wire_codec_new(struct wire_codec **out)
{
	struct wire_codec *codec = calloc(1, sizeof *codec);
	if (!codec)
		return ERR_NOMEM;
	codec->allocator = (ProtobufCAllocator){arena_alloc, arena_free, codec};
	codec->error = "";
	*out = codec;
	return 0;
}

void wire_codec_free(struct wire_codec *codec)
{
	free(codec);
}

const char *wire_codec_error(const struct wire_codec *codec)
{
	return codec->error;
}

void *wire_unpack(struct wire_codec *codec, const ProtobufCMessageDescriptor *descriptor,
		  const uint8_t *data, size_t length)
{
	codec->used = 0;
	codec->error = "";
	void *message = protobuf_c_message_unpack(descriptor, &codec->allocator, length, data);
	if (!message)
		codec->error = "not a message of this protocol";
	return message;
}

size_t wire_pack(struct wire_codec *codec, const ProtobufCMessage *message, const uint8_t **out)
{
	size_t length = protobuf_c_message_get_packed_size(message);
	if (length > sizeof codec->out)
		return 0;
	*out = codec->out;
	return protobuf_c_message_pack(message, codec->out);
}
