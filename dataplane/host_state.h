/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state file of host.h: a header that names boot and network namespace, then one item a line in
 * the order of application. Lines are appended before the change that they name; the file is
 * replaced as a whole when items leave it.
 */
#ifndef DATAPLANE_HOST_STATE_H
#define DATAPLANE_HOST_STATE_H

#include "dataplane/host_plan.h"

enum { HOST_PATH_MAX = 160 };

struct host_state {
	char path[HOST_PATH_MAX], lock_path[HOST_PATH_MAX];
	char boot[40];
	uint64_t netns; /* cookie of the network namespace, never reused until the next boot */
	int lock;	/* held while we run */
};

/* Makes the directory, takes the lock (waits a few seconds). ERR_EXISTS: another one runs here. */
int host_state_open(const char *run_dir, struct host_state *out);
/* Releases the lock; the file stays as it is. */
void host_state_close(struct host_state *state);

/* What an earlier run left; nothing (0) when there is no file or it is of another boot or netns. */
int host_state_read(const struct host_state *state, struct host_plan *out);
int host_state_append(const struct host_state *state, const struct host_item *item);
/* An empty plan removes the file. */
int host_state_write(const struct host_state *state, const struct host_plan *plan);

#endif
