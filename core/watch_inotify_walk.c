/*
 * watch_inotify_walk.c - the inotify backend's look at the file system: open directories beneath the source, watch
 * them, read them, and look again at those that may not be what the tree believes.
 *
 * Iterative throughout, and opens relative to parents, so that neither depth nor PATH_MAX is a limit.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/path.h"
#include "core/watch_inotify.h"

#define DENTS_SIZE 65536
/* One openat2 takes a path below PATH_MAX. */
#define CHUNK_MAX 4000
#define OPEN_DIR (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
#define OPEN_STEP (O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
/* How much is read ahead during a walk, so that the kernel's queue does not overflow. */
#define READ_AHEAD (16u << 20)

static struct ino_source *source_of(const struct wnode *n)
{
	return wnode_owner(n);
}

/* ---- lists ---- */

static void list(struct wvec *v, struct wnode *n, unsigned flag)
{
	if (n->flags & (flag | WNODE_DEAD))
		return;
	if (wvec_push(v, n))
		n->flags |= (uint16_t)flag;
	else
		ino_doubt(source_of(n), "out of memory");
}

void ino_suspect(struct ino *b, struct wnode *n)
{
	if (n->flags & WNODE_DEAD)
		return;
	n->flags |= WNODE_SUSPECT;
	list(&b->suspects, n, WNODE_HELD);
}

void ino_mark_moved(struct ino *b, struct wnode *n)
{
	list(&b->moved, n, WNODE_MOVED);
}

static void clear_list(struct wvec *v, unsigned flag)
{
	for (size_t i = 0; i < v->n; i++)
		v->v[i]->flags &= (uint16_t)~flag;
	v->n = 0;
}

/* ---- watch descriptors and counters ---- */

static uint64_t *problem_counter(struct ino_source *s, unsigned flags)
{
	return flags & WNODE_DENIED ? &s->denied : flags & WNODE_LIMITED ? &s->limited : &s->failed;
}

static void clear_problem(struct ino_source *s, struct wnode *n)
{
	if (n->flags & WNODE_UNWATCHED)
		(*problem_counter(s, n->flags))--;
	n->flags &= (uint16_t) ~(WNODE_UNWATCHED | WNODE_SKIPPED | WNODE_FOREIGN);
}

static void set_problem(struct ino_source *s, struct wnode *n, unsigned flag)
{
	clear_problem(s, n);
	n->flags |= (uint16_t)flag;
	(*problem_counter(s, flag))++;
}

void ino_unwatch(struct ino *b, struct wnode *n)
{
	int wd = n->wd;

	n->flags &= (uint16_t)~WNODE_SCANNED;
	if (wd < 0)
		return;
	source_of(n)->watches--;
	wtree_set_wd(&b->tree, n, -1);
	if (wtree_first(&b->tree, wd) != NULL)
		return;
	(void)inotify_rm_watch(b->fd, wd); /* fails when the directory is gone: it is unwatched then all the same */
	b->freed = true;
}

static void drop(void *ctx, struct wnode *n)
{
	struct ino *b = ctx;
	struct ino_source *s = source_of(n);

	ino_unwatch(b, n);
	clear_problem(s, n);
	if (n == s->swap_a || n == s->swap_b)
		s->swap_a = s->swap_b = NULL;
}

static void cache_clear(struct ino *b)
{
	for (size_t i = 0; i < INO_FDS; i++)
		if (b->fds[i].n != NULL) {
			(void)close(b->fds[i].fd);
			b->fds[i].n = NULL;
		}
}

void ino_forget(struct ino *b, struct wnode *n)
{
	cache_clear(b);
	wtree_remove(&b->tree, n, drop, b);
}

/* The kernel's watch of that directory is `wd`; the same inode may be elsewhere in the tree too. */
static void adopt(struct ino *b, struct ino_source *s, struct wnode *n, int wd)
{
	bool twice = false;

	list(&b->fresh, n, WNODE_FRESH);
	if (n->wd == wd)
		return;
	ino_unwatch(b, n);
	for (struct wnode *o = wtree_first(&b->tree, wd); o != NULL; o = wtree_more(o))
		if (source_of(o) == s) {
			ino_suspect(b, o);
			twice = true;
		}
	wtree_set_wd(&b->tree, n, wd);
	s->watches++;
	if (twice)
		ino_suspect(b, n);
}

/* ---- opening ---- */

static void cache_put(struct ino *b, const struct wnode *n, int fd)
{
	size_t oldest = 0;

	for (size_t i = 0; i < INO_FDS; i++) {
		if (b->fds[i].n == NULL) {
			oldest = i;
			break;
		}
		if (b->fds[i].used < b->fds[oldest].used)
			oldest = i;
	}
	if (b->fds[oldest].n != NULL)
		(void)close(b->fds[oldest].fd);
	b->fds[oldest].n = n;
	b->fds[oldest].fd = fd;
	b->fds[oldest].used = ++b->fd_clock;
}

static int cache_get(struct ino *b, const struct wnode *n)
{
	for (size_t i = 0; i < INO_FDS; i++)
		if (b->fds[i].n == n) {
			b->fds[i].used = ++b->fd_clock;
			return b->fds[i].fd;
		}
	return -1;
}

/* `path` is NUL-terminated; where there is no openat2 it is one name. */
static int open_step(struct ino *b, int at, const char *path, int flags)
{
	struct open_how how = { .flags = (unsigned)flags,
				.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS };

	if (b->no_openat2)
		return openat(at, path, flags | O_CLOEXEC);
	return (int)syscall(SYS_openat2, at, path, &how, sizeof(how));
}

/* Length of the part of the path that one step opens. */
static size_t step_len(const struct ino *b, const char *p, size_t len)
{
	const char *slash;

	if (b->no_openat2)
		slash = memchr(p, '/', len);
	else
		slash = len <= CHUNK_MAX ? NULL : memrchr(p, '/', CHUNK_MAX);
	return slash == NULL ? len : (size_t)(slash - p);
}

static int open_path(struct ino *b, int root, char *p, size_t len)
{
	int at = root, fd;

	for (;;) {
		size_t n = step_len(b, p, len);
		char kept = p[n];

		p[n] = '\0';
		fd = open_step(b, at, p, n == len ? OPEN_DIR : OPEN_STEP);
		p[n] = kept;
		if (at != root) {
			int saved = errno;

			(void)close(at);
			errno = saved;
		}
		if (fd < 0 || n == len)
			return fd;
		at = fd;
		p += n + 1;
		len -= n + 1;
	}
}

static int open_from_root(struct ino *b, struct ino_source *s, const struct wnode *n)
{
	int fd;

	buf_clear(&b->path2);
	if (!wnode_path(n, &b->path2)) {
		errno = ENOMEM;
		return -1;
	}
	(void)buf_str(&b->path2);
	fd = open_path(b, s->w->rq.root_fd, b->path2.data, b->path2.len);
	if (fd < 0 && !b->no_openat2 && (errno == ENOSYS || errno == EPERM)) {
		b->no_openat2 = true; /* an old kernel, or a container that refuses what it doesn't know */
		fd = open_path(b, s->w->rq.root_fd, b->path2.data, b->path2.len);
	}
	return fd;
}

static int open_node(struct ino *b, struct ino_source *s, const struct wnode *n)
{
	char name[NAME_BYTES_MAX + 1];
	int at;

	if (n->parent == NULL)
		return openat(s->w->rq.root_fd, ".", OPEN_DIR | O_CLOEXEC);
	at = cache_get(b, n->parent);
	if (at < 0)
		return open_from_root(b, s, n);
	memcpy(name, wnode_name(n), n->len);
	name[n->len] = '\0';
	return openat(at, name, OPEN_DIR | O_CLOEXEC);
}

/* IN_MASK_ADD: overlapping sources share one watch. The descriptor's magic link must be followed; that what it leads to
 * is a directory and no symlink was decided when it was opened. */
static int add_watch(struct ino *b, struct ino_source *s, const struct wnode *n, int fd)
{
	char link[40];
	uint32_t mask = s->mask | IN_MASK_ADD | IN_ONLYDIR | IN_EXCL_UNLINK;

	if (n->parent == NULL)
		mask |= IN_DELETE_SELF | IN_MOVE_SELF;
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	return inotify_add_watch(b->fd, link, mask);
}

static bool is_gone(int errnum)
{
	return errnum == ENOENT || errnum == ENOTDIR || errnum == ELOOP || errnum == ESTALE;
}

/* ---- reading ---- */

static bool entry_is_dir(int fd, const struct dirent64 *d)
{
	struct stat st;

	if (d->d_type != DT_UNKNOWN)
		return d->d_type == DT_DIR;
	/* What can't be looked at may be a directory: opening it tells. */
	if (fstatat(fd, d->d_name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0)
		return !is_gone(errno);
	return S_ISDIR(st.st_mode);
}

static void found_dir(struct ino *b, struct ino_source *s, struct wnode *n, const char *name, size_t len)
{
	struct wnode *kid = wtree_find(&b->tree, n, name, len);

	if (kid == NULL)
		kid = wtree_add(&b->tree, n, name, len);
	if (kid == NULL || !wvec_push(&b->stack, kid)) {
		if (kid != NULL)
			kid->flags |= WNODE_SEEN;
		if ((n->flags & WNODE_UNWATCHED) == 0)
			set_problem(s, n, WNODE_FAILED); /* out of memory: the retry reads it again */
		return;
	}
	kid->flags |= WNODE_SEEN;
}

static void found(struct ino *b, struct ino_source *s, struct wnode *n, int fd, const struct dirent64 *d,
		  enum ino_walk how)
{
	size_t len = strlen(d->d_name);
	bool is_dir;

	if (!path_name_valid(d->d_name, len))
		return;
	is_dir = entry_is_dir(fd, d);
	if (how == INO_FOUND) {
		ino_emit(b, n, d->d_name, len, CHANGE_CREATE, is_dir);
		if (!is_dir)
			ino_emit(b, n, d->d_name, len, CHANGE_TOUCH, false);
	}
	if (is_dir)
		found_dir(b, s, n, d->d_name, len);
}

/* Children that the directory does not have any more. */
static void sweep(struct ino *b, struct wnode *n)
{
	for (struct wnode *k = n->kids, *next; k != NULL; k = next) {
		next = k->next;
		if (k->flags & WNODE_SEEN)
			k->flags &= (uint16_t)~WNODE_SEEN;
		else
			ino_forget(b, k);
	}
}

static void read_dir(struct ino *b, struct ino_source *s, struct wnode *n, int fd, enum ino_walk how)
{
	ssize_t got;

	while ((got = getdents64(fd, b->dents, DENTS_SIZE)) > 0)
		for (ssize_t at = 0; at < got;) {
			struct dirent64 *d = (void *)(b->dents + at);

			found(b, s, n, fd, d, how);
			at += d->d_reclen;
		}
	if (got < 0 && !is_gone(errno) && (n->flags & WNODE_UNWATCHED) == 0)
		set_problem(s, n, WNODE_FAILED);
}

/* ---- the walk ---- */

static bool skipped(struct ino *b, struct ino_source *s, const struct wnode *n)
{
	if (n->parent == NULL)
		return false;
	buf_clear(&b->path2);
	if (!wnode_path(n, &b->path2))
		return false;
	if (b->path2.len > PATH_BYTES_MAX) { /* no record could name what is below */
		s->too_deep = true;
		return true;
	}
	return s->w->rq.skip_dir != NULL && s->w->rq.skip_dir(s->w->rq.skip_ctx, b->path2.data, b->path2.len);
}

/* Known, but neither watched nor read. */
static void leave_out(struct ino *b, struct ino_source *s, struct wnode *n, unsigned flag)
{
	while (n->kids != NULL)
		ino_forget(b, n->kids);
	ino_unwatch(b, n);
	clear_problem(s, n);
	n->flags |= (uint16_t)flag;
}

static void not_opened(struct ino *b, struct ino_source *s, struct wnode *n, int errnum)
{
	if (is_gone(errnum) && n->parent != NULL)
		ino_suspect(b, n);
	else if (n->wd < 0)
		set_problem(s, n, errnum == EACCES || errnum == EPERM ? WNODE_DENIED : WNODE_FAILED);
}

/* Returns whether the directory is to be read. */
static bool watch_node(struct ino *b, struct ino_source *s, struct wnode *n, int fd)
{
	struct stat st;
	int wd;

	if (s->w->rq.one_file_system && (fstat(fd, &st) < 0 || (uint64_t)st.st_dev != s->w->root_dev)) {
		leave_out(b, s, n, WNODE_FOREIGN);
		return false;
	}
	if (b->limit_hit && n->wd < 0) {
		set_problem(s, n, WNODE_LIMITED);
		return true; /* read, to say how many watches are needed */
	}
	wd = add_watch(b, s, n, fd);
	if (wd >= 0) {
		adopt(b, s, n, wd);
		n->flags |= WNODE_SCANNED;
		return true;
	}
	if (errno == ENOSPC) {
		b->limit_hit = true;
		ino_unwatch(b, n);
		set_problem(s, n, WNODE_LIMITED);
		return true;
	}
	not_opened(b, s, n, errno);
	return false;
}

static void visit(struct ino *b, struct ino_source *s, struct wnode *n, enum ino_walk how)
{
	int fd;

	if (n->flags & WNODE_DEAD)
		return;
	clear_problem(s, n);
	if (skipped(b, s, n)) {
		leave_out(b, s, n, WNODE_SKIPPED);
		return;
	}
	fd = open_node(b, s, n);
	if (fd < 0) {
		not_opened(b, s, n, errno);
		return;
	}
	if (watch_node(b, s, n, fd)) {
		read_dir(b, s, n, fd, how);
		sweep(b, n);
	}
	if (n->kids != NULL)
		cache_put(b, n, fd);
	else
		(void)close(fd);
}

void ino_walk(struct ino *b, struct wnode *top, enum ino_walk how)
{
	struct ino_source *s = source_of(top);
	unsigned done = 0;

	b->limit_hit = false;
	b->stack.n = 0;
	if (!wvec_push(&b->stack, top)) {
		ino_doubt(s, "out of memory");
		return;
	}
	while (b->stack.n > 0) {
		visit(b, s, b->stack.v[--b->stack.n], how);
		if (++done % 256 == 0)
			(void)ino_fill(b, READ_AHEAD);
	}
	cache_clear(b);
}

/* ---- looking again ---- */

/* A rename shows in the file system before its events are queued, but the kernel holds the locks of both parents until
 * they are: to read each directory on the way waits for it. */
static void wait_for_renames(struct ino *b, struct ino_source *s, const struct wnode *n)
{
	int at = openat(s->w->rq.root_fd, ".", OPEN_DIR | O_CLOEXEC);
	char *p;
	size_t left;

	buf_clear(&b->path2);
	left = wnode_path(n, &b->path2) ? b->path2.len : 0;
	(void)buf_str(&b->path2);
	p = b->path2.data;
	while (at >= 0) {
		size_t len = left > 0 ? strcspn(p, "/") : 0;
		int next = -1;

		if (len > 0) {
			p[len] = '\0';
			next = openat(at, p, OPEN_DIR | O_CLOEXEC);
			left -= len < left ? len + 1 : len;
			p += len + 1;
		}
		(void)getdents64(at, b->dents, DENTS_SIZE);
		(void)close(at);
		at = next;
	}
}

/* Gone, or not what stood there: forget it. The record makes up for whatever was said of it under a wrong name. */
static void disprove(struct ino *b, struct wnode *n)
{
	if ((n->flags & WNODE_GUESS) == 0)
		ino_emit_reconcile(b, n, NULL, 0, "changed while it was looked at");
	ino_forget(b, n);
}

/* Returns false when nothing can be said yet: it is not there, but a rename that was queued meanwhile may say where. */
static bool look_again(struct ino *b, struct ino_source *s, struct wnode *n)
{
	const char *cause = n->flags & WNODE_MOUNT ? "mounted or unmounted" : "changed while it was looked at";
	bool scanned = (n->flags & WNODE_SCANNED) != 0;
	int fd = open_node(b, s, n), wd, errnum = errno;

	if (fd < 0 && is_gone(errnum)) {
		wait_for_renames(b, s, n);
		if (ino_queued(b) > 0)
			return false;
		disprove(b, n);
		return true;
	}
	wd = fd < 0 ? -1 : add_watch(b, s, n, fd);
	if (fd >= 0)
		(void)close(fd);
	if (wd >= 0 && wd == n->wd && scanned && (n->flags & WNODE_MOUNT) == 0) {
		list(&b->fresh, n, WNODE_FRESH);
		return true;
	}
	if (wd >= 0)
		adopt(b, s, n, wd);
	else
		ino_unwatch(b, n);
	n->flags &= (uint16_t) ~(WNODE_MOUNT | WNODE_SUSPECT | WNODE_GUESS);
	ino_emit_reconcile(b, n, NULL, 0, cause);
	ino_walk(b, n, INO_SILENT);
	return true;
}

/* A directory can be right only below a parent that is. */
static struct wnode *topmost_suspect(struct wnode *n)
{
	struct wnode *top = n;

	for (struct wnode *p = n; p != NULL; p = p->parent)
		if (p->flags & WNODE_SUSPECT)
			top = p;
	return top;
}

#define VERIFY_TRIES 64

static void verify(struct ino *b, struct wnode *n)
{
	for (unsigned i = 0; i < VERIFY_TRIES && (n->flags & WNODE_SUSPECT) && !(n->flags & WNODE_DEAD); i++) {
		struct wnode *top = topmost_suspect(n);
		bool left_out = (top->flags & (WNODE_SKIPPED | WNODE_FOREIGN)) && (top->flags & WNODE_MOUNT) == 0;

		top->flags &= (uint16_t)~WNODE_SUSPECT;
		if (top->parent == NULL) {
			ino_check_root(source_of(top));
		} else if (!left_out && !look_again(b, source_of(top), top)) {
			ino_suspect(b, top);
			return;
		}
	}
}

static bool below_moved(const struct wnode *n)
{
	while (n != NULL && (n->flags & WNODE_MOVED) == 0)
		n = n->parent;
	return n != NULL;
}

bool ino_settle(struct ino *b)
{
	struct wvec todo;

	if (b->moved.n > 0)
		for (size_t i = 0; i < b->fresh.n; i++)
			if (below_moved(b->fresh.v[i]))
				ino_suspect(b, b->fresh.v[i]);
	clear_list(&b->moved, WNODE_MOVED);
	clear_list(&b->fresh, WNODE_FRESH);
	if (b->suspects.n == 0)
		return false;
	/* Held ones are not freed, and not listed again, until this round is over. */
	todo = b->suspects;
	b->suspects = (struct wvec){ 0 };
	for (size_t i = 0; i < todo.n; i++)
		verify(b, todo.v[i]);
	for (size_t i = 0; i < todo.n; i++) {
		todo.v[i]->flags &= (uint16_t)~WNODE_HELD;
		if (todo.v[i]->flags & WNODE_SUSPECT)
			ino_suspect(b, todo.v[i]);
	}
	wvec_done(&todo);
	return true;
}

/* ---- trying again ---- */

static void retry(struct ino *b, struct wnode *n)
{
	ino_walk(b, n, INO_SILENT);
	if (n->wd >= 0 && (n->flags & WNODE_UNWATCHED) == 0)
		ino_emit_reconcile(b, n, NULL, 0, "could not be watched before");
}

void ino_retry_unwatched(struct ino *b, struct ino_source *s, unsigned kinds)
{
	b->limit_hit = false;
	for (struct wnode *n = s->root; n != NULL && !b->limit_hit; n = wnode_next(n, s->root))
		if (n->flags & kinds)
			retry(b, n);
}

void ino_retry_denied(struct ino *b, struct wnode *n)
{
	if (n->flags & WNODE_UNWATCHED) {
		retry(b, n);
		return;
	}
	for (struct wnode *k = n->kids; k != NULL; k = k->next)
		if (k->flags & WNODE_DENIED)
			retry(b, k);
}

void ino_refilter(struct ino *b, struct wnode *top)
{
	struct ino_source *s = source_of(top);

	if (s->w->rq.skip_dir == NULL && !s->too_deep)
		return;
	for (struct wnode *n = top; n != NULL; n = wnode_next(n, top)) {
		bool was = (n->flags & WNODE_SKIPPED) != 0, is = skipped(b, s, n);

		if (is && !was) {
			leave_out(b, s, n, WNODE_SKIPPED);
		} else if (was && !is) {
			ino_emit_reconcile(b, n, NULL, 0, "no longer excluded");
			ino_walk(b, n, INO_SILENT);
		}
	}
}
