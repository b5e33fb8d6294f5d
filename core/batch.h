/*
 * batch.h - a batch: the part of a changeset that is handed to a transport, immutable from then on; and verdicts.
 *
 * Built by changeset_take in the daemon, sent to the worker by core/wire.h, rebuilt there. All bytes of a batch are in
 * one arena; batch_free releases it as a whole.
 */
#ifndef FANSYNCD_CORE_BATCH_H
#define FANSYNCD_CORE_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is known of a marked path. */
enum mark_flag {
	MARK_LOOK = 1u << 0,	  /* content or attributes may differ */
	MARK_NAME = 1u << 1,	  /* created, deleted, renamed, or its type may have changed */
	MARK_RECURSIVE = 1u << 2, /* all that is below, too: reconcile if it is a directory */
	MARK_WAS_DIR = 1u << 3,	  /* a directory of that name was seen to go */
	MARK_WAS_FILE = 1u << 4,  /* something else of that name was seen to go */
	MARK_BORN =
		1u << 5, /* first seen being created: the target never had it, so if it is gone again nothing is due */
	MARK_FAILED = 1u << 6, /* given back by a transport once: look harder (checksum) */
	MARK_CAUSE = 1u << 7,  /* RECURSIVE because a watcher or a limit said so, not only because a directory went */
	MARK_START = 1u << 8,  /* RECURSIVE because the sync starts: lsyncd's delete = "startup" applies to it */
	MARK_LARGE = 1u << 9,  /* of the large lane, by itself */
	MARK_ALONE =
		1u << 10, /* a large file with several names: of the first lane, while nothing is in the large one */
	MARK_LATE = 1u << 11, /* a lost connection was at it: its temporary file may be there, and is nobody's */
};

struct batch_item {
	const char *path;
	size_t len;
	unsigned flags;
	uint32_t tries; /* times it was given back so far */
};

struct batch_rename {
	const char *from;
	size_t from_len;
	const char *to;
	size_t to_len;
	bool is_dir;
};

struct batch {
	uint64_t id;
	struct batch_rename *renames; /* to be done first, in this order */
	size_t n_renames;
	struct batch_item *items; /* in the order of a depth-first walk, no path twice */
	size_t n_items;
	char *arena;
	size_t arena_len;
};

/* Frees what it owns; NULL is fine. */
void batch_free(struct batch *b);

enum verdict {
	VERDICT_NONE = 0,
	VERDICT_DONE,	   /* the target has passed its commit point: it is equal */
	VERDICT_GONE,	   /* the source has it no more and nothing is due: an event of an ancestor says so, or will */
	VERDICT_RETRY,	   /* failed for now: once more, not before a backoff */
	VERDICT_REJECT,	   /* given up, with a reason; an error in the log */
	VERDICT_RECONCILE, /* compare this path and all below (a rename that the target could not do) */
	/* Not tried: it is for the other lane. The planner's alone, no transport says so. */
	VERDICT_LARGE, /* for the large one */
	VERDICT_ALONE, /* for the first one, as MARK_ALONE */
	VERDICT_SMALL, /* for the first one */
	VERDICTS
};

/* A verdict that a transport may give. */
#define VERDICT_OF_TRANSPORT_MAX VERDICT_RECONCILE

/* The word for the log and the status. */
const char *verdict_name(enum verdict v);

#endif
