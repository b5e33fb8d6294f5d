/*
 * throttle.h - keeping to a transfer rate (limit.h says which). Pure: the clock is an argument.
 */
#ifndef FANSYNCD_TRANSPORTS_THROTTLE_H
#define FANSYNCD_TRANSPORTS_THROTTLE_H

#include <stdint.h>

struct throttle {
	int64_t rate;	 /* bytes a second; 0: no limit */
	int64_t free_ns; /* when what was taken so far is paid for */
};

void throttle_init(struct throttle *t, int64_t bytes_per_second);
/* Another rate from now on: what is ahead is paid for at the new one. */
void throttle_set(struct throttle *t, int64_t now_ns, int64_t bytes_per_second);
/* How long to wait before anything more is sent; 0: now. A tenth of a second's worth may be ahead. */
int64_t throttle_wait_ns(const struct throttle *t, int64_t now_ns);
/* So much was sent. */
void throttle_took(struct throttle *t, int64_t now_ns, uint64_t bytes);

#endif
