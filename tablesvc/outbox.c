/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the table says to one dataplane, in order: a ring of message headers and a ring of their
 * entries. A message is made, leaves (and gets its number), and is acknowledged. Answers always
 * find room, or the dataplane exceeded its credit; notices that find none order a flush (U5), except
 * FRAGMENTS: those get half of the room for notices at most, so that they never are the reason.
 */
#include "tablesvc/table_internal.h"

#include <string.h>
#include <sys/mman.h>

enum {
	NOTICE_BYTES = 4 << 20,
	SPARE = 8, /* headers kept for FLUSH */
};

#ifdef CONAT_MUTABLE
uint32_t outbox_notices = 4096;
#endif

static size_t ring_bytes(const struct outbox *box)
{
	return box->ring_size * sizeof *box->ring;
}

int outbox_new(struct outbox *box, const struct config *config)
{
	*box = (struct outbox){
	    .ring_size = 2 * config->inflight_max + outbox_notices + SPARE,
	    .payload_size = 2 * config->inflight_max * config->batch_max *
				(uint32_t)sizeof(struct wire_answer) +
			    NOTICE_BYTES,
	};
	box->ring = mmap(NULL, ring_bytes(box), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	box->payload = mmap(NULL, box->payload_size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (box->ring == MAP_FAILED)
		box->ring = NULL;
	if (box->payload == MAP_FAILED)
		box->payload = NULL;
	return box->ring && box->payload ? 0 : ERR_NOMEM;
}

void outbox_delete(struct outbox *box)
{
	if (box->ring)
		munmap(box->ring, ring_bytes(box));
	if (box->payload)
		munmap(box->payload, box->payload_size);
}

void outbox_clear(struct outbox *box)
{
	box->first = box->next = box->end = 0;
	box->head = box->tail = 0;
	box->answers = 0;
}

static struct outbox_message *at(const struct outbox *box, uint32_t counter)
{
	return &box->ring[counter % box->ring_size];
}

/* Contiguous room, or NULL. keep: bytes that must stay free for others. */
static void *take_bytes(struct outbox *box, uint32_t bytes, uint32_t keep, uint32_t *offset)
{
	if (box->first == box->end)
		box->head = box->tail = 0;
	uint32_t room =
	    box->tail >= box->head ? box->payload_size - box->tail : box->head - box->tail - 1;
	if (room < bytes && box->tail >= box->head && box->head > bytes) {
		box->tail = 0; /* wrap: what is left at the end is skipped */
		room = box->head - 1;
	}
	uint32_t used = box->tail >= box->head ? box->tail - box->head
					       : box->payload_size - box->head + box->tail;
	if (room < bytes || used + bytes + keep > box->payload_size)
		return NULL;
	*offset = box->tail;
	box->tail += bytes;
	return box->payload + *offset;
}

static struct outbox_message *push(struct outbox *box, uint8_t kind, uint32_t keep)
{
	if (box->end - box->first + keep >= box->ring_size)
		return NULL;
	struct outbox_message *m = at(box, box->end++);
	*m = (struct outbox_message){.kind = kind};
	return m;
}

/* Room for n answers; the caller sets position and made_ms of the last message when it is done. */
struct wire_answer *outbox_answer(struct outbox *box, uint64_t request_sequence, uint32_t n)
{
	uint32_t offset = 0, bytes = n * (uint32_t)sizeof(struct wire_answer);
	void *entries = n ? take_bytes(box, bytes, 0, &offset) : box->payload;
	if (!entries)
		return NULL;
	struct outbox_message *m = push(box, WIRE_ANSWER, SPARE);
	if (!m)
		return NULL;
	m->request_sequence = request_sequence;
	m->n = n;
	m->offset = offset;
	m->bytes = bytes;
	box->answers++;
	return entries;
}

bool outbox_notice(struct outbox *box, unsigned kind, const struct wire_notice *notice,
		   uint64_t position, int64_t now_ms, uint32_t batch_max)
{
	struct outbox_message *last = box->end > box->next ? at(box, box->end - 1) : NULL;
	uint32_t offset, keep = box->payload_size - NOTICE_BYTES;
	uint32_t half = keep / 2;
	uint32_t headers = SPARE + (box->ring_size - outbox_notices - SPARE) / 2;

	if (kind == WIRE_FRAGMENTS) {
		half += NOTICE_BYTES / 2;
		headers += outbox_notices / 2;
	}

	if (last && last->kind == kind && last->n < batch_max &&
	    last->offset + last->bytes == box->tail) {
		struct wire_notice *entry = take_bytes(box, sizeof *notice, half, &offset);
		if (entry && offset == last->offset + last->bytes) {
			*entry = *notice;
			last->n++;
			last->bytes += (uint32_t)sizeof *notice;
			last->position = position;
			return true;
		}
		if (entry) /* it wrapped: a message of its own */
			goto single;
		return false;
	}
	struct wire_notice *entry = take_bytes(box, sizeof *notice, half, &offset);
	if (!entry)
		return false;
single:;
	struct outbox_message *m =
	    push(box, (uint8_t)kind, headers);
	if (!m)
		return false;
	memcpy(box->payload + offset, notice, sizeof *notice);
	m->n = 1;
	m->offset = offset;
	m->bytes = sizeof *notice;
	m->position = position;
	m->made_ms = now_ms;
	return true;
}

/* A flush is ordered: notices that have not left mean nothing any more. Answers stay: credit. */
void outbox_void(struct outbox *box)
{
	uint32_t to = box->next;
	for (uint32_t from = box->next; from != box->end; from++)
		if (at(box, from)->kind == WIRE_ANSWER)
			*at(box, to++) = *at(box, from);
	box->end = to;
}

bool outbox_flush(struct outbox *box, uint64_t position, int64_t now_ms)
{
	struct outbox_message *m = push(box, WIRE_FLUSH, 1);
	if (!m)
		return false;
	m->position = position;
	m->made_ms = now_ms;
	m->offset = box->tail;
	return true;
}
