/* SPDX-License-Identifier: Apache-2.0 */
/* Which protection is off; only the test build (SIM_MUTABLE) has any to switch. */
#ifndef SIM_MUTATION_H
#define SIM_MUTATION_H

#include <stdbool.h>

/* False when there is none of this name. */
bool mutation_set(const char *name);
/* For the usage text. */
const char *mutation_names(void);

#endif
