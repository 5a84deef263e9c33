/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fragments in the simulation: datagrams whose pieces reach any dataplane in any order, through the
 * real engine, which asks the real cache. Two things are checked of what comes out:
 *
 *   numbers   No two datagrams of different senders leave with one {source, destination, protocol,
 *             identification} at a time (RFC 6864 section 5.3.1). A dataplane that had nobody to
 * ask is exempt: it says so in a counter. together  All pieces of a datagram come out, with one
 * tuple and one identification, when nothing was lost, refused, broken or pushed out meanwhile (RFC
 * 4787 REQ-14).
 *
 * Senders number from few numbers, so that they collide all the time.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include "tests/sim/sim.h"

enum {
	HEADER = 20,
	PIECE_MIN = 24, /* a TCP header and what says whose it is */
	PAYLOAD_MAX = 480,
	LENGTH_MAX = HEADER + PAYLOAD_MAX,
	NUMBERS = 6,
	REAL_PACKET =
	    0x45, /* first byte; a body begins with an address, and 69.0.0.0 is nowhere here */
	MTU = 300,
	SLOW_MS = 100,	   /* what a message takes now and then */
};
#define MAGIC 0x66726167u

bool fragments_alone; /* mutation: nobody asks the table, and nobody says so */

/* ---- disturbances: what excuses a datagram that does not come out whole */

static uint64_t disturbances(const struct sim *sim)
{
	struct table_counters t;

	table_counters(sim->table, &t);
	return sim->disturbances + t.fragments_evicted + t.fragments_untold + t.flushes;
}

/* Whether a partition or a slow message keeps what is sent now waiting for long. */
static bool delayed(const struct sim *sim)
{
	for (unsigned i = 0; i < LINKS; i++) {
		const struct link *link = &sim->links[i];
		if (!link->used)
			continue;
		if (link->hold > sim->now)
			return true;
		for (unsigned q = 0; q < QUEUES; q++)
			if (link->queues[q].first && link->queues[q].arrival > sim->now + ms(SLOW_MS))
				return true;
	}
	return false;
}

/* Somebody numbers by himself: what he has under way now proves nothing. */
static void excuse_all(struct sim *sim)
{
	sim->disturbances++;
	for (unsigned i = 0; i < DATAGRAMS; i++)
		sim->datagrams[i].alone = true;
	sim->coverage.fragments_alone++;
}

/* ---- packets */

/* Every eight bytes behind the transport header say which datagram they are of. */
static uint32_t build(const struct datagram *d, uint32_t begin, uint32_t end, uint8_t *out)
{
	uint8_t whole[PAYLOAD_MAX] = {0};
	const struct nat_tuple *t = &d->tuple;
	uint32_t words[2] = {MAGIC, d->number}, sum = 0;

	for (uint32_t at = 0; at + 8 <= d->payload; at += 8)
		memcpy(whole + at, words, sizeof words);
	if (t->protocol == NAT_ICMP) {
		bool reply = t->source_port == 0;
		memset(whole, 0, 8);
		whole[0] = reply ? 0 : 8;
		memcpy(whole + 4, reply ? &t->destination_port : &t->source_port, 2);
	} else {
		memset(whole, 0, t->protocol == NAT_TCP ? 20 : 8);
		memcpy(whole, &t->source_port, 2);
		memcpy(whole + 2, &t->destination_port, 2);
		if (t->protocol == NAT_UDP) { /* no checksum */
			whole[4] = (uint8_t)(d->payload >> 8);
			whole[5] = (uint8_t)d->payload;
		} else {
			whole[12] = 5 << 4;
			whole[13] = d->tcp_flags;
		}
	}
	memset(out, 0, HEADER);
	uint32_t length = HEADER + end - begin;
	uint32_t field = begin / 8 | (end < d->payload ? 0x2000u : 0);
	out[0] = REAL_PACKET;
	out[2] = (uint8_t)(length >> 8);
	out[3] = (uint8_t)length;
	out[4] = (uint8_t)(d->identification >> 8);
	out[5] = (uint8_t)d->identification;
	out[6] = (uint8_t)(field >> 8);
	out[7] = (uint8_t)field;
	out[8] = 64;
	out[9] = t->protocol;
	memcpy(out + 12, &t->source, 4);
	memcpy(out + 16, &t->destination, 4);
	for (unsigned i = 0; i < HEADER; i += 2)
		sum += (uint32_t)out[i] << 8 | out[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = ~((sum & 0xffff) + (sum >> 16));
	out[10] = (uint8_t)(sum >> 8);
	out[11] = (uint8_t)sum;
	memcpy(out + HEADER, whole + begin, end - begin);
	return length;
}

static struct datagram *datagram_of(struct sim *sim, const struct engine_packet *packet)
{
	uint32_t payload = packet->length - HEADER, words[2];

	if (payload < 8)
		return NULL;
	memcpy(words, packet->data + HEADER + (payload / 8 - 1) * 8, sizeof words);
	if (words[0] != MAGIC)
		return NULL;
	struct datagram *d = &sim->datagrams[words[1] % DATAGRAMS];
	return d->number == words[1] ? d : NULL;
}

/* ---- what comes out */

static bool lives(const struct sim *sim, const struct datagram *d)
{
	return d->number && d->came && d->in_pieces && !d->alone &&
	       sim->now - d->last_out < ms(sim->config.fragment_timeout_ms);
}

/*
 * Two hosts outside look like one where a redirect's answers come in: who answers for the rule's
 * destination, and who really has that address. Both keep their numbers, as what comes from the
 * outside does: a clash that the table does not prevent.
 */
static bool is_behind_redirect(const struct sim *sim, const struct datagram *d)
{
	return d->source == sim->redirects[0].destination.address;
}

static void check_numbers(struct sim *sim, const struct datagram *d)
{
	if (is_behind_redirect(sim, d))
		return;
	for (unsigned i = 0; i < DATAGRAMS; i++) {
		const struct datagram *o = &sim->datagrams[i];
		bool same_sender =
		    o->tuple.source == d->tuple.source && o->tuple.realm == d->tuple.realm;
		if (o == d || !lives(sim, o) || same_sender || o->source != d->source ||
		    o->destination != d->destination || o->egress != d->egress ||
		    o->tuple.protocol != d->tuple.protocol || o->left_with != d->left_with)
			continue;
		fail(sim,
		     "RFC 6864: datagrams %u of %08x and %u of %08x leave as %08x > %08x with %u",
		     d->number, ntohl(d->tuple.source), o->number, ntohl(o->tuple.source),
		     ntohl(d->source), ntohl(d->destination), d->left_with);
	}
}

static void comes_out(struct dataplane *dp, const struct engine_packet *packet)
{
	struct sim *sim = dp->sim;
	struct datagram *d = datagram_of(sim, packet);
	const uint8_t *ip = packet->data;
	nat_be32 source, destination;

	if (!d) /* an ICMP error, or of one that is forgotten here */
		return;
	memcpy(&source, ip + 12, 4);
	memcpy(&destination, ip + 16, 4);
	uint16_t left_with = (uint16_t)(ip[4] << 8 | ip[5]);
	trace(sim, "dp%u: datagram %u: bytes from %u leave as %08x > %08x number %u", dp->index,
	      d->number, ((ip[6] & 0x1fu) << 8 | ip[7]) * 8, ntohl(source), ntohl(destination),
	      left_with);
	if (d->came &&
	    (d->source != source || d->destination != destination || d->left_with != left_with ||
	     d->egress != packet->egress) &&
	    !d->alone && disturbances(sim) == d->disturbances)
		fail(sim, "datagram %u leaves as %08x > %08x number %u and %08x > %08x number %u",
		     d->number, ntohl(d->source), ntohl(d->destination), d->left_with,
		     ntohl(source), ntohl(destination), left_with);
	d->source = source;
	d->destination = destination;
	d->left_with = left_with;
	d->egress = packet->egress;
	d->last_out = sim->now;
	d->came += packet->length - HEADER;
	d->in_pieces |= packet->length - HEADER < d->payload;
	if (!d->alone && d->in_pieces)
		check_numbers(sim, d);
	if (d->came == d->payload && d->at_several)
		sim->coverage.fragments_together++;
}

/* ---- the engine between a dataplane's cache and its world */

static unsigned on_ask(void *context, unsigned op, const struct nat_tuple *tuple, uint8_t tcp_flags,
		       const struct engine_packet *packet, struct monotime now)
{
	struct dataplane *dp = context;
	unsigned reason = cache_ask(dp->cache, op, tuple, tcp_flags, packet, now);
	dp->sim->disturbances += reason != 0; /* the engine drops it */
	return reason;
}

static unsigned on_ask_fragment(void *context, unsigned op, const struct nat_tuple *tuple,
				uint16_t identification, uint64_t datagram, struct monotime now)
{
	struct dataplane *dp = context;
	unsigned reason = NAT_REASON_NO_TABLE;

	if (fragments_alone)
		return reason;
	reason = cache_ask_fragment(dp->cache, op, tuple, identification, datagram, now);
	if (reason)
		excuse_all(dp->sim);
	return reason;
}

static void on_emit(void *context, const struct engine_packet *packet)
{
	comes_out(context, packet);
}

void fragments_start(struct dataplane *dp)
{
	struct engine_owner owner = {
	    .context = dp, .ask = on_ask, .ask_fragment = on_ask_fragment, .emit = on_emit};

	if (engine_new(dp->flows, &owner, &dp->random, &dp->engine) != 0)
		abort();
}

void fragments_configure(struct dataplane *dp, const struct wire_config *config)
{
	static struct engine_config engine_config;

	memset(&engine_config, 0, sizeof engine_config);
	engine_config.table = *config;
	engine_config.mtu[NAT_REALM_OUTSIDE] = dp->sim->shape.cuts ? MTU : 0;
	if (engine_configure(dp->engine, &engine_config) != 0)
		abort();
}

bool fragments_is_packet(const struct engine_packet *packet)
{
	return packet->data[0] == REAL_PACKET;
}

static void settle(struct dataplane *dp, struct engine_packet *packet)
{
	if (packet->fate == ENGINE_DROP)
		dp->sim->disturbances++;
	if (packet->fate == ENGINE_OUT)
		comes_out(dp, packet);
	if (packet->tcp_flags_new)
		cache_report_flags(dp->cache, &packet->tuple, packet->tcp_flags_new, local_now(dp));
}

void fragments_translate(struct dataplane *dp, struct engine_packet *packet,
			 const struct wire_answer *answer)
{
	engine_translate(dp->engine, packet, answer, local_now(dp));
	settle(dp, packet);
}

void fragments_answered(void *context, uint64_t datagram, const struct wire_answer *answer,
			struct monotime now)
{
	struct dataplane *dp = context;

	if (answer->reason == NAT_REASON_PENDING_TIMEOUT)
		excuse_all(dp->sim);
	dp->sim->coverage.fragments_unknown += answer->reason == NAT_REASON_FRAGMENT_UNKNOWN;
	engine_fragment_answer(dp->engine, datagram, answer, now);
}

void fragments_notice(void *context, const struct wire_notice *notice, struct monotime now)
{
	struct dataplane *dp = context;

	dp->sim->coverage.fragments_told++;
	engine_fragment_notice(dp->engine, notice, now);
}

/* ---- senders */

static bool in_use(const struct sim *sim, const struct datagram *wanted)
{
	for (unsigned i = 0; i < DATAGRAMS; i++) {
		const struct datagram *d = &sim->datagrams[i];
		/* A sender keeps RFC 6864 section 4.3: not twice within a lifetime. */
		if (d->number && d->tuple.source == wanted->tuple.source &&
		    d->tuple.realm == wanted->tuple.realm &&
		    d->tuple.destination == wanted->tuple.destination &&
		    d->tuple.protocol == wanted->tuple.protocol &&
		    d->identification == wanted->identification &&
		    sim->now - d->sent < ms(3 * sim->config.fragment_timeout_ms))
			return true;
	}
	return false;
}

static void send_piece(struct sim *sim, const struct datagram *d, uint32_t begin, uint32_t end,
		       unsigned dataplane)
{
	for (unsigned i = 0; i < PIECES; i++) {
		struct piece *p = &sim->pieces[i];
		if (p->datagram)
			continue;
		*p = (struct piece){.at = sim->now + 1000 * (int64_t)below(sim, 60000),
				    .datagram = d->number,
				    .begin = begin,
				    .end = end,
				    .dataplane = dataplane};
		return;
	}
	sim->disturbances++; /* the network lost it */
}

void fragments_send(struct sim *sim, const struct nat_tuple *tuple, uint8_t tcp_flags)
{
	struct datagram *d = &sim->datagrams[(sim->last_number + 1) % DATAGRAMS];
	struct datagram fresh = {.tuple = *tuple,
				 .tcp_flags = tcp_flags,
				 .identification = (uint16_t)below(sim, NUMBERS),
				 .sent = sim->now};
	uint32_t ends[4] = {0}, n = 2 + below(sim, 3);

	if ((d->number && sim->now - d->sent < ms(2 * sim->config.fragment_timeout_ms)) ||
	    in_use(sim, &fresh))
		return;
	fresh.number = ++sim->last_number;
	if (sim->shape.cuts && chance(sim, 300)) {
		n = 1;
		ends[0] = PAYLOAD_MAX;
	}
	for (unsigned i = 0; n > 1 && i < n; i++)
		ends[i] = (i ? ends[i - 1] : 0) + PIECE_MIN + 8 * (1 + below(sim, 3));
	fresh.payload = ends[n - 1];
	fresh.check_at = sim->now + ms(60 + sim->config.fragment_timeout_ms);
	*d = fresh;
	unsigned first = below(sim, sim->shape.dataplanes);
	for (unsigned i = 0; i < n; i++) {
		unsigned to = chance(sim, 300) ? first : below(sim, sim->shape.dataplanes);
		d->at_several |= to != first;
		send_piece(sim, d, i ? ends[i - 1] : 0, ends[i], to);
	}
	/* What was disturbed before may still be: then nothing is expected of this one. */
	d->disturbances = delayed(sim) ? UINT64_MAX : disturbances(sim);
	trace(sim, "datagram %u: %08x:%u > %08x:%u proto %u number %u, %u bytes in %u", d->number,
	      ntohl(tuple->source), ntohs(tuple->source_port), ntohl(tuple->destination),
	      ntohs(tuple->destination_port), tuple->protocol, d->identification, d->payload, n);
}

/* ---- time */

int64_t fragments_due(const struct sim *sim)
{
	int64_t due = INT64_MAX;

	for (unsigned i = 0; i < PIECES; i++)
		if (sim->pieces[i].datagram && sim->pieces[i].at < due)
			due = sim->pieces[i].at;
	for (unsigned i = 0; i < DATAGRAMS; i++)
		if (sim->datagrams[i].check_at && sim->datagrams[i].check_at < due)
			due = sim->datagrams[i].check_at;
	return due;
}

static void arrive(struct sim *sim, const struct piece *p)
{
	struct dataplane *dp = &sim->dataplanes[p->dataplane];
	const struct datagram *d = &sim->datagrams[p->datagram % DATAGRAMS];
	uint8_t bytes[LENGTH_MAX];
	struct engine_packet packet = {
	    .data = bytes, .room = sizeof bytes, .ingress = d->tuple.realm};

	if (d->number != p->datagram)
		return;
	if (!dp->alive || dp->frozen > sim->now || dp->busy > sim->now) {
		sim->disturbances++; /* its ring is full */
		return;
	}
	packet.length = build(d, p->begin, p->end, bytes);
	trace(sim, "dp%u: datagram %u: bytes %u to %u arrive", dp->index, d->number, p->begin,
	      p->end);
	engine_slow(dp->engine, &packet, local_now(dp));
	settle(dp, &packet);
	dp->flows_changed = true;
}

static void check_together(struct sim *sim, struct datagram *d)
{
	d->check_at = 0;
	/* An orphan at a dataplane without a table waits for its first one in vain. */
	if (d->came == d->payload || d->alone || disturbances(sim) != d->disturbances)
		return;
	fail(sim, "datagram %u: %u of %u bytes came out, and nothing was lost", d->number, d->came,
	     d->payload);
}

void fragments_happen(struct sim *sim)
{
	for (unsigned i = 0; i < PIECES; i++) {
		struct piece p = sim->pieces[i];
		if (!p.datagram || p.at > sim->now)
			continue;
		sim->pieces[i].datagram = 0;
		arrive(sim, &p);
	}
	for (unsigned i = 0; i < DATAGRAMS; i++) {
		struct datagram *d = &sim->datagrams[i];
		if (d->check_at && d->check_at <= sim->now)
			check_together(sim, d);
	}
}
