/* LINK: core/mounts.c core/buf.c core/err.c */
/* The mount table: escapes, optional fields, what covers what, lines that make no sense. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "core/mounts.h"

static const char text[] = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
			   "30 22 0:45 /@home /home rw - btrfs /dev/sdb rw,subvol=/@home\n"
			   "31 22 0:46 / /mnt/a\\040b\\134c\\012 rw shared:2 master:1 - tmpfs tmpfs rw\n"
			   "32 31 0:47 / /mnt/a\\040b\\134c\\012 rw - tmpfs  rw\n"
			   "broken line\n"
			   "33 22 0:48 / /no/dash rw shared:1\n"
			   "x 22 0:48 / /x rw - tmpfs tmpfs rw\n"
			   "99999999999 22 0:48 / /x rw - tmpfs tmpfs rw\n"
			   "34 22 048 / /x rw - tmpfs tmpfs rw\n"
			   "40 22 0:49 / /last rw - proc proc rw";

static void a_table(void **state)
{
	struct mounts t;
	struct err err = ERR_INIT;
	const struct mount *m;

	(void)state;
	assert_int_equal(mounts_parse(text, sizeof(text) - 1, &t, &err), 0);
	assert_int_equal(t.n, 5);
	m = mounts_find(&t, 22);
	assert_string_equal(m->point, "/");
	assert_int_equal(m->major, 8);
	assert_int_equal(m->minor, 1);
	assert_false(m->hidden);
	m = mounts_find(&t, 30);
	assert_string_equal(m->root, "/@home");
	assert_string_equal(m->type, "btrfs");
	assert_string_equal(m->source, "/dev/sdb");
	assert_int_equal(m->parent, 22);
	m = mounts_find(&t, 31);
	assert_string_equal(m->point, "/mnt/a b\\c\n");
	assert_true(m->hidden);
	assert_false(mounts_find(&t, 32)->hidden);
	assert_string_equal(mounts_find(&t, 40)->type, "proc");
	assert_null(mounts_find(&t, 33));
	mounts_done(&t);
}

static void nothing(void **state)
{
	struct mounts t;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(mounts_parse("", 0, &t, &err), 0);
	assert_int_equal(t.n, 0);
	mounts_done(&t);
}

static void the_kernels(void **state)
{
	struct mounts t;
	struct err err = ERR_INIT;
	bool proc = false;

	(void)state;
	assert_int_equal(mounts_read(&t, &err), 0);
	for (size_t i = 0; i < t.n; i++)
		proc = proc || strcmp(t.list[i].point, "/proc") == 0;
	assert_true(proc);
	mounts_done(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(a_table), cmocka_unit_test(nothing),
					    cmocka_unit_test(the_kernels) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
