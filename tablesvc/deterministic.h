/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deterministic address mapping (RFC 7422): who has which external ports follows from the
 * configuration alone, so that nothing needs to be logged but its changes. Arithmetic only; the
 * port pool takes ports by it, the configuration is checked by it, and the map that an operator
 * archives is printed by it.
 *
 * The subscribers of a pool are the addresses of the prefixes of all realms that use it, numbered
 * in the order of the file; so are its external addresses. With E of those, subscriber i has range
 * number i / E of external address i % E: neighbours are on different addresses, and a prefix added
 * behind the others moves nobody, as long as ports_per_subscriber is given. Ranges lie one after
 * the other from the first port on; what is behind them is for dynamic_overflow.
 */
#ifndef TABLESVC_DETERMINISTIC_H
#define TABLESVC_DETERMINISTIC_H

#include <stdio.h>
#include "tablesvc/config.h"

struct deterministic_inside {
	struct config_prefix prefix;
	uint8_t realm;
	uint64_t first; /* number of its first subscriber */
};

struct deterministic {
	struct config_prefix *outside;
	unsigned n_outside;
	struct deterministic_inside *inside;
	unsigned n_inside;
	uint64_t addresses, subscribers;
	uint32_t ratio;	     /* subscribers of one external address, at most */
	uint16_t port_first; /* of the first range */
	uint16_t ports;	     /* of one range */
	uint16_t ranges;     /* of one address */
	uint16_t blocks;     /* of one range */
};

struct deterministic_range {
	nat_be32 address;
	uint16_t first, last; /* host order */
};

/*
 * For a pool of this mode. ERR_NOMEM, or ERR_INVALID with the rest of a sentence in why: what does
 * not fit, with the numbers.
 */
int deterministic_new(const struct config *config, unsigned pool, struct deterministic **out,
		      char *why, unsigned why_size);
void deterministic_free(struct deterministic *plan);

/* What the subscriber has; false when it is in no prefix of the realm. */
bool deterministic_range(const struct deterministic *plan, uint8_t realm, nat_be32 subscriber,
			 struct deterministic_range *out);
/* The reverse; false when the endpoint is in nobody's range. */
bool deterministic_subscriber(const struct deterministic *plan, const struct nat_endpoint *external,
			      uint8_t *realm, nat_be32 *subscriber);
/* Whether everybody has in "after" what he had in "before". */
bool deterministic_keeps(const struct deterministic *before, const struct deterministic *after);
/* "ratio 1:16, 4032 ports each, ..." for people. */
void deterministic_describe(const struct deterministic *plan, char *buffer, unsigned size);
/*
 * All deterministic pools of the configuration: a comment with the pool, then a line for each of its
 * subscribers, in the order of the file: realm, subscriber, address, ports.
 */
void deterministic_print(const struct config *config, FILE *out);

#endif
