#include "transports/exec_program.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/pipes.h"

#define WATCH_NS (2 * NS_PER_S)
/* Processes that are looked at for signs of life. */
#define FAMILY_MAX 64u
#define FAMILY_DEPTH 8u

/* ---- signs of life ---- */

static size_t read_proc(const char *path, char *out, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, out, size - 1);

	if (fd >= 0)
		(void)close(fd);
	out[n < 0 ? 0 : n] = '\0';
	return n < 0 ? 0 : (size_t)n;
}

/* utime, stime and those of the children that it waited for: fields 14 to 17 of /proc/PID/stat. */
static uint64_t ticks_of(pid_t pid)
{
	char path[48], text[1024], *at;
	uint64_t sum = 0;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (read_proc(path, text, sizeof(text)) == 0)
		return 0;
	at = strrchr(text, ')');
	for (int field = 3; at != NULL && field <= 17; field++) {
		at = strchr(at + 1, ' ');
		if (at != NULL && field >= 14)
			sum += strtoull(at, NULL, 10);
	}
	return sum;
}

static uint64_t family_ticks(pid_t pid, unsigned depth, unsigned *left)
{
	char path[64], text[2048], *at = text;
	uint64_t sum;

	if (*left == 0)
		return 0;
	(*left)--;
	sum = ticks_of(pid);
	if (depth == FAMILY_DEPTH)
		return sum;
	(void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	(void)read_proc(path, text, sizeof(text));
	for (;;) {
		char *end;
		long child = strtol(at, &end, 10);

		if (end == at || child <= 0)
			return sum;
		sum += family_ticks((pid_t)child, depth + 1, left);
		at = end;
	}
}

static void on_watch(void *ctx)
{
	struct exec_program *p = ctx;
	unsigned left = FAMILY_MAX;
	uint64_t ticks = family_ticks(p->proc.pid, 0, &left);

	loop_timer_after(p->watch, WATCH_NS);
	if (ticks == p->ticks)
		return;
	p->ticks = ticks;
	p->ev.alive(p->ev.ctx);
}

/* ---- pipes ---- */

static void close_in(struct exec_program *p)
{
	loop_fd_remove(p->in);
	p->in = NULL;
	if (p->proc.in >= 0)
		(void)close(p->proc.in);
	p->proc.in = -1;
}

static uint64_t count_marks(const struct exec_program *p, const char *data, size_t len)
{
	uint64_t n = 0;

	for (size_t i = 0; i < len; i++)
		n += data[i] == p->feed.mark;
	return n;
}

static void on_in(void *ctx, int fd, unsigned events)
{
	struct exec_program *p = ctx;
	char data[16384];

	(void)events;
	while (p->feed_at < p->feed.size) {
		uint64_t left = p->feed.size - p->feed_at;
		ssize_t got =
			pread(p->feed.fd, data, left < sizeof(data) ? (size_t)left : sizeof(data), (off_t)p->feed_at);
		ssize_t n = got <= 0 ? -1 : pipe_write(fd, data, (size_t)got);

		if (got > 0 && n < 0 && errno == EINTR)
			continue;
		if (got > 0 && n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			close_in(p);
			p->ev.deaf(p->ev.ctx);
			return;
		}
		p->marks += count_marks(p, data, (size_t)n);
		p->feed_at += (uint64_t)n;
	}
	loop_fd_remove(p->in);
	p->in = NULL;
	p->ev.alive(p->ev.ctx);
}

static void feed(void *ctx, const char *data, size_t len)
{
	exec_lines_feed(ctx, data, len);
}

static void on_out(void *ctx, int fd, unsigned events)
{
	struct exec_program *p = ctx;

	(void)events;
	if (!pipe_read(fd, false, feed, &p->out_lines)) {
		loop_fd_remove(p->out);
		p->out = NULL;
	}
}

static void on_err(void *ctx, int fd, unsigned events)
{
	struct exec_program *p = ctx;

	(void)events;
	if (!pipe_read(fd, false, feed, &p->err_lines)) {
		loop_fd_remove(p->err);
		p->err = NULL;
	}
}

/* ---- its life ---- */

static void release(struct exec_program *p)
{
	if (p->watch != NULL)
		loop_timer_remove(p->watch);
	p->watch = NULL;
	close_in(p);
	loop_fd_remove(p->out);
	loop_fd_remove(p->err);
	p->out = p->err = NULL;
	proc_close(&p->proc);
	p->proc.pid = 0;
}

static void on_child(void *ctx, pid_t pid, int status)
{
	struct exec_program *p = ctx;

	(void)pid;
	if (p->err != NULL)
		(void)pipe_read(p->proc.err, true, feed, &p->err_lines);
	exec_lines_end(&p->err_lines);
	if (p->out != NULL)
		(void)pipe_read(p->proc.out, true, feed, &p->out_lines);
	exec_lines_end(&p->out_lines);
	release(p);
	p->ev.ended(p->ev.ctx, status);
}

void exec_program_init(struct exec_program *p, struct loop *loop, const struct exec_program_events *events)
{
	memset(p, 0, sizeof(*p));
	p->loop = loop;
	p->ev = *events;
	p->proc = (struct proc){ 0, -1, -1, -1 };
}

static int attach(struct exec_program *p, struct err *err)
{
	p->out = loop_fd_add(p->loop, p->proc.out, LOOP_READ, on_out, p, err);
	p->err = p->out == NULL ? NULL : loop_fd_add(p->loop, p->proc.err, LOOP_READ, on_err, p, err);
	p->watch = p->err == NULL ? NULL : loop_timer_add(p->loop, on_watch, p, err);
	if (p->watch == NULL)
		return -1;
	loop_timer_after(p->watch, WATCH_NS);
	return loop_child(p->loop, p->proc.pid, on_child, p, err);
}

int exec_program_start(struct exec_program *p, const struct exec_program_spec *spec, struct err *err)
{
	const struct proc_spec how = { .argv = spec->argv,
				       .env = spec->env,
				       .cwd = spec->cwd,
				       .pipe_in = spec->in_fd < 0,
				       .in_fd = spec->in_fd,
				       .pipe_out = true,
				       .pipe_err = true,
				       .user = spec->user,
				       .own_group = true };

	if (proc_spawn(&p->proc, &how, err) < 0) {
		p->proc = (struct proc){ 0, -1, -1, -1 };
		return -1;
	}
	p->ticks = 0;
	p->feed = (struct exec_feed){ .fd = -1 };
	p->feed_at = p->marks = 0;
	exec_lines_init(&p->out_lines, p->ev.out, p->ev.ctx);
	exec_lines_init(&p->err_lines, p->ev.err, p->ev.ctx);
	if (attach(p, err) == 0)
		return 0;
	(void)kill(-p->proc.pid, SIGKILL);
	loop_child_forget(p->loop, p->proc.pid);
	release(p);
	return -1;
}

bool exec_program_runs(const struct exec_program *p)
{
	return p->proc.pid > 0;
}

int exec_program_feed(struct exec_program *p, const struct exec_feed *feed, struct err *err)
{
	if (p->proc.in < 0)
		return err_set(err, ERR_IO, "the program has closed its standard input");
	p->feed = *feed;
	p->feed_at = p->marks = 0;
	loop_fd_remove(p->in);
	p->in = loop_fd_add(p->loop, p->proc.in, LOOP_WRITE, on_in, p, err);
	return p->in == NULL ? -1 : 0;
}

uint64_t exec_program_taken(const struct exec_program *p)
{
	int waits = 0;

	if (p->proc.in >= 0 && ioctl(p->proc.in, FIONREAD, &waits) < 0)
		waits = 0;
	return p->feed_at > (uint64_t)waits ? p->feed_at - (uint64_t)waits : 0;
}

uint64_t exec_program_given(const struct exec_program *p)
{
	return p->feed.marks == 0 ? 0 : p->marks / p->feed.marks;
}

bool exec_program_fed(const struct exec_program *p)
{
	return p->feed_at >= p->feed.size;
}

void exec_program_stop(struct exec_program *p)
{
	pid_t pid = p->proc.pid;

	if (pid > 0) {
		loop_child_forget(p->loop, pid);
		(void)kill(-pid, SIGKILL);
		(void)kill(pid, SIGKILL); /* it may not have made its group yet */
	}
	release(p);
}
