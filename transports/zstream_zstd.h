/*
 * zstream_zstd.h - zstd (RFC 8878) under records; of transports/zstream.c alone. No I/O.
 *
 * A direction is a sequence of frames without a dictionary. A frame begins where a record begins, and what it has seen
 * it keeps until it ends, over many records: that is a new beginning for the other end, too, so it is what a change of
 * level takes.
 */
#ifndef FANSYNCD_TRANSPORTS_ZSTREAM_ZSTD_H
#define FANSYNCD_TRANSPORTS_ZSTREAM_ZSTD_H

#include <stdbool.h>
#include <stddef.h>

#include "core/buf.h"
#include "core/err.h"

struct zstd_out;
struct zstd_in;

/* The window of 2^`window_log` bytes at most is what each end keeps of the past: ZSTREAM_WINDOW_LOG_SMALL until it is
 * made wide. Nothing is allocated before the first byte. NULL: out of memory. */
struct zstd_out *zstd_out_new(unsigned window_log);
/* From the next frame on, which begins behind the next flush. */
void zstd_out_widen(struct zstd_out *z);
void zstd_out_free(struct zstd_out *z);
/* Append what becomes of `n` bytes to `wire`, as far as it is known by now. A frame is begun at `level`. */
bool zstd_out_put(struct zstd_out *z, struct buf *wire, const void *data, size_t n, int level);
/* Append what is missing: all bytes put can be read. When the frame is of another level than `level` and has gone on
 * for long enough, it ends. */
bool zstd_out_flush(struct zstd_out *z, struct buf *wire, int level);

struct zstd_in *zstd_in_new(void);
void zstd_in_free(struct zstd_in *z);
/* Append what a record's body holds, `most` bytes at most. -1: the peer broke the rules, or memory. */
int zstd_in_get(struct zstd_in *z, const unsigned char *body, size_t n, struct buf *plain, size_t most,
		struct err *err);

#endif
