/* SPDX-License-Identifier: Apache-2.0 */
#include "tablesvc/service_metrics.h"

#include <stddef.h>

/* Plain counters and gauges: {name, help, where}. What has labels is written by hand below. */
struct plain {
	const char *name, *help;
	size_t offset;
};
#define SERVER(field) offsetof(struct server_counters, field)

static const struct plain gauges[] = {
    {"conat_table_epoch", "Epoch of the table: milliseconds of the wall clock at its start.",
     SERVER(epoch)},
    {"conat_config_generation", "Configurations taken since start.", SERVER(generation)},
    {"conat_table_dataplanes", "Dataplanes attached or not yet fenced.", SERVER(table.dataplanes)},
    {"conat_table_mappings", "Mappings in the table.", SERVER(table.mappings)},
    {"conat_table_mappings_capacity", "Mappings there is room for.",
     SERVER(table.mappings_capacity)},
    {"conat_table_sessions", "Sessions in the table.", SERVER(table.sessions)},
    {"conat_table_sessions_capacity", "Sessions there is room for.",
     SERVER(table.sessions_capacity)},
    {"conat_table_subscribers", "Subscribers with a port block.", SERVER(table.subscribers)},
    {"conat_table_fenced_endpoints",
     "External endpoints that ended, but that a dataplane may still translate for.",
     SERVER(table.fenced)},
    {"conat_table_fragments", "Fragmented datagrams that are remembered.",
     SERVER(table.fragments_known)},
    {"conat_table_fragments_orphans", "Datagrams asked for whose first fragment did not come yet.",
     SERVER(table.fragments_orphans)},
    {"conat_table_fragments_capacity", "Fragmented datagrams there is room for.",
     SERVER(table.fragments_capacity)},
    {"conat_table_memory_bytes", "Memory that the table has touched of what it reserved at start.",
     SERVER(table.memory_bytes)},
};

static const struct plain counters_of_table[] = {
    {"conat_table_created_total", "Sessions created.", SERVER(table.created)},
    {"conat_table_resolved_total", "Questions answered with a translation.",
     SERVER(table.resolved)},
    {"conat_table_peeked_total", "Questions about packets quoted in ICMP errors.",
     SERVER(table.peeked)},
    {"conat_table_expired_total", "Sessions that ended because they were idle.",
     SERVER(table.expired)},
    {"conat_table_invalidated_total", "Invalidations sent to dataplanes.",
     SERVER(table.invalidated)},
    {"conat_table_expire_asked_total", "Questions to holders whether a session is idle.",
     SERVER(table.expire_asked)},
    {"conat_table_released_total", "Sessions that a dataplane evicted.", SERVER(table.released)},
    {"conat_table_stale_handles_total", "Reports about sessions that had ended already.",
     SERVER(table.stale_handles)},
    {"conat_table_fragments_first_total", "First fragments that dataplanes told of.",
     SERVER(table.fragments_first)},
    {"conat_table_fragments_later_total", "Questions about datagrams' first fragments.",
     SERVER(table.fragments_later)},
    {"conat_table_fragments_whole_total", "Identifications for datagrams that a dataplane cuts.",
     SERVER(table.fragments_whole)},
    {"conat_table_fragments_unknown_total", "Questions that came before the first fragment did.",
     SERVER(table.fragments_unknown)},
    {"conat_table_fragments_told_total", "Notices to dataplanes that had asked too early.",
     SERVER(table.fragments_told)},
    {"conat_table_fragments_untold_total", "Such notices that found no room: a datagram is lost.",
     SERVER(table.fragments_untold)},
    {"conat_table_fragments_evicted_total", "Datagrams forgotten early, to make room.",
     SERVER(table.fragments_evicted)},
    {"conat_table_fragments_expired_total", "Datagrams forgotten when their time was over.",
     SERVER(table.fragments_expired)},
    {"conat_table_fragments_orphans_expired_total",
     "Datagrams asked for whose first fragment never came.",
     SERVER(table.fragments_orphans_expired)},
    {"conat_table_fragments_skipped_total",
     "Identifications not given out because a datagram still had them (RFC 6864).",
     SERVER(table.fragments_skipped)},
    {"conat_table_flushes_total", "Dataplanes told to drop everything.", SERVER(table.flushes)},
    {"conat_table_batches_total", "Batches applied.", SERVER(table.batches)},
    {"conat_table_messages_total", "Messages to dataplanes.", SERVER(table.messages)},
    {"conat_pcp_requests_total", "Requests of subscribers (RFC 6887).", SERVER(pcp.requests)},
    {"conat_pcp_dropped_total", "PCP requests dropped because too many waited.",
     SERVER(pcp.dropped)},
    {"conat_pcp_ignored_total", "Datagrams to the PCP server that were no requests.",
     SERVER(pcp.ignored)},
    {"conat_pcp_unsent_total", "PCP answers and announcements that the host refused to send.",
     SERVER(pcp.unsent)},
    {"conat_pcp_announcements_total", "Announcements that explicit mappings were lost.",
     SERVER(pcp.announcements)},
    {"conat_server_unknown_methods_total", "Calls of methods that do not exist.",
     SERVER(unknown_methods)},
    {"conat_server_denied_total", "Calls that the peer's certificate does not allow.",
     SERVER(denied)},
    {"conat_server_refused_calls_total", "Calls refused because there were too many at once.",
     SERVER(refused_calls)},
    {"conat_server_bad_messages_total", "Messages that could not be decoded.",
     SERVER(bad_messages)},
    {"conat_server_bad_batches_total", "Batches that the table refused.", SERVER(bad_batches)},
    {"conat_server_bad_version_total", "Dataplanes without a protocol version in common.",
     SERVER(bad_version)},
    {"conat_server_silent_total", "Calls that said nothing in time.", SERVER(silent)},
    {"conat_server_heartbeats_total", "Heartbeats of dataplanes.", SERVER(heartbeats)},
    {"conat_server_reloads_total", "Configurations taken over by a reload.", SERVER(reloads)},
    {"conat_server_reloads_failed_total", "Configurations that the table refused.",
     SERVER(reloads_failed)},
    {"conat_server_turns_total", "Turns of the server's loop.", SERVER(turns)},
};

static uint64_t value_of(const void *counters, size_t offset)
{
	return *(const uint64_t *)(const void *)((const char *)counters + offset);
}

static void write_streams(const struct server_counters *c, struct metrics *out)
{
	metrics_family(out, "conat_server_streams", METRICS_GAUGE, "Calls that are open.");
	metrics_sample(out, c->data_streams, "kind", "data", NULL);
	metrics_sample(out, c->control_streams, "kind", "control", NULL);
	metrics_sample(out, c->admin_calls, "kind", "admin", NULL);
	metrics_family(out, "conat_server_calls_total", METRICS_COUNTER, "Calls since start.");
	metrics_sample(out, c->streams, "kind", "all", NULL);
	metrics_sample(out, c->calls_admin, "kind", "admin", NULL);
	metrics_sample(out, c->calls_health, "kind", "health", NULL);
	metrics_family(out, "conat_pcp_answers_total", METRICS_COUNTER,
		       "Requests of subscribers (RFC 6887) answered.");
	for (unsigned i = 0; i < PCP_RESULTS; i++)
		metrics_sample(out, c->pcp.results[i], "result", pcp_result_name(i), NULL);
	metrics_family(out, "conat_server_messages_total", METRICS_COUNTER, "Messages.");
	metrics_sample(out, c->messages_in, "direction", "in", NULL);
	metrics_sample(out, c->messages_out, "direction", "out", NULL);
	metrics_family(out, "conat_server_entries_total", METRICS_COUNTER,
		       "Entries of batches and answers.");
	metrics_sample(out, c->entries_in, "direction", "in", NULL);
	metrics_sample(out, c->entries_out, "direction", "out", NULL);
	metrics_family(out, "conat_server_bytes_total", METRICS_COUNTER, "Bytes of messages.");
	metrics_sample(out, c->bytes_in, "direction", "in", NULL);
	metrics_sample(out, c->bytes_out, "direction", "out", NULL);
	metrics_family(out, "conat_server_turn_max_seconds", METRICS_GAUGE,
		       "The longest turn of the server's loop since start: a pause.");
	metrics_sample_double(out, (double)c->turn_max_us / 1e6, NULL);
}

static void write_protocols(const struct server_counters *c, struct metrics *out)
{
	static const char *const names[TABLE_PROTOCOLS] = {
	    [TABLE_TCP] = "tcp",
	    [TABLE_UDP] = "udp",
	    [TABLE_ICMP] = "icmp",
	    [TABLE_OTHER] = "other",
	};
	static const struct {
		const char *name, *help;
		size_t offset;
	} families[] = {
	    {"conat_table_mappings_created_total", "Mappings created.",
	     offsetof(struct table_protocol_counts, mappings_created)},
	    {"conat_table_mappings_ended_total", "Mappings whose port was given back.",
	     offsetof(struct table_protocol_counts, mappings_ended)},
	    {"conat_table_sessions_created_total", "Sessions created.",
	     offsetof(struct table_protocol_counts, sessions_created)},
	    {"conat_table_sessions_ended_total", "Sessions that ended.",
	     offsetof(struct table_protocol_counts, sessions_ended)},
	};

	for (unsigned i = 0; i < sizeof families / sizeof families[0]; i++) {
		metrics_family(out, families[i].name, METRICS_COUNTER, families[i].help);
		for (unsigned k = 0; k < TABLE_PROTOCOLS; k++)
			metrics_sample(out, value_of(&c->table.protocols[k], families[i].offset),
				       "protocol", names[k], NULL);
	}
}

#define POOL(field) offsetof(struct server_pool, field)

static const struct {
	const char *name, *help;
	enum metrics_type type;
	size_t offset;
} pool_families[] = {
    {"conat_pool_addresses", "External addresses.", METRICS_GAUGE, POOL(addresses)},
    {"conat_pool_addresses_used", "External addresses that have a port in use.", METRICS_GAUGE,
     POOL(addresses_used)},
    {"conat_pool_ports_used", "External ports in use.", METRICS_GAUGE, POOL(ports_used)},
    {"conat_pool_mappings_created_total", "Mappings created.", METRICS_COUNTER,
     POOL(counts.mappings_created)},
    {"conat_pool_mappings_ended_total", "Mappings whose port was given back.", METRICS_COUNTER,
     POOL(counts.mappings_ended)},
    {"conat_pool_blocks_shared",
     "Port blocks that any subscriber may get: neither fixed nor below 1024.", METRICS_GAUGE,
     POOL(blocks_shared)},
    {"conat_pool_blocks_shared_free", "Of those the ones that nobody has and that do not rest.",
     METRICS_GAUGE, POOL(blocks_free)},
    {"conat_pool_above", "1 while more of those are in use, or rest, than warn_above says.",
     METRICS_GAUGE, POOL(above)},
    {"conat_pool_exhausted_total", "Times that a pool had no block for a subscriber.",
     METRICS_COUNTER, POOL(exhausted)},
};

/* One family after the other: Prometheus wants a family's samples together. */
static void write_pools(const struct server_counters *c, struct metrics *out)
{
	for (unsigned f = 0; f < sizeof pool_families / sizeof pool_families[0]; f++) {
		metrics_family(out, pool_families[f].name, pool_families[f].type,
			       pool_families[f].help);
		for (unsigned i = 0; i < c->n_pools; i++)
			metrics_sample(out, value_of(&c->pools[i], pool_families[f].offset), "pool",
				       c->pools[i].name, NULL);
	}
	metrics_family(out, "conat_pool_blocks", METRICS_GAUGE,
		       "Port blocks: used by a subscriber, resting before the next one, free.");
	for (unsigned i = 0; i < c->n_pools; i++) {
		uint64_t used = c->pools[i].blocks_used, resting = c->pools[i].blocks_resting;
		uint64_t busy = used + resting, all = c->pools[i].blocks;
		const char *name = c->pools[i].name;
		metrics_sample(out, used, "pool", name, "state", "used", NULL);
		metrics_sample(out, resting, "pool", name, "state", "resting", NULL);
		metrics_sample(out, all > busy ? all - busy : 0, "pool", name, "state", "free",
			       NULL);
	}
	metrics_family(out, "conat_pool_refused_total", METRICS_COUNTER,
		       "Mappings and sessions refused: no port was free, a subscriber's limit, no "
		       "room in the table.");
	for (unsigned i = 0; i < c->n_pools; i++) {
		const struct table_pool_counts *counts = &c->pools[i].counts;
		const char *name = c->pools[i].name;
		metrics_sample(out, counts->out_of_ports, "pool", name, "why", "ports", NULL);
		metrics_sample(out, counts->quota, "pool", name, "why", "quota", NULL);
		metrics_sample(out, counts->memory, "pool", name, "why", "memory", NULL);
	}
}

static void write_events(const struct event_writer_counters *events, struct metrics *out)
{
	metrics_family(out, "conat_log_events_total", METRICS_COUNTER,
		       "Events for the log of blocks and sessions.");
	metrics_sample(out, events->written, "result", "written", NULL);
	metrics_sample(out, events->lost, "result", "lost", NULL);
	metrics_counter(out, "conat_log_write_errors_total",
			"Attempts to write events that failed; each is tried again.",
			events->errors);
	metrics_gauge(out, "conat_log_events_waiting", "Events that wait to be written.",
		      events->waiting);
	metrics_gauge(out, "conat_log_broken", "1 while the log's target cannot be written.",
		      events->broken);
}

void service_metrics(const struct server_counters *counters,
		     const struct event_writer_counters *events, bool ready, struct metrics *out)
{
	metrics_process(out, "conat-tablesvc");
	metrics_gauge(out, "conat_ready", "1 while dataplanes are served.", ready);
	for (unsigned i = 0; i < sizeof gauges / sizeof gauges[0]; i++)
		metrics_gauge(out, gauges[i].name, gauges[i].help,
			      value_of(counters, gauges[i].offset));
	for (unsigned i = 0; i < sizeof counters_of_table / sizeof counters_of_table[0]; i++)
		metrics_counter(out, counters_of_table[i].name, counters_of_table[i].help,
				value_of(counters, counters_of_table[i].offset));
	metrics_reasons(out, "conat_table_refused_total",
			"Questions that were not answered with a translation.",
			counters->table.refused);
	write_streams(counters, out);
	write_protocols(counters, out);
	write_pools(counters, out);
	write_events(events, out);
}
