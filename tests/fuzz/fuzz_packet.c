/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine under damaged packets, several in a row so that fragments meet. An input is a byte of
 * settings, then records {realm and offload byte, length in two bytes, packet}. It runs twice: the
 * engine alone, and with a table that it asks about fragments, whose answers come a packet later.
 *
 * What must hold of everything that leaves: it is an IPv4 packet with a right header checksum, its
 * addresses come from a session (or are untouched by bypass, or the engine's own), no private
 * source gets outside, the transport checksum is right exactly when it was right before, and the
 * payload is what came in.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/nat/parse.h"
#include "dataplane/engine.h"
#include "tests/support/golden.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { RECORD = 3, LENGTH_MAX = 4096, SESSIONS = 12, QUESTIONS = 16 };

enum setting { SET_RESTORE = 1, SET_MTU = 2, SET_ANSWER = 4, SET_REJECT = 8, SET_MSS = 16 };
enum { SET_CONFIGURED = SET_RESTORE | SET_MTU | SET_MSS };
enum record { RECORD_REALM = 3, RECORD_PARTIAL = 4, RECORD_GSO = 8 };

/* The sessions of the flow table; seeds made from the golden table's rows meet them. */
static const struct {
	const char *inside, *remote, *outside;
} sessions[SESSIONS / 3] = {
    {"10.0.0.2:4000", "8.8.8.8:53", "192.0.2.1:5000"},
    {"10.0.0.2:3210", "8.8.8.8:80", "192.0.2.1:81"},
    {"192.168.1.5:5", "8.8.8.8:0", "82.1.1.8:81"},
    {"10.0.0.2:4000", "8.8.8.8:80", "192.0.2.1:5000"},
};

static struct {
	uint64_t seed;
	struct random_source random;
	struct flowtable *flows;
	struct engine *engine;
	struct monotime now;
	uint8_t settings;
	unsigned n_flows;
	struct nat_tuple tuple[SESSIONS + 1]; /* the last: what an asked packet is answered with */
	struct nat_rewrite rewrite[SESSIONS + 1];

	bool shared;
	unsigned n_questions;
	struct {
		unsigned op;
		struct nat_tuple tuple;
		uint16_t identification;
		uint64_t datagram;
		struct engine_packet packet; /* of a question about a flow */
		uint8_t bytes[LENGTH_MAX];
	} questions[QUESTIONS];

	uint8_t original[LENGTH_MAX]; /* what came in last */
	uint32_t original_length;
	bool partial;
} f;

#define must(condition, text)                                                                      \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, text);                  \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static bool is_private(nat_be32 address)
{
	uint32_t a = ntohl(address);
	return a >> 24 == 10 || a >> 16 == 0xc0a8 || a >> 16 == 0xac14;
}

static bool is_bypass(nat_be32 address)
{
	return ntohl(address) >> 8 == 0xc63364;
}

/* The transport checksum as one's complement sees it: both zeros are right. */
static bool transport_right(const uint8_t *ip, uint32_t length)
{
	uint32_t header = (ip[0] & 15u) * 4, n = length - header;
	uint32_t pseudo = 0;

	if (ip[9] != NAT_ICMP) {
		for (unsigned i = 12; i < 20; i += 2)
			pseudo += (uint32_t)ip[i] << 8 | ip[i + 1];
		pseudo += ip[9] + n;
	}
	uint16_t sum = reference_checksum(ip + header, n, pseudo);
	return sum == 0 || sum == 0xffff;
}

/* Whether some session turns packets into these addresses. */
static bool from_a_session(nat_be32 source, nat_be32 destination, bool any_source)
{
	for (unsigned i = 0; i <= f.n_flows; i++) {
		struct nat_rewrite back = nat_reverse_rewrite(&f.tuple[i]);
		if (f.rewrite[i].destination == destination &&
		    (any_source || f.rewrite[i].source == source))
			return true;
		if (back.destination == destination && (any_source || back.source == source))
			return true;
	}
	return false;
}

static void check_out(const struct engine_packet *packet, bool made_or_split)
{
	const uint8_t *ip = packet->data, *was = f.original;
	struct nat_packet out, in;
	unsigned reason = nat_parse(ip, ip + packet->length, packet->egress, &out);
	nat_be32 source = nat_get32(ip + NAT_IP_SOURCE);
	nat_be32 destination = nat_get32(ip + NAT_IP_DESTINATION);

	must(reason == NAT_REASON_NONE, "what leaves is a packet");
	must(out.total == packet->length, "and nothing behind it");
	must(reference_checksum(ip, out.header, 0) == 0, "its header checksum is right");
	if (packet->egress == NAT_REALM_OUTSIDE)
		must(!is_private(source) || is_bypass(destination), "no private source gets out");

	bool own_error = out.kind == NAT_KIND_ERROR && ip[1] == 0xc0 &&
			 (source == inet_addr("10.255.0.1") || source == inet_addr("10.254.0.1") ||
			  source == inet_addr("192.0.2.254"));
	bool bypass = source == nat_get32(was + NAT_IP_SOURCE) &&
		      destination == nat_get32(was + NAT_IP_DESTINATION) &&
		      (is_bypass(source) || is_bypass(destination));
	must(own_error || bypass || from_a_session(source, destination, out.kind == NAT_KIND_ERROR),
	     "addresses come from a session");
	if (own_error)
		must(transport_right(ip, packet->length), "an error of our own is right");
	if (made_or_split || own_error)
		return;

	nat_parse(was, was + f.original_length, packet->ingress, &in);
	must(in.total == out.total && in.kind == out.kind && in.header == out.header,
	     "length and kind stay");
	if (out.kind == NAT_KIND_FRAGMENT || out.kind == NAT_KIND_ERROR)
		return;
	uint32_t headers = in.header + (in.kind == NAT_KIND_TCP ? 20u : 8u);
	if (f.settings & SET_MSS && in.kind == NAT_KIND_TCP && in.tcp_flags & NAT_TCP_SYN)
		headers = in.header + (was[in.header + NAT_TCP_OFFSET] >> 4) * 4u;
	if (headers > in.total) /* of a fragment */
		return;
	must(memcmp(was + headers, ip + headers, in.total - headers) == 0, "the payload stays");
	if (f.partial || (in.flags & NAT_PACKET_FRAGMENT))
		return;
	if (in.kind == NAT_KIND_UDP && nat_get16(was + in.header + NAT_UDP_CHECKSUM) == 0) {
		must(nat_get16(ip + in.header + NAT_UDP_CHECKSUM) == 0, "no checksum stays none");
		return;
	}
	must(transport_right(was, in.total) == transport_right(ip, out.total),
	     "a checksum is right exactly when it was");
}

static void answer_flow(struct engine_packet *parked, const struct nat_tuple *tuple,
			struct monotime now)
{
	struct wire_answer answer = {.verdict = NAT_TRANSLATE, .direction = NAT_OUTBOUND};

	if (f.settings & SET_REJECT) {
		answer.verdict = NAT_REJECT;
		answer.reason = NAT_REASON_PORTS_EXHAUSTED;
	} else {
		answer.rewrite = (struct nat_rewrite){.source = inet_addr("192.0.2.9"),
						      .destination = tuple->destination,
						      .source_port = 7,
						      .destination_port = tuple->destination_port,
						      .egress = NAT_REALM_OUTSIDE};
		if (tuple->realm == NAT_REALM_OUTSIDE) {
			answer.rewrite.source = tuple->source;
			answer.rewrite.destination = inet_addr("10.0.0.9");
			answer.rewrite.source_port = tuple->source_port;
			answer.rewrite.destination_port = 7;
			answer.rewrite.egress = NAT_REALM_INSIDE;
		}
		f.rewrite[f.n_flows] = answer.rewrite;
	}
	f.tuple[f.n_flows] = *tuple;
	engine_translate(f.engine, parked, &answer, now);
	if (parked->fate == ENGINE_OUT) /* may be a released fragment: compare no payload */
		check_out(parked, true);
}

static unsigned on_ask(void *context, unsigned op, const struct nat_tuple *tuple, uint8_t tcp_flags,
		       const struct engine_packet *packet, struct monotime now)
{
	static uint8_t copy[LENGTH_MAX];
	struct engine_packet parked = *packet;

	must(packet->length <= LENGTH_MAX, "nothing is parked that did not come in");
	if (!(f.settings & SET_ANSWER) || f.n_questions == QUESTIONS)
		return NAT_REASON_PENDING_FULL;
	memcpy(copy, packet->data, packet->length);
	parked.data = copy;
	parked.room = LENGTH_MAX;
	if (!f.shared) {
		answer_flow(&parked, tuple, now);
		return NAT_REASON_NONE;
	}
	parked.data = f.questions[f.n_questions].bytes;
	memcpy(parked.data, copy, packet->length);
	f.questions[f.n_questions].op = op;
	f.questions[f.n_questions].tuple = *tuple;
	f.questions[f.n_questions++].packet = parked;
	return NAT_REASON_NONE;
}

static unsigned on_ask_fragment(void *context, unsigned op, const struct nat_tuple *tuple,
				uint16_t identification, uint64_t datagram, struct monotime now)
{
	if (!f.shared)
		return NAT_REASON_NO_TABLE;
	if (f.n_questions == QUESTIONS)
		return NAT_REASON_PENDING_FULL;
	f.questions[f.n_questions].op = op;
	f.questions[f.n_questions].tuple = *tuple;
	f.questions[f.n_questions].identification = identification;
	f.questions[f.n_questions++].datagram = datagram;
	return NAT_REASON_NONE;
}

/* To FIRST and WHOLE a number; a LATER is told at once or by a notice, of a session that there is.
 */
static void answer_fragment(unsigned op, const struct nat_tuple *tuple, uint16_t identification,
			    uint64_t datagram)
{
	struct wire_answer answer = {.verdict = NAT_TRANSLATE,
				     .identification = (uint16_t)(identification + 1)};
	struct wire_notice notice = {.tuple = *tuple,
				     .identification = identification,
				     .new_identification = answer.identification};
	bool outside = tuple->realm == NAT_REALM_OUTSIDE;

	if (op == WIRE_FRAGMENT_LATER) {
		notice.tuple.source_port = htons(outside ? 53 : 4000);
		notice.tuple.destination_port = htons(outside ? 5000 : 53);
	}
	answer.rewrite.source_port = notice.tuple.source_port;
	answer.rewrite.destination_port = notice.tuple.destination_port;
	if (identification % 2 && op == WIRE_FRAGMENT_LATER)
		answer = (struct wire_answer){.verdict = NAT_DROP,
					      .reason = NAT_REASON_FRAGMENT_UNKNOWN};
	engine_fragment_answer(f.engine, datagram, &answer, f.now);
	if (answer.verdict == NAT_DROP)
		engine_fragment_notice(f.engine, &notice, f.now);
}

static void answer_questions(void)
{
	static uint8_t bytes[LENGTH_MAX];

	for (unsigned n = f.n_questions; n > 0; n--) {
		unsigned op = f.questions[0].op;
		struct nat_tuple tuple = f.questions[0].tuple;
		uint16_t identification = f.questions[0].identification;
		uint64_t datagram = f.questions[0].datagram;
		struct engine_packet packet = f.questions[0].packet;
		memcpy(bytes, f.questions[0].bytes, sizeof bytes);
		packet.data = bytes;
		f.n_questions--;
		for (unsigned i = 0; i < f.n_questions; i++) {
			f.questions[i] = f.questions[i + 1];
			f.questions[i].packet.data = f.questions[i].bytes;
		}
		if (wire_op_is_fragment(op))
			answer_fragment(op, &tuple, identification, datagram);
		else
			answer_flow(&packet, &tuple, f.now);
	}
}

static void on_emit(void *context, const struct engine_packet *packet)
{
	check_out(packet, true);
}

static void add_session(unsigned i, uint8_t protocol)
{
	const char *a = sessions[i].inside, *b = sessions[i].remote, *c = sessions[i].outside;
	struct nat_endpoint inside, remote, outside;
	struct flow flow = {.state = NAT_SLOT_OPEN, .handle = 1, .peer_handle = 1}, evicted[2];
	unsigned n;

	endpoint_parse(&a, &inside);
	endpoint_parse(&b, &remote);
	endpoint_parse(&c, &outside);
	if (protocol == NAT_ICMP)
		remote.port = 0;
	flow.tuple = (struct nat_tuple){inside.address,
					remote.address,
					inside.port,
					remote.port,
					protocol,
					NAT_REALM_INSIDE,
					0};
	flow.rewrite = (struct nat_rewrite){outside.address, remote.address,	outside.port,
					    remote.port,     NAT_REALM_OUTSIDE, {0}};
	f.tuple[f.n_flows] = flow.tuple;
	f.rewrite[f.n_flows] = flow.rewrite;
	if (flowtable_insert(f.flows, &flow, 1, evicted, &n) == 0)
		f.n_flows++; /* of two that differ in the remote port ICMP knows only one */
}

static void set_up(void)
{
	struct engine_owner owner = {
	    .ask = on_ask, .ask_fragment = on_ask_fragment, .emit = on_emit};

	f.seed = 1;
	f.random = random_seeded(&f.seed);
	f.now.ns = SECOND_NS;
	must(flowtable_new(256, &f.random, &f.flows) == 0, "a flow table");
	must(engine_new(f.flows, &owner, &f.random, &f.engine) == 0, "an engine");
	engine_set_valid_until(f.engine, MONOTIME_NEVER);
	for (unsigned i = 0; i < SESSIONS / 3; i++) {
		add_session(i, NAT_UDP);
		add_session(i, NAT_TCP);
		add_session(i, NAT_ICMP);
	}
	must(f.n_flows == SESSIONS - 1, "room for the sessions");
}

static void configure(void)
{
	static int configured = -1;
	static struct engine_config config;

	if (configured == (f.settings & SET_CONFIGURED))
		return;
	configured = f.settings & SET_CONFIGURED;
	golden_defaults(&config);
	config.ttl = f.settings & SET_RESTORE ? ENGINE_TTL_RESTORE : ENGINE_TTL_DECREMENT;
	if (f.settings & SET_MTU)
		config.mtu[0] = config.mtu[1] = 576;
	if (f.settings & SET_MSS)
		config.table.mss_clamp = WIRE_MSS_MIN;
	must(engine_configure(f.engine, &config) == 0, "a configuration");
}

static void feed(uint8_t flags, const uint8_t *bytes, uint32_t length)
{
	uint8_t *exact = malloc(length ? length : 1);
	struct engine_packet packet = {
	    .data = exact,
	    .length = length,
	    .room = length,
	    .ingress = (uint8_t)((flags & RECORD_REALM) % 3),
	    .partial_checksum = flags & RECORD_PARTIAL,
	    .gso_size = flags & RECORD_GSO ? (f.settings & SET_MSS ? 600 : 200) : 0,
	};

	memcpy(exact, bytes, length);
	memset(f.original, 0, NAT_IP_HEADER);
	memcpy(f.original, bytes, length);
	f.original_length = length;
	f.partial = packet.partial_checksum;
	engine_process(engine_worker(f.engine, 1), &packet, 1, f.now);
	if (packet.fate == ENGINE_SLOW)
		engine_slow(f.engine, &packet, f.now);
	must(packet.fate == ENGINE_OUT || packet.fate == ENGINE_DROP || packet.fate == ENGINE_KEPT,
	     "every packet has a fate");
	must(packet.fate != ENGINE_DROP || packet.reason != NAT_REASON_NONE,
	     "every drop has a reason");
	if (packet.fate == ENGINE_OUT)
		check_out(&packet, false);
	free(exact);
}

static void run(const uint8_t *data, size_t size)
{
	for (size_t at = 1; at + RECORD <= size;) {
		uint32_t length = (uint32_t)data[at + 1] << 8 | data[at + 2];
		if (length > size - at - RECORD)
			length = (uint32_t)(size - at - RECORD);
		if (length > LENGTH_MAX)
			length = LENGTH_MAX;
		answer_questions();
		feed(data[at], data + at + RECORD, length);
		at += RECORD + length;
	}
	while (f.n_questions)
		answer_questions();
	/* Inputs do not depend on each other: what waits times out, rate limits are full again. */
	f.now = monotime_add_ms(f.now, 60000);
	engine_tick(f.engine, f.now);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!f.engine)
		set_up();
	if (size < 1)
		return 0;
	f.settings = data[0];
	configure();
	for (unsigned round = 0; round < 2; round++) {
		f.shared = round == 1;
		run(data, size);
	}
	return 0;
}
