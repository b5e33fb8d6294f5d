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

/* In a second: four bytes each, or a little more with old protocols. */
#define KEEPALIVE_BYTES 64u

/* The number behind `name` in the text of /proc/PID/io. */
static uint64_t value_of(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at == NULL ? 0 : strtoull(at + strlen(name), NULL, 10);
}

static void bytes_moved(pid_t pid, uint64_t *in, uint64_t *out)
{
	char path[32], text[512];
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/io", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	*in = *out = 0;
	if (fd < 0)
		return;
	n = read(fd, text, sizeof(text) - 1);
	(void)close(fd);
	text[n < 0 ? 0 : n] = '\0';
	*in = value_of(text, "rchar: ");
	*out = value_of(text, "wchar: ");
}

static void on_timer(void *ctx)
{
	struct rsync_alive *a = ctx;
	uint64_t in, out;
	bool sign;

	loop_timer_after(a->timer, NS_PER_S);
	bytes_moved(a->pid, &in, &out);
	sign = in != a->was_read || out >= a->was_written + KEEPALIVE_BYTES;
	a->was_read = in;
	a->was_written = out;
	if (sign)
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
