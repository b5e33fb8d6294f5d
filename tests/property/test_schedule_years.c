/* LINK: core/schedule.c core/err.c */
/* NEW SEED */
/*
 * Random expressions against a clock that is read every minute for more than a year: each time that the one says to be
 * next is the next of the other, in zones with and without changes of clocks.
 *
 * SEED is printed and may be given; ROUNDS expressions a zone.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "core/schedule.h"

enum { ROUNDS_DEFAULT = 10, DAYS = 400, MINUTES = DAYS * 24 * 60 };

static uint64_t state_of_random;

static uint64_t below(uint64_t n)
{
	state_of_random ^= state_of_random >> 12;
	state_of_random ^= state_of_random << 25;
	state_of_random ^= state_of_random >> 27;
	return ((state_of_random * UINT64_C(2685821657736338717)) >> 11) % n;
}

/* What the clocks show at each minute: minutes of a day, and the day, counted as if it were UTC. */
static int64_t shown[MINUTES];
static int64_t first_minute;

static void read_clocks(const char *tz)
{
	assert_int_equal(setenv("TZ", tz, 1), 0);
	tzset();
	first_minute = INT64_C(1735689600) / 60; /* 2025 */
	for (int64_t i = 0; i < MINUTES; i++) {
		time_t t = (time_t)((first_minute + i) * 60);
		struct tm tm;

		assert_non_null(localtime_r(&t, &tm));
		assert_int_equal(tm.tm_sec, 0);
		shown[i] = timegm(&tm) / 60;
	}
}

/* An expression as sets, made first, from which the text follows. */
struct made {
	bool set[5][60];
	bool star[5];
	char text[600];
};
static const int lowest[5] = { 0, 0, 1, 1, 0 }, highest[5] = { 59, 23, 31, 12, 6 };

static size_t add_item(struct made *m, int f, size_t len)
{
	int low = lowest[f], high = highest[f], a = low + (int)below((uint64_t)(high - low + 1));
	int b = a + (int)below((uint64_t)(high - a + 1)), step = 1 + (int)below(7);

	switch (below(4)) {
	case 0:
		m->set[f][a] = true;
		return len + (size_t)snprintf(m->text + len, sizeof(m->text) - len, "%d",
					      f == 4 && a == 0 && below(2) ? 7 : a);
	case 1:
		for (int i = a; i <= b; i++)
			m->set[f][i] = true;
		return len + (size_t)snprintf(m->text + len, sizeof(m->text) - len, "%d-%d", a, b);
	case 2:
		for (int i = a; i <= b; i += step)
			m->set[f][i] = true;
		return len + (size_t)snprintf(m->text + len, sizeof(m->text) - len, "%d-%d/%d", a, b, step);
	default:
		if (f == 3) {
			static const char *const names[] = { "Jan", "feb", "MAR", "apr", "may", "jun",
							     "jul", "aug", "sep", "oct", "nov", "dec" };

			m->set[f][a] = true;
			return len + (size_t)snprintf(m->text + len, sizeof(m->text) - len, "%s", names[a - 1]);
		}
		m->set[f][a] = true;
		return len + (size_t)snprintf(m->text + len, sizeof(m->text) - len, "%d", a);
	}
}

static void make(struct made *m)
{
	size_t len = 0;

	memset(m, 0, sizeof(*m));
	for (int f = 0; f < 5; f++) {
		/* Rarely due expressions are long in coming: the first fields mostly name something. */
		m->star[f] = below(10) < (f < 2 ? 3 : 6);
		if (f > 0)
			m->text[len++] = ' ';
		if (m->star[f]) {
			int step = below(2) ? 1 : 1 + (int)below(9);

			for (int i = lowest[f]; i <= highest[f]; i += step)
				m->set[f][i] = true;
			len += (size_t)snprintf(m->text + len, sizeof(m->text) - len, step > 1 ? "*/%d" : "*", step);
			continue;
		}
		for (int i = (int)below(3); i >= 0; i--) {
			len = add_item(m, f, len);
			if (i > 0)
				m->text[len++] = ',';
		}
	}
	m->text[len] = '\0';
}

static bool names(const struct made *m, int64_t minute)
{
	time_t t = (time_t)(minute * 60);
	struct tm tm;
	bool day, weekday;

	if (!m->set[0][minute % 60] || !m->set[1][minute / 60 % 24])
		return false;
	assert_non_null(gmtime_r(&t, &tm));
	day = m->set[2][tm.tm_mday];
	weekday = m->set[4][tm.tm_wday];
	return m->set[3][tm.tm_mon + 1] && (m->star[2] || m->star[4] ? day && weekday : day || weekday);
}

/* The rule, in its plainest form: at each minute, what is newly shown. */
static bool is_due(const struct made *m, int64_t i, int64_t high)
{
	int64_t now = shown[i];

	if (m->star[0] || m->star[1])
		return names(m, now);
	for (int64_t w = high + 1; w <= now; w++)
		if (names(m, w))
			return true;
	return false;
}

static void compare(const struct made *m)
{
	struct schedule s;
	struct err err = ERR_INIT;
	int64_t high = shown[0], next;

	if (schedule_parse(&s, m->text, &err) != 0) {
		assert_non_null(strstr(err.text, "no such day"));
		for (int64_t i = 0; i < MINUTES; i++)
			assert_false(names(m, shown[i]));
		return;
	}
	next = schedule_next(&s, first_minute * 60);
	for (int64_t i = 1; i < MINUTES; i++) {
		int64_t t = (first_minute + i) * 60;
		bool due = is_due(m, i, high);

		if (shown[i] > high)
			high = shown[i];
		if (due != (next == t))
			fail_msg("%s with \"%s\": %s at %" PRId64 ", next was to be %" PRId64, getenv("TZ"), m->text,
				 due ? "due" : "not due", t, next);
		if (due) {
			/* From any time since the last one it is the same. */
			if (below(50) == 0)
				assert_int_equal(schedule_next(&s, t - 1 - (int64_t)below(60)), t);
			if (below(50) != 0 || t % 7 == 0)
				next = schedule_next(&s, t);
			else
				next = schedule_next(&s, t + (int64_t)below(59));
		}
	}
	assert_true(next >= (first_minute + MINUTES) * 60);
}

static void zones(void **state)
{
	static const char *const all[] = {
		"UTC0",
		"CET-1CEST,M3.5.0,M10.5.0/3",
		"EST5EDT,M3.2.0,M11.1.0",
		"<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
		"<-04>4<-03>,M9.1.6/24,M4.1.6/24",
		"AAA-3BBB-5:20,M3.5.0/1:40,M10.5.0/4:10", /* more than two hours, and not on the hour */
	};
	uint64_t rounds = getenv("ROUNDS") == NULL ? ROUNDS_DEFAULT : strtoull(getenv("ROUNDS"), NULL, 10);
	uint64_t seed = getenv("SEED") == NULL ? (uint64_t)time(NULL) : strtoull(getenv("SEED"), NULL, 10);

	(void)state;
	printf("# SEED=%" PRIu64 "\n", seed);
	state_of_random = seed * 2 + 1;
	for (size_t z = 0; z < sizeof(all) / sizeof(all[0]); z++) {
		read_clocks(all[z]);
		for (uint64_t i = 0; i < rounds; i++) {
			struct made m;

			make(&m);
			compare(&m);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(zones) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
