/* SPDX-License-Identifier: Apache-2.0 */
/* What hit_path.bpf.c and its test share. */
#ifndef HIT_PATH_H
#define HIT_PATH_H

#include "common/nat/slot.h"

enum { HIT_PATH_SLOTS = 4096, ETHERNET = 14 };

struct hit_path_config {
	struct nat_hash_key key;
	uint32_t now_ms;
	uint32_t mss; /* 0: MSS clamping is off */
};

#endif
