/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/cluster.h"

#include <stdio.h>
#include <stdlib.h>

#define MUST(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "cluster: %s:%d: %s\n", __FILE__, __LINE__, #condition);    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

enum { STEP_MS = 100, FLOWS = 64 };

static void answered(void *context, struct engine_packet *packet, const struct wire_answer *answer,
		     struct monotime now)
{
	struct cluster_dataplane *dp = context;
	(void)packet, (void)now;
	dp->cluster->answer = *answer;
}

static void wait_for_readers(void *context)
{
	(void)context;
}

static void valid_until(void *context, struct monotime until)
{
	(void)context, (void)until;
}

static void configured(void *context, const struct wire_config *config)
{
	(void)context, (void)config;
}

/* Whether anything went up or down. */
static bool exchange(struct cluster *cluster, struct cluster_dataplane *dp)
{
	struct rig *rig = &cluster->rig;
	struct wire_heartbeat beat;
	struct wire_heartbeat_ack ack;
	struct wire_batch batch;
	struct wire_message message;
	bool moved = false;

	if (cache_heartbeat_due(dp->cache, &beat, rig->now)) {
		table_heartbeat(rig->table, dp->number, &beat, rig->now, &ack);
		cache_heartbeat_ack(dp->cache, &ack, rig->now);
		moved = true;
	}
	while (cache_next_batch(dp->cache, &batch, rig->now)) {
		MUST(table_batch(rig->table, dp->number, &batch, rig->now) == 0);
		moved = true;
	}
	while (table_next_message(rig->table, dp->number, &message)) {
		MUST(cache_message(dp->cache, &message, rig->now) == 0);
		moved = true;
	}
	return moved;
}

static void settle(struct cluster *cluster)
{
	bool moved;
	do {
		moved = false;
		for (unsigned i = 0; i < cluster->n; i++)
			moved |= exchange(cluster, &cluster->dataplanes[i]);
	} while (moved);
}

void cluster_start(struct cluster *cluster, unsigned dataplanes)
{
	rig_start(&cluster->rig);
	cluster->n = dataplanes;
	for (unsigned i = 0; i < dataplanes; i++) {
		struct cluster_dataplane *dp = &cluster->dataplanes[i];
		struct cache_env env = {/* no fragments here */
					.context = dp,
					.answered = answered,
					.wait_for_readers = wait_for_readers,
					.valid_until = valid_until,
					.configured = configured};
		struct cache_conf conf = {.pending_flows = 16,
					  .pending_packets = 16,
					  .packet_room = 64,
					  .reports = 256};
		struct wire_hello hello;
		struct wire_welcome welcome;

		snprintf(conf.name, sizeof conf.name, "dp%u", i + 1);
		dp->cluster = cluster;
		MUST(flowtable_new(FLOWS, &cluster->rig.random, &dp->flows) == 0);
		MUST(cache_new(&conf, &env, dp->flows, &cluster->rig.random, &dp->cache) == 0);
		cache_hello(dp->cache, &hello);
		MUST(table_attach(cluster->rig.table, &hello, cluster->rig.now, &welcome,
				  &dp->number) == 0);
		MUST(cache_welcome(dp->cache, &welcome, cluster->rig.now) == 0);
	}
	settle(cluster);
}

void cluster_stop(struct cluster *cluster)
{
	for (unsigned i = 0; i < cluster->n; i++) {
		cache_free(cluster->dataplanes[i].cache);
		flowtable_free(cluster->dataplanes[i].flows);
	}
	rig_stop(&cluster->rig);
}

void cluster_pass(struct cluster *cluster, int64_t ms)
{
	while (ms > 0) {
		int64_t step = ms < STEP_MS ? ms : STEP_MS;
		ms -= step;
		cluster->rig.now = monotime_add_ms(cluster->rig.now, step);
		table_tick(cluster->rig.table, cluster->rig.now);
		for (unsigned i = 0; i < cluster->n; i++)
			cache_tick(cluster->dataplanes[i].cache, cluster->rig.now);
		settle(cluster);
	}
}

static unsigned ask(struct cluster *cluster, struct cluster_dataplane *dp, unsigned op,
		    const struct nat_tuple *tuple, uint8_t tcp_flags)
{
	uint8_t byte = 0;
	struct engine_packet packet = {.data = &byte, .length = 1, .room = 1};
	unsigned reason = cache_ask(dp->cache, op, tuple, tcp_flags, &packet, cluster->rig.now);

	if (reason)
		return reason;
	cluster->answer = (struct wire_answer){.reason = NAT_REASON_PENDING_TIMEOUT};
	settle(cluster);
	return cluster->answer.verdict == NAT_TRANSLATE ? NAT_REASON_NONE : cluster->answer.reason;
}

/* What a tuple looks like in the realm that it is translated into. */
static struct nat_tuple leaving(const struct nat_tuple *tuple, const struct nat_rewrite *rewrite)
{
	return (struct nat_tuple){
	    .source = rewrite->source,
	    .destination = rewrite->destination,
	    .source_port = rewrite->source_port,
	    .destination_port = rewrite->destination_port,
	    .protocol = tuple->protocol,
	    .realm = rewrite->egress,
	};
}

unsigned cluster_packet(struct cluster *cluster, unsigned dataplane, struct nat_tuple tuple,
			uint8_t tcp_flags, struct nat_tuple *out)
{
	struct cluster_dataplane *dp = &cluster->dataplanes[dataplane];
	struct nat_slot slot;
	uint8_t fresh;

	if (flowtable_hit(dp->flows, &tuple, (uint32_t)monotime_ms(cluster->rig.now), tcp_flags,
			  &slot, &fresh)) {
		struct nat_rewrite rewrite = {.source = slot.source,
					      .destination = slot.destination,
					      .source_port = slot.source_port,
					      .destination_port = slot.destination_port,
					      .egress = slot.egress};
		if (fresh)
			cache_report_flags(dp->cache, &tuple, fresh, cluster->rig.now);
		settle(cluster);
		if (out)
			*out = leaving(&tuple, &rewrite);
		return NAT_REASON_NONE;
	}
	unsigned op = tuple.realm == NAT_REALM_OUTSIDE ? WIRE_RESOLVE_IN : WIRE_RESOLVE_OUT;
	unsigned reason = ask(cluster, dp, op, &tuple, tcp_flags);
	if (!reason && out)
		*out = leaving(&tuple, &cluster->answer.rewrite);
	return reason;
}

unsigned cluster_error(struct cluster *cluster, unsigned dataplane, struct nat_tuple tuple)
{
	struct cluster_dataplane *dp = &cluster->dataplanes[dataplane];
	struct flow flow;

	if (flowtable_find(dp->flows, &tuple, &flow)) /* as the engine does: it marks nothing */
		return NAT_REASON_NONE;
	return ask(cluster, dp, WIRE_PEEK, &tuple, 0);
}
