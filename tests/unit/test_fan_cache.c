/* LINK: core/fan_cache.c core/buf.c core/err.c */
/* The tree of directories by handle: renames, doubt, denial, pins, bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/fan_cache.h"

static struct fan_key key(unsigned id)
{
	struct fan_key k = { .view = 1, .len = 8 };

	memcpy(k.bytes, &id, sizeof(id));
	return k;
}

static struct fan_node *put(struct fan_cache *c, unsigned id, struct fan_node *parent, const char *name)
{
	struct fan_key k = key(id);

	return fan_cache_add(c, &k, parent, name, strlen(name));
}

static struct fan_node *get(struct fan_cache *c, unsigned id)
{
	struct fan_key k = key(id);

	return fan_cache_find(c, &k);
}

static void assert_path(const struct fan_node *n, const struct fan_node *top, const char *want)
{
	struct buf b;

	buf_init(&b, 65536);
	assert_true(fan_node_path(n, top, &b));
	assert_string_equal(buf_str(&b), want);
	buf_done(&b);
}

static struct fan_node *root_of(struct fan_cache *c)
{
	struct fan_key k = key(0);

	return fan_cache_pin(c, &k);
}

static void a_rename_moves_all_below(void **state)
{
	struct fan_cache *c = fan_cache_new(1000);
	struct fan_node *root = root_of(c), *a = put(c, 1, root, "a"), *b = put(c, 2, root, "b");

	(void)state;
	(void)put(c, 3, put(c, 4, a, "deep"), "deeper");
	(void)put(c, 5, b, "taken");
	(void)put(c, 6, get(c, 5), "below");
	assert_path(get(c, 3), root, "a/deep/deeper");
	fan_cache_move(c, get(c, 4), b, "taken", 5);
	assert_path(get(c, 3), root, "b/taken/deeper");
	assert_null(get(c, 5));
	assert_null(get(c, 6));
	assert_null(fan_cache_child(c, a, "deep", 4));
	assert_ptr_equal(fan_cache_child(c, b, "taken", 5), get(c, 4));
	/* What cannot be goes: below itself, onto what carries it. */
	fan_cache_move(c, get(c, 2), get(c, 3), "x", 1);
	assert_null(get(c, 2));
	assert_null(get(c, 3));
	(void)put(c, 7, put(c, 8, a, "x"), "y");
	fan_cache_move(c, get(c, 7), root, "a", 1);
	assert_null(get(c, 7));
	assert_null(get(c, 1));
	fan_cache_free(c);
}

static void doubt_ends_when_the_queue_is_empty(void **state)
{
	struct fan_cache *c = fan_cache_new(1000);
	struct fan_node *root = root_of(c), *a = put(c, 1, root, "a");

	(void)state;
	assert_false(fan_node_settled(a));
	fan_cache_settle(c);
	assert_true(fan_node_settled(a));
	(void)put(c, 2, a, "b");
	(void)put(c, 3, root, "new");
	fan_cache_move(c, get(c, 2), get(c, 3), "b", 1);
	assert_false(fan_node_settled(get(c, 2)));
	fan_cache_drop_unsettled(c);
	assert_non_null(get(c, 1));
	assert_null(get(c, 2));
	assert_null(get(c, 3));
	/* A settled one below one in doubt goes with it. */
	(void)put(c, 2, a, "b");
	fan_cache_settle(c);
	(void)put(c, 3, root, "new");
	fan_cache_move(c, get(c, 2), get(c, 3), "b", 1);
	assert_false(fan_node_settled(get(c, 2)));
	fan_cache_drop_unsettled(c);
	assert_null(get(c, 2));
	fan_cache_free(c);
}

static void denied_until_readmitted(void **state)
{
	struct fan_cache *c = fan_cache_new(1000);
	struct fan_node *root = root_of(c);
	struct fan_key k = key(9);

	(void)state;
	assert_true(fan_cache_deny(c, &k));
	assert_true(fan_node_denied(get(c, 9)));
	fan_cache_readmit(c);
	assert_null(get(c, 9));
	assert_true(fan_cache_deny(c, &k));
	assert_non_null(put(c, 9, root, "now"));
	assert_false(fan_node_denied(get(c, 9)));
	/* One that is known is not denied by mistake. */
	assert_true(fan_cache_deny(c, &k));
	assert_false(fan_node_denied(get(c, 9)));
	fan_cache_free(c);
}

static void pinned_ones_come_loose(void **state)
{
	struct fan_cache *c = fan_cache_new(1000);
	struct fan_node *root = root_of(c), *a = put(c, 1, root, "a"), *inner;
	struct fan_key k = key(2);
	struct buf b;

	(void)state;
	(void)put(c, 2, a, "inner");
	inner = fan_cache_pin(c, &k);
	(void)put(c, 3, inner, "below");
	assert_path(get(c, 3), root, "a/inner/below");
	fan_cache_drop(c, a);
	assert_null(get(c, 1));
	assert_true(fan_node_loose(inner));
	assert_path(get(c, 3), inner, "below");
	buf_init(&b, 65536);
	assert_false(fan_node_path(get(c, 3), root, &b));
	buf_done(&b);
	assert_ptr_equal(put(c, 2, root, "again"), inner);
	assert_false(fan_node_loose(inner));
	assert_path(get(c, 3), root, "again/below");
	fan_cache_clear(c);
	assert_null(get(c, 3));
	assert_ptr_equal(get(c, 2), inner);
	assert_true(fan_node_loose(inner));
	fan_cache_unpin(c, inner);
	assert_null(get(c, 2));
	fan_cache_free(c);
}

static void a_name_belongs_to_one(void **state)
{
	struct fan_cache *c = fan_cache_new(1000);
	struct fan_node *root = root_of(c);

	(void)state;
	(void)put(c, 1, root, "a");
	(void)put(c, 2, get(c, 1), "b");
	(void)put(c, 3, root, "a");
	assert_null(get(c, 1));
	assert_null(get(c, 2));
	assert_path(get(c, 3), root, "a");
	(void)put(c, 3, root, "moved");
	assert_null(fan_cache_child(c, root, "a", 1));
	assert_path(get(c, 3), root, "moved");
	/* Not below itself. */
	(void)put(c, 4, get(c, 3), "x");
	assert_null(put(c, 3, get(c, 4), "y"));
	fan_cache_free(c);
}

static void bounded(void **state)
{
	struct fan_cache *c = fan_cache_new(64);
	struct fan_node *root = root_of(c), *dir = put(c, 1, root, "dir");
	char name[16];

	(void)state;
	(void)put(c, 2, dir, "kept");
	for (unsigned i = 10; i < 1000; i++) {
		assert_non_null(get(c, 2));
		(void)snprintf(name, sizeof(name), "%u", i);
		assert_non_null(put(c, i, root, name));
		assert_true(fan_cache_count(c) <= 64);
	}
	/* Used all the time, and what carries it. */
	assert_path(get(c, 2), root, "dir/kept");
	assert_null(get(c, 10));
	assert_non_null(get(c, 999));
	fan_cache_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_rename_moves_all_below), cmocka_unit_test(doubt_ends_when_the_queue_is_empty),
		cmocka_unit_test(denied_until_readmitted),  cmocka_unit_test(pinned_ones_come_loose),
		cmocka_unit_test(a_name_belongs_to_one),    cmocka_unit_test(bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
