#include "core/schedule.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define DAY_S 86400
/* The 29th of February on a given day of the week, over a year without one: 40 years. */
#define HORIZON_S (INT64_C(41) * 366 * DAY_S)
/* Clocks are set back by a day at most, where a zone changes its side of the date line. */
#define REPEATED_MAX_S (DAY_S + 2 * 3600)
#define SET_BACK_MAX_S (3 * 3600)
/* How far is looked ahead for a change of the zone's clocks: a power of two, so that halving it finds the second. */
#define STEP_S (1 << 16)
#define FIELDS_MAX 6u

/* ---- the text ---- */

struct field {
	const char *name;
	long min, max;
	const char *const *words; /* of the values from `min` on; NULL: none */
};

static const char *const month_words[] = { "jan", "feb", "mar", "apr", "may", "jun", "jul",
					   "aug", "sep", "oct", "nov", "dec", NULL };
static const char *const day_words[] = { "sun", "mon", "tue", "wed", "thu", "fri", "sat", NULL };

enum { SECOND = 0, MINUTE, HOUR, DAY, MONTH, WEEKDAY };

static const struct field fields[FIELDS_MAX] = {
	[SECOND] = { "second", 0, 59, NULL },	   [MINUTE] = { "minute", 0, 59, NULL },
	[HOUR] = { "hour", 0, 23, NULL },	   [DAY] = { "day of the month", 1, 31, NULL },
	[MONTH] = { "month", 1, 12, month_words }, [WEEKDAY] = { "day of the week", 0, 7, day_words },
};

struct part {
	const char *at, *end;
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool take_number(struct part *p, long *out)
{
	const char *start = p->at;

	*out = 0;
	while (p->at < p->end && is_digit(*p->at) && p->at - start < 6)
		*out = *out * 10 + (*p->at++ - '0');
	return p->at > start;
}

static bool take_word(struct part *p, const struct field *f, long *out)
{
	size_t len = 0;

	while (p->at + len < p->end && is_letter(p->at[len]))
		len++;
	for (long i = 0; len > 0 && f->words != NULL && f->words[i] != NULL; i++)
		if (strlen(f->words[i]) == len && strncasecmp(p->at, f->words[i], len) == 0) {
			p->at += len;
			*out = f->min + i;
			return true;
		}
	return false;
}

static int bad(const struct field *f, struct part whole, const char *why, struct err *err)
{
	return err_set(err, ERR_CONFIG, "%s \"%.*s\": %s", f->name,
		       (int)(whole.end - whole.at < 60 ? whole.end - whole.at : 60), whole.at, why);
}

static int take_value(struct part *p, const struct field *f, struct part whole, long *out, struct err *err)
{
	if (!take_number(p, out) && !take_word(p, f, out))
		return bad(f, whole, f->words != NULL ? "neither a number nor a name" : "not a number", err);
	if (*out < f->min || *out > f->max)
		return err_set(err, ERR_CONFIG, "%s %ld is not between %ld and %ld", f->name, *out, f->min, f->max);
	return 0;
}

/* "*", "5", "1-5", with "/2" behind "*" or a range. */
static int parse_item(struct part p, const struct field *f, uint64_t *bits, struct err *err)
{
	struct part whole = p;
	long first = f->min, last = f == &fields[WEEKDAY] ? 6 : f->max, step = 1;
	bool range = true;

	if (p.at < p.end && *p.at == '*') {
		p.at++;
	} else {
		if (take_value(&p, f, whole, &first, err) < 0)
			return -1;
		last = first;
		range = p.at < p.end && *p.at == '-';
		if (range) {
			p.at++;
			if (take_value(&p, f, whole, &last, err) < 0)
				return -1;
			if (f == &fields[WEEKDAY] && last == 0 && first > 0)
				last = 7; /* fri-sun; sun-sun is one day */
		}
	}
	if (p.at < p.end && *p.at == '/') {
		p.at++;
		if (!range)
			return bad(f, whole, "a step needs a range before it, or *", err);
		if (!take_number(&p, &step) || step < 1)
			return bad(f, whole, "the step is not a number above 0", err);
	}
	if (p.at != p.end)
		return bad(f, whole, "not understood; there are *, numbers, ranges a-b, steps /n and lists a,b", err);
	if (first > last)
		return bad(f, whole, "the range ends before it begins", err);
	for (long i = first; i <= last; i += step)
		*bits |= UINT64_C(1) << (f == &fields[WEEKDAY] ? i % 7 : i);
	return 0;
}

static int parse_field(struct part p, const struct field *f, uint64_t *bits, struct err *err)
{
	*bits = 0;
	for (;;) {
		const char *comma = memchr(p.at, ',', (size_t)(p.end - p.at));
		struct part item = { p.at, comma == NULL ? p.end : comma };

		if (parse_item(item, f, bits, err) < 0)
			return -1;
		if (comma == NULL)
			return 0;
		p.at = comma + 1;
	}
}

int schedule_parse_days(const char *text, uint32_t *out, struct err *err)
{
	uint64_t bits;
	int rc = parse_field((struct part){ text, text + strlen(text) }, &fields[WEEKDAY], &bits, err);

	*out = (uint32_t)bits;
	return rc;
}

static const char *expand_word(const char *text)
{
	static const char *const words[][2] = {
		{ "@hourly", "0 * * * *" },   { "@daily", "0 0 * * *" },   { "@midnight", "0 0 * * *" },
		{ "@weekly", "0 0 * * 0" },   { "@monthly", "0 0 1 * *" }, { "@yearly", "0 0 1 1 *" },
		{ "@annually", "0 0 1 1 *" },
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcasecmp(text, words[i][0]) == 0)
			return words[i][1];
	return NULL;
}

static size_t split(const char *text, struct part parts[FIELDS_MAX + 1])
{
	size_t n = 0;

	for (;;) {
		text += strspn(text, " \t");
		if (*text == '\0' || n > FIELDS_MAX)
			return n;
		parts[n].at = text;
		text += strcspn(text, " \t");
		parts[n++].end = text;
	}
}

/* Whether one of the months has one of the days. */
static bool has_days(const struct schedule *s)
{
	static const int length[] = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };

	if (!s->any_weekday && !s->any_day)
		return true; /* the day of the week is enough */
	for (int m = 1; m <= 12; m++)
		for (int d = 1; (s->months & (1u << m)) != 0 && d <= length[m - 1]; d++)
			if ((s->days & (1u << d)) != 0)
				return true;
	return false;
}

static int parse_fields(struct schedule *s, const struct part *parts, struct err *err)
{
	uint64_t bits[FIELDS_MAX];

	for (size_t i = 0; i < FIELDS_MAX; i++)
		if (parse_field(parts[i], &fields[i], &bits[i], err) < 0)
			return -1;
	*s = (struct schedule){
		.seconds = bits[SECOND],
		.minutes = bits[MINUTE],
		.hours = (uint32_t)bits[HOUR],
		.days = (uint32_t)bits[DAY],
		.months = (uint32_t)bits[MONTH],
		.weekdays = (uint32_t)bits[WEEKDAY],
		.any_day = *parts[DAY].at == '*',
		.any_weekday = *parts[WEEKDAY].at == '*',
		.wild = *parts[SECOND].at == '*' || *parts[MINUTE].at == '*' || *parts[HOUR].at == '*',
	};
	return has_days(s) ? 0 : err_set(err, ERR_CONFIG, "there is no such day in these months");
}

int schedule_parse(struct schedule *out, const char *text, struct err *err)
{
	static const char zero[] = "0";
	struct part parts[FIELDS_MAX + 2] = { { zero, zero + 1 } };
	const char *word = text + strspn(text, " \t");
	size_t n;

	if (*word == '@') {
		if (strcasecmp(word, "@reboot") == 0)
			return err_set(err, ERR_CONFIG, "@reboot: every start compares, unless init = false");
		word = expand_word(word);
		if (word == NULL)
			return err_set(err, ERR_CONFIG, "there are @hourly, @daily, @weekly, @monthly and @yearly");
	}
	n = split(word, parts + 1);
	if (n != FIELDS_MAX && n != FIELDS_MAX - 1)
		return err_set(err, ERR_CONFIG,
			       "%s fields; there are five (minute, hour, day of the month, month, day of the week), or "
			       "six, with seconds before them",
			       n < FIELDS_MAX ? "too few" : "too many");
	return parse_fields(out, n == FIELDS_MAX ? parts + 1 : parts, err);
}

/* ---- time as the clocks show it: seconds since 1970 if they stood in for UTC ---- */

static bool day_matches(const struct schedule *s, const struct tm *tm)
{
	bool day = (s->days & (1u << tm->tm_mday)) != 0, weekday = (s->weekdays & (1u << tm->tm_wday)) != 0;

	if ((s->months & (1u << (tm->tm_mon + 1))) == 0)
		return false;
	return s->any_day || s->any_weekday ? day && weekday : day || weekday;
}

static int64_t after_unit(int64_t shown, int64_t unit)
{
	int64_t over = shown % unit;

	return shown - (over < 0 ? over + unit : over) + unit;
}

/* The first matching time above `low`, up to `high`. */
static int64_t first_shown(const struct schedule *s, int64_t low, int64_t high)
{
	int64_t at = low + 1;

	while (at <= high) {
		time_t t = (time_t)at;
		struct tm tm;

		if (gmtime_r(&t, &tm) == NULL)
			return SCHEDULE_NEVER;
		if (!day_matches(s, &tm))
			at = after_unit(at, DAY_S);
		else if ((s->hours & (1u << tm.tm_hour)) == 0)
			at = after_unit(at, 3600);
		else if ((s->minutes & (UINT64_C(1) << tm.tm_min)) == 0)
			at = after_unit(at, 60);
		else if ((s->seconds & (UINT64_C(1) << tm.tm_sec)) == 0)
			at++;
		else
			return at;
	}
	return SCHEDULE_NEVER;
}

/* ---- the zone ---- */

static int64_t offset_at(int64_t t)
{
	time_t time = (time_t)t;
	struct tm tm;

	return localtime_r(&time, &tm) == NULL ? 0 : tm.tm_gmtoff;
}

/* Where the way on from `t` leads next: through time in which the clocks are not changed, or over the one second in
 * which they are. At most to `end`. */
static int64_t step_from(int64_t t, int64_t offset, int64_t end, int64_t *next_offset)
{
	int64_t step = STEP_S;

	while (step > 1 && step > end - t)
		step /= 2;
	while ((*next_offset = offset_at(t + step)) != offset && step > 1)
		step /= 2;
	return t + step;
}

/* The latest time that the clocks have shown up to `t`. */
static int64_t latest_shown(int64_t t)
{
	int64_t at = t - REPEATED_MAX_S, offset = offset_at(at), high = at + offset;

	while (at < t) {
		at = step_from(at, offset, t, &offset);
		if (at + offset > high)
			high = at + offset;
	}
	return high;
}

int64_t schedule_next(const struct schedule *s, int64_t after)
{
	int64_t at = after, end = after + HORIZON_S, offset = offset_at(at);
	int64_t high = s->wild ? INT64_MIN : latest_shown(at);

	while (at < end) {
		int64_t next_offset, next = step_from(at, offset, end, &next_offset);
		int64_t low = at + offset, shown;

		if (s->wild && next_offset != offset)
			low = next + next_offset -
			      1; /* what is left out is left out, what is shown again is due again */
		else if (low < high)
			low = high;
		shown = first_shown(s, low, next + next_offset);
		if (shown != SCHEDULE_NEVER)
			return next_offset == offset ? shown - offset : next;
		if (!s->wild && next + next_offset > high)
			high = next + next_offset;
		at = next;
		offset = next_offset;
	}
	return SCHEDULE_NEVER;
}

bool schedule_tick(struct schedule_clock *c, int64_t now, int64_t *next)
{
	bool due;

	if (now < c->seen && (c->when.wild || c->seen - now >= SET_BACK_MAX_S))
		c->seen = now;
	due = schedule_next(&c->when, c->seen) <= now;
	if (now > c->seen)
		c->seen = now;
	*next = schedule_next(&c->when, c->seen);
	return due;
}
