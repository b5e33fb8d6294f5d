/*
 * sftp_ssh.c - a stream over libssh2: TCP, key exchange, host key, login, channel.
 *
 * libssh2 never sees the socket. What it sends goes into a buffer of ours that always takes a whole packet, what it
 * receives comes out of one: so it is never in the middle of a packet, when it could neither read nor send another one,
 * and it can't read more at a time than we gave it. The socket is the loop's.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libssh2.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/resolve.h"
#include "transports/sftp_auth.h"
#include "transports/sftp_hostcheck.h"
#include "transports/sftp_kex.h"
#include "transports/sftp_stream.h"
#include "transports/ssh_target.h"

#define OUT_MAX (8u * 1024 * 1024)
#define OUT_FULL (1024u * 1024)
#define IN_FULL (512u * 1024)
#define PIECE (64u * 1024)
#define FIRST_BYTES (16u * 1024)
#define SAID_MAX 400
/* A server that answers, but only just: the login has to be over some time. */
#define PATIENCE 4

enum state {
	SSH_RESOLVING = 0,
	SSH_CONNECTING,
	SSH_HANDSHAKE,
	SSH_HOST_KEY,
	SSH_LOGIN,
	SSH_CHANNEL,
	SSH_SUBSYSTEM,
	SSH_OPEN,
	SSH_ENDED
};

struct sftp_stream {
	struct loop *loop;
	const struct sync_options *opt;
	struct sftp_stream_events events;
	enum state state;
	char *user, *host;
	uint16_t port;
	struct resolver *resolver;
	struct resolve_address *addresses;
	size_t n_addresses, address; /* the one that is tried */
	int fd;
	struct loop_fd *source;
	struct loop_timer *timer; /* keepalives, and the end of patience */
	struct loop_timer *soon;  /* what must not happen inside a call */
	int64_t heard_ns, started_ns;
	LIBSSH2_SESSION *session;
	LIBSSH2_CHANNEL *channel;
	struct sftp_lib lib;
	struct sftp_auth *auth;
	struct buf out, in, first;
	size_t out_at, in_at;
	bool eof, closing, full, pumping;
	bool over;	    /* the server's side of the channel has said all */
	struct err failure; /* of a write: told soon */
	char said[SAID_MAX + 1];
	size_t said_len;
};

/* ---- the end ---- */

static void end(struct sftp_stream *s, const struct err *why)
{
	struct err no_memory = ERR_INIT;

	if (s->state == SSH_ENDED)
		return;
	if (s->lib.no_memory) {
		err_set(&no_memory, ERR_NOMEM, "ssh to %.80s: out of memory", s->host);
		why = &no_memory;
	}
	s->state = SSH_ENDED;
	loop_timer_stop(s->timer);
	loop_fd_remove(s->source);
	s->source = NULL;
	s->events.ended(s->events.ctx, why);
}

static const char *lib_words(struct sftp_stream *s)
{
	char *text = NULL;

	(void)libssh2_session_last_error(s->session, &text, NULL, 0);
	return text == NULL || text[0] == '\0' ? "no reason given" : text;
}

static void end_network(struct sftp_stream *s, const char *what)
{
	struct err err = ERR_INIT;

	err_set(&err, ERR_NETWORK, "ssh to %.80s: %.300s", s->host, what);
	end(s, &err);
}

/* ---- libssh2's idea of a socket ---- */

static ssize_t lib_send(libssh2_socket_t fd, const void *data, size_t n, int flags, void **abstract)
{
	struct sftp_stream *s = ((struct sftp_lib *)*abstract)->io;

	(void)fd;
	(void)flags;
	if (s->closing)
		return (ssize_t)n;
	if (buf_add(&s->out, data, n))
		return (ssize_t)n;
	s->lib.no_memory = true;
	return -ENOBUFS;
}

static ssize_t lib_receive(libssh2_socket_t fd, void *data, size_t n, int flags, void **abstract)
{
	struct sftp_stream *s = ((struct sftp_lib *)*abstract)->io;
	size_t have = s->in.len - s->in_at;

	(void)fd;
	(void)flags;
	if (s->closing)
		return -ECONNRESET;
	if (have == 0) {
		((struct sftp_lib *)*abstract)->ended = s->eof;
		return s->eof ? 0 : -EAGAIN;
	}
	if (n > have)
		n = have;
	memcpy(data, s->in.data + s->in_at, n);
	s->in_at += n;
	return (ssize_t)n;
}

/* ---- the socket ---- */

static void want(struct sftp_stream *s)
{
	unsigned events = 0;

	if (s->source == NULL)
		return;
	if (s->state == SSH_CONNECTING || s->out_at < s->out.len)
		events |= LOOP_WRITE;
	if (!s->eof && s->in.len - s->in_at < IN_FULL)
		events |= LOOP_READ;
	loop_fd_set(s->source, events);
}

static void flush(struct sftp_stream *s)
{
	while (s->out_at < s->out.len) {
		ssize_t n = send(s->fd, s->out.data + s->out_at, s->out.len - s->out_at, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			break; /* what is wrong shows when reading */
		s->out_at += (size_t)n;
	}
	if (s->out_at == s->out.len) {
		buf_clear(&s->out);
		s->out_at = 0;
	} else if (s->out_at > OUT_FULL / 2) {
		buf_consume(&s->out, s->out_at);
		s->out_at = 0;
	}
}

static bool receive(struct sftp_stream *s)
{
	ssize_t n;

	buf_consume(&s->in, s->in_at);
	s->in_at = 0;
	if (s->eof || s->in.len >= IN_FULL || !buf_reserve(&s->in, PIECE))
		return true;
	n = recv(s->fd, s->in.data + s->in.len, PIECE, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n < 0) {
		struct err err = ERR_INIT;

		err_errno(&err, errno, "ssh to %.80s", s->host);
		err.class = ERR_NETWORK;
		end(s, &err);
		return false;
	}
	if (n == 0)
		s->eof = true;
	if (n > 0 && s->state <= SSH_HANDSHAKE && s->first.len + (size_t)n <= FIRST_BYTES)
		(void)buf_add(&s->first, s->in.data + s->in.len, (size_t)n);
	s->in.len += (size_t)n;
	s->heard_ns = clock_mono_ns();
	s->events.alive(s->events.ctx);
	return true;
}

/* ---- connect ---- */

static void on_socket(void *ctx, int fd, unsigned events);

static int try_address(struct sftp_stream *s, const struct resolve_address *a, struct err *err)
{
	const int on = 1;
	const unsigned ms = (unsigned)(s->opt->ssh.timeout_ns / NS_PER_MS);

	s->fd = socket(a->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->fd < 0)
		return err_errno(err, errno, "socket");
	(void)setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(s->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
	if (connect(s->fd, (const struct sockaddr *)&a->addr, a->len) < 0 && errno != EINPROGRESS)
		return err_errno(err, errno, "connect");
	s->source = loop_fd_add(s->loop, s->fd, LOOP_WRITE, on_socket, s, err);
	return s->source == NULL ? -1 : 0;
}

static void drop_socket(struct sftp_stream *s)
{
	loop_fd_remove(s->source);
	s->source = NULL;
	if (s->fd >= 0)
		(void)close(s->fd);
	s->fd = -1;
}

/* From `address` on, the first that does not fail at once. */
static int connect_next(struct sftp_stream *s, struct err *err)
{
	for (; s->address < s->n_addresses; s->address++) {
		drop_socket(s);
		if (try_address(s, &s->addresses[s->address], err) == 0)
			return 0;
	}
	return -1;
}

static void connect_failed(struct sftp_stream *s, const char *why)
{
	struct err err = ERR_INIT, all = ERR_INIT;

	err_set(&err, ERR_NETWORK, "%s", why);
	s->address++;
	s->started_ns = clock_mono_ns();
	if (s->address < s->n_addresses && connect_next(s, &err) == 0)
		return;
	err_set(&all, ERR_NETWORK, "connection to %.80s port %u: %.200s", s->host, s->port, err.text);
	end(s, &all);
}

static void on_resolved(void *ctx, const struct resolve_address *v, size_t n, const struct err *why)
{
	struct sftp_stream *s = ctx;
	struct err err = ERR_INIT, all = ERR_INIT;

	if (n == 0) {
		end(s, why);
		return;
	}
	s->addresses = calloc(n, sizeof(*v));
	if (s->addresses == NULL) {
		err_set(&err, ERR_NOMEM, "out of memory for a connection");
		end(s, &err);
		return;
	}
	memcpy(s->addresses, v, n * sizeof(*v));
	s->n_addresses = n;
	s->state = SSH_CONNECTING;
	s->started_ns = clock_mono_ns();
	if (connect_next(s, &err) == 0)
		return;
	err_set(&all, ERR_NETWORK, "connection to %.80s port %u: %.200s", s->host, s->port, err.text);
	end(s, &all);
}

/* ---- handshake ---- */

static int lib_method(enum sftp_kex_list list)
{
	static const int methods[SFTP_KEX_LISTS] = { LIBSSH2_METHOD_KEX,      LIBSSH2_METHOD_HOSTKEY,
						     LIBSSH2_METHOD_CRYPT_CS, LIBSSH2_METHOD_CRYPT_SC,
						     LIBSSH2_METHOD_MAC_CS,   LIBSSH2_METHOD_MAC_SC };

	return methods[list];
}

/* Which list has nothing in common with ours; SFTP_KEX_LISTS if all have. */
static enum sftp_kex_list no_common(struct sftp_stream *s, const struct sftp_kex_offer *offer)
{
	for (int i = 0; i < SFTP_KEX_LISTS; i++) {
		const char **ours = NULL;
		int n = libssh2_session_supported_algs(s->session, lib_method((enum sftp_kex_list)i), &ours);
		bool common = n <= 0 || sftp_kex_common(offer->lists[i], ours, (size_t)n);

		if (ours != NULL)
			libssh2_free(s->session, ours);
		if (!common)
			return (enum sftp_kex_list)i;
	}
	return SFTP_KEX_LISTS;
}

static void handshake_failed(struct sftp_stream *s)
{
	struct sftp_kex_offer offer;
	enum sftp_kex_list list = SFTP_KEX_LISTS;
	struct err err = ERR_INIT;

	if (sftp_kex_read(s->first.data, s->first.len, &offer)) {
		list = no_common(s, &offer);
		if (list != SFTP_KEX_LISTS)
			err_set(&err, ERR_CONFIG,
				"ssh to %.80s: no %s in common: the server offers %.160s, which libssh2 %s lacks "
				"(ssh.client = \"openssh\" uses the ssh program instead)",
				s->host, sftp_kex_list_name(list), offer.lists[list], libssh2_version(0));
		sftp_kex_done(&offer);
	}
	if (list == SFTP_KEX_LISTS && s->first.len == 0)
		err_set(&err, ERR_NETWORK, "ssh to %.80s: the connection was closed before a word was said", s->host);
	else if (list == SFTP_KEX_LISTS)
		err_set(&err, ERR_NETWORK, "ssh to %.80s: the handshake failed: %.200s", s->host, lib_words(s));
	end(s, &err);
}

/* Whose key it is to show: the host's, or that of what is reached through it. */
static const char *known_as(const struct sftp_stream *s)
{
	return s->opt->ssh.host_key_alias != NULL ? s->opt->ssh.host_key_alias : s->host;
}

static uint16_t known_port(const struct sftp_stream *s)
{
	return s->opt->ssh.host_key_alias != NULL ? 22 : s->port;
}

static void begin_session(struct sftp_stream *s)
{
	struct err err = ERR_INIT;

	s->lib.io = s;
	s->session = libssh2_session_init_ex(sftp_lib_alloc, sftp_lib_free, sftp_lib_realloc, &s->lib);
	if (s->session == NULL) {
		err_set(&err, ERR_NOMEM, "out of memory for an SSH session");
		end(s, &err);
		return;
	}
	libssh2_session_set_blocking(s->session, 0);
	(void)libssh2_session_callback_set(s->session, LIBSSH2_CALLBACK_SEND, (void *)lib_send);
	(void)libssh2_session_callback_set(s->session, LIBSSH2_CALLBACK_RECV, (void *)lib_receive);
	if (s->opt->rsync.compress)
		(void)libssh2_session_flag(s->session, LIBSSH2_FLAG_COMPRESS, 1);
	/* An idle connection is asked for a sign of life; what is made of silence is decided in on_timer. */
	libssh2_keepalive_config(s->session, 1, (unsigned)(s->opt->ssh.timeout_ns / 3 / NS_PER_S) + 1);
	if (sftp_hostcheck_prefer(s->session, s->opt, known_as(s), known_port(s), &err) < 0) {
		end(s, &err);
		return;
	}
	s->state = SSH_HANDSHAKE;
	s->started_ns = s->heard_ns = clock_mono_ns();
}

/* ---- the steps: each returns false when it has to wait ---- */

static bool waits(struct sftp_stream *s, int rc, const char *what)
{
	char text[300];

	if (rc == LIBSSH2_ERROR_EAGAIN)
		return true;
	if (rc == 0)
		return false;
	(void)snprintf(text, sizeof(text), "%s: %.200s", what, lib_words(s));
	end_network(s, text);
	return true;
}

static bool step_handshake(struct sftp_stream *s)
{
	int rc = libssh2_session_handshake(s->session, s->fd);

	if (rc == LIBSSH2_ERROR_EAGAIN)
		return false;
	if (rc != 0) {
		handshake_failed(s);
		return false;
	}
	buf_done(&s->first);
	s->state = SSH_HOST_KEY;
	return true;
}

static bool step_host_key(struct sftp_stream *s)
{
	struct err err = ERR_INIT;

	if (sftp_hostcheck_verify(s->session, s->opt, known_as(s), known_port(s), &err) < 0) {
		end(s, &err);
		return false;
	}
	s->auth = sftp_auth_new(s->session, &s->lib, s->opt, s->user, &err);
	if (s->auth == NULL) {
		end(s, &err);
		return false;
	}
	s->state = SSH_LOGIN;
	return true;
}

static bool step_login(struct sftp_stream *s)
{
	struct err err = ERR_INIT, why = ERR_INIT;
	int rc = sftp_auth_step(s->auth, &err);

	if (rc == 0)
		return false;
	if (rc < 0) {
		err_set(&why, err.class, "ssh to %.80s: %.420s", s->host, err.text);
		end(s, &why);
		return false;
	}
	sftp_auth_free(s->auth);
	s->auth = NULL;
	s->state = SSH_CHANNEL;
	return true;
}

static bool step_channel(struct sftp_stream *s)
{
	s->channel = libssh2_channel_open_session(s->session);
	if (s->channel == NULL) {
		(void)waits(s, libssh2_session_last_errno(s->session), "no channel");
		return false;
	}
	s->state = SSH_SUBSYSTEM;
	return true;
}

static bool step_subsystem(struct sftp_stream *s)
{
	const char *command = s->opt->ssh.sftp_server;
	int rc = command == NULL ? libssh2_channel_subsystem(s->channel, "sftp")
				 : libssh2_channel_exec(s->channel, command);

	if (waits(s, rc,
		  command == NULL ? "the server has no SFTP (its subsystem was refused)"
				  : "ssh.sftpServer was refused"))
		return false;
	s->state = SSH_OPEN;
	s->events.opened(s->events.ctx);
	return s->state == SSH_OPEN;
}

/* ---- the open channel ---- */

static void remember(struct sftp_stream *s, const char *data, size_t n)
{
	for (size_t i = 0; i < n && s->said_len < SAID_MAX; i++)
		s->said[s->said_len++] = data[i] == '\n' || data[i] == '\r' ? ' ' : data[i];
	while (s->said_len > 0 && s->said[s->said_len - 1] == ' ')
		s->said_len--;
	s->said[s->said_len] = '\0';
}

static void read_words(struct sftp_stream *s)
{
	char data[1024];
	ssize_t n;

	while ((n = libssh2_channel_read_stderr(s->channel, data, sizeof(data))) > 0)
		remember(s, data, (size_t)n);
}

static void channel_over(struct sftp_stream *s)
{
	const char *command = s->opt->ssh.sftp_server;
	struct err err = ERR_INIT;
	int status = libssh2_channel_get_exit_status(s->channel);

	err_set(&err, s->said_len > 0 || command != NULL ? ERR_CONFIG : ERR_NETWORK,
		"the SFTP server at %.80s ended%s%s (exit %d)%s%.300s", s->host, command != NULL ? ": " : "",
		command != NULL ? "ssh.sftpServer" : "", status, s->said_len > 0 ? ": " : "", s->said);
	end(s, &err);
}

static bool step_open(struct sftp_stream *s)
{
	char data[PIECE];
	ssize_t n;

	while ((n = libssh2_channel_read(s->channel, data, sizeof(data))) > 0) {
		s->events.came(s->events.ctx, data, (size_t)n);
		if (s->state != SSH_OPEN)
			return false;
	}
	if (n < 0 && n != LIBSSH2_ERROR_EAGAIN) {
		end_network(s, s->eof ? "the connection was closed" : lib_words(s));
		return false;
	}
	read_words(s);
	/* The exit status may come after the end of what it says: only the close is the end of both (RFC 4254, 6.10).
	 */
	if (libssh2_channel_eof(s->channel) != 0) {
		s->over = true;
		if (libssh2_channel_wait_closed(s->channel) != LIBSSH2_ERROR_EAGAIN)
			channel_over(s);
		return false;
	}
	if (s->full && s->out.len - s->out_at < OUT_FULL / 2) {
		s->full = false;
		s->events.writable(s->events.ctx);
	}
	return false;
}

static bool step(struct sftp_stream *s)
{
	switch (s->state) {
	case SSH_HANDSHAKE:
		return step_handshake(s);
	case SSH_HOST_KEY:
		return step_host_key(s);
	case SSH_LOGIN:
		return step_login(s);
	case SSH_CHANNEL:
		return step_channel(s);
	case SSH_SUBSYSTEM:
		return step_subsystem(s);
	case SSH_OPEN:
		return step_open(s);
	case SSH_RESOLVING:
	case SSH_CONNECTING:
	case SSH_ENDED:
		break;
	}
	return false;
}

static void pump(struct sftp_stream *s)
{
	s->pumping = true;
	while (step(s))
		;
	s->pumping = false;
	if (s->state == SSH_ENDED)
		return;
	/* What libssh2 has not seen of it, it will not ask for: it is told of the end. */
	if (s->eof && s->in.len == s->in_at) {
		if (s->over) {
			channel_over(s);
			return;
		}
		end_network(s, s->state == SSH_OPEN ? "the connection was closed"
						    : "the connection was closed before the login was over");
		return;
	}
	flush(s);
	want(s);
}

static void connected(struct sftp_stream *s)
{
	int code = 0;
	socklen_t n = sizeof(code);

	if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &code, &n) < 0)
		code = errno;
	if (code != 0) {
		connect_failed(s, strerror(code));
		return;
	}
	begin_session(s);
	if (s->state != SSH_ENDED)
		pump(s);
}

static void on_socket(void *ctx, int fd, unsigned events)
{
	struct sftp_stream *s = ctx;

	(void)fd;
	if (s->state == SSH_CONNECTING) {
		connected(s);
		return;
	}
	if ((events & (LOOP_READ | LOOP_HUP)) != 0 && !receive(s))
		return;
	flush(s);
	pump(s);
}

/* ---- time ---- */

static void on_timer(void *ctx)
{
	struct sftp_stream *s = ctx;
	const int64_t now = clock_mono_ns(), limit = s->opt->ssh.timeout_ns;
	char text[100];
	int next = 0;

	loop_timer_after(s->timer, limit / 4);
	if (s->state == SSH_CONNECTING && now - s->started_ns >= limit) {
		connect_failed(s, "no answer");
		return;
	}
	if (s->state == SSH_CONNECTING || s->state == SSH_RESOLVING)
		return;
	if (s->over) { /* a server that never closes */
		channel_over(s);
		return;
	}
	/* While it is idle, the silence begins with our question. */
	if (now - s->heard_ns >= limit + limit / 2 || (s->state != SSH_OPEN && now - s->heard_ns >= limit) ||
	    (s->state != SSH_OPEN && now - s->started_ns >= PATIENCE * limit)) {
		(void)snprintf(text, sizeof(text),
			       s->state == SSH_OPEN ? "no sign of life for %lld s"
						    : "the login was not over after %lld s",
			       (long long)((now - (s->state == SSH_OPEN ? s->heard_ns : s->started_ns)) / NS_PER_S));
		end_network(s, text);
		return;
	}
	if (s->state == SSH_OPEN) {
		(void)libssh2_keepalive_send(s->session, &next);
		flush(s);
		want(s);
	}
}

static void on_soon(void *ctx)
{
	struct sftp_stream *s = ctx;
	struct err why = s->failure;

	if (why.class != ERR_NONE)
		end(s, &why);
}

/* ---- the interface ---- */

static size_t write_some(struct sftp_stream *s, const char *data, size_t n)
{
	size_t done = 0;

	if (s->state != SSH_OPEN || s->failure.class != ERR_NONE)
		return 0;
	while (done < n && s->out.len - s->out_at < OUT_FULL) {
		ssize_t rc = libssh2_channel_write(s->channel, data + done, n - done);

		if (rc == LIBSSH2_ERROR_EAGAIN || rc == 0)
			break; /* the peer's window is full: its next word opens it */
		if (rc < 0) {
			err_set(&s->failure, ERR_NETWORK, "ssh to %.80s: %.200s", s->host, lib_words(s));
			loop_timer_after(s->soon, 0);
			return done;
		}
		done += (size_t)rc;
	}
	s->full = s->full || done < n;
	if (!s->pumping) {
		flush(s);
		want(s);
	}
	return done;
}

static void free_session(struct sftp_stream *s)
{
	if (s->session == NULL)
		return;
	/* A word of farewell, if it can be said at once; then nothing waits any more. */
	if (s->state == SSH_OPEN) {
		(void)libssh2_session_disconnect(s->session, "bye");
		flush(s);
	}
	s->closing = true;
	if (s->channel != NULL)
		(void)libssh2_channel_free(s->channel);
	(void)libssh2_session_free(s->session);
	s->session = NULL;
}

static void close_stream(struct sftp_stream *s)
{
	if (s == NULL)
		return;
	free_session(s);
	sftp_auth_free(s->auth);
	drop_socket(s);
	loop_timer_remove(s->timer);
	loop_timer_remove(s->soon);
	resolver_free(s->resolver);
	free(s->addresses);
	buf_done(&s->out);
	buf_done(&s->in);
	buf_done(&s->first);
	free(s->user);
	free(s->host);
	free(s);
}

/* [user@]host */
static int split_host(struct sftp_stream *s, const char *host, const char *account, struct err *err)
{
	char *plain = ssh_target_host(host), *at = plain == NULL ? NULL : strrchr(plain, '@');
	bool nameless = false;
	const struct passwd *pw = at == NULL && account == NULL ? getpwuid(geteuid()) : NULL;

	if (at != NULL) {
		s->user = strndup(plain, (size_t)(at - plain));
		s->host = strdup(at + 1);
	} else if (plain != NULL) {
		account = pw == NULL ? account : pw->pw_name;
		nameless = account == NULL;
		s->user = account == NULL ? NULL : strdup(account);
		s->host = strdup(plain);
	}
	free(plain);
	if (s->user != NULL && s->host != NULL)
		return 0;
	return nameless ? err_set(err, ERR_CONFIG, "host: no user is given, and this one has no name")
			: err_set(err, ERR_NOMEM, "out of memory for a connection");
}

static struct sftp_stream *open_stream(struct loop *loop, const struct sync_options *opt,
				       const struct sftp_stream_events *events, struct err *err)
{
	struct sftp_stream *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		err_set(err, ERR_NOMEM, "out of memory for a connection");
		return NULL;
	}
	s->loop = loop;
	s->opt = opt;
	s->events = *events;
	s->fd = -1;
	s->port = opt->ssh.port > 0 ? (uint16_t)opt->ssh.port : 22;
	buf_init(&s->out, OUT_MAX);
	buf_init(&s->in, IN_FULL + 2 * PIECE);
	buf_init(&s->first, FIRST_BYTES);
	s->timer = loop_timer_add(loop, on_timer, s, err);
	s->soon = s->timer == NULL ? NULL : loop_timer_add(loop, on_soon, s, err);
	s->started_ns = s->heard_ns = clock_mono_ns();
	if (s->soon == NULL || split_host(s, opt->host, events->account, err) < 0) {
		close_stream(s);
		return NULL;
	}
	s->resolver = resolver_start(loop, events->lookups, s->host, s->port, opt->ssh.timeout_ns, on_resolved, s, err);
	if (s->resolver == NULL) {
		close_stream(s);
		return NULL;
	}
	loop_timer_after(s->timer, opt->ssh.timeout_ns / 4);
	return s;
}

const struct sftp_stream_kind sftp_stream_ssh = { .open = open_stream, .write = write_some, .close = close_stream };
