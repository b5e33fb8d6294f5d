/*
 * schedule.h - when a cron-like expression is due, by the clocks of the local time zone.
 *
 * PURE but for the zone's rules, which localtime_r(3) knows. Times are whole seconds since 1970.
 *
 * Five fields as crontab(5) has them (minute, hour, day of the month, month, day of the week), or six, the first of
 * them seconds, as in lsyncd; or @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually. If both days are
 * given, one of them is enough; a field that begins with "*" leaves it to the other.
 *
 * Where clocks are changed: an expression whose seconds, minute or hour begin with "*" follows what the clocks show.
 * Any other is due once for each time that it names: at the change if the clocks leave that time out, the first time
 * if they show it twice.
 */
#ifndef FANSYNCD_CORE_SCHEDULE_H
#define FANSYNCD_CORE_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

#define SCHEDULE_NEVER INT64_MAX

struct schedule {
	uint64_t seconds, minutes; /* a bit each, from 0 */
	uint32_t hours, days, months;
	uint32_t weekdays; /* 0 is Sunday */
	bool any_day, any_weekday;
	bool wild; /* follows the clocks through a change */
};

/* 0, or -1 and why `text` is no expression, or names no day that there is. */
int schedule_parse(struct schedule *out, const char *text, struct err *err);

/* The field of the days of the week alone: "mon-fri", "sat,sun". */
int schedule_parse_days(const char *text, uint32_t *out, struct err *err);

/* The first time after `after` at which it is due. SCHEDULE_NEVER: not within the next 40 years. */
int64_t schedule_next(const struct schedule *s, int64_t after);

/* An expression, and up to when it has been dealt with. */
struct schedule_clock {
	struct schedule when;
	int64_t seen;
};

/*
 * It is `now`: whether it was due since it was last looked at, however often; and when it is due next. A clock that was
 * set back by less than three hours does not make a time due again that the expression names, as in cron(8).
 */
bool schedule_tick(struct schedule_clock *c, int64_t now, int64_t *next);

#endif
