/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/conf.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common/base/err.h"
#include "dataplane/port_tun.h"

enum { QUEUES_DEFAULT_MAX = 4, FLOWS_MAX = 1 << 30 };

struct option {
	const char *name;
	const char *value; /* what stands for it in --help; NULL: takes none */
	int (*take)(struct conf *conf, const char *value, char *error);
	const char *help;
};

__attribute__((format(printf, 2, 3))) static int wrong(char *error, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(error, CONF_ERROR_MAX, format, arguments);
	va_end(arguments);
	return ERR_INVALID;
}

static int copy(char *out, size_t room, const char *option, const char *value, char *error)
{
	if (value[0] == 0)
		return wrong(error, "%s is empty", option);
	if (strlen(value) >= room)
		return wrong(error, "%s is longer than %zu characters", option, room - 1);
	strcpy(out, value);
	return 0;
}

static int number(const char *option, const char *value, unsigned long least, unsigned long most,
		  unsigned *out, char *error)
{
	char *end;
	unsigned long n = strtoul(value, &end, 10);
	if (value[0] < '0' || value[0] > '9' || *end != 0 || n < least || n > most)
		return wrong(error, "%s must be a number from %lu to %lu, not \"%s\"", option,
			     least, most, value);
	*out = (unsigned)n;
	return 0;
}

/* HOST:PORT, [IPV6]:PORT; what HOST is, the resolver will say. */
static bool has_port(const char *address)
{
	const char *colon = strrchr(address, ':');
	char error[CONF_ERROR_MAX];
	unsigned port;
	if (!colon || colon == address || number("", colon + 1, 0, 65535, &port, error) != 0)
		return false;
	return memchr(address, ':', (size_t)(colon - address)) == NULL ||
	       (address[0] == '[' && colon[-1] == ']');
}

static int take_address(struct conf *conf, const char *value, size_t length, char *error)
{
	if (conf->n_addresses == TABLE_CLIENT_ADDRESSES_MAX)
		return wrong(error, "--table takes at most %d addresses",
			     TABLE_CLIENT_ADDRESSES_MAX);
	char *out = conf->addresses[conf->n_addresses];
	if (length == 0 || length >= TABLE_CLIENT_ADDRESS_MAX)
		return wrong(error, "an address of --table is empty or longer than %d characters",
			     TABLE_CLIENT_ADDRESS_MAX - 1);
	memcpy(out, value, length);
	out[length] = 0;
	if (strncmp(out, "unix:", 5) == 0 ? out[5] == 0 : !has_port(out))
		return wrong(error,
			     "--table \"%s\" is neither HOST:PORT, nor [IPV6]:PORT, nor unix:PATH, "
			     "nor embedded:CONFIG",
			     out);
	conf->n_addresses++;
	return 0;
}

static int take_table(struct conf *conf, const char *value, char *error)
{
	conf->n_addresses = 0;
	conf->embedded[0] = 0;
	if (strncmp(value, "embedded:", 9) == 0)
		return copy(conf->embedded, sizeof conf->embedded, "--table embedded:CONFIG",
			    value + 9, error);
	for (;;) {
		size_t length = strcspn(value, ",");
		int err = take_address(conf, value, length, error);
		if (err || value[length] == 0)
			return err;
		value += length + 1;
	}
}

static int take_interface(struct conf *conf, const char *option, const char *name, size_t length,
			  unsigned realm, char *error)
{
	if (conf->n_interfaces == PORT_INTERFACES_MAX)
		return wrong(error, "there are at most %d --inside and --outside interfaces",
			     PORT_INTERFACES_MAX);
	if (length == 0 || length >= PORT_NAME_MAX || memchr(name, '/', length))
		return wrong(error, "%s \"%s\": an interface name has 1 to %d characters", option,
			     name, PORT_NAME_MAX - 1);
	struct port_interface *interface = &conf->interfaces[conf->n_interfaces];
	memset(interface, 0, sizeof *interface);
	memcpy(interface->name, name, length);
	interface->realm = (uint8_t)realm;
	for (unsigned i = 0; i < conf->n_interfaces; i++) {
		if (strcmp(conf->interfaces[i].name, interface->name) == 0)
			return wrong(error,
				     "interface %s is given twice; an interface is inside or "
				     "outside, and in one realm",
				     interface->name);
	}
	conf->n_interfaces++;
	return 0;
}

static int take_inside(struct conf *conf, const char *value, char *error)
{
	unsigned realm = NAT_REALM_INSIDE;
	size_t length = strcspn(value, ":");
	if (value[length] == ':' && number("the realm of --inside", value + length + 1,
					   NAT_REALM_INSIDE, NAT_REALM_MAX, &realm, error) != 0)
		return ERR_INVALID;
	return take_interface(conf, "--inside", value, length, realm, error);
}

static int take_outside(struct conf *conf, const char *value, char *error)
{
	return take_interface(conf, "--outside", value, strlen(value), NAT_REALM_OUTSIDE, error);
}

static int take_port(struct conf *conf, const char *value, char *error)
{
	static const char *const names[] = {"auto", "tun", "pcap"};
	for (unsigned i = 0; i < 3; i++) {
		if (strcmp(value, names[i]) == 0) {
			conf->port = (enum conf_port)i;
			return 0;
		}
	}
	return wrong(error, "--port must be tun, pcap or auto, not \"%s\"", value);
}

static int take_read(struct conf *conf, const char *value, char *error)
{
	return copy(conf->read, sizeof conf->read, "--read", value, error);
}

static int take_write(struct conf *conf, const char *value, char *error)
{
	return copy(conf->write, sizeof conf->write, "--write", value, error);
}

static int take_no_host_setup(struct conf *conf, const char *value, char *error)
{
	conf->host_setup = false;
	return 0;
}

static int take_name(struct conf *conf, const char *value, char *error)
{
	return copy(conf->name, sizeof conf->name, "--name", value, error);
}

static int take_flows(struct conf *conf, const char *value, char *error)
{
	return number("--flows", value, 1, FLOWS_MAX, &conf->flows, error);
}

static int take_queues(struct conf *conf, const char *value, char *error)
{
	return number("--queues", value, 1, PORT_TUN_QUEUES_MAX, &conf->queues, error);
}

static int take_admin(struct conf *conf, const char *value, char *error)
{
	conf->admin[0] = 0;
	if (strcmp(value, "off") == 0)
		return 0;
	if (!has_port(value))
		return wrong(error, "--admin must be HOST:PORT, [IPV6]:PORT or off, not \"%s\"",
			     value);
	return copy(conf->admin, sizeof conf->admin, "--admin", value, error);
}

static int take_tls_cert(struct conf *conf, const char *value, char *error)
{
	return copy(conf->credentials.certificate, sizeof conf->credentials.certificate,
		    "--tls-cert", value, error);
}

static int take_tls_key(struct conf *conf, const char *value, char *error)
{
	return copy(conf->credentials.key, sizeof conf->credentials.key, "--tls-key", value, error);
}

static int take_tls_ca(struct conf *conf, const char *value, char *error)
{
	return copy(conf->credentials.ca, sizeof conf->credentials.ca, "--tls-ca", value, error);
}

static int take_log_level(struct conf *conf, const char *value, char *error)
{
	if (log_parse_level(value, &conf->log_level) == 0)
		return 0;
	return wrong(error, "--log-level must be error, warning, notice, info or debug, not \"%s\"",
		     value);
}

static int take_log_target(struct conf *conf, const char *value, char *error)
{
	if (strcmp(value, "stderr") != 0 && strcmp(value, "journal") != 0)
		return wrong(error, "--log-target must be stderr or journal, not \"%s\"", value);
	conf->log_target = value[0] == 'j' ? LOG_TARGET_JOURNAL : LOG_TARGET_STDERR;
	return 0;
}

static int take_help(struct conf *conf, const char *value, char *error)
{
	conf->help = true;
	return 0;
}

static int take_version(struct conf *conf, const char *value, char *error)
{
	conf->version = true;
	return 0;
}

static const struct option options[] = {
    {"--table", "ADDRESS", take_table,
     "the table service: HOST:PORT, several with commas, or unix:PATH;\n"
     "embedded:CONFIG starts conat-tablesvc with that file, for one machine alone"},
    {"--inside", "IF[:REALM]", take_inside,
     "interface of the subscribers; repeatable; realm 1 to 255 (1)"},
    {"--outside", "IF", take_outside, "interface towards the outside; repeatable"},
    {"--port", "PORT", take_port, "how packets come: tun, pcap or auto (auto)"},
    {"--read", "FILE", take_read, "pcap: translate this capture ..."},
    {"--write", "FILE", take_write, "pcap: ... into this one"},
    {"--no-host-setup", NULL, take_no_host_setup,
     "leave routes, rules and sysctls alone; print the commands instead"},
    {"--name", "NAME", take_name, "name shown by the service (the host's name)"},
    {"--flows", "N", take_flows, "flows kept in the local cache (1000000); about 175 bytes each"},
    {"--queues", "N", take_queues, "worker threads (the number of CPUs, at most 4)"},
    {"--admin", "HOST:PORT", take_admin,
     "/metrics, /healthz, /readyz by HTTP; off for none (127.0.0.1:9465)"},
    {"--tls-cert", "FILE", take_tls_cert, "certificate to show the service (PEM)"},
    {"--tls-key", "FILE", take_tls_key, "its key"},
    {"--tls-ca", "FILE", take_tls_ca, "CA that signed the service's certificate"},
    {"--log-level", "LEVEL", take_log_level, "error, warning, notice, info, debug (info)"},
    {"--log-target", "TARGET", take_log_target, "stderr or journal (stderr)"},
    {"--version", NULL, take_version, "print the version"},
    {"--help", NULL, take_help, "print this"},
};
enum { OPTIONS = sizeof options / sizeof options[0], HELP_COLUMN = 26 };

void conf_help(FILE *out)
{
	fprintf(out, "conat-dataplane translates packets for a conat cluster.\n\n"
		     "  conat-dataplane --table ADDRESS --inside IF --outside IF [OPTION...]\n"
		     "  conat-dataplane --table ADDRESS --read FILE --write FILE [OPTION...]\n\n");
	for (unsigned i = 0; i < OPTIONS; i++) {
		const struct option *option = &options[i];
		int n = fprintf(out, "  %s%s%s", option->name, option->value ? " " : "",
				option->value ? option->value : "");
		const char *line = option->help;
		for (;;) {
			size_t length = strcspn(line, "\n");
			fprintf(out, "%*s%.*s\n", n < HELP_COLUMN ? HELP_COLUMN - n : 1, "",
				(int)length, line);
			if (line[length] == 0)
				break;
			line += length + 1;
			n = 0;
		}
	}
}

static void defaults(struct conf *out)
{
	memset(out, 0, sizeof *out);
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	out->queues = cpus < 1			  ? 1
		      : cpus > QUEUES_DEFAULT_MAX ? QUEUES_DEFAULT_MAX
						  : (unsigned)cpus;
	out->flows = CONF_FLOWS_DEFAULT;
	out->host_setup = true;
	out->log_level = LOG_INFO;
	strcpy(out->admin, "127.0.0.1:9465");
	if (gethostname(out->name, sizeof out->name - 1) != 0 || out->name[0] == 0)
		strcpy(out->name, "dataplane");
}

static int check_port(struct conf *conf, char *error)
{
	bool files = conf->read[0] || conf->write[0];
	if (conf->port == CONF_PORT_AUTO) {
		conf->port = files ? CONF_PORT_PCAP : CONF_PORT_TUN;
		conf->port_why = files ? "--read and --write were given"
				       : "the fast ports (XDP, TC) are not built in";
	} else {
		conf->port_why = "--port says so";
	}
	if (conf->port == CONF_PORT_PCAP) {
		if (!conf->read[0] || !conf->write[0])
			return wrong(error,
				     "the pcap port needs both --read FILE and --write FILE");
		if (strcmp(conf->read, conf->write) == 0)
			return wrong(error, "--read and --write name the same file");
		if (conf->n_interfaces > 0)
			return wrong(error, "--inside and --outside have no meaning with captures: "
					    "leave them out, or --read and --write");
		return 0;
	}
	if (files)
		return wrong(error, "--read and --write belong to --port pcap");
	bool inside = false, outside = false;
	for (unsigned i = 0; i < conf->n_interfaces; i++) {
		if (conf->interfaces[i].realm == NAT_REALM_OUTSIDE)
			outside = true;
		else
			inside = true;
	}
	if (!inside)
		return wrong(error, "--inside IF is missing: the interface of the subscribers");
	if (!outside)
		return wrong(error, "--outside IF is missing: the interface towards the outside");
	return 0;
}

static int check(struct conf *conf, char *error)
{
	const struct rpc_credentials *tls = &conf->credentials;
	bool any = tls->certificate[0] || tls->key[0] || tls->ca[0];
	if (conf->n_addresses == 0 && !conf->embedded[0])
		return wrong(error, "--table is missing: HOST:PORT of the table service, or "
				    "embedded:CONFIG to run one here");
	if (any && !(tls->certificate[0] && tls->key[0] && tls->ca[0]))
		return wrong(error, "--tls-cert, --tls-key and --tls-ca are needed together");
	if (any && conf->embedded[0])
		return wrong(error, "--tls-* has no meaning with --table embedded: the service is "
				    "reached by a private socket");
	return check_port(conf, error);
}

int conf_parse(int argc, char *const argv[], struct conf *out, char error[CONF_ERROR_MAX])
{
	defaults(out);
	error[0] = 0;
	for (int i = 1; i < argc; i++) {
		size_t length = strcspn(argv[i], "=");
		const struct option *option = NULL;
		for (unsigned k = 0; k < OPTIONS && !option; k++) {
			if (strlen(options[k].name) == length &&
			    memcmp(options[k].name, argv[i], length) == 0)
				option = &options[k];
		}
		if (!option)
			return wrong(error, "unknown argument \"%s\"; --help lists what there is",
				     argv[i]);
		const char *value = argv[i][length] == '=' ? argv[i] + length + 1 : NULL;
		if (option->value && !value && i + 1 < argc)
			value = argv[++i];
		if (option->value && !value)
			return wrong(error, "%s needs a value: %s", option->name, option->value);
		if (!option->value && value)
			return wrong(error, "%s takes no value", option->name);
		int err = option->take(out, value, error);
		if (err)
			return err;
		if (out->help || out->version)
			return 0;
	}
	return check(out, error);
}
