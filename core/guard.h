/*
 * guard.h - what is remembered of a sync between runs, so that nothing is deleted by mistake; and what follows from it.
 *
 * One record a target, since that is what is guarded: renaming a sync, or naming its source another way, must not
 * begin it anew. It holds who the source's root and a local target's root are, and which mount points were seen below
 * the source. The daemon owns the record (a file in stateDir); the worker, which looks at the target and at the mount
 * points, gets a copy and sends it back when it learned something. Both use the text of guard_put and guard_get. Pure.
 */
#ifndef FANSYNCD_CORE_GUARD_H
#define FANSYNCD_CORE_GUARD_H

#include <stdbool.h>
#include <stddef.h>

#include "core/buf.h"
#include "core/err.h"
#include "core/identity.h"
#include "core/keep.h"

/* More mount points below one source than these are not told apart: then nothing is deleted at all. */
#define GUARD_MOUNTS_MAX 1000u
#define GUARD_TEXT_MAX (16u * 1024 * 1024)

struct guard_mount {
	char *path; /* relative to the source; len bytes and a NUL */
	size_t len;
	bool accepted; /* there at the first start, or the administrator said so */
	bool there;    /* as of the last look: mounted, readable, and the one that was accepted */
	bool known;    /* `id` is set */
	struct root_identity id;
};

struct guard_state {
	char *target; /* whose record this is */
	char *source; /* its path, for the messages */
	bool has_root, has_target_root;
	struct root_identity root, target_root;
	bool looked; /* mount points were looked for once: a further one is new */
	bool too_many;
	struct guard_mount *mounts; /* in the order of path_compare */
	size_t n_mounts;
};

/* A mount point that a look found; `known` false: it can't be looked at. */
struct guard_seen {
	const char *path;
	size_t len;
	bool known;
	struct root_identity id;
};

void guard_done(struct guard_state *g);
/* As text, one fact a line. false: out of memory. */
bool guard_put(struct buf *out, const struct guard_state *g);
/* Read it; *g is overwritten, and empty after a failure (ERR_PROTOCOL, ERR_NOMEM). */
int guard_get(const char *text, size_t len, struct guard_state *g, struct err *err);

/* Take in what is mounted now (any order). The first look ever accepts all; a later one only what moved with a
 * directory above it. With `accept` the administrator has said that all is as it should be. -1: out of memory. */
int guard_mounts(struct guard_state *g, const struct guard_seen *seen, size_t n, bool accept);
/* The subtrees of the target in which nothing may be deleted. The list borrows the paths. */
bool guard_keeps(const struct guard_state *g, struct keep_list *out);
/* Why nothing is deleted below this mount point, and NULL when it may be. */
const char *guard_mount_why(const struct guard_mount *m);

#endif
