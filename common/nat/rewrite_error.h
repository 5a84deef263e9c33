/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ICMP errors (RFC 5508 section 4). The slot is that of the reverse of the quoted packet, so it
 * says where the error itself goes; the quote is turned back by the same slot, source and
 * destination exchanged. Included by rewrite.h.
 *
 *   outer header   source -> destination'         destination becomes slot->destination
 *   ICMP header    checksum follows every change below
 *   quoted header  destination <- source          becomes slot->destination, slot->source
 *   quoted ports                                  becomes slot->destination_port, slot->source_port
 */
#ifndef NAT_REWRITE_ERROR_H
#define NAT_REWRITE_ERROR_H

/* The quoted packet's own tuple, as it stands in the quote (what PEEK asks). */
NAT_INLINE struct nat_tuple nat_quoted_tuple(const struct nat_packet *p)
{
	struct nat_tuple quoted = p->tuple;

	quoted.source = p->tuple.destination;
	quoted.destination = p->tuple.source;
	quoted.source_port = p->tuple.destination_port;
	quoted.destination_port = p->tuple.source_port;
	return quoted;
}

/* From what the quoted packet was (PEEK's answer) to what nat_slot_set wants beside p->tuple. */
NAT_INLINE struct nat_rewrite nat_quoted_rewrite(const struct nat_rewrite *was)
{
	return (struct nat_rewrite){
	    .source = was->destination,
	    .destination = was->source,
	    .source_port = was->destination_port,
	    .destination_port = was->source_port,
	    .egress = was->egress,
	};
}

/* The quoted transport header, as much of it as is there; returns the ICMP checksum's delta. */
NAT_INLINE uint16_t nat_apply_quote_transport(uint8_t *t, uint32_t present, uint8_t protocol,
					      const struct nat_slot *slot, uint16_t delta)
{
	uint16_t old, new;

	if (protocol == NAT_ICMP) {
		uint32_t before =
		    nat_get32(t + NAT_ICMP_CHECKSUM); /* checksum and id are adjacent */
		/* the quote's sender is the slot's destination: its request carries that identifier
		 */
		struct nat_slot turned = {.source_port = slot->destination_port,
					  .destination_port = slot->source_port};
		nat_apply_query(t, &turned);
		return nat_csum_delta32(delta, before, nat_get32(t + NAT_ICMP_CHECKSUM));
	}
	if (!nat_protocol_by_port(protocol)) {
		unsigned kind = protocol == NAT_UDPLITE ? NAT_KIND_UDPLITE
				: protocol == NAT_DCCP	? NAT_KIND_DCCP
							: NAT_KIND_OTHER;
		old = nat_get16(t + NAT_UDPLITE_CHECKSUM); /* eight bytes are always there */
		nat_apply_other(t, t + present, kind, slot->address_delta);
		return nat_csum_delta16(delta, old, nat_get16(t + NAT_UDPLITE_CHECKSUM));
	}
	delta = nat_csum_delta32(delta, nat_get32(t), (uint32_t)0);
	nat_put16(t + NAT_PORT_SOURCE, slot->destination_port);
	nat_put16(t + NAT_PORT_DESTINATION, slot->source_port);
	delta = nat_csum_delta32(delta, 0, nat_get32(t));
	if (protocol == NAT_UDP) {
		old = nat_get16(t + NAT_UDP_CHECKSUM);
		new = nat_csum_apply_udp(old, slot->transport_delta);
		nat_put16(t + NAT_UDP_CHECKSUM, new);
		return nat_csum_delta16(delta, old, new);
	}
	if (present < NAT_TCP_CHECKSUM + 2)
		return delta;
	old = nat_get16(t + NAT_TCP_CHECKSUM);
	new = nat_csum_apply(old, slot->transport_delta);
	nat_put16(t + NAT_TCP_CHECKSUM, new);
	return nat_csum_delta16(delta, old, new);
}

/*
 * The outer source: what comes from inside is hidden behind the external address of the flow, the
 * host that the mapping is of and any router before it alike (RFC 5508 REQ-5c, REQ-7: hairpinning
 * too). From the outside, the router that sent the error stays visible (RFC 4787 REQ-12a,
 * traceroute), unless the flow's own other end is hidden (redirect).
 */
NAT_INLINE void nat_apply_error(uint8_t *data, const struct nat_packet *p,
				const struct nat_slot *slot, unsigned flags)
{
	uint8_t *icmp = data + p->header, *quote = data + p->quote;
	nat_be32 source = nat_get32(data + NAT_IP_SOURCE);
	nat_be32 destination = nat_get32(data + NAT_IP_DESTINATION);
	bool hide = p->tuple.realm != NAT_REALM_OUTSIDE || slot->source != slot->key.source;
	nat_be32 new_source = hide ? slot->source : source;
	uint16_t delta = slot->address_delta; /* of the quoted addresses: the same four words */
	uint16_t old = nat_get16(quote + NAT_IP_CHECKSUM);

	nat_apply_ip(quote, slot->destination, slot->source, slot->address_delta, 0);
	delta = nat_csum_delta16(delta, old, nat_get16(quote + NAT_IP_CHECKSUM));
	delta = nat_apply_quote_transport(quote + p->quote_header, p->quote_transport,
					  p->tuple.protocol, slot, delta);
	nat_put16(icmp + NAT_ICMP_CHECKSUM,
		  nat_csum_apply(nat_get16(icmp + NAT_ICMP_CHECKSUM), delta));

	uint16_t outer = nat_csum_delta32(0, source, new_source);
	outer = nat_csum_delta32(outer, destination, slot->destination);
	nat_apply_ip(data, new_source, slot->destination, outer, flags);
}

#endif
