/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fragments without reassembly: each is translated on its own with the tuple and the identification
 * of its datagram (RFC 4787 REQ-14: in any order). What a datagram is known by comes from its first
 * fragment: from here, or, where it went to another dataplane, from the table service, which also
 * gives out the identification (RFC 6864 section 5.3.1). Fragments wait here until then. Owner
 * thread only; memory and time are bounded.
 *
 *           first one here                    answer, or alone
 *   (none) ---------------> ASKED ------------------------------> KNOWN <-> RESOLVING
 *      |                      ^                                     ^       (its flow is asked for)
 *      | a later one          | first one                           |
 *      +-----------------> ORPHAN ----------------------------------+
 *                                    answer, notice
 *   WHOLE: no fragment: a datagram to be cut, which waits for its identification
 *
 * A fragment that repeats one already seen is a duplicate; while the datagram waits it is dropped,
 * as is one whose bytes came in other pieces. One that overlaps
 * in part, a first one too short for its transport header, or one whose bytes would lie over that
 * header spoils the datagram, which is then refused to its end (RFC 1858, RFC 3128, RFC 5722).
 *
 * Orphans have a budget of their own, and every source has its share of either (quota.h): a flood
 * hurts neither datagrams in order nor other sources (REQ-14a).
 */
#ifndef DATAPLANE_FRAGMENTS_H
#define DATAPLANE_FRAGMENTS_H

#include "dataplane/engine.h"

enum {
	/* datagrams tracked at once, and chunks (parking.h) that their packets wait in */
	FRAGMENTS_ORPHANS = 1024,
	FRAGMENTS_KNOWN = 2048,
	FRAGMENTS_ORPHAN_CHUNKS = 1024,
	FRAGMENTS_KNOWN_CHUNKS = 2048,
	FRAGMENTS_SHARE_OF = 8,        /* an eighth of the datagrams is a source's share */
	FRAGMENTS_CHUNKS_SHARE_OF = 4, /* a quarter of the chunks: several of the largest datagrams */
};

struct fragments;

/* counters: of the owner; drops of parked fragments are counted there. */
int fragments_new(struct random_source *random, struct engine_counters *counters,
		  struct fragments **out);
void fragments_free(struct fragments *fragments);

enum fragment_step {
	FRAGMENT_TUPLE,  /* translate it with *tuple; it has its identification */
	FRAGMENT_FIRST,  /* first one of a datagram not known: fragments_wait or fragments_known */
	FRAGMENT_ORPHAN, /* parked, and the first of its datagram that came */
	FRAGMENT_KEPT,   /* parked, or a duplicate: nothing to do */
	FRAGMENT_REFUSE, /* drop it: *reason */
};

/*
 * Takes one fragment whose IP header is sound and whose length is its total length. tuple: in, of a
 * first fragment; out, with FRAGMENT_TUPLE. *datagram: {slot, generation}, 0 when it is complete and forgotten; it is
 * another one from the first fragment on.
 */
enum fragment_step fragments_take(struct fragments *fragments, struct engine_packet *packet,
				  struct nat_tuple *tuple, uint32_t timeout_ms, struct monotime now,
				  uint64_t *datagram, unsigned *reason);

/* Parks a first fragment before the others, until fragments_known. False: no room; it is gone. */
bool fragments_wait(struct fragments *fragments, uint64_t datagram, const struct nat_tuple *tuple,
		    const struct engine_packet *packet, struct monotime now);
/* Parks a datagram that is to be cut. 0: no room. */
uint64_t fragments_whole(struct fragments *fragments, const struct engine_packet *packet,
			 uint32_t timeout_ms, struct monotime now);
/*
 * The datagram's tuple and identification are there; then fragments_next until it says false. tuple
 * is NULL for one that waits or is whole: it has it.
 */
void fragments_known(struct fragments *fragments, uint64_t datagram, const struct nat_tuple *tuple,
		     uint16_t identification, struct monotime now);
/*
 * The next parked packet of a known datagram, with its identification, copied to buffer (64 KiB).
 * Forgets the datagram behind the last one if it is complete.
 */
bool fragments_next(struct fragments *fragments, uint64_t datagram, uint8_t *buffer,
		    struct engine_packet *packet, struct nat_tuple *tuple);
/* Its flow is asked for: what comes meanwhile is parked, until fragments_resolved. */
void fragments_resolving(struct fragments *fragments, uint64_t datagram);
void fragments_resolved(struct fragments *fragments, uint64_t datagram);
/* Nothing more of it passes; what is parked is dropped for that reason. */
void fragments_refuse(struct fragments *fragments, uint64_t datagram, unsigned reason);

enum fragment_state {
	FRAGMENT_NONE, /* no such datagram: it ended, or its slot has another one */
	FRAGMENT_WAITING,
	FRAGMENT_ASKED,
	FRAGMENT_KNOWN,
	FRAGMENT_RESOLVING,
	FRAGMENT_REFUSED,
	FRAGMENT_WHOLE,
};
enum fragment_state fragments_state(const struct fragments *fragments, uint64_t datagram);
/* By what it came with; 0: none. tuple: ports do not matter. */
uint64_t fragments_find(const struct fragments *fragments, const struct nat_tuple *tuple,
			uint16_t identification, struct monotime now);

/* What it came with: addresses, protocol and realm of *tuple, ports 0; and its identification. */
void fragments_key(const struct fragments *fragments, uint64_t datagram, struct nat_tuple *tuple,
		   uint16_t *identification);
/* Ends it without a count, if there is one. */
void fragments_forget(struct fragments *fragments, uint64_t datagram);

/* An identification of our own choice, where no table gives one. */
uint16_t fragments_identification(struct fragments *fragments);
/* Sets the IP header's identification and corrects its checksum. */
void fragments_renumber(uint8_t *ip, uint16_t identification);

/* Forgets datagrams whose time is over; parked packets among them are counted as timed out. */
void fragments_tick(struct fragments *fragments, struct monotime now);

/* For tests: what is held. */
void fragments_held(const struct fragments *fragments, uint32_t *datagrams, uint32_t *chunks);

#endif
