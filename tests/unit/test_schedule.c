/* LINK: core/schedule.c core/err.c */
/* Expressions of a schedule: what they mean, what is refused, and what is due when clocks are changed or set. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "core/schedule.h"

static void zone(const char *tz)
{
	assert_int_equal(setenv("TZ", tz, 1), 0);
	tzset();
}

/* Rules instead of names: the same on a machine without a data base of zones. */
#define BERLIN "CET-1CEST,M3.5.0,M10.5.0/3"

static struct schedule parsed(const char *text)
{
	struct schedule s;
	struct err err = ERR_INIT;

	if (schedule_parse(&s, text, &err) != 0)
		fail_msg("\"%s\": %s", text, err.text);
	return s;
}

static void refused(const char *text, const char *why)
{
	struct schedule s;
	struct err err = ERR_INIT;

	assert_int_equal(schedule_parse(&s, text, &err), -1);
	if (strstr(err.text, why) == NULL)
		fail_msg("\"%s\": %s", text, err.text);
}

/* "2026-03-29 01:59:00", in UTC. */
static int64_t utc(const char *text)
{
	struct tm tm = { 0 };

	assert_non_null(strptime(text, "%Y-%m-%d %H:%M:%S", &tm));
	return timegm(&tm);
}

/* The times that follow `after`, in UTC. */
static void follow(const char *expression, const char *after, size_t n, const char *const *expected)
{
	struct schedule s = parsed(expression);
	int64_t t = utc(after);

	for (size_t i = 0; i < n; i++) {
		time_t time;
		struct tm tm;
		char text[32];

		t = schedule_next(&s, t);
		assert_true(t != SCHEDULE_NEVER);
		time = (time_t)t;
		assert_non_null(gmtime_r(&time, &tm));
		assert_true(strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm) > 0);
		if (strcmp(text, expected[i]) != 0)
			fail_msg("%s after %s: %s, not %s", expression, after, text, expected[i]);
	}
}
#define FOLLOW(expression, after, ...)                                                                                 \
	follow(expression, after, sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(char *),                       \
	       (const char *const[]){ __VA_ARGS__ })

static void plain(void **state)
{
	(void)state;
	zone("UTC0");
	FOLLOW("30 4 * * *", "2026-01-01 00:00:00", "2026-01-01 04:30:00", "2026-01-02 04:30:00");
	FOLLOW("30 4 * * *", "2026-01-01 04:30:00", "2026-01-02 04:30:00");
	FOLLOW("*/20 * * * *", "2026-01-01 00:00:01", "2026-01-01 00:20:00", "2026-01-01 00:40:00",
	       "2026-01-01 01:00:00");
	FOLLOW("0 8-17/3 * * MON-fri", "2026-01-02 12:00:00", "2026-01-02 14:00:00", "2026-01-02 17:00:00",
	       "2026-01-05 08:00:00");
	FOLLOW("0 0 29 2 *", "2097-01-01 00:00:00", "2104-02-29 00:00:00");
	FOLLOW("0 0 13 * fri", "2026-02-01 00:00:00", "2026-02-06 00:00:00", "2026-02-13 00:00:00",
	       "2026-02-20 00:00:00");
	FOLLOW("0 0 */2 * sun", "2026-02-01 00:00:00", "2026-02-15 00:00:00", "2026-03-01 00:00:00");
	FOLLOW("0 0 1,15 jan,JUL *", "2026-01-02 00:00:00", "2026-01-15 00:00:00", "2026-07-01 00:00:00");
	FOLLOW("0 0 * * fri-sun", "2026-01-01 00:00:00", "2026-01-02 00:00:00", "2026-01-03 00:00:00",
	       "2026-01-04 00:00:00", "2026-01-09 00:00:00");
	FOLLOW("0 0 * * sun-sun", "2026-01-01 00:00:00", "2026-01-04 00:00:00", "2026-01-11 00:00:00");
	FOLLOW("0 0 * * 7", "2026-01-01 00:00:00", "2026-01-04 00:00:00");
	FOLLOW("*/15 30 4 * * *", "2026-01-01 00:00:00", "2026-01-01 04:30:00", "2026-01-01 04:30:15");
	FOLLOW("@daily", "2026-01-01 00:00:00", "2026-01-02 00:00:00");
	FOLLOW("@hourly", "2026-01-01 00:00:00", "2026-01-01 01:00:00");
	FOLLOW("@weekly", "2026-01-01 00:00:00", "2026-01-04 00:00:00");
	FOLLOW("@monthly", "2026-01-01 00:00:00", "2026-02-01 00:00:00");
	FOLLOW("@yearly", "2026-01-01 00:00:00", "2027-01-01 00:00:00");
	FOLLOW(" 0\t0  1 1 * ", "2026-01-01 00:00:00", "2027-01-01 00:00:00");
}

static void wrong(void **state)
{
	(void)state;
	refused("", "too few fields");
	refused("* * * *", "too few fields");
	refused("* * * * * * *", "too many fields");
	refused("60 * * * *", "minute 60 is not between 0 and 59");
	refused("0 24 * * *", "hour 24 is not between 0 and 23");
	refused("0 0 0 * *", "day of the month 0 is not between 1 and 31");
	refused("0 0 1 13 *", "month 13 is not between 1 and 12");
	refused("0 0 * * 8", "day of the week 8 is not between 0 and 7");
	refused("60 0 0 * * *", "second 60");
	refused("0 0 * foo *", "month \"foo\": neither a number nor a name");
	refused("0 0 * janu *", "neither a number nor a name");
	refused("x 0 * * *", "minute \"x\": not a number");
	refused("1, 0 * * *", "not a number");
	refused("5-1 * * * *", "ends before it begins");
	refused("5/2 * * * *", "a step needs a range");
	refused("*/0 * * * *", "not a number above 0");
	refused("*/ * * * *", "not a number above 0");
	refused("*5 * * * *", "not understood");
	refused("1-2-3 * * * *", "not understood");
	refused("99999999999999999999 * * * *", "is not between");
	refused("0 0 30 2 *", "no such day");
	refused("0 0 31 4,6,9,11 *", "no such day");
	refused("@reboot", "init = false");
	refused("@often", "@hourly");
	(void)parsed("0 0 30 2 mon"); /* on Mondays */
}

/* Clocks go from 2 to 3 on March 29th, and from 3 to 2 on October 25th: at 1:00 UTC both times. */
static void clocks_are_changed(void **state)
{
	(void)state;
	zone(BERLIN);
	FOLLOW("30 2 * * *", "2026-03-27 12:00:00", "2026-03-28 01:30:00", "2026-03-29 01:00:00",
	       "2026-03-30 00:30:00");
	FOLLOW("0,15,30 2 * * *", "2026-03-29 00:59:00", "2026-03-29 01:00:00", "2026-03-30 00:00:00");
	FOLLOW("30 2 * * *", "2026-10-24 12:00:00", "2026-10-25 00:30:00", "2026-10-26 01:30:00");
	FOLLOW("30 2 * * *", "2026-10-25 00:45:00", "2026-10-26 01:30:00");
	FOLLOW("30 2 * * *", "2026-10-25 01:10:00", "2026-10-26 01:30:00"); /* asked while it is shown again */
	FOLLOW("0 3 * * *", "2026-03-29 00:00:00", "2026-03-29 01:00:00", "2026-03-30 01:00:00");
	FOLLOW("*/30 * * * *", "2026-03-29 00:10:00", "2026-03-29 00:30:00", "2026-03-29 01:00:00",
	       "2026-03-29 01:30:00");
	FOLLOW("*/30 * * * *", "2026-10-25 00:10:00", "2026-10-25 00:30:00", "2026-10-25 01:00:00",
	       "2026-10-25 01:30:00", "2026-10-25 02:00:00");
	FOLLOW("30 * * * *", "2026-10-25 00:10:00", "2026-10-25 00:30:00", "2026-10-25 01:30:00",
	       "2026-10-25 02:30:00");
	FOLLOW("*/10 2 * * *", "2026-03-29 00:00:00", "2026-03-30 00:00:00"); /* the clocks showed none of them */
	zone("<+1030>-10:30<+11>-11,M10.1.0,M4.1.0");			      /* half an hour */
	FOLLOW("15 2 * * *", "2026-10-03 12:00:00", "2026-10-03 15:30:00", "2026-10-04 15:15:00");
	zone("<-04>4<-03>,M9.1.6/24,M4.1.6/24"); /* at midnight */
	FOLLOW("@daily", "2026-09-05 05:00:00", "2026-09-06 04:00:00", "2026-09-07 03:00:00");
	FOLLOW("@daily", "2026-04-04 05:00:00", "2026-04-05 04:00:00", "2026-04-06 04:00:00");
}

static void ticks(const char *expression, const char *seen, const char *now, bool due, const char *next)
{
	struct schedule_clock c = { parsed(expression), utc(seen) };
	int64_t at = 0;

	if (schedule_tick(&c, utc(now), &at) != due)
		fail_msg("%s, seen up to %s, at %s", expression, seen, now);
	assert_int_equal(at, utc(next));
	assert_false(schedule_tick(&c, utc(now), &at));
	assert_int_equal(at, utc(next));
}

static void clocks_are_set(void **state)
{
	(void)state;
	zone("UTC0");
	ticks("0 4 * * *", "2026-01-01 03:00:00", "2026-01-01 03:59:59", false, "2026-01-01 04:00:00");
	ticks("0 4 * * *", "2026-01-01 03:00:00", "2026-01-01 04:00:00", true, "2026-01-02 04:00:00");
	/* Set forward over several: once. */
	ticks("0 4 * * *", "1970-01-01 00:00:05", "2026-01-01 04:30:00", true, "2026-01-02 04:00:00");
	/* Set back by little: a time that is named is not due again, what follows the clock is. */
	ticks("0 4 * * *", "2026-01-01 04:10:00", "2026-01-01 03:50:00", false, "2026-01-02 04:00:00");
	ticks("*/15 * * * *", "2026-01-01 04:10:00", "2026-01-01 03:50:00", false, "2026-01-01 04:00:00");
	/* By much: the clock was wrong. */
	ticks("0 4 * * *", "2026-01-02 04:10:00", "2026-01-01 03:50:00", false, "2026-01-01 04:00:00");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain),
		cmocka_unit_test(wrong),
		cmocka_unit_test(clocks_are_changed),
		cmocka_unit_test(clocks_are_set),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
