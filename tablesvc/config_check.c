/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What no single key of the configuration shows: overlaps, references, relations, sums.
 *
 * Who may overlap whom: realms may overlap each other (two sites with the same private addresses;
 * the realm is part of every key), prefixes inside one realm may not. Pools may overlap nothing:
 * not each other (U1 counts owners of an external endpoint per address), no inside prefix (the
 * destination could not be told from a hairpin), no bypass prefix (a dataplane would pass what the
 * service translates).
 */
#include "tablesvc/config_check.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <string.h>
#include "common/base/err.h"
#include "common/wire/wire.h"

void config_check_path(struct config_checking *check, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(check->path, check->path_size, format, arguments);
	va_end(arguments);
}

int config_check_refuse(struct config_checking *check, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(check->why, check->why_size, format, arguments);
	va_end(arguments);
	return ERR_INVALID;
}

bool config_prefix_contains(const struct config_prefix *prefix, nat_be32 address)
{
	uint32_t mask = prefix->length ? UINT32_MAX << (32 - prefix->length) : 0;
	return ((ntohl(address) ^ ntohl(prefix->address)) & mask) == 0;
}

static bool prefixes_overlap(const struct config_prefix *a, const struct config_prefix *b)
{
	return config_prefix_contains(a->length < b->length ? a : b,
				      a->length < b->length ? b->address : a->address);
}

const struct config_prefix *config_find_overlap(const struct config_prefix *prefixes, unsigned n,
						const struct config_prefix *with)
{
	for (unsigned i = 0; i < n; i++) {
		if (prefixes_overlap(&prefixes[i], with))
			return &prefixes[i];
	}
	return NULL;
}

static bool any_contains(const struct config_prefix *prefixes, unsigned n, nat_be32 address)
{
	for (unsigned i = 0; i < n; i++) {
		if (config_prefix_contains(&prefixes[i], address))
			return true;
	}
	return false;
}

static const struct config_pool *pool_of(const struct config *config, nat_be32 address)
{
	for (unsigned i = 0; i < config->n_pools; i++) {
		if (any_contains(config->pools[i].prefixes, config->pools[i].n_prefixes, address))
			return &config->pools[i];
	}
	return NULL;
}

static const struct config_realm *realm_of(const struct config *config, uint8_t id)
{
	for (unsigned i = 0; i < config->n_realms; i++) {
		if (config->realms[i].id == id)
			return &config->realms[i];
	}
	return NULL;
}

static int check_service(struct config_checking *check)
{
	const struct config *config = check->config;

	for (unsigned i = 0; i < config->n_listen; i++) {
		for (unsigned j = 0; j < i; j++) {
			config_check_path(check, "service.listen[%u]", i);
			if (strcmp(config->listen[i], config->listen[j]) == 0)
				return config_check_refuse(
				    check, "%s is there twice; allowed: once", config->listen[i]);
		}
	}
	unsigned set = (config->tls.certificate[0] != 0) + (config->tls.key[0] != 0) +
		       (config->tls.ca[0] != 0);
	config_check_path(check, "service.tls");
	if (set != 0 && set != 3)
		return config_check_refuse(
		    check, "only some of certificate, key and ca are set; allowed: all "
			   "three (mutual TLS) or none");
	return 0;
}

static int check_lease(struct config_checking *check)
{
	const struct config *config = check->config;
	char a[32], b[32];

	/* Two heartbeats must fit, or one that is lost ends the lease. */
	config_check_path(check, "lease.heartbeat");
	if (config->heartbeat_ms * 2 >= config->lease_ms)
		return config_check_refuse(
		    check, "%s is too long for a lease of %s; allowed: less than half",
		    config_duration_text(config->heartbeat_ms, a, sizeof a),
		    config_duration_text(config->lease_ms, b, sizeof b));
	config_check_path(check, "lease.margin");
	if (config->margin_ms >= config->lease_ms)
		return config_check_refuse(
		    check,
		    "%s is not less than the lease of %s; allowed: what clocks "
		    "drift in a lease, like 1s",
		    config_duration_text(config->margin_ms, a, sizeof a),
		    config_duration_text(config->lease_ms, b, sizeof b));
	config_check_path(check, "dataplanes.pending.per_flow");
	if (config->pending.per_flow > config->pending.packets)
		return config_check_refuse(check,
					   "%u is more than packets, %u, for all flows together",
					   config->pending.per_flow, config->pending.packets);
	return 0;
}

static int check_realm(struct config_checking *check, unsigned index)
{
	const struct config *config = check->config;
	const struct config_realm *realm = &config->realms[index];
	char a[32], b[32];

	config_check_path(check, "realms[%u].name", index);
	if (strcmp(realm->name, "outside") == 0)
		return config_check_refuse(
		    check, "\"outside\" is the name of what is not inside; allowed: "
			   "another name");
	for (unsigned i = 0; i < index; i++) {
		if (strcmp(config->realms[i].name, realm->name) == 0)
			return config_check_refuse(check, "there is a realm named \"%s\" already",
						   realm->name);
		if (config->realms[i].id == realm->id) {
			config_check_path(check, "realms[%u].id", index);
			return config_check_refuse(
			    check,
			    "%u is the id of realm \"%s\" already; allowed: a "
			    "number of its own from 1 to 255",
			    realm->id, config->realms[i].name);
		}
	}
	for (unsigned i = 0; i < realm->n_prefixes; i++) {
		const struct config_prefix *prefix = &realm->prefixes[i], *overlap;
		config_check_path(check, "realms[%u].prefixes[%u]", index, i);
		config_prefix_text(prefix, a, sizeof a);
		overlap = config_find_overlap(realm->prefixes, i, prefix);
		if (overlap)
			return config_check_refuse(
			    check,
			    "%s overlaps %s of the same realm; allowed: prefixes "
			    "apart",
			    a, config_prefix_text(overlap, b, sizeof b));
		for (unsigned j = 0; j < config->n_pools; j++) {
			overlap = config_find_overlap(config->pools[j].prefixes,
						      config->pools[j].n_prefixes, prefix);
			if (overlap)
				return config_check_refuse(
				    check,
				    "%s overlaps %s of pool \"%s\"; allowed: "
				    "inside prefixes apart from every pool",
				    a, config_prefix_text(overlap, b, sizeof b),
				    config->pools[j].name);
		}
	}
	return 0;
}

/* Whose such a host is must follow from its address alone: nobody else may have it. */
static int check_identity(struct config_checking *check, unsigned index)
{
	const struct config *config = check->config;
	const struct config_realm *realm = &config->realms[index];
	char a[32], b[32];

	for (unsigned i = 0; i < realm->n_identity; i++) {
		const struct config_prefix *prefix = &realm->identity[i], *overlap;
		bool within = false;
		config_check_path(check, "realms[%u].identity[%u]", index, i);
		config_prefix_text(prefix, a, sizeof a);
		for (unsigned j = 0; j < realm->n_prefixes; j++)
			within = within || (realm->prefixes[j].length <= prefix->length &&
					    config_prefix_contains(&realm->prefixes[j],
								   prefix->address));
		if (!within)
			return config_check_refuse(check,
						   "%s is in none of the realm's prefixes; "
						   "allowed: hosts of the realm",
						   a);
		overlap = config_find_overlap(realm->identity, i, prefix);
		if (overlap)
			return config_check_refuse(check, "%s overlaps %s of the same list", a,
						   config_prefix_text(overlap, b, sizeof b));
		for (unsigned j = 0; j < config->n_realms; j++) {
			if (j == index)
				continue;
			overlap = config_find_overlap(config->realms[j].prefixes,
						      config->realms[j].n_prefixes, prefix);
			if (overlap)
				return config_check_refuse(
				    check,
				    "%s overlaps %s of realm \"%s\"; allowed: addresses that "
				    "one realm has, since they are seen everywhere",
				    a, config_prefix_text(overlap, b, sizeof b),
				    config->realms[j].name);
		}
	}
	return 0;
}

static int check_bypass(struct config_checking *check)
{
	const struct config *config = check->config;
	char a[32], b[32];

	for (unsigned i = 0; i < config->n_bypass; i++) {
		const struct config_prefix *prefix = &config->bypass[i], *overlap;
		config_check_path(check, "bypass[%u]", i);
		config_prefix_text(prefix, a, sizeof a);
		overlap = config_find_overlap(config->bypass, i, prefix);
		if (overlap)
			return config_check_refuse(check, "%s overlaps %s of the same list", a,
						   config_prefix_text(overlap, b, sizeof b));
		for (unsigned j = 0; j < config->n_pools; j++) {
			overlap = config_find_overlap(config->pools[j].prefixes,
						      config->pools[j].n_prefixes, prefix);
			if (overlap)
				return config_check_refuse(
				    check,
				    "%s overlaps %s of pool \"%s\"; what is sent "
				    "to a pool is always translated",
				    a, config_prefix_text(overlap, b, sizeof b),
				    config->pools[j].name);
		}
	}
	return 0;
}

/* All of it is pushed to dataplanes in one message. */
static int check_prefix_count(struct config_checking *check)
{
	const struct config *config = check->config;
	unsigned n = config->n_bypass;

	for (unsigned i = 0; i < config->n_pools; i++)
		n += config->pools[i].n_prefixes;
	for (unsigned i = 0; i < config->n_realms; i++)
		n += config->realms[i].n_prefixes + config->realms[i].n_identity;
	config_check_path(check, "pools");
	if (n > WIRE_PREFIXES_MAX)
		return config_check_refuse(
		    check,
		    "pools, realms and bypass have %u prefixes together; allowed: "
		    "%d",
		    n, WIRE_PREFIXES_MAX);
	return 0;
}

static bool endpoint_equal(const struct nat_endpoint *a, const struct nat_endpoint *b)
{
	return a->address == b->address && a->port == b->port;
}

/* An endpoint behind realm is in one of its prefixes; anything may be outside but a pool. */
static int check_target(struct config_checking *check, uint8_t realm,
			const struct nat_endpoint *endpoint)
{
	const struct config_realm *inside = realm_of(check->config, realm);

	if (inside && !any_contains(inside->prefixes, inside->n_prefixes, endpoint->address))
		return config_check_refuse(
		    check,
		    "the address is in no prefix of realm \"%s\"; allowed: one of "
		    "its subscribers",
		    inside->name);
	if (inside && any_contains(inside->identity, inside->n_identity, endpoint->address))
		return config_check_refuse(
		    check,
		    "the address is one of realm \"%s\" that is not translated "
		    "(identity); allowed: another",
		    inside->name);
	if (!inside && pool_of(check->config, endpoint->address))
		return config_check_refuse(check,
					   "the address is in a pool; allowed: a host outside");
	return 0;
}

static int check_statics(struct config_checking *check)
{
	const struct config *config = check->config;

	config_check_path(check, "static");
	if (config->n_statics > config->capacity.mappings)
		return config_check_refuse(check, "%u entries are more than capacity.mappings, %u",
					   config->n_statics, config->capacity.mappings);
	for (unsigned i = 0; i < config->n_statics; i++) {
		const struct config_static *mapping = &config->statics[i];
		config_check_path(check, "static[%u].external", i);
		const struct config_pool *pool = pool_of(config, mapping->external.address);
		bool whole = mapping->protocol == 0;
		if (!pool)
			return config_check_refuse(
			    check, "the address is in no pool; allowed: an address of "
				   "the pools");
		if (!mapping->external.port != whole || !mapping->internal.port != whole)
			return config_check_refuse(
			    check, "allowed: external and internal with ports, and protocol: "
				   "tcp or udp; or all three without (1:1)");
		if (whole && pool->mode == CONFIG_DETERMINISTIC)
			return config_check_refuse(
			    check, "the address has the fixed ranges of subscribers; allowed: an "
				   "address of a pool whose mode is dynamic");
		for (unsigned j = 0; j < i; j++) {
			const struct config_static *other = &config->statics[j];
			bool all = whole || other->protocol == 0;
			if (!all && other->protocol != mapping->protocol)
				continue;
			if (other->external.address == mapping->external.address &&
			    (all || endpoint_equal(&other->external, &mapping->external)))
				return config_check_refuse(check,
							   "static[%u] has this external endpoint "
							   "already; allowed: one owner",
							   j);
			if (other->realm == mapping->realm &&
			    other->internal.address == mapping->internal.address &&
			    (all || endpoint_equal(&other->internal, &mapping->internal))) {
				config_check_path(check, "static[%u].internal", i);
				return config_check_refuse(
				    check,
				    "static[%u] maps this internal endpoint "
				    "already; allowed: one external endpoint",
				    j);
			}
		}
		config_check_path(check, "static[%u].internal", i);
		int err = check_target(check, mapping->realm, &mapping->internal);
		if (err)
			return err;
	}
	return 0;
}

static int check_redirects(struct config_checking *check)
{
	const struct config *config = check->config;

	for (unsigned i = 0; i < config->n_redirects; i++) {
		const struct config_redirect *redirect = &config->redirects[i];
		for (unsigned j = 0; j < i; j++) {
			const struct config_redirect *other = &config->redirects[j];
			config_check_path(check, "redirect[%u].name", i);
			if (strcmp(other->name, redirect->name) == 0)
				return config_check_refuse(
				    check, "there is a redirect named \"%s\" already",
				    redirect->name);
			config_check_path(check, "redirect[%u].destination", i);
			if (other->from_realm == redirect->from_realm &&
			    other->protocol == redirect->protocol &&
			    endpoint_equal(&other->destination, &redirect->destination))
				return config_check_refuse(
				    check, "redirect \"%s\" has this destination already",
				    other->name);
		}
		config_check_path(check, "redirect[%u].destination", i);
		if (redirect->from_realm == NAT_REALM_OUTSIDE &&
		    !pool_of(config, redirect->destination.address))
			return config_check_refuse(
			    check, "the address is in no pool; allowed from outside: an "
				   "address of the pools, others are not routed here");
		for (unsigned j = 0; j < config->n_statics; j++) {
			const struct config_static *other = &config->statics[j];
			if (other->protocol == 0
				? other->external.address == redirect->destination.address
				: other->protocol == redirect->protocol &&
				      endpoint_equal(&other->external, &redirect->destination))
				return config_check_refuse(check,
							   "static[%u] has this external endpoint "
							   "already; allowed: one owner",
							   j);
		}
		config_check_path(check, "redirect[%u].to", i);
		int err = check_target(check, redirect->to_realm, &redirect->to);
		if (err)
			return err;
	}
	return 0;
}

static int check_pcp(struct config_checking *check)
{
	const struct config *config = check->config;

	for (unsigned i = 0; i < config->pcp.n_listen; i++) {
		for (unsigned j = 0; j < i; j++) {
			config_check_path(check, "pcp.listen[%u]", i);
			if (endpoint_equal(&config->pcp.listen[i].address,
					   &config->pcp.listen[j].address))
				return config_check_refuse(
				    check, "this address is there twice; allowed: one "
					   "address for each realm, which is how the "
					   "service tells realms apart");
		}
	}
	config_check_path(check, "pcp.lifetime_max");
	if (config->pcp.lifetime_max_ms < config->pcp.lifetime_min_ms)
		return config_check_refuse(
		    check, "is less than pcp.lifetime_min; allowed: at least as much");
	return 0;
}

int config_check(const struct config *config, char *path, unsigned path_size, char *why,
		 unsigned why_size)
{
	struct config_checking check = {config, path, why, path_size, why_size};
	uint64_t addresses = 0, blocks = 0;
	int err = check_service(&check);

	if (!err)
		err = check_lease(&check);
	if (!err)
		err = check_prefix_count(&check);
	for (unsigned i = 0; !err && i < config->n_pools; i++)
		err = config_check_pool(&check, i, &addresses, &blocks);
	for (unsigned i = 0; !err && i < config->n_realms; i++)
		err = check_realm(&check, i);
	for (unsigned i = 0; !err && i < config->n_realms; i++)
		err = check_identity(&check, i);
	for (unsigned i = 0; !err && i < config->n_pools; i++)
		err = config_check_pool_use(&check, i);
	if (!err)
		err = check_bypass(&check);
	if (!err)
		err = check_statics(&check);
	if (!err)
		err = check_redirects(&check);
	if (!err)
		err = check_pcp(&check);
	if (!err)
		path[0] = '\0';
	return err;
}

static int check_reload_realms(const struct config *old, const struct config *new, char *error,
			       unsigned error_size)
{
	for (unsigned i = 0; i < new->n_realms; i++) {
		for (unsigned j = 0; j < old->n_realms; j++) {
			bool same_id = new->realms[i].id == old->realms[j].id;
			bool same_name = strcmp(new->realms[i].name, old->realms[j].name) == 0;
			if (same_id == same_name)
				continue;
			snprintf(error, error_size,
				 "realms: \"%s\" (id %u) was \"%s\" (id %u); a realm keeps name "
				 "and id until a restart",
				 new->realms[i].name, new->realms[i].id, old->realms[j].name,
				 old->realms[j].id);
			return ERR_STATE;
		}
	}
	return 0;
}

int config_check_reload(const struct config *old, const struct config *new, char *error,
			unsigned error_size)
{
	bool listen_changed = old->n_listen != new->n_listen;
	for (unsigned i = 0; !listen_changed && i < new->n_listen; i++)
		listen_changed = strcmp(old->listen[i], new->listen[i]) != 0;

	bool pcp_changed = old->pcp.n_listen != new->pcp.n_listen;
	for (unsigned i = 0; !pcp_changed && i < new->pcp.n_listen; i++)
		pcp_changed =
		    old->pcp.listen[i].realm != new->pcp.listen[i].realm ||
		    !endpoint_equal(&old->pcp.listen[i].address, &new->pcp.listen[i].address);

	const struct {
		const char *keys;
		bool changed;
	} fixed[] = {
	    {"pcp.listen", pcp_changed},
	    {"pcp.mappings", old->pcp.capacity != new->pcp.capacity},
	    {"service.listen", listen_changed},
	    {"service.admin", strcmp(old->admin_listen, new->admin_listen) != 0},
	    {"service.tls", memcmp(&old->tls, &new->tls, sizeof old->tls) != 0},
	    {"service.journal", strcmp(old->journal, new->journal) != 0},
	    {"capacity", memcmp(&old->capacity, &new->capacity, sizeof old->capacity) != 0},
	    {"lease", old->lease_ms != new->lease_ms || old->heartbeat_ms != new->heartbeat_ms ||
			  old->grace_ms != new->grace_ms || old->margin_ms != new->margin_ms},
	    {"dataplanes.batch", old->batch_max != new->batch_max},
	    {"dataplanes.inflight", old->inflight_max != new->inflight_max},
	};

	for (unsigned i = 0; i < sizeof fixed / sizeof fixed[0]; i++) {
		if (fixed[i].changed) {
			snprintf(error, error_size, "%s: a change needs a restart", fixed[i].keys);
			return ERR_STATE;
		}
	}
	int err = config_check_reload_pools(old, new, error, error_size);
	return err ? err : check_reload_realms(old, new, error, error_size);
}

bool config_advice(const struct config *config, unsigned which, char *text, unsigned size)
{
	const struct {
		const char *key, *source;
		uint32_t is, least;
	} timers[] = {
	    {"udp", "RFC 4787 REQ-5", config->timers.udp, 120000},
	    {"icmp", "RFC 5508 REQ-2", config->timers.icmp, 60000},
	    {"tcp_established", "RFC 5382 REQ-5", config->timers.tcp_established, 7440000},
	    {"tcp_opening", "RFC 5382 REQ-5", config->timers.tcp_opening, 240000},
	    {"tcp_closing", "RFC 5382 REQ-5", config->timers.tcp_closing, 240000},
	};

	for (unsigned i = 0; i < sizeof timers / sizeof timers[0]; i++) {
		char is[32], least[32];
		if (timers[i].is >= timers[i].least || which-- > 0)
			continue;
		snprintf(text, size,
			 "timers.%s is %s, less than the %s of %s: for laboratories only",
			 timers[i].key, config_duration_text(timers[i].is, is, sizeof is),
			 config_duration_text(timers[i].least, least, sizeof least),
			 timers[i].source);
		return true;
	}
	return false;
}
