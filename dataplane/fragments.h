/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fragments without reassembly: each is translated on its own with the tuple of its datagram's
 * first fragment (RFC 4787 REQ-14: in any order). Later fragments that come before the first wait
 * here; those that come after it get its tuple. Owner thread only; memory and time are bounded.
 *
 * A fragment that repeats bytes already seen is a duplicate and is dropped alone; one that overlaps
 * in part, a first one too short for its transport header, or one whose bytes would lie over that
 * header spoils the datagram, which is then refused to its end (RFC 1858, RFC 3128, RFC 5722).
 * When the memory is full the oldest datagram goes: a flood of orphans does not hurt fragments that
 * arrive in order (REQ-14a). Fragments from inside get a new identification, because two hosts
 * behind one address may use the same (RFC 6864 section 5.3.1, RFC 7857 section 10).
 */
#ifndef DATAPLANE_FRAGMENTS_H
#define DATAPLANE_FRAGMENTS_H

#include "dataplane/engine.h"

enum {
	FRAGMENTS_DATAGRAMS = 1024, /* tracked at once */
	FRAGMENTS_CHUNKS = 1024,    /* of parked bytes */
	FRAGMENTS_CHUNK = 1024,	    /* bytes */
	FRAGMENTS_RANGES = 64,	    /* holes that a datagram may have, and one */
};

struct fragments;

enum fragment_step {
	FRAGMENT_TUPLE,	 /* translate it with *tuple; then fragments_next while that says true */
	FRAGMENT_KEPT,	 /* parked, or a duplicate: nothing to do */
	FRAGMENT_REFUSE, /* drop it: *reason */
};

/* counters: of the owner; drops of parked fragments are counted there. */
int fragments_new(struct random_source *random, struct engine_counters *counters,
		  struct fragments **out);
void fragments_free(struct fragments *fragments);

/*
 * Takes one fragment whose IP header is sound and whose length is its total length. tuple: of a
 * first fragment, in and out; of a later one, out.
 */
enum fragment_step fragments_take(struct fragments *fragments, struct engine_packet *packet,
				  struct nat_tuple *tuple, uint32_t timeout_ms, struct monotime now,
				  unsigned *reason);

/*
 * The next fragment that waited for the first one just taken, in its order of arrival, copied to
 * buffer (64 KiB): packet gets data, length, room and ingress.
 */
bool fragments_next(struct fragments *fragments, uint8_t *buffer, struct engine_packet *packet);

/* An identification for a datagram that leaves with an address that several hosts share. */
uint16_t fragments_identification(struct fragments *fragments);

/* Forgets datagrams whose time is over; parked fragments among them are counted as timed out. */
void fragments_tick(struct fragments *fragments, struct monotime now);

/* For tests: what is held. */
void fragments_held(const struct fragments *fragments, uint32_t *datagrams, uint32_t *chunks);

#endif
