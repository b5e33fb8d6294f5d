/*
 * rsync_rsh.c - the remote shell of a confined rsync; see rsync_rsh.h.
 *
 * One message each way: a length and that many bytes, words that each end with NUL, with rsync's three pipes; then,
 * when the shell has ended, its status as waitpid gives it.
 */
#include "transports/rsync_rsh.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/log.h"

/* What the kernel lets a program be started with (ARG_MAX). */
#define ASKED_MAX (2u * 1024 * 1024)
/* As rsync's own child says it when it can't start its shell. */
#define EXIT_NO_SHELL 14

/* ---- what rsync adds ---- */

/* The next word, and what is left behind it; NULL: none, or it does not end. */
static const char *next_word(const char **at, const char *end)
{
	const char *word = *at, *nul = word >= end ? NULL : memchr(word, '\0', (size_t)(end - word));

	if (nul == NULL)
		return NULL;
	*at = nul + 1;
	return word;
}

static bool is_text(const char *word, const char *text, size_t len)
{
	return strlen(word) == len && memcmp(word, text, len) == 0;
}

bool rsync_rsh_wanted(const char *dest, const char *program, const char *words, size_t len)
{
	const char *end = words + len, *at = words, *word = next_word(&at, end);
	const char *from = dest, *to = dest + strcspn(dest, ":["), *user_end = NULL;

	/* rsync: the host ends with the first colon, or is in brackets; the user with the last "@" before it. */
	for (const char *p = dest; p < to; p++)
		if (*p == '@')
			user_end = p;
	if (user_end != NULL)
		from = user_end + 1;
	if (*to == '[') {
		from = to + 1;
		to = from + strcspn(from, "]");
	}
	if (word != NULL && strcmp(word, "-l") == 0) {
		word = next_word(&at, end);
		if (word == NULL || user_end == NULL || !is_text(word, dest, (size_t)(user_end - dest)))
			return false;
		word = next_word(&at, end);
	}
	if (word == NULL || from == to || !is_text(word, from, (size_t)(to - from)))
		return false;
	word = next_word(&at, end);
	return word != NULL && word[0] != '-' && strcmp(word, program) == 0 && end[-1] == '\0';
}

/* ---- the worker ---- */

void rsync_rsh_init(struct rsync_rsh *r, struct loop *loop)
{
	*r = (struct rsync_rsh){ .loop = loop, .fd = -1, .theirs = -1, .program = -1, .pipes = { -1, -1, -1 } };
	r->shell = (struct proc){ 0, -1, -1, -1 };
	buf_init(&r->asked, ASKED_MAX + 64 * 1024);
}

static void shut(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
}

static void shut_pipes(struct rsync_rsh *r)
{
	for (int i = 0; i < 3; i++)
		shut(&r->pipes[i]);
}

static void hang_up(struct rsync_rsh *r)
{
	loop_fd_remove(r->source);
	r->source = NULL;
	shut(&r->fd);
}

void rsync_rsh_given(struct rsync_rsh *r)
{
	shut(&r->theirs);
	shut(&r->program);
}

void rsync_rsh_close(struct rsync_rsh *r)
{
	if (r->shell.pid > 0) {
		loop_child_forget(r->loop, r->shell.pid);
		(void)kill(-r->shell.pid, SIGKILL);
		(void)kill(r->shell.pid, SIGKILL); /* it may not have made its group yet */
	}
	r->shell.pid = 0;
	rsync_rsh_given(r);
	hang_up(r);
	shut_pipes(r);
	buf_done(&r->asked);
}

static void tell(struct rsync_rsh *r, int status)
{
	if (r->fd >= 0 && send(r->fd, &status, sizeof(status), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EPIPE &&
	    errno != ECONNRESET)
		log_warn("rsync is not told how its remote shell ended: %s", strerror(errno));
	hang_up(r);
}

static void on_shell(void *ctx, pid_t pid, int status)
{
	struct rsync_rsh *r = ctx;

	(void)pid;
	r->shell.pid = 0;
	tell(r, status);
}

/* ssh is told of -4 and -6 by rsync, which does not know it here. */
static bool add_inet(struct arglist *a, char inet)
{
	const char *name = a->n == 0 ? "" : a->v[0], *slash = strrchr(name, '/');

	if (inet == '\0' || strcmp(slash == NULL ? name : slash + 1, "ssh") != 0)
		return true;
	return arglist_printf(a, "-%c", inet);
}

static bool says_user(const struct arglist *a)
{
	for (size_t i = 0; i + 1 < a->n; i++)
		if (strcmp(a->v[i], "-l") == 0 && a->v[i + 1][0] != '-')
			return true;
	return false;
}

static int start_shell(struct rsync_rsh *r, const char *words, size_t len, struct err *err)
{
	static const char *const env[] = { "LC_ALL=C", NULL };
	struct proc_spec spec = { .env = env,
				  .cwd = r->cwd,
				  .own_group = true,
				  .in_fd = r->pipes[0],
				  .out_fd = r->pipes[1],
				  .err_fd = r->pipes[2] };
	const char *end = words + len;
	struct arglist a;
	int result = -1;

	if (!rsync_rsh_wanted(r->dest, r->program_there, words, len))
		return err_set(err, ERR_UNSAFE, "rsync asked for another command than one on %.200s", r->dest);
	if (rsync_split_words(&a, r->rsh)) {
		if (strcmp(words, "-l") == 0 && says_user(&a)) /* as rsync has it: the user of that command counts */
			words += strlen(words) + 1, words += strlen(words) + 1;
		(void)add_inet(&a, r->inet);
		while (words < end && arglist_add(&a, words))
			words += strlen(words) + 1;
	}
	spec.argv = (const char *const *)a.v;
	if (a.failed || a.n == 0)
		err_set(err, ERR_NOMEM, "out of memory for a remote shell");
	else if (proc_spawn(&r->shell, &spec, err) == 0)
		result = loop_child(r->loop, r->shell.pid, on_shell, r, err);
	else
		r->shell.pid = 0;
	arglist_done(&a);
	return result;
}

/* Its words go where rsync's go: they are what the administrator gets to read. */
static void refuse(struct rsync_rsh *r, const struct err *why)
{
	struct pollfd room = { .fd = r->pipes[2], .events = POLLOUT };

	log_debug(LOG_CAT_EXEC, "no remote shell: %s", why->text);
	if (room.fd >= 0 && poll(&room, 1, 0) == 1 && (room.revents & POLLOUT) != 0) /* of a pipe: for this much */
		(void)dprintf(room.fd, "%.1000s\n", why->text);
	shut_pipes(r);
	tell(r, EXIT_NO_SHELL << 8);
}

static void take_pipes(struct rsync_rsh *r, struct msghdr *m)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
		size_t n = c->cmsg_len < CMSG_LEN(0) ? 0 : (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		for (size_t i = 0; c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (i < 3 && r->pipes[i] < 0)
				r->pipes[i] = fd;
			else
				(void)close(fd);
		}
	}
}

/* 1: something came; 0: nothing now; -1: that was all. */
static int hear(struct rsync_rsh *r)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(3 * sizeof(int))];
	} control;
	char data[16384];
	struct iovec v = { data, sizeof(data) };
	struct msghdr m = {
		.msg_iov = &v, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	ssize_t n = recvmsg(r->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n > 0)
		take_pipes(r, &m);
	return n > 0 && r->asked.len <= ASKED_MAX && buf_add(&r->asked, data, (size_t)n) ? 1 : -1;
}

static void on_asked(void *ctx, int fd, unsigned events)
{
	struct rsync_rsh *r = ctx;
	struct err err = ERR_INIT;
	uint32_t len;
	int more = hear(r);

	(void)fd;
	(void)events;
	if (more == 0)
		return;
	if (more < 0 || r->shell.pid > 0) { /* nobody waits for an answer, or what should be silent is not */
		hang_up(r);
		return;
	}
	if (r->asked.len < sizeof(len))
		return;
	memcpy(&len, r->asked.data, sizeof(len));
	if (len > ASKED_MAX) {
		hang_up(r);
		return;
	}
	if (r->asked.len < sizeof(len) + len)
		return;
	if (r->pipes[0] < 0 || r->pipes[1] < 0 || r->pipes[2] < 0)
		err_set(&err, ERR_UNSAFE, "rsync's remote shell came without its pipes");
	else if (start_shell(r, r->asked.data + sizeof(len), len, &err) == 0)
		shut_pipes(r);
	if (err.class != ERR_NONE)
		refuse(r, &err);
	buf_done(&r->asked);
}

int rsync_rsh_open(struct rsync_rsh *r, const char *rsh, const char *dest, const char *program, const char *cwd,
		   struct err *err)
{
	int pair[2];

	r->rsh = rsh;
	r->dest = dest;
	r->program_there = program;
	r->cwd = cwd;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(err, errno, "socketpair");
	r->fd = pair[0];
	r->theirs = pair[1];
	r->program = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	if (r->program < 0)
		err_errno(err, errno, "/proc/self/exe");
	else
		r->source = loop_fd_add(r->loop, r->fd, LOOP_READ, on_asked, r, err);
	if (r->source != NULL)
		return 0;
	rsync_rsh_close(r);
	return -1;
}

/* ---- the program that rsync starts ---- */

static bool send_all(int fd, const char *data, size_t len, const int pipes[3])
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(3 * sizeof(int))];
	} control = { .space = { 0 } };

	while (len > 0) {
		struct iovec v = { (char *)(uintptr_t)data, len };
		struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
		ssize_t n;

		if (pipes != NULL) {
			m.msg_control = &control;
			m.msg_controllen = sizeof(control);
			*CMSG_FIRSTHDR(&m) = (struct cmsghdr){ .cmsg_len = CMSG_LEN(3 * sizeof(int)),
							       .cmsg_level = SOL_SOCKET,
							       .cmsg_type = SCM_RIGHTS };
			memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), pipes, 3 * sizeof(int));
		}
		n = sendmsg(fd, &m, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		pipes = NULL;
		data += n;
		len -= (size_t)n;
	}
	return true;
}

static bool ask(int fd, int argc, char **argv)
{
	static const int pipes[3] = { 0, 1, 2 };
	struct buf all;
	uint32_t len = 0;
	bool ok;

	buf_init(&all, ASKED_MAX + sizeof(len));
	(void)buf_add(&all, &len, sizeof(len));
	for (int i = 0; i < argc; i++)
		(void)buf_add(&all, argv[i], strlen(argv[i]) + 1);
	len = (uint32_t)(all.len - sizeof(len));
	if (!all.failed)
		memcpy(all.data, &len, sizeof(len));
	ok = !all.failed && send_all(fd, all.data, all.len, pipes);
	buf_done(&all);
	return ok;
}

int rsync_rsh_main(int argc, char **argv)
{
	int status = 0;
	ssize_t n = -1;

	if (ask(RSYNC_RSH_FD, argc, argv)) {
		(void)close(0); /* now the shell's: who reads there is to see its end */
		(void)close(1);
		do
			n = recv(RSYNC_RSH_FD, &status, sizeof(status), MSG_WAITALL);
		while (n < 0 && errno == EINTR);
	}
	if (n != (ssize_t)sizeof(status)) {
		(void)fprintf(stderr, "fansyncd: no remote shell: the worker does not answer\n");
		return EXIT_NO_SHELL;
	}
	if (WIFSIGNALED(status)) {
		(void)signal(WTERMSIG(status), SIG_DFL);
		(void)raise(WTERMSIG(status));
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_NO_SHELL;
}
