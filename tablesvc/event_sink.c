/* SPDX-License-Identifier: Apache-2.0 */
#include "tablesvc/event_sink.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static bool has_prefix(const char *text, const char *prefix, const char **rest)
{
	size_t n = strlen(prefix);

	*rest = text + n;
	return strncmp(text, prefix, n) == 0;
}

void event_sink_init(struct event_sink *sink, const char *target)
{
	const char *rest;

	*sink = (struct event_sink){.fd = -1};
	snprintf(sink->target, sizeof sink->target, "%s", target);
	sink->is_syslog = sink->is_datagram = has_prefix(target, "syslog:", &rest);
}

static int fail(char *why, size_t size, const char *what)
{
	snprintf(why, size, "%s: %s", what, strerror(errno));
	return -1;
}

/* Who reads lines must not find the next one glued to a half. */
static int end_torn_line(int fd)
{
	struct stat status;
	char last;

	if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size == 0)
		return 0;
	if (pread(fd, &last, 1, status.st_size - 1) != 1 || last == '\n')
		return 0;
	return write(fd, "\n", 1) == 1 ? 0 : -1;
}

static int open_file(struct event_sink *sink, const char *path, char *why, size_t size)
{
	/* Not to wait for the reader of a FIFO: it is retried like anything that is not there. */
	int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);

	if (fd < 0 && (errno == EACCES || errno == EINVAL)) /* may be written, but not read */
		fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
			  0640);
	if (fd < 0)
		return fail(why, size, "cannot be opened");
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	if (end_torn_line(fd) != 0) {
		fail(why, size, "cannot be written");
		close(fd);
		return -1;
	}
	sink->fd = fd;
	return 0;
}

static int open_unix(struct event_sink *sink, const char *path, char *why, size_t size)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	memcpy(address.sun_path, path, strnlen(path, sizeof address.sun_path - 1));
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
		fail(why, size, "cannot be reached");
		if (fd >= 0)
			close(fd);
		return -1;
	}
	sink->fd = fd;
	return 0;
}

/* HOST:PORT or [IPV6]:PORT */
static int open_udp(struct event_sink *sink, const char *where, char *why, size_t size)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICSERV};
	const char *colon = strrchr(where, ':');
	bool brackets = where[0] == '[' && colon > where + 1;
	struct addrinfo *list;
	char host[256];

	snprintf(host, sizeof host, "%.*s", (int)(colon - where) - (brackets ? 2 : 0),
		 where + brackets);
	int err = getaddrinfo(host, colon + 1, &hints, &list);
	if (err) {
		snprintf(why, size, "cannot be resolved: %s", gai_strerror(err));
		return -1;
	}
	for (struct addrinfo *a = list; a && sink->fd < 0; a = a->ai_next) {
		int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
		if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0) {
			sink->fd = fd;
			break;
		}
		fail(why, size, "cannot be reached");
		if (fd >= 0)
			close(fd);
	}
	freeaddrinfo(list);
	return sink->fd < 0 ? -1 : 0;
}

int event_sink_open(struct event_sink *sink, char *why, size_t why_size)
{
	const char *rest;

	event_sink_close(sink);
	if (has_prefix(sink->target, "file:", &rest))
		return open_file(sink, rest, why, why_size);
	if (has_prefix(sink->target, "syslog:unix:", &rest))
		return open_unix(sink, rest, why, why_size);
	if (has_prefix(sink->target, "syslog:", &rest))
		return open_udp(sink, rest, why, why_size);
	sink->fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	return sink->fd < 0 ? fail(why, why_size, "cannot be used") : 0;
}

void event_sink_close(struct event_sink *sink)
{
	if (sink->fd >= 0)
		close(sink->fd);
	sink->fd = -1;
}

ssize_t event_sink_write(struct event_sink *sink, const char *data, size_t length)
{
	ssize_t n = sink->is_datagram ? send(sink->fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL)
				      : write(sink->fd, data, length);

	if (n < 0 && errno == ENOBUFS)
		errno = EAGAIN;
	if (n < 0 && sink->is_datagram && errno != EAGAIN && errno != EINTR) {
		int error = errno; /* a socket that was made anew is another one: connect again */
		event_sink_close(sink);
		errno = error;
	}
	return n;
}
