/*
 * rsync_alive.h - whether a process that says nothing is at work: the kernel counts the bytes that it reads and writes,
 * and says what it waits for.
 */
#ifndef FANSYNCD_TRANSPORTS_RSYNC_ALIVE_H
#define FANSYNCD_TRANSPORTS_RSYNC_ALIVE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/err.h"
#include "core/loop.h"

/* Why `stuck` is called. */
enum rsync_stuck {
	RSYNC_STUCK_OPENING = 0, /* for seconds it, or a child of its, has been opening one file: rsync opens a name
				    that it found to be a file without a thought for a FIFO that may have taken its
				    place, and waits for a writer for ever */
	RSYNC_STUCK_WAITING,	 /* `alone`: it and its children do nothing but wait, for each other then */
	RSYNC_STUCK_SILENT,	 /* `silent_ns`: nothing has moved for so long */
};

struct rsync_alive_rules {
	bool alone;	   /* there is nobody else that it may wait for, once it has read its list */
	int64_t silent_ns; /* 0: no limit */
};

struct rsync_alive {
	struct loop_timer *timer; /* NULL: not started */
	pid_t pid;
	struct rsync_alive_rules rules;
	int64_t moved_ns;  /* when it moved bytes last */
	uint64_t was_busy; /* of all of them: bytes, and processor time */
	bool told_silent;
	unsigned waits;			/* so many looks found each of them in poll(2), and none had done anything */
	uint64_t was_read, was_written; /* when it was looked at last */
	unsigned opens; /* so many looks found it, or its other end, in one open(2), and nothing moved */
	void (*sign)(void *ctx);
	void (*stuck)(void *ctx, enum rsync_stuck why);
	void *ctx;
};

/* `sign` is called from the loop, once a second at most, when the process has moved bytes since the time before. A few
 * that it wrote alone are none: with --timeout rsync says to a peer which is gone that it is there itself, for as long
 * as the kernel takes it. Nor are a few that it read, when what it wrote does not get through: the peer's own, behind a
 * line that loses large packets. `stuck` is called, once for each reason. rsync's three processes can come to wait for
 * each other: with hard links, when files go that it has listed (3.5.0, too). Where the kernel doesn't tell (Yama's
 * ptrace_scope of 2 or more) only RSYNC_STUCK_SILENT is found. */
int rsync_alive_start(struct rsync_alive *a, struct loop *loop, pid_t pid, const struct rsync_alive_rules *rules,
		      void (*sign)(void *ctx), void (*stuck)(void *ctx, enum rsync_stuck why), void *ctx,
		      struct err *err);
/* Nothing is called any more. Also of one that was not started. */
void rsync_alive_stop(struct rsync_alive *a);

#endif
