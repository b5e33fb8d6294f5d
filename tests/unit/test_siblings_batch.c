/* LINK: core/siblings.c core/links.c core/look.c core/fsutil.c core/safe_open.c core/clock.c core/log.c core/utf8.c
 * core/path.c core/buf.c core/err.c */
/* WRAP: fstatat */
/* The other names of a file as batches have them: told once in each, and what it costs when there are many. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/siblings.h"
#include "tests/unit/scratch.h"

#define MANY 200

static size_t looks;

int __real_fstatat(int fd, const char *path, struct stat *st, int flags);

int __wrap_fstatat(int fd, const char *path, struct stat *st, int flags)
{
	looks++;
	return __real_fstatat(fd, path, st, flags);
}

struct world {
	struct scratch scratch;
	int root;
	struct looker looker;
	struct siblings s;
	size_t told, outside;
	char last[64];
};

static void on_outside(void *ctx, const char *path, size_t len, uint64_t dev, uint64_t ino)
{
	struct world *w = ctx;

	(void)path;
	(void)len;
	(void)dev;
	(void)ino;
	w->outside++;
}

static int make(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	if (w == NULL || scratch_make(&w->scratch) < 0)
		return -1;
	*state = w;
	w->root = open(w->scratch.dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	w->s = (struct siblings){ .links = links_new(10000),
				  .source = w->scratch.dir,
				  .looker = &w->looker,
				  .outside = on_outside,
				  .ctx = w };
	return w->root < 0 || w->s.links == NULL ? -1 : 0;
}

static int unmake(void **state)
{
	struct world *w = *state;
	int rc = scratch_remove(&w->scratch);

	siblings_done(&w->s);
	links_free(w->s.links);
	(void)close(w->root);
	free(w);
	return rc;
}

static void on_name(void *ctx, const char *path, size_t len, const struct stat *st)
{
	struct world *w = ctx;

	assert_true(len < sizeof(w->last) && st->st_nlink > 1);
	memcpy(w->last, path, len);
	w->last[len] = '\0';
	w->told++;
}

/* A batch with these names of a file. */
static void batch(struct world *w, size_t first, size_t last, int64_t now_ns)
{
	char name[32];

	w->told = w->outside = 0;
	looker_init(&w->looker, w->root);
	links_sweep(w->s.links);
	for (size_t i = first; i < last; i++) {
		struct stat st;

		(void)snprintf(name, sizeof(name), "n%zu", i);
		assert_int_equal(__real_fstatat(w->root, name, &st, 0), 0);
		(void)siblings_each(&w->s, name, strlen(name), &st, now_ns, on_name, w);
	}
	looker_done(&w->looker);
}

static void link_names(struct world *w, size_t first, size_t last)
{
	char name[32];

	if (first == 0)
		assert_int_equal(scratch_write(scratch_path(&w->scratch, "n0"), "x"), 0);
	for (size_t i = first == 0 ? 1 : first; i < last; i++) {
		(void)snprintf(name, sizeof(name), "n%zu", i);
		assert_int_equal(link(scratch_path(&w->scratch, "n0"), scratch_path(&w->scratch, name)), 0);
	}
}

static void each_other_name_is_told(void **state)
{
	struct world *w = *state;

	link_names(w, 0, 3);
	batch(w, 0, 1, 1);
	assert_int_equal(w->told, 2); /* found by a walk */
	assert_int_equal(w->outside, 0);
	assert_int_equal(unlink(scratch_path(&w->scratch, "n1")), 0);
	batch(w, 0, 1, 2);
	assert_int_equal(w->told, 1);
	assert_string_equal(w->last, "n2");
	batch(w, 2, 3, 3);
	assert_int_equal(w->told, 1);
	assert_string_equal(w->last, "n0");
}

/* New names are noted where they are met, although no walk is due. */
static void names_that_come_later(void **state)
{
	struct world *w = *state;

	link_names(w, 0, 2);
	batch(w, 0, 1, 1);
	assert_int_equal(w->told, 1);
	link_names(w, 2, 4);
	batch(w, 2, 4, 2);
	assert_int_equal(w->told, 2); /* n0 and n1: the two of the batch are in it themselves */
	batch(w, 0, 1, 3);
	assert_int_equal(w->told, 3);
}

static void names_outside_are_told_of(void **state)
{
	struct world *w = *state;
	char other[300];

	link_names(w, 0, 2);
	(void)snprintf(other, sizeof(other), "%s.outside", w->scratch.dir);
	assert_int_equal(link(scratch_path(&w->scratch, "n0"), other), 0);
	batch(w, 0, 1, 1);
	assert_int_equal(w->told, 1);
	assert_in_range(w->outside, 2, 4); /* by the search as well */
	assert_int_equal(unlink(other), 0);
}

/* All names of a file in one batch: each is told once at most, and looked at once, or what is to be done grows with the
 * square of their number. */
static void many_names_in_one_batch(void **state)
{
	struct world *w = *state;

	link_names(w, 0, MANY);
	batch(w, 0, MANY, 1);
	assert_true(w->told < MANY);
	looks = 0;
	batch(w, 0, MANY, 2);
	assert_int_equal(w->told, MANY - 1);
	assert_in_range(looks, 1, 2 * MANY);
	batch(w, 5, 6, 3); /* and again in the next one */
	assert_int_equal(w->told, MANY - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(each_other_name_is_told, make, unmake),
		cmocka_unit_test_setup_teardown(names_that_come_later, make, unmake),
		cmocka_unit_test_setup_teardown(names_outside_are_told_of, make, unmake),
		cmocka_unit_test_setup_teardown(many_names_in_one_batch, make, unmake),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
