/* LINK: core/changeset.c core/changeset_renames.c core/changeset_batches.c core/changeset_large.c
 * core/marks.c core/marks_queue.c core/batch.c core/path.c core/plan.c core/keep.c core/filter.c core/filter_args.c
 * core/err.c core/buf.c */
/*
 * test_changeset_model.c - the changeset against a model of everything around it.
 *
 * A source (inodes in memory) changes at random. Its events carry a directory's inode and a name, as fanotify's do;
 * they are merged at random and their paths are resolved at a random later time, through a cache that is exact only
 * once it has settled. Batches leave at random times; a worker plans them with core/plan.c core/keep.c, acts on the
 * plan at random later times, fails, or dies without a word. A second worker carries one large file at a time beside
 * it: it reads the source long before it writes, makes directories that it misses, and puts what it read in its place
 * whatever has become of the source. After each quiescence the target must equal the source: names, types, content,
 * modes, and directories' times.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/changeset.h"
#include "core/path.h"
#include "core/plan.h"

#define NAMES 5
#define DEPTH_MAX 7
#define PATH_LEN 40
#define INODES 4096
#define QUEUE 4096
#define TEXT(x) (x), strlen(x)

enum type { NOTHING = 0, FILE_T, DIR_T, LINK_T };

struct inode {
	enum type type;
	unsigned content, mode;
	unsigned long mtime; /* of a directory */
	int links;
	int child[NAMES]; /* inode or 0 */
	int parent, name; /* of a directory; dead: parent is -1 */
	bool cached, settled;
	char path[PATH_LEN]; /* what the watcher's cache says */
	unsigned long resolved_at;
};

struct tree {
	struct inode *ino; /* [1] is the root */
	int used, live;
	unsigned long clock;
};

enum { EV_TOUCH = 1, EV_CREATE = 2, EV_DELETE = 4, EV_MODIFY = 8, EV_RENAME = 16, EV_OVERFLOW = 32 };

struct event {
	unsigned mask;
	bool is_dir;
	int dir, name, old_dir, old_name;
	char true_dir[PATH_LEN], true_old[PATH_LEN]; /* paths as of the event: what a settled cache must say */
};

#define FOUND 8

/* Of a file: whether it is for the large lane. */
#define LARGE(content) ((content) % 3 == 1)

struct flight {
	struct batch *b;
	enum plan_lane lane;
	int phase;		       /* large: 1: the content was read */
	unsigned content, mode;	       /* that */
	enum verdict *items, *renames; /* as they would be told to the daemon */
	bool planned, finished;
	struct plan plan;
	int step;
	size_t at, rename_at;	     /* in that step */
	enum verdict *said;	     /* of the step's items */
	unsigned long *mtime;	     /* of the step's directories when they were looked at; 0: none */
	char found[FOUND][PATH_LEN]; /* paths that failed inside a reconcile, and parents */
	size_t n_found;
	char handed[FOUND][PATH_LEN]; /* large files inside a reconcile, for the other lane */
	size_t n_handed;
};

struct world {
	uint64_t rng;
	struct tree src, dst;
	struct event *queue;
	size_t head, tail;
	unsigned long read, queued; /* events ever */
	struct changeset *cs;
	struct filter *filter;
	char last_from[PATH_LEN], last_to[PATH_LEN]; /* the latest rename of a directory in the cache */
	int64_t now;
	uint64_t gen;
	struct flight fl[2];
	int n_fl;
	struct flight large;
	bool has_large;
	bool one_lane;
	bool calm;    /* few operations a batch, many of them op_late */
	bool failing; /* whether faults are injected */
	bool tracing;
	unsigned long carried, reconciled_renames, batches, larges, beside, cancels, handed;
};

static uint32_t rnd(struct world *w, uint32_t n)
{
	w->rng ^= w->rng << 13;
	w->rng ^= w->rng >> 7;
	w->rng ^= w->rng << 17;
	return (uint32_t)((w->rng * UINT64_C(2685821657736338717)) >> 33) % n;
}

static bool chance(struct world *w, uint32_t percent)
{
	return rnd(w, 100) < percent;
}

#define TRACE(w, ...)                                                                                                  \
	do {                                                                                                           \
		if ((w)->tracing)                                                                                      \
			print_message(__VA_ARGS__);                                                                    \
	} while (0)

/* ---- trees ---- */

static void tree_init(struct tree *t, unsigned long clock)
{
	t->ino = calloc(INODES, sizeof(*t->ino));
	assert_non_null(t->ino);
	t->used = 2;
	t->ino[1] = (struct inode){ .type = DIR_T, .mode = 7, .links = 1 };
	t->clock = clock;
}

static int inode_new(struct tree *t, enum type type, unsigned content, unsigned mode)
{
	int i = t->used++;

	assert_true(i < INODES);
	t->ino[i] = (struct inode){ .type = type, .content = content, .mode = mode, .mtime = ++t->clock };
	return i;
}

static void put(struct tree *t, int dir, int name, int i)
{
	t->ino[dir].child[name] = i;
	t->ino[dir].mtime = ++t->clock;
	t->ino[i].links++;
	t->live++;
	if (t->ino[i].type == DIR_T) {
		t->ino[i].parent = dir;
		t->ino[i].name = name;
	}
}

static int cut(struct tree *t, int dir, int name)
{
	int i = t->ino[dir].child[name];

	t->ino[dir].child[name] = 0;
	t->ino[dir].mtime = ++t->clock;
	t->ino[i].links--;
	t->live--;
	if (t->ino[i].type == DIR_T)
		t->ino[i].parent = -1;
	return i;
}

static bool empty(const struct tree *t, int dir)
{
	for (int n = 0; n < NAMES; n++)
		if (t->ino[dir].child[n] != 0)
			return false;
	return true;
}

static void cut_all(struct tree *t, int dir, int name)
{
	int i = t->ino[dir].child[name];

	if (i != 0 && t->ino[i].type == DIR_T)
		for (int n = 0; n < NAMES; n++)
			if (t->ino[i].child[n] != 0)
				cut_all(t, i, n);
	if (i != 0)
		cut(t, dir, name);
}

static bool dead(const struct tree *t, int dir)
{
	for (; dir != 1; dir = t->ino[dir].parent)
		if (t->ino[dir].parent <= 0)
			return true;
	return false;
}

static void path_of(const struct tree *t, int dir, char out[PATH_LEN])
{
	char tmp[PATH_LEN];
	size_t n = PATH_LEN - 1;

	tmp[n] = '\0';
	for (; dir != 1; dir = t->ino[dir].parent) {
		assert_true(n >= 2);
		if (tmp[n] != '\0')
			tmp[--n] = '/';
		tmp[--n] = (char)('a' + t->ino[dir].name);
	}
	memcpy(out, tmp + n, PATH_LEN - n);
}

static int depth(const struct tree *t, int dir)
{
	int d = 0;

	for (; dir != 1; dir = t->ino[dir].parent)
		d++;
	return d;
}

static int height(const struct tree *t, int i)
{
	int max = 0;

	if (t->ino[i].type != DIR_T)
		return 1;
	for (int n = 0; n < NAMES; n++)
		if (t->ino[i].child[n] != 0) {
			int h = height(t, t->ino[i].child[n]);

			max = h > max ? h : max;
		}
	return max + 1;
}

/* The inode of a path, 0 if there is none; its parent directory and name as far as they exist (dir 0: not). */
static int walk(const struct tree *t, const char *p, size_t len, int *dir, int *name)
{
	int i = 1;

	*dir = 0;
	*name = 0;
	for (size_t at = 0; at < len; at += 2) {
		*dir = 0;
		if (i == 0 || t->ino[i].type != DIR_T)
			return 0;
		*dir = i;
		*name = p[at] - 'a';
		i = t->ino[i].child[*name];
	}
	return i;
}

static bool same(const struct world *w, int s, int d)
{
	const struct inode *a = &w->src.ino[s], *b = &w->dst.ino[d];

	if (a->type != b->type || a->mode != b->mode || a->content != b->content ||
	    (a->type == DIR_T && a->mtime != b->mtime))
		return false;
	for (int n = 0; a->type == DIR_T && n < NAMES; n++) {
		if ((a->child[n] == 0) != (b->child[n] == 0))
			return false;
		if (a->child[n] != 0 && !same(w, a->child[n], b->child[n]))
			return false;
	}
	return true;
}

static void dump(const struct tree *t, int i, int level)
{
	for (int n = 0; n < NAMES; n++) {
		int c = t->ino[i].child[n];

		if (c == 0)
			continue;
		print_message("%*s%c %d %u/%u %lu\n", level * 2, "", 'a' + n, (int)t->ino[c].type, t->ino[c].content,
			      t->ino[c].mode, t->ino[c].mtime);
		if (t->ino[c].type == DIR_T)
			dump(t, c, level + 1);
	}
}

/* ---- events ---- */

static void queue_event(struct world *w, const struct event *e)
{
	assert_true(w->tail < QUEUE);
	w->queue[w->tail++] = *e;
	w->queued++;
}

static void emit(struct world *w, int dir, int name, unsigned mask, bool is_dir)
{
	struct event e = { .mask = mask, .is_dir = is_dir, .dir = dir, .name = name };

	for (size_t i = w->tail; i > w->head && i + 16 > w->tail; i--) {
		struct event *q = &w->queue[i - 1];

		if (q->dir == dir && q->name == name && q->is_dir == is_dir && q->mask < EV_RENAME && chance(w, 70)) {
			q->mask |= mask;
			return;
		}
	}
	path_of(&w->src, dir, e.true_dir);
	queue_event(w, &e);
}

static void emit_rename(struct world *w, int od, int on, int nd, int nn, bool is_dir, const char *to, const char *td)
{
	struct event e = { .mask = EV_RENAME, .is_dir = is_dir, .dir = nd, .name = nn, .old_dir = od, .old_name = on };

	memcpy(e.true_old, to, PATH_LEN);
	memcpy(e.true_dir, td, PATH_LEN);
	queue_event(w, &e);
}

/* ---- operations on the source ---- */

/* A random living directory. */
static int some_dir(struct world *w)
{
	int i = 1;

	while (chance(w, 65)) {
		int c = w->src.ino[i].child[rnd(w, NAMES)];

		if (c != 0 && w->src.ino[c].type == DIR_T)
			i = c;
	}
	return i;
}

static void op_make(struct world *w, int dir, int name, enum type type)
{
	struct tree *t = &w->src;
	int i;

	if (t->ino[dir].child[name] != 0 || depth(t, dir) >= DEPTH_MAX)
		return;
	i = inode_new(t, type, type == DIR_T ? 0 : rnd(w, 1u << 30), 7 - rnd(w, 3));
	put(t, dir, name, i);
	emit(w, dir, name, EV_CREATE, type == DIR_T);
	if (type == FILE_T && chance(w, 60))
		emit(w, dir, name, EV_TOUCH, false);
	TRACE(w, "make %d/%c type %d ino %d\n", dir, 'a' + name, (int)type, i);
}

static void op_write(struct world *w, int dir, int name)
{
	struct inode *i = &w->src.ino[w->src.ino[dir].child[name]];

	if (i->type != FILE_T || i->links != 1)
		return;
	i->content = chance(w, 20) ? 0 : rnd(w, 1u << 30);
	if (chance(w, 30))
		emit(w, dir, name, EV_MODIFY, false);
	emit(w, dir, name, EV_TOUCH, false);
	TRACE(w, "write %d/%c\n", dir, 'a' + name);
}

static void op_chmod(struct world *w, int dir, int name)
{
	struct inode *i = &w->src.ino[w->src.ino[dir].child[name]];

	if (i->type == NOTHING || i->type == LINK_T || i->links != 1)
		return;
	i->mode = rnd(w, 8);
	emit(w, dir, name, EV_TOUCH, i->type == DIR_T);
	TRACE(w, "chmod %d/%c %u\n", dir, 'a' + name, i->mode);
}

static void op_remove(struct world *w, int dir, int name)
{
	int i = w->src.ino[dir].child[name];
	bool is_dir = w->src.ino[i].type == DIR_T;

	if (i == 0)
		return;
	for (int n = 0; is_dir && n < NAMES; n++)
		op_remove(w, i, n);
	cut(&w->src, dir, name);
	emit(w, dir, name, EV_DELETE, is_dir);
	TRACE(w, "remove %d/%c\n", dir, 'a' + name);
}

static bool is_above(const struct tree *t, int dir, int i)
{
	for (; dir != 1; dir = t->ino[dir].parent)
		if (dir == i)
			return true;
	return i == 1;
}

static void op_rename(struct world *w, int od, int on, int nd, int nn)
{
	struct tree *t = &w->src;
	int i = t->ino[od].child[on], v = t->ino[nd].child[nn];
	bool is_dir = t->ino[i].type == DIR_T;
	char to[PATH_LEN] = { 0 }, td[PATH_LEN] = { 0 };

	if (i == 0 || i == v || (is_dir && is_above(t, nd, i)) || depth(t, nd) + height(t, i) > DEPTH_MAX)
		return;
	if (v != 0 && ((t->ino[v].type == DIR_T) != is_dir || (is_dir && !empty(t, v))))
		return;
	path_of(t, od, to);
	path_of(t, nd, td);
	cut(t, od, on);
	if (v != 0)
		cut(t, nd, nn);
	put(t, nd, nn, i);
	emit_rename(w, od, on, nd, nn, is_dir, to, td);
	TRACE(w, "rename %d/%c (%s) -> %d/%c (%s) ino %d\n", od, 'a' + on, to, nd, 'a' + nn, td, i);
}

static void op_exchange(struct world *w, int od, int on, int nd, int nn)
{
	struct tree *t = &w->src;
	int i = t->ino[od].child[on], v = t->ino[nd].child[nn];
	char to[PATH_LEN] = { 0 }, td[PATH_LEN] = { 0 };
	bool id, vd;

	if (i == 0 || v == 0 || i == v || is_above(t, nd, i) || is_above(t, od, v) ||
	    depth(t, nd) + height(t, i) > DEPTH_MAX || depth(t, od) + height(t, v) > DEPTH_MAX)
		return;
	path_of(t, od, to);
	path_of(t, nd, td);
	cut(t, od, on);
	cut(t, nd, nn);
	put(t, nd, nn, i);
	put(t, od, on, v);
	id = t->ino[i].type == DIR_T;
	vd = t->ino[v].type == DIR_T;
	emit_rename(w, od, on, nd, nn, id, to, td);
	emit_rename(w, nd, nn, od, on, vd, td, to);
	TRACE(w, "exchange %d/%c (%s) <-> %d/%c (%s)\n", od, 'a' + on, to, nd, 'a' + nn, td);
}

static void op_link(struct world *w, int od, int on, int nd, int nn)
{
	int i = w->src.ino[od].child[on];

	if (w->src.ino[i].type != FILE_T || w->src.ino[nd].child[nn] != 0)
		return;
	put(&w->src, nd, nn, i);
	emit(w, nd, nn, EV_CREATE, false);
	TRACE(w, "link %d/%c -> %d/%c\n", od, 'a' + on, nd, 'a' + nn);
}

/* rm -r d; mkdir d; mv d e, with something put into d half of the time. */
static void op_replace(struct world *w, int dir, int name, int name2)
{
	op_remove(w, dir, name);
	op_make(w, dir, name, DIR_T);
	if (w->src.ino[dir].child[name] == 0)
		return;
	if (chance(w, 50))
		op_make(w, w->src.ino[dir].child[name], (int)rnd(w, NAMES), FILE_T);
	op_rename(w, dir, name, dir, name2);
}

static void op_swap(struct world *w, int dir, int a, int b, int tmp)
{
	if (w->src.ino[dir].child[tmp] != 0)
		op_remove(w, dir, tmp);
	op_rename(w, dir, a, dir, tmp);
	op_rename(w, dir, b, dir, a);
	op_rename(w, dir, tmp, dir, b);
}

/* mv a/x a/y; mv b tmp; mv a b, where b/x is a directory too: if the first is resolved late, it names b/x, which stands
 * for another one on the target. */
static void op_late(struct world *w, int dir, int a, int b, int tmp)
{
	int da = w->src.ino[dir].child[a], db = w->src.ino[dir].child[b], x = (int)rnd(w, 2), y = 2 + (int)rnd(w, 3);

	op_make(w, dir, a, DIR_T);
	op_make(w, dir, b, DIR_T);
	if (da == 0 || db == 0 || w->src.ino[da].type != DIR_T || w->src.ino[db].type != DIR_T)
		return;
	for (int i = 0; i < 2; i++) {
		int d = i == 0 ? da : db;

		op_make(w, d, x, DIR_T);
		if (w->src.ino[d].child[x] != 0 && w->src.ino[w->src.ino[d].child[x]].type == DIR_T)
			op_make(w, w->src.ino[d].child[x], y, FILE_T);
	}
	if (chance(w, 60))
		return;
	w->src.ino[da].cached = w->src.ino[da].settled = false;
	op_rename(w, da, x, da, y);
	op_remove(w, dir, tmp);
	op_rename(w, dir, b, dir, tmp);
	op_rename(w, dir, a, dir, b);
}

static void operate(struct world *w)
{
	int d = some_dir(w), e = chance(w, 50) ? d : some_dir(w);
	int n = (int)rnd(w, NAMES), m = (int)rnd(w, NAMES), k = (int)rnd(w, NAMES);
	uint32_t what = rnd(w, 100);

	w->now++;
	if (w->calm && chance(w, 40))
		op_late(w, chance(w, 60) ? 1 : d, n, m, k);
	else if (what < 14)
		op_make(w, d, n, FILE_T);
	else if (what < 28)
		op_make(w, d, n, DIR_T);
	else if (what < 32)
		op_make(w, d, n, LINK_T);
	else if (what < 44)
		op_write(w, d, n);
	else if (what < 50)
		op_chmod(w, d, n);
	else if (what < 56)
		op_remove(w, d, n);
	else if (what < 84)
		op_rename(w, d, n, e, m);
	else if (what < 88)
		op_exchange(w, d, n, e, m);
	else if (what < 91)
		op_link(w, d, n, e, m);
	else if (what < 94)
		op_replace(w, d, n, m);
	else if (what < 97 && n != m && m != k && n != k)
		chance(w, 40) ? op_swap(w, d, n, m, k) : op_late(w, d, n, m, k);
	else
		op_rename(w, d, n, d, m), op_rename(w, d, m, d, k);
}

/* ---- the watcher ---- */

static void cache_drop(struct world *w, bool unsettled_only)
{
	for (int i = 2; i < w->src.used; i++)
		if (!unsettled_only || !w->src.ino[i].settled)
			w->src.ino[i].cached = w->src.ino[i].settled = false;
}

static void cache_settle(struct world *w)
{
	for (int i = 2; i < w->src.used; i++)
		if (w->src.ino[i].cached && w->src.ino[i].resolved_at <= w->read)
			w->src.ino[i].settled = true;
}

static void cache_drop_below(struct world *w, const char *top)
{
	size_t len = strlen(top);

	for (int i = 2; i < w->src.used; i++) {
		struct inode *n = &w->src.ino[i];

		if (n->cached && path_within(n->path, strlen(n->path), top, len))
			n->cached = n->settled = false;
	}
}

/* What was at the new name goes. An exchange is two renames, each the reverse of the other: both names are resolved
 * anew. */
static void cache_move(struct world *w, const char *from, const char *to)
{
	size_t fl = strlen(from);
	bool reverse = strcmp(from, w->last_to) == 0 && strcmp(to, w->last_from) == 0;

	snprintf(w->last_from, PATH_LEN, "%s", from);
	snprintf(w->last_to, PATH_LEN, "%s", to);
	cache_drop_below(w, to);
	if (reverse)
		cache_drop_below(w, from);
	for (int i = 2; i < w->src.used; i++) {
		struct inode *n = &w->src.ino[i];
		char tmp[PATH_LEN * 2];

		if (!n->settled || !path_within(n->path, strlen(n->path), from, fl))
			continue;
		snprintf(tmp, sizeof(tmp), "%s%s", to, n->path + fl);
		assert_true(strlen(tmp) < PATH_LEN);
		memcpy(n->path, tmp, strlen(tmp) + 1);
	}
}

/* Returns false if the directory can't be found any more. */
static bool resolve(struct world *w, int dir, const char *truth, char out[PATH_LEN], bool *exact)
{
	struct inode *n = &w->src.ino[dir];

	*exact = true;
	if (dir == 1) {
		out[0] = '\0';
		return true;
	}
	if (n->cached && chance(w, 10))
		n->cached = n->settled = false;
	if (n->settled) {
		assert_string_equal(n->path, truth);
		memcpy(out, n->path, PATH_LEN);
		return true;
	}
	*exact = false;
	if (!n->cached) {
		if (dead(&w->src, dir))
			return false;
		path_of(&w->src, dir, n->path);
		n->cached = true;
		n->resolved_at = w->queued;
	}
	memcpy(out, n->path, PATH_LEN);
	return true;
}

static void join(char out[PATH_LEN], const char *dir, int name)
{
	snprintf(out, PATH_LEN, "%.*s%s%c", PATH_LEN - 4, dir, dir[0] != '\0' ? "/" : "", 'a' + name);
}

static void record(struct world *w, enum change_kind kind, const char *path, const char *old, bool is_dir, bool exact,
		   int64_t hold)
{
	struct change c = { .kind = kind,
			    .is_dir = is_dir,
			    .exact = exact,
			    .path = path,
			    .path_len = strlen(path),
			    .old_path = old,
			    .old_len = old == NULL ? 0 : strlen(old),
			    .cause = "test" };

	TRACE(w, "  record %d %s -> %s dir %d exact %d\n", (int)kind, old == NULL ? "" : old, path, is_dir, exact);
	assert_int_equal(changeset_add(w->cs, &c, w->gen, w->now, hold, chance(w, 50)), 0);
}

static void read_rename(struct world *w, const struct event *e)
{
	char od[PATH_LEN], nd[PATH_LEN], op[PATH_LEN], np[PATH_LEN];
	bool oe, ne, has_old = resolve(w, e->old_dir, e->true_old, od, &oe);
	bool has_new = resolve(w, e->dir, e->true_dir, nd, &ne);

	if (has_old)
		join(op, od, e->old_name);
	if (has_new)
		join(np, nd, e->name);
	if (has_old && has_new)
		record(w, CHANGE_RENAME, np, op, e->is_dir, oe && ne && !chance(w, 5), 0);
	else if (has_old)
		record(w, CHANGE_DELETE, op, NULL, e->is_dir, false, 0);
	else if (has_new)
		record(w, e->is_dir ? CHANGE_RECONCILE : CHANGE_CREATE, np, NULL, e->is_dir, false, 0);
	if (!e->is_dir)
		return;
	cache_drop(w, true);
	if (has_old && has_new && oe && ne)
		cache_move(w, op, np);
	else
		cache_drop(w, false);
}

static void read_event(struct world *w)
{
	struct event e = w->queue[w->head++];
	char dir[PATH_LEN], path[PATH_LEN];
	bool exact;

	w->read++;
	if (w->head == w->tail)
		w->head = w->tail = 0;
	if ((e.mask & EV_RENAME) != 0) {
		read_rename(w, &e);
	} else if ((e.mask & EV_OVERFLOW) != 0) {
		cache_drop(w, false);
		record(w, CHANGE_RECONCILE, "", NULL, false, false, 0);
	} else if (resolve(w, e.dir, e.true_dir, dir, &exact)) {
		join(path, dir, e.name);
		if ((e.mask & EV_DELETE) != 0)
			record(w, CHANGE_DELETE, path, NULL, e.is_dir, false, 0);
		if ((e.mask & EV_CREATE) != 0)
			record(w, CHANGE_CREATE, path, NULL, e.is_dir, false, chance(w, 10) ? w->now + 20 : 0);
		if ((e.mask & EV_MODIFY) != 0)
			record(w, CHANGE_MODIFY, path, NULL, false, false, w->now + 20);
		if ((e.mask & EV_TOUCH) != 0)
			record(w, CHANGE_TOUCH, path, NULL, e.is_dir, false, 0);
	}
	cache_settle(w);
}

static void drain(struct world *w)
{
	while (w->head != w->tail)
		read_event(w);
}

/* The queue overflowed: whatever was not read yet is lost. */
static void overflow(struct world *w)
{
	struct event e = { .mask = EV_OVERFLOW };
	unsigned long lost = w->tail - w->head;

	w->head = w->tail = 0;
	w->read += lost;
	cache_drop(w, false);
	queue_event(w, &e);
	TRACE(w, "overflow\n");
}

/* ---- the worker and its target ---- */

/* 0: a parent is gone from the source, -1: the target's is in the way. */
static int make_parents(struct world *w, const char *p, size_t len)
{
	int d = 1;

	for (size_t at = 0; at + 1 < len; at += 2) {
		int dir, name, s = walk(&w->src, p, at + 1, &dir, &name), n = p[at] - 'a', c = w->dst.ino[d].child[n];

		if (w->src.ino[s].type != DIR_T)
			return 0;
		if (c != 0 && w->dst.ino[c].type != DIR_T && w->failing && chance(w, 50))
			return -1;
		if (c != 0 && w->dst.ino[c].type != DIR_T)
			cut_all(&w->dst, d, n);
		if (w->dst.ino[d].child[n] == 0)
			put(&w->dst, d, n, inode_new(&w->dst, DIR_T, 0, w->src.ino[s].mode));
		d = w->dst.ino[d].child[n];
	}
	return d;
}

/* Make one entry equal, but for a directory's time. `s` is the source's inode, 0: absent. */
static int mirror_one(struct world *w, int s, int dir, int name)
{
	int d = w->dst.ino[dir].child[name];

	if (d != 0 && (s == 0 || w->dst.ino[d].type != w->src.ino[s].type)) {
		cut_all(&w->dst, dir, name);
		d = 0;
	}
	if (s != 0 && d == 0) {
		d = inode_new(&w->dst, w->src.ino[s].type, 0, 0);
		put(&w->dst, dir, name, d);
	}
	if (s != 0) {
		w->dst.ino[d].content = w->src.ino[s].content;
		w->dst.ino[d].mode = w->src.ino[s].mode;
	}
	return d;
}

static void found(struct world *w, struct flight *f, const char *p, size_t len)
{
	if (f->n_found == FOUND)
		return;
	memcpy(f->found[f->n_found], p, len);
	f->found[f->n_found++][len] = '\0';
	TRACE(w, "  found %.*s\n", (int)len, p);
}

/* What a comparison leaves to the large lane. */
static bool hands_over(struct world *w, struct flight *f, int dir, int name, int d)
{
	const struct inode *s = &w->src.ino[w->src.ino[dir].child[name]];
	char above[PATH_LEN];

	if (f->lane != PLAN_FIRST || s->type != FILE_T || !LARGE(s->content) || s->links != 1 || f->n_handed == FOUND ||
	    (d != 0 && w->dst.ino[d].content == s->content))
		return false;
	path_of(&w->src, dir, above);
	join(f->handed[f->n_handed], above, name);
	TRACE(w, "  handed over %s\n", f->handed[f->n_handed]);
	f->n_handed++;
	w->handed++;
	return true;
}

/* Compare both sides; false when it broke off in the middle. */
static bool mirror_all(struct world *w, struct flight *f, int s, int d)
{
	w->dst.ino[d].mode = w->src.ino[s].mode;
	for (int n = 0; n < NAMES; n++) {
		int c = w->src.ino[s].child[n];

		if (w->failing && chance(w, 2))
			return false;
		if (w->failing && chance(w, 1) && f->n_found < FOUND) {
			char p[PATH_LEN];

			path_of(&w->src, s, p);
			found(w, f, p, strlen(p));
			continue;
		}
		if ((c == 0 && w->dst.ino[d].child[n] == 0) || hands_over(w, f, s, n, w->dst.ino[d].child[n]))
			continue;
		mirror_one(w, c, d, n);
		if (w->src.ino[c].type == DIR_T && !mirror_all(w, f, c, w->dst.ino[d].child[n]))
			return false;
	}
	w->dst.ino[d].mtime = w->src.ino[s].mtime;
	return true;
}

/* Nothing of it was there when the plan was made. */
static enum verdict do_absent(struct world *w, const struct transport_item *it)
{
	int dir, name;

	if (walk(&w->dst, it->path, it->len, &dir, &name) != 0)
		cut_all(&w->dst, dir, name);
	return VERDICT_DONE;
}

/* It was there when the plan was made. A transport may take it for deleted all the same, if it is no directory: that
 * may be one whose rename was not read yet, and not marked at all (it was added for its time). */
static enum verdict do_vanished(struct world *w, const struct transport_item *it)
{
	int dir, name, d = walk(&w->dst, it->path, it->len, &dir, &name);

	if (d == 0 || w->dst.ino[d].type == DIR_T || chance(w, 50))
		return VERDICT_GONE;
	cut_all(&w->dst, dir, name);
	return VERDICT_DONE;
}

static enum verdict do_item(struct world *w, struct flight *f, const struct transport_item *it)
{
	int dir, name, s = walk(&w->src, it->path, it->len, &dir, &name), d;

	if (w->failing && chance(w, 4))
		return VERDICT_RETRY;
	if (w->failing && chance(w, 1))
		return VERDICT_RECONCILE;
	if (s == 0)
		return it->look == LOOK_ABSENT	   ? do_absent(w, it)
		       : f->step == PLAN_RECONCILE ? VERDICT_GONE
						   : do_vanished(w, it);
	if (it->look == LOOK_ABSENT && chance(w, 50))
		return do_absent(w, it);
	if (it->look == LOOK_DIR && w->src.ino[s].type != DIR_T)
		return VERDICT_GONE;
	if (it->len == 0) {
		d = 1;
		w->dst.ino[d].mode = w->src.ino[s].mode;
	} else {
		dir = make_parents(w, it->path, it->len);
		if (dir <= 0)
			return dir == 0 ? VERDICT_GONE : VERDICT_RETRY;
		d = mirror_one(w, s, dir, it->path[it->len - 1] - 'a');
	}
	if (w->src.ino[s].type == DIR_T)
		f->mtime[f->at] = w->src.ino[s].mtime;
	if (f->step == PLAN_RECONCILE && w->src.ino[s].type == DIR_T && !mirror_all(w, f, s, d))
		return VERDICT_RETRY;
	return w->failing && chance(w, 3) ? VERDICT_RETRY : VERDICT_DONE;
}

static enum verdict do_rename(struct world *w, const struct batch_rename *r)
{
	struct tree *t = &w->dst;
	int od, on, nd, nn, i = walk(t, r->from, r->from_len, &od, &on), v;

	if (i == 0 || (w->failing && chance(w, 4)))
		return VERDICT_RECONCILE;
	/* A missing parent is made, if the source has it. */
	if (chance(w, 50) && make_parents(w, r->to, r->to_len) <= 0)
		return VERDICT_RECONCILE;
	i = walk(t, r->from, r->from_len, &od, &on);
	v = walk(t, r->to, r->to_len, &nd, &nn);
	if (i == 0 || nd == 0 || i == v || is_above(t, nd, i))
		return VERDICT_RECONCILE;
	if (v != 0 &&
	    ((t->ino[v].type == DIR_T) != (t->ino[i].type == DIR_T) || (t->ino[v].type == DIR_T && !empty(t, v))))
		return VERDICT_RECONCILE;
	cut(t, od, on);
	if (v != 0)
		cut(t, nd, nn);
	put(t, nd, nn, i);
	w->carried++;
	return w->failing && chance(w, 2) ? VERDICT_RECONCILE : VERDICT_DONE;
}

/* ---- a batch in the worker ---- */

struct planning {
	struct world *w;
	struct flight *f;
	size_t looked; /* items so far */
};

/* Whether it is an item, looked at for the first time: a later look, for its time only, doesn't fail then. */
static bool first_look(struct planning *p, const char *path, size_t len)
{
	const struct batch *b = p->f->b;

	for (size_t i = p->looked; i < b->n_items; i++)
		if (path_compare(b->items[i].path, b->items[i].len, path, len) == 0) {
			p->looked = i + 1;
			return true;
		}
	return false;
}

static int plan_look(void *ctx, const char *path, size_t len, enum look *out, struct stat *st, struct err *err)
{
	static const enum look looks[] = { LOOK_ABSENT, LOOK_FILE, LOOK_DIR, LOOK_SYMLINK };
	struct planning *p = ctx;
	struct world *w = p->w;
	const struct inode *i;
	int dir, name;

	memset(st, 0, sizeof(*st));
	if (first_look(p, path, len) && w->failing && chance(w, 1))
		return err_set(err, ERR_IO, "cannot look");
	i = &w->src.ino[walk(&w->src, path, len, &dir, &name)];
	*out = looks[i->type];
	st->st_size = i->type == FILE_T && LARGE(i->content) ? 2 : 0;
	st->st_nlink = (nlink_t)i->links;
	return 0;
}

static void plan_settle(void *ctx, size_t index, enum verdict v, const struct err *why)
{
	struct planning *p = ctx;
	const struct batch_item *it = &p->f->b->items[index];

	(void)why;
	TRACE(p->w, "  plan item %.*s flags %x: %s\n", (int)it->len, it->path, it->flags, verdict_name(v));
	assert_int_equal(p->f->items[index], VERDICT_NONE);
	p->f->items[index] = v;
}

static void plan_settle_rename(void *ctx, size_t index, enum verdict v, const struct err *why)
{
	(void)why;
	((struct planning *)ctx)->f->renames[index] = v;
}

static void begin_step(struct flight *f)
{
	size_t n = f->step < PLAN_STEPS ? f->plan.part[f->step].work.n_items : 0;

	free(f->said);
	free(f->mtime);
	f->said = calloc(n + 1, sizeof(*f->said));
	f->mtime = calloc(n + 1, sizeof(*f->mtime));
	assert_true(f->said != NULL && f->mtime != NULL);
	f->at = f->rename_at = 0;
}

static void make_plan(struct world *w, struct flight *f)
{
	struct planning ctx = { w, f, 0 };
	struct err err = ERR_INIT;
	struct plan_input in = { .batch = f->b,
				 .filter = w->filter,
				 .delete_mode = DELETE_ALWAYS,
				 .max_delete = -1,
				 .caps = TRANSPORT_RENAME,
				 .dir_times = true,
				 .lane = f->lane,
				 .large_file = 1,
				 .look = plan_look,
				 .settle = plan_settle,
				 .settle_rename = plan_settle_rename,
				 .ctx = &ctx };

	assert_int_equal(plan_make(&f->plan, &in, &err), 0);
	f->planned = true;
	begin_step(f);
}

static void work_rename(struct world *w, struct flight *f, const struct transport_work *work)
{
	const struct batch_rename *r = &work->renames[f->rename_at];
	enum verdict v = do_rename(w, r);

	f->renames[f->plan.rename_index[f->rename_at++]] = v;
	w->reconciled_renames += v != VERDICT_DONE;
	TRACE(w, "  work rename %.*s -> %.*s: %s\n", (int)r->from_len, r->from, (int)r->to_len, r->to, verdict_name(v));
}

static void work_item(struct world *w, struct flight *f, const struct transport_work *work)
{
	const struct transport_item *it = &work->items[f->at];

	f->said[f->at] = do_item(w, f, it);
	TRACE(w, "  work item %.*s flags %x step %d look %d: %s\n", (int)it->len, it->path, it->flags, f->step,
	      (int)it->look, verdict_name(f->said[f->at]));
	/* A comparison takes its time: it looks at one place early and at another late. */
	if (f->step != PLAN_RECONCILE || chance(w, 70))
		f->at++;
}

/* Directories get their times last, and verdicts come. */
static void end_step(struct world *w, struct flight *f)
{
	const struct plan_part *part = &f->plan.part[f->step];

	for (size_t i = part->work.n_items; i-- > 0;) {
		const struct transport_item *it = &part->work.items[i];
		struct plan_range r = part->ranges[i];
		int dir, name, d = walk(&w->dst, it->path, it->len, &dir, &name);

		if (f->mtime[i] != 0 && w->dst.ino[d].type == DIR_T && f->said[i] == VERDICT_DONE)
			w->dst.ino[d].mtime = f->mtime[i];
		if (r.lo == r.hi && f->said[i] != VERDICT_DONE && f->said[i] != VERDICT_GONE) {
			assert_true(f->n_found < FOUND || w->failing);
			if (f->n_found == FOUND)
				f->n_found--, f->found[FOUND - 1][0] = '\0';
			found(w, f, it->path, it->len);
		}
		for (size_t k = r.lo; k < r.hi; k++)
			f->items[k] = f->said[i];
	}
	f->step++;
	begin_step(f);
}

static void work(struct world *w)
{
	struct flight *f = &w->fl[0];
	const struct transport_work *work;

	if (w->n_fl > 1 && f->finished)
		f = &w->fl[1];
	if (w->n_fl == 0 || f->finished)
		return;
	if (!f->planned) {
		make_plan(w, f);
		return;
	}
	work = &f->plan.part[f->step].work;
	if (f->rename_at < work->n_renames)
		work_rename(w, f, work);
	else if (f->at < work->n_items)
		work_item(w, f, work);
	else
		end_step(w, f);
	f->finished = f->step == PLAN_STEPS;
}

/* ---- the daemon ---- */

static void flight_init(struct flight *f, struct batch *b, enum plan_lane lane)
{
	*f = (struct flight){ .b = b, .lane = lane };
	f->items = calloc(b->n_items + 1, sizeof(*f->items));
	f->renames = calloc(b->n_renames + 1, sizeof(*f->renames));
	assert_true(f->items != NULL && f->renames != NULL);
}

static void take(struct world *w)
{
	struct flight *f = &w->fl[w->n_fl];
	struct batch *b;

	if (w->n_fl == 2)
		return;
	b = changeset_take(w->cs, w->now);
	if (b == NULL)
		return;
	flight_init(f, b, w->one_lane ? PLAN_ALL : PLAN_FIRST);
	for (size_t i = 1; i < b->n_items; i++)
		assert_true(path_compare(b->items[i - 1].path, b->items[i - 1].len, b->items[i].path, b->items[i].len) <
			    0);
	w->n_fl++;
	w->batches++;
	TRACE(w, "take %zu renames %zu items\n", b->n_renames, b->n_items);
}

static void flight_done(struct flight *f)
{
	batch_free(f->b);
	plan_done(&f->plan);
	free(f->items);
	free(f->renames);
	free(f->said);
	free(f->mtime);
}

static void flight_drop(struct world *w, int i)
{
	flight_done(&w->fl[i]);
	if (i == 0)
		w->fl[0] = w->fl[1];
	w->n_fl--;
}

/* Verdicts have arrived. The kernel's queue is read before they are believed: a rename that the worker has seen the
 * effect of must be known by then. */
static void believe(struct world *w, struct flight *f)
{
	drain(w);
	TRACE(w, "believe\n");
	for (size_t i = 0; i < f->n_handed; i++)
		changeset_hand_over(w->cs, f->b->id, f->handed[i], strlen(f->handed[i]), w->now);
	f->n_handed = 0;
	for (size_t i = 0; i < f->b->n_renames; i++)
		if (f->renames[i] != VERDICT_NONE && (!w->failing || !chance(w, 3)))
			assert_true(changeset_settle_rename(w->cs, f->b->id, i, f->renames[i], w->now));
	for (size_t i = 0; i < f->b->n_items; i++)
		if (f->items[i] != VERDICT_NONE && (!w->failing || !chance(w, 3)))
			assert_true(changeset_settle(w->cs, f->b->id, i, f->items[i], w->now + 30, w->now));
	for (size_t i = 0; i < f->n_found; i++)
		record(w, CHANGE_RECONCILE, f->found[i], NULL, false, false, w->now + 30);
	f->n_found = 0;
}

static void conclude(struct world *w)
{
	struct flight *f = &w->fl[0];

	if (w->n_fl == 0 || (!f->finished && chance(w, 70)))
		return;
	believe(w, f);
	if (!f->finished)
		return;
	changeset_finish(w->cs, f->b->id, w->now);
	flight_drop(w, 0);
}

/* The worker died, whatever it had done. */
static void die(struct world *w)
{
	drain(w);
	TRACE(w, "die\n");
	while (w->n_fl > 0) {
		changeset_abandon(w->cs, w->fl[0].b->id, w->now);
		flight_drop(w, 0);
	}
}

/* ---- the large lane ---- */

static bool apart(const char *a, size_t a_len, const char *b, size_t b_len)
{
	return !path_within(a, a_len, b, b_len) && !path_within(b, b_len, a, a_len);
}

/* It was told, if the changeset let something large go that it would be in the way of. */
static bool given_back(enum verdict v)
{
	return v != VERDICT_NONE && v != VERDICT_DONE && v != VERDICT_GONE;
}

static bool may_be_beside(const struct batch_item *it, const struct batch_item *large)
{
	if ((it->flags & MARK_ALONE) != 0)
		return false;
	return apart(it->path, it->len, large->path, large->len) ||
	       ((it->flags & (MARK_NAME | MARK_RECURSIVE)) == 0 &&
		path_below(large->path, large->len, it->path, it->len));
}

/* Nothing is in flight in both lanes that changes names within the other's reach. */
static void check_apart(const struct world *w)
{
	const struct batch_item *l = &w->large.b->items[0];

	for (int i = 0; i < w->n_fl; i++) {
		const struct batch *b = w->fl[i].b;

		for (size_t k = 0; k < b->n_items; k++)
			assert_true(given_back(w->fl[i].items[k]) || may_be_beside(&b->items[k], l));
		for (size_t k = 0; k < b->n_renames; k++)
			assert_true(w->fl[i].renames[k] != VERDICT_NONE ||
				    (apart(b->renames[k].from, b->renames[k].from_len, l->path, l->len) &&
				     apart(b->renames[k].to, b->renames[k].to_len, l->path, l->len)));
	}
}

static void take_large(struct world *w)
{
	struct batch *b;

	if (w->one_lane) {
		changeset_close_large(w->cs);
		return;
	}
	b = w->has_large ? NULL : changeset_take_large(w->cs, w->now);
	if (b == NULL)
		return;
	assert_true(b->n_items == 1 && b->n_renames == 0);
	flight_init(&w->large, b, PLAN_LARGE);
	w->has_large = true;
	w->larges++;
	w->beside += w->n_fl > 0;
	TRACE(w, "take large %.*s\n", (int)b->items[0].len, b->items[0].path);
	check_apart(w);
}

/* Directories on the way are made, whatever the source says. */
static int force_parents(struct world *w, const char *p, size_t len)
{
	int d = 1;

	for (size_t at = 0; at + 1 < len; at += 2) {
		int n = p[at] - 'a', c = w->dst.ino[d].child[n];

		if (c != 0 && w->dst.ino[c].type != DIR_T)
			cut_all(&w->dst, d, n);
		if (w->dst.ino[d].child[n] == 0)
			put(&w->dst, d, n, inode_new(&w->dst, DIR_T, 0, 7));
		d = w->dst.ino[d].child[n];
	}
	return d;
}

static void work_large(struct world *w)
{
	struct flight *f = &w->large;
	const struct batch_item *it;
	int dir, name, s, d;

	if (!w->has_large || f->finished)
		return;
	it = &f->b->items[0];
	if (!f->planned) {
		make_plan(w, f);
		assert_true(f->plan.part[PLAN_APPLY].work.n_items <= 1);
		f->finished = f->plan.part[PLAN_APPLY].work.n_items == 0;
		return;
	}
	s = walk(&w->src, it->path, it->len, &dir, &name);
	if (f->phase++ == 0) {
		f->content = w->src.ino[s].content;
		f->mode = w->src.ino[s].mode;
		f->finished = w->src.ino[s].type != FILE_T;
		f->items[0] = f->finished ? VERDICT_GONE : VERDICT_NONE;
		return;
	}
	if (f->phase == 2 && chance(w, 50))
		(void)force_parents(w, it->path, it->len);
	if (chance(w, 60))
		return;
	f->finished = true;
	f->items[0] = w->failing && chance(w, 10) ? VERDICT_RETRY : VERDICT_DONE;
	if (f->items[0] != VERDICT_DONE && chance(w, 50))
		return;
	dir = force_parents(w, it->path, it->len);
	name = it->path[it->len - 1] - 'a';
	if (w->dst.ino[w->dst.ino[dir].child[name]].type != FILE_T)
		cut_all(&w->dst, dir, name);
	d = w->dst.ino[dir].child[name];
	if (d == 0)
		put(&w->dst, dir, name, d = inode_new(&w->dst, FILE_T, 0, 0));
	w->dst.ino[dir].mtime = ++w->dst.clock;
	w->dst.ino[d].content = f->content;
	w->dst.ino[d].mode = f->mode;
	TRACE(w, "  large work %.*s: %s\n", (int)it->len, it->path, verdict_name(f->items[0]));
}

static void large_over(struct world *w)
{
	flight_done(&w->large);
	w->has_large = false;
}

static void conclude_large(struct world *w)
{
	struct flight *f = &w->large;

	if (!w->has_large)
		return;
	check_apart(w);
	if (!f->finished && w->failing && chance(w, 4)) {
		drain(w);
		TRACE(w, "die large\n");
		changeset_abandon(w->cs, f->b->id, w->now);
		large_over(w);
	} else if (!f->finished && changeset_large_holds_up(w->cs) != CHANGESET_NOTHING && chance(w, 30)) {
		drain(w);
		TRACE(w, "cancel large\n");
		w->cancels++;
		changeset_cancel(w->cs, f->b->id, w->now + 30, w->now);
		large_over(w);
	} else if (f->finished) {
		believe(w, f);
		changeset_finish(w->cs, f->b->id, w->now);
		large_over(w);
	}
}

static void background(struct world *w)
{
	uint32_t what = rnd(w, 100);

	if (what < 30)
		for (uint32_t n = rnd(w, 6); n > 0 && w->head != w->tail; n--)
			read_event(w);
	else if (what < 34)
		drain(w);
	else if (what < 43)
		take(w);
	else if (what < 48)
		take_large(w);
	else if (what < 77)
		for (uint32_t n = rnd(w, 8); n > 0; n--)
			work(w);
	else if (what < 81)
		work_large(w);
	else if (what < 95)
		conclude(w);
	else if (what < 98)
		conclude_large(w);
	else if (what == 98)
		chance(w, 40) ? die(w) : (void)w->gen++;
	else if (chance(w, 10))
		overflow(w);
}

static bool quiesce(struct world *w, int *rounds)
{
	w->failing = false;
	drain(w);
	for (*rounds = 0; *rounds < 30; (*rounds)++) {
		changeset_release_holds(w->cs);
		changeset_release_retries(w->cs);
		take(w);
		take_large(w);
		if (w->n_fl == 0 && !w->has_large)
			break;
		while (w->n_fl > 0 || w->has_large) {
			work(w);
			conclude(w);
			work_large(w);
			conclude_large(w);
			take(w);
		}
	}
	w->failing = true;
	return w->n_fl == 0 && changeset_pending(w->cs) == 0 && changeset_in_flight(w->cs) == 0 &&
	       changeset_pending_renames(w->cs) == 0 && changeset_served(w->cs, w->gen) && changeset_check(w->cs) &&
	       same(w, 1, 1);
}

struct totals {
	unsigned long ops, carried, reconciled, batches, collapses, larges, beside, cancels, handed;
};

/* One world, one sequence of operations and one quiescence, twice. */
static bool run(uint64_t seed, unsigned ops, bool trace, struct totals *sum)
{
	struct world w = {
		.rng = seed * UINT64_C(0x9e3779b97f4a7c15) + 1, .gen = 1, .failing = true, .tracing = trace
	};
	struct changeset_limits limits = { 10000, 1000, 10000, 1u << 20 };
	bool ok = true;
	int rounds = 0;

	for (int i = 0; i < 5; i++)
		rnd(&w, 2);
	if (chance(&w, 20))
		limits.max_pending = 4 + rnd(&w, 12);
	if (chance(&w, 20))
		limits.max_renames = rnd(&w, 4);
	if (chance(&w, 40))
		limits.batch_items = 1 + rnd(&w, 6);
	w.calm = chance(&w, 10);
	w.one_lane = chance(&w, 20);
	tree_init(&w.src, 1);
	tree_init(&w.dst, 1ul << 40);
	w.queue = calloc(QUEUE, sizeof(*w.queue));
	w.cs = changeset_new(&limits);
	w.filter = filter_new();
	assert_true(w.queue != NULL && w.cs != NULL && w.filter != NULL);
	for (unsigned i = 0; ok && i < ops; i++) {
		operate(&w);
		for (uint32_t n = rnd(&w, w.calm ? 40 : 5); n > 0; n--)
			background(&w);
		ok = changeset_check(w.cs);
		if (ok && i == ops / 2)
			ok = quiesce(&w, &rounds);
	}
	ok = ok && quiesce(&w, &rounds);
	if (!ok && trace) {
		print_message("source:\n");
		dump(&w.src, 1, 1);
		print_message("target:\n");
		dump(&w.dst, 1, 1);
		print_message("rounds %d pending %zu served %d check %d\n", rounds, changeset_pending(w.cs),
			      changeset_served(w.cs, w.gen), changeset_check(w.cs));
	}
	if (sum != NULL) {
		sum->ops += ops;
		sum->carried += w.carried;
		sum->reconciled += w.reconciled_renames;
		sum->batches += w.batches;
		sum->larges += w.larges;
		sum->beside += w.beside;
		sum->cancels += w.cancels;
		sum->handed += w.handed;
		sum->collapses += changeset_collapses(w.cs);
	}
	while (w.n_fl > 0)
		flight_drop(&w, 0);
	if (w.has_large)
		large_over(&w);
	changeset_free(w.cs);
	filter_free(w.filter);
	free(w.queue);
	free(w.src.ino);
	free(w.dst.ino);
	return ok;
}

static uint64_t env_number(const char *name, uint64_t otherwise)
{
	const char *s = getenv(name);

	return s != NULL ? strtoull(s, NULL, 10) : otherwise;
}

static void test_model(void **state)
{
	uint64_t seed = env_number("SEED", 20240501), rounds = env_number("ROUNDS", 1);
	struct totals sum = { 0 };

	(void)state;
	print_message("SEED=%llu\n", (unsigned long long)seed);
	for (uint64_t i = env_number("FIRST", 0); sum.ops < 1000000 * rounds; i++) {
		unsigned ops = 20 + (unsigned)(i * 37 % 140), least = 1;

		if (run(seed * 1000003 + i, ops, false, &sum))
			continue;
		while (least < ops && run(seed * 1000003 + i, least, false, NULL))
			least++;
		print_message("failed: world %llu, %u operations\n", (unsigned long long)i, least);
		run(seed * 1000003 + i, least, true, NULL);
		fail();
	}
	print_message("%lu operations, %lu batches, %lu renames carried, %lu not done by the target, %lu collapses\n",
		      sum.ops, sum.batches, sum.carried, sum.reconciled, sum.collapses);
	print_message("%lu large files, %lu of them begun beside a batch, %lu broken off, %lu left by comparisons\n",
		      sum.larges, sum.beside, sum.cancels, sum.handed);
	assert_true(sum.carried > sum.ops / 100);
	assert_true(sum.larges > sum.ops / 100 && sum.beside > 0 && sum.cancels > 0 && sum.handed > 0);
	assert_true(sum.collapses > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_model) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
