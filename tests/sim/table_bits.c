/* SPDX-License-Identifier: Apache-2.0 */
/* The one look into the table: a dataplane that has to flush has two holder bits and more. */
#include "tablesvc/table_internal.h"
#include "tests/sim/table_bits.h"

uint64_t table_bits_of(const struct table *table, uint32_t dataplane)
{
	uint64_t bits = 0;

	for (unsigned i = 0; i < 64; i++)
		if (table->bits[i].state != BIT_FREE && table->bits[i].dataplane == dataplane)
			bits |= UINT64_C(1) << i;
	return bits;
}
