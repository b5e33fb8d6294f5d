/* LINK: core/bandwidth.c core/schedule.c core/err.c core/clock.c transports/throttle.c transports/limit.c */
/* NEW SEED */
/* Which rate holds at which time: rules, days that end after midnight, the order, against a look at every minute; and
 * what a throttle makes of another rate. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "core/bandwidth.h"
#include "core/clock.h"
#include "transports/limit.h"

static void zone(const char *tz)
{
	assert_int_equal(setenv("TZ", tz, 1), 0);
	tzset();
}

static struct bandwidth table_of(const char *const *rules, size_t n)
{
	struct strlist texts = { (char **)(uintptr_t)rules, n };
	struct bandwidth b;
	struct err err = ERR_INIT;

	if (bandwidth_parse(&b, &texts, &err) != 0)
		fail_msg("%s", err.text);
	return b;
}
#define TABLE(...) table_of((const char *[]){ __VA_ARGS__ }, sizeof((const char *[]){ __VA_ARGS__ }) / sizeof(char *))

static void refused(const char *rule, const char *why)
{
	char *rules[] = { (char *)(uintptr_t)rule };
	struct strlist texts = { rules, 1 };
	struct bandwidth b;
	struct err err = ERR_INIT;

	assert_int_equal(bandwidth_parse(&b, &texts, &err), -1);
	if (strstr(err.text, why) == NULL)
		fail_msg("\"%s\": %s", rule, err.text);
}

/* A Thursday is the first of January 2026. */
static int64_t local(const char *text)
{
	struct tm tm = { .tm_isdst = -1 };

	assert_non_null(strptime(text, "%Y-%m-%d %H:%M:%S", &tm));
	return mktime(&tm);
}

static void rates(void **state)
{
	static const struct {
		const char *text;
		int64_t rate;
	} cases[] = { { "500", 512000 },      { "500K", 512000 }, { "1.5M", 1572864 }, { "1g", INT64_C(1073741824) },
		      { "limit=10k", 10240 }, { "0", 0 },	  { "0.25", 1024 },    { "  limit=1  ", 1024 },
		      { "0.5K", 1024 } };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bandwidth b = TABLE(cases[i].text);

		assert_int_equal(bandwidth_at(&b, 1767225600), cases[i].rate);
	}
}

static void wrong(void **state)
{
	(void)state;
	refused("", "the limit is missing");
	refused("fast", "no rate");
	refused("-1", "no rate");
	refused("1KB", "no rate");
	refused("1T", "no rate");
	refused("nan", "no rate");
	refused("1e300", "no rate");
	refused("limit=", "no rate");
	refused("1 2", "two limits");
	refused("from=8 limit=1", "\"8\" is no time");
	refused("from=08:60 limit=1", "no time");
	refused("to=24:01 limit=1", "no time");
	refused("to=8:5 limit=1", "no time");
	refused("to=008:05 limit=1", "no time");
	refused("days=mon-xyz limit=1", "neither a number nor a name");
	refused("on=mon limit=1", "none of from, to, days and limit");
	refused("from=08:00", "the limit is missing");
}

static void the_first_that_fits(void **state)
{
	struct bandwidth b =
		TABLE("from=12:00 to=13:00 days=Mon-Fri limit=0", "from=08:00 to=18:00 days=Mon-Fri limit=100K",
		      "from=22:00 to=06:00 days=fri limit=1M", "limit=5M");
	const int64_t k = 1024, m = 1024 * 1024;

	(void)state;
	zone("UTC0");
	assert_int_equal(bandwidth_at(&b, local("2026-01-01 07:59:59")), 5 * m);
	assert_int_equal(bandwidth_at(&b, local("2026-01-01 08:00:00")), 100 * k);
	assert_int_equal(bandwidth_at(&b, local("2026-01-01 11:59:59")), 100 * k);
	assert_int_equal(bandwidth_at(&b, local("2026-01-01 12:00:00")), 0);
	assert_int_equal(bandwidth_at(&b, local("2026-01-01 13:00:00")), 100 * k);
	assert_int_equal(bandwidth_at(&b, local("2026-01-01 18:00:00")), 5 * m);
	assert_int_equal(bandwidth_at(&b, local("2026-01-01 23:00:00")), 5 * m); /* Thursday */
	assert_int_equal(bandwidth_at(&b, local("2026-01-02 22:00:00")), m);	 /* Friday */
	assert_int_equal(bandwidth_at(&b, local("2026-01-03 05:59:59")), m);	 /* still Friday's */
	assert_int_equal(bandwidth_at(&b, local("2026-01-03 06:00:00")), 5 * m);
	assert_int_equal(bandwidth_at(&b, local("2026-01-03 10:00:00")), 5 * m); /* Saturday */
	assert_int_equal(bandwidth_at(&b, local("2026-01-02 05:00:00")), 5 * m); /* before it */
	b = TABLE("from=06:00 to=06:00 days=sun limit=1");
	assert_int_equal(bandwidth_at(&b, local("2026-01-04 00:00:00")), k);
	assert_int_equal(bandwidth_at(&b, local("2026-01-05 00:00:00")), 0);
	b = TABLE("limit=100");
	assert_int_equal(bandwidth_with(&b, 0, 50 * k), 50 * k);
	assert_int_equal(bandwidth_with(&b, 0, 500 * k), 100 * k);
	assert_int_equal(bandwidth_with(&b, 0, 0), 100 * k);
	b.n = 0;
	assert_int_equal(bandwidth_with(&b, 0, 7), 7);
	assert_int_equal(bandwidth_at(&b, 0), 0);
}

/* ---- random tables ---- */

static uint64_t random_state;

static int below(int n)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (int)(((random_state * UINT64_C(2685821657736338717)) >> 11) % (uint64_t)n);
}

struct plain {
	int from, to; /* minutes */
	bool days[7];
	int64_t rate;
};

/* Each minute of a week of that rule, written down one after the other. */
static bool plain_names(const struct plain *p, int weekday, int minute)
{
	for (int day = 0; day < 7; day++) {
		int end = p->to > p->from ? p->to : p->to + 1440;

		if (p->from == p->to) {
			if (p->days[day] && day == weekday)
				return true;
			continue;
		}
		for (int m = p->from; p->days[day] && m < end; m++)
			if ((day + m / 1440) % 7 == weekday && m % 1440 == minute)
				return true;
	}
	return false;
}

static void make_rule(struct plain *p, char text[128])
{
	static const char *const names[] = { "sun", "Mon", "TUE", "wed", "thu", "fri", "sat" };
	size_t len;

	p->from = below(4) == 0 ? 0 : below(24) * 60 + below(60);
	p->to = below(4) == 0 ? 1440 : below(24) * 60 + below(60);
	p->rate = (int64_t)below(1000) * 1024;
	len = (size_t)snprintf(text, 128, "from=%02d:%02d to=%d:%02d limit=%d days=", p->from / 60, p->from % 60,
			       p->to / 60, p->to % 60, (int)(p->rate / 1024));
	memset(p->days, 0, sizeof(p->days));
	for (int i = below(3); i >= 0; i--) {
		int day = below(7);

		p->days[day] = true;
		len += (size_t)snprintf(text + len, 128 - len, "%s%s", names[day], i > 0 ? "," : "");
	}
}

static void each_minute(void **state)
{
	uint64_t seed = getenv("SEED") == NULL ? (uint64_t)time(NULL) : strtoull(getenv("SEED"), NULL, 10);

	(void)state;
	printf("# SEED=%" PRIu64 "\n", seed);
	random_state = seed * 2 + 1;
	zone("CET-1CEST,M3.5.0,M10.5.0/3");
	for (int round = 0; round < 40; round++) {
		char texts[3][128];
		const char *rules[3];
		struct plain plain[3];
		struct bandwidth b;

		for (int i = 0; i < 3; i++) {
			make_rule(&plain[i], texts[i]);
			rules[i] = texts[i];
		}
		b = table_of(rules, 3);
		/* Over the last Sunday of October. */
		for (int i = 0; i < 600; i++) {
			time_t t = (time_t)(INT64_C(1792620000) + (int64_t)below(14 * 24 * 60) * 60 + below(60));
			int64_t expected = 0;
			struct tm tm;

			assert_non_null(localtime_r(&t, &tm));
			for (int k = 0; k < 3; k++)
				if (plain_names(&plain[k], tm.tm_wday, tm.tm_hour * 60 + tm.tm_min)) {
					expected = plain[k].rate;
					break;
				}
			if (bandwidth_at(&b, t) != expected)
				fail_msg("%s; %s; %s at %lld: %" PRId64 ", not %" PRId64, texts[0], texts[1], texts[2],
					 (long long)t, bandwidth_at(&b, t), expected);
		}
	}
}

static void another_rate(void **state)
{
	struct throttle t;

	(void)state;
	throttle_init(&t, 1000);
	throttle_took(&t, 0, 10000);
	assert_int_equal(throttle_wait_ns(&t, 0), 10 * NS_PER_S - NS_PER_S / 10);
	throttle_set(&t, 5 * NS_PER_S, 10000); /* half of it is paid for */
	assert_int_equal(throttle_wait_ns(&t, 5 * NS_PER_S), NS_PER_S / 2 - NS_PER_S / 10);
	throttle_set(&t, 5 * NS_PER_S, 1000);
	assert_int_equal(throttle_wait_ns(&t, 5 * NS_PER_S), 5 * NS_PER_S - NS_PER_S / 10);
	throttle_set(&t, 5 * NS_PER_S, 0);
	assert_int_equal(throttle_wait_ns(&t, 5 * NS_PER_S), 0);
	throttle_took(&t, 5 * NS_PER_S, 1000000);
	throttle_set(&t, 6 * NS_PER_S, 1000); /* what went without a limit is no debt */
	assert_int_equal(throttle_wait_ns(&t, 6 * NS_PER_S), 0);
}

/* A host that is moved to another zone, as a laptop is: no process has to be started anew. */
static void another_zone(void **state)
{
	const struct transport_env env = { .rate_quarters = 4 };
	struct limit l = { .table = TABLE("from=00:00 to=24:00 limit=1K"), .env = &env };
	time_t now = (time_t)(clock_real_ns() / NS_PER_S);
	char rule[64];
	struct tm tm;

	(void)state;
	zone("AAA0");
	assert_non_null(localtime_r(&now, &tm));
	/* An hour around now in this zone, far from any midnight's confusion in the other. */
	(void)snprintf(rule, sizeof(rule), "from=%02d:00 to=%02d:00 limit=1K", (tm.tm_hour + 23) % 24,
		       (tm.tm_hour + 2) % 24);
	l.table = TABLE(rule);
	assert_int_equal(limit_now(&l), 1024);
	assert_int_equal(setenv("TZ", "BBB-12", 1), 0);
	assert_int_equal(limit_now(&l), 0);
	assert_int_equal(setenv("TZ", "AAA0", 1), 0);
	assert_int_equal(limit_now(&l), 1024);
}

/* What two workers of a sync send together is within its limit; and none may be told 0, which is no limit. */
static void two_lanes(void **state)
{
	struct sync_options opt = { .rsync = { .bwlimit = 100 } };
	struct transport_env large = { .opt = &opt, .rate_quarters = 3 }, first = { .opt = &opt, .rate_quarters = 1 };
	struct limit l, f;
	struct throttle t;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(limit_init(&l, &large, &err), 0);
	assert_int_equal(limit_init(&f, &first, &err), 0);
	assert_int_equal(limit_now(&l), 75 * 1024);
	assert_int_equal(limit_now(&f), 25 * 1024);
	throttle_init(&t, 0);
	limit_follow(&f, &t, 1);
	throttle_took(&t, 1, 25 * 1024);
	assert_true(throttle_wait_ns(&t, 1) > NS_PER_S / 2);
	first.rate_quarters = 4; /* at once */
	assert_int_equal(limit_now(&f), 100 * 1024);
	limit_follow(&f, &t, 2);
	assert_true(throttle_wait_ns(&t, 2) < NS_PER_S / 2);
	opt.rsync.bwlimit = 1;
	assert_int_equal(limit_init(&f, &first, &err), 0);
	first.rate_quarters = 1;
	assert_int_equal(limit_now(&f), 1024);
	opt.rsync.bwlimit = 0;
	assert_int_equal(limit_init(&f, &first, &err), 0);
	assert_int_equal(limit_now(&f), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rates),       cmocka_unit_test(wrong),	       cmocka_unit_test(the_first_that_fits),
		cmocka_unit_test(each_minute), cmocka_unit_test(another_rate), cmocka_unit_test(another_zone),
		cmocka_unit_test(two_lanes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
