/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every slot that is in stands in two lists in the order of entering: the list of all, and its
 * bucket's.
 */
#include "common/base/quota.h"

#include <stdlib.h>
#include "common/base/err.h"

enum { BUCKETS = 1024 };
enum list_of { OF_ALL, OF_KIN, LISTS };

struct list {
	uint32_t oldest, newest, weight;
};

struct place { /* of a slot */
	struct {
		uint32_t older, newer;
	} links[LISTS];
	uint32_t bucket; /* + 1; 0: not in, so that memory is touched as slots are used */
	uint32_t weight;
};

struct quota {
	uint64_t key;
	uint32_t capacity, share;
	struct list all, kin[BUCKETS];
	struct place places[];
};

int quota_new(uint32_t slots, uint32_t capacity, uint32_t share, struct random_source *random,
	      struct quota **out)
{
	struct quota *quota = calloc(1, sizeof *quota + slots * sizeof quota->places[0]);

	if (!quota)
		return ERR_NOMEM;
	quota->key = random->next(random->context) | 1;
	quota->capacity = capacity;
	quota->share = share < capacity ? share : capacity;
	quota->all = (struct list){QUOTA_NONE, QUOTA_NONE, 0};
	for (uint32_t i = 0; i < BUCKETS; i++)
		quota->kin[i] = quota->all;
	*out = quota;
	return 0;
}

void quota_free(struct quota *quota)
{
	free(quota);
}

static uint32_t bucket_of(const struct quota *quota, uint64_t source)
{
	unsigned __int128 product =
	    (unsigned __int128)(source ^ quota->key) * (quota->key ^ 0x9e3779b97f4a7c15u);
	uint64_t h = ((uint64_t)product ^ (uint64_t)(product >> 64)) * quota->key;

	return (uint32_t)(h >> 32) % BUCKETS;
}

static struct list *kin_of(struct quota *quota, const struct place *place)
{
	return &quota->kin[place->bucket - 1];
}

static uint32_t oldest_but(const struct quota *quota, const struct list *list, enum list_of which,
			   uint32_t keep)
{
	uint32_t slot = list->oldest;

	if (slot != QUOTA_NONE && slot == keep)
		slot = quota->places[slot].links[which].newer;
	return slot == QUOTA_NONE ? QUOTA_FULL : slot;
}

uint32_t quota_victim(const struct quota *quota, uint64_t source, uint32_t weight, uint32_t keep)
{
	const struct list *kin = &quota->kin[bucket_of(quota, source)];

	if (kin->weight + weight > quota->share)
		return oldest_but(quota, kin, OF_KIN, keep);
	if (quota->all.weight + weight > quota->capacity)
		return oldest_but(quota, &quota->all, OF_ALL, keep);
	return QUOTA_NONE;
}

static void append(struct quota *quota, struct list *list, enum list_of which, uint32_t slot)
{
	quota->places[slot].links[which].older = list->newest;
	quota->places[slot].links[which].newer = QUOTA_NONE;
	if (list->newest == QUOTA_NONE)
		list->oldest = slot;
	else
		quota->places[list->newest].links[which].newer = slot;
	list->newest = slot;
}

static void unlink_from(struct quota *quota, struct list *list, enum list_of which, uint32_t slot)
{
	uint32_t older = quota->places[slot].links[which].older;
	uint32_t newer = quota->places[slot].links[which].newer;

	if (older == QUOTA_NONE)
		list->oldest = newer;
	else
		quota->places[older].links[which].newer = newer;
	if (newer == QUOTA_NONE)
		list->newest = older;
	else
		quota->places[newer].links[which].older = older;
}

void quota_enter(struct quota *quota, uint32_t slot, uint64_t source, uint32_t weight)
{
	struct place *place = &quota->places[slot];

	place->bucket = bucket_of(quota, source) + 1;
	place->weight = 0;
	append(quota, &quota->all, OF_ALL, slot);
	append(quota, kin_of(quota, place), OF_KIN, slot);
	quota_grow(quota, slot, weight);
}

void quota_grow(struct quota *quota, uint32_t slot, uint32_t weight)
{
	struct place *place = &quota->places[slot];

	place->weight += weight;
	quota->all.weight += weight;
	kin_of(quota, place)->weight += weight;
}

void quota_leave(struct quota *quota, uint32_t slot)
{
	struct place *place = &quota->places[slot];

	if (!place->bucket)
		return;
	unlink_from(quota, &quota->all, OF_ALL, slot);
	unlink_from(quota, kin_of(quota, place), OF_KIN, slot);
	quota->all.weight -= place->weight;
	kin_of(quota, place)->weight -= place->weight;
	place->bucket = 0;
}

uint32_t quota_weight(const struct quota *quota, uint32_t slot)
{
	const struct place *place = &quota->places[slot];

	return place->bucket ? place->weight : 0;
}

uint32_t quota_oldest(const struct quota *quota)
{
	return quota->all.oldest;
}

uint32_t quota_used(const struct quota *quota)
{
	return quota->all.weight;
}
