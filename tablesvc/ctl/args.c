/* SPDX-License-Identifier: Apache-2.0 */
#include "tablesvc/ctl/args.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "tablesvc/ctl/who_time.h"

#define DEFAULT_SERVER "127.0.0.1:4790"
#define BIT(command) (1u << (command))
#define ALL (BIT(ARGS_COMMANDS) - 1)
#define FILTERED                                                                                   \
	(BIT(ARGS_MAPPINGS) | BIT(ARGS_SESSIONS) | BIT(ARGS_SUBSCRIBERS) | BIT(ARGS_DELETE))
#define WITH_ENDPOINTS (BIT(ARGS_MAPPINGS) | BIT(ARGS_SESSIONS) | BIT(ARGS_DELETE))
#define STATIC_CHANGE (BIT(ARGS_STATIC_ADD) | BIT(ARGS_STATIC_DEL))

static const struct {
	const char *word, *second, *operands, *help;
	int least, most; /* operands */
} commands[ARGS_COMMANDS] = {
    [ARGS_STATUS] = {"status", NULL, "", "how full the table is, what it has done", 0, 0},
    [ARGS_DATAPLANES] = {"dataplanes", NULL, "", "who is attached, with lease and counters", 0, 0},
    [ARGS_MAPPINGS] = {"mappings", NULL, "", "internal and external endpoints", 0, 0},
    [ARGS_SESSIONS] = {"sessions", NULL, "", "mappings with remote endpoints and holders", 0, 0},
    [ARGS_SUBSCRIBERS] = {"subscribers", NULL, "", "internal addresses with port blocks", 0, 0},
    [ARGS_POOLS] = {"pools", NULL, "", "external addresses and their blocks", 0, 0},
    [ARGS_STATIC_LIST] = {"static", "list", "", "port forwards and 1:1 addresses", 0, 0},
    [ARGS_STATIC_ADD] = {"static", "add", "PROTOCOL EXTERNAL INTERNAL",
			 "forward an external endpoint, or with \"all\" an address (1:1), until a "
			 "restart or reload",
			 3, 3},
    [ARGS_STATIC_DEL] = {"static", "del", "PROTOCOL EXTERNAL [INTERNAL]", "end a port forward or a 1:1",
			 2, 3},
    [ARGS_DELETE] = {"delete", NULL, "", "end mappings that match; needs one address", 0, 0},
    [ARGS_DRAIN] = {"drain", NULL, "DATAPLANE", "new flows go elsewhere; by name or number", 1, 1},
    [ARGS_WHO] = {"who", NULL, "ADDRESS:PORT", "whose an external endpoint is, or was (--at, --log)",
		  1, 1 + ARGS_LOGS_MAX},
};

enum option_id {
	SERVER = 's',
	JSON = 'j',
	HELP = 'h',
	VERSION = 'V',
	NO_LETTER = 256,
	TIMEOUT,
	TLS_CERT,
	TLS_KEY,
	TLS_CA,
	SUBSCRIBER,
	EXTERNAL,
	REMOTE,
	PROTOCOL,
	REALM,
	LIMIT,
	UNDO,
	AT,
	LOG,
};

static const struct {
	enum option_id id;
	const char *name, *argument;
	unsigned commands; /* that it has a meaning with */
	const char *help;
} options[] = {
    {SERVER, "server", "ADDRESS", ALL,
     "HOST:PORT or unix:PATH; default: CONAT_SERVER, or " DEFAULT_SERVER},
    {JSON, "json", NULL, ALL, "for programs: one JSON object a row, one a line"},
    {TIMEOUT, "timeout", "SECONDS", ALL, "without a sign of life; default 10"},
    {TLS_CERT, "tls-cert", "FILE", ALL, "our certificate, with --tls-key, --tls-ca"},
    {TLS_KEY, "tls-key", "FILE", ALL, "its key"},
    {TLS_CA, "tls-ca", "FILE", ALL, "who signed the service's certificate"},
    {SUBSCRIBER, "subscriber", "A", FILTERED, "internal address"},
    {EXTERNAL, "external", "A[:P]", WITH_ENDPOINTS, "external endpoint"},
    {REMOTE, "remote", "A[:P]", WITH_ENDPOINTS, "remote endpoint"},
    {PROTOCOL, "protocol", "NAME", WITH_ENDPOINTS | BIT(ARGS_WHO),
     "tcp, udp, icmp, dccp, esp, gre, sctp, udplite"},
    {REALM, "realm", "N", FILTERED | STATIC_CHANGE, "1 to 255; static: default 1"},
    {LIMIT, "limit", "N", FILTERED & ~BIT(ARGS_DELETE), "rows"},
    {UNDO, "undo", NULL, BIT(ARGS_DRAIN), "take new flows again"},
    {AT, "at", "TIME", BIT(ARGS_WHO), "2026-01-31T12:00:05Z (RFC 3339); needs --log"},
    {LOG, "log", "FILE...", BIT(ARGS_WHO), "event logs (JSON lines), all that are kept; - = stdin"},
    {VERSION, "version", NULL, ALL, "print the version, exit"},
    {HELP, "help", NULL, ALL, "print this, exit"},
};
enum { OPTIONS = sizeof options / sizeof options[0] };

static void print_help(FILE *out)
{
	char text[64];

	fputs("Usage: conatctl [OPTION]... COMMAND\n\nCommands:\n", out);
	for (unsigned i = 0; i < ARGS_COMMANDS; i++) {
		snprintf(text, sizeof text, "%s%s%s %s", commands[i].word,
			 commands[i].second ? " " : "",
			 commands[i].second ? commands[i].second : "", commands[i].operands);
		fprintf(out, "  %-40s %s\n", text, commands[i].help);
	}
	fputs("\nOptions:\n", out);
	for (unsigned i = 0; i < OPTIONS; i++) {
		char letter[5] = "    ";
		if (options[i].id < NO_LETTER)
			snprintf(letter, sizeof letter, "-%c, ", options[i].id);
		snprintf(text, sizeof text, "%s--%s %s", letter, options[i].name,
			 options[i].argument ? options[i].argument : "");
		fprintf(out, "  %-40s %s\n", text, options[i].help);
	}
	fputs("\nExit status: 0 done; 1 refused or failed (who: nobody); 2 wrong arguments; 3 service "
	      "not\nreachable; 4 nothing found to act on (who: the log cannot tell).\n",
	      out);
}

__attribute__((format(printf, 2, 3))) static int wrong(FILE *err, const char *format, ...)
{
	va_list arguments;

	fputs("conatctl: ", err);
	va_start(arguments, format);
	vfprintf(err, format, arguments);
	va_end(arguments);
	fputs("; see --help\n", err);
	return ARGS_EXIT_USAGE;
}

static bool parse_number(const char *text, uint64_t least, uint64_t most, uint64_t *out)
{
	uint64_t value = 0;

	if (!*text)
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9' || value > most / 10)
			return false;
		value = value * 10 + (uint64_t)(*text - '0');
	}
	*out = value;
	return value >= least && value <= most;
}

/* A or A:P; P is needed when asked for. */
static bool parse_endpoint(const char *text, bool port_needed, struct nat_endpoint *out)
{
	char address[INET_ADDRSTRLEN];
	size_t length = strcspn(text, ":");
	uint64_t port = 0;

	if (length >= sizeof address || (text[length] == '\0' && port_needed) ||
	    (text[length] == ':' && !parse_number(text + length + 1, 1, 65535, &port)))
		return false;
	memcpy(address, text, length);
	address[length] = '\0';
	*out = (struct nat_endpoint){.port = htons((uint16_t)port)};
	return inet_pton(AF_INET, address, &out->address) == 1 && out->address != 0;
}

static bool parse_protocol(const char *text, uint8_t *out)
{
	for (unsigned protocol = 0; protocol <= UINT8_MAX; protocol++) {
		const char *name = nat_protocol_name(protocol);
		if (!name || strcasecmp(text, name) != 0)
			continue;
		*out = (uint8_t)protocol;
		return true;
	}
	return false;
}

/* Of a static mapping: tcp, udp, or all, then without ports (1:1). */
static int take_static(struct args *args, int argc, char **argv, FILE *err)
{
	bool whole = strcasecmp(argv[0], "all") == 0;
	const char *form = whole ? "ADDRESS (1:1 has no ports)" : "ADDRESS:PORT";

	if (!whole && (!parse_protocol(argv[0], &args->protocol) ||
		       (args->protocol != NAT_TCP && args->protocol != NAT_UDP)))
		return wrong(err, "static: %s: allowed are tcp, udp, all", argv[0]);
	if (!parse_endpoint(argv[1], !whole, &args->external) || !args->external.port != whole)
		return wrong(err, "static: %s: not %s", argv[1], form);
	if (argc == 3 && (!parse_endpoint(argv[2], !whole, &args->internal) ||
			  !args->internal.port != whole))
		return wrong(err, "static: %s: not %s", argv[2], form);
	args->realm = args->realm ? args->realm : NAT_REALM_INSIDE;
	return 0;
}

static bool copy_path(char *out, size_t size, const char *text)
{
	return *text && snprintf(out, size, "%s", text) < (int)size;
}

static int add_log(struct args *args, const char *name, FILE *err)
{
	if (args->n_logs == ARGS_LOGS_MAX)
		return wrong(err, "--log: more than %d files", ARGS_LOGS_MAX);
	args->logs[args->n_logs++] = name;
	return 0;
}

static int take(struct args *args, enum option_id id, const char *value, FILE *err)
{
	struct rpc_credentials *tls = &args->credentials;
	struct nat_endpoint endpoint;
	uint64_t number;

	switch (id) {
	case SERVER:
		args->server = value;
		return 0;
	case JSON:
		args->json = true;
		return 0;
	case UNDO:
		args->undo = true;
		return 0;
	case TIMEOUT:
		if (!parse_number(value, 1, 3600, &number))
			return wrong(err, "--timeout %s: allowed are 1 to 3600 seconds", value);
		args->timeout_ms = (int)number * 1000;
		return 0;
	case TLS_CERT:
		return copy_path(tls->certificate, sizeof tls->certificate, value)
			   ? 0
			   : wrong(err, "--tls-cert: not a path");
	case TLS_KEY:
		return copy_path(tls->key, sizeof tls->key, value)
			   ? 0
			   : wrong(err, "--tls-key: not a path");
	case TLS_CA:
		return copy_path(tls->ca, sizeof tls->ca, value)
			   ? 0
			   : wrong(err, "--tls-ca: not a path");
	case SUBSCRIBER:
		if (!parse_endpoint(value, false, &endpoint) || endpoint.port)
			return wrong(err, "--subscriber %s: not an IPv4 address", value);
		args->subscriber = endpoint.address;
		return 0;
	case EXTERNAL:
		return parse_endpoint(value, false, &args->external)
			   ? 0
			   : wrong(err, "--external %s: not ADDRESS or ADDRESS:PORT", value);
	case REMOTE:
		return parse_endpoint(value, false, &args->remote)
			   ? 0
			   : wrong(err, "--remote %s: not ADDRESS or ADDRESS:PORT", value);
	case PROTOCOL:
		return parse_protocol(value, &args->protocol)
			   ? 0
			   : wrong(err, "--protocol %s: allowed are tcp, udp, icmp, dccp, esp, gre, "
					"sctp, udplite", value);
	case REALM:
		if (!parse_number(value, 1, NAT_REALM_MAX, &number))
			return wrong(err, "--realm %s: allowed are 1 to %d", value, NAT_REALM_MAX);
		args->realm = (uint8_t)number;
		return 0;
	case LIMIT:
		return parse_number(value, 1, UINT64_MAX / 10, &args->limit)
			   ? 0
			   : wrong(err, "--limit %s: not a number of rows", value);
	case AT:
		args->at = true;
		return who_parse_time(value, &args->at_first_ms, &args->at_last_ms)
			   ? 0
			   : wrong(err, "--at %s: not a time like 2026-01-31T12:00:05Z or "
					"2026-01-31T13:00:05.250+01:00",
				   value);
	case LOG:
		return add_log(args, value, err);
	case HELP:
	case VERSION:
	case NO_LETTER:
		break;
	}
	return 0;
}

/* Leaves *argv at the operands. */
static int find_command(struct args *args, int *argc, char ***argv, FILE *err)
{
	const char *word = *argc > 0 ? (*argv)[0] : NULL, *second = *argc > 1 ? (*argv)[1] : NULL;
	bool word_known = false;

	if (!word)
		return wrong(err, "which command?");
	for (unsigned i = 0; i < ARGS_COMMANDS; i++) {
		if (strcmp(word, commands[i].word) != 0)
			continue;
		word_known = true;
		if (commands[i].second && (!second || strcmp(second, commands[i].second) != 0))
			continue;
		int words = commands[i].second ? 2 : 1;
		args->command = (enum args_command)i;
		*argc -= words;
		*argv += words;
		return 0;
	}
	if (word_known)
		return wrong(err, "%s%s%s: allowed are %s add, del, list", word, second ? " " : "",
			     second ? second : "", word);
	return wrong(err, "%s: no such command", word);
}

static int take_operands(struct args *args, int argc, char **argv, FILE *err)
{
	const char *name = commands[args->command].word;

	if (argc < commands[args->command].least)
		return wrong(err, "%s needs %s", name, commands[args->command].operands);
	if (argc > commands[args->command].most)
		return wrong(err, "%s: %s: one argument too many", name,
			     argv[commands[args->command].most]);
	if (args->command == ARGS_DRAIN) {
		args->dataplane = argv[0];
		if (!*argv[0] || strlen(argv[0]) >= 64)
			return wrong(err, "drain: a dataplane's name has 1 to 63 bytes");
	}
	if (args->command == ARGS_WHO) {
		if (!parse_endpoint(argv[0], true, &args->external))
			return wrong(err, "who: %s: not ADDRESS:PORT", argv[0]);
		/* --log FILE...: what follows the first one is an operand to getopt. */
		if (argc > 1 && !args->n_logs)
			return wrong(err, "who: %s: one argument too many", argv[1]);
		for (int i = 1; i < argc; i++) {
			int result = add_log(args, argv[i], err);
			if (result)
				return result;
		}
		if (args->at && !args->n_logs)
			return wrong(err, "who: --at needs --log FILE: the service knows the present "
					  "only");
		if (!args->at && args->n_logs)
			return wrong(err, "who: --log needs --at TIME");
	}
	if (BIT(args->command) & STATIC_CHANGE)
		return take_static(args, argc, argv, err);
	return 0;
}

static int check_together(const struct args *args, FILE *err)
{
	const struct rpc_credentials *tls = &args->credentials;
	unsigned set = !!tls->certificate[0] + !!tls->key[0] + !!tls->ca[0];

	if (set != 0 && set != 3)
		return wrong(err, "--tls-cert, --tls-key and --tls-ca go together");
	if (strncmp(args->server, "unix:", 5) == 0 ? !args->server[5] : !strchr(args->server, ':'))
		return wrong(err, "--server %s: not HOST:PORT or unix:PATH", args->server);
	if (args->command == ARGS_DELETE && !args->subscriber && !args->external.address &&
	    !args->remote.address)
		return wrong(err, "delete needs --subscriber, --external or --remote");
	return 0;
}

int args_parse(int argc, char **argv, const char *environment_server, struct args *args, FILE *out,
	       FILE *err)
{
	struct option longs[OPTIONS + 1] = {0};
	uint32_t given = 0;
	int id, result;

	*args =
	    (struct args){.server = environment_server && *environment_server ? environment_server
									      : DEFAULT_SERVER,
			  .timeout_ms = 10000};
	for (unsigned i = 0; i < OPTIONS; i++)
		longs[i] = (struct option){options[i].name,
					   options[i].argument ? required_argument : no_argument,
					   NULL, (int)options[i].id};
	optind = 0; /* a second call, in tests, starts afresh */
	opterr = 0;
	while ((id = getopt_long(argc, argv, ":s:jhV", longs, NULL)) != -1) {
		if (id == HELP || id == VERSION) {
			if (id == HELP)
				print_help(out);
			else
				fprintf(out, "conatctl %s\n", CONAT_VERSION);
			return -1;
		}
		if (id == ':' || id == '?')
			return wrong(err, "%s: %s", argv[optind - 1],
				     id == ':' ? "its argument is missing" : "no such option");
		result = take(args, (enum option_id)id, optarg, err);
		if (result)
			return result;
		for (unsigned i = 0; i < OPTIONS; i++)
			given |= (int)options[i].id == id ? 1u << i : 0;
	}
	argc -= optind;
	argv += optind;
	result = find_command(args, &argc, &argv, err);
	for (unsigned i = 0; !result && i < OPTIONS; i++) {
		if (given & 1u << i && !(options[i].commands & BIT(args->command)))
			result = wrong(err, "--%s has no meaning with %s", options[i].name,
				       commands[args->command].word);
	}
	if (!result)
		result = take_operands(args, argc, argv, err);
	return result ? result : check_together(args, err);
}
