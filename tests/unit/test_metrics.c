/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/metrics.h"
#include "common/nat/reason.h"

Test(metrics, a_page_is_prometheus_text)
{
	struct metrics metrics;

	metrics_init(&metrics);
	metrics_counter(&metrics, "a_total", "Things.", UINT64_MAX);
	metrics_family(&metrics, "b", METRICS_GAUGE, "More\nthings with \\ in them.");
	metrics_sample(&metrics, 1, "x", "1", "y", "a \"b\" \\ c\nd", NULL);
	metrics_sample_double(&metrics, 0.25, NULL);
	cr_expect_str_eq(metrics.text, "# HELP a_total Things.\n"
				       "# TYPE a_total counter\n"
				       "a_total 18446744073709551615\n"
				       "# HELP b More\\nthings with \\\\ in them.\n"
				       "# TYPE b gauge\n"
				       "b{x=\"1\",y=\"a \\\"b\\\" \\\\ c\\nd\"} 1\n"
				       "b 0.25\n");
	cr_expect_eq(metrics.length, strlen(metrics.text));
	metrics_free(&metrics);
}

Test(metrics, every_reason_is_a_sample)
{
	uint64_t counters[NAT_REASON_LIMIT] = {0};
	struct metrics metrics;
	char expected[128];

	for (unsigned i = 0; i < NAT_REASON_LIMIT; i++)
		counters[i] = 1000 + i;
	metrics_init(&metrics);
	metrics_reasons(&metrics, "conat_drop_total", "Drops.", counters);
#define REASON_EXPECT(symbol, number, name, sentence)                                              \
	snprintf(expected, sizeof expected, "conat_drop_total{reason=\"%s\"} %d\n", name,          \
		 1000 + number);                                                                   \
	cr_expect_eq(strstr(metrics.text, expected) != NULL, number != NAT_REASON_NONE, "%s",      \
		     expected);
	NAT_REASONS(REASON_EXPECT)
#undef REASON_EXPECT
	metrics_free(&metrics);
}

Test(metrics, a_page_without_end_is_cut_and_says_so)
{
	struct metrics metrics;

	metrics_init(&metrics);
	metrics_family(&metrics, "a", METRICS_GAUGE, "A.");
	for (unsigned i = 0; i < 600000 && !metrics.failed; i++)
		metrics_sample(&metrics, i, "label", "value", NULL);
	cr_expect(metrics.failed);
	cr_expect_leq(metrics.room, METRICS_BYTES_MAX);
	cr_expect_eq(metrics.length, strlen(metrics.text));
	metrics_free(&metrics);
}

Test(metrics, the_process_shows_what_it_uses)
{
	struct metrics metrics;

	metrics_init(&metrics);
	metrics_process(&metrics, "conat-test");
	cr_assert_not_null(metrics.text);
	cr_expect(strstr(metrics.text, "conat_build_info{program=\"conat-test\",version=\""));
	const char *resident = strstr(metrics.text, "\nprocess_resident_memory_bytes ");
	cr_assert_not_null(resident);
	cr_expect_gt(strtoull(resident + strlen("\nprocess_resident_memory_bytes "), NULL, 10),
		     100000);
	const char *files = strstr(metrics.text, "\nprocess_open_fds ");
	cr_assert_not_null(files);
	cr_expect_geq(strtoull(files + strlen("\nprocess_open_fds "), NULL, 10), 3);
	cr_expect(strstr(metrics.text, "\nprocess_cpu_seconds_total "));
	metrics_free(&metrics);
}
