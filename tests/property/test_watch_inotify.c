/* LINK: core/safe_open.c core/watcher.c core/watch_count.c core/watch_inotify.c core/watch_inotify_walk.c
 * core/watch_inotify_events.c core/watch_tree.c */
/* LINK: core/watch_links.c core/look.c */
/* LINK: core/path.c core/err.c core/buf.c core/clock.c core/loop.c core/log.c core/utf8.c */
/*
 * The inotify watcher against a child that changes the tree at full speed. The records of a round are played on what
 * was there before it, as a target would: renames are carried, everything else only marks where to look. In the end
 * every path that differs from the source must be marked, and every directory must be watched under its right name.
 * SEED repeats a run (its operations; not the timing), ROUNDS multiplies the seeds, TRACE=1 prints every record.
 *
 * Both times are always set: with the modification time alone, as with truncate(2), the kernel says IN_MODIFY and not
 * more, which is asked for only where open files are followed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/watcher.h"

#define PATH_ROOM 256
#define PROBE ".probe"

static uint64_t next_random(uint64_t *s)
{
	uint64_t z = (*s += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static unsigned below(uint64_t *s, unsigned n)
{
	return (unsigned)(next_random(s) % n);
}

/* ---- the model: what a target would hold, and where it would look ---- */

struct entry {
	char path[PATH_ROOM];
	uint64_t state; /* 0: not there */
	bool is_dir, mark, deep;
	int said; /* what the last record says of it: 1 there, -1 not there */
};

struct model {
	struct entry *v;
	size_t n, cap;
	char swap_a[PATH_ROOM], swap_b[PATH_ROOM]; /* the last record was a rename of a to b */
	bool swap_onto, swap_dir;		   /* b was there, as far as is known; a was a directory */
};

static struct entry *entry_get(struct model *m, const char *path)
{
	for (size_t i = 0; i < m->n; i++)
		if (strcmp(m->v[i].path, path) == 0)
			return &m->v[i];
	if (m->n == m->cap) {
		m->cap = m->cap * 2 + 64;
		m->v = realloc(m->v, m->cap * sizeof(*m->v));
		assert_non_null(m->v);
	}
	m->v[m->n] = (struct entry){ .state = 0 };
	(void)snprintf(m->v[m->n].path, PATH_ROOM, "%s", path);
	return &m->v[m->n++];
}

static const struct entry *entry_find(const struct model *m, const char *path)
{
	for (size_t i = 0; i < m->n; i++)
		if (strcmp(m->v[i].path, path) == 0)
			return &m->v[i];
	return NULL;
}

/* What is left of `path` at or below `top`; NULL when it lies elsewhere. */
static const char *rest_below(const char *path, const char *top)
{
	size_t n = strlen(top);

	if (n == 0)
		return path;
	return strncmp(path, top, n) == 0 && (path[n] == '/' || path[n] == '\0') ? path + n : NULL;
}

/* Whether a subtree that holds the path is to be compared as a whole. */
static bool deep_at(const struct model *m, const char *path)
{
	for (size_t i = 0; i < m->n; i++)
		if (m->v[i].deep && rest_below(path, m->v[i].path) != NULL)
			return true;
	return false;
}

/* What is gone leaves its marks: they may be of what stands there now, because a walk runs ahead of the queue. */
static void model_delete(struct model *m, const char *path)
{
	for (size_t i = 0; i < m->n; i++)
		if (rest_below(m->v[i].path, path) != NULL) {
			m->v[i].state = 0;
			m->v[i].said = -1;
		}
	entry_get(m, path)->mark = true;
	entry_get(m, path)->said = -1;
}

/* Take the subtree's objects out of the model; the marks stay, and are taken along. */
static struct model model_take(struct model *m, const char *top)
{
	struct model out = { .n = 0 };

	for (size_t i = 0; i < m->n; i++) {
		struct entry *e = &m->v[i];
		const char *rest = rest_below(e->path, top);

		if (rest == NULL)
			continue;
		*entry_get(&out, rest) = *e;
		(void)snprintf(out.v[out.n - 1].path, PATH_ROOM, "%s", rest);
		e->state = 0;
		e->said = -1;
	}
	return out;
}

static void model_put(struct model *m, const char *top, struct model *in)
{
	for (size_t i = 0; i < in->n; i++) {
		char path[2 * PATH_ROOM];
		struct entry *e;

		(void)snprintf(path, sizeof(path), "%s%s", top, in->v[i].path);
		assert_true(strlen(path) < PATH_ROOM);
		e = entry_get(m, path);
		e->mark = e->mark || in->v[i].mark;
		e->deep = e->deep || in->v[i].deep;
		e->said = in->v[i].said;
		if (in->v[i].state != 0) {
			e->state = in->v[i].state;
			e->is_dir = in->v[i].is_dir;
		}
	}
	free(in->v);
}

static bool is_there(const struct entry *e)
{
	return e->said > 0 || (e->said == 0 && e->state != 0);
}

/* A rename onto something is taken for the first half of an exchange, until the next record says otherwise. What comes
 * back as another kind of thing tells of an exchange, too. */
static void model_rename(struct model *m, const char *old, const char *new, bool is_dir)
{
	bool deep = deep_at(m, old), back = strcmp(m->swap_a, new) == 0 && strcmp(m->swap_b, old) == 0 &&
					    (m->swap_onto || m->swap_dir != is_dir);
	bool onto = is_there(entry_get(m, new)), new_deep = deep_at(m, new);
	struct model a, b;

	m->swap_a[0] = m->swap_b[0] = '\0';
	if (!back) {
		a = model_take(m, old);
		b = model_take(m, new);
		model_put(m, new, &a);
		model_put(m, old, &b);
		(void)snprintf(m->swap_a, PATH_ROOM, "%s", old);
		(void)snprintf(m->swap_b, PATH_ROOM, "%s", new);
		m->swap_onto = onto;
		m->swap_dir = is_dir;
	}
	entry_get(m, old)->mark = true;
	entry_get(m, old)->said = back ? 1 : -1;
	entry_get(m, new)->mark = true;
	entry_get(m, new)->said = 1;
	if (deep)
		entry_get(m, new)->deep = true;
	if (new_deep && onto)
		entry_get(m, old)->deep = true;
}

static void model_clear(struct model *m)
{
	free(m->v);
	*m = (struct model){ .n = 0 };
}

/* ---- snapshots ---- */

static uint64_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * 0xd6e8feb86659fd93u;
	return h ^ (h >> 29);
}

static uint64_t content(int at, const char *name, mode_t type)
{
	char data[4096];
	uint64_t h = 1;
	ssize_t n;
	int fd;

	if (S_ISLNK(type)) {
		n = readlinkat(at, name, data, sizeof(data));
		for (ssize_t i = 0; i < n; i++)
			h = mix(h, (unsigned char)data[i]);
		return h;
	}
	fd = openat(at, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	assert_true(fd >= 0);
	while ((n = read(fd, data, sizeof(data))) > 0)
		for (ssize_t i = 0; i < n; i++)
			h = mix(h, (unsigned char)data[i]);
	(void)close(fd);
	return h;
}

static void snapshot(int fd, const char *prefix, struct model *out)
{
	DIR *d = fdopendir(fd);
	const struct dirent *e;

	assert_non_null(d);
	while ((e = readdir(d)) != NULL) {
		char path[2 * PATH_ROOM + 256];
		struct stat st;
		uint64_t h;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		(void)snprintf(path, sizeof(path), "%s%s%s", prefix, *prefix == '\0' ? "" : "/", e->d_name);
		assert_int_equal(fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW), 0);
		h = mix(7, st.st_mode);
		if (!S_ISDIR(st.st_mode)) {
			h = mix(mix(h, (uint64_t)st.st_mtim.tv_sec), (uint64_t)st.st_mtim.tv_nsec);
			h = mix(h, content(dirfd(d), e->d_name, st.st_mode));
		}
		entry_get(out, path)->is_dir = S_ISDIR(st.st_mode);
		entry_get(out, path)->state = h | 1;
		if (S_ISDIR(st.st_mode))
			snapshot(openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), path,
				 out);
	}
	(void)closedir(d);
}

/* ---- what the child does ---- */

static void random_path(uint64_t *s, char *out)
{
	static const char *const tops[] = { "r", "r", "r", "r", "r", "r", "o" };
	unsigned depth = 1 + below(s, 4);
	int n = snprintf(out, PATH_ROOM, "%s", tops[below(s, 7)]);

	for (unsigned i = 0; i < depth; i++)
		n += snprintf(out + n, PATH_ROOM - (size_t)n, "/%c", (int)('a' + (int)below(s, 4)));
}

static void write_file(uint64_t *s, const char *path, int flags)
{
	char data[64];
	size_t n = below(s, sizeof(data));
	int fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC | flags, 0644);

	if (fd < 0)
		return;
	for (size_t i = 0; i < n; i++)
		data[i] = (char)next_random(s);
	if (write(fd, data, n) < 0 || (below(s, 8) == 0 && ftruncate(fd, (off_t)below(s, 9)) < 0))
		_exit(3);
	if (below(s, 8) == 0) {
		char other[PATH_ROOM];

		random_path(s, other);
		(void)rename(path, other);
	}
	(void)close(fd);
}

/* mkdir -p with a file at the bottom, one call right after the other. */
static void make_chain(uint64_t *s, char *path)
{
	for (char *p = strchr(path, '/'); p != NULL; p = strchr(p + 1, '/')) {
		*p = '\0';
		(void)mkdir(path, 0755);
		*p = '/';
	}
	write_file(s, path, O_TRUNC);
}

static void remove_tree(int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	const struct dirent *e;
	DIR *d;

	if (fd < 0) {
		(void)unlinkat(at, name, 0);
		return;
	}
	d = fdopendir(fd);
	while ((e = readdir(d)) != NULL)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			remove_tree(fd, e->d_name);
	(void)closedir(d);
	(void)unlinkat(at, name, AT_REMOVEDIR);
}

static void operate(uint64_t *s)
{
	static const mode_t modes[] = { 0755, 0700, 0711, 0750 };
	char p[PATH_ROOM], q[PATH_ROOM];
	struct timespec t[2] = { { .tv_sec = 1 }, { .tv_sec = (time_t)below(s, 1000000) } };

	random_path(s, p);
	random_path(s, q);
	switch (below(s, 16)) {
	case 0:
	case 1:
		write_file(s, p, O_TRUNC);
		break;
	case 2:
		write_file(s, p, O_APPEND);
		break;
	case 3:
		(void)chmod(p, modes[below(s, 4)]);
		break;
	case 4:
	case 5:
		make_chain(s, p);
		break;
	case 6:
		(void)rmdir(p);
		break;
	case 7:
		(void)unlink(p);
		break;
	case 8:
	case 9:
	case 10:
	case 11:
		(void)rename(p, q);
		break;
	case 12:
		(void)renameat2(AT_FDCWD, p, AT_FDCWD, q, RENAME_EXCHANGE);
		break;
	case 13:
		remove_tree(AT_FDCWD, p);
		if (below(s, 2) == 0)
			(void)snprintf(q, sizeof(q), "%.200s/a/b", p), make_chain(s, q);
		break;
	case 14:
		(void)utimensat(AT_FDCWD, p, t, AT_SYMLINK_NOFOLLOW);
		break;
	default:
		(void)symlink(q, p);
		break;
	}
}

/* ---- the world ---- */

#define SOURCES 2

struct source {
	const char *prefix; /* of its paths in the base directory, with a slash */
	int root_fd;
	bool skips; /* directories called "d" are excluded */
	struct watched *w;
	struct model before;
	uint64_t records, reconciles, renames, inexact;
};

struct world {
	char base[PATH_ROOM];
	struct loop *loop;
	struct watcher_set *set;
	struct source sources[SOURCES];
	size_t n;
	uint64_t seed;
	bool loud;	      /* TRACE=1: print every record */
	struct model *probes; /* instead of records being applied, what was seen */
	unsigned direct, covered;
};

static bool skip_d(void *ctx, const char *path, size_t len)
{
	(void)ctx;
	return path[len - 1] == 'd' && (len == 1 || path[len - 2] == '/');
}

static struct source *source_of(struct world *wd, const struct watched *w)
{
	return &wd->sources[(size_t)((struct source *)watched_owner(w) - wd->sources)];
}

static void on_record(void *ctx, struct watched *w, const struct change *c)
{
	static const char *const kinds[] = { "none", "touch", "modify", "create", "delete", "rename", "reconcile" };
	struct world *wd = ctx;
	struct source *s = source_of(wd, w);
	char path[PATH_ROOM], old[PATH_ROOM] = "";

	assert_true(c->path_len < PATH_ROOM && c->old_len < PATH_ROOM);
	(void)snprintf(path, sizeof(path), "%.*s", (int)c->path_len, c->path);
	if (c->kind == CHANGE_RENAME)
		(void)snprintf(old, sizeof(old), "%.*s", (int)c->old_len, c->old_path);
	if (wd->loud)
		(void)fprintf(stderr, "%s%s%s %s%s%s%s %s\n", s->prefix, kinds[c->kind], c->is_dir ? " dir" : "", old,
			      old[0] != '\0' ? (c->exact ? " => " : " ~> ") : "", path, "",
			      c->cause == NULL ? "" : c->cause);
	s->records++;
	if (wd->probes != NULL) {
		entry_get(&wd->probes[s - wd->sources], path)->state |= 1u << c->kind;
		return;
	}
	switch (c->kind) {
	case CHANGE_DELETE:
		model_delete(&s->before, path);
		break;
	case CHANGE_RENAME:
		s->renames++;
		if (c->exact) {
			model_rename(&s->before, old, path, c->is_dir);
			return;
		}
		s->inexact++;
		entry_get(&s->before, old)->deep = true;
		entry_get(&s->before, path)->deep = true;
		break;
	case CHANGE_RECONCILE:
		s->reconciles++;
		entry_get(&s->before, path)->deep = true;
		break;
	default:
		entry_get(&s->before, path)->mark = true;
		entry_get(&s->before, path)->said = 1;
	}
	s->before.swap_a[0] = s->before.swap_b[0] = '\0';
}

static void on_state(void *ctx, struct watched *w, enum watched_state state, const char *why)
{
	(void)ctx;
	(void)w;
	fail_msg("state %d: %s", (int)state, why);
}

static void drain(struct world *wd)
{
	struct err err = ERR_INIT;

	if (watcher_drain(wd->set, &err) < 0)
		fail_msg("drain: %s", err.text);
}

/* Whether nothing is to be said of the path: excluded by one of its directories, or itself. */
static bool left_out(const struct source *s, const char *path, bool is_dir)
{
	if (!s->skips)
		return false;
	for (const char *p = path, *end; *p != '\0'; p = *end == '\0' ? end : end + 1) {
		end = p + strcspn(p, "/");
		if (end - p == 1 && *p == 'd' && (*end == '/' || is_dir))
			return true;
	}
	return false;
}

static void now(const struct source *s, struct model *out)
{
	snapshot(openat(s->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "", out);
}

/* A name that is gone is covered by a mark above it, where now there is no directory. */
static bool gone_above(const struct model *m, const struct model *after, const char *path)
{
	for (size_t i = 0; i < m->n; i++) {
		const char *rest = rest_below(path, m->v[i].path);
		const struct entry *e;

		if (!m->v[i].mark || rest == NULL || rest[0] == '\0')
			continue;
		e = entry_find(after, m->v[i].path);
		if (e == NULL || !e->is_dir)
			return true;
	}
	return false;
}

static void check_path(struct world *wd, const struct source *s, const struct model *after, const char *path)
{
	const struct entry *was = entry_find(&s->before, path), *is = entry_find(after, path);
	uint64_t a = was == NULL ? 0 : was->state, b = is == NULL ? 0 : is->state;

	if (a == b || left_out(s, path, (a != 0 && was->is_dir) || (b != 0 && is->is_dir)))
		return;
	if (was != NULL && was->mark)
		wd->direct++;
	else if (deep_at(&s->before, path) || (b == 0 && gone_above(&s->before, after, path)))
		wd->covered++;
	else
		fail_msg("seed %llu: %s%s: %s, and no record says so", (unsigned long long)wd->seed, s->prefix, path,
			 a == 0	  ? "is new"
			 : b == 0 ? "is gone"
				  : "differs");
}

static void check_round(struct world *wd)
{
	for (size_t i = 0; i < wd->n; i++) {
		struct source *s = &wd->sources[i];
		struct model after = { .n = 0 };

		now(s, &after);
		for (size_t k = 0; k < after.n; k++)
			check_path(wd, s, &after, after.v[k].path);
		for (size_t k = 0; k < s->before.n; k++)
			check_path(wd, s, &after, s->before.v[k].path);
		model_clear(&s->before);
		s->before = after;
	}
}

/* ---- at rest ---- */

static size_t each_dir(const struct source *s, const struct model *tree, bool make)
{
	size_t n = 1;
	int fd = make ? openat(s->root_fd, PROBE, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;

	assert_true(make ? fd >= 0 && close(fd) == 0 : unlinkat(s->root_fd, PROBE, 0) == 0);
	for (size_t i = 0; i < tree->n; i++) {
		char path[PATH_ROOM + 16];

		if (!tree->v[i].is_dir)
			continue;
		n += !left_out(s, tree->v[i].path, true);
		(void)snprintf(path, sizeof(path), "%s/%s", tree->v[i].path, PROBE);
		fd = make ? openat(s->root_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
		assert_true(make ? fd >= 0 && close(fd) == 0 : unlinkat(s->root_fd, path, 0) == 0);
	}
	return n;
}

/* Exactly the probes below `s` were seen, in each source that holds them, with exactly these kinds of records. */
static void check_probes(struct world *wd, const struct source *s, size_t dirs, unsigned kinds)
{
	const struct model *seen = &wd->probes[s - wd->sources];
	size_t n = 0;

	for (size_t i = 0; i < seen->n; i++) {
		const char *name = strrchr(seen->v[i].path, '/');

		name = name == NULL ? seen->v[i].path : name + 1;
		if (strcmp(name, PROBE) != 0 || seen->v[i].state != kinds)
			fail_msg("seed %llu: at rest %s%s is said to have changed (%llx)", (unsigned long long)wd->seed,
				 s->prefix, seen->v[i].path, (unsigned long long)seen->v[i].state);
		n++;
	}
	if (dirs > 0 && entry_find(seen, PROBE) == NULL)
		fail_msg("seed %llu: the root is not watched", (unsigned long long)wd->seed);
	for (size_t i = 0; i < s->before.n && dirs > 0; i++) {
		const struct entry *e = &s->before.v[i];
		char path[PATH_ROOM + 16];

		(void)snprintf(path, sizeof(path), "%s/%s", e->path, PROBE);
		if (e->is_dir && !left_out(s, e->path, true) && entry_find(seen, path) == NULL)
			fail_msg("seed %llu: %s%s is not watched", (unsigned long long)wd->seed, s->prefix, e->path);
	}
	assert_int_equal(n, dirs);
}

static void check_rest(struct world *wd)
{
	struct model seen[SOURCES] = { { .n = 0 } };
	struct source *s = &wd->sources[0]; /* holds the others */
	struct watched_info info;
	size_t dirs;

	wd->probes = seen;
	drain(wd);
	check_probes(wd, s, 0, 0);
	dirs = each_dir(s, &s->before, true);
	drain(wd);
	check_probes(wd, s, dirs, 1u << CHANGE_CREATE | 1u << CHANGE_TOUCH);
	watched_info(s->w, &info);
	assert_int_equal(info.watches, dirs);
	assert_int_equal(info.unwatched, 0);
	for (size_t i = 0; i < wd->n; i++)
		model_clear(&seen[i]);
	(void)each_dir(s, &s->before, false);
	drain(wd);
	check_probes(wd, s, dirs, 1u << CHANGE_DELETE);
	for (size_t i = 0; i < wd->n; i++)
		model_clear(&seen[i]);
	wd->probes = NULL;
}

/* ---- rounds ---- */

static void child(const struct world *wd, uint64_t seed, unsigned ops)
{
	if (chdir(wd->base) < 0)
		_exit(2);
	while (ops-- > 0)
		operate(&seed);
	_exit(0);
}

static void round_of(struct world *wd, uint64_t *rnd)
{
	static const unsigned sizes[] = { 3, 10, 40, 150, 600 };
	unsigned ops = 1 + below(rnd, sizes[below(rnd, 5)]), ways = below(rnd, 4);
	uint64_t seed = next_random(rnd);
	struct err err = ERR_INIT;
	int fds[2], status;
	pid_t pid;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		child(wd, seed, ops);
	(void)close(fds[1]); /* the child's end closes with it */
	for (;;) {
		struct pollfd p = { .fd = fds[0], .events = POLLIN };
		struct timespec wait = { .tv_nsec = (long)below(rnd, 1u << below(rnd, 20)) };

		if (ppoll(&p, 1, &wait, NULL) > 0)
			break;
		if (below(rnd, 4) < ways)
			assert_true(loop_once(wd->loop, 0, &err) >= 0);
		else
			drain(wd);
	}
	(void)close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	drain(wd);
	check_round(wd);
}

static void add_source(struct world *wd, const char *sub, bool skips)
{
	struct source *s = &wd->sources[wd->n++];
	char path[PATH_ROOM + 8];
	struct watch_request rq = { .path = path, .choice = WATCHER_INOTIFY, .skip_dir = skips ? skip_d : NULL };
	struct err err = ERR_INIT;

	(void)snprintf(path, sizeof(path), "%s%s", wd->base, sub);
	*s = (struct source){ .prefix = sub[0] == '\0' ? "base/" : "r/", .skips = skips };
	s->root_fd = rq.root_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	s->w = watcher_add(wd->set, &rq, s, &err);
	if (s->w == NULL)
		fail_msg("%s", err.text);
}

/* In memory where that can be: a file system on a disk writes at each rename onto a file. */
static void make_base(struct world *wd)
{
	const char *dir = getenv("TESTDIR");

	(void)snprintf(wd->base, sizeof(wd->base), "/dev/shm/inotify.XXXXXX");
	if (mkdtemp(wd->base) != NULL)
		return;
	(void)snprintf(wd->base, sizeof(wd->base), "%.200s/inotify.XXXXXX", dir != NULL ? dir : "/tmp");
	assert_non_null(mkdtemp(wd->base));
}

/* The sources of a run: the inner directory alone, with moves out of it and into it; with exclusions; or the base
 * directory, which holds both, and the inner one as well. */
static void run_seed(uint64_t seed, unsigned rounds)
{
	struct world wd = { .seed = seed, .loud = getenv("TRACE") != NULL };
	struct watcher_settings settings = { .fanotify_queue = 0 };
	struct watcher_callbacks cb = { .record = on_record, .state = on_state, .ctx = &wd };
	struct err err = ERR_INIT;
	uint64_t rnd = seed;
	char path[PATH_ROOM + 8];

	make_base(&wd);
	(void)snprintf(path, sizeof(path), "%s/r", wd.base);
	assert_int_equal(mkdir(path, 0755), 0);
	(void)snprintf(path, sizeof(path), "%s/o", wd.base);
	assert_int_equal(mkdir(path, 0755), 0);
	wd.loop = loop_new(&err);
	wd.set = watcher_set_new(wd.loop, &settings, &cb, &err);
	assert_non_null(wd.set);
	if (seed % 3 == 0)
		add_source(&wd, "", false);
	add_source(&wd, "/r", seed % 3 == 2);
	for (size_t i = 0; i < wd.n; i++)
		now(&wd.sources[i], &wd.sources[i].before);
	for (unsigned i = 0; i < rounds; i++) {
		round_of(&wd, &rnd);
		check_rest(&wd);
	}
	for (size_t i = 0; i < wd.n; i++)
		print_message("seed %llu %s: %llu records, %llu renames (%llu not exact), %llu reconciles; %u paths "
			      "named, %u covered\n",
			      (unsigned long long)seed, wd.sources[i].prefix, (unsigned long long)wd.sources[i].records,
			      (unsigned long long)wd.sources[i].renames, (unsigned long long)wd.sources[i].inexact,
			      (unsigned long long)wd.sources[i].reconciles, wd.direct, wd.covered);
	watcher_set_free(wd.set);
	loop_free(wd.loop);
	for (size_t i = 0; i < wd.n; i++) {
		model_clear(&wd.sources[i].before);
		(void)close(wd.sources[i].root_fd);
	}
	remove_tree(AT_FDCWD, wd.base);
}

static void seeds(void **state)
{
	const char *one = getenv("SEED"), *scale = getenv("ROUNDS");
	uint64_t seed = one != NULL ? strtoull(one, NULL, 10) : (uint64_t)time(NULL);
	unsigned n = scale != NULL ? (unsigned)strtoul(scale, NULL, 10) : 1;

	(void)state;
	print_message("SEED=%llu\n", (unsigned long long)seed);
	for (unsigned i = 0; i < 6 * n; i++)
		run_seed(seed + i, 60);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(seeds) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
