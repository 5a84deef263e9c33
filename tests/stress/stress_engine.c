/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workers translate while the owner takes sessions away, gives their ports to others, changes the
 * configuration and lets the lease end and come back. What the owner may acknowledge: once a
 * session is removed and every worker has passed a quiescent state, no packet leaves by it any more
 * (U1). For ThreadSanitizer, and without it for the machine's own reordering. Argument: the owner's
 * operations.
 */
#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <urcu-qsbr.h>
#include "common/nat/csum.h"
#include "dataplane/engine.h"

enum { FLOWS = 64, WORKERS = 2, BATCH = 16, LENGTH = 28 };

static struct flowtable *flows;
static struct engine *engine;
static atomic_bool done;
static atomic_uint failures, translated, quiescent;
static atomic_uint revoked[FLOWS]; /* versions below this one are gone for good */

/*
 * liburcu is not built for ThreadSanitizer, which so cannot know what a grace period orders:
 * workers release before a quiescent state, the owner acquires after the grace period, on a word of
 * our own.
 */
void __real_urcu_qsbr_synchronize_rcu(void);
void __wrap_urcu_qsbr_synchronize_rcu(void);
void __wrap_urcu_qsbr_synchronize_rcu(void)
{
	__real_urcu_qsbr_synchronize_rcu();
	atomic_load_explicit(&quiescent, memory_order_acquire);
}

static void pass_quiescent_state(void)
{
	atomic_fetch_add_explicit(&quiescent, 1, memory_order_release);
	rcu_quiescent_state();
}

static struct nat_tuple tuple_of(uint32_t i)
{
	return (struct nat_tuple){.source = htonl(0x0a000001 + i),
				  .destination = htonl(0x08080808),
				  .source_port = htons(4000),
				  .destination_port = htons(53),
				  .protocol = NAT_UDP,
				  .realm = NAT_REALM_INSIDE};
}

static void write_packet(uint8_t *ip, const struct nat_tuple *t)
{
	memset(ip, 0, LENGTH);
	ip[0] = 0x45;
	ip[3] = LENGTH;
	ip[8] = 64;
	ip[9] = t->protocol;
	nat_put32(ip + 12, t->source);
	nat_put32(ip + 16, t->destination);
	nat_put16(ip + 10, nat_csum_compute(ip, 20));
	nat_put16(ip + 20, t->source_port);
	nat_put16(ip + 22, t->destination_port);
	ip[25] = LENGTH - 20;
}

static void fail(const char *what, uint32_t i)
{
	if (atomic_fetch_add(&failures, 1) < 10)
		fprintf(stderr, "flow %u: %s\n", i, what);
}

/* The external port is the version, so that what leaves says by which entry. */
static void check(const uint8_t *ip, uint32_t i)
{
	unsigned version = ntohs(nat_get16(ip + 20));

	if (nat_get32(ip + 12) != htonl(0xc0000200 + i))
		fail("left with another session's address", i);
	/* looked at when it leaves: the owner may not have said "gone" while we still had it */
	if (version < atomic_load_explicit(&revoked[i], memory_order_acquire))
		fail("left by a session that every worker had let go", i);
	if (!nat_csum_ip_valid(ip, 20))
		fail("left with a wrong checksum", i);
	atomic_fetch_add_explicit(&translated, 1, memory_order_relaxed);
}

static void *work(void *context)
{
	struct engine_worker *worker = engine_worker(engine, (unsigned)(uintptr_t)context);
	uint64_t state = (uintptr_t)context;
	struct random_source random = random_seeded(&state);
	struct engine_packet packets[BATCH];
	uint8_t bytes[BATCH][64];
	unsigned flow[BATCH];

	rcu_register_thread();
	while (!atomic_load_explicit(&done, memory_order_relaxed)) {
		for (unsigned i = 0; i < BATCH; i++) {
			flow[i] = random_below(&random, FLOWS);
			struct nat_tuple tuple = tuple_of(flow[i]);
			write_packet(bytes[i], &tuple);
			packets[i] = (struct engine_packet){.data = bytes[i],
							    .length = LENGTH,
							    .room = 64,
							    .ingress = NAT_REALM_INSIDE};
		}
		engine_process(worker, packets, BATCH, monotime_now());
		for (unsigned i = 0; i < BATCH; i++)
			if (packets[i].fate == ENGINE_OUT)
				check(bytes[i], flow[i]);
		pass_quiescent_state();
	}
	rcu_unregister_thread();
	return NULL;
}

static unsigned refuse(void *context, unsigned op, const struct nat_tuple *tuple, uint8_t tcp_flags,
		       const struct engine_packet *packet, struct monotime now)
{
	return NAT_REASON_NO_TABLE;
}

static void forget(void *context, const struct engine_packet *packet)
{
}

static void replace(uint32_t i, unsigned version)
{
	struct flow flow = {.tuple = tuple_of(i), .state = NAT_SLOT_OPEN, .handle = version};
	struct flow evicted[2];
	unsigned n_evicted;

	flowtable_remove(flows, &flow.tuple, NULL);
	synchronize_rcu();
	atomic_store_explicit(&revoked[i], version, memory_order_release);
	flow.rewrite = (struct nat_rewrite){.source = htonl(0xc0000200 + i),
					    .destination = flow.tuple.destination,
					    .source_port = htons((uint16_t)version),
					    .destination_port = flow.tuple.destination_port};
	if (flowtable_insert(flows, &flow, 1, evicted, &n_evicted) != 0)
		fail("no room", i);
}

static void configure(unsigned turn)
{
	static struct engine_config config;

	memset(&config, 0, sizeof config);
	config.ttl = turn % 2 ? ENGINE_TTL_RESTORE : ENGINE_TTL_DECREMENT;
	config.mtu[NAT_REALM_OUTSIDE] = 1500;
	config.table.n_prefixes = 1;
	config.table.prefixes[0] = (struct wire_prefix){
	    .address = htonl(0x0a000000), .length = 8, .realm = 1, .kind = WIRE_PREFIX_INSIDE};
	if (engine_configure(engine, &config) != 0)
		fail("no memory", 0);
}

int main(int argc, char **argv)
{
	unsigned operations = argc > 1 ? (unsigned)atoi(argv[1]) : 2000;
	struct engine_owner owner = {.ask = refuse, .emit = forget};
	struct engine_counters counters;
	uint64_t seed = 9;
	struct random_source random = random_seeded(&seed);
	pthread_t threads[WORKERS];

	if (flowtable_new(FLOWS * 2, &random, &flows) != 0 ||
	    engine_new(flows, &owner, &random, &engine) != 0)
		return 1;
	configure(0);
	engine_set_valid_until(engine, MONOTIME_NEVER);
	for (uintptr_t i = 0; i < WORKERS; i++)
		pthread_create(&threads[i], NULL, work, (void *)(i + 1));
	for (unsigned i = 0; i < operations; i++) {
		replace(random_below(&random, FLOWS), 1 + i % 60000);
		if (i % 60000 == 59999) /* versions start again */
			for (unsigned f = 0; f < FLOWS; f++) {
				struct nat_tuple tuple = tuple_of(f);
				flowtable_remove(flows, &tuple, NULL);
				synchronize_rcu();
				atomic_store(&revoked[f], 0);
			}
		if (i % 16 == 0)
			configure(i / 16);
		if (i % 64 == 0)
			engine_set_valid_until(engine,
					       i % 128 ? (struct monotime){0} : MONOTIME_NEVER);
		if (i % 100 == 0)
			engine_counters(engine, &counters);
	}
	engine_set_valid_until(engine, MONOTIME_NEVER);
	atomic_store(&done, true);
	for (unsigned i = 0; i < WORKERS; i++)
		pthread_join(threads[i], NULL);
	engine_counters(engine, &counters);
	printf("%u operations, %llu packets, %u translated, %u failures\n", operations,
	       (unsigned long long)counters.packets, atomic_load(&translated),
	       atomic_load(&failures));
	if (counters.hits != atomic_load(&translated))
		fail("the counters know another number of hits", 0);
	if (atomic_load(&translated) == 0 || counters.drops[NAT_REASON_LEASE_OVER] == 0)
		fail("nothing was tested", 0);
	engine_free(engine);
	flowtable_free(flows);
	return atomic_load(&failures) != 0;
}
