/*
 * failures.h - what a sync could not send: path, reason, how often, whether it was given up. For the status and the
 * barrier. Bounded: above FAILURES_MAX paths the rest is counted, not named. Pure.
 */
#ifndef FANSYNCD_CORE_FAILURES_H
#define FANSYNCD_CORE_FAILURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAILURES_MAX 1000

struct failure {
	char *path; /* len bytes and a NUL */
	size_t len;
	char *why;
	uint32_t tries;
	bool given_up;	  /* rejected: not tried again before its next change or a reconcile */
	int64_t since_ns; /* wall clock of the first failure */
	int64_t last_ns;  /* of the latest */
};

struct failures {
	struct failure *v;
	size_t n, cap;
	uint64_t unnamed;	   /* more than FAILURES_MAX */
	uint64_t unnamed_given_up; /* of these */
};

/* Note a failure of `path`; returns its tries, this one included (0: not noted, out of memory or room). `again`: it has
 * failed before, and is counted already where it has no name. */
uint32_t failures_note(struct failures *f, const char *path, size_t len, const char *why, bool given_up, bool again,
		       int64_t real_ns);
/* It was sent, or needs nothing any more. A comparison of the whole tree that was given up (refused deletions) stays
 * until another one ends well: that the root got its attributes says nothing of it. `failed`: it had failed before. */
void failures_clear(struct failures *f, const char *path, size_t len, bool failed);
/* Nothing is to be tried again: of those without a name the ones that were given up are left. */
void failures_quiet(struct failures *f);
/* All at and below `path` were compared anew, by something that began at `began_ns` (wall clock): what failed since
 * then stays. */
void failures_clear_below(struct failures *f, const char *path, size_t len, int64_t began_ns);
size_t failures_given_up(const struct failures *f);
void failures_done(struct failures *f);

#endif
