/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/vnet.h"

#include <arpa/inet.h>
#include <string.h>

enum {
	IP_MIN = 20,
	TCP_MIN = 20,
	UDP_HEADER = 8,
	TCP_CHECKSUM = 16, /* offsets in the transport header */
	UDP_CHECKSUM = 6,
	TCP_FLAG_CWR = 0x80,
};

/* Length of the IPv4 header, 0 when this is none. */
static unsigned header_length(const struct engine_packet *packet)
{
	if (packet->length < IP_MIN || packet->data[0] >> 4 != 4)
		return 0;
	unsigned length = (packet->data[0] & 0x0fu) * 4;
	return length >= IP_MIN && length <= packet->length ? length : 0;
}

static bool is_fragment(const struct engine_packet *packet)
{
	return (packet->data[6] & 0x3f) != 0 || packet->data[7] != 0;
}

/* Where the transport's checksum lies, from the transport header; 0 for others. */
static unsigned checksum_offset(const struct engine_packet *packet)
{
	unsigned protocol = packet->data[9];
	return protocol == NAT_TCP ? TCP_CHECKSUM : protocol == NAT_UDP ? UDP_CHECKSUM : 0;
}

/* RFC 1071 over [start, length), which includes the pseudo header's sum at start + offset. */
static void complete_checksum(struct engine_packet *packet, unsigned start, unsigned offset)
{
	uint64_t sum = 0;
	for (unsigned i = start; i + 1 < packet->length; i += 2)
		sum += (unsigned)packet->data[i] << 8 | packet->data[i + 1];
	if ((packet->length - start) & 1)
		sum += (unsigned)packet->data[packet->length - 1] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	uint16_t checksum = (uint16_t)~sum;
	if (checksum == 0)
		checksum = 0xffff; /* 0 would mean "none" in UDP, and is the same sum elsewhere */
	packet->data[start + offset] = (uint8_t)(checksum >> 8);
	packet->data[start + offset + 1] = (uint8_t)checksum;
}

enum vnet_found vnet_read(const struct virtio_net_hdr *header, struct engine_packet *packet)
{
	unsigned gso = header->gso_type & ~VIRTIO_NET_HDR_GSO_ECN;
	unsigned ip = header_length(packet);
	packet->partial_checksum = false;
	packet->gso_size = 0;
	if (!(header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
		return gso == VIRTIO_NET_HDR_GSO_NONE ? VNET_OK : VNET_BAD;
	unsigned start = header->csum_start, offset = header->csum_offset;
	if (start + offset + 2 > packet->length)
		return VNET_BAD;
	bool own = ip != 0 && start == ip && offset != 0 && !is_fragment(packet) &&
		   offset == checksum_offset(packet);
	if (!own) {
		if (gso != VIRTIO_NET_HDR_GSO_NONE)
			return VNET_BAD;
		complete_checksum(packet, start, offset);
		return VNET_COMPLETED;
	}
	unsigned protocol = packet->data[9];
	if (gso != VIRTIO_NET_HDR_GSO_NONE &&
	    (header->gso_size == 0 || !((gso == VIRTIO_NET_HDR_GSO_TCPV4 && protocol == NAT_TCP) ||
					(gso == VNET_GSO_UDP_L4 && protocol == NAT_UDP))))
		return VNET_BAD;
	packet->partial_checksum = true;
	packet->gso_size = gso == VIRTIO_NET_HDR_GSO_NONE ? 0 : header->gso_size;
	return VNET_OK;
}

void vnet_write(const struct engine_packet *packet, struct virtio_net_hdr *header)
{
	memset(header, 0, sizeof *header);
	unsigned ip = header_length(packet);
	if (!packet->partial_checksum || ip == 0)
		return;
	bool tcp = packet->data[9] == NAT_TCP;
	header->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	header->csum_start = (uint16_t)ip;
	header->csum_offset = tcp ? TCP_CHECKSUM : UDP_CHECKSUM;
	unsigned transport = tcp && packet->length >= ip + TCP_MIN
				 ? (unsigned)(packet->data[ip + 12] >> 4) * 4
				 : UDP_HEADER;
	/* A super-packet of one segment is none; the kernel would refuse it. */
	if (packet->gso_size == 0 || packet->length <= ip + transport + packet->gso_size)
		return;
	header->gso_type = tcp ? VIRTIO_NET_HDR_GSO_TCPV4 : VNET_GSO_UDP_L4;
	if (tcp && packet->data[ip + 13] & TCP_FLAG_CWR)
		header->gso_type |= VIRTIO_NET_HDR_GSO_ECN; /* CWR on the first segment only */
	header->gso_size = packet->gso_size;
	header->hdr_len = (uint16_t)(ip + transport);
}
