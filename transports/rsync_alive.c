/*
 * rsync_alive.c - whether a process that says nothing is at work; see rsync_alive.h.
 */
#include "transports/rsync_alive.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/clock.h"

/* In a second: four bytes each, or a little more with old protocols. */
#define KEEPALIVE_BYTES 64u
/* Looks, one a second. An automounter may take some. */
#define STUCK_LOOKS 5u

/* The number behind `name` in the text of /proc/PID/io. */
static uint64_t value_of(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at == NULL ? 0 : strtoull(at + strlen(name), NULL, 10);
}

/* What /proc says of it under that name; "" when it says nothing. */
static void read_proc(pid_t pid, const char *name, char *text, size_t size)
{
	char path[48];
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, text, size - 1);
	if (fd >= 0)
		(void)close(fd);
	text[n < 0 ? 0 : n] = '\0';
}

static void bytes_moved(pid_t pid, uint64_t *in, uint64_t *out)
{
	char text[512];

	read_proc(pid, "io", text, sizeof(text));
	*in = value_of(text, "rchar: ");
	*out = value_of(text, "wchar: ");
}

/* proc(5): the number of the system call that it is in, and its arguments; or "running". */
static bool is_opening(pid_t pid)
{
	char text[256], *end;
	long call;

	read_proc(pid, "syscall", text, sizeof(text));
	call = strtol(text, &end, 10);
	if (end == text)
		return false;
#ifdef SYS_open
	if (call == SYS_open)
		return true;
#endif
	return call == SYS_openat || call == SYS_openat2;
}

static void on_timer(void *ctx)
{
	struct rsync_alive *a = ctx;
	uint64_t in, out;
	bool sign;

	loop_timer_after(a->timer, NS_PER_S);
	bytes_moved(a->pid, &in, &out);
	sign = in != a->was_read || out >= a->was_written + KEEPALIVE_BYTES;
	a->opens = in == a->was_read && out == a->was_written && is_opening(a->pid) ? a->opens + 1 : 0;
	a->was_read = in;
	a->was_written = out;
	if (sign)
		a->sign(a->ctx);
	if (a->opens == STUCK_LOOKS)
		a->stuck(a->ctx);
}

int rsync_alive_start(struct rsync_alive *a, struct loop *loop, pid_t pid, void (*sign)(void *ctx),
		      void (*stuck)(void *ctx), void *ctx, struct err *err)
{
	*a = (struct rsync_alive){ .pid = pid, .sign = sign, .stuck = stuck, .ctx = ctx };
	a->timer = loop_timer_add(loop, on_timer, a, err);
	if (a->timer == NULL)
		return -1;
	loop_timer_after(a->timer, NS_PER_S);
	return 0;
}

void rsync_alive_stop(struct rsync_alive *a)
{
	loop_timer_remove(a->timer);
	a->timer = NULL;
}
