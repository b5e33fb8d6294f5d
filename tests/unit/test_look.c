/* LINK: core/look.c core/path.c core/err.c core/fsutil.c core/safe_open.c core/buf.c */
/* WRAP: fstatat syscall */
/* Looks at a source: never through a symlink, never outside; what cannot be known is not absent. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "core/look.h"
#include "core/path.h"
#include "tests/unit/scratch.h"

/* The next calls fail so: 0 for not. */
static struct {
	int fstatat_errno, openat2_errno;
	unsigned opened;
} forced;

int __real_fstatat(int fd, const char *path, struct stat *st, int flags);
int __wrap_fstatat(int fd, const char *path, struct stat *st, int flags);
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);

int __wrap_fstatat(int fd, const char *path, struct stat *st, int flags)
{
	if (forced.fstatat_errno == 0)
		return __real_fstatat(fd, path, st, flags);
	errno = forced.fstatat_errno;
	return -1;
}

long __wrap_syscall(long number, ...)
{
	va_list ap;
	long a, b, c, d;

	va_start(ap, number);
	a = va_arg(ap, int);
	b = va_arg(ap, long);
	c = va_arg(ap, long);
	d = va_arg(ap, long);
	va_end(ap);
	forced.opened += number == SYS_openat2 ? 1 : 0;
	if (number != SYS_openat2 || forced.openat2_errno == 0)
		return __real_syscall(number, a, b, c, d);
	errno = forced.openat2_errno;
	return -1;
}

struct fixture {
	struct scratch scratch;
	int root;
	struct looker looker;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	if (scratch_make(&f->scratch) < 0 || mkdir(scratch_path(&f->scratch, "root"), 0755) < 0)
		return -1;
	f->root = open(scratch_path(&f->scratch, "root"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	looker_init(&f->looker, f->root);
	memset(&forced, 0, sizeof(forced));
	return f->root < 0 ? -1 : 0;
}

static int clean_up(void **state)
{
	struct fixture *f = *state;
	int rc;

	memset(&forced, 0, sizeof(forced));
	looker_done(&f->looker);
	close(f->root);
	rc = scratch_remove(&f->scratch);
	free(f);
	return rc;
}

static enum look look(struct fixture *f, const char *path)
{
	struct err err = ERR_INIT;
	struct stat st = { 0 };
	enum look out = LOOK_NONE;

	if (looker_look(&f->looker, path, strlen(path), &out, &st, &err) < 0)
		fail_msg("%s", err.text);
	return out;
}

static void fails_with(struct fixture *f, const char *path, enum err_class class)
{
	struct err err = ERR_INIT;
	struct stat st;
	enum look out = LOOK_NONE;

	assert_int_equal(looker_look(&f->looker, path, strlen(path), &out, &st, &err), -1);
	assert_int_equal(out, LOOK_NONE); /* nothing is concluded */
	assert_int_equal(err.class, class);
}

static void make_tree(struct fixture *f)
{
	assert_int_equal(mkdirat(f->root, "d", 0755), 0);
	assert_int_equal(mkdirat(f->root, "d/e", 0755), 0);
	assert_int_equal(scratch_write(scratch_path(&f->scratch, "root/d/f"), "12345"), 0);
	assert_int_equal(scratch_write(scratch_path(&f->scratch, "root/d/e/g"), ""), 0);
	assert_int_equal(symlinkat("e", f->root, "d/l"), 0);
	assert_int_equal(symlinkat("nowhere", f->root, "dangling"), 0);
	assert_int_equal(mkfifoat(f->root, "p", 0600), 0);
}

static void every_type(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct stat st;
	enum look out;

	make_tree(f);
	assert_int_equal(look(f, ""), LOOK_DIR);
	assert_int_equal(look(f, "d"), LOOK_DIR);
	assert_int_equal(look(f, "d/e/g"), LOOK_FILE);
	assert_int_equal(look(f, "d/l"), LOOK_SYMLINK);
	assert_int_equal(look(f, "dangling"), LOOK_SYMLINK);
	assert_int_equal(look(f, "p"), LOOK_SPECIAL);
	assert_int_equal(look(f, "none"), LOOK_ABSENT);
	assert_int_equal(look(f, "none/at/all"), LOOK_ABSENT);
	assert_int_equal(look(f, "d/f/x"), LOOK_ABSENT); /* below a file */
	assert_int_equal(looker_look(&f->looker, "d/f", 3, &out, &st, &err), 0);
	assert_int_equal(st.st_size, 5);
	/* Its bytes end where they say. */
	assert_int_equal(looker_look(&f->looker, "d/fxyz", 3, &out, &st, &err), 0);
	assert_int_equal(out, LOOK_FILE);
}

static void a_directory_is_opened_once(void **state)
{
	struct fixture *f = *state;

	make_tree(f);
	look(f, "d/e/g");
	look(f, "d/e/h");
	look(f, "d/e/i");
	assert_int_equal(forced.opened, 1);
	look(f, "d/f"); /* one component needs no openat2 */
	look(f, "d/e/g");
	look(f, "d/e/h");
	assert_int_equal(forced.opened, 2);
	/* A new batch looks anew. */
	assert_int_equal(renameat(f->root, "d", f->root, "moved"), 0);
	looker_done(&f->looker);
	assert_int_equal(look(f, "d/e/g"), LOOK_ABSENT);
	assert_int_equal(look(f, "moved/e/g"), LOOK_FILE);
}

static void outside_things(struct fixture *f)
{
	assert_int_equal(mkdir(scratch_path(&f->scratch, "outside"), 0755), 0);
	assert_int_equal(scratch_write(scratch_path(&f->scratch, "outside/secret"), "x"), 0);
	assert_int_equal(symlinkat("../outside", f->root, "out"), 0);
	assert_int_equal(symlinkat(scratch_path(&f->scratch, "outside"), f->root, "absolute"), 0);
	assert_int_equal(symlinkat("d", f->root, "inside"), 0);
	assert_int_equal(symlinkat("loop", f->root, "loop"), 0);
}

static void check_symlinked_parents(struct fixture *f)
{
	assert_int_equal(look(f, "d/e/g"), LOOK_FILE);
	assert_int_equal(look(f, "d/l/g"), LOOK_ABSENT);
	assert_int_equal(look(f, "out/secret"), LOOK_ABSENT);
	assert_int_equal(look(f, "absolute/secret"), LOOK_ABSENT);
	assert_int_equal(look(f, "inside/f"), LOOK_ABSENT);
	assert_int_equal(look(f, "inside/e/g"), LOOK_ABSENT);
	assert_int_equal(look(f, "loop/x"), LOOK_ABSENT);
	assert_int_equal(look(f, "loop"), LOOK_SYMLINK);
}

static void symlinked_parents_are_not_followed(void **state)
{
	struct fixture *f = *state;

	make_tree(f);
	outside_things(f);
	check_symlinked_parents(f);
	assert_true(forced.opened > 0);
	looker_done(&f->looker);
	forced.openat2_errno = ENOSYS; /* an old kernel: one component at a time */
	check_symlinked_parents(f);
	looker_done(&f->looker);
	forced.openat2_errno = EPERM; /* a sandbox */
	check_symlinked_parents(f);
}

/* Names of 200 bytes until the path is longer than PATH_MAX. */
static void deep_paths(void **state)
{
	struct fixture *f = *state;
	char name[201], *path = malloc(8192);
	int fd = dup(f->root), next;
	size_t len = 0;

	memset(name, 'n', 200);
	name[200] = '\0';
	for (int i = 0; i < 30; i++) {
		assert_int_equal(mkdirat(fd, name, 0755), 0);
		next = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(fd);
		fd = next;
		memcpy(path + len, name, 200);
		len += 200;
		path[len++] = '/';
	}
	path[len] = '\0';
	next = openat(fd, "leaf", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(next >= 0);
	close(next);
	assert_int_equal(symlinkat(".", fd, "link"), 0);
	close(fd);
	memcpy(path + len, "leaf", 5);
	assert_true(len > 4096 && path_valid(path, len + 4));
	assert_int_equal(look(f, path), LOOK_FILE);
	memcpy(path + len, "none", 5);
	assert_int_equal(look(f, path), LOOK_ABSENT);
	memcpy(path + len, "link/leaf", 10);
	assert_int_equal(look(f, path), LOOK_ABSENT);
	path[10 * 201 - 1] = '\0';
	assert_int_equal(look(f, path), LOOK_DIR);
	/* Around the border between the two ways. */
	for (size_t n = 4000; n < 4200; n++) {
		struct err err = ERR_INIT;
		struct stat st;
		enum look out;

		path[10 * 201 - 1] = '/';
		if (!path_valid(path, n))
			continue;
		assert_int_equal(looker_look(&f->looker, path, n, &out, &st, &err), 0);
		assert_int_equal(out, (n + 1) % 201 == 0 ? LOOK_DIR : LOOK_ABSENT);
	}
	free(path);
}

/* In a child without privileges: root may look everywhere. */
static int look_as_nobody(struct fixture *f)
{
	struct err err = ERR_INIT;
	struct stat st;
	enum look out = LOOK_NONE;

	if (geteuid() == 0 && (setgid(65534) < 0 || setuid(65534) < 0))
		return 100;
	if (looker_look(&f->looker, "d/f", 3, &out, &st, &err) != -1 || err.class != ERR_DENIED || out != LOOK_NONE)
		return 1;
	if (looker_look(&f->looker, "d/none", 6, &out, &st, &err) != -1 || err.class != ERR_DENIED)
		return 2;
	if (looker_look(&f->looker, "d/e/g", 5, &out, &st, &err) != -1 || err.class != ERR_DENIED)
		return 3;
	return looker_look(&f->looker, "d", 1, &out, &st, &err) == 0 && out == LOOK_DIR ? 0 : 4;
}

static void denied_is_not_absent(void **state)
{
	struct fixture *f = *state;
	pid_t pid;

	make_tree(f);
	assert_int_equal(fchmodat(f->root, "d", 0, 0), 0);
	pid = fork();
	if (pid == 0)
		_exit(look_as_nobody(f));
	assert_int_equal(scratch_wait(pid), 0);
	assert_int_equal(fchmodat(f->root, "d", 0755, 0), 0);
}

static void other_failures_are_not_absence(void **state)
{
	static const struct {
		int errnum;
		enum err_class class;
	} cases[] = { { EIO, ERR_IO },		 { EACCES, ERR_DENIED },     { ENOMEM, ERR_NOMEM },
		      { ENOTCONN, ERR_NETWORK }, { ETIMEDOUT, ERR_NETWORK }, { ESTALE, ERR_GONE } };
	struct fixture *f = *state;

	make_tree(f);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		forced.fstatat_errno = cases[i].errnum;
		fails_with(f, "d/f", cases[i].class);
		/* A stale descriptor would never be any use again. */
		assert_int_equal(f->looker.dir_fd == -1, cases[i].errnum == ESTALE);
		forced.fstatat_errno = 0;
		assert_int_equal(look(f, "d/f"), LOOK_FILE); /* and it may be looked at again */
		looker_done(&f->looker);
		forced.openat2_errno = cases[i].errnum;
		fails_with(f, "d/e/g", cases[i].class);
		forced.openat2_errno = 0;
		assert_int_equal(look(f, "d/f"), LOOK_FILE);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, clean_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_type), TEST(a_directory_is_opened_once), TEST(symlinked_parents_are_not_followed),
		TEST(deep_paths), TEST(denied_is_not_absent),	    TEST(other_failures_are_not_absence),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
