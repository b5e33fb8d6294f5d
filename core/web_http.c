/* Requests: who asks, for what, and when patience ends. libmicrohttpd parses them. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/web_private.h"

#define HOST_BYTES 256u

static const char metrics_type[] = "text/plain; version=0.0.4; charset=utf-8";

/* ---- hosts ---- */

static bool is_ipv4(const char *host)
{
	struct in_addr a;

	return inet_pton(AF_INET, host, &a) == 1;
}

bool web_host_ok(const struct web *w, const char *host)
{
	char name[HOST_BYTES];
	size_t n;

	if (w->any_host || host == NULL || host[0] == '[') /* an address is nobody's name */
		return true;
	n = strcspn(host, ":");
	if (n >= sizeof(name))
		return false;
	memcpy(name, host, n);
	name[n] = '\0';
	if (is_ipv4(name) || strcasecmp(name, "localhost") == 0)
		return true;
	for (size_t i = 0; i < w->n_hosts; i++)
		if (strcasecmp(name, w->hosts[i]) == 0)
			return true;
	return false;
}

/* ---- answers ---- */

static void add_header(struct MHD_Response *r, const char *name, const char *value)
{
	if (r != NULL)
		(void)MHD_add_response_header(r, name, value);
}

void web_add_manners(struct MHD_Response *r, const char *type)
{
	add_header(r, "Content-Type", type);
	add_header(r, "Cache-Control", "no-store");
	add_header(r, "X-Content-Type-Options", "nosniff");
	add_header(r, "Cross-Origin-Resource-Policy", "same-origin");
	add_header(r, "Referrer-Policy", "no-referrer");
}

struct web_conn *web_conn_of(struct MHD_Connection *http)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(http, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return info == NULL ? NULL : info->socket_context;
}

static enum MHD_Result queue(struct MHD_Connection *http, unsigned status, struct MHD_Response *r)
{
	struct web_conn *c = web_conn_of(http);

	if (c != NULL)
		c->deadline_ns = clock_mono_ns() + WEB_ANSWER_NS;
	return r == NULL ? MHD_NO : MHD_queue_response(http, status, r);
}

enum MHD_Result web_answer(struct MHD_Connection *http, unsigned status, struct MHD_Response *r)
{
	enum MHD_Result result = queue(http, status, r);

	if (r != NULL)
		MHD_destroy_response(r);
	return result;
}

enum MHD_Result web_say(struct MHD_Connection *http, unsigned status, const char *text)
{
	struct MHD_Response *r =
		MHD_create_response_from_buffer(strlen(text), (void *)(uintptr_t)text, MHD_RESPMEM_PERSISTENT);

	web_add_manners(r, "text/plain; charset=utf-8");
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		add_header(r, "Allow", "GET, HEAD");
	return web_answer(http, status, r);
}

/* ---- requests that wait for a view ---- */

static void wait_for(struct web_request *rq, enum wire_view view)
{
	struct web *w = rq->web;

	rq->view = view;
	rq->deadline_ns = clock_mono_ns() + WEB_VIEW_NS;
	rq->next = w->waiting;
	rq->at = &w->waiting;
	if (rq->next != NULL)
		rq->next->at = &rq->next;
	w->waiting = rq;
	MHD_suspend_connection(rq->http);
	web_ask(w, view);
}

static void stop_waiting(struct web_request *rq)
{
	if (rq->at == NULL)
		return;
	*rq->at = rq->next;
	if (rq->next != NULL)
		rq->next->at = rq->at;
	rq->at = NULL;
}

static void wake(struct web_request *rq, bool failed)
{
	stop_waiting(rq);
	rq->answered = !failed;
	rq->failed = failed;
	MHD_resume_connection(rq->http);
}

void web_http_shown(struct web *w, enum wire_view view, const char *text, size_t len)
{
	struct web_request *rq, *next;

	if (view == WIRE_VIEW_PAGE)
		web_stream_shown(w, text, len);
	if (view == WIRE_VIEW_METRICS) {
		if (w->shown_metrics != NULL)
			MHD_destroy_response(w->shown_metrics);
		w->shown_metrics = MHD_create_response_from_buffer(len, (void *)(uintptr_t)text, MHD_RESPMEM_MUST_COPY);
		web_add_manners(w->shown_metrics, metrics_type);
	}
	for (rq = w->waiting; rq != NULL; rq = next) {
		next = rq->next;
		if (rq->view == view)
			wake(rq, false);
	}
	(void)MHD_run(w->http);
}

/* ---- the server's callbacks ---- */

static enum MHD_Result serve_metrics(struct web_request *rq)
{
	if (rq->failed)
		return web_say(rq->http, MHD_HTTP_SERVICE_UNAVAILABLE, "the daemon is busy\n");
	if (rq->answered)
		return queue(rq->http, MHD_HTTP_OK, rq->web->shown_metrics);
	wait_for(rq, WIRE_VIEW_METRICS);
	return MHD_YES;
}

static enum MHD_Result answer(struct web_request *rq, const char *url, const char *method)
{
	const struct web_asset *asset;
	const char *host = MHD_lookup_connection_value(rq->http, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST);

	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return web_say(rq->http, MHD_HTTP_METHOD_NOT_ALLOWED, "there is nothing to do here but to look\n");
	if (!web_host_ok(rq->web, host))
		return web_say(rq->http, MHD_HTTP_MISDIRECTED_REQUEST,
			       "this host is not known by that name: see metrics.hosts in fansyncd.conf(5)\n");
	if (strcmp(url, "/metrics") == 0)
		return serve_metrics(rq);
	if (strcmp(url, "/events") == 0)
		return web_stream_start(rq->web, rq->http);
	asset = web_asset_find(url);
	if (asset != NULL)
		return web_answer(rq->http, MHD_HTTP_OK, web_asset_response(asset));
	return web_say(rq->http, MHD_HTTP_NOT_FOUND, "there is a page at / and there are numbers at /metrics\n");
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *http, const char *url, const char *method,
				  const char *version, const char *body, size_t *body_len, void **request)
{
	struct web_request *rq = *request;

	(void)version;
	(void)body;
	if (rq == NULL) {
		rq = calloc(1, sizeof(*rq));
		if (rq == NULL)
			return MHD_NO;
		rq->web = ctx;
		rq->http = http;
		*request = rq;
		/* Nobody needs a body: whoever sends one is answered before it is read, and cut. */
		if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
			return answer(rq, url, method);
		return MHD_YES;
	}
	if (*body_len > 0)
		return MHD_NO;
	return answer(rq, url, method);
}

static void on_completed(void *ctx, struct MHD_Connection *http, void **request, enum MHD_RequestTerminationCode how)
{
	struct web_request *rq = *request;
	struct web_conn *c = web_conn_of(http);

	(void)ctx;
	(void)how;
	if (rq == NULL)
		return;
	stop_waiting(rq);
	free(rq);
	*request = NULL;
	if (c != NULL)
		c->deadline_ns = clock_mono_ns() + WEB_REQUEST_NS;
}

static void on_connection(void *ctx, struct MHD_Connection *http, void **socket_ctx,
			  enum MHD_ConnectionNotificationCode what)
{
	struct web *w = ctx;
	struct web_conn *c = *socket_ctx;
	const union MHD_ConnectionInfo *info;

	if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
		if (c == NULL)
			return;
		*c->at = c->next;
		if (c->next != NULL)
			c->next->at = c->at;
		w->closed = true;
		free(c);
		*socket_ctx = NULL;
		return;
	}
	info = MHD_get_connection_info(http, MHD_CONNECTION_INFO_CONNECTION_FD);
	c = info == NULL ? NULL : calloc(1, sizeof(*c));
	if (c == NULL)
		return; /* it has the server's own time limit */
	c->fd = info->connect_fd;
	c->deadline_ns = clock_mono_ns() + WEB_REQUEST_NS;
	c->next = w->conns;
	c->at = &w->conns;
	if (c->next != NULL)
		c->next->at = &c->next;
	w->conns = c;
	if (!loop_timer_armed(w->tick))
		loop_timer_after(w->tick, WEB_TICK_NS);
	*socket_ctx = c;
}

void web_http_tick(struct web *w, int64_t now)
{
	struct web_request *rq, *next;
	bool any = false;

	web_stream_tick(w, now);
	for (rq = w->waiting; rq != NULL; rq = next) {
		next = rq->next;
		if (now < rq->deadline_ns)
			continue;
		w->asked[rq->view] = false; /* perhaps it is heard the next time */
		wake(rq, true);
		any = true;
	}
	for (const struct web_conn *c = w->conns; c != NULL; c = c->next)
		if (now >= c->deadline_ns) {
			(void)shutdown(c->fd, SHUT_RDWR); /* the server finds that, and closes */
			any = true;
		}
	if (any)
		(void)MHD_run(w->http);
}

/* ---- start and end ---- */

static void on_http(void *ctx, int fd, unsigned events)
{
	(void)fd;
	(void)events;
	(void)MHD_run(((struct web *)ctx)->http);
}

int web_http_start(struct web *w, int listen_fd, struct err *err)
{
	const union MHD_DaemonInfo *info;

	w->http = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request, w,
				   MHD_OPTION_LISTEN_SOCKET, listen_fd, MHD_OPTION_CONNECTION_LIMIT,
				   WEB_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
				   (unsigned)(WEB_ANSWER_NS / NS_PER_S), MHD_OPTION_CONNECTION_MEMORY_LIMIT,
				   (size_t)WEB_REQUEST_BYTES, MHD_OPTION_NOTIFY_COMPLETED, on_completed, w,
				   MHD_OPTION_NOTIFY_CONNECTION, on_connection, w, MHD_OPTION_END);
	if (w->http == NULL)
		return err_set(err, ERR_LIMIT, "the HTTP server can't be started");
	info = MHD_get_daemon_info(w->http, MHD_DAEMON_INFO_EPOLL_FD);
	if (info == NULL)
		return err_set(err, ERR_BUG, "the HTTP server has nothing to wait for");
	w->http_source = loop_fd_add(w->loop, info->epoll_fd, LOOP_READ, on_http, w, err);
	return w->http_source == NULL ? -1 : 0;
}

/* Suspended connections must be resumed before the server may stop. */
void web_http_stop(struct web *w)
{
	if (w->http == NULL)
		return;
	while (w->waiting != NULL)
		wake(w->waiting, true);
	web_stream_end(w);
	loop_fd_remove(w->http_source);
	MHD_stop_daemon(w->http);
	w->http = NULL;
	if (w->shown_metrics != NULL)
		MHD_destroy_response(w->shown_metrics);
	w->shown_metrics = NULL;
}
