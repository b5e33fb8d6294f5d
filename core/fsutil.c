#include "core/fsutil.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/path.h"
#include "core/safe_open.h"

#define READ_PIECE (64u * 1024)

/* remove_tree recurses once a level: a stranger's deep tree must not exhaust the stack. */
#define REMOVE_DEPTH_MAX 256

struct file_text {
	const char *path;
	const void *data;
	size_t len;
	mode_t mode;
	unsigned flags; /* enum fsutil_flag */
};

static int write_all(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

/* The rename itself has to reach the disk, too. */
static int sync_dir(int parent)
{
	int fd = openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = fd < 0 ? -1 : fsync(fd);

	if (fd >= 0)
		(void)close(fd);
	return rc;
}

static int fill_temp(int parent, const char *temp, const struct file_text *t)
{
	int fd, saved;

	(void)unlinkat(parent, temp, 0); /* of a killed predecessor */
	fd = openat(parent, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	if (write_all(fd, t->data, t->len) < 0 || fchmod(fd, t->mode) < 0 ||
	    ((t->flags & FSUTIL_SYNC) != 0 && fsync(fd) < 0)) {
		saved = errno;
		(void)close(fd);
		(void)unlinkat(parent, temp, 0);
		errno = saved;
		return -1;
	}
	return close(fd);
}

static int write_in(int parent, const char *name, const struct file_text *t, struct err *err)
{
	char *temp;
	int rc = 0;

	if (asprintf(&temp, "%s" PATH_TEMP_SUFFIX, name) < 0)
		return err_set(err, ERR_NOMEM, "out of memory");
	if (fill_temp(parent, temp, t) < 0) {
		rc = err_errno(err, errno, "cannot write %s" PATH_TEMP_SUFFIX, t->path);
	} else if (renameat(parent, temp, parent, name) < 0) {
		rc = err_errno(err, errno, "cannot replace %s", t->path);
		(void)unlinkat(parent, temp, 0);
	} else if ((t->flags & FSUTIL_SYNC) != 0 && sync_dir(parent) < 0) {
		rc = err_errno(err, errno, "cannot bring %s to the disk", t->path);
	}
	free(temp);
	return rc;
}

int atomic_write(const char *path, const void *data, size_t len, mode_t mode, unsigned flags, struct err *err)
{
	const struct file_text text = { path, data, len, mode, flags };
	const char *name;
	int parent = safe_open_parent(path, &name, err), rc;

	if (parent < 0)
		return -1;
	rc = write_in(parent, name, &text, err);
	(void)close(parent);
	return rc;
}

static int make_parents(char *path)
{
	for (char *p = path + 1; (p = strchr(p, '/')) != NULL; p++) {
		int rc;

		*p = '\0';
		rc = mkdir(path, 0755);
		*p = '/';
		if (rc < 0 && errno != EEXIST)
			return -1;
	}
	return 0;
}

int mkdir_private(const char *path, struct err *err)
{
	char *copy = strdup(path);
	struct stat st;
	int rc, fd;

	if (copy == NULL)
		return err_set(err, ERR_NOMEM, "out of memory");
	rc = make_parents(copy);
	free(copy);
	if (rc < 0 || (mkdir(path, 0700) < 0 && errno != EEXIST))
		return err_errno(err, errno, "cannot make the directory %s", path);
	if (lstat(path, &st) == 0 && !S_ISDIR(st.st_mode))
		return err_set(err, ERR_UNSAFE, "%s is not a directory", path);
	fd = safe_open(path, O_RDONLY | O_DIRECTORY, 0, err);
	if (fd < 0)
		return -1;
	rc = fstat(fd, &st);
	(void)close(fd);
	if (rc < 0)
		return err_errno(err, errno, "cannot look at %s", path);
	if (st.st_uid != geteuid() || (st.st_mode & 022) != 0)
		return err_set(err, ERR_UNSAFE,
			       "%s belongs to another user, or others may write to it: chown and chmod 700 it", path);
	return 0;
}

int read_file(const char *path, size_t max, struct buf *out, struct err *err)
{
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	int rc = 0;

	buf_clear(out);
	if (fd < 0)
		return err_errno(err, errno, "cannot open %s", path);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		(void)close(fd);
		return err_set(err, ERR_UNSAFE, "%s is not a regular file", path);
	}
	for (;;) {
		/* One more than allowed tells that there is more; `out` may have room for no more than that. */
		size_t left = max - out->len, want = left < READ_PIECE ? left + 1 : READ_PIECE;
		ssize_t n;

		if (!buf_reserve(out, want)) {
			rc = err_set(err, ERR_NOMEM, "out of memory for %s", path);
			break;
		}
		n = read(fd, out->data + out->len, want);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			rc = err_errno(err, errno, "cannot read %s", path);
		if (n <= 0)
			break;
		out->len += (size_t)n;
		if (out->len > max) {
			rc = err_set(err, ERR_LIMIT, "%s is larger than %zu bytes", path, max);
			break;
		}
	}
	(void)close(fd);
	return rc;
}

int lock_file(const char *path, enum lock_mode mode, struct err *err)
{
	int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	int rc;

	if (fd < 0)
		return err_errno(err, errno, "cannot open the lock %s", path);
	do
		rc = flock(fd, LOCK_EX | (mode == LOCK_MODE_TRY ? LOCK_NB : 0));
	while (rc < 0 && errno == EINTR);
	if (rc == 0)
		return fd;
	if (errno == EWOULDBLOCK)
		err_set(err, ERR_AGAIN, "another process holds the lock %s", path);
	else
		err_errno(err, errno, "cannot lock %s", path);
	(void)close(fd);
	return -1;
}

/* ---- removing a tree ---- */

struct removal {
	dev_t dev;
	struct err *err;
	bool failed;
};

static void removal_failed(struct removal *r, enum err_class class, const char *name, int errnum)
{
	if (r->failed)
		return;
	r->failed = true;
	if (errnum != 0)
		err_errno(r->err, errnum, "cannot remove %s", name);
	else
		err_set(r->err, class, "%s is not removed: another file system, or too deep", name);
}

static void remove_entry(struct removal *r, int dir_fd, const char *name, unsigned depth);

static void remove_content(struct removal *r, int fd, unsigned depth)
{
	DIR *dir = fdopendir(fd);
	const struct dirent *entry;

	if (dir == NULL) {
		removal_failed(r, ERR_IO, "a directory", errno);
		(void)close(fd);
		return;
	}
	while ((entry = readdir(dir)) != NULL)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			remove_entry(r, dirfd(dir), entry->d_name, depth + 1);
	(void)closedir(dir);
}

static void remove_entry(struct removal *r, int dir_fd, const char *name, unsigned depth)
{
	struct stat st;
	int fd;

	if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT)
		return;
	if (errno != EISDIR && errno != EPERM) {
		removal_failed(r, ERR_IO, name, errno);
		return;
	}
	fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0) {
		removal_failed(r, ERR_IO, name, errno);
		if (fd >= 0)
			(void)close(fd);
		return;
	}
	if (st.st_dev != r->dev || depth > REMOVE_DEPTH_MAX) {
		removal_failed(r, ERR_UNSAFE, name, 0);
		(void)close(fd);
		return;
	}
	remove_content(r, fd, depth);
	if (unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		removal_failed(r, ERR_IO, name, errno);
}

int remove_tree(const char *path, struct err *err)
{
	struct removal r = { .err = err };
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_errno(err, errno, "cannot look at %s", path);
	r.dev = st.st_dev;
	remove_entry(&r, AT_FDCWD, path, 0);
	return r.failed ? -1 : 0;
}

int source_is_empty(int fd, struct err *err)
{
	int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = own < 0 ? NULL : fdopendir(own);
	const struct dirent *entry;
	int empty = 1;

	if (dir == NULL) {
		int saved = errno;

		if (own >= 0)
			(void)close(own);
		return err_errno(err, saved, "cannot read the source's root");
	}
	while (empty == 1 && (entry = readdir(dir)) != NULL)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
		    strcmp(entry->d_name, "lost+found") != 0 && !path_is_temp(entry->d_name, strlen(entry->d_name)))
			empty = 0;
	(void)closedir(dir);
	return empty;
}
