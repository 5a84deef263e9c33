/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/err.h"
#include "tests/support/portpool_bed.h"

/*
 * Many subscribers on few blocks, at random, beside a model that is as simple as the rules: who
 * owns which port, which block, since when nobody.
 */
enum { SHARES = 24, PORTS = 512, BLOCK = 64, ADDRESSES = 4, BLOCKS = ADDRESSES * PORTS / BLOCK };
static const uint8_t model_protocols[] = {NAT_ICMP, NAT_TCP, NAT_UDP};

struct model {
	struct bed bed;
	struct portpool_share shares[SHARES];
	uint32_t owner[3][ADDRESSES * PORTS]; /* share's id; 1000 = static */
	uint32_t holder[BLOCKS], count[BLOCKS];
	struct monotime freed[BLOCKS];
};

static unsigned model_index(struct model *m, uint64_t place)
{
	struct nat_endpoint external = portpool_endpoint(m->bed.pool, place);
	return (ntohl(external.address) & 3) * PORTS + (ntohs(external.port) - 1024u);
}

static uint64_t model_place(struct model *m, unsigned p, unsigned index)
{
	struct nat_endpoint external = {
	    .address = htonl(ntohl(inet_addr("203.0.113.4")) + index / PORTS),
	    .port = htons((uint16_t)(1024 + index % PORTS)),
	};
	return portpool_place(m->bed.pool, model_protocols[p], &external);
}

/* Whether the share may take a port of the parity in its blocks (2 = any). */
static bool model_has_free(struct model *m, uint32_t id, unsigned p, unsigned parity)
{
	for (unsigned i = 0; i < ADDRESSES * PORTS; i++) {
		if (m->holder[i / BLOCK] == id && m->count[i / BLOCK] && !m->owner[p][i] &&
		    (parity == 2 || i % 2 == parity))
			return true;
	}
	return false;
}

static void model_take(struct model *m, unsigned s, unsigned p, uint16_t like)
{
	struct portpool_share *share = &m->shares[s];
	bool had = model_has_free(m, share->id, p, 2);
	bool had_parity = model_has_free(m, share->id, p, like & 1);
	uint64_t place;
	bool granted;
	unsigned reason = portpool_allocate(m->bed.pool, share, 0, model_protocols[p], like, 3,
					    share->id, m->bed.now, &place, &granted);

	if (reason != NAT_REASON_NONE) {
		cr_assert_not(had, "a free port was not found");
		cr_assert_eq(reason == NAT_REASON_SUBSCRIBER_BLOCKS, share->n_blocks == 3);
		return;
	}
	unsigned index = model_index(m, place), block = index / BLOCK;
	cr_assert_eq(m->owner[p][index], 0, "U1: a port given out twice");
	cr_assert_eq(granted, !had);
	cr_assert(!had_parity || (index & 1) == (like & 1u), "parity was possible");
	if (m->count[block]) {
		cr_assert_eq(m->holder[block], share->id, "U2: another's block");
	} else {
		cr_assert(granted);
		cr_assert(m->holder[block] == 0 || m->holder[block] == share->id ||
			      monotime_sub_ms(m->bed.now, m->freed[block]) >= HOLD_DOWN,
			  "granted before the hold-down was over");
	}
	m->holder[block] = share->id;
	m->count[block]++;
	m->owner[p][index] = share->id;
}

static void model_drop(struct model *m, unsigned p, unsigned index)
{
	unsigned block = index / BLOCK;
	uint32_t id = m->owner[p][index];
	uint64_t place = model_place(m, p, index);

	cr_assert_eq(portpool_owner(m->bed.pool, place), id);
	m->owner[p][index] = 0;
	if (id == 1000) {
		portpool_unreserve(m->bed.pool, place);
		return;
	}
	m->count[block]--;
	cr_assert_eq(give(&m->bed, &m->shares[id - 1], place), m->count[block] == 0);
	if (m->count[block] == 0)
		m->freed[block] = m->bed.now;
}

static void model_step(struct model *m)
{
	struct bed *bed = &m->bed;
	unsigned p = random_below(&bed->random, 3);
	unsigned index = random_below(&bed->random, ADDRESSES * PORTS);

	switch (random_below(&bed->random, 16)) {
	case 0:
		if (random_below(&bed->random, 4) == 0)
			wait_ms(bed, random_below(&bed->random, HOLD_DOWN / 2));
		break;
	case 1:
		cr_assert_eq(portpool_reserve(bed->pool, model_place(m, p, index), 1000),
			     m->owner[p][index] ? ERR_EXISTS : 0);
		if (!m->owner[p][index])
			m->owner[p][index] = 1000;
		break;
	case 2: /* a subscriber goes away, and its blocks with it */
		for (unsigned s = random_below(&bed->random, SHARES), q = 0; q < 3; q++) {
			for (unsigned i = 0; i < ADDRESSES * PORTS; i++) {
				if (m->owner[q][i] == s + 1)
					model_drop(m, q, i);
			}
		}
		break;
	case 3:
	case 4:
	case 5:
	case 6:
		if (m->owner[p][index])
			model_drop(m, p, index);
		break;
	default:
		model_take(m, random_below(&bed->random, SHARES), p, (uint16_t)index);
	}
}

static void model_check(struct model *m)
{
	struct portpool_stats stats = stats_of(&m->bed, 0);
	uint32_t used = 0, blocks = 0, ports[SHARES] = {0};

	for (unsigned i = 0; i < 3 * ADDRESSES * PORTS; i++) {
		uint32_t id = m->owner[i % 3][i / 3];
		used += id != 0;
		if (id && id != 1000)
			ports[id - 1]++;
	}
	for (unsigned i = 0; i < BLOCKS; i++)
		blocks += m->count[i] != 0;
	cr_assert_eq(stats.ports_used, used);
	cr_assert_eq(stats.blocks_used, blocks);
	for (unsigned s = 0; s < SHARES; s++)
		cr_assert_eq(m->shares[s].n_ports, ports[s]);
}

Test(portpool, agrees_with_a_model, .timeout = 60)
{
	static struct model m;
	unsigned granted = 0;

	for (uint64_t seed = 1; seed <= 8; seed++) {
		memset(&m, 0, sizeof m);
		bed_init(&m.bed);
		m.bed.seed = seed;
		bed_pool(&m.bed, "m", 1024, 1024 + PORTS - 1, BLOCK);
		bed_prefix(&m.bed, 0, "203.0.113.4", 30);
		bed_start(&m.bed);
		for (unsigned s = 0; s < SHARES; s++)
			m.shares[s].id = s + 1;
		for (unsigned i = 0; i < 20000; i++) {
			model_step(&m);
			if (i % 100 == 0)
				model_check(&m);
		}
		granted += (unsigned)stats_of(&m.bed, 0).blocks_used;
		portpool_free(m.bed.pool);
	}
	cr_expect_gt(granted, 8);
}
