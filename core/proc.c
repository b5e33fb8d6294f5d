#include "core/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <pwd.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { END_CHILD = 0, END_PARENT = 1 };

static void close_pair(int fds[2])
{
	for (int i = 0; i < 2; i++) {
		if (fds[i] >= 0)
			(void)close(fds[i]);
		fds[i] = -1;
	}
}

/* fds[END_CHILD] for the child, fds[END_PARENT] for us. */
static int make_pipe(int fds[2], bool child_reads, struct err *err)
{
	int raw[2];

	if (pipe2(raw, O_CLOEXEC) < 0)
		return err_errno(err, errno, "pipe2");
	fds[END_CHILD] = child_reads ? raw[0] : raw[1];
	fds[END_PARENT] = child_reads ? raw[1] : raw[0];
	if (fcntl(fds[END_PARENT], F_SETFL, O_NONBLOCK) < 0) {
		close_pair(fds);
		return err_errno(err, errno, "fcntl O_NONBLOCK");
	}
	return 0;
}

/* Child side: from here to exec only async-signal-safe calls, and setenv (we are single-threaded). */
static void child_fail(int report)
{
	int code = errno;
	ssize_t ignored = write(report, &code, sizeof(code));

	(void)ignored;
	_exit(127);
}

static void child_signals(void)
{
	sigset_t none;

	for (int signo = 1; signo < NSIG; signo++)
		(void)signal(signo, SIG_DFL); /* fails for KILL and STOP: they are default anyway */
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

enum { FIRST_MORE = 4, PASSED_MAX = FIRST_MORE + PROC_MORE_FDS };

/* Move fd to a number above all that are passed, so that the dup2 calls to those can't overwrite one still needed. */
static int child_lift(int fd, int report)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, PASSED_MAX);

	if (high < 0)
		child_fail(report);
	return high;
}

/* HOME and the like are the account's too. */
static void child_become(const struct proc_user *u, int report)
{
	if (getuid() != u->uid || geteuid() != u->uid || getgid() != u->gid || geteuid() == 0) {
		if (setgroups(u->n_groups, u->groups) < 0 || setresgid(u->gid, u->gid, u->gid) < 0 ||
		    setresuid(u->uid, u->uid, u->uid) < 0)
			child_fail(report);
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* forgotten with the identity */
	}
	if (setenv("HOME", u->home, 1) != 0 || setenv("USER", u->name, 1) != 0 || setenv("LOGNAME", u->name, 1) != 0)
		child_fail(report);
}

static void child_run(const struct proc_spec *spec, pid_t parent, int fds[3][2], int report)
{
	int source[PASSED_MAX], passed = spec->pass_fd > 0 ? FIRST_MORE : FIRST_MORE - 1, null;

	child_signals();
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent) /* it died before we asked to be told */
		_exit(127);
	if (spec->own_group)
		(void)setpgid(0, 0);
	report = child_lift(report, report);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0)
		child_fail(report);
	for (int i = 0; i < 3; i++)
		source[i] = child_lift(fds[i][END_CHILD] >= 0 ? fds[i][END_CHILD] : null, report);
	if (spec->in_fd > 0)
		source[0] = child_lift(spec->in_fd, report);
	if (spec->pass_fd > 0)
		source[3] = child_lift(spec->pass_fd, report);
	for (size_t i = 0; spec->pass_fd > 0 && i < spec->n_more_fds && i < PROC_MORE_FDS; i++)
		source[passed++] = child_lift(spec->more_fds[i], report);
	for (int i = 0; i < passed; i++)
		if (dup2(source[i], i) < 0)
			child_fail(report);
	/* What somebody opened without O_CLOEXEC, or we were started with, stays here. ENOSYS: as well as before. */
	(void)close_range((unsigned)passed, ~0u, CLOSE_RANGE_CLOEXEC);
	if (spec->user != NULL)
		child_become(spec->user, report);
	if (spec->cwd != NULL && chdir(spec->cwd) < 0)
		child_fail(report);
	for (size_t i = 0; spec->env != NULL && spec->env[i] != NULL; i++)
		if (putenv((char *)(uintptr_t)spec->env[i]) != 0)
			child_fail(report);
	(void)execvp(spec->argv[0], (char *const *)(uintptr_t)spec->argv);
	child_fail(report);
}

int proc_spawn(struct proc *p, const struct proc_spec *spec, struct err *err)
{
	int fds[3][2] = { { -1, -1 }, { -1, -1 }, { -1, -1 } };
	const bool want[3] = { spec->pipe_in, spec->pipe_out, spec->pipe_err };
	int report[2] = { -1, -1 };
	pid_t pid, parent = getpid();
	int code = 0;
	ssize_t n;

	for (int i = 0; i < 3; i++)
		if (want[i] && make_pipe(fds[i], i == 0, err) < 0)
			goto fail;
	if (pipe2(report, O_CLOEXEC) < 0) {
		err_errno(err, errno, "pipe2");
		goto fail;
	}
	pid = fork();
	if (pid < 0) {
		err_errno(err, errno, "fork for %s", spec->argv[0]);
		goto fail;
	}
	if (pid == 0)
		child_run(spec, parent, fds, report[1]);
	(void)close(report[1]);
	report[1] = -1;
	for (int i = 0; i < 3; i++) {
		if (fds[i][END_CHILD] >= 0)
			(void)close(fds[i][END_CHILD]);
		fds[i][END_CHILD] = -1;
	}
	do
		n = read(report[0], &code, sizeof(code));
	while (n < 0 && errno == EINTR);
	if (n != 0) { /* exec failed: the errno came instead of end-of-file */
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		err_errno(err, n == (ssize_t)sizeof(code) ? code : EIO, "can't start %s", spec->argv[0]);
		goto fail;
	}
	(void)close(report[0]);
	*p = (struct proc){ pid, fds[0][END_PARENT], fds[1][END_PARENT], fds[2][END_PARENT] };
	return 0;
fail:
	for (int i = 0; i < 3; i++)
		close_pair(fds[i]);
	close_pair(report);
	return -1;
}

void proc_close(struct proc *p)
{
	int *fds[3] = { &p->in, &p->out, &p->err };

	for (int i = 0; i < 3; i++) {
		if (*fds[i] >= 0)
			(void)close(*fds[i]);
		*fds[i] = -1;
	}
}

void proc_status_text(int status, char *out, size_t size)
{
	if (WIFEXITED(status))
		(void)snprintf(out, size, "exit %d", WEXITSTATUS(status));
	else if (WIFSIGNALED(status))
		(void)snprintf(out, size, "killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
	else
		(void)snprintf(out, size, "status 0x%x", (unsigned)status);
}

/* ---- accounts ---- */

#define GROUPS_MAX 65536

static int find_groups(struct proc_user *u, struct err *err)
{
	int n = 64;

	for (;;) {
		gid_t *groups = realloc(u->groups, (size_t)n * sizeof(*groups));
		int had = n;

		if (groups == NULL)
			return err_set(err, ERR_NOMEM, "out of memory");
		u->groups = groups;
		if (getgrouplist(u->name, u->gid, groups, &n) >= 0) {
			u->n_groups = (size_t)n;
			return 0;
		}
		n = n > had ? n : 2 * had;
		if (n > GROUPS_MAX)
			return err_set(err, ERR_LIMIT, "the account %s is in too many groups", u->name);
	}
}

int proc_user_find(struct proc_user *u, const char *name, struct err *err)
{
	char text[16384];
	struct passwd pw, *found = NULL;
	int code = getpwnam_r(name, &pw, text, sizeof(text), &found);

	*u = (struct proc_user){ 0 };
	if (found == NULL)
		return code != 0 ? err_errno(err, code, "the account %s", name)
				 : err_set(err, ERR_CONFIG, "there is no account %s", name);
	u->uid = pw.pw_uid;
	u->gid = pw.pw_gid;
	u->name = strdup(name);
	u->home = strdup(pw.pw_dir);
	if (u->name == NULL || u->home == NULL || find_groups(u, err) < 0) {
		proc_user_done(u);
		return err_set(err, ERR_NOMEM, "out of memory for the account %s", name);
	}
	return 0;
}

void proc_user_done(struct proc_user *u)
{
	free(u->groups);
	free(u->name);
	free(u->home);
	*u = (struct proc_user){ 0 };
}

/* ---- memory ---- */

void proc_return_memory(void)
{
#ifdef __GLIBC__
	/* Either of them ends its own adjustments. */
	(void)mallopt(M_MMAP_THRESHOLD, 1024 * 1024);
	(void)mallopt(M_TRIM_THRESHOLD, 2 * 1024 * 1024);
#endif
}
