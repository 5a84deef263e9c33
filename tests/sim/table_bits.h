/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_TABLE_BITS_H
#define SIM_TABLE_BITS_H

#include <stdint.h>

struct table;
/* Of an attachment, as table_attach gave it. */
uint64_t table_bits_of(const struct table *table, uint32_t dataplane);

#endif
