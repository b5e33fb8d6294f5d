#include "transports/receiver_asks.h"

/* The sender works on these while the next ones are gathered. */
#define ASKS 32u
/* Less than a frame takes, with a path of any length behind. */
#define ASKS_BYTES (32u * 1024)

void receiver_asks_init(struct receiver_asks *a, struct tcp_stream *stream)
{
	*a = (struct receiver_asks){ .stream = stream };
	buf_init(&a->frame, TCP_FRAME_MAX);
}

void receiver_asks_done(struct receiver_asks *a)
{
	buf_done(&a->frame);
}

bool receiver_asks_send(struct receiver_asks *a)
{
	bool ok;

	if (a->n == 0)
		return true;
	/* Digests do not compress. */
	ok = !a->frame.failed &&
	     tcp_stream_send2(a->stream, TCP_UNLESS, NULL, 0, a->frame.data, a->frame.len, ZSTREAM_STORE);
	if (ok)
		tcp_stream_flush(a->stream);
	buf_clear(&a->frame);
	a->n = 0;
	return ok;
}

bool receiver_asks_add(struct receiver_asks *a, unsigned fields, const struct tcp_unless *u)
{
	if (a->n > 0 && a->fields != fields && !receiver_asks_send(a))
		return false;
	if (a->n == 0)
		buf_add_u32(&a->frame, fields);
	a->fields = fields;
	tcp_put_unless(&a->frame, u);
	a->n++;
	return (a->n < ASKS && a->frame.len < ASKS_BYTES) || receiver_asks_send(a);
}
