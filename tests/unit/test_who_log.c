/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who had it, from the event log: a table of logs, in a shorthand, and what they answer.
 *
 *   "20 +b 10.0.0.1 1024"              block_allocated at second 20: ports 1024 to 1279 of
 * 192.0.2.1 "30 -b 10.0.0.1 1024"              block_released "20 +m tcp 10.0.0.5 8443 443"
 * static_added; -m static_removed "20 +s udp 10.0.0.1 5000 1030"     session_created; -s
 * session_ended "0 start", "9 stop", "5 lost 3", "5 pause", "6 resume", "5 other" (another
 * address), "torn", "==="
 *
 * RFC 6888 REQ-12, REQ-14: what blocks alone have to be enough for.
 */
#include "tablesvc/ctl/who_log.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "common/base/err.h"
#include "tablesvc/ctl/who_time.h"

static const char *stamp(unsigned second)
{
	static char text[40];
	time_t t = 1767225600 + (time_t)second; /* 2026-01-01T00:00:00Z */
	struct tm tm;
	gmtime_r(&t, &tm);
	strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S.000Z", &tm);
	return text;
}

static void expand(const char *line, FILE *out)
{
	unsigned second, a, b, c;
	char what[8], protocol[8], who[16];
	int at = 0;

	if (strncmp(line, "torn", 4) == 0) {
		fputs("{\"time\":\"2026-01-01T00:0\n", out);
		return;
	}
	cr_assert_eq(sscanf(line, "%u %7s %n", &second, what, &at), 2, "%s", line);
	fprintf(out, "{\"time\":\"%s\",\"event\":\"", stamp(second));
	if (what[1] == 'b' && sscanf(line + at, "%15s %u", who, &a) == 2) {
		bool rule = strncmp(who, "rule", 4) == 0;
		fprintf(out,
			"block_%s\",\"pool\":\"main\",\"realm\":\"lan\",\"%s\":\"%s\","
			"\"external\":\"192.0.2.1\",\"first_port\":%u,\"last_port\":%u}\n",
			what[0] == '+' ? "allocated" : "released", rule ? "redirect" : "subscriber",
			who, a, a + 255);
	} else if (strcmp(what + 1, "a") == 0) {
		cr_assert_eq(sscanf(line + at, "%7s %15s", protocol, who), 2);
		fprintf(out,
			"address_%s\",\"pool\":\"main\",\"realm\":\"lan\",\"protocol\":\"%s\","
			"\"subscriber\":\"%s\",\"external\":\"192.0.2.1\",\"first_port\":0,"
			"\"last_port\":65535}\n",
			what[0] == '+' ? "allocated" : "released", protocol, who);
	} else if (strncmp(line + at, "all ", 4) == 0) {
		cr_assert_eq(sscanf(line + at, "all %15s", who), 1);
		fprintf(out,
			"static_%s\",\"pool\":\"main\",\"realm\":\"lan\",\"subscriber\":\"%s\","
			"\"internal_port\":0,\"external\":\"192.0.2.1\",\"external_port\":0}\n",
			what[0] == '+' ? "added" : "removed", who);
	} else if (sscanf(line + at, "%7s %15s %u %u", protocol, who, &a, &b) == 4) {
		fprintf(out,
			"%s\",\"pool\":\"main\",\"realm\":\"lan\",\"protocol\":\"%s\","
			"\"subscriber\":\"%s\",\"internal_port\":%u,\"external\":\"192.0.2.1\","
			"\"external_port\":%u}\n",
			what[1] == 'm' ? (what[0] == '+' ? "static_added" : "static_removed")
				       : (what[0] == '+' ? "session_created" : "session_ended"),
			protocol, who, a, b);
	} else if (strcmp(what, "plan") == 0) {
		cr_assert_eq(sscanf(line + at, "%u %u %u", &a, &b, &c), 3);
		fprintf(out,
			"deterministic_pool\",\"pool\":\"main\",\"first_port\":%u,\"last_port\":"
			"65535,\"ports\":%u,\"addresses\":%u,\"subscribers\":9}\n",
			a, b, c);
	} else if (strcmp(what, "out") == 0 || strcmp(what, "in") == 0) {
		cr_assert_eq(sscanf(line + at, "%15s %u", who, &a), 2);
		fprintf(out,
			"deterministic_%sside\",\"pool\":\"main\",\"realm\":\"lan\",\"prefix\":"
			"\"%s\",\"number\":%u}\n",
			what, who, a);
	} else if (strcmp(what, "other") == 0) {
		fputs("block_allocated\",\"pool\":\"main\",\"realm\":\"lan\",\"subscriber\":"
		      "\"10.9.9.9\",\"external\":\"192.0.2.10\",\"first_port\":1024,"
		      "\"last_port\":1279}\n",
		      out);
	} else {
		fprintf(out, "%s\",\"count\":%d}\n",
			strcmp(what, "start") == 0    ? "service_started"
			: strcmp(what, "config") == 0 ? "configuration_changed"
			: strcmp(what, "stop") == 0   ? "service_stopped"
			: strcmp(what, "lost") == 0   ? "events_lost"
			: strcmp(what, "pause") == 0  ? "log_paused"
						      : "log_resumed",
			atoi(line + at));
	}
}

/* A file of the shorthand up to "===" or the end; *text moves on. */
static FILE *file_of(const char **text)
{
	FILE *file = tmpfile();
	char line[128];

	while (**text) {
		size_t n = strcspn(*text, "\n");
		snprintf(line, sizeof line, "%.*s", (int)n, *text);
		*text += n + ((*text)[n] == '\n');
		if (strcmp(line, "===") == 0)
			break;
		expand(line, file);
	}
	rewind(file);
	return file;
}

static void add_time(char *out, size_t size, bool known, int64_t ms)
{
	size_t used = strlen(out);
	snprintf(out + used, size - used, known ? "%d" : "?", (int)(ms / 1000 - 1767225600));
}

struct row {
	const char *name, *log;
	unsigned at, port;
	const char *protocol;
	const char *holders; /* "kind who from..until, ..." */
	const char *flags;   /* of the answer: complete, reached, beyond, clock, lost */
};

#define PLAN                                                                                       \
	"0 start\n1 plan 1024 64 2\n1 out 192.0.2.0/31 0\n1 in 10.0.0.0/30 0\n"                    \
	"1 in 10.0.1.0/24 4\n9 other"

static const struct row rows[] = {
    {"inside of its time", "0 start\n10 +b 10.0.0.1 1024\n20 -b 10.0.0.1 1024", 15, 1100, "",
     "block 10.0.0.1 10..20", "complete"},
    {"from its first second", "0 start\n10 +b 10.0.0.1 1024\n20 -b 10.0.0.1 1024", 10, 1024, "",
     "block 10.0.0.1 10..20", "complete"},
    {"up to the last port", "0 start\n10 +b 10.0.0.1 1024\n20 -b 10.0.0.1 1024", 15, 1279, "",
     "block 10.0.0.1 10..20", "complete"},
    {"but not beyond", "0 start\n10 +b 10.0.0.1 1024\n20 -b 10.0.0.1 1024", 15, 1280, "", "",
     "complete"},
    {"not before", "0 start\n10 +b 10.0.0.1 1024\n20 -b 10.0.0.1 1024", 9, 1100, "", "",
     "complete"},
    {"not after", "0 start\n10 +b 10.0.0.1 1024\n20 -b 10.0.0.1 1024\n99 other", 21, 1100, "", "",
     "complete"},
    {"still has it", "0 start\n10 +b 10.0.0.1 1024\n50 other", 40, 1100, "", "block 10.0.0.1 10..?",
     "complete"},
    {"the log ends before", "0 start\n10 +b 10.0.0.1 1024", 40, 1100, "", "block 10.0.0.1 10..?",
     "complete beyond"},
    {"one after the other",
     "0 start\n10 +b 10.0.0.1 1024\n20 -b 10.0.0.1 1024\n30 +b 10.0.0.2 1024\n40 -b 10.0.0.2 1024",
     35, 1100, "", "block 10.0.0.2 30..40", "complete"},
    {"two within the second that was asked for",
     "0 start\n10 +b 10.0.0.1 1024\n20 -b 10.0.0.1 1024\n20 +b 10.0.0.2 1024\n40 -b 10.0.0.2 1024",
     20, 1100, "", "block 10.0.0.2 20..40", "complete"},
    {"another block of the same host",
     "0 start\n10 +b 10.0.0.1 1024\n11 +b 10.0.0.1 1280\n20 -b 10.0.0.1 1024\n99 other", 30, 1300,
     "", "block 10.0.0.1 11..?", "complete"},
    /* restarts */
    {"a start ends everything", "0 start\n10 +b 10.0.0.1 1024\n20 start\n99 other", 30, 1100, "",
     "", "complete"},
    {"until the start", "0 start\n10 +b 10.0.0.1 1024\n20 start\n99 other", 15, 1100, "",
     "block 10.0.0.1 10..20 until the service started again", "complete"},
    {"a stop does not: dataplanes go on", "0 start\n10 +b 10.0.0.1 1024\n20 stop\n60 start", 30,
     1100, "", "block 10.0.0.1 10..60 until the service started again", "complete"},
    /* how far the log reaches */
    {"before the log", "50 start\n60 +b 10.0.0.1 1024", 10, 1100, "", "", ""},
    {"nobody since the log began, without a start", "0 other\n50 other", 10, 1100, "", "",
     "reached"},
    {"who was there already", "0 other\n50 -b 10.0.0.1 1024", 10, 1100, "",
     "block 10.0.0.1 ?..50 its allocation is not in the log", "reached"},
    {"but not before the log", "20 other\n50 -b 10.0.0.1 1024", 10, 1100, "", "", ""},
    {"an empty log", "", 10, 1100, "", "", ""},
    /* what is missing */
    {"a release without an allocation, after another's time",
     "0 start\n10 +b 10.0.0.1 1024\n20 -b 10.0.0.1 1024\n40 -b 10.0.0.2 1024", 30, 1100, "",
     "block 10.0.0.2 ?..40 its allocation is not in the log", "complete"},
    {"overlapping: a release and an allocation are missing",
     "0 start\n10 +b 10.0.0.1 1024\n40 -b 10.0.0.2 1024", 30, 1100, "",
     "block 10.0.0.1 10..40 its release is not in the log, "
     "block 10.0.0.2 ?..40 its allocation is not in the log",
     "complete"},
    {"an allocation over another's", "0 start\n10 +b 10.0.0.1 1024\n40 +b 10.0.0.2 1024\n50 other",
     45, 1100, "", "block 10.0.0.2 40..?", "complete"},
    {"and before it", "0 start\n10 +b 10.0.0.1 1024\n40 +b 10.0.0.2 1024\n50 other", 30, 1100, "",
     "block 10.0.0.1 10..40 its release is not in the log", "complete"},
    {"lost events before", "0 start\n5 lost 3\n50 other", 30, 1100, "", "", "reached lost3"},
    {"lost events after", "0 start\n35 lost 3\n50 other", 30, 1100, "", "", "complete"},
    {"a start makes up for them", "0 start\n5 lost 3\n20 start\n50 other", 30, 1100, "", "",
     "complete"},
    {"paused", "0 start\n5 pause\n20 resume\n50 other", 30, 1100, "", "", "reached"},
    {"a torn line", "0 start\n10 +b 10.0.0.1 1024\ntorn\n20 -b 10.0.0.1 1024", 15, 1100, "",
     "block 10.0.0.1 10..20", "complete"},
    /* the wall clock */
    {"set back while somebody has it: before",
     "0 start\n100 +b 10.0.0.1 1024\n120 other\n"
     "60 other\n70 -b 10.0.0.1 1024\n80 other",
     110, 1100, "", "block 10.0.0.1 100..70", "complete clock"},
    {"set back while somebody has it: after",
     "0 start\n100 +b 10.0.0.1 1024\n120 other\n60 other\n70 -b 10.0.0.1 1024\n80 other", 65, 1100,
     "", "block 10.0.0.1 100..70", "complete clock"},
    {"set back: the same time belonged to two",
     "0 start\n50 +b 10.0.0.1 1024\n100 -b 10.0.0.1 1024\n50 +b 10.0.0.2 1024\n"
     "100 -b 10.0.0.2 1024",
     75, 1100, "", "block 10.0.0.1 50..100, block 10.0.0.2 50..100", "complete clock"},
    {"set back: nobody the second time",
     "0 start\n50 +b 10.0.0.1 1024\n100 -b 10.0.0.1 1024\n10 other\n200 other", 20, 1100, "", "",
     "complete clock"},
    {"set forward", "0 start\n10 +b 10.0.0.1 1024\n100000 -b 10.0.0.1 1024", 5000, 1100, "",
     "block 10.0.0.1 10..100000", "complete"},
    /* rotated files, whatever their order */
    {"two files", "0 start\n10 +b 10.0.0.1 1024\n===\n20 other\n30 -b 10.0.0.1 1024", 25, 1100, "",
     "block 10.0.0.1 10..30", "complete"},
    {"the newer one first", "20 other\n30 -b 10.0.0.1 1024\n===\n0 start\n10 +b 10.0.0.1 1024", 25,
     1100, "", "block 10.0.0.1 10..30", "complete"},
    {"three, one of them empty",
     "30 -b 10.0.0.1 1024\n===\n===\n0 start\n10 +b 10.0.0.1 1024\n===\n20 other", 25, 1100, "",
     "block 10.0.0.1 10..30", "complete"},
    {"the oldest is missing", "20 other\n30 -b 10.0.0.1 1024", 25, 1100, "",
     "block 10.0.0.1 ?..30 its allocation is not in the log", "reached"},
    /* static mappings and sessions */
    {"a static mapping", "0 start\n10 +m tcp 10.0.0.5 8443 443\n20 -m tcp 10.0.0.5 8443 443", 15,
     443, "", "static tcp 10.0.0.5:8443 10..20", "complete"},
    {"of the protocol that is asked for",
     "0 start\n10 +m tcp 10.0.0.5 8443 443\n11 +m udp 10.0.0.6 1 443\n50 other", 15, 443, "udp",
     "static udp 10.0.0.6:1 11..?", "complete"},
    {"inside of another's block",
     "0 start\n10 +m tcp 10.0.0.5 80 1100\n12 +b 10.0.0.1 1024\n50 other", 15, 1100, "tcp",
     "static tcp 10.0.0.5:80 10..?, block 10.0.0.1 12..?", "complete"},
    {"an address in one protocol", "0 start\n10 +a gre 10.0.0.7 0 0\n20 -a gre 10.0.0.7 0 0", 15,
     1100, "", "address gre 10.0.0.7 10..20", "complete"},
    {"not in another", "0 start\n10 +a gre 10.0.0.7 0 0\n20 -a gre 10.0.0.7 0 0", 15, 1100, "esp",
     "", "complete"},
    {"a whole address", "0 start\n10 +m all 10.0.0.7 0 0\n20 -m all 10.0.0.7 0 0", 15, 1100, "tcp",
     "static 10.0.0.7 10..20", "complete"},
    {"a redirect's block", "0 start\n10 +b rule7 1024\n20 -b rule7 1024", 15, 1100, "",
     "block redirect rule7 10..20", "complete"},
    /* RFC 7422: computed */
    {"a fixed range", PLAN, 5, 1024, "", "fixed 10.0.0.1 1..?", "complete"},
    {"the second of the address", PLAN, 5, 1024 + 64, "", "fixed 10.0.0.3 1..?", "complete"},
    {"in the next prefix", PLAN, 5, 1024 + 2 * 64, "", "fixed 10.0.1.1 1..?", "complete"},
    {"its last port", PLAN, 5, 1024 + 127, "", "fixed 10.0.0.3 1..?", "complete"},
    {"below the ranges", PLAN, 5, 1023, "", "", "complete"},
    {"behind the last subscriber", PLAN, 5, 1024 + 64 * 130, "", "", "complete"},
    {"another plan from then on",
     PLAN "\n20 config\n20 plan 1024 64 1\n20 out 192.0.2.1/32 0\n20 in 10.7.0.0/30 0\n30 other",
     25, 1024, "", "fixed 10.7.0.0 20..?", "complete"},
    {"the old one before",
     PLAN "\n20 config\n20 plan 1024 64 1\n20 out 192.0.2.1/32 0\n20 in 10.7.0.0/30 0\n30 other",
     15, 1024, "", "fixed 10.0.0.1 1..20", "complete"},
    {"no longer deterministic", PLAN "\n20 config\n30 other", 25, 1024, "", "", "complete"},
    {"sessions of one mapping are one",
     "0 start\n10 +b 10.0.0.1 1024\n10 +s udp 10.0.0.1 5000 1030\n12 +s udp 10.0.0.1 5000 1030\n"
     "14 -s udp 10.0.0.1 5000 1030\n20 -s udp 10.0.0.1 5000 1030\n30 -b 10.0.0.1 1024",
     16, 1030, "", "session udp 10.0.0.1:5000 10..20, block 10.0.0.1 10..30", "complete"},
    {"and over with the last",
     "0 start\n10 +b 10.0.0.1 1024\n10 +s udp 10.0.0.1 5000 1030\n12 +s udp 10.0.0.1 5000 1030\n"
     "14 -s udp 10.0.0.1 5000 1030\n20 -s udp 10.0.0.1 5000 1030\n30 -b 10.0.0.1 1024",
     25, 1030, "", "block 10.0.0.1 10..30", "complete"},
};

static void answer_text(const struct who_answer *a, char *out, size_t size)
{
	out[0] = '\0';
	for (unsigned i = 0; i < a->n; i++) {
		const struct who_holding *h = &a->holdings[i];
		size_t used = strlen(out);
		used +=
		    (size_t)snprintf(out + used, size - used, "%s%s %s%s%s%s%s", i ? ", " : "",
				     h->kind, h->protocol, h->protocol[0] ? " " : "",
				     h->redirect[0] ? "redirect " : "", h->redirect, h->subscriber);
		if (h->internal_port)
			used += (size_t)snprintf(out + used, size - used, ":%u", h->internal_port);
		strcat(out, " ");
		add_time(out, size, h->from_known, h->from_ms);
		strcat(out, "..");
		add_time(out, size, h->until_known, h->until_ms);
		if (h->note[0])
			strcat(strcat(out, " "), h->note);
		cr_expect_str_eq(h->realm, "lan");
		cr_expect_str_eq(h->pool, "main");
	}
}

static void flags_text(const struct who_answer *a, char *out, size_t size)
{
	snprintf(out, size, "%s%s%s",
		 a->complete  ? "complete"
		 : a->reached ? "reached"
			      : "",
		 a->beyond ? " beyond" : "", a->clock_back ? " clock" : "");
	if (a->lost)
		snprintf(out + strlen(out), size - strlen(out), " lost%u", (unsigned)a->lost);
}

Test(who_log, a_table_of_logs)
{
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		const struct row *row = &rows[i];
		struct who_question q = {.address = "192.0.2.1", .port = (uint16_t)row->port};
		struct who_search *search;
		struct who_answer answer;
		char text[1024], flags[64];
		const char *log = row->log;

		strcpy(q.protocol, row->protocol);
		cr_assert(who_parse_time(stamp(row->at), &q.first_ms, &q.last_ms));
		cr_assert_eq(who_search_new(&q, &search), 0);
		do
			cr_assert_eq(who_search_add(search, file_of(&log)), 0);
		while (*log);
		cr_assert_eq(who_search_run(search, &answer), 0);
		answer_text(&answer, text, sizeof text);
		flags_text(&answer, flags, sizeof flags);
		cr_expect_str_eq(text, row->holders, "%s: \"%s\", wanted \"%s\"", row->name, text,
				 row->holders);
		cr_expect_str_eq(flags, row->flags, "%s: \"%s\", wanted \"%s\"", row->name, flags,
				 row->flags);
		who_search_free(search);
	}
}

Test(who_log, a_second_is_all_of_its_milliseconds)
{
	static const char log[] = "{\"time\":\"2026-01-01T00:00:05.400Z\",\"event\":"
				  "\"block_allocated\",\"subscriber\":\"10.0.0.1\",\"external\":"
				  "\"192.0.2.1\",\"first_port\":1024,\"last_port\":1279}\n"
				  "{\"time\":\"2026-01-01T00:00:05.600Z\",\"event\":"
				  "\"block_released\",\"subscriber\":\"10.0.0.1\",\"external\":"
				  "\"192.0.2.1\",\"first_port\":1024,\"last_port\":1279}\n";
	static const struct {
		const char *at;
		unsigned n;
	} times[] = {{"2026-01-01T00:00:05Z", 1},     {"2026-01-01T00:00:05.399Z", 0},
		     {"2026-01-01T00:00:05.400Z", 1}, {"2026-01-01T00:00:05.6Z", 0},
		     {"2026-01-01T00:00:04Z", 0},     {"2026-01-01T00:00:06Z", 0}};
	for (unsigned i = 0; i < sizeof times / sizeof times[0]; i++) {
		struct who_question q = {.address = "192.0.2.1", .port = 1024};
		struct who_search *search;
		struct who_answer answer;
		FILE *file = tmpfile();
		fputs(log, file);
		rewind(file);
		cr_assert(who_parse_time(times[i].at, &q.first_ms, &q.last_ms));
		cr_assert_eq(who_search_new(&q, &search), 0);
		who_search_add(search, file);
		cr_assert_eq(who_search_run(search, &answer), 0);
		cr_expect_eq(answer.n, times[i].n, "%s: %u", times[i].at, answer.n);
		who_search_free(search);
	}
}

Test(who_log, what_is_no_log)
{
	static const struct {
		const char *text;
		int result;
		unsigned strange;
	} files[] = {
	    {"<134>1 2026-01-01T00:00:00.000Z host conat 1 START [conat@32473]\n", 0, 1},
	    {"\x1f\x8b\x08", ERR_MALFORMED, 0},
	    {"{\"time\":\"2026-01-01T00:00:00Z\",\"event\":\"service_started\"\n", 0, 1},
	    {"{\"time\":\"2026-01-01T00:00:00Z\",\"external\":\"192.0.2.1\"}\n", 0, 1},
	    {"{\"time\":12}\n\n[]\n", 0, 3},
	};
	for (unsigned i = 0; i < sizeof files / sizeof files[0]; i++) {
		struct who_question q = {.address = "192.0.2.1", .port = 1024};
		struct who_search *search;
		struct who_answer answer;
		FILE *file = tmpfile();
		fputs(files[i].text, file);
		rewind(file);
		cr_assert_eq(who_search_new(&q, &search), 0);
		who_search_add(search, file);
		int result = who_search_run(search, &answer);
		cr_expect_eq(result, files[i].result, "%u: %d", i, result);
		if (!result) {
			cr_expect_eq(answer.n, 0);
			cr_expect_eq(answer.strange, files[i].strange, "%u: %u", i,
				     (unsigned)answer.strange);
		}
		who_search_free(search);
	}
}

Test(who_log, times_of_rfc_3339)
{
	static const struct {
		const char *text;
		long long first, last; /* -1: refused */
	} times[] = {
	    {"2026-01-01T00:00:00Z", 1767225600000, 1767225600999},
	    {"2026-01-01t00:00:00z", 1767225600000, 1767225600999},
	    {"2026-01-01 00:00:00Z", 1767225600000, 1767225600999},
	    {"2026-01-01T00:00:00.5Z", 1767225600500, 1767225600500},
	    {"2026-01-01T00:00:00.123456Z", 1767225600123, 1767225600123},
	    {"2026-01-01T02:00:00+02:00", 1767225600000, 1767225600999},
	    {"2025-12-31T18:30:00-05:30", 1767225600000, 1767225600999},
	    {"2024-02-29T00:00:00Z", 1709164800000, 1709164800999},
	    {"2016-12-31T23:59:60Z", 1483228800000, 1483228800999},
	    {"2026-01-01T00:00:00", -1, 0}, /* in which zone? */
	    {"2026-01-01", -1, 0},
	    {"2026-02-29T00:00:00Z", -1, 0},
	    {"2026-04-31T00:00:00Z", -1, 0},
	    {"2026-13-01T00:00:00Z", -1, 0},
	    {"2026-01-01T24:00:00Z", -1, 0},
	    {"2026-01-01T00:00:00.Z", -1, 0},
	    {"2026-01-01T00:00:00+2", -1, 0},
	    {"2026-01-01T00:00:00Zx", -1, 0},
	    {"yesterday", -1, 0},
	    {"", -1, 0},
	};
	for (unsigned i = 0; i < sizeof times / sizeof times[0]; i++) {
		int64_t first = -1, last;
		bool good = who_parse_time(times[i].text, &first, &last);
		cr_expect_eq(good, times[i].first != -1, "%s", times[i].text);
		if (good && times[i].first != -1)
			cr_expect(first == times[i].first && last == times[i].last, "%s: %lld",
				  times[i].text, (long long)first);
	}
}
