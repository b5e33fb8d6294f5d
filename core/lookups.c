#include "core/lookups.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/privileges.h"

/* ---- the server ---- */

union control {
	char bytes[CMSG_SPACE(sizeof(int))];
	struct cmsghdr align;
};

/* The question, and where its answer goes; *out -1: that was none. 0: nobody is there to ask any more. */
static ssize_t take(int at, char *question, int *out)
{
	struct iovec text = { question, LOOKUPS_QUESTION_MAX };
	union control c;
	struct msghdr m = {
		.msg_iov = &text, .msg_iovlen = 1, .msg_control = c.bytes, .msg_controllen = sizeof(c.bytes)
	};
	const struct cmsghdr *head;
	ssize_t n;

	do
		n = recvmsg(at, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	head = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
	*out = -1;
	if (head != NULL && head->cmsg_type == SCM_RIGHTS && head->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(out, CMSG_DATA(head), sizeof(*out));
	return n;
}

static void begin_child(int at, lookups_fn *answer, unsigned seconds, const char *question, size_t len, int out)
{
	const pid_t parent = getpid();

	if (fork() != 0)
		return;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (getppid() != parent)
		_exit(1);
	(void)signal(SIGCHLD, SIG_DFL);
	(void)alarm(seconds);
	(void)close(at);
	answer(question, len, out);
	_exit(0);
}

static _Noreturn void serve(int at, lookups_fn *answer, unsigned seconds)
{
	char question[LOOKUPS_QUESTION_MAX];

	for (;;) {
		int out;
		ssize_t n = take(at, question, &out);

		if (n <= 0)
			_exit(0);
		if (out < 0)
			continue;
		begin_child(at, answer, seconds, question, (size_t)n, out);
		(void)close(out);
	}
}

/* Nothing of its parent's stays with it. */
static _Noreturn void server(int at, lookups_fn *answer, unsigned seconds, pid_t parent)
{
	const struct privileges none = { .kept = NULL };
	const struct rlimit no_core = { 0, 0 };
	sigset_t signals;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (getppid() != parent)
		_exit(1);
	(void)prctl(PR_SET_NAME, "fansyncd:lookup", 0, 0, 0);
	for (int signo = 1; signo < NSIG; signo++)
		(void)signal(signo, SIG_DFL);
	(void)signal(SIGCHLD, SIG_IGN); /* nobody waits for the children */
	(void)sigemptyset(&signals);
	(void)sigprocmask(SIG_SETMASK, &signals, NULL);
	(void)setrlimit(RLIMIT_CORE, &no_core);
	if (at != 3 && dup3(at, 3, O_CLOEXEC) < 0)
		_exit(1);
	(void)close_range(4, ~0u, 0);
	if (privileges_keep(&none, NULL) < 0)
		_exit(1);
	serve(3, answer, seconds);
}

int lookups_start(lookups_fn *answer, unsigned seconds, struct err *err)
{
	const pid_t parent = getpid();
	int ends[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return err_errno(err, errno, "socketpair");
	pid = fork();
	if (pid == 0)
		server(ends[1], answer, seconds, parent);
	(void)close(ends[1]);
	if (pid > 0)
		return ends[0];
	(void)close(ends[0]);
	return err_errno(err, errno, "fork");
}

/* ---- who asks ---- */

int lookups_ask(int server, const void *question, size_t len, struct err *err)
{
	struct iovec text = { (void *)(uintptr_t)question, len };
	union control c;
	struct msghdr m = {
		.msg_iov = &text, .msg_iovlen = 1, .msg_control = c.bytes, .msg_controllen = sizeof(c.bytes)
	};
	struct cmsghdr *head;
	int ends[2];
	ssize_t n;

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_errno(err, errno, "pipe");
	memset(&c, 0, sizeof(c));
	head = CMSG_FIRSTHDR(&m);
	if (head != NULL) { /* there is room for one */
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(head), &ends[1], sizeof(int));
	}
	do
		n = sendmsg(server, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	(void)close(ends[1]);
	if (n == (ssize_t)len)
		return ends[0];
	(void)close(ends[0]);
	return err_errno(err, n < 0 ? errno : EMSGSIZE, "the process for look-ups can't be asked");
}
