/* SPDX-License-Identifier: Apache-2.0 */
/* Events as text. RFC 6888 REQ-12, REQ-14; RFC 5424; RFC 8259; RFC 3339. */
#include "tablesvc/event_format.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <ctype.h>
#include <jansson.h>
#include <string.h>

static const struct event_style json = {.json = true};
static const struct event_style json_syslog = {.json = true, .syslog = true};
static const struct event_style structured = {.syslog = true};

static struct event_origin origin(void)
{
	struct event_origin o;
	event_origin_set(&o, "nat1", "conat", "77");
	return o;
}

static struct event_record an_event(enum event_kind kind)
{
	struct event_record e = {
	    .time_ms = 1767225599999, /* 2025-12-31T23:59:59.999Z */
	    .kind = (uint8_t)kind,
	    .protocol = NAT_UDP,
	    .internal = {.address = inet_addr("10.0.0.5"), .port = htons(5000)},
	    .external = {.address = inet_addr("192.0.2.1"), .port = htons(1030)},
	    .remote = {.address = inet_addr("198.51.100.9"), .port = htons(53)},
	    .first_port = 1024,
	    .last_port = 1279,
	    .count = 42,
	    .pool = "main",
	    .realm = "lan",
	};
	if (kind == EVENT_BLOCK_ALLOCATED || kind == EVENT_BLOCK_RELEASED)
		e.protocol = 0;
	return e;
}

static const char *text_of(const struct event_record *event, const struct event_style *style)
{
	static char text[EVENT_TEXT_MAX];
	struct event_origin o = origin();
	size_t n = event_format(event, style, &o, text);
	cr_assert_eq(n, strlen(text));
	return text;
}

#define TIME "2025-12-31T23:59:59.999Z"

Test(event_format, json_lines)
{
	static const struct {
		enum event_kind kind;
		const char *rest;
	} rows[] = {
	    {EVENT_SERVICE_STARTED, "\"epoch\":42,\"version\":\"" CONAT_VERSION "\"}"},
	    {EVENT_LOST, "\"count\":42}"},
	    {EVENT_CONFIGURATION, "\"generation\":42}"},
	    /* RFC 6888 REQ-14: a block is one line */
	    {EVENT_BLOCK_ALLOCATED,
	     "\"pool\":\"main\",\"realm\":\"lan\",\"subscriber\":\"10.0.0.5\",\"external\":"
	     "\"192.0.2.1\",\"first_port\":1024,\"last_port\":1279}"},
	    {EVENT_STATIC_ADDED,
	     "\"pool\":\"main\",\"realm\":\"lan\",\"protocol\":\"udp\",\"subscriber\":\"10.0.0.5\","
	     "\"internal_port\":5000,\"external\":\"192.0.2.1\",\"external_port\":1030}"},
	    /* RFC 6888 REQ-12: no destination */
	    {EVENT_SESSION_CREATED,
	     "\"pool\":\"main\",\"realm\":\"lan\",\"protocol\":\"udp\",\"subscriber\":\"10.0.0.5\","
	     "\"internal_port\":5000,\"external\":\"192.0.2.1\",\"external_port\":1030}"},
	};
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct event_record e = an_event(rows[i].kind);
		char wanted[1024];
		snprintf(wanted, sizeof wanted, "{\"time\":\"" TIME "\",\"event\":\"%s\",%s",
			 event_name(rows[i].kind), rows[i].rest);
		cr_expect_str_eq(text_of(&e, &json), wanted);
	}
	struct event_record e = an_event(EVENT_LOG_PAUSED);
	cr_expect_str_eq(text_of(&e, &json), "{\"time\":\"" TIME "\",\"event\":\"log_paused\"}");
}

/* RFC 6888 REQ-12: destinations only where somebody has to, and only of sessions. */
Test(event_format, destinations_only_when_asked_for)
{
	const struct event_style with = {.json = true, .destinations = true};
	const struct event_style structured_with = {.syslog = true, .destinations = true};

	for (unsigned kind = 0; kind < EVENT_KINDS; kind++) {
		struct event_record e = an_event((enum event_kind)kind);
		bool session = kind == EVENT_SESSION_CREATED || kind == EVENT_SESSION_ENDED;
		cr_expect_null(strstr(text_of(&e, &json), "198.51.100.9"), "%s", event_name(kind));
		cr_expect_null(strstr(text_of(&e, &structured), "198.51.100.9"));
		cr_expect_eq(strstr(text_of(&e, &with), "\"destination\":\"198.51.100.9\"") != NULL,
			     session);
		cr_expect_eq(strstr(text_of(&e, &structured_with), "XDADDR=\"198.51.100.9\"") !=
				 NULL,
			     session);
	}
}

Test(event_format, clients_of_a_redirect_share_a_block_by_its_name)
{
	struct event_record e = an_event(EVENT_BLOCK_ALLOCATED);
	strcpy(e.redirect, "dns");
	cr_expect(strstr(text_of(&e, &json), "\"redirect\":\"dns\",\"external\""));
	cr_expect_null(strstr(text_of(&e, &json), "subscriber"));
}

Test(event_format, messages_of_rfc_5424)
{
	static const struct {
		enum event_kind kind;
		const char *text;
	} rows[] = {
	    {EVENT_BLOCK_ALLOCATED,
	     "<134>1 " TIME " nat1 conat 77 PBADD [conat@32473 event=\"block_allocated\" "
	     "pool=\"main\" realm=\"lan\" subscriber=\"10.0.0.5\" external=\"192.0.2.1\" "
	     "first_port=\"1024\" last_port=\"1279\"]"},
	    {EVENT_SESSION_ENDED,
	     "<134>1 " TIME " nat1 conat 77 SDEL [nsess IATYP=\"IPv4\" ISADDR=\"10.0.0.5\" "
	     "ISPORT=\"5000\" XATYP=\"IPv4\" XSADDR=\"192.0.2.1\" XSPORT=\"1030\" PROTO=\"17\"]"
	     "[conat@32473 event=\"session_ended\" pool=\"main\" realm=\"lan\" protocol=\"udp\" "
	     "subscriber=\"10.0.0.5\" internal_port=\"5000\" external=\"192.0.2.1\" "
	     "external_port=\"1030\"]"},
	    {EVENT_LOST,
	     "<132>1 " TIME " nat1 conat 77 LOST [conat@32473 event=\"events_lost\" count=\"42\"]"},
	};
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct event_record e = an_event(rows[i].kind);
		cr_expect_str_eq(text_of(&e, &structured), rows[i].text);
	}
	struct event_record e = an_event(EVENT_LOG_RESUMED);
	cr_expect_str_eq(text_of(&e, &json_syslog),
			 "<134>1 " TIME " nat1 conat 77 RESUME - {\"time\":\"" TIME
			 "\",\"event\":\"log_resumed\"}");
}

/* ---- a reader of RFC 5424 section 6, strict ---- */

static bool take_word(const char **p, size_t most)
{
	size_t n = 0;
	for (; (unsigned char)**p > 0x20 && (unsigned char)**p < 0x7f; (*p)++)
		n++;
	return n >= 1 && n <= most;
}

static bool take_sd_name(const char **p, const char *ends)
{
	size_t n = 0;
	for (; **p && !strchr(ends, **p); (*p)++, n++)
		if ((unsigned char)**p <= 0x20 || (unsigned char)**p >= 0x7f || strchr("=]\"", **p))
			return false;
	return n >= 1 && n <= 32;
}

static bool take_param(const char **p)
{
	if (!take_sd_name(p, "=") || *(*p)++ != '=' || *(*p)++ != '"')
		return false;
	for (; **p != '"'; (*p)++) {
		if (**p == '\0' || **p == ']')
			return false; /* section 6.3.3: these must be escaped */
		if (**p == '\\' && strchr("\"\\]", (*p)[1]))
			(*p)++;
	}
	(*p)++;
	return true;
}

static bool take_element(const char **p)
{
	if (*(*p)++ != '[' || !take_sd_name(p, " ]"))
		return false;
	while (**p == ' ') {
		(*p)++;
		if (!take_param(p))
			return false;
	}
	return *(*p)++ == ']';
}

static bool is_rfc5424(const char *text)
{
	static const size_t most[] = {64, 255, 48, 128, 32}; /* time, host, app, process, msgid */
	const char *p = text;
	if (*p++ != '<' || !isdigit((unsigned char)*p))
		return false;
	p += strspn(p, "0123456789");
	if (strncmp(p, ">1 ", 3) != 0)
		return false;
	p += 3;
	for (unsigned i = 0; i < 5; i++)
		if (!take_word(&p, most[i]) || *p++ != ' ')
			return false;
	if (*p == '-')
		p++;
	else
		do {
			if (!take_element(&p))
				return false;
		} while (*p == '[');
	return *p == '\0' || *p == ' ';
}

static void fill(char name[CONFIG_NAME_MAX], const char *with)
{
	for (unsigned i = 0; i < CONFIG_NAME_MAX - 1; i++)
		name[i] = with[i % strlen(with)];
	name[CONFIG_NAME_MAX - 1] = '\0';
}

/* RFC 5424 section 6.3.3, and the longest of everything: still whole, and a line. */
Test(event_format, stays_well_formed_whatever_the_names)
{
	static const char *const fillings[] = {"]", "\"", "\\", "\n", "a", "\\]\"", "\xff\x01"};
	const struct event_style styles[] = {
	    {.json = true, .destinations = true},
	    {.json = true, .syslog = true, .destinations = true},
	    {.syslog = true, .destinations = true},
	};
	char long_word[600], text[EVENT_TEXT_MAX];
	struct event_origin o;
	memset(long_word, 'h', sizeof long_word);
	long_word[sizeof long_word - 1] = '\0';
	event_origin_set(&o, long_word, long_word, long_word);
	cr_expect_eq(strlen(o.hostname), 255);
	cr_expect_eq(strlen(o.app_name), 48);
	cr_expect_eq(strlen(o.procid), 128);
	for (unsigned kind = 0; kind < EVENT_KINDS; kind++) {
		for (unsigned f = 0; f < sizeof fillings / sizeof fillings[0]; f++) {
			struct event_record e = an_event((enum event_kind)kind);
			fill(e.pool, fillings[f]);
			fill(e.realm, fillings[f]);
			fill(e.redirect, fillings[f]);
			e.count = INT64_MAX; /* what JSON readers take */
			e.external.address = e.internal.address = e.remote.address = UINT32_MAX;
			e.first_port = e.last_port = e.external.port = e.internal.port = 65535;
			for (unsigned s = 0; s < 3; s++) {
				size_t n = event_format(&e, &styles[s], &o, text);
				cr_assert_lt(n, EVENT_TEXT_MAX - 1);
				cr_expect_null(strchr(text, '\n'));
				if (s > 0)
					cr_expect(is_rfc5424(text), "%s", text);
				if (s < 2) {
					json_t *object = json_loads(strchr(text, '{'), 0, NULL);
					cr_expect_not_null(object, "%s", text);
					json_decref(object);
				}
			}
		}
	}
}

Test(event_format, header_words_are_printable_ascii)
{
	struct event_origin o;
	event_origin_set(&o, "", "two words", "\x7f\n");
	cr_expect_str_eq(o.hostname, "-");
	cr_expect_str_eq(o.app_name, "two?words");
	cr_expect_str_eq(o.procid, "??");
}

Test(event_format, times_of_rfc_3339)
{
	static const struct {
		int64_t ms;
		const char *text;
	} rows[] = {
	    {0, "1970-01-01T00:00:00.000Z"},
	    {-1, "1969-12-31T23:59:59.999Z"},
	    {1709208000005, "2024-02-29T12:00:00.005Z"},
	    {4102444800000, "2100-01-01T00:00:00.000Z"},
	    {INT64_MAX, "1970-01-01T00:00:00.000Z"}, /* beyond any calendar */
	};
	char text[EVENT_TIME_SIZE];
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++)
		cr_expect_str_eq(event_time_text(rows[i].ms, text), rows[i].text);
}
