/* LINK: transports/zstream.c transports/zstream_zstd.c core/buf.c core/err.c */
/* LIBS: -lz -lzstd */
/* Records: compressed where that pays, bounded in both forms. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zlib.h>
#include <zstd.h>

#include "transports/zstream.h"

static uint32_t seed = 1;

static uint32_t next_random(void)
{
	seed = seed * 1664525u + 1013904223u;
	return seed >> 8;
}

static void fill(unsigned char *p, size_t n, bool text)
{
	for (size_t i = 0; i < n; i++)
		p[i] = text ? (unsigned char)("the quick brown fox "[next_random() % 20])
			    : (unsigned char)next_random();
}

/* All whole records of `wire`; what they hold is appended to `plain`. */
static int get_all(struct zstream_in *in, struct buf *wire, struct buf *plain)
{
	struct err err = ERR_INIT;
	int got;

	while ((got = zstream_get(in, wire, plain, &err)) > 0)
		;
	return got;
}

/* Pieces of any size, kind and level come out as they went in, however the wire cuts them. */
static void round_trip(void **state)
{
	(void)state;
	for (uint32_t run = 0; run < 80; run++) {
		struct zstream_out *out = zstream_out_new((int)(run % 4));
		struct zstream_in *in = zstream_in_new();
		size_t change = run % 2 == 0 ? 30 : run % 30; /* to zstd */
		struct buf wire, cut, sent, got;
		unsigned char *piece = malloc(300000);

		buf_init(&wire, 64u << 20);
		buf_init(&cut, 64u << 20);
		buf_init(&sent, 64u << 20);
		buf_init(&got, 64u << 20);
		seed = run + 1;
		for (size_t i = 0; i < 30; i++) {
			size_t n = next_random() % (i % 10 == 9 ? 300000 : 3000);
			bool text = next_random() % 2 == 0;

			if (i == change)
				assert_true(zstream_use_zstd(out, &wire, ZSTREAM_WINDOW_LOG_SMALL + run % 7));
			fill(piece, n, text);
			buf_add(&sent, piece, n);
			assert_true(zstream_put(out, &wire, piece, n, text ? ZSTREAM_PACK : ZSTREAM_STORE));
			if (next_random() % 3 == 0)
				assert_true(zstream_flush(out, &wire));
			if (next_random() % 8 == 0)
				zstream_widen(out);
			if (next_random() % 5 == 0)
				zstream_set_level(out, (int)(next_random() % 10));
		}
		assert_true(zstream_flush(out, &wire));
		assert_int_equal(zstream_waiting(out), 0);
		assert_true(change == 30 || zstream_expect_zstd(in));
		for (size_t at = 0; at < wire.len;) {
			size_t n = 1 + next_random() % 50000;

			n = n < wire.len - at ? n : wire.len - at;
			buf_add(&cut, wire.data + at, n);
			at += n;
			assert_int_equal(get_all(in, &cut, &got), 0);
		}
		assert_int_equal(cut.len, 0);
		assert_int_equal(got.len, sent.len);
		assert_memory_equal(got.data, sent.data, sent.len);
		free(piece);
		buf_done(&wire);
		buf_done(&cut);
		buf_done(&sent);
		buf_done(&got);
		zstream_out_free(out);
		zstream_in_free(in);
	}
}

/* Words, so that some levels find more than others. */
static void fill_words(unsigned char *p, size_t n)
{
	unsigned char words[4096];

	fill(words, sizeof(words), true);
	for (size_t at = 0, len; at < n; at += len) {
		len = 3 + next_random() % 9;
		len = len < n - at ? len : n - at;
		memcpy(p + at, words + next_random() % 4000, len);
	}
}

/* What `n` bytes of text become, after level `before` for `lead` bytes: then level 1, flushed in between. */
static size_t after_level(int before, size_t lead, size_t n)
{
	struct zstream_out *out = zstream_out_new(before);
	unsigned char *text = malloc(lead + n);
	struct buf wire;
	size_t result;

	buf_init(&wire, 64u << 20);
	seed = 7;
	fill_words(text, lead + n);
	assert_true(zstream_use_zstd(out, &wire, ZSTREAM_WINDOW_LOG));
	zstream_widen(out);
	assert_true(zstream_put(out, &wire, text, lead, ZSTREAM_PACK));
	zstream_set_level(out, 1);
	assert_true(zstream_flush(out, &wire));
	result = wire.len;
	assert_true(zstream_put(out, &wire, text + lead, n, ZSTREAM_PACK) && zstream_flush(out, &wire));
	result = wire.len - result;
	buf_done(&wire);
	free(text);
	zstream_out_free(out);
	return result;
}

/* Another level is taken, but not for the price of all that was seen, again and again. */
static void level_changes(void **state)
{
	size_t low = after_level(1, 20u << 20, 1u << 20), high = after_level(9, 1u << 20, 1u << 20);

	(void)state;
	assert_true(high < low - low / 20);
	assert_true(after_level(9, 20u << 20, 1u << 20) > low - low / 50);
}

/* The second of two equal texts costs next to nothing, also across a flush. */
static void one_dictionary_of(bool zstd)
{
	struct zstream_out *out = zstream_out_new(6);
	struct buf wire;
	unsigned char text[4000];
	size_t first;

	buf_init(&wire, 1u << 20);
	if (zstd)
		assert_true(zstream_use_zstd(out, &wire, ZSTREAM_WINDOW_LOG));
	fill(text, sizeof(text), true);
	assert_true(zstream_put(out, &wire, text, sizeof(text), ZSTREAM_PACK) && zstream_flush(out, &wire));
	first = wire.len;
	assert_true(zstream_put(out, &wire, text, sizeof(text), ZSTREAM_PACK) && zstream_flush(out, &wire));
	assert_true(wire.len - first < first / 10);
	buf_done(&wire);
	zstream_out_free(out);
}

static void one_dictionary(void **state)
{
	(void)state;
	one_dictionary_of(false);
	one_dictionary_of(true);
}

/* With zstd also a megabyte later. */
static void long_memory(void **state)
{
	struct zstream_out *out = zstream_out_new(6);
	size_t n = 1u << 20, first;
	unsigned char *noise = malloc(n);
	struct buf wire;

	(void)state;
	buf_init(&wire, 8u << 20);
	n -= 100000; /* what is still in the window */
	fill(noise, n, false);
	assert_true(zstream_use_zstd(out, &wire, ZSTREAM_WINDOW_LOG));
	assert_true(zstream_put(out, &wire, noise, 1000, ZSTREAM_PACK));
	zstream_widen(out);
	assert_true(zstream_flush(out, &wire));
	assert_true(zstream_put(out, &wire, noise, n, ZSTREAM_PACK) && zstream_flush(out, &wire));
	first = wire.len;
	assert_true(zstream_put(out, &wire, noise, n, ZSTREAM_PACK) && zstream_flush(out, &wire));
	assert_true(wire.len - first < first / 50);
	buf_done(&wire);
	free(noise);
	zstream_out_free(out);
}

static int get_one(const void *record, size_t n)
{
	struct zstream_in *in = zstream_in_new();
	struct buf wire, plain;
	struct err err = ERR_INIT;
	int got;

	buf_init(&wire, 8u << 20);
	buf_init(&plain, 8u << 20);
	buf_add(&wire, record, n);
	if (n > 3 && ((const unsigned char *)record)[3] >> 6 == 2)
		assert_true(zstream_expect_zstd(in));
	got = zstream_get(in, &wire, &plain, &err);
	if (got < 0)
		assert_int_equal(err.class, ERR_PROTOCOL);
	assert_true(plain.len <= ZSTREAM_PLAIN_MAX);
	buf_done(&wire);
	buf_done(&plain);
	zstream_in_free(in);
	return got;
}

static void broken_rules(void **state)
{
	static const unsigned char bad_kind[] = { 1, 0, 0, 0xc0, 0 }, empty[] = { 0, 0, 0, 0 },
				   huge[] = { 0xff, 0xff, 0xff, 0x3f },
				   damaged[] = { 4, 0, 0, 0x40, 0xff, 0xff, 0xff, 0xff }, head[] = { 1, 0, 0 };

	(void)state;
	assert_int_equal(get_one(bad_kind, sizeof(bad_kind)), -1);
	assert_int_equal(get_one(empty, sizeof(empty)), -1);
	assert_int_equal(get_one(huge, sizeof(huge)), -1); /* by its header alone */
	assert_int_equal(get_one(damaged, sizeof(damaged)), -1);
	assert_int_equal(get_one(head, sizeof(head)), 0);
}

/* One record whose body is `body`. */
static int get_zstd(const void *body, size_t n)
{
	unsigned char *record = malloc(n + 4);
	int got;

	for (size_t i = 0; i < 4; i++)
		record[i] = (unsigned char)(n >> (8 * i));
	record[3] |= 0x80;
	memcpy(record + 4, body, n);
	got = get_one(record, n + 4);
	free(record);
	return got;
}

/* A frame of `n` zeros with a window of 2^log. */
static size_t frame_of(unsigned char *out, size_t size, size_t n, int log, bool end)
{
	ZSTD_CCtx *c = ZSTD_createCCtx();
	unsigned char *zeros = calloc(1, n);
	ZSTD_inBuffer in = { zeros, n, 0 };
	ZSTD_outBuffer o = { out, size, 0 };

	ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, log);
	while (in.pos < n)
		assert_false(ZSTD_isError(ZSTD_compressStream2(c, &o, &in, ZSTD_e_continue)));
	assert_int_equal(ZSTD_compressStream2(c, &o, &in, end ? ZSTD_e_end : ZSTD_e_flush), 0);
	ZSTD_freeCCtx(c);
	free(zeros);
	return o.pos;
}

static void broken_rules_of_zstd(void **state)
{
	static const unsigned char skipped[] = { 0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 7 },
				   old[] = { 0x27, 0xb5, 0x2f, 0xfd, 0x18, 0, 0, 0 },
				   not_expected[] = { 1, 0, 0, 0x80, 0 };
	struct zstream_in *in = zstream_in_new();
	unsigned char frame[65536];
	struct buf wire, plain;
	struct err err = ERR_INIT;
	size_t n;

	(void)state;
	buf_init(&wire, 100);
	buf_init(&plain, 1u << 20);
	buf_add(&wire, not_expected, sizeof(not_expected));
	assert_int_equal(zstream_get(in, &wire, &plain, &err), -1);
	zstream_in_free(in);
	buf_done(&wire);
	buf_done(&plain);
	assert_int_equal(get_zstd(skipped, sizeof(skipped)), -1);
	assert_int_equal(get_zstd(old, sizeof(old)), -1);
	n = frame_of(frame, sizeof(frame), 200000, ZSTREAM_WINDOW_LOG, true);
	assert_int_equal(get_zstd(frame, n), 1);
	frame[n] = 0; /* behind its end */
	assert_int_equal(get_zstd(frame, n + 1), -1);
	frame[6] |= 6; /* a block of the reserved type */
	assert_int_equal(get_zstd(frame, n), -1);
	/* What it wants the other end to keep. */
	n = frame_of(frame, sizeof(frame), 1000, ZSTREAM_WINDOW_LOG_MAX, false);
	assert_int_equal(get_zstd(frame, n), 1);
	n = frame_of(frame, sizeof(frame), 1000, ZSTREAM_WINDOW_LOG_MAX + 1, false);
	assert_int_equal(get_zstd(frame, n), -1);
	/* What it becomes. */
	n = frame_of(frame, sizeof(frame), ZSTREAM_PLAIN_MAX, 17, false);
	assert_int_equal(get_zstd(frame, n), 1);
	n = frame_of(frame, sizeof(frame), ZSTREAM_PLAIN_MAX + 1, 17, false);
	assert_int_equal(get_zstd(frame, n), -1);
	n = frame_of(frame, sizeof(frame), 64u << 20, 17, true);
	assert_int_equal(get_zstd(frame, n), -1);
}

/* A few bytes that want to become many. */
static void bomb(void **state)
{
	size_t n = 4u << 20;
	unsigned char *zeros = calloc(1, n), *record = malloc(100000);
	z_stream s = { 0 };
	size_t body;

	(void)state;
	assert_int_equal(deflateInit2(&s, 9, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY), Z_OK);
	s.next_in = zeros;
	s.avail_in = (unsigned)n;
	s.next_out = record + 4;
	s.avail_out = 99996;
	assert_int_equal(deflate(&s, Z_SYNC_FLUSH), Z_OK);
	body = 99996 - s.avail_out;
	for (size_t i = 0; i < 4; i++)
		record[i] = (unsigned char)(body >> (8 * i));
	record[3] |= 0x40;
	assert_int_equal(get_one(record, body + 4), -1);
	deflateEnd(&s);
	free(zeros);
	free(record);
}

static void random_or_not(void **state)
{
	unsigned char p[4096];

	(void)state;
	for (size_t n = 64; n <= sizeof(p); n *= 2) {
		fill(p, n, true);
		assert_false(zstream_random(p, n));
		if (n >= 512) {
			fill(p, n, false);
			assert_true(zstream_random(p, n));
		}
	}
	memset(p, 0, sizeof(p));
	assert_false(zstream_random(p, sizeof(p)));
	assert_false(zstream_random(p, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip),	cmocka_unit_test(one_dictionary),
		cmocka_unit_test(long_memory),	cmocka_unit_test(level_changes),
		cmocka_unit_test(broken_rules), cmocka_unit_test(broken_rules_of_zstd),
		cmocka_unit_test(bomb),		cmocka_unit_test(random_or_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
