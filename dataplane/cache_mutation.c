/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/cache_private.h"

enum cache_mutation cache_mutation;

bool cache_mutation_defer(struct cache *cache, const struct nat_tuple *tuple)
{
	if (!cache_mutated(CACHE_MUTATION_ACK_FIRST) ||
	    cache->n_deferred == sizeof cache->deferred / sizeof cache->deferred[0])
		return false;
	cache->deferred[cache->n_deferred++] = *tuple;
	return true;
}

void cache_mutation_tick(struct cache *cache)
{
	for (unsigned i = 0; i < cache->n_deferred; i++)
		flowtable_remove(cache->flows, &cache->deferred[i], NULL);
	cache->n_deferred = 0;
}
