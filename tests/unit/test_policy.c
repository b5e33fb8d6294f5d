/* LINK: core/policy.c */
/* Which failures are final, and how long to wait after the others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/policy.h"

static void every_class(void **state)
{
	static const struct {
		enum err_class class;
		bool final;
	} cases[] = {
		{ ERR_NONE, false },	{ ERR_AGAIN, false }, { ERR_GONE, false },    { ERR_DENIED, false },
		{ ERR_NOSPACE, false }, { ERR_IO, false },    { ERR_PROTOCOL, true }, { ERR_AUTH, true },
		{ ERR_NETWORK, false }, { ERR_CONFIG, true }, { ERR_LIMIT, false },   { ERR_NOMEM, false },
		{ ERR_UNSAFE, true },	{ ERR_BUG, true },
	};

	(void)state;
	assert_int_equal(sizeof(cases) / sizeof(cases[0]), ERR_CLASSES);
	for (unsigned i = 0; i < ERR_CLASSES; i++) {
		assert_int_equal(cases[i].class, i);
		assert_int_equal(policy_is_final(cases[i].class), cases[i].final);
	}
	assert_false(policy_is_final(ERR_CLASSES));
}

static void doubles_up_to_the_ceiling(void **state)
{
	(void)state;
	assert_int_equal(policy_backoff_ns(0, 1000, 60000, 0), 1000);
	assert_int_equal(policy_backoff_ns(1, 1000, 60000, 0), 1000);
	assert_int_equal(policy_backoff_ns(2, 1000, 60000, 0), 2000);
	assert_int_equal(policy_backoff_ns(6, 1000, 60000, 0), 32000);
	assert_int_equal(policy_backoff_ns(7, 1000, 60000, 0), 60000);
	assert_int_equal(policy_backoff_ns(UINT32_MAX, 1000, 60000, 0), 60000);
	assert_int_equal(policy_backoff_ns(1, 9000, 500, 0), 500);
	assert_true(policy_backoff_ns(UINT32_MAX, 1, INT64_MAX, 0) == INT64_MAX);
	assert_int_equal(policy_backoff_ns(1, 0, 1000, 0), 1); /* never a busy loop */
	assert_int_equal(policy_backoff_ns(3, -5, 1000, 0), 4);
}

/* At most a quarter less, never more, and spread. */
static void jitter_stays_in_bounds(void **state)
{
	const int64_t min = 1000000000, max = 300000000000;

	(void)state;
	for (uint32_t tries = 0; tries < 100; tries++) {
		int64_t whole = policy_backoff_ns(tries, min, max, 0);

		for (uint32_t random = 0; random < 2000; random += 7) {
			int64_t pause = policy_backoff_ns(tries, min, max, random * 2654435761u);

			assert_true(pause <= whole);
			assert_true(pause >= whole - whole / 4);
			assert_true(pause > 0);
		}
		assert_true(policy_backoff_ns(tries, min, max, 255) < whole - whole / 5);
	}
	assert_true(policy_backoff_ns(UINT32_MAX, INT64_MAX, INT64_MAX, UINT32_MAX) >= INT64_MAX - INT64_MAX / 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_class),
		cmocka_unit_test(doubles_up_to_the_ceiling),
		cmocka_unit_test(jitter_stays_in_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
