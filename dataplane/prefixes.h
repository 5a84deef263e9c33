/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The prefixes that the service pushed, in a form for asking: whose address is this? Immutable once
 * made; a part of the configuration that readers see whole.
 */
#ifndef DATAPLANE_PREFIXES_H
#define DATAPLANE_PREFIXES_H

#include "common/wire/wire.h"

struct prefix_rule {
	nat_be32 address, mask;
	uint8_t realm;
};

/* One kind's rules lie together, longest prefix first. */
struct prefixes {
	uint32_t begin[WIRE_PREFIX_LAST + 2]; /* rules of kind k: [begin[k], begin[k + 1]) */
	struct prefix_rule rules[WIRE_PREFIXES_MAX];
};

enum { PREFIXES_NONE = -1 };

/* Entries of unknown kind or length are left out. */
void prefixes_init(struct prefixes *prefixes, const struct wire_config *config);

/* The realm of the longest prefix of that kind that has the address, or PREFIXES_NONE. */
int prefixes_match(const struct prefixes *prefixes, enum wire_prefix_kind kind, nat_be32 address);

/* Whether the address is a subscriber's in that realm (realms may overlap). */
bool prefixes_inside(const struct prefixes *prefixes, uint8_t realm, nat_be32 address);

#endif
