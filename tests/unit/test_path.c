/* LINK: core/path.c */
/* Relative paths as bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/path.h"

#define BYTES(s) (s), sizeof(s) - 1

static void validity(void **state)
{
	static const char *const good[] = { "", "a", "a/b", "...", "..a", ".a/b.", "a b", "\xff\n/\\", "a/..." };
	static const char *const bad[] = { "/",	  "/a",	  "a/",	 "a//b", ".",	  "..",
					   "a/.", "a/..", "./a", "../a", "a/./b", "a/../b" };

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(path_valid(good[i], strlen(good[i])));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(path_valid(bad[i], strlen(bad[i])));
	assert_false(path_valid(BYTES("a\0b")));
	assert_false(path_valid(BYTES("a/b\0")));
	assert_false(path_name_valid("", 0));
	assert_false(path_name_valid(BYTES("a/b")));
}

static void lengths(void **state)
{
	char name[NAME_BYTES_MAX + 1], *path = malloc(PATH_BYTES_MAX + 2);

	(void)state;
	memset(name, 'n', sizeof(name));
	assert_true(path_name_valid(name, NAME_BYTES_MAX));
	assert_false(path_name_valid(name, NAME_BYTES_MAX + 1));
	assert_false(path_valid(name, NAME_BYTES_MAX + 1));
	for (size_t i = 0; i < PATH_BYTES_MAX + 2; i++)
		path[i] = i % 2 == 0 ? 'a' : '/';
	assert_true(path_valid(path, PATH_BYTES_MAX - 1));
	path[PATH_BYTES_MAX - 1] = 'b';
	assert_true(path_valid(path, PATH_BYTES_MAX));
	path[PATH_BYTES_MAX] = 'b';
	assert_false(path_valid(path, PATH_BYTES_MAX + 1));
	free(path);
}

static void parts(void **state)
{
	(void)state;
	assert_int_equal(path_parent_len(BYTES("a/bc/d")), 4);
	assert_int_equal(path_base(BYTES("a/bc/d")), 5);
	assert_int_equal(path_parent_len(BYTES("a")), 0);
	assert_int_equal(path_base(BYTES("a")), 0);
	assert_int_equal(path_parent_len(NULL, 0), 0);
	assert_int_equal(path_base(NULL, 0), 0);
}

static void below_and_within(void **state)
{
	static const struct {
		const char *path, *dir;
		bool below, within;
	} cases[] = {
		{ "a/b", "a", true, true },   { "a", "a", false, true },    { "ab", "a", false, false },
		{ "a", "a/b", false, false }, { "a", "", true, true },	    { "", "", false, true },
		{ "", "a", false, false },    { "b/c", "a", false, false }, { "a/b/c", "a/b", true, true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *p = cases[i].path, *d = cases[i].dir;

		assert_int_equal(path_below(p, strlen(p), d, strlen(d)), cases[i].below);
		assert_int_equal(path_within(p, strlen(p), d, strlen(d)), cases[i].within);
	}
}

/* Each sorts before all that follow it: a directory, what is below it, then its neighbours. */
static void order_of_a_walk(void **state)
{
	static const char *const sorted[] = { "",    "a",  "a/\x01", "a/b", "a/b/c", "a/b c", "a\x01",
					      "a b", "a-", "a0",     "aa",  "b",     "\xff" };
	const size_t n = sizeof(sorted) / sizeof(sorted[0]);

	(void)state;
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < n; j++) {
			int c = path_compare(sorted[i], strlen(sorted[i]), sorted[j], strlen(sorted[j]));

			assert_int_equal((c > 0) - (c < 0), (i > j) - (i < j));
		}
}

static void temporary_names(void **state)
{
	(void)state;
	assert_true(path_is_temp(BYTES(".x.1" PATH_TEMP_SUFFIX)));
	assert_true(path_is_temp(BYTES(PATH_TEMP_SUFFIX)));
	assert_false(path_is_temp(BYTES(PATH_TEMP_SUFFIX "x")));
	assert_false(path_is_temp(BYTES("tmp")));
	assert_false(path_is_temp("", 0));
	assert_true(path_has_temp(BYTES("a/.b" PATH_TEMP_SUFFIX "/c")));
	assert_true(path_has_temp(BYTES(".b" PATH_TEMP_SUFFIX)));
	assert_true(path_has_temp(BYTES("a/b" PATH_TEMP_SUFFIX)));
	assert_false(path_has_temp(BYTES("a/b" PATH_TEMP_SUFFIX "x/c")));
	assert_false(path_has_temp("", 0));
	assert_true(path_like_rsync_temp(BYTES(".a.Ab3xYz")));
	assert_true(path_like_rsync_temp(BYTES(".my file.cnf.000000")));
	assert_false(path_like_rsync_temp(BYTES("..Ab3xYz")));
	assert_false(path_like_rsync_temp(BYTES("a.b.Ab3xYz")));
	assert_false(path_like_rsync_temp(BYTES(".a.Ab3xY")));
	assert_false(path_like_rsync_temp(BYTES(".a.Ab3xYzz")));
	assert_false(path_like_rsync_temp(BYTES(".a.Ab3-Yz")));
	assert_false(path_like_rsync_temp("", 0));
}

static void what_is_below(void **state)
{
	(void)state;
	assert_string_equal(path_rest("/a/b/c", "/a"), "b/c");
	assert_string_equal(path_rest("/a", "/"), "a");
	assert_null(path_rest("/a", "/a"));
	assert_null(path_rest("/a/", "/a"));
	assert_null(path_rest("/", "/"));
	assert_null(path_rest("/ab/c", "/a"));
	assert_null(path_rest("/a", "/a/b"));
}

/* Files in stateDir are named by it: another one would begin their records anew. */
static void a_hash_for_ever(void **state)
{
	(void)state;
	assert_int_equal(path_hash("", 0), UINT64_C(1469598103934665603));
	assert_int_equal(path_hash("/srv/web", 8), UINT64_C(17974240349671956228));
	assert_int_not_equal(path_hash("\xff", 1), path_hash("\x7f", 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(validity),	   cmocka_unit_test(lengths),
		cmocka_unit_test(what_is_below),   cmocka_unit_test(a_hash_for_ever),
		cmocka_unit_test(parts),	   cmocka_unit_test(below_and_within),
		cmocka_unit_test(order_of_a_walk), cmocka_unit_test(temporary_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
