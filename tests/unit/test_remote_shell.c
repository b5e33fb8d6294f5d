/* LINK: core/safe_open.c transports/remote_shell.c core/pipes.c transports/ssh_words.c
 * core/buf.c core/err.c core/loop.c core/clock.c core/proc.c
 * core/log.c core/utf8.c */
/* Words for a shell, read back by real shells; replies out of a noisy stream; a shell as a co-process. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/proc.h"
#include "transports/remote_shell.h"

#define DEADLINE (60 * NS_PER_S)

static const char token[] = "0123456789abcdef0123456789abcdef";

/* ---- quoting ---- */

static const char *const odd[] = { "plain",
				   "",
				   "with space",
				   "'",
				   "it's ''",
				   "\"$HOME\"",
				   "$(touch x)`id`",
				   "a\nb\n\nc\n",
				   "-rf",
				   "--",
				   "*?[a]{b,c}~",
				   "\\n\\\\ \\'",
				   "\xff\xfe\xc3",
				   "tab\tcr\rbell\a",
				   "#no; comment && |",
				   "!!history!",
				   "\xe2\x82",
				   " lead and trail ",
				   "=x",
				   "\x7f\x01\x1b[31m" };

static void read_all(int fd, struct buf *out)
{
	char data[4096];
	ssize_t n;

	while ((n = read(fd, data, sizeof(data))) != 0) {
		if (n < 0)
			assert_true(errno == EAGAIN || errno == EINTR);
		else
			assert_true(buf_add(out, data, (size_t)n));
	}
}

/* What a shell makes of the words: each followed by NUL. */
static void round_trip(const char *shell, const char *applet)
{
	struct buf script, want, got;
	struct err err = ERR_INIT;
	struct proc p;

	buf_init(&script, 1 << 20);
	buf_init(&want, 1 << 20);
	buf_init(&got, 1 << 20);
	(void)buf_add_str(&script, "printf '%s\\0'");
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		(void)buf_add_byte(&script, ' ');
		assert_true(remote_quote(&script, odd[i], strlen(odd[i])));
		(void)buf_add(&want, odd[i], strlen(odd[i]) + 1);
	}
	for (int c = 1; c < 256; c++) {
		char byte = (char)c;

		(void)buf_add_byte(&script, ' ');
		(void)remote_quote(&script, &byte, 1);
		(void)buf_add_byte(&want, (unsigned char)c);
		(void)buf_add_byte(&want, 0);
	}
	{
		const char *argv[] = { shell, applet == NULL ? "-c" : applet, applet == NULL ? buf_str(&script) : "-c",
				       applet == NULL ? NULL : buf_str(&script), NULL };
		const struct proc_spec spec = { .argv = argv, .pipe_out = true };

		if (proc_spawn(&p, &spec, &err) < 0)
			skip();
	}
	read_all(p.out, &got);
	proc_close(&p);
	assert_int_equal(got.len, want.len);
	assert_memory_equal(got.data, want.data, want.len);
	buf_done(&script);
	buf_done(&want);
	buf_done(&got);
}

static void quoting_sh(void **state)
{
	(void)state;
	round_trip("sh", NULL);
}

static void quoting_dash(void **state)
{
	(void)state;
	round_trip("dash", NULL);
}

static void quoting_bash(void **state)
{
	(void)state;
	round_trip("bash", NULL);
}

static void quoting_busybox(void **state)
{
	(void)state;
	round_trip("busybox", "sh");
}

static void quoting_is_bounded(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 16);
	assert_false(remote_quote(&b, "''''''''", 8));
	assert_true(b.failed);
	buf_done(&b);
}

/* ---- replies ---- */

struct replies {
	int status[8];
	char said[8][64];
	size_t n;
};

static void feed(struct remote_reader *r, const char *data, size_t n, size_t step, struct replies *out)
{
	while (n > 0) {
		size_t part = n < step ? n : step;
		int status;
		size_t used = remote_reader_feed(r, data, part, &status);

		assert_true(used > 0 && used <= part);
		if (status >= 0) {
			assert_true(out->n < 8);
			out->status[out->n] = status;
			(void)snprintf(out->said[out->n++], 64, "%.*s", (int)r->said_len, r->said);
		}
		data += used;
		n -= used;
	}
}

static void replies_in_pieces(void **state)
{
	static const char stream[] = "Welcome!\n0123456789abcdef0123456789abcdef\n\n"
				     "0123456789abcdef0123456789abcdef 0 0\n"
				     "one\ntwo\n\n0123456789abcdef0123456789abcdef 1 7\n"
				     "0123456789abcdef0123456789abcdef 9 0\n0123456789abcdef0123456789abcdef 2 256\n"
				     "0123456789abcdef0123456789abcdef 2 x\n x0123456789abcdef0123456789abcdef 2 0\n"
				     "\n0123456789abcdef0123456789abcdef 2 255\n"
				     "\n0123456789abcdef0123456789abcdef 3 0\nrest";

	(void)state;
	for (size_t step = 1; step < sizeof(stream); step++) {
		struct remote_reader r;
		struct replies got = { .n = 0 };

		remote_reader_init(&r, token);
		feed(&r, stream, sizeof(stream) - 1, step, &got);
		assert_int_equal(got.n, 4);
		assert_int_equal(got.status[0], 0);
		assert_int_equal(got.status[1], 7);
		assert_string_equal(got.said[1], "one\ntwo");
		assert_int_equal(got.status[2], 255);
		assert_int_equal(got.status[3], 0);
		assert_string_equal(got.said[3], "");
	}
}

static void replies_are_bounded(void **state)
{
	struct remote_reader r;
	struct replies got = { .n = 0 };
	char *noise = malloc(1 << 20);

	(void)state;
	assert_non_null(noise);
	memset(noise, 'x', 1 << 20);
	for (size_t i = 100; i < (1 << 20); i += 100)
		noise[i] = i % 300 == 0 ? '\n' : '\0';
	remote_reader_init(&r, token);
	feed(&r, noise, 1 << 20, 7000, &got);
	memset(noise, 'y', 1 << 20);
	feed(&r, noise, 1 << 20, 7000, &got);
	feed(&r, "\n", 1, 1, &got);
	feed(&r, "0123456789abcdef0123456789abcdef 0 0\n", 37, 37, &got);
	assert_int_equal(got.n, 1);
	assert_int_equal(r.said_len, REMOTE_SAID_MAX);
	free(noise);
}

/* ---- what ssh says ---- */

static void ssh_words(void **state)
{
	static const struct {
		const char *said, *advice;
		enum err_class class;
	} cases[] = {
		{ "No ED25519 host key is known for h and you have requested strict checking. Host key verification "
		  "failed.",
		  "ssh-keyscan", ERR_AUTH },
		{ "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @ ... Host key verification failed.",
		  "ssh-keygen -R", ERR_AUTH },
		{ "root@h: Permission denied (publickey).", "ssh-copy-id", ERR_AUTH },
		{ "ssh: connect to host h port 22: Connection refused", "ssh.port", ERR_NETWORK },
		{ "ssh: connect to host h port 22: Connection timed out", "timed out", ERR_NETWORK },
		{ "ssh: Could not resolve hostname h: Name or service not known", "not known", ERR_NETWORK },
		{ "command-line: line 0: Bad configuration option: nonsense", "ssh = { }", ERR_CONFIG },
		{ "", "without a word", ERR_NETWORK },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct err e = ERR_INIT;

		remote_why(&e, "h", cases[i].said, 255);
		assert_int_equal(e.class, cases[i].class);
		assert_non_null(strstr(e.text, cases[i].advice));
		assert_non_null(strstr(e.text, cases[i].said));
		assert_int_equal(e.code, 255);
	}
}

/* ---- the process ---- */

struct peer {
	struct loop *loop;
	struct remote_shell *shell;
	unsigned ready, replies, ended;
	int sum;
	char last[64];
	enum remote_end how;
	struct err why;
	bool close_at_reply, late;
};

static void on_ready(void *ctx)
{
	struct peer *p = ctx;

	p->ready++;
	loop_stop(p->loop, 0);
}

static void on_reply(void *ctx, int status, const char *said, size_t len)
{
	struct peer *p = ctx;

	p->replies++;
	p->sum += status;
	(void)snprintf(p->last, sizeof(p->last), "%.*s", (int)(len < 60 ? len : 60), said);
	if (p->close_at_reply) {
		remote_shell_close(p->shell);
		p->shell = NULL;
	}
	loop_stop(p->loop, 0);
}

static void on_ended(void *ctx, enum remote_end how, const struct err *why)
{
	struct peer *p = ctx;

	p->ended++;
	p->how = how;
	p->why = *why;
	remote_shell_close(p->shell);
	p->shell = NULL;
	loop_stop(p->loop, 0);
}

static void on_late(void *ctx)
{
	struct peer *p = ctx;

	p->late = true;
	loop_stop(p->loop, 0);
}

/* Until one more callback. */
static void wait_one(struct peer *p)
{
	struct err err = ERR_INIT;
	struct loop_timer *timer = loop_timer_add(p->loop, on_late, p, &err);

	assert_non_null(timer);
	loop_timer_after(timer, DEADLINE);
	assert_int_equal(loop_run(p->loop, &err), 0);
	loop_timer_remove(timer);
	assert_false(p->late);
}

static void start_logged_in(struct peer *p, const char *script, int64_t ready_ns, const char *control)
{
	const char *argv[] = { "/bin/sh", "-c", script, NULL };
	const struct remote_spec spec = {
		.argv = argv, .host = "peer", .prelude = "greet=hello\n", .ready_ns = ready_ns, .control = control
	};
	const struct remote_handler h = { .ctx = p, .ready = on_ready, .reply = on_reply, .ended = on_ended };
	struct err err = ERR_INIT;

	*p = (struct peer){ .loop = loop_new(&err) };
	assert_non_null(p->loop);
	p->shell = remote_shell_open(p->loop, &spec, &h, &err);
	assert_non_null(p->shell);
	assert_false(remote_shell_ready(p->shell));
}

static void start(struct peer *p, const char *script, int64_t ready_ns)
{
	start_logged_in(p, script, ready_ns, NULL);
}

static void stop(struct peer *p)
{
	remote_shell_close(p->shell);
	loop_free(p->loop);
}

static void call(struct peer *p, const char *command)
{
	assert_true(remote_shell_call(p->shell, command, strlen(command)));
}

static void talks(void **state)
{
	struct peer p;

	(void)state;
	start(&p, "echo 'motd: 1 0'; echo warning >&2; exec /bin/sh", DEADLINE);
	wait_one(&p);
	assert_int_equal(p.ready, 1);
	assert_true(remote_shell_ready(p.shell));
	call(&p, "printf %s \"$greet\"");
	call(&p, "cat; echo gone >&2; (exit 3)");
	call(&p, "read x");
	while (p.replies < 1)
		wait_one(&p);
	if (p.replies == 1)
		assert_string_equal(p.last, "hello");
	while (p.replies < 2)
		wait_one(&p);
	while (p.replies < 3)
		wait_one(&p);
	assert_int_equal(p.sum, 4); /* 3, and 1: read finds no input */
	stop(&p);
}

static void many_calls_in_one_go(void **state)
{
	struct peer p;
	char command[9000];

	(void)state;
	start(&p, "exec /bin/sh", DEADLINE);
	wait_one(&p);
	(void)snprintf(command, sizeof(command), ": '%08000d'; (exit 1)", 0);
	for (int i = 0; i < 300; i++)
		call(&p, command);
	assert_true(remote_shell_queued(p.shell) > 300 * 8000);
	while (p.replies < 300)
		wait_one(&p);
	assert_int_equal(p.sum, 300);
	assert_int_equal(remote_shell_queued(p.shell), 0);
	stop(&p);
}

static void no_shell(void **state)
{
	struct peer p;

	(void)state;
	start(&p, "echo 'only rsync here' >&2; exit 1", DEADLINE);
	wait_one(&p);
	assert_int_equal(p.ended, 1);
	assert_int_equal(p.how, REMOTE_NO_SHELL);
	assert_non_null(strstr(p.why.text, "only rsync here"));
	stop(&p);
}

static void no_connection(void **state)
{
	struct peer p;

	(void)state;
	start(&p, "printf 'x\\r\\nuser@peer: Permission denied (publickey).\\r\\n' >&2; exit 255", DEADLINE);
	wait_one(&p);
	assert_int_equal(p.how, REMOTE_LOST);
	assert_int_equal(p.why.class, ERR_AUTH);
	assert_non_null(strstr(p.why.text, "x user@peer: Permission denied (publickey)."));
	stop(&p);
}

static void no_answer(void **state)
{
	struct peer p;

	(void)state;
	start(&p, "exec cat", NS_PER_S / 10); /* it says everything back, which is no answer */
	wait_one(&p);
	assert_int_equal(p.ready, 0);
	assert_int_equal(p.ended, 1);
	assert_int_equal(p.how, REMOTE_LOST);
	assert_non_null(strstr(p.why.text, "did not answer in time"));
	stop(&p);
}

/* That its control socket is there says that the login was over. What is lost then is no account without a shell. */
static void lost_behind_the_login(void **state)
{
	struct peer p;

	(void)state;
	start_logged_in(&p, "sleep 3.5; echo 'Timeout, server peer not responding.' >&2; exit 255", 3 * NS_PER_S, "/");
	wait_one(&p);
	assert_int_equal(p.ready, 0);
	assert_int_equal(p.ended, 1);
	assert_int_equal(p.how, REMOTE_LOST);
	assert_int_equal(p.why.class, ERR_NETWORK);
	assert_non_null(strstr(p.why.text, "not responding"));
	stop(&p);
}

static void silent_behind_the_login(void **state)
{
	struct peer p;

	(void)state;
	start_logged_in(&p, "exec cat >/dev/null", NS_PER_S / 10, "/");
	wait_one(&p);
	assert_int_equal(p.how, REMOTE_NO_SHELL);
	stop(&p);
}

static void dies_while_it_owes(void **state)
{
	struct peer p;

	(void)state;
	start(&p, "exec /bin/sh", DEADLINE);
	wait_one(&p);
	call(&p, "kill -9 $$");
	call(&p, ":");
	wait_one(&p);
	assert_int_equal(p.replies, 0);
	assert_int_equal(p.ended, 1);
	assert_int_equal(p.how, REMOTE_LOST);
	stop(&p);
}

static void closed_by_a_reply(void **state)
{
	struct peer p;

	(void)state;
	start(&p, "exec /bin/sh", DEADLINE);
	wait_one(&p);
	p.close_at_reply = true;
	for (int i = 0; i < 50; i++)
		call(&p, ":");
	wait_one(&p);
	assert_int_equal(p.replies, 1);
	assert_null(p.shell);
	stop(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(quoting_sh),
		cmocka_unit_test(quoting_dash),
		cmocka_unit_test(quoting_bash),
		cmocka_unit_test(quoting_busybox),
		cmocka_unit_test(quoting_is_bounded),
		cmocka_unit_test(replies_in_pieces),
		cmocka_unit_test(replies_are_bounded),
		cmocka_unit_test(ssh_words),
		cmocka_unit_test(talks),
		cmocka_unit_test(many_calls_in_one_go),
		cmocka_unit_test(no_shell),
		cmocka_unit_test(no_connection),
		cmocka_unit_test(no_answer),
		cmocka_unit_test(lost_behind_the_login),
		cmocka_unit_test(silent_behind_the_login),
		cmocka_unit_test(dies_while_it_owes),
		cmocka_unit_test(closed_by_a_reply),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
