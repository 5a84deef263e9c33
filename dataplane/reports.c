/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/reports.h"

#include <stdlib.h>
#include <string.h>
#include "common/base/err.h"

enum { TAKEN_BITS = 12 };

struct reports {
	struct report *ring;
	uint64_t confirmed, sent, made;
	uint32_t capacity; /* a power of two */
	uint64_t key;
	/* By hash of the handle: the last batch that carries, or will carry, RELEASE or DROPPED. */
	uint64_t taken_back[1 << TAKEN_BITS];
};

int reports_new(uint32_t capacity, struct random_source *random, struct reports **out)
{
	if (capacity == 0 || capacity > 1u << 28)
		return ERR_INVALID;
	struct reports *reports = calloc(1, sizeof *reports);
	if (!reports)
		return ERR_NOMEM;
	reports->capacity = 1;
	while (reports->capacity < capacity)
		reports->capacity *= 2;
	reports->key = random->next(random->context) | 1;
	reports->ring = calloc(reports->capacity, sizeof *reports->ring);
	if (!reports->ring) {
		free(reports);
		return ERR_NOMEM;
	}
	*out = reports;
	return 0;
}

void reports_free(struct reports *reports)
{
	if (!reports)
		return;
	free(reports->ring);
	free(reports);
}

uint32_t reports_room(const struct reports *reports)
{
	return reports->capacity - (uint32_t)(reports->made - reports->confirmed);
}

static unsigned taken_index(const struct reports *reports, uint64_t handle)
{
	return (unsigned)((handle * reports->key) >> (64 - TAKEN_BITS));
}

static void note_taken(struct reports *reports, const struct report *report, uint64_t batch)
{
	if (report->op == WIRE_RELEASE || report->op == WIRE_DROPPED)
		reports->taken_back[taken_index(reports, report->handle)] = batch;
}

bool reports_add(struct reports *reports, const struct report *report, uint64_t next_batch)
{
	if (reports_room(reports) == 0)
		return false;
	reports->ring[reports->made++ & (reports->capacity - 1)] = *report;
	note_taken(reports, report, next_batch);
	return true;
}

bool reports_unsent(const struct reports *reports)
{
	return reports->sent != reports->made;
}

uint32_t reports_fill(struct reports *reports, struct wire_request *entries, uint32_t max,
		      uint64_t batch, struct monotime now)
{
	uint32_t n = 0;

	while (n < max && reports->sent != reports->made) {
		const struct report *report =
		    &reports->ring[reports->sent++ & (reports->capacity - 1)];
		int64_t age = monotime_ms(now) - report->seen_ms;

		note_taken(reports, report, batch);
		entries[n] = (struct wire_request){
		    .handle = report->handle,
		    .op = report->op,
		    .tcp_flags = report->tcp_flags,
		    .direction = report->direction,
		    .age_ms = age < 0		  ? 0
			      : age >= UINT32_MAX ? UINT32_MAX
						  : (uint32_t)age,
		};
		n++;
	}
	return n;
}

uint64_t reports_position(const struct reports *reports)
{
	return reports->sent;
}

void reports_confirm(struct reports *reports, uint64_t position)
{
	if (position > reports->confirmed && position <= reports->sent)
		reports->confirmed = position;
}

void reports_rewind(struct reports *reports)
{
	reports->sent = reports->confirmed;
}

void reports_clear(struct reports *reports)
{
	reports->confirmed = reports->sent = reports->made;
}

bool reports_took_back(const struct reports *reports, uint64_t handle, uint64_t asked)
{
	return asked < reports->taken_back[taken_index(reports, handle)];
}
