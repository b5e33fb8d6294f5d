/* LINK: transports/tcp_frames.c transports/tcp_frames_read.c core/owner_map.c core/buf.c core/err.c core/path.c */
/* MODULE: transports/tcp_frames.c transports/tcp_frames_read.c */
/* Payloads of the tcp transport's frames: the first byte says which. Whatever is read must lie inside the payload; what
 * was read, written again, is read alike. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "transports/tcp_frames.h"

/* A payload that is written again is no longer than what it was read from. */
#define AGAIN_MAX (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Read `p`; false: it was refused. Write what was read to `out`. */
typedef bool again_fn(struct buf *out, const char *p, size_t len);

static void touch(const struct tcp_bytes *b)
{
	static volatile char last;

	for (size_t i = 0; i < b->len; i++)
		last = b->p[i];
	(void)last;
}

/* ---- a session's begin and end ---- */

static bool hello(struct buf *out, const char *p, size_t len)
{
	struct tcp_hello h;

	if (!tcp_get_hello(p, len, &h))
		return false;
	tcp_put_hello(out, &h);
	return true;
}

static bool welcome(struct buf *out, const char *p, size_t len)
{
	struct tcp_welcome w;

	if (!tcp_get_welcome(p, len, &w))
		return false;
	tcp_put_welcome(out, &w);
	return true;
}

static bool refuse(struct buf *out, const char *p, size_t len)
{
	struct err e;

	if (!tcp_get_err(p, len, &e))
		return false;
	tcp_put_err(out, &e);
	return true;
}

static bool owner(struct buf *out, const char *p, size_t len)
{
	struct tcp_name n;

	if (!tcp_get_name(p, len, &n))
		return false;
	tcp_put_name(out, &n);
	return true;
}

/* ---- work ---- */

static bool work(struct buf *out, const char *p, size_t len)
{
	struct tcp_work w;

	if (!tcp_get_work(p, len, &w))
		return false;
	tcp_put_work(out, &w);
	return true;
}

static bool keep(struct buf *out, const char *p, size_t len)
{
	struct tcp_keep k;
	char why[TCP_TEXT_MAX + 1];

	if (!tcp_get_keep(p, len, &k))
		return false;
	memcpy(why, k.why.p, k.why.len);
	why[k.why.len] = '\0';
	tcp_put_keep(out, &(struct keep){ .path = k.path.p, .len = k.path.len, .why = why });
	return true;
}

static bool renamed(struct buf *out, const char *p, size_t len)
{
	struct batch_rename r;

	if (!tcp_get_rename(p, len, &r))
		return false;
	tcp_put_rename(out, &r);
	return true;
}

static bool item(struct buf *out, const char *p, size_t len)
{
	struct tcp_item i;

	if (!tcp_get_item(p, len, &i))
		return false;
	touch(&i.text);
	tcp_put_item(out, &i);
	buf_add(out, i.content.p, i.content.len);
	return true;
}

/* ---- what became of it ---- */

static bool ack(struct buf *out, const char *p, size_t len)
{
	struct tcp_verdict v;
	struct reader r;
	uint64_t upto;
	uint32_t n, done = 0;

	if (!tcp_get_ack(p, len, &r, &upto, &n))
		return false;
	tcp_put_ack(out, upto, n);
	for (; done < n && tcp_next_verdict(&r, &v); done++)
		tcp_put_verdict(out, &v);
	return done == n && tcp_all_read(&r);
}

static bool found(struct buf *out, const char *p, size_t len)
{
	struct tcp_bytes path;
	enum verdict v;
	struct err why;

	if (!tcp_get_found(p, len, &path, &v, &why))
		return false;
	tcp_put_found(out, path.p, path.len, v, why.class == ERR_NONE ? NULL : &why);
	return true;
}

static bool progress(struct buf *out, const char *p, size_t len)
{
	struct tcp_progress v;

	if (!tcp_get_progress(p, len, &v))
		return false;
	tcp_put_progress(out, &v);
	return true;
}

static bool done_work(struct buf *out, const char *p, size_t len)
{
	struct tcp_done d;

	if (!tcp_get_done(p, len, &d))
		return false;
	tcp_put_done(out, &d);
	return true;
}

static bool notes(struct buf *out, const char *p, size_t len)
{
	struct tcp_note note;
	struct reader r;
	uint32_t n, done = 0;

	if (!tcp_get_notes(p, len, &r, &n))
		return false;
	buf_add_u32(out, 0);
	for (; done < n && tcp_next_note(&r, &note); done++)
		tcp_put_note(out, &note);
	tcp_set_u32(out, 0, done);
	return done == n && tcp_all_read(&r);
}

static bool moved(struct buf *out, const char *p, size_t len)
{
	struct tcp_bytes from, to;

	if (!tcp_get_moved(p, len, &from, &to))
		return false;
	tcp_put_moved(out, from.p, from.len, to.p, to.len);
	return true;
}

static bool conflict(struct buf *out, const char *p, size_t len)
{
	struct tcp_conflict c;

	if (!tcp_get_conflict(p, len, &c))
		return false;
	tcp_put_conflict(out, &c);
	return true;
}

/* ---- requests ---- */

static bool request(enum tcp_frame type, struct buf *out, const char *p, size_t len)
{
	struct tcp_request r;

	if (!tcp_get_request(type, p, len, &r))
		return false;
	tcp_put_request(out, type, &r);
	return true;
}

static bool look(struct buf *out, const char *p, size_t len)
{
	return request(TCP_LOOK, out, p, len);
}

static bool xattrs(struct buf *out, const char *p, size_t len)
{
	return request(TCP_XATTRS, out, p, len);
}

static bool open_file(struct buf *out, const char *p, size_t len)
{
	return request(TCP_OPEN, out, p, len);
}

static bool unless(struct buf *out, const char *p, size_t len)
{
	struct tcp_unless u;
	struct reader r;
	uint32_t fields;

	if (!tcp_get_unless(p, len, &r, &fields))
		return false;
	buf_add_u32(out, fields);
	while (r.left > 0) {
		if (!tcp_next_unless(&r, &u))
			return false;
		tcp_put_unless(out, &u);
	}
	return true;
}

static bool finer_of(struct buf *out, const char *p, size_t len, bool parts)
{
	struct tcp_finer f;

	if (!tcp_get_finer(p, len, parts, &f))
		return false;
	tcp_put_finer(out, &f, parts);
	return true;
}

/* By their length it is one or the other. */
static bool finer(struct buf *out, const char *p, size_t len)
{
	return finer_of(out, p, len, true) || finer_of(out, p, len, false);
}

/* ---- replies ---- */

/* What an answer is to say depends on what was asked: all are tried, each for itself. */
static bool answer_to(enum tcp_frame asked, const char *p, size_t len, struct tcp_bytes *out)
{
	struct buf first, second;
	struct tcp_answer a, b;

	if (!tcp_get_answer(asked, p, len, &a))
		return false;
	touch(&a.bytes);
	buf_init(&first, AGAIN_MAX);
	buf_init(&second, AGAIN_MAX);
	tcp_put_answer(&first, asked, &a);
	if (!tcp_get_answer(asked, first.data, first.len, &b))
		abort();
	tcp_put_answer(&second, asked, &b);
	if (first.len != second.len || memcmp(first.data, second.data, first.len) != 0)
		abort();
	*out = (struct tcp_bytes){ p, len };
	buf_done(&first);
	buf_done(&second);
	return true;
}

static bool answer(struct buf *out, const char *p, size_t len)
{
	static const enum tcp_frame asked[] = { TCP_LOOK,   TCP_RESTAT, TCP_READLINK,
						TCP_XATTRS, TCP_AGREED, TCP_DIGEST_OF };
	struct tcp_bytes as_it_was = { NULL, 0 };

	for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++)
		(void)answer_to(asked[i], p, len, &as_it_was);
	return as_it_was.p != NULL && buf_add(out, as_it_was.p, as_it_was.len);
}

static bool listing(struct buf *out, const char *p, size_t len)
{
	struct tcp_list_entry e;
	struct tcp_listing l;
	struct reader r;
	uint32_t done = 0;

	if (!tcp_get_listing(p, len, &r, &l))
		return false;
	tcp_put_listing(out, &l);
	for (; done < l.count && tcp_next_entry(&r, &e); done++)
		tcp_put_list_entry(out, &e);
	return done == l.count && tcp_all_read(&r);
}

static bool opened(struct buf *out, const char *p, size_t len)
{
	struct tcp_opened o;

	if (!tcp_get_opened(p, len, &o))
		return false;
	tcp_put_opened(out, &o);
	return true;
}

static bool span(enum tcp_frame type, struct buf *out, const char *p, size_t len)
{
	struct tcp_span s;

	if (!tcp_get_span(type, p, len, &s))
		return false;
	tcp_put_span(out, type, &s);
	return true;
}

static bool read_span(struct buf *out, const char *p, size_t len)
{
	return span(TCP_READ, out, p, len);
}

static bool hole(struct buf *out, const char *p, size_t len)
{
	return span(TCP_HOLE, out, p, len);
}

static bool copy(struct buf *out, const char *p, size_t len)
{
	return span(TCP_COPY, out, p, len);
}

static bool content(struct buf *out, const char *p, size_t len)
{
	struct tcp_span s;
	const char *bytes;

	if (!tcp_get_data(p, len, &s, &bytes))
		return false;
	tcp_put_span(out, TCP_DATA, &s);
	return buf_add(out, bytes, (size_t)s.len);
}

static bool end_of_file(struct buf *out, const char *p, size_t len)
{
	struct tcp_end e;

	if (!tcp_get_end(p, len, &e))
		return false;
	tcp_put_end(out, &e);
	return true;
}

static again_fn *const again[256] = {
	[TCP_HELLO] = hello,	[TCP_WELCOME] = welcome, [TCP_REFUSE] = refuse,	  [TCP_BYE] = refuse,
	[TCP_WORK] = work,	[TCP_RENAME] = renamed,	 [TCP_ITEM] = item,	  [TCP_KEEP] = keep,
	[TCP_NAME] = owner,	[TCP_ACK] = ack,	 [TCP_FOUND] = found,	  [TCP_PROGRESS] = progress,
	[TCP_DONE] = done_work, [TCP_NOTE] = notes,	 [TCP_MOVED] = moved,	  [TCP_CONFLICT] = conflict,
	[TCP_LOOK] = look,	[TCP_LIST] = look,	 [TCP_READLINK] = look,	  [TCP_XATTRS] = xattrs,
	[TCP_DIGEST_OF] = look, [TCP_OPEN] = open_file,	 [TCP_READ] = read_span,  [TCP_AGREED] = look,
	[TCP_UNLESS] = unless,	[TCP_ANSWER] = answer,	 [TCP_LISTING] = listing, [TCP_OPENED] = opened,
	[TCP_DATA] = content,	[TCP_HOLE] = hole,	 [TCP_COPY] = copy,	  [TCP_END] = end_of_file,
	[TCP_FINER] = finer,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	again_fn *fn = size == 0 ? NULL : again[data[0]];
	struct buf first, second;
	uint32_t id;

	if (fn == NULL)
		return 0;
	(void)tcp_get_id((const char *)data + 1, size - 1, &id);
	buf_init(&first, AGAIN_MAX);
	buf_init(&second, AGAIN_MAX);
	if (fn(&first, (const char *)data + 1, size - 1) &&
	    (first.failed || !fn(&second, first.data, first.len) || first.len != second.len ||
	     memcmp(first.data, second.data, first.len) != 0))
		abort();
	buf_done(&first);
	buf_done(&second);
	return 0;
}
