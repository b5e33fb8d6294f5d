/*
 * worker_confine.h - how a worker is confined, once its first session is open and before it hears of anybody.
 */
#ifndef FANSYNCD_CORE_WORKER_CONFINE_H
#define FANSYNCD_CORE_WORKER_CONFINE_H

#include "core/confine.h"
#include "core/options.h"
#include "core/transport.h"

/* Before anything else, while files may still be read: what the C library would look up later. Then, for those that
 * will be confined, a process for look-ups (core/lookups.h) into *lookups; 0: none is needed. */
int worker_confine_prepare(const struct transport *t, const struct sync_options *opt, int *lookups, struct err *err);

/* Does nothing for a transport that starts programs. Reaches the source, its archive (NULL: it has none) and what the
 * transport says. */
int worker_confine(const struct transport *t, const struct sync_options *opt, int source_fd, const char *archive_path,
		   struct confinement *out, struct err *err);

#endif
