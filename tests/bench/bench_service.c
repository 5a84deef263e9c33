/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table service over loopback gRPC: the real server in a process of its own on one core, a
 * driver that speaks the real protocol on the other. Creates and lookups per second, latency with
 * and without load, memory of a session.
 */
#include <arpa/inet.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "common/base/log.h"
#include "common/base/random.h"
#include "common/rpc/channel.h"
#include "common/wire/wire_encode.h"
#include "tests/support/service.h"

enum { WINDOW = 64, PER_SUBSCRIBER = 200, SAMPLES_MAX = 1 << 20 };

/* ---- the service ---- */

static void pin(int cpu)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof set, &set) != 0)
		fprintf(stderr, "not pinned to CPU %d: %m\n", cpu);
}

static void serve(uint32_t capacity, int tell, int hold)
{
	static struct service service;
	char yaml[1024], error[512], byte;
	pin(0);
	snprintf(yaml, sizeof yaml,
		 "capacity: {mappings: %u, sessions: %u, subscribers: %u}\n"
		 "limits: {creations_per_second: 0}\n"
		 "timers: {udp: 1h}\n"
		 "dataplanes: {batch: 256, inflight: %u}\n"
		 "pools: [{name: bench, prefixes: [203.0.113.0/24]}]\n"
		 "realms: [{name: lan, prefixes: [10.0.0.0/8], pool: bench}]\n",
		 capacity, capacity, capacity / PER_SUBSCRIBER + 1000, WINDOW);
	if (service_start(&service, yaml, "127.0.0.1:0", NULL, 1, error, sizeof error) != 0) {
		fprintf(stderr, "bench_service: %s\n", error);
		_exit(1);
	}
	if (write(tell, service.address, sizeof service.address) < 0)
		_exit(1);
	/* A byte, or the end of the driver. */
	if (read(hold, &byte, 1) < 0)
		_exit(1);
	service_stop(&service);
	_exit(0);
}

struct child {
	pid_t pid;
	int hold;
	clockid_t clock;
	char address[128];
};

static int child_start(struct child *child, uint32_t capacity)
{
	int tell[2], hold[2];
	if (pipe(tell) != 0 || pipe(hold) != 0)
		return -1;
	child->pid = fork();
	if (child->pid == 0) {
		close(tell[0]);
		close(hold[1]);
		serve(capacity, tell[1], hold[0]);
	}
	close(tell[1]);
	close(hold[0]);
	child->hold = hold[1];
	if (read(tell[0], child->address, sizeof child->address) <= 0)
		return -1;
	close(tell[0]);
	return clock_getcpuclockid(child->pid, &child->clock);
}

static void child_stop(struct child *child)
{
	if (child->pid <= 0)
		return;
	if (write(child->hold, "", 1) == 1)
		close(child->hold);
	waitpid(child->pid, NULL, 0);
}

static double child_cpu(const struct child *child)
{
	struct timespec t = {0};
	clock_gettime(child->clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static uint64_t child_resident(const struct child *child)
{
	char path[64];
	unsigned long pages = 0;
	snprintf(path, sizeof path, "/proc/%d/statm", (int)child->pid);
	FILE *file = fopen(path, "re");
	if (file && fscanf(file, "%*u %lu", &pages) != 1)
		pages = 0;
	if (file)
		fclose(file);
	return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* ---- the driver: attachments that ask ---- */

enum work { WORK_NONE, WORK_CREATE, WORK_LOOKUP };

struct driver;
struct attachment {
	struct driver *driver;
	struct rpc_stream *control, *data;
	uint64_t incarnation[2];
	bool welcomed, failed;
	uint64_t sequence, acknowledged, acknowledged_sent;
	struct monotime next_beat;

	enum work work;
	uint32_t entries, window;
	uint64_t next, end; /* CREATE: flows; LOOKUP: questions */
	int64_t gap_ns;	    /* between batches, 0 = none */
	struct monotime next_send;
	uint32_t inflight;
	struct monotime sent[WINDOW];
	uint64_t asked, answered, translated;
	uint32_t *samples; /* ns */
	uint32_t n_samples;
};

struct driver {
	struct rpc_loop *loop;
	struct rpc_channel *channel;
	struct wire_codec *codec;
	struct attachment main, probe;
	uint64_t flows, subscribers;
	uint64_t seed;
	struct random_source random;
	struct monotime until; /* or when main's work is done */
	bool timed;
};

static struct wire_request entries[WIRE_BATCH_MAX];
static struct wire_answer answers[WIRE_BATCH_MAX];
static struct wire_notice notices[WIRE_BATCH_MAX];

static struct nat_tuple flow(const struct driver *d, uint64_t i)
{
	/* Subscribers take turns, as in life: neighbours in time are no neighbours in memory. */
	return (struct nat_tuple){
	    .source = htonl((uint32_t)(0x0a000001 + i % d->subscribers)),
	    .destination = htonl(0xc6336401),
	    .source_port = htons((uint16_t)(1024 + i / d->subscribers)),
	    .destination_port = htons(9000),
	    .protocol = NAT_UDP,
	    .realm = 1,
	};
}

static void on_control(void *context, const uint8_t *data, size_t length)
{
	struct attachment *a = context;
	static struct wire_control control;
	if (wire_decode_from_table(a->driver->codec, data, length, &control) != 0)
		a->failed = true;
	else if (control.kind == WIRE_CONTROL_WELCOME)
		a->welcomed = true;
}

static void on_data(void *context, const uint8_t *data, size_t length)
{
	struct attachment *a = context;
	struct wire_message m = {.answers = answers, .notices = notices};
	if (wire_decode_message(a->driver->codec, data, length, &m) != 0) {
		a->failed = true;
		return;
	}
	a->acknowledged = m.sequence;
	if (m.kind != WIRE_ANSWER)
		return;
	struct monotime sent = a->sent[m.request_sequence % WINDOW];
	int64_t ns = monotime_now().ns - sent.ns;
	if (a->samples && a->n_samples < SAMPLES_MAX)
		a->samples[a->n_samples++] = (uint32_t)ns;
	for (uint32_t i = 0; i < m.n; i++)
		a->translated += answers[i].verdict == NAT_TRANSLATE;
	a->answered += m.n;
	a->inflight--;
}

static void on_closed(struct attachment *a, struct rpc_stream **stream, int status,
		      const char *details)
{
	if (*stream) {
		fprintf(stderr, "bench_service: stream ended: %d %s\n", status, details);
		a->failed = true;
	}
	*stream = NULL;
}

static void on_control_closed(void *context, int status, const char *details)
{
	struct attachment *a = context;
	on_closed(a, &a->control, status, details);
}

static void on_data_closed(void *context, int status, const char *details)
{
	struct attachment *a = context;
	on_closed(a, &a->data, status, details);
}

static const struct rpc_stream_events control_events = {.message = on_control,
							.closed = on_control_closed};
static const struct rpc_stream_events data_events = {.message = on_data, .closed = on_data_closed};

static bool attach(struct driver *d, struct attachment *a, uint64_t incarnation)
{
	const uint8_t *data;
	const bool never = false;
	struct wire_hello hello = {.version_min = WIRE_VERSION,
				   .version_max = WIRE_VERSION,
				   .incarnation = {incarnation, 1},
				   .name = "bench"};
	*a = (struct attachment){.driver = d, .incarnation = {incarnation, 1}};
	if (rpc_stream_open(d->channel, "/conat.v1.NatTable/Control", 64, true, 0, &control_events,
			    a, &a->control) != 0)
		return false;
	size_t length = wire_encode_hello(d->codec, &hello, &data);
	rpc_stream_send(a->control, data, length);
	rpc_stream_flush(a->control);
	for (int i = 0; i < 300 && !a->welcomed && !a->failed; i++)
		rpc_loop_drain(d->loop, &never, 10);
	if (!a->welcomed || rpc_stream_open(d->channel, "/conat.v1.NatTable/Attach", 256, true, 0,
					    &data_events, a, &a->data) != 0)
		return false;
	const struct wire_batch naming = {0};
	length = wire_encode_batch(d->codec, &naming, a->incarnation, &data);
	return rpc_stream_send(a->data, data, length);
}

static void send_batch(struct attachment *a, uint32_t n, struct monotime now)
{
	struct driver *d = a->driver;
	const uint8_t *data;
	struct wire_batch batch = {
	    .sequence = ++a->sequence, .acknowledged = a->acknowledged, .n = n, .entries = entries};
	for (uint32_t i = 0; i < n; i++) {
		uint64_t which = a->work == WORK_CREATE
				     ? a->next + i
				     : random_below(&d->random, (uint32_t)d->flows);
		entries[i] = (struct wire_request){.op = WIRE_RESOLVE_OUT, .tuple = flow(d, which)};
	}
	a->next += n;
	a->asked += n;
	a->inflight++;
	a->sent[a->sequence % WINDOW] = now;
	size_t length = wire_encode_batch(d->codec, &batch, NULL, &data);
	if (!rpc_stream_send(a->data, data, length))
		a->failed = true;
}

static void drive(struct attachment *a, struct monotime now)
{
	const uint8_t *data;
	if (!a->data || !a->control)
		return;
	if (!monotime_before(now, a->next_beat)) {
		const struct wire_heartbeat beat = {.sent_ms = (uint64_t)monotime_ms(now),
						    .acknowledged = a->acknowledged};
		size_t length = wire_encode_heartbeat(a->driver->codec, &beat, &data);
		rpc_stream_send(a->control, data, length);
		rpc_stream_flush(a->control);
		a->next_beat = monotime_add_ms(now, 500);
	}
	while (a->work && a->inflight < a->window && a->next < a->end) {
		if (a->gap_ns) {
			if (monotime_before(now, a->next_send))
				break;
			a->next_send.ns = now.ns + a->gap_ns;
		}
		uint64_t left = a->end - a->next;
		send_batch(a, left < a->entries ? (uint32_t)left : a->entries, monotime_now());
	}
	rpc_stream_flush(a->data);
}

static bool on_dry(void *context, struct monotime now)
{
	struct driver *d = context;
	drive(&d->main, now);
	drive(&d->probe, now);
	bool done = d->timed ? !monotime_before(now, d->until)
			     : d->main.next == d->main.end && d->main.inflight == 0;
	if (done || d->main.failed || d->probe.failed)
		rpc_loop_stop(d->loop);
	return false;
}

static struct monotime on_deadline(void *context, struct monotime now)
{
	struct driver *d = context;
	struct monotime next = d->main.next_beat;
	if (d->timed)
		next = monotime_min(next, d->until);
	if (d->main.work && d->main.gap_ns && !d->main.inflight)
		next = monotime_min(next, d->main.next_send);
	if (d->probe.work && d->probe.gap_ns && !d->probe.inflight)
		next = monotime_min(next, d->probe.next_send);
	return next;
}

static bool settle(struct driver *d)
{
	const struct rpc_loop_hooks hooks = {.context = d, .dry = on_dry, .deadline = on_deadline};
	rpc_loop_run(d->loop, &hooks);
	return !d->main.failed && !d->probe.failed;
}

/* Runs main's work to its end, or for ms; what is in flight then is waited for. */
static bool run(struct driver *d, int ms)
{
	d->timed = ms > 0;
	d->until = monotime_add_ms(monotime_now(), ms);
	if (!settle(d))
		return false;
	d->main.end = d->main.next;
	d->probe.end = d->probe.next;
	d->timed = false;
	bool good = settle(d);
	for (int i = 0; i < 100 && d->probe.inflight; i++) {
		const bool never = false;
		rpc_loop_drain(d->loop, &never, 1);
	}
	d->main.work = d->probe.work = WORK_NONE;
	return good;
}

static void give(struct attachment *a, enum work work, uint32_t n, uint32_t window, uint64_t from,
		 uint64_t to, int64_t gap_ns)
{
	a->work = work;
	a->entries = n;
	a->window = window;
	a->next = from;
	a->end = to;
	a->gap_ns = gap_ns;
	a->next_send = monotime_now();
	a->asked = a->answered = a->translated = 0;
	a->n_samples = 0;
}

/* ---- figures ---- */

struct report {
	FILE *json;
	bool first;
};

static void put(struct report *r, const char *name, double value, int decimals)
{
	char text[64];
	snprintf(text, sizeof text, "%.*f", decimals, value);
	printf("%-44s %14s\n", name, text);
	fflush(stdout);
	if (r->json)
		fprintf(r->json, "%s\n \"%s\": %s", r->first ? "{" : ",", name, text);
	r->first = false;
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return x < y ? -1 : x > y;
}

static void put_latency(struct report *r, const char *name, struct attachment *a)
{
	char line[96];
	if (a->n_samples == 0)
		return;
	qsort(a->samples, a->n_samples, sizeof *a->samples, by_value);
	snprintf(line, sizeof line, "%s_p50_us", name);
	put(r, line, a->samples[a->n_samples / 2] / 1e3, 1);
	snprintf(line, sizeof line, "%s_p99_us", name);
	put(r, line, a->samples[(uint64_t)a->n_samples * 99 / 100] / 1e3, 1);
}

/* One throughput: by the clock, and by the service's CPU time. */
static bool measure(struct driver *d, struct child *child, struct report *r, const char *name,
		    int ms)
{
	char line[96];
	struct monotime start = monotime_now();
	double cpu = child_cpu(child);
	if (!run(d, ms))
		return false;
	double seconds = (double)(monotime_now().ns - start.ns) * 1e-9;
	cpu = child_cpu(child) - cpu;
	if (d->main.translated != d->main.answered || d->main.answered != d->main.asked) {
		fprintf(stderr, "bench_service: %s: %llu asked, %llu answered, %llu translated\n",
			name, (unsigned long long)d->main.asked,
			(unsigned long long)d->main.answered,
			(unsigned long long)d->main.translated);
		return false;
	}
	snprintf(line, sizeof line, "%s_per_s", name);
	put(r, line, (double)d->main.answered / seconds, 0);
	/* What the rate would be if the service had its core to itself. */
	snprintf(line, sizeof line, "%s_per_service_cpu_s", name);
	put(r, line, (double)d->main.answered / cpu, 0);
	return true;
}

static bool bench(struct child *child, uint64_t flows, bool whole, int ms, struct report *r)
{
	static struct driver d;
	char name[64];
	bool good = false;
	d = (struct driver){.flows = flows, .subscribers = flows / PER_SUBSCRIBER + 1, .seed = 1};
	d.random = random_seeded(&d.seed);
	uint64_t before = child_resident(child);
	if (rpc_loop_new(&d.loop) != 0 || wire_codec_new(&d.codec) != 0 ||
	    rpc_channel_new(d.loop, child->address, NULL, &d.channel) != 0 ||
	    !attach(&d, &d.main, 1) || !attach(&d, &d.probe, 2))
		goto out;
	d.main.samples = calloc(SAMPLES_MAX, sizeof(uint32_t));
	d.probe.samples = calloc(SAMPLES_MAX, sizeof(uint32_t));

	uint64_t half = flows / 2;
	snprintf(name, sizeof name, "%lluk_creates_64", (unsigned long long)flows / 1000);
	give(&d.main, WORK_CREATE, 64, WINDOW, 0, half, 0);
	if (!measure(&d, child, r, name, 0))
		goto out;
	snprintf(name, sizeof name, "%lluk_creates_256", (unsigned long long)flows / 1000);
	give(&d.main, WORK_CREATE, 256, WINDOW, half, flows, 0);
	if (!measure(&d, child, r, name, 0))
		goto out;
	snprintf(name, sizeof name, "%lluk_bytes_per_session", (unsigned long long)flows / 1000);
	put(r, name, (double)(child_resident(child) - before) / (double)flows, 1);

	snprintf(name, sizeof name, "%lluk_lookups_64", (unsigned long long)flows / 1000);
	give(&d.main, WORK_LOOKUP, 64, WINDOW, 0, UINT64_MAX, 0);
	if (!measure(&d, child, r, name, ms))
		goto out;
	snprintf(name, sizeof name, "%lluk_lookups_256", (unsigned long long)flows / 1000);
	give(&d.main, WORK_LOOKUP, 256, WINDOW, 0, UINT64_MAX, 0);
	if (!measure(&d, child, r, name, ms))
		goto out;
	good = true;
	if (!whole)
		goto out;

	give(&d.probe, WORK_LOOKUP, 1, 1, 0, UINT64_MAX, MS_NS);
	if (!run(&d, ms))
		goto out;
	put_latency(r, "latency_idle", &d.probe);
	/* Half of what it can do, while somebody else asks one question a millisecond. */
	give(&d.main, WORK_LOOKUP, 64, WINDOW, 0, UINT64_MAX, 50000);
	give(&d.probe, WORK_LOOKUP, 1, 1, 0, UINT64_MAX, MS_NS);
	if (!run(&d, ms))
		goto out;
	put_latency(r, "latency_at_1.3M_per_s", &d.probe);
	give(&d.main, WORK_LOOKUP, 64, WINDOW, 0, UINT64_MAX, 0);
	give(&d.probe, WORK_LOOKUP, 1, 1, 0, UINT64_MAX, MS_NS);
	if (!run(&d, ms))
		goto out;
	put_latency(r, "latency_saturated", &d.probe);
out:
	for (struct attachment *a = &d.main;; a = &d.probe) {
		struct rpc_stream *streams[] = {a->data, a->control};
		a->data = a->control = NULL;
		for (unsigned i = 0; i < 2; i++)
			if (streams[i])
				rpc_stream_cancel(streams[i]);
		free(a->samples);
		if (a == &d.probe)
			break;
	}
	const bool never = false;
	rpc_loop_drain(d.loop, &never, 50);
	rpc_channel_free(d.channel);
	rpc_loop_free(d.loop);
	wire_codec_free(d.codec);
	return good;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"json", required_argument, NULL, 'j'},
						{"quick", no_argument, NULL, 'q'},
						{"sessions", required_argument, NULL, 's'},
						{0}};
	struct report report = {.first = true};
	unsigned long long one = 0;
	bool quick = false;
	int option;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'j')
			report.json = fopen(optarg, "we");
		else if (option == 'q')
			quick = true;
		else if (option == 's')
			one = strtoull(optarg, NULL, 10);
		else
			return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	log_init("bench_service", LOG_TARGET_STDERR, LOG_ERROR);
	pin(sysconf(_SC_NPROCESSORS_ONLN) > 1 ? 1 : 0);
	uint64_t flows = one ? one : quick ? 100000 : 1000000, many = one || quick ? 0 : 10000000;
	struct child small = {0}, large = {0};
	/* Forks come before gRPC. */
	bool good = child_start(&small, (uint32_t)flows) == 0 &&
		    (!many || child_start(&large, (uint32_t)many) == 0);
	good = good && bench(&small, flows, true, quick ? 200 : 2000, &report);
	child_stop(&small);
	if (many) {
		good = good && bench(&large, many, false, 2000, &report);
		child_stop(&large);
	}
	if (report.json) {
		fprintf(report.json, "%s\n}\n", report.first ? "{" : "");
		fclose(report.json);
	}
	return good ? 0 : 1;
}
