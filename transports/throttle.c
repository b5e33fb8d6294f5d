#include "transports/throttle.h"

#include "core/clock.h"

#define AHEAD_NS (NS_PER_S / 10)

void throttle_init(struct throttle *t, int64_t bytes_per_second)
{
	*t = (struct throttle){ .rate = bytes_per_second };
}

void throttle_set(struct throttle *t, int64_t now_ns, int64_t bytes_per_second)
{
	int64_t ahead = t->rate > 0 && t->free_ns > now_ns ? t->free_ns - now_ns : 0;

	if (bytes_per_second == t->rate)
		return;
	t->free_ns = bytes_per_second == 0
			     ? 0
			     : now_ns + (int64_t)((double)ahead * (double)t->rate / (double)bytes_per_second);
	t->rate = bytes_per_second;
}

int64_t throttle_wait_ns(const struct throttle *t, int64_t now_ns)
{
	int64_t ahead = t->free_ns - now_ns;

	return t->rate == 0 || ahead <= AHEAD_NS ? 0 : ahead - AHEAD_NS;
}

void throttle_took(struct throttle *t, int64_t now_ns, uint64_t bytes)
{
	if (t->rate == 0)
		return;
	if (t->free_ns < now_ns)
		t->free_ns = now_ns;
	t->free_ns += (int64_t)((double)bytes / (double)t->rate * (double)NS_PER_S);
}
