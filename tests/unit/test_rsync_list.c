/* LINK: transports/rsync_list.c core/path.c core/buf.c core/err.c core/fsutil.c core/safe_open.c */
/* The names that rsync is given: each by itself, or its directory where all that is in it is to be sent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/path.h"
#include "tests/unit/scratch.h"
#include "transports/rsync_list.h"

#define ITEMS_MAX 64

struct fixture {
	struct scratch scratch;
	int root;
	struct transport_item items[ITEMS_MAX];
	char names[ITEMS_MAX][64];
	size_t index[ITEMS_MAX], n;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (f == NULL || scratch_make(&f->scratch) < 0)
		return -1;
	f->root = open(f->scratch.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = f;
	return f->root < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	int result = scratch_remove(&f->scratch);

	(void)close(f->root);
	free(f);
	return result;
}

/* In the order of a walk: the caller's business. */
static void name(struct fixture *f, const char *path, enum look look)
{
	struct transport_item *item = &f->items[f->n];

	assert_true(f->n < ITEMS_MAX);
	(void)snprintf(f->names[f->n], sizeof(f->names[0]), "%s", path);
	*item = (struct transport_item){ .path = f->names[f->n], .len = strlen(path), .look = look };
	f->index[f->n] = f->n;
	f->n++;
}

/* A directory of the source with files 0 to n - 1, named in the list as well. */
static void make_dir(struct fixture *f, const char *dir, unsigned n)
{
	char path[64];

	assert_int_equal(mkdir(scratch_path(&f->scratch, dir), 0755), 0);
	name(f, dir, LOOK_DIR);
	for (unsigned i = 0; i < n; i++) {
		(void)snprintf(path, sizeof(path), "%s/%02u", dir, i);
		assert_int_equal(scratch_write(scratch_path(&f->scratch, path), "x"), 0);
		name(f, path, LOOK_FILE);
	}
}

static void expect(struct fixture *f, int fd, bool whole, const char *names)
{
	struct rsync_list l = { .items = f->items, .index = f->index, .n = f->n, .source_fd = fd };
	struct buf out;
	bool got;

	buf_init(&out, 65536);
	assert_true(rsync_list_make(&l, &out, &got));
	for (size_t i = 0; i < out.len; i++)
		if (out.data[i] == '\0')
			out.data[i] = '|';
	assert_string_equal(buf_str(&out), names);
	assert_int_equal(got, whole);
	buf_done(&out);
}

static void whole_directories(void **state)
{
	struct fixture *f = *state;

	make_dir(f, "a", 8);
	expect(f, f->root, true, "a/|");
	expect(f, -1, false, "a|a/00|a/01|a/02|a/03|a/04|a/05|a/06|a/07|");
	make_dir(f, "a~", 2); /* too few for a look */
	expect(f, f->root, true, "a/|a~|a~/00|a~/01|");
}

/* Directories that a whole one lists come without what they hold. */
static void nested(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(mkdir(scratch_path(&f->scratch, "d"), 0755), 0);
	name(f, "d", LOOK_DIR);
	for (unsigned i = 0; i < 7; i++) {
		char path[8];

		(void)snprintf(path, sizeof(path), "d/%u", i);
		make_dir(f, path, i == 3 ? 9 : i == 4 ? 1 : 0);
	}
	expect(f, f->root, true, "d|d/0|d/1|d/2|d/3/|d/4|d/4/00|d/5|d/6|");
	make_dir(f, "d/7", 0);
	expect(f, f->root, true, "d/|d/3/|d/4/00|");
}

/* An entry that the list does not have (held back, excluded, in another run) must not travel with the others. */
static void an_entry_more(void **state)
{
	struct fixture *f = *state;

	make_dir(f, "a", 8);
	assert_int_equal(scratch_write(scratch_path(&f->scratch, "a/.08.XyZ123"), "half"), 0);
	expect(f, f->root, false, "a|a/00|a/01|a/02|a/03|a/04|a/05|a/06|a/07|");
}

/* A name that is gone again since it was looked at would not be missed by rsync. */
static void an_entry_less(void **state)
{
	struct fixture *f = *state;

	make_dir(f, "a", 9);
	assert_int_equal(unlink(scratch_path(&f->scratch, "a/04")), 0);
	expect(f, f->root, false, "a|a/00|a/01|a/02|a/03|a/04|a/05|a/06|a/07|a/08|");
}

/* What is to be deleted is named, beside the directory that stands for the rest. */
static void deletions_are_named(void **state)
{
	struct fixture *f = *state;

	make_dir(f, "a", 8);
	name(f, "a/gone", LOOK_ABSENT);
	name(f, "b", LOOK_ABSENT);
	expect(f, f->root, true, "a/|a/gone|b|");
}

static void not_a_directory_any_more(void **state)
{
	struct fixture *f = *state;

	make_dir(f, "a", 8);
	assert_int_equal(rename(scratch_path(&f->scratch, "a"), scratch_path(&f->scratch, "b")), 0);
	assert_int_equal(symlink("b", scratch_path(&f->scratch, "a")), 0);
	expect(f, f->root, false, "a|a/00|a/01|a/02|a/03|a/04|a/05|a/06|a/07|");
}

static void the_root(void **state)
{
	struct fixture *f = *state;

	name(f, "", LOOK_DIR);
	expect(f, f->root, false, ".|");
	make_dir(f, "a", 8);
	expect(f, f->root, true, "./a/|");
}

static void comments(void **state)
{
	struct fixture *f = *state;

	make_dir(f, "#a", 8);
	name(f, ";b", LOOK_FILE);
	expect(f, f->root, true, "./#a/|./;b|");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(whole_directories, set_up, tear_down),
		cmocka_unit_test_setup_teardown(nested, set_up, tear_down),
		cmocka_unit_test_setup_teardown(an_entry_more, set_up, tear_down),
		cmocka_unit_test_setup_teardown(an_entry_less, set_up, tear_down),
		cmocka_unit_test_setup_teardown(deletions_are_named, set_up, tear_down),
		cmocka_unit_test_setup_teardown(not_a_directory_any_more, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_root, set_up, tear_down),
		cmocka_unit_test_setup_teardown(comments, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
