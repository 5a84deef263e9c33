/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/fragments_bed.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

struct bed *bed;
struct engine_config engine_config;

/* ---- what an engine asks of its owner */

static struct question *question_new(struct node *node)
{
	cr_assert_lt(node->n, QUESTIONS);
	struct question *q = &node->questions[(node->first + node->n++) % QUESTIONS];
	memset(q, 0, sizeof *q);
	return q;
}

static unsigned on_ask(void *context, unsigned op, const struct nat_tuple *tuple, uint8_t tcp_flags,
		       const struct engine_packet *packet, struct monotime now)
{
	struct node *node = context;
	(void)now;
	if (node->detached)
		return NAT_REASON_NO_TABLE;
	struct question *q = question_new(node);
	q->op = op;
	q->tuple = *tuple;
	q->tcp_flags = tcp_flags;
	q->packet = *packet;
	q->packet.data = q->bytes;
	q->packet.room = sizeof q->bytes;
	cr_assert_leq(packet->length, sizeof q->bytes);
	memcpy(q->bytes, packet->data, packet->length);
	return NAT_REASON_NONE;
}

static unsigned on_ask_fragment(void *context, unsigned op, const struct nat_tuple *tuple,
				uint16_t identification, uint64_t datagram, struct monotime now)
{
	struct node *node = context;
	(void)now;
	if (node->detached)
		return NAT_REASON_NO_TABLE;
	struct question *q = question_new(node);
	q->about_fragment = true;
	q->op = op;
	q->tuple = *tuple;
	q->identification = identification;
	q->datagram = datagram;
	return NAT_REASON_NONE;
}

static void on_emit(void *context, const struct engine_packet *packet)
{
	struct node *node = context;
	cr_assert_lt(node->bed->n_out, OUTPUTS);
	cr_assert_leq(packet->length, LENGTH_MAX);
	memcpy(node->bed->out[node->bed->n_out].bytes, packet->data, packet->length);
	node->bed->out[node->bed->n_out].realm = packet->egress;
	node->bed->out[node->bed->n_out++].length = packet->length;
}

static void send_out(struct node *node, struct engine_packet *packet)
{
	if (packet->fate == ENGINE_OUT)
		on_emit(node, packet);
}

/* ---- the bed */

void bed_setup(void)
{
	bed = calloc(1, sizeof *bed);
	bed->seed = 5;
	bed->random = random_seeded(&bed->seed);
	rig_config(&bed->rig);
	rig_start(&bed->rig);
	memset(&engine_config, 0, sizeof engine_config);
	table_wire_config(bed->rig.table, &engine_config.table);
	for (unsigned i = 0; i < NODES; i++) {
		struct node *node = &bed->nodes[i];
		struct engine_owner owner = {.context = node,
					     .ask = on_ask,
					     .ask_fragment = on_ask_fragment,
					     .emit = on_emit};
		node->bed = bed;
		node->dataplane = rig_attach(&bed->rig, i + 1);
		cr_assert_eq(flowtable_new(1024, &bed->random, &node->flows), 0);
		cr_assert_eq(engine_new(node->flows, &owner, &bed->random, &node->engine), 0);
		cr_assert_eq(engine_configure(node->engine, &engine_config), 0);
		engine_set_valid_until(node->engine, MONOTIME_NEVER);
	}
}

void bed_teardown(void)
{
	for (unsigned i = 0; i < NODES; i++) {
		engine_free(bed->nodes[i].engine);
		flowtable_free(bed->nodes[i].flows);
	}
	rig_stop(&bed->rig);
	free(bed);
}

void configure_mtu(uint32_t outside)
{
	engine_config.mtu[NAT_REALM_OUTSIDE] = outside;
	for (unsigned i = 0; i < NODES; i++)
		cr_assert_eq(engine_configure(bed->nodes[i].engine, &engine_config), 0);
}

/* Enough time that nothing is remembered of datagrams. */
void forget_all(void)
{
	bed->rig.now = monotime_add_ms(bed->rig.now, 2100);
	table_tick(bed->rig.table, bed->rig.now);
	for (unsigned i = 0; i < NODES; i++) {
		rig_heartbeat(&bed->rig, bed->nodes[i].dataplane, true);
		engine_tick(bed->nodes[i].engine, bed->rig.now);
	}
}

void install(struct node *node, const struct nat_tuple *tuple,
		    const struct wire_answer *answer)
{
	struct flow flow = {.tuple = *tuple,
			    .rewrite = answer->rewrite,
			    .handle = 1,
			    .peer_handle = 1,
			    .direction = answer->direction,
			    .state = NAT_SLOT_OPEN},
		    known, evicted[2];
	unsigned n;

	if (!flowtable_find(node->flows, tuple, &known))
		cr_assert_eq(flowtable_insert(node->flows, &flow,
					      (uint32_t)monotime_ms(bed->rig.now), evicted, &n),
			     0);
}

/* Answers the node's oldest question; what it makes the table say to others arrives, too. */
bool answer_one(struct node *node)
{
	struct rig *rig = &bed->rig;

	if (node->n == 0)
		return false;
	struct question q = node->questions[node->first];
	node->first = (node->first + 1) % QUESTIONS;
	node->n--;
	q.packet.data = q.bytes;
	if (q.about_fragment) {
		struct wire_answer answer =
		    rig_fragment(rig, node->dataplane, q.op, q.tuple, q.identification);
		engine_fragment_answer(node->engine, q.datagram, &answer, rig->now);
	} else {
		struct wire_answer answer =
		    rig_ask(rig, node->dataplane, q.op, q.tuple, q.tcp_flags);
		if (answer.verdict == NAT_TRANSLATE && wire_op_grants(q.op))
			install(node, &q.tuple, &answer);
		engine_translate(node->engine, &q.packet, &answer, rig->now);
		send_out(node, &q.packet);
	}
	for (unsigned i = 0; i < NODES; i++) {
		rig_collect(rig, bed->nodes[i].dataplane);
		for (unsigned k = 0; k < rig->n_notices; k++)
			if (rig->kinds[k] == WIRE_FRAGMENTS)
				engine_fragment_notice(bed->nodes[i].engine, &rig->notices[k],
						       rig->now);
	}
	return true;
}

void answer_all(void)
{
	bool more = true;
	while (more) {
		more = false;
		unsigned begin = random_below(&bed->random, NODES);
		for (unsigned i = 0; i < NODES; i++)
			more |= answer_one(&bed->nodes[(begin + i) % NODES]);
	}
}

void feed(struct node *node, const uint8_t *bytes, uint32_t length, uint8_t ingress)
{
	uint8_t copy[LENGTH_MAX];
	struct engine_packet packet = {
	    .data = copy, .length = length, .room = sizeof copy, .ingress = ingress};

	memcpy(copy, bytes, length);
	engine_process(engine_worker(node->engine, 1), &packet, 1, bed->rig.now);
	if (packet.fate == ENGINE_SLOW)
		engine_slow(node->engine, &packet, bed->rig.now);
	send_out(node, &packet);
}

/* Payload bytes [begin, end) of the datagram as a fragment. */
uint32_t cut(const struct test_packet *whole, uint32_t begin, uint32_t end, uint8_t *out)
{
	uint32_t payload = whole->length - 20;

	memcpy(out, whole->data, 20);
	memcpy(out + 20, whole->data + 20 + begin, end - begin);
	test_put16(out + 2, 20 + end - begin);
	test_put16(out + 6, begin / 8 | (end < payload ? 0x2000u : 0));
	test_put16(out + 10, 0);
	test_put16(out + 10, 0xffff - test_sum(0, out, 20));
	return 20 + end - begin;
}

void feed_piece(struct node *node, const struct test_packet *whole, unsigned piece,
		       unsigned n, uint8_t ingress)
{
	uint8_t fragment[LENGTH_MAX];
	uint32_t end = piece == n - 1 ? whole->length - 20 : (piece + 1) * PIECE;

	feed(node, fragment, cut(whole, piece * PIECE, end, fragment), ingress);
}
