/*
 * hooks.h - the administrator's commands that a sync runs: before and after batches, on failures, on changes.
 *
 * A command is an argv, run without a shell in the source's directory, with the paths that it is about on its standard
 * input, a NUL behind each, the root as ".". The daemon never waits for one: its end comes from the loop. What runs
 * beside the sync is bounded (hookProcesses); what comes up meanwhile is gathered into one run a kind. A command that
 * outlives hookTimeout is ended, with all of its process group.
 */
#ifndef FANSYNCD_CORE_HOOKS_H
#define FANSYNCD_CORE_HOOKS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/err.h"
#include "core/loop.h"
#include "core/options.h"

enum hook_kind {
	HOOK_PRE_BATCH = 0, /* decides: see hooks_check */
	HOOK_BATCH,	    /* these are on the target now */
	HOOK_ERROR,	    /* these failed */
	HOOK_RECONNECT,	    /* the target is back */
	HOOK_CHANGE,	    /* the watcher saw these change, whoever changed them */
	HOOK_KINDS
};

struct hooks;

/* The options are borrowed. */
struct hooks *hooks_new(struct loop *loop, const struct sync_options *opt, struct err *err);
/* Ends what runs. NULL is fine. */
void hooks_free(struct hooks *h);
/* A reload found the options equal: use the new copy. */
void hooks_rebind(struct hooks *h, const struct sync_options *opt);
bool hooks_wanted(const struct hooks *h, enum hook_kind kind);

/* Add a path to what the next run of this kind is told. Beyond a ceiling the paths become one: ".". */
void hooks_add(struct hooks *h, enum hook_kind kind, const char *path, size_t len);
/* Whether anything was added for the next run. */
bool hooks_told(const struct hooks *h, enum hook_kind kind);
/* Run it with what was added, now or when there is room; `why` (may be NULL) is in its environment. */
void hooks_run(struct hooks *h, enum hook_kind kind, const char *why);
/* The same soon: what comes meanwhile goes along. */
void hooks_run_soon(struct hooks *h, enum hook_kind kind);
/* Have the batch that was added looked at. `done` is called once, from the loop: why NULL: it may go. */
void hooks_check(struct hooks *h, void (*done)(void *ctx, const struct err *why), void *ctx);
/* The batch is of no interest any more: the check is ended, `done` is not called. */
void hooks_cancel_check(struct hooks *h);
bool hooks_checking(const struct hooks *h);
/* Whether anything runs, or waits to. */
bool hooks_busy(const struct hooks *h);

#endif
