/* SPDX-License-Identifier: Apache-2.0 */
/* Private to common/rpc: gRPC's headers, channel arguments, messages as contiguous bytes. */
#ifndef RPC_GRPC_H
#define RPC_GRPC_H

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>
#include <stddef.h>
#include "common/rpc/loop.h"

enum { RPC_WINDOW_BYTES = 1 << 20 };

#define rpc_container_of(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

/* Work that can wait until what a wake-up brought has been answered; embedded like a tag. */
struct rpc_later {
	void (*run)(struct rpc_later *later);
	struct rpc_later *next;
};

/* Runs it after this turn's dry(). False: the loop is busy (or not running), do it now. */
bool rpc_loop_later(struct rpc_loop *loop, struct rpc_later *later);

static inline grpc_arg rpc_arg(const char *key, int value)
{
	return (grpc_arg){
	    .type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)key, .value.integer = value};
}

static inline gpr_timespec rpc_in_ms(int64_t ms)
{
	return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(ms, GPR_TIMESPAN));
}

#endif
