/* SPDX-License-Identifier: Apache-2.0 */
#include "tablesvc/ctl/who_time.h"

#include <string.h>
#include <time.h>

static bool digits(const char **p, unsigned n, int *out)
{
	*out = 0;
	for (; n; n--, (*p)++) {
		if (**p < '0' || **p > '9')
			return false;
		*out = *out * 10 + (**p - '0');
	}
	return true;
}

static bool one_of(const char **p, const char *set)
{
	return **p && strchr(set, *(*p)++);
}

bool who_parse_time(const char *p, int64_t *first_ms, int64_t *last_ms)
{
	struct tm tm = {0};
	int hours = 0, minutes = 0, ms = 0, scale = 100;
	bool fraction = false;

	if (!digits(&p, 4, &tm.tm_year) || !one_of(&p, "-") || !digits(&p, 2, &tm.tm_mon) ||
	    !one_of(&p, "-") || !digits(&p, 2, &tm.tm_mday) || !one_of(&p, "Tt ") ||
	    !digits(&p, 2, &tm.tm_hour) || !one_of(&p, ":") || !digits(&p, 2, &tm.tm_min) ||
	    !one_of(&p, ":") || !digits(&p, 2, &tm.tm_sec))
		return false;
	if (tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 ||
	    tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60)
		return false;
	if (*p == '.') {
		fraction = true;
		if (*++p < '0' || *p > '9')
			return false;
		for (; *p >= '0' && *p <= '9'; p++, scale /= 10)
			ms += (*p - '0') * scale;
	}
	if (*p == '+' || *p == '-') {
		int sign = *p++ == '-' ? 1 : -1; /* 12:00+01:00 is 11:00 UTC */
		if (!digits(&p, 2, &hours) || !one_of(&p, ":") || !digits(&p, 2, &minutes) ||
		    hours > 23 || minutes > 59)
			return false;
		hours *= sign;
		minutes *= sign;
	} else if (!one_of(&p, "Zz")) {
		return false;
	}
	if (*p)
		return false;
	struct tm same = {
	    .tm_year = tm.tm_year - 1900, .tm_mon = tm.tm_mon - 1, .tm_mday = tm.tm_mday};
	timegm(&same);
	if (same.tm_mday != tm.tm_mday) /* a 31st of April */
		return false;
	tm.tm_year -= 1900;
	tm.tm_mon--;
	int64_t seconds = timegm(&tm);
	*first_ms = (seconds + hours * 3600 + minutes * 60) * 1000 + ms;
	*last_ms = *first_ms + (fraction ? 0 : 999);
	return true;
}
