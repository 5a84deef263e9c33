/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>

#include "dataplane/lease.h"

static bool wants_reconnect(const struct lease *lease, struct monotime now)
{
	return !monotime_before(now, lease_reconnect_at(lease));
}

static struct monotime at(int64_t ms)
{
	return (struct monotime){ms * MS_NS};
}

static const struct wire_welcome welcome = {
    .version = WIRE_VERSION, .epoch = 1, .lease_ms = 1000, .heartbeat_ms = 200, .grace_ms = 500};

static bool acknowledge(struct lease *lease, int64_t sent, bool renewed, int64_t now)
{
	struct wire_heartbeat_ack ack = {.epoch = 1, .sent_ms = (uint64_t)sent, .renewed = renewed};
	return lease_acknowledged(lease, &ack, at(now));
}

Test(lease, is_reckoned_from_when_the_heartbeat_was_sent)
{
	struct lease lease = {0};

	lease_welcome(&lease, &welcome, at(100));
	cr_expect_not(lease_may_ask(&lease, at(100)), "a welcome is no lease");
	cr_expect(lease_heartbeat_due(&lease, at(100)));
	cr_expect(acknowledge(&lease, 100, true, 900));
	cr_expect(lease_may_ask(&lease, at(1099)));
	cr_expect_not(lease_may_ask(&lease, at(1100)));
	cr_expect(lease_may_translate(&lease, at(1599)));
	cr_expect_not(lease_may_translate(&lease, at(1600)));
}

Test(lease, sends_heartbeats_at_once_and_then_at_their_interval)
{
	struct lease lease = {0};

	cr_expect_not(lease_heartbeat_due(&lease, at(50)), "detached");
	lease_welcome(&lease, &welcome, at(100));
	cr_expect(lease_heartbeat_due(&lease, at(100)));
	cr_expect_not(lease_heartbeat_due(&lease, at(299)));
	cr_expect(lease_heartbeat_due(&lease, at(300)));
	cr_expect_not(lease_heartbeat_due(&lease, at(300)));
	lease_disconnected(&lease);
	cr_expect_not(lease_heartbeat_due(&lease, at(1000)));
}

struct row {
	char name[48];
	int64_t sent, now;
	bool renewed;
	int64_t valid_until; /* after it; 1600 before */
};

ParameterizedTestParameters(lease, acknowledgements)
{
	static struct row rows[] = {
	    {"a later one prolongs", 300, 320, true, 1800},
	    {"an older one takes nothing away", 50, 320, true, 1600},
	    {"not renewed", 300, 320, false, 1600},
	    {"one from the future is ignored", 400, 320, true, 1600},
	    {"one from far in the future is ignored", INT64_MAX / MS_NS, 320, true, 1600},
	    {"the same again", 100, 320, true, 1600},
	};
	return cr_make_param_array(struct row, rows, sizeof rows / sizeof rows[0]);
}

ParameterizedTest(struct row *row, lease, acknowledgements)
{
	struct lease lease = {0};

	lease_welcome(&lease, &welcome, at(100));
	acknowledge(&lease, 100, true, 110);
	bool changed = acknowledge(&lease, row->sent, row->renewed, row->now);
	cr_expect_eq(monotime_ms(lease.valid_until), row->valid_until, "%s", row->name);
	cr_expect_eq(changed, row->valid_until != 1600, "%s", row->name);
}

Test(lease, outlives_its_streams_but_does_not_ask_without_them)
{
	struct lease lease = {0};

	lease_welcome(&lease, &welcome, at(100));
	acknowledge(&lease, 100, true, 110);
	lease_disconnected(&lease);
	cr_expect_not(lease_may_ask(&lease, at(200)));
	cr_expect(lease_may_translate(&lease, at(200)));
	cr_expect_not(acknowledge(&lease, 190, true, 200), "from streams that are gone");
	lease_welcome(&lease, &welcome, at(300));
	cr_expect(lease_may_ask(&lease, at(300)), "what was left of it");
}

Test(lease, wants_a_reconnect_when_nobody_renews_it)
{
	struct lease lease = {0};

	cr_expect_not(wants_reconnect(&lease, at(5000)), "detached: connecting anyway");
	lease_welcome(&lease, &welcome, at(100));
	cr_expect_not(wants_reconnect(&lease, at(1099)));
	cr_expect(wants_reconnect(&lease, at(1100)), "never acknowledged");
	acknowledge(&lease, 1000, true, 1100);
	cr_expect_not(wants_reconnect(&lease, at(1999)));
	acknowledge(&lease, 1900, false, 1950);
	cr_expect(wants_reconnect(&lease, at(2000)));
}
