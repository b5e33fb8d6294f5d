/* LINK: core/frame.c core/buf.c */
/* MODULE: core/frame.c */
/* Frames on a stream that comes in pieces: the first bytes say how long the pieces are and what may be a frame. However
 * it is cut, the same frames come out. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* All frames that are whole, one behind the other; how the stream stands then. */
static int take(struct buf *in, size_t max, struct buf *out)
{
	const char *payload;
	size_t len;
	uint8_t type;
	int got;

	while ((got = frame_next(in, max, &type, &payload, &len)) > 0) {
		if (len > max || !frame_add(out, type, payload, len))
			abort();
	}
	return got;
}

static int read_in_pieces(const uint8_t *data, size_t size, size_t piece, size_t max, struct buf *out)
{
	struct buf in;
	int got = 0;

	buf_init(&in, size);
	for (size_t at = 0; at < size && got == 0; at += piece) {
		if (!buf_add(&in, data + at, size - at < piece ? size - at : piece))
			abort();
		got = take(&in, max, out);
	}
	buf_done(&in);
	return got;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf whole, pieces;
	size_t piece, max;
	int a, b;

	if (size < 2)
		return 0;
	piece = (size_t)data[0] + 1;
	max = (size_t)data[1] * 16;
	buf_init(&whole, size);
	buf_init(&pieces, size);
	a = read_in_pieces(data + 2, size - 2, size, max, &whole);
	b = read_in_pieces(data + 2, size - 2, piece, max, &pieces);
	if (a != b || whole.len != pieces.len || whole.failed || pieces.failed)
		abort();
	/* What was taken, written again, is what came in. */
	if (whole.len > 0 &&
	    (memcmp(whole.data, pieces.data, whole.len) != 0 || memcmp(whole.data, data + 2, whole.len) != 0))
		abort();
	buf_done(&whole);
	buf_done(&pieces);
	return 0;
}
