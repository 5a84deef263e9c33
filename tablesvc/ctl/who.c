/* SPDX-License-Identifier: Apache-2.0 */
#include "tablesvc/ctl/who.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "common/base/err.h"
#include "tablesvc/ctl/who_log.h"
#include "tablesvc/event_format.h"

enum { CELL_BYTES = 64 };

const struct output_column who_columns[] = {
    {"kind", "WHAT", OUTPUT_TEXT, -8},		{"realm", "REALM", OUTPUT_TEXT, -10},
    {"protocol", "PROTO", OUTPUT_TEXT, -5},	{"subscriber", "WHO", OUTPUT_TEXT, -21},
    {"external", "EXTERNAL", OUTPUT_TEXT, -27}, {"pool", "POOL", OUTPUT_TEXT, -10},
    {"from", "FROM", OUTPUT_TEXT, -24},		{"until", "UNTIL", OUTPUT_TEXT, -24},
    {"note", "NOTE", OUTPUT_TEXT, -4},		{NULL},
};
const struct output_column who_json_columns[] = {
    {"kind", "", OUTPUT_TEXT, 0},
    {"realm", "", OUTPUT_TEXT, 0},
    {"protocol", "", OUTPUT_TEXT, 0},
    {"subscriber", "", OUTPUT_TEXT, 0},
    {"internal_port", "", OUTPUT_NUMBER, 0},
    {"redirect", "", OUTPUT_TEXT, 0},
    {"external", "", OUTPUT_TEXT, 0},
    {"first_port", "", OUTPUT_NUMBER, 0},
    {"last_port", "", OUTPUT_NUMBER, 0},
    {"pool", "", OUTPUT_TEXT, 0},
    {"from", "", OUTPUT_TEXT, 0},
    {"until", "", OUTPUT_TEXT, 0},
    {"destination", "", OUTPUT_TEXT, 0},
    {"note", "", OUTPUT_TEXT, 0},
    {NULL},
};

static const char *address_text(nat_be32 address, char out[INET_ADDRSTRLEN])
{
	return inet_ntop(AF_INET, &address, out, INET_ADDRSTRLEN);
}

static void print_row(struct run *run, const struct who_holding *h, const char *external)
{
	char who[CELL_BYTES + WHO_NAME_MAX], where[CELL_BYTES], to[CELL_BYTES] = "";
	char from_text[EVENT_TIME_SIZE], until_text[EVENT_TIME_SIZE];
	const char *from = h->from_known ? event_time_text(h->from_ms, from_text) : "";
	const char *until = h->until_known ? event_time_text(h->until_ms, until_text) : "";

	if (h->destination[0])
		snprintf(to, sizeof to, "%s:%u", h->destination, h->destination_port);
	if (run->args->json) {
		const union output_value values[] = {
		    {.text = h->kind},
		    {.text = h->realm},
		    {.text = h->protocol},
		    {.text = h->subscriber},
		    {.number = h->internal_port},
		    {.text = h->redirect},
		    {.text = external},
		    {.number = h->first_port},
		    {.number = h->last_port},
		    {.text = h->pool},
		    {.text = from},
		    {.text = until},
		    {.text = to},
		    {.text = h->note},
		};
		output_row(&run->output, values);
		return;
	}
	if (h->redirect[0] && !h->subscriber[0])
		snprintf(who, sizeof who, "redirect %s", h->redirect);
	else if (h->internal_port)
		snprintf(who, sizeof who, "%s:%u", h->subscriber, h->internal_port);
	else
		snprintf(who, sizeof who, "%s", h->subscriber);
	if (h->first_port == 0 && h->last_port == UINT16_MAX)
		snprintf(where, sizeof where, "%s", external);
	else if (h->first_port == h->last_port)
		snprintf(where, sizeof where, "%s:%u", external, h->first_port);
	else
		snprintf(where, sizeof where, "%s:%u-%u", external, h->first_port, h->last_port);
	const union output_value values[] = {
	    {.text = h->kind}, {.text = h->realm}, {.text = h->protocol},
	    {.text = who},     {.text = where},	   {.text = h->pool},
	    {.text = from},    {.text = until},	   {.text = to[0] ? to : h->note},
	};
	output_row(&run->output, values);
}

/* ---- now ---- */

void who_print(struct run *run, const void *reply)
{
	const Conat__V1__WhoReply *r = reply;
	char external[INET_ADDRSTRLEN], number[EVENT_PROTOCOL_SIZE];

	run->in_pool = r->in_pool;
	for (size_t i = 0; i < r->n_rows; i++) {
		const Conat__V1__WhoRow *row = r->rows[i];
		struct who_holding h = {
		    .first_port = (uint16_t)row->first_port,
		    .last_port = (uint16_t)row->last_port,
		    .note = "",
		};
		snprintf(h.kind, sizeof h.kind, "%s", row->kind);
		snprintf(h.realm, sizeof h.realm, "%s", row->realm_name);
		snprintf(h.pool, sizeof h.pool, "%s", row->pool);
		snprintf(h.redirect, sizeof h.redirect, "%s", row->redirect);
		snprintf(h.protocol, sizeof h.protocol, "%s",
			 row->protocol ? event_protocol_text(row->protocol, number) : "");
		if (row->internal) {
			address_text(htonl(row->internal->address), h.subscriber);
			h.internal_port = (uint16_t)row->internal->port;
		}
		address_text(row->external ? htonl(row->external->address) : 0, external);
		print_row(run, &h, external);
		run->found = true;
	}
}

int who_exit(const struct run *run, FILE *err)
{
	char text[INET_ADDRSTRLEN];
	const struct nat_endpoint *e = &run->args->external;

	if (run->found)
		return ARGS_EXIT_OK;
	if (!run->in_pool)
		fprintf(err, "conatctl: %s is in no pool of this service\n",
			address_text(e->address, text));
	else
		fprintf(err, "conatctl: nobody has %s:%u now\n", address_text(e->address, text),
			ntohs(e->port));
	return ARGS_EXIT_FAILED;
}

/* ---- then ---- */

static int add_logs(struct who_search *search, const struct args *args, FILE *err)
{
	for (unsigned i = 0; i < args->n_logs; i++) {
		const char *name = args->logs[i];
		FILE *file = strcmp(name, "-") == 0 ? stdin : fopen(name, "re");
		if (!file) {
			fprintf(err, "conatctl: %s: %s\n", name, strerror(errno));
			return ARGS_EXIT_USAGE;
		}
		if (who_search_add(search, file) != 0) {
			fprintf(err, "conatctl: more than %d files\n", WHO_FILES_MAX);
			if (file != stdin)
				fclose(file);
			return ARGS_EXIT_USAGE;
		}
	}
	return 0;
}

/* What somebody who relies on the answer has to know. */
static void say_limits(const struct who_answer *a, FILE *err)
{
	char text[EVENT_TIME_SIZE];

	if (a->strange)
		fprintf(err,
			"conatctl: %" PRIu64 " of %" PRIu64 " lines are none of the log's, or "
			"torn\n",
			a->strange, a->lines);
	if (a->lost)
		fprintf(err,
			"conatctl: %" PRIu64 " events were lost before that time: somebody "
			"may be missing here\n",
			a->lost);
	if (a->clock_back)
		fputs("conatctl: the clock was set back over that time: it was that time twice\n",
		      err);
	if (a->beyond)
		fprintf(err, "conatctl: the log ends at %s, before that time\n",
			event_time_text(a->end_ms, text));
}

static int explain_nobody(const struct who_answer *a, const struct args *args, FILE *err)
{
	char address[INET_ADDRSTRLEN], text[EVENT_TIME_SIZE];

	address_text(args->external.address, address);
	if (a->lines == a->strange) {
		fputs("conatctl: there is no line of an event log in it; wanted are JSON lines "
		      "(log.format)\n",
		      err);
		return ARGS_EXIT_NOT_FOUND;
	}
	if (!a->reached) {
		fprintf(err,
			"conatctl: the log does not reach back that far: it begins at %s; is "
			"there an older file?\n",
			event_time_text(a->begin_ms, text));
		return ARGS_EXIT_NOT_FOUND;
	}
	if (!a->complete) {
		fprintf(err,
			"conatctl: the log cannot tell who had %s:%u then: nobody got it after "
			"%s, but who had got it before is not in these files\n",
			address, ntohs(args->external.port), event_time_text(a->begin_ms, text));
		return ARGS_EXIT_NOT_FOUND;
	}
	fprintf(err, "conatctl: nobody had %s:%u then\n", address, ntohs(args->external.port));
	return ARGS_EXIT_FAILED;
}

int who_from_logs(struct run *run, FILE *err)
{
	const struct args *args = run->args;
	struct who_question question = {.port = ntohs(args->external.port)};
	struct who_search *search;
	struct who_answer answer;
	char number[EVENT_PROTOCOL_SIZE];

	address_text(args->external.address, question.address);
	snprintf(question.protocol, sizeof question.protocol, "%s",
		 args->protocol ? event_protocol_text(args->protocol, number) : "");
	question.first_ms = args->at_first_ms;
	question.last_ms = args->at_last_ms;
	if (who_search_new(&question, &search) != 0) {
		fputs("conatctl: out of memory\n", err);
		return ARGS_EXIT_FAILED;
	}
	int code = add_logs(search, args, err);
	if (!code) {
		int failed = who_search_run(search, &answer);
		if (failed)
			fprintf(err, "conatctl: %s\n",
				failed == ERR_MALFORMED
				    ? "a file is compressed; try: zcat FILE | conatctl who ... "
				      "--log -"
				: failed == ERR_IO ? "a file cannot be read"
						   : err_text(failed));
		code = failed ? ARGS_EXIT_USAGE : 0;
	}
	if (!code) {
		for (unsigned i = 0; i < answer.n; i++)
			print_row(run, &answer.holdings[i], question.address);
		say_limits(&answer, err);
		if (answer.n == 0)
			code = explain_nobody(&answer, args, err);
	}
	who_search_free(search);
	return code;
}
