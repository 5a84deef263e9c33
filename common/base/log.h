/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log: one line an event, to stderr or to the journal (native protocol), structured as
 * key=value pairs behind the message. Rate-limited per call site: at most LOG_BURST lines in ten
 * seconds, then one line that counts what was left out.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>

enum log_level { LOG_ERROR = 3, LOG_WARNING = 4, LOG_NOTICE = 5, LOG_INFO = 6, LOG_DEBUG = 7 };
enum log_target { LOG_TARGET_STDERR, LOG_TARGET_JOURNAL };
enum { LOG_BURST = 20 };

/* program: argv[0]'s last part, for the line's start. */
void log_init(const char *program, enum log_target target, enum log_level level);
void log_set_level(enum log_level level);
/* 0, or -1 when the name is no level (error, warning, notice, info, debug). */
int log_parse_level(const char *name, enum log_level *out);

struct log_site; /* one call site's rate limit */
void log_line(enum log_level level, struct log_site *site, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

struct log_site {
	long long window_start_ms;
	unsigned lines;
	unsigned left_out;
};

#define log_at(level, ...)                                                                         \
	do {                                                                                       \
		static struct log_site log_site_here;                                              \
		log_line(level, &log_site_here, __VA_ARGS__);                                      \
	} while (0)
#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warning(...) log_at(LOG_WARNING, __VA_ARGS__)
#define log_notice(...) log_at(LOG_NOTICE, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)

#endif
