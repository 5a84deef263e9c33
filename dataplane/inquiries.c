/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One list in the order of making. Everything in front of "unasked" has been asked, and nothing
 * behind it: questions leave in order, and asking all again is one step back to the beginning.
 */
#include "dataplane/inquiries.h"

#include <stdlib.h>
#include "common/base/err.h"

#define NONE UINT32_MAX

struct inquiry {
	struct wire_request request;
	uint64_t datagram;
	struct monotime deadline;
	uint32_t generation;
	uint32_t previous, next; /* next: of the free list, too */
	bool open;
};

struct inquiries {
	uint32_t capacity, n;
	uint32_t free, first, last, unasked;
	struct inquiry inquiries[];
};

int inquiries_new(uint32_t capacity, struct inquiries **out)
{
	struct inquiries *q = calloc(1, sizeof *q + capacity * sizeof q->inquiries[0]);

	if (!q)
		return ERR_NOMEM;
	q->capacity = capacity;
	q->first = q->last = q->unasked = NONE;
	q->free = capacity ? 0 : NONE;
	for (uint32_t i = 0; i < capacity; i++) {
		q->inquiries[i].generation = 1;
		q->inquiries[i].next = i + 1 < capacity ? i + 1 : NONE;
	}
	*out = q;
	return 0;
}

void inquiries_free(struct inquiries *q)
{
	free(q);
}

bool inquiries_add(struct inquiries *q, const struct wire_request *request, uint64_t datagram,
		   struct monotime deadline)
{
	uint32_t i = q->free;

	if (i == NONE)
		return false;
	struct inquiry *inquiry = &q->inquiries[i];
	q->free = inquiry->next;
	*inquiry = (struct inquiry){
	    .request = *request,
	    .datagram = datagram,
	    .deadline = deadline,
	    .generation = inquiry->generation,
	    .previous = q->last,
	    .next = NONE,
	    .open = true,
	};
	if (q->last == NONE)
		q->first = i;
	else
		q->inquiries[q->last].next = i;
	q->last = i;
	if (q->unasked == NONE)
		q->unasked = i;
	q->n++;
	return true;
}

static void end(struct inquiries *q, uint32_t i)
{
	struct inquiry *inquiry = &q->inquiries[i];

	if (q->unasked == i)
		q->unasked = inquiry->next;
	if (inquiry->previous == NONE)
		q->first = inquiry->next;
	else
		q->inquiries[inquiry->previous].next = inquiry->next;
	if (inquiry->next == NONE)
		q->last = inquiry->previous;
	else
		q->inquiries[inquiry->next].previous = inquiry->previous;
	inquiry->open = false;
	if (++inquiry->generation == 0) /* an id is never 0 */
		inquiry->generation = 1;
	inquiry->next = q->free;
	q->free = i;
	q->n--;
}

bool inquiries_has_next(const struct inquiries *q)
{
	return q->unasked != NONE;
}

inquiry_id inquiries_next(struct inquiries *q, struct wire_request *out)
{
	uint32_t i = q->unasked;

	if (i == NONE)
		return 0;
	q->unasked = q->inquiries[i].next;
	*out = q->inquiries[i].request;
	return (inquiry_id)q->inquiries[i].generation << 32 | i;
}

bool inquiries_take(struct inquiries *q, inquiry_id id, uint64_t *datagram)
{
	uint32_t i = (uint32_t)id;

	if (i >= q->capacity || !q->inquiries[i].open || q->inquiries[i].generation != id >> 32)
		return false;
	*datagram = q->inquiries[i].datagram;
	end(q, i);
	return true;
}

bool inquiries_expired(struct inquiries *q, struct monotime now, uint64_t *datagram)
{
	uint32_t i = q->first;

	if (i == NONE || monotime_before(now, q->inquiries[i].deadline))
		return false;
	*datagram = q->inquiries[i].datagram;
	end(q, i);
	return true;
}

struct monotime inquiries_deadline(const struct inquiries *q)
{
	return q->first == NONE ? MONOTIME_NEVER : q->inquiries[q->first].deadline;
}

void inquiries_ask_all_again(struct inquiries *q)
{
	q->unasked = q->first;
}

uint32_t inquiries_open(const struct inquiries *q)
{
	return q->n;
}
