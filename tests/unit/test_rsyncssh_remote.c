/* LINK: core/safe_open.c transports/rsyncssh_remote.c transports/twoway_state.c transports/remote_shell.c core/pipes.c
 * transports/ssh_words.c core/look.c
 * core/path.c core/err.c core/buf.c core/loop.c core/clock.c core/proc.c core/log.c core/utf8.c core/twoway.c */
/* What a look at the target says, read; any bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "transports/rsyncssh_remote.h"

static const struct twoway_what what = { true, true, true, false, true, true, true };

static int take(struct remote_entries *e, const char *data, size_t len, char trouble[100])
{
	struct err err = ERR_INIT;
	int rc = remote_entries_read(e, &what, data, len, trouble, 100, &err);

	if (rc < 0)
		assert_int_equal(err.class, ERR_PROTOCOL);
	return rc;
}

#define TAKE(e, text, trouble) take(e, text, sizeof(text) - 1, trouble)

static void entries(void **state)
{
	struct remote_entries e = { 0 };
	char trouble[100];
	const struct remote_entry *x;
	struct twoway_state want;

	(void)state;
	assert_int_equal(TAKE(&e,
			      "f 10 1700000000.1234567890 644 root www 65024\0./a/new\nline\0\0"
			      "l 3 1700000001.0000000000 777 root root 65024\0./\xff'\0x\ny\0"
			      "d 4096 1700000001.5 2755 root root 7\0./a\0\0"
			      "p 0 1700000001.5 600 root root 7\0./fifo\0\0"
			      "!\0\0\n",
			      trouble),
			 0);
	assert_string_equal(trouble, "");
	assert_int_equal(e.n, 4);
	x = remote_entries_find(&e, "a/new\nline", 10);
	assert_non_null(x);
	want = twoway_state_make(&what, LOOK_FILE, 0644, 10, INT64_C(1700000000123456789), "root", "www", "", 0);
	assert_true(twoway_same(&x->state, &want, TWOWAY_NANOSECONDS));
	assert_string_equal(x->head, "f 10 1700000000.1234567890 644 root www 65024");
	assert_int_equal(x->dev, 65024);
	x = remote_entries_find(&e, "\xff'", 2);
	want = twoway_state_make(&what, LOOK_SYMLINK, 0, 3, INT64_C(1700000001000000000), "root", "root", "x\ny", 3);
	assert_true(x != NULL && twoway_same(&x->state, &want, TWOWAY_NANOSECONDS));
	x = remote_entries_find(&e, "a", 1);
	assert_true(x != NULL && x->state.look == LOOK_DIR && x->state.mtime_ns == 0);
	x = remote_entries_find(&e, "fifo", 4);
	assert_true(x != NULL && x->state.look == LOOK_SPECIAL);
	assert_null(remote_entries_find(&e, "b", 1));
	remote_entries_sort(&e);
	assert_string_equal(e.list[0]->path, "a");
	assert_string_equal(e.list[1]->path, "a/new\nline");
	/* Twice is once. */
	assert_int_equal(TAKE(&e, "f 99 1 644 root root 1\0./a\0\0!\0\0\n", trouble), 0);
	assert_int_equal(e.n, 4);
	remote_entries_done(&e);
}

static void whole_seconds_and_before_1970(void **state)
{
	struct remote_entries e = { 0 };
	char trouble[100];

	(void)state;
	assert_int_equal(TAKE(&e, "f 1 1700000000 644 u g 1\0./a\0\0f 1 -2 644 u g 1\0./b\0\0!\0\0\n", trouble), 0);
	assert_int_equal(remote_entries_find(&e, "a", 1)->state.mtime_ns, INT64_C(1700000000000000000));
	assert_int_equal(remote_entries_find(&e, "b", 1)->state.mtime_ns, INT64_C(-2000000000));
	remote_entries_done(&e);
}

static void troubles(void **state)
{
	struct remote_entries e = { 0 };
	char trouble[100];

	(void)state;
	assert_int_equal(
		TAKE(&e, "!\0find: './x': No such file or directory\nfind: './y/z': Not a directory\0\n", trouble), 0);
	assert_string_equal(trouble, "");
	assert_int_equal(
		TAKE(&e, "!\0find: './x': No such file or directory\nfind: './d': Permission denied\nfind: more\0\n",
		     trouble),
		0);
	assert_string_equal(trouble, "find: './d': Permission denied");
	remote_entries_done(&e);
}

/* A stranger's shell says anything: refused, and nothing outside. */
static void nonsense(void **state)
{
	static const struct {
		const char *data;
		size_t len;
	} cases[] = {
#define CASE(text) { text, sizeof(text) - 1 }
		CASE(""),
		CASE("sh: find: not found\n"),
		CASE("f 10 1700000000.0 644 root root 1\0./a"),
		CASE("f 10 1700000000.0 644 root root 1\0./a\0\0"), /* without an end */
		CASE("f 10 1700000000.0 644 root root 1\0./../a\0\0!\0\0"),
		CASE("f 10 1700000000.0 644 root root 1\0/etc/passwd\0\0!\0\0"),
		CASE("f 10 1700000000.0 644 root root 1\0./a//b\0\0!\0\0"),
		CASE("f 10 x 644 root root 1\0./a\0\0!\0\0"),
		CASE("f 10 1700000000.0 644 root root\0./a\0\0!\0\0"),
		CASE("f 10 1700000000.0 644 root root 1 2\0./a\0\0!\0\0"),
		CASE("? 10 1700000000.0 644 root root 1\0./a\0\0!\0\0"),
#undef CASE
	};
	char trouble[100];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct remote_entries e = { 0 };

		if (take(&e, cases[i].data, cases[i].len, trouble) != -1)
			fail_msg("case %zu", i);
		remote_entries_done(&e);
	}
}

static void many(void **state)
{
	struct remote_entries e = { 0 };
	struct buf b;
	char trouble[100], name[32];

	(void)state;
	buf_init(&b, 10u << 20);
	for (int i = 0; i < 5000; i++) {
		(void)buf_printf(&b, "f %d 1700000000.0 644 u g 1", i);
		(void)buf_add(&b, "\0./", 3);
		(void)buf_printf(&b, "%d", i);
		(void)buf_add(&b, "\0\0", 2);
	}
	(void)buf_add(&b, "!\0\0\n", 4);
	assert_int_equal(take(&e, b.data, b.len, trouble), 0);
	assert_int_equal(e.n, 5000);
	for (int i = 0; i < 5000; i++) {
		size_t n = (size_t)snprintf(name, sizeof(name), "%d", i);

		assert_int_equal(remote_entries_find(&e, name, n)->state.size, i);
	}
	remote_entries_done(&e);
	buf_done(&b);
}

static void setup_answers(void **state)
{
	bool dir;
	uint64_t dev;

	(void)state;
	assert_int_equal(remote_setup_answer("fine dir 65024\n", 15, &dir, &dev), REMOTE_LOOK_FINE);
	assert_true(dir && dev == 65024);
	assert_int_equal(remote_setup_answer("seconds nodir 0\n", 16, &dir, &dev), REMOTE_LOOK_SECONDS);
	assert_false(dir);
	assert_int_equal(remote_setup_answer("none dir 0", 10, &dir, &dev), REMOTE_LOOK_NONE);
	assert_int_equal(remote_setup_answer("", 0, &dir, &dev), REMOTE_LOOK_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entries),  cmocka_unit_test(whole_seconds_and_before_1970),
		cmocka_unit_test(troubles), cmocka_unit_test(nonsense),
		cmocka_unit_test(many),	    cmocka_unit_test(setup_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
