/* SPDX-License-Identifier: Apache-2.0 */
#include "tablesvc/deterministic.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/err.h"

#define fail(...) (snprintf(why, why_size, __VA_ARGS__), ERR_INVALID)

static uint64_t size_of(const struct config_prefix *prefix)
{
	return UINT64_C(1) << (32 - prefix->length);
}

/* The address with this number in its prefix. */
static nat_be32 nth(const struct config_prefix *prefix, uint64_t number)
{
	return htonl(ntohl(prefix->address) + (uint32_t)number);
}

/* Its number in the prefix, or at least the prefix's size. */
static uint64_t number_in(const struct config_prefix *prefix, nat_be32 address)
{
	uint32_t offset = ntohl(address) - ntohl(prefix->address); /* wraps below it */
	return offset;
}

/* ---- making the plan ---- */

static int collect(const struct config *config, unsigned pool, struct deterministic *plan)
{
	const struct config_pool *p = &config->pools[pool];
	unsigned n = 0;

	for (unsigned i = 0; i < config->n_realms; i++)
		n += config->realms[i].pool == pool ? config->realms[i].n_prefixes : 0;
	plan->inside = calloc(n ? n : 1, sizeof plan->inside[0]);
	plan->outside = calloc(p->n_prefixes ? p->n_prefixes : 1, sizeof plan->outside[0]);
	if (!plan->inside || !plan->outside)
		return ERR_NOMEM;
	for (unsigned i = 0; i < config->n_realms; i++) {
		const struct config_realm *realm = &config->realms[i];
		for (unsigned j = 0; realm->pool == pool && j < realm->n_prefixes; j++) {
			plan->inside[plan->n_inside++] =
			    (struct deterministic_inside){.prefix = realm->prefixes[j],
							  .realm = realm->id,
							  .first = plan->subscribers};
			plan->subscribers += size_of(&realm->prefixes[j]);
		}
	}
	for (; plan->n_outside < p->n_prefixes; plan->n_outside++) {
		plan->outside[plan->n_outside] = p->prefixes[plan->n_outside];
		plan->addresses += size_of(&p->prefixes[plan->n_outside]);
	}
	return 0;
}

static int divide(const struct config_pool *pool, struct deterministic *plan, char *why,
		  unsigned why_size)
{
	unsigned size = pool->block_size, all = pool->port_last + 1u - pool->port_first;
	unsigned fixed = all / size * (100u - pool->dynamic_overflow) / 100; /* blocks */

	if (plan->subscribers == 0 || plan->addresses == 0)
		return fail(
		    "deterministic, but no realm uses the pool; allowed: a pool of at least "
		    "one realm");
	if (pool->ports_per_subscriber % size)
		return fail("ports_per_subscriber is %u, no multiple of block_size, %u",
			    pool->ports_per_subscriber, size);
	uint64_t ratio = (plan->subscribers + plan->addresses - 1) / plan->addresses;
	unsigned blocks = pool->ports_per_subscriber / size;
	if (blocks == 0)
		blocks = (unsigned)(fixed / ratio);
	/* The largest ratio that fits is fixed / blocks; a range has one block at least. */
	unsigned ranges = blocks ? fixed / blocks : 0;
	char allowed[80] = "";
	if (fixed >= ratio)
		snprintf(allowed, sizeof allowed, "ports_per_subscriber of %u at most, ",
			 (unsigned)(fixed / ratio) * size);
	if (ranges < ratio)
		return fail(
		    "deterministic, with %llu subscribers on %llu addresses, which is %llu an "
		    "address, but its %u fixed ports hold %u ranges of %u; allowed: %smore "
		    "addresses, or fewer subscribers",
		    (unsigned long long)plan->subscribers, (unsigned long long)plan->addresses,
		    (unsigned long long)ratio, fixed * size, blocks ? ranges : fixed,
		    blocks ? blocks * size : size, allowed);
	plan->ratio = (uint32_t)ratio;
	plan->port_first = pool->port_first;
	plan->ports = (uint16_t)(blocks * size);
	plan->blocks = (uint16_t)blocks;
	plan->ranges = (uint16_t)ranges;
	return 0;
}

int deterministic_new(const struct config *config, unsigned pool, struct deterministic **out,
		      char *why, unsigned why_size)
{
	struct deterministic *plan = calloc(1, sizeof *plan);

	if (!plan)
		return ERR_NOMEM;
	int err = collect(config, pool, plan);
	if (!err)
		err = divide(&config->pools[pool], plan, why, why_size);
	if (err) {
		deterministic_free(plan);
		return err;
	}
	*out = plan;
	return 0;
}

void deterministic_free(struct deterministic *plan)
{
	if (!plan)
		return;
	free(plan->inside);
	free(plan->outside);
	free(plan);
}

/* ---- there and back ---- */

static struct deterministic_range range_of(const struct deterministic *plan, uint64_t number)
{
	uint64_t at = number % plan->addresses;
	uint32_t first = plan->port_first + (uint32_t)(number / plan->addresses) * plan->ports;
	unsigned i = 0;

	for (; at >= size_of(&plan->outside[i]); i++)
		at -= size_of(&plan->outside[i]);
	return (struct deterministic_range){
	    .address = nth(&plan->outside[i], at),
	    .first = (uint16_t)first,
	    .last = (uint16_t)(first + plan->ports - 1),
	};
}

bool deterministic_range(const struct deterministic *plan, uint8_t realm, nat_be32 subscriber,
			 struct deterministic_range *out)
{
	for (unsigned i = 0; i < plan->n_inside; i++) {
		const struct deterministic_inside *inside = &plan->inside[i];
		uint64_t number = number_in(&inside->prefix, subscriber);
		if (inside->realm != realm || number >= size_of(&inside->prefix))
			continue;
		*out = range_of(plan, inside->first + number);
		return true;
	}
	return false;
}

bool deterministic_subscriber(const struct deterministic *plan, const struct nat_endpoint *external,
			      uint8_t *realm, nat_be32 *subscriber)
{
	uint32_t port = ntohs(external->port), offset = port - plan->port_first; /* wraps */
	uint64_t at = 0, number;
	unsigned i = 0;

	for (; i < plan->n_outside; i++) {
		number = number_in(&plan->outside[i], external->address);
		if (number < size_of(&plan->outside[i]))
			break;
		at += size_of(&plan->outside[i]);
	}
	if (i == plan->n_outside || offset / plan->ports >= plan->ranges)
		return false;
	number = offset / plan->ports * plan->addresses + at + number;
	for (i = plan->n_inside; i-- > 0;) {
		const struct deterministic_inside *inside = &plan->inside[i];
		if (number < inside->first)
			continue;
		number -= inside->first;
		if (number >= size_of(&inside->prefix))
			return false; /* behind the last subscriber */
		*realm = inside->realm;
		*subscriber = nth(&inside->prefix, number);
		return true;
	}
	return false;
}

static bool same_prefix(const struct config_prefix *a, const struct config_prefix *b)
{
	return a->address == b->address && a->length == b->length;
}

bool deterministic_keeps(const struct deterministic *before, const struct deterministic *after)
{
	if (before->n_outside != after->n_outside || before->n_inside > after->n_inside ||
	    before->port_first != after->port_first || before->ports != after->ports ||
	    before->ranges != after->ranges)
		return false;
	for (unsigned i = 0; i < before->n_outside; i++) {
		if (!same_prefix(&before->outside[i], &after->outside[i]))
			return false;
	}
	for (unsigned i = 0; i < before->n_inside; i++) {
		if (before->inside[i].realm != after->inside[i].realm ||
		    !same_prefix(&before->inside[i].prefix, &after->inside[i].prefix))
			return false;
	}
	return true;
}

static const char *realm_name(const struct config *config, uint8_t id)
{
	for (unsigned i = 0; i < config->n_realms; i++) {
		if (config->realms[i].id == id)
			return config->realms[i].name;
	}
	return "?";
}

void deterministic_describe(const struct deterministic *plan, char *buffer, unsigned size)
{
	snprintf(buffer, size,
		 "ratio 1:%u, %u ports each from %u on, %llu subscribers on %llu addresses",
		 plan->ratio, plan->ports, plan->port_first, (unsigned long long)plan->subscribers,
		 (unsigned long long)plan->addresses);
}

static void print_pool(const struct deterministic *plan, const struct config *config, FILE *out)
{
	char inside[INET_ADDRSTRLEN], outside[INET_ADDRSTRLEN];

	for (unsigned i = 0; i < plan->n_inside; i++) {
		const struct deterministic_inside *from = &plan->inside[i];
		const char *realm = realm_name(config, from->realm);
		for (uint64_t k = 0; k < size_of(&from->prefix) && !ferror(out); k++) {
			nat_be32 subscriber = nth(&from->prefix, k);
			struct deterministic_range range = range_of(plan, from->first + k);
			inet_ntop(AF_INET, &subscriber, inside, sizeof inside);
			inet_ntop(AF_INET, &range.address, outside, sizeof outside);
			fprintf(out, "%s %s %s %u-%u\n", realm, inside, outside, range.first,
				range.last);
		}
	}
}

void deterministic_print(const struct config *config, FILE *out)
{
	struct deterministic *plan;
	char text[200];

	for (unsigned i = 0; i < config->n_pools; i++) {
		if (config->pools[i].mode != CONFIG_DETERMINISTIC ||
		    deterministic_new(config, i, &plan, text, sizeof text))
			continue;
		deterministic_describe(plan, text, sizeof text);
		fprintf(out, "# pool %s: %s\n", config->pools[i].name, text);
		print_pool(plan, config, out);
		deterministic_free(plan);
	}
}
