/* doctor_tunnel.c - whether the program that leads to a sync's target comes up. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/doctor_private.h"
#include "core/proc.h"
#include "core/tunnel_port.h"

/* What it says while the target is looked at is read by nobody: room for that. */
#define PIPE_BYTES (1024 * 1024)
#define GAP_MS 20
#define LISTENERS_MAX 8u

struct trial {
	struct proc proc;
	struct proc_user user;
	char words[512]; /* the last of it */
	int status;
};

static void keep_last(struct trial *t, const char *data, size_t n)
{
	const size_t max = sizeof(t->words) - 1;
	size_t had = strlen(t->words);

	if (n > max) {
		data += n - max;
		n = max;
	}
	if (had + n > max) {
		memmove(t->words, t->words + (had + n - max), max - n);
		had = max - n;
	}
	memcpy(t->words + had, data, n);
	t->words[had + n] = '\0';
}

static void hear(struct trial *t, int *fd)
{
	char data[4096];
	ssize_t n = read(*fd, data, sizeof(data));

	for (ssize_t i = 0; i < n; i++)
		if (data[i] == '\0')
			data[i] = ' ';
	if (n > 0)
		keep_last(t, data, (size_t)n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		(void)close(*fd);
		*fd = -1;
	}
}

static void wait_a_little(struct trial *t)
{
	struct pollfd fds[2] = { { .fd = t->proc.out, .events = POLLIN }, { .fd = t->proc.err, .events = POLLIN } };

	if (poll(fds, 2, GAP_MS) <= 0)
		return;
	if (fds[0].revents != 0)
		hear(t, &t->proc.out);
	if (fds[1].revents != 0)
		hear(t, &t->proc.err);
}

static const char *last_line(struct trial *t)
{
	size_t n = strlen(t->words);
	const char *line;

	while (n > 0 && (t->words[n - 1] == '\n' || t->words[n - 1] == '\r'))
		t->words[--n] = '\0';
	line = strrchr(t->words, '\n');
	return line == NULL ? t->words : line + 1;
}

static int begin(struct trial *t, const struct sync_options *opt, uint16_t port, struct err *err)
{
	char **argv = tunnel_port_argv(&opt->tunnel.command, port);
	const struct proc_spec spec = { .argv = (const char *const *)argv,
					.cwd = "/",
					.pipe_out = true,
					.pipe_err = true,
					.user = t->user.name == NULL ? NULL : &t->user,
					.reduced = true };
	int rc = argv == NULL ? err_set(err, ERR_NOMEM, "out of memory") : proc_spawn(&t->proc, &spec, err);

	tunnel_port_free_argv(argv);
	if (rc < 0)
		return -1;
	(void)fcntl(t->proc.out, F_SETPIPE_SZ, PIPE_BYTES); /* as much as we may have */
	(void)fcntl(t->proc.err, F_SETPIPE_SZ, PIPE_BYTES);
	return 0;
}

static bool is_up(const struct trial *t, const struct sync_options *opt, uint16_t port, int64_t began_ns)
{
	struct port_listener l[LISTENERS_MAX];

	if (opt->tunnel.ready_delay_ns > 0)
		return clock_mono_ns() - began_ns >= opt->tunnel.ready_delay_ns;
	return tunnel_port_is_held(l, tunnel_port_listeners(port, l, LISTENERS_MAX), t->proc.pid,
				   t->user.name == NULL ? geteuid() : t->user.uid);
}

/* What it says at its end is read to the end. */
static void tell_ended(struct trial *t, struct exam *x)
{
	char how[64];

	while (t->proc.err >= 0)
		hear(t, &t->proc.err);
	proc_status_text(t->status, how, sizeof(how));
	exam_fail(x,
		  "run its command by hand, as the daemon's user; ssh: BatchMode=yes, a key without passphrase, a "
		  "known host",
		  "it ended: %s%s%.300s", how, t->words[0] == '\0' ? "" : ": ", last_line(t));
}

static bool attend(struct trial *t, const struct sync_options *opt, uint16_t port, struct exam *x)
{
	int64_t began = clock_mono_ns();
	int64_t limit = opt->tunnel.ready_delay_ns > 0 ? opt->tunnel.ready_delay_ns + NS_PER_S : opt->tunnel.timeout_ns;

	limit = exam_left_ns(x, limit);
	while (!is_up(t, opt, port, began)) {
		pid_t gone = waitpid(t->proc.pid, &t->status, WNOHANG);

		if (gone == t->proc.pid) {
			tell_ended(t, x);
			return false;
		}
		if (clock_mono_ns() - began >= limit) {
			exam_fail(x, "see what it waits for: its command, run by hand; timeout gives it longer",
				  "nothing listens on port %u after %.0f s%s%.300s", port,
				  (double)limit / (double)NS_PER_S, t->words[0] == '\0' ? "" : ": ", last_line(t));
			return false;
		}
		wait_a_little(t);
	}
	exam_ok(x, "it is up, on port %u, after %.1f s", port, (double)(clock_mono_ns() - began) / (double)NS_PER_S);
	return true;
}

/* The daemon has the port, and what leads to it. */
static bool of_daemon(const struct sync_options *opt, struct exam *x, uint16_t *port)
{
	struct port_listener l;

	*port = (uint16_t)opt->tunnel.port;
	if (tunnel_port_listeners(*port, &l, 1) > 0) {
		exam_ok(x, "the daemon that runs has it up, on port %u", *port);
		return true;
	}
	exam_fail(x, "fansyncd --status shows its last words", "the daemon that runs does not have it up on port %u",
		  *port);
	return false;
}

static int choose(const struct sync_options *opt, uint16_t *port, struct err *err)
{
	if (opt->tunnel.port > 0) {
		*port = (uint16_t)opt->tunnel.port;
		return tunnel_port_free(*port) ? 0
					       : err_set(err, ERR_LIMIT, "port %u is in use by another program", *port);
	}
	*port = tunnel_port_choose(err);
	return *port == 0 ? -1 : 0;
}

bool doctor_tunnel(const struct sync_options *opt, bool running, struct exam *x, uint16_t *port)
{
	struct trial t = { .proc = { 0, -1, -1, -1 } };
	struct err err = ERR_INIT;

	exam_begin(x, "tunnel");
	if (running && opt->tunnel.port > 0)
		return of_daemon(opt, x, port);
	if (choose(opt, port, &err) < 0 ||
	    (opt->tunnel.user != NULL && proc_user_find(&t.user, opt->tunnel.user, &err) < 0) ||
	    begin(&t, opt, *port, &err) < 0) {
		exam_fail(x, "see tunnel = { } of the sync", "%s", err.text);
		return false;
	}
	if (!attend(&t, opt, *port, x)) {
		(void)kill(t.proc.pid, SIGTERM); /* what is left goes with our process group */
		return false;
	}
	if (!tunnel_port_named_in(&opt->tunnel.command) && opt->tunnel.port == 0)
		*port = 0;
	return true;
}
