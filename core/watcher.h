/*
 * watcher.h - the kernel backend behind one interface: fanotify or inotify, chosen at run time per source.
 *
 * One `struct watcher_set` a daemon. A source is added once however many syncs use it; records reach the callback from
 * watcher_read (or from the loop, which calls it), never from inside watcher_add. A watcher never loses a change
 * silently: what it can't know becomes a CHANGE_RECONCILE record with its cause. Records of overlapping sources are
 * delivered to each of them.
 *
 * Calls may block only as long as local file system calls do. Not thread-safe.
 */
#ifndef FANSYNCD_CORE_WATCHER_H
#define FANSYNCD_CORE_WATCHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/change.h"
#include "core/err.h"
#include "core/loop.h"
#include "core/options.h"

struct watcher_set;
struct watched; /* one source being watched */

/* Why a source can't be trusted any more; the daemon stops its syncs until it is back. */
enum watched_state {
	WATCHED_OK = 0,
	WATCHED_GONE,	 /* the root was deleted, renamed away, unmounted or replaced */
	WATCHED_PARTIAL, /* part of it can't be watched (limits, permissions): a periodic reconcile covers it */
};

struct watcher_callbacks {
	/* One record. `source` is what watcher_add returned. Must not call back into the watcher set. */
	void (*record)(void *ctx, struct watched *source, const struct change *c);
	/* The state changed; `why` is for the log. */
	void (*state)(void *ctx, struct watched *source, enum watched_state state, const char *why);
	/* With WATCHER_AUTO: another backend took over (`refused` is NULL; watched_info says which and why), or was to
	 * and could not. May be NULL. Must not call back into the watcher set but for watched_info. */
	void (*changed)(void *ctx, struct watched *source, const char *refused);
	void *ctx;
};

struct watcher_settings {
	uint32_t fanotify_queue; /* 0: FAN_UNLIMITED_QUEUE; else the kernel's default limit is used (sysctl) */
	bool hide_fan_rename;	 /* behave as on a kernel without FAN_RENAME */
	/* How often WATCHER_AUTO is thought over. */
	int64_t interval_ns;
	/* NULL-terminated, absolute; may be NULL; borrowed for the life of the set. Changes at and below these paths
	 * (our log, status and state files) are not recorded. */
	const char *const *own_paths;
};

struct watch_request {
	const char *path; /* absolute, canonical */
	int root_fd;	  /* O_PATH or O_RDONLY directory descriptor of it; borrowed for the life of the source */
	enum watcher_choice choice;
	bool one_file_system;
	bool want_modify; /* deliver CHANGE_MODIFY (openFileInterval > 0) */
	enum inotify_mode inotify_mode;
	/* Whether a directory (path relative) is excluded with all below: inotify sets no watch there. May be NULL. */
	bool (*skip_dir)(void *ctx, const char *path, size_t len);
	void *skip_ctx;
};

struct watched_info {
	const char *backend; /* "fanotify" or "inotify" */
	const char *reason;  /* why that one, one line */
	uint64_t events;     /* raw kernel events that concerned it */
	/* fanotify: all events of the file systems that it has marked for this source, and those of them that concerned
	 * no source at all. */
	uint64_t heard, unrelated;
	uint64_t overflows;
	uint64_t watches;     /* inotify: directories watched; fanotify: marks */
	uint64_t unwatched;   /* directories that could not be watched */
	uint64_t changeovers; /* how often another backend took over */
};

struct watcher_set *watcher_set_new(struct loop *loop, const struct watcher_settings *s,
				    const struct watcher_callbacks *cb, struct err *err);
void watcher_set_free(struct watcher_set *ws);

/* Start watching: on return every change from now on will be recorded (inotify: below what the walk has reached; the
 * caller reconciles the source afterwards in any case). Falls back from fanotify to inotify with a reason, unless the
 * choice forbids it. */
struct watched *watcher_add(struct watcher_set *ws, const struct watch_request *rq, void *owner, struct err *err);
void watcher_remove(struct watcher_set *ws, struct watched *w);
/* Watch a file itself, which has a further name outside of the source, under this name inside: what is done through the
 * outside name is recorded from now on; the file is recorded as touched at once, from within this call, when it is new.
 * Nothing is done when it is not that file any more. Bounded; the log says when no more can be watched. */
void watcher_add_file(struct watcher_set *ws, struct watched *w, const char *path, size_t len, uint64_t dev,
		      uint64_t ino);
/* `to` watches the same source as `from` from now on. */
void watcher_hand_over_files(struct watcher_set *ws, const struct watched *from, struct watched *to);
void *watched_owner(const struct watched *w);
void watched_info(const struct watched *w, struct watched_info *out);
enum watched_state watched_state(const struct watched *w);

/* The barrier: read every kernel queue to EAGAIN now and deliver all records. When it returns, each change whose system
 * call returned before this call has been delivered. */
int watcher_drain(struct watcher_set *ws, struct err *err);

/* The same, but what takes longer than a moment is left to the loop's turns: a queue may hold millions of events. Sets
 * *ticket to 0 when all has been delivered on return, else to what watcher_drained is asked for. */
int watcher_drain_begin(struct watcher_set *ws, uint64_t *ticket, struct err *err);
bool watcher_drained(const struct watcher_set *ws, uint64_t ticket);
/* Look how far the loop is, before it waits: whether a ticket came true since the last call. May deliver records. */
bool watcher_turn(struct watcher_set *ws);

#endif
