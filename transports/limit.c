#include "transports/limit.h"

#include <time.h>

#include "core/clock.h"

/* Not less than rsync can be told, for which 0 is no limit at all. */
#define RATE_MIN 1024

int limit_init(struct limit *l, const struct transport_env *env, struct err *err)
{
	*l = (struct limit){ .fixed = env->opt->rsync.bwlimit * 1024, .looked_ns = INT64_MIN, .env = env };
	return bandwidth_parse(&l->table, &env->opt->bandwidth, err);
}

bool limit_exists(const struct limit *l)
{
	return l->fixed > 0 || l->table.n > 0;
}

int64_t limit_now(const struct limit *l)
{
	unsigned quarters = l->env->rate_quarters;
	int64_t rate;

	if (l->table.n > 0)
		tzset(); /* the host may be in another zone by now */
	rate = bandwidth_with(&l->table, clock_real_ns() / NS_PER_S, l->fixed);
	if (rate == 0 || quarters == 0 || quarters >= 4)
		return rate;
	rate = rate / 4 * quarters;
	return rate < RATE_MIN ? RATE_MIN : rate;
}

void limit_follow(struct limit *l, struct throttle *t, int64_t now_ns)
{
	bool same = l->quarters == l->env->rate_quarters;

	if (!limit_exists(l) || (same && l->looked_ns != INT64_MIN && now_ns - l->looked_ns < NS_PER_S))
		return;
	l->quarters = l->env->rate_quarters;
	l->looked_ns = now_ns;
	throttle_set(t, now_ns, limit_now(l));
}
