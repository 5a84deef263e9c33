/* SPDX-License-Identifier: Apache-2.0 */
/*
 * THE path of a packet. A worker goes over a batch in three turns: the first parses and asks the
 * memory where the flow entries are, the second asks it for the entries, the third finds them there
 * and rewrites. What is not a plain hit is
 * dropped here when it is plainly bad, and goes to the owner thread (engine_slow.c) when it needs
 * thought.
 *
 * Readers take no lock: the flow entry is copied and its sequence word looked at again (flowtable),
 * the settings are behind an RCU pointer, the lease's end is one word that every hit compares.
 */
#include "dataplane/engine.h"

#include <stdlib.h>
#include <urcu-qsbr.h>
#include "common/base/err.h"
#include "common/nat/mss.h"
#include "common/nat/rewrite.h"
#include "dataplane/engine_private.h"

enum {
	BATCH = 64,
	DATA_AHEAD = 4, /* packets whose headers are fetched before they are parsed */
	IP_AND_TCP = NAT_IP_HEADER + NAT_TCP_HEADER,
};

/*
 * Where a host's packets go that keeps its own address outside. To an external address of ours: the
 * table says, whose it is.
 */
static int identity_egress(const struct prefixes *prefixes, uint8_t ingress, int owner,
			   nat_be32 destination)
{
	if (prefixes_match(prefixes, WIRE_PREFIX_POOL, destination) != PREFIXES_NONE)
		return PREFIXES_NONE;
	if (owner != PREFIXES_NONE)
		return owner;
	return prefixes_inside(prefixes, ingress, destination) ? ingress : NAT_REALM_OUTSIDE;
}

int engine_bypass(const struct engine_settings *settings, uint8_t ingress, nat_be32 source,
		  nat_be32 destination)
{
	const struct prefixes *prefixes = &settings->prefixes;
	int owner = prefixes_match(prefixes, WIRE_PREFIX_IDENTITY, destination);

	if (ingress != NAT_REALM_OUTSIDE) {
		if (prefixes_match(prefixes, WIRE_PREFIX_BYPASS, destination) != PREFIXES_NONE)
			return engine_untranslated_egress(settings, destination);
		if (prefixes_match(prefixes, WIRE_PREFIX_IDENTITY, source) == ingress)
			return identity_egress(prefixes, ingress, owner, destination);
		/* To hosts of other realms that keep their addresses it is translated. */
		return owner == ingress ? owner : PREFIXES_NONE;
	}
	if (owner != PREFIXES_NONE)
		return owner;
	/* The way back. */
	if (prefixes_match(prefixes, WIRE_PREFIX_BYPASS, source) == PREFIXES_NONE)
		return PREFIXES_NONE;
	return prefixes_match(prefixes, WIRE_PREFIX_INSIDE, destination);
}

uint8_t engine_untranslated_egress(const struct engine_settings *settings, nat_be32 destination)
{
	int realm = prefixes_match(&settings->prefixes, WIRE_PREFIX_INSIDE, destination);

	return (uint8_t)(realm < 0 ? NAT_REALM_OUTSIDE : realm);
}

unsigned engine_wanted(const struct engine_settings *settings, const struct nat_packet *parsed)
{
	const struct wire_config *table = &settings->config.table;

	if (nat_protocol_by_port(parsed->tuple.protocol))
		return NAT_REASON_NONE;
	for (uint32_t i = 0; i < table->n_protocols; i++)
		if (table->protocols[i] == parsed->tuple.protocol)
			return NAT_REASON_NONE;
	return parsed->kind == NAT_KIND_ERROR ? NAT_REASON_BAD_EMBEDDED : NAT_REASON_PROTOCOL;
}

unsigned engine_screen(const struct engine_settings *settings, const struct engine_packet *packet,
		       const struct nat_packet *parsed)
{
	nat_be32 source = nat_get32(packet->data + NAT_IP_SOURCE);

	if (!settings->configured)
		return NAT_REASON_NO_TABLE;
	if (nat_address_unusable(source) ||
	    nat_address_unusable(nat_get32(packet->data + NAT_IP_DESTINATION)))
		return NAT_REASON_MULTICAST;
	/* An ICMP error may come from a router that is no subscriber: its quote decides. */
	if (packet->ingress != NAT_REALM_OUTSIDE && parsed->kind != NAT_KIND_ERROR &&
	    !prefixes_inside(&settings->prefixes, packet->ingress, source))
		return NAT_REASON_NOT_CONFIGURED;
	return NAT_REASON_NONE;
}

unsigned engine_apply_flags(const struct engine_settings *settings,
			    const struct engine_packet *packet)
{
	return (settings->config.ttl == ENGINE_TTL_DECREMENT ? NAT_TTL_DECREMENT
							     : NAT_TTL_INCREMENT) |
	       (packet->partial_checksum ? NAT_PARTIAL_CHECKSUM : 0u);
}

/* Of auto: segments of both directions cross both links. */
static uint32_t largest_segment(const struct engine_config *config, uint8_t a, uint8_t b)
{
	uint32_t mtu = config->mtu[a];

	if (config->table.mss_clamp != WIRE_MSS_AUTO)
		return config->table.mss_clamp;
	if (mtu == 0 || (config->mtu[b] != 0 && config->mtu[b] < mtu))
		mtu = config->mtu[b];
	return mtu == 0 ? UINT16_MAX
			: (mtu > WIRE_MSS_MIN + IP_AND_TCP ? mtu - IP_AND_TCP : WIRE_MSS_MIN);
}

void engine_clamp_mss(const struct engine_settings *settings, const struct engine_packet *packet,
		      const struct nat_packet *parsed, uint8_t egress)
{
	const struct engine_config *config = &settings->config;

	if (nat_likely(config->table.mss_clamp == WIRE_MSS_OFF) || parsed->kind != NAT_KIND_TCP ||
	    !(parsed->tcp_flags & NAT_TCP_SYN))
		return;
	uint32_t limit = largest_segment(config, packet->ingress, egress);
	nat_mss_clamp(packet->data + parsed->header, packet->data + parsed->total,
		      (uint16_t)(limit < UINT16_MAX ? limit : UINT16_MAX),
		      packet->partial_checksum);
}

bool engine_fits(const struct engine_settings *settings, const struct engine_packet *packet,
		 const struct nat_packet *parsed, uint8_t egress)
{
	uint32_t mtu = settings->config.mtu[egress];
	uint32_t length = parsed->total;

	if (nat_unlikely(packet->gso_size > 0)) { /* what counts is one segment */
		uint32_t segment = parsed->header + packet->gso_size +
				   (parsed->kind == NAT_KIND_TCP
					? (packet->data[parsed->header + NAT_TCP_OFFSET] >> 4) * 4u
					: NAT_UDP_HEADER);
		length = segment < length ? segment : length;
	}
	return mtu == 0 || length <= mtu;
}

/* ---- workers ---- */

/* What a batch shares. */
struct turn {
	struct engine *engine;
	struct engine_counters *counters;
	const struct engine_settings *settings;
	uint32_t now_ms;
	bool leased; /* the lease and its grace are not over */
	uint64_t hits, slow, bytes;
};

static void to_owner(struct turn *turn, struct engine_packet *packet)
{
	packet->fate = ENGINE_SLOW;
	turn->slow++;
}

/* Not plain: the worker only tells the bad from the unusual. */
static void unusual(struct turn *turn, struct engine_packet *packet)
{
	struct nat_packet parsed;
	unsigned reason =
	    nat_parse(packet->data, packet->data + packet->length, packet->ingress, &parsed);

	if (reason == NAT_REASON_NONE && !nat_csum_ip_valid(packet->data, parsed.header))
		reason = NAT_REASON_BAD_IP_CHECKSUM;
	if (reason == NAT_REASON_NONE &&
	    engine_bypass(turn->settings, packet->ingress,
			  nat_get32(packet->data + NAT_IP_SOURCE),
			  nat_get32(packet->data + NAT_IP_DESTINATION)) < 0)
		reason = engine_wanted(turn->settings, &parsed);
	if (reason != NAT_REASON_NONE)
		drop(turn->counters, packet, reason);
	else
		to_owner(turn, packet);
}

/* No entry: not ours to translate, not ours at all, or to be asked about. */
static void miss(struct turn *turn, struct engine_packet *packet, const struct nat_packet *parsed)
{
	const struct engine_settings *settings = turn->settings;
	unsigned reason = engine_screen(settings, packet, parsed);

	if (reason != NAT_REASON_NONE) {
		drop(turn->counters, packet, reason);
		return;
	}
	int bypass = engine_bypass(settings, packet->ingress, parsed->tuple.source,
				   parsed->tuple.destination);
	if (bypass < 0 && (reason = engine_wanted(settings, parsed)) != NAT_REASON_NONE) {
		drop(turn->counters, packet, reason);
		return;
	}
	if (bypass < 0 || !engine_fits(settings, packet, parsed, (uint8_t)bypass)) {
		to_owner(turn, packet);
		return;
	}
	nat_apply_ip(packet->data, parsed->tuple.source, parsed->tuple.destination, 0,
		     engine_apply_flags(settings, packet));
	engine_clamp_mss(settings, packet, parsed, (uint8_t)bypass);
	packet->fate = ENGINE_OUT;
	packet->egress = (uint8_t)bypass;
}

/* First turn: whether the packet is plain; if so the way to its flow entry is on its way, too. */
static bool read_headers(struct turn *turn, struct engine_packet *packet, struct nat_packet *parsed,
			 uint64_t *hash)
{
	packet->tcp_flags_new = 0;
	packet->reason = NAT_REASON_NONE;
	turn->bytes += packet->length;
	if (!nat_parse_plain(packet->data, packet->data + packet->length, packet->ingress, parsed))
		return false;
	if (parsed->ttl <= 1 && turn->settings->config.ttl == ENGINE_TTL_DECREMENT)
		return false;
	*hash = flowtable_prefetch(turn->engine->flows, &parsed->tuple);
	return nat_csum_ip_valid(packet->data, NAT_IP_HEADER);
}

/* Third turn: the path of a plain packet. */
static void translate(struct turn *turn, struct engine_packet *packet,
		      const struct nat_packet *parsed, uint64_t hash)
{
	struct nat_slot slot;
	uint8_t *end = packet->data + parsed->total;

	packet->length = parsed->total; /* what pads a short frame goes no further */
	if (!flowtable_hit_hashed(turn->engine->flows, &parsed->tuple, hash, turn->now_ms,
				  parsed->tcp_flags & ENGINE_TCP_FLAGS, &slot,
				  &packet->tcp_flags_new)) {
		miss(turn, packet, parsed);
		return;
	}
	if (nat_unlikely(packet->tcp_flags_new))
		packet->tuple = parsed->tuple;
	if (nat_unlikely(!turn->leased)) {
		drop(turn->counters, packet, NAT_REASON_LEASE_OVER);
		return;
	}
	if (nat_unlikely(!engine_fits(turn->settings, packet, parsed, slot.egress))) {
		to_owner(turn, packet);
		return;
	}
	nat_apply_plain(packet->data, end, parsed, &slot,
			engine_apply_flags(turn->settings, packet));
	if (nat_unlikely(parsed->tcp_flags & NAT_TCP_SYN))
		engine_clamp_mss(turn->settings, packet, parsed, slot.egress);
	packet->fate = ENGINE_OUT;
	packet->egress = slot.egress;
	turn->hits++;
}

static void process_batch(struct turn *turn, struct engine_packet *packets, unsigned n)
{
	struct nat_packet parsed[BATCH];
	uint64_t hashes[BATCH];
	bool plain[BATCH];

	for (unsigned i = 0; i < n && i < DATA_AHEAD; i++)
		__builtin_prefetch(packets[i].data, 1);
	for (unsigned i = 0; i < n; i++) {
		if (i + DATA_AHEAD < n)
			__builtin_prefetch(packets[i + DATA_AHEAD].data, 1);
		plain[i] = read_headers(turn, &packets[i], &parsed[i], &hashes[i]);
	}
	for (unsigned i = 0; n > 1 && i < n; i++)
		if (nat_likely(plain[i]))
			flowtable_prefetch_slot(turn->engine->flows, hashes[i]);
	for (unsigned i = 0; i < n; i++) {
		if (nat_likely(plain[i]))
			translate(turn, &packets[i], &parsed[i], hashes[i]);
		else
			unusual(turn, &packets[i]);
	}
}

void engine_process(struct engine_worker *worker, struct engine_packet *packets, unsigned n,
		    struct monotime now)
{
	struct engine *engine = worker->engine;
	struct turn turn = {
	    .engine = engine,
	    .counters = &worker->counters,
	    .settings = __atomic_load_n(&engine->settings, __ATOMIC_ACQUIRE),
	    .now_ms = (uint32_t)monotime_ms(now),
	    .leased = now.ns < __atomic_load_n(&engine->valid_until_ns, __ATOMIC_RELAXED),
	};

	for (unsigned done = 0; done < n; done += BATCH)
		process_batch(&turn, packets + done, n - done < BATCH ? n - done : BATCH);
	count_more(&worker->counters.packets, n);
	count_more(&worker->counters.bytes, turn.bytes);
	count_more(&worker->counters.hits, turn.hits);
	count_more(&worker->counters.slow, turn.slow);
}

/* ---- the owner: life, configuration, counters ---- */

int engine_new(struct flowtable *flows, const struct engine_owner *owner,
	       struct random_source *random, struct engine **out)
{
	struct engine *engine = aligned_alloc(alignof(struct engine), sizeof *engine);
	int err = ERR_NOMEM;

	if (!engine)
		return ERR_NOMEM;
	memset(engine, 0, sizeof *engine);
	engine->flows = flows;
	engine->owner = *owner;
	for (unsigned i = 0; i < ENGINE_WORKERS_MAX; i++)
		engine->workers[i].engine = engine;
	ratelimit_init(&engine->icmp_limit, random);
	engine->settings = calloc(1, sizeof *engine->settings);
	engine->scratch = malloc(IPV4_TOTAL_MAX);
	engine->released = malloc(IPV4_TOTAL_MAX);
	engine->segment = malloc(IPV4_TOTAL_MAX);
	if (!engine->settings || !engine->scratch || !engine->released || !engine->segment)
		goto fail;
	err = fragments_new(random, owner_counters(engine), &engine->fragments);
	if (err)
		goto fail;
	*out = engine;
	return 0;
fail:
	engine_free(engine);
	return err;
}

void engine_free(struct engine *engine)
{
	if (!engine)
		return;
	fragments_free(engine->fragments);
	free(engine->segment);
	free(engine->released);
	free(engine->scratch);
	free(engine->settings);
	free(engine);
}

struct engine_worker *engine_worker(struct engine *engine, unsigned worker)
{
	return worker < ENGINE_WORKERS_MAX ? &engine->workers[worker] : NULL;
}

int engine_configure(struct engine *engine, const struct engine_config *config)
{
	struct engine_settings *old = engine->settings;
	struct engine_settings *settings = calloc(1, sizeof *settings);

	if (!settings)
		return ERR_NOMEM;
	settings->config = *config;
	settings->configured = config->table.n_prefixes > 0;
	prefixes_init(&settings->prefixes, &config->table);
	__atomic_store_n(&engine->settings, settings, __ATOMIC_RELEASE);
	engine->icmp_limit.per_second = config->table.icmp_errors_per_second;
	synchronize_rcu();
	free(old);
	return 0;
}

void engine_set_valid_until(struct engine *engine, struct monotime valid_until)
{
	__atomic_store_n(&engine->valid_until_ns, valid_until.ns, __ATOMIC_RELAXED);
}

void engine_tick(struct engine *engine, struct monotime now)
{
	fragments_tick(engine->fragments, now);
}

void engine_counters(const struct engine *engine, struct engine_counters *out)
{
	uint64_t *sums = (uint64_t *)out;

	memset(out, 0, sizeof *out);
	for (unsigned w = 0; w < ENGINE_WORKERS_MAX; w++) {
		const uint64_t *counters = (const uint64_t *)&engine->workers[w].counters;
		for (unsigned i = 0; i < sizeof *out / sizeof *sums; i++)
			sums[i] += __atomic_load_n(&counters[i], __ATOMIC_RELAXED);
	}
}
