/* LINK: core/control.c core/control_client.c core/frame.c core/buf.c core/loop.c core/clock.c core/err.c core/fsutil.c
   core/safe_open.c core/unix_listen.c    core/path.c */
/* WRAP: clock_mono_ns */
/* The control socket: the server in this process, clients in forked ones or as bare sockets. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/control.h"
#include "core/frame.h"
#include "core/unix_listen.h"
#include "tests/unit/scratch.h"

/* How far the clock is put forward. */
static int64_t later_ns;

int64_t __real_clock_mono_ns(void);
int64_t __wrap_clock_mono_ns(void);

int64_t __wrap_clock_mono_ns(void)
{
	return __real_clock_mono_ns() + later_ns;
}

struct fixture {
	struct scratch scratch;
	char path[200];
	struct loop *loop;
	struct control_server *server;
	struct control_conn *kept;
	unsigned requests, closed;
	int client_status;
};

static void on_closed(void *ctx, struct control_conn *conn)
{
	struct fixture *f = ctx;

	assert_ptr_equal(conn, f->kept);
	assert_ptr_equal(control_conn_user(conn), f);
	f->kept = NULL;
	f->closed++;
}

/* What a client asks: echo its arguments, a long answer, or to be kept waiting. */
static void on_request(void *ctx, struct control_conn *conn, size_t argc, const char *const *argv)
{
	struct fixture *f = ctx;

	f->requests++;
	assert_null(argv[argc]);
	assert_null(control_conn_user(conn));
	if (argc > 0 && strcmp(argv[0], "keep") == 0) {
		f->kept = conn;
		control_conn_set_user(conn, f);
		control_conn_set_closed(conn, on_closed, f);
		return;
	}
	if (argc > 0 && strcmp(argv[0], "long") == 0) {
		char *text = malloc(3 * CONTROL_ANSWER_MAX);

		memset(text, 'x', 3 * CONTROL_ANSWER_MAX);
		control_out(conn, text, 3 * CONTROL_ANSWER_MAX);
		free(text);
	}
	for (size_t i = 0; i < argc; i++) {
		control_out(conn, argv[i], strlen(argv[i]));
		control_out(conn, "|", 1);
	}
	control_err(conn, "to err", 6);
	control_progress(conn, "50%", 3);
	control_out(conn, NULL, 0);
	control_exit(conn, 7);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct err err = ERR_INIT;

	*state = f;
	if (scratch_make(&f->scratch) < 0)
		return -1;
	snprintf(f->path, sizeof(f->path), "%.180s", scratch_path(&f->scratch, "control"));
	f->loop = loop_new(NULL);
	f->server = control_server_new(f->loop, f->path, on_request, f, &err);
	return f->server == NULL ? -1 : 0;
}

static int clean_up(void **state)
{
	struct fixture *f = *state;
	int rc;

	control_server_free(f->server);
	loop_free(f->loop);
	rc = scratch_remove(&f->scratch);
	free(f);
	return rc;
}

static void on_client_end(void *ctx, pid_t pid, int status)
{
	struct fixture *f = ctx;

	(void)pid;
	f->client_status = WIFEXITED(status) ? WEXITSTATUS(status) : 1000;
	loop_stop(f->loop, 0);
}

/* What a forked client heard. */
struct heard {
	struct buf out, err, progress;
};

static void hear_out(void *ctx, const char *data, size_t len)
{
	buf_add(&((struct heard *)ctx)->out, data, len);
}

static void hear_err(void *ctx, const char *data, size_t len)
{
	buf_add(&((struct heard *)ctx)->err, data, len);
}

static void hear_progress(void *ctx, const char *data, size_t len)
{
	buf_add(&((struct heard *)ctx)->progress, data, len);
}

static int ask(const char *path, size_t argc, const char *const *argv, int64_t timeout_ns, struct heard *h,
	       struct err *err)
{
	const struct control_client client = { hear_out, hear_err, hear_progress, h };

	buf_init(&h->out, 100u << 20);
	buf_init(&h->err, 1u << 20);
	buf_init(&h->progress, 1u << 20);
	return control_client_run(path, argc, argv, timeout_ns, &client, err);
}

/* Run `client` in a process of its own, and the server until it ends: its exit status. */
static int with_client(struct fixture *f, int (*client)(struct fixture *f))
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(client(f));
	assert_int_equal(loop_child(f->loop, pid, on_client_end, f, NULL), 0);
	assert_int_equal(loop_run(f->loop, NULL), 0);
	return f->client_status;
}

static int client_echo(struct fixture *f)
{
	static const char *const argv[] = { "echo", "", "a b\n", "\xff" };
	struct err err = ERR_INIT;
	struct heard h;

	if (ask(f->path, 4, argv, -1, &h, &err) != 7)
		return 1;
	if (strcmp(buf_str(&h.out), "echo||a b\n|\xff|") != 0 || strcmp(buf_str(&h.err), "to err") != 0)
		return 2;
	if (strcmp(buf_str(&h.progress), "50%") != 0)
		return 3;
	/* No arguments; nobody listens to the answer. */
	return control_client_run(f->path, 0, NULL, 60 * NS_PER_S, &(struct control_client){ 0 }, &err) == 7 ? 0 : 4;
}

static void asks_and_answers(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(with_client(f, client_echo), 0);
	assert_int_equal(f->requests, 2);
	assert_int_equal(control_server_connections(f->server), 0);
}

static int client_long(struct fixture *f)
{
	static const char *const argv[] = { "long" };
	struct err err = ERR_INIT;
	struct heard h;

	if (ask(f->path, 1, argv, -1, &h, &err) != 7)
		return 1;
	return h.out.len == 3 * CONTROL_ANSWER_MAX + 5 ? 0 : 2;
}

static void long_answers(void **state)
{
	assert_int_equal(with_client(*state, client_long), 0);
}

static int client_times_out(struct fixture *f)
{
	static const char *const argv[] = { "keep" };
	struct err err = ERR_INIT;
	struct heard h;

	if (ask(f->path, 1, argv, 20 * NS_PER_MS, &h, &err) != -1)
		return 1;
	return err.class == ERR_NETWORK && err.code == ETIMEDOUT ? 0 : 2;
}

static void a_client_whose_time_is_over(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(with_client(f, client_times_out), 0);
	while (control_server_connections(f->server) > 0 && f->closed == 0)
		assert_int_equal(loop_once(f->loop, -1, NULL), 0);
	assert_int_equal(f->closed, f->requests); /* it may have gone before it was heard */
}

static int client_too_much(struct fixture *f)
{
	const char *argv[CONTROL_ARGS_MAX + 1];
	struct err err = ERR_INIT;
	struct heard h;
	char *text = malloc(CONTROL_REQUEST_MAX + 1);

	for (size_t i = 0; i <= CONTROL_ARGS_MAX; i++)
		argv[i] = "x";
	if (ask(f->path, CONTROL_ARGS_MAX + 1, argv, -1, &h, &err) != -1 || err.class != ERR_LIMIT)
		return 1;
	if (ask(f->path, CONTROL_ARGS_MAX, argv, -1, &h, &err) != 7)
		return 2;
	memset(text, 'x', CONTROL_REQUEST_MAX);
	text[CONTROL_REQUEST_MAX] = '\0';
	argv[0] = text;
	if (ask(f->path, 1, argv, -1, &h, &err) != -1 || err.class != ERR_LIMIT)
		return 3;
	text[CONTROL_REQUEST_MAX - 1] = '\0'; /* the longest that goes: many reads of the server */
	return ask(f->path, 1, argv, -1, &h, &err) == 7 && h.out.len == CONTROL_REQUEST_MAX ? 0 : 4;
}

static void limits_of_a_request(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(with_client(f, client_too_much), 0);
	assert_int_equal(f->requests, 2);
}

/* ---- bare sockets ---- */

static int dial(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void say(int fd, const char *data, size_t len)
{
	assert_int_equal(send(fd, data, len, MSG_NOSIGNAL), len);
}

static void once(struct fixture *f)
{
	assert_int_equal(loop_once(f->loop, 60000, NULL), 0);
}

static bool hung_up(int fd)
{
	char c;
	ssize_t n = recv(fd, &c, 1, MSG_DONTWAIT);

	return n == 0 || (n < 0 && errno == ECONNRESET);
}

static void malformed_requests_are_dropped(void **state)
{
	static const struct {
		const char *data;
		size_t len;
	} cases[] = {
		{ "\xff\xff\xff\xff\x01", 5 }, /* longer than may be, by its header */
		{ "\x01\x00\x01\x00\x01", 5 }, /* by one byte */
		{ "\x02\0\0\0\x02"
		  "a\0",
		  7 }, /* an answer's type */
		{ "\x02\0\0\0\0"
		  "a\0",
		  7 }, /* no type at all */
		{ "\x02\0\0\0\x01"
		  "ab",
		  7 }, /* no NUL at the end */
		{ "GET / HTTP/1.0\r\n\r\n", 18 },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int fd = dial(f->path);

		say(fd, cases[i].data, cases[i].len);
		while (!hung_up(fd))
			once(f);
		close(fd);
		assert_int_equal(control_server_connections(f->server), 0);
	}
	assert_int_equal(f->requests, 0);
	assert_int_equal(with_client(f, client_echo), 0); /* and it serves on */
}

static void too_many_arguments_are_dropped(void **state)
{
	struct fixture *f = *state;
	char args[CONTROL_ARGS_MAX + 1] = { 0 };
	int fd = dial(f->path);
	struct buf b;

	buf_init(&b, 4096);
	assert_true(frame_add(&b, CONTROL_REQUEST, args, sizeof(args)));
	say(fd, b.data, b.len);
	while (!hung_up(fd))
		once(f);
	assert_int_equal(f->requests, 0);
	buf_done(&b);
	close(fd);
}

/* Byte by byte; then what follows the request means nothing. */
static void requests_in_pieces(void **state)
{
	static const char request[] = "\x05\0\0\0\x01"
				      "keep\0"
				      "\x05\0\0\0\x01"
				      "keep\0\xff";
	struct fixture *f = *state;
	int fd = dial(f->path);

	while (control_server_connections(f->server) == 0)
		once(f);
	for (size_t i = 0; i < sizeof(request) - 1; i++) {
		assert_int_equal(f->requests, i < 10 ? 0 : 1);
		say(fd, request + i, 1);
		once(f);
	}
	assert_int_equal(f->requests, 1);
	assert_non_null(f->kept);
	assert_int_equal(control_server_connections(f->server), 1);
	control_exit(f->kept, 300); /* no exit code */
	while (control_server_connections(f->server) > 0)
		once(f);
	assert_int_equal(f->closed, 0); /* it was answered */
	{
		unsigned char got[64];

		assert_int_equal(recv(fd, got, sizeof(got), 0), 9);
		assert_memory_equal(got, "\x04\0\0\0\x05\xff\0\0\0", 9);
		assert_true(hung_up(fd));
	}
	close(fd);
}

static int dial_kept(struct fixture *f)
{
	int fd = dial(f->path);

	say(fd, "\x05\0\0\0\x01keep\0", 10);
	while (f->kept == NULL)
		once(f);
	return fd;
}

static void a_client_that_goes_is_told(void **state)
{
	struct fixture *f = *state;
	int fd = dial_kept(f);

	control_out(f->kept, "unread", 6);
	close(fd);
	while (f->closed == 0)
		once(f);
	assert_null(f->kept);
	assert_int_equal(control_server_connections(f->server), 0);
}

/* Who says nothing is dropped after a while; who asked may wait for the answer as long as it takes, and has a while to
 * read the end of it. */
static void patience(void **state)
{
	struct fixture *f = *state;
	int silent = dial(f->path), asked = dial_kept(f);
	char *text = calloc(1, CONTROL_ANSWER_MAX);

	assert_int_equal(control_server_connections(f->server), 2);
	later_ns += 3600 * NS_PER_S;
	while (!hung_up(silent))
		once(f);
	assert_int_equal(control_server_connections(f->server), 1);
	assert_int_equal(f->closed, 0);
	control_out(f->kept, text, CONTROL_ANSWER_MAX); /* more than the socket takes */
	control_exit(f->kept, 0);
	assert_int_equal(loop_once(f->loop, 0, NULL), 0);
	assert_int_equal(control_server_connections(f->server), 1);
	later_ns += 3600 * NS_PER_S;
	while (control_server_connections(f->server) > 0)
		once(f);
	assert_int_equal(f->closed, 0);
	free(text);
	close(silent);
	close(asked);
}

/* One that does not read is dropped when its queue is full, from the loop; nobody else is held up. */
static void a_slow_reader_is_dropped(void **state)
{
	struct fixture *f = *state;
	char *text = calloc(1, CONTROL_ANSWER_MAX);
	int fd = dial_kept(f);
	size_t said = 0;

	while (said < 2 * CONTROL_QUEUE_MAX) {
		control_out(f->kept, text, CONTROL_ANSWER_MAX);
		said += CONTROL_ANSWER_MAX;
		assert_non_null(f->kept); /* never from within */
		assert_true(control_conn_queued(f->kept) <= CONTROL_QUEUE_MAX);
	}
	assert_int_equal(f->closed, 0);
	while (f->closed == 0)
		once(f);
	assert_int_equal(control_server_connections(f->server), 0);
	free(text);
	close(fd);
}

static void server_end(void **state)
{
	struct fixture *f = *state;
	char got[64];
	int fd = dial_kept(f);

	control_out(f->kept, "bye", 3);
	control_server_free(f->server);
	f->server = NULL;
	assert_int_equal(f->closed, 1);
	assert_int_equal(recv(fd, got, sizeof(got), 0), FRAME_HEADER + 3);
	assert_true(hung_up(fd));
	assert_int_equal(access(f->path, F_OK), -1);
	close(fd);
}

static int client_refused(struct fixture *f)
{
	struct err err = ERR_INIT;
	struct heard h;

	if (ask(f->path, 0, NULL, -1, &h, &err) != 1)
		return 1;
	return strstr(buf_str(&h.err), "too many") != NULL ? 0 : 2;
}

static void too_many_connections(void **state)
{
	struct fixture *f = *state;
	int fds[CONTROL_CONNECTIONS_MAX];

	for (size_t i = 0; i < CONTROL_CONNECTIONS_MAX; i++) {
		fds[i] = dial(f->path);
		while (control_server_connections(f->server) <= i)
			once(f);
	}
	assert_int_equal(with_client(f, client_refused), 0);
	assert_int_equal(control_server_connections(f->server), CONTROL_CONNECTIONS_MAX);
	for (size_t i = 0; i < CONTROL_CONNECTIONS_MAX; i++)
		close(fds[i]);
	while (control_server_connections(f->server) > 0)
		once(f);
	assert_int_equal(with_client(f, client_echo), 0);
}

/* ---- the socket file ---- */

static void one_server_a_path(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct stat st;

	assert_int_equal(lstat(f->path, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_null(control_server_new(f->loop, f->path, on_request, f, &err));
	assert_int_equal(err.class, ERR_LIMIT);
	assert_int_equal(err.code, EADDRINUSE);
	assert_int_equal(with_client(f, client_echo), 0); /* the first is as it was */
}

static void stale_sockets_and_other_files(void **state)
{
	struct fixture *f = *state;
	const char *stale = scratch_path(&f->scratch, "stale"), *file = scratch_path(&f->scratch, "file");
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct control_server *s;
	struct err err = ERR_INIT;
	char longer[300], text[16];

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", stale);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd); /* as a killed daemon leaves it */
	assert_int_equal(control_client_run(stale, 0, NULL, -1, &(struct control_client){ 0 }, &err), -1);
	assert_int_equal(err.class, ERR_GONE);
	s = control_server_new(f->loop, stale, on_request, f, &err);
	assert_non_null(s);
	/* A file that took its place is not the server's to remove. */
	assert_int_equal(unlink(stale), 0);
	assert_int_equal(scratch_write(stale, "x"), 0);
	control_server_free(s);
	assert_int_equal(access(stale, F_OK), 0);

	assert_int_equal(scratch_write(file, "precious"), 0);
	assert_null(control_server_new(f->loop, file, on_request, f, &err));
	assert_int_equal(err.class, ERR_UNSAFE);
	assert_string_equal(scratch_read(file, text, sizeof(text)), "precious");
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_null(control_server_new(f->loop, longer, on_request, f, &err));
	assert_int_equal(err.class, ERR_CONFIG);
	assert_null(control_server_new(f->loop, "", on_request, f, &err));
	assert_int_equal(err.class, ERR_CONFIG);
	control_server_free(NULL);
}

/* As another user: 1 when the file keeps it out, 2 when the server does. */
static int client_stranger(struct fixture *f)
{
	struct err err = ERR_INIT;
	struct heard h;

	if (setgid(65534) < 0 || setuid(65534) < 0)
		return 100;
	if (ask(f->path, 0, NULL, -1, &h, &err) != -1)
		return 101;
	return err.class == ERR_DENIED ? 1 : err.class == ERR_NETWORK ? 2 : 102;
}

/* Whoever owns the directory puts a link, or another socket, where ours was. */
static void given_to_a_group(void **state)
{
	struct fixture *f = *state;
	const char *path = scratch_path(&f->scratch, "given"), *other = scratch_path(&f->scratch, "other");
	struct unix_listener l, second;
	struct err err = ERR_INIT;
	struct stat st;

	assert_int_equal(unix_listen(&l, path, 1, &err), 0);
	assert_true(lstat(path, &st) == 0 && (st.st_mode & 07777) == 0600);
	assert_int_equal(unix_listener_give(&l, getegid(), &err), 0);
	assert_true(lstat(path, &st) == 0 && (st.st_mode & 07777) == 0660 && st.st_gid == getegid());
	assert_int_equal(scratch_write(other, "root's"), 0);
	assert_int_equal(chmod(other, 0600), 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink(other, path), 0);
	assert_int_equal(unix_listener_give(&l, getegid(), &err), -1);
	assert_int_equal(err.class, ERR_UNSAFE);
	assert_true(stat(other, &st) == 0 && (st.st_mode & 07777) == 0600);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(unlink(other), 0);
	assert_int_equal(unix_listener_give(&l, getegid(), &err), -1);
	assert_int_equal(unix_listen(&second, other, 1, &err), 0);
	assert_int_equal(rename(other, path), 0);
	assert_int_equal(unix_listener_give(&l, getegid(), &err), -1);
	assert_true(lstat(path, &st) == 0 && (st.st_mode & 07777) == 0600);
	assert_int_equal(unlink(path), 0);
	unix_listener_done(&l);
	unix_listener_done(&second);
}

static void strangers_are_not_heard(void **state)
{
	struct fixture *f = *state;

	if (geteuid() != 0)
		skip();
	assert_int_equal(chmod(f->scratch.dir, 0755), 0);
	assert_int_equal(with_client(f, client_stranger), 1);
	assert_int_equal(chmod(f->path, 0666), 0);
	assert_int_equal(with_client(f, client_stranger), 2);
	assert_int_equal(f->requests, 0);
}

/* ---- a client of servers that are none ---- */

/* The error class that a client gets from a server that answers with these bytes. */
static enum err_class answer_with(struct fixture *f, const char *data, size_t len)
{
	const char *path = scratch_path(&f->scratch, "fake");
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct err err = ERR_INIT;
	pid_t pid;
	int rc;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	unlink(path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	pid = fork();
	if (pid == 0) {
		char raw[64];
		int peer = accept(fd, NULL, NULL);

		/* Read what it says first: else it would see a reset instead of the answer. */
		if (peer < 0 || read(peer, raw, sizeof(raw)) <= 0 || write(peer, data, len) != (ssize_t)len)
			_exit(1);
		_exit(0);
	}
	close(fd);
	rc = control_client_run(path, 1, (const char *const[]){ "x" }, -1, &(struct control_client){ 0 }, &err);
	assert_int_equal(scratch_wait(pid), 0);
	return rc == -1 ? err.class : ERR_NONE;
}

static void answers_that_make_no_sense(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(answer_with(f, "\x04\0\0\0\x05\x03\0\0\0", 9), ERR_NONE); /* one that does */
	assert_int_equal(answer_with(f, "", 0), ERR_NETWORK);
	assert_int_equal(answer_with(f, "\x01\0\0\0\x02x", 6), ERR_NETWORK); /* no exit code before the end */
	assert_int_equal(answer_with(f, "\x01\0\0\0\x02", 5), ERR_NETWORK);
	assert_int_equal(answer_with(f, "\x01\0\0\0\x63x", 6), ERR_PROTOCOL);
	assert_int_equal(answer_with(f, "\x01\0\0\0\x01x", 6), ERR_PROTOCOL);
	assert_int_equal(answer_with(f, "\xff\xff\xff\xff\x02", 5), ERR_PROTOCOL);
	assert_int_equal(answer_with(f, "\x03\0\0\0\x05\0\0\0", 8), ERR_PROTOCOL);
	assert_int_equal(answer_with(f, "\x04\0\0\0\x05\0\x01\0\0", 9), ERR_PROTOCOL); /* 256 */
	assert_int_equal(answer_with(f, "\x05\0\0\0\x05\0\0\0\0\0", 10), ERR_PROTOCOL);
}

static void nobody_there(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	const struct control_client client = { 0 };

	assert_int_equal(control_client_run(scratch_path(&f->scratch, "none"), 0, NULL, -1, &client, &err), -1);
	assert_int_equal(err.class, ERR_GONE);
	assert_int_equal(control_client_run(scratch_path(&f->scratch, "control/x"), 0, NULL, -1, &client, &err), -1);
	assert_int_equal(err.class, ERR_GONE);
	assert_int_equal(control_client_run("", 0, NULL, -1, &client, &err), -1);
	assert_int_equal(err.class, ERR_CONFIG);
}

static void parsing(void **state)
{
	const char *argv[CONTROL_ARGS_MAX + 1];
	char *longest = calloc(1, CONTROL_REQUEST_MAX + 1);
	size_t argc = 99;

	(void)state;
	assert_true(control_parse_request(NULL, 0, argv, &argc));
	assert_int_equal(argc, 0);
	assert_null(argv[0]);
	assert_true(control_parse_request("a\0\0bc\0", 6, argv, &argc));
	assert_int_equal(argc, 3);
	assert_string_equal(argv[0], "a");
	assert_string_equal(argv[1], "");
	assert_string_equal(argv[2], "bc");
	assert_null(argv[3]);
	assert_false(control_parse_request("a\0b", 3, argv, &argc));
	assert_true(control_parse_request(longest, CONTROL_ARGS_MAX, argv, &argc));
	assert_int_equal(argc, CONTROL_ARGS_MAX);
	assert_null(argv[CONTROL_ARGS_MAX]);
	assert_false(control_parse_request(longest, CONTROL_ARGS_MAX + 1, argv, &argc));
	memset(longest, 'x', CONTROL_REQUEST_MAX);
	assert_false(control_parse_request(longest, CONTROL_REQUEST_MAX + 1, argv, &argc));
	longest[CONTROL_REQUEST_MAX - 1] = '\0';
	assert_true(control_parse_request(longest, CONTROL_REQUEST_MAX, argv, &argc));
	assert_int_equal(argc, 1);
	free(longest);
}

#define WITH_SERVER(name) cmocka_unit_test_setup_teardown(name, set_up, clean_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_SERVER(asks_and_answers),
		WITH_SERVER(long_answers),
		WITH_SERVER(a_client_whose_time_is_over),
		WITH_SERVER(limits_of_a_request),
		WITH_SERVER(malformed_requests_are_dropped),
		WITH_SERVER(too_many_arguments_are_dropped),
		WITH_SERVER(requests_in_pieces),
		WITH_SERVER(a_client_that_goes_is_told),
		WITH_SERVER(patience),
		WITH_SERVER(a_slow_reader_is_dropped),
		WITH_SERVER(server_end),
		WITH_SERVER(too_many_connections),
		WITH_SERVER(one_server_a_path),
		WITH_SERVER(stale_sockets_and_other_files),
		WITH_SERVER(given_to_a_group),
		WITH_SERVER(strangers_are_not_heard),
		WITH_SERVER(answers_that_make_no_sense),
		WITH_SERVER(nobody_there),
		cmocka_unit_test(parsing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
