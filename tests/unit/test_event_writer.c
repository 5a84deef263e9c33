/* SPDX-License-Identifier: Apache-2.0 */
/* The event log's ring and thread: nothing waits, nothing is lost without being said. */
#include "tablesvc/event_writer.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "common/base/clock.h"
#include "common/base/err.h"

static char directory[64], error[256];
static struct config_log config;
static struct event_writer *writer;

static void setup(void)
{
	snprintf(directory, sizeof directory, "/tmp/conat-events-XXXXXX");
	cr_assert_not_null(mkdtemp(directory));
	config = (struct config_log){.blocks = true};
	snprintf(config.target, sizeof config.target, "file:%s/a", directory);
}

static void teardown(void)
{
	char path[80];
	event_writer_free(writer);
	for (const char *name = "abs"; *name; name++) {
		snprintf(path, sizeof path, "%s/%c", directory, *name);
		unlink(path);
	}
	rmdir(directory);
}

TestSuite(event_writer, .init = setup, .fini = teardown, .timeout = 60);

static void start(uint32_t ring_size)
{
	cr_assert_eq(event_writer_new(&config, "host", ring_size, error, sizeof error, &writer), 0,
		     "%s", error);
}

static void stop(void)
{
	event_writer_free(writer);
	writer = NULL;
}

static void put(enum event_kind kind, uint16_t number)
{
	const struct event_record event = {
	    .kind = (uint8_t)kind,
	    .first_port = number,
	    .last_port = number,
	    .pool = "main",
	    .realm = "lan",
	};
	struct event_log *log = event_writer_log(writer);
	log->ops->put(log, &event);
}

static void wait_until(bool (*done)(const struct event_writer_counters *))
{
	struct event_writer_counters c;
	for (int i = 0; i < 1000; i++) {
		event_writer_counters(writer, &c);
		if (done(&c))
			return;
		usleep(5000);
	}
	cr_assert_fail("written=%d lost=%d errors=%d waiting=%d", (int)c.written, (int)c.lost,
		       (int)c.errors, (int)c.waiting);
}

static uint64_t wanted;
static bool has_written(const struct event_writer_counters *c)
{
	return c->written >= wanted;
}
static bool is_broken(const struct event_writer_counters *c)
{
	return c->broken;
}

/* "block_allocated 5 events_lost ..." of a file: each line's event, and its port or count. */
static const char *lines(char name)
{
	static char out[1 << 16];
	char path[80], line[4096], event[64];
	size_t used = 0;
	unsigned number;
	snprintf(path, sizeof path, "%s/%c", directory, name);
	FILE *file = fopen(path, "r");
	cr_assert_not_null(file, "%s", path);
	out[0] = '\0';
	while (fgets(line, sizeof line, file)) {
		const char *at = strstr(line, "\"event\":\"");
		cr_assert(at && sscanf(at, "\"event\":\"%63[a-z_]", event) == 1, "%s", line);
		cr_assert(strchr(line, '\n'), "a whole line");
		used += (size_t)snprintf(out + used, sizeof out - used, "%s%s", used ? " " : "",
					 strcmp(event, "block_allocated") == 0 ? "+" : event);
		at = strstr(line, "\"first_port\":");
		at = at				  ? at + 13
		     : strstr(line, "\"count\":") ? strstr(line, "\"count\":") + 8
						  : "";
		if (sscanf(at, "%u", &number) == 1)
			used += (size_t)snprintf(out + used, sizeof out - used, "%u", number);
	}
	fclose(file);
	return out;
}

Test(event_writer, writes_in_order_and_drains_at_the_end)
{
	start(1024);
	for (uint16_t i = 0; i < 1000; i++)
		put(EVENT_BLOCK_ALLOCATED, i);
	stop();
	const char *all = lines('a');
	unsigned expected = 0, n;
	for (const char *p = all; sscanf(p, " +%u", &n) == 1; p = strchrnul(p + 1, '+'))
		cr_assert_eq(n, expected++);
	cr_expect_eq(expected, 1000);
}

/* RFC 6888 REQ-14: sessions only when asked for; and nothing at all when that is asked for. */
Test(event_writer, writes_what_is_asked_for)
{
	start(64);
	struct event_log *log = event_writer_log(writer);
	cr_expect_not(log->ops->wants_sessions(log));
	put(EVENT_SESSION_CREATED, 1);
	put(EVENT_BLOCK_ALLOCATED, 2);
	stop();
	cr_expect_str_eq(lines('a'), "+2");
	config.blocks = false;
	config.sessions = true;
	start(64);
	cr_expect(event_writer_log(writer)->ops->wants_sessions(event_writer_log(writer)));
	put(EVENT_BLOCK_ALLOCATED, 3);
	put(EVENT_SESSION_CREATED, 4);
	stop();
	cr_expect_str_eq(lines('a'), "+2 session_created");
}

Test(event_writer, a_full_ring_loses_counts_and_says_where)
{
	struct event_writer_counters c;
	strcpy(config.target, "file:/dev/full");
	start(8);
	put(EVENT_BLOCK_ALLOCATED, 0); /* goes into the buffer, and stays there */
	wait_until(is_broken);
	for (uint16_t i = 1; i <= 20; i++)
		put(EVENT_BLOCK_ALLOCATED, i);
	event_writer_counters(writer, &c);
	cr_expect_eq(c.lost, 12);
	cr_expect_eq(c.waiting, 8);
	cr_expect_geq(c.errors, 1);
	cr_expect_eq(c.written, 0);
	snprintf(config.target, sizeof config.target, "file:%s/a", directory);
	event_writer_reopen(writer, &config);
	wanted = 9;
	wait_until(has_written);
	put(EVENT_BLOCK_ALLOCATED, 21);
	stop();
	cr_expect_str_eq(lines('a'), "+0 +1 +2 +3 +4 +5 +6 +7 +8 events_lost12 +21");
}

Test(event_writer, reopens_for_logrotate)
{
	char from[80], to[80];
	snprintf(from, sizeof from, "%s/a", directory);
	snprintf(to, sizeof to, "%s/b", directory);
	start(64);
	put(EVENT_BLOCK_ALLOCATED, 1);
	wanted = 1;
	wait_until(has_written);
	cr_assert_eq(rename(from, to), 0);
	put(EVENT_BLOCK_ALLOCATED, 2); /* before the signal: to the old one */
	event_writer_reopen(writer, &config);
	put(EVENT_BLOCK_ALLOCATED, 3);
	wanted = 3;
	wait_until(has_written);
	for (int i = 0; i < 1000 && access(from, F_OK) != 0; i++)
		usleep(1000);
	put(EVENT_BLOCK_ALLOCATED, 4);
	stop();
	cr_expect_str_eq(lines('b'), "+1 +2");
	cr_expect_str_eq(lines('a'), "+3 +4");
}

Test(event_writer, says_where_blocks_are_not_logged)
{
	start(64);
	put(EVENT_BLOCK_ALLOCATED, 1);
	config.blocks = false;
	event_writer_reopen(writer, &config);
	wanted = 2;
	wait_until(has_written);
	put(EVENT_BLOCK_ALLOCATED, 2);
	config.blocks = true;
	event_writer_reopen(writer, &config);
	wanted = 3;
	wait_until(has_written);
	put(EVENT_BLOCK_ALLOCATED, 3);
	stop();
	cr_expect_str_eq(lines('a'), "+1 log_paused log_resumed +3");
}

Test(event_writer, begins_a_new_line_behind_a_torn_one)
{
	char path[80], line[256];
	snprintf(path, sizeof path, "%s/a", directory);
	FILE *file = fopen(path, "w");
	fputs("{\"time\":\"torn", file);
	fclose(file);
	start(64);
	put(EVENT_BLOCK_ALLOCATED, 1);
	stop();
	file = fopen(path, "r");
	cr_assert(fgets(line, sizeof line, file));
	cr_expect_str_eq(line, "{\"time\":\"torn\n");
	cr_assert(fgets(line, sizeof line, file));
	cr_expect(strstr(line, "block_allocated"), "%s", line);
	fclose(file);
}

/* A disk that fills up takes half a line: the other half follows, and no line is torn or doubled.
 */
Test(event_writer, a_full_disk_in_the_middle_of_a_line)
{
	struct rlimit limit;
	cr_assert_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
	const struct rlimit small = {.rlim_cur = 1000, .rlim_max = limit.rlim_max};
	signal(SIGXFSZ, SIG_IGN);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
	start(64);
	for (uint16_t i = 1; i <= 20; i++)
		put(EVENT_BLOCK_ALLOCATED, i);
	wait_until(is_broken);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	wanted = 20;
	wait_until(has_written);
	stop();
	cr_expect_str_eq(lines('a'), "+1 +2 +3 +4 +5 +6 +7 +8 +9 +10 +11 +12 +13 +14 +15 +16 +17 "
				     "+18 +19 +20");
}

/* And when the file is moved away meanwhile, the new one begins with the whole line. */
Test(event_writer, a_full_disk_and_a_new_file)
{
	char from[80], to[80], line[256], *last = NULL;
	struct rlimit limit;
	snprintf(from, sizeof from, "%s/a", directory);
	snprintf(to, sizeof to, "%s/b", directory);
	cr_assert_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
	const struct rlimit small = {.rlim_cur = 1000, .rlim_max = limit.rlim_max};
	signal(SIGXFSZ, SIG_IGN);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
	start(64);
	for (uint16_t i = 1; i <= 10; i++)
		put(EVENT_BLOCK_ALLOCATED, i);
	wait_until(is_broken);
	cr_assert_eq(rename(from, to), 0);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	event_writer_reopen(writer, &config);
	wanted = 10;
	wait_until(has_written);
	stop();
	unsigned whole = 0, first;
	FILE *file = fopen(to, "r");
	while (fgets(line, sizeof line, file)) {
		last = strchr(line, '\n');
		whole += last != NULL;
	}
	fclose(file);
	/* The writer may have tried again before it was asked to open: then all is in the old one.
	 */
	if (whole == 10)
		return;
	cr_expect_null(last, "a torn line at the old one's end");
	cr_assert_eq(sscanf(lines('a'), "+%u", &first), 1);
	cr_expect_eq(first, whole + 1, "%u whole ones, then %u", whole, first);
}

Test(event_writer, a_file_that_cannot_be_opened_is_a_sentence)
{
	strcpy(config.target, "file:/nowhere/at/all");
	cr_expect_eq(event_writer_new(&config, "host", 64, error, sizeof error, &writer), ERR_IO);
	cr_expect(strstr(error, "log.target: file:/nowhere/at/all cannot be opened"), "%s", error);
	config.blocks = false; /* nothing would be written there */
	start(64);
}

Test(event_writer, the_end_does_not_wait_for_ever)
{
	strcpy(config.target, "file:/dev/full");
	start(64);
	put(EVENT_BLOCK_ALLOCATED, 1);
	wait_until(is_broken);
	struct monotime before = monotime_now();
	stop();
	cr_expect_lt(monotime_sub_ms(monotime_now(), before), 10000);
}

static int listener(struct sockaddr *address, socklen_t size)
{
	struct timeval patience = {.tv_sec = 10};
	int fd = socket(address->sa_family, SOCK_DGRAM, 0);
	cr_assert(fd >= 0 && bind(fd, address, size) == 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	return fd;
}

/* RFC 5426: one message a datagram, no newline. */
Test(event_writer, syslog_over_udp)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t size = sizeof address;
	char text[4096];
	int fd = listener((struct sockaddr *)&address, sizeof address);
	getsockname(fd, (struct sockaddr *)&address, &size);
	snprintf(config.target, sizeof config.target, "syslog:127.0.0.1:%u",
		 ntohs(address.sin_port));
	start(64);
	for (uint16_t i = 1; i <= 3; i++)
		put(EVENT_BLOCK_ALLOCATED, i);
	for (unsigned i = 1; i <= 3; i++) {
		char port[32];
		ssize_t n = recv(fd, text, sizeof text - 1, 0);
		cr_assert_gt(n, 0);
		text[n] = '\0';
		snprintf(port, sizeof port, "first_port=\"%u\"", i);
		cr_expect(strncmp(text, "<134>1 ", 7) == 0 && strstr(text, " host conat "), "%s",
			  text);
		cr_expect(strstr(text, port), "%s", text);
		cr_expect_null(strchr(text, '\n'));
	}
	close(fd);
}

Test(event_writer, a_syslog_that_comes_late_gets_everything)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char text[4096];
	snprintf(address.sun_path, sizeof address.sun_path, "%s/s", directory);
	snprintf(config.target, sizeof config.target, "syslog:unix:%s", address.sun_path);
	config.format = CONFIG_LOG_JSON;
	start(64);
	put(EVENT_BLOCK_ALLOCATED, 1);
	put(EVENT_BLOCK_ALLOCATED, 2);
	wait_until(is_broken);
	int fd = listener((struct sockaddr *)&address, sizeof address);
	for (unsigned i = 1; i <= 2; i++) {
		char port[32];
		ssize_t n = recv(fd, text, sizeof text - 1, 0);
		cr_assert_gt(n, 0, "nothing came");
		text[n] = '\0';
		snprintf(port, sizeof port, "\"first_port\":%u", i);
		cr_expect(strstr(text, " PBADD - {") && strstr(text, port), "%s", text);
	}
	close(fd);
}
