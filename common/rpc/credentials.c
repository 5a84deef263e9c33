/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/err.h"
#include "common/base/log.h"
#include "common/rpc/credentials.h"
#include "common/rpc/grpc.h"

enum { PEM_MAX = 1 << 20 };

bool rpc_address_is_unix(const char *address)
{
	return strncmp(address, "unix:", 5) == 0;
}

static int read_pem(const char *what, const char *path, char **out)
{
	FILE *file = fopen(path, "re");
	if (!file) {
		log_error("%s %s: %m", what, path);
		return ERR_IO;
	}
	char *text = calloc(1, PEM_MAX);
	size_t n = text ? fread(text, 1, PEM_MAX - 1, file) : 0;
	fclose(file);
	if (n == 0 || !strstr(text, "-----BEGIN")) {
		log_error("%s %s: not a PEM file", what, path);
		free(text);
		return ERR_INVALID;
	}
	*out = text;
	return 0;
}

struct pems {
	char *ca, *certificate, *key;
};

static void pems_free(struct pems *pems)
{
	free(pems->ca);
	free(pems->certificate);
	if (pems->key)
		explicit_bzero(pems->key, strlen(pems->key));
	free(pems->key);
}

static bool wanted(const struct rpc_credentials *c)
{
	return c && (c->certificate[0] || c->key[0] || c->ca[0]);
}

static int pems_read(const struct rpc_credentials *c, struct pems *out)
{
	*out = (struct pems){0};
	if (!c->certificate[0] || !c->key[0] || !c->ca[0]) {
		log_error("TLS needs a certificate, its key and a CA: all three or none");
		return ERR_INVALID;
	}
	int err = read_pem("CA", c->ca, &out->ca);
	if (!err)
		err = read_pem("certificate", c->certificate, &out->certificate);
	if (!err)
		err = read_pem("key", c->key, &out->key);
	if (err)
		pems_free(out);
	return err;
}

int rpc_credentials_channel(const struct rpc_credentials *credentials,
			    struct grpc_channel_credentials **out)
{
	if (!wanted(credentials)) {
		*out = grpc_insecure_credentials_create();
		return *out ? 0 : ERR_NOMEM;
	}
	struct pems pems;
	int err = pems_read(credentials, &pems);
	if (err)
		return err;
	grpc_ssl_pem_key_cert_pair pair = {pems.key, pems.certificate};
	*out = grpc_ssl_credentials_create_ex(pems.ca, &pair, NULL, NULL);
	pems_free(&pems);
	return *out ? 0 : ERR_INVALID;
}

int rpc_credentials_server(const struct rpc_credentials *credentials,
			   struct grpc_server_credentials **out)
{
	if (!wanted(credentials)) {
		*out = grpc_insecure_server_credentials_create();
		return *out ? 0 : ERR_NOMEM;
	}
	struct pems pems;
	int err = pems_read(credentials, &pems);
	if (err)
		return err;
	grpc_ssl_pem_key_cert_pair pair = {pems.key, pems.certificate};
	*out = grpc_ssl_server_credentials_create_with_options(
	    grpc_ssl_server_credentials_create_options_using_config(
		GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY,
		grpc_ssl_server_certificate_config_create(pems.ca, &pair, 1)));
	pems_free(&pems);
	return *out ? 0 : ERR_INVALID;
}

static bool is_role(const grpc_auth_property *name, const char *role)
{
	size_t n = strlen(role);
	return name->value_length >= n && memcmp(name->value, role, n) == 0 &&
	       (name->value_length == n || name->value[n] == '.');
}

unsigned rpc_credentials_roles(struct grpc_call *call)
{
	unsigned roles = 0;
	grpc_auth_context *context = grpc_call_auth_context(call);
	if (!context)
		return 0;
	grpc_auth_property_iterator it = grpc_auth_context_find_properties_by_name(
	    context, GRPC_TRANSPORT_SECURITY_TYPE_PROPERTY_NAME);
	const grpc_auth_property *p = grpc_auth_property_iterator_next(&it);
	if (!p || strcmp(p->value, "ssl") != 0) {
		roles = RPC_ROLE_DATAPLANE | RPC_ROLE_OPERATOR;
	} else {
		it =
		    grpc_auth_context_find_properties_by_name(context, GRPC_X509_SAN_PROPERTY_NAME);
		while ((p = grpc_auth_property_iterator_next(&it))) {
			if (is_role(p, "dataplane"))
				roles |= RPC_ROLE_DATAPLANE;
			if (is_role(p, "operator"))
				roles |= RPC_ROLE_OPERATOR;
		}
	}
	grpc_auth_context_release(context);
	return roles;
}
