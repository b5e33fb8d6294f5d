/* LINK: transports/delta.c core/buf.c */
/* MODULE: transports/delta.c */
/* LIBS: -lrsync */
/* ROUNDS: 4000 */
/* A signature as a peer sends it, then a new file: whatever the signature says, the pieces make up that file's length
 * and lie inside what the signature covers. A flag puts the head there that is asked for, so that its blocks are read.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "transports/delta.h"

#define OLD_SIZE 200000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct told {
	uint64_t n;
};

static bool on_content(void *ctx, const unsigned char *p, size_t n)
{
	struct told *t = ctx;
	static volatile unsigned char last;

	last = p[n - 1];
	(void)last;
	t->n += n;
	return true;
}

static bool on_copy(void *ctx, uint64_t from, uint64_t n)
{
	struct told *t = ctx;

	if (from > OLD_SIZE + DELTA_BLOCK_MIN || n > OLD_SIZE + DELTA_BLOCK_MIN - from)
		abort();
	t->n += n;
	return true;
}

/* Some blocks of the old file, so that a difference finds them: byte by byte what the input says. */
static void feed(struct delta_maker *m, const uint8_t *p, size_t n)
{
	static unsigned char block[DELTA_BLOCK_MIN];
	struct told t = { 0 };
	const struct delta_sink sink = { .content = on_content, .copy = on_copy, .ctx = &t };
	uint64_t fed = 0;

	n = n < 32 ? n : 32;

	for (size_t i = 0; i < n; i++) {
		size_t part = p[i] % 8 == 7 ? p[i] : DELTA_BLOCK_MIN;

		memset(block, p[i] / 32, sizeof(block));
		if (!delta_feed(m, block, part, i + 1 == n, &sink))
			return;
		fed += part;
	}
	if (n > 0 && t.n != fed)
		abort();
}

/* A signature of blocks of one byte each. */
static void sign(struct buf *out, const uint8_t *p, size_t n)
{
	struct delta_signer *s = delta_signer_new(DELTA_BLOCK_MIN);
	unsigned char block[DELTA_BLOCK_MIN];

	for (size_t i = 0; s != NULL && i < n; i++) {
		memset(block, p[i] / 32, sizeof(block));
		if (!delta_sign(s, block, sizeof(block), i + 1 == n, out))
			abort();
	}
	delta_signer_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const unsigned char head[12] = { 0x72, 0x73, 0x01, 0x47, 0, 0, 8, 0, 0, 0, 0, 8 };
	struct delta_maker *m = delta_maker_new(OLD_SIZE, DELTA_BLOCK_MIN);
	size_t len, cut;
	struct buf s;

	if (m == NULL || size < 4) {
		delta_maker_free(m);
		return 0;
	}
	buf_init(&s, 1u << 20);
	len = (size_t)data[1] | (size_t)data[2] << 8;
	len = len < size - 4 ? len : size - 4;
	if (data[0] % 4 == 0) {
		sign(&s, data + 4, len < 30 ? len : 30);
	} else {
		if (data[0] % 4 == 1)
			buf_add(&s, head, sizeof(head));
		buf_add(&s, data + 4, len);
	}
	cut = s.len * data[3] / 256;
	if (delta_signature(m, s.data, cut, false) == DELTA_FINE &&
	    delta_signature(m, s.len == 0 ? NULL : s.data + cut, s.len - cut, true) == DELTA_FINE)
		feed(m, data + 4 + len, size - 4 - len);
	delta_maker_free(m);
	buf_done(&s);
	return 0;
}
