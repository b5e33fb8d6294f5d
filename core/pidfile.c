#include "core/pidfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/safe_open.h"

static int refuse_held(const struct pidfile *p, struct err *err)
{
	char text[32] = "";
	ssize_t n = pread(p->fd, text, sizeof(text) - 1, 0);
	long pid = n > 0 ? strtol(text, NULL, 10) : 0;

	if (pid > 0)
		err_set(err, ERR_LIMIT, "another daemon runs: %s is held by process %ld", p->path, pid);
	else
		err_set(err, ERR_LIMIT, "another daemon runs: it holds %s", p->path);
	if (err != NULL)
		err->code = (int)pid;
	return -1;
}

static int lock(const struct pidfile *p, struct err *err)
{
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(p->fd, F_OFD_SETLK, &fl) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return refuse_held(p, err);
	return err_errno(err, errno, "cannot lock %s", p->path);
}

/* Whether the name still leads to the file that is open. */
static bool has_its_name(const struct pidfile *p)
{
	struct stat st;

	return lstat(p->path, &st) == 0 && st.st_dev == p->dev && st.st_ino == p->ino;
}

/* 1: its holder removed it after we had opened it; a lock on it would keep nobody out. */
static int open_locked(struct pidfile *p, struct err *err)
{
	struct stat st;

	if (lstat(p->path, &st) == 0 && S_ISLNK(st.st_mode))
		return err_set(err, ERR_UNSAFE, "%s is a symlink", p->path);
	p->fd = safe_open(p->path, O_RDWR | O_CREAT, 0644, err);
	if (p->fd < 0)
		return -1;
	if (fstat(p->fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(err, ERR_UNSAFE, "%s is not a regular file", p->path);
	p->dev = st.st_dev;
	p->ino = st.st_ino;
	if (lock(p, err) < 0)
		return -1;
	if (has_its_name(p))
		return 0;
	(void)close(p->fd);
	p->fd = -1;
	return 1;
}

int pidfile_open(struct pidfile *p, const char *path, struct err *err)
{
	int rc;

	*p = (struct pidfile)PIDFILE_INIT;
	p->path = strdup(path);
	if (p->path == NULL)
		return err_set(err, ERR_NOMEM, "out of memory");
	do
		rc = open_locked(p, err);
	while (rc > 0);
	if (rc < 0)
		pidfile_close(p);
	return rc;
}

int pidfile_write(struct pidfile *p, struct err *err)
{
	char text[32];
	int n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());

	if (ftruncate(p->fd, 0) < 0 || pwrite(p->fd, text, (size_t)n, 0) != n)
		return err_errno(err, errno, "cannot write the pid file %s", p->path);
	return 0;
}

void pidfile_remove(struct pidfile *p)
{
	const char *name;
	int parent = p->fd < 0 ? -1 : safe_open_parent(p->path, &name, NULL);
	struct stat st;

	if (parent >= 0 && fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_dev == p->dev &&
	    st.st_ino == p->ino)
		(void)unlinkat(parent, name, 0);
	if (parent >= 0)
		(void)close(parent);
	pidfile_close(p);
}

void pidfile_close(struct pidfile *p)
{
	if (p->fd >= 0)
		(void)close(p->fd);
	free(p->path);
	*p = (struct pidfile)PIDFILE_INIT;
}
