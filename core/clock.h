/*
 * clock.h - the two clocks. Pure modules take times as arguments; only machinery calls these. Never blocks.
 */
#ifndef FANSYNCD_CORE_CLOCK_H
#define FANSYNCD_CORE_CLOCK_H

#include <stdint.h>

#define NS_PER_S 1000000000LL
#define NS_PER_MS 1000000LL

/* Nanoseconds of CLOCK_MONOTONIC: for delays, deadlines and rates. */
int64_t clock_mono_ns(void);
/* Nanoseconds since 1970: for logs and the status only. */
int64_t clock_real_ns(void);

#endif
