/* LINK: transports/tcp_stream.c transports/zstream.c transports/zstream_zstd.c transports/tls.c core/buf.c core/err.c
   core/frame.c core/loop.c core/clock.c core/path.c core/credential.c core/log.c core/safe_open.c core/utf8.c */
/* LIBS: -lz -lzstd -lssl -lcrypto */
/* Two ends of a connection in one loop: frames both ways, TLS with keys, wrong keys, silence, and rules broken. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/clock.h"
#include "transports/tcp_stream.h"

struct end {
	struct tcp_stream *s;
	struct buf got;
	char peer[TLS_NAME_MAX];
	bool ready, ended, wants_more;
	size_t idle;
	struct err why;
	size_t frames;
	uint8_t zstd_from; /* with a frame of this type zstd begins */
	uint8_t hold_at;   /* a frame of this type takes longer */
};

static struct loop *loop;
static struct tls_key server_key;

static void on_ready(void *ctx, const char *peer)
{
	struct end *e = ctx;

	e->ready = true;
	(void)snprintf(e->peer, sizeof(e->peer), "%s", peer);
}

static bool on_frame(void *ctx, uint8_t type, const char *payload, size_t len, struct err *err)
{
	struct end *e = ctx;

	(void)err;
	e->frames++;
	buf_add_byte(&e->got, type);
	buf_add(&e->got, payload, len);
	if (type == e->zstd_from)
		assert_true(tcp_stream_use_zstd(e->s, ZSTREAM_WINDOW_LOG));
	if (type == e->hold_at)
		tcp_stream_hold(e->s);
	return type != 99;
}

static void on_drained(void *ctx)
{
	((struct end *)ctx)->wants_more = true;
}

/* As a sender does: whatever there is to send leaves. */
static void on_idle(void *ctx)
{
	struct end *e = ctx;

	e->idle++;
	tcp_stream_kick(e->s);
}

static void on_ended(void *ctx, const struct err *why)
{
	struct end *e = ctx;

	assert_false(e->ended);
	e->ended = true;
	e->why = *why;
}

static void connect_two(int fds[2])
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(l, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(l, 1), 0);
	assert_int_equal(getsockname(l, (struct sockaddr *)&a, &len), 0);
	fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fds[0], (struct sockaddr *)&a, sizeof(a)), 0);
	fds[1] = accept4(l, NULL, NULL, SOCK_CLOEXEC);
	close(l);
	for (int i = 0; i < 2; i++)
		(void)fcntl(fds[i], F_SETFL, O_NONBLOCK);
}

static void open_end(struct end *e, int fd, struct tls_context *tls, int level)
{
	struct tcp_stream_handler h = { .ready = on_ready,
					.frame = on_frame,
					.drained = on_drained,
					.idle = on_idle,
					.ended = on_ended,
					.ctx = e };
	struct tcp_stream_limits l = { .handshake_ns = 5 * NS_PER_S, .silence_ns = 5 * NS_PER_S, .level = level };
	struct err err = ERR_INIT;

	memset(e, 0, sizeof(*e));
	buf_init(&e->got, 64u << 20);
	e->s = tcp_stream_new(loop, fd, tls, &l, &h, &err);
	assert_non_null(e->s);
}

static void close_end(struct end *e)
{
	tcp_stream_free(e->s);
	buf_done(&e->got);
}

static void until(const bool *fact)
{
	int64_t end = clock_mono_ns() + 20 * NS_PER_S;
	struct err err = ERR_INIT;

	while (!*fact && clock_mono_ns() < end)
		assert_true(loop_once(loop, 1000, &err) >= 0);
	assert_true(*fact);
}

static void until_frames(struct end *e, size_t n)
{
	int64_t end = clock_mono_ns() + 20 * NS_PER_S;
	struct err err = ERR_INIT;

	while (e->frames < n && !e->ended && clock_mono_ns() < end)
		assert_true(loop_once(loop, 1000, &err) >= 0);
	assert_int_equal(e->frames, n);
}

static bool find(void *ctx, const char *name, struct tls_key *out)
{
	(void)ctx;
	if (strcmp(name, server_key.name) != 0)
		return false;
	*out = server_key;
	return true;
}

static void make_key(struct tls_key *k, const char *name, unsigned char byte)
{
	memset(k, 0, sizeof(*k));
	(void)snprintf(k->name, sizeof(k->name), "%s", name);
	memset(k->bytes, byte, 32);
	k->len = 32;
}

static void exchange(struct tls_context *client, struct tls_context *server, int level)
{
	struct end a, b;
	int fds[2];
	char body[50000];

	connect_two(fds);
	open_end(&a, fds[0], client, level);
	open_end(&b, fds[1], server, level);
	until(&a.ready);
	until(&b.ready);
	memset(body, 'x', sizeof(body));
	for (int i = 0; i < 200; i++) {
		assert_true(tcp_stream_send2(a.s, 7, "head", 4, body, sizeof(body), ZSTREAM_STORE));
		assert_true(tcp_stream_send(b.s, 8, "ack", 3, ZSTREAM_PACK));
		tcp_stream_kick(a.s);
		tcp_stream_kick(b.s);
		if (!tcp_stream_writable(a.s)) {
			a.wants_more = false;
			until(&a.wants_more);
		}
	}
	until_frames(&b, 200);
	until_frames(&a, 200);
	assert_int_equal(b.got.len, 200 * (5 + sizeof(body)));
	assert_memory_equal(b.got.data, "\x07headx", 6);
	assert_int_equal(a.got.len, 200 * 4);
	tcp_stream_finish(a.s);
	until(&b.ended);
	assert_int_equal(b.why.class, ERR_GONE);
	until(&a.ended);
	close_end(&a);
	close_end(&b);
}

/* Both ends change to zstd where the protocol has its greetings, each direction behind what was still without. */
static void to_zstd(void **state)
{
	struct end a, b;
	char body[50000];
	int fds[2];

	(void)state;
	connect_two(fds);
	open_end(&a, fds[0], NULL, 6);
	open_end(&b, fds[1], NULL, -1);
	until(&a.ready);
	until(&b.ready);
	assert_true(tcp_stream_send(a.s, 2, "hello", 5, ZSTREAM_PACK));
	tcp_stream_kick(a.s);
	until_frames(&b, 1);
	assert_true(tcp_stream_send(b.s, 3, "welcome", 7, ZSTREAM_PACK));
	assert_true(tcp_stream_use_zstd(b.s, ZSTREAM_WINDOW_LOG_SMALL));
	assert_true(tcp_stream_send(b.s, 8, "more", 4, ZSTREAM_PACK));
	a.zstd_from = 3;
	until_frames(&a, 2);
	assert_memory_equal(a.got.data, "\x03welcome\x08more", 13);
	memset(body, 'x', sizeof(body));
	for (size_t i = 0; i < 100; i++)
		assert_true(tcp_stream_send(a.s, 7, body, sizeof(body), ZSTREAM_PACK));
	tcp_stream_kick(a.s);
	until_frames(&b, 101);
	assert_int_equal(b.got.len, 6 + 100 * (1 + sizeof(body)));
	assert_memory_equal(b.got.data + 6 + 99 * (1 + sizeof(body)), "\x07xx", 3);
	assert_true(tcp_stream_bytes_out(a.s) < 20000);
	close_end(&a);
	close_end(&b);
}

/* While one end is busy with a frame nothing more is handed out, from what was read already or not; its own frames
 * leave, and nothing spins. */
static void held(void **state)
{
	struct tls_context *server, *client;
	struct err err = ERR_INIT;
	char body[50000];
	struct end a, b;
	int fds[2];

	(void)state;
	make_key(&server_key, "web", 1);
	for (int tls = 0; tls < 2; tls++) {
		server = tls ? tls_server_new(&(struct tls_config){ .find_key = find }, &err) : NULL;
		client = tls ? tls_client_new(&(struct tls_config){ .key = &server_key }, &err) : NULL;
		connect_two(fds);
		open_end(&a, fds[0], client, -1);
		open_end(&b, fds[1], server, -1);
		until(&a.ready);
		until(&b.ready);
		memset(body, 'x', sizeof(body));
		b.hold_at = 8;
		assert_true(tcp_stream_send(a.s, 7, "one", 3, ZSTREAM_PACK));
		assert_true(tcp_stream_send(a.s, 8, "two", 3, ZSTREAM_PACK));
		for (int i = 0; i < 8; i++)
			assert_true(tcp_stream_send(a.s, 9, body, sizeof(body), ZSTREAM_STORE));
		tcp_stream_kick(a.s);
		until_frames(&b, 2);
		for (int i = 0; i < 20; i++)
			assert_true(loop_once(loop, 5, &err) >= 0);
		assert_int_equal(b.frames, 2);
		assert_true(tcp_stream_send(b.s, 6, "alive", 5, ZSTREAM_PACK));
		tcp_stream_kick(b.s);
		until_frames(&a, 1);
		tcp_stream_go_on(b.s);
		until_frames(&b, 10);
		assert_int_equal(b.got.len, 8 + 8 * (1 + sizeof(body)));
		/* What has been read does not grow with each time. */
		for (int i = 0; i < 30; i++)
			assert_true(tcp_stream_send(a.s, 8, body, sizeof(body), ZSTREAM_STORE));
		tcp_stream_kick(a.s);
		for (size_t i = 1; i <= 30; i++) {
			until_frames(&b, 10 + i);
			tcp_stream_go_on(b.s);
		}
		/* Whoever is lost meanwhile is seen to be. */
		assert_true(tcp_stream_send(a.s, 8, "more", 4, ZSTREAM_PACK));
		tcp_stream_kick(a.s);
		until_frames(&b, 41);
		close_end(&a);
		assert_true(tcp_stream_send(b.s, 6, body, sizeof(body), ZSTREAM_STORE));
		tcp_stream_kick(b.s);
		until(&b.ended);
		close_end(&b);
		tls_context_free(client);
		tls_context_free(server);
	}
}

/* Whoever flushes at each chance must not keep the loop awake. */
static void sleeps(void **state)
{
	struct err err = ERR_INIT;
	struct end a, b;
	int fds[2];

	(void)state;
	connect_two(fds);
	open_end(&a, fds[0], NULL, -1);
	open_end(&b, fds[1], NULL, -1);
	until(&a.ready);
	until(&b.ready);
	for (size_t i = 1; i <= 3; i++) {
		assert_true(tcp_stream_send(a.s, 7, "more", 4, ZSTREAM_PACK));
		tcp_stream_kick(a.s);
		until_frames(&b, i);
	}
	for (int i = 0; i < 20; i++)
		assert_true(loop_once(loop, 5, &err) >= 0);
	assert_in_range(b.idle, 1, 6);
	assert_in_range(a.idle, 0, 6);
	close_end(&a);
	close_end(&b);
}

static void plain(void **state)
{
	(void)state;
	exchange(NULL, NULL, 0);
	exchange(NULL, NULL, 6);
	exchange(NULL, NULL, -1);
}

static void with_key(void **state)
{
	struct tls_key key;
	struct tls_config c = { .key = &key, .find_key = find };
	struct err err = ERR_INIT;
	struct tls_context *client, *server;

	(void)state;
	make_key(&key, "web", 5);
	server_key = key;
	client = tls_client_new(&c, &err);
	server = tls_server_new(&c, &err);
	assert_non_null(client);
	assert_non_null(server);
	exchange(client, server, -1);
	tls_context_free(client);
	tls_context_free(server);
}

static void refused(const struct tls_key *theirs, const struct tls_key *ours)
{
	struct tls_config c = { .key = theirs, .find_key = find };
	struct err err = ERR_INIT;
	struct tls_context *client = tls_client_new(&c, &err), *server = tls_server_new(&c, &err);
	struct end a, b;
	int fds[2];

	server_key = *ours;
	connect_two(fds);
	open_end(&a, fds[0], client, 0);
	open_end(&b, fds[1], server, 0);
	until(&a.ended);
	until(&b.ended);
	assert_int_equal(a.why.class, ERR_AUTH);
	assert_int_equal(b.why.class, ERR_AUTH);
	assert_false(a.ready || b.ready);
	close_end(&a);
	close_end(&b);
	tls_context_free(client);
	tls_context_free(server);
}

static void wrong_key(void **state)
{
	struct tls_key theirs, ours;

	(void)state;
	make_key(&theirs, "web", 5);
	make_key(&ours, "web", 6);
	refused(&theirs, &ours); /* the name is known, the key another */
	make_key(&ours, "mail", 5);
	refused(&theirs, &ours); /* the key is right, the name unknown */
}

static void silence(void **state)
{
	struct tcp_stream_limits l = { .handshake_ns = NS_PER_S / 5, .silence_ns = NS_PER_S / 5 };
	struct end a;
	struct tcp_stream_handler h = {
		.ready = on_ready, .frame = on_frame, .drained = on_drained, .ended = on_ended, .ctx = &a
	};
	struct tls_key key;
	struct tls_config c = { .key = &key };
	struct tls_context *client;
	struct err err = ERR_INIT;
	int fds[2];

	(void)state;
	make_key(&key, "web", 1);
	client = tls_client_new(&c, &err);
	for (int with_tls = 0; with_tls < 2; with_tls++) {
		connect_two(fds);
		memset(&a, 0, sizeof(a));
		buf_init(&a.got, 100);
		a.s = tcp_stream_new(loop, fds[0], with_tls ? client : NULL, &l, &h, &err);
		until(&a.ended); /* the other end never says anything */
		assert_int_equal(a.why.class, ERR_NETWORK);
		assert_int_equal(a.ready, !with_tls);
		close_end(&a);
		close(fds[1]);
	}
	tls_context_free(client);
}

static void broken_rules(void **state)
{
	static const char too_long[] = "\x05\0\0\0\xff\xff\xff\xff\x07", unknown[] = "\x05\0\0\0\0\0\0\0\x63";
	struct end a;
	int fds[2];

	(void)state;
	for (int i = 0; i < 2; i++) {
		connect_two(fds);
		open_end(&a, fds[0], NULL, 0);
		assert_int_equal(send(fds[1], i == 0 ? too_long : unknown, 9, 0), 9);
		until(&a.ended);
		assert_int_equal(a.why.class, ERR_PROTOCOL);
		close_end(&a);
		close(fds[1]);
	}
}

static void key_files(void **state)
{
	char dir[] = "/tmp/fansyncd-keys.XXXXXX", path[64];
	struct tls_key k;
	struct err err = ERR_INIT;
	FILE *f;

	(void)state;
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/web.key", dir);
	f = fopen(path, "we");
	for (int i = 0; i < 32; i++)
		(void)fprintf(f, "%02x", i);
	(void)fputc('\n', f);
	(void)fclose(f);
	assert_int_equal(chmod(path, 0644), 0);
	assert_int_equal(tls_key_read(path, &k, &err), -1);
	assert_int_equal(err.class, ERR_UNSAFE);
	/* systemd's, with an access control list: the group's bits are its mask */
	assert_int_equal(chmod(path, 0440), 0);
	assert_int_equal(tls_key_read(path, &k, &err), -1);
	assert_int_equal(setenv("CREDENTIALS_DIRECTORY", dir, 1), 0);
	assert_int_equal(tls_key_read(path, &k, &err), 0);
	assert_int_equal(chmod(path, 0444), 0);
	assert_int_equal(tls_key_read(path, &k, &err), -1);
	assert_int_equal(unsetenv("CREDENTIALS_DIRECTORY"), 0);
	assert_int_equal(chmod(path, 0600), 0);
	assert_int_equal(tls_key_read(path, &k, &err), 0);
	assert_string_equal(k.name, "web");
	assert_int_equal(k.len, 32);
	assert_int_equal(k.bytes[31], 31);
	assert_int_equal(truncate(path, 20), 0);
	assert_int_equal(tls_key_read(path, &k, &err), -1);
	assert_int_equal(err.class, ERR_CONFIG);
	assert_int_equal(k.len, 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(tls_key_read(path, &k, &err), -1);
	assert_int_equal(err.class, ERR_GONE);
	assert_int_equal(rmdir(dir), 0);
}

static int set_up(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	(void)signal(SIGPIPE, SIG_IGN);
	loop = loop_new(&err);
	return loop == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
	(void)state;
	loop_free(loop);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sleeps),	cmocka_unit_test(held),	     cmocka_unit_test(plain),
		cmocka_unit_test(with_key),	cmocka_unit_test(wrong_key), cmocka_unit_test(silence),
		cmocka_unit_test(broken_rules), cmocka_unit_test(key_files), cmocka_unit_test(to_zstd),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
