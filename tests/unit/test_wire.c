/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/err.h"
#include "common/base/random.h"
#include "common/wire/wire_encode.h"
#include "conat/v1/nat_table.pb-c.h"

typedef Conat__V1__DataplaneMessage batch_pb;

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

TestSuite(wire, .init = setup, .fini = teardown);

static struct nat_tuple random_tuple(struct random_source *random)
{
	static const uint8_t protocols[] = {NAT_TCP, NAT_UDP, NAT_ICMP};
	return (struct nat_tuple){
	    .source = (uint32_t)random->next(random->context),
	    .destination = (uint32_t)random->next(random->context),
	    .source_port = (uint16_t)random->next(random->context),
	    .destination_port = (uint16_t)random->next(random->context),
	    .protocol = protocols[random_below(random, 3)],
	    .realm = (uint8_t)random_below(random, 256),
	};
}

static struct wire_request random_request(struct random_source *random)
{
	static const uint8_t ops[] = {WIRE_RESOLVE_OUT,	  WIRE_RESOLVE_IN,     WIRE_PEEK,
				      WIRE_FLAGS,	  WIRE_RELEASE,	       WIRE_ACTIVE,
				      WIRE_DROPPED,	  WIRE_FRAGMENT_FIRST, WIRE_FRAGMENT_LATER,
				      WIRE_FRAGMENT_WHOLE};
	struct wire_request r = {.op = ops[random_below(random, sizeof ops)]};
	r.tcp_flags = (uint8_t)random_below(random, 256);
	if (wire_op_is_question(r.op)) {
		r.tuple = random_tuple(random);
	} else {
		r.handle = random->next(random->context);
		r.age_ms = (uint32_t)random->next(random->context);
		r.direction = (uint8_t)random_below(random, 2);
	}
	if (wire_op_is_fragment(r.op))
		r.identification = (uint16_t)random_below(random, 1u << 16);
	if (r.op == WIRE_FRAGMENT_LATER)
		r.tuple.source_port = r.tuple.destination_port = 0;
	return r;
}

static void batch_comes_back(const struct wire_batch *batch, const uint64_t *incarnation)
{
	const uint8_t *data;
	uint64_t named[2];
	bool first;
	struct wire_batch out = {.entries = requests};
	memset(requests, 0xa5, sizeof requests);
	size_t length = wire_encode_batch(codec, batch, incarnation, &data);
	cr_assert_gt(length, 0);
	cr_assert_leq(length, WIRE_MESSAGE_MAX);
	uint8_t *copy = malloc(length);
	memcpy(copy, data, length);
	cr_assert_eq(wire_decode_batch(codec, copy, length, &out, &first, named), 0, "%s",
		     wire_codec_error(codec));
	free(copy);
	cr_expect_eq(out.sequence, batch->sequence);
	cr_expect_eq(out.acknowledged, batch->acknowledged);
	cr_assert_eq(out.n, batch->n);
	cr_expect_eq(first, incarnation != NULL);
	if (incarnation)
		cr_expect_arr_eq(named, incarnation, sizeof named);
	cr_expect(batch->n == 0 ||
		  memcmp(out.entries, batch->entries, batch->n * sizeof *out.entries) == 0);
}

Test(wire, batch_comes_back_as_it_was)
{
	uint64_t state = 1;
	struct random_source random = random_seeded(&state);
	static struct wire_request entries[WIRE_BATCH_MAX];
	const uint64_t incarnation[2] = {~0ull, 7};
	for (unsigned round = 0; round < 200; round++) {
		struct wire_batch batch = {
		    .sequence = 1 + random_below(&random, 1u << 31),
		    .acknowledged = random.next(random.context),
		    .n = round == 0 ? WIRE_BATCH_MAX : random_below(&random, 40),
		    .entries = entries,
		};
		for (uint32_t i = 0; i < batch.n; i++)
			entries[i] = random_request(&random);
		batch_comes_back(&batch, round % 3 ? NULL : incarnation);
	}
}

Test(wire, tuple_of_zeros_comes_back)
{
	struct wire_request zero = {.op = WIRE_RESOLVE_IN, .tuple.protocol = NAT_UDP};
	struct wire_batch batch = {.sequence = 1, .n = 1, .entries = &zero};
	batch_comes_back(&batch, NULL);
}

Test(wire, addresses_cross_as_numbers)
{
	struct wire_request r = {.op = WIRE_RESOLVE_OUT,
				 .tuple = {.source = inet_addr("10.0.0.1"),
					   .destination = inet_addr("192.0.2.9"),
					   .source_port = htons(1234),
					   .destination_port = htons(53),
					   .protocol = NAT_UDP,
					   .realm = 1}};
	struct wire_batch batch = {.sequence = 1, .n = 1, .entries = &r};
	const uint8_t *data;
	size_t length = wire_encode_batch(codec, &batch, NULL, &data);
	batch_pb *m = conat__v1__dataplane_message__unpack(NULL, length, data);
	cr_assert_not_null(m);
	cr_expect_eq(m->source[0], 0x0a000001);
	cr_expect_eq(m->destination[0], 0xc0000209);
	cr_expect_eq(m->ports[0], 1234u << 16 | 53);
	cr_expect_eq(m->n_handle, 0);
	cr_expect_eq(m->n_age_ms, 0);
	conat__v1__dataplane_message__free_unpacked(m, NULL);
}

static void message_comes_back(const struct wire_message *in)
{
	const uint8_t *data;
	struct wire_message out = {.answers = answers, .notices = notices};
	memset(answers, 0x5a, sizeof answers);
	memset(notices, 0x5a, sizeof notices);
	size_t length = wire_encode_message(codec, in, &data);
	cr_assert_gt(length, 0);
	uint8_t *copy = malloc(length);
	memcpy(copy, data, length);
	cr_assert_eq(wire_decode_message(codec, copy, length, &out), 0, "%s",
		     wire_codec_error(codec));
	free(copy);
	cr_expect_eq(out.epoch, in->epoch);
	cr_expect_eq(out.sequence, in->sequence);
	cr_expect_eq(out.request_sequence, in->request_sequence);
	cr_expect_eq(out.kind, in->kind);
	cr_assert_eq(out.n, in->n);
	if (in->n && in->kind == WIRE_ANSWER)
		cr_expect_eq(memcmp(answers, in->answers, in->n * sizeof *answers), 0);
	if (in->n &&
	    (in->kind == WIRE_INVALIDATE || in->kind == WIRE_EXPIRE || in->kind == WIRE_FRAGMENTS))
		cr_expect_eq(memcmp(notices, in->notices, in->n * sizeof *notices), 0);
}

Test(wire, answers_come_back_as_they_were)
{
	uint64_t state = 2;
	struct random_source random = random_seeded(&state);
	static struct wire_answer entries[WIRE_BATCH_MAX];
	for (unsigned round = 0; round < 200; round++) {
		struct wire_message m = {.epoch = random.next(random.context),
					 .sequence = 1 + round,
					 .request_sequence = random.next(random.context),
					 .kind = WIRE_ANSWER,
					 .n = round == 0 ? WIRE_BATCH_MAX
							 : random_below(&random, 40),
					 .answers = entries};
		for (uint32_t i = 0; i < m.n; i++) {
			struct nat_tuple t = random_tuple(&random);
			memset(&entries[i], 0, sizeof entries[i]);
			entries[i].verdict = (uint8_t)(NAT_TRANSLATE + random_below(&random, 4));
			entries[i].reason = (uint8_t)random_below(&random, NAT_REASON_LIMIT);
			entries[i].direction = (uint8_t)random_below(&random, 2);
			entries[i].ttl_ms = random_below(&random, 2) * 1000;
			entries[i].identification = random_below(&random, 3)
							? 0
							: (uint16_t)random_below(&random, 1u << 16);
			if (entries[i].verdict != NAT_TRANSLATE)
				continue;
			entries[i].handle = random.next(random.context);
			/* Hairpinned now and then. */
			entries[i].peer_handle = random_below(&random, 4)
						     ? entries[i].handle
						     : random.next(random.context);
			entries[i].rewrite = (struct nat_rewrite){
			    .source = t.source,
			    .destination = t.destination,
			    .source_port = t.source_port,
			    .destination_port = t.destination_port,
			    .egress = t.realm,
			};
		}
		message_comes_back(&m);
	}
}

Test(wire, notices_and_flushes_come_back_as_they_were)
{
	uint64_t state = 3;
	struct random_source random = random_seeded(&state);
	static struct wire_notice entries[WIRE_BATCH_MAX];
	static const uint8_t kinds[] = {WIRE_INVALIDATE, WIRE_EXPIRE, WIRE_FRAGMENTS};
	for (unsigned round = 0; round < 300; round++) {
		struct wire_message m = {.epoch = 9,
					 .sequence = 1 + round,
					 .kind = kinds[round % 3],
					 .n = random_below(&random, 40),
					 .notices = entries};
		for (uint32_t i = 0; i < m.n; i++) {
			memset(&entries[i], 0, sizeof entries[i]);
			entries[i].tuple = random_tuple(&random);
			entries[i].handle =
			    random_below(&random, 3) ? random.next(random.context) : 0;
			entries[i].idle_ms = (uint32_t)random.next(random.context);
			entries[i].reason = (uint8_t)random_below(&random, NAT_REASON_LIMIT);
			entries[i].inbound_refreshes = (uint8_t)random_below(&random, 2);
			if (m.kind != WIRE_FRAGMENTS)
				continue;
			entries[i].identification = (uint16_t)random_below(&random, 1u << 16);
			entries[i].new_identification = (uint16_t)random_below(&random, 1u << 16);
		}
		message_comes_back(&m);
	}
	struct wire_message flush = {.epoch = 1, .sequence = 1, .kind = WIRE_FLUSH};
	message_comes_back(&flush);
}

Test(wire, control_comes_back_as_it_was)
{
	static struct wire_control out;
	const uint8_t *data;
	struct wire_hello hello = {.version_min = 1,
				   .version_max = 3,
				   .features = 5,
				   .incarnation = {1, 2},
				   .name = "dp-1.example",
				   .epoch = 8,
				   .sequence = 9,
				   .flow_capacity = 1000};
	size_t length = wire_encode_hello(codec, &hello, &data);
	cr_assert_eq(wire_decode_from_dataplane(codec, data, length, &out), 0);
	cr_expect_eq(out.kind, WIRE_CONTROL_HELLO);
	cr_expect_eq(out.hello.version_min, 1);
	cr_expect_eq(out.hello.version_max, 3);
	cr_expect_eq(out.hello.features, 5);
	cr_expect_arr_eq(out.hello.incarnation, hello.incarnation, sizeof hello.incarnation);
	cr_expect_arr_eq(out.hello.name, hello.name, sizeof hello.name);
	cr_expect_eq(out.hello.epoch, 8);
	cr_expect_eq(out.hello.sequence, 9);
	cr_expect_eq(out.hello.flow_capacity, 1000);

	struct wire_heartbeat beat = {
	    .sent_ms = 77, .acknowledged = 5, .stats = {1, 2, 3, 4, 5, 6}};
	length = wire_encode_heartbeat(codec, &beat, &data);
	cr_assert_eq(wire_decode_from_dataplane(codec, data, length, &out), 0);
	cr_expect_eq(out.kind, WIRE_CONTROL_HEARTBEAT);
	cr_expect_eq(memcmp(&out.heartbeat, &beat, sizeof beat), 0);

	struct wire_welcome welcome = {.version = 1,
				       .epoch = 2,
				       .dataplane = 63,
				       .lease_ms = 10000,
				       .heartbeat_ms = 2000,
				       .grace_ms = 300000,
				       .batch_max = 256,
				       .inflight_max = 64,
				       .flush = true,
				       .sequence = 12};
	length = wire_encode_welcome(codec, &welcome, &data);
	cr_assert_eq(wire_decode_from_table(codec, data, length, &out), 0);
	cr_expect_eq(out.kind, WIRE_CONTROL_WELCOME);
	cr_expect_eq(out.welcome.dataplane, 63);
	cr_expect_eq(out.welcome.grace_ms, 300000);
	cr_expect(out.welcome.flush && !out.welcome.draining);
	cr_expect_eq(out.welcome.sequence, 12);

	struct wire_heartbeat_ack ack = {.epoch = 3, .sent_ms = 77, .renewed = true};
	length = wire_encode_heartbeat_ack(codec, &ack, &data);
	cr_assert_eq(wire_decode_from_table(codec, data, length, &out), 0);
	cr_expect_eq(out.kind, WIRE_CONTROL_HEARTBEAT_ACK);
	cr_expect(out.ack.epoch == 3 && out.ack.sent_ms == 77 && out.ack.renewed);

	static struct wire_config config;
	config = (struct wire_config){.generation = 4,
				      .pending_timeout_ms = 1000,
				      .pending_packets = 4096,
				      .pending_per_flow = 8,
				      .fragment_timeout_ms = 2000,
				      .icmp_errors_per_second = 100,
				      .mss_clamp = 1360,
				      .no_icmp_outside = true,
				      .n_protocols = 2,
				      .protocols = {NAT_GRE, NAT_UDPLITE},
				      .n_prefixes = WIRE_PREFIXES_MAX};
	for (unsigned i = 0; i < WIRE_PREFIXES_MAX; i++)
		config.prefixes[i] = (struct wire_prefix){.address = htonl(0x0a000000 + (i << 8)),
							  .length = 24,
							  .realm = (uint8_t)i,
							  .kind = (uint8_t)(1 + i % 4)};
	length = wire_encode_config(codec, &config, &data);
	cr_assert_gt(length, 0);
	cr_assert_eq(wire_decode_from_table(codec, data, length, &out), 0);
	cr_expect_eq(out.kind, WIRE_CONTROL_CONFIG);
	cr_expect_eq(memcmp(&out.config, &config, sizeof config), 0);
}
