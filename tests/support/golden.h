/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The golden table's reader (tests/golden/packets.golden explains the language; the other files of
 * that directory are parts of the same table): it drives a
 * target, which is an implementation of the packet path, and compares what comes out byte for byte.
 * The engine is one target (golden_engine.c); a BPF hit path may be another: it says from "packet"
 * whether it took the packet itself, and hands the others to an engine, as in life.
 */
#ifndef SUPPORT_GOLDEN_H
#define SUPPORT_GOLDEN_H

#include "dataplane/engine.h"
#include "tests/support/packet_text.h"

enum golden_kind { GOLDEN_OUT, GOLDEN_DROP, GOLDEN_KEPT, GOLDEN_ASK };

struct golden_event {
	enum golden_kind kind;
	uint8_t realm;		/* OUT */
	uint8_t reason;		/* DROP */
	uint8_t op;		/* ASK: enum wire_op */
	uint8_t tcp_flags;	/* ASK */
	struct nat_tuple tuple; /* ASK */
	uint32_t length;
	uint8_t *bytes; /* OUT; malloc */
};

enum { GOLDEN_EVENTS_MAX = 256 };

struct golden_events {
	unsigned n, taken;
	struct golden_event event[GOLDEN_EVENTS_MAX];
};

struct golden_target {
	void *context;
	struct golden_events *events; /* the target records here, in order */
	void (*configure)(void *context, const struct engine_config *config);
	void (*valid_until)(void *context, struct monotime valid_until);
	void (*flow)(void *context, const struct nat_tuple *tuple,
		     const struct nat_rewrite *rewrite, uint8_t direction, struct monotime now);
	void (*remove)(void *context, const struct nat_tuple *tuple);
	/* True when the hit path settled it. */
	bool (*packet)(void *context, const struct test_packet *packet, uint8_t realm,
		       struct monotime now, uint8_t *reported_flags);
	/* The answer to the oldest open question, and what it releases. */
	bool (*answer)(void *context, const struct wire_answer *answer, struct monotime now);
	void (*tick)(void *context, struct monotime now);
};

void golden_record(struct golden_events *events, const struct golden_event *event,
		   const uint8_t *bytes, uint32_t length);
void golden_events_clear(struct golden_events *events);

struct golden_table;
/* Reads the files that a shell's pattern matches, in the order of their names; or ends the program. */
struct golden_table *golden_load(const char *pattern);
void golden_unload(struct golden_table *table);
unsigned golden_rows(const struct golden_table *table);
const char *golden_name(const struct golden_table *table, unsigned row);
/* True, or false and what differs, with the line's number, in error. */
bool golden_run(const struct golden_table *table, unsigned row, struct golden_target *target,
		char *error, unsigned error_size);
/* Calls visit with every packet that the row feeds: seeds for a fuzzer. */
void golden_packets(const struct golden_table *table, unsigned row,
		    void (*visit)(void *context, const struct test_packet *packet, uint8_t realm),
		    void *context);

/* The target "engine", for golden_run and for tests that drive the engine themselves. */
struct golden_target *golden_engine_new(void);
void golden_engine_free(struct golden_target *target);
struct engine *golden_engine(struct golden_target *target);
struct flowtable *golden_flows(struct golden_target *target);
/* The configuration that rows start from. */
void golden_defaults(struct engine_config *config);

#endif
