/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The maximum segment size that a TCP SYN offers (RFC 9293 section 3.7.1), lowered where the
 * configuration says so ("MSS clamping"). Header-only, for user space and BPF.
 */
#ifndef NAT_MSS_H
#define NAT_MSS_H

#include "csum.h"
#include "packet.h"

enum {
	NAT_TCP_OPTION_END = 0,
	NAT_TCP_OPTION_NOP = 1,
	NAT_TCP_OPTION_MSS = 2,
	NAT_TCP_OPTION_MSS_LENGTH = 4,
	NAT_TCP_OPTIONS_MAX = 40,
};

/*
 * Lowers the MSS option of the TCP header at t to at most limit (host byte order) and returns true
 * when that changed it. Never raises one, never adds one: a host that says nothing means 536. What
 * is malformed stays as it is, and so does what lies behind the options' end. A partial checksum
 * (offload) does not cover the options yet.
 */
NAT_INLINE bool nat_mss_clamp(uint8_t *t, const uint8_t *end, uint16_t limit, bool partial)
{
	if (t + NAT_TCP_HEADER > end)
		return false;
	uint32_t header = (t[NAT_TCP_OFFSET] >> 4) * 4u;
	uint32_t at = NAT_TCP_HEADER;

	/* Each turn passes a byte at least. The masks are for BPF's verifier: at is below 64. */
	for (unsigned turn = 0; turn < NAT_TCP_OPTIONS_MAX; turn++) {
		uint8_t *option = t + (at & 63);
		if (at + 1 >= header || option + 2 > end || option[0] == NAT_TCP_OPTION_END)
			return false;
		if (option[0] == NAT_TCP_OPTION_NOP) {
			at++;
			continue;
		}
		uint32_t length = option[1];
		if (length < 2 || at + length > header)
			return false;
		if (option[0] != NAT_TCP_OPTION_MSS) {
			at += length;
			continue;
		}
		if (length != NAT_TCP_OPTION_MSS_LENGTH || option + 4 > end)
			return false;
		nat_be16 old = nat_get16(option + 2), new = nat_swap16(limit);
		if (nat_swap16(old) <= limit)
			return false;
		nat_put16(option + 2, new);
		if (partial)
			return true;
		/* At an odd place its two bytes are halves of two words of the sum. */
		uint16_t delta = at & 1
				     ? nat_csum_delta16(0, nat_swap16(old), nat_swap16(new))
				     : nat_csum_delta16(0, old, new);
		nat_put16(t + NAT_TCP_CHECKSUM,
			  nat_csum_apply(nat_get16(t + NAT_TCP_CHECKSUM), delta));
		return true;
	}
	return false;
}

#endif
