#include "transports/receiver_copies.h"

#include <stdlib.h>

/* Of one turn: some milliseconds where the old file is in memory. */
#define TURN_BYTES ((uint64_t)8 << 20)
/* Of one call. */
#define PART_BYTES ((uint64_t)1 << 20)

struct receiver_copies {
	struct tcp_stream *stream;
	struct loop_timer *next_turn;
	uint64_t left; /* bytes in this turn */
	struct tcp_span span;
	bool (*some)(void *file, const struct tcp_span *part);
	void *file; /* NULL: none is under way */
};

/* Until nothing is left of it, or of this turn. */
static void go_on(struct receiver_copies *c)
{
	while (c->file != NULL && c->left > 0) {
		struct tcp_span part = c->span;

		part.len = part.len < PART_BYTES ? part.len : PART_BYTES;
		part.len = part.len < c->left ? part.len : c->left;
		c->left -= part.len;
		c->span.offset += part.len;
		c->span.from += part.len;
		c->span.len -= part.len;
		/* A file that fails is stopped by whoever lets it fail. */
		if (!c->some(c->file, &part) || c->span.len == 0)
			c->file = NULL;
	}
}

static void on_next_turn(void *ctx)
{
	struct receiver_copies *c = ctx;

	c->left = TURN_BYTES;
	go_on(c);
	if (c->left == 0)
		loop_timer_after(c->next_turn, 0);
	else
		tcp_stream_go_on(c->stream);
}

struct receiver_copies *receiver_copies_new(struct loop *loop, struct tcp_stream *stream, struct err *err)
{
	struct receiver_copies *c = calloc(1, sizeof(*c));

	if (c == NULL) {
		err_set(err, ERR_NOMEM, "out of memory for a session");
		return NULL;
	}
	c->stream = stream;
	c->left = TURN_BYTES;
	c->next_turn = loop_timer_add(loop, on_next_turn, c, err);
	if (c->next_turn == NULL) {
		free(c);
		return NULL;
	}
	return c;
}

void receiver_copies_free(struct receiver_copies *c)
{
	if (c == NULL)
		return;
	loop_timer_remove(c->next_turn);
	free(c);
}

void receiver_copies_start(struct receiver_copies *c, const struct tcp_span *span,
			   bool (*some)(void *file, const struct tcp_span *part), void *file)
{
	c->span = *span;
	c->some = some;
	c->file = file;
	go_on(c);
	if (!loop_timer_armed(c->next_turn))
		loop_timer_after(c->next_turn, 0);
	if (c->left == 0)
		tcp_stream_hold(c->stream);
}

void receiver_copies_stop(struct receiver_copies *c, const void *file)
{
	if (c->file == file)
		c->file = NULL;
}
