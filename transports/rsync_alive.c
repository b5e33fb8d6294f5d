/*
 * rsync_alive.c - whether a process that says nothing is at work; see rsync_alive.h.
 */
#include "transports/rsync_alive.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/clock.h"

/* In a second: four bytes each, or a little more with old protocols. */
#define KEEPALIVE_BYTES 64u
/* Beyond some 6 s of them (tcp(7), tcp_retries2) a line does not let through what we send. */
#define SENT_AGAIN_MOST 5u
/* rsync's own are among the first. */
#define FDS_MAX 16
/* Looks, one a second. An automounter may take some. */
#define STUCK_LOOKS 5u
/* Who limits the bandwidth waits for his turn, but for no more than seconds. */
#define WAITING_LOOKS 20u
#define FAMILY_DEPTH 2u
#define FAMILY_MAX 4u

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

/* ---- what all of them do ---- */

/* proc(5): the number of the system call that it is in, and its arguments; or "running". -1 for that, and when the
 * kernel doesn't tell. */
static long call_of(pid_t pid)
{
	char text[256], *end;
	long call;

	read_proc(pid, "syscall", text, sizeof(text));
	call = strtol(text, &end, 10);
	return end == text ? -1 : call;
}

static bool is_open(long call)
{
#ifdef SYS_open
	if (call == SYS_open)
		return true;
#endif
	return call == SYS_openat || call == SYS_openat2;
}

static bool is_poll(long call)
{
#ifdef SYS_poll
	if (call == SYS_poll)
		return true;
#endif
#ifdef SYS_select
	if (call == SYS_select)
		return true;
#endif
	return call == SYS_ppoll || call == SYS_pselect6;
}

/* utime and stime of /proc/PID/stat, in ticks: fields 14 and 15, counted behind the name, which may hold anything. */
static uint64_t ticks_of(pid_t pid)
{
	char text[1024], *at;
	unsigned long long user = 0, kernel = 0;

	read_proc(pid, "stat", text, sizeof(text));
	at = strrchr(text, ')');
	for (int i = 0; at != NULL && i < 12; i++)
		at = strchr(at + 1, ' ');
	if (at != NULL && sscanf(at, "%llu %llu", &user, &kernel) != 2)
		return 0;
	return user + kernel;
}

struct family {
	bool opening, waiting; /* one of them; all of them */
	uint64_t busy;
};

/* It, and what it has forked: where the target is a local directory the other end is its child, and that one's. */
static void look_at(struct family *f, pid_t pid, unsigned depth)
{
	char name[48], text[512], *at = text;
	long call = call_of(pid);
	uint64_t in, out;

	bytes_moved(pid, &in, &out);
	f->busy += in + out + ticks_of(pid);
	f->opening = f->opening || is_open(call);
	f->waiting = f->waiting && is_poll(call);
	if (depth == FAMILY_DEPTH)
		return;
	(void)snprintf(name, sizeof(name), "task/%d/children", (int)pid);
	read_proc(pid, name, text, sizeof(text));
	for (unsigned i = 0; i < FAMILY_MAX; i++) {
		char *end;
		long child = strtol(at, &end, 10);

		if (end == at || child <= 0)
			break;
		look_at(f, (pid_t)child, depth + 1);
		at = end;
	}
}

/* How often in a row the process's connection has sent the same again, and got no answer to it. 0: it has none, or the
 * kernel doesn't tell (before 5.6; Yama's ptrace_scope). */
static unsigned sent_again(pid_t pid)
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	unsigned most = 0;

	for (int fd = 0; pidfd >= 0 && fd < FDS_MAX; fd++) {
		int copy = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
		struct tcp_info info;
		socklen_t len = sizeof(info);

		if (copy < 0)
			continue;
		if (getsockopt(copy, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 && info.tcpi_retransmits > most)
			most = info.tcpi_retransmits;
		(void)close(copy);
	}
	if (pidfd >= 0)
		(void)close(pidfd);
	return most;
}

/* While bytes move nobody looks at more than those. */
static void look_for_reasons(struct rsync_alive *a, bool moved)
{
	struct family f = { .waiting = true };
	int64_t now = clock_mono_ns();
	bool was_silent = now - a->moved_ns >= a->rules.silent_ns;

	if (moved) {
		a->moved_ns = now;
		a->opens = a->waits = 0;
		return;
	}
	look_at(&f, a->pid, 0);
	a->opens = f.opening ? a->opens + 1 : 0;
	a->waits = a->rules.alone && f.waiting && f.busy == a->was_busy ? a->waits + 1 : 0;
	a->was_busy = f.busy;
	if (a->opens == STUCK_LOOKS)
		a->stuck(a->ctx, RSYNC_STUCK_OPENING);
	else if (a->waits == WAITING_LOOKS)
		a->stuck(a->ctx, RSYNC_STUCK_WAITING);
	else if (a->rules.silent_ns > 0 && was_silent && !a->told_silent)
		a->stuck(a->ctx, RSYNC_STUCK_SILENT);
	a->told_silent = was_silent;
}

static void on_timer(void *ctx)
{
	struct rsync_alive *a = ctx;
	uint64_t in, out;
	bool sign, more, moved;

	loop_timer_after(a->timer, NS_PER_S);
	bytes_moved(a->pid, &in, &out);
	more = in >= a->was_read + KEEPALIVE_BYTES || out >= a->was_written + KEEPALIVE_BYTES;
	sign = more || (in != a->was_read && sent_again(a->pid) < SENT_AGAIN_MOST);
	moved = in != a->was_read || out != a->was_written;
	a->was_read = in;
	a->was_written = out;
	if (sign)
		a->sign(a->ctx);
	look_for_reasons(a, moved);
}

int rsync_alive_start(struct rsync_alive *a, struct loop *loop, pid_t pid, const struct rsync_alive_rules *rules,
		      void (*sign)(void *ctx), void (*stuck)(void *ctx, enum rsync_stuck why), void *ctx,
		      struct err *err)
{
	*a = (struct rsync_alive){
		.pid = pid, .rules = *rules, .moved_ns = clock_mono_ns(), .sign = sign, .stuck = stuck, .ctx = ctx
	};
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
