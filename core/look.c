#include "core/look.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/guard_switches.h"
#include "core/path.h"

void looker_init(struct looker *l, int root_fd)
{
	*l = (struct looker){ .root_fd = root_fd, .dir_fd = -1 };
}

static void forget_dir(struct looker *l)
{
	if (l->dir_fd >= 0)
		(void)close(l->dir_fd);
	l->dir_fd = -1;
}

void looker_done(struct looker *l)
{
	forget_dir(l);
	free(l->dir);
	l->dir = NULL;
	l->dir_len = l->dir_cap = 0;
}

static int open_name(int dir_fd, const char *name, size_t len, int flags)
{
	char text[NAME_BYTES_MAX + 1];

	if (len > NAME_BYTES_MAX) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(text, name, len);
	text[len] = '\0';
	return openat(dir_fd, text, flags | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* One component at a time: for paths longer than PATH_MAX and kernels (or sandboxes) without openat2. */
static int open_by_steps(int dir_fd, const char *path, size_t len, int flags)
{
	int at = dir_fd;

	for (;;) {
		const char *slash = memchr(path, '/', len);
		size_t n = slash == NULL ? len : (size_t)(slash - path);
		int next = open_name(at, path, n, slash == NULL ? flags : O_PATH), code = errno;

		if (at != dir_fd)
			(void)close(at);
		errno = code;
		if (next < 0 || slash == NULL)
			return next;
		at = next;
		path += n + 1;
		len -= n + 1;
	}
}

int look_open_below(int dir_fd, const char *path, size_t len, int flags)
{
	struct open_how how = {
		.flags = (unsigned)(flags | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	char text[4096];
	long fd;

	if (memchr(path, '/', len) == NULL)
		return open_name(dir_fd, path, len, flags);
	if (len >= sizeof(text))
		return open_by_steps(dir_fd, path, len, flags);
	memcpy(text, path, len);
	text[len] = '\0';
	do
		fd = syscall(SYS_openat2, dir_fd, text, &how, sizeof(how));
	while (fd < 0 && errno == EAGAIN); /* a rename raced with the walk, openat2(2) */
	if (fd < 0 && (errno == ENOSYS || errno == EPERM))
		return open_by_steps(dir_fd, path, len, flags);
	return (int)fd;
}

int look_open_dir(int root_fd, const char *path, size_t len)
{
	return len == 0 ? fcntl(root_fd, F_DUPFD_CLOEXEC, 3) : look_open_below(root_fd, path, len, O_PATH);
}

static int enter_dir(struct looker *l, const char *path, size_t len)
{
	if (l->dir_fd >= 0 && l->dir_len == len && (len == 0 || memcmp(l->dir, path, len) == 0))
		return 0;
	forget_dir(l);
	if (l->dir_cap < len) {
		char *dir = realloc(l->dir, len);

		if (dir == NULL) {
			errno = ENOMEM;
			return -1;
		}
		l->dir = dir;
		l->dir_cap = len;
	}
	if (len > 0)
		memcpy(l->dir, path, len);
	l->dir_len = len;
	l->dir_fd = look_open_dir(l->root_fd, path, len);
	return l->dir_fd < 0 ? -1 : 0;
}

static enum look look_of_mode(mode_t mode)
{
	if (S_ISDIR(mode))
		return LOOK_DIR;
	if (S_ISREG(mode))
		return LOOK_FILE;
	return S_ISLNK(mode) ? LOOK_SYMLINK : LOOK_SPECIAL;
}

/* ESTALE says that a descriptor of ours is worth nothing (a network file system's server came back, say), not that the
 * path is gone. */
static int look_failed(struct looker *l, const char *path, size_t len, enum look *out, struct err *err)
{
	int code = errno;

	if (code == ESTALE)
		forget_dir(l);
	if (code == ENOENT || code == ENOTDIR || code == ELOOP) {
		*out = LOOK_ABSENT;
		return 0;
	}
	if (!GUARD_UNREADABLE) {
		*out = LOOK_ABSENT;
		return 0;
	}
	return err_errno(err, code, "cannot look at %.*s", (int)(len < 300 ? len : 300), path);
}

int looker_look(struct looker *l, const char *path, size_t len, enum look *out, struct stat *st, struct err *err)
{
	size_t base = path_base(path, len), n = len - base;
	char name[NAME_BYTES_MAX + 1];
	int rc;

	if (len == 0) {
		rc = fstat(l->root_fd, st);
	} else if (n > NAME_BYTES_MAX) {
		errno = ENOENT;
		rc = -1;
	} else if (enter_dir(l, path, path_parent_len(path, len)) < 0) {
		rc = -1;
	} else {
		memcpy(name, path + base, n);
		name[n] = '\0';
		rc = fstatat(l->dir_fd, name, st, AT_SYMLINK_NOFOLLOW);
	}
	if (rc < 0)
		return look_failed(l, path, len, out, err);
	*out = look_of_mode(st->st_mode);
	return 0;
}

static int cannot_read(const char *path, size_t len, int code, struct err *err)
{
	if (code == ENOTDIR || code == ELOOP)
		code = ENOENT;
	if (len == 0)
		return err_errno(err, code, "cannot read the source");
	return err_errno(err, code, "cannot read %.*s", (int)(len < 300 ? len : 300), path);
}

int looker_open_dir(struct looker *l, const char *path, size_t len, struct err *err)
{
	int at = look_open_dir(l->root_fd, path, len), fd;

	if (at < 0)
		return cannot_read(path, len, errno, err);
	fd = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		(void)cannot_read(path, len, errno, err);
	(void)close(at);
	return fd;
}

ssize_t looker_readlink(struct looker *l, const char *path, size_t len, char *out, size_t size, struct err *err)
{
	size_t base = path_base(path, len), n = len - base;
	char name[NAME_BYTES_MAX + 1];
	ssize_t got = -1;

	if (n > NAME_BYTES_MAX) {
		errno = ENAMETOOLONG;
	} else if (enter_dir(l, path, path_parent_len(path, len)) == 0) {
		memcpy(name, path + base, n);
		name[n] = '\0';
		got = readlinkat(l->dir_fd, name, out, size);
	}
	return got < 0 ? err_errno(err, errno, "cannot read %.*s", (int)(len < 300 ? len : 300), path) : got;
}
