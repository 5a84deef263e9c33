/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The words that every part of conat speaks: endpoints, tuples, verdicts.
 * Addresses and ports are in network byte order, as they lie in the packet, everywhere but inside
 * the table service's port arithmetic and on the RPC wire (common/wire converts).
 */
#ifndef NAT_TYPES_H
#define NAT_TYPES_H

#include "compat.h"

typedef uint32_t nat_be32; /* network byte order */
typedef uint16_t nat_be16; /* network byte order */

enum nat_protocol {
	NAT_ICMP = 1,
	NAT_TCP = 6,
	NAT_UDP = 17,
	/* by address only, where a pool allows it: both ports of their tuples are 0 */
	NAT_DCCP = 33,
	NAT_GRE = 47,
	NAT_ESP = 50,
	NAT_SCTP = 132,
	NAT_UDPLITE = 136,
};

/* TCP flags as in byte 13 of the header. Only SYN, FIN, RST and ACK mean anything to us. */
enum nat_tcp_flag {
	NAT_TCP_FIN = 0x01,
	NAT_TCP_SYN = 0x02,
	NAT_TCP_RST = 0x04,
	NAT_TCP_PSH = 0x08,
	NAT_TCP_ACK = 0x10,
};

/* Realm 0 is the outside. Inside realms are numbered from 1 by the service's configuration. */
enum { NAT_REALM_OUTSIDE = 0, NAT_REALM_INSIDE = 1, NAT_REALM_MAX = 255 };

enum nat_direction { NAT_OUTBOUND = 0, NAT_INBOUND = 1 };

/* An address and a port; for ICMP queries the port is the identifier (RFC 5508 section 3.1). */
struct nat_endpoint {
	nat_be32 address;
	nat_be16 port;
	uint16_t zero;
};

/*
 * What a packet looks like in the realm where it arrived; the key of the flow table, compared as
 * two 64-bit words: "zero" must be zero. ICMP queries: a request (echo, timestamp) has its
 * identifier in source_port and destination_port 0; a reply has source_port 0 and the identifier
 * in destination_port; so the reply's tuple is the reverse of the request's, as for UDP.
 */
struct nat_tuple {
	nat_be32 source;
	nat_be32 destination;
	nat_be16 source_port;
	nat_be16 destination_port;
	uint8_t protocol;
	uint8_t realm;
	uint16_t zero;
} __attribute__((aligned(8)));
_Static_assert(sizeof(struct nat_tuple) == 16, "two 64-bit words");

/* What a tuple becomes: the new endpoints, and the realm that the packet leaves into. */
struct nat_rewrite {
	nat_be32 source;
	nat_be32 destination;
	nat_be16 source_port;
	nat_be16 destination_port;
	uint8_t egress; /* realm */
	uint8_t zero[3];
};
_Static_assert(sizeof(struct nat_rewrite) == 16, "packed into the slot by hand");

/* A packet's fate. Wire values; never renumber. */
enum nat_verdict {
	NAT_TRANSLATE = 1, /* apply the rewrite */
	NAT_PASS = 2,      /* bypass: forward untranslated (RFC 6888 REQ-6) */
	NAT_DROP = 3,      /* silently */
	NAT_REJECT = 4,    /* with the ICMP error that the reason implies */
};

/* The reverse of t after r: the tuple of the answering packet, in the realm r leads to. */
NAT_INLINE struct nat_tuple nat_reverse_tuple(const struct nat_tuple *t, const struct nat_rewrite *r)
{
	struct nat_tuple reverse = {
	    .source = r->destination,
	    .destination = r->source,
	    .source_port = r->destination_port,
	    .destination_port = r->source_port,
	    .protocol = t->protocol,
	    .realm = r->egress,
	};
	return reverse;
}

/* What the answering packet becomes: it goes back to t's sender, from whom t was sent to. */
NAT_INLINE struct nat_rewrite nat_reverse_rewrite(const struct nat_tuple *t)
{
	struct nat_rewrite reverse = {
	    .source = t->destination,
	    .destination = t->source,
	    .source_port = t->destination_port,
	    .destination_port = t->source_port,
	    .egress = t->realm,
	};
	return reverse;
}

/* Translated by address only, one subscriber at a time per external address and protocol. */
NAT_INLINE bool nat_protocol_by_address(uint8_t protocol)
{
	return protocol == NAT_DCCP || protocol == NAT_GRE || protocol == NAT_ESP ||
	       protocol == NAT_SCTP || protocol == NAT_UDPLITE;
}

NAT_INLINE bool nat_protocol_by_port(uint8_t protocol)
{
	return protocol == NAT_UDP || protocol == NAT_TCP || protocol == NAT_ICMP;
}

#ifndef __bpf__
/* As people write it, or NULL. */
static inline const char *nat_protocol_name(unsigned protocol)
{
	switch (protocol) {
	case NAT_ICMP:
		return "icmp";
	case NAT_TCP:
		return "tcp";
	case NAT_UDP:
		return "udp";
	case NAT_DCCP:
		return "dccp";
	case NAT_GRE:
		return "gre";
	case NAT_ESP:
		return "esp";
	case NAT_SCTP:
		return "sctp";
	case NAT_UDPLITE:
		return "udplite";
	}
	return NULL;
}
#endif

NAT_INLINE bool nat_tuple_equal(const struct nat_tuple *a, const struct nat_tuple *b)
{
	return a->source == b->source && a->destination == b->destination &&
	       a->source_port == b->source_port && a->destination_port == b->destination_port &&
	       a->protocol == b->protocol && a->realm == b->realm;
}

#endif
