/*
 * receiver_files.c - the sender's open files: the content that comes of them, in pieces, and what it wants to know of
 * the old ones that they replace; see receiver_source_private.h.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transports/receiver_source_private.h"

/* Credit goes back in portions. */
#define CREDIT_STEP (256u * 1024)

/* ---- credit ---- */

bool receiver_take_credit(struct receiver_source *s, uint64_t bytes, struct err *err)
{
	if (bytes > s->credit)
		return err_set(err, ERR_PROTOCOL, "the sender sent more than it has credit for") == 0;
	s->credit -= bytes;
	return true;
}

void receiver_give_credit(struct receiver_source *s, uint64_t bytes)
{
	s->owed += bytes;
	if (s->owed < CREDIT_STEP)
		return;
	buf_clear(&s->scratch);
	buf_add_u64(&s->scratch, s->owed);
	if (!tcp_stream_send_buf(s->stream, TCP_CREDIT, &s->scratch))
		return;
	s->credit += s->owed;
	s->owed = 0;
	tcp_stream_kick(s->stream);
}

bool receiver_broken(struct err *err, const char *what)
{
	err_set(err, ERR_PROTOCOL, "the sender sent %s that makes no sense", what);
	return false;
}

/* ---- files ---- */

struct remote_file *remote_file_new(struct receiver_source *s, uint32_t id)
{
	struct remote_file *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return NULL;
	f->owner = s;
	f->id = id;
	f->base_fd = -1;
	f->next = s->files[id % RECEIVER_BUCKETS];
	s->files[id % RECEIVER_BUCKETS] = f;
	return f;
}

struct remote_file *remote_file_find(struct receiver_source *s, uint32_t id)
{
	struct remote_file *f = s->files[id % RECEIVER_BUCKETS];

	/* Those that came along have no number. */
	while (f != NULL && (f->id != id || f->content != NULL))
		f = f->next;
	return f;
}

void remote_file_free(struct remote_file *f)
{
	receiver_copies_stop(f->owner->copies, f);
	if (f->reading)
		f->sink.dropped(f->sink.ctx);
	receiver_old_stop(f->owner->old, &f->old);
	if (f->base_fd >= 0)
		(void)close(f->base_fd);
	free(f->content);
	free(f);
}

int remote_file_base(const struct remote_file *f)
{
	return f->base_fd;
}

void remote_file_fail(struct remote_file *f, enum fileops_result result, const struct err *why)
{
	struct remote_sink sink = f->sink;

	receiver_copies_stop(f->owner->copies, f);
	f->reading = false;
	sink.end(sink.ctx, result, 0, f->digest, why);
}

static void read_content(struct remote_file *f, uint64_t offset)
{
	struct err err = ERR_INIT;
	enum fileops_result got = FILEOPS_OK;

	if (offset < f->content_len)
		got = f->sink.data(f->sink.ctx, offset, f->content + offset, f->content_len - offset, &err);
	if (got != FILEOPS_OK) {
		remote_file_fail(f, got, &err);
		return;
	}
	f->reading = false;
	f->sink.end(f->sink.ctx, FILEOPS_OK, f->content_len, f->digest, NULL);
}

void remote_file_sink(struct remote_file *f, uint64_t offset, uint64_t size, const struct remote_sink *sink)
{
	f->sink = *sink;
	f->reading = true;
	f->at = offset;
	f->to = size;
}

void remote_file_read(struct remote_file *f)
{
	struct receiver_source *s = f->owner;
	struct tcp_span span = { .file = f->id, .offset = f->at, .len = f->to };

	f->asked = true;
	if (f->content != NULL) {
		read_content(f, f->at);
		return;
	}
	buf_clear(&s->scratch);
	tcp_put_span(&s->scratch, TCP_READ, &span);
	(void)tcp_stream_send_buf(s->stream, TCP_READ, &s->scratch);
	tcp_stream_kick(s->stream);
}

/* ---- the old file ---- */

static void on_hashed(void *ctx)
{
	struct remote_file *f = ctx;
	struct fileop *op = f->opening;

	f->opening = NULL;
	op->result = FILEOPS_OK;
	op->done(op);
}

static void on_told(void *ctx)
{
	(void)ctx; /* what follows is the sender's */
}

static void read_old(struct remote_file *f, uint32_t block)
{
	f->old = (struct old_reading){
		.fd = f->base_fd, .size = f->base_size, .file = f->id, .block = block, .done = on_told
	};
}

void receiver_files_hash_old(struct remote_file *f, struct fileop *opening, uint32_t block)
{
	f->opening = opening;
	read_old(f, block);
	f->old.done = on_hashed;
	f->old.ctx = f;
	receiver_old_start(f->owner->old, &f->old);
}

/* While a file's content is awaited. */
static bool may_ask_old(const struct remote_file *f)
{
	return f->asked && f->base_fd >= 0 && !f->old.queued;
}

/* Hashes of smaller blocks: once, or in parts. */
static bool on_finer(struct receiver_source *s, const char *payload, size_t len, struct err *err)
{
	struct tcp_finer q;
	struct remote_file *f;

	if (!tcp_get_finer(payload, len, s->parts, &q))
		return receiver_broken(err, "a question");
	f = remote_file_find(s, q.file);
	if (f == NULL || !f->reading)
		return true; /* closed meanwhile */
	if (!may_ask_old(f) || (f->asked_finer && !s->parts) || q.first > f->base_size / q.block)
		return receiver_broken(err, "a question");
	f->asked_finer = true;
	read_old(f, q.block);
	f->old.at = q.first * q.block;
	if (q.n <= (f->base_size - f->old.at) / q.block)
		f->old.size = f->old.at + q.n * q.block;
	f->old.tells_end = true;
	receiver_old_start(s->old, &f->old);
	return true;
}

/* A signature: once. */
static bool on_sign(struct receiver_source *s, const char *payload, size_t len, struct err *err)
{
	struct err none = ERR_INIT;
	struct remote_file *f;
	struct reader r;
	uint32_t block;

	reader_init(&r, payload, len);
	f = remote_file_find(s, reader_u32(&r));
	block = reader_u32(&r);
	if (r.failed || r.left > 0 || !delta_block_valid(block))
		return receiver_broken(err, "a question");
	if (f == NULL || !f->reading)
		return true;
	if (!may_ask_old(f) || f->asked_sign || f->at > 0 || f->base_size / block > DELTA_BLOCKS_MAX)
		return receiver_broken(err, "a question");
	f->asked_sign = true;
	read_old(f, block);
	f->old.signer = delta_signer_new(block);
	if (f->old.signer != NULL) {
		receiver_old_start(s->old, &f->old);
		return true;
	}
	err_set(&none, ERR_NOMEM, "out of memory for a signature");
	remote_file_fail(f, FILEOPS_FAILED, &none);
	return true;
}

/* ---- content ---- */

/* A part of a COPY. false: the file has failed by it. */
static bool copy_some(void *file, const struct tcp_span *part)
{
	struct remote_file *f = file;
	struct err why = ERR_INIT;
	enum fileops_result got = f->sink.copy(f->sink.ctx, part->offset, part->len, part->from, &why);

	if (got != FILEOPS_OK)
		remote_file_fail(f, got, &why);
	return got == FILEOPS_OK;
}

/* Pieces of a file that was closed meanwhile are on their way still. */
static bool on_piece(struct receiver_source *s, uint8_t type, const char *payload, size_t len, struct err *err)
{
	struct tcp_span span;
	const char *content = NULL;
	enum fileops_result got = FILEOPS_OK;
	struct err why = ERR_INIT;
	struct remote_file *f;

	if (type == TCP_DATA ? !tcp_get_data(payload, len, &span, &content)
			     : !tcp_get_span((enum tcp_frame)type, payload, len, &span))
		return receiver_broken(err, "a piece of a file");
	if (type == TCP_DATA && !receiver_take_credit(s, span.len, err))
		return false;
	if (type == TCP_DATA)
		receiver_give_credit(s, span.len);
	f = remote_file_find(s, span.file);
	if (f == NULL || !f->reading)
		return true;
	if (!f->asked || span.offset != f->at || span.len > f->to - f->at)
		return receiver_broken(err, "a piece of a file");
	f->at += span.len;
	if (type == TCP_DATA)
		got = f->sink.data(f->sink.ctx, span.offset, content, (size_t)span.len, &why);
	else if (type == TCP_HOLE)
		got = f->sink.hole(f->sink.ctx, span.offset, span.len, &why);
	else
		receiver_copies_start(s->copies, &span, copy_some, f);
	if (got != FILEOPS_OK)
		remote_file_fail(f, got, &why);
	return true;
}

static bool on_end(struct receiver_source *s, const char *payload, size_t len, struct err *err)
{
	struct tcp_end e;
	struct remote_file *f;
	struct remote_sink sink;

	if (!tcp_get_end(payload, len, &e))
		return receiver_broken(err, "the end of a file");
	f = remote_file_find(s, e.file);
	if (f == NULL)
		return true;
	receiver_owners_map(s->owners, &e.state.st);
	f->after = e.state;
	f->ended = true;
	if (!f->reading)
		return true;
	if (e.result == FILEOPS_OK && e.size != f->at)
		return receiver_broken(err, "the end of a file");
	f->reading = false;
	sink = f->sink;
	sink.end(sink.ctx, (enum fileops_result)e.result, e.size, e.digest, &e.why);
	return true;
}

bool receiver_files_frame(struct receiver_source *s, uint8_t type, const char *payload, size_t len, struct err *err)
{
	switch (type) {
	case TCP_DATA:
	case TCP_HOLE:
	case TCP_COPY:
		return on_piece(s, type, payload, len, err);
	case TCP_END:
		return on_end(s, payload, len, err);
	case TCP_SIGN:
		return on_sign(s, payload, len, err);
	case TCP_FINER:
		return on_finer(s, payload, len, err);
	default:
		return receiver_broken(err, "a frame");
	}
}
