#include "transports/receiver_child.h"

#include <errno.h>
#include <fcntl.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/log.h"
#include "core/loop.h"
#include "core/wire.h"
#include "transports/receiver_confine.h"
#include "transports/receiver_session.h"

/* A write of no more is never mixed with another session's. */
#define LINE_MAX_BYTES 1024u
#define MMAP_THRESHOLD (1024 * 1024)
#define TRIM_THRESHOLD (2 * MMAP_THRESHOLD)

struct child {
	const struct receiver_child *c;
	struct loop *loop;
	struct receiver_session *session;
	struct loop_fd *go;
	bool over;
};

/* Listings that grow are moved, not copied beside themselves, and what is large goes back when it is freed: the C
 * library would keep more and more of it for itself. */
static void give_back(void)
{
#ifdef __GLIBC__
	(void)mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD);
	(void)mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD); /* pieces of content come and go */
#endif
}

/* The listener passes them on. A line that it does not take is lost, not waited for. */
static void log_sink(void *ctx, enum log_category cat, const char *text, size_t len)
{
	const struct child *ch = ctx;
	char line[LINE_MAX_BYTES];
	struct buf frame;
	size_t named = strlen(ch->c->from);
	bool has_it = len > named + 1 && memcmp(text, ch->c->from, named) == 0 && memcmp(text + named, ": ", 2) == 0;
	int n = snprintf(line, sizeof(line), "%s%s%.*s", has_it ? "" : ch->c->from, has_it ? "" : ": ",
			 (int)(len < 900 ? len : 900), text);

	buf_init(&frame, 2 * LINE_MAX_BYTES);
	if (n > 0 && wire_put_log(&frame, (uint32_t)cat, line, (size_t)n)) {
		ssize_t done = write(ch->c->log_fd, frame.data, frame.len);

		(void)done;
	}
	buf_done(&frame);
}

static bool find_key(void *ctx, const char *name, struct tls_key *out)
{
	const struct child *ch = ctx;

	for (size_t i = 0; i < ch->c->n_keys; i++)
		if (strcmp(ch->c->keys[i].name, name) == 0) {
			*out = ch->c->keys[i];
			return true;
		}
	return false;
}

static void on_ended(void *ctx)
{
	struct child *ch = ctx;

	ch->over = true;
	loop_stop(ch->loop, 0);
}

/* The daemon knows who writes here. */
static void on_go(void *ctx, int fd, unsigned events)
{
	struct child *ch = ctx;

	char byte;

	(void)events;
	if (read(fd, &byte, 1) < 0)
		return; /* there it is not yet */
	loop_fd_remove(ch->go);
	ch->go = NULL;
	receiver_session_welcome(ch->session);
}

static void on_greeted(void *ctx, const struct host_tree *from)
{
	struct child *ch = ctx;
	struct host_tree whole = *from;
	struct err err = ERR_INIT;
	struct buf frame;
	bool told;

	memcpy(whole.address, ch->c->address, sizeof(whole.address));
	buf_init(&frame, 128);
	told = wire_put_origin(&frame, (uint32_t)getpid(), &whole) &&
	       write(ch->c->log_fd, frame.data, frame.len) == (ssize_t)frame.len;
	buf_done(&frame);
	if (told)
		ch->go = loop_fd_add(ch->loop, ch->c->go_fd, LOOP_READ, on_go, ch, &err);
	if (ch->go == NULL) /* at worst it gives way to another one, and its changes are carried back */
		receiver_session_welcome(ch->session);
}

/* NSS is out of reach here: the listener has it asked. */
static void look_up(void *ctx, const struct owner_question *q, struct owner_answer *out)
{
	const struct child *ch = ctx;
	struct pollfd p = { .fd = ch->c->go_fd, .events = POLLIN };
	struct buf frame;
	bool asked;

	buf_init(&frame, 2 * LINE_MAX_BYTES);
	asked = wire_put_owner(&frame, (uint32_t)getpid(), q) &&
		write(ch->c->log_fd, frame.data, frame.len) == (ssize_t)frame.len;
	buf_done(&frame);
	if (asked && poll(&p, 1, (int)(OWNER_SECONDS + 1) * 1000) > 0 &&
	    read(p.fd, out, sizeof(*out)) == (ssize_t)sizeof(*out))
		return;
	memset(out, 0, sizeof(*out));
	out->result = OWNER_FAILED;
}

static struct tls_context *make_tls(struct child *ch, struct err *err)
{
	const struct receiver_options *opt = ch->c->opt;
	const struct tls_config config = { .find_key = find_key,
					   .ctx = ch,
					   .certificate = opt->certificate,
					   .private_key = opt->private_key,
					   .ca = opt->ca };

	return tls_server_new(&config, err);
}

/* Where plaintext is allowed the sender decides: it says 'P' first. Waits for that byte, bounded. */
static bool wants_tls(const struct receiver_child *c)
{
	struct timeval limit = { .tv_sec = (time_t)(c->opt->handshake_ns / 1000000000) };
	char first = '\0';

	if (!c->opt->insecure && !c->from_here)
		return true;
	(void)setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (recv(c->fd, &first, 1, MSG_PEEK) != 1 || first != 'P')
		return true;
	return recv(c->fd, &first, 1, 0) != 1;
}

static int serve(struct child *ch, struct tls_context *tls, struct err *err)
{
	const struct receiver_child *c = ch->c;
	struct receiver_session_setup setup = { .fd = c->fd,
						.opt = c->opt,
						.module_fds = c->module_fds,
						.from = c->from,
						.module_owners = c->module_owners,
						.greeted = on_greeted,
						.look_up = look_up,
						.ended = on_ended,
						.ctx = ch };
	bool proved;

	setup.tls = wants_tls(c) ? tls : NULL;
	if (fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0)
		return err_errno(err, errno, "the connection");
	ch->loop = setup.loop = loop_new(err);
	if (ch->loop == NULL)
		return -1;
	memcpy(setup.host_id, c->host_id, sizeof(setup.host_id));
	ch->session = receiver_session_new(&setup, err);
	if (ch->session == NULL)
		return -1;
	while (!ch->over && loop_run(ch->loop, err) >= 0)
		;
	proved = receiver_session_proved(ch->session);
	receiver_session_free(ch->session);
	if (ch->go != NULL)
		loop_fd_remove(ch->go);
	loop_free(ch->loop);
	return ch->over && proved ? 0 : -1;
}

void receiver_child_run(const struct receiver_child *c)
{
	struct child ch = { .c = c };
	struct confinement done;
	struct err err = ERR_INIT;
	struct tls_context *tls;
	int result;

	(void)signal(SIGPIPE, SIG_IGN);
	give_back();
	(void)prctl(PR_SET_NAME, "fansyncd:session", 0, 0, 0);
	log_set_sink(log_sink, &ch);
	/* Certificates lie outside the modules: they are out of reach afterwards. */
	tls = make_tls(&ch, &err);
	result = tls == NULL ? -1 : receiver_confine(c->module_fds, c->opt->n_modules, &done, &err);
	if (result == 0) {
		if (!done.files || !done.calls)
			log_debug(LOG_CAT_DEBUG, "this kernel has no %s: the session is less confined",
				  done.files ? "seccomp" : "landlock");
		result = serve(&ch, tls, &err);
	}
	tls_context_free(tls);
	if (result < 0 && err.class != ERR_NONE)
		log_error("%s", err.text);
	_exit(result < 0 ? 1 : 0);
}
