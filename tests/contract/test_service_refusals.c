/* SPDX-License-Identifier: Apache-2.0 */
/* What the service makes of clients without manners. */
#include "tests/support/service_bed.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "conat/v1/nat_table.pb-c.h"
#include "grpc/health/v1/health.pb-c.h"

TestSuite(service_refusals, .init = bed_start_plain, .fini = bed_stop, .timeout = 60);
/* Tests that start it their own way. */
TestSuite(service_refusals_apart, .fini = bed_stop, .timeout = 60);

Test(service_refusals, unknown_methods_are_unimplemented_and_counted)
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

Test(service_refusals, uneven_columns_end_the_stream_and_nobody_elses)
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

Test(service_refusals, bytes_that_are_no_message_are_refused_everywhere)
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

Test(service_refusals, a_version_that_nobody_speaks_is_refused)
{
	struct wire_hello hello = a_hello(1);
	struct raw_stream *s = raw_open(&client, "/conat.v1.NatTable/Control");
	hello.version_min = hello.version_max = WIRE_VERSION + 1;
	send_hello(s, &hello);
	cr_expect_eq(raw_wait_closed(s), FAILED_PRECONDITION);
	cr_expect_eq(counters().bad_version, 1);
	raw_close(s);
}

Test(service_refusals, streams_start_with_their_first_message)
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

Test(service_refusals, a_message_larger_than_the_limit_is_refused)
{
	static uint8_t huge[WIRE_MESSAGE_MAX + 1];
	struct by_hand d;
	attach(&d, 1);
	raw_queue(d.data, huge, sizeof huge);
	raw_flush(d.data);
	cr_expect_eq(raw_wait_closed(d.data), RESOURCE_EXHAUSTED);
	leave(&d);
}

Test(service_refusals, a_batch_for_an_unknown_realm_does_no_harm)
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

Test(service_refusals_apart, a_flood_beyond_the_credits_ends_the_stream)
{
	char yaml[1024];
	snprintf(yaml, sizeof yaml, "%sdataplanes: {inflight: 1}\n", service_yaml);
	bed_start(yaml, "127.0.0.1:0");
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

Test(service_refusals, more_calls_than_it_keeps_are_refused)
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

Test(service_refusals, a_second_server_on_the_same_address_does_not_start)
{
	struct service second;
	cr_expect_neq(
	    service_start(&second, service_yaml, service.address, NULL, 1, error, sizeof error), 0);
	cr_expect(strstr(error, service.address), "%s", error);
}

Test(service_refusals_apart, a_second_server_on_the_same_unix_socket_does_not_start)
{
	struct service second;
	char listen[64];
	snprintf(listen, sizeof listen, "unix:/tmp/conat-test-%d.sock", getpid());
	bed_start(service_yaml, listen);
	cr_expect_neq(service_start(&second, service_yaml, listen, NULL, 1, error, sizeof error),
		      0);
	struct by_hand d;
	attach(&d, 1); /* the first one is still there */
	leave(&d);
}
