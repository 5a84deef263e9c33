/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IPv4 options. All travel untouched but for source routes (LSRR, SSRR): their packets are dropped
 * (RFC 7126 sections 4.3 and 4.4; RFC 5508 REQ-10b need not support them). Behind a NAT they could
 * not work: the destination that the header shows is only the next stop, so the session would be
 * another one at each of them, and the route's inside addresses would be seen outside. Record route
 * and timestamp stay as they are; what inside routers wrote into them is not hidden.
 */
#ifndef NAT_OPTIONS_H
#define NAT_OPTIONS_H

#include "packet.h"

enum {
	NAT_OPTION_END = 0,
	NAT_OPTION_NOP = 1,
	NAT_OPTION_LSRR = 131,
	NAT_OPTION_SSRR = 137,
};

/* Whether the options of the IPv4 header at ip, header bytes long, have a source route. */
NAT_INLINE bool nat_options_source_route(const uint8_t *ip, uint32_t header)
{
	uint32_t at = NAT_IP_HEADER;

	while (at < header && ip[at] != NAT_OPTION_END) {
		if (ip[at] == NAT_OPTION_LSRR || ip[at] == NAT_OPTION_SSRR)
			return true;
		if (ip[at] == NAT_OPTION_NOP) {
			at++;
			continue;
		}
		if (at + 1 >= header || ip[at + 1] < 2)
			break; /* malformed: nobody finds anything behind it */
		at += ip[at + 1];
	}
	return false;
}

#endif
