/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/admin.h"

#include <stdio.h>
#include "common/base/http.h"

bool admin_ready(struct admin *admin, char *why, unsigned size)
{
	char sentence[HOST_SENTENCE_MAX];
	struct table_client_counters counters;
	table_client_counters(admin->client, &counters);
	if (!table_client_ready(admin->client))
		snprintf(why, size, "not attached to the table service %s (%s)", counters.address,
			 cache_state_name(counters.state));
	else if (admin->host && host_problem(admin->host, sentence))
		snprintf(why, size, "%s", sentence);
	else if (counters.draining)
		snprintf(why, size, "draining: established flows only");
	else
		return true;
	return false;
}

static bool ready(void *context, char *why, unsigned size)
{
	return admin_ready(context, why, size);
}

static void engine_metrics(struct metrics *out, const struct engine_counters *engine,
			   const struct port_counters *port)
{
	uint64_t drops[NAT_REASON_LIMIT];
	/* The cache counts no packet that the engine does not; the port only what never got there.
	 */
	for (unsigned i = 0; i < NAT_REASON_LIMIT; i++)
		drops[i] = engine->drops[i] + port->drops[i];
	metrics_counter(out, "conat_packets_total", "Packets that the engine saw.",
			engine->packets);
	metrics_counter(out, "conat_bytes_total", "Their bytes.", engine->bytes);
	metrics_counter(out, "conat_hits_total", "Packets found in the flow table.", engine->hits);
	metrics_counter(out, "conat_slow_total", "Packets handed to the owner thread.",
			engine->slow);
	metrics_reasons(out, "conat_drop_total", "Packets not forwarded, by reason.", drops);
	metrics_counter(out, "conat_icmp_sent_total", "ICMP errors made here.", engine->icmp_sent);
	metrics_counter(out, "conat_icmp_limited_total",
			"ICMP errors not sent because of their rate limit.", engine->icmp_limited);
	metrics_counter(out, "conat_fragments_total", "Fragments seen.", engine->fragments);
	metrics_counter(out, "conat_fragments_numbered_alone_total",
			"Datagrams that left with an identification of this dataplane's own choice.",
			engine->numbered_alone);
}

static void port_metrics(struct metrics *out, const char *name, const struct port_counters *port)
{
	metrics_family(out, "conat_port_packets_total", METRICS_COUNTER,
		       "Packets read and written by the port; a super-packet is one.");
	metrics_sample(out, port->received, "port", name, "direction", "received", NULL);
	metrics_sample(out, port->sent, "port", name, "direction", "sent", NULL);
	metrics_family(out, "conat_port_bytes_total", METRICS_COUNTER, "Their bytes.");
	metrics_sample(out, port->received_bytes, "port", name, "direction", "received", NULL);
	metrics_sample(out, port->sent_bytes, "port", name, "direction", "sent", NULL);
	metrics_counter(out, "conat_port_super_packets_total",
			"Packets read that a device will cut into segments (GSO).",
			port->super_packets);
	metrics_counter(out, "conat_port_partial_checksums_total",
			"Packets read whose checksum a device will finish.",
			port->partial_checksums);
	metrics_counter(out, "conat_port_checksums_completed_total",
			"Partial checksums of tunnelled packets, finished here.",
			port->checksums_completed);
	metrics_counter(out, "conat_port_read_errors_total", "Failed reads.", port->read_errors);
}

static void cache_metrics(struct metrics *out, const struct cache_counters *cache)
{
	const struct {
		const char *what;
		uint64_t n;
	} events[] = {
	    {"asked", cache->asked},
	    {"coalesced", cache->coalesced},
	    {"answered", cache->answered},
	    {"negative_hit", cache->negative_hits},
	    {"stale_answer", cache->stale_answers},
	};
	metrics_family(out, "conat_cache_questions_total", METRICS_COUNTER,
		       "Questions to the table service, by what became of them.");
	for (unsigned i = 0; i < sizeof events / sizeof events[0]; i++)
		metrics_sample(out, events[i].n, "event", events[i].what, NULL);
	const struct {
		const char *what;
		uint64_t n;
	} fragments[] = {
	    {"asked", cache->fragments_asked},
	    {"answered", cache->fragments_answered},
	    {"unanswered", cache->fragments_unanswered},
	    {"told", cache->fragments_told},
	};
	metrics_family(out, "conat_fragments_questions_total", METRICS_COUNTER,
		       "Questions about fragmented datagrams, by what became of them.");
	for (unsigned i = 0; i < sizeof fragments / sizeof fragments[0]; i++)
		metrics_sample(out, fragments[i].n, "event", fragments[i].what, NULL);
	const struct {
		const char *why;
		uint64_t n;
	} removals[] = {
	    {"invalidated", cache->invalidated},
	    {"expired", cache->expired},
	    {"evicted", cache->evicted},
	    {"flushed", cache->flushed},
	};
	metrics_family(out, "conat_cache_removed_total", METRICS_COUNTER,
		       "Flows that left the flow table, by cause; flushed counts flushes.");
	for (unsigned i = 0; i < sizeof removals / sizeof removals[0]; i++)
		metrics_sample(out, removals[i].n, "cause", removals[i].why, NULL);
	metrics_gauge(out, "conat_pending_flows", "Questions that wait for an answer.",
		      cache->pending_flows);
	metrics_gauge(out, "conat_pending_packets", "Packets parked behind them.",
		      cache->pending_packets);
	metrics_counter(out, "conat_heartbeats_total", "Heartbeats sent.", cache->heartbeats);
	metrics_counter(out, "conat_not_renewed_total", "Heartbeats that did not extend the lease.",
			cache->not_renewed);
}

static void client_metrics(struct metrics *out, const struct table_client_counters *client)
{
	metrics_gauge(out, "conat_flows", "Flows in the flow table.", client->flows);
	metrics_gauge(out, "conat_flows_capacity", "Flows it has room for.", client->flow_capacity);
	metrics_family(out, "conat_state", METRICS_GAUGE,
		       "1 for the state towards the table service.");
	for (unsigned i = CACHE_DETACHED; i <= CACHE_LEASE_OVER; i++)
		metrics_sample(out, client->state == (enum cache_state)i, "state",
			       cache_state_name((enum cache_state)i), NULL);
	metrics_gauge(out, "conat_draining", "1 while an operator drains this dataplane.",
		      client->draining);
	metrics_family(out, "conat_valid_seconds", METRICS_GAUGE,
		       "How long it may translate without hearing from the table service.");
	metrics_sample_double(out, (double)client->valid_for_ms / 1000, NULL);
	metrics_counter(out, "conat_connects_total", "Times attached to the table service.",
			client->connects);
	metrics_counter(out, "conat_connect_failures_total", "Attempts that failed.",
			client->connect_failures);
	metrics_counter(out, "conat_welcomes_refused_total",
			"Services refused because they were behind or spoke another version.",
			client->welcomes_refused);
	metrics_family(out, "conat_rpc_messages_total", METRICS_COUNTER,
		       "Messages on the data stream.");
	metrics_sample(out, client->batches_out, "direction", "sent", NULL);
	metrics_sample(out, client->messages_in, "direction", "received", NULL);
	metrics_family(out, "conat_rpc_bytes_total", METRICS_COUNTER, "Their bytes.");
	metrics_sample(out, client->bytes_out, "direction", "sent", NULL);
	metrics_sample(out, client->bytes_in, "direction", "received", NULL);
	metrics_counter(out, "conat_rpc_entries_sent_total", "Questions and reports sent.",
			client->entries_out);
	metrics_counter(out, "conat_rpc_bad_messages_total",
			"Messages of the table service that could not be used.",
			client->bad_messages + client->cache.malformed_messages);
	metrics_counter(out, "conat_configurations_total", "Configurations received.",
			client->configurations);
}

static void write_metrics(void *context, struct metrics *out)
{
	struct admin *admin = context;
	struct table_client_counters client;
	struct engine_counters engine;
	struct port_counters port = {0};
	char why[HOST_SENTENCE_MAX];
	table_client_counters(admin->client, &client);
	engine_counters(table_client_engine(admin->client), &engine);
	if (admin->port->ops->counters)
		admin->port->ops->counters(admin->port, &port);
	/* What the owner sends (ICMP errors, parked packets) is refused outside the workers. */
	port.drops[NAT_REASON_OUTPUT] += client.output_refused;
	metrics_process(out, "conat-dataplane");
	metrics_gauge(out, "conat_ready", "1 when new flows are translated.",
		      admin_ready(admin, why, sizeof why));
	engine_metrics(out, &engine, &port);
	port_metrics(out, admin->port->ops->name, &port);
	client_metrics(out, &client);
	cache_metrics(out, &client.cache);
	if (admin->embedded)
		metrics_counter(out, "conat_embedded_restarts_total",
				"Times the embedded table service was started again.",
				embedded_restarts(admin->embedded));
}

int admin_listen(struct admin *admin, struct event_base *base, struct http **out)
{
	char error[256];
	struct http_callbacks callbacks = {
	    .context = admin, .metrics = write_metrics, .ready = ready};
	int err = http_new(base, admin->conf->admin, &callbacks, out, error, sizeof error);
	if (err)
		log_error("--admin %s: %s", admin->conf->admin, error);
	return err;
}
