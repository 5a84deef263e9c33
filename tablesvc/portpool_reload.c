/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From one configuration to the next. An address keeps its index for as long as one of its ports is
 * used, whatever the configuration says about it, because places name it. So a reload first plans
 * which index every wanted address gets and takes all memory; only then it changes something.
 */
#include "tablesvc/portpool_private.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/err.h"

#define NO_INDEX UINT32_MAX

struct wanted {
	uint32_t address; /* host order */
	uint32_t index;
	uint16_t pool;
	bool is_new; /* the index is fresh, or belonged to another address or layout */
};

struct plan {
	const struct config *config;
	struct wanted *wanted; /* every address of the configuration */
	uint32_t n;
	bool *taken;	      /* by index: wanted */
	uint32_t n_addresses; /* indices afterwards */
	uint32_t *hash;
	unsigned hash_bits;
	uint32_t *open_lists;
	struct deterministic *fixed[CONFIG_POOLS_MAX];
	uint64_t *members;
	char *error;
	unsigned error_size;
};

__attribute__((format(printf, 3, 4))) static int refuse(struct plan *plan, int err,
							const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	if (plan->error_size)
		vsnprintf(plan->error, plan->error_size, format, arguments);
	va_end(arguments);
	return err;
}

/* ---- planning: changes nothing ---- */

static unsigned layout_shift(const struct config_pool *pool)
{
	return (unsigned)__builtin_ctz(pool->block_size);
}

/* A range from 1 on begins with the block of port 0, which itself is never used. */
static unsigned layout_first(const struct config_pool *pool)
{
	return pool->port_first == 1 ? 0 : pool->port_first;
}

static unsigned layout_blocks(const struct config_pool *pool)
{
	return (pool->port_last + 1u - layout_first(pool)) >> layout_shift(pool);
}

/* Blocks that are not for everybody: of fixed ranges (and what is left over), or below 1024. */
static unsigned layout_apart(const struct config_pool *pool, const struct deterministic *fixed)
{
	if (fixed)
		return pool->dynamic_overflow ? (unsigned)fixed->ranges * fixed->blocks
					      : layout_blocks(pool);
	return pool->low_ports ? (LOW_PORTS - layout_first(pool)) >> layout_shift(pool) : 0;
}

static bool layout_equal(const struct port_address *address, const struct config_pool *pool,
			 const struct deterministic *fixed)
{
	return address->port_first == layout_first(pool) && address->shift == layout_shift(pool) &&
	       address->n_blocks == layout_blocks(pool) &&
	       address->n_apart == layout_apart(pool, fixed) && address->is_fixed == !!fixed;
}

static int plan_pools(struct plan *plan)
{
	uint64_t n = 0;

	if (plan->config->n_pools > CONFIG_POOLS_MAX)
		return refuse(plan, ERR_TOO_BIG, "%u pools; allowed: %d", plan->config->n_pools,
			      CONFIG_POOLS_MAX);
	for (unsigned i = 0; i < plan->config->n_pools; i++) {
		const struct config_pool *pool = &plan->config->pools[i];
		unsigned size = pool->block_size, first = layout_first(pool);
		/* What config_check made sure of; without it the arithmetic here would be wrong. */
		if (size < 64 || size > 4096 || (size & (size - 1)) || pool->port_first == 0 ||
		    first % size || (pool->port_last + 1u) % size || pool->port_last < first ||
		    pool->low_ports != (first < LOW_PORTS) ||
		    (pool->low_ports && (size > LOW_PORTS || pool->port_last < LOW_PORTS)))
			return refuse(plan, ERR_INVALID,
				      "ports %u-%u of pool \"%s\" do not divide into blocks of %u",
				      pool->port_first, pool->port_last, pool->name, size);
		for (unsigned j = 0; j < pool->n_prefixes; j++)
			n += UINT64_C(1) << (32 - pool->prefixes[j].length);
		char why[400] = "not enough memory";
		int err =
		    pool->mode != CONFIG_DETERMINISTIC
			? 0
			: deterministic_new(plan->config, i, &plan->fixed[i], why, sizeof why);
		if (err)
			return refuse(plan, err, "pool \"%s\": %s", pool->name, why);
	}
	if (n > ADDRESSES_MAX)
		return refuse(plan, ERR_TOO_BIG, "the pools have %llu addresses; allowed: %d",
			      (unsigned long long)n, ADDRESSES_MAX);
	plan->n = (uint32_t)n;
	return 0;
}

static void list_wanted(struct plan *plan)
{
	struct wanted *w = plan->wanted;

	for (unsigned i = 0; i < plan->config->n_pools; i++) {
		const struct config_pool *pool = &plan->config->pools[i];
		for (unsigned j = 0; j < pool->n_prefixes; j++) {
			uint32_t first = ntohl(pool->prefixes[j].address);
			uint64_t n = UINT64_C(1) << (32 - pool->prefixes[j].length);
			for (uint64_t k = 0; k < n; k++)
				*w++ = (struct wanted){.address = first + (uint32_t)k,
						       .index = NO_INDEX,
						       .pool = (uint16_t)i};
		}
	}
}

static int refuse_address(struct plan *plan, const struct wanted *wanted, bool retired,
			  const char *what)
{
	const char *pool = plan->config->pools[wanted->pool].name;
	nat_be32 number = htonl(wanted->address);
	char text[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &number, text, sizeof text);
	return refuse(
	    plan, ERR_INVALID,
	    "pool \"%s\": %s of %s %s; allowed: the same as before, or remove the address, "
	    "wait until its last session ended, and add it again",
	    pool, what, text,
	    retired ? "differ from those that its last sessions still use"
		    : "cannot change while the service runs");
}

/*
 * Whether ports in use would be somebody else's by the new plan. Of a retired address it is not
 * known any more which plan they were used by.
 */
static bool moves_subscribers(const struct portpool *pools, const struct plan *plan,
			      const struct wanted *wanted, const struct port_address *address)
{
	const struct deterministic *fixed = plan->fixed[wanted->pool];

	if (!fixed || address->n_used == 0)
		return false;
	return address->pool == POOL_RETIRED || !pools->pools[address->pool].fixed ||
	       !deterministic_keeps(pools->pools[address->pool].fixed, fixed);
}

/* Finds the indices of addresses that are there already. */
static int plan_known(const struct portpool *pools, struct plan *plan)
{
	for (uint32_t i = 0; i < plan->n; i++) {
		struct wanted *w = &plan->wanted[i];
		const struct config_pool *pool = &plan->config->pools[w->pool];
		int64_t index = portpool_find(pools, w->address);
		if (index < 0)
			continue;
		const struct port_address *address = &pools->addresses[index];
		bool retired = address->pool == POOL_RETIRED;
		w->index = (uint32_t)index;
		plan->taken[index] = true;
		if (!layout_equal(address, pool, plan->fixed[w->pool])) {
			w->is_new = retired && address->n_used == 0;
			if (!w->is_new)
				return refuse_address(plan, w, retired,
						      "ports, block_size or mode");
		} else if (moves_subscribers(pools, plan, w, address)) {
			return refuse_address(plan, w, retired,
					      "the subscribers' fixed ports (which follow from "
					      "prefixes of pool and realms, in their order)");
		}
	}
	return 0;
}

/* Gives the others an index: of a retired address that nothing names any more, or a fresh one. */
static int plan_new(const struct portpool *pools, struct plan *plan)
{
	uint32_t unused = 0;

	plan->n_addresses = pools->n_addresses;
	for (uint32_t i = 0; i < plan->n; i++) {
		struct wanted *w = &plan->wanted[i];
		if (w->index != NO_INDEX)
			continue;
		while (unused < pools->n_addresses &&
		       (plan->taken[unused] || pools->addresses[unused].n_used))
			unused++;
		w->is_new = true;
		w->index = unused < pools->n_addresses ? unused++ : plan->n_addresses++;
		if (plan->n_addresses > ADDRESSES_MAX)
			return refuse(plan, ERR_TOO_BIG,
				      "the pools' addresses and removed ones that are still used "
				      "are more than %d",
				      ADDRESSES_MAX);
		plan->taken[w->index] = true;
	}
	return 0;
}

static void plan_free(struct plan *plan)
{
	for (unsigned i = 0; i < CONFIG_POOLS_MAX; i++)
		deterministic_free(plan->fixed[i]);
	free(plan->wanted);
	free(plan->taken);
	free(plan->hash);
	free(plan->open_lists);
	free(plan->members);
}

static int plan_make(struct portpool *pools, struct plan *plan)
{
	int err = plan_pools(plan);

	if (err)
		return err;
	plan->wanted = calloc(plan->n + 1, sizeof plan->wanted[0]);
	plan->open_lists = calloc(plan->n + 1, sizeof plan->open_lists[0]);
	plan->taken = calloc(pools->n_addresses + plan->n + 1, sizeof plan->taken[0]);
	if (!plan->wanted || !plan->taken || !plan->open_lists)
		goto no_memory;
	list_wanted(plan);
	if ((err = plan_known(pools, plan)) || (err = plan_new(pools, plan)))
		return err;
	for (plan->hash_bits = 4; 1u << plan->hash_bits < 2 * plan->n_addresses; plan->hash_bits++)
		;
	plan->hash = calloc(1u << plan->hash_bits, sizeof plan->hash[0]);
	plan->members =
	    calloc(plan->config->n_pools + 1u, (plan->n_addresses + 63) / 64 * sizeof(uint64_t));
	if (plan->hash && plan->members && !portpool_enlarge(pools, plan->n_addresses))
		return 0;
no_memory:
	return refuse(plan, ERR_NOMEM, "not enough memory for %u addresses", plan->n);
}

/* ---- carrying it out: cannot fail ---- */

/* The bits of the word-th 64 that are below n. */
static uint64_t bits_below(unsigned n, unsigned word)
{
	unsigned left = n > word * 64 ? n - word * 64 : 0;

	return left >= 64 ? UINT64_MAX : (UINT64_C(1) << left) - 1;
}

static void address_init(struct portpool *pools, const struct wanted *wanted,
			 const struct config_pool *pool, const struct deterministic *fixed)
{
	struct port_address *address = &pools->addresses[wanted->index];
	uint32_t first_block = wanted->index << BLOCK_BITS;

	/* The index's last address has no used port, so its blocks are free or rest... */
	for (uint32_t i = 0; i < address->n_blocks; i++) {
		if (pools->blocks[first_block + i].state == BLOCK_RESTING)
			portpool_unrest(pools, first_block + i);
		pools->blocks[first_block + i] = (struct port_block){0};
	}
	/* ... but port 0, if that was in its range, is marked. */
	for (unsigned i = 0; i < PORT_PROTOCOLS; i++) {
		uint64_t *word = &pools->used[i][wanted->index * (PORTS_PER_ADDRESS / 64)];
		if (*word & 1)
			*word &= ~UINT64_C(1);
	}
	address->address = wanted->address;
	address->port_first = (uint16_t)layout_first(pool);
	address->shift = (uint8_t)layout_shift(pool);
	address->n_blocks = (uint16_t)layout_blocks(pool);
	address->n_apart = (uint16_t)layout_apart(pool, fixed);
	address->is_fixed = fixed != NULL;
	address->n_free_low = fixed ? 0 : address->n_apart;
	address->n_free = address->n_blocks - address->n_apart;
	address->n_resting = address->n_granted = 0;
	address->dedicated = false;
	pools->by_address[wanted->index] = (struct address_places){0};
	unsigned first = fixed ? address->n_apart : 0;
	for (unsigned i = 0; i < BLOCKS_PER_ADDRESS / 64; i++)
		pools->free_blocks[wanted->index][i] =
		    bits_below(address->n_blocks, i) & ~bits_below(first, i);
}

static void fill_hash(struct portpool *pools)
{
	uint32_t mask = (UINT32_C(1) << pools->hash_bits) - 1;

	for (uint32_t index = 0; index < pools->n_addresses; index++) {
		uint32_t i =
		    pools->addresses[index].address * 0x9e3779b1u >> (32 - pools->hash_bits);
		while (pools->hash[i])
			i = (i + 1) & mask;
		pools->hash[i] = index + 1;
	}
}

/* The pools' settings, and all that is counted per pool, anew; refusals go on counting by name. */
static void fill_pools(struct portpool *pools, struct plan *plan)
{
	struct port_pool old[CONFIG_POOLS_MAX];
	uint32_t *open = pools->open_lists;

	memcpy(old, pools->pools, sizeof old);
	memset(pools->pools, 0, sizeof pools->pools);
	for (unsigned i = 0; i < plan->config->n_pools; i++) {
		const struct config_pool *from = &plan->config->pools[i];
		struct port_pool *pool = &pools->pools[i];
		memcpy(pool->name, from->name, sizeof pool->name);
		pool->parity = from->parity;
		pool->low_ports = from->low_ports;
		pool->arbitrary = from->pooling == CONFIG_ARBITRARY;
		pool->warn_above = from->warn_above;
		pool->fixed = plan->fixed[i];
		plan->fixed[i] = NULL;
		pool->another_address = from->fallback == CONFIG_ANOTHER_ADDRESS;
		pool->open = open;
		pool->members = pools->members + (size_t)i * ((plan->n_addresses + 63) / 64);
		for (unsigned j = 0; j < from->n_prefixes; j++)
			open += UINT64_C(1) << (32 - from->prefixes[j].length);
		for (unsigned j = 0; j < pools->n_pools; j++) {
			if (strcmp(old[j].name, pool->name) != 0)
				continue;
			pool->stats.exhausted = old[j].stats.exhausted;
			pool->warned = old[j].warned;
		}
	}
	for (unsigned i = 0; i < pools->n_pools; i++)
		deterministic_free(old[i].fixed);
	pools->n_pools = plan->config->n_pools;
	for (uint32_t i = 0; i < plan->n; i++) {
		struct port_address *address = &pools->addresses[plan->wanted[i].index];
		struct portpool_stats *stats = &pools->pools[plan->wanted[i].pool].stats;
		address->pool = plan->wanted[i].pool;
		stats->addresses++;
		stats->blocks += address->n_blocks;
		stats->blocks_shared += address->n_blocks - address->n_apart;
		stats->blocks_free += address->n_free;
		stats->blocks_used += address->n_granted;
		stats->blocks_resting += address->n_resting;
		stats->ports_used += address->n_used;
		stats->addresses_used += address->n_used > 0;
		portpool_set_member(pools, plan->wanted[i].index);
	}
}

static void carry_out(struct portpool *pools, struct plan *plan)
{
	/* Retired for now, all of them: nothing below counts in a pool of the old configuration. */
	for (uint32_t i = 0; i < pools->n_addresses; i++) {
		pools->addresses[i].pool = POOL_RETIRED;
		pools->addresses[i].open = 0;
	}
	for (uint32_t i = pools->n_addresses; i < plan->n_addresses; i++)
		pools->addresses[i].pool = POOL_RETIRED;
	pools->n_addresses = plan->n_addresses;
	for (uint32_t i = 0; i < plan->n; i++) {
		if (plan->wanted[i].is_new)
			address_init(pools, &plan->wanted[i],
				     &plan->config->pools[plan->wanted[i].pool],
				     plan->fixed[plan->wanted[i].pool]);
	}
	free(pools->hash);
	pools->hash = plan->hash;
	pools->hash_bits = plan->hash_bits;
	free(pools->open_lists);
	pools->open_lists = plan->open_lists;
	pools->n_open_lists = plan->n;
	free(pools->members);
	pools->members = plan->members;
	plan->members = NULL;
	plan->hash = plan->open_lists = NULL;
	fill_hash(pools);
	fill_pools(pools, plan);
}

int portpool_reload(struct portpool *pools, const struct config *config, char *error,
		    unsigned error_size)
{
	struct plan plan = {.config = config, .error = error, .error_size = error_size};
	int err = plan_make(pools, &plan);

	if (!err)
		carry_out(pools, &plan);
	plan_free(&plan);
	return err;
}
