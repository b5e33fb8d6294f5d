/* LINK: core/control.c core/unix_listen.c core/frame.c core/buf.c core/loop.c core/clock.c core/err.c */
/* WRAP: clock_mono_ns */
/* MODULE: core/control.c core/frame.c */
/* ROUNDS: 300 */
/*
 * The control socket as any local process may use it. The input is a request's payload, a stream of frames, and a
 * script: clients come, say bytes or whole requests, read, hang up; the handler answers now or later; time passes. What
 * is accepted keeps the rules, and is all of the payload; each request is answered or told that its client is gone,
 * once; and a client gets frames.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/control.h"
#include "core/frame.h"

#define CLIENTS (CONTROL_CONNECTIONS_MAX + 4u)
#define OPS_MAX 80u
#define TURNS 2u
/* Some of these are more than a connection may have unread. */
#define LONG_ANSWER (CONTROL_ANSWER_MAX + 3u)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int64_t __real_clock_mono_ns(void);
int64_t __wrap_clock_mono_ns(void);

struct asked {
	struct control_conn *conn; /* NULL: answered, or gone */
};

static struct {
	const uint8_t *p;
	size_t n;
	struct loop *loop;
	struct control_server *server;
	int clients[CLIENTS];
	struct buf got[CLIENTS];
	struct asked asked[CLIENTS];
	unsigned at_once; /* how the next requests are answered: 0 not yet, else with so many pieces */
	int64_t later_ns;
	struct sockaddr_un address;
} s;

static char dir[] = "/tmp/fansyncd-fuzz.XXXXXX";

int64_t __wrap_clock_mono_ns(void)
{
	return __real_clock_mono_ns() + s.later_ns;
}

static void require(bool holds)
{
	if (!holds)
		abort();
}

static unsigned next(void)
{
	if (s.n == 0)
		return 0;
	s.n--;
	return *s.p++;
}

/* ---- the bytes alone ---- */

static void check(const char *payload, size_t len)
{
	const char *argv[CONTROL_ARGS_MAX + 1];
	size_t argc = SIZE_MAX, at = 0;

	if (!control_parse_request(payload, len, argv, &argc))
		return;
	require(argc <= CONTROL_ARGS_MAX && argv[argc] == NULL && len <= CONTROL_REQUEST_MAX);
	for (size_t i = 0; i < argc; i++) {
		require(argv[i] == payload + at);
		at += strlen(argv[i]) + 1;
	}
	require(at == len);
}

static void check_stream(const uint8_t *data, size_t size)
{
	const char *payload;
	struct buf in;
	uint8_t type;
	size_t len;

	buf_init(&in, size);
	require(size == 0 || buf_add(&in, data, size));
	while (frame_next(&in, CONTROL_REQUEST_MAX, &type, &payload, &len) > 0)
		check(payload, len);
	buf_done(&in);
}

/* ---- the handler ---- */

static void on_closed(void *ctx, struct control_conn *conn)
{
	struct asked *a = ctx;

	require(a->conn == conn && control_conn_user(conn) == a);
	a->conn = NULL;
}

static void answer(struct control_conn *conn, unsigned pieces)
{
	static char text[LONG_ANSWER];
	size_t len = pieces == UINT8_MAX ? sizeof(text) : pieces;

	for (unsigned i = 0; i < pieces % 16; i++) {
		control_out(conn, text, len);
		control_err(conn, text, i);
		control_progress(conn, text, pieces);
		require(control_conn_queued(conn) <= CONTROL_QUEUE_MAX);
	}
	control_exit(conn, (int)pieces - 1);
}

static void on_request(void *ctx, struct control_conn *conn, size_t argc, const char *const *argv)
{
	size_t i = 0;

	(void)ctx;
	require(argc <= CONTROL_ARGS_MAX && argv[argc] == NULL);
	if (s.at_once != 0) {
		answer(conn, s.at_once);
		return;
	}
	while (i < CLIENTS && s.asked[i].conn != NULL)
		i++;
	require(i < CLIENTS);
	s.asked[i].conn = conn;
	control_conn_set_user(conn, &s.asked[i]);
	control_conn_set_closed(conn, on_closed, &s.asked[i]);
}

static void answer_later(unsigned which, unsigned pieces)
{
	struct asked *a = &s.asked[which % CLIENTS];
	struct control_conn *conn = a->conn;

	if (conn == NULL)
		return;
	if (pieces % 3 == 0) { /* a part of it */
		control_out(conn, "so far", 6);
		return;
	}
	a->conn = NULL;
	answer(conn, pieces);
}

/* ---- the clients ---- */

static void turn(void)
{
	struct err err = ERR_INIT;

	for (unsigned i = 0; i < TURNS; i++)
		require(loop_once(s.loop, 0, &err) >= 0);
	require(control_server_connections(s.server) <= CONTROL_CONNECTIONS_MAX);
}

static void hang_up(unsigned i)
{
	if (s.clients[i] >= 0)
		(void)close(s.clients[i]);
	s.clients[i] = -1;
	buf_done(&s.got[i]);
}

static void call(unsigned i)
{
	if (s.clients[i] >= 0)
		return;
	s.clients[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	require(s.clients[i] >= 0);
	buf_init(&s.got[i], 4 * CONTROL_ANSWER_MAX);
	if (connect(s.clients[i], (const struct sockaddr *)&s.address, sizeof(s.address)) < 0)
		hang_up(i);
}

static void say(unsigned i, const void *bytes, size_t n)
{
	if (s.clients[i] >= 0 && n > 0)
		(void)!send(s.clients[i], bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void say_bytes(unsigned i, size_t n)
{
	n = n < s.n ? n : s.n;
	say(i, s.p, n);
	s.p += n;
	s.n -= n;
}

/* A request as a client of ours says it. */
static void ask(unsigned i, size_t words)
{
	struct buf frame, payload;

	buf_init(&payload, CONTROL_REQUEST_MAX);
	buf_init(&frame, CONTROL_REQUEST_MAX);
	for (size_t k = 0; k < words; k++)
		buf_add(&payload, "word", 5);
	require(frame_add(&frame, CONTROL_REQUEST, payload.data, payload.len));
	call(i);
	say(i, frame.data, frame.len);
	buf_done(&frame);
	buf_done(&payload);
}

/* What has come is frames of answers, in which nothing follows the exit status. */
static void listen_to(unsigned i)
{
	static char in[1u << 18];
	ssize_t n = s.clients[i] < 0 ? 0 : recv(s.clients[i], in, sizeof(in), MSG_DONTWAIT);
	const char *payload;
	uint8_t type;
	size_t len;
	int got;

	if (n <= 0)
		return;
	require(buf_add(&s.got[i], in, (size_t)n));
	while ((got = frame_next(&s.got[i], CONTROL_ANSWER_MAX, &type, &payload, &len)) > 0) {
		require(type >= CONTROL_OUT && type <= CONTROL_EXIT);
		require(type != CONTROL_EXIT || len == 4);
	}
	require(got == 0);
}

/* ---- the script ---- */

static void step(void)
{
	unsigned op = next(), i = next() % CLIENTS;

	if (op % 10 == 0)
		call(i);
	else if (op % 10 == 1)
		say_bytes(i, next());
	else if (op % 10 == 2)
		ask(i, op / 10u * 11u); /* up to 275 words: some of them too many */
	else if (op % 10 == 3)
		hang_up(i);
	else if (op % 10 == 4 && s.clients[i] >= 0)
		(void)shutdown(s.clients[i], SHUT_WR);
	else if (op % 10 == 5)
		answer_later(i, next());
	else if (op % 10 == 6)
		listen_to(i);
	else if (op % 10 == 7)
		s.at_once = next();
	else if (op % 10 == 8)
		s.later_ns += (int64_t)i * NS_PER_S * 4;
	else
		for (unsigned k = 0; k < i; k++)
			call(k);
}

static void clean_up(void)
{
	(void)unlink(s.address.sun_path);
	(void)rmdir(dir);
}

static void begin(void)
{
	struct err err = ERR_INIT;

	if (s.address.sun_family == 0) {
		require(mkdtemp(dir) != NULL);
		s.address.sun_family = AF_UNIX;
		(void)snprintf(s.address.sun_path, sizeof(s.address.sun_path), "%s/ctl", dir);
		(void)atexit(clean_up);
	}
	s.loop = loop_new(&err);
	require(s.loop != NULL);
	s.server = control_server_new(s.loop, s.address.sun_path, on_request, NULL, &err);
	require(s.server != NULL);
	s.at_once = 0;
	s.later_ns = 0;
	for (unsigned i = 0; i < CLIENTS; i++)
		s.clients[i] = -1;
}

static void finish(void)
{
	for (unsigned i = 0; i < CLIENTS; i += 2)
		hang_up(i);
	turn();
	control_server_free(s.server);
	for (unsigned i = 0; i < CLIENTS; i++) {
		require(s.asked[i].conn == NULL); /* told */
		listen_to(i);
		hang_up(i);
	}
	loop_free(s.loop);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check((const char *)data, size);
	check_stream(data, size);
	s.p = data;
	s.n = size;
	begin();
	for (unsigned i = 0; i < OPS_MAX && s.n > 0; i++) {
		step();
		turn();
	}
	finish();
	return 0;
}
