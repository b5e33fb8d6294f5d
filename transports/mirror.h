/*
 * mirror.h - the mirroring engine: carries a transport's work from a source end to a target end (fileops.h).
 *
 * It owns every rule of how a target is changed, once for all native transports: temp file in the same directory and
 * atomic replace; parents before children, deletions depth first; types that change; read-only directories; owner,
 * mode, times in their order, directories' times last; files that change while they are read; hard links, symlinks,
 * nodes, holes, extended attributes; what is equal is not written; what is protected, or not read completely on the
 * source, is not deleted; left-overs of a killed run are removed.
 *
 * Items of a work are state machines (tasks); up to `width` of them are under way. With an end that answers at once a
 * task runs through without ever being queued. A work is begun and settled from the loop, never from within
 * mirror_start. Blocks as the ends do.
 *
 * How a transport uses it: in `open` it makes its ends (it may connect later) and mirror_new; in apply and reconcile it
 * calls mirror_start once the ends are usable; when the target end breaks it forgets all pending operations and calls
 * mirror_down, from the loop; in `close` it calls mirror_free, then releases its ends, which from then on touch no
 * operation any more.
 */
#ifndef FANSYNCD_TRANSPORTS_MIRROR_H
#define FANSYNCD_TRANSPORTS_MIRROR_H

#include <stdbool.h>
#include <stddef.h>

#include "core/transport.h"
#include "core/twoway.h"
#include "transports/fileops.h"

struct mirror;

/* What a kind of target can't do, for mirror_validate. */
enum mirror_lack {
	MIRROR_NO_XATTRS = 1u << 0,   /* acls, xattrs */
	MIRROR_NO_NODES = 1u << 1,    /* devices, specials: refused when asked for by name, left out of archive */
	MIRROR_NO_COMPRESS = 1u << 2, /* compress */
	MIRROR_NO_NAMES = 1u << 3,    /* owners travel as numbers only: numeric_ids is implied */
};

/* Refuse what native transports don't do, with a message that names the key; complete what depends on others. */
int mirror_validate(struct sync_options *opt, unsigned lacks, struct err *err);

/* Which names of the source count: as fileops_wish, but asked from any thread, and with the whole path, the last
 * component of which begins at `base`. Stays valid and unchanged as long as the engine. */
struct mirror_keep {
	bool (*keep)(const void *ctx, const char *path, size_t len, size_t base, bool is_dir);
	const void *ctx;
};

/*
 * Reads directories of both ends ahead, on the side, of a comparison that goes on meanwhile. What it gives is as if
 * both had been listed at any time since they were wanted, which is a moment ago: the engine starts nothing at or below
 * a directory between.
 * NULL where each end has a queue of its own.
 */
struct mirror_ahead {
	/* A directory will be listed soon; `wide`: it is so large that it is worth a thread by itself. 0: no, else what
	 * to take it by. */
	unsigned (*want)(void *ctx, const char *path, size_t len, const struct mirror_keep *keep, bool wide);
	/* Both listings, once; may do some of the work itself. false: list it as if nothing had been wanted. */
	bool (*take)(void *ctx, unsigned which, struct listing *source, struct listing *target);
	/* A work is over: what was wanted and not taken is let go. Nothing runs on after it. */
	void (*forget)(void *ctx);
	void *ctx;
};

/* Both ways, where the archive is the other host's: what both ends were last known to agree on (core/archive.h). */
struct mirror_agreed {
	/* op->agreed of a path; ABSENT when there is nothing. Completes like an operation of fileops.h. */
	enum fileops_result (*get)(void *ctx, struct fileop *op, const char *path, size_t len);
	/* Both ends now have this state. ABSENT: and nothing below. */
	void (*note)(void *ctx, const char *path, size_t len, const struct twoway_state *state);
	/* A rename was carried: what was agreed on of the old name, and below it, is now of the new one. NULL: none is
	 * carried. */
	void (*moved)(void *ctx, const char *from, size_t from_len, const char *to, size_t to_len);
	/* To be told and counted there. */
	void (*conflict)(void *ctx, const char *path, size_t len, const struct twoway_state *source,
			 const struct twoway_state *target, bool source_wins);
	/* archive_in_doubt, until everything has been compared. */
	bool in_doubt;
	void *ctx;
};

struct mirror_setup {
	const struct transport_env *env;   /* outlives the engine */
	struct fileops_end source, target; /* copied; what they can do may be set later by mirror_ends */
	unsigned width;	     /* items under way at once: 1 for ends that answer at once, some hundreds over a network */
	unsigned width_dirs; /* directories that a reconcile reads ahead at once: 1, or some tens */
	const struct mirror_ahead *ahead; /* copied; NULL: none */
	/* NULL: the engine has the archive at env->archive_path, if there is one. Copied. */
	const struct mirror_agreed *agreed;
	uint32_t tag;	  /* temp_name.h */
	int64_t ahead_ns; /* the target's clock (and ours), of the source's: at most; 0: they are one */
};

/* NULL when out of memory. */
struct mirror *mirror_new(const struct mirror_setup *setup, struct err *err);
/* Once a connection is there and says what it can do: the ends anew. Not while a work is under way. */
void mirror_ends(struct mirror *m, const struct fileops_end *source, const struct fileops_end *target);
/* Carry a work; env->finished (or down) follows, from the loop. At most one at a time. -1: not taken. */
int mirror_start(struct mirror *m, const struct transport_work *work, bool reconcile, struct err *err);
/* The work that is started next is a further piece of the one before: what that deleted counts for its limit. */
void mirror_continue(struct mirror *m);
/* The target end is lost. Everything under way is forgotten: no operation of it may call back any more. env->down is
 * called before this returns if a work was under way. From the loop only. */
void mirror_down(struct mirror *m, const struct err *why);
bool mirror_busy(const struct mirror *m);
/* The source is lost, the target is at hand and answers at once: remove the temp files of what is under way, but
 * for those of large files that the next connection can go on with. Then mirror_down or mirror_free. */
void mirror_remove_temps(struct mirror *m);
void mirror_free(struct mirror *m);

#endif
