/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets written as a line of text, for tests. All checksums are computed in full here, with code
 * of its own, so that a mistake in common/nat cannot hide itself.
 *
 *   udp 10.0.0.2:4000 > 8.8.8.8:53 ttl=3 data=hello
 *   tcp 10.0.0.2:4000 > 8.8.8.8:80 flags=SA len=100 sum=bad
 *   ping 10.0.0.2 > 8.8.8.8 id=5 seq=9          (pong: the reply; icmp: any type, code, rest)
 *   icmp 8.8.8.1 > 192.0.2.1 type=3 code=4 rest=1400 { udp ... cut=28 } tail=00112233
 *   ip 10.0.0.2 > 8.8.8.8 proto=47 len=20
 *   udplite 10.0.0.2:4000 > 8.8.8.8:53 len=40 cov=20     (cov: covered bytes; 0, all, if left out)
 *   dccp 10.0.0.2:4000 > 8.8.8.8:53 len=40 cov=2         (cov: CsCov of RFC 4340 section 9.2)
 *   sctp 10.0.0.2:4000 > 8.8.8.8:53 len=40               gre, esp: len= is the whole of it
 *
 * IP: ttl tos ipid df mf opts=BYTES (of NOP) iopt=HEX version ipsum=bad iplen=N
 * transport: len=N (a pattern) zeros=N data=WORD flags seq ack win urg tcpopts=BYTES (of NOP) topt=HEX
 *        sum=bad|0|HEX udplen=N
 * whole: frag=BEGIN-END (those payload bytes of the datagram that the rest describes; df mf follow)
 *        cut=N (the first N bytes, headers unchanged) pad=N (bytes behind the packet)
 * offload: partial gso=N
 */
#ifndef SUPPORT_PACKET_TEXT_H
#define SUPPORT_PACKET_TEXT_H

#include <stdbool.h>
#include <stdint.h>
#include "common/nat/types.h"

enum { TEST_PACKET_ROOM = 70000 };

struct test_packet {
	uint32_t length;
	uint16_t gso_size;
	bool partial_checksum;
	uint8_t bytes[TEST_PACKET_ROOM];
};

/* True, or false and a sentence in error. Text ends at the end of the line. */
bool packet_build(const char *text, struct test_packet *out, char *error, unsigned error_size);

/* "10.0.0.1" or "10.0.0.1:80" at *text, which moves behind it. */
bool endpoint_parse(const char **text, struct nat_endpoint *out);

/* The checksum of n bytes (RFC 1071), written independently of common/nat. */
uint16_t reference_checksum(const uint8_t *bytes, uint32_t n, uint32_t start);

/* Whether all checksums of an unfragmented packet are right (a UDP checksum of 0 is). */
bool packet_checksums_right(const uint8_t *ip, uint32_t length);

#endif
