/* SPDX-License-Identifier: Apache-2.0 */
/* Mutual TLS: who may call what. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common/base/err.h"
#include "common/wire/wire_encode.h"
#include "tests/support/raw_client.h"
#include "tests/support/service.h"

enum { INVALID_ARGUMENT = 3, PERMISSION_DENIED = 7, UNAVAILABLE = 14 };

static char directory[] = "/tmp/conat-tls-XXXXXX";
static struct service service;
static char error[512];

static void setup(void)
{
	char command[512];
	cr_assert_not_null(mkdtemp(directory));
	snprintf(command, sizeof command, "'%s/tests/support/certificates' %s", CONAT_SOURCE_DIR,
		 directory);
	cr_assert_eq(system(command), 0, "openssl");
	cr_assert_eq(
	    service_start(&service, service_yaml, "127.0.0.1:0", directory, 1, error, sizeof error),
	    0, "%s", error);
}

static void teardown(void)
{
	char command[128];
	service_stop(&service);
	snprintf(command, sizeof command, "rm -r %s", directory);
	cr_expect_eq(system(command), 0);
}

TestSuite(tls, .init = setup, .fini = teardown, .timeout = 60);

static struct rpc_credentials credentials(const char *who, const char *ca)
{
	struct rpc_credentials c;
	snprintf(c.certificate, sizeof c.certificate, "%s/%s.pem", directory, who);
	snprintf(c.key, sizeof c.key, "%s/%s.key", directory, who);
	snprintf(c.ca, sizeof c.ca, "%s/%s.pem", directory, ca);
	return c;
}

/* The status of an admin call, and whether a hello is welcomed. */
static int ask_status(const struct rpc_credentials *c)
{
	int status = -1;
	rpc_call(service.address, c, "/conat.v1.NatAdmin/Status", "", 0, 2000, NULL, NULL, &status,
		 error, sizeof error);
	return status;
}

static int say_hello(const struct rpc_credentials *c)
{
	struct raw_client client;
	struct wire_codec *codec;
	const uint8_t *data;
	struct wire_hello hello = {
	    .version_min = 1, .version_max = 1, .incarnation = {1, 1}, .name = "tls"};
	cr_assert_eq(raw_client_open(&client, service.address, c), 0);
	cr_assert_eq(wire_codec_new(&codec), 0);
	size_t length = wire_encode_hello(codec, &hello, &data);
	struct raw_stream *stream = raw_open(&client, "/conat.v1.NatTable/Control");
	raw_queue(stream, data, length);
	raw_flush(stream);
	int status = raw_wait_messages(stream, 1) ? 0 : stream->status;
	raw_close(stream);
	raw_client_close(&client);
	wire_codec_free(codec);
	return status;
}

Test(tls, roles_come_from_the_certificate)
{
	struct rpc_credentials dataplane = credentials("dataplane", "ca");
	struct rpc_credentials operator_ = credentials("operator", "ca");
	struct rpc_credentials nobody = credentials("nobody", "ca");
	cr_expect_eq(say_hello(&dataplane), 0);
	cr_expect_eq(ask_status(&dataplane), PERMISSION_DENIED);
	cr_expect_eq(ask_status(&operator_), 0);
	cr_expect_eq(say_hello(&operator_), PERMISSION_DENIED);
	cr_expect_eq(say_hello(&nobody), PERMISSION_DENIED);
	cr_expect_eq(ask_status(&nobody), PERMISSION_DENIED);
	struct server_counters c;
	usleep(250000);
	server_counters(service.server, &c);
	cr_expect_eq(c.denied, 4);
}

Test(tls, strangers_and_plain_text_get_no_connection)
{
	struct rpc_credentials stranger = credentials("stranger", "ca");
	struct rpc_credentials credulous = credentials("operator", "other");
	cr_expect_eq(ask_status(&stranger), UNAVAILABLE);
	cr_expect_eq(ask_status(&credulous), UNAVAILABLE, "a service whose CA we do not know");
	cr_expect_eq(ask_status(NULL), UNAVAILABLE);
}

Test(tls, missing_files_are_an_error_that_says_so)
{
	struct rpc_credentials half = credentials("operator", "ca");
	int status;
	half.key[0] = 0;
	cr_expect_neq(rpc_call(service.address, &half, "/x", "", 0, 1000, NULL, NULL, &status,
			       error, sizeof error),
		      0);
	half = credentials("absent", "ca");
	cr_expect_neq(rpc_call(service.address, &half, "/x", "", 0, 1000, NULL, NULL, &status,
			       error, sizeof error),
		      0);
}
