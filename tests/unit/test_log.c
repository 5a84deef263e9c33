/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "common/base/log.h"

/* What goes to stderr between capture_start and capture_end. */
static int saved = -1;
static FILE *file;

static void capture_start(void)
{
	file = tmpfile();
	cr_assert_not_null(file);
	fflush(stderr);
	saved = dup(STDERR_FILENO);
	dup2(fileno(file), STDERR_FILENO);
}

static void capture_end(char *text, size_t size)
{
	fflush(stderr);
	dup2(saved, STDERR_FILENO);
	close(saved);
	rewind(file);
	text[fread(text, 1, size - 1, file)] = '\0';
	fclose(file);
}

static unsigned lines_of(const char *text)
{
	unsigned n = 0;
	for (; *text; text++)
		n += *text == '\n';
	return n;
}

Test(log, a_line_names_program_and_level)
{
	char text[4096];

	log_init("/usr/sbin/conat-test", LOG_TARGET_STDERR, LOG_INFO);
	capture_start();
	log_error("broken part=%s", "left");
	log_info("fine count=%d", 7);
	capture_end(text, sizeof text);
	cr_expect_str_eq(text,
			 "conat-test error: broken part=left\nconat-test info: fine count=7\n");
}

Test(log, levels_above_the_threshold_are_silent)
{
	char text[4096];

	log_init("t", LOG_TARGET_STDERR, LOG_WARNING);
	capture_start();
	log_notice("hidden");
	log_warning("shown");
	log_set_level(LOG_DEBUG);
	log_debug("shown too");
	capture_end(text, sizeof text);
	cr_expect_str_eq(text, "t warning: shown\nt debug: shown too\n");
}

Test(log, a_call_site_is_limited_and_others_are_not)
{
	static char text[65536];

	log_init("t", LOG_TARGET_STDERR, LOG_INFO);
	capture_start();
	for (unsigned i = 0; i < 10 * LOG_BURST; i++)
		log_info("flood %u", i);
	log_info("another site");
	capture_end(text, sizeof text);
	cr_expect_eq(lines_of(text), LOG_BURST + 1, "%s", text);
	cr_expect(strstr(text, "another site"));
}

Test(log, what_was_left_out_is_counted)
{
	char text[4096];
	struct log_site site = {.window_start_ms = -20000, .lines = LOG_BURST, .left_out = 5};

	log_init("t", LOG_TARGET_STDERR, LOG_INFO);
	capture_start();
	log_line(LOG_INFO, &site, "again");
	capture_end(text, sizeof text);
	cr_expect_str_eq(text, "t info: 5 lines like the next were left out\nt info: again\n");
}

Test(log, long_lines_are_cut_not_overrun)
{
	static char text[8192], big[4000];

	memset(big, 'x', sizeof big - 1);
	log_init("t", LOG_TARGET_STDERR, LOG_INFO);
	capture_start();
	log_info("%s", big);
	capture_end(text, sizeof text);
	cr_expect_eq(lines_of(text), 1);
	cr_expect_lt(strlen(text), 1100);
}

Test(log, levels_have_names)
{
	enum log_level level = LOG_DEBUG;

	cr_expect_eq(log_parse_level("warning", &level), 0);
	cr_expect_eq(level, LOG_WARNING);
	cr_expect_eq(log_parse_level("loud", &level), -1);
	cr_expect_eq(log_parse_level("", &level), -1);
	cr_expect_eq(level, LOG_WARNING);
}
