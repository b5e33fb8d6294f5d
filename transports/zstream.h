/*
 * zstream.h - records: how bytes travel on a tcp connection, compressed where that pays. No I/O.
 *
 * One direction of a connection is a sequence of records: u32 little endian, its two top bits the kind and the rest the
 * body's length, then the body. Kinds: 0 stored, the bytes themselves; 1 deflated, the next piece of the one raw
 * deflate stream (RFC 1951) of this direction, ending at a sync flush whose last four bytes (00 00 ff ff) are left out;
 * 2, where both ends can do that, the next piece of this direction's zstd frames, flushed likewise.
 * The stream's window is kept across records, so small files share a dictionary; stored records do not touch it. A
 * record is bounded in both forms, so a peer can make the other end hold ZSTREAM_PLAIN_MAX bytes and what the window of
 * 2^ZSTREAM_WINDOW_LOG_MAX takes, and no more.
 */
#ifndef FANSYNCD_TRANSPORTS_ZSTREAM_H
#define FANSYNCD_TRANSPORTS_ZSTREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"

#define ZSTREAM_HEADER 4u
/* Of a record's body, and of what it may inflate to. */
#define ZSTREAM_BODY_MAX (160u * 1024)
#define ZSTREAM_PLAIN_MAX (256u * 1024)
#define ZSTREAM_LEVEL_MAX 9
/* Of zstd: what a peer may make the other end keep of the past; what is worth its memory; what is enough where little
 * is said. */
#define ZSTREAM_WINDOW_LOG_MAX 21
#define ZSTREAM_WINDOW_LOG 20
#define ZSTREAM_WINDOW_LOG_SMALL 15

enum zstream_how {
	ZSTREAM_PACK = 0, /* worth compressing */
	ZSTREAM_STORE,	  /* not: it is compressed already, or random */
};

struct zstream_out;
struct zstream_in;

/* Level 0 stores everything, up to 9. NULL: out of memory. About 260 KiB; nothing is allocated for level 0. */
struct zstream_out *zstream_out_new(int level);
void zstream_out_free(struct zstream_out *z);
/* From the next record on: what is compressed is so by zstd, with a window of 2^`window_log` bytes at most. Once, and
 * only when the peer can read it. false: memory. */
bool zstream_use_zstd(struct zstream_out *z, struct buf *wire, unsigned window_log);
/* There is content to be sent, of which a window as large as it may be is worth its memory. Without zstd: nothing. */
void zstream_widen(struct zstream_out *z);
/* From the next record on; with zstd, when that is worth a new beginning. */
void zstream_set_level(struct zstream_out *z, int level);
/* Append `n` bytes as (parts of) records to `wire`. They may wait inside until zstream_flush. false: `wire` can't take
 * it, or memory: the direction is lost. */
bool zstream_put(struct zstream_out *z, struct buf *wire, const void *data, size_t n, enum zstream_how how);
/* Everything put so far leaves. */
bool zstream_flush(struct zstream_out *z, struct buf *wire);
/* Bytes that wait for a flush. */
size_t zstream_waiting(const struct zstream_out *z);

struct zstream_in *zstream_in_new(void);
void zstream_in_free(struct zstream_in *z);
/* From the next record on, zstd is not against the rules. false: memory. */
bool zstream_expect_zstd(struct zstream_in *z);
/* Take the first whole record off `wire` and append what it holds to `plain`, which must have room for
 * ZSTREAM_PLAIN_MAX. 1: done; 0: no whole record yet; -1: the peer broke the rules, or memory. */
int zstream_get(struct zstream_in *z, struct buf *wire, struct buf *plain, struct err *err);

/* Whether the bytes look as if deflate could not make them smaller: their histogram is that of random ones. A sample of
 * a few KiB is enough; of fewer than 64 bytes nothing is said (false). */
bool zstream_random(const void *data, size_t n);

#endif
