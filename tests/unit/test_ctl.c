/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <pthread.h>
#include <unistd.h>
#include "common/base/err.h"
#include "tablesvc/ctl/args.h"
#include "tablesvc/ctl/output.h"
#include "tablesvc/ctl/spool.h"

enum { WORDS = 32 };

/* Splits at blanks; "''" is an empty word. line must live as long as args. */
static int parse(char *line, const char *environment, struct args *args, char *out, char *err)
{
	char *argv[WORDS + 1] = {"conatctl"}, *rest = NULL;
	FILE *out_file = fmemopen(out, 8192, "w"), *err_file = fmemopen(err, 512, "w");
	int argc = 1;

	for (char *word = strtok_r(line, " ", &rest); word && argc < WORDS;
	     word = strtok_r(NULL, " ", &rest))
		argv[argc++] = strcmp(word, "''") == 0 ? word + 2 : word;
	out[0] = err[0] = '\0';
	int result = args_parse(argc, argv, environment, args, out_file, err_file);
	fclose(out_file);
	fclose(err_file);
	return result;
}

struct good {
	char line[128];
	enum args_command command;
};

ParameterizedTestParameters(ctl, knows_its_commands)
{
	static struct good rows[] = {
	    {"status", ARGS_STATUS},
	    {"dataplanes --json", ARGS_DATAPLANES},
	    {"-j mappings --limit 5", ARGS_MAPPINGS},
	    {"sessions --subscriber 10.0.0.1 --external 192.0.2.1 --remote 1.1.1.1:53",
	     ARGS_SESSIONS},
	    {"sessions --protocol icmp --realm 255", ARGS_SESSIONS},
	    {"subscribers --realm 1", ARGS_SUBSCRIBERS},
	    {"pools", ARGS_POOLS},
	    {"static list", ARGS_STATIC_LIST},
	    {"static add tcp 192.0.2.1:80 10.0.0.1:8080", ARGS_STATIC_ADD},
	    {"static del udp 192.0.2.1:80", ARGS_STATIC_DEL},
	    {"static add all 192.0.2.1 10.0.0.1", ARGS_STATIC_ADD},
	    {"static del ALL 192.0.2.1", ARGS_STATIC_DEL},
	    {"sessions --protocol sctp", ARGS_SESSIONS},
	    {"static del udp 192.0.2.1:80 10.0.0.1:1 --realm 2", ARGS_STATIC_DEL},
	    {"delete --remote 1.1.1.1", ARGS_DELETE},
	    {"delete --protocol udp --subscriber 10.0.0.1", ARGS_DELETE},
	    {"drain dp1 --undo", ARGS_DRAIN},
	    {"drain 0", ARGS_DRAIN},
	    {"who 192.0.2.1:80", ARGS_WHO},
	    {"who 192.0.2.1:80 --protocol tcp --at 2026-01-01T00:00:00Z --log a b -", ARGS_WHO},
	};
	return cr_make_param_array(struct good, rows, sizeof rows / sizeof rows[0]);
}

ParameterizedTest(struct good *row, ctl, knows_its_commands)
{
	static char out[8192], err[512];
	struct args args;

	cr_assert_eq(parse(row->line, NULL, &args, out, err), 0, "%s", err);
	cr_expect_eq(args.command, row->command);
	cr_expect_str_eq(args.server, "127.0.0.1:4790");
	cr_expect_str_empty(out);
	cr_expect_str_empty(err);
}

struct bad {
	char line[160];
	char part[80];
};

ParameterizedTestParameters(ctl, wrong_arguments_get_a_sentence)
{
	static struct bad rows[] = {
	    {"", "which command?"},
	    {"start", "start: no such command"},
	    {"--json", "which command?"},
	    {"status now", "now: one argument too many"},
	    {"status --limit 3", "--limit has no meaning with status"},
	    {"pools --realm 1", "--realm has no meaning with pools"},
	    {"delete --limit 3 --realm 1", "--limit has no meaning with delete"},
	    {"sessions --undo", "--undo has no meaning with sessions"},
	    {"sessions --colour", "--colour: no such option"},
	    {"sessions -x", "no such option"},
	    {"sessions --limit", "--limit: its argument is missing"},
	    {"sessions --limit 0", "--limit 0: not a number of rows"},
	    {"sessions --limit -1", "--limit -1: not a number"},
	    {"sessions --limit 99999999999999999999999", "not a number of rows"},
	    {"sessions --realm 0", "--realm 0: allowed are 1 to 255"},
	    {"sessions --realm 256", "--realm 256: allowed"},
	    {"sessions --protocol 47", "--protocol 47: allowed are tcp, udp, icmp, dccp, esp, gre"},
	    {"sessions --subscriber 10.0.0.300", "--subscriber 10.0.0.300: not an IPv4 address"},
	    {"sessions --subscriber 10.0.0.1:5", "--subscriber 10.0.0.1:5: not an IPv4 address"},
	    {"sessions --subscriber ::1", "not an IPv4 address"},
	    {"sessions --external 192.0.2.1:0", "--external 192.0.2.1:0: not ADDRESS"},
	    {"sessions --external 192.0.2.1:65536", "not ADDRESS or ADDRESS:PORT"},
	    {"sessions --remote 192.0.2.1:", "not ADDRESS or ADDRESS:PORT"},
	    {"sessions --remote host:5", "--remote host:5: not ADDRESS"},
	    {"sessions --timeout 0", "--timeout 0: allowed are 1 to 3600"},
	    {"--server nowhere status", "--server nowhere: not HOST:PORT"},
	    {"--server unix: status", "--server unix:: not HOST:PORT"},
	    {"--tls-key k status", "go together"},
	    {"delete", "delete needs --subscriber, --external or --remote"},
	    {"delete --protocol udp --realm 1", "delete needs --subscriber"},
	    {"drain", "drain needs DATAPLANE"},
	    {"drain ''", "a dataplane's name has 1 to 63 bytes"},
	    {"drain aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	     "a dataplane's name has 1 to 63 bytes"},
	    {"drain a b", "b: one argument too many"},
	    {"static", "allowed are static add, del, list"},
	    {"static show", "static show: allowed are static add, del, list"},
	    {"static list x", "x: one argument too many"},
	    {"static add tcp 192.0.2.1:80", "static needs PROTOCOL EXTERNAL INTERNAL"},
	    {"static add icmp 192.0.2.1:80 10.0.0.1:80", "icmp: allowed are tcp, udp, all"},
	    {"static add all 192.0.2.1:80 10.0.0.1", "192.0.2.1:80: not ADDRESS (1:1 has no ports)"},
	    {"static add all 192.0.2.1 10.0.0.1:80", "10.0.0.1:80: not ADDRESS (1:1 has no ports)"},
	    {"static add tcp 192.0.2.1 10.0.0.1:80", "192.0.2.1: not ADDRESS:PORT"},
	    {"static add tcp 192.0.2.1:80 10.0.0.1", "10.0.0.1: not ADDRESS:PORT"},
	    {"static add tcp 0.0.0.0:80 10.0.0.1:80", "0.0.0.0:80: not ADDRESS:PORT"},
	    {"who", "who needs ADDRESS:PORT"},
	    {"who 192.0.2.1", "192.0.2.1: not ADDRESS:PORT"},
	    {"who 192.0.2.1:80 x", "x: one argument too many"},
	    {"who 192.0.2.1:80 --at 2026-01-01T00:00:00Z", "--at needs --log FILE"},
	    {"who 192.0.2.1:80 --log f", "--log needs --at TIME"},
	    {"who 192.0.2.1:80 --at yesterday --log f", "--at yesterday: not a time like"},
	    {"status --at 2026-01-01T00:00:00Z", "--at has no meaning with status"},
	    {"static del tcp", "static needs PROTOCOL EXTERNAL [INTERNAL]"},
	};
	return cr_make_param_array(struct bad, rows, sizeof rows / sizeof rows[0]);
}

ParameterizedTest(struct bad *row, ctl, wrong_arguments_get_a_sentence)
{
	static char out[8192], err[512];
	struct args args;

	cr_expect_eq(parse(row->line, NULL, &args, out, err), ARGS_EXIT_USAGE);
	cr_expect(strstr(err, row->part), "no \"%s\" in \"%s\"", row->part, err);
	cr_expect_eq(strncmp(err, "conatctl: ", 10), 0);
	cr_expect(strchr(err, '\n') == err + strlen(err) - 1, "one line: \"%s\"", err);
	cr_expect_str_empty(out);
}

Test(ctl, arguments_arrive_where_they_belong)
{
	static char out[8192], err[512];
	char line[] = "sessions --subscriber 10.1.2.3 --external 192.0.2.1:80 --remote 1.1.1.1 "
		      "--protocol UDP --realm 7 --limit 9 -j -s h:1 --timeout 3";
	char add[] = "static add tcp 192.0.2.1:443 10.0.0.5:8443";
	struct args args;

	cr_assert_eq(parse(line, "env:1", &args, out, err), 0, "%s", err);
	cr_expect_eq(args.subscriber, inet_addr("10.1.2.3"));
	cr_expect_eq(args.external.address, inet_addr("192.0.2.1"));
	cr_expect_eq(args.external.port, htons(80));
	cr_expect_eq(args.remote.address, inet_addr("1.1.1.1"));
	cr_expect_eq(args.remote.port, 0);
	cr_expect_eq(args.protocol, NAT_UDP);
	cr_expect_eq(args.realm, 7);
	cr_expect_eq(args.limit, 9);
	cr_expect(args.json);
	cr_expect_eq(args.timeout_ms, 3000);
	cr_expect_str_eq(args.server, "h:1");

	cr_assert_eq(parse(add, "unix:/run/x", &args, out, err), 0, "%s", err);
	cr_expect_eq(args.protocol, NAT_TCP);
	cr_expect_eq(args.external.port, htons(443));
	cr_expect_eq(args.internal.address, inet_addr("10.0.0.5"));
	cr_expect_eq(args.internal.port, htons(8443));
	cr_expect_eq(args.realm, 1);
	cr_expect_str_eq(args.server, "unix:/run/x");
	cr_expect_not(args.json);
}

Test(ctl, help_names_every_command_and_exit_status)
{
	static char out[8192], err[512];
	char help[] = "--help", version[] = "--version";
	struct args args;

	cr_expect_eq(parse(help, NULL, &args, out, err), -1);
	static const char *const words[] = {
	    "status",	  "dataplanes",	  "mappings",
	    "sessions",	  "subscribers",  "pools",
	    "static add", "static del",	  "static list",
	    "delete",	  "drain",	  "--server",
	    "--json",	  "--subscriber", "--external",
	    "--remote",	  "--protocol",	  "--realm",
	    "--limit",	  "--undo",	  "who ADDRESS:PORT",
	    "--at",	  "--log",	  "(who: nobody)",
	    "3 service not"};
	for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++)
		cr_expect(strstr(out, words[i]), "%s", words[i]);
	cr_expect_eq(parse(version, NULL, &args, out, err), -1);
	cr_expect_eq(strncmp(out, "conatctl ", 9), 0);
}

/* ---- output ---- */

static const struct output_column columns[] = {
    {"name", "NAME", OUTPUT_TEXT, -6},	      {"count", "COUNT", OUTPUT_NUMBER, 5},
    {"yes", "YES", OUTPUT_BOOL, -3},	      {"age_ms", "AGE", OUTPUT_MS, 6},
    {"handle", "HANDLE", OUTPUT_HANDLE, -16}, {"holders", "HOLDERS", OUTPUT_BITS, -7},
    {"list", "LIST", OUTPUT_LIST, -5},	      {NULL},
};

static char *rows_of(bool json, const union output_value *values, unsigned n)
{
	char *text = NULL;
	size_t size = 0;
	FILE *file = open_memstream(&text, &size);
	struct output output;

	output_start(&output, file, json, columns);
	for (unsigned i = 0; i < n; i++)
		output_row(&output, values);
	output_end(&output);
	fclose(file);
	return text;
}

Test(ctl, tables_are_aligned_under_one_header)
{
	const union output_value values[] = {{.text = "dp1"},	  {.number = 42},    {.number = 1},
					     {.number = 7440000}, {.number = 0xabc}, {.number = 5},
					     {.text = "a,b"}};
	char *text = rows_of(false, values, 2);

	cr_expect_str_eq(text, "NAME    COUNT  YES     AGE  HANDLE            HOLDERS  LIST\n"
			       "dp1        42  yes   2h04m  0000000000000abc  0,2      a,b\n"
			       "dp1        42  yes   2h04m  0000000000000abc  0,2      a,b\n");
	free(text);
	text = rows_of(false, values, 0);
	cr_expect_str_eq(text, "NAME    COUNT  YES     AGE  HANDLE            HOLDERS  LIST\n");
	free(text);
}

Test(ctl, json_is_one_object_a_line)
{
	const union output_value values[] = {
	    {.text = "a \"b\"\n"}, {.number = 42},	   {.number = 0},
	    {.number = 1500},	   {.number = UINT64_MAX}, {.number = 1u | UINT64_C(1) << 63},
	    {.text = "a,b"}};
	char *text = rows_of(true, values, 1);
	json_t *object = json_loads(text, 0, NULL);

	cr_assert_not_null(object, "%s", text);
	cr_expect(strchr(text, '\n') == text + strlen(text) - 1);
	cr_expect_str_eq(json_string_value(json_object_get(object, "name")), "a \"b\"\n");
	cr_expect_eq(json_integer_value(json_object_get(object, "count")), 42);
	cr_expect(json_is_false(json_object_get(object, "yes")));
	cr_expect_eq(json_integer_value(json_object_get(object, "age_ms")), 1500);
	cr_expect_str_eq(json_string_value(json_object_get(object, "handle")), "ffffffffffffffff");
	json_t *holders = json_object_get(object, "holders");
	cr_expect_eq(json_array_size(holders), 2);
	cr_expect_eq(json_integer_value(json_array_get(holders, 1)), 63);
	cr_expect_eq(json_array_size(json_object_get(object, "list")), 2);
	json_decref(object);
	free(text);
	text = rows_of(true, values, 0);
	cr_expect_str_empty(text);
	free(text);
}

Test(ctl, a_terminal_gets_no_control_characters_and_json_no_broken_utf8)
{
	const union output_value values[] = {{.text = "a\033[2J"}, {0}, {0}, {0}, {0}, {0}, {0}};
	const union output_value broken[] = {{.text = "\xff\xfe"}, {0}, {0}, {0}, {0}, {0}, {0}};
	char *text = rows_of(false, values, 1);

	cr_expect_null(strchr(text, '\033'));
	cr_expect(strstr(text, "a?[2J"));
	free(text);
	text = rows_of(true, broken, 1);
	cr_expect_eq(strncmp(text, "{\"name\":null,", 13), 0, "%s", text);
	free(text);
}

/* ---- the spool ---- */

Test(ctl, the_spool_keeps_order_past_its_size)
{
	enum { LINES = 200000 };
	struct spool *spool;
	FILE *file = tmpfile();

	cr_assert_eq(spool_new(fileno(file), &spool), 0);
	for (unsigned i = 0; i < LINES; i++)
		fprintf(spool_file(spool), "%u\n", i);
	cr_expect_eq(spool_free(spool), 0);
	rewind(file);
	for (unsigned i = 0; i < LINES; i++) {
		unsigned n = 0;
		cr_assert_eq(fscanf(file, "%u", &n), 1);
		cr_assert_eq(n, i);
	}
	cr_expect_eq(fgetc(file), '\n');
	cr_expect_eq(fgetc(file), EOF);
	fclose(file);
}

static void *close_spool(void *spool)
{
	return spool_free(spool) == 0 ? NULL : spool;
}

Test(ctl, the_spool_says_when_its_reader_does_not_keep_up)
{
	struct spool *spool;
	int ends[2];
	static char bytes[4096];
	size_t written = 0, got = 0;
	ssize_t n;

	cr_assert_eq(pipe(ends), 0);
	cr_assert_eq(spool_new(ends[1], &spool), 0);
	cr_expect(spool_has_room(spool));
	while (spool_has_room(spool)) {
		written += fwrite(bytes, 1, sizeof bytes, spool_file(spool));
		cr_assert_leq(written, 2 * SPOOL_BYTES);
		usleep(100);
	}
	while (!spool_has_room(spool))
		got += (size_t)read(ends[0], bytes, sizeof bytes);
	pthread_t closer;
	cr_assert_eq(pthread_create(&closer, NULL, close_spool, spool), 0);
	while (got < written && (n = read(ends[0], bytes, sizeof bytes)) > 0)
		got += (size_t)n;
	cr_expect_eq(got, written);
	void *result = NULL;
	pthread_join(closer, &result);
	cr_expect_null(result);
	close(ends[0]);
	close(ends[1]);
}

Test(ctl, the_spool_tells_that_nothing_can_be_written)
{
	struct spool *spool;
	FILE *full = fopen("/dev/full", "w");

	cr_assert_not_null(full);
	cr_assert_eq(spool_new(fileno(full), &spool), 0);
	fprintf(spool_file(spool), "x\n");
	cr_expect_eq(spool_free(spool), ERR_IO);
	fclose(full);
}
