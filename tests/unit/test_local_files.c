/* LINK: core/safe_open.c transports/local_files.c transports/local_dirs.c transports/local_copy.c
 * transports/local_list.c */
/* LINK: transports/local_xattrs.c transports/listing.c transports/throttle.c core/loop.c core/look.c core/path.c */
/* LINK: core/err.c core/fsutil.c core/buf.c core/clock.c core/log.c core/utf8.c */
/* What the operations on a local tree leave alone: the top directory's time when an end is made, a length that is
 * right. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>

#include "core/clock.h"
#include "tests/unit/scratch.h"
#include "transports/local_files.h"

#define MIB ((off_t)1 << 20)

static int set_up(void **state)
{
	struct scratch *s = calloc(1, sizeof(*s));

	*state = s;
	return s == NULL || scratch_make(s) < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
	int result = scratch_remove(*state);

	free(*state);
	return result;
}

static unsigned entries(const char *path)
{
	DIR *d = opendir(path);
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d) != NULL)
		n++;
	(void)closedir(d);
	return n;
}

/* Each connection and each worker makes one: a target whose time was mirrored keeps it. */
static void the_root_keeps_its_time(void **state)
{
	struct scratch *s = *state;
	const struct timespec old[2] = { { 1000000, 5 }, { 1000000, 5 } };
	struct err err = ERR_INIT;
	struct loop *loop = loop_new(&err);
	struct local_tree *t;
	struct stat st;

	assert_non_null(loop);
	/* What an earlier version left when it was killed is gone, and that is no change either. */
	assert_int_equal(scratch_write(scratch_path(s, ".probe.fansyncd~tmp"), ""), 0);
	assert_int_equal(utimensat(AT_FDCWD, s->dir, old, 0), 0);
	t = local_tree_new(loop, open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), &err);
	assert_non_null(t);
	assert_int_equal(local_tree_end(t, true).tick_ns, 1);
	assert_int_equal(stat(s->dir, &st), 0);
	assert_int_equal(st.st_mtim.tv_sec, 1000000);
	assert_int_equal(st.st_mtim.tv_nsec, 5);
	assert_int_equal(entries(s->dir), 2);
	local_tree_free(t);
	loop_free(loop);
}

static void a_right_length_is_left_alone(void **state)
{
	struct scratch *s = *state;
	const char *path = scratch_path(s, "f");
	int fd;

	assert_int_equal(scratch_write(path, "0123456789"), 0);
	/* Through this one nothing could be done. */
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(local_set_length(fd, 10), 0);
	assert_int_equal(local_set_length(fd, 11), -1);
	(void)close(fd);
}

static off_t size_of(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return st.st_size;
}

/* The last block is written, like all before it; the hole stays one. */
static void a_hole_at_the_end_ends_in_data(void **state)
{
	struct scratch *s = *state;
	const char *path = scratch_path(s, "f");
	int fd;

	assert_int_equal(scratch_write(path, "0123456789"), 0);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(local_set_length(fd, (uint64_t)MIB), 0);
	assert_int_equal(size_of(fd), MIB);
	assert_true(lseek(fd, MIB / 2, SEEK_DATA) >= MIB / 2);
	assert_int_equal(local_set_length(fd, 5), 0);
	assert_int_equal(size_of(fd), 5);
	assert_int_equal(local_set_length(fd, 0), 0);
	/* Nothing was written: nothing can get lost. */
	assert_int_equal(local_set_length(fd, (uint64_t)MIB), 0);
	assert_int_equal(size_of(fd), MIB);
	(void)close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_root_keeps_its_time, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_right_length_is_left_alone, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_hole_at_the_end_ends_in_data, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
