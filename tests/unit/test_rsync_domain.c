/* LINK: transports/rsync_domain.c core/confine.c core/proc.c core/fsutil.c core/safe_open.c core/path.c core/buf.c
 * core/err.c */
/* LIBS: -lseccomp */
/* Which files a program in an rsync's domain reaches: cat, sh and cp in its place. */
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/proc.h"
#include "tests/unit/scratch.h"
#include "transports/rsync_domain.h"

static struct sync_options opt;
static char binary[] = "rsync";

static int set_up(void **state)
{
	static const char *const made[] = { "source", "source/d", "target", "outside", "outside/d", NULL };
	struct scratch *s = calloc(1, sizeof(*s));

	*state = s;
	memset(&opt, 0, sizeof(opt));
	opt.rsync.binary = binary;
	opt.rsync.confine = true;
	if (scratch_make(s) < 0)
		return -1;
	for (int i = 0; made[i] != NULL; i++)
		if (mkdir(scratch_path(s, made[i]), 0755) < 0)
			return -1;
	return 0;
}

static int clean_up(void **state)
{
	int rc = scratch_remove(*state);

	free(opt.rsync.extra.v);
	free(*state);
	return rc;
}

static bool landlock(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0, 1u) >= 2;
}

static void put(struct scratch *s, const char *name)
{
	FILE *f = fopen(scratch_path(s, name), "w");

	assert_non_null(f);
	assert_true(fputs("text", f) >= 0);
	assert_int_equal(fclose(f), 0);
}

/* Whether a shell in that domain, in the source's directory, does it well. */
static bool does(struct scratch *s, enum rsync_kind kind, const char *text)
{
	char dest[4096], source[4096];
	struct err err = ERR_INIT;
	struct rsync_domain d = { .opt = &opt, .kind = kind, .dest = dest, .shell_fd = -1 };
	const char *const argv[] = { "sh", "-c", text, NULL };
	struct proc_spec spec = { .argv = argv, .cwd = source };
	struct rsync_places *held;
	struct proc p;
	int status;

	(void)snprintf(source, sizeof(source), "%s", scratch_path(s, "source"));
	(void)snprintf(dest, sizeof(dest), "%s", scratch_path(s, "target"));
	d.source_fd = open(source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(d.source_fd >= 0);
	if (rsync_domain_make(&d, &spec.domain, &held, &err) < 0)
		fail_msg("%s", err.text);
	assert_true(spec.domain >= 0);
	assert_int_equal(proc_spawn(&p, &spec, &err), 0);
	assert_int_equal(waitpid(p.pid, &status, 0), p.pid);
	(void)close(spec.domain);
	rsync_domain_leave(held);
	(void)close(d.source_fd);
	return status == 0;
}

static void source_and_target(void **state)
{
	struct scratch *s = *state;

	if (!landlock())
		skip();
	put(s, "source/d/f");
	put(s, "outside/d/f");
	put(s, "outside/secret");
	assert_true(does(s, RSYNC_LOCAL, "cat d/f && ls . && getent passwd root"));
	assert_true(
		does(s, RSYNC_LOCAL,
		     "cp d/f ../target/f && mkdir ../target/e && mv ../target/f ../target/e/f && rm -r ../target/e"));
	assert_false(does(s, RSYNC_LOCAL, "echo x >d/f"));
	assert_false(does(s, RSYNC_LOCAL, "rm d/f"));
	assert_false(does(s, RSYNC_LOCAL, "cat ../outside/secret"));
	assert_false(does(s, RSYNC_LOCAL, "echo x >../outside/new"));
	assert_false(does(s, RSYNC_LOCAL, "ls ../outside"));
	assert_false(does(s, RSYNC_LOCAL, "cat /etc/shadow"));
	assert_false(does(s, RSYNC_DAEMON, "ls ../target"));
	/* What an attacker does. */
	assert_true(does(s, RSYNC_SHELL, "cat d/f"));
	assert_int_equal(rename(scratch_path(s, "source/d"), scratch_path(s, "source/d.away")), 0);
	assert_int_equal(symlink("../outside/d", scratch_path(s, "source/d")), 0);
	assert_false(does(s, RSYNC_SHELL, "cat d/f"));
}

static void give(const char *a, const char *b)
{
	free(opt.rsync.extra.v);
	opt.rsync.extra.v = calloc(2, sizeof(char *));
	assert_non_null(opt.rsync.extra.v);
	opt.rsync.extra.v[0] = (char *)(uintptr_t)a;
	opt.rsync.extra.v[1] = (char *)(uintptr_t)b;
	opt.rsync.extra.n = b == NULL ? 1 : 2;
}

static void what_is_named(void **state)
{
	struct scratch *s = *state;
	char dir[4200], word[4300], relative[] = "../outside/d", missing[4300];

	if (!landlock())
		skip();
	put(s, "outside/f");
	opt.rsync.backup_dir = relative; /* below the target, as rsync takes it */
	assert_true(does(s, RSYNC_LOCAL, "echo x >../outside/d/new && ! ls ../outside"));
	assert_false(does(s, RSYNC_SHELL, "echo x >../outside/d/new"));
	(void)snprintf(missing, sizeof(missing), "%s/not/yet", scratch_path(s, "outside"));
	opt.rsync.backup_dir = missing;
	assert_true(does(s, RSYNC_LOCAL, "mkdir -p ../outside/not/yet"));
	opt.rsync.backup_dir = NULL;
	(void)snprintf(dir, sizeof(dir), "%s", scratch_path(s, "outside"));
	(void)snprintf(word, sizeof(word), "--link-dest=%s", dir);
	give(word, NULL);
	assert_true(does(s, RSYNC_LOCAL, "ln ../outside/f ../target/f"));
	assert_false(does(s, RSYNC_SHELL, "cat ../outside/f"));
	give("--temp-dir", dir);
	assert_true(does(s, RSYNC_LOCAL, "echo x >../outside/t && mv ../outside/t ../target/t"));
	(void)snprintf(word, sizeof(word), "-T%s", dir);
	give(word, NULL);
	assert_true(does(s, RSYNC_LOCAL, "echo x >../outside/t"));
	assert_false(does(s, RSYNC_SHELL, "echo x >../outside/t"));
	(void)snprintf(word, sizeof(word), "--log-file=%s/log", dir);
	give(word, NULL);
	assert_true(does(s, RSYNC_SHELL, "echo x >>../outside/log"));
	(void)snprintf(word, sizeof(word), "--log-file=%s/f", dir);
	give(word, NULL);
	assert_true(does(s, RSYNC_SHELL, "echo x >>../outside/f && ! ls ../outside"));
	(void)snprintf(word, sizeof(word), "--exclude-from=%s/f", dir);
	give(word, NULL);
	assert_true(does(s, RSYNC_SHELL, "cat ../outside/f && ! (echo x >../outside/f)"));
	give("--backup-dir=../outside/d", NULL);
	assert_true(does(s, RSYNC_LOCAL, "echo x >../outside/d/new && ! ls ../outside"));
	give("--backup-dir=../made", NULL);
	assert_true(does(s, RSYNC_LOCAL, "echo x >../made/f && ! ls ../outside"));
	give("--compare-dest", "../outside");
	assert_true(does(s, RSYNC_LOCAL, "cat ../outside/f"));
	(void)snprintf(word, sizeof(word), "-aT%s", dir);
	give(word, NULL);
	assert_true(does(s, RSYNC_LOCAL, "echo x >../outside/t"));
	(void)snprintf(word, sizeof(word), "-M--log-file=%s/log", dir);
	give(word, NULL);
	assert_false(does(s, RSYNC_LOCAL, "echo x >>../outside/log"));
	give("--out-format=a/b", "--info=name");
	assert_false(does(s, RSYNC_SHELL, "cat ../outside/f"));
}

/* What is in the target, or beside it, is its owner's: by a symlink of his nothing is reached. */
static void what_leads_elsewhere(void **state)
{
	struct scratch *s = *state;
	char partial[] = ".partial", below[] = "a/b", beside[] = "../beside", inside[4200];

	if (!landlock())
		skip();
	put(s, "outside/secret");
	assert_int_equal(symlink("/", scratch_path(s, "target/.partial")), 0);
	assert_int_equal(symlink("/", scratch_path(s, "target/a")), 0);
	assert_int_equal(symlink("outside", scratch_path(s, "beside")), 0);
	(void)snprintf(inside, sizeof(inside), "%s/.partial", scratch_path(s, "target"));
	for (size_t i = 0; i < 4; i++) {
		char *const dirs[] = { partial, below, inside, beside };

		opt.rsync.partial_dir = dirs[i];
		assert_false(does(s, RSYNC_LOCAL, "cat ../outside/secret"));
		assert_false(does(s, RSYNC_LOCAL, "echo x >../outside/new"));
		opt.rsync.partial_dir = NULL;
		give("--temp-dir", dirs[i]);
		assert_false(does(s, RSYNC_LOCAL, "cat ../outside/secret"));
		give("--partial-dir", "x");
	}
}

/* A script elsewhere than among programs may lie beside keys. */
static void beside_the_program(void **state)
{
	struct scratch *s = *state;
	char program[4200];

	if (!landlock())
		skip();
	assert_int_equal(mkdir(scratch_path(s, "outside/bin"), 0755), 0);
	put(s, "outside/key");
	put(s, "outside/bin/tool");
	put(s, "outside/rsync");
	put(s, "outside/bin/rsync");
	opt.rsync.binary = program;
	(void)snprintf(program, sizeof(program), "%s", scratch_path(s, "outside/rsync"));
	assert_true(does(s, RSYNC_LOCAL, "cat ../outside/rsync && ! cat ../outside/key"));
	(void)snprintf(program, sizeof(program), "%s", scratch_path(s, "outside/bin/rsync"));
	assert_true(does(s, RSYNC_LOCAL, "cat ../outside/bin/tool && ! cat ../outside/key"));
}

static void nothing_above_it(void **state)
{
	struct err err = ERR_INIT;
	char dir[] = "/no-such-directory/backup", dest[4096];
	struct rsync_domain d = { .opt = &opt, .kind = RSYNC_LOCAL, .dest = dest, .shell_fd = -1 };
	struct rsync_places *held;
	int domain;

	(void)snprintf(dest, sizeof(dest), "%s", scratch_path(*state, "target"));
	opt.rsync.backup_dir = dir;
	d.source_fd = open(dest, O_PATH | O_CLOEXEC);
	assert_int_equal(rsync_domain_make(&d, &domain, &held, &err), -1);
	assert_int_equal(err.class, ERR_CONFIG);
	assert_int_equal(domain, -1);
	opt.rsync.backup_dir = NULL;
	(void)snprintf(dest, sizeof(dest), "%s", scratch_path(*state, "gone"));
	assert_int_equal(rsync_domain_make(&d, &domain, &held, &err), -1);
	assert_null(held);
	(void)close(d.source_fd);
}

static void when_it_is_off(void **state)
{
	static const char *const follow[] = { "--copy-links", "-L", "-aKv", "--keep-dirlinks", "-k" };
	static const char *const others[] = { "--links", "-a", "--log-file=/K/L", "-T/K", "--info=skip", "-M-K", "x" };

	(void)state;
	assert_null(rsync_domain_off(&opt));
	for (size_t i = 0; i < sizeof(follow) / sizeof(follow[0]); i++) {
		give(follow[i], NULL);
		assert_non_null(rsync_domain_off(&opt));
	}
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		give(others[i], NULL);
		if (rsync_domain_off(&opt) != NULL)
			fail_msg("%s", others[i]);
	}
	opt.rsync.copy_unsafe_links = true;
	assert_non_null(rsync_domain_off(&opt));
	opt.rsync.copy_unsafe_links = false;
	opt.rsync.confine = false;
	assert_non_null(rsync_domain_off(&opt));
}

static void expect_password(const char *path, const char *text, const char *line)
{
	struct err err = ERR_INIT;
	struct buf out;

	assert_int_equal(scratch_write(path, text), 0);
	assert_int_equal(rsync_domain_password(path, &out, &err), 0);
	assert_string_equal(buf_str(&out), line);
	buf_wipe(&out);
	buf_done(&out);
}

static void expect_none(const char *path, const char *why)
{
	struct err err = ERR_INIT;
	struct buf out;

	assert_int_equal(rsync_domain_password(path, &out, &err), -1);
	assert_int_equal(out.len, 0);
	assert_non_null(strstr(err.text, why));
	buf_wipe(&out);
	buf_done(&out);
}

static void password(void **state)
{
	struct scratch *s = *state;
	const char *path = scratch_path(s, "password");

	assert_int_equal(scratch_write(path, ""), 0);
	assert_int_equal(chmod(path, 0640), 0);
	expect_password(path, "secret\nanother\n", "secret\n");
	expect_password(path, "\r\n a b \r\n", " a b \n");
	expect_password(path, "x", "x\n");
	expect_password(path, "", "\n");
	assert_int_equal(chmod(path, 0644), 0);
	expect_none(path, "by others");
	assert_int_equal(chmod(path, 0600), 0);
	if (geteuid() == 0) {
		assert_int_equal(chown(path, 4711, 0), 0);
		expect_none(path, "must be root's");
	}
	expect_none(scratch_path(s, "none"), "password_file");
	expect_none(scratch_path(s, "source"), "source");
	assert_int_equal(chmod(path, 0600), 0);
	if (geteuid() == 0)
		assert_int_equal(chown(path, 0, 0), 0);
	assert_int_equal(symlink("password", scratch_path(s, "link")), 0); /* our own */
	expect_password(scratch_path(s, "link"), "linked", "linked\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(source_and_target, set_up, clean_up),
		cmocka_unit_test_setup_teardown(what_is_named, set_up, clean_up),
		cmocka_unit_test_setup_teardown(what_leads_elsewhere, set_up, clean_up),
		cmocka_unit_test_setup_teardown(beside_the_program, set_up, clean_up),
		cmocka_unit_test_setup_teardown(nothing_above_it, set_up, clean_up),
		cmocka_unit_test_setup_teardown(when_it_is_off, set_up, clean_up),
		cmocka_unit_test_setup_teardown(password, set_up, clean_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
