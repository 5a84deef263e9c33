/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/ring.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/err.h"

/* kind 0: the rest of the memory up to its end is not used this time round. */
enum { RING_SKIP = 0, ALIGNMENT = 32, CACHE_LINE = 64 };

struct ring {
	/* [P] the worker writes, [C] the owner writes; positions count bytes for ever. */
	_Alignas(CACHE_LINE) _Atomic uint64_t put;   /* [P] */
	uint64_t taken_seen;			     /* [P] what P last knew of "taken" */
	_Alignas(CACHE_LINE) _Atomic uint64_t taken; /* [C] */
	_Alignas(CACHE_LINE) uint64_t size;	     /* constant */
	uint8_t *memory;			     /* constant */
};

static uint64_t room_of(uint32_t length)
{
	return (sizeof(struct ring_record) + length + ALIGNMENT - 1) & ~(uint64_t)(ALIGNMENT - 1);
}

int ring_new(uint32_t bytes, struct ring **out)
{
	uint64_t size = RING_BYTES_MIN;
	while (size < bytes)
		size *= 2;
	struct ring *ring = aligned_alloc(CACHE_LINE, sizeof *ring);
	if (!ring)
		return ERR_NOMEM;
	memset(ring, 0, sizeof *ring);
	ring->memory = aligned_alloc(4096, size);
	if (!ring->memory) {
		free(ring);
		return ERR_NOMEM;
	}
	memset(ring->memory, 0, size); /* pages are there before the first packet */
	ring->size = size;
	*out = ring;
	return 0;
}

void ring_free(struct ring *ring)
{
	if (!ring)
		return;
	free(ring->memory);
	free(ring);
}

bool ring_put(struct ring *ring, const struct ring_record *record, const void *data)
{
	if (record->length > RING_PACKET_MAX)
		return false;
	uint64_t put = atomic_load_explicit(&ring->put, memory_order_relaxed);
	uint64_t at = put & (ring->size - 1);
	uint64_t need = room_of(record->length);
	uint64_t skip = at + need > ring->size ? ring->size - at : 0;
	if (put + skip + need - ring->taken_seen > ring->size) {
		ring->taken_seen = atomic_load_explicit(&ring->taken, memory_order_acquire);
		if (put + skip + need - ring->taken_seen > ring->size)
			return false;
	}
	if (skip) {
		/* Records are aligned, so that what is left has room for one without bytes. */
		struct ring_record *rest = (struct ring_record *)(ring->memory + at);
		rest->kind = RING_SKIP;
		at = 0;
	}
	memcpy(ring->memory + at, record, sizeof *record);
	if (record->length)
		memcpy(ring->memory + at + sizeof *record, data, record->length);
	atomic_store_explicit(&ring->put, put + skip + need, memory_order_release);
	return true;
}

const struct ring_record *ring_peek(struct ring *ring, const uint8_t **data)
{
	uint64_t taken = atomic_load_explicit(&ring->taken, memory_order_relaxed);
	if (taken == atomic_load_explicit(&ring->put, memory_order_acquire))
		return NULL;
	uint64_t at = taken & (ring->size - 1);
	const struct ring_record *record = (const struct ring_record *)(ring->memory + at);
	if (record->kind == RING_SKIP) {
		/* Never the last one: what it made way for was put in the same step. */
		atomic_store_explicit(&ring->taken, taken + ring->size - at, memory_order_release);
		record = (const struct ring_record *)ring->memory;
	}
	*data = (const uint8_t *)(record + 1);
	return record;
}

void ring_drop(struct ring *ring)
{
	uint64_t taken = atomic_load_explicit(&ring->taken, memory_order_relaxed);
	const struct ring_record *record =
	    (const struct ring_record *)(ring->memory + (taken & (ring->size - 1)));
	atomic_store_explicit(&ring->taken, taken + room_of(record->length), memory_order_release);
}

bool ring_is_empty(const struct ring *ring)
{
	return atomic_load_explicit(&ring->taken, memory_order_acquire) ==
	       atomic_load_explicit(&ring->put, memory_order_acquire);
}
