/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A parsed packet, where the fields lie in the headers, and the kinds of ICMP messages.
 */
#ifndef NAT_PACKET_H
#define NAT_PACKET_H

#include "types.h"

/* Offsets in the headers. (linux/icmp.h does not compile for BPF, and the others are not needed.)
 */
enum {
	NAT_IP_TOTAL = 2,
	NAT_IP_ID = 4,
	NAT_IP_FRAGMENT = 6,
	NAT_IP_TTL = 8,
	NAT_IP_PROTOCOL = 9,
	NAT_IP_CHECKSUM = 10,
	NAT_IP_SOURCE = 12,
	NAT_IP_DESTINATION = 16,
	NAT_IP_HEADER = 20,
	NAT_PORT_SOURCE = 0, /* TCP, UDP */
	NAT_PORT_DESTINATION = 2,
	NAT_TCP_OFFSET = 12,
	NAT_TCP_FLAGS = 13,
	NAT_TCP_CHECKSUM = 16,
	NAT_TCP_HEADER = 20,
	NAT_UDP_LENGTH = 4,
	NAT_UDP_CHECKSUM = 6,
	NAT_UDP_HEADER = 8,
	NAT_ICMP_TYPE = 0,
	NAT_ICMP_CODE = 1,
	NAT_ICMP_CHECKSUM = 2,
	NAT_ICMP_ID = 4,
	NAT_ICMP_SEQUENCE = 6,
	NAT_ICMP_HEADER = 8,
	NAT_UDPLITE_CHECKSUM = 6, /* RFC 3828: covers the pseudo header whatever its coverage is */
	NAT_UDPLITE_HEADER = 8,
	NAT_DCCP_CHECKSUM = 6, /* RFC 4340 section 9.1: covers the pseudo header too */
	NAT_DCCP_HEADER = 12,
	NAT_SCTP_HEADER = 12, /* RFC 9260: CRC32c of the packet alone, no address in it */
	NAT_GRE_HEADER = 4,   /* RFC 2784: the checksum covers header and payload alone */
	NAT_ESP_HEADER = 8,   /* RFC 4303: so does the integrity check */
};

enum nat_kind {
	NAT_KIND_NONE = 0, /* not parsed */
	NAT_KIND_TCP,
	NAT_KIND_UDP,
	NAT_KIND_QUERY,    /* ICMP echo, timestamp (RFC 5508 section 3) */
	NAT_KIND_ERROR,    /* ICMP 3, 11, 12, with a usable quote */
	NAT_KIND_FRAGMENT, /* not a datagram's first: the tuple's ports are 0 */
	/* by address only: the tuple's ports are 0 */
	NAT_KIND_OTHER, /* no checksum covers an address: GRE, ESP, SCTP, and what we do not know */
	NAT_KIND_UDPLITE,
	NAT_KIND_DCCP,
};

enum nat_packet_flag {
	NAT_PACKET_OPTIONS = 0x01,  /* IPv4 options */
	NAT_PACKET_FRAGMENT = 0x02, /* any fragment, the first too */
	NAT_PACKET_MORE = 0x04,     /* more fragments follow */
	NAT_PACKET_DF = 0x08,
	NAT_PACKET_ERROR = 0x10, /* ICMP error */
	NAT_PACKET_TTL = 0x20,   /* TTL is 0 or 1 */
	/* none of these: plain, for the hit path (a port that gives TTLs back ignores the last) */
	NAT_PACKET_UNUSUAL =
	    NAT_PACKET_OPTIONS | NAT_PACKET_FRAGMENT | NAT_PACKET_ERROR | NAT_PACKET_TTL,
};

struct nat_packet {
	/*
	 * To look up. Of an ICMP error: the reverse of the quoted packet's tuple, that is the tuple
	 * of a packet that travels like the error; what it becomes is what nat_apply wants.
	 */
	struct nat_tuple tuple;
	uint16_t total; /* the packet's length as its header says; the frame may be longer */
	uint8_t header; /* bytes of IPv4 header */
	uint8_t kind;   /* enum nat_kind */
	uint8_t flags;  /* enum nat_packet_flag */
	uint8_t ttl;
	uint8_t tcp_flags;
	uint8_t icmp_type, icmp_code;
	uint8_t quote_header;     /* NAT_KIND_ERROR: bytes of the quoted IPv4 header */
	uint16_t quote;           /* ... where the quoted packet starts */
	uint16_t quote_transport; /* ... bytes of its transport header and data that are there */
	uint16_t fragment_offset; /* bytes */
	nat_be16 id;              /* IPv4 identification */
};

/*
 * Which messages are translated (RFC 5508 REQ-10, REQ-11). Queries: echo, timestamp. Errors:
 * destination unreachable, time exceeded, parameter problem. Not:
 *   source quench (4)          deprecated, hosts must ignore it; only good for attacks (RFC 6633)
 *   redirect (5)               names a router of the realm that it comes from, and is for hosts on
 *                              that network: behind a NAT it says nothing true (REQ-10b: MAY)
 *   information (15, 16), address mask (17, 18)
 *                              deprecated (RFC 6918); they ask about the sender's own network
 *   router discovery (9, 10) and all others: of one link, or unknown
 */
NAT_INLINE bool nat_icmp_is_request(uint8_t type)
{
	return type == 8 || type == 13;
}

NAT_INLINE bool nat_icmp_is_reply(uint8_t type)
{
	return type == 0 || type == 14;
}

NAT_INLINE bool nat_icmp_is_error(uint8_t type)
{
	return type == 3 || type == 11 || type == 12;
}

/*
 * Never a unicast endpoint of a flow: 0/8, 127/8, 169.254/16 (RFC 3927 section 7), 224/4 and 240/4
 * with the broadcast address (RFC 1812 section 5.3.7, RFC 6890).
 */
NAT_INLINE bool nat_address_unusable(nat_be32 address)
{
	uint32_t a = nat_swap32(address);

	return a >> 24 == 0 || a >> 24 == 127 || a >> 16 == 0xa9fe || a >= 0xe0000000;
}

#endif
