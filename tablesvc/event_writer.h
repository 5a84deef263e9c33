/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event log of the service: a bounded ring between the table's thread, which never waits, and a
 * thread that formats and writes.
 *
 * A full ring loses events, counts them, and says how many in a line of their own ("events_lost")
 * at the place where they are missing. What cannot be written (a full disk, no syslog) waits in the
 * ring and is tried again each second; a reload opens the file anew (logrotate).
 */
#ifndef TABLESVC_EVENT_WRITER_H
#define TABLESVC_EVENT_WRITER_H

#include "tablesvc/events.h"

struct event_writer;

enum { EVENT_RING_SIZE = 32768 };

/*
 * Starts the thread. A file that cannot be opened is ERR_IO and a sentence: whoever wants a log
 * wants to hear of it now; a syslog that is not there yet is waited for. ring_size: a power of two.
 * hostname: NULL = this machine's.
 */
int event_writer_new(const struct config_log *config, const char *hostname, uint32_t ring_size,
		     char *error, unsigned error_size, struct event_writer **out);
/*
 * To table_new. put is for one thread at a time: the one that starts and stops the service before
 * and after the table's thread is there, the table's in between.
 */
struct event_log *event_writer_log(struct event_writer *writer);
/* SERVICE_STARTED: everything that was allocated before has ended. SERVICE_STOPPED. */
void event_writer_mark(struct event_writer *writer, enum event_kind kind, uint64_t epoch);

/* Any thread: whether a reload could go on with it; ERR_IO and a sentence. */
int event_writer_check(const struct config_log *config, char *error, unsigned error_size);
/* Any thread: takes over the settings and opens the target anew. Does not wait for it. */
void event_writer_reopen(struct event_writer *writer, const struct config_log *config);

struct event_writer_counters {
	uint64_t written, lost, errors, waiting;
	bool broken; /* the last attempt failed */
};
/* Any thread. */
void event_writer_counters(struct event_writer *writer, struct event_writer_counters *out);

/* Writes what is in the ring, for at most three seconds; counts and names what is left. */
void event_writer_free(struct event_writer *writer);

#endif
