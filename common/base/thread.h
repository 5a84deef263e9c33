/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_THREAD_H
#define BASE_THREAD_H

/*
 * The calling thread runs often and briefly, and somebody waits for it: ask the scheduler for short
 * slices, so that it gets its turn soon on a machine that has other work. Its share of the CPU
 * stays the same. Kernels before 6.12 ignore it.
 */
void thread_prompt(void);

#endif
