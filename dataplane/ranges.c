/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/ranges.h"

#include <string.h>

/* Notes that payload bytes [begin, end) came. */
enum range_fate ranges_add(struct ranges *r, uint32_t begin, uint32_t end, bool last)
{
	uint32_t at = 0;

	/* The length is fixed by the last fragment, and nothing lies behind it. */
	if (r->total && (end > r->total || (last && end != r->total)))
		return RANGE_BAD;
	if (last && r->n > 0 && r->range[r->n - 1].end > end)
		return RANGE_BAD;
	while (at < r->n && r->range[at].end <= begin)
		at++;
	if (at < r->n && r->range[at].begin < end)
		return r->range[at].begin <= begin && end <= r->range[at].end ? RANGE_DUPLICATE
									      : RANGE_BAD;
	if (last)
		r->total = (uint16_t)end;

	bool joins_left = at > 0 && r->range[at - 1].end == begin;
	bool joins_right = at < r->n && r->range[at].begin == end;
	if (joins_left && joins_right) {
		r->range[at - 1].end = r->range[at].end;
		memmove(&r->range[at], &r->range[at + 1], (--r->n - at) * sizeof r->range[0]);
	} else if (joins_left) {
		r->range[at - 1].end = (uint16_t)end;
	} else if (joins_right) {
		r->range[at].begin = (uint16_t)begin;
	} else if (r->n == RANGES_MAX) {
		return RANGE_BAD;
	} else {
		memmove(&r->range[at + 1], &r->range[at], (r->n++ - at) * sizeof r->range[0]);
		r->range[at].begin = (uint16_t)begin;
		r->range[at].end = (uint16_t)end;
	}
	return RANGE_NEW;
}

bool ranges_complete(const struct ranges *r)
{
	return r->total && r->n == 1 && r->range[0].begin == 0 && r->range[0].end == r->total;
}
