/* SPDX-License-Identifier: Apache-2.0 */
/* Two engines and one table between them: questions wait until a test answers them. */
#ifndef SUPPORT_FRAGMENTS_BED_H
#define SUPPORT_FRAGMENTS_BED_H

#include "tests/support/nat_packets.h"
#include "tests/support/table_rig.h"
#include "dataplane/engine.h"

enum { NODES = 2, QUESTIONS = 256, OUTPUTS = 256, PIECES = 5, PIECE = 88, LENGTH_MAX = 600 };

struct question {
	bool about_fragment;
	unsigned op;
	struct nat_tuple tuple;
	uint8_t tcp_flags;
	uint16_t identification;
	uint64_t datagram;
	struct engine_packet packet;
	uint8_t bytes[LENGTH_MAX];
};

struct node {
	struct bed *bed;
	uint32_t dataplane; /* at the table */
	struct flowtable *flows;
	struct engine *engine;
	bool detached;
	unsigned first, n; /* questions, a ring */
	struct question questions[QUESTIONS];
};

struct bed {
	struct rig rig;
	uint64_t seed;
	struct random_source random;
	struct node nodes[NODES];
	unsigned n_out;
	struct {
		uint32_t length;
		uint8_t bytes[LENGTH_MAX], realm;
	} out[OUTPUTS];
};

extern struct bed *bed;
extern struct engine_config engine_config;

void bed_setup(void);
void bed_teardown(void);
void configure_mtu(uint32_t outside);
/* Enough time that nothing is remembered of datagrams. */
void forget_all(void);
void install(struct node *node, const struct nat_tuple *tuple, const struct wire_answer *answer);
/* Answers the node's oldest question; what it makes the table say to others arrives, too. */
bool answer_one(struct node *node);
void answer_all(void);
void feed(struct node *node, const uint8_t *bytes, uint32_t length, uint8_t ingress);
/* Payload bytes [begin, end) of the datagram as a fragment; its length. */
uint32_t cut(const struct test_packet *whole, uint32_t begin, uint32_t end, uint8_t *out);
void feed_piece(struct node *node, const struct test_packet *whole, unsigned piece, unsigned n,
		uint8_t ingress);

#endif
