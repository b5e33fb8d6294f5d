/*
 * safe_open.h - open files of the administrator's, where other users may write to a directory on the way.
 *
 * The log of a daemon that runs as root often lies in a directory of the service's account. Whoever that is may put a
 * symlink to another file there, or another name of it, or a FIFO. So a symlink is followed only if it is root's or our
 * own (as rsync 3.5 does), in the last component as well, and of a directory that others may write to a file that has
 * other names is not taken, nor a FIFO of another user's. May block on the local file system; opening a FIFO does not.
 */
#ifndef FANSYNCD_CORE_SAFE_OPEN_H
#define FANSYNCD_CORE_SAFE_OPEN_H

#include <sys/types.h>

#include "core/err.h"

/* As open(2), O_CLOEXEC included. ERR_UNSAFE: a symlink or FIFO of somebody else's, or a file with other names. Returns
 * the descriptor, -1 on failure. */
int safe_open(const char *path, int flags, mode_t mode, struct err *err);

/* The directory that the last component of `path` stands in, open as O_PATH, and that component in *name, which points
 * into `path`. The component itself is not looked at. -1 on failure; ERR_CONFIG when it is no name (empty, "..", "x/").
 */
int safe_open_parent(const char *path, const char **name, struct err *err);

#endif
