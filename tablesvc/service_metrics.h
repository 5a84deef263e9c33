/* SPDX-License-Identifier: Apache-2.0 */
/* The table service's counters as metrics. */
#ifndef TABLESVC_SERVICE_METRICS_H
#define TABLESVC_SERVICE_METRICS_H

#include "common/base/metrics.h"
#include "tablesvc/event_writer.h"
#include "tablesvc/server.h"

void service_metrics(const struct server_counters *counters,
		     const struct event_writer_counters *events, bool ready, struct metrics *out);

#endif
