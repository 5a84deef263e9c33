/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --table embedded:CONFIG: a table service as our child, on a private unix socket. It dies with us
 * (PR_SET_PDEATHSIG); when it dies alone it is started again, with a backoff. One that ends before
 * it ever served (a wrong configuration) is not: the caller is told to give up.
 *
 * Everything is called on the main thread, the one that starts children: PR_SET_PDEATHSIG means the
 * parent's thread, not its process.
 */
#ifndef DATAPLANE_EMBEDDED_H
#define DATAPLANE_EMBEDDED_H

#include <stdbool.h>
#include "dataplane/conf.h"

struct event_base;
struct embedded;

enum { EMBEDDED_SOCKET_MAX = 96 };

/*
 * Finds the program and the configuration file; starts nothing yet. directory: of the socket. 0, or
 * a negative error and a line in the log.
 */
int embedded_new(const char *config, const char *directory, enum log_level level,
		 enum log_target target, struct embedded **out);
/* SIGTERM, then SIGKILL after three seconds; removes the socket and its directory. */
void embedded_free(struct embedded *embedded);
/* unix:PATH, for the table client. */
const char *embedded_address(const struct embedded *embedded);

/*
 * Makes the directory (mode 0700), starts the child and watches it. Whoever else could use the same
 * directory is excluded by then. failed is called when the child ended without ever having served.
 */
int embedded_start(struct embedded *embedded, struct event_base *base,
		   void (*failed)(void *context), void *context);
/* The client was attached: from now on the child's death is an accident. */
void embedded_served(struct embedded *embedded);
/* Has it read its configuration again. */
void embedded_reload(struct embedded *embedded);
unsigned embedded_restarts(const struct embedded *embedded);

#endif
