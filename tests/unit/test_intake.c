/* LINK: core/intake.c core/filter.c core/filter_args.c core/path.c core/err.c core/buf.c */
/* What of a watcher's record enters a changeset. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/intake.h"
#include "core/path.h"

#define NOW INT64_C(1000000000000)
#define OPEN_INTERVAL INT64_C(30000000000)

struct fixture {
	struct filter *filter;
	struct intake in;
	struct intake_record out[2];
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	f->filter = filter_new();
	f->in = (struct intake){ .filter = f->filter, .open_file_interval_ns = OPEN_INTERVAL };
	return f->filter == NULL ? -1 : 0;
}

static int clean_up(void **state)
{
	struct fixture *f = *state;

	filter_free(f->filter);
	free(f);
	return 0;
}

static void rule(struct fixture *f, const char *text)
{
	struct err err = ERR_INIT;

	assert_int_equal(filter_add_rule(f->filter, text, strlen(text), &err), 0);
	f->in.path_rules = intake_path_rules(f->filter);
}

static struct change change(enum change_kind kind, const char *path, bool is_dir)
{
	return (struct change){ .kind = kind,
				.is_dir = is_dir,
				.exact = true,
				.origin = ORIGIN_LOCAL,
				.pid = 7,
				.path = path,
				.path_len = strlen(path),
				.time_ns = 5 };
}

static size_t take(struct fixture *f, struct change c, bool may_be_open)
{
	memset(f->out, 0xee, sizeof(f->out));
	return intake(&f->in, &c, NOW, may_be_open, f->out);
}

static size_t plain(struct fixture *f, enum change_kind kind, const char *path, bool is_dir)
{
	return take(f, change(kind, path, is_dir), false);
}

static size_t renamed(struct fixture *f, const char *from, const char *to, bool is_dir)
{
	struct change c = change(CHANGE_RENAME, to, is_dir);

	c.old_path = from;
	c.old_len = strlen(from);
	return take(f, c, false);
}

static void expect_record(const struct intake_record *r, enum change_kind kind, const char *path, const char *old_path)
{
	assert_int_equal(r->change.kind, kind);
	assert_int_equal(r->change.path_len, strlen(path));
	assert_memory_equal(r->change.path, path, strlen(path));
	assert_int_equal(r->change.old_len, old_path == NULL ? 0 : strlen(old_path));
	if (old_path != NULL)
		assert_memory_equal(r->change.old_path, old_path, strlen(old_path));
	/* What is known of it travels along. */
	assert_int_equal(r->change.origin, ORIGIN_LOCAL);
	assert_int_equal(r->change.pid, 7);
	assert_int_equal(r->change.time_ns, 5);
}

static void every_kind_without_rules(void **state)
{
	static const enum change_kind kinds[] = { CHANGE_TOUCH, CHANGE_CREATE, CHANGE_DELETE, CHANGE_RECONCILE };
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		for (int is_dir = 0; is_dir < 2; is_dir++) {
			assert_int_equal(plain(f, kinds[i], "a/b", is_dir), 1);
			expect_record(&f->out[0], kinds[i], "a/b", NULL);
			assert_int_equal(f->out[0].hold_until_ns, 0);
			assert_false(f->out[0].extend);
		}
	assert_int_equal(plain(f, CHANGE_TOUCH, "", true), 1); /* the root itself */
	assert_int_equal(plain(f, CHANGE_RECONCILE, "", false), 1);
	assert_int_equal(renamed(f, "a", "b", false), 1);
	expect_record(&f->out[0], CHANGE_RENAME, "b", "a");
	assert_true(f->out[0].change.exact);
	assert_int_equal(plain(f, CHANGE_NONE, "a", false), 0);
}

static void excluded_ones_are_dropped(void **state)
{
	static const enum change_kind kinds[] = { CHANGE_TOUCH, CHANGE_MODIFY, CHANGE_CREATE, CHANGE_DELETE };
	struct fixture *f = *state;

	rule(f, "- *.log");
	rule(f, "- cache/");
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		assert_int_equal(plain(f, kinds[i], "a/x.log", false), 0);
		assert_int_equal(plain(f, kinds[i], "cache/x", false), 0);
		assert_int_equal(plain(f, kinds[i], "cache", true), 0);
		assert_int_equal(plain(f, kinds[i], "a/x.txt", false), 1);
		assert_int_equal(plain(f, kinds[i], "cache", false), 1); /* the rule is for directories */
	}
	assert_int_equal(plain(f, CHANGE_RECONCILE, "cache", false), 0);
	assert_int_equal(plain(f, CHANGE_RECONCILE, "cache/deep", false), 0);
	assert_int_equal(plain(f, CHANGE_RECONCILE, "a", false), 1);
	assert_int_equal(plain(f, CHANGE_RECONCILE, "", false), 1);
	/* With --delete-excluded what disappeared may still stand on the target. */
	f->in.delete_excluded = true;
	assert_int_equal(plain(f, CHANGE_DELETE, "a/x.log", false), 1);
	assert_int_equal(plain(f, CHANGE_TOUCH, "a/x.log", false), 0);
}

static void own_temporary_names(void **state)
{
	static const char temp[] = "d/.f.1" PATH_TEMP_SUFFIX;
	struct fixture *f = *state;

	assert_int_equal(plain(f, CHANGE_CREATE, temp, false), 0);
	assert_int_equal(plain(f, CHANGE_TOUCH, temp, false), 0);
	assert_int_equal(plain(f, CHANGE_DELETE, temp, false), 0);
	assert_int_equal(renamed(f, temp, "d/f.1" PATH_TEMP_SUFFIX, false), 0);
	/* Renamed into place: the name has new content. */
	assert_int_equal(renamed(f, temp, "d/f", false), 2);
	expect_record(&f->out[0], CHANGE_DELETE, "d/f", NULL);
	expect_record(&f->out[1], CHANGE_TOUCH, "d/f", NULL);
	assert_int_equal(renamed(f, "d/f", temp, false), 1);
	expect_record(&f->out[0], CHANGE_DELETE, "d/f", NULL);
	f->in.delete_excluded = true;
	assert_int_equal(plain(f, CHANGE_DELETE, temp, false), 0);
}

static void holds(void **state)
{
	struct fixture *f = *state;

	/* Looks like rsync's: until it has been quiet for a while, each new word beginning that anew. */
	assert_int_equal(plain(f, CHANGE_CREATE, "d/.f.Ab12Cd", false), 1);
	assert_int_equal(f->out[0].hold_until_ns, NOW + INTAKE_TEMP_QUIET_NS);
	assert_true(f->out[0].extend);
	assert_int_equal(plain(f, CHANGE_TOUCH, "d/.f.Ab12Cd", false), 1);
	assert_true(f->out[0].extend);
	assert_int_equal(plain(f, CHANGE_CREATE, "d/.f.Ab12Cd", true), 1); /* a directory is not its file */
	assert_int_equal(f->out[0].hold_until_ns, 0);
	assert_int_equal(plain(f, CHANGE_DELETE, "d/.f.Ab12Cd", false), 1);
	assert_int_equal(f->out[0].hold_until_ns, 0);
	/* Written and kept open. */
	assert_int_equal(plain(f, CHANGE_MODIFY, "log", false), 1);
	assert_int_equal(f->out[0].hold_until_ns, NOW + OPEN_INTERVAL);
	assert_false(f->out[0].extend); /* constant writing must not put it off */
	/* New, and perhaps still being written. */
	assert_int_equal(take(f, change(CHANGE_CREATE, "new", false), true), 1);
	assert_int_equal(f->out[0].hold_until_ns, NOW + INTAKE_OPEN_NS);
	assert_false(f->out[0].extend);
	assert_int_equal(take(f, change(CHANGE_CREATE, "new", true), true), 1);
	assert_int_equal(f->out[0].hold_until_ns, 0);
	assert_int_equal(take(f, change(CHANGE_TOUCH, "new", false), true), 1);
	assert_int_equal(f->out[0].hold_until_ns, 0);
}

static void renames_across_the_filter(void **state)
{
	struct fixture *f = *state;

	rule(f, "- *.bak");
	/* Out of what is mirrored: the old name is gone. */
	assert_int_equal(renamed(f, "a", "a.bak", false), 1);
	expect_record(&f->out[0], CHANGE_DELETE, "a", NULL);
	assert_int_equal(renamed(f, "d", "d.bak", true), 1);
	expect_record(&f->out[0], CHANGE_DELETE, "d", NULL);
	assert_true(f->out[0].change.is_dir);
	/* Into it: whatever stood there is another now, with all below it. */
	assert_int_equal(renamed(f, "a.bak", "a", false), 2);
	expect_record(&f->out[0], CHANGE_DELETE, "a", NULL);
	expect_record(&f->out[1], CHANGE_TOUCH, "a", NULL);
	assert_int_equal(renamed(f, "d.bak", "d", true), 1);
	expect_record(&f->out[0], CHANGE_RECONCILE, "d", NULL);
	assert_non_null(f->out[0].change.cause);
	/* Neither: nothing, unless what is excluded gets deleted. */
	assert_int_equal(renamed(f, "a.bak", "b.bak", false), 0);
	f->in.delete_excluded = true;
	assert_int_equal(renamed(f, "a.bak", "b.bak", false), 1);
	expect_record(&f->out[0], CHANGE_DELETE, "a.bak", NULL);
}

/* A rule for directories only: the same name is excluded as one and included as a file. */
static void renames_know_their_type(void **state)
{
	struct fixture *f = *state;

	rule(f, "- x/");
	assert_int_equal(renamed(f, "a", "x", false), 1);
	expect_record(&f->out[0], CHANGE_RENAME, "x", "a");
	assert_int_equal(renamed(f, "a", "x", true), 1);
	expect_record(&f->out[0], CHANGE_DELETE, "a", NULL);
}

/* Where rules look at paths, another selection may apply below a directory's new name: no rename on the target. */
static void directory_renames_with_path_rules(void **state)
{
	struct fixture *f = *state;

	rule(f, "- *.o");
	assert_false(f->in.path_rules);
	assert_int_equal(renamed(f, "a", "b", true), 1);
	assert_true(f->out[0].change.exact);
	rule(f, "- /b/secret");
	assert_true(f->in.path_rules);
	assert_int_equal(renamed(f, "a", "b", true), 1);
	expect_record(&f->out[0], CHANGE_RENAME, "b", "a");
	assert_false(f->out[0].change.exact);
	assert_int_equal(renamed(f, "a", "b", false), 1);
	assert_true(f->out[0].change.exact);
}

static void which_rules_look_at_paths(void **state)
{
	static const struct {
		const char *rule;
		bool path;
	} cases[] = {
		{ "- *.o", false }, { "- dir/", false }, { "+ a?c", false },  { "- /top", true },
		{ "- a/b", true },  { "- **.o", true },	 { "+ a/***", true }, { "- [a-z]", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct filter *one = filter_new();
		struct err err = ERR_INIT;

		assert_false(intake_path_rules(one));
		assert_int_equal(filter_add_rule(one, cases[i].rule, strlen(cases[i].rule), &err), 0);
		assert_int_equal(intake_path_rules(one), cases[i].path);
		filter_free(one);
	}
}

static void below_a_temporary_directory(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(plain(f, CHANGE_TOUCH, "a/.x" PATH_TEMP_SUFFIX "/b", false), 0);
	assert_int_equal(plain(f, CHANGE_DELETE, "a/.x" PATH_TEMP_SUFFIX "/b", false), 0);
	assert_int_equal(plain(f, CHANGE_RECONCILE, ".x" PATH_TEMP_SUFFIX "/b", true), 0);
	/* Out of it: it appears, as new. */
	assert_int_equal(renamed(f, ".x" PATH_TEMP_SUFFIX "/b", "b", false), 2);
	assert_int_equal(f->out[1].change.kind, CHANGE_TOUCH);
	/* Into it: it is gone. */
	assert_int_equal(renamed(f, "b", ".x" PATH_TEMP_SUFFIX "/b", false), 1);
	assert_int_equal(f->out[0].change.kind, CHANGE_DELETE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, clean_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_kind_without_rules),
		TEST(excluded_ones_are_dropped),
		TEST(own_temporary_names),
		TEST(holds),
		TEST(renames_across_the_filter),
		TEST(renames_know_their_type),
		TEST(directory_renames_with_path_rules),
		TEST(which_rules_look_at_paths),
		TEST(below_a_temporary_directory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
