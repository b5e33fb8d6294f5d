/* What the serving process may still do: read and write what it has open, accept, and end. */
#include <errno.h>
#include <linux/landlock.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/privileges.h"
#include "core/web_private.h"

/* Connections, the daemon's socket, the loop's descriptors, and a few to spare. */
#define DESCRIPTORS_MAX (WEB_CONNECTIONS_MAX + 64u)

/* All that it does; everything else is refused. */
static const int allowed[] = {
	SCMP_SYS(read),
	SCMP_SYS(readv),
	SCMP_SYS(write),
	SCMP_SYS(writev),
	SCMP_SYS(recvfrom),
	SCMP_SYS(recvmsg),
	SCMP_SYS(sendto),
	SCMP_SYS(sendmsg),
	SCMP_SYS(recv),
	SCMP_SYS(send),
	SCMP_SYS(accept4),
	SCMP_SYS(accept),
	SCMP_SYS(shutdown),
	SCMP_SYS(close),
	SCMP_SYS(getsockopt),
	SCMP_SYS(setsockopt),
	SCMP_SYS(getsockname),
	SCMP_SYS(getpeername),
	SCMP_SYS(fcntl),
	SCMP_SYS(fcntl64),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait),
	SCMP_SYS(epoll_pwait2),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(ppoll_time64),
	SCMP_SYS(timerfd_settime),
	SCMP_SYS(brk),
	SCMP_SYS(mmap),
	SCMP_SYS(mmap2),
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(mprotect),
	SCMP_SYS(futex),
	SCMP_SYS(futex_time64),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(clock_gettime64),
	SCMP_SYS(time),
	SCMP_SYS(getrandom),
	SCMP_SYS(getpid),
	SCMP_SYS(gettid),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sigaltstack),
	SCMP_SYS(tgkill),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(timerfd_settime64),
	SCMP_SYS(sigreturn),
};

static int allow_only(struct err *err)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int result = 0;

	if (ctx == NULL)
		return err_set(err, ERR_NOMEM, "out of memory for a seccomp filter");
	for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]) && result == 0; i++) {
		result = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[i], 0);
		if (result == -EDOM || result == -EINVAL) /* not on this architecture */
			result = 0;
	}
	if (result == 0)
		result = seccomp_load(ctx);
	seccomp_release(ctx);
	if (result == -EINVAL || result == -ENOSYS)
		return 0; /* a kernel without it */
	return result == 0 ? 0 : err_errno(err, -result, "seccomp");
}

/* No file at all, whatever the system calls above may be made to do. */
static int lock_files(struct err *err)
{
	struct landlock_ruleset_attr attr = { .handled_access_fs = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1 };
	int ruleset, result = 0;

	if (syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) < 1)
		return 0;
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (ruleset < 0)
		return err_errno(err, errno, "landlock_create_ruleset");
	if (syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		result = err_errno(err, errno, "landlock_restrict_self");
	(void)close(ruleset);
	return result;
}

int web_confine(struct err *err)
{
	const struct rlimit none = { 0, 0 }, few = { DESCRIPTORS_MAX, DESCRIPTORS_MAX };

	if (privileges_keep(&(struct privileges){ .kept = NULL }, err) < 0)
		return -1;
	if (setrlimit(RLIMIT_CORE, &none) < 0 || setrlimit(RLIMIT_NPROC, &none) < 0 ||
	    setrlimit(RLIMIT_NOFILE, &few) < 0 || (geteuid() == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0))
		return err_errno(err, errno, "the process that serves can't be limited");
	return lock_files(err) < 0 || allow_only(err) < 0 ? -1 : 0;
}
