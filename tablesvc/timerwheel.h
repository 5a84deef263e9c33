/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hierarchical timer wheel (Varghese and Lauck 1987) over links inside the caller's array. One
 * tick is TIMERWHEEL_TICK_MS. Work is bounded a call, cascades included: a slot of millions is moved
 * down in pieces, and timers may then fire late, never early.
 */
#ifndef TABLESVC_TIMERWHEEL_H
#define TABLESVC_TIMERWHEEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TIMERWHEEL_TICK_MS = 64 };

struct timer_link { /* zero = not armed */
	uint32_t next, prev;
	uint32_t due; /* tick */
};

#define TIMERWHEEL_ELEMENTS_MAX 0x7fffffffu

struct timerwheel;

/*
 * Element i's link is at base + i * stride; i < TIMERWHEEL_ELEMENTS_MAX. now: the current tick.
 * Ticks are a circle of 2^32: due may lie up to 2^31 ahead of the last now.
 */
int timerwheel_new(void *base, size_t stride, uint32_t now, struct timerwheel **out);
void timerwheel_free(struct timerwheel *wheel);
/* Arms or re-arms; a due tick that is past fires at the next advance. */
void timerwheel_arm(struct timerwheel *wheel, uint32_t element, uint32_t due);
void timerwheel_disarm(struct timerwheel *wheel, uint32_t element);
bool timerwheel_armed(const struct timerwheel *wheel, uint32_t element);
/*
 * Moves time on to now and fires what is due (disarmed before the call; fire may arm any element
 * again). At most budget list operations; returns false when it was not enough: call again.
 */
bool timerwheel_advance(struct timerwheel *wheel, uint32_t now, unsigned budget,
			void (*fire)(void *context, uint32_t element), void *context);
/* The tick at which advance may next have something to do; UINT32_MAX = nothing armed. */
uint32_t timerwheel_next(const struct timerwheel *wheel);

/* List operations that advance has done in all: what its budget counts. */
uint64_t timerwheel_operations(const struct timerwheel *wheel);

#endif
