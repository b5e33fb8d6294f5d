/*
 * privileges.h - give up what a worker does not need, before it talks to anybody.
 *
 * A worker reads the source and starts rsync and ssh, which must keep owners, modes and devices; it never marks or
 * mounts. CAP_SYS_ADMIN and the rest leave the bounding set, so that its children don't get them back by exec as root.
 */
#ifndef FANSYNCD_CORE_PRIVILEGES_H
#define FANSYNCD_CORE_PRIVILEGES_H

#include <stdbool.h>
#include <stddef.h>

#include "core/err.h"

/* What a process keeps. Borrowed during the call. */
struct privileges {
	const unsigned *kept; /* CAP_* */
	size_t n_kept;
	bool inherit; /* also what it inherits of `kept`, for programs that it starts */
};

/* For the whole process and its future children: all but these leave the bounding set and its own sets, and
 * no_new_privs is set. Fails only when the kernel refuses what it must not. */
int privileges_keep(const struct privileges *p, struct err *err);

/* privileges_keep, with what a worker needs. */
int privileges_reduce(struct err *err);

#endif
