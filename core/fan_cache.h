/*
 * fan_cache.h - directories by file handle, as a tree of nodes, so that the rename of a directory moves all below it.
 *
 * The tree says what the event queue has told so far; a directory that is resolved by its handle is seen as it is now,
 * that is, perhaps ahead of the queue. A node added since the queue was last empty is therefore UNSETTLED, and is
 * dropped when an event moves or removes a directory: its name may already be the later one. Dropping a node is always
 * safe, it is resolved again when needed. Every ancestor of a node, up to a pinned one, is in the cache too, so an
 * event about a directory that is not in the cache concerns no node.
 *
 * DENIED entries are directories that belong to no source; all of them are forgotten at once by fan_cache_readmit.
 *
 * Pure. Bounded: beyond `max` entries the least recently used leaf goes.
 */
#ifndef FANSYNCD_CORE_FAN_CACHE_H
#define FANSYNCD_CORE_FAN_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"

/* A handle is compared as bytes: its type, then what the kernel gave. */
#define FAN_HANDLE_MAX (4 + 128)

struct fan_key {
	uint32_t view; /* the mount through which the directory is seen */
	uint32_t len;
	unsigned char bytes[FAN_HANDLE_MAX];
};

struct fan_node;
struct fan_cache;

struct fan_cache *fan_cache_new(size_t max);
void fan_cache_free(struct fan_cache *c);

/* The entry of a key, or NULL. Marks it as used. */
struct fan_node *fan_cache_find(struct fan_cache *c, const struct fan_key *k);
bool fan_node_denied(const struct fan_node *n);
bool fan_node_pinned(const struct fan_node *n);
/* Place a directory, unsettled, below a node. Whatever was known about the key or about the name goes, but a pinned
 * node stays what it is and is placed anew with all below it. NULL: out of memory, or the place lies below itself. */
struct fan_node *fan_cache_add(struct fan_cache *c, const struct fan_key *k, struct fan_node *parent, const char *name,
			       size_t len);
/* A directory that belongs to no source. False when out of memory. A known one stays known. */
bool fan_cache_deny(struct fan_cache *c, const struct fan_key *k);
/* A node that stays until it is unpinned as often; made without a place when not known. NULL: out of memory. */
struct fan_node *fan_cache_pin(struct fan_cache *c, const struct fan_key *k);
void fan_cache_unpin(struct fan_cache *c, struct fan_node *n);
/* Whether a pinned node has lost its place since it was last asked for by fan_node_placed or fan_cache_add. */
bool fan_node_loose(const struct fan_node *n);
void fan_node_placed(struct fan_node *n);

struct fan_node *fan_cache_child(const struct fan_cache *c, const struct fan_node *parent, const char *name,
				 size_t len);
/* The child was renamed; what was at the new name goes. The node itself goes when that cannot be. */
void fan_cache_move(struct fan_cache *c, struct fan_node *n, struct fan_node *parent, const char *name, size_t len);
/* Forget a node and all below it; pinned ones become loose. */
void fan_cache_drop(struct fan_cache *c, struct fan_node *n);
void fan_cache_drop_unsettled(struct fan_cache *c);
/* The queue is empty: what is known now is right as of it. */
void fan_cache_settle(struct fan_cache *c);
/* Forget who was denied. */
void fan_cache_readmit(struct fan_cache *c);
/* Forget everything but the pinned nodes, which become loose. */
void fan_cache_clear(struct fan_cache *c);

/* Whether the node and all above it are settled. */
bool fan_node_settled(const struct fan_node *n);
struct fan_node *fan_node_parent(const struct fan_node *n);
uint32_t fan_node_view(const struct fan_node *n);
/* The path of `n` below `top`, an ancestor or itself, put in place of what is in `out`. */
bool fan_node_path(const struct fan_node *n, const struct fan_node *top, struct buf *out);
size_t fan_cache_count(const struct fan_cache *c);

#endif
