#include "transports/tcp_serve.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/clock.h"
#include "transports/tcp_serve_private.h"

#define FILES_MAX 1024u

struct tcp_serve *tcp_serve_new(const struct tcp_serve_setup *setup)
{
	struct tcp_serve *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->up = *setup;
	buf_init(&s->scratch, TCP_FRAME_MAX);
	s->piece = malloc(TURN_BYTES);
	s->listings = tcp_listings_new(setup);
	s->answers = tcp_answers_new(setup);
	if (s->piece == NULL || s->listings == NULL || s->answers == NULL) {
		tcp_serve_free(s);
		return NULL;
	}
	return s;
}

/* ---- files ---- */

struct served *tcp_serve_find(struct tcp_serve *s, uint32_t id)
{
	struct served *f = s->files[id % TCP_SERVE_BUCKETS];

	while (f != NULL && f->id != id)
		f = f->next;
	return f;
}

void tcp_serve_activate(struct tcp_serve *s, struct served *f)
{
	if (f->next_active != NULL)
		return;
	if (s->active == NULL) {
		f->next_active = f->prev_active = f;
		s->active = f;
		return;
	}
	f->next_active = s->active;
	f->prev_active = s->active->prev_active;
	f->prev_active->next_active = f;
	s->active->prev_active = f;
}

void tcp_serve_deactivate(struct tcp_serve *s, struct served *f)
{
	if (f->next_active == NULL)
		return;
	if (s->active == f)
		s->active = f->next_active == f ? NULL : f->next_active;
	f->next_active->prev_active = f->prev_active;
	f->prev_active->next_active = f->next_active;
	f->next_active = f->prev_active = NULL;
	f->reading = false;
}

static void close_served(struct tcp_serve *s, struct served *f)
{
	struct served **at = &s->files[f->id % TCP_SERVE_BUCKETS];

	tcp_serve_deactivate(s, f);
	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	s->n_files--;
	s->up.source.ops->drop(s->up.source.ctx, &f->file);
	(void)XXH3_freeState(f->digest);
	tcp_content_forget(s, f);
	free(f->path);
	free(f);
}

void tcp_serve_free(struct tcp_serve *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < TCP_SERVE_BUCKETS; i++)
		while (s->files[i] != NULL)
			close_served(s, s->files[i]);
	tcp_answers_free(s->answers);
	tcp_listings_free(s->listings);
	buf_done(&s->scratch);
	free(s->piece);
	free(s);
}

bool tcp_serve_send(struct tcp_serve *s, enum tcp_frame type)
{
	bool ok = tcp_stream_send_buf(s->up.stream, type, &s->scratch);

	tcp_stream_kick(s->up.stream);
	return ok;
}

/* ---- opening ---- */

static struct served *new_served(struct tcp_serve *s, struct fileop *op, const struct tcp_request *r)
{
	struct served *f = calloc(1, sizeof(*f));

	if (f != NULL) {
		f->digest = XXH3_createState();
		f->path = malloc(r->path.len + 1);
	}
	if (f == NULL || f->digest == NULL || f->path == NULL) {
		if (f != NULL) {
			(void)XXH3_freeState(f->digest);
			free(f->path);
		}
		free(f);
		return NULL;
	}
	memcpy(f->path, r->path.p, r->path.len);
	f->path_len = r->path.len;
	f->file = op->file;
	f->st = op->st;
	while (++s->last_id == 0 || tcp_serve_find(s, s->last_id) != NULL)
		;
	f->id = s->last_id;
	f->next = s->files[f->id % TCP_SERVE_BUCKETS];
	s->files[f->id % TCP_SERVE_BUCKETS] = f;
	s->n_files++;
	return f;
}

static bool on_open(struct tcp_serve *s, const struct tcp_request *r)
{
	struct tcp_opened o = { .id = r->id, .result = FILEOPS_GONE };
	struct fileop op = { 0 };
	struct served *f = NULL;

	if (s->n_files >= FILES_MAX) {
		o.result = FILEOPS_FAILED;
		err_set(&op.err, ERR_LIMIT, "the source: too many files are open");
	} else if (!tcp_hidden(s->up.filter, r->path.p, r->path.len, false)) {
		o.result = (uint8_t)s->up.source.ops->open(s->up.source.ctx, &op, r->path.p, r->path.len, NULL);
	}
	if (o.result == FILEOPS_OK && s->up.hand_over != NULL &&
	    s->up.hand_over(s->up.hand_over_ctx, r->path.p, r->path.len, &op.st)) {
		s->up.source.ops->drop(s->up.source.ctx, &op.file);
		o.result = FILEOPS_GONE;
	}
	if (o.result == FILEOPS_OK) {
		f = new_served(s, &op, r);
		if (f == NULL) {
			s->up.source.ops->drop(s->up.source.ctx, &op.file);
			o.result = FILEOPS_FAILED;
			err_set(&op.err, ERR_NOMEM, "the source: out of memory");
		}
	}
	o.why = op.err;
	if (f != NULL) {
		tcp_content_plan(s, f, r);
		tcp_names_tell(s->up.names, &f->st);
		o.file = f->id;
		o.state = tcp_state_of(&f->st, true);
		o.wants_hashes = f->wants_hashes;
		o.block = f->wants_hashes && f->coarse ? RUN : f->block;
	}
	buf_clear(&s->scratch);
	tcp_put_opened(&s->scratch, &o);
	return tcp_serve_send(s, TCP_OPENED);
}

void tcp_serve_pump(struct tcp_serve *s)
{
	bool any = false;

	if (!tcp_listings_pump(s->listings))
		return;
	s->hashed = 0;
	s->catching_up = false;
	while (s->active != NULL && s->hashed < HASHED_BYTES && s->credit >= TURN_BYTES &&
	       tcp_stream_writable(s->up.stream) && throttle_wait_ns(s->up.throttle, clock_mono_ns()) == 0) {
		struct served *f = s->active;

		s->active = f->next_active;
		any = true;
		if (!tcp_content_turn(s, f))
			return;
	}
	if (any)
		tcp_stream_kick(s->up.stream);
}

static bool on_read(struct tcp_serve *s, const struct tcp_span *span)
{
	struct served *f = tcp_serve_find(s, span->file);

	if (f == NULL || f->reading)
		return false;
	tcp_content_begin(s, f, span);
	return true;
}

static bool on_restat(struct tcp_serve *s, uint32_t id, uint32_t file)
{
	struct served *f = tcp_serve_find(s, file);
	struct tcp_answer a = { .id = id };
	struct fileop op = { 0 };

	if (f == NULL)
		return false;
	a.result = (uint8_t)s->up.source.ops->restat(s->up.source.ctx, &op, &f->file);
	a.why = op.err;
	if (a.result == FILEOPS_OK)
		tcp_names_tell(s->up.names, &op.st);
	a.state = tcp_state_of(&op.st, true);
	return tcp_answers_send(s->answers, TCP_RESTAT, &a);
}

/* ---- frames ---- */

bool tcp_serve_take_credit(struct tcp_serve *s, uint64_t bytes, uint64_t reserve)
{
	if (s->credit < bytes || s->credit - bytes < reserve)
		return false;
	throttle_took(s->up.throttle, clock_mono_ns(), bytes);
	s->credit -= bytes;
	return true;
}

void tcp_serve_add_credit(struct tcp_serve *s, uint64_t bytes)
{
	s->credit = bytes > UINT64_MAX / 2 - s->credit ? UINT64_MAX / 2 : s->credit + bytes;
}

bool tcp_serve_goes_on(const struct tcp_serve *s)
{
	return s->active != NULL && s->hashed >= HASHED_BYTES;
}

bool tcp_serve_catches_up(const struct tcp_serve *s)
{
	return s->catching_up;
}

static bool on_numbers(struct tcp_serve *s, uint8_t type, const char *payload, size_t len)
{
	struct reader r;
	uint32_t a, b = 0;
	struct served *f;

	reader_init(&r, payload, len);
	if (type == TCP_CREDIT) {
		uint64_t credit = reader_u64(&r);

		if (r.failed || r.left > 0)
			return false;
		tcp_serve_add_credit(s, credit);
		return true;
	}
	a = reader_u32(&r);
	if (type == TCP_RESTAT)
		b = reader_u32(&r);
	if (r.failed || r.left > 0)
		return false;
	if (type == TCP_RESTAT)
		return on_restat(s, a, b);
	f = tcp_serve_find(s, a);
	if (f == NULL)
		return false;
	close_served(s, f);
	return true;
}

static bool on_request(struct tcp_serve *s, uint8_t type, const char *payload, size_t len)
{
	struct tcp_request r;

	if (!tcp_get_request((enum tcp_frame)type, payload, len, &r))
		return false;
	if (type == TCP_LIST)
		return tcp_listings_add(s->listings, &r);
	if (type == TCP_OPEN)
		return on_open(s, &r);
	return tcp_answers_give(s->answers, (enum tcp_frame)type, &r);
}

static bool take(struct tcp_serve *s, uint8_t type, const char *payload, size_t len)
{
	struct tcp_span span;

	switch (type) {
	case TCP_LOOK:
	case TCP_LIST:
	case TCP_READLINK:
	case TCP_XATTRS:
	case TCP_DIGEST_OF:
	case TCP_OPEN:
	case TCP_AGREED:
		return on_request(s, type, payload, len);
	case TCP_UNLESS:
		return (s->up.features & TCP_FEATURE_SAME) != 0 && tcp_listings_unless(s->listings, payload, len);
	case TCP_READ:
		return tcp_get_span(TCP_READ, payload, len, &span) && on_read(s, &span);
	case TCP_RESTAT:
	case TCP_CLOSE_FILE:
	case TCP_CREDIT:
		return on_numbers(s, type, payload, len);
	case TCP_HASHES:
		return tcp_content_hashes(s, payload, len);
	case TCP_SIGNATURE:
		return tcp_content_signature(s, payload, len);
	default:
		return false;
	}
}

bool tcp_serve_frame(struct tcp_serve *s, uint8_t type, const char *payload, size_t len, struct err *err)
{
	if (take(s, type, payload, len))
		return true;
	if (err->class == ERR_NONE)
		err_set(err, ERR_PROTOCOL,
			"the receiver asked for something that makes no sense, or there is no memory for it");
	return false;
}
