/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams, and the service's server as tablesvc/server_nat.c is: an attachment is a control stream
 * and a data stream; when one ends so does the other; a dataplane that comes back before its old
 * streams were noticed dead takes their place.
 */
#include <stdlib.h>
#include <string.h>
#include "common/base/err.h"
#include "tests/sim/sim.h"

#define NOT_ATTACHED UINT32_MAX

struct envelope *mail_new(enum envelope_kind kind)
{
	struct envelope *mail = calloc(1, sizeof *mail);
	if (!mail)
		abort();
	mail->kind = kind;
	return mail;
}

static void mail_free(struct envelope *mail)
{
	if (mail->kind == MAIL_BATCH)
		free(mail->batch.entries);
	if (mail->kind == MAIL_MESSAGE) {
		free(mail->message.answers);
		free(mail->message.notices);
	}
	free(mail);
}

static void queue_clear(struct queue *queue)
{
	while (queue->first) {
		struct envelope *mail = queue->first;
		queue->first = mail->next;
		mail_free(mail);
	}
	queue->last = &queue->first;
	queue->n = 0;
}

static void asked_pop(struct link *link)
{
	struct asked *asked = link->asked;
	link->asked = asked->next;
	if (!link->asked)
		link->asked_last = &link->asked;
	free(asked);
}

static void link_free(struct link *link)
{
	for (unsigned i = 0; i < QUEUES; i++)
		queue_clear(&link->queues[i]);
	while (link->asked)
		asked_pop(link);
	link->used = false;
}

struct link *link_open(struct sim *sim, struct dataplane *dp)
{
	for (unsigned i = 0; i < LINKS; i++) {
		struct link *link = &sim->links[i];
		if (link->used)
			continue;
		*link = (struct link){.used = true,
				      .dataplane_open = true,
				      .server_open = true,
				      .dataplane = dp->index,
				      .attached = NOT_ATTACHED,
				      .window = 1 + below(sim, chance(sim, 500) ? 3 : 20)};
		cache_incarnation(dp->cache, link->incarnation);
		link->asked_last = &link->asked;
		for (unsigned q = 0; q < QUEUES; q++)
			link->queues[q].last = &link->queues[q].first;
		return link;
	}
	return NULL; /* too many half-dead ones: later */
}

static int64_t delay(struct sim *sim)
{
	uint32_t kind = below(sim, 1000);
	if (kind < 900 || sim->healing || sim->shape.smooth)
		return 100000 + (int64_t)below(sim, 4000) * 1000;
	if (kind < 995)
		return ms(below(sim, 100));
	sim->disturbances++;
	sim->troubles++;
	return ms(below(sim, sim->config.lease_ms * 2));
}

void link_send(struct sim *sim, struct link *link, enum queue_of which, struct envelope *mail)
{
	struct queue *queue = &link->queues[which];
	int64_t arrival = sim->now + delay(sim);

	mail->arrival = arrival > queue->arrival ? arrival : queue->arrival;
	queue->arrival = mail->arrival;
	*queue->last = mail;
	queue->last = &mail->next;
	queue->n++;
}

static void send_close(struct sim *sim, struct link *link, enum queue_of control,
		       enum queue_of data)
{
	link_send(sim, link, control, mail_new(MAIL_CLOSE));
	link_send(sim, link, data, mail_new(MAIL_CLOSE));
}

void link_close_dataplane(struct sim *sim, struct link *link)
{
	if (!link->dataplane_open)
		return;
	link->dataplane_open = false;
	queue_clear(&link->queues[DOWN_CONTROL]);
	queue_clear(&link->queues[DOWN_DATA]);
	if (link->server_open)
		send_close(sim, link, UP_CONTROL, UP_DATA);
}

void link_close_server(struct sim *sim, struct link *link)
{
	if (!link->server_open)
		return;
	link->server_open = false;
	queue_clear(&link->queues[UP_CONTROL]);
	queue_clear(&link->queues[UP_DATA]);
	if (link->attached != NOT_ATTACHED) {
		sim->attachments[link->attached] = NULL;
		table_detach(sim->table, link->attached, table_now(sim));
		sim->table_changed = true;
		link->attached = NOT_ATTACHED;
	}
	if (link->dataplane_open)
		send_close(sim, link, DOWN_CONTROL, DOWN_DATA);
}

/* Keeps a random number of what is under way, then the end. */
static void queue_cut(struct sim *sim, struct link *link, enum queue_of which)
{
	struct queue *queue = &link->queues[which];
	unsigned keep = below(sim, queue->n + 1);
	struct envelope **at = &queue->first;

	for (unsigned i = 0; i < keep; i++)
		at = &(*at)->next;
	struct envelope *rest = *at;
	*at = NULL;
	queue->last = at;
	queue->n = keep;
	while (rest) {
		struct envelope *next = rest->next;
		mail_free(rest);
		rest = next;
	}
	link_send(sim, link, which, mail_new(MAIL_CLOSE));
}

void link_break(struct sim *sim, struct link *link)
{
	trace(sim, "dp%u: streams break", link->dataplane);
	for (unsigned q = 0; q < QUEUES; q++)
		if (q < DOWN_CONTROL ? link->server_open : link->dataplane_open)
			queue_cut(sim, link, q);
}

/* ---- the server */

static void server_hello(struct sim *sim, struct link *link, const struct wire_hello *hello)
{
	struct envelope *mail = mail_new(MAIL_WELCOME);
	uint32_t attached;
	int rc = table_attach(sim->table, hello, table_now(sim), &mail->welcome, &attached);

	if (rc) {
		trace(sim, "dp%u: attach refused: %s", link->dataplane, err_text(rc));
		free(mail);
		link_close_server(sim, link);
		return;
	}
	struct link *old = sim->attachments[attached];
	if (old) { /* unheard from now on; the table is not told: it is attached again */
		old->attached = NOT_ATTACHED;
		link_close_server(sim, old);
	}
	sim->attachments[attached] = link;
	link->attached = attached;
	if (sim->dataplanes[link->dataplane].link == link) /* else a late hello of a crashed one */
		sim->dataplanes[link->dataplane].slot = attached;
	trace(sim, "table: dp%u attached as %u, flush %d, goes on after %lu", link->dataplane,
	      attached, mail->welcome.flush, (unsigned long)mail->welcome.sequence);
	link_send(sim, link, DOWN_CONTROL, mail);
	link_send(sim, link, DOWN_CONTROL, mail_new(MAIL_CONFIG));
}

static void server_batch(struct sim *sim, struct link *link, const struct wire_batch *batch)
{
	if (!link->named) {
		uint32_t found;
		if (table_find_dataplane(sim->table, link->incarnation, &found) != 0 ||
		    found != link->attached) {
			/* Its fence was over meanwhile, or it has attached anew by now. */
			link_close_server(sim, link);
			return;
		}
		link->named = true;
	}
	struct asked *asked = calloc(1, sizeof *asked + batch->n * sizeof asked->tuples[0]);
	if (!asked)
		abort();
	asked->sequence = batch->sequence;
	asked->step = sim->steps;
	for (uint32_t i = 0; i < batch->n; i++) {
		const struct wire_request *r = &batch->entries[i];
		trace(sim, "table: dp%u #%lu op %u handle %lx age %u flags %u ack %lu",
		      link->dataplane, (unsigned long)batch->sequence, r->op,
		      (unsigned long)r->handle, r->age_ms, r->tcp_flags,
		      (unsigned long)batch->acknowledged);
		if (wire_op_is_question(r->op)) {
			struct nat_tuple *tuple = &asked->tuples[asked->n++];
			*tuple = r->tuple;
			tuple->zero = !wire_op_grants(r->op); /* U4 speaks of the packets themselves */
		}
	}
	if (batch->n) {
		*link->asked_last = asked;
		link->asked_last = &asked->next;
	} else {
		free(asked);
	}
	int rc = table_batch(sim->table, link->attached, batch, table_now(sim));
	/*
	 * STALE: its fence was over, it must attach again. BUSY: too much that it did not
	 * acknowledge yet, which takes an outbox far smaller than a service's.
	 */
	if (rc == ERR_STALE || (rc == ERR_BUSY && sim->small_outbox))
		link_close_server(sim, link);
	else if (rc)
		fail(sim, "dp%u: the table refuses batch %lu: %s", link->dataplane,
		     (unsigned long)batch->sequence, err_text(rc));
}

static void server_mail(struct sim *sim, struct link *link, struct envelope *mail)
{
	struct envelope *reply;

	sim->table_changed = true;
	switch (mail->kind) {
	case MAIL_HELLO:
		server_hello(sim, link, &mail->hello);
		break;
	case MAIL_HEARTBEAT:
		reply = mail_new(MAIL_HEARTBEAT_ACK);
		table_heartbeat(sim->table, link->attached, &mail->heartbeat, table_now(sim),
				&reply->ack);
		trace(sim, "table: heartbeat of dp%u, ack %lu: %s", link->dataplane,
		      (unsigned long)mail->heartbeat.acknowledged,
		      reply->ack.renewed ? "renewed" : "not renewed");
		link_send(sim, link, DOWN_CONTROL, reply);
		break;
	case MAIL_BATCH:
		if (link->attached == NOT_ATTACHED)
			fail(sim, "dp%u: data before the hello", link->dataplane);
		else
			server_batch(sim, link, &mail->batch);
		break;
	case MAIL_CLOSE:
		trace(sim, "table: streams of dp%u end", link->dataplane);
		link_close_server(sim, link);
		break;
	default:
		abort();
	}
	server_pump(sim);
}

static void check_answers(struct sim *sim, struct link *link, const struct wire_message *message)
{
	while (link->asked && link->asked->sequence < message->request_sequence)
		asked_pop(link);
	if (!link->asked || link->asked->sequence != message->request_sequence)
		return; /* sent again after a reconnect */
	if (link->asked->n != message->n)
		fail(sim, "dp%u: %u answers to %u questions", link->dataplane, message->n,
		     link->asked->n);
	for (uint32_t i = 0; i < message->n && i < link->asked->n; i++) {
		const struct nat_tuple *tuple = &link->asked->tuples[i];
		const struct wire_answer *answer = &message->answers[i];
		trace(sim, "table: %08x:%u > %08x:%u of dp%u: verdict %u, %s, sessions %lx %lx",
		      nat_swap32(tuple->source), nat_swap16(tuple->source_port),
		      nat_swap32(tuple->destination), nat_swap16(tuple->destination_port),
		      link->dataplane, answer->verdict, nat_reason_name(answer->reason),
		      (unsigned long)answer->handle, (unsigned long)answer->peer_handle);
		/* One that had to wait for the window may have been overtaken by its session's end.
		 */
		if (link->asked->step == sim->steps)
			check_answer(sim, tuple, answer);
	}
	asked_pop(link);
}

static struct envelope *copy_message(const struct wire_message *message)
{
	struct envelope *mail = mail_new(MAIL_MESSAGE);
	size_t answers = message->kind == WIRE_ANSWER ? message->n : 0;
	size_t notices =
	    message->kind != WIRE_ANSWER && message->kind != WIRE_FLUSH ? message->n : 0;

	mail->message = *message;
	mail->message.answers = calloc(answers + 1, sizeof *message->answers);
	mail->message.notices = calloc(notices + 1, sizeof *message->notices);
	if (!mail->message.answers || !mail->message.notices)
		abort();
	if (answers)
		memcpy(mail->message.answers, message->answers, answers * sizeof *message->answers);
	if (notices)
		memcpy(mail->message.notices, message->notices, notices * sizeof *message->notices);
	return mail;
}

static void pump_link(struct sim *sim, struct link *link)
{
	struct wire_message message;

	while (link->named && link->queues[DOWN_DATA].n < link->window &&
	       table_next_message(sim->table, link->attached, &message)) {
		if (message.kind == WIRE_ANSWER)
			check_answers(sim, link, &message);
		trace(sim, "table: to dp%u message %lu kind %u n %u%s%lx", link->dataplane,
		      (unsigned long)message.sequence, message.kind, message.n,
		      message.kind == WIRE_ANSWER ? " for #" : " first ",
		      message.kind == WIRE_ANSWER ? (unsigned long)message.request_sequence
		      : message.n		  ? (unsigned long)message.notices[0].handle
						  : 0);
		link_send(sim, link, DOWN_DATA, copy_message(&message));
	}
}

void server_pump(struct sim *sim)
{
	for (unsigned i = 0; i < WIRE_DATAPLANES_MAX; i++)
		if (sim->attachments[i])
			pump_link(sim, sim->attachments[i]);
}

/* ---- delivery */

void link_deliver(struct sim *sim, struct link *link, enum queue_of which)
{
	struct queue *queue = &link->queues[which];
	struct envelope *mail = queue->first;
	struct dataplane *dp = &sim->dataplanes[link->dataplane];

	queue->first = mail->next;
	queue->n--;
	if (!queue->first)
		queue->last = &queue->first;
	if (which < DOWN_CONTROL) {
		if (link->server_open)
			server_mail(sim, link, mail);
	} else if (link->dataplane_open && mail->kind == MAIL_CLOSE) {
		dataplane_closed(dp);
	} else if (link->dataplane_open) {
		dataplane_mail(dp, mail);
		if (which == DOWN_DATA && link->server_open)
			server_pump(sim); /* the window opened */
	}
	mail_free(mail);
}

void links_collect(struct sim *sim)
{
	for (unsigned i = 0; i < LINKS; i++)
		if (sim->links[i].used && !sim->links[i].dataplane_open &&
		    !sim->links[i].server_open)
			link_free(&sim->links[i]);
}

void links_free(struct sim *sim)
{
	for (unsigned i = 0; i < LINKS; i++)
		if (sim->links[i].used)
			link_free(&sim->links[i]);
}
