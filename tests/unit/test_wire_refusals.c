/* SPDX-License-Identifier: Apache-2.0 */
/* Messages that the door refuses: a good one, and one thing done to it. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/err.h"
#include "common/base/random.h"
#include "common/wire/wire_encode.h"
#include "conat/v1/nat_table.pb-c.h"

typedef Conat__V1__DataplaneMessage batch_pb;
typedef Conat__V1__TableMessage table_pb;
typedef Conat__V1__AnswerColumns answer_pb;
typedef Conat__V1__NoticeColumns notice_pb;

static struct wire_codec *codec;
static struct wire_request requests[WIRE_BATCH_MAX];
static struct wire_answer answers[WIRE_BATCH_MAX];
static struct wire_notice notices[WIRE_BATCH_MAX];

static void setup(void)
{
	cr_assert_eq(wire_codec_new(&codec), 0);
}

static void teardown(void)
{
	wire_codec_free(codec);
}

TestSuite(wire_refusals, .init = setup, .fini = teardown);

enum { N = 3 };
static uint32_t words[N + 1] = {0x0a000001, 0x0a000002, 0x0a000003, 1};
static uint64_t longs[N + 1] = {1, 2, 3, 4};
static uint8_t ops[N + 1] = {WIRE_RESOLVE_OUT, WIRE_PEEK, WIRE_RELEASE, WIRE_PEEK};
static uint8_t protocols[N + 1] = {NAT_TCP, NAT_UDP, 0, NAT_UDP};
static uint8_t zeros[64];
static uint8_t bad_ops[] = {WIRE_RESOLVE_OUT, 0, WIRE_RELEASE};
static uint8_t high_ops[] = {WIRE_RESOLVE_OUT, WIRE_FRAGMENT_WHOLE + 1, WIRE_RELEASE};
static uint8_t first_ops[] = {WIRE_RESOLVE_OUT, WIRE_FRAGMENT_FIRST, WIRE_RELEASE};
static uint8_t later_ops[] = {WIRE_RESOLVE_OUT, WIRE_FRAGMENT_LATER, WIRE_RELEASE};
static uint32_t large[] = {0, 0x10000, 0};
static uint32_t no_ports[N];
static uint8_t bad_protocols[] = {NAT_TCP, 4, 0};
static uint8_t bad_directions[] = {0, 0, 2};

static batch_pb good_batch(void)
{
	batch_pb m = CONAT__V1__DATAPLANE_MESSAGE__INIT;
	m.sequence = 1;
	m.n = N;
	m.op = (ProtobufCBinaryData){N, ops};
	m.protocol = (ProtobufCBinaryData){N, protocols};
	m.n_source = m.n_destination = m.n_ports = m.n_handle = N;
	m.source = m.destination = m.ports = words;
	m.handle = longs;
	return m;
}

static int decode_batch(const batch_pb *m)
{
	static uint8_t bytes[1 << 20];
	struct wire_batch out = {.entries = requests};
	uint64_t named[2];
	bool first;
	size_t length = conat__v1__dataplane_message__pack(m, bytes);
	return wire_decode_batch(codec, bytes, length, &out, &first, named);
}

#define refused_batch(err, change)                                                                 \
	do {                                                                                       \
		batch_pb m = good_batch();                                                         \
		change;                                                                            \
		cr_expect_eq(decode_batch(&m), err, "%s: %s", #change, wire_codec_error(codec));   \
		cr_expect(err == 0 || wire_codec_error(codec)[0], "%s: no sentence", #change);     \
	} while (0)

Test(wire_refusals, bad_batches_are_refused_each_for_its_reason)
{
	batch_pb good = good_batch();
	cr_assert_eq(decode_batch(&good), 0, "%s", wire_codec_error(codec));

	refused_batch(ERR_UNEVEN, m.op.len = N - 1);
	refused_batch(ERR_UNEVEN, m.op.len = 0);
	refused_batch(ERR_UNEVEN, m.op.len = N + 1);
	refused_batch(ERR_UNEVEN, m.protocol.len = N - 1);
	refused_batch(ERR_UNEVEN, m.protocol.len = 0);
	refused_batch(ERR_UNEVEN, m.n_source = N + 1);
	refused_batch(ERR_UNEVEN, m.n_source = 0);
	refused_batch(ERR_UNEVEN, m.n_destination = N - 1);
	refused_batch(ERR_UNEVEN, m.n_destination = 0);
	refused_batch(ERR_UNEVEN, m.n_ports = 1);
	refused_batch(ERR_UNEVEN, m.n_ports = 0);
	refused_batch(ERR_UNEVEN, m.n_handle = N - 1);
	refused_batch(ERR_UNEVEN, m.n_handle = 0);
	refused_batch(ERR_UNEVEN, (m.n_age_ms = 1, m.age_ms = words));
	refused_batch(ERR_UNEVEN, (m.realm = (ProtobufCBinaryData){N + 1, zeros}));
	refused_batch(ERR_UNEVEN, (m.tcp_flags = (ProtobufCBinaryData){1, zeros}));
	refused_batch(ERR_UNEVEN, (m.direction = (ProtobufCBinaryData){N - 1, zeros}));
	refused_batch(ERR_UNEVEN, m.n = 0);
	refused_batch(ERR_UNEVEN, m.n = N + 1);
	refused_batch(ERR_TOO_BIG, m.n = WIRE_BATCH_MAX + 1);
	refused_batch(ERR_TOO_BIG, m.n = UINT32_MAX);
	refused_batch(ERR_MALFORMED, m.sequence = 0);
	refused_batch(ERR_INVALID, m.op.data = bad_ops);
	refused_batch(ERR_INVALID, m.op.data = high_ops);
	refused_batch(0, m.op.data = first_ops);
	refused_batch(ERR_INVALID, m.op.data = later_ops); /* has ports */
	refused_batch(0, (m.op.data = later_ops, m.ports = no_ports));
	refused_batch(ERR_UNEVEN, (m.n_identification = N - 1, m.identification = large));
	refused_batch(0, (m.n_identification = N, m.identification = large)); /* not a fragment */
	refused_batch(ERR_INVALID,
		      (m.op.data = first_ops, m.n_identification = N, m.identification = large));
	refused_batch(ERR_INVALID, m.protocol.data = bad_protocols);
	refused_batch(ERR_INVALID, (m.direction = (ProtobufCBinaryData){N, bad_directions}));
	refused_batch(ERR_INVALID, (m.source6 = (ProtobufCBinaryData){48, zeros}));
	refused_batch(ERR_INVALID, (m.destination6 = (ProtobufCBinaryData){1, zeros}));
}

static table_pb table_message(void)
{
	table_pb m = CONAT__V1__TABLE_MESSAGE__INIT;
	m.epoch = 1;
	m.sequence = 1;
	return m;
}

static int decode_message(const table_pb *m)
{
	static uint8_t bytes[1 << 20];
	struct wire_message out = {.answers = answers, .notices = notices};
	size_t length = conat__v1__table_message__pack(m, bytes);
	return wire_decode_message(codec, bytes, length, &out);
}

static uint8_t verdicts[N + 1] = {NAT_TRANSLATE, NAT_DROP, NAT_PASS, NAT_DROP};
static uint8_t bad_verdicts[] = {NAT_TRANSLATE, 0, NAT_PASS};
static uint8_t high_verdicts[] = {NAT_TRANSLATE, 5, NAT_PASS};
static uint8_t bad_reasons[] = {0, NAT_REASON_LIMIT, 0};
static uint8_t notice_protocols[] = {NAT_TCP, NAT_UDP, NAT_ICMP};
static uint8_t bad_truths[] = {0, 1, 2};

#define refused_answer(err, change)                                                                \
	do {                                                                                       \
		answer_pb a = CONAT__V1__ANSWER_COLUMNS__INIT;                                     \
		a.n = N;                                                                           \
		a.verdict = (ProtobufCBinaryData){N, verdicts};                                    \
		a.n_source = a.n_destination = a.n_ports = a.n_handle = N;                         \
		a.source = a.destination = a.ports = words;                                        \
		a.handle = longs;                                                                  \
		change;                                                                            \
		table_pb m = table_message();                                                      \
		m.kind_case = CONAT__V1__TABLE_MESSAGE__KIND_ANSWER;                               \
		m.answer = &a;                                                                     \
		cr_expect_eq(decode_message(&m), err, "%s: %s", #change, wire_codec_error(codec)); \
	} while (0)

Test(wire_refusals, bad_answers_are_refused_each_for_its_reason)
{
	refused_answer(0, (void)0);
	refused_answer(ERR_UNEVEN, a.verdict.len = 0);
	refused_answer(ERR_UNEVEN, a.verdict.len = N + 1);
	refused_answer(ERR_UNEVEN, a.n_source = N - 1);
	refused_answer(ERR_UNEVEN, a.n_source = 0);
	refused_answer(ERR_UNEVEN, a.n_destination = 1);
	refused_answer(ERR_UNEVEN, a.n_ports = 0);
	refused_answer(ERR_UNEVEN, a.n_handle = 2);
	refused_answer(ERR_UNEVEN, (a.n_peer_handle = 2, a.peer_handle = longs));
	refused_answer(ERR_UNEVEN, (a.n_ttl_ms = 2, a.ttl_ms = words));
	refused_answer(ERR_UNEVEN, (a.n_identification = 2, a.identification = large));
	refused_answer(ERR_INVALID, (a.n_identification = N, a.identification = large));
	refused_answer(ERR_UNEVEN, (a.reason = (ProtobufCBinaryData){1, zeros}));
	refused_answer(ERR_UNEVEN, (a.direction = (ProtobufCBinaryData){1, zeros}));
	refused_answer(ERR_UNEVEN, (a.egress = (ProtobufCBinaryData){1, zeros}));
	refused_answer(ERR_TOO_BIG, a.n = WIRE_BATCH_MAX + 1);
	refused_answer(ERR_INVALID, a.verdict.data = bad_verdicts);
	refused_answer(ERR_INVALID, a.verdict.data = high_verdicts);
	refused_answer(ERR_INVALID, (a.reason = (ProtobufCBinaryData){N, bad_reasons}));
	refused_answer(ERR_INVALID, (a.direction = (ProtobufCBinaryData){N, bad_directions}));
	refused_answer(ERR_INVALID, (a.source6 = (ProtobufCBinaryData){48, zeros}));
}

#define refused_notice(err, change)                                                                \
	do {                                                                                       \
		notice_pb a = CONAT__V1__NOTICE_COLUMNS__INIT;                                     \
		a.n = N;                                                                           \
		a.protocol = (ProtobufCBinaryData){N, notice_protocols};                           \
		a.n_source = a.n_destination = a.n_ports = a.n_handle = N;                         \
		a.source = a.destination = a.ports = words;                                        \
		a.handle = longs;                                                                  \
		change;                                                                            \
		table_pb m = table_message();                                                      \
		m.kind_case = CONAT__V1__TABLE_MESSAGE__KIND_EXPIRE;                               \
		m.expire = &a;                                                                     \
		cr_expect_eq(decode_message(&m), err, "%s: %s", #change, wire_codec_error(codec)); \
	} while (0)

Test(wire_refusals, bad_notices_are_refused_each_for_its_reason)
{
	refused_notice(0, (void)0);
	refused_notice(0, a.n_handle = 0);
	refused_notice(ERR_UNEVEN, a.protocol.len = 0);
	refused_notice(ERR_UNEVEN, a.n_source = N - 1);
	refused_notice(ERR_UNEVEN, a.n_destination = 0);
	refused_notice(ERR_UNEVEN, a.n_ports = N + 1);
	refused_notice(ERR_UNEVEN, a.n_handle = 1);
	refused_notice(ERR_UNEVEN, (a.n_idle_ms = 1, a.idle_ms = words));
	refused_notice(ERR_UNEVEN, (a.n_identification = 1, a.identification = large));
	refused_notice(ERR_UNEVEN, (a.n_new_identification = 1, a.new_identification = large));
	refused_notice(ERR_INVALID, (a.n_identification = N, a.identification = large));
	refused_notice(ERR_INVALID, (a.n_new_identification = N, a.new_identification = large));
	refused_notice(ERR_TOO_BIG, a.n = WIRE_BATCH_MAX + 1);
	refused_notice(ERR_INVALID, a.protocol.data = bad_protocols);
	refused_notice(ERR_INVALID, (a.reason = (ProtobufCBinaryData){N, bad_reasons}));
	refused_notice(ERR_INVALID, (a.inbound_refreshes = (ProtobufCBinaryData){N, bad_truths}));
	refused_notice(ERR_INVALID, (a.destination6 = (ProtobufCBinaryData){48, zeros}));
}

Test(wire_refusals, message_without_kind_or_sequence_is_refused)
{
	table_pb m = table_message();
	cr_expect_eq(decode_message(&m), ERR_INVALID);
	Conat__V1__Flush flush = CONAT__V1__FLUSH__INIT;
	m.kind_case = CONAT__V1__TABLE_MESSAGE__KIND_FLUSH;
	m.flush = &flush;
	cr_expect_eq(decode_message(&m), 0);
	m.sequence = 0;
	cr_expect_eq(decode_message(&m), ERR_MALFORMED);
}

static int decode_hello(const Conat__V1__Hello *hello)
{
	static struct wire_control out;
	static uint8_t bytes[1 << 16];
	Conat__V1__ControlFromDataplane m = CONAT__V1__CONTROL_FROM_DATAPLANE__INIT;
	m.kind_case = CONAT__V1__CONTROL_FROM_DATAPLANE__KIND_HELLO;
	Conat__V1__Hello copy = *hello;
	m.hello = &copy;
	size_t length = conat__v1__control_from_dataplane__pack(&m, bytes);
	return wire_decode_from_dataplane(codec, bytes, length, &out);
}

static char long_name[WIRE_NAME_MAX + 1];

#define refused_hello(err, change)                                                                 \
	do {                                                                                       \
		Conat__V1__Hello h = CONAT__V1__HELLO__INIT;                                       \
		h.version_min = h.version_max = 1;                                                 \
		h.incarnation_low = 1;                                                             \
		h.name = (char[]){"dp"};                                                           \
		change;                                                                            \
		cr_expect_eq(decode_hello(&h), err, "%s: %s", #change, wire_codec_error(codec));   \
	} while (0)

Test(wire_refusals, bad_hellos_are_refused_each_for_its_reason)
{
	memset(long_name, 'x', WIRE_NAME_MAX);
	refused_hello(0, (void)0);
	refused_hello(ERR_INVALID, h.version_min = 0);
	refused_hello(ERR_INVALID, h.version_min = 2);
	refused_hello(ERR_INVALID, h.incarnation_low = 0);
	refused_hello(ERR_INVALID, (h.name = (char[]){""}));
	refused_hello(ERR_INVALID, (h.name = (char[]){"a\"b"}));
	refused_hello(ERR_INVALID, (h.name = (char[]){"a\nb"}));
	refused_hello(ERR_INVALID, h.name = long_name);
	refused_hello(0, h.name = long_name + 1);
}

static int decode_welcome(const struct wire_welcome *welcome)
{
	static struct wire_control out;
	const uint8_t *data;
	size_t length = wire_encode_welcome(codec, welcome, &data);
	return wire_decode_from_table(codec, data, length, &out);
}

#define refused_welcome(err, change)                                                               \
	do {                                                                                       \
		struct wire_welcome w = {.version = 1,                                             \
					 .epoch = 1,                                               \
					 .lease_ms = 10,                                           \
					 .heartbeat_ms = 2,                                        \
					 .batch_max = 1,                                           \
					 .inflight_max = 1};                                       \
		change;                                                                            \
		cr_expect_eq(decode_welcome(&w), err, "%s", #change);                              \
	} while (0)

Test(wire_refusals, bad_welcomes_are_refused)
{
	refused_welcome(0, (void)0);
	refused_welcome(ERR_INVALID, w.dataplane = WIRE_DATAPLANES_MAX);
	refused_welcome(ERR_INVALID, w.lease_ms = 0);
	refused_welcome(ERR_INVALID, w.heartbeat_ms = 0);
	refused_welcome(ERR_INVALID, w.heartbeat_ms = 10);
	refused_welcome(ERR_INVALID, w.batch_max = 0);
	refused_welcome(ERR_INVALID, w.batch_max = WIRE_BATCH_MAX + 1);
	refused_welcome(ERR_INVALID, w.inflight_max = WIRE_INFLIGHT_MAX + 1);
}

Test(wire_refusals, bytes_that_are_no_message_are_refused)
{
	uint8_t bytes[100];
	struct wire_batch batch = {.entries = requests};
	struct wire_message message = {.answers = answers, .notices = notices};
	static struct wire_control control;
	uint64_t named[2];
	bool first;
	memset(bytes, 0xff, sizeof bytes);
	cr_expect_eq(wire_decode_batch(codec, bytes, 100, &batch, &first, named), ERR_MALFORMED);
	cr_expect_eq(wire_decode_message(codec, bytes, 100, &message), ERR_MALFORMED);
	cr_expect_eq(wire_decode_from_dataplane(codec, bytes, 100, &control), ERR_MALFORMED);
	cr_expect_eq(wire_decode_from_table(codec, bytes, 100, &control), ERR_MALFORMED);
}

Test(wire_refusals, what_a_message_may_use_is_bounded)
{
	/* Field 100, varint: the smallest field that protobuf-c keeps on the side. */
	static uint8_t bytes[WIRE_MESSAGE_MAX];
	struct wire_batch batch = {.entries = requests};
	uint64_t named[2];
	bool first;
	for (size_t i = 0; i + 3 <= sizeof bytes; i += 3) {
		bytes[i] = 0xa0;
		bytes[i + 1] = 0x06;
		bytes[i + 2] = 1;
	}
	size_t length = sizeof bytes / 3 * 3;
	cr_expect_eq(wire_decode_batch(codec, bytes, length, &batch, &first, named), ERR_MALFORMED);
	/* A few are ignored. */
	cr_expect_eq(wire_decode_batch(codec, bytes, 300, &batch, &first, named), 0);
	cr_expect_eq(batch.n, 0);
	static uint8_t huge[WIRE_MESSAGE_MAX + 1];
	cr_expect_eq(wire_decode_batch(codec, huge, sizeof huge, &batch, &first, named),
		     ERR_TOO_BIG);
}

Test(wire_refusals, encoding_more_than_the_limits_gives_nothing)
{
	const uint8_t *data;
	struct wire_batch batch = {.sequence = 1, .n = WIRE_BATCH_MAX + 1, .entries = requests};
	struct wire_message message = {.kind = WIRE_UPDATE, .sequence = 1};
	cr_expect_eq(wire_encode_batch(codec, &batch, NULL, &data), 0);
	cr_expect_eq(wire_encode_message(codec, &message, &data), 0);
}
