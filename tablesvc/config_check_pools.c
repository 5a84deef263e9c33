/* SPDX-License-Identifier: Apache-2.0 */
/* Pools: what their keys must be to each other, to other pools, and to those who use them. */
#include "tablesvc/config_check.h"

#include <arpa/inet.h>
#include <string.h>
#include "common/base/err.h"
#include "tablesvc/deterministic.h"

/* What the port pool keeps per address and per block; 64 Ki addresses at the default block size. */
enum { ADDRESSES_MAX = 1 << 16, BLOCKS_MAX = 1 << 24, LOW_PORTS = 1024 };

static int check_ports(struct config_checking *check, unsigned index)
{
	const struct config_pool *pool = &check->config->pools[index];
	unsigned first = pool->port_first, past = pool->port_last + 1u, block = pool->block_size;

	config_check_path(check, "pools[%u].block_size", index);
	if (block & (block - 1))
		return config_check_refuse(
		    check,
		    "%u is no power of two; allowed: 64, 128, 256, 512, 1024, "
		    "2048, 4096",
		    block);
	config_check_path(check, "pools[%u].ports", index);
	/* The block of port 0 is one port short, so a range may begin with 1. */
	if ((first % block && first != 1) || past % block) {
		unsigned low = (first + block - 1) / block * block, high = past / block * block;
		if (low >= high)
			return config_check_refuse(check, "%u-%u holds no whole block of %u ports",
						   first, past - 1, block);
		return config_check_refuse(
		    check,
		    "%u-%u does not divide into blocks of %u ports; allowed: "
		    "%u-%u, or another block_size",
		    first, past - 1, block, low, high - 1);
	}
	/* RFC 4787 REQ-3a: a port below 1024 is for a source port below 1024. */
	if (first < LOW_PORTS && !pool->low_ports)
		return config_check_refuse(
		    check,
		    "%u-%u begins below 1024, where only sources below 1024 "
		    "get ports; allowed: a range from 1024 on, or low_ports: "
		    "true as well",
		    first, past - 1);
	config_check_path(check, "pools[%u].low_ports", index);
	if (pool->low_ports && (first >= LOW_PORTS || past <= LOW_PORTS))
		return config_check_refuse(check,
					   "true, but ports are %u-%u; allowed: a range on both "
					   "sides of 1024, like 1-65535",
					   first, past - 1);
	if (pool->low_ports && block > LOW_PORTS)
		return config_check_refuse(check,
					   "true, but a block of %u holds ports on both sides of "
					   "1024; allowed: a block_size of 1024 or less",
					   block);
	return 0;
}

/* Keys that mean something in one mode only. */
static int check_mode(struct config_checking *check, unsigned index)
{
	const struct config_pool *pool = &check->config->pools[index];
	bool deterministic = pool->mode == CONFIG_DETERMINISTIC;

	config_check_path(check, "pools[%u].ports_per_subscriber", index);
	if (pool->ports_per_subscriber && !deterministic)
		return config_check_refuse(check, "set, but the mode is dynamic; allowed: mode: "
						  "deterministic, or limits.ports");
	config_check_path(check, "pools[%u].dynamic_overflow", index);
	if (pool->dynamic_overflow && !deterministic)
		return config_check_refuse(check, "set, but the mode is dynamic, where all ports "
						  "are; allowed: mode: deterministic");
	config_check_path(check, "pools[%u].protocols", index);
	if (pool->n_protocols && deterministic)
		return config_check_refuse(check, "set, but the mode is deterministic, and who has an "
						  "address would follow from no file; allowed: []");
	for (unsigned i = 0; i < pool->n_protocols; i++) {
		config_check_path(check, "pools[%u].protocols[%u]", index, i);
		if (memchr(pool->protocols, pool->protocols[i], i))
			return config_check_refuse(check, "the protocol is there twice; allowed: "
							  "once");
	}
	config_check_path(check, "pools[%u].low_ports", index);
	if (pool->low_ports && deterministic)
		return config_check_refuse(check, "true, but the mode is deterministic; allowed: "
						  "false");
	config_check_path(check, "pools[%u].pooling", index);
	if (pool->pooling == CONFIG_ARBITRARY && deterministic)
		return config_check_refuse(check,
					   "arbitrary, but the mode is deterministic, where "
					   "each subscriber has its address; allowed: paired");
	return 0;
}

int config_check_pool(struct config_checking *check, unsigned index, uint64_t *addresses,
		      uint64_t *blocks)
{
	const struct config_pool *pool = &check->config->pools[index];
	unsigned past = pool->port_last + 1u, block = pool->block_size;

	for (unsigned i = 0; i < index; i++) {
		config_check_path(check, "pools[%u].name", index);
		if (strcmp(check->config->pools[i].name, pool->name) == 0)
			return config_check_refuse(check, "there is a pool named \"%s\" already",
						   pool->name);
	}
	int err = check_ports(check, index);
	if (err)
		return err;
	err = check_mode(check, index);
	if (err)
		return err;
	for (unsigned i = 0; i < pool->n_prefixes; i++) {
		const struct config_prefix *prefix = &pool->prefixes[i];
		uint32_t top = ntohl(prefix->address) >> 24;
		char a[32], b[32];
		config_check_path(check, "pools[%u].prefixes[%u]", index, i);
		config_prefix_text(prefix, a, sizeof a);
		if (prefix->length < 8 || top == 0 || top == 127 || top >= 224)
			return config_check_refuse(
			    check,
			    "%s holds addresses that no host may have; allowed: "
			    "unicast prefixes of /8 and longer",
			    a);
		for (unsigned j = 0; j <= index; j++) {
			const struct config_pool *other = &check->config->pools[j];
			const struct config_prefix *overlap = config_find_overlap(
			    other->prefixes, j == index ? i : other->n_prefixes, prefix);
			if (overlap)
				return config_check_refuse(
				    check,
				    "%s overlaps %s of pool \"%s\"; allowed: each "
				    "address in one pool, once",
				    a, config_prefix_text(overlap, b, sizeof b), other->name);
		}
		*addresses += UINT64_C(1) << (32 - prefix->length);
		if (*addresses > ADDRESSES_MAX)
			return config_check_refuse(check,
						   "%s makes more than %d addresses of all pools; "
						   "allowed: fewer",
						   a, ADDRESSES_MAX);
		*blocks +=
		    (UINT64_C(1) << (32 - prefix->length)) * ((past - pool->port_first) / block);
		if (*blocks > BLOCKS_MAX)
			return config_check_refuse(
			    check,
			    "%s makes more than %d port blocks of all pools; "
			    "allowed: fewer addresses or a larger block_size",
			    a, BLOCKS_MAX);
	}
	return 0;
}

int config_check_pool_use(struct config_checking *check, unsigned index)
{
	const struct config *config = check->config;
	struct deterministic *plan;
	char why[400];

	if (config->pools[index].mode != CONFIG_DETERMINISTIC)
		return 0;
	for (unsigned i = 0; i < config->n_redirects; i++) {
		config_check_path(check, "redirect[%u].pool", i);
		if (config->redirects[i].pool == index)
			return config_check_refuse(
			    check,
			    "pool \"%s\" is deterministic: its ports are those of its "
			    "realms' subscribers; allowed: a dynamic pool",
			    config->pools[index].name);
	}
	config_check_path(check, "pools[%u].mode", index);
	int err = deterministic_new(config, index, &plan, why, sizeof why);
	if (err == ERR_INVALID)
		return config_check_refuse(check, "%s", why);
	if (err)
		return config_check_refuse(check, "out of memory");
	deterministic_free(plan);
	return 0;
}

static bool same_layout(const struct config_pool *a, const struct config_pool *b)
{
	return a->block_size == b->block_size && a->port_first == b->port_first &&
	       a->port_last == b->port_last && a->low_ports == b->low_ports && a->mode == b->mode &&
	       a->ports_per_subscriber == b->ports_per_subscriber &&
	       a->dynamic_overflow == b->dynamic_overflow;
}

/*
 * Whether blocks that were granted from old can be kept: what is the same address must be cut into
 * the same blocks.
 */
int config_check_reload_pools(const struct config *old, const struct config *new, char *error,
			      unsigned error_size)
{
	for (unsigned i = 0; i < new->n_pools; i++) {
		const struct config_pool *pool = &new->pools[i];
		for (unsigned j = 0; j < old->n_pools; j++) {
			const struct config_pool *before = &old->pools[j];
			bool shared = false;
			for (unsigned k = 0; k < pool->n_prefixes && !shared; k++)
				shared = config_find_overlap(before->prefixes, before->n_prefixes,
							     &pool->prefixes[k]) != NULL;
			if (!shared || same_layout(pool, before))
				continue;
			snprintf(error, error_size,
				 "pools: \"%s\" has other ports, another block_size or another "
				 "mode than before on addresses in use; that needs a restart",
				 pool->name);
			return ERR_STATE;
		}
	}
	return 0;
}
