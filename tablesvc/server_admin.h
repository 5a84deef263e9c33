/* SPDX-License-Identifier: Apache-2.0 */
/* Private to NatAdmin: server_admin.c has the calls, server_admin_rows.c what its lists are made
 * of. */
#ifndef TABLESVC_SERVER_ADMIN_H
#define TABLESVC_SERVER_ADMIN_H

#include "common/wire/codec.h"
#include "conat/v1/nat_admin.pb-c.h"
#include "tablesvc/server_private.h"

enum { ADMIN_ROWS = 128 }; /* of one step of a list */

typedef Conat__V1__Endpoint endpoint_pb;

/* Queues a message to the operator; ends the call when replies are not read. */
void admin_reply(struct peer *peer, const ProtobufCMessage *message);
endpoint_pb admin_endpoint(const struct nat_endpoint *e);
/* protobuf-c's strings are not const; NULL is "". */
char *admin_text(const char *s);

/*
 * One step of a list: sends what comes next, at most max (ADMIN_ROWS) rows, and returns how many;
 * peer->listing.cursor is 0 when that was the end.
 */
typedef unsigned admin_step(struct peer *peer, unsigned max, struct monotime now);
admin_step admin_mappings, admin_sessions, admin_subscribers, admin_pools, admin_dataplanes,
    admin_statics;

#endif
