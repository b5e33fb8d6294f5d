/* LINK: transports/receiver_copies.c core/loop.c core/clock.c core/err.c */
/* WRAP: tcp_stream_hold tcp_stream_go_on */
/* COPY frames, one of any length or many at once, are carried out bit by bit, while the stream waits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "transports/receiver_copies.h"

#define MIB ((uint64_t)1 << 20)

static struct loop *loop;
static struct receiver_copies *copies;
static bool held;
static struct tcp_span next; /* where a part must begin, and how much is left */
static uint64_t fails_at;
static int file;

void __wrap_tcp_stream_hold(struct tcp_stream *s);
void __wrap_tcp_stream_go_on(struct tcp_stream *s);

void __wrap_tcp_stream_hold(struct tcp_stream *s)
{
	assert_null(s);
	held = true;
}

void __wrap_tcp_stream_go_on(struct tcp_stream *s)
{
	assert_null(s);
	held = false;
}

static bool some(void *ctx, const struct tcp_span *part)
{
	assert_ptr_equal(ctx, &file);
	assert_int_equal(part->offset, next.offset);
	assert_int_equal(part->from, next.from);
	assert_true(part->len > 0 && part->len <= next.len);
	next.offset += part->len;
	next.from += part->len;
	next.len -= part->len;
	return next.offset < fails_at;
}

static void begin(uint64_t offset, uint64_t len, uint64_t from)
{
	next = (struct tcp_span){ .file = 1, .offset = offset, .len = len, .from = from };
	receiver_copies_start(copies, &next, some, &file);
}

static uint64_t turn(void)
{
	uint64_t before = next.len;
	struct err err = ERR_INIT;

	assert_true(loop_once(loop, 10000, &err) >= 0);
	return before - next.len;
}

static int set_up(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	loop = loop_new(&err);
	copies = receiver_copies_new(loop, NULL, &err);
	held = false;
	fails_at = UINT64_MAX;
	return loop == NULL || copies == NULL;
}

static int tear_down(void **state)
{
	(void)state;
	receiver_copies_free(copies);
	loop_free(loop);
	return 0;
}

static void a_short_one_is_done_at_once(void **state)
{
	(void)state;
	begin(5, 1000, 77);
	assert_int_equal(next.len, 0);
	assert_false(held);
	(void)turn();
	assert_false(held);
}

static void a_long_one_takes_turns(void **state)
{
	unsigned turns = 0;

	(void)state;
	begin(0, 100 * MIB + 1, 3);
	assert_true(held);
	for (; next.len > 0; turns++) {
		assert_true(held);
		assert_in_range(turn(), 1, 16 * MIB);
	}
	assert_true(turns > 4);
	while (held) /* the last one may have used up its turn */
		assert_int_equal(turn(), 0);
}

static void many_in_a_turn_count_together(void **state)
{
	uint64_t at = 0;

	(void)state;
	for (; !held && at < 64 * MIB; at += MIB / 2)
		begin(at, MIB / 2, at);
	assert_true(held);
	assert_in_range(at, MIB, 16 * MIB);
	assert_int_equal(next.len, 0);
	(void)turn();
	assert_false(held);
	begin(0, MIB, 0);
	assert_false(held);
}

static void what_fails_or_is_closed_is_over(void **state)
{
	(void)state;
	fails_at = 2 * MIB;
	begin(0, 100 * MIB, 0);
	assert_false(held);
	(void)turn();
	assert_int_equal(next.offset, 2 * MIB);
	fails_at = UINT64_MAX;
	begin(0, 100 * MIB, 0);
	assert_true(held);
	receiver_copies_stop(copies, &loop); /* another's */
	assert_true(turn() > 0);
	receiver_copies_stop(copies, &file);
	assert_int_equal(turn(), 0);
	assert_false(held);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_short_one_is_done_at_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_long_one_takes_turns, set_up, tear_down),
		cmocka_unit_test_setup_teardown(many_in_a_turn_count_together, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_fails_or_is_closed_is_over, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
