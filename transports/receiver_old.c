#include "transports/receiver_old.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/clock.h"
#include "transports/tcp_frames.h"

/* Read at a time: a multiple of each block's size. */
#define HASH_TURN (2u * 1024 * 1024)
#define SIGN_TURN (512u * 1024)
/* So long hashes gather: the sender sees that there is somebody at work, however large the file is. */
#define GATHER_NS NS_PER_S

struct receiver_old {
	struct tcp_stream *stream;
	struct loop_timer *timer;
	struct old_reading *first; /* first come, first served */
	unsigned char *piece;	   /* HASH_TURN bytes, while something is read */
	int64_t sent_ns;	   /* what there was left then */
	struct buf scratch;
};

static void on_timer(void *ctx);

struct receiver_old *receiver_old_new(struct loop *loop, struct tcp_stream *stream, struct err *err)
{
	struct receiver_old *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		err_set(err, ERR_NOMEM, "out of memory for a session");
		return NULL;
	}
	s->stream = stream;
	buf_init(&s->scratch, TCP_FRAME_MAX);
	s->timer = loop_timer_add(loop, on_timer, s, err);
	if (s->timer == NULL) {
		free(s);
		return NULL;
	}
	return s;
}

void receiver_old_free(struct receiver_old *s)
{
	if (s == NULL)
		return;
	while (s->first != NULL)
		receiver_old_stop(s, s->first);
	loop_timer_remove(s->timer);
	buf_done(&s->scratch);
	free(s->piece);
	free(s);
}

void receiver_old_start(struct receiver_old *s, struct old_reading *r)
{
	struct old_reading **last = &s->first;

	if (s->first == NULL)
		s->sent_ns = clock_mono_ns();
	while (*last != NULL)
		last = &(*last)->next;
	*last = r;
	r->next = NULL;
	r->queued = true;
	loop_timer_after(s->timer, 0);
}

void receiver_old_stop(struct receiver_old *s, struct old_reading *r)
{
	struct old_reading **at = &s->first;

	delta_signer_free(r->signer);
	r->signer = NULL;
	if (!r->queued)
		return;
	while (*at != r)
		at = &(*at)->next;
	*at = r->next;
	r->queued = false;
}

static size_t read_some(const struct old_reading *r, unsigned char *p, size_t most)
{
	size_t n = r->size - r->at < most ? (size_t)(r->size - r->at) : most, done = 0;

	while (done < n) {
		ssize_t got = pread(r->fd, p + done, n - done, (off_t)(r->at + done));

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		done += (size_t)got;
	}
	return done;
}

/* One frame of hashes. false: all are sent, or what is left can't be read (then the sender does without). */
static bool hash_some(struct receiver_old *s, struct old_reading *r)
{
	size_t n = read_some(r, s->piece, HASH_TURN);
	struct buf *out = &s->scratch;

	buf_clear(out);
	buf_add_u32(out, r->file);
	buf_add_u64(out, r->at / r->block);
	for (size_t at = 0; at < n; at += r->block)
		buf_add_u64(out, XXH3_64bits(s->piece + at, n - at < r->block ? n - at : r->block));
	r->at += n;
	if (n > 0)
		(void)tcp_stream_send(s->stream, TCP_HASHES, out->data, out->len, ZSTREAM_STORE);
	return n == HASH_TURN;
}

static void tell_end(struct receiver_old *s, const struct old_reading *r)
{
	buf_clear(&s->scratch);
	buf_add_u32(&s->scratch, r->file);
	buf_add_u64(&s->scratch, (r->at + r->block - 1) / r->block);
	(void)tcp_stream_send(s->stream, TCP_HASHES, s->scratch.data, s->scratch.len, ZSTREAM_STORE);
}

/* One frame of a signature; of a file that became shorter it is that of what there is. Out of memory it ends without
 * being one: the sender sees that. */
static bool sign_some(struct receiver_old *s, struct old_reading *r)
{
	size_t n = read_some(r, s->piece, SIGN_TURN);
	struct buf *out = &s->scratch;
	bool last;

	r->at += n;
	last = n < SIGN_TURN || r->at == r->size;
	buf_clear(out);
	buf_add_u32(out, r->file);
	buf_add_byte(out, last);
	if (!delta_sign(r->signer, s->piece, n, last, out)) {
		out->data[4] = 1;
		last = true;
	}
	(void)tcp_stream_send(s->stream, TCP_SIGNATURE, out->data, out->len, ZSTREAM_STORE);
	tcp_stream_kick(s->stream);
	return !last;
}

/* Out of memory: what was asked for ends, without being a signature. */
static void sign_nothing(struct receiver_old *s, const struct old_reading *r)
{
	buf_clear(&s->scratch);
	buf_add_u32(&s->scratch, r->file);
	buf_add_byte(&s->scratch, 1);
	(void)tcp_stream_send(s->stream, TCP_SIGNATURE, s->scratch.data, s->scratch.len, ZSTREAM_STORE);
}

static void show_life(struct receiver_old *s)
{
	int64_t now = clock_mono_ns();

	if (now - s->sent_ns < GATHER_NS)
		return;
	tcp_stream_kick(s->stream);
	s->sent_ns = now;
}

static void on_timer(void *ctx)
{
	struct receiver_old *s = ctx;
	struct old_reading *r = s->first;

	if (r == NULL)
		return;
	if (s->piece == NULL)
		s->piece = malloc(HASH_TURN);
	loop_timer_after(s->timer, 0);
	if (s->piece != NULL && (r->signer != NULL ? sign_some(s, r) : hash_some(s, r))) {
		show_life(s);
		return;
	}
	if (r->tells_end)
		tell_end(s, r);
	if (s->piece == NULL && r->signer != NULL)
		sign_nothing(s, r);
	tcp_stream_kick(s->stream);
	receiver_old_stop(s, r);
	if (s->first == NULL) {
		free(s->piece);
		s->piece = NULL;
	}
	r->done(r->ctx);
}
