#include "core/safe_open.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* As the kernel has them. */
#define LINKS_MAX 40u
#define REST_MAX 8192u

struct walk {
	const char *path; /* for messages */
	int at;		  /* where we are, O_PATH */
	unsigned links;
	struct err *err;
	char rest[REST_MAX]; /* what is left of the way */
};

static int fail(const struct walk *w, int code)
{
	return err_errno(w->err, code, "cannot open %s", w->path);
}

static int go_to(struct walk *w, int fd)
{
	if (fd < 0)
		return fail(w, errno);
	if (w->at >= 0)
		(void)close(w->at);
	w->at = fd;
	return 0;
}

/* The way on leads through the symlink's text. */
static int enter_link(struct walk *w, int fd, const char *rest)
{
	char text[REST_MAX];
	ssize_t n = readlinkat(fd, "", text, sizeof(text) / 2);
	size_t len = strlen(rest);

	if (n < 0)
		return fail(w, errno);
	if (++w->links > LINKS_MAX)
		return fail(w, ELOOP);
	if ((size_t)n + len + 2 > sizeof(text))
		return fail(w, ENAMETOOLONG);
	text[n] = '/';
	memcpy(text + n + 1, rest, len + 1);
	if (len == 0)
		text[n] = '\0';
	memcpy(w->rest, text, strlen(text) + 1);
	return text[0] == '/' ? go_to(w, open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)) : 0;
}

/* /proc/self/fd/1 leads to a pipe that has no name. */
static bool is_magic(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC;
}

static bool is_strange(const struct stat *st)
{
	return st->st_uid != 0 && st->st_uid != geteuid();
}

/* `fd` is a symlink at `name`, which is closed. 1: it was followed; 0: it is of the kernel's, to be opened as it is. */
static int follow(struct walk *w, int fd, const struct stat *st, const char *rest)
{
	int rc;

	if (is_magic(fd)) {
		(void)close(fd);
		return 0;
	}
	rc = !is_strange(st) ? enter_link(w, fd, rest)
			     : err_set(w->err, ERR_UNSAFE,
				       "%s leads through a symlink of the user with the id %lu: it is not followed, "
				       "since it may lead "
				       "anywhere; remove it, or chown -h it to root",
				       w->path, (unsigned long)st->st_uid);
	(void)close(fd);
	return rc < 0 ? -1 : 1;
}

/* The first component of the rest is taken off it; NULL: there is none. */
static const char *take(struct walk *w, char name[256], bool *last)
{
	char *p = w->rest + strspn(w->rest, "/");
	size_t n = strcspn(p, "/");
	char *more = p + n + strspn(p + n, "/");

	if (n == 0 || n > 255)
		return NULL;
	memcpy(name, p, n);
	name[n] = '\0';
	*last = *more == '\0' && p[n] == '\0';
	return more;
}

/* One step along a directory or symlink. 0, -1. */
static int step(struct walk *w, const char *name, const char *rest)
{
	int fd = openat(w->at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC), followed = 0;
	char left[REST_MAX];
	struct stat st;

	if (fd < 0)
		return fail(w, errno);
	(void)snprintf(left, sizeof(left), "%s", rest);
	if (fstat(fd, &st) < 0) {
		(void)close(fd);
		return fail(w, errno);
	}
	if (S_ISLNK(st.st_mode)) {
		followed = follow(w, fd, &st, left);
		if (followed != 0)
			return followed < 0 ? -1 : 0;
		fd = openat(w->at, name, O_PATH | O_CLOEXEC);
	}
	memcpy(w->rest, left, strlen(left) + 1);
	return go_to(w, fd);
}

static int start(struct walk *w, const char *path, struct err *err)
{
	w->path = path;
	w->at = -1;
	w->links = 0;
	w->err = err;
	w->rest[0] = '\0';
	if (strlen(path) >= sizeof(w->rest))
		return fail(w, ENAMETOOLONG);
	memcpy(w->rest, path, strlen(path) + 1);
	return go_to(w, open(path[0] == '/' ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC));
}

/* Down to the directory of the last component, which is left in `name`. */
static int descend(struct walk *w, char name[256])
{
	for (;;) {
		bool last;
		const char *more = take(w, name, &last);

		if (more == NULL)
			return fail(w, w->rest[0] == '\0' ? EISDIR : ENAMETOOLONG);
		if (last)
			return 0;
		if (step(w, name, more) < 0)
			return -1;
	}
}

int safe_open_parent(const char *path, const char **name, struct err *err)
{
	const char *slash = strrchr(path, '/'), *last = slash == NULL ? path : slash + 1;
	char text[256];
	struct walk w;
	size_t cut;

	if (last[0] == '\0' || strcmp(last, ".") == 0 || strcmp(last, "..") == 0)
		return err_set(err, ERR_CONFIG, "%s does not name a file", path);
	if (start(&w, path, err) < 0)
		return -1;
	/* Only what is above it: a symlink there as the last component of its own does not count. */
	cut = (size_t)(last - path);
	w.rest[cut] = '.';
	w.rest[cut + 1] = '\0';
	if (descend(&w, text) < 0) {
		if (w.at >= 0)
			(void)close(w.at);
		return -1;
	}
	*name = last;
	return w.at;
}

/* ---- what it is ---- */

static bool is_shared(int dir_fd)
{
	struct stat st;

	return fstat(dir_fd, &st) < 0 || is_strange(&st) || (st.st_mode & 022) != 0;
}

/* Closes fd when it is not to be used. */
static int check_opened(const struct walk *w, int fd, int flags)
{
	struct stat st;
	int rc = 0;

	if (fstat(fd, &st) < 0)
		rc = fail(w, errno);
	else if (S_ISREG(st.st_mode) && st.st_nlink > 1 && is_shared(w->at))
		rc = err_set(
			w->err, ERR_UNSAFE,
			"%s has other names, and others may write to its directory: it may be somebody else's file; "
			"remove it",
			w->path);
	else if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode) && is_strange(&st) && is_shared(w->at))
		rc = err_set(w->err, ERR_UNSAFE, "%s is no file, but something that another user made; remove it",
			     w->path);
	else if (fcntl(fd, F_SETFL, flags & (O_APPEND | O_NONBLOCK)) < 0)
		rc = fail(w, errno);
	if (rc == 0)
		return fd;
	(void)close(fd);
	return -1;
}

/* What stands at the name is a symlink, or so it seems: where it leads to is left in `name`. 1: there; 0: it is of the
 * kernel's. */
static int follow_last(struct walk *w, char name[256], int code)
{
	int fd = openat(w->at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC), followed;
	struct stat st;

	if (fd < 0)
		return fail(w, errno);
	if (fstat(fd, &st) < 0 || !S_ISLNK(st.st_mode)) {
		(void)close(fd);
		return fail(w, code);
	}
	followed = follow(w, fd, &st, "");
	return followed > 0 && descend(w, name) < 0 ? -1 : followed;
}

static int open_last(struct walk *w, char name[256], int flags, mode_t mode)
{
	const int all = flags | O_NOCTTY | O_NONBLOCK;

	for (;;) {
		int fd = openat(w->at, name, all | O_NOFOLLOW | O_CLOEXEC, mode), followed;

		if (fd >= 0)
			return check_opened(w, fd, flags);
		if (errno != ELOOP && !(errno == ENOTDIR && (flags & O_DIRECTORY) != 0))
			return fail(w, errno);
		followed = follow_last(w, name, errno);
		if (followed < 0)
			return -1;
		if (followed == 0) {
			fd = openat(w->at, name, all | O_CLOEXEC, mode);
			return fd < 0 ? fail(w, errno) : check_opened(w, fd, flags);
		}
	}
}

int safe_open(const char *path, int flags, mode_t mode, struct err *err)
{
	char name[256];
	struct walk w;
	int fd = -1;

	if (start(&w, path, err) == 0 && descend(&w, name) == 0)
		fd = open_last(&w, name, flags, mode);
	if (w.at >= 0)
		(void)close(w.at);
	return fd;
}
