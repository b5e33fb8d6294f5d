/*
 * privileges.h - give up what a worker does not need, before it talks to anybody.
 *
 * A worker reads the source and starts rsync and ssh, which must keep owners, modes and devices; it never marks or
 * mounts. CAP_SYS_ADMIN and the rest leave the bounding set, so that its children don't get them back by exec as root.
 */
#ifndef FANSYNCD_CORE_PRIVILEGES_H
#define FANSYNCD_CORE_PRIVILEGES_H

#include "core/err.h"

/* For the whole process and its future children. Fails only when the kernel refuses what it must not. */
int privileges_reduce(struct err *err);

#endif
