/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table service's counters as metrics. What a manager of NATs looks for (RFC 6888 REQ-10), by
 * the objects of RFC 7659 (NATV2-MIB):
 *
 *   instance: port map entries                 conat_table_mappings, _capacity
 *             port map creations, removals     conat_table_mappings_created_total, _ended_total
 *             (sessions are ours)              conat_table_sessions_created_total, _ended_total
 *             translations                     dataplanes' conat_packets_total
 *             out-of-port errors               conat_table_refused_total{reason="ports_exhausted"}
 *             quota drops                      ...{reason="subscriber_blocks", "_ports",
 * "_sessions",
 *                                              "_rate"}
 *             resource errors                  ...{reason="table_full", "fragment_table_full"}
 *   protocol: creations, removals              the first two by {protocol=}
 *   pool:     address map entries, limit       conat_pool_addresses_used, conat_pool_addresses
 *             port map entries, and blocks     conat_pool_ports_used, conat_pool_blocks{state=}
 *             creations, removals              conat_pool_mappings_created_total, _ended_total
 *             out-of-port errors, quota drops  conat_pool_refused_total{why=}
 *             notifications of usage           the log, pools[].warn_above
 *   subscriber: port map entries, quota drops  conatctl subscribers
 */
#ifndef TABLESVC_SERVICE_METRICS_H
#define TABLESVC_SERVICE_METRICS_H

#include "common/base/metrics.h"
#include "tablesvc/event_writer.h"
#include "tablesvc/server.h"

void service_metrics(const struct server_counters *counters,
		     const struct event_writer_counters *events, bool ready, struct metrics *out);

#endif
