/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/prefixes.h"

#include <string.h>

/*
 * Scanned one after the other: they are few (a home has three, the wire's limit is 1,024), lie
 * close together, and are asked about misses only.
 */
void prefixes_init(struct prefixes *prefixes, const struct wire_config *config)
{
	uint32_t n = 0;

	memset(prefixes, 0, sizeof *prefixes);
	for (uint32_t kind = WIRE_PREFIX_INSIDE; kind <= WIRE_PREFIX_LAST; kind++) {
		prefixes->begin[kind] = n;
		for (int length = 32; length >= 0; length--) {
			nat_be32 mask = nat_swap32(length ? ~UINT32_C(0) << (32 - length) : 0);
			for (uint32_t i = 0; i < config->n_prefixes && i < WIRE_PREFIXES_MAX; i++) {
				const struct wire_prefix *p = &config->prefixes[i];
				if (p->kind != kind || p->length != length)
					continue;
				prefixes->rules[n++] = (struct prefix_rule){
				    .address = p->address & mask, .mask = mask, .realm = p->realm};
			}
		}
	}
	prefixes->begin[WIRE_PREFIX_LAST + 1] = n;
}

int prefixes_match(const struct prefixes *prefixes, enum wire_prefix_kind kind, nat_be32 address)
{
	for (uint32_t i = prefixes->begin[kind]; i < prefixes->begin[kind + 1]; i++) {
		const struct prefix_rule *rule = &prefixes->rules[i];
		if ((address & rule->mask) == rule->address)
			return rule->realm;
	}
	return PREFIXES_NONE;
}

bool prefixes_inside(const struct prefixes *prefixes, uint8_t realm, nat_be32 address)
{
	uint32_t end = prefixes->begin[WIRE_PREFIX_INSIDE + 1];

	for (uint32_t i = prefixes->begin[WIRE_PREFIX_INSIDE]; i < end; i++) {
		const struct prefix_rule *rule = &prefixes->rules[i];
		if (rule->realm == realm && (address & rule->mask) == rule->address)
			return true;
	}
	return false;
}
