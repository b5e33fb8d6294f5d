/*
 * changeset.h - the pending, coalesced changes of one sync, and those in flight. Pure: no I/O, the clock is an
 * argument.
 *
 * State, not history. A mark says "look at this path"; it holds no content, and looking once serves any number of
 * events. Renames are the exception: an ordered list, because they save whole transfers. A rename *copies* the marks
 * at and below the old name to the new one (in-flight marks too) and removes none, since a mark may carry the new
 * name already. It is carried to the target as a rename only if nothing name-like is pending or in flight on the old
 * name or its ancestors; otherwise both names are reconciled.
 *
 * Whatever is not confirmed comes back: a batch that failed returns its marks, and each of its renames becomes a
 * reconcile of both names. So at any time each path at which source and target may differ is marked (or lies below a
 * recursive mark), is in flight, or has its event still in the kernel's queue.
 */
#ifndef FANSYNCD_CORE_CHANGESET_H
#define FANSYNCD_CORE_CHANGESET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/batch.h"
#include "core/change.h"

struct changeset;

struct changeset_limits {
	size_t max_pending; /* marks; above, the fullest subtree collapses into one recursive mark */
	size_t max_renames; /* pending renames that are carried; above, they are reconciles */
	size_t batch_items;
	size_t batch_bytes; /* of paths */
};

/* NULL when out of memory. */
struct changeset *changeset_new(const struct changeset_limits *limits);
void changeset_free(struct changeset *cs);

/* A generation that no barrier waits for. */
#define CHANGESET_SERVED UINT64_MAX

/* Take in a record. `generation` is the barrier's current generation; a mark keeps its first unserved one.
 * `hold_until_ns`: 0, or the mark is not due before that time (a later record without a hold lifts it; `extend` moves
 * an existing hold, otherwise the earlier one stays). Returns 0, or -1 when out of memory: then the root is marked
 * recursive, which needs no memory, so nothing is lost. */
int changeset_add(struct changeset *cs, const struct change *c, uint64_t generation, int64_t now_ns,
		  int64_t hold_until_ns, bool extend);

/* A worker is gone that knew which names it had made beside its batches, as other names of a file (siblings.h): of no
 * path that is marked by the next changeset_take it is certain that the target never had it. */
void changeset_doubt_born(struct changeset *cs);

/* Marks pending now (not in flight), and renames. */
size_t changeset_pending(const struct changeset *cs);
size_t changeset_pending_renames(const struct changeset *cs);
/* Marks and renames handed out and not yet settled. */
size_t changeset_in_flight(const struct changeset *cs);
/* Subtrees that the limit collapsed since the start. */
uint64_t changeset_collapses(const struct changeset *cs);
/* Time of the oldest mark that is not held (INT64_MAX: none), and the earliest end of a hold. */
int64_t changeset_oldest_ns(const struct changeset *cs);
int64_t changeset_hold_ends_ns(const struct changeset *cs);
/* End all holds (the barrier includes files that are held open); retries keep their backoff. */
void changeset_release_holds(struct changeset *cs);
/* End all backoffs too: the target is back, or the administrator asked. */
void changeset_release_retries(struct changeset *cs);

/* Hand out what is due at `now_ns`: all renames, and marks that are not held, oldest first up to the limits. NULL when
 * nothing is due or out of memory (nothing changed then). The batch is the caller's, who keeps it until it is over: it
 * stays in flight until changeset_finish or changeset_abandon. */
struct batch *changeset_take(struct changeset *cs, int64_t now_ns);

/* Settle one item, or one rename, of a batch in flight; a second verdict for the same index is ignored. For RETRY,
 * `not_before_ns` holds it back. What is DONE, GONE or REJECTed stays in flight until the batch is over, because the
 * directories above it get their times later. Returns false for an index or id that is not in flight. */
bool changeset_settle(struct changeset *cs, uint64_t batch_id, size_t index, enum verdict v, int64_t not_before_ns,
		      int64_t now_ns);
bool changeset_settle_rename(struct changeset *cs, uint64_t batch_id, size_t index, enum verdict v, int64_t now_ns);
/* The batch is over: whatever has no verdict goes back to pending (renames as reconciles of both names). */
void changeset_finish(struct changeset *cs, uint64_t batch_id, int64_t now_ns);
/* The same when the worker died, or the target is down. Directories whose entries have their verdict already may not
 * have got their times: they are looked at again. */
void changeset_abandon(struct changeset *cs, uint64_t batch_id, int64_t now_ns);
void changeset_abandon_all(struct changeset *cs, int64_t now_ns);

/*
 * The large lane: a second worker carries one large file at a time beside the batches of the first one. A path comes
 * there by VERDICT_LARGE, and goes back by VERDICT_SMALL when it is found to be no such file any more. What is in
 * flight there stays apart from the batches: neither anything below it, nor a change of names or a comparison above it,
 * nor a rename that has to do with it is in flight beside it. Whoever comes first has the way, the other one waits.
 */

/* Whether a path of the large lane may leave now: nothing is in its way, and none is in flight there. */
bool changeset_large_ready(struct changeset *cs, int64_t now_ns);
/* That one, as a batch of its own; it is settled and ended like any other one. NULL: there is none, or out of memory.
 */
struct batch *changeset_take_large(struct changeset *cs, int64_t now_ns);
/* A comparison of that batch came upon a large file that differs, and leaves it to the large lane. */
void changeset_hand_over(struct changeset *cs, uint64_t batch_id, const char *path, size_t len, int64_t now_ns);
/* When the oldest of those that wait for it was changed; INT64_MAX: there is none. */
int64_t changeset_large_oldest_ns(const struct changeset *cs);

enum changeset_wait {
	CHANGESET_NOTHING = 0,
	CHANGESET_NAMES,   /* a change of the path's own name, or of one above */
	CHANGESET_RENAMES, /* a rename, and with it all that is pending in the first lane */
};
/* What waits for the large file in flight, and is worth asking whether that is still there. */
enum changeset_wait changeset_large_holds_up(const struct changeset *cs);
/* What is in flight there was broken off, since it is no more: it is for the first lane. Unless a rename takes along
 * what was written of it, its directory is compared, not before `not_before_ns`; INT64_MAX: nothing of it is left. */
void changeset_cancel(struct changeset *cs, uint64_t batch_id, int64_t not_before_ns, int64_t now_ns);
/* There is no large lane any more: all that waits for it is for the first one. */
void changeset_close_large(struct changeset *cs);

/* `path` was tried by a work that began at `since_ns` and led past it, and failed. What waits to be tried again since
 * before that has its verdict: no barrier waits for it. Anything else keeps its generation: what came since, and what
 * is recursive, which stands for others, too. */
void changeset_has_verdict(struct changeset *cs, const char *path, size_t len, int64_t since_ns);

/* Whether no mark of generation `generation` or older is pending or in flight. Marks that a transport gave back
 * twice or more do not count: they have their verdict, and are named among the failures. */
bool changeset_served(const struct changeset *cs, uint64_t generation);
/* The oldest generation that is not served, at most `latest`: for what belongs to marks in flight and comes up later.
 */
uint64_t changeset_oldest_generation(const struct changeset *cs, uint64_t latest);

/* Whether `path` itself is marked as pending or in flight (for tests and the status). */
bool changeset_has(const struct changeset *cs, const char *path, size_t len);
/* Whether nothing is pending or in flight that has to do with `path`: it, what is below it, what is above it and is
 * more than a look; and no renames. */
bool changeset_quiet(const struct changeset *cs, const char *path, size_t len);
/* Visit up to `max` pending paths, oldest first, for the status. */
void changeset_list(const struct changeset *cs, size_t max,
		    void (*fn)(void *ctx, const char *path, size_t len, unsigned flags), void *ctx);

/* For tests: whether all internal counts, links and queues agree. */
bool changeset_check(const struct changeset *cs);

#endif
