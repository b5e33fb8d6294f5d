/* LINK: core/failures.c core/path.c */
/* What a sync could not send. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/failures.h"

static uint32_t note(struct failures *f, const char *path, const char *why, bool given_up, int64_t now)
{
	return failures_note(f, path, strlen(path), why, given_up, false, now);
}

static void counts_and_keeps_the_first_time(void **state)
{
	struct failures f = { 0 };

	(void)state;
	assert_int_equal(note(&f, "a", "first", false, 10), 1);
	assert_int_equal(note(&f, "a", "second", true, 20), 2);
	assert_int_equal(note(&f, "a/b", "other", false, 30), 1);
	assert_int_equal(failures_note(&f, NULL, 0, "the root", false, false, 40), 1);
	assert_int_equal(f.n, 3);
	assert_string_equal(f.v[0].path, "a");
	assert_string_equal(f.v[0].why, "second");
	assert_true(f.v[0].given_up);
	assert_int_equal(f.v[0].since_ns, 10);
	assert_int_equal(f.v[2].len, 0);
	assert_int_equal(failures_given_up(&f), 1);
	assert_int_equal(note(&f, "a", "again", false, 50), 3);
	assert_int_equal(failures_given_up(&f), 0);
	failures_done(&f);
	assert_int_equal(f.n, 0);
}

static void clears_one_or_a_subtree(void **state)
{
	struct failures f = { 0 };

	(void)state;
	failures_clear(&f, "a", 1, false);
	failures_clear_below(&f, "a", 1, INT64_MAX);
	note(&f, "a", "x", false, 1);
	note(&f, "a/b", "x", false, 1);
	note(&f, "ab", "x", true, 1);
	note(&f, "a/c/d", "x", false, 1);
	failures_clear(&f, "a/b", 3, true);
	failures_clear(&f, "a/b", 3, true);
	assert_int_equal(f.n, 3);
	assert_int_equal(note(&f, "a/b", "x", false, 1), 1); /* it begins anew */
	failures_clear_below(&f, "a", 1, INT64_MAX);
	assert_int_equal(f.n, 1);
	assert_string_equal(f.v[0].path, "ab");
	assert_int_equal(failures_given_up(&f), 1);
	failures_clear_below(&f, "", 0, INT64_MAX);
	assert_int_equal(f.n, 0);
	failures_done(&f);
}

static void is_bounded(void **state)
{
	struct failures f = { 0 };
	char path[32];

	(void)state;
	for (unsigned i = 0; i < FAILURES_MAX; i++) {
		snprintf(path, sizeof(path), "d/%u", i);
		assert_int_equal(note(&f, path, "x", false, 1), 1);
	}
	assert_int_equal(note(&f, "one more", "x", false, 1), 0);
	assert_int_equal(f.n, FAILURES_MAX);
	assert_int_equal(f.unnamed, 1);
	assert_int_equal(note(&f, "d/7", "x", false, 1), 2);
	failures_clear_below(&f, "d", 1, INT64_MAX);
	assert_int_equal(f.n, 0);
	assert_int_equal(f.unnamed, 1); /* it may be anywhere */
	failures_clear_below(&f, "", 0, INT64_MAX);
	assert_int_equal(f.unnamed, 0);
	failures_done(&f);
}

/* A file of many thousands that vanished, and then was found to be gone, is no failure for ever. */
static void forgets_those_without_a_name(void **state)
{
	struct failures f = { 0 };
	char path[32];

	(void)state;
	for (unsigned i = 0; i < FAILURES_MAX + 5; i++) {
		snprintf(path, sizeof(path), "d/%u", i);
		note(&f, path, "vanished", false, 1);
	}
	assert_int_equal(f.unnamed, 5);
	assert_int_equal(failures_note(&f, "d/1000", 6, "vanished", false, true, 2), 0);
	assert_int_equal(f.unnamed, 5); /* the same one */
	failures_clear(&f, "d/1000", 6, true);
	failures_clear(&f, "new", 3, false);
	assert_int_equal(f.unnamed, 4);
	failures_clear(&f, "d/7", 3, true);
	assert_int_equal(f.n, FAILURES_MAX - 1);
	assert_int_equal(failures_note(&f, "d/1001", 6, "vanished", false, true, 2), 1); /* it has a name now */
	assert_int_equal(f.unnamed, 3);
	assert_int_equal(note(&f, "worse", "refused", true, 3), 0);
	assert_int_equal(f.unnamed, 4);
	failures_quiet(&f);
	assert_int_equal(f.unnamed, 1);
	failures_clear(&f, "d/1002", 6, true);
	assert_int_equal(f.unnamed, 1);
	failures_clear_below(&f, "", 0, INT64_MAX);
	assert_int_equal(f.n + f.unnamed, 0);
	failures_done(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_and_keeps_the_first_time),
		cmocka_unit_test(clears_one_or_a_subtree),
		cmocka_unit_test(is_bounded),
		cmocka_unit_test(forgets_those_without_a_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
