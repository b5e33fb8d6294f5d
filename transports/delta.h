/*
 * delta.h - content that moved inside a file: librsync's signature of the old file, made by who has it, and the
 * difference of the new file to it, made by who has that one. Pure, and the only file that sees librsync.
 *
 * A signature comes from the other end of a connection: how long it may be follows from the old file's size, and
 * nothing of its head is left to it. The difference itself is made and taken apart here: what is told are pieces of the
 * new file, in its order, as content or as places of the old file.
 */
#ifndef FANSYNCD_TRANSPORTS_DELTA_H
#define FANSYNCD_TRANSPORTS_DELTA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"

/* Blocks of a signature: their number bounds the memory at both ends, 4 MiB or so. */
#define DELTA_BLOCKS_MAX 65536u
#define DELTA_BLOCK_MIN 2048u
#define DELTA_BLOCK_MAX 65536u
/* A larger old file has no signature. */
#define DELTA_OLD_MAX ((uint64_t)DELTA_BLOCKS_MAX * DELTA_BLOCK_MAX)
/* New content given at a time, so that a call tells at most twice as much. */
#define DELTA_FEED_MAX (128u * 1024)

/* For an old file of that size: a power of two. */
uint32_t delta_block(uint64_t old_size);
bool delta_block_valid(uint32_t block);

struct delta_signer;
/* NULL: out of memory. */
struct delta_signer *delta_signer_new(uint32_t block);
void delta_signer_free(struct delta_signer *s);
/* The next piece of the old file; what there is of the signature is appended. false: out of memory, or `out` is full.
 */
bool delta_sign(struct delta_signer *s, const void *p, size_t n, bool last, struct buf *out);

struct delta_sink {
	bool (*content)(void *ctx, const unsigned char *p, size_t n);
	bool (*copy)(void *ctx, uint64_t from, uint64_t n);
	void *ctx;
};

enum delta_result { DELTA_FINE = 0, DELTA_BROKEN, DELTA_NO_MEMORY };

struct delta_maker;
/* NULL: out of memory. */
struct delta_maker *delta_maker_new(uint64_t old_size, uint32_t block);
void delta_maker_free(struct delta_maker *m);
/* The next piece of the signature. BROKEN: it is none of such a file. */
enum delta_result delta_signature(struct delta_maker *m, const void *p, size_t n, bool last);
/* The next piece of the new file, once the signature is whole; at most DELTA_FEED_MAX. false: the sink refused, or out
 * of memory: the file is lost for this maker. */
bool delta_feed(struct delta_maker *m, const void *p, size_t n, bool last, const struct delta_sink *sink);

#endif
