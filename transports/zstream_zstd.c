#include "transports/zstream_zstd.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "transports/zstream.h"

/* How a frame begins; what old versions of the format, or frames to be skipped, begin with is not taken. */
static const unsigned char magic[4] = { 0x28, 0xb5, 0x2f, 0xfd };

struct zstd_out {
	ZSTD_CCtx *c;		       /* made for the first byte */
	unsigned window_log, most_log; /* of the frame; that it may have */
	bool wide;
	int level; /* of the frame that is open; 0: none is */
	uint64_t bytes;
};

struct zstd_in {
	ZSTD_DCtx *d;
	bool open; /* in the middle of a frame */
};

/* ---- out ---- */

/* From the third level on the tables are those of the third: 2.5 MiB in all with a window of 1 MiB, where the ninth
 * level would take 13.7 to save one part in a hundred. */
#define TABLES_LEVEL 3
#define HASH_LOG 17
#define CHAIN_LOG 16
/* A new frame knows nothing: of every 16 MiB of source code that costs 3 parts in a hundred, of every 4 MiB 11. */
#define FRAME_MIN (16u * 1024 * 1024)

struct zstd_out *zstd_out_new(unsigned window_log)
{
	struct zstd_out *z = calloc(1, sizeof(*z));

	if (z != NULL)
		z->most_log = window_log;
	return z;
}

void zstd_out_widen(struct zstd_out *z)
{
	z->wide = true;
}

static unsigned next_log(const struct zstd_out *z)
{
	return z->wide || z->most_log < ZSTREAM_WINDOW_LOG_SMALL ? z->most_log : ZSTREAM_WINDOW_LOG_SMALL;
}

void zstd_out_free(struct zstd_out *z)
{
	if (z == NULL)
		return;
	(void)ZSTD_freeCCtx(z->c);
	free(z);
}

static bool set(struct zstd_out *z, ZSTD_cParameter what, int value)
{
	return ZSTD_isError(ZSTD_CCtx_setParameter(z->c, what, value)) == 0;
}

static bool begin(struct zstd_out *z, int level)
{
	/* No more entries than half of what the window holds. */
	int most = (int)next_log(z) - 1;

	if (z->c == NULL)
		z->c = ZSTD_createCCtx();
	if (z->c == NULL || !set(z, ZSTD_c_compressionLevel, level) || !set(z, ZSTD_c_windowLog, (int)next_log(z)) ||
	    !set(z, ZSTD_c_hashLog,
		 level < TABLES_LEVEL ? 0
		 : most < HASH_LOG    ? most
				      : HASH_LOG) ||
	    !set(z, ZSTD_c_chainLog,
		 level < TABLES_LEVEL ? 0
		 : most < CHAIN_LOG   ? most
				      : CHAIN_LOG))
		return false;
	z->level = level;
	z->window_log = next_log(z);
	z->bytes = 0;
	return true;
}

/* Until the input is taken and, unless it goes on, all of the output given. */
static bool run(struct zstd_out *z, struct buf *wire, ZSTD_inBuffer *in, ZSTD_EndDirective how)
{
	size_t left;

	do {
		ZSTD_outBuffer out = { 0 };

		if (!buf_reserve(wire, 4096))
			return false;
		out.dst = wire->data + wire->len;
		out.size = wire->cap - wire->len - 1; /* buf_str's NUL */
		left = ZSTD_compressStream2(z->c, &out, in, how);
		if (ZSTD_isError(left) != 0)
			return false;
		wire->len += out.pos;
	} while (how == ZSTD_e_continue ? in->pos < in->size : left > 0);
	return true;
}

bool zstd_out_put(struct zstd_out *z, struct buf *wire, const void *data, size_t n, int level)
{
	ZSTD_inBuffer in = { data, n, 0 };

	if (z->level == 0 && !begin(z, level))
		return false;
	z->bytes += n;
	return run(z, wire, &in, ZSTD_e_continue);
}

bool zstd_out_flush(struct zstd_out *z, struct buf *wire, int level)
{
	ZSTD_inBuffer none = { 0 };
	bool over = z->window_log != next_log(z) || (level != 0 && level != z->level && z->bytes >= FRAME_MIN);

	if (!run(z, wire, &none, over ? ZSTD_e_end : ZSTD_e_flush))
		return false;
	if (over)
		z->level = 0;
	return true;
}

/* ---- in ---- */

struct zstd_in *zstd_in_new(void)
{
	struct zstd_in *z = calloc(1, sizeof(*z));

	if (z == NULL)
		return NULL;
	z->d = ZSTD_createDCtx();
	/* Before it has allocated anything for a frame it looks at what that wants. */
	if (z->d == NULL ||
	    ZSTD_isError(ZSTD_DCtx_setParameter(z->d, ZSTD_d_windowLogMax, ZSTREAM_WINDOW_LOG_MAX)) != 0) {
		zstd_in_free(z);
		return NULL;
	}
	return z;
}

void zstd_in_free(struct zstd_in *z)
{
	if (z == NULL)
		return;
	(void)ZSTD_freeDCtx(z->d);
	free(z);
}

static int damaged(struct err *err, const char *how)
{
	return err_set(err, ERR_PROTOCOL, "a compressed record is damaged: %s", how);
}

int zstd_in_get(struct zstd_in *z, const unsigned char *body, size_t n, struct buf *plain, size_t most, struct err *err)
{
	ZSTD_inBuffer in = { body, n, 0 };
	ZSTD_outBuffer out = { 0 };
	size_t left;

	if (!buf_reserve(plain, most + 1))
		return err_set(err, ERR_NOMEM, "out of memory for a record");
	/* One byte more than allowed shows that it would have gone on. */
	out.dst = plain->data + plain->len;
	out.size = most + 1;
	if (!z->open && (n < sizeof(magic) || memcmp(body, magic, sizeof(magic)) != 0))
		return damaged(err, "no frame begins");
	do {
		left = ZSTD_decompressStream(z->d, &out, &in);
		if (ZSTD_getErrorCode(left) == ZSTD_error_memory_allocation)
			return err_set(err, ERR_NOMEM, "out of memory for decompression");
		if (ZSTD_isError(left) != 0)
			return damaged(err, ZSTD_getErrorName(left));
		if (out.pos == out.size)
			return err_set(err, ERR_PROTOCOL, "a compressed record holds more than %zu bytes", most);
	} while (left != 0 && in.pos < in.size);
	if (in.pos < in.size)
		return damaged(err, "a frame ends within it");
	z->open = left != 0;
	plain->len += out.pos;
	return 0;
}
