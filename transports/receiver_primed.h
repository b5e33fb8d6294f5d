/*
 * receiver_primed.h - what came along with the items of works: the contents of small files and the texts of symlinks,
 * by path, until it is their turn. Pure. Bounded: what there is no room for is not kept, and asked for later.
 */
#ifndef FANSYNCD_TRANSPORTS_RECEIVER_PRIMED_H
#define FANSYNCD_TRANSPORTS_RECEIVER_PRIMED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transports/tcp_frames.h"

struct receiver_primed;

/* One of them, taken out. */
struct primed {
	char *content; /* malloc'ed, the taker's; a NUL follows */
	size_t content_len;
	struct tcp_state state;
	unsigned char digest[TCP_DIGEST]; /* of a content */
};

/* `contents_max`: bytes of contents that are kept. NULL: out of memory. */
struct receiver_primed *receiver_primed_new(uint64_t contents_max);
/* NULL is fine. */
void receiver_primed_free(struct receiver_primed *s);
/* An item with content or text; both are copied. false: it is not kept. */
bool receiver_primed_add(struct receiver_primed *s, const struct tcp_item *item);
/* The first that came of that path, and is still there: it is the one of the work that is carried out. */
bool receiver_primed_take(struct receiver_primed *s, const char *path, size_t len, bool text, struct primed *out);

#endif
