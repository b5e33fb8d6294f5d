#include "core/loop.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"

#define LOOP_EVENTS 64

struct loop_fd {
	struct loop *loop;
	int fd;
	unsigned events;
	loop_fd_fn *fn; /* NULL: removed, freed after the round */
	void *ctx;
	struct loop_fd *next, **at; /* in loop->fds or, removed, loop->dead_fds */
};

struct loop_timer {
	struct loop *loop;
	loop_timer_fn *fn; /* NULL: removed */
	void *ctx;
	int64_t when_ns;
	size_t slot;		       /* index in the heap, SIZE_MAX when disarmed */
	struct loop_timer *next, **at; /* in loop->all_timers or, removed, loop->dead_timers */
};

struct child {
	struct child *next;
	pid_t pid;
	loop_child_fn *fn; /* NULL: forgotten, reap silently */
	void *ctx;
};

struct loop {
	int epoll;
	int signals;
	sigset_t mask;
	struct loop_fd *signal_source;
	struct {
		loop_signal_fn *fn;
		void *ctx;
	} handlers[NSIG];
	struct loop_timer **heap;
	size_t armed, heap_cap;
	size_t timers; /* existing: the heap always has room for all of them */
	struct child *children;
	struct loop_fd *fds, *dead_fds;
	struct loop_timer *all_timers, *dead_timers;
	void (*before_wait)(void *ctx);
	void *before_ctx;
	bool stopped;
	int result;
};

static uint32_t to_epoll(unsigned events)
{
	return ((events & LOOP_READ) ? (uint32_t)EPOLLIN : 0) | ((events & LOOP_WRITE) ? (uint32_t)EPOLLOUT : 0) |
	       ((events & LOOP_PRI) ? (uint32_t)EPOLLPRI : 0);
}

struct loop *loop_new(struct err *err)
{
	struct loop *l = calloc(1, sizeof(*l));

	if (l == NULL) {
		err_set(err, ERR_NOMEM, "out of memory for the event loop");
		return NULL;
	}
	l->signals = -1;
	(void)sigemptyset(&l->mask);
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (l->epoll < 0) {
		err_errno(err, errno, "epoll_create1");
		free(l);
		return NULL;
	}
	return l;
}

static void fd_link(struct loop_fd *f, struct loop_fd **list)
{
	f->next = *list;
	f->at = list;
	if (f->next != NULL)
		f->next->at = &f->next;
	*list = f;
}

static void fd_unlink(struct loop_fd *f)
{
	*f->at = f->next;
	if (f->next != NULL)
		f->next->at = f->at;
}

static void timer_link(struct loop_timer *t, struct loop_timer **list)
{
	t->next = *list;
	t->at = list;
	if (t->next != NULL)
		t->next->at = &t->next;
	*list = t;
}

static void timer_unlink(struct loop_timer *t)
{
	*t->at = t->next;
	if (t->next != NULL)
		t->next->at = t->at;
}

static void free_fds(struct loop_fd **list)
{
	while (*list != NULL) {
		struct loop_fd *f = *list;

		*list = f->next;
		free(f);
	}
}

static void free_timers(struct loop_timer **list)
{
	while (*list != NULL) {
		struct loop_timer *t = *list;

		*list = t->next;
		free(t);
	}
}

static void bury(struct loop *l)
{
	free_fds(&l->dead_fds);
	free_timers(&l->dead_timers);
}

void loop_free(struct loop *l)
{
	if (l == NULL)
		return;
	bury(l);
	free_fds(&l->fds);
	free_timers(&l->all_timers);
	while (l->children != NULL) {
		struct child *c = l->children;

		l->children = c->next;
		free(c);
	}
	if (l->signals >= 0)
		(void)close(l->signals);
	(void)close(l->epoll);
	free(l->heap);
	free(l);
}

struct loop_fd *loop_fd_add(struct loop *l, int fd, unsigned events, loop_fd_fn *fn, void *ctx, struct err *err)
{
	struct loop_fd *f = calloc(1, sizeof(*f));
	struct epoll_event ev = { .events = to_epoll(events) };

	if (f == NULL) {
		err_set(err, ERR_NOMEM, "out of memory for a descriptor");
		return NULL;
	}
	*f = (struct loop_fd){ .loop = l, .fd = fd, .events = events, .fn = fn, .ctx = ctx };
	ev.data.ptr = f;
	if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &ev) < 0) {
		err_errno(err, errno, "epoll_ctl add of descriptor %d", fd);
		free(f);
		return NULL;
	}
	fd_link(f, &l->fds);
	return f;
}

void loop_fd_set(struct loop_fd *f, unsigned events)
{
	struct epoll_event ev = { .events = to_epoll(events) };

	if (f == NULL || f->fn == NULL || f->events == events)
		return;
	f->events = events;
	ev.data.ptr = f;
	(void)epoll_ctl(f->loop->epoll, EPOLL_CTL_MOD, f->fd, &ev); /* cannot fail for a registered descriptor */
}

void loop_fd_remove(struct loop_fd *f)
{
	if (f == NULL || f->fn == NULL)
		return;
	(void)epoll_ctl(f->loop->epoll, EPOLL_CTL_DEL, f->fd, NULL);
	f->fn = NULL;
	fd_unlink(f);
	fd_link(f, &f->loop->dead_fds);
}

/* The heap: parent of i is (i-1)/2, the earliest is at 0. */
static void heap_put(struct loop *l, size_t i, struct loop_timer *t)
{
	l->heap[i] = t;
	t->slot = i;
}

static void heap_up(struct loop *l, size_t i, struct loop_timer *t)
{
	while (i > 0 && l->heap[(i - 1) / 2]->when_ns > t->when_ns) {
		heap_put(l, i, l->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	heap_put(l, i, t);
}

static void heap_down(struct loop *l, size_t i, struct loop_timer *t)
{
	for (;;) {
		size_t kid = 2 * i + 1;

		if (kid >= l->armed)
			break;
		if (kid + 1 < l->armed && l->heap[kid + 1]->when_ns < l->heap[kid]->when_ns)
			kid++;
		if (l->heap[kid]->when_ns >= t->when_ns)
			break;
		heap_put(l, i, l->heap[kid]);
		i = kid;
	}
	heap_put(l, i, t);
}

struct loop_timer *loop_timer_add(struct loop *l, loop_timer_fn *fn, void *ctx, struct err *err)
{
	struct loop_timer *t = calloc(1, sizeof(*t));

	if (t != NULL && l->timers == l->heap_cap) {
		size_t cap = l->heap_cap * 2 + 8;
		struct loop_timer **heap = realloc(l->heap, cap * sizeof(struct loop_timer *));

		if (heap == NULL) {
			free(t);
			t = NULL;
		} else {
			l->heap = heap;
			l->heap_cap = cap;
		}
	}
	if (t == NULL) {
		err_set(err, ERR_NOMEM, "out of memory for a timer");
		return NULL;
	}
	*t = (struct loop_timer){ .loop = l, .fn = fn, .ctx = ctx, .slot = SIZE_MAX };
	l->timers++;
	timer_link(t, &l->all_timers);
	return t;
}

void loop_timer_stop(struct loop_timer *t)
{
	struct loop *l;
	struct loop_timer *last;
	size_t i;

	if (t == NULL || t->slot == SIZE_MAX)
		return;
	l = t->loop;
	i = t->slot;
	t->slot = SIZE_MAX;
	last = l->heap[--l->armed];
	if (last == t)
		return;
	if (i > 0 && l->heap[(i - 1) / 2]->when_ns > last->when_ns)
		heap_up(l, i, last);
	else
		heap_down(l, i, last);
}

void loop_timer_at(struct loop_timer *t, int64_t when_ns)
{
	if (t == NULL || t->fn == NULL) /* removed in this round: its place in the heap is gone */
		return;
	loop_timer_stop(t);
	t->when_ns = when_ns;
	t->loop->armed++;
	heap_up(t->loop, t->loop->armed - 1, t);
}

void loop_timer_after(struct loop_timer *t, int64_t delay_ns)
{
	int64_t now = clock_mono_ns();

	if (delay_ns < 0)
		delay_ns = 0;
	loop_timer_at(t, delay_ns > INT64_MAX - now ? INT64_MAX : now + delay_ns);
}

bool loop_timer_armed(const struct loop_timer *t)
{
	return t != NULL && t->slot != SIZE_MAX;
}

void loop_timer_remove(struct loop_timer *t)
{
	if (t == NULL || t->fn == NULL)
		return;
	loop_timer_stop(t);
	t->fn = NULL;
	t->loop->timers--;
	timer_unlink(t);
	timer_link(t, &t->loop->dead_timers);
}

static void reap(struct loop *l)
{
	struct child **at = &l->children;

	while (*at != NULL) {
		struct child *c = *at;
		int status = 0;
		pid_t got = waitpid(c->pid, &status, WNOHANG);

		if (got == 0 || (got < 0 && errno == EINTR)) {
			at = &c->next;
			continue;
		}
		*at = c->next;
		if (c->fn != NULL)
			c->fn(c->ctx, c->pid, got < 0 ? -1 : status);
		free(c);
		at = &l->children; /* the callback may have changed the list */
	}
}

static void on_signalfd(void *ctx, int fd, unsigned events)
{
	struct loop *l = ctx;
	struct signalfd_siginfo info;

	(void)events;
	while (read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		int signo = (int)info.ssi_signo;

		if (signo == SIGCHLD)
			reap(l);
		else if (signo > 0 && signo < NSIG && l->handlers[signo].fn != NULL)
			l->handlers[signo].fn(l->handlers[signo].ctx, signo);
	}
}

int loop_signal(struct loop *l, int signo, loop_signal_fn *fn, void *ctx, struct err *err)
{
	int fd;

	if (signo <= 0 || signo >= NSIG)
		return err_set(err, ERR_BUG, "no signal has the number %d", signo);
	l->handlers[signo].fn = fn;
	l->handlers[signo].ctx = ctx;
	(void)sigaddset(&l->mask, signo);
	if (sigprocmask(SIG_BLOCK, &l->mask, NULL) < 0)
		return err_errno(err, errno, "sigprocmask");
	fd = signalfd(l->signals, &l->mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return err_errno(err, errno, "signalfd");
	l->signals = fd;
	if (l->signal_source == NULL) {
		l->signal_source = loop_fd_add(l, fd, LOOP_READ, on_signalfd, l, err);
		if (l->signal_source == NULL)
			return -1;
	}
	return 0;
}

int loop_child(struct loop *l, pid_t pid, loop_child_fn *fn, void *ctx, struct err *err)
{
	struct child *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return err_set(err, ERR_NOMEM, "out of memory for child %d", (int)pid);
	if (!sigismember(&l->mask, SIGCHLD) && loop_signal(l, SIGCHLD, NULL, NULL, err) < 0) {
		free(c);
		return -1;
	}
	*c = (struct child){ .next = l->children, .pid = pid, .fn = fn, .ctx = ctx };
	l->children = c;
	/* It may have ended before SIGCHLD was blocked: look at it in the next round all the same. */
	(void)raise(SIGCHLD);
	return 0;
}

void loop_child_forget(struct loop *l, pid_t pid)
{
	for (struct child *c = l->children; c != NULL; c = c->next)
		if (c->pid == pid) {
			c->fn = NULL;
			return;
		}
	if (loop_child(l, pid, NULL, NULL, NULL) == 0 || waitpid(pid, NULL, WNOHANG) != 0)
		return;
	/* Without memory to wait for its end later it ends now. */
	(void)kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

void loop_before_wait(struct loop *l, void (*fn)(void *ctx), void *ctx)
{
	l->before_wait = fn;
	l->before_ctx = ctx;
}

static int next_timeout_ms(const struct loop *l, int timeout_ms)
{
	int64_t left_ns, left_ms;

	if (l->armed == 0)
		return timeout_ms;
	left_ns = l->heap[0]->when_ns - clock_mono_ns();
	if (left_ns <= 0)
		return 0;
	left_ms = left_ns / NS_PER_MS + (left_ns % NS_PER_MS != 0);
	if (left_ms > 3600 * 1000)
		left_ms = 3600 * 1000;
	return timeout_ms >= 0 && timeout_ms < left_ms ? timeout_ms : (int)left_ms;
}

static void run_timers(struct loop *l)
{
	int64_t now = clock_mono_ns();
	size_t turns = l->armed; /* timers that re-arm at once must not keep the loop from the descriptors */

	while (turns-- > 0 && l->armed > 0 && l->heap[0]->when_ns <= now) {
		struct loop_timer *t = l->heap[0];

		loop_timer_stop(t);
		t->fn(t->ctx);
	}
}

int loop_once(struct loop *l, int timeout_ms, struct err *err)
{
	struct epoll_event events[LOOP_EVENTS];
	int n;

	if (l->before_wait != NULL)
		l->before_wait(l->before_ctx);
	if (l->stopped) {
		bury(l);
		return 0;
	}
	n = epoll_wait(l->epoll, events, LOOP_EVENTS, next_timeout_ms(l, timeout_ms));
	if (n < 0 && errno != EINTR)
		return err_errno(err, errno, "epoll_wait");
	for (int i = 0; i < n; i++) {
		struct loop_fd *f = events[i].data.ptr;
		uint32_t ev = events[i].events;
		unsigned out = ((ev & EPOLLIN) ? LOOP_READ : 0) | ((ev & EPOLLOUT) ? LOOP_WRITE : 0) |
			       ((ev & EPOLLPRI) ? LOOP_PRI : 0) | ((ev & (EPOLLHUP | EPOLLERR)) ? LOOP_HUP : 0);

		if (f->fn != NULL)
			f->fn(f->ctx, f->fd, out);
	}
	run_timers(l);
	bury(l);
	return 0;
}

int loop_run(struct loop *l, struct err *err)
{
	while (!l->stopped) /* a stop from before the first round counts */
		if (loop_once(l, -1, err) < 0)
			return -1;
	l->stopped = false;
	return l->result;
}

void loop_stop(struct loop *l, int result)
{
	l->stopped = true;
	l->result = result;
}
