/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP connections: handshake, data, FINs, RSTs, opened again; each packet by whichever dataplane. A
 * connection knows what was translated of it, and what the table must therefore know a moment later,
 * unless something was disturbed meanwhile: an established one (half-closed too) does not end before
 * the established timer, whatever reports crossed; one that both closed is gone after the closing timer.
 */
#include <arpa/inet.h>
#include <string.h>
#include "tests/sim/sim.h"

enum {
	PORT = 7000, /* both endpoints'; nobody else uses it */
	SETTLE_MS = 600, /* reports may take this long: queues, a busy dataplane, the sweep */
	QUIET_MS = 1000, /* and parked packets so long: before a tuple is opened again */
};

static struct tcp_connection *connection(struct sim *sim, const struct nat_tuple *tuple)
{
	unsigned port = ntohs(tuple->realm ? tuple->destination_port : tuple->source_port) - PORT;
	if (tuple->protocol != NAT_TCP || port >= TCP_CONNECTIONS)
		return NULL;
	return &sim->connections[port];
}

bool tcp_is_one(const struct nat_tuple *tuple)
{
	unsigned port = ntohs(tuple->realm ? tuple->destination_port : tuple->source_port) - PORT;
	return tuple->protocol == NAT_TCP && port < TCP_CONNECTIONS;
}

void tcp_translated(struct dataplane *dp, const struct nat_tuple *tuple,
		    const struct nat_rewrite *rewrite, uint64_t handle, uint8_t flags)
{
	struct sim *sim = dp->sim;
	struct tcp_connection *c = connection(sim, tuple);
	bool out = tuple->realm != NAT_REALM_OUTSIDE;

	if (!c)
		return;
	trace(sim, "dp%u: tcp %u: %s, flags %u, session %lx", dp->index,
	      (unsigned)(c - sim->connections), out ? "out" : "in", flags, (unsigned long)handle);
	if (out) {
		c->external = (struct nat_endpoint){rewrite->source, rewrite->source_port, 0};
		c->known = true;
	}
	c->handle = handle;
	if ((flags & NAT_TCP_SYN) && !c->syn[!out])
		c->syn[!out] = sim->now;
	if ((flags & NAT_TCP_FIN) && !c->fin[!out])
		c->fin[!out] = sim->now;
	sim->coverage.tcp_established += (flags & NAT_TCP_SYN) && c->syn[0] && c->syn[1];
}

static void convey(struct sim *sim, struct tcp_connection *c, bool out, uint8_t flags)
{
	unsigned slot = (unsigned)(c - sim->connections);
	struct nat_tuple tuple = {
	    .source = c->internal,
	    .source_port = htons((uint16_t)(PORT + slot)),
	    .destination = htonl(0x08080900),
	    .destination_port = htons((uint16_t)(PORT + slot)),
	    .protocol = NAT_TCP,
	    .realm = 1,
	};
	if (!out) {
		tuple.source = tuple.destination;
		tuple.destination = c->external.address;
		tuple.destination_port = c->external.port;
		tuple.realm = NAT_REALM_OUTSIDE;
	}
	c->sent = sim->now;
	/* What may have been heard of the end, although the packet was lost. */
	c->may_end[!out] |= (flags & NAT_TCP_FIN) != 0;
	c->may_reset |= (flags & NAT_TCP_RST) != 0;
	dataplane_packet(&sim->dataplanes[below(sim, sim->shape.dataplanes)], &tuple, flags, false);
}

static void open_again(struct sim *sim, struct tcp_connection *c)
{
	if (!c->internal || chance(sim, 300)) { /* another host */
		*c = (struct tcp_connection){0};
		c->internal = htonl(0x0a000001 + below(sim, sim->shape.subscribers));
	} else {
		sim->coverage.tcp_reopened++;
		*c = (struct tcp_connection){.internal = c->internal, .external = c->external,
					     .known = c->known, .handle = c->handle};
	}
	c->troubles = sim->troubles;
	convey(sim, c, true, NAT_TCP_SYN);
}

void tcp_operate(struct sim *sim)
{
	struct tcp_connection *c = &sim->connections[below(sim, TCP_CONNECTIONS)];
	bool quiet = sim->now - c->sent > ms(QUIET_MS);

	if (c->quiet > sim->now)
		return;
	if (!c->internal) {
		open_again(sim, c);
		return;
	}
	if (!c->known || !c->syn[0] || !c->syn[1]) {
		if (quiet && chance(sim, 200)) /* given up */
			open_again(sim, c);
		else if (!c->known || !c->syn[0] || chance(sim, 200))
			convey(sim, c, true, NAT_TCP_SYN);
		else
			convey(sim, c, false, NAT_TCP_SYN | NAT_TCP_ACK);
		return;
	}
	if ((c->fin[0] && c->fin[1]) || c->may_reset) {
		if (c->quiet == 0)
			c->quiet = sim->now + ms(below(sim, sim->config.timers.tcp_closing * 4));
		else if (quiet && chance(sim, 300))
			open_again(sim, c);
		else if (chance(sim, 50))
			convey(sim, c, chance(sim, 500), NAT_TCP_ACK);
		return;
	}
	bool out = chance(sim, 600);
	uint32_t what = below(sim, 1000);
	if (what < 150) { /* shorter than any timer of an established one, or longer */
		c->quiet = sim->now + ms(below(sim, sim->config.timers.tcp_established * 5 / 4));
		return;
	}
	convey(sim, c, out,
	     what < 380	  ? NAT_TCP_FIN | NAT_TCP_ACK
	     : what < 400 ? NAT_TCP_RST
	     : what < 430 ? NAT_TCP_SYN | NAT_TCP_ACK /* retransmitted, or forged */
			  : NAT_TCP_ACK);
	c->quiet = 0;
}

static bool lives(const struct sim *sim, uint64_t handle, const char **state)
{
	for (unsigned i = 0; i < sim->n_sessions; i++) {
		*state = sim->sessions[i].state;
		if (sim->sessions[i].handle == handle)
			return strcmp(*state, "fenced") != 0;
	}
	return false;
}

static int64_t later(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/*
 * A FIN whose report may have crossed that of the second SYN: on a tuple that was open before, the
 * table takes it for that connection's, and keeps this one half-closed (tcp.c).
 */
static bool fin_crossed_syn(const struct tcp_connection *c)
{
	int64_t first = c->fin[0] < c->fin[1] ? c->fin[0] : c->fin[1];
	return first - later(c->syn[0], c->syn[1]) < ms(SETTLE_MS);
}

/* Everything that was seen of it is known at the table by now. */
static bool settled(const struct sim *sim, const struct tcp_connection *c, const int64_t seen[2])
{
	return seen[0] && seen[1] && c->troubles == sim->troubles &&
	       sim->now - later(seen[0], seen[1]) > ms(SETTLE_MS);
}

int64_t tcp_shortest(struct sim *sim, uint64_t handle)
{
	const struct config_timers *timers = &sim->config.timers;

	for (unsigned i = 0; i < TCP_CONNECTIONS; i++) {
		const struct tcp_connection *c = &sim->connections[i];
		if (c->handle != handle || !settled(sim, c, c->syn) || c->may_reset ||
		    (c->may_end[0] && c->may_end[1]))
			continue;
		return ms(timers->tcp_established - 1);
	}
	return ms((timers->tcp_opening < timers->tcp_closing ? timers->tcp_opening
							     : timers->tcp_closing) -
		  1);
}

void tcp_check(struct sim *sim)
{
	const struct config *config = &sim->config;
	int64_t most = ms(config->timers.tcp_closing + config->lease_ms + SETTLE_MS + 200);
	const char *state;

	for (unsigned i = 0; i < TCP_CONNECTIONS; i++) {
		const struct tcp_connection *c = &sim->connections[i];
		if (!settled(sim, c, c->syn) || sim->now - c->sent < most)
			continue;
		bool alive = lives(sim, c->handle, &state);
		sim->coverage.tcp_quiet += alive && !c->may_reset && !(c->may_end[0] && c->may_end[1]);
		if (!settled(sim, c, c->fin) || fin_crossed_syn(c))
			continue;
		sim->coverage.tcp_closed++;
		if (alive)
			fail(sim, "tcp: session %lx is %s %ld ms after both sides closed it",
			     (unsigned long)c->handle, state,
			     (long)((sim->now - c->sent) / MS_NS));
	}
}
