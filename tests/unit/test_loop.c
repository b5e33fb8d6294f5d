/* LINK: core/loop.c core/clock.c core/err.c */
/* The event loop: descriptors, timers, signals, children, and removals from within callbacks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/loop.h"

/* A loop, a socket pair, and what the callbacks noted. */
struct fixture {
	struct loop *loop;
	int fds[2];
	struct loop_fd *sources[2];
	struct loop_timer *timers[8];
	unsigned calls, events;
	char order[256];
	size_t n;
	pid_t pid;
	int status;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	f->loop = loop_new(NULL);
	return f->loop == NULL ? -1 : socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, f->fds);
}

static int clean_up(void **state)
{
	struct fixture *f = *state;

	loop_free(f->loop);
	close(f->fds[0]);
	close(f->fds[1]);
	free(f);
	return 0;
}

static void once(struct fixture *f, int timeout_ms)
{
	struct err err = ERR_INIT;

	assert_int_equal(loop_once(f->loop, timeout_ms, &err), 0);
}

static void on_fd(void *ctx, int fd, unsigned events)
{
	struct fixture *f = ctx;

	(void)fd;
	f->calls++;
	f->events = events;
}

static void descriptors(void **state)
{
	struct fixture *f = *state;
	struct loop_fd *s = loop_fd_add(f->loop, f->fds[0], LOOP_READ, on_fd, f, NULL);

	assert_non_null(s);
	once(f, 0);
	assert_int_equal(f->calls, 0);
	assert_int_equal(write(f->fds[1], "x", 1), 1);
	once(f, -1);
	assert_int_equal(f->events, LOOP_READ);
	once(f, -1); /* level-triggered: not read, told again */
	assert_int_equal(f->calls, 2);
	loop_fd_set(s, LOOP_WRITE);
	once(f, -1);
	assert_int_equal(f->events, LOOP_WRITE);
	loop_fd_set(s, 0);
	once(f, 0);
	assert_int_equal(f->calls, 3);
	assert_int_equal(shutdown(f->fds[1], SHUT_RDWR), 0); /* told although nothing is asked for */
	once(f, -1);
	assert_int_equal(f->events, LOOP_HUP);
	loop_fd_remove(s);
	once(f, 0);
	assert_int_equal(f->calls, 4);
	loop_fd_remove(NULL);
}

static void regular_files_are_refused(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	FILE *file = tmpfile();

	assert_null(loop_fd_add(f->loop, fileno(file), LOOP_READ, on_fd, f, &err));
	assert_int_not_equal(err.class, ERR_NONE);
	fclose(file);
}

/* Both are ready in one round; the first to run removes both. */
static void remove_both(void *ctx, int fd, unsigned events)
{
	struct fixture *f = ctx;

	on_fd(ctx, fd, events);
	loop_fd_remove(f->sources[0]);
	loop_fd_remove(f->sources[1]);
	loop_fd_remove(f->sources[1]);
	loop_fd_set(f->sources[0], LOOP_WRITE);
}

static void removal_in_callbacks(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(write(f->fds[0], "x", 1), 1);
	assert_int_equal(write(f->fds[1], "x", 1), 1);
	for (int i = 0; i < 2; i++)
		f->sources[i] = loop_fd_add(f->loop, f->fds[i], LOOP_READ, remove_both, f, NULL);
	once(f, -1);
	once(f, 0);
	assert_int_equal(f->calls, 1);
	/* The descriptors may be watched again. */
	assert_non_null(loop_fd_add(f->loop, f->fds[0], LOOP_READ, on_fd, f, NULL));
	once(f, -1);
	assert_int_equal(f->calls, 2);
}

struct tick {
	struct fixture *f;
	char name;
};

static void on_tick(void *ctx)
{
	const struct tick *t = ctx;

	if (t->f->n < sizeof(t->f->order) - 1)
		t->f->order[t->f->n++] = t->name;
}

/* Due ones run in the order of their times, whatever the order in which they were armed. */
static void timers_in_order(void **state)
{
	struct fixture *f = *state;
	struct tick ticks[8];
	static const int at[8] = { 5, 2, 7, 1, 8, 3, 6, 4 };

	for (int i = 0; i < 8; i++) {
		ticks[i] = (struct tick){ f, (char)('0' + at[i]) };
		f->timers[i] = loop_timer_add(f->loop, on_tick, &ticks[i], NULL);
		assert_false(loop_timer_armed(f->timers[i]));
		loop_timer_at(f->timers[i], at[i]);
	}
	loop_timer_stop(f->timers[0]);	 /* 5 */
	loop_timer_remove(f->timers[3]); /* 1 */
	loop_timer_at(f->timers[4], 0);	 /* 8 comes first now */
	loop_timer_at(f->timers[6], INT64_MAX);
	assert_true(loop_timer_armed(f->timers[4]));
	once(f, -1);
	assert_string_equal(f->order, "82347");
	assert_false(loop_timer_armed(f->timers[4]));
	assert_true(loop_timer_armed(f->timers[6]));
	loop_timer_after(f->timers[6], -1); /* at once */
	loop_timer_after(f->timers[0], INT64_MAX);
	once(f, -1);
	assert_string_equal(f->order, "823476");
	loop_timer_remove(NULL);
	loop_timer_stop(NULL);
	assert_false(loop_timer_armed(NULL));
}

/* Against a plain model: random arming, stopping and removing, then everything that is due runs sorted. */
static void many_timers(void **state)
{
	enum { N = 200 };
	struct fixture *f = *state;
	struct loop_timer *timers[N];
	struct tick ticks[N];
	uint32_t rng = 12345;
	int at[N];
	size_t due = 0;

	for (int i = 0; i < N; i++) {
		ticks[i] = (struct tick){ f, 'x' };
		timers[i] = loop_timer_add(f->loop, on_tick, &ticks[i], NULL);
		at[i] = -1;
	}
	for (int round = 0; round < 5000; round++) {
		int i;

		rng = rng * 1664525u + 1013904223u;
		i = (int)(rng >> 8) % N;
		if ((rng >> 28) < 6) {
			loop_timer_stop(timers[i]);
			at[i] = -1;
		} else {
			at[i] = (int)(rng >> 16 & 15);
			loop_timer_at(timers[i], at[i]);
		}
	}
	for (int i = 0; i < N; i++) {
		ticks[i].name = (char)('a' + at[i]);
		assert_int_equal(loop_timer_armed(timers[i]), at[i] >= 0);
		if (at[i] >= 0)
			due++;
	}
	once(f, 0);
	assert_int_equal(f->n, due);
	for (size_t i = 1; i < f->n; i++)
		assert_true(f->order[i - 1] <= f->order[i]);
	assert_true(due > 10 && due < N);
}

static void remove_others(void *ctx)
{
	struct fixture *f = ctx;

	f->calls++;
	loop_timer_remove(f->timers[0]);
	loop_timer_remove(f->timers[1]);
	loop_timer_at(f->timers[0], 1); /* nothing: it is removed */
	assert_false(loop_timer_armed(f->timers[0]));
}

static void timers_removed_in_callbacks(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 2; i++) {
		f->timers[i] = loop_timer_add(f->loop, remove_others, f, NULL);
		loop_timer_at(f->timers[i], 1);
	}
	once(f, -1);
	once(f, 0);
	assert_int_equal(f->calls, 1);
}

static void rearm(void *ctx)
{
	struct fixture *f = ctx;

	f->n++;
	loop_timer_at(f->timers[0], 0);
}

/* A timer that is always due does not keep the loop from its descriptors. */
static void a_busy_timer_starves_nobody(void **state)
{
	struct fixture *f = *state;

	f->timers[0] = loop_timer_add(f->loop, rearm, f, NULL);
	loop_timer_at(f->timers[0], 0);
	assert_non_null(loop_fd_add(f->loop, f->fds[0], LOOP_READ, on_fd, f, NULL));
	assert_int_equal(write(f->fds[1], "x", 1), 1);
	once(f, -1);
	assert_int_equal(f->n, 1);
	assert_int_equal(f->calls, 1);
}

static void on_signal(void *ctx, int signo)
{
	struct fixture *f = ctx;

	f->calls++;
	f->events = (unsigned)signo;
	if (signo == SIGUSR2)
		loop_stop(f->loop, 42);
}

static void signals(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;

	assert_int_equal(loop_signal(f->loop, 0, on_signal, f, &err), -1);
	assert_int_equal(loop_signal(f->loop, NSIG, on_signal, f, &err), -1);
	assert_int_equal(loop_signal(f->loop, SIGUSR1, on_signal, f, &err), 0);
	assert_int_equal(loop_signal(f->loop, SIGUSR2, on_signal, f, &err), 0);
	assert_int_equal(raise(SIGUSR1), 0); /* would kill us if it were not blocked */
	once(f, -1);
	assert_int_equal(f->calls, 1);
	assert_int_equal(f->events, SIGUSR1);
	assert_int_equal(raise(SIGUSR2), 0);
	assert_int_equal(loop_run(f->loop, &err), 42);
	assert_int_equal(f->calls, 2);
}

static void on_child(void *ctx, pid_t pid, int status)
{
	struct fixture *f = ctx;

	f->calls++;
	f->pid = pid;
	f->status = status;
}

static pid_t child(int code)
{
	pid_t pid = fork();

	if (pid == 0) {
		if (code < 0)
			raise(-code);
		_exit(code);
	}
	return pid;
}

static void wait_calls(struct fixture *f, unsigned calls)
{
	while (f->calls < calls)
		once(f, -1);
}

static void children_are_reaped(void **state)
{
	struct fixture *f = *state;
	siginfo_t info;
	pid_t pid = child(7), forgotten;

	/* It has ended before anybody asked: told all the same. */
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(loop_child(f->loop, pid, on_child, f, NULL), 0);
	wait_calls(f, 1);
	assert_int_equal(f->pid, pid);
	assert_true(WIFEXITED(f->status));
	assert_int_equal(WEXITSTATUS(f->status), 7);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), -1); /* nothing is left of it */

	pid = child(-SIGKILL);
	assert_int_equal(loop_child(f->loop, pid, on_child, f, NULL), 0);
	wait_calls(f, 2);
	assert_true(WIFSIGNALED(f->status));
	assert_int_equal(WTERMSIG(f->status), SIGKILL);

	/* A forgotten one is reaped without a word: the next word is the other's. */
	forgotten = child(1);
	assert_int_equal(waitid(P_PID, (id_t)forgotten, &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(loop_child(f->loop, forgotten, on_child, f, NULL), 0);
	loop_child_forget(f->loop, forgotten);
	pid = child(2);
	assert_int_equal(loop_child(f->loop, pid, on_child, f, NULL), 0);
	wait_calls(f, 3);
	assert_int_equal(f->pid, pid);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);

	/* So is one that the loop could not be told of. */
	forgotten = child(1);
	assert_int_equal(waitid(P_PID, (id_t)forgotten, &info, WEXITED | WNOWAIT), 0);
	loop_child_forget(f->loop, forgotten);
	once(f, -1);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(f->calls, 3);
}

/* A callback that starts the next one, as a worker's restart does. */
static void start_next(void *ctx, pid_t pid, int status)
{
	struct fixture *f = ctx;

	on_child(ctx, pid, status);
	if (f->calls < 5)
		assert_int_equal(loop_child(f->loop, child((int)f->calls), start_next, f, NULL), 0);
}

static void children_started_in_callbacks(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(loop_child(f->loop, child(0), start_next, f, NULL), 0);
	assert_int_equal(loop_child(f->loop, child(0), start_next, f, NULL), 0);
	wait_calls(f, 6);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void stop_first(void *ctx)
{
	struct fixture *f = ctx;

	f->calls++;
	loop_stop(f->loop, 5);
}

static void stopping(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;

	loop_stop(f->loop, 3); /* before it runs */
	assert_int_equal(loop_run(f->loop, &err), 3);
	loop_before_wait(f->loop, stop_first, f);
	assert_int_equal(loop_run(f->loop, &err), 5); /* without waiting for anything */
	assert_int_equal(f->calls, 1);
	loop_before_wait(f->loop, NULL, NULL);
	loop_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(descriptors, set_up, clean_up),
		cmocka_unit_test_setup_teardown(regular_files_are_refused, set_up, clean_up),
		cmocka_unit_test_setup_teardown(removal_in_callbacks, set_up, clean_up),
		cmocka_unit_test_setup_teardown(timers_in_order, set_up, clean_up),
		cmocka_unit_test_setup_teardown(many_timers, set_up, clean_up),
		cmocka_unit_test_setup_teardown(timers_removed_in_callbacks, set_up, clean_up),
		cmocka_unit_test_setup_teardown(a_busy_timer_starves_nobody, set_up, clean_up),
		cmocka_unit_test_setup_teardown(signals, set_up, clean_up),
		cmocka_unit_test_setup_teardown(children_are_reaped, set_up, clean_up),
		cmocka_unit_test_setup_teardown(children_started_in_callbacks, set_up, clean_up),
		cmocka_unit_test_setup_teardown(stopping, set_up, clean_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
