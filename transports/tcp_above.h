/*
 * tcp_above.h - of a work that is sent in pieces: the directories above a piece that stand in earlier ones. What the
 * piece changes in them changes their times, which have to be set anew behind it. Pure.
 */
#ifndef FANSYNCD_TRANSPORTS_TCP_ABOVE_H
#define FANSYNCD_TRANSPORTS_TCP_ABOVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/transport.h"

struct tcp_above {
	const struct transport_item *items; /* of the whole work, in the order of a walk; borrowed */
	uint32_t *at;			    /* places in it: first those that were taken, the nearest first */
	uint32_t n_taken, n, next;
	bool taken; /* the next one is */
};

/* Of the piece that begins with this item. false: out of memory. */
bool tcp_above_init(struct tcp_above *a, const struct transport_item *items, size_t first);
/* Whether the next item of the piece (in their order) lies in one of them itself, and that was not taken before: the
 * length of its path, and it is taken then. -1: it does not. */
long tcp_above_take(struct tcp_above *a, const struct transport_item *item);
void tcp_above_done(struct tcp_above *a);

#endif
