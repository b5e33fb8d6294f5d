/*
 * mirror_bench.h - the mirroring engine between two local trees, the target's end of which answers late, in any order,
 * as a network does, and fails as it is told.
 */
#ifndef FANSYNCD_TESTS_CONTRACT_MIRROR_BENCH_H
#define FANSYNCD_TESTS_CONTRACT_MIRROR_BENCH_H

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
#include "core/path.h"
#include "transports/local_files.h"
#include "transports/mirror.h"

#define QUEUE 4096u
/* Not every test needs all. */
#define BENCH static __attribute__((unused, noinline))

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
	unsigned cut_stores, fail_stores;
	bool down;
	uint64_t stored; /* bytes of content */
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

BENCH unsigned next_random(struct late *l)
{
	l->random = l->random * 1103515245u + 12345u;
	return l->random >> 8;
}

/* ---- the late end ---- */

BENCH enum fileops_result later(struct late *l, struct fileop *op, enum fileops_result r)
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
BENCH void on_late(void *ctx)
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

BENCH void blur(const struct late *l, struct stat *st)
{
	if (!l->seconds)
		return;
	st->st_mtim.tv_nsec = 0;
	st->st_ctim = st->st_atim = (struct timespec){ 0 };
	st->st_ino = 0;
	st->st_dev = 0;
	st->st_nlink = 0;
}

BENCH void blur_attrs(const struct late *l, const struct fileops_attrs *a)
{
	if (l->seconds)
		((struct fileops_attrs *)(uintptr_t)a)->mtime.tv_nsec = 0;
}

#define INNER(l) (l)->inner.ops
#define LATE(name, ...) later(l, op, INNER(l)->name(l->inner.ctx, op, path, len, ##__VA_ARGS__))
#define ARGS void *end, struct fileop *op, const char *path, size_t len

BENCH enum fileops_result late_look(ARGS)
{
	struct late *l = end;
	enum fileops_result r = INNER(l)->look(l->inner.ctx, op, path, len);

	blur(l, &op->st);
	return later(l, op, r);
}

BENCH enum fileops_result late_list(ARGS, const struct fileops_wish *wish)
{
	struct late *l = end;
	enum fileops_result r = INNER(l)->list(l->inner.ctx, op, path, len, wish);

	for (size_t i = 0; r == FILEOPS_OK && i < op->list.n; i++)
		blur(l, &op->list.v[i].st);
	return later(l, op, r);
}

BENCH enum fileops_result late_readlink(ARGS)
{
	struct late *l = end;

	return LATE(readlink);
}

BENCH enum fileops_result late_digest(ARGS)
{
	struct late *l = end;

	return LATE(digest);
}

BENCH enum fileops_result late_create(ARGS, bool resume)
{
	struct late *l = end;

	return LATE(create, resume);
}

BENCH enum fileops_result late_store(void *end, struct fileop *op, struct fileops_file *file,
				     const struct fileops_store *what)
{
	struct late *l = end;

	blur_attrs(l, what->attrs);
	if (l->cut_stores > 0 || l->fail_stores > 0) {
		const struct fileops_attrs none = { 0 };
		struct fileops_store half = *what;

		half.size = what->size / 2;
		half.attrs = &none;
		assert_int_equal(INNER(l)->store(l->inner.ctx, op, file, &half), FILEOPS_OK);
		err_set(&op->err, ERR_NOSPACE, "write: no space is left");
		l->down = l->cut_stores > 0;
		l->cut_stores -= l->down;
		l->fail_stores -= !l->down;
		return l->down ? FILEOPS_DOWN : later(l, op, FILEOPS_FAILED);
	}
	l->stored += what->size - what->offset;
	return later(l, op, INNER(l)->store(l->inner.ctx, op, file, what));
}

BENCH enum fileops_result late_attrs(ARGS, const struct fileops_attrs *a)
{
	struct late *l = end;

	blur_attrs(l, a);
	return LATE(attrs, a);
}

BENCH enum fileops_result late_mkdir(ARGS)
{
	struct late *l = end;

	return LATE(mkdir);
}

BENCH enum fileops_result late_symlink(ARGS, const char *text, size_t n)
{
	struct late *l = end;

	return LATE(symlink, text, n);
}

BENCH enum fileops_result late_node(ARGS, const struct stat *st)
{
	struct late *l = end;

	return LATE(node, st);
}

BENCH enum fileops_result late_link(ARGS, const char *to, size_t to_len)
{
	struct late *l = end;

	return LATE(link, to, to_len);
}

BENCH enum fileops_result late_rename(ARGS, const char *to, size_t to_len, bool keep)
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
BENCH enum fileops_result coarse(enum fileops_result r)
{
	return r == FILEOPS_EXISTS || r == FILEOPS_NOTEMPTY || r == FILEOPS_TYPE || r == FILEOPS_TOOLONG
		       ? FILEOPS_FAILED
		       : r;
}

BENCH enum fileops_result late_unlink(ARGS)
{
	struct late *l = end;

	return later(l, op, coarse(INNER(l)->unlink(l->inner.ctx, op, path, len)));
}

BENCH enum fileops_result late_rmdir(ARGS)
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

BENCH void on_settle(void *ctx, size_t i, enum verdict v, const struct err *why)
{
	struct bench *b = ctx;

	(void)i;
	b->verdicts[v]++;
	if (why != NULL)
		b->last = *why;
}

BENCH void on_settle_rename(void *ctx, size_t i, enum verdict v, const struct err *why)
{
	struct bench *b = ctx;

	(void)i;
	(void)why;
	b->renames[v]++;
}

BENCH void on_found(void *ctx, const char *path, size_t len, enum verdict v, const struct err *why)
{
	struct bench *b = ctx;

	(void)path;
	(void)len;
	b->found[v]++;
	if (why != NULL)
		b->last = *why;
}

BENCH void on_finished(void *ctx)
{
	struct bench *b = ctx;

	b->finished++;
}

BENCH void on_down(void *ctx, const struct err *why)
{
	struct bench *b = ctx;

	(void)why;
	b->down++;
}

BENCH void on_progress(void *ctx, const struct transport_progress *p)
{
	(void)ctx;
	assert_non_null(p->phase);
}

BENCH int open_dir(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

BENCH void bench_open(struct bench *b, unsigned seed, bool seconds)
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

BENCH void bench_close(struct bench *b)
{
	mirror_free(b->mirror);
	loop_timer_remove(b->late.timer);
	local_tree_free(b->src_tree);
	local_tree_free(b->dst_tree);
	loop_free(b->loop);
	filter_free(b->opt.filter);
	assert_int_equal(remove_tree(b->dir, &b->last), 0);
}

BENCH void run_work(struct bench *b, const struct transport_work *w, bool reconcile)
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

BENCH void reconcile_all(struct bench *b)
{
	struct transport_item item = { .path = "", .look = LOOK_DIR };
	struct transport_work w = { .items = &item, .n_items = 1, .may_delete = true, .max_delete = -1 };

	assert_int_equal(stat(b->src, &item.st), 0);
	run_work(b, &w, true);
}

/* One path, as the worker would hand it over. */
BENCH void apply_one(struct bench *b, const char *name, unsigned flags)
{
	struct transport_item item = { .path = name, .len = strlen(name), .flags = flags };
	struct transport_work w = { .items = &item, .n_items = 1, .may_delete = true, .max_delete = -1 };
	char path[1000];

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

BENCH void put(const struct bench *b, const char *base, const char *name, const char *text)
{
	char path[1000];
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

BENCH void get(const char *base, const char *name, char out[64])
{
	char path[1000];
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

BENCH size_t count_below(const char *path)
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

BENCH void expect_equal(struct bench *b, const char *below)
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

BENCH void remove_below(const struct bench *b, const char *name)
{
	char path[1000];

	(void)snprintf(path, sizeof(path), "%s/%s", b->src, name);
	assert_int_equal(remove_tree(path, NULL), 0);
}

/* Written long ago: nothing is in doubt. */
BENCH void make_old(const struct bench *b, const char *name)
{
	const struct timespec old[2] = { { 1000000, 5 }, { 1000000, 5 } };
	char path[1000];

	(void)snprintf(path, sizeof(path), "%s/%s", b->src, name);
	assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
}

BENCH void fill(struct bench *b, unsigned dirs, unsigned files)
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

#endif
