/* SPDX-License-Identifier: Apache-2.0 */
/* conat-tablesvc's command line. One table drives usage and parsing. */
#ifndef TABLESVC_OPTIONS_H
#define TABLESVC_OPTIONS_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>
#include "common/base/log.h"

struct options {
	const char *config; /* file; of argv */
	const char *listen; /* instead of service.listen; NULL */
	const char *admin;  /* instead of service.admin; NULL */
	bool check, map;
	pid_t parent; /* stop when this process is gone; 0 = none */
	enum log_level log_level;
	enum log_target log_target;
};

enum options_result { OPTIONS_RUN, OPTIONS_EXIT /* help or version was printed */, OPTIONS_WRONG };

/* What is wrong goes to err as one line, help and version to out. */
enum options_result options_parse(int argc, char **argv, struct options *options, FILE *out,
				  FILE *err);

#endif
