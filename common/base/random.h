/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The random source, a test seam: programs draw from the kernel's CSPRNG (buffered), simulations
 * from a seed. Port choice and hash keys must be unpredictable (RFC 6056).
 */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include <stdint.h>

struct random_source {
	uint64_t (*next)(void *context); /* 64 uniform bits */
	void *context;
};

/* The system's CSPRNG, buffered; aborts when the kernel has none. Not thread-safe: one a thread. */
struct random_source random_system(void);

/* A deterministic stream (SplitMix64) for tests. The state is the caller's and outlives the source. */
struct random_source random_seeded(uint64_t *state);

/* Uniform in [0, bound), bound > 0, without modulo bias (Lemire). */
uint32_t random_below(struct random_source *source, uint32_t bound);

#endif
