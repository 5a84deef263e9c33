/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/err.h"
#include "common/nat/rewrite.h"
#include "dataplane/flowtable.h"

enum { SYN = NAT_TCP_SYN, FIN = NAT_TCP_FIN, ACK = NAT_TCP_ACK };

static uint64_t state;
static struct random_source numbers;

static struct flowtable *make(uint32_t capacity)
{
	struct flowtable *table = NULL;
	state = capacity;
	numbers = random_seeded(&state);
	cr_assert_eq(flowtable_new(capacity, &numbers, &table), ERR_OK);
	return table;
}

static struct flow flow_number(uint32_t i)
{
	return (struct flow){
	    .tuple = {.source = nat_swap32(0x0a000000u + i),
		      .destination = nat_swap32(0xc6336401u),
		      .source_port = nat_swap16(1000 + i % 60000),
		      .destination_port = nat_swap16(443),
		      .protocol = NAT_TCP,
		      .realm = 1},
	    .rewrite = {.source = nat_swap32(0xcb007101u + i / 60000),
			.destination = nat_swap32(0xc6336401u),
			.source_port = nat_swap16(2000 + i % 60000),
			.destination_port = nat_swap16(443)},
	    .handle = i * 2 + 1,
	    .peer_handle = i * 2 + 2,
	    .direction = NAT_OUTBOUND,
	    .state = NAT_SLOT_OPEN,
	};
}

static struct nat_tuple reverse_of(const struct flow *flow)
{
	return nat_reverse_tuple(&flow->tuple, &flow->rewrite);
}

static int insert_at(struct flowtable *table, uint32_t i, uint8_t as, uint32_t now,
		     struct flow *gone, unsigned *n)
{
	struct flow flow = flow_number(i), evicted[2];
	unsigned n_evicted = 99;
	flow.state = as;
	int error = flowtable_insert(table, &flow, now, evicted, &n_evicted);
	cr_assert_leq(n_evicted, 2);
	for (unsigned k = 0; k < n_evicted && gone; k++)
		gone[k] = evicted[k];
	if (n)
		*n = n_evicted;
	return error;
}

static int insert(struct flowtable *table, uint32_t i)
{
	return insert_at(table, i, NAT_SLOT_OPEN, 0, NULL, NULL);
}

static bool hit(struct flowtable *table, const struct nat_tuple *key, uint32_t now, uint8_t flags,
		struct nat_slot *copy, uint8_t *new_flags)
{
	struct nat_slot again;
	uint8_t none;
	uint64_t hash = flowtable_prefetch(table, key);
	flowtable_prefetch_slot(table, hash);
	bool found = flowtable_hit_hashed(table, key, hash, now, flags, copy, new_flags);
	cr_assert_eq(flowtable_hit(table, key, now, 0, &again, &none), found);
	return found;
}

/* Both directions are there, translate to each other, or neither is there (U6). */
static bool whole(struct flowtable *table, const struct flow *flow)
{
	struct nat_tuple reverse = reverse_of(flow);
	struct flow a, b;
	bool there = flowtable_find(table, &flow->tuple, &a);

	cr_assert_eq(flowtable_find(table, &reverse, &b), there);
	if (!there)
		return false;
	cr_assert_eq(memcmp(&a, &b, sizeof a), 0, "one pair, whichever tuple finds it");
	cr_assert(nat_tuple_equal(&a.tuple, &flow->tuple));
	cr_assert_eq(memcmp(&a.rewrite, &flow->rewrite, sizeof a.rewrite), 0);
	cr_assert_eq(a.handle, flow->handle);
	cr_assert_eq(a.peer_handle, flow->peer_handle);
	cr_assert_eq(a.direction, flow->direction);
	return true;
}

Test(flowtable, refuses_absurd_capacities)
{
	struct flowtable *table = NULL;
	numbers = random_seeded(&state);
	cr_expect_eq(flowtable_new(0, &numbers, &table), ERR_INVALID);
	cr_expect_eq(flowtable_new((1u << 30) + 1, &numbers, &table), ERR_INVALID);
	if (sysconf(_SC_PHYS_PAGES) < (150l << 30) / sysconf(_SC_PAGESIZE))
		cr_expect_eq(flowtable_new(1u << 30, &numbers, &table), ERR_NOMEM, "153 GiB");
	cr_expect_null(table);
	flowtable_free(NULL);
}

Test(flowtable, a_pair_translates_both_ways)
{
	struct flowtable *table = make(100);
	struct flow flow = flow_number(7);
	struct nat_tuple reverse = reverse_of(&flow);
	struct nat_slot slot;
	uint8_t flags;

	cr_expect_not(hit(table, &flow.tuple, 0, 0, &slot, &flags));
	cr_assert_eq(insert(table, 7), ERR_OK);
	cr_expect_eq(flowtable_pairs(table), 1);
	cr_assert(hit(table, &flow.tuple, 5, 0, &slot, &flags));
	cr_expect_eq(slot.source, flow.rewrite.source);
	cr_expect_eq(slot.source_port, flow.rewrite.source_port);
	cr_expect_eq(slot.destination, flow.rewrite.destination);
	cr_expect_eq(slot.egress, 0);
	cr_expect_eq(slot.handle, flow.handle);
	cr_expect_eq(slot.direction, NAT_OUTBOUND);
	cr_assert(hit(table, &reverse, 5, 0, &slot, &flags));
	cr_expect_eq(slot.destination, flow.tuple.source);
	cr_expect_eq(slot.destination_port, flow.tuple.source_port);
	cr_expect_eq(slot.source, flow.tuple.destination);
	cr_expect_eq(slot.egress, 1);
	cr_expect_eq(slot.handle, flow.peer_handle);
	cr_expect_eq(slot.direction, NAT_INBOUND);
	cr_expect(whole(table, &flow));
	/* the key is all of the tuple */
	struct nat_tuple other = flow.tuple;
	other.realm = 2;
	cr_expect_not(hit(table, &other, 0, 0, &slot, &flags));
	other = flow.tuple;
	other.protocol = NAT_UDP;
	cr_expect_not(hit(table, &other, 0, 0, &slot, &flags));
	cr_assert(flowtable_remove(table, &reverse, &flow));
	cr_expect_not(whole(table, &flow));
	cr_expect_not(hit(table, &flow.tuple, 5, 0, &slot, &flags));
	cr_expect_not(hit(table, &reverse, 5, 0, &slot, &flags));
	cr_expect_not(flowtable_remove(table, &reverse, NULL));
	cr_expect_eq(flowtable_pairs(table), 0);
	flowtable_free(table);
}

Test(flowtable, what_is_refused)
{
	struct flowtable *table = make(100);
	struct flow flow = flow_number(1), evicted[2];
	unsigned n;

	cr_assert_eq(insert(table, 1), ERR_OK);
	cr_expect_eq(insert(table, 1), ERR_EXISTS);
	struct flow other = flow_number(1); /* another inside, the same outside */
	other.tuple.source_port = 9;
	cr_expect_eq(flowtable_insert(table, &other, 0, evicted, &n), ERR_EXISTS);
	/* hairpinned onto itself: the two tuples are equal */
	flow.tuple.destination = flow.rewrite.source = 5;
	flow.rewrite.destination = flow.tuple.source;
	flow.tuple.destination_port = flow.rewrite.source_port = 6;
	flow.rewrite.destination_port = flow.tuple.source_port;
	flow.rewrite.egress = flow.tuple.realm;
	cr_expect_eq(flowtable_insert(table, &flow, 0, evicted, &n), ERR_INVALID);
	other = flow_number(2);
	other.state = NAT_SLOT_EMPTY;
	cr_expect_eq(flowtable_insert(table, &other, 0, evicted, &n), ERR_INVALID);
	other.state = NAT_SLOT_OPEN;
	other.direction = 2;
	cr_expect_eq(flowtable_insert(table, &other, 0, evicted, &n), ERR_INVALID);
	cr_expect_eq(flowtable_pairs(table), 1);
	flowtable_free(table);
}

Test(flowtable, parked_pairs_are_not_for_the_hit_path)
{
	struct flowtable *table = make(100);
	struct flow flow = flow_number(3), found;
	struct nat_tuple reverse = reverse_of(&flow);
	struct nat_slot slot;
	uint8_t flags;

	cr_assert_eq(insert_at(table, 3, NAT_SLOT_PARKED, 0, NULL, NULL), ERR_OK);
	cr_expect_not(hit(table, &flow.tuple, 0, 0, &slot, &flags));
	cr_expect_not(hit(table, &reverse, 0, 0, &slot, &flags));
	cr_assert(flowtable_find(table, &reverse, &found));
	cr_expect_eq(found.state, NAT_SLOT_PARKED);
	flowtable_open(table, &reverse);
	cr_expect(hit(table, &flow.tuple, 0, 0, &slot, &flags));
	cr_expect(hit(table, &reverse, 0, 0, &slot, &flags));
	reverse.realm = 9;
	flowtable_open(table, &reverse); /* unknown: ignored */
	flowtable_free(table);
}

Test(flowtable, activity_is_kept_by_direction)
{
	struct flowtable *table = make(100);
	struct flow flow = flow_number(1), found;
	struct nat_tuple reverse = reverse_of(&flow);
	struct nat_slot slot;
	uint8_t flags;

	cr_assert_eq(insert_at(table, 1, NAT_SLOT_OPEN, 1000, NULL, NULL), ERR_OK);
	cr_assert(flowtable_find(table, &flow.tuple, &found));
	cr_expect_eq(found.last_seen, 1000);
	cr_expect_eq(found.outbound_last_seen, 1000);
	hit(table, &reverse, 1500, SYN | ACK, &slot, &flags);
	cr_expect_eq(flags, SYN | ACK);
	hit(table, &reverse, 1600, SYN | ACK, &slot, &flags);
	cr_expect_eq(flags, 0);
	hit(table, &flow.tuple, 1400, ACK, &slot, &flags);
	cr_expect_eq(flags, ACK);
	hit(table, &flow.tuple, 1400, ACK | FIN, &slot, &flags);
	cr_expect_eq(flags, FIN, "only what is new");
	cr_assert(flowtable_find(table, &flow.tuple, &found));
	cr_expect_eq(found.last_seen, 1600);
	cr_expect_eq(found.outbound_last_seen, 1400);
	cr_expect_eq(found.tcp_flags[NAT_OUTBOUND], ACK | FIN);
	cr_expect_eq(found.tcp_flags[NAT_INBOUND], SYN | ACK);

	flowtable_reported(table, &reverse, SYN);
	flowtable_reported(table, &flow.tuple, ACK);
	flowtable_reported(table, &flow.tuple, FIN);
	cr_assert(flowtable_find(table, &reverse, &found));
	cr_expect_eq(found.tcp_reported[NAT_OUTBOUND], ACK | FIN);
	cr_expect_eq(found.tcp_reported[NAT_INBOUND], SYN);
	cr_expect_eq(found.state, NAT_SLOT_OPEN);
	flowtable_reset_flags(table, &reverse, ACK);
	cr_assert(flowtable_find(table, &reverse, &found));
	cr_expect_eq(found.tcp_flags[NAT_OUTBOUND], ACK);
	cr_expect_eq(found.tcp_flags[NAT_INBOUND], ACK);
	cr_expect_eq(found.tcp_reported[NAT_OUTBOUND], ACK);
	cr_expect_eq(found.tcp_reported[NAT_INBOUND], 0);
	hit(table, &flow.tuple, 1400, FIN, &slot, &flags);
	cr_expect_eq(flags, FIN, "new again");
	flowtable_free(table);
}

/* RFC 4787 REQ-6: a pair that an inbound packet brought here does not count as seen outbound. */
Test(flowtable, an_unseen_direction_is_old)
{
	struct flowtable *table = make(100);
	struct flow flow = flow_number(1), evicted[2], found;
	struct nat_tuple reverse = reverse_of(&flow);
	struct nat_rewrite back = nat_reverse_rewrite(&flow.tuple);
	unsigned n;

	flow.tuple = reverse;
	flow.rewrite = back;
	flow.direction = NAT_INBOUND;
	flow.tcp_flags[NAT_OUTBOUND] = SYN;
	flow.tcp_reported[NAT_INBOUND] = ACK;
	cr_assert_eq(flowtable_insert(table, &flow, 77, evicted, &n), ERR_OK);
	cr_assert(flowtable_find(table, &flow.tuple, &found));
	cr_expect_eq(found.last_seen, 77);
	cr_expect_eq(77 - found.outbound_last_seen, NAT_SLOT_UNSEEN_MS);
	cr_expect_eq(found.direction, NAT_INBOUND);
	cr_expect_eq(found.tcp_flags[NAT_OUTBOUND], SYN);
	cr_expect_eq(found.tcp_flags[NAT_INBOUND], 0);
	cr_expect_eq(found.tcp_reported[NAT_INBOUND], ACK);
	flowtable_free(table);
}

Test(flowtable, holds_its_capacity)
{
	static const uint32_t capacities[] = {1, 2, 3, 10, 1000, 60000};
	for (unsigned k = 0; k < 6; k++) {
		uint32_t capacity = capacities[k], lost = 0, kept = 0;
		struct flowtable *table = make(capacity);
		unsigned n;
		for (uint32_t i = 0; i < capacity; i++) {
			cr_assert_eq(insert_at(table, i, NAT_SLOT_OPEN, i, NULL, &n), ERR_OK);
			lost += n;
		}
		for (uint32_t i = 0; i < capacity; i++) {
			struct flow flow = flow_number(i);
			kept += whole(table, &flow);
		}
		cr_expect_eq(kept + lost, capacity);
		cr_expect_eq(kept, flowtable_pairs(table));
		cr_expect_leq(lost, 1 + capacity / 250, "%u of %u", lost, capacity);
		cr_expect_eq(flowtable_capacity(table), capacity);
		flowtable_clear(table);
		cr_expect_eq(flowtable_pairs(table), 0);
		struct flow flow = flow_number(0);
		cr_expect_not(whole(table, &flow));
		flowtable_free(table);
	}
}

/* What an attacker or a scan sends: only one field changes. None may flood a bucket. */
Test(flowtable, chosen_tuples_do_not_collide)
{
	for (unsigned field = 0; field < 5; field++) {
		struct flowtable *table = make(50000);
		uint32_t lost = 0;
		for (uint32_t i = 0; i < 50000; i++) {
			struct flow flow = flow_number(0), evicted[2];
			unsigned n;
			struct nat_tuple *t = &flow.tuple;
			struct nat_rewrite *r = &flow.rewrite;
			*(field == 0   ? &t->source
			  : field == 1 ? &t->destination
				       : &(uint32_t){0}) = nat_swap32(i << (8 * (i & 1)));
			*(field == 2   ? &t->source_port
			  : field == 3 ? &t->destination_port
				       : &(uint16_t){0}) = nat_swap16(i);
			if (field == 4) /* a product of the hash stays the same in a weak one */
				t->source = i * 65536, t->destination = 0u - i * 65536;
			r->destination = t->destination;
			r->destination_port = t->destination_port;
			r->source = i;
			flow.rewrite.source_port = (uint16_t)i;
			if (flowtable_insert(table, &flow, 0, evicted, &n) == ERR_OK)
				lost += n;
		}
		cr_expect_lt(lost, 150, "field %u: %u", field, lost);
		flowtable_free(table);
	}
}

Test(flowtable, evicts_the_least_recently_seen)
{
	enum { CAPACITY = 4 }; /* 12 slots: nearly all pairs are candidates */
	struct flowtable *table = make(CAPACITY);
	struct flow gone[2];
	unsigned n, evictions = 0;
	double age = 0;

	for (uint32_t i = 0; i < 2000; i++) {
		cr_assert_eq(insert_at(table, i, NAT_SLOT_OPEN, 100 * i, gone, &n), ERR_OK);
		cr_assert_leq(flowtable_pairs(table), CAPACITY);
		for (unsigned k = 0; k < n; k++) {
			cr_assert_not(whole(table, &gone[k]), "both directions went");
			age += (100.0 * i - gone[k].last_seen) / 100;
			evictions++;
		}
	}
	cr_expect_eq(evictions, 2000 - flowtable_pairs(table));
	cr_expect_gt(age / evictions, CAPACITY * 0.8, "mean age %.2f inserts", age / evictions);

	/* seen in either direction counts */
	flowtable_clear(table);
	for (uint32_t i = 0; i < 4; i++)
		insert_at(table, i, NAT_SLOT_OPEN, i, NULL, NULL);
	uint32_t saved = 0;
	for (uint32_t i = 4; i < 500; i++) {
		struct flow first = flow_number(0);
		struct nat_tuple reverse = reverse_of(&first);
		struct nat_slot slot;
		uint8_t flags;
		saved += hit(table, &reverse, i * 10 + 5, 0, &slot, &flags);
		insert_at(table, i, NAT_SLOT_OPEN, i * 10 + 6, NULL, NULL);
	}
	cr_expect_gt(saved, 450, "the pair in use stayed for %u of 496 inserts", saved);
	flowtable_free(table);
}

Test(flowtable, parked_pairs_are_never_evicted)
{
	struct flowtable *table = make(8);
	unsigned n, full = 0;
	uint32_t parked = 0;

	for (uint32_t i = 0; i < 100; i++) {
		int error = insert_at(table, i, NAT_SLOT_PARKED, i, NULL, &n);
		cr_assert_eq(n, 0);
		cr_assert(error == ERR_OK || error == ERR_FULL);
		parked += error == ERR_OK;
		full += error == ERR_FULL;
	}
	cr_expect_eq(flowtable_pairs(table), parked);
	cr_expect_leq(parked, 8);
	cr_expect_geq(parked, 6);
	cr_expect_eq(parked + full, 100);
	flowtable_free(table);
}

struct visits {
	struct flowtable *table;
	uint8_t seen[1000];
	bool remove;
};

static void visit(void *context, const struct flow *flow)
{
	struct visits *visits = context;
	visits->seen[flow->handle / 2]++;
	cr_assert(whole(visits->table, flow));
	if (visits->remove)
		cr_assert(flowtable_remove(visits->table, &flow->tuple, NULL));
}

Test(flowtable, sweep_shows_each_pair_once)
{
	struct flowtable *table = make(2000);
	struct visits visits = {.table = table};
	for (uint32_t i = 0; i < 1000; i++)
		cr_assert_eq(insert(table, i), ERR_OK);
	for (uint32_t step = 1; step < 10000; step = step * 7 + 3) {
		uint32_t at = 0, turns = 0;
		memset(visits.seen, 0, sizeof visits.seen);
		do
			at = flowtable_sweep(table, at, step, visit, &visits);
		while (at != 0 && ++turns < 100000);
		for (uint32_t i = 0; i < 1000; i++)
			cr_assert_eq(visits.seen[i], 1, "pair %u in steps of %u", i, step);
	}
	visits.remove = true;
	cr_expect_eq(flowtable_sweep(table, 0, 0xffffffff, visit, &visits), 0);
	cr_expect_eq(flowtable_pairs(table), 0);
	cr_expect_eq(flowtable_sweep(table, 0xfffffff0, 100, visit, &visits), 0);
	flowtable_free(table);
}

/* Against a list of what should be there: inserts, removals, moves, evictions in any order. */
Test(flowtable, agrees_with_a_list)
{
	enum { FLOWS = 600 };
	struct flowtable *table = make(300);
	bool there[FLOWS] = {false};
	uint32_t count = 0;

	for (uint32_t turn = 0; turn < 100000; turn++) {
		uint32_t i = random_below(&numbers, FLOWS);
		struct flow flow = flow_number(i), gone[2];
		struct nat_tuple reverse = reverse_of(&flow);
		struct nat_slot slot;
		uint8_t flags;
		unsigned n = 0;
		switch (random_below(&numbers, 4)) {
		case 0:
		case 1: {
			uint8_t as = turn % 16 ? NAT_SLOT_OPEN : NAT_SLOT_PARKED;
			int error = insert_at(table, i, as, turn, gone, &n);
			cr_assert_eq(error == ERR_EXISTS, there[i]);
			for (unsigned k = 0; k < n; k++) {
				cr_assert(there[gone[k].handle / 2]);
				there[gone[k].handle / 2] = false;
			}
			count += (error == ERR_OK) - n;
			there[i] |= error == ERR_OK;
			break;
		}
		case 2:
			cr_assert_eq(
			    flowtable_remove(table, turn % 2 ? &reverse : &flow.tuple, NULL),
			    there[i]);
			count -= there[i];
			there[i] = false;
			break;
		case 3:
			flowtable_open(table, &flow.tuple);
			cr_assert_eq(hit(table, &reverse, turn, 0, &slot, &flags), there[i]);
			if (there[i])
				cr_assert_eq(slot.destination, flow.tuple.source);
			break;
		}
		cr_assert_eq(flowtable_pairs(table), count);
		cr_assert_leq(count, 300);
		if (turn % 500 == 0)
			for (uint32_t k = 0; k < FLOWS; k++) {
				flow = flow_number(k);
				cr_assert_eq(whole(table, &flow), there[k]);
			}
	}
	flowtable_free(table);
}

Test(flowtable, a_moved_pair_keeps_what_was_seen)
{
	struct flowtable *table = make(2000);
	struct nat_slot slot;
	uint8_t flags;

	for (uint32_t i = 0; i < 1000; i++) {
		struct flow flow = flow_number(i);
		cr_assert_eq(insert_at(table, i, NAT_SLOT_OPEN, i, NULL, NULL), ERR_OK);
		hit(table, &flow.tuple, 50000 + i, (uint8_t)i, &slot, &flags);
	}
	uint32_t before[1000], moved = 0, kept = 0;
	for (uint32_t i = 0; i < 1000; i++) {
		struct flow flow = flow_number(i);
		cr_assert(flowtable_find(table, &flow.tuple, &flow));
		before[i] = flow.slot;
	}
	for (uint32_t i = 1000; i < 2000; i++)
		insert_at(table, i, NAT_SLOT_OPEN, 60000, NULL, NULL);
	for (uint32_t i = 0; i < 1000; i++) {
		struct flow flow = flow_number(i), found;
		if (!whole(table, &flow) || !flowtable_find(table, &flow.tuple, &found))
			continue; /* evicted */
		kept++;
		moved += found.slot != before[i];
		cr_assert_eq(found.last_seen, 50000 + i);
		cr_assert_eq(found.tcp_flags[NAT_OUTBOUND], (uint8_t)i);
	}
	cr_expect_gt(moved, 10);
	cr_expect_gt(kept, 990);
	flowtable_free(table);
}

/* A reader that was overtaken by the writer marks nothing of the flow that is there now. */
Test(flowtable, a_late_flag_does_not_reach_another_flow)
{
	struct nat_tuple key = {.source = 1, .destination = 2, .protocol = NAT_TCP};
	struct nat_rewrite rewrite = {.source = 3, .destination = 2};
	struct nat_slot slot, copy;

	nat_slot_set(&slot, &key, &rewrite);
	slot.state = NAT_SLOT_OPEN;
	slot.sequence = 8;
	slot.tcp_flags = NAT_SLOT_TAG(8) | SYN;
	cr_assert(nat_slot_read(&slot, &key, &copy));
	slot.sequence = 10; /* used again */
	slot.tcp_flags = NAT_SLOT_TAG(10);
	cr_expect_eq(nat_slot_seen(&slot, &copy, 1, FIN), 0);
	cr_expect_eq(slot.tcp_flags, NAT_SLOT_TAG(10));
	cr_assert(nat_slot_read(&slot, &key, &copy));
	slot.tcp_flags |= ACK; /* another reader was first with one of the two */
	cr_expect_eq(nat_slot_seen(&slot, &copy, 1, ACK | FIN), FIN);
	cr_expect_eq(slot.tcp_flags, NAT_SLOT_TAG(10) | ACK | FIN);

	slot.sequence = 11;
	cr_expect_not(nat_slot_read(&slot, &key, &copy), "being written");
	slot.sequence = 12;
	slot.state = NAT_SLOT_PARKED;
	cr_expect_not(nat_slot_read(&slot, &key, &copy));
}
