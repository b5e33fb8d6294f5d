/* LINK: core/safe_open.c core/err.c core/fsutil.c core/path.c core/buf.c */
/* Files in directories that others may write to. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "core/fsutil.h"
#include "core/safe_open.h"
#include "tests/unit/scratch.h"

#define STRANGER 4711

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

static int close_after(int fd)
{
	if (fd >= 0)
		close(fd);
	return fd >= 0 ? 0 : -1;
}

static int append(const char *path, struct err *err)
{
	*err = (struct err)ERR_INIT;
	return close_after(safe_open(path, O_WRONLY | O_APPEND | O_CREAT, 0640, err));
}

static void opens_what_is_ours(void **state)
{
	const char *file = scratch_path(*state, "file"), *link = scratch_path(*state, "link");
	const char *dir = scratch_path(*state, "dir"), *to_dir = scratch_path(*state, "to_dir");
	const char *by_dir = scratch_path(*state, "to_dir/new"), *loop = scratch_path(*state, "loop");
	struct err err;
	int fd;

	assert_int_equal(append(file, &err), 0);
	fd = safe_open(file, O_WRONLY | O_APPEND | O_CREAT, 0640, &err);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFL) & (O_APPEND | O_NONBLOCK), O_APPEND);
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	close(fd);
	assert_int_equal(symlink("file", link), 0);
	assert_int_equal(append(link, &err), 0);
	assert_int_equal(mkdir(dir, 0755), 0);
	assert_int_equal(symlink(dir, to_dir), 0);
	assert_int_equal(append(by_dir, &err), 0);
	assert_int_equal(access(scratch_path(*state, "dir/new"), F_OK), 0);
	assert_int_equal(symlink("loop", loop), 0);
	assert_int_equal(append(loop, &err), -1);
	assert_int_equal(append(scratch_path(*state, "no/file"), &err), -1);
	assert_int_equal(err.class, ERR_GONE);
	assert_int_equal(append("/dev/null", &err), 0);
	assert_int_equal(append("/dev/fd/2", &err), 0); /* of the kernel's: what it leads to may have no name */
}

static void follows_no_stranger(void **state)
{
	const char *secret = scratch_path(*state, "secret"), *link = scratch_path(*state, "link");
	const char *dir = scratch_path(*state, "dir"), *to_dir = scratch_path(*state, "to_dir");
	struct err err;
	char text[64];

	if (geteuid() != 0)
		skip();
	assert_int_equal(scratch_write(secret, "secret"), 0);
	assert_int_equal(symlink(secret, link), 0);
	assert_int_equal(lchown(link, STRANGER, STRANGER), 0);
	assert_int_equal(append(link, &err), -1);
	assert_int_equal(err.class, ERR_UNSAFE);
	assert_non_null(strstr(err.text, "4711"));
	assert_int_equal(mkdir(dir, 0755), 0);
	assert_int_equal(symlink(dir, to_dir), 0);
	assert_int_equal(lchown(to_dir, STRANGER, STRANGER), 0);
	assert_int_equal(append(scratch_path(*state, "to_dir/new"), &err), -1);
	assert_int_equal(err.class, ERR_UNSAFE);
	assert_int_equal(atomic_write(scratch_path(*state, "to_dir/status"), "x", 1, 0600, 0, &err), -1);
	assert_int_equal(mkdir_private(scratch_path(*state, "to_dir"), &err), -1);
	assert_int_equal(access(scratch_path(*state, "dir/status"), F_OK), -1);
	/* The last one of its own is replaced. */
	assert_int_equal(atomic_write(link, "status", 6, 0600, 0, &err), 0);
	assert_string_equal(scratch_read(secret, text, sizeof(text)), "secret");
}

static void takes_no_other_name(void **state)
{
	const char *shared = scratch_path(*state, "shared"), *mine = scratch_path(*state, "mine");
	const char *there = scratch_path(*state, "shared/log"), *here = scratch_path(*state, "mine/log");
	const char *secret = scratch_path(*state, "secret");
	struct err err;

	assert_int_equal(mkdir(shared, 0700), 0);
	assert_int_equal(chmod(shared, 0777), 0);
	assert_int_equal(mkdir(mine, 0700), 0);
	assert_int_equal(scratch_write(secret, "secret"), 0);
	assert_int_equal(link(secret, there), 0);
	assert_int_equal(link(secret, here), 0);
	assert_int_equal(append(there, &err), -1);
	assert_int_equal(err.class, ERR_UNSAFE);
	assert_int_equal(append(here, &err), 0); /* a backup's, say */
	assert_int_equal(unlink(there), 0);
	/* Nobody reads it: said at once, not waited for. */
	assert_int_equal(mkfifo(there, 0600), 0);
	assert_int_equal(append(there, &err), -1);
	if (geteuid() == 0) {
		const int reader = open(there, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

		assert_int_equal(append(there, &err), 0);
		assert_int_equal(chown(there, STRANGER, STRANGER), 0);
		assert_int_equal(append(there, &err), -1); /* who might not read on */
		assert_int_equal(err.class, ERR_UNSAFE);
		close(reader);
	}
}

static void names_the_parent(void **state)
{
	const char *name = NULL, *path = scratch_path(*state, "file");
	struct err err = ERR_INIT;

	assert_int_equal(close_after(safe_open_parent(path, &name, &err)), 0);
	assert_string_equal(name, "file");
	assert_int_equal(close_after(safe_open_parent("alone", &name, &err)), 0);
	assert_string_equal(name, "alone");
	assert_int_equal(close_after(safe_open_parent("/alone", &name, &err)), 0);
	assert_int_equal(safe_open_parent("/etc/", &name, &err), -1);
	assert_int_equal(safe_open_parent("/etc/..", &name, &err), -1);
	assert_int_equal(safe_open_parent("/no such thing/x", &name, &err), -1);
	assert_int_equal(err.class, ERR_GONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(opens_what_is_ours, set_up, clean_up),
		cmocka_unit_test_setup_teardown(follows_no_stranger, set_up, clean_up),
		cmocka_unit_test_setup_teardown(takes_no_other_name, set_up, clean_up),
		cmocka_unit_test_setup_teardown(names_the_parent, set_up, clean_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
