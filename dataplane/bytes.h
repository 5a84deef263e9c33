/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Header fields as numbers, off the fast path: for the parts of the engine that make packets or
 * take them to pieces. common/nat/packet.h says where the fields are.
 */
#ifndef DATAPLANE_BYTES_H
#define DATAPLANE_BYTES_H

#include <string.h>
#include "common/nat/csum.h"
#include "common/nat/packet.h"

enum {
	IPV4_TOS = 1,
	IPV4_HEADER_MAX = 60,
	IPV4_TOTAL_MAX = 65535,
	IPV4_DF = 0x4000,
	IPV4_MF = 0x2000,
	IPV4_OFFSET = 0x1fff, /* in units of eight bytes */

	/* RFC 792, RFC 1191 section 4 (next-hop MTU), RFC 1812 section 5.2.7.1 (prohibited) */
	ICMP_UNREACHABLE = 3,
	ICMP_HOST_UNREACHABLE = 1,
	ICMP_TOO_BIG = 4,
	ICMP_PROHIBITED = 13,
	ICMP_TIME_EXCEEDED = 11,
	ICMP_IN_TRANSIT = 0,
	ICMP_MTU = 6,
};

static inline uint16_t number16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline void put_number16(uint8_t *p, uint16_t value)
{
	p[0] = (uint8_t)(value >> 8);
	p[1] = (uint8_t)value;
}

static inline uint32_t ip_header_length(const uint8_t *ip)
{
	return (ip[0] & 0x0fu) * 4u;
}

/* Sets a header's checksum anew: for headers that the engine wrote itself, never for received ones.
 */
static inline void ip_seal(uint8_t *ip)
{
	nat_put16(ip + NAT_IP_CHECKSUM, 0);
	nat_put16(ip + NAT_IP_CHECKSUM, nat_csum_compute(ip, ip_header_length(ip)));
}

#endif
