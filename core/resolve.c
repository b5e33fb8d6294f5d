#include "core/resolve.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/lookups.h"

/* What the child writes, in one piece that a pipe takes whole. */
struct answer {
	int code, error; /* of getaddrinfo, and errno when that is EAI_SYSTEM */
	uint32_t n;
	struct resolve_address v[RESOLVE_MAX];
};

struct resolver {
	struct loop *loop;
	resolve_fn *done;
	void *ctx;
	char *host;
	pid_t pid; /* 0: none */
	int fd;	   /* -1 */
	struct loop_fd *source;
	struct loop_timer *timer;
	int64_t timeout_ns;
	bool known; /* it was a literal: told from the loop */
	size_t got;
	struct answer answer;
};

/* What a process for look-ups is asked. */
struct question {
	char kind; /* RESOLVE_KIND */
	uint16_t port;
	char host[256]; /* no name is longer */
};

/* ---- looking up ---- */

static void look_up(const char *host, uint16_t port, int flags, struct answer *out)
{
	const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = flags };
	struct addrinfo *found = NULL;
	char service[8];

	memset(out, 0, sizeof(*out));
	(void)snprintf(service, sizeof(service), "%u", port);
	out->code = getaddrinfo(host, service, &hints, &found);
	out->error = errno;
	if (out->code != 0)
		return;
	for (const struct addrinfo *a = found; a != NULL && out->n < RESOLVE_MAX; a = a->ai_next) {
		if (a->ai_addrlen > sizeof(out->v[0].addr))
			continue;
		memcpy(&out->v[out->n].addr, a->ai_addr, a->ai_addrlen);
		out->v[out->n++].len = a->ai_addrlen;
	}
	freeaddrinfo(found);
}

/* Holds nothing of its parent's open, and ends with it. */
static _Noreturn void child(const struct resolver *r, int out, uint16_t port, pid_t parent)
{
	struct answer answer;
	sigset_t none;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (getppid() != parent)
		_exit(1);
	sigemptyset(&none);
	(void)signal(SIGTERM, SIG_DFL);
	(void)signal(SIGINT, SIG_DFL);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	if (out != 3 && dup2(out, 3) < 0)
		_exit(1);
	(void)close_range(4, ~0u, 0);
	look_up(r->host, port, AI_ADDRCONFIG, &answer);
	_exit(write(3, &answer, sizeof(answer)) == (ssize_t)sizeof(answer) ? 0 : 1);
}

void resolve_answer(const void *question, size_t len, int out)
{
	struct answer answer;
	struct question q;

	if (len != sizeof(q))
		return;
	memcpy(&q, question, sizeof(q));
	q.host[sizeof(q.host) - 1] = '\0';
	look_up(q.host, q.port, AI_ADDRCONFIG, &answer);
	_exit(write(out, &answer, sizeof(answer)) == (ssize_t)sizeof(answer) ? 0 : 1);
}

/* ---- the end ---- */

static void end_child(struct resolver *r)
{
	loop_fd_remove(r->source);
	r->source = NULL;
	if (r->fd >= 0)
		(void)close(r->fd);
	r->fd = -1;
	if (r->pid <= 0)
		return;
	(void)kill(r->pid, SIGKILL);
	while (waitpid(r->pid, NULL, 0) < 0 && errno == EINTR)
		;
	r->pid = 0;
}

/* The last thing that is done with it. */
static void tell(struct resolver *r, const char *words)
{
	struct err why = ERR_INIT;
	const struct answer *a = &r->answer;

	loop_timer_stop(r->timer);
	end_child(r);
	if (words == NULL && a->code != 0)
		words = a->code == EAI_SYSTEM ? strerror(a->error) : gai_strerror(a->code);
	else if (words == NULL && a->n == 0)
		words = "it has no address";
	if (words != NULL)
		err_set(&why, ERR_NETWORK, "the host %.80s: %s", r->host, words);
	r->done(r->ctx, a->v, words == NULL ? a->n : 0, &why);
}

static void on_timer(void *ctx)
{
	struct resolver *r = ctx;

	tell(r, r->known ? NULL : "its name was not found in time");
}

static void on_answer(void *ctx, int fd, unsigned events)
{
	struct resolver *r = ctx;
	ssize_t n = read(fd, (char *)&r->answer + r->got, sizeof(r->answer) - r->got);

	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		r->got += (size_t)n;
	if (r->got == sizeof(r->answer))
		tell(r, r->answer.n <= RESOLVE_MAX ? NULL : "its name was not looked up");
	else if (n <= 0)
		tell(r, "its name was not looked up");
}

void resolver_free(struct resolver *r)
{
	if (r == NULL)
		return;
	end_child(r);
	loop_timer_remove(r->timer);
	free(r->host);
	free(r);
}

/* ---- the start ---- */

static int ask(struct resolver *r, int lookups, uint16_t port, struct err *err)
{
	struct question q;

	memset(&q, 0, sizeof(q));
	q.kind = RESOLVE_KIND;
	q.port = port;
	(void)snprintf(q.host, sizeof(q.host), "%s", r->host);
	r->fd = lookups_ask(lookups, &q, sizeof(q), err);
	if (r->fd < 0)
		return -1;
	r->source = loop_fd_add(r->loop, r->fd, LOOP_READ, on_answer, r, err);
	return r->source == NULL ? -1 : 0;
}

static int start_child(struct resolver *r, uint16_t port, struct err *err)
{
	pid_t parent = getpid();
	int ends[2];

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_errno(err, errno, "pipe");
	r->fd = ends[0];
	r->source = loop_fd_add(r->loop, r->fd, LOOP_READ, on_answer, r, err);
	r->pid = r->source == NULL ? -1 : fork();
	if (r->pid == 0)
		child(r, ends[1], port, parent);
	(void)close(ends[1]);
	if (r->source == NULL)
		return -1;
	return r->pid < 0 ? err_errno(err, errno, "fork") : 0;
}

struct resolver *resolver_start(struct loop *loop, int lookups, const char *host, uint16_t port, int64_t timeout_ns,
				resolve_fn *done, void *ctx, struct err *err)
{
	struct resolver *r = calloc(1, sizeof(*r));

	if (r == NULL) {
		err_set(err, ERR_NOMEM, "out of memory");
		return NULL;
	}
	r->loop = loop;
	r->done = done;
	r->ctx = ctx;
	r->fd = -1;
	r->host = strdup(host);
	r->timer = loop_timer_add(loop, on_timer, r, err);
	if (r->host == NULL || r->timer == NULL) {
		if (r->host == NULL)
			err_set(err, ERR_NOMEM, "out of memory");
		resolver_free(r);
		return NULL;
	}
	look_up(host, port, AI_NUMERICHOST, &r->answer);
	r->known = r->answer.code == 0;
	if (!r->known && (lookups > 0 ? ask(r, lookups, port, err) : start_child(r, port, err)) < 0) {
		resolver_free(r);
		return NULL;
	}
	loop_timer_after(r->timer, r->known ? 0 : timeout_ns);
	return r;
}
