/*
 * rsync_names.h - from a name in one of rsync's messages to the item of the work that it concerns. Pure.
 *
 * rsync names paths from the root of the file system, from the module's root, or from the transfer's root, and by its
 * own temp files. A message that fits nothing is nobody's: the caller finds out by trying the items in smaller groups.
 */
#ifndef FANSYNCD_TRANSPORTS_RSYNC_NAMES_H
#define FANSYNCD_TRANSPORTS_RSYNC_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/transport.h"

#define RSYNC_ROOTS 4

struct rsync_names {
	/* What may stand before a path of ours: source, target, ...; without trailing slashes. Borrowed. */
	const char *roots[RSYNC_ROOTS];
};

/* Cut the root off: the path relative to the source, in name[*off..*off + *n). false: it lies nowhere in our trees.
 * *known: one of the roots stood before it, or none; otherwise it is the whole name below an unknown root, which
 * rsync_name_end may cut further. */
bool rsync_name_cut(const struct rsync_names *names, const char *name, size_t len, size_t *off, size_t *n, bool *known);

/* Where the root is not known (a module's directory, one that rrsync gave): the longest end of the path that `there`
 * knows. Returns how many bytes stand before it; 0: none. */
size_t rsync_name_end(const char *path, size_t len, bool (*there)(void *ctx, const char *path, size_t len), void *ctx);

/* The item of exactly this path, or SIZE_MAX. Items in path_compare order. */
size_t rsync_item_find(const struct transport_work *work, const char *path, size_t len);

/* The item that a message about `path` concerns: itself, the file whose temp file it is, or a deleted directory above
 * it. SIZE_MAX: none. */
size_t rsync_item_for(const struct transport_work *work, const char *path, size_t len);

/* The path whose temp file (.NAME.XXXXXX) this would be: cut into `out` (at least len bytes). false: it is none. */
bool rsync_temp_owner(const char *path, size_t len, char *out, size_t *out_len);

#endif
