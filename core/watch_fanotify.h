/*
 * watch_fanotify.h - what the files of the fanotify backend share. Included by watch_fanotify*.c alone.
 *
 * One group for all sources. A FILE SYSTEM is marked once; a VIEW is a mount of one, the source's own or one below a
 * source, through which handles of its directories are resolved. An event belongs to a file system and is looked at
 * through each of its views.
 */
#ifndef FANSYNCD_CORE_WATCH_FANOTIFY_H
#define FANSYNCD_CORE_WATCH_FANOTIFY_H

#include "core/fan_cache.h"
#include "core/mounts.h"
#include "core/watch_backend.h"

struct fan_fs {
	struct fan_fs *next;
	int fsid[2]; /* as events name it */
	unsigned major, minor;
	uint64_t mask; /* what is marked */
	uint64_t heard, unrelated;
	bool wanted, want_modify;
	bool subvolumes; /* a btrfs */
};

struct fan_view {
	struct fan_view *next;
	struct fan_fs *fs;
	uint32_t id;
	int mnt_id;	    /* of the visible mount */
	int private_mnt_id; /* of a btrfs's top-level subvolume, mounted privately; else 0 */
	uint64_t unique_id; /* never used again, 0 where the kernel has none */
	char *point;
	int fd;		/* kept for a source's own mount only: it would keep others from being unmounted; else -1 */
	int private_fd; /* keeps the private mount alive; else -1 */
	bool wanted, want_modify, keep;
};

/* A mount below a source that has no view: it can't be watched. */
struct fan_refused {
	struct fan_refused *next;
	int mnt_id;
	unsigned major, minor;
	char *point;
	bool wanted;
};

struct fan_source {
	struct fan_source *next;
	struct watched *w;
	struct fan_node *root;
	struct fan_key root_key;
	struct fan_view *view;
	/* The directories above the root, top first: an event that moves one of them may take the root away. */
	struct fan_above {
		struct fan_fs *fs;
		struct fan_key key;
		size_t name, name_len; /* of the next one down, in the source's path */
	} * above;
	size_t n_above;
	bool started; /* the first look at the mounts is over */
	bool gone;
	uint64_t marks;
	char unwatched[160]; /* what of it can't be watched, and why */
	enum watched_state told;
};

/* A record that waits for the end of the queue: until then a rename's names may be later ones. */
struct fan_held {
	struct watched *w;
	struct change c; /* path and old_path are set when it is delivered */
	size_t at, old_at;
	bool unsettled;
};

/* The latest renames of directories, to know an exchange: two events, the second the reverse of the first. */
#define FAN_RECENT 32
struct fan_recent {
	const struct fan_fs *fs;
	uint64_t from, to; /* hashes of directory and name */
};

struct fan {
	struct watcher_set *set;
	struct loop *loop;
	int fd, mounts_fd;
	struct loop_fd *fd_source, *mounts_source;
	struct loop_timer *pause, *check;
	uint64_t seen, goal; /* events read; how many are to have been read when what was asked for is delivered */
	bool asked;	     /* for `goal` */
	int credit;	     /* reads that need no pause */
	int64_t credit_ns;
	bool has_rename, unlimited;
	struct fan_cache *cache;
	struct fan_fs *filesystems;
	struct fan_view *views;
	struct fan_refused *refused;
	struct fan_source *sources;
	uint32_t last_view;
	char *in;
	int64_t now_ns;
	struct fan_held *held;
	size_t n_held, cap_held;
	size_t n_spoiled; /* of the held: a directory was moved or removed since */
	struct buf text;  /* the paths of the held */
	struct buf path, path2;
	struct fan_recent recent[FAN_RECENT];
	unsigned n_recent;
	bool check_roots, lost;
	int lost_errnum; /* what kept a directory from being found; 0 */
	int64_t lost_told_ns;
	uint64_t overflows, related;
};

/* watch_fanotify_resolve.c */

enum fan_found {
	FAN_OURS = 0,
	FAN_NOT_OURS,
	FAN_VANISHED, /* there is no such directory any more */
	FAN_ABOVE,    /* *node is above it: its own path is too long for a name */
	FAN_UNSURE    /* could not be found out */
};

enum fan_found fan_resolve(struct fan *b, struct fan_view *v, const struct fan_key *k, struct fan_node **node);
/* Key and mount of an open directory; the view is the caller's to set. */
bool fan_key_of_fd(int fd, struct fan_key *k, int *mnt_id);
/* Put the sources' roots that lost their place back below the directories that hold them. */
void fan_place_roots(struct fan *b);
/* Whether a directory that appeared in that one may have brought content along, as a btrfs snapshot does; also when
 * that can't be found out. */
bool fan_came_filled(struct fan *b, uint32_t view, const struct fan_key *dir, const char *name);
/* A directory of the mount, to open others through: *temporary says that it is to be closed. -1: not reachable. */
int fan_view_open(struct fan_view *v, bool *temporary);

/* watch_fanotify_mounts.c */

/* Views and marks for what is mounted now; records for what changed. Fails when the root of `fresh` can't be watched.
 */
int fan_sync_mounts(struct fan *b, struct fan_source *fresh, struct err *err);
void fan_views_done(struct fan *b);
/* A directory of the source was renamed: with it the mount points below. */
void fan_points_renamed(struct fan *b, const struct fan_source *s, struct buf *from, struct buf *to);
/* Where the mounts are now, by the kernel's table. */
void fan_refresh_points(struct fan *b);
/* Whether each root still is the directory that its path names. */
void fan_check_roots(struct fan *b);
/* Whether that name of a directory is a source's root or above one. */
bool fan_is_above(const struct fan *b, const struct fan_fs *fs, const struct fan_key *dir, const char *name,
		  size_t len);
/* The events of the file systems that it shows. */
void fan_source_heard(const struct fan *b, const struct fan_source *s, struct watched_info *out);
/* The rest of a source that is no longer watched. */
void fan_source_done(struct fan *b, struct fan_source *s);

/* watch_fanotify_events.c */

void fan_handle(struct fan *b, const char *data, size_t len, uint64_t *events);
/* The queue is empty (or too many records wait): deliver them. */
void fan_flush(struct fan *b, bool queue_empty);
void fan_reconcile(struct fan *b, struct fan_source *s, const char *path, size_t len, const char *cause);
void fan_forget_held(struct fan *b, const struct watched *w);

/* watch_fanotify.c */

/* Returns 0 or an errno. */
int fan_mark(struct fan *b, bool add, uint64_t mask, int fd);
/* Soon, from the loop: what is left to be done. */
void fan_later(struct fan *b);
uint64_t fan_mask(const struct fan *b, bool modify);
/* In words. */
const char *fan_refusal(int errnum);

#endif
