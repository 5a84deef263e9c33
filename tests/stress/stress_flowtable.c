/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One writer inserts, replaces, opens, removes in a table that is too small, so that slots are used
 * again at once; readers look flows up and mark them. Whatever a reader gets must be wholly one
 * version of the flow it asked for, and no mark may reach another flow. For ThreadSanitizer, and
 * without it for the machine's own reordering. Argument: the writer's operations.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/err.h"
#include "dataplane/flowtable.h"

enum { FLOWS = 96, CAPACITY = 48, READERS = 3, BATCH = 8, VERSIONS = 1 << 20 };

static struct flowtable *table;
static atomic_bool done;
static atomic_uint failures, hits;

/* Every word of the rewrite says which flow and which version it belongs to. */
static struct flow flow_version(uint32_t i, uint32_t version)
{
	return (struct flow){
	    .tuple = {.source = 1 + i,
		      .destination = 0x01010101u * i,
		      .source_port = (uint16_t)(i * 3),
		      .destination_port = (uint16_t)(i * 5),
		      .protocol = NAT_TCP,
		      .realm = 1},
	    .rewrite = {.source = version * 2654435761u + i,
			.destination = version * 40503u + i,
			.source_port = (uint16_t)(version * 7 + i),
			.destination_port = (uint16_t)(version * 11 + i)},
	    .handle = (uint64_t)version << 32 | i,
	    .peer_handle = ~((uint64_t)version << 32 | i),
	    .direction = NAT_OUTBOUND,
	    .state = NAT_SLOT_OPEN,
	};
}

/* The one TCP flag that is ever marked on flow i. */
static uint8_t mark_of(uint32_t i)
{
	return (uint8_t)(1u << i % 8);
}

static void fail(const char *what, uint32_t i)
{
	if (atomic_fetch_add(&failures, 1) < 10)
		fprintf(stderr, "flow %u: %s\n", i, what);
}

static void check_copy(uint32_t i, const struct nat_slot *copy)
{
	uint32_t version = (uint32_t)(copy->handle >> 32);
	struct flow want = flow_version(i, version);

	if ((uint32_t)copy->handle != i)
		fail("another flow's handle", i);
	if (!nat_tuple_equal(&copy->key, &want.tuple))
		fail("another key than asked for", i);
	if (copy->source != want.rewrite.source || copy->destination != want.rewrite.destination ||
	    copy->source_port != want.rewrite.source_port ||
	    copy->destination_port != want.rewrite.destination_port)
		fail("a rewrite of another version or flow", i);
	if (copy->state != NAT_SLOT_OPEN)
		fail("not open", i);
}

static void *reader(void *argument)
{
	uint64_t state = (uintptr_t)argument + 1;
	struct random_source random = random_seeded(&state);

	for (uint32_t now = 1; !atomic_load_explicit(&done, memory_order_relaxed); now++) {
		uint32_t flows[BATCH];
		uint64_t hashes[BATCH];
		struct nat_tuple keys[BATCH];
		for (unsigned k = 0; k < BATCH; k++) {
			flows[k] = random_below(&random, FLOWS);
			keys[k] = flow_version(flows[k], 0).tuple;
			hashes[k] = flowtable_prefetch(table, &keys[k]);
		}
		for (unsigned k = 0; k < BATCH; k++)
			flowtable_prefetch_slot(table, hashes[k]);
		for (unsigned k = 0; k < BATCH; k++) {
			struct nat_slot copy;
			uint8_t new_flags, mark = mark_of(flows[k]);
			if (!flowtable_hit_hashed(table, &keys[k], hashes[k], now, mark, &copy,
						  &new_flags))
				continue;
			atomic_fetch_add_explicit(&hits, 1, memory_order_relaxed);
			check_copy(flows[k], &copy);
			if (new_flags & ~mark)
				fail("flags that nobody sent", flows[k]);
		}
	}
	return NULL;
}

static void check_flow(const struct flow *flow)
{
	uint32_t i = (uint32_t)flow->handle;

	if (flow->tcp_flags[NAT_OUTBOUND] & ~mark_of(i) || flow->tcp_flags[NAT_INBOUND])
		fail("marked with another flow's flag", i);
}

static void writer(uint32_t operations)
{
	uint64_t state = 99;
	struct random_source random = random_seeded(&state);
	unsigned evictions = 0;

	for (uint32_t turn = 0; turn < operations; turn++) {
		uint32_t i = random_below(&random, FLOWS);
		struct flow flow = flow_version(i, turn % VERSIONS), gone[2], old;
		unsigned n = 0;
		flow.state = turn % 8 ? NAT_SLOT_OPEN : NAT_SLOT_PARKED;
		if (flowtable_remove(table, &flow.tuple, &old))
			check_flow(&old);
		if (random_below(&random, 8) == 0)
			continue;
		int error = flowtable_insert(table, &flow, turn, gone, &n);
		if (error && error != ERR_FULL && error != ERR_EXISTS)
			fail("not inserted", i);
		for (unsigned k = 0; k < n; k++)
			check_flow(&gone[k]);
		evictions += n;
		if (flow.state == NAT_SLOT_PARKED)
			flowtable_open(table, &flow.tuple);
		if (turn % 64 == 0)
			flowtable_reset_flags(table, &flow.tuple, 0);
		if (turn % 32 == 0)
			flowtable_reported(table, &flow.tuple, mark_of(i));
		if (turn % 20000 == 0)
			flowtable_clear(table);
	}
	printf("%u operations, %u evictions, %u hits\n", operations, evictions, atomic_load(&hits));
	if (evictions == 0)
		fail("nothing was ever evicted", 0);
}

int main(int argc, char **argv)
{
	uint32_t operations = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1000000;
	uint64_t state = 5;
	struct random_source random = random_seeded(&state);
	pthread_t threads[READERS];

	if (flowtable_new(CAPACITY, &random, &table) != ERR_OK)
		return 1;
	for (uintptr_t i = 0; i < READERS; i++)
		if (pthread_create(&threads[i], NULL, reader, (void *)i) != 0)
			return 1;
	writer(operations);
	atomic_store(&done, true);
	for (unsigned i = 0; i < READERS; i++)
		pthread_join(threads[i], NULL);
	flowtable_free(table);
	if (atomic_load(&hits) < 1000)
		fail("hardly any hits: nothing was tested", 0);
	return atomic_load(&failures) ? 1 : 0;
}
