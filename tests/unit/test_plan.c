/* LINK: core/plan.c core/keep.c core/filter.c core/filter_args.c core/path.c core/err.c core/batch.c core/buf.c */
/* What is due of a batch, given what a look at the source says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/plan.h"

/* A source of a few paths: "d " directory, "f " file, "F " a large one, "L " one with several names, "! " cannot be
 * looked at; anything else is absent. */
struct world {
	const char *const *present;
	enum verdict verdicts[16];
	enum verdict renames[16];
	unsigned looks;
};

static int world_look(void *ctx, const char *path, size_t len, enum look *out, struct stat *st, struct err *err)
{
	struct world *w = ctx;

	memset(st, 0, sizeof(*st));
	w->looks++;
	*out = len == 0 ? LOOK_DIR : LOOK_ABSENT;
	for (size_t i = 0; w->present[i] != NULL; i++) {
		const char *p = w->present[i];

		if (strlen(p + 2) != len || memcmp(p + 2, path, len) != 0)
			continue;
		if (p[0] == '!')
			return err_set(err, ERR_DENIED, "denied");
		*out = p[0] == 'd' ? LOOK_DIR : LOOK_FILE;
		st->st_size = p[0] == 'F' || p[0] == 'L' ? 1001 : 1000;
		st->st_nlink = p[0] == 'L' ? 2 : 1;
	}
	return 0;
}

static void world_settle(void *ctx, size_t i, enum verdict v, const struct err *why)
{
	(void)why;
	((struct world *)ctx)->verdicts[i] = v;
}

static void world_settle_rename(void *ctx, size_t i, enum verdict v, const struct err *why)
{
	(void)why;
	((struct world *)ctx)->renames[i] = v;
}

struct fixture {
	struct world world;
	struct batch batch;
	struct batch_item items[16];
	struct batch_rename rename;
	struct filter *filter;
	struct plan_input in;
	struct plan plan;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->filter = filter_new();
	f->batch.items = f->items;
	f->in = (struct plan_input){ .batch = &f->batch,
				     .filter = f->filter,
				     .delete_mode = DELETE_ALWAYS,
				     .max_delete = -1,
				     .caps = TRANSPORT_RENAME,
				     .dir_times = true,
				     .look = world_look,
				     .settle = world_settle,
				     .settle_rename = world_settle_rename,
				     .ctx = &f->world };
	*state = f;
	return f->filter == NULL ? -1 : 0;
}

static int clean_up(void **state)
{
	struct fixture *f = *state;

	plan_done(&f->plan);
	filter_free(f->filter);
	free(f);
	return 0;
}

static void item(struct fixture *f, const char *path, unsigned flags)
{
	f->items[f->batch.n_items++] = (struct batch_item){ .path = path, .len = strlen(path), .flags = flags };
}

static void make(struct fixture *f, const char *const *present)
{
	struct err err = ERR_INIT;

	f->world.present = present;
	assert_int_equal(plan_make(&f->plan, &f->in, &err), 0);
}

static void expect_item(const struct plan_part *part, size_t i, const char *path, enum look look, size_t lo, size_t hi)
{
	assert_true(i < part->work.n_items);
	assert_int_equal(part->work.items[i].len, strlen(path));
	assert_memory_equal(part->work.items[i].path, path, strlen(path));
	assert_int_equal(part->work.items[i].look, look);
	assert_int_equal(part->ranges[i].lo, lo);
	assert_int_equal(part->ranges[i].hi, hi);
}

static void a_file_brings_its_parent(void **state)
{
	static const char *const present[] = { "d a", "f a/x", "f a/y", NULL };
	struct fixture *f = *state;
	const struct plan_part *apply = &f->plan.part[PLAN_APPLY];

	item(f, "a/x", MARK_LOOK);
	item(f, "a/y", MARK_LOOK);
	make(f, present);
	assert_int_equal(apply->work.n_items, 3);
	expect_item(apply, 0, "a", LOOK_DIR, 0, 0);
	expect_item(apply, 1, "a/x", LOOK_FILE, 0, 1);
	expect_item(apply, 2, "a/y", LOOK_FILE, 1, 2);
	assert_int_equal(f->world.looks, 3);
}

/* The batch's own item answers for a path that is a parent, too. */
static void own_item_wins_over_parent(void **state)
{
	static const char *const present[] = { "d a", "f a/x", NULL };
	struct fixture *f = *state;
	const struct plan_part *apply = &f->plan.part[PLAN_APPLY];

	item(f, "a", MARK_NAME | MARK_LOOK);
	item(f, "a/x", MARK_LOOK);
	make(f, present);
	assert_int_equal(apply->work.n_items, 3);
	expect_item(apply, 0, "", LOOK_DIR, 0, 0);
	expect_item(apply, 1, "a", LOOK_DIR, 0, 1);
}

static void topmost_absent_name_is_deleted(void **state)
{
	static const char *const present[] = { NULL };
	struct fixture *f = *state;
	const struct plan_part *apply = &f->plan.part[PLAN_APPLY];

	item(f, "d", MARK_NAME | MARK_RECURSIVE | MARK_WAS_DIR);
	item(f, "d/x", MARK_NAME | MARK_WAS_FILE);
	item(f, "d/y", MARK_LOOK);
	item(f, "e", MARK_NAME);
	make(f, present);
	assert_int_equal(apply->work.n_items, 3);
	expect_item(apply, 0, "", LOOK_DIR, 0, 0);
	expect_item(apply, 1, "d", LOOK_ABSENT, 0, 3);
	expect_item(apply, 2, "e", LOOK_ABSENT, 3, 4);
}

static void absent_without_a_name_is_gone(void **state)
{
	static const char *const present[] = { NULL };
	struct fixture *f = *state;

	item(f, "d/x", MARK_LOOK);
	item(f, "n", MARK_NAME | MARK_BORN);
	make(f, present);
	/* Only the directory in which it came and went: its mtime has changed. */
	assert_int_equal(f->plan.part[PLAN_APPLY].work.n_items, 1);
	expect_item(&f->plan.part[PLAN_APPLY], 0, "", LOOK_DIR, 0, 0);
	assert_int_equal(f->world.verdicts[0], VERDICT_GONE);
	assert_int_equal(f->world.verdicts[1], VERDICT_GONE);
}

static bool world_was_sibling(void *ctx, const char *path, size_t len)
{
	(void)ctx;
	return len == 1 && *path == 's';
}

/* It came to the target with another name of its file, before anything was said of it. */
static void born_as_a_sibling_is_deleted(void **state)
{
	static const char *const present[] = { NULL };
	struct fixture *f = *state;

	f->in.dir_times = false;
	f->in.was_sibling = world_was_sibling;
	item(f, "n", MARK_NAME | MARK_BORN);
	item(f, "s", MARK_NAME | MARK_BORN);
	make(f, present);
	assert_int_equal(f->plan.part[PLAN_APPLY].work.n_items, 1);
	expect_item(&f->plan.part[PLAN_APPLY], 0, "s", LOOK_ABSENT, 1, 2);
	assert_int_equal(f->plan.part[PLAN_APPLY].work.items[0].flags, MARK_NAME);
	assert_int_equal(f->world.verdicts[0], VERDICT_GONE);
}

/* rsync says of such a name that its directory is not in its list, each time again. */
static void absent_below_an_absent_directory_is_gone(void **state)
{
	static const char *const present[] = { "d kept", NULL };
	struct fixture *f = *state;

	item(f, "d/x", MARK_NAME | MARK_WAS_FILE);
	item(f, "d/y", MARK_NAME | MARK_WAS_FILE);
	item(f, "kept/z", MARK_NAME | MARK_WAS_FILE);
	make(f, present);
	assert_int_equal(f->world.verdicts[0], VERDICT_GONE);
	assert_int_equal(f->world.verdicts[1], VERDICT_GONE);
	assert_int_equal(f->plan.part[PLAN_APPLY].work.n_items, 2);
	expect_item(&f->plan.part[PLAN_APPLY], 0, "kept", LOOK_DIR, 0, 0);
	expect_item(&f->plan.part[PLAN_APPLY], 1, "kept/z", LOOK_ABSENT, 2, 3);
}

static void what_cannot_be_looked_at_is_not_deleted(void **state)
{
	static const char *const present[] = { "! d", NULL };
	struct fixture *f = *state;

	item(f, "d", MARK_NAME | MARK_RECURSIVE);
	make(f, present);
	assert_int_equal(f->plan.part[PLAN_APPLY].work.n_items, 0);
	assert_int_equal(f->world.verdicts[0], VERDICT_RETRY);
}

/* No event would tell of its time later. */
static void a_parent_that_cannot_be_looked_at_is_waited_for(void **state)
{
	static const char *const present[] = { "! a", "f a/x", "! b", NULL };
	struct fixture *f = *state;

	item(f, "a/x", MARK_LOOK);
	item(f, "b/gone", MARK_NAME);
	item(f, "y", MARK_NAME);
	make(f, present);
	assert_int_equal(f->world.verdicts[0], VERDICT_RETRY);
	assert_int_equal(f->world.verdicts[1], VERDICT_RETRY);
	expect_item(&f->plan.part[PLAN_APPLY], 1, "y", LOOK_ABSENT, 2, 3);
}

static void recursive_directories_are_reconciled_and_cover(void **state)
{
	static const char *const present[] = { "d d", "f d/x", "f f", NULL };
	struct fixture *f = *state;
	const struct plan_part *part = &f->plan.part[PLAN_RECONCILE];

	item(f, "d", MARK_RECURSIVE | MARK_NAME);
	item(f, "d/x", MARK_LOOK);
	item(f, "f", MARK_RECURSIVE);
	make(f, present);
	assert_int_equal(part->work.n_items, 1);
	assert_true(part->work.may_delete);
	expect_item(part, 0, "d", LOOK_DIR, 0, 2);
	expect_item(&f->plan.part[PLAN_APPLY], 1, "f", LOOK_FILE, 2, 3);
}

static void delete_modes(void **state)
{
	static const char *const present[] = { "d d", NULL };
	static const struct {
		enum delete_mode mode;
		bool start_deletes, running_deletes, apply_deletes;
	} table[] = { { DELETE_ALWAYS, true, true, true },
		      { DELETE_NEVER, false, false, false },
		      { DELETE_STARTUP, true, false, false },
		      { DELETE_RUNNING, false, true, true } };
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		f->in.delete_mode = table[i].mode;
		for (int start = 0; start < 2; start++) {
			bool deletes = start ? table[i].start_deletes : table[i].running_deletes;

			f->batch.n_items = 0;
			item(f, "d", MARK_RECURSIVE | (start ? MARK_START : 0u));
			item(f, "gone", MARK_NAME);
			make(f, present);
			assert_int_equal(f->plan.part[PLAN_RECONCILE].work.n_items, deletes ? 1 : 0);
			assert_int_equal(f->plan.part[PLAN_RECONCILE_KEEP].work.n_items, deletes ? 0 : 1);
			assert_int_equal(f->plan.part[PLAN_APPLY].work.may_delete, table[i].apply_deletes);
			plan_done(&f->plan);
		}
	}
}

static void rule(struct fixture *f, const char *text)
{
	struct err err = ERR_INIT;

	assert_int_equal(filter_add_rule(f->filter, text, strlen(text), &err), 0);
}

static void the_filter_decides(void **state)
{
	static const char *const present[] = { "f a.cnf", "f b.txt", NULL };
	struct fixture *f = *state;
	const struct plan_part *apply = &f->plan.part[PLAN_APPLY];

	rule(f, "+ *.cnf");
	rule(f, "- **");
	item(f, "a.cnf", MARK_LOOK);
	item(f, "b.txt", MARK_LOOK);
	item(f, "c.cnf", MARK_NAME | MARK_WAS_FILE);
	item(f, "c.txt", MARK_NAME | MARK_WAS_FILE);
	make(f, present);
	assert_int_equal(apply->work.n_items, 3);
	expect_item(apply, 1, "a.cnf", LOOK_FILE, 0, 1);
	expect_item(apply, 2, "c.cnf", LOOK_ABSENT, 2, 3);
	assert_int_equal(f->world.verdicts[1], VERDICT_DONE);
	assert_int_equal(f->world.verdicts[3], VERDICT_DONE);
}

static void renames_need_a_transport_and_the_filter(void **state)
{
	static const char *const present[] = { NULL };
	struct fixture *f = *state;

	f->rename = (struct batch_rename){ "a", 1, "b", 1, false };
	f->batch.renames = &f->rename;
	f->batch.n_renames = 1;
	make(f, present);
	assert_int_equal(f->plan.part[PLAN_APPLY].work.n_renames, 1);
	plan_done(&f->plan);
	f->in.caps = 0;
	make(f, present);
	assert_int_equal(f->plan.part[PLAN_APPLY].work.n_renames, 0);
	assert_int_equal(f->world.renames[0], VERDICT_RECONCILE);
	plan_done(&f->plan);
	f->in.caps = TRANSPORT_RENAME;
	f->world.renames[0] = VERDICT_NONE;
	rule(f, "- b");
	make(f, present);
	assert_int_equal(f->world.renames[0], VERDICT_RECONCILE);
}

/* Both ways each absent path is compared with the target, also what came and went again; no directory is for its times.
 */
static void both_ways_each_path_is_its_own(void **state)
{
	static const char *const present[] = { "d a", "f a/x", NULL };
	struct fixture *f = *state;
	const struct plan_part *apply = &f->plan.part[PLAN_APPLY];

	f->in.bidirectional = true;
	item(f, "a/x", MARK_LOOK);
	item(f, "d", MARK_NAME | MARK_RECURSIVE | MARK_WAS_DIR);
	item(f, "d/x", MARK_NAME | MARK_WAS_FILE);
	item(f, "d/y", MARK_LOOK);
	item(f, "n", MARK_NAME | MARK_BORN);
	make(f, present);
	assert_int_equal(apply->work.n_items, 5);
	expect_item(apply, 0, "a/x", LOOK_FILE, 0, 1);
	expect_item(apply, 1, "d", LOOK_ABSENT, 1, 2);
	expect_item(apply, 2, "d/x", LOOK_ABSENT, 2, 3);
	expect_item(apply, 3, "d/y", LOOK_ABSENT, 3, 4);
	expect_item(apply, 4, "n", LOOK_ABSENT, 4, 5);
}

/* A directory of our own at the target of a peer: nothing below it is mirrored, or deleted. */
static void temporary_directories_are_no_business(void **state)
{
	static const char *const present[] = { "d a", "d a/.x.fansyncd~tmp", "f a/.x.fansyncd~tmp/y", NULL };
	struct fixture *f = *state;

	item(f, "a/.x.fansyncd~tmp", MARK_NAME | MARK_RECURSIVE);
	item(f, "a/.x.fansyncd~tmp/y", MARK_LOOK);
	item(f, "a/.x.fansyncd~tmp/z", MARK_NAME);
	make(f, present);
	for (size_t s = 0; s < PLAN_STEPS; s++)
		assert_int_equal(f->plan.part[s].work.n_items, 0);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(f->world.verdicts[i], VERDICT_DONE);
}

/* What was mounted at d/m is gone, and so is all that says of it; the marker is the target's own. */
static void what_is_kept_is_not_deleted(void **state)
{
	static const char *const present[] = { "d d", "f d/m/new", "f e", "d k", "d k/m", NULL };
	struct fixture *f = *state;
	struct keep_list keep = { 0 };

	assert_true(keep_add(&keep, "d/m", 3, "gone"));
	assert_true(keep_add(&keep, "e/m", 3, "gone"));
	assert_true(keep_add(&keep, "k/m", 3, "gone"));
	assert_true(keep_add(&keep, "marker", 6, NULL));
	assert_true(keep_add(&keep, "x/marker", 8, NULL));
	f->in.keep = &keep;
	item(f, "d/m", MARK_NAME | MARK_RECURSIVE | MARK_WAS_DIR);
	item(f, "d/m/new", MARK_LOOK);
	item(f, "d/m/old", MARK_NAME);
	item(f, "d/o", MARK_NAME);
	item(f, "e", MARK_NAME | MARK_LOOK | MARK_WAS_DIR); /* a file now */
	item(f, "k/m", MARK_RECURSIVE);
	item(f, "marker", MARK_NAME);
	item(f, "x", MARK_NAME | MARK_WAS_DIR);
	make(f, present);
	assert_int_equal(f->world.verdicts[0], VERDICT_REJECT);
	assert_int_equal(f->world.verdicts[1], VERDICT_NONE);
	assert_int_equal(f->world.verdicts[2], VERDICT_REJECT);
	assert_int_equal(f->world.verdicts[3], VERDICT_NONE);
	assert_int_equal(f->world.verdicts[4], VERDICT_REJECT);
	assert_int_equal(f->world.verdicts[6], VERDICT_DONE);
	assert_int_equal(f->world.verdicts[7], VERDICT_REJECT);
	assert_int_equal(f->plan.part[PLAN_RECONCILE].work.n_items, 0);
	expect_item(&f->plan.part[PLAN_RECONCILE_KEEP], 0, "k/m", LOOK_DIR, 5, 6);
	keep_done(&keep);
}

/* A comparison above it: by a transport that leaves it out, and by one that can't. */
static void comparisons_above_what_is_kept(void **state)
{
	static const char *const present[] = { "d d", NULL };
	struct fixture *f = *state;
	struct keep_list keep = { 0 };

	assert_true(keep_add(&keep, "d/m", 3, "gone"));
	f->in.keep = &keep;
	f->in.caps = TRANSPORT_KEEP;
	item(f, "d", MARK_RECURSIVE);
	make(f, present);
	expect_item(&f->plan.part[PLAN_RECONCILE], 0, "d", LOOK_DIR, 0, 1);
	plan_done(&f->plan);
	f->in.caps = 0;
	make(f, present);
	assert_int_equal(f->plan.part[PLAN_RECONCILE].work.n_items, 0);
	expect_item(&f->plan.part[PLAN_RECONCILE_KEEP], 0, "d", LOOK_DIR, 0, 1);
	keep_done(&keep);
}

static void what_is_kept_is_not_moved_away(void **state)
{
	static const char *const present[] = { "d b", NULL };
	struct fixture *f = *state;
	struct keep_list keep = { 0 };

	assert_true(keep_add(&keep, "a/m", 3, "gone"));
	f->in.keep = &keep;
	f->rename = (struct batch_rename){ .from = "a", .from_len = 1, .to = "b", .to_len = 1, .is_dir = true };
	f->batch.renames = &f->rename;
	f->batch.n_renames = 1;
	make(f, present);
	assert_int_equal(f->world.renames[0], VERDICT_RECONCILE);
	assert_int_equal(f->plan.part[PLAN_APPLY].work.n_renames, 0);
	keep_done(&keep);
}

static void lanes(struct fixture *f, enum plan_lane lane)
{
	static const char *const present[] = { "F large", "L linked", "L linked_too", "f small", "F hidden", NULL };

	struct err err = ERR_INIT;

	f->in.lane = lane;
	f->in.large_file = 1000;
	assert_int_equal(filter_add_exclude(f->filter, "hidden", 6, &err), 0);
	item(f, "gone", MARK_NAME);
	item(f, "hidden", MARK_LOOK);
	item(f, "large", MARK_NAME);
	item(f, "linked", MARK_LOOK);
	item(f, "linked_too", MARK_LOOK | MARK_ALONE);
	item(f, "small", MARK_LOOK);
	make(f, present);
}

static void test_first_lane(void **state)
{
	struct fixture *f = *state;

	lanes(f, PLAN_FIRST);
	assert_int_equal(f->world.verdicts[1], VERDICT_DONE);
	assert_int_equal(f->world.verdicts[2], VERDICT_LARGE);
	assert_int_equal(f->world.verdicts[3], VERDICT_ALONE);
	expect_item(&f->plan.part[PLAN_APPLY], 1, "gone", LOOK_ABSENT, 0, 1);
	expect_item(&f->plan.part[PLAN_APPLY], 2, "linked_too", LOOK_FILE, 4, 5);
	expect_item(&f->plan.part[PLAN_APPLY], 3, "small", LOOK_FILE, 5, 6);
	assert_int_equal(f->plan.part[PLAN_APPLY].work.n_items, 4); /* and the root, for its time */
}

static void test_large_lane(void **state)
{
	struct fixture *f = *state;

	lanes(f, PLAN_LARGE);
	assert_int_equal(f->world.verdicts[0], VERDICT_SMALL);
	assert_int_equal(f->world.verdicts[1], VERDICT_DONE);
	assert_int_equal(f->world.verdicts[3], VERDICT_SMALL);
	assert_int_equal(f->world.verdicts[4], VERDICT_SMALL);
	assert_int_equal(f->world.verdicts[5], VERDICT_SMALL);
	expect_item(&f->plan.part[PLAN_APPLY], 0, "large", LOOK_FILE, 2, 3);
	assert_int_equal(f->plan.part[PLAN_APPLY].work.n_items, 1);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, clean_up)
	const struct CMUnitTest tests[] = {
		T(a_file_brings_its_parent),
		T(own_item_wins_over_parent),
		T(topmost_absent_name_is_deleted),
		T(absent_without_a_name_is_gone),
		T(born_as_a_sibling_is_deleted),
		T(absent_below_an_absent_directory_is_gone),
		T(what_cannot_be_looked_at_is_not_deleted),
		T(a_parent_that_cannot_be_looked_at_is_waited_for),
		T(recursive_directories_are_reconciled_and_cover),
		T(delete_modes),
		T(the_filter_decides),
		T(renames_need_a_transport_and_the_filter),
		T(both_ways_each_path_is_its_own),
		T(temporary_directories_are_no_business),
		T(what_is_kept_is_not_deleted),
		T(comparisons_above_what_is_kept),
		T(what_is_kept_is_not_moved_away),
		T(test_first_lane),
		T(test_large_lane),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
