/* LINK: transports/tcp_frames.c transports/tcp_frames_read.c core/owner_map.c core/buf.c core/err.c core/path.c */
/* MODULE: transports/tcp_frames.c transports/tcp_frames_read.c */
/* Payloads of the tcp transport's frames: the first byte says which. Whatever is read must lie inside the payload; what
 * was read, written again, is read alike. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "transports/tcp_frames.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void touch(const struct tcp_bytes *b)
{
	static volatile char last;

	for (size_t i = 0; i < b->len; i++)
		last = b->p[i];
	(void)last;
}

static void lists(uint8_t kind, const char *p, size_t len)
{
	struct reader r;
	uint64_t upto;
	uint32_t n;

	if (kind == TCP_ACK && tcp_get_ack(p, len, &r, &upto, &n)) {
		struct tcp_verdict v;

		while (n-- > 0 && tcp_next_verdict(&r, &v))
			;
	}
	if (kind == TCP_NOTE && tcp_get_notes(p, len, &r, &n)) {
		struct tcp_note note;

		while (n-- > 0 && tcp_next_note(&r, &note))
			touch(&note.path);
	}
	if (kind == TCP_UNLESS) {
		struct tcp_unless u;

		if (tcp_get_unless(p, len, &r, &n))
			while (tcp_next_unless(&r, &u))
				touch(&u.path);
	}
	if (kind == TCP_LISTING) {
		struct tcp_listing l;
		struct tcp_list_entry e;

		if (tcp_get_listing(p, len, &r, &l))
			while (l.count-- > 0 && tcp_next_entry(&r, &e))
				touch(&e.name);
	}
}

static void item(const char *p, size_t len)
{
	struct tcp_item a, b;
	struct buf again;

	if (!tcp_get_item(p, len, &a))
		return;
	touch(&a.path);
	touch(&a.text);
	touch(&a.content);
	buf_init(&again, 2 * len + 1024);
	tcp_put_item(&again, &a);
	buf_add(&again, a.content.p, a.content.len);
	if (!tcp_get_item(again.data, again.len, &b) || b.path.len != a.path.len || b.content.len != a.content.len ||
	    memcmp(&a.state.st, &b.state.st, sizeof(a.state.st)) != 0)
		abort();
	buf_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t kind = size == 0 ? 0 : data[0];
	const char *p = (const char *)data + 1;
	size_t len = size == 0 ? 0 : size - 1;
	struct tcp_hello hello;
	struct tcp_welcome welcome;
	struct tcp_work work;
	struct batch_rename rename;
	struct tcp_bytes path, to;
	struct tcp_keep keep;
	struct tcp_name name;
	struct tcp_progress progress;
	struct tcp_done done;
	struct tcp_conflict conflict;
	struct tcp_request request;
	struct tcp_answer answer;
	struct tcp_opened opened;
	struct tcp_span span;
	struct tcp_finer finer;
	struct tcp_end end;
	const char *content;
	enum verdict v;
	struct err err;

	if (size == 0)
		return 0;
	lists(kind, p, len);
	switch (kind) {
	case TCP_HELLO:
		if (tcp_get_hello(p, len, &hello))
			touch(&hello.options);
		break;
	case TCP_WELCOME:
		(void)tcp_get_welcome(p, len, &welcome);
		break;
	case TCP_REFUSE:
		(void)tcp_get_err(p, len, &err);
		break;
	case TCP_WORK:
		(void)tcp_get_work(p, len, &work);
		break;
	case TCP_RENAME:
		(void)tcp_get_rename(p, len, &rename);
		break;
	case TCP_ITEM:
		item(p, len);
		break;
	case TCP_KEEP:
		if (tcp_get_keep(p, len, &keep)) {
			touch(&keep.path);
			touch(&keep.why);
		}
		break;
	case TCP_NAME:
		if (tcp_get_name(p, len, &name))
			touch(&name.name);
		break;
	case TCP_MOVED:
		if (tcp_get_moved(p, len, &path, &to)) {
			touch(&path);
			touch(&to);
		}
		break;
	case TCP_FOUND:
		if (tcp_get_found(p, len, &path, &v, &err))
			touch(&path);
		break;
	case TCP_PROGRESS:
		if (tcp_get_progress(p, len, &progress))
			touch(&progress.path);
		break;
	case TCP_DONE:
		(void)tcp_get_done(p, len, &done);
		break;
	case TCP_CONFLICT:
		(void)tcp_get_conflict(p, len, &conflict);
		break;
	case TCP_LOOK:
	case TCP_XATTRS:
	case TCP_OPEN:
		if (tcp_get_request((enum tcp_frame)kind, p, len, &request))
			touch(&request.path);
		break;
	case TCP_ANSWER:
		if (tcp_get_answer(TCP_READLINK, p, len, &answer))
			touch(&answer.bytes);
		(void)tcp_get_answer(TCP_LOOK, p, len, &answer);
		(void)tcp_get_answer(TCP_AGREED, p, len, &answer);
		(void)tcp_get_answer(TCP_DIGEST_OF, p, len, &answer);
		break;
	case TCP_OPENED:
		(void)tcp_get_opened(p, len, &opened);
		break;
	case TCP_READ:
	case TCP_HOLE:
	case TCP_COPY:
		(void)tcp_get_span((enum tcp_frame)kind, p, len, &span);
		break;
	case TCP_DATA:
		if (tcp_get_data(p, len, &span, &content))
			touch(&(struct tcp_bytes){ content, (size_t)span.len });
		break;
	case TCP_FINER:
		(void)tcp_get_finer(p, len, true, &finer);
		(void)tcp_get_finer(p, len, false, &finer);
		break;
	case TCP_END:
		(void)tcp_get_end(p, len, &end);
		break;
	default:
		break;
	}
	return 0;
}
