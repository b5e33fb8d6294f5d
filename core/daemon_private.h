/*
 * daemon_private.h - what the parts of the daemon share: daemon.c (life), daemon_sources.c, daemon_barrier.c,
 * daemon_requests.c, daemon_status.c, daemon_receiver.c, daemon_metrics.c, metrics_text.c,
 * page_view.c, top_report.c. Included by them alone.
 */
#ifndef FANSYNCD_CORE_DAEMON_PRIVATE_H
#define FANSYNCD_CORE_DAEMON_PRIVATE_H

#include "core/control.h"
#include "core/daemon.h"
#include "core/guard.h"
#include "core/loop.h"
#include "core/notify.h"
#include "core/pidfile.h"
#include "core/schedule.h"
#include "core/sync.h"
#include "core/unix_listen.h"
#include "core/watcher.h"
#include "core/worker_link.h"

struct daemon;

/* What the syncs of a source ask of its watcher together. */
struct watch_needs {
	enum watcher_choice choice;
	bool one_file_system, want_modify;
	enum inotify_mode inotify_mode;
};

/* A directory that one or more syncs watch. */
struct source {
	struct source *next;
	struct daemon *daemon;
	char *path;
	int root_fd;		  /* -1: missing */
	struct watched *watched;  /* NULL: not watched (missing, or `once`) */
	struct watch_needs needs; /* of `watched` */
	bool lost;		  /* its watcher said so: handled before the next wait */
	char *why;		  /* why it is missing or only partly watched; NULL: it is fine */
	uint32_t tries;		  /* since it was lost */
	int64_t retry_ns;
};

/* What went over in each of the last periods of TREND_NS: a ring. */
#define TREND_POINTS 60u
#define TREND_NS (5 * NS_PER_S)
struct trend {
	uint64_t bytes[TREND_POINTS];
	size_t next;
	uint64_t last; /* the counter at the latest sample */
	bool begun;
};

/* A sync and what the daemon keeps beside it. */
struct member {
	struct sync *sync;
	struct source *source;
	int lock_fd;		     /* of stateDir/NAME.lock; -1: another process holds it */
	bool running;		     /* it was given its source */
	bool started;		     /* its first reconcile was ordered */
	bool lock_told;		     /* that it waits for the lock has been logged */
	struct loop_timer *interval; /* reconcileInterval; NULL: none */
	struct schedule_clock *schedules;
	size_t n_schedules;
	int64_t schedule_due_s;	  /* the next time, in seconds since 1970, or SCHEDULE_NEVER */
	struct guard_state guard; /* the record of its target, as of its last run */
	bool accept;		  /* the administrator said --allow-delete: for the next look at its source only */
	char *refused;		  /* why its source is not trusted, as logged; NULL: it is */
	/* For rates: the counters at the last sample and the rates then found. */
	int64_t sample_ns;
	uint64_t sample_files, sample_bytes;
	double files_per_s, bytes_per_s;
	struct trend trend; /* of bytes, while there is a page to show it on */
};

struct barrier;

/* The process that receives for the modules of this host. */
struct receiver_service {
	struct daemon *daemon;
	struct worker_link *link; /* NULL: none runs */
	bool ready;		  /* it listens */
	bool ended;		  /* it is to be freed before the next wait */
	uint32_t tries;		  /* in a row that failed */
	char *why;		  /* it does not listen; NULL: no trouble is known */
	struct loop_timer *timer; /* when it is started again */
	uint64_t restarts;
	struct origins origins; /* its sessions */
};

/* The process that shows the state to HTTP clients. */
struct metrics_service {
	struct daemon *daemon;
	struct unix_listener listener; /* fd -1: nothing is served; also for TCP, then without a path */
	struct worker_link *link;      /* NULL: none runs */
	bool ended;		       /* it is to be freed before the next wait */
	uint32_t tries;		       /* in a row that failed */
	struct loop_timer *timer;      /* when it is started again */
	struct loop_timer *view_timer; /* when the next view may be made */
	struct loop_timer *trend_timer;
	bool wanted[WIRE_VIEWS];
	int64_t made_ns; /* when the last view was */
};

struct daemon {
	const struct daemon_deps *deps;
	const struct daemon_options *options;
	struct config *config;
	struct loop *loop;
	struct watcher_set *watchers; /* NULL: `once` */
	struct source *sources;
	struct member **members; /* in the order of the configuration */
	size_t n_members;
	struct sync_env env;
	struct tunnels *tunnels;
	size_t slots_used, slots_large; /* large: of these */
	bool slot_taken;		/* by the sync that is polled */
	size_t poll_first;		/* index of the member that is polled first */
	uint64_t generation;
	struct barrier *barriers;
	struct receiver_service receiver;
	struct metrics_service metrics;
	struct control_server *control;
	struct pidfile pidfile;
	struct notify notify;
	char *own_paths[6]; /* NULL-terminated: files of ours, whose changes are no work; the watchers look at this */
	char *runtime_root;
	char *state_dir; /* of the start: the locks stay where they are */
	int schedule_fd; /* timerfd of the wall clock, read by the loop; -1: `once` */
	struct loop_fd *schedule_watch;
	struct loop_timer *retry_timer, *status_timer, *watchdog_timer, *stop_timer;
	int64_t started_real_ns;
	bool poll_all; /* something changed: look at every sync before the next wait */
	bool stopping, reload;
	bool reloaded; /* the start is over */
	int exit_code;
};

/* ---- daemon.c ---- */
struct member *daemon_member(struct daemon *d, const char *name);
/* End with this code as soon as the batches in flight allow. */
void daemon_stop(struct daemon *d, int exit_code);

/* ---- daemon_sources.c ---- */
/* The source at this path, made if need be. NULL: out of memory. */
struct source *sources_get(struct daemon *d, const char *path);
/* Look for missing sources whose time has come, deal with lost ones, give members their sources. */
void sources_poll(struct daemon *d);
/* After a reload: watch anew where the syncs of a source ask for something else. */
void sources_rewatch(struct daemon *d);
/* Forget those that no member uses. */
void sources_prune(struct daemon *d);
void sources_free_all(struct daemon *d);
/* A sync's worker found a file of its source that has a name outside, too. */
void sources_on_linked(void *ctx, const struct sync *s, const struct wire_linked *f);
/* Callbacks of the watcher set. */
void sources_on_record(void *ctx, struct watched *w, const struct change *c);
void sources_on_state(void *ctx, struct watched *w, enum watched_state state, const char *why);
void sources_on_changed(void *ctx, struct watched *w, const char *refused);

/* ---- daemon_guards.c ---- */
/* Whether the member may work on this source root; reads its record. -1: why not, and what to do. */
int guards_check(struct member *m, int root_fd, struct err *err);
/* The same, with the lock held: notes the root when it is the first one, or accepted. */
int guards_admit(struct member *m, int root_fd, struct err *err);
/* Refused: to the log (once) and to the sync's status. */
void guards_refuse(struct member *m, const char *why);
/* sync_env.guard_text and guard_learned. */
int guards_text(void *ctx, const struct sync_options *opt, struct buf *out);
void guards_learned(void *ctx, const struct sync_options *opt, const char *text, size_t len);
void guards_done(struct member *m);

/* ---- daemon_schedule.c ---- */
/* The member's expressions, dealt with up to now. */
int schedules_read(struct member *m, struct err *err);
int schedules_open(struct daemon *d, struct err *err);
/* Order what is due, wait for what is due next: also when the members have changed. */
void schedules_poll(struct daemon *d);
void schedules_close(struct daemon *d);

/* ---- daemon_barrier.c ---- */
/* Where an answer goes: a connection, or this process's own output. */
struct sink {
	void (*out)(void *ctx, const char *data, size_t len);
	void (*err)(void *ctx, const char *data, size_t len);
	void (*progress)(void *ctx, const char *data, size_t len); /* NULL: nobody looks */
	void (*exit)(void *ctx, int code);			   /* the last call */
	void *ctx;
};
struct barrier_request {
	bool sync_now; /* compare everything first, and report each sync */
	bool allow_delete, quiet, json;
	int64_t timeout_ns;	 /* < 0: none */
	const char *const *only; /* names */
	size_t n_only;
};
/* NULL when it was refused (sink->exit has been called). */
struct barrier *barrier_new(struct daemon *d, const struct barrier_request *rq, const struct sink *sink);
/* The client went away: no call to the sink any more. */
void barrier_cancel(struct barrier *b);
/* Answer those that are served. */
void barriers_poll(struct daemon *d);
/* The daemon ends: answer all as failed. */
void barriers_end(struct daemon *d);

/* ---- daemon_receiver.c ---- */
/* Start it, if the configuration has one. */
int receiver_start(struct daemon *d, struct err *err);
void receiver_poll(struct daemon *d);
/* After a reload from `old` (NULL: it had none): another configuration takes another process. */
void receiver_reload(struct daemon *d, bool changed);
void receiver_end(struct daemon *d);

/* ---- daemon_metrics.c ---- */
/* Listen and start the process, if the configuration says so. */
int metrics_start(struct daemon *d, struct err *err);
void metrics_poll(struct daemon *d);
void metrics_reload(struct daemon *d, bool changed);
void metrics_end(struct daemon *d);

/* ---- metrics_text.c ---- */
/* Prometheus' text format. */
bool metrics_text(struct daemon *d, struct buf *out);

/* ---- page_view.c ---- */
/* What the page shows, as core/wire.h says of WIRE_VIEW_PAGE. */
bool page_view(struct daemon *d, struct buf *out);
/* Sample the trends. */
void page_sample(struct daemon *d);

/* ---- top_report.c ---- */
/* What core/top_view.c reads. */
bool top_report(struct daemon *d, struct buf *out);

/* ---- daemon_requests.c ---- */
void requests_handle(void *ctx, struct control_conn *conn, size_t argc, const char *const *argv);

/* ---- daemon_status.c ---- */
bool status_text(struct daemon *d, struct buf *out);
bool status_json(struct daemon *d, struct buf *out);
/* The members "failures", at most so many, and "failures_unnamed" of an object; NULL: none. */
void status_json_failures(struct buf *out, const struct failures *f, size_t most);
/* The member "kept": below which mount points nothing is deleted. */
void status_json_kept(struct buf *out, const struct guard_state *g);
void status_sample_rates(struct daemon *d);
/* One line for the service manager. */
void status_line(struct daemon *d, char *out, size_t size);

#endif
