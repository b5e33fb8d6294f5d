/* LINK: transports/temp_name.c core/path.c */
/* The names of temporary files: within a name's limit, recognised again, apart for each writer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "transports/temp_name.h"

static const enum temp_kind kinds[] = { TEMP_NEW, TEMP_OLD, TEMP_PART };

static void every_length(void **state)
{
	char name[NAME_BYTES_MAX + 1], out[NAME_BYTES_MAX + 1];

	(void)state;
	memset(name, 'x', sizeof(name));
	for (size_t k = 0; k < 3; k++)
		for (size_t len = 1; len <= NAME_BYTES_MAX; len++) {
			size_t n = temp_name(out, name, len, kinds[k], 0xc0ffee, 0xabcdef0123456789u, false);
			enum temp_kind kind;
			uint32_t tag;
			size_t base, base_len;

			assert_true(n <= NAME_BYTES_MAX && n == strlen(out));
			assert_true(path_name_valid(out, n));
			assert_true(temp_parse(out, n, &kind, &tag, &base, &base_len));
			assert_int_equal(kind, kinds[k]);
			assert_int_equal(tag, 0xc0ffee);
			assert_true(base_len == 0 ? len > 200 : base_len == len);
			assert_memory_equal(out + base, name, base_len);
		}
}

static void long_names_stay_apart(void **state)
{
	char a[NAME_BYTES_MAX], b[NAME_BYTES_MAX], out_a[NAME_BYTES_MAX + 1], out_b[NAME_BYTES_MAX + 1];

	(void)state;
	memset(a, 'x', sizeof(a));
	memset(b, 'x', sizeof(b));
	b[NAME_BYTES_MAX - 1] = 'y';
	(void)temp_name(out_a, a, sizeof(a), TEMP_NEW, 1, 0, false);
	(void)temp_name(out_b, b, sizeof(b), TEMP_NEW, 1, 0, false);
	assert_string_not_equal(out_a, out_b);
	(void)temp_name(out_a, "a", 1, TEMP_NEW, 1, 0, true);
	assert_int_equal(strlen(out_a), 1 + 16 + 10 + strlen(PATH_TEMP_SUFFIX));
}

static void paths_and_tags(void **state)
{
	char out[600];
	enum temp_kind kind;
	uint32_t tag;
	size_t base, base_len, n = temp_path(out, "d/e/file", 8, TEMP_NEW, 0x12345678, 0, false);

	(void)state;
	assert_int_equal(n, strlen(out));
	assert_string_equal(out, "d/e/.file.n12345678" PATH_TEMP_SUFFIX);
	assert_false(temp_parse(".file.q12345678" PATH_TEMP_SUFFIX, strlen(".file.q12345678" PATH_TEMP_SUFFIX), &kind,
				&tag, &base, &base_len));
	assert_false(temp_parse(PATH_TEMP_SUFFIX, strlen(PATH_TEMP_SUFFIX), &kind, &tag, &base, &base_len));
	assert_false(temp_parse("x" PATH_TEMP_SUFFIX, strlen("x" PATH_TEMP_SUFFIX), &kind, &tag, &base, &base_len));
	assert_int_not_equal(temp_tag("h", "s", "t", "n"), temp_tag("h2", "s", "t", "n"));
	assert_int_not_equal(temp_tag("h", "s", "t", "n"), temp_tag("h", "s", "t", "n2"));
	assert_int_equal(temp_tag("h", "s", "t", "n"), temp_tag("h", "s", "t", "n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_length),
		cmocka_unit_test(long_names_stay_apart),
		cmocka_unit_test(paths_and_tags),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
