/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP session tracking (RFC 7857 section 2): what reports of two dataplanes make of a session. The
 * connection's way out passes dataplane A and its way in B, so no report is about both.
 *
 * A story is a line of words. S, F, R: a SYN, FIN, RST is reported, "o" by A outbound, "i" by B
 * inbound, with "@ms" when it was seen so long before. D: data, reported as late as it may be, by the
 * answer to a question about activity (ACTIVE). N: a SYN that asks at a third dataplane (RESOLVE).
 * +s: so many seconds pass. =state: the state now. All begin with the SYN that makes the session.
 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/table_rig.h"

static struct rig rig;
static uint32_t dp_out, dp_in, dp_third;
static struct nat_tuple tcp;
static struct wire_answer session;

static void open_story(void)
{
	dp_out = rig_attach(&rig, 1);
	dp_in = rig_attach(&rig, 2);
	dp_third = rig_attach(&rig, 3);
	tcp = tuple_of(NAT_TCP, 1, "10.0.0.1", 5000, "198.51.100.1", 80);
	session = rig_out(&rig, dp_out, tcp);
	cr_assert_eq(session.verdict, NAT_TRANSLATE);
}

static void start(void)
{
	rig_config(&rig);
	rig_start(&rig);
	open_story();
}

static void stop(void)
{
	rig_stop(&rig);
}

TestSuite(table_tcp, .init = start, .fini = stop);

static struct table_session_row row_now(void)
{
	struct table_session_row row = {.state = "gone"};
	uint64_t cursor = 0;
	while (table_sessions(rig.table, &(struct table_filter){0}, &cursor, &row, 1, rig.now) == 0 &&
	       cursor)
		;
	return row;
}

static void drain(void)
{
	for (uint32_t d = 0; d < 3; d++) {
		rig_collect(&rig, d);
		rig_heartbeat(&rig, d, true);
	}
}

static void tell(const char *story)
{
	char words[256];
	snprintf(words, sizeof words, "%s", story);
	for (char *save, *word = strtok_r(words, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		const char *at = strchr(word, '@');
		uint32_t age = at ? (uint32_t)atoi(at + 1) : 0;
		bool out = word[1] == 'o';
		uint32_t dp = out ? dp_out : dp_in;
		uint8_t flags = word[0] == 'S'	 ? NAT_TCP_SYN
				: word[0] == 'F' ? NAT_TCP_FIN
						 : NAT_TCP_RST;
		switch (word[0]) {
		case 'S':
		case 'F':
		case 'R':
			rig_report(&rig, dp, WIRE_FLAGS, session.handle, age, flags,
				   out ? NAT_OUTBOUND : NAT_INBOUND);
			break;
		case 'D':
			rig_report(&rig, dp, WIRE_ACTIVE, session.handle, age, 0, 0);
			break;
		case 'N':
			rig_ask(&rig, dp_third, out ? WIRE_RESOLVE_OUT : WIRE_RESOLVE_IN,
				out ? tcp : rig_reverse(tcp, &session), NAT_TCP_SYN);
			break;
		case '+':
			rig_pass(&rig, atoi(word + 1) * 1000, 7);
			break;
		case '=':
			cr_expect_str_eq(row_now().state, word + 1, "\"%s\": %s is %s", story, word,
					 row_now().state);
			break;
		default:
			cr_assert_fail("%s", word);
		}
		drain();
	}
}

struct story {
	char line[200];
};

/* RFC 7857 section 2, RFC 6146 section 3.5.2, RFC 5382 REQ-2 */
ParameterizedTestParameters(table_tcp_stories, come_out)
{
	static struct story rows[] = {
	    /* opening */
	    {"=opening"},
	    {"So =opening Si =established"},
	    {"+100 So =opening"},      /* retransmitted SYN */
	    {"Si =established Si Si =established"}, /* retransmitted SYN-ACK */
	    {"Si So =established"},    /* simultaneous open, and its SYN-ACKs (REQ-2a) */
	    {"Fo =opening Si =fin-out"}, /* closed before the SYN-ACK's report came */
	    {"Ri =opening +1 Si =established"},	     /* a forged RST does not keep it from opening */
	    {"+1 Si@500 =established Ri =reset"},
	    {"+1 Ri =opening Si@500 =reset"}, /* the same, the reports crossed */
	    {"Ri =opening Ro =opening"},
	    /* established */
	    {"Si +1000 So =established Si =established"}, /* a crashed host: SYN, and its peer's ACK */
	    {"Si +1000 So =established Ro =reset So =opening Si =established"}, /* ... RST, SYN */
	    {"Si +1000 Ni =established"}, /* a forged SYN */
	    /* closing */
	    {"Si Fo =fin-out +7000 Do =fin-out Fo =fin-out"}, /* half-closed, for long */
	    {"Si Fi =fin-in +7000 Di =fin-in"},
	    {"Si Fo Fi =closing Fo Fi =closing"}, /* retransmitted FINs */
	    {"Si Fi Fo =closing"},
	    {"Fi Fo Si =closing"}, /* B's SYN report comes last */
	    {"Si Fo Fi +10 Do@1000 Di@1000 =closing"}, /* packets do not open what both closed */
	    {"Si Fo Fi Ro Ri =closing"},
	    {"Si Fo Fi +10 Ro Do =closing"},
	    /* reset */
	    {"Si +1 Ri =reset +3 Do =established"},
	    {"Si +1 Ro =reset +3 Di =established"},
	    {"Si +1 Ri =reset +1 Do =reset"}, /* under way when the RST passed */
	    {"Si +1 Ri =reset +100 Do@99000 =reset"},
	    {"Si +1 Ri =reset +100 Do@90000 =established"},
	    {"Si +1 Ri +5 Ri +1 Do =reset +2 Do =established"}, /* the last RST counts */
	    {"Si Fi +1 Ri =reset +3 Do =fin-in"},
	    {"Si Fi +1 Ri =reset Fo =closing"},
	    {"Si +1 Ri +3 Do =established +100 Ri =reset"}, /* and the next RST is heard */
	    /* open again */
	    {"Si Fo Fi +1 So =opening Si =established"},
	    {"Si Fo Fi +1 Si =closing So =established"}, /* SYN-ACK's report before the SYN's */
	    {"Si Fo Fi +1 Si =closing"},		  /* the outside's SYN alone: nothing */
	    {"Si Fo Fi +1 So =opening Ri =closing"},	  /* refused */
	    {"Si Fo Fi +1 No =opening Si =established"},  /* at a dataplane that never saw it */
	    {"Si +1 Ri =reset +1 So =opening Si =established"},
	    {"Si +1 Ri =reset +10 No =opening +10 Do =opening Si =established"},
	    {"Si +1 Ri =reset Si =reset +3 Do =established"}, /* forged RST, forged SYN */
	    {"Si +1 Ri =reset +1 So =opening Ri =reset"},
	    /* reports of the connection before, from a dataplane that was slow */
	    {"+1 Si Fo Fi@10 =closing Si@1000 =closing So@1000 =closing"},
	    {"Si +9 Fo Fi +1 So Si =established +1 Fo@5000 Fi@5000 =established"},
	    {"Si +9 Fo Fi +1 So Si =established +1 Ro@5000 Ri@5000 =established"},
	    {"Si +9 Fo Fi +1 So Si +1 Fo =fin-out Fi =closing"},
	};
	return cr_make_param_array(struct story, rows, sizeof rows / sizeof rows[0]);
}

ParameterizedTest(struct story *story, table_tcp_stories, come_out)
{
	start();
	tell(story->line);
	stop();
}

/* Whatever the order in which two dataplanes' reports of one connection arrive. */
Test(table_tcp, order_of_reports_does_not_matter)
{
	/* seen at these instants, ms ago: SYN-ACK 400, FIN out 300, FIN in 200; some twice */
	static const char *const reports[4] = {"Si@400", "Fo@300", "Fi@200", "Fo@300"};
	unsigned orders = 0;
	for (unsigned n = 0; n < 256; n++) {
		unsigned used = 0;
		char story[128] = "+1";
		for (unsigned i = 0; i < 4; i++) {
			unsigned which = n >> 2 * i & 3;
			used |= 1u << which;
			strcat(story, " ");
			strcat(story, reports[which]);
		}
		if (used != 15)
			continue;
		strcat(story, " =closing");
		orders++;
		stop();
		start();
		tell(story);
	}
	cr_expect_eq(orders, 24);
}

/* How long until the session ends when no dataplane has seen a packet since; at most a day. */
static int64_t until_gone(void)
{
	for (int64_t ms = 0; ms < 86400000; ms += 500) {
		rig_pass(&rig, 500, 7);
		for (uint32_t d = 0; d < 3; d++) {
			rig_collect(&rig, d);
			rig_heartbeat(&rig, d, true);
			for (unsigned i = 0; i < rig.n_notices; i++)
				if (rig.kinds[i] == WIRE_EXPIRE)
					rig_report(&rig, d, WIRE_DROPPED, rig.notices[i].handle,
						   UINT32_MAX, 0, 0);
		}
		if (rig_counters(&rig).sessions == 0)
			return ms + 500;
	}
	return -1;
}

struct lasting {
	char line[100];
	unsigned seconds;
};

/* RFC 5382 REQ-5, RFC 7857 section 2.1: two transitory timers; section 2.2: the RST */
ParameterizedTestParameters(table_tcp_timers, last)
{
	static struct lasting rows[] = {
	    {"=opening", 30},
	    {"So Si", 7440},
	    {"Si Fo", 7440},
	    {"Si Fo Fi", 200},
	    {"Si +1 Ri", 200},
	    {"Si +1 Ri +100 Ri", 100},	 /* more RSTs do not make it longer */
	    {"Si +1 Ri +3 Do", 7440},	 /* a forged one makes it no shorter */
	    {"Ri =opening", 200},	 /* RFC 7857 2.2: not sooner than after any other RST */
	    {"Si +1 Ri +1 So =opening", 200}, /* forged RST and SYN: not sooner than the RST alone */
	    {"Si Fo Fi +100 Fo Fi", 100},
	};
	return cr_make_param_array(struct lasting, rows, sizeof rows / sizeof rows[0]);
}

ParameterizedTest(struct lasting *row, table_tcp_timers, last)
{
	rig_config(&rig);
	rig.config.timers.tcp_opening = 30000;
	rig.config.timers.tcp_closing = 200000;
	rig_start(&rig);
	open_story();
	tell(row->line);
	int64_t gone = until_gone();
	cr_expect(gone >= (int64_t)row->seconds * 1000 && gone <= (int64_t)row->seconds * 1000 + 3000,
		  "\"%s\": gone after %lld ms, not %u s", row->line, (long long)gone, row->seconds);
	stop();
}

/* RFC 7857 section 7.1: an RST keeps nothing, whoever sends it, asked about or not */
Test(table_tcp, an_rst_does_not_refresh)
{
	static const unsigned ops[2] = {WIRE_RESOLVE_OUT, WIRE_RESOLVE_IN};
	for (unsigned i = 0; i < 2; i++) {
		tell("Si +1 Ro =reset +230");
		rig_ask(&rig, dp_third, ops[i],
			i ? rig_reverse(tcp, &session) : tcp, NAT_TCP_RST | NAT_TCP_ACK);
		cr_expect_str_eq(row_now().state, "reset");
		int64_t gone = until_gone();
		cr_expect(gone <= 13000, "%lld ms", (long long)gone);
		stop();
		start();
	}
}

/* RFC 5382 REQ-4: nothing is said about an unsolicited SYN, and no private source leaks */
struct stray {
	char name[32];
	uint8_t flags;
	bool opens;
};

ParameterizedTestParameters(table_tcp_stray, without_a_session)
{
	static struct stray rows[] = {
	    {"SYN", NAT_TCP_SYN, true},
	    {"SYN-ACK", NAT_TCP_SYN | NAT_TCP_ACK, false},
	    {"ACK", NAT_TCP_ACK, false},
	    {"FIN", NAT_TCP_FIN | NAT_TCP_ACK, false},
	    {"RST", NAT_TCP_RST, false},
	    {"nothing", 0, false},
	    {"SYN and FIN", NAT_TCP_SYN | NAT_TCP_FIN, false},
	    {"SYN and RST", NAT_TCP_SYN | NAT_TCP_RST, false},
	};
	return cr_make_param_array(struct stray, rows, sizeof rows / sizeof rows[0]);
}

ParameterizedTest(struct stray *row, table_tcp_stray, without_a_session)
{
	rig_config(&rig);
	rig.pool.filtering_tcp = CONFIG_EIF;
	rig_start(&rig);
	open_story();
	struct nat_tuple out = tuple_of(NAT_TCP, 1, "10.0.0.7", 700, "203.0.113.1", 80);
	struct wire_answer a = rig_ask(&rig, dp_out, WIRE_RESOLVE_OUT, out, row->flags);
	cr_expect_eq(a.verdict, row->opens ? NAT_TRANSLATE : NAT_DROP, "%s out", row->name);
	struct nat_tuple in = rig_reverse(tcp, &session);
	in.source = ip("203.0.113.9");
	struct wire_answer b = rig_ask(&rig, dp_in, WIRE_RESOLVE_IN, in, row->flags);
	cr_expect_eq(b.verdict, row->opens ? NAT_TRANSLATE : NAT_DROP, "%s in", row->name);
	if (!row->opens) {
		cr_expect_eq(a.reason, NAT_REASON_TCP_OUT_OF_STATE);
		cr_expect_eq(b.reason, NAT_REASON_TCP_OUT_OF_STATE);
		cr_expect_eq(a.ttl_ms + b.ttl_ms, 0, "and nothing is cached");
		cr_expect_eq(rig_counters(&rig).sessions, 1);
	}
	stop();
}

/* An unsolicited SYN to a port that nobody has, or to one that a filter guards: silence. */
Test(table_tcp, an_unsolicited_syn_is_never_answered)
{
	struct nat_tuple in = rig_reverse(tcp, &session);
	in.source = ip("203.0.113.9");
	struct wire_answer guarded = rig_in(&rig, dp_in, in);
	in.destination_port ^= htons(1);
	struct wire_answer nobody = rig_in(&rig, dp_in, in);
	cr_expect_eq(guarded.verdict, NAT_DROP, "RFC 5382 REQ-4: no ICMP, no RST");
	cr_expect_eq(nobody.verdict, NAT_DROP);
}
