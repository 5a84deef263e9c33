/* SPDX-License-Identifier: Apache-2.0 */
/* Which protection is off; only the test build (SIM_MUTABLE) has any to switch. */
#ifndef SIM_MUTATION_H
#define SIM_MUTATION_H

#include <stdbool.h>

/*
 * False when there is none of this name. "small-outbox" is no mutation: it makes the table's
 * outboxes small, so that it has to flush dataplanes, and nothing may break.
 */
bool mutation_set(const char *name);
/* Whether the simulator must find a violation now. */
bool mutation_must_fail(void);
/* For the usage text. */
const char *mutation_names(void);

#endif
