/*
 * sync.h - one sync: its changeset, its schedule, its worker.
 *
 * Lives in the daemon's loop. Records come in by sync_record, the daemon calls sync_poll before each wait; the rest
 * comes from the worker and from the sync's timer. The options are borrowed and may be exchanged by a reload
 * (sync_rebind).
 */
#ifndef FANSYNCD_CORE_SYNC_H
#define FANSYNCD_CORE_SYNC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/buf.h"
#include "core/change.h"
#include "core/changeset.h"
#include "core/err.h"
#include "core/failures.h"
#include "core/loop.h"
#include "core/options.h"
#include "core/tunnel.h"
#include "core/wire.h"

struct sync;

/* What a sync needs of the daemon. Outlives it. */
struct sync_env {
	struct loop *loop;
	const char *runtime_root; /* a private directory; each worker gets one of its own below it */
	const char *state_dir;
	unsigned char host_id[HOST_ID_BYTES];
	struct tunnels *tunnels;
	/* The configuration text of a worker, with the port of its tunnel put in (0: there is none). */
	int (*config_text)(void *ctx, const struct sync_options *opt, uint16_t tunnel_port, struct buf *out);
	/* The record of core/guard.h as text for the worker, and what the worker made of it. */
	int (*guard_text)(void *ctx, const struct sync_options *opt, struct buf *out);
	void (*guard_learned)(void *ctx, const struct sync_options *opt, const char *text, size_t len);
	/* Read the kernel's events to the end now. A verdict may only be believed when every rename that happened while
	 * the batch was in flight has been recorded: it copies marks that are in flight, and the verdict ends them.
	 * That may take longer than a moment: 0: done; else a ticket for `drained`, and the sync is polled then. */
	uint64_t (*drain)(void *ctx);
	bool (*drained)(void *ctx, uint64_t ticket);
	/* settings.maxProcesses: a batch may leave only with a slot. `large`: one of the large lane; these never have
	 * all of them. */
	bool (*slot_take)(void *ctx, bool large);
	void (*slot_give)(void *ctx, bool large);
	/* Whether there may be one for a large lane at all. */
	bool (*slots_for_large)(void *ctx);
	/* A file of the source has a name outside of it, too. */
	void (*linked)(void *ctx, const struct sync *s, const struct wire_linked *f);
	/* Something that the status or a barrier may wait for has changed. */
	void (*changed)(void *ctx);
	void *ctx;
};

enum sync_state {
	SYNC_NO_SOURCE = 0, /* the source is missing, or can't be trusted */
	SYNC_IDLE,	    /* nothing pending: the target is equal, failures apart */
	SYNC_WAITING,	    /* marks wait for their delay, a slot, or their backoff */
	SYNC_SENDING,	    /* a batch is in flight */
	SYNC_DOWN,	    /* the target can't be reached: waiting to try again */
	SYNC_STOPPED,	    /* a guard against deletions refused: looked at again now and then */
	SYNC_VETOED,	    /* preBatch refused: asked again after a backoff, and when something changes */
};

const char *sync_state_name(enum sync_state s);

struct sync_cause {
	const char *cause; /* a string constant */
	uint64_t count;
};
#define SYNC_CAUSES_MAX 12

/* Sums since the sync was made. */
struct sync_counters {
	uint64_t records, dropped, batches, files_sent, bytes, renames, deletions, reconciles, retries, rejected,
		overflows;
	uint64_t worker_restarts, handshakes, processes, conflicts, echoes;
	uint64_t errors[ERR_CLASSES]; /* what was tried again, given up, or took the target down, by class */
	struct sync_cause causes[SYNC_CAUSES_MAX]; /* of reconciles; unused ones have a NULL cause */
};

struct sync_snapshot {
	const struct sync_options *opt;
	enum sync_state state;
	/* Why NO_SOURCE, DOWN, STOPPED or VETOED, or that another process or the tunnel holds the sync up; NULL
	 * otherwise. */
	const char *reason;
	bool first_done; /* the first reconcile is over */
	size_t pending, pending_renames, in_flight;
	int64_t lag_ns;		   /* age of the oldest change that is due, in flight or tried again; 0: none */
	uint32_t down_tries;	   /* failed attempts to reach the target since it last worked */
	int64_t next_try_ns;	   /* DOWN: monotonic time of the next attempt */
	int64_t last_done_real_ns; /* wall clock of the last batch that ended well; 0: none yet */
	const char *last_error;	   /* NULL: none since the start */
	int64_t last_error_real_ns;
	const struct failures *failures;
	const struct sync_counters *counters;
	/* The large file in flight beside the batch; NULL: none. Since when, and the process that sends it. */
	const char *large_path;
	size_t large_len;
	const struct wire_progress *large_progress;
	int64_t large_started_ns;
	pid_t large_worker;
	/* Of the batch in flight, or of the large file alone; path may be NULL, or the end of a long one. */
	const struct wire_progress *progress;
	int64_t batch_started_ns;
	pid_t worker;		   /* 0: none runs */
	struct tunnel_info tunnel; /* state NULL: there is none */
};

struct sync *sync_new(const struct sync_env *env, const struct sync_options *opt, struct err *err);
/* Ends its worker at once. NULL is fine. */
void sync_free(struct sync *s);
const struct sync_options *sync_options_of(const struct sync *s);
/* A reload found the options equal: use the new copy. */
void sync_rebind(struct sync *s, const struct sync_options *opt);

/* The source is there (fd borrowed until sync_source_lost; -1: it can't be looked at) or is not any more: then the
 * batch in flight is abandoned, and everything waits. */
int sync_source_found(struct sync *s, int root_fd, struct err *err);
void sync_source_lost(struct sync *s, const char *why);
/* The source is there, but another process has this sync's lock: it is found (or lost) later. */
void sync_held_up(struct sync *s);

/* A watcher's record. `cause` etc. as change.h says. */
void sync_record(struct sync *s, const struct change *c, uint64_t generation);
/* Compare everything. `start`: the first one, in lsyncd's sense of delete = "startup". `allow_delete`: the
 * administrator asked for it, no limit on deletions in the next batch. */
void sync_reconcile(struct sync *s, const char *cause, bool start, bool allow_delete, uint64_t generation);
/* The barrier: everything of `generation` and before leaves as soon as it can, delays and holds ended. */
void sync_urge(struct sync *s, uint64_t generation);
/* Try the target again now. */
void sync_retry_now(struct sync *s);
bool sync_served(const struct sync *s, uint64_t generation);

/* Start what is due. */
void sync_poll(struct sync *s);
/* No new batches from now on. */
void sync_stop(struct sync *s);
bool sync_busy(const struct sync *s);
/* Whether a command of the administrator's runs, or is to be run: a stop waits for it as well. */
bool sync_hooks_run(const struct sync *s);
/* Have its tunnel end: after its last batch. */
void sync_end_tunnel(struct sync *s);
void sync_set_log_mask(struct sync *s, uint32_t mask);

void sync_snapshot(const struct sync *s, struct sync_snapshot *out);
/* Up to `max` pending paths for the status. */
void sync_list_pending(const struct sync *s, size_t max,
		       void (*fn)(void *ctx, const char *path, size_t len, unsigned flags), void *ctx);

#endif
