/* SPDX-License-Identifier: Apache-2.0 */
/* A SYN whose MSS was lowered is, byte for byte, the SYN that would have been made with that MSS. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "common/nat/mss.h"
#include "tests/support/nat_packets.h"

enum { TCP_AT = 20, OPTIONS_AT = 40 };

static uint64_t state;
static struct random_source source_of_numbers;

static void seed(void)
{
	state = 0x5eed;
	source_of_numbers = random_seeded(&state);
}
TestSuite(mss, .init = seed);

static uint32_t number(uint32_t bound)
{
	return random_below(&source_of_numbers, bound);
}

/* A segment with 40 bytes at most of options, which the caller writes at OPTIONS_AT. */
static struct test_packet segment(uint32_t options, uint32_t payload)
{
	struct test_packet p = test_transport(0x0a000001, 0xc6336401, NAT_TCP, 0, 5000, 443,
					      options + payload, &source_of_numbers);
	p.data[TCP_AT + 12] = (uint8_t)((20 + options) / 4 << 4);
	p.data[TCP_AT + 13] = NAT_TCP_SYN;
	memset(p.data + OPTIONS_AT, 0, options);
	return p;
}

/* Well-formed options, the MSS among them or not; where it is, or 0. */
static uint32_t write_options(uint8_t *options, uint32_t room, unsigned mss)
{
	static const uint8_t kinds[] = {3, 4, 5, 8, 30, 253};
	uint32_t at = 0, found = 0;

	while (at < room) {
		uint32_t length = 2 + number(11), kind = number(8);
		if (kind == 0 && room - at >= 4 && !found) {
			options[at] = 2;
			options[at + 1] = 4;
			test_put16(options + at + 2, mss);
			found = OPTIONS_AT + at;
			at += 4;
		} else if (kind < 7 && at + length <= room) {
			options[at] = kinds[kind % 6];
			options[at + 1] = (uint8_t)length;
			for (uint32_t i = 2; i < length; i++)
				options[at + i] = (uint8_t)number(256);
			at += length;
		} else {
			options[at++] = 1;
		}
	}
	return found;
}

/* RFC 9293 section 3.7.1, RFC 1624 */
Test(mss, equals_the_segment_made_anew)
{
	unsigned lowered = 0, odd = 0;

	for (unsigned i = 0; i < 200000; i++) {
		uint32_t room = 4 * number(11);
		unsigned mss = number(65536), limit = 1 + number(65535);
		struct test_packet p = segment(room, number(30)), want;
		uint32_t at = write_options(p.data + OPTIONS_AT, room, mss);
		bool partial = number(4) == 0;
		test_fill(p.data, p.length);
		if (partial)
			test_put16(p.data + TCP_AT + 16, test_pseudo(p.data, p.length - 20));
		want = p;
		bool lowers = at && mss > limit;
		if (lowers) {
			test_put16(want.data + at + 2, limit);
			if (!partial)
				test_fill(want.data, want.length);
		}
		bool did = nat_mss_clamp(p.data + TCP_AT, p.data + p.length, (uint16_t)limit,
					 partial);
		cr_assert_eq(did, lowers);
		cr_assert_eq(memcmp(p.data, want.data, p.length), 0, "option at %u", at);
		lowered += lowers;
		odd += lowers && at % 2;
	}
	cr_expect_gt(lowered, 10000);
	cr_expect_gt(odd, 3000);
}

/* Bounds: any bytes as options, any data offset, cut anywhere; ASan watches the exact copy. */
Test(mss, never_leaves_the_packet)
{
	for (unsigned i = 0; i < 200000; i++) {
		uint32_t length = number(64);
		uint8_t *exact = malloc(length ? length : 1);
		uint8_t before[64];
		for (uint32_t k = 0; k < length; k++)
			exact[k] = (uint8_t)(number(3) ? number(6) : number(256));
		if (length > 12)
			exact[12] = (uint8_t)(number(16) << 4);
		memcpy(before, exact, length);
		nat_mss_clamp(exact, exact + length, 100, number(2));
		for (uint32_t k = 0; k < length; k++)
			cr_assert(exact[k] == before[k] || k == 16 || k == 17 || k >= 20,
				  "byte %u", k);
		free(exact);
	}
}
