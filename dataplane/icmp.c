/* SPDX-License-Identifier: Apache-2.0 */
/* ICMP errors that the engine itself sends: the gateway's duties of RFC 1812 section 4.3. */
#include "common/nat/packet.h"
#include "dataplane/bytes.h"
#include "dataplane/engine_private.h"

enum {
	ERROR_LENGTH_MAX = 576, /* RFC 1812 4.3.2.3 */
	ERROR_TTL = 64,
	ERROR_TOS = 0xc0, /* internetwork control, RFC 1812 4.3.2.5 */
};

/* RFC 1122 section 3.2.2: what no ICMP error may ever be sent about. */
static bool may_be_answered(const struct engine_packet *packet)
{
	const uint8_t *ip = packet->data;
	uint32_t header = ip_header_length(ip);

	if (packet->length < header || (number16(ip + NAT_IP_FRAGMENT) & IPV4_OFFSET))
		return false;
	if (nat_address_unusable(nat_get32(ip + NAT_IP_SOURCE)) ||
	    nat_address_unusable(nat_get32(ip + NAT_IP_DESTINATION)))
		return false;
	if (ip[NAT_IP_PROTOCOL] == NAT_ICMP)
		return packet->length > header &&
		       (nat_icmp_is_request(ip[header]) || nat_icmp_is_reply(ip[header]));
	return true;
}

void icmp_error(struct engine *engine, const struct engine_packet *packet, uint8_t type,
		uint8_t code, uint32_t mtu, struct monotime now)
{
	const struct engine_config *config = &engine->settings->config;
	nat_be32 source = config->icmp_source[packet->ingress];
	nat_be32 receiver;
	uint8_t *ip = engine->scratch, *icmp = ip + NAT_IP_HEADER;
	uint32_t quoted = packet->length;

	if (packet->length < NAT_IP_HEADER || source == 0 || !may_be_answered(packet))
		return;
	/* The sender is where the packet came from (RFC 5508 REQ-9). */
	if (packet->ingress == NAT_REALM_OUTSIDE && config->table.no_icmp_outside)
		return;
	receiver = nat_get32(packet->data + NAT_IP_SOURCE);
	if (!ratelimit_allow(&engine->icmp_limit, receiver, now)) {
		count(&owner_counters(engine)->icmp_limited);
		return;
	}
	if (quoted > ERROR_LENGTH_MAX - NAT_IP_HEADER - NAT_ICMP_HEADER)
		quoted = ERROR_LENGTH_MAX - NAT_IP_HEADER - NAT_ICMP_HEADER;

	uint32_t length = NAT_IP_HEADER + NAT_ICMP_HEADER + quoted;
	memset(ip, 0, NAT_IP_HEADER + NAT_ICMP_HEADER);
	ip[0] = 0x45;
	ip[IPV4_TOS] = ERROR_TOS;
	put_number16(ip + NAT_IP_TOTAL, (uint16_t)length);
	put_number16(ip + NAT_IP_ID, fragments_identification(engine->fragments));
	ip[NAT_IP_TTL] = ERROR_TTL;
	ip[NAT_IP_PROTOCOL] = NAT_ICMP;
	nat_put32(ip + NAT_IP_SOURCE, source);
	nat_put32(ip + NAT_IP_DESTINATION, receiver);
	ip_seal(ip);

	icmp[NAT_ICMP_TYPE] = type;
	icmp[NAT_ICMP_CODE] = code;
	if (type == ICMP_UNREACHABLE && code == ICMP_TOO_BIG)
		put_number16(icmp + ICMP_MTU, (uint16_t)(mtu < 65535 ? mtu : 65535));
	memcpy(icmp + NAT_ICMP_HEADER, packet->data, quoted);
	nat_put16(icmp + NAT_ICMP_CHECKSUM, nat_csum_compute(icmp, NAT_ICMP_HEADER + quoted));

	struct engine_packet error = {
	    .data = ip,
	    .length = length,
	    .room = IPV4_TOTAL_MAX,
	    .ingress = packet->ingress,
	    .fate = ENGINE_OUT,
	    .egress = packet->ingress,
	    .own = true,
	};
	count(&owner_counters(engine)->icmp_sent);
	engine->owner.emit(engine->owner.context, &error);
}
