/*
 * path.h - relative paths as bytes. A relative path has no leading, trailing or double slash and no "." or ".."
 * component; the empty path is the root of a tree. Pure; nothing here touches a file system.
 */
#ifndef FANSYNCD_CORE_PATH_H
#define FANSYNCD_CORE_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A whole relative path may be longer than PATH_MAX; this is our ceiling. */
#define PATH_BYTES_MAX (64 * 1024)
#define NAME_BYTES_MAX 255

/* Whether the bytes are a valid relative path as defined above (NUL inside: no). */
bool path_valid(const char *p, size_t len);
/* Whether one component is a valid name: 1..255 bytes, no '/' or NUL, not "." or "..". */
bool path_name_valid(const char *name, size_t len);
/* Length of the parent's path: 0 for a top-level name. */
size_t path_parent_len(const char *p, size_t len);
/* Offset of the last component. */
size_t path_base(const char *p, size_t len);
/* Whether `p` lies strictly below `dir` ("" is above everything but itself). */
bool path_below(const char *p, size_t len, const char *dir, size_t dirlen);
/* Whether p is dir or lies below it. */
bool path_within(const char *p, size_t len, const char *dir, size_t dirlen);
/* Of two absolute paths: what of `p` is below `top`; NULL when it is `top` itself, or elsewhere. */
const char *path_rest(const char *p, const char *top);
/* A hash that stays the same from release to release: files are named by it. */
uint64_t path_hash(const char *p, size_t len);
/* Order of a depth-first walk: '/' sorts before every other byte. <0, 0, >0. */
int path_compare(const char *a, size_t alen, const char *b, size_t blen);
/* Whether the name is one of our own temporary files (PATH_TEMP_SUFFIX), which are never mirrored. */
#define PATH_TEMP_SUFFIX ".fansyncd~tmp"
bool path_is_temp(const char *name, size_t len);
/* Whether any component of the path is. */
bool path_has_temp(const char *p, size_t len);
/* Whether the name looks like rsync's temp file (.NAME.XXXXXX, six letters or digits). */
bool path_like_rsync_temp(const char *name, size_t len);

#endif
