/* LINK: transports/twoway_state.c core/look.c core/path.c core/err.c core/fsutil.c core/safe_open.c core/buf.c
 * core/filter.c core/filter_args.c */
/* States made of what a look tells, and the names of losers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/path.h"
#include "tests/unit/scratch.h"
#include "transports/twoway_state.h"

static struct scratch scratch;

static int up(void **state)
{
	(void)state;
	return scratch_make(&scratch);
}

static int down(void **state)
{
	(void)state;
	return scratch_remove(&scratch);
}

static uint64_t attr(struct twoway_what w, enum look look, unsigned mode, const char *owner, const char *group,
		     const char *text)
{
	return twoway_state_make(&w, look, mode, 1, 1, owner, group, text, text == NULL ? 0 : strlen(text)).attr;
}

static void only_what_is_mirrored_counts(void **state)
{
	const struct twoway_what none = { .links = true }, all = { true, true, true, false, true, true, true };

	(void)state;
	assert_int_equal(attr(none, LOOK_FILE, 0644, "a", "b", NULL), 0);
	assert_true(attr(all, LOOK_FILE, 0644, "a", "b", NULL) != 0);
	assert_true(attr(all, LOOK_FILE, 0644, "a", "b", NULL) != attr(all, LOOK_FILE, 0600, "a", "b", NULL));
	assert_true(attr(all, LOOK_FILE, 0644, "a", "b", NULL) != attr(all, LOOK_FILE, 0644, "b", "a", NULL));
	assert_true(attr(all, LOOK_FILE, 0644, "ab", "c", NULL) != attr(all, LOOK_FILE, 0644, "a", "bc", NULL));
	/* The bits of a type are no permissions, and a symlink has none. */
	assert_int_equal(attr(all, LOOK_FILE, 0100644, "a", "b", NULL), attr(all, LOOK_FILE, 0644, "a", "b", NULL));
	assert_int_equal(attr(all, LOOK_SYMLINK, 0777, "a", "b", "x"), attr(all, LOOK_SYMLINK, 0700, "a", "b", "x"));
	assert_true(attr(none, LOOK_SYMLINK, 0, NULL, NULL, "x") != attr(none, LOOK_SYMLINK, 0, NULL, NULL, "y"));
}

static void sizes_and_times(void **state)
{
	const struct twoway_what w = { .links = true, .link_times = true }, plain = { .links = true };
	struct twoway_state s = twoway_state_make(&w, LOOK_DIR, 0755, 4096, 5, NULL, NULL, NULL, 0);

	(void)state;
	assert_true(s.size == 0 && s.mtime_ns == 0 && s.attr == 0);
	s = twoway_state_make(&w, LOOK_SYMLINK, 0, 99, 5, NULL, NULL, "abc", 3);
	assert_true(s.size == 3 && s.mtime_ns == 5);
	s = twoway_state_make(&plain, LOOK_SYMLINK, 0, 99, 5, NULL, NULL, "abc", 3);
	assert_int_equal(s.mtime_ns, 0);
	s = twoway_state_make(&w, LOOK_ABSENT, 1, 1, 1, "a", "b", NULL, 0);
	assert_true(s.look == LOOK_ABSENT && s.size == 0 && s.mtime_ns == 0 && s.attr == 0);
	assert_int_equal(twoway_time(1, 2), NS_PER_S + 2);
	assert_true(twoway_time(INT64_MAX, 5) > 0);
	assert_true(twoway_time(INT64_MIN, 5) < 0);
}

static void of_the_source(void **state)
{
	const struct twoway_what w = { true, true, true, true, true, true, true };
	struct twoway_names *names = calloc(1, sizeof(*names));
	struct err err = ERR_INIT;
	struct looker l;
	struct stat st;
	struct twoway_state s, want;
	enum look look;
	char uid[16], gid[16];
	int fd;

	(void)state;
	assert_int_equal(scratch_write(scratch_path(&scratch, "f"), "12345"), 0);
	assert_int_equal(symlink("to\nthere", scratch_path(&scratch, "l")), 0);
	fd = open(scratch.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	looker_init(&l, fd);
	assert_int_equal(looker_look(&l, "l", 1, &look, &st, &err), 0);
	assert_int_equal(twoway_state_of(&w, names, &l, "l", 1, look, &st, &s, &err), 0);
	snprintf(uid, sizeof(uid), "%u", (unsigned)st.st_uid);
	snprintf(gid, sizeof(gid), "%u", (unsigned)st.st_gid);
	want = twoway_state_make(&w, LOOK_SYMLINK, 0, 0, twoway_time(st.st_mtim.tv_sec, st.st_mtim.tv_nsec), uid, gid,
				 "to\nthere", 8);
	assert_true(s.attr == want.attr && s.size == 8 && s.mtime_ns == want.mtime_ns);
	assert_int_equal(looker_look(&l, "f", 1, &look, &st, &err), 0);
	assert_int_equal(twoway_state_of(&w, names, &l, "f", 1, look, &st, &s, &err), 0);
	assert_int_equal(s.size, 5);
	/* It was a symlink when it was looked at, and is none any more. */
	assert_int_equal(twoway_state_of(&w, names, &l, "f", 1, LOOK_SYMLINK, &st, &s, &err), -1);
	looker_done(&l);
	close(fd);
	free(names);
}

static void words(void **state)
{
	char out[TWOWAY_WORDS];
	struct twoway_state s = { LOOK_FILE, 12, INT64_C(1700000000123456789), 0 };

	(void)state;
	assert_string_equal(twoway_words(&s, out), "file of 12 bytes of 2023-11-14 22:13:20.123456789 UTC");
	s.mtime_ns = -1;
	assert_string_equal(twoway_words(&s, out), "file of 12 bytes of 1969-12-31 23:59:59.999999999 UTC");
	s.look = LOOK_ABSENT;
	assert_string_equal(twoway_words(&s, out), "nothing");
	s.look = LOOK_DIR;
	assert_string_equal(twoway_words(&s, out), "directory");
}

static void names_of_losers(void **state)
{
	struct twoway_state s = { LOOK_FILE, 12, INT64_C(1700000000123456789), 0 }, other = s;
	char longest[300], out[600];
	size_t n = twoway_conflict_name("a/b.cnf", 7, &s, out);

	(void)state;
	out[n] = '\0';
	assert_int_equal(n, 7 + strlen(".conflict-20231114-221320-") + 8);
	assert_memory_equal(out, "a/b.cnf.conflict-20231114-221320-", 33);
	assert_true(path_valid(out, n));
	other.size++;
	{
		char second[600];
		size_t m = twoway_conflict_name("a/b.cnf", 7, &other, second);

		assert_int_equal(m, n);
		assert_memory_not_equal(out, second, n);
	}
	memset(longest, 'x', 255);
	n = twoway_conflict_name(longest, 255, &s, out);
	assert_int_equal(n, 255);
	assert_true(path_valid(out, n));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_what_is_mirrored_counts),
		cmocka_unit_test(sizes_and_times),
		cmocka_unit_test(of_the_source),
		cmocka_unit_test(words),
		cmocka_unit_test(names_of_losers),
	};

	return cmocka_run_group_tests(tests, up, down);
}
