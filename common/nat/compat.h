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

#endif
