/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages: whatever the bytes are, each decoder refuses them with a sentence, or what it gives can
 * be encoded and comes back the same. The first byte says which decoder.
 */
#include <stdlib.h>
#include <string.h>
#include "common/wire/wire_encode.h"

#define check(condition)                                                                           \
	do {                                                                                       \
		if (!(condition))                                                                  \
			abort();                                                                   \
	} while (0)

static struct wire_codec *codec;
static struct wire_request requests[2][WIRE_BATCH_MAX];
static struct wire_answer answers[2][WIRE_BATCH_MAX];
static struct wire_notice notices[2][WIRE_BATCH_MAX];
static struct wire_control control[2];
static uint8_t copy[WIRE_MESSAGE_MAX];

static const uint8_t *kept(const uint8_t *data, size_t length)
{
	check(length <= sizeof copy);
	memcpy(copy, data, length);
	return copy;
}

static void batch(const uint8_t *data, size_t size)
{
	struct wire_batch a = {.entries = requests[0]}, b = {.entries = requests[1]};
	uint64_t named[2], again[2];
	bool first, first_again;
	const uint8_t *out;
	if (wire_decode_batch(codec, data, size, &a, &first, named) != 0) {
		check(wire_codec_error(codec)[0]);
		return;
	}
	check(a.n <= WIRE_BATCH_MAX);
	size_t length = wire_encode_batch(codec, &a, first ? named : NULL, &out);
	check(length || (!a.n && !a.sequence && !a.acknowledged && !first));
	if (!length)
		return;
	check(wire_decode_batch(codec, kept(out, length), length, &b, &first_again, again) == 0);
	check(a.n == b.n && a.sequence == b.sequence && a.acknowledged == b.acknowledged);
	check(first == first_again && named[0] == again[0] && named[1] == again[1]);
	check(memcmp(a.entries, b.entries, a.n * sizeof *a.entries) == 0);
}

static void message(const uint8_t *data, size_t size)
{
	struct wire_message a = {.answers = answers[0], .notices = notices[0]};
	struct wire_message b = {.answers = answers[1], .notices = notices[1]};
	const uint8_t *out;
	if (wire_decode_message(codec, data, size, &a) != 0) {
		check(wire_codec_error(codec)[0]);
		return;
	}
	check(a.n <= WIRE_BATCH_MAX);
	size_t length = wire_encode_message(codec, &a, &out);
	check(length);
	check(wire_decode_message(codec, kept(out, length), length, &b) == 0);
	check(a.kind == b.kind && a.n == b.n && a.epoch == b.epoch && a.sequence == b.sequence);
	if (a.kind == WIRE_ANSWER)
		check(memcmp(a.answers, b.answers, a.n * sizeof *a.answers) == 0);
	else if (a.kind != WIRE_FLUSH)
		check(memcmp(a.notices, b.notices, a.n * sizeof *a.notices) == 0);
}

static void from_dataplane(const uint8_t *data, size_t size)
{
	const uint8_t *out;
	if (wire_decode_from_dataplane(codec, data, size, &control[0]) != 0) {
		check(wire_codec_error(codec)[0]);
		return;
	}
	size_t length = control[0].kind == WIRE_CONTROL_HELLO
			    ? wire_encode_hello(codec, &control[0].hello, &out)
			    : wire_encode_heartbeat(codec, &control[0].heartbeat, &out);
	check(length);
	check(wire_decode_from_dataplane(codec, kept(out, length), length, &control[1]) == 0);
	check(control[0].kind == control[1].kind);
	if (control[0].kind == WIRE_CONTROL_HELLO)
		check(memcmp(&control[0].hello, &control[1].hello, sizeof control[0].hello) == 0);
}

static void from_table(const uint8_t *data, size_t size)
{
	const uint8_t *out;
	size_t length = 0;
	if (wire_decode_from_table(codec, data, size, &control[0]) != 0) {
		check(wire_codec_error(codec)[0]);
		return;
	}
	if (control[0].kind == WIRE_CONTROL_WELCOME)
		length = wire_encode_welcome(codec, &control[0].welcome, &out);
	else if (control[0].kind == WIRE_CONTROL_HEARTBEAT_ACK)
		length = wire_encode_heartbeat_ack(codec, &control[0].ack, &out);
	else
		length = wire_encode_config(codec, &control[0].config, &out);
	check(length);
	check(wire_decode_from_table(codec, kept(out, length), length, &control[1]) == 0);
	check(control[0].kind == control[1].kind);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!codec)
		check(wire_codec_new(&codec) == 0);
	if (size == 0)
		return 0;
	switch (data[0] & 3) {
	case 0:
		batch(data + 1, size - 1);
		break;
	case 1:
		message(data + 1, size - 1);
		break;
	case 2:
		from_dataplane(data + 1, size - 1);
		break;
	case 3:
		from_table(data + 1, size - 1);
		break;
	}
	return 0;
}
