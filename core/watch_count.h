/*
 * watch_count.h - how many directories inotify would watch below a source. Included by watcher.c alone.
 */
#ifndef FANSYNCD_CORE_WATCH_COUNT_H
#define FANSYNCD_CORE_WATCH_COUNT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/watcher.h"

struct watch_count {
	unsigned dirs; /* the root is one of them */
	bool more;     /* it was given up: at least so many */
};

/* Count until there are more than `max`, or it has taken `max_ns` (large directories, a cold cache, deep trees): so a
 * start does not wait for it. What is excluded, or on another file system with one_file_system, does not count. */
struct watch_count watch_count_dirs(const struct watch_request *rq, unsigned max, int64_t max_ns);

#endif
