/* SPDX-License-Identifier: Apache-2.0 */
/* Private to config_check*.c: the place and the words of a refusal. */
#ifndef TABLESVC_CONFIG_CHECK_H
#define TABLESVC_CONFIG_CHECK_H

#include "tablesvc/config_schema.h"

struct config_checking {
	const struct config *config;
	char *path, *why;
	unsigned path_size, why_size;
};

/* Names the key that is being checked. */
void config_check_path(struct config_checking *check, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* ERR_INVALID, with a sentence. */
int config_check_refuse(struct config_checking *check, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

bool config_prefix_contains(const struct config_prefix *prefix, nat_be32 address);
/* The first of the n prefixes that overlaps this one, or NULL. */
const struct config_prefix *config_find_overlap(const struct config_prefix *prefixes, unsigned n,
						const struct config_prefix *with);

/* One pool by itself and beside those before it; adds to the sums of all. */
int config_check_pool(struct config_checking *check, unsigned index, uint64_t *addresses,
		      uint64_t *blocks);
/* What no pool by itself shows: who uses it. */
int config_check_pool_use(struct config_checking *check, unsigned index);
int config_check_reload_pools(const struct config *old, const struct config *new, char *error,
			      unsigned error_size);

#endif
