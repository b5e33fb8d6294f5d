/*
 * worker_link.h - the daemon's end of a worker process: starts it, sends batches, receives what it says.
 *
 * Never blocks: messages wait in a bounded queue until the socket takes them. A message that breaks the codec's rules
 * ends the worker like a crash would. Callbacks come from the loop, `ended` last and once; from within it the link
 * must be freed later, not at once (worker_link_free in the next before-wait round is fine).
 */
#ifndef FANSYNCD_CORE_WORKER_LINK_H
#define FANSYNCD_CORE_WORKER_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/batch.h"
#include "core/err.h"
#include "core/loop.h"
#include "core/wire.h"

struct worker_link;

/* NULL: that kind of process may not send it; `ended` is needed. */
struct worker_events {
	void (*ready)(void *ctx);
	/* Verdicts follow: the moment to read what the kernel has to say of the time in which they came about. false:
	 * that takes longer. Then these verdicts, and all that comes behind them, wait for worker_link_resume, and it
	 * is asked again. */
	bool (*before_verdicts)(void *ctx);
	void (*verdict)(void *ctx, uint64_t batch_id, const struct wire_verdict *v);
	void (*found)(void *ctx, const struct wire_found *f);
	void (*batch_done)(void *ctx, uint64_t batch_id);
	void (*down)(void *ctx, const struct err *why);
	void (*progress)(void *ctx, const struct wire_progress *p);
	void (*counters)(void *ctx, const struct wire_counters *c);
	void (*guard)(void *ctx, const char *text, size_t len);
	void (*linked)(void *ctx, const struct wire_linked *f);
	void (*peer)(void *ctx, const struct host_tree *t);
	void (*origin)(void *ctx, uint32_t pid, const struct host_tree *from);
	void (*view)(void *ctx, enum wire_view view);
	/* The process is gone; `how` in words. */
	void (*ended)(void *ctx, const char *how);
	void *ctx;
};

struct worker_spec {
	const char *mode; /* "--worker", or what else of this program speaks as workers do; a constant */
	const char *name; /* of the sync, for the process list and as the log's prefix; copied */
	struct wire_config config;
	const char *guard; /* the record, as text; copied. NULL: none is sent */
	size_t guard_len;
	size_t n_listen; /* how many sockets of the service manager it gets (core/listen_fds.h), behind its own
			    descriptor */
	int more_fd;	 /* > 0: becomes descriptor 4 of the process; not with n_listen */
};

struct worker_link *worker_link_start(struct loop *loop, const struct worker_spec *spec,
				      const struct worker_events *events, struct err *err);
/* Queue a batch (not kept). -1: too large for the queue, or out of memory. */
int worker_link_send(struct worker_link *l, const struct batch *b, unsigned flags, struct err *err);
int worker_link_set_log_mask(struct worker_link *l, uint32_t mask);
/* WIRE_ORIGIN: that process is known. */
int worker_link_known(struct worker_link *l, uint32_t pid);
/* WIRE_VIEW. -1: what it was shown before has not left yet, or out of memory. */
int worker_link_show(struct worker_link *l, enum wire_view view, const char *text, size_t len);
/* End it now; `ended` follows from the loop. */
void worker_link_kill(struct worker_link *l);
/* Go on with what before_verdicts held up, if anything is. Calls back at once. */
void worker_link_resume(struct worker_link *l);
pid_t worker_link_pid(const struct worker_link *l);
/* When it last said anything (monotonic); while it is held up: now. */
int64_t worker_link_heard_ns(const struct worker_link *l);
/* Kill it if it lives, and forget it: no callback any more. NULL is fine. */
void worker_link_free(struct worker_link *l);

#endif
