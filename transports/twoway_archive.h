/*
 * twoway_archive.h - the archive of a bidirectional sync (core/archive.h) as every transport that has one opens it, and
 * writes it down behind each work. Calls block on the local disk only.
 */
#ifndef FANSYNCD_TRANSPORTS_TWOWAY_ARCHIVE_H
#define FANSYNCD_TRANSPORTS_TWOWAY_ARCHIVE_H

#include <stdbool.h>

#include "core/archive.h"
#include "core/transport.h"

/* That of env's sync; `*fresh`: a comparison has to fill it. NULL on failure; the caller closes it. */
struct archive *twoway_archive_open(const struct transport_env *env, bool *fresh, struct err *err);

/* At the end of a work, before `finished`. What the archive wants to be looked at is told by env->found, everything
 * when it is fresh and the work was not the `whole` source; `*fresh` is taken back. 0, or -1: nothing was written. */
int twoway_archive_commit(struct archive *a, const struct transport_env *env, bool *fresh, bool whole, struct err *err);

#endif
