/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "common/nat/rewrite.h"
#include "tests/support/nat_packets.h"

enum { INSIDE = 0x0a010203, REMOTE = 0xc6336401, ROUTER = 0xcb007109, REALM = 3 };

static struct test_packet udp(uint32_t options)
{
	return test_transport(INSIDE, REMOTE, NAT_UDP, options, 5000, 53, 11, NULL);
}

static struct test_packet tcp(uint32_t options)
{
	return test_transport(INSIDE, REMOTE, NAT_TCP, options, 5000, 443, 7, NULL);
}

static const struct {
	char base;
	uint8_t protocol, kind;
} others[] = {{'s', NAT_SCTP, NAT_KIND_OTHER},	 {'d', NAT_DCCP, NAT_KIND_DCCP},
	      {'l', NAT_UDPLITE, NAT_KIND_UDPLITE}, {'e', NAT_ESP, NAT_KIND_OTHER},
	      {'g', NAT_GRE, NAT_KIND_OTHER}};
enum { OTHERS = sizeof others / sizeof others[0] };

static struct test_packet other(char base)
{
	for (unsigned i = 0; i < OTHERS; i++)
		if (others[i].base == base)
			return test_transport(INSIDE, REMOTE, others[i].protocol, 0, 5000, 443, 24,
					      NULL);
	cr_assert_fail("no such protocol");
	return (struct test_packet){0};
}

static struct test_packet icmp(uint8_t type)
{
	return test_transport(INSIDE, REMOTE, NAT_ICMP, 0, type, 77, 24, NULL);
}

static struct test_packet error_of(const struct test_packet *inner, uint8_t type, uint32_t quoted)
{
	return test_error(ROUTER, INSIDE, type, 0, inner, quoted, 0);
}

static unsigned parse(const struct test_packet *p, struct nat_packet *out)
{
	return nat_parse(p->data, p->data + p->length, REALM, out);
}

static bool plain(const struct test_packet *p)
{
	struct nat_packet out;
	return nat_parse_plain(p->data, p->data + p->length, REALM, &out);
}

static struct nat_tuple tuple(unsigned protocol, uint32_t source, uint32_t destination,
			      unsigned sport, unsigned dport)
{
	return (struct nat_tuple){.source = nat_swap32(source),
				  .destination = nat_swap32(destination),
				  .source_port = nat_swap16(sport),
				  .destination_port = nat_swap16(dport),
				  .protocol = (uint8_t)protocol,
				  .realm = REALM};
}

static void expect_tuple(const struct nat_packet *p, struct nat_tuple want)
{
	cr_expect(nat_tuple_equal(&p->tuple, &want));
	cr_expect_eq(p->tuple.zero, 0);
}

Test(parse, tcp_udp_and_queries)
{
	struct nat_packet p;
	struct test_packet b = udp(0);
	b.data[8] = 9;
	cr_expect_eq(parse(&b, &p), NAT_REASON_NONE);
	expect_tuple(&p, tuple(NAT_UDP, INSIDE, REMOTE, 5000, 53));
	cr_expect_eq(p.kind, NAT_KIND_UDP);
	cr_expect_eq(p.header, 20);
	cr_expect_eq(p.total, 39);
	cr_expect_eq(p.ttl, 9);
	cr_expect_eq(p.flags, NAT_PACKET_DF);
	cr_expect_eq(p.id, nat_swap16(0x1234));
	cr_expect(plain(&b));

	b = tcp(0);
	b.data[33] = NAT_TCP_SYN | NAT_TCP_ACK;
	cr_expect_eq(parse(&b, &p), NAT_REASON_NONE);
	expect_tuple(&p, tuple(NAT_TCP, INSIDE, REMOTE, 5000, 443));
	cr_expect_eq(p.tcp_flags, NAT_TCP_SYN | NAT_TCP_ACK);
	cr_expect(plain(&b));

	static const uint8_t requests[] = {8, 13}, replies[] = {0, 14};
	for (unsigned i = 0; i < 2; i++) {
		b = icmp(requests[i]);
		cr_expect_eq(parse(&b, &p), NAT_REASON_NONE);
		expect_tuple(&p, tuple(NAT_ICMP, INSIDE, REMOTE, 77, 0));
		cr_expect_eq(p.kind, NAT_KIND_QUERY);
		cr_expect(plain(&b));
		b = icmp(replies[i]);
		cr_expect_eq(parse(&b, &p), NAT_REASON_NONE);
		expect_tuple(&p, tuple(NAT_ICMP, INSIDE, REMOTE, 0, 77));
		cr_expect(plain(&b));
	}
}

Test(parse, every_icmp_type_is_query_error_or_refused)
{
	for (unsigned type = 0; type < 256; type++) {
		struct test_packet inner = udp(0);
		struct test_packet b = error_of(&inner, (uint8_t)type, inner.length);
		struct nat_packet p;
		unsigned reason = parse(&b, &p);
		bool query = nat_icmp_is_request((uint8_t)type) || nat_icmp_is_reply((uint8_t)type);
		cr_expect_eq(reason,
			     query || nat_icmp_is_error((uint8_t)type) ? NAT_REASON_NONE
								       : NAT_REASON_ICMP_TYPE,
			     "type %u", type);
		cr_expect_eq(plain(&b), query, "type %u", type);
	}
}

Test(parse, unusual_packets_are_parsed_but_not_plain)
{
	struct nat_packet p;
	for (uint32_t options = 4; options <= 40; options += 4) {
		struct test_packet b = tcp(options);
		cr_expect_eq(parse(&b, &p), NAT_REASON_NONE);
		cr_expect_eq(p.header, 20 + options);
		cr_expect_eq(p.flags, NAT_PACKET_DF | NAT_PACKET_OPTIONS);
		expect_tuple(&p, tuple(NAT_TCP, INSIDE, REMOTE, 5000, 443));
		cr_expect_not(plain(&b));
	}
	for (unsigned ttl = 0; ttl < 4; ttl++) {
		struct test_packet b = udp(0);
		b.data[8] = (uint8_t)ttl;
		cr_expect_eq(parse(&b, &p), NAT_REASON_NONE);
		cr_expect_eq(!!(p.flags & NAT_PACKET_TTL), ttl <= 1);
		cr_expect(nat_parse_plain(b.data, b.data + b.length, REALM, &p));
		cr_expect_eq(p.ttl, ttl); /* the caller decides */
		cr_expect_eq(!!(p.flags & NAT_PACKET_UNUSUAL), ttl <= 1);
	}
}

/* One field of a good packet is changed: offset, value, what it is then. */
struct change {
	char name[44];
	char base; /* u, t, i: UDP, TCP, ICMP echo */
	uint8_t at, size;
	uint16_t value;
	uint16_t reason;
};

static const struct change changes[] = {
    {"version 6", 'u', 0, 1, 0x65, NAT_REASON_NOT_IPV4},
    {"version 0", 'u', 0, 1, 0x05, NAT_REASON_NOT_IPV4},
    {"header of 16", 'u', 0, 1, 0x44, NAT_REASON_BAD_IP_HEADER},
    {"header of 0", 'u', 0, 1, 0x40, NAT_REASON_BAD_IP_HEADER},
    {"header longer than the packet", 'u', 0, 1, 0x4f, NAT_REASON_BAD_IP_HEADER},
    {"total 0", 'u', 2, 2, 0, NAT_REASON_BAD_IP_HEADER},
    {"total 19", 'u', 2, 2, 19, NAT_REASON_BAD_IP_HEADER},
    {"total without transport", 'u', 2, 2, 20, NAT_REASON_TRUNCATED},
    {"total with half a UDP header", 'u', 2, 2, 27, NAT_REASON_TRUNCATED},
    {"total one more than there is", 'u', 2, 2, 40, NAT_REASON_TRUNCATED},
    {"total 65535", 'u', 2, 2, 65535, NAT_REASON_TRUNCATED},
    {"UDP length 7", 'u', 24, 2, 7, NAT_REASON_BAD_TRANSPORT},
    {"UDP length 0", 'u', 24, 2, 0, NAT_REASON_BAD_TRANSPORT},
    {"UDP length past the end", 'u', 24, 2, 20, NAT_REASON_BAD_TRANSPORT},
    {"UDP length short of the end", 'u', 24, 2, 18, NAT_REASON_NONE},
    {"TCP data offset 4", 't', 32, 1, 0x40, NAT_REASON_BAD_TRANSPORT},
    {"TCP data offset past the end", 't', 32, 1, 0x70, NAT_REASON_BAD_TRANSPORT},
    {"TCP data offset with options", 't', 32, 1, 0x60, NAT_REASON_NONE},
    {"total with half a TCP header", 't', 2, 2, 39, NAT_REASON_TRUNCATED},
    {"total with half an ICMP header", 'i', 2, 2, 27, NAT_REASON_TRUNCATED},
    {"GRE", 'u', 9, 1, NAT_GRE, NAT_REASON_NONE},
    {"SCTP", 'u', 9, 1, NAT_SCTP, NAT_REASON_NONE},
    {"total with half an SCTP header", 's', 2, 2, 31, NAT_REASON_TRUNCATED},
    {"total with half a DCCP header", 'd', 2, 2, 31, NAT_REASON_TRUNCATED},
    {"total with half a UDP-Lite header", 'l', 2, 2, 27, NAT_REASON_TRUNCATED},
    {"total with half an ESP header", 'e', 2, 2, 27, NAT_REASON_TRUNCATED},
    {"total with half a GRE header", 'g', 2, 2, 23, NAT_REASON_TRUNCATED},
    {"GRE without payload", 'g', 2, 2, 24, NAT_REASON_NONE},
    {"UDP-Lite's coverage is not looked at", 'l', 24, 2, 60000, NAT_REASON_NONE},
    {"evil bit", 'u', 6, 2, 0x8000, NAT_REASON_NONE},
    {"fragment, more, not of eight", 'u', 6, 2, 0x2000, NAT_REASON_FRAGMENT_MALFORMED},
    {"last fragment", 'u', 6, 2, 0x0001, NAT_REASON_NONE},
    {"TCP fragment at 8 (RFC 1858)", 't', 6, 2, 0x0001, NAT_REASON_FRAGMENT_MALFORMED},
    {"TCP fragment at 16", 't', 6, 2, 0x0002, NAT_REASON_NONE},
    {"end past 65535 (ping of death)", 'i', 6, 2, 0x1fff, NAT_REASON_FRAGMENT_MALFORMED},
    {"GRE fragment", 'g', 6, 2, 0x0001, NAT_REASON_NONE},
};

Test(parse, bad_fields_have_their_reasons)
{
	for (unsigned i = 0; i < sizeof changes / sizeof changes[0]; i++) {
		const struct change *c = &changes[i];
		struct test_packet b = c->base == 'u'	? udp(0)
				       : c->base == 't' ? tcp(0)
				       : c->base == 'i' ? icmp(8)
							: other(c->base);
		struct nat_packet p;
		if (c->size == 1)
			b.data[c->at] = (uint8_t)c->value;
		else
			test_put16(b.data + c->at, c->value);
		unsigned reason = parse(&b, &p);
		cr_expect_eq(reason, c->reason, "%s: %s", c->name, nat_reason_name(reason));
		bool fragment = c->at == 6 && c->value & 0x3fff;
		cr_expect_eq(plain(&b), c->reason == NAT_REASON_NONE && !fragment, "%s", c->name);
	}
}

/* By address only: nothing in these headers is a port. Errors about them, fragments of them too. */
Test(parse, protocols_by_address)
{
	for (unsigned i = 0; i < OTHERS; i++) {
		struct test_packet b = other(others[i].base);
		struct nat_packet p;
		struct nat_tuple want = tuple(others[i].protocol, INSIDE, REMOTE, 0, 0);

		cr_expect(plain(&b));
		cr_expect_eq(parse(&b, &p), NAT_REASON_NONE);
		cr_expect_eq(p.kind, others[i].kind);
		expect_tuple(&p, want);

		struct test_packet error = error_of(&b, 11, 28);
		cr_expect_eq(parse(&error, &p), NAT_REASON_NONE);
		cr_expect_eq(p.kind, NAT_KIND_ERROR);
		expect_tuple(&p, tuple(others[i].protocol, REMOTE, INSIDE, 0, 0));

		test_put16(b.data + 6, 2); /* a later fragment */
		cr_expect_not(plain(&b));
		cr_expect_eq(parse(&b, &p), NAT_REASON_NONE);
		cr_expect_eq(p.kind, NAT_KIND_FRAGMENT);
		expect_tuple(&p, want);
	}
}

/* What nobody translates is parsed all the same: it may be on its way past the translation. */
Test(parse, unknown_protocols_are_not_for_the_hit_path)
{
	struct test_packet b = other('g');
	struct nat_packet p;

	for (unsigned protocol = 0; protocol < 256; protocol++) {
		b.data[9] = (uint8_t)protocol;
		if (nat_protocol_by_port(b.data[9]) || nat_protocol_by_address(b.data[9]))
			continue;
		cr_expect_not(plain(&b));
		cr_expect_eq(parse(&b, &p), NAT_REASON_NONE);
		cr_expect_eq(p.kind, NAT_KIND_OTHER);
		expect_tuple(&p, tuple(protocol, INSIDE, REMOTE, 0, 0));
	}
}

Test(parse, fragments)
{
	struct nat_packet p;
	struct test_packet b = test_transport(INSIDE, REMOTE, NAT_UDP, 0, 5000, 53, 16, NULL);
	test_put16(b.data + 6, 0x2000);
	test_put16(b.data + 24, 3000); /* the datagram's, not the fragment's */
	cr_expect_eq(parse(&b, &p), NAT_REASON_NONE);
	cr_expect_eq(p.kind, NAT_KIND_UDP);
	cr_expect_eq(p.flags, NAT_PACKET_FRAGMENT | NAT_PACKET_MORE);
	expect_tuple(&p, tuple(NAT_UDP, INSIDE, REMOTE, 5000, 53));

	test_put16(b.data + 6, 0x2000 | 185);
	cr_expect_eq(parse(&b, &p), NAT_REASON_NONE);
	cr_expect_eq(p.kind, NAT_KIND_FRAGMENT);
	cr_expect_eq(p.fragment_offset, 1480);
	expect_tuple(&p, tuple(NAT_UDP, INSIDE, REMOTE, 0, 0));

	b = test_ip(INSIDE, REMOTE, NAT_TCP, 0, 16); /* RFC 1858: flags in the first fragment */
	test_put16(b.data + 6, 0x2000);
	cr_expect_eq(parse(&b, &p), NAT_REASON_FRAGMENT_MALFORMED);
	b = test_ip(INSIDE, REMOTE, NAT_UDP, 0, 0);
	test_put16(b.data + 6, 0x0004);
	cr_expect_eq(parse(&b, &p), NAT_REASON_FRAGMENT_MALFORMED);
}

Test(parse, errors_have_the_reverse_tuple_of_what_they_quote)
{
	static const uint8_t types[] = {3, 11, 12};
	for (unsigned i = 0; i < 3; i++)
		for (uint32_t options = 0; options <= 40; options += 20) {
			struct test_packet inner = tcp(options), b;
			struct nat_packet p;
			for (uint32_t quoted = 28 + options; quoted <= inner.length; quoted++) {
				b = error_of(&inner, types[i], quoted);
				cr_assert_eq(parse(&b, &p), NAT_REASON_NONE);
				cr_assert_eq(p.kind, NAT_KIND_ERROR);
				cr_assert(p.flags & NAT_PACKET_ERROR);
				cr_assert_eq(p.quote, 28);
				cr_assert_eq(p.quote_header, 20 + options);
				cr_assert_eq(p.quote_transport, quoted - options - 20);
				expect_tuple(&p, tuple(NAT_TCP, REMOTE, INSIDE, 443, 5000));
				cr_assert_eq(nat_check_error(b.data, &p), NAT_REASON_NONE);
				struct nat_tuple own = nat_quoted_tuple(&p);
				struct nat_tuple want = tuple(NAT_TCP, INSIDE, REMOTE, 5000, 443);
				cr_assert(nat_tuple_equal(&own, &want));
			}
			for (uint32_t quoted = 0; quoted < 28 + options; quoted++) {
				b = error_of(&inner, types[i], quoted);
				cr_assert_eq(parse(&b, &p), NAT_REASON_BAD_EMBEDDED);
			}
		}
	struct test_packet inner = icmp(8), b = error_of(&inner, 11, 28);
	struct nat_packet p;
	cr_expect_eq(parse(&b, &p), NAT_REASON_NONE);
	expect_tuple(&p, tuple(NAT_ICMP, REMOTE, INSIDE, 0, 77));
	inner = icmp(14);
	b = error_of(&inner, 3, 28);
	cr_expect_eq(parse(&b, &p), NAT_REASON_NONE);
	expect_tuple(&p, tuple(NAT_ICMP, REMOTE, INSIDE, 77, 0));
}

Test(parse, errors_with_useless_quotes)
{
	struct test_packet inner = udp(0), nested, b;
	struct nat_packet p;

	nested = error_of(&inner, 3, 28);
	nested = test_error(INSIDE, REMOTE, 3, 0, &inner, 28, 0);
	b = error_of(&nested, 3, nested.length);
	cr_expect_eq(parse(&b, &p), NAT_REASON_BAD_EMBEDDED, "an error about an error");
	test_put16(inner.data + 6, 0x0010);
	b = error_of(&inner, 11, 28);
	cr_expect_eq(parse(&b, &p), NAT_REASON_BAD_EMBEDDED, "a later fragment");
	inner = udp(0);
	inner.data[0] = 0x44;
	b = error_of(&inner, 11, 28);
	cr_expect_eq(parse(&b, &p), NAT_REASON_BAD_EMBEDDED, "a short quoted header");
	inner = udp(0);
	inner.data[0] = 0x65;
	b = error_of(&inner, 11, 28);
	cr_expect_eq(parse(&b, &p), NAT_REASON_BAD_EMBEDDED, "IPv6");
	inner = udp(0);
	test_put16(inner.data + 2, 27);
	b = error_of(&inner, 11, 28);
	cr_expect_eq(parse(&b, &p), NAT_REASON_BAD_EMBEDDED, "total length too short");
	inner = udp(0);
	b = test_error(ROUTER, INSIDE + 1, 11, 0, &inner, 28, 0);
	cr_expect_eq(parse(&b, &p), NAT_REASON_BAD_EMBEDDED, "sent to another than the sender");
}

Test(parse, broken_errors_are_found)
{
	struct test_packet inner = udp(0), b = error_of(&inner, 3, inner.length);
	struct nat_packet p;

	b.data[60] ^= 1;
	cr_assert_eq(parse(&b, &p), NAT_REASON_NONE);
	cr_expect_eq(nat_check_error(b.data, &p), NAT_REASON_BAD_ICMP_CHECKSUM);
	inner.data[10] ^= 1;
	b = error_of(&inner, 3, inner.length);
	cr_assert_eq(parse(&b, &p), NAT_REASON_NONE);
	cr_expect_eq(nat_check_error(b.data, &p), NAT_REASON_BAD_EMBEDDED);
	inner = udp(0);
	inner.data[26] ^= 1; /* RFC 5508 REQ-3c: the quoted UDP checksum is not looked at */
	b = error_of(&inner, 3, inner.length);
	cr_assert_eq(parse(&b, &p), NAT_REASON_NONE);
	cr_expect_eq(nat_check_error(b.data, &p), NAT_REASON_NONE);
}

/* In memory of exactly that size, so that the address sanitizer sees any byte read past it. */
static void cut(const struct test_packet *b, bool adjust)
{
	for (uint32_t n = 0; n <= b->length; n++) {
		uint8_t *data = malloc(n ? n : 1);
		struct nat_packet p, hit;
		memcpy(data, b->data, n);
		if (adjust && n >= 4)
			test_put16(data + 2, n);
		unsigned reason = nat_parse(data, data + n, REALM, &p);
		bool is_plain = nat_parse_plain(data, data + n, REALM, &hit);
		if (n < b->length && !adjust)
			cr_assert_eq(reason, NAT_REASON_TRUNCATED, "%u bytes: %s", n,
				     nat_reason_name(reason));
		if (n < b->length && !adjust)
			cr_assert_not(is_plain);
		if (is_plain)
			cr_assert_eq(memcmp(&p.tuple, &hit.tuple, sizeof p.tuple), 0);
		if (reason == NAT_REASON_NONE) {
			struct nat_rewrite rewrite = {.source = 1, .destination = 2};
			struct nat_slot slot;
			nat_slot_set(&slot, &p.tuple, &rewrite);
			if (p.kind == NAT_KIND_ERROR)
				nat_check_error(data, &p);
			cr_assert(nat_apply(data, data + n, &p, &slot, NAT_TTL_DECREMENT));
		}
		free(data);
	}
}

Test(parse, truncated_at_every_length)
{
	for (uint32_t options = 0; options <= 40; options += 8)
		for (unsigned adjust = 0; adjust < 2; adjust++) {
			struct test_packet b = udp(options), inner = tcp(options);
			cut(&b, adjust);
			cut(&inner, adjust);
			b = test_error(ROUTER, INSIDE, 11, options, &inner, inner.length, 12);
			cut(&b, adjust);
			inner = icmp(8);
			cut(&inner, adjust);
		}
}

Test(parse, noise_never_reads_past_the_end)
{
	uint64_t state = 17;
	struct random_source random = random_seeded(&state);

	for (unsigned i = 0; i < 200000; i++) {
		uint32_t n = random_below(&random, 140);
		struct test_packet inner = tcp(0);
		struct test_packet b = error_of(&inner, 3, inner.length);
		uint8_t *data = malloc(n + 1);
		memcpy(data, b.data, n);
		for (unsigned k = random_below(&random, 6); n && k > 0; k--)
			data[random_below(&random, n)] = (uint8_t)random.next(&state);
		if (n >= 4 && random_below(&random, 2))
			test_put16(data + 2, n);
		struct nat_packet p, hit;
		bool is_plain = nat_parse_plain(data, data + n, REALM, &hit);
		unsigned reason = nat_parse(data, data + n, REALM, &p);
		if (is_plain) { /* two readings of one packet */
			cr_assert_eq(reason, NAT_REASON_NONE);
			cr_assert_eq(memcmp(&p, &hit, sizeof p), 0);
		}
		if (reason == NAT_REASON_NONE) {
			struct nat_rewrite rewrite = {.source = 1, .destination = 2};
			struct nat_slot slot;
			nat_slot_set(&slot, &p.tuple, &rewrite);
			cr_assert(nat_apply(data, data + n, &p, &slot, NAT_TTL_INCREMENT));
		}
		free(data);
	}
}

Test(parse, addresses_that_are_no_endpoints)
{
	static const struct {
		uint32_t address;
		bool unusable;
	} table[] = {{0, true},           {0x00ffffff, true},  {0x01000000, false},
		     {0x7f000001, true},  {0x80000000, false}, {0xa9fe0001, true},
		     {0xa9fd0001, false}, {0xdfffffff, false}, {0xe0000001, true},
		     {0xf0000000, true},  {0xffffffff, true},  {0x0a000001, false}};
	for (unsigned i = 0; i < sizeof table / sizeof table[0]; i++)
		cr_expect_eq(nat_address_unusable(nat_swap32(table[i].address)), table[i].unusable,
			     "%08x", table[i].address);
}
