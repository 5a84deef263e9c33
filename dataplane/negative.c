/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/negative.h"

#include <string.h>

void negative_init(struct negative *negative, struct random_source *random)
{
	memset(negative, 0, sizeof *negative);
	negative->key = random->next(random->context) | 1;
}

static struct negative_entry *entry_of(const struct negative *negative,
				       const struct nat_tuple *tuple)
{
	uint64_t endpoint = (uint64_t)tuple->destination << 24 ^
			    (uint64_t)tuple->destination_port << 8 ^ tuple->protocol;
	uint64_t index = (endpoint * negative->key) >> (64 - NEGATIVE_BITS);
	return (struct negative_entry *)(uintptr_t)&negative->entries[index];
}

static bool matches(const struct negative_entry *entry, const struct nat_tuple *tuple)
{
	return entry->until.ns != 0 && entry->address == tuple->destination &&
	       entry->port == tuple->destination_port && entry->protocol == tuple->protocol;
}

void negative_add(struct negative *negative, const struct nat_tuple *tuple, uint32_t ttl_ms,
		  struct monotime now)
{
	uint32_t ttl = ttl_ms < NEGATIVE_TTL_MAX_MS ? ttl_ms : NEGATIVE_TTL_MAX_MS;
	if (ttl == 0)
		return;
	*entry_of(negative, tuple) = (struct negative_entry){
	    .address = tuple->destination,
	    .port = tuple->destination_port,
	    .protocol = tuple->protocol,
	    .until = monotime_add_ms(now, ttl),
	};
}

bool negative_hit(const struct negative *negative, const struct nat_tuple *tuple,
		  struct monotime now)
{
	const struct negative_entry *entry = entry_of(negative, tuple);
	return matches(entry, tuple) && monotime_before(now, entry->until);
}

void negative_remove(struct negative *negative, const struct nat_tuple *tuple)
{
	struct negative_entry *entry = entry_of(negative, tuple);
	if (matches(entry, tuple))
		entry->until.ns = 0;
}

void negative_clear(struct negative *negative)
{
	memset(negative->entries, 0, sizeof negative->entries);
}
