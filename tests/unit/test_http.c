/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/err.h"
#include "common/base/http.h"

/* A raw client in the server's own loop: one request as text, the answer as text. */
struct client {
	char answer[65536];
	size_t length;
	bool closed;
};

static bool good;

static void write_metrics(void *context, struct metrics *out)
{
	metrics_counter(out, "test_total", "Test.", 42);
}

static bool say_state(void *context, char *why, unsigned size)
{
	if (!good)
		snprintf(why, size, "the table is on fire");
	return good;
}

static void on_read(struct bufferevent *stream, void *context)
{
	struct client *client = context;
	client->length += bufferevent_read(stream, client->answer + client->length,
					   sizeof client->answer - 1 - client->length);
	client->answer[client->length] = '\0';
}

static void on_event(struct bufferevent *stream, short events, void *context)
{
	if (events & (BEV_EVENT_EOF | BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT))
		((struct client *)context)->closed = true;
}

static struct bufferevent *start(struct event_base *base, uint16_t port, const char *request,
				 size_t length, struct client *client)
{
	struct timeval patience = {.tv_sec = 20};
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons(port),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct bufferevent *stream = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);

	memset(client, 0, sizeof *client);
	bufferevent_setcb(stream, on_read, NULL, on_event, client);
	bufferevent_set_timeouts(stream, &patience, NULL);
	bufferevent_enable(stream, EV_READ | EV_WRITE);
	bufferevent_write(stream, request, length);
	cr_assert_eq(
	    bufferevent_socket_connect(stream, (struct sockaddr *)&address, sizeof address), 0);
	return stream;
}

static void exchange(const char *request, size_t length, struct client *client)
{
	const struct http_callbacks callbacks = {
	    .metrics = write_metrics, .healthy = NULL, .ready = say_state};
	struct event_base *base = event_base_new();
	struct http *http = NULL;
	char error[256];

	cr_assert_eq(http_new(base, "127.0.0.1:0", &callbacks, &http, error, sizeof error), 0, "%s",
		     error);
	struct bufferevent *stream = start(base, http_port(http), request, length, client);
	while (!client->closed)
		event_base_loop(base, EVLOOP_ONCE);
	bufferevent_free(stream);
	http_free(http);
	event_base_free(base);
}

struct row {
	char request[128];
	bool good;
	char status[48];  /* how the answer starts */
	char present[96]; /* what is in it */
	char absent[32];  /* what is not, unless empty */
};

ParameterizedTestParameters(http, answers)
{
	static struct row rows[] = {
	    {"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", true, "HTTP/1.1 200 ",
	     "# TYPE test_total counter\ntest_total 42\n", ""},
	    {"GET /metrics HTTP/1.0\r\n\r\n", true, "HTTP/1.0 200 ", "version=0.0.4", ""},
	    {"GET /metrics?x=1 HTTP/1.1\r\nHost: x\r\n\r\n", true, "HTTP/1.1 200 ",
	     "test_total 42\n", ""},
	    {"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n", true, "HTTP/1.1 200 ",
	     "Content-Length: ", "test_total"},
	    {"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", false, "HTTP/1.1 200 ", "\r\n\r\nok\n",
	     ""},
	    {"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n", true, "HTTP/1.1 200 ", "\r\n\r\nok\n", ""},
	    {"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n", false, "HTTP/1.1 503 ",
	     "the table is on fire\n", ""},
	    {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", true, "HTTP/1.1 404 ", "/metrics", ""},
	    {"GET /metrics/ HTTP/1.1\r\nHost: x\r\n\r\n", true, "HTTP/1.1 404 ", "", "test_total"},
	    {"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na", true,
	     "HTTP/1.1 405 ", "Allow: GET, HEAD", "test_total"},
	    {"DELETE /readyz HTTP/1.1\r\nHost: x\r\n\r\n", true, "HTTP/1.1 405 ", "use GET", ""},
	    {"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", true,
	     "HTTP/1.1 4", "", "test_total"},
	    {"BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n", true, "HTTP/1.1 ", "", "test_total"},
	    {"nonsense\r\n\r\n", true, "", "", "test_total"},
	};
	return cr_make_param_array(struct row, rows, sizeof rows / sizeof rows[0]);
}

ParameterizedTest(struct row *row, http, answers)
{
	static struct client client;

	good = row->good;
	exchange(row->request, strlen(row->request), &client);
	cr_expect_eq(strncmp(client.answer, row->status, strlen(row->status)), 0,
		     "\"%s\" got \"%s\"", row->request, client.answer);
	cr_expect(strstr(client.answer, row->present), "no \"%s\" in \"%s\"", row->present,
		  client.answer);
	if (row->absent[0])
		cr_expect_null(strstr(client.answer, row->absent), "\"%s\" in \"%s\"", row->absent,
			       client.answer);
}

Test(http, endless_headers_are_refused)
{
	static struct client client;
	static char request[1 << 16];
	size_t used = (size_t)sprintf(request, "GET /metrics HTTP/1.1\r\n");

	while (used < sizeof request - 64)
		used += (size_t)sprintf(request + used, "X-%zu: %032d\r\n", used, 0);
	exchange(request, used, &client);
	cr_expect_null(strstr(client.answer, "test_total"));
}

Test(http, a_silent_connection_is_closed, .timeout = 30)
{
	static struct client client;

	exchange("GET /met", 8, &client);
	cr_expect_null(strstr(client.answer, "test_total"));
}

Test(http, many_connections_at_once_are_all_served_in_the_end, .timeout = 30)
{
	enum { CLIENTS = 100 };
	static struct client clients[CLIENTS];
	static const char request[] = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
	const struct http_callbacks callbacks = {.metrics = write_metrics};
	struct event_base *base = event_base_new();
	struct bufferevent *streams[CLIENTS];
	struct http *http = NULL;
	char error[256];

	cr_assert_eq(http_new(base, "127.0.0.1:0", &callbacks, &http, error, sizeof error), 0);
	for (unsigned i = 0; i < CLIENTS; i++)
		streams[i] = start(base, http_port(http), request, strlen(request), &clients[i]);
	for (unsigned i = 0; i < CLIENTS; i++) {
		while (!clients[i].closed)
			event_base_loop(base, EVLOOP_ONCE);
		cr_expect_eq(strncmp(clients[i].answer, "HTTP/1.1 200 ", 13), 0, "%u: \"%s\"", i,
			     clients[i].answer);
		bufferevent_free(streams[i]);
	}
	http_free(http);
	event_base_free(base);
}

struct address {
	char text[64];
	int err;
	char part[64];
};

ParameterizedTestParameters(http, bad_addresses_get_a_sentence)
{
	static struct address rows[] = {
	    {"", ERR_INVALID, "is no address for HTTP; allowed: HOST:PORT"},
	    {"127.0.0.1", ERR_INVALID, "is no address for HTTP"},
	    {":80", ERR_INVALID, "is no address for HTTP"},
	    {"127.0.0.1:99999", ERR_INVALID, "is no address for HTTP"},
	    {"127.0.0.1:-1", ERR_INVALID, "is no address for HTTP"},
	    {"[]:1", ERR_INVALID, "is no address for HTTP"},
	    {"192.0.2.77:4444", ERR_IO, "HTTP cannot listen on 192.0.2.77:4444: Cannot assign"},
	};
	return cr_make_param_array(struct address, rows, sizeof rows / sizeof rows[0]);
}

ParameterizedTest(struct address *row, http, bad_addresses_get_a_sentence)
{
	const struct http_callbacks callbacks = {.metrics = write_metrics};
	struct event_base *base = event_base_new();
	struct http *http = NULL;
	char error[256];

	cr_expect_eq(http_new(base, row->text, &callbacks, &http, error, sizeof error), row->err);
	cr_expect(strstr(error, row->part), "no \"%s\" in \"%s\"", row->part, error);
	cr_expect_null(http);
	event_base_free(base);
}

Test(http, a_taken_port_is_an_error)
{
	const struct http_callbacks callbacks = {.metrics = write_metrics};
	struct event_base *base = event_base_new();
	struct http *first = NULL, *second = NULL;
	char error[256], address[32];

	cr_assert_eq(http_new(base, "127.0.0.1:0", &callbacks, &first, error, sizeof error), 0);
	snprintf(address, sizeof address, "127.0.0.1:%u", http_port(first));
	cr_expect_eq(http_new(base, address, &callbacks, &second, error, sizeof error), ERR_IO);
	cr_expect(strstr(error, "Address already in use"), "%s", error);
	http_free(first);
	event_base_free(base);
}
