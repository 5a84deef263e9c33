/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/ranges.h"

#include <string.h>

/* Pieces that touch become one: when there is no room for another one. */
static void join(struct ranges *r)
{
	uint32_t n = 0;

	for (uint32_t i = 1; i < r->n; i++) {
		if (r->range[i].begin == r->range[n].end)
			r->range[n].end = r->range[i].end;
		else
			r->range[++n] = r->range[i];
	}
	r->n = (uint8_t)(n + 1);
}

/* The first piece that ends behind begin. */
static uint32_t place(const struct ranges *r, uint32_t begin)
{
	uint32_t at = 0;

	while (at < r->n && r->range[at].end <= begin)
		at++;
	return at;
}

/* How [begin, end) lies over the piece at "at", which it overlaps, and those behind it. */
static enum range_fate over(const struct ranges *r, uint32_t at, uint32_t begin, uint32_t end)
{
	if (r->range[at].begin == begin && r->range[at].end == end)
		return RANGE_AGAIN;
	if (r->range[at].begin > begin)
		return RANGE_BAD;
	while (r->range[at].end < end) {
		at++;
		if (at == r->n || r->range[at].begin != r->range[at - 1].end)
			return RANGE_BAD;
	}
	return RANGE_DUPLICATE;
}

enum range_fate ranges_add(struct ranges *r, uint32_t begin, uint32_t end, bool last)
{
	/* The length is fixed by the last fragment, and nothing lies behind it. */
	if (r->total && (end > r->total || (last && end != r->total)))
		return RANGE_BAD;
	if (last && r->n > 0 && r->range[r->n - 1].end > end)
		return RANGE_BAD;
	uint32_t at = place(r, begin);
	if (at < r->n && r->range[at].begin < end)
		return over(r, at, begin, end);
	if (r->n == RANGES_MAX) {
		join(r);
		if (r->n == RANGES_MAX)
			return RANGE_BAD;
		at = place(r, begin);
	}
	if (last)
		r->total = (uint16_t)end;
	memmove(&r->range[at + 1], &r->range[at], (r->n++ - at) * sizeof r->range[0]);
	r->range[at].begin = (uint16_t)begin;
	r->range[at].end = (uint16_t)end;
	return RANGE_NEW;
}

bool ranges_complete(const struct ranges *r)
{
	uint32_t end = 0;

	for (uint32_t i = 0; i < r->n; i++) {
		if (r->range[i].begin != end)
			return false;
		end = r->range[i].end;
	}
	return r->total && end == r->total;
}
