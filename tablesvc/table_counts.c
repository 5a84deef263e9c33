/* SPDX-License-Identifier: Apache-2.0 */
/* What a network manager wants to count (RFC 6888 REQ-10, RFC 7659): by protocol and by pool. */
#include "tablesvc/table_internal.h"

#include <string.h>

static struct table_protocol_counts *of_protocol(struct table *t, const struct mapping *m)
{
	return &t->counters.protocols[m->protocol == NAT_TCP	? TABLE_TCP
				      : m->protocol == NAT_UDP	? TABLE_UDP
				      : m->protocol == NAT_ICMP ? TABLE_ICMP
								: TABLE_OTHER];
}

void counts_mapping(struct table *t, const struct mapping *m, bool created)
{
	struct table_protocol_counts *protocol = of_protocol(t, m);
	unsigned pool = portpool_pool(t->pools, m->place);

	(*(created ? &protocol->mappings_created : &protocol->mappings_ended))++;
	if (pool >= t->config.n_pools) /* its address left the pools */
		return;
	struct table_pool_counts *counts = &t->pool_counts[pool];
	(*(created ? &counts->mappings_created : &counts->mappings_ended))++;
}

void counts_session(struct table *t, const struct mapping *m, bool created)
{
	struct table_protocol_counts *protocol = of_protocol(t, m);

	(*(created ? &protocol->sessions_created : &protocol->sessions_ended))++;
}

void counts_refusal(struct table *t, unsigned pool, unsigned reason)
{
	if (pool >= t->config.n_pools)
		return;
	struct table_pool_counts *counts = &t->pool_counts[pool];
	switch (reason) {
	case NAT_REASON_PORTS_EXHAUSTED:
	case NAT_REASON_HOLD_DOWN:
		counts->out_of_ports++;
		break;
	case NAT_REASON_SUBSCRIBER_BLOCKS:
	case NAT_REASON_SUBSCRIBER_PORTS:
	case NAT_REASON_SUBSCRIBER_SESSIONS:
	case NAT_REASON_SUBSCRIBER_RATE:
		counts->quota++;
		break;
	case NAT_REASON_TABLE_FULL:
		counts->memory++;
		break;
	}
}

void counts_move(struct table *t, const struct config *old)
{
	struct table_pool_counts before[CONFIG_POOLS_MAX];

	memcpy(before, t->pool_counts, sizeof before);
	memset(t->pool_counts, 0, sizeof t->pool_counts);
	for (unsigned i = 0; i < t->config.n_pools; i++)
		for (unsigned j = 0; j < old->n_pools; j++)
			if (strcmp(t->config.pools[i].name, old->pools[j].name) == 0)
				t->pool_counts[i] = before[j];
}
