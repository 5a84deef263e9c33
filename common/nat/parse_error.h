/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packet inside an ICMP error. Included by parse.h.
 */
#ifndef NAT_PARSE_ERROR_H
#define NAT_PARSE_ERROR_H

#include "csum.h"
#include "packet.h"
#include "reason.h"

/*
 * The packet that an ICMP error quotes (RFC 792: header and 8 bytes; RFC 1812: as much as fits).
 * The "length" of RFC 4884 needs no look: a quote followed by extensions has at least 128 bytes,
 * and nothing past the quoted headers is touched.
 */
NAT_INLINE unsigned nat_parse_quote(const uint8_t *data, uint32_t quote, uint8_t realm,
				    struct nat_packet *p)
{
	const uint8_t *q = data + quote;
	uint32_t size = p->total > quote ? p->total - quote : 0;

	if (size < NAT_IP_HEADER + 8u)
		return NAT_REASON_BAD_EMBEDDED;
	uint32_t header = (q[0] & 15) * 4u;
	uint32_t total = nat_swap16(nat_get16(q + NAT_IP_TOTAL));
	/* an error goes to whoever sent what it quotes */
	if (p->tuple.destination != nat_get32(q + NAT_IP_SOURCE))
		return NAT_REASON_BAD_EMBEDDED;
	if (q[0] >> 4 != 4 || header < NAT_IP_HEADER || size < header + 8 || total < header + 8)
		return NAT_REASON_BAD_EMBEDDED;
	/* Later fragments have no ports: nobody can say whose they are. */
	if (nat_get16(q + NAT_IP_FRAGMENT) & nat_swap16(0x1fff))
		return NAT_REASON_BAD_EMBEDDED;

	const uint8_t *t = q + header;
	struct nat_tuple *reverse = &p->tuple;
	*reverse = (struct nat_tuple){
	    .source = nat_get32(q + NAT_IP_DESTINATION),
	    .destination = nat_get32(q + NAT_IP_SOURCE),
	    .protocol = q[NAT_IP_PROTOCOL],
	    .realm = realm,
	};
	switch (reverse->protocol) {
	case NAT_TCP:
	case NAT_UDP:
		reverse->source_port = nat_get16(t + NAT_PORT_DESTINATION);
		reverse->destination_port = nat_get16(t + NAT_PORT_SOURCE);
		break;
	case NAT_ICMP: /* never an error about an error (RFC 1122 section 3.2.2) */
		if (nat_icmp_is_request(t[NAT_ICMP_TYPE]))
			reverse->destination_port = nat_get16(t + NAT_ICMP_ID);
		else if (nat_icmp_is_reply(t[NAT_ICMP_TYPE]))
			reverse->source_port = nat_get16(t + NAT_ICMP_ID);
		else
			return NAT_REASON_BAD_EMBEDDED;
		break;
	default: /* by address only */
		break;
	}
	p->quote = (uint16_t)quote;
	p->quote_header = (uint8_t)header;
	p->quote_transport = (uint16_t)((total < size ? total : size) - header);
	return NAT_REASON_NONE;
}

/*
 * Is a parsed NAT_KIND_ERROR intact? ICMP checksum and the quoted IPv4 header's (RFC 5508 REQ-3,
 * REQ-3a); the quoted transport checksum is nobody's business (REQ-3c). A fragment's ICMP checksum
 * covers more than is here and is not looked at.
 */
NAT_INLINE unsigned nat_check_error(const uint8_t *data, const struct nat_packet *p)
{
	if (!(p->flags & NAT_PACKET_FRAGMENT) &&
	    nat_csum_sum(0, data + p->header, (uint32_t)p->total - p->header) != 0xffff)
		return NAT_REASON_BAD_ICMP_CHECKSUM;
	if (!nat_csum_ip_valid(data + p->quote, p->quote_header))
		return NAT_REASON_BAD_EMBEDDED;
	return NAT_REASON_NONE;
}

#endif
