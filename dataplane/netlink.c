/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/netlink.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/fib_rules.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "common/base/err.h"

struct netlink {
	struct mnl_socket *socket;
	unsigned port, sequence;
	char buffer[32768]; /* MNL_SOCKET_BUFFER_SIZE is not a constant */
};

int netlink_open(struct netlink **out)
{
	struct netlink *netlink = calloc(1, sizeof *netlink);
	if (!netlink)
		return -ENOMEM;
	netlink->socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	if (!netlink->socket || mnl_socket_bind(netlink->socket, 0, MNL_SOCKET_AUTOPID) < 0) {
		int err = -errno;
		netlink_close(netlink);
		return err;
	}
	netlink->port = mnl_socket_get_portid(netlink->socket);
	netlink->sequence = (unsigned)time(NULL);
	*out = netlink;
	return 0;
}

void netlink_close(struct netlink *netlink)
{
	if (!netlink)
		return;
	if (netlink->socket)
		mnl_socket_close(netlink->socket);
	free(netlink);
}

static struct nlmsghdr *request(struct netlink *netlink, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *message = mnl_nlmsg_put_header(netlink->buffer);
	message->nlmsg_type = type;
	message->nlmsg_flags = NLM_F_REQUEST | flags;
	message->nlmsg_seq = ++netlink->sequence;
	return message;
}

/* Sends and reads until the kernel acknowledges or a dump ends; callback may be NULL. */
static int talk(struct netlink *netlink, struct nlmsghdr *message, mnl_cb_t callback, void *context)
{
	unsigned sequence = message->nlmsg_seq;
	if (mnl_socket_sendto(netlink->socket, message, message->nlmsg_len) < 0)
		return -errno;
	for (;;) {
		ssize_t n =
		    mnl_socket_recvfrom(netlink->socket, netlink->buffer, sizeof netlink->buffer);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		int more = mnl_cb_run(netlink->buffer, (size_t)n, sequence, netlink->port, callback,
				      context);
		if (more < 0)
			return -errno;
		if (more == MNL_CB_STOP)
			return 0;
	}
}

static int index_of(const char *device, unsigned *index)
{
	*index = if_nametoindex(device);
	return *index ? 0 : -ENODEV;
}

int netlink_rule(struct netlink *netlink, const struct netlink_rule *rule, bool add)
{
	struct nlmsghdr *message =
	    request(netlink, add ? RTM_NEWRULE : RTM_DELRULE,
		    (uint16_t)(NLM_F_ACK | (add ? NLM_F_CREATE | NLM_F_EXCL : 0)));
	struct fib_rule_hdr *header = mnl_nlmsg_put_extra_header(message, sizeof *header);
	header->family = AF_INET;
	header->action = FR_ACT_TO_TBL;
	header->table = RT_TABLE_UNSPEC;
	header->dst_len = rule->length;
	mnl_attr_put_strz(message, FRA_IIFNAME, rule->ingress);
	if (rule->length > 0)
		mnl_attr_put_u32(message, FRA_DST, rule->destination);
	if (rule->icmp)
		mnl_attr_put_u8(message, FRA_IP_PROTO, IPPROTO_ICMP);
	/* Of what the kernel itself sends, a flow's ICMP type and code lie where ports would. */
	struct fib_rule_port_range range = {rule->icmp_first, rule->icmp_last};
	if (rule->icmp_last)
		mnl_attr_put(message, FRA_DPORT_RANGE, sizeof range, &range);
	mnl_attr_put_u32(message, FRA_PRIORITY, rule->priority);
	mnl_attr_put_u32(message, FRA_TABLE, rule->table);
	mnl_attr_put_u8(message, FRA_PROTOCOL, NETLINK_PROTOCOL);
	int err = talk(netlink, message, NULL, NULL);
	return err == (add ? -EEXIST : -ENOENT) ? 0 : err;
}

int netlink_route(struct netlink *netlink, const struct netlink_route *route, bool add)
{
	unsigned index = 0;
	if (route->device && index_of(route->device, &index) < 0)
		return add ? -ENODEV : 0; /* the kernel took the route away with its device */
	struct nlmsghdr *message =
	    request(netlink, add ? RTM_NEWROUTE : RTM_DELROUTE,
		    (uint16_t)(NLM_F_ACK | (add ? NLM_F_CREATE | NLM_F_EXCL : 0)));
	struct rtmsg *header = mnl_nlmsg_put_extra_header(message, sizeof *header);
	header->rtm_family = AF_INET;
	header->rtm_dst_len = route->length;
	header->rtm_table = RT_TABLE_UNSPEC;
	header->rtm_protocol = NETLINK_PROTOCOL;
	header->rtm_type = route->device ? RTN_UNICAST : RTN_BLACKHOLE;
	header->rtm_scope = route->device ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
	if (route->length > 0)
		mnl_attr_put_u32(message, RTA_DST, route->destination);
	if (route->device)
		mnl_attr_put_u32(message, RTA_OIF, index);
	mnl_attr_put_u32(message, RTA_PRIORITY, route->metric);
	mnl_attr_put_u32(message, RTA_TABLE, route->table);
	int err = talk(netlink, message, NULL, NULL);
	return err == (add ? -EEXIST : -ESRCH) ? 0 : err;
}

int netlink_proxy(struct netlink *netlink, const char *device, nat_be32 address, bool add)
{
	unsigned index = 0;
	if (index_of(device, &index) < 0)
		return add ? -ENODEV : 0;
	struct nlmsghdr *message =
	    request(netlink, add ? RTM_NEWNEIGH : RTM_DELNEIGH,
		    (uint16_t)(NLM_F_ACK | (add ? NLM_F_CREATE | NLM_F_REPLACE : 0)));
	struct ndmsg *header = mnl_nlmsg_put_extra_header(message, sizeof *header);
	header->ndm_family = AF_INET;
	header->ndm_ifindex = (int)index;
	header->ndm_flags = NTF_PROXY;
	header->ndm_state = NUD_PERMANENT;
	mnl_attr_put_u32(message, NDA_DST, address);
	if (add)
		mnl_attr_put_u8(message, NDA_PROTOCOL, NETLINK_PROTOCOL);
	int err = talk(netlink, message, NULL, NULL);
	return !add && err == -ENOENT ? 0 : err;
}

int netlink_proxy_exists(struct netlink *netlink, const char *device, nat_be32 address)
{
	unsigned index = 0;
	if (index_of(device, &index) < 0)
		return -ENODEV;
	struct nlmsghdr *message = request(netlink, RTM_GETNEIGH, NLM_F_ACK);
	struct ndmsg *header = mnl_nlmsg_put_extra_header(message, sizeof *header);
	header->ndm_family = AF_INET;
	header->ndm_ifindex = (int)index;
	header->ndm_flags = NTF_PROXY;
	mnl_attr_put_u32(message, NDA_DST, address);
	int err = talk(netlink, message, NULL, NULL);
	return err == 0 ? 1 : err == -ENOENT ? 0 : err;
}

int netlink_link_up(struct netlink *netlink, const char *device, uint32_t mtu, uint32_t queue)
{
	unsigned index = 0;
	if (index_of(device, &index) < 0)
		return -ENODEV;
	struct nlmsghdr *message = request(netlink, RTM_NEWLINK, NLM_F_ACK);
	struct ifinfomsg *header = mnl_nlmsg_put_extra_header(message, sizeof *header);
	header->ifi_family = AF_UNSPEC;
	header->ifi_index = (int)index;
	header->ifi_flags = IFF_UP;
	header->ifi_change = IFF_UP;
	mnl_attr_put_u32(message, IFLA_MTU, mtu);
	mnl_attr_put_u32(message, IFLA_TXQLEN, queue);
	return talk(netlink, message, NULL, NULL);
}

static int take_mtu(const struct nlmsghdr *message, void *context)
{
	const struct nlattr *attribute;
	mnl_attr_for_each(attribute, message, sizeof(struct ifinfomsg))
	{
		if (mnl_attr_get_type(attribute) == IFLA_MTU &&
		    mnl_attr_validate(attribute, MNL_TYPE_U32) == 0)
			*(uint32_t *)context = mnl_attr_get_u32(attribute);
	}
	return MNL_CB_OK;
}

int netlink_mtu(struct netlink *netlink, const char *device, uint32_t *mtu)
{
	unsigned index = 0;
	if (index_of(device, &index) < 0)
		return -ENODEV;
	struct nlmsghdr *message = request(netlink, RTM_GETLINK, NLM_F_ACK);
	struct ifinfomsg *header = mnl_nlmsg_put_extra_header(message, sizeof *header);
	header->ifi_family = AF_UNSPEC;
	header->ifi_index = (int)index;
	*mtu = 0;
	return talk(netlink, message, take_mtu, mtu);
}

int netlink_watch(int *fd)
{
	struct sockaddr_nl all = {.nl_family = AF_NETLINK,
				  .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR};
	*fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	if (*fd < 0 || bind(*fd, (const struct sockaddr *)&all, sizeof all) < 0) {
		int err = -errno;
		if (*fd >= 0)
			close(*fd);
		*fd = -1;
		return err;
	}
	return 0;
}

void netlink_watch_read(int fd)
{
	char buffer[8192];
	/* Overrun is news, too; it is told once. */
	while (recv(fd, buffer, sizeof buffer, 0) > 0 || errno == ENOBUFS || errno == EINTR)
		;
}

struct address_visit {
	void (*visit)(void *context, unsigned index, nat_be32 address, uint8_t length);
	void *context;
};

static int take_address(const struct nlmsghdr *message, void *context)
{
	const struct address_visit *visit = context;
	const struct ifaddrmsg *header = mnl_nlmsg_get_payload(message);
	const struct nlattr *attribute;
	nat_be32 address = 0;
	bool found = false;
	mnl_attr_for_each(attribute, message, sizeof *header)
	{
		/* IFA_LOCAL is the host's own; IFA_ADDRESS is the peer's on point-to-point links.
		 */
		if (mnl_attr_get_type(attribute) == IFA_LOCAL &&
		    mnl_attr_validate(attribute, MNL_TYPE_U32) == 0) {
			address = mnl_attr_get_u32(attribute);
			found = true;
		}
	}
	if (found)
		visit->visit(visit->context, header->ifa_index, address, header->ifa_prefixlen);
	return MNL_CB_OK;
}

int netlink_addresses(struct netlink *netlink,
		      void (*visit)(void *context, unsigned index, nat_be32 address,
				    uint8_t length),
		      void *context)
{
	struct address_visit addresses = {visit, context};
	struct nlmsghdr *message = request(netlink, RTM_GETADDR, NLM_F_DUMP);
	struct ifaddrmsg *header = mnl_nlmsg_put_extra_header(message, sizeof *header);
	header->ifa_family = AF_INET;
	return talk(netlink, message, take_address, &addresses);
}
