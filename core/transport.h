/*
 * transport.h - the abstract transport: carries a batch to a target. Lives in the worker process.
 *
 * A transport is one const descriptor in its own file (transports/NAME.c), everything else there static, and a line in
 * transports/registry.c. The core asks capability bits, never which transport it is.
 *
 * A session is single-threaded and event-driven: it registers its descriptors, timers and children with env->loop and
 * never blocks (local file system calls apart). At any time at most one apply or reconcile is under way (transports
 * with TRANSPORT_PIPELINE may later be given more). Rules, tested by one contract suite for every transport:
 *  - each item and each rename is settled at most once; what is unsettled at `finished` counts as RETRY;
 *  - DONE means the target's commit point was passed (rename returned, rsync exited with 0), never "sent";
 *  - after `down` nothing more is called back for the work under way; the core closes the session, and opens a new one
 *    after its backoff;
 *  - callbacks are never called from inside open, apply or reconcile: always from the loop;
 *  - in a bidirectional sync only what core/twoway.h decides is done to the target, and the archive (core/archive.h) is
 *    committed before `finished`.
 */
#ifndef FANSYNCD_CORE_TRANSPORT_H
#define FANSYNCD_CORE_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "core/batch.h"
#include "core/entry.h"
#include "core/err.h"
#include "core/exam.h"
#include "core/keep.h"
#include "core/loop.h"
#include "core/options.h"
#include "core/origins.h"

/* Facts about a transport. */
enum transport_cap {
	TRANSPORT_RENAME = 1u << 0,	  /* renames are carried; without it the worker makes them reconciles */
	TRANSPORT_LOOK = 1u << 1,	  /* the target can be looked at: bidirectional is possible */
	TRANSPORT_NATIVE = 1u << 2,	  /* our own engine: archive and delay 0 are the defaults */
	TRANSPORT_LOCAL_TARGET = 1u << 3, /* the target may be a local directory: nesting checks apply */
	TRANSPORT_EXEC = 1u << 4,	  /* starts programs: the worker can't be confined by seccomp */
	TRANSPORT_HOST = 1u << 5,	  /* host and targetdir are required instead of target */
	TRANSPORT_MODULE = 1u << 6,	  /* the same with host and a module of its receiver */
	TRANSPORT_MARKER = 1u << 7, /* looks for requireTargetMarker on its own, before each work: ERR_UNSAFE by `down`
				       without it. A local target's is looked for by the core */
	/* Honours `keep` in a comparison. Without it a comparison deletes nothing at all while something below is to be
	 * kept. */
	TRANSPORT_KEEP = 1u << 8,
	TRANSPORT_FREE_TARGET = 1u << 9, /* the target is any word, and may be missing: the sync's name then */
	TRANSPORT_PROGRAM = 1u << 10,	 /* a foreign program does it all, and is told nothing of rsync's keys */
	TRANSPORT_LATE = 1u << 11,	 /* what was sent may still be done at the target when the connection is lost */
};

struct transport_item {
	const char *path; /* relative to the source, valid until finished or down */
	size_t len;
	unsigned flags; /* enum mark_flag */
	uint32_t tries;
	enum look look; /* what the worker saw, just before */
	struct stat st; /* valid unless ABSENT */
};

struct transport_work {
	const struct batch_rename *renames; /* to be done first, in order; apply only */
	size_t n_renames;
	/* apply: in depth-first order, already filtered; an ABSENT one is to be deleted on the target (the topmost such
	 * path only: what lies below is not listed again; but all that are marked in a bidirectional sync, each of
	 * which has a state of its own there). reconcile: directories (path "" = the whole source), to be made equal
	 * with all that is below; never nested. */
	struct transport_item *items;
	size_t n_items;
	bool may_delete;    /* lsyncd's delete modes, already decided for this work */
	int64_t max_delete; /* entries; -1: the default of DESIGN.md promise 5 */
	/* Nothing is deleted at and below these paths, nor a directory above as a whole; NULL: none. An apply is not
	 * given deletions there; what it is given must not make room for itself by deleting a directory there. */
	const struct keep_list *keep;
	bool unguarded; /* --allow-delete: requireTargetMarker does not matter for this work */
};

/* Sums since the session was opened; the worker adds them up. */
struct transport_counters {
	uint64_t files_sent, bytes_sent, deletions, renames_carried, handshakes, processes, conflicts;
	uint64_t entries_deleted; /* each one below a deleted directory, too: what max_delete is about */
};

struct transport_progress {
	const char *phase;				 /* "listing", "sending", ...: a string constant */
	uint64_t files, files_total, bytes, bytes_total; /* totals 0 when unknown */
	const char *path;				 /* being worked on, or NULL */
	size_t path_len;
};

struct transport_env {
	struct loop *loop;
	const struct sync_options *opt;
	int source_fd;		      /* O_DIRECTORY descriptor of the source's root */
	const char *runtime_dir;      /* mode 0700, private to this worker, short; removed by the core at its end */
	const char *archive_path;     /* where the archive of a bidirectional sync is; NULL: it is not one */
	const unsigned char *host_id; /* HOST_ID_BYTES, core/host_id.h */
	const unsigned char *boot;    /* as many, of this run of the kernel (host_boot_get); NULL: not known */
	int lookups;		      /* who is asked for names (core/lookups.h), or 0 */
	struct transport_counters *counters; /* the session adds to it */
	unsigned rate_quarters; /* of a limit of bandwidth, that the work may use; 0: all. Changes between works */
	unsigned *memory;	/* bits of the transport's own, kept from one session to the next; 0 at first */
	void *ctx;
	/* `why` may be NULL for DONE and GONE. Index into work->items / work->renames. */
	void (*settle)(void *ctx, size_t index, enum verdict v, const struct err *why);
	void (*settle_rename)(void *ctx, size_t index, enum verdict v, const struct err *why);
	/* A path of its own that the work stumbled over: inside a reconciled directory (RETRY or REJECT with reason),
	 * or to be compared again with all below (RECONCILE; with a reason it failed, as with RETRY). */
	void (*found)(void *ctx, const char *path, size_t len, enum verdict v, const struct err *why);
	/* A comparison is about to send a file, or to compare its content. true: that is left to another one, which is
	 * told of it; the work goes on as if the file were not there any more. NULL: all are sent. */
	bool (*hand_over)(void *ctx, const char *path, size_t len, const struct stat *st);
	/* What the target is, if its host says so. May be NULL. */
	void (*peer)(void *ctx, const struct host_tree *t);
	/* What that host says of itself. May be NULL: then it is not asked. A host that can't tell says nothing. */
	void (*host)(void *ctx, const struct host_state *s);
	/* The work is over. */
	void (*finished)(void *ctx);
	/* The target can't be reached, or the session is broken: everything unsettled goes back to pending. */
	void (*down)(void *ctx, const struct err *why);
	/* Sign of life; also what --sync-now shows. Cheap to call often. */
	void (*progress)(void *ctx, const struct transport_progress *p);
};

/* What a worker still does once it is confined (core/confine.h). */
struct transport_needs {
	unsigned may; /* enum confine_may */
	/* It reaches what lies below a directory, or of a file all in its directory, since another one will take its
	 * place. `rights`: enum confine_right, and perhaps TRANSPORT_NEEDS_ITSELF. NULL is fine, and what is not there.
	 */
	void (*add)(struct transport_needs *needs, const char *path, unsigned rights);
};
#define TRANSPORT_NEEDS_ITSELF (1u << 16) /* of a file no more than that */

struct transport {
	const char *name;
	unsigned caps;
	int64_t default_delay_ns;
	/* Check and complete this transport's part of a sync section (target from host and targetdir, ...). Touches
	 * nothing outside `opt`; no I/O. The error's text does not name the file and line: config/ puts them before it.
	 */
	int (*validate)(struct sync_options *opt, struct err *err);
	/* Start a session. env outlives it. May connect lazily. NULL on failure. */
	void *(*open)(const struct transport_env *env, struct err *err);
	/* Carry changes. Returns 0 when the work was taken (finished or down will follow), -1 if it was not. `work`
	 * stays valid until then. */
	int (*apply)(void *session, const struct transport_work *work, struct err *err);
	int (*reconcile)(void *session, const struct transport_work *work, struct err *err);
	/* End now: kills children, closes descriptors. No callback afterwards. */
	void (*close)(void *session);
	/* What a worker needs beside the source, after its first session was opened. false, or NULL: it starts
	 * programs, and is not confined; but with CONFINE_SECRETS in `may` neither it nor they leave a core dump. */
	bool (*needs)(const struct sync_options *opt, struct transport_needs *out);
	/* `--doctor`: whether the target can be reached and used, told in findings. In a process of its own, where it
	 * may block (core/exam.h). Changes nothing there. A local directory is looked at by the core. May be NULL. */
	void (*examine)(const struct sync_options *opt, struct exam *x);
};

/* The registry (transports/registry.c): NULL-terminated; and a look-up by name, NULL if there is none. */
extern const struct transport *const transport_registry[];
const struct transport *transport_find(const char *name);

#endif
