/* LINK: core/owner_map.c core/err.c */
/* The table of whose a sender's files are here: its rules, and which of them counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/options.h"
#include "core/owner_map.h"

static void rules_are_read(void **state)
{
	struct owner_rule r;

	(void)state;
	assert_int_equal(owner_rule_parse("1000:2000", &r, NULL), 0);
	assert_true(r.by_number && r.low == 1000 && r.high == 1000 && r.to == 2000 && r.to_name[0] == '\0');
	assert_int_equal(owner_rule_parse("0-4294967294:web", &r, NULL), 0);
	assert_true(r.by_number && r.low == 0 && r.high == 4294967294u);
	assert_string_equal(r.to_name, "web");
	assert_int_equal(owner_rule_parse("www-data:33", &r, NULL), 0);
	assert_false(r.by_number);
	assert_string_equal(r.pattern, "www-data");
	assert_int_equal(owner_rule_parse("12-x:33", &r, NULL), 0); /* a name may begin so */
	assert_string_equal(r.pattern, "12-x");
}

static void others_are_refused(void **state)
{
	static const char *const wrong[] = { "",      "a",     ":",   "a:", ":b", "a:b:c", "2-1:3", "1:4294967295",
					     "a/b:1", "a,b:1", "a:\n" };
	struct err err = ERR_INIT;
	struct owner_rule r;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(owner_rule_parse(wrong[i], &r, &err), -1);
	assert_int_equal(err.class, ERR_CONFIG);
}

static uint32_t find(const struct owner_map *m, uint32_t id, const char *name)
{
	uint32_t to = 4294967295u;

	return owner_map_find(m, id, name, &to) ? to : 4294967295u;
}

static void the_first_that_matches_counts(void **state)
{
	char *texts[] = { (char *)"alice:1", (char *)"2000-2999:2", (char *)"web*:3", (char *)"root:4", (char *)"*:5" };
	struct owner_map m;

	(void)state;
	assert_int_equal(owner_map_parse(&(struct strlist){ .v = texts, .n = 4 }, &m, NULL), 0);
	assert_int_equal(find(&m, 2500, "alice"), 1);
	assert_int_equal(find(&m, 2500, "bob"), 2);
	assert_int_equal(find(&m, 2999, NULL), 2);
	assert_int_equal(find(&m, 3000, "webmaster"), 3);
	assert_int_equal(find(&m, 0, NULL), 4);
	assert_int_equal(find(&m, 7, "bob"), 4294967295u);
	assert_int_equal(find(&m, 7, NULL), 4294967295u);
	owner_map_done(&m);
	assert_int_equal(owner_map_parse(&(struct strlist){ .v = texts, .n = 5 }, &m, NULL), 0);
	assert_int_equal(find(&m, 7, NULL), 5);
	owner_map_done(&m);
	texts[2] = (char *)"nothing";
	assert_int_equal(owner_map_parse(&(struct strlist){ .v = texts, .n = 5 }, &m, NULL), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rules_are_read),
		cmocka_unit_test(others_are_refused),
		cmocka_unit_test(the_first_that_matches_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
