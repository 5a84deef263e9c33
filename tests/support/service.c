/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/service.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "common/base/err.h"

const char service_yaml[] = "capacity: {mappings: 200000, sessions: 200000, subscribers: 20000}\n"
			    "lease: {duration: 3s, heartbeat: 200ms, grace: 30s}\n"
			    "pools: [{name: outside, prefixes: [192.0.2.0/28]}]\n"
			    "realms: [{name: lan, prefixes: [10.0.0.0/8], pool: outside}]\n";

static void *run(void *context)
{
	struct service *service = context;
	server_run(service->server);
	return NULL;
}

int service_start(struct service *service, const char *yaml, const char *listen, const char *tls,
		  uint64_t epoch, char *error, unsigned error_size)
{
	char text[16384];
	int n = snprintf(text, sizeof text, "service:\n  admin: off\n");
	if (tls)
		n += snprintf(
		    text + n, sizeof text - (size_t)n,
		    "  tls: {certificate: %s/service.pem, key: %s/service.key, ca: %s/ca.pem}\n",
		    tls, tls, tls);
	n += snprintf(text + n, sizeof text - (size_t)n, "%s", yaml);
	*service = (struct service){.seed = epoch};
	service->random = random_seeded(&service->seed);
	int err = config_parse("test", text, (unsigned)n, &service->config, error, error_size);
	if (err)
		return err;
	/* Any free port: not for a configuration file, but for us. */
	snprintf(service->config->listen[0], sizeof service->config->listen[0], "%s", listen);
	err = journal_none_new(&service->journal);
	if (!err)
		err = table_new(service->config, service->journal, event_log_none(),
				&service->random, epoch, monotime_now(), &service->table);
	if (err)
		snprintf(error, error_size, "table: %s", err_text(err));
	if (!err)
		err = server_new(service->config, service->table, service->journal, error,
				 error_size, &service->server);
	if (err) {
		service_stop(service);
		return err;
	}
	snprintf(service->address, sizeof service->address, "%s", listen);
	char *colon = strrchr(service->address, ':');
	if (strncmp(listen, "unix:", 5) != 0)
		sprintf(colon + 1, "%d", server_port(service->server, 0));
	if (pthread_create(&service->thread, NULL, run, service) != 0) {
		service_stop(service);
		return ERR_NOMEM;
	}
	while (!server_ready(service->server))
		usleep(1000);
	return 0;
}

void service_stop(struct service *service)
{
	if (service->thread) {
		server_stop(service->server);
		pthread_join(service->thread, NULL);
	}
	server_free(service->server);
	table_free(service->table);
	if (service->journal)
		service->journal->ops->free(service->journal);
	config_free(service->config);
	*service = (struct service){0};
}

bool service_wait(struct service *service, bool (*done)(const struct server_counters *counters))
{
	struct server_counters counters;
	for (int i = 0; i < 300; i++) {
		server_counters(service->server, &counters);
		if (done(&counters))
			return true;
		usleep(10000);
	}
	return false;
}
