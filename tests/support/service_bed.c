/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/service_bed.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <unistd.h>

struct service service;
struct raw_client client;
struct wire_codec *codec;
char error[512];
struct wire_answer answers[WIRE_BATCH_MAX];
struct wire_notice notices[WIRE_BATCH_MAX];

void bed_start(const char *yaml, const char *listen)
{
	cr_assert_eq(service_start(&service, yaml, listen, NULL, 1, error, sizeof error), 0, "%s",
		     error);
	cr_assert_eq(raw_client_open(&client, service.address, NULL), 0);
	cr_assert_eq(wire_codec_new(&codec), 0);
}

void bed_start_plain(void)
{
	bed_start(service_yaml, "127.0.0.1:0");
}

void bed_stop(void)
{
	raw_client_close(&client);
	service_stop(&service);
	wire_codec_free(codec);
}

int call(const char *method, const void *request, size_t length,
	 int (*message)(void *, const uint8_t *, size_t), void *context, int *status)
{
	return rpc_call(service.address, NULL, method, request, length, 3000, message, context,
			status, error, sizeof error);
}

struct server_counters counters(void)
{
	struct server_counters c;
	usleep(250000); /* they are published every 100 ms */
	server_counters(service.server, &c);
	return c;
}

/* ---- a dataplane by hand ---- */

struct wire_hello a_hello(uint64_t incarnation)
{
	struct wire_hello hello = {
	    .version_min = WIRE_VERSION,
	    .version_max = WIRE_VERSION,
	    .incarnation = {incarnation, 1},
	    .name = "by-hand",
	    .flow_capacity = 1000,
	};
	return hello;
}

void send_hello(struct raw_stream *stream, const struct wire_hello *hello)
{
	const uint8_t *data;
	size_t length = wire_encode_hello(codec, hello, &data);
	cr_assert(raw_queue(stream, data, length));
	raw_flush(stream);
}

void send_beat(struct by_hand *d)
{
	const struct wire_heartbeat beat = {.sent_ms = 1};
	const uint8_t *data;
	size_t length = wire_encode_heartbeat(codec, &beat, &data);
	cr_assert(raw_queue(d->control, data, length));
	raw_flush(d->control);
}

void attach(struct by_hand *d, uint64_t incarnation)
{
	*d = (struct by_hand){.hello = a_hello(incarnation)};
	d->control = raw_open(&client, "/conat.v1.NatTable/Control");
	send_hello(d->control, &d->hello);
	cr_assert(raw_wait_messages(d->control, 2), "status %d %s", d->control->status,
		  d->control->details);
	cr_assert_eq(wire_decode_from_table(codec, d->control->messages[0].data,
					    d->control->messages[0].length, &d->welcome),
		     0);
	cr_assert_eq(d->welcome.kind, WIRE_CONTROL_WELCOME);
	send_beat(d);
	cr_assert(raw_wait_messages(d->control, 3));
	d->data = raw_open(&client, "/conat.v1.NatTable/Attach");
}

void leave(struct by_hand *d)
{
	raw_close(d->data);
	raw_close(d->control);
}

struct wire_request a_question(unsigned i)
{
	struct wire_request r = {.op = WIRE_RESOLVE_OUT,
				 .tuple = {.source = htonl(0x0a000001 + i / 1000),
					   .destination = inet_addr("198.51.100.1"),
					   .source_port = htons((uint16_t)(1024 + i % 1000)),
					   .destination_port = htons(9000),
					   .protocol = NAT_UDP,
					   .realm = 1}};
	return r;
}

void queue_batch(struct by_hand *d, struct wire_request *entries, uint32_t n)
{
	struct wire_batch batch = {.sequence = ++d->sequence, .n = n, .entries = entries};
	const uint8_t *data;
	size_t length =
	    wire_encode_batch(codec, &batch, d->sequence == 1 ? d->hello.incarnation : NULL, &data);
	cr_assert_gt(length, 0);
	raw_queue(d->data, data, length);
}

void create_sessions(struct by_hand *d, unsigned n)
{
	static struct wire_request entries[250];
	unsigned replies = d->data->n;
	for (unsigned i = 0; i < n;) {
		for (unsigned b = 0; b < 8 && i < n; b++, replies++) {
			uint32_t k = 0;
			while (k < 250 && i < n)
				entries[k++] = a_question(i++);
			queue_batch(d, entries, k);
		}
		raw_flush(d->data);
		cr_assert(raw_wait_messages(d->data, replies), "%u of %u: status %d %s", d->data->n,
			  replies, d->data->status, d->data->details);
	}
}

struct wire_message decoded(const struct raw_stream *stream, unsigned i)
{
	struct wire_message m = {.answers = answers, .notices = notices};
	cr_assert_lt(i, stream->n);
	cr_assert_eq(
	    wire_decode_message(codec, stream->messages[i].data, stream->messages[i].length, &m),
	    0);
	return m;
}
