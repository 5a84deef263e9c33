/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The property: a translated packet is, byte for byte, the packet that would have been made with
 * the new endpoints, all its checksums computed from nothing.
 */
#include <criterion/criterion.h>

#include "common/nat/rewrite.h"
#include "tests/support/nat_packets.h"

static uint64_t state;
static struct random_source source_of_numbers;

static void seed(void)
{
	state = 0xc0ffee;
	source_of_numbers = random_seeded(&state);
}
TestSuite(rewrite, .init = seed);

static uint32_t number(uint32_t bound)
{
	return random_below(&source_of_numbers, bound);
}

/* Endpoints that meet the corners of one's complement now and then. */
static uint32_t address(void)
{
	static const uint32_t corners[] = {0x0a000001, 0xffffffff, 0x00000001, 0xffff0000,
					   0x0000ffff};
	return number(4) == 0 ? corners[number(5)] : (uint32_t)source_of_numbers.next(&state);
}

static unsigned port(void)
{
	static const unsigned corners[] = {0, 1, 0xffff, 0xfffe, 0xff00};
	return number(4) == 0 ? corners[number(5)] : number(0x10000);
}

struct ends {
	uint32_t source, destination;
	unsigned sport, dport;
};

static struct ends ends(uint8_t protocol, uint8_t type)
{
	struct ends e = {address(), address(), port(), port()};
	if (protocol == NAT_ICMP && nat_icmp_is_request(type))
		e.dport = 0;
	else if (protocol == NAT_ICMP)
		e.sport = 0;
	if (nat_protocol_by_address(protocol))
		e.sport = e.dport = 0;
	return e;
}

static void set_ends(uint8_t *ip, const struct ends *e)
{
	uint8_t *t = ip + (ip[0] & 15u) * 4;
	test_put16(ip + 12, e->source >> 16);
	test_put16(ip + 14, e->source & 0xffff);
	test_put16(ip + 16, e->destination >> 16);
	test_put16(ip + 18, e->destination & 0xffff);
	if (nat_protocol_by_address(ip[9]))
		return;
	if (ip[9] == NAT_ICMP) {
		test_put16(t + 4, nat_icmp_is_request(t[0]) ? e->sport : e->dport);
	} else {
		test_put16(t, e->sport);
		test_put16(t + 2, e->dport);
	}
}

static struct nat_rewrite rewrite_of(const struct ends *e)
{
	return (struct nat_rewrite){.source = nat_swap32(e->source),
				    .destination = nat_swap32(e->destination),
				    .source_port = nat_swap16(e->sport),
				    .destination_port = nat_swap16(e->dport)};
}

static struct test_packet random_packet(uint8_t *protocol, uint8_t *type, struct ends *e)
{
	static const uint8_t protocols[] = {NAT_TCP, NAT_UDP, NAT_ICMP, NAT_DCCP,
					    NAT_GRE, NAT_ESP, NAT_SCTP, NAT_UDPLITE};
	static const uint8_t types[] = {0, 8, 13, 14};
	*protocol = protocols[number(8)];
	*type = types[number(4)];
	*e = ends(*protocol, *type);
	struct test_packet p = test_transport(e->source, e->destination, *protocol, 4 * number(4),
					      *protocol == NAT_ICMP ? *type : number(0x10000), 0,
					      number(64), &source_of_numbers);
	if (number(8) == 0) /* few bits set: checksums near the corners */
		memset(p.data + p.header + test_header(*protocol), 0,
		       p.length - p.header - test_header(*protocol));
	set_ends(p.data, e);
	test_fill(p.data, p.length);
	return p;
}

static void translate_from(uint8_t realm, struct test_packet *p, const struct ends *to,
			   unsigned flags, bool plain)
{
	struct nat_rewrite rewrite = rewrite_of(to);
	struct nat_packet parsed;
	struct nat_slot slot;
	uint8_t *end = p->data + p->length;

	cr_assert_eq(nat_parse(p->data, end, realm, &parsed), NAT_REASON_NONE);
	nat_slot_set(&slot, &parsed.tuple, &rewrite);
	if (plain)
		cr_assert(nat_apply_plain(p->data, end, &parsed, &slot, flags));
	else
		cr_assert(nat_apply(p->data, end, &parsed, &slot, flags));
}

static void translate(struct test_packet *p, const struct ends *to, unsigned flags, bool plain)
{
	translate_from(NAT_REALM_INSIDE, p, to, flags, plain);
}

static void expect_same(const struct test_packet *have, const struct test_packet *want)
{
	for (uint32_t i = 0; i < want->length; i++)
		if (have->data[i] != want->data[i])
			cr_assert_fail("byte %u of %u (protocol %u): %02x, not %02x", i,
				       want->length, want->data[9], have->data[i], want->data[i]);
}

Test(rewrite, equals_the_packet_made_anew)
{
	for (unsigned i = 0; i < 300000; i++) {
		uint8_t protocol, type;
		struct ends from, to;
		struct test_packet p = random_packet(&protocol, &type, &from), want = p;
		unsigned flags = number(3);
		to = ends(protocol, type);
		if (number(4) == 0)
			to.source = from.source;
		if (number(4) == 0)
			to.sport = from.sport;
		set_ends(want.data, &to);
		want.data[8] = (uint8_t)(64 - (flags & NAT_TTL_DECREMENT ? 1 : 0) +
					 (flags == NAT_TTL_INCREMENT ? 1 : 0));
		test_fill(want.data, want.length);
		translate(&p, &to, flags, p.header == 20 && number(2));
		expect_same(&p, &want);
	}
}

/* There and back again is the identity: a pair's two slots undo each other. */
Test(rewrite, the_reverse_undoes_it)
{
	for (unsigned i = 0; i < 50000; i++) {
		uint8_t protocol, type;
		struct ends from, to;
		struct test_packet p = random_packet(&protocol, &type, &from), before = p;
		to = ends(protocol, type);
		translate(&p, &to, 0, false);
		translate(&p, &from, 0, false);
		expect_same(&p, &before);
	}
}

Test(rewrite, corruption_is_never_laundered)
{
	unsigned broken = 0;
	for (unsigned i = 0; i < 100000; i++) {
		uint8_t protocol, type;
		struct ends from, to;
		struct test_packet p = random_packet(&protocol, &type, &from);
		uint32_t at = number(2) ? 8 + number(4) : p.header + number(p.length - p.header);
		/* the fields that the parser needs stay what they are */
		if (at == 9 || (protocol == NAT_TCP && at == p.header + 12) ||
		    ((protocol == NAT_UDP || protocol == NAT_UDPLITE) && at >= p.header + 4 && at < p.header + 8) ||
		    (protocol == NAT_ICMP && at == p.header))
			continue;
		p.data[at] ^= (uint8_t)(1 + number(255));
		bool ip = test_ip_valid(p.data), transport = test_transport_valid(p.data, p.length);
		to = ends(protocol, type);
		translate(&p, &to, NAT_TTL_DECREMENT, false);
		cr_assert_eq(test_ip_valid(p.data), ip);
		cr_assert_eq(test_transport_valid(p.data, p.length), transport);
		broken += !ip || !transport;
	}
	cr_expect_gt(broken, 10000);
}

/* A payload word is chosen so that the new checksum is 0 of its two values. */
Test(rewrite, checksum_zero)
{
	for (unsigned i = 0; i < 20000; i++) {
		uint8_t protocol, type;
		struct ends from, to;
		struct test_packet p = random_packet(&protocol, &type, &from), want;
		uint32_t body = p.header + test_header(protocol), size = p.length - p.header;
		to = ends(protocol, type);
		if (p.length < body + 2 || !test_has_checksum(protocol) ||
		    test_coverage(p.data, p.data + p.header, size) < size)
			continue;
		want = p;
		set_ends(want.data, &to);
		test_put16(want.data + body, 0);
		test_fill(want.data, want.length);
		uint8_t *at = want.data + p.header + test_checksum_at(protocol);
		test_put16(want.data + body, test_get16(at));
		test_fill(want.data, want.length);
		cr_assert(test_get16(at) == 0 || test_get16(at) == 0xffff);
		memcpy(p.data + body, want.data + body, 2);
		test_fill(p.data, p.length);
		translate(&p, &to, 0, false);
		expect_same(&p, &want);
	}
}

Test(rewrite, an_echo_reply_of_zeros_has_checksum_ffff)
{
	struct ends from = {0x0a000001, 0x0a000002, 0, 0x1234}, to = from;
	struct test_packet p = test_ip(from.source, from.destination, NAT_ICMP, 0, 8 + 32), want;
	set_ends(p.data, &from);
	test_fill(p.data, p.length);
	to.dport = 0;
	want = p;
	set_ends(want.data, &to);
	test_fill(want.data, want.length);
	cr_assert_eq(test_get16(want.data + 22), 0xffff);
	translate(&p, &to, 0, false);
	expect_same(&p, &want);
	translate(&p, &from, 0, false);
	cr_expect(test_transport_valid(p.data, p.length));
}

Test(rewrite, udp_without_checksum_stays_without)
{
	for (unsigned i = 0; i < 1000; i++) {
		struct ends from = ends(NAT_UDP, 0), to = ends(NAT_UDP, 0);
		struct test_packet p = test_transport(from.source, from.destination, NAT_UDP, 0,
						      from.sport, from.dport, 9, NULL);
		test_put16(p.data + 26, 0);
		translate(&p, &to, 0, number(2));
		cr_assert_eq(test_get16(p.data + 26), 0);
	}
}

/* RFC 3828 section 3.1: there is none such; what is wrong stays wrong, as with any receiver. */
Test(rewrite, udplite_without_checksum_stays_what_it_is)
{
	for (unsigned i = 0; i < 1000; i++) {
		struct ends from = ends(NAT_UDPLITE, 0), to = ends(NAT_UDPLITE, 0);
		struct test_packet p =
		    test_transport(from.source, from.destination, NAT_UDPLITE, 0, i, 5, 9, NULL);
		test_put16(p.data + 26, 0);
		translate(&p, &to, 0, number(2));
		cr_assert_eq(test_get16(p.data + 26), 0);
	}
}

/* GRE, ESP, SCTP (its CRC32c covers no address): not one byte behind the IP header changes. */
Test(rewrite, sctp_gre_and_esp_keep_every_byte)
{
	static const uint8_t protocols[] = {NAT_SCTP, NAT_GRE, NAT_ESP, 4};
	for (unsigned i = 0; i < 4; i++) {
		struct ends from = ends(NAT_GRE, 0), to = ends(NAT_GRE, 0);
		struct test_packet p = test_transport(from.source, from.destination, protocols[i],
						      0, 7, 9, 30, &source_of_numbers),
				   before = p;
		translate(&p, &to, 0, false);
		cr_expect_eq(memcmp(p.data + 20, before.data + 20, p.length - 20), 0);
		cr_expect(test_ip_valid(p.data));
	}
}

/* Offload: the field is the pseudo header's sum; completing it must give the right checksum. */
Test(rewrite, partial_checksums)
{
	for (unsigned i = 0; i < 20000; i++) {
		uint8_t protocol = number(2) ? NAT_TCP : NAT_UDP;
		struct ends from = ends(protocol, 0), to = ends(protocol, 0);
		struct test_packet p = test_transport(from.source, from.destination, protocol, 0,
						      from.sport, from.dport, number(50), NULL);
		uint8_t *at = p.data + 20 + test_checksum_at(protocol);
		struct test_packet want = p;
		test_put16(at, test_pseudo(p.data, p.length - 20));
		translate(&p, &to, NAT_PARTIAL_CHECKSUM, number(2));
		unsigned sum = 0xffff - test_sum(0, p.data + 20, p.length - 20);
		test_put16(at, protocol == NAT_UDP && sum == 0 ? 0xffff : sum);
		set_ends(want.data, &to);
		test_fill(want.data, want.length);
		expect_same(&p, &want);
	}
}

Test(rewrite, ttl_never_wraps)
{
	static const uint8_t table[][3] = {{0, NAT_TTL_DECREMENT, 0},
					   {255, NAT_TTL_INCREMENT, 255},
					   {1, NAT_TTL_DECREMENT, 0},
					   {254, NAT_TTL_INCREMENT, 255},
					   {7, 0, 7}};
	for (unsigned i = 0; i < 5; i++) {
		struct ends e = {1, 2, 3, 4};
		struct test_packet p = test_transport(1, 2, NAT_UDP, 0, 3, 4, 0, NULL);
		p.data[8] = table[i][0];
		test_fill(p.data, p.length);
		translate(&p, &e, table[i][1], false);
		cr_expect_eq(p.data[8], table[i][2]);
		cr_expect(test_ip_valid(p.data));
	}
}

Test(rewrite, later_fragments_change_addresses_only)
{
	struct ends from = {0x0a000001, 0xc6336401, 0, 0}, to = {0xcb007101, 0xc6336401, 9, 9};
	struct test_packet p = test_transport(from.source, from.destination, NAT_UDP, 0, 0x1111,
					      0x2222, 16, NULL),
			   want;
	test_put16(p.data + 6, 0x00b9);
	test_fill(p.data, p.length);
	want = p;
	want.data[8] = 63;
	memcpy(want.data + 12, "\xcb\x00\x71\x01", 4);
	test_put16(want.data + 10, 0);
	test_put16(want.data + 10, 0xffff - test_sum(0, want.data, 20));
	translate(&p, &to, NAT_TTL_DECREMENT, false);
	expect_same(&p, &want);
}

/*
 * ICMP errors: the quoted packet must come out as it was before translation, all checksums that are
 * there made from nothing, the rest of the message untouched.
 */
Test(rewrite, errors_with_quotes_of_every_length)
{
	static const uint8_t types[] = {3, 11, 12};
	for (unsigned i = 0; i < 60000; i++) {
		uint8_t protocol, type;
		struct ends sent, was; /* as quoted; as it was before translation */
		struct test_packet inner = random_packet(&protocol, &type, &sent), original = inner;
		bool hides = number(2), from_remote = number(4) == 0;
		was = ends(protocol, type);
		if (!hides) { /* inbound error: the remote end is the same on both sides */
			was.destination = sent.destination;
			was.dport = protocol == NAT_ICMP ? was.dport : sent.dport;
		}
		if (protocol == NAT_UDP && number(4) == 0) {
			test_put16(inner.data + inner.header + 6, 0);
			original = inner;
		}
		set_ends(original.data, &was);
		uint32_t quoted = inner.header + 8 + number(inner.length - inner.header - 7);
		if (protocol == NAT_TCP && quoted == inner.header + 17)
			quoted++; /* half a checksum cannot be updated, and stays as it is */
		if (protocol == NAT_UDP && test_get16(inner.data + inner.header + 6) == 0) {
			test_put16(original.data + 10, 0);
			test_put16(original.data + 10,
				   0xffff - test_sum(0, original.data, original.header));
		} else {
			test_fill(original.data, original.length);
		}
		uint32_t router = from_remote ? sent.destination : address();
		uint32_t hidden = hides ? was.destination : router;
		/* RFC 4884: what follows a quote starts after 128 bytes, past all that is changed */
		uint32_t options = 4 * number(3), extra = quoted == inner.length ? 4 * number(3) : 0;
		uint8_t error = types[number(3)];
		struct test_packet p =
		    test_error(router, sent.source, error, options, &inner, quoted, extra);
		struct test_packet want =
		    test_error(hidden, was.source, error, options, &original, quoted, extra);
		/* the slot of the reverse: where the error goes */
		struct ends to = {was.destination, was.source, was.dport, was.sport};
		want.data[8] = 63;
		test_fill(want.data, want.length);
		translate_from(hides ? NAT_REALM_INSIDE : NAT_REALM_OUTSIDE, &p, &to,
			       NAT_TTL_DECREMENT, false);
		expect_same(&p, &want);
	}
}

Test(rewrite, broken_errors_stay_broken)
{
	for (unsigned i = 0; i < 20000; i++) {
		uint8_t protocol, type;
		struct ends sent, was;
		struct test_packet inner = random_packet(&protocol, &type, &sent);
		was = ends(protocol, type);
		struct test_packet p =
		    test_error(address(), sent.source, 3, 0, &inner, inner.length, 0);
		uint32_t at = 20 + number(3) + 1;
		p.data[at] ^= (uint8_t)(1 + number(255)); /* code or checksum */
		bool valid = test_transport_valid(p.data, p.length);
		struct ends to = {was.destination, was.source, was.dport, was.sport};
		translate(&p, &to, 0, false);
		cr_assert_eq(test_transport_valid(p.data, p.length), valid);
	}
}

Test(rewrite, the_answer_to_a_peek_makes_the_same_slot)
{
	struct nat_rewrite was = {
	    .source = 1, .destination = 2, .source_port = 3, .destination_port = 4, .egress = 5};
	struct nat_rewrite turned = nat_quoted_rewrite(&was);
	cr_expect(turned.source == 2 && turned.destination == 1 && turned.source_port == 4 &&
		  turned.destination_port == 3 && turned.egress == 5);
}
