/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes metrics in Prometheus' text format (version 0.0.4). A family is opened by its name, type
 * and help; samples follow. Label values are escaped. When memory runs out, the text is cut and
 * metrics_failed says so; nothing crashes.
 *
 *   metrics_family(m, "conat_drop_total", METRICS_COUNTER, "Packets not forwarded.");
 *   metrics_sample(m, 7, "reason", "ttl", NULL);
 */
#ifndef BASE_METRICS_H
#define BASE_METRICS_H

#include <stdbool.h>
#include <stdint.h>

enum metrics_type { METRICS_COUNTER, METRICS_GAUGE };
/* What one page may grow to: 64 dataplanes with 20 samples each are a tenth of it. */
enum { METRICS_BYTES_MAX = 4 << 20 };

struct metrics {
	char *text; /* owned */
	unsigned length, room;
	const char *family;
	bool failed;
};

void metrics_init(struct metrics *metrics);
void metrics_free(struct metrics *metrics);

void metrics_family(struct metrics *metrics, const char *name, enum metrics_type type,
		    const char *help);
/* Label names and values in pairs, then NULL. */
__attribute__((sentinel)) void metrics_sample(struct metrics *metrics, uint64_t value, ...);
__attribute__((sentinel)) void metrics_sample_double(struct metrics *metrics, double value, ...);

/* A family with one unlabelled sample. */
void metrics_counter(struct metrics *metrics, const char *name, const char *help, uint64_t value);
void metrics_gauge(struct metrics *metrics, const char *name, const char *help, uint64_t value);

/*
 * Each reason of nat/reason.h but NONE as a sample {reason="..."} of a counter, zeroes too: a rate
 * over a counter that appears only with its first event misses that event. counters has
 * NAT_REASON_LIMIT elements.
 */
void metrics_reasons(struct metrics *metrics, const char *name, const char *help,
		     const uint64_t *counters);
/* conat_build_info, process_resident_memory_bytes, process_cpu_seconds_total, process_open_fds. */
void metrics_process(struct metrics *metrics, const char *program);

#endif
