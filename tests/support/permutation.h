/* SPDX-License-Identifier: Apache-2.0 */
/* Every order of a few things, for tests that try them all. */
#ifndef SUPPORT_PERMUTATION_H
#define SUPPORT_PERMUTATION_H

#include <stdbool.h>

/* The next order of n things, from ascending; false after the last one. */
static inline bool next_permutation(unsigned *order, unsigned n)
{
	unsigned i = n - 1, j = n - 1;

	while (i > 0 && order[i - 1] > order[i])
		i--;
	if (i == 0)
		return false;
	while (order[j] < order[i - 1])
		j--;
	unsigned swap = order[i - 1];
	order[i - 1] = order[j];
	order[j] = swap;
	for (unsigned a = i, b = n - 1; a < b; a++, b--) {
		swap = order[a];
		order[a] = order[b];
		order[b] = swap;
	}
	return true;
}

#endif
