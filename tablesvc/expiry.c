/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Conditional expiry. The table does not see packets, so a timer that fires is a question to the
 * holders: EXPIRE?. ACTIVE(age) sets the timer to what is left; when all have DROPPED the session
 * ends, and is already clean. A holder that is lost can't be asked: the session counts as active until
 * the instant when it was lost, also when its bit is clean since; so live flows never end early.
 */
#include "tablesvc/table_internal.h"

static uint32_t due_of(const struct table *t, const struct session *s)
{
	return s->last + ticks_of_ms(session_timeout(t, s));
}

static void ask(struct table *t, uint32_t index, uint64_t bits)
{
	struct session *s = session_at(t, index);
	struct wire_notice notice = {
	    .tuple = session_tuple(t, index),
	    .handle = session_handle(t, index),
	    .idle_ms = session_timeout(t, s),
	    .inbound_refreshes = session_inbound_refreshes(t, s),
	};
	t->counters.expire_asked++;
	s->flags |= SESSION_ASKED;
	/* A reply that was lost is asked for again. */
	timerwheel_arm(t->wheel, index, t->tick + ticks_of_ms(t->config.lease_ms));
	directory_notice(t, bits, WIRE_EXPIRE, &notice);
}

static void expire(struct table *t, uint32_t index)
{
	t->counters.expired++;
	session_end(t, index, NAT_REASON_NONE);
}

static uint64_t unreachable(const struct table *t)
{
	return (t->dirty | t->sweeping) & (t->lost | ~t->active);
}

void expiry_fire(void *table, uint32_t index)
{
	struct table *t = table;
	struct session *s = session_at(t, index);

	if ((int32_t)(due_of(t, s) - t->tick) > 0) {
		timerwheel_arm(t->wheel, index, due_of(t, s));
		return;
	}
	uint64_t lost = s->holders & unreachable(t);
	if (lost) {
		directory_lost(t, index, lost);
		if ((int32_t)(due_of(t, s) - t->tick) > 0) {
			timerwheel_arm(t->wheel, index, due_of(t, s));
			return;
		}
	}
	if (s->holders & t->dirty & ~lost)
		ask(t, index, s->holders & t->dirty & ~lost);
	else
		expire(t, index);
}

void expiry_active(struct table *t, uint32_t index, uint32_t age_ms)
{
	struct session *s = session_at(t, index);
	if (s->state != SESSION_LIVE)
		return;
	session_seen(t, index, age_ms);
	if (s->flags & SESSION_ASKED) {
		s->flags &= (uint8_t)~SESSION_ASKED;
		uint32_t due = due_of(t, s);
		if ((int32_t)(due - t->tick) <= 0)
			due = t->tick + 1;
		timerwheel_arm(t->wheel, index, due);
	}
}

void expiry_dropped(struct table *t, uint32_t index, uint64_t bit, uint32_t age_ms)
{
	struct session *s = session_at(t, index);
	if (s->state == SESSION_LIVE) {
		session_seen(t, index, age_ms); /* the timers may be longer by now than it was asked */
		s->holders &= ~bit;
		directory_lost(t, index, unreachable(t));
		if (!(s->flags & SESSION_ASKED) || (s->holders & t->dirty) != 0)
			return;
		if ((int32_t)(due_of(t, s) - t->tick) <= 0) {
			expire(t, index);
			return;
		}
		/* A rounded age, or a longer timer: nobody is left whose reply the wheel waits for. */
		s->flags &= (uint8_t)~SESSION_ASKED;
		timerwheel_arm(t->wheel, index, due_of(t, s));
		return;
	}
	session_clean(t, index, bit);
}

void expiry_released(struct table *t, uint32_t index, uint64_t bit, uint32_t age_ms)
{
	t->counters.released++;
	if (session_at(t, index)->state == SESSION_LIVE) {
		session_seen(t, index, age_ms);
		session_at(t, index)->holders &= ~bit;
		return; /* the timer finds it without holders */
	}
	session_clean(t, index, bit);
}
