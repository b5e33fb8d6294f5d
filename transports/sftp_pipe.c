/*
 * sftp_pipe.c - a stream over an ssh process: `ssh -s HOST sftp`, whose pipes carry the protocol. Everything about the
 * connection is ssh's: its configuration, keys, agents, jumps, ciphers. Its words on standard error explain its end.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/proc.h"
#include "transports/remote_shell.h"
#include "transports/rsync_args.h"
#include "transports/sftp_stream.h"
#include "transports/ssh_target.h"
#include "transports/ssh_words.h"

#define PIECE (64u * 1024)
/* How much of a stream is taken before others get their turn. */
#define ROUND (1024u * 1024)

struct sftp_stream {
	struct loop *loop;
	const struct sync_options *opt;
	struct sftp_stream_events events;
	char *host;
	struct proc proc;
	struct loop_fd *in, *out, *err;
	struct loop_timer *timer;
	struct ssh_words words;
	bool opened, ended, full;
};

static void end_process(struct sftp_stream *s)
{
	if (s->proc.pid <= 0)
		return;
	(void)kill(-s->proc.pid, SIGKILL);
	(void)kill(s->proc.pid, SIGKILL); /* it may not have made its group yet */
}

/* ---- what it says ---- */

static void on_err(void *ctx, int fd, unsigned events)
{
	struct sftp_stream *s = ctx;

	(void)fd;
	(void)events;
	if (ssh_words_read(&s->words, s->proc.err, s->host) != 0)
		return;
	loop_fd_remove(s->err);
	s->err = NULL;
}

/* ---- the stream ---- */

static void on_out(void *ctx, int fd, unsigned events)
{
	struct sftp_stream *s = ctx;
	char data[PIECE];

	(void)events;
	for (size_t got = 0; got < ROUND && !s->ended;) {
		ssize_t n = read(fd, data, sizeof(data));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			loop_fd_remove(s->out);
			s->out = NULL;
			return; /* its end follows and says why */
		}
		got += (size_t)n;
		s->events.came(s->events.ctx, data, (size_t)n);
	}
}

static void on_in(void *ctx, int fd, unsigned events)
{
	struct sftp_stream *s = ctx;

	(void)fd;
	if ((events & LOOP_HUP) != 0) {
		loop_fd_remove(s->in);
		s->in = NULL;
		return;
	}
	loop_fd_set(s->in, 0);
	if (s->full) {
		s->full = false;
		s->events.writable(s->events.ctx);
	}
}

static size_t write_some(struct sftp_stream *s, const char *data, size_t n)
{
	size_t done = 0;

	while (done < n && s->in != NULL && !s->ended) {
		ssize_t rc = write(s->proc.in, data + done, n - done);

		if (rc < 0 && errno == EINTR)
			continue;
		if (rc < 0)
			break; /* EPIPE: its end follows */
		done += (size_t)rc;
	}
	if (done < n && s->in != NULL) {
		s->full = true;
		loop_fd_set(s->in, LOOP_WRITE);
	}
	return done;
}

static void explain(struct sftp_stream *s, int status, struct err *why)
{
	char how[80];

	proc_status_text(status, how, sizeof(how));
	if (WIFEXITED(status) && WEXITSTATUS(status) == 255)
		remote_why(why, s->host, ssh_words_line(&s->words), WEXITSTATUS(status));
	else
		err_set(why, ERR_NETWORK, "the SFTP server at %.80s ended (%s)%s%.300s", s->host, how,
			s->words.len > 0 ? ": " : "", ssh_words_line(&s->words));
}

static void on_child(void *ctx, pid_t pid, int status)
{
	struct sftp_stream *s = ctx;
	struct err why = ERR_INIT;

	(void)pid;
	s->proc.pid = 0;
	while (s->err != NULL && ssh_words_read(&s->words, s->proc.err, s->host) > 0)
		;
	if (s->out != NULL)
		on_out(s, s->proc.out, LOOP_READ);
	if (s->ended)
		return;
	s->ended = true;
	explain(s, status, &why);
	s->events.ended(s->events.ctx, &why);
}

/* The server is asked at once: what goes into the pipe waits there for the login. While ssh lives, so does the
 * connection: it sends keepalives of its own, and ends without an answer. */
static void on_timer(void *ctx)
{
	struct sftp_stream *s = ctx;

	if (s->ended)
		return;
	loop_timer_after(s->timer, s->opt->ssh.timeout_ns / 4);
	if (s->opened) {
		s->events.alive(s->events.ctx);
		return;
	}
	s->opened = true;
	s->events.opened(s->events.ctx);
}

/* ---- life ---- */

static bool add_args(struct arglist *a, const struct sftp_stream *s)
{
	const struct ssh_options *o = &s->opt->ssh;

	(void)arglist_add(a, o->binary);
	(void)ssh_target_add_options(a, o);
	/* Behind the administrator's own options, before ssh's files. */
	(void)arglist_printf(a, "-oStrictHostKeyChecking=%s", o->strict == SSH_ACCEPT_NEW ? "accept-new" : "yes");
	(void)arglist_add(a, "-oClearAllForwardings=yes");
	if (s->opt->rsync.compress)
		(void)arglist_add(a, "-oCompression=yes");
	if (o->sftp_server == NULL)
		(void)arglist_add(a, "-s");
	(void)arglist_add(a, "--");
	(void)arglist_add(a, s->host);
	return arglist_add(a, o->sftp_server == NULL ? "sftp" : o->sftp_server);
}

static int start(struct sftp_stream *s, struct err *err)
{
	static const char *const env[] = { "LC_ALL=C", NULL }; /* ssh's words are looked at: they must be English */
	struct arglist a = { 0 };
	struct proc_spec how = { .env = env, .pipe_in = true, .pipe_out = true, .pipe_err = true, .own_group = true };
	int rc;

	if (!add_args(&a, s)) {
		arglist_done(&a);
		return err_set(err, ERR_NOMEM, "out of memory for ssh's arguments");
	}
	how.argv = (const char *const *)a.v;
	rc = proc_spawn(&s->proc, &how, err);
	arglist_done(&a);
	if (rc < 0) {
		s->proc = (struct proc){ 0, -1, -1, -1 };
		if (err->class == ERR_GONE)
			err_set(err, ERR_CONFIG, "can't start %.200s: install ssh, or set ssh.binary",
				s->opt->ssh.binary);
		return -1;
	}
	return 0;
}

static int watch(struct sftp_stream *s, struct err *err)
{
	s->in = loop_fd_add(s->loop, s->proc.in, 0, on_in, s, err);
	s->out = s->in == NULL ? NULL : loop_fd_add(s->loop, s->proc.out, LOOP_READ, on_out, s, err);
	s->err = s->out == NULL ? NULL : loop_fd_add(s->loop, s->proc.err, LOOP_READ, on_err, s, err);
	s->timer = s->err == NULL ? NULL : loop_timer_add(s->loop, on_timer, s, err);
	if (s->timer == NULL)
		return -1;
	loop_timer_after(s->timer, 0);
	return loop_child(s->loop, s->proc.pid, on_child, s, err);
}

static void close_stream(struct sftp_stream *s)
{
	if (s == NULL)
		return;
	if (s->proc.pid > 0) {
		loop_child_forget(s->loop, s->proc.pid);
		end_process(s);
	}
	loop_fd_remove(s->in);
	loop_fd_remove(s->out);
	loop_fd_remove(s->err);
	loop_timer_remove(s->timer);
	proc_close(&s->proc);
	free(s->host);
	free(s);
}

static struct sftp_stream *open_stream(struct loop *loop, const struct sync_options *opt,
				       const struct sftp_stream_events *events, struct err *err)
{
	struct sftp_stream *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		err_set(err, ERR_NOMEM, "out of memory for a connection");
		return NULL;
	}
	s->loop = loop;
	s->opt = opt;
	s->events = *events;
	s->proc = (struct proc){ 0, -1, -1, -1 };
	s->host = ssh_target_host(opt->host);
	if (s->host == NULL)
		err_set(err, ERR_NOMEM, "out of memory for a connection");
	if (s->host == NULL || start(s, err) < 0 || watch(s, err) < 0) {
		close_stream(s);
		return NULL;
	}
	return s;
}

const struct sftp_stream_kind sftp_stream_pipe = { .open = open_stream, .write = write_some, .close = close_stream };
