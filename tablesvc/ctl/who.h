/* SPDX-License-Identifier: Apache-2.0 */
/* conatctl who: whose an external endpoint is now (the service), or was (the event log). */
#ifndef CTL_WHO_H
#define CTL_WHO_H

#include <stdio.h>
#include "tablesvc/ctl/rows.h"

/* The service's answer; sets run->found. */
void who_print(struct run *run, const void *reply);
extern const struct output_column who_columns[], who_json_columns[];

/* args->at: searches args->logs. An exit code of enum args_exit; sentences go to err. */
int who_from_logs(struct run *run, FILE *err);
/* After the service's answer. */
int who_exit(const struct run *run, FILE *err);

#endif
