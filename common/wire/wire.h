/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What dataplanes and the table service say to each other, as C structures: the language of the
 * coherence protocol. No protobuf here: the cache and the table are written, simulated and tested
 * against these; wire_encode.h turns them into messages and back.
 *
 * Order: per dataplane, every message from the table (answers, invalidations, expiry questions,
 * flush) carries the next number of one sequence, and leaves only when the journal has committed
 * what it depends on. The dataplane acknowledges that sequence cumulatively: "acknowledged = n"
 * says that everything up to n was applied and that no packet will be translated any more by an
 * entry that a message up to n took away.
 *
 * The rules that both sides rely on (tests/sim checks them together):
 * - Batches are numbered from 1 by one over an incarnation's whole life; a reconnect goes on
 *   counting. The table applies batches in order and the entries of a batch in order. Reports stand
 *   before questions in a batch, and no question overtakes a report that was made before it.
 * - Every batch with n > 0 gets one ANSWER, in order, with one answer a question (n = 0 when it
 *   held reports only). It gives the credit back and says that all batches up to it were applied.
 *   A batch with n = 0 is a bare acknowledgement: no ANSWER, no credit.
 * - What was in flight when the streams broke is sent again in new batches, reports first; so
 *   reports may come twice, and a handle in a report may be long dead: both are harmless.
 * - Holders: a question answered with TRANSLATE makes the asker a holder of both handles. RELEASE
 *   and DROPPED of a handle end that, in batch order. A dataplane that sent one in batch r does not
 *   use an answer to an earlier batch that grants the same handle (it asks again): the grant was
 *   taken back by the report before the answer was seen.
 * - ACTIVE or DROPPED answers every EXPIRE, but a reply may be lost (report queue full): the table
 *   asks again when it got none for one lease.
 * - Fragments (RFC 4787 REQ-14, RFC 6864 section 5.3.1): the table remembers a datagram's FIRST for
 *   one fragment timeout, and tells its ports and identification to whoever asks LATER. Who asked
 *   before the FIRST came hears that it is unknown, and then a FRAGMENTS notice. FIRST asked twice
 *   is answered the same (U4). None of this makes a holder or is committed: a restart, a flush or a
 *   notice that found no room costs a datagram, never more, and never orders a flush.
 * - A welcome without flush continues: its sequence is the hello's, and messages behind it are sent
 *   (again). A dataplane flushes whenever the two differ, whatever the welcome says.
 */
#ifndef WIRE_WIRE_H
#define WIRE_WIRE_H

#include "common/nat/types.h"
#include "common/nat/reason.h"

enum {
	WIRE_VERSION = 1,
	WIRE_BATCH_MAX = 1024,       /* entries of a message; the service may grant less */
	WIRE_INFLIGHT_MAX = 256,     /* unanswered batches of a dataplane */
	WIRE_MESSAGE_MAX = 256 << 10, /* bytes; gRPC refuses more */
	WIRE_PREFIXES_MAX = 1024,
	WIRE_PROTOCOLS_MAX = 8, /* DCCP, GRE, ESP, SCTP, UDP-Lite */
	WIRE_NAME_MAX = 64,
	WIRE_DATAPLANES_MAX = 64, /* a holder mask has 64 bits */
};

/* From a dataplane. Wire values; never renumber. */
enum wire_op {
	WIRE_RESOLVE_OUT = 1, /* packet from an inside realm: find or create */
	WIRE_RESOLVE_IN = 2,  /* packet from the outside: find, or create where a filter allows */
	WIRE_PEEK = 3,        /* translate an ICMP error: never creates, holds or refreshes */
	WIRE_FRAGMENT_FIRST = 4, /* this tuple is that datagram's: remember, and give it a number */
	WIRE_FLAGS = 5,       /* TCP flags newly seen age_ms ago: handle, tcp_flags, direction */
	WIRE_RELEASE = 6,     /* the cache evicted the session, last seen age_ms ago */
	WIRE_ACTIVE = 7,      /* answer to EXPIRE: still used, age_ms ago; I keep it */
	WIRE_DROPPED = 8,     /* answer to EXPIRE: idle for age_ms, not in my flow table any more */
	WIRE_FRAGMENT_LATER = 9, /* which tuple is this datagram's? */
	WIRE_FRAGMENT_WHOLE = 10, /* an identification for a datagram that the asker cuts itself */
};

/* A question that makes the asker a holder. */
static inline bool wire_op_grants(unsigned op)
{
	return op == WIRE_RESOLVE_OUT || op == WIRE_RESOLVE_IN;
}

static inline bool wire_op_is_fragment(unsigned op)
{
	return op == WIRE_FRAGMENT_FIRST || op == WIRE_FRAGMENT_LATER || op == WIRE_FRAGMENT_WHOLE;
}

/* Whether an operation gets an answer entry (the others are only reports). */
static inline bool wire_op_is_question(unsigned op)
{
	return wire_op_grants(op) || op == WIRE_PEEK || wire_op_is_fragment(op);
}

struct wire_request {
	struct nat_tuple tuple; /* questions: as the packet looks in its realm, FRAGMENT_LATER
				   with ports 0. Reports: unused */
	uint64_t handle;        /* reports: the session meant */
	uint32_t age_ms;        /* reports: since the packet meant (FLAGS: the one with the flags, the
				   others: the last that refreshes); UINT32_MAX: none known */
	uint8_t op;             /* enum wire_op */
	uint8_t tcp_flags;      /* RESOLVE_*: of the packet, of an ICMP reply ACK: it answers;
				   FLAGS: newly seen */
	uint8_t direction;      /* FLAGS: enum nat_direction they were seen in */
	uint8_t zero;
	uint16_t identification; /* FRAGMENT_*: of the IP header as it came, a number */
	uint8_t zeros[6];
};

/* One message from a dataplane on the data stream. */
struct wire_batch {
	uint64_t sequence;     /* of this incarnation, from 1; the answer repeats it */
	uint64_t acknowledged; /* see above */
	uint32_t n;
	struct wire_request *entries; /* owned by whoever made the batch */
};

/*
 * The answer to one question. TRANSLATE installs a pair of flow entries: the tuple with "rewrite",
 * and its reverse (nat_reverse_tuple, nat_reverse_rewrite) - except to a PEEK, which installs
 * nothing: its tuple is that of a packet that travels like the ICMP error (the reverse of what the
 * error quotes), and both the error and its quote are rewritten from the answer.
 *
 * To FRAGMENT_*: TRANSLATE with the datagram's own tuple as "rewrite" and the identification that
 * it has to leave with; it installs nothing. A LATER whose FIRST did not come is a DROP for
 * FRAGMENT_UNKNOWN; a FRAGMENTS notice follows if the FIRST does come.
 */
struct wire_answer {
	struct nat_rewrite rewrite;
	uint64_t handle;      /* session of the tuple's sender; 0 unless TRANSLATE */
	uint64_t peer_handle; /* session of the reverse tuple's sender: differs when hairpinned */
	uint32_t ttl_ms;      /* 0 = as long as the session; otherwise absolute from receipt */
	uint8_t verdict;      /* enum nat_verdict */
	uint8_t reason;       /* enum nat_reason */
	uint8_t direction;    /* of the tuple: enum nat_direction */
	uint8_t zero;
	uint16_t identification; /* to FRAGMENT_*: to send it with */
	uint8_t zeros[6];
};

/*
 * INVALIDATE and EXPIRE name a session; handle 0 takes away a negative answer instead. FRAGMENTS
 * names a datagram: its tuple as the first fragment has it, and its two identifications.
 */
struct wire_notice {
	struct nat_tuple tuple; /* of the session's outbound packets, in its inside realm;
				   handle 0: {destination, destination_port, protocol} of the
				   external endpoint that now has a mapping */
	uint64_t handle;
	uint32_t idle_ms; /* EXPIRE: active means seen less than idle_ms ago */
	uint8_t reason;   /* INVALIDATE: enum nat_reason of why, NONE for "ended" */
	uint8_t inbound_refreshes; /* EXPIRE: packets from the outside count as activity too */
	uint8_t zero[2];
	uint16_t identification;     /* FRAGMENTS: as it came */
	uint16_t new_identification; /* FRAGMENTS: to send it with */
	uint8_t zeros[4];
};

/* From the table. Wire values; never renumber. */
enum wire_kind {
	WIRE_ANSWER = 1,
	WIRE_INVALIDATE = 2,
	WIRE_EXPIRE = 3,
	WIRE_UPDATE = 4, /* reserved: answers nobody asked for (warming) */
	WIRE_FLUSH = 5,  /* drop every entry, then acknowledge */
	WIRE_FRAGMENTS = 6, /* datagrams' first fragments that were asked for before they came */
};

struct wire_message {
	uint64_t epoch;            /* of the table; a dataplane ignores an older one */
	uint64_t sequence;         /* from 1 in an attachment */
	uint64_t request_sequence; /* ANSWER: the batch answered */
	uint8_t kind;              /* enum wire_kind */
	uint32_t n;
	/* ANSWER: one for each question of the batch, in its order, reports left out. */
	struct wire_answer *answers;
	struct wire_notice *notices; /* INVALIDATE, EXPIRE, FRAGMENTS */
};

/* ---- the control stream ---- */

struct wire_hello {
	uint32_t version_min, version_max;
	uint64_t features;       /* none yet */
	uint64_t incarnation[2]; /* random at the process's start; names the attachment */
	char name[WIRE_NAME_MAX];
	uint64_t epoch, sequence; /* highest seen from the table; 0, 0 = holds nothing */
	uint32_t flow_capacity;   /* pairs */
};

struct wire_welcome {
	uint32_t version;
	uint64_t epoch;
	uint32_t dataplane; /* its bit in the holder masks */
	uint32_t lease_ms, heartbeat_ms, grace_ms;
	uint32_t batch_max, inflight_max; /* credits */
	bool flush;    /* drop everything held before using any answer of this attachment */
	bool draining; /* an operator drains this dataplane */
	uint64_t sequence; /* the data stream goes on after this number */
};

/* What a dataplane tells about itself, for conatctl and the service's metrics. */
struct wire_stats {
	uint64_t flows;  /* pairs held */
	uint64_t hits, misses, drops; /* packets, since start */
	uint64_t packets, bytes;
};

struct wire_heartbeat {
	uint64_t sent_ms; /* the dataplane's own clock; the service only echoes it */
	uint64_t acknowledged;
	struct wire_stats stats;
};

/*
 * renewed = false: the acknowledgement is older than one lease, or the attachment is lost (its
 * fence is over, it must attach again); the lease is not extended.
 */
struct wire_heartbeat_ack {
	uint64_t epoch;
	uint64_t sent_ms;
	bool renewed;
	bool draining;
};

enum wire_prefix_kind {
	WIRE_PREFIX_INSIDE = 1, /* subscribers of "realm" */
	WIRE_PREFIX_POOL = 2,   /* external addresses */
	WIRE_PREFIX_BYPASS = 3, /* destinations that are not translated (RFC 6888 REQ-6) */
	WIRE_PREFIX_IDENTITY = 4, /* hosts of "realm" that keep their own addresses outside */
	WIRE_PREFIX_LAST = WIRE_PREFIX_IDENTITY,
};

struct wire_prefix {
	nat_be32 address;
	uint8_t length; /* 0..32 */
	uint8_t realm;
	uint8_t kind; /* enum wire_prefix_kind */
	uint8_t zero;
};

/* Of wire_config.mss_clamp; other values are the largest MSS (RFC 9293 section 3.7.1) that passes. */
enum { WIRE_MSS_OFF = 0, WIRE_MSS_AUTO = 1, WIRE_MSS_MIN = 536, WIRE_MSS_MAX = 65495 };

/* Pushed after the welcome and whenever it changes. */
struct wire_config {
	uint64_t generation;
	uint32_t pending_timeout_ms;  /* a parked packet's deadline */
	uint32_t pending_packets;     /* parked in all */
	uint32_t pending_per_flow;    /* parked for one flow */
	uint32_t fragment_timeout_ms; /* RFC 6146: at least 2 s */
	uint32_t icmp_errors_per_second;
	uint16_t mss_clamp;
	bool no_icmp_outside; /* RFC 5508 REQ-9: make no ICMP errors towards the outside */
	uint32_t n_protocols;
	uint8_t protocols[WIRE_PROTOCOLS_MAX]; /* translated by address; any pool's, any 1:1's */
	uint32_t n_prefixes;
	struct wire_prefix prefixes[WIRE_PREFIXES_MAX];
};

#endif
