/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table service's server: one thread that owns the table and every gRPC object. Decodes batches
 * into the table, takes its messages out in order when the journal has committed them, answers
 * operators in small steps between them.
 *
 *   server_new -> server_run (blocks; a thread of its own) -> server_stop -> join -> server_free
 */
#ifndef TABLESVC_SERVER_H
#define TABLESVC_SERVER_H

#include <stdbool.h>
#include "tablesvc/server_pcp.h"
#include "tablesvc/table.h"

struct server;

/*
 * Binds every config->listen and starts gRPC: signal masks, forks and privileges are settled
 * before. config, table and journal are borrowed and outlive the server; from here on only
 * server_run's thread may touch the table. 0, or an error and a sentence that says which address
 * and why.
 */
int server_new(const struct config *config, struct table *table, struct journal *journal,
	       char *error, unsigned error_size, struct server **out);
void server_free(struct server *server);

/* Serves until server_stop; then refuses new calls, ends the streams, returns. */
void server_run(struct server *server);
/* Any thread, at any time; not from inside a signal handler. */
void server_stop(struct server *server);
/* Any thread: the journal committed more; look again. */
void server_wake(struct server *server);

/* PCP requests are read on base's thread from now on, until unlisten. 0 or ERR_NOMEM. */
int server_pcp_listen(struct server *server, struct event_base *base);
void server_pcp_unlisten(struct server *server);

/*
 * Any thread but the server's: hands a configuration over (table_reload on the loop's thread),
 * pushes it to every dataplane, and waits for the result. The caller checked it with
 * config_check_reload and set generation to one more. On 0 config is borrowed from now on instead
 * of the old one; otherwise the old one stays and error says why. ERR_STATE when server_run is not
 * running.
 */
int server_reload(struct server *server, const struct config *config, char *error,
		  unsigned error_size);

/* Serving: from server_run's start to server_stop. Any thread. */
bool server_ready(const struct server *server);
/* The port bound for config->listen[i], 0 for unix sockets. */
int server_port(const struct server *server, unsigned i);

struct server_pool {
	char name[CONFIG_NAME_MAX];
	uint64_t addresses, blocks, blocks_used, blocks_resting, ports_used, exhausted;
	uint64_t addresses_used, blocks_shared, blocks_free, above;
	struct table_pool_counts counts;
};

struct server_counters {
	struct table_counters table;
	struct pcp_counters pcp;
	uint64_t epoch, generation;
	/* gauges */
	uint32_t data_streams, control_streams, admin_calls;
	/* since start */
	uint64_t streams, calls_admin, calls_health;
	uint64_t unknown_methods, denied, refused_calls; /* refused: too many calls at once */
	uint64_t bad_messages;	      /* could not be decoded: malformed, uneven, too big */
	uint64_t bad_batches;	      /* decoded, but the table refused them */
	uint64_t bad_version, silent; /* streams that said nothing in time */
	uint64_t messages_in, messages_out, entries_in, entries_out, bytes_in, bytes_out;
	uint64_t heartbeats, reloads, reloads_failed;
	uint64_t turns, turn_max_us; /* the loop's longest turn: a pause */
	struct server_pool pools[CONFIG_POOLS_MAX];
	unsigned n_pools;
};
/* Any thread: a copy that is at most about 100 ms old. */
void server_counters(struct server *server, struct server_counters *out);

#endif
