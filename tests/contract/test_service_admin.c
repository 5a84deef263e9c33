/* SPDX-License-Identifier: Apache-2.0 */
/* NatAdmin: what an operator asks of the service. */
#include "tests/support/service_bed.h"

#include <criterion/criterion.h>
#include <string.h>
#include "common/base/err.h"
#include "conat/v1/nat_admin.pb-c.h"

TestSuite(service_admin, .init = bed_start_plain, .fini = bed_stop, .timeout = 60);

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

Test(service_admin, a_long_list_comes_whole_and_heartbeats_go_between)
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

Test(service_admin, status_counts_what_is_there)
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

Test(service_admin, what_an_operator_asks_wrongly_is_refused_with_a_sentence)
{
	int status;
	uint8_t bytes[64];
	Conat__V1__Filter filter = CONAT__V1__FILTER__INIT;
	Conat__V1__Endpoint e = CONAT__V1__ENDPOINT__INIT;

	cr_expect_eq(call("/conat.v1.NatAdmin/Delete", "", 0, NULL, NULL, &status), ERR_STATE);
	cr_expect_eq(status, INVALID_ARGUMENT, "an empty filter deletes nothing: %s", error);
	filter.protocol = 4;
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

Test(service_admin, static_mappings_come_and_go)
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
