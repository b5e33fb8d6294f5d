#include "transports/tcp_stream.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/frame.h"

#define QUEUE_MAX (8u * 1024 * 1024)
#define HIGH_MARK (512u * 1024)
#define LOW_MARK (128u * 1024)
#define READ_BYTES (128u * 1024)
/* What arrived and was not handed out yet, before reading stops. */
#define PLAIN_MAX (2u * ZSTREAM_PLAIN_MAX + TCP_FRAME_MAX)
/* Levels that the load chooses from, how often it may, and where it begins. */
static const int levels[] = { 0, 1, 3, 6 };
#define LEVELS (sizeof(levels) / sizeof(levels[0]))
#define LEVEL_PERIOD_NS (20 * NS_PER_MS)
#define LEVEL_BEGIN 2u
/* The head of a stored frame that is stored with it. */
#define FRONT_MAX 32u
/* Less than this in a period is no load. */
#define LEVEL_BYTES (32u * 1024)
/* So much content, and there will be more: it gets a larger window. Names and questions don't need one. */
#define CONTENT_WIDE (256u * 1024)

enum stream_state { STREAM_CONNECTING = 1, STREAM_HANDSHAKE, STREAM_OPEN, STREAM_FINISHING, STREAM_ENDED };

struct tcp_stream {
	struct loop *loop;
	struct tcp_stream_handler h;
	struct tcp_stream_limits limits;
	int fd;
	struct loop_fd *source;
	struct loop_timer *timer;  /* the deadline of the handshake, then the heartbeat */
	struct loop_timer *urgent; /* due at once: a flush, a delayed end, or what TLS has read already */
	struct tls_conn *tls;
	enum stream_state state;
	unsigned want; /* LOOP_READ, LOOP_WRITE: what TLS or connect waits for */

	struct zstream_out *pack;
	struct zstream_in *unpack;
	struct buf out; /* records, to be sent from out_at */
	size_t out_at;
	struct buf in;	  /* records */
	struct buf plain; /* frames */
	bool kicked, again, full, busy, freed, failed;
	bool held, left; /* nothing is handed out; what was read before is to be, first */
	struct err why;	 /* of the end, while `failed` waits for the loop */
	int64_t heard_ns, sent_ns;
	uint64_t bytes_out;

	size_t level_at;
	int64_t level_ns;	  /* when this period began */
	int64_t blocked_ns;	  /* time in it that the socket was full */
	int64_t blocked_since_ns; /* 0: it takes bytes */
	int64_t peer_blocked_us;  /* as the kernel counts since the beginning */
	int64_t pack_ns;	  /* time in it that went into compression */
	size_t put;		  /* bytes in it that were to be sent */
	uint64_t content;	  /* bytes so far, of what is worth compressing */
};

static void on_socket(void *ctx, int fd, unsigned events);

/* ---- the end ---- */

static void release(struct tcp_stream *s)
{
	buf_done(&s->out);
	buf_done(&s->in);
	buf_done(&s->plain);
	zstream_out_free(s->pack);
	zstream_in_free(s->unpack);
	free(s);
}

static void close_down(struct tcp_stream *s)
{
	loop_fd_remove(s->source);
	s->source = NULL;
	tls_conn_free(s->tls);
	s->tls = NULL;
	if (s->fd >= 0)
		(void)close(s->fd);
	s->fd = -1;
}

void tcp_stream_free(struct tcp_stream *s)
{
	if (s == NULL || s->freed)
		return;
	s->freed = true;
	s->state = STREAM_ENDED;
	close_down(s);
	loop_timer_remove(s->timer);
	loop_timer_remove(s->urgent);
	if (!s->busy)
		release(s);
}

/* The end is told from the timer, never from within a call of the owner's. */
static void end_soon(struct tcp_stream *s, const struct err *why)
{
	if (s->failed || s->state == STREAM_ENDED)
		return;
	s->failed = true;
	s->why = *why;
	s->state = STREAM_ENDED;
	close_down(s);
	loop_timer_stop(s->timer);
	loop_timer_after(s->urgent, 0);
}

static void fail(struct tcp_stream *s, enum err_class class, const char *why)
{
	struct err err = ERR_INIT;

	err_set(&err, class, "%s", why);
	end_soon(s, &err);
}

/* ---- compression follows the load ---- */

static bool adaptive(const struct tcp_stream *s)
{
	return s->limits.level < 0;
}

static void note_blocked(struct tcp_stream *s, bool blocked, int64_t now)
{
	if (blocked && s->blocked_since_ns == 0)
		s->blocked_since_ns = now;
	if (!blocked && s->blocked_since_ns != 0) {
		s->blocked_ns += now - s->blocked_since_ns;
		s->blocked_since_ns = 0;
	}
}

/* Time since the last call that the socket was full because the peer did not take what had arrived: that is no matter
 * of the wire. 0 where the kernel does not say. */
static int64_t peer_blocked(struct tcp_stream *s)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);
	int64_t before = s->peer_blocked_us;

	if (getsockopt(s->fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
		return 0;
	s->peer_blocked_us = (int64_t)info.tcpi_rwnd_limited;
	return (s->peer_blocked_us - before) * 1000;
}

/* While the socket was full most of the time the wire is what limits: compress harder. While it took everything and
 * compressing was a good part of the work, the processor is, or the peer: compress less, or not at all. Without load it
 * is as at the beginning: nothing waits for either. */
static void follow_load(struct tcp_stream *s, int64_t now)
{
	int64_t period = now - s->level_ns, peer, wire;

	if (!adaptive(s) || period < LEVEL_PERIOD_NS)
		return;
	if (s->blocked_since_ns != 0) {
		s->blocked_ns += now - s->blocked_since_ns;
		s->blocked_since_ns = now;
	}
	peer = peer_blocked(s);
	wire = s->blocked_ns > peer ? s->blocked_ns - peer : 0;
	if (wire * 2 > period) {
		if (s->level_at + 1 < LEVELS)
			s->level_at++;
	} else if (s->put < LEVEL_BYTES) {
		s->level_at = s->level_at < LEVEL_BEGIN ? LEVEL_BEGIN : s->level_at;
	} else if (wire * 10 < period && (s->pack_ns * 8 > period || peer * 2 > period) && s->level_at > 0) {
		s->level_at--;
	}
	zstream_set_level(s->pack, levels[s->level_at]);
	s->level_ns = now;
	s->blocked_ns = s->pack_ns = 0;
	s->put = 0;
}

/* ---- out ---- */

static size_t queued(const struct tcp_stream *s)
{
	return s->out.len - s->out_at;
}

bool tcp_stream_writable(const struct tcp_stream *s)
{
	return s->state == STREAM_OPEN && !s->full;
}

bool tcp_stream_send2(struct tcp_stream *s, uint8_t type, const void *head, size_t head_len, const void *body,
		      size_t body_len, enum zstream_how how)
{
	size_t len = head_len + body_len, front_len = FRAME_HEADER;
	unsigned char front[FRAME_HEADER + FRONT_MAX];
	enum zstream_how front_how = ZSTREAM_PACK;
	int64_t begun = how == ZSTREAM_PACK && adaptive(s) ? clock_mono_ns() : 0;

	if (s->state != STREAM_OPEN || len > TCP_FRAME_MAX)
		return false;
	for (size_t i = 0; i < 4; i++)
		front[i] = (unsigned char)(len >> (8 * i));
	front[4] = type;
	/* A little that is packed before what is stored would cost a flush. */
	if (how == ZSTREAM_STORE && head_len <= FRONT_MAX) {
		if (head_len > 0)
			memcpy(front + front_len, head, head_len);
		front_len += head_len;
		head_len = 0;
		front_how = ZSTREAM_STORE;
	}
	if (!zstream_put(s->pack, &s->out, front, front_len, front_how) ||
	    !zstream_put(s->pack, &s->out, head, head_len, ZSTREAM_PACK) ||
	    !zstream_put(s->pack, &s->out, body, body_len, how)) {
		fail(s, ERR_NOMEM, "out of memory for what is to be sent");
		return false;
	}
	s->put += len;
	s->content += how == ZSTREAM_PACK ? body_len : 0;
	if (s->content >= CONTENT_WIDE)
		zstream_widen(s->pack);
	if (begun != 0)
		s->pack_ns += clock_mono_ns() - begun;
	if (queued(s) >= HIGH_MARK) {
		s->full = true;
		tcp_stream_kick(s);
	}
	return true;
}

bool tcp_stream_send(struct tcp_stream *s, uint8_t type, const void *payload, size_t len, enum zstream_how how)
{
	return tcp_stream_send2(s, type, payload, len, NULL, 0, how);
}

bool tcp_stream_send_buf(struct tcp_stream *s, unsigned type, const struct buf *payload)
{
	if (payload->failed && s->state == STREAM_OPEN) /* the peer would wait for it */
		fail(s, ERR_NOMEM, "out of memory for what is to be sent");
	return !payload->failed && tcp_stream_send(s, (uint8_t)type, payload->data, payload->len, ZSTREAM_PACK);
}

bool tcp_stream_use_zstd(struct tcp_stream *s, unsigned window_log)
{
	if (zstream_use_zstd(s->pack, &s->out, window_log) && zstream_expect_zstd(s->unpack)) {
		if (adaptive(s))
			zstream_set_level(s->pack, levels[s->level_at]);
		return true;
	}
	fail(s, ERR_NOMEM, "out of memory for compression");
	return false;
}

static enum tls_want write_some(struct tcp_stream *s, const char *data, size_t n, size_t *done, struct err *err)
{
	ssize_t got;

	if (s->tls != NULL)
		return tls_write(s->tls, data, n, done, err);
	do
		got = send(s->fd, data, n, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	*done = got > 0 ? (size_t)got : 0;
	if (got >= 0)
		return TLS_DONE;
	if (errno == EAGAIN)
		return TLS_WANT_WRITE;
	err_errno(err, errno, "the connection");
	err->class = ERR_NETWORK;
	return TLS_FAILED;
}

static bool is_held(const struct tcp_stream *s)
{
	return s->held && s->state == STREAM_OPEN;
}

static void watch(struct tcp_stream *s)
{
	unsigned events = s->want;

	if (s->source == NULL)
		return;
	events |= s->state == STREAM_CONNECTING || is_held(s) ? 0 : LOOP_READ;
	loop_fd_set(s->source, events);
}

static void push(struct tcp_stream *s)
{
	int64_t now = clock_mono_ns();
	struct err err = ERR_INIT;

	s->want &= ~LOOP_WRITE;
	while (queued(s) > 0) {
		size_t done = 0, n = queued(s);
		enum tls_want got = write_some(s, s->out.data + s->out_at, n, &done, &err);

		if (got == TLS_FAILED || got == TLS_CLOSED) {
			end_soon(s, &err);
			return;
		}
		s->out_at += done;
		s->bytes_out += done;
		if (done > 0)
			s->sent_ns = now;
		if (got == TLS_WANT_WRITE)
			s->want |= LOOP_WRITE;
		if (got != TLS_DONE)
			break;
	}
	note_blocked(s, (s->want & LOOP_WRITE) != 0, now);
	if (queued(s) == 0) {
		buf_clear(&s->out);
		s->out_at = 0;
	} else if (s->out_at > s->out.len / 2) {
		buf_consume(&s->out, s->out_at);
		s->out_at = 0;
	}
}

static void flush(struct tcp_stream *s)
{
	if (s->state != STREAM_OPEN && s->state != STREAM_FINISHING)
		return;
	follow_load(s, clock_mono_ns());
	if (!zstream_flush(s->pack, &s->out)) {
		fail(s, ERR_NOMEM, "out of memory for what is to be sent");
		return;
	}
	s->kicked = false;
	push(s);
	watch(s);
}

void tcp_stream_kick(struct tcp_stream *s)
{
	if (s->kicked || s->state != STREAM_OPEN)
		return;
	s->kicked = true;
	if (!s->busy) /* else it is done on the way out: a timer for each would never let the loop sleep */
		loop_timer_after(s->urgent, 0);
}

void tcp_stream_flush(struct tcp_stream *s)
{
	if (s->state == STREAM_OPEN)
		flush(s);
}

/* Everything has left. */
static bool all_sent(const struct tcp_stream *s)
{
	return queued(s) == 0 && zstream_waiting(s->pack) == 0;
}

static void tell_drained(struct tcp_stream *s)
{
	if (!s->full || queued(s) > LOW_MARK || s->state != STREAM_OPEN)
		return;
	s->full = false;
	s->h.drained(s->h.ctx);
}

static void say_goodbye(struct tcp_stream *s)
{
	struct err why = ERR_INIT;

	if (s->state != STREAM_FINISHING || !all_sent(s))
		return;
	if (s->tls != NULL)
		tls_shutdown(s->tls);
	(void)shutdown(s->fd, SHUT_WR);
	err_set(&why, ERR_GONE, "ended");
	end_soon(s, &why);
}

void tcp_stream_finish(struct tcp_stream *s)
{
	if (s->state != STREAM_OPEN)
		return;
	s->state = STREAM_FINISHING;
	loop_timer_after(s->urgent, 0);
}

/* ---- in ---- */

static bool swallow(uint8_t type, size_t len)
{
	return type == TCP_FRAME_PING && len == 0;
}

static void hand_out(struct tcp_stream *s)
{
	struct err err = ERR_INIT;
	const char *payload;
	size_t len;
	uint8_t type;
	int got = 0;

	while (s->state == STREAM_OPEN && !s->held) {
		got = frame_next(&s->plain, TCP_FRAME_MAX, &type, &payload, &len);
		if (got < 0) {
			fail(s, ERR_PROTOCOL, "the peer sent a frame that is too long");
			return;
		}
		if (got > 0) {
			if (!swallow(type, len) && !s->h.frame(s->h.ctx, type, payload, len, &err)) {
				if (err.class == ERR_NONE)
					err_set(&err, ERR_PROTOCOL, "the peer sent a frame that makes no sense");
				end_soon(s, &err);
				return;
			}
			continue;
		}
		got = zstream_get(s->unpack, &s->in, &s->plain, &err);
		if (got < 0)
			end_soon(s, &err);
		if (got <= 0)
			return;
	}
}

static enum tls_want read_some(struct tcp_stream *s, size_t *done, struct err *err)
{
	char *at = s->in.data + s->in.len;
	ssize_t got;

	if (s->tls != NULL)
		return tls_read(s->tls, at, READ_BYTES, done, err);
	do
		got = recv(s->fd, at, READ_BYTES, MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	*done = got > 0 ? (size_t)got : 0;
	if (got > 0)
		return TLS_DONE;
	if (got == 0)
		return TLS_CLOSED;
	if (errno == EAGAIN)
		return TLS_WANT_READ;
	err_errno(err, errno, "the connection");
	err->class = ERR_NETWORK;
	return TLS_FAILED;
}

/* There is more that no event of the socket's tells of. */
static void read_again(struct tcp_stream *s)
{
	s->again = true;
	loop_timer_after(s->urgent, 0);
}

/* One buffer's worth; TLS hands out a record at a time and must be emptied of what it has read already. */
static void pull(struct tcp_stream *s)
{
	struct err err = ERR_INIT;
	size_t taken = 0;

	while (taken < READ_BYTES) {
		size_t done = 0;
		enum tls_want got;

		if (!buf_reserve(&s->in, READ_BYTES)) {
			fail(s, ERR_NOMEM, "out of memory for what arrives");
			return;
		}
		got = read_some(s, &done, &err);
		s->in.len += done;
		taken += done;
		if (done > 0)
			s->heard_ns = clock_mono_ns();
		if (got == TLS_WANT_WRITE)
			s->want |= LOOP_WRITE;
		if (got == TLS_CLOSED)
			err_set(&err, ERR_GONE, "the peer ended the connection");
		if (got == TLS_CLOSED || got == TLS_FAILED) {
			hand_out(s);
			end_soon(s, &err);
			return;
		}
		if (got != TLS_DONE || (s->tls == NULL && done < READ_BYTES))
			return;
	}
	if (s->tls != NULL && tls_pending(s->tls))
		read_again(s);
}

void tcp_stream_hold(struct tcp_stream *s)
{
	s->held = true;
	watch(s);
}

void tcp_stream_go_on(struct tcp_stream *s)
{
	if (!s->held)
		return;
	s->held = false;
	s->left = true;
	watch(s);
	if (s->state == STREAM_OPEN)
		read_again(s);
}

static void take_in(struct tcp_stream *s)
{
	if (s->state == STREAM_FINISHING) {
		/* What comes now is of no interest, but unread bytes would make the close a reset. */
		pull(s);
		buf_clear(&s->in);
		return;
	}
	/* Before more is read, or it would grow with each time that it is held. */
	if (s->left) {
		s->left = false;
		hand_out(s);
		if (s->freed || s->held || s->state != STREAM_OPEN)
			return;
	}
	pull(s);
	hand_out(s);
	if (!s->freed && s->state == STREAM_OPEN && s->h.idle != NULL)
		s->h.idle(s->h.ctx);
}

/* ---- beginning ---- */

static void heartbeat(struct tcp_stream *s)
{
	loop_timer_after(s->timer, s->limits.silence_ns / 3);
}

static void opened(struct tcp_stream *s)
{
	s->state = STREAM_OPEN;
	s->heard_ns = s->sent_ns = s->level_ns = clock_mono_ns();
	heartbeat(s);
	s->h.ready(s->h.ctx, s->tls == NULL ? "" : tls_peer(s->tls));
	if (!s->freed && s->tls != NULL && tls_pending(s->tls))
		read_again(s);
}

static void shake_hands(struct tcp_stream *s)
{
	struct err err = ERR_INIT;
	enum tls_want got = s->tls == NULL ? TLS_DONE : tls_handshake(s->tls, &err);

	s->want = got == TLS_WANT_WRITE ? LOOP_WRITE : 0;
	if (got == TLS_DONE) {
		opened(s);
	} else if (got == TLS_CLOSED || got == TLS_FAILED) {
		if (err.class == ERR_NONE)
			err_set(&err, ERR_NETWORK, "TLS handshake: the connection was closed");
		end_soon(s, &err);
	}
}

static void connected(struct tcp_stream *s)
{
	socklen_t len = sizeof(int);
	struct err err = ERR_INIT;
	int code = 0;

	if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &code, &len) < 0)
		code = errno;
	if (code != 0) {
		err_errno(&err, code, "cannot connect");
		err.class = ERR_NETWORK;
		end_soon(s, &err);
		return;
	}
	s->state = STREAM_HANDSHAKE;
	s->want = 0;
	shake_hands(s);
}

static void step(struct tcp_stream *s, unsigned events)
{
	if (s->state == STREAM_CONNECTING)
		connected(s);
	else if (s->state == STREAM_HANDSHAKE)
		shake_hands(s);
	else if (is_held(s) && (events & LOOP_HUP) != 0)
		fail(s, ERR_NETWORK, "the connection was lost"); /* or it would be told for ever */
	else if (!is_held(s) && (events & (LOOP_READ | LOOP_HUP)) != 0)
		take_in(s);
	if (!s->freed && (s->state == STREAM_OPEN || s->state == STREAM_FINISHING) &&
	    (s->kicked || queued(s) > 0 || s->state == STREAM_FINISHING))
		flush(s);
	if (!s->freed)
		tell_drained(s);
	if (!s->freed)
		say_goodbye(s);
	if (!s->freed)
		watch(s);
}

static void leave(struct tcp_stream *s)
{
	s->busy = false;
	if (s->freed)
		release(s);
	else if (s->kicked && s->state == STREAM_OPEN)
		loop_timer_after(s->urgent, 0);
}

static void on_socket(void *ctx, int fd, unsigned events)
{
	struct tcp_stream *s = ctx;

	(void)fd;
	s->busy = true;
	step(s, events);
	leave(s);
}

static void on_urgent(void *ctx)
{
	struct tcp_stream *s = ctx;

	s->busy = true;
	if (s->failed) {
		s->failed = false;
		s->h.ended(s->h.ctx, &s->why);
	} else {
		unsigned events = s->again ? LOOP_READ : 0;

		s->again = false;
		step(s, events);
	}
	leave(s);
}

/* Our own work may have kept us from listening. */
static bool says_something(const struct tcp_stream *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1 && (p.revents & POLLIN) != 0;
}

static void on_timer(void *ctx)
{
	struct tcp_stream *s = ctx;
	int64_t now = clock_mono_ns();

	s->busy = true;
	if (s->state < STREAM_OPEN) {
		fail(s, ERR_NETWORK,
		     s->state == STREAM_CONNECTING ? "the host did not answer in time"
						   : "TLS handshake: no answer in time");
	} else if (now - s->heard_ns > s->limits.silence_ns && !says_something(s)) {
		fail(s, ERR_NETWORK, "the peer has been silent for too long");
	} else if (s->state != STREAM_ENDED) {
		if (s->state == STREAM_OPEN && now - s->sent_ns >= s->limits.silence_ns / 4 && queued(s) == 0 &&
		    tcp_stream_send(s, TCP_FRAME_PING, NULL, 0, ZSTREAM_PACK))
			tcp_stream_kick(s);
		heartbeat(s);
	}
	leave(s);
}

static bool set_up(struct tcp_stream *s, struct tls_context *tls, struct err *err)
{
	s->level_at = LEVEL_BEGIN;
	/* Greetings are not worth the memory of a compression that may be another one behind them. */
	s->pack = zstream_out_new(adaptive(s) ? 0 : s->limits.level);
	s->unpack = zstream_in_new();
	if (tls != NULL)
		s->tls = tls_conn_new(tls, s->fd);
	if (s->pack == NULL || s->unpack == NULL || (tls != NULL && s->tls == NULL)) {
		err_set(err, ERR_NOMEM, "out of memory for a connection");
		return false;
	}
	s->source = loop_fd_add(s->loop, s->fd, LOOP_WRITE, on_socket, s, err);
	s->timer = loop_timer_add(s->loop, on_timer, s, err);
	s->urgent = loop_timer_add(s->loop, on_urgent, s, err);
	return s->source != NULL && s->timer != NULL && s->urgent != NULL;
}

struct tcp_stream *tcp_stream_new(struct loop *loop, int fd, struct tls_context *tls, const struct tcp_stream_limits *l,
				  const struct tcp_stream_handler *h, struct err *err)
{
	struct tcp_stream *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		(void)close(fd);
		err_set(err, ERR_NOMEM, "out of memory for a connection");
		return NULL;
	}
	s->loop = loop;
	s->h = *h;
	s->limits = *l;
	s->fd = fd;
	s->state = STREAM_CONNECTING;
	s->want = LOOP_WRITE;
	buf_init(&s->out, QUEUE_MAX);
	buf_init(&s->in, 2u * (ZSTREAM_HEADER + ZSTREAM_BODY_MAX) + READ_BYTES);
	buf_init(&s->plain, PLAIN_MAX);
	if (!set_up(s, tls, err)) {
		tcp_stream_free(s);
		return NULL;
	}
	if (l->announce_plain && tls == NULL)
		(void)buf_add_byte(&s->out, 'P');
	loop_timer_after(s->timer, l->handshake_ns);
	return s;
}

uint64_t tcp_stream_bytes_out(const struct tcp_stream *s)
{
	return s->bytes_out;
}

/* ---- sockets ---- */

void tcp_address_bytes(const struct sockaddr_storage *a, unsigned char out[ADDRESS_BYTES])
{
	memset(out, 0, ADDRESS_BYTES);
	if (a->ss_family == AF_INET) {
		out[10] = out[11] = 0xff;
		memcpy(out + 12, &((const struct sockaddr_in *)(const void *)a)->sin_addr, 4);
	} else if (a->ss_family == AF_INET6) {
		memcpy(out, &((const struct sockaddr_in6 *)(const void *)a)->sin6_addr, ADDRESS_BYTES);
	}
}

void tcp_stream_peer(const struct tcp_stream *s, unsigned char out[ADDRESS_BYTES])
{
	struct sockaddr_storage a = { 0 };
	socklen_t len = sizeof(a);

	(void)getpeername(s->fd, (struct sockaddr *)&a, &len);
	tcp_address_bytes(&a, out);
}

int tcp_socket_connect(const struct sockaddr_storage *a, unsigned len, int64_t timeout_ns, struct err *err)
{
	int fd = socket(a->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;
	unsigned ms = (unsigned)(timeout_ns / NS_PER_MS);

	if (fd < 0)
		return err_errno(err, errno, "socket");
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
	if (connect(fd, (const struct sockaddr *)a, len) == 0 || errno == EINPROGRESS)
		return fd;
	err_errno(err, errno, "cannot connect");
	err->class = ERR_NETWORK;
	(void)close(fd);
	return -1;
}
