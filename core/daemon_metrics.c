/*
 * What HTTP clients may see: the daemon listens, a process of its own (core/web.c) serves. It asks for a view of the
 * state while somebody looks; one view serves all who look.
 */
#include <errno.h>
#include <grp.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/daemon_private.h"
#include "core/log.h"
#include "core/policy.h"

#define BACKLOG 64
#define VIEW_MAX (WIRE_FRAME_MAX - 64u)
#define RETRY_FIRST_NS NS_PER_S
#define RETRY_LAST_NS (60 * NS_PER_S)
/* However often it asks: with hundreds of syncs a view is some milliseconds of work. */
#define VIEW_PAUSE_NS (200 * NS_PER_MS)

/* ---- views ---- */

static void make_view(struct metrics_service *m, enum wire_view view)
{
	struct buf text;
	bool ok;

	buf_init(&text, VIEW_MAX);
	ok = view == WIRE_VIEW_METRICS ? metrics_text(m->daemon, &text) : page_view(m->daemon, &text);
	/* What it was shown before it has not read yet: it will ask again. */
	if (!ok || worker_link_show(m->link, view, text.data, text.len) < 0)
		log_debug(LOG_CAT_DEBUG, "metrics: a view could not be shown");
	buf_done(&text);
}

static void on_view_timer(void *ctx)
{
	struct metrics_service *m = ctx;

	for (enum wire_view v = WIRE_VIEW_METRICS; v < WIRE_VIEWS; v++) {
		if (!m->wanted[v] || m->link == NULL || m->ended)
			continue;
		m->wanted[v] = false;
		m->made_ns = clock_mono_ns();
		make_view(m, v);
	}
}

static void on_view(void *ctx, enum wire_view view)
{
	struct metrics_service *m = ctx;
	int64_t soonest = m->made_ns + VIEW_PAUSE_NS;

	m->wanted[view] = true;
	if (!loop_timer_armed(m->view_timer))
		loop_timer_at(m->view_timer, soonest);
}

/* Also while nobody looks: the page begins with what was. */
static void on_trend(void *ctx)
{
	struct metrics_service *m = ctx;

	page_sample(m->daemon);
	if (m->listener.fd >= 0)
		loop_timer_after(m->trend_timer, TREND_NS);
}

/* ---- its process ---- */

static void on_ready(void *ctx)
{
	((struct metrics_service *)ctx)->tries = 0;
}

static void on_down(void *ctx, const struct err *why)
{
	(void)ctx;
	log_error("metrics: %s", why->text);
}

static void on_ended(void *ctx, const char *how)
{
	struct metrics_service *m = ctx;

	log_error("metrics: the process that serves them ended: %s", how);
	m->ended = true;
}

/* What it has to know of the configuration: a word a line. */
static bool put_words(struct buf *out, const struct metrics_options *o)
{
	if (o->listen[0] == '/' || o->insecure)
		buf_add_str(out, "any-host\n");
	for (size_t i = 0; i < o->hosts.n; i++)
		buf_printf(out, "host %s\n", o->hosts.v[i]);
	return !out->failed;
}

static int launch(struct metrics_service *m, struct err *err)
{
	struct daemon *d = m->daemon;
	const struct worker_events events = {
		.ready = on_ready, .down = on_down, .view = on_view, .ended = on_ended, .ctx = m
	};
	struct worker_spec spec = { .mode = "--web", .name = "metrics", .more_fd = m->listener.fd };
	struct buf words;

	buf_init(&words, 1024u * 1024);
	if (put_words(&words, d->config->metrics)) {
		spec.config = (struct wire_config){ .text = words.data,
						    .text_len = words.len,
						    .runtime_dir = "",
						    .archive_path = "",
						    .log_mask = log_mask() };
		m->link = worker_link_start(d->loop, &spec, &events, err);
	} else {
		err_set(err, ERR_NOMEM, "out of memory");
	}
	buf_done(&words);
	return m->link == NULL ? -1 : 0;
}

static void plan_retry(struct metrics_service *m)
{
	m->tries++;
	loop_timer_after(m->timer, policy_backoff_ns(m->tries, RETRY_FIRST_NS, RETRY_LAST_NS, 0));
}

static void on_timer(void *ctx)
{
	struct metrics_service *m = ctx;
	struct err err = ERR_INIT;

	if (m->link != NULL || m->listener.fd < 0 || m->daemon->stopping || launch(m, &err) == 0)
		return;
	log_error("metrics: %s", err.text);
	plan_retry(m);
}

/* ---- listening ---- */

static int open_to_group(const struct unix_listener *l, const char *group, struct err *err)
{
	char space[16384];
	struct group entry, *found = NULL;
	int code = getgrnam_r(group, &entry, space, sizeof(space), &found);

	if (found == NULL)
		return err_set(err, ERR_CONFIG, "group: %s: %s", group,
			       code == 0 ? "there is no such group" : strerror(code));
	return unix_listener_give(l, found->gr_gid, err);
}

static int listen_tcp(struct metrics_service *m, const char *text, struct err *err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV }, *list = NULL;
	const char *colon = strrchr(text, ':');
	size_t brackets = text[0] == '[' ? 1 : 0;
	char host[256];
	size_t n = (size_t)(colon - text) - 2 * brackets;
	int got, on = 1, result = 0;

	if (n >= sizeof(host))
		return err_set(err, ERR_CONFIG, "listen: the address is too long");
	memcpy(host, text + brackets, n);
	host[n] = '\0';
	if (strcmp(host, "localhost") != 0) /* no name server is asked by a loop that must not wait */
		hints.ai_flags |= AI_NUMERICHOST;
	got = getaddrinfo(host, colon + 1, &hints, &list);
	if (got != 0)
		return err_set(err, ERR_CONFIG, "listen: %s: %s", host, gai_strerror(got));
	m->listener.fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (m->listener.fd < 0)
		result = err_errno(err, errno, "listen: %s", text);
	else if (setsockopt(m->listener.fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
		 bind(m->listener.fd, list->ai_addr, list->ai_addrlen) < 0 || listen(m->listener.fd, BACKLOG) < 0)
		result = err_errno(err, errno, "listen: %s", text);
	freeaddrinfo(list);
	return result;
}

static int begin(struct metrics_service *m, struct err *err)
{
	const struct metrics_options *o = m->daemon->config->metrics;
	struct err why = ERR_INIT;
	int result;

	if (o->listen[0] != '/')
		result = listen_tcp(m, o->listen, &why);
	else
		result = unix_listen(&m->listener, o->listen, BACKLOG, &why);
	if (result == 0 && o->group != NULL)
		result = open_to_group(&m->listener, o->group, &why);
	if (result == 0)
		result = launch(m, &why);
	if (result == 0) {
		log_normal("metrics: listening on %s", o->listen);
		loop_timer_after(m->trend_timer, 0);
	} else {
		unix_listener_done(&m->listener);
	}
	return result == 0 ? 0 : err_set(err, why.class, "metrics: %s", why.text);
}

/* ---- its life ---- */

int metrics_start(struct daemon *d, struct err *err)
{
	struct metrics_service *m = &d->metrics;

	*m = (struct metrics_service){ .daemon = d, .listener = UNIX_LISTENER_INIT };
	m->timer = loop_timer_add(d->loop, on_timer, m, err);
	m->view_timer = loop_timer_add(d->loop, on_view_timer, m, err);
	m->trend_timer = loop_timer_add(d->loop, on_trend, m, err);
	if (m->timer == NULL || m->view_timer == NULL || m->trend_timer == NULL)
		return -1;
	return d->config->metrics == NULL ? 0 : begin(m, err);
}

static void drop_process(struct metrics_service *m)
{
	worker_link_free(m->link);
	m->link = NULL;
	m->ended = false;
	memset(m->wanted, 0, sizeof(m->wanted));
}

void metrics_poll(struct daemon *d)
{
	struct metrics_service *m = &d->metrics;

	if (!m->ended)
		return;
	drop_process(m);
	if (!d->stopping)
		plan_retry(m);
}

void metrics_reload(struct daemon *d, bool changed)
{
	struct metrics_service *m = &d->metrics;
	struct err err = ERR_INIT;

	if (m->timer == NULL || !changed) {
		if (m->link != NULL && !m->ended)
			(void)worker_link_set_log_mask(m->link, log_mask());
		return;
	}
	drop_process(m);
	loop_timer_stop(m->timer);
	unix_listener_done(&m->listener);
	m->tries = 0;
	if (d->config->metrics != NULL && begin(m, &err) < 0)
		log_error("reload: %s", err.text);
}

void metrics_end(struct daemon *d)
{
	struct metrics_service *m = &d->metrics;

	if (m->timer == NULL)
		return;
	drop_process(m);
	loop_timer_remove(m->timer);
	loop_timer_remove(m->view_timer);
	loop_timer_remove(m->trend_timer);
	unix_listener_done(&m->listener);
	*m = (struct metrics_service){ .daemon = d, .listener = UNIX_LISTENER_INIT };
}
