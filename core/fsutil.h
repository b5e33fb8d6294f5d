/*
 * fsutil.h - files of our own: written atomically, locked, private; whether a source is empty.
 *
 * For the state, run-time and status files. Everything here blocks on the local file system, and nothing follows a
 * symlink in the last component of a path.
 */
#ifndef FANSYNCD_CORE_FSUTIL_H
#define FANSYNCD_CORE_FSUTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/buf.h"
#include "core/err.h"

enum fsutil_flag {
	FSUTIL_SYNC = 1u << 0, /* on the disk before the name shows it: for state that must survive a power cut */
};

/* Replace the file's content as a whole: a temp file beside it (PATH_TEMP_SUFFIX), then rename. */
int atomic_write(const char *path, const void *data, size_t len, mode_t mode, unsigned flags, struct err *err);
/* Make the directory and its missing parents (0755), itself 0700. One that exists must be a directory of ours that
 * nobody else may write to (ERR_UNSAFE). */
int mkdir_private(const char *path, struct err *err);
/* The whole file into `out` (cleared first; its ceiling is above `max`); ERR_LIMIT when it has more than `max` bytes,
 * ERR_UNSAFE when it is no regular file. */
int read_file(const char *path, size_t max, struct buf *out, struct err *err);

enum lock_mode {
	LOCK_MODE_TRY = 0, /* held by another: ERR_AGAIN at once */
	LOCK_MODE_WAIT
};
/* Open or make a lock file and lock it exclusively. Returns the descriptor: closing it (or dying) releases the lock.
 * The file stays. Does not reach children: it is close-on-exec. */
int lock_file(const char *path, enum lock_mode mode, struct err *err);

/* Remove a directory with all below it, or a file. Does not follow symlinks, does not cross into another file system
 * (ERR_UNSAFE). A path that does not exist is fine. Goes on after a failure and returns the first one. */
int remove_tree(const char *path, struct err *err);

/* Whether a directory holds nothing worth mirroring (lost+found and our temp files do not count): 1, 0, or -1. The
 * descriptor may be O_PATH; its position stays. */
int source_is_empty(int fd, struct err *err);

#endif
