/*
 * rsync_alive.c - whether a process that says nothing is at work; see rsync_alive.h.
 */
#include "transports/rsync_alive.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"

/* The number behind `name` in the text of /proc/PID/io. */
static uint64_t value_of(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at == NULL ? 0 : strtoull(at + strlen(name), NULL, 10);
}

static uint64_t bytes_moved(pid_t pid)
{
	char path[32], text[512];
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/io", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	(void)close(fd);
	text[n < 0 ? 0 : n] = '\0';
	return value_of(text, "rchar: ") + value_of(text, "wchar: ");
}

static void on_timer(void *ctx)
{
	struct rsync_alive *a = ctx;
	uint64_t moved = bytes_moved(a->pid);

	loop_timer_after(a->timer, NS_PER_S);
	if (moved == a->moved)
		return;
	a->moved = moved;
	a->sign(a->ctx);
}

int rsync_alive_start(struct rsync_alive *a, struct loop *loop, pid_t pid, void (*sign)(void *ctx), void *ctx,
		      struct err *err)
{
	*a = (struct rsync_alive){ .pid = pid, .sign = sign, .ctx = ctx };
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
