/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/port_pcap.h"

#include <pcap/pcap.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <urcu-qsbr.h>
#include "common/base/err.h"
#include "common/base/log.h"
#include "dataplane/bytes.h"
#include "dataplane/prefixes.h"

enum {
	BATCH = 32,
	ROOM = 65535,	      /* an IPv4 packet is never longer */
	SNAPSHOT = 262144,    /* what tcpdump writes */
	PAUSE_NS = 50 * 1000, /* between two looks at whether the table has answered */
	ETHERTYPE_IPV4 = 0x0800,
	ETHERTYPE_VLAN = 0x8100,
	ETHERTYPE_VLAN_SERVICE = 0x88a8,
	VLAN_TAGS_MAX = 4,
};

struct port_pcap {
	struct port port;
	struct port_env env;
	pcap_t *capture;
	int link;
	uint8_t *buffers; /* BATCH * ROOM */
	struct timespec times[BATCH];
	pthread_t thread;
	bool started;
	_Atomic bool stopping, finished;

	pthread_mutex_t lock; /* all below */
	pthread_cond_t configured_changed;
	bool configured;
	struct prefixes prefixes;
	_Atomic unsigned ahead; /* slow packets that may wait for the table at a time */
	pcap_t *raw;		/* describes the output */
	pcap_dumper_t *output;
	struct timespec latest; /* of what was read: slow packets leave with it */
	struct port_counters counters;
	uint64_t skipped; /* frames that hold no IPv4 */
};

static struct port_pcap *self(struct port *port)
{
	return (struct port_pcap *)port;
}

/* ---- what lies in front of the IP header ---- */

/* Bytes to skip, or -1 when the frame holds no IPv4. */
static int ethernet_header(const uint8_t *frame, uint32_t length)
{
	uint32_t at = 12;

	for (int tags = 0; at + 2 <= length && tags <= VLAN_TAGS_MAX; tags++) {
		uint16_t type = number16(frame + at);
		if (type == ETHERTYPE_IPV4)
			return (int)at + 2;
		if (type != ETHERTYPE_VLAN && type != ETHERTYPE_VLAN_SERVICE)
			return -1;
		at += 4;
	}
	return -1;
}

static int link_header(int link, const uint8_t *frame, uint32_t length)
{
	switch (link) {
	case DLT_EN10MB:
		return ethernet_header(frame, length);
	case DLT_LINUX_SLL: /* protocol in the last two of 16 bytes */
		return length >= 16 && number16(frame + 14) == ETHERTYPE_IPV4 ? 16 : -1;
	case DLT_LINUX_SLL2: /* protocol in the first two of 20 bytes */
		return length >= 20 && number16(frame) == ETHERTYPE_IPV4 ? 20 : -1;
	case DLT_NULL: /* the family in the byte order of the machine that wrote it; AF_INET is 2 */
	case DLT_LOOP:
		return length >= 4 && (frame[0] == 2 || frame[3] == 2) ? 4 : -1;
	default: /* DLT_RAW, DLT_IPV4 */
		return 0;
	}
}

static bool link_known(int link)
{
	return link == DLT_EN10MB || link == DLT_LINUX_SLL || link == DLT_LINUX_SLL2 ||
	       link == DLT_NULL || link == DLT_LOOP || link == DLT_RAW || link == DLT_IPV4;
}

/* ---- the reader thread ---- */

static void write_packet(struct port_pcap *p, const struct engine_packet *packet,
			 const struct timespec *when)
{
	/* The file is written with nanoseconds, which libpcap carries in the microseconds' place.
	 */
	struct pcap_pkthdr header = {.caplen = packet->length, .len = packet->length};

	header.ts.tv_sec = when->tv_sec;
	header.ts.tv_usec = when->tv_nsec;
	pcap_dump((u_char *)p->output, &header, packet->data);
	p->counters.sent++;
	p->counters.sent_bytes += packet->length;
}

/*
 * A file comes faster than any table answers, and there is nobody who would send a packet again: so
 * the reader waits until the table has caught up. It always does, because what is parked has a
 * deadline.
 */
static void nap(void)
{
	rcu_thread_offline();
	nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
	rcu_thread_online();
}

/* Fills one slot of the batch. 1, 0 when the frame is not for us, -1 at the end. */
static int read_packet(struct port_pcap *p, struct engine_packet *packet, uint8_t *buffer,
		       struct timespec *when)
{
	struct pcap_pkthdr *header;
	const u_char *frame;
	int status = pcap_next_ex(p->capture, &header, &frame);

	if (status != 1) {
		if (status == PCAP_ERROR)
			log_error("capture: %s; what was read until there is translated",
				  pcap_geterr(p->capture));
		return -1;
	}
	int skip = link_header(p->link, frame, header->caplen);
	pthread_mutex_lock(&p->lock);
	p->counters.received++;
	p->counters.received_bytes += header->len;
	if (skip < 0) {
		p->skipped++;
		pthread_mutex_unlock(&p->lock);
		return 0;
	}
	uint32_t length = header->caplen - (uint32_t)skip;
	if (length > ROOM)
		length = ROOM;
	memcpy(buffer, frame + skip, length);
	*when = (struct timespec){header->ts.tv_sec, header->ts.tv_usec};
	p->latest = *when;
	*packet = (struct engine_packet){.data = buffer, .length = length, .room = ROOM};
	if (length >= NAT_IP_HEADER) {
		int realm = prefixes_match(&p->prefixes, WIRE_PREFIX_INSIDE,
					   nat_get32(buffer + NAT_IP_SOURCE));
		packet->ingress = (uint8_t)(realm < 0 ? NAT_REALM_OUTSIDE : realm);
	}
	pthread_mutex_unlock(&p->lock);
	return 1;
}

static void settle(struct port_pcap *p)
{
	/* Offline at least once: an owner that waits for readers is not kept. */
	do
		nap();
	while (!p->stopping && p->env.settled && !p->env.settled(p->env.context, PORT_PCAP_WORKER));
}

static void to_table(struct port_pcap *p, const struct engine_packet *packet)
{
	while (!p->stopping && !p->env.slow(p->env.context, PORT_PCAP_WORKER, packet))
		nap();
}

static void run_batch(struct port_pcap *p, struct engine_packet *packets, unsigned n)
{
	struct port_env *env = &p->env;
	unsigned slow = 0, ahead = p->ahead;

	engine_process(engine_worker(env->engine, PORT_PCAP_WORKER), packets, n, monotime_now());
	for (unsigned i = 0; i < n; i++) {
		struct engine_packet *packet = &packets[i];
		if (packet->tcp_flags_new)
			env->flags(env->context, PORT_PCAP_WORKER, &packet->tuple,
				   packet->tcp_flags_new);
		if (packet->fate == ENGINE_OUT) {
			pthread_mutex_lock(&p->lock);
			write_packet(p, packet, &p->times[i]);
			pthread_mutex_unlock(&p->lock);
		} else if (packet->fate == ENGINE_SLOW) {
			to_table(p, packet);
			if (++slow % ahead == 0)
				settle(p);
		}
	}
	if (slow % ahead != 0)
		settle(p);
	rcu_quiescent_state();
}

static void *read_capture(void *context)
{
	struct port_pcap *p = context;
	struct engine_packet packets[BATCH];
	unsigned n = 0;

	pthread_mutex_lock(&p->lock);
	while (!p->configured && !p->stopping)
		pthread_cond_wait(&p->configured_changed, &p->lock);
	pthread_mutex_unlock(&p->lock);

	rcu_register_thread();
	while (!p->stopping) {
		int status =
		    read_packet(p, &packets[n], p->buffers + (size_t)n * ROOM, &p->times[n]);
		if (status < 0)
			break;
		n += (unsigned)status;
		if (n == BATCH) {
			run_batch(p, packets, n);
			n = 0;
		}
	}
	if (n > 0 && !p->stopping)
		run_batch(p, packets, n);
	rcu_unregister_thread();
	pthread_mutex_lock(&p->lock);
	log_notice("capture read: packets=%llu skipped=%llu",
		   (unsigned long long)p->counters.received, (unsigned long long)p->skipped);
	pthread_mutex_unlock(&p->lock);
	p->finished = true;
	return NULL;
}

/* ---- the port ---- */

static int pcap_port_start(struct port *port)
{
	struct port_pcap *p = self(port);
	int err = pthread_create(&p->thread, NULL, read_capture, p);

	if (err) {
		log_error("capture: no thread to read it: %s", strerror(err));
		return ERR_NOMEM;
	}
	p->started = true;
	return 0;
}

static bool pcap_port_send(struct port *port, const struct engine_packet *packet)
{
	struct port_pcap *p = self(port);

	pthread_mutex_lock(&p->lock);
	write_packet(p, packet, &p->latest);
	pthread_mutex_unlock(&p->lock);
	return true;
}

static void pcap_port_configure(struct port *port, const struct wire_config *config)
{
	struct port_pcap *p = self(port);

	pthread_mutex_lock(&p->lock);
	prefixes_init(&p->prefixes, config);
	/* They may all be of one flow. */
	unsigned ahead = config->pending_per_flow < config->pending_packets
			     ? config->pending_per_flow
			     : config->pending_packets;
	p->ahead = ahead ? ahead : 1;
	p->configured = true;
	pthread_cond_signal(&p->configured_changed);
	pthread_mutex_unlock(&p->lock);
}

static bool pcap_port_finished(struct port *port)
{
	return self(port)->finished;
}

static void pcap_port_counters(struct port *port, struct port_counters *out)
{
	struct port_pcap *p = self(port);

	pthread_mutex_lock(&p->lock);
	*out = p->counters;
	pthread_mutex_unlock(&p->lock);
}

static void pcap_port_free(struct port *port)
{
	if (!port)
		return;

	struct port_pcap *p = self(port);
	pthread_mutex_lock(&p->lock);
	p->stopping = true;
	pthread_cond_signal(&p->configured_changed);
	pthread_mutex_unlock(&p->lock);
	if (p->started)
		pthread_join(p->thread, NULL);
	if (p->output) {
		if (pcap_dump_flush(p->output) != 0)
			log_error("capture: the last packets could not be written");
		pcap_dump_close(p->output);
	}
	if (p->raw)
		pcap_close(p->raw);
	if (p->capture)
		pcap_close(p->capture);
	pthread_cond_destroy(&p->configured_changed);
	pthread_mutex_destroy(&p->lock);
	free(p->buffers);
	free(p);
}

static const struct port_ops pcap_port_ops = {
    .name = "pcap",
    .start = pcap_port_start,
    .send = pcap_port_send,
    .configure = pcap_port_configure,
    .free = pcap_port_free,
    .finished = pcap_port_finished,
    .counters = pcap_port_counters,
};

int port_pcap_new(const char *read, const char *write, const struct port_env *env,
		  struct port **out)
{
	char error[PCAP_ERRBUF_SIZE];
	struct port_pcap *p = calloc(1, sizeof *p);
	int err = ERR_NOMEM;

	if (!p)
		return ERR_NOMEM;
	p->port.ops = &pcap_port_ops;
	p->env = *env;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->configured_changed, NULL);
	p->buffers = malloc((size_t)BATCH * ROOM);
	if (!p->buffers)
		goto fail;

	p->capture =
	    pcap_open_offline_with_tstamp_precision(read, PCAP_TSTAMP_PRECISION_NANO, error);
	if (!p->capture) {
		log_error("--read %s: %s", read, error);
		err = ERR_IO;
		goto fail;
	}
	p->link = pcap_datalink(p->capture);
	if (!link_known(p->link)) {
		log_error(
		    "--read %s: link type %d is not supported; Ethernet, raw IP, Linux cooked "
		    "and loopback captures are",
		    read, p->link);
		err = ERR_INVALID;
		goto fail;
	}
	p->raw =
	    pcap_open_dead_with_tstamp_precision(DLT_RAW, SNAPSHOT, PCAP_TSTAMP_PRECISION_NANO);
	if (!p->raw)
		goto fail;
	p->output = pcap_dump_open(p->raw, write);
	if (!p->output) {
		log_error("--write %s: %s", write, pcap_geterr(p->raw));
		err = ERR_IO;
		goto fail;
	}
	*out = &p->port;
	return 0;
fail:
	pcap_port_free(&p->port);
	return err;
}
