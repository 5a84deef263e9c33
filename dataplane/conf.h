/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program's arguments, from one table that also makes --help and the manual's list. Where the
 * service is and which interfaces there are is all that a dataplane is told; the rest it gets from
 * the service when it attaches.
 */
#ifndef DATAPLANE_CONF_H
#define DATAPLANE_CONF_H

#include <stdbool.h>
#include <stdio.h>
#include "common/base/log.h"
#include "dataplane/table_client.h"

enum conf_port { CONF_PORT_AUTO, CONF_PORT_TUN, CONF_PORT_PCAP };
enum { CONF_PATH_MAX = 1024, CONF_ERROR_MAX = 512, CONF_FLOWS_DEFAULT = 1000000 };

struct conf {
	char addresses[TABLE_CLIENT_ADDRESSES_MAX][TABLE_CLIENT_ADDRESS_MAX];
	unsigned n_addresses;
	char embedded[CONF_PATH_MAX]; /* the service's configuration file; "" = not embedded */
	struct port_interface interfaces[PORT_INTERFACES_MAX];
	unsigned n_interfaces;
	enum conf_port port; /* after conf_parse never AUTO */
	const char *port_why;
	char read[CONF_PATH_MAX], write[CONF_PATH_MAX];
	bool host_setup;
	char name[WIRE_NAME_MAX];
	unsigned flows, queues;
	char admin[TABLE_CLIENT_ADDRESS_MAX]; /* "" = off */
	struct rpc_credentials credentials;
	enum log_level log_level;
	enum log_target log_target;
	bool help, version; /* asked for; then nothing else was checked */
};

/* 0, or ERR_INVALID and a sentence that says what is wrong and what is allowed. */
int conf_parse(int argc, char *const argv[], struct conf *out, char error[CONF_ERROR_MAX]);
void conf_help(FILE *out);

#endif
