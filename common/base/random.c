/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

static uint64_t system_next(void *context)
{
	static _Thread_local uint64_t buffer[512];
	static _Thread_local unsigned left;

	(void)context;
	if (left == 0) {
		size_t have = 0;
		while (have < sizeof buffer) {
			ssize_t n = getrandom((char *)buffer + have, sizeof buffer - have, 0);
			if (n <= 0) {
				perror("getrandom: no random numbers from the kernel");
				abort();
			}
			have += (size_t)n;
		}
		left = sizeof buffer / sizeof buffer[0];
	}
	left--;
	uint64_t value = buffer[left];
	buffer[left] = 0; /* a used number does not lie around */
	return value;
}

struct random_source random_system(void)
{
	return (struct random_source){.next = system_next};
}

static uint64_t seeded_next(void *context)
{
	uint64_t *state = context;
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

struct random_source random_seeded(uint64_t *state)
{
	return (struct random_source){.next = seeded_next, .context = state};
}

uint32_t random_below(struct random_source *source, uint32_t bound)
{
	uint64_t product = (source->next(source->context) >> 32) * bound;
	if ((uint32_t)product < bound) {
		uint32_t threshold = -bound % bound;
		while ((uint32_t)product < threshold)
			product = (source->next(source->context) >> 32) * bound;
	}
	return (uint32_t)(product >> 32);
}
