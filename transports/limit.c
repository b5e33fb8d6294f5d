#include "transports/limit.h"

#include <time.h>

#include "core/clock.h"

int limit_init(struct limit *l, const struct sync_options *opt, struct err *err)
{
	*l = (struct limit){ .fixed = opt->rsync.bwlimit * 1024, .looked_ns = INT64_MIN };
	return bandwidth_parse(&l->table, &opt->bandwidth, err);
}

bool limit_exists(const struct limit *l)
{
	return l->fixed > 0 || l->table.n > 0;
}

int64_t limit_now(const struct limit *l)
{
	if (l->table.n > 0)
		tzset(); /* the host may be in another zone by now */
	return bandwidth_with(&l->table, clock_real_ns() / NS_PER_S, l->fixed);
}

void limit_follow(struct limit *l, struct throttle *t, int64_t now_ns)
{
	if (!limit_exists(l) || (l->looked_ns != INT64_MIN && now_ns - l->looked_ns < NS_PER_S))
		return;
	l->looked_ns = now_ns;
	throttle_set(t, now_ns, limit_now(l));
}
