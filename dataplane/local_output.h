/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends packets as the host's own: what the engine makes itself (ICMP errors) has a source address
 * of the host, and the kernel takes such from no device, the TUN devices included (a martian; with
 * reverse path filters on not even accept_local helps). Any thread.
 */
#ifndef DATAPLANE_LOCAL_OUTPUT_H
#define DATAPLANE_LOCAL_OUTPUT_H

#include <stdbool.h>
#include <stdint.h>

/* 0, or a negative error and a line in the log. *out is closed by the caller. */
int local_output_open(int *out);
/* An IPv4 packet with its header, routed by its destination. False when the kernel refused it. */
bool local_output_send(int fd, const uint8_t *data, uint32_t length);

#endif
