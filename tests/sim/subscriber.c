/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Subscribers that ask for mappings themselves (RFC 6887), and what they were promised: while the
 * lifetime lasts and no operator takes it away, the mapping is there with the endpoint that was
 * answered, whatever dataplanes and sessions do.
 */
#include <arpa/inet.h>
#include <string.h>
#include "tablesvc/explicit.h"
#include "tests/sim/sim.h"

static struct promise *promise_of(struct sim *sim, const struct pcp_request *r, nat_be32 host)
{
	struct promise *free_one = NULL;

	for (unsigned i = 0; i < PROMISES; i++) {
		struct promise *p = &sim->promises[i];
		if (p->until && p->protocol == r->protocol && p->internal.address == host &&
		    p->internal.port == r->internal_port)
			return p;
		if (!p->until)
			free_one = p;
	}
	if (free_one)
		*free_one = (struct promise){
		    .protocol = r->protocol,
		    .internal = {.address = host, .port = r->internal_port},
		};
	return free_one;
}

static void map(struct sim *sim, struct pcp_request *r, nat_be32 host)
{
	struct explicit_answer answer;
	struct promise *p = promise_of(sim, r, host);

	if (!p)
		return;
	bool owner = !p->until || p->nonce == r->nonce[0];
	if (p->until && chance(sim, 300))
		r->suggested = p->external;
	unsigned result = explicit_request(sim->table, 1, host, r, table_now(sim), &answer);
	trace(sim, "%08x:%u asks for a mapping for %u s: %s, port %u for %u s", ntohl(host),
	      ntohs(r->internal_port), r->lifetime_s, pcp_result_name(result),
	      ntohs(answer.external.port), answer.lifetime_s);
	if (result != PCP_SUCCESS || answer.lifetime_s == UINT32_MAX)
		return;
	sim->coverage.explicits++;
	if (p->until && !owner)
		fail(sim, "a stranger's nonce changed the mapping of %08x:%u", ntohl(host),
		     ntohs(r->internal_port));
	if (r->lifetime_s == 0) {
		p->until = 0;
		return;
	}
	if (p->until && (p->external.address != answer.external.address ||
			 p->external.port != answer.external.port))
		fail(sim, "U4: %08x:%u had port %u and was given %u", ntohl(host),
		     ntohs(r->internal_port), ntohs(p->external.port),
		     ntohs(answer.external.port));
	p->external = answer.external;
	p->nonce = r->nonce[0];
	p->until = sim->now + ms((int64_t)answer.lifetime_s * 1000);
}

void subscriber_ask(struct sim *sim)
{
	nat_be32 host = htonl(0x0a000001 + below(sim, sim->shape.subscribers));
	struct pcp_request r = {
	    .opcode = chance(sim, 700) ? PCP_MAP : PCP_PEER,
	    .protocol = chance(sim, 600) ? NAT_UDP : NAT_TCP,
	    .internal_port = htons((uint16_t)(5000 + below(sim, sim->shape.ports))),
	    .lifetime_s = chance(sim, 200) ? 0 : 1 + below(sim, 3),
	    .nonce = {(uint8_t)chance(sim, 100)},
	    .remote = {htonl(0x08080800 + below(sim, 2)), htons(chance(sim, 500) ? 53 : 80), 0},
	};
	struct explicit_answer answer;

	if (r.opcode == PCP_MAP)
		map(sim, &r, host);
	else
		explicit_request(sim->table, 1, host, &r, table_now(sim), &answer);
}

static bool mapped(const struct sim *sim, const struct promise *p)
{
	for (unsigned i = 0; i < sim->n_mappings; i++) {
		const struct table_mapping_row *m = &sim->mappings[i];
		if (m->realm == 1 && m->protocol == p->protocol &&
		    m->internal.address == p->internal.address &&
		    m->internal.port == p->internal.port &&
		    m->external.address == p->external.address &&
		    m->external.port == p->external.port)
			return true;
	}
	return false;
}

/* A static forward takes ports from whoever has them, when its fence is over. */
static bool has_rival(const struct sim *sim, const struct promise *p)
{
	for (unsigned i = 0; i < sim->n_statics; i++) {
		const struct config_static *s = &sim->statics[i];
		if (s->protocol == 0 && (s->external.address == p->external.address ||
					 s->internal.address == p->internal.address))
			return true; /* 1:1: the whole address, on either side */
		if (s->protocol == p->protocol &&
		    ((s->external.address == p->external.address &&
		      s->external.port == p->external.port) ||
		     (s->internal.address == p->internal.address &&
		      s->internal.port == p->internal.port)))
			return true;
	}
	return false;
}

void subscriber_forgive(struct sim *sim, nat_be32 subscriber, const struct nat_endpoint *external)
{
	for (unsigned i = 0; i < PROMISES; i++) {
		struct promise *p = &sim->promises[i];
		if (!external || p->internal.address == subscriber ||
		    (p->external.address == external->address &&
		     (!external->port || p->external.port == external->port)))
			p->until = 0;
	}
}

void subscriber_check(struct sim *sim)
{
	rows_read(sim);
	for (unsigned i = 0; i < PROMISES; i++) {
		struct promise *p = &sim->promises[i];
		if (!p->until)
			continue;
		if (p->until <= sim->now || has_rival(sim, p)) {
			p->until = 0;
			continue;
		}
		if (mapped(sim, p))
			continue;
		fail(sim, "the mapping that %08x:%u was promised for %ld ms more is gone",
		     ntohl(p->internal.address), ntohs(p->internal.port),
		     (long)((p->until - sim->now) / MS_NS));
	}
}
