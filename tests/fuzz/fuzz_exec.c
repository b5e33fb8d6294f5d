/* LINK: transports/exec_lines.c transports/exec_options.c core/buf.c core/err.c */
/* MODULE: transports/exec_lines.c */
/* What an exec program writes: the first byte says how long the pieces are. However it is cut the same lines come out,
 * and an answer is inside of its line. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "transports/exec_lines.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_line(void *ctx, const char *text, size_t len, bool cut)
{
	struct buf *out = ctx;
	struct exec_answer a;

	if (len > EXEC_LINE_MAX || memchr(text, '\n', len) != NULL)
		abort();
	if (!buf_add(out, &len, sizeof(len)) || !buf_add(out, &cut, sizeof(cut)) || !buf_add(out, text, len))
		abort();
	if (!exec_answer_parse(text, len, &a))
		return;
	if (a.text < text || a.text_len > len || (size_t)(a.text - text) + a.text_len != len)
		abort();
	if (a.kind == EXEC_ANSWER_ONE && (a.word == EXEC_WORD_NONE || a.word == EXEC_DOWN))
		abort();
}

static void read_in_pieces(const uint8_t *data, size_t size, size_t piece, struct buf *out)
{
	struct exec_lines l;

	buf_init(out, 64 * size + 4096);
	exec_lines_init(&l, on_line, out);
	for (size_t at = 0; at < size; at += piece)
		exec_lines_feed(&l, (const char *)data + at, size - at < piece ? size - at : piece);
	exec_lines_end(&l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf whole, pieces;

	if (size < 2)
		return 0;
	read_in_pieces(data + 1, size - 1, size, &whole);
	read_in_pieces(data + 1, size - 1, (size_t)data[0] + 1, &pieces);
	if (whole.len != pieces.len || (whole.len > 0 && memcmp(whole.data, pieces.data, whole.len) != 0))
		abort();
	buf_done(&whole);
	buf_done(&pieces);
	return 0;
}
