/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * put (the table's thread) copies into the ring and returns. It wakes the writer only when that one
 * sleeps, so a burst costs one system call. The writer takes as many events as fit its buffer,
 * writes the buffer, and only then looks for more: what could not be written stays where it is, and
 * the ring fills up behind it.
 *
 *   put --> ring --> buffer (lines, or one datagram) --> sink
 *
 * Lines are counted as written when their last byte is. A file that is opened anew in the middle of
 * a line gets the whole line.
 */
#include "tablesvc/event_writer.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include "common/base/clock.h"
#include "common/base/err.h"
#include "common/base/log.h"
#include "tablesvc/event_format.h"
#include "tablesvc/event_sink.h"

enum {
	BUFFER_SIZE = 64 << 10,
	NAP_MS = 10,	     /* before sleeping until woken: more comes soon after some came */
	RETRY_MS = 1000,     /* after an error */
	SLOW_READER_MS = 10, /* after EAGAIN */
	REMIND_MS = 60000,   /* a log that stays broken is named again */
	DRAIN_MS = 2000,
	JOIN_SECONDS = 3,
	CACHE_LINE = 64,
};

struct event_writer {
	struct event_log log; /* first */
	struct event_record *ring;
	uint32_t size;
	/* [P] the thread that puts, [W] the writer; positions count events for ever. */
	_Alignas(CACHE_LINE) _Atomic uint64_t put;   /* [P] */
	uint64_t lost_since;			     /* [P] and not said yet */
	_Atomic uint64_t lost;			     /* [P] */
	_Alignas(CACHE_LINE) _Atomic uint64_t taken; /* [W] */
	_Atomic uint64_t written, errors;	     /* [W] */
	_Atomic bool sleeping;			     /* [W], [P] clears it */
	_Atomic bool broken;			     /* [W] */
	_Atomic bool blocks, sessions;		     /* what is wanted */
	_Atomic bool stop, changed;
	int wake; /* eventfd */
	pthread_t thread;
	pthread_mutex_t lock; /* of wanted, boundary */
	struct config_log wanted;
	uint64_t boundary; /* what was put before goes to the old target */

	/* The writer's own. */
	struct config_log config;
	struct event_style style;
	struct event_origin origin;
	struct event_sink sink;
	char buffer[BUFFER_SIZE];
	size_t used, sent; /* bytes */
	uint32_t lines;	   /* in the buffer */
	uint64_t errors_said;
	struct monotime broken_since, retry, remind;
};

static int64_t wall_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void wake(struct event_writer *w)
{
	uint64_t one = 1;
	ssize_t n = write(w->wake, &one, sizeof one);

	(void)n; /* full: it is awake */
}

/* ---- the table's side ---- */

static bool put_one(struct event_writer *w, const struct event_record *event, int64_t time_ms)
{
	uint64_t put = atomic_load_explicit(&w->put, memory_order_relaxed);

	if (put - atomic_load_explicit(&w->taken, memory_order_acquire) >= w->size)
		return false;
	struct event_record *slot = &w->ring[put & (w->size - 1)];
	*slot = *event;
	slot->time_ms = time_ms;
	atomic_store(&w->put, put + 1); /* sequentially consistent, see put_stamped */
	return true;
}

static void put_stamped(struct event_writer *w, const struct event_record *event)
{
	int64_t time_ms = wall_ms();
	const struct event_record gap = {.kind = EVENT_LOST, .count = w->lost_since};

	if (w->lost_since && put_one(w, &gap, time_ms))
		w->lost_since = 0;
	if (w->lost_since || !put_one(w, event, time_ms)) {
		w->lost_since++;
		atomic_fetch_add_explicit(&w->lost, 1, memory_order_relaxed);
		return;
	}
	/* Either we see that it sleeps, or it sees the event before it does: one order of these. */
	if (atomic_load(&w->sleeping) && atomic_exchange(&w->sleeping, false))
		wake(w);
}

static bool of_session(const struct event_record *event)
{
	return event->kind == EVENT_SESSION_CREATED || event->kind == EVENT_SESSION_ENDED;
}

static void put(struct event_log *log, const struct event_record *event)
{
	struct event_writer *w = (struct event_writer *)log;
	bool session = of_session(event);

	if (atomic_load_explicit(session ? &w->sessions : &w->blocks, memory_order_relaxed))
		put_stamped(w, event);
}

static bool wants_sessions(const struct event_log *log)
{
	const struct event_writer *w = (const struct event_writer *)log;
	return atomic_load_explicit(&w->sessions, memory_order_relaxed);
}

static const struct event_log_ops writer_ops = {.wants_sessions = wants_sessions, .put = put};

struct event_log *event_writer_log(struct event_writer *w)
{
	return &w->log;
}

void event_writer_mark(struct event_writer *w, enum event_kind kind, uint64_t epoch)
{
	const struct event_record event = {.kind = (uint8_t)kind, .count = epoch};

	if (atomic_load(&w->blocks) || atomic_load(&w->sessions))
		put_stamped(w, &event);
}

/* ---- the writer: errors ---- */

static void has_failed(struct event_writer *w, const char *why)
{
	struct monotime now = monotime_now();
	bool first = !atomic_load(&w->broken);

	atomic_fetch_add(&w->errors, 1);
	w->retry = monotime_add_ms(now, RETRY_MS);
	if (first) {
		w->broken_since = now;
		w->errors_said = atomic_load(&w->errors) - 1;
		atomic_store(&w->broken, true);
	}
	if (first || !monotime_before(now, w->remind)) {
		log_error("event log: %s; events wait for it, room=%u target=%s", why, w->size,
			  w->sink.target);
		w->remind = monotime_add_ms(now, REMIND_MS);
	}
}

static void has_worked(struct event_writer *w)
{
	if (!atomic_exchange(&w->broken, false))
		return;
	log_notice("event log: written again seconds=%lld errors=%" PRIu64 " target=%s",
		   (long long)(monotime_sub_ms(monotime_now(), w->broken_since) / 1000),
		   atomic_load(&w->errors) - w->errors_said, w->sink.target);
}

/* ---- the writer: buffer ---- */

static void append(struct event_writer *w, const struct event_record *event)
{
	w->used += event_format(event, &w->style, &w->origin, w->buffer + w->used);
	if (!w->sink.is_datagram)
		w->buffer[w->used++] = '\n';
	w->lines++;
	if (event->kind == EVENT_LOST)
		log_warning("event log: %" PRIu64 " events lost, the target was too slow target=%s",
			    event->count, w->sink.target);
}

static bool has_room(const struct event_writer *w)
{
	return w->sink.is_datagram ? w->used == 0 : w->used + EVENT_TEXT_MAX < BUFFER_SIZE;
}

/* Events up to the position end. False when there is none, and nothing waits in the buffer. */
static bool fill(struct event_writer *w, uint64_t end)
{
	uint64_t taken = atomic_load_explicit(&w->taken, memory_order_relaxed);

	if (w->used > 0)
		return true;
	while (taken < end && has_room(w))
		append(w, &w->ring[taken++ & (w->size - 1)]);
	atomic_store_explicit(&w->taken, taken, memory_order_release);
	return w->used > 0;
}

static void buffer_done(struct event_writer *w)
{
	atomic_fetch_add(&w->written, w->lines);
	w->used = w->sent = 0;
	w->lines = 0;
}

/* True when the buffer is empty; otherwise w->retry says when to go on. */
static bool flush(struct event_writer *w)
{
	char why[256];

	if (w->sink.fd < 0 && w->used > 0 && event_sink_open(&w->sink, why, sizeof why) != 0) {
		has_failed(w, why);
		return false;
	}
	while (w->sent < w->used) {
		ssize_t n = event_sink_write(&w->sink, w->buffer + w->sent, w->used - w->sent);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			w->retry = monotime_add_ms(monotime_now(), SLOW_READER_MS);
			return false;
		}
		if (n <= 0) {
			snprintf(why, sizeof why, "cannot be written: %s",
				 strerror(n < 0 ? errno : ENOSPC));
			has_failed(w, why);
			return false;
		}
		w->sent += (size_t)n;
	}
	buffer_done(w);
	has_worked(w);
	return true;
}

/* ---- the writer: settings ---- */

static void set_style(struct event_writer *w)
{
	enum config_log_format format = w->config.format;

	event_sink_init(&w->sink, w->config.target);
	w->style = (struct event_style){
	    .json = format == CONFIG_LOG_JSON || (format == CONFIG_LOG_AUTO && !w->sink.is_syslog),
	    .syslog = w->sink.is_syslog,
	    .destinations = w->config.destinations,
	};
}

/* Lines that were not sent in full stay; another kind of target gets no half-made datagrams. */
static void keep_whole_lines(struct event_writer *w)
{
	while (w->sent > 0 && w->buffer[w->sent - 1] != '\n')
		w->sent--;
	uint32_t gone = 0;
	for (size_t i = 0; i < w->sent; i++)
		gone += w->buffer[i] == '\n';
	atomic_fetch_add(&w->written, gone);
	w->lines -= gone;
	memmove(w->buffer, w->buffer + w->sent, w->used - w->sent);
	w->used -= w->sent;
	w->sent = 0;
}

/* Tells of itself where blocks stop being logged, and where they are again. */
static void mark_pause(struct event_writer *w, bool was, bool is)
{
	const struct event_record event = {
	    .kind = is ? EVENT_LOG_RESUMED : EVENT_LOG_PAUSED,
	    .time_ms = wall_ms(),
	};

	if (was != is && has_room(w))
		append(w, &event);
}

static void take_settings(struct event_writer *w)
{
	bool was = w->config.blocks;
	bool datagram = w->sink.is_datagram;
	struct config_log wanted;

	pthread_mutex_lock(&w->lock);
	wanted = w->wanted;
	uint64_t boundary = w->boundary;
	pthread_mutex_unlock(&w->lock);
	/* What was there before goes where it was meant to go, if that can be done at once. */
	bool empty = true;
	while (empty && fill(w, boundary))
		empty = flush(w);
	if (was && !wanted.blocks && empty) {
		mark_pause(w, was, wanted.blocks);
		empty = flush(w);
	}
	event_sink_close(&w->sink);
	if (!datagram)
		keep_whole_lines(w);
	w->config = wanted;
	set_style(w);
	if (w->used > 0 && datagram != w->sink.is_datagram) {
		atomic_fetch_add(&w->lost, w->lines);
		log_warning("event log: %u events lost, the target changed while it could not be "
			    "written",
			    w->lines);
		w->used = w->sent = 0;
		w->lines = 0;
	}
	w->retry = (struct monotime){0};
	if (!was && wanted.blocks)
		mark_pause(w, was, wanted.blocks);
}

/* ---- the writer: loop ---- */

static void wait_for(struct event_writer *w, int timeout_ms)
{
	struct pollfd fd = {.fd = w->wake, .events = POLLIN};
	uint64_t n;

	if (poll(&fd, 1, timeout_ms) > 0 && read(w->wake, &n, sizeof n) < 0)
		log_warning("event log: eventfd: %s", strerror(errno));
}

static bool is_empty(const struct event_writer *w)
{
	return w->used == 0 && atomic_load(&w->taken) == atomic_load(&w->put);
}

static void sleep_until_woken(struct event_writer *w)
{
	atomic_store(&w->sleeping, true);
	if (is_empty(w) && !atomic_load(&w->changed) && !atomic_load(&w->stop))
		wait_for(w, -1);
	atomic_store(&w->sleeping, false);
}

static void *run(void *context)
{
	struct event_writer *w = context;
	struct monotime give_up = MONOTIME_NEVER;
	bool napped = false;

	for (;;) {
		if (atomic_exchange(&w->changed, false))
			take_settings(w);
		struct monotime now = monotime_now();
		bool stop = atomic_load(&w->stop);
		if (stop && give_up.ns == MONOTIME_NEVER.ns)
			give_up = monotime_add_ms(now, DRAIN_MS);
		if (stop && (is_empty(w) || !monotime_before(now, give_up)))
			break;
		if (monotime_before(now, w->retry)) {
			int64_t ms = monotime_sub_ms(w->retry, now) + 1;
			wait_for(w, (int)(stop && ms > SLOW_READER_MS ? SLOW_READER_MS : ms));
			continue;
		}
		if (fill(w, atomic_load_explicit(&w->put, memory_order_acquire))) {
			napped = false;
			flush(w);
		} else if (!napped) {
			napped = true;
			wait_for(w, NAP_MS);
		} else {
			sleep_until_woken(w);
		}
	}
	event_sink_close(&w->sink);
	return NULL;
}

/* ---- from outside ---- */

int event_writer_check(const struct config_log *config, char *error, unsigned error_size)
{
	struct event_sink sink;
	char why[256];

	event_sink_init(&sink, config->target);
	if ((!config->blocks && !config->sessions) || sink.is_syslog)
		return 0;
	int result = event_sink_open(&sink, why, sizeof why);
	event_sink_close(&sink);
	if (result == 0)
		return 0;
	snprintf(error, error_size, "log.target: %s %s; allowed: a file that can be written",
		 config->target, why);
	return ERR_IO;
}

int event_writer_new(const struct config_log *config, const char *hostname, uint32_t ring_size,
		     char *error, unsigned error_size, struct event_writer **out)
{
	char name[EVENT_HOSTNAME_MAX + 1] = "", pid[16];
	int err = event_writer_check(config, error, error_size);

	if (err)
		return err;
	struct event_writer *w = aligned_alloc(CACHE_LINE, sizeof *w);
	if (!w)
		goto no_memory;
	memset(w, 0, sizeof *w);
	w->log.ops = &writer_ops;
	w->size = ring_size;
	w->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	w->ring = calloc(ring_size, sizeof *w->ring);
	w->config = w->wanted = *config;
	atomic_store(&w->blocks, config->blocks);
	atomic_store(&w->sessions, config->sessions);
	if (!hostname && gethostname(name, sizeof name - 1) != 0)
		name[0] = '\0';
	snprintf(pid, sizeof pid, "%ld", (long)getpid());
	event_origin_set(&w->origin, hostname ? hostname : name, "conat", pid);
	set_style(w);
	pthread_mutex_init(&w->lock, NULL);
	if (w->wake < 0 || !w->ring || pthread_create(&w->thread, NULL, run, w) != 0) {
		if (w->wake >= 0)
			close(w->wake);
		free(w->ring);
		free(w);
		goto no_memory;
	}
	pthread_setname_np(w->thread, "events");
	*out = w;
	return 0;
no_memory:
	snprintf(error, error_size, "log: out of memory");
	return ERR_NOMEM;
}

void event_writer_reopen(struct event_writer *w, const struct config_log *config)
{
	pthread_mutex_lock(&w->lock);
	w->wanted = *config;
	w->boundary = atomic_load(&w->put);
	pthread_mutex_unlock(&w->lock);
	atomic_store(&w->blocks, config->blocks);
	atomic_store(&w->sessions, config->sessions);
	atomic_store(&w->changed, true);
	wake(w);
}

void event_writer_counters(struct event_writer *w, struct event_writer_counters *out)
{
	uint64_t taken = atomic_load(&w->taken);

	out->written = atomic_load(&w->written);
	out->lost = atomic_load(&w->lost);
	out->errors = atomic_load(&w->errors);
	out->waiting = atomic_load(&w->put) - taken;
	out->broken = atomic_load(&w->broken);
}

void event_writer_free(struct event_writer *w)
{
	struct timespec deadline;

	if (!w)
		return;
	atomic_store(&w->stop, true);
	wake(w);
	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += JOIN_SECONDS;
	bool stuck = pthread_timedjoin_np(w->thread, NULL, &deadline) != 0;
	uint64_t left = atomic_load(&w->put) - atomic_load(&w->taken) + w->lines;
	if (stuck || left)
		log_error("event log: %" PRIu64 " events could not be written before the end "
			  "target=%s",
			  left, w->wanted.target);
	if (stuck) /* in a write that does not return: its memory stays with it */
		return;
	close(w->wake);
	pthread_mutex_destroy(&w->lock);
	free(w->ring);
	free(w);
}
