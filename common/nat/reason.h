/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why a packet was not simply translated. Every drop has a reason, every reason is a counter
 * (conat_drop_total{reason="..."}) and a line in the manual. Wire values: append only.
 * X(symbol, number, "name", "sentence")
 */
#ifndef NAT_REASON_H
#define NAT_REASON_H

#include "compat.h"

#define NAT_REASONS(X)                                                                             \
	X(NONE, 0, "none", "translated or passed")                                                 \
	/* found by the dataplane in the packet */                                                 \
	X(TRUNCATED, 1, "truncated", "shorter than its headers say")                               \
	X(NOT_IPV4, 2, "not_ipv4", "not an IPv4 packet")                                           \
	X(BAD_IP_HEADER, 3, "bad_ip_header", "IPv4 header length or total length is wrong")        \
	X(BAD_IP_CHECKSUM, 4, "bad_ip_checksum", "IPv4 header checksum is wrong")                  \
	X(BAD_ICMP_CHECKSUM, 5, "bad_icmp_checksum", "ICMP error with a wrong checksum")           \
	X(BAD_EMBEDDED, 6, "bad_embedded", "ICMP error whose quoted packet cannot be used")        \
	X(BAD_TRANSPORT, 7, "bad_transport", "TCP or UDP header is malformed")                     \
	X(PROTOCOL, 8, "protocol", "neither TCP, UDP, ICMP, nor in the pool's list of protocols")  \
	X(ICMP_TYPE, 9, "icmp_type", "ICMP type that is not translated: no query, no error")       \
	X(MULTICAST, 10, "multicast", "multicast, broadcast, loopback or link-local address")      \
	X(TTL, 11, "ttl", "time to live exceeded in transit")                                      \
	X(TOO_BIG, 12, "too_big", "larger than the egress MTU with DF set")                        \
	X(FRAGMENT_TABLE_FULL, 13, "fragment_table_full", "no room to track one more datagram")    \
	X(FRAGMENT_TIMEOUT, 14, "fragment_timeout", "first fragment did not arrive in time")       \
	X(FRAGMENT_MALFORMED, 15, "fragment_malformed", "overlapping, tiny or oversized fragment") \
	/* waiting for the table */                                                                \
	X(PENDING_FULL, 16, "pending_full", "no room to park one more packet")                     \
	X(PENDING_FLOW_FULL, 17, "pending_flow_full", "too many packets parked for one flow")      \
	X(PENDING_TIMEOUT, 18, "pending_timeout", "the table service did not answer in time")      \
	X(NO_TABLE, 19, "no_table", "not attached to a table service")                             \
	X(LEASE_OVER, 20, "lease_over", "lease and grace are over: must not translate")            \
	X(RING_FULL, 21, "ring_full", "the slow path's ring is full")                              \
	X(OUTPUT, 22, "output", "the packet port refused the packet")                              \
	X(SOURCE_ROUTE, 23, "source_route", "IPv4 option of a loose or strict source route")       \
	X(ERROR_FRAGMENT, 24, "error_fragment", "fragment of an ICMP error: cannot be checked")    \
	/* answered by the table */                                                                \
	X(NO_MAPPING, 32, "no_mapping", "inbound packet to an endpoint without mapping")           \
	X(FILTERED, 33, "filtered", "inbound packet that the filtering behaviour refuses")         \
	X(TCP_OUT_OF_STATE, 34, "tcp_out_of_state", "TCP segment without session that is no SYN")  \
	X(PORTS_EXHAUSTED, 35, "ports_exhausted", "no free external port or block")                \
	X(SUBSCRIBER_BLOCKS, 36, "subscriber_blocks", "subscriber's limit of port blocks")         \
	X(SUBSCRIBER_SESSIONS, 37, "subscriber_sessions", "subscriber's limit of sessions")        \
	X(SUBSCRIBER_RATE, 38, "subscriber_rate", "subscriber's limit of new sessions a second")   \
	X(TABLE_FULL, 39, "table_full", "the table's configured capacity is reached")              \
	X(NOT_CONFIGURED, 40, "not_configured", "source is in no configured inside prefix")        \
	X(POLICY, 41, "policy", "refused by configuration")                                        \
	X(BUSY, 42, "busy", "the table service is overloaded; ask again later")                    \
	X(STALE, 43, "stale", "an answer that came after its lease; ask again")                    \
	X(DRAINING, 44, "draining", "this dataplane is being drained")                             \
	X(FRAGMENT_UNKNOWN, 45, "fragment_unknown",                                                \
	  "the table has not heard of the datagram's first fragment yet")                          \
	X(HOLD_DOWN, 46, "hold_down", "port blocks rest after the table service's start")          \
	X(SUBSCRIBER_PORTS, 47, "subscriber_ports", "subscriber's limit of ports")                \
	X(UNASKED_REPLY, 48, "unasked_reply", "ICMP reply from inside to no request")

enum nat_reason {
#define NAT_REASON_ENUM(symbol, number, name, sentence) NAT_REASON_##symbol = number,
	NAT_REASONS(NAT_REASON_ENUM)
#undef NAT_REASON_ENUM
	    NAT_REASON_LIMIT = 64 /* counters are arrays of this size */
};

#ifndef __bpf__
/* The counter's name, or "unknown". */
static inline const char *nat_reason_name(unsigned reason)
{
	switch (reason) {
#define NAT_REASON_NAME(symbol, number, name, sentence)                                            \
	case number:                                                                               \
		return name;
		NAT_REASONS(NAT_REASON_NAME)
#undef NAT_REASON_NAME
	}
	return "unknown";
}

/* What it means, for a person, or "". */
static inline const char *nat_reason_sentence(unsigned reason)
{
	switch (reason) {
#define NAT_REASON_SENTENCE(symbol, number, name, sentence)                                        \
	case number:                                                                               \
		return sentence;
		NAT_REASONS(NAT_REASON_SENTENCE)
#undef NAT_REASON_SENTENCE
	}
	return "";
}
#endif

#endif
