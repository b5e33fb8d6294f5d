#include "core/frame.h"

int frame_next(struct buf *in, size_t max, uint8_t *type, const char **payload, size_t *len)
{
	struct reader r;
	uint32_t n;
	uint8_t t;

	/* Moving the rest to the front only when no whole frame is left keeps a buffer full of small ones linear. */
	reader_init(&r, in->len > in->head ? in->data + in->head : NULL, in->len - in->head);
	n = reader_u32(&r);
	t = reader_u8(&r);
	if (!r.failed && n > max)
		return -1;
	if (r.failed || r.left < n) {
		buf_consume(in, in->head);
		return 0;
	}
	in->head += FRAME_HEADER + (size_t)n;
	*type = t;
	*payload = reader_bytes(&r, n);
	*len = n;
	return 1;
}

void frame_again(struct buf *in, size_t len)
{
	in->head -= FRAME_HEADER + len;
}

bool frame_add(struct buf *out, uint8_t type, const void *payload, size_t len)
{
	bool failed = out->failed;

	if (failed || len > UINT32_MAX - FRAME_HEADER || !buf_reserve(out, FRAME_HEADER + len)) {
		out->failed = failed;
		return false;
	}
	/* The room is there: none of these can fail. */
	buf_add_u32(out, (uint32_t)len);
	buf_add_byte(out, type);
	buf_add(out, payload, len);
	return true;
}
