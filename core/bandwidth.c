#include "core/bandwidth.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/schedule.h"

#define DAY_S (24 * 3600)
#define EVERY_DAY 127u
/* So much a second is no limit for anybody. */
#define RATE_MAX ((int64_t)1 << 50)
#define TEXT_MAX 200u

static double unit_of(char letter)
{
	switch (letter) {
	case 'k':
	case 'K':
		return 1024;
	case 'm':
	case 'M':
		return 1024.0 * 1024;
	case 'g':
	case 'G':
		return 1024.0 * 1024 * 1024;
	default:
		return 0;
	}
}

/* "500", "500K", "1.5M". */
static int parse_rate(const char *text, int64_t *out, struct err *err)
{
	double unit = 1024, number;
	char *end = NULL;

	number = text[0] >= '0' && text[0] <= '9' ? strtod(text, &end) : -1;
	if (end != NULL && *end != '\0' && end[1] == '\0') {
		unit = unit_of(*end++);
	}
	/* Written so that NaN fails. */
	if (end == NULL || *end != '\0' || unit < 1024 || !(number >= 0 && number * unit <= (double)RATE_MAX))
		return err_set(err, ERR_CONFIG, "\"%.40s\" is no rate, such as 500 (KiB a second), 500K or 1.5M", text);
	*out = (int64_t)(number * unit);
	if (number > 0 && *out < 1024)
		*out = 1024; /* rsync knows no less */
	return 0;
}

/* "8:00" up to "24:00". */
static int parse_time(const char *text, int *out, struct err *err)
{
	const char *p = text;
	int part[2] = { 0, 0 }, digits[2] = { 0, 0 };

	for (int i = 0; i < 2; i++) {
		for (; *p >= '0' && *p <= '9' && digits[i] < 2; digits[i]++)
			part[i] = part[i] * 10 + (*p++ - '0');
		if (i == 0 && *p++ != ':')
			break;
	}
	if (digits[0] == 0 || digits[1] != 2 || *p != '\0' || part[1] > 59 || part[0] * 60 + part[1] > 24 * 60)
		return err_set(err, ERR_CONFIG, "\"%.40s\" is no time, such as 08:00 or 24:00", text);
	*out = (part[0] * 60 + part[1]) * 60;
	return 0;
}

static int parse_word(struct bandwidth_rule *r, char *word, bool *limited, struct err *err)
{
	char *value = strchr(word, '=');

	if (value != NULL) {
		*value++ = '\0';
		if (strcmp(word, "from") == 0)
			return parse_time(value, &r->from, err);
		if (strcmp(word, "to") == 0)
			return parse_time(value, &r->to, err);
		if (strcmp(word, "days") == 0)
			return schedule_parse_days(value, &r->days, err);
		if (strcmp(word, "limit") != 0)
			return err_set(err, ERR_CONFIG, "\"%.40s\" is none of from, to, days and limit", word);
		word = value;
	}
	if (*limited)
		return err_set(err, ERR_CONFIG, "there are two limits");
	*limited = true;
	return parse_rate(word, &r->rate, err);
}

static int parse_rule(struct bandwidth_rule *r, const char *text, struct err *err)
{
	char words[TEXT_MAX], *word = words;
	bool limited = false;

	*r = (struct bandwidth_rule){ .days = EVERY_DAY, .to = DAY_S };
	if (strlen(text) >= sizeof(words))
		return err_set(err, ERR_CONFIG, "too long");
	memcpy(words, text, strlen(text) + 1);
	for (;;) {
		bool last;
		size_t len;

		word += strspn(word, " \t");
		len = strcspn(word, " \t");
		last = word[len] == '\0';
		word[len] = '\0';
		if (len > 0 && parse_word(r, word, &limited, err) < 0)
			return -1;
		if (last)
			break;
		word += len + 1;
	}
	return limited ? 0 : err_set(err, ERR_CONFIG, "the limit is missing");
}

int bandwidth_parse(struct bandwidth *out, const struct strlist *texts, struct err *err)
{
	out->n = 0;
	if (texts->n > BANDWIDTH_RULES_MAX)
		return err_set(err, ERR_CONFIG, "more than %u rules", BANDWIDTH_RULES_MAX);
	for (; out->n < texts->n; out->n++) {
		struct err why = ERR_INIT;

		if (parse_rule(&out->v[out->n], texts->v[out->n], &why) < 0)
			return err_set(err, ERR_CONFIG, "\"%.150s\": %.200s", texts->v[out->n], why.text);
	}
	return 0;
}

static bool names(const struct bandwidth_rule *r, const struct tm *tm)
{
	int second = (tm->tm_hour * 60 + tm->tm_min) * 60 + tm->tm_sec;
	bool today = (r->days & (1u << tm->tm_wday)) != 0, yesterday = (r->days & (1u << (tm->tm_wday + 6) % 7)) != 0;

	if (r->from == r->to || (r->from < r->to && r->to - r->from == DAY_S))
		return today;
	if (r->from < r->to)
		return today && second >= r->from && second < r->to;
	return (today && second >= r->from) || (yesterday && second < r->to);
}

int64_t bandwidth_at(const struct bandwidth *b, int64_t now)
{
	time_t t = (time_t)now;
	struct tm tm;

	if (b->n == 0 || localtime_r(&t, &tm) == NULL)
		return 0;
	for (size_t i = 0; i < b->n; i++)
		if (names(&b->v[i], &tm))
			return b->v[i].rate;
	return 0;
}

int64_t bandwidth_with(const struct bandwidth *b, int64_t now, int64_t other)
{
	int64_t rate = bandwidth_at(b, now);

	return rate == 0 || (other > 0 && other < rate) ? other : rate;
}
