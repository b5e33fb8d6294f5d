/*
 * keep.h - subtrees of a target in which nothing may be deleted. Pure.
 */
#ifndef FANSYNCD_CORE_KEEP_H
#define FANSYNCD_CORE_KEEP_H

#include <stdbool.h>
#include <stddef.h>

struct keep {
	const char *path; /* relative; "" is everything. Borrowed */
	size_t len;
	const char *why; /* a string constant; NULL: no failure when it was to be deleted, it is just kept */
};

struct keep_list {
	struct keep *v;
	size_t n, cap;
};

/* false: out of memory. */
bool keep_add(struct keep_list *l, const char *path, size_t len, const char *why);
void keep_done(struct keep_list *l);
/* What forbids to delete within `path`: a keep that is at, above or below it. NULL: nothing does. */
const struct keep *keep_touches(const struct keep_list *l, const char *path, size_t len);
/* Whether all of `path` lies within one keep. */
bool keep_covers(const struct keep_list *l, const char *path, size_t len);

/* Whether `path` is above a keep, or is one that is no mere file (why is not NULL). */
bool keep_holds(const struct keep_list *l, const char *path, size_t len);

#endif
