/* SPDX-License-Identifier: Apache-2.0 */
/* What each command's replies look like: columns, and how a reply fills them. */
#ifndef CTL_ROWS_H
#define CTL_ROWS_H

#include "conat/v1/nat_admin.pb-c.h"
#include "tablesvc/ctl/args.h"
#include "tablesvc/ctl/output.h"

struct command;
struct run {
	const struct args *args;
	const struct command *command;
	struct output output;
	FILE *out;
	struct spool *spool; /* behind out */
	uint64_t acted_on;   /* delete: mappings; nothing is an exit code of its own */
	struct nat_endpoint internal_found; /* static del without INTERNAL */
	bool found;
	bool in_pool; /* who: the address is one of the service's */
};

/*
 * One reply. A list calls output_row for each row in it, a single reply output_single. reply is
 * unpacked already.
 */
struct command {
	const char *method;
	const ProtobufCMessageDescriptor *reply;
	void (*print)(struct run *run, const void *reply);
	const struct output_column *columns;
	bool list;
};

extern const struct command rows_commands[ARGS_COMMANDS];
/* Looks for args' static mapping in the list; sets found and internal_found. */
extern const struct command rows_static_lookup;

#endif
