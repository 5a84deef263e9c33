/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * grpc_completion_queue_next with a deadline in the past polls the sockets once without waiting, so
 * "drain until dry" sees everything that has arrived. What came in together is answered together:
 * the hook that runs when the queue is dry flushes each stream once. That halves the cost of a
 * message.
 *
 * Waking: another thread cannot post to a completion queue, but a batch without operations on any
 * call completes at once on that call's queue. The call belongs to a lame channel, so it needs no
 * peer. It costs a few microseconds, hence the flag: only a sleeping loop is woken, and only by the
 * first who finds it asleep. The loop sets the flag, then looks at its work again (pending), then
 * waits; the other side queues its work, then looks at the flag; with a full fence on both sides
 * one of the two sees the other.
 *
 * Later: gRPC sends a window update, a system call and a wake-up of the peer, for each receive that
 * is started. In the turn after a sleep, when a message is alone and somebody waits for its answer,
 * that comes after the answer. A loop that did not sleep does it at once: there the next message is
 * waiting already.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <grpc/support/log.h>
#include "common/base/err.h"
#include "common/base/log.h"
#include "common/rpc/grpc.h"

enum { TURN_EVENTS_MAX = 4096 }; /* then dry() is called anyway: timers cannot be starved */

struct rpc_loop {
	grpc_completion_queue *queue;
	grpc_channel *lame;
	grpc_call *bell;
	struct rpc_tag rung;
	struct monotime now;
	struct rpc_later *later;
	bool slept; /* since the last dry() */
	atomic_bool asleep;
	atomic_bool stopping;
};

static void grpc_log(gpr_log_func_args *args)
{
	if (args->severity == GPR_LOG_SEVERITY_ERROR)
		log_info("grpc: %s", args->message);
	else
		log_debug("grpc: %s", args->message);
}

static void rung(struct rpc_tag *tag, bool ok)
{
}

int rpc_loop_new(struct rpc_loop **out)
{
	struct rpc_loop *loop = calloc(1, sizeof *loop);
	if (!loop)
		return ERR_NOMEM;
	gpr_set_log_function(grpc_log);
	grpc_init();
	loop->rung.done = rung;
	loop->queue = grpc_completion_queue_create_for_next(NULL);
	loop->lame = grpc_lame_client_channel_create("lame:", GRPC_STATUS_UNAVAILABLE, "no peer");
	loop->bell = grpc_channel_create_call(loop->lame, NULL, GRPC_PROPAGATE_DEFAULTS,
					      loop->queue, grpc_slice_from_static_string("/bell"),
					      NULL, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
	loop->now = monotime_now();
	*out = loop;
	return 0;
}

static bool dispatch(grpc_event event)
{
	if (event.type != GRPC_OP_COMPLETE)
		return false;
	struct rpc_tag *tag = event.tag;
	tag->done(tag, event.success);
	return true;
}

void rpc_loop_free(struct rpc_loop *loop)
{
	if (!loop)
		return;
	grpc_call_unref(loop->bell);
	grpc_channel_destroy(loop->lame);
	grpc_completion_queue_shutdown(loop->queue);
	while (dispatch(grpc_completion_queue_next(loop->queue, rpc_in_ms(1000), NULL)))
		continue;
	grpc_completion_queue_destroy(loop->queue);
	grpc_shutdown();
	free(loop);
}

struct grpc_completion_queue *rpc_loop_queue(struct rpc_loop *loop)
{
	return loop->queue;
}

struct monotime rpc_loop_now(const struct rpc_loop *loop)
{
	return loop->now;
}

void rpc_loop_wake(struct rpc_loop *loop)
{
	atomic_thread_fence(memory_order_seq_cst);
	if (!atomic_load_explicit(&loop->asleep, memory_order_relaxed))
		return;
	if (!atomic_exchange(&loop->asleep, false))
		return;
	grpc_call_start_batch(loop->bell, NULL, 0, &loop->rung, NULL);
}

void rpc_loop_stop(struct rpc_loop *loop)
{
	atomic_store(&loop->stopping, true);
	rpc_loop_wake(loop);
}

static gpr_timespec deadline_of(struct monotime wanted)
{
	if (wanted.ns == MONOTIME_NEVER.ns)
		return gpr_inf_future(GPR_CLOCK_MONOTONIC);
	/* gRPC's timers have milliseconds: round up, or the last one is spent in a busy loop. */
	int64_t left_ns = wanted.ns - monotime_now().ns;
	return left_ns <= 0 ? gpr_time_0(GPR_CLOCK_MONOTONIC)
			    : rpc_in_ms((left_ns + MS_NS - 1) / MS_NS);
}

static void sleep_until_event(struct rpc_loop *loop, const struct rpc_loop_hooks *hooks)
{
	gpr_timespec deadline = deadline_of(hooks->deadline(hooks->context, loop->now));
	atomic_store(&loop->asleep, true);
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load(&loop->stopping) || (hooks->pending && hooks->pending(hooks->context)))
		deadline = gpr_time_0(GPR_CLOCK_MONOTONIC);
	if (hooks->sleeping)
		hooks->sleeping(hooks->context);
	grpc_event event = grpc_completion_queue_next(loop->queue, deadline, NULL);
	atomic_store(&loop->asleep, false);
	loop->slept = true;
	if (hooks->awake)
		hooks->awake(hooks->context);
	loop->now = monotime_now();
	dispatch(event);
}

bool rpc_loop_later(struct rpc_loop *loop, struct rpc_later *later)
{
	if (!loop->slept)
		return false;
	later->next = loop->later;
	loop->later = later;
	return true;
}

/* True when there was something. */
static bool run_later(struct rpc_loop *loop)
{
	struct rpc_later *later = loop->later;
	bool any = later != NULL;
	loop->later = NULL;
	loop->slept = false;
	while (later) {
		struct rpc_later *next = later->next; /* it may free itself */
		later->run(later);
		later = next;
	}
	return any;
}

void rpc_loop_run(struct rpc_loop *loop, const struct rpc_loop_hooks *hooks)
{
	while (!atomic_load_explicit(&loop->stopping, memory_order_relaxed)) {
		loop->now = monotime_now();
		unsigned events = 0;
		while (events < TURN_EVENTS_MAX &&
		       dispatch(grpc_completion_queue_next(loop->queue,
							   gpr_time_0(GPR_CLOCK_MONOTONIC), NULL)))
			events++;
		/* What dry() flushed mostly completed already: look again before sleeping. */
		bool more = hooks->dry(hooks->context, loop->now);
		more |= run_later(loop);
		if (!more && !events)
			sleep_until_event(loop, hooks);
	}
	run_later(loop);
	atomic_store(&loop->stopping, false);
}

void rpc_loop_drain(struct rpc_loop *loop, const bool *stop, int timeout_ms)
{
	gpr_timespec deadline = rpc_in_ms(timeout_ms);
	while (!*stop && dispatch(grpc_completion_queue_next(loop->queue, deadline, NULL)))
		loop->now = monotime_now();
}
