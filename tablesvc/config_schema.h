/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to config*.c: the layout of the configuration file as one table (config_schema.c). The
 * parser, the printer and the "allowed here" part of errors are all driven by it, so a key exists
 * everywhere or nowhere.
 */
#ifndef TABLESVC_CONFIG_SCHEMA_H
#define TABLESVC_CONFIG_SCHEMA_H

#include <stdio.h>
#include "tablesvc/config.h"

enum config_kind {
	CONFIG_DURATION,     /* uint32_t milliseconds; min, max in milliseconds */
	CONFIG_U32,	     /* uint32_t */
	CONFIG_U16,	     /* uint16_t */
	CONFIG_BOOL,	     /* bool */
	CONFIG_TEXT,	     /* char[max], may be empty */
	CONFIG_NAME,	     /* char[CONFIG_NAME_MAX] */
	CONFIG_JOURNAL,	     /* char[16] */
	CONFIG_LISTEN,	     /* char[CONFIG_ADDRESS_TEXT_MAX]: HOST:PORT or unix:PATH */
	CONFIG_ADMIN,	     /* the same without unix, or "off" */
	CONFIG_LOG_TARGET,   /* char[CONFIG_TARGET_MAX] */
	CONFIG_LOG_FORMAT,   /* enum config_log_format */
	CONFIG_FILTERING,    /* enum config_filtering */
	CONFIG_MSS,	     /* uint16_t: off, auto, or a number */
	CONFIG_MODE,	     /* enum config_mode */
	CONFIG_POOLING,	     /* enum config_pooling */
	CONFIG_FALLBACK,     /* enum config_fallback */
	CONFIG_PORTS,	     /* uint16_t first, last */
	CONFIG_PREFIX,	     /* struct config_prefix */
	CONFIG_ENDPOINT,     /* struct nat_endpoint */
	CONFIG_PROTOCOL,     /* uint8_t: tcp or udp */
	CONFIG_STATIC_PROTOCOL, /* uint8_t: tcp, udp, or all (0) */
	CONFIG_STATIC_ENDPOINT, /* struct nat_endpoint; without a port: 0 */
	CONFIG_BY_ADDRESS,   /* uint8_t: dccp, esp, gre, sctp, udplite */
	CONFIG_REALM_ID,     /* uint8_t */
	CONFIG_REALM_INSIDE, /* uint8_t, by name */
	CONFIG_REALM_ANY,    /* uint8_t, by name or "outside" */
	CONFIG_POOL_NAME,    /* unsigned index, by name */
	CONFIG_MAP,	     /* keys, at offset from the parent */
	CONFIG_LIST,	     /* of items; pointer at offset, unsigned count at count_offset */
	CONFIG_LIST_INLINE,  /* of items; array at offset */
};

/* A list's item is a map when keys is set, otherwise a scalar of kind "item". */
struct config_key {
	const char *name; /* NULL ends a table */
	enum config_kind kind;
	unsigned offset;
	uint32_t min, max; /* of the number or of the count of items */
	bool required;	   /* must be in the file */
	const struct config_key *keys;
	enum config_kind item;
	unsigned count_offset, item_size;
};

extern const struct config_key config_keys[];

/*
 * A scalar from its text. references: where names of pools and realms are looked up. 0, or
 * ERR_INVALID with the rest of a sentence ("is not ...; allowed: ...") in why.
 */
int config_value_read(const struct config_key *key, enum config_kind kind, const char *text,
		      const struct config *references, void *at, char *why, unsigned why_size);
/* The same as YAML that reads back to it. */
void config_value_print(enum config_kind kind, const struct config *references, const void *at,
			FILE *out);

/* Of durations, largest first; a NULL name ends it. */
struct config_unit {
	const char *name;
	uint64_t ms;
};
extern const struct config_unit config_units[];

/* The words for the values 0, 1, ... of a kind that is an enum; NULL ends them. */
const char *const *config_words(enum config_kind kind);

/* A duration as text: "2h4m", "500ms", "0s". */
const char *config_duration_text(uint32_t ms, char *buffer, unsigned size);
/* "192.0.2.0/24" */
const char *config_prefix_text(const struct config_prefix *prefix, char *buffer, unsigned size);

/*
 * What no single key shows: overlaps, references, relations. On ERR_INVALID path names the key as
 * in errors ("pools[1].prefixes[0]") and why is the sentence.
 */
int config_check(const struct config *config, char *path, unsigned path_size, char *why,
		 unsigned why_size);

#endif
