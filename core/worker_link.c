#include "core/worker_link.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/frame.h"
#include "core/listen_fds.h"
#include "core/log.h"
#include "core/proc.h"

#define READ_BYTES (256u * 1024)

struct worker_link {
	struct loop *loop;
	struct worker_events events;
	char *prefix; /* the name of the sync */
	pid_t pid;    /* 0: reaped */
	int fd;	      /* -1: closed */
	struct loop_fd *fd_source;
	struct buf in, out;
	int64_t heard_ns;
	bool held;     /* nothing is read and taken until it is resumed */
	char how[128]; /* it ended so while it was held; "": not */
};

static void close_socket(struct worker_link *l)
{
	if (l->fd < 0)
		return;
	loop_fd_remove(l->fd_source);
	l->fd_source = NULL;
	(void)close(l->fd);
	l->fd = -1;
}

void worker_link_kill(struct worker_link *l)
{
	if (l->pid > 0)
		(void)kill(l->pid, SIGKILL);
}

static void broken(struct worker_link *l, const char *what)
{
	log_error("%s: the worker sent %s: it is replaced", l->prefix, what);
	close_socket(l);
	worker_link_kill(l);
}

static void want_write(struct worker_link *l)
{
	if (l->fd_source != NULL)
		loop_fd_set(l->fd_source, (l->held ? 0 : LOOP_READ) | (l->out.len > 0 ? LOOP_WRITE : 0));
}

static void flush_out(struct worker_link *l)
{
	while (l->out.len > 0 && l->fd >= 0) {
		ssize_t n = send(l->fd, l->out.data, l->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			break; /* EAGAIN: later; anything else: its end is reported by the loop */
		buf_consume(&l->out, (size_t)n);
	}
	want_write(l);
}

/* ---- messages ---- */

static bool on_verdicts(struct worker_link *l, const char *p, size_t len)
{
	struct reader r;
	struct wire_verdict v;
	uint64_t id;
	int got;

	if (l->events.verdict == NULL || !wire_get_verdicts(p, len, &r, &id))
		return false;
	while ((got = wire_next_verdict(&r, &v)) > 0)
		l->events.verdict(l->events.ctx, id, &v);
	return got == 0;
}

static bool on_log(struct worker_link *l, const char *p, size_t len)
{
	uint32_t cat;
	const char *text;
	size_t n;

	if (!wire_get_log(p, len, &cat, &text, &n) || cat == LOG_NONE || cat >= LOG_CATEGORIES)
		return false;
	log_forward((enum log_category)cat, l->prefix, text, n);
	return true;
}

/* Messages that carry a struct of their own. */
static bool on_message(struct worker_link *l, uint8_t type, const char *p, size_t len)
{
	struct wire_found found;
	struct wire_progress progress;
	struct wire_counters counters;
	struct wire_linked linked;
	struct host_tree tree;
	struct err why;
	uint32_t pid, view;
	uint64_t id;
	const char *text;
	size_t text_len;

	switch (type) {
	case WIRE_FOUND:
		if (l->events.found == NULL || !wire_get_found(p, len, &found))
			return false;
		l->events.found(l->events.ctx, &found);
		return true;
	case WIRE_BATCH_DONE:
		if (l->events.batch_done == NULL || !wire_get_u64(p, len, &id))
			return false;
		l->events.batch_done(l->events.ctx, id);
		return true;
	case WIRE_DOWN:
		if (l->events.down == NULL || !wire_get_down(p, len, &why))
			return false;
		l->events.down(l->events.ctx, &why);
		return true;
	case WIRE_PROGRESS:
		if (l->events.progress == NULL || !wire_get_progress(p, len, &progress))
			return false;
		l->events.progress(l->events.ctx, &progress);
		return true;
	case WIRE_COUNTERS:
		if (l->events.counters == NULL || !wire_get_counters(p, len, &counters))
			return false;
		l->events.counters(l->events.ctx, &counters);
		return true;
	case WIRE_GUARD:
		if (l->events.guard == NULL)
			return false; /* it was given none */
		l->events.guard(l->events.ctx, p, len);
		return true;
	case WIRE_LINKED:
		if (l->events.linked == NULL || !wire_get_linked(p, len, &linked))
			return false;
		l->events.linked(l->events.ctx, &linked);
		return true;
	case WIRE_PEER:
		if (l->events.peer == NULL || !wire_get_peer(p, len, &tree))
			return false;
		l->events.peer(l->events.ctx, &tree);
		return true;
	case WIRE_ORIGIN:
		if (l->events.origin == NULL || !wire_get_origin(p, len, &pid, &tree))
			return false;
		l->events.origin(l->events.ctx, pid, &tree);
		return true;
	case WIRE_VIEW:
		if (l->events.view == NULL || !wire_get_view(p, len, &view, &text, &text_len) || text_len > 0)
			return false;
		l->events.view(l->events.ctx, (enum wire_view)view);
		return true;
	default:
		return false;
	}
}

static bool on_frame(struct worker_link *l, uint8_t type, const char *p, size_t len)
{
	switch (type) {
	case WIRE_READY:
		if (l->events.ready == NULL)
			return false;
		l->events.ready(l->events.ctx);
		return len == 0;
	case WIRE_VERDICTS:
		return on_verdicts(l, p, len);
	case WIRE_LOG:
		return on_log(l, p, len);
	default:
		return on_message(l, type, p, len);
	}
}

static void take_frames(struct worker_link *l)
{
	const char *payload;
	size_t len;
	uint8_t type;
	int got;

	while ((got = frame_next(&l->in, WIRE_FRAME_MAX, &type, &payload, &len)) > 0) {
		if (type == WIRE_VERDICTS && l->events.before_verdicts != NULL &&
		    !l->events.before_verdicts(l->events.ctx)) {
			frame_again(&l->in, len);
			l->held = true;
			want_write(l);
			return;
		}
		if (!on_frame(l, type, payload, len)) {
			broken(l, "a malformed message");
			return;
		}
	}
	if (got < 0)
		broken(l, "a frame that is too long");
}

/* One read a round: a worker that floods must not keep the loop from the watchers. */
static bool read_some(struct worker_link *l)
{
	ssize_t n;

	if (!buf_reserve(&l->in, READ_BYTES)) {
		broken(l, "more than there is memory for");
		return false;
	}
	n = recv(l->fd, l->in.data + l->in.len, READ_BYTES, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		close_socket(l); /* its end is near: the child's status will tell */
		worker_link_kill(l);
		return false;
	}
	l->in.len += (size_t)n;
	l->heard_ns = clock_mono_ns();
	take_frames(l);
	return l->fd >= 0;
}

static void on_socket(void *ctx, int fd, unsigned events)
{
	struct worker_link *l = ctx;

	(void)fd;
	if ((events & LOOP_WRITE) != 0)
		flush_out(l);
	if ((events & (LOOP_READ | LOOP_HUP)) != 0 && !l->held)
		(void)read_some(l);
}

/* What it said before it died still counts: verdicts of what has passed the commit point. */
static void read_last(struct worker_link *l)
{
	while (l->fd >= 0 && !l->held && read_some(l))
		;
	if (l->held)
		return;
	close_socket(l);
	l->events.ended(l->events.ctx, l->how);
}

static void on_child(void *ctx, pid_t pid, int status)
{
	struct worker_link *l = ctx;

	(void)pid;
	l->pid = 0;
	proc_status_text(status, l->how, sizeof(l->how));
	read_last(l);
}

void worker_link_resume(struct worker_link *l)
{
	if (!l->held)
		return;
	l->held = false;
	l->heard_ns = clock_mono_ns();
	want_write(l);
	take_frames(l);
	if (l->how[0] != '\0')
		read_last(l);
}

/* ---- start and end ---- */

static int spawn(struct worker_link *l, const struct worker_spec *spec, struct err *err)
{
	char count[8] = "";
	const char *const argv[] = { "/proc/self/exe", spec->mode, spec->name, spec->n_listen > 0 ? count : NULL,
				     NULL };
	int listen[LISTEN_FDS_MAX], pair[2];
	struct proc_spec ps = { .argv = argv, .own_group = true, .more_fds = listen, .n_more_fds = spec->n_listen };
	struct proc p;

	(void)snprintf(count, sizeof(count), "%u", (unsigned)spec->n_listen);
	for (int i = 0; i < LISTEN_FDS_MAX; i++)
		listen[i] = LISTEN_FDS_FIRST + i;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return err_errno(err, errno, "socketpair");
	ps.pass_fd = pair[1];
	if (spec->more_fd > 0) {
		ps.more_fds = &spec->more_fd;
		ps.n_more_fds = 1;
	}
	l->fd = pair[0];
	if (proc_spawn(&p, &ps, err) < 0) {
		(void)close(pair[1]);
		return -1;
	}
	(void)close(pair[1]);
	l->pid = p.pid;
	proc_close(&p);
	return loop_child(l->loop, l->pid, on_child, l, err);
}

struct worker_link *worker_link_start(struct loop *loop, const struct worker_spec *spec,
				      const struct worker_events *events, struct err *err)
{
	struct worker_link *l = calloc(1, sizeof(*l));

	if (l == NULL) {
		err_set(err, ERR_NOMEM, "out of memory");
		return NULL;
	}
	l->loop = loop;
	l->events = *events;
	l->fd = -1;
	l->heard_ns = clock_mono_ns();
	buf_init(&l->in, WIRE_FRAME_MAX + 2 * READ_BYTES);
	buf_init(&l->out, WIRE_QUEUE_MAX);
	if (asprintf(&l->prefix, "%s", spec->name) < 0)
		l->prefix = NULL;
	if (l->prefix == NULL || !wire_put_config(&l->out, &spec->config) ||
	    (spec->guard != NULL && !wire_put_guard(&l->out, spec->guard, spec->guard_len))) {
		err_set(err, ERR_NOMEM, "out of memory");
		worker_link_free(l);
		return NULL;
	}
	if (spawn(l, spec, err) == 0)
		l->fd_source = loop_fd_add(loop, l->fd, LOOP_READ | LOOP_WRITE, on_socket, l, err);
	if (l->fd_source == NULL) {
		worker_link_free(l);
		return NULL;
	}
	return l;
}

int worker_link_send(struct worker_link *l, const struct batch *b, unsigned flags, struct err *err)
{
	if (!wire_put_batch(&l->out, b, flags))
		return err_set(err, ERR_LIMIT, "a batch of %zu paths is too large", b->n_items);
	l->heard_ns = clock_mono_ns(); /* the time limit runs from here */
	want_write(l);
	return 0;
}

int worker_link_set_log_mask(struct worker_link *l, uint32_t mask)
{
	if (!wire_put_u32(&l->out, WIRE_LOG_MASK, mask))
		return -1;
	want_write(l);
	return 0;
}

int worker_link_known(struct worker_link *l, uint32_t pid)
{
	if (!wire_put_u32(&l->out, WIRE_ORIGIN, pid))
		return -1;
	want_write(l);
	return 0;
}

int worker_link_show(struct worker_link *l, enum wire_view view, const char *text, size_t len)
{
	if (l->out.len > 0 || !wire_put_view(&l->out, view, text, len))
		return -1;
	want_write(l);
	return 0;
}

pid_t worker_link_pid(const struct worker_link *l)
{
	return l->pid;
}

int64_t worker_link_heard_ns(const struct worker_link *l)
{
	return l->held ? clock_mono_ns() : l->heard_ns;
}

void worker_link_free(struct worker_link *l)
{
	if (l == NULL)
		return;
	if (l->pid > 0) {
		worker_link_kill(l);
		loop_child_forget(l->loop, l->pid);
	}
	if (l->fd_source == NULL && l->fd >= 0)
		(void)close(l->fd);
	else
		close_socket(l);
	free(l->prefix);
	buf_done(&l->in);
	buf_done(&l->out);
	free(l);
}
