/*
 * exec_walk.h - lists a directory of the source with all below it, in the order of a depth-first walk, in slices.
 *
 * Only what the filter includes. Memory: the names of the directories from the top to where it is.
 */
#ifndef FANSYNCD_TRANSPORTS_EXEC_WALK_H
#define FANSYNCD_TRANSPORTS_EXEC_WALK_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "core/buf.h"
#include "core/entry.h"
#include "core/err.h"
#include "core/loop.h"
#include "core/options.h"

struct exec_walk;

struct exec_walk_events {
	/* `closed`: a directory on another file system, whose content is not listed. -1: stop, with the reason. */
	int (*entry)(void *ctx, const char *path, size_t len, enum look look, const struct stat *st, bool closed,
		     struct err *err);
	/* It is there, and could not be looked at or read. */
	int (*unknown)(void *ctx, const char *path, size_t len, const struct err *why, struct err *err);
	/* It is over; `why` NULL: all was listed. */
	void (*over)(void *ctx, const struct err *why);
	void *ctx;
};

/* One walk, which begins with the loop's next round. The path is copied. */
struct exec_walk *exec_walk_new(struct loop *loop, const struct sync_options *opt, int root_fd, const char *path,
				size_t len, const struct exec_walk_events *events, struct err *err);
/* Ends it. NULL is fine. Not from within its calls but `over`. */
void exec_walk_free(struct exec_walk *w);

#endif
