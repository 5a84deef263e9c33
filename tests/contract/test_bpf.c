/* SPDX-License-Identifier: Apache-2.0 */
/*
 * common/nat in the kernel: hit_path.bpf.c passes the verifier and translates, from slots that user
 * space writes into an mmapped array, the packets that user space would have translated alike.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/bpf.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/nat/rewrite.h"
#include "tests/contract/hit_path.h"
#include "tests/support/nat_packets.h"

enum { INSIDE = 0x0a000001, REMOTE = 0xc6336401, EXTERNAL = 0xcb007101, NOW = 4711 };

static struct bpf_object *object;
static int program;
static struct nat_slot *slots;
static struct hit_path_config *config;

static void *map_memory(const char *name, size_t bytes)
{
	struct bpf_map *map = bpf_object__find_map_by_name(object, name);
	cr_assert_not_null(map);
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);
	cr_assert_neq(memory, MAP_FAILED, "mmap of the map %s: %s", name, strerror(errno));
	return memory;
}

static void load(void)
{
	object = bpf_object__open_file(HIT_PATH_OBJECT, NULL);
	cr_assert_not_null(object, "%s does not open", HIT_PATH_OBJECT);
	int error = bpf_object__load(object);
	cr_assert(geteuid() == 0 || (error != -EPERM && error != -EACCES),
		  "bpf() is not permitted: this test needs root (CAP_BPF and CAP_NET_ADMIN)");
	cr_assert_neq(error, -EPERM,
		      "bpf() is not permitted even to root here: the container or the kernel's "
		      "lockdown forbids it; this test needs CAP_BPF and CAP_NET_ADMIN");
	cr_assert_eq(error, 0,
		     "the kernel refuses hit_path.bpf.c: %s (the verifier's log is above)",
		     strerror(-error));
	program = bpf_program__fd(bpf_object__find_program_by_name(object, "hit_path"));
	slots = map_memory("slots", sizeof *slots * HIT_PATH_SLOTS);
	config = map_memory("config", 4096);
	config->key = (struct nat_hash_key){{0x01234567, 0x89abcdef, 0xdeadbeef, 0x55aa55aa}};
	config->now_ms = NOW;
}

static void unload(void)
{
	munmap(slots, sizeof *slots * HIT_PATH_SLOTS);
	munmap(config, 4096);
	bpf_object__close(object);
}
TestSuite(bpf, .init = load, .fini = unload, .timeout = 60);

/* Puts an entry where the flow table might: candidate "which" of its eight. */
static struct nat_slot *put(const struct nat_tuple *key, const struct nat_rewrite *rewrite,
			    unsigned which)
{
	uint64_t hash = nat_slot_hash(key, &config->key);
	struct nat_slot_pair both = nat_slot_buckets(hash, HIT_PATH_SLOTS);
	struct nat_slot *slot = &slots[nat_slot_candidate(&both, which)];

	nat_slot_set(slot, key, rewrite);
	slot->sequence = 2;
	slot->tcp_flags = NAT_SLOT_TAG(2);
	slot->state = NAT_SLOT_OPEN;
	return slot;
}

/* Runs the program on the IPv4 packet, which is replaced by what comes out; the XDP verdict. */
static unsigned run(struct test_packet *p)
{
	uint8_t in[600] = {[12] = 8, [13] = 0}, out[600];
	memcpy(in + ETHERNET, p->data, p->length);
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = in, .data_size_in = ETHERNET + p->length,
		    .data_out = out, .data_size_out = sizeof out, .repeat = 1);
	int error = bpf_prog_test_run_opts(program, &options);
	cr_assert_eq(error, 0, "BPF_PROG_TEST_RUN: %s", strerror(-error));
	cr_assert_eq(options.data_size_out, ETHERNET + p->length);
	memcpy(p->data, out + ETHERNET, p->length);
	return options.retval;
}

static struct nat_packet parsed(const struct test_packet *p)
{
	struct nat_packet packet;
	cr_assert_eq(nat_parse(p->data, p->data + p->length, 1, &packet), NAT_REASON_NONE);
	return packet;
}

static const struct nat_rewrite outbound = {.source_port = 0x3412};

static struct nat_rewrite rewrite_for(const struct nat_packet *packet)
{
	struct nat_rewrite rewrite = outbound;
	rewrite.source = nat_swap32(EXTERNAL);
	rewrite.destination = packet->tuple.destination;
	rewrite.destination_port = packet->tuple.destination_port;
	return rewrite;
}

enum { SAMPLES = 8 };

static struct test_packet sample(unsigned i, uint32_t payload, struct random_source *random)
{
	static const uint8_t protocols[SAMPLES] = {NAT_UDP, NAT_TCP,  NAT_ICMP, NAT_GRE,
						   NAT_ESP, NAT_SCTP, NAT_DCCP, NAT_UDPLITE};
	static const unsigned first[SAMPLES] = {5000, 5001, 8, 1, 2, 3, 4, 5};
	static const unsigned second[SAMPLES] = {53, 443, 77};
	return test_transport(INSIDE, REMOTE, protocols[i], 0, first[i], second[i], payload,
			      random);
}

Test(bpf, hits_are_translated_with_right_checksums)
{
	uint64_t state = 3;
	struct random_source random = random_seeded(&state);

	for (unsigned i = 0; i < SAMPLES; i++)
		for (uint32_t payload = 0; payload < 300; payload++) {
			struct test_packet p = sample(i, payload, &random), want = p;
			struct nat_packet packet = parsed(&p);
			struct nat_rewrite rewrite = rewrite_for(&packet);
			struct nat_slot *slot = put(&packet.tuple, &rewrite, payload % 8);
			cr_assert_eq(run(&p), XDP_TX, "payload %u", payload);

			memcpy(want.data + 12, &rewrite.source, 4);
			want.data[8]--;
			if (packet.kind == NAT_KIND_QUERY)
				memcpy(want.data + 24, &rewrite.source_port, 2);
			else if (packet.kind < NAT_KIND_OTHER)
				memcpy(want.data + 20, &rewrite.source_port, 2);
			test_fill(want.data, want.length);
			cr_assert_eq(memcmp(p.data, want.data, want.length), 0, "payload %u",
				     payload);
			bool reset = packet.tcp_flags & NAT_TCP_RST; /* no sign of life */
			cr_assert_eq(slot->last_seen, reset ? 0 : NOW);
			cr_assert_eq(slot->tcp_flags, (NAT_SLOT_TAG(2) | packet.tcp_flags));
			memset(slot, 0, sizeof *slot);
		}
}

/* common/nat/mss.h in the kernel: at each place among the options, even and odd. */
Test(bpf, a_syn_s_mss_is_lowered)
{
	for (uint32_t at = 0; at + 4 <= 40; at++) {
		struct test_packet p = sample(1, 40, NULL), want;
		struct nat_slot *slot;
		p.data[32] = 0xf0;
		p.data[33] = NAT_TCP_SYN;
		memset(p.data + 40, 1, 40);
		memcpy(p.data + 40 + at, "\x02\x04\x05\xb4", 4);
		test_fill(p.data, p.length);
		want = p;
		struct nat_packet packet = parsed(&p);
		struct nat_rewrite rewrite = rewrite_for(&packet);
		slot = put(&packet.tuple, &rewrite, 0);
		config->mss = 1360;
		cr_assert_eq(run(&p), XDP_TX);
		memcpy(want.data + 12, &rewrite.source, 4);
		memcpy(want.data + 20, &rewrite.source_port, 2);
		want.data[8]--;
		test_put16(want.data + 40 + at + 2, 1360);
		test_fill(want.data, want.length);
		cr_assert_eq(memcmp(p.data, want.data, want.length), 0, "option at %u", at);
		memset(slot, 0, sizeof *slot);
	}
	config->mss = 0;
}

Test(bpf, misses_pass_untouched)
{
	for (unsigned i = 0; i < SAMPLES; i++) {
		struct test_packet p = sample(i, 20, NULL), before = p;
		struct nat_packet packet = parsed(&p);
		struct nat_rewrite rewrite = rewrite_for(&packet);
		cr_expect_eq(run(&p), XDP_PASS, "an empty table");
		struct nat_slot *slot = put(&packet.tuple, &rewrite, 0);
		slot->sequence = 3;
		cr_expect_eq(run(&p), XDP_PASS, "being written");
		slot->sequence = 4;
		slot->state = NAT_SLOT_PARKED;
		cr_expect_eq(run(&p), XDP_PASS, "parked");
		slot->state = NAT_SLOT_OPEN;
		slot->key.realm = 2;
		cr_expect_eq(run(&p), XDP_PASS, "another realm's");
		cr_expect_eq(slot->last_seen, 0);
		cr_expect_eq(memcmp(p.data, before.data, p.length), 0);
		slot->key.realm = 1;
		cr_expect_eq(run(&p), XDP_TX);
	}
}

Test(bpf, unusual_packets_pass_untouched)
{
	struct test_packet p = sample(1, 20, NULL), base = p, before;
	struct nat_packet packet = parsed(&p);
	struct nat_rewrite rewrite = rewrite_for(&packet);
	put(&packet.tuple, &rewrite, 3);
	static const struct {
		char name[16];
		unsigned at, value;
	} table[] = {{"TTL 1", 8, 1},          {"TTL 0", 8, 0},
		     {"options", 0, 0x46},     {"more fragments", 6, 0x20},
		     {"a fragment", 7, 1},     {"version 6", 0, 0x65},
		     {"too long", 2, 1},       {"too short", 3, 39},
		     {"no header", 3, 0},      {"IPv6", 9, 41},
		     {"data offset", 32, 0x40}};
	for (unsigned i = 0; i < sizeof table / sizeof table[0]; i++) {
		p = base;
		p.data[table[i].at] = (uint8_t)table[i].value;
		before = p;
		cr_expect_eq(run(&p), XDP_PASS, "%s", table[i].name);
		cr_expect_eq(memcmp(p.data, before.data, p.length), 0, "%s", table[i].name);
	}
	p = base;
	cr_expect_eq(run(&p), XDP_TX, "the unchanged one is a hit");
	for (uint32_t n = 0; n < base.length; n++) {
		p = base;
		p.length = n;
		cr_expect_eq(run(&p), XDP_PASS, "%u bytes", n);
	}
}
