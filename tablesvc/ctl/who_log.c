/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * Lines are read in the order in which they were written, which is the truth even where the wall
 * clock was set back. What has the endpoint is "open" from the line that allocates it to the line
 * that releases it. Its time is kept in stretches in which the clock runs forward: when a line is
 * older than the one before, the stretch ends at that one and a new one begins. So a time that the
 * clock went through twice finds those of both.
 *
 * service_started ends everything: the table was empty. service_stopped does not: dataplanes go on
 * with what they hold (the grace) until the service is back.
 */
#include "tablesvc/ctl/who_log.h"

#include <arpa/inet.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/err.h"
#include "tablesvc/ctl/who_time.h"

struct open_holding {
	struct who_holding h;
	int64_t since;	/* of this stretch */
	uint32_t count; /* sessions of one mapping */
	bool asked_for; /* a stretch of it was within the time */
};

struct log_file {
	FILE *file;
	char *line; /* the first that has a time */
	int64_t first_ms;
	unsigned order;
};

/* A deterministic pool's plan as far as it is about the endpoint; see event_format.c. */
struct plan {
	uint16_t first_port, last_port, ports;
	uint64_t addresses;
	uint64_t subscriber; /* its number, when the address is one of the pool's */
	bool found;
};

struct who_search {
	struct who_question question;
	struct plan plan;
	uint32_t address; /* host order */
	char quoted[20];  /* "192.0.2.1", as it stands in a line */
	struct log_file files[WHO_FILES_MAX];
	unsigned n_files;
	struct open_holding *open;
	unsigned n_open, room_open;
	unsigned room; /* of answer.holdings */
	struct who_answer answer;
	int64_t last_ms;      /* of the line before */
	int64_t block_era_ms; /* the same of a block: its last release, if that is later */
	int64_t era_ms;	      /* who releases without having allocated had it since then, at most */
	bool started;	      /* there was a line */
	bool known;	      /* everything allocated is open here */
	bool ever_within;     /* a stretch of the log was within the time */
	uint64_t lost;
	int err;
};

/* ---- stretches ---- */

/* The time at a line's start, where the service writes it. */
static bool time_of(const char *line, int64_t *ms)
{
	static const char start[] = "{\"time\":\"";
	char text[40];
	int64_t last;

	if (strncmp(line, start, sizeof start - 1) != 0)
		return false;
	line += sizeof start - 1;
	size_t n = strcspn(line, "\"");
	if (n >= sizeof text || line[n] != '"')
		return false;
	memcpy(text, line, n);
	text[n] = '\0';
	return who_parse_time(text, ms, &last);
}

/* Whether something that was so from "from" until (not at) "until" was so within the time. */
static bool within(const struct who_question *q, int64_t from, int64_t until)
{
	return from <= q->last_ms && (until > q->first_ms || until == from) && until >= q->first_ms;
}

static void close_stretch(struct who_search *s, struct open_holding *o, int64_t until)
{
	o->asked_for |= within(&s->question, o->since, until);
}

static void report(struct who_search *s, const struct who_holding *holding)
{
	struct who_answer *a = &s->answer;

	if (a->n == s->room) {
		unsigned room = s->room ? 2 * s->room : 8;
		struct who_holding *more = realloc(a->holdings, room * sizeof *more);
		if (!more) {
			s->err = ERR_NOMEM;
			return;
		}
		a->holdings = more;
		s->room = room;
	}
	a->holdings[a->n++] = *holding;
}

static void end_holding(struct who_search *s, unsigned i, int64_t until, const char *note)
{
	struct open_holding *o = &s->open[i];

	close_stretch(s, o, until);
	if (o->asked_for) {
		o->h.until_ms = until;
		o->h.until_known = true;
		if (note)
			o->h.note = note;
		report(s, &o->h);
	}
	*o = s->open[--s->n_open];
}

static struct open_holding *begin_holding(struct who_search *s, const struct who_holding *h)
{
	if (s->n_open == s->room_open) {
		unsigned room = s->room_open ? 2 * s->room_open : 8;
		struct open_holding *more = realloc(s->open, room * sizeof *more);
		if (!more) {
			s->err = ERR_NOMEM;
			return NULL;
		}
		s->open = more;
		s->room_open = room;
	}
	s->open[s->n_open] = (struct open_holding){.h = *h, .since = h->from_ms, .count = 1};
	return &s->open[s->n_open++];
}

/* The log itself was there, knowing all or not, from the line before to "until". */
static void log_stretch(struct who_search *s, int64_t until)
{
	if (!within(&s->question, s->last_ms, until))
		return;
	s->answer.complete = (!s->ever_within || s->answer.complete) && s->known;
	s->answer.lost = s->lost;
	s->ever_within = true;
}

static void pass_time(struct who_search *s, int64_t now)
{
	if (!s->started) {
		s->started = true;
		s->answer.begin_ms = s->answer.end_ms = s->era_ms = s->block_era_ms = s->last_ms =
		    now;
		return;
	}
	if (now < s->last_ms) {
		for (unsigned i = 0; i < s->n_open; i++) {
			close_stretch(s, &s->open[i], s->last_ms + 1);
			s->open[i].since = now;
		}
		log_stretch(s, s->last_ms + 1);
		if (now <= s->question.last_ms && s->question.first_ms <= s->last_ms)
			s->answer.clock_back = true;
		if (s->era_ms > now)
			s->era_ms = now;
		if (s->block_era_ms > now)
			s->block_era_ms = now;
	} else {
		log_stretch(s, now);
	}
	s->last_ms = now;
	if (now > s->answer.end_ms)
		s->answer.end_ms = now;
}

/* ---- what lines say ---- */

static void copy_text(const json_t *object, const char *key, char *out, size_t size)
{
	const char *text = json_string_value(json_object_get(object, key));

	snprintf(out, size, "%.*s", (int)size - 1, text ? text : "");
}

static uint16_t number_of(const json_t *object, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(object, key));
	return n < 0 || n > 65535 ? 0 : (uint16_t)n;
}

static bool same_owner(const struct who_holding *a, const struct who_holding *b)
{
	return strcmp(a->subscriber, b->subscriber) == 0 && strcmp(a->realm, b->realm) == 0 &&
	       strcmp(a->redirect, b->redirect) == 0 && strcmp(a->protocol, b->protocol) == 0 &&
	       a->internal_port == b->internal_port &&
	       strcmp(a->destination, b->destination) == 0 &&
	       a->destination_port == b->destination_port;
}

/* Who has it of this kind: there is one at a time, for each protocol; but sessions are many. */
static unsigned find(const struct who_search *s, const struct who_holding *h, bool owner)
{
	for (unsigned i = 0; i < s->n_open; i++)
		if (strcmp(s->open[i].h.kind, h->kind) == 0 &&
		    strcmp(s->open[i].h.protocol, h->protocol) == 0 &&
		    (!owner || same_owner(&s->open[i].h, h)))
			return i;
	return s->n_open;
}

static void has_begun(struct who_search *s, const struct who_holding *h)
{
	bool session = strcmp(h->kind, "session") == 0;
	unsigned i = find(s, h, session);

	if (i < s->n_open && session) {
		s->open[i].count++;
		return;
	}
	if (i < s->n_open)
		end_holding(s, i, s->last_ms, "its release is not in the log");
	begin_holding(s, h);
}

static void has_ended(struct who_search *s, struct who_holding *h)
{
	bool session = strcmp(h->kind, "session") == 0;
	bool block = h->first_port != h->last_port;
	unsigned i = find(s, h, true);

	if (i < s->n_open) {
		if (--s->open[i].count == 0)
			end_holding(s, i, s->last_ms, NULL);
	} else {
		/* Of a line that is lost, or of a file that is not there. */
		i = session ? s->n_open : find(s, h, false);
		if (i < s->n_open)
			end_holding(s, i, s->last_ms, "its release is not in the log");
		h->from_ms = block ? s->block_era_ms : s->era_ms;
		h->from_known = false;
		h->note = "its allocation is not in the log";
		if (begin_holding(s, h))
			end_holding(s, s->n_open - 1, s->last_ms, NULL);
	}
	if (block)
		s->block_era_ms = s->last_ms;
}

static void take_holding(struct who_search *s, const json_t *object, const char *event)
{
	static const struct {
		const char *event, *kind;
		bool begins, range;
	} events[] = {
	    {"block_allocated", "block", true, true},
	    {"block_released", "block", false, true},
	    {"address_allocated", "address", true, true},
	    {"address_released", "address", false, true},
	    {"static_added", "static", true, false},
	    {"static_removed", "static", false, false},
	    {"session_created", "session", true, false},
	    {"session_ended", "session", false, false},
	};
	const struct who_question *q = &s->question;
	struct who_holding h = {.from_ms = s->last_ms, .from_known = true, .note = ""};
	unsigned i = 0;
	char external[16];

	while (i < sizeof events / sizeof events[0] && strcmp(events[i].event, event) != 0)
		i++;
	copy_text(object, "external", external, sizeof external);
	if (i == sizeof events / sizeof events[0] || strcmp(external, q->address) != 0)
		return;
	h.first_port = number_of(object, events[i].range ? "first_port" : "external_port");
	h.last_port = events[i].range ? number_of(object, "last_port") : h.first_port;
	if (!events[i].range && h.first_port == 0) /* static 1:1 */
		h.last_port = UINT16_MAX;
	copy_text(object, "protocol", h.protocol, sizeof h.protocol);
	if (q->port < h.first_port || q->port > h.last_port ||
	    (q->protocol[0] && h.protocol[0] && strcmp(q->protocol, h.protocol) != 0))
		return;
	snprintf(h.kind, sizeof h.kind, "%s", events[i].kind);
	copy_text(object, "realm", h.realm, sizeof h.realm);
	copy_text(object, "pool", h.pool, sizeof h.pool);
	copy_text(object, "redirect", h.redirect, sizeof h.redirect);
	copy_text(object, "subscriber", h.subscriber, sizeof h.subscriber);
	copy_text(object, "destination", h.destination, sizeof h.destination);
	h.internal_port = number_of(object, "internal_port");
	h.destination_port = number_of(object, "destination_port");
	if (events[i].begins)
		has_begun(s, &h);
	else
		has_ended(s, &h);
}

/* "192.0.2.0/28" */
static bool parse_prefix(const char *text, uint32_t *base, uint64_t *size)
{
	char address[INET_ADDRSTRLEN];
	struct in_addr in;
	unsigned length;
	size_t n = text ? strcspn(text, "/") : sizeof address;

	if (n >= sizeof address || sscanf(text + n, "/%u", &length) != 1 || length > 32)
		return false;
	memcpy(address, text, n);
	address[n] = '\0';
	*size = UINT64_C(1) << (32 - length);
	if (inet_pton(AF_INET, address, &in) != 1)
		return false;
	*base = ntohl(in.s_addr);
	return true;
}

/* The subscriber's number is within the prefix: its ports, for as long as the plan holds. */
static void begin_fixed(struct who_search *s, const json_t *object, uint32_t subscriber)
{
	const struct plan *plan = &s->plan;
	const struct in_addr who = {.s_addr = htonl(subscriber)};
	struct who_holding h = {
	    .kind = "fixed", .from_ms = s->last_ms, .from_known = true, .note = ""};
	int range = (s->question.port - plan->first_port) / plan->ports;

	inet_ntop(AF_INET, &who, h.subscriber, sizeof h.subscriber);
	copy_text(object, "realm", h.realm, sizeof h.realm);
	copy_text(object, "pool", h.pool, sizeof h.pool);
	h.first_port = (uint16_t)(plan->first_port + range * plan->ports);
	h.last_port = (uint16_t)(h.first_port + plan->ports - 1);
	has_begun(s, &h);
}

/* RFC 7422: who has the endpoint is computed, from what was logged when it began to be so. */
static void take_plan(struct who_search *s, const json_t *object, const char *event)
{
	const uint16_t port = s->question.port;
	const uint64_t number = (uint64_t)json_integer_value(json_object_get(object, "number"));
	struct plan *plan = &s->plan;
	uint32_t base;
	uint64_t size;

	if (strcmp(event, "deterministic_pool") == 0) {
		*plan = (struct plan){
		    .first_port = number_of(object, "first_port"),
		    .last_port = number_of(object, "last_port"),
		    .ports = number_of(object, "ports"),
		    .addresses = (uint64_t)json_integer_value(json_object_get(object, "addresses")),
		};
		return;
	}
	if (!parse_prefix(json_string_value(json_object_get(object, "prefix")), &base, &size) ||
	    plan->ports == 0 || port < plan->first_port || port > plan->last_port)
		return;
	if (strcmp(event, "deterministic_outside") == 0) {
		uint64_t range = (uint64_t)(port - plan->first_port) / plan->ports;
		if (s->address < base || s->address - base >= size)
			return;
		plan->found = true;
		plan->subscriber = range * plan->addresses + number + (s->address - base);
	} else if (plan->found && plan->subscriber >= number && plan->subscriber - number < size) {
		begin_fixed(s, object, base + (uint32_t)(plan->subscriber - number));
	}
}

/* The plans that follow this line say who has what from now on. */
static void end_plans(struct who_search *s)
{
	for (unsigned i = s->n_open; i-- > 0;)
		if (strcmp(s->open[i].h.kind, "fixed") == 0)
			end_holding(s, i, s->last_ms, NULL);
}

static void take_event(struct who_search *s, const json_t *object)
{
	const char *event = json_string_value(json_object_get(object, "event"));

	if (!event) {
		s->answer.strange++;
	} else if (strncmp(event, "deterministic_", 14) == 0) {
		take_plan(s, object, event);
	} else if (strcmp(event, "configuration_changed") == 0) {
		end_plans(s);
	} else if (strcmp(event, "service_started") == 0) {
		end_plans(s);
		while (s->n_open)
			end_holding(s, s->n_open - 1, s->last_ms,
				    "until the service started again");
		s->era_ms = s->block_era_ms = s->last_ms;
		s->known = true;
		s->lost = 0;
	} else if (strcmp(event, "log_paused") == 0) {
		s->known = false;
	} else if (strcmp(event, "events_lost") == 0) {
		s->known = false;
		s->lost += (uint64_t)json_integer_value(json_object_get(object, "count"));
	} else {
		take_holding(s, object, event);
	}
}

static void take_line(struct who_search *s, const char *line)
{
	static const char *const marks[] = {"\"service_started\"", "\"log_paused\"",
					    "\"events_lost\"", "\"configuration_changed\"",
					    "\"deterministic_"};
	int64_t now;
	bool matters = strstr(line, s->quoted) != NULL;

	s->answer.lines++;
	if (!time_of(line, &now)) {
		s->answer.strange++;
		return;
	}
	for (unsigned i = 0; i < sizeof marks / sizeof marks[0]; i++)
		matters |= strstr(line, marks[i]) != NULL;
	json_t *object = matters ? json_loads(line, 0, NULL) : NULL;
	if (matters && !json_is_object(object)) {
		json_decref(object);
		s->answer.strange++; /* torn by a crash */
		return;
	}
	pass_time(s, now);
	if (object)
		take_event(s, object);
	json_decref(object);
}

/* ---- files ---- */

int who_search_new(const struct who_question *question, struct who_search **out)
{
	struct who_search *s = calloc(1, sizeof *s);

	if (!s)
		return ERR_NOMEM;
	struct in_addr address = {0};
	inet_pton(AF_INET, question->address, &address);
	s->question = *question;
	s->address = ntohl(address.s_addr);
	snprintf(s->quoted, sizeof s->quoted, "\"%s\"", question->address);
	*out = s;
	return 0;
}

int who_search_add(struct who_search *s, FILE *file)
{
	struct log_file *f = &s->files[s->n_files];

	if (s->n_files == WHO_FILES_MAX)
		return ERR_FULL;
	*f = (struct log_file){.file = file, .order = s->n_files++};
	return 0;
}

/* Reads up to the first line with a time. */
static int look_into(struct who_search *s, struct log_file *f)
{
	size_t size = 0;
	int c = getc(f->file);

	if (c == 0x1f) /* gzip; and no line of ours */
		return ERR_MALFORMED;
	if (c != EOF)
		ungetc(c, f->file);
	while (getline(&f->line, &size, f->file) > 0) {
		if (time_of(f->line, &f->first_ms))
			return 0;
		s->answer.lines++;
		s->answer.strange++;
	}
	free(f->line);
	f->line = NULL;
	f->first_ms = INT64_MAX;
	return ferror(f->file) ? ERR_IO : 0;
}

static int earlier(const void *a, const void *b)
{
	const struct log_file *x = a, *y = b;

	if (x->first_ms != y->first_ms)
		return x->first_ms < y->first_ms ? -1 : 1;
	return x->order < y->order ? -1 : 1;
}

static int read_file(struct who_search *s, struct log_file *f)
{
	char *line = NULL;
	size_t size = 0;

	if (f->line)
		take_line(s, f->line);
	while (!s->err && getline(&line, &size, f->file) > 0)
		if (line[0] != '\n')
			take_line(s, line);
	free(line);
	return s->err ? s->err : ferror(f->file) ? ERR_IO : 0;
}

int who_search_run(struct who_search *s, struct who_answer *out)
{
	const struct who_question *q = &s->question;
	int err = 0;

	for (unsigned i = 0; i < s->n_files && !err; i++)
		err = look_into(s, &s->files[i]);
	if (!err)
		qsort(s->files, s->n_files, sizeof s->files[0], earlier);
	for (unsigned i = 0; i < s->n_files && !err; i++)
		err = read_file(s, &s->files[i]);
	if (err)
		return err;
	if (s->started) {
		s->answer.beyond = q->first_ms > s->answer.end_ms;
		log_stretch(s, INT64_MAX);
	}
	s->answer.reached = s->ever_within;
	for (unsigned i = 0; i < s->n_open; i++) { /* to the log's end, and on */
		struct open_holding *o = &s->open[i];
		close_stretch(s, o, INT64_MAX);
		if (o->asked_for)
			report(s, &o->h);
	}
	*out = s->answer;
	return s->err;
}

void who_search_free(struct who_search *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < s->n_files; i++) {
		free(s->files[i].line);
		if (s->files[i].file != stdin)
			fclose(s->files[i].file);
	}
	free(s->answer.holdings);
	free(s->open);
	free(s);
}
