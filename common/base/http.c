/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common/base/err.h"

enum {
	HEADERS_MAX = 8192,
	BODY_MAX = 1024, /* no request of ours has one */
	IDLE_SECONDS = 5,
	ACCEPTS_PER_SECOND = 64,
	WHY_BYTES = 256,
};

struct http {
	struct http_callbacks callbacks;
	struct evhttp *server;
	struct evconnlistener *listener;
	struct event *accept_timer;
	unsigned accepts; /* in this second */
	uint16_t port;
};

static void reply(struct evhttp_request *request, int code, const char *reason, const char *type,
		  const char *body, size_t length)
{
	struct evbuffer *out = evbuffer_new();
	struct evkeyvalq *headers = evhttp_request_get_output_headers(request);

	evhttp_add_header(headers, "Content-Type", type);
	evhttp_add_header(headers, "Cache-Control", "no-store");
	evhttp_add_header(headers, "Connection", "close");
	if (evhttp_request_get_command(request) == EVHTTP_REQ_HEAD) {
		char text[24];
		snprintf(text, sizeof text, "%zu", length);
		evhttp_add_header(headers, "Content-Length", text);
	} else if (!out || evbuffer_add(out, body, length) != 0) {
		code = HTTP_INTERNAL;
		reason = "out of memory";
	}
	evhttp_send_reply(request, code, reason, out);
	if (out)
		evbuffer_free(out);
}

static void reply_text(struct evhttp_request *request, int code, const char *reason,
		       const char *text)
{
	char line[WHY_BYTES + 2];
	int length = snprintf(line, sizeof line, "%s\n", text);

	reply(request, code, reason, "text/plain; charset=utf-8", line,
	      (size_t)length < sizeof line ? (size_t)length : sizeof line - 1);
}

static void reply_state(struct http *http, struct evhttp_request *request,
			bool (*state)(void *context, char *why, unsigned size))
{
	char why[WHY_BYTES] = "";
	bool good = !state || state(http->callbacks.context, why, sizeof why);

	reply_text(request, good ? HTTP_OK : HTTP_SERVUNAVAIL, good ? "OK" : "Service Unavailable",
		   why[0] ? why
		   : good ? "ok"
			  : "not ready");
}

static void reply_metrics(struct http *http, struct evhttp_request *request)
{
	struct metrics metrics;

	metrics_init(&metrics);
	http->callbacks.metrics(http->callbacks.context, &metrics);
	if (metrics.failed || !metrics.text)
		reply_text(request, HTTP_INTERNAL, "Internal Server Error",
			   "the metrics do not fit into memory");
	else
		reply(request, HTTP_OK, "OK", "text/plain; version=0.0.4; charset=utf-8",
		      metrics.text, metrics.length);
	metrics_free(&metrics);
}

static void handle(struct evhttp_request *request, void *context)
{
	struct http *http = context;
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(request);
	const char *path = uri ? evhttp_uri_get_path(uri) : NULL;
	enum evhttp_cmd_type command = evhttp_request_get_command(request);
	bool metrics = path && strcmp(path, "/metrics") == 0;
	bool health = path && strcmp(path, "/healthz") == 0;
	bool ready = path && strcmp(path, "/readyz") == 0;

	if (!metrics && !health && !ready) {
		reply_text(request, HTTP_NOTFOUND, "Not Found",
			   "there are /metrics, /healthz and /readyz");
	} else if (command != EVHTTP_REQ_GET && command != EVHTTP_REQ_HEAD) {
		evhttp_add_header(evhttp_request_get_output_headers(request), "Allow", "GET, HEAD");
		reply_text(request, HTTP_BADMETHOD, "Method Not Allowed", "use GET or HEAD");
	} else if (metrics) {
		reply_metrics(http, request);
	} else {
		reply_state(http, request,
			    health ? http->callbacks.healthy : http->callbacks.ready);
	}
}

static void next_second(evutil_socket_t fd, short events, void *context)
{
	struct http *http = context;

	http->accepts = 0;
	evconnlistener_enable(http->listener);
}

/*
 * Called for each new connection. libevent's HTTP server has no limit on them, so accepting stops
 * for the rest of a second that has brought too many; the kernel's backlog is the queue.
 */
static struct bufferevent *new_connection(struct event_base *base, void *context)
{
	static const struct timeval second = {.tv_sec = 1};
	struct http *http = context;

	if (http->accepts++ == 0)
		evtimer_add(http->accept_timer, &second);
	if (http->accepts >= ACCEPTS_PER_SECOND)
		evconnlistener_disable(http->listener);
	return bufferevent_socket_new(base, -1, 0);
}

static int split_address(const char *address, char *host, size_t host_size, uint16_t *port)
{
	const char *colon = strrchr(address, ':');
	char *end = NULL;

	if (!colon || colon == address || colon[1] < '0' || colon[1] > '9')
		return ERR_INVALID;
	unsigned long number = strtoul(colon + 1, &end, 10);
	size_t length = (size_t)(colon - address);
	if (*end || number > 65535)
		return ERR_INVALID;
	if (address[0] == '[' && colon[-1] == ']') {
		address++;
		length -= 2;
	}
	if (length == 0 || length >= host_size)
		return ERR_INVALID;
	memcpy(host, address, length);
	host[length] = '\0';
	*port = (uint16_t)number;
	return 0;
}

static uint16_t bound_port(evutil_socket_t fd)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof address;

	if (getsockname(fd, (struct sockaddr *)&address, &length) != 0)
		return 0;
	return ntohs(address.ss_family == AF_INET6
			 ? ((struct sockaddr_in6 *)(void *)&address)->sin6_port
			 : ((struct sockaddr_in *)(void *)&address)->sin_port);
}

int http_new(struct event_base *base, const char *address, const struct http_callbacks *callbacks,
	     struct http **out, char *error, unsigned error_size)
{
	char host[NI_MAXHOST];
	uint16_t port;

	if (split_address(address, host, sizeof host, &port) != 0) {
		snprintf(error, error_size,
			 "\"%s\" is no address for HTTP; allowed: HOST:PORT or [IPV6]:PORT",
			 address);
		return ERR_INVALID;
	}
	snprintf(error, error_size, "HTTP on %s: out of memory", address);
	struct http *http = calloc(1, sizeof *http);
	if (!http)
		return ERR_NOMEM;
	http->callbacks = *callbacks;
	http->accept_timer = evtimer_new(base, next_second, http);
	http->server = evhttp_new(base);
	if (!http->accept_timer || !http->server) {
		http_free(http);
		return ERR_NOMEM;
	}
	errno = 0;
	struct evhttp_bound_socket *bound =
	    evhttp_bind_socket_with_handle(http->server, host, port);
	if (!bound) {
		snprintf(error, error_size, "HTTP cannot listen on %s: %s", address,
			 errno ? strerror(errno) : "no such host");
		http_free(http);
		return ERR_IO;
	}
	http->listener = evhttp_bound_socket_get_listener(bound);
	http->port = bound_port(evhttp_bound_socket_get_fd(bound));
	/* libevent answers a method that is not on its list with 501; 405 is ours to say. */
	evhttp_set_allowed_methods(http->server, EVHTTP_REQ_GET | EVHTTP_REQ_POST |
						     EVHTTP_REQ_HEAD | EVHTTP_REQ_PUT |
						     EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS |
						     EVHTTP_REQ_TRACE | EVHTTP_REQ_PATCH);
	evhttp_set_max_headers_size(http->server, HEADERS_MAX);
	evhttp_set_max_body_size(http->server, BODY_MAX);
	evhttp_set_timeout(http->server, IDLE_SECONDS);
	evhttp_set_bevcb(http->server, new_connection, http);
	evhttp_set_gencb(http->server, handle, http);
	error[0] = '\0';
	*out = http;
	return 0;
}

void http_free(struct http *http)
{
	if (!http)
		return;
	if (http->server)
		evhttp_free(http->server);
	if (http->accept_timer)
		event_free(http->accept_timer);
	free(http);
}

uint16_t http_port(const struct http *http)
{
	return http->port;
}
