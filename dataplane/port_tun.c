/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   eth1 -> rule, table -> conat-in  --read--> worker: engine_process --write--> conat-out -> main
 *           table -> eth0, and back: eth0 -> pool route -> conat-out -> worker -> conat-in -> eth1
 *
 * A device hashes flows to its queues, and remembers for what a queue wrote that the answers come
 * back through the same queue; so a flow stays with one worker without our doing. Writing runs the
 * kernel's forwarding in the worker's time: there is no other thread to pace.
 */
#include "dataplane/port_tun.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>
#include <urcu-qsbr.h>
#include "common/base/err.h"
#include "common/base/log.h"
#include "common/base/thread.h"
#include "dataplane/local_output.h"
#include "dataplane/vnet.h"

#ifndef TUN_F_USO4 /* Linux 6.2 */
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

enum {
	BATCH = 32,
	TURNS_MAX = 64, /* before poll is asked again */
	ROOM = 65535,
	/* The packet begins 64 bytes into its buffer, the virtio header right before it. */
	DATA_OFFSET = 64,
	BUFFER_BYTES = DATA_OFFSET + ROOM + 1,
	EXCLUSIVE_WAIT_MS = 2000,
	EXCLUSIVE_RETRY_MS = 20,
};

struct device {
	char name[PORT_NAME_MAX];
	uint8_t realm;
	int fds[PORT_TUN_QUEUES_MAX]; /* by worker */
};

/* Each is written by one thread alone and read by any. */
struct counters {
	_Atomic uint64_t received, received_bytes, sent, sent_bytes, super_packets;
	_Atomic uint64_t partial_checksums, checksums_completed, read_errors;
	_Atomic uint64_t output_drops, ring_drops, malformed_drops;
} __attribute__((aligned(64)));

struct port_tun;
struct worker {
	struct port_tun *tun;
	unsigned index; /* queue */
	pthread_t thread;
	bool started;
	uint8_t *buffers;
	struct engine_packet packets[BATCH];
	struct counters counters;
};

struct port_tun {
	struct port port;
	struct port_env env;
	struct host *host;
	struct device devices[PORT_INTERFACES_MAX];
	unsigned n_devices;
	uint8_t device_of[NAT_REALM_MAX + 1]; /* index + 1 */
	struct worker *workers;
	unsigned n_workers;
	int stop;	       /* eventfd: readable when the loops shall end */
	int local;	       /* local_output: for what the engine made */
	_Atomic bool broken;   /* a device was taken away from us, or cannot be polled */
	struct counters owner; /* of send(), whose callers are serialised by the owner thread */
};

static void count(_Atomic uint64_t *counter, uint64_t n)
{
	/* One writer: no locked instruction. */
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

/* ---- devices ---- */

static int open_queue(const char *name, bool first, int *out)
{
	struct ifreq request = {0};
	int header = sizeof(struct virtio_net_hdr);
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0) {
		log_error("cannot open /dev/net/tun: %s; %s", strerror(errno),
			  errno == ENOENT ? "load the module (modprobe tun), or give the container "
					    "the device (--device /dev/net/tun)"
					  : "run as root or with CAP_NET_ADMIN");
		return ERR_IO;
	}
	snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
	/* Exclusive: with multi-queue, two processes could share one device without noticing. */
	request.ifr_flags = (short)(IFF_TUN | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE |
				    (first ? IFF_TUN_EXCL : 0));
	int err = ioctl(fd, TUNSETIFF, &request);
	for (int waited = 0; err < 0 && errno == EBUSY && waited < EXCLUSIVE_WAIT_MS;
	     waited += EXCLUSIVE_RETRY_MS) {
		/* A killed predecessor's devices go a moment after it. */
		nanosleep(&(struct timespec){.tv_nsec = EXCLUSIVE_RETRY_MS * MS_NS}, NULL);
		err = ioctl(fd, TUNSETIFF, &request);
	}
	if (err < 0) {
		log_error("cannot create the TUN device %s: %s%s", name, strerror(errno),
			  errno == EPERM ? "; run as root or with CAP_NET_ADMIN"
			  : errno == EBUSY
			      ? "; it exists already: stop what holds it, or remove it "
				"with \"ip link delete\""
			      : "");
		close(fd);
		return ERR_IO;
	}
	unsigned offloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO_ECN;
	if (ioctl(fd, TUNSETVNETHDRSZ, &header) < 0 ||
	    (ioctl(fd, TUNSETOFFLOAD, offloads | TUN_F_USO4 | TUN_F_USO6) < 0 &&
	     ioctl(fd, TUNSETOFFLOAD, offloads) < 0)) {
		log_error("cannot set up the TUN device %s: %s", name, strerror(errno));
		close(fd);
		return ERR_IO;
	}
	*out = fd;
	return 0;
}

static int open_device(struct port_tun *tun, uint8_t realm)
{
	struct device *device = &tun->devices[tun->n_devices];
	host_device(realm, device->name);
	device->realm = realm;
	for (unsigned i = 0; i < PORT_TUN_QUEUES_MAX; i++)
		device->fds[i] = -1;
	tun->device_of[realm] = (uint8_t)++tun->n_devices;
	for (unsigned i = 0; i < tun->n_workers; i++) {
		int err = open_queue(device->name, i == 0, &device->fds[i]);
		if (err)
			return err;
	}
	return 0;
}

/* ---- the packet's way ---- */

static bool output(struct port_tun *tun, unsigned queue, const struct engine_packet *packet)
{
	unsigned index = tun->device_of[packet->egress];
	if (index == 0)
		return false;
	struct virtio_net_hdr header;
	vnet_write(packet, &header);
	struct iovec parts[2] = {{&header, sizeof header}, {packet->data, packet->length}};
	return writev(tun->devices[index - 1].fds[queue], parts, 2) >= 0;
}

/* Somebody deleted the device: its queues are dead and would be readable for ever. */
static unsigned lose(struct worker *worker, const struct device *device)
{
	if (!atomic_exchange(&worker->tun->broken, true))
		log_error("the TUN device %s was deleted by somebody else", device->name);
	return 0;
}

/* Reads up to a batch; *drained says that the queue is empty. */
static unsigned input(struct worker *worker, const struct device *device, bool *drained)
{
	struct counters *counters = &worker->counters;
	unsigned n = 0;
	*drained = false;
	for (unsigned reads = 0; reads < BATCH; reads++) {
		uint8_t *data = worker->buffers + (size_t)n * BUFFER_BYTES + DATA_OFFSET;
		struct virtio_net_hdr header;
		struct iovec parts[2] = {{&header, sizeof header}, {data, ROOM}};
		ssize_t got = readv(device->fds[worker->index], parts, 2);
		if (got < (ssize_t)sizeof header) {
			*drained = true;
			if (got < 0 && errno == EBADFD)
				return lose(worker, device);
			if (got >= 0 || (errno != EAGAIN && errno != EINTR))
				count(&counters->read_errors, 1);
			break;
		}
		struct engine_packet *packet = &worker->packets[n];
		*packet = (struct engine_packet){
		    .data = data,
		    .length = (uint32_t)((size_t)got - sizeof header),
		    .room = ROOM,
		    .ingress = device->realm,
		};
		count(&counters->received, 1);
		count(&counters->received_bytes, packet->length);
		enum vnet_found found = vnet_read(&header, packet);
		if (found == VNET_BAD) {
			count(&counters->malformed_drops, 1);
			continue;
		}
		count(&counters->checksums_completed, found == VNET_COMPLETED);
		count(&counters->partial_checksums, packet->partial_checksum);
		count(&counters->super_packets, packet->gso_size > 0);
		n++;
	}
	return n;
}

static void batch(struct worker *worker, unsigned n)
{
	struct port_tun *tun = worker->tun;
	struct counters *counters = &worker->counters;
	unsigned number = PORT_TUN_WORKER + worker->index;
	engine_process(engine_worker(tun->env.engine, number), worker->packets, n, monotime_now());
	for (unsigned i = 0; i < n; i++) {
		struct engine_packet *packet = &worker->packets[i];
		if (packet->tcp_flags_new)
			tun->env.flags(tun->env.context, number, &packet->tuple,
				       packet->tcp_flags_new);
		if (packet->fate == ENGINE_SLOW) {
			if (!tun->env.slow(tun->env.context, number, packet))
				count(&counters->ring_drops, 1);
		} else if (packet->fate == ENGINE_OUT) {
			if (output(tun, worker->index, packet)) {
				count(&counters->sent, 1);
				count(&counters->sent_bytes, packet->length);
			} else {
				count(&counters->output_drops, 1);
			}
		}
	}
}

static void *loop(void *context)
{
	struct worker *worker = context;
	struct port_tun *tun = worker->tun;
	struct pollfd polled[PORT_INTERFACES_MAX + 1];
	for (unsigned i = 0; i < tun->n_devices; i++)
		polled[i] =
		    (struct pollfd){.fd = tun->devices[i].fds[worker->index], .events = POLLIN};
	polled[tun->n_devices] = (struct pollfd){.fd = tun->stop, .events = POLLIN};
	thread_prompt();
	rcu_register_thread();
	for (;;) {
		rcu_thread_offline();
		int ready = poll(polled, tun->n_devices + 1, -1);
		rcu_thread_online();
		if (ready < 0 && errno == EINTR)
			continue;
		if (ready < 0) {
			log_error("poll on the TUN devices: %s", strerror(errno));
			tun->broken = true; /* rather an end than a loop that does nothing */
		}
		if (polled[tun->n_devices].revents || tun->broken)
			break;
		/*
		 * One batch from each device in turn: neither direction starves the other. Bounded,
		 * so that a stop is heard under any load.
		 */
		bool more = true;
		for (unsigned turn = 0; more && turn < TURNS_MAX; turn++) {
			more = false;
			for (unsigned i = 0; i < tun->n_devices; i++) {
				if (!polled[i].revents)
					continue;
				bool drained;
				unsigned n = input(worker, &tun->devices[i], &drained);
				if (n > 0)
					batch(worker, n);
				rcu_quiescent_state();
				if (drained)
					polled[i].revents = 0;
				else
					more = true;
			}
		}
	}
	rcu_unregister_thread();
	return NULL;
}

/* ---- the port's operations ---- */

static int tun_start(struct port *port)
{
	struct port_tun *tun = (struct port_tun *)port;
	int err = host_start(tun->host);
	for (unsigned i = 0; i < tun->n_workers && !err; i++) {
		struct worker *worker = &tun->workers[i];
		if (pthread_create(&worker->thread, NULL, loop, worker) != 0) {
			log_error("cannot start worker %u: %s", i, strerror(errno));
			err = ERR_NOMEM;
			break;
		}
		worker->started = true;
		char name[16];
		snprintf(name, sizeof name, "conat-tun%u", i & 0xff);
		pthread_setname_np(worker->thread, name);
	}
	return err;
}

/*
 * The first packet of a flow comes through here, and the queue that writes it draws the flow's
 * answers to its worker: spread them by address and, where there are any, ports.
 */
static unsigned choose_queue(const struct port_tun *tun, const struct engine_packet *packet)
{
	uint32_t addresses[2], ports = 0;
	if (packet->length < 20)
		return 0;
	unsigned header = (packet->data[0] & 0x0fu) * 4;
	bool has_ports = packet->data[9] == NAT_TCP || packet->data[9] == NAT_UDP;
	memcpy(addresses, packet->data + 12, sizeof addresses);
	if (has_ports && header + sizeof ports <= packet->length)
		memcpy(&ports, packet->data + header, sizeof ports);
	uint64_t hash = (addresses[0] ^ addresses[1] ^ ports) * UINT64_C(0x9e3779b97f4a7c15);
	return (unsigned)((hash >> 32) * tun->n_workers >> 32);
}

static bool tun_send(struct port *port, const struct engine_packet *packet)
{
	struct port_tun *tun = (struct port_tun *)port;
	if (!(packet->own ? local_output_send(tun->local, packet->data, packet->length)
			  : output(tun, choose_queue(tun, packet), packet)))
		return false; /* the caller counts it */
	count(&tun->owner.sent, 1);
	count(&tun->owner.sent_bytes, packet->length);
	return true;
}

static void tun_configure(struct port *port, const struct wire_config *config)
{
	struct port_tun *tun = (struct port_tun *)port;
	host_configure(tun->host, config); /* it logs, and host_problem tells */
}

static void tun_counters(struct port *port, struct port_counters *out)
{
	struct port_tun *tun = (struct port_tun *)port;
	memset(out, 0, sizeof *out);
	for (unsigned i = 0; i <= tun->n_workers; i++) {
		const struct counters *c =
		    i < tun->n_workers ? &tun->workers[i].counters : &tun->owner;
		out->received += c->received;
		out->received_bytes += c->received_bytes;
		out->sent += c->sent;
		out->sent_bytes += c->sent_bytes;
		out->super_packets += c->super_packets;
		out->partial_checksums += c->partial_checksums;
		out->checksums_completed += c->checksums_completed;
		out->read_errors += c->read_errors;
		out->drops[NAT_REASON_OUTPUT] += c->output_drops;
		out->drops[NAT_REASON_RING_FULL] += c->ring_drops;
		out->drops[NAT_REASON_BAD_TRANSPORT] += c->malformed_drops;
	}
}

static bool tun_finished(struct port *port)
{
	return ((struct port_tun *)port)->broken;
}

static void tun_free(struct port *port)
{
	struct port_tun *tun = (struct port_tun *)port;
	if (!tun)
		return;
	uint64_t one = 1;
	if (tun->stop >= 0 && write(tun->stop, &one, sizeof one) < 0)
		log_error("cannot stop the workers: %s", strerror(errno));
	for (unsigned i = 0; tun->workers && i < tun->n_workers; i++) {
		if (tun->workers[i].started)
			pthread_join(tun->workers[i].thread, NULL);
		if (tun->workers[i].buffers)
			munmap(tun->workers[i].buffers, (size_t)BATCH * BUFFER_BYTES);
	}
	/* The rules go before the devices do, so that no packet finds a rule without a route. */
	host_free(tun->host);
	for (unsigned i = 0; i < tun->n_devices; i++) {
		for (unsigned k = 0; k < PORT_TUN_QUEUES_MAX; k++) {
			if (tun->devices[i].fds[k] >= 0)
				close(tun->devices[i].fds[k]);
		}
	}
	if (tun->local >= 0)
		close(tun->local);
	if (tun->stop >= 0)
		close(tun->stop);
	free(tun->workers);
	free(tun);
}

static const struct port_ops tun_ops = {
    .name = "tun",
    .start = tun_start,
    .send = tun_send,
    .configure = tun_configure,
    .free = tun_free,
    .finished = tun_finished,
    .counters = tun_counters,
};

static int workers_new(struct port_tun *tun, unsigned n)
{
	tun->workers = aligned_alloc(64, n * sizeof *tun->workers);
	if (!tun->workers)
		return ERR_NOMEM;
	memset(tun->workers, 0, n * sizeof *tun->workers);
	tun->n_workers = n;
	for (unsigned i = 0; i < n; i++) {
		tun->workers[i].tun = tun;
		tun->workers[i].index = i;
		void *buffers = mmap(NULL, (size_t)BATCH * BUFFER_BYTES, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		if (buffers == MAP_FAILED)
			return ERR_NOMEM;
		tun->workers[i].buffers = buffers;
	}
	return 0;
}

static int check_interfaces(const struct port_tun_conf *conf)
{
	for (unsigned i = 0; i < conf->n; i++) {
		if (if_nametoindex(conf->interfaces[i].name) == 0) {
			log_error("there is no interface %s in this network namespace (\"ip link\" "
				  "lists those that are)",
				  conf->interfaces[i].name);
			return ERR_NOT_FOUND;
		}
	}
	return 0;
}

int port_tun_new(const struct port_tun_conf *conf, const struct port_env *env, struct port **out)
{
	if (conf->queues < 1 || conf->queues > PORT_TUN_QUEUES_MAX || conf->n > PORT_INTERFACES_MAX)
		return ERR_INVALID;
	int err = check_interfaces(conf);
	if (err)
		return err;
	struct port_tun *tun = aligned_alloc(64, (sizeof *tun + 63) / 64 * 64);
	if (!tun)
		return ERR_NOMEM;
	memset(tun, 0, sizeof *tun);
	tun->port.ops = &tun_ops;
	tun->env = *env;
	tun->local = -1;
	tun->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct host_conf host = {.n = conf->n, .print_only = !conf->host_setup};
	memcpy(host.interfaces, conf->interfaces, sizeof host.interfaces);
	memcpy(host.run_dir, conf->run_dir, sizeof host.run_dir);
	if (tun->stop < 0)
		err = ERR_IO;
	err = err ? err : local_output_open(&tun->local);
	err = err ? err : workers_new(tun, conf->queues);
	err = err ? err : host_new(&host, &tun->host);
	for (unsigned i = 0; i < conf->n && !err; i++) {
		if (!tun->device_of[conf->interfaces[i].realm])
			err = open_device(tun, conf->interfaces[i].realm);
	}
	if (err) {
		tun_free(&tun->port);
		return err;
	}
	*out = &tun->port;
	return 0;
}

struct host *port_tun_host(struct port *port)
{
	return ((struct port_tun *)port)->host;
}
