/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the dataplane shows of itself over HTTP: /metrics, /healthz, /readyz (common/base/http.h).
 */
#ifndef DATAPLANE_ADMIN_H
#define DATAPLANE_ADMIN_H

#include "dataplane/embedded.h"
#include "dataplane/host.h"
#include "dataplane/table_client.h"

struct event_base;
struct http;

/* All borrowed; host and embedded may be NULL. */
struct admin {
	const struct conf *conf;
	struct table_client *client;
	struct port *port;
	struct host *host;
	struct embedded *embedded;
};

/* Listens at conf->admin. 0, or a negative error and a line in the log. */
int admin_listen(struct admin *admin, struct event_base *base, struct http **out);

/*
 * Whether packets of new flows would be translated: attached, configured, the host set up, not
 * draining. why: a sentence.
 */
bool admin_ready(struct admin *admin, char *why, unsigned size);

#endif
