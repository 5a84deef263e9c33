/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/local_output.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include "common/base/err.h"
#include "common/base/log.h"
#include "common/nat/packet.h"

int local_output_open(int *out)
{
	/* IPPROTO_RAW: headers are ours, and nothing is ever received. */
	int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW);
	if (fd < 0) {
		log_error("cannot open a raw socket for ICMP errors: %s%s", strerror(errno),
			  errno == EPERM ? "; run as root or with CAP_NET_RAW" : "");
		return ERR_IO;
	}
	*out = fd;
	return 0;
}

bool local_output_send(int fd, const uint8_t *data, uint32_t length)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
				 .sin_addr.s_addr = nat_get32(data + NAT_IP_DESTINATION)};
	return sendto(fd, data, length, 0, (const struct sockaddr *)&to, sizeof to) >= 0;
}
