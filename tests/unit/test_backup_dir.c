/* LINK: core/backup_dir.c core/path.c core/err.c */
/* Names of directories of backups: what is refused, what the time makes of them, which part is fixed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "core/backup_dir.h"
#include "core/clock.h"

/* 2026-01-04 23:05:09 UTC, a Sunday, and 7 ms. */
#define AT (INT64_C(1767567909) * NS_PER_S + 7 * NS_PER_MS)

static void becomes(const char *text, const char *expected, const char *root)
{
	char out[BACKUP_DIR_MAX];
	struct err err = ERR_INIT;

	assert_int_equal(backup_dir_check(text, &err), 0);
	assert_int_equal(backup_dir_at(out, text, AT, &err), strlen(expected));
	assert_string_equal(out, expected);
	assert_int_equal(backup_dir_root(text), strlen(root));
	assert_memory_equal(text, root, strlen(root));
}

static void refused(const char *text, const char *why)
{
	struct err err = ERR_INIT;

	assert_int_equal(backup_dir_check(text, &err), -1);
	if (strstr(err.text, why) == NULL)
		fail_msg("\"%s\": %s", text, err.text);
}

static void names(void **state)
{
	char stamp[BACKUP_STAMP_MAX];

	(void)state;
	assert_int_equal(setenv("TZ", "UTC0", 1), 0);
	tzset();
	becomes(".backup", ".backup", ".backup");
	becomes(".backup/%Y-%m-%d", ".backup/2026-01-04", ".backup");
	becomes("old/%G-W%V/%u %H%M%S", "old/2026-W01/7 230509", "old");
	becomes("a/day-%j/100%%", "a/day-004/100%", "a");
	backup_dir_stamp(stamp, AT);
	assert_string_equal(stamp, "~20260104-230509.007");
	/* By the clocks of the place. */
	assert_int_equal(setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1), 0);
	tzset();
	becomes(".backup/%Y-%m-%d", ".backup/2026-01-05", ".backup");
}

static void wrong(void **state)
{
	char text[400];

	(void)state;
	refused("", "must be a path");
	refused("/var/backups/%Y", "must be a path");
	refused("var/old/%Y", "of the target itself");
	refused("var/old", "of the target itself");
	refused("../backup", "must be a path");
	refused("a/./b", "must be a path");
	refused("a//b", "must be a path");
	refused("a/", "must be a path");
	refused("%Y/backup", "fixed name");
	refused("backup-%Y", "fixed name");
	refused(".backup/%F", "conversions");
	refused(".backup/%", "conversions");
	refused(".backup/%/x", "conversions");
	refused(".backup/%n", "conversions");
	refused(".ba*/x", "wildcards");
	refused(".backup/a\nb", "line breaks");
	refused("x.fansyncd~tmp/%Y", "temporary");
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = i % 50 == 49 ? '/' : 'a';
	text[398] = '\0';
	refused(text, "too long");
	memcpy(text, ".b/", 3);
	for (size_t i = 3; i < 203; i += 2)
		memcpy(text + i, "%Y", 3);
	refused(text, "too long");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names),
		cmocka_unit_test(wrong),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
