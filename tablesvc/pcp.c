/* SPDX-License-Identifier: Apache-2.0 */
#include "tablesvc/pcp.h"

#include <string.h>
#include "common/nat/packet.h"

enum {
	HEADER = 24,
	CLIENT = 8,	   /* offset of the client's address in a request */
	RESPONSE = 0x80,   /* the R bit */
	MAP_BYTES = 36,	   /* opcode-specific */
	PEER_BYTES = 56,
	NONCE = HEADER,
	PROTOCOL = HEADER + 12,
	INTERNAL_PORT = HEADER + 16,
	EXTERNAL_PORT = HEADER + 18,
	EXTERNAL = HEADER + 20,
	REMOTE_PORT = HEADER + 36,
	REMOTE = HEADER + 40,
	OPTION_PREFER_FAILURE = 2,
	OPTION_OPTIONAL = 0x80, /* may be ignored by who does not know it */
	OPTION_HEADER = 4,
	ADDRESS = 16,
	LONG_LIFETIME_S = 1800,
	SHORT_LIFETIME_S = 30,
};

static const uint8_t mapped_prefix[12] = {[10] = 0xff, [11] = 0xff};

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void put32(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)(value >> 24);
	at[1] = (uint8_t)(value >> 16);
	at[2] = (uint8_t)(value >> 8);
	at[3] = (uint8_t)value;
}

/* An IPv4-mapped address (RFC 6887 section 5); "::" reads as 0.0.0.0, too. False: IPv6. */
static bool get_address(const uint8_t *at, nat_be32 *out)
{
	static const uint8_t none[ADDRESS];

	memcpy(out, at + 12, sizeof *out);
	return memcmp(at, mapped_prefix, sizeof mapped_prefix) == 0 || memcmp(at, none, ADDRESS) == 0;
}

static void put_address(uint8_t *at, nat_be32 address)
{
	memcpy(at, mapped_prefix, sizeof mapped_prefix);
	memcpy(at + 12, &address, sizeof address);
}

/* Section 7.3. Of the options only PREFER_FAILURE is known here. */
static int parse_options(const uint8_t *data, size_t length, size_t at, struct pcp_request *out)
{
	int unknown = PCP_SUCCESS;

	while (at < length) {
		if (length - at < OPTION_HEADER)
			return PCP_MALFORMED_OPTION;
		uint8_t code = data[at];
		size_t size = (size_t)(data[at + 2] << 8 | data[at + 3]);
		size_t padded = (size + 3) / 4 * 4;
		if (padded > length - at - OPTION_HEADER)
			return PCP_MALFORMED_OPTION;
		at += OPTION_HEADER + padded;
		if (code != OPTION_PREFER_FAILURE) {
			if (!(code & OPTION_OPTIONAL))
				unknown = PCP_UNSUPP_OPTION;
			continue;
		}
		/* Section 13.2: once, empty, in a MAP that suggests something to insist on. */
		if (size != 0 || out->prefer_failure || out->opcode != PCP_MAP ||
		    out->lifetime_s == 0 || out->suggested.port == 0)
			return PCP_MALFORMED_OPTION;
		out->prefer_failure = true;
	}
	return unknown;
}

static int parse_opcode(const uint8_t *data, struct pcp_request *out)
{
	memcpy(out->nonce, data + NONCE, PCP_NONCE_BYTES);
	out->protocol = data[PROTOCOL];
	memcpy(&out->internal_port, data + INTERNAL_PORT, sizeof out->internal_port);
	memcpy(&out->suggested.port, data + EXTERNAL_PORT, sizeof out->suggested.port);
	out->suggests_ipv6 = !get_address(data + EXTERNAL, &out->suggested.address);
	if (out->protocol == 0 && out->internal_port != 0)
		return PCP_MALFORMED_REQUEST;
	if (out->opcode == PCP_MAP)
		return PCP_SUCCESS;
	memcpy(&out->remote.port, data + REMOTE_PORT, sizeof out->remote.port);
	if (!get_address(data + REMOTE, &out->remote.address) || out->remote.port == 0 ||
	    out->internal_port == 0 || nat_address_unusable(out->remote.address))
		return PCP_MALFORMED_REQUEST;
	return PCP_SUCCESS;
}

int pcp_parse(const uint8_t *data, size_t length, nat_be32 from, struct pcp_request *out)
{
	static const size_t specific[] = {[PCP_ANNOUNCE] = 0, [PCP_MAP] = MAP_BYTES,
					  [PCP_PEER] = PEER_BYTES};
	nat_be32 client;

	*out = (struct pcp_request){0};
	if (length < 2 || data[1] & RESPONSE)
		return PCP_SILENCE;
	out->opcode = data[1];
	if (data[0] != PCP_VERSION)
		return PCP_UNSUPP_VERSION;
	if (length < HEADER)
		return PCP_SILENCE;
	if (length > PCP_MESSAGE_MAX || length % 4 != 0)
		return PCP_MALFORMED_REQUEST;
	if (!get_address(data + CLIENT, &client) || client != from)
		return PCP_ADDRESS_MISMATCH;
	if (out->opcode > PCP_PEER)
		return PCP_UNSUPP_OPCODE;
	if (length < HEADER + specific[out->opcode])
		return PCP_MALFORMED_REQUEST;
	out->lifetime_s = get32(data + 4);
	if (out->opcode != PCP_ANNOUNCE) {
		int result = parse_opcode(data, out);
		if (result != PCP_SUCCESS)
			return result;
	}
	return parse_options(data, length, HEADER + specific[out->opcode], out);
}

uint32_t pcp_error_lifetime(unsigned result)
{
	return result == PCP_NETWORK_FAILURE || result == PCP_NO_RESOURCES ||
		       result == PCP_USER_EX_QUOTA || result == PCP_CANNOT_PROVIDE_EXTERNAL
		   ? SHORT_LIFETIME_S
		   : LONG_LIFETIME_S;
}

static void put_header(uint8_t *out, unsigned opcode, unsigned result, uint32_t lifetime_s,
		       uint32_t epoch_s)
{
	out[0] = PCP_VERSION;
	out[1] = (uint8_t)(RESPONSE | opcode);
	out[2] = 0;
	out[3] = (uint8_t)result;
	put32(out + 4, lifetime_s);
	put32(out + 8, epoch_s);
}

/* "Copying the entire UDP payload, or 1100 octets" (section 8.2), padded. */
static size_t answer_error(const uint8_t *data, size_t length, unsigned result, uint32_t lifetime_s,
			   uint32_t epoch_s, uint8_t *out)
{
	size_t n = length < PCP_MESSAGE_MAX ? length : PCP_MESSAGE_MAX;
	bool parsed = result != PCP_UNSUPP_VERSION && result != PCP_MALFORMED_REQUEST &&
		      result != PCP_MALFORMED_OPTION;

	memset(out, 0, PCP_MESSAGE_MAX);
	memcpy(out, data, n);
	n = (n + 3) / 4 * 4;
	if (n < HEADER)
		n = HEADER; /* also long enough to be read as NAT-PMP's (appendix A) */
	put_header(out, data[1], result, lifetime_s, epoch_s);
	if (parsed) /* of what was not, 96 bits of the client's address stay (section 7.2) */
		memset(out + 12, 0, HEADER - 12);
	return n;
}

size_t pcp_answer(const uint8_t *data, size_t length, const struct pcp_request *request,
		  unsigned result, uint32_t lifetime_s, uint32_t epoch_s,
		  const struct nat_endpoint *external, uint8_t out[PCP_MESSAGE_MAX])
{
	if (result != PCP_SUCCESS)
		return answer_error(data, length, result, lifetime_s, epoch_s, out);
	size_t n = HEADER + (request->opcode == PCP_MAP	   ? MAP_BYTES
			     : request->opcode == PCP_PEER ? PEER_BYTES
							   : 0);
	memcpy(out, data, n);
	put_header(out, request->opcode, result, lifetime_s, epoch_s);
	memset(out + 12, 0, HEADER - 12);
	if (request->opcode == PCP_ANNOUNCE)
		return n;
	memset(out + PROTOCOL + 1, 0, 3);
	memcpy(out + EXTERNAL_PORT, &external->port, sizeof external->port);
	put_address(out + EXTERNAL, external->address);
	if (request->opcode == PCP_PEER)
		memset(out + REMOTE_PORT + 2, 0, 2);
	if (request->prefer_failure) {
		memset(out + n, 0, OPTION_HEADER);
		out[n] = OPTION_PREFER_FAILURE;
		n += OPTION_HEADER;
	}
	return n;
}

size_t pcp_announcement(uint32_t epoch_s, uint8_t out[PCP_MESSAGE_MAX])
{
	memset(out, 0, HEADER);
	put_header(out, PCP_ANNOUNCE, PCP_SUCCESS, 0, epoch_s);
	return HEADER;
}

const char *pcp_result_name(unsigned result)
{
	static const char *const names[PCP_RESULTS] = {
	    "success",		"unsupp_version",   "not_authorized",
	    "malformed_request", "unsupp_opcode",   "unsupp_option",
	    "malformed_option", "network_failure",  "no_resources",
	    "unsupp_protocol",	"user_ex_quota",    "cannot_provide_external",
	    "address_mismatch", "excessive_remote_peers",
	};
	return result < PCP_RESULTS ? names[result] : "unknown";
}
