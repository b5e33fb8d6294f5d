/*
 * rsync_run.c - one rsync process; see rsync_run.h.
 */
#include "transports/rsync_run.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "core/pipes.h"
#include "transports/rsync_domain.h"
#include "transports/rsync_exit.h"

void rsync_run_init(struct rsync_run *r, struct loop *loop, void (*event)(void *ctx, const struct rsync_event *ev),
		    void (*ended)(void *ctx, int status), void *ctx)
{
	*r = (struct rsync_run){ .loop = loop, .event = event, .ended = ended, .ctx = ctx };
	r->proc = (struct proc){ 0, -1, -1, -1 };
	buf_init(&r->list, 0);
	rsync_output_init(&r->parse_out, event, ctx);
	rsync_output_init(&r->parse_err, event, ctx);
	rsync_rsh_init(&r->rsh, loop);
}

static void close_in(struct rsync_run *r)
{
	loop_fd_remove(r->in);
	r->in = NULL;
	if (r->proc.in >= 0)
		(void)close(r->proc.in);
	r->proc.in = -1;
	if (r->secret)
		buf_wipe(&r->list);
	buf_done(&r->list);
}

static void on_in(void *ctx, int fd, unsigned events)
{
	struct rsync_run *r = ctx;

	(void)events;
	while (r->sent < r->list.len) {
		ssize_t n = pipe_write(fd, r->list.data + r->sent, r->list.len - r->sent);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			if (errno != EPIPE) /* a part of the list would be all that it is asked for */
				(void)kill(-r->proc.pid, SIGKILL);
			break; /* else it closed its end: how it ends says why */
		}
		r->sent += (size_t)n;
	}
	close_in(r);
}

static void feed(void *ctx, const char *data, size_t len)
{
	rsync_output_feed(ctx, data, len);
}

static void on_out(void *ctx, int fd, unsigned events)
{
	struct rsync_run *r = ctx;

	(void)events;
	if (!pipe_read(fd, false, feed, &r->parse_out)) {
		loop_fd_remove(r->out);
		r->out = NULL;
	}
}

static void on_err(void *ctx, int fd, unsigned events)
{
	struct rsync_run *r = ctx;

	(void)events;
	if (!pipe_read(fd, false, feed, &r->parse_err)) {
		loop_fd_remove(r->err);
		r->err = NULL;
	}
}

static void on_alive(void *ctx)
{
	struct rsync_run *r = ctx;
	const struct rsync_event ev = { .kind = RSYNC_ALIVE };

	r->event(r->ctx, &ev);
}

/* Its end is reported as that of any other run, with these words. */
static void on_stuck(void *ctx, enum rsync_stuck why)
{
	static const char *const words[] = { RSYNC_STUCK_WORDS, RSYNC_DEADLOCK_WORDS, RSYNC_SILENT_WORDS };
	struct rsync_run *r = ctx;
	const struct rsync_event ev = { .kind = RSYNC_TEXT, .text = words[why], .text_len = strlen(words[why]) };

	if (why == RSYNC_STUCK_WAITING && r->in != NULL) { /* for the rest of its list */
		r->alive.waits = 0;
		return;
	}
	r->event(r->ctx, &ev);
	rsync_run_end(r);
}

static void release(struct rsync_run *r)
{
	rsync_alive_stop(&r->alive);
	close_in(r);
	loop_fd_remove(r->out);
	loop_fd_remove(r->err);
	r->out = r->err = NULL;
	proc_close(&r->proc);
	rsync_rsh_close(&r->rsh);
	rsync_domain_leave(r->held);
	r->held = NULL;
	r->proc.pid = 0;
	rsync_output_done(&r->parse_out);
	rsync_output_done(&r->parse_err);
}

static void on_child(void *ctx, pid_t pid, int status)
{
	struct rsync_run *r = ctx;

	(void)pid;
	if (r->err != NULL)
		(void)pipe_read(r->proc.err, true, feed, &r->parse_err);
	if (r->out != NULL)
		(void)pipe_read(r->proc.out, true, feed, &r->parse_out);
	rsync_output_end(&r->parse_out);
	rsync_output_end(&r->parse_err);
	release(r);
	r->ended(r->ctx, status);
}

int rsync_run_start(struct rsync_run *r, struct rsync_start *how, struct buf *list, struct err *err)
{
	/* rsync's words are parsed: they must be English. */
	static const char *const env[] = { "LC_ALL=C", NULL };
	const bool shell = r->rsh.theirs >= 0;
	const struct proc_spec spec = { .argv = (const char *const *)how->argv,
					.env = env,
					.cwd = how->cwd,
					.pipe_in = true,
					.pipe_out = true,
					.pipe_err = true,
					.pass_fd = shell ? r->rsh.theirs : 0,
					.more_fds = &r->rsh.program,
					.n_more_fds = shell ? 1 : 0,
					.domain = how->domain,
					.own_group = true };

	if (proc_spawn(&r->proc, &spec, err) < 0) {
		r->proc = (struct proc){ 0, -1, -1, -1 };
		rsync_rsh_close(&r->rsh);
		return -1;
	}
	rsync_rsh_given(&r->rsh);
	r->held = how->held;
	how->held = NULL;
	buf_done(&r->list);
	r->list = *list;
	buf_init(list, list->max);
	r->sent = 0;
	r->secret = how->secret;
	rsync_output_init(&r->parse_out, r->event, r->ctx);
	rsync_output_init(&r->parse_err, r->event, r->ctx);
	r->in = loop_fd_add(r->loop, r->proc.in, LOOP_WRITE, on_in, r, err);
	r->out = r->in == NULL ? NULL : loop_fd_add(r->loop, r->proc.out, LOOP_READ, on_out, r, err);
	r->err = r->out == NULL ? NULL : loop_fd_add(r->loop, r->proc.err, LOOP_READ, on_err, r, err);
	if (r->err == NULL ||
	    rsync_alive_start(&r->alive, r->loop, r->proc.pid, &how->alive, on_alive, on_stuck, r, err) < 0 ||
	    loop_child(r->loop, r->proc.pid, on_child, r, err) < 0) {
		(void)kill(-r->proc.pid, SIGKILL);
		loop_child_forget(r->loop, r->proc.pid);
		release(r);
		return -1;
	}
	return 0;
}

void rsync_run_end(struct rsync_run *r)
{
	if (r->proc.pid > 0)
		(void)kill(r->proc.pid, SIGTERM);
}

void rsync_run_stop(struct rsync_run *r)
{
	pid_t pid = r->proc.pid;

	if (pid > 0) {
		loop_child_forget(r->loop, pid);
		(void)kill(-pid, SIGKILL);
		(void)kill(pid, SIGKILL); /* it may not have made its group yet */
	}
	release(r);
}
