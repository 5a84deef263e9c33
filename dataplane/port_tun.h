/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The TUN port, the portable one: one multi-queue TUN device for each realm, so that the device
 * says where a packet came from; the kernel routes packets into the devices (host.h) and on from
 * them. One worker thread a queue serves that queue of every device. Super-packets (GSO) and
 * partial checksums travel as they are, by the virtio header in front of each packet.
 */
#ifndef DATAPLANE_PORT_TUN_H
#define DATAPLANE_PORT_TUN_H

#include "dataplane/host.h"
#include "dataplane/port.h"

/* The engine workers of its threads are PORT_TUN_WORKER .. PORT_TUN_WORKER + queues - 1. */
enum { PORT_TUN_WORKER = 1, PORT_TUN_QUEUES_MAX = ENGINE_WORKERS_MAX - PORT_TUN_WORKER };

struct port_tun_conf {
	struct port_interface interfaces[PORT_INTERFACES_MAX]; /* of the host, with their realms */
	unsigned n;
	unsigned queues;  /* 1 to PORT_TUN_QUEUES_MAX */
	bool host_setup;  /* false: print the commands instead */
	char run_dir[96]; /* as in host_conf */
};

/*
 * finished() says that somebody deleted a device: nothing flows any more, the program should end.
 *
 * Creates the devices; nothing flows before start. env is copied. 0, or a negative error and a line
 * in the log that says what to do.
 */
int port_tun_new(const struct port_tun_conf *conf, const struct port_env *env, struct port **out);

/* The host that the port has set up: for host_world, host_refresh, host_problem. */
struct host *port_tun_host(struct port *port);

#endif
