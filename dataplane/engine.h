/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine: THE path of a packet. It knows packets and no policy: a tuple becomes what the flow
 * table says; whatever is not a plain hit is handed to the slow path of the owner thread, which may
 * ask the table service through a function pointer.
 *
 *   engine_process (any worker)   parse -> flow table -> rewrite         ENGINE_OUT, _DROP, _SLOW
 *   engine_slow    (owner thread) fragments, ICMP errors, misses -> ask  ENGINE_OUT, _DROP, _KEPT
 *   engine_translate (owner)      a parked packet with its answer        ENGINE_OUT, _DROP, _KEPT
 *
 * Packets are IPv4 from the first header byte on, in buffers of the port's. Neither function
 * allocates. engine_process may run on many threads at once; each has its own engine_worker.
 */
#ifndef DATAPLANE_ENGINE_H
#define DATAPLANE_ENGINE_H

#include "common/base/clock.h"
#include "common/wire/wire.h"
#include "dataplane/flowtable.h"

enum engine_fate {
	ENGINE_OUT = 1,  /* forward data[0..length) into realm "egress" */
	ENGINE_DROP = 2, /* reason says why; an ICMP error went to the sender through owner.emit */
	ENGINE_SLOW = 3, /* give a copy to the owner thread */
	ENGINE_KEPT = 4, /* parked or absorbed by the slow path; the buffer is the caller's again */
};

struct engine_packet {
	uint8_t *data;     /* IPv4 header; writable */
	uint32_t length;   /* bytes at data */
	uint32_t room;     /* bytes that data may grow to */
	uint8_t ingress;   /* realm it arrived from */
	bool partial_checksum; /* TCP/UDP checksum holds only the pseudo header's sum (offload) */
	uint16_t gso_size;     /* > 0: a super-packet of segments of this payload size */
	bool own; /* made here: its source is an address of this host (engine_config) */
	bool identified;       /* the engine's: its identification may be used for fragments */
	uint64_t datagram;     /* the engine's: others of its datagram wait for its flow */
	/* out */
	uint8_t fate;   /* enum engine_fate */
	uint8_t reason; /* enum nat_reason, with ENGINE_DROP */
	uint8_t egress; /* realm, with ENGINE_OUT */
	uint8_t tcp_flags_new; /* not 0: flags to report (port_env.flags, cache_report_flags) */
	struct nat_tuple tuple; /* valid with tcp_flags_new: the packet's as it arrived */
};

/*
 * How the port treats the TTL. DECREMENT: the engine is the one hop (RFC 1812 5.3.1), TTL 1 or less
 * gets time exceeded. RESTORE: the kernel decrements before it hands the packet over and again when
 * it forwards the result (TUN), so the engine gives one back and the cluster is one hop.
 */
enum engine_ttl { ENGINE_TTL_DECREMENT, ENGINE_TTL_RESTORE };

/* What the slow path wants from the owner; all are called on the owner thread. */
struct engine_owner {
	void *context;
	/*
	 * Not in the flow table: ask the service and park a copy of the packet; later the owner
	 * calls engine_translate with the copy. op: RESOLVE_OUT, RESOLVE_IN, or PEEK, for an ICMP
	 * error: then tuple is that of a packet that would travel like the error, the reverse of
	 * the packet that it quotes (the tuple of the quoted packet's answer). 0, or a nat_reason
	 * why it was not parked.
	 */
	unsigned (*ask)(void *context, unsigned op, const struct nat_tuple *tuple,
			uint8_t tcp_flags, const struct engine_packet *packet,
			struct monotime now);
	/*
	 * About a datagram's fragments (enum wire_op FRAGMENT_*): to be asked, with what is waiting
	 * left here. The answer, or that none came in time, goes to engine_fragment_answer with the
	 * same datagram; 0: nobody waits for it. 0, or a nat_reason why it is not asked. NULL: there
	 * is nobody to ask.
	 */
	unsigned (*ask_fragment)(void *context, unsigned op, const struct nat_tuple *tuple,
				 uint16_t identification, uint64_t datagram, struct monotime now);
	/* Sends a packet that the engine made or completed (ICMP error, released fragment). */
	void (*emit)(void *context, const struct engine_packet *packet);
};

/* What the engine is told of the world; changed by engine_configure. */
struct engine_config {
	enum engine_ttl ttl;
	nat_be32 icmp_source[NAT_REALM_MAX + 1]; /* source of ICMP errors made for a realm, 0: none */
	uint32_t mtu[NAT_REALM_MAX + 1];         /* egress MTU of a realm, 0 = no limit */
	struct wire_config table;                /* as pushed by the service */
};

enum { ENGINE_WORKERS_MAX = 32 };

struct engine_counters {
	uint64_t packets, bytes, hits, slow;
	uint64_t drops[NAT_REASON_LIMIT];
	uint64_t icmp_sent, icmp_limited, fragments;
	uint64_t fragments_asked; /* questions to the table about datagrams */
	uint64_t numbered_alone;  /* identifications that no table gave */
};

struct engine;
struct engine_worker;

/* flows is borrowed and outlives the engine. */
int engine_new(struct flowtable *flows, const struct engine_owner *owner,
	       struct random_source *random, struct engine **out);
void engine_free(struct engine *engine);

/* worker 0 is the owner's own. Counters are per worker; engine_counters sums them, any thread. */
struct engine_worker *engine_worker(struct engine *engine, unsigned worker);
void engine_counters(const struct engine *engine, struct engine_counters *out);

/*
 * Copies config. Readers see the old or the new one whole; the call returns when no worker uses the
 * old one any more. Owner thread.
 */
int engine_configure(struct engine *engine, const struct engine_config *config);

/* Past this (milliseconds of monotime_ms), nothing is translated: lease and grace. Owner thread. */
void engine_set_valid_until(struct engine *engine, struct monotime valid_until);

/*
 * Translates a batch in place; sets fate (OUT, DROP, SLOW) of each. n up to 64 prefetches well.
 * RCU read side: the worker's thread is registered (urcu-qsbr) and passes quiescent states between
 * batches, which is what lets the owner acknowledge an invalidation.
 */
void engine_process(struct engine_worker *worker, struct engine_packet *packets, unsigned n,
		    struct monotime now);

/* The owner's path for one packet that engine_process called SLOW. */
void engine_slow(struct engine *engine, struct engine_packet *packet, struct monotime now);

/*
 * A parked packet and the table's answer for the tuple that was asked. Fate OUT or DROP (REJECT and
 * exhaustion also emit the ICMP error, rate-limited); KEPT when it left in fragments, before others
 * of its datagram, or waits for its identification.
 */
void engine_translate(struct engine *engine, struct engine_packet *packet,
		      const struct wire_answer *answer, struct monotime now);

/*
 * The answer to owner.ask_fragment; any verdict but TRANSLATE: there is none (yet). What it releases
 * goes out through owner.emit, or asks on.
 */
void engine_fragment_answer(struct engine *engine, uint64_t datagram,
			    const struct wire_answer *answer, struct monotime now);
/* The first fragment that a question came too early for. */
void engine_fragment_notice(struct engine *engine, const struct wire_notice *notice,
			    struct monotime now);

/* Time for fragments and rate limits; at most every 100 ms is enough. */
void engine_tick(struct engine *engine, struct monotime now);

#endif
