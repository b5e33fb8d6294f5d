/* LINK: core/fsutil.c core/safe_open.c core/path.c core/buf.c core/err.c */
/* WRAP: openat */
/* Files of our own: written as a whole, locked, removed; who a source's root is. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include <cmocka.h>

#include "core/fsutil.h"
#include "core/path.h"
#include "tests/unit/scratch.h"

/* Just before the directory of this name is opened it becomes a symlink, as by somebody who wants more removed. */
static struct {
	const char *name, *target;
} swap;

int __real_openat(int dir_fd, const char *path, int flags, ...);
int __wrap_openat(int dir_fd, const char *path, int flags, ...);

int __wrap_openat(int dir_fd, const char *path, int flags, ...)
{
	if (swap.name != NULL && strcmp(path, swap.name) == 0) {
		swap.name = NULL;
		if (unlinkat(dir_fd, path, AT_REMOVEDIR) < 0 || symlinkat(swap.target, dir_fd, path) < 0)
			abort();
	}
	return __real_openat(dir_fd, path, flags, 0600);
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

static void writes_as_a_whole(void **state)
{
	const char *path = scratch_path(*state, "f"), *temp = scratch_path(*state, "f" PATH_TEMP_SUFFIX);
	const char *outside = scratch_path(*state, "outside"), *in_no_dir = scratch_path(*state, "no/f");
	struct err err = ERR_INIT;
	struct stat before, after;
	char text[64];

	assert_int_equal(scratch_write(path, "a longer text than the next"), 0);
	assert_int_equal(stat(path, &before), 0);
	assert_int_equal(scratch_write(temp, "left by a killed one"), 0);
	assert_int_equal(atomic_write(path, "new\n", 4, 0640, FSUTIL_SYNC, &err), 0);
	assert_string_equal(scratch_read(path, text, sizeof(text)), "new\n");
	assert_int_equal(stat(path, &after), 0);
	assert_int_equal(after.st_mode & 07777, 0640);
	assert_int_not_equal(after.st_ino, before.st_ino); /* who has the old one open sees it whole */
	assert_int_equal(access(temp, F_OK), -1);
	/* A symlink is replaced, not followed. */
	assert_int_equal(scratch_write(outside, "theirs"), 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink(outside, path), 0);
	assert_int_equal(symlink(outside, temp), 0);
	assert_int_equal(atomic_write(path, "", 0, 0600, 0, &err), 0);
	assert_string_equal(scratch_read(outside, text, sizeof(text)), "theirs");
	assert_int_equal(lstat(path, &after), 0);
	assert_true(S_ISREG(after.st_mode));
	assert_int_equal(after.st_size, 0);
	assert_int_equal(atomic_write(in_no_dir, "x", 1, 0600, 0, &err), -1);
	assert_int_equal(err.class, ERR_GONE);
}

/* What cannot be replaced leaves no temporary file behind. */
static void a_failed_write_cleans_up(void **state)
{
	const char *dir = scratch_path(*state, "d"), *temp = scratch_path(*state, "d" PATH_TEMP_SUFFIX);
	struct err err = ERR_INIT;

	assert_int_equal(mkdir(dir, 0700), 0);
	assert_int_equal(atomic_write(dir, "x", 1, 0600, 0, &err), -1);
	assert_int_equal(access(temp, F_OK), -1);
}

static void private_directories(void **state)
{
	const char *deep = scratch_path(*state, "a/b/c"), *middle = scratch_path(*state, "a/b");
	const char *file = scratch_path(*state, "file"), *link = scratch_path(*state, "link");
	struct err err = ERR_INIT;
	struct stat st;
	mode_t mask = umask(022);

	assert_int_equal(mkdir_private(deep, &err), 0);
	assert_int_equal(stat(deep, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(stat(middle, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	umask(mask);
	assert_int_equal(mkdir_private(deep, &err), 0); /* again */
	assert_int_equal(chmod(deep, 0770), 0);
	assert_int_equal(mkdir_private(deep, &err), -1);
	assert_int_equal(err.class, ERR_UNSAFE);
	assert_int_equal(chmod(deep, 0755), 0);
	assert_int_equal(mkdir_private(deep, &err), 0);
	if (geteuid() == 0) {
		assert_int_equal(chown(deep, 65534, 65534), 0);
		assert_int_equal(mkdir_private(deep, &err), -1);
		assert_int_equal(err.class, ERR_UNSAFE);
	}
	assert_int_equal(scratch_write(file, ""), 0);
	assert_int_equal(mkdir_private(file, &err), -1);
	assert_int_equal(err.class, ERR_UNSAFE);
	assert_int_equal(symlink(middle, link), 0);
	assert_int_equal(mkdir_private(link, &err), -1);
	assert_int_equal(err.class, ERR_UNSAFE);
}

static void reads_whole_files(void **state)
{
	const char *path = scratch_path(*state, "f"), *link = scratch_path(*state, "l"),
		   *fifo = scratch_path(*state, "p");
	struct err err = ERR_INIT;
	struct buf b;

	buf_init(&b, 1024 * 1024);
	buf_add_str(&b, "old");
	assert_int_equal(scratch_write(path, "12345"), 0);
	assert_int_equal(read_file(path, 5, &b, &err), 0);
	assert_string_equal(buf_str(&b), "12345");
	assert_int_equal(read_file(path, 4, &b, &err), -1);
	assert_int_equal(err.class, ERR_LIMIT);
	assert_int_equal(symlink(path, link), 0);
	assert_int_equal(read_file(link, 5, &b, &err), -1);
	assert_int_equal(err.class, ERR_UNSAFE);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_int_equal(read_file(fifo, 5, &b, &err), -1); /* and does not wait for a writer */
	assert_int_equal(err.class, ERR_UNSAFE);
	assert_int_equal(read_file(((struct scratch *)*state)->dir, 5, &b, &err), -1);
	assert_int_equal(err.class, ERR_UNSAFE);
	assert_int_equal(read_file(scratch_path(*state, "none"), 5, &b, &err), -1);
	assert_int_equal(err.class, ERR_GONE);
	buf_done(&b);
}

static void locks(void **state)
{
	const char *path = scratch_path(*state, "lock"), *link = scratch_path(*state, "link");
	struct err err = ERR_INIT;
	int fd = lock_file(path, LOCK_MODE_TRY, &err), pipe_fds[2];
	char c;
	pid_t pid;

	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(lock_file(path, LOCK_MODE_TRY, &err), -1);
	assert_int_equal(err.class, ERR_AGAIN);
	/* One that waits gets it once we let it go; the order of the bytes proves the waiting. */
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		close(fd);
		fd = lock_file(path, LOCK_MODE_WAIT, NULL);
		_exit(fd >= 0 && write(pipe_fds[1], "c", 1) == 1 ? 0 : 1);
	}
	assert_int_equal(write(pipe_fds[1], "p", 1), 1);
	close(fd);
	assert_int_equal(scratch_wait(pid), 0);
	assert_int_equal(read(pipe_fds[0], &c, 1), 1);
	assert_int_equal(c, 'p');
	assert_int_equal(read(pipe_fds[0], &c, 1), 1);
	assert_int_equal(c, 'c');
	/* It died: free, and the file stays. */
	fd = lock_file(path, LOCK_MODE_TRY, &err);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(symlink(path, link), 0);
	assert_int_equal(lock_file(link, LOCK_MODE_TRY, &err), -1);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

static void removes_trees_not_what_links_lead_to(void **state)
{
	const char *tree = scratch_path(*state, "t"), *keep = scratch_path(*state, "keep");
	const char *kept = scratch_path(*state, "keep/file"), *top_link = scratch_path(*state, "link");
	struct err err = ERR_INIT;
	struct stat st;

	assert_int_equal(mkdir(keep, 0700), 0);
	assert_int_equal(scratch_write(kept, "x"), 0);
	assert_int_equal(mkdir(tree, 0700), 0);
	assert_int_equal(mkdir(scratch_path(*state, "t/d"), 0700), 0);
	assert_int_equal(mkdir(scratch_path(*state, "t/d/e"), 0700), 0);
	assert_int_equal(scratch_write(scratch_path(*state, "t/d/e/f"), "x"), 0);
	assert_int_equal(symlink(keep, scratch_path(*state, "t/d/link")), 0);
	assert_int_equal(mkfifo(scratch_path(*state, "t/p"), 0600), 0);
	assert_int_equal(remove_tree(scratch_path(*state, "t"), &err), 0);
	assert_int_equal(lstat(scratch_path(*state, "t"), &st), -1);
	assert_int_equal(access(kept, F_OK), 0);
	/* Nor when the path itself is one. */
	assert_int_equal(symlink(keep, top_link), 0);
	assert_int_equal(remove_tree(top_link, &err), 0);
	assert_int_equal(lstat(top_link, &st), -1);
	assert_int_equal(access(kept, F_OK), 0);
	assert_int_equal(remove_tree(kept, &err), 0); /* a file */
	assert_int_equal(access(kept, F_OK), -1);
	assert_int_equal(remove_tree(kept, &err), 0); /* nothing */
}

static void a_directory_that_becomes_a_symlink(void **state)
{
	const char *keep = scratch_path(*state, "keep"), *kept = scratch_path(*state, "keep/file");
	struct err err = ERR_INIT;

	assert_int_equal(mkdir(keep, 0700), 0);
	assert_int_equal(scratch_write(kept, "x"), 0);
	assert_int_equal(mkdir(scratch_path(*state, "t"), 0700), 0);
	assert_int_equal(mkdir(scratch_path(*state, "t/swapped"), 0700), 0);
	swap.target = keep;
	swap.name = "swapped";
	assert_int_equal(remove_tree(scratch_path(*state, "t"), &err), -1);
	assert_null(swap.name);
	assert_int_equal(access(kept, F_OK), 0);
}

/* In a mount namespace of its own. 77: that cannot be had here. */
static int beside_a_mount(struct scratch *s)
{
	const char *mounted = scratch_path(s, "t/m"), *inside = scratch_path(s, "t/m/file");
	struct err err = ERR_INIT;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return 77;
	if (mkdir(scratch_path(s, "t"), 0700) < 0 || mkdir(mounted, 0700) < 0)
		return 1;
	if (mount("test", mounted, "tmpfs", 0, NULL) < 0)
		return 77;
	if (scratch_write(inside, "x") < 0 || scratch_write(scratch_path(s, "t/own"), "x") < 0)
		return 2;
	if (remove_tree(scratch_path(s, "t"), &err) != -1 || err.class != ERR_UNSAFE)
		return 3;
	if (access(inside, F_OK) < 0)
		return 4;
	return access(scratch_path(s, "t/own"), F_OK) < 0 ? 0 : 5; /* the rest is gone */
}

static void other_file_systems_are_left_alone(void **state)
{
	pid_t pid = fork();
	int code;

	if (pid == 0)
		_exit(beside_a_mount(*state));
	code = scratch_wait(pid);
	if (code == 77)
		skip();
	assert_int_equal(code, 0);
}

/* Deeper than it recurses: an error, nothing worse; and all that it reached goes. */
static void refuses_what_is_too_deep(void **state)
{
	const char *top = scratch_path(*state, "deep");
	struct err err = ERR_INIT;
	int fd, next;

	assert_int_equal(mkdir(top, 0700), 0);
	fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < 300; i++) {
		assert_int_equal(mkdirat(fd, "d", 0700), 0);
		next = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(fd);
		fd = next;
	}
	close(fd);
	assert_int_equal(remove_tree(top, &err), -1);
	assert_int_equal(err.class, ERR_UNSAFE);
	/* Clean up: bring what is left to the top. */
	for (int i = 0; i < 4; i++) {
		char from[512], to[64];
		int len = snprintf(from, sizeof(from), "%s", top);

		for (int j = 0; j < 100; j++)
			len += snprintf(from + len, sizeof(from) - (size_t)len, "/d");
		snprintf(to, sizeof(to), "part%d", i);
		if (rename(from, scratch_path(*state, to)) < 0)
			break;
		remove_tree(top, &err);
		top = scratch_path(*state, to);
	}
}

static void empty_sources(void **state)
{
	const char *dir = scratch_path(*state, "s");
	struct err err = ERR_INIT;
	int fd;

	assert_int_equal(mkdir(dir, 0700), 0);
	fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(source_is_empty(fd, &err), 1);
	assert_int_equal(mkdir(scratch_path(*state, "s/lost+found"), 0700), 0);
	assert_int_equal(scratch_write(scratch_path(*state, "s/x" PATH_TEMP_SUFFIX), ""), 0);
	assert_int_equal(source_is_empty(fd, &err), 1);
	assert_int_equal(scratch_write(scratch_path(*state, "s/.hidden"), ""), 0);
	assert_int_equal(source_is_empty(fd, &err), 0);
	assert_int_equal(source_is_empty(fd, &err), 0); /* the position stays */
	close(fd);
	assert_int_equal(source_is_empty(-1, &err), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(writes_as_a_whole, set_up, clean_up),
		cmocka_unit_test_setup_teardown(a_failed_write_cleans_up, set_up, clean_up),
		cmocka_unit_test_setup_teardown(private_directories, set_up, clean_up),
		cmocka_unit_test_setup_teardown(reads_whole_files, set_up, clean_up),
		cmocka_unit_test_setup_teardown(locks, set_up, clean_up),
		cmocka_unit_test_setup_teardown(removes_trees_not_what_links_lead_to, set_up, clean_up),
		cmocka_unit_test_setup_teardown(a_directory_that_becomes_a_symlink, set_up, clean_up),
		cmocka_unit_test_setup_teardown(other_file_systems_are_left_alone, set_up, clean_up),
		cmocka_unit_test_setup_teardown(refuses_what_is_too_deep, set_up, clean_up),
		cmocka_unit_test_setup_teardown(empty_sources, set_up, clean_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
