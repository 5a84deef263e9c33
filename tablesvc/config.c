/* SPDX-License-Identifier: Apache-2.0 */
#include "tablesvc/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/err.h"
#include "common/wire/wire.h"
#include "tablesvc/config_schema.h"

void config_defaults(struct config *config)
{
	*config = (struct config){
	    .generation = 1,
	    .listen = {"127.0.0.1:4790"},
	    .n_listen = 1,
	    .admin_listen = "127.0.0.1:9464",
	    .journal = "none",
	    .capacity = {.mappings = 1000000, .sessions = 1000000, .subscribers = 100000,
			 .fragments = 16384},
	    .log = {.blocks = true, .target = "stderr"},
	    .lease_ms = 10000,
	    .heartbeat_ms = 2000,
	    .grace_ms = 300000,
	    .margin_ms = 1000,
	    .hold_down_ms = 120000, /* RFC 6888 REQ-8 */
	    .batch_max = 256,
	    .inflight_max = 64,
	    .negative_ttl_ms = 1000,
	    .inbound_refresh = true,
	    .hairpinning = true,
	    .timers =
		{
		    .udp = 300000,		/* RFC 4787 REQ-5 */
		    .udp_dns = 30000,		/* RFC 4787 REQ-5a */
		    .icmp = 60000,		/* RFC 5508 REQ-2 */
		    .other = 600000,
		    .tcp_established = 7440000, /* RFC 5382 REQ-5: 2 h 4 min */
		    .tcp_opening = 240000,	/* RFC 5382 REQ-5, RFC 7857 section 2.1 */
		    .tcp_closing = 240000,
		},
	    .limits = {.blocks = 8,
		       .sessions = 4096,
		       .per_mapping = 4096,
		       .creations_per_second = 1000},
	    .pcp = {.capacity = 16384,
		    .per_subscriber = 64,
		    .lifetime_min_ms = 120000, /* RFC 6887 section 15 */
		    .lifetime_max_ms = 86400000},
	    .pending = {.timeout_ms = 2000, .packets = 4096, .per_flow = 16},
	    .fragment_timeout_ms = 2000, /* RFC 6146 section 4: FRAGMENT_MIN */
	    .icmp_errors_per_second = 1000,
	    .icmp_errors_outside = true,
	    .mss_clamp = WIRE_MSS_OFF,
	};
}

void config_free(struct config *config)
{
	if (!config)
		return;
	for (unsigned i = 0; i < config->n_pools; i++)
		free(config->pools[i].prefixes);
	for (unsigned i = 0; i < config->n_realms; i++) {
		free(config->realms[i].prefixes);
		free(config->realms[i].identity);
	}
	free(config->pools);
	free(config->realms);
	free(config->bypass);
	free(config->statics);
	free(config->redirects);
	free(config->pcp.listen);
	free(config);
}

int config_set(struct config *config, const char *name, const char *value, char *error,
	       unsigned error_size)
{
	const struct config_key *key = config_keys;
	const char *rest = name;
	char why[256];

	for (;;) {
		size_t length = strcspn(rest, ".");
		while (key->name &&
		       (strlen(key->name) != length || strncmp(key->name, rest, length) != 0))
			key++;
		if (!key->name || (key->kind == CONFIG_MAP) != (rest[length] == '.') ||
		    key->kind == CONFIG_LIST) {
			snprintf(error, error_size, "%s: no such single key", name);
			return ERR_NOT_FOUND;
		}
		if (key->kind != CONFIG_MAP)
			break;
		key = key->keys;
		rest += length + 1;
	}
	bool list = key->kind == CONFIG_LIST_INLINE;
	char *at = (char *)config + key->offset;
	if (config_value_read(key, list ? key->item : key->kind, value, config, at, why,
			      sizeof why) != 0) {
		snprintf(error, error_size, "%s: %s", name, why);
		return ERR_INVALID;
	}
	if (list)
		*(unsigned *)(void *)((char *)config + key->count_offset) = 1;
	return 0;
}

static void print_map(const struct config *config, const struct config_key *keys, const void *base,
		      unsigned indent, bool first_is_placed, FILE *out);

static void print_list(const struct config *config, const struct config_key *key, const void *base,
		       unsigned indent, FILE *out)
{
	const char *items = (const char *)base + key->offset;
	unsigned n = *(const unsigned *)(const void *)((const char *)base + key->count_offset);

	if (key->kind == CONFIG_LIST)
		items = *(const char *const *)(const void *)items;
	if (n == 0 || !key->keys) {
		fputs(" [", out);
		for (unsigned i = 0; i < n; i++) {
			fputs(i ? ", " : "", out);
			config_value_print(key->item, config, items + (size_t)i * key->item_size,
					   out);
		}
		fputs("]\n", out);
		return;
	}
	putc('\n', out);
	for (unsigned i = 0; i < n; i++) {
		fprintf(out, "%*s- ", (int)indent + 2, "");
		print_map(config, key->keys, items + (size_t)i * key->item_size, indent + 4, true,
			  out);
	}
}

static void print_map(const struct config *config, const struct config_key *keys, const void *base,
		      unsigned indent, bool first_is_placed, FILE *out)
{
	for (const struct config_key *key = keys; key->name; key++) {
		fprintf(out, "%*s%s:", first_is_placed && key == keys ? 0 : (int)indent, "",
			key->name);
		if (key->kind == CONFIG_MAP) {
			putc('\n', out);
			print_map(config, key->keys, base, indent + 2, false, out);
		} else if (key->kind == CONFIG_LIST || key->kind == CONFIG_LIST_INLINE) {
			print_list(config, key, base, indent, out);
		} else {
			putc(' ', out);
			config_value_print(key->kind, config, (const char *)base + key->offset,
					   out);
			putc('\n', out);
		}
	}
}

void config_print(const struct config *config, FILE *out)
{
	print_map(config, config_keys, config, 0, false, out);
}
