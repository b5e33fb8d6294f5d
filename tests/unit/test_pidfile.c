/* LINK: core/pidfile.c core/safe_open.c core/err.c core/fsutil.c core/path.c core/buf.c */
/* WRAP: fcntl */
/* The pid file as a lock between processes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/pidfile.h"
#include "tests/unit/scratch.h"

/* Remove this name just before the next lock is taken, as a daemon does that ends at that moment. */
static const char *remove_before_lock;

int __real_fcntl(int fd, int cmd, ...);
int __wrap_fcntl(int fd, int cmd, ...);

int __wrap_fcntl(int fd, int cmd, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (cmd == F_OFD_SETLK && remove_before_lock != NULL) {
		unlink(remove_before_lock);
		remove_before_lock = NULL;
	}
	return __real_fcntl(fd, cmd, arg);
}

static int set_up(void **state)
{
	*state = calloc(1, sizeof(struct scratch));
	return scratch_make(*state);
}

static int clean_up(void **state)
{
	int rc = scratch_remove(*state);

	free(*state);
	return rc;
}

static void writes_and_removes(void **state)
{
	const char *path = scratch_path(*state, "pid");
	struct pidfile p = PIDFILE_INIT;
	struct err err = ERR_INIT;
	char text[64], want[64];

	pidfile_remove(&p); /* fine on nothing */
	assert_int_equal(scratch_write(path, "1234567890123\n"), 0);
	assert_int_equal(pidfile_open(&p, path, &err), 0);
	assert_string_equal(scratch_read(path, text, sizeof(text)), "1234567890123\n");
	assert_int_equal(pidfile_write(&p, &err), 0);
	snprintf(want, sizeof(want), "%ld\n", (long)getpid());
	assert_string_equal(scratch_read(path, text, sizeof(text)), want);
	assert_true(fcntl(p.fd, F_GETFD) & FD_CLOEXEC);
	pidfile_remove(&p);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(p.fd, -1);
}

static void a_second_holder_is_refused(void **state)
{
	const char *path = scratch_path(*state, "pid");
	struct pidfile p = PIDFILE_INIT, second = PIDFILE_INIT;
	struct err err = ERR_INIT;
	char pid_text[32];

	assert_int_equal(pidfile_open(&p, path, &err), 0);
	assert_int_equal(pidfile_open(&second, path, &err), -1);
	assert_int_equal(err.class, ERR_LIMIT);
	assert_int_equal(err.code, 0); /* not written yet */
	assert_int_equal(pidfile_write(&p, &err), 0);
	assert_int_equal(pidfile_open(&second, path, &err), -1);
	assert_int_equal(err.class, ERR_LIMIT);
	assert_int_equal(err.code, getpid());
	snprintf(pid_text, sizeof(pid_text), "process %ld", (long)getpid());
	assert_non_null(strstr(err.text, pid_text));
	assert_int_equal(second.fd, -1);
	assert_int_equal(access(path, F_OK), 0);
	pidfile_close(&p); /* the name stays, the lock does not */
	assert_int_equal(pidfile_open(&second, path, &err), 0);
	pidfile_remove(&second);
}

/* The lock belongs to the open file: the parent that opened it may go, as when the daemon forks into the background. */
static void survives_fork_and_ends_with_the_process(void **state)
{
	const char *path = scratch_path(*state, "pid");
	struct pidfile p = PIDFILE_INIT, second = PIDFILE_INIT;
	struct err err = ERR_INIT;
	int go[2], ready[2];
	pid_t pid;
	char c;

	assert_int_equal(pipe2(go, O_CLOEXEC), 0);
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	assert_int_equal(pidfile_open(&p, path, &err), 0);
	pid = fork();
	if (pid == 0) {
		close(go[1]);
		if (pidfile_write(&p, NULL) < 0 || write(ready[1], "x", 1) != 1)
			_exit(1);
		_exit(read(go[0], &c, 1) == 0 ? 0 : 1); /* ends without a word, as when killed */
	}
	close(go[0]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	pidfile_close(&p);
	assert_int_equal(pidfile_open(&second, path, &err), -1);
	assert_int_equal(err.code, pid);
	close(go[1]);
	assert_int_equal(scratch_wait(pid), 0);
	assert_int_equal(pidfile_open(&second, path, &err), 0);
	pidfile_remove(&second);
	close(ready[0]);
	close(ready[1]);
}

static void only_a_regular_file(void **state)
{
	const char *link = scratch_path(*state, "link"), *target = scratch_path(*state, "target");
	const char *fifo = scratch_path(*state, "fifo"), *dir = scratch_path(*state, "dir");
	struct pidfile p = PIDFILE_INIT;
	struct err err = ERR_INIT;

	assert_int_equal(symlink(target, link), 0);
	assert_int_equal(pidfile_open(&p, link, &err), -1);
	assert_int_equal(err.class, ERR_UNSAFE);
	assert_int_equal(access(target, F_OK), -1);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_int_equal(pidfile_open(&p, fifo, &err), -1);
	assert_int_equal(err.class, ERR_UNSAFE);
	assert_int_equal(mkdir(dir, 0700), 0);
	assert_int_equal(pidfile_open(&p, dir, &err), -1);
	assert_int_equal(pidfile_open(&p, scratch_path(*state, "no/such"), &err), -1);
	assert_int_equal(err.class, ERR_GONE);
}

/* What another daemon put in our place is not removed. */
static void removes_only_its_own(void **state)
{
	const char *path = scratch_path(*state, "pid");
	struct pidfile p = PIDFILE_INIT;
	struct err err = ERR_INIT;

	assert_int_equal(pidfile_open(&p, path, &err), 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(scratch_write(path, "7\n"), 0);
	pidfile_remove(&p);
	assert_int_equal(access(path, F_OK), 0);
}

/* A lock on a file that has lost its name keeps nobody out. */
static void the_file_goes_while_it_is_being_locked(void **state)
{
	const char *path = scratch_path(*state, "pid");
	struct pidfile p = PIDFILE_INIT, second = PIDFILE_INIT;
	struct err err = ERR_INIT;

	remove_before_lock = path;
	assert_int_equal(pidfile_open(&p, path, &err), 0);
	assert_null(remove_before_lock);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(pidfile_open(&second, path, &err), -1);
	assert_int_equal(err.class, ERR_LIMIT);
	pidfile_remove(&p);
	assert_int_equal(access(path, F_OK), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(writes_and_removes, set_up, clean_up),
		cmocka_unit_test_setup_teardown(a_second_holder_is_refused, set_up, clean_up),
		cmocka_unit_test_setup_teardown(survives_fork_and_ends_with_the_process, set_up, clean_up),
		cmocka_unit_test_setup_teardown(only_a_regular_file, set_up, clean_up),
		cmocka_unit_test_setup_teardown(removes_only_its_own, set_up, clean_up),
		cmocka_unit_test_setup_teardown(the_file_goes_while_it_is_being_locked, set_up, clean_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
