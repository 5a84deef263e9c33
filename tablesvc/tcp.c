/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP session tracking (RFC 7857 section 2, after RFC 6146 section 3.5.2): theory of operation.
 *
 *             SYN                 SYN of the other side
 *   (nothing) ---> OPENING ------------------------------> ESTABLISHED <-----------.
 *                                                          |     |   \ RST         | a packet well
 *                                                   FIN out|     |FIN in`--> RESET-'  after the RST
 *                                                          v     v            |
 *                                                      FIN_OUT  FIN_IN        | SYN out
 *                                                   FIN in |     | FIN out    v
 *                                                          `-> CLOSING ---> OPENING (again) ...
 *
 * What moves it are reports: "I saw SYN in this direction". Several dataplanes see one connection,
 * most often each of them one direction; their reports come late, twice, and in any order between
 * them. So the state is not stored. Stored is the set of flags seen in each direction since the
 * connection began, one bit each, and the state is read off the set: an OR does not mind order or
 * repetition. Only two questions depend on order, and both are decided by when the flag was seen
 * (reports carry an age), not by when its report came:
 *
 *  - Does a SYN open the tuple again? When it was seen after the end. Its bits are collected apart
 *    (AGAIN_*) until both sides have spoken; until then the old end stands. A SYN of the outside
 *    alone changes nothing: it may be the late report of the first handshake, or forged.
 *  - Does a FIN or RST end this connection, or was it the one before on the same tuple? The latter
 *    when it was seen before the SYN that opened this one: ignored.
 *
 * A SYN on an ESTABLISHED connection changes nothing either: it may be a retransmission (the
 * SYN-ACK of a lost ACK), or a host that crashed and starts over. The peer of the latter answers with
 * an ACK, the host with RST, and the SYN that comes then opens again (RFC 9293 section 3.5.1).
 *
 * The RST, and those who forge it (RFC 7857 section 2.2). An attacker who knows the tuple can send
 * what looks like the remote's RST; the endpoints check sequence numbers, we don't see them: the
 * direction that would tell them may pass another dataplane. Hence:
 *  - An RST is translated and ends nothing. The session stays for the closing timer (four minutes)
 *    from then on, and whatever other packet is seen more than RESET_ECHO_MS after the last RST
 *    proves that the connection lives: it is ESTABLISHED (or half closed) as before, with the full
 *    timer.
 *  - An RST is no sign of life: it refreshes nothing, in either direction (section 7.1), at the
 *    table or in a dataplane. So a flood of forged ones does not keep a dead session, and, since only
 *    the first one starts the closing timer, does not end a session sooner than one would.
 *  - During the handshake an RST is ignored (as in RFC 6146's INIT states): a forged one cannot keep
 *    the SYN-ACK from establishing the connection. Only, such a session then stays no shorter than
 *    the closing timer, also where the opening timer is configured to be short.
 *  - A forged FIN makes a half-closed session, which has the established timer; two real FINs are
 *    needed for CLOSING, of which the inside's cannot be forged from outside. A forged SYN after
 *    them opens nothing without the inside's.
 * What remains is a connection that is quiet for the four minutes after a forged RST. Nothing
 * that a NAT without sequence numbers sees tells that from a true RST: a host drops a RST outside its
 * window without a word (RFC 5961 section 3.2), and one that is answered by a challenge ACK can be
 * followed by the next one. An operator who minds sets timers.tcp_closing higher.
 *
 * Why RESET_ECHO_MS: packets that were under way when the RST passed, or were seen at another
 * dataplane whose report was slower, are no sign of life. Dataplanes tell about further RSTs,
 * also after the first: packets between two RSTs were its echo, too.
 */
#include "tablesvc/table_internal.h"

enum { RESET_ECHO_MS = 2000 };

enum { SYNS = TCP_SYN_OUT | TCP_SYN_IN, FINS = TCP_FIN_OUT | TCP_FIN_IN,
       AGAIN = TCP_AGAIN_OUT | TCP_AGAIN_IN };

static bool later(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) > 0;
}

/* Whether the connection that the bits speak of is over, as far as is known. */
static bool ended(uint8_t bits)
{
	return (bits & FINS) == FINS || ((bits & TCP_RST) && (bits & SYNS) == SYNS);
}

enum tcp_state tcp_state(uint8_t bits)
{
	if (!bits)
		return TCP_NONE;
	if (ended(bits) && (bits & TCP_AGAIN_OUT))
		return TCP_OPENING;
	if ((bits & FINS) == FINS)
		return TCP_CLOSING;
	if ((bits & SYNS) != SYNS)
		return TCP_OPENING;
	if (bits & TCP_RST)
		return TCP_RESET;
	if (bits & FINS)
		return bits & TCP_FIN_OUT ? TCP_FIN_OUT_SEEN : TCP_FIN_IN_SEEN;
	return TCP_ESTABLISHED;
}

uint32_t tcp_timeout(const struct config_timers *timers, uint8_t bits)
{
	bool had_end = ended(bits) || (bits & TCP_RST);

	switch (tcp_state(bits)) {
	case TCP_ESTABLISHED:
	case TCP_FIN_OUT_SEEN: /* half-closed: the other side may go on for as long as it likes */
	case TCP_FIN_IN_SEEN:
		return timers->tcp_established;
	case TCP_OPENING:
		if (!had_end || timers->tcp_opening > timers->tcp_closing)
			return timers->tcp_opening;
		break;
	default:
		break;
	}
	return timers->tcp_closing;
}

static void syn(struct session *s, bool out, uint32_t when)
{
	if (!ended(s->tcp)) {
		bool opening = (s->tcp & SYNS) != SYNS;
		s->tcp |= out ? TCP_SYN_OUT : TCP_SYN_IN;
		/* An RST of before the second SYN has not kept it from coming. */
		if (opening && (s->tcp & SYNS) == SYNS && later(when, s->since))
			s->tcp &= (uint8_t)~TCP_RST;
		return;
	}
	if (later(s->since, when)) /* of the connection that ended */
		return;
	if (out && !(s->tcp & TCP_AGAIN_OUT))
		s->since = when;
	s->tcp |= out ? TCP_AGAIN_OUT : TCP_AGAIN_IN;
	if ((s->tcp & AGAIN) == AGAIN)
		s->tcp = SYNS;
}

static void fin(struct session *s, bool out, uint32_t when)
{
	if (ended(s->tcp) && (s->tcp & AGAIN)) /* of which of the two connections? */
		return;
	bool closing = (s->tcp & FINS) == FINS;
	s->tcp |= out ? TCP_FIN_OUT : TCP_FIN_IN;
	if (!closing && (s->tcp & FINS) == FINS && later(when, s->since))
		s->since = when;
}

static void rst(struct session *s, uint32_t when)
{
	if ((s->tcp & FINS) == FINS && !(s->tcp & AGAIN)) /* it is over anyway */
		return;
	s->tcp |= TCP_RST;
	s->tcp &= (uint8_t)~AGAIN; /* refused */
	s->since = when;
}

bool tcp_seen(struct session *s, unsigned direction, uint8_t flags, uint32_t when)
{
	enum tcp_state before = tcp_state(s->tcp);
	bool out = direction == NAT_OUTBOUND;

	/* In this order: of flags that came in one report, the SYN began the connection. */
	if (flags & NAT_TCP_SYN)
		syn(s, out, when);
	if (later(s->since, when))
		flags &= (uint8_t) ~(NAT_TCP_FIN | NAT_TCP_RST);
	if (flags & NAT_TCP_FIN)
		fin(s, out, when);
	if (flags & NAT_TCP_RST)
		rst(s, when);
	return tcp_state(s->tcp) != before;
}

bool tcp_alive(struct session *s, uint32_t last)
{
	if (tcp_state(s->tcp) != TCP_RESET ||
	    !later(last, s->since + ticks_of_ms(RESET_ECHO_MS)))
		return false;
	s->tcp &= (uint8_t) ~(TCP_RST | AGAIN);
	return true;
}
