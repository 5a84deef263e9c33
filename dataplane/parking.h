/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Room for packets that wait outside the table's questions: fragments whose datagram is not known
 * yet. Chunks of one size from one pool; a packet takes as many as it needs. Whoever parks keeps
 * the packets in lists and sees to it that there is room (quota.h).
 */
#ifndef DATAPLANE_PARKING_H
#define DATAPLANE_PARKING_H

#include "dataplane/engine.h"

enum { PARKING_CHUNK = 1536 }; /* bytes: one for what an Ethernet carries */

struct parking;

struct parking_list { /* of parked packets, in order; .first = PARKING_NONE: empty */
	uint32_t first, last;
};
#define PARKING_NONE UINT32_MAX

int parking_new(uint32_t chunks, struct parking **out);
void parking_free(struct parking *parking);

static inline uint32_t parking_need(uint32_t length)
{
	return (length + PARKING_CHUNK - 1) / PARKING_CHUNK;
}

/* Copies the packet behind the others, or before them. False when there are too few free chunks. */
bool parking_put(struct parking *parking, struct parking_list *list,
		 const struct engine_packet *packet, bool in_front);
/*
 * Takes the first packet out, copied to buffer (64 KiB): *packet gets data, length, room, and what
 * it came with. How many chunks became free; 0: the list is empty.
 */
uint32_t parking_take(struct parking *parking, struct parking_list *list, uint8_t *buffer,
		      struct engine_packet *packet);
/* Throws the first packet away; the same result. */
uint32_t parking_drop(struct parking *parking, struct parking_list *list);

uint32_t parking_used(const struct parking *parking);

#endif
