/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conat-dataplane: an init ladder and its mirror. Three kinds of thread: this one (libevent:
 * signals, timers, HTTP), the table client's, the port's workers.
 *
 * Order: what needs privileges and what forks comes before gRPC and threads; packets flow last, and
 * stop first.
 */
#include <errno.h>
#include <event2/event.h>
#include <event2/thread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>
#include "common/base/err.h"
#include "common/base/http.h"
#include "dataplane/admin.h"
#include "dataplane/netlink.h"
#include "dataplane/port_pcap.h"
#include "dataplane/port_tun.h"

enum {
	EXIT_USAGE = 2,
	TICK_MS = 200,
	REFRESH_TICKS = 25,  /* interfaces are looked at every five seconds, and when they change */
	PATIENCE_TICKS = 25, /* and a word is said about what is waited for */
	QUIET_TICKS = 3,     /* a capture is done when nothing was pending for so long */
	RING_BYTES = 4 << 20,
	PENDING_FLOWS = 65536,
	PENDING_PACKETS = 4096,
	PACKET_ROOM = 65535,
};

struct program {
	struct conf conf;
	struct random_source random;
	struct flowtable *flows;
	struct table_client *client;
	struct port *port;
	struct host *host;
	struct embedded *embedded;
	struct event_base *base;
	struct event *terminate, *interrupt, *hangup, *tick, *links;
	int links_fd;
	bool links_changed;
	struct http *http;
	struct admin admin;
	bool client_started;
	int status;
	unsigned ticks, quiet;
	bool was_ready;
};

/* ---- making ---- */

static int make_client(struct program *program)
{
	const struct conf *conf = &program->conf;
	struct table_client_conf client = {
	    .credentials = conf->credentials,
	    .cache = {.pending_flows = PENDING_FLOWS,
		      .pending_packets = PENDING_PACKETS,
		      .packet_room = PACKET_ROOM},
	    .workers = PORT_TUN_WORKER + (conf->port == CONF_PORT_PCAP ? 1 : conf->queues),
	    .ring_bytes = RING_BYTES,
	};
	snprintf(client.cache.name, sizeof client.cache.name, "%s", conf->name);
	if (program->embedded) {
		snprintf(client.addresses[0], sizeof client.addresses[0], "%s",
			 embedded_address(program->embedded));
		client.n_addresses = 1;
	} else {
		memcpy(client.addresses, conf->addresses, sizeof client.addresses);
		client.n_addresses = conf->n_addresses;
	}
	int err = flowtable_new(conf->flows, &program->random, &program->flows);
	if (err) {
		log_error("no memory for %u flows (about 175 bytes each): give a smaller --flows",
			  conf->flows);
		return err;
	}
	err = table_client_new(&client, program->flows, &program->random, &program->client);
	if (err)
		log_error("cannot make the table client: %s", err_text(err));
	return err;
}

static int make_port(struct program *program)
{
	const struct conf *conf = &program->conf;
	struct port_env env = {.engine = table_client_engine(program->client),
			       .context = program->client,
			       .slow = table_client_slow,
			       .flags = table_client_flags,
			       .settled = table_client_settled};
	int err;
	if (conf->port == CONF_PORT_PCAP) {
		err = port_pcap_new(conf->read, conf->write, &env, &program->port);
	} else {
		struct port_tun_conf tun = {.n = conf->n_interfaces,
					    .queues = conf->queues,
					    .host_setup = conf->host_setup};
		memcpy(tun.interfaces, conf->interfaces, sizeof tun.interfaces);
		err = port_tun_new(&tun, &env, &program->port);
		if (!err)
			program->host = port_tun_host(program->port);
	}
	if (!err)
		table_client_set_port(program->client, program->port);
	return err;
}

/*
 * A capture's service has a directory of its own. A TUN dataplane is alone in its network namespace
 * (port_tun_new saw to that before the service starts), so there the path can be foreseen, and
 * conatctl be pointed at it.
 */
static int make_embedded(struct program *program)
{
	char directory[64];
	struct stat netns;
	if (program->conf.port == CONF_PORT_PCAP) {
		snprintf(directory, sizeof directory, "/tmp/conat-XXXXXX");
		if (!mkdtemp(directory)) {
			log_error("cannot make a directory in /tmp: %s", strerror(errno));
			return ERR_IO;
		}
	} else {
		if (stat("/proc/self/ns/net", &netns) < 0)
			return ERR_IO;
		snprintf(directory, sizeof directory, HOST_RUN_DIR "/embedded-%ju",
			 (uintmax_t)netns.st_ino);
	}
	return embedded_new(program->conf.embedded, directory, program->conf.log_level,
			    program->conf.log_target, &program->embedded);
}

/* What the kernel's side of each realm is like: MTU, address for ICMP errors. */
static void configure_world(struct program *program)
{
	struct engine_config *world = calloc(1, sizeof *world);
	if (!world)
		return; /* the one before stays */
	if (program->host)
		host_world(program->host, world);
	else
		world->ttl = ENGINE_TTL_DECREMENT;
	table_client_configure(program->client, world);
	free(world);
}

/* ---- running ---- */

static void stop(struct program *program, int status)
{
	if (program->status == EXIT_SUCCESS)
		program->status = status;
	event_base_loopbreak(program->base);
}

static void on_stop_signal(evutil_socket_t number, short what, void *context)
{
	log_info("stopping: %s", strsignal((int)number));
	stop(context, EXIT_SUCCESS);
}

static void on_hangup(evutil_socket_t number, short what, void *context)
{
	struct program *program = context;
	if (program->embedded)
		embedded_reload(program->embedded);
	else
		log_notice("nothing to reload: a dataplane's configuration comes from the table "
			   "service, which reloads its own on SIGHUP");
}

static void on_service_failed(void *context)
{
	log_error("the embedded table service ended before it served: see its lines above");
	stop(context, EXIT_FAILURE);
}

static void watch_readiness(struct program *program)
{
	char why[HOST_SENTENCE_MAX] = "";
	bool now_ready = admin_ready(&program->admin, why, sizeof why);
	if (now_ready && program->embedded)
		embedded_served(program->embedded);
	if (now_ready != program->was_ready) {
		log_notice("%s%s", now_ready ? "ready" : "not ready: ", now_ready ? "" : why);
		sd_notifyf(0, "STATUS=%s", now_ready ? "translating" : why);
	} else if (!now_ready && program->ticks % PATIENCE_TICKS == 0) {
		log_info("waiting: %s", why);
		sd_notifyf(0, "STATUS=%s", why);
	}
	program->was_ready = now_ready;
}

/* A capture is translated when it is read and nothing of it waits any more. */
static void watch_capture(struct program *program)
{
	struct table_client_counters counters;
	table_client_counters(program->client, &counters);
	bool done = program->port->ops->finished && program->port->ops->finished(program->port) &&
		    counters.cache.pending_packets == 0;
	program->quiet = done ? program->quiet + 1 : 0;
	if (program->quiet >= QUIET_TICKS)
		stop(program, EXIT_SUCCESS);
}

/* With a service of our own there is nobody else to put a wrong pool right. */
static void watch_host(struct program *program)
{
	char sentence[HOST_SENTENCE_MAX];
	if (program->port->ops->finished && program->port->ops->finished(program->port)) {
		log_error("giving up: there is no way to receive packets any more");
		stop(program, EXIT_FAILURE);
	}
	if ((program->links_changed || program->ticks % REFRESH_TICKS == 0) &&
	    host_refresh(program->host))
		configure_world(program);
	program->links_changed = false;
	if (program->embedded && !program->was_ready && table_client_ready(program->client) &&
	    host_problem(program->host, sentence) && host_refused(program->host)) {
		log_error("giving up: the configuration %s does not fit this host",
			  program->conf.embedded);
		stop(program, EXIT_FAILURE);
	}
}

static void on_tick(evutil_socket_t fd, short what, void *context)
{
	struct program *program = context;
	program->ticks++;
	watch_readiness(program);
	if (program->host)
		watch_host(program);
	else
		watch_capture(program);
}

/* Looked at by the next tick: however many there are, at most one look a tick. */
static void on_links(evutil_socket_t fd, short what, void *context)
{
	struct program *program = context;
	netlink_watch_read(fd);
	program->links_changed = true;
}

/* Without it interfaces are looked at every REFRESH_TICKS all the same. */
static void watch_links(struct program *program)
{
	int err = netlink_watch(&program->links_fd);
	if (err == 0) {
		program->links = event_new(program->base, program->links_fd, EV_READ | EV_PERSIST,
					   on_links, program);
		if (!program->links || event_add(program->links, NULL) != 0)
			err = -ENOMEM;
	}
	if (err < 0)
		log_warning("changes of interfaces are seen late: %s", strerror(-err));
}

static int make_events(struct program *program)
{
	struct timeval period = {0, TICK_MS * 1000};
	evthread_use_pthreads();
	program->base = event_base_new();
	if (!program->base)
		return ERR_NOMEM;
	program->terminate = evsignal_new(program->base, SIGTERM, on_stop_signal, program);
	program->interrupt = evsignal_new(program->base, SIGINT, on_stop_signal, program);
	program->hangup = evsignal_new(program->base, SIGHUP, on_hangup, program);
	program->tick = event_new(program->base, -1, EV_PERSIST, on_tick, program);
	if (!program->terminate || !program->interrupt || !program->hangup || !program->tick ||
	    event_add(program->terminate, NULL) != 0 || event_add(program->interrupt, NULL) != 0 ||
	    event_add(program->hangup, NULL) != 0 || event_add(program->tick, &period) != 0)
		return ERR_NOMEM;
	return 0;
}

/* Threads that are started here leave signals to this one. */
static int start_threads(struct program *program)
{
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	configure_world(program);
	int err = table_client_start(program->client);
	program->client_started = err == 0;
	if (err)
		log_error("cannot start the table client: %s", err_text(err));
	else
		err = program->port->ops->start(program->port);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return err;
}

static int run(struct program *program)
{
	int err = make_events(program);
	if (!err && program->conf.embedded[0])
		err = make_embedded(program);
	err = err ? err : make_client(program);
	err = err ? err : make_port(program);
	if (err)
		return err;
	program->admin = (struct admin){.conf = &program->conf,
					.client = program->client,
					.port = program->port,
					.host = program->host,
					.embedded = program->embedded};
	if (program->conf.admin[0])
		err = admin_listen(&program->admin, program->base, &program->http);
	if (!err && program->embedded)
		err = embedded_start(program->embedded, program->base, on_service_failed, program);
	if (!err && program->host)
		watch_links(program);
	err = err ? err : start_threads(program);
	if (err)
		return err;
	sd_notify(0, "READY=1\nSTATUS=attaching to the table service");
	event_base_dispatch(program->base);
	sd_notify(0, "STOPPING=1");
	return 0;
}

static void say_capture(struct program *program)
{
	struct engine_counters counters;
	uint64_t dropped = 0;
	engine_counters(table_client_engine(program->client), &counters);
	for (unsigned i = 0; i < NAT_REASON_LIMIT; i++) {
		dropped += counters.drops[i];
		if (counters.drops[i])
			log_info("%s: %llu packets dropped (%s)", nat_reason_name(i),
				 (unsigned long long)counters.drops[i], nat_reason_sentence(i));
	}
	log_notice("%s: %llu packets, %llu dropped", program->conf.read,
		   (unsigned long long)counters.packets, (unsigned long long)dropped);
}

static void unmake(struct program *program)
{
	http_free(program->http);
	if (program->client_started) {
		table_client_stop(program->client);
		if (program->conf.port == CONF_PORT_PCAP)
			say_capture(program);
	}
	if (program->port)
		program->port->ops->free(program->port);
	table_client_free(program->client);
	flowtable_free(program->flows);
	embedded_free(program->embedded);
	struct event *events[] = {program->terminate, program->interrupt, program->hangup,
				  program->tick, program->links};
	for (unsigned i = 0; i < sizeof events / sizeof events[0]; i++) {
		if (events[i])
			event_free(events[i]);
	}
	if (program->links_fd >= 0)
		close(program->links_fd);
	if (program->base)
		event_base_free(program->base);
}

int main(int argc, char *argv[])
{
	static struct program program;
	char error[CONF_ERROR_MAX];
	int err = conf_parse(argc, argv, &program.conf, error);
	if (err) {
		fprintf(stderr, "conat-dataplane: %s\n", error);
		return EXIT_USAGE;
	}
	if (program.conf.help || program.conf.version) {
		if (program.conf.help)
			conf_help(stdout);
		else
			printf("conat-dataplane %s\n", CONAT_VERSION);
		return EXIT_SUCCESS;
	}
	log_init("conat-dataplane", program.conf.log_target, program.conf.log_level);
	if (program.conf.port == CONF_PORT_TUN && geteuid() != 0)
		log_warning("not root: CAP_NET_ADMIN, CAP_NET_RAW and write access to " HOST_RUN_DIR
			    " are needed");
	signal(SIGPIPE, SIG_IGN);
	log_info("packet port: %s, because %s",
		 program.conf.port == CONF_PORT_PCAP ? "pcap" : "tun", program.conf.port_why);
	program.random = random_system();
	program.links_fd = -1;
	err = run(&program);
	unmake(&program);
	return err ? EXIT_FAILURE : program.status;
}
