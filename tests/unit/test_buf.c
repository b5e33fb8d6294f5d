/* LINK: core/buf.c */
/* Buffers with a ceiling, and the reader over borrowed bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/buf.h"

static void appends(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 100);
	assert_string_equal(buf_str(&b), "");
	assert_null(b.data);
	assert_true(buf_add_str(&b, "ab") && buf_add_byte(&b, 'c') && buf_printf(&b, "-%d", 42) &&
		    buf_add(&b, NULL, 0));
	assert_string_equal(buf_str(&b), "abc-42");
	assert_int_equal(b.len, 6);
	buf_consume(&b, 2);
	assert_string_equal(buf_str(&b), "c-42");
	buf_consume(&b, 4);
	assert_string_equal(buf_str(&b), "");
	buf_done(&b);
	assert_true(buf_add_str(&b, "again"));
	assert_string_equal(buf_str(&b), "again");
	buf_done(&b);
}

/* What does not fit leaves the content alone, and is remembered until the buffer is cleared. */
static void ceiling(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 4);
	assert_true(buf_add_str(&b, "abcd"));
	assert_false(buf_add_byte(&b, 'e'));
	assert_true(b.failed);
	assert_string_equal(buf_str(&b), "abcd");
	buf_consume(&b, 2);
	assert_false(buf_add_byte(&b, 'e'));
	assert_false(buf_printf(&b, "%s", ""));
	assert_string_equal(buf_str(&b), "cd");
	buf_clear(&b);
	assert_true(buf_printf(&b, "%s", "wxyz"));
	assert_string_equal(buf_str(&b), "wxyz");
	buf_clear(&b);
	assert_false(buf_printf(&b, "%s", "vwxyz"));
	assert_int_equal(b.len, 0);
	buf_done(&b);
	buf_init(&b, SIZE_MAX);
	assert_false(buf_reserve(&b, SIZE_MAX));
	assert_true(b.failed);
	buf_done(&b);
}

static void grows_to_its_ceiling(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 100000);
	for (size_t i = 0; i < 100000; i++)
		assert_true(buf_add_byte(&b, (unsigned char)(i * 7)));
	assert_false(buf_add_byte(&b, 0));
	for (size_t i = 0; i < 100000; i++)
		assert_int_equal((unsigned char)b.data[i], (unsigned char)(i * 7));
	buf_done(&b);
}

static void numbers(void **state)
{
	static const unsigned char want[] = { 4, 3, 2, 1, 8, 7, 6, 5, 4, 3, 2, 0x81, 9 };
	struct reader r;
	struct buf b;

	(void)state;
	buf_init(&b, 100);
	buf_add_u32(&b, 0x01020304);
	buf_add_u64(&b, UINT64_C(0x8102030405060708));
	buf_add_byte(&b, 9);
	assert_int_equal(b.len, sizeof(want));
	assert_memory_equal(b.data, want, sizeof(want));
	reader_init(&r, b.data, b.len);
	assert_int_equal(reader_u32(&r), 0x01020304);
	assert_true(reader_u64(&r) == UINT64_C(0x8102030405060708));
	assert_int_equal(reader_u8(&r), 9);
	assert_int_equal(r.left, 0);
	assert_false(r.failed);
	buf_done(&b);
}

static void reader_fails_for_good(void **state)
{
	struct reader r;

	(void)state;
	reader_init(&r, "abc", 3);
	assert_int_equal(reader_u32(&r), 0);
	assert_true(r.failed);
	assert_int_equal(reader_u8(&r), 0); /* although a byte would be there */
	assert_null(reader_bytes(&r, 0));
	reader_init(&r, "abc", 3);
	assert_memory_equal(reader_bytes(&r, 3), "abc", 3);
	assert_non_null(reader_bytes(&r, 0));
	assert_null(reader_bytes(&r, 1));
	reader_init(&r, "abc", 3);
	assert_null(reader_bytes(&r, SIZE_MAX));
	reader_init(&r, NULL, 0);
	assert_non_null(reader_bytes(&r, 0)); /* nothing is not a failure */
	assert_false(r.failed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(appends),
		cmocka_unit_test(ceiling),
		cmocka_unit_test(grows_to_its_ceiling),
		cmocka_unit_test(numbers),
		cmocka_unit_test(reader_fails_for_good),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
