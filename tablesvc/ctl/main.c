/* SPDX-License-Identifier: Apache-2.0 */
/* conatctl: what an operator asks of the table service. */
#include <stdlib.h>
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
	return commands_run(&args, stdout, stderr);
}
