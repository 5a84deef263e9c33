/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/table_rig.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MUST(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "rig: %s:%d: %s\n", __FILE__, __LINE__, #condition);        \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

nat_be32 ip(const char *text)
{
	struct in_addr a;
	MUST(inet_pton(AF_INET, text, &a) == 1);
	return a.s_addr;
}

struct nat_tuple tuple_of(unsigned protocol, unsigned realm, const char *source, unsigned source_port,
			  const char *destination, unsigned destination_port)
{
	return (struct nat_tuple){
	    .source = ip(source),
	    .destination = ip(destination),
	    .source_port = htons((uint16_t)source_port),
	    .destination_port = htons((uint16_t)destination_port),
	    .protocol = (uint8_t)protocol,
	    .realm = (uint8_t)realm,
	};
}

void rig_config(struct rig *rig)
{
	memset(rig, 0, sizeof *rig);
	rig->seed = 1;
	rig->now = (struct monotime){1000 * SECOND_NS};
	rig->pool_prefix = (struct config_prefix){ip("192.0.2.0"), 30};
	rig->realm_prefix = (struct config_prefix){ip("10.0.0.0"), 8};
	rig->pool = (struct config_pool){
	    .name = "pool",
	    .prefixes = &rig->pool_prefix,
	    .n_prefixes = 1,
	    .port_first = 1024,
	    .port_last = 65535,
	    .block_size = 256,
	    .filtering_udp = CONFIG_ADF,
	    .filtering_tcp = CONFIG_ADF,
	    .parity = true,
	};
	rig->realm = (struct config_realm){
	    .name = "inside", .id = 1, .prefixes = &rig->realm_prefix, .n_prefixes = 1};
	rig->config = (struct config){
	    .capacity = {.mappings = 100000, .sessions = 100000, .subscribers = 10000, .fragments = 256},
	    .lease_ms = 10000,
	    .heartbeat_ms = 2000,
	    .grace_ms = 300000,
	    .margin_ms = 1000,
	    .hold_down_ms = 120000,
	    .batch_max = 256,
	    .inflight_max = 64,
	    .negative_ttl_ms = 1000,
	    .inbound_refresh = true,
	    .hairpinning = true,
	    .timers = {.udp = 300000,
		       .udp_dns = 30000,
		       .icmp = 60000,
		       .tcp_established = 7440000,
		       .tcp_opening = 240000,
		       .tcp_closing = 240000,
		       .other = 600000},
	    .limits = {.blocks = 8,
		       .sessions = 4096,
		       .per_mapping = 4096,
		       .creations_per_second = 0},
	    .pending = {.timeout_ms = 3000, .packets = 1024, .per_flow = 8},
	    .fragment_timeout_ms = 2000,
	    .icmp_errors_per_second = 100,
	    .pools = &rig->pool,
	    .n_pools = 1,
	    .realms = &rig->realm,
	    .n_realms = 1,
	};
}

void rig_start(struct rig *rig)
{
	rig->random = random_seeded(&rig->seed);
	MUST(journal_none_new(&rig->journal) == 0);
	MUST(table_new(&rig->config, rig->journal, rig->events ? rig->events : event_log_none(),
		       &rig->random, 1, rig->now, &rig->table) == 0);
}

void rig_stop(struct rig *rig)
{
	table_free(rig->table);
	rig->journal->ops->free(rig->journal);
}

uint32_t rig_attach(struct rig *rig, unsigned number)
{
	struct wire_hello hello = {
	    .version_min = 1, .version_max = 1, .incarnation = {7, number}, .flow_capacity = 1000};
	struct wire_welcome welcome;
	uint32_t dataplane;

	snprintf(hello.name, sizeof hello.name, "dp%u", number);
	MUST(table_attach(rig->table, &hello, rig->now, &welcome, &dataplane) == 0);
	rig->batch[dataplane] = 0;
	rig->seen[dataplane] = welcome.sequence;
	return dataplane;
}

static bool take(struct rig *rig, uint32_t dataplane, struct wire_message *message)
{
	if (!table_next_message(rig->table, dataplane, message))
		return false;
	MUST(message->sequence == rig->seen[dataplane] + 1);
	rig->seen[dataplane] = message->sequence;
	if (message->kind == WIRE_FLUSH)
		rig->flushes++;
	if (message->kind != WIRE_ANSWER) {
		for (uint32_t i = 0; i < message->n && rig->n_notices < 64; i++) {
			rig->kinds[rig->n_notices] = message->kind;
			rig->notices[rig->n_notices++] = message->notices[i];
		}
	}
	return true;
}

void rig_collect(struct rig *rig, uint32_t dataplane)
{
	struct wire_message message;
	rig->n_notices = 0;
	while (take(rig, dataplane, &message))
		;
}

static void send_one(struct rig *rig, uint32_t dataplane, const struct wire_request *request)
{
	struct wire_request copy = *request;
	struct wire_batch batch = {
	    .sequence = ++rig->batch[dataplane], .n = 1, .entries = &copy};
	MUST(table_batch(rig->table, dataplane, &batch, rig->now) == 0);
}

static struct wire_answer ask(struct rig *rig, uint32_t dataplane,
			      const struct wire_request *request)
{
	struct wire_message message;

	send_one(rig, dataplane, request);
	while (take(rig, dataplane, &message)) {
		if (message.kind == WIRE_ANSWER &&
		    message.request_sequence == rig->batch[dataplane]) {
			MUST(message.n == 1);
			return message.answers[0];
		}
	}
	fprintf(stderr, "rig: no answer\n");
	abort();
}

struct wire_answer rig_ask(struct rig *rig, uint32_t dataplane, unsigned op, struct nat_tuple tuple,
			   uint8_t tcp_flags)
{
	struct wire_request request = {.op = (uint8_t)op, .tuple = tuple, .tcp_flags = tcp_flags};
	return ask(rig, dataplane, &request);
}

struct wire_answer rig_fragment(struct rig *rig, uint32_t dataplane, unsigned op,
				struct nat_tuple tuple, uint16_t identification)
{
	struct wire_request request = {
	    .op = (uint8_t)op, .tuple = tuple, .identification = identification};
	if (op == WIRE_FRAGMENT_LATER)
		request.tuple.source_port = request.tuple.destination_port = 0;
	return ask(rig, dataplane, &request);
}

struct wire_answer rig_out(struct rig *rig, uint32_t dataplane, struct nat_tuple tuple)
{
	return rig_ask(rig, dataplane, WIRE_RESOLVE_OUT, tuple,
		       tuple.protocol == NAT_TCP ? NAT_TCP_SYN : 0);
}

struct wire_answer rig_in(struct rig *rig, uint32_t dataplane, struct nat_tuple tuple)
{
	return rig_ask(rig, dataplane, WIRE_RESOLVE_IN, tuple,
		       tuple.protocol == NAT_TCP ? NAT_TCP_SYN : 0);
}

struct nat_tuple rig_reverse(struct nat_tuple tuple, const struct wire_answer *answer)
{
	return nat_reverse_tuple(&tuple, &answer->rewrite);
}

void rig_report(struct rig *rig, uint32_t dataplane, unsigned op, uint64_t handle, uint32_t age_ms,
		uint8_t tcp_flags, unsigned direction)
{
	struct wire_request request = {.op = (uint8_t)op,
				       .handle = handle,
				       .age_ms = age_ms,
				       .tcp_flags = tcp_flags,
				       .direction = (uint8_t)direction};
	send_one(rig, dataplane, &request);
}

bool rig_heartbeat(struct rig *rig, uint32_t dataplane, bool acknowledge)
{
	struct wire_heartbeat beat = {.sent_ms = 1,
				      .acknowledged = acknowledge ? rig->seen[dataplane] : 0};
	struct wire_heartbeat_ack ack;
	table_heartbeat(rig->table, dataplane, &beat, rig->now, &ack);
	return ack.renewed;
}

void rig_pass(struct rig *rig, int64_t ms, uint64_t beating)
{
	for (int64_t passed = 0; passed < ms; passed += 50) {
		rig->now = monotime_add_ms(rig->now, 50);
		table_tick(rig->table, rig->now);
		for (uint32_t d = 0; passed % 2000 == 0 && d < WIRE_DATAPLANES_MAX; d++)
			if (beating & (UINT64_C(1) << d))
				rig_heartbeat(rig, d, true);
	}
}

struct table_counters rig_counters(struct rig *rig)
{
	struct table_counters counters;
	table_counters(rig->table, &counters);
	return counters;
}
