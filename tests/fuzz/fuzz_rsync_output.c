/* LINK: transports/rsync_output.c transports/rsync_names.c core/buf.c core/path.c */
/* MODULE: transports/rsync_output.c transports/rsync_names.c */
/* rsync's output, which a remote rsync writes parts of: the first byte says how long the pieces are. However it is cut,
 * the same events come out, and what they name is inside of the line, or a path. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/path.h"
#include "transports/rsync_names.h"
#include "transports/rsync_output.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put(struct buf *out, const void *bytes, size_t len)
{
	if (!buf_add(out, &len, sizeof(len)) || (len > 0 && !buf_add(out, bytes, len)))
		abort();
}

static bool every_second(void *ctx, const char *path, size_t len)
{
	(void)ctx;
	return len % 2 == 0 && path[0] != '/';
}

static void check_name(const struct rsync_event *ev)
{
	static const struct rsync_names names = { .roots = { "/s", "/target dir" } };
	size_t off, n, end;
	bool known;

	if (!rsync_name_cut(&names, ev->name, ev->len, &off, &n, &known))
		return;
	if (off + n > ev->len || !path_valid(ev->name + off, n))
		abort();
	end = rsync_name_end(ev->name + off, n, every_second, NULL);
	if (end > n || (end > 0 && !path_valid(ev->name + off + end, n - end)))
		abort();
}

static void on_event(void *ctx, const struct rsync_event *ev)
{
	struct buf *out = ctx;
	uint64_t facts[] = { ev->kind, ev->bytes, ev->done, ev->left, (uint64_t)ev->code, ev->version, ev->attribute };

	if (ev->kind == RSYNC_EVENT_NONE || ev->len > ev->text_len || ev->code < 0)
		abort();
	put(out, facts, sizeof(facts));
	put(out, ev->name, ev->len);
	put(out, ev->text, ev->text_len);
	if (ev->len > 0)
		check_name(ev);
}

static void read_in_pieces(const uint8_t *data, size_t size, size_t piece, struct buf *out)
{
	struct rsync_output o;

	buf_init(out, 64 * size + 4096);
	rsync_output_init(&o, on_event, out);
	for (size_t at = 0; at < size; at += piece)
		rsync_output_feed(&o, (const char *)data + at, size - at < piece ? size - at : piece);
	rsync_output_end(&o);
	rsync_output_done(&o);
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
