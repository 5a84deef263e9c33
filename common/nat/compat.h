/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one place that knows which compiler and which world we are in. common/nat compiles with gcc,
 * clang, and clang -target bpf; nothing else in it may ask.
 */
#ifndef NAT_COMPAT_H
#define NAT_COMPAT_H

#ifdef __bpf__
typedef __UINT8_TYPE__ uint8_t;
typedef __UINT16_TYPE__ uint16_t;
typedef __UINT32_TYPE__ uint32_t;
typedef __UINT64_TYPE__ uint64_t;
typedef __INT32_TYPE__ int32_t;
typedef __INT64_TYPE__ int64_t;
typedef __SIZE_TYPE__ size_t;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)
#define NAT_INLINE static __attribute__((always_inline)) inline
#else
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#define NAT_INLINE static inline __attribute__((always_inline))
#endif

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define nat_swap16(x) ((uint16_t)__builtin_bswap16((uint16_t)(x)))
#define nat_swap32(x) ((uint32_t)__builtin_bswap32((uint32_t)(x)))
#else
#define nat_swap16(x) ((uint16_t)(x))
#define nat_swap32(x) ((uint32_t)(x))
#endif

#define nat_likely(x) __builtin_expect(!!(x), 1)
#define nat_unlikely(x) __builtin_expect(!!(x), 0)

/*
 * Packet bytes have no alignment. In user space memcpy says so and becomes one load; for BPF it
 * would become a load for each byte, while the verifier itself allows unaligned packet access on
 * the machines that have it.
 */
#ifdef __bpf__
#define nat_get16(p) (*(const uint16_t *)(p))
#define nat_get32(p) (*(const uint32_t *)(p))
#define nat_put16(p, value) ((void)(*(uint16_t *)(p) = (value)))
#define nat_put32(p, value) ((void)(*(uint32_t *)(p) = (value)))
#else
NAT_INLINE uint16_t nat_get16(const void *p)
{
	uint16_t value;
	__builtin_memcpy(&value, p, sizeof value);
	return value;
}

NAT_INLINE uint32_t nat_get32(const void *p)
{
	uint32_t value;
	__builtin_memcpy(&value, p, sizeof value);
	return value;
}

NAT_INLINE void nat_put16(void *p, uint16_t value)
{
	__builtin_memcpy(p, &value, sizeof value);
}

NAT_INLINE void nat_put32(void *p, uint32_t value)
{
	__builtin_memcpy(p, &value, sizeof value);
}
#endif

/*
 * gcc says that the thread sanitizer does not model fences. Where we use them every access around is
 * atomic, so there is no race for it to miss; the fence itself is still executed.
 */
#if defined(__SANITIZE_THREAD__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wtsan"
#endif

/*
 * Words that another thread may change. BPF has no acquire load before Linux 6.15: there it is a
 * volatile load and a compiler barrier, which is right on x86-64; on a weakly ordered machine the
 * BPF reader rests on the writer's grace period (membarrier) before a slot is used again.
 */
#ifdef __bpf__
#define nat_relaxed_load(p) (*(const volatile __typeof__(*(p)) *)(p))
#define nat_relaxed_store(p, value) ((void)(*(volatile __typeof__(*(p)) *)(p) = (value)))
#define nat_acquire_fence() __asm__ volatile("" ::: "memory")
#define nat_compare_swap(p, expected, desired)                                                     \
	(__sync_val_compare_and_swap((p), (expected), (desired)) == (expected))
#else
#define nat_relaxed_load(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define nat_relaxed_store(p, value) __atomic_store_n((p), (value), __ATOMIC_RELAXED)
#define nat_acquire_fence() __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define nat_compare_swap(p, expected, desired)                                                     \
	__atomic_compare_exchange_n((p), &(__typeof__(*(p))){(expected)}, (desired), false,        \
				    __ATOMIC_RELAXED, __ATOMIC_RELAXED)
#endif

#endif
