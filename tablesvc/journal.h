/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal: what survives a restart. The table appends every change that an answer depends on;
 * an answer leaves when the journal has committed everything up to the position that append
 * returned. journal_none commits at once and keeps nothing.
 */
#ifndef TABLESVC_JOURNAL_H
#define TABLESVC_JOURNAL_H

#include <stdint.h>
#include "common/nat/types.h"

enum journal_kind { /* stored values; never renumber */
	JOURNAL_BLOCK_GRANT = 1,
	JOURNAL_BLOCK_FREE = 2,
	JOURNAL_MAPPING_CREATE = 3,
	JOURNAL_SESSION_CREATE = 4,
	JOURNAL_TCP_STATE = 5,
	JOURNAL_SESSION_DELETE = 6,
	JOURNAL_MAPPING_DELETE = 7,
	JOURNAL_STATIC_ADD = 8,
	JOURNAL_STATIC_DELETE = 9,
	JOURNAL_ATTACH = 10,
};

struct journal_record {
	uint8_t kind; /* enum journal_kind */
	uint8_t protocol, realm, state;
	uint32_t slot, generation; /* of the handle */
	struct nat_endpoint internal, external, remote;
};

struct journal;
struct journal_ops {
	const char *name;
	/* Takes a copy. Returns the position that must be committed before an answer may leave. */
	uint64_t (*append)(struct journal *journal, const struct journal_record *record);
	/* The position up to which everything is durable. */
	uint64_t (*committed)(struct journal *journal);
	/* Starts committing what was appended; called once per turn of the loop. */
	void (*flush)(struct journal *journal);
	void (*free)(struct journal *journal);
};
struct journal {
	const struct journal_ops *ops;
};

int journal_none_new(struct journal **out);

#endif
