#include "transports/zstream.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "transports/zstream_zstd.h"

#define KIND_STORED 0u
#define KIND_DEFLATED 1u
#define KIND_ZSTD 2u
#define KIND_SHIFT 30
#define WINDOW_BITS (-15)
#define MEM_LEVEL 8
/* What goes into one deflated record: well below ZSTREAM_PLAIN_MAX, and below ZSTREAM_BODY_MAX even if it grows. */
#define PIECE (128u * 1024)
#define SAMPLE_MIN 64u

static const unsigned char flush_tail[4] = { 0x00, 0x00, 0xff, 0xff };

struct zstream_out {
	z_stream s;
	bool ready;	       /* deflateInit was done */
	struct zstd_out *zstd; /* instead of deflate */
	int level, next_level;
	size_t at;    /* of the open record's header in the buffer; valid while `open` */
	bool open;    /* a compressed record is being written */
	size_t plain; /* bytes in it */
};

struct zstream_in {
	z_stream s;
	bool ready;
	struct zstd_in *zstd; /* NULL: not to be expected */
};

/* ---- out ---- */

static bool prepare(struct zstream_out *z)
{
	if (z->ready || z->level == 0 || z->zstd != NULL)
		return true;
	if (deflateInit2(&z->s, z->level, Z_DEFLATED, WINDOW_BITS, MEM_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK)
		return false;
	z->ready = true;
	return true;
}

struct zstream_out *zstream_out_new(int level)
{
	struct zstream_out *z = calloc(1, sizeof(*z));

	if (z == NULL)
		return NULL;
	z->level = z->next_level = level;
	if (!prepare(z)) {
		free(z);
		return NULL;
	}
	return z;
}

void zstream_out_free(struct zstream_out *z)
{
	if (z == NULL)
		return;
	if (z->ready)
		(void)deflateEnd(&z->s);
	zstd_out_free(z->zstd);
	free(z);
}

void zstream_widen(struct zstream_out *z)
{
	if (z->zstd != NULL)
		zstd_out_widen(z->zstd);
}

void zstream_set_level(struct zstream_out *z, int level)
{
	z->next_level = level;
}

size_t zstream_waiting(const struct zstream_out *z)
{
	return z->open ? z->plain : 0;
}

static void set_header(struct buf *wire, size_t at, uint32_t kind)
{
	uint32_t v = kind << KIND_SHIFT | (uint32_t)(wire->len - at - ZSTREAM_HEADER);

	for (size_t i = 0; i < ZSTREAM_HEADER; i++)
		wire->data[at + i] = (char)(unsigned char)(v >> (8 * i));
}

/* Run deflate until it has taken its input and, for a flush, given all its output. */
static bool run_deflate(struct zstream_out *z, struct buf *wire, int flush)
{
	do {
		size_t room;

		if (!buf_reserve(wire, 4096))
			return false;
		room = wire->cap - wire->len - 1; /* buf_str's NUL */
		z->s.next_out = (unsigned char *)wire->data + wire->len;
		z->s.avail_out = (unsigned)(room > UINT32_MAX ? UINT32_MAX : room);
		room = z->s.avail_out;
		if (deflate(&z->s, flush) == Z_STREAM_ERROR)
			return false;
		wire->len += room - z->s.avail_out;
	} while (z->s.avail_out == 0);
	return true;
}

static bool pack(struct zstream_out *z, struct buf *wire, const unsigned char *p, size_t n)
{
	if (z->zstd != NULL)
		return zstd_out_put(z->zstd, wire, p, n, z->level);
	z->s.next_in = (unsigned char *)(uintptr_t)p;
	z->s.avail_in = (unsigned)n;
	return run_deflate(z, wire, Z_NO_FLUSH);
}

static bool close_record(struct zstream_out *z, struct buf *wire)
{
	if (!z->open)
		return true;
	z->open = false;
	if (z->zstd != NULL) {
		if (!zstd_out_flush(z->zstd, wire, z->next_level))
			return false;
		set_header(wire, z->at, KIND_ZSTD);
		return true;
	}
	z->s.next_in = NULL;
	z->s.avail_in = 0;
	if (!run_deflate(z, wire, Z_SYNC_FLUSH))
		return false;
	wire->len -= sizeof(flush_tail);
	set_header(wire, z->at, KIND_DEFLATED);
	return true;
}

bool zstream_use_zstd(struct zstream_out *z, struct buf *wire, unsigned window_log)
{
	if (z->zstd != NULL || !close_record(z, wire))
		return z->zstd != NULL;
	z->zstd = zstd_out_new(window_log);
	if (z->zstd == NULL)
		return false;
	if (z->ready)
		(void)deflateEnd(&z->s);
	z->ready = false;
	return true;
}

/* Between records nothing is pending in the stream, so deflateParams has nothing to flush. */
static bool take_level(struct zstream_out *z)
{
	if (z->level == z->next_level)
		return true;
	if (z->ready && z->next_level != 0) {
		unsigned char none[16];

		z->s.next_in = NULL;
		z->s.avail_in = 0;
		z->s.next_out = none;
		z->s.avail_out = sizeof(none);
		if (deflateParams(&z->s, z->next_level, Z_DEFAULT_STRATEGY) == Z_STREAM_ERROR ||
		    z->s.avail_out != sizeof(none))
			return false;
	}
	z->level = z->next_level;
	return prepare(z);
}

static bool store(struct buf *wire, const unsigned char *p, size_t n)
{
	while (n > 0) {
		size_t part = n < PIECE ? n : PIECE, at = wire->len;

		(void)buf_add_u32(wire, 0);
		if (!buf_add(wire, p, part))
			return false;
		set_header(wire, at, KIND_STORED);
		p += part;
		n -= part;
	}
	return true;
}

bool zstream_put(struct zstream_out *z, struct buf *wire, const void *data, size_t n, enum zstream_how how)
{
	const unsigned char *p = data;

	if (!z->open && !take_level(z))
		return false;
	if (how == ZSTREAM_STORE || z->level == 0)
		return close_record(z, wire) && store(wire, p, n);
	while (n > 0) {
		size_t part;

		if (!z->open) {
			z->at = wire->len;
			z->open = true;
			z->plain = 0;
			if (!buf_add_u32(wire, 0))
				return false;
		}
		part = n < PIECE - z->plain ? n : PIECE - z->plain;
		if (!pack(z, wire, p, part))
			return false;
		z->plain += part;
		p += part;
		n -= part;
		if (z->plain < PIECE)
			continue;
		if (!close_record(z, wire) || !take_level(z))
			return false;
		/* A frame of zstd can't begin at a level that it doesn't have. */
		if (z->level == 0)
			return n == 0 || store(wire, p, n);
	}
	return true;
}

bool zstream_flush(struct zstream_out *z, struct buf *wire)
{
	return close_record(z, wire) && !wire->failed;
}

/* ---- in ---- */

struct zstream_in *zstream_in_new(void)
{
	return calloc(1, sizeof(struct zstream_in));
}

void zstream_in_free(struct zstream_in *z)
{
	if (z == NULL)
		return;
	if (z->ready)
		(void)inflateEnd(&z->s);
	zstd_in_free(z->zstd);
	free(z);
}

bool zstream_expect_zstd(struct zstream_in *z)
{
	if (z->zstd == NULL)
		z->zstd = zstd_in_new();
	return z->zstd != NULL;
}

/* One piece of input, into what is left of `room`. */
static int inflate_piece(struct zstream_in *z, const unsigned char *p, size_t n, struct buf *plain, size_t *room,
			 struct err *err)
{
	int got;

	z->s.next_in = (unsigned char *)(uintptr_t)p;
	z->s.avail_in = (unsigned)n;
	/* One byte more than allowed shows that it would have gone on. */
	z->s.next_out = (unsigned char *)plain->data + plain->len;
	z->s.avail_out = (unsigned)(*room + 1);
	got = inflate(&z->s, Z_SYNC_FLUSH);
	if (got != Z_OK && got != Z_BUF_ERROR)
		return err_set(err, ERR_PROTOCOL, "a compressed record is damaged");
	if (z->s.avail_out == 0)
		return err_set(err, ERR_PROTOCOL, "a compressed record holds more than %u bytes", ZSTREAM_PLAIN_MAX);
	if (z->s.avail_in != 0)
		return err_set(err, ERR_PROTOCOL, "a compressed record is damaged");
	plain->len += *room + 1 - z->s.avail_out;
	*room = z->s.avail_out - 1;
	return 0;
}

static int inflate_record(struct zstream_in *z, const unsigned char *p, size_t n, struct buf *plain, struct err *err)
{
	size_t room = ZSTREAM_PLAIN_MAX;

	if (!z->ready && inflateInit2(&z->s, WINDOW_BITS) != Z_OK)
		return err_set(err, ERR_NOMEM, "out of memory for decompression");
	z->ready = true;
	if (!buf_reserve(plain, room + 1))
		return err_set(err, ERR_NOMEM, "out of memory for a record");
	if (inflate_piece(z, p, n, plain, &room, err) < 0)
		return -1;
	return inflate_piece(z, flush_tail, sizeof(flush_tail), plain, &room, err);
}

/* As frame_next does: what was taken is dropped when no whole record is left, so that many small ones cost no moving.
 */
int zstream_get(struct zstream_in *z, struct buf *wire, struct buf *plain, struct err *err)
{
	const unsigned char *p;
	struct reader r;
	uint32_t head, kind;
	size_t n;

	reader_init(&r, wire->len > wire->head ? wire->data + wire->head : NULL, wire->len - wire->head);
	head = reader_u32(&r);
	kind = head >> KIND_SHIFT;
	n = head & ((1u << KIND_SHIFT) - 1);
	if (!r.failed && (kind > (z->zstd == NULL ? KIND_DEFLATED : KIND_ZSTD) || n == 0 || n > ZSTREAM_BODY_MAX))
		return err_set(err, ERR_PROTOCOL, "a record of kind %u and %zu bytes", kind, n);
	p = r.failed ? NULL : reader_bytes(&r, n);
	if (p == NULL) {
		buf_consume(wire, wire->head);
		return 0;
	}
	if (kind == KIND_DEFLATED && inflate_record(z, p, n, plain, err) < 0)
		return -1;
	if (kind == KIND_ZSTD && zstd_in_get(z->zstd, p, n, plain, ZSTREAM_PLAIN_MAX, err) < 0)
		return -1;
	if (kind == KIND_STORED && !buf_add(plain, p, n))
		return err_set(err, ERR_NOMEM, "out of memory for a record");
	wire->head += ZSTREAM_HEADER + n;
	return 1;
}

/* ---- what is worth compressing ---- */

bool zstream_random(const void *data, size_t n)
{
	const unsigned char *p = data;
	uint32_t count[256] = { 0 };
	uint64_t squares = 0, expected;

	if (n < SAMPLE_MIN)
		return false;
	for (size_t i = 0; i < n; i++)
		count[p[i]]++;
	for (size_t i = 0; i < 256; i++)
		squares += (uint64_t)count[i] * count[i];
	/* Of n random bytes the squares of the counts sum up to n + n(n-1)/256; of text to many times that. */
	expected = n + (uint64_t)n * (n - 1) / 256;
	return squares < expected + expected / 8;
}
