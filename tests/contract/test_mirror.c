/* LINK: transports/mirror.c transports/mirror_apply.c transports/mirror_dir.c transports/mirror_entry.c
 * transports/mirror_hot.c transports/mirror_links.c transports/mirror_rules.c transports/mirror_send.c
 * transports/temp_name.c transports/listing.c transports/throttle.c transports/local_files.c transports/local_dirs.c
 * transports/local_copy.c transports/local_list.c transports/local_xattrs.c core/buf.c core/err.c core/loop.c
 * core/clock.c core/log.c core/utf8.c core/path.c core/filter.c core/filter_args.c core/batch.c core/fsutil.c
 * core/keep.c transports/mirror_twoway.c transports/twoway_state.c core/archive.c core/twoway.c core/look.c */
/* LIBS: -lsqlite3 */
/*
 * The mirroring engine over ends that answer late, in any order, as a network does, or keep whole seconds, as SFTP
 * does: what tests/lib/mirroring.py cannot see through `direct`, which answers at once.
 */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/fsutil.h"
#include "transports/local_files.h"
#include "transports/mirror.h"

#define QUEUE 4096u

/* An end that does at once what it is told, and says so later. */
struct late {
	struct fileops_end inner;
	struct loop_timer *timer;
	struct fileop *queue[QUEUE];
	size_t n, most;
	unsigned random;
	bool seconds;
	uint64_t calls, rounds;
	unsigned fail_renames; /* so many to come are refused */
};

struct bench {
	struct loop *loop;
	struct transport_env env;
	struct transport_counters counters;
	struct sync_options opt;
	struct local_tree *src_tree, *dst_tree;
	struct late late;
	struct mirror *mirror;
	char dir[200], src[220], dst[220];
	unsigned finished, down, verdicts[VERDICTS], renames[VERDICTS], found[VERDICTS];
	struct err last;
};

static unsigned next_random(struct late *l)
{
	l->random = l->random * 1103515245u + 12345u;
	return l->random >> 8;
}

/* ---- the late end ---- */

static enum fileops_result later(struct late *l, struct fileop *op, enum fileops_result r)
{
	l->calls++;
	if (r == FILEOPS_PENDING)
		return r;
	assert_true(l->n < QUEUE);
	op->result = r;
	l->queue[l->n++] = op;
	l->most = l->n > l->most ? l->n : l->most;
	if (!loop_timer_armed(l->timer))
		loop_timer_after(l->timer, 0);
	return FILEOPS_PENDING;
}

/* All that is there now, in any order: a round trip. */
static void on_late(void *ctx)
{
	struct late *l = ctx;
	size_t n = l->n;

	l->rounds++;
	while (n-- > 0) {
		size_t at = next_random(l) % (n + 1);
		struct fileop *op = l->queue[at];

		l->queue[at] = l->queue[n];
		l->n--;
		l->queue[n] = l->queue[l->n];
		op->done(op);
	}
	if (l->n > 0)
		loop_timer_after(l->timer, 0);
}

static void blur(const struct late *l, struct stat *st)
{
	if (!l->seconds)
		return;
	st->st_mtim.tv_nsec = 0;
	st->st_ctim = st->st_atim = (struct timespec){ 0 };
	st->st_ino = 0;
	st->st_dev = 0;
	st->st_nlink = 0;
}

static void blur_attrs(const struct late *l, const struct fileops_attrs *a)
{
	if (l->seconds)
		((struct fileops_attrs *)(uintptr_t)a)->mtime.tv_nsec = 0;
}

#define INNER(l) (l)->inner.ops
#define LATE(name, ...) later(l, op, INNER(l)->name(l->inner.ctx, op, path, len, ##__VA_ARGS__))
#define ARGS void *end, struct fileop *op, const char *path, size_t len

static enum fileops_result late_look(ARGS)
{
	struct late *l = end;
	enum fileops_result r = INNER(l)->look(l->inner.ctx, op, path, len);

	blur(l, &op->st);
	return later(l, op, r);
}

static enum fileops_result late_list(ARGS, const struct fileops_wish *wish)
{
	struct late *l = end;
	enum fileops_result r = INNER(l)->list(l->inner.ctx, op, path, len, wish);

	for (size_t i = 0; r == FILEOPS_OK && i < op->list.n; i++)
		blur(l, &op->list.v[i].st);
	return later(l, op, r);
}

static enum fileops_result late_readlink(ARGS)
{
	struct late *l = end;

	return LATE(readlink);
}

static enum fileops_result late_digest(ARGS)
{
	struct late *l = end;

	return LATE(digest);
}

static enum fileops_result late_create(ARGS, bool resume)
{
	struct late *l = end;

	return LATE(create, resume);
}

static enum fileops_result late_store(void *end, struct fileop *op, struct fileops_file *file,
				      const struct fileops_store *what)
{
	struct late *l = end;

	blur_attrs(l, what->attrs);
	return later(l, op, INNER(l)->store(l->inner.ctx, op, file, what));
}

static enum fileops_result late_attrs(ARGS, const struct fileops_attrs *a)
{
	struct late *l = end;

	blur_attrs(l, a);
	return LATE(attrs, a);
}

static enum fileops_result late_mkdir(ARGS)
{
	struct late *l = end;

	return LATE(mkdir);
}

static enum fileops_result late_symlink(ARGS, const char *text, size_t n)
{
	struct late *l = end;

	return LATE(symlink, text, n);
}

static enum fileops_result late_node(ARGS, const struct stat *st)
{
	struct late *l = end;

	return LATE(node, st);
}

static enum fileops_result late_link(ARGS, const char *to, size_t to_len)
{
	struct late *l = end;

	return LATE(link, to, to_len);
}

static enum fileops_result late_rename(ARGS, const char *to, size_t to_len, bool keep)
{
	struct late *l = end;

	if (l->fail_renames > 0) {
		l->fail_renames--;
		err_set(&op->err, ERR_IO, "rename: Failure");
		return later(l, op, FILEOPS_FAILED);
	}
	return LATE(rename, to, to_len, keep);
}

/* As SFTP: no more than "failure". */
static enum fileops_result coarse(enum fileops_result r)
{
	return r == FILEOPS_EXISTS || r == FILEOPS_NOTEMPTY || r == FILEOPS_TYPE || r == FILEOPS_TOOLONG
		       ? FILEOPS_FAILED
		       : r;
}

static enum fileops_result late_unlink(ARGS)
{
	struct late *l = end;

	return later(l, op, coarse(INNER(l)->unlink(l->inner.ctx, op, path, len)));
}

static enum fileops_result late_rmdir(ARGS)
{
	struct late *l = end;

	return later(l, op, coarse(INNER(l)->rmdir(l->inner.ctx, op, path, len)));
}

static const struct fileops late_ops = {
	.look = late_look,
	.list = late_list,
	.readlink = late_readlink,
	.digest = late_digest,
	.create = late_create,
	.store = late_store,
	.attrs = late_attrs,
	.mkdir = late_mkdir,
	.symlink = late_symlink,
	.node = late_node,
	.link = late_link,
	.rename = late_rename,
	.unlink = late_unlink,
	.rmdir = late_rmdir,
};

/* ---- the bench ---- */

static void on_settle(void *ctx, size_t i, enum verdict v, const struct err *why)
{
	struct bench *b = ctx;

	(void)i;
	b->verdicts[v]++;
	if (why != NULL)
		b->last = *why;
}

static void on_settle_rename(void *ctx, size_t i, enum verdict v, const struct err *why)
{
	struct bench *b = ctx;

	(void)i;
	(void)why;
	b->renames[v]++;
}

static void on_found(void *ctx, const char *path, size_t len, enum verdict v, const struct err *why)
{
	struct bench *b = ctx;

	(void)path;
	(void)len;
	b->found[v]++;
	if (why != NULL)
		b->last = *why;
}

static void on_finished(void *ctx)
{
	struct bench *b = ctx;

	b->finished++;
}

static void on_down(void *ctx, const struct err *why)
{
	struct bench *b = ctx;

	(void)why;
	b->down++;
}

static void on_progress(void *ctx, const struct transport_progress *p)
{
	(void)ctx;
	assert_non_null(p->phase);
}

static int open_dir(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void bench_open(struct bench *b, unsigned seed, bool seconds)
{
	const char *top = getenv("TESTDIR");
	struct mirror_setup setup = { .env = &b->env, .width = 64, .width_dirs = 8, .tag = 7 };
	struct rsync_options *o = &b->opt.rsync;

	memset(b, 0, sizeof(*b));
	(void)snprintf(b->dir, sizeof(b->dir), "%.100s/mirror.XXXXXX", top == NULL ? "/tmp" : top);
	assert_non_null(mkdtemp(b->dir));
	(void)snprintf(b->src, sizeof(b->src), "%s/src", b->dir);
	(void)snprintf(b->dst, sizeof(b->dst), "%s/dst", b->dir);
	assert_int_equal(mkdir(b->src, 0755) | mkdir(b->dst, 0755), 0);
	b->loop = loop_new(&b->last);
	o->links = o->times = o->perms = o->owner = o->group = o->specials = true;
	b->opt.filter = filter_new();
	b->env = (struct transport_env){ .loop = b->loop,
					 .opt = &b->opt,
					 .counters = &b->counters,
					 .ctx = b,
					 .settle = on_settle,
					 .settle_rename = on_settle_rename,
					 .found = on_found,
					 .finished = on_finished,
					 .down = on_down,
					 .progress = on_progress };
	b->src_tree = local_tree_new(b->loop, open_dir(b->src), &b->last);
	b->dst_tree = local_tree_new(b->loop, open_dir(b->dst), &b->last);
	setup.source = local_tree_end(b->src_tree, false);
	b->late.inner = local_tree_end(b->dst_tree, true);
	b->late.random = seed;
	b->late.seconds = seconds;
	b->late.timer = loop_timer_add(b->loop, on_late, &b->late, &b->last);
	setup.target = (struct fileops_end){ .ops = &late_ops,
					     .ctx = &b->late,
					     .caps = b->late.inner.caps & ~(unsigned)FILEOPS_XATTRS,
					     .tick_ns = seconds ? NS_PER_S : 1 };
	if (seconds)
		setup.target.caps &= ~(unsigned)(FILEOPS_CTIME | FILEOPS_INODES);
	b->mirror = mirror_new(&setup, &b->last);
	assert_non_null(b->mirror);
}

static void bench_close(struct bench *b)
{
	mirror_free(b->mirror);
	loop_timer_remove(b->late.timer);
	local_tree_free(b->src_tree);
	local_tree_free(b->dst_tree);
	loop_free(b->loop);
	filter_free(b->opt.filter);
	assert_int_equal(remove_tree(b->dir, &b->last), 0);
}

static void run_work(struct bench *b, const struct transport_work *w, bool reconcile)
{
	unsigned before = b->finished;

	memset(b->verdicts, 0, sizeof(b->verdicts));
	memset(b->found, 0, sizeof(b->found));
	assert_int_equal(mirror_start(b->mirror, w, reconcile, &b->last), 0);
	assert_int_equal(b->finished, before); /* never from within */
	while (b->finished == before)
		assert_int_equal(loop_once(b->loop, 10000, &b->last), 0);
	assert_false(mirror_busy(b->mirror));
}

static void reconcile_all(struct bench *b)
{
	struct transport_item item = { .path = "", .look = LOOK_DIR };
	struct transport_work w = { .items = &item, .n_items = 1, .may_delete = true, .max_delete = -1 };

	assert_int_equal(stat(b->src, &item.st), 0);
	run_work(b, &w, true);
}

/* One path, as the worker would hand it over. */
static void apply_one(struct bench *b, const char *name, unsigned flags)
{
	struct transport_item item = { .path = name, .len = strlen(name), .flags = flags };
	struct transport_work w = { .items = &item, .n_items = 1, .may_delete = true, .max_delete = -1 };
	char path[400];

	(void)snprintf(path, sizeof(path), "%s/%s", b->src, name);
	if (lstat(path, &item.st) < 0)
		item.look = LOOK_ABSENT;
	else
		item.look = S_ISDIR(item.st.st_mode)   ? LOOK_DIR
			    : S_ISREG(item.st.st_mode) ? LOOK_FILE
			    : S_ISLNK(item.st.st_mode) ? LOOK_SYMLINK
						       : LOOK_SPECIAL;
	run_work(b, &w, false);
}

static void put(const struct bench *b, const char *base, const char *name, const char *text)
{
	char path[400];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", base, name);
	for (char *p = path + strlen(base) + 1; (p = strchr(p, '/')) != NULL; p++) {
		*p = '\0';
		(void)mkdir(path, 0755);
		*p = '/';
	}
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	(void)close(fd);
	(void)b;
}

static void get(const char *base, const char *name, char out[64])
{
	char path[400];
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", base, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	n = read(fd, out, 63);
	assert_true(n >= 0);
	out[n] = '\0';
	(void)close(fd);
}

static size_t count_below(const char *path)
{
	DIR *d = opendir(path);
	const struct dirent *e;
	size_t n = 0;
	char sub[600];

	assert_non_null(d);
	while ((e = readdir(d)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		n++;
		(void)snprintf(sub, sizeof(sub), "%s/%s", path, e->d_name);
		if (e->d_type == DT_DIR)
			n += count_below(sub);
	}
	closedir(d);
	return n;
}

static void expect_equal(struct bench *b, const char *below)
{
	char a[900], c[900], text_a[64], text_c[64];
	struct stat st_a, st_c;
	const struct dirent *e;
	DIR *d;

	(void)snprintf(a, sizeof(a), "%s%s", b->src, below);
	d = opendir(a);
	assert_non_null(d);
	while ((e = readdir(d)) != NULL) {
		char sub[600];

		if (strcmp(e->d_name, "..") == 0)
			continue;
		(void)snprintf(sub, sizeof(sub), "%s/%s", below, e->d_name);
		(void)snprintf(a, sizeof(a), "%s%s", b->src, sub);
		(void)snprintf(c, sizeof(c), "%s%s", b->dst, sub);
		assert_int_equal(lstat(a, &st_a), 0);
		if (lstat(c, &st_c) < 0)
			fail_msg("%s is missing", sub);
		assert_int_equal(st_a.st_mode, st_c.st_mode);
		assert_int_equal(st_a.st_mtim.tv_sec, st_c.st_mtim.tv_sec);
		if (!b->late.seconds)
			assert_int_equal(st_a.st_mtim.tv_nsec, st_c.st_mtim.tv_nsec);
		if (S_ISREG(st_a.st_mode)) {
			get(b->src, sub, text_a);
			get(b->dst, sub, text_c);
			assert_string_equal(text_a, text_c);
		} else if (S_ISDIR(st_a.st_mode) && strcmp(e->d_name, ".") != 0) {
			expect_equal(b, sub);
		}
	}
	closedir(d);
	if (below[0] == '\0')
		assert_int_equal(count_below(b->src), count_below(b->dst));
}

static void remove_below(const struct bench *b, const char *name)
{
	char path[400];

	(void)snprintf(path, sizeof(path), "%s/%s", b->src, name);
	assert_int_equal(remove_tree(path, NULL), 0);
}

/* Written long ago: nothing is in doubt. */
static void make_old(const struct bench *b, const char *name)
{
	const struct timespec old[2] = { { 1000000, 5 }, { 1000000, 5 } };
	char path[400];

	(void)snprintf(path, sizeof(path), "%s/%s", b->src, name);
	assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
}

static void fill(struct bench *b, unsigned dirs, unsigned files)
{
	char name[64], text[64];

	for (unsigned d = 0; d < dirs; d++)
		for (unsigned f = 0; f < files; f++) {
			(void)snprintf(name, sizeof(name), "d%u/s%u/f%u", d, f % 3, f);
			(void)snprintf(text, sizeof(text), "content %u %u", d, f);
			put(b, b->src, name, text);
			make_old(b, name);
		}
}

/* ---- tests ---- */

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

static void hard_links_wait_for_the_first(void **state)
{
	struct bench b;
	char from[400], to[400];
	struct stat st;

	(void)state;
	for (unsigned seed = 1; seed <= 4; seed++) {
		bench_open(&b, seed, seed % 2 == 0);
		b.opt.rsync.hard_links = true;
		mirror_free(b.mirror);
		b.mirror = mirror_new(
			&(struct mirror_setup){
				.env = &b.env,
				.source = local_tree_end(b.src_tree, false),
				.target = { &late_ops, &b.late, FILEOPS_LINKS | FILEOPS_NODES | FILEOPS_OWNERS, 1 },
				.width = 64,
				.width_dirs = 8,
				.tag = 7 },
			&b.last);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(trees_in_any_order),
		cmocka_unit_test(a_batch_in_any_order),
		cmocka_unit_test(round_trips),
		cmocka_unit_test(same_second),
		cmocka_unit_test(hard_links_wait_for_the_first),
		cmocka_unit_test(renames_and_failures),
		cmocka_unit_test(down_at_any_moment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
