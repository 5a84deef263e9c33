/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RFC 5424: "<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID SD MSG". Sessions and static mappings
 * use the MSGIDs, SD-IDs and parameters of draft-ietf-behave-syslog-nat-logging (SADD, SDEL with
 * nsess; APMADD, APMDEL with napmap), which collectors know from other NATs. A port block is not
 * one port: PBADD and PBDEL. What the draft has no name for is in an element of our own; 32473 is
 * the enterprise number for who has none (RFC 5612).
 */
#include "tablesvc/event_format.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define SD_ID_OWN "conat@32473"

/* Facility local0, severity informational; a loss is a warning. RFC 5424 section 6.2.1. */
enum { PRI_INFORMATION = 16 * 8 + 6, PRI_WARNING = 16 * 8 + 4 };

static const char *const names[EVENT_KINDS] = {
#define EVENT_NAME(symbol, name, subject) [EVENT_##symbol] = name,
    EVENTS(EVENT_NAME)
#undef EVENT_NAME
};

static const enum event_subject subjects[EVENT_KINDS] = {
#define EVENT_SUBJECT(symbol, name, subject) [EVENT_##symbol] = subject,
    EVENTS(EVENT_SUBJECT)
#undef EVENT_SUBJECT
};

static const char *const msgids[EVENT_KINDS] = {
    [EVENT_SERVICE_STARTED] = "START",
    [EVENT_SERVICE_STOPPED] = "STOP",
    [EVENT_LOST] = "LOST",
    [EVENT_CONFIGURATION] = "CONFIG",
    [EVENT_LOG_PAUSED] = "PAUSE",
    [EVENT_LOG_RESUMED] = "RESUME",
    [EVENT_PLAN_POOL] = "DETPOOL",
    [EVENT_PLAN_OUTSIDE] = "DETOUT",
    [EVENT_PLAN_INSIDE] = "DETIN",
    [EVENT_BLOCK_ALLOCATED] = "PBADD",
    [EVENT_BLOCK_RELEASED] = "PBDEL",
    [EVENT_ADDRESS_ALLOCATED] = "AMADD",
    [EVENT_ADDRESS_RELEASED] = "AMDEL",
    [EVENT_STATIC_ADDED] = "APMADD",
    [EVENT_STATIC_REMOVED] = "APMDEL",
    [EVENT_SESSION_CREATED] = "SADD",
    [EVENT_SESSION_ENDED] = "SDEL",
};

const char *event_name(unsigned kind)
{
	return kind < EVENT_KINDS ? names[kind] : "unknown";
}

const char *event_time_text(int64_t time_ms, char *out)
{
	time_t seconds = time_ms / 1000;
	int ms = (int)(time_ms % 1000);
	struct tm tm;

	if (ms < 0) {
		ms += 1000;
		seconds--;
	}
	if (!gmtime_r(&seconds, &tm) || tm.tm_year < -1900 || tm.tm_year > 9999 - 1900)
		return strcpy(out, "1970-01-01T00:00:00.000Z");
	size_t n = strftime(out, EVENT_TIME_SIZE - 6, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out + n, EVENT_TIME_SIZE - n, ".%03dZ", ms);
	return out;
}

const char *event_protocol_text(unsigned protocol, char out[EVENT_PROTOCOL_SIZE])
{
	const char *name = nat_protocol_name(protocol);

	if (name)
		return name;
	snprintf(out, EVENT_PROTOCOL_SIZE, "%u", protocol & 0xff);
	return out;
}

static void set_word(char *to, size_t size, const char *from)
{
	size_t n = strnlen(from, size - 1);

	for (size_t i = 0; i < n; i++)
		to[i] = from[i] > 0x20 && from[i] < 0x7f ? from[i] : '?';
	to[n] = '\0';
	if (n == 0)
		strcpy(to, "-"); /* NILVALUE */
}

void event_origin_set(struct event_origin *origin, const char *hostname, const char *app_name,
		      const char *procid)
{
	set_word(origin->hostname, sizeof origin->hostname, hostname);
	set_word(origin->app_name, sizeof origin->app_name, app_name);
	set_word(origin->procid, sizeof origin->procid, procid);
}

/* ---- text that grows and is cut at its end ---- */

struct text {
	char *at;
	size_t used;
	bool json; /* how values are written: JSON's members, or SD-PARAMs */
	bool first;
};

__attribute__((format(printf, 2, 3))) static void add(struct text *text, const char *format, ...)
{
	size_t room = EVENT_TEXT_MAX - text->used;
	va_list arguments;

	va_start(arguments, format);
	int n = vsnprintf(text->at + text->used, room, format, arguments);
	va_end(arguments);
	text->used += n < (int)room ? (size_t)n : room - 1;
}

static void add_char(struct text *text, char c)
{
	if (text->used < EVENT_TEXT_MAX - 1)
		text->at[text->used++] = c;
}

/*
 * Names come from the configuration, which takes plain ones only; but a log must stay well-formed
 * whatever it is given. RFC 8259 section 7; RFC 5424 section 6.3.3: '"', '\' and ']'.
 */
static void add_quoted(struct text *text, const char *value)
{
	add_char(text, '"');
	for (; *value; value++) {
		unsigned char c = (unsigned char)*value;
		if (c == '"' || c == '\\' || (c == ']' && !text->json))
			add_char(text, '\\');
		if (c < 0x20 || c > 0x7e)
			c = '?'; /* one line, and UTF-8 whatever the bytes are */
		add_char(text, (char)c);
	}
	add_char(text, '"');
}

static void add_key(struct text *text, const char *key)
{
	if (text->json)
		add(text, "%s\"%s\":", text->first ? "" : ",", key);
	else
		add(text, " %s=", key);
	text->first = false;
}

static void add_text(struct text *text, const char *key, const char *value)
{
	add_key(text, key);
	add_quoted(text, value);
}

static void add_number(struct text *text, const char *key, uint64_t value)
{
	add_key(text, key);
	add(text, text->json ? "%" PRIu64 : "\"%" PRIu64 "\"", value);
}

static void add_address(struct text *text, const char *key, nat_be32 address)
{
	char buffer[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &address, buffer, sizeof buffer);
	add_text(text, key, buffer);
}

/* ---- what an event says ---- */

/*
 * RFC 7422 section 4: what is needed to compute who had a port. Subscriber i (numbers go on from
 * prefix to prefix) has the ports first_port + i / addresses * ports and on of external address
 * i % addresses.
 */
static void add_plan(struct text *text, const struct event_record *event)
{
	char prefix[INET_ADDRSTRLEN + 8];

	add_text(text, "pool", event->pool);
	if (event->kind == EVENT_PLAN_POOL) {
		add_number(text, "first_port", event->first_port);
		add_number(text, "last_port", event->last_port);
		add_number(text, "ports", event->ports);
		add_number(text, "addresses", event->addresses);
		add_number(text, "subscribers", event->count);
		return;
	}
	if (event->kind == EVENT_PLAN_INSIDE)
		add_text(text, "realm", event->realm);
	inet_ntop(AF_INET, &event->prefix.address, prefix, INET_ADDRSTRLEN);
	snprintf(prefix + strlen(prefix), 8, "/%u", event->prefix.length);
	add_text(text, "prefix", prefix);
	add_number(text, "number", event->count);
}

static void add_members(struct text *text, const struct event_record *event, bool destinations)
{
	enum event_subject subject = subjects[event->kind];
	char buffer[EVENT_PROTOCOL_SIZE];

	if (subject == EVENT_OF_SERVICE) {
		add_number(text, "epoch", event->count);
		add_text(text, "version", CONAT_VERSION);
		return;
	}
	if (subject == EVENT_OF_NOTHING)
		return;
	if (subject == EVENT_OF_COUNT) {
		add_number(text, event->kind == EVENT_LOST ? "count" : "generation", event->count);
		return;
	}
	if (subject == EVENT_OF_PLAN) {
		add_plan(text, event);
		return;
	}
	add_text(text, "pool", event->pool);
	add_text(text, "realm", event->realm);
	if (event->protocol)
		add_text(text, "protocol", event_protocol_text(event->protocol, buffer));
	if (event->redirect[0])
		add_text(text, "redirect", event->redirect);
	else
		add_address(text, "subscriber", event->internal.address);
	if (subject != EVENT_OF_BLOCK)
		add_number(text, "internal_port", ntohs(event->internal.port));
	add_address(text, "external", event->external.address);
	if (subject == EVENT_OF_BLOCK) {
		add_number(text, "first_port", event->first_port);
		add_number(text, "last_port", event->last_port);
		return;
	}
	add_number(text, "external_port", ntohs(event->external.port));
	if (subject == EVENT_OF_SESSION && destinations) {
		add_address(text, "destination", event->remote.address);
		add_number(text, "destination_port", ntohs(event->remote.port));
	}
}

/* The draft's element: nsess or napmap. */
static void add_draft(struct text *text, const struct event_record *event, bool destinations)
{
	enum event_subject subject = subjects[event->kind];

	if (subject != EVENT_OF_SESSION && subject != EVENT_OF_MAPPING)
		return;
	add(text, subject == EVENT_OF_SESSION ? "[nsess" : "[napmap");
	add_text(text, "IATYP", "IPv4");
	add_address(text, "ISADDR", event->internal.address);
	add_number(text, "ISPORT", ntohs(event->internal.port));
	add_text(text, "XATYP", "IPv4");
	add_address(text, "XSADDR", event->external.address);
	add_number(text, "XSPORT", ntohs(event->external.port));
	add_number(text, "PROTO", event->protocol);
	if (subject == EVENT_OF_SESSION && destinations) {
		add_address(text, "XDADDR", event->remote.address);
		add_number(text, "XDPORT", ntohs(event->remote.port));
	}
	add_char(text, ']');
}

size_t event_format(const struct event_record *event, const struct event_style *style,
		    const struct event_origin *origin, char *out)
{
	struct text text = {.at = out, .json = style->json, .first = true};
	char time[EVENT_TIME_SIZE];

	event_time_text(event->time_ms, time);
	if (style->syslog || !style->json)
		add(&text, "<%d>1 %s %s %s %s %s ",
		    event->kind == EVENT_LOST ? PRI_WARNING : PRI_INFORMATION, time,
		    origin->hostname, origin->app_name, origin->procid, msgids[event->kind]);
	if (style->json) {
		add(&text, style->syslog ? "- {" : "{"); /* no structured data */
		add_text(&text, "time", time);
		add_text(&text, "event", names[event->kind]);
		add_members(&text, event, style->destinations);
		add_char(&text, '}');
	} else {
		add_draft(&text, event, style->destinations);
		add(&text, "[" SD_ID_OWN);
		add_text(&text, "event", names[event->kind]);
		add_members(&text, event, style->destinations);
		add_char(&text, ']');
	}
	out[text.used] = '\0';
	return text.used;
}
