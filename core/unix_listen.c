#include "core/unix_listen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int make_address(const char *path, struct sockaddr_un *address, struct err *err)
{
	size_t len = strlen(path);

	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (len == 0 || len >= sizeof(address->sun_path))
		return err_set(err, ERR_CONFIG, "a socket's path must have 1 to %zu bytes: %s",
			       sizeof(address->sun_path) - 1, path);
	memcpy(address->sun_path, path, len + 1);
	return 0;
}

/* Remove a socket file that nobody answers at. */
static int clear_path(const char *path, const struct sockaddr_un *address, struct err *err)
{
	struct stat st;
	int fd, code = 0;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_errno(err, errno, "%s", path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(err, ERR_UNSAFE, "%s exists and is no socket", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(err, errno, "socket");
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
		code = errno;
	(void)close(fd);
	if (code == ENOENT)
		return 0;
	if (code == 0 || code == EAGAIN) { /* EAGAIN: it listens, with a full backlog */
		err_set(err, ERR_LIMIT, "another daemon answers at %s", path);
		if (err != NULL)
			err->code = EADDRINUSE;
		return -1;
	}
	if (code != ECONNREFUSED)
		return err_errno(err, code, "can't tell whether anybody answers at %s", path);
	if (unlink(path) < 0 && errno != ENOENT)
		return err_errno(err, errno, "can't remove the stale socket %s", path);
	return 0;
}

static int bind_private(int fd, const char *path, const struct sockaddr_un *address, struct err *err)
{
	mode_t mask = umask(0177); /* no moment at which others may connect */
	int rc = bind(fd, (const struct sockaddr *)address, sizeof(*address));
	int code = errno;

	(void)umask(mask);
	return rc < 0 ? err_errno(err, code, "can't make the socket %s", path) : 0;
}

static int begin(struct unix_listener *l, const char *path, int backlog, struct err *err)
{
	struct sockaddr_un address;
	struct stat st;

	if (make_address(path, &address, err) < 0 || clear_path(path, &address, err) < 0)
		return -1;
	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->fd < 0)
		return err_errno(err, errno, "socket");
	if (bind_private(l->fd, path, &address, err) < 0)
		return -1;
	if (lstat(path, &st) < 0)
		return err_errno(err, errno, "%s", path);
	l->dev = st.st_dev;
	l->ino = st.st_ino;
	return listen(l->fd, backlog) < 0 ? err_errno(err, errno, "can't listen at %s", path) : 0;
}

int unix_listen(struct unix_listener *l, const char *path, int backlog, struct err *err)
{
	*l = UNIX_LISTENER_INIT;
	l->path = strdup(path);
	if (l->path == NULL)
		return err_set(err, ERR_NOMEM, "out of memory for a socket");
	if (begin(l, path, backlog, err) == 0)
		return 0;
	unix_listener_done(l);
	return -1;
}

/* By descriptor: who may write to the directory may have put something else in its place, a link to a file of root's.
 */
static int give(int fd, const struct unix_listener *l, gid_t gid, struct err *err)
{
	char by_fd[64];
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_errno(err, errno, "%s", l->path);
	if (!S_ISSOCK(st.st_mode) || st.st_dev != l->dev || st.st_ino != l->ino || st.st_uid != geteuid() ||
	    st.st_nlink != 1)
		return err_set(err, ERR_UNSAFE, "%s is not the socket any more that was made there", l->path);
	(void)snprintf(by_fd, sizeof(by_fd), "/proc/self/fd/%d", fd);
	if (chown(by_fd, (uid_t)-1, gid) < 0 || chmod(by_fd, 0660) < 0)
		return err_errno(err, errno, "can't give %s to its group", l->path);
	return 0;
}

int unix_listener_give(const struct unix_listener *l, gid_t gid, struct err *err)
{
	int fd = open(l->path, O_PATH | O_NOFOLLOW | O_CLOEXEC), result;

	if (fd < 0)
		return err_errno(err, errno, "%s", l->path);
	result = give(fd, l, gid, err);
	(void)close(fd);
	return result;
}

void unix_listener_done(struct unix_listener *l)
{
	struct stat st;

	if (l->ino != 0 && lstat(l->path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino)
		(void)unlink(l->path);
	if (l->fd >= 0)
		(void)close(l->fd);
	free(l->path);
	*l = UNIX_LISTENER_INIT;
}
