#include "transports/sftp_client.h"

#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"

#define SLOT_BITS 12u
#define SLOTS (1u << SLOT_BITS)
#define OUT_MAX (64u * 1024 * 1024)
#define IN_MAX (2u * SFTP_PACKET_MAX)
/* Without limits@openssh.com: what the draft asks every server to take. */
#define SAFE_PACKET 34000u
#define SAFE_DATA 32768u
#define SAFE_HANDLES 64u
/* About what one packet of the connection holds. */
#define GATHER (32u * 1024)
/* An answer that takes no longer comes from next door; each nanosecond more is a byte more on its way. */
#define NEAR_NS (NS_PER_MS / 3)
/* Silence of a server whose host answers: its disk may be slow. */
#define PATIENCE 4

struct slot {
	sftp_reply_fn *fn; /* NULL: free */
	void *ctx;
	uint32_t id;
	uint32_t bytes;
};

struct sftp_client {
	struct sftp_client_events events;
	const struct sftp_stream_kind *kind;
	struct sftp_stream *stream;
	struct loop_timer *timer, *soon;
	int64_t timeout_ns, heard_ns, answered_ns;
	struct buf out, in;
	size_t out_at;	   /* what was written of out */
	size_t request_at; /* where the request that is being put together begins */
	struct slot slots[SLOTS];
	uint32_t free_slots[SLOTS], n_free, generation;
	size_t pending, pending_bytes, window;
	uint32_t asked; /* the request that found an idle server, at asked_ns, while `asking` */
	int64_t asked_ns, quickest_ns;
	unsigned extensions;
	struct sftp_limits limits;
	struct err why; /* it is broken */
	bool greeted, ready, broken, full, reading, asking;
};

static void break_with(struct sftp_client *c, const struct err *why)
{
	if (c->broken)
		return;
	c->broken = true;
	c->why = *why;
	loop_timer_stop(c->timer);
	loop_timer_after(c->soon, 0); /* not from within a reply's callback */
}

static void break_protocol(struct sftp_client *c, const char *what)
{
	struct err err = ERR_INIT;

	err_set(&err, ERR_PROTOCOL, "the SFTP server %s", what);
	break_with(c, &err);
}

void sftp_client_malformed(struct sftp_client *c)
{
	break_protocol(c, "sent a malformed reply");
}

/* ---- requests ---- */

bool sftp_client_ready(const struct sftp_client *c)
{
	return c != NULL && c->ready && !c->broken;
}

bool sftp_client_room(const struct sftp_client *c)
{
	return c->ready && !c->broken && c->pending < SFTP_WINDOW_REQUESTS && c->pending_bytes < c->window;
}

unsigned sftp_client_extensions(const struct sftp_client *c)
{
	return c->extensions;
}

const struct sftp_limits *sftp_client_limits(const struct sftp_client *c)
{
	return &c->limits;
}

static void write_out(struct sftp_client *c)
{
	while (!c->broken && c->out_at < c->out.len) {
		size_t n = c->kind->write(c->stream, c->out.data + c->out_at, c->out.len - c->out_at);

		c->out_at += n;
		if (n == 0)
			break;
	}
	/* What is left moves to the front when it is the smaller part: each byte moves once at most. */
	if (c->out_at == c->out.len) {
		buf_clear(&c->out);
		c->out_at = 0;
	} else if (c->out_at > c->out.len / 2) {
		buf_consume(&c->out, c->out_at);
		c->out_at = 0;
	}
}

struct buf *sftp_client_begin(struct sftp_client *c, sftp_reply_fn *fn, void *ctx, uint32_t *id)
{
	uint32_t n;

	if (c->broken || c->n_free == 0)
		return NULL;
	n = c->free_slots[--c->n_free];
	/* A late or invented reply to an old request must not be taken for one of the new. */
	*id = n | c->generation++ << SLOT_BITS;
	c->slots[n] = (struct slot){ .fn = fn, .ctx = ctx, .id = *id };
	c->request_at = c->out.len;
	return &c->out;
}

static void release(struct sftp_client *c, struct slot *s)
{
	c->pending_bytes -= s->bytes;
	s->fn = NULL;
	c->free_slots[c->n_free++] = s->id & (SLOTS - 1);
}

bool sftp_client_end(struct sftp_client *c, uint32_t id)
{
	struct slot *s = &c->slots[id & (SLOTS - 1)];

	if (c->out.failed) {
		c->out.failed = false; /* the codec has taken back what was not whole */
		release(c, s);
		return false;
	}
	s->bytes = (uint32_t)(c->out.len - c->request_at);
	c->pending_bytes += s->bytes;
	if (c->pending++ == 0) {
		c->answered_ns = c->heard_ns = c->asked_ns = clock_mono_ns();
		c->asked = id;
		c->asking = true;
	}
	if (!loop_timer_armed(c->timer))
		loop_timer_after(c->timer, c->timeout_ns / 4);
	c->full = c->full || !sftp_client_room(c);
	/* Requests gather and leave together: small ones share a packet of the connection. */
	if (c->out.len - c->out_at >= GATHER)
		write_out(c);
	else if (!c->reading && !loop_timer_armed(c->soon))
		loop_timer_after(c->soon, 0);
	return true;
}

void sftp_client_flush(struct sftp_client *c)
{
	if (c->broken || c->reading)
		return;
	loop_timer_stop(c->soon);
	write_out(c);
}

static void on_soon(void *ctx)
{
	struct sftp_client *c = ctx;

	if (c->broken)
		c->events.broken(c->events.ctx, &c->why);
	else
		write_out(c);
}

/* ---- replies ---- */

static void greet(struct sftp_client *c)
{
	c->ready = true;
	log_debug(LOG_CAT_EXEC,
		  "sftp: packets of %llu bytes, reads of %llu, writes of %llu, %llu handles, extensions %#x",
		  (unsigned long long)c->limits.packet, (unsigned long long)c->limits.read,
		  (unsigned long long)c->limits.write, (unsigned long long)c->limits.handles, c->extensions);
	c->events.ready(c->events.ctx);
}

static uint64_t bounded(uint64_t said, uint64_t safe, uint64_t most)
{
	if (said == 0)
		return safe;
	return said < most ? said : most;
}

static void on_limits(void *ctx, struct sftp_packet *reply)
{
	struct sftp_client *c = ctx;
	struct sftp_limits said;

	if (sftp_get_limits(reply, &said)) {
		c->limits.packet = bounded(said.packet, SAFE_PACKET, SFTP_PACKET_MAX);
		c->limits.read = bounded(said.read, SAFE_DATA, SFTP_DATA_MAX);
		c->limits.write = bounded(said.write, SAFE_DATA, SFTP_DATA_MAX);
		c->limits.handles = bounded(said.handles, SAFE_HANDLES, SLOTS);
	} else if (reply->type != SFTP_STATUS) {
		sftp_client_malformed(c);
		return;
	}
	greet(c);
}

static void take_version(struct sftp_client *c, struct sftp_packet *p)
{
	struct sftp_version v;
	struct buf *out;
	uint32_t id;

	if (!sftp_get_version(p, &v)) {
		break_protocol(c, "did not answer with its version");
		return;
	}
	if (v.version != SFTP_VERSION_OURS) {
		break_protocol(c, "speaks another version of the protocol than 3");
		return;
	}
	c->greeted = true;
	c->extensions = v.extensions;
	if ((v.extensions & SFTP_EXT_LIMITS) == 0) {
		greet(c);
		return;
	}
	out = sftp_client_begin(c, on_limits, c, &id);
	if (out != NULL) {
		sftp_put_ext(out, id, sftp_extension_name(SFTP_EXT_LIMITS));
		(void)sftp_client_end(c, id);
	}
}

/* What is asked next waits for it: only an idle server shows how far away it is. */
static void learn_distance(struct sftp_client *c)
{
	int64_t took = clock_mono_ns() - c->asked_ns, far;

	c->asking = false;
	if (c->quickest_ns != 0 && took >= c->quickest_ns)
		return;
	c->quickest_ns = took > 0 ? took : 1;
	far = took > NEAR_NS ? took - NEAR_NS : 0;
	c->window = far < (int64_t)(SFTP_WINDOW_BYTES - SFTP_WINDOW_BYTES_NEAR) ? SFTP_WINDOW_BYTES_NEAR + (size_t)far
										: SFTP_WINDOW_BYTES;
}

static void take_reply(struct sftp_client *c, struct sftp_packet *p)
{
	struct slot *s = &c->slots[p->id & (SLOTS - 1)];
	sftp_reply_fn *fn = s->fn;
	void *ctx = s->ctx;

	if (!c->greeted) {
		take_version(c, p);
		return;
	}
	if (fn == NULL || s->id != p->id || p->type < SFTP_STATUS) {
		break_protocol(c, "answered a request that was not made");
		return;
	}
	release(c, s);
	c->pending--;
	if (c->asking && p->id == c->asked)
		learn_distance(c);
	fn(ctx, p);
}

/* Whatever a login script printed stands before the first packet and looks like a very long one. */
static void break_garbled(struct sftp_client *c, const char *data, size_t n)
{
	struct err err = ERR_INIT;
	char said[160];

	if (c->greeted) {
		sftp_client_malformed(c);
		return;
	}
	log_escape(said, sizeof(said), data, n < 120 ? n : 120);
	err_set(&err, ERR_PROTOCOL,
		"what answers there is no SFTP server, or its login script prints something: it began with \"%s\"",
		said);
	break_with(c, &err);
}

static void take_packets(struct sftp_client *c)
{
	size_t at = 0;

	c->reading = true;
	while (!c->broken) {
		struct sftp_packet p;
		long n = sftp_packet(c->in.data + at, c->in.len - at, &p);

		if (n < 0)
			break_garbled(c, c->in.data + at, c->in.len - at);
		if (n <= 0)
			break;
		at += (size_t)n;
		take_reply(c, &p);
	}
	c->reading = false;
	buf_consume(&c->in, at);
}

static void tell_room(struct sftp_client *c)
{
	if (!c->full || !sftp_client_room(c))
		return;
	c->full = false;
	c->events.room(c->events.ctx);
}

static void on_came(void *ctx, const char *data, size_t n)
{
	struct sftp_client *c = ctx;

	if (c->broken)
		return;
	c->heard_ns = c->answered_ns = clock_mono_ns();
	while (n > 0 && !c->broken) {
		size_t part = n < SFTP_PACKET_MAX ? n : SFTP_PACKET_MAX;

		if (!buf_add(&c->in, data, part)) {
			break_protocol(c, "sent more than there is memory for");
			return;
		}
		data += part;
		n -= part;
		take_packets(c);
	}
	if (c->broken)
		return;
	tell_room(c);
	write_out(c);
}

/* ---- the stream ---- */

static void on_opened(void *ctx)
{
	struct sftp_client *c = ctx;

	sftp_put_init(&c->out);
	c->heard_ns = c->answered_ns = clock_mono_ns();
	loop_timer_after(c->timer, c->timeout_ns / 4);
	write_out(c);
}

static void on_writable(void *ctx)
{
	write_out(ctx);
}

static void on_alive(void *ctx)
{
	((struct sftp_client *)ctx)->heard_ns = clock_mono_ns();
}

static void on_ended(void *ctx, const struct err *why)
{
	break_with(ctx, why);
}

static void on_timer(void *ctx)
{
	struct sftp_client *c = ctx;
	int64_t now = clock_mono_ns();
	struct err err = ERR_INIT;

	if (c->broken || (c->greeted && c->pending == 0))
		return;
	if (now - c->heard_ns >= c->timeout_ns || now - c->answered_ns >= PATIENCE * c->timeout_ns) {
		err_set(&err, ERR_NETWORK, "no answer from the SFTP server for %lld s",
			(long long)((now - c->answered_ns) / NS_PER_S));
		break_with(c, &err);
		return;
	}
	loop_timer_after(c->timer, c->timeout_ns / 4);
}

/* ---- life ---- */

void sftp_client_abandon(struct sftp_client *c)
{
	if (c == NULL)
		return;
	c->broken = true;
	loop_timer_stop(c->timer);
	loop_timer_stop(c->soon);
}

void sftp_client_close(struct sftp_client *c)
{
	if (c == NULL)
		return;
	if (c->stream != NULL)
		c->kind->close(c->stream);
	loop_timer_remove(c->timer);
	loop_timer_remove(c->soon);
	buf_done(&c->out);
	buf_done(&c->in);
	free(c);
}

struct sftp_client *sftp_client_open(const struct sftp_client_spec *spec, const struct sftp_client_events *events,
				     struct err *err)
{
	struct sftp_client *c = calloc(1, sizeof(*c));
	struct sftp_stream_events from = {
		.opened = on_opened, .came = on_came, .writable = on_writable, .alive = on_alive, .ended = on_ended
	};

	if (c == NULL) {
		err_set(err, ERR_NOMEM, "out of memory for an SFTP connection");
		return NULL;
	}
	from.ctx = c;
	from.lookups = spec->lookups;
	from.account = spec->account;
	c->events = *events;
	c->kind = spec->kind;
	c->timeout_ns = spec->opt->ssh.timeout_ns;
	c->window = SFTP_WINDOW_BYTES;
	c->limits = (struct sftp_limits){ SAFE_PACKET, SAFE_DATA, SAFE_DATA, SAFE_HANDLES };
	buf_init(&c->out, OUT_MAX);
	buf_init(&c->in, IN_MAX);
	while (c->n_free < SLOTS) {
		c->free_slots[c->n_free] = SLOTS - 1 - c->n_free;
		c->n_free++;
	}
	c->timer = loop_timer_add(spec->loop, on_timer, c, err);
	c->soon = c->timer == NULL ? NULL : loop_timer_add(spec->loop, on_soon, c, err);
	c->stream = c->soon == NULL ? NULL : spec->kind->open(spec->loop, spec->opt, &from, err);
	if (c->stream == NULL) {
		sftp_client_close(c);
		return NULL;
	}
	return c;
}
