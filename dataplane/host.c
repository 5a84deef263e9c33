/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/host.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common/base/err.h"
#include "common/base/log.h"
#include "dataplane/host_state.h"
#include "dataplane/netlink.h"

enum {
	/*
	 * Packets a queue of a device. What the kernel forwards by itself needs no thread's turn;
	 * our worker does, and on a busy machine it may come late: tens of milliseconds of packets
	 * have to find room meanwhile. It costs 8 bytes each.
	 */
	DEVICE_QUEUE = 4096,
	MTU_LEAST = 1500,
};

struct link {
	uint32_t mtu;
	unsigned index; /* another one: the interface came back as a new one, with new sysctls */
};

struct host {
	struct host_conf conf;
	struct netlink *netlink;
	struct host_state state;
	struct host_plan *done; /* what is (or may be) on the host because of us */
	struct host_plan *want; /* scratch of apply */
	struct host_facts facts;
	struct link links[PORT_INTERFACES_MAX]; /* of conf.interfaces */
	struct wire_config config;
	bool configured, started, refused;
	char problem[HOST_SENTENCE_MAX];
	pthread_mutex_t lock;
};

/* ---- what the host is like ---- */

static void take_address(void *context, unsigned index, nat_be32 address, uint8_t length)
{
	struct host_facts *facts = context;
	if (facts->n_addresses == HOST_ADDRESSES_MAX)
		return;
	char name[IF_NAMESIZE] = "?";
	if_indextoname(index, name);
	snprintf(facts->addresses[facts->n_addresses].interface, PORT_NAME_MAX, "%s", name);
	facts->addresses[facts->n_addresses].address = address;
	facts->addresses[facts->n_addresses].length = length;
	facts->n_addresses++;
}

/* A small number from below /proc/sys; false when there is no such file. */
static bool sysctl_read(const char *key, int *out)
{
	char path[128];
	snprintf(path, sizeof path, "/proc/sys/%s", key);
	FILE *file = fopen(path, "re");
	if (!file)
		return false;
	bool ok = fscanf(file, "%d", out) == 1;
	fclose(file);
	return ok;
}

static int sysctl_write(const char *key, int value)
{
	char path[128], text[16];
	snprintf(path, sizeof path, "/proc/sys/%s", key);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int n = snprintf(text, sizeof text, "%d\n", value);
	int err = write(fd, text, (size_t)n) == n ? 0 : -errno;
	close(fd);
	return err;
}

static int look(struct host *host, struct host_facts *facts, struct link links[PORT_INTERFACES_MAX])
{
	memset(facts, 0, sizeof *facts);
	memset(links, 0, PORT_INTERFACES_MAX * sizeof *links);
	if (!sysctl_read("net/ipv4/conf/all/rp_filter", &facts->rp_filter_all))
		facts->rp_filter_all = 0;
	int err = netlink_addresses(host->netlink, take_address, facts);
	for (unsigned i = 0; i < host->conf.n && err == 0; i++) {
		links[i].index = if_nametoindex(host->conf.interfaces[i].name);
		err = netlink_mtu(host->netlink, host->conf.interfaces[i].name, &links[i].mtu);
	}
	return err;
}

/* ---- one item ---- */

static int item_change(struct host *host, const struct host_item *item, bool add)
{
	struct netlink_rule rule = {item->interface,  item->address, item->length,
				    item->priority,   item->table,   item->icmp,
				    item->icmp_first, item->icmp_last};
	struct netlink_route route = {item->address, item->length, item->priority, item->table,
				      item->kind == HOST_ROUTE ? item->interface : NULL};
	int value;
	switch (item->kind) {
	case HOST_RULE:
		return netlink_rule(host->netlink, &rule, add);
	case HOST_ROUTE:
	case HOST_BLACKHOLE:
		return netlink_route(host->netlink, &route, add);
	case HOST_PROXY:
		return netlink_proxy(host->netlink, item->interface, item->address, add);
	default:
		if (add)
			return sysctl_write(item->key, item->value);
		/* A device that went, or a value that someone else set since, is not ours to mend.
		 */
		if (!sysctl_read(item->key, &value) || value != item->value)
			return 0;
		return sysctl_write(item->key, item->old);
	}
}

/* Whether the host is already like this without us, so that there is nothing to do or undo. */
static bool item_given(struct host *host, struct host_item *item)
{
	if (item->kind == HOST_PROXY)
		return netlink_proxy_exists(host->netlink, item->interface, item->address) == 1;
	if (item->kind == HOST_SYSCTL)
		return !sysctl_read(item->key, &item->old) || item->old == item->value;
	return false;
}

static int item_apply(struct host *host, struct host_item *item)
{
	const struct host_item *before = host_plan_find(host->done, item);
	if (before) {
		item->old = before->old;
	} else {
		if (item_given(host, item)) {
			item->old = item->value;
			return 0;
		}
		int err = host_state_append(&host->state, item);
		err = err ? err : host_plan_append(host->done, item);
		if (err)
			return err;
	}
	int err = item_change(host, item, true);
	if (err < 0) {
		char text[160];
		host_item_format(item, text, sizeof text);
		snprintf(host->problem, sizeof host->problem, "host set-up \"%s\" failed: %s", text,
			 strerror(-err));
		log_error("%s", host->problem);
		return ERR_IO;
	}
	return 0;
}

static void item_undo(struct host *host, const struct host_item *item)
{
	int err = item_change(host, item, false);
	if (err < 0) {
		char text[160];
		host_item_format(item, text, sizeof text);
		log_warning("could not undo \"%s\": %s", text, strerror(-err));
	}
}

/* ---- the whole ---- */

static void print_plan(struct host *host, const struct host_plan *want)
{
	for (unsigned i = 0; i < want->n; i++) {
		if (host_plan_find(host->done, &want->items[i]))
			continue;
		host_item_command(&want->items[i], stdout);
		host_plan_append(host->done, &want->items[i]);
	}
	fflush(stdout);
}

/* Removes from "done" what is not wanted, undoing it, and puts the rest into the plan's order. */
static int settle(struct host *host, const struct host_plan *want)
{
	for (unsigned i = host->done->n; i-- > 0;) {
		if (!host_plan_find(want, &host->done->items[i]))
			item_undo(host, &host->done->items[i]);
	}
	unsigned n = 0;
	for (unsigned i = 0; i < want->n; i++) {
		if (host_plan_find(host->done, &want->items[i]))
			host->want->items[n++] = want->items[i];
	}
	host->want->n = n;
	struct host_plan *done = host->done;
	host->done = host->want;
	host->want = done;
	return host_state_write(&host->state, host->done);
}

/*
 * Makes the plan true. keep: what an earlier run left stays for now, because the pools are not
 * known yet that it may belong to.
 */
static int apply(struct host *host, const struct wire_config *config, bool keep)
{
	char sentence[HOST_SENTENCE_MAX];
	int err = host_plan_make(host->conf.interfaces, host->conf.n, &host->facts, config,
				 host->want, sentence);
	host->refused = err != 0 && !host->conf.print_only;
	if (host->refused) {
		snprintf(host->problem, sizeof host->problem, "%s",
			 sentence[0] ? sentence : err_text(err));
		log_error("%s", host->problem);
		return err;
	}
	if (host->conf.print_only) {
		if (err)
			log_warning("%s", sentence[0] ? sentence : err_text(err));
		print_plan(host, host->want);
		return 0;
	}
	for (unsigned i = 0; i < host->want->n && !err; i++)
		err = item_apply(host, &host->want->items[i]);
	if (!err && !keep)
		err = settle(host, host->want);
	if (!err)
		host->problem[0] = 0;
	return err;
}

int host_new(const struct host_conf *conf, struct host **out)
{
	struct host *host = calloc(1, sizeof *host);
	if (!host)
		return ERR_NOMEM;
	host->conf = *conf;
	host->state.lock = -1;
	pthread_mutex_init(&host->lock, NULL);
	int err = host_plan_new(&host->done);
	err = err ? err : host_plan_new(&host->want);
	if (!err && netlink_open(&host->netlink) < 0) {
		log_error("cannot open a netlink socket: %s", strerror(errno));
		err = ERR_IO;
	}
	err = err ? err
		  : host_state_open(conf->run_dir[0] ? conf->run_dir : HOST_RUN_DIR, &host->state);
	if (!err && !conf->print_only) {
		err = host_state_read(&host->state, host->done);
		if (host->done->n > 0)
			log_notice(
			    "taking over the host's set-up of a run that did not end cleanly "
			    "(%u items)",
			    host->done->n);
	}
	if (!err && look(host, &host->facts, host->links) < 0) {
		log_error("cannot read the interfaces' addresses and MTUs");
		err = ERR_IO;
	}
	if (err) {
		host_free(host);
		return err;
	}
	*out = host;
	return 0;
}

void host_free(struct host *host)
{
	if (!host)
		return;
	/* Not started: what a crashed run left stays, and goes on keeping packets from leaking. */
	if (host->started && !host->conf.print_only) {
		for (unsigned i = host->done->n; i-- > 0;)
			item_undo(host, &host->done->items[i]);
		host->done->n = 0;
		host_state_write(&host->state, host->done);
	}
	host_state_close(&host->state);
	netlink_close(host->netlink);
	host_plan_free(host->want);
	host_plan_free(host->done);
	pthread_mutex_destroy(&host->lock);
	free(host);
}

/* Large enough that the kernel fragments nothing on the way into a device. */
static int devices_up(struct host *host)
{
	uint32_t mtu = MTU_LEAST;
	for (unsigned i = 0; i < host->conf.n; i++)
		mtu = host->links[i].mtu > mtu ? host->links[i].mtu : mtu;
	mtu = mtu > 65535 ? 65535 : mtu;
	for (unsigned i = 0; i < host->conf.n; i++) {
		char device[PORT_NAME_MAX], key[80];
		host_device(host->conf.interfaces[i].realm, device);
		snprintf(key, sizeof key, "net/ipv6/conf/%s/disable_ipv6", device);
		sysctl_write(key, 1); /* our own device; without IPv6 there is no such file */
		int err = netlink_link_up(host->netlink, device, mtu, DEVICE_QUEUE);
		if (err < 0) {
			log_error("cannot bring %s up: %s", device, strerror(-err));
			return ERR_IO;
		}
	}
	return 0;
}

int host_start(struct host *host)
{
	pthread_mutex_lock(&host->lock);
	host->started = true;
	int err = devices_up(host);
	err = err ? err : apply(host, NULL, true);
	pthread_mutex_unlock(&host->lock);
	return err;
}

int host_configure(struct host *host, const struct wire_config *config)
{
	pthread_mutex_lock(&host->lock);
	/* Kept also when it is refused: host_refresh tries again when the addresses have changed.
	 */
	host->config = *config;
	host->configured = true;
	int err = apply(host, config, false);
	pthread_mutex_unlock(&host->lock);
	return err;
}

bool host_refresh(struct host *host)
{
	struct host_facts facts;
	struct link links[PORT_INTERFACES_MAX];
	pthread_mutex_lock(&host->lock);
	bool changed =
	    look(host, &facts, links) == 0 && (memcmp(&facts, &host->facts, sizeof facts) != 0 ||
					       memcmp(links, host->links, sizeof links) != 0);
	if (changed) {
		host->facts = facts;
		memcpy(host->links, links, sizeof links);
		devices_up(host);
		apply(host, host->configured ? &host->config : NULL, !host->configured);
	}
	pthread_mutex_unlock(&host->lock);
	return changed;
}

void host_world(struct host *host, struct engine_config *out)
{
	pthread_mutex_lock(&host->lock);
	out->ttl = ENGINE_TTL_RESTORE;
	for (unsigned i = 0; i < host->conf.n; i++) {
		uint8_t realm = host->conf.interfaces[i].realm;
		if (out->mtu[realm] == 0 || host->links[i].mtu < out->mtu[realm])
			out->mtu[realm] = host->links[i].mtu;
		for (unsigned k = 0; k < host->facts.n_addresses; k++) {
			if (out->icmp_source[realm] == 0 &&
			    strcmp(host->facts.addresses[k].interface,
				   host->conf.interfaces[i].name) == 0)
				out->icmp_source[realm] = host->facts.addresses[k].address;
		}
	}
	pthread_mutex_unlock(&host->lock);
}

bool host_problem(struct host *host, char sentence[HOST_SENTENCE_MAX])
{
	pthread_mutex_lock(&host->lock);
	snprintf(sentence, HOST_SENTENCE_MAX, "%s",
		 host->configured ? host->problem
				  : "the table service has not sent its configuration yet");
	pthread_mutex_unlock(&host->lock);
	return sentence[0] != 0;
}

bool host_refused(struct host *host)
{
	pthread_mutex_lock(&host->lock);
	bool refused = host->refused;
	pthread_mutex_unlock(&host->lock);
	return refused;
}
