#include "core/owners.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/lookups.h"
#include "core/privileges.h"

/* Of an entry: a group has all its members in it. */
#define ENTRY_MAX ((size_t)16 << 20)

/* ---- the child ---- */

/* An errno, or 0. */
static int find_user(const struct owner_question *q, char *text, size_t size, struct owner_answer *out)
{
	struct passwd entry, *found = NULL;
	int code = q->name[0] == '\0' ? getpwuid_r(q->id, &entry, text, size, &found)
				      : getpwnam_r(q->name, &entry, text, size, &found);

	if (found == NULL)
		return code;
	out->result = OWNER_FOUND;
	out->id = entry.pw_uid;
	(void)snprintf(out->name, sizeof(out->name), "%s", entry.pw_name);
	return 0;
}

static int find_group(const struct owner_question *q, char *text, size_t size, struct owner_answer *out)
{
	struct group entry, *found = NULL;
	int code = q->name[0] == '\0' ? getgrgid_r(q->id, &entry, text, size, &found)
				      : getgrnam_r(q->name, &entry, text, size, &found);

	if (found == NULL)
		return code;
	out->result = OWNER_FOUND;
	out->id = entry.gr_gid;
	(void)snprintf(out->name, sizeof(out->name), "%s", entry.gr_name);
	return 0;
}

static void find(const struct owner_question *q, struct owner_answer *out)
{
	int code = ERANGE;

	for (size_t size = 4096; code == ERANGE && size <= ENTRY_MAX; size *= 4) {
		char *text = malloc(size);

		if (text == NULL)
			return;
		code = q->kind == OWNER_USER ? find_user(q, text, size, out) : find_group(q, text, size, out);
		free(text);
	}
	/* What "not found" is, the libraries do not agree on. */
	if (out->result != OWNER_FOUND &&
	    (code == 0 || code == ENOENT || code == ESRCH || code == EBADF || code == EPERM))
		out->result = OWNER_UNKNOWN;
}

void owner_answer(const void *question, size_t len, int out)
{
	struct owner_question q;
	struct owner_answer a;

	if (len != sizeof(q) + 1)
		return;
	memcpy(&q, (const char *)question + 1, sizeof(q));
	q.name[sizeof(q.name) - 1] = '\0';
	memset(&a, 0, sizeof(a));
	a.result = OWNER_FAILED;
	find(&q, &a);
	_exit(write(out, &a, sizeof(a)) == (ssize_t)sizeof(a) ? 0 : 1);
}

static _Noreturn void child(const struct owner_question *q, int out)
{
	const struct privileges none = { .kept = NULL };
	struct owner_answer a;
	sigset_t signals;

	memset(&a, 0, sizeof(a));
	a.result = OWNER_FAILED;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	(void)signal(SIGALRM, SIG_DFL);
	(void)signal(SIGTERM, SIG_DFL);
	(void)sigemptyset(&signals);
	(void)sigprocmask(SIG_SETMASK, &signals, NULL);
	(void)alarm(OWNER_SECONDS);
	if (out != 3 && dup2(out, 3) < 0)
		_exit(1);
	(void)close_range(4, ~0u, 0);
	if (privileges_keep(&none, NULL) == 0)
		find(q, &a);
	_exit(write(3, &a, sizeof(a)) == (ssize_t)sizeof(a) ? 0 : 1);
}

int owner_ask(const struct owner_question *q, pid_t *pid, struct err *err)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_errno(err, errno, "pipe");
	*pid = fork();
	if (*pid == 0)
		child(q, ends[1]);
	(void)close(ends[1]);
	if (*pid > 0)
		return ends[0];
	(void)close(ends[0]);
	return err_errno(err, errno, "fork");
}

/* An answer is written at once. */
static bool read_answer(int fd, struct owner_answer *out)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int got;

	do
		got = poll(&p, 1, (int)OWNER_SECONDS * 1000);
	while (got < 0 && errno == EINTR);
	return got > 0 && read(fd, out, sizeof(*out)) == (ssize_t)sizeof(*out);
}

static int ask_server(int lookups, const struct owner_question *q, struct err *err)
{
	char text[1 + sizeof(*q)];

	text[0] = OWNER_KIND;
	memcpy(text + 1, q, sizeof(*q));
	return lookups_ask(lookups, text, sizeof(text), err);
}

void owner_look_up(int lookups, const struct owner_question *q, struct owner_answer *out)
{
	struct err err = ERR_INIT;
	pid_t pid = 0;
	int fd = lookups > 0 ? ask_server(lookups, q, &err) : owner_ask(q, &pid, &err);

	if (fd < 0 || !read_answer(fd, out)) {
		memset(out, 0, sizeof(*out));
		out->result = OWNER_FAILED;
	}
	if (fd >= 0)
		(void)close(fd);
	if (fd < 0 || pid <= 0)
		return;
	(void)kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}
