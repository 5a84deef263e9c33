/* SPDX-License-Identifier: Apache-2.0 */
#include "tablesvc/options.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_CONFIG "/etc/conat/tablesvc.yaml"

static const struct {
	char letter;
	const char *name, *argument, *help;
} table[] = {
    {'c', "config", "FILE", "configuration (default " DEFAULT_CONFIG ")"},
    {'n', "check", NULL, "check the configuration, print what is in effect, exit"},
    {'D', "deterministic-map", NULL,
     "print who has which ports of the deterministic pools, exit"},
    {'l', "listen", "ADDRESS", "HOST:PORT or unix:PATH instead of service.listen"},
    {'a', "admin", "ADDRESS", "HOST:PORT or off instead of service.admin"},
    {'L', "log-level", "LEVEL", "error, warning, notice, info (default) or debug"},
    {'T', "log-target", "TARGET", "stderr (default) or journal"},
    {'p', "child-of", "PID",
     "stop when the parent process PID is gone; the terminal's interrupt is the parent's to "
     "handle"},
    {'V', "version", NULL, "print the version, exit"},
    {'h', "help", NULL, "print this, exit"},
};
enum { OPTIONS = sizeof table / sizeof table[0] };

static void print_help(const char *program, FILE *out)
{
	fprintf(out,
		"Usage: %s [OPTION]...\n"
		"The table service of a conat cluster: owns every mapping, answers dataplanes.\n\n",
		program);
	for (unsigned i = 0; i < OPTIONS; i++) {
		char name[40];
		snprintf(name, sizeof name, "--%s%s%s", table[i].name, table[i].argument ? " " : "",
			 table[i].argument ? table[i].argument : "");
		fprintf(out, "  -%c, %-20s %s\n", table[i].letter, name, table[i].help);
	}
	fprintf(out, "\nSIGHUP reloads the configuration; SIGTERM and SIGINT stop.\n");
}

static bool parse_pid(const char *text, pid_t *out)
{
	char *end;
	long value = strtol(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || value < 1 || value > 1 << 22)
		return false;
	*out = (pid_t)value;
	return true;
}

static bool take(struct options *options, char letter, const char *value, const char *program,
		 FILE *err)
{
	switch (letter) {
	case 'c':
		options->config = value;
		return true;
	case 'n':
		options->check = true;
		return true;
	case 'D':
		options->map = true;
		return true;
	case 'l':
		options->listen = value;
		return true;
	case 'a':
		options->admin = value;
		return true;
	case 'L':
		if (log_parse_level(value, &options->log_level) == 0)
			return true;
		fprintf(err,
			"%s: --log-level %s: allowed are error, warning, notice, info, debug\n",
			program, value);
		return false;
	case 'T':
		if (strcmp(value, "stderr") == 0)
			options->log_target = LOG_TARGET_STDERR;
		else if (strcmp(value, "journal") == 0)
			options->log_target = LOG_TARGET_JOURNAL;
		else {
			fprintf(err, "%s: --log-target %s: allowed are stderr, journal\n", program,
				value);
			return false;
		}
		return true;
	case 'p':
		if (parse_pid(value, &options->parent))
			return true;
		fprintf(err, "%s: --child-of %s: not a process number\n", program, value);
		return false;
	}
	return false;
}

enum options_result options_parse(int argc, char **argv, struct options *options, FILE *out,
				  FILE *err)
{
	struct option longs[OPTIONS + 1] = {0};
	char shorts[2 * OPTIONS + 2] = ":";
	const char *slash = strrchr(argv[0], '/'), *program = slash ? slash + 1 : argv[0];
	int letter;

	*options = (struct options){
	    .config = DEFAULT_CONFIG, .log_level = LOG_INFO, .log_target = LOG_TARGET_STDERR};
	for (unsigned i = 0; i < OPTIONS; i++) {
		longs[i] = (struct option){table[i].name,
					   table[i].argument ? required_argument : no_argument,
					   NULL, table[i].letter};
		snprintf(shorts + strlen(shorts), 3, "%c%s", table[i].letter,
			 table[i].argument ? ":" : "");
	}
	optind = 0; /* a second call, in tests, starts afresh */
	opterr = 0;
	while ((letter = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		if (letter == 'h') {
			print_help(program, out);
			return OPTIONS_EXIT;
		}
		if (letter == 'V') {
			fprintf(out, "%s %s\n", program, CONAT_VERSION);
			return OPTIONS_EXIT;
		}
		if (letter == ':' || letter == '?') {
			fprintf(err, "%s: %s: %s; see --help\n", program, argv[optind - 1],
				letter == ':' ? "its argument is missing" : "no such option");
			return OPTIONS_WRONG;
		}
		if (!take(options, (char)letter, optarg, program, err))
			return OPTIONS_WRONG;
	}
	if (optind < argc) {
		fprintf(err, "%s: %s: no argument is expected here; see --help\n", program,
			argv[optind]);
		return OPTIONS_WRONG;
	}
	return OPTIONS_RUN;
}
