/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service's effective configuration, as the table and the server see it. config.c reads it from
 * YAML and checks it; nothing that passed config_check needs checking again.
 */
#ifndef TABLESVC_CONFIG_H
#define TABLESVC_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include "common/nat/types.h"

enum {
	CONFIG_LISTEN_MAX = 8,
	CONFIG_POOLS_MAX = 64,
	CONFIG_PREFIXES_MAX = 256, /* of one pool or realm */
	CONFIG_REALMS_MAX = 64,
	CONFIG_STATICS_MAX = 4096,
	CONFIG_REDIRECTS_MAX = 256,
	CONFIG_PCP_LISTEN_MAX = 64,
	CONFIG_NAME_MAX = 32,
	CONFIG_ADDRESS_TEXT_MAX = 128,
	CONFIG_TARGET_MAX = 256,
	CONFIG_PROTOCOLS_MAX = 5, /* of one pool: all that is translated by address */
};

enum config_filtering { CONFIG_EIF, CONFIG_ADF, CONFIG_APDF };
enum config_mode { CONFIG_DYNAMIC, CONFIG_DETERMINISTIC };
enum config_pooling { CONFIG_PAIRED, CONFIG_ARBITRARY };
enum config_fallback { CONFIG_REFUSE, CONFIG_ANOTHER_ADDRESS };

struct config_prefix {
	nat_be32 address; /* host bits are zero */
	uint8_t length;
};

struct config_pool {
	char name[CONFIG_NAME_MAX];
	struct config_prefix *prefixes;
	unsigned n_prefixes;
	uint16_t port_first, port_last; /* host order; default 1024-65535 */
	uint16_t block_size;            /* ports; a power of two, 64 to 4096; default 256 */
	enum config_filtering filtering_udp, filtering_tcp; /* default ADF; ICMP follows UDP */
	bool parity;  /* prefer a port of the same parity (RFC 4787 REQ-4); default true */
	/* Sources below 1024 get ports below 1024 (RFC 4787 REQ-3a); port_first is below then. */
	bool low_ports;
	enum config_pooling pooling;   /* default PAIRED (RFC 4787 REQ-2) */
	enum config_fallback fallback; /* when the paired address has no port left */
	/* DETERMINISTIC (RFC 7422): who has which ports follows from this file. See deterministic.h */
	enum config_mode mode;
	uint16_t ports_per_subscriber; /* a multiple of block_size; 0 = as many as fit */
	uint16_t dynamic_overflow;     /* percent of the ports that are granted as blocks */
	uint16_t warn_above; /* percent of the blocks in use; default 90, 0 = never */
	/*
	 * Beside TCP, UDP and ICMP: translated by address only, one subscriber at a time for each
	 * external address and protocol. Default none: refused.
	 */
	uint8_t protocols[CONFIG_PROTOCOLS_MAX];
	unsigned n_protocols;
};

struct config_realm {
	char name[CONFIG_NAME_MAX];
	uint8_t id; /* 1 to 255 */
	struct config_prefix *prefixes;
	unsigned n_prefixes;
	/* Inside the prefixes: hosts that keep their own addresses outside, stateless. */
	struct config_prefix *identity;
	unsigned n_identity;
	unsigned pool; /* index */
};

/*
 * A static port forward: the external endpoint belongs to the internal one for ever. The address is
 * in a pool; the port may be any from 1 to 65535, also outside port_first..port_last: what people
 * forward is 22, 80 and 443. Protocol 0 and ports 0: a whole external address belongs to an internal
 * one (1:1), with every port and protocol.
 */
struct config_static {
	uint8_t realm, protocol;
	struct nat_endpoint external, internal;
};

/*
 * Redirect (mirage-nat's): packets from "from_realm" to "destination" go to "to" in "to_realm"
 * instead, and their source is translated into the pool's addresses too (twice NAT).
 */
struct config_redirect {
	char name[CONFIG_NAME_MAX];
	uint8_t from_realm, to_realm, protocol;
	struct nat_endpoint destination, to;
	unsigned pool;
};

/* An address where subscribers of one realm, and nobody else, reach the PCP server. */
struct config_pcp_listen {
	uint8_t realm;
	struct nat_endpoint address;
};

struct config_timers { /* milliseconds */
	uint32_t udp, udp_dns, icmp, tcp_established, tcp_opening, tcp_closing, other;
};

struct config_limits { /* of one subscriber */
	uint32_t blocks;       /* default 8 */
	uint32_t ports;        /* of all protocols together; default 0 = as the blocks allow */
	uint32_t sessions;     /* default 4096 */
	uint32_t per_mapping;  /* sessions of one mapping; default 4096 */
	uint32_t creations_per_second; /* default 1000, burst twice that; 0 = no limit */
};

enum config_log_format { CONFIG_LOG_AUTO, CONFIG_LOG_JSON, CONFIG_LOG_RFC5424 };

struct config_log {
	bool blocks;	   /* a line for each port block granted and released; default true */
	bool sessions;	   /* and for each session; default false (RFC 6888 REQ-14) */
	bool destinations; /* with its remote endpoint; default false (RFC 6888 REQ-12) */
	enum config_log_format format;	/* auto: JSON, structured data for syslog */
	char target[CONFIG_TARGET_MAX]; /* stderr, file:PATH, syslog:HOST:PORT, syslog:unix:PATH */
};

struct config {
	uint64_t generation; /* counts reloads */
	char listen[CONFIG_LISTEN_MAX][CONFIG_ADDRESS_TEXT_MAX]; /* HOST:PORT or unix:PATH */
	unsigned n_listen;
	char admin_listen[CONFIG_ADDRESS_TEXT_MAX]; /* HTTP; default 127.0.0.1:9464, "" = off */
	struct {
		char certificate[256], key[256], ca[256]; /* "" = no TLS */
	} tls;
	char journal[16]; /* "none" */
	struct config_log log;
	struct {
		uint32_t mappings, sessions, subscribers, fragments;
	} capacity;
	uint32_t lease_ms, heartbeat_ms, grace_ms, margin_ms, hold_down_ms;
	uint32_t hold_down_at_start_ms; /* of all blocks; default 0 */
	uint32_t batch_max, inflight_max;
	uint32_t negative_ttl_ms; /* at most 1000 */
	bool inbound_refresh;     /* RFC 4787 REQ-6a; default true */
	bool hairpinning;         /* default true (RFC 4787 REQ-9) */
	struct config_timers timers;
	struct config_limits limits;
	struct {
		uint32_t timeout_ms, packets, per_flow;
	} pending;
	struct { /* RFC 6887 */
		struct config_pcp_listen *listen;
		unsigned n_listen;
		uint32_t capacity, per_subscriber; /* explicit mappings */
		uint32_t lifetime_min_ms, lifetime_max_ms;
	} pcp;
	uint32_t fragment_timeout_ms, icmp_errors_per_second;
	bool icmp_errors_outside; /* RFC 5508 REQ-9; default true */
	uint16_t mss_clamp;	  /* as in struct wire_config; default off */
	struct config_pool *pools;
	unsigned n_pools;
	struct config_realm *realms;
	unsigned n_realms;
	struct config_prefix *bypass;
	unsigned n_bypass;
	struct config_static *statics;
	unsigned n_statics;
	struct config_redirect *redirects;
	unsigned n_redirects;
};

/* Everything at its default; no pools, no realms. */
void config_defaults(struct config *config);

/*
 * Reads and checks a file. On failure returns ERR_INVALID or ERR_IO and writes one sentence into
 * error: file, line, key, what is wrong and what is allowed.
 */
int config_load(const char *path, struct config **out, char *error, unsigned error_size);
/* The same from memory; name stands for the file in errors. */
int config_parse(const char *name, const char *text, unsigned length, struct config **out,
		 char *error, unsigned error_size);
/*
 * Sets one scalar key, or a list to one entry, as if it stood in the file ("service.listen"); for the
 * command line, between config_load and use. Checks the value alone, no relations. ERR_NOT_FOUND.
 */
int config_set(struct config *config, const char *key, const char *value, char *error,
	       unsigned error_size);
/*
 * What is allowed, but against an RFC: timers that are shorter than one says. Sentence number
 * "which" (from 0) goes to text; false when there is none.
 */
bool config_advice(const struct config *config, unsigned which, char *text, unsigned size);
/* Whether a running service can go from old to new; the sentence says what would need a restart. */
int config_check_reload(const struct config *old, const struct config *new, char *error,
			unsigned error_size);
/* The effective configuration as YAML, every key; to a stream. */
struct _IO_FILE;
void config_print(const struct config *config, struct _IO_FILE *out);
void config_free(struct config *config);

#endif
