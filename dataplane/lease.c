/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/lease.h"

#include "dataplane/cache_mutation.h"

void lease_welcome(struct lease *lease, const struct wire_welcome *welcome, struct monotime now)
{
	lease->lease_ms = welcome->lease_ms;
	lease->heartbeat_ms = welcome->heartbeat_ms;
	lease->grace_ms = welcome->grace_ms;
	lease->draining = welcome->draining;
	lease->attached_at = now;
	lease->next_heartbeat = (struct monotime){0};
}

void lease_disconnected(struct lease *lease)
{
	lease->attached_at = (struct monotime){0};
}

bool lease_heartbeat_due(struct lease *lease, struct monotime now)
{
	if (!lease_attached(lease) || monotime_before(now, lease->next_heartbeat))
		return false;
	lease->next_heartbeat = monotime_add_ms(now, lease->heartbeat_ms);
	return true;
}

bool lease_acknowledged(struct lease *lease, const struct wire_heartbeat_ack *ack,
			struct monotime now)
{
	if (!lease_attached(lease))
		return false;
	lease->draining = ack->draining;
	if (!ack->renewed || ack->sent_ms > (uint64_t)monotime_ms(now))
		return false;
	struct monotime sent = {(int64_t)ack->sent_ms * MS_NS};
	struct monotime asking_until = monotime_add_ms(sent, lease->lease_ms);
	struct monotime valid_until = monotime_add_ms(asking_until, lease->grace_ms);

	if (cache_mutated(CACHE_MUTATION_NO_LEASE))
		valid_until = MONOTIME_NEVER;
	/* Acknowledgements come in order; an older one would only take away what was granted. */
	if (monotime_before(lease->asking_until, asking_until))
		lease->asking_until = asking_until;
	if (!monotime_before(lease->valid_until, valid_until))
		return false;
	lease->valid_until = valid_until;
	return true;
}

struct monotime lease_reconnect_at(const struct lease *lease)
{
	struct monotime tried = monotime_add_ms(lease->attached_at, lease->lease_ms);

	if (!lease_attached(lease))
		return MONOTIME_NEVER;
	return monotime_before(lease->asking_until, tried) ? tried : lease->asking_until;
}
