/* What clients ask over the control socket: "status", "top", "wait", "sync-now". */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/daemon_private.h"
#include "core/log.h"

/* The longest time-out that a request may name, in seconds: a century. */
#define TIMEOUT_MAX_S 3.2e9

static void to_out(void *ctx, const char *data, size_t len)
{
	control_out(ctx, data, len);
}

static void to_err(void *ctx, const char *data, size_t len)
{
	control_err(ctx, data, len);
}

/* A client that does not keep up loses intermediate states, nothing else. */
static void to_progress(void *ctx, const char *data, size_t len)
{
	if (control_conn_queued(ctx) == 0)
		control_progress(ctx, data, len);
}

static void to_exit(void *ctx, int code)
{
	control_exit(ctx, code);
}

static void refuse(struct control_conn *conn, const char *what, const char *arg)
{
	char text[512], safe[256];
	int n;

	log_escape(safe, sizeof(safe), arg, strlen(arg));
	n = snprintf(text, sizeof(text), "the daemon does not understand %s \"%s\": is it another version?\n", what,
		     safe);
	control_err(conn, text, n < 0 ? 0 : (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
	control_exit(conn, 1);
}

static bool parse_seconds(const char *text, int64_t *out_ns)
{
	char *end;
	double s;

	errno = 0;
	s = strtod(text, &end);
	if (errno != 0 || end == text || *end != '\0' || !(s >= 0) || s > TIMEOUT_MAX_S)
		return false;
	*out_ns = (int64_t)(s * (double)NS_PER_S);
	return true;
}

/* Options shared by "wait" and "sync-now". Returns NULL, or the argument that is not understood. */
static const char *parse_barrier(struct barrier_request *rq, const char **only, size_t argc, const char *const *argv)
{
	for (size_t i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--allow-delete") == 0)
			rq->allow_delete = true;
		else if (strcmp(argv[i], "--quiet") == 0)
			rq->quiet = true;
		else if (strcmp(argv[i], "--json") == 0)
			rq->json = true;
		else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc)
			only[rq->n_only++] = argv[++i];
		else if (strcmp(argv[i], "--timeout") == 0 && i + 1 < argc &&
			 parse_seconds(argv[i + 1], &rq->timeout_ns))
			i++;
		else
			return argv[i];
	}
	rq->only = only;
	return NULL;
}

static void on_closed(void *ctx, struct control_conn *conn)
{
	(void)conn;
	barrier_cancel(ctx);
}

static void handle_barrier(struct daemon *d, struct control_conn *conn, size_t argc, const char *const *argv)
{
	const char *only[CONTROL_ARGS_MAX];
	struct barrier_request rq = { .sync_now = strcmp(argv[0], "sync-now") == 0, .timeout_ns = -1 };
	struct sink sink = { to_out, to_err, to_progress, to_exit, conn };
	const char *bad = parse_barrier(&rq, only, argc, argv);
	struct barrier *b;

	if (bad != NULL) {
		refuse(conn, "the argument", bad);
		return;
	}
	b = barrier_new(d, &rq, &sink);
	if (b != NULL)
		control_conn_set_closed(conn, on_closed, b);
}

static void answer(struct control_conn *conn, struct buf *text, bool ok)
{
	if (ok)
		control_out(conn, text->data, text->len);
	else
		control_err(conn, "out of memory for the status\n", 29);
	buf_done(text);
	control_exit(conn, ok ? 0 : 1);
}

static void handle_top(struct daemon *d, struct control_conn *conn)
{
	struct buf text;

	buf_init(&text, CONTROL_QUEUE_MAX / 2);
	answer(conn, &text, top_report(d, &text));
}

static void handle_status(struct daemon *d, struct control_conn *conn, size_t argc, const char *const *argv)
{
	struct buf text;
	bool json = argc > 1 && strcmp(argv[1], "--json") == 0, ok;

	if (argc > (json ? 2u : 1u)) {
		refuse(conn, "the argument", argv[json ? 2 : 1]);
		return;
	}
	buf_init(&text, CONTROL_QUEUE_MAX / 2);
	ok = json ? status_json(d, &text) : status_text(d, &text);
	answer(conn, &text, ok);
}

void requests_handle(void *ctx, struct control_conn *conn, size_t argc, const char *const *argv)
{
	struct daemon *d = ctx;

	if (argc > 0 && strcmp(argv[0], "status") == 0)
		handle_status(d, conn, argc, argv);
	else if (argc == 1 && strcmp(argv[0], "top") == 0)
		handle_top(d, conn);
	else if (argc > 0 && (strcmp(argv[0], "wait") == 0 || strcmp(argv[0], "sync-now") == 0))
		handle_barrier(d, conn, argc, argv);
	else
		refuse(conn, "the request", argc == 0 ? "" : argv[0]);
}
