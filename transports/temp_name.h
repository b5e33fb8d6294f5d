/*
 * temp_name.h - the names of what the engine leaves in the target's directories for a moment. Pure.
 *
 * All end in PATH_TEMP_SUFFIX, so that no watcher, filter or other sync takes them for content:
 *   .NAME.kTTTTTTTT.fansyncd~tmp    k: what it is (enum temp_kind), T: the writer's tag in hex
 * NAME is the name that it stands for; when that would be longer than a name may be, a hash of it in its place.
 * The tag tells left-overs of an earlier run of the same sync, which can go, from what another host is writing now.
 */
#ifndef FANSYNCD_TRANSPORTS_TEMP_NAME_H
#define FANSYNCD_TRANSPORTS_TEMP_NAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/path.h"

enum temp_kind {
	TEMP_NEW = 'n', /* what will replace NAME */
	TEMP_OLD = 'o', /* what NAME was, put away where a target cannot replace it in one step */
	TEMP_PART =
		'p' /* a large file, partly there: NAME is followed by a version, as in .NAME.VVVVVVVVVVVVVVVV.p... */
};

/* The tag of a sync: the same at each run, different on each host and for each sync. */
uint32_t temp_tag(const char *host, const char *source, const char *target, const char *name);

/* Writes at most NAME_BYTES_MAX bytes and a NUL; returns the length. `hashed`: the short form whatever the length (for
 * file systems that take fewer than 255 bytes). `version`: 0 but for TEMP_PART. */
size_t temp_name(char out[NAME_BYTES_MAX + 1], const char *name, size_t len, enum temp_kind kind, uint32_t tag,
		 uint64_t version, bool hashed);
/* The same for a whole path: its last component is replaced. `out` has room for `len` + NAME_BYTES_MAX + 1. */
size_t temp_path(char *out, const char *path, size_t len, enum temp_kind kind, uint32_t tag, uint64_t version,
		 bool hashed);
/* Whether a name was made by temp_name; then its kind and tag, and where the NAME in it stands (length 0: hashed). */
bool temp_parse(const char *name, size_t len, enum temp_kind *kind, uint32_t *tag, size_t *base, size_t *base_len);

#endif
