/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/random.h"
#include "tablesvc/timerwheel.h"

/* Links lie inside larger elements, as in the table. */
struct element {
	uint64_t before;
	struct timer_link timer;
	/* the model: what the element was armed for */
	uint32_t due;
	bool armed;
	uint32_t fired;
};

struct bed {
	struct element *elements;
	uint32_t n, now, fired;
	struct timerwheel *wheel;
	struct random_source random;
	uint64_t state;
	uint32_t rearm_below; /* with this chance of 1000, fire arms and disarms others */
	uint32_t reach;
};

static void bed_init(struct bed *bed, uint32_t n, uint32_t now)
{
	*bed = (struct bed){.n = n, .now = now, .state = n ^ now, .reach = 1000};
	bed->random = random_seeded(&bed->state);
	bed->elements = calloc(n, sizeof *bed->elements);
	cr_assert(bed->elements);
	cr_assert_eq(
	    timerwheel_new(&bed->elements[0].timer, sizeof *bed->elements, now, &bed->wheel), 0);
}

static void bed_free(struct bed *bed)
{
	timerwheel_free(bed->wheel);
	free(bed->elements);
}

static void arm(struct bed *bed, uint32_t i, uint32_t due)
{
	timerwheel_arm(bed->wheel, i, due);
	bed->elements[i].due = due;
	bed->elements[i].armed = true;
}

static void disarm(struct bed *bed, uint32_t i)
{
	timerwheel_disarm(bed->wheel, i);
	bed->elements[i].armed = false;
}

static void change_one(struct bed *bed)
{
	uint32_t i = random_below(&bed->random, bed->n);

	switch (random_below(&bed->random, 4)) {
	case 0:
		disarm(bed, i);
		break;
	case 1: /* the past and this very tick */
		arm(bed, i, bed->now - random_below(&bed->random, 3));
		break;
	default:
		arm(bed, i, bed->now + random_below(&bed->random, bed->reach));
	}
}

static void fire(void *context, uint32_t i)
{
	struct bed *bed = context;
	struct element *e = &bed->elements[i];

	cr_assert(i < bed->n);
	cr_assert(e->armed, "%u fired without being armed", i);
	cr_assert((int32_t)(bed->now - e->due) >= 0, "%u early by %d ticks", i,
		  (int32_t)(e->due - bed->now));
	cr_assert(!timerwheel_armed(bed->wheel, i));
	e->armed = false;
	e->fired++;
	bed->fired++;
	if (bed->rearm_below && random_below(&bed->random, 1000) < bed->rearm_below) {
		change_one(bed);
		if (!e->armed)
			arm(bed, i, bed->now + random_below(&bed->random, bed->reach));
	}
}

static bool advance(struct bed *bed, unsigned budget)
{
	uint32_t before = bed->fired;
	uint64_t operations = timerwheel_operations(bed->wheel);
	bool done = timerwheel_advance(bed->wheel, bed->now, budget, fire, bed);

	cr_assert_leq(bed->fired - before, budget);
	cr_assert_leq(timerwheel_operations(bed->wheel) - operations, budget);
	return done;
}

/* Compares the wheel with the model when advance said that it was done. */
static void check_all(struct bed *bed, uint32_t since)
{
	uint32_t next = timerwheel_next(bed->wheel);
	bool any = false;

	for (uint32_t i = 0; i < bed->n; i++) {
		struct element *e = &bed->elements[i];
		cr_assert_eq(timerwheel_armed(bed->wheel, i), e->armed);
		cr_assert_eq(e->before, 0);
		if (!e->armed)
			continue;
		any = true;
		uint32_t ahead = e->due - bed->now;
		if (ahead > UINT32_C(1) << 31) /* fire may have armed it for the past just now */
			cr_assert_leq(-ahead, bed->now - since, "%u is late by %u", i, -ahead);
		else if (ahead && next - bed->now <= UINT32_C(1) << 31)
			cr_assert_leq(next - bed->now, ahead, "next comes after %u", i);
	}
	cr_assert_eq(next == UINT32_MAX, !any);
}

struct model_row {
	char name[32];
	uint32_t start, reach, step;
	unsigned budget, changes, rearm;
};

ParameterizedTestParameters(timerwheel, agrees_with_a_model)
{
	static struct model_row rows[] = {
	    {"ticks one by one", 0, 300, 1, 1000000, 20, 300},
	    {"across the wrap", 0xfffff800u, 3000, 5, 1000000, 20, 300},
	    {"small budgets", 0xfffffff0u, 3000, 40, 7, 6, 100},
	    {"budget of one", 77, 700, 3, 1, 1, 0},
	    {"two levels", 0x00fffe00u, 200000, 700, 1000000, 50, 500},
	    {"three levels", 0x7fff0000u, 40000000, 100000, 1000000, 50, 500},
	    {"as far as it goes", 0x12345678u, 0x7fffffffu, 90000000, 1000000, 50, 500},
	    {"far, small budget", 0x92345678u, 0x7fffffffu, 90000000, 50, 20, 200},
	};
	return cr_make_param_array(struct model_row, rows, sizeof rows / sizeof rows[0]);
}

ParameterizedTest(struct model_row *row, timerwheel, agrees_with_a_model)
{
	struct bed bed;
	unsigned finished = 0;

	bed_init(&bed, 500, row->start);
	bed.reach = row->reach;
	bed.rearm_below = row->rearm;
	for (unsigned round = 0; round < 3000; round++) {
		uint32_t since = bed.now;
		for (unsigned i = 0; i < row->changes; i++)
			change_one(&bed);
		bed.now += random_below(&bed.random, row->step + 1);
		if (advance(&bed, row->budget)) {
			finished++;
			/* fire may have armed for before now: that waits for the next call. */
			check_all(&bed, since - 3);
		}
	}
	cr_expect_gt(finished, 0, "%s: never caught up", row->name);
	cr_expect_gt(bed.fired, 1000, "%s", row->name);
	/* Everything fires in the end, once, and nothing is left. */
	bed.rearm_below = 0;
	uint32_t armed = 0, before = bed.fired;
	for (uint32_t i = 0; i < bed.n; i++)
		armed += bed.elements[i].armed;
	for (unsigned i = 0; i < 4; i++) {
		bed.now += 0x20000000u;
		while (!advance(&bed, row->budget))
			;
	}
	cr_expect_eq(bed.fired - before, armed);
	cr_expect_eq(timerwheel_next(bed.wheel), UINT32_MAX);
	bed_free(&bed);
}

struct tick_row {
	uint32_t start, ahead;
};

ParameterizedTestParameters(timerwheel, fires_in_its_tick)
{
	static struct tick_row rows[] = {
	    {0, 1},
	    {0, 255},
	    {0, 256},
	    {0, 257},
	    {0, 65535},
	    {0, 65536},
	    {0, 1u << 24},
	    {5, (1u << 24) - 1},
	    {0, 1u << 31},
	    {0xffffffffu, 1},
	    {0xfffffffeu, 1},
	    {0xffffff00u, 0x100},
	    {0xffffffffu, 1u << 31},
	    {0x80000000u, 1u << 31},
	    {0x00ffffffu, 0x80000000u},
	    {3, 0xfffffffcu - 0x80000000u},
	    {0x7fffffffu, 0x80000000u},
	};
	return cr_make_param_array(struct tick_row, rows, sizeof rows / sizeof rows[0]);
}

/* Not a tick early, not a tick late, whether time passes in one step or from event to event. */
ParameterizedTest(struct tick_row *row, timerwheel, fires_in_its_tick)
{
	struct bed bed;
	uint32_t due = row->start + row->ahead;

	for (unsigned hop = 0; hop < 2; hop++) {
		bed_init(&bed, 2, row->start);
		arm(&bed, 1, due);
		for (unsigned i = 0; hop && i < 8; i++) {
			uint32_t next = timerwheel_next(bed.wheel);
			cr_assert_leq(next - row->start, row->ahead);
			if (next == due)
				break;
			bed.now = next;
			cr_assert(advance(&bed, 100));
		}
		bed.now = due - 1;
		cr_assert(advance(&bed, 100));
		cr_expect_eq(bed.fired, 0);
		bed.now = due;
		cr_assert(advance(&bed, 100));
		cr_expect_eq(bed.fired, 1);
		bed_free(&bed);
	}
}

Test(timerwheel, the_past_fires_at_the_next_advance_and_does_not_loop)
{
	struct bed bed;

	bed_init(&bed, 3, 1000);
	arm(&bed, 0, 1000);
	arm(&bed, 1, 10);
	arm(&bed, 2, 0xf0000000u); /* more than 2^31 ahead is the past */
	cr_expect_eq(timerwheel_next(bed.wheel), 1000);
	cr_expect(advance(&bed, 10));
	cr_expect_eq(bed.fired, 3);
	cr_expect_eq(timerwheel_next(bed.wheel), UINT32_MAX);
	bed.rearm_below = 1000;
	bed.reach = 1; /* fire arms for now, again and again */
	arm(&bed, 0, 1000);
	for (unsigned call = 0; call < 50; call++) {
		uint32_t before = bed.fired;
		cr_assert(advance(&bed, 1000), "arming into the past used the whole budget");
		cr_assert_leq(bed.fired - before, 3);
	}
	bed_free(&bed);
}

Test(timerwheel, time_does_not_run_backwards)
{
	struct bed bed;

	bed_init(&bed, 1, 1000);
	arm(&bed, 0, 1010);
	cr_expect(timerwheel_advance(bed.wheel, 900, 10, fire, &bed));
	bed.now = 1010;
	cr_expect(advance(&bed, 10));
	cr_expect_eq(bed.fired, 1);
	bed_free(&bed);
}

/* A million sessions made in one burst: moved and fired in pieces, changed while half moved. */
Test(timerwheel, a_million_in_one_slot_is_bounded_work, .timeout = 60)
{
	enum { N = 1000000, BUDGET = 4096 };
	struct bed bed;
	unsigned calls = 0, disarmed = 0, delayed = 0;
	uint32_t due = 3u << 16 | 0x0202; /* third level: moves down twice before it fires */

	bed_init(&bed, N, 100);
	for (uint32_t i = 0; i < N; i++)
		arm(&bed, i, due);
	bed.now = due - 1;
	while (!advance(&bed, BUDGET)) {
		/* Half moved: some go, some get a new time. */
		for (unsigned k = 0; k < 10; k++) {
			uint32_t i = random_below(&bed.random, N);
			if (!bed.elements[i].armed || bed.elements[i].due != due)
				continue;
			if (k % 2) {
				disarm(&bed, i);
				disarmed++;
			} else {
				arm(&bed, i, due + 5000);
				delayed++;
			}
		}
		cr_assert_lt(++calls, 3 * N / BUDGET);
	}
	cr_expect_eq(bed.fired, 0);
	cr_expect_gt(calls, N / BUDGET);
	bed.now = due;
	while (!advance(&bed, BUDGET)) {
		uint32_t i = random_below(&bed.random, N);
		if (bed.elements[i].armed && bed.elements[i].due == due) {
			disarm(&bed, i); /* half fired */
			disarmed++;
		}
		cr_assert_lt(++calls, 5 * N / BUDGET);
	}
	cr_expect_gt(disarmed, 100);
	cr_expect_eq(bed.fired, N - disarmed - delayed);
	bed.now = due + 5000;
	while (!advance(&bed, BUDGET))
		cr_assert_lt(++calls, 6 * N / BUDGET);
	cr_expect_eq(bed.fired, N - disarmed);
	/* Each was moved down at most twice and fired once; the rest is a step a slot. */
	cr_expect_leq(timerwheel_operations(bed.wheel), 3ull * N + 2 * delayed + 100);
	bed_free(&bed);
}

Test(timerwheel, empty_time_costs_nothing)
{
	struct bed bed;

	bed_init(&bed, 1, 0);
	for (unsigned i = 0; i < 4; i++) {
		bed.now += 0x3fffffffu;
		cr_expect(advance(&bed, 0));
	}
	arm(&bed, 0, bed.now + 0x7fffffffu);
	bed.now += 0x7fffffffu;
	cr_expect(advance(&bed, 8), "at most one step a level, one move a level");
	cr_expect_eq(bed.fired, 1);
	bed_free(&bed);
}
