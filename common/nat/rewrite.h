/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Applies what a slot says to a parsed packet, in place. The packet must be the one whose tuple is
 * the slot's key: the slot's checksum deltas are made from that. All functions return false only
 * when the bytes are not there, which parsing has excluded: the check is for BPF's verifier.
 */
#ifndef NAT_REWRITE_H
#define NAT_REWRITE_H

#include "parse.h"
#include "slot.h"

enum nat_apply_flag {
	NAT_TTL_DECREMENT = 1,    /* we are the hop (RFC 1812 section 5.3.1) */
	NAT_TTL_INCREMENT = 2,    /* the kernel decrements before and after us: give one back */
	NAT_PARTIAL_CHECKSUM = 4, /* TCP, UDP: the field holds the pseudo header's sum (offload) */
};

/* Makes the part of a slot that nat_apply reads: key, rewrite, deltas; the rest is zero. */
NAT_INLINE void nat_slot_set(struct nat_slot *slot, const struct nat_tuple *key,
			     const struct nat_rewrite *rewrite)
{
	uint16_t delta = nat_csum_delta32(0, key->source, rewrite->source);

	delta = nat_csum_delta32(delta, key->destination, rewrite->destination);
	*slot = (struct nat_slot){
	    .key = *key,
	    .source = rewrite->source,
	    .destination = rewrite->destination,
	    .source_port = rewrite->source_port,
	    .destination_port = rewrite->destination_port,
	    .address_delta = delta,
	    .egress = rewrite->egress,
	};
	delta = nat_csum_delta16(delta, key->source_port, rewrite->source_port);
	slot->transport_delta =
	    nat_csum_delta16(delta, key->destination_port, rewrite->destination_port);
}

/* A TTL never wraps: 0 is not decremented, 255 not incremented. */
NAT_INLINE uint16_t nat_apply_ttl(uint8_t *ip, uint16_t delta, unsigned flags)
{
	uint16_t old = nat_get16(ip + NAT_IP_TTL);
	uint8_t ttl = ip[NAT_IP_TTL];

	if (flags & NAT_TTL_DECREMENT && ttl > 0)
		ttl--;
	else if (flags & NAT_TTL_INCREMENT && ttl < 255)
		ttl++;
	else
		return delta;
	ip[NAT_IP_TTL] = ttl;
	return nat_csum_delta16(delta, old, nat_get16(ip + NAT_IP_TTL));
}

/* New addresses into the IPv4 header at ip, of which address_delta is the sum. */
NAT_INLINE void nat_apply_ip(uint8_t *ip, nat_be32 source, nat_be32 destination,
			     uint16_t address_delta, unsigned flags)
{
	uint16_t delta = nat_apply_ttl(ip, address_delta, flags);

	nat_put32(ip + NAT_IP_SOURCE, source);
	nat_put32(ip + NAT_IP_DESTINATION, destination);
	nat_put16(ip + NAT_IP_CHECKSUM, nat_csum_apply(nat_get16(ip + NAT_IP_CHECKSUM), delta));
}

/*
 * New identifier of an ICMP query. An incremental update cannot tell the two zeros of one's
 * complement apart: 0 is right unless every byte of the message is zero, then it is 0xffff, as only
 * an echo reply's can be. 0xffff passes every receiver's check in either case.
 */
NAT_INLINE void nat_apply_query(uint8_t *icmp, const struct nat_slot *slot)
{
	nat_be16 id =
	    nat_icmp_is_request(icmp[NAT_ICMP_TYPE]) ? slot->source_port : slot->destination_port;
	nat_be16 old = nat_get16(icmp + NAT_ICMP_ID);
	uint16_t checksum;

	if (id == old)
		return;
	checksum =
	    nat_csum_apply(nat_get16(icmp + NAT_ICMP_CHECKSUM), nat_csum_delta16(0, old, id));
	if (checksum == 0 && id == 0 && nat_get16(icmp) == 0 &&
	    nat_get16(icmp + NAT_ICMP_SEQUENCE) == 0)
		checksum = 0xffff;
	nat_put16(icmp + NAT_ICMP_ID, id);
	nat_put16(icmp + NAT_ICMP_CHECKSUM, checksum);
}

/* A protocol that is translated by address only: at most its checksum changes. */
NAT_INLINE bool nat_apply_other(uint8_t *t, const uint8_t *end, unsigned kind, uint16_t address_delta)
{
	if (kind == NAT_KIND_OTHER)
		return true;
	if (t + 8 > end)
		return false;
	uint16_t checksum = nat_get16(t + NAT_UDPLITE_CHECKSUM); /* DCCP has it in the same place */
	/*
	 * A UDP-Lite checksum of 0 is no checksum, which RFC 3828 section 3.1 forbids: it stays what
	 * it is, so that the receiver refuses the packet as it would have without us.
	 */
	checksum = kind == NAT_KIND_UDPLITE ? nat_csum_apply_udp(checksum, address_delta)
					    : nat_csum_apply(checksum, address_delta);
	nat_put16(t + NAT_UDPLITE_CHECKSUM, checksum);
	return true;
}

/* New ports and checksum of TCP, UDP, ICMP query, or other protocol whose header is at t. */
NAT_INLINE bool nat_apply_transport(uint8_t *t, const uint8_t *end, unsigned kind,
				    const struct nat_slot *slot, unsigned flags)
{
	if (kind >= NAT_KIND_OTHER)
		return nat_apply_other(t, end, kind, slot->address_delta);
	if (t + 8 > end)
		return false;
	if (kind == NAT_KIND_QUERY) {
		nat_apply_query(t, slot);
		return true;
	}
	nat_put16(t + NAT_PORT_SOURCE, slot->source_port);
	nat_put16(t + NAT_PORT_DESTINATION, slot->destination_port);
	if (kind == NAT_KIND_UDP) {
		uint16_t checksum = nat_get16(t + NAT_UDP_CHECKSUM);
		checksum = flags & NAT_PARTIAL_CHECKSUM
			       ? nat_csum_apply_partial(checksum, slot->address_delta)
			       : nat_csum_apply_udp(checksum, slot->transport_delta);
		nat_put16(t + NAT_UDP_CHECKSUM, checksum);
		return true;
	}
	if (t + NAT_TCP_HEADER > end)
		return false;
	uint16_t checksum = nat_get16(t + NAT_TCP_CHECKSUM);
	checksum = flags & NAT_PARTIAL_CHECKSUM
		       ? nat_csum_apply_partial(checksum, slot->address_delta)
		       : nat_csum_apply(checksum, slot->transport_delta);
	nat_put16(t + NAT_TCP_CHECKSUM, checksum);
	return true;
}

/* The hit path, also in BPF: a packet of nat_parse_plain. */
NAT_INLINE bool nat_apply_plain(uint8_t *data, const uint8_t *end, const struct nat_packet *p,
				const struct nat_slot *slot, unsigned flags)
{
	if (data + NAT_IP_HEADER > end ||
	    !nat_apply_transport(data + NAT_IP_HEADER, end, p->kind, slot, flags))
		return false;
	nat_apply_ip(data, slot->source, slot->destination, slot->address_delta, flags);
	return true;
}

#ifndef __bpf__
#include "rewrite_error.h"

/*
 * Any packet that nat_parse took: its slot is that of p->tuple. A later fragment has only addresses
 * to change; its slot's ports are not looked at.
 */
NAT_INLINE bool nat_apply(uint8_t *data, const uint8_t *end, const struct nat_packet *p,
			  const struct nat_slot *slot, unsigned flags)
{
	if (data + p->total > end)
		return false;
	if (p->kind == NAT_KIND_ERROR) {
		nat_apply_error(data, p, slot, flags);
		return true;
	}
	if (p->kind != NAT_KIND_FRAGMENT &&
	    !nat_apply_transport(data + p->header, end, p->kind, slot, flags))
		return false;
	nat_apply_ip(data, slot->source, slot->destination, slot->address_delta, flags);
	return true;
}
#endif

#endif
