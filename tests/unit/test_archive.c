/* LINK: core/archive.c core/twoway.c core/path.c core/err.c core/fsutil.c core/safe_open.c core/buf.c core/loop.c
 * core/clock.c */
/* LINK: core/log.c core/utf8.c */
/* LIBS: -lsqlite3 */
/* What both ends agree on, on disk: notes and their commit, nested paths, other pairs, damage, failures. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "core/archive.h"
#include "core/clock.h"
#include "core/host_id.h"
#include "core/loop.h"
#include "core/path.h"
#include "tests/unit/scratch.h"

static struct scratch scratch;

static int up(void **state)
{
	(void)state;
	return scratch_make(&scratch);
}

static int down(void **state)
{
	(void)state;
	return scratch_remove(&scratch);
}

static struct archive *open_at(const char *name, const char *pair, bool *fresh, struct err *err)
{
	return archive_open(&(struct archive_place){ .path = scratch_path(&scratch, name), .pair = pair }, fresh, err);
}

static struct archive *open_as(const char *name, const char *pair, bool fresh)
{
	struct err err = ERR_INIT;
	bool got = !fresh;
	struct archive *a = open_at(name, pair, &got, &err);

	if (a == NULL)
		fail_msg("%s", err.text);
	assert_int_equal(got, fresh);
	return a;
}

static struct twoway_state file_of(int64_t size, int64_t mtime)
{
	return (struct twoway_state){ LOOK_FILE, size, mtime, UINT64_C(0x8000000000000001) + (uint64_t)size };
}

static void note(struct archive *a, const char *path, int64_t size)
{
	struct twoway_state s = file_of(size, size * 1000);
	struct err err = ERR_INIT;

	if (archive_note(a, path, strlen(path), &s, &err) < 0)
		fail_msg("%s", err.text);
}

static void forget(struct archive *a, const char *path)
{
	struct twoway_state s = { .look = LOOK_ABSENT };
	struct err err = ERR_INIT;

	assert_int_equal(archive_note(a, path, strlen(path), &s, &err), 0);
}

/* -1: not there. */
static int64_t size_of(struct archive *a, const char *path)
{
	struct twoway_state s;
	struct err err = ERR_INIT;

	assert_int_equal(archive_get(a, path, strlen(path), &s, &err), 0);
	if (s.look == LOOK_ABSENT) {
		assert_int_equal(s.size + s.mtime_ns + (int64_t)s.attr, 0);
		return -1;
	}
	assert_int_equal(s.look, LOOK_FILE);
	assert_int_equal(s.mtime_ns, s.size * 1000);
	assert_int_equal(s.attr, UINT64_C(0x8000000000000001) + (uint64_t)s.size);
	return s.size;
}

static void commit(struct archive *a)
{
	struct err err = ERR_INIT;

	if (archive_commit(a, &err) < 0)
		fail_msg("%s", err.text);
}

static void states_come_back(void **state)
{
	static const struct twoway_state all[] = {
		{ LOOK_FILE, INT64_MAX, INT64_MIN, UINT64_MAX },
		{ LOOK_DIR, 0, 0, 1 },
		{ LOOK_SYMLINK, 5, -1, 0 },
		{ LOOK_SPECIAL, 0, 0, UINT64_C(1) << 63 },
	};
	struct archive *a = open_as("states", "p", true);
	struct err err = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(archive_note(a, "abcd" + i, 1, &all[i], &err), 0);
	commit(a);
	archive_close(a);
	a = open_as("states", "p", false);
	for (size_t i = 0; i < 4; i++) {
		struct twoway_state s;

		assert_int_equal(archive_get(a, "abcd" + i, 1, &s, &err), 0);
		assert_int_equal(s.look, all[i].look);
		assert_true(s.size == all[i].size && s.mtime_ns == all[i].mtime_ns && s.attr == all[i].attr);
	}
	archive_close(a);
}

static void commit_and_rollback(void **state)
{
	struct archive *a = open_as("commit", "p", true);

	(void)state;
	commit(a); /* of nothing */
	note(a, "kept", 1);
	assert_int_equal(size_of(a, "kept"), 1);
	commit(a);
	note(a, "kept", 2);
	note(a, "lost", 3);
	forget(a, "kept");
	assert_int_equal(size_of(a, "kept"), -1);
	archive_close(a);
	a = open_as("commit", "p", false);
	assert_int_equal(size_of(a, "kept"), 1);
	assert_int_equal(size_of(a, "lost"), -1);
	archive_close(a);
	archive_close(NULL);
}

/* The process dies: what was committed is there, what was not is not. */
static void killed(void **state)
{
	pid_t pid = fork();
	int status;
	struct archive *a;

	(void)state;
	if (pid == 0) {
		a = open_as("killed", "p", true);
		note(a, "kept", 1);
		commit(a);
		note(a, "lost", 2);
		raise(SIGKILL);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	a = open_as("killed", "p", false);
	assert_int_equal(size_of(a, "kept"), 1);
	assert_int_equal(size_of(a, "lost"), -1);
	archive_close(a);
}

static void forgetting_a_directory(void **state)
{
	struct archive *a = open_as("forget", "p", true);

	(void)state;
	note(a, "d", 1);
	note(a, "d/a", 2);
	note(a, "d/a/b", 3);
	note(a, "d.x", 4);
	note(a, "d\x01", 5);
	note(a, "dd", 6);
	note(a, "c/d", 7);
	forget(a, "d");
	assert_int_equal(size_of(a, "d"), -1);
	assert_int_equal(size_of(a, "d/a"), -1);
	assert_int_equal(size_of(a, "d/a/b"), -1);
	assert_int_equal(size_of(a, "d.x"), 4);
	assert_int_equal(size_of(a, "d\x01"), 5);
	assert_int_equal(size_of(a, "dd"), 6);
	assert_int_equal(size_of(a, "c/d"), 7);
	/* Another state of the directory leaves what is below. */
	note(a, "c", 8);
	assert_int_equal(size_of(a, "c/d"), 7);
	forget(a, "");
	assert_int_equal(size_of(a, "c/d"), -1);
	assert_int_equal(size_of(a, "dd"), -1);
	archive_close(a);
}

static void renames(void **state)
{
	struct archive *a = open_as("rename", "p", true);
	struct err err = ERR_INIT;

	(void)state;
	note(a, "old", 1);
	note(a, "old/a", 2);
	note(a, "old/a/\xff\n'", 3);
	note(a, "older", 4);
	note(a, "x/new/gone", 5);
	assert_int_equal(archive_rename(a, "old", 3, "x/new", 5, &err), 0);
	assert_int_equal(size_of(a, "old"), -1);
	assert_int_equal(size_of(a, "old/a"), -1);
	assert_int_equal(size_of(a, "x/new"), 1);
	assert_int_equal(size_of(a, "x/new/a"), 2);
	assert_int_equal(size_of(a, "x/new/a/\xff\n'"), 3);
	assert_int_equal(size_of(a, "x/new/gone"), -1);
	assert_int_equal(size_of(a, "older"), 4);
	assert_int_equal(archive_rename(a, "older", 5, "o", 1, &err), 0);
	assert_int_equal(size_of(a, "o"), 4);
	assert_int_equal(archive_rename(a, "nothing", 7, "o", 1, &err), 0);
	assert_int_equal(size_of(a, "o"), -1);
	assert_int_equal(archive_rename(a, "x", 1, "x/new", 5, &err), -1);
	assert_int_equal(archive_rename(a, "x/new", 5, "x", 1, &err), -1);
	assert_int_equal(err.class, ERR_BUG);
	commit(a);
	archive_close(a);
	a = open_as("rename", "p", false);
	assert_int_equal(size_of(a, "x/new/a"), 2);
	archive_close(a);
}

struct seen {
	char text[4096];
	char last[600];
	size_t last_len, n, stop_at;
};

static bool see(void *ctx, const char *path, size_t len, const struct twoway_state *state)
{
	struct seen *s = ctx;

	assert_int_equal(state->look, LOOK_FILE);
	if (s->n > 0)
		assert_true(path_compare(s->last, s->last_len, path, len) < 0);
	assert_true(len < sizeof(s->last));
	memcpy(s->last, path, len);
	s->last_len = len;
	s->n++;
	if (strlen(s->text) + len + 2 < sizeof(s->text)) {
		strncat(s->text, path, len);
		strncat(s->text, " ", 2);
	}
	return s->n != s->stop_at;
}

static void expect(struct archive *a, const char *dir, bool direct, const char *want)
{
	struct seen s = { .n = 0 };
	struct err err = ERR_INIT;

	assert_int_equal(archive_each(a, dir, strlen(dir), direct, see, &s, &err), 0);
	assert_string_equal(s.text, want);
}

static void visits(void **state)
{
	struct archive *a = open_as("each", "p", true);
	char longest[256];
	struct seen s = { .stop_at = 2 };
	struct err err = ERR_INIT;

	(void)state;
	expect(a, "", false, "");
	note(a, "", 9);
	note(a, "a", 1);
	note(a, "a/b", 2);
	note(a, "a/b/c", 3);
	note(a, "a/b.d", 4);
	note(a, "a-", 5);
	note(a, "z/y/x", 6); /* without its parents */
	note(a, "z/y/w", 6);
	note(a, "\x01", 7);
	memset(longest, 0xff, 255);
	longest[255] = '\0';
	expect(a, "", false, "\x01 a a/b a/b/c a/b.d a- z/y/w z/y/x ");
	expect(a, "", true, "\x01 a a- ");
	expect(a, "a", false, "a/b a/b/c a/b.d ");
	expect(a, "a", true, "a/b a/b.d ");
	expect(a, "a/b", true, "a/b/c ");
	expect(a, "z", true, "");
	expect(a, "z/y", true, "z/y/w z/y/x ");
	expect(a, "none", false, "");
	assert_int_equal(archive_each(a, "", 0, false, see, &s, &err), 0);
	assert_int_equal(s.n, 2);
	note(a, longest, 8);
	s = (struct seen){ .n = 0 };
	assert_int_equal(archive_each(a, "", 0, true, see, &s, &err), 0);
	assert_int_equal(s.n, 4);
	assert_int_equal(s.last_len, 255);
	archive_close(a);
}

/* Random notes of random bytes against a plain list. */
#define PATHS 300
static void random_paths(void **state)
{
	static struct {
		char path[40];
		int64_t size;
	} all[PATHS];
	struct archive *a = open_as("random", "p", true);
	struct seen s = { .n = 0 };
	struct err err = ERR_INIT;
	size_t n = 0;

	(void)state;
	srand(7);
	for (int i = 0; i < PATHS; i++) {
		size_t len = 1 + (size_t)(rand() % 12);

		for (size_t j = 0; j < len; j++)
			all[i].path[j] = rand() % 3 == 0 ? (char)(1 + rand() % 255) : "a/b\x01\xff"[rand() % 5];
		all[i].path[len] = '\0';
		all[i].size = i;
		if (!path_valid(all[i].path, len)) {
			i--;
			continue;
		}
		for (int j = 0; j < i; j++)
			if (strcmp(all[j].path, all[i].path) == 0)
				all[j].size = i;
		note(a, all[i].path, i);
	}
	for (int i = 0; i < PATHS; i++) {
		bool again = false;

		assert_int_equal(size_of(a, all[i].path), all[i].size);
		for (int j = 0; j < i; j++)
			again = again || strcmp(all[j].path, all[i].path) == 0;
		n += again ? 0 : 1;
	}
	assert_int_equal(archive_each(a, "", 0, false, see, &s, &err), 0);
	assert_int_equal(s.n, n);
	archive_close(a);
}

static void other_pair(void **state)
{
	struct archive *a = open_as("pair", "/etc -> b:/etc", true);
	uint64_t id = archive_id(a), other;

	(void)state;
	archive_close(a);
	a = open_as("pair", "/etc -> b:/etc", false);
	assert_true(archive_id(a) == id);
	note(a, "x", 1);
	commit(a);
	archive_close(a);
	a = open_as("pair", "/etc -> b:/etc2", true);
	assert_int_equal(size_of(a, "x"), -1);
	other = archive_id(a);
	assert_true(other != id);
	archive_close(a);
	a = open_as("pair", "/etc -> b:/etc2", false);
	assert_true(archive_id(a) == other);
	archive_close(a);
	assert_int_equal(access(scratch_path(&scratch, "pair.damaged"), F_OK), -1);
}

static void overwrite(const char *path, long at, const char *text, size_t len)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, text, len, at), (ssize_t)len);
	close(fd);
}

static void damaged(void **state)
{
	const char *path = scratch_path(&scratch, "damaged"), *aside = scratch_path(&scratch, "damaged.damaged");
	static char noise[4096];
	struct archive *a;

	(void)state;
	memset(noise, 'x', sizeof(noise));
	/* Not a database at all. */
	assert_int_equal(scratch_write(path,
				       "this is no archive, but long enough to be taken for a header of one ...... "
				       "..............................."),
			 0);
	a = open_as("damaged", "p", true);
	assert_int_equal(access(aside, F_OK), 0);
	for (int i = 0; i < 2000; i++) {
		char name[64];

		snprintf(name, sizeof(name), "a directory with a long name/%d", i);
		note(a, name, i);
	}
	commit(a);
	archive_close(a);
	a = open_as("damaged", "p", false);
	archive_close(a);
	/* A page in the middle. */
	overwrite(path, 3 * 4096, noise, sizeof(noise));
	a = open_as("damaged", "p", true);
	assert_int_equal(size_of(a, "a directory with a long name/7"), -1);
	archive_close(a);
	/* Cut off. */
	a = open_as("damaged", "p", false);
	note(a, "x", 1);
	commit(a);
	archive_close(a);
	assert_int_equal(truncate(path, 4096 + 100), 0);
	a = open_as("damaged", "p", true);
	archive_close(a);
	/* Empty: as if there were none. */
	assert_int_equal(truncate(path, 0), 0);
	a = open_as("damaged", "p", true);
	archive_close(a);
	/* A database, but another program's. */
	assert_int_equal(unlink(path), 0);
	{
		sqlite3 *db;

		assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
		assert_int_equal(sqlite3_exec(db, "CREATE TABLE entry (x); PRAGMA user_version = 2", NULL, NULL, NULL),
				 SQLITE_OK);
		sqlite3_close(db);
	}
	a = open_as("damaged", "p", true);
	note(a, "x", 1);
	archive_close(a);
}

static void a_state_that_makes_no_sense(void **state)
{
	struct archive *a = open_as("sense", "p", true);
	sqlite3 *db;

	(void)state;
	note(a, "x", 1);
	note(a, "y", 2);
	commit(a);
	archive_close(a);
	assert_int_equal(sqlite3_open(scratch_path(&scratch, "sense"), &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "UPDATE entry SET look = 77 WHERE size = 1", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	a = open_as("sense", "p", false);
	assert_int_equal(size_of(a, "x"), -1);
	assert_int_equal(size_of(a, "y"), 2);
	expect(a, "", false, "y ");
	archive_close(a);
}

static void nowhere(void **state)
{
	struct err err = ERR_INIT;
	bool fresh;

	(void)state;
	assert_null(open_at("no/such/dir", "p", &fresh, &err));
	assert_int_equal(err.class, ERR_IO);
	assert_non_null(strstr(err.text, "no/such/dir"));
	assert_int_equal(scratch_write(scratch_path(&scratch, "target"), ""), 0);
	assert_int_equal(symlink(scratch_path(&scratch, "target"), scratch_path(&scratch, "link")), 0);
	assert_null(open_at("link", "p", &fresh, &err));
}

/* Two workers of one sync can't be: the second one is refused, the first goes on. */
static void held_by_another(void **state)
{
	int go[2], done[2];
	char c = 0;
	pid_t pid;
	int status;

	(void)state;
	assert_int_equal(pipe2(go, O_CLOEXEC), 0);
	assert_int_equal(pipe2(done, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		struct archive *a = open_as("held", "p", true);

		note(a, "x", 1);
		commit(a);
		(void)!write(go[1], &c, 1);
		(void)!read(done[0], &c, 1);
		note(a, "x", 2);
		commit(a);
		archive_close(a);
		_exit(0);
	}
	assert_int_equal(read(go[0], &c, 1), 1);
	{
		struct err err = ERR_INIT;
		bool fresh;

		assert_null(open_at("held", "p", &fresh, &err));
		assert_int_equal(err.class, ERR_AGAIN);
	}
	assert_int_equal(write(done[1], &c, 1), 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	for (int i = 0; i < 2; i++) {
		close(go[i]);
		close(done[i]);
	}
	{
		struct archive *a = open_as("held", "p", false);

		assert_int_equal(size_of(a, "x"), 2);
		archive_close(a);
	}
}

/* A full disk: an error, and the archive is as it was at the commit before. */
static void disk_full(void **state)
{
	struct archive *a = open_as("full", "p", true);
	struct rlimit before, small;
	struct err err = ERR_INIT;
	int rc = 0;

	(void)state;
	note(a, "kept", 1);
	commit(a);
	(void)signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	small = before;
	small.rlim_cur = 128 * 1024;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	for (int i = 0; rc == 0 && i < 100000; i++) {
		struct twoway_state s = file_of(i, i);
		char name[32];
		int n = snprintf(name, sizeof(name), "name %d", i);

		rc = archive_note(a, name, (size_t)n, &s, &err);
		if (rc == 0 && i % 1000 == 999)
			rc = archive_commit(a, &err);
	}
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(rc, -1);
	assert_true(err.class == ERR_NOSPACE || err.class == ERR_IO);
	assert_non_null(strstr(err.text, "/full")); /* where there is none left */
	archive_close(a);
	a = open_as("full", "p", false);
	assert_int_equal(size_of(a, "kept"), 1);
	note(a, "more", 2);
	commit(a);
	archive_close(a);
}

/* ---- a kernel that was started anew ---- */

static const unsigned char first_boot[HOST_ID_BYTES] = "first boot......",
			   second_boot[HOST_ID_BYTES] = "the second one..";

struct life {
	struct loop *loop;
	struct loop_timer *end;
};

/* `fresh`: what it should be. */
static struct archive *live(const struct life *l, const char *name, const unsigned char *boot, bool fresh)
{
	const struct archive_place place = { .path = scratch_path(&scratch, name),
					     .pair = "p",
					     .boot = boot,
					     .loop = l->loop,
					     .settle_ns = 100 * NS_PER_MS };
	struct err err = ERR_INIT;
	bool got = !fresh;
	struct archive *a = archive_open(&place, &got, &err);

	if (a == NULL)
		fail_msg("%s", err.text);
	assert_int_equal(got, fresh);
	return a;
}

static void over(void *ctx)
{
	struct life *l = ctx;

	loop_stop(l->loop, 0);
}

static void pass(struct life *l, int64_t ns)
{
	struct err err = ERR_INIT;

	loop_timer_after(l->end, ns);
	assert_int_equal(loop_run(l->loop, &err), 0);
}

/* Longer than any timer that a note sets going. */
#define SETTLED_NS (250 * NS_PER_MS)

static void begin_life(struct life *l)
{
	struct err err = ERR_INIT;

	l->loop = loop_new(&err);
	assert_non_null(l->loop);
	l->end = loop_timer_add(l->loop, over, l, &err);
	assert_non_null(l->end);
}

static void end_life(struct life *l)
{
	loop_timer_remove(l->end);
	loop_free(l->loop);
}

/* As a comparison of everything at the end of a work. */
static void compared(struct archive *a)
{
	struct err err = ERR_INIT;

	assert_int_equal(archive_doubt_over(a, &err), 0);
	assert_true(archive_in_doubt(a)); /* until that is written down */
	commit(a);
	assert_false(archive_in_doubt(a));
}

static void what_is_young_is_forgotten(void **state)
{
	struct err err = ERR_INIT;
	struct life l;
	struct archive *a;

	(void)state;
	begin_life(&l);
	a = live(&l, "young", first_boot, true);
	note(a, "old", 1);
	note(a, "moved/below", 2);
	note(a, "new", 3);
	commit(a);
	pass(&l, SETTLED_NS);
	note(a, "new", 4);
	note(a, "young/too", 5);
	assert_int_equal(archive_rename(a, "moved", 5, "there", 5, &err), 0);
	commit(a);
	archive_close(a);
	/* The same kernel: all is as it was. */
	a = live(&l, "young", first_boot, false);
	assert_false(archive_in_doubt(a));
	assert_int_equal(size_of(a, "young/too"), 5);
	archive_close(a);
	a = live(&l, "young", second_boot, false);
	expect(a, "", false, "old ");
	assert_true(archive_in_doubt(a));
	assert_true(archive_tell_doubt(a));
	assert_false(archive_tell_doubt(a));
	note(a, "new", 6);
	commit(a);
	archive_close(a);
	/* Until everything has been compared, also for others. */
	a = live(&l, "young", second_boot, false);
	assert_true(archive_tell_doubt(a));
	compared(a);
	archive_close(a);
	a = live(&l, "young", second_boot, false);
	assert_false(archive_in_doubt(a) || archive_tell_doubt(a));
	expect(a, "", false, "new old ");
	archive_close(a);
	end_life(&l);
}

/* Not a process's life, but what passed in the same run of the kernel is what makes old. */
static void what_is_old_stays(void **state)
{
	struct life l;
	struct archive *a;

	(void)state;
	begin_life(&l);
	a = live(&l, "old", first_boot, true);
	note(a, "x", 1);
	commit(a);
	archive_close(a);
	pass(&l, SETTLED_NS); /* nobody has it open */
	a = live(&l, "old", first_boot, false);
	archive_close(a);
	a = live(&l, "old", second_boot, false);
	assert_int_equal(size_of(a, "x"), 1);
	assert_true(archive_in_doubt(a)); /* notes may be missing all the same */
	compared(a);
	note(a, "y", 2);
	commit(a);
	archive_close(a);
	a = live(&l, "old", first_boot, false);
	expect(a, "", false, "x ");
	archive_close(a);
	end_life(&l);
}

/* The timer comes in the midst of a batch: what is not committed then is not settled. */
static void settles_within_a_batch(void **state)
{
	struct life l;
	struct archive *a;

	(void)state;
	begin_life(&l);
	a = live(&l, "midst", first_boot, true);
	note(a, "x", 1);
	commit(a);
	note(a, "y", 2);
	pass(&l, SETTLED_NS);
	commit(a);
	archive_close(a);
	a = live(&l, "midst", second_boot, false);
	assert_int_equal(size_of(a, "x"), 1);
	assert_int_equal(size_of(a, "y"), -1);
	archive_close(a);
	end_life(&l);
}

static void an_orderly_end(void **state)
{
	struct err err = ERR_INIT;
	struct life l;
	struct archive *a;

	(void)state;
	begin_life(&l);
	assert_int_equal(archive_end(scratch_path(&scratch, "orderly"), scratch_path(&scratch, "."), &err),
			 0); /* none */
	a = live(&l, "orderly", first_boot, true);
	note(a, "x", 1);
	commit(a);
	archive_close(a);
	assert_int_equal(archive_end(scratch_path(&scratch, "orderly"), scratch_path(&scratch, "no source"), &err), -1);
	assert_non_null(strstr(err.text, "no source"));
	assert_int_equal(archive_end(scratch_path(&scratch, "orderly"), scratch_path(&scratch, "."), &err), 0);
	a = live(&l, "orderly", second_boot, false);
	assert_false(archive_in_doubt(a));
	assert_int_equal(size_of(a, "x"), 1);
	note(a, "y", 2);
	commit(a);
	archive_close(a);
	/* It was taken up again since. */
	a = live(&l, "orderly", first_boot, false);
	assert_true(archive_in_doubt(a));
	expect(a, "", false, "x ");
	archive_close(a);
	end_life(&l);
}

/* A kernel that does not say which run it is, or an archive that was begun on such a one. */
static void unknown_boot(void **state)
{
	static const unsigned char zero[HOST_ID_BYTES];
	struct life l;
	struct archive *a;

	(void)state;
	begin_life(&l);
	a = live(&l, "unknown", zero, true);
	note(a, "x", 1);
	commit(a);
	archive_close(a);
	a = live(&l, "unknown", NULL, false);
	archive_close(a);
	a = live(&l, "unknown", first_boot, false);
	assert_false(archive_in_doubt(a));
	note(a, "y", 2);
	commit(a);
	archive_close(a);
	a = live(&l, "unknown", zero, false);
	assert_false(archive_in_doubt(a));
	archive_close(a);
	end_life(&l);
}

/* ---- every allocation fails once ---- */

static sqlite3_mem_methods plain;
static long allocations, fail_at;

static bool fails(void)
{
	return ++allocations == fail_at;
}

static void *x_malloc(int n)
{
	return fails() ? NULL : plain.xMalloc(n);
}

static void *x_realloc(void *p, int n)
{
	return fails() ? NULL : plain.xRealloc(p, n);
}

static int all_of_it(struct err *err)
{
	struct twoway_state s = file_of(1, 1), absent = { .look = LOOK_ABSENT }, got;
	struct seen seen = { .n = 0 };
	bool fresh;
	static unsigned char boot[HOST_ID_BYTES] = { 1 };
	const struct archive_place place = { .path = scratch_path(&scratch, "memory"), .pair = "p", .boot = boot };
	struct archive *a;
	int rc = -1;

	boot[1]++; /* each time another one */
	a = archive_open(&place, &fresh, err);
	if (a == NULL)
		return -1;
	if (archive_note(a, "a/b", 3, &s, err) == 0 && archive_note(a, "c", 1, &s, err) == 0 &&
	    archive_get(a, "a/b", 3, &got, err) == 0 && archive_rename(a, "a", 1, "d", 1, err) == 0 &&
	    archive_each(a, "", 0, true, see, &seen, err) == 0 && archive_note(a, "c", 1, &absent, err) == 0 &&
	    archive_commit(a, err) == 0 && archive_doubt_over(a, err) == 0 && archive_commit(a, err) == 0)
		rc = 0;
	archive_close(a);
	if (rc == 0)
		rc = archive_end(place.path, scratch_path(&scratch, "."), err);
	return rc;
}

static void out_of_memory(void **state)
{
	sqlite3_mem_methods own;
	struct err err = ERR_INIT;
	long failures = 0;

	(void)state;
	assert_int_equal(sqlite3_shutdown(), SQLITE_OK);
	assert_int_equal(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &plain), SQLITE_OK);
	own = plain;
	own.xMalloc = x_malloc;
	own.xRealloc = x_realloc;
	assert_int_equal(sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0), SQLITE_OK);
	assert_int_equal(sqlite3_config(SQLITE_CONFIG_MALLOC, &own), SQLITE_OK);
	for (long step = 1;; step++) {
		allocations = 0;
		fail_at = step;
		err = (struct err)ERR_INIT;
		if (all_of_it(&err) < 0) {
			failures++;
			if (err.class != ERR_NOMEM && err.class != ERR_IO)
				fail_msg("allocation %ld: %s: %s", step, err_class_name(err.class), err.text);
		}
		if (allocations < step)
			break;
	}
	fail_at = 0;
	assert_true(failures > 20);
	assert_int_equal(all_of_it(&err), 0);
	assert_int_equal(sqlite3_shutdown(), SQLITE_OK);
	assert_int_equal(sqlite3_config(SQLITE_CONFIG_MALLOC, &plain), SQLITE_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(states_come_back),
		cmocka_unit_test(commit_and_rollback),
		cmocka_unit_test(killed),
		cmocka_unit_test(forgetting_a_directory),
		cmocka_unit_test(renames),
		cmocka_unit_test(visits),
		cmocka_unit_test(random_paths),
		cmocka_unit_test(other_pair),
		cmocka_unit_test(damaged),
		cmocka_unit_test(a_state_that_makes_no_sense),
		cmocka_unit_test(nowhere),
		cmocka_unit_test(held_by_another),
		cmocka_unit_test(disk_full),
		cmocka_unit_test(what_is_young_is_forgotten),
		cmocka_unit_test(what_is_old_stays),
		cmocka_unit_test(settles_within_a_batch),
		cmocka_unit_test(an_orderly_end),
		cmocka_unit_test(unknown_boot),
		cmocka_unit_test(out_of_memory),
	};

	return cmocka_run_group_tests(tests, up, down);
}
