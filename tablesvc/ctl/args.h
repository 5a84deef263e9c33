/* SPDX-License-Identifier: Apache-2.0 */
/* conatctl's command line: one table of commands and one of options drive usage and parsing. */
#ifndef CTL_ARGS_H
#define CTL_ARGS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "common/nat/types.h"
#include "common/rpc/credentials.h"

enum args_command {
	ARGS_STATUS,
	ARGS_DATAPLANES,
	ARGS_MAPPINGS,
	ARGS_SESSIONS,
	ARGS_SUBSCRIBERS,
	ARGS_POOLS,
	ARGS_STATIC_LIST,
	ARGS_STATIC_ADD,
	ARGS_STATIC_DEL,
	ARGS_DELETE,
	ARGS_DRAIN,
	ARGS_WHO,
	ARGS_COMMANDS,
};

/* What scripts may rely on. */
enum args_exit {
	ARGS_EXIT_OK = 0,
	ARGS_EXIT_FAILED = 1, /* the service said no, or something broke; who: nobody */
	ARGS_EXIT_USAGE = 2,
	ARGS_EXIT_UNREACHABLE = 3,
	ARGS_EXIT_NOT_FOUND = 4, /* nothing to act on; who: the log cannot tell */
};

enum { ARGS_LOGS_MAX = 1024 };

struct args {
	enum args_command command;
	const char *server; /* HOST:PORT or unix:PATH; of argv or the environment */
	struct rpc_credentials credentials;
	bool json;
	int timeout_ms; /* without a sign of life */
	/* filters; 0 = any */
	nat_be32 subscriber;
	struct nat_endpoint external, remote;
	uint8_t protocol, realm;
	uint64_t limit;
	bool undo;
	/* operands; static: protocol, external, internal (address 0 = not given) */
	struct nat_endpoint internal;
	const char *dataplane;
	/* who: the endpoint is external; without a time: now */
	bool at;
	int64_t at_first_ms, at_last_ms;
	const char *logs[ARGS_LOGS_MAX]; /* "-" = standard input */
	unsigned n_logs;
};

/*
 * environment_server: CONAT_SERVER or NULL. 0; -1 when help or version was printed to out;
 * otherwise ARGS_EXIT_USAGE and one line in err.
 */
int args_parse(int argc, char **argv, const char *environment_server, struct args *args, FILE *out,
	       FILE *err);

#endif
