/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The completion-queue loop: one thread owns a queue and every call on it. A turn drains the queue
 * without waiting (callbacks only queue output), then calls dry(), where all output is produced and
 * flushed, then sleeps until the deadline, an event, or rpc_loop_wake from another thread. Starting
 * batches from any other thread is five times slower, so nobody does.
 */
#ifndef RPC_LOOP_H
#define RPC_LOOP_H

#include <stdbool.h>
#include "common/base/clock.h"

struct rpc_loop;
struct grpc_completion_queue;

/* What a completion points at; embedded in the object whose operation it was. */
struct rpc_tag {
	void (*done)(struct rpc_tag *tag, bool ok);
};

struct rpc_loop_hooks {
	void *context;
	/* The queue is dry. Returns true when there is more to do at once: do not sleep. */
	bool (*dry)(void *context, struct monotime now);
	/* When dry() is wanted again if nothing happens; MONOTIME_NEVER. */
	struct monotime (*deadline)(void *context, struct monotime now);
	/*
	 * Asked after the loop declared itself asleep, so that what another thread queued just
	 * before is not slept over. May be NULL.
	 */
	bool (*pending)(void *context);
	void (*sleeping)(void *context); /* around the wait; may be NULL */
	void (*awake)(void *context);
};

/* Calls grpc_init: signal masks, forks and privileges are settled before. 0 or ERR_NOMEM. */
int rpc_loop_new(struct rpc_loop **out);
/* Shuts the queue down, runs what is left in it, calls grpc_shutdown. */
void rpc_loop_free(struct rpc_loop *loop);
struct grpc_completion_queue *rpc_loop_queue(struct rpc_loop *loop);

/* Runs turns until rpc_loop_stop (also one from before); may be called again afterwards. */
void rpc_loop_run(struct rpc_loop *loop, const struct rpc_loop_hooks *hooks);
/* Runs completions for at most timeout_ms, or until *stop; for shutting down and blocking calls. */
void rpc_loop_drain(struct rpc_loop *loop, const bool *stop, int timeout_ms);
/* Any thread: makes a sleeping loop turn; nearly free while it is awake. */
void rpc_loop_wake(struct rpc_loop *loop);
/* Any thread and signal handlers' pipes, but not a signal handler itself. */
void rpc_loop_stop(struct rpc_loop *loop);
/* The time at which the current turn began. Loop thread. */
struct monotime rpc_loop_now(const struct rpc_loop *loop);

#endif
