/* LINK: transports/delta.c core/buf.c */
/* LIBS: -lrsync */
/* Content that moved is found, whatever the pieces it comes in; a signature that is none of the old file is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "transports/delta.h"

static unsigned seed;

static unsigned next_random(void)
{
	seed = seed * 1103515245u + 12345u;
	return seed >> 16;
}

static void fill(unsigned char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (unsigned char)next_random();
}

struct rebuilt {
	const unsigned char *old;
	size_t old_len;
	struct buf got;
	size_t content;
};

static bool on_content(void *ctx, const unsigned char *p, size_t n)
{
	struct rebuilt *r = ctx;

	r->content += n;
	return buf_add(&r->got, p, n);
}

static bool on_copy(void *ctx, uint64_t from, uint64_t n)
{
	struct rebuilt *r = ctx;

	assert_true(from <= r->old_len && n <= r->old_len - from);
	return buf_add(&r->got, r->old + from, n);
}

static struct buf sign(const unsigned char *old, size_t len)
{
	struct delta_signer *s = delta_signer_new(delta_block(len));
	struct buf out;
	size_t at = 0;

	buf_init(&out, 1u << 20);
	assert_non_null(s);
	do {
		size_t part = 1 + next_random() % 70000;

		part = part < len - at ? part : len - at;
		assert_true(delta_sign(s, old + at, part, at + part == len, &out));
		at += part;
	} while (at < len);
	delta_signer_free(s);
	return out;
}

static struct delta_maker *loaded(const struct buf *signature, size_t old_len)
{
	struct delta_maker *m = delta_maker_new(old_len, delta_block(old_len));
	size_t at = 0;

	assert_non_null(m);
	while (at < signature->len) {
		size_t part = 1 + next_random() % 5000;

		part = part < signature->len - at ? part : signature->len - at;
		assert_int_equal(delta_signature(m, signature->data + at, part, at + part == signature->len),
				 DELTA_FINE);
		at += part;
	}
	return m;
}

/* -> bytes that were content. */
static size_t rebuild(const unsigned char *old, size_t old_len, const unsigned char *new, size_t len)
{
	struct rebuilt r = { .old = old, .old_len = old_len };
	const struct delta_sink sink = { .content = on_content, .copy = on_copy, .ctx = &r };
	struct buf signature = sign(old, old_len);
	struct delta_maker *m = loaded(&signature, old_len);
	size_t at = 0;

	buf_init(&r.got, 1u << 24);
	do {
		size_t part = 1 + next_random() % DELTA_FEED_MAX, before = r.content;

		part = part < len - at ? part : len - at;
		assert_true(delta_feed(m, new + at, part, at + part == len, &sink));
		assert_true(r.content - before <= 2 * DELTA_FEED_MAX);
		at += part;
	} while (at < len);
	assert_int_equal(r.got.len, len);
	assert_memory_equal(r.got.data, new, len);
	assert_false(delta_feed(m, "x", 1, true, &sink));
	delta_maker_free(m);
	buf_done(&signature);
	buf_done(&r.got);
	return r.content;
}

#define OLD (3000000u)

static void moved(void **state)
{
	unsigned char *old = malloc(OLD), *new = malloc(2 * OLD);

	(void)state;
	for (seed = 1; seed < 6; seed++) {
		unsigned was = seed;
		size_t front = 1 + next_random() % 100000, cut = next_random() % OLD;

		fill(old, OLD);
		fill(new, front);
		memcpy(new + front, old, OLD);
		assert_true(rebuild(old, OLD, new, front + OLD) < front + 3 * DELTA_BLOCK_MIN);
		memcpy(new, old + cut, OLD - cut); /* two parts change places */
		memcpy(new + OLD - cut, old, cut);
		assert_true(rebuild(old, OLD, new, OLD) < 5 * DELTA_BLOCK_MIN);
		fill(new, OLD); /* nothing is left of it */
		assert_int_equal(rebuild(old, OLD, new, OLD), OLD);
		assert_int_equal(rebuild(old, 1 + next_random() % 5000, new, 1 + next_random() % 5000) > 0, true);
		seed = was;
	}
	memset(old, 0, OLD); /* all blocks alike */
	memset(new, 0, OLD);
	assert_true(rebuild(old, OLD, new, OLD - 777) < 3 * DELTA_BLOCK_MIN);
	free(old);
	free(new);
}

static void refused_signature(const struct buf *signature, size_t old_len, size_t at, int flip, size_t cut)
{
	struct delta_maker *m = delta_maker_new(old_len, delta_block(old_len));
	enum delta_result got;

	assert_non_null(m);
	signature->data[at] = (char)(signature->data[at] ^ flip);
	got = delta_signature(m, signature->data, signature->len - cut, true);
	signature->data[at] = (char)(signature->data[at] ^ flip);
	assert_int_equal(got, DELTA_BROKEN);
	assert_int_equal(delta_signature(m, "x", 0, true) == DELTA_FINE, false);
	delta_maker_free(m);
}

static void broken_signatures(void **state)
{
	unsigned char *old = calloc(1, 100000);
	struct delta_maker *m;
	struct buf s;

	(void)state;
	s = sign(old, 100000);
	for (size_t at = 0; at < 12; at++) /* magic, block length, hash length */
		refused_signature(&s, 100000, at, 1 << (at % 8), 0);
	refused_signature(&s, 100000, 0, 0, 1); /* half a block */
	refused_signature(&s, 100000, 0, 0, s.len - 4);
	refused_signature(&s, 50000, 0, 0, 0); /* more blocks than the file has */
	m = delta_maker_new(100000, 2048);
	assert_false(delta_feed(m, "x", 1, true, &(struct delta_sink){ 0 })); /* before there is one */
	delta_maker_free(m);
	buf_done(&s);
	free(old);
}

static void blocks(void **state)
{
	(void)state;
	assert_int_equal(delta_block(0), DELTA_BLOCK_MIN);
	assert_int_equal(delta_block(UINT64_C(512) << 20), 16384);
	assert_int_equal(delta_block(DELTA_OLD_MAX), DELTA_BLOCK_MAX);
	for (uint64_t n = 1; n <= DELTA_OLD_MAX; n = 3 * n + 1) {
		assert_true(delta_block_valid(delta_block(n)));
		assert_true(n / delta_block(n) <= DELTA_BLOCKS_MAX);
	}
	assert_false(delta_block_valid(0) || delta_block_valid(1024) || delta_block_valid(3000) ||
		     delta_block_valid(131072));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(moved),
		cmocka_unit_test(broken_signatures),
		cmocka_unit_test(blocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
