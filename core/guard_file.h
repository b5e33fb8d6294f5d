/*
 * guard_file.h - the file in stateDir that holds what is remembered of a target (core/guard.h). The daemon writes it
 * (core/daemon_guards.c); --doctor reads it.
 */
#ifndef FANSYNCD_CORE_GUARD_FILE_H
#define FANSYNCD_CORE_GUARD_FILE_H

#include "core/err.h"
#include "core/guard.h"
#include "core/options.h"

/* What tells targets apart, and the path of its file; malloc'ed, NULL when out of memory. */
char *guard_file_key(const struct sync_options *opt);
char *guard_file_path(const char *state_dir, const char *key);
/* Read the record of this key. One that does not exist leaves *g as it is. -1: it can't be used (ERR_UNSAFE), *g is
 * empty then. */
int guard_file_read(const char *path, const char *key, struct guard_state *g, struct err *err);

#endif
