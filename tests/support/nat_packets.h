/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets for tests of the core, made and summed here byte by byte, sharing no code with it.
 */
#ifndef SUPPORT_NAT_PACKETS_H
#define SUPPORT_NAT_PACKETS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "common/base/random.h"
#include "common/nat/types.h"

struct test_packet {
	uint8_t data[512];
	uint32_t length;
	uint32_t header; /* of IPv4 */
};

static inline void test_put16(uint8_t *at, unsigned value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static inline unsigned test_get16(const uint8_t *at)
{
	return at[0] << 8 | at[1];
}

/* RFC 1071, the slow way. */
static inline unsigned test_sum(unsigned sum, const uint8_t *data, uint32_t length)
{
	for (uint32_t i = 0; i < length; i++) {
		sum += i % 2 ? data[i] : (unsigned)data[i] << 8;
		if (sum > 0xffff)
			sum -= 0xffff;
	}
	return sum;
}

static inline unsigned test_pseudo(const uint8_t *ip, uint32_t size)
{
	uint8_t length[4] = {0, ip[9], (uint8_t)(size >> 8), (uint8_t)size};
	return test_sum(test_sum(0, ip + 12, 8), length, 4);
}

static inline uint32_t test_checksum_at(uint8_t protocol)
{
	return protocol == NAT_TCP ? 16 : protocol == NAT_ICMP ? 2 : 6;
}

/* GRE, ESP, SCTP: what sums they have we do not know, nor does a translator. */
static inline bool test_has_checksum(uint8_t protocol)
{
	return protocol == NAT_TCP || protocol == NAT_UDP || protocol == NAT_ICMP ||
	       protocol == NAT_DCCP || protocol == NAT_UDPLITE;
}

/* How much of a transport packet its sum covers (RFC 3828 section 3.1, RFC 4340 section 9.2). */
static inline uint32_t test_coverage(const uint8_t *ip, const uint8_t *t, uint32_t size)
{
	uint32_t covered = size;

	if (ip[9] == NAT_UDPLITE)
		covered = (uint32_t)t[4] << 8 | t[5];
	if (ip[9] == NAT_DCCP && t[5] & 15)
		covered = t[4] * 4u + ((t[5] & 15u) - 1) * 4u;
	return covered == 0 || covered > size ? size : covered;
}

/* Fills in both checksums of the whole packet at ip. */
static inline void test_fill(uint8_t *ip, uint32_t length)
{
	uint32_t header = (ip[0] & 15u) * 4;
	uint8_t *t = ip + header, *at = t + test_checksum_at(ip[9]);
	uint32_t size = length - header;

	test_put16(ip + 10, 0);
	test_put16(ip + 10, 0xffff - test_sum(0, ip, header));
	if (!test_has_checksum(ip[9]))
		return;
	test_put16(at, 0);
	unsigned sum = 0xffff - test_sum(ip[9] == NAT_ICMP ? 0 : test_pseudo(ip, size), t,
					 test_coverage(ip, t, size));
	test_put16(at, sum == 0 && (ip[9] == NAT_UDP || ip[9] == NAT_UDPLITE) ? 0xffff : sum);
}

static inline bool test_ip_valid(const uint8_t *ip)
{
	return test_sum(0, ip, (ip[0] & 15u) * 4) == 0xffff;
}

static inline bool test_transport_valid(const uint8_t *ip, uint32_t length)
{
	uint32_t header = (ip[0] & 15u) * 4, size = length - header;
	return !test_has_checksum(ip[9]) ||
	       test_sum(ip[9] == NAT_ICMP ? 0 : test_pseudo(ip, size), ip + header,
			test_coverage(ip, ip + header, size)) == 0xffff;
}

/* An IPv4 packet around "size" bytes that the caller writes at data + header. */
static inline struct test_packet test_ip(uint32_t source, uint32_t destination, uint8_t protocol,
					 uint32_t options, uint32_t size)
{
	struct test_packet p = {.header = 20 + options, .length = 20 + options + size};

	p.data[0] = (uint8_t)(0x40 | p.header / 4);
	p.data[1] = 0xb9; /* TOS and ECN survive */
	test_put16(p.data + 2, p.length);
	test_put16(p.data + 4, 0x1234);
	test_put16(p.data + 6, 0x4000);
	p.data[8] = 64;
	p.data[9] = protocol;
	memset(p.data + 20, 1, options); /* no-operation */
	for (unsigned i = 0; i < 4; i++) {
		p.data[12 + i] = (uint8_t)(source >> (24 - 8 * i));
		p.data[16 + i] = (uint8_t)(destination >> (24 - 8 * i));
	}
	return p;
}

/* Bytes of the transport header, GRE's and ESP's with four or none that mean nothing here. */
static inline uint32_t test_header(uint8_t protocol)
{
	return protocol == NAT_TCP				? 20
	       : protocol == NAT_DCCP || protocol == NAT_SCTP ? 12
							      : 8;
}

/* TCP, UDP: ports; ICMP: type and identifier. Payload from the random source; checksums right. */
static inline struct test_packet test_transport(uint32_t source, uint32_t destination,
						uint8_t protocol, uint32_t options, unsigned a,
						unsigned b, uint32_t payload,
						struct random_source *random)
{
	uint32_t size = test_header(protocol) + payload;
	struct test_packet p = test_ip(source, destination, protocol, options, size);
	uint8_t *t = p.data + p.header;

	for (uint32_t i = 0; i < size; i++)
		t[i] = (uint8_t)(random ? random->next(random->context) : i * 7);
	if (protocol == NAT_ICMP) {
		t[0] = (uint8_t)a;
		t[1] = 0;
		test_put16(t + 4, b);
	} else {
		test_put16(t, a);
		test_put16(t + 2, b);
	}
	if (protocol == NAT_UDP)
		test_put16(t + 4, size);
	if (protocol == NAT_UDPLITE)
		test_put16(t + 4, a % 3 == 0 ? 0 : a % 3 == 1 ? 8 : 8 + payload / 2);
	if (protocol == NAT_DCCP) { /* DCCP-Request, short sequence numbers' header, coverage */
		t[4] = 3;
		t[5] = (uint8_t)(a % 3 == 0 ? 0 : a % 3);
	}
	if (protocol == NAT_TCP)
		t[12] = 5 << 4;
	test_fill(p.data, p.length);
	return p;
}

/* An ICMP error that quotes the first "quoted" bytes of "inner", then "extra" bytes. */
static inline struct test_packet test_error(uint32_t source, uint32_t destination, uint8_t type,
					    uint32_t options, const struct test_packet *inner,
					    uint32_t quoted, uint32_t extra)
{
	struct test_packet p = test_ip(source, destination, NAT_ICMP, options, 8 + quoted + extra);
	uint8_t *t = p.data + p.header;

	memset(t, 0, 8);
	t[0] = type;
	test_put16(t + 6, type == 3 ? 1400 : 0);
	memcpy(t + 8, inner->data, quoted);
	memset(t + 8 + quoted, 0x20, extra);
	test_fill(p.data, p.length);
	return p;
}

#endif
