/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flow entry: one direction of one flow in a dataplane's flow table. User space alone writes it
 * [W: the flow table's single writer]; any number of readers, BPF programs later among them, copy it
 * out and look at the sequence word again [R: any reader writes, relaxed].
 *
 *   bucket: four slots, 256 bytes. A key has two candidate buckets (two-choice hashing).
 *
 *   0        4        8                                24                40
 *   sequence peer     key (tuple)                      new endpoints     ...
 */
#ifndef NAT_SLOT_H
#define NAT_SLOT_H

#include "types.h"

enum { NAT_BUCKET_SLOTS = 4 };
#define NAT_SLOT_NONE 0xffffffffu

enum nat_slot_state {
	NAT_SLOT_EMPTY = 0,
	NAT_SLOT_PARKED = 1, /* known, but parked packets must leave first: not for the hit path */
	NAT_SLOT_OPEN = 2,   /* readers may translate */
};

struct nat_slot {
	uint32_t sequence;         /* [W] odd while being written */
	uint32_t peer;             /* [W] slot index of the other direction; U6: they live together */
	struct nat_tuple key;      /* [W] */
	nat_be32 source;           /* [W] rewrite, from here */
	nat_be32 destination;      /* [W] */
	nat_be16 source_port;      /* [W] */
	nat_be16 destination_port; /* [W] */
	uint16_t address_delta;    /* [W] RFC 1624 delta of the addresses: IP header, pseudo header */
	uint16_t transport_delta;  /* [W] address_delta and the ports: TCP and UDP checksum */
	uint16_t next_hop;         /* [W] index into the next-hop table; 0 = the kernel's routes */
	uint8_t state;             /* [W] enum nat_slot_state */
	uint8_t egress;            /* [W] realm */
	uint8_t direction;         /* [W] enum nat_direction */
	uint8_t tcp_reported;      /* [W] flags of this direction that the table was told */
	uint8_t zero[2];           /* [W] */
	uint64_t handle;           /* [W] the sender's session at the table service */
	uint32_t last_seen;        /* [R] low 32 bits of the reader's clock in milliseconds */
	uint32_t tcp_flags;        /* [R] TCP flags seen in this direction, ORed */
};
_Static_assert(sizeof(struct nat_slot) == 64, "one cache line");

#endif
