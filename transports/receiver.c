#include "transports/receiver.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/confine.h"
#include "core/frame.h"
#include "core/host_id.h"
#include "core/listen_fds.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/privileges.h"
#include "core/wire.h"
#include "transports/receiver_child.h"
#include "transports/receiver_lookups.h"
#include "transports/tcp_stream.h"

#define LISTENERS_MAX 64u
#define KEYS_MAX 10000u
#define BACKLOG 128
/* Failed sessions of one address are followed by a pause that doubles. */
#define FAILED_ADDRESSES 1024u
#define PAUSE_FIRST_NS (NS_PER_S / 2)
#define PAUSE_LAST_NS (60 * NS_PER_S)
/* Without descriptors who connects waits in the kernel's queue, which is ready all the time. */
#define SCARCE_NS (100 * NS_PER_MS)

struct listener {
	struct receiver *r;
	int fd;
	struct loop_fd *source;
	struct loop_timer *scarce; /* armed: nobody is let in until there may be descriptors again */
};

/* An address whose sessions failed, most recently this many in a row. */
struct failed {
	unsigned char address[16];
	uint32_t times;
	int64_t until_ns;
};

struct session {
	struct session *next;
	pid_t pid;
	unsigned char address[16];
	int go_fd;    /* a byte there: it may begin; then answers to its questions */
	bool let_go;  /* it may have begun */
	bool greeted; /* else it may be ended to make room */
	bool ended;   /* it was */
};

struct receiver {
	const struct worker_deps *deps;
	struct loop *loop;
	int fd;
	struct loop_fd *source, *log_source;
	struct buf in, out, log_in;
	struct config *config;
	const struct receiver_options *opt;
	struct listener listeners[LISTENERS_MAX];
	size_t n_listeners;
	size_t n_passed; /* listening sockets behind fd, in the place of the configuration's addresses */
	int log_fds[2];
	int *module_fds;
	struct module_owners *module_owners;
	struct receiver_lookups *lookups;
	struct tls_key *keys;
	size_t n_keys;
	unsigned char host_id[TCP_HOST_ID], boot[TCP_HOST_ID];
	struct session *sessions;
	size_t n_sessions, n_ending;
	struct failed failed[FAILED_ADDRESSES];
	int64_t told_full_ns;
};

/* ---- to the daemon ---- */

static void flush_out(struct receiver *r)
{
	while (r->out.len > 0) {
		ssize_t n = send(r->fd, r->out.data, r->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			if (errno != EAGAIN)
				loop_stop(r->loop, 0);
			break;
		}
		buf_consume(&r->out, (size_t)n);
	}
	loop_fd_set(r->source, r->out.len > 0 ? LOOP_READ | LOOP_WRITE : LOOP_READ);
}

static void log_sink(void *ctx, enum log_category cat, const char *text, size_t len)
{
	struct receiver *r = ctx;

	(void)wire_put_log(&r->out, (uint32_t)cat, text, len); /* a lost line is no reason to stop */
}

/* ---- keys and modules ---- */

static void wipe_keys(struct tls_key *keys, size_t n)
{
	for (size_t i = 0; i < n; i++)
		tls_key_wipe(&keys[i]);
}

/* Room for one more. Where they were before no key is left, which each session would have a copy of. */
static bool grow_keys(struct receiver *r)
{
	struct tls_key *more;

	if ((r->n_keys & (r->n_keys - 1)) != 0)
		return true; /* it was doubled */
	more = calloc(r->n_keys == 0 ? 1 : 2 * r->n_keys, sizeof(*more));
	if (more == NULL)
		return false;
	if (r->n_keys > 0)
		memcpy(more, r->keys, r->n_keys * sizeof(*more));
	wipe_keys(r->keys, r->n_keys);
	free(r->keys);
	r->keys = more;
	return true;
}

static int read_keys(struct receiver *r, struct err *err)
{
	DIR *dir = r->opt->keys == NULL ? NULL : opendir(r->opt->keys);
	const struct dirent *e;

	if (r->opt->keys == NULL)
		return 0;
	if (dir == NULL)
		return err_errno(err, errno, "keys: %s", r->opt->keys);
	while ((e = readdir(dir)) != NULL && r->n_keys < KEYS_MAX) {
		size_t n = strlen(e->d_name);
		struct err why = ERR_INIT;
		char *path;

		if (n < 5 || strcmp(e->d_name + n - 4, ".key") != 0)
			continue;
		if (!grow_keys(r) || asprintf(&path, "%s/%s", r->opt->keys, e->d_name) < 0) {
			(void)closedir(dir);
			return err_set(err, ERR_NOMEM, "out of memory for keys");
		}
		if (tls_key_read(path, &r->keys[r->n_keys], &why) == 0)
			r->n_keys++;
		else
			log_error("%s: this key lets nobody in", why.text);
		free(path);
	}
	(void)closedir(dir);
	return 0;
}

/* A directory that is not there (yet) is looked for at each connection. */
static void open_modules(struct receiver *r)
{
	for (size_t i = 0; i < r->opt->n_modules; i++) {
		struct stat now = { 0 }, then = { 0 };
		const char *path = r->opt->modules[i].path;

		if (r->module_fds[i] >= 0 && stat(path, &now) == 0 && fstat(r->module_fds[i], &then) == 0 &&
		    now.st_dev == then.st_dev && now.st_ino == then.st_ino)
			continue;
		if (r->module_fds[i] >= 0)
			(void)close(r->module_fds[i]);
		r->module_fds[i] = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (r->module_fds[i] < 0)
			log_error("module %s: %s: %s", r->opt->modules[i].name, path, strerror(errno));
	}
}

/* ---- addresses ---- */

static bool is_here(const unsigned char a[16])
{
	static const unsigned char v4[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
	static const unsigned char v6[16] = { [15] = 1 };

	return memcmp(a, v6, 16) == 0 || (memcmp(a, v4, 12) == 0 && a[12] == 127);
}

static struct failed *slot_of(struct receiver *r, const unsigned char a[16])
{
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < 16; i++)
		h = (h ^ a[i]) * 16777619u;
	return &r->failed[h % FAILED_ADDRESSES];
}

static bool must_wait(struct receiver *r, const unsigned char a[16])
{
	const struct failed *f = slot_of(r, a);

	/* Who sits at this host has other means; and an honest sender may sit here as well. */
	return !is_here(a) && memcmp(f->address, a, 16) == 0 && f->times > 1 && clock_mono_ns() < f->until_ns;
}

static void note_end(struct receiver *r, const struct session *s, bool well)
{
	struct failed *f = slot_of(r, s->address);
	int64_t pause = PAUSE_FIRST_NS;

	if (memcmp(f->address, s->address, 16) != 0)
		*f = (struct failed){ 0 };
	memcpy(f->address, s->address, 16);
	f->times = well ? 0 : f->times + 1;
	for (uint32_t i = 1; i < f->times && pause < PAUSE_LAST_NS; i++)
		pause *= 2;
	f->until_ns = clock_mono_ns() + (pause < PAUSE_LAST_NS ? pause : PAUSE_LAST_NS);
}

/* ---- sessions ---- */

static struct session *find_session(struct receiver *r, pid_t pid)
{
	struct session *s = r->sessions;

	while (s != NULL && s->pid != pid)
		s = s->next;
	return s;
}

static void drop_session(struct receiver *r, struct session *s)
{
	struct session **at = &r->sessions;

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	if (s->go_fd >= 0)
		(void)close(s->go_fd);
	r->n_sessions--;
	r->n_ending -= s->ended ? 1 : 0;
	free(s);
}

static void on_child(void *ctx, pid_t pid, int status)
{
	struct receiver *r = ctx;
	struct session *s = find_session(r, pid);

	if (s == NULL)
		return;
	/* Whoever gets this number next would be taken for it: what can't be told of is told by our own end. */
	if (!wire_put_origin(&r->out, (uint32_t)pid, &(struct host_tree){ 0 })) {
		log_error("out of memory");
		loop_stop(r->loop, 1);
	}
	if (!s->ended)
		note_end(r, s, WIFEXITED(status) && WEXITSTATUS(status) == 0);
	if (WIFSIGNALED(status) && WTERMSIG(status) != SIGTERM && !s->ended)
		log_error("a session was ended by signal %d", WTERMSIG(status));
	drop_session(r, s);
}

/* The oldest of those that have not greeted yet goes: an honest one needs a moment for that, so it takes many times
 * maxConnections at once to push it out. */
static void make_room(struct receiver *r)
{
	struct session *oldest = NULL;

	for (struct session *s = r->sessions; s != NULL; s = s->next) /* the latest first */
		if (!s->greeted && !s->ended)
			oldest = s;
	if (oldest == NULL)
		return;
	oldest->ended = true;
	r->n_ending++;
	(void)kill(oldest->pid, SIGKILL);
}

static bool is_full(const struct receiver *r)
{
	return r->n_sessions - r->n_ending >= (size_t)r->opt->max_connections;
}

static void become_session(struct receiver *r, int fd, int go_fd, const unsigned char address[16], const char *from)
{
	const struct receiver_child c = { .fd = fd,
					  .go_fd = go_fd,
					  .log_fd = r->log_fds[1],
					  .opt = r->opt,
					  .module_fds = r->module_fds,
					  .module_owners = r->module_owners,
					  .keys = r->keys,
					  .n_keys = r->n_keys,
					  .from = from,
					  .from_here = is_here(address) };
	struct receiver_child own = c;
	sigset_t none;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	/* What is the listener's alone: the others would be killed with it, but its sockets must not stay open here. */
	(void)close(r->fd);
	for (size_t i = 0; i < r->n_listeners; i++)
		(void)close(r->listeners[i].fd);
	(void)close(r->log_fds[0]);
	for (const struct session *s = r->sessions; s != NULL; s = s->next)
		if (s->go_fd >= 0)
			(void)close(s->go_fd);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	memcpy(own.host_id, r->host_id, sizeof(own.host_id));
	memcpy(own.boot, r->boot, sizeof(own.boot));
	memcpy(own.address, address, sizeof(own.address));
	receiver_child_run(&own);
}

static void start_session(struct receiver *r, int fd, const unsigned char address[16], const char *from)
{
	struct session *s = calloc(1, sizeof(*s));
	int go[2] = { -1, -1 };
	struct err err = ERR_INIT;
	pid_t pid;

	pid = s == NULL || pipe2(go, O_CLOEXEC | O_NONBLOCK) < 0 ? -1 : fork();
	if (pid == 0) {
		(void)close(go[1]);
		become_session(r, fd, go[0], address, from);
	}
	(void)close(fd);
	if (go[0] >= 0)
		(void)close(go[0]);
	if (pid < 0) {
		log_error("%s: no session can be started: %s", from, strerror(errno));
		if (go[1] >= 0)
			(void)close(go[1]);
		free(s);
		return;
	}
	s->pid = pid;
	s->go_fd = go[1];
	memcpy(s->address, address, 16);
	s->next = r->sessions;
	r->sessions = s;
	r->n_sessions++;
	if (loop_child(r->loop, pid, on_child, r, &err) == 0)
		return;
	log_error("%s: no session can be started: %s", from, err.text);
	(void)kill(pid, SIGKILL);
	loop_child_forget(r->loop, pid);
	drop_session(r, s);
}

static void on_listener(void *ctx, int fd, unsigned events)
{
	struct listener *l = ctx;
	struct receiver *r = l->r;
	struct sockaddr_storage a = { 0 };
	socklen_t len = sizeof(a);
	unsigned char address[16];
	char host[64], from[96], port[16];
	int conn = accept4(fd, (struct sockaddr *)&a, &len, SOCK_CLOEXEC), on = 1;
	int64_t now = clock_mono_ns();

	(void)events;
	if (conn < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
			loop_fd_set(l->source, 0);
			loop_timer_after(l->scarce, SCARCE_NS);
		}
		return;
	}
	tcp_address_bytes(&a, address);
	if (is_full(r) && !must_wait(r, address))
		make_room(r);
	if (is_full(r) || must_wait(r, address)) {
		if (is_full(r) && now - r->told_full_ns > 10 * NS_PER_S) {
			log_warn("%zu sessions (maxConnections): more are turned away", r->n_sessions);
			r->told_full_ns = now;
		}
		(void)close(conn);
		return;
	}
	(void)setsockopt(conn, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (getnameinfo((struct sockaddr *)&a, len, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		(void)snprintf(host, sizeof(host), "?");
	/* To a socket of both kinds an IPv4 address comes in the dress of the other. */
	(void)snprintf(from, sizeof(from), "%s",
		       strncmp(host, "::ffff:", 7) == 0 && strchr(host, '.') != NULL ? host + 7 : host);
	open_modules(r);
	start_session(r, conn, address, from);
}

static void on_scarce(void *ctx)
{
	struct listener *l = ctx;

	loop_fd_set(l->source, LOOP_READ);
}

static int attend(struct listener *l, struct err *err)
{
	l->source = loop_fd_add(l->r->loop, l->fd, LOOP_READ, on_listener, l, err);
	l->scarce = l->source == NULL ? NULL : loop_timer_add(l->r->loop, on_scarce, l, err);
	return l->scarce == NULL ? -1 : 0;
}

/* Its peer is known to the daemon, or need not be. */
static void let_go(struct session *s)
{
	ssize_t done;

	if (s == NULL || s->let_go)
		return;
	done = write(s->go_fd, "g", 1);
	(void)done;
	s->let_go = true;
}

/* What a session asked, which waits for it. */
static void on_owner(void *ctx, pid_t session, const struct owner_answer *a)
{
	const struct session *s = find_session(ctx, session);
	ssize_t done;

	if (s == NULL || !s->let_go)
		return;
	done = write(s->go_fd, a, sizeof(*a));
	(void)done;
}

static void note_greeting(struct receiver *r, pid_t pid, const struct host_tree *from)
{
	struct session *s = find_session(r, pid);

	if (s == NULL || s->ended)
		return;
	s->greeted = true;
	if (from->ino == 0 || !wire_put_origin(&r->out, (uint32_t)pid, from))
		let_go(s);
}

/* Frames of log lines, from all sessions: they are looked at before they are passed on. */
static void on_log(void *ctx, int fd, unsigned events)
{
	struct receiver *r = ctx;
	const char *payload, *text;
	struct host_tree from;
	struct owner_question q;
	uint32_t category, pid;
	size_t len, text_len;
	uint8_t type;
	ssize_t n;

	(void)events;
	if (!buf_reserve(&r->log_in, 65536))
		buf_clear(&r->log_in);
	if (!buf_reserve(&r->log_in, 65536))
		return;
	n = read(fd, r->log_in.data + r->log_in.len, 65536);
	if (n <= 0)
		return;
	r->log_in.len += (size_t)n;
	for (;;) {
		int got = frame_next(&r->log_in, 4096, &type, &payload, &len);

		if (got < 0)
			buf_clear(&r->log_in);
		if (got <= 0)
			return;
		if (type == WIRE_LOG && wire_get_log(payload, len, &category, &text, &text_len))
			(void)wire_put_log(&r->out, category, text, text_len);
		else if (type == WIRE_ORIGIN && wire_get_origin(payload, len, &pid, &from))
			note_greeting(r, (pid_t)pid, &from);
		else if (type == WIRE_OWNER && wire_get_owner(payload, len, &pid, &q) &&
			 find_session(r, (pid_t)pid) != NULL)
			receiver_lookups_ask(r->lookups, (pid_t)pid, &q);
	}
}

/* ---- start ---- */

static int listen_on(struct receiver *r, const char *text, struct err *err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE }, *list = NULL;
	const char *colon = strrchr(text, ':');
	char host[256];
	size_t n = (size_t)(colon - text);
	int got, result = 0;

	if (text[0] == '[') {
		text++;
		n -= 2;
	}
	if (n >= sizeof(host))
		return err_set(err, ERR_CONFIG, "listen: the address is too long");
	memcpy(host, text, n);
	host[n] = '\0';
	got = getaddrinfo(host, colon + 1, &hints, &list);
	if (got != 0)
		return err_set(err, ERR_CONFIG, "listen: %s: %s", host, gai_strerror(got));
	for (const struct addrinfo *a = list; a != NULL && result == 0 && r->n_listeners < LISTENERS_MAX;
	     a = a->ai_next) {
		struct listener *l = &r->listeners[r->n_listeners];
		int on = 1;

		l->r = r;
		l->fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (l->fd < 0) {
			result = err_errno(err, errno, "listen: %s", host);
			break;
		}
		r->n_listeners++;
		(void)setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
		if (a->ai_family == AF_INET6)
			(void)setsockopt(l->fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
		if (bind(l->fd, a->ai_addr, a->ai_addrlen) < 0 || listen(l->fd, BACKLOG) < 0)
			result = err_errno(err, errno, "listen: %s port %s", host, colon + 1);
		else
			result = attend(l, err);
	}
	freeaddrinfo(list);
	return result;
}

/* A socket of the service manager's: bound and listening, also while no receiver runs. */
static int adopt(struct receiver *r, int fd, struct err *err)
{
	struct listener *l = &r->listeners[r->n_listeners++];

	l->r = r;
	l->fd = fd;
	return listen_fds_check(fd, err) < 0 ? -1 : attend(l, err);
}

static int listen_all(struct receiver *r, struct err *err)
{
	for (size_t i = 0; i < r->n_passed; i++)
		if (adopt(r, r->fd + 1 + (int)i, err) < 0)
			return -1;
	for (size_t i = 0; r->n_passed == 0 && i < r->opt->listen.n; i++)
		if (listen_on(r, r->opt->listen.v[i], err) < 0)
			return -1;
	return 0;
}

static void say_ready(const struct receiver *r)
{
	char where[300];

	if (r->n_passed > 0)
		(void)snprintf(where, sizeof(where), "%zu socket%s of the service manager%s", r->n_passed,
			       r->n_passed > 1 ? "s" : "", r->opt->listen.n > 0 ? " (\"listen\" is not used)" : "");
	else
		(void)snprintf(where, sizeof(where), "%s%s", r->opt->listen.v[0],
			       r->opt->listen.n > 1 ? " and others" : "");
	log_normal("%zu modules, %zu keys, listening on %s", r->opt->n_modules, r->n_keys, where);
}

static int take_config(struct receiver *r, const char *payload, size_t len, struct err *err)
{
	struct wire_config c;

	if (r->config != NULL || !wire_get_config(payload, len, &c))
		return err_set(err, ERR_PROTOCOL, "malformed configuration message");
	log_set_mask(c.log_mask);
	r->config = r->deps->load(c.text, c.text_len, err);
	if (r->config == NULL)
		return -1;
	r->opt = r->config->receiver;
	if (r->opt == NULL)
		return err_set(err, ERR_BUG, "the daemon sent a configuration without a receiver");
	memcpy(r->host_id, c.host_id, sizeof(r->host_id));
	host_boot_get(r->boot);
	r->module_fds = calloc(r->opt->n_modules + 1, sizeof(*r->module_fds));
	r->module_owners = calloc(r->opt->n_modules + 1, sizeof(*r->module_owners));
	if (r->module_fds == NULL || r->module_owners == NULL)
		return err_set(err, ERR_NOMEM, "out of memory");
	for (size_t i = 0; i < r->opt->n_modules; i++)
		r->module_fds[i] = -1;
	if (read_keys(r, err) < 0)
		return -1;
	for (size_t i = 0; i < r->opt->n_modules; i++)
		if (module_owners_read(&r->opt->modules[i], &r->module_owners[i], err) < 0)
			return -1;
	open_modules(r);
	return listen_all(r, err);
}

static void on_config(struct receiver *r, const char *payload, size_t len)
{
	struct err err = ERR_INIT;

	if (take_config(r, payload, len, &err) < 0) {
		(void)wire_put_down(&r->out, &err);
		flush_out(r);
		loop_stop(r->loop, 1);
		return;
	}
	if (r->opt->insecure)
		log_warn("insecure = true: senders need no key, and what they send can be read and changed on "
			 "the way");
	say_ready(r);
	(void)wire_put_empty(&r->out, WIRE_READY);
}

static void on_frame(struct receiver *r, uint8_t type, const char *payload, size_t len)
{
	uint32_t mask, pid;

	if (type == WIRE_CONFIG)
		on_config(r, payload, len);
	else if (type == WIRE_LOG_MASK && wire_get_u32(payload, len, &mask))
		log_set_mask(mask);
	else if (type == WIRE_ORIGIN && wire_get_u32(payload, len, &pid))
		let_go(find_session(r, (pid_t)pid));
	else
		loop_stop(r->loop, 1);
}

static void on_socket(void *ctx, int fd, unsigned events)
{
	struct receiver *r = ctx;
	const char *payload;
	size_t len;
	uint8_t type;
	ssize_t n;

	if ((events & (LOOP_READ | LOOP_HUP)) == 0)
		return;
	if (!buf_reserve(&r->in, 65536)) { /* the daemon starts another one */
		log_error("out of memory");
		loop_stop(r->loop, 1);
		return;
	}
	n = recv(fd, r->in.data + r->in.len, 65536, MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		loop_stop(r->loop, 0);
		return;
	}
	r->in.len += n > 0 ? (size_t)n : 0;
	while (frame_next(&r->in, WIRE_FRAME_MAX, &type, &payload, &len) > 0)
		on_frame(r, type, payload, len);
}

static void before_wait(void *ctx)
{
	flush_out(ctx);
}

static void on_signal(void *ctx, int signo)
{
	(void)signo;
	loop_stop(((struct receiver *)ctx)->loop, 0);
}

static int set_up(struct receiver *r, struct err *err)
{
	r->loop = loop_new(err);
	if (r->loop == NULL || loop_signal(r->loop, SIGTERM, on_signal, r, err) < 0)
		return -1;
	(void)signal(SIGPIPE, SIG_IGN);
	(void)prctl(PR_SET_NAME, "fansyncd:recv", 0, 0, 0);
	if (privileges_reduce(err) < 0 || confine_memory(err) < 0) /* it holds the keys */
		return -1;
	if (pipe2(r->log_fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_errno(err, errno, "pipe");
	r->source = loop_fd_add(r->loop, r->fd, LOOP_READ, on_socket, r, err);
	r->log_source = loop_fd_add(r->loop, r->log_fds[0], LOOP_READ, on_log, r, err);
	r->lookups = receiver_lookups_new(r->loop, on_owner, r, err);
	if (r->source == NULL || r->log_source == NULL || r->lookups == NULL)
		return -1;
	loop_before_wait(r->loop, before_wait, r);
	return 0;
}

static void tear_down(struct receiver *r)
{
	log_set_sink(NULL, NULL);
	while (r->sessions != NULL) {
		struct session *s = r->sessions;

		r->sessions = s->next;
		(void)kill(s->pid, SIGTERM);
		loop_child_forget(r->loop, s->pid);
		if (s->go_fd >= 0)
			(void)close(s->go_fd);
		free(s);
	}
	for (size_t i = 0; i < r->n_listeners; i++) {
		loop_fd_remove(r->listeners[i].source);
		loop_timer_remove(r->listeners[i].scarce);
		(void)close(r->listeners[i].fd);
	}
	loop_fd_remove(r->source);
	loop_fd_remove(r->log_source);
	for (size_t i = 0; r->module_fds != NULL && i < r->opt->n_modules; i++)
		if (r->module_fds[i] >= 0)
			(void)close(r->module_fds[i]);
	free(r->module_fds);
	for (size_t i = 0; r->module_owners != NULL && i < r->opt->n_modules; i++)
		module_owners_done(&r->module_owners[i]);
	free(r->module_owners);
	receiver_lookups_free(r->lookups);
	wipe_keys(r->keys, r->n_keys);
	free(r->keys);
	if (r->config != NULL)
		r->deps->unload(r->config);
	buf_done(&r->in);
	buf_done(&r->out);
	buf_done(&r->log_in);
	if (r->loop != NULL)
		loop_free(r->loop);
}

int receiver_run(int fd, size_t n_listen, const struct worker_deps *deps)
{
	struct receiver *r = calloc(1, sizeof(*r));
	struct err err = ERR_INIT;
	int result = 1;

	if (r == NULL)
		return 1;
	r->deps = deps;
	r->fd = fd;
	r->n_passed = n_listen < LISTENERS_MAX ? n_listen : LISTENERS_MAX;
	r->log_fds[0] = r->log_fds[1] = -1;
	buf_init(&r->in, WIRE_FRAME_MAX + 512u * 1024);
	buf_init(&r->out, WIRE_QUEUE_MAX);
	buf_init(&r->log_in, 256u * 1024);
	log_set_sink(log_sink, r);
	if (set_up(r, &err) == 0)
		result = loop_run(r->loop, &err);
	else if (wire_put_down(&r->out, &err)) /* there may be no loop to send it by */
		(void)!send(fd, r->out.data, r->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
	tear_down(r);
	free(r);
	return result < 0 ? 1 : result;
}
