/* LINK: core/safe_open.c core/worker_guard.c core/guard.c core/keep.c core/identity.c core/mounts.c core/look.c
 * core/filter.c core/fsutil.c core/path.c core/log.c core/clock.c core/buf.c core/err.c */
/* WRAP: mounts_read */
/* What a worker's guard learns of the mounts below its source, in a mount namespace of the test's own. */
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/mounts.h"
#include "core/worker_guard.h"
#include "tests/unit/scratch.h"

static unsigned reads;
static bool reading_fails;

int __real_mounts_read(struct mounts *out, struct err *err);
int __wrap_mounts_read(struct mounts *out, struct err *err);

int __wrap_mounts_read(struct mounts *out, struct err *err)
{
	reads++;
	if (reading_fails)
		return err_set(err, ERR_IO, "the test lets it fail");
	return __real_mounts_read(out, err);
}

struct fixture {
	struct scratch scratch;
	struct sync_options opt;
	struct worker_guard guard;
	char source[512];
	int fd;
};

static int own_mounts(void **state)
{
	(void)state;
	if (unshare(CLONE_NEWNS) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
		return -1;
	return mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char sub[600];
	struct stat st;

	*state = f;
	if (f == NULL || scratch_make(&f->scratch) < 0)
		return -1;
	snprintf(f->source, sizeof(f->source), "%s", scratch_path(&f->scratch, "source"));
	snprintf(sub, sizeof(sub), "%s/sub", f->source);
	if (mkdir(f->source, 0700) < 0 || mkdir(sub, 0700) < 0)
		return -1;
	f->opt.source = f->source;
	f->opt.filter = filter_new();
	f->fd = open(f->source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (f->fd < 0 || fstat(f->fd, &st) < 0 || f->opt.filter == NULL)
		return -1;
	wguard_init(&f->guard, &f->opt, 0, f->fd, st.st_dev, st.st_ino);
	reads = 0;
	reading_fails = false;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	char sub[600];
	int rc;

	wguard_done(&f->guard);
	snprintf(sub, sizeof(sub), "%s/sub", f->source);
	(void)umount2(sub, MNT_DETACH);
	close(f->fd);
	filter_free(f->opt.filter);
	rc = scratch_remove(&f->scratch);
	free(f);
	return rc;
}

static void mount_below(struct fixture *f)
{
	char sub[600];

	snprintf(sub, sizeof(sub), "%s/sub", f->source);
	assert_int_equal(mount("none", sub, "tmpfs", 0, NULL), 0);
}

static void mount_elsewhere(struct fixture *f)
{
	char path[600];

	snprintf(path, sizeof(path), "%s", scratch_path(&f->scratch, "source-2"));
	(void)mkdir(path, 0700);
	assert_int_equal(mount("none", path, "tmpfs", 0, NULL), 0);
}

static void unmount_elsewhere(struct fixture *f)
{
	assert_int_equal(umount2(scratch_path(&f->scratch, "source-2"), MNT_DETACH), 0);
}

static void unmount_below(struct fixture *f)
{
	char sub[600];

	snprintf(sub, sizeof(sub), "%s/sub", f->source);
	assert_int_equal(umount2(sub, MNT_DETACH), 0);
}

/* Over what is there: the source is the same, what was above it is not. */
static void mount_above(struct fixture *f)
{
	char above[512];

	snprintf(above, sizeof(above), "%s", f->source);
	*strrchr(above, '/') = '\0';
	assert_int_equal(mount(above, above, NULL, MS_BIND, NULL), 0);
}

/* A batch as worker.c has it, with `meanwhile` between the look and the plan; what it comes to. */
static enum err_class batch(struct fixture *f, void (*meanwhile)(struct fixture *f))
{
	struct plan plan;
	struct err err = ERR_INIT;

	memset(&plan, 0, sizeof(plan));
	if (wguard_begin(&f->guard, false, &err) == 0) {
		if (meanwhile != NULL)
			meanwhile(f);
		(void)wguard_planned(&f->guard, &plan, &err);
	}
	return err.class;
}

static bool kept(const struct fixture *f)
{
	return keep_covers(&f->guard.keep, "sub/below", 9);
}

static void what_comes_between_batches_is_kept(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(batch(f, NULL), ERR_NONE);
	assert_false(kept(f));
	wguard_end(&f->guard);
	mount_below(f);
	assert_int_equal(batch(f, NULL), ERR_NONE);
	assert_true(kept(f));
	assert_true(f->guard.learned);
}

/* The kernel tells of a change once: whoever asks. */
static void what_comes_while_the_source_is_looked_at_is_kept_by_the_next_batch(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(batch(f, NULL), ERR_NONE);
	wguard_end(&f->guard);
	assert_int_equal(batch(f, mount_below), ERR_AGAIN);
	wguard_release(&f->guard);
	assert_int_equal(batch(f, NULL), ERR_NONE);
	assert_true(kept(f));
}

static void what_is_mounted_elsewhere_disturbs_nothing(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < 2; i++) { /* without a mount below, and with one */
		assert_int_equal(batch(f, mount_elsewhere), ERR_NONE);
		wguard_end(&f->guard);
		assert_int_equal(batch(f, unmount_elsewhere), ERR_NONE);
		wguard_end(&f->guard);
		if (i == 0)
			mount_below(f);
	}
	assert_int_equal(batch(f, unmount_below), ERR_AGAIN);
}

static void what_was_elsewhere_does_not_hide_what_is_below(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(batch(f, mount_elsewhere), ERR_NONE);
	wguard_end(&f->guard);
	mount_below(f);
	assert_int_equal(batch(f, unmount_elsewhere), ERR_NONE);
	assert_true(kept(f));
}

static void what_comes_above_counts(void **state)
{
	struct fixture *f = *state;
	char above[512];

	assert_int_equal(batch(f, NULL), ERR_NONE);
	wguard_end(&f->guard);
	assert_int_equal(batch(f, mount_above), ERR_AGAIN);
	wguard_release(&f->guard);
	assert_int_equal(batch(f, NULL), ERR_NONE);
	wguard_end(&f->guard);
	snprintf(above, sizeof(above), "%s", f->source);
	*strrchr(above, '/') = '\0';
	assert_int_equal(umount2(above, MNT_DETACH), 0);
}

static void a_table_that_could_not_be_read_is_read_by_the_next_batch(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(batch(f, NULL), ERR_NONE);
	wguard_end(&f->guard);
	mount_below(f);
	reading_fails = true;
	assert_int_equal(batch(f, NULL), ERR_IO);
	wguard_release(&f->guard);
	assert_int_equal(batch(f, NULL), ERR_IO);
	wguard_release(&f->guard);
	reading_fails = false;
	assert_int_equal(batch(f, NULL), ERR_NONE);
	assert_true(kept(f));
}

/* A worker that begins with a record of a source that had no mounts. */
static void a_first_look_that_failed_is_repeated(void **state)
{
	struct fixture *f = *state;

	f->guard.state.looked = true;
	mount_below(f);
	reading_fails = true;
	assert_int_equal(batch(f, NULL), ERR_IO);
	wguard_release(&f->guard);
	reading_fails = false;
	assert_int_equal(batch(f, NULL), ERR_NONE);
	assert_true(kept(f));
}

/* The daemon's record need not know what the worker has seen. */
static void a_record_from_the_daemon_is_compared_with_the_table(void **state)
{
	struct fixture *f = *state;
	struct buf record;
	struct err err = ERR_INIT;

	buf_init(&record, GUARD_TEXT_MAX);
	assert_int_equal(batch(f, NULL), ERR_NONE);
	wguard_end(&f->guard);
	assert_true(guard_put(&record, &f->guard.state));
	mount_below(f);
	assert_int_equal(batch(f, NULL), ERR_NONE);
	wguard_end(&f->guard);
	assert_int_equal(wguard_take(&f->guard, buf_str(&record), record.len, &err), 0);
	assert_int_equal(batch(f, NULL), ERR_NONE);
	assert_true(kept(f));
	buf_done(&record);
}

static void an_unchanged_table_is_read_once(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(batch(f, NULL), ERR_NONE);
		wguard_end(&f->guard);
	}
	assert_int_equal(reads, 1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(what_comes_between_batches_is_kept),
		TEST(what_comes_while_the_source_is_looked_at_is_kept_by_the_next_batch),
		TEST(what_is_mounted_elsewhere_disturbs_nothing),
		TEST(what_was_elsewhere_does_not_hide_what_is_below),
		TEST(what_comes_above_counts),
		TEST(a_table_that_could_not_be_read_is_read_by_the_next_batch),
		TEST(a_first_look_that_failed_is_repeated),
		TEST(a_record_from_the_daemon_is_compared_with_the_table),
		TEST(an_unchanged_table_is_read_once),
	};

	return cmocka_run_group_tests_name("worker_guard", tests, own_mounts, NULL);
}
