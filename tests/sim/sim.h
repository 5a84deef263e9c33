/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A deterministic simulation of the whole coherence protocol: several dataplanes (the real cache
 * and the real flow table), one real table, a virtual clock, streams that delay, break and stall.
 * All that happens follows from the seed.
 *
 *   sim.c            the command: seeds, processes, the trace
 *   world.c          the clock and what happens next
 *   link.c           streams between a dataplane and the service, and the service's server
 *   dataplane.c      the dataplane's process around cache and flow table: packets, readers, crashes
 *   disturb.c        what people, hosts and networks do to them
 *   subscriber.c     mappings that hosts ask for themselves
 *   fragments.c      datagrams in pieces, each to any dataplane, through the engine
 *   pool.c           policies of the pool, and what they promise
 *   tcp.c            TCP connections, and what must be known of them
 *   check.c          the invariants, after every step
 */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include <stdarg.h>
#include <stdio.h>
#include "dataplane/cache.h"
#include "tablesvc/deterministic.h"
#include "tablesvc/table.h"

enum {
	DATAPLANES = 4,
	LINKS = 12,
	READERS = 3,
	CLAIMS = 256, /* of one dataplane: more than its flow table and its readers can have */
	GHOSTS = 16,
	ROWS = 1024, /* of the table's lists */
	PROMISES = 32,
	QUESTIONS = 64,
	DATAGRAMS = 128, /* remembered of those sent in pieces */
	PIECES = 64,	 /* under way at once */
};

/* "If a packet came now, I would take internal for external": one session's half of a flow entry.
 */
struct claim {
	struct nat_endpoint internal, external;
	uint64_t handle;
	uint8_t realm, protocol;
};
struct claims {
	struct claim at[CLAIMS];
	unsigned n;
};

enum queue_of { UP_CONTROL, UP_DATA, DOWN_CONTROL, DOWN_DATA, QUEUES };

enum envelope_kind {
	MAIL_HELLO,
	MAIL_WELCOME,
	MAIL_CONFIG,
	MAIL_HEARTBEAT,
	MAIL_HEARTBEAT_ACK,
	MAIL_BATCH,
	MAIL_MESSAGE,
	MAIL_CLOSE,
};

struct envelope {
	struct envelope *next;
	int64_t arrival; /* ns */
	enum envelope_kind kind;
	union {
		struct wire_hello hello;
		struct wire_welcome welcome;
		struct wire_heartbeat heartbeat;
		struct wire_heartbeat_ack ack;
		struct wire_batch batch;     /* owns entries */
		struct wire_message message; /* owns answers and notices */
	};
};

struct queue {
	struct envelope *first, **last;
	int64_t arrival; /* of the last: FIFO */
	unsigned n;
};

struct asked { /* the questions of a batch, until its answer leaves: for U4 */
	struct asked *next;
	uint64_t sequence, step;
	unsigned n;
	struct nat_tuple tuples[];
};

/* A control and a data stream, which live and die together. */
struct link {
	bool used, dataplane_open, server_open;
	unsigned dataplane;
	uint64_t incarnation[2];
	uint32_t attached; /* at the table, UINT32_MAX before the hello */
	bool named;	   /* the data stream was heard of */
	unsigned window;   /* messages under way at most */
	int64_t hold;	   /* partition: nothing arrives before */
	struct queue queues[QUEUES];
	struct asked *asked, **asked_last;
};

struct dataplane {
	struct sim *sim;
	unsigned index;
	bool alive;
	struct cache_conf conf;
	struct cache *cache;
	struct flowtable *flows;
	struct engine *engine; /* for fragments only */
	struct random_source random;
	uint64_t random_state;
	int64_t offset;				/* its clock minus ours, ns */
	int64_t valid_until;			/* its clock; what readers go by */
	int64_t frozen, busy, connect, restart; /* until; ours */
	struct link *link;
	uint32_t slot; /* at the table, when it attached last */
	uint64_t packets;
	struct {
		struct nat_tuple tuple;
		uint64_t number;
		int64_t at;
	} last_answered;
	bool flows_changed;
	struct claims claims;  /* by flow entries */
	struct claims readers; /* by copies that readers still hold */
	struct claims said;    /* by parked packets translated in this step */
	uint64_t translated;   /* packets */
};

struct datagram { /* fragments.c; number % DATAGRAMS is its place */
	uint32_t number;
	struct nat_tuple tuple;
	uint8_t tcp_flags;
	uint16_t identification;
	uint32_t payload; /* bytes behind the IP header */
	int64_t sent, check_at;
	bool at_several;	/* dataplanes */
	bool alone;		/* a dataplane may have numbered it by itself */
	uint64_t disturbances;	/* when it was sent */
	uint32_t came;		/* bytes that came out */
	bool in_pieces;		/* as fragments, not whole */
	nat_be32 source, destination;
	uint16_t left_with;
	uint8_t egress;
	int64_t last_out;
};

struct piece {
	int64_t at;
	uint32_t datagram, begin, end;
	unsigned dataplane;
};

struct ghost {		     /* a crashed dataplane's kernel half goes on until its lease is over */
	int64_t valid_until; /* our clock */
	unsigned dataplane;
	struct claims claims;
};

struct remembered { /* the last answer to a tuple, for U4 */
	struct nat_tuple tuple;
	uint64_t handle, peer_handle;
	struct nat_rewrite rewrite;
};
enum { REMEMBERED = 4096 };

struct activity { /* of a session, by its slot: live flows never expire early */
	uint64_t handle;
	uint64_t stamp;	 /* of the last reading that showed it live */
	int64_t last_ns; /* a packet that refreshes, at a dataplane with a lease; 0 = none */
	uint8_t protocol;
	bool rival; /* of a static forward */
};
enum { ACTIVITIES = 512 };

struct tcp_connection {
	nat_be32 internal; /* 0: none yet */
	struct nat_endpoint external;
	bool known;	      /* external is */
	uint64_t handle;      /* of its session, when a packet was translated last */
	uint64_t troubles;      /* when it began */
	int64_t sent;	      /* the last packet, whether it was translated or not */
	int64_t quiet;	      /* nobody says anything until */
	int64_t syn[2], fin[2]; /* when they were translated first, by direction; 0 = not */
	bool may_end[2], may_reset; /* a FIN or RST was sent, at least */
};
enum { TCP_CONNECTIONS = 3 };

struct promise { /* to a subscriber that asked for a mapping */
	struct nat_endpoint internal, external;
	int64_t until; /* ns; 0 = none */
	uint8_t protocol, nonce;
};

struct block { /* hold-down: when the table last showed a mapping in it, and whose */
	nat_be32 subscriber;
	uint8_t realm;
	int64_t last_ns;
};
enum { BLOCKS = 16 };

/* How often what happened; a simulation in which something never happens does not test it. */
#define COVERED(X)                                                                                 \
	X(evicted)                                                                                 \
	X(released)                                                                                \
	X(expired)                                                                                 \
	X(invalidated)                                                                             \
	X(flushed)                                                                                 \
	X(stale_answers)                                                                           \
	X(asked_again)                                                                             \
	X(negative_hits) X(coalesced) X(not_renewed) X(flags_reported) X(reports_full)             \
	    X(cache_full) X(disconnects) X(draining) X(pending_full) X(pending_timeout)            \
		X(no_table) X(lease_over) X(ports_exhausted) X(filtered) X(no_mapping)             \
		    X(table_full) X(created) X(peeked) X(expire_asked) X(stale_handles) X(crashes) \
			X(zombies) X(partitions) X(hairpins) X(redirects) X(statics) X(whole_addresses) X(by_address) X(deletes)    \
			    X(reloads) X(readers_waited_for) X(held) X(fixed) X(overflowed) X(elsewhere) X(explicits)                      \
				X(fragments_together) X(fragments_unknown) X(fragments_told)   \
				    X(fragments_alone) X(tcp_established) X(tcp_reopened)           \
				    X(tcp_quiet) X(tcp_closed)
struct coverage {
#define COVERED_FIELD(name) uint64_t name;
	COVERED(COVERED_FIELD)
#undef COVERED_FIELD
};

struct sim_shape { /* drawn from the seed */
	unsigned dataplanes, subscribers, ports, remotes;
	uint32_t capacity; /* pairs of a flow table */
	unsigned fault_every_ms, op_every_us;
	unsigned addresses; /* of the pool, at first */
	bool whole_addresses; /* the operator adds static 1:1 too */
	int64_t end;
	bool calm; /* no faults: delays and evictions only */
	bool smooth; /* calm, no message is very late, and mostly TCP: what must hold exactly */
	bool quiet; /* nor operators */
	bool cuts;  /* the way out has a small MTU */
};

struct sim {
	uint64_t seed;
	bool trace, failed;
	bool small_outbox;
	char failure[512];
	struct random_source random;
	uint64_t random_state;
	int64_t now; /* ns */
	uint64_t steps;
	struct sim_shape shape;
	bool healing; /* no more faults and operations */
	int64_t next_op, next_fault, table_tick;

	struct config config;
	uint32_t shortest_udp; /* timeout that was ever configured */
	struct config_pool pool;
	struct config_prefix pool_prefixes[2], realm_prefix; /* a reload may take the second away */
	struct config_realm realm;
	struct deterministic *fixed; /* of a deterministic pool */
	int64_t held_until;	     /* hold-down at start */
	struct config_redirect redirects[2];
	struct journal *journal;
	struct table *table;
	bool table_changed, rows_fresh;
	struct link *attachments[WIRE_DATAPLANES_MAX];

	struct dataplane dataplanes[DATAPLANES];
	struct link links[LINKS];
	struct ghost ghosts[GHOSTS];
	unsigned n_ghosts;

	/* The table's lists, read again when it changed. */
	struct table_mapping_row mappings[ROWS];
	struct table_session_row sessions[ROWS];
	unsigned n_mappings, n_sessions;
	struct config_static statics[64]; /* that were ever added */
	unsigned n_statics;
	struct datagram datagrams[DATAGRAMS];
	struct piece pieces[PIECES];
	uint32_t last_number;
	uint64_t disturbances; /* what may cost a fragment */
	unsigned statics_active;
	uint64_t troubles;     /* what may cost or delay a report */
	struct remembered remembered[REMEMBERED];
	struct activity activities[ACTIVITIES];
	struct tcp_connection connections[TCP_CONNECTIONS];
	struct block blocks[2][BLOCKS];
	struct promise promises[PROMISES];
	bool operated; /* in this step somebody ended things */
	struct wire_config *wire_config;
	struct coverage coverage;
};

/* ---- sim.c */
void trace(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A broken invariant; the first one counts. */
void fail(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));

static inline uint32_t below(struct sim *sim, uint32_t bound)
{
	return random_below(&sim->random, bound);
}
static inline bool chance(struct sim *sim, uint32_t of_1000)
{
	return below(sim, 1000) < of_1000;
}
static inline int64_t ms(int64_t n)
{
	return n * MS_NS;
}
static inline struct monotime table_now(const struct sim *sim)
{
	return (struct monotime){sim->now};
}
static inline struct monotime local_now(const struct dataplane *dp)
{
	return (struct monotime){dp->sim->now + dp->offset};
}
static inline bool can_translate(const struct dataplane *dp)
{
	return dp->alive && dp->sim->now + dp->offset < dp->valid_until;
}

/* ---- world.c */
/* What a dataplane counted, before it goes. */
void cover_dataplane(struct dataplane *dp);
bool sim_run(struct sim *sim, uint64_t seed, bool trace);
extern bool sim_small_outbox; /* the test build's table has small outboxes */

/* ---- link.c */
struct link *link_open(struct sim *sim, struct dataplane *dp);
void link_send(struct sim *sim, struct link *link, enum queue_of queue, struct envelope *mail);
struct envelope *mail_new(enum envelope_kind kind);
/* One side gives up: what it sent before still arrives. */
void link_close_dataplane(struct sim *sim, struct link *link);
void link_close_server(struct sim *sim, struct link *link);
/* The network breaks it: a random part of what is under way is lost. */
void link_break(struct sim *sim, struct link *link);
void link_deliver(struct sim *sim, struct link *link, enum queue_of queue);
void links_collect(struct sim *sim);
void links_free(struct sim *sim);
/* Takes the table's messages out, for every attachment. */
void server_pump(struct sim *sim);

/* ---- dataplane.c */
void dataplane_start(struct sim *sim, unsigned index);
void dataplane_crash(struct dataplane *dp);
void dataplane_free(struct dataplane *dp);
void dataplane_mail(struct dataplane *dp, struct envelope *mail);
void dataplane_closed(struct dataplane *dp);
void dataplane_tick(struct dataplane *dp);
void dataplane_connect(struct dataplane *dp);
/* Sends what the cache has to send. */
void dataplane_pump(struct dataplane *dp);
void dataplane_packet(struct dataplane *dp, const struct nat_tuple *tuple, uint8_t tcp_flags,
		      bool hold);
void dataplane_peek(struct dataplane *dp, const struct nat_tuple *tuple);
void claims_of(struct claims *claims, const struct nat_tuple *tuple,
	       const struct nat_rewrite *rewrite, uint8_t direction, uint64_t handle,
	       uint64_t peer_handle);

/* ---- fragments.c */
void fragments_start(struct dataplane *dp);
void fragments_configure(struct dataplane *dp, const struct wire_config *config);
void fragments_send(struct sim *sim, const struct nat_tuple *tuple, uint8_t tcp_flags);
int64_t fragments_due(const struct sim *sim);
void fragments_happen(struct sim *sim);
/* What the cache hands back: a packet of ours, and what was asked about datagrams. */
bool fragments_is_packet(const struct engine_packet *packet);
void fragments_translate(struct dataplane *dp, struct engine_packet *packet,
			 const struct wire_answer *answer);
void fragments_answered(void *dataplane, uint64_t datagram, const struct wire_answer *answer,
			struct monotime now);
void fragments_notice(void *dataplane, const struct wire_notice *notice, struct monotime now);
extern bool fragments_alone; /* mutation: no dataplane asks, each goes by itself */

/* ---- disturb.c */
void disturb_operation(struct sim *sim);
void disturb_fault(struct sim *sim);
void disturb_end(struct sim *sim);
/* A fresh outbound packet at each dataplane. */
struct nat_tuple disturb_outbound(struct sim *sim, uint8_t *tcp_flags);

/* ---- subscriber.c */
void subscriber_ask(struct sim *sim);
/* An operator took away what was promised to a subscriber or of an endpoint, or to all. */
void subscriber_forgive(struct sim *sim, nat_be32 subscriber, const struct nat_endpoint *external);
/* What was promised is kept. */
void subscriber_check(struct sim *sim);

/* ---- pool.c */
void pool_draw(struct sim *sim);
/* A dynamic mapping. */
void pool_check(struct sim *sim, const struct table_mapping_row *row);

/* ---- tcp.c */
void tcp_operate(struct sim *sim);
bool tcp_is_one(const struct nat_tuple *tuple);
void tcp_translated(struct dataplane *dp, const struct nat_tuple *tuple,
		    const struct nat_rewrite *rewrite, uint64_t handle, uint8_t flags);
/* How long after a packet a session may end at the soonest, ns. */
int64_t tcp_shortest(struct sim *sim, uint64_t handle);
void tcp_check(struct sim *sim);

/* ---- check.c */
void check_step(struct sim *sim);
void check_answer(struct sim *sim, const struct nat_tuple *tuple, const struct wire_answer *answer);
void check_end(struct sim *sim);
/* A packet of this session was translated by its flow entry. */
void check_activity(struct dataplane *dp, uint64_t handle, unsigned direction);
void rows_read(struct sim *sim);

#endif
