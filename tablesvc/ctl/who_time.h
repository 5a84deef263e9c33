/* SPDX-License-Identifier: Apache-2.0 */
/* Times as people and the event log write them. */
#ifndef CTL_WHO_TIME_H
#define CTL_WHO_TIME_H

#include <stdbool.h>
#include <stdint.h>

/*
 * RFC 3339, "2026-01-31T12:00:05.250+01:00"; also a space for the T. Without a fraction it is the
 * whole second. False when it is no time.
 */
bool who_parse_time(const char *text, int64_t *first_ms, int64_t *last_ms);

#endif
