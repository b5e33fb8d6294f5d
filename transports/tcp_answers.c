/* tcp_answers.c - what a receiver asks about names of the source: see tcp_private.h. */
#include <stdlib.h>
#include <string.h>

#include "transports/tcp_private.h"

/* Of one answer: below a frame's limit. */
#define BYTES_MAX (120u * 1024)

struct tcp_answers {
	struct tcp_serve_setup up;
	struct digesting *digesting;
	struct buf scratch;
};

/* Large files take a while. */
struct digesting {
	struct fileop op;
	struct digesting *next, **link;
	struct tcp_answers *s;
	uint32_t id;
};

static void forget_digesting(struct digesting *d)
{
	*d->link = d->next;
	if (d->next != NULL)
		d->next->link = d->link;
	free(d);
}

struct tcp_answers *tcp_answers_new(const struct tcp_serve_setup *setup)
{
	struct tcp_answers *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->up = *setup;
	buf_init(&s->scratch, TCP_FRAME_MAX);
	return s;
}

void tcp_answers_free(struct tcp_answers *s)
{
	if (s == NULL)
		return;
	while (s->digesting != NULL)
		forget_digesting(s->digesting);
	buf_done(&s->scratch);
	free(s);
}

bool tcp_answers_send(struct tcp_answers *s, enum tcp_frame asked, const struct tcp_answer *a)
{
	bool ok;

	buf_clear(&s->scratch);
	tcp_put_answer(&s->scratch, asked, a);
	ok = tcp_stream_send_buf(s->up.stream, TCP_ANSWER, &s->scratch);
	tcp_stream_kick(s->up.stream);
	return ok;
}

static enum fileops_result call(struct tcp_answers *s, enum tcp_frame asked, const struct tcp_request *r,
				struct fileop *op)
{
	const struct fileops *ops = s->up.source.ops;
	void *end = s->up.source.ctx;

	switch (asked) {
	case TCP_READLINK:
		return ops->readlink(end, op, r->path.p, r->path.len);
	case TCP_XATTRS:
		return ops->xattrs(end, op, r->path.p, r->path.len, r->kinds);
	default:
		return FILEOPS_UNABLE;
	}
}

static bool on_agreed(struct tcp_answers *s, const struct tcp_request *r)
{
	struct tcp_answer a = { .id = r->id };

	if (s->up.twoway == NULL)
		return false;
	if (tcp_twoway_get(s->up.twoway, r->path.p, r->path.len, &a.agreed, &a.why) < 0)
		a.result = FILEOPS_FAILED;
	return tcp_answers_send(s, TCP_AGREED, &a);
}

/* What the rules exclude looks as if it were not there, whatever it is. */
static enum fileops_result look_at(struct tcp_answers *s, const struct tcp_request *r, struct fileop *op)
{
	enum fileops_result got = FILEOPS_GONE;

	if (!tcp_hidden(s->up.filter, r->path.p, r->path.len, false) ||
	    !tcp_hidden(s->up.filter, r->path.p, r->path.len, true))
		got = s->up.source.ops->look(s->up.source.ctx, op, r->path.p, r->path.len);
	return got == FILEOPS_OK && tcp_hidden(s->up.filter, r->path.p, r->path.len, S_ISDIR(op->st.st_mode))
		       ? FILEOPS_GONE
		       : got;
}

static bool on_question(struct tcp_answers *s, enum tcp_frame type, const struct tcp_request *r)
{
	struct tcp_answer a = { .id = r->id };
	struct fileop op = { 0 };
	bool ok;

	a.result = (uint8_t)look_at(s, r, &op);
	if (a.result == FILEOPS_OK && type == TCP_LOOK) {
		tcp_names_tell(s->up.names, &op.st);
		a.state = tcp_state_of(&op.st, true);
	} else if (a.result == FILEOPS_OK) {
		a.result = (uint8_t)call(s, type, r, &op);
	}
	a.why = op.err;
	if (op.n_bytes > BYTES_MAX) {
		a.result = FILEOPS_FAILED;
		err_set(&a.why, ERR_LIMIT, "the source: extended attributes of more than %u bytes", BYTES_MAX);
	}
	a.bytes = (struct tcp_bytes){ op.bytes, op.n_bytes };
	ok = tcp_answers_send(s, type, &a);
	free(op.bytes);
	return ok;
}

static bool answer_digest(struct digesting *d, enum fileops_result result)
{
	struct tcp_answer a = { .id = d->id, .result = (uint8_t)result, .why = d->op.err, .size = d->op.copied };
	struct tcp_answers *s = d->s;

	memcpy(a.digest, d->op.digest, sizeof(a.digest));
	forget_digesting(d);
	return tcp_answers_send(s, TCP_DIGEST_OF, &a);
}

static void on_digested(struct fileop *op)
{
	struct digesting *d = op->owner;

	(void)answer_digest(d, op->result); /* when it can't be sent the stream ends */
}

static bool on_digest(struct tcp_answers *s, const struct tcp_request *r)
{
	struct digesting *d = calloc(1, sizeof(*d));
	enum fileops_result got = FILEOPS_GONE;

	if (d == NULL)
		return false;
	d->s = s;
	d->id = r->id;
	d->op.done = on_digested;
	d->op.owner = d;
	d->next = s->digesting;
	d->link = &s->digesting;
	if (d->next != NULL)
		d->next->link = &d->next;
	s->digesting = d;
	if (!tcp_hidden(s->up.filter, r->path.p, r->path.len, false))
		got = s->up.source.ops->digest(s->up.source.ctx, &d->op, r->path.p, r->path.len);
	return got == FILEOPS_PENDING || answer_digest(d, got);
}

bool tcp_answers_give(struct tcp_answers *s, enum tcp_frame asked, const struct tcp_request *r)
{
	if (asked == TCP_DIGEST_OF)
		return on_digest(s, r);
	if (asked == TCP_AGREED)
		return on_agreed(s, r);
	return on_question(s, asked, r);
}
