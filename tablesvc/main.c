/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conat-tablesvc. The main thread has signals, reloads and the admin HTTP server; the server's
 * thread owns the table and gRPC.
 *
 * Start: arguments, configuration, log, parent, signal mask, event log, journal, table, server
 * (gRPC's threads inherit the mask, so signals come here), HTTP, server's thread, READY. Stop: the
 * mirror.
 */
#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>
#include "common/base/err.h"
#include "common/base/http.h"
#include "tablesvc/deterministic.h"
#include "tablesvc/event_writer.h"
#include "tablesvc/options.h"
#include "tablesvc/server.h"
#include "tablesvc/service_metrics.h"

enum { ERROR_BYTES = 768, WATCH_MS = 1000, STUCK_MS = 15000, READY_POLL_MS = 5 };

struct service {
	struct options options;
	struct config *config;
	struct random_source random;
	uint64_t epoch;
	struct event_writer *events;
	struct journal *journal;
	struct table *table;
	struct server *server;
	pthread_t thread;
	struct event_base *base;
	struct event *signals[3], *watch;
	struct http *http;
	bool watchdog;	     /* the supervisor wants to hear that we live */
	bool announced;	     /* READY=1 was said */
	uint64_t last_turns; /* for healthz: the server's loop must turn */
	struct monotime last_turn_seen;
	int exit_code;
};

/* A file with the command line's changes; what -n prints, and what start and reload take. */
static int load(const struct options *options, struct config **out, char *error, unsigned size)
{
	struct config *config;
	int err = config_load(options->config, &config, error, size);

	if (err)
		return err;
	if (options->listen)
		err = config_set(config, "service.listen", options->listen, error, size);
	if (!err && options->admin)
		err = config_set(config, "service.admin", options->admin, error, size);
	if (err) {
		config_free(config);
		return err;
	}
	*out = config;
	return 0;
}

static bool is_local(const char *address)
{
	return strncmp(address, "unix:", 5) == 0 || strncmp(address, "127.", 4) == 0 ||
	       strncmp(address, "[::1]:", 6) == 0 || strncmp(address, "localhost:", 10) == 0;
}

/* RFC 7422 section 3: what a log of such a pool must have is when its computation changed. */
static void advise_deterministic(const struct config *config)
{
	struct deterministic *plan;
	char text[200];

	for (unsigned i = 0; i < config->n_pools; i++) {
		if (config->pools[i].mode != CONFIG_DETERMINISTIC ||
		    deterministic_new(config, i, &plan, text, sizeof text))
			continue;
		deterministic_describe(plan, text, sizeof text);
		log_notice("fixed ports, see --deterministic-map pool=%s generation=%llu: %s",
			   config->pools[i].name, (unsigned long long)config->generation, text);
		deterministic_free(plan);
	}
}

/* Allowed, but somebody should know. */
static void advise(const struct config *config)
{
	char advice[ERROR_BYTES];

	for (unsigned i = 0; config_advice(config, i, advice, sizeof advice); i++)
		log_warning("%s", advice);
	for (unsigned i = 0; i < config->n_listen; i++) {
		if (!config->tls.certificate[0] && !is_local(config->listen[i]))
			log_warning("no TLS: whoever reaches this address is dataplane and "
				    "operator listen=%s",
				    config->listen[i]);
	}
	if (config->admin_listen[0] && !is_local(config->admin_listen))
		log_warning("the admin HTTP server has no access control listen=%s",
			    config->admin_listen);
	advise_deterministic(config);
}

/* ---- admin HTTP ---- */

static void on_metrics(void *context, struct metrics *out)
{
	struct service *service = context;
	static struct server_counters counters; /* main thread only; too big for the stack */
	struct event_writer_counters events;

	server_counters(service->server, &counters);
	event_writer_counters(service->events, &events);
	service_metrics(&counters, &events, server_ready(service->server), out);
}

static bool on_healthy(void *context, char *why, unsigned size)
{
	struct service *service = context;
	int64_t still = monotime_sub_ms(monotime_now(), service->last_turn_seen);

	if (still < STUCK_MS)
		return true;
	snprintf(why, size, "the server's thread has not moved for %lld s",
		 (long long)(still / 1000));
	return false;
}

static bool on_ready(void *context, char *why, unsigned size)
{
	struct service *service = context;

	if (!server_ready(service->server)) {
		snprintf(why, size, "dataplanes are not served: starting or stopping");
		return false;
	}
	return on_healthy(context, why, size);
}

/* ---- the main thread's events ---- */

static void on_stop(evutil_socket_t number, short events, void *context)
{
	struct service *service = context;

	if (number == SIGINT && service->options.parent)
		return; /* Ctrl-C reached the whole group; the parent ends us when it is done */
	log_notice("stopping signal=%s", number == SIGTERM ? "TERM" : "INT");
	sd_notify(0, "STOPPING=1");
	server_stop(service->server);
	event_base_loopbreak(service->base);
}

static void on_reload(evutil_socket_t number, short events, void *context)
{
	struct service *service = context;
	struct config *config;
	char error[ERROR_BYTES];

	sd_notify(0, "RELOADING=1");
	int err = load(&service->options, &config, error, sizeof error);
	if (!err) {
		config->generation = service->config->generation + 1;
		err = config_check_reload(service->config, config, error, sizeof error);
		if (!err)
			err = event_writer_check(&config->log, error, sizeof error);
		if (!err) {
			/* First, so that a new log begins with the configuration it is about. */
			event_writer_reopen(service->events, &config->log);
			err = server_reload(service->server, config, error, sizeof error);
		}
		if (err)
			config_free(config);
	}
	if (err) /* the file may have been moved away all the same (logrotate) */
		event_writer_reopen(service->events, &service->config->log);
	if (err) {
		log_error("configuration not reloaded, the old one stays: %s", error);
		sd_notifyf(0, "READY=1\nSTATUS=not reloaded: %s", error);
		return;
	}
	config_free(service->config);
	service->config = config;
	advise(config);
	log_notice("configuration reloaded file=%s generation=%llu", service->options.config,
		   (unsigned long long)config->generation);
	sd_notifyf(0, "READY=1\nSTATUS=configuration %llu", (unsigned long long)config->generation);
}

/*
 * Says READY once, then looks each second whether the server's thread still moves. server_wake
 * makes an idle loop turn; the counters are published at each turn.
 */
static void on_watch(evutil_socket_t fd, short events, void *context)
{
	struct service *service = context;
	static struct server_counters counters;
	struct timeval next = {.tv_sec = WATCH_MS / 1000, .tv_usec = WATCH_MS % 1000 * 1000};

	server_counters(service->server, &counters);
	if (!service->announced) {
		if (server_ready(service->server)) {
			service->announced = true;
			log_notice("ready version=%s config=%s listen=%s admin=%s epoch=%llu",
				   CONAT_VERSION, service->options.config,
				   service->config->listen[0],
				   service->http ? service->config->admin_listen : "off",
				   (unsigned long long)counters.epoch);
			sd_notify(0, "READY=1");
		} else {
			next = (struct timeval){.tv_usec = READY_POLL_MS * 1000};
		}
	}
	if (counters.turns != service->last_turns) {
		service->last_turns = counters.turns;
		service->last_turn_seen = monotime_now();
	}
	if (service->watchdog &&
	    monotime_sub_ms(monotime_now(), service->last_turn_seen) < STUCK_MS)
		sd_notify(0, "WATCHDOG=1");
	server_wake(service->server);
	evtimer_add(service->watch, &next);
}

/* ---- start and stop ---- */

static int watch_parent(pid_t parent)
{
	if (!parent)
		return 0;
	unsetenv("NOTIFY_SOCKET"); /* the parent's, not ours */
	if (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0) {
		log_error("cannot watch the parent process: %s", strerror(errno));
		return -1;
	}
	/* It may have died before prctl. */
	if (getppid() != parent) {
		log_error("the parent process is not %d", (int)parent);
		return -1;
	}
	return 0;
}

static int start_events(struct service *service)
{
	static const int numbers[3] = {SIGTERM, SIGINT, SIGHUP};
	const struct http_callbacks callbacks = {
	    .context = service, .metrics = on_metrics, .healthy = on_healthy, .ready = on_ready};
	const struct timeval soon = {.tv_usec = READY_POLL_MS * 1000};
	char error[ERROR_BYTES];

	service->base = event_base_new();
	if (!service->base)
		goto no_memory;
	for (unsigned i = 0; i < 3; i++) {
		service->signals[i] = evsignal_new(
		    service->base, numbers[i], numbers[i] == SIGHUP ? on_reload : on_stop, service);
		if (!service->signals[i] || evsignal_add(service->signals[i], NULL) != 0)
			goto no_memory;
	}
	service->watch = evtimer_new(service->base, on_watch, service);
	if (!service->watch || evtimer_add(service->watch, &soon) != 0)
		goto no_memory;
	if (server_pcp_listen(service->server, service->base) != 0)
		goto no_memory;
	service->last_turn_seen = monotime_now();
	service->watchdog = sd_watchdog_enabled(0, NULL) > 0;
	if (service->config->admin_listen[0] &&
	    http_new(service->base, service->config->admin_listen, &callbacks, &service->http,
		     error, sizeof error) != 0) {
		log_error("%s", error);
		return -1;
	}
	return 0;
no_memory:
	log_error("out of memory for events");
	return -1;
}

static void *serve(void *context)
{
	server_run(context);
	return NULL;
}

static uint64_t epoch_now(void)
{
	struct timespec now;

	/* Greater than any epoch before, as long as the wall clock is not set back across a
	 * restart. */
	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int start(struct service *service)
{
	char error[ERROR_BYTES] = "";

	if (watch_parent(service->options.parent) != 0)
		return -1;
	advise(service->config);
	log_warning("journal=none: nothing survives a restart of this service; dataplanes will "
		    "drop every flow when it comes back");
	if (service->config->hold_down_at_start_ms)
		log_warning("port blocks rest: new flows are refused seconds=%u "
			    "key=timers.hold_down_at_start",
			    service->config->hold_down_at_start_ms / 1000);
	service->random = random_system();
	service->epoch = epoch_now();
	int err = event_writer_new(&service->config->log, NULL, EVENT_RING_SIZE, error,
				   sizeof error, &service->events);
	if (err) {
		log_error("%s", error);
		return -1;
	}
	event_writer_mark(service->events, EVENT_SERVICE_STARTED, service->epoch);
	err = journal_none_new(&service->journal);
	if (!err)
		err = table_new(service->config, service->journal,
				event_writer_log(service->events), &service->random, service->epoch,
				monotime_now(), &service->table);
	if (err) {
		log_error("the table cannot be made: %s mappings=%u sessions=%u subscribers=%u",
			  err_text(err), service->config->capacity.mappings,
			  service->config->capacity.sessions,
			  service->config->capacity.subscribers);
		return -1;
	}
	err = server_new(service->config, service->table, service->journal, error, sizeof error,
			 &service->server);
	if (err) {
		log_error("%s", error[0] ? error : err_text(err));
		return -1;
	}
	return start_events(service);
}

static void stop(struct service *service)
{
	http_free(service->http);
	if (service->server)
		server_pcp_unlisten(service->server);
	if (service->watch)
		event_free(service->watch);
	for (unsigned i = 0; i < 3; i++) {
		if (service->signals[i])
			event_free(service->signals[i]);
	}
	if (service->base)
		event_base_free(service->base);
	server_free(service->server);
	table_free(service->table);
	if (service->journal)
		service->journal->ops->free(service->journal);
	event_writer_free(service->events);
	config_free(service->config);
}

static int run(struct service *service)
{
	sigset_t all, none;

	/* Every thread but this one leaves signals alone. */
	signal(SIGPIPE, SIG_IGN);
	sigfillset(&all);
	sigemptyset(&none); /* not the mask from before: a parent may have left anything blocked */
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	if (start(service) != 0)
		return 1;
	if (pthread_create(&service->thread, NULL, serve, service->server) != 0) {
		log_error("the server's thread cannot be made");
		return 1;
	}
	pthread_setname_np(service->thread, "table");
	pthread_sigmask(SIG_SETMASK, &none, NULL);
	event_base_dispatch(service->base);
	pthread_join(service->thread, NULL);
	event_writer_mark(service->events, EVENT_SERVICE_STOPPED, service->epoch);
	log_notice("stopped");
	return 0;
}

int main(int argc, char **argv)
{
	static struct service service;
	char error[ERROR_BYTES];

	switch (options_parse(argc, argv, &service.options, stdout, stderr)) {
	case OPTIONS_EXIT:
		return 0;
	case OPTIONS_WRONG:
		return 2;
	case OPTIONS_RUN:
		break;
	}
	log_init(argv[0], service.options.log_target, service.options.log_level);
	if (load(&service.options, &service.config, error, sizeof error) != 0) {
		if (service.options.check || service.options.map)
			fprintf(stderr, "%s\n", error);
		else
			log_error("%s", error);
		return 1;
	}
	if (service.options.map) {
		deterministic_print(service.config, stdout);
		config_free(service.config);
		return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
	}
	if (service.options.check) {
		for (unsigned i = 0; config_advice(service.config, i, error, sizeof error); i++)
			fprintf(stderr, "warning: %s\n", error);
		config_print(service.config, stdout);
		config_free(service.config);
		return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
	}
	int code = run(&service);
	stop(&service);
	return code;
}
