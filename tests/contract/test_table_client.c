/* SPDX-License-Identifier: Apache-2.0 */
/* A dataplane's owner thread against a real service: packets in, packets out, over outages. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "dataplane/table_client.h"
#include "tests/support/service.h"

/* ---- a port that keeps what is sent ---- */

struct sink {
	struct port port;
	pthread_mutex_t lock;
	unsigned n, configured;
	struct iphdr ip; /* of the last one */
	struct udphdr udp;
};

static bool sink_send(struct port *port, const struct engine_packet *packet)
{
	struct sink *sink = (struct sink *)port;
	pthread_mutex_lock(&sink->lock);
	memcpy(&sink->ip, packet->data, sizeof sink->ip);
	memcpy(&sink->udp, packet->data + sizeof sink->ip, sizeof sink->udp);
	sink->n++;
	pthread_mutex_unlock(&sink->lock);
	return true;
}

static void sink_configure(struct port *port, const struct wire_config *config)
{
	struct sink *sink = (struct sink *)port;
	pthread_mutex_lock(&sink->lock);
	sink->configured++;
	pthread_mutex_unlock(&sink->lock);
}

static const struct port_ops sink_ops = {
    .name = "sink", .send = sink_send, .configure = sink_configure};

/* ---- a dataplane without a port of its own ---- */

struct dataplane {
	struct flowtable *flows;
	struct table_client *client;
	struct sink sink;
	uint64_t seed;
	struct random_source random;
};

static struct service service;
static struct dataplane dataplane;
static char error[512];

static void dataplane_start(struct dataplane *d, const char *first, const char *second,
			    const char *tls)
{
	static struct table_client_conf conf;
	static struct engine_config engine;
	conf = (struct table_client_conf){
	    .n_addresses = second ? 2 : 1,
	    .cache = {.name = "test",
		      .pending_flows = 1024,
		      .pending_packets = 1024,
		      .packet_room = 2048},
	    .workers = 2,
	    .ring_bytes = 1 << 20,
	};
	snprintf(conf.addresses[0], sizeof conf.addresses[0], "%s", first);
	if (second)
		snprintf(conf.addresses[1], sizeof conf.addresses[1], "%s", second);
	if (tls) {
		snprintf(conf.credentials.ca, 256, "%s/ca.pem", tls);
		snprintf(conf.credentials.certificate, 256, "%s/dataplane.pem", tls);
		snprintf(conf.credentials.key, 256, "%s/dataplane.key", tls);
	}
	static unsigned started;
	d->seed = (uint64_t)getpid() + ++started; /* an incarnation of its own */
	d->random = random_seeded(&d->seed);
	d->sink.port.ops = &sink_ops;
	pthread_mutex_init(&d->sink.lock, NULL);
	cr_assert_eq(flowtable_new(10000, &d->random, &d->flows), 0);
	cr_assert_eq(table_client_new(&conf, d->flows, &d->random, &d->client), 0);
	table_client_set_port(d->client, &d->sink.port);
	engine.ttl = ENGINE_TTL_RESTORE;
	table_client_configure(d->client, &engine);
	cr_assert_eq(table_client_start(d->client), 0);
}

static void dataplane_stop(struct dataplane *d)
{
	table_client_stop(d->client);
	table_client_free(d->client);
	flowtable_free(d->flows);
}

static void setup(void)
{
	cr_assert_eq(
	    service_start(&service, service_yaml, "127.0.0.1:0", NULL, 1, error, sizeof error), 0,
	    "%s", error);
	dataplane_start(&dataplane, service.address, NULL, NULL);
}

static void teardown(void)
{
	dataplane_stop(&dataplane);
	service_stop(&service);
}

TestSuite(table_client, .init = setup, .fini = teardown, .timeout = 60);

static bool wait_ready(struct dataplane *d)
{
	for (int i = 0; i < 500 && !table_client_ready(d->client); i++)
		usleep(10000);
	return table_client_ready(d->client);
}

static struct table_client_counters counters(struct dataplane *d)
{
	struct table_client_counters c;
	usleep(250000); /* published every 100 ms */
	table_client_counters(d->client, &c);
	return c;
}

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

/* An outbound datagram from 10.0.0.9:port. */
static bool send_packet(struct dataplane *d, uint16_t port)
{
	struct {
		struct iphdr ip;
		struct udphdr udp;
		char payload[4];
	} __attribute__((packed)) bytes = {
	    .ip = {.version = 4,
		   .ihl = 5,
		   .tot_len = htons(sizeof bytes),
		   .ttl = 64,
		   .protocol = IPPROTO_UDP,
		   .saddr = inet_addr("10.0.0.9"),
		   .daddr = inet_addr("198.51.100.1")},
	    .udp = {.uh_sport = htons(port), .uh_dport = htons(9000), .uh_ulen = htons(12)},
	    .payload = "hey",
	};
	bytes.ip.check = sum(&bytes.ip, sizeof bytes.ip);
	struct engine_packet packet = {.data = (uint8_t *)&bytes,
				       .length = sizeof bytes,
				       .room = sizeof bytes,
				       .ingress = NAT_REALM_INSIDE};
	return table_client_slow(d->client, 1, &packet);
}

static bool wait_sent(struct dataplane *d, unsigned n)
{
	unsigned sent = 0;
	for (int i = 0; i < 500 && sent < n; i++) {
		usleep(10000);
		pthread_mutex_lock(&d->sink.lock);
		sent = d->sink.n;
		pthread_mutex_unlock(&d->sink.lock);
	}
	return sent >= n;
}

Test(table_client, attaches_is_configured_and_translates_a_new_flow)
{
	cr_assert(wait_ready(&dataplane));
	cr_expect_geq(dataplane.sink.configured, 1);
	cr_assert(send_packet(&dataplane, 5000));
	cr_assert(wait_sent(&dataplane, 1));
	cr_expect_eq(ntohl(dataplane.sink.ip.saddr) & ~0xfu, 0xc0000200);
	cr_expect_eq(dataplane.sink.ip.daddr, inet_addr("198.51.100.1"));
	cr_expect_eq(dataplane.sink.udp.uh_dport, htons(9000));
	cr_expect_eq(sum(&dataplane.sink.ip, sizeof dataplane.sink.ip), 0);
	struct table_client_counters c = counters(&dataplane);
	cr_expect_eq(c.flows, 1);
	cr_expect_eq(c.state, CACHE_ATTACHED);
	cr_expect_eq(c.slow_packets, 1);
	cr_expect_gt(c.valid_for_ms, 0);
	cr_expect_str_eq(c.address, service.address);
}

Test(table_client, many_flows_share_batches)
{
	cr_assert(wait_ready(&dataplane));
	for (uint16_t i = 0; i < 1000; i++)
		cr_assert(send_packet(&dataplane, (uint16_t)(10000 + i)));
	cr_assert(wait_sent(&dataplane, 1000));
	struct table_client_counters c = counters(&dataplane);
	cr_expect_eq(c.flows, 1000);
	cr_expect_geq(c.entries_out, 1000);
	cr_expect_lt(c.batches_out, 1000);
}

static bool has_beats(const struct server_counters *c)
{
	return c->heartbeats >= 3;
}

Test(table_client, keeps_its_heartbeats)
{
	cr_assert(wait_ready(&dataplane));
	cr_expect(service_wait(&service, has_beats));
	cr_expect_eq(counters(&dataplane).state, CACHE_ATTACHED);
}

Test(table_client, a_service_that_comes_back_empty_makes_it_flush_and_new_flows_work)
{
	char address[128];
	cr_assert(wait_ready(&dataplane));
	cr_assert(send_packet(&dataplane, 5000));
	cr_assert(wait_sent(&dataplane, 1));
	snprintf(address, sizeof address, "%s", service.address);
	service_stop(&service);
	usleep(300000);
	cr_expect_not(table_client_ready(dataplane.client));
	cr_expect_eq(counters(&dataplane).flows, 1, "without the service it goes on");

	cr_assert_eq(service_start(&service, service_yaml, address, NULL, 2, error, sizeof error),
		     0, "%s", error);
	struct monotime start = monotime_now();
	cr_assert(wait_ready(&dataplane));
	cr_expect_lt(monotime_sub_ms(monotime_now(), start), 1000, "back within a second");
	struct table_client_counters c = counters(&dataplane);
	cr_expect_eq(c.flows, 0);
	cr_expect_geq(c.cache.flushed, 1);
	cr_assert(send_packet(&dataplane, 5001));
	cr_assert(wait_sent(&dataplane, 2));
}

Test(table_client, a_service_with_an_older_epoch_is_not_used)
{
	char address[128];
	cr_assert(wait_ready(&dataplane));
	snprintf(address, sizeof address, "%s", service.address);
	service_stop(&service);
	cr_assert_eq(service_start(&service, service_yaml, address, NULL, 5, error, sizeof error),
		     0);
	usleep(100000);
	cr_assert(wait_ready(&dataplane));
	service_stop(&service);
	cr_assert_eq(service_start(&service, service_yaml, address, NULL, 4, error, sizeof error),
		     0);
	usleep(500000);
	struct table_client_counters c = counters(&dataplane);
	cr_expect_geq(c.connect_failures, 1);
	cr_expect_not(table_client_ready(dataplane.client));
}

Test(table_client, the_next_address_is_tried_when_one_does_not_answer)
{
	struct dataplane d = {0};
	/* Bound and never listening: connections are refused. */
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof any;
	char dead[64];
	cr_assert_eq(bind(fd, (struct sockaddr *)&any, sizeof any), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&any, &length), 0);
	snprintf(dead, sizeof dead, "127.0.0.1:%u", ntohs(any.sin_port));
	dataplane_start(&d, dead, service.address, NULL);
	cr_assert(wait_ready(&d));
	struct table_client_counters c = counters(&d);
	cr_expect_str_eq(c.address, service.address);
	cr_expect_geq(c.connect_failures, 1);
	dataplane_stop(&d);
	close(fd);
}

Test(table_client, a_full_ring_refuses_and_counts)
{
	static uint8_t bytes[65000];
	struct engine_packet packet = {.data = bytes, .length = sizeof bytes, .room = sizeof bytes};
	unsigned refused = 0;
	cr_assert(wait_ready(&dataplane));
	table_client_stop(dataplane.client);
	for (unsigned i = 0; i < 32; i++)
		refused += !table_client_slow(dataplane.client, 1, &packet);
	cr_expect_geq(refused, 32 - (1 << 20) / 65000 - 1);
	cr_expect_not(table_client_slow(dataplane.client, 2, &packet), "no such worker");
}

Test(table_client, a_unix_socket_serves_as_well)
{
	struct service local;
	struct dataplane d = {0};
	char listen[64];
	snprintf(listen, sizeof listen, "unix:/tmp/conat-client-%d.sock", getpid());
	cr_assert_eq(service_start(&local, service_yaml, listen, NULL, 1, error, sizeof error), 0,
		     "%s", error);
	dataplane_start(&d, listen, NULL, NULL);
	cr_assert(wait_ready(&d));
	cr_assert(send_packet(&d, 1));
	cr_assert(wait_sent(&d, 1));
	dataplane_stop(&d);
	service_stop(&local);
}
