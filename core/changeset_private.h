/*
 * changeset_private.h - what the files of the changeset share: changeset.c (marks, taking in, questions),
 * changeset_renames.c (renames), changeset_batches.c (batches out and back) and changeset_large.c (the large lane).
 * Nobody else includes it.
 */
#ifndef FANSYNCD_CORE_CHANGESET_PRIVATE_H
#define FANSYNCD_CORE_CHANGESET_PRIVATE_H

#include "core/changeset.h"
#include "core/marks.h"

#define COMPARE (MARK_RECURSIVE | MARK_NAME | MARK_LOOK)
/* Which lane a mark is of: that of the path as it was looked at, and of no other one. */
#define LANES (MARK_LARGE | MARK_ALONE)

enum rename_state { RENAME_PENDING = 1, RENAME_FLIGHT, RENAME_SETTLED };

/* A carried rename. The list is in the order of the records. An entry stays after it was settled, as long as a batch
 * taken before it is in flight: what that batch gives back has moved with it. */
struct carried {
	struct carried *next, *prev;
	uint64_t seq;
	int64_t first_ns;
	size_t from_len, to_len;
	enum rename_state state;
	bool is_dir;
	uint8_t gen;  /* slot */
	char bytes[]; /* from, to */
};

struct flight {
	struct flight *next;
	uint64_t id, seq; /* seq: of the last rename recorded when it was taken */
	const struct batch *batch;
	struct mark_node **items; /* NULL: given back */
	bool *settled;		  /* over, and to land with the batch */
	size_t n_items;
	struct carried **renames;
	size_t n_renames;
	bool alone;  /* with something that nothing large may be under way beside */
	bool sought; /* the large one was cancelled, and its directory will be compared */
	uint8_t gen; /* slot; of the large one: the generation of its mark */
};

struct changeset {
	struct changeset_limits limits;
	struct marks m;
	struct carried *first, *last;
	size_t renames_pending, renames_in_flight;
	struct flight *flights, *last_flight; /* oldest first */
	struct flight *large;		      /* the one of the large lane; NULL: none is in flight there */
	uint64_t batch_id, seq, collapses;
	uint64_t generation; /* the latest that a record came with */
	bool born_in_doubt;
};

enum born {
	BORN_KEEP = 0, /* nothing new is known */
	BORN_SET,      /* it appeared: the target can't have it, if nothing else is known */
	BORN_CLEAR,    /* the target may have it */
};

/* What to mark a path with. */
struct want {
	unsigned flags;
	uint8_t gen;  /* slot, borrowed */
	bool event;   /* a change was seen, as opposed to something coming back or being copied */
	bool instead; /* of all marks below, however long it waits itself */
	enum born born;
	bool extend;
	int64_t first_ns, hold_ns;
	enum mark_queue wait; /* copies and what comes back: HOLD or RETRY until hold_ns */
	uint32_t tries;
};

/* Whether a pending mark will have all below it compared soon, so that marks below add nothing. */
bool cs_covers(const struct changeset *cs, const struct mark_node *n);
void cs_mark_node(struct changeset *cs, struct mark_node *n, const struct want *w);
/* What is left when memory is not: compare everything. Always possible. */
void cs_mark_root(struct changeset *cs, uint8_t gen, int64_t first_ns);
/* -1: out of memory; the root is marked then. */
int cs_mark_path(struct changeset *cs, const char *path, size_t len, const struct want *w);
/* Too much to keep: find the fullest subtree, half of all marks at least, and compare it instead. */
void cs_collapse(struct changeset *cs, int64_t now_ns);

const char *carried_from(const struct carried *r);
const char *carried_to(const struct carried *r);
/* The first rename after that sequence number. */
const struct carried *carried_after(const struct changeset *cs, uint64_t seq);
/* Forget those that no batch in flight needs any more. */
void carried_forget(struct changeset *cs);
void carried_settled(struct changeset *cs, struct carried *r);
/* The rename is not, or may not have been, carried out: compare both names. */
void carried_reconcile(struct changeset *cs, struct carried *r);
/* Mark `path` as it was before the rename `r` (NULL: no rename since), and each name that it was carried to from then
 * on. */
void cs_mark_through(struct changeset *cs, const char *path, size_t len, const struct want *w, const struct carried *r);
/* Take in a rename. -1: out of memory. */
int cs_add_rename(struct changeset *cs, const struct change *c, struct want *w);

/* ---- changeset_batches.c ---- */

struct flight *flight_new(size_t n_items, size_t n_renames);
void flight_free(struct flight *f);
/* `bytes` of paths. */
struct batch *flight_batch_new(size_t n_items, size_t n_renames, size_t bytes);
/* It leaves, with all that was put into it. */
void flight_begin(struct changeset *cs, struct flight *f, struct batch *b);
/* To send something, the directories above it may have to be made on the target: they are not unknown there any more.
 */
void cs_clear_born_above(struct mark_node *n);
/* Of nothing below it is certain that the target never had it. */
void cs_clear_born_below(struct mark_node *top);

/* ---- changeset_large.c ---- */

/* Keep from being due what must not leave beside what is in the large lane. false: not even a rename may. */
bool large_bar(struct changeset *cs);
/* Whether what is in the large lane lies at or below that name. */
bool large_is_below(const struct changeset *cs, const struct mark_node *n);
/* What was in the large lane has landed. */
void large_landed(struct changeset *cs, int64_t now_ns);

#endif
