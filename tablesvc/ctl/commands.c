/* SPDX-License-Identifier: Apache-2.0 */
#include "tablesvc/ctl/commands.h"

#include <arpa/inet.h>
#include <string.h>
#include "common/base/err.h"
#include "common/rpc/channel.h"
#include "tablesvc/ctl/rows.h"
#include "tablesvc/ctl/who.h"

enum { REQUEST_BYTES = 512, STATUS_NOT_FOUND = 5 };

typedef Conat__V1__Endpoint endpoint_pb;

static endpoint_pb endpoint_in(const struct nat_endpoint *e)
{
	endpoint_pb out = CONAT__V1__ENDPOINT__INIT;

	out.address = ntohl(e->address);
	out.port = ntohs(e->port);
	return out;
}

static int on_message(void *context, const uint8_t *data, size_t length)
{
	struct run *run = context;
	ProtobufCMessage *reply =
	    protobuf_c_message_unpack(run->command->reply, NULL, length, data);

	if (!reply)
		return ERR_MALFORMED;
	run->command->print(run, reply);
	protobuf_c_message_free_unpacked(reply, NULL);
	return spool_failed(run->spool) ? ERR_IO : 0;
}

static bool has_room(void *context)
{
	struct run *run = context;
	return spool_has_room(run->spool);
}

static int call(struct run *run, const struct command *command, const ProtobufCMessage *request,
		FILE *err)
{
	uint8_t bytes[REQUEST_BYTES];
	char method[64], error[512] = "";
	int status = 0;

	if (protobuf_c_message_get_packed_size(request) > sizeof bytes) {
		fputs("conatctl: the request is too long\n", err);
		return ARGS_EXIT_USAGE;
	}
	size_t length = protobuf_c_message_pack(request, bytes);
	snprintf(method, sizeof method, "/conat.v1.NatAdmin/%s", command->method);
	run->command = command;
	int result = rpc_call_list(run->args->server, &run->args->credentials, method, bytes,
				   length, run->args->timeout_ms, on_message, has_room, run,
				   &status, error, sizeof error);
	if (!result)
		return ARGS_EXIT_OK;
	if (result == ERR_UNAVAILABLE) {
		/* gRPC says who failed to do what for whom; the last part is why. */
		const char *why = error;
		for (const char *p = strstr(why, ": "); p; p = strstr(why, ": "))
			why = p + 2;
		fprintf(err, "conatctl: no table service at %s: %s\n", run->args->server, why);
		return ARGS_EXIT_UNREACHABLE;
	}
	fprintf(err, "conatctl: %s\n",
		result == ERR_IO	  ? "the output cannot be written"
		: result == ERR_MALFORMED ? "the service sent something that is no reply; is it "
					    "another version?"
		: error[0]		  ? error
					  : err_text(result));
	return status == STATUS_NOT_FOUND ? ARGS_EXIT_NOT_FOUND : ARGS_EXIT_FAILED;
}

static int call_static(struct run *run, FILE *err)
{
	const struct args *args = run->args;
	struct nat_endpoint internal = args->internal;

	if (!internal.address) {
		Conat__V1__StaticListRequest list = CONAT__V1__STATIC_LIST_REQUEST__INIT;
		int code = call(run, &rows_static_lookup, &list.base, err);
		if (code)
			return code;
		if (!run->found) {
			fputs("conatctl: there is no such static mapping\n", err);
			return ARGS_EXIT_NOT_FOUND;
		}
		internal = run->internal_found;
	}
	Conat__V1__StaticMapping request = CONAT__V1__STATIC_MAPPING__INIT;
	endpoint_pb external_pb = endpoint_in(&args->external),
		    internal_pb = endpoint_in(&internal);
	request.realm = args->realm;
	request.protocol = args->protocol;
	request.external = &external_pb;
	request.internal = &internal_pb;
	return call(run, &rows_commands[args->command], &request.base, err);
}

static int call_filtered(struct run *run, FILE *err)
{
	const struct args *args = run->args;
	const struct nat_endpoint subscriber = {.address = args->subscriber};
	Conat__V1__Filter filter = CONAT__V1__FILTER__INIT;
	endpoint_pb subscriber_pb = endpoint_in(&subscriber);
	endpoint_pb external_pb = endpoint_in(&args->external);
	endpoint_pb remote_pb = endpoint_in(&args->remote);

	filter.subscriber = args->subscriber ? &subscriber_pb : NULL;
	filter.external = args->external.address ? &external_pb : NULL;
	filter.remote = args->remote.address ? &remote_pb : NULL;
	filter.protocol = args->protocol;
	filter.realm = args->realm;
	filter.limit = args->limit;
	int code = call(run, &rows_commands[args->command], &filter.base, err);
	if (!code && args->command == ARGS_DELETE && !run->acted_on)
		code = ARGS_EXIT_NOT_FOUND;
	return code;
}

static int call_drain(struct run *run, FILE *err)
{
	Conat__V1__DrainRequest request = CONAT__V1__DRAIN_REQUEST__INIT;

	request.dataplane = (char *)(uintptr_t)run->args->dataplane;
	request.undo = run->args->undo;
	return call(run, &rows_commands[ARGS_DRAIN], &request.base, err);
}

static int call_who(struct run *run, FILE *err)
{
	const struct args *args = run->args;
	Conat__V1__WhoRequest request = CONAT__V1__WHO_REQUEST__INIT;
	endpoint_pb external = endpoint_in(&args->external);
	int code;

	output_start(&run->output, run->out, args->json, args->json ? who_json_columns : who_columns);
	if (args->at)
		return who_from_logs(run, err);
	request.external = &external;
	request.protocol = args->protocol;
	code = call(run, &rows_commands[ARGS_WHO], &request.base, err);
	return code ? code : who_exit(run, err);
}

int commands_run(const struct args *args, struct spool *out, FILE *err)
{
	struct run run = {.args = args, .out = spool_file(out), .spool = out};
	Conat__V1__StatusRequest empty = CONAT__V1__STATUS_REQUEST__INIT; /* all empty ones alike */
	int code;

	if (rows_commands[args->command].list)
		output_start(&run.output, run.out, args->json,
			     rows_commands[args->command].columns);
	switch (args->command) {
	case ARGS_MAPPINGS:
	case ARGS_SESSIONS:
	case ARGS_SUBSCRIBERS:
	case ARGS_DELETE:
		code = call_filtered(&run, err);
		break;
	case ARGS_STATIC_ADD:
	case ARGS_STATIC_DEL:
		code = call_static(&run, err);
		break;
	case ARGS_WHO:
		code = call_who(&run, err);
		break;
	case ARGS_DRAIN:
		code = call_drain(&run, err);
		break;
	default:
		code = call(&run, &rows_commands[args->command], &empty.base, err);
		break;
	}
	if (!code && rows_commands[args->command].list)
		output_end(&run.output);
	return code;
}
