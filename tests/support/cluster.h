/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cluster in one process: the table of a rig, and dataplanes that are the real cache and flow
 * table without packets. Nothing is lost or late between them; time is the rig's. For tests of what
 * both halves do together; tests/sim is for what disturbs them.
 */
#ifndef SUPPORT_CLUSTER_H
#define SUPPORT_CLUSTER_H

#include "dataplane/cache.h"
#include "tests/support/table_rig.h"

enum { CLUSTER_DATAPLANES = 4 };

struct cluster {
	struct rig rig; /* rig_config first, then changes to it, then cluster_start */
	unsigned n;
	struct cluster_dataplane {
		struct cluster *cluster;
		struct cache *cache;
		struct flowtable *flows;
		uint32_t number; /* at the table */
	} dataplanes[CLUSTER_DATAPLANES];
	struct wire_answer answer; /* to the last packet that had to be asked about */
};

void cluster_start(struct cluster *cluster, unsigned dataplanes);
void cluster_stop(struct cluster *cluster);
/* Lets time pass; sessions expire, heartbeats beat. */
void cluster_pass(struct cluster *cluster, int64_t ms);
/*
 * A packet comes to a dataplane. NAT_REASON_NONE: it leaves, and looks like *out (may be NULL); else
 * why it does not.
 */
unsigned cluster_packet(struct cluster *cluster, unsigned dataplane, struct nat_tuple tuple,
			uint8_t tcp_flags, struct nat_tuple *out);
/* An ICMP error that travels like tuple does. */
unsigned cluster_error(struct cluster *cluster, unsigned dataplane, struct nat_tuple tuple);

#endif
