/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks that rest for the hold-down (RFC 6888 REQ-8). They are in one queue, in the order of
 * giving back, and become free when somebody looks: no scan. (After a reload with a shorter
 * hold-down, what still rests for the longer one keeps what came after it waiting: late, never
 * early.)
 *
 * The one who gave a block back may have it again at once, and should: else one flow at a time
 * makes block after block rest. A subscriber without mappings is forgotten by the table, so what it
 * gave back is remembered here, by the share's id: sets of four, the first of each address's chain.
 * When a set is full the block that rests longest is forgotten; its owner then gets another one.
 */
#include "tablesvc/portpool_private.h"

/* The hold-down is kept in ticks, to fit a block into half a cache line. */
enum { REST_TICK_MS = 64 };

/* ---- whose they were ---- */

static uint32_t *set_of(const struct portpool *pools, uint32_t owner)
{
	return pools->rested[owner * 0x9e3779b1u >> (32 - REST_SET_BITS)];
}

static bool is_resting(const struct portpool *pools, uint32_t link)
{
	return link && pools->blocks[link - 1].state == BLOCK_RESTING;
}

/* A memory that must not be lost when another one of the same kind comes: one chain each. */
static bool same_chain(const struct portpool *pools, uint32_t a, uint32_t b)
{
	return a >> BLOCK_BITS == b >> BLOCK_BITS &&
	       portpool_is_low(pools, a) == portpool_is_low(pools, b);
}

static void remember(struct portpool *pools, uint32_t block)
{
	struct port_block *b = &pools->blocks[block];
	uint32_t *set = set_of(pools, b->owner), *victim = &set[0];

	b->same = 0;
	for (unsigned i = 0; i < REST_WAYS; i++) {
		if (!is_resting(pools, set[i])) {
			victim = &set[i];
			continue;
		}
		const struct port_block *other = &pools->blocks[set[i] - 1];
		if (other->owner == b->owner && same_chain(pools, set[i] - 1, block)) {
			b->same = (set[i] - 1) % BLOCKS_PER_ADDRESS + 1;
			set[i] = block + 1;
			return;
		}
		if (is_resting(pools, *victim) &&
		    (int32_t)(other->rests_until - pools->blocks[*victim - 1].rests_until) < 0)
			victim = &set[i];
	}
	*victim = block + 1;
}

uint32_t portpool_find_rested(struct portpool *pools, const struct portpool_share *share,
			      uint32_t index, unsigned protocol, bool low)
{
	uint32_t *set = set_of(pools, share->id);

	for (unsigned i = 0; i < REST_WAYS; i++) {
		uint32_t link = set[i];
		if (!is_resting(pools, link) || pools->blocks[link - 1].owner != share->id)
			continue;
		uint32_t at = (link - 1) >> BLOCK_BITS;
		if ((index != ANY_ADDRESS && at != index) ||
		    pools->addresses[at].pool != share->pool || pools->addresses[at].dedicated ||
		    portpool_is_low(pools, link - 1) != low ||
		    !portpool_has_room(pools, link - 1, protocol))
			continue;
		/* What it gave back earlier comes next; has that rested, then all before it too. */
		uint16_t same = pools->blocks[link - 1].same;
		uint32_t next = same ? at << BLOCK_BITS | same : 0;
		set[i] = is_resting(pools, next) && pools->blocks[next - 1].owner == share->id
			     ? next
			     : 0;
		return link;
	}
	return 0;
}

/* ---- the queue ---- */

void portpool_unrest(struct portpool *pools, uint32_t block)
{
	struct port_block *b = &pools->blocks[block];
	struct port_address *address = address_of_block(pools, block);

	*(b->prev ? &pools->blocks[b->prev - 1].next : &pools->resting_head) = b->next;
	*(b->next ? &pools->blocks[b->next - 1].prev : &pools->resting_tail) = b->prev;
	b->next = b->prev = 0;
	b->same = 0;
	address->n_resting--;
	if (address->pool != POOL_RETIRED)
		pools->pools[address->pool].stats.blocks_resting--;
}

bool portpool_has_rested(const struct port_block *block, struct monotime now)
{
	uint32_t tick = (uint32_t)(now.ns / (REST_TICK_MS * MS_NS));
	return (int32_t)(tick - block->rests_until) >= 0;
}

bool portpool_mature(struct portpool *pools, struct monotime now, unsigned max)
{
	bool any = false;

	while (max-- && pools->resting_head) {
		uint32_t block = pools->resting_head - 1;
		if (!portpool_has_rested(&pools->blocks[block], now))
			break;
		portpool_unrest(pools, block);
		pools->blocks[block].state = BLOCK_FREE;
		portpool_set_free(pools, block, true);
		any = true;
	}
	return any;
}

void portpool_rest(struct portpool *pools, uint32_t block, uint32_t hold_down_ms,
		   struct monotime now)
{
	struct port_block *b = &pools->blocks[block];
	struct port_address *address = address_of_block(pools, block);
	int64_t tick_ns = REST_TICK_MS * MS_NS, until = now.ns + hold_down_ms * MS_NS;

	b->next = b->prev = 0;
	address->n_granted--;
	if (address->pool != POOL_RETIRED)
		pools->pools[address->pool].stats.blocks_used--;
	if (hold_down_ms == 0) {
		b->state = BLOCK_FREE;
		portpool_set_free(pools, block, true);
		return;
	}
	b->rests_until = (uint32_t)((until + tick_ns - 1) / tick_ns);
	remember(pools, block); /* while it is not among those that rest */
	b->state = BLOCK_RESTING;
	b->prev = pools->resting_tail;
	*(b->prev ? &pools->blocks[b->prev - 1].next : &pools->resting_head) = block + 1;
	pools->resting_tail = block + 1;
	address->n_resting++;
	if (address->pool != POOL_RETIRED)
		pools->pools[address->pool].stats.blocks_resting++;
}
