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
/*
 * The mirroring engine over ends that answer late, in any order, as a network does, or keep whole seconds, as SFTP
 * does: what tests/lib/mirroring.py cannot see through `direct`, which answers at once.
 */
#include "tests/contract/mirror_bench.h"
#include "transports/listing.h"
#include "transports/temp_name.h"

static bool wish_all(void *ctx, const char *name, size_t len, bool is_dir)
{
	(void)ctx;
	(void)name;
	(void)len;
	(void)is_dir;
	return true;
}

static void trees_in_any_order(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= 6; seed++) {
		struct bench b;
		char link[400];

		bench_open(&b, seed, seed % 2 == 0);
		fill(&b, 12, 20);
		(void)snprintf(link, sizeof(link), "%s/link", b.src);
		assert_int_equal(symlink("d1/s1", link), 0);
		(void)snprintf(link, sizeof(link), "%s/fifo", b.src);
		assert_int_equal(mkfifo(link, 0600), 0);
		reconcile_all(&b);
		assert_int_equal(b.verdicts[VERDICT_DONE], 1);
		expect_equal(&b, "");
		assert_int_equal(b.counters.files_sent, 240);

		/* Types change, trees go, others come. */
		remove_below(&b, "d1");
		put(&b, b.src, "d1", "a file now");
		remove_below(&b, "link");
		put(&b, b.src, "link/is/a/directory", "x");
		remove_below(&b, "d2");
		put(&b, b.dst, "stray/a/b/c", "x");
		put(&b, b.dst, ".x.n00000007.fansyncd~tmp", "left over");
		reconcile_all(&b);
		assert_int_equal(b.verdicts[VERDICT_DONE], 1);
		expect_equal(&b, "");
		bench_close(&b);
	}
}

static void a_batch_in_any_order(void **state)
{
	static const char *const names[] = { "d", "d/e", "d/e/f", "d/e/f/1", "d/e/f/2", "d/e/g", "top" };
	struct transport_item items[8] = { 0 };
	struct transport_work w = { .items = items, .n_items = 7, .may_delete = true, .max_delete = -1 };

	(void)state;
	for (unsigned seed = 1; seed <= 8; seed++) {
		struct bench b;
		char path[400];

		bench_open(&b, seed, false);
		put(&b, b.src, "d/e/f/1", "1");
		put(&b, b.src, "d/e/f/2", "2");
		put(&b, b.src, "d/e/g", "3");
		put(&b, b.src, "top", "4");
		/* The target has something else under some of these names. */
		if (seed % 2 == 0)
			put(&b, b.dst, "d", "a file is in the way");
		if (seed % 3 == 0)
			put(&b, b.dst, "top/is/a/tree", "x");
		for (size_t i = 0; i < 7; i++) {
			items[i] = (struct transport_item){ .path = names[i],
							    .len = strlen(names[i]),
							    .flags = MARK_NAME | (seed % 4 == 0 ? MARK_BORN : 0u) };
			(void)snprintf(path, sizeof(path), "%s/%s", b.src, names[i]);
			assert_int_equal(lstat(path, &items[i].st), 0);
			items[i].look = S_ISDIR(items[i].st.st_mode) ? LOOK_DIR : LOOK_FILE;
		}
		run_work(&b, &w, false);
		assert_int_equal(b.verdicts[VERDICT_DONE], 7);
		reconcile_all(&b); /* the root's time */
		expect_equal(&b, "");
		bench_close(&b);
	}
}

static void round_trips(void **state)
{
	struct bench b;
	uint64_t before;

	(void)state;
	bench_open(&b, 3, true);
	fill(&b, 20, 30);
	reconcile_all(&b);
	assert_int_equal(b.counters.files_sent, 600);
	/* 64 at a time, a handful of round trips each, some more for the directories. */
	assert_true(b.late.rounds < 120);
	before = b.late.rounds;
	reconcile_all(&b);
	assert_int_equal(b.counters.files_sent, 600);
	assert_true(b.late.rounds - before < 20); /* 81 directories, 8 at a time */
	assert_true(b.late.most <= 64 * 3);
	bench_close(&b);
}

static void same_second(void **state)
{
	struct bench b;
	char name[32], text[64], there[64];

	(void)state;
	bench_open(&b, 5, true);
	put(&b, b.src, "f", "00000000");
	reconcile_all(&b);
	for (unsigned i = 1; i < 200; i++) {
		(void)snprintf(text, sizeof(text), "%08u", i);
		put(&b, b.src, "f", text);
		if (i % 7 == 0)
			reconcile_all(&b);
		else
			apply_one(&b, "f", MARK_LOOK);
		get(b.dst, "f", there);
		assert_string_equal(there, text);
	}
	/* Old files are not doubted, nor sent again. */
	for (unsigned i = 0; i < 10; i++) {
		(void)snprintf(name, sizeof(name), "old%u", i);
		put(&b, b.src, name, "old");
		make_old(&b, name);
	}
	make_old(&b, "f");
	reconcile_all(&b);
	b.counters.files_sent = 0;
	reconcile_all(&b);
	assert_int_equal(b.counters.files_sent, 0);
	bench_close(&b);
}

static void linking_bench(struct bench *b, unsigned seed)
{
	bench_open(b, seed, seed % 2 == 0);
	b->opt.rsync.hard_links = true;
	mirror_free(b->mirror);
	b->mirror = mirror_new(&(struct mirror_setup){ .env = &b->env,
						       .source = local_tree_end(b->src_tree, false),
						       .target = { &late_ops, &b->late,
								   FILEOPS_LINKS | FILEOPS_NODES | FILEOPS_OWNERS, 1 },
						       .width = 64,
						       .width_dirs = 8,
						       .tag = 7 },
			       &b->last);
}

static void hard_links_wait_for_the_first(void **state)
{
	struct bench b;
	char from[400], to[400];
	struct stat st;

	(void)state;
	for (unsigned seed = 1; seed <= 4; seed++) {
		linking_bench(&b, seed);
		put(&b, b.src, "a", "one file");
		(void)snprintf(from, sizeof(from), "%s/a", b.src);
		for (unsigned i = 0; i < 20; i++) {
			(void)snprintf(to, sizeof(to), "%s/name%u", b.src, i);
			assert_int_equal(link(from, to), 0);
		}
		reconcile_all(&b);
		assert_int_equal(b.verdicts[VERDICT_DONE], 1);
		assert_int_equal(b.counters.files_sent, 1);
		(void)snprintf(to, sizeof(to), "%s/name7", b.dst);
		assert_int_equal(stat(to, &st), 0);
		assert_int_equal(st.st_nlink, 21);
		assert_int_equal(count_below(b.dst), 21);
		bench_close(&b);
	}
}

/* A name is another file by the time that it is opened: if it is the first one, what was sent under it is not what the
 * others are. */
static void a_name_that_is_replaced(void **state)
{
	static const char *const names[] = { "a", "b", "c" };

	(void)state;
	for (unsigned seed = 0; seed < 12; seed++) {
		struct transport_item items[3] = { 0 };
		struct transport_work w = { .items = items, .n_items = 3, .may_delete = true, .max_delete = -1 };
		struct bench b;
		char from[400], to[400], text[64];
		struct stat st;

		linking_bench(&b, seed + 1);
		put(&b, b.src, "a", "one file");
		(void)snprintf(from, sizeof(from), "%s/a", b.src);
		for (size_t i = 1; i < 3; i++) {
			(void)snprintf(to, sizeof(to), "%s/%s", b.src, names[i]);
			assert_int_equal(link(from, to), 0);
		}
		for (size_t i = 0; i < 3; i++) {
			(void)snprintf(to, sizeof(to), "%s/%s", b.src, names[i]);
			items[i] = (struct transport_item){
				.path = names[i], .len = 1, .flags = MARK_NAME | MARK_LOOK, .look = LOOK_FILE
			};
			assert_int_equal(lstat(to, &items[i].st), 0);
		}
		put(&b, b.src, "other", "another one");
		(void)snprintf(from, sizeof(from), "%s/other", b.src);
		(void)snprintf(to, sizeof(to), "%s/%s", b.src, names[seed % 3]);
		assert_int_equal(rename(from, to), 0);
		run_work(&b, &w, false);
		for (size_t i = 1; i < 3; i++) { /* that of the name itself will be told by another record */
			get(b.dst, names[(seed + i) % 3], text);
			assert_string_equal(text, "one file");
			(void)snprintf(to, sizeof(to), "%s/%s", b.dst, names[(seed + i) % 3]);
			assert_int_equal(stat(to, &st), 0);
			assert_true(st.st_nlink >= 2);
		}
		bench_close(&b);
	}
}

/* The new name came to the target with another one of its file: then rename(2) does nothing, and says that it is done.
 */
static void a_rename_to_the_same_file(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= 5; seed += 2) {
		struct batch_rename r = { "b", 1, "c", 1, false };
		struct transport_work w = { .renames = &r, .n_renames = 1, .may_delete = true, .max_delete = -1 };
		struct bench b;
		char from[400], to[400];
		struct stat st;

		linking_bench(&b, seed);
		put(&b, b.src, "a", "one file");
		(void)snprintf(from, sizeof(from), "%s/a", b.src);
		(void)snprintf(to, sizeof(to), "%s/b", b.src);
		assert_int_equal(link(from, to), 0);
		reconcile_all(&b);
		(void)snprintf(from, sizeof(from), "%s/c", b.src);
		assert_int_equal(rename(to, from), 0);
		(void)snprintf(from, sizeof(from), "%s/a", b.dst);
		(void)snprintf(to, sizeof(to), "%s/c", b.dst);
		assert_int_equal(link(from, to), 0);
		run_work(&b, &w, false);
		assert_int_equal(b.renames[VERDICT_DONE], 1);
		(void)snprintf(to, sizeof(to), "%s/b", b.dst);
		assert_int_equal(lstat(to, &st), -1);
		(void)snprintf(to, sizeof(to), "%s/c", b.dst);
		assert_int_equal(lstat(to, &st), 0);
		assert_int_equal(st.st_nlink, 2);
		bench_close(&b);
	}
}

/* The temporary file of a connection that was lost arrived after everything, also that of a file that is gone. */
static void what_a_lost_connection_left(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= 3; seed++) {
		static const char *const names[] = { "d/here", "d/gone" };
		struct bench b;
		char left[PATH_BYTES_MAX], path[1000];
		struct stat st;

		bench_open(&b, seed, seed == 2);
		put(&b, b.src, names[0], "what is here");
		reconcile_all(&b);
		for (unsigned i = 0; i < 2; i++) {
			size_t n = temp_path(left, names[i], strlen(names[i]), TEMP_NEW, 7, 0, false);

			left[n] = '\0';
			put(&b, b.dst, left, "a part of it");
			(void)snprintf(path, sizeof(path), "%s/%.200s", b.dst, left);
			assert_int_equal(lstat(path, &st), 0);
			apply_one(&b, names[i], MARK_NAME | MARK_LOOK | MARK_LATE);
			assert_int_equal(b.verdicts[VERDICT_DONE], 1);
			assert_int_equal(lstat(path, &st), -1);
		}
		apply_one(&b, "d", MARK_LOOK); /* as the core does along with it */
		expect_equal(&b, "/d");
		bench_close(&b);
	}
}

static void renames_and_failures(void **state)
{
	struct bench b;
	char there[64];
	struct batch_rename r[3] = { { "d0", 2, "x", 1, true },
				     { "x/s0/f0", 7, "moved", 5, false },
				     { "d1/s0/f3", 8, "d1/s0/f0", 8, false } };
	struct transport_work w = { .renames = r, .n_renames = 3, .may_delete = true, .max_delete = -1 };

	(void)state;
	bench_open(&b, 9, false);
	fill(&b, 2, 6);
	reconcile_all(&b);
	for (size_t i = 0; i < 3; i++) {
		char from[400], to[400];

		(void)snprintf(from, sizeof(from), "%s/%s", b.src, r[i].from);
		(void)snprintf(to, sizeof(to), "%s/%s", b.src, r[i].to);
		assert_int_equal(rename(from, to), 0);
	}
	/* A file that is another by now is not put into the place of one that was whole. */
	put(&b, b.src, "d1/s0/f0", "changed since");
	run_work(&b, &w, false);
	get(b.dst, "d1/s0/f0", there);
	assert_string_equal(there, "content 1 0");
	assert_int_equal(b.renames[VERDICT_DONE], 2);
	assert_int_equal(b.renames[VERDICT_RECONCILE], 1);
	assert_int_equal(b.counters.renames_carried, 2);
	memset(b.renames, 0, sizeof(b.renames));
	run_work(&b, &w, false);
	assert_int_equal(b.renames[VERDICT_RECONCILE], 3); /* the old names are not there any more */
	reconcile_all(&b);
	expect_equal(&b, "");

	/* What cannot be put in place leaves no temporary file, and is said. */
	put(&b, b.src, "d1/s0/f0", "other content");
	put(&b, b.src, "d1/s1/f1", "other content");
	b.late.fail_renames = 1;
	reconcile_all(&b);
	assert_int_equal(b.found[VERDICT_RETRY], 1);
	assert_int_equal(count_below(b.src), count_below(b.dst));
	reconcile_all(&b);
	expect_equal(&b, "");
	bench_close(&b);
}

/* The connection breaks at any moment: nothing more is called back, and the next session makes good. */
static void down_at_any_moment(void **state)
{
	(void)state;
	for (unsigned stop = 1; stop < 60; stop += 4) {
		struct bench b;
		struct transport_item item = { .path = "", .look = LOOK_DIR };
		struct transport_work w = { .items = &item, .n_items = 1, .may_delete = true, .max_delete = -1 };
		struct err why = ERR_INIT;

		bench_open(&b, stop, false);
		fill(&b, 6, 12);
		put(&b, b.dst, "stray/tree/f", "x");
		assert_int_equal(stat(b.src, &item.st), 0);
		assert_int_equal(mirror_start(b.mirror, &w, true, &b.last), 0);
		for (unsigned i = 0; i < stop && b.finished == 0; i++)
			assert_int_equal(loop_once(b.loop, 1000, &b.last), 0);
		if (b.finished == 0) {
			b.late.n = 0; /* the end forgets */
			err_set(&why, ERR_NETWORK, "gone");
			mirror_down(b.mirror, &why);
			assert_int_equal(b.down, 1);
			assert_false(mirror_busy(b.mirror));
		}
		reconcile_all(&b);
		expect_equal(&b, "");
		bench_close(&b);
	}
}

/* Sessions follow each other, and each gets a duplicate of one descriptor of the source. */
static void each_session_lists_all(void **state)
{
	struct bench b;
	int fd;

	(void)state;
	bench_open(&b, 1, false);
	put(&b, b.src, "f", "x");
	fd = open_dir(b.src);
	for (unsigned i = 0; i < 3; i++) {
		struct local_tree *t = local_tree_new(b.loop, fcntl(fd, F_DUPFD_CLOEXEC, 3), &b.last);
		const struct fileops_wish wish = { wish_all, NULL };
		struct fileop op = { 0 };

		assert_non_null(t);
		listing_init(&op.list);
		assert_int_equal(local_fileops.list(t, &op, "", 0, &wish), FILEOPS_OK);
		assert_int_equal(op.list.n, 1);
		listing_free(&op.list);
		local_tree_free(t);
	}
	(void)close(fd);
	bench_close(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(trees_in_any_order),
		cmocka_unit_test(a_batch_in_any_order),
		cmocka_unit_test(round_trips),
		cmocka_unit_test(same_second),
		cmocka_unit_test(hard_links_wait_for_the_first),
		cmocka_unit_test(a_name_that_is_replaced),
		cmocka_unit_test(a_rename_to_the_same_file),
		cmocka_unit_test(what_a_lost_connection_left),
		cmocka_unit_test(renames_and_failures),
		cmocka_unit_test(down_at_any_moment),
		cmocka_unit_test(each_session_lists_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
