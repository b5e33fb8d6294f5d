/*
 * bandwidth.h - how fast a sync may send, by the time of the day.
 *
 * PURE but for the zone's rules, which localtime_r(3) knows. A table is a list of rules; the first one that names the
 * time decides, and where none does there is no limit. A rule is a text of words KEY=VALUE, or a rate alone:
 *   from=08:00 to=18:00 days=Mon-Fri limit=500K
 * A rate is KiB a second, or has a suffix K, M or G (KiB, MiB, GiB a second); 0 is no limit. What begins before
 * midnight and ends after it belongs to the day on which it begins.
 */
#ifndef FANSYNCD_CORE_BANDWIDTH_H
#define FANSYNCD_CORE_BANDWIDTH_H

#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/options.h"

#define BANDWIDTH_RULES_MAX 32u

struct bandwidth_rule {
	uint32_t days; /* a bit each, 0 is Sunday */
	int from, to;  /* seconds of the day; `to` is not within. Equal: the whole day */
	int64_t rate;  /* bytes a second; 0: no limit */
};

struct bandwidth {
	struct bandwidth_rule v[BANDWIDTH_RULES_MAX];
	size_t n;
};

/* 0, or -1 and what is wrong with which text. */
int bandwidth_parse(struct bandwidth *out, const struct strlist *texts, struct err *err);
/* Bytes a second at that time (seconds since 1970); 0: no limit. */
int64_t bandwidth_at(const struct bandwidth *b, int64_t now);
/* The same together with another limit, as bwlimit: the smaller one. */
int64_t bandwidth_with(const struct bandwidth *b, int64_t now, int64_t other);

#endif
