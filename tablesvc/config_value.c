/* SPDX-License-Identifier: Apache-2.0 */
/* Scalars of the configuration file: text to value. */
#include "tablesvc/config_schema.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include "common/base/err.h"
#include "common/wire/wire.h"

#define fail(...) (snprintf(why, why_size, __VA_ARGS__), ERR_INVALID)

/* Texts of users in error sentences are cut to this. */
#define SHOW "\"%.60s\""

/* Decimal digits, underscores between them; false on anything else and past 10^15. */
static bool take_number(const char **text, uint64_t *out)
{
	const char *p = *text;
	uint64_t value = 0;

	if (!isdigit((unsigned char)*p))
		return false;
	for (; isdigit((unsigned char)*p) || (*p == '_' && isdigit((unsigned char)p[1])); p++) {
		if (*p == '_')
			continue;
		value = value * 10 + (uint64_t)(*p - '0');
		if (value > UINT64_C(1000000000000000))
			return false;
	}
	*text = p;
	*out = value;
	return true;
}

static bool parse_duration(const char *text, uint64_t *out)
{
	uint64_t total = 0, number;
	unsigned next_unit = 0; /* "4m2h" is more likely a slip than a wish */

	if (!take_number(&text, &number))
		return false;
	if (*text == '\0') {
		*out = number * 1000;
		return true;
	}
	for (;;) {
		size_t letters = strspn(text, "abcdefghijklmnopqrstuvwxyz");
		unsigned unit = next_unit;
		while (config_units[unit].name &&
		       (strlen(config_units[unit].name) != letters ||
			strncmp(config_units[unit].name, text, letters) != 0))
			unit++;
		if (!config_units[unit].name)
			return false;
		total += number * config_units[unit].ms;
		next_unit = unit + 1;
		text += letters;
		if (*text == '\0') {
			*out = total;
			return true;
		}
		if (!take_number(&text, &number))
			return false;
	}
}

static int read_duration(const struct config_key *key, const char *text, uint32_t *at, char *why,
			 unsigned why_size)
{
	uint64_t ms;
	char low[32], high[32];

	config_duration_text(key->min, low, sizeof low);
	config_duration_text(key->max, high, sizeof high);
	if (!parse_duration(text, &ms))
		return fail(SHOW " is not a duration; allowed: %s to %s, written like 300s, 2h4m, "
				 "500ms or plain seconds",
			    text, low, high);
	if (ms < key->min || ms > key->max)
		return fail(SHOW " is out of range; allowed: %s to %s", text, low, high);
	*at = (uint32_t)ms;
	return 0;
}

static int read_number(const struct config_key *key, const char *text, uint32_t *at, char *why,
		       unsigned why_size)
{
	const char *p = text;
	uint64_t number;

	if (!take_number(&p, &number) || *p != '\0')
		return fail(SHOW " is not a whole number; allowed: %u to %u", text, key->min,
			    key->max);
	if (number < key->min || number > key->max)
		return fail(SHOW " is out of range; allowed: %u to %u", text, key->min, key->max);
	*at = (uint32_t)number;
	return 0;
}

static int read_bool(const char *text, bool *at, char *why, unsigned why_size)
{
	static const char *const words[] = {"false", "true", "no", "yes", "off", "on"};

	for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++) {
		if (strcasecmp(text, words[i]) == 0) {
			*at = i & 1;
			return 0;
		}
	}
	return fail(SHOW " is neither true nor false; allowed: true, false", text);
}

static int read_text(const char *text, char *at, unsigned size, char *why, unsigned why_size)
{
	if (strlen(text) >= size)
		return fail(SHOW "... is too long; allowed: at most %u bytes", text, size - 1);
	memset(at, 0, size);
	memcpy(at, text, strlen(text));
	return 0;
}

static int read_name(const char *text, char *at, char *why, unsigned why_size)
{
	size_t length = strlen(text);

	if (length == 0 || length >= CONFIG_NAME_MAX ||
	    strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") !=
		length)
		return fail(SHOW " is not a name; allowed: 1 to %u letters, digits, '-', '_', '.'",
			    text, CONFIG_NAME_MAX - 1);
	return read_text(text, at, CONFIG_NAME_MAX, why, why_size);
}

static int read_listen(const char *text, char *at, char *why, unsigned why_size)
{
	if (strncmp(text, "unix:", 5) == 0) {
		size_t length = strlen(text + 5);
		if (length == 0 || length >= sizeof((struct sockaddr_un *)NULL)->sun_path)
			return fail(SHOW " has no usable path; allowed: unix:PATH with 1 to %zu "
					 "bytes of path",
				    text, sizeof((struct sockaddr_un *)NULL)->sun_path - 1);
		return read_text(text, at, CONFIG_ADDRESS_TEXT_MAX, why, why_size);
	}
	const char *colon = strrchr(text, ':');
	const char *port = colon ? colon + 1 : "";
	uint64_t number = 0;
	bool bare_ipv6 = colon && text[0] != '[' && memchr(text, ':', (size_t)(colon - text));
	if (!colon || colon == text || bare_ipv6 || strchr(text, ' ') ||
	    !take_number(&port, &number) || *port || number < 1 || number > 65535)
		return fail(SHOW " is not an address to listen on; allowed: HOST:PORT, "
				 "[IPV6]:PORT, unix:PATH, with a port from 1 to 65535",
			    text);
	return read_text(text, at, CONFIG_ADDRESS_TEXT_MAX, why, why_size);
}

static int read_admin(const char *text, char *at, char *why, unsigned why_size)
{
	if (strcmp(text, "off") == 0 || *text == '\0')
		return read_text("", at, CONFIG_ADDRESS_TEXT_MAX, why, why_size);
	if (strncmp(text, "unix:", 5) == 0)
		return fail(SHOW " is not an address for HTTP; allowed: HOST:PORT or off", text);
	return read_listen(text, at, why, why_size);
}

static int read_filtering(const char *text, enum config_filtering *at, char *why, unsigned why_size)
{
	static const char *const shorthand[] = {"eif", "adf", "apdf"};
	const char *const *words = config_words(CONFIG_FILTERING);

	for (unsigned i = 0; words[i]; i++) {
		if (strcmp(text, words[i]) == 0 || strcasecmp(text, shorthand[i]) == 0) {
			*at = (enum config_filtering)i;
			return 0;
		}
	}
	return fail(SHOW " is no filtering behaviour; allowed: endpoint-independent (eif), "
			 "address-dependent (adf), address-and-port-dependent (apdf)",
		    text);
}

static int read_mss(const char *text, uint16_t *at, char *why, unsigned why_size)
{
	const char *p = text;
	uint64_t number;

	if (strcmp(text, "off") == 0 || strcmp(text, "auto") == 0) {
		*at = text[0] == 'o' ? WIRE_MSS_OFF : WIRE_MSS_AUTO;
		return 0;
	}
	if (!take_number(&p, &number) || *p || number < WIRE_MSS_MIN || number > WIRE_MSS_MAX)
		return fail(SHOW " is no maximum segment size; allowed: off, auto (what the MTUs "
				 "leave), or a number from %d to %d",
			    text, WIRE_MSS_MIN, WIRE_MSS_MAX);
	*at = (uint16_t)number;
	return 0;
}

static int read_log_target(const char *text, char *at, char *why, unsigned why_size)
{
	char listen[CONFIG_ADDRESS_TEXT_MAX], reason[256];
	const char *syslog = strncmp(text, "syslog:", 7) == 0 ? text + 7 : NULL;

	if (strcmp(text, "stderr") != 0 && (strncmp(text, "file:/", 6) != 0 || !text[6]) &&
	    (!syslog || read_listen(syslog, listen, reason, sizeof reason) != 0))
		return fail(SHOW " is no place for a log; allowed: stderr, file:/PATH, "
				 "syslog:HOST:PORT, syslog:unix:/PATH",
			    text);
	return read_text(text, at, CONFIG_TARGET_MAX, why, why_size);
}

static int read_choice(const char *const *names, const char *text, unsigned *at, char *why,
		       unsigned why_size)
{
	char allowed[128];
	unsigned used = 0;

	for (unsigned i = 0; names[i]; i++) {
		if (strcasecmp(text, names[i]) == 0) {
			*at = i;
			return 0;
		}
		used += (unsigned)snprintf(allowed + used, sizeof allowed - used, "%s%s",
					   i ? ", " : "", names[i]);
	}
	return fail(SHOW " is not a choice here; allowed: %s", text, allowed);
}

static int read_ports(const char *text, uint16_t *at, char *why, unsigned why_size)
{
	const char *p = text;
	uint64_t first, last;

	if (!take_number(&p, &first) || *p++ != '-' || !take_number(&p, &last) || *p || first < 1 ||
	    last > 65535 || first > last)
		return fail(SHOW " is not a range of ports; allowed: FIRST-LAST between 1 and "
				 "65535, like 1024-65535",
			    text);
	at[0] = (uint16_t)first;
	at[1] = (uint16_t)last;
	return 0;
}

static int read_prefix(const char *text, struct config_prefix *at, char *why, unsigned why_size)
{
	char address[INET_ADDRSTRLEN];
	size_t length = strcspn(text, "/");
	const char *p = text + length + 1;
	uint64_t bits = 32;

	if (length < sizeof address) {
		memcpy(address, text, length);
		address[length] = '\0';
	}
	if (length >= sizeof address || inet_pton(AF_INET, address, &at->address) != 1 ||
	    (text[length] == '/' && (!take_number(&p, &bits) || *p || bits > 32)))
		return fail(SHOW " is not an IPv4 prefix; allowed: ADDRESS or ADDRESS/LENGTH with "
				 "a length from 0 to 32",
			    text);
	nat_be32 mask = bits ? htonl(UINT32_MAX << (32 - bits)) : 0;
	at->length = (uint8_t)bits;
	if (at->address & ~mask) {
		struct config_prefix meant = {at->address & mask, at->length};
		char buffer[32];
		return fail(SHOW " has host bits set; did you mean %s", text,
			    config_prefix_text(&meant, buffer, sizeof buffer));
	}
	return 0;
}

static int read_endpoint(const char *text, struct nat_endpoint *at, char *why, unsigned why_size)
{
	char address[INET_ADDRSTRLEN];
	size_t length = strcspn(text, ":");
	const char *p = text + length + (text[length] == ':');
	uint64_t port;

	memset(at, 0, sizeof *at);
	if (length < sizeof address) {
		memcpy(address, text, length);
		address[length] = '\0';
	}
	if (length >= sizeof address || inet_pton(AF_INET, address, &at->address) != 1 ||
	    at->address == 0 || !take_number(&p, &port) || *p || port < 1 || port > 65535)
		return fail(SHOW " is not an endpoint; allowed: ADDRESS:PORT with an IPv4 address "
				 "and a port from 1 to 65535",
			    text);
	at->port = htons((uint16_t)port);
	return 0;
}

/* A static mapping's: of an endpoint, or of a whole address. */
static int read_static_endpoint(const char *text, struct nat_endpoint *at, char *why,
				unsigned why_size)
{
	memset(at, 0, sizeof *at);
	if (strchr(text, ':'))
		return read_endpoint(text, at, why, why_size);
	if (inet_pton(AF_INET, text, &at->address) != 1 || at->address == 0)
		return fail(SHOW " is neither an endpoint nor an address; allowed: ADDRESS:PORT, or "
				 "ADDRESS for all of it (1:1)",
			    text);
	return 0;
}

static int read_protocol(const char *text, uint8_t *at, char *why, unsigned why_size)
{
	if (strcasecmp(text, "tcp") == 0)
		*at = NAT_TCP;
	else if (strcasecmp(text, "udp") == 0)
		*at = NAT_UDP;
	else
		return fail(SHOW " is no protocol with ports; allowed: tcp, udp", text);
	return 0;
}

static int read_by_address(const char *text, uint8_t *at, char *why, unsigned why_size)
{
	for (unsigned protocol = 0; protocol <= UINT8_MAX; protocol++) {
		if (nat_protocol_by_address((uint8_t)protocol) &&
		    strcasecmp(text, nat_protocol_name(protocol)) == 0) {
			*at = (uint8_t)protocol;
			return 0;
		}
	}
	return fail(SHOW " is nothing to translate by address; allowed: dccp, esp, gre, sctp, "
			 "udplite (tcp, udp and icmp always are translated)",
		    text);
}

static int read_realm(const char *text, const struct config *config, bool outside, uint8_t *at,
		      char *why, unsigned why_size)
{
	if (outside && strcmp(text, "outside") == 0) {
		*at = NAT_REALM_OUTSIDE;
		return 0;
	}
	for (unsigned i = 0; i < config->n_realms; i++) {
		if (strcmp(config->realms[i].name, text) == 0) {
			*at = config->realms[i].id;
			return 0;
		}
	}
	return fail("there is no realm named " SHOW "; allowed: a name from the list realms%s",
		    text, outside ? ", or outside" : "");
}

static int read_pool(const char *text, const struct config *config, unsigned *at, char *why,
		     unsigned why_size)
{
	for (unsigned i = 0; i < config->n_pools; i++) {
		if (strcmp(config->pools[i].name, text) == 0) {
			*at = i;
			return 0;
		}
	}
	return fail("there is no pool named " SHOW "; allowed: a name from the list pools", text);
}

int config_value_read(const struct config_key *key, enum config_kind kind, const char *text,
		      const struct config *references, void *at, char *why, unsigned why_size)
{
	uint32_t number;
	int err;

	switch (kind) {
	case CONFIG_DURATION:
		return read_duration(key, text, at, why, why_size);
	case CONFIG_U32:
		return read_number(key, text, at, why, why_size);
	case CONFIG_U16:
		err = read_number(key, text, &number, why, why_size);
		if (!err)
			*(uint16_t *)at = (uint16_t)number;
		return err;
	case CONFIG_REALM_ID:
		err = read_number(key, text, &number, why, why_size);
		if (!err)
			*(uint8_t *)at = (uint8_t)number;
		return err;
	case CONFIG_BOOL:
		return read_bool(text, at, why, why_size);
	case CONFIG_TEXT:
		return read_text(text, at, key->max, why, why_size);
	case CONFIG_NAME:
		return read_name(text, at, why, why_size);
	case CONFIG_JOURNAL:
		if (strcmp(text, "none") != 0)
			return fail(SHOW " is no journal of this version; allowed: none", text);
		return read_text(text, at, sizeof references->journal, why, why_size);
	case CONFIG_LISTEN:
		return read_listen(text, at, why, why_size);
	case CONFIG_ADMIN:
		return read_admin(text, at, why, why_size);
	case CONFIG_LOG_TARGET:
		return read_log_target(text, at, why, why_size);
	case CONFIG_FILTERING:
		return read_filtering(text, at, why, why_size);
	case CONFIG_MSS:
		return read_mss(text, at, why, why_size);
	case CONFIG_LOG_FORMAT:
	case CONFIG_MODE:
	case CONFIG_POOLING:
	case CONFIG_FALLBACK:
		return read_choice(config_words(kind), text, at, why, why_size);
	case CONFIG_PORTS:
		return read_ports(text, at, why, why_size);
	case CONFIG_PREFIX:
		return read_prefix(text, at, why, why_size);
	case CONFIG_ENDPOINT:
		return read_endpoint(text, at, why, why_size);
	case CONFIG_PROTOCOL:
		return read_protocol(text, at, why, why_size);
	case CONFIG_STATIC_PROTOCOL:
		if (strcasecmp(text, "all") == 0) {
			*(uint8_t *)at = 0;
			return 0;
		}
		return read_protocol(text, at, why, why_size);
	case CONFIG_STATIC_ENDPOINT:
		return read_static_endpoint(text, at, why, why_size);
	case CONFIG_BY_ADDRESS:
		return read_by_address(text, at, why, why_size);
	case CONFIG_REALM_INSIDE:
	case CONFIG_REALM_ANY:
		return read_realm(text, references, kind == CONFIG_REALM_ANY, at, why, why_size);
	case CONFIG_POOL_NAME:
		return read_pool(text, references, at, why, why_size);
	case CONFIG_MAP:
	case CONFIG_LIST:
	case CONFIG_LIST_INLINE:
		break;
	}
	abort(); /* a hole in the schema, not in the input */
}
