/*
 * mounts.h - the mount table: /proc/self/mountinfo.
 */
#ifndef FANSYNCD_CORE_MOUNTS_H
#define FANSYNCD_CORE_MOUNTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

struct mount {
	int id, parent;
	unsigned major, minor; /* of the file system: one for all subvolumes of a btrfs */
	char *root;	       /* which directory of the file system is mounted */
	char *point;	       /* where, as this process sees it */
	char *type, *source;
	bool hidden; /* another mount covers its mount point */
};

struct mounts {
	struct mount *list;
	size_t n;
};

/* Pure: the table from its text. Lines that make no sense are left out. */
int mounts_parse(const char *text, size_t len, struct mounts *out, struct err *err);
/* Read the kernel's. */
int mounts_read(struct mounts *out, struct err *err);
void mounts_done(struct mounts *m);
const struct mount *mounts_find(const struct mounts *m, int id);

#endif
