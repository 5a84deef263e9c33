/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/config_bed.h"

#include <criterion/criterion.h>
#include <string.h>

struct config *parse(const char *text, char *error, unsigned size)
{
	struct config *config = NULL;
	int err = config_parse("t.yaml", text, (unsigned)strlen(text), &config, error, size);

	cr_assert((err == 0) == (config != NULL), "%d: %s", err, error);
	return config;
}

struct config *parse_good(const char *text)
{
	char error[512] = "";
	struct config *config = parse(text, error, sizeof error);

	cr_assert_not_null(config, "%s", error);
	cr_expect_str_empty(error);
	return config;
}
