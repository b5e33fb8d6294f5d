/* LINK: core/frame.c core/buf.c */
/* Length-prefixed messages on a byte stream. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/frame.h"

static void expect(struct buf *in, uint8_t want_type, const char *want, size_t want_len)
{
	const char *payload = NULL;
	size_t len = 0;
	uint8_t type = 0;

	assert_int_equal(frame_next(in, 100, &type, &payload, &len), 1);
	assert_int_equal(type, want_type);
	assert_int_equal(len, want_len);
	assert_non_null(payload);
	assert_memory_equal(payload, want, want_len);
}

static void expect_none(struct buf *in, int want)
{
	const char *payload = "untouched";
	size_t len = 77;
	uint8_t type = 66;

	assert_int_equal(frame_next(in, 100, &type, &payload, &len), want);
	assert_string_equal(payload, "untouched");
	assert_int_equal(len, 77);
	assert_int_equal(type, 66);
}

static void several_at_once(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 1000);
	assert_true(frame_add(&b, 1, "abc", 3) && frame_add(&b, 2, NULL, 0) && frame_add(&b, 255, "x\0y", 3));
	assert_memory_equal(b.data,
			    "\x03\0\0\0\x01"
			    "abc",
			    8);
	expect(&b, 1, "abc", 3);
	expect(&b, 2, "", 0);
	expect(&b, 255, "x\0y", 3);
	expect_none(&b, 0);
	assert_int_equal(b.len, 0);
	expect_none(&b, 0);
	buf_done(&b);
}

/* As bytes come in from a stream: a frame is handed out with its last byte, not before. */
static void byte_by_byte(void **state)
{
	struct buf whole, in;

	(void)state;
	buf_init(&whole, 1000);
	buf_init(&in, 1000);
	assert_true(frame_add(&whole, 7, "hello", 5) && frame_add(&whole, 8, NULL, 0));
	for (size_t i = 0; i < whole.len; i++) {
		assert_true(buf_add_byte(&in, (unsigned char)whole.data[i]));
		if (i == FRAME_HEADER + 4)
			expect(&in, 7, "hello", 5);
		else if (i == 2 * FRAME_HEADER + 4)
			expect(&in, 8, "", 0);
		expect_none(&in, 0);
	}
	buf_done(&whole);
	buf_done(&in);
}

/* One that was handed out and not yet dropped does not confuse what is appended behind it. */
static void append_behind_one_handed_out(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 1000);
	assert_true(frame_add(&b, 1, "one", 3) && buf_add(&b, "\x03\0", 2));
	expect(&b, 1, "one", 3);
	assert_true(buf_add(&b, "\0\0\x02two", 6));
	expect(&b, 2, "two", 3);
	buf_consume(&b, 4); /* less than was handed out: the rest of that is dropped later */
	assert_true(frame_add(&b, 3, "three", 5));
	expect(&b, 3, "three", 5);
	expect_none(&b, 0);
	assert_int_equal(b.len, 0);
	buf_done(&b);
}

static void too_long_by_its_header(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 1000);
	assert_true(buf_add(&b, "\x65\0\0\0", 4));
	expect_none(&b, 0);
	assert_true(buf_add_byte(&b, 1)); /* 101 bytes claimed, 100 allowed */
	expect_none(&b, -1);
	expect_none(&b, -1);
	buf_clear(&b);
	assert_true(buf_add(&b, "\xff\xff\xff\xff\x01", 5));
	expect_none(&b, -1);
	buf_done(&b);
}

static void nothing_half_appended(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 2 * FRAME_HEADER + 4);
	assert_true(frame_add(&b, 1, "ab", 2));
	assert_false(frame_add(&b, 2, "abc", 3));
	assert_false(b.failed);
	assert_int_equal(b.len, FRAME_HEADER + 2);
	assert_true(frame_add(&b, 2, "cd", 2));
	b.failed = true;
	assert_false(frame_add(&b, 3, NULL, 0));
	assert_true(b.failed);
	assert_false(frame_add(&b, 3, "", SIZE_MAX));
	buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(several_at_once),
		cmocka_unit_test(byte_by_byte),
		cmocka_unit_test(append_behind_one_handed_out),
		cmocka_unit_test(too_long_by_its_header),
		cmocka_unit_test(nothing_half_appended),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
