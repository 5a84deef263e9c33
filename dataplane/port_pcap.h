/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The offline port: translates a capture. Reads pcap or pcapng (Ethernet with VLAN tags, raw IP,
 * Linux cooked, loopback), writes raw IP with the timestamps of what was read. A packet's realm
 * follows from the configuration: a source in an inside prefix comes from that realm (also to a
 * pool address: hairpinning), everything else from the outside.
 *
 * Its one thread waits for the first configuration, then reads as fast as the slow path takes
 * packets: a full ring makes it wait, never drop. finished() is true when the capture is read; what
 * is still parked then comes through send(), so the caller waits for its pending packets to drain.
 */
#ifndef DATAPLANE_PORT_PCAP_H
#define DATAPLANE_PORT_PCAP_H

#include "dataplane/port.h"

/*
 * The worker that its thread uses; worker 0 stays the owner's. The thread registers itself with
 * urcu-qsbr.
 */
enum { PORT_PCAP_WORKER = 1 };

/* Opens both files; env is copied. 0, or ERR_IO / ERR_INVALID / ERR_NOMEM with a line in the log.
 */
int port_pcap_new(const char *read, const char *write, const struct port_env *env,
		  struct port **out);

#endif
