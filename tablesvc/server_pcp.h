/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PCP server (RFC 6887): UDP sockets, one for each address of pcp.listen, that tell realms apart.
 * Requests come in on the thread of an event base (main's), are answered on the thread that owns the
 * table, when the journal has committed what they made. The queue between is bounded; what does not
 * fit is dropped and counted, as section 8.2 allows: clients ask again.
 *
 *   pcp_server_new -> pcp_server_listen -> pcp_server_turn (the table's thread) ...
 *   -> pcp_server_unlisten -> pcp_server_free
 */
#ifndef TABLESVC_SERVER_PCP_H
#define TABLESVC_SERVER_PCP_H

#include "tablesvc/explicit.h"

struct event_base;
struct pcp_server;

struct pcp_counters {
	uint64_t requests, dropped, ignored, unsent;
	uint64_t announcements;
	uint64_t results[PCP_RESULTS];
};

/* Binds every address. config is borrowed. ERR_IO with a sentence that names the address. */
int pcp_server_new(const struct config *config, struct pcp_server **out, char *error,
		   unsigned error_size);
void pcp_server_free(struct pcp_server *pcp);

/*
 * Reads requests on base's thread from now on; arrived is called there after each that was queued,
 * to wake whoever calls pcp_server_turn. 0 or ERR_NOMEM.
 */
int pcp_server_listen(struct pcp_server *pcp, struct event_base *base,
		      void (*arrived)(void *context), void *context);
/* Before base is freed. */
void pcp_server_unlisten(struct pcp_server *pcp);

/*
 * The table's thread: answers what is queued, a bounded number a call (true: there is more), and
 * announces when explicit mappings were lost (section 14.1.3).
 */
bool pcp_server_turn(struct pcp_server *pcp, struct table *table, struct journal *journal,
		     struct monotime now);
/* Any thread: whether requests wait for a turn. */
bool pcp_server_waiting(struct pcp_server *pcp);
/* The table's thread. */
void pcp_server_counters(struct pcp_server *pcp, struct pcp_counters *out);

#endif
