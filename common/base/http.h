/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The admin HTTP server of both programs, on libevent's HTTP server: GET and HEAD of /metrics,
 * /healthz (200 or 503 and why) and /readyz. 404 and 405 otherwise. Headers, bodies, idle times and
 * new connections a second are bounded. It has no access control: it listens on loopback unless an
 * operator says otherwise.
 */
#ifndef BASE_HTTP_H
#define BASE_HTTP_H

#include <stdbool.h>
#include <stdint.h>
#include "common/base/metrics.h"

struct event_base;
struct http;

/* Called on the thread that runs the event base. */
struct http_callbacks {
	void *context;
	void (*metrics)(void *context, struct metrics *out);
	/* True, or false with the reason in why; why may also say something when true. NULL = true.
	 */
	bool (*healthy)(void *context, char *why, unsigned size);
	bool (*ready)(void *context, char *why, unsigned size);
};

/*
 * address: HOST:PORT or [IPV6]:PORT; port 0 takes a free one. callbacks are copied. 0, or
 * ERR_INVALID, ERR_IO, ERR_NOMEM and a sentence in error.
 */
int http_new(struct event_base *base, const char *address, const struct http_callbacks *callbacks,
	     struct http **out, char *error, unsigned error_size);
/* Before its event base is freed. */
void http_free(struct http *http);
uint16_t http_port(const struct http *http);

#endif
