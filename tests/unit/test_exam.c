/* LINK: core/exam.c core/proc.c core/buf.c core/err.c core/path.c core/credential.c core/clock.c core/fsutil.c
 * core/safe_open.c */
/* What examinations are made of: findings that travel through a pipe, programs with a time limit, walks that end. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/exam.h"
#include "tests/unit/scratch.h"

static struct exam through(int ends[2])
{
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		abort();
	return (struct exam){ .fd = ends[1], .until_ns = clock_mono_ns() + 60 * NS_PER_S };
}

/* All that was said. The pipe is closed. */
static size_t said(int ends[2], char *out, size_t size)
{
	ssize_t n;

	close(ends[1]);
	n = read(ends[0], out, size);
	close(ends[0]);
	return n < 0 ? 0 : (size_t)n;
}

static void findings(void **state)
{
	char data[8192], lengthy[3000];
	struct exam_finding f;
	struct reader r;
	int ends[2];
	struct exam x = through(ends);

	(void)state;
	memset(lengthy, 'x', sizeof(lengthy) - 1);
	lengthy[sizeof(lengthy) - 1] = '\0';
	exam_begin(&x, "one");
	exam_ok(&x, "%d is fine", 7);
	exam_begin(&x, "another");
	exam_fail(&x, "do it", "%s", lengthy);
	exam_warn(&x, "", "with \n and \x01");
	exam_skip(&x, "no");
	exam_begin(&x, "hangs");
	reader_init(&r, data, said(ends, data, sizeof(data)));
	assert_true(exam_next(&r, &f) && f.level == EXAM_BEGUN);
	assert_true(exam_next(&r, &f) && f.level == EXAM_OK);
	assert_string_equal(f.check, "one");
	assert_string_equal(f.text, "7 is fine");
	assert_string_equal(f.remedy, "");
	assert_true(exam_next(&r, &f) && f.level == EXAM_BEGUN);
	assert_true(exam_next(&r, &f) && f.level == EXAM_FAIL);
	assert_int_equal(strlen(f.text), EXAM_TEXT_MAX - 1);
	assert_string_equal(f.remedy, "do it");
	assert_true(exam_next(&r, &f) && f.level == EXAM_WARN);
	assert_true(exam_next(&r, &f) && f.level == EXAM_SKIP);
	assert_true(exam_next(&r, &f) && f.level == EXAM_BEGUN);
	assert_string_equal(f.check, "hangs");
	assert_false(exam_next(&r, &f));
}

/* What a process that died in the middle of a finding has left. */
static void cut_findings(void **state)
{
	char data[256], part[256];
	struct exam_finding f;
	struct reader r;
	int ends[2];
	struct exam x = through(ends);
	size_t n;

	(void)state;
	exam_ok(&x, "text");
	n = said(ends, data, sizeof(data));
	for (size_t i = 0; i < n; i++) {
		memcpy(part, data, i);
		reader_init(&r, part, i);
		assert_false(exam_next(&r, &f));
	}
	part[0] = 77;
	reader_init(&r, part, n);
	assert_false(exam_next(&r, &f));
}

static int shell(const char *text, const char *input, int64_t limit_ns, struct exam_output *o)
{
	const char *const argv[] = { "/bin/sh", "-c", text, NULL };
	struct err err = ERR_INIT;

	return exam_run(argv, "/", input, limit_ns, o, &err);
}

static void programs(void **state)
{
	const char *const missing[] = { "/no/such/program", NULL };
	struct err err = ERR_INIT;
	struct exam_output o;

	(void)state;
	assert_int_equal(shell("pwd; read x; echo \"$x\"; echo wrong >&2; exit 3", "said\n", 20 * NS_PER_S, &o), 0);
	assert_string_equal(buf_str(&o.out), "/\nsaid\n");
	assert_string_equal(buf_str(&o.err), "wrong\n");
	assert_true(WIFEXITED(o.status) && WEXITSTATUS(o.status) == 3 && !o.timed_out);
	exam_output_done(&o);
	/* more than is kept, and input that nobody reads */
	assert_int_equal(shell("head -c 300000 /dev/zero", "not read", 20 * NS_PER_S, &o), 0);
	assert_int_equal(o.out.len, o.out.max);
	assert_true(!o.timed_out && WIFEXITED(o.status) && WEXITSTATUS(o.status) == 0);
	exam_output_done(&o);
	/* it ends, what it started does not */
	assert_int_equal(shell("tail -f /dev/null & echo gone", NULL, 20 * NS_PER_S, &o), 0);
	assert_string_equal(buf_str(&o.out), "gone\n");
	assert_false(o.timed_out);
	exam_output_done(&o);
	assert_int_equal(shell("echo begun; exec tail -f /dev/null", NULL, NS_PER_S / 5, &o), 0);
	assert_true(o.timed_out && WIFSIGNALED(o.status));
	exam_output_done(&o);
	assert_int_equal(exam_run(missing, NULL, NULL, NS_PER_S, &o, &err), -1);
	assert_non_null(strstr(err.text, "/no/such/program"));
	exam_output_done(&o);
}

struct met {
	unsigned files, dirs;
};

static void meet(void *ctx, int dir_fd, const char *name, const char *path, size_t len, bool is_dir)
{
	struct met *m = ctx;

	(void)dir_fd;
	assert_true(len >= strlen(name));
	assert_memory_equal(path + len - strlen(name), name, strlen(name));
	m->files += !is_dir;
	m->dirs += is_dir;
}

static bool not_out(void *ctx, const char *path, size_t len)
{
	(void)ctx;
	return !(len == 3 && memcmp(path, "out", 3) == 0);
}

static void walks(void **state)
{
	struct scratch s = { .next = 0 };
	struct met m = { 0 };
	struct exam_walk w = {
		.enters = not_out, .entry = meet, .ctx = &m, .until_ns = clock_mono_ns() + 60 * NS_PER_S
	};
	struct err err = ERR_INIT;
	int fd;

	(void)state;
	assert_int_equal(scratch_make(&s), 0);
	for (const char *const *d = (const char *const[]){ "a", "a/b", "out", "out/in", NULL }; *d != NULL; d++)
		assert_int_equal(mkdir(scratch_path(&s, *d), 0755), 0);
	for (unsigned i = 0; i < 600; i++) {
		char name[32];

		snprintf(name, sizeof(name), "a/b/f%u", i);
		close(open(scratch_path(&s, name), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	}
	assert_int_equal(symlink("a", scratch_path(&s, "link")), 0);
	fd = open(s.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	exam_walk(&w, fd);
	assert_false(w.cut);
	assert_int_equal(w.dirs, 3);
	assert_int_equal(w.entries, 604);
	assert_int_equal(m.files, 601);
	assert_int_equal(m.dirs, 3);
	w.until_ns = 0;
	exam_walk(&w, fd);
	assert_true(w.cut && w.entries < 604);
	close(fd);
	assert_int_equal(remove_tree(s.dir, &err), 0);
}

static void secrets_and_space(void **state)
{
	struct scratch s = { .next = 0 };
	const char *path;
	struct exam_finding f;
	struct err err = ERR_INIT;
	char data[8192];
	struct reader r;
	int ends[2];
	struct exam x = through(ends);
	static const enum exam_level wanted[] = { EXAM_FAIL, EXAM_OK,	EXAM_FAIL, EXAM_OK,
						  EXAM_WARN, EXAM_FAIL, EXAM_FAIL, EXAM_OK };
	size_t n = 0;

	(void)state;
	assert_int_equal(scratch_make(&s), 0);
	path = scratch_path(&s, "key");
	exam_secret(&x, "key", path);
	close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	exam_secret(&x, "key", path);
	assert_int_equal(chmod(path, 0640), 0);
	exam_secret(&x, "key", path);
	exam_space(&x, "/x", UINT64_C(1) << 40, UINT64_C(1) << 41, 1000000, 2000000);
	exam_space(&x, "/x", 1 << 20, UINT64_C(1) << 41, 1000000, 2000000);
	exam_space(&x, "/x", 0, UINT64_C(1) << 41, 1000000, 2000000);
	exam_space(&x, "/x", UINT64_C(1) << 40, UINT64_C(1) << 41, 0, 2000000);
	exam_space(&x, "/x", UINT64_C(1) << 40, UINT64_C(1) << 41, 0, 0); /* btrfs has no such number */
	reader_init(&r, data, said(ends, data, sizeof(data)));
	while (exam_next(&r, &f))
		if (f.level != EXAM_BEGUN) {
			assert_true(n < sizeof(wanted) / sizeof(wanted[0]));
			assert_int_equal(f.level, wanted[n]);
			n++;
		}
	assert_int_equal(n, sizeof(wanted) / sizeof(wanted[0]));
	assert_int_equal(remove_tree(s.dir, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(findings), cmocka_unit_test(cut_findings),	 cmocka_unit_test(programs),
		cmocka_unit_test(walks),    cmocka_unit_test(secrets_and_space),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
