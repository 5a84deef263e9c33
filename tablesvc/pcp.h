/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of the Port Control Protocol (RFC 6887), by which subscribers ask for mappings themselves
 * (RFC 6888 REQ-9). Bytes and structures only: server_pcp.c has the sockets, explicit.h the mappings.
 */
#ifndef TABLESVC_PCP_H
#define TABLESVC_PCP_H

#include <stddef.h>
#include "common/nat/types.h"

enum {
	PCP_VERSION = 2,
	PCP_PORT = 5351,	/* where servers listen */
	PCP_CLIENT_PORT = 5350, /* where clients hear announcements */
	PCP_MESSAGE_MAX = 1100, /* bytes, RFC 6887 section 7 */
	PCP_NONCE_BYTES = 12,
};

enum pcp_opcode { PCP_ANNOUNCE = 0, PCP_MAP = 1, PCP_PEER = 2 };

/* RFC 6887 section 7.4. */
enum pcp_result {
	PCP_SUCCESS = 0,
	PCP_UNSUPP_VERSION = 1,
	PCP_NOT_AUTHORIZED = 2,
	PCP_MALFORMED_REQUEST = 3,
	PCP_UNSUPP_OPCODE = 4,
	PCP_UNSUPP_OPTION = 5,
	PCP_MALFORMED_OPTION = 6,
	PCP_NETWORK_FAILURE = 7,
	PCP_NO_RESOURCES = 8,
	PCP_UNSUPP_PROTOCOL = 9,
	PCP_USER_EX_QUOTA = 10,
	PCP_CANNOT_PROVIDE_EXTERNAL = 11,
	PCP_ADDRESS_MISMATCH = 12,
	PCP_EXCESSIVE_REMOTE_PEERS = 13,
	PCP_RESULTS = 14,
};

struct pcp_request {
	uint8_t opcode;
	uint8_t protocol;
	bool prefer_failure;
	bool suggests_ipv6; /* an external address that this NAT can never have */
	uint32_t lifetime_s;
	uint8_t nonce[PCP_NONCE_BYTES];
	nat_be16 internal_port;
	struct nat_endpoint suggested; /* all zero: none */
	struct nat_endpoint remote;    /* PEER */
};

/* The request is to be ignored without an answer. */
#define PCP_SILENCE (-1)

/*
 * Reads a request that came from the IPv4 address from. PCP_SUCCESS and *out, another pcp_result to
 * answer with, or PCP_SILENCE (RFC 6887 section 8.2, in its order of checks).
 */
int pcp_parse(const uint8_t *data, size_t length, nat_be32 from, struct pcp_request *out);

/* How long a client may rely on getting the same error: RFC 6887 section 7.4's recommendation. */
uint32_t pcp_error_lifetime(unsigned result);

/*
 * Writes the answer to a request, of which data and length are the bytes as they came. result other
 * than PCP_SUCCESS: the request's copy with the error; otherwise external is the assigned endpoint
 * (MAP, PEER). epoch_s: seconds since explicit mappings were last lost. Returns its length.
 */
size_t pcp_answer(const uint8_t *data, size_t length, const struct pcp_request *request,
		  unsigned result, uint32_t lifetime_s, uint32_t epoch_s,
		  const struct nat_endpoint *external, uint8_t out[PCP_MESSAGE_MAX]);

/* The announcement that explicit mappings were lost (section 14.1.3). Returns its length. */
size_t pcp_announcement(uint32_t epoch_s, uint8_t out[PCP_MESSAGE_MAX]);

const char *pcp_result_name(unsigned result);

#endif
