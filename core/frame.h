/*
 * frame.h - length-prefixed messages on a byte stream: u32 little-endian length of the payload, u8 type, payload. Pure.
 *
 * The control socket and the daemon's workers speak in these. A frame is handed out as soon as it is whole; one that
 * claims to be longer than the caller's limit is refused by its header alone, before a byte of it is waited for.
 */
#ifndef FANSYNCD_CORE_FRAME_H
#define FANSYNCD_CORE_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"

#define FRAME_HEADER 5u

/*
 * The next whole frame at the front of `in`: 1; no whole one yet: 0; the next one is longer than `max`: -1 (and so for
 * ever: the stream is lost). `*payload` is borrowed from `in` and lives until the next call or the next append; the
 * bytes are dropped by a later call, the caller consumes nothing. Outputs are untouched unless it returns 1.
 */
int frame_next(struct buf *in, size_t max, uint8_t *type, const char **payload, size_t *len);
/* Have the frame that was just handed out handed out again by the next call. */
void frame_again(struct buf *in, size_t len);
/* Append a frame. false: ceiling or memory; `out` is as before then, and not failed by it. */
bool frame_add(struct buf *out, uint8_t type, const void *payload, size_t len);

#endif
