/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdlib.h>
#include "tests/support/golden.h"

/* Rows are numbered: pointers in parameters do not survive the way into Criterion's workers. */
ParameterizedTestParameters(golden, engine)
{
	struct golden_table *table = golden_load(GOLDEN_FILE);
	unsigned n = golden_rows(table);
	unsigned *rows = cr_malloc(n * sizeof *rows);

	for (unsigned i = 0; i < n; i++)
		rows[i] = i;
	golden_unload(table);
	return cr_make_param_array(unsigned, rows, n);
}

ParameterizedTest(unsigned *row, golden, engine)
{
	struct golden_table *table = golden_load(GOLDEN_FILE);
	struct golden_target *target = golden_engine_new();
	char error[2500] = "";
	bool good = golden_run(table, *row, target, error, sizeof error);

	cr_expect(good, "%s", error);
	golden_engine_free(target);
	golden_unload(table);
}

Test(golden, has_rows)
{
	struct golden_table *table = golden_load(GOLDEN_FILE);

	cr_expect_gt(golden_rows(table), 180);
	golden_unload(table);
}
