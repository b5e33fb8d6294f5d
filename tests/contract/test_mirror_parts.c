/* LINK: core/safe_open.c transports/mirror.c transports/mirror_apply.c transports/mirror_dir.c
 * transports/mirror_entry.c transports/mirror_hot.c transports/mirror_links.c transports/mirror_moves.c
 * transports/mirror_parts.c transports/mirror_digest.c transports/mirror_alike.c transports/mirror_rules.c
 * transports/mirror_send.c transports/temp_name.c transports/listing.c transports/throttle.c
 * transports/limit.c core/bandwidth.c transports/mirror_backup.c core/backup_dir.c core/schedule.c
 * transports/local_files.c transports/local_dirs.c transports/local_copy.c transports/local_list.c
 * transports/local_xattrs.c
 * core/buf.c core/err.c core/loop.c core/clock.c core/log.c
 * core/utf8.c core/path.c core/filter.c core/filter_args.c core/batch.c core/fsutil.c core/keep.c
 * transports/mirror_twoway.c transports/twoway_archive.c transports/twoway_state.c core/archive.c core/twoway.c
 * core/look.c */
/* LIBS: -lsqlite3 */
/* Large files whose connection was cut half-way are gone on with, and nothing is left of those that are not. */
#include "tests/contract/mirror_bench.h"

#define MIB ((size_t)1 << 20)
#define LARGE (12 * MIB)

/* Written long ago, so that nothing is in doubt: `seed` seconds after all began. */
static void put_large(const struct bench *b, const char *name, unsigned seed)
{
	const struct timespec old[2] = { { 1000000 + seed, 5 }, { 1000000 + seed, 5 } };
	char path[400];
	char *text = malloc(LARGE + 1);

	assert_non_null(text);
	for (size_t i = 0; i < LARGE; i++)
		text[i] = (char)('a' + (seed = seed * 1103515245u + 12345u) / 65536 % 26);
	text[LARGE] = '\0';
	put(b, b->src, name, text);
	free(text);
	(void)snprintf(path, sizeof(path), "%s/%s", b->src, name);
	assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
}

/* The name of the first temporary file at the target, and how many there are. */
static unsigned parts(const struct bench *b, char first[400])
{
	DIR *d = opendir(b->dst);
	unsigned n = 0;

	assert_non_null(d);
	for (const struct dirent *e; (e = readdir(d)) != NULL;)
		if (path_is_temp(e->d_name, strlen(e->d_name)) && n++ == 0)
			(void)snprintf(first, 400, "%s/%.150s", b->dst, e->d_name);
	(void)closedir(d);
	return n;
}

static void parts_open(struct bench *b)
{
	struct fileops_end source, target;

	bench_open(b, 3, true);
	source = local_tree_end(b->src_tree, false);
	target = (struct fileops_end){ .ops = &late_ops,
				       .ctx = &b->late,
				       .caps = FILEOPS_RESUME | FILEOPS_OWNERS,
				       .tick_ns = NS_PER_S,
				       .unsure = MIB };
	mirror_ends(b->mirror, &source, &target);
}

/* It is cut off in the middle. */
static void cut_off(struct bench *b, const char *name)
{
	struct transport_item item = { .path = name, .len = strlen(name), .look = LOOK_FILE };
	struct transport_work w = { .items = &item, .n_items = 1, .may_delete = true, .max_delete = -1 };
	struct err why = ERR_INIT;
	char path[400];

	(void)snprintf(path, sizeof(path), "%s/%s", b->src, name);
	assert_int_equal(stat(path, &item.st), 0);
	b->late.cut_stores = 1;
	b->late.down = false;
	assert_int_equal(mirror_start(b->mirror, &w, false, &b->last), 0);
	while (!b->late.down)
		assert_int_equal(loop_once(b->loop, 1000, &b->last), 0);
	b->late.n = 0;
	err_set(&why, ERR_NETWORK, "gone");
	mirror_down(b->mirror, &why);
	b->late.stored = 0;
}

static void expect_same_content(struct bench *b)
{
	char part[400];

	b->late.stored = 0;
	reconcile_all(b);
	assert_int_equal(b->late.stored, 0);
	assert_int_equal(parts(b, part), 0);
	expect_equal(b, "");
}

static void large_files_are_gone_on_with(void **state)
{
	struct bench b;
	char part[400];

	(void)state;
	parts_open(&b);
	put_large(&b, "f", 1);
	cut_off(&b, "f");
	assert_int_equal(parts(&b, part), 1);
	apply_one(&b, "f", 0);
	assert_int_equal(b.late.stored, LARGE - (LARGE / 2 - MIB));
	assert_int_equal(parts(&b, part), 0);
	expect_same_content(&b);

	/* A comparison finds it as well. */
	put_large(&b, "f", 2);
	cut_off(&b, "f");
	reconcile_all(&b);
	assert_int_equal(b.late.stored, LARGE - (LARGE / 2 - MIB));
	expect_same_content(&b);
	bench_close(&b);
}

static void parts_of_other_versions_go(void **state)
{
	struct bench b;
	char part[400];

	(void)state;
	parts_open(&b);
	put_large(&b, "changed", 1);
	put_large(&b, "gone", 2);
	put_large(&b, "same", 3);
	cut_off(&b, "changed");
	cut_off(&b, "gone");
	cut_off(&b, "same");
	assert_int_equal(parts(&b, part), 3);
	put_large(&b, "changed", 4);
	remove_below(&b, "gone");
	apply_one(&b, "changed", 0);
	assert_int_equal(b.late.stored, LARGE);
	assert_int_equal(parts(&b, part), 1);
	b.late.stored = 0;
	apply_one(&b, "same", 0);
	assert_int_equal(b.late.stored, LARGE - (LARGE / 2 - MIB));
	expect_same_content(&b);

	/* Gone, and nothing large is sent to that directory any more. */
	put_large(&b, "gone", 2);
	cut_off(&b, "gone");
	remove_below(&b, "gone");
	apply_one(&b, "gone", 0);
	expect_same_content(&b);
	bench_close(&b);
}

/* A full disk gets its room back; what is no file of ours is not written to. */
static void failures_leave_no_parts(void **state)
{
	struct bench b;
	char part[400], there[64];

	(void)state;
	parts_open(&b);
	put_large(&b, "f", 1);
	b.late.fail_stores = 1;
	apply_one(&b, "f", 0);
	assert_int_equal(b.verdicts[VERDICT_RETRY], 1);
	assert_int_equal(parts(&b, part), 0);

	cut_off(&b, "f");
	assert_int_equal(parts(&b, part), 1);
	put(&b, b.dir, "outside", "mine");
	assert_int_equal(unlink(part), 0);
	assert_int_equal(symlink("../outside", part), 0);
	apply_one(&b, "f", 0);
	assert_int_equal(b.late.stored, LARGE);
	get(b.dir, "outside", there);
	assert_string_equal(there, "mine");
	expect_same_content(&b);
	bench_close(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(large_files_are_gone_on_with),
		cmocka_unit_test(parts_of_other_versions_go),
		cmocka_unit_test(failures_leave_no_parts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
