/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/thread.h"

#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "common/base/log.h"

/* Linux's struct sched_attr, whose header does not go together with the C library's. */
struct attributes {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

enum { SLICE_NS = 100 * 1000 }; /* the least that Linux takes */

void thread_prompt(void)
{
	struct attributes attr = {.size = sizeof attr};

	/* The rest (nice value, a real-time policy of the operator's) stays as it is. */
	if (syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0) != 0 || attr.policy != SCHED_OTHER)
		return;
	attr.runtime = SLICE_NS;
	if (syscall(SYS_sched_setattr, 0, &attr, 0) != 0)
		log_debug("no short time slices: %s", strerror(errno));
}
