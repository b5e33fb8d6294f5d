/* LINK: transports/sftp_client.c transports/sftp_codec.c core/buf.c core/err.c core/loop.c core/clock.c core/log.c
 * core/safe_open.c core/utf8.c */
/* WRAP: clock_mono_ns */
/* Requests and replies over a stream of the test's own: any order, the window, and what breaks a connection. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/clock.h"
#include "transports/sftp_client.h"

struct sftp_stream {
	struct sftp_stream_events events;
	struct buf got;
	size_t takes; /* bytes that it takes before it is full */
	bool closed;
};

static struct {
	struct loop *loop;
	struct sync_options opt;
	struct sftp_stream stream;
	struct sftp_client *client;
	unsigned ready, room, broken, replies[8];
	struct err why;
	int64_t now; /* 0: what it really is */
} t;

int64_t __real_clock_mono_ns(void);
int64_t __wrap_clock_mono_ns(void);

int64_t __wrap_clock_mono_ns(void)
{
	return t.now != 0 ? t.now : __real_clock_mono_ns();
}

static struct sftp_stream *stream_open(struct loop *loop, const struct sync_options *opt,
				       const struct sftp_stream_events *events, struct err *err)
{
	(void)loop;
	(void)opt;
	(void)err;
	t.stream.events = *events;
	return &t.stream;
}

static size_t stream_write(struct sftp_stream *s, const char *data, size_t n)
{
	size_t take = n < s->takes ? n : s->takes;

	assert_true(buf_add(&s->got, data, take));
	s->takes -= take;
	return take;
}

static void stream_close(struct sftp_stream *s)
{
	s->closed = true;
}

static const struct sftp_stream_kind kind = { .open = stream_open, .write = stream_write, .close = stream_close };

static void on_ready(void *ctx)
{
	(void)ctx;
	t.ready++;
}

static void on_room(void *ctx)
{
	(void)ctx;
	t.room++;
}

static void on_broken(void *ctx, const struct err *why)
{
	(void)ctx;
	t.broken++;
	t.why = *why;
}

static void turn(void)
{
	struct err err = ERR_INIT;

	for (int i = 0; i < 3; i++)
		assert_int_equal(loop_once(t.loop, 0, &err), 0);
}

static void say(const char *bytes, size_t n)
{
	t.stream.events.came(t.stream.events.ctx, bytes, n);
	turn();
}

#define SAY(text) say((text), sizeof(text) - 1)

/* Status OK for an id. */
static void answer(uint32_t id)
{
	char p[] = "\0\0\0\x11\x65____\0\0\0\0\0\0\0\0\0\0\0\0";

	for (int i = 0; i < 4; i++)
		p[5 + i] = (char)(id >> (24 - 8 * i));
	say(p, 21);
}

static int up(void **state)
{
	const struct sftp_client_events events = { .ready = on_ready, .room = on_room, .broken = on_broken };
	struct sftp_client_spec spec = { .opt = &t.opt, .kind = &kind };
	struct err err = ERR_INIT;

	(void)state;
	memset(&t, 0, sizeof(t));
	t.opt.ssh.timeout_ns = 3600 * NS_PER_S;
	t.loop = spec.loop = loop_new(&err);
	buf_init(&t.stream.got, 1u << 24);
	t.stream.takes = SIZE_MAX;
	t.client = sftp_client_open(&spec, &events, &err);
	assert_non_null(t.client);
	t.stream.events.opened(t.stream.events.ctx);
	turn();
	assert_int_equal(t.stream.got.len, 9);
	assert_false(sftp_client_ready(t.client));
	return 0;
}

static int up_and_ready(void **state)
{
	(void)up(state);
	SAY("\0\0\0\5\2\0\0\0\3");
	assert_int_equal(t.ready, 1);
	buf_clear(&t.stream.got);
	return 0;
}

static int down(void **state)
{
	(void)state;
	sftp_client_close(t.client);
	assert_true(t.stream.closed);
	buf_done(&t.stream.got);
	loop_free(t.loop);
	return 0;
}

static void on_reply(void *ctx, struct sftp_packet *reply)
{
	assert_int_equal(reply->type, SFTP_STATUS);
	(*(unsigned *)ctx)++;
}

static uint32_t ask(unsigned *count, size_t bytes)
{
	char *path = calloc(1, bytes + 1);
	uint32_t id;
	struct buf *out = sftp_client_begin(t.client, on_reply, count, &id);

	assert_non_null(path);
	assert_non_null(out);
	sftp_put_path(out, SFTP_LSTAT, id, (struct sftp_bytes){ path, bytes });
	assert_true(sftp_client_end(t.client, id));
	free(path);
	return id;
}

/* Small requests leave together, replies find theirs in any order, each once. */
static void any_order(void **state)
{
	uint32_t ids[4];

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		ids[i] = ask(&t.replies[i], 3);
	assert_int_equal(t.stream.got.len, 0);
	turn();
	assert_int_equal(t.stream.got.len, 4 * 16);
	answer(ids[2]);
	answer(ids[0]);
	answer(ids[3]);
	assert_int_equal(t.replies[1], 0);
	answer(ids[1]);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(t.replies[i], 1);
	assert_int_equal(t.broken, 0);
	answer(ids[1]); /* once more */
	assert_int_equal(t.broken, 1);
	assert_int_equal(t.replies[1], 1);
	assert_int_equal(t.why.class, ERR_PROTOCOL);
}

/* What was asked for somebody who is gone is answered to nobody; what breaks then is nobody's matter either. */
static void abandoned(void **state)
{
	uint32_t ids[2];

	(void)state;
	ids[0] = ask(&t.replies[0], 3);
	ids[1] = ask(&t.replies[1], 3);
	turn();
	answer(ids[0]);
	assert_int_equal(t.replies[0], 1);
	sftp_client_abandon(t.client);
	answer(ids[1]);
	SAY("\377\377\377\377no packet");
	assert_int_equal(t.replies[1], 0);
	assert_int_equal(t.broken, 0);
}

/* Another request in the same place has another id. */
static void late_reply(void **state)
{
	uint32_t first = ask(&t.replies[0], 3), second;

	(void)state;
	answer(first);
	second = ask(&t.replies[1], 3);
	assert_int_not_equal(first, second);
	answer(first);
	assert_int_equal(t.replies[1], 0);
	assert_int_equal(t.broken, 1);
}

static void window(void **state)
{
	uint32_t ids[SFTP_WINDOW_REQUESTS];

	(void)state;
	for (unsigned i = 0; i < SFTP_WINDOW_REQUESTS; i++) {
		assert_true(sftp_client_room(t.client));
		ids[i] = ask(&t.replies[0], 3);
	}
	assert_false(sftp_client_room(t.client));
	turn();
	assert_int_equal(t.room, 0);
	answer(ids[5]);
	assert_int_equal(t.room, 1);
	assert_true(sftp_client_room(t.client));
	/* bytes count as well */
	for (unsigned i = 0; i < SFTP_WINDOW_REQUESTS; i++)
		if (i != 5)
			answer(ids[i]);
	for (unsigned i = 0; i < 17 && sftp_client_room(t.client); i++)
		(void)ask(&t.replies[1], 256u * 1024);
	assert_false(sftp_client_room(t.client));
	assert_int_equal(t.broken, 0);
}

/* How many of 32 KiB there is room for, once an idle server took so long to answer. */
static unsigned room_after(int64_t took_ns)
{
	uint32_t ids[1000], n = 0, id = ask(&t.replies[2], 3);

	t.now += took_ns;
	answer(id);
	while (sftp_client_room(t.client))
		ids[n++] = ask(&t.replies[2], 32u * 1024 - 13);
	for (unsigned i = 0; i < n; i++) {
		t.now += 50 * NS_PER_MS; /* a server that is busy tells nothing */
		answer(ids[i]);
	}
	return n;
}

/* As much is under way as the path is long. */
static void distance(void **state)
{
	(void)state;
	t.now = __real_clock_mono_ns();
	assert_int_equal(room_after(30 * NS_PER_MS), 128);
	assert_in_range(room_after(2 * NS_PER_MS), 50, 70);
	assert_int_equal(room_after(NS_PER_MS / 10), 8);
	assert_int_equal(room_after(30 * NS_PER_MS), 8);
	assert_int_equal(t.broken, 0);
}

/* A stream that takes a little at a time gets all of it, in order. */
static void full_stream(void **state)
{
	(void)state;
	t.stream.takes = 10;
	(void)ask(&t.replies[0], 100000);
	turn();
	assert_int_equal(t.stream.got.len, 10);
	while (t.stream.got.len < 100013) {
		size_t before = t.stream.got.len;

		t.stream.takes = 30000;
		t.stream.events.writable(t.stream.events.ctx);
		assert_true(t.stream.got.len > before);
	}
	assert_int_equal(t.stream.got.len, 100013);
	assert_memory_equal(t.stream.got.data, "\0\x01\x86\xa9\x07", 5);
}

/* Byte by byte; several at once; the largest. */
static void pieces(void **state)
{
	uint32_t a = ask(&t.replies[0], 1), b = ask(&t.replies[1], 1);
	char p[42] = "\0\0\0\x11\x65____\0\0\0\0\0\0\0\0\0\0\0\0";

	(void)state;
	memcpy(p + 21, p, 21);
	for (int i = 0; i < 4; i++) {
		p[5 + i] = (char)(a >> (24 - 8 * i));
		p[26 + i] = (char)(b >> (24 - 8 * i));
	}
	for (size_t i = 0; i < sizeof(p); i++)
		say(p + i, 1);
	assert_int_equal(t.replies[0] + t.replies[1], 2);
	assert_int_equal(t.broken, 0);
}

static void not_ours(void **state)
{
	(void)state;
	SAY("Welcome\nto this host\n");
	assert_int_equal(t.broken, 1);
	assert_non_null(strstr(t.why.text, "Welcome\\012to this host"));
	SAY("\0\0\0\5\2\0\0\0\3");
	assert_int_equal(t.ready, 0);
}

static void other_version(void **state)
{
	(void)state;
	SAY("\0\0\0\5\2\0\0\0\2");
	assert_int_equal(t.ready, 0);
	assert_int_equal(t.broken, 1);
	assert_null(sftp_client_begin(t.client, on_reply, NULL, &(uint32_t){ 0 }));
}

/* limits@openssh.com is asked before it is ready; nonsense in it is bounded. */
static void limits(void **state)
{
	(void)state;
	buf_clear(&t.stream.got);
	SAY("\0\0\0\x24\2\0\0\0\3\0\0\0\x12limits@openssh.com\0\0\0\x01\x31"
	    "\0\0\0\0");
	assert_int_equal(t.broken, 1); /* half of an extension */
}

static void real_limits(void **state)
{
	char reply[] =
		"\0\0\0\x25\xc9____\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\0\7";

	(void)state;
	buf_clear(&t.stream.got);
	SAY("\0\0\0\x20\2\0\0\0\3\0\0\0\x12limits@openssh.com\0\0\0\x01\x31");
	assert_int_equal(t.ready, 0);
	assert_true(t.stream.got.len > 9);
	memcpy(reply + 5, t.stream.got.data + 5, 4);
	say(reply, sizeof(reply) - 1);
	assert_int_equal(t.ready, 1);
	assert_int_equal(sftp_client_limits(t.client)->packet, SFTP_PACKET_MAX);
	assert_int_equal(sftp_client_limits(t.client)->read, 32768);
	assert_int_equal(sftp_client_limits(t.client)->write, 4096);
	assert_int_equal(sftp_client_limits(t.client)->handles, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(any_order, up_and_ready, down),
		cmocka_unit_test_setup_teardown(abandoned, up_and_ready, down),
		cmocka_unit_test_setup_teardown(late_reply, up_and_ready, down),
		cmocka_unit_test_setup_teardown(window, up_and_ready, down),
		cmocka_unit_test_setup_teardown(distance, up_and_ready, down),
		cmocka_unit_test_setup_teardown(full_stream, up_and_ready, down),
		cmocka_unit_test_setup_teardown(pieces, up_and_ready, down),
		cmocka_unit_test_setup_teardown(not_ours, up, down),
		cmocka_unit_test_setup_teardown(other_version, up, down),
		cmocka_unit_test_setup_teardown(limits, up, down),
		cmocka_unit_test_setup_teardown(real_limits, up, down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
