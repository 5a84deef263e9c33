/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>

#include <string.h>
#include "dataplane/vnet.h"

enum { NEEDS = VIRTIO_NET_HDR_F_NEEDS_CSUM, TCP4 = VIRTIO_NET_HDR_GSO_TCPV4 };

static uint8_t data[4096];

static struct engine_packet packet_of(uint8_t protocol, unsigned length, bool fragment)
{
	memset(data, 0, sizeof data);
	for (unsigned i = 20; i < length; i++)
		data[i] = (uint8_t)(i * 7);
	data[0] = 0x45;
	data[6] = fragment ? 0x20 : 0x40;
	data[9] = protocol;
	data[32] = 0x50; /* TCP header of 20 bytes */
	data[33] = 0x10;
	return (struct engine_packet){.data = data, .length = length, .room = sizeof data};
}

struct row {
	char what[48];
	uint8_t protocol;
	bool fragment;
	unsigned length;
	struct virtio_net_hdr header;
	int found;
	bool partial;
	uint16_t gso;
};

ParameterizedTestParameters(vnet, reads)
{
	static struct row rows[] = {
	    {"plain", 6, false, 60, {0, 0, 0, 0, 0, 0}, VNET_OK, false, 0},
	    {"checksum verified by a device", 6, false, 60, {2, 0, 0, 0, 0, 0}, VNET_OK, false, 0},
	    {"partial TCP", 6, false, 60, {NEEDS, 0, 0, 0, 20, 16}, VNET_OK, true, 0},
	    {"partial UDP", 17, false, 60, {NEEDS, 0, 0, 0, 20, 6}, VNET_OK, true, 0},
	    {"TCP segments", 6, false, 4000, {NEEDS, TCP4, 40, 1460, 20, 16}, VNET_OK, true, 1460},
	    {"with ECN", 6, false, 4000, {NEEDS, TCP4 | 0x80, 40, 900, 20, 16}, VNET_OK, true, 900},
	    {"UDP segments", 17, false, 4000, {NEEDS, 5, 28, 1200, 20, 6}, VNET_OK, true, 1200},
	    {"inner checksum of a tunnel",
	     47,
	     false,
	     200,
	     {NEEDS, 0, 0, 0, 64, 16},
	     VNET_COMPLETED,
	     false,
	     0},
	    {"of a fragment", 17, true, 200, {NEEDS, 0, 0, 0, 20, 6}, VNET_COMPLETED, false, 0},
	    {"checksum behind the end", 6, false, 60, {NEEDS, 0, 0, 0, 50, 16}, VNET_BAD, 0, 0},
	    {"start far behind the end",
	     6,
	     false,
	     60,
	     {NEEDS, 0, 0, 0, 65535, 65535},
	     VNET_BAD,
	     0,
	     0},
	    {"segments of size 0", 6, false, 60, {NEEDS, TCP4, 40, 0, 20, 16}, VNET_BAD, 1, 0},
	    {"TCP segments of UDP", 17, false, 60, {NEEDS, TCP4, 40, 9, 20, 6}, VNET_BAD, 1, 0},
	    {"segments with full checksum", 6, false, 60, {0, TCP4, 40, 9, 20, 16}, VNET_BAD, 0, 0},
	    {"IPv6 segments", 6, false, 60, {NEEDS, 4, 40, 9, 20, 16}, VNET_BAD, 1, 0},
	    {"segments in a tunnel", 47, false, 90, {NEEDS, TCP4, 40, 9, 60, 16}, VNET_BAD, 0, 0},
	    {"cut header", 6, false, 10, {NEEDS, 0, 0, 0, 20, 16}, VNET_BAD, 0, 0},
	    {"empty", 6, false, 0, {NEEDS, 0, 0, 0, 0, 0}, VNET_BAD, 0, 0},
	};
	return cr_make_param_array(struct row, rows, sizeof rows / sizeof rows[0]);
}

ParameterizedTest(struct row *row, vnet, reads)
{
	struct engine_packet packet = packet_of(row->protocol, row->length, row->fragment);
	cr_assert_eq((int)vnet_read(&row->header, &packet), row->found, "%s", row->what);
	if (row->found == VNET_BAD)
		return;
	cr_expect_eq(packet.partial_checksum, row->partial, "%s", row->what);
	cr_expect_eq(packet.gso_size, row->gso, "%s", row->what);
	if (row->found == VNET_COMPLETED)
		return;
	struct virtio_net_hdr out;
	vnet_write(&packet, &out);
	struct virtio_net_hdr expected = row->header;
	expected.flags &= NEEDS;
	expected.gso_type &= (uint8_t)~0x80; /* no CWR in this packet */
	cr_expect_eq(memcmp(&out, &expected, sizeof out), 0, "%s: written as it was read",
		     row->what);
}

Test(vnet, completes_a_checksum_that_verifies)
{
	for (unsigned length = 100; length < 102; length++) {
		struct engine_packet packet = packet_of(47, length, false);
		data[40 + 16] = 0x12; /* the pseudo header's sum */
		data[40 + 17] = 0x34;
		struct virtio_net_hdr header = {
		    .flags = NEEDS, .csum_start = 40, .csum_offset = 16};
		cr_assert_eq((int)vnet_read(&header, &packet), VNET_COMPLETED);
		unsigned sum = 0x1234; /* of what is no longer in the field */
		for (unsigned i = 40; i < length; i++)
			sum += i % 2 ? data[i] : (unsigned)data[i] << 8;
		while (sum >> 16)
			sum = (sum & 0xffff) + (sum >> 16);
		cr_expect_eq(sum, 0xffff, "length %u: %04x", length, sum);
	}
}

Test(vnet, a_packet_of_one_segment_is_no_super_packet)
{
	struct engine_packet packet = packet_of(NAT_TCP, 1040, false);
	packet.partial_checksum = true;
	packet.gso_size = 1000;
	struct virtio_net_hdr out;
	vnet_write(&packet, &out);
	cr_expect_eq(out.gso_type, VIRTIO_NET_HDR_GSO_NONE);
	cr_expect_eq(out.flags, NEEDS);
	packet.length = 1041;
	vnet_write(&packet, &out);
	cr_expect_eq(out.gso_type, TCP4);
}

Test(vnet, says_that_the_first_segment_alone_carries_cwr)
{
	struct engine_packet packet = packet_of(NAT_TCP, 3000, false);
	packet.partial_checksum = true;
	packet.gso_size = 1000;
	data[33] = 0x90;
	struct virtio_net_hdr out;
	vnet_write(&packet, &out);
	cr_expect_eq(out.gso_type, TCP4 | VIRTIO_NET_HDR_GSO_ECN);
}
