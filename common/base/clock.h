/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time. CLOCK_BOOTTIME in a type of its own, so that it is never mixed with the wall clock or with a
 * duration. Read once per loop turn and handed down as "now"; simulations hand down their own.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

struct monotime {
	int64_t ns; /* since boot, time asleep included; 0 = never */
};

#define MS_NS INT64_C(1000000)
#define SECOND_NS INT64_C(1000000000)
#define MONOTIME_NEVER ((struct monotime){INT64_MAX})

static inline struct monotime monotime_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_BOOTTIME, &t);
	return (struct monotime){(int64_t)t.tv_sec * SECOND_NS + t.tv_nsec};
}

static inline struct monotime monotime_add_ms(struct monotime t, int64_t ms)
{
	return (struct monotime){t.ns + ms * MS_NS};
}

/* a - b in milliseconds, rounded down. */
static inline int64_t monotime_sub_ms(struct monotime a, struct monotime b)
{
	return (a.ns - b.ns) / MS_NS;
}

static inline int64_t monotime_ms(struct monotime t)
{
	return t.ns / MS_NS;
}

static inline int monotime_before(struct monotime a, struct monotime b)
{
	return a.ns < b.ns;
}

static inline struct monotime monotime_min(struct monotime a, struct monotime b)
{
	return a.ns < b.ns ? a : b;
}

#endif
