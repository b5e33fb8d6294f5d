/* LINK: core/safe_open.c core/watch_inotify.c core/watch_inotify_walk.c core/watch_inotify_events.c core/watch_tree.c
 * core/path.c core/err.c core/buf.c core/clock.c core/loop.c core/log.c core/utf8.c */
/* WRAP: read getrandom */
/* MODULE: core/watch_inotify_events.c core/watch_tree.c */
/* ROUNDS: 1000 */
/*
 * The inotify backend with a queue that says anything: events of a tree that is really there, in any order, twice or
 * never, with descriptors and cookies that belong to others, names that nobody has, lengths that lie; among them what
 * really happens to the tree. Whatever comes, each record's path is whole, and what a source counts as watched is what
 * its tree holds.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/log.h"
#include "core/path.h"
#include "core/watch_inotify.h"

#define QUEUE_MAX 8192u
#define OPS_MAX 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
ssize_t __real_read(int fd, void *out, size_t size);
ssize_t __wrap_read(int fd, void *out, size_t size);
ssize_t __wrap_getrandom(void *out, size_t size, unsigned flags);

/* What the queue will say. */
static struct {
	int fd;
	char bytes[QUEUE_MAX];
	size_t n;
	bool fails;
} queue = { .fd = -1 };

ssize_t __wrap_read(int fd, void *out, size_t size)
{
	size_t n = queue.n < size ? queue.n : size;

	if (fd != queue.fd || (n == 0 && !queue.fails))
		return __real_read(fd, out, size);
	if (queue.fails) {
		queue.fails = false;
		errno = EIO;
		return -1;
	}
	memcpy(out, queue.bytes, n);
	queue.n = 0;
	return (ssize_t)n;
}

/* The same tables in every run. */
ssize_t __wrap_getrandom(void *out, size_t size, unsigned flags)
{
	(void)flags;
	memset(out, 7, size);
	return (ssize_t)size;
}

static void require(bool holds)
{
	if (!holds)
		abort();
}

void watch_emit(struct watched *w, const struct change *c)
{
	(void)w;
	require(c->kind != CHANGE_NONE && c->path_len <= PATH_BYTES_MAX && strlen(c->path) == c->path_len);
	require((c->kind == CHANGE_RENAME) == (c->old_path != NULL));
	require(c->old_path == NULL || strlen(c->old_path) == c->old_len);
	require((c->kind == CHANGE_RECONCILE) == (c->cause != NULL));
}

void watch_set_state(struct watched *w, enum watched_state state, const char *why)
{
	w->state = state;
	require(why[0] == '/');
}

/* ---- the tree ---- */

static char top[] = "/tmp/fansyncd-fuzz.XXXXXX";

static void no_log(void *ctx, enum log_category cat, const char *text, size_t len)
{
	(void)ctx;
	(void)cat;
	(void)text;
	(void)len;
}

static void empty(int dir)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;

	while (d != NULL && (e = readdir(d)) != NULL) {
		int below;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || unlinkat(dir, e->d_name, 0) == 0)
			continue;
		below = openat(dir, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		require(below >= 0);
		empty(below);
		(void)close(below);
		require(unlinkat(dir, e->d_name, AT_REMOVEDIR) == 0);
	}
	if (d != NULL)
		(void)closedir(d);
}

static void clean_up(void)
{
	int fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0) {
		empty(fd);
		(void)close(fd);
	}
	(void)rmdir(top);
}

/* The tree as every run finds it; its directory. */
static int plant(bool dirty)
{
	static const char *const dirs[] = { "s", "s/a", "s/a/b", "s/a/b/c", "s/d", "s/d/e", "s/skip", "out" };
	static int dir = -1;
	bool first = dir < 0;

	if (first) {
		log_set_sink(no_log, NULL);
		require(mkdtemp(top) != NULL);
		dir = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		require(dir >= 0);
		(void)atexit(clean_up);
	}
	if (!first && !dirty)
		return dir;
	empty(dir);
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
		require(mkdirat(dir, dirs[i], 0700) == 0);
	require(mknodat(dir, "s/f", S_IFREG | 0600, 0) == 0);
	return dir;
}

/* ---- the script ---- */

struct script {
	const uint8_t *p;
	size_t n;
	int dir;
	bool dirty;
	struct ino *b;
	struct loop *loop;
};

static unsigned next(struct script *s)
{
	if (s->n == 0)
		return 0;
	s->n--;
	return *s->p++;
}

static const char *a_name(unsigned i)
{
	static const char *const names[] = { "", "a", "b", "c", "d", "e", "f", "g", "skip", "x", "out" };
	static char longest[256];

	memset(longest, 'n', 255);
	return i % 12 == 11 ? longest : names[i % 12];
}

static void queue_up(const void *bytes, size_t n)
{
	if (n > QUEUE_MAX - queue.n)
		return;
	memcpy(queue.bytes + queue.n, bytes, n);
	queue.n += n;
}

/* As the kernel would say it. */
static void say_event(struct script *s)
{
	static const uint32_t kinds[] = { IN_CREATE,	IN_DELETE,	IN_MOVED_FROM, IN_MOVED_TO,
					  IN_ATTRIB,	IN_MODIFY,	IN_IGNORED,    IN_UNMOUNT,
					  IN_MOVE_SELF, IN_DELETE_SELF, IN_Q_OVERFLOW, IN_CLOSE_WRITE };
	unsigned kind = next(s), where = next(s), name = next(s);
	const char *text = a_name(name);
	struct inotify_event e = { .wd = (int)(where % 16), .cookie = where / 16 };
	char room[272] = "";

	e.mask = kinds[kind % 12] | ((kind & 0x40) != 0 ? IN_ISDIR : 0u);
	e.len = text[0] == '\0' ? 0 : ((uint32_t)strlen(text) + 16) / 16 * 16;
	if ((kind & 0x80) != 0)
		e.len = name;
	(void)snprintf(room, sizeof(room), "%s", text);
	queue_up(&e, sizeof(e));
	queue_up(room, e.len);
}

static void say_bytes(struct script *s)
{
	size_t n = next(s) % 64;

	n = n < s->n ? n : s->n;
	queue_up(s->p, n);
	s->p += n;
	s->n -= n;
}

static const char *a_path(unsigned i)
{
	static const char *const paths[] = { "s/a",   "s/a/b", "s/a/b/c", "s/d",   "s/d/e", "s/skip", "out",
					     "out/x", "s/f",   "s/x",	  "s/a/x", "s/d/b", "s/a/g",  "s" };

	return paths[i % (sizeof(paths) / sizeof(paths[0]))];
}

/* Something really happens. */
static void do_something(struct script *s)
{
	unsigned what = next(s), which = next(s);
	const char *a = a_path(which % 16), *b = a_path(which / 16);

	s->dirty = true;
	if (what % 6 == 0)
		(void)mkdirat(s->dir, a, 0700);
	else if (what % 6 == 1)
		(void)renameat2(s->dir, a, s->dir, b, what / 6 % 2);
	else if (what % 6 == 2)
		(void)unlinkat(s->dir, a, AT_REMOVEDIR);
	else if (what % 6 == 3)
		(void)mknodat(s->dir, a, S_IFREG | 0600, 0);
	else if (what % 6 == 4)
		(void)unlinkat(s->dir, a, 0);
	else
		(void)renameat2(s->dir, a, s->dir, b, what / 6 % 2 * 2);
}

static void drain(struct script *s)
{
	struct err err = ERR_INIT;

	(void)watch_inotify.drain(s->b, &err);
}

static void play(struct script *s)
{
	struct err err = ERR_INIT;

	for (unsigned i = 0; i < OPS_MAX && s->n > 0; i++) {
		unsigned op = next(s);

		if (op % 8 < 4)
			say_event(s);
		else if (op % 8 == 4)
			say_bytes(s);
		else if (op % 8 == 5)
			do_something(s);
		else if (op % 8 == 6)
			drain(s);
		else
			require(loop_once(s->loop, 0, &err) >= 0);
		queue.fails = op == 0xfe;
	}
	drain(s);
}

/* ---- what must hold ---- */

static void check_tree(const struct watched *w)
{
	const struct ino_source *s = w->priv;
	uint64_t watches = 0;

	for (struct wnode *n = s->root; n != NULL; n = wnode_next(n, s->root)) {
		require((n->flags & WNODE_DEAD) == 0 && wnode_owner(n) == s);
		watches += n->wd >= 0;
		if (n->parent != NULL)
			require(wtree_find(&s->b->tree, n->parent, wnode_name(n), n->len) == n);
	}
	require(watches == s->watches);
}

static bool skip_dir(void *ctx, const char *path, size_t len)
{
	(void)ctx;
	return len >= 4 && memcmp(path + len - 4, "skip", 4) == 0;
}

static void watch(struct ino *b, struct watched *w, int dir, char *path, unsigned how)
{
	struct stat st;
	struct err err = ERR_INIT;

	w->rq = (struct watch_request){ .path = path,
					.root_fd = dir,
					.want_modify = (how & 1) != 0,
					.inotify_mode = (enum inotify_mode)(how / 2 % 3),
					.skip_dir = skip_dir };
	w->path_len = strlen(path);
	require(fstat(dir, &st) == 0);
	w->root_dev = st.st_dev;
	w->root_ino = st.st_ino;
	require(watch_inotify.add(b, w, &err) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct watcher_settings none;
	static bool dirty;
	struct watched outer = { .backend = &watch_inotify }, inner = outer;
	struct script s = { .p = data, .n = size };
	char path[2][64];
	struct err err = ERR_INIT;
	void *backend = NULL;
	int fds[2];

	if (size == 0)
		return 0;
	s.dir = plant(dirty);
	(void)snprintf(path[0], sizeof(path[0]), "%s/s", top);
	(void)snprintf(path[1], sizeof(path[1]), "%s/s/a", top);
	for (int i = 0; i < 2; i++) {
		fds[i] = open(path[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		require(fds[i] >= 0);
	}
	s.loop = loop_new(&err);
	require(s.loop != NULL && watch_inotify.open(NULL, s.loop, &none, &backend, &err) == 0);
	s.b = backend;
	watch(s.b, &outer, fds[0], path[0], data[0]);
	watch(s.b, &inner, fds[1], path[1], data[0] / 8u);
	next(&s);
	queue.fd = s.b->fd;
	queue.n = 0;
	play(&s);
	queue.fd = -1;
	check_tree(&outer);
	check_tree(&inner);
	dirty = s.dirty;
	watch_inotify.remove(backend, &inner);
	watch_inotify.remove(backend, &outer);
	watch_inotify.close(backend);
	loop_free(s.loop);
	(void)close(fds[0]);
	(void)close(fds[1]);
	return 0;
}
