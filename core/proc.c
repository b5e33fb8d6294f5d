#include "core/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
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
#include <sys/resource.h>
#include <sys/syscall.h>
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

/* Child side: from here to exec only async-signal-safe calls, and setenv and strerror (we are single-threaded). */

/* Where it is told that the program could not be started: the errno to a parent that waits for it, or words. */
struct child_report {
	int fd;
	const char *words_for; /* NULL: the errno */
};

static void child_fail(const struct child_report *report)
{
	int code = errno;
	ssize_t ignored = 0;

	if (report->words_for == NULL)
		ignored = write(report->fd, &code, sizeof(code));
	else
		(void)dprintf(report->fd, "can't start %s: %s\n", report->words_for, strerror(code));
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
static int child_lift(int fd, const struct child_report *report)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, PASSED_MAX);

	if (high < 0)
		child_fail(report);
	return high;
}

/* None is left, and none comes back by exec but to root and to a program with some of its own. */
static int child_no_capabilities(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	const struct __user_cap_data_struct none[2] = { { 0 }, { 0 } };

	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); /* the empty sets do the same */
	return (int)syscall(SYS_capset, &head, none);
}

/* As root. Without CAP_SETPCAP exec would give it back from the bounding set, but for no_new_privs. */
static int child_no_sys_admin(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];
	const unsigned bit = 1u << CAP_SYS_ADMIN;

	if (prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0) < 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	if (syscall(SYS_capget, &head, data) < 0)
		return -1;
	data[0].effective &= ~bit;
	data[0].permitted &= ~bit;
	data[0].inheritable &= ~bit;
	return (int)syscall(SYS_capset, &head, data);
}

static void child_reduce(const struct child_report *report)
{
	if ((geteuid() == 0 ? child_no_sys_admin() : child_no_capabilities()) < 0)
		child_fail(report);
}

/* HOME and the like are the account's too. What an ordinary account may do does not include what we may. */
static void child_become(const struct proc_user *u, const struct child_report *report)
{
	if (getuid() != u->uid || geteuid() != u->uid || getgid() != u->gid || geteuid() == 0) {
		if (setgroups(u->n_groups, u->groups) < 0 || setresgid(u->gid, u->gid, u->gid) < 0 ||
		    setresuid(u->uid, u->uid, u->uid) < 0 || (u->uid != 0 && child_no_capabilities() < 0))
			child_fail(report);
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* forgotten with the identity */
	}
	if (setenv("HOME", u->home, 1) != 0 || setenv("USER", u->name, 1) != 0 || setenv("LOGNAME", u->name, 1) != 0)
		child_fail(report);
}

/* Its descriptors, and no others when it is executed. */
static void child_descriptors(const struct proc_spec *spec, int fds[3][2], const struct child_report *report)
{
	const int given[3] = { spec->in_fd, spec->out_fd, spec->err_fd };
	int source[PASSED_MAX], passed = spec->pass_fd > 0 ? FIRST_MORE : FIRST_MORE - 1;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		child_fail(report);
	for (int i = 0; i < 3; i++)
		source[i] = child_lift(given[i] > 0		? given[i]
				       : fds[i][END_CHILD] >= 0 ? fds[i][END_CHILD]
								: null,
				       report);
	if (spec->pass_fd > 0)
		source[3] = child_lift(spec->pass_fd, report);
	for (size_t i = 0; spec->pass_fd > 0 && i < spec->n_more_fds && i < PROC_MORE_FDS; i++)
		source[passed++] = child_lift(spec->more_fds[i], report);
	for (int i = 0; i < passed; i++)
		if (dup2(source[i], i) < 0)
			child_fail(report);
	/* What somebody opened without O_CLOEXEC, or we were started with, stays here. ENOSYS: as well as before. */
	(void)close_range((unsigned)passed, ~0u, CLOSE_RANGE_CLOEXEC);
}

static void child_run(const struct proc_spec *spec, pid_t parent, int fds[3][2], int report_fd)
{
	struct child_report report = { report_fd, spec->detached ? spec->argv[0] : NULL };
	int domain = -1;

	child_signals();
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent) /* it died before we asked to be told */
		_exit(127);
	if (spec->own_group)
		(void)setpgid(0, 0);
	report.fd = child_lift(report_fd, &report);
	if (spec->domain > 0)
		domain = child_lift(spec->domain, &report);
	child_descriptors(spec, fds, &report);
	if (spec->user != NULL)
		child_become(spec->user, &report);
	if (spec->reduced)
		child_reduce(&report);
	if (spec->cwd != NULL && chdir(spec->cwd) < 0)
		child_fail(&report);
	for (size_t i = 0; spec->env != NULL && spec->env[i] != NULL; i++)
		if (putenv((char *)(uintptr_t)spec->env[i]) != 0)
			child_fail(&report);
	if (domain >= 0 &&
	    (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || syscall(SYS_landlock_restrict_self, domain, 0) < 0))
		child_fail(&report);
	(void)execvp(spec->argv[0], (char *const *)(uintptr_t)spec->argv);
	child_fail(&report);
}

/* Wait until it is executed, or has said why not: 0, or the errno. */
static int await_exec(pid_t pid, int report)
{
	int code = 0;
	ssize_t n;

	do
		n = read(report, &code, sizeof(code));
	while (n < 0 && errno == EINTR);
	if (n == 0)
		return 0;
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) /* the errno came instead of end-of-file */
		;
	return n == (ssize_t)sizeof(code) ? code : EIO;
}

int proc_spawn(struct proc *p, const struct proc_spec *spec, struct err *err)
{
	int fds[3][2] = { { -1, -1 }, { -1, -1 }, { -1, -1 } };
	const bool want[3] = { spec->pipe_in, spec->pipe_out, spec->pipe_err };
	int report[2] = { -1, -1 };
	pid_t pid, parent = getpid();
	int code;

	for (int i = 0; i < 3; i++)
		if (want[i] && make_pipe(fds[i], i == 0, err) < 0)
			goto fail;
	if (!spec->detached && pipe2(report, O_CLOEXEC) < 0) {
		err_errno(err, errno, "pipe2");
		goto fail;
	}
	pid = fork();
	if (pid < 0) {
		err_errno(err, errno, "fork for %s", spec->argv[0]);
		goto fail;
	}
	if (pid == 0)
		child_run(spec, parent, fds, spec->detached ? fds[2][END_CHILD] : report[1]);
	if (report[1] >= 0)
		(void)close(report[1]);
	report[1] = -1;
	for (int i = 0; i < 3; i++) {
		if (fds[i][END_CHILD] >= 0)
			(void)close(fds[i][END_CHILD]);
		fds[i][END_CHILD] = -1;
	}
	code = spec->detached ? 0 : await_exec(pid, report[0]);
	if (code != 0) {
		err_errno(err, code, "can't start %s", spec->argv[0]);
		goto fail;
	}
	if (report[0] >= 0)
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

/* ---- limits ---- */

void proc_allow_files(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) < 0 || l.rlim_cur >= PROC_FILES || l.rlim_cur >= l.rlim_max)
		return;
	l.rlim_cur = l.rlim_max < PROC_FILES ? l.rlim_max : PROC_FILES;
	(void)setrlimit(RLIMIT_NOFILE, &l); /* else it stays, and what does not fit is told when it is missed */
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
