/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Negative answers: which dataplanes were told that an external endpoint has no mapping, and cache
 * that for a moment. When a mapping is made there they are told. Direct-mapped and bounded: a place
 * that is taken means that the answer must not be cached.
 */
#include "tablesvc/table_internal.h"

static struct negative *place_of(struct table *t, uint8_t protocol, const struct nat_endpoint *e)
{
	uint64_t h = table_hash(t, endpoint_word(0, protocol, e->address, e->port), 3);
	return &t->negatives[h % NEGATIVES];
}

static bool is_of(const struct negative *n, uint8_t protocol, const struct nat_endpoint *e)
{
	return n->protocol == protocol && n->address == e->address && n->port == e->port;
}

/* How long, in ms, the dataplane with this bit may cache it: 0 = not at all. */
uint32_t negative_tell(struct table *t, uint8_t protocol, const struct nat_endpoint *e, uint64_t bit)
{
	struct negative *n = place_of(t, protocol, e);
	int64_t now_ms = monotime_ms(t->now);
	bool live = now_ms < n->until_ms;

	if (live && !is_of(n, protocol, e))
		return 0;
	*n = (struct negative){
	    .address = e->address,
	    .port = e->port,
	    .protocol = protocol,
	    .told = (live ? n->told : 0) | bit,
	    /* The dataplane counts from when it receives it: remember for a lease. */
	    .until_ms = now_ms + t->config.negative_ttl_ms + t->config.lease_ms,
	};
	t->negatives_until_ms = n->until_ms;
	return t->config.negative_ttl_ms;
}

static void end(struct table *t, struct negative *n)
{
	struct wire_notice notice = {
	    .tuple = {.destination = n->address,
		      .destination_port = n->port,
		      .protocol = n->protocol},
	};
	directory_notice(t, n->told & t->active, WIRE_INVALIDATE, &notice);
	n->until_ms = 0;
}

void negative_end(struct table *t, uint8_t protocol, const struct nat_endpoint *external)
{
	if (monotime_ms(t->now) >= t->negatives_until_ms) /* none at all: the usual case */
		return;
	struct negative *n = place_of(t, protocol, external);
	if (monotime_ms(t->now) < n->until_ms && is_of(n, protocol, external))
		end(t, n);
}

/* All endpoints of the address: each has an owner now (static 1:1). */
void negative_end_address(struct table *t, nat_be32 address)
{
	int64_t now_ms = monotime_ms(t->now);

	for (unsigned i = 0; now_ms < t->negatives_until_ms && i < NEGATIVES; i++)
		if (now_ms < t->negatives[i].until_ms && t->negatives[i].address == address)
			end(t, &t->negatives[i]);
}
