/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A dataplane's process: cache and flow table are the real ones; around them a worker that looks
 * tuples up as the engine does, an owner thread that is sometimes busy, and a clock of its own.
 */
#include <stdlib.h>
#include <string.h>
#include "common/base/err.h"
#include "tests/sim/sim.h"

struct body { /* of a simulated packet */
	struct nat_tuple tuple;
	uint64_t number;
	uint8_t op, tcp_flags;
};

static void claim_add(struct claims *claims, struct claim claim)
{
	if (claims->n < CLAIMS)
		claims->at[claims->n++] = claim;
}

void claims_of(struct claims *claims, const struct nat_tuple *tuple,
	       const struct nat_rewrite *rewrite, uint8_t direction, uint64_t handle,
	       uint64_t peer_handle)
{
	struct claim sender = {
	    .internal = {tuple->source, tuple->source_port, 0},
	    .external = {rewrite->source, rewrite->source_port, 0},
	    .handle = handle,
	    .realm = tuple->realm,
	    .protocol = tuple->protocol,
	};
	struct claim receiver = {
	    .internal = {rewrite->destination, rewrite->destination_port, 0},
	    .external = {tuple->destination, tuple->destination_port, 0},
	    .handle = peer_handle,
	    .realm = rewrite->egress,
	    .protocol = tuple->protocol,
	};
	if (direction == NAT_OUTBOUND)
		claim_add(claims, sender);
	if (direction == NAT_INBOUND || handle != peer_handle) /* hairpinned: both are ours */
		claim_add(claims, receiver);
}

/* ---- what the cache calls */

static void cover_answer(struct sim *sim, const struct nat_tuple *tuple,
			 const struct wire_answer *answer)
{
	bool twice = answer->rewrite.source != tuple->source &&
		     answer->rewrite.destination != tuple->destination;
	sim->coverage.by_address += nat_protocol_by_address(tuple->protocol);
	sim->coverage.hairpins += answer->handle != answer->peer_handle;
	sim->coverage.redirects += twice && answer->handle == answer->peer_handle;
}

static void answered(void *context, struct engine_packet *packet, const struct wire_answer *answer,
		     struct monotime now)
{
	struct dataplane *dp = context;
	struct body body;

	(void)now;
	if (fragments_is_packet(packet)) {
		fragments_translate(dp, packet, answer);
		return;
	}
	memcpy(&body, packet->data, sizeof body);
	struct nat_tuple key = body.tuple;
	key.zero = body.op;
	trace(dp->sim, "dp%u: packet %lu: verdict %u, %s", dp->index, (unsigned long)body.number,
	      answer->verdict, nat_reason_name(answer->reason));
	if (memcmp(&dp->last_answered.tuple, &key, sizeof key) == 0 &&
	    dp->last_answered.number >= body.number)
		fail(dp->sim, "dp%u: packet %lu came after %lu of its flow", dp->index,
		     (unsigned long)body.number, (unsigned long)dp->last_answered.number);
	dp->last_answered.tuple = key;
	dp->last_answered.number = body.number;
	if (answer->verdict != NAT_TRANSLATE || body.op == WIRE_PEEK || !can_translate(dp))
		return;
	dp->translated++;
	cover_answer(dp->sim, &body.tuple, answer);
	tcp_translated(dp, &body.tuple, &answer->rewrite, answer->handle, body.tcp_flags);
	claims_of(&dp->said, &body.tuple, &answer->rewrite, answer->direction, answer->handle,
		  answer->peer_handle);
}

static void wait_for_readers(void *context)
{
	struct dataplane *dp = context;
	dp->sim->coverage.readers_waited_for += dp->readers.n > 0;
	dp->readers.n = 0; /* they come to their end, with what they copied */
}

static void valid_until(void *context, struct monotime until)
{
	struct dataplane *dp = context;
	dp->valid_until = until.ns;
	engine_set_valid_until(dp->engine, until);
}

static void configured(void *context, const struct wire_config *config)
{
	fragments_configure(context, config);
}

/* ---- the process */

void dataplane_start(struct sim *sim, unsigned index)
{
	struct dataplane *dp = &sim->dataplanes[index];
	struct cache_env env = {.context = dp,
				.answered = answered,
				.fragment_answered = fragments_answered,
				.fragment_notice = fragments_notice,
				.wait_for_readers = wait_for_readers,
				.valid_until = valid_until,
				.configured = configured};
	struct cache_conf conf = {.pending_flows = 2 + below(sim, 12),
				  .pending_packets = 4 + below(sim, 24),
				  .packet_room = 512,
				  .inquiries = 4 + below(sim, 60),
				  .reports = 32u << below(sim, 4)};

	memset(dp, 0, sizeof *dp);
	dp->sim = sim;
	dp->index = index;
	dp->slot = UINT32_MAX;
	dp->alive = true;
	snprintf(conf.name, sizeof conf.name, "dp%u", index);
	dp->random_state = sim->random.next(sim->random.context);
	dp->random = random_seeded(&dp->random_state);
	/* Sometimes the low 32 bits of its milliseconds wrap during the run. */
	dp->offset = chance(sim, 300) ? ms((INT64_C(1) << 32) - 5000 + below(sim, 5000)) - sim->now
				      : ms((int64_t)below(sim, 1000000000));
	dp->connect = sim->now + ms(below(sim, 50));
	dp->flows_changed = true;
	if (flowtable_new(sim->shape.capacity, &dp->random, &dp->flows) != 0 ||
	    cache_new(&conf, &env, dp->flows, &dp->random, &dp->cache) != 0)
		abort();
	fragments_start(dp);
	dp->conf = conf;
	trace(sim, "dp%u: starts", index);
}

void dataplane_free(struct dataplane *dp)
{
	if (!dp->alive)
		return;
	cover_dataplane(dp);
	cache_free(dp->cache);
	engine_free(dp->engine);
	flowtable_free(dp->flows);
	dp->alive = false;
}

static void leave_ghost(struct dataplane *dp)
{
	struct sim *sim = dp->sim;
	if (!can_translate(dp) || sim->n_ghosts == GHOSTS)
		return;
	struct ghost *ghost = &sim->ghosts[sim->n_ghosts++];
	ghost->valid_until =
	    dp->valid_until == INT64_MAX ? INT64_MAX : dp->valid_until - dp->offset;
	ghost->dataplane = dp->index;
	ghost->claims = dp->claims;
}

void dataplane_crash(struct dataplane *dp)
{
	struct sim *sim = dp->sim;

	trace(sim, "dp%u: crashes", dp->index);
	sim->coverage.crashes++;
	sim->disturbances++;
	sim->troubles++;
	leave_ghost(dp);
	if (dp->link) {
		link_break(sim, dp->link);
		link_close_dataplane(sim, dp->link);
	}
	dataplane_free(dp);
	dp->link = NULL;
	dp->restart = sim->now + ms(below(sim, sim->config.lease_ms * 2));
}

static void disconnect(struct dataplane *dp)
{
	struct sim *sim = dp->sim;

	sim->disturbances++;
	sim->troubles++;
	if (dp->link)
		link_close_dataplane(sim, dp->link);
	dp->link = NULL;
	cache_disconnected(dp->cache, local_now(dp));
	dp->connect = sim->now + ms(1 + below(sim, chance(sim, 100) ? 2000 : 30));
}

void dataplane_closed(struct dataplane *dp)
{
	trace(dp->sim, "dp%u: streams ended", dp->index);
	disconnect(dp);
}

void dataplane_connect(struct dataplane *dp)
{
	struct sim *sim = dp->sim;

	dp->link = link_open(sim, dp);
	if (!dp->link) {
		dp->connect = sim->now + ms(50);
		return;
	}
	struct envelope *mail = mail_new(MAIL_HELLO);
	cache_hello(dp->cache, &mail->hello);
	trace(sim, "dp%u: hello, seen %lu", dp->index, (unsigned long)mail->hello.sequence);
	link_send(sim, dp->link, UP_CONTROL, mail);
}

void dataplane_mail(struct dataplane *dp, struct envelope *mail)
{
	struct sim *sim = dp->sim;
	struct monotime now = local_now(dp);
	int rc = 0;

	dp->flows_changed = true;
	switch (mail->kind) {
	case MAIL_WELCOME:
		trace(sim, "dp%u: welcome", dp->index);
		rc = cache_welcome(dp->cache, &mail->welcome, now);
		break;
	case MAIL_CONFIG:
		table_wire_config(sim->table, sim->wire_config);
		cache_config(dp->cache, sim->wire_config, now);
		break;
	case MAIL_HEARTBEAT_ACK:
		cache_heartbeat_ack(dp->cache, &mail->ack, now);
		break;
	case MAIL_MESSAGE:
		trace(sim, "dp%u: message %lu", dp->index, (unsigned long)mail->message.sequence);
		rc = cache_message(dp->cache, &mail->message, now);
		break;
	default:
		abort();
	}
	if (rc)
		fail(sim, "dp%u: message of kind %u refused: %s", dp->index, mail->kind,
		     err_text(rc));
	if (chance(sim, 30) && !sim->healing)
		dp->busy = sim->now + ms(below(sim, 60));
}

void dataplane_tick(struct dataplane *dp)
{
	dp->flows_changed = true;
	cache_tick(dp->cache, local_now(dp));
	engine_tick(dp->engine, local_now(dp));
	if (dp->link && cache_wants_reconnect(dp->cache, local_now(dp))) {
		trace(dp->sim, "dp%u: is not renewed, attaches again", dp->index);
		disconnect(dp);
	}
	if (chance(dp->sim, 300))
		dp->readers.n = 0;
}

void dataplane_pump(struct dataplane *dp)
{
	struct sim *sim = dp->sim;
	struct envelope *mail;
	struct wire_batch batch;
	struct wire_heartbeat beat;

	/* As a loop's turn does; else a heartbeat that goes out here would put the tick off for ever. */
	if (cache_next_tick(dp->cache, local_now(dp)).ns <= local_now(dp).ns)
		dataplane_tick(dp);
	if (!dp->link)
		return;
	if (cache_heartbeat_due(dp->cache, &beat, local_now(dp))) {
		mail = mail_new(MAIL_HEARTBEAT);
		mail->heartbeat = beat;
		mail->heartbeat.stats.flows = flowtable_pairs(dp->flows);
		link_send(sim, dp->link, UP_CONTROL, mail);
	}
	while (cache_next_batch(dp->cache, &batch, local_now(dp))) {
		mail = mail_new(MAIL_BATCH);
		mail->batch = batch;
		mail->batch.entries = calloc(batch.n + 1, sizeof *batch.entries);
		if (!mail->batch.entries)
			abort();
		memcpy(mail->batch.entries, batch.entries, batch.n * sizeof *batch.entries);
		link_send(sim, dp->link, UP_DATA, mail);
	}
}

/* ---- packets */

static void ask(struct dataplane *dp, unsigned op, const struct nat_tuple *tuple, uint8_t tcp_flags)
{
	struct body body = {.tuple = *tuple, .number = ++dp->packets,
			    .op = (uint8_t)op,
			    .tcp_flags = tcp_flags};
	struct engine_packet packet = {
	    .data = (uint8_t *)&body, .length = sizeof body, .room = sizeof body};

	unsigned reason = cache_ask(dp->cache, op, tuple, tcp_flags, &packet, local_now(dp));
	trace(dp->sim, "dp%u: packet %lu op %u proto %u realm %u %08x:%u > %08x:%u flags %u: %s",
	      dp->index, (unsigned long)body.number, op, tuple->protocol, tuple->realm,
	      nat_swap32(tuple->source), nat_swap16(tuple->source_port),
	      nat_swap32(tuple->destination), nat_swap16(tuple->destination_port), tcp_flags,
	      reason ? nat_reason_name(reason) : "parked");
}

void dataplane_packet(struct dataplane *dp, const struct nat_tuple *tuple, uint8_t tcp_flags,
		      bool hold)
{
	struct sim *sim = dp->sim;
	struct nat_slot copy;
	uint8_t fresh = 0;
	uint32_t now_ms = (uint32_t)monotime_ms(local_now(dp));

	if (!dp->alive || dp->frozen > sim->now)
		return;
	if (can_translate(dp) &&
	    flowtable_hit(dp->flows, tuple, now_ms, tcp_flags, &copy, &fresh)) {
		struct nat_rewrite rewrite = {.source = copy.source,
					      .destination = copy.destination,
					      .source_port = copy.source_port,
					      .destination_port = copy.destination_port,
					      .egress = copy.egress};
		dp->translated++;
		if (!(tcp_flags & NAT_TCP_RST))
			check_activity(dp, copy.handle, copy.direction);
		tcp_translated(dp, tuple, &rewrite, copy.handle, tcp_flags);
		if (hold && dp->readers.n < READERS)
			claims_of(&dp->readers, tuple, &rewrite, copy.direction, 0, 0);
		/* A busy owner's ring is full: the sweep has to find them. */
		if (fresh && dp->busy <= sim->now)
			cache_report_flags(dp->cache, tuple, fresh, local_now(dp));
	} else if (dp->busy <= sim->now) {
		ask(dp, tuple->realm == NAT_REALM_OUTSIDE ? WIRE_RESOLVE_IN : WIRE_RESOLVE_OUT,
		    tuple, tcp_flags);
	}
	dp->flows_changed = true;
}

void dataplane_peek(struct dataplane *dp, const struct nat_tuple *tuple)
{
	if (dp->alive && dp->frozen <= dp->sim->now && dp->busy <= dp->sim->now)
		ask(dp, WIRE_PEEK, tuple, 0);
}
