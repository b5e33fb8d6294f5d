/* LINK: transports/rsync_rsh.c transports/rsync_args.c core/loop.c core/clock.c core/log.c core/log_entry.c
 * core/journal.c core/proc.c core/confine.c core/pipes.c core/buf.c core/err.c core/path.c core/filter.c core/json.c
 * core/utf8.c core/fsutil.c core/safe_open.c */
/* LIBS: -lseccomp */
/* What an rsync that is confined may ask for, and how it gets its remote shell: this program stands for rsync and for
 * its remote shell, as the product does. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "transports/rsync_rsh.h"

/* ---- what rsync adds ---- */

#define WANTED(dest, words) rsync_rsh_wanted(dest, "rsync", words, sizeof(words) - 1)

static void wanted(void **state)
{
	(void)state;
	assert_true(WANTED("h:/d/", "h\0rsync\0--server\0"));
	assert_true(WANTED("u@h:/d/", "-l\0u\0h\0rsync\0"));
	assert_true(WANTED("u@x@h:/d/", "-l\0u@x\0h\0rsync\0"));
	assert_true(WANTED("[::1]:/d/", "::1\0rsync\0"));
	assert_true(WANTED("u@[fe80::1%eth0]:/d/]:x/", "-l\0u\0fe80::1%eth0\0rsync\0"));
	assert_true(WANTED("h:/a]:/", "h\0rsync\0"));
	assert_true(WANTED("u@h:/d@x/", "h\0rsync\0")); /* the user came with the shell's words */
}

static void not_wanted(void **state)
{
	(void)state;
	assert_false(WANTED("h:/d/", ""));
	assert_false(WANTED("h:/d/", "h"));
	assert_false(WANTED("h:/d/", "h\0"));
	assert_false(WANTED("h:/d/", "h\0rsync"));
	assert_false(WANTED("h:/d/", "other\0rsync\0"));
	assert_false(WANTED("h:/d/", "hh\0rsync\0"));
	assert_false(WANTED("h:/d/", "-oProxyCommand=x\0h\0rsync\0"));
	assert_false(WANTED("h:/d/", "-l\0u\0h\0rsync\0"));
	assert_false(WANTED("u@h:/d/", "-l\0root\0h\0rsync\0"));
	assert_false(WANTED("u@h:/d/", "-l\0u\0"));
	assert_false(WANTED("u@h:/d/", "-l\0"));
	assert_false(WANTED("u@h:/d/", "u@h\0rsync\0"));
	assert_false(WANTED(":/d/", "\0rsync\0"));
	/* ssh takes options behind the host as well. */
	assert_false(WANTED("h:/d/", "h\0-oProxyCommand=x\0rsync\0"));
	assert_false(WANTED("h:/d/", "h\0-S\0none\0rsync\0"));
	assert_false(WANTED("h:/d/", "h\0--\0rsync\0"));
	assert_false(WANTED("h:/d/", "h\0sh\0-c\0x\0"));
	assert_false(rsync_rsh_wanted("h:/d/", "-S", "h\0-S\0x\0", 7));
	assert_true(rsync_rsh_wanted("h:/d/", "sudo rsync", "h\0sudo rsync\0--server\0", 22));
}

static void words_again(void **state)
{
	static const char *const all[] = { "ssh", "", "a b", "'", "\"", "it's \"so\"", "''", "-o", " ", "x'y", NULL };
	struct arglist a = { 0 }, b;
	char *text;

	(void)state;
	for (size_t i = 0; all[i] != NULL; i++)
		assert_true(arglist_add(&a, all[i]));
	text = rsync_args_rsh(&a);
	assert_non_null(text);
	assert_true(rsync_split_words(&b, text));
	assert_int_equal(b.n, a.n);
	for (size_t i = 0; i < a.n; i++)
		assert_string_equal(b.v[i], a.v[i]);
	arglist_done(&b);
	assert_true(rsync_split_words(&b, "  ssh  -i \"/a b\"  -o'x y' 'open"));
	assert_int_equal(b.n, 5);
	assert_string_equal(b.v[2], "/a b");
	assert_string_equal(b.v[3], "-ox y");
	assert_string_equal(b.v[4], "open");
	arglist_done(&b);
	arglist_done(&a);
	free(text);
}

/* ---- a shell ---- */

/* As rsync does it: its remote shell, with pipes, and what that is asked to run. Ends as the shell does. */
static pid_t rsync_asks(const struct rsync_rsh *r, const char *const *words, int *out)
{
	int answers[2];
	pid_t pid;

	assert_int_equal(pipe2(answers, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		char *argv[16] = { (char *)(uintptr_t) "rsh" };
		int n = 0, null = open("/dev/null", O_RDONLY);

		if (dup2(null, 0) < 0 || dup2(answers[1], 1) < 0 || dup2(answers[1], 2) < 0 || dup2(r->theirs, 3) < 0)
			_exit(99);
		for (; words[n] != NULL; n++)
			argv[n] = (char *)(uintptr_t)words[n];
		closefrom(4);
		_exit(rsync_rsh_main(n, argv));
	}
	(void)close(answers[1]);
	*out = answers[0];
	return pid;
}

static void on_timer(void *ctx)
{
	*(bool *)ctx = true;
}

/* What the shell said, and the status that rsync got. */
static int ask(const char *rsh, const char *dest, char inet, const char *const *words, char *said, size_t size)
{
	struct err err = ERR_INIT;
	struct loop *loop = loop_new(&err);
	struct loop_timer *timer;
	bool late = false;
	struct rsync_rsh r;
	size_t len = 0;
	int out, status;
	pid_t pid;

	assert_non_null(loop);
	timer = loop_timer_add(loop, on_timer, &late, &err);
	assert_non_null(timer);
	rsync_rsh_init(&r, loop);
	r.inet = inet;
	assert_int_equal(rsync_rsh_open(&r, rsh, dest, "rsync", "/", &err), 0);
	pid = rsync_asks(&r, words, &out);
	rsync_rsh_given(&r);
	loop_timer_after(timer, 20LL * 1000 * 1000 * 1000);
	while (!late && waitpid(pid, &status, WNOHANG) == 0)
		assert_int_equal(loop_once(loop, 50, &err), 0);
	assert_false(late);
	for (ssize_t n; len + 1 < size && (n = read(out, said + len, size - 1 - len)) > 0;)
		len += (size_t)n;
	said[len] = '\0';
	(void)close(out);
	rsync_rsh_close(&r);
	loop_timer_remove(timer);
	loop_free(loop);
	return status;
}

static const char *const plain[] = { "h", "rsync", "--server", NULL };

static void it_runs(void **state)
{
	static const char *const user[] = { "-l", "u", "h", "rsync", NULL };
	char said[4096];

	(void)state;
	assert_int_equal(ask("echo 'a b'", "h:/d/", '\0', plain, said, sizeof(said)), 0);
	assert_string_equal(said, "a b h rsync --server\n");
	assert_int_equal(ask("echo -l other", "u@h:/d/", '4', user, said, sizeof(said)), 0);
	assert_string_equal(said, "-l other h rsync\n");
	assert_int_equal(ask("sh -c 'echo $LC_ALL $PWD; exit 23'", "h:/d/", '\0', plain, said, sizeof(said)), 23 << 8);
	assert_string_equal(said, "C /\n");
}

static void its_death_is_told(void **state)
{
	char said[4096];

	(void)state;
	assert_int_equal(ask("sh -c 'kill -TERM $$'", "h:/d/", '\0', plain, said, sizeof(said)), SIGTERM);
}

static void what_is_refused(void **state)
{
	static const char *const other[] = { "other", "rsync", NULL };
	char said[4096];

	(void)state;
	assert_int_equal(ask("echo", "h:/d/", '\0', other, said, sizeof(said)), 14 << 8);
	assert_non_null(strstr(said, "another command than one on h:/d/"));
	assert_int_equal(ask("/no/such/shell", "h:/d/", '\0', plain, said, sizeof(said)), 14 << 8);
	assert_non_null(strstr(said, "can't start /no/such/shell: "));
}

/* The worker is gone, or does not want to hear. */
static void nobody_answers(void **state)
{
	int pair[2], status;
	pid_t pid;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	pid = fork();
	if (pid == 0) {
		static char word[] = "h";
		static char *argv[] = { word, NULL };

		if (dup2(pair[1], 3) < 0 || dup2(open("/dev/null", O_WRONLY), 2) < 0)
			_exit(99);
		closefrom(4);
		_exit(rsync_rsh_main(1, argv));
	}
	(void)close(pair[1]);
	(void)close(pair[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 14 << 8);
}

/* Bytes that are no request: it hangs up, and starts nothing. */
static void nonsense(void **state)
{
	static const uint32_t lens[] = { 0, 3, 0x7fffffff, 0xffffffff };
	struct err err = ERR_INIT;
	struct loop *loop = loop_new(&err);

	(void)state;
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		struct rsync_rsh r;
		char byte;

		rsync_rsh_init(&r, loop);
		assert_int_equal(rsync_rsh_open(&r, "echo", "h:/d/", "rsync", "/", &err), 0);
		assert_int_equal(send(r.theirs, &lens[i], sizeof(lens[i]), 0), sizeof(lens[i]));
		assert_int_equal(send(r.theirs, "h\0x", 4, 0), 4);
		for (int n = 0; n < 50 && r.fd >= 0; n++)
			assert_int_equal(loop_once(loop, 100, &err), 0);
		assert_int_equal(r.fd, -1);
		assert_int_equal(r.shell.pid, 0);
		(void)recv(r.theirs, &byte, 1, MSG_DONTWAIT);
		rsync_rsh_close(&r);
	}
	loop_free(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wanted),
		cmocka_unit_test(not_wanted),
		cmocka_unit_test(words_again),
		cmocka_unit_test(it_runs),
		cmocka_unit_test(its_death_is_told),
		cmocka_unit_test(what_is_refused),
		cmocka_unit_test(nobody_answers),
		cmocka_unit_test(nonsense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
