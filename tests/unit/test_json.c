/* LINK: core/json.c core/utf8.c core/buf.c */
/* JSON writing: commas, escapes, bytes that are not UTF-8. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/json.h"
#include "core/utf8.h"

#define BYTES(s) (s), sizeof(s) - 1

static void expect_json(const char *s, size_t len, const char *want)
{
	struct buf b;

	buf_init(&b, 4096);
	json_string(&b, s, len);
	assert_string_equal(buf_str(&b), want);
	buf_done(&b);
}

static void documents(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 4096);
	json_open(&b, '{');
	json_put_string(&b, "s", "x");
	json_put_string(&b, "n", NULL);
	json_put_bytes(&b, "b", "a\0b", 3);
	json_put_u64(&b, "u", UINT64_MAX);
	json_put_double(&b, "d", 1.5);
	json_put_double(&b, "nan", (double)NAN);
	json_put_double(&b, "inf", (double)INFINITY);
	json_put_bool(&b, "t", true);
	json_put_bool(&b, "f", false);
	json_key(&b, "list");
	json_open(&b, '[');
	json_open(&b, '{');
	json_close(&b, '}');
	json_open(&b, '{');
	json_put_u64(&b, "{", 0);
	json_close(&b, '}');
	json_close(&b, ']');
	json_key(&b, "o");
	json_open(&b, '{');
	json_close(&b, '}');
	json_close(&b, '}');
	assert_string_equal(buf_str(&b), "{\"s\":\"x\",\"n\":null,\"b\":\"a\\u0000b\",\"u\":18446744073709551615,"
					 "\"d\":1.500,\"nan\":0.000,\"inf\":0.000,\"t\":true,\"f\":false,"
					 "\"list\":[{},{\"{\":0}],\"o\":{}}");
	buf_done(&b);
}

static void escapes(void **state)
{
	(void)state;
	expect_json(BYTES(""), "\"\"");
	expect_json(BYTES("a\"b\\c/d"), "\"a\\\"b\\\\c/d\"");
	expect_json(BYTES("\n\t\x01\x1f\x7f"), "\"\\u000a\\u0009\\u0001\\u001f\\u007f\"");
	expect_json(BYTES("ä€😀"), "\"ä€😀\"");
}

/* As Python's surrogateescape: a byte that is no UTF-8 is the lone surrogate U+DC00 + byte, each on its own. */
static void surrogate_escapes(void **state)
{
	(void)state;
	expect_json(BYTES("a\xff"
			  "b"),
		    "\"a\\udcffb\"");
	expect_json(BYTES("\xe2\x82"), "\"\\udce2\\udc82\"");
	expect_json(BYTES("\xe2\x82\"x"), "\"\\udce2\\udc82\\\"x\"");
	expect_json(BYTES("\x80ä"), "\"\\udc80ä\"");
	expect_json(BYTES("\xed\xb3\xbf"), "\"\\udced\\udcb3\\udcbf\""); /* a surrogate in UTF-8 is none */
}

static void utf8_lengths(void **state)
{
	static const struct {
		const char *s;
		size_t n;
	} cases[] = {
		{ "a", 1 },
		{ "\x7f", 1 },
		{ "\x80", 0 },
		{ "\xbf", 0 },
		{ "\xc0\x80", 0 },
		{ "\xc1\xbf", 0 },
		{ "\xc2\x80", 2 },
		{ "\xdf\xbf", 2 },
		{ "\xc2", 0 },
		{ "\xc2\x41", 0 },
		{ "\xe0\x9f\xbf", 0 },
		{ "\xe0\xa0\x80", 3 },
		{ "\xed\x9f\xbf", 3 },
		{ "\xed\xa0\x80", 0 },
		{ "\xed\xbf\xbf", 0 },
		{ "\xee\x80\x80", 3 },
		{ "\xef\xbf\xbf", 3 },
		{ "\xe2\x82", 0 },
		{ "\xe2\x82\xc0", 0 },
		{ "\xf0\x8f\xbf\xbf", 0 },
		{ "\xf0\x90\x80\x80", 4 },
		{ "\xf4\x8f\xbf\xbf", 4 },
		{ "\xf4\x90\x80\x80", 0 },
		{ "\xf0\x90\x80", 0 },
		{ "\xf5\x80\x80\x80", 0 },
		{ "\xff", 0 },
		{ "ab", 1 },
		{ "\xc2\x80z", 2 },
	};

	(void)state;
	assert_int_equal(utf8_length("", 0), 0);
	assert_int_equal(utf8_length("\0", 1), 1);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(utf8_length(cases[i].s, strlen(cases[i].s)), cases[i].n);
	/* The continuation exists but is not ours. */
	assert_int_equal(utf8_length("\xc2\x80", 1), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(documents),
		cmocka_unit_test(escapes),
		cmocka_unit_test(surrogate_escapes),
		cmocka_unit_test(utf8_lengths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
