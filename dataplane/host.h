/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's set-up for the TUN port: makes the plan of host_plan.h true by netlink and /proc, and
 * takes it back.
 *
 * Each change is written to RUN_DIR/netns-INODE.state before it is made. A clean exit undoes all of
 * them in reverse order. A run that finds the state of one that crashed adopts it: what it needs
 * too stays untouched, so there is no moment without the blackholes; what it does not need is
 * undone when its own pools are known; sysctls keep the value from before the first run. The file
 * names boot and network namespace, so a state that belongs to neither is discarded. A lock beside
 * it keeps a second dataplane out of the same network namespace (the devices have fixed names).
 *
 *   host_new -> the port creates its devices -> host_start -> host_configure ... -> host_free
 *
 * host_configure and host_refresh may be called from different threads.
 */
#ifndef DATAPLANE_HOST_H
#define DATAPLANE_HOST_H

#include "dataplane/host_plan.h"

#define HOST_RUN_DIR "/run/conat"

struct host;

struct host_conf {
	struct port_interface interfaces[PORT_INTERFACES_MAX]; /* of the host, with their realms */
	unsigned n;
	bool print_only;  /* leave the host alone and print the commands to stdout */
	char run_dir[96]; /* "" = HOST_RUN_DIR */
};

/* Takes the lock and reads what a crashed run left. 0, or a negative error and a line in the log.
 */
int host_new(const struct host_conf *conf, struct host **out);
/* Undoes everything. */
void host_free(struct host *host);

/* The TUN devices exist: brings them up, sets up all but the pools. */
int host_start(struct host *host);
/* A configuration of the table service: pools, inside prefixes. On failure all stays as it was. */
int host_configure(struct host *host, const struct wire_config *config);
/* Looks at the interfaces again; true when their addresses or MTUs changed. */
bool host_refresh(struct host *host);

/* TTL mode, MTUs and ICMP sources for the engine. */
void host_world(struct host *host, struct engine_config *out);
/* What keeps the port from working, for people; false when nothing does. */
bool host_problem(struct host *host, char sentence[HOST_SENTENCE_MAX]);
/* The problem is a configuration that cannot be set up on this host at all. */
bool host_refused(struct host *host);

#endif
