/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCP requests (RFC 6887) to a table: several, each with a length in front, and a moment of time
 * between. Whatever comes, every answer is well-formed, and the table's books balance.
 */
#include <stdlib.h>
#include <string.h>

#include "tablesvc/explicit.h"
#include "tests/support/table_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

static void one(struct rig *rig, const uint8_t *data, size_t n)
{
	uint8_t out[PCP_MESSAGE_MAX];
	struct explicit_answer answer = {0};
	struct pcp_request request;
	nat_be32 from = ip("10.0.0.1");
	int result = pcp_parse(data, n, from, &request);

	if (result == PCP_SUCCESS)
		result = (int)explicit_request(rig->table, 1, from, &request, rig->now, &answer);
	if (result == PCP_SILENCE)
		return;
	must(result < PCP_RESULTS);
	size_t length = pcp_answer(data, n, &request, (unsigned)result, answer.lifetime_s,
				   explicit_epoch_s(rig->table, rig->now), &answer.external, out);
	must(length >= 24 && length <= sizeof out && length % 4 == 0);
	must(out[0] == PCP_VERSION && out[1] == (data[1] | 0x80) && out[3] == result);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rig rig;

	rig_config(&rig);
	rig.config.capacity.mappings = rig.config.capacity.sessions = 64;
	rig.config.capacity.subscribers = 4;
	rig.config.limits.blocks = 2;
	rig.config.pcp.capacity = 8;
	rig.config.pcp.per_subscriber = 4;
	rig.config.pcp.lifetime_min_ms = 1000;
	rig.config.pcp.lifetime_max_ms = 10000;
	rig_start(&rig);
	while (size > 1) {
		size_t n = data[0], left = size - 2;
		rig.now = monotime_add_ms(rig.now, data[1] * 100);
		table_tick(rig.table, rig.now);
		if (n > left)
			n = left;
		/* A copy of its own: reading past its end is found. */
		uint8_t *request = malloc(n ? n : 1);
		if (!request)
			break;
		memcpy(request, data + 2, n);
		one(&rig, request, n);
		free(request);
		data += 2 + n;
		size -= 2 + n;
	}
	/* All lifetimes and timers end: nothing is left. */
	for (unsigned i = 0; i < 100; i++) {
		rig.now = monotime_add_ms(rig.now, 240000);
		table_tick(rig.table, rig.now);
	}
	struct table_counters counters;
	table_counters(rig.table, &counters);
	must(counters.mappings == 0 && counters.sessions == 0 && counters.subscribers == 0);
	rig_stop(&rig);
	return 0;
}
