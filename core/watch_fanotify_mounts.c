/*
 * watch_fanotify_mounts.c - which file systems are marked and through which mounts they are seen; who the roots are.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "core/path.h"
#include "core/watch_fanotify.h"

#ifndef STATX_MNT_ID_UNIQUE
#define STATX_MNT_ID_UNIQUE 0x4000u
#endif

/* What one look at the mount table works with. */
struct look {
	struct fan *b;
	struct mounts table;
	char why[160]; /* the last refusal */
	enum err_class class;
};

static int refuse(struct look *l, int errnum, const char *what)
{
	l->class = err_class_of_errno(errnum);
	(void)snprintf(l->why, sizeof(l->why), "%.70s: %.80s", what, fan_refusal(errnum));
	return -1;
}

/* A number for the mount that is never used again; 0 on kernels before 6.8. */
static uint64_t unique_id(int fd)
{
	struct statx sx;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID_UNIQUE, &sx) < 0 || (sx.stx_mask & STATX_MNT_ID_UNIQUE) == 0)
		return 0;
	return sx.stx_mnt_id;
}

/* ---- btrfs ---- */

/* A subvolume has no mark of its own; the top-level one, mounted where nobody sees it, stands for all. */
static int mount_top_level(const char *device)
{
	int conf = fsopen("btrfs", FSOPEN_CLOEXEC), fd = -1, e;

	if (conf < 0)
		return -1;
	if (fsconfig(conf, FSCONFIG_SET_STRING, "source", device, 0) == 0 &&
	    fsconfig(conf, FSCONFIG_SET_STRING, "subvolid", "5", 0) == 0 &&
	    fsconfig(conf, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
		fd = fsmount(conf, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	e = errno;
	(void)close(conf);
	errno = e;
	return fd;
}

static int use_top_level(struct look *l, struct fan_view *v, const struct mount *m, int *fd)
{
	struct fan_key k;
	int inner;

	if (strcmp(m->type, "btrfs") != 0)
		return refuse(l, EXDEV, m->point);
	v->private_fd = mount_top_level(m->source);
	if (v->private_fd < 0) {
		(void)refuse(l, errno, "mounting the btrfs's top level");
		return -1;
	}
	inner = openat(v->private_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (inner < 0 || !fan_key_of_fd(inner, &k, &v->private_mnt_id)) {
		(void)refuse(l, errno, "the btrfs's top level");
		if (inner >= 0)
			(void)close(inner);
		return -1;
	}
	(void)close(*fd);
	*fd = inner;
	v->keep = true;
	return 0;
}

/* ---- file systems ---- */

static struct fan_fs *fs_of_device(const struct fan *b, const struct mount *m)
{
	struct fan_fs *f = b->filesystems;

	while (f != NULL && (f->major != m->major || f->minor != m->minor))
		f = f->next;
	return f;
}

static struct fan_fs *new_fs(struct look *l, const struct mount *m, int fd)
{
	struct fan_fs *f = calloc(1, sizeof(*f));
	struct statfs sf;

	if (f == NULL || fstatfs(fd, &sf) < 0) {
		(void)refuse(l, f == NULL ? ENOMEM : errno, m->point);
		free(f);
		return NULL;
	}
	memcpy(f->fsid, &sf.f_fsid, sizeof(f->fsid));
	f->major = m->major;
	f->minor = m->minor;
	f->subvolumes = sf.f_type == BTRFS_SUPER_MAGIC;
	for (const struct fan_fs *o = l->b->filesystems; o != NULL; o = o->next) {
		if (memcmp(o->fsid, f->fsid, sizeof(f->fsid)) != 0)
			continue;
		l->class = ERR_CONFIG;
		(void)snprintf(l->why, sizeof(l->why), "%.80s: two file systems with the same id", m->point);
		free(f);
		return NULL;
	}
	f->next = l->b->filesystems;
	l->b->filesystems = f;
	return f;
}

/* Mark what the view shows. *fd may be replaced by one of the private mount. */
static int mark_view(struct look *l, struct fan_view *v, const struct mount *m, int *fd)
{
	struct fan *b = l->b;
	struct fan_fs *f = fs_of_device(b, m);
	int e = fan_mark(b, true, fan_mask(b, false), *fd);

	if (e == EXDEV) {
		if (use_top_level(l, v, m, fd) < 0)
			return -1;
		e = fan_mark(b, true, fan_mask(b, false), *fd);
	}
	if (e != 0 && f == NULL)
		return refuse(l, e, m->point);
	if (f == NULL)
		f = new_fs(l, m, *fd);
	if (f == NULL)
		return -1;
	f->mask |= fan_mask(b, false);
	v->fs = f;
	return 0;
}

static void unmark(struct fan *b, const struct fan_fs *f, uint64_t mask)
{
	for (struct fan_view *v = b->views; v != NULL; v = v->next) {
		bool temporary;
		int fd, e;

		if (v->fs != f)
			continue;
		fd = fan_view_open(v, &temporary);
		if (fd < 0)
			continue;
		e = fan_mark(b, false, mask, fd);
		if (temporary)
			(void)close(fd);
		if (e == 0)
			return;
	}
}

static void set_modify(struct fan *b, struct fan_fs *f)
{
	uint64_t extra = fan_mask(b, true) & ~fan_mask(b, false);

	if (!f->want_modify && (f->mask & extra) != 0) {
		unmark(b, f, extra);
		f->mask &= ~extra;
	}
	for (struct fan_view *v = b->views; v != NULL && f->want_modify && (f->mask & extra) == 0; v = v->next) {
		bool temporary;
		int fd = v->fs == f ? fan_view_open(v, &temporary) : -1;

		if (fd < 0)
			continue;
		if (fan_mark(b, true, extra, fd) == 0)
			f->mask |= extra;
		if (temporary)
			(void)close(fd);
	}
}

/* ---- views ---- */

static void free_view(struct fan_view *v)
{
	if (v->fd >= 0)
		(void)close(v->fd);
	if (v->private_fd >= 0)
		(void)close(v->private_fd);
	free(v->point);
	free(v);
}

static void set_point(struct fan_view *v, const char *point)
{
	char *copy = strcmp(v->point, point) != 0 ? strdup(point) : NULL;

	if (copy == NULL)
		return;
	free(v->point);
	v->point = copy;
}

void fan_refresh_points(struct fan *b)
{
	struct mounts table;
	struct err err = ERR_INIT;

	if (mounts_read(&table, &err) < 0)
		return;
	for (struct fan_view *v = b->views; v != NULL; v = v->next) {
		const struct mount *m = mounts_find(&table, v->mnt_id);

		if (m != NULL)
			set_point(v, m->point);
	}
	mounts_done(&table);
}

void fan_points_renamed(struct fan *b, const struct fan_source *s, struct buf *from, struct buf *to)
{
	for (struct fan_view *v = b->views; v != NULL; v = v->next) {
		const char *rel;
		char *point = NULL;

		rel = path_rest(v->point, s->w->rq.path);
		if (rel == NULL || !path_below(rel, strlen(rel), buf_str(from), from->len))
			continue;
		if (asprintf(&point, "%.*s%s%s", (int)(rel - v->point), v->point, buf_str(to), rel + from->len) < 0)
			continue;
		free(v->point);
		v->point = point;
	}
}

static struct fan_view *known_view(const struct fan *b, const struct mount *m)
{
	for (struct fan_view *v = b->views; v != NULL; v = v->next) {
		int fd;
		uint64_t now;

		if (v->mnt_id != m->id || v->fs->major != m->major || v->fs->minor != m->minor)
			continue;
		if (v->keep)
			return v;
		set_point(v, m->point);
		fd = open(v->point, O_PATH | O_DIRECTORY | O_CLOEXEC);
		now = fd < 0 ? 0 : unique_id(fd);
		if (fd >= 0)
			(void)close(fd);
		if (now == v->unique_id || now == 0)
			return v;
	}
	return NULL;
}

/* Whether directories can be found by handle there. */
static int try_handles(struct look *l, const struct mount *m, int fd)
{
	union {
		struct file_handle h;
		char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} u;
	int mnt_id, dir;

	u.h.handle_bytes = MAX_HANDLE_SZ;
	if (name_to_handle_at(fd, "", &u.h, &mnt_id, AT_EMPTY_PATH) < 0)
		return refuse(l, errno, m->point);
	dir = open_by_handle_at(fd, &u.h, O_PATH | O_CLOEXEC);
	if (dir < 0 && errno == EPERM) {
		l->class = ERR_DENIED;
		(void)snprintf(l->why, sizeof(l->why), "CAP_DAC_READ_SEARCH is missing");
		return -1;
	}
	if (dir < 0)
		return refuse(l, errno, m->point);
	(void)close(dir);
	return 0;
}

/* A view of a mount that has none. `root_fd`: the source's root when it is its own mount, else -1. */
static struct fan_view *new_view(struct look *l, const struct mount *m, int root_fd)
{
	struct fan_view *v = calloc(1, sizeof(*v));
	int fd = root_fd >= 0 ? openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
			      : open(m->point, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct fan_key k;

	if (v == NULL || fd < 0) {
		(void)refuse(l, v == NULL ? ENOMEM : errno, m->point);
		if (fd >= 0)
			(void)close(fd);
		free(v);
		return NULL;
	}
	v->fd = v->private_fd = -1;
	v->keep = root_fd >= 0;
	v->point = strdup(m->point);
	v->unique_id = unique_id(fd);
	if (!fan_key_of_fd(fd, &k, &v->mnt_id))
		(void)refuse(l, errno, m->point);
	else if (v->mnt_id != m->id)
		(void)refuse(l, ENOENT, m->point);
	else if (v->point != NULL && try_handles(l, m, fd) == 0 && mark_view(l, v, m, &fd) == 0) {
		v->id = ++l->b->last_view;
		v->next = l->b->views;
		l->b->views = v;
		if (v->keep)
			v->fd = fd;
		else
			(void)close(fd);
		return v;
	}
	(void)close(fd);
	free_view(v);
	return NULL;
}

static struct fan_view *want_view(struct look *l, const struct fan_source *s, const struct mount *m, int root_fd,
				  bool *is_new)
{
	struct fan_view *v = known_view(l->b, m);

	*is_new = v == NULL;
	if (v == NULL)
		v = new_view(l, m, root_fd);
	if (v == NULL)
		return NULL;
	if (root_fd >= 0 && v->fd < 0) {
		v->fd = openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		v->keep = true;
	}
	v->wanted = true;
	v->fs->wanted = true;
	v->fs->want_modify = v->fs->want_modify || s->w->rq.want_modify;
	return v;
}

/* A new view may have been made for one source, and be news to all. */
static void tell(struct fan *b, const char *point, const char *cause)
{
	const char *rel;

	for (struct fan_source *s = b->sources; s != NULL; s = s->next) {
		rel = path_rest(point, s->w->rq.path);
		if (s->started && !s->gone && !s->w->rq.one_file_system && rel != NULL)
			fan_reconcile(b, s, rel, strlen(rel), cause);
	}
}

/* Whether it is the first time that this mount can't be watched; else it is no news. */
static bool is_new_refusal(struct fan *b, const struct mount *m)
{
	struct fan_refused *r = b->refused;

	while (r != NULL && (r->mnt_id != m->id || r->major != m->major || r->minor != m->minor))
		r = r->next;
	if (r != NULL) {
		r->wanted = true;
		return false;
	}
	r = calloc(1, sizeof(*r));
	if (r == NULL)
		return true;
	*r = (struct fan_refused){
		.next = b->refused, .mnt_id = m->id, .major = m->major, .minor = m->minor, .wanted = true
	};
	r->point = strdup(m->point);
	b->refused = r;
	return true;
}

static void drop_refused(struct fan *b, bool all)
{
	for (struct fan_refused **at = &b->refused, *r; (r = *at) != NULL;) {
		if (r->wanted && !all) {
			at = &r->next;
			continue;
		}
		*at = r->next;
		if (r->point != NULL && !all)
			tell(b, r->point, "unmounted");
		free(r->point);
		free(r);
	}
}

/* Every mount that the source shows. -1: not even its root's. */
static int want_views(struct look *l, struct fan_source *s)
{
	const struct mount *m;
	struct fan_key k;
	const char *rel;
	bool is_new;
	int id;

	s->unwatched[0] = '\0';
	s->marks = 0;
	if (!fan_key_of_fd(s->w->rq.root_fd, &k, &id))
		return refuse(l, errno, s->w->rq.path);
	m = mounts_find(&l->table, id);
	s->view = m == NULL ? NULL : want_view(l, s, m, s->w->rq.root_fd, &is_new);
	if (s->view == NULL)
		return m == NULL ? refuse(l, ENOENT, s->w->rq.path) : -1;
	s->marks = 1;
	for (size_t i = 0; i < l->table.n && !s->w->rq.one_file_system; i++) {
		m = &l->table.list[i];
		rel = path_rest(m->point, s->w->rq.path);
		if (m->hidden || m->id == id || rel == NULL)
			continue;
		l->why[0] = '\0';
		if (want_view(l, s, m, -1, &is_new) != NULL) {
			s->marks++;
		} else {
			(void)snprintf(s->unwatched, sizeof(s->unwatched), "%s", l->why);
			is_new = is_new_refusal(l->b, m);
		}
		if (is_new)
			tell(l->b, m->point, "mounted");
	}
	return 0;
}

static void drop_unwanted(struct fan *b)
{
	for (struct fan_fs *f = b->filesystems; f != NULL; f = f->next) {
		if (f->wanted)
			set_modify(b, f);
		else
			unmark(b, f, f->mask);
	}
	for (struct fan_view **at = &b->views, *v; (v = *at) != NULL;) {
		if (v->wanted) {
			at = &v->next;
			continue;
		}
		*at = v->next;
		tell(b, v->point, "unmounted");
		free_view(v);
	}
	for (struct fan_fs **at = &b->filesystems, *f; (f = *at) != NULL;) {
		if (f->wanted) {
			at = &f->next;
			continue;
		}
		*at = f->next;
		free(f);
	}
}

/* ---- the directories above a root ---- */

static void learn_one(struct look *l, struct fan_source *s, const char *dir, size_t name)
{
	const char *path = s->w->rq.path, *slash = strchr(path + name, '/');
	int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC), mnt_id;
	struct fan_above *a = &s->above[s->n_above];
	const struct mount *m;

	if (fd < 0)
		return;
	if (fan_key_of_fd(fd, &a->key, &mnt_id) && (m = mounts_find(&l->table, mnt_id)) != NULL) {
		a->fs = fs_of_device(l->b, m);
		a->name = name;
		a->name_len = slash != NULL ? (size_t)(slash - path) - name : strlen(path + name);
		s->n_above += a->fs != NULL;
	}
	(void)close(fd);
}

static int learn_above(struct look *l, struct fan_source *s)
{
	size_t n = 0;
	char *dir = strdup(s->w->rq.path);

	free(s->above);
	s->above = NULL;
	s->n_above = 0;
	for (size_t i = 0; i < s->w->path_len; i++)
		n += s->w->rq.path[i] == '/';
	s->above = calloc(n + 1, sizeof(*s->above));
	if (dir == NULL || s->above == NULL) {
		free(dir);
		return refuse(l, ENOMEM, s->w->rq.path);
	}
	for (size_t i = s->w->path_len; i > 1; i--) {
		if (s->w->rq.path[i - 1] != '/')
			continue;
		dir[i - 1] = '\0';
		learn_one(l, s, i == 1 ? "/" : dir, i);
	}
	if (s->w->path_len > 1)
		learn_one(l, s, "/", 1);
	free(dir);
	return 0;
}

bool fan_is_above(const struct fan *b, const struct fan_fs *fs, const struct fan_key *dir, const char *name, size_t len)
{
	for (const struct fan_source *s = b->sources; s != NULL; s = s->next) {
		for (size_t i = 0; i < s->n_above; i++) {
			const struct fan_above *a = &s->above[i];

			if (a->fs == fs && a->key.len == dir->len && memcmp(a->key.bytes, dir->bytes, dir->len) == 0 &&
			    a->name_len == len && memcmp(s->w->rq.path + a->name, name, len) == 0)
				return true;
		}
	}
	return false;
}

/* ---- the whole ---- */

/* A change of state is handed on from the loop: never from inside watcher_add. */
static void note_state(struct fan *b, const struct fan_source *s)
{
	enum watched_state state = s->gone ? WATCHED_GONE : s->unwatched[0] != '\0' ? WATCHED_PARTIAL : WATCHED_OK;

	if (state != s->told)
		fan_later(b);
}

int fan_sync_mounts(struct fan *b, struct fan_source *fresh, struct err *err)
{
	struct look l = { .b = b };
	int rc = 0;

	if (mounts_read(&l.table, err) < 0)
		return -1;
	for (struct fan_view *v = b->views; v != NULL; v = v->next)
		v->wanted = false;
	for (struct fan_fs *f = b->filesystems; f != NULL; f = f->next)
		f->wanted = f->want_modify = false;
	for (struct fan_refused *r = b->refused; r != NULL; r = r->next)
		r->wanted = false;
	for (struct fan_source *s = b->sources; s != NULL; s = s->next) {
		int r = want_views(&l, s);

		if (r == 0)
			r = learn_above(&l, s);
		if (r < 0 && s == fresh)
			rc = err_set(err, l.class, "%s", l.why);
		else if (r < 0)
			(void)snprintf(s->unwatched, sizeof(s->unwatched), "%s", l.why);
		if (r == 0)
			s->started = true;
		note_state(b, s);
	}
	drop_unwanted(b);
	drop_refused(b, false);
	for (struct fan_source *s = b->sources; s != NULL; s = s->next)
		if (s->view != NULL && !s->view->wanted)
			s->view = NULL;
	mounts_done(&l.table);
	fan_cache_readmit(b->cache);
	return rc;
}

static bool shows(const struct fan_source *s, const struct fan_view *v)
{

	return v == s->view || (!s->w->rq.one_file_system && path_rest(v->point, s->w->rq.path) != NULL);
}

void fan_source_heard(const struct fan *b, const struct fan_source *s, struct watched_info *out)
{
	for (const struct fan_fs *f = b->filesystems; f != NULL; f = f->next) {
		const struct fan_view *v = b->views;

		while (v != NULL && (v->fs != f || !shows(s, v)))
			v = v->next;
		if (v == NULL)
			continue;
		out->heard += f->heard;
		out->unrelated += f->unrelated;
	}
}

void fan_source_done(struct fan *b, struct fan_source *s)
{
	if (s->root != NULL)
		fan_cache_unpin(b->cache, s->root);
	free(s->above);
	free(s);
}

void fan_views_done(struct fan *b)
{
	drop_refused(b, true);
	for (struct fan_view *v; (v = b->views) != NULL;) {
		b->views = v->next;
		free_view(v);
	}
	for (struct fan_fs *f; (f = b->filesystems) != NULL;) {
		b->filesystems = f->next;
		free(f);
	}
}

void fan_check_roots(struct fan *b)
{
	for (struct fan_source *s = b->sources; s != NULL; s = s->next) {
		struct stat st, mine;
		const char *why = NULL;
		bool was = s->gone;

		if (lstat(s->w->rq.path, &st) < 0)
			why = "it was deleted or moved away";
		else if (st.st_dev != s->w->root_dev || st.st_ino != s->w->root_ino)
			why = s->view == NULL ? "it was unmounted" : "another directory is in its place";
		else if (fstat(s->w->rq.root_fd, &mine) == 0 && mine.st_nlink == 0)
			why = "it was deleted";
		s->gone = why != NULL;
		if (s->gone && !was) {
			s->told = WATCHED_GONE;
			watch_set_state(s->w, WATCHED_GONE, why);
		} else if (!s->gone && was) {
			fan_reconcile(b, s, "", 0, "the source is back");
			note_state(b, s);
		}
	}
}
