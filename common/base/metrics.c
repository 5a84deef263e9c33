/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/metrics.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "common/nat/reason.h"

void metrics_init(struct metrics *metrics)
{
	*metrics = (struct metrics){0};
}

void metrics_free(struct metrics *metrics)
{
	free(metrics->text);
	*metrics = (struct metrics){0};
}

static void append(struct metrics *metrics, const char *text, size_t length)
{
	if (metrics->failed)
		return;
	if (metrics->length + length + 1 > metrics->room) {
		size_t room = metrics->room ? metrics->room * 2u : 16384;
		while (room < metrics->length + length + 1)
			room *= 2;
		char *bigger = room <= METRICS_BYTES_MAX ? realloc(metrics->text, room) : NULL;
		if (!bigger) {
			metrics->failed = true;
			return;
		}
		metrics->text = bigger;
		metrics->room = (unsigned)room;
	}
	memcpy(metrics->text + metrics->length, text, length);
	metrics->length += (unsigned)length;
	metrics->text[metrics->length] = '\0';
}

static void append_text(struct metrics *metrics, const char *text)
{
	append(metrics, text, strlen(text));
}

static void append_escaped(struct metrics *metrics, const char *text, bool quotes)
{
	for (; *text; text++) {
		if (*text == '\n')
			append(metrics, "\\n", 2);
		else if (*text == '\\')
			append(metrics, "\\\\", 2);
		else if (*text == '"' && quotes)
			append(metrics, "\\\"", 2);
		else
			append(metrics, text, 1);
	}
}

void metrics_family(struct metrics *metrics, const char *name, enum metrics_type type,
		    const char *help)
{
	metrics->family = name;
	append_text(metrics, "# HELP ");
	append_text(metrics, name);
	append_text(metrics, " ");
	append_escaped(metrics, help, false);
	append_text(metrics, "\n# TYPE ");
	append_text(metrics, name);
	append_text(metrics, type == METRICS_COUNTER ? " counter\n" : " gauge\n");
}

static void sample(struct metrics *metrics, const char *value, va_list labels)
{
	const char *label, *open = "{";

	append_text(metrics, metrics->family);
	while ((label = va_arg(labels, const char *)) != NULL) {
		append_text(metrics, open);
		append_text(metrics, label);
		append_text(metrics, "=\"");
		append_escaped(metrics, va_arg(labels, const char *), true);
		append_text(metrics, "\"");
		open = ",";
	}
	append_text(metrics, *open == ',' ? "} " : " ");
	append_text(metrics, value);
	append_text(metrics, "\n");
}

void metrics_sample(struct metrics *metrics, uint64_t value, ...)
{
	char text[32];
	va_list labels;

	snprintf(text, sizeof text, "%" PRIu64, value);
	va_start(labels, value);
	sample(metrics, text, labels);
	va_end(labels);
}

void metrics_sample_double(struct metrics *metrics, double value, ...)
{
	char text[40];
	va_list labels;

	snprintf(text, sizeof text, "%.9g", value);
	va_start(labels, value);
	sample(metrics, text, labels);
	va_end(labels);
}

void metrics_counter(struct metrics *metrics, const char *name, const char *help, uint64_t value)
{
	metrics_family(metrics, name, METRICS_COUNTER, help);
	metrics_sample(metrics, value, NULL);
}

void metrics_gauge(struct metrics *metrics, const char *name, const char *help, uint64_t value)
{
	metrics_family(metrics, name, METRICS_GAUGE, help);
	metrics_sample(metrics, value, NULL);
}

void metrics_reasons(struct metrics *metrics, const char *name, const char *help,
		     const uint64_t *counters)
{
	metrics_family(metrics, name, METRICS_COUNTER, help);
#define REASON_SAMPLE(symbol, number, text, sentence)                                              \
	if (number != NAT_REASON_NONE)                                                             \
		metrics_sample(metrics, counters[number], "reason", text, NULL);
	NAT_REASONS(REASON_SAMPLE)
#undef REASON_SAMPLE
}

static uint64_t resident_bytes(void)
{
	unsigned long long total = 0, resident = 0;
	FILE *file = fopen("/proc/self/statm", "re");

	if (!file)
		return 0;
	if (fscanf(file, "%llu %llu", &total, &resident) != 2)
		resident = 0;
	fclose(file);
	return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t open_files(void)
{
	DIR *directory = opendir("/proc/self/fd");
	uint64_t n = 0;

	if (!directory)
		return 0;
	for (const struct dirent *entry = readdir(directory); entry; entry = readdir(directory))
		n += entry->d_name[0] != '.';
	closedir(directory);
	return n - 1; /* the directory itself */
}

void metrics_process(struct metrics *metrics, const char *program)
{
	struct timespec cpu = {0};

	metrics_family(metrics, "conat_build_info", METRICS_GAUGE, "Program and version.");
	metrics_sample(metrics, 1, "program", program, "version", CONAT_VERSION, NULL);
	metrics_gauge(metrics, "process_resident_memory_bytes", "Resident memory.",
		      resident_bytes());
	metrics_gauge(metrics, "process_open_fds", "Open file descriptors.", open_files());
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	metrics_family(metrics, "process_cpu_seconds_total", METRICS_COUNTER,
		       "Processor time of all threads.");
	metrics_sample_double(metrics, (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9, NULL);
}
