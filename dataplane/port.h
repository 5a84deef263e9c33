/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A packet port: where packets come from and go to. TUN and pcap implement it; XDP and TC will.
 * A port runs its own receive loops, calls engine_process on batches, sends what is ENGINE_OUT and
 * hands what is ENGINE_SLOW to the owner thread through "slow" (a bounded ring that copies).
 */
#ifndef DATAPLANE_PORT_H
#define DATAPLANE_PORT_H

#include "dataplane/engine.h"

enum { PORT_INTERFACES_MAX = 8, PORT_NAME_MAX = 16 };

struct port_interface {
	char name[PORT_NAME_MAX];
	uint8_t realm; /* NAT_REALM_OUTSIDE or an inside realm */
};

struct port_env {
	struct engine *engine;
	void *context;
	/* Copies the packet into worker's ring and wakes the owner; false when the ring is full. */
	bool (*slow)(void *context, unsigned worker, const struct engine_packet *packet);
	/* TCP flags that the batch saw first; same ring. */
	void (*flags)(void *context, unsigned worker, const struct nat_tuple *tuple,
		      uint8_t tcp_flags);
	/*
	 * True when nothing of the worker's ring, and nothing at all that was parked, waits any
	 * more: answered or given up. For ports that can make their source wait. NULL: always.
	 */
	bool (*settled)(void *context, unsigned worker);
};

/* Packets and bytes received and sent, by what the port itself saw. */
struct port_counters {
	uint64_t received, received_bytes, sent, sent_bytes;
	uint64_t super_packets;       /* of received: segments to be cut later (GSO) */
	uint64_t partial_checksums;   /* of received: checksum left to the device */
	uint64_t checksums_completed; /* of those: not the transport's own, finished in software */
	uint64_t read_errors;
	uint64_t drops[NAT_REASON_LIMIT]; /* NAT_REASON_OUTPUT, NAT_REASON_RING_FULL */
};

struct port;
struct port_ops {
	const char *name;
	/* Starts the receive loops. 0 or a negative error; says what is wrong in the log. */
	int (*start)(struct port *port);
	/* Sends one packet into packet->egress; any thread. False when it was refused. */
	bool (*send)(struct port *port, const struct engine_packet *packet);
	/* A new configuration: pool prefixes, routes. Owner thread. */
	void (*configure)(struct port *port, const struct wire_config *config);
	/* Stops the loops, undoes the host's set-up, frees. */
	void (*free)(struct port *port);
	/* True when there is nothing more to come (a capture is read). NULL: never. */
	bool (*finished)(struct port *port);
	/* Any thread. NULL: the port counts nothing. */
	void (*counters)(struct port *port, struct port_counters *out);
};
struct port {
	const struct port_ops *ops;
};

#endif
