/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdio.h>
#include <string.h>
#include "tablesvc/options.h"

enum { WORDS = 16 };

static enum options_result parse(char *line, struct options *options, char *out, char *err)
{
	char *argv[WORDS + 1] = {"/usr/sbin/conat-tablesvc"}, *rest = NULL;
	FILE *out_file = fmemopen(out, 4096, "w"), *err_file = fmemopen(err, 512, "w");
	int argc = 1;

	for (char *word = strtok_r(line, " ", &rest); word && argc < WORDS;
	     word = strtok_r(NULL, " ", &rest))
		argv[argc++] = word;
	out[0] = err[0] = '\0';
	enum options_result result = options_parse(argc, argv, options, out_file, err_file);
	fclose(out_file);
	fclose(err_file);
	return result;
}

Test(options, have_defaults)
{
	static char out[4096], err[512];
	struct options options;
	char line[] = "";

	cr_expect_eq(parse(line, &options, out, err), OPTIONS_RUN);
	cr_expect_str_eq(options.config, "/etc/conat/tablesvc.yaml");
	cr_expect_null(options.listen);
	cr_expect_null(options.admin);
	cr_expect_not(options.check);
	cr_expect_eq(options.parent, 0);
	cr_expect_eq(options.log_level, LOG_INFO);
	cr_expect_eq(options.log_target, LOG_TARGET_STDERR);
}

Test(options, are_taken_in_both_spellings)
{
	static char out[4096], err[512];
	struct options options;
	char longs[] = "--config f --listen unix:/x --admin off --check --child-of 77 "
		       "--log-level debug --log-target journal";
	char shorts[] = "-c f -l unix:/x -a off -n -p 77 -L debug -T journal";

	for (int i = 0; i < 2; i++) {
		cr_expect_eq(parse(i ? shorts : longs, &options, out, err), OPTIONS_RUN, "%s", err);
		cr_expect_str_eq(options.config, "f");
		cr_expect_str_eq(options.listen, "unix:/x");
		cr_expect_str_eq(options.admin, "off");
		cr_expect(options.check);
		cr_expect_eq(options.parent, 77);
		cr_expect_eq(options.log_level, LOG_DEBUG);
		cr_expect_eq(options.log_target, LOG_TARGET_JOURNAL);
	}
}

Test(options, help_and_version_are_printed)
{
	static char out[4096], err[512];
	struct options options;
	char help[] = "--help", version[] = "-V";

	cr_expect_eq(parse(help, &options, out, err), OPTIONS_EXIT);
	cr_expect(strstr(out, "--child-of PID"));
	cr_expect(strstr(out, "--check"));
	cr_expect(strstr(out, "SIGHUP"));
	cr_expect_eq(parse(version, &options, out, err), OPTIONS_EXIT);
	cr_expect_str_eq(out, "conat-tablesvc " CONAT_VERSION "\n");
	cr_expect_str_empty(err);
}

struct bad {
	char line[64];
	char part[80];
};

ParameterizedTestParameters(options, that_are_wrong_get_a_sentence)
{
	static struct bad rows[] = {
	    {"--config", "--config: its argument is missing"},
	    {"-x", "-x: no such option"},
	    {"--fast", "--fast: no such option"},
	    {"file.yaml", "file.yaml: no argument is expected"},
	    {"--log-level loud", "--log-level loud: allowed are error, warning"},
	    {"--log-target syslog", "--log-target syslog: allowed are stderr, journal"},
	    {"--child-of 0", "--child-of 0: not a process number"},
	    {"--child-of -4", "--child-of -4: not a process number"},
	    {"--child-of 12x", "--child-of 12x: not a process number"},
	};
	return cr_make_param_array(struct bad, rows, sizeof rows / sizeof rows[0]);
}

ParameterizedTest(struct bad *row, options, that_are_wrong_get_a_sentence)
{
	static char out[4096], err[512];
	struct options options;

	cr_expect_eq(parse(row->line, &options, out, err), OPTIONS_WRONG);
	cr_expect(strstr(err, row->part), "no \"%s\" in \"%s\"", row->part, err);
	cr_expect_str_empty(out);
}
