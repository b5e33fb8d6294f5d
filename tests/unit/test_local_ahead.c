/* LINK: core/safe_open.c transports/local_ahead.c transports/local_list.c transports/listing.c core/look.c core/path.c
 * core/err.c */
/* LINK: core/fsutil.c core/buf.c core/clock.c */
/* WRAP: clock_mono_ns */
/* Listing ahead: what is taken is what is there, whoever listed it; names left out on the source only; what can't be
 * listed is not taken; what is never taken is let go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/scratch.h"
#include "transports/listing.h"
#include "transports/local_ahead.h"

#define DIRS 80
#define AT_ONCE 12

static int64_t later_ns;

int64_t __wrap_clock_mono_ns(void);

int64_t __wrap_clock_mono_ns(void)
{
	return later_ns;
}

struct fixture {
	struct scratch scratch;
	int roots[2];
	struct local_ahead *ahead;
	struct mirror_ahead calls;
};

static const char *at(struct fixture *f, int side, const char *name)
{
	char path[300];

	snprintf(path, sizeof(path), "%c/%s", side == 0 ? 's' : 't', name);
	return scratch_path(&f->scratch, path);
}

static bool without_x(const void *ctx, const char *path, size_t len, size_t base, bool is_dir)
{
	(void)is_dir;
	return strcmp(ctx, "ctx") == 0 && (base == 0 || path[base - 1] == '/') &&
	       (len - base != 1 || path[base] != 'x');
}

static const struct mirror_keep keep = { without_x, "ctx" };

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (f == NULL || scratch_make(&f->scratch) < 0)
		return -1;
	for (int side = 0; side < 2; side++) {
		const char *root = scratch_path(&f->scratch, side == 0 ? "s" : "t");

		if (mkdir(root, 0755) < 0)
			return -1;
		f->roots[side] = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	f->ahead = local_ahead_new(f->roots[0], f->roots[1]);
	if (f->ahead == NULL)
		return -1;
	f->calls = local_ahead_calls(f->ahead);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	int rc;

	local_ahead_free(f->ahead);
	close(f->roots[0]);
	close(f->roots[1]);
	rc = scratch_remove(&f->scratch);
	free(f);
	return rc;
}

/* Directory i has i % 7 files, and one that is left out; at the target one more. */
static void make_tree(struct fixture *f)
{
	char name[32];

	for (int i = 0; i < DIRS; i++)
		for (int side = 0; side < 2; side++) {
			snprintf(name, sizeof(name), "d%d", i);
			assert_int_equal(mkdir(at(f, side, name), 0755), 0);
			for (int k = 0; k < i % 7 + side; k++) {
				snprintf(name, sizeof(name), "d%d/f%d", i, k);
				assert_int_equal(scratch_write(at(f, side, name), "text"), 0);
			}
			snprintf(name, sizeof(name), "d%d/x", i);
			assert_int_equal(scratch_write(at(f, side, name), ""), 0);
		}
}

static unsigned want(struct fixture *f, int i)
{
	char path[32];
	int n = snprintf(path, sizeof(path), "d%d", i);

	return f->calls.want(f->calls.ctx, path, (size_t)n, &keep, false);
}

static void check(const struct listing *l, int files, bool x)
{
	assert_int_equal(l->n, files + x);
	for (int k = 0; k < files; k++) {
		assert_int_equal(l->v[k].name[1] - '0', k);
		assert_true(S_ISREG(l->v[k].st.st_mode));
		assert_int_equal(l->v[k].st.st_size, 4);
	}
}

static void take_and_check(struct fixture *f, unsigned which, int i)
{
	struct listing source, target;

	assert_int_not_equal(which, 0);
	assert_true(f->calls.take(f->calls.ctx, which, &source, &target));
	check(&source, i % 7, false);
	check(&target, i % 7 + 1, true);
	listing_free(&source);
	listing_free(&target);
}

/* As a comparison does: some are wanted, the nearest is taken, the next is wanted. */
static void what_is_there(void **state)
{
	struct fixture *f = *state;
	unsigned which[DIRS];

	make_tree(f);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < AT_ONCE; i++)
			which[i] = want(f, i);
		for (int i = 0; i < DIRS; i++) {
			if (i + AT_ONCE < DIRS)
				which[i + AT_ONCE] = want(f, i + AT_ONCE);
			take_and_check(f, which[i], i);
		}
		f->calls.forget(f->calls.ctx);
	}
}

/* Nobody is woken for one: who takes it lists it. */
static void one_alone(void **state)
{
	struct fixture *f = *state;
	struct listing source, target;

	make_tree(f);
	take_and_check(f, want(f, 5), 5);
	/* The root, which is said to be wide. */
	assert_true(f->calls.take(f->calls.ctx, f->calls.want(f->calls.ctx, "", 0, &keep, true), &source, &target));
	assert_int_equal(source.n, DIRS);
	assert_int_equal(target.n, DIRS);
	assert_true(S_ISDIR(source.v[DIRS - 1].st.st_mode));
	listing_free(&source);
	listing_free(&target);
}

static void no_more_than_so_many(void **state)
{
	struct fixture *f = *state;
	unsigned which[DIRS], n = 0;

	make_tree(f);
	while (n < DIRS && (which[n] = want(f, (int)n)) != 0)
		n++;
	assert_in_range(n, AT_ONCE, DIRS - 1);
	for (unsigned i = 0; i < n; i++)
		take_and_check(f, which[i], (int)i);
	assert_int_not_equal(want(f, 0), 0);
}

static void what_fails_is_not_taken(void **state)
{
	static const char *const names[] = { "missing", "file", "link", "d1/link", "one-sided" };
	struct fixture *f = *state;
	unsigned which[5];
	struct listing source, target;

	make_tree(f);
	for (int side = 0; side < 2; side++) {
		assert_int_equal(scratch_write(at(f, side, "file"), ""), 0);
		assert_int_equal(symlink("d1", at(f, side, "link")), 0);
		assert_int_equal(symlink("../d1", at(f, side, "d1/link")), 0);
	}
	assert_int_equal(mkdir(at(f, 1, "one-sided"), 0755), 0);
	for (size_t i = 0; i < 5; i++)
		which[i] = f->calls.want(f->calls.ctx, names[i], strlen(names[i]), &keep, false);
	for (size_t i = 0; i < 5; i++)
		assert_false(f->calls.take(f->calls.ctx, which[i], &source, &target));
	take_and_check(f, want(f, 3), 3);
}

static void what_is_old_is_not_taken(void **state)
{
	struct fixture *f = *state;
	struct listing source, target;
	unsigned which[AT_ONCE];

	make_tree(f);
	for (int i = 0; i < AT_ONCE; i++)
		which[i] = want(f, i);
	take_and_check(f, which[0], 0);
	later_ns += 900000000;
	take_and_check(f, which[1], 1);
	later_ns += 900000000;
	for (int i = 2; i < AT_ONCE; i++)
		assert_false(f->calls.take(f->calls.ctx, which[i], &source, &target));
	take_and_check(f, want(f, 3), 3);
}

/* Those that are listed, those that wait, and the one that somebody is at. */
static void what_is_never_taken(void **state)
{
	struct fixture *f = *state;

	make_tree(f);
	for (int round = 0; round < 50; round++) {
		for (int i = 0; i < round; i++)
			(void)want(f, i);
		if (round % 2 == 0)
			take_and_check(f, want(f, 70), 70);
		f->calls.forget(f->calls.ctx);
	}
	for (int i = 0; i < 40; i++)
		(void)want(f, i);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_there),
		TEST(one_alone),
		TEST(no_more_than_so_many),
		TEST(what_fails_is_not_taken),
		TEST(what_is_old_is_not_taken),
		TEST(what_is_never_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
