/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/mutation.h"

bool mutation_set(const char *name)
{
	(void)name;
	return false;
}

bool mutation_must_fail(void)
{
	return false;
}

const char *mutation_names(void)
{
	return "";
}
