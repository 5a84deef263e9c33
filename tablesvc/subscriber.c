/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Subscribers: an internal address in its realm, its share of the external ports, its limits
 * (RFC 6888 REQ-4). All clients of one redirect rule are one subscriber: else each stranger who
 * connects would take a port block for himself.
 */
#include "tablesvc/table_internal.h"

static uint64_t hash_of(const struct table *t, uint8_t realm, nat_be32 address, uint16_t redirect)
{
	return table_hash(t, endpoint_word(realm, 0, address, redirect), 1);
}

uint32_t *subscriber_bucket(const struct table *t, uint8_t realm, nat_be32 address,
			    uint16_t redirect)
{
	return &t->by_subscriber.head[hash_of(t, realm, address, redirect) & t->by_subscriber.mask];
}

uint32_t subscriber_find(const struct table *t, uint8_t realm, nat_be32 address, uint16_t redirect)
{
	uint32_t i = *subscriber_bucket(t, realm, address, redirect);
	for (; i; i = subscriber_at(t, i)->hash_next) {
		const struct subscriber *s = subscriber_at(t, i);
		if (s->address == address && s->realm == realm && s->redirect == redirect)
			return i;
	}
	return 0;
}

uint32_t subscriber_get(struct table *t, uint8_t realm, nat_be32 address, uint16_t redirect)
{
	uint32_t i = subscriber_find(t, realm, address, redirect);
	if (i)
		return i;
	i = slab_take(&t->subscribers);
	if (!i)
		return 0;
	struct subscriber *s = subscriber_at(t, i);
	*s = (struct subscriber){
	    .address = address, .realm = realm, .redirect = redirect, .used = true};
	s->share.id = (uint32_t)hash_of(t, realm, address, redirect) | 1;
	s->share.realm = realm;
	s->share.subscriber = address;
	s->tokens = UINT32_MAX; /* cut to the burst at the first creation */
	s->tokens_at = monotime_ms(t->now);
	uint32_t *head = subscriber_bucket(t, realm, address, redirect);
	s->hash_next = *head;
	*head = i;
	return i;
}

void subscriber_release(struct table *t, uint32_t index)
{
	struct subscriber *s = subscriber_at(t, index);
	if (s->one_to_one || s->n_mappings > 0 || s->share.n_blocks > 0)
		return;
	uint32_t *link = subscriber_bucket(t, s->realm, s->address, s->redirect);
	while (*link != index)
		link = &subscriber_at(t, *link)->hash_next;
	*link = s->hash_next;
	s->used = false;
	slab_give(&t->subscribers, index);
}

/* A token bucket: limits.creations_per_second, burst twice that. Whether it holds a token. */
bool subscriber_may_create(struct table *t, struct subscriber *s)
{
	uint32_t rate = t->config.limits.creations_per_second;
	if (rate == 0 || s->redirect)
		return true;
	int64_t now_ms = monotime_ms(t->now);
	uint64_t tokens = s->tokens + (uint64_t)(now_ms - s->tokens_at) * rate;
	uint64_t burst = 2000ull * rate;
	if (tokens > burst)
		tokens = burst;
	if (tokens > UINT32_MAX)
		tokens = UINT32_MAX;
	s->tokens_at = now_ms;
	s->tokens = (uint32_t)tokens;
	return tokens >= 1000;
}

void subscriber_created(const struct table *t, struct subscriber *s)
{
	if (t->config.limits.creations_per_second && !s->redirect)
		s->tokens -= 1000;
}
