/* SPDX-License-Identifier: Apache-2.0 */
/* A capture through the owner thread and a real service: the reader never outruns the table. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <pcap/pcap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "dataplane/port_pcap.h"
#include "dataplane/table_client.h"
#include "tests/support/service.h"

enum {
	FLOWS = 20000,
	SOURCES = 2000,
	REPEATS = 500, /* packets of one new flow in a row */
	PACKETS = REPEATS + FLOWS,
	PARKED = 64, /* far fewer than a file brings */
};

struct datagram {
	struct iphdr ip;
	struct udphdr udp;
	uint32_t number;
} __attribute__((packed));

static char in[64], out[64], error[512];

static uint16_t sum(const void *data, size_t length)
{
	const uint8_t *p = data;
	uint32_t total = 0;
	for (size_t i = 0; i + 1 < length; i += 2)
		total += (uint32_t)p[i] << 8 | p[i + 1];
	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	return htons((uint16_t)~total);
}

static struct datagram make(unsigned number)
{
	unsigned flow = number < REPEATS ? 0 : number - REPEATS + 1;
	struct datagram d = {
	    .ip = {.version = 4,
		   .ihl = 5,
		   .tot_len = htons(sizeof d),
		   .ttl = 64,
		   .protocol = IPPROTO_UDP,
		   .saddr = htonl(0x0a000100 + flow % SOURCES),
		   .daddr = inet_addr("198.51.100.1")},
	    .udp = {.uh_sport = htons((uint16_t)(1024 + flow / SOURCES)),
		    .uh_dport = htons(9000),
		    .uh_ulen = htons(sizeof d - sizeof d.ip)},
	    .number = number,
	};
	d.ip.check = sum(&d.ip, sizeof d.ip);
	return d;
}

static void write_capture(void)
{
	pcap_t *raw = pcap_open_dead(DLT_RAW, 65535);
	pcap_dumper_t *file = pcap_dump_open(raw, in);
	cr_assert_not_null(file);
	for (unsigned i = 0; i < PACKETS; i++) {
		struct datagram d = make(i);
		struct pcap_pkthdr header = {
		    .ts = {.tv_sec = 1000 + i / 1000}, .caplen = sizeof d, .len = sizeof d};
		pcap_dump((u_char *)file, &header, (const u_char *)&d);
	}
	pcap_dump_close(file);
	pcap_close(raw);
}

static void expect_all(void)
{
	static uint8_t seen[PACKETS];
	pcap_t *capture = pcap_open_offline(out, error);
	struct pcap_pkthdr *header;
	const u_char *bytes;
	unsigned n = 0, translated = 0;

	cr_assert_not_null(capture, "%s", error);
	while (pcap_next_ex(capture, &header, &bytes) == 1) {
		struct datagram d;
		cr_assert_eq(header->caplen, sizeof d);
		memcpy(&d, bytes, sizeof d);
		cr_assert_lt(d.number, PACKETS);
		n += !seen[d.number]++;
		translated += (ntohl(d.ip.saddr) & ~0xfu) == 0xc0000200;
	}
	pcap_close(capture);
	cr_expect_eq(n, PACKETS, "%u of %u packets came out", n, PACKETS);
	cr_expect_eq(translated, PACKETS);
}

static void run(const char *address)
{
	static struct table_client_conf conf = {
	    .n_addresses = 1,
	    .cache = {.name = "capture",
		      .pending_flows = PARKED,
		      .pending_packets = PARKED,
		      .packet_room = 2048},
	    .workers = PORT_PCAP_WORKER + 1,
	};
	static struct engine_config world = {.ttl = ENGINE_TTL_DECREMENT};
	uint64_t seed = (uint64_t)getpid();
	struct random_source random = random_seeded(&seed);
	struct flowtable *flows;
	struct table_client *client;
	struct port *port;
	struct engine_counters engine;

	snprintf(conf.addresses[0], sizeof conf.addresses[0], "%s", address);
	cr_assert_eq(flowtable_new(2 * FLOWS, &random, &flows), 0);
	cr_assert_eq(table_client_new(&conf, flows, &random, &client), 0);
	struct port_env env = {.engine = table_client_engine(client),
			       .context = client,
			       .slow = table_client_slow,
			       .flags = table_client_flags,
			       .settled = table_client_settled};
	cr_assert_eq(port_pcap_new(in, out, &env, &port), 0);
	table_client_set_port(client, port);
	table_client_configure(client, &world);
	cr_assert_eq(table_client_start(client), 0);
	cr_assert_eq(port->ops->start(port), 0);
	for (unsigned i = 0; i < 6000 && !port->ops->finished(port); i++)
		usleep(10000);
	cr_expect(port->ops->finished(port), "in bounded time");
	cr_expect(table_client_settled(client, PORT_PCAP_WORKER));
	table_client_stop(client);
	engine_counters(table_client_engine(client), &engine);
	for (unsigned i = 0; i < NAT_REASON_LIMIT; i++)
		cr_expect_eq(engine.drops[i], 0, "%s: %llu", nat_reason_name(i),
			     (unsigned long long)engine.drops[i]);
	port->ops->free(port);
	table_client_free(client);
	flowtable_free(flows);
}

Test(capture, waits_for_the_table_and_loses_nothing, .timeout = 120)
{
	struct service service;

	snprintf(in, sizeof in, "/tmp/conat-capture-%d.in", getpid());
	snprintf(out, sizeof out, "/tmp/conat-capture-%d.out", getpid());
	write_capture();
	cr_assert_eq(
	    service_start(&service, service_yaml, "127.0.0.1:0", NULL, 1, error, sizeof error), 0,
	    "%s", error);
	run(service.address);
	service_stop(&service);
	expect_all();
	unlink(in);
	unlink(out);
}
