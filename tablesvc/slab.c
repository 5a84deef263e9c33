/* SPDX-License-Identifier: Apache-2.0 */
#include "tablesvc/table_internal.h"

#include <string.h>
#include <sys/mman.h>

/* Zero pages, reserved now and touched when used; huge ones where the kernel gives them. */
static void *reserve(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return NULL;
	madvise(memory, bytes, MADV_HUGEPAGE);
	return memory;
}

enum { TOUCH_BYTES = 2 << 20, TOUCH_LEFT = TOUCH_BYTES / 2 };

int slab_new(struct slab *slab, uint32_t capacity, size_t stride, size_t link)
{
	*slab = (struct slab){.stride = stride, .link = link, .capacity = capacity, .fresh = 1};
	slab->memory = reserve(((size_t)capacity + 1) * stride);
	if (!slab->memory)
		return ERR_NOMEM;
	slab_touch(slab);
	return 0;
}

void slab_touch(struct slab *slab)
{
	size_t size = ((size_t)slab->capacity + 1) * slab->stride;
	size_t left = size - slab->touched;
	if (left == 0 || slab->fresh * slab->stride + TOUCH_LEFT < slab->touched)
		return;
	size_t bytes = left < TOUCH_BYTES ? left : TOUCH_BYTES;
	/* Before Linux 5.14 there is no such advice, and pages come when used. */
	madvise((char *)slab->memory + slab->touched, bytes, MADV_POPULATE_WRITE);
	slab->touched += bytes;
}

void slab_delete(struct slab *slab)
{
	if (slab->memory)
		munmap(slab->memory, ((size_t)slab->capacity + 1) * slab->stride);
	slab->memory = NULL;
}

static uint32_t *link_of(struct slab *slab, uint32_t index)
{
	return (uint32_t *)(void *)((char *)slab->memory + index * slab->stride + slab->link);
}

uint32_t slab_take(struct slab *slab)
{
	uint32_t index = slab->free;
	if (index) {
		slab->free = *link_of(slab, index);
		*link_of(slab, index) = 0;
	} else {
		if (slab->fresh > slab->capacity)
			return 0;
		index = slab->fresh++;
	}
	slab->used++;
	return index;
}

void slab_give(struct slab *slab, uint32_t index)
{
	*link_of(slab, index) = slab->free;
	slab->free = index;
	slab->used--;
}

int buckets_new(struct buckets *buckets, uint32_t capacity)
{
	uint32_t n = 64;
	while (n / 5 * 3 < capacity && n < UINT32_C(1) << 31) /* at most 0.6 entries a bucket */
		n *= 2;
	buckets->mask = n - 1;
	buckets->head = reserve((size_t)n * sizeof *buckets->head);
	return buckets->head ? 0 : ERR_NOMEM;
}

void buckets_touch(struct buckets *buckets)
{
	/* Before Linux 5.14 there is no such advice, and pages come when used. */
	madvise(buckets->head, ((size_t)buckets->mask + 1) * sizeof *buckets->head,
		MADV_POPULATE_WRITE);
}

void buckets_delete(struct buckets *buckets)
{
	if (buckets->head)
		munmap(buckets->head, ((size_t)buckets->mask + 1) * sizeof *buckets->head);
	buckets->head = NULL;
}
