/* SPDX-License-Identifier: Apache-2.0 */
/* What is refused, and with which sentence: configurations, and reloads of them. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/err.h"
#include "tests/support/config_bed.h"

struct bad {
	char text[640];
	char parts[3][96]; /* that the sentence must have */
};

ParameterizedTestParameters(config_refusals, refuses_with_a_sentence)
{
	static struct bad rows[] = {
	    /* the file */
	    {"", {"t.yaml:1: the file is empty"}},
	    {"# only a comment\n", {"the file is empty"}},
	    {"a: [\n", {"t.yaml:2", "not YAML"}},
	    {"\ta: 1\n", {"t.yaml:1", "not YAML"}},
	    {"- 1\n", {"t.yaml:1: is a list", "allowed: the keys service, log, capacity"}},
	    {"just text\n", {"t.yaml:1: is a single value", "allowed: the keys"}},
	    {BASE "---\n" BASE, {"t.yaml:4: a second YAML document"}},
	    {BASE "\x01: 1\n", {"not YAML"}},
	    {"a: [[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]\n",
	     {"t.yaml:1: nested more than 16"}},
	    {"a: &a [*a]\n", {"t.yaml:1: a YAML alias"}},
	    {BASE "timers: {<<: {udp: 1s}}\n", {"unknown key \"<<\""}},
	    /* keys */
	    {BASE "timer: {}\n", {"t.yaml:3: unknown key \"timer\"", "timers, limits"}},
	    {BASE "timers:\n  upd: 1s\n",
	     {"t.yaml:4: timers: unknown key \"upd\"", "udp, udp_dns"}},
	    {BASE POOLS, {"t.yaml:3: key \"pools\" is there twice"}},
	    {BASE "timers:\n  udp: 1m\n  udp: 2m\n",
	     {"t.yaml:5: timers: key \"udp\" is there twice"}},
	    {BASE "? [a]\n: 1\n", {"t.yaml:3", "not plain text"}},
	    {BASE "\"a\\nb\": 1\n", {"t.yaml:3", "not plain text"}},
	    {POOLS, {"t.yaml:1: the key \"realms\" is missing"}},
	    {"pools: [{prefixes: [192.0.2.0/24]}]\n" REALMS,
	     {"t.yaml:1: pools[0]: the key \"name\" is missing"}},
	    {"pools: []\n" REALMS, {"t.yaml:1: pools: has 0 entries", "allowed: 1 to 64"}},
	    {"pools:\n" REALMS, {"t.yaml:1: pools: has 0 entries"}},
	    /* types */
	    {BASE "timers: {tcp_transitory: 4m}\n",
	     {"t.yaml:3: timers: key \"tcp_transitory\" is now tcp_opening and tcp_closing"}},
	    {BASE "timers: 5\n", {"t.yaml:3: timers: is a single value", "allowed: the keys udp"}},
	    {BASE "timers: {udp: [1s]}\n", {"t.yaml:3: timers.udp: is a list", "a single value"}},
	    {BASE "bypass: {a: b}\n", {"t.yaml:3: bypass: is a group of keys", "allowed: a list"}},
	    {BASE "static: 7\n", {"t.yaml:3: static: is a single value", "allowed: a list"}},
	    {BASE "static: [7]\n", {"t.yaml:3: static[0]: is a single value", "realm, protocol"}},
	    {BASE "timers: {udp: }\n", {"t.yaml:3: timers.udp: has no value"}},
	    {BASE "timers: {udp: !!int 5}\n", {"timers.udp: has a YAML tag"}},
	    {BASE "service: {tls: {key: \"a\\tb\"}}\n", {"tls.key", "not printable ASCII"}},
	    /* numbers and durations */
	    {BASE "timers: {udp: 3x}\n",
	     {"t.yaml:3: timers.udp: \"3x\" is not a duration", "1s to 1d", "300s, 2h4m"}},
	    {BASE "timers: {udp: 4m2h}\n", {"\"4m2h\" is not a duration"}},
	    {BASE "timers: {udp: -5s}\n", {"\"-5s\" is not a duration"}},
	    {BASE "timers: {udp: 1.5s}\n", {"\"1.5s\" is not a duration"}},
	    {BASE "timers: {udp: 500ms}\n", {"\"500ms\" is out of range", "1s to 1d"}},
	    {BASE "timers: {udp: 99999999999999999999}\n", {"is not a duration"}},
	    {BASE "timers: {udp: 1000000000d}\n", {"out of range"}},
	    {BASE "timers: {negative: 2s}\n", {"timers.negative", "0s to 1s"}},
	    {BASE "capacity: {sessions: 0}\n", {"capacity.sessions", "64 to 134217728"}},
	    {BASE "capacity: {sessions: 9999999999}\n", {"out of range", "64 to 134217728"}},
	    {BASE "capacity: {fragments: 10}\n", {"capacity.fragments", "64 to 1048576"}},
	    {BASE "capacity: {sessions: many}\n", {"\"many\" is not a whole number"}},
	    {BASE "capacity: {sessions: 1e6}\n", {"is not a whole number"}},
	    {BASE "limits: {blocks: 1025}\n", {"limits.blocks", "1 to 1024"}},
	    {BASE "dataplanes: {batch: 1025}\n", {"dataplanes.batch", "1 to 1024"}},
	    {BASE "dataplanes: {fragment_timeout: 1s}\n", {"fragment_timeout", "2s to 2m"}},
	    {BASE "behaviour: {hairpinning: maybe}\n", {"neither true nor false"}},
	    {BASE "behaviour: {mss_clamp: 535}\n", {"behaviour.mss_clamp", "off, auto", "536 to"}},
	    {BASE "behaviour: {mss_clamp: pmtu}\n", {"behaviour.mss_clamp", "off, auto"}},
	    {BASE "log: {target: /var/log/x}\n",
	     {"log.target: \"/var/log/x\" is no place for a log", "file:/PATH"}},
	    {BASE "log: {target: \"file:relative\"}\n", {"is no place for a log"}},
	    {BASE "log: {target: \"syslog:collector\"}\n", {"syslog:HOST:PORT"}},
	    {BASE "log: {target: \"syslog:unix:\"}\n", {"syslog:unix:/PATH"}},
	    {BASE "log: {format: xml}\n", {"log.format: \"xml\" is not a choice", "json, rfc5424"}},
	    /* relations */
	    {BASE "lease:\n  heartbeat: 5s\n",
	     {"t.yaml:4: lease.heartbeat: 5s is too long for a lease of 10s", "less than half"}},
	    {BASE "lease:\n  duration: 1s\n", {"t.yaml:4: lease.heartbeat: 2s is too long"}},
	    {BASE "lease: {margin: 10s}\n", {"lease.margin: 10s is not less than the lease"}},
	    {BASE "dataplanes: {pending: {packets: 8}}\n",
	     {"per_flow: 16 is more than packets, 8"}},
	    /* service */
	    {BASE "service: {listen: []}\n", {"service.listen: has 0 entries", "1 to 8"}},
	    {BASE "service: {listen: [x:1, x:2, x:3, x:4, x:5, x:6, x:7, x:8, x:9]}\n",
	     {"has 9 entries", "1 to 8"}},
	    {BASE "service: {listen: host}\n", {"service.listen: \"host\" is not an address"}},
	    {BASE "service: {listen: host:0}\n", {"a port from 1 to 65535"}},
	    {BASE "service: {listen: host:65536}\n", {"a port from 1 to 65535"}},
	    {BASE "service: {listen: \":4790\"}\n", {"is not an address to listen on"}},
	    {BASE "service: {listen: \"::1:4790\"}\n", {"[IPV6]:PORT"}},
	    {BASE "service: {listen: \"unix:\"}\n", {"has no usable path"}},
	    {BASE "service: {listen: [a:1, b:2, a:1]}\n",
	     {"t.yaml:3: service.listen[2]: a:1 is there twice"}},
	    {BASE "service: {admin: \"unix:/x\"}\n", {"service.admin", "HOST:PORT or off"}},
	    {BASE "service: {journal: etcd}\n", {"\"etcd\" is no journal", "allowed: none"}},
	    {BASE "service: {tls: {key: /k}}\n", {"t.yaml:3: service.tls", "all three"}},
	    /* pools */
	    {"pools: [{name: p, prefixes: [192.0.2.0/24, 192.0.2.128/25]}]\n" REALMS,
	     {"t.yaml:1: pools[0].prefixes[1]: 192.0.2.128/25 overlaps 192.0.2.0/24 of pool "
	      "\"p\""}},
	    {"pools:\n - {name: p, prefixes: [192.0.2.0/25]}\n - {name: q, prefixes:\n"
	     "     [198.51.100.1, 192.0.2.0/24]}\n" REALMS,
	     {"t.yaml:4: pools[1].prefixes[1]: 192.0.2.0/24 overlaps 192.0.2.0/25 of pool \"p\""}},
	    {"pools: [{name: p, prefixes: [192.0.2.1/24]}]\n" REALMS,
	     {"has host bits set", "did you mean 192.0.2.0/24"}},
	    {"pools: [{name: p, prefixes: [192.0.2.0/33]}]\n" REALMS, {"is not an IPv4 prefix"}},
	    {"pools: [{name: p, prefixes: [\"2001:db8::/64\"]}]\n" REALMS, {"not an IPv4 prefix"}},
	    {"pools: [{name: p, prefixes: [0.0.0.0/0]}]\n" REALMS, {"no host may have"}},
	    {"pools: [{name: p, prefixes: [224.0.0.0/24]}]\n" REALMS, {"no host may have"}},
	    {"pools: [{name: p, prefixes: [127.0.0.0/24]}]\n" REALMS, {"no host may have"}},
	    {"pools: [{name: p, prefixes: [11.0.0.0/8]}]\n" REALMS,
	     {"t.yaml:1: pools[0].prefixes[0]: 11.0.0.0/8 makes more than 65536 addresses"}},
	    {"pools: [{name: p, prefixes: [11.0.0.0/17, 12.0.0.0/17], block_size: 64}]\n" REALMS,
	     {"pools[0].prefixes[0]: 11.0.0.0/17 makes more than 16777216 port blocks"}},
	    {"pools: [{name: p, prefixes: [192.0.2.1], protocols: [tcp]}]\n" REALMS,
	     {"pools[0].protocols[0]: \"tcp\" is nothing to translate by address", "gre, sctp"}},
	    {"pools: [{name: p, prefixes: [192.0.2.1], protocols: [gre, esp, gre]}]\n" REALMS,
	     {"pools[0].protocols[2]: the protocol is there twice", "once"}},
	    {"pools: [{name: p, prefixes: [192.0.2.1], block_size: 300}]\n" REALMS,
	     {"pools[0].block_size: 300 is no power of two", "64, 128"}},
	    {"pools: [{name: p, prefixes: [192.0.2.1], block_size: 32}]\n" REALMS,
	     {"block_size: \"32\" is out of range", "64 to 4096"}},
	    {"pools: [{name: p, prefixes: [192.0.2.1], block_size: 2048}]\n" REALMS,
	     {"t.yaml:1: pools[0].ports: 1024-65535 does not divide", "allowed: 2048-65535"}},
	    {"pools: [{name: p, prefixes: [192.0.2.1], ports: 1-200}]\n" REALMS,
	     {"pools[0].ports: 1-200 holds no whole block of 256"}},
	    {"pools: [{name: p, prefixes: [192.0.2.1], ports: 512-65535}]\n" REALMS,
	     {"pools[0].ports: 512-65535 begins below 1024", "allowed:", "low_ports: true"}},
	    {"pools: [{name: p, prefixes: [192.0.2.1], low_ports: true}]\n" REALMS,
	     {"pools[0].low_ports: true, but ports are 1024-65535", "1-65535"}},
	    {"pools: [{name: p, prefixes: [192.0.2.1], low_ports: true, ports: 1-65535,\n"
	     "  block_size: 2048}]\n" REALMS,
	     {"pools[0].low_ports: true, but a block of 2048", "1024 or less"}},
	    {"pools: [{name: p, prefixes: [192.0.2.1], pooling: random}]\n" REALMS,
	     {"pools[0].pooling: \"random\" is not a choice", "paired, arbitrary"}},
	    {"pools: [{name: p, prefixes: [192.0.2.1], fallback: yes}]\n" REALMS,
	     {"pools[0].fallback: \"yes\" is not a choice", "refuse, another-address"}},
	    {"pools: [{name: p, prefixes: [192.0.2.1], ports_per_subscriber: 256}]\n" REALMS,
	     {"pools[0].ports_per_subscriber: set, but the mode is dynamic", "limits.ports"}},
	    {"pools: [{name: p, prefixes: [192.0.2.1], dynamic_overflow: 10}]\n" REALMS,
	     {"pools[0].dynamic_overflow: set, but the mode is dynamic"}},
	    {"pools: [{name: p, prefixes: [192.0.2.1], mode: deterministic, pooling: arbitrary}]\n"
	     REALMS,
	     {"pools[0].pooling: arbitrary, but the mode is deterministic"}},
	    {"pools: [{name: p, prefixes: [192.0.2.1], mode: deterministic, low_ports: true,\n"
	     "  ports: 1-65535}]\n" REALMS,
	     {"pools[0].low_ports: true, but the mode is deterministic"}},
	    /* RFC 7422: too many for the ports, with the numbers. */
	    {"pools: [{name: p, prefixes: [192.0.2.0/28], mode: deterministic}]\n"
	     "realms: [{name: home, prefixes: [10.0.0.0/16], pool: p}]\n",
	     {"pools[0].mode: deterministic, with 65536 subscribers on 16 addresses, which is 4096 ",
	      "64512 fixed ports hold 252 ranges of 256; allowed: more addresses"}},
	    {"pools: [{name: p, prefixes: [192.0.2.0/28], mode: deterministic, dynamic_overflow: "
	     "50,\n  ports_per_subscriber: 4096}]\n"
	     "realms: [{name: home, prefixes: [10.0.0.0/24], pool: p}]\n",
	     {"256 subscribers on 16 addresses, which is 16 ", "32256 fixed ports hold 7 ranges of 4096",
	      "ports_per_subscriber of 1792 at most"}},
	    {"pools: [{name: p, prefixes: [192.0.2.0/28], mode: deterministic,\n"
	     "  ports_per_subscriber: 1000}]\n"
	     "realms: [{name: home, prefixes: [10.0.0.0/24], pool: p}]\n",
	     {"ports_per_subscriber is 1000, no multiple of block_size, 256"}},
	    {"pools: [{name: p, prefixes: [192.0.2.1], mode: deterministic}, {name: q, prefixes: "
	     "[192.0.2.2]}]\n"
	     "realms: [{name: home, prefixes: [10.0.0.0/24], pool: q}]\n",
	     {"pools[0].mode: deterministic, but no realm uses the pool"}},
	    {"pools: [{name: p, prefixes: [192.0.2.1], mode: deterministic}]\n"
	     "realms: [{name: home, prefixes: [10.0.0.0/26], pool: p}]\n"
	     "redirect: [{name: r, from_realm: home, protocol: udp, destination: 9.9.9.9:53,\n"
	     "            to_realm: outside, to: 9.9.9.10:53, pool: p}]\n",
	     {"redirect[0].pool: pool \"p\" is deterministic"}},
	    {BASE "limits: {ports: -1}\n", {"limits.ports: \"-1\" is not a whole number"}},
	    {"pools: [{name: p, prefixes: [192.0.2.1], warn_above: 101}]\n" REALMS,
	     {"pools[0].warn_above: \"101\" is out of range"}},
	    {"pools: [{name: p, prefixes: [192.0.2.1], ports: 5-4}]\n" REALMS,
	     {"is not a range of ports", "like 1024-65535"}},
	    {"pools: [{name: p, prefixes: [192.0.2.1], ports: 0-65535}]\n" REALMS,
	     {"is not a range of ports"}},
	    {"pools: [{name: p, prefixes: [192.0.2.1], filtering: {udp: none}}]\n" REALMS,
	     {"pools[0].filtering.udp: \"none\" is no filtering behaviour", "address-dependent"}},
	    {"pools: [{name: p, prefixes: [192.0.2.1]}, {name: p, prefixes: [192.0.2.2]}]\n" REALMS,
	     {"pools[1].name: there is a pool named \"p\" already"}},
	    {"pools: [{name: \"p q\", prefixes: [192.0.2.1]}]\n" REALMS, {"\"p q\" is not a name"}},
	    /* realms */
	    {POOLS "realms: [{name: r, prefixes: [10.0.0.0/8], pool: x}]\n",
	     {"t.yaml:2: realms[0].pool: there is no pool named \"x\""}},
	    {POOLS "realms: [{name: outside, prefixes: [10.0.0.0/8], pool: p}]\n",
	     {"realms[0].name: \"outside\" is the name of"}},
	    {POOLS "realms: [{name: r, prefixes: [10.0.0.0/8, 10.1.0.0/16], pool: p}]\n",
	     {"realms[0].prefixes[1]: 10.1.0.0/16 overlaps 10.0.0.0/8 of the same realm"}},
	    {POOLS "realms: [{name: r, prefixes: [192.0.0.0/8], pool: p}]\n",
	     {"192.0.0.0/8 overlaps 192.0.2.0/24 of pool \"p\""}},
	    {POOLS "realms: [{name: r, prefixes: [0.0.0.0/0], pool: p}]\n", {"of pool \"p\""}},
	    {POOLS "realms: [{name: r, id: 256, prefixes: [10.0.0.0/8], pool: p}]\n",
	     {"realms[0].id", "1 to 255"}},
	    {POOLS "realms:\n - {name: r, id: 2, prefixes: [10.0.0.0/8], pool: p}\n"
		   " - {name: s, prefixes: [10.0.0.0/8], pool: p}\n",
	     {"t.yaml:4: realms[1].id: 2 is the id of realm \"r\" already"}},
	    {POOLS "realms: [{name: r, prefixes: [10.0.0.0/8], pool: p},\n"
		   " {name: r, prefixes: [10.0.0.0/8], pool: p}]\n",
	     {"t.yaml:3: realms[1].name: there is a realm named \"r\" already"}},
	    {POOLS "realms: [{name: r, prefixes: [], pool: p}]\n", {"prefixes: has 0 entries"}},
	    /* bypass */
	    {BASE "bypass: [192.0.2.0/30]\n", {"t.yaml:3: bypass[0]", "of pool \"p\""}},
	    {BASE "bypass: [10.0.0.0/8, 10.0.0.0/9]\n", {"bypass[1]", "overlaps 10.0.0.0/8"}},
	    /* statics */
	    {BASE
	     "static: [{realm: x, protocol: tcp, external: 192.0.2.1:1, internal: 10.0.0.1:1}]\n",
	     {"t.yaml:3: static[0].realm: there is no realm named \"x\""}},
	    {BASE "static: [{realm: outside, protocol: tcp, external: 192.0.2.1:1,\n"
		  " internal: 10.0.0.1:1}]\n",
	     {"there is no realm named \"outside\""}},
	    {BASE
	     "static: [{realm: home, protocol: icmp, external: 192.0.2.1:1, internal: 10.0.0.1:1}]",
	     {"static[0].protocol", "allowed: tcp, udp"}},
	    {BASE
	     "static: [{realm: home, protocol: tcp, external: 192.0.3.1:1, internal: 10.0.0.1:1}]",
	     {"t.yaml:3: static[0].external: the address is in no pool"}},
	    {BASE
	     "static: [{realm: home, protocol: tcp, external: 192.0.2.1:1, internal: 11.0.0.1:1}]",
	     {"static[0].internal: the address is in no prefix of realm \"home\""}},
	    {BASE
	     "static: [{realm: home, protocol: tcp, external: 192.0.2.1, internal: 10.0.0.1:1}]",
	     {"static[0].external: allowed: external and internal with ports", "1:1"}},
	    {BASE "static: [{realm: home, external: 192.0.2.1, internal: 10.0.0.1:1}]",
	     {"static[0].external: allowed: external and internal with ports", "1:1"}},
	    {BASE "static: [{realm: home, external: 192.0.2, internal: 10.0.0.1}]",
	     {"static[0].external: \"192.0.2\" is neither an endpoint nor an address"}},
	    {BASE "static:\n"
		  "- {realm: home, external: 192.0.2.1, internal: 10.0.0.1}\n"
		  "- {realm: home, protocol: tcp, external: 192.0.2.1:2, internal: 10.0.0.2:1}\n",
	     {"static[1].external: static[0] has this external endpoint already"}},
	    {BASE "static:\n"
		  "- {realm: home, protocol: tcp, external: 192.0.2.1:2, internal: 10.0.0.2:1}\n"
		  "- {realm: home, external: 192.0.2.2, internal: 10.0.0.2}\n",
	     {"static[1].internal: static[0] maps this internal endpoint already"}},
	    {"pools: [{name: p, prefixes: [192.0.2.0/28], mode: deterministic}]\n"
	     "realms: [{name: home, prefixes: [10.0.0.0/28], pool: p}]\n"
	     "static: [{realm: home, external: 192.0.2.1, internal: 10.0.0.1}]",
	     {"static[0].external: the address has the fixed ranges of subscribers"}},
	    {BASE "static: [{realm: home, external: 192.0.2.1, internal: 10.0.0.1}]\n"
		  "redirect: [{name: r, from_realm: outside, protocol: tcp,\n"
		  "  destination: 192.0.2.1:1, to_realm: home, to: 10.0.0.1:1, pool: p}]\n",
	     {"redirect[0].destination: static[0] has this external endpoint already"}},
	    /* identity */
	    {POOLS "realms: [{name: r, prefixes: [10.0.0.0/8], identity: [11.0.0.1], pool: p}]\n",
	     {"realms[0].identity[0]: 11.0.0.1/32 is in none of the realm's prefixes"}},
	    {POOLS "realms: [{name: r, prefixes: [10.0.0.0/8], identity: [10.0.0.0/7], pool: p}]\n",
	     {"realms[0].identity[0]: 10.0.0.0/7 is in none of the realm's prefixes"}},
	    {POOLS "realms: [{name: r, prefixes: [10.0.0.0/8], identity: [10.0.0.1, 10.0.0.0/24],\n"
		   "  pool: p}]\n",
	     {"realms[0].identity[1]: 10.0.0.0/24 overlaps 10.0.0.1/32"}},
	    {POOLS "realms:\n- {name: r, prefixes: [10.0.0.0/8], pool: p}\n"
		   "- {name: s, prefixes: [10.1.0.0/16], identity: [10.1.0.1], pool: p}\n",
	     {"realms[1].identity[0]: 10.1.0.1/32 overlaps 10.0.0.0/8 of realm \"r\""}},
	    {POOLS "realms: [{name: r, prefixes: [10.0.0.0/8], identity: [10.0.0.1], pool: p}]\n"
		   "static: [{realm: r, external: 192.0.2.1, internal: 10.0.0.1}]\n",
	     {"static[0].internal: the address is one of realm \"r\" that is not translated"}},
	    {BASE "static:\n"
		  "- {realm: home, protocol: tcp, external: 192.0.2.1:1, internal: 10.0.0.1:1}\n"
		  "- {realm: home, protocol: udp, external: 192.0.2.1:1, internal: 10.0.0.1:1}\n"
		  "- {realm: home, protocol: tcp, external: 192.0.2.1:1, internal: 10.0.0.2:1}\n",
	     {"t.yaml:6: static[2].external: static[0] has this external endpoint already"}},
	    {BASE "static:\n"
		  "- {realm: home, protocol: tcp, external: 192.0.2.1:1, internal: 10.0.0.1:1}\n"
		  "- {realm: home, protocol: tcp, external: 192.0.2.1:2, internal: 10.0.0.1:1}\n",
	     {"t.yaml:5: static[1].internal: static[0] maps this internal endpoint already"}},
	    /* redirects */
	    /* mirage-nat P9: its ICMP mode is refused */
	    {BASE "redirect: [{name: r, from_realm: home, protocol: icmp, destination: 1.1.1.1:1,\n"
		  "  to_realm: home, to: 10.0.0.1:1, pool: p}]\n",
	     {"redirect[0].protocol", "allowed: tcp, udp"}},
	    {BASE
	     "redirect: [{name: r, from_realm: nowhere, protocol: tcp, destination: 1.1.1.1:1,\n"
	     "  to_realm: home, to: 10.0.0.1:1, pool: p}]\n",
	     {"redirect[0].from_realm: there is no realm named \"nowhere\"", "or outside"}},
	    {BASE "redirect: [{name: r, from_realm: home, protocol: tcp, destination: 1.1.1.1:1,\n"
		  "  to_realm: home, to: 10.0.0.1:1, pool: none}]\n",
	     {"t.yaml:4: redirect[0].pool: there is no pool named \"none\""}},
	    {BASE
	     "redirect: [{name: r, from_realm: outside, protocol: tcp, destination: 1.1.1.1:1,\n"
	     "  to_realm: home, to: 10.0.0.1:1, pool: p}]\n",
	     {"redirect[0].destination: the address is in no pool"}},
	    {BASE "redirect: [{name: r, from_realm: home, protocol: tcp, destination: 1.1.1.1:1,\n"
		  "  to_realm: home, to: 1.0.0.1:1, pool: p}]\n",
	     {"t.yaml:4: redirect[0].to: the address is in no prefix of realm \"home\""}},
	    {BASE "redirect: [{name: r, from_realm: home, protocol: tcp, destination: 1.1.1.1:1,\n"
		  "  to_realm: outside, to: 192.0.2.1:1, pool: p}]\n",
	     {"redirect[0].to: the address is in a pool"}},
	    {BASE
	     "static: [{realm: home, protocol: tcp, external: 192.0.2.1:1, internal: 10.0.0.1:1}]\n"
	     "redirect: [{name: r, from_realm: outside, protocol: tcp, destination: 192.0.2.1:1,\n"
	     "  to_realm: home, to: 10.0.0.1:1, pool: p}]\n",
	     {"redirect[0].destination: static[0] has this external endpoint already"}},
	    {BASE "pcp:\n  listen:\n    - {realm: home, address: 10.0.0.1:5351}\n    - {realm: home, "
		  "address: 10.0.0.1:5351}\n",
	     {"t.yaml", "pcp.listen[1]", "twice"}},
	    {BASE "pcp: {listen: [{realm: away, address: 10.0.0.1:5351}]}\n",
	     {"t.yaml:3", "pcp.listen[0].realm", "away"}},
	    {BASE "pcp: {lifetime_min: 10m, lifetime_max: 5m}\n",
	     {"t.yaml:3", "pcp.lifetime_max", "less than"}},
	};
	return cr_make_param_array(struct bad, rows, sizeof rows / sizeof rows[0]);
}

ParameterizedTest(struct bad *row, config_refusals, refuses_with_a_sentence)
{
	char error[512] = "";
	struct config *config = parse(row->text, error, sizeof error);

	cr_assert_null(config, "was accepted: %s", row->text);
	for (unsigned i = 0; i < 3; i++)
		cr_expect(strstr(error, row->parts[i]), "no \"%s\" in \"%s\"", row->parts[i],
			  error);
	cr_expect_null(strchr(error, '\n'), "one line: %s", error);
	config_free(config);
}

Test(config_refusals, too_many_prefixes_for_one_push_are_refused)
{
	char *text = malloc(1 << 20), error[512];
	size_t used = (size_t)sprintf(text, POOLS "realms:\n");

	for (unsigned realm = 0; realm < 5; realm++) {
		used += (size_t)sprintf(text + used, "- {name: r%u, pool: p, prefixes: [", realm);
		for (unsigned i = 0; i < 220; i++)
			used += (size_t)sprintf(text + used, "10.%u.%u.0/24,", realm, i);
		used += (size_t)sprintf(text + used, "]}\n");
	}
	cr_expect_null(parse(text, error, sizeof error));
	cr_expect(strstr(error, "have 1101 prefixes together; allowed: 1024"), "%s", error);
	free(text);
}

Test(config_refusals, more_statics_than_mappings_are_refused)
{
	char *text = malloc(1 << 16), error[512];
	size_t used = (size_t)sprintf(text, BASE "capacity: {mappings: 64}\nstatic:\n");

	for (unsigned i = 1; i <= 65; i++)
		used += (size_t)sprintf(text + used,
					"- {realm: home, protocol: tcp, external: 192.0.2.1:%u, "
					"internal: 10.0.0.1:%u}\n",
					i, i);
	cr_expect_null(parse(text, error, sizeof error));
	cr_expect(strstr(error, "t.yaml:5: static: 65 entries are more than capacity.mappings, 64"),
		  "%s", error);
	free(text);
}

Test(config_refusals, a_short_error_buffer_is_enough)
{
	char error[16];
	struct config *config = NULL;

	cr_expect_eq(config_parse("t.yaml", "x: 1", 4, &config, error, sizeof error), ERR_INVALID);
	cr_expect_str_eq(error, "t.yaml:1: unkno");
}

struct reload {
	char old[320], new[320];
	char part[80]; /* "" = goes */
};

ParameterizedTestParameters(config_refusals, reload_refuses_what_needs_a_restart)
{
	static struct reload rows[] = {
	    {BASE, BASE, ""},
	    {BASE, BASE "timers: {udp: 2m}\nlimits: {blocks: 2}\n", ""},
	    {BASE,
	     "pools: [{name: q, prefixes: [198.51.100.0/24], block_size: 64}]\n"
	     "realms: [{name: home, prefixes: [10.0.0.0/9], pool: q}]\n",
	     ""},
	    {BASE, BASE "service: {listen: a:1}\n", "service.listen: a change needs a restart"},
	    {BASE, BASE "service: {admin: off}\n", "service.admin"},
	    {BASE, BASE "service: {tls: {certificate: a, key: b, ca: c}}\n", "service.tls"},
	    {BASE, BASE "capacity: {sessions: 100}\n", "capacity"},
	    {BASE, BASE "lease: {grace: 1s}\n", "lease"},
	    {BASE, BASE "dataplanes: {batch: 1}\n", "dataplanes.batch"},
	    {BASE, BASE "dataplanes: {inflight: 1}\n", "dataplanes.inflight"},
	    {BASE, BASE "pcp: {listen: [{realm: home, address: 10.0.0.1:5351}]}\n", "pcp.listen"},
	    {BASE, BASE "pcp: {mappings: 5}\n", "pcp.mappings"},
	    {BASE,
	     "pools: [{name: q, prefixes: [192.0.2.7], block_size: 64}]\n"
	     "realms: [{name: home, prefixes: [10.0.0.0/8], pool: q}]\n",
	     "pools: \"q\" has other ports"},
	    {BASE, BASE "timers: {hold_down_at_start: 2m}\n", ""},
	    {BASE,
	     "pools: [{name: p, prefixes: [192.0.2.0/24], ports: 1-65535, low_ports: true}]\n" REALMS,
	     "pools: \"p\" has other ports"},
	    {"pools: [{name: p, prefixes: [192.0.2.0/24]}]\n"
	     "realms: [{name: home, prefixes: [10.0.0.0/16], pool: p}]\n",
	     "pools: [{name: p, prefixes: [192.0.2.0/24], mode: deterministic, block_size: 128}]\n"
	     "realms: [{name: home, prefixes: [10.0.0.0/16], pool: p}]\n",
	     "another block_size or another mode"},
	    {BASE, "pools: [{name: p, prefixes: [192.0.2.0/24], fallback: another-address}]\n" REALMS,
	     ""},
	    {BASE, POOLS "realms: [{name: work, prefixes: [10.0.0.0/8], pool: p}]\n",
	     "realms: \"work\" (id 1) was \"home\" (id 1)"},
	    {BASE, POOLS "realms: [{name: home, id: 7, prefixes: [10.0.0.0/8], pool: p}]\n",
	     "realms: \"home\" (id 7) was \"home\" (id 1)"},
	};
	return cr_make_param_array(struct reload, rows, sizeof rows / sizeof rows[0]);
}

ParameterizedTest(struct reload *row, config_refusals, reload_refuses_what_needs_a_restart)
{
	struct config *old = parse_good(row->old), *new = parse_good(row->new);
	char error[512] = "";
	int err = config_check_reload(old, new, error, sizeof error);

	if (row->part[0] == '\0') {
		cr_expect_eq(err, 0, "%s", error);
	} else {
		cr_expect_neq(err, 0);
		cr_expect(strstr(error, row->part), "no \"%s\" in \"%s\"", row->part, error);
	}
	config_free(old);
	config_free(new);
}
