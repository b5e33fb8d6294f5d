/*
 * watch_inotify.h - what the files of the inotify backend share. Included by watch_inotify*.c alone.
 *
 * The tree says what the event queue has told so far; a walk looks at the file system as it is now, that is, ahead of
 * the queue. So a directory that was opened by its path may have been another one than the tree believes, when a rename
 * still waited in the queue. Each node that was opened since the queue was last empty is FRESH; each node that was
 * renamed since is MOVED. When the queue is empty, the fresh ones at or below a moved one, and the SUSPECT ones (not
 * found, met twice), are opened once more and compared by watch descriptor: the kernel has one per inode.
 */
#ifndef FANSYNCD_CORE_WATCH_INOTIFY_H
#define FANSYNCD_CORE_WATCH_INOTIFY_H

#include <sys/stat.h>

#include "core/watch_backend.h"
#include "core/watch_tree.h"

#define INO_FDS 16

struct ino;

struct ino_source {
	struct ino *b;
	struct watched *w;
	struct ino_source *next;
	struct wnode *root;
	uint32_t mask; /* kinds of events it wants */
	uint64_t watches, denied, limited, failed;
	/* Two directories whose names were exchanged by the first half of what may be a RENAME_EXCHANGE. */
	struct wnode *swap_a, *swap_b;
	bool too_deep;		 /* some directory's path exceeds what a record can carry */
	bool paired;		 /* scratch: the rename in hand lies inside it */
	const char *doubt;	 /* why all of it is to be looked at again; NULL: no need */
	bool gone;		 /* its path is no longer the directory that we watch */
	char gone_why[160];	 /* in words */
	enum watched_state told; /* the last state handed on */
	unsigned told_kinds;	 /* the WNODE_UNWATCHED flags that were named then */
};

/* One mount point of /proc/self/mountinfo that lies below a source. */
struct ino_mount {
	char *path;
	int id;
};

struct ino {
	struct watcher_set *set;
	struct loop *loop;
	int fd, mount_fd;
	struct loop_fd *fd_source, *mount_source;
	struct loop_timer *again; /* to go on soon: a held rename, work left over, a state to tell */
	struct loop_timer *retry; /* unwatched directories, the identity of the roots */
	struct watch_tree tree;
	struct ino_source *sources;
	struct buf in; /* what was read and is not handled, from `at` */
	size_t at;
	int64_t now_ns; /* when it was read */
	bool hold_over; /* the held rename has waited long enough */
	bool limit_hit; /* during the present walk */
	bool no_openat2;
	bool freed; /* watches became free since the last retry */
	struct wvec fresh, suspects, moved, stack, from, to;
	struct {
		const struct wnode *n;
		int fd;
		uint64_t used;
	} fds[INO_FDS];
	uint64_t fd_clock;
	struct buf path, path2;
	char *dents; /* for getdents64 */
	struct ino_mount *mounts;
	size_t n_mounts;
};

/* watch_inotify_walk.c */

/* What the walk says of what it finds. */
enum ino_walk {
	INO_SILENT, /* nothing: a RECONCILE of the top covers it */
	INO_FOUND   /* CREATE (and TOUCH for files) for each entry */
};

/* Watch `top` and everything below it, watch first, then read. */
void ino_walk(struct ino *b, struct wnode *top, enum ino_walk how);
/* Look again at what is in doubt. Returns whether anything was: events may have come meanwhile. */
bool ino_settle(struct ino *b);
/* Try again to watch what could not be watched. */
void ino_retry_unwatched(struct ino *b, struct ino_source *s, unsigned kinds);
/* The same at `n` and its children, whose permissions may have changed. */
void ino_retry_denied(struct ino *b, struct wnode *n);
/* After a rename: what its new name excludes or includes. */
void ino_refilter(struct ino *b, struct wnode *top);
void ino_suspect(struct ino *b, struct wnode *n);
void ino_mark_moved(struct ino *b, struct wnode *n);
/* Forget the node and all below it, and their watches. */
void ino_forget(struct ino *b, struct wnode *n);
void ino_unwatch(struct ino *b, struct wnode *n);

/* watch_inotify_events.c */

/* Handle what was read. Returns false when a MOVED_FROM has to wait for its other half. */
bool ino_process(struct ino *b);
void ino_emit(struct ino *b, struct wnode *dir, const char *name, size_t len, enum change_kind kind, bool is_dir);
void ino_emit_reconcile(struct ino *b, struct wnode *dir, const char *name, size_t len, const char *cause);

/* watch_inotify.c */

/* Read what the kernel has, at most `max` bytes unhandled. Returns how many bytes came, 0 at EAGAIN, -1 on error. */
ssize_t ino_fill(struct ino *b, size_t max);
/* Bytes of events that were not handled yet. */
size_t ino_queued(const struct ino *b);
/* Something was missed (`cause`): the source is to be compared as a whole, and walked again. */
void ino_doubt(struct ino_source *s, const char *cause);
void ino_doubt_all(struct ino *b, const char *cause);
/* Whether the source's path still is the directory that we watch. */
void ino_check_root(struct ino_source *s);

#endif
