/* LINK: core/safe_open.c core/watcher.c core/watch_count.c core/watch_inotify.c core/watch_inotify_walk.c
 * core/watch_inotify_events.c core/watch_tree.c */
/* LINK: core/watch_links.c core/look.c */
/* LINK: core/path.c core/err.c core/buf.c core/clock.c core/loop.c core/log.c core/utf8.c */
/* The inotify watcher: what is recorded of single changes, races with fresh directories, limits, lost roots. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/watcher.h"

#define PATH_ROOM 256
#define RECORDS_MAX 65536
#define NOBODY 65534

struct record {
	enum change_kind kind;
	bool is_dir, exact;
	const char *cause;
	const struct watched *source;
	char path[PATH_ROOM], old[PATH_ROOM];
};

struct world {
	char base[PATH_ROOM];
	int base_fd;
	struct loop *loop;
	struct watcher_set *set;
	struct record *v;
	size_t n;
	enum watched_state state;
	char why[640];
	int roots[4];
	size_t n_roots;
};

static void on_record(void *ctx, struct watched *w, const struct change *c)
{
	struct world *wd = ctx;
	struct record *r = &wd->v[wd->n++];

	assert_true(wd->n <= RECORDS_MAX);
	*r = (struct record){ .kind = c->kind, .is_dir = c->is_dir, .exact = c->exact, .cause = c->cause, .source = w };
	(void)snprintf(r->path, PATH_ROOM, "%.*s", (int)c->path_len, c->path);
	if (c->kind == CHANGE_RENAME)
		(void)snprintf(r->old, PATH_ROOM, "%.*s", (int)c->old_len, c->old_path);
}

static void on_state(void *ctx, struct watched *w, enum watched_state state, const char *why)
{
	struct world *wd = ctx;

	(void)w;
	wd->state = state;
	(void)snprintf(wd->why, sizeof(wd->why), "%s", why);
}

static void world_open(struct world *wd)
{
	struct watcher_settings settings = { .fanotify_queue = 0 };
	struct watcher_callbacks cb = { .record = on_record, .state = on_state, .ctx = wd };
	struct err err = ERR_INIT;
	const char *dir = getenv("TESTDIR");

	*wd = (struct world){ .state = WATCHED_OK };
	wd->v = calloc(RECORDS_MAX, sizeof(*wd->v));
	assert_non_null(wd->v);
	(void)snprintf(wd->base, sizeof(wd->base), "/dev/shm/inotify.XXXXXX");
	if (mkdtemp(wd->base) == NULL) {
		(void)snprintf(wd->base, sizeof(wd->base), "%.200s/inotify.XXXXXX", dir != NULL ? dir : "/tmp");
		assert_non_null(mkdtemp(wd->base));
	}
	assert_int_equal(chmod(wd->base, 0755), 0);
	assert_int_equal(chdir(wd->base), 0);
	assert_int_equal(mkdir("r", 0755), 0);
	assert_int_equal(mkdir("o", 0755), 0);
	wd->loop = loop_new(&err);
	wd->set = watcher_set_new(wd->loop, &settings, &cb, &err);
	assert_non_null(wd->set);
}

static struct watched *watch(struct world *wd, const char *name)
{
	char path[PATH_ROOM + 16];
	struct watch_request rq = { .path = path, .choice = WATCHER_INOTIFY };
	struct err err = ERR_INIT;
	struct watched *w;

	(void)snprintf(path, sizeof(path), "%s/%s", wd->base, name);
	if (name[0] == '\0')
		(void)snprintf(path, sizeof(path), "%s", wd->base);
	rq.root_fd = wd->roots[wd->n_roots++] = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	w = watcher_add(wd->set, &rq, NULL, &err);
	if (w == NULL)
		fail_msg("%s", err.text);
	return w;
}

static void world_close(struct world *wd)
{
	char command[] = "/bin/rm", recursive[] = "-rf";
	char *argv[] = { command, recursive, wd->base, NULL };
	pid_t pid;

	watcher_set_free(wd->set);
	loop_free(wd->loop);
	while (wd->n_roots > 0)
		(void)close(wd->roots[--wd->n_roots]);
	free(wd->v);
	assert_int_equal(chdir("/"), 0);
	pid = fork();
	if (pid == 0) {
		execv(command, argv);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void drain(struct world *wd)
{
	struct err err = ERR_INIT;

	if (watcher_drain(wd->set, &err) < 0)
		fail_msg("%s", err.text);
}

/* Whatever was recorded up to now is forgotten. */
static void quiet(struct world *wd)
{
	drain(wd);
	wd->n = 0;
}

static const struct record *saw(const struct world *wd, const struct watched *w, enum change_kind kind,
				const char *path)
{
	for (size_t i = 0; i < wd->n; i++)
		if (wd->v[i].source == w && wd->v[i].kind == kind && strcmp(wd->v[i].path, path) == 0)
			return &wd->v[i];
	return NULL;
}

static size_t count(const struct world *wd, enum change_kind kind)
{
	size_t n = 0;

	for (size_t i = 0; i < wd->n; i++)
		n += wd->v[i].kind == kind;
	return n;
}

static void put(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "x", 1), 1);
	assert_int_equal(close(fd), 0);
}

/* The directory is watched under that name. */
static void check_watched(struct world *wd, const struct watched *w, const char *root, const char *dir)
{
	char path[2 * PATH_ROOM], rel[PATH_ROOM];

	quiet(wd);
	(void)snprintf(rel, sizeof(rel), "%.200s%sprobe", dir, *dir == '\0' ? "" : "/");
	(void)snprintf(path, sizeof(path), "%s/%s", root, rel);
	put(path);
	drain(wd);
	if (saw(wd, w, CHANGE_CREATE, rel) == NULL || saw(wd, w, CHANGE_TOUCH, rel) == NULL)
		fail_msg("%s is not watched", dir);
	assert_int_equal(unlink(path), 0);
	drain(wd);
	assert_non_null(saw(wd, w, CHANGE_DELETE, rel));
	wd->n = 0;
}

/* ---- fresh directories ---- */

#define CHAINS 300

static void make_chains(void)
{
	for (unsigned i = 0; i < CHAINS; i++) {
		char path[64];

		for (unsigned k = 0; k < 3; k++) {
			static const char *const tails[] = { "", "/b", "/b/c" };

			(void)snprintf(path, sizeof(path), "r/a%u%s", i, tails[k]);
			if (mkdir(path, 0755) < 0)
				_exit(1);
		}
		(void)snprintf(path, sizeof(path), "r/a%u/b/c/f", i);
		if (close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644)) < 0)
			_exit(1);
	}
	_exit(0);
}

static void fresh_chains(void **state)
{
	struct world wd;
	struct watched *w;
	struct err err = ERR_INIT;
	int status;
	pid_t pid;

	(void)state;
	world_open(&wd);
	w = watch(&wd, "r");
	quiet(&wd);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		make_chains();
	while (waitpid(pid, &status, WNOHANG) == 0)
		assert_true(loop_once(wd.loop, 0, &err) >= 0);
	assert_int_equal(status, 0);
	drain(&wd);
	for (unsigned i = 0; i < CHAINS; i++) {
		static const char *const tails[] = { "", "/b", "/b/c", "/b/c/f" };

		for (unsigned k = 0; k < 4; k++) {
			char path[64];

			(void)snprintf(path, sizeof(path), "a%u%s", i, tails[k]);
			if (saw(&wd, w, CHANGE_CREATE, path) == NULL)
				fail_msg("%s was missed", path);
			if (k == 3 && saw(&wd, w, CHANGE_TOUCH, path) == NULL)
				fail_msg("the content of %s was missed", path);
		}
	}
	assert_int_equal(count(&wd, CHANGE_RECONCILE), 0);
	check_watched(&wd, w, "r", "a299/b/c");
	world_close(&wd);
}

/* ---- renames and moves ---- */

static void check_rename(const struct world *wd, const struct watched *w, const char *old, const char *new, bool is_dir)
{
	const struct record *r = saw(wd, w, CHANGE_RENAME, new);

	if (r == NULL) {
		fail_msg("no rename to %s", new);
		return;
	}
	assert_string_equal(r->old, old);
	assert_int_equal(r->is_dir, is_dir);
	assert_true(r->exact);
}

static void renames(void **state)
{
	struct world wd;
	struct watched *w;

	(void)state;
	world_open(&wd);
	assert_true(mkdir("r/d", 0755) == 0 && mkdir("r/d/e", 0755) == 0 && mkdir("r/x", 0755) == 0);
	put("r/f");
	put("r/d/g");
	w = watch(&wd, "r");
	quiet(&wd);
	assert_int_equal(wd.n, 0);
	assert_int_equal(rename("r/f", "r/d/h"), 0);
	assert_int_equal(rename("r/d", "r/y"), 0);
	drain(&wd);
	check_rename(&wd, w, "f", "d/h", false);
	check_rename(&wd, w, "d", "y", true);
	assert_int_equal(wd.n, 2);
	check_watched(&wd, w, "r", "y");
	check_watched(&wd, w, "r", "y/e");
	assert_int_equal(rename("r/y/h", "r/y/g"), 0);
	drain(&wd);
	check_rename(&wd, w, "y/h", "y/g", false);
	assert_int_equal(wd.n, 1);
	/* Onto an empty directory. */
	wd.n = 0;
	assert_int_equal(rename("r/y", "r/x"), 0);
	drain(&wd);
	check_rename(&wd, w, "y", "x", true);
	check_watched(&wd, w, "r", "x/e");
	/* There and back, onto a new empty one each time. */
	assert_true(mkdir("r/y", 0755) == 0 && rename("r/x", "r/y") == 0);
	assert_true(mkdir("r/x", 0755) == 0 && rename("r/y", "r/x") == 0);
	check_watched(&wd, w, "r", "x/e");
	assert_int_equal(mkdir("r/y", 0700), 0);
	quiet(&wd);
	assert_int_equal(renameat2(AT_FDCWD, "r/x", AT_FDCWD, "r/y", RENAME_EXCHANGE), 0);
	drain(&wd);
	check_rename(&wd, w, "x", "y", true);
	check_rename(&wd, w, "y", "x", true);
	assert_int_equal(wd.n, 2);
	check_watched(&wd, w, "r", "y/e");
	check_watched(&wd, w, "r", "x");
	world_close(&wd);
}

static void moves(void **state)
{
	struct world wd;
	struct watched *w, *o;

	(void)state;
	world_open(&wd);
	assert_true(mkdir("n", 0755) == 0 && mkdir("n/d", 0755) == 0 && mkdir("n/d/e", 0755) == 0);
	put("n/f");
	put("r/f");
	w = watch(&wd, "r");
	o = watch(&wd, "o");
	quiet(&wd);
	assert_int_equal(rename("n/f", "r/f"), 0);
	drain(&wd);
	/* It may replace something: a changed name, never a new one. */
	assert_int_equal(wd.n, 2);
	assert_int_equal(wd.v[0].kind, CHANGE_DELETE);
	assert_int_equal(wd.v[1].kind, CHANGE_TOUCH);
	assert_string_equal(wd.v[0].path, "f");
	assert_string_equal(wd.v[1].path, "f");
	wd.n = 0;
	assert_int_equal(rename("n/d", "r/d"), 0);
	drain(&wd);
	assert_int_equal(wd.n, 1);
	assert_non_null(saw(&wd, w, CHANGE_RECONCILE, "d"));
	assert_string_equal(wd.v[0].cause, "moved in");
	check_watched(&wd, w, "r", "d/e");
	/* From source to source. */
	assert_int_equal(rename("r/d", "o/d2"), 0);
	drain(&wd);
	assert_int_equal(wd.n, 2);
	assert_non_null(saw(&wd, w, CHANGE_DELETE, "d"));
	assert_non_null(saw(&wd, o, CHANGE_RECONCILE, "d2"));
	check_watched(&wd, o, "o", "d2/e");
	/* Out: nothing more is heard of it. */
	assert_int_equal(rename("o/d2", "n/d"), 0);
	drain(&wd);
	assert_int_equal(wd.n, 1);
	assert_non_null(saw(&wd, o, CHANGE_DELETE, "d2"));
	wd.n = 0;
	put("n/d/e/f");
	drain(&wd);
	assert_int_equal(wd.n, 0);
	/* Exchanged with something outside. */
	assert_int_equal(mkdir("r/d", 0755), 0);
	quiet(&wd);
	assert_int_equal(renameat2(AT_FDCWD, "n/d", AT_FDCWD, "r/d", RENAME_EXCHANGE), 0);
	drain(&wd);
	assert_non_null(saw(&wd, w, CHANGE_RECONCILE, "d"));
	check_watched(&wd, w, "r", "d/e");
	world_close(&wd);
}

static void overlapping(void **state)
{
	struct world wd;
	struct watched *all, *w;
	struct watched_info info;

	(void)state;
	world_open(&wd);
	assert_int_equal(mkdir("r/d", 0755), 0);
	all = watch(&wd, "");
	w = watch(&wd, "r");
	quiet(&wd);
	put("r/d/f");
	assert_int_equal(rename("r/d/f", "o/f"), 0);
	drain(&wd);
	assert_non_null(saw(&wd, all, CHANGE_CREATE, "r/d/f"));
	assert_non_null(saw(&wd, w, CHANGE_CREATE, "d/f"));
	check_rename(&wd, all, "r/d/f", "o/f", false);
	assert_non_null(saw(&wd, w, CHANGE_DELETE, "d/f"));
	assert_null(saw(&wd, w, CHANGE_RENAME, "o/f"));
	/* The inner one goes: the outer one still watches the directories of both. */
	watcher_remove(wd.set, w);
	check_watched(&wd, all, ".", "r/d");
	watched_info(all, &info);
	assert_int_equal(info.watches, 4);
	world_close(&wd);
}

/* ---- limits ---- */

static unsigned long number_in(const char *path)
{
	FILE *f = fopen(path, "re");
	unsigned long n = 0;

	if (f != NULL && fscanf(f, "%lu", &n) != 1)
		n = 0;
	if (f != NULL)
		(void)fclose(f);
	return n;
}

static void overflow(void **state)
{
	unsigned long n = number_in("/proc/sys/fs/inotify/max_queued_events");
	struct world wd;
	struct watched_info info;
	struct watched *w, *o;
	const struct record *r;

	(void)state;
	if (n == 0 || n > 200000)
		skip();
	world_open(&wd);
	w = watch(&wd, "r");
	o = watch(&wd, "o");
	quiet(&wd);
	for (unsigned long i = 0; i < n / 2 + 100; i++) {
		assert_int_equal(mkdir("o/t", 0755), 0);
		assert_int_equal(rmdir("o/t"), 0);
	}
	assert_true(mkdir("r/late", 0755) == 0 && mkdir("r/late/b", 0755) == 0);
	drain(&wd);
	r = saw(&wd, w, CHANGE_RECONCILE, "");
	assert_true(r != NULL && strcmp(r->cause, "overflow") == 0);
	assert_non_null(saw(&wd, o, CHANGE_RECONCILE, ""));
	watched_info(w, &info);
	assert_int_equal(info.overflows, 1);
	assert_int_equal(info.watches, 3);
	check_watched(&wd, w, "r", "late/b");
	world_close(&wd);
}

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		fail_msg("%s: %s", path, strerror(errno));
	(void)close(fd);
}

/* Run in a child, because it gives something up for ever. Exit status 77: it may not. */
static void in_child(void (*fn)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		fn();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(status, 0);
}

#define CHECK(x)                                                                                                       \
	do {                                                                                                           \
		if (!(x)) {                                                                                            \
			(void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                                  \
			_exit(1);                                                                                      \
		}                                                                                                      \
	} while (0)

static void exhaust(void)
{
	struct err err = ERR_INIT;
	struct watched_info info;
	struct world wd;
	struct watched *w;
	char path[64], ids[64];

	(void)snprintf(ids, sizeof(ids), "0 %u 1", (unsigned)getuid());
	if (unshare(CLONE_NEWUSER) < 0 || access("/proc/sys/user/max_inotify_watches", F_OK) < 0)
		_exit(77);
	write_text("/proc/self/uid_map", ids);
	write_text("/proc/sys/user/max_inotify_watches", "5");
	world_open(&wd);
	for (int i = 0; i < 8; i++) {
		(void)snprintf(path, sizeof(path), "r/d%d", i);
		CHECK(mkdir(path, 0755) == 0);
	}
	w = watch(&wd, "r");
	drain(&wd);
	CHECK(wd.state == WATCHED_PARTIAL);
	CHECK(strstr(wd.why, "user.max_inotify_watches is 5") != NULL);
	CHECK(strstr(wd.why, "at least 9") != NULL);
	watched_info(w, &info);
	CHECK(info.watches == 5 && info.unwatched == 4);
	/* Some become free: the others are watched soon, and compared. */
	for (int i = 0; i < 8; i += 2) {
		(void)snprintf(path, sizeof(path), "r/d%d", i);
		CHECK(rmdir(path) == 0);
	}
	while (wd.state != WATCHED_OK)
		CHECK(loop_once(wd.loop, 10000, &err) >= 0);
	CHECK(count(&wd, CHANGE_RECONCILE) > 0);
	check_watched(&wd, w, "r", "d1");
	check_watched(&wd, w, "r", "d3");
	check_watched(&wd, w, "r", "d5");
	check_watched(&wd, w, "r", "d7");
	world_close(&wd);
}

static void watches_exhausted(void **state)
{
	(void)state;
	in_child(exhaust);
}

static void unprivileged_use(void)
{
	const struct record *r;
	struct world wd;
	struct watched *w;

	if (getuid() == 0 && (setgid(NOBODY) < 0 || setuid(NOBODY) < 0))
		_exit(77);
	world_open(&wd);
	CHECK(mkdir("r/shut", 0755) == 0 && mkdir("r/shut/in", 0755) == 0 && mkdir("r/open", 0755) == 0);
	CHECK(chmod("r/shut", 0) == 0);
	w = watch(&wd, "r");
	drain(&wd);
	CHECK(wd.state == WATCHED_PARTIAL && strstr(wd.why, "may not be read") != NULL);
	check_watched(&wd, w, "r", "open");
	CHECK(chmod("r/shut", 0755) == 0);
	drain(&wd);
	r = saw(&wd, w, CHANGE_RECONCILE, "shut");
	CHECK(r != NULL && strcmp(r->cause, "could not be watched before") == 0);
	CHECK(wd.state == WATCHED_OK);
	check_watched(&wd, w, "r", "shut/in");
	world_close(&wd);
}

static void unprivileged(void **state)
{
	(void)state;
	in_child(unprivileged_use);
}

/* ---- roots and mounts ---- */

static void root_lost(void **state)
{
	struct world wd;
	struct watched *w;

	(void)state;
	world_open(&wd);
	w = watch(&wd, "r");
	drain(&wd);
	assert_int_equal(wd.state, WATCHED_OK);
	assert_int_equal(rename("r", "elsewhere"), 0);
	drain(&wd);
	assert_int_equal(wd.state, WATCHED_GONE);
	assert_non_null(strstr(wd.why, "renamed"));
	assert_int_equal(mkdir("r", 0755), 0);
	drain(&wd);
	assert_int_equal(watched_state(w), WATCHED_GONE);
	assert_true(rmdir("r") == 0 && rename("elsewhere", "r") == 0);
	drain(&wd);
	assert_int_equal(wd.state, WATCHED_OK);
	assert_non_null(saw(&wd, w, CHANGE_RECONCILE, ""));
	check_watched(&wd, w, "r", "");
	/* Deleted; on many file systems the new one gets the number of the old one. */
	assert_true(rmdir("r") == 0 && mkdir("r", 0755) == 0);
	drain(&wd);
	assert_int_equal(wd.state, WATCHED_GONE);
	assert_int_equal(rmdir("r"), 0);
	drain(&wd);
	assert_int_equal(wd.state, WATCHED_GONE);
	world_close(&wd);
}

static void mounting(void)
{
	const struct record *r;
	struct world wd;
	struct watched *w;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		_exit(77);
	world_open(&wd);
	CHECK(mkdir("o/m", 0755) == 0);
	if (mount("none", "r", "tmpfs", 0, NULL) < 0)
		_exit(77);
	w = watch(&wd, "r");
	(void)watch(&wd, "o");
	drain(&wd);
	CHECK(wd.n == 0);
	CHECK(umount2("r", MNT_DETACH) == 0);
	drain(&wd);
	CHECK(watched_state(w) == WATCHED_GONE);
	watcher_remove(wd.set, w);
	w = watch(&wd, "r");
	check_watched(&wd, w, "r", "");
	watcher_remove(wd.set, w);
	(void)close(wd.roots[2]);
	wd.roots[2] = -1;
	/* Below a source. */
	w = watch(&wd, "o");
	quiet(&wd);
	CHECK(mount("none", "o/m", "tmpfs", 0, NULL) == 0);
	drain(&wd);
	r = saw(&wd, w, CHANGE_RECONCILE, "m");
	CHECK(r != NULL && strcmp(r->cause, "mounted or unmounted") == 0);
	check_watched(&wd, w, "o", "m");
	CHECK(umount2("o/m", 0) == 0);
	drain(&wd);
	CHECK(saw(&wd, w, CHANGE_RECONCILE, "m") != NULL);
	check_watched(&wd, w, "o", "m");
	world_close(&wd);
}

static void mounts(void **state)
{
	(void)state;
	in_child(mounting);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fresh_chains), cmocka_unit_test(renames),   cmocka_unit_test(moves),
		cmocka_unit_test(overlapping),	cmocka_unit_test(overflow),  cmocka_unit_test(watches_exhausted),
		cmocka_unit_test(unprivileged), cmocka_unit_test(root_lost), cmocka_unit_test(mounts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
