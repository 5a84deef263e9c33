/* SPDX-License-Identifier: Apache-2.0 */
/* conatctl's commands: one call of NatAdmin each, its replies printed as they come. */
#ifndef CTL_COMMANDS_H
#define CTL_COMMANDS_H

#include <stdio.h>
#include "tablesvc/ctl/args.h"
#include "tablesvc/ctl/spool.h"

/* Returns an exit code of enum args_exit; sentences go to err. */
int commands_run(const struct args *args, struct spool *out, FILE *err);

#endif
