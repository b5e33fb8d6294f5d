/* LINK: core/safe_open.c core/watcher.c core/watch_count.c core/watch_fanotify.c core/watch_fanotify_events.c
 * core/watch_fanotify_mounts.c */
/* LINK: core/watch_links.c core/look.c */
/* LINK: core/watch_fanotify_resolve.c core/fan_cache.c core/mounts.c core/path.c core/err.c core/buf.c core/loop.c */
/* LINK: core/clock.c core/log.c core/utf8.c core/watch_inotify.c core/watch_inotify_events.c */
/* LINK: core/watch_inotify_walk.c core/watch_tree.c */
/*
 * Whatever happens below a source, the records account for it: a mirror that follows the exact renames and looks again
 * at the names in the records ends up as the source. Also while inotify takes over from fanotify, and back, in the
 * midst of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/path.h"
#include "core/watch_backend.h"

#define SOURCES 2

struct entry {
	char *path;
	mode_t mode;
	ino_t ino;
	uint64_t hash;
	struct timespec mtime;
};

struct tree {
	struct entry *list;
	size_t n, cap;
};

/* A name to be looked at again, perhaps with all below it. */
struct mark {
	char *path;
	bool deep;
	bool named; /* something may have come to stand there, or gone from there */
};

struct mirror {
	struct tree tree;
	struct mark *marks;
	size_t n, cap;
	uint64_t records, exact, inexact, reconciles, whole;
};

struct world {
	char base[256], src[SOURCES][300];
	int root[SOURCES];
	struct loop *loop;
	struct watcher_set *ws;
	struct watched *w[SOURCES];
	struct mirror m[SOURCES];
	uint64_t rng;
	bool hide, limited, verbose, switching;
	uint64_t overflows; /* records that say so */
};

static uint64_t rnd(struct world *wd, uint64_t n)
{
	wd->rng ^= wd->rng << 13;
	wd->rng ^= wd->rng >> 7;
	wd->rng ^= wd->rng << 17;
	return (wd->rng >> 11) % n;
}

static void die(const char *what)
{
	perror(what);
	abort();
}

/* ---- trees ---- */

static struct entry *find(struct tree *t, const char *path)
{
	for (size_t i = 0; i < t->n; i++)
		if (strcmp(t->list[i].path, path) == 0)
			return &t->list[i];
	return NULL;
}

static struct entry *grow(struct tree *t, const char *path)
{
	if (t->n == t->cap) {
		t->cap = t->cap * 2 + 64;
		t->list = realloc(t->list, t->cap * sizeof(*t->list));
	}
	t->list[t->n] = (struct entry){ .path = strdup(path) };
	return &t->list[t->n++];
}

static void tree_done(struct tree *t)
{
	for (size_t i = 0; i < t->n; i++)
		free(t->list[i].path);
	free(t->list);
	*t = (struct tree){ 0 };
}

static uint64_t content(const char *path, const struct stat *st)
{
	uint64_t h = 1469598103934665603u;
	char buf[4096];
	ssize_t n = 0;
	int fd;

	if (S_ISLNK(st->st_mode)) {
		n = readlink(path, buf, sizeof(buf));
	} else if (S_ISREG(st->st_mode)) {
		fd = open(path, O_RDONLY | O_CLOEXEC);
		n = read(fd, buf, sizeof(buf));
		close(fd);
	}
	for (ssize_t i = 0; i < n; i++)
		h = (h ^ (unsigned char)buf[i]) * 1099511628211u;
	return h;
}

static struct tree *scanned;
static size_t scan_skip;

static int scan_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
	struct entry *e;

	(void)type;
	if (f->level == 0)
		return 0;
	e = grow(scanned, path + scan_skip);
	e->mode = st->st_mode;
	e->ino = st->st_ino;
	e->hash = content(path, st);
	if (!S_ISDIR(st->st_mode))
		e->mtime = st->st_mtim;
	return 0;
}

static void scan(const char *root, struct tree *t)
{
	*t = (struct tree){ 0 };
	scanned = t;
	scan_skip = strlen(root) + 1;
	if (nftw(root, scan_one, 16, FTW_PHYS) != 0)
		die("nftw");
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
	(void)st;
	(void)type;
	(void)f;
	return remove(path);
}

static void remove_all(const char *path)
{
	nftw(path, remove_one, 16, FTW_PHYS | FTW_DEPTH);
}

/* ---- the mirror ---- */

static void mark_as(struct mirror *m, const char *path, bool deep, bool named)
{
	for (size_t i = 0; i < m->n; i++) {
		if (strcmp(m->marks[i].path, path) == 0) {
			m->marks[i].deep = m->marks[i].deep || deep;
			m->marks[i].named = m->marks[i].named || named;
			return;
		}
	}
	if (m->n == m->cap) {
		m->cap = m->cap * 2 + 64;
		m->marks = realloc(m->marks, m->cap * sizeof(*m->marks));
	}
	m->marks[m->n++] = (struct mark){ .path = strdup(path), .deep = deep, .named = named };
}

static void mark(struct mirror *m, const char *path, bool deep)
{
	mark_as(m, path, deep, false);
}

static bool within(const char *p, const char *dir)
{
	return path_within(p, strlen(p), dir, strlen(dir));
}

static char *moved(const char *p, const char *from, const char *to)
{
	char *out = NULL;

	if (asprintf(&out, "%s%s", to, p + strlen(from)) < 0)
		die("asprintf");
	return out;
}

/* Marks are copied, never removed. */
static void copy_marks(struct mirror *m, const char *from, const char *to)
{
	for (size_t i = 0, n = m->n; i < n; i++) {
		if (within(m->marks[i].path, from)) {
			char *p = moved(m->marks[i].path, from, to);

			mark_as(m, p, m->marks[i].deep, m->marks[i].named);
			free(p);
		} else if (m->marks[i].deep && within(from, m->marks[i].path)) {
			mark_as(m, to, true, m->marks[i].named);
		}
	}
}

/* As the changeset has it: what was made here since the mirror was right is not moved there. */
static bool is_doubtful(const struct mirror *m, const char *path)
{
	for (size_t i = 0; i < m->n; i++)
		if (m->marks[i].named && within(path, m->marks[i].path))
			return true;
	return false;
}

static void mirror_rename(struct mirror *m, const char *from, const char *to, bool is_dir)
{
	bool overwritten = false;
	size_t kept = 0;

	if (within(to, from) || within(from, to))
		return;
	for (size_t i = 0; i < m->tree.n; i++) {
		struct entry *e = &m->tree.list[i];

		if (!within(e->path, to)) {
			m->tree.list[kept++] = *e;
			continue;
		}
		overwritten = overwritten || is_dir || S_ISDIR(e->mode);
		free(e->path);
	}
	m->tree.n = kept;
	for (size_t i = 0; i < m->tree.n; i++) {
		struct entry *e = &m->tree.list[i];

		if (within(e->path, from)) {
			char *p = moved(e->path, from, to);

			free(e->path);
			e->path = p;
		}
	}
	/* What stood there is gone as a whole: an exchange needs the look at all of it. */
	if (overwritten)
		mark(m, to, true);
}

static void on_record(void *ctx, struct watched *source, const struct change *c)
{
	struct world *wd = ctx;
	struct mirror *m = &wd->m[source == wd->w[0] ? 0 : 1];
	bool usable;

	m->records++;
	/* Then only the last one is of interest. */
	while (wd->limited && m->n > 0)
		free(m->marks[--m->n].path);
	if (wd->verbose)
		printf("  %d %s%s%s%s dir=%d exact=%d %s\n", c->kind, c->old_path ? c->old_path : "",
		       c->old_path ? " -> " : "", c->path, c->path[0] ? "" : ".", c->is_dir, c->exact,
		       c->cause ? c->cause : "");
	switch (c->kind) {
	case CHANGE_RECONCILE:
		m->reconciles++;
		m->whole += c->path_len == 0;
		wd->overflows += strcmp(c->cause, "overflow") == 0 && c->path_len == 0;
		mark_as(m, c->path, true, true);
		break;
	case CHANGE_DELETE:
		mark_as(m, c->path, true, true);
		break;
	case CHANGE_RENAME:
		m->exact += c->exact;
		m->inexact += !c->exact;
		usable = c->exact && !is_doubtful(m, c->old_path) && find(&m->tree, c->old_path) != NULL;
		copy_marks(m, c->old_path, c->path);
		mark_as(m, c->old_path, !usable, !usable);
		mark_as(m, c->path, !usable, !usable);
		if (usable)
			mirror_rename(m, c->old_path, c->path, c->is_dir);
		break;
	case CHANGE_CREATE:
		mark_as(m, c->path, false, true);
		break;
	default:
		mark(m, c->path, false);
	}
}

static void on_state(void *ctx, struct watched *source, enum watched_state state, const char *why)
{
	(void)ctx;
	(void)source;
	fprintf(stderr, "state %d: %s\n", state, why);
	abort();
}

static bool covered(const struct mirror *m, const char *path)
{
	for (size_t i = 0; i < m->n; i++)
		if (strcmp(m->marks[i].path, path) == 0 || (m->marks[i].deep && within(path, m->marks[i].path)))
			return true;
	return false;
}

static bool same(const struct entry *a, const struct entry *b)
{
	return a->mode == b->mode && a->ino == b->ino && a->hash == b->hash && a->mtime.tv_sec == b->mtime.tv_sec &&
	       a->mtime.tv_nsec == b->mtime.tv_nsec;
}

static int compare(struct mirror *m, struct tree *now, const char *name)
{
	int bad = 0;

	for (size_t i = 0; i < now->n; i++) {
		const struct entry *e = find(&m->tree, now->list[i].path);

		if ((e == NULL || !same(e, &now->list[i])) && !covered(m, now->list[i].path)) {
			printf("%s: %s: %s, and no record says so\n", name, now->list[i].path,
			       e == NULL ? "is new" : "differs");
			bad++;
		}
	}
	for (size_t i = 0; i < m->tree.n; i++) {
		if (find(now, m->tree.list[i].path) == NULL && !covered(m, m->tree.list[i].path)) {
			printf("%s: %s: is gone, and no record says so\n", name, m->tree.list[i].path);
			bad++;
		}
	}
	return bad;
}

/* ---- what happens ---- */

static void random_path(struct world *wd, char *out, size_t size, bool dir)
{
	size_t n = (size_t)snprintf(out, size, "%s/%s", wd->base, rnd(wd, 6) == 0 ? "out" : "in");

	for (uint64_t depth = rnd(wd, 4); depth > 0; depth--)
		n += (size_t)snprintf(out + n, size - n, "/%c", (char)('a' + (int)rnd(wd, 3)));
	if (dir)
		snprintf(out + n, size - n, "/%c", (char)('a' + (int)rnd(wd, 3)));
	else
		snprintf(out + n, size - n, "/f%c", (char)('0' + (int)rnd(wd, 3)));
}

/* The second source lies in the first: that one must stay where it is. */
static bool touches_root(const struct world *wd, const char *p)
{
	return within(wd->src[1] + 1, p + 1);
}

static void write_file(struct world *wd, const char *p)
{
	int fd = open(p, O_WRONLY | O_CREAT | (rnd(wd, 2) ? O_TRUNC : O_APPEND) | O_CLOEXEC, 0644);

	if (fd < 0)
		return;
	if (dprintf(fd, "%llu", (unsigned long long)rnd(wd, UINT64_MAX)) < 0)
		die("write");
	close(fd);
}

static void one_operation(struct world *wd)
{
	char a[512], b[512];
	uint64_t what = rnd(wd, 24);
	bool dir = what >= 10;

	random_path(wd, a, sizeof(a), dir);
	random_path(wd, b, sizeof(b), dir);
	if (touches_root(wd, a) || touches_root(wd, b))
		return;
	if (what < 4)
		write_file(wd, a);
	else if (what == 4)
		(void)!chmod(a, rnd(wd, 2) ? 0600 : 0644);
	else if (what == 5)
		(void)!unlink(a);
	else if (what == 6)
		(void)!symlink(b, a);
	else if (what < 10)
		(void)!rename(a, b);
	else if (what < 15)
		(void)!mkdir(a, 0755);
	else if (what == 15)
		(void)!rmdir(a);
	else if (what == 16)
		(void)!chmod(a, rnd(wd, 2) ? 0700 : 0755);
	else if (what == 17)
		remove_all(a);
	else if (what == 18)
		(void)!renameat2(AT_FDCWD, a, AT_FDCWD, b, 1u << 1);
	else
		(void)!rename(a, b);
}

static pid_t start_child(struct world *wd, uint64_t ops)
{
	uint64_t seed = rnd(wd, UINT64_MAX) | 1;
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid > 0)
		return pid;
	wd->rng = seed;
	while (ops-- > 0)
		one_operation(wd);
	_exit(0);
}

static void begin(struct world *wd, int i)
{
	struct mirror *m = &wd->m[i];

	for (size_t k = 0; k < m->n; k++)
		free(m->marks[k].path);
	m->n = 0;
	tree_done(&m->tree);
	scan(wd->src[i], &m->tree);
}

/* Now and then the other watcher takes over; in the first turn of a round always, as a short one has no second. */
static void turn(struct world *wd, bool first)
{
	struct err err = ERR_INIT;

	if (wd->switching && (first || rnd(wd, 8) == 0) && watch_change_over(wd->w[rnd(wd, SOURCES)], &err) < 0)
		die(err.text);
	if (rnd(wd, 3) == 0 ? watcher_drain(wd->ws, &err) < 0 : loop_once(wd->loop, (int)rnd(wd, 2), &err) < 0)
		die(err.text);
}

static int round_of(struct world *wd, uint64_t ops)
{
	struct err err = ERR_INIT;
	int status, bad = 0;
	bool first = true;
	pid_t pid;

	for (int i = 0; i < SOURCES; i++)
		begin(wd, i);
	pid = start_child(wd, ops);
	do {
		turn(wd, first);
		first = false;
	} while (waitpid(pid, &status, WNOHANG) == 0);
	if (status != 0 || watcher_drain(wd->ws, &err) < 0)
		die("round");
	for (int i = 0; i < SOURCES; i++) {
		struct tree now;

		scan(wd->src[i], &now);
		bad += compare(&wd->m[i], &now, i == 0 ? "outer" : "inner");
		tree_done(&now);
	}
	return bad;
}

static bool add(struct world *wd, int i)
{
	struct err err = ERR_INIT;
	struct watch_request rq = { .path = wd->src[i], .choice = WATCHER_FANOTIFY };

	wd->root[i] = open(wd->src[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
	rq.root_fd = wd->root[i];
	wd->w[i] = watcher_add(wd->ws, &rq, NULL, &err);
	if (wd->w[i] == NULL)
		printf("%s: %s\n", wd->src[i], err.text);
	return wd->w[i] != NULL;
}

static bool make_world(struct world *wd, const char *where)
{
	static const struct watcher_callbacks cb = { .record = on_record, .state = on_state };
	struct watcher_settings s = { .hide_fan_rename = wd->hide, .fanotify_queue = wd->limited };
	struct watcher_callbacks mine = cb;
	struct err err = ERR_INIT;
	char out[300];

	snprintf(wd->base, sizeof(wd->base), "%s/fanotify.XXXXXX", where);
	if (mkdtemp(wd->base) == NULL)
		die("mkdtemp");
	snprintf(out, sizeof(out), "%s/out", wd->base);
	snprintf(wd->src[0], sizeof(wd->src[0]), "%s/in", wd->base);
	snprintf(wd->src[1], sizeof(wd->src[1]), "%s/in/a", wd->base);
	if (mkdir(out, 0755) < 0 || mkdir(wd->src[0], 0755) < 0 || mkdir(wd->src[1], 0755) < 0)
		die("mkdir");
	mine.ctx = wd;
	wd->loop = loop_new(&err);
	wd->ws = watcher_set_new(wd->loop, &s, &mine, &err);
	return add(wd, 0) && add(wd, 1);
}

static void end_world(struct world *wd)
{
	watcher_set_free(wd->ws);
	loop_free(wd->loop);
	for (int i = 0; i < SOURCES; i++) {
		for (size_t k = 0; k < wd->m[i].n; k++)
			free(wd->m[i].marks[k].path);
		free(wd->m[i].marks);
		tree_done(&wd->m[i].tree);
		close(wd->root[i]);
	}
	remove_all(wd->base);
}

/* 0: fine, 1: not, 77: cannot be tried. */
static int run(const char *where, bool hide, bool switching, uint64_t seed, uint64_t rounds)
{
	struct world wd = { .rng = seed * 2654435761u | 1,
			    .hide = hide,
			    .switching = switching,
			    .verbose = getenv("VERBOSE") != NULL };
	unsigned changeovers = 0;
	int bad = 0, rc = 77;

	if (make_world(&wd, where)) {
		for (uint64_t i = 0; i < rounds && bad == 0; i++) {
			bad = round_of(&wd, i % 8 == 7 ? 1500 : 5 + rnd(&wd, 60));
			if (bad > 0)
				printf("round %llu\n", (unsigned long long)i);
		}
		changeovers = wd.w[0]->changeovers + wd.w[1]->changeovers;
		printf("%s%s: %llu records, renames %llu exact, %llu not, %llu reconciles, %llu of all, %u "
		       "change-overs\n",
		       where, hide ? " without FAN_RENAME" : "", (unsigned long long)wd.m[0].records,
		       (unsigned long long)wd.m[0].exact, (unsigned long long)wd.m[0].inexact,
		       (unsigned long long)wd.m[0].reconciles, (unsigned long long)wd.m[0].whole, changeovers);
		/* Silence, or reconciles of everything, would explain all changes too. */
		rc = bad > 0 || wd.m[0].records < rounds || (!hide && wd.m[0].exact < rounds / 2);
		if (switching && (changeovers < rounds || wd.m[0].whole + wd.m[1].whole > changeovers / 4))
			rc = 1;
	}
	end_world(&wd);
	return rc;
}

/* More than the kernel's queue holds, unread: every source is told, and what comes after is heard again. */
static int overflow(void)
{
	struct world wd = { .rng = 1, .limited = true };
	struct watched_info info = { 0 };
	struct err err = ERR_INIT;
	char name[600];
	long limit = 16384;
	FILE *f = fopen("/proc/sys/fs/fanotify/max_queued_events", "re");
	int rc = 77;

	if (f != NULL && fscanf(f, "%ld", &limit) != 1)
		limit = 16384;
	if (f != NULL)
		fclose(f);
	if (limit > 200000)
		return 0;
	if (make_world(&wd, "/dev/shm")) {
		for (long i = 0; i < limit + 100; i++) {
			snprintf(name, sizeof(name), "%s/%ld", wd.src[0], i);
			close(open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
		}
		watcher_drain(wd.ws, &err);
		watched_info(wd.w[0], &info);
		rc = wd.overflows != SOURCES || info.overflows != 1;
		snprintf(name, sizeof(name), "%s/after", wd.src[0]);
		mkdir(name, 0755);
		watcher_drain(wd.ws, &err);
		rc |= wd.m[0].n == 0 || strcmp(wd.m[0].marks[wd.m[0].n - 1].path, "after") != 0;
		printf("overflow: %llu told, %s\n", (unsigned long long)wd.overflows,
		       rc == 0 ? "heard again" : "wrong");
	}
	end_world(&wd);
	return rc;
}

int main(void)
{
	const char *seed_text = getenv("SEED"), *rounds_text = getenv("ROUNDS"), *dir = getenv("TESTDIR");
	uint64_t seed = seed_text != NULL ? strtoull(seed_text, NULL, 10) : (uint64_t)getpid();
	uint64_t rounds = 24 * (rounds_text != NULL ? strtoull(rounds_text, NULL, 10) : 1);
	int rc = 0, r;

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("seed %llu\n", (unsigned long long)seed);
	for (int i = 0; i < 6 && rc == 0; i++) {
		r = run(i % 2 == 0    ? "/dev/shm"
			: dir != NULL ? dir
				      : "/var/tmp",
			i / 2 == 1, i / 2 == 2, seed + (uint64_t)i, rounds);
		rc = r;
	}
	if (rc == 0)
		rc = overflow();
	if (rc == 77)
		printf("skipped: fanotify cannot be used here\n");
	return rc;
}
