/* SPDX-License-Identifier: Apache-2.0 */
/* A table with one realm, one pool and a clock of its own, for tests that talk to it directly. */
#ifndef SUPPORT_TABLE_RIG_H
#define SUPPORT_TABLE_RIG_H

#include "common/base/err.h"
#include "tablesvc/table.h"

struct rig {
	struct config config;
	struct config_pool pool;
	struct config_realm realm;
	struct config_prefix pool_prefix, realm_prefix;
	struct journal *journal;
	struct event_log *events; /* before rig_start; NULL = nobody listens */
	struct random_source random;
	uint64_t seed;
	struct table *table;
	struct monotime now;
	uint64_t batch[WIRE_DATAPLANES_MAX]; /* per dataplane: last sent, last seen */
	uint64_t seen[WIRE_DATAPLANES_MAX];
	struct wire_notice notices[64]; /* of the last rig_collect */
	unsigned n_notices;
	uint8_t kinds[64];
	unsigned flushes;
};

/* Inside 10.0.0.0/8 is realm 1; the pool is 192.0.2.0/30, ports 1024-65535, blocks of 256. */
void rig_config(struct rig *rig);
void rig_start(struct rig *rig);
void rig_stop(struct rig *rig);

nat_be32 ip(const char *text);
struct nat_tuple tuple_of(unsigned protocol, unsigned realm, const char *source, unsigned source_port,
			  const char *destination, unsigned destination_port);

/* Attaches a dataplane (the number is its incarnation); aborts when it can't. */
uint32_t rig_attach(struct rig *rig, unsigned number);
/* One question in a batch of its own; messages on the way are collected and acknowledged later. */
struct wire_answer rig_ask(struct rig *rig, uint32_t dataplane, unsigned op, struct nat_tuple tuple,
			   uint8_t tcp_flags);
/* The same about a fragment. */
struct wire_answer rig_fragment(struct rig *rig, uint32_t dataplane, unsigned op,
				struct nat_tuple tuple, uint16_t identification);
struct wire_answer rig_out(struct rig *rig, uint32_t dataplane, struct nat_tuple tuple);
struct wire_answer rig_in(struct rig *rig, uint32_t dataplane, struct nat_tuple tuple);
/* The tuple of the answering packet. */
struct nat_tuple rig_reverse(struct nat_tuple tuple, const struct wire_answer *answer);
void rig_report(struct rig *rig, uint32_t dataplane, unsigned op, uint64_t handle, uint32_t age_ms,
		uint8_t tcp_flags, unsigned direction);
/* Takes every message for the dataplane; notices go to rig->notices. */
void rig_collect(struct rig *rig, uint32_t dataplane);
bool rig_heartbeat(struct rig *rig, uint32_t dataplane, bool acknowledge);
/* Lets time pass in steps of 50 ms; dataplanes in the mask go on with their heartbeats. */
void rig_pass(struct rig *rig, int64_t ms, uint64_t beating);
struct table_counters rig_counters(struct rig *rig);

#endif
