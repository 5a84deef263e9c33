/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way from one worker to the owner: a bounded ring of bytes, one thread puts in, one takes out,
 * neither waits. A record and its bytes lie in one piece. What does not fit is refused and counted
 * by who asked; the worker drops the packet.
 */
#ifndef DATAPLANE_RING_H
#define DATAPLANE_RING_H

#include <stdbool.h>
#include <stdint.h>
#include "common/nat/types.h"

struct ring;

enum ring_kind { RING_PACKET = 1, RING_FLAGS = 2 };

struct ring_record {
	uint32_t length; /* bytes behind the record: PACKET */
	uint8_t kind;	 /* enum ring_kind */
	uint8_t ingress;
	uint8_t tcp_flags; /* FLAGS */
	bool partial_checksum;
	uint16_t gso_size;
	uint16_t zero[3];
	struct nat_tuple tuple; /* FLAGS */
};
_Static_assert(sizeof(struct ring_record) == 32, "padding is named");

enum { RING_BYTES_MIN = 256 << 10, RING_PACKET_MAX = 65535 };

/* bytes is rounded up to a power of two, at least RING_BYTES_MIN; touched now. 0 or ERR_NOMEM. */
int ring_new(uint32_t bytes, struct ring **out);
void ring_free(struct ring *ring);

/* The worker. Copies record and record->length bytes. False: full (or longer than RING_PACKET_MAX).
 */
bool ring_put(struct ring *ring, const struct ring_record *record, const void *data);

/* The owner. The oldest record and its bytes, or NULL; they stay until ring_drop. */
const struct ring_record *ring_peek(struct ring *ring, const uint8_t **data);
void ring_drop(struct ring *ring);
/*
 * Either thread, or any other as a hint. The worker that hears yes sees what the owner did with the
 * records before it dropped them.
 */
bool ring_is_empty(const struct ring *ring);

#endif
