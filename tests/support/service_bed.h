/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of the service over a real connection share: the service, a client, and a dataplane
 * driven by hand. One of each at a time; the test program has one of these beds.
 */
#ifndef SUPPORT_SERVICE_BED_H
#define SUPPORT_SERVICE_BED_H

#include "common/wire/wire_encode.h"
#include "tests/support/raw_client.h"
#include "tests/support/service.h"

/* gRPC status codes. */
enum {
	OK = 0,
	INVALID_ARGUMENT = 3,
	NOT_FOUND = 5,
	RESOURCE_EXHAUSTED = 8,
	FAILED_PRECONDITION = 9,
	ABORTED = 10,
	UNIMPLEMENTED = 12,
	UNAVAILABLE = 14,
};

extern struct service service;
extern struct raw_client client;
extern struct wire_codec *codec;
extern char error[512];
/* What decoded() filled in last. */
extern struct wire_answer answers[WIRE_BATCH_MAX];
extern struct wire_notice notices[WIRE_BATCH_MAX];

void bed_start(const char *yaml, const char *listen);
void bed_start_plain(void); /* service_yaml, any port of loopback */
void bed_stop(void);
/* As they are when everything before has been published. */
struct server_counters counters(void);
/* One call of NatAdmin, waited for. */
int call(const char *method, const void *request, size_t length,
	 int (*message)(void *, const uint8_t *, size_t), void *context, int *status);

struct by_hand {
	struct raw_stream *control, *data;
	struct wire_hello hello;
	struct wire_control welcome;
	uint64_t sequence;
};

struct wire_hello a_hello(uint64_t incarnation);
void send_hello(struct raw_stream *stream, const struct wire_hello *hello);
void send_beat(struct by_hand *d);
void attach(struct by_hand *d, uint64_t incarnation);
void leave(struct by_hand *d);
/* RESOLVE_OUT of UDP from host i / 1000 of realm 1, port 1024 + i % 1000. */
struct wire_request a_question(unsigned i);
void queue_batch(struct by_hand *d, struct wire_request *entries, uint32_t n);
/* Creates sessions 0 .. n - 1, a window of batches at a time. */
void create_sessions(struct by_hand *d, unsigned n);
/* Message i of the stream, its entries in answers or notices. */
struct wire_message decoded(const struct raw_stream *stream, unsigned i);

#endif
