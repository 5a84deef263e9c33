/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration files: whatever the bytes are, they are refused with one line that names the file,
 * or what is printed reads back to the same and reloads onto itself.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tablesvc/config.h"

#define check(condition)                                                                           \
	do {                                                                                       \
		if (!(condition))                                                                  \
			abort();                                                                   \
	} while (0)

static char *print(const struct config *config, size_t *size)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, size);

	check(out);
	config_print(config, out);
	fclose(out);
	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char error[512] = "";
	struct config *config = NULL, *again = NULL;

	if (config_parse("f", (const char *)data, (unsigned)size, &config, error, sizeof error)) {
		check(!config && strncmp(error, "f:", 2) == 0 && !strchr(error, '\n'));
		return 0;
	}
	size_t first_size, second_size;
	char *first = print(config, &first_size);
	check(config_parse("p", first, (unsigned)first_size, &again, error, sizeof error) == 0);
	char *second = print(again, &second_size);
	check(first_size == second_size && memcmp(first, second, first_size) == 0);
	check(config_check_reload(config, again, error, sizeof error) == 0);
	free(first);
	free(second);
	config_free(config);
	config_free(again);
	return 0;
}
