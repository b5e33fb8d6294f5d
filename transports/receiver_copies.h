/*
 * receiver_copies.h - COPY frames carried out bit by bit: one may stand for any number of bytes, and many of them come
 * in one read. After so many bytes in a turn of the loop the stream hands out nothing more until a later turn, so that
 * the heartbeat, acknowledgements and progress go on.
 */
#ifndef FANSYNCD_TRANSPORTS_RECEIVER_COPIES_H
#define FANSYNCD_TRANSPORTS_RECEIVER_COPIES_H

#include <stdbool.h>

#include "core/err.h"
#include "core/loop.h"
#include "transports/tcp_frames.h"
#include "transports/tcp_stream.h"

struct receiver_copies;

/* NULL: `err` says why. The stream outlives it. */
struct receiver_copies *receiver_copies_new(struct loop *loop, struct tcp_stream *stream, struct err *err);
/* NULL is fine. */
void receiver_copies_free(struct receiver_copies *c);
/* From a frame of the stream. `some` is called with one part after the other, now or in later turns, until it says
 * false or the file is stopped. */
void receiver_copies_start(struct receiver_copies *c, const struct tcp_span *span,
			   bool (*some)(void *file, const struct tcp_span *part), void *file);
/* The rest of that file's is not carried out. Fine also when there is none. */
void receiver_copies_stop(struct receiver_copies *c, const void *file);

#endif
