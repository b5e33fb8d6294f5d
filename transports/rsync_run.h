/*
 * rsync_run.h - one rsync process in the loop: its list on standard input, its output parsed, its end reported once.
 *
 * Never blocks: the list is written as the pipe takes it; a child that dies before it has read all is no error here
 * (SIGPIPE is swallowed), its exit status tells.
 */
#ifndef FANSYNCD_TRANSPORTS_RSYNC_RUN_H
#define FANSYNCD_TRANSPORTS_RSYNC_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "core/buf.h"
#include "core/err.h"
#include "core/loop.h"
#include "core/proc.h"
#include "transports/rsync_alive.h"
#include "transports/rsync_output.h"
#include "transports/rsync_rsh.h"

struct rsync_start {
	char *const *argv;
	const char *cwd;
	int domain;		   /* core/confine.h; 0 or less: none */
	struct rsync_places *held; /* of that, until it has ended: a run that begins takes it */
	struct rsync_alive_rules alive;
	bool secret; /* what it gets on standard input is not to stay in memory */
};

struct rsync_run {
	struct loop *loop;
	struct proc proc; /* pid 0: nothing runs */
	struct loop_fd *in, *out, *err;
	struct buf list; /* to be written; `sent` bytes of it are */
	bool secret;
	size_t sent;
	struct rsync_output parse_out, parse_err;
	struct rsync_alive alive; /* RSYNC_ALIVE */
	struct rsync_places *held;
	struct rsync_rsh rsh; /* opened by the caller before a run that needs it, closed at the run's end */
	void (*event)(void *ctx, const struct rsync_event *ev);
	/* The process is gone and all output was delivered. A new run may be started from here. */
	void (*ended)(void *ctx, int status);
	void *ctx;
};

void rsync_run_init(struct rsync_run *r, struct loop *loop, void (*event)(void *ctx, const struct rsync_event *ev),
		    void (*ended)(void *ctx, int status), void *ctx);
/* Start it; takes the content of `list` (left empty). */
int rsync_run_start(struct rsync_run *r, struct rsync_start *how, struct buf *list, struct err *err);
/* Let it end, cleanly and soon: `ended` follows. */
void rsync_run_end(struct rsync_run *r);
/* Kill what runs (the whole process group), no callback. */
void rsync_run_stop(struct rsync_run *r);

#endif
