/* SPDX-License-Identifier: Apache-2.0 */
/* conatctl: what an operator asks of the table service. */
#include <stdlib.h>
#include <unistd.h>
#include "common/base/log.h"
#include "tablesvc/ctl/commands.h"

int main(int argc, char **argv)
{
	struct args args;
	int result = args_parse(argc, argv, getenv("CONAT_SERVER"), &args, stdout, stderr);

	if (result)
		return result < 0 ? ARGS_EXIT_OK : result;
	log_init("conatctl", LOG_TARGET_STDERR, LOG_WARNING);
	/* gRPC's own lines are about what our sentences say already. */
	setenv("GRPC_VERBOSITY", "NONE", 0);
	struct spool *spool;
	if (spool_new(STDOUT_FILENO, &spool) != 0) {
		fputs("conatctl: out of memory\n", stderr);
		return ARGS_EXIT_FAILED;
	}
	int code = commands_run(&args, spool, stderr);
	if (spool_free(spool) != 0 && code == ARGS_EXIT_OK) {
		fputs("conatctl: the output cannot be written\n", stderr);
		code = ARGS_EXIT_FAILED;
	}
	return code;
}
