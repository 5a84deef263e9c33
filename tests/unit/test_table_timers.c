/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every timer, by a clock that the test moves, with table and caches together: no session ends before
 * its timer, none stays after it. Packets out pass one dataplane, packets in another.
 *
 * A walk is a line of words. "o": a packet leaves, by dataplane 1; "i": one comes in, by dataplane
 * 2; "e": an ICMP error about the flow comes in. TCP flags follow: S, A, F, R. "x" before one says
 * that it is dropped; without it, it must pass. "m" before an "o": by dataplane 3, moved there by
 * the routers. +s: so many seconds in which nothing is seen.
 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/cluster.h"

struct walk {
	char why[48]; /* the requirement */
	unsigned protocol, port;
	bool inbound_off;
	char line[100];
};

static struct cluster cluster;

static uint8_t flags_of(const char *letters)
{
	uint8_t flags = 0;
	for (; *letters; letters++)
		flags |= *letters == 'S'   ? NAT_TCP_SYN
			 : *letters == 'A' ? NAT_TCP_ACK
			 : *letters == 'F' ? NAT_TCP_FIN
					   : NAT_TCP_RST;
	return flags;
}

static void go(const struct walk *walk)
{
	struct nat_tuple out =
	    tuple_of(walk->protocol, 1, "10.0.0.1", 5000, "198.51.100.1", walk->port);
	struct nat_tuple outside = {0}, in = {0};
	char words[128];

	snprintf(words, sizeof words, "%s", walk->line);
	for (char *save, *word = strtok_r(words, " ", &save); word;
	     word = strtok_r(NULL, " ", &save)) {
		if (*word == '+') {
			cluster_pass(&cluster, (int64_t)(atof(word + 1) * 1000));
			continue;
		}
		const char *letter = word;
		bool dropped = *letter == 'x';
		letter += dropped;
		bool moved = *letter == 'm';
		letter += moved;
		uint8_t flags = flags_of(letter + 1);
		unsigned reason;
		if (*letter == 'o')
			reason = cluster_packet(&cluster, moved ? 2 : 0, out, flags, &outside);
		else if (*letter == 'i')
			reason = cluster_packet(&cluster, moved ? 2 : 1, in, flags, NULL);
		else
			reason = cluster_error(&cluster, 1, in);
		cr_assert_eq(reason != 0, dropped, "%s: \"%s\": %s: %s", walk->why, walk->line, word,
			     nat_reason_name(reason));
		if (*letter == 'o' && !reason) {
			in = outside;
			in.source = outside.destination;
			in.source_port = outside.destination_port;
			in.destination = outside.source;
			in.destination_port = outside.source_port;
			in.realm = NAT_REALM_OUTSIDE;
		}
	}
}

ParameterizedTestParameters(table_timers, are_kept)
{
	static struct walk rows[] = {
	    {"RFC 4787 REQ-5", NAT_UDP, 80, false, "o +118 i"},
	    {"RFC 4787 REQ-5c", NAT_UDP, 80, false, "o +295 i"},
	    {"RFC 4787 REQ-5c: and gone", NAT_UDP, 80, false, "o +302 xi"},
	    {"RFC 4787 REQ-6", NAT_UDP, 80, false, "o +100 o +215 i"},
	    {"RFC 4787 REQ-6", NAT_UDP, 80, true, "o +100 o +215 i"},
	    {"RFC 4787 REQ-6: by each dataplane", NAT_UDP, 80, true, "o +200 mo +200 o +200 mo +295 i"},
	    {"RFC 4787 REQ-6: and gone", NAT_UDP, 80, true, "o +100 o +302 xi"},
	    {"RFC 4787 REQ-6a: inbound on", NAT_UDP, 80, false, "o +200 i +200 i +295 i +302 xi"},
	    {"RFC 4787 REQ-6a: inbound off", NAT_UDP, 80, true, "o +200 i +95 i +7 xi"},
	    {"RFC 4787 REQ-12", NAT_UDP, 80, false, "o +200 e +95 i"},
	    {"RFC 4787 REQ-12: keeps nothing", NAT_UDP, 80, false, "o +200 e +90 e +12 xi"},
	    {"RFC 4787 REQ-5a", NAT_UDP, 53, false, "o +28 i"},
	    {"RFC 4787 REQ-5a: and gone", NAT_UDP, 53, false, "o +32 xi"},
	    {"RFC 5508 REQ-2", NAT_ICMP, 0, false, "o +58 i"},
	    {"RFC 5508 REQ-2: and gone", NAT_ICMP, 0, false, "o +62 xi"},
	    {"RFC 5508 REQ-6", NAT_ICMP, 0, false, "o +50 e +8 i"},
	    {"RFC 5508 REQ-6: keeps nothing", NAT_ICMP, 0, false, "o +50 e +12 xi"},
	    {"RFC 5382 REQ-5: half-open", NAT_TCP, 80, false, "oS +236 iSA"},
	    {"RFC 5382 REQ-5: and gone", NAT_TCP, 80, false, "oS +242 xiSA"},
	    {"RFC 5382 REQ-5: retransmitted SYN", NAT_TCP, 80, false, "oS +100 oS +236 iSA"},
	    {"RFC 5382 REQ-5: closed by both", NAT_TCP, 80, false, "oS iSA oA oFA iFA oA +236 iA"},
	    {"RFC 5382 REQ-5: and gone", NAT_TCP, 80, false, "oS iSA oA oFA iFA oA +242 xiA"},
	    {"RFC 5382 REQ-5: established", NAT_TCP, 80, false, "oS iSA oA +7436 iA"},
	    {"RFC 5382 REQ-5: and gone", NAT_TCP, 80, false, "oS iSA oA +7442 xiA"},
	    {"RFC 5382 REQ-5: half-closed", NAT_TCP, 80, false, "oS iSA oA oFA iA +7436 iA +7436 iFA"},
	    {"RFC 5382 REQ-2: moved in the middle", NAT_TCP, 80, false, "oS iSA oA +7000 moA +7436 iA"},
	    {"RFC 5382 REQ-10", NAT_TCP, 80, false, "oS iSA oA e +7436 iA"},
	    {"RFC 7857 2.2", NAT_TCP, 80, false, "oS iSA oA +100 iR +236 oA"},
	    {"RFC 7857 2.2: outbound", NAT_TCP, 80, false, "oS iSA oA +100 oR +236 iA"},
	    {"RFC 7857 2.2: and gone", NAT_TCP, 80, false, "oS iSA oA +100 iR +242 xoA"},
	    {"RFC 7857 2.2: unless packets come", NAT_TCP, 80, false, "oS iSA oA +100 iR +5 oA +7436 iA"},
	    {"RFC 7857 2.2: quiet but alive", NAT_TCP, 80, false, "oS iSA oA +9 iR +230 iA +7436 iA"},
	    {"RFC 7857 2.2: forged twice", NAT_TCP, 80, false,
	     "oS iSA oA +9 iR +5 oA +300 iR +230 oA +7436 iA"},
	    {"RFC 7857 7.1", NAT_TCP, 80, false, "oS iSA oA +9 iR +200 oR +42 xiA"},
	    {"RFC 7857 7.1: asked about", NAT_TCP, 80, false, "oS iSA oA +9 iR +200 moR +42 xiA"},
	    {"RFC 5382 REQ-2: reopened", NAT_TCP, 80, false,
	     "oS iSA oA oFA iFA oA +60 oS iSA oA +7436 iA"},
	    {"RFC 5382 REQ-2: reopened elsewhere", NAT_TCP, 80, false,
	     "oS iSA oA oFA iFA oA +60 moS iSA moA +7436 iA"},
	    {"RFC 5382 REQ-2: reopened after RST", NAT_TCP, 80, false,
	     "oS iSA oA iR +60 oS iSA oA +7436 iA"},
	};
	return cr_make_param_array(struct walk, rows, sizeof rows / sizeof rows[0]);
}

ParameterizedTest(struct walk *walk, table_timers, are_kept)
{
	rig_config(&cluster.rig);
	cluster.rig.config.inbound_refresh = !walk->inbound_off;
	cluster_start(&cluster, 3);
	go(walk);
	cluster_stop(&cluster);
}

/* A reload that makes timers longer is for sessions that are there, too, also while they are asked. */
Test(table_timers, longer_timers_hold_at_once)
{
	char error[256];

	rig_config(&cluster.rig);
	cluster.rig.config.timers.udp = 100000;
	cluster_start(&cluster, 1);
	struct nat_tuple out = tuple_of(NAT_UDP, 1, "10.0.0.1", 5000, "198.51.100.1", 80);
	cr_assert_eq(cluster_packet(&cluster, 0, out, 0, NULL), 0);
	cluster_pass(&cluster, 30000);
	cr_assert_eq(cluster_packet(&cluster, 0, out, 0, NULL), 0);
	/* An EXPIRE by the old timer is under way when the new configuration comes. */
	cluster_pass(&cluster, 95000);
	uint64_t asked = rig_counters(&cluster.rig).expire_asked;
	for (unsigned i = 0; i < 120 && rig_counters(&cluster.rig).expire_asked == asked; i++) {
		cluster.rig.now = monotime_add_ms(cluster.rig.now, 50);
		table_tick(cluster.rig.table, cluster.rig.now);
	}
	cr_assert_eq(rig_counters(&cluster.rig).expire_asked, asked + 1);
	cluster.rig.config.timers.udp = 300000;
	cluster.rig.config.generation = 2;
	cr_assert_eq(table_reload(cluster.rig.table, &cluster.rig.config, cluster.rig.now, error,
				  sizeof error),
		     0);
	cluster_pass(&cluster, 100);
	cr_expect_eq(flowtable_pairs(cluster.dataplanes[0].flows), 0, "idle, as asked");
	cluster_pass(&cluster, 195000);
	cr_expect_eq(rig_counters(&cluster.rig).sessions, 1, "300 s after the packet");
	cluster_pass(&cluster, 6000);
	cr_expect_eq(rig_counters(&cluster.rig).sessions, 0);
	cluster_stop(&cluster);
}
