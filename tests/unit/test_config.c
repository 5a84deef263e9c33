/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common/base/err.h"
#include "common/wire/wire.h"
#include "tests/support/config_bed.h"

static char *print(const struct config *config)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	cr_assert_not_null(out);
	config_print(config, out);
	fclose(out);
	return text;
}

Test(config, defaults_are_those_of_the_design)
{
	struct config *config = parse_good(BASE);

	cr_expect_str_eq(config->listen[0], "127.0.0.1:4790");
	cr_expect_eq(config->n_listen, 1);
	cr_expect_str_eq(config->admin_listen, "127.0.0.1:9464");
	cr_expect_str_eq(config->journal, "none");
	cr_expect_eq(config->lease_ms, 10000);
	cr_expect_eq(config->heartbeat_ms, 2000);
	cr_expect_eq(config->grace_ms, 300000);
	cr_expect_eq(config->hold_down_ms, 120000);
	cr_expect_eq(config->timers.udp, 300000);
	cr_expect_eq(config->timers.udp_dns, 30000);
	cr_expect_eq(config->timers.icmp, 60000);
	cr_expect_eq(config->timers.tcp_established, 7440000);
	cr_expect_eq(config->timers.tcp_opening, 240000);
	cr_expect_eq(config->timers.tcp_closing, 240000);
	cr_expect_eq(config->limits.blocks, 8);
	cr_expect_eq(config->limits.sessions, 4096);
	cr_expect(config->inbound_refresh && config->hairpinning);
	cr_expect_eq(config->mss_clamp, WIRE_MSS_OFF);
	cr_expect(config->icmp_errors_outside);
	/* RFC 6888 REQ-14, REQ-12 */
	cr_expect(config->log.blocks && !config->log.sessions && !config->log.destinations);
	cr_expect_str_eq(config->log.target, "stderr");
	cr_expect_eq(config->log.format, CONFIG_LOG_AUTO);
	cr_expect_eq(config->pools[0].port_first, 1024);
	cr_expect_eq(config->pools[0].port_last, 65535);
	cr_expect_eq(config->pools[0].block_size, 256);
	cr_expect_eq(config->pools[0].filtering_udp, CONFIG_ADF);
	cr_expect_eq(config->pools[0].filtering_tcp, CONFIG_ADF);
	cr_expect(config->pools[0].parity);
	cr_expect_eq(config->pools[0].n_protocols, 0);
	cr_expect_eq(config->timers.other, 600000);
	cr_expect_eq(config->realms[0].id, 1);
	cr_expect_eq(config->n_statics, 0);
	config_free(config);
}

/*
 * What has to be configurable: timers (RFC 4787 REQ-5b, RFC 5382 REQ-5a, RFC 5508 REQ-2a), filtering
 * (RFC 4787 REQ-8a, RFC 5382 REQ-3a), limits (RFC 6888 REQ-4a, REQ-5a).
 */
Test(config, every_kind_of_value_is_read)
{
	struct config *config = parse_good(
	    "service:\n"
	    "  listen: [\"unix:/run/x\", '[::1]:4790', localhost:1]\n"
	    "  admin: off\n"
	    "  tls: {certificate: /c.pem, key: /k.pem, ca: /ca.pem}\n"
	    "capacity: {mappings: 1_000, sessions: 2000, subscribers: 64, fragments: 128}\n"
	    "log: {blocks: false, sessions: true, destinations: yes, format: RFC5424,\n"
	    "      target: \"syslog:unix:/dev/log\"}\n"
	    "lease: {duration: 4, heartbeat: 500ms, grace: 1m30s, margin: 0m200ms}\n"
	    "timers: {tcp_established: 2h4m, udp: 1d, hold_down: 0}\n"
	    "behaviour: {inbound_refresh: no, hairpinning: off, mss_clamp: auto}\n"
	    "dataplanes: {icmp_errors_outside: off}\n"
	    "pools:\n"
	    "- {name: a, prefixes: 192.0.2.9, ports: 4096-8191, block_size: 4096, parity: false,\n"
	    "   protocols: [GRE, udplite],\n"
	    "   filtering: {udp: eif, tcp: address-and-port-dependent}}\n"
	    "- {name: b, prefixes: [198.51.100.0/24, 203.0.113.4/30], pooling: arbitrary,\n"
	    "   ports: 1-65535, low_ports: true, fallback: another-address, warn_above: 50}\n"
	    "- {name: c, prefixes: [192.0.2.64/28], mode: deterministic, dynamic_overflow: 20,\n"
	    "   ports_per_subscriber: 1024}\n"
	    "realms:\n"
	    "- {name: x, id: 255, prefixes: [10.0.0.0/8, 11.0.0.0/8], identity: 11.1.2.16/28,\n"
	    "   pool: b}\n"
	    "- {name: y, prefixes: [10.0.0.0/8], pool: a}\n"
	    "- {name: z, prefixes: [10.0.0.0/24], pool: c}\n"
	    "bypass: [172.16.0.0/12]\n"
	    "static: [{realm: x, protocol: UDP, external: 198.51.100.1:5, internal: 10.1.2.3:6},\n"
	    "         {realm: x, external: 198.51.100.2, internal: 10.1.2.4}]\n"
	    "redirect: [{name: r, from_realm: outside, protocol: tcp, destination: "
	    "203.0.113.5:80,\n"
	    "            to_realm: y, to: 10.0.0.1:8080, pool: a}]\n");

	cr_expect_eq(config->pools[0].warn_above, 90);
	cr_expect_eq(config->pools[0].pooling, CONFIG_PAIRED);
	cr_expect_eq(config->pools[0].fallback, CONFIG_REFUSE);
	cr_expect_eq(config->pools[1].pooling, CONFIG_ARBITRARY);
	cr_expect_eq(config->pools[1].fallback, CONFIG_ANOTHER_ADDRESS);
	cr_expect(config->pools[1].low_ports && config->pools[1].port_first == 1);
	cr_expect_eq(config->pools[1].warn_above, 50);
	cr_expect_eq(config->pools[2].mode, CONFIG_DETERMINISTIC);
	cr_expect_eq(config->pools[2].dynamic_overflow, 20);
	cr_expect_eq(config->pools[2].ports_per_subscriber, 1024);
	cr_expect_eq(config->n_listen, 3);
	cr_expect_eq(config->n_statics, 2);
	cr_expect_eq(config->statics[1].protocol, 0);
	cr_expect_eq(config->statics[1].external.address, inet_addr("198.51.100.2"));
	cr_expect_eq(config->statics[1].external.port, 0);
	cr_expect_eq(config->realms[0].n_identity, 1);
	cr_expect_eq(config->realms[0].identity[0].length, 28);
	cr_expect_str_eq(config->listen[0], "unix:/run/x");
	cr_expect_str_eq(config->listen[1], "[::1]:4790");
	cr_expect_str_empty(config->admin_listen);
	cr_expect_str_eq(config->tls.ca, "/ca.pem");
	cr_expect(!config->log.blocks && config->log.sessions && config->log.destinations);
	cr_expect_str_eq(config->log.target, "syslog:unix:/dev/log");
	cr_expect_eq(config->log.format, CONFIG_LOG_RFC5424);
	cr_expect_eq(config->capacity.mappings, 1000);
	cr_expect_eq(config->capacity.fragments, 128);
	cr_expect_eq(config->lease_ms, 4000);
	cr_expect_eq(config->heartbeat_ms, 500);
	cr_expect_eq(config->grace_ms, 90000);
	cr_expect_eq(config->margin_ms, 200);
	cr_expect_eq(config->timers.tcp_established, 7440000);
	cr_expect_eq(config->timers.udp, 86400000);
	cr_expect_eq(config->hold_down_ms, 0);
	cr_expect(!config->inbound_refresh && !config->hairpinning);
	cr_expect_eq(config->mss_clamp, WIRE_MSS_AUTO);
	cr_expect_not(config->icmp_errors_outside);
	cr_expect_eq(config->pools[0].prefixes[0].length, 32);
	cr_expect_eq(config->pools[0].prefixes[0].address, inet_addr("192.0.2.9"));
	cr_expect_eq(config->pools[0].port_first, 4096);
	cr_expect_eq(config->pools[0].port_last, 8191);
	cr_expect_eq(config->pools[0].filtering_udp, CONFIG_EIF);
	cr_expect_eq(config->pools[0].filtering_tcp, CONFIG_APDF);
	cr_expect_not(config->pools[0].parity);
	cr_expect_eq(config->pools[0].n_protocols, 2);
	cr_expect_eq(config->pools[0].protocols[0], NAT_GRE);
	cr_expect_eq(config->pools[0].protocols[1], NAT_UDPLITE);
	cr_expect_eq(config->pools[1].n_prefixes, 2);
	cr_expect_eq(config->pools[1].prefixes[1].length, 30);
	cr_expect_eq(config->realms[0].id, 255);
	cr_expect_eq(config->realms[0].pool, 1);
	cr_expect_eq(config->realms[1].id, 2);
	cr_expect_eq(config->realms[1].pool, 0);
	cr_expect_eq(config->n_bypass, 1);
	cr_expect_eq(config->statics[0].realm, 255);
	cr_expect_eq(config->statics[0].protocol, NAT_UDP);
	cr_expect_eq(config->statics[0].external.port, htons(5));
	cr_expect_eq(config->statics[0].internal.address, inet_addr("10.1.2.3"));
	cr_expect_eq(config->redirects[0].from_realm, NAT_REALM_OUTSIDE);
	cr_expect_eq(config->redirects[0].to_realm, 2);
	cr_expect_eq(config->redirects[0].to.port, htons(8080));

	/* What is printed reads back to the same. */
	char *first = print(config);
	struct config *again = parse_good(first);
	char *second = print(again);
	cr_expect_str_eq(first, second);
	free(first);
	free(second);
	config_free(again);
	config_free(config);
}

Test(config, files_that_cannot_be_read_say_so)
{
	char error[512];
	struct config *config = NULL;

	cr_expect_eq(config_load("/nonexistent/x.yaml", &config, error, sizeof error), ERR_IO);
	cr_expect(strstr(error, "/nonexistent/x.yaml: cannot be opened: No such file"), "%s",
		  error);
	cr_expect_eq(config_load("/", &config, error, sizeof error), ERR_IO);
	cr_expect(strstr(error, "cannot be read: Is a directory"), "%s", error);
	cr_expect_null(config);
}

struct example {
	char path[64];
};

ParameterizedTestParameters(config, examples_load_and_print_back)
{
	static struct example rows[] = {{"deploy/examples/tablesvc.yaml"},
					{"deploy/examples/home-gateway.yaml"}};
	return cr_make_param_array(struct example, rows, 2);
}

ParameterizedTest(struct example *row, config, examples_load_and_print_back)
{
	char path[512], error[512] = "";
	struct config *config = NULL;

	snprintf(path, sizeof path, CONAT_SOURCE_DIR "/%s", row->path);
	cr_assert_eq(config_load(path, &config, error, sizeof error), 0, "%s", error);
	char *text = print(config);
	struct config *again = parse_good(text);
	char *second = print(again);
	cr_expect_str_eq(text, second);
	free(text);
	free(second);
	config_free(again);
	config_free(config);
}

/* The commented example is the manual of the file: it names every key that is printed. */
Test(config, the_example_has_every_key_at_its_default)
{
	char error[512] = "", *text;
	struct config *example = NULL, *plain = parse_good(BASE);

	cr_assert_eq(config_load(CONAT_SOURCE_DIR "/deploy/examples/tablesvc.yaml", &example, error,
				 sizeof error),
		     0, "%s", error);
	text = print(plain);
	char *defaults_end = strstr(text, "pools:\n"), *example_text = print(example);
	cr_assert_not_null(defaults_end);
	cr_expect_eq(strncmp(text, example_text, (size_t)(defaults_end - text)), 0,
		     "what the example calls default is not:\n%s\n%s", text, example_text);

	FILE *file = fopen(CONAT_SOURCE_DIR "/deploy/examples/tablesvc.yaml", "r");
	char source[32768];
	cr_assert_not_null(file);
	source[fread(source, 1, sizeof source - 1, file)] = '\0';
	fclose(file);
	char *rest = NULL;
	for (char *line = strtok_r(example_text, "\n", &rest); line;
	     line = strtok_r(NULL, "\n", &rest)) {
		char key[64];
		if (sscanf(line, " - %63[a-z_]:", key) == 1 ||
		    sscanf(line, " %63[a-z_]:", key) == 1) {
			strcat(key, ":");
			cr_expect(strstr(source, key), "the example does not show %s", key);
		}
	}
	free(text);
	free(example_text);
	config_free(plain);
	config_free(example);
}

/* RFC 4787 REQ-5, RFC 5382 REQ-5, RFC 5508 REQ-2: less is possible, but said. */
Test(config, advises_against_timers_that_are_shorter_than_an_rfc_allows)
{
	struct config *config = parse_good(BASE);
	char text[256];

	cr_expect_not(config_advice(config, 0, text, sizeof text), "defaults are good: %s", text);
	config_free(config);
	config = parse_good(BASE "timers: {udp: 119s, udp_dns: 1s, icmp: 1m, tcp_opening: 30s,\n"
				 "  tcp_closing: 239s, tcp_established: 2h}\n");
	static const char *const said[] = {
	    "timers.udp is 1m59s, less than the 2m of RFC 4787 REQ-5",
	    "timers.tcp_established is 2h, less than the 2h4m of RFC 5382 REQ-5",
	    "timers.tcp_opening is 30s, less than the 4m of RFC 5382 REQ-5",
	    "timers.tcp_closing is 3m59s, less than the 4m of RFC 5382 REQ-5",
	};
	for (unsigned i = 0; i < 4; i++) {
		cr_assert(config_advice(config, i, text, sizeof text));
		cr_expect_eq(strncmp(text, said[i], strlen(said[i])), 0, "%s", text);
	}
	cr_expect_not(config_advice(config, 4, text, sizeof text), "%s", text);
	config_free(config);
	config = parse_good(BASE "timers: {icmp: 59s}\n");
	cr_assert(config_advice(config, 0, text, sizeof text));
	cr_expect(strstr(text, "timers.icmp is 59s, less than the 1m of RFC 5508 REQ-2"), "%s", text);
	config_free(config);
}

Test(config, the_command_line_sets_single_keys)
{
	struct config *config = parse_good(BASE "service: {listen: [a:1, b:2]}\n");
	char error[256];

	cr_expect_eq(config_set(config, "service.listen", "unix:/x", error, sizeof error), 0);
	cr_expect_eq(config->n_listen, 1);
	cr_expect_str_eq(config->listen[0], "unix:/x");
	cr_expect_eq(config_set(config, "service.admin", "off", error, sizeof error), 0);
	cr_expect_str_empty(config->admin_listen);
	cr_expect_eq(config_set(config, "timers.udp", "3m", error, sizeof error), 0);
	cr_expect_eq(config->timers.udp, 180000);
	cr_expect_eq(config_set(config, "service.listen", "x", error, sizeof error), ERR_INVALID);
	cr_expect(strstr(error, "service.listen: \"x\" is not an address"), "%s", error);
	static const char *const none[] = {"",	    "service", "service.",	   "service.tls",
					   "pools", ".",       "service.listen.x", "timers.udp.",
					   "udp"};
	for (unsigned i = 0; i < sizeof none / sizeof none[0]; i++)
		cr_expect_eq(config_set(config, none[i], "1", error, sizeof error), ERR_NOT_FOUND,
			     "%s", none[i]);
	config_free(config);
}
