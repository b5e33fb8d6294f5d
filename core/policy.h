/*
 * policy.h - how long to wait before trying again. Pure: tries and random bits are arguments.
 */
#ifndef FANSYNCD_CORE_POLICY_H
#define FANSYNCD_CORE_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"

/* The pause before the next attempt after `tries` failed ones (1, 2, ...): min * 2^(tries-1), at most `max`, then up to
 * a quarter less by the random bits, so that many syncs that lost one host don't return to it at the same moment. */
int64_t policy_backoff_ns(uint32_t tries, int64_t min_ns, int64_t max_ns, uint32_t random);

/* Whether a target that is down for such a reason may come back without the administrator: what `insist = false` exits
 * for at once, as lsyncd's "die" codes do. */
bool policy_is_final(enum err_class class);

#endif
