#include "core/daemonize.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

/* A byte on the pipe is the exit code; its end without one means that the daemon died. */
static int wait_for_daemon(int fd, pid_t pid)
{
	unsigned char code;
	ssize_t n;
	int status;

	do
		n = read(fd, &code, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1)
		return code;
	if (waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) != 0)
		return WEXITSTATUS(status);
	return 255;
}

static int to_null(int fd, int flags, struct err *err)
{
	int null = open("/dev/null", flags | O_CLOEXEC);

	if (null < 0)
		return err_errno(err, errno, "cannot open /dev/null");
	if (dup2(null, fd) < 0) {
		err_errno(err, errno, "dup2");
		(void)close(null);
		return -1;
	}
	(void)close(null);
	return 0;
}

int daemonize_start(struct daemonize *d, int *exit_code, struct err *err)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(err, errno, "pipe2");
	(void)fflush(NULL);
	pid = fork();
	if (pid < 0) {
		(void)close(fds[0]);
		(void)close(fds[1]);
		return err_errno(err, errno, "fork");
	}
	if (pid > 0) {
		(void)close(fds[1]);
		*exit_code = wait_for_daemon(fds[0], pid);
		(void)close(fds[0]);
		return 1;
	}
	(void)close(fds[0]);
	d->ready_fd = fds[1];
	if (setsid() < 0)
		return err_errno(err, errno, "setsid");
	if (chdir("/") < 0)
		return err_errno(err, errno, "chdir /");
	return to_null(STDIN_FILENO, O_RDONLY, err) < 0 || to_null(STDOUT_FILENO, O_WRONLY, err) < 0 ? -1 : 0;
}

static void report(struct daemonize *d, int code)
{
	unsigned char byte = (unsigned char)code;
	ssize_t n;

	do
		n = write(d->ready_fd, &byte, 1);
	while (n < 0 && errno == EINTR);
	(void)close(d->ready_fd); /* a parent that was killed needs no answer */
	d->ready_fd = -1;
}

int daemonize_ready(struct daemonize *d, struct err *err)
{
	if (d->ready_fd < 0)
		return 0;
	if (to_null(STDERR_FILENO, O_WRONLY, err) < 0)
		return -1;
	report(d, 0);
	return 0;
}

void daemonize_failed(struct daemonize *d, int code)
{
	if (d->ready_fd >= 0)
		report(d, code);
}
