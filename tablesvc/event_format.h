/* SPDX-License-Identifier: Apache-2.0 */
/* Events as text: a JSON object, or a syslog message (RFC 5424) with structured data. */
#ifndef TABLESVC_EVENT_FORMAT_H
#define TABLESVC_EVENT_FORMAT_H

#include <stddef.h>
#include "tablesvc/events.h"

enum {
	/* No event is longer, whatever its names hold: RFC 5426 wants receivers to take 2048. */
	EVENT_TEXT_MAX = 2048,
	EVENT_HOSTNAME_MAX = 255, /* RFC 5424 section 6 */
	EVENT_APP_NAME_MAX = 48,
	EVENT_PROCID_MAX = 128,
};

/* What stands in every message's header; made once. */
struct event_origin {
	char hostname[EVENT_HOSTNAME_MAX + 1];
	char app_name[EVENT_APP_NAME_MAX + 1];
	char procid[EVENT_PROCID_MAX + 1];
};
/* Cuts to the lengths of RFC 5424; what is not printable ASCII becomes '?', what is empty "-". */
void event_origin_set(struct event_origin *origin, const char *hostname, const char *app_name,
		      const char *procid);

struct event_style {
	bool json;	   /* otherwise structured data */
	bool syslog;	   /* behind a header of RFC 5424; structured data always is */
	bool destinations; /* of sessions (RFC 6888 REQ-12: not unless somebody has to) */
};

/*
 * Without a newline. Returns the length, less than EVENT_TEXT_MAX; out has room for EVENT_TEXT_MAX.
 */
size_t event_format(const struct event_record *event, const struct event_style *style,
		    const struct event_origin *origin, char *out);

/* "block_allocated" */
const char *event_name(unsigned kind);
/* "2026-01-31T23:59:59.999Z" (RFC 3339); out has room for EVENT_TIME_SIZE. */
enum { EVENT_TIME_SIZE = 32 };
const char *event_time_text(int64_t time_ms, char *out);
/* "tcp", or the number. */
enum { EVENT_PROTOCOL_SIZE = 12 };
const char *event_protocol_text(unsigned protocol, char out[EVENT_PROTOCOL_SIZE]);

#endif
