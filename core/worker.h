/*
 * worker.h - the worker process: owns the transport's session of one sync, takes batches, gives verdicts.
 *
 * Started by core/worker_link.h as `fansyncd --worker` with a socket at descriptor 3. It has a loop of its own and
 * ends when the daemon's end of the socket closes. What it does with a batch: plan.h looks at the source and decides
 * what is due, the transport applies the changes and then reconciles the directories, each item's verdict goes back at
 * once.
 */
#ifndef FANSYNCD_CORE_WORKER_H
#define FANSYNCD_CORE_WORKER_H

#include <stddef.h>

#include "core/err.h"
#include "core/options.h"

#define WORKER_FD 3

/* The composition root's part: reading a configuration text is config/'s business. */
struct worker_deps {
	/* NULL on failure. */
	struct config *(*load)(const char *text, size_t len, struct err *err);
	void (*unload)(struct config *c);
};

/* Serve until the daemon closes `fd`. Returns the exit code of the process. */
int worker_run(int fd, const struct worker_deps *deps);

#endif
