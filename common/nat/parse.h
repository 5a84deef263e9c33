/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a packet is: IPv4 from the first header byte, [data, end). Two readings:
 *
 *   nat_parse_plain  the hit path, also in BPF: constant offsets; false for whatever is unusual
 *   nat_parse        everything, user space: options, fragments, ICMP errors, and the named reason
 *                    (which protocols are wanted is the configuration's affair, not parsing's)
 *
 * Checksums are not looked at here (see nat_check_error, csum.h); addresses neither
 * (nat_address_unusable).
 */
#ifndef NAT_PARSE_H
#define NAT_PARSE_H

#include "options.h"
#include "packet.h"
#include "parse_error.h"
#include "reason.h"

/*
 * A protocol that is translated by address. A first fragment has its checksum in its first eight
 * bytes; the rest of the header may be in the next.
 */
NAT_INLINE unsigned nat_parse_other(const uint8_t *t, const uint8_t *end, uint32_t size, bool whole,
				    struct nat_packet *p)
{
	uint32_t need = 0;

	p->kind = NAT_KIND_OTHER;
	switch (p->tuple.protocol) {
	case NAT_UDPLITE:
		p->kind = NAT_KIND_UDPLITE;
		need = NAT_UDPLITE_HEADER;
		break;
	case NAT_DCCP:
		p->kind = NAT_KIND_DCCP;
		need = whole ? NAT_DCCP_HEADER : 8;
		break;
	case NAT_SCTP:
		need = whole ? NAT_SCTP_HEADER : 8;
		break;
	case NAT_ESP:
		need = NAT_ESP_HEADER;
		break;
	case NAT_GRE:
		need = NAT_GRE_HEADER;
		break;
	}
	return size < need || t + need > end ? NAT_REASON_TRUNCATED : NAT_REASON_NONE;
}

/* Ports or identifier of the transport header at t, size bytes of it by the IP header's word. */
NAT_INLINE unsigned nat_parse_transport(const uint8_t *t, const uint8_t *end, uint32_t size,
					bool whole, struct nat_packet *p)
{
	if (!nat_protocol_by_port(p->tuple.protocol))
		return nat_parse_other(t, end, size, whole, p);
	if (size < 8 || t + 8 > end)
		return NAT_REASON_TRUNCATED;
	switch (p->tuple.protocol) {
	case NAT_UDP:
		if (whole) {
			uint16_t length = nat_swap16(nat_get16(t + NAT_UDP_LENGTH));
			if (length < NAT_UDP_HEADER || length > size)
				return NAT_REASON_BAD_TRANSPORT;
		}
		p->tuple.source_port = nat_get16(t + NAT_PORT_SOURCE);
		p->tuple.destination_port = nat_get16(t + NAT_PORT_DESTINATION);
		p->kind = NAT_KIND_UDP;
		return NAT_REASON_NONE;
	case NAT_TCP: {
		if (size < NAT_TCP_HEADER || t + NAT_TCP_HEADER > end)
			return NAT_REASON_TRUNCATED;
		uint32_t header = (t[NAT_TCP_OFFSET] >> 4) * 4u;
		if (header < NAT_TCP_HEADER || (whole && header > size))
			return NAT_REASON_BAD_TRANSPORT;
		p->tuple.source_port = nat_get16(t + NAT_PORT_SOURCE);
		p->tuple.destination_port = nat_get16(t + NAT_PORT_DESTINATION);
		p->tcp_flags = t[NAT_TCP_FLAGS];
		p->kind = NAT_KIND_TCP;
		return NAT_REASON_NONE;
	}
	case NAT_ICMP:
		p->icmp_type = t[NAT_ICMP_TYPE];
		p->icmp_code = t[NAT_ICMP_CODE];
		p->kind = NAT_KIND_QUERY;
		if (nat_icmp_is_request(p->icmp_type))
			p->tuple.source_port = nat_get16(t + NAT_ICMP_ID);
		else if (nat_icmp_is_reply(p->icmp_type))
			p->tuple.destination_port = nat_get16(t + NAT_ICMP_ID);
		else if (nat_icmp_is_error(p->icmp_type))
			p->kind = NAT_KIND_ERROR;
		else
			return NAT_REASON_ICMP_TYPE;
		return NAT_REASON_NONE;
	}
	return NAT_REASON_PROTOCOL;
}

/*
 * The hit path. True: *p is whole and the packet is plain but for p->ttl, which the caller looks
 * at. False: anything else, good or bad; *p means nothing then. Of the protocols that are
 * translated by address it takes those that a flow may be of.
 */
NAT_INLINE bool nat_parse_plain(const uint8_t *data, const uint8_t *end, uint8_t realm,
				struct nat_packet *p)
{
	*p = (struct nat_packet){.header = NAT_IP_HEADER};
	if (data + NAT_IP_HEADER > end || data[0] != 0x45)
		return false;
	uint16_t fragment = nat_get16(data + NAT_IP_FRAGMENT);
	if (fragment & nat_swap16(0x3fff))
		return false;
	p->total = nat_swap16(nat_get16(data + NAT_IP_TOTAL));
	if (p->total < NAT_IP_HEADER || data + p->total > end)
		return false;
	p->flags = fragment & nat_swap16(0x4000) ? NAT_PACKET_DF : 0;
	p->ttl = data[NAT_IP_TTL];
	if (p->ttl <= 1)
		p->flags |= NAT_PACKET_TTL;
	p->id = nat_get16(data + NAT_IP_ID);
	p->tuple.source = nat_get32(data + NAT_IP_SOURCE);
	p->tuple.destination = nat_get32(data + NAT_IP_DESTINATION);
	p->tuple.protocol = data[NAT_IP_PROTOCOL];
	p->tuple.realm = realm;
	if (!nat_protocol_by_port(p->tuple.protocol) && !nat_protocol_by_address(p->tuple.protocol))
		return false;
	return nat_parse_transport(data + NAT_IP_HEADER, end, p->total - NAT_IP_HEADER, true, p) ==
		   NAT_REASON_NONE &&
	       p->kind != NAT_KIND_ERROR;
}

/*
 * Everything. 0, or the reason why the packet is to be dropped; then p->header, total, ttl, and the
 * tuple's addresses and protocol are right as far as parsing came (0 where it did not).
 */
NAT_INLINE unsigned nat_parse(const uint8_t *data, const uint8_t *end, uint8_t realm,
			      struct nat_packet *p)
{
	*p = (struct nat_packet){0};
	if (data + 1 > end)
		return NAT_REASON_TRUNCATED;
	if (data[0] >> 4 != 4)
		return NAT_REASON_NOT_IPV4;
	if (data + NAT_IP_HEADER > end)
		return NAT_REASON_TRUNCATED;
	uint32_t header = (data[0] & 15) * 4u;
	uint32_t total = nat_swap16(nat_get16(data + NAT_IP_TOTAL));
	if (header < NAT_IP_HEADER || total < header)
		return NAT_REASON_BAD_IP_HEADER;
	if (data + total > end)
		return NAT_REASON_TRUNCATED;
	uint32_t size = total - header;
	uint16_t fragment = nat_swap16(nat_get16(data + NAT_IP_FRAGMENT));

	p->header = (uint8_t)header;
	p->total = (uint16_t)total;
	p->ttl = data[NAT_IP_TTL];
	p->id = nat_get16(data + NAT_IP_ID);
	p->fragment_offset = (uint16_t)((fragment & 0x1fff) * 8u);
	p->flags =
	    (uint8_t)((header > NAT_IP_HEADER ? NAT_PACKET_OPTIONS : 0) |
		      (fragment & 0x3fff ? NAT_PACKET_FRAGMENT : 0) |
		      (fragment & 0x2000 ? NAT_PACKET_MORE : 0) |
		      (fragment & 0x4000 ? NAT_PACKET_DF : 0) | (p->ttl <= 1 ? NAT_PACKET_TTL : 0));
	p->tuple.source = nat_get32(data + NAT_IP_SOURCE);
	p->tuple.destination = nat_get32(data + NAT_IP_DESTINATION);
	p->tuple.protocol = data[NAT_IP_PROTOCOL];
	p->tuple.realm = realm;

	if (p->flags & NAT_PACKET_OPTIONS && nat_options_source_route(data, header))
		return NAT_REASON_SOURCE_ROUTE;
	if (p->flags & NAT_PACKET_FRAGMENT) {
		/* RFC 791 section 3.2; the last byte must lie inside a datagram (ping of death) */
		if (size == 0 || (p->flags & NAT_PACKET_MORE && size % 8 != 0) ||
		    p->fragment_offset + size + header > 65535)
			return NAT_REASON_FRAGMENT_MALFORMED;
		/* RFC 1858, RFC 3128: ports and flags are never split from what is filtered */
		if (p->tuple.protocol == NAT_TCP &&
		    (p->fragment_offset == 8 || (p->fragment_offset == 0 && size < NAT_TCP_HEADER)))
			return NAT_REASON_FRAGMENT_MALFORMED;
		if (p->fragment_offset > 0) {
			p->kind = NAT_KIND_FRAGMENT;
			return NAT_REASON_NONE;
		}
	}
	unsigned reason = nat_parse_transport(data + header, data + total, size,
					      !(p->flags & NAT_PACKET_FRAGMENT), p);
	if (reason == NAT_REASON_NONE && p->kind == NAT_KIND_ERROR) {
		p->flags |= NAT_PACKET_ERROR;
		reason = nat_parse_quote(data, header + NAT_ICMP_HEADER, realm, p);
	}
	return reason;
}

#endif
