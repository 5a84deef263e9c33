/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/raw_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TIMEOUT_MS = 3000 };

int raw_client_open(struct raw_client *client, const char *address,
		    const struct rpc_credentials *credentials)
{
	int err = rpc_loop_new(&client->loop);
	return err ? err : rpc_channel_new(client->loop, address, credentials, &client->channel);
}

void raw_client_close(struct raw_client *client)
{
	rpc_channel_free(client->channel);
	rpc_loop_free(client->loop);
}

static void on_message(void *context, const uint8_t *data, size_t length)
{
	struct raw_stream *s = context;
	s->changed = true;
	if (s->n == RAW_MESSAGES_MAX)
		return;
	s->messages[s->n].data = malloc(length ? length : 1);
	memcpy(s->messages[s->n].data, data, length);
	s->messages[s->n++].length = length;
}

static void on_closed(void *context, int status, const char *details)
{
	struct raw_stream *s = context;
	s->changed = true;
	s->stream = NULL;
	s->status = status;
	snprintf(s->details, sizeof s->details, "%s", details);
}

static const struct rpc_stream_events events = {.message = on_message, .closed = on_closed};

struct raw_stream *raw_open(struct raw_client *client, const char *method)
{
	struct raw_stream *s = calloc(1, sizeof *s);
	s->client = client;
	s->status = -1;
	if (rpc_stream_open(client->channel, method, RPC_QUEUE_MAX, true, 0, &events, s,
			    &s->stream) != 0) {
		free(s);
		return NULL;
	}
	return s;
}

void raw_close(struct raw_stream *s)
{
	if (s->stream) {
		rpc_stream_cancel(s->stream);
		raw_wait_closed(s);
	}
	for (unsigned i = 0; i < s->n; i++)
		free(s->messages[i].data);
	free(s);
}

bool raw_queue(struct raw_stream *s, const void *data, size_t length)
{
	return s->stream && rpc_stream_send(s->stream, data, length);
}

void raw_flush(struct raw_stream *s)
{
	if (s->stream)
		rpc_stream_flush(s->stream);
}

static bool turn(struct raw_stream *s)
{
	s->changed = false;
	rpc_loop_drain(s->client->loop, &s->changed, TIMEOUT_MS);
	return s->changed;
}

bool raw_wait_messages(struct raw_stream *s, unsigned n)
{
	while (s->n < n && s->stream)
		if (!turn(s))
			break;
	return s->n >= n;
}

int raw_wait_closed(struct raw_stream *s)
{
	while (s->stream)
		if (!turn(s))
			break;
	return s->status;
}

void raw_run(struct raw_client *client, int ms)
{
	bool never = false;
	struct monotime end = monotime_add_ms(monotime_now(), ms);
	for (int64_t left = ms; left > 0; left = monotime_sub_ms(end, monotime_now()))
		rpc_loop_drain(client->loop, &never, (int)left);
}
