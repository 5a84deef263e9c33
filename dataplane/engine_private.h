/* SPDX-License-Identifier: Apache-2.0 */
/* What engine.c, engine_slow.c and icmp.c share. Nobody else includes it. */
#ifndef DATAPLANE_ENGINE_PRIVATE_H
#define DATAPLANE_ENGINE_PRIVATE_H

#include <stdalign.h>
#include "common/nat/packet.h"
#include "dataplane/bytes.h"
#include "dataplane/engine.h"
#include "dataplane/fragments.h"
#include "dataplane/prefixes.h"
#include "dataplane/ratelimit.h"

/* The flags that the table wants to know of; others would only cost reports. */
enum { ENGINE_TCP_FLAGS = NAT_TCP_FIN | NAT_TCP_SYN | NAT_TCP_RST | NAT_TCP_ACK };

/* Read by every worker, replaced whole (RCU), never changed. */
struct engine_settings {
	struct engine_config config;
	struct prefixes prefixes;
	bool configured; /* the service has pushed something */
};

struct engine_worker {
	alignas(64) struct engine *engine;
	struct engine_counters counters; /* [W: this worker, relaxed; R: any thread] */
};

struct engine {
	struct flowtable *flows;
	struct engine_settings *settings; /* [W: owner, RCU] */
	int64_t valid_until_ns;		  /* [W: owner, relaxed] */
	struct engine_owner owner;
	struct random_source *random;
	struct fragments *fragments;
	struct ratelimit icmp_limit;
	uint8_t *scratch;  /* 64 KiB: a packet that the engine makes */
	uint8_t *released; /* 64 KiB: a fragment that has waited */
	uint8_t *segment;  /* 64 KiB: one of a super-packet */
	struct engine_worker workers[ENGINE_WORKERS_MAX];
};

/* Counters have one writer each, so that a relaxed store is enough and readers never see halves. */
static inline void count_more(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

static inline void count(uint64_t *counter)
{
	count_more(counter, 1);
}

/* The owner's counters: those of worker 0. */
static inline struct engine_counters *owner_counters(struct engine *engine)
{
	return &engine->workers[0].counters;
}

static inline void drop(struct engine_counters *counters, struct engine_packet *packet,
			unsigned reason)
{
	packet->fate = ENGINE_DROP;
	packet->reason = (uint8_t)reason;
	count(&counters->drops[reason < NAT_REASON_LIMIT ? reason : 0]);
}

/* ---- engine.c, for both paths ---- */

/*
 * The egress realm of a packet that is not ours to translate: to a bypass prefix or back from one
 * (RFC 6888 REQ-6), to or from a host that keeps its own address (identity); PREFIXES_NONE for all
 * others.
 */
int engine_bypass(const struct engine_settings *settings, uint8_t ingress, nat_be32 source,
		  nat_be32 destination);
uint8_t engine_untranslated_egress(const struct engine_settings *settings, nat_be32 destination);

/*
 * Whether a packet of this protocol, or an error about one, is to be translated; others are no
 * business of the table's: NAT_REASON_NONE, or why it is dropped unless it may bypass.
 */
unsigned engine_wanted(const struct engine_settings *settings, const struct nat_packet *parsed);

/* Why a packet without a flow entry is not even asked about, or NAT_REASON_NONE. */
unsigned engine_screen(const struct engine_settings *settings, const struct engine_packet *packet,
		       const struct nat_packet *parsed);

/* Of a TCP SYN that is about to leave: its MSS option follows the configuration. */
void engine_clamp_mss(const struct engine_settings *settings, const struct engine_packet *packet,
		      const struct nat_packet *parsed, uint8_t egress);

/* The flags of nat_apply: TTL and offload. */
unsigned engine_apply_flags(const struct engine_settings *settings,
			    const struct engine_packet *packet);

/* Whether it, or each segment of a super-packet, fits the egress MTU. */
bool engine_fits(const struct engine_settings *settings, const struct engine_packet *packet,
		 const struct nat_packet *parsed, uint8_t egress);

/* ---- engine_slow.c and engine_fragment.c, for each other ---- */

enum engine_resolution {
	ENGINE_RESOLVED,  /* the flow table knew: see the packet's fate */
	ENGINE_ASKED,	  /* parked behind a question: the fate is KEPT */
	ENGINE_NOT_ASKED, /* could not be: the fate is DROP */
};
/* Looks tuple up for the packet; what the flow table does not know, the service is asked. */
enum engine_resolution engine_resolve(struct engine *engine, struct engine_packet *packet,
				      const struct nat_packet *parsed,
				      const struct nat_tuple *tuple, struct monotime now);
void engine_apply_answer(struct engine *engine, struct engine_packet *packet,
			 const struct wire_answer *answer, struct monotime now);
/* The flow table's entry without marking it seen. */
bool engine_peek(const struct engine *engine, const struct nat_tuple *tuple, struct nat_slot *slot);

void engine_slow_fragment(struct engine *engine, struct engine_packet *packet,
			  const struct nat_packet *parsed, struct monotime now);
/* The answer that packet, first of its datagram, has got: others waited for it. */
void engine_fragments_resolved(struct engine *engine, struct engine_packet *packet,
			       const struct wire_answer *answer, struct monotime now);
/*
 * A datagram that is to be cut and that gets a source which others have, too: true when it waits for
 * an identification (fate KEPT), false when it has got one here.
 */
bool engine_number(struct engine *engine, struct engine_packet *packet,
		   const struct nat_packet *parsed, struct monotime now);

/*
 * split.c: emits a packet that may be cut (DF clear) in fragments that fit mtu, first one first
 * (RFC 791 section 3.2, RFC 4787 REQ-13a). False when mtu has no room for eight bytes.
 */
bool engine_split(struct engine *engine, struct engine_packet *packet, uint32_t mtu);

/*
 * segment.c: the same for a super-packet whose segments do not fit mtu: cuts it into them first.
 * False also when its checksum is not partial, so that nobody may make a new one.
 */
bool engine_segment(struct engine *engine, struct engine_packet *packet, uint32_t mtu);

/*
 * icmp.c: makes an ICMP error about a packet as it arrived and emits it to its sender, unless the
 * rules (RFC 1122 3.2.2, RFC 1812 4.3.2.7) or the rate limit forbid it. mtu: of type 3 code 4.
 */
void icmp_error(struct engine *engine, const struct engine_packet *packet, uint8_t type,
		uint8_t code, uint32_t mtu, struct monotime now);

#endif
