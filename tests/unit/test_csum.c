/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>

#include "common/nat/csum.h"
#include "tests/support/nat_packets.h"

static const uint16_t corners[] = {0x0000, 0x0001, 0x00ff, 0x0100, 0x7fff, 0x8000,
				   0xff00, 0xfffe, 0xffff, 0x1234, 0xfeff};
enum { CORNERS = sizeof corners / sizeof corners[0] };

/* Every old word, beside other words of every corner: the update equals the full sum, bit for bit.
 */
Test(csum, incremental_equals_full_recompute)
{
	for (unsigned rest = 0; rest < CORNERS; rest++)
		for (unsigned new = 0; new < CORNERS; new ++)
			for (uint32_t old = 0; old <= 0xffff; old++) {
				uint16_t data[3] = {corners[rest], (uint16_t)old, 0x4500};
				uint16_t before = nat_csum_compute((uint8_t *)data, sizeof data);
				data[1] = corners[new];
				uint8_t *bytes = (uint8_t *)data;
				unsigned want = 0xffff - test_sum(0, bytes, sizeof data);
				uint16_t after = nat_csum_apply(
				    before, nat_csum_delta16(0, (uint16_t)old, corners[new]));
				if (nat_swap16(after) != want)
					cr_assert_fail(
					    "%04x beside %04x becomes %04x: %04x, not %04x", old,
					    corners[rest], corners[new], nat_swap16(after), want);
			}
}

Test(csum, delta_of_no_change_changes_nothing)
{
	for (uint32_t word = 0; word <= 0xffff; word++) {
		uint16_t same = nat_csum_delta16(0, (uint16_t)word, (uint16_t)word);
		/* 0xffff is a header of only zeros, which none is */
		for (unsigned i = 0; i < CORNERS; i++)
			if (corners[i] != 0xffff)
				cr_assert_eq(nat_csum_apply(corners[i], same), corners[i]);
	}
	for (uint32_t checksum = 0; checksum <= 0xffff; checksum++)
		cr_assert_eq(nat_csum_apply((uint16_t)checksum, 0), checksum);
}

Test(csum, deltas_add_up)
{
	uint64_t state = 7;
	struct random_source random = random_seeded(&state);

	for (unsigned i = 0; i < 100000; i++) {
		uint32_t old[2] = {(uint32_t)random.next(&state), (uint32_t)random.next(&state)};
		uint32_t new[2] = {(uint32_t)random.next(&state), (uint32_t)random.next(&state)};
		uint16_t before = nat_csum_compute((uint8_t *)old, sizeof old);
		uint16_t a = nat_csum_delta32(0, old[0], new[0]);
		uint16_t b = nat_csum_delta32(0, old[1], new[1]);
		uint16_t both = nat_csum_delta32(a, old[1], new[1]);
		cr_assert_eq(nat_csum_apply(before, both),
			     nat_csum_compute((uint8_t *)new, sizeof new));
		cr_assert_eq(nat_csum_apply(nat_csum_apply(before, a), b),
			     nat_csum_apply(before, nat_csum_add(a, b)));
	}
}

Test(csum, udp_zero_stays_and_result_zero_is_sent_as_ffff)
{
	for (uint32_t delta = 0; delta <= 0xffff; delta++) {
		cr_assert_eq(nat_csum_apply_udp(0, (uint16_t)delta), 0);
		for (unsigned i = 0; i < CORNERS; i++)
			if (corners[i] != 0)
				cr_assert_neq(nat_csum_apply_udp(corners[i], (uint16_t)delta), 0);
	}
	/* ~HC + delta = 0xffff: plain update gives 0, UDP must not */
	cr_expect_eq(nat_csum_apply(0x1234, 0x1234), 0);
	cr_expect_eq(nat_csum_apply_udp(0x1234, 0x1234), 0xffff);
}

Test(csum, a_wrong_checksum_stays_wrong_by_as_much)
{
	uint64_t state = 9;
	struct random_source random = random_seeded(&state);

	for (unsigned i = 0; i < 100000; i++) {
		uint16_t old = (uint16_t)random.next(&state), new = (uint16_t)random.next(&state);
		uint16_t data[2] = {0x4500, old};
		uint16_t error = (uint16_t)(1 + random_below(&random, 0xfffe));
		uint16_t wrong =
		    (uint16_t)~nat_csum_add((uint16_t)~nat_csum_compute((uint8_t *)data, 4), error);
		wrong = nat_csum_apply(wrong, nat_csum_delta16(0, old, new));
		data[1] = new;
		uint16_t right = nat_csum_compute((uint8_t *)data, 4);
		cr_assert_neq(wrong, right);
		cr_assert_eq(nat_csum_add((uint16_t)~right, error), (uint16_t)~wrong);
	}
}

Test(csum, sums_of_every_length_and_alignment)
{
	uint64_t state = 11;
	struct random_source random = random_seeded(&state);
	uint8_t buffer[300];

	for (unsigned i = 0; i < sizeof buffer; i++)
		buffer[i] = i < 150 ? (uint8_t)random.next(&state) : 0xff;
	for (unsigned at = 0; at < 4; at++)
		for (unsigned n = 0; n < sizeof buffer - 4; n++)
			cr_assert_eq(nat_swap16(nat_csum_sum(0, buffer + at, n)),
				     test_sum(0, buffer + at, n), "%u bytes at %u", n, at);
	static uint8_t ones[65535];
	memset(ones, 0xff, sizeof ones);
	cr_expect_eq(nat_csum_sum(0xffff, ones, sizeof ones - 1), 0xffff);
}

Test(csum, partial_checksum_is_the_pseudo_header_sum_of_the_new_addresses)
{
	uint64_t state = 13;
	struct random_source random = random_seeded(&state);

	for (unsigned i = 0; i < 100000; i++) {
		uint32_t a[2] = {(uint32_t)random.next(&state), (uint32_t)random.next(&state)};
		uint32_t b[2] = {(uint32_t)random.next(&state), (uint32_t)random.next(&state)};
		uint16_t length = (uint16_t)random.next(&state);
		uint16_t delta = nat_csum_delta32(nat_csum_delta32(0, a[0], b[0]), a[1], b[1]);
		cr_assert_eq(
		    nat_csum_apply_partial(nat_csum_pseudo(a[0], a[1], NAT_TCP, length), delta),
		    nat_csum_pseudo(b[0], b[1], NAT_TCP, length));
	}
}

Test(csum, transport_checksums_of_whole_packets)
{
	for (unsigned payload = 0; payload < 40; payload++) {
		struct test_packet p =
		    test_transport(0x0a000001, 0xc6336401, NAT_UDP, 0, 1000, 53, payload, NULL);
		uint8_t *t = p.data + p.header;
		unsigned want = test_get16(t + 6);
		test_put16(t + 6, 0);
		uint16_t made = nat_csum_transport(nat_get32(p.data + 12), nat_get32(p.data + 16),
						   NAT_UDP, t, (uint16_t)(p.length - p.header));
		cr_expect_eq(nat_swap16(made), want);
		cr_expect(nat_csum_ip_valid(p.data, p.header));
		p.data[15] ^= 4;
		cr_expect_not(nat_csum_ip_valid(p.data, p.header));
	}
}
