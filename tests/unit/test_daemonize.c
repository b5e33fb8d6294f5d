/* LINK: core/daemonize.c core/err.c core/fsutil.c core/safe_open.c core/path.c core/buf.c */
/* Into the background: what the one who started it gets to know. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/daemonize.h"
#include "tests/unit/scratch.h"

/* A start in a process of its own, as main() does it: the exit status that its caller sees. */
static int start(void (*daemon)(struct daemonize *d))
{
	pid_t pid = fork();

	if (pid == 0) {
		struct daemonize d = DAEMONIZE_INIT;
		int code = 99, rc = daemonize_start(&d, &code, NULL);

		if (rc == 1)
			_exit(code);
		if (rc < 0)
			_exit(98);
		daemon(&d);
		_exit(0);
	}
	return scratch_wait(pid);
}

static void comes_up(struct daemonize *d)
{
	if (daemonize_ready(d, NULL) < 0)
		daemonize_failed(d, 97);
	/* A second report finds nobody. */
	if (d->ready_fd != -1 || daemonize_ready(d, NULL) < 0)
		abort();
	daemonize_failed(d, 1);
}

static void fails(struct daemonize *d)
{
	daemonize_failed(d, 23);
}

static void fails_with_zero(struct daemonize *d)
{
	(void)d;
	_exit(0); /* without a word: not up */
}

static void exits(struct daemonize *d)
{
	(void)d;
	_exit(5);
}

static void is_killed(struct daemonize *d)
{
	(void)d;
	raise(SIGKILL);
}

/* Its surroundings, told by the exit code. */
static void looks_around(struct daemonize *d)
{
	char dir[64], in[64] = "", out[64] = "", err[64] = "";
	int code = 0;

	if (getcwd(dir, sizeof(dir)) == NULL || strcmp(dir, "/") != 0)
		code = 1;
	else if (getsid(0) != getpid())
		code = 2;
	else if (readlink("/proc/self/fd/0", in, sizeof(in) - 1) < 0 || strcmp(in, "/dev/null") != 0)
		code = 3;
	else if (readlink("/proc/self/fd/1", out, sizeof(out) - 1) < 0 || strcmp(out, "/dev/null") != 0)
		code = 4;
	else if (readlink("/proc/self/fd/2", err, sizeof(err) - 1) < 0 || strcmp(err, "/dev/null") == 0)
		code = 5; /* errors of the start are still seen */
	else if ((fcntl(d->ready_fd, F_GETFD) & FD_CLOEXEC) == 0)
		code = 6;
	daemonize_failed(d, code);
}

static void standard_error_goes_when_it_is_up(struct daemonize *d)
{
	/* The report comes after, so the code tells: put a pipe in its place. */
	char err[64] = "";
	struct daemonize copy = { .ready_fd = fcntl(d->ready_fd, F_DUPFD_CLOEXEC, 3) };
	int pipe_fds[2];

	if (pipe2(pipe_fds, O_CLOEXEC) < 0 || dup2(pipe_fds[1], d->ready_fd) < 0 || daemonize_ready(d, NULL) < 0)
		daemonize_failed(&copy, 1);
	else if (readlink("/proc/self/fd/2", err, sizeof(err) - 1) < 0 || strcmp(err, "/dev/null") != 0)
		daemonize_failed(&copy, 2);
	else
		daemonize_failed(&copy, 42);
}

/* Standard error of a test is not /dev/null, whoever runs it. */
static int with_stderr(void (*daemon)(struct daemonize *d))
{
	int was = fcntl(2, F_DUPFD_CLOEXEC, 3), fds[2], rc;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(dup2(fds[1], 2), 2);
	rc = start(daemon);
	dup2(was, 2);
	close(was);
	close(fds[0]);
	close(fds[1]);
	return rc;
}

static void the_parent_gets_the_exit_code(void **state)
{
	(void)state;
	assert_int_equal(start(comes_up), 0);
	assert_int_equal(start(fails), 23);
	assert_int_equal(start(exits), 5);
	assert_int_equal(start(is_killed), 255);
	assert_int_equal(start(fails_with_zero), 255);
}

static void surroundings(void **state)
{
	(void)state;
	assert_int_equal(with_stderr(looks_around), 0);
	assert_int_equal(with_stderr(standard_error_goes_when_it_is_up), 42);
}

static void nobody_waits(void **state)
{
	struct daemonize d = DAEMONIZE_INIT;
	struct err err = ERR_INIT;
	struct stat before, after;

	(void)state;
	assert_int_equal(fstat(2, &before), 0);
	assert_int_equal(daemonize_ready(&d, &err), 0);
	daemonize_failed(&d, 1);
	assert_int_equal(fstat(2, &after), 0);
	assert_int_equal(before.st_ino, after.st_ino); /* in the foreground it stays */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_parent_gets_the_exit_code),
		cmocka_unit_test(surroundings),
		cmocka_unit_test(nobody_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
