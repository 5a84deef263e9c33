/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The owner's path: what a worker could not settle. In this order: is the packet sound, is it ours,
 * does it live long enough, which tuple is it looked up by. Then the flow table, and if that does
 * not know, the question to the table service; the answer comes back to engine_translate, which
 * ends in the same forward().
 *
 *   datagram       its own tuple
 *   ICMP error     the reverse of the packet that it quotes; a question about it is a PEEK
 *   fragment       its datagram's first fragment's tuple (fragments.h)
 */
#include "common/nat/rewrite.h"
#include "dataplane/engine_private.h"

enum { MTU_MIN = 68 }; /* RFC 791: every internet module forwards that much unfragmented */

static void owner_drop(struct engine *engine, struct engine_packet *packet, unsigned reason)
{
	drop(owner_counters(engine), packet, reason);
}

/*
 * Whether the packet may leave whole or in pieces; if not it was dropped and its sender told (RFC
 * 4787 REQ-13).
 */
static bool may_leave(struct engine *engine, struct engine_packet *packet,
		      const struct nat_packet *parsed, uint8_t egress, struct monotime now)
{
	const struct engine_settings *settings = engine->settings;
	uint32_t mtu = settings->config.mtu[egress];

	if (engine_fits(settings, packet, parsed, egress))
		return true;
	if (!(parsed->flags & NAT_PACKET_DF) && mtu >= MTU_MIN)
		return true;
	icmp_error(engine, packet, ICMP_UNREACHABLE, ICMP_TOO_BIG, mtu, now);
	owner_drop(engine, packet, NAT_REASON_TOO_BIG);
	return false;
}

/* Rewritten: out, in fragments if it must be. */
static void leave(struct engine *engine, struct engine_packet *packet,
		  const struct nat_packet *parsed, uint8_t egress)
{
	const struct engine_settings *settings = engine->settings;

	packet->egress = egress;
	packet->fate = ENGINE_OUT;
	if (engine_fits(settings, packet, parsed, egress))
		return;
	uint32_t mtu = settings->config.mtu[egress];
	if (packet->gso_size > 0 ? engine_segment(engine, packet, mtu)
				 : engine_split(engine, packet, mtu))
		packet->fate = ENGINE_KEPT;
	else
		owner_drop(engine, packet, NAT_REASON_TOO_BIG);
}

/* Whether it will be cut and gets a source that others have, too (RFC 6864 section 5.3.1). */
static bool must_number(const struct engine *engine, const struct engine_packet *packet,
			const struct nat_packet *parsed, const struct nat_slot *slot)
{
	return !packet->identified && !(parsed->flags & NAT_PACKET_FRAGMENT) &&
	       !engine_fits(engine->settings, packet, parsed, slot->egress) &&
	       slot->source != nat_get32(packet->data + NAT_IP_SOURCE);
}

static void forward(struct engine *engine, struct engine_packet *packet,
		    const struct nat_packet *parsed, const struct nat_slot *slot,
		    struct monotime now)
{
	if (now.ns >= engine->valid_until_ns) {
		owner_drop(engine, packet, NAT_REASON_LEASE_OVER);
		return;
	}
	if (!may_leave(engine, packet, parsed, slot->egress, now))
		return;
	if (must_number(engine, packet, parsed, slot) && engine_number(engine, packet, parsed, now))
		return;
	nat_apply(packet->data, packet->data + packet->length, parsed, slot,
		  engine_apply_flags(engine->settings, packet));
	engine_clamp_mss(engine->settings, packet, parsed, slot->egress);
	leave(engine, packet, parsed, slot->egress);
}

static void forward_untranslated(struct engine *engine, struct engine_packet *packet,
				 const struct nat_packet *parsed, uint8_t egress,
				 struct monotime now)
{
	if (!may_leave(engine, packet, parsed, egress, now))
		return;
	nat_apply_ip(packet->data, nat_get32(packet->data + NAT_IP_SOURCE),
		     nat_get32(packet->data + NAT_IP_DESTINATION), 0,
		     engine_apply_flags(engine->settings, packet));
	engine_clamp_mss(engine->settings, packet, parsed, egress);
	leave(engine, packet, parsed, egress);
}

static bool ask(struct engine *engine, struct engine_packet *packet, unsigned op,
		const struct nat_tuple *tuple, uint8_t tcp_flags, struct monotime now)
{
	unsigned reason =
	    engine->owner.ask(engine->owner.context, op, tuple, tcp_flags, packet, now);

	if (reason == NAT_REASON_NONE)
		packet->fate = ENGINE_KEPT;
	else
		owner_drop(engine, packet, reason);
	return reason == NAT_REASON_NONE;
}

/* What the table has to know to tell an opening from an answer; for the flow table TCP's alone. */
static uint8_t question_flags(const struct nat_packet *parsed)
{
	if (parsed->kind == NAT_KIND_QUERY && nat_icmp_is_reply(parsed->icmp_type))
		return NAT_TCP_ACK;
	return parsed->tcp_flags & ENGINE_TCP_FLAGS;
}

enum engine_resolution engine_resolve(struct engine *engine, struct engine_packet *packet,
				      const struct nat_packet *parsed,
				      const struct nat_tuple *tuple, struct monotime now)
{
	struct nat_slot slot;

	if (flowtable_hit(engine->flows, tuple, (uint32_t)monotime_ms(now),
			  parsed->tcp_flags & ENGINE_TCP_FLAGS, &slot, &packet->tcp_flags_new)) {
		if (packet->tcp_flags_new)
			packet->tuple = *tuple;
		forward(engine, packet, parsed, &slot, now);
		return ENGINE_RESOLVED;
	}
	bool asked = ask(engine, packet,
			 packet->ingress == NAT_REALM_OUTSIDE ? WIRE_RESOLVE_IN : WIRE_RESOLVE_OUT,
			 tuple, question_flags(parsed), now);
	return asked ? ENGINE_ASKED : ENGINE_NOT_ASKED;
}

/* The flow table's entry without marking it seen: errors refresh nothing (RFC 5508 REQ-6). */
bool engine_peek(const struct engine *engine, const struct nat_tuple *tuple, struct nat_slot *slot)
{
	struct flow flow;

	if (!flowtable_find(engine->flows, tuple, &flow))
		return false;
	struct nat_rewrite rewrite =
	    nat_tuple_equal(&flow.tuple, tuple) ? flow.rewrite : nat_reverse_rewrite(&flow.tuple);
	nat_slot_set(slot, tuple, &rewrite);
	return true;
}

/* RFC 5508 section 4. */
static void slow_error(struct engine *engine, struct engine_packet *packet,
		       const struct nat_packet *parsed, struct monotime now)
{
	struct nat_slot slot;
	unsigned reason = nat_check_error(packet->data, parsed);

	/*
	 * An error has at most 576 bytes, so that no link needs to cut it (RFC 1812 4.3.2.3). A
	 * first fragment alone cannot be checked (RFC 5508 REQ-3), and its later ones would have to
	 * be hidden by what it quotes: whoever sends such is not answered.
	 */
	if (reason == NAT_REASON_NONE && (parsed->flags & NAT_PACKET_FRAGMENT))
		reason = NAT_REASON_ERROR_FRAGMENT;
	if (reason != NAT_REASON_NONE) {
		owner_drop(engine, packet, reason);
		return;
	}
	if (engine_peek(engine, &parsed->tuple, &slot)) {
		forward(engine, packet, parsed, &slot, now);
		return;
	}
	ask(engine, packet, WIRE_PEEK, &parsed->tuple, 0, now);
}

void engine_slow(struct engine *engine, struct engine_packet *packet, struct monotime now)
{
	const struct engine_settings *settings = engine->settings;
	struct nat_packet parsed;
	unsigned reason =
	    nat_parse(packet->data, packet->data + packet->length, packet->ingress, &parsed);

	packet->tcp_flags_new = 0;
	packet->reason = NAT_REASON_NONE;
	if (reason == NAT_REASON_NONE && !nat_csum_ip_valid(packet->data, parsed.header))
		reason = NAT_REASON_BAD_IP_CHECKSUM;
	if (reason == NAT_REASON_NONE)
		reason = engine_screen(settings, packet, &parsed);
	if (reason != NAT_REASON_NONE) {
		owner_drop(engine, packet, reason);
		return;
	}
	packet->length = parsed.total;
	if (settings->config.ttl == ENGINE_TTL_DECREMENT && (parsed.flags & NAT_PACKET_TTL)) {
		icmp_error(engine, packet, ICMP_TIME_EXCEEDED, ICMP_IN_TRANSIT, 0, now);
		owner_drop(engine, packet, NAT_REASON_TTL);
		return;
	}
	int bypass =
	    engine_bypass(settings, packet->ingress, nat_get32(packet->data + NAT_IP_SOURCE),
			  nat_get32(packet->data + NAT_IP_DESTINATION));
	reason = bypass < 0 ? engine_wanted(settings, &parsed) : NAT_REASON_NONE;
	if (reason != NAT_REASON_NONE)
		owner_drop(engine, packet, reason);
	else if (bypass >= 0)
		forward_untranslated(engine, packet, &parsed, (uint8_t)bypass, now);
	else if (parsed.kind == NAT_KIND_ERROR)
		slow_error(engine, packet, &parsed, now);
	else if (parsed.flags & NAT_PACKET_FRAGMENT)
		engine_slow_fragment(engine, packet, &parsed, now);
	else
		engine_resolve(engine, packet, &parsed, &parsed.tuple, now);
}

/* Refused: exhaustion is 3/1, policy is 3/13 (RFC 6888 REQ-11B, RFC 5508 REQ-8). */
static void reject(struct engine *engine, struct engine_packet *packet, unsigned reason,
		   struct monotime now)
{
	bool policy = reason == NAT_REASON_POLICY || reason == NAT_REASON_NOT_CONFIGURED ||
		      reason == NAT_REASON_FILTERED;

	icmp_error(engine, packet, ICMP_UNREACHABLE,
		   policy ? ICMP_PROHIBITED : ICMP_HOST_UNREACHABLE, 0, now);
	owner_drop(engine, packet, reason);
}

void engine_apply_answer(struct engine *engine, struct engine_packet *packet,
			 const struct wire_answer *answer, struct monotime now)
{
	struct nat_packet parsed;
	unsigned reason =
	    nat_parse(packet->data, packet->data + packet->length, packet->ingress, &parsed);

	packet->tcp_flags_new = 0;
	packet->reason = NAT_REASON_NONE;
	if (reason != NAT_REASON_NONE) { /* cannot be: it was parsed before it was parked */
		owner_drop(engine, packet, reason);
		return;
	}
	switch (answer->verdict) {
	case NAT_TRANSLATE: {
		struct nat_slot slot;
		nat_slot_set(&slot, &parsed.tuple, &answer->rewrite);
		forward(engine, packet, &parsed, &slot, now);
		return;
	}
	case NAT_PASS:
		forward_untranslated(
		    engine, packet, &parsed,
		    engine_untranslated_egress(engine->settings,
					       nat_get32(packet->data + NAT_IP_DESTINATION)),
		    now);
		return;
	case NAT_REJECT:
		reject(engine, packet, answer->reason, now);
		return;
	default:
		owner_drop(engine, packet, answer->reason);
		return;
	}
}

void engine_translate(struct engine *engine, struct engine_packet *packet,
		      const struct wire_answer *answer, struct monotime now)
{
	engine_apply_answer(engine, packet, answer, now);
	if (packet->datagram)
		engine_fragments_resolved(engine, packet, answer, now);
}
