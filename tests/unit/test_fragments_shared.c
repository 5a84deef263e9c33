/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fragments of one datagram at two dataplanes: two engines and one table between them, every order,
 * every way to spread them, answers at once or late. No streams here: the simulator has those.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/support/fragments_bed.h"
#include "tests/support/permutation.h"

TestSuite(fragments_shared, .init = bed_setup, .fini = bed_teardown);

/* ---- flows: one session a protocol, and its packets in both directions */

enum { HOST = 0x0a000001, SERVER = 0xc6336407 };

struct shape {
	struct nat_tuple tuple; /* of its packets as they arrive */
	struct wire_answer answer;
	uint8_t ingress;
};

static struct shape shape_of(uint8_t protocol, bool inbound, uint32_t host)
{
	struct shape shape = {.ingress = 1,
			      .tuple = {.source = htonl(host),
					.destination = htonl(SERVER),
					.source_port = htons(4000),
					.destination_port = protocol == NAT_ICMP ? 0 : htons(5000),
					.protocol = protocol,
					.realm = 1}};

	shape.answer = rig_out(&bed->rig, bed->nodes[0].dataplane, shape.tuple);
	cr_assert_eq(shape.answer.verdict, NAT_TRANSLATE);
	if (inbound) {
		shape.tuple = rig_reverse(shape.tuple, &shape.answer);
		shape.ingress = 0;
		shape.answer = rig_in(&bed->rig, bed->nodes[0].dataplane, shape.tuple);
		cr_assert_eq(shape.answer.verdict, NAT_TRANSLATE);
	}
	return shape;
}

static struct test_packet datagram_of(const struct shape *shape, uint16_t identification,
				      uint32_t payload)
{
	const struct nat_tuple *t = &shape->tuple;
	bool icmp = t->protocol == NAT_ICMP;
	unsigned a = icmp ? (shape->ingress ? 8 : 0) : ntohs(t->source_port);
	unsigned b = ntohs(icmp && shape->ingress ? t->source_port : t->destination_port);
	struct test_packet p = test_transport(ntohl(t->source), ntohl(t->destination), t->protocol,
					      0, a, b, payload, &bed->random);
	if (t->protocol == NAT_TCP)
		p.data[33] = NAT_TCP_ACK;
	test_put16(p.data + 4, identification);
	test_put16(p.data + 6, 0);
	test_fill(p.data, p.length);
	return p;
}

/* All of it came out, as one datagram, translated. Returns its identification. */
static unsigned check_out(const struct shape *shape, const struct test_packet *whole,
			  unsigned fragments, const char *what)
{
	struct test_packet got = *whole;
	uint32_t total = 0;
	int id = -1;

	cr_assert_eq(bed->n_out, fragments, "%s: %u of %u fragments came out", what, bed->n_out,
		     fragments);
	for (unsigned i = 0; i < bed->n_out; i++) {
		const uint8_t *p = bed->out[i].bytes;
		uint32_t offset = (test_get16(p + 6) & 0x1fff) * 8;
		cr_assert(test_ip_valid(p), "%s", what);
		cr_assert(id < 0 || id == (int)test_get16(p + 4), "%s: two identifications", what);
		id = (int)test_get16(p + 4);
		cr_assert(memcmp(p + 12, &shape->answer.rewrite.source, 4) == 0 &&
			      memcmp(p + 16, &shape->answer.rewrite.destination, 4) == 0,
			  "%s: the addresses", what);
		memcpy(got.data, p, 20);
		memcpy(got.data + 20 + offset, p + 20, bed->out[i].length - 20);
		total += bed->out[i].length - 20;
	}
	cr_assert_eq(total + 20, whole->length, "%s", what);
	test_put16(got.data + 2, whole->length);
	cr_assert(test_transport_valid(got.data, whole->length), "%s: the checksum", what);
	bed->n_out = 0;
	return (unsigned)id;
}

/* How the table keeps up: after each fragment, only after the last one, or by chance. */
enum pace { AT_ONCE, AT_THE_END, BY_CHANCE, PACES };

static void run_order(const struct shape *shape, unsigned n, const unsigned *order, unsigned spread,
		      enum pace pace, bool known, uint16_t identification)
{
	struct test_packet whole = datagram_of(shape, identification, 440);
	char what[128];

	snprintf(what, sizeof what,
		 "protocol %u from realm %u, %u fragments %u%u%u%u%u, spread %x, "
		 "pace %u, %s",
		 shape->tuple.protocol, shape->ingress, n, order[0], order[1], order[2], order[3],
		 order[4], spread, pace, known ? "known" : "unknown");
	for (unsigned i = 0; i < NODES; i++) {
		flowtable_clear(bed->nodes[i].flows);
		if (known)
			install(&bed->nodes[i], &shape->tuple, &shape->answer);
	}
	for (unsigned i = 0; i < n; i++) {
		feed_piece(&bed->nodes[spread >> i & 1], &whole, order[i], n, shape->ingress);
		if (pace == AT_ONCE)
			answer_all();
		else if (pace == BY_CHANCE && random_below(&bed->random, 2))
			answer_one(&bed->nodes[random_below(&bed->random, NODES)]);
	}
	answer_all();
	unsigned id = check_out(shape, &whole, n, what);
	cr_assert(shape->ingress || id == identification, "%s: from the outside it stays", what);
}

static void run_all(uint8_t protocol, bool inbound)
{
	struct shape shape = shape_of(protocol, inbound, HOST);
	unsigned runs = 0;

	for (unsigned n = 2; n <= PIECES; n++) {
		unsigned order[PIECES] = {0, 1, 2, 3, 4};
		do {
			for (unsigned spread = 0; spread < 1u << n; spread++, runs++) {
				run_order(&shape, n, order, spread, runs % PACES, runs / PACES % 2,
					  (uint16_t)runs);
				if (runs % 16 == 0)
					forget_all();
			}
		} while (next_permutation(order, n));
	}
	cr_expect_eq(runs, 2 * 4 + 6 * 8 + 24 * 16 + 120 * 32);
}

/* RFC 4787 REQ-14: in any order, both directions; each fragment to either dataplane. */
Test(fragments_shared, udp_outbound_in_every_order_and_spread)
{
	run_all(NAT_UDP, false);
}

/* RFC 4787 REQ-14 */
Test(fragments_shared, udp_inbound_in_every_order_and_spread)
{
	run_all(NAT_UDP, true);
}

/* RFC 4787 REQ-14 */
Test(fragments_shared, tcp_outbound_in_every_order_and_spread)
{
	run_all(NAT_TCP, false);
}

/* RFC 4787 REQ-14 */
Test(fragments_shared, tcp_inbound_in_every_order_and_spread)
{
	run_all(NAT_TCP, true);
}

/* RFC 4787 REQ-14 */
Test(fragments_shared, icmp_outbound_in_every_order_and_spread)
{
	run_all(NAT_ICMP, false);
}

/* RFC 4787 REQ-14 */
Test(fragments_shared, icmp_inbound_in_every_order_and_spread)
{
	run_all(NAT_ICMP, true);
}

/* RFC 6864 section 5.3.1, RFC 7857 section 10: two hosts, one number, one destination, interleaved.
 */
Test(fragments_shared, two_hosts_fragments_are_never_mixed)
{
	struct shape one = shape_of(NAT_UDP, false, HOST), two = shape_of(NAT_UDP, false, HOST + 1);

	for (unsigned spread = 0; spread < 256; spread++) {
		struct test_packet first = datagram_of(&one, 77, 440);
		struct test_packet second = datagram_of(&two, 77, 440);
		unsigned ids[2], n = 0;
		forget_all();
		for (unsigned i = 0; i < 4; i++) {
			feed_piece(&bed->nodes[spread >> i & 1], &first, 3 - i, 4, 1);
			feed_piece(&bed->nodes[spread >> (4 + i) & 1], &second, i, 4, 1);
		}
		answer_all();
		cr_assert_eq(bed->n_out, 8);
		for (unsigned i = 0; i < 8; i++) {
			unsigned id = test_get16(bed->out[i].bytes + 4);
			bool of_one =
			    memcmp(bed->out[i].bytes + 12, &one.answer.rewrite.source, 4) == 0;
			/* One external address for both: only the number tells them apart. */
			cr_assert(of_one || one.answer.rewrite.source != two.answer.rewrite.source);
			unsigned k = 0;
			while (k < n && ids[k] != id)
				k++;
			cr_assert_lt(k, 2, "a third identification");
			if (k == n)
				ids[n++] = id;
		}
		cr_assert_eq(n, 2, "spread %x: %u identifications for two datagrams", spread, n);
		bed->n_out = 0;
	}
}

/* RFC 4787 REQ-13a, RFC 6864: what the gateway cuts itself has a number of its own, too. */
Test(fragments_shared, datagrams_cut_here_get_different_numbers)
{
	bool seen[65536] = {false};
	struct shape shape = shape_of(NAT_UDP, false, HOST);

	configure_mtu(300);
	for (unsigned i = 0; i < 40; i++) {
		struct test_packet whole = datagram_of(&shape, 0, 440);
		feed(&bed->nodes[i % NODES], whole.data, whole.length, 1);
		answer_all();
		unsigned id = check_out(&shape, &whole, 2, "cut");
		cr_assert_not(seen[id], "all came with 0, and none leaves with another's");
		seen[id] = true;
	}
	/* From the outside the number stays; nobody else sends with that source. */
	struct shape back = shape_of(NAT_UDP, true, HOST);
	engine_config.mtu[1] = 300;
	configure_mtu(0);
	struct test_packet whole = datagram_of(&back, 55, 440);
	feed(&bed->nodes[0], whole.data, whole.length, 0);
	answer_all();
	cr_expect_eq(check_out(&back, &whole, 2, "inbound"), 55);
}

/* Without the table a dataplane goes on with what it sees itself, and says how often. */
Test(fragments_shared, alone_a_dataplane_numbers_itself)
{
	struct shape shape = shape_of(NAT_UDP, false, HOST);
	struct engine_counters counters;
	unsigned order[PIECES] = {2, 0, 1, 3, 4};

	for (unsigned i = 0; i < NODES; i++)
		bed->nodes[i].detached = true;
	run_order(&shape, PIECES, order, 0, AT_ONCE, true, 9);
	engine_counters(bed->nodes[0].engine, &counters);
	cr_expect_eq(counters.numbered_alone, 1);
	cr_expect_eq(counters.fragments_asked, 0);
}

/* A question that nobody answers in time: the same. */
Test(fragments_shared, a_question_without_answer_ends_alone)
{
	struct shape shape = shape_of(NAT_UDP, false, HOST);
	struct test_packet whole = datagram_of(&shape, 9, 440);
	struct wire_answer over = {.verdict = NAT_DROP, .reason = NAT_REASON_PENDING_TIMEOUT};

	install(&bed->nodes[0], &shape.tuple, &shape.answer);
	for (unsigned i = 0; i < 3; i++)
		feed_piece(&bed->nodes[0], &whole, i, 3, 1);
	cr_assert_eq(bed->n_out, 0);
	cr_assert_eq(bed->nodes[0].n, 1, "one question for three fragments");
	uint64_t datagram = bed->nodes[0].questions[0].datagram;
	engine_fragment_answer(bed->nodes[0].engine, datagram, &over, bed->rig.now);
	check_out(&shape, &whole, 3, "alone");
	/* The answer after all: of a datagram that has gone. */
	struct wire_answer late = {.verdict = NAT_TRANSLATE, .identification = 1};
	engine_fragment_answer(bed->nodes[0].engine, datagram, &late, bed->rig.now);
	cr_expect_eq(bed->n_out, 0);
}

/* RFC 4787 REQ-14: a later fragment costs one question, however many there are of its datagram. */
Test(fragments_shared, one_question_a_datagram_and_dataplane)
{
	struct shape shape = shape_of(NAT_UDP, false, HOST);
	struct test_packet whole = datagram_of(&shape, 9, 440);

	for (unsigned i = 4; i > 0; i--)
		feed_piece(&bed->nodes[1], &whole, i, 5, 1);
	cr_expect_eq(bed->nodes[1].n, 1);
	cr_expect_eq(bed->nodes[1].questions[0].op, WIRE_FRAGMENT_LATER);
	answer_all();
	cr_expect_eq(bed->n_out, 0);
	feed_piece(&bed->nodes[0], &whole, 0, 5, 1);
	answer_all();
	check_out(&shape, &whole, 5, "the first one last");
}

/* RFC 1858, RFC 3128, RFC 5722: refused to its end where it was seen, whatever the table says. */
Test(fragments_shared, a_refused_datagram_stays_refused)
{
	struct shape shape = shape_of(NAT_UDP, false, HOST);
	struct test_packet whole = datagram_of(&shape, 9, 440);
	uint8_t fragment[LENGTH_MAX];

	feed(&bed->nodes[1], fragment, cut(&whole, 176, 264, fragment), 1);
	feed(&bed->nodes[1], fragment, cut(&whole, 168, 256, fragment), 1); /* overlaps */
	feed_piece(&bed->nodes[0], &whole, 0, 5, 1);
	answer_all();
	bed->n_out = 0;
	feed(&bed->nodes[1], fragment, cut(&whole, 264, 352, fragment), 1);
	answer_all();
	cr_expect_eq(bed->n_out, 0);
}

/* Hairpinned and fragmented: the external source, and a number of ours (RFC 4787 REQ-9a). */
Test(fragments_shared, hairpinned_fragments_pass)
{
	struct shape peer = shape_of(NAT_UDP, false, HOST + 1), shape = {.ingress = 1};
	unsigned order[PIECES] = {1, 0, 2, 3, 4};

	shape.tuple = peer.tuple;
	shape.tuple.source = htonl(HOST);
	shape.tuple.destination = peer.answer.rewrite.source;
	shape.tuple.destination_port = peer.answer.rewrite.source_port;
	/* The peer's filter has to know us: it sends first. */
	struct shape own = shape_of(NAT_UDP, false, HOST);
	struct nat_tuple knock = peer.tuple;
	knock.destination = own.answer.rewrite.source;
	knock.destination_port = own.answer.rewrite.source_port;
	rig_out(&bed->rig, bed->nodes[0].dataplane, knock);
	shape.answer = rig_out(&bed->rig, bed->nodes[0].dataplane, shape.tuple);
	cr_assert_eq(shape.answer.verdict, NAT_TRANSLATE);
	run_order(&shape, 3, order, 2, AT_THE_END, false, 9);
}
