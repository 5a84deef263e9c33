/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Internet checksums (RFC 1071) and their incremental update (RFC 1624, equation 3). All words are
 * as they lie in the packet; the one's complement sum does not care about byte order. The packet
 * path only ever updates: a checksum that was wrong stays wrong by the same amount, so corruption
 * is never laundered. The full sums are for checking and for packets that we make.
 */
#ifndef NAT_CSUM_H
#define NAT_CSUM_H

#include "types.h"

NAT_INLINE uint16_t nat_csum_fold(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* Adds "old becomes new" to a delta; deltas add up, and 0 is "nothing changed". */
NAT_INLINE uint16_t nat_csum_delta16(uint16_t delta, uint16_t old, uint16_t new)
{
	return nat_csum_fold((uint32_t)delta + (uint16_t)~old + new);
}

NAT_INLINE uint16_t nat_csum_delta32(uint16_t delta, uint32_t old, uint32_t new)
{
	return nat_csum_fold((uint32_t)delta + (uint16_t)~old + (uint16_t) ~(old >> 16) +
			     (new & 0xffff) + (new >> 16));
}

NAT_INLINE uint16_t nat_csum_add(uint16_t a, uint16_t b)
{
	return nat_csum_fold((uint32_t)a + b);
}

/* The new checksum of a packet that changed by delta. RFC 1624: HC' = ~(~HC + ~m + m'). */
NAT_INLINE uint16_t nat_csum_apply(uint16_t checksum, uint16_t delta)
{
	return (uint16_t)~nat_csum_fold((uint32_t)(uint16_t)~checksum + delta);
}

/* UDP: 0 says that there is none and stays; a computed 0 is sent as 0xffff (RFC 768). */
NAT_INLINE uint16_t nat_csum_apply_udp(uint16_t checksum, uint16_t delta)
{
	if (checksum == 0)
		return 0;
	checksum = nat_csum_apply(checksum, delta);
	return checksum ? checksum : 0xffff;
}

/*
 * A partial checksum (offload): the field holds the pseudo header's sum, not complemented; whoever
 * completes it adds the ports. So only the addresses' delta belongs to it.
 */
NAT_INLINE uint16_t nat_csum_apply_partial(uint16_t sum, uint16_t address_delta)
{
	return nat_csum_add(sum, address_delta);
}

/* One's complement sum of length bytes at data, folded, on top of sum; not complemented. */
NAT_INLINE uint16_t nat_csum_sum(uint16_t sum, const uint8_t *data, uint32_t length)
{
	uint64_t wide = sum;
	uint32_t at = 0;

	for (; at + 4 <= length; at += 4)
		wide += nat_get32(data + at);
	if (at + 2 <= length) {
		wide += nat_get16(data + at);
		at += 2;
	}
	if (at < length) {
		uint8_t last[2] = {data[at], 0};
		wide += nat_get16(last);
	}
	wide = (wide & 0xffffffff) + (wide >> 32);
	wide = (wide & 0xffffffff) + (wide >> 32);
	return nat_csum_fold((uint32_t)wide);
}

/* The sum of the pseudo header of TCP and UDP; length is the transport's, in host byte order. */
NAT_INLINE uint16_t nat_csum_pseudo(nat_be32 source, nat_be32 destination, uint8_t protocol,
				    uint16_t length)
{
	return nat_csum_fold((source & 0xffff) + (source >> 16) + (destination & 0xffff) +
			     (destination >> 16) + nat_swap16(protocol) + nat_swap16(length));
}

/* Is the IPv4 header, header_length bytes (20 to 60) at ip, as its sender summed it? */
NAT_INLINE bool nat_csum_ip_valid(const uint8_t *ip, uint32_t header_length)
{
	return nat_csum_sum(0, ip, header_length) == 0xffff;
}

/* The checksum to store into a message (IPv4 header, ICMP) whose checksum field is zero. */
NAT_INLINE uint16_t nat_csum_compute(const uint8_t *data, uint32_t length)
{
	return (uint16_t)~nat_csum_sum(0, data, length);
}

/* The same for TCP and UDP (there 0xffff for 0). */
NAT_INLINE uint16_t nat_csum_transport(nat_be32 source, nat_be32 destination, uint8_t protocol,
				       const uint8_t *data, uint16_t length)
{
	uint16_t pseudo = nat_csum_pseudo(source, destination, protocol, length);
	uint16_t checksum = (uint16_t)~nat_csum_sum(pseudo, data, length);

	return protocol == NAT_UDP && checksum == 0 ? 0xffff : checksum;
}

#endif
