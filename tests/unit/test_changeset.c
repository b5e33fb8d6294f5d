/* LINK: core/changeset.c core/changeset_renames.c core/changeset_batches.c core/changeset_large.c
 * core/marks.c core/marks_queue.c core/batch.c core/path.c */
/* The rules of the changeset one by one; what they amount to is tests/property/test_changeset_model.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/changeset.h"

#define BACKOFF 1000

static const struct changeset_limits roomy = { 1000, 100, 1000, 1u << 20 };

static struct changeset *fresh(const struct changeset_limits *limits)
{
	struct changeset *cs = changeset_new(limits);

	assert_non_null(cs);
	return cs;
}

static void add_at(struct changeset *cs, enum change_kind kind, const char *path, uint64_t gen, int64_t now)
{
	struct change c = { .kind = kind, .path = path, .path_len = strlen(path), .cause = "test" };

	assert_int_equal(changeset_add(cs, &c, gen, now, 0, false), 0);
	assert_true(changeset_check(cs));
}

static void add(struct changeset *cs, enum change_kind kind, const char *path)
{
	add_at(cs, kind, path, 1, 1);
}

static void hold(struct changeset *cs, const char *path, int64_t until, bool extend)
{
	struct change c = { .kind = CHANGE_MODIFY, .path = path, .path_len = strlen(path) };

	assert_int_equal(changeset_add(cs, &c, 1, 1, until, extend), 0);
	assert_true(changeset_check(cs));
}

static void gone_dir(struct changeset *cs, const char *path)
{
	struct change c = { .kind = CHANGE_DELETE, .is_dir = true, .path = path, .path_len = strlen(path) };

	assert_int_equal(changeset_add(cs, &c, 1, 1, 0, false), 0);
}

static void renamed(struct changeset *cs, const char *from, const char *to, bool is_dir, bool exact)
{
	struct change c = { .kind = CHANGE_RENAME,
			    .is_dir = is_dir,
			    .exact = exact,
			    .path = to,
			    .path_len = strlen(to),
			    .old_path = from,
			    .old_len = strlen(from) };

	assert_int_equal(changeset_add(cs, &c, 1, 1, 0, false), 0);
	assert_true(changeset_check(cs));
}

static bool has(const struct changeset *cs, const char *path)
{
	return changeset_has(cs, path, strlen(path));
}

static struct batch *take(struct changeset *cs, int64_t now)
{
	struct batch *b = changeset_take(cs, now);

	assert_true(changeset_check(cs));
	return b;
}

static const struct batch_item *item(const struct batch *b, const char *path)
{
	for (size_t i = 0; i < b->n_items; i++)
		if (b->items[i].len == strlen(path) && memcmp(b->items[i].path, path, b->items[i].len) == 0)
			return &b->items[i];
	return NULL;
}

static unsigned flags(const struct batch *b, const char *path)
{
	const struct batch_item *it = item(b, path);

	return it == NULL ? 0 : it->flags;
}

static void settle(struct changeset *cs, const struct batch *b, const char *path, enum verdict v)
{
	const struct batch_item *it = item(b, path);

	assert_non_null(it);
	assert_true(changeset_settle(cs, b->id, (size_t)(it - b->items), v, BACKOFF, 1));
	assert_true(changeset_check(cs));
}

static void finish(struct changeset *cs, struct batch *b)
{
	changeset_finish(cs, b->id, 1);
	batch_free(b);
	assert_true(changeset_check(cs));
}

/* Everything pending was done. */
static void serve(struct changeset *cs)
{
	struct batch *b;

	while ((b = take(cs, 1)) != NULL) {
		for (size_t i = 0; i < b->n_renames; i++)
			assert_true(changeset_settle_rename(cs, b->id, i, VERDICT_DONE, 1));
		for (size_t i = 0; i < b->n_items; i++)
			assert_true(changeset_settle(cs, b->id, i, VERDICT_DONE, 0, 1));
		finish(cs, b);
	}
	assert_int_equal(changeset_pending(cs) + changeset_in_flight(cs), 0);
}

static void test_coalesces(void **state)
{
	struct changeset *cs = fresh(&roomy);
	struct batch *b;

	(void)state;
	add(cs, CHANGE_TOUCH, "b/c");
	add(cs, CHANGE_TOUCH, "b/c");
	add(cs, CHANGE_TOUCH, "b-c");
	add(cs, CHANGE_DELETE, "a");
	add(cs, CHANGE_CREATE, "a");
	assert_int_equal(changeset_pending(cs), 3);
	b = take(cs, 1);
	assert_int_equal(b->n_items, 3);
	/* a walk's order: "b/c" before "b-c" */
	assert_memory_equal(b->items[0].path, "a", 1);
	assert_memory_equal(b->items[1].path, "b/c", 3);
	assert_memory_equal(b->items[2].path, "b-c", 3);
	assert_int_equal(flags(b, "b/c"), MARK_LOOK);
	assert_int_equal(flags(b, "a"), MARK_LOOK | MARK_NAME | MARK_WAS_FILE);
	assert_null(take(cs, 1));
	assert_int_equal(changeset_in_flight(cs), 3);
	finish(cs, b);
	assert_int_equal(changeset_pending(cs), 3);
	serve(cs);
	changeset_free(cs);
}

static void test_recursive_swallows(void **state)
{
	struct changeset *cs = fresh(&roomy);
	struct batch *b;

	(void)state;
	add(cs, CHANGE_TOUCH, "d/x");
	add(cs, CHANGE_CREATE, "d/e/y");
	gone_dir(cs, "d");
	assert_int_equal(changeset_pending(cs), 1);
	add(cs, CHANGE_TOUCH, "d/z");
	assert_int_equal(changeset_pending(cs), 1);
	add(cs, CHANGE_TOUCH, "dd");
	b = take(cs, 1);
	assert_int_equal(b->n_items, 2);
	assert_int_equal(flags(b, "d"), MARK_NAME | MARK_RECURSIVE | MARK_WAS_DIR);
	finish(cs, b);
	changeset_free(cs);
}

static void test_born(void **state)
{
	struct changeset *cs = fresh(&roomy);
	struct batch *b;

	(void)state;
	add(cs, CHANGE_CREATE, "new");
	add(cs, CHANGE_DELETE, "new");
	add(cs, CHANGE_DELETE, "old");
	add(cs, CHANGE_CREATE, "old");
	gone_dir(cs, "d");
	b = take(cs, 1);
	assert_true(flags(b, "new") & MARK_BORN);
	assert_false(flags(b, "old") & MARK_BORN);
	add(cs, CHANGE_CREATE, "new");	 /* the worker may have sent it */
	add(cs, CHANGE_CREATE, "d/new"); /* below a name in doubt */
	finish(cs, b);
	b = take(cs, 1);
	assert_false(flags(b, "new") & MARK_BORN);
	assert_false(flags(b, "d/new") & MARK_BORN);
	finish(cs, b);
	changeset_free(cs);
}

/* What a worker made beside its batches is not known any more. */
static void test_born_in_doubt(void **state)
{
	struct changeset *cs = fresh(&roomy);
	struct batch *b;

	(void)state;
	add(cs, CHANGE_CREATE, "a/b/new");
	add(cs, CHANGE_CREATE, "c");
	changeset_doubt_born(cs);
	add(cs, CHANGE_CREATE, "meanwhile");
	b = take(cs, 3);
	assert_int_equal(flags(b, "a/b/new"), MARK_NAME | MARK_LOOK);
	assert_int_equal(flags(b, "c"), MARK_NAME | MARK_LOOK);
	assert_int_equal(flags(b, "meanwhile"), MARK_NAME | MARK_LOOK);
	finish(cs, b);
	add(cs, CHANGE_CREATE, "later");
	b = take(cs, 1);
	assert_true(flags(b, "later") & MARK_BORN);
	finish(cs, b);
	changeset_free(cs);
}

static void test_sending_makes_parents(void **state)
{
	struct changeset_limits one = { 1000, 100, 1, 1u << 20 };
	struct changeset *cs = fresh(&one);
	struct batch *b, *c;

	(void)state;
	add(cs, CHANGE_TOUCH, "d/x");
	add(cs, CHANGE_CREATE, "d");
	b = take(cs, 1);
	assert_non_null(item(b, "d/x"));
	c = take(cs, 1);
	assert_int_equal(flags(c, "d"), MARK_NAME | MARK_LOOK);
	finish(cs, c);
	finish(cs, b);
	serve(cs);
	/* the other order: d appears while something below is in flight */
	add(cs, CHANGE_TOUCH, "e/x");
	b = take(cs, 1);
	add(cs, CHANGE_CREATE, "e");
	c = take(cs, 1);
	assert_int_equal(flags(c, "e"), MARK_NAME | MARK_LOOK);
	finish(cs, c);
	finish(cs, b);
	changeset_free(cs);
}

static void test_rename_is_carried(void **state)
{
	struct changeset *cs = fresh(&roomy);
	struct batch *b;

	(void)state;
	add(cs, CHANGE_TOUCH, "d/x");
	renamed(cs, "d", "e", true, true);
	renamed(cs, "e", "f", true, true); /* "e" is a new name on its way: not carried */
	assert_int_equal(changeset_pending_renames(cs), 1);
	assert_true(has(cs, "d/x") && has(cs, "f"));
	b = take(cs, 1);
	assert_int_equal(b->n_renames, 1);
	assert_int_equal(b->renames[0].from_len, 1);
	assert_memory_equal(b->renames[0].from, "d", 1);
	assert_memory_equal(b->renames[0].to, "e", 1);
	assert_true(b->renames[0].is_dir);
	assert_true(flags(b, "f") & MARK_RECURSIVE);
	finish(cs, b);
	changeset_free(cs);
}

static void test_marks_are_copied(void **state)
{
	struct changeset *cs = fresh(&roomy);
	struct batch *b, *c;

	(void)state;
	add(cs, CHANGE_TOUCH, "d/flying");
	add(cs, CHANGE_CREATE, "d/made");
	b = take(cs, 1);
	add(cs, CHANGE_TOUCH, "d/x");
	renamed(cs, "d", "e", true, true);
	assert_int_equal(changeset_pending_renames(cs), 1);
	assert_true(has(cs, "d/x") && has(cs, "e/x") && has(cs, "e/flying") && has(cs, "e/made"));
	finish(cs, b);
	c = take(cs, 1);
	assert_int_equal(flags(c, "e/x"), MARK_LOOK);
	assert_int_equal(flags(c, "d"), MARK_NAME | MARK_WAS_DIR);
	assert_int_equal(flags(c, "e"), MARK_NAME);
	finish(cs, c);
	changeset_free(cs);
}

/* The worker may look at d/sub when it is e/sub already, and delete it on the target with all it holds. */
static void test_names_in_flight_are_compared(void **state)
{
	struct changeset *cs = fresh(&roomy);
	struct batch *b, *c;

	(void)state;
	add(cs, CHANGE_DELETE, "d/sub");
	add(cs, CHANGE_CREATE, "d/sub");
	b = take(cs, 1);
	renamed(cs, "d", "e", true, true);
	c = take(cs, 1);
	assert_int_equal(c->n_renames, 1);
	assert_true(flags(c, "e/sub") & MARK_RECURSIVE);
	finish(cs, b);
	finish(cs, c);
	changeset_free(cs);
}

static void not_carried(struct changeset *cs, const char *from, const char *to, bool exact)
{
	renamed(cs, from, to, true, exact);
	assert_int_equal(changeset_pending_renames(cs), 0);
	assert_true(changeset_pending(cs) > 0);
	serve(cs);
}

static void test_rename_is_not_carried(void **state)
{
	struct changeset_limits few = { 1000, 1, 1000, 1u << 20 };
	struct changeset *cs = fresh(&few);
	struct batch *b;

	(void)state;
	renamed(cs, "d", "e", true, false);
	assert_true(has(cs, "d") && has(cs, "e"));
	not_carried(cs, "d", "e", false);
	not_carried(cs, "d", "d/e", true);
	add(cs, CHANGE_CREATE, "d");
	not_carried(cs, "d", "e", true);
	add(cs, CHANGE_CREATE, "p");
	not_carried(cs, "p/q/d", "e", true);
	gone_dir(cs, "p");
	not_carried(cs, "p/d", "e", true);
	add(cs, CHANGE_TOUCH, "d");
	b = take(cs, 1);
	renamed(cs, "d", "e", true, true);
	assert_int_equal(changeset_pending_renames(cs), 0);
	finish(cs, b);
	serve(cs);
	renamed(cs, "a", "b", true, true);
	renamed(cs, "c", "d", true, true); /* the limit */
	assert_int_equal(changeset_pending_renames(cs), 1);
	changeset_free(cs);
}

static void test_exchange(void **state)
{
	struct changeset *cs = fresh(&roomy);
	struct batch *b;

	(void)state;
	renamed(cs, "a", "b", true, true);
	renamed(cs, "b", "a", true, true);
	assert_int_equal(changeset_pending_renames(cs), 0);
	b = take(cs, 1);
	assert_true(flags(b, "a") & MARK_RECURSIVE);
	assert_true(flags(b, "b") & MARK_RECURSIVE);
	finish(cs, b);
	changeset_free(cs);
}

static void test_failed_batch(void **state)
{
	struct changeset *cs = fresh(&roomy);
	struct batch *b;

	(void)state;
	add(cs, CHANGE_TOUCH, "x");
	add(cs, CHANGE_CREATE, "d/done");
	renamed(cs, "a", "b", true, true);
	b = take(cs, 1);
	renamed(cs, "b", "c", true, true); /* in flight: not carried */
	settle(cs, b, "d/done", VERDICT_DONE);
	changeset_abandon_all(cs, 5);
	batch_free(b);
	assert_true(changeset_check(cs));
	assert_int_equal(changeset_in_flight(cs), 0);
	assert_int_equal(changeset_pending_renames(cs), 0);
	assert_true(has(cs, "x") && has(cs, "a") && has(cs, "b") && has(cs, "c"));
	/* its time may not have been set */
	assert_true(has(cs, "d") && !has(cs, "d/done"));
	b = take(cs, 5);
	assert_true(flags(b, "a") & MARK_RECURSIVE);
	assert_true(flags(b, "b") & MARK_RECURSIVE);
	assert_int_equal(item(b, "x")->tries, 0);
	finish(cs, b);
	changeset_free(cs);
}

/* What a batch gives back has moved with the renames since. */
static void test_failed_rename_moves_on(void **state)
{
	struct changeset *cs = fresh(&roomy);
	struct batch *b;

	(void)state;
	renamed(cs, "p/a", "p/b", true, true);
	b = take(cs, 1);
	renamed(cs, "p", "q", true, true);
	assert_int_equal(changeset_pending_renames(cs), 1);
	assert_true(changeset_settle_rename(cs, b->id, 0, VERDICT_RECONCILE, 1));
	assert_true(changeset_settle_rename(cs, b->id, 0, VERDICT_DONE, 1)); /* too late */
	assert_false(changeset_settle_rename(cs, b->id, 1, VERDICT_DONE, 1));
	finish(cs, b);
	b = take(cs, 1);
	assert_true(flags(b, "q/b") & MARK_RECURSIVE);
	assert_true(flags(b, "q/a") & MARK_RECURSIVE);
	finish(cs, b);
	changeset_free(cs);
}

static void test_retry(void **state)
{
	struct changeset *cs = fresh(&roomy);
	struct batch *b;

	(void)state;
	add(cs, CHANGE_TOUCH, "x");
	b = take(cs, 1);
	settle(cs, b, "x", VERDICT_RETRY);
	settle(cs, b, "x", VERDICT_DONE); /* the first one holds */
	assert_false(changeset_settle(cs, b->id, 1, VERDICT_DONE, 0, 1));
	assert_false(changeset_settle(cs, b->id + 1, 0, VERDICT_DONE, 0, 1));
	finish(cs, b);
	assert_null(take(cs, 1));
	assert_int_equal(changeset_oldest_ns(cs), INT64_MAX);
	assert_int_equal(changeset_hold_ends_ns(cs), BACKOFF);
	changeset_release_holds(cs);
	assert_null(take(cs, 1));
	b = take(cs, BACKOFF);
	assert_int_equal(item(b, "x")->tries, 1);
	assert_true(flags(b, "x") & MARK_FAILED);
	settle(cs, b, "x", VERDICT_RETRY);
	finish(cs, b);
	changeset_release_retries(cs);
	b = take(cs, 1);
	assert_int_equal(item(b, "x")->tries, 2);
	settle(cs, b, "x", VERDICT_DONE);
	finish(cs, b);
	assert_int_equal(changeset_pending(cs), 0);
	changeset_free(cs);
}

/* What changes while a comparison is under way, which fails then, does not wait for its backoff. */
static void test_backoff_of_a_comparison(void **state)
{
	struct changeset *cs = fresh(&roomy);
	struct batch *b;

	(void)state;
	add(cs, CHANGE_RECONCILE, "d");
	b = take(cs, 1);
	add(cs, CHANGE_TOUCH, "d/f");
	settle(cs, b, "d", VERDICT_RETRY);
	finish(cs, b);
	add(cs, CHANGE_CREATE, "d/g");
	b = take(cs, 1);
	assert_true(b != NULL && b->n_items == 2 && flags(b, "d/f") == MARK_LOOK);
	assert_int_equal(flags(b, "d/g"), MARK_NAME | MARK_LOOK);
	settle(cs, b, "d/f", VERDICT_DONE);
	settle(cs, b, "d/g", VERDICT_DONE);
	finish(cs, b);
	b = take(cs, BACKOFF);
	assert_true(b->n_items == 1 && (flags(b, "d") & MARK_RECURSIVE) != 0);
	finish(cs, b);
	changeset_free(cs);
}

/* Nor is anything below it new to the target for certain. */
static void test_held_comparison_clears_born(void **state)
{
	struct changeset *cs = fresh(&roomy);
	struct change c = { .kind = CHANGE_RECONCILE, .path = "d", .path_len = 1, .cause = "test" };
	struct batch *b;

	(void)state;
	add(cs, CHANGE_CREATE, "d/f");
	assert_int_equal(changeset_add(cs, &c, 1, 1, 50, false), 0);
	b = take(cs, 1);
	assert_true(b->n_items == 1 && flags(b, "d/f") == (MARK_NAME | MARK_LOOK));
	settle(cs, b, "d/f", VERDICT_DONE);
	finish(cs, b);
	b = take(cs, 50);
	assert_true(b->n_items == 1 && (flags(b, "d") & MARK_RECURSIVE) != 0);
	finish(cs, b);
	changeset_free(cs);
}

/* A new event ends the backoff, also if it comes while the mark is in flight. */
static void test_event_ends_backoff(void **state)
{
	struct changeset *cs = fresh(&roomy);
	struct batch *b;

	(void)state;
	add(cs, CHANGE_TOUCH, "x");
	b = take(cs, 1);
	add(cs, CHANGE_TOUCH, "x");
	assert_null(take(cs, 1)); /* never twice in flight */
	settle(cs, b, "x", VERDICT_RETRY);
	finish(cs, b);
	b = take(cs, 1);
	assert_non_null(item(b, "x"));
	settle(cs, b, "x", VERDICT_RETRY);
	finish(cs, b);
	assert_null(take(cs, 1));
	add(cs, CHANGE_TOUCH, "x");
	b = take(cs, 1);
	assert_non_null(item(b, "x"));
	finish(cs, b);
	changeset_free(cs);
}

static void test_verdict_reconcile(void **state)
{
	struct changeset *cs = fresh(&roomy);
	struct batch *b;

	(void)state;
	add(cs, CHANGE_TOUCH, "d");
	b = take(cs, 1);
	settle(cs, b, "d", VERDICT_RECONCILE);
	finish(cs, b);
	b = take(cs, 1);
	assert_true(flags(b, "d") & MARK_RECURSIVE);
	finish(cs, b);
	changeset_free(cs);
}

static void test_collapse(void **state)
{
	struct changeset_limits tight = { 10, 10, 1000, 1u << 20 };
	struct changeset *cs = fresh(&tight);
	struct batch *b;
	char path[20];

	(void)state;
	add(cs, CHANGE_TOUCH, "other/x");
	for (int i = 0; i < 10; i++) {
		snprintf(path, sizeof(path), "p/full/%d", i);
		add_at(cs, CHANGE_TOUCH, path, 7, 1);
	}
	assert_int_equal(changeset_collapses(cs), 1);
	assert_int_equal(changeset_pending(cs), 2);
	assert_false(changeset_served(cs, 7));
	b = take(cs, 1);
	assert_int_equal(flags(b, "p/full"), MARK_LOOK | MARK_NAME | MARK_RECURSIVE | MARK_CAUSE);
	assert_int_equal(flags(b, "other/x"), MARK_LOOK);
	finish(cs, b);
	serve(cs);
	changeset_free(cs);
}

static void test_served(void **state)
{
	struct changeset *cs = fresh(&roomy);
	struct batch *b;

	(void)state;
	assert_true(changeset_served(cs, 100));
	add_at(cs, CHANGE_TOUCH, "x", 3, 1);
	add_at(cs, CHANGE_TOUCH, "x", 5, 2); /* keeps its first */
	assert_true(changeset_served(cs, 2));
	assert_false(changeset_served(cs, 3));
	assert_int_equal(changeset_oldest_generation(cs, 9), 3);
	b = take(cs, 1);
	add_at(cs, CHANGE_TOUCH, "x", 5, 3);
	assert_false(changeset_served(cs, 3));
	assert_int_equal(changeset_oldest_generation(cs, 9), 3);
	settle(cs, b, "x", VERDICT_DONE);
	finish(cs, b);
	assert_int_equal(changeset_oldest_generation(cs, 9), 5);
	assert_int_equal(changeset_oldest_generation(cs, 4), 4);
	assert_true(changeset_served(cs, 4));
	assert_false(changeset_served(cs, 5));
	/* given back once it still counts, twice it has its verdict */
	b = take(cs, 1);
	settle(cs, b, "x", VERDICT_RETRY);
	finish(cs, b);
	assert_false(changeset_served(cs, 5));
	b = take(cs, BACKOFF);
	settle(cs, b, "x", VERDICT_RETRY);
	finish(cs, b);
	assert_true(changeset_served(cs, 5));
	assert_int_equal(changeset_pending(cs), 1);
	add_at(cs, CHANGE_TOUCH, "x", 6, 1);
	assert_false(changeset_served(cs, 6));
	renamed(cs, "a", "b", false, true);
	assert_false(changeset_served(cs, 1));
	changeset_free(cs);
}

static void test_holds(void **state)
{
	struct changeset *cs = fresh(&roomy);
	struct batch *b;

	(void)state;
	hold(cs, "x", 100, false);
	hold(cs, "x", 200, false); /* the earlier one stays */
	assert_int_equal(changeset_hold_ends_ns(cs), 100);
	hold(cs, "x", 200, true);
	assert_int_equal(changeset_hold_ends_ns(cs), 200);
	assert_null(take(cs, 199));
	b = take(cs, 200);
	assert_non_null(item(b, "x"));
	finish(cs, b);
	serve(cs);
	hold(cs, "x", 100, false);
	add(cs, CHANGE_TOUCH, "x"); /* closed */
	assert_int_equal(changeset_hold_ends_ns(cs), INT64_MAX);
	assert_int_equal(changeset_oldest_ns(cs), 1);
	hold(cs, "x", 100, true); /* never back */
	assert_int_equal(changeset_oldest_ns(cs), 1);
	serve(cs);
	hold(cs, "y", 100, false);
	changeset_release_holds(cs);
	serve(cs);
	changeset_free(cs);
}

static void test_limits_of_a_batch(void **state)
{
	struct changeset_limits small = { 1000, 100, 3, 8 };
	struct changeset *cs = fresh(&small);
	struct batch *b;

	(void)state;
	add_at(cs, CHANGE_TOUCH, "c", 1, 1);
	add_at(cs, CHANGE_TOUCH, "b", 1, 2);
	add_at(cs, CHANGE_TOUCH, "a", 1, 3);
	add_at(cs, CHANGE_TOUCH, "0", 1, 4);
	add_at(cs, CHANGE_TOUCH, "a-long-name", 1, 5);
	b = take(cs, 10); /* the oldest three */
	assert_int_equal(b->n_items, 3);
	assert_true(item(b, "a") && item(b, "b") && item(b, "c"));
	finish(cs, b);
	serve(cs);
	changeset_free(cs);
}

static void list_path(void *ctx, const char *path, size_t len, unsigned f)
{
	char *out = ctx;
	size_t at = strlen(out);

	(void)f;
	snprintf(out + at, 100 - at, "%.*s ", (int)len, path);
}

static void test_list(void **state)
{
	struct changeset *cs = fresh(&roomy);
	char out[100] = "";

	(void)state;
	add_at(cs, CHANGE_TOUCH, "z/y", 1, 1);
	add_at(cs, CHANGE_TOUCH, "a", 1, 2);
	add_at(cs, CHANGE_TOUCH, "m", 1, 3);
	changeset_list(cs, 2, list_path, out);
	assert_string_equal(out, "z/y a ");
	changeset_free(cs);
}

static bool quiet(const struct changeset *cs, const char *path)
{
	return changeset_quiet(cs, path, strlen(path));
}

/* What has to do with a path: itself, what is below, and above it what is more than a look. */
static void test_quiet(void **state)
{
	struct changeset *cs = fresh(&roomy);
	struct batch *b;

	(void)state;
	assert_true(quiet(cs, "a/b") && quiet(cs, ""));
	add(cs, CHANGE_TOUCH, "a");
	assert_true(quiet(cs, "a/b") && quiet(cs, "ab"));
	assert_false(quiet(cs, "a"));
	add(cs, CHANGE_TOUCH, "c/d/e");
	assert_false(quiet(cs, "c/d/e") || quiet(cs, "c/d") || quiet(cs, "c"));
	assert_true(quiet(cs, "c/d/f"));
	add(cs, CHANGE_CREATE, "new");
	assert_false(quiet(cs, "new/below"));
	add(cs, CHANGE_RECONCILE, "all");
	assert_false(quiet(cs, "all/of/it"));
	b = take(cs, 10);
	assert_false(quiet(cs, "c/d/e") || quiet(cs, "all/of/it") || quiet(cs, "a"));
	settle(cs, b, "a", VERDICT_DONE); /* until the batch is over */
	assert_false(quiet(cs, "a"));
	for (size_t i = 0; i < b->n_items; i++)
		(void)changeset_settle(cs, b->id, i, VERDICT_DONE, 0, 20);
	changeset_finish(cs, b->id, 20);
	batch_free(b);
	assert_true(quiet(cs, "c/d/e") && quiet(cs, "all/of/it") && quiet(cs, "a"));
	renamed(cs, "x", "y", false, true);
	assert_false(quiet(cs, "z"));
	changeset_free(cs);
}

/* ---- the large lane ---- */

static struct batch *take_large(struct changeset *cs)
{
	struct batch *b = changeset_take_large(cs, 1);

	assert_true(changeset_check(cs));
	return b;
}

static void done(struct changeset *cs, struct batch *b)
{
	for (size_t i = 0; i < b->n_items; i++)
		assert_true(changeset_settle(cs, b->id, i, VERDICT_DONE, 0, 1));
	for (size_t i = 0; i < b->n_renames; i++)
		assert_true(changeset_settle_rename(cs, b->id, i, VERDICT_DONE, 1));
	finish(cs, b);
}

/* `path` is found to be large, and is in flight as such. */
static struct batch *large(struct changeset *cs, const char *path)
{
	struct batch *b;

	add(cs, CHANGE_TOUCH, path);
	b = take(cs, 1);
	settle(cs, b, path, VERDICT_LARGE);
	done(cs, b);
	assert_null(take(cs, 1));
	b = take_large(cs);
	assert_true(b != NULL && b->n_items == 1 && (flags(b, path) & MARK_LARGE) != 0);
	return b;
}

static void test_large_goes_by_itself(void **state)
{
	struct changeset *cs = fresh(&roomy);
	struct batch *b = large(cs, "d/large"), *small;

	(void)state;
	add(cs, CHANGE_CREATE, "d/small");
	add(cs, CHANGE_TOUCH, "d/large");
	add(cs, CHANGE_TOUCH, "d");
	small = take(cs, 1);
	assert_true(small->n_items == 2 && flags(small, "d") && flags(small, "d/small"));
	done(cs, small);
	assert_int_equal(changeset_large_holds_up(cs), CHANGESET_NOTHING);
	settle(cs, b, "d/large", VERDICT_DONE);
	done(cs, b);
	/* what came since; and its directory has a new time */
	b = take(cs, 1);
	assert_true(b->n_items == 2 && flags(b, "d/large") == MARK_LOOK && flags(b, "d") == MARK_LOOK);
	settle(cs, b, "d/large", VERDICT_LARGE);
	settle(cs, b, "d", VERDICT_DONE);
	done(cs, b);
	b = take_large(cs);
	settle(cs, b, "d/large", VERDICT_SMALL);
	done(cs, b);
	b = take(cs, 1);
	assert_true(flags(b, "d/large") == MARK_LOOK);
	done(cs, b);
	changeset_free(cs);
}

/* A directory has taken its place: the first lane has to make it before anything below can arrive. */
static void test_large_became_a_directory(void **state)
{
	struct changeset *cs = fresh(&roomy);
	struct batch *b;

	(void)state;
	add(cs, CHANGE_TOUCH, "d");
	b = take(cs, 1);
	settle(cs, b, "d", VERDICT_LARGE);
	done(cs, b);
	add(cs, CHANGE_CREATE, "d");
	add(cs, CHANGE_CREATE, "d/large");
	assert_null(take_large(cs));
	b = take(cs, 1);
	assert_true(b != NULL && flags(b, "d") && (flags(b, "d") & MARK_LARGE) == 0 && flags(b, "d/large"));
	settle(cs, b, "d/large", VERDICT_LARGE);
	done(cs, b);
	b = take_large(cs);
	assert_true(b != NULL && flags(b, "d/large"));
	done(cs, b);
	changeset_free(cs);
}

/* The same, while it is looked at: what is below cannot arrive, and says so. */
static void test_large_became_a_directory_meanwhile(void **state)
{
	struct changeset *cs = fresh(&roomy);
	struct batch *b;

	(void)state;
	add(cs, CHANGE_TOUCH, "d");
	b = take(cs, 1);
	add(cs, CHANGE_CREATE, "d");
	add(cs, CHANGE_CREATE, "d/f");
	settle(cs, b, "d", VERDICT_LARGE);
	done(cs, b);
	b = take(cs, 1);
	assert_true(b != NULL && flags(b, "d/f"));
	settle(cs, b, "d/f", VERDICT_RETRY);
	done(cs, b);
	b = take(cs, 1);
	assert_true(b != NULL && flags(b, "d") && (flags(b, "d") & MARK_LARGE) == 0);
	done(cs, b);
	changeset_free(cs);
}

static void test_names_wait_for_large(void **state)
{
	struct changeset *cs = fresh(&roomy);
	struct batch *b = large(cs, "a/b/large"), *other;

	(void)state;
	gone_dir(cs, "a/b");
	add(cs, CHANGE_RECONCILE, "c");
	renamed(cs, "x", "y", false, true);
	other = take(cs, 1);
	assert_true(other->n_renames == 1 && flags(other, "c") && !flags(other, "a/b"));
	done(cs, other);
	assert_int_equal(changeset_large_holds_up(cs), CHANGESET_NAMES);
	renamed(cs, "a", "z", true, true);
	assert_null(take(cs, 1));
	changeset_cancel(cs, b->id, 30, 1);
	batch_free(b);
	assert_true(changeset_check(cs));
	b = take(cs, 1);
	assert_true(b->n_renames == 1 && flags(b, "a/b") && (flags(b, "z/b") & MARK_RECURSIVE));
	assert_null(take_large(cs));
	done(cs, b);
	changeset_free(cs);
}

/* What is left of it at the target is searched for when what was on its way there has arrived, and nothing else waits
 * for that. */
static void test_large_is_searched_for_later(void **state)
{
	struct changeset *cs = fresh(&roomy);
	struct batch *b = large(cs, "d/large"), *other;

	(void)state;
	add(cs, CHANGE_DELETE, "d/large");
	add(cs, CHANGE_TOUCH, "d/other");
	changeset_cancel(cs, b->id, 30, 1);
	batch_free(b);
	other = take(cs, 1);
	assert_true(other->n_items == 2 && flags(other, "d/other") && (flags(other, "d/large") & MARK_NAME) != 0);
	done(cs, other);
	assert_null(take(cs, 29));
	b = take(cs, 30);
	assert_true(b->n_items == 1 && (flags(b, "d") & MARK_RECURSIVE) != 0);
	done(cs, b);
	changeset_free(cs);
}

/* A comparison of all that comes while a large file is on its way waits for it, perhaps for hours. Nothing else does.
 */
static void test_comparison_waits_for_large(void **state)
{
	struct changeset *cs = fresh(&roomy);
	struct batch *b = large(cs, "d/large"), *other;

	(void)state;
	add(cs, CHANGE_CREATE, "before");
	add(cs, CHANGE_RECONCILE, "");
	other = take(cs, 1);
	assert_true(other != NULL && other->n_items == 1 && flags(other, "before") == (MARK_NAME | MARK_LOOK));
	done(cs, other);
	add(cs, CHANGE_TOUCH, "d/after");
	add(cs, CHANGE_CREATE, "new");
	renamed(cs, "x", "y", false, true);
	other = take(cs, 1);
	assert_true(other->n_items == 4 && other->n_renames == 0 && flags(other, "d/after") == MARK_LOOK);
	assert_int_equal(flags(other, "new"), MARK_NAME | MARK_LOOK);
	done(cs, other);
	assert_null(take(cs, 1));
	settle(cs, b, "d/large", VERDICT_DONE);
	done(cs, b);
	add(cs, CHANGE_TOUCH, "covered");
	b = take(cs, 1);
	assert_true((flags(b, "") & MARK_RECURSIVE) != 0 && !flags(b, "covered"));
	done(cs, b);
	assert_int_equal(changeset_pending(cs), 0);
	changeset_free(cs);
}

/* What the limit makes one of many is one, though it has to wait. */
static void test_collapse_beside_large(void **state)
{
	const struct changeset_limits tight = { 10, 100, 1000, 1u << 20 };
	struct changeset *cs = fresh(&tight);
	struct batch *b = large(cs, "d/large");
	char path[16];

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		(void)snprintf(path, sizeof(path), "d/%u", i);
		add(cs, CHANGE_TOUCH, path);
		assert_true(changeset_pending(cs) <= 11);
	}
	assert_true(changeset_collapses(cs) >= 1 && changeset_collapses(cs) <= 12);
	settle(cs, b, "d/large", VERDICT_DONE);
	done(cs, b);
	b = take(cs, 1);
	assert_true((flags(b, "d") & MARK_RECURSIVE) != 0);
	finish(cs, b);
	changeset_free(cs);
}

static void test_large_waits_for_names(void **state)
{
	struct changeset *cs = fresh(&roomy);
	struct batch *b;

	(void)state;
	add(cs, CHANGE_CREATE, "d");
	add(cs, CHANGE_CREATE, "d/large");
	b = take(cs, 1);
	settle(cs, b, "d/large", VERDICT_LARGE);
	assert_false(changeset_large_ready(cs, 1));
	settle(cs, b, "d", VERDICT_DONE);
	assert_null(take_large(cs));
	done(cs, b);
	add(cs, CHANGE_RECONCILE, "");
	assert_false(changeset_large_ready(cs, 1)); /* it will be compared */
	b = take(cs, 1);
	changeset_hand_over(cs, b->id, "d/large", 7, 1);
	changeset_hand_over(cs, b->id, "other", 5, 1);
	assert_null(take_large(cs));
	settle(cs, b, "", VERDICT_DONE);
	done(cs, b);
	assert_false(changeset_served(cs, 1));
	assert_true(changeset_large_ready(cs, 1));
	b = take_large(cs);
	assert_null(take_large(cs)); /* one at a time */
	finish(cs, b);
	changeset_close_large(cs);
	assert_true(changeset_check(cs));
	b = take(cs, 1);
	assert_true(item(b, "d/large") != NULL && item(b, "other") != NULL);
	done(cs, b);
	changeset_free(cs);
}

static void test_several_names_go_alone(void **state)
{
	struct changeset *cs = fresh(&roomy);
	struct batch *b, *alone = NULL;

	(void)state;
	add(cs, CHANGE_TOUCH, "linked");
	b = take(cs, 1);
	settle(cs, b, "linked", VERDICT_ALONE);
	done(cs, b);
	alone = take(cs, 1);
	assert_true(flags(alone, "linked") & MARK_ALONE);
	add(cs, CHANGE_TOUCH, "large");
	b = take(cs, 1);
	settle(cs, b, "large", VERDICT_LARGE);
	done(cs, b);
	assert_null(take_large(cs));
	changeset_abandon(cs, alone->id, 1);
	batch_free(alone);
	b = take_large(cs);
	assert_non_null(b);
	alone = take(cs, 1);
	assert_true(alone == NULL || item(alone, "linked") == NULL);
	if (alone != NULL)
		done(cs, alone);
	done(cs, b);
	alone = take(cs, 1);
	assert_non_null(item(alone, "linked"));
	done(cs, alone);
	changeset_free(cs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_coalesces),
		cmocka_unit_test(test_recursive_swallows),
		cmocka_unit_test(test_born),
		cmocka_unit_test(test_born_in_doubt),
		cmocka_unit_test(test_sending_makes_parents),
		cmocka_unit_test(test_rename_is_carried),
		cmocka_unit_test(test_marks_are_copied),
		cmocka_unit_test(test_names_in_flight_are_compared),
		cmocka_unit_test(test_rename_is_not_carried),
		cmocka_unit_test(test_exchange),
		cmocka_unit_test(test_failed_batch),
		cmocka_unit_test(test_failed_rename_moves_on),
		cmocka_unit_test(test_retry),
		cmocka_unit_test(test_backoff_of_a_comparison),
		cmocka_unit_test(test_held_comparison_clears_born),
		cmocka_unit_test(test_event_ends_backoff),
		cmocka_unit_test(test_verdict_reconcile),
		cmocka_unit_test(test_collapse),
		cmocka_unit_test(test_served),
		cmocka_unit_test(test_quiet),
		cmocka_unit_test(test_holds),
		cmocka_unit_test(test_limits_of_a_batch),
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_large_goes_by_itself),
		cmocka_unit_test(test_large_became_a_directory),
		cmocka_unit_test(test_large_became_a_directory_meanwhile),
		cmocka_unit_test(test_names_wait_for_large),
		cmocka_unit_test(test_large_is_searched_for_later),
		cmocka_unit_test(test_comparison_waits_for_large),
		cmocka_unit_test(test_collapse_beside_large),
		cmocka_unit_test(test_large_waits_for_names),
		cmocka_unit_test(test_several_names_go_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
