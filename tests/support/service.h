/* SPDX-License-Identifier: Apache-2.0 */
/* A table service as a test needs it: real configuration, table and server, on a thread. */
#ifndef SUPPORT_SERVICE_H
#define SUPPORT_SERVICE_H

#include <pthread.h>
#include "tablesvc/config.h"
#include "tablesvc/server.h"

struct service {
	struct config *config;
	struct journal *journal;
	struct table *table;
	struct server *server;
	uint64_t seed;
	struct random_source random;
	pthread_t thread;
	char address[128]; /* where to connect: config->listen[0] with the port that was bound */
};

/*
 * yaml: the configuration without its "service" section; listen: HOST:PORT (0 = any) or unix:PATH;
 * tls: a directory with ca.pem, service.pem, service.key, or NULL. 0, or an error in "error".
 */
int service_start(struct service *service, const char *yaml, const char *listen, const char *tls,
		  uint64_t epoch, char *error, unsigned error_size);
void service_stop(struct service *service);
/* Waits until the server's counters satisfy done, at most 3 s. */
bool service_wait(struct service *service, bool (*done)(const struct server_counters *counters));

/* One pool 192.0.2.0/28, one realm "lan" (1) 10.0.0.0/8, quick leases. */
extern const char service_yaml[];

#endif
