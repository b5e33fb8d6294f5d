/*
 * look.h - look at paths below a source at send time: lstat, never through a symlink, never outside the root.
 *
 * The directory last looked into is kept open, so that a batch in the order of a walk costs one fstatat a path. Blocks
 * only as local file system calls do.
 */
#ifndef FANSYNCD_CORE_LOOK_H
#define FANSYNCD_CORE_LOOK_H

#include <stddef.h>
#include <sys/stat.h>

#include "core/err.h"
#include "core/transport.h"

struct looker {
	int root_fd; /* borrowed */
	int dir_fd;  /* -1: none */
	char *dir;   /* its path; own copy */
	size_t dir_len;
	size_t dir_cap;
};

/* A directory below another (len > 0), reached through no symlink, whatever the path's length; `flags`: O_PATH or
 * O_RDONLY. -1: errno. */
int look_open_below(int dir_fd, const char *path, size_t len, int flags);
/* The same as an O_PATH descriptor; "" is the root itself. */
int look_open_dir(int root_fd, const char *path, size_t len);

void looker_init(struct looker *l, int root_fd);
/* Close what is kept open. To be called before the looks of a new batch, too: a directory kept open may have been
 * moved. */
void looker_done(struct looker *l);
/* 0 with *out (LOOK_ABSENT when it or a parent is missing or no directory) and *st; -1 when it cannot be known (denied,
 * I/O error, out of memory): then nothing must be concluded from it, least of all a deletion. */
int looker_look(struct looker *l, const char *path, size_t len, enum look *out, struct stat *st, struct err *err);
/* Open a directory to read its entries. -1: `err` says why, ERR_GONE when it is none (any more). */
int looker_open_dir(struct looker *l, const char *path, size_t len, struct err *err);
/* A symlink's text, not terminated: its length, or -1. */
#define PATH_LINK_MAX 4096
ssize_t looker_readlink(struct looker *l, const char *path, size_t len, char *out, size_t size, struct err *err);

#endif
