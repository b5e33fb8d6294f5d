/* LINK: core/safe_open.c core/changeset.c core/changeset_renames.c core/changeset_batches.c core/changeset_large.c
 * core/marks.c core/marks_queue.c */
/* LINK: core/batch.c core/plan.c core/keep.c core/look.c core/filter.c core/filter_args.c core/fsutil.c core/path.c
 * core/buf.c */
/* LINK: core/err.c */
/*
 * The changeset on a real file system: random operations on a directory, their records delivered late, batches that
 * fail at random carried to a copy; equal after each quiescence. (test_changeset_model.c does the same in memory, by
 * the million, with what a kernel does to names.)
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/changeset.h"
#include "core/fsutil.h"
#include "core/look.h"
#include "core/path.h"
#include "core/plan.h"

#define QUEUE_MAX 4096
#define P 512

struct record {
	enum change_kind kind;
	bool is_dir;
	char path[P], old[P];
};

struct world {
	uint64_t rng;
	char source[P], copy[P];
	struct changeset *cs;
	struct filter *filter;
	struct looker looker;
	struct record queue[QUEUE_MAX];
	size_t head, tail;
	int64_t now;
	uint64_t batch_id;
	bool failing;
	unsigned long ops, batches, renames;
};

static unsigned pick(struct world *w, unsigned n)
{
	w->rng ^= w->rng << 13;
	w->rng ^= w->rng >> 7;
	w->rng ^= w->rng << 17;
	return (unsigned)((w->rng >> 11) % n);
}

static void join(char *out, const char *root, const char *path)
{
	assert_true(snprintf(out, 2 * P, "%s%s%s", root, path[0] == '\0' ? "" : "/", path) < 2 * P);
}

/* ---- the kernel's part ---- */

static void deliver(struct world *w, size_t n)
{
	for (; n > 0 && w->head < w->tail; n--) {
		const struct record *r = &w->queue[w->head++];
		struct change c = { .kind = r->kind,
				    .is_dir = r->is_dir,
				    .exact = true,
				    .path = r->path,
				    .path_len = strlen(r->path),
				    .old_path = r->kind == CHANGE_RENAME ? r->old : NULL,
				    .old_len = r->kind == CHANGE_RENAME ? strlen(r->old) : 0,
				    .cause = "test" };

		assert_int_equal(changeset_add(w->cs, &c, 1, ++w->now, 0, false), 0);
	}
	if (w->head == w->tail)
		w->head = w->tail = 0;
}

static void record(struct world *w, enum change_kind kind, bool is_dir, const char *path, const char *old)
{
	struct record *r;

	if (w->tail == QUEUE_MAX)
		deliver(w, QUEUE_MAX);
	/* Kernels merge repeats. */
	if (w->tail > w->head && kind == CHANGE_TOUCH && w->queue[w->tail - 1].kind == kind &&
	    strcmp(w->queue[w->tail - 1].path, path) == 0)
		return;
	r = &w->queue[w->tail++];
	*r = (struct record){ .kind = kind, .is_dir = is_dir };
	(void)snprintf(r->path, sizeof(r->path), "%s", path);
	(void)snprintf(r->old, sizeof(r->old), "%s", old == NULL ? "" : old);
}

/* ---- operations ---- */

static void random_path(struct world *w, char *out)
{
	unsigned depth = 1 + pick(w, 4);

	out[0] = '\0';
	for (unsigned i = 0; i < depth; i++)
		(void)snprintf(out + strlen(out), P - strlen(out), "%s%c", i == 0 ? "" : "/", 'a' + (char)pick(w, 4));
}

static void op_write(struct world *w, const char *path, const char *full)
{
	bool existed = faccessat(AT_FDCWD, full, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	int fd = open(full, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);

	if (fd < 0)
		return;
	assert_true(dprintf(fd, "%lu", w->ops) > 0);
	(void)close(fd);
	if (!existed)
		record(w, CHANGE_CREATE, false, path, NULL);
	record(w, CHANGE_TOUCH, false, path, NULL);
}

static bool is_dir(const char *full)
{
	struct stat st;

	return lstat(full, &st) == 0 && S_ISDIR(st.st_mode);
}

/* No symlink on the way: neither the source nor the copy is ever entered through one. */
static bool parents_real(const char *root, const char *path)
{
	char full[2 * P], parent[P];
	size_t n = path_parent_len(path, strlen(path));

	if (n == 0)
		return true;
	(void)snprintf(parent, sizeof(parent), "%.*s", (int)n, path);
	join(full, root, parent);
	return parents_real(root, parent) && is_dir(full);
}

static void remove_recorded(struct world *w, const char *path)
{
	char full[2 * P], below[P];
	DIR *dir;
	const struct dirent *e;

	join(full, w->source, path);
	dir = is_dir(full) ? opendir(full) : NULL;
	while (dir != NULL && (e = readdir(dir)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		assert_true(snprintf(below, sizeof(below), "%s/%s", path, e->d_name) < P);
		remove_recorded(w, below);
	}
	if (dir != NULL)
		(void)closedir(dir);
	if (dir != NULL ? rmdir(full) == 0 : unlink(full) == 0)
		record(w, CHANGE_DELETE, dir != NULL, path, NULL);
}

static void op_rename(struct world *w, const char *from, const char *to, unsigned flags)
{
	char a[2 * P], b[2 * P];
	bool dir, other;

	join(a, w->source, from);
	join(b, w->source, to);
	dir = is_dir(a);
	other = is_dir(b);
	if (strcmp(from, to) == 0 || renameat2(AT_FDCWD, a, AT_FDCWD, b, flags) < 0)
		return;
	record(w, CHANGE_RENAME, dir, to, from);
	if (flags == RENAME_EXCHANGE)
		record(w, CHANGE_RENAME, other, from, to);
}

static void operate(struct world *w)
{
	char path[P], to[P], full[2 * P];

	w->ops++;
	random_path(w, path);
	random_path(w, to);
	join(full, w->source, path);
	if (!parents_real(w->source, path) || !parents_real(w->source, to))
		return;
	switch (pick(w, 12)) {
	case 0:
	case 1:
	case 2:
		op_write(w, path, full);
		break;
	case 3:
	case 4:
		if (mkdir(full, 0755) == 0)
			record(w, CHANGE_CREATE, true, path, NULL);
		break;
	case 5:
		if (!is_dir(full) && unlink(full) == 0)
			record(w, CHANGE_DELETE, false, path, NULL);
		break;
	case 6:
		if (pick(w, 3) == 0)
			remove_recorded(w, path);
		break;
	case 7:
		if (symlink(to, full) == 0)
			record(w, CHANGE_CREATE, false, path, NULL);
		break;
	case 8:
		if (is_dir(full) && chmod(full, pick(w, 2) == 0 ? 0700 : 0755) == 0)
			record(w, CHANGE_TOUCH, true, path, NULL);
		break;
	case 9:
		op_rename(w, path, to, RENAME_EXCHANGE);
		break;
	default:
		op_rename(w, path, to, 0);
		break;
	}
}

/* ---- the transport's part ---- */

static void make_equal(struct world *w, const char *path, bool below);

static void copy_file(const char *from, const char *to, mode_t mode)
{
	char data[256];
	int in = open(from, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	ssize_t n;

	assert_true(in >= 0 && out >= 0);
	n = read(in, data, sizeof(data));
	assert_true(n >= 0 && write(out, data, (size_t)n) == n);
	assert_int_equal(fchmod(out, mode & 07777), 0);
	(void)close(in);
	(void)close(out);
}

static void make_parents(const char *root, const char *path)
{
	char full[2 * P];
	size_t n = path_parent_len(path, strlen(path));
	char parent[P];

	if (n == 0)
		return;
	(void)snprintf(parent, sizeof(parent), "%.*s", (int)n, path);
	make_parents(root, parent);
	join(full, root, parent);
	if (!is_dir(full)) {
		(void)unlink(full);
		assert_int_equal(mkdir(full, 0755), 0);
	}
}

static void each(struct world *w, const char *list_root, const char *path, bool deleting)
{
	char full[2 * P], below[P], theirs[2 * P];
	struct dirent **names;
	int n;

	join(full, list_root, path);
	n = scandir(full, &names, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		if (strcmp(names[i]->d_name, ".") != 0 && strcmp(names[i]->d_name, "..") != 0) {
			assert_true(snprintf(below, sizeof(below), "%s%s%s", path, path[0] == '\0' ? "" : "/",
					     names[i]->d_name) < P);
			join(theirs, w->source, below);
			if (!deleting)
				make_equal(w, below, true);
			else if (faccessat(AT_FDCWD, theirs, F_OK, AT_SYMLINK_NOFOLLOW) < 0) {
				join(theirs, w->copy, below);
				assert_int_equal(remove_tree(theirs, NULL), 0);
			}
		}
		free(names[i]);
	}
	if (n >= 0)
		free(names);
}

static void make_equal(struct world *w, const char *path, bool below)
{
	char from[2 * P], to[2 * P], link[P];
	struct stat st, old;
	ssize_t n;

	join(from, w->source, path);
	join(to, w->copy, path);
	if (!parents_real(w->source, path) || lstat(from, &st) < 0) {
		if (parents_real(w->copy, path))
			assert_int_equal(remove_tree(to, NULL), 0);
		return;
	}
	make_parents(w->copy, path);
	if (lstat(to, &old) == 0 && ((st.st_mode & S_IFMT) != (old.st_mode & S_IFMT) || S_ISLNK(st.st_mode)))
		assert_int_equal(remove_tree(to, NULL), 0);
	if (S_ISDIR(st.st_mode)) {
		assert_true(mkdir(to, 0755) == 0 || errno == EEXIST);
		assert_int_equal(chmod(to, st.st_mode & 07777), 0);
		if (below) {
			each(w, w->copy, path, true);
			each(w, w->source, path, false);
		}
	} else if (S_ISLNK(st.st_mode)) {
		n = readlink(from, link, sizeof(link) - 1);
		assert_true(n >= 0);
		link[n] = '\0';
		assert_int_equal(symlink(link, to), 0);
	} else {
		copy_file(from, to, st.st_mode);
	}
}

static enum verdict carry(struct world *w, const struct batch_rename *r)
{
	char from[2 * P], to[2 * P], a[P], b[P];

	(void)snprintf(a, sizeof(a), "%.*s", (int)r->from_len, r->from);
	(void)snprintf(b, sizeof(b), "%.*s", (int)r->to_len, r->to);
	join(from, w->copy, a);
	join(to, w->copy, b);
	if (w->failing && pick(w, 8) == 0)
		return VERDICT_RECONCILE;
	if (!parents_real(w->copy, a) || !parents_real(w->copy, b))
		return VERDICT_RECONCILE;
	w->renames++;
	return rename(from, to) == 0 ? VERDICT_DONE : VERDICT_RECONCILE;
}

static int look(void *ctx, const char *path, size_t len, enum look *out, struct stat *st, struct err *err)
{
	return looker_look(&((struct world *)ctx)->looker, path, len, out, st, err);
}

static void settle(void *ctx, size_t i, enum verdict v, const struct err *why)
{
	struct world *w = ctx;

	(void)why;
	(void)changeset_settle(w->cs, w->batch_id, i, v, w->now, w->now);
}

static void settle_rename(void *ctx, size_t i, enum verdict v, const struct err *why)
{
	struct world *w = ctx;

	(void)why;
	(void)changeset_settle_rename(w->cs, w->batch_id, i, v, w->now);
}

static void do_step(struct world *w, const struct plan_part *part, bool below)
{
	char path[P];

	for (size_t i = 0; i < part->work.n_items; i++) {
		const struct transport_item *item = &part->work.items[i];
		bool fails = w->failing && pick(w, 12) == 0;

		(void)snprintf(path, sizeof(path), "%.*s", (int)item->len, item->path);
		/* The source goes on changing while it is read. */
		if (w->failing && pick(w, 6) == 0)
			operate(w);
		if (!fails)
			make_equal(w, path, below);
		deliver(w, QUEUE_MAX);
		for (size_t k = part->ranges[i].lo; k < part->ranges[i].hi; k++)
			settle(w, k, fails ? VERDICT_RETRY : VERDICT_DONE, NULL);
	}
}

static bool work(struct world *w)
{
	struct batch *b = changeset_take(w->cs, w->now += 10);
	struct plan_input in = { .batch = b,
				 .filter = w->filter,
				 .delete_mode = DELETE_ALWAYS,
				 .max_delete = -1,
				 .caps = TRANSPORT_RENAME,
				 .look = look,
				 .settle = settle,
				 .settle_rename = settle_rename,
				 .ctx = w };
	struct plan plan;
	int fd;

	if (b == NULL)
		return false;
	w->batches++;
	w->batch_id = b->id;
	fd = open(w->source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	looker_init(&w->looker, fd);
	/* The look may see what no record has told yet; verdicts wait for the records. */
	deliver(w, QUEUE_MAX);
	assert_int_equal(plan_make(&plan, &in, NULL), 0);
	for (size_t i = 0; i < plan.part[PLAN_APPLY].work.n_renames; i++)
		settle_rename(w, plan.rename_index[i], carry(w, &plan.renames[i]), NULL);
	do_step(w, &plan.part[PLAN_APPLY], false);
	if (w->failing && pick(w, 10) == 0) {
		changeset_abandon_all(w->cs, w->now);
	} else {
		do_step(w, &plan.part[PLAN_RECONCILE], true);
		deliver(w, QUEUE_MAX);
		changeset_finish(w->cs, b->id, w->now);
	}
	plan_done(&plan);
	looker_done(&w->looker);
	(void)close(fd);
	batch_free(b);
	return true;
}

/* ---- the proof ---- */

static void expect_same(struct world *w, const char *path, uint64_t seed)
{
	char a[2 * P], b[2 * P], x[256] = "", y[256] = "", below[P];
	struct stat sa, sb;
	struct dirent **names;
	int n;

	join(a, w->source, path);
	join(b, w->copy, path);
	if (lstat(a, &sa) != 0 || lstat(b, &sb) != 0 ||
	    (path[0] != '\0' && !S_ISLNK(sa.st_mode) && sa.st_mode != sb.st_mode) ||
	    (S_ISLNK(sa.st_mode) && (readlink(a, x, sizeof(x)) < 0 || readlink(b, y, sizeof(y)) < 0)))
		fail_msg("seed %llu: %s differs after %lu operations", (unsigned long long)seed, path, w->ops);
	if (S_ISREG(sa.st_mode)) {
		int fa = open(a, O_RDONLY | O_CLOEXEC), fb = open(b, O_RDONLY | O_CLOEXEC);

		assert_true(read(fa, x, sizeof(x) - 1) >= 0 && read(fb, y, sizeof(y) - 1) >= 0);
		(void)close(fa);
		(void)close(fb);
	}
	if (strcmp(x, y) != 0)
		fail_msg("seed %llu: %s is %s, not %s", (unsigned long long)seed, path, y, x);
	if (!S_ISDIR(sa.st_mode))
		return;
	n = scandir(b, &names, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		(void)snprintf(below, sizeof(below), "%s%s%s", path, path[0] == '\0' ? "" : "/", names[i]->d_name);
		if (strcmp(names[i]->d_name, ".") != 0 && strcmp(names[i]->d_name, "..") != 0)
			expect_same(w, below, seed);
		free(names[i]);
	}
	free(names);
	n = scandir(a, &names, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		(void)snprintf(below, sizeof(below), "%s%s%s", path, path[0] == '\0' ? "" : "/", names[i]->d_name);
		join(b, w->copy, below);
		if (lstat(b, &sb) != 0)
			fail_msg("seed %llu: %s is missing", (unsigned long long)seed, below);
		free(names[i]);
	}
	free(names);
}

static void run_seed(struct world *w, uint64_t seed, unsigned rounds)
{
	static const struct changeset_limits limits = { 10000, 1000, 1000, 1 << 20 };
	const struct changeset_limits small = { 12, 4, 8, 4096 };

	w->rng = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	w->cs = changeset_new(seed % 3 == 0 ? &small : &limits);
	assert_non_null(w->cs);
	for (unsigned round = 0; round < rounds; round++) {
		unsigned batches = 0;

		w->failing = true;
		for (unsigned i = 0; i < 200; i++) {
			operate(w);
			if (pick(w, 4) == 0)
				deliver(w, pick(w, 8));
			if (pick(w, 30) == 0)
				(void)work(w);
		}
		w->failing = false;
		deliver(w, QUEUE_MAX);
		while (work(w))
			assert_true(++batches < 200);
		assert_int_equal(
			changeset_pending(w->cs) + changeset_pending_renames(w->cs) + changeset_in_flight(w->cs), 0);
		assert_true(changeset_served(w->cs, 1));
		expect_same(w, "", seed);
	}
	changeset_free(w->cs);
}

static void test_disk(void **state)
{
	const char *root = getenv("TESTDIR"), *seed_text = getenv("SEED"), *rounds_text = getenv("ROUNDS");
	uint64_t first = seed_text == NULL ? 1 : strtoull(seed_text, NULL, 10);
	unsigned scale = rounds_text == NULL ? 1 : (unsigned)strtoul(rounds_text, NULL, 10);
	static struct world w;
	char place[P];

	(void)state;
	(void)snprintf(place, sizeof(place), "%s/disk.XXXXXX", root == NULL ? "/tmp" : root);
	assert_non_null(mkdtemp(place));
	w.filter = filter_new();
	for (uint64_t seed = first; seed < first + 8; seed++) {
		assert_true(snprintf(w.source, P, "%.400s/s%llu", place, (unsigned long long)seed) < P);
		assert_true(snprintf(w.copy, P, "%.400s/c%llu", place, (unsigned long long)seed) < P);
		assert_int_equal(mkdir(w.source, 0755) | mkdir(w.copy, 0755), 0);
		run_seed(&w, seed, 65 * scale);
	}
	print_message("%lu operations, %lu batches, %lu renames carried\n", w.ops, w.batches, w.renames);
	assert_true(w.renames > 0);
	filter_free(w.filter);
	assert_int_equal(remove_tree(place, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_disk) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
