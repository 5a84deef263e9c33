/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table: the authority over mappings and sessions, and its side of the coherence protocol
 * (design section 3). One thread, no locks, no I/O, no clock: now is an argument, randomness, the
 * journal and the event log are handed in. It knows no packets. Everything is allocated in table_new.
 */
#ifndef TABLESVC_TABLE_H
#define TABLESVC_TABLE_H

#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/wire/wire.h"
#include "tablesvc/config.h"
#include "tablesvc/events.h"
#include "tablesvc/journal.h"

struct table;

/*
 * config is copied as far as needed; journal and events (event_log_none() for nobody) are borrowed.
 * epoch: greater than any before.
 */
int table_new(const struct config *config, struct journal *journal, struct event_log *events,
	      struct random_source *random, uint64_t epoch, struct monotime now,
	      struct table **out);
void table_free(struct table *table);

/*
 * Takes over pools, limits, statics and timers without losing a session: what no longer fits
 * (a removed pool, a removed static) is ended and invalidated. 0, or an error and nothing changed.
 */
int table_reload(struct table *table, const struct config *config, struct monotime now, char *error,
		 unsigned error_size);

/* ---- dataplanes ---- */

/*
 * A control stream said hello. Finds its attachment by incarnation, or makes one. *dataplane is
 * what the other calls take. 0; ERR_VERSION; ERR_FULL (64 attached or not yet fenced).
 */
int table_attach(struct table *table, const struct wire_hello *hello, struct monotime now,
		 struct wire_welcome *out, uint32_t *dataplane);
/* The attachment of an incarnation, for the first message of a data stream. ERR_NOT_FOUND. */
int table_find_dataplane(const struct table *table, const uint64_t incarnation[2],
			 uint32_t *dataplane);
void table_heartbeat(struct table *table, uint32_t dataplane, const struct wire_heartbeat *beat,
		     struct monotime now, struct wire_heartbeat_ack *out);
/* The streams are gone. The lease goes on; what it holds is clean when lease, grace, margin are over. */
void table_detach(struct table *table, uint32_t dataplane, struct monotime now);
/* The configuration to push to dataplanes. */
void table_wire_config(const struct table *table, struct wire_config *out);

/* ---- data ---- */

/*
 * Applies one batch: resolves, reports, acknowledgement. Answers go to the dataplane's outbox.
 * 0, or ERR_INVALID (bad op, realm, direction), ERR_BUSY (more batches in flight than granted):
 * nothing was applied and the stream should end with that status.
 */
int table_batch(struct table *table, uint32_t dataplane, const struct wire_batch *batch,
		struct monotime now);

/*
 * The next message for the dataplane, in order, if everything that it depends on is committed.
 * Its arrays stay valid until the next call for that dataplane.
 */
bool table_next_message(struct table *table, uint32_t dataplane, struct wire_message *out);
/* Whether table_next_message would now say true: which streams need service. */
bool table_has_message(const struct table *table, uint32_t dataplane);

/* ---- time ---- */

/* Session timers, fences, hold-downs, lost dataplanes; bounded work a call. */
void table_tick(struct table *table, struct monotime now);
struct monotime table_next_tick(const struct table *table, struct monotime now);

/* ---- the operator ---- */

struct table_filter {
	nat_be32 subscriber; /* 0 = any */
	struct nat_endpoint external, remote; /* 0 = any; port 0 = any */
	uint8_t protocol, realm; /* 0 = any */
};

struct table_mapping_row {
	uint8_t realm, protocol;
	struct nat_endpoint internal, external;
	uint32_t sessions;
	const char *made_by; /* "traffic", "pcp", "static" */
	const char *pool;
};
struct table_session_row {
	uint8_t realm, protocol;
	struct nat_endpoint internal, external, remote;
	const char *state;
	uint64_t holders, handle;
	int64_t expires_ms;
};
struct table_subscriber_row {
	uint8_t realm;
	nat_be32 address, external;
	const char *pool;
	uint32_t blocks, ports, sessions;
	uint64_t refused;
};
/* Since start (RFC 7659). A pool that comes again under its name goes on counting. */
struct table_pool_counts {
	uint64_t mappings_created, mappings_ended;
	/* Mappings and sessions refused: no port, a subscriber's limit, no memory. */
	uint64_t out_of_ports, quota, memory;
};
struct table_pool_row {
	const char *name;
	const struct config_prefix *prefixes;
	unsigned n_prefixes;
	uint64_t addresses, blocks, blocks_used, blocks_resting, ports_used, exhausted;
	uint64_t addresses_used;
	struct table_pool_counts counts;
	uint64_t blocks_shared, blocks_free; /* that anybody may get, and of those that nobody has */
	bool above;			     /* their warn_above */
	uint32_t ratio, ports_per_subscriber; /* of a deterministic pool, else 0 */
};
struct table_dataplane_row {
	uint32_t id;
	const char *name, *state; /* attached, draining, lost */
	uint64_t incarnation[2];
	int64_t lease_left_ms, fence_left_ms;
	struct wire_stats stats;
	uint64_t unacknowledged;
	bool draining;
};
struct table_static_row {
	struct config_static mapping;
	const char *state, *origin;
};

/* Who has an external endpoint: the block around it, and what is mapped to it. */
struct table_who_row {
	const char *kind;	/* block, fixed (RFC 7422), mapping, address, static */
	uint8_t realm, protocol; /* 0 = all */
	struct nat_endpoint internal; /* address 0: the clients of a redirect */
	nat_be32 external;
	uint16_t first_port, last_port;
	uint32_t sessions;
	const char *realm_name, *pool, *redirect;
};
enum { TABLE_WHO_MAX = 12 };
/* protocol 0 = any. Up to TABLE_WHO_MAX rows; *in_pool: whether the address is ours at all. */
unsigned table_who(const struct table *table, const struct nat_endpoint *external, uint8_t protocol,
		   struct table_who_row *rows, bool *in_pool);

/*
 * Streaming lists: *cursor starts at 0; fills up to max rows and returns how many; *cursor = 0 again
 * when the end was reached. Looks at a bounded number of entries a call, so 0 rows with a cursor
 * other than 0 is not the end. Rows' strings belong to the table.
 */
unsigned table_mappings(struct table *table, const struct table_filter *filter, uint64_t *cursor,
			struct table_mapping_row *rows, unsigned max, struct monotime now);
unsigned table_sessions(struct table *table, const struct table_filter *filter, uint64_t *cursor,
			struct table_session_row *rows, unsigned max, struct monotime now);
unsigned table_subscribers(struct table *table, const struct table_filter *filter, uint64_t *cursor,
			   struct table_subscriber_row *rows, unsigned max, struct monotime now);
unsigned table_pools(struct table *table, uint64_t *cursor, struct table_pool_row *rows,
		     unsigned max);
unsigned table_dataplanes(struct table *table, uint64_t *cursor, struct table_dataplane_row *rows,
			  unsigned max, struct monotime now);
unsigned table_statics(struct table *table, uint64_t *cursor, struct table_static_row *rows,
		       unsigned max);

/*
 * Adds a static port forward: reserves the external port at once; active when a dynamic mapping that
 * had it is invalidated and fenced. *state (may be NULL): "active" or why not yet.
 * 0, ERR_EXISTS, ERR_INVALID (external endpoint in no pool), ERR_FULL.
 */
int table_static_add(struct table *table, const struct config_static *mapping, struct monotime now,
		     const char **state);
int table_static_delete(struct table *table, const struct config_static *mapping,
			struct monotime now);
/* Ends every matching mapping and its sessions. ERR_INVALID when the filter is empty. */
int table_delete(struct table *table, const struct table_filter *filter, struct monotime now,
		 uint64_t *mappings, uint64_t *sessions);
/* By name or decimal number. ERR_NOT_FOUND. */
int table_drain(struct table *table, const char *dataplane, bool undo, struct monotime now);

enum table_protocol { TABLE_TCP, TABLE_UDP, TABLE_ICMP, TABLE_OTHER, TABLE_PROTOCOLS };
struct table_protocol_counts {
	uint64_t mappings_created, mappings_ended, sessions_created, sessions_ended;
};
struct table_counters {
	struct table_protocol_counts protocols[TABLE_PROTOCOLS];
	uint64_t epoch; /* as given to table_new: conatctl status shows it */
	uint64_t mappings, mappings_capacity, sessions, sessions_capacity, subscribers, fenced;
	uint64_t dataplanes;
	uint64_t created, resolved, peeked, refused[NAT_REASON_LIMIT];
	uint64_t expired, invalidated, expire_asked, released, stale_handles, flushes;
	uint64_t batches, bad_batches, messages;
	/* Of datagrams: remembered; orphans: asked for, first fragment not seen. */
	uint64_t fragments_known, fragments_orphans, fragments_capacity;
	uint64_t fragments_first, fragments_later, fragments_whole, fragments_unknown;
	uint64_t fragments_told, fragments_untold; /* notices sent; without room */
	uint64_t fragments_evicted, fragments_expired, fragments_orphans_expired, fragments_skipped;
	uint64_t memory_bytes;
};
void table_counters(const struct table *table, struct table_counters *out);

#endif
