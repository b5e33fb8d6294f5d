/*
 * limit.h - the rate that a session may send with: `bwlimit`, and `bandwidth` by the time of the day. The smaller one
 * counts.
 */
#ifndef FANSYNCD_TRANSPORTS_LIMIT_H
#define FANSYNCD_TRANSPORTS_LIMIT_H

#include <stdbool.h>

#include "core/bandwidth.h"
#include "core/transport.h"
#include "transports/throttle.h"

struct limit {
	struct bandwidth table;
	int64_t fixed;	   /* bytes a second; 0: none */
	int64_t looked_ns; /* when the throttle was last set */
	const struct transport_env *env;
	unsigned quarters; /* env->rate_quarters then */
};

/* -1: the table is none. `env` is borrowed. */
int limit_init(struct limit *l, const struct transport_env *env, struct err *err);
/* Whether there may ever be a limit. */
bool limit_exists(const struct limit *l);
/* Bytes a second, now, of which two lanes have their shares; 0: no limit. */
int64_t limit_now(const struct limit *l);
/* Set the throttle to what holds now; looks once a second. */
void limit_follow(struct limit *l, struct throttle *t, int64_t now_ns);

#endif
