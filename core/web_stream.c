/*
 * Clients that are kept up to date, by server-sent events: one for the daemon, one for the names of the syncs, one for
 * each sync that differs from what this client was sent. A client that does not keep up misses states in between, no
 * more.
 */
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/web_private.h"

/* What one message may hold: all syncs, with the words around them. */
#define MESSAGE_MAX (2u * WIRE_FRAME_MAX)
#define BLOCK_BYTES (8u * 1024)
#define PAGE_NS NS_PER_S

struct web_stream {
	struct web *web;
	struct web_stream *next, **at;
	struct MHD_Connection *http;
	struct buf out;
	uint64_t *seen; /* a hash a line; 0: nothing was sent of it */
	size_t n_seen;
	bool suspended;
};

static uint64_t hash_of(const char *p, size_t len)
{
	uint64_t h = 14695981039346656037u;

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)p[i]) * 1099511628211u;
	return h == 0 ? 1 : h;
}

static void put_event(struct buf *out, const char *name, const char *line, size_t len)
{
	buf_printf(out, "event: %s\ndata: ", name);
	buf_add(out, line, len);
	buf_add_str(out, "\n\n");
}

/* Room for one hash a line, all unknown. */
static bool forget(struct web_stream *s, size_t lines)
{
	uint64_t *seen = calloc(lines + 1, sizeof(*seen));

	if (seen == NULL)
		return false;
	free(s->seen);
	s->seen = seen;
	s->n_seen = lines;
	return true;
}

static size_t count_lines(const char *text, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
		n += text[i] == '\n' ? 1 : 0;
	return n;
}

/* Append what this client has not seen. The second line tells what the others are: when it changes, all are new. */
static void compose(struct web_stream *s, const char *text, size_t len)
{
	size_t lines = count_lines(text, len);

	if (s->n_seen != lines && !forget(s, lines))
		return;
	for (size_t i = 0; i < lines; i++) {
		const char *end = memchr(text, '\n', len);
		size_t n = (size_t)(end - text);
		uint64_t h = hash_of(text, n);

		if (i == 1 && s->seen[1] != 0 && s->seen[1] != h && !forget(s, lines))
			return;
		if (s->seen[i] != h)
			put_event(&s->out, i == 0 ? "daemon" : i == 1 ? "order" : "sync", text, n);
		s->seen[i] = h;
		text = end + 1;
		len -= n + 1;
	}
	put_event(&s->out, "done", "{}", 2);
	if (s->out.failed) { /* half of it is worth nothing */
		buf_clear(&s->out);
		(void)forget(s, lines);
	}
}

static void resume(struct web_stream *s)
{
	struct web_conn *c = web_conn_of(s->http);

	if (c != NULL)
		c->deadline_ns = clock_mono_ns() + WEB_ANSWER_NS; /* it must have been taken by then */
	if (s->suspended) {
		s->suspended = false;
		MHD_resume_connection(s->http);
	}
}

void web_stream_shown(struct web *w, const char *text, size_t len)
{
	for (struct web_stream *s = w->streams; s != NULL; s = s->next) {
		if (s->out.len > 0)
			continue;
		compose(s, text, len);
		if (s->out.len > 0)
			resume(s);
	}
}

void web_stream_tick(struct web *w, int64_t now)
{
	if (w->streams == NULL || now - w->asked_page_ns < PAGE_NS - PAGE_NS / 10)
		return;
	if (now - w->asked_page_ns > WEB_VIEW_NS)
		w->asked[WIRE_VIEW_PAGE] = false; /* perhaps it is heard this time */
	if (w->asked[WIRE_VIEW_PAGE])
		return;
	w->asked_page_ns = now;
	web_ask(w, WIRE_VIEW_PAGE);
}

void web_stream_end(struct web *w)
{
	for (struct web_stream *s = w->streams; s != NULL; s = s->next)
		resume(s);
}

/* ---- the server's callbacks ---- */

static ssize_t on_read(void *ctx, uint64_t position, char *out, size_t max)
{
	struct web_stream *s = ctx;
	struct web_conn *c = web_conn_of(s->http);
	size_t n = s->out.len < max ? s->out.len : max;

	(void)position;
	if (n == 0) { /* all is taken: there is no hurry until there is more */
		if (c != NULL)
			c->deadline_ns = INT64_MAX;
		s->suspended = true;
		MHD_suspend_connection(s->http);
		return 0;
	}
	memcpy(out, s->out.data, n);
	buf_consume(&s->out, n);
	return (ssize_t)n;
}

static void on_free(void *ctx)
{
	struct web_stream *s = ctx;

	*s->at = s->next;
	if (s->next != NULL)
		s->next->at = s->at;
	s->web->n_streams--;
	buf_done(&s->out);
	free(s->seen);
	free(s);
}

enum MHD_Result web_stream_start(struct web *w, struct MHD_Connection *http)
{
	struct web_stream *s;
	struct MHD_Response *r;

	if (w->n_streams >= WEB_STREAMS_MAX)
		return web_say(http, MHD_HTTP_SERVICE_UNAVAILABLE, "too many look already\n");
	s = calloc(1, sizeof(*s));
	if (s == NULL)
		return MHD_NO;
	s->web = w;
	s->http = http;
	buf_init(&s->out, MESSAGE_MAX);
	r = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_BYTES, on_read, s, on_free);
	if (r == NULL) {
		free(s);
		return MHD_NO;
	}
	s->next = w->streams;
	s->at = &w->streams;
	if (s->next != NULL)
		s->next->at = &s->next;
	w->streams = s;
	w->n_streams++;
	buf_add_str(&s->out, "retry: 2000\n\n");
	web_add_manners(r, "text/event-stream");
	w->asked_page_ns = clock_mono_ns();
	web_ask(w, WIRE_VIEW_PAGE);
	return web_answer(http, MHD_HTTP_OK, r);
}
