/* LINK: transports/zstream.c transports/zstream_zstd.c core/buf.c core/err.c */
/* MODULE: transports/zstream.c transports/zstream_zstd.c */
/* ROUNDS: 500 */
/* LIBS: -lz -lzstd */
/* Records. The first byte chooses what the rest is: what a peer sends as it is, read at once and in pieces; bodies,
 * each a kind and a length of two bytes and so many bytes, put into records; or what is to be sent, which must arrive.
 * A record never holds more than it may. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "transports/zstream.h"

#define WIRE_MAX (1u << 22)
/* Of what is read in one run: some bytes become many. */
#define PLAIN_MAX (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { WITH_ZSTD = 1, BODIES = 2, SEND = 4 };

/* All whole records of `wire`; how it stands then. */
static int take(struct zstream_in *in, struct buf *wire, struct buf *plain)
{
	struct err err = ERR_INIT;
	size_t before = plain->len;
	int got;

	while (plain->len < PLAIN_MAX && (got = zstream_get(in, wire, plain, &err)) != 0) {
		if (plain->len - before > ZSTREAM_PLAIN_MAX)
			abort();
		before = plain->len;
		if (got < 0 && err.class != ERR_PROTOCOL)
			abort();
		if (got < 0)
			return -1;
	}
	return 0;
}

static int get(const uint8_t *data, size_t size, size_t piece, bool zstd, struct buf *plain)
{
	struct zstream_in *in = zstream_in_new();
	struct buf wire;
	int got = 0;

	if (in == NULL || (zstd && !zstream_expect_zstd(in)))
		abort();
	buf_init(&wire, WIRE_MAX);
	for (size_t at = 0; at < size && got == 0; at += piece) {
		if (!buf_add(&wire, data + at, size - at < piece ? size - at : piece))
			abort();
		got = take(in, &wire, plain);
	}
	buf_done(&wire);
	zstream_in_free(in);
	return got;
}

static void read_as_it_is(const uint8_t *data, size_t size, size_t piece, bool zstd)
{
	struct buf whole, pieces;
	int a, b;

	buf_init(&whole, PLAIN_MAX + 2 * ZSTREAM_PLAIN_MAX);
	buf_init(&pieces, PLAIN_MAX + 2 * ZSTREAM_PLAIN_MAX);
	a = get(data, size, size + 1, zstd, &whole);
	b = get(data, size, piece, zstd, &pieces);
	if (whole.len < PLAIN_MAX &&
	    (a != b || whole.len != pieces.len || (whole.len > 0 && memcmp(whole.data, pieces.data, whole.len) != 0)))
		abort();
	buf_done(&whole);
	buf_done(&pieces);
}

static void read_bodies(const uint8_t *data, size_t size, size_t piece, bool zstd)
{
	struct buf wire;

	buf_init(&wire, WIRE_MAX);
	while (size >= 3) {
		size_t n = (size_t)data[1] | (size_t)data[2] << 8;

		n = n < size - 3 ? n : size - 3;
		(void)buf_add_u32(&wire, (uint32_t)(data[0] & 3) << 30 | (uint32_t)n);
		(void)buf_add(&wire, data + 3, n);
		data += 3 + n;
		size -= 3 + n;
	}
	if (wire.len > 0)
		read_as_it_is((const uint8_t *)wire.data, wire.len, piece, zstd);
	buf_done(&wire);
}

/* Each step: what to do, and a length or a level; bytes are those of the input, again and again. */
static void send_some(const uint8_t *data, size_t size, size_t piece, bool zstd)
{
	struct zstream_out *out = zstream_out_new(data[0] % (ZSTREAM_LEVEL_MAX + 1));
	struct buf wire, sent, got;

	buf_init(&wire, WIRE_MAX);
	buf_init(&sent, WIRE_MAX);
	buf_init(&got, WIRE_MAX);
	if (out == NULL || (zstd && !zstream_use_zstd(out, &wire, ZSTREAM_WINDOW_LOG_SMALL + 2)))
		abort();
	for (size_t i = 0; i + 1 < size && sent.len < WIRE_MAX / 16; i += 2) {
		enum zstream_how how = (data[i] & 4) != 0 ? ZSTREAM_STORE : ZSTREAM_PACK;
		size_t n = data[i + 1];

		if (data[i] == 4)
			zstream_widen(out);
		if (data[i] % 4 == 0)
			zstream_set_level(out, data[i + 1] % (ZSTREAM_LEVEL_MAX + 1));
		if (data[i] % 4 == 1 && !zstream_flush(out, &wire))
			abort();
		for (n *= data[i] % 4 == 3 ? 1024 : 1; n > 0 && data[i] % 4 >= 2;) {
			size_t part = n < size ? n : size;

			if (!zstream_put(out, &wire, data, part, how) || !buf_add(&sent, data, part))
				abort();
			n -= part;
		}
	}
	if (!zstream_flush(out, &wire) || zstream_waiting(out) != 0)
		abort();
	if (wire.len > 0 && get((const uint8_t *)wire.data, wire.len, piece, zstd, &got) != 0)
		abort();
	if (got.len != sent.len || (got.len > 0 && memcmp(got.data, sent.data, got.len) != 0))
		abort();
	zstream_out_free(out);
	buf_done(&wire);
	buf_done(&sent);
	buf_done(&got);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool zstd;
	size_t piece;

	if (size < 3)
		return 0;
	zstd = (data[0] & WITH_ZSTD) != 0;
	piece = ((size_t)data[1] + 1) * 16;
	if ((data[0] & SEND) != 0)
		send_some(data + 2, size - 2, piece, zstd);
	else if ((data[0] & BODIES) != 0)
		read_bodies(data + 2, size - 2, piece, zstd);
	else
		read_as_it_is(data + 2, size - 2, piece, zstd);
	return 0;
}
