/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which bytes of a datagram's payload came (RFC 791 section 3.2), in which pieces: those stay apart
 * as long as there is room. All zero: none.
 */
#ifndef DATAPLANE_RANGES_H
#define DATAPLANE_RANGES_H

#include <stdbool.h>
#include <stdint.h>

enum { RANGES_MAX = 64 }; /* of the largest datagram in Ethernet frames there are 45 */

struct ranges {
	uint16_t total; /* bytes, 0 until the last fragment came */
	uint8_t n;
	struct {
		uint16_t begin, end;
	} range[RANGES_MAX]; /* ascending, never overlapping */
};

enum range_fate {
	RANGE_NEW,
	RANGE_AGAIN,	 /* the same piece came before */
	RANGE_DUPLICATE, /* all of it came before, in other pieces */
	RANGE_BAD,	 /* overlaps in part, lies beyond the end, or makes too many holes */
};

/* Notes that payload bytes [begin, end) came, unless they are bad. */
enum range_fate ranges_add(struct ranges *ranges, uint32_t begin, uint32_t end, bool last);
bool ranges_complete(const struct ranges *ranges);

#endif
