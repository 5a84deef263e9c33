/* SPDX-License-Identifier: Apache-2.0 */
/* The service over a real connection: what it answers, and what it makes of clients without
 * manners. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "common/base/err.h"
#include "common/wire/wire_encode.h"
#include "conat/v1/nat_admin.pb-c.h"
#include "conat/v1/nat_table.pb-c.h"
#include "grpc/health/v1/health.pb-c.h"
#include "tests/support/raw_client.h"
#include "tests/support/service.h"

enum {
	OK = 0,
	INVALID_ARGUMENT = 3,
	NOT_FOUND = 5,
	RESOURCE_EXHAUSTED = 8,
	FAILED_PRECONDITION = 9,
	ABORTED = 10,
	UNIMPLEMENTED = 12,
	UNAVAILABLE = 14,
};

static struct service service;
static struct raw_client client;
static struct wire_codec *codec;
static char error[512];

static void start(const char *yaml, const char *listen)
{
	cr_assert_eq(service_start(&service, yaml, listen, NULL, 1, error, sizeof error), 0, "%s",
		     error);
	cr_assert_eq(raw_client_open(&client, service.address, NULL), 0);
	cr_assert_eq(wire_codec_new(&codec), 0);
}

static void setup(void)
{
	start(service_yaml, "127.0.0.1:0");
}

static void teardown(void)
{
	raw_client_close(&client);
	service_stop(&service);
	wire_codec_free(codec);
}

TestSuite(service, .init = setup, .fini = teardown, .timeout = 60);
/* Tests that start it their own way. */
TestSuite(service_apart, .fini = teardown, .timeout = 60);

static struct server_counters counters(void)
{
	struct server_counters c;
	usleep(250000); /* they are published every 100 ms */
	server_counters(service.server, &c);
	return c;
}

/* ---- a dataplane by hand ---- */

struct by_hand {
	struct raw_stream *control, *data;
	struct wire_hello hello;
	struct wire_control welcome;
	uint64_t sequence;
};

static struct wire_hello a_hello(uint64_t incarnation)
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

static void send_hello(struct raw_stream *stream, const struct wire_hello *hello)
{
	const uint8_t *data;
	size_t length = wire_encode_hello(codec, hello, &data);
	cr_assert(raw_queue(stream, data, length));
	raw_flush(stream);
}

static void send_beat(struct by_hand *d)
{
	const struct wire_heartbeat beat = {.sent_ms = 1};
	const uint8_t *data;
	size_t length = wire_encode_heartbeat(codec, &beat, &data);
	cr_assert(raw_queue(d->control, data, length));
	raw_flush(d->control);
}

static void attach(struct by_hand *d, uint64_t incarnation)
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

static void leave(struct by_hand *d)
{
	raw_close(d->data);
	raw_close(d->control);
}

static struct wire_request a_question(unsigned i)
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

static void queue_batch(struct by_hand *d, struct wire_request *entries, uint32_t n)
{
	struct wire_batch batch = {.sequence = ++d->sequence, .n = n, .entries = entries};
	const uint8_t *data;
	size_t length =
	    wire_encode_batch(codec, &batch, d->sequence == 1 ? d->hello.incarnation : NULL, &data);
	cr_assert_gt(length, 0);
	raw_queue(d->data, data, length);
}

/* Creates sessions 0 .. n - 1, a window of batches at a time. */
static void create_sessions(struct by_hand *d, unsigned n)
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

static struct wire_answer answers[WIRE_BATCH_MAX];
static struct wire_notice notices[WIRE_BATCH_MAX];

static struct wire_message decoded(const struct raw_stream *stream, unsigned i)
{
	struct wire_message m = {.answers = answers, .notices = notices};
	cr_assert_lt(i, stream->n);
	cr_assert_eq(
	    wire_decode_message(codec, stream->messages[i].data, stream->messages[i].length, &m),
	    0);
	return m;
}

/* ---- what it does ---- */

Test(service, answers_a_question_and_the_same_again)
{
	struct by_hand d;
	struct wire_request q = a_question(0);
	attach(&d, 1);
	queue_batch(&d, &q, 1);
	raw_flush(d.data);
	cr_assert(raw_wait_messages(d.data, 1), "status %d %s", d.data->status, d.data->details);
	struct wire_message m = decoded(d.data, 0);
	cr_expect_eq(m.kind, WIRE_ANSWER);
	cr_expect_eq(m.request_sequence, 1);
	cr_assert_eq(m.n, 1);
	struct wire_answer first = answers[0];
	cr_expect_eq(first.verdict, NAT_TRANSLATE);
	cr_expect_eq(ntohl(first.rewrite.source) & ~0xfu, 0xc0000200);
	cr_expect_eq(first.rewrite.destination, q.tuple.destination);
	queue_batch(&d, &q, 1);
	raw_flush(d.data);
	cr_assert(raw_wait_messages(d.data, 2));
	m = decoded(d.data, 1);
	cr_expect_eq(m.request_sequence, 2);
	cr_expect_eq(memcmp(&first, &answers[0], sizeof first), 0, "U4");
	leave(&d);
}

Test(service, pushes_the_configuration_after_the_welcome)
{
	struct by_hand d;
	static struct wire_control config;
	attach(&d, 1);
	cr_assert_eq(wire_decode_from_table(codec, d.control->messages[1].data,
					    d.control->messages[1].length, &config),
		     0);
	cr_assert_eq(config.kind, WIRE_CONTROL_CONFIG);
	cr_expect_geq(config.config.n_prefixes, 2);
	leave(&d);
}

static bool no_streams(const struct server_counters *c)
{
	return c->control_streams == 0 && c->data_streams == 0;
}

Test(service, one_stream_takes_the_other_with_it)
{
	struct by_hand d;
	struct wire_request q = a_question(0);
	attach(&d, 1);
	queue_batch(&d, &q, 1);
	raw_flush(d.data);
	cr_assert(raw_wait_messages(d.data, 1));
	raw_close(d.control);
	cr_expect_eq(raw_wait_closed(d.data), ABORTED);
	raw_close(d.data);
	cr_expect(service_wait(&service, no_streams));
}

Test(service, an_incarnation_that_comes_back_replaces_its_old_streams)
{
	struct by_hand old, again;
	attach(&old, 7);
	attach(&again, 7);
	cr_expect_eq(raw_wait_closed(old.control), ABORTED);
	struct wire_request q = a_question(0);
	queue_batch(&again, &q, 1);
	raw_flush(again.data);
	cr_expect(raw_wait_messages(again.data, 1));
	leave(&again);
	leave(&old);
}

/* ---- what it refuses ---- */

Test(service, unknown_methods_are_unimplemented_and_counted)
{
	static const char *const methods[] = {"/conat.v1.NatTable/Nope", "/conat.v1.NatAdmin/",
					      "/other/Service", "/", "/conat.v1.NatAdmin/StatusX"};
	for (unsigned i = 0; i < 5; i++) {
		struct raw_stream *s = raw_open(&client, methods[i]);
		cr_expect_eq(raw_wait_closed(s), UNIMPLEMENTED, "%s: %d", methods[i], s->status);
		raw_close(s);
	}
	cr_expect_eq(counters().unknown_methods, 5);
}

static size_t uneven_batch(const struct wire_hello *hello, uint8_t *out)
{
	static uint8_t ops[] = {WIRE_RESOLVE_OUT, WIRE_RESOLVE_OUT};
	static uint8_t protocols[] = {NAT_UDP, NAT_UDP};
	static uint32_t words[] = {1, 2, 3};
	Conat__V1__DataplaneMessage m = CONAT__V1__DATAPLANE_MESSAGE__INIT;
	m.incarnation_high = hello->incarnation[0];
	m.incarnation_low = hello->incarnation[1];
	m.sequence = 1;
	m.n = 2;
	m.op = (ProtobufCBinaryData){2, ops};
	m.protocol = (ProtobufCBinaryData){2, protocols};
	m.n_source = 3;
	m.n_destination = m.n_ports = 2;
	m.source = m.destination = m.ports = words;
	return conat__v1__dataplane_message__pack(&m, out);
}

Test(service, uneven_columns_end_the_stream_and_nobody_elses)
{
	struct by_hand bad, good;
	uint8_t bytes[256];
	attach(&bad, 1);
	attach(&good, 2);
	raw_queue(bad.data, bytes, uneven_batch(&bad.hello, bytes));
	raw_flush(bad.data);
	cr_expect_eq(raw_wait_closed(bad.data), INVALID_ARGUMENT);
	cr_expect_str_not_empty(bad.data->details);
	cr_expect_eq(counters().bad_messages, 1);
	struct wire_request q = a_question(0);
	queue_batch(&good, &q, 1);
	raw_flush(good.data);
	cr_expect(raw_wait_messages(good.data, 1));
	leave(&bad);
	leave(&good);
}

Test(service, bytes_that_are_no_message_are_refused_everywhere)
{
	static const char *const methods[] = {
	    "/conat.v1.NatTable/Attach", "/conat.v1.NatTable/Control", "/conat.v1.NatAdmin/Status",
	    "/conat.v1.NatAdmin/Sessions", "/grpc.health.v1.Health/Check"};
	uint8_t bytes[100];
	memset(bytes, 0xff, sizeof bytes);
	for (unsigned i = 0; i < 5; i++) {
		struct raw_stream *s = raw_open(&client, methods[i]);
		raw_queue(s, bytes, sizeof bytes);
		raw_flush(s);
		cr_expect_eq(raw_wait_closed(s), INVALID_ARGUMENT, "%s: %d", methods[i], s->status);
		raw_close(s);
	}
	cr_expect_eq(counters().bad_messages, 5);
}

Test(service, a_version_that_nobody_speaks_is_refused)
{
	struct wire_hello hello = a_hello(1);
	struct raw_stream *s = raw_open(&client, "/conat.v1.NatTable/Control");
	hello.version_min = hello.version_max = WIRE_VERSION + 1;
	send_hello(s, &hello);
	cr_expect_eq(raw_wait_closed(s), FAILED_PRECONDITION);
	cr_expect_eq(counters().bad_version, 1);
	raw_close(s);
}

Test(service, streams_start_with_their_first_message)
{
	struct by_hand d = {.hello = a_hello(3)};
	const struct wire_heartbeat beat = {.sent_ms = 1};
	const uint8_t *data;
	struct raw_stream *control = raw_open(&client, "/conat.v1.NatTable/Control");
	size_t length = wire_encode_heartbeat(codec, &beat, &data);
	raw_queue(control, data, length);
	raw_flush(control);
	cr_expect_eq(raw_wait_closed(control), FAILED_PRECONDITION);
	raw_close(control);

	struct wire_request q = a_question(0);
	d.data = raw_open(&client, "/conat.v1.NatTable/Attach");
	queue_batch(&d, &q, 1);
	raw_flush(d.data);
	cr_expect_eq(raw_wait_closed(d.data), FAILED_PRECONDITION, "nobody said hello");
	raw_close(d.data);

	d.sequence = 5;
	d.data = raw_open(&client, "/conat.v1.NatTable/Attach");
	queue_batch(&d, &q, 1);
	raw_flush(d.data);
	cr_expect_eq(raw_wait_closed(d.data), FAILED_PRECONDITION, "no incarnation");
	raw_close(d.data);

	attach(&d, 4);
	send_hello(d.control, &d.hello);
	cr_expect_eq(raw_wait_closed(d.control), FAILED_PRECONDITION, "a second hello");
	leave(&d);
}

Test(service, a_message_larger_than_the_limit_is_refused)
{
	static uint8_t huge[WIRE_MESSAGE_MAX + 1];
	struct by_hand d;
	attach(&d, 1);
	raw_queue(d.data, huge, sizeof huge);
	raw_flush(d.data);
	cr_expect_eq(raw_wait_closed(d.data), RESOURCE_EXHAUSTED);
	leave(&d);
}

Test(service, a_batch_for_an_unknown_realm_does_no_harm)
{
	struct by_hand d;
	struct wire_request q = a_question(0);
	q.tuple.realm = 200;
	attach(&d, 1);
	queue_batch(&d, &q, 1);
	raw_flush(d.data);
	/* Either refused as a batch or answered with a refusal: no translation. */
	raw_wait_messages(d.data, 1);
	if (d.data->n) {
		decoded(d.data, 0);
		cr_expect_neq(answers[0].verdict, NAT_TRANSLATE);
	} else {
		cr_expect_eq(raw_wait_closed(d.data), INVALID_ARGUMENT);
		cr_expect_eq(counters().bad_batches, 1);
	}
	leave(&d);
}

Test(service_apart, a_flood_beyond_the_credits_ends_the_stream)
{
	char yaml[1024];
	snprintf(yaml, sizeof yaml, "%sdataplanes: {inflight: 1}\n", service_yaml);
	start(yaml, "127.0.0.1:0");
	struct by_hand d;
	static struct wire_request entries[64];
	for (unsigned i = 0; i < 64; i++)
		entries[i] = a_question(i);
	attach(&d, 1);
	cr_expect_eq(d.welcome.welcome.inflight_max, 1);
	for (unsigned i = 0; i < RPC_QUEUE_MAX; i++)
		queue_batch(&d, entries, 64);
	raw_flush(d.data);
	cr_expect_eq(raw_wait_closed(d.data), UNAVAILABLE, "%d %s", d.data->status,
		     d.data->details);
	cr_expect_eq(counters().bad_batches, 1);
	leave(&d);
	attach(&d, 2);
	cr_expect_eq(d.control->status, -1, "and the next one is welcome");
	leave(&d);
}

Test(service, more_calls_than_it_keeps_are_refused)
{
	enum { CALLS = 100 };
	static struct raw_stream *streams[CALLS];
	unsigned refused = 0;
	Grpc__Health__V1__HealthCheckRequest r = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
	uint8_t bytes[16];
	size_t length = grpc__health__v1__health_check_request__pack(&r, bytes);
	for (unsigned i = 0; i < CALLS; i++) {
		streams[i] = raw_open(&client, "/grpc.health.v1.Health/Watch");
		raw_queue(streams[i], bytes, length);
		raw_flush(streams[i]);
	}
	raw_run(&client, 500);
	for (unsigned i = 0; i < CALLS; i++)
		refused += streams[i]->status == RESOURCE_EXHAUSTED;
	cr_expect_eq(refused, CALLS - 64);
	cr_expect_eq(counters().refused_calls, CALLS - 64);
	for (unsigned i = 0; i < CALLS; i++)
		raw_close(streams[i]);
	struct by_hand d;
	attach(&d, 1); /* dataplanes have room of their own */
	leave(&d);
}

Test(service, a_second_server_on_the_same_address_does_not_start)
{
	struct service second;
	cr_expect_neq(
	    service_start(&second, service_yaml, service.address, NULL, 1, error, sizeof error), 0);
	cr_expect(strstr(error, service.address), "%s", error);
}

Test(service_apart, a_second_server_on_the_same_unix_socket_does_not_start)
{
	struct service second;
	char listen[64];
	snprintf(listen, sizeof listen, "unix:/tmp/conat-test-%d.sock", getpid());
	start(service_yaml, listen);
	cr_expect_neq(service_start(&second, service_yaml, listen, NULL, 1, error, sizeof error),
		      0);
	struct by_hand d;
	attach(&d, 1); /* the first one is still there */
	leave(&d);
}

/* ---- health ---- */

static size_t health_request(const char *name, uint8_t *out)
{
	char copy[64];
	Grpc__Health__V1__HealthCheckRequest r = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
	snprintf(copy, sizeof copy, "%s", name);
	r.service = copy;
	return grpc__health__v1__health_check_request__pack(&r, out);
}

static int health_status(const struct raw_stream *s, unsigned i)
{
	Grpc__Health__V1__HealthCheckResponse *r = grpc__health__v1__health_check_response__unpack(
	    NULL, s->messages[i].length, s->messages[i].data);
	cr_assert_not_null(r);
	int status = r->status;
	grpc__health__v1__health_check_response__free_unpacked(r, NULL);
	return status;
}

Test(service, health_check_says_serving)
{
	static const char *const names[] = {"", "conat.v1.NatTable", "conat.v1.NatAdmin"};
	uint8_t bytes[128];
	for (unsigned i = 0; i < 3; i++) {
		struct raw_stream *s = raw_open(&client, "/grpc.health.v1.Health/Check");
		raw_queue(s, bytes, health_request(names[i], bytes));
		raw_flush(s);
		cr_expect_eq(raw_wait_closed(s), OK);
		cr_assert_eq(s->n, 1);
		cr_expect_eq(health_status(s, 0), 1);
		raw_close(s);
	}
	struct raw_stream *s = raw_open(&client, "/grpc.health.v1.Health/Check");
	raw_queue(s, bytes, health_request("else", bytes));
	raw_flush(s);
	cr_expect_eq(raw_wait_closed(s), NOT_FOUND);
	raw_close(s);
}

Test(service, health_watch_hears_of_the_end)
{
	uint8_t bytes[128];
	struct raw_stream *s = raw_open(&client, "/grpc.health.v1.Health/Watch");
	raw_queue(s, bytes, health_request("", bytes));
	raw_flush(s);
	cr_assert(raw_wait_messages(s, 1));
	cr_expect_eq(health_status(s, 0), 1);
	server_stop(service.server);
	cr_expect(raw_wait_messages(s, 2), "%u messages, status %d %s", s->n, s->status,
		  s->details);
	cr_expect_eq(health_status(s, 1), 2);
	cr_expect_eq(raw_wait_closed(s), OK);
	raw_close(s);
}

/* ---- the operator ---- */

struct rows {
	unsigned rows, messages;
};

static int count_sessions(void *context, const uint8_t *data, size_t length)
{
	struct rows *rows = context;
	Conat__V1__SessionRows *m = conat__v1__session_rows__unpack(NULL, length, data);
	cr_assert_not_null(m);
	rows->rows += (unsigned)m->n_rows;
	rows->messages++;
	for (size_t i = 0; i < m->n_rows; i++)
		cr_expect_eq(m->rows[i]->internal->address >> 24, 10);
	conat__v1__session_rows__free_unpacked(m, NULL);
	return 0;
}

static int keep_status(void *context, const uint8_t *data, size_t length)
{
	*(Conat__V1__StatusReply **)context = conat__v1__status_reply__unpack(NULL, length, data);
	return 0;
}

static int call(const char *method, const void *request, size_t length,
		int (*message)(void *, const uint8_t *, size_t), void *context, int *status)
{
	return rpc_call(service.address, NULL, method, request, length, 3000, message, context,
			status, error, sizeof error);
}

Test(service, a_long_list_comes_whole_and_heartbeats_go_between)
{
	enum { SESSIONS = 20000 };
	struct by_hand d;
	struct rows rows = {0};
	uint8_t bytes[64];
	int status;
	attach(&d, 1);
	create_sessions(&d, SESSIONS);
	cr_assert_eq(call("/conat.v1.NatAdmin/Sessions", "", 0, count_sessions, &rows, &status), 0,
		     "%s", error);
	cr_expect_eq(rows.rows, SESSIONS);

	/* Somebody lists and does not read: others do not notice. */
	struct raw_stream *list = raw_open(&client, "/conat.v1.NatAdmin/Sessions");
	raw_queue(list, "", 0);
	raw_flush(list);
	cr_assert(raw_wait_messages(list, 3));
	unsigned before = d.control->n;
	send_beat(&d);
	cr_expect(raw_wait_messages(d.control, before + 1));
	raw_close(list);

	Conat__V1__Filter filter = CONAT__V1__FILTER__INIT;
	filter.limit = 300;
	rows = (struct rows){0};
	size_t length = conat__v1__filter__pack(&filter, bytes);
	cr_assert_eq(
	    call("/conat.v1.NatAdmin/Sessions", bytes, length, count_sessions, &rows, &status), 0);
	cr_expect_eq(rows.rows, 300);
	leave(&d);
}

Test(service, status_counts_what_is_there)
{
	struct by_hand d;
	Conat__V1__StatusReply *reply = NULL;
	int status;
	attach(&d, 1);
	create_sessions(&d, 500);
	cr_assert_eq(call("/conat.v1.NatAdmin/Status", "", 0, keep_status, &reply, &status), 0,
		     "%s", error);
	cr_assert_not_null(reply);
	cr_expect_eq(reply->sessions, 500);
	cr_expect_eq(reply->dataplanes, 1);
	cr_expect_eq(reply->epoch, 1);
	cr_expect_str_eq(reply->journal, "none");
	conat__v1__status_reply__free_unpacked(reply, NULL);
	leave(&d);
}

Test(service, what_an_operator_asks_wrongly_is_refused_with_a_sentence)
{
	int status;
	uint8_t bytes[64];
	Conat__V1__Filter filter = CONAT__V1__FILTER__INIT;
	Conat__V1__Endpoint e = CONAT__V1__ENDPOINT__INIT;

	cr_expect_eq(call("/conat.v1.NatAdmin/Delete", "", 0, NULL, NULL, &status), ERR_STATE);
	cr_expect_eq(status, INVALID_ARGUMENT, "an empty filter deletes nothing: %s", error);
	filter.protocol = 132;
	size_t length = conat__v1__filter__pack(&filter, bytes);
	cr_expect_eq(call("/conat.v1.NatAdmin/Sessions", bytes, length, NULL, NULL, &status),
		     ERR_STATE);
	cr_expect_eq(status, INVALID_ARGUMENT);
	filter.protocol = 0;
	filter.external = &e;
	e.port = 65536;
	length = conat__v1__filter__pack(&filter, bytes);
	cr_expect_eq(call("/conat.v1.NatAdmin/Mappings", bytes, length, NULL, NULL, &status),
		     ERR_STATE);
	cr_expect_eq(status, INVALID_ARGUMENT);
	cr_expect_eq(call("/conat.v1.NatAdmin/StaticAdd", "", 0, NULL, NULL, &status), ERR_STATE);
	cr_expect_eq(status, INVALID_ARGUMENT);
	cr_expect_eq(call("/conat.v1.NatAdmin/Drain", "", 0, NULL, NULL, &status), ERR_STATE);
	cr_expect_eq(status, NOT_FOUND);
	cr_expect(strstr(error, "no such dataplane"), "%s", error);
}

Test(service, static_mappings_come_and_go)
{
	Conat__V1__StaticMapping m;
	Conat__V1__Endpoint external = CONAT__V1__ENDPOINT__INIT, internal = external;
	uint8_t bytes[128];
	int status;
	conat__v1__static_mapping__init(&m);
	m.realm = 1;
	m.protocol = NAT_TCP;
	external.address = 0xc0000201;
	external.port = 8443;
	internal.address = 0x0a000005;
	internal.port = 443;
	m.external = &external;
	m.internal = &internal;
	size_t length = conat__v1__static_mapping__pack(&m, bytes);
	cr_assert_eq(call("/conat.v1.NatAdmin/StaticAdd", bytes, length, NULL, NULL, &status), 0,
		     "%s", error);
	cr_expect_neq(call("/conat.v1.NatAdmin/StaticAdd", bytes, length, NULL, NULL, &status), 0);
	cr_assert_eq(call("/conat.v1.NatAdmin/StaticDelete", bytes, length, NULL, NULL, &status), 0,
		     "%s", error);
	cr_expect_neq(call("/conat.v1.NatAdmin/StaticDelete", bytes, length, NULL, NULL, &status),
		      0);
	cr_expect_eq(status, NOT_FOUND);
}

/* ---- reload ---- */

Test(service, a_reload_reaches_every_dataplane)
{
	struct by_hand d;
	struct config *new;
	static struct wire_control config;
	char text[2048];
	attach(&d, 1);
	unsigned before = d.control->n;
	snprintf(text, sizeof text, "service:\n  admin: off\n%s%s", service_yaml,
		 "bypass: [203.0.113.0/24]\n");
	cr_assert_eq(config_parse("t", text, (unsigned)strlen(text), &new, error, sizeof error), 0,
		     "%s", error);
	new->generation = service.config->generation + 1;
	cr_assert_eq(server_reload(service.server, new, error, sizeof error), 0, "%s", error);
	cr_assert(raw_wait_messages(d.control, before + 1));
	cr_assert_eq(wire_decode_from_table(codec, d.control->messages[before].data,
					    d.control->messages[before].length, &config),
		     0);
	cr_expect_eq(config.kind, WIRE_CONTROL_CONFIG);
	cr_expect_eq(config.config.generation, new->generation);
	cr_expect_eq(counters().reloads, 1);
	leave(&d);
	server_stop(service.server);
	cr_expect_eq(d.sequence, 0);
	/* The old one may go now; service_stop frees what is in the field. */
	struct config *old = service.config;
	service.config = new;
	config_free(old);
}
