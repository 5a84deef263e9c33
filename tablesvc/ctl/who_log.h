/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Searches the event log (JSON lines, tablesvc/event_format.h) for who had an external endpoint at
 * a time. One pass over the files, in the order of their first lines; memory for what had the
 * endpoint alone.
 */
#ifndef CTL_WHO_LOG_H
#define CTL_WHO_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { WHO_NAME_MAX = 64, WHO_FILES_MAX = 1024 };

struct who_question {
	char address[16];  /* as the log writes it */
	char protocol[12]; /* "" = any; "tcp", or a number */
	uint16_t port;
	int64_t first_ms, last_ms; /* UTC: "12:00:05" is a whole second of them */
};

/* Somebody who had it, within the time asked for. */
struct who_holding {
	char kind[16]; /* block, address, static, session */
	char realm[WHO_NAME_MAX], pool[WHO_NAME_MAX], redirect[WHO_NAME_MAX];
	char subscriber[16], protocol[12]; /* "" = shared, all */
	char destination[16];		   /* of a session, if it was logged */
	uint16_t internal_port, destination_port, first_port, last_port;
	int64_t from_ms, until_ms;
	bool from_known, until_known; /* otherwise: since before, or until after */
	const char *note;
};

struct who_answer {
	struct who_holding *holdings;
	unsigned n;
	/*
	 * Whether the log says all there is to say of that time: it reaches back to a start of the
	 * service before it, and lost nothing and was not paused since.
	 */
	bool complete;
	bool reached;	 /* the time is not before the log's first line */
	bool beyond;	 /* it is after the last one */
	bool clock_back; /* the wall clock went through that time twice */
	int64_t begin_ms, end_ms;
	uint64_t lines, strange; /* lines that are none of the log's */
	uint64_t lost;		 /* events, before that time */
};

struct who_search;
int who_search_new(const struct who_question *question, struct who_search **out);
/* A file to be searched; read from where it is, closed at the end. ERR_FULL, ERR_NOMEM. */
int who_search_add(struct who_search *search, FILE *file);
/*
 * The answer, valid until the search is freed. 0, or ERR_IO (a file cannot be read), ERR_MALFORMED
 * (a file is compressed), ERR_NOMEM.
 */
int who_search_run(struct who_search *search, struct who_answer *out);
void who_search_free(struct who_search *search);

#endif
