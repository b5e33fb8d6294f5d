#include "core/listen_fds.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static int option(int fd, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, name, &value, &len) < 0 ? -1 : value;
}

int listen_fds_check(int fd, struct err *err)
{
	int domain = option(fd, SO_DOMAIN);

	if (option(fd, SO_ACCEPTCONN) != 1 || option(fd, SO_TYPE) != SOCK_STREAM ||
	    (domain != AF_INET && domain != AF_INET6))
		return err_set(
			err, ERR_CONFIG,
			"descriptor %d of the service manager is no listening TCP socket (ListenStream= with a port, "
			"Accept=no)",
			fd);
	return 0;
}

/* Non-blocking: who connected may be gone before accept(2), and the loop must not wait for the next one. */
static int prepare(int fd, struct err *err)
{
	int flags = fcntl(fd, F_GETFL);

	if (listen_fds_check(fd, err) < 0)
		return -1;
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return err_errno(err, errno, "descriptor %d of the service manager", fd);
	return 0;
}

/* The whole text as a number above 0; 0 otherwise. */
static long number(const char *text)
{
	char *end;
	long v;

	if (text == NULL)
		return 0;
	errno = 0;
	v = strtol(text, &end, 10);
	return errno != 0 || *end != '\0' || v < 0 ? 0 : v;
}

int listen_fds_take(size_t *n, struct err *err)
{
	long pid = number(getenv("LISTEN_PID")), count = number(getenv("LISTEN_FDS"));

	(void)unsetenv("LISTEN_PID");
	(void)unsetenv("LISTEN_FDS");
	(void)unsetenv("LISTEN_FDNAMES");
	*n = 0;
	if (pid != (long)getpid() || count == 0)
		return 0;
	if (count > LISTEN_FDS_MAX)
		return err_set(err, ERR_LIMIT, "%ld sockets of the service manager: more than %d", count,
			       LISTEN_FDS_MAX);
	for (int fd = LISTEN_FDS_FIRST; fd < LISTEN_FDS_FIRST + (int)count; fd++)
		if (prepare(fd, err) < 0)
			return -1;
	*n = (size_t)count;
	return 0;
}
