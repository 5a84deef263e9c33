/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arrays, and the life of the whole. All that an address may ever need is reserved with it and
 * touched by use.
 */
#include "tablesvc/portpool_private.h"

#include <stdlib.h>
#include <sys/mman.h>
#include "common/base/err.h"

/* Reserves or enlarges one array; what is there stays, what is new is zero and not touched. */
static int enlarge(void *at, size_t size, uint32_t *capacity, uint32_t n)
{
	void **memory = at, *grown;

	if (n <= *capacity)
		return 0;
	if (*capacity == 0)
		grown = mmap(NULL, size * n, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	else
		grown = mremap(*memory, size * *capacity, size * n, MREMAP_MAYMOVE);
	if (grown == MAP_FAILED)
		return ERR_NOMEM;
	*memory = grown;
	*capacity = n;
	return 0;
}

struct array {
	void *at;
	size_t size; /* of one address */
};

enum { ARRAYS = 4 + 2 * PORT_PROTOCOLS };

static void list_arrays(struct portpool *pools, struct array arrays[ARRAYS])
{
	unsigned n = 0;

	arrays[n++] = (struct array){&pools->addresses, sizeof pools->addresses[0]};
	arrays[n++] = (struct array){&pools->free_blocks, sizeof pools->free_blocks[0]};
	arrays[n++] = (struct array){&pools->blocks, sizeof pools->blocks[0] << BLOCK_BITS};
	arrays[n++] = (struct array){&pools->by_address, sizeof pools->by_address[0]};
	for (unsigned i = 0; i < PORT_PROTOCOLS; i++) {
		arrays[n++] = (struct array){&pools->owners[i],
					     sizeof pools->owners[i][0] * PORTS_PER_ADDRESS};
		arrays[n++] = (struct array){&pools->used[i], PORTS_PER_ADDRESS / 8};
	}
	_Static_assert(ARRAYS == sizeof pools->capacity / sizeof pools->capacity[0], "all of them");
}

int portpool_enlarge(struct portpool *pools, uint32_t n)
{
	struct array arrays[ARRAYS];

	list_arrays(pools, arrays);
	for (unsigned i = 0; i < ARRAYS; i++) {
		if (enlarge(arrays[i].at, arrays[i].size, &pools->capacity[i], n))
			return ERR_NOMEM;
	}
	return 0;
}

int portpool_new(const struct config *config, struct random_source *random, struct portpool **out)
{
	struct portpool *pools = calloc(1, sizeof *pools);
	int err = ERR_NOMEM;

	if (!pools)
		return ERR_NOMEM;
	pools->random = *random;
	pools->hash_bits = 4;
	pools->hash = calloc(1u << pools->hash_bits, sizeof pools->hash[0]);
	pools->rested = calloc(1u << REST_SET_BITS, sizeof pools->rested[0]); /* lazily touched */
	if (!pools->hash || !pools->rested || (err = portpool_reload(pools, config, NULL, 0))) {
		portpool_free(pools);
		return err;
	}
	*out = pools;
	return 0;
}

void portpool_free(struct portpool *pools)
{
	struct array arrays[ARRAYS];

	if (!pools)
		return;
	list_arrays(pools, arrays);
	for (unsigned i = 0; i < ARRAYS; i++) {
		if (pools->capacity[i])
			munmap(*(void **)arrays[i].at, arrays[i].size * pools->capacity[i]);
	}
	for (unsigned i = 0; i < pools->n_pools; i++)
		deterministic_free(pools->pools[i].fixed);
	free(pools->open_lists);
	free(pools->members);
	free(pools->hash);
	free(pools->rested);
	free(pools);
}

uint64_t portpool_memory(const struct portpool *pools)
{
	return sizeof *pools + (sizeof pools->hash[0] << pools->hash_bits) +
	       sizeof pools->open_lists[0] * pools->n_open_lists +
	       (sizeof pools->addresses[0] + sizeof pools->free_blocks[0]) * pools->n_addresses +
	       (pools->some_by_address ? sizeof pools->by_address[0] * pools->n_addresses : 0) +
	       pools->touched;
}
