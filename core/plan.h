/*
 * plan.h - from a batch and a look at its paths to the work that a transport gets. No I/O of its own: the look is a
 * callback.
 *
 * The rules that keep a late or early look from doing harm are here, once for all transports:
 *  - an absent path is deleted on the target by its topmost ancestor (or itself) that is absent and whose *name* is
 *    marked in this batch; an absent path without such an ancestor is GONE: the event that explains it is on its way;
 *    so is one whose directory is absent and has no such mark: that event is on its way, or was dealt with;
 *  - a path first seen being created that is gone again (MARK_BORN) is nothing to the target, unless it was sent as
 *    another name of a file meanwhile;
 *  - what cannot be looked at (denied, I/O error) is neither sent nor deleted, but tried again;
 *  - what the filter does not include is not sent, what it protects is not deleted;
 *  - where nothing may be deleted (keep.h) nothing is: not by name, not because something else is in its place, and not
 *    by moving it away;
 *  - a recursive mark on a directory is a reconcile, which covers all items below; on anything else a plain one;
 *  - a file with several names (hard links) is sent under all of them: the kernel reports one;
 *  - a directory in which something came, went or was replaced is sent too, for its own mtime;
 *  - where there are two lanes, what is for the other one is left to that;
 *  - nothing below one of our own temporary names is mirrored.
 *
 * In a bidirectional sync each absent path that is marked is listed, since each is compared with the target on its own;
 * what came and went again is looked at, too, since it may have come from the target; and a directory's times follow
 * from its entries on either side: they are set when it is made, and are no change.
 */
#ifndef FANSYNCD_CORE_PLAN_H
#define FANSYNCD_CORE_PLAN_H

#include <stdbool.h>
#include <stddef.h>

#include "core/batch.h"
#include "core/filter.h"
#include "core/transport.h"

/* Which batch items a transport item answers for: [lo, hi); lo == hi: none, it was added for a directory's times. */
struct plan_range {
	size_t lo, hi;
};

/* In this order. TIMES: what a reconcile changed in the directory above it comes after it. */
enum plan_step { PLAN_APPLY = 0, PLAN_RECONCILE, PLAN_RECONCILE_KEEP, PLAN_TIMES, PLAN_STEPS };

/* Which files it is for. */
enum plan_lane {
	PLAN_ALL = 0, /* there is one lane */
	PLAN_FIRST,   /* not for large ones: VERDICT_LARGE; those with several names only as MARK_ALONE says */
	PLAN_LARGE,   /* for nothing else: VERDICT_SMALL. Directories' times are not set along with it */
};

struct plan_part {
	struct transport_work work;
	struct plan_range *ranges; /* one an item of work */
	size_t cap;
};

struct plan {
	struct plan_part part[PLAN_STEPS]; /* RECONCILE: may delete; RECONCILE_KEEP: may not */
	size_t *rename_index;		   /* of work.renames of PLAN_APPLY: index in the batch */
	struct batch_rename *renames;
};

struct plan_input {
	const struct batch *batch;
	const struct filter *filter;
	enum delete_mode delete_mode;
	int64_t max_delete; /* for all steps; -1: default */
	unsigned caps;	    /* of the transport */
	bool delete_excluded;
	bool dir_times; /* directories' mtimes are mirrored */
	bool bidirectional;
	enum plan_lane lane;
	int64_t large_file;	      /* bytes: what is larger is large */
	const struct keep_list *keep; /* may be NULL */
	int (*look)(void *ctx, const char *path, size_t len, enum look *out, struct stat *st, struct err *err);
	/* Call `add` for each other name of a file that has several; may be NULL. The paths live as long as the plan.
	 */
	void (*siblings)(void *ctx, const char *path, size_t len, const struct stat *st,
			 void (*add)(void *maker, const char *path, size_t len, const struct stat *st), void *maker);
	/* Whether a path was handed to `add` before, or lies above one that was; an error is yes. NULL: none was. */
	bool (*was_sibling)(void *ctx, const char *path, size_t len);
	/* Verdicts that need no transport. */
	void (*settle)(void *ctx, size_t index, enum verdict v, const struct err *why);
	void (*settle_rename)(void *ctx, size_t index, enum verdict v, const struct err *why);
	void *ctx;
};

/* -1: out of memory (some verdicts may have been given). The plan borrows the batch's paths. */
int plan_make(struct plan *p, const struct plan_input *in, struct err *err);
void plan_done(struct plan *p);

#endif
