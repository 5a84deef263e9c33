/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio header in front of a TUN packet <-> the two facts about it that the engine knows:
 * partial checksum and segment size. Both directions are checked: what comes from a device may come
 * from a virtual machine behind it.
 */
#ifndef DATAPLANE_VNET_H
#define DATAPLANE_VNET_H

#include <linux/virtio_net.h>
#include "dataplane/engine.h"

/* Also with headers older than Linux 6.2. */
enum { VNET_GSO_UDP_L4 = 5 };

enum vnet_found { VNET_BAD = -1, VNET_OK = 0, VNET_COMPLETED = 1 };

/*
 * Sets partial_checksum and gso_size of a packet that was read. A partial checksum that is not that
 * of the packet's own TCP or UDP header (of a tunnelled packet inside) is completed here, so that
 * one flag says it all (VNET_COMPLETED). VNET_BAD: header and packet contradict each other.
 */
enum vnet_found vnet_read(const struct virtio_net_hdr *header, struct engine_packet *packet);

/* The header to write in front of a packet. */
void vnet_write(const struct engine_packet *packet, struct virtio_net_hdr *header);

#endif
