/*
 * remote_shell.c - commands for a shell behind ssh, and its replies; see remote_shell.h.
 */
#include "transports/remote_shell.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/pipes.h"
#include "core/proc.h"
#include "transports/rsync_run.h"
#include "transports/ssh_words.h"

#define QUEUE_MAX (64u * 1024 * 1024)
/* Memory for a reply that is not given back at once. */
#define DATA_KEPT (1024u * 1024)
/* A shell that closed its output while it owes replies has so long to end by itself. */
#define END_NS (5 * NS_PER_S)

bool remote_quote(struct buf *out, const char *bytes, size_t len)
{
	(void)buf_add_byte(out, '\'');
	for (size_t i = 0; i < len; i++) {
		if (bytes[i] == '\'')
			(void)buf_add_str(out, "'\\'");
		(void)buf_add_byte(out, (unsigned char)bytes[i]);
	}
	return buf_add_byte(out, '\'');
}

void remote_reader_init(struct remote_reader *r, const char *token)
{
	*r = (struct remote_reader){ .next = 0 };
	(void)snprintf(r->token, sizeof(r->token), "%s", token);
}

/* Whether the line in hand ends the reply that is due; its status, or -1. */
static int end_status(const struct remote_reader *r)
{
	size_t n = strlen(r->token);
	char rest[48], want[32], *end;
	size_t want_len;
	long status;

	if (r->line_len <= n || r->line_len - n >= sizeof(rest) || memcmp(r->line, r->token, n) != 0)
		return -1;
	memcpy(rest, r->line + n, r->line_len - n);
	rest[r->line_len - n] = '\0';
	want_len = (size_t)snprintf(want, sizeof(want), " %llu ", (unsigned long long)r->next);
	if (strncmp(rest, want, want_len) != 0 || rest[want_len] < '0' || rest[want_len] > '9')
		return -1;
	status = strtol(rest + want_len, &end, 10);
	return *end != '\0' || status > 255 ? -1 : (int)status;
}

static void keep_line(struct remote_reader *r)
{
	size_t room = sizeof(r->said) - r->said_len;
	size_t n = r->line_len < room ? r->line_len : room;

	if (r->all != NULL) {
		(void)buf_add(r->all, r->line, r->line_len);
		(void)buf_add_byte(r->all, '\n');
	}
	if (n == 0)
		return;
	if (r->said_len > 0 && n < room)
		r->said[r->said_len++] = '\n';
	memcpy(r->said + r->said_len, r->line, n);
	r->said_len += n;
}

/* A long line goes on where all is kept, and loses its end where only its beginning is. */
static void add_byte(struct remote_reader *r, char c)
{
	if (r->line_len == sizeof(r->line)) {
		r->cut = true;
		if (r->all == NULL)
			return;
		(void)buf_add(r->all, r->line, r->line_len);
		r->line_len = 0;
	}
	r->line[r->line_len++] = c;
}

size_t remote_reader_feed(struct remote_reader *r, const char *data, size_t n, int *status)
{
	*status = -1;
	if (r->complete)
		r->said_len = 0;
	r->complete = false;
	for (size_t i = 0; i < n; i++) {
		if (data[i] != '\n') {
			add_byte(r, data[i]);
			continue;
		}
		*status = r->cut ? -1 : end_status(r);
		if (*status < 0)
			keep_line(r);
		r->line_len = 0;
		r->cut = false;
		if (*status >= 0) {
			r->next++;
			r->complete = true;
			return i + 1;
		}
	}
	return n;
}

/* In the order of what explains more. */
static const struct {
	const char *word;
	enum err_class class;
	const char *advice;
} words[] = {
	{ "REMOTE HOST IDENTIFICATION HAS CHANGED", ERR_AUTH,
	  "the host's key is another one than known_hosts says: if that is right, remove the old one with `ssh-keygen "
	  "-R`" },
	{ "No matching host key", ERR_AUTH, NULL },
	{ "Host key verification failed", ERR_AUTH,
	  "the host's key is not known: `ssh-keyscan` shows it, once compared it belongs into known_hosts" },
	{ "UNPROTECTED PRIVATE KEY", ERR_AUTH, "the identity file must be readable by its owner only" },
	{ "Permission denied", ERR_AUTH, "no key was accepted: `ssh-copy-id` installs one, ssh.identityFile names it" },
	{ "Too many authentication failures", ERR_AUTH,
	  "ssh.identityFile and IdentitiesOnly=yes name the one key to use" },
	{ "Bad configuration option", ERR_CONFIG, "see ssh = { } of the sync" },
	{ "command-line line", ERR_CONFIG, "see ssh = { } of the sync" },
	{ "usage: ssh", ERR_CONFIG, "see ssh.extra of the sync" },
	{ "Could not resolve hostname", ERR_NETWORK, "the host's name is not known" },
	{ "Connection refused", ERR_NETWORK, "no ssh server listens there: see host and ssh.port" },
};

void remote_why(struct err *out, const char *host, const char *said, int exit_status)
{
	enum err_class class = ERR_NETWORK;
	const char *advice = NULL;
	size_t n = strlen(said), skip = n > 300 ? n - 300 : 0;

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strstr(said, words[i].word) != NULL) {
			class = words[i].class;
			advice = words[i].advice;
			break;
		}
	err_set(out, class, "ssh to %.80s: %s%s%s%s", host,
		n == 0 ? "the connection ended without a word" : said + skip, advice == NULL ? "" : " (",
		advice == NULL ? "" : advice, advice == NULL ? "" : ")");
	out->code = exit_status;
}

struct remote_shell {
	struct loop *loop;
	struct remote_handler h;
	struct proc proc;
	struct loop_fd *in, *out, *err;
	struct loop_timer *timer;
	struct buf queue;
	struct remote_reader reader;
	struct buf all; /* of the reply that comes */
	uint64_t calls; /* the greeting is the first */
	bool greeted, timed_out, broken;
	bool patient; /* it was logged in when the time was over, and got more */
	int64_t ready_ns;
	struct ssh_words words;
	char *host, *control;
	bool busy, closed; /* closed while replies are handed out: freed when they are */
};

static int make_token(char token[REMOTE_TOKEN + 1], struct err *err)
{
	unsigned char raw[REMOTE_TOKEN / 2];

	if (getrandom(raw, sizeof(raw), 0) != (ssize_t)sizeof(raw))
		return err_errno(err, errno, "getrandom");
	for (size_t i = 0; i < sizeof(raw); i++)
		(void)snprintf(token + 2 * i, 3, "%02x", raw[i]);
	return 0;
}

static void end_process(struct remote_shell *r)
{
	if (r->proc.pid <= 0)
		return;
	(void)kill(-r->proc.pid, SIGKILL);
	(void)kill(r->proc.pid, SIGKILL); /* it may not have made its group yet */
}

void remote_shell_close(struct remote_shell *r)
{
	if (r == NULL)
		return;
	if (r->proc.pid > 0) {
		loop_child_forget(r->loop, r->proc.pid);
		end_process(r);
	}
	loop_fd_remove(r->in);
	loop_fd_remove(r->out);
	loop_fd_remove(r->err);
	loop_timer_remove(r->timer);
	proc_close(&r->proc);
	buf_done(&r->queue);
	buf_done(&r->all);
	free(r->host);
	free(r->control);
	r->closed = true;
	if (!r->busy)
		free(r);
}

bool remote_shell_ready(const struct remote_shell *r)
{
	return r != NULL && r->greeted && !r->broken;
}

const struct buf *remote_shell_data(const struct remote_shell *r)
{
	return &r->all;
}

size_t remote_shell_queued(const struct remote_shell *r)
{
	return r->queue.len;
}

static void in_gone(struct remote_shell *r)
{
	r->broken = true; /* its end follows and says why */
	buf_clear(&r->queue);
	loop_fd_remove(r->in);
	r->in = NULL;
}

static void on_in(void *ctx, int fd, unsigned events)
{
	struct remote_shell *r = ctx;

	if ((events & LOOP_HUP) != 0) {
		in_gone(r);
		return;
	}
	while (r->queue.len > 0) {
		ssize_t n = pipe_write(fd, r->queue.data, r->queue.len < 65536 ? r->queue.len : 65536);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			in_gone(r);
			return;
		}
		buf_consume(&r->queue, (size_t)n);
	}
	loop_fd_set(r->in, 0);
}

/* Standard input is the script: no command may read it. */
static bool push(struct remote_shell *r, const char *command, size_t len)
{
	(void)buf_add_str(&r->queue, "{ ");
	(void)buf_add(&r->queue, command, len);
	(void)buf_printf(&r->queue, "; } </dev/null 2>&1\nprintf '\\n%%s %%s %%s\\n' '%s' %llu $?\n", r->reader.token,
			 (unsigned long long)r->calls++);
	r->broken = r->broken || r->queue.failed;
	loop_fd_set(r->in, LOOP_WRITE);
	return !r->broken;
}

bool remote_shell_call(struct remote_shell *r, const char *command, size_t len)
{
	return remote_shell_ready(r) && push(r, command, len);
}

static void take_reply(struct remote_shell *r, int status)
{
	if (r->greeted) {
		r->h.reply(r->h.ctx, status, r->reader.said, r->reader.said_len);
		if (r->all.cap > DATA_KEPT)
			buf_done(&r->all);
		buf_clear(&r->all);
		return;
	}
	buf_clear(&r->all);
	r->greeted = true;
	loop_timer_stop(r->timer);
	r->h.ready(r->h.ctx);
}

/* false: closed by a callback, and gone. */
static bool take(struct remote_shell *r, const char *data, size_t n)
{
	r->busy = true;
	while (n > 0 && !r->closed) {
		int status;
		size_t used = remote_reader_feed(&r->reader, data, n, &status);

		data += used;
		n -= used;
		if (status >= 0)
			take_reply(r, status);
	}
	r->busy = false;
	if (!r->closed)
		return true;
	free(r);
	return false;
}

/* One buffer, or all there is. 1: more may come, 0: end of file, -1: closed by a callback. */
static int read_out(struct remote_shell *r, bool all)
{
	char data[16384];

	do {
		ssize_t n = read(r->proc.out, data, sizeof(data));

		if (n == 0)
			return 0;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 1 : 0;
		if (!take(r, data, (size_t)n))
			return -1;
	} while (all);
	return 1;
}

static void on_out(void *ctx, int fd, unsigned events)
{
	struct remote_shell *r = ctx;

	(void)fd;
	(void)events;
	if (read_out(r, false) != 0)
		return;
	/* The connection may still serve others. */
	r->broken = true;
	loop_fd_remove(r->out);
	r->out = NULL;
	if (r->reader.next < r->calls)
		loop_timer_after(r->timer, END_NS);
}

static void on_err(void *ctx, int fd, unsigned events)
{
	struct remote_shell *r = ctx;

	(void)fd;
	(void)events;
	if (ssh_words_read(&r->words, r->proc.err, r->host) == 0) {
		loop_fd_remove(r->err);
		r->err = NULL;
	}
}

static bool logged_in(const struct remote_shell *r)
{
	struct stat st;

	return r->control != NULL && lstat(r->control, &st) == 0;
}

static enum remote_end how_it_ended(struct remote_shell *r, int status, struct err *why)
{
	char how[80];

	proc_status_text(status, how, sizeof(how));
	if (r->timed_out && !r->greeted) {
		bool in = logged_in(r);

		err_set(why, ERR_NETWORK, "ssh to %.80s: %s did not answer in time%s%.300s", r->host,
			in ? "the shell there" : "the host", r->words.len > 0 ? ": " : "", ssh_words_line(&r->words));
		return in ? REMOTE_NO_SHELL : REMOTE_LOST;
	}
	if (!r->greeted && WIFEXITED(status) && WEXITSTATUS(status) != 255) {
		err_set(why, ERR_CONFIG, "no shell at %.80s (%s)%s%.300s", r->host, how, r->words.len > 0 ? ": " : "",
			ssh_words_line(&r->words));
		return REMOTE_NO_SHELL;
	}
	if (WIFEXITED(status)) {
		remote_why(why, r->host, ssh_words_line(&r->words), WEXITSTATUS(status));
		if (WEXITSTATUS(status) != 255)
			err_set(why, ERR_NETWORK, "the shell at %.80s ended (%s)", r->host, how);
	} else {
		err_set(why, ERR_NETWORK, "ssh to %.80s was %s", r->host, how);
	}
	return REMOTE_LOST;
}

static void on_child(void *ctx, pid_t pid, int status)
{
	struct remote_shell *r = ctx;
	struct err why = ERR_INIT;
	enum remote_end how;

	(void)pid;
	r->proc.pid = 0;
	while (r->err != NULL && ssh_words_read(&r->words, r->proc.err, r->host) > 0)
		;
	if (r->out != NULL && read_out(r, true) < 0)
		return;
	r->broken = true;
	loop_timer_stop(r->timer);
	how = how_it_ended(r, status, &why);
	r->h.ended(r->h.ctx, how, &why); /* may close: nothing of r is used from here */
}

static void on_timer(void *ctx)
{
	struct remote_shell *r = ctx;

	/* Of a connection that was lost behind the login ssh itself tells: three questions without an answer, each a
	 * third of the time. Only silence beyond that is a shell that is none. */
	if (!r->greeted && !r->patient && r->out != NULL && logged_in(r)) {
		r->patient = true;
		loop_timer_after(r->timer, r->ready_ns / 3 * 4);
		return;
	}
	r->timed_out = true;
	end_process(r);
}

static int watch(struct remote_shell *r, int64_t ready_ns, struct err *err)
{
	r->in = loop_fd_add(r->loop, r->proc.in, LOOP_WRITE, on_in, r, err);
	r->out = r->in == NULL ? NULL : loop_fd_add(r->loop, r->proc.out, LOOP_READ, on_out, r, err);
	r->err = r->out == NULL ? NULL : loop_fd_add(r->loop, r->proc.err, LOOP_READ, on_err, r, err);
	r->timer = r->err == NULL ? NULL : loop_timer_add(r->loop, on_timer, r, err);
	if (r->timer == NULL)
		return -1;
	r->ready_ns = ready_ns;
	loop_timer_after(r->timer, ready_ns);
	return loop_child(r->loop, r->proc.pid, on_child, r, err);
}

static struct remote_shell *make(struct loop *loop, const struct remote_spec *spec, const struct remote_handler *h)
{
	struct remote_shell *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	r->loop = loop;
	r->h = *h;
	r->proc = (struct proc){ 0, -1, -1, -1 };
	buf_init(&r->queue, QUEUE_MAX);
	buf_init(&r->all, 0);
	r->host = strdup(spec->host);
	r->control = spec->control == NULL ? NULL : strdup(spec->control);
	if (r->host == NULL || (spec->control != NULL && r->control == NULL)) {
		remote_shell_close(r);
		return NULL;
	}
	return r;
}

struct remote_shell *remote_shell_open(struct loop *loop, const struct remote_spec *spec,
				       const struct remote_handler *h, struct err *err)
{
	static const char *const env[] = { "LC_ALL=C", NULL }; /* ssh's words are looked at: they must be English */
	const struct proc_spec how = {
		.argv = spec->argv, .env = env, .pipe_in = true, .pipe_out = true, .pipe_err = true, .own_group = true
	};
	struct remote_shell *r = make(loop, spec, h);
	char token[REMOTE_TOKEN + 1];

	if (r == NULL) {
		err_set(err, ERR_NOMEM, "out of memory for a remote shell");
		return NULL;
	}
	if (make_token(token, err) < 0 || proc_spawn(&r->proc, &how, err) < 0) {
		r->proc = (struct proc){ 0, -1, -1, -1 };
		remote_shell_close(r);
		return NULL;
	}
	remote_reader_init(&r->reader, token);
	buf_init(&r->all, spec->collect);
	r->reader.all = spec->collect > 0 ? &r->all : NULL;
	if (watch(r, spec->ready_ns, err) < 0) {
		remote_shell_close(r);
		return NULL;
	}
	(void)buf_add_str(&r->queue, spec->prelude);
	if (!push(r, ":", 1)) {
		remote_shell_close(r);
		err_set(err, ERR_NOMEM, "out of memory for a remote shell");
		return NULL;
	}
	return r;
}
