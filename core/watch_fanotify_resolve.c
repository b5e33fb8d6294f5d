/*
 * watch_fanotify_resolve.c - which directory a handle stands for.
 *
 * It is opened by its handle and followed upwards, by "..", to a directory that the cache knows or to the top. So
 * nothing depends on a path that may change meanwhile; only the names of the steps are read from the path, once before
 * and once after, until both agree.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/path.h"
#include "core/watch_fanotify.h"

#define TRIES 16
#define STEPS_MAX ((size_t)PATH_BYTES_MAX / 2)
#define HERE (O_PATH | O_DIRECTORY)
/* Of the root of every btrfs subvolume, and of nothing else there. */
#define SUBVOLUME_INO 256

union handle {
	struct file_handle h;
	char room[sizeof(struct file_handle) + FAN_HANDLE_MAX];
};

struct steps {
	struct fan_key *list;
	size_t n, cap;
	struct fan_node *found; /* what the last step hangs below; NULL: at the top */
	bool denied;
};

bool fan_key_of_fd(int fd, struct fan_key *k, int *mnt_id)
{
	union handle u;

	u.h.handle_bytes = FAN_HANDLE_MAX - 4;
	if (name_to_handle_at(fd, "", &u.h, mnt_id, AT_EMPTY_PATH) < 0)
		return false;
	k->len = 4 + u.h.handle_bytes;
	memcpy(k->bytes, &u.h.handle_type, 4);
	memcpy(k->bytes + 4, u.h.f_handle, u.h.handle_bytes);
	return true;
}

int fan_view_open(struct fan_view *v, bool *temporary)
{
	struct fan_key k;
	int fd, mnt_id;

	*temporary = v->fd < 0;
	if (v->fd >= 0)
		return v->fd;
	fd = open(v->point, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 && fan_key_of_fd(fd, &k, &mnt_id) && mnt_id == v->mnt_id)
		return fd;
	if (fd >= 0)
		(void)close(fd);
	return -1;
}

static int open_handle(struct fan *b, struct fan_view *v, const struct fan_key *k)
{
	union handle u;
	bool temporary;
	int mount = fan_view_open(v, &temporary), fd, e;

	if (mount < 0) {
		/* Perhaps a directory above the mount point has another name now. */
		fan_refresh_points(b);
		mount = fan_view_open(v, &temporary);
	}
	if (mount < 0) {
		errno = ESTALE;
		return -1;
	}
	u.h.handle_bytes = k->len - 4;
	memcpy(&u.h.handle_type, k->bytes, 4);
	memcpy(u.h.f_handle, k->bytes + 4, k->len - 4);
	fd = open_by_handle_at(mount, &u.h, HERE | O_CLOEXEC);
	/* ENOMEM is also what ext4 says of an inode that is just being deleted; for want of memory it stays. */
	for (int i = 0; i < TRIES && fd < 0 && (errno == ENOMEM || errno == EINTR); i++)
		fd = open_by_handle_at(mount, &u.h, HERE | O_CLOEXEC);
	e = errno;
	if (temporary)
		(void)close(mount);
	errno = e;
	return fd;
}

static struct fan_view *view_of_mount(struct fan *b, int mnt_id)
{
	struct fan_view *v = b->views;

	while (v != NULL && v->mnt_id != mnt_id && v->private_mnt_id != mnt_id)
		v = v->next;
	return v;
}

static bool push(struct steps *s, const struct fan_key *k)
{
	if (s->n == s->cap) {
		size_t cap = s->cap * 2 + 16;
		struct fan_key *more = s->n < STEPS_MAX ? realloc(s->list, cap * sizeof(*more)) : NULL;

		if (more == NULL)
			return false;
		s->list = more;
		s->cap = cap;
	}
	s->list[s->n++] = *k;
	return true;
}

/* A bind mount shows a part of its file system; handles open the rest too, but from there no way leads up. */
static bool is_cut_off(int errnum)
{
	return errnum == ENOENT;
}

/* Follow `fd` (taken over) upwards from the step in hand. False: could not. */
static bool climb(struct fan *b, int fd, const struct fan_key *k, struct steps *s)
{
	struct fan_key cur = *k, up;
	struct fan_view *v;
	int parent, mnt_id;

	s->n = 0;
	s->found = NULL;
	s->denied = false;
	while (push(s, &cur)) {
		parent = openat(fd, "..", HERE | O_CLOEXEC);
		s->denied = parent < 0 && is_cut_off(errno);
		(void)close(fd);
		fd = parent;
		if (s->denied)
			return true;
		if (fd < 0 || !fan_key_of_fd(fd, &up, &mnt_id))
			break;
		v = view_of_mount(b, mnt_id);
		up.view = v != NULL ? v->id : 0;
		s->denied = v == NULL ||
			    (up.view == cur.view && up.len == cur.len && memcmp(up.bytes, cur.bytes, up.len) == 0);
		if (!s->denied)
			s->found = fan_cache_find(b->cache, &up);
		if (s->found != NULL && fan_node_denied(s->found)) {
			s->denied = true;
			s->found = NULL;
		}
		if (s->denied || s->found != NULL) {
			(void)close(fd);
			return true;
		}
		cur = up;
	}
	if (fd >= 0)
		(void)close(fd);
	return false;
}

static ssize_t path_of_fd(int fd, char *out, size_t size)
{
	char link[64];
	ssize_t n;

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, out, size);
	if (n == (ssize_t)size) {
		errno = ENAMETOOLONG;
		return -1;
	}
	return n;
}

/* Enter the steps below what was found, topmost first; their names are the last ones of the path. */
static struct fan_node *enter(struct fan *b, const struct steps *s, const char *path, size_t len)
{
	struct fan_node *n = s->found;
	size_t at = len;

	for (size_t i = 0; i < s->n; i++) {
		at = path_base(path, at);
		if (at == 0)
			return NULL;
		at--;
	}
	for (size_t i = s->n; i > 0 && n != NULL; i--) {
		size_t from = at + 1;

		at = from;
		while (at < len && path[at] != '/')
			at++;
		n = at > from ? fan_cache_add(b->cache, &s->list[i - 1], n, path + from, at - from) : NULL;
	}
	return n;
}

/* One try. FAN_UNSURE: something moved meanwhile. */
static enum fan_found look(struct fan *b, int fd, const struct fan_key *k, struct steps *s, struct fan_node **node)
{
	static const size_t size = PATH_MAX;
	enum fan_found r = FAN_UNSURE;
	char *before = malloc(size), *after = malloc(size);
	struct stat st;
	ssize_t n;
	int mine = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (before == NULL || after == NULL || mine < 0) {
		if (mine >= 0)
			(void)close(mine);
		free(before);
		free(after);
		return FAN_UNSURE;
	}
	n = path_of_fd(fd, before, size);
	if (fstat(fd, &st) == 0 && st.st_nlink == 0) {
		(void)close(mine);
		r = FAN_VANISHED;
	} else if (n < 0 && errno == ENAMETOOLONG) {
		(void)close(mine);
		r = FAN_ABOVE;
	} else if (climb(b, mine, k, s) && n > 0) {
		if (s->denied) {
			for (size_t i = 0; i < s->n; i++)
				(void)fan_cache_deny(b->cache, &s->list[i]);
			r = FAN_NOT_OURS;
		} else if (path_of_fd(fd, after, size) == n && memcmp(before, after, (size_t)n) == 0) {
			*node = enter(b, s, before, (size_t)n);
			r = *node != NULL ? FAN_OURS : FAN_UNSURE;
		}
	}
	free(before);
	free(after);
	return r;
}

/* The next directory up in place of `*fd`, for one whose path is too long. */
static bool step_up(struct fan *b, int *fd, struct fan_key *k)
{
	int up = openat(*fd, "..", HERE | O_CLOEXEC), mnt_id, e = errno;
	struct fan_view *v;

	(void)close(*fd);
	*fd = up;
	errno = e;
	if (up < 0 || !fan_key_of_fd(up, k, &mnt_id))
		return false;
	v = view_of_mount(b, mnt_id);
	k->view = v != NULL ? v->id : 0;
	return v != NULL;
}

/* Most of what is not ours lies in a directory of which that is known: no more than one step up is needed then. */
static bool is_denied_above(struct fan *b, int fd, const struct fan_key *k)
{
	int up = openat(fd, "..", HERE | O_CLOEXEC), mnt_id;
	const struct fan_node *n = NULL;
	const struct fan_view *v;
	struct fan_key parent;

	if (up < 0)
		return is_cut_off(errno) && fan_cache_deny(b->cache, k);
	if (fan_key_of_fd(up, &parent, &mnt_id) && (v = view_of_mount(b, mnt_id)) != NULL) {
		parent.view = v->id;
		n = fan_cache_find(b->cache, &parent);
	}
	(void)close(up);
	return n != NULL && fan_node_denied(n) && fan_cache_deny(b->cache, k);
}

static enum fan_found find_out(struct fan *b, int fd, const struct fan_key *key, struct fan_node **node)
{
	enum fan_found r = FAN_UNSURE;
	struct steps s = { 0 };
	struct fan_key k = *key;
	bool above = false;

	for (int i = 0; i < TRIES && r == FAN_UNSURE && fd >= 0; i++) {
		r = look(b, fd, &k, &s, node);
		while (r == FAN_ABOVE) {
			struct fan_node *n;

			above = true;
			r = FAN_UNSURE;
			if (!step_up(b, &fd, &k)) {
				if (fd < 0 && is_cut_off(errno))
					r = FAN_NOT_OURS;
				break;
			}
			n = fan_cache_find(b->cache, &k);
			*node = n;
			r = n != NULL ? (fan_node_denied(n) ? FAN_NOT_OURS : FAN_OURS) : look(b, fd, &k, &s, node);
		}
	}
	if (fd >= 0)
		(void)close(fd);
	free(s.list);
	return above && r == FAN_OURS ? FAN_ABOVE : r;
}

/* Whether a handle that was not opened may be that of a directory all the same. */
static bool is_no_answer(int errnum)
{
	return errnum == EMFILE || errnum == ENFILE || errnum == ENOMEM || errnum == EINTR || errnum == EPERM ||
	       errnum == EACCES || errnum == EIO;
}

enum fan_found fan_resolve(struct fan *b, struct fan_view *v, const struct fan_key *k, struct fan_node **node)
{
	struct fan_node *n = fan_cache_find(b->cache, k);
	int fd;

	*node = n;
	if (n != NULL)
		return fan_node_denied(n) ? FAN_NOT_OURS : FAN_OURS;
	fd = open_handle(b, v, k);
	if (fd < 0 && is_no_answer(errno)) {
		b->lost_errnum = errno;
		return FAN_UNSURE;
	}
	if (fd < 0)
		return FAN_VANISHED;
	if (is_denied_above(b, fd, k)) {
		(void)close(fd);
		return FAN_NOT_OURS;
	}
	return find_out(b, fd, k, node);
}

bool fan_came_filled(struct fan *b, uint32_t view, const struct fan_key *dir, const char *name)
{
	struct fan_view *v = b->views;
	struct stat st;
	int fd;
	bool filled;

	while (v != NULL && v->id != view)
		v = v->next;
	fd = v == NULL ? -1 : open_handle(b, v, dir);
	if (fd < 0)
		return true;
	filled = fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0 || st.st_ino == SUBVOLUME_INO;
	(void)close(fd);
	return filled;
}

void fan_place_roots(struct fan *b)
{
	for (struct fan_source *s = b->sources; s != NULL; s = s->next) {
		struct fan_node *n;
		int fd;

		if (s->root == NULL || !fan_node_loose(s->root))
			continue;
		fan_node_placed(s->root);
		/* Only another source can hold this one. */
		if (b->sources->next == NULL || s->gone)
			continue;
		fd = openat(s->w->rq.root_fd, ".", HERE | O_CLOEXEC);
		if (fd >= 0)
			(void)find_out(b, fd, &s->root_key, &n);
	}
}
