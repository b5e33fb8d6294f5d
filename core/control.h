/*
 * control.h - the control socket: a client sends one request (arguments), the daemon answers with texts and a code.
 *
 * Frames of core/frame.h on a Unix stream socket of mode 0600. Only root and the daemon's own user are heard
 * (SO_PEERCRED). The server never blocks: answers wait in a bounded queue for each connection, and a client that does
 * not read them is dropped. What a client sends is checked in length and number before anybody sees it.
 */
#ifndef FANSYNCD_CORE_CONTROL_H
#define FANSYNCD_CORE_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"
#include "core/loop.h"

#define CONTROL_REQUEST_MAX (64u * 1024)     /* bytes of one request's arguments, their NULs included */
#define CONTROL_ARGS_MAX 256u		     /* arguments of one request */
#define CONTROL_ANSWER_MAX (1024u * 1024)    /* bytes of one answer frame; longer texts travel in several */
#define CONTROL_QUEUE_MAX (8u * 1024 * 1024) /* unread answers of one connection; above it, it is dropped */
#define CONTROL_CONNECTIONS_MAX 32u	     /* connections at once; more are refused in words */

enum control_type {
	CONTROL_REQUEST = 1, /* client: NUL-terminated arguments */
	CONTROL_OUT,	     /* server: for standard output */
	CONTROL_ERR,	     /* server: for standard error */
	CONTROL_PROGRESS,    /* server: for a terminal's progress line */
	CONTROL_EXIT	     /* server, last: u32 exit code */
};

struct control_server;
struct control_conn;

/*
 * A request. argv is borrowed for the call and ends with a NULL; argc may be 0. Either the handler calls control_exit
 * before it returns, or it sets control_conn_set_closed and keeps `conn` until it calls control_exit or is told.
 */
typedef void control_request_fn(void *ctx, struct control_conn *conn, size_t argc, const char *const *argv);

/* Listen at `path`. A socket file that nobody answers at is replaced; when another server answers, ERR_LIMIT with code
 * EADDRINUSE; anything that is no socket is left alone (ERR_UNSAFE). */
struct control_server *control_server_new(struct loop *loop, const char *path, control_request_fn *request, void *ctx,
					  struct err *err);
/* Close every connection (those with a request under way are told by `closed`) and remove the socket file if it is
 * still this server's. What answers are queued is written as far as the sockets take it at once. NULL is fine. */
void control_server_free(struct control_server *s);
/* Open connections. */
size_t control_server_connections(const struct control_server *s);

/* Append to the answer. A failure (queue full, client gone) shows as `closed` from the loop, never from within. */
void control_out(struct control_conn *conn, const char *data, size_t len);
void control_err(struct control_conn *conn, const char *data, size_t len);
void control_progress(struct control_conn *conn, const char *data, size_t len);
/* End the answer; `conn` must not be used any more, and `closed` is not called. */
void control_exit(struct control_conn *conn, int code);
/* Be told, once and from the loop, that the client went away before control_exit; `conn` is gone after the call. */
void control_conn_set_closed(struct control_conn *conn, void (*closed)(void *ctx, struct control_conn *conn),
			     void *ctx);
/* A pointer of the caller's, NULL at first. */
void control_conn_set_user(struct control_conn *conn, void *user);
void *control_conn_user(const struct control_conn *conn);
/* Bytes of answer that the client has not taken yet: to send progress only to one that keeps up. */
size_t control_conn_queued(const struct control_conn *conn);

/* Where a client's answer goes; each may be NULL. */
struct control_client {
	void (*out)(void *ctx, const char *data, size_t len);
	void (*err)(void *ctx, const char *data, size_t len);
	void (*progress)(void *ctx, const char *data, size_t len);
	void *ctx;
};

/* Client side, blocking: ask and wait at most timeout_ns (negative: for ever). Returns the exit code 0..255, or -1:
 * ERR_GONE: there is no daemon at `path`; ERR_DENIED: not ours to ask; ERR_NETWORK with code ETIMEDOUT: the time is
 * over; other ERR_NETWORK, ERR_PROTOCOL: the daemon went away, or is none. */
int control_client_run(const char *path, size_t argc, const char *const *argv, int64_t timeout_ns,
		       const struct control_client *client, struct err *err);

/* The payload of a request as arguments: points argv[0..] into `payload`, argv[argc] = NULL. false: it breaks the rules
 * (not NUL-terminated, more than CONTROL_ARGS_MAX, too long). `argv` has CONTROL_ARGS_MAX + 1 places. Pure. */
bool control_parse_request(const char *payload, size_t len, const char **argv, size_t *argc);

#endif
