/* SPDX-License-Identifier: Apache-2.0 */
/* Scalars of the configuration file: value to text, and the words that stand for values. */
#include "tablesvc/config_schema.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include "common/wire/wire.h"

const struct config_unit config_units[] = {
    {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {NULL, 0}};

const char *const *config_words(enum config_kind kind)
{
	static const char *const filtering[] = {
	    [CONFIG_EIF] = "endpoint-independent",
	    [CONFIG_ADF] = "address-dependent",
	    [CONFIG_APDF] = "address-and-port-dependent",
	    NULL,
	};
	static const char *const log_format[] = {
	    [CONFIG_LOG_AUTO] = "auto",
	    [CONFIG_LOG_JSON] = "json",
	    [CONFIG_LOG_RFC5424] = "rfc5424",
	    NULL,
	};
	static const char *const mode[] = {"dynamic", "deterministic", NULL};
	static const char *const pooling[] = {"paired", "arbitrary", NULL};
	static const char *const fallback[] = {"refuse", "another-address", NULL};

	switch (kind) {
	case CONFIG_FILTERING:
		return filtering;
	case CONFIG_LOG_FORMAT:
		return log_format;
	case CONFIG_MODE:
		return mode;
	case CONFIG_POOLING:
		return pooling;
	default:
		return fallback;
	}
}

const char *config_duration_text(uint32_t ms, char *buffer, unsigned size)
{
	unsigned used = 0;

	if (ms == 0)
		snprintf(buffer, size, "0s");
	for (const struct config_unit *unit = config_units; unit->name; unit++) {
		if (ms < unit->ms)
			continue;
		int n = snprintf(buffer + used, size - used, "%u%s", (unsigned)(ms / unit->ms),
				 unit->name);
		ms %= (uint32_t)unit->ms;
		used += (unsigned)n < size - used ? (unsigned)n : size - used - 1;
	}
	return buffer;
}

const char *config_prefix_text(const struct config_prefix *prefix, char *buffer, unsigned size)
{
	char address[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &prefix->address, address, sizeof address);
	snprintf(buffer, size, "%s/%u", address, prefix->length);
	return buffer;
}

static void print_quoted(const char *text, FILE *out)
{
	putc('"', out);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			putc('\\', out);
		putc(*text, out);
	}
	putc('"', out);
}

static const char *realm_name(const struct config *config, uint8_t id)
{
	for (unsigned i = 0; i < config->n_realms; i++) {
		if (config->realms[i].id == id)
			return config->realms[i].name;
	}
	return "outside";
}

void config_value_print(enum config_kind kind, const struct config *references, const void *at,
			FILE *out)
{
	char buffer[64];
	const uint16_t *ports = at;
	const struct nat_endpoint *endpoint = at;
	const char *text = at;

	switch (kind) {
	case CONFIG_DURATION:
		fputs(config_duration_text(*(const uint32_t *)at, buffer, sizeof buffer), out);
		return;
	case CONFIG_U32:
		fprintf(out, "%u", *(const uint32_t *)at);
		return;
	case CONFIG_U16:
		fprintf(out, "%u", *(const uint16_t *)at);
		return;
	case CONFIG_REALM_ID:
		fprintf(out, "%u", *(const uint8_t *)at);
		return;
	case CONFIG_BOOL:
		fputs(*(const bool *)at ? "true" : "false", out);
		return;
	case CONFIG_ADMIN:
		text = *text ? text : "off";
		print_quoted(text, out);
		return;
	case CONFIG_TEXT:
	case CONFIG_NAME:
	case CONFIG_JOURNAL:
	case CONFIG_LISTEN:
	case CONFIG_LOG_TARGET:
		print_quoted(text, out);
		return;
	case CONFIG_MSS:
		if (*(const uint16_t *)at <= WIRE_MSS_AUTO)
			fputs(*(const uint16_t *)at == WIRE_MSS_OFF ? "off" : "auto", out);
		else
			fprintf(out, "%u", *(const uint16_t *)at);
		return;
	case CONFIG_LOG_FORMAT:
	case CONFIG_FILTERING:
	case CONFIG_MODE:
	case CONFIG_POOLING:
	case CONFIG_FALLBACK:
		fputs(config_words(kind)[*(const unsigned *)at], out);
		return;
	case CONFIG_PORTS:
		fprintf(out, "%u-%u", ports[0], ports[1]);
		return;
	case CONFIG_PREFIX:
		fputs(config_prefix_text(at, buffer, sizeof buffer), out);
		return;
	case CONFIG_ENDPOINT:
		inet_ntop(AF_INET, &endpoint->address, buffer, sizeof buffer);
		fprintf(out, "\"%s:%u\"", buffer, ntohs(endpoint->port));
		return;
	case CONFIG_STATIC_ENDPOINT:
		inet_ntop(AF_INET, &endpoint->address, buffer, sizeof buffer);
		if (endpoint->port)
			fprintf(out, "\"%s:%u\"", buffer, ntohs(endpoint->port));
		else
			fprintf(out, "\"%s\"", buffer);
		return;
	case CONFIG_STATIC_PROTOCOL:
		if (*(const uint8_t *)at == 0) {
			fputs("all", out);
			return;
		}
		/* fall through */
	case CONFIG_PROTOCOL:
		fputs(*(const uint8_t *)at == NAT_TCP ? "tcp" : "udp", out);
		return;
	case CONFIG_BY_ADDRESS:
		fputs(nat_protocol_name(*(const uint8_t *)at), out);
		return;
	case CONFIG_REALM_INSIDE:
	case CONFIG_REALM_ANY:
		print_quoted(realm_name(references, *(const uint8_t *)at), out);
		return;
	case CONFIG_POOL_NAME:
		print_quoted(references->pools[*(const unsigned *)at].name, out);
		return;
	case CONFIG_MAP:
	case CONFIG_LIST:
	case CONFIG_LIST_INLINE:
		break;
	}
	abort();
}
