/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of RFC 6887: what is read, what is refused and how, what is answered. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <arpa/inet.h>
#include <string.h>

#include "tablesvc/pcp.h"

enum { HEADER = 24, MAP = 60, PEER = 80 };

static nat_be32 ip(const char *text)
{
	nat_be32 address;
	cr_assert_eq(inet_pton(AF_INET, text, &address), 1);
	return address;
}

static void put_mapped(uint8_t *at, const char *address)
{
	nat_be32 value = ip(address);
	memset(at, 0, 10);
	at[10] = at[11] = 0xff;
	memcpy(at + 12, &value, 4);
}

/* A request from 10.0.0.1 for UDP port 5000, one hour. */
static size_t request_of(unsigned opcode, uint8_t out[PCP_MESSAGE_MAX])
{
	memset(out, 0, PCP_MESSAGE_MAX);
	out[0] = PCP_VERSION;
	out[1] = (uint8_t)opcode;
	out[6] = 3600 >> 8;
	out[7] = 3600 & 255;
	put_mapped(out + 8, "10.0.0.1");
	if (opcode == PCP_ANNOUNCE)
		return HEADER;
	memcpy(out + 24, "nonce-of-12b", 12);
	out[36] = NAT_UDP;
	out[40] = 5000 >> 8;
	out[41] = 5000 & 255;
	put_mapped(out + 44, "0.0.0.0");
	if (opcode == PCP_MAP)
		return MAP;
	out[60] = 0x1f; /* 8080 */
	out[61] = 0x90;
	put_mapped(out + 64, "198.51.100.10");
	return PEER;
}

Test(pcp, reads_a_map_request)
{
	uint8_t bytes[PCP_MESSAGE_MAX];
	struct pcp_request r;
	size_t n = request_of(PCP_MAP, bytes);
	bytes[42] = 0x9c; /* 40000 */
	bytes[43] = 0x40;
	put_mapped(bytes + 44, "192.0.2.1");
	cr_assert_eq(pcp_parse(bytes, n, ip("10.0.0.1"), &r), PCP_SUCCESS);
	cr_expect_eq(r.opcode, PCP_MAP);
	cr_expect_eq(r.lifetime_s, 3600);
	cr_expect_eq(r.protocol, NAT_UDP);
	cr_expect_eq(r.internal_port, htons(5000));
	cr_expect_eq(r.suggested.port, htons(40000));
	cr_expect_eq(r.suggested.address, ip("192.0.2.1"));
	cr_expect_eq(memcmp(r.nonce, "nonce-of-12b", 12), 0);
	cr_expect_not(r.prefer_failure || r.suggests_ipv6);
}

Test(pcp, reads_a_peer_request)
{
	uint8_t bytes[PCP_MESSAGE_MAX];
	struct pcp_request r;
	size_t n = request_of(PCP_PEER, bytes);
	cr_assert_eq(pcp_parse(bytes, n, ip("10.0.0.1"), &r), PCP_SUCCESS);
	cr_expect_eq(r.remote.port, htons(8080));
	cr_expect_eq(r.remote.address, ip("198.51.100.10"));
}

/* One byte, or a run of them, of a good request is changed; and what comes of it. */
struct refusal {
	char what[64];
	uint8_t opcode;
	int length; /* 0 = as it is */
	unsigned at, n;
	uint8_t bytes[16];
	int result;
};

ParameterizedTestParameters(pcp, refuses)
{
	/* RFC 6887 section 8.2, in its order of checks */
	static struct refusal rows[] = {
	    {"one byte", PCP_MAP, 1, 0, 0, {0}, PCP_SILENCE},
	    {"an answer", PCP_MAP, 0, 1, 1, {0x81}, PCP_SILENCE},
	    {"half a header", PCP_MAP, 20, 0, 0, {0}, PCP_SILENCE},
	    {"NAT-PMP (section 9)", PCP_MAP, 2, 0, 1, {0}, PCP_UNSUPP_VERSION},
	    {"version 3", PCP_MAP, 0, 0, 1, {3}, PCP_UNSUPP_VERSION},
	    {"a length that is no multiple of four", PCP_MAP, 61, 0, 0, {0},
	     PCP_MALFORMED_REQUEST},
	    {"too long", PCP_MAP, 1104, 0, 0, {0}, PCP_MALFORMED_REQUEST},
	    {"MAP too short", PCP_MAP, 56, 0, 0, {0}, PCP_MALFORMED_REQUEST},
	    {"PEER too short", PCP_PEER, 76, 0, 0, {0}, PCP_MALFORMED_REQUEST},
	    {"another client's address", PCP_MAP, 0, 23, 1, {2}, PCP_ADDRESS_MISMATCH},
	    {"an IPv6 client", PCP_MAP, 0, 8, 1, {0x20}, PCP_ADDRESS_MISMATCH},
	    {"opcode 3", PCP_MAP, 0, 1, 1, {3}, PCP_UNSUPP_OPCODE},
	    {"a port without protocol", PCP_MAP, 0, 36, 1, {0}, PCP_MALFORMED_REQUEST},
	    {"PEER to nobody", PCP_PEER, 0, 60, 2, {0, 0}, PCP_MALFORMED_REQUEST},
	    {"PEER to loopback", PCP_PEER, 0, 76, 1, {127}, PCP_MALFORMED_REQUEST},
	    {"PEER to IPv6", PCP_PEER, 0, 64, 1, {0x20}, PCP_MALFORMED_REQUEST},
	    {"an option that must be understood", PCP_MAP, 64, 60, 4, {1, 0, 0, 0},
	     PCP_UNSUPP_OPTION},
	    {"FILTER, which is not supported", PCP_MAP, 84, 60, 4, {3, 0, 0, 20},
	     PCP_UNSUPP_OPTION},
	    {"an option longer than the message", PCP_MAP, 64, 60, 4, {0x81, 0, 0, 1},
	     PCP_MALFORMED_OPTION},
	    {"an option of absurd length", PCP_MAP, 64, 60, 4, {0x81, 0, 0xff, 0xff},
	     PCP_MALFORMED_OPTION},
	    {"PREFER_FAILURE without a port", PCP_MAP, 64, 60, 4, {2, 0, 0, 0},
	     PCP_MALFORMED_OPTION},
	    {"PREFER_FAILURE in a PEER", PCP_PEER, 84, 80, 4, {2, 0, 0, 0}, PCP_MALFORMED_OPTION},
	    {"what is optional may be unknown", PCP_MAP, 64, 60, 4, {0x81, 0, 0, 0}, PCP_SUCCESS},
	    {"an IPv6 suggestion is only a hint", PCP_MAP, 0, 44, 1, {0x20}, PCP_SUCCESS},
	};
	return cr_make_param_array(struct refusal, rows, sizeof rows / sizeof rows[0]);
}

ParameterizedTest(struct refusal *row, pcp, refuses)
{
	uint8_t bytes[PCP_MESSAGE_MAX + 8] = {0}, out[PCP_MESSAGE_MAX];
	struct pcp_request r;
	size_t n = request_of(row->opcode, bytes);

	memcpy(bytes + row->at, row->bytes, row->n);
	if (row->length)
		n = (size_t)row->length;
	int result = pcp_parse(bytes, n, ip("10.0.0.1"), &r);
	cr_expect_eq(result, row->result, "%s: %d", row->what, result);
	if (result <= 0)
		return;
	/* RFC 6887 section 8.2: the request comes back, padded, with R bit and result. */
	struct nat_endpoint none = {0};
	size_t length = pcp_answer(bytes, n, &r, (unsigned)result,
				   pcp_error_lifetime((unsigned)result), 7, &none, out);
	cr_expect_eq(length % 4, 0, "%s", row->what);
	cr_expect_leq(length, PCP_MESSAGE_MAX);
	cr_expect_eq(out[0], PCP_VERSION);
	cr_expect_eq(out[1], (bytes[1] | 0x80));
	cr_expect_eq(out[3], result);
	cr_expect_eq(out[11], 7, "epoch");
	if (n > HEADER && n < PCP_MESSAGE_MAX)
		cr_expect_eq(memcmp(out + HEADER, bytes + HEADER, n - HEADER), 0, "%s", row->what);
}

Test(pcp, insists_when_asked_to)
{
	/* RFC 6887 section 13.2 */
	uint8_t bytes[PCP_MESSAGE_MAX], out[PCP_MESSAGE_MAX];
	struct pcp_request r;
	size_t n = request_of(PCP_MAP, bytes);
	bytes[43] = 80;
	bytes[n] = 2;
	n += 4;
	cr_assert_eq(pcp_parse(bytes, n, ip("10.0.0.1"), &r), PCP_SUCCESS);
	cr_expect(r.prefer_failure);
	struct nat_endpoint external = {.address = ip("192.0.2.1"), .port = htons(80)};
	cr_expect_eq(pcp_answer(bytes, n, &r, PCP_SUCCESS, 120, 0, &external, out), MAP + 4,
		     "a processed option is in the answer");
	cr_expect_eq(out[MAP], 2);
	bytes[n] = 2; /* twice */
	cr_expect_eq(pcp_parse(bytes, n + 4, ip("10.0.0.1"), &r), PCP_MALFORMED_OPTION);
}

Test(pcp, answers_with_the_assigned_endpoint)
{
	uint8_t bytes[PCP_MESSAGE_MAX], out[PCP_MESSAGE_MAX], mapped[16];
	struct nat_endpoint external = {.address = ip("192.0.2.9"), .port = htons(4096)};
	struct pcp_request r;
	size_t n = request_of(PCP_PEER, bytes);
	bytes[37] = 0xee; /* reserved: never sent back */
	cr_assert_eq(pcp_parse(bytes, n, ip("10.0.0.1"), &r), PCP_SUCCESS);
	cr_expect_eq(pcp_answer(bytes, n, &r, PCP_SUCCESS, 0x01020304, 0x0a0b0c0d, &external, out),
		     PEER);
	cr_expect_eq(out[1], 0x82);
	cr_expect_eq(out[3], PCP_SUCCESS);
	cr_expect_eq(memcmp(out + 4, "\1\2\3\4\12\13\14\15", 8), 0, "lifetime, epoch");
	cr_expect_eq(memcmp(out + 24, bytes + 24, 13), 0, "nonce and protocol");
	cr_expect_eq(out[37], 0);
	cr_expect_eq(memcmp(out + 40, bytes + 40, 2), 0, "internal port");
	cr_expect_eq(memcmp(out + 42, "\20\0", 2), 0, "external port");
	put_mapped(mapped, "192.0.2.9");
	cr_expect_eq(memcmp(out + 44, mapped, 16), 0, "external address");
	cr_expect_eq(memcmp(out + 64, bytes + 64, 16), 0, "remote peer");
}

Test(pcp, announces)
{
	/* RFC 6887 section 14.1.3 */
	uint8_t bytes[PCP_MESSAGE_MAX], out[PCP_MESSAGE_MAX];
	struct pcp_request r;
	struct nat_endpoint none = {0};
	size_t n = request_of(PCP_ANNOUNCE, bytes);
	cr_assert_eq(pcp_parse(bytes, n, ip("10.0.0.1"), &r), PCP_SUCCESS);
	cr_expect_eq(pcp_answer(bytes, n, &r, PCP_SUCCESS, 0, 1, &none, out), HEADER);
	cr_expect_eq(pcp_announcement(0, out), HEADER);
	cr_expect_eq(out[1], 0x80);
	cr_expect_eq(out[3], PCP_SUCCESS);
}
