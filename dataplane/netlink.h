/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The few rtnetlink requests that the host's set-up needs, one at a time, each acknowledged by the
 * kernel. Not thread-safe. Every function returns 0 or a negative errno of the kernel's.
 */
#ifndef DATAPLANE_NETLINK_H
#define DATAPLANE_NETLINK_H

#include <stdbool.h>
#include "common/nat/types.h"

/* rtm_protocol, FRA_PROTOCOL and NDA_PROTOCOL of what is ours: `ip route show proto 202`. */
enum { NETLINK_PROTOCOL = 202 };

struct netlink;

int netlink_open(struct netlink **out);
void netlink_close(struct netlink *netlink);

struct netlink_rule {
	const char *ingress; /* interface name */
	nat_be32 destination;
	uint8_t length; /* of destination; 0 = any */
	uint32_t priority, table;
	bool icmp; /* ICMP alone; of that, type * 256 + code from first to last, 0 = any */
	uint16_t icmp_first, icmp_last;
};
/* Adding what exists is success, as is deleting what does not. Only ours are ever deleted. */
int netlink_rule(struct netlink *netlink, const struct netlink_rule *rule, bool add);

struct netlink_route {
	nat_be32 destination;
	uint8_t length;
	uint32_t metric, table;
	const char *device; /* NULL: a blackhole */
};
int netlink_route(struct netlink *netlink, const struct netlink_route *route, bool add);

/* Answer ARP for address on device (`ip neigh add proxy`). */
int netlink_proxy(struct netlink *netlink, const char *device, nat_be32 address, bool add);
/* 1 when such an entry exists, 0 when not. */
int netlink_proxy_exists(struct netlink *netlink, const char *device, nat_be32 address);

/* Up, with this MTU and transmit queue length. */
int netlink_link_up(struct netlink *netlink, const char *device, uint32_t mtu, uint32_t queue);
/* The MTU of a device. */
int netlink_mtu(struct netlink *netlink, const char *device, uint32_t *mtu);

/*
 * A descriptor that is readable when a link's or an IPv4 address' state has changed, the caller's to
 * close; and what makes it unreadable again. A hint: events may be lost when there are too many.
 */
int netlink_watch(int *fd);
void netlink_watch_read(int fd);

/* Calls visit for each IPv4 address of the network namespace. */
int netlink_addresses(struct netlink *netlink,
		      void (*visit)(void *context, unsigned index, nat_be32 address,
				    uint8_t length),
		      void *context);

#endif
