#include "core/pipes.h"

#include <errno.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

/* fs.pipe-max-size is 1 MiB; others may still write to it. */
#define PIPE_MAX_BYTES (1024u * 1024)

ssize_t pipe_write(int fd, const void *data, size_t len)
{
	const struct timespec now = { 0, 0 };
	sigset_t pipe_only, old, pending;
	bool was_pending;
	ssize_t n;
	int code;

	(void)sigemptyset(&pipe_only);
	(void)sigaddset(&pipe_only, SIGPIPE);
	(void)sigpending(&pending);
	was_pending = sigismember(&pending, SIGPIPE) == 1;
	(void)sigprocmask(SIG_BLOCK, &pipe_only, &old);
	n = write(fd, data, len);
	code = errno;
	if (n < 0 && code == EPIPE && !was_pending)
		(void)sigtimedwait(&pipe_only, NULL, &now);
	(void)sigprocmask(SIG_SETMASK, &old, NULL);
	errno = code;
	return n;
}

bool pipe_read(int fd, bool all, void (*feed)(void *ctx, const char *data, size_t len), void *ctx)
{
	char data[16384];
	size_t taken = 0;

	do {
		ssize_t n = read(fd, data, sizeof(data));

		if (n == 0)
			return false;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		feed(ctx, data, (size_t)n);
		taken += (size_t)n;
	} while (all && taken < PIPE_MAX_BYTES);
	return true;
}
