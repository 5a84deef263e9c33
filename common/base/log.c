/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <pthread.h>
#include "common/base/clock.h"

/* syslog's names of the levels are macros; ours are the same numbers. */
int sd_journal_send(const char *format, ...);

static const char *log_program = "conat";
static enum log_target log_target = LOG_TARGET_STDERR;
static _Atomic int log_threshold = LOG_INFO;
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;

static const char *const level_names[] = {
    [LOG_ERROR] = "error", [LOG_WARNING] = "warning", [LOG_NOTICE] = "notice",
    [LOG_INFO] = "info",   [LOG_DEBUG] = "debug",
};

void log_init(const char *program, enum log_target target, enum log_level level)
{
	const char *slash = strrchr(program, '/');
	log_program = slash ? slash + 1 : program;
	log_target = target;
	log_threshold = (int)level;
}

void log_set_level(enum log_level level)
{
	log_threshold = (int)level;
}

int log_parse_level(const char *name, enum log_level *out)
{
	for (unsigned i = 0; i < sizeof level_names / sizeof level_names[0]; i++) {
		if (level_names[i] && strcmp(name, level_names[i]) == 0) {
			*out = (enum log_level)i;
			return 0;
		}
	}
	return -1;
}

static void write_line(enum log_level level, const char *text)
{
	if (log_target == LOG_TARGET_JOURNAL) {
		sd_journal_send("PRIORITY=%d", (int)level, "MESSAGE=%s", text,
				"SYSLOG_IDENTIFIER=%s", log_program, NULL);
		return;
	}
	fprintf(stderr, "%s %s: %s\n", log_program, level_names[level], text);
}

void log_line(enum log_level level, struct log_site *site, const char *format, ...)
{
	char text[1024];
	unsigned left_out = 0;

	if ((int)level > log_threshold)
		return;
	pthread_mutex_lock(&log_lock);
	long long now_ms = monotime_ms(monotime_now());
	if (now_ms - site->window_start_ms >= 10000 || site->lines == 0) {
		left_out = site->left_out;
		site->window_start_ms = now_ms;
		site->lines = 0;
		site->left_out = 0;
	}
	if (site->lines >= LOG_BURST) {
		site->left_out++;
		pthread_mutex_unlock(&log_lock);
		return;
	}
	site->lines++;
	if (left_out > 0) {
		snprintf(text, sizeof text, "%u lines like the next were left out", left_out);
		write_line(level, text);
	}
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	write_line(level, text);
	pthread_mutex_unlock(&log_lock);
}
