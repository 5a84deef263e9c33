/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A dataplane's lease at a shard. Everything is reckoned from when a heartbeat was *sent*: the
 * service cannot have received it earlier, so its own reckoning (plus a margin) always ends later
 * than ours.
 *
 *   sent          + lease_ms             + grace_ms
 *   |--- ask and translate ---|--- translate ---|  nothing
 */
#ifndef DATAPLANE_LEASE_H
#define DATAPLANE_LEASE_H

#include <stdbool.h>
#include "common/base/clock.h"
#include "common/wire/wire.h"

struct lease {
	uint32_t lease_ms, heartbeat_ms, grace_ms;
	struct monotime attached_at;	/* of the last welcome; 0 = detached */
	struct monotime asking_until;	/* new flows may be asked for; 0 = never had a lease */
	struct monotime valid_until;	/* held flows may be translated */
	struct monotime next_heartbeat; /* 0 = at once */
	bool draining;
};

void lease_welcome(struct lease *lease, const struct wire_welcome *welcome, struct monotime now);
void lease_disconnected(struct lease *lease);
/* True once for each heartbeat to send. */
bool lease_heartbeat_due(struct lease *lease, struct monotime now);
/* True when valid_until changed. An echo of what was never sent (from the future) is ignored. */
bool lease_acknowledged(struct lease *lease, const struct wire_heartbeat_ack *ack,
			struct monotime now);

static inline bool lease_attached(const struct lease *lease)
{
	return lease->attached_at.ns != 0;
}

/* May ask: attached, and the service counts us among the living. */
static inline bool lease_may_ask(const struct lease *lease, struct monotime now)
{
	return lease_attached(lease) && monotime_before(now, lease->asking_until);
}

static inline bool lease_may_translate(const struct lease *lease, struct monotime now)
{
	return monotime_before(now, lease->valid_until);
}

/*
 * From when on it is of no use to stay attached: attached for a whole lease, and not renewed in all
 * that time. MONOTIME_NEVER when not attached.
 */
struct monotime lease_reconnect_at(const struct lease *lease);

#endif
