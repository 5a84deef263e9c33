/* SPDX-License-Identifier: Apache-2.0 */
/* grpc.health.v1: Check answers once, Watch stays and tells the change when the service stops. */
#include <stdio.h>
#include <string.h>
#include "common/wire/codec.h"
#include "grpc/health/v1/health.pb-c.h"
#include "tablesvc/server_private.h"

enum { METHOD_CHECK, METHOD_WATCH };

static int serving_status(const struct server *server, const char *service)
{
	if (service[0] && strcmp(service, "conat.v1.NatTable") != 0 &&
	    strcmp(service, "conat.v1.NatAdmin") != 0)
		return GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN;
	return server_ready(server)
		   ? GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
		   : GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING;
}

static void tell(struct peer *peer, int status)
{
	Grpc__Health__V1__HealthCheckResponse r = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
	const uint8_t *data;
	r.status = (Grpc__Health__V1__HealthCheckResponse__ServingStatus)status;
	size_t length = wire_pack(peer->server->codec, &r.base, &data);
	if (rpc_stream_send(peer->stream, data, length)) {
		peer->health_told = status;
		peer->server->counters.messages_out++;
		peer->server->counters.bytes_out += length;
	}
}

static void message(struct peer *peer, const uint8_t *data, size_t length)
{
	struct server *server = peer->server;
	if (peer->health_told >= 0) {
		peer_end(peer, STATUS_INVALID_ARGUMENT, "a second request in one call");
		return;
	}
	const Grpc__Health__V1__HealthCheckRequest *request = wire_unpack(
	    server->codec, &grpc__health__v1__health_check_request__descriptor, data, length);
	if (!request) {
		server->counters.bad_messages++;
		peer_end(peer, STATUS_INVALID_ARGUMENT, wire_codec_error(server->codec));
		return;
	}
	server->counters.calls_health++;
	int status = serving_status(server, request->service);
	if (peer->method == METHOD_CHECK &&
	    status == GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN) {
		peer_end(peer, STATUS_NOT_FOUND, "no such service");
		return;
	}
	snprintf(peer->health_service, sizeof peer->health_service, "%s", request->service);
	tell(peer, status);
	if (peer->method == METHOD_CHECK)
		peer_end(peer, STATUS_OK, "");
}

static bool dry(struct peer *peer, struct monotime now)
{
	if (peer->method == METHOD_WATCH && peer->health_told >= 0) {
		int status = serving_status(peer->server, peer->health_service);
		if (status != peer->health_told)
			tell(peer, status);
	}
	return false;
}

static void stop(struct peer *peer)
{
	/* Ends with OK: gRPC may drop a message that an error follows at once. */
	dry(peer, monotime_now());
	peer_end(peer, STATUS_OK, "");
}

static const struct peer_ops health_ops = {
    .message = message,
    .dry = dry,
    .stop = stop,
};

int server_health_call(struct server *server, struct grpc_call *call, const char *method)
{
	if (strcmp(method, "/grpc.health.v1.Health/Check") == 0)
		return peer_accept(server, call, &health_ops, METHOD_CHECK, SERVER_ADMIN_QUEUE,
				   true, NULL);
	if (strcmp(method, "/grpc.health.v1.Health/Watch") == 0)
		return peer_accept(server, call, &health_ops, METHOD_WATCH, SERVER_ADMIN_QUEUE,
				   true, NULL);
	return STATUS_UNIMPLEMENTED;
}
