#include "core/control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/frame.h"
#include "core/unix_listen.h"

#define READ_BYTES 4096u
/* How long a client may take to say its request, and to take the rest of an answer that is complete. */
#define PATIENCE_NS (60 * NS_PER_S)
/* Without descriptors who connects waits in the kernel's queue, which is ready all the time. */
#define SCARCE_NS (100 * NS_PER_MS)

struct control_conn {
	struct control_server *server;
	struct control_conn *next, **at;
	int fd;
	struct loop_fd *source;
	struct loop_timer *patience;
	struct buf in, out;
	bool asked;    /* the request is with the handler, or answered */
	bool answered; /* control_exit was called: drop when all is written */
	bool broken;   /* nothing more can be told to it: drop from the loop */
	void (*closed)(void *ctx, struct control_conn *conn);
	void *closed_ctx, *user;
};

struct control_server {
	struct loop *loop;
	struct unix_listener listener;
	struct loop_fd *source;
	struct loop_timer *scarce; /* armed: nobody is let in until there may be descriptors again */
	control_request_fn *request;
	void *ctx;
	struct control_conn *conns;
	size_t n_conns;
};

/* ---- connections ---- */

static void conn_drop(struct control_conn *c)
{
	*c->at = c->next;
	if (c->next != NULL)
		c->next->at = c->at;
	c->server->n_conns--;
	if (c->asked && !c->answered && c->closed != NULL)
		c->closed(c->closed_ctx, c);
	loop_fd_remove(c->source);
	loop_timer_remove(c->patience);
	(void)close(c->fd);
	buf_done(&c->in);
	buf_done(&c->out);
	free(c);
}

/* Have the loop drop it: the shut-down socket is ready with a hang-up at once. */
static void conn_break(struct control_conn *c)
{
	c->broken = true;
	buf_done(&c->out);
	(void)shutdown(c->fd, SHUT_RDWR);
}

/* Write what the socket takes. */
static void conn_flush(struct control_conn *c)
{
	while (c->out.len > 0) {
		ssize_t n = send(c->fd, c->out.data, c->out.len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			conn_break(c);
			return;
		}
		buf_consume(&c->out, (size_t)n);
	}
	loop_fd_set(c->source, LOOP_READ | (c->out.len > 0 || c->answered ? LOOP_WRITE : 0));
}

static void conn_say(struct control_conn *c, enum control_type type, const char *data, size_t len)
{
	bool idle = c->out.len == 0;

	while (len > 0 && !c->broken && !c->answered) {
		size_t n = len < CONTROL_ANSWER_MAX ? len : CONTROL_ANSWER_MAX;

		if (!frame_add(&c->out, (uint8_t)type, data, n)) {
			conn_break(c);
			return;
		}
		data += n;
		len -= n;
	}
	/* Only the first goes out at once; the rest follows when the loop says that there is room. */
	if (idle && !c->broken)
		conn_flush(c);
}

void control_out(struct control_conn *conn, const char *data, size_t len)
{
	conn_say(conn, CONTROL_OUT, data, len);
}

void control_err(struct control_conn *conn, const char *data, size_t len)
{
	conn_say(conn, CONTROL_ERR, data, len);
}

void control_progress(struct control_conn *conn, const char *data, size_t len)
{
	conn_say(conn, CONTROL_PROGRESS, data, len);
}

void control_exit(struct control_conn *conn, int code)
{
	unsigned char raw[4];

	if (conn->answered)
		return;
	if (code < 0 || code > 255)
		code = 255;
	for (size_t i = 0; i < sizeof(raw); i++)
		raw[i] = (unsigned char)((uint32_t)code >> (8 * i));
	if (!conn->broken && !frame_add(&conn->out, CONTROL_EXIT, raw, sizeof(raw)))
		conn_break(conn);
	conn->answered = true;
	loop_timer_after(conn->patience, PATIENCE_NS);
	if (!conn->broken)
		conn_flush(conn); /* dropped by the loop, which finds the socket writable */
}

void control_conn_set_closed(struct control_conn *conn, void (*closed)(void *ctx, struct control_conn *conn), void *ctx)
{
	conn->closed = closed;
	conn->closed_ctx = ctx;
}

void control_conn_set_user(struct control_conn *conn, void *user)
{
	conn->user = user;
}

void *control_conn_user(const struct control_conn *conn)
{
	return conn->user;
}

size_t control_conn_queued(const struct control_conn *conn)
{
	return conn->out.len;
}

bool control_parse_request(const char *payload, size_t len, const char **argv, size_t *argc)
{
	size_t n = 0;

	if (len > CONTROL_REQUEST_MAX || (len > 0 && payload[len - 1] != '\0'))
		return false;
	for (size_t at = 0; at < len; at += strlen(payload + at) + 1) {
		if (n == CONTROL_ARGS_MAX)
			return false;
		argv[n++] = payload + at;
	}
	argv[n] = NULL;
	*argc = n;
	return true;
}

/* false: the connection is not worth keeping. */
static bool conn_take(struct control_conn *c)
{
	const char *argv[CONTROL_ARGS_MAX + 1];
	const char *payload;
	size_t len, argc;
	uint8_t type;
	int got = frame_next(&c->in, CONTROL_REQUEST_MAX, &type, &payload, &len);

	if (got == 0)
		return true;
	if (got < 0 || type != CONTROL_REQUEST || !control_parse_request(payload, len, argv, &argc))
		return false;
	c->asked = true;
	loop_timer_stop(c->patience);
	c->server->request(c->server->ctx, c, argc, argv);
	return true;
}

/* false: it is gone. */
static bool conn_read(struct control_conn *c)
{
	char raw[READ_BYTES];
	ssize_t n = recv(c->fd, raw, sizeof(raw), MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0)
		return false;
	if (c->asked) /* one request a connection: what follows means nothing */
		return true;
	return buf_add(&c->in, raw, (size_t)n) && conn_take(c);
}

static void on_conn(void *ctx, int fd, unsigned events)
{
	struct control_conn *c = ctx;

	(void)fd;
	if (!c->broken && (events & LOOP_WRITE) != 0)
		conn_flush(c);
	if (c->broken || ((events & (LOOP_READ | LOOP_HUP)) != 0 && !conn_read(c)) || (c->answered && c->out.len == 0))
		conn_drop(c);
}

static void on_patience(void *ctx)
{
	conn_drop(ctx);
}

/* ---- server ---- */

static bool peer_allowed(int fd)
{
	struct ucred peer = { 0 };
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || len != sizeof(peer))
		return false;
	return peer.uid == 0 || peer.uid == geteuid();
}

/* A last word to somebody who is not let in; a fresh socket has room for it. */
static void refuse(int fd, const char *why)
{
	static const unsigned char one[4] = { 1 };
	struct buf out;

	buf_init(&out, 1024);
	if (frame_add(&out, CONTROL_ERR, why, strlen(why)) && frame_add(&out, CONTROL_EXIT, one, sizeof(one)))
		(void)!send(fd, out.data, out.len, MSG_DONTWAIT | MSG_NOSIGNAL);
	buf_done(&out);
	(void)close(fd);
}

static void conn_new(struct control_server *s, int fd)
{
	struct control_conn *c = calloc(1, sizeof(*c));

	if (c == NULL) {
		(void)close(fd);
		return;
	}
	c->server = s;
	c->fd = fd;
	buf_init(&c->in, CONTROL_REQUEST_MAX + FRAME_HEADER + READ_BYTES);
	buf_init(&c->out, CONTROL_QUEUE_MAX);
	c->source = loop_fd_add(s->loop, fd, LOOP_READ, on_conn, c, NULL);
	c->patience = loop_timer_add(s->loop, on_patience, c, NULL);
	if (c->source == NULL || c->patience == NULL) {
		loop_fd_remove(c->source);
		loop_timer_remove(c->patience);
		(void)close(fd);
		free(c);
		return;
	}
	loop_timer_after(c->patience, PATIENCE_NS);
	c->next = s->conns;
	c->at = &s->conns;
	if (c->next != NULL)
		c->next->at = &c->next;
	s->conns = c;
	s->n_conns++;
}

static void on_listen(void *ctx, int listen_fd, unsigned events)
{
	struct control_server *s = ctx;
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
			loop_fd_set(s->source, 0);
			loop_timer_after(s->scarce, SCARCE_NS);
		}
		return;
	}
	if (!peer_allowed(fd))
		(void)close(fd);
	else if (s->n_conns >= CONTROL_CONNECTIONS_MAX)
		refuse(fd, "too many clients ask at once\n");
	else
		conn_new(s, fd);
}

static void on_scarce(void *ctx)
{
	struct control_server *s = ctx;

	loop_fd_set(s->source, LOOP_READ);
}

static int server_listen(struct control_server *s, const char *path, struct err *err)
{
	if (unix_listen(&s->listener, path, (int)CONTROL_CONNECTIONS_MAX, err) < 0)
		return -1;
	s->source = loop_fd_add(s->loop, s->listener.fd, LOOP_READ, on_listen, s, err);
	s->scarce = s->source == NULL ? NULL : loop_timer_add(s->loop, on_scarce, s, err);
	return s->scarce == NULL ? -1 : 0;
}

struct control_server *control_server_new(struct loop *loop, const char *path, control_request_fn *request, void *ctx,
					  struct err *err)
{
	struct control_server *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		err_set(err, ERR_NOMEM, "out of memory for the control socket");
		return NULL;
	}
	s->loop = loop;
	s->listener = UNIX_LISTENER_INIT;
	s->request = request;
	s->ctx = ctx;
	if (server_listen(s, path, err) < 0) {
		control_server_free(s);
		return NULL;
	}
	return s;
}

void control_server_free(struct control_server *s)
{
	if (s == NULL)
		return;
	while (s->conns != NULL) {
		if (!s->conns->broken)
			conn_flush(s->conns);
		conn_drop(s->conns);
	}
	loop_fd_remove(s->source);
	loop_timer_remove(s->scarce);
	unix_listener_done(&s->listener);
	free(s);
}

size_t control_server_connections(const struct control_server *s)
{
	return s->n_conns;
}
