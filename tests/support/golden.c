/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/golden.h"

#include <arpa/inet.h>
#include <glob.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_MAX = 1024, FILES_MAX = 16, START_MS = 1000000 };

struct golden_file {
	char name[64];
	size_t start; /* in text */
};

struct golden_table {
	char *text; /* of all files */
	size_t length;
	unsigned n_files;
	struct golden_file files[FILES_MAX];
	unsigned n_rows;
	const char *rows[ROWS_MAX]; /* each at its line "test NAME" */
};

void golden_record(struct golden_events *events, const struct golden_event *event,
		   const uint8_t *bytes, uint32_t length)
{
	if (events->n == GOLDEN_EVENTS_MAX)
		abort();
	struct golden_event *to = &events->event[events->n++];
	*to = *event;
	to->length = length;
	to->bytes = length ? malloc(length) : NULL;
	if (length)
		memcpy(to->bytes, bytes, length);
}

void golden_events_clear(struct golden_events *events)
{
	for (unsigned i = 0; i < events->n; i++)
		free(events->event[i].bytes);
	events->n = events->taken = 0;
}

/* ---- the file ---- */

static const char *next_line(const char *line)
{
	line = strchr(line, '\n');
	return line ? line + 1 : NULL;
}

static bool starts(const char *line, const char *word)
{
	size_t n = strlen(word);
	return strncmp(line, word, n) == 0 && (line[n] == ' ' || line[n] == '\n' || line[n] == 0);
}

/* Appends a file to the text, with a line's end behind it. */
static bool read_file(struct golden_table *table, const char *path)
{
	FILE *file = fopen(path, "rb");

	if (!file || table->n_files == FILES_MAX || fseek(file, 0, SEEK_END) != 0)
		return false;
	size_t size = (size_t)ftell(file);
	rewind(file);
	table->text = realloc(table->text, table->length + size + 2);
	if (!table->text || fread(table->text + table->length, 1, size, file) != size)
		return false;
	fclose(file);
	struct golden_file *entry = &table->files[table->n_files++];
	const char *slash = strrchr(path, '/');
	snprintf(entry->name, sizeof entry->name, "%s", slash ? slash + 1 : path);
	entry->start = table->length;
	table->length += size;
	memcpy(table->text + table->length, "\n", 2);
	table->length++;
	return true;
}

struct golden_table *golden_load(const char *pattern)
{
	struct golden_table *table = calloc(1, sizeof *table);
	glob_t found;

	if (!table || glob(pattern, 0, NULL, &found) != 0) {
		fprintf(stderr, "%s: no such file\n", pattern);
		exit(1);
	}
	for (size_t i = 0; i < found.gl_pathc; i++)
		if (!read_file(table, found.gl_pathv[i])) {
			perror(found.gl_pathv[i]);
			exit(1);
		}
	globfree(&found);
	for (const char *line = table->text; line; line = next_line(line))
		if (starts(line, "test") && table->n_rows < ROWS_MAX)
			table->rows[table->n_rows++] = line;
	return table;
}

void golden_unload(struct golden_table *table)
{
	free(table->text);
	free(table);
}

unsigned golden_rows(const struct golden_table *table)
{
	return table->n_rows;
}

const char *golden_name(const struct golden_table *table, unsigned row)
{
	static char name[128];
	const char *at = table->rows[row] + 5;
	snprintf(name, sizeof name, "%.*s", (int)strcspn(at, "\n"), at);
	return name;
}

/* ---- one row ---- */

struct run {
	struct golden_target *target;
	struct engine_config config;
	bool configured; /* the target has config as it is */
	bool fast;	 /* the last packet took the hit path */
	uint8_t reported;
	struct monotime now;
	struct test_packet *packet;
	char *error;
	unsigned error_size;
};

__attribute__((format(printf, 2, 3))) static bool wrong(struct run *run, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(run->error, run->error_size, format, arguments);
	va_end(arguments);
	return false;
}

static bool word_is(const char **at, const char *word)
{
	size_t n = strlen(word);

	while (**at == ' ')
		(*at)++;
	if (strncmp(*at, word, n) != 0 || ((*at)[n] != ' ' && (*at)[n] != '\n' && (*at)[n] != 0))
		return false;
	*at += n;
	return true;
}

static bool parse_realm(const char **at, uint8_t *out)
{
	static const char *const names[] = {"outside", "inside", "inside2"};

	for (uint8_t i = 0; i < 3; i++)
		if (word_is(at, names[i])) {
			*out = i;
			return true;
		}
	return false;
}

static bool parse_protocol(const char **at, uint8_t *out)
{
	static const struct {
		const char *name;
		uint8_t protocol;
	} others[] = {{"udplite", NAT_UDPLITE},
		      {"dccp", NAT_DCCP},
		      {"sctp", NAT_SCTP},
		      {"gre", NAT_GRE},
		      {"esp", NAT_ESP}};

	for (unsigned i = 0; i < sizeof others / sizeof others[0]; i++)
		if (word_is(at, others[i].name)) {
			*out = others[i].protocol;
			return true;
		}
	if (word_is(at, "udp"))
		*out = NAT_UDP;
	else if (word_is(at, "tcp"))
		*out = NAT_TCP;
	else if (word_is(at, "icmp"))
		*out = NAT_ICMP;
	else
		return false;
	return true;
}

static bool parse_pair(const char **at, struct nat_endpoint *a, struct nat_endpoint *b)
{
	return endpoint_parse(at, a) && word_is(at, ">") && endpoint_parse(at, b);
}

/* REALM PROTOCOL A:p > B:p */
static bool parse_tuple(const char **at, struct nat_tuple *out)
{
	struct nat_endpoint a, b;

	memset(out, 0, sizeof *out);
	if (!parse_realm(at, &out->realm) || !parse_protocol(at, &out->protocol) ||
	    !parse_pair(at, &a, &b))
		return false;
	out->source = a.address;
	out->source_port = a.port;
	out->destination = b.address;
	out->destination_port = b.port;
	return true;
}

/* A:p > B:p REALM [in] */
static bool parse_rewrite(const char **at, struct nat_rewrite *out, uint8_t *direction)
{
	struct nat_endpoint a, b;

	memset(out, 0, sizeof *out);
	if (!parse_pair(at, &a, &b) || !parse_realm(at, &out->egress))
		return false;
	out->source = a.address;
	out->source_port = a.port;
	out->destination = b.address;
	out->destination_port = b.port;
	*direction = word_is(at, "in") ? NAT_INBOUND : NAT_OUTBOUND;
	return true;
}

static bool parse_reason(const char **at, uint8_t *out)
{
	for (uint8_t reason = 0; reason < NAT_REASON_LIMIT; reason++)
		if (strcmp(nat_reason_name(reason), "unknown") != 0 &&
		    word_is(at, nat_reason_name(reason))) {
			*out = reason;
			return true;
		}
	return false;
}

static void configure(struct run *run)
{
	if (!run->configured)
		run->target->configure(run->target->context, &run->config);
	run->configured = true;
}

/* ---- what a line does ---- */

static bool do_packet(struct run *run, const char *at)
{
	uint8_t realm;
	char error[256];

	if (!parse_realm(&at, &realm))
		return wrong(run, "in REALM PACKET");
	if (!packet_build(at, run->packet, error, sizeof error))
		return wrong(run, "%s", error);
	run->fast =
	    run->target->packet(run->target->context, run->packet, realm, run->now, &run->reported);
	return true;
}

static bool do_flow(struct run *run, const char *at)
{
	struct nat_tuple tuple;
	struct nat_rewrite rewrite;
	uint8_t direction;

	if (!parse_tuple(&at, &tuple) || !word_is(&at, "=>") ||
	    !parse_rewrite(&at, &rewrite, &direction))
		return wrong(run, "flow REALM PROTOCOL A > B => A > B REALM [in]");
	run->target->flow(run->target->context, &tuple, &rewrite, direction, run->now);
	return true;
}

static bool do_answer(struct run *run, const char *at)
{
	struct wire_answer answer = {.handle = 1, .peer_handle = 1};
	bool good = false;

	if (word_is(&at, "translate")) {
		answer.verdict = NAT_TRANSLATE;
		good = parse_rewrite(&at, &answer.rewrite, &answer.direction);
	} else if (word_is(&at, "drop")) {
		answer.verdict = NAT_DROP;
		good = parse_reason(&at, &answer.reason);
	} else if (word_is(&at, "reject")) {
		answer.verdict = NAT_REJECT;
		good = parse_reason(&at, &answer.reason);
	} else if (word_is(&at, "pass")) {
		answer.verdict = NAT_PASS;
		good = true;
	}
	if (!good)
		return wrong(run, "answer translate A > B REALM | drop|reject REASON | pass");
	if (!run->target->answer(run->target->context, &answer, run->now))
		return wrong(run, "there is no question to answer");
	return true;
}

static bool do_setting(struct run *run, const char *at)
{
	struct engine_config *config = &run->config;
	uint8_t realm;

	run->configured = false;
	if (word_is(&at, "mtu") && parse_realm(&at, &realm)) {
		config->mtu[realm] = (uint32_t)atoi(at);
	} else if (word_is(&at, "ttl")) {
		config->ttl = word_is(&at, "restore") ? ENGINE_TTL_RESTORE : ENGINE_TTL_DECREMENT;
	} else if (word_is(&at, "icmp_rate")) {
		config->table.icmp_errors_per_second = (uint32_t)atoi(at);
	} else if (word_is(&at, "no_icmp_source") && parse_realm(&at, &realm)) {
		config->icmp_source[realm] = 0;
	} else if (word_is(&at, "mss")) {
		config->table.mss_clamp =
		    word_is(&at, "auto") ? WIRE_MSS_AUTO : (uint16_t)atoi(at);
	} else if (word_is(&at, "no_icmp_outside")) {
		config->table.no_icmp_outside = true;
	} else if (word_is(&at, "protocols")) { /* all that are translated by address */
		static const uint8_t all[] = {NAT_DCCP, NAT_GRE, NAT_ESP, NAT_SCTP, NAT_UDPLITE};
		memcpy(config->table.protocols, all, sizeof all);
		config->table.n_protocols = sizeof all;
	} else if (word_is(&at, "identity") && parse_realm(&at, &realm)) { /* REALM ADDRESS LENGTH */
		struct nat_endpoint address;
		if (!endpoint_parse(&at, &address))
			return wrong(run, "set identity REALM ADDRESS LENGTH");
		config->table.prefixes[config->table.n_prefixes++] =
		    (struct wire_prefix){.address = address.address,
					 .length = (uint8_t)atoi(at),
					 .realm = realm,
					 .kind = WIRE_PREFIX_IDENTITY};
	} else if (word_is(&at, "no_prefixes")) {
		config->table.n_prefixes = 0;
	} else {
		return wrong(run, "unknown setting");
	}
	configure(run);
	return true;
}

/* ---- what a line expects ---- */

static const char *describe(const struct golden_event *event, char *text, unsigned size)
{
	int n = 0;

	switch (event->kind) {
	case GOLDEN_OUT:
		n = snprintf(text, size, "out realm %u, %u bytes:", event->realm, event->length);
		for (uint32_t i = 0; i < event->length && i < 96 && (unsigned)n + 4 < size; i++)
			n += snprintf(text + n, size - (unsigned)n, "%s%02x", i % 4 == 0 ? " " : "",
				      event->bytes[i]);
		break;
	case GOLDEN_DROP:
		snprintf(text, size, "drop %s", nat_reason_name(event->reason));
		break;
	case GOLDEN_KEPT:
		snprintf(text, size, "kept");
		break;
	case GOLDEN_ASK:
		snprintf(text, size, "ask op %u realm %u protocol %u %08x:%u > %08x:%u flags %02x",
			 event->op, event->tuple.realm, event->tuple.protocol,
			 ntohl(event->tuple.source), ntohs(event->tuple.source_port),
			 ntohl(event->tuple.destination), ntohs(event->tuple.destination_port),
			 event->tcp_flags);
		break;
	}
	return text;
}

static bool differs(struct run *run, const struct golden_event *want,
		    const struct golden_event *got)
{
	char a[600], b[600];
	uint32_t at = 0;

	if (want->kind == GOLDEN_OUT && got->kind == GOLDEN_OUT)
		while (at < want->length && at < got->length && want->bytes[at] == got->bytes[at])
			at++;
	return wrong(run, "expected %s\n     got %s\n     first difference at byte %u",
		     describe(want, a, sizeof a), describe(got, b, sizeof b), at);
}

/* A fragment's identification, or one that the engine chose, is not the row's to know: "ipid=any".
 */
static void take_identification(const struct golden_event *got, uint8_t *want)
{
	if (got->length < 20)
		return;
	memcpy(want + 4, got->bytes + 4, 2);
	want[10] = want[11] = 0;
	uint16_t sum = htons(reference_checksum(want, (want[0] & 15u) * 4, 0));
	memcpy(want + 10, &sum, 2);
}

static bool expect(struct run *run, const char *line)
{
	struct golden_events *events = run->target->events;
	struct golden_event want = {0};
	struct golden_event *got = &events->event[events->taken];
	bool any_id = false, same;
	const char *at = line;
	char error[256], buffer[600];

	if (word_is(&at, "out") || word_is(&at, "out_any_id")) {
		any_id = strncmp(line, "out_any_id", 10) == 0;
		want.kind = GOLDEN_OUT;
		if (!parse_realm(&at, &want.realm))
			return wrong(run, "out REALM PACKET");
		if (!packet_build(at, run->packet, error, sizeof error))
			return wrong(run, "%s", error);
		want.bytes = run->packet->bytes;
		want.length = run->packet->length;
	} else if (word_is(&at, "drop")) {
		want.kind = GOLDEN_DROP;
		if (!parse_reason(&at, &want.reason))
			return wrong(run, "drop REASON");
	} else if (word_is(&at, "kept")) {
		want.kind = GOLDEN_KEPT;
	} else if (word_is(&at, "ask")) {
		want.kind = GOLDEN_ASK;
		want.op = word_is(&at, "out")	 ? WIRE_RESOLVE_OUT
			  : word_is(&at, "in")	 ? WIRE_RESOLVE_IN
			  : word_is(&at, "peek") ? WIRE_PEEK
						 : 0;
		if (!want.op || !parse_tuple(&at, &want.tuple))
			return wrong(run, "ask out|in|peek REALM PROTOCOL A > B");
	} else {
		return wrong(run, "unknown line");
	}
	if (events->taken == events->n)
		return wrong(run, "expected %s\n     got nothing",
			     describe(&want, buffer, sizeof buffer));
	events->taken++;
	if (any_id && got->kind == GOLDEN_OUT)
		take_identification(got, want.bytes);
	same = want.kind == got->kind && want.realm == got->realm && want.reason == got->reason &&
	       want.op == got->op && nat_tuple_equal(&want.tuple, &got->tuple) &&
	       want.length == got->length &&
	       (want.length == 0 || memcmp(want.bytes, got->bytes, want.length) == 0);
	return same || differs(run, &want, got);
}

static bool expect_path(struct run *run, bool fast)
{
	return run->fast == fast ||
	       wrong(run, "the packet took the %s path", fast ? "slow" : "fast");
}

static bool expect_report(struct run *run, const char *at)
{
	static const char names[] = "FSRPAUEC";
	uint8_t want = 0;

	for (; *at == ' '; at++)
		;
	for (; *at && *at != '\n' && *at != '-'; at++) {
		const char *found = strchr(names, *at);
		if (!found)
			return wrong(run, "report SFRA or -");
		want |= (uint8_t)(1 << (found - names));
	}
	return want == run->reported || wrong(run, "TCP flags 0x%02x were reported", run->reported);
}

static bool nothing_left(struct run *run)
{
	struct golden_events *events = run->target->events;
	char text[600];

	if (events->taken < events->n)
		return wrong(run, "not expected: %s",
			     describe(&events->event[events->taken], text, sizeof text));
	golden_events_clear(events);
	return true;
}

static bool run_line(struct run *run, const char *line)
{
	struct nat_tuple tuple;
	const char *at = line;

	if (*line == '#' || *line == '\n' || *line == 0)
		return true;
	if (word_is(&at, "fast"))
		return expect_path(run, true);
	if (word_is(&at, "slow"))
		return expect_path(run, false);
	if (word_is(&at, "report"))
		return expect_report(run, at);
	if (starts(line, "out") || starts(line, "out_any_id") || starts(line, "drop") ||
	    starts(line, "kept") || starts(line, "ask"))
		return expect(run, line);
	if (!nothing_left(run))
		return false;
	if (word_is(&at, "in"))
		return do_packet(run, at);
	if (word_is(&at, "flow"))
		return do_flow(run, at);
	if (word_is(&at, "answer"))
		return do_answer(run, at);
	if (word_is(&at, "set"))
		return do_setting(run, at);
	if (word_is(&at, "advance")) {
		run->now = monotime_add_ms(run->now, atoi(at));
		run->target->tick(run->target->context, run->now);
		return true;
	}
	if (word_is(&at, "lease_ends")) {
		run->target->valid_until(run->target->context, run->now);
		return true;
	}
	if (word_is(&at, "remove")) {
		if (!parse_tuple(&at, &tuple))
			return wrong(run, "remove REALM PROTOCOL A > B");
		run->target->remove(run->target->context, &tuple);
		return true;
	}
	return wrong(run, "unknown line");
}

static const struct golden_file *file_of(const struct golden_table *table, const char *line)
{
	unsigned i = table->n_files - 1;

	while (i > 0 && table->text + table->files[i].start > line)
		i--;
	return &table->files[i];
}

static unsigned line_number(const struct golden_table *table, const char *line)
{
	unsigned n = 1;
	for (const char *at = table->text + file_of(table, line)->start; at < line; at++)
		n += *at == '\n';
	return n;
}

bool golden_run(const struct golden_table *table, unsigned row, struct golden_target *target,
		char *error, unsigned error_size)
{
	char reason[2000] = "";
	struct run run = {.target = target,
			  .now = {START_MS * MS_NS},
			  .packet = malloc(sizeof *run.packet),
			  .error = reason,
			  .error_size = sizeof reason};
	const char *line = next_line(table->rows[row]), *last = table->rows[row];
	bool good = true;

	golden_defaults(&run.config);
	configure(&run);
	target->valid_until(target->context, MONOTIME_NEVER);
	for (; good && line && !starts(line, "test"); line = next_line(line)) {
		good = run_line(&run, line);
		last = line;
	}
	good = good && nothing_left(&run);
	if (!good)
		snprintf(error, error_size, "%s:%u (%s): %s", file_of(table, last)->name,
			 line_number(table, last), golden_name(table, row), reason);
	free(run.packet);
	return good;
}

void golden_packets(const struct golden_table *table, unsigned row,
		    void (*visit)(void *context, const struct test_packet *packet, uint8_t realm),
		    void *context)
{
	struct test_packet *packet = malloc(sizeof *packet);
	const char *line = next_line(table->rows[row]);
	char error[256];
	uint8_t realm;

	for (; line && !starts(line, "test"); line = next_line(line)) {
		const char *at = line;
		if (word_is(&at, "in") && parse_realm(&at, &realm) &&
		    packet_build(at, packet, error, sizeof error))
			visit(context, packet, realm);
	}
	free(packet);
}
