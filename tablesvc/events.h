/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an operator, or the law, wants to read later: who had which external address and ports
 * (RFC 6888 REQ-12, REQ-14). The table tells of port blocks and sessions where the journal hears of
 * them, and neither waits nor looks at a clock for it: the log stamps the time.
 */
#ifndef TABLESVC_EVENTS_H
#define TABLESVC_EVENTS_H

#include <stdbool.h>
#include <stdint.h>
#include "tablesvc/config.h"

/* X(symbol, name in the log, what it is about) */
#define EVENTS(X)                                                                                  \
	X(SERVICE_STARTED, "service_started", EVENT_OF_SERVICE)                                    \
	X(SERVICE_STOPPED, "service_stopped", EVENT_OF_SERVICE)                                    \
	X(LOST, "events_lost", EVENT_OF_COUNT)                                                     \
	X(LOG_PAUSED, "log_paused", EVENT_OF_NOTHING)                                              \
	X(LOG_RESUMED, "log_resumed", EVENT_OF_NOTHING)                                            \
	X(CONFIGURATION, "configuration_changed", EVENT_OF_COUNT)                                  \
	X(PLAN_POOL, "deterministic_pool", EVENT_OF_PLAN)                                          \
	X(PLAN_OUTSIDE, "deterministic_outside", EVENT_OF_PLAN)                                    \
	X(PLAN_INSIDE, "deterministic_inside", EVENT_OF_PLAN)                                      \
	X(BLOCK_ALLOCATED, "block_allocated", EVENT_OF_BLOCK)                                      \
	X(BLOCK_RELEASED, "block_released", EVENT_OF_BLOCK)                                        \
	X(ADDRESS_ALLOCATED, "address_allocated", EVENT_OF_BLOCK)                                  \
	X(ADDRESS_RELEASED, "address_released", EVENT_OF_BLOCK)                                    \
	X(STATIC_ADDED, "static_added", EVENT_OF_MAPPING)                                          \
	X(STATIC_REMOVED, "static_removed", EVENT_OF_MAPPING)                                      \
	X(SESSION_CREATED, "session_created", EVENT_OF_SESSION)                                    \
	X(SESSION_ENDED, "session_ended", EVENT_OF_SESSION)

enum event_subject {
	EVENT_OF_SERVICE, /* count is the epoch */
	EVENT_OF_COUNT,
	EVENT_OF_NOTHING, /* blocks are not logged from here on, or again */
	EVENT_OF_PLAN,	  /* who has which ports for ever: no line a block (RFC 7422 section 4) */
	EVENT_OF_BLOCK,	  /* external address and a range of its ports, and whose they are */
	EVENT_OF_MAPPING, /* protocol, internal and external endpoint */
	EVENT_OF_SESSION, /* the same, and the remote endpoint if it is asked for */
};

enum event_kind {
#define EVENT_ENUM(symbol, name, subject) EVENT_##symbol,
	EVENTS(EVENT_ENUM)
#undef EVENT_ENUM
	    EVENT_KINDS
};

struct event_record {
	int64_t time_ms; /* of the wall clock, UTC; the log's own */
	uint64_t count;
	uint8_t kind;	  /* enum event_kind */
	uint8_t protocol; /* 0 = all */
	uint16_t first_port, last_port;
	struct nat_endpoint internal, external, remote;
	/* Of a plan: count is subscribers, or the number of a prefix's first address. */
	uint32_t addresses;
	uint16_t ports; /* of each subscriber */
	struct config_prefix prefix;
	char pool[CONFIG_NAME_MAX], realm[CONFIG_NAME_MAX];
	char redirect[CONFIG_NAME_MAX]; /* the rule whose clients share the block, or "" */
};

struct event_log;
struct event_log_ops {
	/* Whether somebody wants events of sessions: asked before one is made. */
	bool (*wants_sessions)(const struct event_log *log);
	/* Takes a copy and stamps it; never waits. One thread at a time. */
	void (*put)(struct event_log *log, const struct event_record *event);
};
struct event_log {
	const struct event_log_ops *ops;
};

/* Nobody listens. */
struct event_log *event_log_none(void);

#endif
