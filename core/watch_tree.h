/*
 * watch_tree.h - the directories that inotify watches: trees of compact nodes, found by name and by watch descriptor.
 *
 * One forest for all sources: a directory that belongs to several sources (or is mounted in two places) has a node in
 * each place, all with the same watch descriptor, because the kernel has one per inode. A directory's rename moves one
 * node. Pure: no I/O. About 100 bytes a directory. Removed nodes stay readable (WNODE_DEAD) until wtree_bury.
 */
#ifndef FANSYNCD_CORE_WATCH_TREE_H
#define FANSYNCD_CORE_WATCH_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"

enum wnode_flag {
	WNODE_DEAD = 1u << 0, /* removed from its tree */
	/* In a list of its user: not freed before these are cleared. */
	WNODE_FRESH = 1u << 1,
	WNODE_MOVED = 1u << 2,
	WNODE_HELD = 1u << 3, /* in the list of suspects, or taken from it and still in work */
	WNODE_LISTED = WNODE_FRESH | WNODE_MOVED | WNODE_HELD,
	/* Why there is no watch. */
	WNODE_SKIPPED = 1u << 4, /* excluded */
	WNODE_FOREIGN = 1u << 5, /* another file system, and oneFileSystem */
	WNODE_DENIED = 1u << 6,
	WNODE_LIMITED = 1u << 7,
	WNODE_FAILED = 1u << 8,
	WNODE_UNWATCHED = WNODE_DENIED | WNODE_LIMITED | WNODE_FAILED,
	WNODE_SEEN = 1u << 9,	  /* found by the walk in progress */
	WNODE_SCANNED = 1u << 10, /* read while its watch was in place */
	WNODE_MOUNT = 1u << 11,	  /* something was mounted or unmounted here */
	WNODE_SUSPECT = 1u << 12, /* may not be what stands under its name */
	WNODE_GUESS = 1u << 13,	  /* nobody said that there is a directory of this name, but there may be */
	WNODE_LONG = 1u << 14,	  /* the name did not fit in its place after a rename: kept apart (watch_tree.c) */
};

struct wnode {
	struct wnode *parent; /* NULL: a root */
	struct wnode *kids, *next, *prev;
	struct wnode *by_name, *by_wd; /* hash chains */
	int wd;			       /* -1: none */
	uint16_t flags;
	uint8_t len, cap;
	char room[]; /* name; of a root: its owner's pointer */
};

struct wtable {
	struct wnode **slot;
	size_t mask, n;
};

struct watch_tree {
	struct wtable names, wds;
	struct wnode *dead;
	uint64_t seed; /* of the name hash, against made collisions */
};

/* A growing list of nodes. */
struct wvec {
	struct wnode **v;
	size_t n, cap;
};

/* Returns false when out of memory; so do all bool functions here. */
bool wtree_init(struct watch_tree *t, uint64_t seed);
/* Frees the tables and the dead; all roots must have been removed. */
void wtree_done(struct watch_tree *t);
struct wnode *wtree_root(struct watch_tree *t, void *owner);
struct wnode *wtree_add(struct watch_tree *t, struct wnode *parent, const char *name, size_t len);
struct wnode *wtree_find(const struct watch_tree *t, const struct wnode *parent, const char *name, size_t len);
/* wd -1: none any more. */
void wtree_set_wd(struct watch_tree *t, struct wnode *n, int wd);
/* The nodes with that watch descriptor, one after the other; NULL at the end. */
struct wnode *wtree_first(const struct watch_tree *t, int wd);
struct wnode *wtree_more(const struct wnode *n);
/* Give the node another parent and name. Neither may lie below the node itself, the place must be free. */
bool wtree_move(struct watch_tree *t, struct wnode *n, struct wnode *parent, const char *name, size_t len);
/* Exchange the places of two nodes, neither above the other. */
bool wtree_swap(struct watch_tree *t, struct wnode *a, struct wnode *b);
/* Remove the node and all below it, leaves first. `drop` is called for each while it still is in its place, and must
 * leave it without a watch descriptor. */
void wtree_remove(struct watch_tree *t, struct wnode *n, void (*drop)(void *ctx, struct wnode *n), void *ctx);
/* Free the dead that are in no list. */
void wtree_bury(struct watch_tree *t);

const char *wnode_name(const struct wnode *n);
void *wnode_owner(const struct wnode *n);
bool wnode_within(const struct wnode *n, const struct wnode *top);
/* Append the path from the root. */
bool wnode_path(const struct wnode *n, struct buf *out);
/* The next node of a walk in depth-first order that stays at and below `top`. */
struct wnode *wnode_next(const struct wnode *n, const struct wnode *top);

bool wvec_push(struct wvec *v, struct wnode *n);
void wvec_done(struct wvec *v);

#endif
