/* SPDX-License-Identifier: Apache-2.0 */
/* A port pool with a configuration by hand and a clock of its own, for the pool's tests. */
#ifndef SUPPORT_PORTPOOL_BED_H
#define SUPPORT_PORTPOOL_BED_H

#include "tablesvc/portpool.h"

enum { HOLD_DOWN = 120000, NO_LIMIT = 100000 };

/* A configuration of pools, by hand. */
struct bed {
	struct config config;
	struct config_pool pools[4];
	struct config_prefix prefixes[4][4];
	uint64_t seed;
	struct random_source random;
	struct portpool *pool;
	struct monotime now;
};

void bed_pool(struct bed *bed, const char *name, uint16_t first, uint16_t last,
	      uint16_t block_size);
void bed_prefix(struct bed *bed, unsigned pool, const char *address, uint8_t length);
void bed_init(struct bed *bed);
void bed_start(struct bed *bed);
/* One address, eight blocks of 64. */
void bed_small(struct bed *bed);
unsigned take(struct bed *bed, struct portpool_share *share, uint8_t protocol, uint16_t like,
	      uint32_t limit, uint64_t *place);
uint64_t must_take(struct bed *bed, struct portpool_share *share, uint8_t protocol);
bool give(struct bed *bed, struct portpool_share *share, uint64_t place);
void wait_ms(struct bed *bed, int64_t ms);
uint16_t port_of(struct bed *bed, uint64_t place);
struct nat_endpoint endpoint(const char *address, uint16_t port);
uint64_t place_of(struct bed *bed, uint8_t protocol, const char *address, uint16_t port);
struct portpool_stats stats_of(struct bed *bed, unsigned pool);

#endif
