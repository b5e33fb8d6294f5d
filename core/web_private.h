/*
 * web_private.h - what the parts of the serving process share: web.c (its life, the daemon), web_http.c (requests),
 * web_stream.c (clients that are kept up to date), web_confine.c. Included by them alone.
 */
#ifndef FANSYNCD_CORE_WEB_PRIVATE_H
#define FANSYNCD_CORE_WEB_PRIVATE_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"
#include "core/loop.h"
#include "core/wire.h"

#define WEB_HOSTS_MAX 256u
#define WEB_CONNECTIONS_MAX 64u
#define WEB_STREAMS_MAX 32u
#define WEB_REQUEST_BYTES (16u * 1024) /* memory of a connection: what a request may have, and a part of an answer */
/* How long a client may take to say its request, the daemon to answer, a client to take the answer. */
#define WEB_REQUEST_NS (20 * NS_PER_S)
#define WEB_VIEW_NS (10 * NS_PER_S)
#define WEB_ANSWER_NS (60 * NS_PER_S)
#define WEB_TICK_NS NS_PER_S

struct web;
struct web_stream;
struct web_asset;

/* A connection, from accept to close. */
struct web_conn {
	struct web_conn *next, **at;
	int fd;
	int64_t deadline_ns; /* it is cut then */
};

/* A request that waits for a view. */
struct web_request {
	struct web *web;
	struct web_request *next, **at; /* at NULL: it does not wait */
	struct MHD_Connection *http;
	enum wire_view view;
	int64_t deadline_ns;
	bool answered, failed; /* the view is there; or it did not come in time */
};

struct web {
	struct loop *loop;
	int fd;
	struct loop_fd *source;
	struct buf in, out;
	bool ready;
	bool any_host;
	char *hosts[WEB_HOSTS_MAX];
	size_t n_hosts;
	struct MHD_Daemon *http;
	struct loop_fd *http_source;
	struct loop_timer *http_timer, *tick;
	struct web_conn *conns;
	bool closed; /* a connection was: at its limit the server listens again only when it is called once more */
	struct web_request *waiting;
	bool asked[WIRE_VIEWS];		    /* and not shown yet */
	struct MHD_Response *shown_metrics; /* the latest */
	struct web_stream *streams;
	size_t n_streams;
	int64_t asked_page_ns;
};

/* ---- web.c ---- */
/* Ask the daemon, unless that was done. */
void web_ask(struct web *w, enum wire_view view);

/* ---- web_http.c ---- */
int web_http_start(struct web *w, int listen_fd, struct err *err);
void web_http_stop(struct web *w);
/* The daemon's answer. */
void web_http_shown(struct web *w, enum wire_view view, const char *text, size_t len);
/* Cut what is overdue. Called every WEB_TICK_NS while there is a connection. */
void web_http_tick(struct web *w, int64_t now);
/* Whether a request for this host is meant for us: no name that somebody else made lead here (DNS rebinding). `host`:
 * the header's value, NULL: there was none. */
bool web_host_ok(const struct web *w, const char *host);

/* The connection's own record; NULL: it has none. */
struct web_conn *web_conn_of(struct MHD_Connection *http);
/* What every answer says: it is for nobody else's page, and not to be kept. */
void web_add_manners(struct MHD_Response *r, const char *type);
/* Takes over `r`; NULL: out of memory. */
enum MHD_Result web_answer(struct MHD_Connection *http, unsigned status, struct MHD_Response *r);
/* A line of text, for who typed the request. */
enum MHD_Result web_say(struct MHD_Connection *http, unsigned status, const char *text);

/* ---- web_stream.c ---- */
/* Begin to keep this client up to date (server-sent events). */
enum MHD_Result web_stream_start(struct web *w, struct MHD_Connection *http);
/* A new view of the page: what differs goes to each client that has taken what it was sent before. */
void web_stream_shown(struct web *w, const char *text, size_t len);
/* Ask for the next view, if anybody looks. */
void web_stream_tick(struct web *w, int64_t now);
/* No client any more: the server is about to stop. */
void web_stream_end(struct web *w);

/* ---- web_assets.c ---- */
/* The file of the page by this path, or NULL. */
const struct web_asset *web_asset_find(const char *url);
struct MHD_Response *web_asset_response(const struct web_asset *a);

/* ---- web_confine.c ---- */
int web_confine(struct err *err);

#endif
