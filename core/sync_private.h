/*
 * sync_private.h - what is inside of a sync. Shared by sync.c (records in, batches out, its life) and sync_worker.c
 * (its worker), included by them alone.
 */
#ifndef FANSYNCD_CORE_SYNC_PRIVATE_H
#define FANSYNCD_CORE_SYNC_PRIVATE_H

#include <sys/stat.h>

#include "core/hooks.h"
#include "core/intake.h"
#include "core/log.h"
#include "core/log_ids.h"
#include "core/sync.h"
#include "core/worker_link.h"

/* The large lane (core/changeset.h). */
struct sync_large {
	struct worker_link *worker; /* NULL: none runs */
	char *runtime_dir;
	bool ended;	       /* it is to be freed at the next poll */
	bool told;	       /* a `down` of its own explains its end */
	bool cancelled;	       /* it was ended, since what it carries is no more */
	bool killed;	       /* for want of progress */
	uint64_t drain_ticket; /* what its verdicts wait for; 0: nothing */
	struct batch *batch;   /* in flight, of one path; NULL: none */
	bool probes;	       /* begun while the target was taken for down: its success says that it is back */
	int64_t started_ns, started_real_ns, idle_ns;
	struct wire_progress progress;
	struct wire_counters last;
	struct loop_timer *timer;
	uint32_t tries; /* in a row that failed */
	int64_t until_ns;
};

struct sync {
	const struct sync_env *env;
	const struct sync_options *opt;
	struct intake intake;
	struct changeset *changes;
	struct failures failures;
	struct sync_counters counters;
	struct wire_counters ended, worker_last; /* sums of the workers before, and of this one */
	struct loop_timer *timer;

	int root_fd; /* borrowed; -1: no source */
	uint64_t root_dev, root_ino;
	char *reason; /* why there is no source, or why the target is down */
	bool held;    /* another process has its lock */
	char *last_error;
	int64_t last_error_real_ns, last_done_real_ns;

	struct worker_link *worker; /* NULL: none */
	bool worker_ended;	    /* it is to be freed at the next poll */
	bool worker_killed;	    /* for want of progress */
	bool worker_told;	    /* a `down` of its own explains its end */
	bool worker_leaves;	    /* no batch came to its end since a `down`: that may have been its last word */
	uint64_t drain_ticket;	    /* what its verdicts wait for; 0: nothing */
	char *runtime_dir;
	uint32_t workers_started;
	struct host_tree peer;	    /* what the target is; ino 0: not known */
	struct host_tree last_peer; /* the same, kept while there is no connection */

	struct batch *batch; /* in flight; NULL: none */
	int64_t batch_started_ns;
	int64_t batch_started_real_ns; /* the same by the wall clock, which failures carry */
	struct wire_progress progress;
	char current[512]; /* its path */

	bool shared; /* a limit of bandwidth, by this batch and the large lane */
	struct sync_large large;

	struct tunnel *tunnel; /* NULL: none is wanted. Nothing is sent while it is not up */

	bool down;
	bool retry_soon; /* asked to try again while a batch was under way: should it fail, at once */
	bool guarded;	 /* down, and not for want of the target: a guard refused */
	bool vetoed;	 /* the same: preBatch refused */
	struct hooks *hooks;
	bool hook_failed; /* what onError is told of was logged */
	uint32_t down_tries;
	int64_t down_until_ns;
	struct changeset *lost; /* what was under way when the target was lost (sync_lost.c); NULL: nothing */
	int64_t look_again_ns;	/* when it is looked at again; 0: the target is not back */
	bool look_urged;	/* as soon as it is back */
	int64_t pause_until_ns; /* something was due, and yet there was no batch */
	bool stopping;
	bool allow_delete; /* for the next batch */
	bool batch_allows; /* the one in flight has that */
	bool has_urge;
	uint64_t urge_generation;
	bool has_start;
	bool start_over;	   /* the first reconcile is over, and stays so */
	uint64_t start_generation; /* of the first reconcile */
	uint64_t generation;	   /* latest seen: for marks of our own making */
};

/* A line about this sync. `id`: of core/log_ids.h, or NULL. */
#define sync_log(s, cat, id, ...)                                                                                      \
	log_event(&(const struct log_fields){ .sync = (s)->opt->name, .message_id = (id) }, cat, __VA_ARGS__)

/* ---- sync.c ---- */

void sync_set_text(char **slot, const char *text);
void sync_note_error(struct sync *s, const char *text);
void sync_changed(struct sync *s);
void sync_count_cause(struct sync *s, const char *cause);
void sync_add_to_changes(struct sync *s, const struct intake_record *r, uint64_t generation, int64_t now);
/* 0 and what the source has by this name, or -1 and errno. */
int sync_stat_below(const struct sync *s, const char *path, size_t len, struct stat *out);
/* Whether the source lacks it; a path that can't be looked at it has. */
bool sync_is_absent(const struct sync *s, const char *path, size_t len);
/* Of what is absent the topmost directory that is: what lies below one that is gone is taken for gone with it. */
size_t sync_absent_from(const struct sync *s, const char *path, size_t len);
/* Whether the first reconcile is still to end. */
bool sync_starting(const struct sync *s);
struct changeset_limits sync_limits(const struct sync_options *opt);
/* Send the batch that was taken to the worker. */
void sync_carry(struct sync *s);
/* There is none in flight any more; its slot is free. */
void sync_end_batch(struct sync *s);

/* ---- sync_hooks.c ---- */

/* The watcher saw it. */
void sync_hooks_saw(struct sync *s, const struct change *c);
/* preBatch looks at the batch that was just taken; it is sent (sync_carry), or goes back. */
void sync_hooks_check(struct sync *s);
/* A path is on the target, or is not. */
void sync_hooks_done(struct sync *s, const char *path, size_t len);
void sync_hooks_failed(struct sync *s, const char *path, size_t len);
/* The batch is over, one way or another: onBatch and onError run, if there is anything to tell. */
void sync_hooks_over(struct sync *s);

/* ---- sync_lost.c ---- */

/* The target was lost with that batch in flight: what of it may still arrive is to be looked at again. */
void sync_note_lost(struct sync *s, const struct batch *b);
/* The target is back. */
void sync_back_after_loss(struct sync *s);
/* Look now: a barrier waits. */
void sync_urge_look(struct sync *s);
/* Look if it is time to. When it will be (INT64_MAX: never). */
int64_t sync_look_due(struct sync *s, int64_t now);

/* ---- sync_tunnel.c ---- */

/* Has it started, if one is wanted. */
int sync_open_tunnel(struct sync *s, struct err *err);
/* Whether nothing can be sent for want of it. */
bool sync_waits_for_tunnel(const struct sync *s);

/* ---- sync_large.c ---- */

/* -1: out of memory. */
int sync_large_init(struct sync *s, struct err *err);
void sync_large_done(struct sync *s);
/* Whether there is a second lane for large files. */
bool sync_large_exists(const struct sync *s);
/* Whether a batch that leaves now must leave bandwidth to it: to what is in flight there, or could not begin else. */
bool sync_large_shares(const struct sync *s);
/* Start what is due, end what is no more of use. */
void sync_large_poll(struct sync *s);
/* End its worker at once; what it carries is pending again. */
void sync_large_drop(struct sync *s);

/* ---- sync_worker.c ---- */

/* A worker with `events`, in a directory of its own. */
int sync_spawn_worker(struct sync *s, const struct worker_events *events, char **runtime_dir, struct worker_link **out,
		      struct err *err);
void sync_remove_runtime_dir(struct sync *s, char **dir);
int sync_start_worker(struct sync *s, struct err *err);
/* Ends it at once, if there is one. */
void sync_drop_worker(struct sync *s);
/* No worker has it any more, and none will: archive_end. Blocks as long as the source's disk takes. */
void sync_end_archive(const struct sync *s);
/* What a worker says of a batch that began at that time of the wall clock, or of the monotonic one. */
void sync_item_verdict(struct sync *s, const struct batch *b, const struct wire_verdict *v, int64_t started_real_ns);
void sync_found(struct sync *s, const struct wire_found *f, int64_t started_ns);
void sync_linked(struct sync *s, const struct wire_linked *f);
/* It is over, and the target is at hand; `back`: that was in doubt. */
void sync_batch_done(struct sync *s, const struct batch *b, int64_t started_ns, bool back);
void sync_add_counters(struct sync *s);
/* A worker counts no more: the next one begins at nothing. */
void sync_close_counters(struct sync *s, struct wire_counters *last);
void sync_count_error(struct sync *s, const struct err *e);
int64_t sync_backoff_ns(const struct sync *s, uint32_t tries);
/* The target is tried again after a backoff, and nothing is sent before. A batch in flight in the first lane goes back.
 */
void sync_go_down_for(struct sync *s, const struct err *why);
/* The batch in flight goes back; the target, or what is needed to reach it, is tried again after a backoff. */
void sync_go_down(struct sync *s, const char *why);
/* The same for want of preBatch's consent, and for want of the tunnel. */
void sync_veto(struct sync *s, const struct err *why);
void sync_tunnel_down(struct sync *s, const struct err *why);
/* All is well again. */
void sync_come_back(struct sync *s);

#endif
