/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/parking.h"

#include <stdlib.h>
#include <string.h>
#include "common/base/err.h"

enum { LENGTH_MAX = 65535 };

struct chunk {
	uint32_t next; /* of this packet, or of the free list */
	/* first chunk only */
	uint32_t next_packet;
	uint32_t length;
	uint8_t ingress;
	bool partial_checksum;
	uint8_t bytes[PARKING_CHUNK];
};

struct parking {
	uint32_t free, fresh, n_free, n; /* from "fresh" on never used: not even touched */
	struct chunk chunks[];
};

int parking_new(uint32_t chunks, struct parking **out)
{
	struct parking *parking = calloc(1, sizeof *parking + chunks * sizeof parking->chunks[0]);

	if (!parking)
		return ERR_NOMEM;
	parking->n = parking->n_free = chunks;
	parking->free = PARKING_NONE;
	*out = parking;
	return 0;
}

void parking_free(struct parking *parking)
{
	free(parking);
}

/* There is one: the caller has counted. */
static uint32_t chunk_take(struct parking *parking)
{
	uint32_t i = parking->free;

	if (i == PARKING_NONE)
		i = parking->fresh++;
	else
		parking->free = parking->chunks[i].next;
	parking->n_free--;
	return i;
}

bool parking_put(struct parking *parking, struct parking_list *list,
		 const struct engine_packet *packet, bool in_front)
{
	uint32_t need = parking_need(packet->length);
	uint32_t first = PARKING_NONE, *link = &first;

	if (need == 0 || need > parking->n_free)
		return false;
	for (uint32_t done = 0; done < packet->length; done += PARKING_CHUNK) {
		uint32_t left = packet->length - done;
		*link = chunk_take(parking);
		struct chunk *chunk = &parking->chunks[*link];
		memcpy(chunk->bytes, packet->data + done,
		       left < PARKING_CHUNK ? left : PARKING_CHUNK);
		link = &chunk->next;
	}
	*link = PARKING_NONE;

	struct chunk *head = &parking->chunks[first];
	head->length = packet->length;
	head->ingress = packet->ingress;
	head->partial_checksum = packet->partial_checksum;
	head->next_packet = PARKING_NONE;
	if (list->first == PARKING_NONE) {
		*list = (struct parking_list){first, first};
	} else if (in_front) {
		head->next_packet = list->first;
		list->first = first;
	} else {
		parking->chunks[list->last].next_packet = first;
		list->last = first;
	}
	return true;
}

uint32_t parking_drop(struct parking *parking, struct parking_list *list)
{
	uint32_t i = list->first, freed = 0;

	if (i == PARKING_NONE)
		return 0;
	list->first = parking->chunks[i].next_packet;
	while (i != PARKING_NONE) {
		uint32_t next = parking->chunks[i].next;
		parking->chunks[i].next = parking->free;
		parking->free = i;
		freed++;
		i = next;
	}
	parking->n_free += freed;
	return freed;
}

uint32_t parking_take(struct parking *parking, struct parking_list *list, uint8_t *buffer,
		      struct engine_packet *packet)
{
	if (list->first == PARKING_NONE)
		return 0;
	const struct chunk *head = &parking->chunks[list->first];
	*packet = (struct engine_packet){
	    .data = buffer,
	    .length = head->length,
	    .room = LENGTH_MAX,
	    .ingress = head->ingress,
	    .partial_checksum = head->partial_checksum,
	};
	uint32_t done = 0;
	for (uint32_t i = list->first; i != PARKING_NONE; i = parking->chunks[i].next) {
		uint32_t left = packet->length - done;
		uint32_t n = left < PARKING_CHUNK ? left : PARKING_CHUNK;
		memcpy(buffer + done, parking->chunks[i].bytes, n);
		done += n;
	}
	return parking_drop(parking, list);
}

uint32_t parking_used(const struct parking *parking)
{
	return parking->n - parking->n_free;
}
