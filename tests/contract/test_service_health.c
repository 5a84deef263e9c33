/* SPDX-License-Identifier: Apache-2.0 */
/* grpc.health.v1 of the service. */
#include "tests/support/service_bed.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include "grpc/health/v1/health.pb-c.h"

TestSuite(service_health, .init = bed_start_plain, .fini = bed_stop, .timeout = 60);

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

Test(service_health, health_check_says_serving)
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

Test(service_health, health_watch_hears_of_the_end)
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
