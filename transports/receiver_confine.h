/*
 * receiver_confine.h - what a session's process may still do: write below the modules, then below its peer's alone, as
 * far as the file system's owners let it, and talk over the connection that it has. To be called before the peer's
 * first byte is read.
 */
#ifndef FANSYNCD_TRANSPORTS_RECEIVER_CONFINE_H
#define FANSYNCD_TRANSPORTS_RECEIVER_CONFINE_H

#include <stddef.h>

#include "core/confine.h"

/* `dirs`: descriptors of the directories to be written to (-1: left out). What the kernel does not have is left out and
 * told in `out`; fails only when it refuses what it has. */
int receiver_confine(const int *dirs, size_t n, struct confinement *out, struct err *err);
/* Once the peer's module is known: the others are closed (-1), and out of reach. */
int receiver_confine_to(size_t own, int *dirs, size_t n, struct err *err);

#endif
