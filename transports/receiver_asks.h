/*
 * receiver_asks.h - listings that the receiver wants unless they are as its own, gathered to frames that ask for many.
 */
#ifndef FANSYNCD_TRANSPORTS_RECEIVER_ASKS_H
#define FANSYNCD_TRANSPORTS_RECEIVER_ASKS_H

#include <stdbool.h>

#include "core/buf.h"
#include "transports/tcp_frames.h"
#include "transports/tcp_stream.h"

struct receiver_asks {
	struct tcp_stream *stream;
	struct buf frame;
	unsigned fields, n; /* of the ones in it */
};

/* The stream outlives it. */
void receiver_asks_init(struct receiver_asks *a, struct tcp_stream *stream);
void receiver_asks_done(struct receiver_asks *a);
/* false: the stream is lost. */
bool receiver_asks_add(struct receiver_asks *a, unsigned fields, const struct tcp_unless *u);
/* What was gathered leaves now. false: the stream is lost. */
bool receiver_asks_send(struct receiver_asks *a);

#endif
