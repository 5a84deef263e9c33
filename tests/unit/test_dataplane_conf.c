/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>

#include <stdlib.h>
#include <string.h>
#include "dataplane/conf.h"

static int parse(const char *line, struct conf *conf, char *error)
{
	char text[512], *argv[40] = {"conat-dataplane"};
	int argc = 1;
	snprintf(text, sizeof text, "%s", line);
	for (char *word = strtok(text, " "); word; word = strtok(NULL, " "))
		argv[argc++] = word;
	return conf_parse(argc, argv, conf, error);
}

struct bad {
	char line[120];
	char error[48]; /* part of the sentence */
};

ParameterizedTestParameters(conf, refuses)
{
	static struct bad rows[] = {
	    {"", "--table is missing"},
	    {"--inside a --outside b", "--table is missing"},
	    {"--table h:1 --outside b", "--inside IF is missing"},
	    {"--table h:1 --inside a", "--outside IF is missing"},
	    {"--table h --inside a --outside b", "\"h\" is neither HOST:PORT"},
	    {"--table h:x --inside a --outside b", "neither HOST:PORT"},
	    {"--table h:65536 --inside a --outside b", "neither HOST:PORT"},
	    {"--table ::1:4790 --inside a --outside b", "neither HOST:PORT"},
	    {"--table unix: --inside a --outside b", "neither HOST:PORT"},
	    {"--table h:1, --inside a --outside b", "is empty or longer"},
	    {"--table embedded: --inside a --outside b", "embedded:CONFIG is empty"},
	    {"--table a:1,a:2,a:3,a:4,a:5,a:6,a:7,a:8,a:9", "at most 8 addresses"},
	    {"--table h:1 --inside a --outside a", "interface a is given twice"},
	    {"--table h:1 --inside a:0 --outside b", "from 1 to 255"},
	    {"--table h:1 --inside a:256 --outside b", "from 1 to 255"},
	    {"--table h:1 --inside a:-1 --outside b", "from 1 to 255"},
	    {"--table h:1 --inside sixteen-letters- --outside b", "1 to 15 characters"},
	    {"--table h:1 --inside ../x --outside b", "1 to 15 characters"},
	    {"--table h:1 --inside a --outside b --port xdp", "tun, pcap or auto"},
	    {"--table h:1 --inside a --outside b --flows 0", "from 1 to 1073741824"},
	    {"--table h:1 --inside a --outside b --flows 9x", "--flows must be a number"},
	    {"--table h:1 --inside a --outside b --queues 32", "from 1 to 31"},
	    {"--table h:1 --inside a --outside b --admin 9465", "--admin must be"},
	    {"--table h:1 --inside a --outside b --log-level loud", "--log-level must be"},
	    {"--table h:1 --inside a --outside b --log-target tape", "stderr or journal"},
	    {"--table h:1 --inside a --outside b --tls-cert c", "needed together"},
	    {"--table embedded:f --tls-cert c --tls-key k --tls-ca a", "no meaning with"},
	    {"--table h:1 --inside a --outside b --read f", "the pcap port needs both"},
	    {"--table h:1 --read f --write f", "the same file"},
	    {"--table h:1 --read f --write g --inside a", "no meaning with captures"},
	    {"--table h:1 --port tun --read f --write g", "belong to --port pcap"},
	    {"--table h:1 --port pcap --read f", "needs both"},
	    {"--table", "--table needs a value"},
	    {"--no-host-setup=1", "takes no value"},
	    {"--verbose", "unknown argument \"--verbose\""},
	    {"eth0", "unknown argument \"eth0\""},
	};
	return cr_make_param_array(struct bad, rows, sizeof rows / sizeof rows[0]);
}

ParameterizedTest(struct bad *row, conf, refuses)
{
	struct conf conf;
	char error[CONF_ERROR_MAX];
	cr_assert_lt(parse(row->line, &conf, error), 0, "%s", row->line);
	cr_expect(strstr(error, row->error), "%s: %s", row->line, error);
}

Test(conf, takes_a_cluster_member)
{
	struct conf conf;
	char error[CONF_ERROR_MAX];
	cr_assert_eq(parse("--table a:1,[2001:db8::1]:2,unix:/run/t --inside eth1 --inside=eth2:7 "
			   "--outside eth0 --name dp1 --flows 5 --queues 3 --admin off "
			   "--tls-cert c --tls-key k --tls-ca a --log-level debug",
			   &conf, error),
		     0, "%s", error);
	cr_expect_eq(conf.n_addresses, 3);
	cr_expect_str_eq(conf.addresses[1], "[2001:db8::1]:2");
	cr_expect_str_eq(conf.addresses[2], "unix:/run/t");
	cr_expect_eq(conf.n_interfaces, 3);
	cr_expect_eq(conf.interfaces[0].realm, 1);
	cr_expect_str_eq(conf.interfaces[1].name, "eth2");
	cr_expect_eq(conf.interfaces[1].realm, 7);
	cr_expect_eq(conf.interfaces[2].realm, NAT_REALM_OUTSIDE);
	cr_expect_eq(conf.port, CONF_PORT_TUN);
	cr_expect_eq(conf.flows, 5);
	cr_expect_eq(conf.queues, 3);
	cr_expect_str_eq(conf.admin, "");
	cr_expect_str_eq(conf.name, "dp1");
	cr_expect_str_eq(conf.credentials.ca, "a");
	cr_expect_eq(conf.log_level, LOG_DEBUG);
	cr_expect(conf.host_setup);
}

Test(conf, takes_a_home_gateway)
{
	struct conf conf;
	char error[CONF_ERROR_MAX];
	cr_assert_eq(parse("--table embedded:/etc/conat/home-gateway.yaml --inside eth1 "
			   "--outside eth0 --no-host-setup",
			   &conf, error),
		     0, "%s", error);
	cr_expect_str_eq(conf.embedded, "/etc/conat/home-gateway.yaml");
	cr_expect_eq(conf.n_addresses, 0);
	cr_expect_eq(conf.flows, CONF_FLOWS_DEFAULT);
	cr_expect_str_eq(conf.admin, "127.0.0.1:9465");
	cr_expect(!conf.host_setup);
	cr_expect_geq(conf.queues, 1);
}

Test(conf, takes_captures)
{
	struct conf conf;
	char error[CONF_ERROR_MAX];
	cr_assert_eq(parse("--table unix:/t --read in.pcap --write out.pcap", &conf, error), 0,
		     "%s", error);
	cr_expect_eq(conf.port, CONF_PORT_PCAP);
	cr_expect_str_eq(conf.read, "in.pcap");
}

Test(conf, help_names_every_option)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	conf_help(out);
	fclose(out);
	static const char *const names[] = {
	    "--table",	       "--inside", "--outside",	  "--port",	  "--read",    "--write",
	    "--no-host-setup", "--name",   "--flows",	  "--queues",	  "--admin",   "--tls-cert",
	    "--tls-key",       "--tls-ca", "--log-level", "--log-target", "--version", "--help"};
	for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
		cr_expect(strstr(text, names[i]), "%s", names[i]);
	free(text);
	struct conf conf;
	char error[CONF_ERROR_MAX];
	cr_assert_eq(parse("--help", &conf, error), 0);
	cr_expect(conf.help);
	cr_assert_eq(parse("--version --nonsense", &conf, error), 0);
	cr_expect(conf.version);
}
