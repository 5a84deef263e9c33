/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where events go: stderr, a file, or syslog over UDP (RFC 5426) or a unix socket. Calls may block
 * (a slow disk, a name to resolve): the event writer's thread makes them, nobody else.
 */
#ifndef TABLESVC_EVENT_SINK_H
#define TABLESVC_EVENT_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct event_sink {
	int fd; /* -1 = closed */
	bool is_syslog, is_datagram;
	char target[256];
};

/* "stderr", "file:PATH", "syslog:HOST:PORT", "syslog:unix:PATH"; config_check has looked at it. */
void event_sink_init(struct event_sink *sink, const char *target);
/*
 * 0, or -1 and a reason. A file is made when it is not there, and appended to: behind a line that a
 * crash cut off a new one begins.
 */
int event_sink_open(struct event_sink *sink, char *why, size_t why_size);
void event_sink_close(struct event_sink *sink);
/*
 * Bytes written, all of them for a datagram, or -1 and errno; EAGAIN: the reader is slow. After
 * another error of a socket the sink is closed.
 */
ssize_t event_sink_write(struct event_sink *sink, const char *data, size_t length);

#endif
