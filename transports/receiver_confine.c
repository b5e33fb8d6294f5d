#include "transports/receiver_confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/privileges.h"

/* The headers of an older kernel lack these. */
#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (1ULL << 13)
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif

/* Owners, modes and set-id bits, devices, files of any owner, and security.capability. */
static const unsigned kept[] = { CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_MKNOD, CAP_SETFCAP };

/* ---- landlock ---- */

/* Before its second version a rename between directories was never allowed. */
#define LANDLOCK_MIN 2
#define LANDLOCK_FILE (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE)

static uint64_t rights(long version)
{
	uint64_t all = LANDLOCK_FILE | LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_DIR |
		       LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR |
		       LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK |
		       LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM |
		       LANDLOCK_ACCESS_FS_REFER;

	return version >= 3 ? all | LANDLOCK_ACCESS_FS_TRUNCATE : all;
}

static int allow(int ruleset, int dir, uint64_t what, struct err *err)
{
	struct landlock_path_beneath_attr rule = { .allowed_access = what, .parent_fd = dir };

	if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
		return err_errno(err, errno, "landlock_add_rule");
	return 0;
}

/* Extended attributes are set through /proc/self/fd. */
static int allow_proc(int ruleset, struct err *err)
{
	int fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC), result;

	if (fd < 0)
		return 0;
	result = allow(ruleset, fd, LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR, err);
	(void)close(fd);
	return result;
}

static int lock_files(const int *dirs, size_t n, bool *done, struct err *err)
{
	long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	struct landlock_ruleset_attr attr = { .handled_access_fs = rights(version) };
	int ruleset, result;

	if (version < LANDLOCK_MIN)
		return 0;
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (ruleset < 0)
		return err_errno(err, errno, "landlock_create_ruleset");
	result = allow_proc(ruleset, err);
	for (size_t i = 0; i < n && result == 0; i++)
		if (dirs[i] >= 0)
			result = allow(ruleset, dirs[i], rights(version) & ~(uint64_t)LANDLOCK_ACCESS_FS_EXECUTE, err);
	if (result == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		result = err_errno(err, errno, "landlock_restrict_self");
	(void)close(ruleset);
	*done = result == 0;
	return result;
}

/* ---- seccomp ---- */

/* What no session has a use for, and what a hijacked one would look for first. */
static const int forbidden[] = {
	SCMP_SYS(execve),
	SCMP_SYS(execveat),
	SCMP_SYS(fork),
	SCMP_SYS(vfork),
	SCMP_SYS(clone),
	SCMP_SYS(clone3),
	SCMP_SYS(socket),
	SCMP_SYS(socketpair),
	SCMP_SYS(connect),
	SCMP_SYS(bind),
	SCMP_SYS(listen),
	SCMP_SYS(accept),
	SCMP_SYS(accept4),
	SCMP_SYS(ptrace),
	SCMP_SYS(process_vm_readv),
	SCMP_SYS(process_vm_writev),
	SCMP_SYS(pidfd_getfd),
	SCMP_SYS(kcmp),
	SCMP_SYS(mount),
	SCMP_SYS(umount2),
	SCMP_SYS(open_tree),
	SCMP_SYS(move_mount),
	SCMP_SYS(fsopen),
	SCMP_SYS(fsconfig),
	SCMP_SYS(fsmount),
	SCMP_SYS(fspick),
	SCMP_SYS(mount_setattr),
	SCMP_SYS(pivot_root),
	SCMP_SYS(chroot),
	SCMP_SYS(setns),
	SCMP_SYS(unshare),
	SCMP_SYS(open_by_handle_at),
	SCMP_SYS(bpf),
	SCMP_SYS(perf_event_open),
	SCMP_SYS(io_uring_setup),
	SCMP_SYS(io_uring_enter),
	SCMP_SYS(userfaultfd),
	SCMP_SYS(keyctl),
	SCMP_SYS(add_key),
	SCMP_SYS(request_key),
	SCMP_SYS(init_module),
	SCMP_SYS(finit_module),
	SCMP_SYS(delete_module),
	SCMP_SYS(kexec_load),
	SCMP_SYS(kexec_file_load),
	SCMP_SYS(reboot),
	SCMP_SYS(swapon),
	SCMP_SYS(swapoff),
	SCMP_SYS(settimeofday),
	SCMP_SYS(clock_settime),
	SCMP_SYS(adjtimex),
	SCMP_SYS(clock_adjtime),
	SCMP_SYS(sethostname),
	SCMP_SYS(setdomainname),
	SCMP_SYS(acct),
	SCMP_SYS(quotactl),
	SCMP_SYS(syslog),
	SCMP_SYS(personality),
	SCMP_SYS(setuid),
	SCMP_SYS(setgid),
	SCMP_SYS(setresuid),
	SCMP_SYS(setresgid),
	SCMP_SYS(setgroups),
	SCMP_SYS(fanotify_init),
	SCMP_SYS(fanotify_mark),
	SCMP_SYS(kill),
	SCMP_SYS(tkill),
	SCMP_SYS(shmget),
	SCMP_SYS(msgget),
	SCMP_SYS(semget),
};

static int forbid(bool *done, struct err *err)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
	int result = 0;

	if (ctx == NULL)
		return err_set(err, ERR_NOMEM, "out of memory for a seccomp filter");
	for (size_t i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]) && result == 0; i++) {
		result = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), forbidden[i], 0);
		if (result == -EDOM) /* not on this architecture */
			result = 0;
	}
	if (result == 0)
		result = seccomp_load(ctx);
	seccomp_release(ctx);
	*done = result == 0;
	if (result == -EINVAL || result == -ENOSYS)
		return 0; /* a kernel without it */
	return result == 0 ? 0 : err_errno(err, -result, "seccomp");
}

int receiver_confine(const int *dirs, size_t n, struct confinement *out, struct err *err)
{
	const struct rlimit none = { 0, 0 };
	const struct privileges own = { .kept = kept, .n_kept = sizeof(kept) / sizeof(kept[0]) };

	memset(out, 0, sizeof(*out));
	if (privileges_keep(&own, err) < 0)
		return -1;
	out->capabilities = true;
	/* No core with keys in it; and nobody attaches a debugger (an ordinary user's process needs its /proc, though).
	 */
	if (setrlimit(RLIMIT_CORE, &none) < 0 || (geteuid() == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0))
		return err_errno(err, errno, "core dumps can't be switched off");
	return lock_files(dirs, n, &out->landlock, err) < 0 || forbid(&out->seccomp, err) < 0 ? -1 : 0;
}
