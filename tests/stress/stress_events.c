/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread puts events as fast as it can, the writer writes them, a third opens the log anew and
 * reads the counters: each event is in one file once, in order, or counted in the line that says
 * how many are missing there.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tablesvc/event_writer.h"

enum { FILES = 8, RING = 2048 };

static struct event_writer *writer;
static atomic_bool done;
static uint64_t events = 200000;

static void *put(void *context)
{
	struct event_log *log = event_writer_log(writer);
	for (uint64_t i = 1; i <= events; i++) {
		const struct event_record event = {.kind = EVENT_CONFIGURATION, .count = i};
		log->ops->put(log, &event);
		if (i % 500 == 0) /* let it sleep, too */
			usleep(i % 10000 == 0 ? 15000 : i % 50000 < 40000 ? 1000 : 0);
	}
	atomic_store(&done, true);
	return NULL;
}

static int fail(const char *what, uint64_t a, uint64_t b)
{
	fprintf(stderr, "%s: %" PRIu64 " %" PRIu64 "\n", what, a, b);
	return 1;
}

static int read_file(const char *path, uint64_t *next, uint64_t *lines, uint64_t *lost)
{
	char line[4096];
	FILE *file = fopen(path, "r");
	if (!file)
		return 0; /* opened anew twice before a line came */
	while (fgets(line, sizeof line, file)) {
		const char *generation = strstr(line, "\"generation\":");
		const char *count = strstr(line, "\"count\":");
		++*lines;
		if (!strchr(line, '\n'))
			return fail("torn line", *lines, 0);
		if (count) {
			uint64_t n = strtoull(count + 8, NULL, 10);
			*lost += n;
			*next += n;
		} else if (generation) {
			uint64_t n = strtoull(generation + 13, NULL, 10);
			if (n != *next)
				return fail("out of order: wanted, got", *next, n);
			++*next;
		}
	}
	fclose(file);
	return 0;
}

int main(int argc, char **argv)
{
	char directory[] = "/tmp/conat-stress-XXXXXX", path[64], moved[64], error[256];
	struct config_log config = {.blocks = true};
	struct event_writer_counters c;
	uint64_t next = 1, lines = 0, lost = 0;
	pthread_t thread;
	unsigned n = 0;

	if (argc > 1)
		events = strtoull(argv[1], NULL, 10);
	if (!mkdtemp(directory))
		return 1;
	snprintf(path, sizeof path, "%s/log", directory);
	snprintf(config.target, sizeof config.target, "file:%s", path);
	if (event_writer_new(&config, "host", RING, error, sizeof error, &writer) ||
	    pthread_create(&thread, NULL, put, NULL))
		return fail(error, 0, 0);
	while (!atomic_load(&done)) {
		event_writer_counters(writer, &c);
		if (n < FILES && c.written + c.lost > (n + 1) * events / (FILES + 1)) {
			snprintf(moved, sizeof moved, "%s/log.%u", directory, n++);
			rename(path, moved);
			event_writer_reopen(writer, &config);
		}
		usleep(1000);
	}
	pthread_join(thread, NULL);
	do { /* room for what is still to be said */
		usleep(1000);
		event_writer_counters(writer, &c);
	} while (c.waiting);
	event_writer_mark(writer, EVENT_SERVICE_STOPPED, 1);
	event_writer_counters(writer, &c);
	event_writer_free(writer);
	for (unsigned i = 0; i <= n; i++) {
		snprintf(moved, sizeof moved, i < n ? "%s/log.%u" : "%s/log", directory, i);
		if (read_file(moved, &next, &lines, &lost))
			return 1;
		unlink(moved);
	}
	rmdir(directory);
	if (next != events + 1)
		return fail("events missing: wanted, got", events + 1, next);
	if (lost != c.lost)
		return fail("lost: counted, said", c.lost, lost);
	printf("%" PRIu64 " events, %" PRIu64 " lines, %" PRIu64 " lost, %u times opened anew\n",
	       events, lines, lost, n);
	return 0;
}
