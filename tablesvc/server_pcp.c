/* SPDX-License-Identifier: Apache-2.0 */
#include "tablesvc/server_pcp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "common/base/err.h"

enum {
	LETTERS = 256,	    /* requests on their way */
	A_READ = 32,	    /* datagrams of one socket in one event */
	A_TURN = 32,	    /* requests answered in one turn */
	ANNOUNCEMENTS = 10, /* section 14.1.3: up to ten, 250 ms apart and then twice as long */
	ANNOUNCE_MS = 250,
};

/* A request, then its answer. */
struct letter {
	int socket;
	uint8_t realm;
	bool answered;
	struct sockaddr_in client;
	uint64_t position; /* of the journal: not to be sent before it is committed */
	uint32_t length;
	uint8_t bytes[PCP_MESSAGE_MAX + 4];
};

struct listener {
	struct pcp_server *pcp;
	int socket;
	uint8_t realm;
	struct event *event;
};

struct pcp_server {
	struct listener *listeners;
	unsigned n_listeners;
	void (*arrived)(void *context);
	void *context;
	/* [W: the reading thread] the letter at "in" is free unless in - out == LETTERS */
	atomic_uint in;
	atomic_uint out;  /* [W: the table's thread] letters before it have left */
	unsigned next;	  /* the table's thread: letters before it are answered */
	atomic_ullong dropped;
	struct pcp_counters counters; /* the table's thread */
	uint32_t epoch_s;
	unsigned announcements;
	struct monotime announce_at;
	int64_t announce_ms;
	struct letter letters[LETTERS];
};

/* ---- the reading thread ---- */

static void on_readable(evutil_socket_t fd, short events, void *context)
{
	struct listener *listener = context;
	struct pcp_server *pcp = listener->pcp;

	for (unsigned i = 0; i < A_READ; i++) {
		unsigned in = atomic_load_explicit(&pcp->in, memory_order_relaxed);
		bool full = in - atomic_load(&pcp->out) == LETTERS;
		struct letter spare, *letter = full ? &spare : &pcp->letters[in % LETTERS];
		socklen_t size = sizeof letter->client;
		ssize_t n = recvfrom(fd, letter->bytes, sizeof letter->bytes,
				     MSG_DONTWAIT | MSG_TRUNC, (struct sockaddr *)&letter->client,
				     &size);
		if (n < 0)
			return; /* nothing more, or an ICMP error about an answer */
		if (full) {
			atomic_fetch_add(&pcp->dropped, 1);
			continue;
		}
		letter->socket = fd;
		letter->realm = listener->realm;
		letter->answered = false;
		/* What did not fit has the length of too much. */
		letter->length = (size_t)n > sizeof letter->bytes ? sizeof letter->bytes
								  : (uint32_t)n;
		atomic_store(&pcp->in, in + 1);
		pcp->arrived(pcp->context);
	}
}

static int open_socket(const struct config_pcp_listen *listen, int *out, char *error, unsigned size)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = listen->address.port,
				      .sin_addr.s_addr = listen->address.address};
	char text[INET_ADDRSTRLEN];
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
	    setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &address.sin_addr,
		       sizeof address.sin_addr) == 0) {
		*out = fd;
		return 0;
	}
	snprintf(error, size, "pcp.listen: cannot use %s:%u: %s; it must be an address of this host",
		 inet_ntop(AF_INET, &address.sin_addr, text, sizeof text), ntohs(address.sin_port),
		 strerror(errno));
	if (fd >= 0)
		close(fd);
	return ERR_IO;
}

int pcp_server_new(const struct config *config, struct pcp_server **out, char *error,
		   unsigned error_size)
{
	struct pcp_server *pcp = calloc(1, sizeof *pcp);
	int err = 0;

	if (!pcp)
		return ERR_NOMEM;
	pcp->epoch_s = UINT32_MAX; /* it was lost, for all that clients know */
	if (config->pcp.n_listen > 0) {
		pcp->listeners = calloc(config->pcp.n_listen, sizeof *pcp->listeners);
		if (!pcp->listeners)
			err = ERR_NOMEM;
	}
	for (unsigned i = 0; !err && i < config->pcp.n_listen; i++) {
		struct listener *listener = &pcp->listeners[i];
		listener->pcp = pcp;
		listener->realm = config->pcp.listen[i].realm;
		err = open_socket(&config->pcp.listen[i], &listener->socket, error, error_size);
		if (!err)
			pcp->n_listeners++;
	}
	if (err) {
		pcp_server_free(pcp);
		return err;
	}
	*out = pcp;
	return 0;
}

void pcp_server_free(struct pcp_server *pcp)
{
	if (!pcp)
		return;
	pcp_server_unlisten(pcp);
	for (unsigned i = 0; i < pcp->n_listeners; i++)
		close(pcp->listeners[i].socket);
	free(pcp->listeners);
	free(pcp);
}

int pcp_server_listen(struct pcp_server *pcp, struct event_base *base,
		      void (*arrived)(void *context), void *context)
{
	pcp->arrived = arrived;
	pcp->context = context;
	for (unsigned i = 0; i < pcp->n_listeners; i++) {
		struct listener *listener = &pcp->listeners[i];
		listener->event = event_new(base, listener->socket, EV_READ | EV_PERSIST,
					    on_readable, listener);
		if (!listener->event || event_add(listener->event, NULL) != 0)
			return ERR_NOMEM;
	}
	return 0;
}

void pcp_server_unlisten(struct pcp_server *pcp)
{
	for (unsigned i = 0; i < pcp->n_listeners; i++) {
		if (pcp->listeners[i].event)
			event_free(pcp->listeners[i].event);
		pcp->listeners[i].event = NULL;
	}
}

/* ---- the table's thread ---- */

static void answer(struct pcp_server *pcp, struct letter *letter, struct table *table,
		   struct monotime now)
{
	nat_be32 client = letter->client.sin_addr.s_addr;
	struct explicit_answer got = {0};
	struct pcp_request request;
	uint8_t out[PCP_MESSAGE_MAX];

	letter->answered = true;
	pcp->counters.requests++;
	int result = pcp_parse(letter->bytes, letter->length, client, &request);
	if (result == PCP_SUCCESS)
		result = (int)explicit_request(table, letter->realm, client, &request, now, &got);
	if (result == PCP_SILENCE) {
		pcp->counters.ignored++;
		letter->length = 0;
		return;
	}
	pcp->counters.results[result]++;
	if (result != PCP_SUCCESS && got.lifetime_s == 0)
		got.lifetime_s = pcp_error_lifetime((unsigned)result);
	size_t n = pcp_answer(letter->bytes, letter->length, &request, (unsigned)result,
			      got.lifetime_s, explicit_epoch_s(table, now), &got.external, out);
	memcpy(letter->bytes, out, n);
	letter->length = (uint32_t)n;
	letter->position = explicit_position(table);
}

static void send_bytes(struct pcp_server *pcp, int fd, const void *bytes, size_t n,
		       const struct sockaddr_in *to)
{
	if (n > 0 && sendto(fd, bytes, n, MSG_DONTWAIT, (const struct sockaddr *)to, sizeof *to) < 0)
		pcp->counters.unsent++; /* the client asks again */
}

static void announce(struct pcp_server *pcp, struct table *table, struct monotime now)
{
	const struct sockaddr_in to = {.sin_family = AF_INET,
				       .sin_port = htons(PCP_CLIENT_PORT),
				       .sin_addr.s_addr = htonl(INADDR_ALLHOSTS_GROUP)};
	uint32_t epoch_s = explicit_epoch_s(table, now);
	uint8_t bytes[PCP_MESSAGE_MAX];

	if (epoch_s < pcp->epoch_s) { /* it began again */
		pcp->announcements = ANNOUNCEMENTS;
		pcp->announce_ms = ANNOUNCE_MS;
		pcp->announce_at = now;
	}
	pcp->epoch_s = epoch_s;
	if (pcp->announcements == 0 || monotime_before(now, pcp->announce_at))
		return;
	size_t n = pcp_announcement(epoch_s, bytes);
	for (unsigned i = 0; i < pcp->n_listeners; i++)
		send_bytes(pcp, pcp->listeners[i].socket, bytes, n, &to);
	pcp->counters.announcements++;
	pcp->announcements--;
	pcp->announce_at = monotime_add_ms(now, pcp->announce_ms);
	pcp->announce_ms *= 2;
}

bool pcp_server_turn(struct pcp_server *pcp, struct table *table, struct journal *journal,
		     struct monotime now)
{
	unsigned in = atomic_load(&pcp->in), out = atomic_load(&pcp->out), n = 0;

	if (pcp->n_listeners == 0)
		return false;
	for (; pcp->next != in && n < A_TURN; pcp->next++, n++)
		answer(pcp, &pcp->letters[pcp->next % LETTERS], table, now);
	if (n > 0)
		journal->ops->flush(journal);
	uint64_t committed = journal->ops->committed(journal);
	for (; out != pcp->next; out++) {
		const struct letter *letter = &pcp->letters[out % LETTERS];
		if (letter->position > committed)
			break;
		send_bytes(pcp, letter->socket, letter->bytes, letter->length, &letter->client);
	}
	atomic_store(&pcp->out, out);
	announce(pcp, table, now);
	return pcp->next != in;
}

bool pcp_server_waiting(struct pcp_server *pcp)
{
	return atomic_load(&pcp->in) != atomic_load(&pcp->out);
}

void pcp_server_counters(struct pcp_server *pcp, struct pcp_counters *out)
{
	*out = pcp->counters;
	out->dropped = atomic_load(&pcp->dropped);
}
