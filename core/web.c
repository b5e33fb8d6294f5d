#include "core/web.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/frame.h"
#include "core/log.h"
#include "core/web_private.h"

#define READ_BYTES (256u * 1024)

/* ---- to the daemon ---- */

static void flush_out(struct web *w)
{
	while (w->out.len > 0) {
		ssize_t n = send(w->fd, w->out.data, w->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			if (errno != EAGAIN)
				loop_stop(w->loop, 0);
			break;
		}
		buf_consume(&w->out, (size_t)n);
	}
	loop_fd_set(w->source, w->out.len > 0 ? LOOP_READ | LOOP_WRITE : LOOP_READ);
}

static void log_sink(void *ctx, enum log_category cat, const char *text, size_t len)
{
	struct web *w = ctx;

	(void)wire_put_log(&w->out, (uint32_t)cat, text, len); /* a lost line is no reason to stop */
}

void web_ask(struct web *w, enum wire_view view)
{
	if (w->asked[view] || !wire_put_view(&w->out, view, "", 0))
		return;
	w->asked[view] = true;
}

/* ---- from the daemon ---- */

static int take_words(struct web *w, const char *text, size_t len)
{
	while (len > 0) {
		const char *end = memchr(text, '\n', len);
		size_t n = end == NULL ? len : (size_t)(end - text);

		if (n == 8 && memcmp(text, "any-host", n) == 0)
			w->any_host = true;
		if (n > 5 && memcmp(text, "host ", 5) == 0 && w->n_hosts < WEB_HOSTS_MAX) {
			w->hosts[w->n_hosts] = strndup(text + 5, n - 5);
			if (w->hosts[w->n_hosts] == NULL)
				return -1;
			w->n_hosts++;
		}
		if (end == NULL)
			break;
		text += n + 1;
		len -= n + 1;
	}
	return 0;
}

/* Confined before the first byte of a client is read: the first one is accepted after this. */
static int take_config(struct web *w, const char *payload, size_t len, struct err *err)
{
	struct wire_config c;

	if (w->ready || !wire_get_config(payload, len, &c))
		return err_set(err, ERR_PROTOCOL, "malformed configuration message");
	log_set_mask(c.log_mask);
	if (take_words(w, c.text, c.text_len) < 0)
		return err_set(err, ERR_NOMEM, "out of memory");
	if (web_http_start(w, w->fd + 1, err) < 0)
		return -1;
	return web_confine(err);
}

static void on_config(struct web *w, const char *payload, size_t len)
{
	struct err err = ERR_INIT;

	if (take_config(w, payload, len, &err) < 0) {
		(void)wire_put_down(&w->out, &err);
		flush_out(w);
		loop_stop(w->loop, 1);
		return;
	}
	w->ready = true;
	(void)wire_put_empty(&w->out, WIRE_READY);
}

static void on_frame(struct web *w, uint8_t type, const char *payload, size_t len)
{
	uint32_t number;
	const char *text;
	size_t n;

	if (type == WIRE_CONFIG) {
		on_config(w, payload, len);
	} else if (type == WIRE_LOG_MASK && wire_get_u32(payload, len, &number)) {
		log_set_mask(number);
	} else if (type == WIRE_VIEW && w->ready && wire_get_view(payload, len, &number, &text, &n)) {
		w->asked[number] = false;
		web_http_shown(w, (enum wire_view)number, text, n);
	} else {
		loop_stop(w->loop, 1);
	}
}

static void on_socket(void *ctx, int fd, unsigned events)
{
	struct web *w = ctx;
	const char *payload;
	size_t len;
	uint8_t type;
	ssize_t n;

	if ((events & LOOP_WRITE) != 0)
		flush_out(w);
	if ((events & (LOOP_READ | LOOP_HUP)) == 0)
		return;
	if (!buf_reserve(&w->in, READ_BYTES)) {
		loop_stop(w->loop, 1);
		return;
	}
	n = recv(fd, w->in.data + w->in.len, READ_BYTES, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) { /* it is gone, and we with it */
		loop_stop(w->loop, 0);
		return;
	}
	w->in.len += (size_t)n;
	for (;;) {
		int got = frame_next(&w->in, WIRE_FRAME_MAX, &type, &payload, &len);

		if (got < 0)
			loop_stop(w->loop, 1);
		if (got <= 0)
			return;
		on_frame(w, type, payload, len);
	}
}

/* ---- its life ---- */

static void on_tick(void *ctx)
{
	struct web *w = ctx;

	web_http_tick(w, clock_mono_ns());
	if (w->conns != NULL)
		loop_timer_after(w->tick, WEB_TICK_NS);
}

/* What the last round left for the daemon, and when the server has to be called without an event. */
static void before_wait(void *ctx)
{
	struct web *w = ctx;
	MHD_UNSIGNED_LONG_LONG ms;

	if (w->out.len > 0)
		flush_out(w);
	if (w->http == NULL)
		return;
	if (w->closed)
		loop_timer_after(w->http_timer, 0);
	else if (MHD_get_timeout(w->http, &ms) == MHD_YES)
		loop_timer_after(w->http_timer, (int64_t)ms * NS_PER_MS);
}

static void on_http_timer(void *ctx)
{
	struct web *w = ctx;

	w->closed = false;
	(void)MHD_run(w->http);
}

static int set_up(struct web *w, struct err *err)
{
	w->loop = loop_new(err);
	if (w->loop == NULL)
		return -1;
	w->source = loop_fd_add(w->loop, w->fd, LOOP_READ, on_socket, w, err);
	w->http_timer = loop_timer_add(w->loop, on_http_timer, w, err);
	w->tick = loop_timer_add(w->loop, on_tick, w, err);
	if (w->source == NULL || w->http_timer == NULL || w->tick == NULL)
		return -1;
	loop_before_wait(w->loop, before_wait, w);
	return 0;
}

int web_run(int fd, int listen_fd)
{
	struct web *w = listen_fd != fd + 1 ? NULL : calloc(1, sizeof(*w));
	struct err err = ERR_INIT;
	int result;

	if (w == NULL)
		return 1;
	(void)signal(SIGPIPE, SIG_IGN);
	w->fd = fd;
	buf_init(&w->in, WIRE_FRAME_MAX + 2 * READ_BYTES);
	buf_init(&w->out, 1024u * 1024);
	log_set_sink(log_sink, w);
	result = set_up(w, &err) < 0 ? 1 : loop_run(w->loop, &err);
	log_set_sink(NULL, NULL);
	web_http_stop(w);
	if (w->loop != NULL)
		loop_free(w->loop);
	for (size_t i = 0; i < w->n_hosts; i++)
		free(w->hosts[i]);
	buf_done(&w->in);
	buf_done(&w->out);
	free(w);
	return result < 0 ? 1 : result;
}
