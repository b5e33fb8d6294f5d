/*
 * watch_backend.h - what watcher.c and its two backends share. Included by them alone.
 *
 * A backend is one const descriptor in its own file, everything else there static. Each time it is opened it makes a
 * kernel group (a descriptor in the loop); watcher.c opens one for the sources of each file system. It delivers records
 * through watch_emit, from its loop callback or from drain, in the order of the kernel's queue.
 */
#ifndef FANSYNCD_CORE_WATCH_BACKEND_H
#define FANSYNCD_CORE_WATCH_BACKEND_H

#include "core/watcher.h"

struct watch_backend;
struct watch_group;

struct watched {
	struct watcher_set *set;
	struct watched *next;
	const struct watch_backend *backend;
	struct watch_request rq; /* path is our own copy; root_fd borrowed */
	size_t path_len;
	uint64_t root_dev, root_ino;
	void *owner;
	void *priv;		      /* the backend's part */
	struct watch_group *group[2]; /* watcher.c: the queue that it is in, one a backend */
	char reason[192];
	enum watched_state state;
	uint64_t events, overflows;
	/* For WATCHER_AUTO (watcher.c). */
	uint64_t seen_heard, seen_unrelated; /* of watched_info, at the last look */
	unsigned changeovers;
	unsigned noisy;	       /* looks in a row that found it so */
	unsigned tries, rest;  /* change-overs tried; looks until the next may be tried */
	bool fanotify_refused; /* for good */
	bool leaves;	       /* scratch: is to change over in this look */
	bool overlap;	       /* what comes may have been told by another backend before */
};

struct watch_backend {
	const char *name;
	/* Make the group. *out is handed to the other calls. Fails with ERR_DENIED/ERR_LIMIT/ERR_CONFIG and words that
	 * say what is missing. */
	int (*open)(struct watcher_set *set, struct loop *loop, const struct watcher_settings *s, void **out,
		    struct err *err);
	void (*close)(void *backend);
	int (*add)(void *backend, struct watched *w, struct err *err);
	void (*remove)(void *backend, struct watched *w);
	/* Read and deliver until EAGAIN. */
	int (*drain)(void *backend, struct err *err);
	/* Fill in the backend's numbers. */
	void (*info)(void *backend, const struct watched *w, struct watched_info *out);
	/* The same as drain by turns, for queues that may be long (else both are NULL). `ask` notes what is queued now;
	 * `turn` reads on for `ns` at the most, 0: not at all, which the loop does meanwhile. 1: what was noted has
	 * been delivered; 0: not yet; -1: a failure, which ends it. */
	void (*ask)(void *backend);
	int (*turn)(void *backend, int64_t ns, struct err *err);
};

extern const struct watch_backend watch_fanotify;
extern const struct watch_backend watch_inotify;

/* For backends: hand on a record or a state (implemented in watcher.c). */
void watch_emit(struct watched *w, const struct change *c);
void watch_set_state(struct watched *w, enum watched_state state, const char *why);

/* Have the other backend take over now, without losing a change (watcher.c; for it, and for tests of just that). */
int watch_change_over(struct watched *w, struct err *err);

#endif
