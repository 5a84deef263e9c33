/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A super-packet (GSO) whose segments do not fit the egress link, and may be cut: in its place the
 * segments that its sender meant, each a datagram of its own, in order, and of each the fragments.
 * Hosts without path MTU discovery send such; for those with it a super-packet has DF and is
 * answered like a single one.
 */
#include "dataplane/engine_private.h"

enum {
	TCP_SEQUENCE = 4, /* offsets in the header */
	TCP_CWR = 0x80,
};

/* What is not the first segment's, or the last one's: CWR, PSH and FIN (RFC 3168 6.1.2). */
static uint8_t segment_flags(uint8_t flags, bool first, bool last)
{
	if (!first)
		flags &= (uint8_t)~TCP_CWR;
	if (!last)
		flags &= (uint8_t)~(NAT_TCP_PSH | NAT_TCP_FIN);
	return flags;
}

static void seal_transport(uint8_t *ip, uint8_t *transport, uint16_t length)
{
	uint8_t protocol = ip[NAT_IP_PROTOCOL];
	uint8_t *field =
	    transport + (protocol == NAT_TCP ? NAT_TCP_CHECKSUM : NAT_UDP_CHECKSUM);

	nat_put16(field, 0);
	nat_put16(field, nat_csum_transport(nat_get32(ip + NAT_IP_SOURCE),
					    nat_get32(ip + NAT_IP_DESTINATION), protocol, transport,
					    length));
}

bool engine_segment(struct engine *engine, struct engine_packet *packet, uint32_t mtu)
{
	uint8_t *ip = engine->segment;
	uint32_t ip_length = ip_header_length(packet->data);
	bool tcp = packet->data[NAT_IP_PROTOCOL] == NAT_TCP;
	uint32_t header = ip_length + (tcp ? (packet->data[ip_length + NAT_TCP_OFFSET] >> 4) * 4u
					   : NAT_UDP_HEADER);
	uint16_t id = number16(packet->data + NAT_IP_ID);
	uint32_t sequence = nat_swap32(nat_get32(packet->data + ip_length + TCP_SEQUENCE));

	/* The checksum of what is cut is made anew: only where the sender left that to others. */
	if (!packet->partial_checksum || mtu < ip_length + 8)
		return false;
	for (uint32_t at = header; at < packet->length; at += packet->gso_size) {
		uint32_t left = packet->length - at;
		uint32_t n = left < packet->gso_size ? left : packet->gso_size;
		struct engine_packet segment = {
		    .data = ip,
		    .length = header + n,
		    .room = IPV4_TOTAL_MAX,
		    .ingress = packet->ingress,
		    .fate = ENGINE_OUT,
		    .egress = packet->egress,
		};
		uint8_t *transport = ip + ip_length;
		memcpy(ip, packet->data, header);
		memcpy(ip + header, packet->data + at, n);
		put_number16(ip + NAT_IP_TOTAL, (uint16_t)segment.length);
		/* As senders number them, but for those that share an address (RFC 6864 5.3.1). */
		put_number16(ip + NAT_IP_ID, packet->ingress == NAT_REALM_OUTSIDE
						 ? id++
						 : fragments_identification(engine->fragments));
		if (tcp) {
			nat_put32(transport + TCP_SEQUENCE, nat_swap32(sequence + (at - header)));
			transport[NAT_TCP_FLAGS] =
			    segment_flags(transport[NAT_TCP_FLAGS], at == header, n == left);
		} else {
			put_number16(transport + NAT_UDP_LENGTH, (uint16_t)(NAT_UDP_HEADER + n));
		}
		seal_transport(ip, transport, (uint16_t)(segment.length - ip_length));
		ip_seal(ip);
		if (segment.length > mtu)
			engine_split(engine, &segment, mtu);
		else
			engine->owner.emit(engine->owner.context, &segment);
	}
	return true;
}
