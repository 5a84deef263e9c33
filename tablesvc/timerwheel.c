/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * Four levels of 256 slots cover the 2^32 ticks of the circle. An armed element lies on the level
 * of the highest byte in which its due tick differs from "current" (the tick up to which everything
 * was done), in the slot that this byte of its due tick names. So
 *   - everything on a lower level is due before everything on a higher one, and within a level the
 *     slots behind current's byte follow in order: the next thing to do is one bitmap search away,
 *     and empty time is skipped, however long;
 *   - when current enters the range of a slot, all lower levels are empty, and the slot's elements
 *     move down: their byte is current's byte now. Nothing can be armed into that slot meanwhile,
 *     for the same reason. So it may stay half moved for as long as it takes: current just waits at
 *     the first tick of the range ("sinking" names the slot), and arm and disarm need not know.
 * A level 0 slot is one tick; current waits there in the same way until all of them have fired.
 *
 * What is armed for a tick that is already done goes to the "late" list, which becomes "firing"
 * once a call: an element that fire keeps arming into the past costs one operation a call, not a
 * loop.
 */
#include "tablesvc/timerwheel.h"

#include <stdlib.h>
#include "common/base/err.h"

enum {
	LEVELS = 4,
	SLOTS = 256,
	LISTS = LEVELS * SLOTS + 2, /* the last two take turns as late and firing */
	NOT_SINKING = -1,
};

/* A link's neighbour is an element (+ 1, so that zero is none) or the head of a list. */
#define HEAD 0x80000000u

struct timerwheel {
	char *base;
	size_t stride;
	uint32_t current; /* everything due up to here has fired, sinking and firing lists aside */
	uint32_t now;  /* of the last advance; current lags behind it when the budget was short */
	int sinking;   /* list that is being moved down or fired, or NOT_SINKING */
	unsigned late; /* LEVELS * SLOTS or the one behind it */
	uint64_t operations;
	uint64_t occupied[LEVELS][SLOTS / 64];
	uint32_t heads[LISTS];
};

static struct timer_link *link_of(const struct timerwheel *wheel, uint32_t element)
{
	return (struct timer_link *)(wheel->base + (size_t)element * wheel->stride);
}

static void push(struct timerwheel *wheel, unsigned list, uint32_t element)
{
	struct timer_link *link = link_of(wheel, element);
	uint32_t first = wheel->heads[list];

	link->next = first;
	link->prev = HEAD | list;
	if (first)
		link_of(wheel, first - 1)->prev = element + 1;
	else if (list < LEVELS * SLOTS)
		wheel->occupied[list / SLOTS][list % SLOTS / 64] |= UINT64_C(1) << (list % 64);
	wheel->heads[list] = element + 1;
}

static void unlink_element(struct timerwheel *wheel, struct timer_link *link)
{
	if (link->next)
		link_of(wheel, link->next - 1)->prev = link->prev;
	if (link->prev & HEAD) {
		unsigned list = link->prev & ~HEAD;
		wheel->heads[list] = link->next;
		if (!link->next && list < LEVELS * SLOTS)
			wheel->occupied[list / SLOTS][list % SLOTS / 64] &=
			    ~(UINT64_C(1) << (list % 64));
	} else {
		link_of(wheel, link->prev - 1)->next = link->next;
	}
	link->next = link->prev = 0;
}

/* The list of a tick that is current or comes after it. */
static unsigned list_of(const struct timerwheel *wheel, uint32_t due)
{
	uint32_t differs = due ^ wheel->current;
	unsigned level = differs ? (31 - (unsigned)__builtin_clz(differs)) / 8 : 0;

	return level * SLOTS + (due >> (8 * level) & (SLOTS - 1));
}

/* The first occupied slot of the level at or after from, or -1. */
static int next_slot(const struct timerwheel *wheel, unsigned level, unsigned from)
{
	for (unsigned word = from / 64; word < SLOTS / 64; word++) {
		uint64_t bits = wheel->occupied[level][word];
		if (word == from / 64)
			bits &= UINT64_MAX << (from % 64);
		if (bits)
			return (int)(word * 64 + (unsigned)__builtin_ctzll(bits));
	}
	return -1;
}

/* The first slot with something in it after current: its list, and its first tick. -1 = none. */
static int next_list(const struct timerwheel *wheel, uint32_t *tick)
{
	for (unsigned level = 0; level < LEVELS; level++) {
		unsigned shift = 8 * level, byte = wheel->current >> shift & (SLOTS - 1);
		int slot = next_slot(wheel, level, byte);
		if (slot < 0 && level == LEVELS - 1)
			slot = next_slot(wheel, level, 0); /* the top level is a circle */
		if (slot < 0)
			continue;
		uint32_t above = level == LEVELS - 1 ? 0 : UINT32_MAX << (shift + 8);
		*tick = (wheel->current & above) | (uint32_t)slot << shift;
		return (int)(level * SLOTS) + slot;
	}
	return -1;
}

int timerwheel_new(void *base, size_t stride, uint32_t now, struct timerwheel **out)
{
	struct timerwheel *wheel = calloc(1, sizeof *wheel);

	if (!wheel)
		return ERR_NOMEM;
	wheel->base = base;
	wheel->stride = stride;
	wheel->current = wheel->now = now;
	wheel->sinking = NOT_SINKING;
	wheel->late = LEVELS * SLOTS;
	*out = wheel;
	return 0;
}

void timerwheel_free(struct timerwheel *wheel)
{
	free(wheel);
}

void timerwheel_arm(struct timerwheel *wheel, uint32_t element, uint32_t due)
{
	struct timer_link *link = link_of(wheel, element);
	uint32_t ahead = due - wheel->current;
	/* Ahead and past are told apart from now, not from current, which may lag behind. */
	bool future = due - wheel->now <= UINT32_C(1) << 31;

	if (link->prev)
		unlink_element(wheel, link);
	link->due = due;
	if (ahead != 0 && (future || ahead <= wheel->now - wheel->current))
		push(wheel, list_of(wheel, due), element);
	else
		push(wheel, wheel->late, element);
}

void timerwheel_disarm(struct timerwheel *wheel, uint32_t element)
{
	struct timer_link *link = link_of(wheel, element);

	if (link->prev)
		unlink_element(wheel, link);
}

bool timerwheel_armed(const struct timerwheel *wheel, uint32_t element)
{
	return link_of(wheel, element)->prev != 0;
}

/* Takes the list's first element off it; the list must not be empty. */
static uint32_t pop(struct timerwheel *wheel, unsigned list)
{
	uint32_t element = wheel->heads[list] - 1;
	struct timer_link *link = link_of(wheel, element);

	if (link->next)
		__builtin_prefetch(link_of(wheel, link->next - 1), 1);
	unlink_element(wheel, link);
	return element;
}

/*
 * Fires the list's elements, or moves them down: until it is empty (true) or the budget is used up.
 */
static bool drain(struct timerwheel *wheel, unsigned list, unsigned *budget,
		  void (*fire)(void *context, uint32_t element), void *context)
{
	bool down = list >= SLOTS && list < LEVELS * SLOTS;

	while (wheel->heads[list]) {
		if (*budget == 0)
			return false;
		--*budget;
		wheel->operations++;
		uint32_t element = pop(wheel, list);
		if (down)
			push(wheel, list_of(wheel, link_of(wheel, element)->due), element);
		else
			fire(context, element);
	}
	return true;
}

/* What was armed too late before this call. */
static bool fire_late(struct timerwheel *wheel, unsigned *budget,
		      void (*fire)(void *context, uint32_t element), void *context)
{
	unsigned both = 2 * LEVELS * SLOTS + 1;

	if (!drain(wheel, both - wheel->late, budget, fire, context))
		return false;
	if (!wheel->heads[wheel->late])
		return true;
	wheel->late = both - wheel->late; /* what fire arms into the past waits on the other one */
	return drain(wheel, both - wheel->late, budget, fire, context);
}

bool timerwheel_advance(struct timerwheel *wheel, uint32_t now, unsigned budget,
			void (*fire)(void *context, uint32_t element), void *context)
{
	if ((int32_t)(now - wheel->now) > 0)
		wheel->now = now;
	if (!fire_late(wheel, &budget, fire, context))
		return false;
	for (;;) {
		if (wheel->sinking != NOT_SINKING) {
			if (!drain(wheel, (unsigned)wheel->sinking, &budget, fire, context))
				return false;
			bool down = wheel->sinking >= SLOTS;
			/* What moved down and is due at once lies in the slot of current's tick. */
			wheel->sinking = down ? (int)(wheel->current % SLOTS) : NOT_SINKING;
			continue;
		}
		uint32_t tick;
		int list = next_list(wheel, &tick);
		if (list < 0 || tick - wheel->current > wheel->now - wheel->current) {
			wheel->current = wheel->now;
			return true;
		}
		if (budget == 0)
			return false;
		budget--;
		wheel->operations++;
		wheel->current = tick;
		wheel->sinking = list;
	}
}

uint32_t timerwheel_next(const struct timerwheel *wheel)
{
	uint32_t tick = wheel->current;
	bool waiting = wheel->heads[LEVELS * SLOTS] || wheel->heads[LEVELS * SLOTS + 1] ||
		       wheel->sinking != NOT_SINKING;

	if (!waiting && next_list(wheel, &tick) < 0)
		return UINT32_MAX;
	return tick == UINT32_MAX ? tick - 1 : tick;
}

uint64_t timerwheel_operations(const struct timerwheel *wheel)
{
	return wheel->operations;
}
