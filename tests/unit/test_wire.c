/* LINK: core/wire.c core/owner_map.c core/buf.c core/batch.c core/path.c core/err.c core/frame.c core/origins.c */
/* The codec between daemon and worker: round trips, and that what breaks a rule is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/frame.h"
#include "core/wire.h"

struct got {
	uint8_t type;
	const char *payload;
	size_t len;
};

static struct got one_frame(struct buf *b)
{
	struct got g;

	assert_int_equal(frame_next(b, WIRE_FRAME_MAX, &g.type, &g.payload, &g.len), 1);
	return g;
}

static void batch_round_trip(void **state)
{
	char from[] = "a b", to[] = "c\n\xff", path[] = "d/e";
	struct batch_rename rename = { from, 3, to, 3, true };
	struct batch_item items[] = { { "", 0, MARK_RECURSIVE | MARK_START, 0 },
				      { path, 3, MARK_LOOK | MARK_BORN, 7 } };
	struct batch b = { .id = 42, .renames = &rename, .n_renames = 1, .items = items, .n_items = 2 }, *r;
	struct buf out;
	struct got g;
	unsigned flags;

	(void)state;
	buf_init(&out, WIRE_QUEUE_MAX);
	assert_true(wire_put_batch(&out, &b, WIRE_ALLOW_DELETE));
	g = one_frame(&out);
	assert_int_equal(g.type, WIRE_BATCH);
	r = wire_get_batch(g.payload, g.len, &flags);
	assert_non_null(r);
	assert_int_equal(flags, WIRE_ALLOW_DELETE);
	assert_int_equal(r->id, 42);
	assert_int_equal(r->n_renames, 1);
	assert_true(r->renames[0].is_dir);
	assert_memory_equal(r->renames[0].to, to, 3);
	assert_int_equal(r->n_items, 2);
	assert_int_equal(r->items[0].len, 0);
	assert_memory_equal(r->items[1].path, path, 3);
	assert_int_equal(r->items[1].tries, 7);
	/* Cut anywhere, it is refused, and nothing leaks. */
	for (size_t n = 0; n < g.len; n++) {
		struct batch *cut = wire_get_batch(g.payload, n, &flags);

		assert_null(cut);
	}
	batch_free(r);
	buf_done(&out);
}

static void refuse_batch(const struct batch_item *items, size_t n)
{
	struct batch_item copy[2];
	struct batch b = { .id = 1, .items = copy, .n_items = n };
	struct buf out;
	struct got g;
	unsigned flags;

	memcpy(copy, items, n * sizeof(*items));
	buf_init(&out, WIRE_QUEUE_MAX);
	assert_true(wire_put_batch(&out, &b, 0));
	g = one_frame(&out);
	assert_null(wire_get_batch(g.payload, g.len, &flags));
	buf_done(&out);
}

static void bad_batches(void **state)
{
	const struct batch_item up[] = { { "../x", 4, MARK_LOOK, 0 } };
	const struct batch_item absolute[] = { { "/x", 2, MARK_LOOK, 0 } };
	const struct batch_item flags[] = { { "x", 1, 1u << 30, 0 } };
	const struct batch_item order[] = { { "b", 1, MARK_LOOK, 0 }, { "a", 1, MARK_LOOK, 0 } };
	const struct batch_item twice[] = { { "a", 1, MARK_LOOK, 0 }, { "a", 1, MARK_LOOK, 0 } };

	(void)state;
	refuse_batch(up, 1);
	refuse_batch(absolute, 1);
	refuse_batch(flags, 1);
	refuse_batch(order, 2);
	refuse_batch(twice, 2);
}

static void huge_counts(void **state)
{
	struct buf b;
	unsigned flags;

	(void)state;
	buf_init(&b, 1024);
	buf_add_u64(&b, 1);
	buf_add_u32(&b, 0);
	buf_add_u32(&b, UINT32_MAX); /* renames: no memory must be asked for */
	buf_add_u32(&b, UINT32_MAX);
	assert_null(wire_get_batch(b.data, b.len, &flags));
	buf_done(&b);
}

static void verdicts_round_trip(void **state)
{
	struct wire_verdict in[] = { { .index = 3, .v = VERDICT_DONE },
				     { .is_rename = true, .index = 0, .v = VERDICT_RETRY } };
	struct wire_verdict v;
	struct buf out;
	struct reader r;
	struct got g;
	uint64_t id;
	size_t at;

	(void)state;
	buf_init(&out, WIRE_QUEUE_MAX);
	err_set(&in[1].why, ERR_DENIED, "no");
	at = wire_begin_verdicts(&out, 9);
	assert_true(wire_add_verdict(&out, &in[0]) && wire_add_verdict(&out, &in[1]) && wire_end_verdicts(&out, at));
	g = one_frame(&out);
	assert_true(wire_get_verdicts(g.payload, g.len, &r, &id));
	assert_int_equal(id, 9);
	assert_int_equal(wire_next_verdict(&r, &v), 1);
	assert_int_equal(v.index, 3);
	assert_int_equal(v.why.class, ERR_NONE);
	assert_int_equal(wire_next_verdict(&r, &v), 1);
	assert_true(v.is_rename);
	assert_int_equal(v.v, VERDICT_RETRY);
	assert_string_equal(v.why.text, "no");
	assert_int_equal(wire_next_verdict(&r, &v), 0);
	/* A verdict that does not exist. */
	assert_true(wire_get_verdicts("\0\0\0\0\0\0\0\0\x7f\0\0\0\0\0", 14, &r, &id));
	assert_int_equal(wire_next_verdict(&r, &v), -1);
	buf_done(&out);
}

static void config_round_trip(void **state)
{
	struct wire_config c = { "sync = ();", 10, "/run/x", "/state/x.db", 5, 1, 2, "0123456789abcde" }, r;
	struct buf out;
	struct got g;

	(void)state;
	buf_init(&out, WIRE_QUEUE_MAX);
	assert_true(wire_put_config(&out, &c));
	g = one_frame(&out);
	assert_true(wire_get_config(g.payload, g.len, &r));
	assert_string_equal(r.runtime_dir, "/run/x");
	assert_string_equal(r.archive_path, "/state/x.db");
	assert_int_equal(r.text_len, 10);
	assert_int_equal(r.source_ino, 2);
	for (size_t n = 0; n < g.len; n++)
		assert_false(wire_get_config(g.payload, n, &r));
	buf_done(&out);
}

static void others_round_trip(void **state)
{
	struct wire_progress p = { "sending", 1, 2, 3, 4, "x/y", 3 }, p2;
	struct wire_found f = { "a", 1, VERDICT_RETRY, ERR_INIT }, f2;
	struct wire_counters c = { 1, 2, 3, 4, 5, 6, 7 }, c2;
	struct err down = ERR_INIT, down2;
	struct buf out;
	struct got g;
	struct wire_linked l = { 7, UINT64_MAX, "a/b", 3 }, l2;
	struct host_tree tree = { "a host's sixteen", "an address", 7, UINT64_MAX, 8, 9, "its kernel" }, tree2;
	uint32_t pid;
	uint32_t cat;
	const char *text;
	size_t len;

	(void)state;
	buf_init(&out, WIRE_QUEUE_MAX);
	err_set(&down, ERR_NETWORK, "unreachable");
	assert_true(wire_put_progress(&out, &p) && wire_put_found(&out, &f) && wire_put_counters(&out, &c) &&
		    wire_put_down(&out, &down) && wire_put_log(&out, 2, "hi", 2) && wire_put_linked(&out, &l));
	g = one_frame(&out);
	assert_true(wire_get_progress(g.payload, g.len, &p2));
	assert_string_equal(p2.phase, "sending");
	assert_int_equal(p2.bytes_total, 4);
	g = one_frame(&out);
	assert_true(wire_get_found(g.payload, g.len, &f2));
	assert_int_equal(f2.v, VERDICT_RETRY);
	g = one_frame(&out);
	assert_true(wire_get_counters(g.payload, g.len, &c2));
	assert_memory_equal(&c, &c2, sizeof(c));
	g = one_frame(&out);
	assert_true(wire_get_down(g.payload, g.len, &down2));
	assert_string_equal(down2.text, "unreachable");
	g = one_frame(&out);
	assert_true(wire_get_log(g.payload, g.len, &cat, &text, &len));
	assert_int_equal(cat, 2);
	assert_memory_equal(text, "hi", len);
	g = one_frame(&out);
	assert_int_equal(g.type, WIRE_LINKED);
	assert_true(wire_get_linked(g.payload, g.len, &l2));
	assert_int_equal(l2.dev, 7);
	assert_int_equal(l2.ino, UINT64_MAX);
	assert_int_equal(l2.len, 3);
	assert_memory_equal(l2.path, "a/b", 3);
	for (size_t n = 0; n < g.len; n++)
		assert_false(wire_get_linked(g.payload, n, &l2));
	/* The root is no file. */
	assert_false(wire_get_linked("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20, &l2));
	assert_true(wire_put_peer(&out, &tree) && wire_put_origin(&out, 77, &tree));
	g = one_frame(&out);
	assert_true(g.type == WIRE_PEER && wire_get_peer(g.payload, g.len, &tree2) &&
		    memcmp(&tree, &tree2, sizeof(tree)) == 0);
	for (size_t n = 0; n < g.len; n++)
		assert_false(wire_get_peer(g.payload, n, &tree2));
	g = one_frame(&out);
	assert_true(wire_get_origin(g.payload, g.len, &pid, &tree2) && pid == 77 && host_tree_same(&tree, &tree2));
	assert_true(tree2.here_dev == 8 && tree2.here_ino == 9);
	for (size_t n = 0; n < g.len; n++)
		assert_false(wire_get_origin(g.payload, n, &pid, &tree2));
	assert_true(wire_put_view(&out, WIRE_VIEW_PAGE, "{}", 2));
	g = one_frame(&out);
	assert_true(g.type == WIRE_VIEW && wire_get_view(g.payload, g.len, &pid, &text, &len));
	assert_true(pid == WIRE_VIEW_PAGE && len == 2 && memcmp(text, "{}", 2) == 0);
	for (size_t n = 0; n < g.len; n++)
		assert_false(wire_get_view(g.payload, n, &pid, &text, &len));
	/* There is no such view. */
	assert_false(wire_get_view("\0\0\0\0\0\0\0\0", 8, &pid, &text, &len));
	assert_false(wire_get_view("\3\0\0\0\0\0\0\0", 8, &pid, &text, &len));
	/* A reason is due with DOWN. */
	assert_false(wire_get_down("\0", 1, &down2));
	buf_done(&out);
}

/* What does not fit is taken back as a whole. */
static void ceiling(void **state)
{
	struct wire_found f = { "abcdefgh", 8, VERDICT_RETRY, ERR_INIT };
	struct buf out;

	(void)state;
	buf_init(&out, 40);
	assert_true(wire_put_found(&out, &f));
	assert_int_equal(out.len, 19);
	assert_true(wire_put_found(&out, &f));
	assert_false(wire_put_found(&out, &f));
	assert_int_equal(out.len, 38);
	assert_false(out.failed);
	buf_done(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(batch_round_trip),  cmocka_unit_test(bad_batches),
		cmocka_unit_test(huge_counts),	     cmocka_unit_test(verdicts_round_trip),
		cmocka_unit_test(config_round_trip), cmocka_unit_test(others_round_trip),
		cmocka_unit_test(ceiling),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
