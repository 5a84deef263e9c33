/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/mutation.h"

#include <string.h>
#include "dataplane/cache_mutation.h"
#include "tests/sim/sim.h"

#include <stdint.h>

extern uint32_t outbox_notices;
extern int table_mutation; /* tablesvc/table_internal.h: 1 the fence, 2 the order of messages */

static const struct {
	const char *name;
	int table;
	enum cache_mutation cache;
	bool alone; /* fragments.c */
} mutations[] = {
    {"fence", 1, 0, false},
    {"order", 2, 0, false},
    {"lease", 0, CACHE_MUTATION_NO_LEASE, false},
    {"ack-first", 0, CACHE_MUTATION_ACK_FIRST, false},
    {"no-wait", 0, CACHE_MUTATION_NO_WAIT, false},
    {"taken-back", 0, CACHE_MUTATION_NO_TAKEN_BACK, false},
    {"deaf", 3, 0, false},
    {"reset", 4, 0, false},
    {"numbers", 5, 0, false},
    {"alone", 0, 0, true},
};

bool mutation_set(const char *name)
{
	if (strcmp(name, "small-outbox") == 0) {
		outbox_notices = 2;
		sim_small_outbox = true;
		return true;
	}
	for (unsigned i = 0; i < sizeof mutations / sizeof mutations[0]; i++) {
		if (strcmp(mutations[i].name, name) != 0)
			continue;
		table_mutation = mutations[i].table;
		cache_mutation = mutations[i].cache;
		fragments_alone = mutations[i].alone;
		return true;
	}
	return false;
}

bool mutation_must_fail(void)
{
	return table_mutation || cache_mutation || fragments_alone;
}

const char *mutation_names(void)
{
	return " | --mutate fence|order|lease|ack-first|no-wait|taken-back|deaf|reset|numbers|alone|small-outbox [--seeds "
	       "N]";
}
