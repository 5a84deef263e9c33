/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is at the other end. All three paths empty: no TLS. Otherwise all three are needed: both ends
 * show a certificate that the CA signed (mTLS). The role is in the certificate's subject
 * alternative names: a DNS name "dataplane" or "operator", or one that starts with "dataplane." or
 * "operator."; without TLS whoever reaches the socket has both. Unix sockets never use TLS: their
 * file's permissions say who may connect.
 */
#ifndef RPC_CREDENTIALS_H
#define RPC_CREDENTIALS_H

#include <stdbool.h>
#include <stddef.h>

struct grpc_call;
struct grpc_channel_credentials;
struct grpc_server_credentials;

struct rpc_credentials {
	char certificate[256], key[256], ca[256]; /* PEM files */
};

enum rpc_role { RPC_ROLE_DATAPLANE = 1, RPC_ROLE_OPERATOR = 2 }; /* bits */

bool rpc_address_is_unix(const char *address);
/* credentials NULL or with empty paths = no TLS. 0, ERR_IO or ERR_INVALID (the log names the file).
 */
int rpc_credentials_channel(const struct rpc_credentials *credentials,
			    struct grpc_channel_credentials **out);
int rpc_credentials_server(const struct rpc_credentials *credentials,
			   struct grpc_server_credentials **out);
/* The roles of a call's peer. */
unsigned rpc_credentials_roles(struct grpc_call *call);

#endif
