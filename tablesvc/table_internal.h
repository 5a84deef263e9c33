/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table's insides, for the files that make it up and for nobody else.
 *
 *   subscriber --< mapping --< session --- holders (a bit for each dataplane)
 *        |            |           |
 *   port blocks   internal     (mapping, remote) hash, filter hash, timer wheel
 *                 endpoint hash
 *
 * Every link is a 32-bit index into a slab; 0 is none, so that zero pages are empty tables. All
 * memory is reserved in table_new and touched as it is used.
 */
#ifndef TABLESVC_TABLE_INTERNAL_H
#define TABLESVC_TABLE_INTERNAL_H

#include "common/base/err.h"
#include "tablesvc/portpool.h"
#include "tablesvc/table.h"
#include "tablesvc/timerwheel.h"

#ifdef CONAT_MUTABLE
/* Test build only: which rule is switched off, 0 none. */
extern int table_mutation;
#define TABLE_MUTATED(which) (table_mutation == (which))
/* Messages of notices that an outbox holds; the simulator makes it small, so that flushes happen. */
extern uint32_t outbox_notices;
#else
#define TABLE_MUTATED(which) 0
enum { outbox_notices = 4096 };
#endif
enum {
	TABLE_MUTATE_FENCE = 1,
	TABLE_MUTATE_ORDER = 2,
	TABLE_MUTATE_DEAF = 3,	/* TCP flags from the outside are not heard */
	TABLE_MUTATE_RESET = 4, /* an RST ends the session */
	TABLE_MUTATE_NUMBERS = 5, /* datagrams keep the identification they came with */
};

enum session_state {
	SESSION_FREE = 0,
	SESSION_LIVE = 1,   /* answers, expires; counted against the subscriber */
	SESSION_ENDING = 2, /* ended, but a holder may still translate: not clean (U1) */
};

/* What dataplanes saw of a TCP connection; tcp.c reads its state off this set. */
enum tcp_bit {
	TCP_SYN_OUT = 1,
	TCP_SYN_IN = 2,
	TCP_FIN_OUT = 4,
	TCP_FIN_IN = 8,
	TCP_RST = 16,
	TCP_AGAIN_OUT = 32, /* a SYN after the end */
	TCP_AGAIN_IN = 64,
};

/* RFC 7857 section 2. */
enum tcp_state {
	TCP_NONE,
	TCP_OPENING,
	TCP_ESTABLISHED,
	TCP_FIN_OUT_SEEN,
	TCP_FIN_IN_SEEN,
	TCP_CLOSING,
	TCP_RESET,
};

enum session_flag {
	SESSION_ASKED = 1,    /* EXPIRE is out */
	SESSION_FOREIGN = 2,  /* opened by anybody outside: inbound packets do not refresh it */
	SESSION_HAIRPIN = 4,  /* the remote endpoint is an external endpoint of ours */
	SESSION_PEER = 32,    /* asked for by PCP: explicit.c has its nonce */
};

struct session {
	uint64_t holders;        /* dataplanes that may hold it; only bits in table->dirty count */
	struct timer_link timer; /* armed while LIVE */
	uint32_t generation;
	uint32_t mapping;
	uint32_t next, previous; /* the mapping's list */
	uint32_t hash_next;      /* while LIVE; and the free list */
	uint32_t last;           /* tick of the last activity known */
	nat_be32 remote;
	nat_be16 remote_port;
	uint8_t state; /* enum session_state */
	uint8_t tcp;   /* enum tcp_bit */
	uint8_t flags; /* enum session_flag */
	uint8_t zero;
	uint16_t redirect; /* rule + 1 */
	uint32_t filter;   /* while LIVE, of an INDEXED mapping */
	uint32_t since;    /* TCP: tick when the last RST, the second FIN, or the opening was seen */
};
_Static_assert(sizeof(struct session) == 64, "a cache line");

enum mapping_flag {
	MAPPING_STATIC = 1,
	MAPPING_RETIRED = 2,  /* out of the internal hash: goes when its sessions are clean */
	MAPPING_INDEXED = 8,  /* its remote addresses are in the filter hash */
	MAPPING_EXPLICIT = 16, /* asked for by PCP: stays for its lifetime, and everybody may send */
	MAPPING_WHOLE = 32,    /* of a static 1:1: at its own port, and everybody may send */
	MAPPING_REDIRECT = 4, /* made by a redirect rule: the internal endpoint is in from_realm */
};

struct mapping {
	uint64_t place; /* of the external endpoint */
	nat_be32 internal;
	nat_be16 internal_port;
	uint8_t protocol, realm;
	uint32_t subscriber;
	uint32_t next, previous; /* the subscriber's list */
	uint32_t hash_next;      /* unless RETIRED; and the free list */
	uint32_t sessions;       /* LIVE and ENDING */
	uint32_t n_live, n_ending;
	uint8_t flags; /* enum mapping_flag */
	uint8_t used;
	uint16_t zero;
};
_Static_assert(sizeof(struct mapping) == 48, "see the budget in table.c");

/* A remote address that an INDEXED mapping has LIVE sessions with. */
struct filter {
	uint32_t mapping;
	nat_be32 remote;
	uint32_t count;
	uint32_t hash_next;
};

struct subscriber {
	struct portpool_share share;
	nat_be32 address;
	uint32_t hash_next;
	uint32_t mappings; /* head */
	uint32_t n_mappings, n_sessions;
	uint32_t n_explicit; /* mappings */
	uint32_t tokens;   /* thousandths of a creation */
	int64_t tokens_at; /* ms */
	uint64_t refused;
	uint8_t realm, used;
	uint16_t redirect; /* rule + 1: all its clients share one subscriber */
	uint16_t one_to_one; /* static entry + 1: it has a whole external address */
};

/* A slab of elements 1 to capacity, with a free list through a caller-chosen link. */
struct slab {
	void *memory;
	size_t stride, link; /* offset of the free list's link */
	uint32_t capacity, fresh, free, used;
	size_t touched; /* bytes from the start that have their pages */
};
int slab_new(struct slab *slab, uint32_t capacity, size_t stride, size_t link);
void slab_delete(struct slab *slab);
/*
 * Has pages made ahead of use, if they run short: to be called between batches, so that no flow
 * waits for a huge page to be cleared.
 */
void slab_touch(struct slab *slab);
uint32_t slab_take(struct slab *slab); /* 0 when full */
void slab_give(struct slab *slab, uint32_t index);

struct buckets {
	uint32_t *head;
	uint32_t mask;
};
int buckets_new(struct buckets *buckets, uint32_t capacity);
/* Has its pages made now: the first flows would each wait for several huge pages to be cleared. */
void buckets_touch(struct buckets *buckets);
void buckets_delete(struct buckets *buckets);

struct negative { /* an external endpoint of which dataplanes were told that it has no mapping */
	nat_be32 address;
	nat_be16 port;
	uint8_t protocol, zero;
	uint64_t told; /* holder bits */
	int64_t until_ms;
};
enum { NEGATIVES = 4096 };

struct outbox_message {
	uint64_t sequence; /* given when it leaves */
	uint64_t position; /* of the journal */
	uint64_t request_sequence;
	int64_t made_ms;
	uint32_t n, offset, bytes;
	uint8_t kind;
};

/* Messages made, left, and not yet acknowledged, in order; one ring of headers, one of payload. */
struct outbox {
	struct outbox_message *ring;
	uint8_t *payload;
	uint32_t ring_size, payload_size;
	uint32_t first, next, end; /* running counters: acknowledged < first <= next <= end */
	uint32_t head, tail;       /* payload offsets */
	uint32_t answers;          /* ANSWERs that have not left */
};

#include "tablesvc/explicit_internal.h"

enum dataplane_state { DATAPLANE_FREE = 0, DATAPLANE_ATTACHED = 1 };
enum bit_state { BIT_FREE = 0, BIT_ACTIVE, BIT_RETIRING, BIT_SWEEPING };

struct dataplane {
	uint8_t state; /* enum dataplane_state */
	uint8_t bit;   /* its holder bit now */
	bool connected, draining, lost, flush;
	uint64_t incarnation[2];
	char name[WIRE_NAME_MAX];
	struct monotime renewed; /* when the last heartbeat that was renewed came */
	uint64_t sequence, acknowledged, batch;
	struct wire_stats stats;
	struct outbox outbox;
};

struct holder_bit {
	uint8_t state; /* enum bit_state */
	uint32_t dataplane;
	uint64_t flush;        /* RETIRING: clean when this was acknowledged, 0 = only by time */
	struct monotime clean; /* RETIRING: clean at the latest */
	uint32_t until;        /* tick when it was lost, or retired: active until then, for all we know */
};

struct static_entry {
	struct config_static mapping;
	uint32_t index; /* of its mapping (1:1: subscriber) while active, else 0 */
	bool used, from_config;
	const char *state;
};
enum { STATICS_MAX = CONFIG_STATICS_MAX + 1024 };

struct table {
	struct config config; /* a deep copy; settings.c */
	struct journal *journal;
	struct event_log *events;
	struct random_source *random;
	uint64_t key[2];
	uint64_t epoch, position;
	struct monotime base, now;
	struct monotime ticked; /* the last table_tick */
	uint32_t tick;

	struct slab subscribers, mappings, sessions, filters;
	struct buckets by_subscriber, by_internal, by_session, by_filter;
	struct explicit_table explicits;
	struct portpool *pools;
	struct timerwheel *wheel;
	bool wheel_behind;

	struct dataplane dataplanes[WIRE_DATAPLANES_MAX];
	struct holder_bit bits[64];
	uint64_t dirty;  /* bits that may still translate */
	uint64_t lost;   /* of those, whose dataplane can't be asked */
	uint64_t active; /* bits in use by an attached dataplane */
	uint64_t sweeping;
	uint32_t sweep_at;

	struct fragment_table *fragments;
	struct negative *negatives;
	int64_t negatives_until_ms; /* of the latest */
	struct static_entry *statics;
	uint32_t n_statics; /* high-water mark */
	uint32_t statics_waiting;
	bool statics_busy;
	int realm_index[NAT_REALM_MAX + 1]; /* into config.realms, -1 none */
	struct table_counters counters;
	struct table_pool_counts pool_counts[CONFIG_POOLS_MAX];
};

static inline struct session *session_at(const struct table *t, uint32_t i)
{
	return (struct session *)t->sessions.memory + i;
}
static inline struct mapping *mapping_at(const struct table *t, uint32_t i)
{
	return (struct mapping *)t->mappings.memory + i;
}
static inline struct filter *filter_at(const struct table *t, uint32_t i)
{
	return (struct filter *)t->filters.memory + i;
}
static inline struct subscriber *subscriber_at(const struct table *t, uint32_t i)
{
	return (struct subscriber *)t->subscribers.memory + i;
}
static inline uint64_t session_handle(const struct table *t, uint32_t i)
{
	return (uint64_t)session_at(t, i)->generation << 32 | i;
}
/* 0 when the handle is of a session that is no more. */
uint32_t session_by_handle(struct table *t, uint64_t handle);

/* Keyed: attackers choose tuples. */
static inline uint64_t table_hash(const struct table *t, uint64_t a, uint64_t b)
{
	unsigned __int128 m = (unsigned __int128)(a ^ t->key[0]) * (b ^ t->key[1]);
	uint64_t h = (uint64_t)m ^ (uint64_t)(m >> 64);
	m = (unsigned __int128)(h ^ t->key[1]) * 0x9e3779b97f4a7c15u;
	return (uint64_t)m ^ (uint64_t)(m >> 64);
}
static inline uint64_t endpoint_word(uint8_t realm, uint8_t protocol, nat_be32 address, nat_be16 port)
{
	return (uint64_t)address << 32 | (uint64_t)port << 16 | (uint64_t)protocol << 8 | realm;
}

static inline uint32_t ticks_of_ms(uint64_t ms)
{
	return (uint32_t)((ms + TIMERWHEEL_TICK_MS - 1) / TIMERWHEEL_TICK_MS) + 1;
}
void table_index_realms(struct table *t);
void table_set_now(struct table *t, struct monotime now);
void table_journal(struct table *t, enum journal_kind kind, const struct mapping *m, uint32_t session);

/* table_counts.c */
void counts_mapping(struct table *t, const struct mapping *m, bool created);
void counts_session(struct table *t, const struct mapping *m, bool created);
void counts_refusal(struct table *t, unsigned pool, unsigned reason);
void counts_move(struct table *t, const struct config *old); /* after a reload */

/* table_events.c */
void event_block(struct table *t, enum event_kind kind, const struct mapping *m);
void event_address(struct table *t, enum event_kind kind, const struct mapping *m);
void event_static(struct table *t, enum event_kind kind, const struct mapping *m);
void event_session(struct table *t, enum event_kind kind, uint32_t session);
void event_configuration(struct table *t); /* and the plans */
void event_plans(struct table *t);
/* What people read, "removed" when a reload took it away. */
const char *name_of_pool(const struct table *t, uint64_t place);
const char *name_of_realm(const struct table *t, uint8_t realm);
const char *name_of_redirect(const struct table *t, uint16_t redirect); /* rule + 1; 0: "" */

/* settings.c */
int settings_copy(struct config *to, const struct config *from);
void settings_free(struct config *settings);

/* subscriber.c */
uint32_t subscriber_get(struct table *t, uint8_t realm, nat_be32 address, uint16_t redirect);
uint32_t *subscriber_bucket(const struct table *t, uint8_t realm, nat_be32 address,
			    uint16_t redirect);
uint32_t subscriber_find(const struct table *t, uint8_t realm, nat_be32 address, uint16_t redirect);
void subscriber_release(struct table *t, uint32_t index); /* frees it when nothing is left */
bool subscriber_may_create(struct table *t, struct subscriber *s); /* limits.creations_per_second */
void subscriber_created(const struct table *t, struct subscriber *s);

/* mapping.c */
uint32_t mapping_find(const struct table *t, uint8_t realm, uint8_t protocol, nat_be32 address,
		      nat_be16 port);
/* The mapping that owns an external endpoint; 0 when none. */
uint32_t mapping_by_external(const struct table *t, uint8_t protocol,
			     const struct nat_endpoint *external);
unsigned mapping_create(struct table *t, uint8_t realm, uint8_t protocol, nat_be32 address,
			nat_be16 port, unsigned pool, uint16_t redirect, uint32_t *out);
/* At wanted, or NAT_REASON_PORTS_EXHAUSTED; NULL: at any. */
unsigned mapping_create_wanted(struct table *t, uint8_t realm, uint8_t protocol, nat_be32 address,
			       nat_be16 port, unsigned pool, const struct nat_endpoint *wanted,
			       uint32_t *out);
/* Whether the pool translates this protocol by address. */
bool mapping_allowed(const struct table *t, unsigned pool, uint8_t protocol);
uint32_t mapping_create_static(struct table *t, const struct config_static *wanted, uint64_t place);
void mapping_retire(struct table *t, uint32_t index); /* ends its sessions too */
void mapping_release(struct table *t, uint32_t index); /* frees it when nothing holds it */
struct nat_endpoint mapping_external(const struct table *t, const struct mapping *m);

/* session.c */
uint32_t session_find(const struct table *t, uint32_t mapping, nat_be32 remote, nat_be16 port);
/* Why the subscriber may have no session more, to be asked before anything is taken for it. */
unsigned session_refusal(struct table *t, struct subscriber *u);
unsigned session_create(struct table *t, uint32_t mapping, nat_be32 remote, nat_be16 port,
			uint8_t flags, uint16_t redirect, uint32_t *out);
void session_end(struct table *t, uint32_t index, unsigned reason);
void session_clean(struct table *t, uint32_t index, uint64_t bits); /* these no longer hold it */
void session_touch(struct table *t, uint32_t index); /* a packet was seen now */
void session_seen(struct table *t, uint32_t index, uint32_t age_ms); /* or so long ago */
/* TCP flags seen in this direction so long ago. */
void session_flags(struct table *t, uint32_t index, unsigned direction, uint8_t tcp_flags,
		   uint32_t age_ms);
/* Whether packets from the outside keep it (RFC 4787 REQ-6a, RFC 7857 section 7). */
bool session_inbound_refreshes(const struct table *t, const struct session *s);
uint32_t session_timeout(const struct table *t, const struct session *s); /* ms */
struct nat_tuple session_tuple(const struct table *t, uint32_t index);
uint32_t session_partner(const struct table *t, uint32_t index); /* of a hairpinned one, or 0 */
const char *session_state_name(const struct session *s);
uint64_t session_hash(const struct table *t, const struct mapping *m, nat_be32 remote, nat_be16 port);

/* tcp.c */
enum tcp_state tcp_state(uint8_t bits);
uint32_t tcp_timeout(const struct config_timers *timers, uint8_t bits); /* ms */
/* A report: flags seen in a direction at tick "when". Whether the state changed. */
bool tcp_seen(struct session *s, unsigned direction, uint8_t flags, uint32_t when);
/* A packet that was no RST, at tick "last". Whether it proved that an RST ended nothing. */
bool tcp_alive(struct session *s, uint32_t last);

/* filter.c */
bool filter_open(const struct table *t, uint32_t mapping, nat_be32 remote);
void filter_add(struct table *t, uint32_t session);
void filter_remove(struct table *t, uint32_t session);

/* expiry.c */
void expiry_fire(void *table, uint32_t session);
void expiry_active(struct table *t, uint32_t session, uint32_t age_ms);
void expiry_dropped(struct table *t, uint32_t session, uint64_t bit, uint32_t age_ms);
void expiry_released(struct table *t, uint32_t session, uint64_t bit, uint32_t age_ms);

/* resolve.c */
/* Whether the address is in one of the realm's prefixes. */
bool resolve_in_realm(const struct table *t, uint8_t realm, nat_be32 address);
/* The redirect that a tuple falls under: rule + 1, or 0. */
uint16_t resolve_redirect_of(const struct table *t, const struct nat_tuple *tuple);
void resolve_answer(struct table *t, struct dataplane *d, const struct wire_request *request,
		    struct wire_answer *answer);

/* identity.c */
/* The realm whose host has this address outside too, untranslated; 0 = none. */
uint8_t identity_realm(const struct config *config, nat_be32 address);
bool identities_differ(const struct config *a, const struct config *b);
/* Ends what a change of them has to do with; t->config is the new one. */
void identity_reload(struct table *t, const struct config *old);

/* prefetch.c */
void prefetch_batch(struct table *t, const struct wire_request *requests, unsigned n);

/* negative.c */
uint32_t negative_tell(struct table *t, uint8_t protocol, const struct nat_endpoint *e, uint64_t bit);
void negative_end(struct table *t, uint8_t protocol, const struct nat_endpoint *external);
void negative_end_address(struct table *t, nat_be32 address);

/* fragments.c */
int fragment_table_new(struct table *t);
void fragment_table_free(struct table *t);
uint64_t fragment_table_bytes(const struct table *t);
void fragment_answer(struct table *t, const struct dataplane *d, const struct wire_request *r,
		     struct wire_answer *answer);
void fragment_tick(struct table *t); /* forgets what is over */
void fragment_count(const struct table *t, struct table_counters *out);

/* directory.c */
void directory_notice(struct table *t, uint64_t bits, unsigned kind, const struct wire_notice *notice);
/* What finds no room is counted and lost. */
void directory_fragments(struct table *t, uint64_t bits, const struct wire_notice *notice);
void directory_acknowledge(struct table *t, struct dataplane *d, uint64_t acknowledged);
void directory_tick(struct table *t);
/* The holders in bits that can't be asked: their session counts as active until they were lost. */
void directory_lost(struct table *t, uint32_t session, uint64_t bits);
struct monotime directory_fence(const struct table *t, const struct dataplane *d);

/* outbox.c */
int outbox_new(struct outbox *box, const struct config *config);
void outbox_delete(struct outbox *box);
void outbox_clear(struct outbox *box);
struct wire_answer *outbox_answer(struct outbox *box, uint64_t request_sequence, uint32_t n);
bool outbox_notice(struct outbox *box, unsigned kind, const struct wire_notice *notice,
		   uint64_t position, int64_t now_ms, uint32_t batch_max);
void outbox_void(struct outbox *box);
bool outbox_flush(struct outbox *box, uint64_t position, int64_t now_ms);

/* one_to_one.c: a static with protocol 0 */
bool one_to_one_is(const struct config_static *mapping);
void one_to_one_begin(struct table *t, const struct config_static *wanted);
bool one_to_one_activate(struct table *t, struct static_entry *e, bool *full);
void one_to_one_end(struct table *t, const struct static_entry *e, uint32_t index);
unsigned one_to_one_take(struct table *t, struct mapping *m, uint32_t index,
			 const struct nat_endpoint *wanted);
/* The active entry that has the external address, or NULL. */
const struct config_static *one_to_one_of(const struct table *t, nat_be32 external);

/* statics.c */
int statics_add(struct table *t, const struct config_static *mapping, bool from_config,
		const char **state);
void statics_remove(struct table *t, struct static_entry *entry);
void statics_tick(struct table *t);

#endif
