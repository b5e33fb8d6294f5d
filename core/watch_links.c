#include "core/watch_links.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/look.h"
#include "core/path.h"
#include "core/watch_inotify_mode.h"

/* Names that are watched. The kernel keeps about a kilobyte for each file. */
#define NAMES_MAX 16384u
#define BUCKETS 4096u
#define READ_SIZE (64u * 1024)

struct link_entry {
	struct link_entry *by_path, *by_wd; /* hash chains */
	struct watched *w;
	int wd;
	uint64_t dev, ino;
	size_t len;
	char path[];
};

struct link_watch {
	struct loop *loop;
	int fd; /* -1: not opened */
	struct loop_fd *fd_source;
	struct link_entry *by_path[BUCKETS], *by_wd[BUCKETS];
	size_t n;
	bool limit_told;
	struct {
		struct link_entry **v;
		size_t n, cap;
	} found; /* scratch */
	struct buf path;
	char *in;
};

/* ---- the table ---- */

static size_t path_bucket(const char *path, size_t len)
{
	uint64_t h = path_hash(path, len);

	return (size_t)(h ^ h >> 32) % BUCKETS;
}

static size_t wd_bucket(int wd)
{
	return (unsigned)wd % BUCKETS;
}

static struct link_entry *find(const struct link_watch *lw, const struct watched *w, const char *path, size_t len,
			       uint64_t dev, uint64_t ino)
{
	struct link_entry *e = lw->by_path[path_bucket(path, len)];

	while (e != NULL &&
	       (e->w != w || e->dev != dev || e->ino != ino || e->len != len || memcmp(e->path, path, len) != 0))
		e = e->by_path;
	return e;
}

static bool insert(struct link_watch *lw, struct watched *w, int wd, const char *path, size_t len, uint64_t dev,
		   uint64_t ino)
{
	struct link_entry *e = malloc(sizeof(*e) + len + 1), **at;

	if (e == NULL)
		return false;
	e->w = w;
	e->wd = wd;
	e->dev = dev;
	e->ino = ino;
	e->len = len;
	memcpy(e->path, path, len);
	e->path[len] = '\0';
	at = &lw->by_path[path_bucket(path, len)];
	e->by_path = *at;
	*at = e;
	at = &lw->by_wd[wd_bucket(wd)];
	e->by_wd = *at;
	*at = e;
	lw->n++;
	return true;
}

static bool has_wd(const struct link_watch *lw, int wd)
{
	const struct link_entry *e = lw->by_wd[wd_bucket(wd)];

	while (e != NULL && e->wd != wd)
		e = e->by_wd;
	return e != NULL;
}

/* With its last name a file's watch goes. */
static void drop(struct link_watch *lw, struct link_entry *e)
{
	struct link_entry **at = &lw->by_path[path_bucket(e->path, e->len)];
	int wd = e->wd;

	while (*at != e)
		at = &(*at)->by_path;
	*at = e->by_path;
	at = &lw->by_wd[wd_bucket(wd)];
	while (*at != e)
		at = &(*at)->by_wd;
	*at = e->by_wd;
	free(e);
	lw->n--;
	if (!has_wd(lw, wd))
		(void)inotify_rm_watch(lw->fd, wd); /* fails when the file is gone: unwatched all the same */
}

static bool collect(struct link_watch *lw, struct link_entry *e)
{
	if (lw->found.n == lw->found.cap) {
		size_t cap = lw->found.cap * 2 + 16;
		struct link_entry **more = realloc(lw->found.v, cap * sizeof(struct link_entry *));

		if (more == NULL) {
			log_error("out of memory for the files with names outside their source");
			return false;
		}
		lw->found.v = more;
		lw->found.cap = cap;
	}
	lw->found.v[lw->found.n++] = e;
	return true;
}

static void collect_wd(struct link_watch *lw, int wd)
{
	lw->found.n = 0;
	for (struct link_entry *e = lw->by_wd[wd_bucket(wd)]; e != NULL; e = e->by_wd)
		if (e->wd == wd && !collect(lw, e))
			return;
}

/* All of them with w NULL, all of a source's with path NULL. */
static void collect_below(struct link_watch *lw, const struct watched *w, const char *path, size_t len)
{
	lw->found.n = 0;
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct link_entry *e = lw->by_path[i]; e != NULL; e = e->by_path)
			if ((w == NULL || e->w == w) && (path == NULL || path_within(e->path, e->len, path, len)) &&
			    !collect(lw, e))
				return;
}

static void collect_path(struct link_watch *lw, const struct watched *w, const char *path, size_t len)
{
	lw->found.n = 0;
	for (struct link_entry *e = lw->by_path[path_bucket(path, len)]; e != NULL; e = e->by_path)
		if (e->w == w && e->len == len && memcmp(e->path, path, len) == 0 && !collect(lw, e))
			return;
}

/* ---- looking ---- */

/* The number of names that the file has, if this is one of them; else 0. */
static uint64_t names_of(const struct link_entry *e)
{
	struct looker l;
	struct stat st;
	enum look look;
	int rc;

	looker_init(&l, e->w->rq.root_fd);
	rc = looker_look(&l, e->path, e->len, &look, &st, NULL);
	looker_done(&l);
	return rc == 0 && look == LOOK_FILE && st.st_dev == e->dev && st.st_ino == e->ino ? st.st_nlink : 0;
}

/* Those that are names of their files no more. */
static void sweep(struct link_watch *lw)
{
	collect_below(lw, NULL, NULL, 0);
	for (size_t i = 0; i < lw->found.n; i++)
		if (names_of(lw->found.v[i]) < 2)
			drop(lw, lw->found.v[i]);
}

/* Names and number of names may have changed. A name that does not lead to the file goes when another one does: else
 * a rename that is not read yet may say where it went. When no name lies outside any more, the watch goes. */
static void prune(struct link_watch *lw, int wd)
{
	uint64_t inside = 0, all = 0;

	collect_wd(lw, wd);
	for (size_t i = 0; i < lw->found.n; i++) {
		uint64_t n = names_of(lw->found.v[i]);

		inside += n > 0;
		all = n > 0 ? n : all;
		if (n > 0 || lw->found.n == 1)
			lw->found.v[i] = NULL;
	}
	for (size_t i = 0; i < lw->found.n && inside > 0; i++)
		if (lw->found.v[i] != NULL)
			drop(lw, lw->found.v[i]);
	if (inside == 0 || inside < all)
		return;
	collect_wd(lw, wd);
	for (size_t i = 0; i < lw->found.n; i++)
		drop(lw, lw->found.v[i]);
}

/* ---- events ---- */

static void emit(const struct link_entry *e, enum change_kind kind)
{
	const struct change c = { .kind = kind, .path = e->path, .path_len = e->len, .time_ns = clock_mono_ns() };

	watch_emit(e->w, &c);
}

/* As the backends decide it for a file that is written by its name inside. */
static void tell(const struct link_entry *e, uint32_t mask)
{
	enum change_kind kind = (mask & IN_ATTRIB) ? CHANGE_TOUCH : inotify_mode_kind(&e->w->rq, mask);

	e->w->events++;
	if (kind != CHANGE_NONE)
		emit(e, kind);
}

static void handle(struct link_watch *lw, int wd, uint32_t mask)
{
	if (mask & IN_Q_OVERFLOW) {
		collect_below(lw, NULL, NULL, 0);
		for (size_t i = 0; i < lw->found.n; i++)
			tell(lw->found.v[i], IN_ATTRIB);
		return;
	}
	collect_wd(lw, wd);
	if (mask & (IN_IGNORED | IN_UNMOUNT)) {
		for (size_t i = 0; i < lw->found.n; i++)
			drop(lw, lw->found.v[i]);
		return;
	}
	for (size_t i = 0; i < lw->found.n; i++)
		tell(lw->found.v[i], mask);
	if (mask & IN_ATTRIB)
		prune(lw, wd);
}

int link_watch_drain(struct link_watch *lw, struct err *err)
{
	int left = 0;

	/* Under a steady stream the queue would never be empty. */
	if (lw->fd < 0 || ioctl(lw->fd, FIONREAD, &left) < 0)
		return 0;
	while (left > 0) {
		ssize_t n = read(lw->fd, lw->in, READ_SIZE);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : err_errno(err, errno, "reading inotify events");
		for (ssize_t at = 0; at + (ssize_t)sizeof(struct inotify_event) <= n;) {
			struct inotify_event e;

			memcpy(&e, lw->in + at, sizeof(e));
			handle(lw, e.wd, e.mask);
			at += (ssize_t)(sizeof(e) + e.len);
		}
		left -= (int)n;
	}
	return 0;
}

static void on_readable(void *ctx, int fd, unsigned events)
{
	struct link_watch *lw = ctx;
	struct err err = ERR_INIT;

	(void)fd;
	(void)events;
	if (link_watch_drain(lw, &err) == 0)
		return;
	log_error("%s", err.text);
	loop_fd_set(lw->fd_source, 0);
}

/* ---- names ---- */

static bool open_group(struct link_watch *lw)
{
	struct err err = ERR_INIT;

	if (lw->fd >= 0)
		return true;
	lw->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (lw->fd >= 0)
		lw->fd_source = loop_fd_add(lw->loop, lw->fd, LOOP_READ, on_readable, lw, &err);
	if (lw->fd_source != NULL)
		return true;
	if (lw->fd >= 0)
		(void)close(lw->fd);
	lw->fd = -1;
	return false;
}

/* Open the file without following anything, if it still is the one that was meant. */
static int open_file(const struct watched *w, const char *path, size_t len, uint64_t dev, uint64_t ino)
{
	char name[NAME_BYTES_MAX + 1];
	size_t base = path_base(path, len);
	struct stat st;
	int dir, fd;

	if (!path_name_valid(path + base, len - base))
		return -1;
	memcpy(name, path + base, len - base);
	name[len - base] = '\0';
	dir = look_open_dir(w->rq.root_fd, path, path_parent_len(path, len));
	if (dir < 0)
		return -1;
	fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	(void)close(dir);
	if (fd < 0)
		return -1;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink > 1 && st.st_dev == dev && st.st_ino == ino)
		return fd;
	(void)close(fd);
	return -1;
}

static void tell_limit(struct link_watch *lw, const struct watched *w, const char *why)
{
	if (!lw->limit_told)
		log_error("%s: it holds more files with names outside of it than can be watched: %s; what is written "
			  "through such a name is seen by the next comparison (reconcileInterval)",
			  w->rq.path, why);
	lw->limit_told = true;
}

static int watch_file(struct link_watch *lw, const struct watched *w, int file)
{
	char link[40];
	int wd;

	if (!open_group(lw)) {
		tell_limit(lw, w, "no inotify instance is left, see the sysctl fs.inotify.max_user_instances");
		return -1;
	}
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", file);
	wd = inotify_add_watch(lw->fd, link, IN_ATTRIB | IN_MASK_ADD | inotify_mode_mask(&w->rq));
	if (wd < 0 && errno == ENOSPC)
		tell_limit(lw, w, "no inotify watch is left, see the sysctl fs.inotify.max_user_watches");
	return wd;
}

void link_watch_add(struct link_watch *lw, struct watched *w, const char *path, size_t len, uint64_t dev, uint64_t ino)
{
	int file, wd;

	if (find(lw, w, path, len, dev, ino) != NULL)
		return;
	file = open_file(w, path, len, dev, ino);
	if (file < 0)
		return;
	if (lw->n >= NAMES_MAX && !lw->limit_told)
		sweep(lw);
	if (lw->n >= NAMES_MAX) {
		tell_limit(lw, w, "16384 is the limit");
		wd = -1;
	} else {
		wd = watch_file(lw, w, file);
	}
	(void)close(file);
	if (wd < 0)
		return;
	if (insert(lw, w, wd, path, len, dev, ino))
		emit(find(lw, w, path, len, dev, ino), CHANGE_TOUCH);
	else if (!has_wd(lw, wd))
		(void)inotify_rm_watch(lw->fd, wd);
}

/* The file gets the name that its rename gives it; the old one stays while it leads to the file: by an exchange, which
 * is two renames, there and back. */
static void follow_rename(struct link_watch *lw, struct link_entry *e, const struct change *c)
{
	buf_clear(&lw->path);
	(void)buf_add(&lw->path, c->path, c->path_len);
	if (!buf_add(&lw->path, e->path + c->old_len, e->len - c->old_len)) {
		lw->path.failed = false;
		return;
	}
	if (find(lw, e->w, lw->path.data, lw->path.len, e->dev, e->ino) == NULL)
		(void)insert(lw, e->w, e->wd, lw->path.data, lw->path.len, e->dev, e->ino);
	if (names_of(e) == 0)
		drop(lw, e);
}

void link_watch_follow(struct link_watch *lw, struct watched *w, const struct change *c)
{
	const char *from = c->kind == CHANGE_RENAME ? c->old_path : c->path;
	size_t len = c->kind == CHANGE_RENAME ? c->old_len : c->path_len;

	if (lw->n == 0 || (c->kind != CHANGE_RENAME && c->kind != CHANGE_DELETE))
		return;
	if (c->is_dir)
		collect_below(lw, w, from, len);
	else
		collect_path(lw, w, from, len);
	for (size_t i = 0; i < lw->found.n; i++)
		if (c->kind == CHANGE_RENAME)
			follow_rename(lw, lw->found.v[i], c);
		else if (names_of(lw->found.v[i]) == 0)
			drop(lw, lw->found.v[i]);
}

void link_watch_forget(struct link_watch *lw, const struct watched *w)
{
	if (lw->n == 0)
		return;
	collect_below(lw, w, NULL, 0);
	for (size_t i = 0; i < lw->found.n; i++)
		drop(lw, lw->found.v[i]);
}

void link_watch_hand_over(struct link_watch *lw, const struct watched *from, struct watched *to)
{
	if (lw->n == 0)
		return;
	collect_below(lw, from, NULL, 0);
	for (size_t i = 0; i < lw->found.n; i++) {
		struct link_entry *e = lw->found.v[i];
		int file;

		e->w = to;
		/* It may want to hear of more. */
		file = open_file(to, e->path, e->len, e->dev, e->ino);
		if (file >= 0) {
			(void)watch_file(lw, to, file);
			(void)close(file);
		}
	}
}

/* ---- life ---- */

struct link_watch *link_watch_new(struct loop *loop)
{
	struct link_watch *lw = calloc(1, sizeof(*lw));

	if (lw == NULL)
		return NULL;
	lw->loop = loop;
	lw->fd = -1;
	buf_init(&lw->path, PATH_BYTES_MAX);
	lw->in = malloc(READ_SIZE);
	if (lw->in == NULL) {
		free(lw);
		return NULL;
	}
	return lw;
}

void link_watch_free(struct link_watch *lw)
{
	if (lw == NULL)
		return;
	collect_below(lw, NULL, NULL, 0);
	for (size_t i = 0; i < lw->found.n; i++)
		drop(lw, lw->found.v[i]);
	loop_fd_remove(lw->fd_source);
	if (lw->fd >= 0)
		(void)close(lw->fd);
	free(lw->found.v);
	free(lw->in);
	buf_done(&lw->path);
	free(lw);
}
