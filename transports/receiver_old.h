/*
 * receiver_old.h - what a sender wants to know of files that it is about to replace: the hashes of their blocks, or a
 * signature (delta.h). They are read one at a time, a piece a turn of the loop, and sent as HASHES or SIGNATURE frames.
 */
#ifndef FANSYNCD_TRANSPORTS_RECEIVER_OLD_H
#define FANSYNCD_TRANSPORTS_RECEIVER_OLD_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"
#include "core/loop.h"
#include "transports/delta.h"
#include "transports/tcp_stream.h"

/* One file's. In the hands of who started it, who stops it before it goes. */
struct old_reading {
	int fd;
	uint64_t size; /* so much of it is read, or what there is */
	uint32_t file; /* its number in the frames */
	uint32_t block;
	struct delta_signer *signer; /* NULL: hashes; freed when it is over or stopped */
	uint64_t at;		     /* where it begins, at a multiple of the block */
	bool tells_end;		     /* by a frame without hashes */
	/* All is sent. Never from within a call. */
	void (*done)(void *ctx);
	void *ctx;
	/* Of this module: */
	struct old_reading *next;
	bool queued;
};

struct receiver_old;
struct receiver_old *receiver_old_new(struct loop *loop, struct tcp_stream *stream, struct err *err);
/* What is still to be read is forgotten. */
void receiver_old_free(struct receiver_old *s);
void receiver_old_start(struct receiver_old *s, struct old_reading *r);
/* Fine also when it is over, or never began. */
void receiver_old_stop(struct receiver_old *s, struct old_reading *r);

#endif
