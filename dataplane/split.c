/* SPDX-License-Identifier: Apache-2.0 */
/* Fragmentation on output (RFC 791 section 3.2): in place of a packet, its fragments, in order. */
#include "dataplane/engine_private.h"

enum { OPTION_END = 0, OPTION_NOP = 1, OPTION_COPIED = 0x80 };

/* The transport checksum has to be whole before the datagram is cut. */
static void complete_checksum(struct engine_packet *packet)
{
	uint32_t header = ip_header_length(packet->data);
	uint8_t *transport = packet->data + header;
	uint32_t length = packet->length - header;
	bool tcp = packet->data[NAT_IP_PROTOCOL] == NAT_TCP;
	uint8_t *field = transport + (tcp ? NAT_TCP_CHECKSUM : NAT_UDP_CHECKSUM);

	/* The field holds the pseudo header's sum, so that the sum over all includes it. */
	uint16_t checksum = nat_csum_compute(transport, length);
	nat_put16(field, !tcp && checksum == 0 ? 0xffff : checksum);
	packet->partial_checksum = false;
}

/* The header of the later fragments: only options with the copied flag go along. */
static uint32_t later_header(const uint8_t *ip, uint8_t *out)
{
	uint32_t header = ip_header_length(ip), n = NAT_IP_HEADER;

	memcpy(out, ip, NAT_IP_HEADER);
	for (uint32_t at = NAT_IP_HEADER; at < header && ip[at] != OPTION_END;) {
		uint32_t length = ip[at] == OPTION_NOP ? 1 : (at + 1 < header ? ip[at + 1] : 0);
		if (length == 0 || at + length > header || (length < 2 && ip[at] != OPTION_NOP))
			break; /* malformed: nothing behind it can be told apart */
		if (ip[at] & OPTION_COPIED) {
			memcpy(out + n, ip + at, length);
			n += length;
		}
		at += length;
	}
	while (n % 4)
		out[n++] = OPTION_END;
	out[0] = (uint8_t)(0x40 | n / 4);
	return n;
}

bool engine_split(struct engine *engine, struct engine_packet *packet, uint32_t mtu)
{
	uint8_t first[IPV4_HEADER_MAX], later[IPV4_HEADER_MAX];
	uint32_t first_length = ip_header_length(packet->data);
	uint32_t header_length = first_length;
	const uint8_t *header = first;

	if (mtu < first_length + 8)
		return false;
	if (packet->partial_checksum)
		complete_checksum(packet);

	uint16_t field = number16(packet->data + NAT_IP_FRAGMENT);
	uint32_t offset = (field & IPV4_OFFSET) * 8u;
	memcpy(first, packet->data, first_length);
	uint32_t later_length = later_header(packet->data, later);

	for (uint32_t at = first_length; at < packet->length;) {
		uint32_t room = (mtu - header_length) / 8 * 8;
		uint32_t left = packet->length - at;
		uint32_t n = left <= mtu - header_length ? left : room;
		bool more = n < left || (field & IPV4_MF);
		struct engine_packet fragment = {
		    .data = engine->scratch,
		    .length = header_length + n,
		    .room = IPV4_TOTAL_MAX,
		    .ingress = packet->ingress,
		    .fate = ENGINE_OUT,
		    .egress = packet->egress,
		};
		memcpy(fragment.data, header, header_length);
		memcpy(fragment.data + header_length, packet->data + at, n);
		put_number16(fragment.data + NAT_IP_TOTAL, (uint16_t)fragment.length);
		put_number16(fragment.data + NAT_IP_FRAGMENT,
			     (uint16_t)((more ? IPV4_MF : 0) | (offset / 8)));
		ip_seal(fragment.data);
		engine->owner.emit(engine->owner.context, &fragment);
		at += n;
		offset += n;
		header = later;
		header_length = later_length;
	}
	return true;
}
