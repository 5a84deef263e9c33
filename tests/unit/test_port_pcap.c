/* SPDX-License-Identifier: Apache-2.0 */
/* Captures of every kind through the port, with the owner's part played by the test. */
#include <criterion/criterion.h>
#include <pcap/pcap.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common/base/err.h"
#include "dataplane/port_pcap.h"
#include "tests/support/golden.h"

struct lab {
	char directory[64], in[96], out[96];
	struct golden_target *target;
	struct port *port;
	pthread_mutex_t lock;
	unsigned slow, refuse, flags;
};

/* The ring: refuses as often as the test says, then runs the slow path itself. */
static bool on_slow(void *context, unsigned worker, const struct engine_packet *packet)
{
	struct lab *lab = context;
	struct engine_packet copy = *packet;
	bool taken = false;

	pthread_mutex_lock(&lab->lock);
	if (lab->refuse > 0) {
		lab->refuse--;
	} else {
		taken = true;
		lab->slow++;
		engine_slow(golden_engine(lab->target), &copy, monotime_now());
		if (copy.fate == ENGINE_OUT)
			lab->port->ops->send(lab->port, &copy);
	}
	pthread_mutex_unlock(&lab->lock);
	return taken;
}

static void on_flags(void *context, unsigned worker, const struct nat_tuple *tuple,
		     uint8_t tcp_flags)
{
	((struct lab *)context)->flags |= tcp_flags;
}

static void lab_new(struct lab *lab)
{
	memset(lab, 0, sizeof *lab);
	pthread_mutex_init(&lab->lock, NULL);
	snprintf(lab->directory, sizeof lab->directory, "/tmp/conat-pcap-XXXXXX");
	cr_assert_not_null(mkdtemp(lab->directory));
	snprintf(lab->in, sizeof lab->in, "%s/in", lab->directory);
	snprintf(lab->out, sizeof lab->out, "%s/out", lab->directory);
	lab->target = golden_engine_new();
}

static void lab_free(struct lab *lab)
{
	unlink(lab->in);
	unlink(lab->out);
	rmdir(lab->directory);
	golden_engine_free(lab->target);
}

static void write_capture(const char *path, int link, const uint8_t *header, unsigned header_length,
			  const char *const *texts, unsigned n)
{
	struct test_packet *packet = malloc(sizeof *packet);
	uint8_t *frame = malloc(TEST_PACKET_ROOM + 64);
	pcap_t *raw =
	    pcap_open_dead_with_tstamp_precision(link, 262144, PCAP_TSTAMP_PRECISION_NANO);
	pcap_dumper_t *out = pcap_dump_open(raw, path);
	char error[256];

	cr_assert_not_null(out);
	for (unsigned i = 0; i < n; i++) {
		cr_assert(packet_build(texts[i], packet, error, sizeof error), "%s", error);
		if (header_length > 0)
			memcpy(frame, header, header_length);
		memcpy(frame + header_length, packet->bytes, packet->length);
		struct pcap_pkthdr h = {.caplen = header_length + packet->length,
					.len = header_length + packet->length};
		h.ts.tv_sec = 1700000000 + i;
		h.ts.tv_usec = 123456789; /* nanoseconds */
		pcap_dump((u_char *)out, &h, frame);
	}
	pcap_dump_close(out);
	pcap_close(raw);
	free(frame);
	free(packet);
}

static void run_port(struct lab *lab)
{
	struct port_env env = {.engine = golden_engine(lab->target),
			       .context = lab,
			       .slow = on_slow,
			       .flags = on_flags};
	struct engine_config config;

	cr_assert_eq(port_pcap_new(lab->in, lab->out, &env, &lab->port), 0);
	cr_assert_eq(lab->port->ops->start(lab->port), 0);
	usleep(20000);
	cr_expect_not(lab->port->ops->finished(lab->port), "it waits for a configuration");
	golden_defaults(&config);
	lab->target->configure(lab->target->context, &config);
	lab->target->valid_until(lab->target->context, MONOTIME_NEVER);
	lab->port->ops->configure(lab->port, &config.table);
	for (unsigned i = 0; i < 5000 && !lab->port->ops->finished(lab->port); i++)
		usleep(1000);
	cr_assert(lab->port->ops->finished(lab->port));
	lab->port->ops->free(lab->port);
}

static void expect_capture(const char *path, const char *const *texts, unsigned n)
{
	struct test_packet *want = malloc(sizeof *want);
	char error[PCAP_ERRBUF_SIZE];
	pcap_t *capture =
	    pcap_open_offline_with_tstamp_precision(path, PCAP_TSTAMP_PRECISION_NANO, error);
	struct pcap_pkthdr *header;
	const u_char *bytes;
	unsigned i = 0;

	cr_assert_not_null(capture, "%s", error);
	cr_expect_eq(pcap_datalink(capture), DLT_RAW);
	for (; pcap_next_ex(capture, &header, &bytes) == 1; i++) {
		cr_assert_lt(i, n, "one packet too many");
		cr_assert(packet_build(texts[i], want, error, sizeof error), "%s", error);
		cr_assert_eq(header->caplen, want->length, "packet %u", i);
		cr_assert_eq(memcmp(bytes, want->bytes, want->length), 0, "packet %u", i);
		cr_expect_geq(header->ts.tv_sec, 1700000000);
		cr_expect_eq(header->ts.tv_usec, 123456789);
	}
	cr_expect_eq(i, n);
	pcap_close(capture);
	free(want);
}

static void add_sessions(struct lab *lab)
{
	static const uint8_t protocols[] = {NAT_UDP, NAT_TCP};
	const char *text = "10.0.0.2:4000 8.8.8.8:53 192.0.2.1:5000";
	struct nat_endpoint a, b, c;

	endpoint_parse(&text, &a);
	endpoint_parse(&text, &b);
	endpoint_parse(&text, &c);
	for (unsigned i = 0; i < 2; i++)
		lab->target->flow(
		    lab->target->context,
		    &(struct nat_tuple){a.address, b.address, a.port, b.port, protocols[i], 1, 0},
		    &(struct nat_rewrite){c.address, b.address, c.port, b.port, 0, {0}}, 0,
		    monotime_now());
}

static const char *const in[] = {
    "udp 10.0.0.2:4000 > 8.8.8.8:53 data=out",
    "udp 8.8.8.8:53 > 192.0.2.1:5000 data=in",
    "udp 10.0.0.2:4000 > 8.8.8.8:53 data=slow opts=4",
    "udp 10.0.0.2:4000 > 8.8.8.8:53 data=bad ipsum=bad",
    "tcp 10.0.0.2:4000 > 8.8.8.8:53 flags=SA",
    "udp 9.9.9.9:1 > 8.8.8.8:53 data=nobody_knows_this_one",
    "udp 10.0.0.2:4000 > 198.51.100.1:53 data=bypass",
};
static const char *const out[] = {
    "udp 192.0.2.1:5000 > 8.8.8.8:53 data=out ttl=63",
    "udp 8.8.8.8:53 > 10.0.0.2:4000 data=in ttl=63",
    "udp 192.0.2.1:5000 > 8.8.8.8:53 data=slow opts=4 ttl=63",
    "tcp 192.0.2.1:5000 > 8.8.8.8:53 flags=SA ttl=63",
    "udp 10.0.0.2:4000 > 198.51.100.1:53 data=bypass ttl=63",
};
enum { N_IN = sizeof in / sizeof in[0], N_OUT = sizeof out / sizeof out[0] };

/* Slow packets of a batch are written in their turn, because the test's ring is immediate. */
static void run_link(int link, const uint8_t *header, unsigned length)
{
	struct lab lab;

	lab_new(&lab);
	write_capture(lab.in, link, header, length, in, N_IN);
	add_sessions(&lab);
	run_port(&lab);
	expect_capture(lab.out, out, N_OUT);
	cr_expect_eq(lab.slow, 2);
	cr_expect_eq(lab.flags, NAT_TCP_SYN | NAT_TCP_ACK);
	lab_free(&lab);
}

Test(port_pcap, translates_raw_captures)
{
	run_link(DLT_RAW, NULL, 0);
	run_link(DLT_IPV4, NULL, 0);
}

Test(port_pcap, translates_ethernet_with_and_without_tags)
{
	run_link(DLT_EN10MB, (const uint8_t[]){2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0}, 14);
	run_link(DLT_EN10MB, (const uint8_t[]){2, 0,	0,    0, 0, 1,	  2, 0, 0, 0, 0,
					       2, 0x88, 0xa8, 0, 5, 0x81, 0, 0, 7, 8, 0},
		 22);
}

Test(port_pcap, translates_cooked_and_loopback_captures)
{
	run_link(DLT_LINUX_SLL, (const uint8_t[]){0, 0, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 8, 0},
		 16);
	run_link(DLT_LINUX_SLL2,
		 (const uint8_t[]){8, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0}, 20);
	run_link(DLT_NULL, (const uint8_t[]){2, 0, 0, 0}, 4);
}

static void put32(FILE *file, uint32_t value)
{
	fwrite(&value, 1, sizeof value, file);
}

/* A section header, one raw IP interface with nanoseconds, enhanced packet blocks. */
static void write_pcapng(const char *path, const char *const *texts, unsigned n)
{
	struct test_packet *packet = malloc(sizeof *packet);
	FILE *file = fopen(path, "wb");
	char error[256];

	static const uint32_t section[] = {0x0a0d0d0a, 28,	   0x1a2b3c4d, 1,
					   UINT32_MAX, UINT32_MAX, 28};
	static const uint32_t interface[] = {1, 28, DLT_RAW, 0, 9 | 1 << 16, 9, 28};
	cr_assert_not_null(file);
	fwrite(section, 1, sizeof section, file);
	fwrite(interface, 1, sizeof interface, file);
	for (unsigned i = 0; i < n; i++) {
		uint64_t when = (1700000000 + (uint64_t)i) * 1000000000 + 123456789;
		cr_assert(packet_build(texts[i], packet, error, sizeof error), "%s", error);
		uint32_t padded = (packet->length + 3) / 4 * 4;
		memset(packet->bytes + packet->length, 0, padded - packet->length);
		put32(file, 6);
		put32(file, 32 + padded);
		put32(file, 0);
		put32(file, (uint32_t)(when >> 32));
		put32(file, (uint32_t)when);
		put32(file, packet->length);
		put32(file, packet->length);
		fwrite(packet->bytes, 1, padded, file);
		put32(file, 32 + padded);
	}
	fclose(file);
	free(packet);
}

Test(port_pcap, reads_pcapng)
{
	struct lab lab;

	lab_new(&lab);
	write_pcapng(lab.in, in, N_IN);
	add_sessions(&lab);
	run_port(&lab);
	expect_capture(lab.out, out, N_OUT);
	lab_free(&lab);
}

Test(port_pcap, steps_over_what_is_not_ipv4)
{
	struct lab lab;

	lab_new(&lab);
	write_capture(lab.in, DLT_EN10MB,
		      (const uint8_t[]){2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd}, 14, in, 3);
	run_port(&lab);
	expect_capture(lab.out, NULL, 0);
	lab_free(&lab);
}

Test(port_pcap, waits_for_a_full_ring_and_loses_nothing)
{
	const char *texts[300], *wanted[300];
	struct lab lab;

	for (unsigned i = 0; i < 300; i++) {
		texts[i] = in[2];
		wanted[i] = out[2];
	}
	lab_new(&lab);
	lab.refuse = 50;
	write_capture(lab.in, DLT_RAW, NULL, 0, texts, 300);
	add_sessions(&lab);
	run_port(&lab);
	expect_capture(lab.out, wanted, 300);
	cr_expect_eq(lab.slow, 300);
	lab_free(&lab);
}

Test(port_pcap, translates_what_can_be_read_of_a_torn_capture)
{
	struct lab lab;

	lab_new(&lab);
	write_capture(lab.in, DLT_RAW, NULL, 0, in, 2);
	FILE *file = fopen(lab.in, "r+b");
	fseek(file, 0, SEEK_END);
	long size = ftell(file);
	fclose(file);
	cr_assert_eq(truncate(lab.in, size - 3), 0);
	add_sessions(&lab);
	run_port(&lab);
	expect_capture(lab.out, out, 1);
	lab_free(&lab);
}

Test(port_pcap, refuses_what_it_cannot_read_or_write)
{
	struct port_env env = {0};
	struct port *port = NULL;
	struct lab lab;

	lab_new(&lab);
	cr_expect_eq(port_pcap_new("/nonexistent/in", lab.out, &env, &port), ERR_IO);
	FILE *file = fopen(lab.in, "wb");
	fputs("this is no capture, and long enough to be looked at", file);
	fclose(file);
	cr_expect_eq(port_pcap_new(lab.in, lab.out, &env, &port), ERR_IO);
	write_capture(lab.in, DLT_IEEE802_11, NULL, 0, in, 1);
	cr_expect_eq(port_pcap_new(lab.in, lab.out, &env, &port), ERR_INVALID);
	write_capture(lab.in, DLT_RAW, NULL, 0, in, 1);
	cr_expect_eq(port_pcap_new(lab.in, "/nonexistent/out", &env, &port), ERR_IO);
	cr_expect_null(port);
	lab_free(&lab);
}
