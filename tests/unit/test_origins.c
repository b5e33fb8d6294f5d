/* LINK: core/origins.c */
/* Which processes write what came from another host. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/origins.h"

static void trees(void **state)
{
	const struct host_tree a = { "one", "here", 1, 2, 3, 4, "boot" };
	struct host_tree b = a;

	(void)state;
	assert_true(host_tree_same(&a, &b));
	b.ino = 3;
	assert_false(host_tree_same(&a, &b));
	b = a;
	b.dev = 3;
	assert_false(host_tree_same(&a, &b));
	b = a;
	b.address[0] ^= 1; /* a clone has the same id */
	assert_false(host_tree_same(&a, &b));
	b = a;
	b.host[HOST_ID_BYTES - 1] ^= 1;
	assert_false(host_tree_same(&a, &b));
	b = (struct host_tree){ 0 };
	assert_false(host_tree_same(&b, &b)); /* what is not known is nobody's */
}

/* What was written to the first is in question at the second. */
static void lost(void **state)
{
	const struct host_tree a = { "one", "here", 1, 2, 3, 4, "boot" }, nothing = { 0 };
	struct host_tree b = a;

	(void)state;
	assert_false(host_tree_lost(&a, &b));
	b.address[0] ^= 1; /* the same by another way */
	b.here_ino = 9;
	assert_false(host_tree_lost(&a, &b));
	b.boot[HOST_ID_BYTES - 1] ^= 1;
	assert_true(host_tree_lost(&a, &b));
	memset(b.boot, 0, sizeof(b.boot)); /* it does not tell */
	assert_false(host_tree_lost(&a, &b) || host_tree_lost(&b, &a));
	b.ino = 3;
	assert_true(host_tree_lost(&a, &b));
	b = a;
	b.dev = 3;
	assert_true(host_tree_lost(&a, &b));
	b = a;
	b.host[0] ^= 1;
	assert_true(host_tree_lost(&a, &b));
	assert_false(host_tree_lost(&nothing, &a) || host_tree_lost(&a, &nothing) ||
		     host_tree_lost(&nothing, &nothing));
}

static void processes(void **state)
{
	static struct origins o;
	struct host_tree t = { "one", "here", 1, 2, 3, 4, "boot" };

	(void)state;
	assert_null(origins_find(&o, 1));
	for (uint32_t pid = 1; pid <= ORIGINS_MAX + 10; pid++) {
		t.dev = pid;
		origins_put(&o, pid, &t);
	}
	assert_int_equal(o.n, ORIGINS_MAX);
	assert_int_equal(origins_find(&o, 7)->dev, 7);
	assert_null(origins_find(&o, ORIGINS_MAX + 1));
	t.dev = 99;
	origins_put(&o, 7, &t);
	assert_int_equal(origins_find(&o, 7)->dev, 99);
	origins_drop(&o, 7);
	origins_drop(&o, 7);
	assert_null(origins_find(&o, 7));
	assert_int_equal(o.n, ORIGINS_MAX - 1);
	for (uint32_t pid = 1; pid <= ORIGINS_MAX; pid++)
		if (pid != 7)
			assert_int_equal(origins_find(&o, pid)->dev, pid);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(trees),
		cmocka_unit_test(lost),
		cmocka_unit_test(processes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
