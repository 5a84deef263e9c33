/* SPDX-License-Identifier: Apache-2.0 */
/* The service over a real connection: what it answers to dataplanes. */
#include "tests/support/service_bed.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

TestSuite(service, .init = bed_start_plain, .fini = bed_stop, .timeout = 60);

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
