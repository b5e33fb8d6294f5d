/*
 * rsync_alive.h - whether a process that says nothing is at work: the kernel counts the bytes that it reads and writes,
 * and says what it waits for.
 */
#ifndef FANSYNCD_TRANSPORTS_RSYNC_ALIVE_H
#define FANSYNCD_TRANSPORTS_RSYNC_ALIVE_H

#include <stdint.h>
#include <sys/types.h>

#include "core/err.h"
#include "core/loop.h"

struct rsync_alive {
	struct loop_timer *timer; /* NULL: not started */
	pid_t pid;
	uint64_t was_read, was_written; /* when it was looked at last */
	unsigned opens; /* so many looks found it, or its other end, in one open(2), and nothing moved */
	void (*sign)(void *ctx);
	void (*stuck)(void *ctx);
	void *ctx;
};

/* `sign` is called from the loop, once a second at most, when the process has moved bytes since the time before. A few
 * that it wrote alone are none: with --timeout rsync says to a peer which is gone that it is there itself, for as long
 * as the kernel takes it. Nor are a few that it read, when what it wrote does not get through: the peer's own, behind a
 * line that loses large packets. `stuck` is called, once, when it, or a child of its, has been opening one file for
 * seconds: rsync opens a name that it found to be a file without a thought for a FIFO that may have taken its place,
 * and waits for a writer for ever. Where the kernel doesn't tell (Yama's ptrace_scope of 2 or more) it never is. */
int rsync_alive_start(struct rsync_alive *a, struct loop *loop, pid_t pid, void (*sign)(void *ctx),
		      void (*stuck)(void *ctx), void *ctx, struct err *err);
/* Nothing is called any more. Also of one that was not started. */
void rsync_alive_stop(struct rsync_alive *a);

#endif
