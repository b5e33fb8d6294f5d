/* LINK: core/watch_links.c core/look.c core/path.c core/err.c core/fsutil.c core/safe_open.c core/buf.c core/loop.c
 * core/clock.c */
/* LINK: core/log.c core/utf8.c */
/* Files with a name outside: what is done there is told under the names inside, whatever became of those. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "core/watch_links.h"
#include "tests/unit/scratch.h"

#define RENAME_EXCHANGED 2u
#define TOLD_MAX 64u

struct fixture {
	struct scratch scratch;
	struct watched w;
	struct loop *loop;
	struct link_watch *lw;
	char told[TOLD_MAX][64];
	size_t n;
};

void watch_emit(struct watched *w, const struct change *c)
{
	struct fixture *f = w->owner;

	assert_true(f->n < TOLD_MAX && c->kind == CHANGE_TOUCH);
	(void)snprintf(f->told[f->n++], sizeof(f->told[0]), "%.*s", (int)c->path_len, c->path);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct err err = ERR_INIT;

	assert_non_null(f);
	assert_int_equal(scratch_make(&f->scratch), 0);
	assert_int_equal(mkdir(scratch_path(&f->scratch, "in"), 0755), 0);
	assert_int_equal(mkdir(scratch_path(&f->scratch, "in/d"), 0755), 0);
	assert_int_equal(mkdir(scratch_path(&f->scratch, "out"), 0755), 0);
	f->w.rq.path = "in";
	f->w.rq.root_fd = open(scratch_path(&f->scratch, "in"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->w.owner = f;
	f->loop = loop_new(&err);
	assert_non_null(f->loop);
	f->lw = link_watch_new(f->loop);
	assert_non_null(f->lw);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	link_watch_free(f->lw);
	loop_free(f->loop);
	(void)close(f->w.rq.root_fd);
	assert_int_equal(scratch_remove(&f->scratch), 0);
	free(f);
	return 0;
}

static void add(struct fixture *f, const char *name)
{
	struct stat st;

	assert_int_equal(fstatat(f->w.rq.root_fd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	link_watch_add(f->lw, &f->w, name, strlen(name), st.st_dev, st.st_ino);
}

/* A file in/NAME, which out/OUT is, too. */
static void make(struct fixture *f, const char *name, const char *out)
{
	const char *path = scratch_path(&f->scratch, name);

	assert_int_equal(scratch_write(path, "x"), 0);
	assert_int_equal(link(path, scratch_path(&f->scratch, out)), 0);
	add(f, name + strlen("in/"));
}

static bool is_told(const struct fixture *f, const char *name)
{
	for (size_t i = 0; i < f->n; i++)
		if (strcmp(f->told[i], name) == 0)
			return true;
	return false;
}

static void drain(struct fixture *f)
{
	struct err err = ERR_INIT;

	f->n = 0;
	assert_int_equal(link_watch_drain(f->lw, &err), 0);
}

/* What is told of a write to that path. */
static void write_to(struct fixture *f, const char *path)
{
	drain(f);
	assert_int_equal(scratch_write(scratch_path(&f->scratch, path), "y"), 0);
	drain(f);
}

static void renamed(struct fixture *f, const char *from, const char *to, bool is_dir)
{
	const struct change c = { .kind = CHANGE_RENAME,
				  .is_dir = is_dir,
				  .path = to,
				  .path_len = strlen(to),
				  .old_path = from,
				  .old_len = strlen(from) };

	link_watch_follow(f->lw, &f->w, &c);
}

static void deleted(struct fixture *f, const char *path, bool is_dir)
{
	const struct change c = { .kind = CHANGE_DELETE, .is_dir = is_dir, .path = path, .path_len = strlen(path) };

	link_watch_follow(f->lw, &f->w, &c);
}

static void writes_and_modes(void **state)
{
	struct fixture *f = *state;

	make(f, "in/a", "out/a");
	assert_true(f->n == 1 && is_told(f, "a")); /* what happened before */
	add(f, "a");
	assert_int_equal(f->n, 1); /* is known */
	write_to(f, "out/a");
	assert_true(is_told(f, "a"));
	drain(f);
	assert_int_equal(f->n, 0);
	assert_int_equal(chmod(scratch_path(&f->scratch, "out/a"), 0600), 0);
	drain(f);
	assert_true(is_told(f, "a"));
}

/* A name that is another file's, or of no further names, or of no file at all. */
static void what_is_not_watched(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	assert_int_equal(scratch_write(scratch_path(&f->scratch, "in/single"), "x"), 0);
	add(f, "single");
	add(f, "d");
	make(f, "in/a", "out/a");
	assert_int_equal(fstatat(f->w.rq.root_fd, "a", &st, 0), 0);
	f->n = 0;
	link_watch_add(f->lw, &f->w, "single", 6, st.st_dev, st.st_ino);
	link_watch_add(f->lw, &f->w, "none", 4, st.st_dev, st.st_ino);
	link_watch_add(f->lw, &f->w, "../out/a", 8, st.st_dev, st.st_ino);
	link_watch_add(f->lw, &f->w, "a/", 2, st.st_dev, st.st_ino);
	assert_int_equal(f->n, 0);
	write_to(f, "in/single");
	assert_int_equal(f->n, 0);
}

static void follows_renames(void **state)
{
	struct fixture *f = *state;

	make(f, "in/d/a", "out/a");
	assert_int_equal(rename(scratch_path(&f->scratch, "in/d"), scratch_path(&f->scratch, "in/e")), 0);
	/* Written before the rename is read: under the old name, whose marks the rename copies. */
	write_to(f, "out/a");
	assert_true(is_told(f, "d/a"));
	renamed(f, "d", "e", true);
	write_to(f, "out/a");
	assert_true(f->n > 0 && is_told(f, "e/a") && !is_told(f, "d/a"));
	assert_int_equal(rename(scratch_path(&f->scratch, "in/e/a"), scratch_path(&f->scratch, "in/b")), 0);
	renamed(f, "e/a", "b", false);
	write_to(f, "out/a");
	assert_true(is_told(f, "b") && !is_told(f, "e/a"));
}

/* Two renames, of which the first is read when both are over; and an exchange, which is told as two. */
static void chains_and_exchanges(void **state)
{
	struct fixture *f = *state;

	make(f, "in/a", "out/a");
	make(f, "in/b", "out/b");
	assert_int_equal(syscall(SYS_renameat2, AT_FDCWD, scratch_path(&f->scratch, "in/a"), AT_FDCWD,
				 scratch_path(&f->scratch, "in/b"), RENAME_EXCHANGED),
			 0);
	renamed(f, "a", "b", false);
	renamed(f, "b", "a", false);
	write_to(f, "out/a");
	assert_true(is_told(f, "b"));
	write_to(f, "out/b");
	assert_true(is_told(f, "a"));
	assert_int_equal(rename(scratch_path(&f->scratch, "in/a"), scratch_path(&f->scratch, "in/c")), 0);
	assert_int_equal(rename(scratch_path(&f->scratch, "in/c"), scratch_path(&f->scratch, "in/e")), 0);
	renamed(f, "a", "c", false);
	renamed(f, "c", "e", false);
	write_to(f, "out/b");
	assert_true(is_told(f, "e"));
}

static void names_go(void **state)
{
	struct fixture *f = *state;

	make(f, "in/a", "out/a");
	assert_int_equal(link(scratch_path(&f->scratch, "in/a"), scratch_path(&f->scratch, "in/d/twin")), 0);
	add(f, "d/twin");
	write_to(f, "out/a");
	assert_true(is_told(f, "a") && is_told(f, "d/twin"));
	assert_int_equal(unlink(scratch_path(&f->scratch, "in/a")), 0);
	deleted(f, "a", false);
	write_to(f, "out/a");
	assert_true(!is_told(f, "a") && is_told(f, "d/twin"));
	/* It stands there again when the deletion is read. */
	deleted(f, "d/twin", false);
	write_to(f, "out/a");
	assert_true(is_told(f, "d/twin"));
	/* A directory that was moved out takes its names with it. */
	assert_int_equal(rename(scratch_path(&f->scratch, "in/d"), scratch_path(&f->scratch, "out/d")), 0);
	deleted(f, "d", true);
	write_to(f, "out/a");
	assert_int_equal(f->n, 0);
}

static void the_outside_name_goes(void **state)
{
	struct fixture *f = *state;

	make(f, "in/a", "out/a");
	assert_int_equal(unlink(scratch_path(&f->scratch, "out/a")), 0);
	drain(f);
	assert_true(is_told(f, "a"));
	write_to(f, "in/a"); /* the backend's to tell */
	assert_int_equal(f->n, 0);
	assert_int_equal(link(scratch_path(&f->scratch, "in/a"), scratch_path(&f->scratch, "out/a")), 0);
	add(f, "a");
	assert_true(f->n == 1 && is_told(f, "a"));
	write_to(f, "out/a");
	assert_true(is_told(f, "a"));
}

static void sources_go_and_change(void **state)
{
	struct fixture *f = *state;
	struct watched other = f->w;

	make(f, "in/a", "out/a");
	link_watch_hand_over(f->lw, &f->w, &other);
	link_watch_forget(f->lw, &f->w);
	write_to(f, "out/a");
	assert_true(is_told(f, "a"));
	link_watch_forget(f->lw, &other);
	write_to(f, "out/a");
	assert_int_equal(f->n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(writes_and_modes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_is_not_watched, set_up, tear_down),
		cmocka_unit_test_setup_teardown(follows_renames, set_up, tear_down),
		cmocka_unit_test_setup_teardown(chains_and_exchanges, set_up, tear_down),
		cmocka_unit_test_setup_teardown(names_go, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_outside_name_goes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(sources_go_and_change, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
